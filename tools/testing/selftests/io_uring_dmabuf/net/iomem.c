// SPDX-License-Identifier: GPL-2.0
/*
 * Copies (IO_REGBUF_DMABUF_COPY_OK) of memory in a device, which its exporter maps
 * as I/O memory. No card is needed.
 */
#include <arpa/inet.h>
#include <linux/dma-buf-bar.h>

#include "common.h"
#include "netio.h"

#define SIZE		(1 * MiB)
#define SEED		NET_SEED
#define POS		4321
#define MAX_PIECES	100
#define FAIL_ERRNO	"/sys/kernel/debug/dma_buf_bar/fail_map_errno"
#define FAIL_COUNT	"/sys/kernel/debug/dma_buf_bar/fail_map_count"

enum kind { TCP, UDP, LOCAL };

FIXTURE(iomem) {
	struct netrig net;
	struct net_pair pair;
	struct mem mem;
	__u64 rng;
};

FIXTURE_VARIANT(iomem) {
	enum kind kind;
};

FIXTURE_VARIANT_ADD(iomem, to_tcp) { .kind = TCP };
FIXTURE_VARIANT_ADD(iomem, to_udp) { .kind = UDP };
FIXTURE_VARIANT_ADD(iomem, to_unix) { .kind = LOCAL };

static int udp_pair(struct net_pair *p)
{
	struct sockaddr_in sin = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(sin);

	p->rx = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	p->tx = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (bind(p->rx, (void *)&sin, sizeof(sin)) ||
	    getsockname(p->rx, (void *)&sin, &len) ||
	    connect(p->tx, (void *)&sin, sizeof(sin)))
		return -errno;
	net_timeouts(p->tx);
	return net_timeouts(p->rx);
}

static int unix_pair(struct net_pair *p)
{
	int sk[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sk))
		return -errno;
	*p = (struct net_pair) { .tx = sk[0], .rx = sk[1] };
	net_timeouts(sk[0]);
	return net_timeouts(sk[1]);
}

FIXTURE_SETUP(iomem)
{
	struct netrig *n = &self->net;

	self->rng = 7650;
	self->pair = NET_PAIR_NONE;
	self->mem.fd = -1;
	NETRIG_UP(n, NULL, MEM_UDMABUF, 64 * KiB);
	if (mem_create_bar(&self->mem, SIZE, DMA_BUF_BAR_VMAP, 0))
		SKIP(return, "no /dev/dmabuf_bar");
	ASSERT_EQ(0, mem_fill(&self->mem, 0, 0, SIZE, SEED));
	if (variant->kind == UDP) {
		ASSERT_EQ(0, udp_pair(&self->pair));
	} else if (variant->kind == TCP) {
		ASSERT_EQ(0, net_local("127.0.0.1", &self->pair));
	} else {
		ASSERT_EQ(0, unix_pair(&self->pair));
	}
	ASSERT_EQ(0, net_reg(n, 0, self->mem.fd, self->pair.tx,
			     IO_REGBUF_DMABUF_COPY_OK));
}

FIXTURE_TEARDOWN(iomem)
{
	net_close(&self->pair);
	mem_destroy(&self->mem);
	netrig_down(&self->net);
}

static __u64 copied_bytes(struct netrig *n, unsigned int slot)
{
	struct io_uring_query_regbuf_map q;

	return query_map(&n->ring, slot, 0, &q) ? 0 : q.copied_bytes;
}

TEST_F(iomem, sizes)
{
	static const __u32 lens[] = {
		1, 7, 4095, 4097, 60000, 65507, 65536, 65537, 131072, 200001, SIZE,
	};
	unsigned int nr = variant->kind == UDP ? 6 : ARRAY_SIZE(lens);
	struct netrig *n = &self->net;
	struct receiver r;
	__u64 all = 0;
	bool copied;

	/* so that a worker has to wait for the receiver; a datagram has to fit */
	if (variant->kind != UDP)
		net_set(self->pair.tx, SOL_SOCKET, SO_SNDBUF, 16 * KiB);
	for (unsigned int i = 0; i < nr; i++) {
		struct piece p = piece_random(&self->rng, lens[i], SIZE, SEED);

		if (variant->kind == UDP) {
			EXPECT_EQ(p.len, net_send_sync(n, self->pair.tx, 0, p.pos,
						       p.len, 0, &copied));
			EXPECT_TRUE(copied);
			ASSERT_EQ(0, net_recv_datagram(self->pair.rx, &p, 1));
		} else {
			ASSERT_EQ(0, receiver_start(&r, self->pair.rx, &p, 1));
			EXPECT_EQ(p.len, net_send(n, self->pair.tx, 0, p.pos,
						  p.len, i & 1 ? MSG_WAITALL : 0));
			ASSERT_EQ(0, receiver_join(&r));
		}
		all += p.len;
	}
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(nr, n->copied);
	EXPECT_EQ(all, copied_bytes(n, 0));
	if (variant->kind == UDP) {
		EXPECT_EQ(-EMSGSIZE, net_send(n, self->pair.tx, 0, 0, 65508, 0));
	}
	EXPECT_EQ(all, copied_bytes(n, 0));
}

TEST_F(iomem, vectors)
{
	static const unsigned int nr[] = { 1, 2, 17, 80 };
	struct piece pieces[MAX_PIECES], *p = pieces;
	struct iovec iov[MAX_PIECES];
	struct netrig *n = &self->net;
	/* of a datagram all of it has to fit; of a stream, more than a bounce */
	__u64 max = variant->kind == UDP ? 700 : 9000, len = 0;
	struct receiver r;

	for (unsigned int i = 0; i < MAX_PIECES; i++)
		pieces[i] = piece_random(&self->rng, 1 + rnd(&self->rng) % max,
					 SIZE, SEED);
	if (variant->kind != UDP) {
		ASSERT_EQ(0, receiver_start(&r, self->pair.rx, pieces,
					    MAX_PIECES));
	}
	for (unsigned int i = 0; i < 4; i++) {
		pieces_iov(p, nr[i], iov);
		EXPECT_EQ(pieces_len(p, nr[i]),
			  net_sendv(n, self->pair.tx, 0, iov, nr[i],
				    MSG_WAITALL));
		if (variant->kind == UDP) {
			ASSERT_EQ(0, net_recv_datagram(self->pair.rx, p, nr[i]));
		}
		len += pieces_len(p, nr[i]);
		p += nr[i];
	}
	if (variant->kind != UDP) {
		ASSERT_EQ(0, receiver_join(&r));
	}
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(4, n->copied);
	EXPECT_EQ(len, copied_bytes(n, 0));
}

/* A part of the dma-buf; from a worker; several linked; and not blocking */
TEST_F(iomem, ways_to_send)
{
	const __u64 start = 33 * 4096, size = 10 * 4096;
	struct netrig *n = &self->net;
	struct io_uring_regbuf_desc d = desc_dmabuf(self->mem.fd, self->pair.tx);
	struct piece pieces[] = { { SEED, start + 17, 5000 },
				  { SEED, start, size },
				  { SEED, start + size - 101, 101 } };
	struct uring_res res;

	d.flags = IO_REGBUF_DMABUF_COPY_OK;
	d.dmabuf_off = start;
	d.size = size;
	ASSERT_EQ(0, reg_one(&n->ring, 1, &d));
	EXPECT_EQ(-EFAULT, net_send(n, self->pair.tx, 1, size - 1, 2, 0));

	net_prep(n, self->pair.tx, 1, 17, 5000, 0)->flags = IOSQE_ASYNC |
							    IOSQE_IO_LINK;
	net_prep(n, self->pair.tx, 1, 0, size, MSG_WAITALL)->flags = IOSQE_IO_LINK;
	net_prep(n, self->pair.tx, 1, size - 101, 101, MSG_DONTWAIT);
	ASSERT_EQ(3, uring_submit(&n->ring, 0));
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, net_result(n, &res));
		EXPECT_EQ(pieces[i].len, res.res);
		if (variant->kind == UDP) {
			ASSERT_EQ(0, net_recv_datagram(self->pair.rx, &pieces[i],
						       1));
		}
	}
	if (variant->kind != UDP) {
		ASSERT_EQ(0, net_recv(self->pair.rx, pieces, 3));
	}
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(3, n->copied);
}

/* From the first copy to the end of the slot it stays where it is */
TEST_F(iomem, stays_where_it_is)
{
	struct piece p = { SEED, POS, 1000 };
	struct netrig *n = &self->net;
	struct dma_buf_bar_info info;

	ASSERT_EQ(0, bar_move(&self->mem, DMA_BUF_BAR_PLACE_B));
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(1000, net_send(n, self->pair.tx, 0, POS, 1000, 0));
		ASSERT_EQ(0, net_recv_each(self->pair.rx, &p, 1));
	}
	ASSERT_EQ(0, bar_info(&self->mem, &info));
	EXPECT_EQ(1, info.pinned);
	EXPECT_EQ(-EBUSY, bar_move(&self->mem, DMA_BUF_BAR_PLACE_A));
	ASSERT_EQ(0, net_idle(n));
	ASSERT_EQ(0, reg_clear(&n->ring, 0));
	for (int i = 0; i < 400 && info.pinned; i++) {
		lab_sleep_ms(50);
		ASSERT_EQ(0, bar_info(&self->mem, &info));
	}
	EXPECT_EQ(0, info.pinned);
	EXPECT_EQ(0, bar_move(&self->mem, DMA_BUF_BAR_PLACE_A));
}

/* What an exporter says when it cannot; user space never sees what it cannot know */
TEST_F(iomem, errors_of_the_exporter)
{
	static const struct {
		const char *exporter;
		int seen;
	} errors[] = {
		{ "12", -ENOMEM }, { "11", -EBUSY }, { "4", -EINTR },
		{ "512", -EINTR }, { "513", -EINTR }, { "514", -EINTR },
		{ "516", -EINTR }, { "524", -EOPNOTSUPP }, { "517", -EOPNOTSUPP },
	};
	struct piece p = { SEED, POS, 1000 };
	struct netrig *n = &self->net;
	struct mem mem;

	for (unsigned int i = 0; i < ARRAY_SIZE(errors); i++) {
		ASSERT_EQ(0, file_write(FAIL_ERRNO, errors[i].exporter));
		ASSERT_EQ(0, file_write(FAIL_COUNT, "1"));
		EXPECT_EQ(errors[i].seen, net_send(n, self->pair.tx, 0, POS, 1000,
						   0)) {
			TH_LOG("exporter says %s", errors[i].exporter);
		}
	}
	/* nothing is lost, and nothing was sent */
	EXPECT_EQ(1000, net_send(n, self->pair.tx, 0, POS, 1000, 0));
	ASSERT_EQ(0, net_recv_each(self->pair.rx, &p, 1));
	ASSERT_EQ(0, net_mark(&self->pair));

	/* an exporter that maps nothing for the CPU, and one that cannot map this */
	ASSERT_EQ(0, mem_create_bar(&mem, SIZE, 0, 0));
	ASSERT_EQ(0, net_reg(n, 1, mem.fd, self->pair.tx,
			     IO_REGBUF_DMABUF_COPY_OK));
	EXPECT_EQ(-EOPNOTSUPP, net_send(n, self->pair.tx, 1, POS, 1000, 0));
	mem_destroy(&mem);
	ASSERT_EQ(0, reg_clear(&n->ring, 1));
	ASSERT_EQ(0, mem_create_bar(&mem, SIZE, DMA_BUF_BAR_VMAP |
				    DMA_BUF_BAR_FRAGMENTED, 4096));
	ASSERT_EQ(0, net_reg(n, 1, mem.fd, self->pair.tx,
			     IO_REGBUF_DMABUF_COPY_OK));
	EXPECT_EQ(-EOPNOTSUPP, net_send(n, self->pair.tx, 1, POS, 1000, 0));
	mem_destroy(&mem);
	ASSERT_EQ(0, net_mark(&self->pair));
}

TEST_HARNESS_MAIN
