// SPDX-License-Identifier: GPL-2.0
/*
 * Sockets that cannot send memory which the CPU does not read: the exact errno and
 * nothing on the way; or, where that is allowed, a copy that says so.
 */
#include <netinet/in.h>
#include <linux/tcp.h>
#include <linux/tls.h>

#include "refused.h"

#define KEY		"a secret"

/* --- sockets that leave by something else --- */

TEST_F(refused, slot_of_a_drive)
{
	struct netrig *n = &self->net;
	int disk = NEED_DISK("LAB_NVME_MAIN");

	ASSERT_EQ(0, net_reg(n, 1, n->mem.fd, disk, variant->flags));
	CHECK_SEND(1, &self->tcp, LEN, -EBADF);
	ASSERT_EQ(0, net_udp(n, AF_INET, &self->bad));
	CHECK_SEND(1, &self->bad, 1000, -EBADF);
	EXPECT_EQ(0, net_works(n, 0, &self->tcp));
	close(disk);
}

TEST_F(refused, another_card)
{
	struct io_uring_regbuf_desc add;
	struct netrig *n = &self->net;

	NETRIG_UP(&self->other, "vmxnet3", MEM_UDMABUF, 0);
	ASSERT_EQ(0, net_tcp(&self->other, AF_INET, &self->bad));
	CHECK_SEND(0, &self->bad, LEN, -ENODEV);
	/* which becomes a target, too */
	add = desc_add(self->bad.tx);
	ASSERT_EQ(0, reg_one(&n->ring, 0, &add));
	EXPECT_EQ(0, net_works(n, 0, &self->bad));
	EXPECT_EQ(0, net_works(n, 0, &self->tcp));
	EXPECT_EQ(2, bufinfo_attachments(n->mem.fd));
}

/* The peer's driver has not heard of memory without pages */
TEST_F(refused, card_that_cannot)
{
	struct net_pair back = { .tx = self->tcp.rx, .rx = self->tcp.tx };

	EXPECT_NO_TARGET(-EOPNOTSUPP, back.tx);
	CHECK_SEND(0, &back, LEN, -ENODEV);
	EXPECT_EQ(0, net_works(&self->net, 0, &self->tcp));
}

TEST_F(refused, loopback)
{
	struct netrig *n = &self->net;
	char own[32];

	snprintf(own, sizeof(own), "10.73.%u.1", n->net);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, net_local(i ? own : "127.0.0.1", &self->bad));
		EXPECT_NO_TARGET(-EOPNOTSUPP, self->bad.tx);
		CHECK_SEND(0, &self->bad, LEN, -ENODEV);
		net_close(&self->bad);
	}
}

TEST_F(refused, unix_socket)
{
	int sk[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sk));
	self->bad = (struct net_pair) { .tx = sk[0], .rx = sk[1] };
	ASSERT_EQ(0, net_timeouts(sk[1]));
	EXPECT_NO_TARGET(-EOPNOTSUPP, sk[0]);
	CHECK_SEND(0, &self->bad, LEN, -EOPNOTSUPP);
}

/* A VLAN is a device of its own, which is no target */
TEST_F(refused, vlan)
{
	static const char lines[] =
		"link add link %s name nv73 type vlan id 73\n"
		"addr add 10.73.%u.%u/24 dev nv73\n"
		"link set dev nv73 up\n";
	struct netrig *n = &self->net, on_vlan = *n;

	on_vlan.net += 100;
	self->dev = "nv73";
	for (int side = 0; side < NET_SIDES; side++) {
		if (net_ip(n->ns[side], lines, n->dev[side], on_vlan.net, side + 1))
			SKIP(return, "no VLANs");
	}
	ASSERT_EQ(0, net_tcp(&on_vlan, AF_INET, &self->bad));
	EXPECT_NO_TARGET(-EOPNOTSUPP, self->bad.tx);
	CHECK_SEND(0, &self->bad, LEN, -ENODEV);
}

/* @dev leads to the same peer by addresses of its own, which @on has */
static int another_net(const struct netrig *n, const char *dev,
		       struct netrig *on)
{
	int ret;

	*on = *n;
	on->net += 100;
	ret = net_ip(n->home, "addr add 10.73.%u.1/24 dev %s\n"
		     "link set %s up\n", on->net, dev, dev);
	return ret ?: net_ip(n->ns[NET_PEER], "addr add 10.73.%u.2/24 dev %s\n",
			     on->net, n->dev[NET_PEER]);
}

/* Nor is a device that gives the card's frames another address */
TEST_F(refused, macvlan)
{
	struct netrig *n = &self->net, on_macvlan;

	if (net_ip(n->home, "link add link %s name nm73 type macvlan\n",
		   n->dev[NET_CARD]))
		SKIP(return, "no macvlan");
	self->dev = "nm73";
	ASSERT_EQ(0, another_net(n, self->dev, &on_macvlan));
	ASSERT_EQ(0, net_tcp(&on_macvlan, AF_INET, &self->bad));
	EXPECT_NO_TARGET(-EOPNOTSUPP, self->bad.tx);
	CHECK_SEND(0, &self->bad, LEN, -ENODEV);
}

/* A bond may send by any of its cards: this one has none, and sends nothing */
TEST_F(refused, bond)
{
	struct netrig *n = &self->net, on_bond;

	if (net_ip(n->home, "link add nb73 type bond\n"))
		SKIP(return, "no bonding");
	self->dev = "nb73";
	ASSERT_EQ(0, another_net(n, self->dev, &on_bond));
	ASSERT_EQ(0, net_udp(&on_bond, AF_INET, &self->bad));
	EXPECT_NO_TARGET(-EOPNOTSUPP, self->bad.tx);
	/* without a card it does not even gather */
	if (!self->copy) {
		EXPECT_EQ(-EOPNOTSUPP,
			  net_send(n, self->bad.tx, 0, POS, 1000, 0));
	}
	EXPECT_EQ(0, net_works(n, 0, &self->tcp));
}

static bool wait_carrier(const struct netrig *n)
{
	double end = lab_now() + net_patience() / 1000.0;
	long long carrier = 0;
	char path[64];

	snprintf(path, sizeof(path), "/sys/class/net/%s/carrier",
		 n->dev[NET_CARD]);
	while ((file_read_num(path, &carrier) || !carrier) && lab_now() < end)
		lab_sleep_ms(20);
	return carrier;
}

/* A VRF may send the packet through its own device first */
TEST_F(refused, vrf)
{
	struct netrig *n = &self->net;

	ASSERT_EQ(0, net_udp(n, AF_INET, &self->bad));
	if (net_ip(n->home, "link add nr73 type vrf table 73\n"))
		SKIP(return, "no VRF");
	self->dev = "nr73";
	ASSERT_EQ(0, net_ip(n->home, "link set nr73 up\n"
			    "link set %s master nr73\n", n->dev[NET_CARD]));
	/* that took the card down and up, and so does the end of it */
	ASSERT_TRUE(wait_carrier(n));
	ASSERT_EQ(0, net_bind_card(n, self->bad.tx));
	CHECK_SEND(0, &self->bad, 1000, -EOPNOTSUPP);
	ASSERT_EQ(0, net_ip(n->home, "link del nr73\n"));
	self->dev = NULL;
	ASSERT_EQ(0, net_link(n, NET_CARD, true));
	EXPECT_EQ(0, net_works(n, 0, &self->bad));
	EXPECT_EQ(0, net_works(n, 0, &self->tcp));
}

/* A route that encapsulates: the peer does not know what to do with it */
TEST_F(refused, lwtunnel)
{
	struct netrig *n = &self->net;
	char route[96];

	snprintf(route, sizeof(route), "10.73.%u.2/32 dev %s", n->net,
		 n->dev[NET_CARD]);
	ASSERT_EQ(0, net_udp(n, AF_INET, &self->bad));
	if (net_ip(n->home, "route add %s encap mpls 73 via inet 10.73.%u.2\n",
		   route, n->net))
		SKIP(return, "no MPLS");
	EXPECT_EQ(self->copy ? 1000 : -EOPNOTSUPP,
		  net_send(n, self->bad.tx, 0, POS, 1000, 0));
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(self->copy, n->copied);
	ASSERT_EQ(0, net_ip(n->home, "route del %s\n", route));
	EXPECT_EQ(0, net_works(n, 0, &self->bad));
	EXPECT_EQ(0, net_works(n, 0, &self->tcp));
}

TEST_F(refused, not_connected)
{
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM };
	struct netrig *n = &self->net;

	for (int i = 0; i < 2; i++) {
		int sk = net_socket(n, NET_CARD, AF_INET, types[i], 0);

		ASSERT_GE(sk, 0);
		EXPECT_NO_TARGET(-ENOTCONN, sk);
		ASSERT_EQ(0, net_bind_card(n, sk));
		EXPECT_TARGET(sk);
		EXPECT_EQ(0, net_works(n, 1, &self->tcp));
		close(sk);
	}
}

/* --- sockets that do something with the data --- */

static int tls_on(int fd, int direction)
{
	struct tls12_crypto_info_aes_gcm_128 info = {
		.info = {
			.version = TLS_1_2_VERSION,
			.cipher_type = TLS_CIPHER_AES_GCM_128,
		},
		.key = KEY,
	};

	if (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) ||
	    setsockopt(fd, SOL_TLS, direction, &info, sizeof(info)))
		return -errno;
	return 0;
}

TEST_F(refused, tls)
{
	int ret;

	ASSERT_EQ(0, net_tcp(&self->net, AF_INET, &self->bad));
	ret = tls_on(self->bad.tx, TLS_TX);
	if (ret == -ENOENT)
		SKIP(return, "no TLS");
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, tls_on(self->bad.rx, TLS_RX));
	EXPECT_NO_TARGET(-EOPNOTSUPP, self->bad.tx);
	CHECK_SEND(0, &self->bad, LEN, -EOPNOTSUPP);
}

/* A pair whose sender is of @protocol; *lsk listens, both may get options */
static int open_pair(struct netrig *n, int family, int protocol,
		     struct net_pair *p, int *lsk)
{
	*lsk = net_listen(n, family);
	if (*lsk < 0)
		return *lsk;
	p->tx = net_socket(n, NET_CARD, family, SOCK_STREAM, protocol);
	return p->tx < 0 ? p->tx : 0;
}

static int connect_pair(struct net_pair *p, int lsk)
{
	p->rx = net_connect(p->tx, lsk);
	close(lsk);
	return p->rx < 0 ? p->rx : 0;
}

TEST_F(refused, mptcp)
{
	const struct piece first = { SEED, 0, 100 };
	struct netrig *n = &self->net;
	int lsk, ret;

	ret = open_pair(n, AF_INET, IPPROTO_MPTCP, &self->bad, &lsk);
	if (ret == -EPROTONOSUPPORT || ret == -ENOPROTOOPT)
		SKIP(return, "no MPTCP");
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, connect_pair(&self->bad, lsk));
	/* the first one ends the handshake, which SIOCOUTQ counts as a byte */
	ASSERT_EQ(0, piece_send(self->bad.tx, &first, 0));
	ASSERT_EQ(0, net_recv(self->bad.rx, &first, 1));
	EXPECT_NO_TARGET(-EOPNOTSUPP, self->bad.tx);
	CHECK_SEND(0, &self->bad, LEN, -EOPNOTSUPP);
}

static int set_md5(struct netrig *n, int fd, enum net_side other, int family)
{
	struct tcp_md5sig md5 = { .tcpm_keylen = strlen(KEY), .tcpm_key = KEY };
	struct sockaddr_storage ss;

	net_addr(n, other, family, 0, &ss);
	memcpy(&md5.tcpm_addr, &ss, sizeof(ss));
	return setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &md5, sizeof(md5)) ?
	       -errno : 0;
}

static int set_ao(struct netrig *n, int fd, enum net_side other, int family)
{
	struct tcp_ao_add ao = {
		.alg_name = "hmac(sha1)",
		.prefix = family == AF_INET ? 32 : 128,
		.sndid = 100,
		.rcvid = 100,
		.keylen = strlen(KEY),
		.key = KEY,
	};
	struct sockaddr_storage ss;

	net_addr(n, other, family, 0, &ss);
	memcpy(&ao.addr, &ss, sizeof(ss));
	return setsockopt(fd, IPPROTO_TCP, TCP_AO_ADD_KEY, &ao, sizeof(ao)) ?
	       -errno : 0;
}

typedef int (*set_key_fn)(struct netrig *n, int fd, enum net_side other,
			  int family);

/* Segments have to be signed by who can read them; the device could be used */
static int open_signed(struct netrig *n, int family, set_key_fn set_key,
		       struct net_pair *p)
{
	int lsk, ret = open_pair(n, family, 0, p, &lsk);

	if (!ret)
		ret = set_key(n, lsk, NET_CARD, family);
	if (!ret)
		ret = set_key(n, p->tx, NET_PEER, family);
	return ret ?: connect_pair(p, lsk);
}

TEST_F(refused, md5)
{
	static const int families[] = { AF_INET, AF_INET6 };
	int ret;

	for (int i = 0; i < 2; i++) {
		ret = open_signed(&self->net, families[i], set_md5, &self->bad);
		if (ret == -ENOPROTOOPT)
			SKIP(return, "no TCP-MD5");
		ASSERT_EQ(0, ret);
		EXPECT_TARGET(self->bad.tx);
		CHECK_SEND(1, &self->bad, LEN, -EOPNOTSUPP);
		net_close(&self->bad);
	}
}

TEST_F(refused, ao)
{
	int ret = open_signed(&self->net, AF_INET, set_ao, &self->bad);

	if (ret == -ENOPROTOOPT)
		SKIP(return, "no TCP-AO");
	ASSERT_EQ(0, ret);
	EXPECT_TARGET(self->bad.tx);
	CHECK_SEND(1, &self->bad, LEN, -EOPNOTSUPP);
}

/* Encrypted by the CPU. One way is enough: acknowledgments come in the clear */
TEST_F(refused, xfrm)
{
	static const char state[] =
		"xfrm state add src 10.73.%u.1 dst 10.73.%u.2 proto esp"
		" spi 0x7300 reqid 73 mode transport aead rfc4106(gcm(aes))"
		" 0x000102030405060708090a0b0c0d0e0f10111213 128\n";
	static const char policy[] =
		"xfrm policy add src 10.73.%u.1 dst 10.73.%u.2 dir out"
		" tmpl src 10.73.%u.1 dst 10.73.%u.2 proto esp reqid 73"
		" mode transport\n";
	struct netrig *n = &self->net;
	unsigned int k = n->net;

	self->xfrm = true;
	if (net_ip(n->ns[NET_PEER], state, k, k) || net_ip(n->home, state, k, k) ||
	    net_ip(n->home, policy, k, k, k, k))
		SKIP(return, "no IPsec");
	ASSERT_EQ(0, net_tcp(n, AF_INET, &self->bad));
	EXPECT_TARGET(self->bad.tx);
	CHECK_SEND(1, &self->bad, LEN, -EOPNOTSUPP);
	net_close(&self->bad);
	ASSERT_EQ(0, net_udp(n, AF_INET, &self->bad));
	CHECK_SEND(0, &self->bad, 1000, -EOPNOTSUPP);
}

/* The SYN takes a copy */
TEST_F(refused, fast_open)
{
	const struct piece want[] = { { SEED, POS, LEN }, { SEED + 1, 0, 333 } };
	struct netrig *n = &self->net;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct io_uring_sqe *sqe;
	int lsk;

	ASSERT_EQ(0, open_pair(n, AF_INET, 0, &self->bad, &lsk));
	ASSERT_EQ(0, getsockname(lsk, (void *)&ss, &len));
	sqe = net_prep(n, self->bad.tx, 0, POS, LEN, MSG_FASTOPEN);
	sqe->addr2 = (uintptr_t)&ss;
	sqe->addr_len = len;
	EXPECT_EQ(self->copy ? LEN : -EOPNOTSUPP, net_do(n));
	ASSERT_EQ(0, net_idle(n));
	if (self->copy) {
		EXPECT_EQ(1, n->copied);
		self->bad.rx = accept(lsk, NULL, NULL);
		ASSERT_GE(self->bad.rx, 0);
		ASSERT_EQ(0, net_timeouts(self->bad.rx));
		close(lsk);
	} else {
		/* it may still be connected as usual */
		ASSERT_EQ(0, connect_pair(&self->bad, lsk));
	}
	EXPECT_EQ(0, piece_send(self->bad.tx, &want[1], 0));
	EXPECT_EQ(0, net_recv(self->bad.rx, want + !self->copy, 1 + self->copy));
}

TEST_F(refused, not_connected_yet)
{
	struct netrig *n = &self->net;
	int lsk, ret;

	ASSERT_EQ(0, open_pair(n, AF_INET, 0, &self->bad, &lsk));
	ret = net_send(n, self->bad.tx, 0, POS, LEN, 0);
	EXPECT_TRUE(ret == -EPIPE || ret == -ENOTCONN || ret == -ENODEV);
	ASSERT_EQ(0, connect_pair(&self->bad, lsk));
	ASSERT_EQ(0, net_mark(&self->bad));
	EXPECT_EQ(0, net_works(n, 0, &self->bad));
}

/* Fragments are cut by the CPU */
TEST_F(refused, larger_than_the_mtu)
{
	static const int families[] = { AF_INET, AF_INET6 };
	struct netrig *n = &self->net;

	for (int i = 0; i < 2; i++) {
		unsigned int max = i ? 1452 : 1472;

		ASSERT_EQ(0, net_udp(n, families[i], &self->bad));
		CHECK_SEND(0, &self->bad, max + 1, -EOPNOTSUPP);
		CHECK_SEND(0, &self->bad, 4000, -EOPNOTSUPP);
		EXPECT_EQ(0, net_works(n, 0, &self->bad));
		net_close(&self->bad);
	}
}

TEST_HARNESS_MAIN
