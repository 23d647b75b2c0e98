// SPDX-License-Identifier: GPL-2.0
/*
 * Who has slow exporters holds up nobody else: no user has all of the workers that
 * wait for exporters.
 *
 * A slot whose memory was copied has a CPU view of it, which only goes with the
 * reservation lock. So each of thousands of slots of one dma-buf has something to
 * wait for while its exporter holds that.
 */
#include <poll.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <linux/dma-buf-bar.h>

#include "common.h"
#include "netio.h"

#define SIZE	(64 * KiB)
#define MANY	2100	/* no workqueue runs more than 2048 at once */
#define SOME	40	/* more than a user has workers */
#define USER	71000

struct crowd {
	struct netrig net;	/* its memory is quick */
	struct mem slow;
	int sk[2];
	int disk;
};

/* A process of another user: what it says to the test, and the other way round */
struct other {
	pid_t pid;
	int from, to;
};

FIXTURE(workers) {
	struct crowd crowd;
	struct other other, owner;
	pid_t holder;
};

FIXTURE_SETUP(workers)
{
	struct crowd *c = &self->crowd;

	c->sk[0] = -1;
	c->sk[1] = -1;
	c->slow.fd = -1;
	c->disk = NEED_DISK("LAB_NVME_MAIN");
	NETRIG_UP(&c->net, NULL, MEM_BAR, SIZE);
	ASSERT_EQ(0, mem_create_bar(&c->slow, SIZE, DMA_BUF_BAR_VMAP, 0));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, c->sk));
	net_timeouts(c->sk[0]);
	net_timeouts(c->sk[1]);
}

static void other_kill(struct other *o)
{
	if (o->pid <= 0)
		return;
	kill(o->pid, SIGKILL);
	waitpid(o->pid, NULL, 0);
}

FIXTURE_TEARDOWN(workers)
{
	struct crowd *c = &self->crowd;

	if (self->holder > 0)
		bar_let_go(self->holder);
	other_kill(&self->other);
	other_kill(&self->owner);
	netrig_down(&c->net);
	if (c->slow.fd >= 0)
		mem_destroy(&c->slow);
	close(c->sk[0]);
	close(c->sk[1]);
	close(c->disk);
}

/* References to a dma-buf: one of each slot, until nothing of that is left */
static long long dmabuf_refs(int fd)
{
	char path[64], text[512];
	const char *p;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	if (file_read(path, text, sizeof(text)))
		return -1;
	p = strstr(text, "\ncount:");
	return p ? atoll(p + strlen("\ncount:")) : -1;
}

static bool dmabuf_refs_become(int fd, long long want)
{
	double end = lab_now() + 30;

	while (dmabuf_refs(fd) != want) {
		if (lab_now() > end) {
			fprintf(stderr, "# %lld references, not %lld\n",
				dmabuf_refs(fd), want);
			return false;
		}
		lab_sleep_ms(20);
	}
	return true;
}

/* Slots whose memory the CPU can see from now on */
static int slots_copied(struct crowd *c, unsigned int nr)
{
	struct netrig *n = &c->net;
	bool copied;
	char data;
	int ret;

	ret = reg_unregister(&n->ring) ?: reg_sparse(&n->ring, nr);
	for (unsigned int i = 0; i < nr && !ret; i++) {
		ret = net_reg(n, i, c->slow.fd, c->sk[0], IO_REGBUF_DMABUF_COPY_OK);
		if (!ret && (net_send_sync(n, c->sk[0], i, i, 1, 0, &copied) != 1 ||
			     !copied || recv(c->sk[1], &data, 1, 0) != 1))
			ret = -EPROTO;
	}
	return ret;
}

/*
 * The memory is mapped before it turns out that its table costs more than the user
 * may have; all of that is undone before the call returns.
 */
static int registration_fails(struct crowd *c, int from, int to)
{
	struct uring ring;
	double began;
	char data = 0;

	if (uring_init(&ring, 4, 0) || reg_sparse(&ring, 1))
		return 1;
	/* also for what is done once */
	if (reg_dmabuf(&ring, 0, c->net.mem.fd, c->disk) != -ENOMEM)
		return 2;
	if (write(to, &data, 1) != 1 || read(from, &data, 1) != 1)
		return 3;
	began = lab_now();
	if (reg_dmabuf(&ring, 0, c->net.mem.fd, c->disk) != -ENOMEM)
		return 4;
	fprintf(stderr, "# the other registration failed after %.3f s\n",
		lab_now() - began);
	return 0;
}

/* In a user namespace that this user makes, and that the test gives more users */
static int slots_cleared(struct crowd *c, int from, int to)
{
	char data = 0;

	if (unshare(CLONE_NEWUSER))
		return 77;
	if (write(to, &data, 1) != 1 || read(from, &data, 1) != 1)
		return 1;
	if (uring_init(&c->net.ring, 64, 0) || reg_sparse(&c->net.ring, 1) ||
	    slots_copied(c, SOME))
		return 2;
	if (write(to, &data, 1) != 1 || read(from, &data, 1) != 1)
		return 3;
	if (reg_unregister(&c->net.ring))
		return 4;
	if (write(to, &data, 1) != 1 || read(from, &data, 1) != 1)
		return 5;
	return 0;
}

/* As @uid, in the user namespace @ns unless that is -1; may lock @limit bytes */
static int other_start(struct other *o, struct crowd *c, int ns, unsigned int uid,
		       rlim_t limit, int (*fn)(struct crowd *c, int from, int to))
{
	struct rlimit rl = { limit, limit };
	int up[2], down[2];

	if (pipe(up) || pipe(down))
		return -errno;
	o->pid = fork();
	if (!o->pid) {
		close(up[0]);
		close(down[1]);
		if (setrlimit(RLIMIT_MEMLOCK, &rl) ||
		    (ns >= 0 && setns(ns, CLONE_NEWUSER)) ||
		    setgid(uid) || setuid(uid))
			_exit(99);
		_exit(fn(c, down[0], up[1]));
	}
	close(up[1]);
	close(down[0]);
	o->from = up[0];
	o->to = down[1];
	return o->pid > 0 ? 0 : -errno;
}

/* It is where it waits for the test; -EPIPE: it has ended */
static int other_waits(struct other *o)
{
	char data;

	return read(o->from, &data, 1) == 1 ? 0 : -EPIPE;
}

static int other_goes_on(struct other *o)
{
	char data = 0;

	return write(o->to, &data, 1) == 1 ? 0 : -EPIPE;
}

static bool other_has_ended(struct other *o, int timeout_ms)
{
	struct pollfd pfd = { .fd = o->from, .events = POLLIN };

	return poll(&pfd, 1, timeout_ms) == 1;
}

/* Its exit code */
static int other_ends(struct other *o)
{
	int status;

	if (waitpid(o->pid, &status, 0) != o->pid)
		return -errno;
	o->pid = 0;
	close(o->from);
	close(o->to);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

TEST_F(workers, many_slots_of_a_slow_exporter)
{
	struct crowd *c = &self->crowd;
	struct dma_buf_bar_info before, after;
	long long refs = dmabuf_refs(c->slow.fd);

	ASSERT_GT(refs, 0);
	ASSERT_EQ(0, slots_copied(c, MANY));
	ASSERT_EQ(refs + MANY, dmabuf_refs(c->slow.fd));
	ASSERT_EQ(0, other_start(&self->other, c, -1, USER, 0, registration_fails));
	ASSERT_EQ(0, other_waits(&self->other));
	ASSERT_EQ(0, bar_info(&c->net.mem, &before));
	EXPECT_EQ(1, before.maps);
	EXPECT_EQ(0, before.live);

	self->holder = bar_hold(&c->slow);
	ASSERT_GT(self->holder, 0);
	EXPECT_EQ(0, reg_unregister(&c->net.ring));
	/* until each has something that waits for it */
	lab_sleep_ms(1000);
	ASSERT_EQ(0, other_goes_on(&self->other));
	EXPECT_EQ(0, other_ends(&self->other));
	/* mapped, and undone */
	ASSERT_EQ(0, bar_info(&c->net.mem, &after));
	EXPECT_EQ(2, after.maps);
	EXPECT_EQ(0, after.live);
	/* the lock was held all the time */
	EXPECT_EQ(0, bar_let_go(self->holder));
	self->holder = 0;
	/* those that had to queue up had their turn */
	EXPECT_TRUE(dmabuf_refs_become(c->slow.fd, refs));
}

/* A send that is copied, for which the CPU has to see the memory first */
static int first_copy(struct crowd *c, int from, int to)
{
	struct netrig *n = &c->net;
	char data = 0;
	bool copied;

	if (uring_init(&n->ring, 64, 0) || reg_sparse(&n->ring, 1) ||
	    net_reg(n, 0, c->slow.fd, c->sk[0], IO_REGBUF_DMABUF_COPY_OK))
		return 1;
	if (write(to, &data, 1) != 1 || read(from, &data, 1) != 1)
		return 2;
	net_send_sync(n, c->sk[0], 0, 0, 1, 0, &copied);
	return 3;
}

/* The worker that is to copy waits for the exporter: both are gone at once */
TEST_F(workers, copying_can_be_killed)
{
	struct crowd *c = &self->crowd;
	double began;

	ASSERT_EQ(0, other_start(&self->other, c, -1, USER, RLIM_INFINITY,
				 first_copy));
	ASSERT_EQ(0, other_waits(&self->other));
	self->holder = bar_hold(&c->slow);
	ASSERT_GT(self->holder, 0);
	ASSERT_EQ(0, other_goes_on(&self->other));
	EXPECT_FALSE(other_has_ended(&self->other, 500));
	began = lab_now();
	kill(self->other.pid, SIGKILL);
	EXPECT_EQ(-EINTR, other_ends(&self->other));
	EXPECT_LT(lab_now() - began, lab_scale(1, 3));
	EXPECT_EQ(0, bar_let_go(self->holder));
	self->holder = 0;
}

static int file_put(const char *path, pid_t pid, const char *text)
{
	char name[64];

	snprintf(name, sizeof(name), path, pid);
	return file_write(name, text);
}

/* A user's uids in a user namespace are the same user: more of them help nothing */
TEST_F(workers, many_uids_of_a_user)
{
	struct crowd *c = &self->crowd;
	long long refs = dmabuf_refs(c->slow.fd);
	char path[64];
	int ns, ret;

	ASSERT_GT(refs, 0);
	ASSERT_EQ(0, other_start(&self->owner, c, -1, USER, RLIM_INFINITY,
				 slots_cleared));
	ret = other_waits(&self->owner);
	if (ret) {
		ret = other_ends(&self->owner);
		if (ret == 77)
			SKIP(return, "no user namespaces");
		ASSERT_EQ(0, ret);
	}
	ASSERT_EQ(0, file_put("/proc/%d/uid_map", self->owner.pid,
			      "0 71000 1\n1 71001 1\n"));
	ASSERT_EQ(0, file_put("/proc/%d/gid_map", self->owner.pid,
			      "0 71000 1\n1 71001 1\n"));
	ASSERT_EQ(0, other_goes_on(&self->owner));
	ASSERT_EQ(0, other_waits(&self->owner));

	snprintf(path, sizeof(path), "/proc/%d/ns/user", self->owner.pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_GE(ns, 0);
	ASSERT_EQ(0, other_start(&self->other, c, ns, 1, 0, registration_fails));
	ASSERT_EQ(0, other_waits(&self->other));

	self->holder = bar_hold(&c->slow);
	ASSERT_GT(self->holder, 0);
	ASSERT_EQ(0, other_goes_on(&self->owner));
	ASSERT_EQ(0, other_waits(&self->owner));
	lab_sleep_ms(500);
	ASSERT_EQ(0, other_goes_on(&self->other));
	EXPECT_FALSE(other_has_ended(&self->other, 1000));
	EXPECT_EQ(0, bar_let_go(self->holder));
	self->holder = 0;
	EXPECT_EQ(0, other_ends(&self->other));
	ASSERT_EQ(0, other_goes_on(&self->owner));
	EXPECT_EQ(0, other_ends(&self->owner));
	EXPECT_TRUE(dmabuf_refs_become(c->slow.fd, refs));
	close(ns);
}

TEST_HARNESS_MAIN
