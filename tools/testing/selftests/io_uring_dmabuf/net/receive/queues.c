// SPDX-License-Identifier: GPL-2.0
/*
 * A card with several receive queues, one of which belongs to an application: its
 * connection comes there, and all else goes on by the others. And their number, which
 * others change.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <linux/ethtool.h>

#include "common.h"
#include "relay.h"
#include "steer.h"

#define SEED	NET_SEED
#define SIZE	(4 * MiB)
#define ALL	(lab_scale(8, 4) * MiB)
#define ECHO	1024	/* bytes of an echo */

FIXTURE(queues) {
	struct relay relay;
	struct net_pair other;	/* another connection, by queue 0 */
	struct rings before;
	long long dropped;
};

FIXTURE_VARIANT(queues) {
	enum mem_kind kind;
	int family;
};

FIXTURE_VARIANT_ADD(queues, igb) { .kind = MEM_UDMABUF_4K, .family = AF_INET };
FIXTURE_VARIANT_ADD(queues, igb_bar_tcp6) { .kind = MEM_BAR, .family = AF_INET6 };

static int connect_other(struct relay *r, int family, struct net_pair *other)
{
	for (;;) {
		struct net_pair p;
		int ret = net_tcp(&r->net, family, &p);

		*other = (struct net_pair) { .tx = p.rx, .rx = p.tx };
		if (ret || steer_alone(&r->net, other->rx, r->tcp.rx))
			return ret;
		net_close(other);
	}
}

FIXTURE_SETUP(queues)
{
	struct relay *r = &self->relay;

	self->other = NET_PAIR_NONE;
	RELAY_UP_CARD(r, "igb", variant->kind, SIZE, ZCRX_RING, MTU_PAGE(variant->family));
	ASSERT_EQ(0, rings_get(&r->net, &self->before));
	self->dropped = card_stat(&r->net, "rx_unreadable_dropped");
	ASSERT_LE(0, self->dropped);
	ASSERT_EQ(0, relay_open(r, 0, SIZE));
	ASSERT_EQ(0, relay_connect(r, variant->family));
	ASSERT_EQ(0, connect_other(r, variant->family, &self->other));
}

FIXTURE_TEARDOWN(queues)
{
	if (self->before.rx)
		rings_rx(&self->relay.net, self->before.rx);
	net_close(&self->other);
	relay_down(&self->relay);
}

static void check_works(struct __test_metadata *_metadata, struct relay *r)
{
	const struct piece p = { SEED + 1, 0, ALL };
	struct relay_run run = { 0 };

	ASSERT_EQ(0, relay_run(r, &p, &run));
}

/* What the peer sends to the other connection */
static void check_other(struct __test_metadata *_metadata, const struct net_pair *other)
{
	const struct piece p = { SEED + 2, 0, 1 * MiB };
	struct receiver rx;

	ASSERT_EQ(0, receiver_start(&rx, other->rx, &p, 1));
	EXPECT_EQ(0, piece_send(other->tx, &p, 0));
	EXPECT_EQ(0, receiver_join(&rx));
}

static unsigned short checksum(const void *data, unsigned int len)
{
	const unsigned short *word = data;
	unsigned int sum = 0;

	for (unsigned int i = 0; i < len / 2; i++)
		sum += word[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

struct echo {
	struct icmphdr icmp;
	unsigned char data[ECHO];
};

/* The peer asks, and the card answers: 0, -EILSEQ or -errno */
static int echo(struct relay *r, unsigned int nr)
{
	struct {
		struct iphdr ip;
		struct echo echo;
	} got;
	struct echo ask = {
		.icmp = { .type = ICMP_ECHO, .un.echo = { .id = htons(73),
							  .sequence = htons(nr) } },
	};
	int sk = net_socket(&r->net, NET_PEER, AF_INET, SOCK_RAW, IPPROTO_ICMP);
	struct sockaddr_storage to;
	socklen_t len = net_addr(&r->net, NET_CARD, AF_INET, 0, &to);
	int ret;

	if (sk < 0)
		return sk;
	pattern_fill(ask.data, 0, ECHO, SEED + nr);
	ask.icmp.checksum = checksum(&ask, sizeof(ask));
	ret = sendto(sk, &ask, sizeof(ask), 0, (void *)&to, len) < 0 ? -errno : 0;
	while (!ret) {
		if (recv(sk, &got, sizeof(got), 0) < 0)
			ret = -errno;
		else if (got.echo.icmp.type == ICMP_ECHOREPLY &&
			 got.echo.icmp.un.echo.sequence == htons(nr))
			break;
	}
	if (!ret && memcmp(got.echo.data, ask.data, ECHO))
		ret = -EILSEQ;
	close(sk);
	return ret;
}

static void check_datagrams(struct __test_metadata *_metadata, struct relay *r)
{
	const struct piece p = { SEED + 3, 0, 1000 };
	int rx = net_socket(&r->net, NET_CARD, AF_INET, SOCK_DGRAM, 0);
	int tx = net_socket(&r->net, NET_PEER, AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_storage ss;
	socklen_t len = net_addr(&r->net, NET_CARD, AF_INET, 0, &ss);

	ASSERT_EQ(0, bind(rx, (void *)&ss, len));
	len = sizeof(ss);
	ASSERT_EQ(0, getsockname(rx, (void *)&ss, &len));
	ASSERT_EQ(0, connect(tx, (void *)&ss, len));
	for (unsigned int i = 0; i < 8; i++) {
		ASSERT_EQ(0, piece_send(tx, &p, 0));
		EXPECT_EQ(0, net_recv_datagram(rx, &p, 1));
	}
	close(tx);
	close(rx);
}

static void check_others(struct __test_metadata *_metadata, struct relay *r,
			 const struct net_pair *other)
{
	check_other(_metadata, other);
	check_datagrams(_metadata, r);
	for (unsigned int i = 1; i <= 8; i++)
		EXPECT_EQ(0, echo(r, i));
}

/* Each queue has what is meant for it */
TEST_F(queues, apart)
{
	struct relay *r = &self->relay;
	long long first = steer_packets(&r->net, 0);
	long long last = steer_packets(&r->net, r->queue);

	check_works(_metadata, r);
	last = steer_packets(&r->net, r->queue) - last;
	EXPECT_GE(last, ALL / 4096);
	EXPECT_LE(steer_packets(&r->net, 0) - first, 16);

	first = steer_packets(&r->net, 0);
	last = steer_packets(&r->net, r->queue);
	check_others(_metadata, r, &self->other);
	EXPECT_GE(steer_packets(&r->net, 0) - first, 1 * MiB / 4148 + 16);
	EXPECT_EQ(0, steer_packets(&r->net, r->queue) - last);
	EXPECT_EQ(self->dropped, card_stat(&r->net, "rx_unreadable_dropped"));
}

/* Another connection, datagrams and echoes while the area is filled and written out */
TEST_F(queues, others_meanwhile)
{
	const struct piece p = { SEED, 0, ALL };
	struct relay *r = &self->relay;
	struct arrived a;
	struct sender s;
	__u64 got = 0;

	ASSERT_NE(NULL, zcrx_prep(&r->z, r->tcp.rx, p.len, RELAY_RECV));
	ASSERT_LE(0, uring_submit(&r->ring, 0));
	ASSERT_EQ(0, sender_start(&s, r->tcp.tx, &p));
	while (got < p.len) {
		int ret = relay_next(r, &p, got, &a);

		ASSERT_GT(ret, 0);
		if (got / MiB != (got + ret) / MiB)
			check_others(_metadata, r, &self->other);
		got += ret;
		zcrx_return(&r->z, a.off, a.len);
	}
	EXPECT_EQ(0, sender_join(&s));
	EXPECT_EQ(self->dropped, card_stat(&r->net, "rx_unreadable_dropped"));
}

/* The application has all of its memory, and the others need none of that */
TEST_F(queues, others_while_starved)
{
	const struct piece p = { SEED, 0, 2 * SIZE };
	struct arrived *held = calloc(2 * SIZE / 1024, sizeof(*held));
	struct relay *r = &self->relay;
	unsigned int nr = 0;
	struct sender s;
	__u64 got = 0;

	ASSERT_NE(NULL, held);
	ASSERT_NE(NULL, zcrx_prep(&r->z, r->tcp.rx, p.len, RELAY_RECV));
	ASSERT_LE(0, uring_submit(&r->ring, 0));
	ASSERT_EQ(0, sender_start(&s, r->tcp.tx, &p));
	while (got < p.len) {
		int ret = relay_next(r, &p, got, &held[nr]);

		ASSERT_GT(ret, 0);
		nr++;
		got += ret;
		/* nothing more can come, or all has */
		if (nr < SIZE / 4096 - 8 && got < p.len)
			continue;
		check_others(_metadata, r, &self->other);
		while (nr--)
			zcrx_return(&r->z, held[nr].off, held[nr].len);
		nr = 0;
	}
	EXPECT_EQ(0, sender_join(&s));
	free(held);
}

/* The first gets what has no headers to split off, ARP, which has to be readable */
TEST_F(queues, not_the_first)
{
	struct io_uring_zcrx_area_reg area = area_slot(0, 0, SIZE);
	struct relay *r = &self->relay;
	unsigned int ifindex = relay_ifindex(r);
	struct zcrx z;

	EXPECT_EQ(-EOPNOTSUPP, zcrx_open_queue(&z, &r->ring, ifindex, 0, &area));
	EXPECT_EQ(-EEXIST, zcrx_open_queue(&z, &r->ring, ifindex, r->queue, &area));
	EXPECT_EQ(-ERANGE, zcrx_open_queue(&z, &r->ring, ifindex, r->queue + 1, &area));
	check_works(_metadata, r);
	check_others(_metadata, r, &self->other);
}

static long long carrier_count(const struct netrig *n)
{
	char path[128];
	long long nr = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/class/net/%s/carrier_changes",
		 n->dev[NET_CARD]);
	f = fopen(path, "r");
	if (f) {
		if (fscanf(f, "%lld", &nr) != 1)
			nr = -1;
		fclose(f);
	}
	return nr;
}

/* The link stays, and what comes by it to other queues */
TEST_F(queues, stops_alone)
{
	struct relay *r = &self->relay;
	long long before = carrier_count(&r->net);
	const struct piece p = { SEED, 0, 16 * MiB };
	struct receiver rx;
	struct sender s;

	ASSERT_LE(0, before);
	ASSERT_EQ(0, receiver_start(&rx, self->other.rx, &p, 1));
	ASSERT_EQ(0, sender_start(&s, self->other.tx, &p));
	for (unsigned int i = 0; i < lab_scale(20, 8); i++)
		ASSERT_EQ(0, relay_reopen(r, SIZE));
	EXPECT_EQ(0, sender_join(&s));
	EXPECT_EQ(0, receiver_join(&rx));
	EXPECT_EQ(before, carrier_count(&r->net));
	check_works(_metadata, r);
}

/* --- queues that come and go --- */

FIXTURE(number) {
	struct relay relay;
	struct rings before;
	unsigned int queues;	/* at first */
	char driver[64];
	bool unbound;
};

static int write_vfs(const char *dev, const char *nr)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/class/net/%s/device/sriov_numvfs", dev);
	return file_write(path, nr);
}

/* Virtual functions, none or one: 0 or -errno */
static int set_vfs(const struct relay *r, bool on)
{
	return write_vfs(r->net.dev[NET_CARD], on ? "1" : "0");
}

/* The last of @queues is for the relay then, and nothing else comes there */
static int take_last_of(struct relay *r, unsigned int queues)
{
	int ret = steer_set_queues(&r->net, queues);

	r->queue = queues - 1;
	if (!ret)
		ret = steer_all(&r->net, 0);
	return ret ?: net_wait_running(&r->net, NET_CARD);
}

FIXTURE_SETUP(number)
{
	struct relay *r = &self->relay;
	const char *dev = NEED_ENV("LAB_NET_IGB");
	int ret = write_vfs(dev, "1");

	if (ret)
		SKIP(return, "no virtual functions of this card (%d)", ret);
	ASSERT_EQ(0, write_vfs(dev, "0"));
	RELAY_UP_CARD(r, "igb", MEM_UDMABUF_4K, SIZE, ZCRX_RING, MTU_PAGE_TCP4);
	ASSERT_EQ(0, rings_get(&r->net, &self->before));
	ASSERT_EQ(0, net_driver(&r->net, self->driver, sizeof(self->driver)));
	self->queues = r->queue + 1;
	ASSERT_EQ(0, take_last_of(r, 4));
}

FIXTURE_TEARDOWN(number)
{
	struct relay *r = &self->relay;

	if (self->unbound)
		net_rebind(&r->net, self->driver);
	uring_exit(&r->ring);
	set_vfs(r, false);
	steer_all(&r->net, 0);
	/* a ring that is closed ends some time later */
	for (double end = net_deadline(); self->queues && lab_now() < end; lab_sleep_ms(10)) {
		if (steer_set_queues(&r->net, self->queues) != -EINVAL)
			break;
	}
	if (self->before.rx)
		rings_rx(&r->net, self->before.rx);
	relay_down(r);
}

/* With virtual functions there are two queues, and the last of four is taken */
TEST_F(number, virtual_functions)
{
	struct relay *r = &self->relay;
	double end;
	int ret;

	ASSERT_EQ(0, relay_open(r, 0, SIZE));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	check_works(_metadata, r);
	EXPECT_EQ(-EBUSY, set_vfs(r, true));
	EXPECT_EQ(4, steer_queues(&r->net));
	check_works(_metadata, r);

	/* until nobody has it */
	net_close(&r->tcp);
	ASSERT_EQ(0, relay_renew(r));
	end = net_deadline();
	while ((ret = set_vfs(r, true)) == -EBUSY && lab_now() < end)
		lab_sleep_ms(10);
	ASSERT_EQ(0, ret);
	EXPECT_GE(2, steer_queues(&r->net));

	ASSERT_EQ(0, set_vfs(r, false));
	ASSERT_EQ(0, take_last_of(r, 4));
	ASSERT_EQ(0, relay_open(r, 0, SIZE));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	check_works(_metadata, r);
}

/* Asks for virtual functions until somebody stops it, or the answer is another */
struct asks {
	const struct relay *r;
	pthread_t thread;
	unsigned int nr;
	bool stop;
	int error;
};

static void *ask(void *arg)
{
	struct asks *a = arg;

	do {
		a->error = set_vfs(a->r, true);
		__atomic_fetch_add(&a->nr, 1, __ATOMIC_RELAXED);
		lab_sleep_ms(1);
	} while (a->error == -EBUSY && !__atomic_load_n(&a->stop, __ATOMIC_RELAXED));
	return NULL;
}

/* A reset meanwhile does not set the card up for virtual functions that it will not have */
TEST_F(number, refused_during_a_reset)
{
	struct ethtool_value nway = { .cmd = ETHTOOL_NWAY_RST };
	struct relay *r = &self->relay;
	struct asks a = { .r = r };

	ASSERT_EQ(0, relay_open(r, 0, SIZE));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_EQ(0, pthread_create(&a.thread, NULL, ask, &a));
	while (!__atomic_load_n(&a.nr, __ATOMIC_RELAXED))
		lab_sleep_ms(1);
	EXPECT_EQ(0, net_ethtool(&r->net, NET_CARD, &nway));
	__atomic_store_n(&a.stop, true, __ATOMIC_RELAXED);
	pthread_join(a.thread, NULL);
	EXPECT_EQ(-EBUSY, a.error);
	EXPECT_EQ(4, steer_queues(&r->net));
	check_works(_metadata, r);
}

/* What an interface that is down will have, not what it had */
TEST_F(number, while_it_is_down)
{
	struct io_uring_zcrx_area_reg area = area_slot(0, 0, SIZE);
	struct relay *r = &self->relay;
	struct zcrx z;

	ASSERT_EQ(0, net_link(&r->net, NET_CARD, false));
	ASSERT_EQ(0, steer_set_queues(&r->net, 2));
	EXPECT_EQ(-ENETDOWN, zcrx_open_queue(&z, &r->ring, relay_ifindex(r), 3, &area));
	ASSERT_EQ(0, zcrx_open_queue(&r->z, &r->ring, relay_ifindex(r), 1, &area));
	r->queue = 1;
	ASSERT_EQ(0, net_link(&r->net, NET_CARD, true));
	ASSERT_EQ(0, steer_all(&r->net, 0));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	check_works(_metadata, r);
}

struct unbind {
	const struct relay *r;
	const char *driver;
	pthread_t thread;
	int error;
};

static void *unbind(void *arg)
{
	struct unbind *u = arg;

	u->error = net_unbind(&u->r->net, u->driver);
	return NULL;
}

/*
 * The driver is being unbound, and waits for its virtual function, when the ring ends:
 * both do
 */
TEST_F(number, ends_while_unbound)
{
	struct relay *r = &self->relay;
	struct unbind u = { .r = r, .driver = self->driver };
	double end = net_deadline();
	char vf[128];

	ASSERT_EQ(0, take_last_of(r, 2));
	ASSERT_EQ(0, set_vfs(r, true));
	ASSERT_EQ(0, net_wait_running(&r->net, NET_CARD));
	ASSERT_EQ(0, relay_open(r, 0, SIZE));
	snprintf(vf, sizeof(vf), "/sys/bus/pci/devices/%s/virtfn0", r->net.pci);
	ASSERT_EQ(0, access(vf, F_OK));

	self->unbound = true;
	ASSERT_EQ(0, pthread_create(&u.thread, NULL, unbind, &u));
	/* half a second before the interface is closed */
	while (!access(vf, F_OK) && lab_now() < end)
		lab_sleep_ms(1);
	uring_exit(&r->ring);
	zcrx_forget(&r->z);
	pthread_join(u.thread, NULL);
	EXPECT_EQ(0, u.error);
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 0, net_patience()));

	ASSERT_EQ(0, net_rebind(&r->net, self->driver));
	self->unbound = false;
	ASSERT_EQ(0, net_configure(&r->net, NET_CARD));
}

TEST_HARNESS_MAIN
