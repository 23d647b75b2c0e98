// SPDX-License-Identifier: GPL-2.0
/*
 * Zerocopy sends that end when a part of them is queued: it may not block, it is cancelled,
 * its time is over. What is queued is still sent from the memory, and the application has
 * to hear when it is through. And who waits for more completions than one.
 */
#include <string.h>
#include <sys/mman.h>

#include "bufring.h"
#include "common.h"
#include "netio.h"

#define SIZE		(1 * MiB)
#define SEED		NET_SEED
#define ROOM		(64 * KiB)	/* of the sender, and of the receiver */
#define QUIET_MS	lab_scale(150, 300)	/* nothing comes for so long */
#define GROUP		3
#define BID		21
#define DATA		4711		/* user_data of the send */

#define DEFER (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)

FIXTURE(parts) {
	struct netrig net;
	struct net_pair tcp;
	char *user;			/* ordinary memory, else NULL */
	char *got;
};

FIXTURE_VARIANT(parts) {
	const char *card;		/* NULL: loopback */
	unsigned int ring;
	unsigned int sqe_flags;
};

FIXTURE_VARIANT_ADD(parts, lo) { .ring = 0 };
FIXTURE_VARIANT_ADD(parts, lo_defer) { .ring = DEFER };
FIXTURE_VARIANT_ADD(parts, lo_sqpoll) { .ring = IORING_SETUP_SQPOLL };
FIXTURE_VARIANT_ADD(parts, lo_async) { .sqe_flags = IOSQE_ASYNC };
FIXTURE_VARIANT_ADD(parts, e1000e) { .card = "e1000e", .ring = DEFER };
FIXTURE_VARIANT_ADD(parts, vmxnet3_async) { .card = "vmxnet3", .sqe_flags = IOSQE_ASYNC };

FIXTURE_SETUP(parts)
{
	struct netrig *n = &self->net;
	struct io_uring_regbuf_desc d;

	self->tcp = NET_PAIR_NONE;
	self->got = malloc(SIZE);
	ASSERT_NE(NULL, self->got);
	NETRIG_UP(n, variant->card, MEM_UDMABUF, SIZE);
	ASSERT_EQ(0, net_tcp_any(n, AF_INET, &self->tcp));
	if (variant->card) {
		ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, SEED));
		d = desc_dmabuf(n->mem.fd, self->tcp.tx);
	} else {
		self->user = net_user(SIZE);
		ASSERT_NE(NULL, self->user);
		d = desc_uaddr(self->user, SIZE);
	}
	ASSERT_EQ(0, netrig_ring(n, 64, variant->ring));
	ASSERT_EQ(0, reg_one(&n->ring, 0, &d));
	ASSERT_EQ(0, net_set(self->tcp.tx, SOL_SOCKET, SO_SNDBUFFORCE, ROOM));
	net_set(self->tcp.rx, SOL_SOCKET, SO_RCVBUF, ROOM);
}

FIXTURE_TEARDOWN(parts)
{
	struct netrig *n = &self->net;

	net_close(&self->tcp);
	EXPECT_TRUE(netrig_let_go(n));
	if (self->user)
		munmap(self->user, SIZE);
	free(self->got);
	netrig_down(n);
}

/* A send of more than there is room for, that completes once */
static struct io_uring_sqe *prep(struct _test_data_parts *self, int msg_flags,
				 unsigned int sqe_flags)
{
	struct netrig *n = &self->net;
	struct io_uring_sqe *sqe = net_prep(n, self->tcp.tx, 0, (uintptr_t)self->user, SIZE,
					    MSG_WAITALL | msg_flags);

	sqe->ioprio &= ~IORING_SEND_ZC_REPORT_USAGE;
	sqe->ioprio |= IORING_SEND_ZC_SINGLE_CQE;
	sqe->flags |= sqe_flags;
	sqe->user_data = DATA;
	return sqe;
}

/* Reads what was queued, and what comes, until all is quiet: bytes that are right, or -errno */
static int read_all(struct _test_data_parts *self)
{
	double end = net_deadline();
	int got = 0, quiet = 0, ret;

	/* what was queued may take its time */
	while (quiet < 20 || net_unsent(self->tcp.tx) > 0) {
		ret = recv(self->tcp.rx, self->got, SIZE, MSG_DONTWAIT);
		if (ret <= 0) {
			if (lab_now() > end)
				return -ETIME;
			lab_sleep_ms(20);
			quiet++;
			continue;
		}
		quiet = 0;
		if (pattern_check(self->got, got, ret, SEED) != NO_MISMATCH)
			return -EILSEQ;
		got += ret;
	}
	return got;
}

/* The one CQE comes with the last of what was queued, and says how much that was */
static void one_cqe_in_the_end(struct __test_metadata *_metadata, struct _test_data_parts *self,
			       __u32 flags)
{
	struct netrig *n = &self->net;
	struct uring_res res;
	int got;

	ASSERT_EQ(0, net_wait_unsent(self->tcp.tx));
	EXPECT_TRUE(uring_quiet(&n->ring, QUIET_MS));
	got = read_all(self);
	EXPECT_LT(0, got);
	EXPECT_GT(SIZE, got);
	ASSERT_EQ(0, uring_wait(&n->ring, &res, net_patience()));
	EXPECT_EQ(DATA, res.user_data);
	EXPECT_EQ(got, res.res);
	EXPECT_EQ(flags, res.flags);
	EXPECT_TRUE(uring_quiet(&n->ring, 20));
}

TEST_F(parts, does_not_block)
{
	prep(self, MSG_DONTWAIT, variant->sqe_flags);
	ASSERT_LE(0, uring_submit(&self->net.ring, 0));
	one_cqe_in_the_end(_metadata, self, 0);
}

/* What is queued of a vector ends in its second piece */
TEST_F(parts, message_does_not_block)
{
	struct io_uring_sqe *sqe = prep(self, MSG_DONTWAIT, variant->sqe_flags);
	struct net_vec vec;

	ASSERT_EQ(0, net_set(self->tcp.tx, SOL_SOCKET, SO_SNDBUFFORCE, SIZE / 4));
	net_reform(sqe, NET_MESSAGE, &vec);
	ASSERT_LE(0, uring_submit(&self->net.ring, 0));
	one_cqe_in_the_end(_metadata, self, 0);
}

/* Its room does not come */
static void wait_until_full(struct _test_data_parts *self)
{
	int last = -1, now;

	while ((now = net_unsent(self->tcp.tx)) != last || now <= 0) {
		last = now;
		lab_sleep_ms(100);
	}
}

/*
 * -EALREADY: a worker is at it, and hears of it; there is nothing left to cancel then.
 * Nor is there while room has come and the task has not tried again yet (-ENOENT).
 */
TEST_F(parts, cancelled)
{
	struct netrig *n = &self->net;
	double end = net_deadline();
	struct io_uring_sqe *sqe;
	struct uring_res res;
	bool told = false;

	prep(self, 0, variant->sqe_flags);
	ASSERT_LE(0, uring_submit(&n->ring, 0));
	wait_until_full(self);
	for (;;) {
		sqe = uring_sqe(&n->ring);
		sqe->opcode = IORING_OP_ASYNC_CANCEL;
		sqe->fd = -1;
		sqe->addr = DATA;
		sqe->user_data = 1;
		ASSERT_LE(0, uring_submit(&n->ring, 0));
		ASSERT_EQ(0, uring_wait(&n->ring, &res, net_patience()));
		ASSERT_EQ(1, res.user_data);
		told |= res.res == -EALREADY;
		if (!res.res || (told && res.res == -ENOENT) || lab_now() > end)
			break;
		/* not asleep: the task tries again while it waits */
		ASSERT_TRUE(uring_quiet(&n->ring, 10));
	}
	EXPECT_TRUE(!res.res || (told && res.res == -ENOENT));
	one_cqe_in_the_end(_metadata, self, 0);
}

TEST_F(parts, time_is_over)
{
	struct __kernel_timespec ts = { .tv_nsec = 200 * 1000000 };
	struct netrig *n = &self->net;
	struct io_uring_sqe *sqe;
	struct uring_res res;

	prep(self, 0, variant->sqe_flags | IOSQE_IO_LINK);
	sqe = uring_sqe(&n->ring);
	sqe->opcode = IORING_OP_LINK_TIMEOUT;
	sqe->fd = -1;
	sqe->addr = (uintptr_t)&ts;
	sqe->len = 1;
	sqe->user_data = 1;
	ASSERT_LE(0, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, uring_wait(&n->ring, &res, net_patience()));
	EXPECT_EQ(1, res.user_data);
	/* a worker that is at it is told, but the timeout has not found it */
	EXPECT_TRUE(res.res == -ETIME || (variant->sqe_flags & IOSQE_ASYNC &&
					  (res.res == -EALREADY || res.res == -ENOENT)));
	one_cqe_in_the_end(_metadata, self, 0);
}

/* What is linked does not touch the memory before */
TEST_F(parts, hard_link_waits)
{
	struct netrig *n = &self->net;
	struct io_uring_sqe *sqe;
	struct uring_res res[2];
	int got;

	prep(self, MSG_DONTWAIT, variant->sqe_flags | IOSQE_IO_HARDLINK);
	sqe = uring_sqe(&n->ring);
	sqe->opcode = IORING_OP_NOP;
	sqe->user_data = 2;
	ASSERT_LE(0, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, net_wait_unsent(self->tcp.tx));
	EXPECT_TRUE(uring_quiet(&n->ring, QUIET_MS));
	got = read_all(self);
	for (unsigned int i = 0; i < 2; i++)
		ASSERT_EQ(0, uring_wait(&n->ring, &res[i], net_patience()));
	EXPECT_EQ(DATA, res[0].user_data);
	EXPECT_EQ(got, res[0].res);
	EXPECT_EQ(2, res[1].user_data);
	EXPECT_EQ(0, res[1].res);
}

TEST_F(parts, peer_resets)
{
	struct linger now = { .l_onoff = 1 };
	struct netrig *n = &self->net;
	struct uring_res res;

	prep(self, MSG_DONTWAIT, variant->sqe_flags);
	ASSERT_LE(0, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, net_wait_unsent(self->tcp.tx));
	EXPECT_TRUE(uring_quiet(&n->ring, QUIET_MS));
	setsockopt(self->tcp.rx, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(self->tcp.rx);
	self->tcp.rx = -1;
	ASSERT_EQ(0, uring_wait(&n->ring, &res, net_patience()));
	EXPECT_EQ(DATA, res.user_data);
	EXPECT_EQ(-ECONNRESET, res.res);
	EXPECT_TRUE(uring_quiet(&n->ring, 20));
}

/* A buffer that was chosen for it is named, in the one CQE or in both */
static void provided(struct __test_metadata *_metadata, struct _test_data_parts *self,
		     unsigned int sqe_flags, bool single)
{
	const __u32 name = IORING_CQE_F_BUFFER | BID << IORING_CQE_BUFFER_SHIFT;
	struct netrig *n = &self->net;
	struct io_uring_sqe *sqe;
	struct uring_res res;
	struct bufring b;
	int got;

	ASSERT_EQ(0, bufring_create(&b, &n->ring, GROUP, 4, 0));
	bufring_add(&b, bufring_reg(0, 0), SIZE, BID);
	sqe = prep(self, MSG_DONTWAIT, sqe_flags | IOSQE_BUFFER_SELECT);
	sqe->buf_group = GROUP;
	sqe->addr = 0;
	sqe->len = 0;
	sqe->ioprio |= IORING_RECVSEND_BUNDLE;
	if (!single)
		sqe->ioprio &= ~IORING_SEND_ZC_SINGLE_CQE;
	ASSERT_LE(0, uring_submit(&n->ring, 0));
	if (single) {
		one_cqe_in_the_end(_metadata, self, name);
	} else {
		ASSERT_EQ(0, uring_wait(&n->ring, &res, net_patience()));
		EXPECT_EQ(name | IORING_CQE_F_MORE, res.flags);
		EXPECT_TRUE(uring_quiet(&n->ring, QUIET_MS));
		got = read_all(self);
		EXPECT_EQ(got, res.res);
		ASSERT_EQ(0, uring_wait(&n->ring, &res, net_patience()));
		EXPECT_EQ(name | IORING_CQE_F_NOTIF, res.flags);
	}
	bufring_destroy(&b);
}

TEST_F(parts, provided_with_one_completion)
{
	provided(_metadata, self, variant->sqe_flags, true);
}

TEST_F(parts, provided_with_two)
{
	provided(_metadata, self, variant->sqe_flags, false);
}

/* --- who waits for several --- */

/* Until then nothing of the end is acknowledged: it comes while somebody waits */
static void *reads_late(void *arg)
{
	const struct piece all = { SEED, 0, SIZE };
	const struct net_pair *tcp = arg;

	lab_sleep_ms(500);
	return (void *)(intptr_t)net_recv(tcp->rx, &all, 1);
}

/* A send, and what comes after it: both are there in time */
static void both_come(struct __test_metadata *_metadata, struct _test_data_parts *self,
		      unsigned int send_flags, unsigned int nop_flags)
{
	struct netrig *n = &self->net;
	struct io_uring_sqe *sqe;
	pthread_t reader;
	double start;
	void *ret;

	/* all of it is queued at once */
	ASSERT_EQ(0, net_set(self->tcp.tx, SOL_SOCKET, SO_SNDBUFFORCE, 4 * MiB));
	prep(self, 0, send_flags);
	sqe = uring_sqe(&n->ring);
	sqe->opcode = IORING_OP_NOP;
	sqe->flags = nop_flags;
	sqe->user_data = 2;
	ASSERT_EQ(0, pthread_create(&reader, NULL, reads_late, &self->tcp));
	start = lab_now();
	/* what is there is looked at when the time is over, too: that is not meant */
	ASSERT_EQ(2, uring_submit_for(&n->ring, 2, 30000));
	EXPECT_GT(20, lab_now() - start);
	EXPECT_EQ(2, uring_ready(&n->ring));
	ASSERT_EQ(0, pthread_join(reader, &ret));
	EXPECT_EQ(NULL, ret);
}

TEST_F(parts, link_is_waited_for)
{
	both_come(_metadata, self, variant->sqe_flags | IOSQE_IO_LINK, 0);
}

TEST_F(parts, drain_is_waited_for)
{
	both_come(_metadata, self, variant->sqe_flags, IOSQE_IO_DRAIN);
}

TEST_HARNESS_MAIN
