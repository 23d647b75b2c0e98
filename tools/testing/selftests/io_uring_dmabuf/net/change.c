// SPDX-License-Identifier: GPL-2.0
/*
 * Links that change while they are used: routes, namespaces, and cards that
 * go away. Wants a machine of its own.
 */
#include <pthread.h>

#include "common.h"
#include "netio.h"
#include "../../net/netmem/netlink.h"

#define SIZE		(1 * MiB)
#define SEED		NET_SEED
#define LEN		20000
#define POS		4321

FIXTURE(change) {
	struct netrig net, other;
	struct net_pair tcp, udp;
	char driver[64];
	bool unbound;
};

FIXTURE_VARIANT(change) {
	const char *card;
};

FIXTURE_VARIANT_ADD(change, e1000e) { .card = "e1000e" };
FIXTURE_VARIANT_ADD(change, vmxnet3) { .card = "vmxnet3" };
FIXTURE_VARIANT_ADD(change, igb) { .card = "igb" };

FIXTURE_SETUP(change)
{
	struct netrig *n = &self->net;

	self->tcp = NET_PAIR_NONE;
	self->udp = NET_PAIR_NONE;
	netrig_init(&self->other);
	NETRIG_UP(n, variant->card, MEM_UDMABUF_4K, SIZE);
	ASSERT_EQ(0, net_tcp(n, AF_INET, &self->tcp));
	ASSERT_EQ(0, net_udp(n, AF_INET, &self->udp));
	ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, SEED));
	ASSERT_EQ(0, reg_dmabuf(&n->ring, 0, n->mem.fd, self->tcp.tx));
	ASSERT_EQ(0, net_works(n, 0, &self->tcp));
	ASSERT_EQ(0, net_works(n, 0, &self->udp));
}

FIXTURE_TEARDOWN(change)
{
	net_close(&self->tcp);
	net_close(&self->udp);
	if (self->unbound)
		net_rebind(&self->net, self->driver);
	netrig_down(&self->other);
	netrig_down(&self->net);
}

/* Without a device there is often no route either */
static bool no_way(int err)
{
	return err == -ENODEV || err == -EHOSTUNREACH || err == -ENETUNREACH;
}

#define EXPECT_NO_WAY(ret) do {						\
	int ret_ = ret;							\
									\
	EXPECT_TRUE(no_way(ret_)) {					\
		TH_LOG("%s: %d", #ret, ret_);				\
	}								\
} while (0)

/*
 * Nothing is on the way when it happens, so nothing but the next send can find
 * the new route. Meanwhile TCP queues, as ever.
 */
TEST_F(change, down_and_up_when_idle)
{
	const struct piece queued = { SEED, 0, 100 };
	struct netrig *n = &self->net;

	ASSERT_EQ(0, net_wait_acked(self->tcp.tx));
	ASSERT_EQ(0, net_link(n, NET_CARD, false));
	EXPECT_EQ(100, net_send(n, self->tcp.tx, 0, 0, 100, MSG_DONTWAIT));
	EXPECT_NO_WAY(net_send(n, self->udp.tx, 0, 0, 100, MSG_DONTWAIT));
	EXPECT_EQ(1, bufinfo_attachments(n->mem.fd));
	ASSERT_EQ(0, net_link(n, NET_CARD, true));
	EXPECT_EQ(0, net_works(n, 0, &self->udp));
	EXPECT_EQ(0, net_recv(self->tcp.rx, &queued, 1));
	EXPECT_EQ(0, net_works(n, 0, &self->tcp));
	ASSERT_EQ(0, net_mark(&self->tcp));
}

/* Sends go on although the card is down, and again until they are taken */
static int send_anyhow(struct netrig *n, int tx, const struct piece *p,
		       unsigned int *refused)
{
	double end = lab_now() + net_patience() / 1000.0;
	__u64 done = 0;
	int ret;

	while (done < p->len) {
		ret = net_send(n, tx, 0, p->pos + done, p->len - done, 0);
		if (ret > 0) {
			done += ret;
			continue;
		}
		if (!no_way(ret) || lab_now() > end)
			return ret;
		++*refused;
		lab_sleep_ms(20);
	}
	return 0;
}

static void *card_up_later(void *arg)
{
	lab_sleep_ms(300);
	net_link(arg, NET_CARD, true);
	return NULL;
}

TEST_F(change, down_and_up_when_busy)
{
	struct netrig *n = &self->net;
	unsigned int refused = 0;
	struct piece pieces[24];
	struct receiver r;
	pthread_t thread;
	__u64 rng = 76;

	for (int i = 0; i < 24; i++)
		pieces[i] = piece_random(&rng, 40000, SIZE, SEED);
	ASSERT_EQ(0, net_set(self->tcp.tx, SOL_SOCKET, SO_SNDBUFFORCE, 4 * MiB));
	ASSERT_EQ(0, receiver_start(&r, self->tcp.rx, pieces, 24));
	for (int i = 0; i < 8; i++) {
		ASSERT_EQ(0, send_anyhow(n, self->tcp.tx, &pieces[i], &refused));
	}
	ASSERT_EQ(0, net_link(n, NET_CARD, false));
	ASSERT_EQ(0, pthread_create(&thread, NULL, card_up_later, n));
	for (int i = 8; i < 24; i++) {
		ASSERT_EQ(0, send_anyhow(n, self->tcp.tx, &pieces[i], &refused));
	}
	pthread_join(thread, NULL);
	ASSERT_EQ(0, receiver_join(&r));
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(0, n->copied);
	ksft_print_msg("%u sends were refused\n", refused);
}

TEST_F(change, mtu)
{
	static const unsigned int mtus[] = { 900, 1500, 1280, 600, 1500 };
	struct netrig *n = &self->net;
	struct piece pieces[30];
	struct receiver r;
	__u64 rng = 77;
	int ret;

	for (int i = 0; i < 30; i++)
		pieces[i] = piece_random(&rng, 1 + rnd(&rng) % 50000, SIZE, SEED);
	ASSERT_EQ(0, net_set(self->tcp.tx, SOL_SOCKET, SO_SNDBUFFORCE, 4 * MiB));
	ASSERT_EQ(0, receiver_start(&r, self->tcp.rx, pieces, 30));
	for (int i = 0; i < 30; i++) {
		unsigned int mtu = mtus[i / 6];

		if (i % 6 == 3) {
			ASSERT_EQ(0, net_mtu(n, NET_CARD, mtu));
			ret = net_send(n, self->udp.tx, 0, POS, mtu - 27, 0);
			EXPECT_EQ(-EOPNOTSUPP, ret);
			ASSERT_EQ(0, net_mark(&self->udp));
		}
		ASSERT_EQ(0, net_send_all(n, self->tcp.tx, 0, pieces[i].pos,
					  pieces[i].len, 0));
	}
	ASSERT_EQ(0, receiver_join(&r));
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(0, n->copied);
	EXPECT_EQ(0, net_works(n, 0, &self->udp));
}

/*
 * The device stays what it is, and so does its mapping: the slot serves those
 * sockets that leave by it where it is now.
 */
TEST_F(change, netns_of_the_card)
{
	struct netrig *n = &self->net;
	int ns = net_ns_new();

	ASSERT_GE(ns, 0);
	ASSERT_EQ(0, net_wait_acked(self->tcp.tx));
	ASSERT_EQ(0, net_ip(n->home, "link set dev %s netns /proc/%d/fd/%d\n",
			    n->dev[NET_CARD], getpid(), ns));
	n->ns[NET_CARD] = ns;
	EXPECT_EQ(1, bufinfo_attachments(n->mem.fd));
	EXPECT_NO_WAY(net_send(n, self->tcp.tx, 0, 0, 100, MSG_DONTWAIT));
	EXPECT_NO_WAY(net_send(n, self->udp.tx, 0, 0, 100, MSG_DONTWAIT));
	EXPECT_EQ(0, net_unsent(self->tcp.tx));
	net_close(&self->tcp);
	net_close(&self->udp);

	ASSERT_EQ(0, net_configure(n, NET_CARD));
	/* until it can be used, too */
	ASSERT_EQ(0, net_link(n, NET_CARD, true));
	ASSERT_EQ(0, net_tcp(n, AF_INET, &self->tcp));
	ASSERT_EQ(0, net_udp(n, AF_INET, &self->udp));
	EXPECT_EQ(0, net_works(n, 0, &self->tcp));
	EXPECT_EQ(0, net_works(n, 0, &self->udp));
	ASSERT_EQ(0, reg_dmabuf(&n->ring, 1, n->mem.fd, self->tcp.tx));
	EXPECT_EQ(0, net_works(n, 1, &self->tcp));
	EXPECT_EQ(1, bufinfo_attachments(n->mem.fd));
}

/* Connections do not notice until they look the route up again: at a send */
TEST_F(change, route)
{
	const struct piece copy = { SEED, POS, LEN };
	struct netrig *n = &self->net, *other = &self->other;
	const char *card = netrig_other_card(variant->card);
	bool copied;

	NETRIG_UP(other, card, MEM_UDMABUF, 0);
	ASSERT_EQ(0, net_reg(n, 1, n->mem.fd, self->tcp.tx,
			     IO_REGBUF_DMABUF_COPY_OK));
	ASSERT_EQ(0, net_wait_acked(self->tcp.tx));
	ASSERT_EQ(0, net_ip(n->home, "route add 10.73.%u.2/32 dev %s\n", n->net,
			    other->dev[NET_CARD]));
	EXPECT_EQ(-ENODEV, net_send(n, self->tcp.tx, 0, 0, 100, MSG_DONTWAIT));
	EXPECT_EQ(-ENODEV, net_send(n, self->udp.tx, 0, 0, 100, MSG_DONTWAIT));
	EXPECT_EQ(0, net_unsent(self->tcp.tx));
	/* a copy can take any route; it arrives once this one is right again */
	EXPECT_EQ(LEN, net_send_sync(n, self->tcp.tx, 1, POS, LEN, 0, &copied));
	EXPECT_TRUE(copied);
	ASSERT_EQ(0, net_ip(n->home, "route del 10.73.%u.2/32 dev %s\n", n->net,
			    other->dev[NET_CARD]));
	EXPECT_EQ(0, net_recv(self->tcp.rx, &copy, 1));
	EXPECT_EQ(0, net_works(n, 0, &self->tcp));
	EXPECT_EQ(0, net_works(n, 0, &self->udp));
}

/* --- the driver lets go --- */

/* Plugged in again, and used by a new connection, which its old slot is not for */
static void card_back(struct __test_metadata *_metadata,
		      struct _test_data_change *self)
{
	struct netrig *n = &self->net;

	ASSERT_EQ(0, net_rebind(n, self->driver));
	self->unbound = false;
	ASSERT_EQ(0, net_configure(n, NET_CARD));
	/* until it can be used, too */
	ASSERT_EQ(0, net_link(n, NET_CARD, true));
	ASSERT_EQ(0, net_tcp(n, AF_INET, &self->tcp));
	EXPECT_EQ(-ENODEV, net_send(n, self->tcp.tx, 0, 0, 100, MSG_DONTWAIT));
}

/* Segments are in the card's ring, in a qdisc and in the write queue */
TEST_F(change, unbind_when_busy)
{
	const struct piece all = { SEED, 0, SIZE };
	struct netrig *n = &self->net;
	struct io_uring_query_regbuf_map q;
	struct io_uring_regbuf_desc add;
	struct receiver r;
	__u64 done = 0;
	int ret;

	ASSERT_EQ(0, net_driver(n, self->driver, sizeof(self->driver)));
	ASSERT_EQ(0, net_set(self->tcp.tx, SOL_SOCKET, SO_SNDBUFFORCE, 4 * MiB));
	ASSERT_EQ(0, receiver_start(&r, self->tcp.rx, &all, 1));
	while (done < SIZE) {
		ret = net_send(n, self->tcp.tx, 0, done, SIZE - done, MSG_DONTWAIT);
		ASSERT_GT(ret, 0);
		done += ret;
	}
	self->unbound = true;
	ASSERT_EQ(0, net_unbind(n, self->driver));
	/* at once: it is not there any more to read the memory */
	EXPECT_EQ(0, bufinfo_attachments(n->mem.fd));
	EXPECT_EQ(0, receiver_stop(&r));
	EXPECT_NO_WAY(net_send(n, self->tcp.tx, 0, 0, 100, MSG_DONTWAIT));
	EXPECT_NO_WAY(net_send(n, self->udp.tx, 0, 0, 100, MSG_DONTWAIT));
	ASSERT_EQ(0, query_map(&n->ring, 0, 0, &q));
	EXPECT_EQ(IO_REGBUF_MAP_DEAD, q.state);
	EXPECT_LT(reg_dmabuf(&n->ring, 1, n->mem.fd, self->udp.tx), 0);
	net_close(&self->tcp);
	net_close(&self->udp);
	/* segments that nobody can send any more let go of the slot */
	EXPECT_EQ(0, net_idle(n));

	card_back(_metadata, self);
	/* the old slot does not know the card by itself, but can be told */
	ASSERT_EQ(0, reg_dmabuf(&n->ring, 1, n->mem.fd, self->tcp.tx));
	EXPECT_EQ(0, net_works(n, 1, &self->tcp));
	add = desc_add(self->tcp.tx);
	ASSERT_EQ(0, reg_one(&n->ring, 0, &add));
	EXPECT_EQ(0, net_works(n, 0, &self->tcp));
}

/* The slot goes after the card */
TEST_F(change, unbind_then_unregister)
{
	struct netrig *n = &self->net;

	ASSERT_EQ(0, net_driver(n, self->driver, sizeof(self->driver)));
	self->unbound = true;
	ASSERT_EQ(0, net_unbind(n, self->driver));
	EXPECT_EQ(0, bufinfo_attachments(n->mem.fd));
	ASSERT_EQ(0, reg_clear(&n->ring, 0));
	net_close(&self->tcp);
	net_close(&self->udp);
	uring_exit(&n->ring);
	mem_destroy(&n->mem);
	ASSERT_EQ(0, net_rebind(n, self->driver));
	self->unbound = false;
	EXPECT_EQ(0, bufinfo_attached(n->pci));
}

struct slow {
	struct uring ring;
	struct mem mem;
	int target;
	long ret;
};

static void *register_slow(void *arg)
{
	struct slow *s = arg;

	s->ret = reg_dmabuf(&s->ring, 0, s->mem.fd, s->target);
	return NULL;
}

struct unbind {
	const struct netrig *net;
	const char *driver;
	long ret;
	bool done;
};

static void *unbind_card(void *arg)
{
	struct unbind *u = arg;

	u->ret = net_unbind(u->net, u->driver);
	__atomic_store_n(&u->done, true, __ATOMIC_RELEASE);
	return NULL;
}

/*
 * Somebody registers memory of a slow exporter for the card, which is unbound
 * meanwhile: neither that, nor anybody who wants RTNL, waits with him.
 */
TEST_F(change, unbind_while_a_registration_waits)
{
	struct netrig *n = &self->net;
	struct unbind u = { .net = n, .driver = self->driver };
	struct slow s = { .target = self->tcp.tx };
	pthread_t reg, unbind;
	double start;
	int ns;

	ASSERT_EQ(0, mem_create(&s.mem, MEM_BAR, SIZE));
	ASSERT_EQ(0, uring_init(&s.ring, 8, 0));
	ASSERT_EQ(0, reg_sparse(&s.ring, 1));
	ASSERT_EQ(0, net_driver(n, self->driver, sizeof(self->driver)));
	ns = net_ns_new();
	ASSERT_GE(ns, 0);

	ASSERT_EQ(0, bar_fence(&s.mem, 1));
	ASSERT_EQ(0, pthread_create(&reg, NULL, register_slow, &s));
	lab_sleep_ms(300);
	self->unbound = true;
	start = lab_now();
	ASSERT_EQ(0, pthread_create(&unbind, NULL, unbind_card, &u));
	lab_sleep_ms(100);
	ASSERT_EQ(0, net_ip(ns, "link set lo up\n"));
	EXPECT_LE(lab_now() - start, lab_scale(2, 5));
	pthread_join(unbind, NULL);
	EXPECT_EQ(0, u.ret);
	EXPECT_LE(lab_now() - start, lab_scale(4, 8));
	/* whoever waits does so for ten seconds, or until this */
	ASSERT_EQ(0, bar_fence(&s.mem, 0));
	pthread_join(reg, NULL);
	EXPECT_EQ(-ENODEV, s.ret);
	EXPECT_TRUE(bufinfo_wait(s.mem.fd, 0, 5000));
	ASSERT_EQ(0, net_rebind(n, self->driver));
	self->unbound = false;
	uring_exit(&s.ring);
	mem_destroy(&s.mem);
	close(ns);
}

/*
 * The card is unbound while somebody holds the reservation lock of memory that is
 * mapped for it: its driver waits for that, but nobody who wants RTNL.
 */
static void unbind_locked(struct __test_metadata *_metadata, struct netrig *n,
			  const char *driver, const struct mem *mem,
			  pid_t holder)
{
	struct unbind u = { .net = n, .driver = driver };
	int ns = net_ns_new();
	pthread_t unbind;
	double start;

	ASSERT_GE(ns, 0);
	start = lab_now();
	ASSERT_EQ(0, pthread_create(&unbind, NULL, unbind_card, &u));
	lab_sleep_ms(500);
	ASSERT_EQ(0, net_ip(ns, "link set lo up\n"));
	EXPECT_LE(lab_now() - start, lab_scale(2, 5));
	EXPECT_FALSE(__atomic_load_n(&u.done, __ATOMIC_ACQUIRE));
	EXPECT_EQ(0, bar_let_go(holder));
	pthread_join(unbind, NULL);
	EXPECT_EQ(0, u.ret);
	EXPECT_EQ(0, bufinfo_attachments(mem->fd));
	close(ns);
}

TEST_F(change, unbind_while_locked)
{
	struct netrig *n = &self->net;
	struct mem mem;
	pid_t holder;

	ASSERT_EQ(0, mem_create(&mem, MEM_BAR, SIZE));
	ASSERT_EQ(0, reg_dmabuf(&n->ring, 1, mem.fd, self->tcp.tx));
	ASSERT_EQ(0, net_driver(n, self->driver, sizeof(self->driver)));
	holder = bar_hold(&mem);
	ASSERT_GT(holder, 0);
	self->unbound = true;
	unbind_locked(_metadata, n, self->driver, &mem, holder);
	ASSERT_EQ(0, reg_clear(&n->ring, 1));
	ASSERT_EQ(0, net_rebind(n, self->driver));
	self->unbound = false;
	mem_destroy(&mem);
}

/* The same for a binding that netlink makes, whose owner may be closing it */
static void unbind_bound(struct __test_metadata *_metadata,
			 struct _test_data_change *self, bool closing)
{
	struct netrig *n = &self->net;
	int nl = netdev_socket();
	struct mem mem;
	pid_t holder;
	__u32 id;

	ASSERT_GE(nl, 0);
	ASSERT_EQ(0, mem_create(&mem, MEM_BAR_SYSTEM, SIZE));
	ASSERT_EQ(0, netdev_bind_tx(nl, if_nametoindex(n->dev[NET_CARD]),
				    mem.fd, &id));
	ASSERT_EQ(1, bufinfo_attachments(mem.fd));
	ASSERT_EQ(0, net_driver(n, self->driver, sizeof(self->driver)));
	holder = bar_hold(&mem);
	ASSERT_GT(holder, 0);
	if (closing) {
		close(nl);
		/* it has begun */
		lab_sleep_ms(200);
	}
	self->unbound = true;
	unbind_locked(_metadata, n, self->driver, &mem, holder);
	ASSERT_EQ(0, net_rebind(n, self->driver));
	self->unbound = false;
	if (!closing)
		close(nl);
	mem_destroy(&mem);
}

TEST_F(change, unbind_with_a_locked_binding)
{
	unbind_bound(_metadata, self, false);
}

TEST_F(change, unbind_with_a_locked_binding_that_is_closed)
{
	unbind_bound(_metadata, self, true);
}

/*
 * A card is unplugged and plugged in again, with the slot alive: it sends again
 * once it is told, and nothing of the card before is left.
 */
TEST_F_TIMEOUT(change, cards_come_and_go, SOAK_TIMEOUT)
{
	unsigned int nr = lab_soak(lab_scale(3, 2), 200);
	struct io_uring_query_regbuf_map q;
	struct netrig *n = &self->net;
	struct io_uring_regbuf_desc d;

	ASSERT_EQ(0, net_driver(n, self->driver, sizeof(self->driver)));
	for (unsigned int i = 0; i < nr; i++) {
		self->unbound = true;
		ASSERT_EQ(0, net_unbind(n, self->driver));
		ASSERT_EQ(0, bufinfo_attachments(n->mem.fd));
		EXPECT_NO_WAY(net_send(n, self->udp.tx, 0, 0, 100, MSG_DONTWAIT));
		net_close(&self->tcp);
		net_close(&self->udp);
		ASSERT_EQ(0, net_idle(n));
		card_back(_metadata, self);
		ASSERT_EQ(0, net_udp(n, AF_INET, &self->udp));
		d = desc_add(self->tcp.tx);
		ASSERT_EQ(0, reg_one(&n->ring, 0, &d));
		ASSERT_EQ(0, query_map(&n->ring, 0, 0, &q));
		ASSERT_EQ(1, q.nr_targets);
		ASSERT_EQ(1, bufinfo_attachments(n->mem.fd));
		ASSERT_EQ(1, bufinfo_attached(n->pci));
		ASSERT_EQ(0, net_works(n, 0, &self->tcp));
		ASSERT_EQ(0, net_works(n, 0, &self->udp));
	}
}

TEST_HARNESS_MAIN
