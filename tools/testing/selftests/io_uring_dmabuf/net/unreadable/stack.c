// SPDX-License-Identifier: GPL-2.0
/*
 * Device memory that is being sent is not read by the stack that sends it: not for
 * the socket itself, not for who sends to everybody, not for error messages.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <linux/errqueue.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/net_tstamp.h>
#include <linux/sockios.h>
#include <linux/tcp.h>

#include "cards.h"

#define HDR_MAX		(ETH_HLEN + 60 + 60)

/* --- the stack's own ways --- */

/* The peer got bytes like all others */
TEST_F(cards, peek_at_peer)
{
	struct unread_rig *rig = &self->rig;
	char buf[LEN];

	SEND_BOTH();
	ASSERT_EQ(0, net_wait_acked(rig->tcp.tx));
	ASSERT_EQ(LEN, net_recv_again(rig->tcp.rx, buf, LEN, MSG_PEEK));
	EXPECT_EQ(NO_MISMATCH, pattern_check(buf, unreadable.pos, LEN, SEED));
	RECV_BOTH();
	CHECK_OVER();
}

static ssize_t peek_queue(int fd, void *buf, size_t size)
{
	ssize_t ret;

	memset(buf, POISON, size);
	if (net_set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON) ||
	    net_set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE))
		return -ENOTSUP;
	ret = recv(fd, buf, size, MSG_PEEK);
	ret = ret < 0 ? -errno : ret;
	if (net_set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF))
		return -EPROTO;
	return ret;
}

/* Checkpoint and restore reads the send queue, where it can be read */
TEST_F(unread, repair)
{
	struct unread_rig *rig = &self->rig;
	const struct piece much = { ORDINARY_SEED, 0, 512 * KiB };
	const struct piece end[] = { much, { SEED, 4321, 5000 } };
	struct netrig *n = &rig->net;
	char *buf = malloc(2 * MiB);
	int tx = rig->ordinary.tx;
	ssize_t ret;

	ASSERT_NE(NULL, buf);
	ASSERT_EQ(0, queue_up(rig));
	ASSERT_GT(net_unsent(rig->tcp.tx), 0);
	EXPECT_EQ(-EFAULT, peek_queue(rig->tcp.tx, buf, 2 * MiB));
	EXPECT_EQ(NO_MISMATCH, poison_check(buf, 2 * MiB, POISON));

	net_set(tx, SOL_SOCKET, SO_SNDBUFFORCE, 4 * MiB);
	ASSERT_EQ(0, piece_send(tx, &much, 0));
	while (!nothing_in_flight(tx))
		lab_sleep_ms(10);
	ret = peek_queue(tx, buf, 2 * MiB);
	ASSERT_GT(ret, 0);
	EXPECT_EQ(net_unsent(tx), ret);
	EXPECT_EQ(NO_MISMATCH, pattern_check(buf, much.len - ret, ret, ORDINARY_SEED));
	/* ordinary memory first, then the other */
	ASSERT_EQ(5000, net_send(n, tx, 0, 4321, 5000, 0));
	EXPECT_EQ(-EFAULT, peek_queue(tx, buf, 2 * MiB));
	EXPECT_EQ(NO_MISMATCH, poison_check(buf + ret, 2 * MiB - ret, POISON));

	EXPECT_EQ(0, net_recv(rig->tcp.rx, &rig->queued, 1));
	EXPECT_EQ(0, net_recv(rig->ordinary.rx, end, 2));
	free(buf);
	CHECK_OVER();
}

/* --- datagrams that the stack loops back by itself --- */

#define GROUP		"ff05::73"

static socklen_t group_addr(const struct netrig *n, int family, __be16 port,
			    struct sockaddr_storage *ss)
{
	struct sockaddr_in6 *sin6 = (void *)ss;
	struct sockaddr_in *sin = (void *)ss;
	socklen_t len = net_addr(n, NET_CARD, family, 0, ss);

	if (family == AF_INET) {
		sin->sin_addr.s_addr |= htonl(0xff);
		sin->sin_port = port;
	} else {
		inet_pton(AF_INET6, GROUP, &sin6->sin6_addr);
		sin6->sin6_port = port;
	}
	return len;
}

static int ifindex_for(int fd, const char *dev)
{
	struct ifreq ifr = { 0 };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", dev);
	return ioctl(fd, SIOCGIFINDEX, &ifr) ? -errno : ifr.ifr_ifindex;
}

/* Receives what is sent to everybody, at port *@port, or *@port is some */
static int join(const struct netrig *n, enum net_side side, int family,
		__be16 *port)
{
	int sk = net_socket(n, side, family, SOCK_DGRAM, 0);
	struct sockaddr_storage ss = { .ss_family = family };
	struct ipv6_mreq mreq = { 0 };
	socklen_t len = sizeof(ss);

	((struct sockaddr_in *)&ss)->sin_port = *port;
	if (sk < 0 || bind(sk, (void *)&ss, len) ||
	    getsockname(sk, (void *)&ss, &len))
		return -errno;
	*port = ((struct sockaddr_in *)&ss)->sin_port;
	if (family == AF_INET)
		return sk;
	inet_pton(AF_INET6, GROUP, &mreq.ipv6mr_multiaddr);
	mreq.ipv6mr_interface = ifindex_for(sk, n->dev[side]);
	if (setsockopt(sk, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &mreq, sizeof(mreq)))
		return -errno;
	return sk;
}

static int send_to_all(const struct netrig *n, int family, __be16 port)
{
	int sk = net_socket(n, NET_CARD, family, SOCK_DGRAM, 0);
	struct sockaddr_storage ss;
	socklen_t len = group_addr(n, family, port, &ss);

	if (sk < 0)
		return sk;
	if (family == AF_INET)
		net_set(sk, SOL_SOCKET, SO_BROADCAST, 1);
	else
		net_set(sk, IPPROTO_IPV6, IPV6_MULTICAST_IF,
			ifindex_for(sk, n->dev[NET_CARD]));
	return connect(sk, (void *)&ss, len) ? -errno : sk;
}

static void check_group(struct __test_metadata *_metadata, struct unread_rig *rig,
			int family)
{
	const struct piece mine = { SEED, 4321, 1000 };
	const struct piece mark = { ORDINARY_SEED, 0, 1000 };
	struct netrig *n = &rig->net;
	int tx, near, far;
	char buf[2000];
	__be16 port = 0;

	near = join(n, NET_CARD, family, &port);
	far = join(n, NET_PEER, family, &port);
	tx = send_to_all(n, family, port);
	ASSERT_TRUE(near >= 0 && far >= 0 && tx >= 0);
	ASSERT_EQ(0, net_wait_joined(tx, near, far));
	for (int i = 0; i < 3; i++) {
		bool copied;

		ASSERT_EQ(1000, net_send_sync(n, tx, 0, mine.pos, 1000, 0, &copied));
		EXPECT_FALSE(copied);
		EXPECT_EQ(0, net_recv_datagram(far, &mine, 1));
		EXPECT_EQ(-1, recv(near, buf, sizeof(buf), MSG_PEEK | MSG_DONTWAIT));
		EXPECT_EQ(EAGAIN, errno);
		/* the next that is there */
		ASSERT_EQ(0, piece_send(tx, &mark, 0));
		ASSERT_EQ(1000, net_recv_again(near, buf, sizeof(buf), MSG_PEEK));
		EXPECT_EQ(NO_MISMATCH, pattern_check(buf, 0, 1000, ORDINARY_SEED));
		EXPECT_EQ(0, net_recv_datagram(near, &mark, 1));
		EXPECT_EQ(0, net_recv_datagram(far, &mark, 1));
	}
	close(tx);
	close(near);
	close(far);
}

/* Who sends to everybody would get it, too */
TEST_F(unread, broadcast_and_multicast)
{
	struct unread_rig *rig = &self->rig;

	check_group(_metadata, rig, AF_INET);
	check_group(_metadata, rig, AF_INET6);
	CHECK_OVER();
}

/* --- copies of what was sent, for the sender --- */

#define STAMPS	(SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_SCHED | \
		 SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_SOFTWARE)

/* Messages in the error queue; *@bytes that came with them, the end in @buf */
static unsigned int read_errors(int fd, char *buf, size_t size, __u64 *bytes)
{
	unsigned int nr = 0;
	ssize_t len;

	*bytes = 0;
	while ((len = recv(fd, buf, size, MSG_ERRQUEUE | MSG_DONTWAIT)) >= 0) {
		*bytes += len;
		nr++;
	}
	return nr;
}

/* Timestamps come with the packet */
TEST_F(cards, timestamps)
{
	struct unread_rig *rig = &self->rig;
	static char buf[FRAME_MAX];
	__u64 bytes;

	ASSERT_EQ(0, net_set(rig->tcp.tx, SOL_SOCKET, SO_TIMESTAMPING, STAMPS));
	ASSERT_EQ(0, net_set(rig->ordinary.tx, SOL_SOCKET, SO_TIMESTAMPING, STAMPS));
	SEND_BOTH();
	RECV_BOTH();
	ASSERT_EQ(0, net_wait_acked(rig->tcp.tx));
	ASSERT_EQ(0, net_wait_acked(rig->ordinary.tx));
	EXPECT_GT(read_errors(rig->ordinary.tx, buf, sizeof(buf), &bytes), 0);
	EXPECT_GT(bytes, HDR_MAX);
	read_errors(rig->tcp.tx, buf, sizeof(buf), &bytes);
	EXPECT_EQ(0, bytes);
	/* or come without */
	ASSERT_EQ(0, net_set(rig->tcp.tx, SOL_SOCKET, SO_TIMESTAMPING,
			     STAMPS | SOF_TIMESTAMPING_OPT_TSONLY));
	SEND_BOTH();
	RECV_BOTH();
	ASSERT_EQ(0, net_wait_acked(rig->tcp.tx));
	EXPECT_GT(read_errors(rig->tcp.tx, buf, sizeof(buf), &bytes), 0);
	EXPECT_EQ(0, bytes);
	CHECK_OVER();
}

/* A datagram socket that is told about errors, to somebody who is not there */
static int send_to_nobody(const struct netrig *n, int family)
{
	int sk = net_socket(n, NET_CARD, family, SOCK_DGRAM, 0);
	struct sockaddr_storage ss;
	socklen_t len = net_addr(n, NET_PEER, family, 73, &ss);

	if (sk < 0)
		return sk;
	if (family == AF_INET) {
		((struct sockaddr_in *)&ss)->sin_addr.s_addr |= htonl(0x70);
		net_set(sk, IPPROTO_IP, IP_RECVERR, 1);
	} else {
		((struct sockaddr_in6 *)&ss)->sin6_addr.s6_addr[15] |= 0x70;
		net_set(sk, IPPROTO_IPV6, IPV6_RECVERR, 1);
	}
	return connect(sk, (void *)&ss, len) ? -errno : sk;
}

/* The one message in the error queue, or -errno */
static ssize_t read_error(int fd, char *buf, size_t size, unsigned int ms)
{
	double end = lab_now() + ms / 1000.0;
	ssize_t len;

	memset(buf, 0, size);
	do {
		len = recv(fd, buf, size, MSG_ERRQUEUE | MSG_DONTWAIT);
		if (len >= 0 || errno != EAGAIN)
			return len < 0 ? -errno : len;
		lab_sleep_ms(20);
	} while (lab_now() < end);
	return -ETIME;
}

static void check_quote(struct __test_metadata *_metadata, struct unread_rig *rig,
			int family)
{
	const struct piece mine = { ORDINARY_SEED, 0, 300 };
	struct netrig *n = &rig->net;
	int dev, ordinary;
	char buf[2000];
	ssize_t len;

	dev = send_to_nobody(n, family);
	ordinary = send_to_nobody(n, family);
	ASSERT_TRUE(dev >= 0 && ordinary >= 0);
	ASSERT_EQ(300, net_send(n, dev, 0, unreadable.pos, 300, 0));
	ASSERT_EQ(0, piece_send(ordinary, &mine, 0));
	ASSERT_EQ(300, read_error(ordinary, buf, sizeof(buf), net_patience()));
	EXPECT_EQ(NO_MISMATCH, pattern_check(buf, 0, 300, ORDINARY_SEED));
	/* they waited for the same address */
	len = read_error(dev, buf, sizeof(buf), net_patience() / 10);
	EXPECT_GE(len, 0);
	EXPECT_EQ(NO_MISMATCH, poison_check(buf, sizeof(buf), 0));
	ASSERT_EQ(0, net_idle(n));
	close(dev);
	close(ordinary);
}

/* ICMP errors quote the packet; here they come from the sender's own stack */
TEST_F(unread, icmp_quotes)
{
	struct unread_rig *rig = &self->rig;

	check_quote(_metadata, rig, AF_INET);
	check_quote(_metadata, rig, AF_INET6);
	CHECK_OVER();
}

/* --- what the stack does to packets that the card cannot take as they are --- */

/* In software it would be a copy, of zeroes, with a checksum that is right for them */
TEST_F(unread, offloads_off)
{
	static const __u32 offloads[] = { ETHTOOL_STXCSUM, ETHTOOL_SSG };
	struct unread_rig *rig = &self->rig;
	struct netrig *n = &rig->net;
	const char *dev = n->dev[NET_CARD];
	long long before;
	char c;

	ASSERT_EQ(0, queue_up(rig));
	for (unsigned int i = 0; i < ARRAY_SIZE(offloads); i++) {
		ASSERT_EQ(0, net_feature(n, offloads[i], false));
	}
	before = stat_of(dev, "tx_dropped");
	ASSERT_GE(before, 0);
	ASSERT_GT(recv_some(rig), 0);
	EXPECT_TRUE(stat_wait(dev, "tx_dropped", before + 2));
	EXPECT_EQ(-1, recv(rig->tcp.rx, &c, 1, MSG_PEEK | MSG_DONTWAIT));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_GT(net_unsent(rig->tcp.tx), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(offloads); i++) {
		ASSERT_EQ(0, net_feature(n, offloads[i], true));
	}
	EXPECT_EQ(0, recv_queued(rig));
	CHECK_OVER();
}

TEST_HARNESS_MAIN
