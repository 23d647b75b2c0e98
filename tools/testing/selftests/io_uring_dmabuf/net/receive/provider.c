// SPDX-License-Identifier: GPL-2.0
/*
 * A card whose queue belongs to an application: what is configured meanwhile, and
 * packets that nobody can read.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <linux/ethtool.h>

#include "common.h"
#include "relay.h"
#include "steer.h"

#define SEED	NET_SEED
#define SIZE	(4 * MiB)
#define ALL	(2 * MiB)

FIXTURE(provider) {
	struct relay relay;
	struct rings before;
};

FIXTURE_VARIANT(provider) {
	enum mem_kind kind;
	const char *card;	/* or e1000e */
};

FIXTURE_VARIANT_ADD(provider, udmabuf) { .kind = MEM_UDMABUF_4K };
FIXTURE_VARIANT_ADD(provider, bar) { .kind = MEM_BAR };
FIXTURE_VARIANT_ADD(provider, igb) { .kind = MEM_UDMABUF_4K, .card = "igb" };

FIXTURE_SETUP(provider)
{
	struct relay *r = &self->relay;

	RELAY_UP_CARD(r, variant->card ?: "e1000e", variant->kind, SIZE, ZCRX_RING,
		      MTU_PAGE_TCP4);
	ASSERT_EQ(0, rings_get(&r->net, &self->before));
	ASSERT_EQ(0, relay_open(r, 0, SIZE));
	/* all that arrives, as with a card that has one queue */
	if (r->queue)
		ASSERT_EQ(0, steer_all(&r->net, r->queue));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
}

FIXTURE_TEARDOWN(provider)
{
	if (self->before.rx)
		rings_rx(&self->relay.net, self->before.rx);
	relay_down(&self->relay);
}

static void check_works(struct __test_metadata *_metadata, struct relay *r)
{
	const struct piece p = { SEED + 1, 0, ALL };
	struct relay_run run = { 0 };

	ASSERT_EQ(0, relay_run(r, &p, &run));
}

static int set_mtu(struct relay *r, unsigned int mtu)
{
	return net_mtu(&r->net, NET_PEER, mtu) ?: net_mtu(&r->net, NET_CARD, mtu);
}

/* Segments of 1448 bytes, and of 1024, which go to the drive as vectors */
TEST_F(provider, small_mtus)
{
	struct relay *r = &self->relay;
	const struct piece p = { SEED, 0, 64 * 1448 * 16 }, blocks = { SEED + 1, 0, ALL };
	struct relay_run run = { .batch = 32 };
	struct net_pair old = r->tcp;

	ASSERT_EQ(0, set_mtu(r, 1500));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_EQ(0, relay_drain(r, &p));
	net_close(&old);
	old = r->tcp;
	ASSERT_EQ(0, set_mtu(r, 1024 + 52));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_EQ(0, relay_run(r, &blocks, &run));
	net_close(&old);
}

/* Packets of two pages, and of three, which make no blocks */
TEST_F(provider, larger_mtus)
{
	static const unsigned int mtus[] = { 8192 + 52, 9000, MTU_PAGE_TCP4 };
	struct relay *r = &self->relay;

	for (unsigned int i = 0; i < ARRAY_SIZE(mtus); i++) {
		const struct piece p = { SEED + i, 0, ALL };
		struct net_pair old = r->tcp;

		ASSERT_EQ(0, set_mtu(r, mtus[i]));
		ASSERT_EQ(0, relay_connect(r, AF_INET));
		EXPECT_EQ(0, relay_drain(r, &p));
		net_close(&old);
	}
	check_works(_metadata, r);
}

/* The split has to stay; what else is set is reset with the memory of the provider */
TEST_F(provider, configured)
{
	struct {
		struct ethtool_test test;
		__u64 results[8];
	} t = { .test = { .cmd = ETHTOOL_TEST, .flags = ETH_TEST_FL_OFFLINE } };
	struct ethtool_value nway = { .cmd = ETHTOOL_NWAY_RST };
	struct relay *r = &self->relay;
	struct netrig *n = &r->net;

	EXPECT_EQ(-EINVAL, rings_split(n, SPLIT_OFF));
	EXPECT_EQ(-EINVAL, rings_split(n, SPLIT_UNSET));
	EXPECT_EQ(-EINVAL, rings_thresh(n, 1));
	check_works(_metadata, r);
	ASSERT_EQ(0, rings_rx(n, 64));
	check_works(_metadata, r);
	ASSERT_EQ(0, rings_rx(n, self->before.rx));
	check_works(_metadata, r);
	ASSERT_EQ(0, net_ethtool(n, NET_CARD, &nway));
	check_works(_metadata, r);
	ASSERT_EQ(0, net_ethtool(n, NET_CARD, &t));
	check_works(_metadata, r);
	EXPECT_EQ(2, bufinfo_attachments(r->mem.fd));
}

/* --- packets for somebody else --- */

static int ping(struct relay *r, unsigned int len)
{
	struct {
		struct icmphdr icmp;
		char data[1400];
	} packet = { .icmp.type = ICMP_ECHO };
	int sk = net_socket(&r->net, NET_PEER, AF_INET, SOCK_RAW, IPPROTO_ICMP);
	const unsigned short *word = (void *)&packet;
	struct sockaddr_storage to;
	socklen_t to_len = net_addr(&r->net, NET_CARD, AF_INET, 0, &to);
	unsigned int sum = 0;
	int ret;

	if (sk < 0)
		return sk;
	for (unsigned int i = 0; i < (sizeof(packet.icmp) + len) / 2; i++)
		sum += word[i];
	sum = (sum & 0xffff) + (sum >> 16);
	packet.icmp.checksum = ~(sum + (sum >> 16));
	ret = sendto(sk, &packet, sizeof(packet.icmp) + len, 0, (void *)&to, to_len);
	close(sk);
	return ret < 0 ? -errno : 0;
}

static bool dropped_becomes(struct relay *r, long long want)
{
	double end = net_deadline();

	while (card_stat(&r->net, "rx_unreadable_dropped") != want && lab_now() < end)
		lab_sleep_ms(10);
	return card_stat(&r->net, "rx_unreadable_dropped") == want;
}

TEST_F(provider, pings)
{
	struct relay *r = &self->relay;
	long long dropped = card_stat(&r->net, "rx_unreadable_dropped");

	ASSERT_GE(dropped, 0);
	for (unsigned int i = 1; i <= 4; i++) {
		ASSERT_EQ(0, ping(r, i * 300));
		EXPECT_TRUE(dropped_becomes(r, dropped + i));
	}
	check_works(_metadata, r);
}

/* A datagram that arrives in memory that is not its socket's */
TEST_F(provider, datagrams)
{
	const struct piece p = { SEED, 0, 1000 };
	struct relay *r = &self->relay;
	int rx = net_socket(&r->net, NET_CARD, AF_INET, SOCK_DGRAM, 0);
	int tx = net_socket(&r->net, NET_PEER, AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_storage ss;
	socklen_t len = net_addr(&r->net, NET_CARD, AF_INET, 0, &ss);
	char buf[2000];

	ASSERT_EQ(0, bind(rx, (void *)&ss, len));
	len = sizeof(ss);
	ASSERT_EQ(0, getsockname(rx, (void *)&ss, &len));
	ASSERT_EQ(0, connect(tx, (void *)&ss, len));
	ASSERT_EQ(0, piece_send(tx, &p, 0));
	memset(buf, POISON, sizeof(buf));
	ASSERT_EQ(-1, recv(rx, buf, sizeof(buf), 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(NO_MISMATCH, poison_check(buf, sizeof(buf), POISON));
	close(tx);
	close(rx);
	check_works(_metadata, r);
}

/* Nor can a socket that does not know of the area */
TEST_F(provider, ordinary_receives)
{
	const struct piece p = { SEED, 0, 4096 };
	struct relay *r = &self->relay;
	char buf[4096];

	memset(buf, POISON, sizeof(buf));
	ASSERT_EQ(0, piece_send(r->tcp.tx, &p, 0));
	ASSERT_EQ(0, net_wait_acked(r->tcp.tx));
	ASSERT_EQ(-1, recv(r->tcp.rx, buf, sizeof(buf), 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(NO_MISMATCH, poison_check(buf, sizeof(buf), POISON));
}

/* --- RDS over TCP, which reads in the kernel --- */

#define RDS_LEN		8000
#define RDS_HOST	9	/* the card, behind the peer's 2: only that one connects */

static void rds_addr(const struct netrig *n, int host, struct sockaddr_in *sin)
{
	*sin = (struct sockaddr_in) { .sin_family = AF_INET, .sin_port = htons(7300) };
	sin->sin_addr.s_addr = htonl(10U << 24 | 73 << 16 | n->net << 8 | host);
}

static int rds_at(const struct netrig *n, enum net_side side, int host)
{
	int sk = net_socket(n, side, PF_RDS, SOCK_SEQPACKET, 0);
	struct sockaddr_in sin;

	rds_addr(n, host, &sin);
	return sk < 0 || !bind(sk, (void *)&sin, sizeof(sin)) ? sk : -errno;
}

/* Message @nr to the card */
static int rds_send_nr(const struct netrig *n, int tx, unsigned int nr)
{
	struct sockaddr_in to;
	char buf[RDS_LEN];
	ssize_t len;

	rds_addr(n, RDS_HOST, &to);
	pattern_fill(buf, nr * RDS_LEN, RDS_LEN, SEED);
	len = sendto(tx, buf, RDS_LEN, 0, (void *)&to, sizeof(to));
	return len < 0 ? -errno : len == RDS_LEN ? 0 : -EMSGSIZE;
}

/* That is the next to arrive, in @ms */
static int rds_recv_nr(int rx, unsigned int nr, int ms)
{
	double end = lab_now() + ms / 1000.0;
	char buf[RDS_LEN + 1];
	ssize_t len;

	/* not poll(): what a connection says of congestion wakes that, too */
	while ((len = recv(rx, buf, sizeof(buf), MSG_DONTWAIT)) < 0 && errno == EAGAIN) {
		if (lab_now() > end)
			return -ETIME;
		lab_sleep_ms(10);
	}
	if (len != RDS_LEN)
		return len < 0 ? -errno : -EMSGSIZE;
	return pattern_check(buf, nr * RDS_LEN, RDS_LEN, SEED) == NO_MISMATCH ? 0 : -EILSEQ;
}

/* RDS takes another one, as soon as there is one */
static int rds_disconnect(const struct netrig *n)
{
	static const char *const argv[] = {
		"sh", "-c", "ss -Kt dport = :16385 >/dev/null", NULL
	};

	return net_run(n->ns[NET_PEER], "", argv);
}

static int area_again(struct relay *r)
{
	int ret = rings_split(&r->net, SPLIT_ON);

	ret = ret ?: uring_init(&r->ring, 1024, ZCRX_RING);
	ret = ret ?: reg_sparse(&r->ring, RELAY_SLOTS);
	ret = ret ?: reg_dmabuf(&r->ring, 0, r->mem.fd, r->disk);
	return ret ?: relay_open(r, 0, SIZE);
}

/*
 * What the card puts into the area has not arrived: it is sent again, by that connection or
 * another one, until it can be read
 */
TEST_F_TIMEOUT(provider, rds, 150)
{
	struct relay *r = &self->relay;
	struct netrig *n = &r->net;
	int rx, tx;

	if (variant->kind != MEM_UDMABUF_4K)
		SKIP(return, "one kind of memory is enough");
	if (access("/proc/sys/net/rds/tcp", F_OK))
		SKIP(return, "no RDS over TCP");
	ASSERT_EQ(0, relay_close(r));
	ASSERT_EQ(0, net_wait_running(n, NET_CARD));
	ASSERT_EQ(0, net_ip(n->home, "addr add 10.73.%u.%u/24 dev %s\n", n->net, RDS_HOST,
			    n->dev[NET_CARD]));
	rx = rds_at(n, NET_CARD, RDS_HOST);
	tx = rds_at(n, NET_PEER, 2);
	ASSERT_LE(0, rx);
	ASSERT_LE(0, tx);
	/* of several connections in the end, so twice */
	for (unsigned int i = 0; i < 2; i++) {
		ASSERT_EQ(0, rds_send_nr(n, tx, i));
		ASSERT_EQ(0, rds_recv_nr(rx, i, net_patience()));
	}
	/* ARP is for the card what payload is */
	ASSERT_EQ(0, net_ip(n->ns[NET_PEER], "neigh change 10.73.%u.%u dev %s nud permanent\n",
			    n->net, RDS_HOST, n->dev[NET_PEER]));

	ASSERT_EQ(0, area_again(r));
	ASSERT_EQ(0, rds_send_nr(n, tx, 2));
	EXPECT_EQ(-ETIME, rds_recv_nr(rx, 2, 1000));
	ASSERT_EQ(0, rds_disconnect(n));
	ASSERT_EQ(0, rds_send_nr(n, tx, 3));
	EXPECT_EQ(-ETIME, rds_recv_nr(rx, 2, 1000));
	EXPECT_EQ(0, relay_close(r));
	ASSERT_EQ(0, net_wait_running(n, NET_CARD));
	ASSERT_EQ(0, rds_send_nr(n, tx, 4));
	for (unsigned int i = 2; i < 5; i++) {
		/* TCP tries less and less often */
		EXPECT_EQ(0, rds_recv_nr(rx, i, 4 * net_patience()));
	}
	close(tx);
	close(rx);
}

/* What came by loopback is in pages: nobody copies it */
TEST_F(provider, loopback)
{
	const struct piece p = { SEED, 0, 4096 };
	struct relay *r = &self->relay;
	struct uring_res res;
	struct net_pair lo;

	ASSERT_EQ(0, net_ip(r->net.home, "link set lo up\n"));
	ASSERT_EQ(0, net_local("127.0.0.1", &lo));
	ASSERT_EQ(0, piece_send(lo.tx, &p, 0));
	ASSERT_NE(NULL, zcrx_prep(&r->z, lo.rx, 0, RELAY_RECV));
	ASSERT_LE(0, uring_submit(&r->ring, 0));
	ASSERT_EQ(0, uring_wait(&r->ring, &res, net_patience()));
	EXPECT_EQ(-ENOMEM, res.res);
	EXPECT_EQ(0, res.flags & IORING_CQE_F_MORE);
	net_close(&lo);
	check_works(_metadata, r);
}

TEST_HARNESS_MAIN
