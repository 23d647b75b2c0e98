// SPDX-License-Identifier: GPL-2.0
/*
 * Nobody but the caller waits for an exporter, and the caller can be killed. The
 * exporter of the tests is slow: a fence with kernel usage is pending on its
 * dma-buf, or the reservation lock is held, for ten seconds unless that is ended.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <linux/dma-buf.h>
#include <linux/dma-buf-bar.h>

#include "common.h"

#define SIZE	(1 * MiB)
#define AT_ONCE	(lab_scale(1, 3))	/* seconds */

/* Somebody who waits in a process of its own */
enum waiter {
	WAIT_REGISTER,		/* the first that wants this attachment */
	WAIT_REGISTER_SAME,	/* one more that wants it */
	WAIT_REGISTER_OTHER,	/* another attachment of the same memory */
	WAIT_BUFFERS2,
	WAIT_ADD_TARGETS,
	WAIT_READ,		/* a worker, after a move */
	WAIT_NR,
};

struct waiters {
	struct rig rig;
	int other;		/* another drive */
	pid_t pids[WAIT_NR];
	pid_t holder;		/* of the reservation lock */
};

enum slow { SLOW_FENCE, SLOW_LOCK };

FIXTURE(waits) {
	struct waiters w;
};

FIXTURE_VARIANT(waits) {
	enum waiter what;
};

FIXTURE_VARIANT_ADD(waits, registration) { WAIT_REGISTER };
FIXTURE_VARIANT_ADD(waits, same_attachment) { WAIT_REGISTER_SAME };
FIXTURE_VARIANT_ADD(waits, other_attachment) { WAIT_REGISTER_OTHER };
FIXTURE_VARIANT_ADD(waits, buffers2) { WAIT_BUFFERS2 };
FIXTURE_VARIANT_ADD(waits, add_targets) { WAIT_ADD_TARGETS };
FIXTURE_VARIANT_ADD(waits, read_after_a_move) { WAIT_READ };

static int slow_begin(struct waiters *w, enum slow how)
{
	if (how == SLOW_FENCE)
		return bar_fence(&w->rig.mem, 1);
	w->holder = bar_hold(&w->rig.mem);
	return w->holder < 0 ? w->holder : 0;
}

/* An error if it was not slow all the time */
static int slow_end(struct waiters *w, enum slow how)
{
	pid_t holder = w->holder;

	if (how == SLOW_FENCE)
		return bar_fence(&w->rig.mem, 0);
	w->holder = 0;
	return bar_let_go(holder);
}

FIXTURE_SETUP(waits)
{
	RIG_UP(&self->w.rig, "LAB_NVME_MAIN", MEM_BAR, SIZE, 0);
	self->w.other = NEED_DISK("LAB_NVME_MP");
}

FIXTURE_TEARDOWN(waits)
{
	for (int i = 0; i < WAIT_NR; i++) {
		if (self->w.pids[i] <= 0)
			continue;
		kill(self->w.pids[i], SIGKILL);
		waitpid(self->w.pids[i], NULL, 0);
	}
	slow_end(&self->w, SLOW_FENCE);
	if (self->w.holder > 0)
		slow_end(&self->w, SLOW_LOCK);
	close(self->w.other);
	EXPECT_TRUE(bufinfo_wait(self->w.rig.mem.fd, 0, 5000) ||
		    self->w.rig.mem.fd < 0);
	rig_down(&self->w.rig);
}

/* What a waiter can do before the fence is pending */
static int waiter_prepare(struct waiters *w, enum waiter what,
			  struct uring *ring)
{
	int ret = uring_init(ring, 8, 0);

	if (!ret && what != WAIT_BUFFERS2)
		ret = reg_sparse(ring, 1);
	if (!ret && (what == WAIT_ADD_TARGETS || what == WAIT_READ))
		ret = reg_dmabuf(ring, 0, w->rig.mem.fd, w->rig.disk);
	return ret;
}

static int waiter_wait(struct waiters *w, enum waiter what,
		       struct uring *ring)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(w->rig.mem.fd,
						    w->rig.disk);

	switch (what) {
	case WAIT_REGISTER_OTHER:
		d.flags = IO_REGBUF_DMABUF_RDONLY | IO_REGBUF_DMABUF_PIN;
		return reg_one(ring, 0, &d);
	case WAIT_BUFFERS2:
		return reg_table(ring, &d, NULL, 1);
	case WAIT_ADD_TARGETS:
		d = desc_add(w->other);
		return reg_one(ring, 0, &d);
	case WAIT_READ:
		return uring_read(ring, w->rig.disk, 0, 0, 4096, 0);
	default:
		return reg_one(ring, 0, &d);
	}
}

/*
 * A process that says when it has prepared itself, waits until it may go on, and
 * then does what makes it wait. The pipes keep tests from guessing.
 */
static int waiter_start(struct waiters *w, enum waiter what, int *go)
{
	int ready[2], start[2];
	struct uring ring;
	char c = 0;

	if (pipe(ready) || pipe(start))
		return -errno;
	w->pids[what] = fork();
	if (w->pids[what] < 0)
		return -errno;
	if (!w->pids[what]) {
		int ret = waiter_prepare(w, what, &ring);

		if (ret || write(ready[1], &c, 1) != 1 || read(start[0], &c, 1) != 1)
			_exit(100);
		_exit(waiter_wait(w, what, &ring) < 0 ? 101 : 0);
	}
	close(ready[1]);
	close(start[0]);
	*go = start[1];
	c = read(ready[0], &c, 1) == 1;
	close(ready[0]);
	return c ? 0 : -ECHILD;
}

static int waiter_go(int go)
{
	char c = 0;
	int ret = write(go, &c, 1) == 1 ? 0 : -errno;

	close(go);
	return ret;
}

/* Seconds until a process has ended, or -1 after five */
static double ended_after(pid_t pid)
{
	double start = lab_now();

	do {
		if (waitpid(pid, NULL, WNOHANG) == pid)
			return lab_now() - start;
		lab_sleep_ms(10);
	} while (lab_now() - start < 5);
	return -1;
}

/* With somebody else who waits in front: whoever waits is gone when killed */
static void killed(struct __test_metadata *_metadata, struct waiters *w,
		   enum waiter what, enum slow how)
{
	struct rig *rig = &w->rig;
	int first = -1, go;
	double t;

	if (what != WAIT_REGISTER)
		ASSERT_EQ(0, waiter_start(w, WAIT_REGISTER, &first));
	ASSERT_EQ(0, waiter_start(w, what, &go));
	if (what == WAIT_READ)
		ASSERT_EQ(0, bar_move(&rig->mem, DMA_BUF_BAR_PLACE_B));
	ASSERT_EQ(0, slow_begin(w, how));
	if (first >= 0) {
		ASSERT_EQ(0, waiter_go(first));
		lab_sleep_ms(200);
	}
	ASSERT_EQ(0, waiter_go(go));
	lab_sleep_ms(300);
	ASSERT_EQ(0, waitpid(w->pids[what], NULL, WNOHANG));
	ASSERT_EQ(0, kill(w->pids[what], SIGKILL));
	t = ended_after(w->pids[what]);
	EXPECT_GE(t, 0);
	EXPECT_LE(t, AT_ONCE);
	if (t >= 0)
		w->pids[what] = 0;
	/* nothing is left of it, and it was slow all the time */
	ASSERT_EQ(0, slow_end(w, how));
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	ASSERT_EQ(0, reg_clear(&rig->ring, 0));
}

TEST_F(waits, can_be_killed)
{
	killed(_metadata, &self->w, variant->what, SLOW_FENCE);
}

TEST_F(waits, can_be_killed_while_locked)
{
	killed(_metadata, &self->w, variant->what, SLOW_LOCK);
}

/* What others do with the same dma-buf */
TEST_F(waits, leaves_the_dma_buf_alone)
{
	struct dma_buf_export_sync_file sync = { .flags = DMA_BUF_SYNC_READ };
	struct pollfd pf = { .fd = self->w.rig.mem.fd, .events = POLLIN };
	struct epoll_event ev = { .events = EPOLLIN };
	struct rig *rig = &self->w.rig;
	int go, ep = epoll_create1(0);
	double start;

	ASSERT_GE(ep, 0);
	ASSERT_EQ(0, waiter_start(&self->w, variant->what, &go));
	if (variant->what == WAIT_READ)
		ASSERT_EQ(0, bar_move(&rig->mem, DMA_BUF_BAR_PLACE_B));
	ASSERT_EQ(0, bar_fence(&rig->mem, 1));
	ASSERT_EQ(0, waiter_go(go));
	lab_sleep_ms(300);
	ASSERT_EQ(0, waitpid(self->w.pids[variant->what], NULL, WNOHANG));

	start = lab_now();
	EXPECT_EQ(0, poll(&pf, 1, 0));
	EXPECT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, rig->mem.fd, &ev));
	EXPECT_EQ(0, ioctl(rig->mem.fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &sync));
	EXPECT_LE(lab_now() - start, AT_ONCE);
	close(sync.fd);
	close(ep);
	/* it was pending all the time: who waits gets on when it is signalled */
	ASSERT_EQ(0, waitpid(self->w.pids[variant->what], NULL, WNOHANG));
	ASSERT_EQ(0, bar_fence(&rig->mem, 0));
	EXPECT_GE(ended_after(self->w.pids[variant->what]), 0);
	self->w.pids[variant->what] = 0;
}

/* What others do with the same drive: another dma-buf is registered, used, cleared */
static void left_alone(struct __test_metadata *_metadata, struct waiters *w,
		       enum waiter what, enum slow how)
{
	struct rig *rig = &w->rig;
	struct mem other;
	int first = -1, go;
	double start;

	ASSERT_EQ(0, mem_create(&other, MEM_UDMABUF, SIZE));
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 1, other.fd, rig->disk));
	if (what != WAIT_REGISTER)
		ASSERT_EQ(0, waiter_start(w, WAIT_REGISTER, &first));
	ASSERT_EQ(0, waiter_start(w, what, &go));
	if (what == WAIT_READ)
		ASSERT_EQ(0, bar_move(&rig->mem, DMA_BUF_BAR_PLACE_B));
	ASSERT_EQ(0, slow_begin(w, how));
	if (first >= 0) {
		ASSERT_EQ(0, waiter_go(first));
		lab_sleep_ms(200);
	}
	ASSERT_EQ(0, waiter_go(go));
	lab_sleep_ms(300);

	start = lab_now();
	EXPECT_EQ(0, reg_dmabuf(&rig->ring, 0, other.fd, rig->disk));
	EXPECT_EQ(4096, uring_read(&rig->ring, rig->disk, 0, 0, 4096, 0));
	EXPECT_EQ(4096, uring_read(&rig->ring, rig->disk, 0, 0, 4096, 1));
	EXPECT_EQ(0, reg_clear(&rig->ring, 1));
	EXPECT_EQ(0, reg_clear(&rig->ring, 0));
	EXPECT_LE(lab_now() - start, AT_ONCE);
	ASSERT_EQ(0, waitpid(w->pids[what], NULL, WNOHANG));
	ASSERT_EQ(0, slow_end(w, how));
	EXPECT_GE(ended_after(w->pids[what]), 0);
	w->pids[what] = 0;
	mem_destroy(&other);
}

TEST_F(waits, leaves_the_device_alone)
{
	left_alone(_metadata, &self->w, variant->what, SLOW_FENCE);
}

TEST_F(waits, leaves_the_device_alone_while_locked)
{
	left_alone(_metadata, &self->w, variant->what, SLOW_LOCK);
}

/*
 * What the same task does otherwise: requests that wait have workers of their own,
 * as many as it takes, and do not use up the one that there is for I/O.
 */
TEST(leaves_other_work_of_the_task_alone)
{
	unsigned int workers[2] = { 1, 0 };	/* for block devices, for others */
	struct io_uring_sqe *sqe;
	struct uring_res res;
	struct mem other;
	struct rig rig;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_BAR, SIZE, 0);
	ASSERT_EQ(0, mem_create(&other, MEM_UDMABUF, SIZE));
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk));
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 1, other.fd, rig.disk));
	ASSERT_EQ(0, uring_register(rig.ring.fd, IORING_REGISTER_IOWQ_MAX_WORKERS,
				    workers, 2));
	ASSERT_EQ(0, bar_move(&rig.mem, DMA_BUF_BAR_PLACE_B));
	ASSERT_EQ(0, bar_fence(&rig.mem, 1));
	for (int i = 0; i < 4; i++)
		uring_prep_rw(&rig.ring, IORING_OP_READ_FIXED, rig.disk, 0, 0,
			      4096, 0);
	ASSERT_EQ(4, uring_submit(&rig.ring, 0));
	ASSERT_EQ(-ETIME, uring_wait(&rig.ring, &res, 300));

	sqe = uring_prep_rw(&rig.ring, IORING_OP_READ_FIXED, rig.disk, 0, 0, 4096, 1);
	sqe->user_data = 1;
	sqe->flags = IOSQE_ASYNC;
	ASSERT_EQ(1, uring_submit(&rig.ring, 0));
	EXPECT_EQ(0, uring_wait(&rig.ring, &res, AT_ONCE * 1000));
	EXPECT_EQ(1, res.user_data);
	EXPECT_EQ(4096, res.res);

	ASSERT_EQ(0, bar_fence(&rig.mem, 0));
	for (int i = 0; i < 4; i++) {
		ASSERT_EQ(0, uring_wait(&rig.ring, &res, 20000));
		EXPECT_EQ(4096, res.res);
	}
	mem_destroy(&other);
	rig_down(&rig);
}

/* uring_wait() for a ring that polls, where waiting knows no time-out */
static int polled_wait(struct uring *ring, struct uring_res *res, int timeout_ms)
{
	double end = lab_now() + timeout_ms / 1000.0;
	int ret;

	while (!uring_peek(ring, res)) {
		if (lab_now() > end)
			return -ETIME;
		ret = uring_submit(ring, 0);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* What the same task reads from the same file, on a ring that polls */
TEST(leaves_other_work_on_the_file_alone)
{
	struct uring_res res;
	struct mem other;
	struct rig rig;
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/waits", NEED_ENV("LAB_EXT4"));
	RIG_UP(&rig, "LAB_NVME_FS", MEM_BAR, SIZE, IORING_SETUP_IOPOLL);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, disk_fill(fd, 0, 2 * 4096, 31));
	ASSERT_EQ(0, mem_create(&other, MEM_BAR, SIZE));
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, fd));
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 1, other.fd, fd));
	/* both have to be mapped anew, and one of them can't */
	ASSERT_EQ(0, bar_move(&rig.mem, DMA_BUF_BAR_PLACE_B));
	ASSERT_EQ(0, bar_move(&other, DMA_BUF_BAR_PLACE_B));
	ASSERT_EQ(0, bar_fence(&rig.mem, 1));
	uring_prep_rw(&rig.ring, IORING_OP_READ_FIXED, fd, 0, 0, 4096, 0);
	ASSERT_EQ(1, uring_submit(&rig.ring, 0));
	ASSERT_EQ(-ETIME, polled_wait(&rig.ring, &res, 300));

	uring_prep_rw(&rig.ring, IORING_OP_READ_FIXED, fd, 4096, 0, 4096,
		      1)->user_data = 1;
	ASSERT_EQ(1, uring_submit(&rig.ring, 0));
	EXPECT_EQ(0, polled_wait(&rig.ring, &res, AT_ONCE * 1000));
	EXPECT_EQ(1, res.user_data);
	EXPECT_EQ(4096, res.res);
	EXPECT_EQ(NO_MISMATCH, mem_check(&other, 0, 4096, 4096, 31));

	ASSERT_EQ(0, bar_fence(&rig.mem, 0));
	ASSERT_EQ(0, polled_wait(&rig.ring, &res, 20000));
	EXPECT_EQ(4096, res.res);
	EXPECT_EQ(NO_MISMATCH, mem_check(&rig.mem, 0, 0, 4096, 31));
	mem_destroy(&other);
	close(fd);
	unlink(path);
	rig_down(&rig);
}

static pid_t interrupted_until;	/* the end of this process */
static int interruptions;

static void interrupt(int sig __attribute__((unused)))
{
	if (__atomic_add_fetch(&interruptions, 1, __ATOMIC_RELAXED) == 200)
		kill(interrupted_until, SIGKILL);
}

/* What the tests themselves look at: a signal is no reason to see no attachment */
TEST(attachments_are_counted_while_interrupted)
{
	struct itimerval often = { { 0, 2000 }, { 0, 2000 } }, never = { };
	struct sigaction sa = { .sa_handler = interrupt };
	struct rig rig;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_BAR, SIZE, 0);
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk));
	ASSERT_EQ(1, bufinfo_attachments(rig.mem.fd));
	interrupted_until = bar_hold(&rig.mem);
	ASSERT_GT(interrupted_until, 0);
	ASSERT_EQ(0, sigaction(SIGALRM, &sa, NULL));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &often, NULL));
	/* the list is made under the lock */
	EXPECT_EQ(1, bufinfo_attachments(rig.mem.fd));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &never, NULL));
	EXPECT_GE(__atomic_load_n(&interruptions, __ATOMIC_RELAXED), 200);
	EXPECT_EQ(0, bar_let_go(interrupted_until));
	rig_down(&rig);
}

TEST_HARNESS_MAIN
