// SPDX-License-Identifier: GPL-2.0
/*
 * Areas that may be copied to, and exporters that have work to do on the memory just
 * then, refuse, or are slow: who waits for them, and for how long.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <linux/dma-buf.h>
#include <linux/dma-buf-bar.h>

#include "common.h"
#include "copier.h"
#include "fault.h"

#define SEED		NET_SEED
#define SIZE		COPIER_SIZE
#define DEBUGFS		"/sys/kernel/debug/dma_buf_bar/"
#define QUIET		300	/* milliseconds in which nothing arrives */
/* seconds, which a fence takes longer than: it ends by itself after ten */
#define NO_FENCE	8

FIXTURE(waits) {
	struct relay relay;
};

FIXTURE_SETUP(waits)
{
	COPIER_UP(&self->relay, MEM_BAR);
}

FIXTURE_TEARDOWN(waits)
{
	file_write(DEBUGFS "fail_cpu_count", "0");
	file_write(DEBUGFS "cpu_fence_count", "0");
	relay_down(&self->relay);
}

/* The ring is for other requests, and its lock for whoever needs it */
static void check_nobody_waits(struct __test_metadata *_metadata, struct relay *r)
{
	struct io_uring_sqe *sqe;
	struct uring other;

	ASSERT_EQ(0, uring_init(&other, 8, 0));
	EXPECT_EQ(0, uring_ready(&r->ring));
	EXPECT_EQ(0, copier_bytes(r, 0));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&r->mem, 0, SIZE, POISON));
	sqe = uring_sqe(&r->ring);
	sqe->opcode = IORING_OP_NOP;
	EXPECT_EQ(0, uring_do(&r->ring));
	EXPECT_EQ(0, reg_clone(&other, &r->ring));
	uring_exit(&other);
}

/* Nothing is copied before the exporter is ready */
TEST_F(waits, exporter_is_waited_for)
{
	const struct piece p = { SEED, 0, 64 * KiB };
	struct relay *r = &self->relay;
	struct arrived pieces[64];
	int nr;

	ASSERT_EQ(0, copier_open(r, 0, SIZE));
	ASSERT_EQ(0, bar_fence(&r->mem, 1));
	ASSERT_EQ(0, copier_receive(r, 0));
	ASSERT_EQ(0, piece_send(r->tcp.tx, &p, 0));
	EXPECT_EQ(-ETIME, uring_submit_for(&r->ring, 1, QUIET));
	check_nobody_waits(_metadata, r);
	ASSERT_EQ(0, bar_fence(&r->mem, 0));
	nr = relay_arrive(r, &p, pieces, ARRAY_SIZE(pieces));
	ASSERT_GT(nr, 0);
	CHECK_COPIED(r, p.len, (unsigned int)nr);
}

/* It was ready when it was looked at, and is not when the copy begins */
TEST_F(waits, fence_comes_meanwhile)
{
	const struct piece p = { SEED, 0, 64 * KiB };
	struct relay *r = &self->relay;
	struct arrived pieces[64];
	double start;
	int nr;

	ASSERT_EQ(0, copier_open(r, 0, SIZE));
	ASSERT_EQ(0, piece_send(r->tcp.tx, &p, 0));
	ASSERT_EQ(0, file_write(DEBUGFS "cpu_fence_count", "1"));
	start = lab_now();
	ASSERT_EQ(0, copier_receive(r, 0));
	EXPECT_EQ(-ETIME, uring_submit_for(&r->ring, 1, QUIET));
	check_nobody_waits(_metadata, r);
	ASSERT_EQ(0, bar_fence(&r->mem, 0));
	nr = relay_arrive(r, &p, pieces, ARRAY_SIZE(pieces));
	ASSERT_GT(nr, 0);
	EXPECT_LE(lab_now() - start, NO_FENCE);
	CHECK_COPIED(r, p.len, (unsigned int)nr);
}

/* The fence of @from, for @to as well */
static int share_fence(const struct mem *from, const struct mem *to)
{
	struct dma_buf_export_sync_file ex = { .flags = DMA_BUF_SYNC_RW };
	struct dma_buf_import_sync_file im = { .flags = DMA_BUF_SYNC_WRITE };
	int ret;

	if (ioctl(from->fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &ex))
		return -errno;
	im.fd = ex.fd;
	ret = ioctl(to->fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &im) ? -errno : 0;
	close(ex.fd);
	return ret;
}

/* All that are there, and those that come meanwhile */
TEST_F(waits, several_fences)
{
	const struct piece p = { SEED, 0, 64 * KiB };
	struct relay *r = &self->relay;
	struct arrived pieces[64];
	struct mem other;
	int nr;

	ASSERT_EQ(0, mem_create_bar(&other, 4096, 0, 0));
	ASSERT_EQ(0, bar_fence(&other, 1));
	ASSERT_EQ(0, copier_open(r, 0, SIZE));
	ASSERT_EQ(0, bar_fence(&r->mem, 1));
	ASSERT_EQ(0, share_fence(&other, &r->mem));
	ASSERT_EQ(0, copier_receive(r, 0));
	ASSERT_EQ(0, piece_send(r->tcp.tx, &p, 0));
	EXPECT_EQ(-ETIME, uring_submit_for(&r->ring, 1, QUIET));
	ASSERT_EQ(0, bar_fence(&r->mem, 0));
	EXPECT_EQ(-ETIME, uring_submit_for(&r->ring, 1, QUIET));
	ASSERT_EQ(0, file_write(DEBUGFS "cpu_fence_count", "1"));
	ASSERT_EQ(0, bar_fence(&other, 0));
	EXPECT_EQ(-ETIME, uring_submit_for(&r->ring, 1, QUIET));
	check_nobody_waits(_metadata, r);
	ASSERT_EQ(0, bar_fence(&r->mem, 0));
	nr = relay_arrive(r, &p, pieces, ARRAY_SIZE(pieces));
	ASSERT_GT(nr, 0);
	CHECK_COPIED(r, p.len, (unsigned int)nr);
	mem_destroy(&other);
}

/* --- several sockets that wait for one exporter --- */

#define OTHERS	4
#define HALF	(32 * KiB)
#define BRIEF	20	/* milliseconds in which a ring runs what it has to run */

/* What comes by the socket of that number; 0: that of the relay itself */
static struct piece piece_of(unsigned int i)
{
	return (struct piece) { SEED + i, 0, 2 * HALF };
}

/* One more ring and socket for the area of @r */
static int other_begin(struct relay *o, const struct relay *r)
{
	int fd = zcrx_export(&r->z), ret;

	if (fd < 0)
		return fd;
	*o = *r;
	ret = uring_init(&o->ring, 64, ZCRX_RING) ?:
	      zcrx_import(&o->z, &o->ring, fd) ?: net_local("127.0.0.1", &o->tcp);
	close(fd);
	return ret;
}

static void other_end(struct relay *o)
{
	uring_exit(&o->ring);
	net_close(&o->tcp);
}

/* Each half is another reason to look, and to wait */
static int wait_twice(struct relay *r, unsigned int i)
{
	struct piece half = piece_of(i);
	int ret = copier_receive(r, 0);

	half.len = HALF;
	for (; !ret && half.pos < 2 * HALF; half.pos += HALF) {
		ret = piece_send(r->tcp.tx, &half, 0);
		if (!ret && !uring_quiet(&r->ring, BRIEF))
			ret = -EALREADY;
	}
	return ret;
}

/* How many pieces it was */
static int arrive(struct relay *r, unsigned int i)
{
	const struct piece p = piece_of(i);
	struct arrived pieces[64];

	return relay_arrive(r, &p, pieces, ARRAY_SIZE(pieces));
}

/* Sends what is not there, and has the socket locked until it is */
struct locker {
	int fd;
	struct fault fault;
	pthread_t thread;
};

static void *locker_run(void *arg)
{
	struct locker *l = arg;

	return send(l->fd, l->fault.page, FAULT_LEN, 0) == FAULT_LEN ? NULL : "not sent";
}

static int locker_start(struct locker *l, int fd)
{
	l->fd = fd;
	return fault_init(&l->fault) ?:
	       -pthread_create(&l->thread, NULL, locker_run, l) ?:
	       fault_wait(&l->fault, net_patience());
}

/* It was locked until now, and has sent @p */
static int locker_stop(struct locker *l, const struct piece *p)
{
	char buf[FAULT_LEN];
	void *why;
	int ret;

	pattern_fill(buf, p->pos, FAULT_LEN, p->seed);
	ret = fault_fill(&l->fault, buf);
	if (ret)
		return ret;
	pthread_join(l->thread, &why);
	fault_exit(&l->fault);
	return why ? -EIO : 0;
}

/* One is locked when the exporter is ready, one is no more, and the others have theirs */
TEST_F(waits, socket_is_locked)
{
	const struct piece sent = { SEED + OTHERS + 2, 0, FAULT_LEN };
	struct relay *r = &self->relay, others[OTHERS + 1];
	unsigned int pieces = 0;
	struct locker l;
	int nr;

	ASSERT_EQ(0, copier_open(r, 0, SIZE));
	for (unsigned int i = 0; i <= OTHERS; i++)
		ASSERT_EQ(0, other_begin(&others[i], r));
	ASSERT_EQ(0, bar_fence(&r->mem, 1));
	/* the one that will be locked waits first */
	ASSERT_EQ(0, wait_twice(r, 0));
	for (unsigned int i = 0; i <= OTHERS; i++)
		ASSERT_EQ(0, wait_twice(&others[i], i + 1));
	check_nobody_waits(_metadata, r);
	other_end(&others[OTHERS]);
	ASSERT_EQ(0, locker_start(&l, r->tcp.rx));
	EXPECT_TRUE(uring_quiet(&others[0].ring, QUIET));
	ASSERT_EQ(0, bar_fence(&r->mem, 0));
	for (unsigned int i = 0; i < OTHERS; i++) {
		nr = arrive(&others[i], i + 1);
		ASSERT_GT(nr, 0);
		pieces += nr;
	}
	CHECK_COPIED(r, OTHERS * 2 * HALF, pieces);
	ASSERT_EQ(0, locker_stop(&l, &sent));
	EXPECT_EQ(0, net_recv(r->tcp.tx, &sent, 1));
	nr = arrive(r, 0);
	ASSERT_GT(nr, 0);
	CHECK_COPIED(r, (OTHERS + 1) * 2 * HALF, pieces + nr);
	for (unsigned int i = 0; i < OTHERS; i++)
		other_end(&others[i]);
}

/* --- exporters that refuse --- */

/* It says so each time, and nothing is lost */
TEST_F(waits, exporter_refuses_access)
{
	static const struct {
		const char *exporter;
		int err;
	} errors[] = {
		{ "12", -ENOMEM }, { "11", -EBUSY }, { "19", -ENODEV },
		{ "524", -EOPNOTSUPP },
	};
	const struct piece p = { SEED, 0, 64 * KiB };
	struct relay *r = &self->relay;
	struct taken t = { 0 };

	ASSERT_EQ(0, copier_open(r, 0, SIZE));
	ASSERT_EQ(0, piece_send(r->tcp.tx, &p, 0));
	for (unsigned int i = 0; i < ARRAY_SIZE(errors); i++) {
		ASSERT_EQ(0, file_write(DEBUGFS "fail_cpu_errno", errors[i].exporter));
		ASSERT_EQ(0, file_write(DEBUGFS "fail_cpu_count", "1"));
		ASSERT_NE(NULL, zcrx_prep(&r->z, r->tcp.rx, 0, RELAY_RECV));
		EXPECT_EQ(errors[i].err, uring_do(&r->ring));
		CHECK_COPIED(r, 0, 0);
	}
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&r->mem, 0, SIZE, POISON));
	/* interrupted: the next try is the kernel's */
	ASSERT_EQ(0, file_write(DEBUGFS "fail_cpu_errno", "512"));
	ASSERT_EQ(0, file_write(DEBUGFS "fail_cpu_count", "3"));
	ASSERT_EQ(0, copier_take(r, &p, &t));
	CHECK_COPIED(r, p.len, t.pieces);
}

/* --- more areas than a user has workers that wait for exporters --- */

#define CROWD	33
#define SMALL	(16 * KiB)

struct crowd {
	struct uring ring;
	struct mem mem[CROWD];
	struct zcrx z[CROWD];
	struct net_pair tcp[CROWD];
};

static int crowd_open(struct crowd *c, unsigned int i)
{
	struct io_uring_zcrx_area_reg area = area_slot(i, 0, SMALL);

	return mem_create_bar(&c->mem[i], SMALL, DMA_BUF_BAR_VMAP, 0) ?:
	       reg_flags(&c->ring, i, c->mem[i].fd, -1,
			 IO_REGBUF_DMABUF_COPY_OK | IO_REGBUF_DMABUF_ON_DEMAND) ?:
	       zcrx_open(&c->z[i], &c->ring, 0, &area) ?:
	       net_local("127.0.0.1", &c->tcp[i]);
}

static int crowd_receive(struct crowd *c, unsigned int i)
{
	const struct piece p = { SEED, 0, 4096 };
	int ret = bar_fence(&c->mem[i], 1);

	if (!ret && !zcrx_prep(&c->z[i], c->tcp[i].rx, 0, i))
		ret = -EBUSY;
	if (!ret && uring_submit(&c->ring, 0) != 1)
		ret = -EIO;
	return ret ?: piece_send(c->tcp[i].tx, &p, 0);
}

/* The exporter has it back when nothing is pinned */
static bool is_free_before(const struct mem *m, double end)
{
	struct dma_buf_bar_info info;

	while (!bar_info(m, &info)) {
		if (!info.pinned)
			return true;
		if (lab_now() > end)
			break;
		lab_sleep_ms(10);
	}
	return false;
}

/* Each is woken by its own exporter, and the rest ends without theirs */
TEST_F(waits, many_that_wait)
{
	static struct crowd c;
	const unsigned int last = CROWD - 1;
	struct uring_res res;
	double start;

	ASSERT_EQ(0, uring_init(&c.ring, 256, ZCRX_RING));
	ASSERT_EQ(0, reg_sparse(&c.ring, CROWD));
	for (unsigned int i = 0; i < CROWD; i++)
		ASSERT_EQ(0, crowd_open(&c, i));
	start = lab_now();
	for (unsigned int i = 0; i < CROWD; i++)
		ASSERT_EQ(0, crowd_receive(&c, i));
	EXPECT_EQ(-ETIME, uring_submit_for(&c.ring, 1, QUIET));
	ASSERT_EQ(0, bar_fence(&c.mem[last], 0));
	ASSERT_EQ(0, uring_wait(&c.ring, &res, net_patience()));
	EXPECT_EQ(last, res.user_data);
	EXPECT_GT(res.res, 0);
	EXPECT_LE(lab_now() - start, NO_FENCE);
	uring_exit(&c.ring);
	for (unsigned int i = 0; i < CROWD; i++) {
		EXPECT_TRUE(is_free_before(&c.mem[i], start + NO_FENCE));
		zcrx_forget(&c.z[i]);
		net_close(&c.tcp[i]);
		mem_destroy(&c.mem[i]);
	}
}

/* --- registration --- */

static int open_until_killed(struct relay *r, int ready, int go)
{
	struct io_uring_zcrx_area_reg area = area_slot(0, 0, SIZE);
	char c = 0;

	memset(&r->ring, 0, sizeof(r->ring));
	if (uring_init(&r->ring, 64, ZCRX_RING) || reg_sparse(&r->ring, 1) ||
	    copier_store(r, 0, IO_REGBUF_DMABUF_COPY_OK) ||
	    write(ready, &c, 1) != 1 || read(go, &c, 1) != 1)
		return 1;
	zcrx_open(&r->z, &r->ring, 0, &area);
	return 2;
}

/* The exporter does what it does with the lock of the memory held */
TEST_F(waits, killed)
{
	const struct piece p = { SEED, 0, 256 * KiB };
	struct relay *r = &self->relay;
	int ready[2], go[2], status;
	struct taken t = { 0 };
	pid_t pid, holder;
	double start;
	char c = 0;

	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(go));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(open_until_killed(r, ready[1], go[0]));
	ASSERT_EQ(1, read(ready[0], &c, 1));
	holder = bar_hold(&r->mem);
	ASSERT_GT(holder, 0);
	ASSERT_EQ(1, write(go[1], &c, 1));
	lab_sleep_ms(300);
	EXPECT_EQ(0, waitpid(pid, &status, WNOHANG));
	start = lab_now();
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_LE(lab_now() - start, lab_scale(1, 3));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		TH_LOG("status %x", status);
	}
	EXPECT_EQ(0, bar_let_go(holder));
	/* that of the drive, for the slot of this ring */
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 1, net_patience()));
	EXPECT_TRUE(is_free_before(&r->mem, lab_now() + 5));
	ASSERT_EQ(0, copier_open(r, 0, SIZE));
	ASSERT_EQ(0, copier_stream(r, &p, &t));
	CHECK_COPIED(r, p.len, t.pieces);
	for (unsigned int i = 0; i < 2; i++) {
		close(ready[i]);
		close(go[i]);
	}
}

TEST_HARNESS_MAIN
