// SPDX-License-Identifier: GPL-2.0
/*
 * When charges to RLIMIT_MEMLOCK end: not before the memory is let go of, whoever is
 * killed or has to wait meanwhile.
 */
#include <signal.h>
#include <sys/wait.h>
#include <linux/dma-buf-bar.h>

#include "acct.h"
#include "common.h"
#include "netsock.h"

#define SIZE	ACCT_SIZE
#define PAGE	4096ULL

FIXTURE(ends) {
	int disk;
};

FIXTURE_SETUP(ends)
{
	if (!kernel_has_regbuf())
		SKIP(return, "this kernel has no dma-buf buffers");
	self->disk = NEED_DISK("LAB_NVME_MAIN");
}

FIXTURE_TEARDOWN(ends)
{
	close(self->disk);
}

static int hold[2];
static int go[2];

static int pipes(void)
{
	return pipe(hold) || pipe(go) ? -errno : 0;
}

static void close_pipes(void)
{
	/* prepared() has closed the other one */
	close(hold[0]);
	close(go[0]);
	close(go[1]);
}

/* The parent's end: 0 when the child is, -EPIPE when it has ended */
static int prepared(void)
{
	char c;

	close(hold[1]);
	return read(hold[0], &c, 1) == 1 ? 0 : -EPIPE;
}

/* What can be done before the exporter is slow is done */
static int ready(void)
{
	char c = 0;

	CHECK(write(hold[1], &c, 1) == 1);
	CHECK(read(go[0], &c, 1) == 1);
	return 0;
}

static int waiting_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);

	d.flags = IO_REGBUF_DMABUF_PIN;
	CHECK(!ready());
	CHECK(!reg_one(&a->ring, 0, &d));
	return 0;
}

/* The slot costs its table, and the target that is added has the memory pinned */
static int adding_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);

	CHECK(!reg_one(&a->ring, 0, &d));
	CHECK(!ready());
	d = desc_add(a->more);
	CHECK(!reg_one(&a->ring, 0, &d));
	return 0;
}

/* The same user: what it has given up counts until it is gone */
static int settled_child(struct acct *a)
{
	char c = 0;

	CHECK(acct_locked(a) == a->kept);
	CHECK(write(hold[1], &c, 1) == 1);
	CHECK(acct_locked_becomes(a, 0));
	return 0;
}

/*
 * Killed when the memory is pinned, but not mapped yet, and nobody can unpin it for
 * the time being: it is charged all the same.
 */
static void killed(struct __test_metadata *_metadata, struct acct *a,
		   int (*waiting)(struct acct *a))
{
	struct dma_buf_bar_info info = { };
	double end_of_wait = lab_now() + 10;
	pid_t pid, holder;
	char c = 0;

	EXPECT_TRUE(bufinfo_wait(a->mem.fd, 0, 5000));
	ASSERT_EQ(0, pipes());
	pid = acct_start_as(acct_uid, waiting, a);
	ASSERT_EQ(0, prepared());
	ASSERT_EQ(0, bar_fence(&a->mem, 1));
	ASSERT_EQ(1, write(go[1], &c, 1));
	while (!info.pinned && lab_now() < end_of_wait) {
		ASSERT_EQ(0, bar_info(&a->mem, &info));
		lab_sleep_ms(20);
	}
	ASSERT_EQ(1, info.pinned);
	holder = bar_hold(&a->mem);
	ASSERT_GT(holder, 0);
	kill(pid, SIGKILL);
	EXPECT_EQ(-1, acct_end(pid));
	close_pipes();
	ASSERT_EQ(0, pipes());
	pid = acct_start_as(acct_uid++, settled_child, a);
	EXPECT_EQ(0, prepared());
	EXPECT_EQ(0, bar_let_go(holder));
	EXPECT_EQ(0, acct_end(pid));
	close_pipes();
	EXPECT_TRUE(bufinfo_wait(a->mem.fd, 0, 5000));
	ASSERT_EQ(0, bar_info(&a->mem, &info));
	EXPECT_EQ(0, info.pinned);
	bar_fence(&a->mem, 0);
}

TEST_F(ends, killed_while_pinned)
{
	struct acct bar;

	if (acct_up(&bar, MEM_BAR_SYSTEM, self->disk)) {
		acct_down(&bar);
		SKIP(return, "no /dev/dmabuf_bar");
	}
	bar.kept = SIZE;
	killed(_metadata, &bar, waiting_child);
	acct_down(&bar);
}

static int beyond_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);

	d.flags = IO_REGBUF_DMABUF_PIN;
	CHECK(!acct_limit(SIZE - PAGE));
	CHECK(!ready());
	CHECK(reg_one(&a->ring, 0, &d) == -ENOMEM);
	return 0;
}

/* Where the memory is, only a mapping tells: it is not pinned until that can be made */
TEST_F(ends, beyond_the_limit_while_a_fence_is_pending)
{
	struct dma_buf_bar_info info;
	struct acct bar;
	char c = 0;
	pid_t pid;

	if (acct_up(&bar, MEM_BAR_SYSTEM, self->disk)) {
		acct_down(&bar);
		SKIP(return, "no /dev/dmabuf_bar");
	}
	ASSERT_EQ(0, pipes());
	pid = acct_start(beyond_child, &bar);
	ASSERT_EQ(0, prepared());
	ASSERT_EQ(0, bar_fence(&bar.mem, 1));
	ASSERT_EQ(1, write(go[1], &c, 1));
	lab_sleep_ms(500);
	ASSERT_EQ(0, bar_info(&bar.mem, &info));
	EXPECT_EQ(0, info.pinned);
	ASSERT_EQ(0, waitpid(pid, NULL, WNOHANG));
	ASSERT_EQ(0, bar_fence(&bar.mem, 0));
	EXPECT_EQ(0, acct_end(pid));
	ASSERT_EQ(0, bar_info(&bar.mem, &info));
	EXPECT_EQ(0, info.pinned);
	close_pipes();
	acct_down(&bar);
}

/* A socket pins, so it is as with PIN */
FIXTURE(card) {
	struct netrig net;
	struct net_pair tcp;
};

FIXTURE_SETUP(card)
{
	netrig_init(&self->net);
	self->tcp = NET_PAIR_NONE;
	if (!kernel_has_regbuf())
		SKIP(return, "this kernel has no dma-buf buffers");
	NEED_ENV("LAB_NET_E1000E");
	NETRIG_UP(&self->net, "e1000e", MEM_UDMABUF, 64 * KiB);
	ASSERT_EQ(0, net_tcp(&self->net, AF_INET, &self->tcp));
}

FIXTURE_TEARDOWN(card)
{
	net_close(&self->tcp);
	netrig_down(&self->net);
}

static int socket_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);
	__u64 memory = mem_is_bar(&a->mem) ? 0 : SIZE, base = acct_locked(a);

	CHECK(!acct_costs(a, 0, &d, memory + a->table));
	d.flags = IO_REGBUF_DMABUF_COPY_OK;
	CHECK(!acct_costs(a, 1, &d, 0));
	CHECK(!reg_clear(&a->ring, 0));
	CHECK(!reg_clear(&a->ring, 1));
	CHECK(acct_locked_becomes(a, base));
	return 0;
}

TEST_F(card, socket)
{
	static const enum mem_kind kinds[] = { MEM_UDMABUF, MEM_BAR };
	struct acct a;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		ASSERT_EQ(0, acct_up(&a, kinds[i], self->tcp.tx));
		EXPECT_EQ(0, acct_run(socket_child, &a));
		acct_down(&a);
	}
}

static int clearing_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);

	CHECK(!reg_one(&a->ring, 0, &d));
	CHECK(acct_locked(a) == a->kept);
	CHECK(!ready());
	CHECK(!reg_clear(&a->ring, 0));
	lab_sleep_ms(300);
	CHECK(acct_locked(a) == a->kept);
	close(hold[1]);
	CHECK(acct_locked_becomes(a, 0));
	return 0;
}

/* Nothing is queued, but nobody can unpin the memory for the time being */
TEST_F(card, cleared_while_locked)
{
	struct acct bar;
	pid_t pid, holder;
	char c = 0;

	ASSERT_EQ(0, acct_up(&bar, MEM_BAR_SYSTEM, self->tcp.tx));
	bar.kept = SIZE + bar.table;
	EXPECT_TRUE(bufinfo_wait(bar.mem.fd, 0, 5000));
	ASSERT_EQ(0, pipes());
	pid = acct_start(clearing_child, &bar);
	ASSERT_EQ(0, prepared());
	holder = bar_hold(&bar.mem);
	ASSERT_GT(holder, 0);
	ASSERT_EQ(1, write(go[1], &c, 1));
	/* until the child has looked */
	EXPECT_EQ(0, read(hold[0], &c, 1));
	EXPECT_EQ(0, bar_let_go(holder));
	EXPECT_EQ(0, acct_end(pid));
	close_pipes();
	acct_down(&bar);
}

/* As killed_while_pinned, by ADD_TARGETS */
TEST_F(card, killed_while_a_target_is_added)
{
	int disk = NEED_DISK("LAB_NVME_MAIN");
	struct acct bar;

	ASSERT_EQ(0, acct_up(&bar, MEM_BAR_SYSTEM, disk));
	bar.more = self->tcp.tx;
	bar.kept = SIZE + bar.table;
	killed(_metadata, &bar, adding_child);
	acct_down(&bar);
	close(disk);
}

TEST_HARNESS_MAIN
