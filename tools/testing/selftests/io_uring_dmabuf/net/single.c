// SPDX-License-Identifier: GPL-2.0
/*
 * One completion for a zerocopy send (IORING_SEND_ZC_SINGLE_CQE): when the memory may be
 * used again, and what became of the data.
 */
#include <sys/mman.h>
#include <netinet/in.h>
#include <linux/tcp.h>

#include "common.h"
#include "netio.h"

#define SIZE		(1 * MiB)
#define SEED		NET_SEED
#define WINDOW		(64 * KiB)	/* of a receiver that does not read; less than SIZE */
#define QUIET_MS	lab_scale(150, 300)	/* nothing comes for so long */
#define ENTRIES		64		/* of the ring */
#define GUARD		(16 * KiB)

FIXTURE(single) {
	struct netrig net;
	struct net_pair tcp;
	char *user;			/* ordinary memory, else NULL */
	__u64 base;			/* where address 0 of the slot is */
	unsigned int sqe_flags;
	bool copies;
	enum net_form form;
	bool registered;
	struct net_vec vecs[ENTRIES];	/* of requests that are submitted together */
};

FIXTURE_VARIANT(single) {
	const char *card;		/* NULL: loopback */
	bool user;			/* ordinary memory, else a dma-buf */
	bool unregistered;
	enum net_form form;
	int family;
	unsigned int ring;
	unsigned int sqe_flags;
};

#define DEFER (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)

FIXTURE_VARIANT_ADD(single, lo) { .user = true };
FIXTURE_VARIANT_ADD(single, lo_defer) { .user = true, .ring = DEFER };
FIXTURE_VARIANT_ADD(single, lo_async) { .user = true, .sqe_flags = IOSQE_ASYNC };
FIXTURE_VARIANT_ADD(single, lo_defer_async) {
	.user = true, .ring = DEFER, .sqe_flags = IOSQE_ASYNC
};

FIXTURE_VARIANT_ADD(single, lo_message) {
	.user = true, .unregistered = true, .form = NET_MESSAGE
};

FIXTURE_VARIANT_ADD(single, lo_vector_sqpoll) {
	.user = true, .form = NET_VECTOR, .ring = IORING_SETUP_SQPOLL
};

/* from a copy, by a worker */
FIXTURE_VARIANT_ADD(single, lo_copied) { .ring = DEFER };
FIXTURE_VARIANT_ADD(single, e1000e_message) { .card = "e1000e", .form = NET_MESSAGE };
FIXTURE_VARIANT_ADD(single, e1000e_user_async) {
	.card = "e1000e", .user = true, .sqe_flags = IOSQE_ASYNC
};

FIXTURE_VARIANT_ADD(single, vmxnet3_tcp6_defer) {
	.card = "vmxnet3", .family = AF_INET6, .ring = DEFER
};

FIXTURE_VARIANT_ADD(single, igb_sqpoll) { .card = "igb", .ring = IORING_SETUP_SQPOLL };
FIXTURE_VARIANT_ADD(single, igb_vector_async) {
	.card = "igb", .form = NET_VECTOR, .sqe_flags = IOSQE_ASYNC
};

/* A ring of another kind in the place of the rig's; slot 0 is @d */
static int other_ring(struct netrig *n, unsigned int flags,
		      const struct io_uring_regbuf_desc *d)
{
	int ret = netrig_ring(n, ENTRIES, flags);

	return ret ?: reg_one(&n->ring, 0, d);
}

FIXTURE_SETUP(single)
{
	const char *card = variant->card;
	struct netrig *n = &self->net;
	struct io_uring_regbuf_desc d;

	self->tcp = NET_PAIR_NONE;
	self->copies = !card && !variant->user;
	self->sqe_flags = variant->sqe_flags;
	self->form = variant->form;
	self->registered = !variant->unregistered;
	NETRIG_UP(n, card, MEM_UDMABUF, SIZE);
	ASSERT_EQ(0, net_tcp_any(n, variant->family ?: AF_INET, &self->tcp));
	d = desc_dmabuf(n->mem.fd, self->tcp.tx);
	if (self->copies)
		d.flags = IO_REGBUF_DMABUF_COPY_OK;
	if (variant->user) {
		/* and there is nothing behind it */
		self->user = mmap(NULL, SIZE + GUARD, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, self->user);
		ASSERT_EQ(0, mprotect(self->user + SIZE, GUARD, PROT_NONE));
		pattern_fill(self->user, 0, SIZE, SEED);
		self->base = (uintptr_t)self->user;
		d = desc_uaddr(self->user, SIZE);
	} else {
		ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, SEED));
	}
	ASSERT_EQ(0, other_ring(n, variant->ring, &d));
}

FIXTURE_TEARDOWN(single)
{
	struct netrig *n = &self->net;

	net_close(&self->tcp);
	EXPECT_TRUE(netrig_let_go(n));
	if (self->user)
		munmap(self->user, SIZE + GUARD);
	netrig_down(n);
}

/* A send that completes once */
static struct io_uring_sqe *prep(struct _test_data_single *self, __u64 off, __u32 len,
				 unsigned int sqe_flags)
{
	struct io_uring_sqe *sqe = net_prep(&self->net, self->tcp.tx, 0, self->base + off,
					    len, MSG_WAITALL);

	if (!self->registered)
		sqe->ioprio &= ~IORING_RECVSEND_FIXED_BUF;
	net_reform(sqe, self->form, &self->vecs[self->net.serial % ENTRIES]);
	sqe->ioprio |= IORING_SEND_ZC_SINGLE_CQE;
	sqe->flags |= sqe_flags;
	return sqe;
}

/* So that a part of SIZE fits into the sender, and not into the receiver */
static void narrow(const struct net_pair *tcp)
{
	net_set(tcp->tx, SOL_SOCKET, SO_SNDBUFFORCE, 4 * MiB);
	net_set(tcp->rx, SOL_SOCKET, SO_RCVBUF, WINDOW);
}

/* Its memory may be used again at once, and nobody waits for the receiver */
#define NOT_OF_COPIES(self) do {					\
	if ((self)->copies)						\
		SKIP(return, "what is copied does not wait");		\
} while (0)

/* The next CQE is the only one of its request */
#define ONE_CQE(n, data, result, with) do {				\
	struct uring_res res_;						\
									\
	ASSERT_EQ(0, uring_wait(&(n)->ring, &res_, net_patience()));	\
	EXPECT_EQ(data, res_.user_data);				\
	EXPECT_EQ(result, res_.res);					\
	EXPECT_EQ(with, res_.flags);					\
} while (0)

/* Of all that loopback delivers its receiver has a copy */
static __u32 usage(const struct netrig *n, bool copies)
{
	return copies || n->home < 0 ? IORING_CQE_F_ZC_COPIED : 0;
}

static struct tcp_info info_of(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
	return info;
}

/* So much has been queued, ever: a worker, or a thread of SQPOLL, may take its time */
static int wait_queued(int fd, __u64 bytes)
{
	double end = lab_now() + net_patience() / 1000.0;
	struct tcp_info i = info_of(fd);

	while (i.tcpi_bytes_sent - i.tcpi_bytes_retrans + i.tcpi_notsent_bytes < bytes) {
		if (lab_now() > end)
			return -ETIME;
		lab_sleep_ms(5);
		i = info_of(fd);
	}
	return 0;
}

TEST_F(single, comes_when_all_is_acknowledged)
{
	const struct piece all = { SEED, 0, SIZE };
	struct netrig *n = &self->net;

	NOT_OF_COPIES(self);
	narrow(&self->tcp);
	prep(self, 0, SIZE, self->sqe_flags)->user_data = 4711;
	ASSERT_EQ(1, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, wait_queued(self->tcp.tx, SIZE));
	EXPECT_TRUE(uring_quiet(&n->ring, QUIET_MS));
	ASSERT_EQ(0, net_recv(self->tcp.rx, &all, 1));
	ONE_CQE(n, 4711, SIZE, usage(n, self->copies));
	EXPECT_EQ(0, net_unsent(self->tcp.tx));
	EXPECT_TRUE(uring_quiet(&n->ring, QUIET_MS));
}

/* What was not asked for is not said */
TEST_F(single, usage_is_said_when_asked)
{
	const struct piece part = { SEED, 0, 100 };
	struct netrig *n = &self->net;

	for (int i = 0; i < 2; i++) {
		struct io_uring_sqe *sqe = prep(self, 0, 100, self->sqe_flags);

		sqe->user_data = i;
		if (!i)
			sqe->ioprio &= ~IORING_SEND_ZC_REPORT_USAGE;
		ASSERT_EQ(1, uring_submit(&n->ring, 0));
		ASSERT_EQ(0, net_recv(self->tcp.rx, &part, 1));
		ONE_CQE(n, i, 100, i ? usage(n, self->copies) : 0);
	}
}

/* Small sends share skbs, and each has its own completion, in any mix with others */
TEST_F(single, many_in_an_skb)
{
	struct netrig *n = &self->net;
	unsigned int seen[40] = { 0 }, before;
	const struct piece all = { SEED, 0, 40 * 500 };
	struct uring_res res;

	NOT_OF_COPIES(self);
	/* room for all: who has to wait for it is overtaken */
	net_set(self->tcp.tx, SOL_SOCKET, SO_SNDBUFFORCE, 4 * MiB);
	for (int round = 0; round < 5; round++) {
		unsigned int want = 0;

		memset(seen, 0, sizeof(seen));
		before = info_of(self->tcp.tx).tcpi_data_segs_out;
		/* all are there before the first leaves */
		ASSERT_EQ(0, net_set(self->tcp.tx, IPPROTO_TCP, TCP_CORK, 1));
		for (unsigned int i = 0; i < 40; i++) {
			struct io_uring_sqe *sqe = prep(self, i * 500, 500, 0);

			/* the order is that of submission, without workers */
			sqe->user_data = i;
			if (i % 3 == 2)
				sqe->ioprio &= ~IORING_SEND_ZC_SINGLE_CQE;
			want += i % 3 == 2 ? 2 : 1;
		}
		ASSERT_EQ(40, uring_submit(&n->ring, 0));
		ASSERT_EQ(0, wait_queued(self->tcp.tx, (round + 1) * 40 * 500));
		ASSERT_EQ(0, net_set(self->tcp.tx, IPPROTO_TCP, TCP_CORK, 0));
		ASSERT_EQ(0, net_recv(self->tcp.rx, &all, 1));
		/* those of an skb of its own are 40 */
		EXPECT_GT(25, info_of(self->tcp.tx).tcpi_data_segs_out - before);
		while (want--) {
			ASSERT_EQ(0, uring_wait(&n->ring, &res, net_patience()));
			ASSERT_GT(40, res.user_data);
			seen[res.user_data]++;
			if (res.user_data % 3 != 2) {
				EXPECT_EQ(500, res.res);
				EXPECT_EQ(usage(n, self->copies), res.flags);
			}
		}
		for (unsigned int i = 0; i < 40; i++)
			EXPECT_EQ(i % 3 == 2 ? 2 : 1, seen[i]);
		EXPECT_TRUE(uring_quiet(&n->ring, 20));
	}
}

/* A copy is as good as gone: the receiver need not read */
TEST_F(single, copies_do_not_wait)
{
	const struct piece all = { SEED, 0, SIZE };
	struct netrig *n = &self->net;

	if (!self->copies)
		SKIP(return, "nothing is copied");
	narrow(&self->tcp);
	prep(self, 0, SIZE, self->sqe_flags)->user_data = 1;
	ASSERT_EQ(1, uring_submit(&n->ring, 0));
	ONE_CQE(n, 1, SIZE, IORING_CQE_F_ZC_COPIED);
	EXPECT_LT(0, net_unsent(self->tcp.tx));
	ASSERT_EQ(0, net_recv(self->tcp.rx, &all, 1));
	EXPECT_TRUE(uring_quiet(&n->ring, 20));
}

/* A request behind the send, with one of them marked, completes after it */
static void nop_waits(struct __test_metadata *_metadata, struct _test_data_single *self,
		      unsigned int send_flags, unsigned int nop_flags)
{
	const struct piece all = { SEED, 0, SIZE };
	struct netrig *n = &self->net;
	struct io_uring_sqe *sqe;

	NOT_OF_COPIES(self);
	narrow(&self->tcp);
	prep(self, 0, SIZE, self->sqe_flags | send_flags)->user_data = 1;
	sqe = uring_sqe(&n->ring);
	sqe->opcode = IORING_OP_NOP;
	sqe->flags = nop_flags;
	sqe->user_data = 2;
	ASSERT_EQ(2, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, wait_queued(self->tcp.tx, SIZE));
	EXPECT_TRUE(uring_quiet(&n->ring, QUIET_MS));
	ASSERT_EQ(0, net_recv(self->tcp.rx, &all, 1));
	ONE_CQE(n, 1, SIZE, usage(n, self->copies));
	ONE_CQE(n, 2, 0, 0);
}

/* A link waits, and goes on */
TEST_F(single, links_wait)
{
	nop_waits(_metadata, self, IOSQE_IO_LINK, 0);
}

/* So does a drain */
TEST_F(single, drains_wait)
{
	nop_waits(_metadata, self, 0, IOSQE_IO_DRAIN);
}

/* Only its failure, if that is asked for */
TEST_F(single, success_is_skipped)
{
	const struct piece part = { SEED, 0, 5000 };
	struct netrig *n = &self->net;

	prep(self, 0, 5000, self->sqe_flags | IOSQE_CQE_SKIP_SUCCESS);
	ASSERT_EQ(1, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, net_recv(self->tcp.rx, &part, 1));
	ASSERT_EQ(0, net_wait_acked(self->tcp.tx));
	EXPECT_TRUE(uring_quiet(&n->ring, QUIET_MS));
	prep(self, SIZE, 5000, self->sqe_flags | IOSQE_CQE_SKIP_SUCCESS)->user_data = 3;
	ASSERT_EQ(1, uring_submit(&n->ring, 0));
	ONE_CQE(n, 3, -EFAULT, 0);
	EXPECT_TRUE(uring_quiet(&n->ring, 20));
}

/* All is queued, a part is with the peer, and the rest waits */
static void queue_all(struct __test_metadata *_metadata, struct _test_data_single *self)
{
	struct netrig *n = &self->net;
	struct io_uring_sqe *sqe;

	narrow(&self->tcp);
	sqe = prep(self, 0, SIZE, self->sqe_flags | IOSQE_IO_LINK);
	sqe->user_data = 1;
	sqe = uring_sqe(&n->ring);
	sqe->opcode = IORING_OP_NOP;
	sqe->user_data = 2;
	ASSERT_EQ(2, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, wait_queued(self->tcp.tx, SIZE));
	EXPECT_TRUE(uring_quiet(&n->ring, QUIET_MS));
	EXPECT_LT(0, net_unsent(self->tcp.tx));
}

/* One from here on, which says why, and its link is cancelled */
#define DIED(n, err) do {						\
	ONE_CQE(n, 1, err, 0);						\
	ONE_CQE(n, 2, -ECANCELED, 0);					\
	EXPECT_TRUE(uring_quiet(&n->ring, 20));				\
} while (0)

static void reset(int fd)
{
	struct linger now = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

/* Of those that share an skb each is told */
TEST_F(single, reset_with_many_in_an_skb)
{
	struct netrig *n = &self->net;
	unsigned int seen[43] = { 0 };
	struct uring_res res;

	NOT_OF_COPIES(self);
	/* all behind one that the peer has no room for */
	queue_all(_metadata, self);
	for (unsigned int i = 3; i < 43; i++)
		prep(self, i * 20, 20, 0)->user_data = i;
	ASSERT_EQ(40, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, wait_queued(self->tcp.tx, SIZE + 40 * 20));
	reset(self->tcp.tx);
	self->tcp.tx = -1;
	for (unsigned int i = 1; i < 43; i++) {
		ASSERT_EQ(0, uring_wait(&n->ring, &res, net_patience()));
		ASSERT_GT(43, res.user_data);
		EXPECT_EQ(res.user_data == 2 ? -ECANCELED : -ECONNRESET, res.res);
		EXPECT_EQ(0, res.flags);
		EXPECT_EQ(0, seen[res.user_data]++);
	}
	EXPECT_TRUE(uring_quiet(&n->ring, 20));
}

/* What only waits for its acknowledgment is found by nobody: a linked timeout fires */
TEST_F(single, is_not_cancelled)
{
	/* time for a worker to have sent it */
	struct __kernel_timespec ts = { .tv_sec = self->sqe_flags & IOSQE_ASYNC ? 3 : 1 };
	const struct piece all = { SEED, 0, SIZE };
	struct netrig *n = &self->net;
	struct io_uring_sqe *sqe;

	NOT_OF_COPIES(self);
	narrow(&self->tcp);
	prep(self, 0, SIZE, self->sqe_flags | IOSQE_IO_LINK)->user_data = 1;
	sqe = uring_sqe(&n->ring);
	sqe->opcode = IORING_OP_LINK_TIMEOUT;
	sqe->addr = (uintptr_t)&ts;
	sqe->len = 1;
	sqe->user_data = 2;
	ASSERT_EQ(2, uring_submit(&n->ring, 0));
	ONE_CQE(n, 2, -ENOENT, 0);
	EXPECT_LT(0, net_unsent(self->tcp.tx));
	sqe = uring_sqe(&n->ring);
	sqe->opcode = IORING_OP_ASYNC_CANCEL;
	sqe->addr = 1;
	sqe->user_data = 3;
	ASSERT_EQ(1, uring_submit(&n->ring, 0));
	ONE_CQE(n, 3, -ENOENT, 0);
	EXPECT_TRUE(uring_quiet(&n->ring, QUIET_MS));
	ASSERT_EQ(0, net_recv(self->tcp.rx, &all, 1));
	ONE_CQE(n, 1, SIZE, usage(n, self->copies));
	EXPECT_TRUE(uring_quiet(&n->ring, 20));
}

/* One end of the connection is reset, which @fd is: the send is over */
static void end_resets(struct __test_metadata *_metadata, struct _test_data_single *self,
		       int *fd)
{
	struct netrig *n = &self->net;

	NOT_OF_COPIES(self);
	queue_all(_metadata, self);
	reset(*fd);
	*fd = -1;
	DIED(n, -ECONNRESET);
}

TEST_F(single, peer_resets)
{
	end_resets(_metadata, self, &self->tcp.rx);
}

/* The application's own end: what waits does not hold the socket */
TEST_F(single, socket_is_reset)
{
	end_resets(_metadata, self, &self->tcp.tx);
}

/* The same with a registered file, once its slot is empty */
TEST_F(single, registered_socket_is_reset)
{
	struct netrig *n = &self->net;
	struct io_uring_files_update up = { .fds = (uintptr_t)(int []) { -1 } };
	struct io_uring_sqe *sqe;

	NOT_OF_COPIES(self);
	ASSERT_EQ(0, uring_register(n->ring.fd, IORING_REGISTER_FILES, &self->tcp.tx, 1));
	narrow(&self->tcp);
	sqe = prep(self, 0, SIZE, self->sqe_flags | IOSQE_FIXED_FILE);
	sqe->fd = 0;
	sqe->user_data = 1;
	ASSERT_EQ(1, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, wait_queued(self->tcp.tx, SIZE));
	EXPECT_TRUE(uring_quiet(&n->ring, QUIET_MS));
	ASSERT_EQ(1, uring_register(n->ring.fd, IORING_REGISTER_FILES_UPDATE, &up, 1));
	reset(self->tcp.tx);
	self->tcp.tx = -1;
	ONE_CQE(n, 1, -ECONNRESET, 0);
	EXPECT_TRUE(uring_quiet(&n->ring, 20));
}

/* What was closed in good order is delivered first */
TEST_F(single, socket_is_closed)
{
	const struct piece all = { SEED, 0, SIZE };
	struct netrig *n = &self->net;

	NOT_OF_COPIES(self);
	narrow(&self->tcp);
	prep(self, 0, SIZE, self->sqe_flags)->user_data = 1;
	ASSERT_EQ(1, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, wait_queued(self->tcp.tx, SIZE));
	EXPECT_TRUE(uring_quiet(&n->ring, QUIET_MS));
	net_orphan(&self->tcp.tx);
	ASSERT_EQ(0, net_recv(self->tcp.rx, &all, 1));
	ONE_CQE(n, 1, SIZE, usage(n, self->copies));
}

TEST_F(single, peer_is_silent)
{
	struct netrig *n = &self->net;

	if (!variant->card)
		SKIP(return, "its peer is this machine");
	queue_all(_metadata, self);
	ASSERT_EQ(0, net_set(self->tcp.tx, IPPROTO_TCP, TCP_USER_TIMEOUT, 500));
	ASSERT_EQ(0, net_netem(n, NET_PEER, "loss 100%"));
	DIED(n, -ETIMEDOUT);
}

/*
 * In a netns that only sockets are left of. What was closed there is still sent, and the
 * netns ends when nothing is: its end of a veth goes, and the one here with it.
 */
TEST_F(single, netns_goes)
{
	struct netrig *n = &self->net;
	int ret, ns, home;

	if (variant->card || !variant->user)
		SKIP(return, "a netns of its own has only loopback");
	net_close(&self->tcp);
	home = net_ns_open();
	ASSERT_LE(0, home);
	ns = net_ns_new();
	ASSERT_LE(0, ns);
	ASSERT_EQ(0, net_ip(home, "link add name stays type veth peer name goes\n"
				  "link set dev goes netns /proc/%d/fd/%d\n", getpid(), ns));
	ASSERT_EQ(0, net_ip(ns, "link set dev lo up\n"));
	ASSERT_EQ(0, net_ns_enter(ns));
	ret = net_local("127.0.0.1", &self->tcp);
	EXPECT_EQ(0, net_ns_enter(home));
	ASSERT_EQ(0, ret);
	close(ns);
	queue_all(_metadata, self);
	net_orphan(&self->tcp.tx);
	EXPECT_TRUE(uring_quiet(&n->ring, QUIET_MS));
	EXPECT_NE(0, if_nametoindex("stays"));
	/* with data that was not read: a reset */
	close(self->tcp.rx);
	self->tcp.rx = -1;
	DIED(n, -ECONNRESET);
	for (double end = net_deadline(); if_nametoindex("stays") && lab_now() < end;)
		lab_sleep_ms(10);
	EXPECT_EQ(0, if_nametoindex("stays"));
	close(home);
}

/*
 * A process that ends takes its ring along; the connection may take its time. What a worker
 * has to say the ring may have to find when it ends
 */
TEST_F(single, ring_goes_first)
{
	struct netrig *n = &self->net;
	const struct piece all = { SEED, 0, SIZE };
	char c = 'x';
	int pipes[2];

	NOT_OF_COPIES(self);
	narrow(&self->tcp);
	ASSERT_EQ(0, pipe2(pipes, O_NONBLOCK));
	prep(self, 0, SIZE, self->sqe_flags | IOSQE_IO_LINK);
	uring_prep_rw(&n->ring, IORING_OP_WRITE, pipes[1], 0, (uintptr_t)&c, 1, 0);
	ASSERT_EQ(2, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, wait_queued(self->tcp.tx, SIZE));
	if (!self->sqe_flags) {
		EXPECT_TRUE(uring_quiet(&n->ring, QUIET_MS));
	}
	uring_exit(&n->ring);
	ASSERT_EQ(0, net_recv(self->tcp.rx, &all, 1));
	/* what is linked to it does not begin any more */
	lab_sleep_ms(QUIET_MS);
	EXPECT_EQ(-1, read(pipes[0], &c, 1));
	EXPECT_EQ(EAGAIN, errno);
	close(pipes[0]);
	close(pipes[1]);
}

/* Errors before anything is sent: one, too */
TEST_F(single, errors)
{
	struct netrig *n = &self->net;
	struct io_uring_sqe *sqe;
	int i = 0;

	if (!self->registered)
		SKIP(return, "the addresses are right, up to some point");
	/* a notification that there is not has no user_data */
	sqe = prep(self, 0, 100, self->sqe_flags);
	sqe->addr3 = 5;
	sqe->user_data = ++i;
	ASSERT_EQ(1, uring_submit(&n->ring, 0));
	ONE_CQE(n, i, -EINVAL, 0);
	sqe = prep(self, 0, 100, self->sqe_flags);
	sqe->ioprio |= 1U << 7;
	sqe->user_data = ++i;
	ASSERT_EQ(1, uring_submit(&n->ring, 0));
	ONE_CQE(n, i, -EINVAL, 0);
	/* out of range, and no slot */
	prep(self, SIZE - 50, 100, self->sqe_flags)->user_data = ++i;
	ASSERT_EQ(1, uring_submit(&n->ring, 0));
	ONE_CQE(n, i, -EFAULT, 0);
	sqe = prep(self, 0, 100, self->sqe_flags);
	sqe->buf_index = NETRIG_SLOTS;
	sqe->user_data = ++i;
	ASSERT_EQ(1, uring_submit(&n->ring, 0));
	ONE_CQE(n, i, -EFAULT, 0);
	/* no socket */
	sqe = prep(self, 0, 100, self->sqe_flags);
	sqe->fd = n->ring.fd;
	sqe->user_data = ++i;
	ASSERT_EQ(1, uring_submit(&n->ring, 0));
	ONE_CQE(n, i, -ENOTSOCK, 0);
	/* after the end */
	shutdown(self->tcp.tx, SHUT_WR);
	prep(self, 0, 100, self->sqe_flags)->user_data = ++i;
	ASSERT_EQ(1, uring_submit(&n->ring, 0));
	ONE_CQE(n, i, -EPIPE, 0);
	EXPECT_TRUE(uring_quiet(&n->ring, 20));
}

/* A datagram has left when the card is through with it: nobody acknowledges it */
TEST_F(single, datagrams)
{
	struct netrig *n = &self->net;
	struct net_pair udp = NET_PAIR_NONE;
	const struct piece p = { SEED, 4096, 1000 };
	struct io_uring_sqe *sqe;

	if (!variant->card)
		SKIP(return, "loopback's sockets are made for TCP here");
	ASSERT_EQ(0, net_udp(n, variant->family ?: AF_INET, &udp));
	for (unsigned int i = 0; i < 10; i += 2) {
		sqe = prep(self, 4096, 1000, self->sqe_flags | IOSQE_IO_LINK);
		sqe->fd = udp.tx;
		sqe->user_data = i;
		sqe = uring_sqe(&n->ring);
		sqe->opcode = IORING_OP_NOP;
		sqe->user_data = i + 1;
		ASSERT_EQ(2, uring_submit(&n->ring, 0));
		ASSERT_EQ(0, net_recv_datagram(udp.rx, &p, 1));
		ONE_CQE(n, i, 1000, 0);
		ONE_CQE(n, i + 1, 0, 0);
	}
	/* one that is too long: nothing leaves */
	sqe = prep(self, 0, 70000, self->sqe_flags);
	sqe->fd = udp.tx;
	sqe->user_data = 12;
	ASSERT_EQ(1, uring_submit(&n->ring, 0));
	ONE_CQE(n, 12, -EMSGSIZE, 0);
	EXPECT_TRUE(uring_quiet(&n->ring, 20));
	net_close(&udp);
}

/* A kernel that has it says so */
TEST(is_said)
{
	struct io_uring_query_regbuf q;

	if (!kernel_has_regbuf())
		SKIP(return, "this kernel has no dma-buf buffers");
	ASSERT_EQ(0, query_regbuf(&q));
	EXPECT_TRUE(q.features & IO_REGBUF_FEATURE_SINGLE_CQE);
}

TEST_HARNESS_MAIN
