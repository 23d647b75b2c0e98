// SPDX-License-Identifier: GPL-2.0
/*
 * tcp-data-split of e1000e and igb, with ordinary memory: what is split off, that it is all
 * there, and what the card may not be set to.
 */
#include <pthread.h>
#include <linux/ethtool.h>

#include "common.h"
#include "netio.h"
#include "rings.h"

#define SEED	NET_SEED
#define LEN	(1 * MiB)
#define ODD	13

FIXTURE(split) {
	struct netrig net;
	struct net_pair tcp;	/* from the peer to the card */
	struct rings before;
};

FIXTURE_VARIANT(split) {
	unsigned int mtu;
	enum split split;
	bool splits;
	const char *card;	/* or e1000e */
};

FIXTURE_VARIANT_ADD(split, unset_1500) { .mtu = 1500, .split = SPLIT_UNSET };
FIXTURE_VARIANT_ADD(split, unset_4148) {
	.mtu = 4148, .split = SPLIT_UNSET, .splits = true,
};

FIXTURE_VARIANT_ADD(split, unset_9000) {
	.mtu = 9000, .split = SPLIT_UNSET, .splits = true,
};

FIXTURE_VARIANT_ADD(split, off_1500) { .mtu = 1500, .split = SPLIT_OFF };
FIXTURE_VARIANT_ADD(split, off_4148) { .mtu = 4148, .split = SPLIT_OFF };
FIXTURE_VARIANT_ADD(split, off_9000) { .mtu = 9000, .split = SPLIT_OFF };
FIXTURE_VARIANT_ADD(split, on_1500) { .mtu = 1500, .split = SPLIT_ON, .splits = true };
FIXTURE_VARIANT_ADD(split, on_4148) { .mtu = 4148, .split = SPLIT_ON, .splits = true };
FIXTURE_VARIANT_ADD(split, on_9000) { .mtu = 9000, .split = SPLIT_ON, .splits = true };

FIXTURE_VARIANT_ADD(split, igb_off_1500) {
	.mtu = 1500, .split = SPLIT_OFF, .card = "igb",
};

FIXTURE_VARIANT_ADD(split, igb_on_1500) {
	.mtu = 1500, .split = SPLIT_ON, .splits = true, .card = "igb",
};

FIXTURE_VARIANT_ADD(split, igb_on_9000) {
	.mtu = 9000, .split = SPLIT_ON, .splits = true, .card = "igb",
};

static int connect_pair(struct netrig *n, int family, struct net_pair *tcp)
{
	struct net_pair p;
	int ret = net_tcp(n, family, &p);

	*tcp = (struct net_pair) { .tx = p.rx, .rx = p.tx };
	return ret;
}

FIXTURE_SETUP(split)
{
	struct netrig *n = &self->net;
	const char *why = NULL;
	int ret;

	self->tcp = NET_PAIR_NONE;
	ret = netrig_begin(n, variant->card ?: "e1000e", &why);
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, rings_get(n, &self->before));
	ASSERT_EQ(0, rings_split(n, variant->split));
	ASSERT_EQ(0, netrig_link(n, variant->mtu));
}

FIXTURE_TEARDOWN(split)
{
	struct netrig *n = &self->net;

	net_close(&self->tcp);
	rings_split(n, SPLIT_UNSET);
	rings_rx(n, self->before.rx);
	/* who is next sets the MTU */
	netrig_down(n);
}

/* What the peer sends arrives as it was: in bulk, and in pieces that are odd */
static void stream(struct __test_metadata *_metadata, const struct net_pair *tcp)
{
	struct piece p[1 + ODD] = { { SEED, 0, LEN } };
	struct receiver r;

	for (unsigned int i = 0; i < ODD; i++)
		p[1 + i] = (struct piece) { SEED + 1 + i, 0, 1 + i * i * i * i };
	ASSERT_EQ(0, receiver_start(&r, tcp->rx, p, 1 + ODD));
	for (unsigned int i = 0; i < 1 + ODD; i++)
		ASSERT_EQ(0, piece_send(tcp->tx, &p[i], 0));
	EXPECT_EQ(0, receiver_join(&r));
}

/* @nr packets had headers that were split off */
static void check_split(struct __test_metadata *_metadata, bool splits, long long nr,
			unsigned int mtu)
{
	if (splits) {
		EXPECT_GE(nr, LEN / mtu);
	} else {
		EXPECT_EQ(0, nr);
	}
}

TEST_F(split, streams)
{
	struct netrig *n = &self->net;
	static const int families[] = { AF_INET, AF_INET6 };
	struct rings now;

	ASSERT_EQ(0, rings_get(n, &now));
	EXPECT_EQ(variant->splits ? SPLIT_ON : SPLIT_OFF, now.split);
	EXPECT_EQ(0, now.hds_thresh);
	for (unsigned int i = 0; i < 2; i++) {
		long long split = card_stat(n, "rx_header_split");

		ASSERT_EQ(0, connect_pair(n, families[i], &self->tcp));
		stream(_metadata, &self->tcp);
		split = card_stat(n, "rx_header_split") - split;
		/* igb does not count them */
		if (!variant->card)
			check_split(_metadata, variant->splits, split, variant->mtu);
		net_close(&self->tcp);
	}
}

/* While data is on its way */
TEST_F(split, ring_changes)
{
	const struct piece p = { SEED, 0, 4 * MiB };
	struct netrig *n = &self->net;
	struct receiver r;
	struct rings now;

	ASSERT_EQ(0, connect_pair(n, AF_INET, &self->tcp));
	ASSERT_EQ(0, receiver_start(&r, self->tcp.rx, &p, 1));
	for (unsigned int i = 0; i < 4; i++) {
		const struct piece part = { SEED, i * MiB, MiB };

		ASSERT_EQ(0, piece_send(self->tcp.tx, &part, 0));
		ASSERT_EQ(0, rings_rx(n, 64 << i));
		ASSERT_EQ(0, rings_get(n, &now));
		EXPECT_EQ(64 << i, now.rx);
		EXPECT_EQ(variant->splits ? SPLIT_ON : SPLIT_OFF, now.split);
		ASSERT_EQ(0, net_wait_running(n, NET_CARD));
	}
	EXPECT_EQ(0, receiver_join(&r));
}

/*
 * A ring of many descriptors takes so long to be emptied that the link is up again before
 * there is the next one. What arrives then has to wait, or the IOMMU says where it went.
 */
TEST_F(split, ring_of_many)
{
	const struct piece p = { SEED, 0, 2 * MiB };
	struct netrig *n = &self->net;
	struct receiver r;

	if (variant->card || variant->mtu != 9000 || variant->split != SPLIT_UNSET)
		SKIP(return, "one of them is enough");
	ASSERT_EQ(0, rings_rx(n, 4096));
	ASSERT_EQ(0, net_wait_running(n, NET_CARD));
	ASSERT_EQ(0, connect_pair(n, AF_INET, &self->tcp));
	ASSERT_EQ(0, receiver_start(&r, self->tcp.rx, &p, 1));
	for (unsigned int i = 0; i < 2; i++) {
		const struct piece part = { SEED, i * MiB, MiB };

		ASSERT_EQ(0, piece_send(self->tcp.tx, &part, 0));
		ASSERT_EQ(0, rings_rx(n, i ? 256 : 64));
		ASSERT_EQ(0, net_wait_running(n, NET_CARD));
	}
	EXPECT_EQ(0, receiver_join(&r));
}

/* It comes back as it was */
TEST_F(split, down_and_tested)
{
	struct {
		struct ethtool_test test;
		__u64 results[8];
	} t = { .test = { .cmd = ETHTOOL_TEST, .flags = ETH_TEST_FL_OFFLINE } };
	struct netrig *n = &self->net;
	long long split;

	ASSERT_EQ(0, net_link(n, NET_CARD, false));
	ASSERT_EQ(0, net_link(n, NET_CARD, true));
	ASSERT_EQ(0, net_ethtool(n, NET_CARD, &t));
	ASSERT_EQ(0, net_wait_running(n, NET_CARD));
	split = card_stat(n, "rx_header_split");
	ASSERT_EQ(0, connect_pair(n, AF_INET, &self->tcp));
	stream(_metadata, &self->tcp);
	split = card_stat(n, "rx_header_split") - split;
	if (!variant->card)
		check_split(_metadata, variant->splits, split, variant->mtu);
}

/* --- what it asks for --- */

FIXTURE(split_needs) {
	struct netrig net;
	struct net_pair tcp;
};

FIXTURE_SETUP(split_needs)
{
	self->tcp = NET_PAIR_NONE;
	NETRIG_UP(&self->net, "e1000e", MEM_UDMABUF, 0);
}

FIXTURE_TEARDOWN(split_needs)
{
	net_close(&self->tcp);
	net_feature(&self->net, ETHTOOL_SRXCSUM, true);
	rings_split(&self->net, SPLIT_UNSET);
	netrig_down(&self->net);
}

static bool has_rx_checksum(const struct netrig *n)
{
	struct ethtool_value value = { .cmd = ETHTOOL_GRXCSUM };

	return !net_ethtool(n, NET_CARD, &value) && value.data;
}

TEST_F(split_needs, checksums)
{
	struct netrig *n = &self->net;
	struct rings now;

	ASSERT_EQ(0, net_feature(n, ETHTOOL_SRXCSUM, false));
	EXPECT_EQ(-EINVAL, rings_split(n, SPLIT_ON));
	ASSERT_EQ(0, rings_get(n, &now));
	EXPECT_EQ(SPLIT_OFF, now.split);
	ASSERT_EQ(0, net_feature(n, ETHTOOL_SRXCSUM, true));
	ASSERT_EQ(0, rings_split(n, SPLIT_ON));
	/* they stay on */
	net_feature(n, ETHTOOL_SRXCSUM, false);
	EXPECT_TRUE(has_rx_checksum(n));
	ASSERT_EQ(0, rings_split(n, SPLIT_OFF));
	ASSERT_EQ(0, net_feature(n, ETHTOOL_SRXCSUM, false));
	EXPECT_FALSE(has_rx_checksum(n));
}

TEST_F(split_needs, no_threshold)
{
	struct netrig *n = &self->net;

	EXPECT_EQ(0, rings_thresh(n, 0));
	EXPECT_EQ(-EINVAL, rings_thresh(n, 1));
	ASSERT_EQ(0, rings_split(n, SPLIT_ON));
	EXPECT_EQ(-EINVAL, rings_thresh(n, 256));
}

/* The card is closed meanwhile */
TEST_F(split_needs, while_down)
{
	struct netrig *n = &self->net;
	struct rings now;

	ASSERT_EQ(0, net_link(n, NET_CARD, false));
	ASSERT_EQ(0, rings_split(n, SPLIT_ON));
	ASSERT_EQ(0, net_link(n, NET_CARD, true));
	ASSERT_EQ(0, rings_get(n, &now));
	EXPECT_EQ(SPLIT_ON, now.split);
	ASSERT_EQ(0, connect_pair(n, AF_INET, &self->tcp));
	stream(_metadata, &self->tcp);
}

struct busy {
	int fd;
	bool stop;
	ssize_t bad;
};

static void *poll_busily(void *arg)
{
	struct busy *b = arg;
	char c;

	while (!__atomic_load_n(&b->stop, __ATOMIC_ACQUIRE)) {
		ssize_t ret = recv(b->fd, &c, 1, 0);

		if (ret >= 0 || (errno != EAGAIN && errno != EINTR))
			b->bad = ret < 0 ? -errno : ret + 1;
	}
	return NULL;
}

/* A socket polls the rings while they are exchanged */
TEST_F(split_needs, busy_polling)
{
	const struct timeval soon = { .tv_usec = 1000 };
	struct netrig *n = &self->net;
	struct net_pair other;
	struct rings before;
	struct busy b = { 0 };
	pthread_t thread;

	ASSERT_EQ(0, rings_get(n, &before));
	ASSERT_EQ(0, rings_split(n, SPLIT_ON));
	/* as it is, but this waits until the link can be used */
	ASSERT_EQ(0, net_mtu(n, NET_CARD, 1500));
	ASSERT_EQ(0, connect_pair(n, AF_INET, &self->tcp));
	ASSERT_EQ(0, connect_pair(n, AF_INET, &other));
	stream(_metadata, &other);
	b.fd = other.rx;
	ASSERT_EQ(0, net_set(b.fd, SOL_SOCKET, SO_BUSY_POLL, 1000));
	ASSERT_EQ(0, setsockopt(b.fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon)));
	ASSERT_EQ(0, pthread_create(&thread, NULL, poll_busily, &b));
	for (unsigned int i = 0; i < lab_scale(40, 20); i++)
		EXPECT_EQ(0, rings_rx(n, i % 2 ? before.rx : 80));
	for (unsigned int i = 0; i < 4; i++)
		EXPECT_EQ(0, rings_split(n, i % 2 ? SPLIT_ON : SPLIT_OFF));
	__atomic_store_n(&b.stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, b.bad);
	ASSERT_EQ(0, rings_rx(n, before.rx));
	ASSERT_EQ(0, net_wait_running(n, NET_CARD));
	stream(_metadata, &self->tcp);
	net_close(&other);
}

TEST_HARNESS_MAIN
