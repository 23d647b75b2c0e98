// SPDX-License-Identifier: GPL-2.0
/*
 * Sends from a slot that was registered for no device: the first one by a card makes it a
 * target (IO_REGBUF_DMABUF_ON_DEMAND).
 */
#include <sys/resource.h>
#include <linux/dma-buf-bar.h>

#include "acct.h"
#include "common.h"
#include "netio.h"

#define SIZE	(1 * MiB)
#define SEED	NET_SEED

FIXTURE(send_demand) {
	struct netrig net;
	struct net_pair tcp, udp;
	__u64 rng;
};

FIXTURE_VARIANT(send_demand) {
	const char *card;
	int family;
	enum mem_kind kind;
};

FIXTURE_VARIANT_ADD(send_demand, e1000e) {
	.card = "e1000e", .family = AF_INET, .kind = MEM_UDMABUF
};

FIXTURE_VARIANT_ADD(send_demand, vmxnet3_tcp6_bar) {
	.card = "vmxnet3", .family = AF_INET6, .kind = MEM_BAR
};

FIXTURE_VARIANT_ADD(send_demand, igb) {
	.card = "igb", .family = AF_INET, .kind = MEM_UDMABUF
};

static int demand(struct netrig *n, __u32 flags)
{
	return reg_flags(&n->ring, 0, n->mem.fd, -1, IO_REGBUF_DMABUF_ON_DEMAND | flags);
}

FIXTURE_SETUP(send_demand)
{
	struct netrig *n = &self->net;

	self->rng = 7321;
	self->tcp = NET_PAIR_NONE;
	self->udp = NET_PAIR_NONE;
	NETRIG_UP(n, variant->card, variant->kind, SIZE);
	ASSERT_EQ(0, net_tcp(n, variant->family, &self->tcp));
	ASSERT_EQ(0, net_udp(n, variant->family, &self->udp));
	ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, SEED));
	ASSERT_EQ(0, demand(n, 0));
}

FIXTURE_TEARDOWN(send_demand)
{
	net_close(&self->tcp);
	net_close(&self->udp);
	netrig_down(&self->net);
}

/* Mapped once, and everything that leaves by it is sent from there */
TEST_F(send_demand, first_send)
{
	struct io_uring_query_regbuf_map q;
	struct netrig *n = &self->net;
	struct piece p[20];

	EXPECT_EQ(0, bufinfo_attachments(n->mem.fd));
	EXPECT_EQ(-EINVAL, query_map(&n->ring, 0, 1, &q));
	for (unsigned int i = 0; i < 20; i++) {
		p[i] = piece_random(&self->rng, 1 + rnd(&self->rng) % 50000, SIZE, SEED);
		ASSERT_EQ(p[i].len, net_send(n, self->tcp.tx, 0, p[i].pos, p[i].len,
					     MSG_WAITALL));
		ASSERT_EQ(0, net_recv(self->tcp.rx, &p[i], 1));
	}
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(0, n->copied);
	ASSERT_EQ(0, net_query(n, 0, &q));
	EXPECT_EQ(1, q.nr_targets);
	EXPECT_EQ(1, q.maps);
	EXPECT_EQ(1, bufinfo_attachments(n->mem.fd));
}

/*
 * The first of a chain goes to a worker, by whatever ring it comes; those that are linked to
 * it wait, and find the card a target
 */
TEST_F(send_demand, chains)
{
	struct io_uring_query_regbuf_map q;
	struct netrig *n = &self->net;
	struct uring_res res;
	struct receiver r;
	struct piece p[4];

	for (unsigned int k = 0; k < URING_KINDS; k++) {
		uring_exit(&n->ring);
		ASSERT_TRUE(bufinfo_wait(n->mem.fd, 0, net_patience()));
		ASSERT_EQ(0, uring_init(&n->ring, 64, uring_kinds[k].setup));
		ASSERT_EQ(0, reg_sparse(&n->ring, 1));
		ASSERT_EQ(0, demand(n, 0));
		for (unsigned int i = 0; i < 4; i++) {
			p[i] = piece_random(&self->rng, 1 + rnd(&self->rng) % 50000, SIZE, SEED);
			net_prep(n, self->tcp.tx, 0, p[i].pos, p[i].len, MSG_WAITALL)->flags =
				uring_kinds[k].sqe_flags | (i < 3 ? IOSQE_IO_LINK : 0);
		}
		ASSERT_EQ(0, receiver_start(&r, self->tcp.rx, p, 4));
		ASSERT_EQ(4, uring_submit(&n->ring, 0));
		for (unsigned int i = 0; i < 4; i++) {
			ASSERT_EQ(0, net_result(n, &res));
			EXPECT_EQ(p[i].len, res.res);
			EXPECT_EQ(n->serial - 3 + i, res.user_data);
		}
		ASSERT_EQ(0, receiver_join(&r));
		ASSERT_EQ(0, net_idle(n));
		EXPECT_EQ(0, n->copied);
		ASSERT_EQ(0, net_query(n, 0, &q));
		EXPECT_EQ(1, q.nr_targets);
		EXPECT_EQ(1, q.maps) {
			TH_LOG("%s", uring_kinds[k].name);
		}
	}
}

/* A datagram, and one that waits behind it in the same ring */
TEST_F(send_demand, datagrams)
{
	struct io_uring_query_regbuf_map q;
	struct netrig *n = &self->net;
	const struct piece p = { SEED, 4096, 1000 };

	for (unsigned int i = 0; i < 5; i++) {
		ASSERT_EQ(1000, net_send(n, self->udp.tx, 0, 4096, 1000, 0));
		ASSERT_EQ(0, net_recv_datagram(self->udp.rx, &p, 1));
	}
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(0, n->copied);
	ASSERT_EQ(0, net_query(n, 0, &q));
	EXPECT_EQ(1, q.maps);
}

/* A vector is as good */
TEST_F(send_demand, vectors)
{
	struct netrig *n = &self->net;
	struct iovec iov[8];
	struct piece p[8];

	for (unsigned int i = 0; i < 8; i++)
		p[i] = piece_random(&self->rng, 1 + rnd(&self->rng) % 3000, SIZE, SEED);
	pieces_iov(p, 8, iov);
	ASSERT_EQ(pieces_len(p, 8), net_sendv(n, self->tcp.tx, 0, iov, 8, MSG_WAITALL));
	ASSERT_EQ(0, net_recv(self->tcp.rx, p, 8));
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(0, n->copied);
}

/* A datagram to an address: no device belongs to the socket, so that it can only be copied */
TEST_F(send_demand, to_an_address)
{
	struct iovec iov = { .iov_base = (void *)4096, .iov_len = 1000 };
	const struct piece p = { SEED, 4096, 1000 };
	struct netrig *n = &self->net;
	struct sockaddr_storage to;
	struct msghdr msg = { .msg_name = &to, .msg_iov = &iov, .msg_iovlen = 1 };
	int tx, rx;

	msg.msg_namelen = net_addr(n, NET_PEER, variant->family, 7399, &to);
	rx = net_socket(n, NET_PEER, variant->family, SOCK_DGRAM, 0);
	tx = net_socket(n, NET_CARD, variant->family, SOCK_DGRAM, 0);
	ASSERT_LE(0, rx);
	ASSERT_LE(0, tx);
	ASSERT_EQ(0, bind(rx, (void *)&to, msg.msg_namelen));
	net_prep_msg(n, tx, 0, &msg, 0);
	EXPECT_EQ(-EBADF, net_do(n));
	if (variant->kind != MEM_BAR) {
		ASSERT_EQ(0, demand(n, IO_REGBUF_DMABUF_COPY_OK));
		net_prep_msg(n, tx, 0, &msg, 0);
		EXPECT_EQ(1000, net_do(n));
		EXPECT_EQ(0, net_recv_datagram(rx, &p, 1));
	}
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(variant->kind != MEM_BAR, n->copied);
	close(tx);
	close(rx);
}

/* A socket whose device cannot says so, and is copied where that is allowed */
TEST_F(send_demand, device_that_cannot)
{
	struct netrig *n = &self->net;
	struct net_pair local;
	const struct piece p = { SEED, 0, 5000 };

	ASSERT_EQ(0, net_local("127.0.0.1", &local));
	for (unsigned int i = 0; i < 2; i++)
		EXPECT_EQ(-EOPNOTSUPP, net_send(n, local.tx, 0, 0, 5000, MSG_WAITALL));
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(0, bufinfo_attachments(n->mem.fd));
	if (variant->kind != MEM_BAR) {
		ASSERT_EQ(0, demand(n, IO_REGBUF_DMABUF_COPY_OK));
		EXPECT_EQ(5000, net_send(n, local.tx, 0, 0, 5000, MSG_WAITALL));
		ASSERT_EQ(0, net_recv(local.rx, &p, 1));
		ASSERT_EQ(0, net_idle(n));
		EXPECT_EQ(1, n->copied);
		/* by the card it is not */
		EXPECT_EQ(5000, net_send(n, self->tcp.tx, 0, 0, 5000, MSG_WAITALL));
		ASSERT_EQ(0, net_recv(self->tcp.rx, &p, 1));
		ASSERT_EQ(0, net_idle(n));
		EXPECT_EQ(1, n->copied);
	}
	net_close(&local);
}

/* Of a socket that must not wait: the device is attached all the same */
TEST_F(send_demand, does_not_block)
{
	struct netrig *n = &self->net;
	const struct piece p = { SEED, 0, 5000 };

	ASSERT_EQ(5000, net_send(n, self->tcp.tx, 0, 0, 5000, MSG_DONTWAIT));
	ASSERT_EQ(0, net_recv(self->tcp.rx, &p, 1));
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(0, n->copied);
}

/* An exporter that may take the memory back cannot be sent from: its reason is an errno */
TEST_F(send_demand, exporter_that_refuses)
{
	struct netrig *n = &self->net;

	if (variant->kind != MEM_BAR)
		SKIP(return, "it is the test exporter's");
	mem_destroy(&n->mem);
	ASSERT_EQ(0, mem_create_bar(&n->mem, SIZE, DMA_BUF_BAR_VFIO, 0));
	ASSERT_EQ(0, demand(n, 0));
	EXPECT_EQ(-EOPNOTSUPP, net_send(n, self->tcp.tx, 0, 0, 5000, MSG_WAITALL));
	ASSERT_EQ(0, net_idle(n));
	EXPECT_TRUE(bufinfo_wait(n->mem.fd, 0, net_patience()));
}

/* Pinned for a card, and charged then */
static int sending_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, -1);
	struct io_uring_sqe *sqe;
	__u64 before = acct_locked(a);

	d.flags = IO_REGBUF_DMABUF_ON_DEMAND;
	CHECK(!reg_one(&a->ring, 0, &d));
	CHECK(acct_locked(a) == before);
	CHECK(!acct_limit(before + ACCT_SIZE - 4096));
	for (unsigned int i = 0; i < 2; i++) {
		struct uring_res res;

		sqe = uring_prep_rw(&a->ring, IORING_OP_SEND_ZC, a->target, 0, 0, 1000, 0);
		sqe->ioprio = IORING_RECVSEND_FIXED_BUF;
		CHECK(uring_submit(&a->ring, 0) == 1);
		CHECK(!uring_wait(&a->ring, &res, net_patience()));
		CHECK(res.res == (i ? 1000 : -ENOMEM));
		CHECK(!uring_wait(&a->ring, &res, net_patience()));
		CHECK(!acct_limit(RLIM_INFINITY));
	}
	CHECK(acct_locked(a) >= before + ACCT_SIZE);
	return 0;
}

TEST_F(send_demand, memlock)
{
	const struct piece p = { SEED, 0, 1000 };
	struct acct a;

	if (variant->kind == MEM_BAR)
		SKIP(return, "memory of a device is charged to nobody");
	ASSERT_EQ(0, acct_up(&a, MEM_CMA, self->tcp.tx));
	ASSERT_EQ(0, mem_fill(&a.mem, 0, 0, ACCT_SIZE, SEED));
	EXPECT_EQ(0, acct_run(sending_child, &a));
	EXPECT_EQ(0, net_recv(self->tcp.rx, &p, 1));
	EXPECT_TRUE(bufinfo_wait(a.mem.fd, 0, net_patience()));
	acct_down(&a);
}

TEST_HARNESS_MAIN
