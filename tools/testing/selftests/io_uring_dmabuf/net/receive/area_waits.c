// SPDX-License-Identifier: GPL-2.0
/*
 * Areas whose exporter is slow, and areas that are whole dma-bufs: who waits for whom,
 * and where the bytes are.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <linux/dma-buf-bar.h>
#include <linux/ethtool.h>

#include "common.h"
#include "relay.h"

#define SEED	NET_SEED
#define SIZE	(2 * MiB)
#define ALL	(4 * MiB)

static struct io_uring_zcrx_area_reg area_of(bool slot, const struct mem *m)
{
	return slot ? area_slot(1, 0, SIZE) : area_dmabuf(m->fd, SIZE);
}

/* --- whole dma-bufs --- */

FIXTURE(dmabuf_area) {
	struct relay relay;
};

FIXTURE_VARIANT(dmabuf_area) {
	enum mem_kind kind;
};

FIXTURE_VARIANT_ADD(dmabuf_area, udmabuf) { .kind = MEM_UDMABUF_4K };
FIXTURE_VARIANT_ADD(dmabuf_area, heap) { .kind = MEM_HEAP };
FIXTURE_VARIANT_ADD(dmabuf_area, bar) { .kind = MEM_BAR };
FIXTURE_VARIANT_ADD(dmabuf_area, bar_4k) { .kind = MEM_BAR_4K };

FIXTURE_SETUP(dmabuf_area)
{
	RELAY_UP(&self->relay, variant->kind, SIZE, ZCRX_RING, MTU_PAGE_TCP4);
}

FIXTURE_TEARDOWN(dmabuf_area)
{
	relay_down(&self->relay);
}

/* Attached dynamically: memory of a peer stays where it is, pinned */
TEST_F(dmabuf_area, stores)
{
	const struct piece p = { SEED, 0, ALL };
	struct relay *r = &self->relay;
	struct io_uring_zcrx_area_reg area = area_dmabuf(r->mem.fd, SIZE);
	struct dma_buf_bar_info info;
	struct relay_run run = { 0 };
	bool bar = mem_is_bar(&r->mem);

	ASSERT_EQ(0, relay_open_area(r, &area));
	if (bar) {
		ASSERT_EQ(0, bar_info(&r->mem, &info));
		EXPECT_EQ(DMA_BUF_BAR_PLACE_A, info.place);
		EXPECT_EQ(0, info.moves);
		EXPECT_EQ(1, info.pinned);
		EXPECT_EQ(-EBUSY, bar_move(&r->mem, DMA_BUF_BAR_PLACE_B));
	}
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_EQ(0, relay_run(r, &p, &run));
	ASSERT_EQ(0, relay_close(r));
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 0, net_patience()));
	if (bar) {
		ASSERT_EQ(0, bar_info(&r->mem, &info));
		EXPECT_EQ(0, info.pinned);
		EXPECT_EQ(0, info.live);
		EXPECT_EQ(0, bar_move(&r->mem, DMA_BUF_BAR_PLACE_B));
	}
}

/* Who may have to take it back, while nobody here can let go */
TEST_F(dmabuf_area, that_may_be_revoked)
{
	static const __u32 flags[] = {
		DMA_BUF_BAR_VFIO, DMA_BUF_BAR_TENSTORRENT, DMA_BUF_BAR_NO_PIN,
		/* that cannot be reached, for which its exporter has a number of its own */
		DMA_BUF_BAR_NVIDIA | DMA_BUF_BAR_UNREACHABLE,
	};
	struct relay *r = &self->relay;

	for (unsigned int i = 0; i < ARRAY_SIZE(flags); i++) {
		struct io_uring_zcrx_area_reg area;
		struct zcrx z;
		struct mem m;

		ASSERT_EQ(0, mem_create_bar(&m, SIZE, flags[i], 0));
		area = area_dmabuf(m.fd, SIZE);
		EXPECT_EQ(-EOPNOTSUPP, zcrx_open(&z, &r->ring, relay_ifindex(r), &area)) {
			TH_LOG("flags %x", flags[i]);
		}
		EXPECT_EQ(0, bufinfo_attachments(m.fd));
		zcrx_forget(&z);
		mem_destroy(&m);
	}
}

/* --- slow exporters --- */

FIXTURE(area_waits) {
	struct relay relay;
	struct mem slow;
	char driver[64];
	bool unbound;
};

FIXTURE_VARIANT(area_waits) {
	bool slot, add;
};

FIXTURE_VARIANT_ADD(area_waits, slot) { .slot = true };
FIXTURE_VARIANT_ADD(area_waits, slot_added) { .slot = true, .add = true };
FIXTURE_VARIANT_ADD(area_waits, dmabuf) { .slot = false };
FIXTURE_VARIANT_ADD(area_waits, dmabuf_added) { .slot = false, .add = true };

FIXTURE_SETUP(area_waits)
{
	RELAY_UP(&self->relay, MEM_UDMABUF, SIZE, ZCRX_RING, MTU_PAGE_TCP4);
	ASSERT_EQ(0, mem_create(&self->slow, MEM_BAR, SIZE));
	ASSERT_EQ(0, net_driver(&self->relay.net, self->driver, sizeof(self->driver)));
}

FIXTURE_TEARDOWN(area_waits)
{
	if (self->unbound)
		net_rebind(&self->relay.net, self->driver);
	mem_destroy(&self->slow);
	relay_down(&self->relay);
}

/* Has a ring of its own, which only it may register with */
struct waiter {
	struct relay *relay;
	struct mem *slow;
	bool slot, add;
	struct uring ring;
	struct zcrx z;
	int ready, ret;		/* ready: 1: about to wait, 2: has waited */
	pthread_barrier_t fenced;
};

static int waiter_prepare(struct waiter *w)
{
	struct relay *r = w->relay;
	struct io_uring_zcrx_area_reg area = area_slot(0, 0, SIZE);
	struct io_uring_regbuf_desc d = desc_dmabuf(w->slow->fd, -1);
	int ret;

	/* nothing is attached to it yet */
	d.flags = IO_REGBUF_DMABUF_ON_DEMAND;
	ret = uring_init(&w->ring, 64, ZCRX_RING);
	if (!ret)
		ret = reg_sparse(&w->ring, 2);
	if (!ret)
		ret = reg_dmabuf(&w->ring, 0, r->mem.fd, r->disk);
	if (!ret)
		ret = reg_one(&w->ring, 1, &d);
	if (!ret && w->add)
		ret = zcrx_open(&w->z, &w->ring, relay_ifindex(r), &area);
	return ret;
}

static int waiter_area(struct waiter *w)
{
	struct io_uring_zcrx_area_reg area = area_of(w->slot, w->slow);

	if (w->add)
		return zcrx_add_area(&w->z, &area);
	return zcrx_open(&w->z, &w->ring, relay_ifindex(w->relay), &area);
}

static void *waiter_run(void *arg)
{
	struct waiter *w = arg;

	w->ret = waiter_prepare(w);
	__atomic_store_n(&w->ready, w->ret ? -1 : 1, __ATOMIC_RELEASE);
	pthread_barrier_wait(&w->fenced);
	if (!w->ret)
		w->ret = waiter_area(w);
	__atomic_store_n(&w->ready, 2, __ATOMIC_RELEASE);
	/* a ring is closed by whoever may use it */
	pthread_barrier_wait(&w->fenced);
	uring_exit(&w->ring);
	zcrx_forget(&w->z);
	return NULL;
}

/* It waits for the exporter when this returns */
static void waiter_start(struct __test_metadata *_metadata,
			 struct _test_data_area_waits *self, struct waiter *w,
			 pthread_t *thread, bool slot, bool add)
{
	*w = (struct waiter) {
		.relay = &self->relay, .slow = &self->slow, .slot = slot, .add = add,
	};
	ASSERT_EQ(0, pthread_barrier_init(&w->fenced, NULL, 2));
	ASSERT_EQ(0, pthread_create(thread, NULL, waiter_run, w));
	while (!__atomic_load_n(&w->ready, __ATOMIC_ACQUIRE))
		lab_sleep_ms(5);
	ASSERT_EQ(1, w->ready);
	if (add)
		ASSERT_EQ(0, net_wait_running(&self->relay.net, NET_CARD));
	ASSERT_EQ(0, bar_fence(&self->slow, 1));
	pthread_barrier_wait(&w->fenced);
	lab_sleep_ms(300);
	ASSERT_EQ(1, __atomic_load_n(&w->ready, __ATOMIC_ACQUIRE));
}

static void waiter_end(struct waiter *w, pthread_t thread)
{
	while (__atomic_load_n(&w->ready, __ATOMIC_ACQUIRE) != 2)
		lab_sleep_ms(5);
	pthread_barrier_wait(&w->fenced);
	pthread_join(thread, NULL);
}

/* The device, RTNL and the ring are for everybody, and the area is there in the end */
TEST_F(area_waits, nobody_else_does)
{
	struct relay *r = &self->relay;
	struct netrig *n = &r->net;
	struct waiter w;
	struct uring other;
	struct io_uring_sqe *sqe;
	struct rings now;
	pthread_t thread;
	double start;

	ASSERT_EQ(0, uring_init(&other, 8, 0));
	waiter_start(_metadata, self, &w, &thread, variant->slot, variant->add);
	start = lab_now();
	EXPECT_EQ(0, rings_get(n, &now));
	EXPECT_EQ(0, rings_rx(n, now.rx == 256 ? 128 : 256));
	EXPECT_EQ(0, rings_rx(n, now.rx));
	EXPECT_EQ(0, net_ip(n->home, "link set dev %s mtu 4000\nlink set dev %s mtu 4148\n",
			    n->dev[NET_CARD], n->dev[NET_CARD]));
	sqe = uring_sqe(&other);
	sqe->opcode = IORING_OP_MSG_RING;
	sqe->fd = w.ring.fd;
	sqe->off = 4711;
	EXPECT_EQ(0, uring_do(&other));
	/* the lock of the ring that waits is needed to find out whose it is */
	EXPECT_EQ(-EEXIST, reg_clone(&other, &w.ring));
	EXPECT_EQ(1, __atomic_load_n(&w.ready, __ATOMIC_ACQUIRE));
	EXPECT_LE(lab_now() - start, lab_scale(5, 15));

	ASSERT_EQ(0, bar_fence(&self->slow, 0));
	while (__atomic_load_n(&w.ready, __ATOMIC_ACQUIRE) != 2)
		lab_sleep_ms(5);
	EXPECT_EQ(0, w.ret);
	EXPECT_EQ(1, bufinfo_attachments(self->slow.fd));
	waiter_end(&w, thread);
	uring_exit(&other);
	EXPECT_TRUE(bufinfo_wait(self->slow.fd, 0, net_patience()));
}

struct unbind {
	const struct netrig *net;
	const char *driver;
	int ret;
};

static void *unbind_card(void *arg)
{
	struct unbind *u = arg;

	u->ret = net_unbind(u->net, u->driver);
	return NULL;
}

/* The driver waits for who has to do with its card, but RTNL is free */
TEST_F(area_waits, unbind)
{
	struct netrig *n = &self->relay.net;
	struct unbind u = { .net = n, .driver = self->driver };
	struct waiter w;
	pthread_t thread, unbind;
	int ns = net_ns_new();
	double start;

	ASSERT_GE(ns, 0);
	waiter_start(_metadata, self, &w, &thread, variant->slot, variant->add);
	self->unbound = true;
	start = lab_now();
	ASSERT_EQ(0, pthread_create(&unbind, NULL, unbind_card, &u));
	/* once it cannot be found, and RTNL is free, the queue has been taken away */
	while (relay_ifindex(&self->relay) && lab_now() - start < 8)
		lab_sleep_ms(10);
	ASSERT_EQ(0, net_ip(ns, "link set lo up\n"));
	EXPECT_LE(lab_now() - start, lab_scale(3, 8));
	bar_fence(&self->slow, 0);
	pthread_join(unbind, NULL);
	EXPECT_EQ(0, u.ret);
	/* nothing of what was begun is left */
	EXPECT_EQ(0, bufinfo_attachments(self->slow.fd));
	waiter_end(&w, thread);
	EXPECT_EQ(variant->add ? -EFAULT : -ENODEV, w.ret);
	EXPECT_TRUE(bufinfo_wait(self->slow.fd, 0, net_patience()));
	ASSERT_EQ(0, net_rebind(n, self->driver));
	self->unbound = false;
	ASSERT_EQ(0, net_configure(n, NET_CARD));
	close(ns);
}

static int wait_until_killed(struct _test_data_area_waits *self, bool slot, bool add,
			     int ready)
{
	struct waiter w = {
		.relay = &self->relay, .slow = &self->slow, .slot = slot, .add = add,
	};
	char c = 0;

	if (waiter_prepare(&w) || bar_fence(&self->slow, 1) || write(ready, &c, 1) != 1)
		return 1;
	waiter_area(&w);
	return 2;
}

TEST_F(area_waits, killed)
{
	int ready[2], status;
	double start;
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(ready));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(wait_until_killed(self, variant->slot, variant->add, ready[1]));
	ASSERT_EQ(1, read(ready[0], &c, 1));
	lab_sleep_ms(300);
	start = lab_now();
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		TH_LOG("status %x", status);
	}
	/* well before the fence signals by itself */
	EXPECT_LE(lab_now() - start, lab_scale(3, 6));
	EXPECT_TRUE(bufinfo_wait(self->slow.fd, 0, net_patience()));
	bar_fence(&self->slow, 0);
}

TEST_HARNESS_MAIN
