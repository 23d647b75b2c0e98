// SPDX-License-Identifier: GPL-2.0
/*
 * Zerocopy sends of what a group of provided buffers names, one entry or a bundle: memory
 * that is not registered.
 */
#include <sys/mman.h>

#include "bufgroup.h"
#include "bufring.h"
#include "common.h"
#include "netio.h"

#define SIZE		(1 * MiB)
#define SEED		NET_SEED
#define ENTRY		4096
#define MANY		64

FIXTURE(plain) {
	struct netrig net;
	struct net_pair pair;
	char *user;
};

FIXTURE_VARIANT(plain) {
	bool ring;			/* else a group of PROVIDE_BUFFERS */
	bool single;
	unsigned int sqe_flags;
};

FIXTURE_VARIANT_ADD(plain, ring) { .ring = true };
FIXTURE_VARIANT_ADD(plain, ring_single_async) {
	.ring = true, .single = true, .sqe_flags = IOSQE_ASYNC
};

FIXTURE_VARIANT_ADD(plain, group) { .ring = false };
FIXTURE_VARIANT_ADD(plain, group_single_async) { .single = true, .sqe_flags = IOSQE_ASYNC };

FIXTURE_SETUP(plain)
{
	self->pair = NET_PAIR_NONE;
	NETRIG_UP(&self->net, NULL, MEM_UDMABUF, SIZE);
	ASSERT_EQ(0, net_local("127.0.0.1", &self->pair));
	self->user = net_user(SIZE);
	ASSERT_NE(NULL, self->user);
}

FIXTURE_TEARDOWN(plain)
{
	net_close(&self->pair);
	netrig_down(&self->net);
	munmap(self->user, SIZE);
}

static struct io_uring_sqe *prep_plain(struct netrig *n, int fd, __u32 len, unsigned int ioprio,
				       unsigned int sqe_flags, bool single)
{
	struct io_uring_sqe *sqe = group_prep(n, fd, len, ioprio, sqe_flags, single);

	sqe->ioprio &= ~IORING_RECVSEND_FIXED_BUF;
	return sqe;
}

static int provide_group(struct uring *ring, char *addr, __u32 len, unsigned int nr, __u16 bid)
{
	struct io_uring_sqe *sqe = uring_sqe(ring);

	sqe->opcode = IORING_OP_PROVIDE_BUFFERS;
	sqe->fd = nr;
	sqe->addr = (uintptr_t)addr;
	sqe->len = len;
	sqe->off = bid;
	sqe->buf_group = NET_GROUP;
	return uring_do(ring);
}

/* To the ring, or to the group if there is none */
static int provide_entry(struct netrig *n, struct bufring *b, char *addr, __u16 bid)
{
	if (!b->br)
		return provide_group(&n->ring, addr, ENTRY, 1, bid);
	bufring_add(b, (uintptr_t)addr, ENTRY, bid);
	return 0;
}

TEST_F(plain, one_by_one)
{
	struct netrig *n = &self->net;
	struct bufring bufs = { 0 };
	struct uring_res res;

	ASSERT_EQ(0, variant->ring ? bufring_create(&bufs, &n->ring, NET_GROUP, 8, 0) : 0);
	for (unsigned int i = 0; i < 5; i++)
		ASSERT_EQ(0, provide_entry(n, &bufs, self->user + i * ENTRY, i));
	/* a group that is no ring gives what was provided last first, or not: any is right */
	for (unsigned int i = 0; i < 5; i++) {
		const struct piece p = { SEED, i * ENTRY, ENTRY };

		prep_plain(n, self->pair.tx, 0, 0, variant->sqe_flags, variant->single);
		ASSERT_LE(0, uring_submit(&n->ring, 0));
		ASSERT_EQ(0, net_recv(self->pair.rx, &p, 1));
		ASSERT_EQ(0, group_sent(n, ENTRY, i, false, variant->single));
	}
	prep_plain(n, self->pair.tx, 0, 0, variant->sqe_flags, variant->single);
	ASSERT_LE(0, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, uring_wait(&n->ring, &res, net_patience()));
	EXPECT_EQ(-ENOBUFS, res.res);
	EXPECT_EQ(0, res.flags & IORING_CQE_F_BUFFER);
	bufring_destroy(&bufs);
}

/* A limit is one, of whatever the group is made */
TEST_F(plain, up_to_a_length)
{
	static const unsigned int wanted[] = { 100, ENTRY, ENTRY + 1 };
	struct netrig *n = &self->net;
	struct bufring bufs = { 0 };

	ASSERT_EQ(0, variant->ring ? bufring_create(&bufs, &n->ring, NET_GROUP, 8, 0) : 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(wanted); i++) {
		const struct piece p = { SEED, i * ENTRY, i ? ENTRY : 100 };

		ASSERT_EQ(0, provide_entry(n, &bufs, self->user + i * ENTRY, i));
		prep_plain(n, self->pair.tx, wanted[i], 0, variant->sqe_flags,
			   variant->single);
		ASSERT_LE(0, uring_submit(&n->ring, 0));
		ASSERT_EQ(0, net_recv(self->pair.rx, &p, 1));
		ASSERT_EQ(0, group_sent(n, p.len, i, false, variant->single));
	}
	bufring_destroy(&bufs);
}

TEST_F(plain, bundles)
{
	struct netrig *n = &self->net;
	struct bufring bufs;
	struct piece p[MANY];
	__u64 rng = 12;
	struct receiver r;

	if (!variant->ring)
		SKIP(return, "a group that is no ring gives one at a time");
	ASSERT_EQ(0, bufring_create(&bufs, &n->ring, NET_GROUP, MANY, 0));
	for (unsigned int i = 0; i < MANY; i++) {
		p[i] = piece_random(&rng, 1 + rnd(&rng) % 9000, SIZE, SEED);
		bufring_add(&bufs, (uintptr_t)self->user + p[i].pos, p[i].len, i);
	}
	net_set(self->pair.tx, SOL_SOCKET, SO_SNDBUF, 16 * KiB);
	ASSERT_EQ(0, receiver_start(&r, self->pair.rx, p, MANY));
	prep_plain(n, self->pair.tx, 0, IORING_RECVSEND_BUNDLE, variant->sqe_flags,
		   variant->single);
	ASSERT_LE(0, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, group_sent(n, pieces_len(p, MANY), 0, false, variant->single));
	ASSERT_EQ(0, receiver_join(&r));
	bufring_destroy(&bufs);
}

TEST_HARNESS_MAIN
