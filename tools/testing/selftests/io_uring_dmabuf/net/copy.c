// SPDX-License-Identifier: GPL-2.0
/* Sends of copies (IO_REGBUF_DMABUF_COPY_OK); no card is needed */
#include "common.h"
#include "netio.h"

#define SIZE		(1 * MiB)
#define SEED		NET_SEED
#define POS		4321
#define MAX_PIECES	100

FIXTURE(copied) {
	struct netrig net;
	struct net_pair pair;
	__u64 rng;
};

FIXTURE_VARIANT(copied) {
	bool tcp;
	enum mem_kind kind;
};

FIXTURE_VARIANT_ADD(copied, to_unix) { .tcp = false, .kind = MEM_UDMABUF_4K };
FIXTURE_VARIANT_ADD(copied, to_tcp) { .tcp = true, .kind = MEM_UDMABUF };
FIXTURE_VARIANT_ADD(copied, heap_to_tcp) { .tcp = true, .kind = MEM_HEAP };

FIXTURE_SETUP(copied)
{
	struct netrig *n = &self->net;
	int sk[2];

	self->rng = 7600;
	self->pair = NET_PAIR_NONE;
	NETRIG_UP(n, NULL, variant->kind, SIZE);
	if (variant->tcp) {
		ASSERT_EQ(0, net_local("127.0.0.1", &self->pair));
	} else {
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sk));
		self->pair = (struct net_pair) { .tx = sk[0], .rx = sk[1] };
		net_timeouts(sk[0]);
		net_timeouts(sk[1]);
	}
	ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, SEED));
	ASSERT_EQ(0, net_reg(n, 0, n->mem.fd, self->pair.tx,
			     IO_REGBUF_DMABUF_COPY_OK));
}

FIXTURE_TEARDOWN(copied)
{
	net_close(&self->pair);
	netrig_down(&self->net);
}

static __u64 copied_bytes(struct netrig *n, unsigned int slot)
{
	struct io_uring_query_regbuf_map q;

	return query_map(&n->ring, slot, 0, &q) ? 0 : q.copied_bytes;
}

/* Once the receiver is through: @nr requests, all of them copies */
static void check_copied(struct __test_metadata *_metadata, struct netrig *n,
			 struct receiver *r, unsigned int nr)
{
	ASSERT_EQ(0, receiver_join(r));
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(nr, n->copied);
	EXPECT_EQ(r->got, copied_bytes(n, 0));
}

TEST_F(copied, nothing_is_attached)
{
	struct io_uring_query_regbuf_map q;
	struct netrig *n = &self->net;

	ASSERT_EQ(0, query_map(&n->ring, 0, 0, &q));
	EXPECT_EQ(0, q.nr_targets);
	EXPECT_EQ(IO_REGBUF_TYPE_DMABUF, q.type);
	EXPECT_EQ(IO_REGBUF_DMABUF_COPY_OK, q.flags);
	EXPECT_EQ(SIZE, q.size);
	EXPECT_EQ(-EINVAL, query_map(&n->ring, 0, 1, &q));
	EXPECT_EQ(0, bufinfo_attachments(n->mem.fd));
}

TEST_F(copied, sizes)
{
	static const __u32 lens[] = {
		1, 7, 4095, 4096, 4097, 65536, 100001, SIZE,
	};
	struct piece pieces[ARRAY_SIZE(lens)];
	struct netrig *n = &self->net;
	struct receiver r;

	for (unsigned int i = 0; i < ARRAY_SIZE(lens); i++)
		pieces[i] = piece_random(&self->rng, lens[i], SIZE, SEED);
	/* so that a worker has to wait for the receiver */
	net_set(self->pair.tx, SOL_SOCKET, SO_SNDBUF, 16 * KiB);
	ASSERT_EQ(0, receiver_start(&r, self->pair.rx, pieces, ARRAY_SIZE(lens)));
	for (unsigned int i = 0; i < ARRAY_SIZE(lens); i++) {
		EXPECT_EQ(lens[i], net_send(n, self->pair.tx, 0, pieces[i].pos,
					    lens[i], i & 1 ? MSG_WAITALL : 0));
	}
	check_copied(_metadata, n, &r, ARRAY_SIZE(lens));
}

TEST_F(copied, vectors)
{
	static const unsigned int nr[] = { 1, 2, 17, 80 };
	struct piece pieces[MAX_PIECES], *p = pieces;
	struct iovec iov[MAX_PIECES];
	struct netrig *n = &self->net;
	struct receiver r;

	for (unsigned int i = 0; i < MAX_PIECES; i++)
		pieces[i] = piece_random(&self->rng, 1 + rnd(&self->rng) % 3000,
					 SIZE, SEED);
	ASSERT_EQ(0, receiver_start(&r, self->pair.rx, pieces, MAX_PIECES));
	for (unsigned int i = 0; i < 4; i++) {
		pieces_iov(p, nr[i], iov);
		EXPECT_EQ(pieces_len(p, nr[i]),
			  net_sendv(n, self->pair.tx, 0, iov, nr[i],
				    MSG_WAITALL));
		p += nr[i];
	}
	check_copied(_metadata, n, &r, 4);
}

TEST_F(copied, sub_range)
{
	const __u64 start = 33 * 4096, size = 10 * 4096;
	struct piece pieces[] = { { SEED, start, 100 },
				  { SEED, start + size - 101, 101 },
				  { SEED, start + 5000, 5000 } };
	struct netrig *n = &self->net;
	struct io_uring_regbuf_desc d = desc_dmabuf(n->mem.fd, self->pair.tx);
	struct iovec iov = { (void *)5000, 5000 };

	d.flags = IO_REGBUF_DMABUF_COPY_OK;
	d.dmabuf_off = start;
	d.size = size;
	ASSERT_EQ(0, reg_one(&n->ring, 1, &d));
	EXPECT_EQ(100, net_send(n, self->pair.tx, 1, 0, 100, 0));
	EXPECT_EQ(101, net_send(n, self->pair.tx, 1, size - 101, 101, 0));
	EXPECT_EQ(5000, net_sendv(n, self->pair.tx, 1, &iov, 1, 0));
	EXPECT_EQ(-EFAULT, net_send(n, self->pair.tx, 1, size - 1, 2, 0));
	EXPECT_EQ(0, net_recv(self->pair.rx, pieces, 3));
	EXPECT_EQ(5201, copied_bytes(n, 1));
}

/* Right from a worker, where it must not be sent to another one, for ever */
TEST_F(copied, async)
{
	struct piece pieces[4];
	struct netrig *n = &self->net;
	struct receiver r;

	for (int i = 0; i < 4; i++)
		pieces[i] = piece_random(&self->rng, 50000, SIZE, SEED);
	ASSERT_EQ(0, receiver_start(&r, self->pair.rx, pieces, 4));
	for (int i = 0; i < 4; i++) {
		net_prep(n, self->pair.tx, 0, pieces[i].pos, pieces[i].len,
			 i & 1 ? MSG_WAITALL : 0)->flags = IOSQE_ASYNC;
		ASSERT_EQ(pieces[i].len, net_do(n));
	}
	check_copied(_metadata, n, &r, 4);
}

/*
 * What has no room waits for the socket instead of in a worker, and is issued again:
 * the rest is a copy, too, and counted
 */
TEST_F(copied, async_in_parts)
{
	const struct piece all[] = { { SEED, 0, SIZE }, { SEED, POS, 300000 } };
	struct netrig *n = &self->net;
	struct uring_res res;
	struct receiver r;

	net_set(self->pair.tx, SOL_SOCKET, SO_SNDBUF, 16 * KiB);
	for (int i = 0; i < 2; i++) {
		net_prep(n, self->pair.tx, 0, all[i].pos, all[i].len,
			 MSG_WAITALL)->flags = IOSQE_ASYNC | (i ? 0 : IOSQE_IO_LINK);
	}
	ASSERT_EQ(2, uring_submit(&n->ring, 0));
	lab_sleep_ms(100);
	EXPECT_EQ(0, uring_ready(&n->ring));
	ASSERT_EQ(0, receiver_start(&r, self->pair.rx, all, 2));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, net_result(n, &res));
		EXPECT_EQ(all[i].len, res.res);
	}
	check_copied(_metadata, n, &r, 2);
}

/* Linked requests stay in order, although each goes to a worker */
TEST_F(copied, chain)
{
	struct netrig *n = &self->net;
	struct piece pieces[16];
	struct uring_res res;
	struct receiver r;

	for (int i = 0; i < 16; i++)
		pieces[i] = piece_random(&self->rng, 1 + rnd(&self->rng) % 30000,
					 SIZE, SEED);
	ASSERT_EQ(0, receiver_start(&r, self->pair.rx, pieces, 16));
	for (int i = 0; i < 16; i++)
		net_prep(n, self->pair.tx, 0, pieces[i].pos, pieces[i].len,
			 MSG_WAITALL)->flags = i < 15 ? IOSQE_IO_LINK : 0;
	ASSERT_EQ(16, uring_submit(&n->ring, 0));
	for (int i = 0; i < 16; i++) {
		ASSERT_EQ(0, net_result(n, &res));
		EXPECT_EQ(pieces[i].len, res.res);
	}
	check_copied(_metadata, n, &r, 16);
}

TEST_F(copied, kinds_of_rings)
{
	static const unsigned int flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
		IORING_SETUP_SQPOLL,
	};
	struct netrig *n = &self->net;
	struct piece p;

	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, netrig_ring(n, 64, flags[i]));
		ASSERT_EQ(0, net_reg(n, 0, n->mem.fd, self->pair.tx,
				     IO_REGBUF_DMABUF_COPY_OK));
		for (int k = 0; k < 8; k++) {
			p = piece_random(&self->rng, 10000, SIZE, SEED);
			ASSERT_EQ(p.len, net_send(n, self->pair.tx, 0, p.pos,
						  p.len, 0));
			ASSERT_EQ(0, net_recv(self->pair.rx, &p, 1));
		}
		ASSERT_EQ(0, net_idle(n));
		EXPECT_EQ(80000, copied_bytes(n, 0));
	}
	EXPECT_EQ(16, n->copied);
}

/*
 * Who must not wait may be told to come back, as the exporter may have to be
 * waited for, but not that something was sent when nothing was.
 */
TEST_F(copied, nonblocking)
{
	const struct piece want = { SEED, POS, 1000 };
	struct netrig *n = &self->net;
	int tx = self->pair.tx;

	ASSERT_EQ(0, fcntl(tx, F_SETFL, O_NONBLOCK));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, net_wait_acked(tx));
		/* does not wait for the socket, but for the exporter */
		EXPECT_EQ(1000, net_send(n, tx, 0, POS, 1000,
					 i ? MSG_DONTWAIT : 0));
		ASSERT_EQ(0, net_recv(self->pair.rx, &want, 1));
	}
	ASSERT_EQ(0, fcntl(tx, F_SETFL, 0));
	EXPECT_EQ(1000, net_send(n, tx, 0, POS, 1000, 0));
	EXPECT_EQ(0, net_recv(self->pair.rx, &want, 1));
}

/* A worker waits for the receiver while everything it needs is taken away */
TEST_F(copied, unregistered_meanwhile)
{
	const struct piece all = { SEED, 0, SIZE };
	struct netrig *n = &self->net;
	struct uring_res res;
	struct receiver r;

	net_set(self->pair.tx, SOL_SOCKET, SO_SNDBUF, 16 * KiB);
	net_prep(n, self->pair.tx, 0, 0, SIZE, MSG_WAITALL);
	ASSERT_EQ(1, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, reg_clear(&n->ring, 0));
	mem_destroy(&n->mem);
	EXPECT_EQ(0, uring_ready(&n->ring));
	ASSERT_EQ(0, receiver_start(&r, self->pair.rx, &all, 1));
	ASSERT_EQ(0, net_result(n, &res));
	EXPECT_EQ(SIZE, res.res);
	EXPECT_EQ(0, receiver_join(&r));
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(1, n->copied);
}

/* References to the dma-buf of @fd, or -errno */
static long dmabuf_refs(int fd)
{
	char path[64], text[512], *count;
	int ret;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	ret = file_read(path, text, sizeof(text));
	if (ret)
		return ret;
	count = strstr(text, "count:");
	return count ? strtol(count + strlen("count:"), NULL, 10) : -ENOENT;
}

/* Nobody will ever read: the end of the ring ends the wait */
TEST_F(copied, ring_exit_meanwhile)
{
	struct netrig *n = &self->net;
	double end = lab_now() + net_patience() / 1000.0;
	struct mem mem;
	long refs;

	ASSERT_EQ(0, mem_create(&mem, variant->kind, SIZE));
	refs = dmabuf_refs(mem.fd);
	ASSERT_GT(refs, 0);
	ASSERT_EQ(0, net_reg(n, 1, mem.fd, self->pair.tx,
			     IO_REGBUF_DMABUF_COPY_OK));
	EXPECT_GT(dmabuf_refs(mem.fd), refs);
	net_set(self->pair.tx, SOL_SOCKET, SO_SNDBUF, 16 * KiB);
	net_prep(n, self->pair.tx, 1, 0, SIZE, MSG_WAITALL);
	ASSERT_EQ(1, uring_submit(&n->ring, 0));
	uring_exit(&n->ring);
	while (dmabuf_refs(mem.fd) != refs && lab_now() < end)
		lab_sleep_ms(10);
	EXPECT_EQ(refs, dmabuf_refs(mem.fd));
	mem_destroy(&mem);
}

/* A drive fills the memory, a socket gets a copy of it */
TEST_F(copied, from_a_drive)
{
	const struct piece want = { 7700, 8192, 256 * KiB };
	struct netrig *n = &self->net;
	struct io_uring_regbuf_desc d = desc_dmabuf(n->mem.fd, self->pair.tx);
	int disk = NEED_DISK("LAB_NVME_MAIN");
	struct uring_res res;
	struct receiver r;

	d.flags = IO_REGBUF_DMABUF_COPY_OK;
	d.targets = (uintptr_t)&disk;
	d.nr_targets = 1;
	ASSERT_EQ(0, reg_one(&n->ring, 1, &d));
	ASSERT_EQ(0, disk_fill(disk, 0, 1 * MiB, 7700));
	/* once before, so that the CPU has old content in its view */
	EXPECT_EQ(100, net_send(n, self->pair.tx, 1, 0, 100, 0));
	EXPECT_EQ(0, net_recv(self->pair.rx, &(struct piece) { SEED, 0, 100 }, 1));
	ASSERT_EQ(0, receiver_start(&r, self->pair.rx, &want, 1));
	uring_prep_rw(&n->ring, IORING_OP_READ_FIXED, disk, 8192, 512, 256 * KiB,
		      1)->flags = IOSQE_IO_LINK;
	net_prep(n, self->pair.tx, 1, 512, 256 * KiB, MSG_WAITALL);
	ASSERT_EQ(2, uring_submit(&n->ring, 0));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, net_result(n, &res));
		EXPECT_EQ(256 * KiB, res.res);
	}
	EXPECT_EQ(0, receiver_join(&r));
	ASSERT_EQ(0, net_idle(n));
	close(disk);
}

TEST_HARNESS_MAIN
