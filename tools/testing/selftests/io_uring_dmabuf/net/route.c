// SPDX-License-Identifier: GPL-2.0
/*
 * Routes: those that a socket has forgotten, those that are gone for a while, and
 * those by which nothing of a dma-buf can leave.
 */
#include <netinet/in.h>
#include <netinet/ip.h>
#include <linux/ethtool.h>
#include <linux/tcp.h>

#include "common.h"
#include "netio.h"

#define SIZE		(1 * MiB)
#define SEED		NET_SEED
#define LEN		20000
#define SHORT		1000	/* of a datagram */
#define POS		4321

FIXTURE(route) {
	struct netrig net, other;
	struct net_pair pair;
	bool veth;		/* to be taken away */
};

FIXTURE_VARIANT(route) {
	const char *card;
	int family;
	bool tcp;
};

FIXTURE_VARIANT_ADD(route, e1000e_tcp4) {
	.card = "e1000e", .family = AF_INET, .tcp = true,
};

FIXTURE_VARIANT_ADD(route, e1000e_tcp6) {
	.card = "e1000e", .family = AF_INET6, .tcp = true,
};

FIXTURE_VARIANT_ADD(route, vmxnet3_udp4) {
	.card = "vmxnet3", .family = AF_INET, .tcp = false,
};

FIXTURE_VARIANT_ADD(route, vmxnet3_udp6) {
	.card = "vmxnet3", .family = AF_INET6, .tcp = false,
};

FIXTURE_SETUP(route)
{
	struct netrig *n = &self->net;

	self->pair = NET_PAIR_NONE;
	netrig_init(&self->other);
	NETRIG_UP(n, variant->card, MEM_UDMABUF_4K, SIZE);
	ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, SEED));
	ASSERT_EQ(0, variant->tcp ? net_tcp(n, variant->family, &self->pair) :
				    net_udp(n, variant->family, &self->pair));
}

FIXTURE_TEARDOWN(route)
{
	net_close(&self->pair);
	if (self->veth)
		net_ip(self->net.home, "link del nr73\n");
	netrig_down(&self->other);
	netrig_down(&self->net);
}

/* --- forgotten by the socket --- */

/* Options that may lead to another route; the socket finds its own anew */
static const struct {
	int family, level, option, value;
} options[] = {
	{ AF_UNSPEC, SOL_SOCKET, SO_MARK, 5 },
	{ AF_UNSPEC, SOL_SOCKET, SO_PRIORITY, 3 },
	{ AF_UNSPEC, SOL_SOCKET, SO_BINDTOIFINDEX, -1 },
	{ AF_UNSPEC, SOL_SOCKET, SO_DONTROUTE, 1 },
	{ AF_INET, IPPROTO_IP, IP_TOS, 0x10 },
	{ AF_INET6, IPPROTO_IPV6, IPV6_TCLASS, 0x10 },
	{ AF_INET6, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO },
};

static int set_option(const struct netrig *n, int fd, unsigned int i)
{
	int value = options[i].value;

	if (value < 0)		/* the card's own index: no other device */
		value = if_nametoindex(n->dev[NET_CARD]);
	return net_set(fd, options[i].level, options[i].option, value);
}

TEST_F(route, found_after_an_option)
{
	struct io_uring_query_regbuf_map q;
	struct netrig *n = &self->net;

	for (unsigned int i = 0; i < ARRAY_SIZE(options); i++) {
		__u32 flags = i & 1 ? IO_REGBUF_DMABUF_COPY_OK : 0;

		if (options[i].family && options[i].family != variant->family)
			continue;
		ASSERT_EQ(0, set_option(n, self->pair.tx, i));
		ASSERT_EQ(0, net_reg(n, 0, n->mem.fd, self->pair.tx, flags)) {
			TH_LOG("option %u", i);
		}
		ASSERT_EQ(0, query_map(&n->ring, 0, 0, &q));
		EXPECT_EQ(1, q.nr_targets) {
			TH_LOG("option %u", i);
		}
		EXPECT_EQ(0, net_works(n, 0, &self->pair));
		/* and again by a socket that knows none, as a target to be added */
		ASSERT_EQ(0, set_option(n, self->pair.tx, i));
		ASSERT_EQ(0, net_reg(n, 1, n->mem.fd, self->pair.tx,
				     flags ^ IO_REGBUF_DMABUF_COPY_OK));
		EXPECT_EQ(0, net_works(n, 1, &self->pair));
	}
}

/* --- gone for a while --- */

/* The route to all of the link */
static int route_of(const struct netrig *n, int family, const char *what)
{
	if (family == AF_INET6)
		return net_ip(n->home, "route %s fd73:%u::/64 dev %s\n", what,
			      n->net, n->dev[NET_CARD]);
	return net_ip(n->home, "route %s 10.73.%u.0/24 dev %s\n", what, n->net,
		      n->dev[NET_CARD]);
}

/* The same as for send(2) of ordinary memory, of which as much is sent before */
TEST_F(route, none_for_a_while)
{
	struct netrig *n = &self->net;
	__u32 len = variant->tcp ? LEN : SHORT;
	const struct piece sent[] = { { SEED, 100, len }, { SEED, POS, len },
				      { SEED, POS, len } };
	int ret, want = len;

	ASSERT_EQ(0, net_reg(n, 0, n->mem.fd, self->pair.tx, 0));
	ASSERT_EQ(0, net_reg(n, 1, n->mem.fd, self->pair.tx,
			     IO_REGBUF_DMABUF_COPY_OK));
	ASSERT_EQ(0, net_works(n, 0, &self->pair));
	ASSERT_EQ(0, net_wait_acked(self->pair.tx));
	ASSERT_EQ(0, net_set(self->pair.tx, SOL_SOCKET, SO_SNDBUFFORCE, 4 * MiB));
	ASSERT_EQ(0, route_of(n, variant->family, "del"));

	ret = piece_send(self->pair.tx, &sent[0], MSG_DONTWAIT);
	EXPECT_EQ(variant->tcp ? 0 : -ENETUNREACH, ret);
	if (!variant->tcp)
		want = -ENETUNREACH;
	EXPECT_EQ(want, net_send(n, self->pair.tx, 0, POS, len, MSG_DONTWAIT));
	/* twice, as the first one may be who finds that there is no route */
	EXPECT_EQ(want, net_send(n, self->pair.tx, 1, POS, len, 0));

	ASSERT_EQ(0, route_of(n, variant->family, "add"));
	if (variant->tcp) {
		ASSERT_EQ(0, net_recv(self->pair.rx, sent, 3));
	}
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(0, n->copied);
	EXPECT_EQ(0, net_works(n, 0, &self->pair));
}

/*
 * With two devices nobody knows for which one TCP could queue: an error, or a copy
 * for any. UDP queues nothing, of a copy neither.
 */
TEST_F(route, none_and_two_devices)
{
	const struct piece want = { SEED, POS, variant->tcp ? LEN : SHORT };
	const char *card = netrig_other_card(variant->card);
	struct netrig *n = &self->net, *other = &self->other;
	struct net_pair by_other = NET_PAIR_NONE;
	struct io_uring_regbuf_desc d;
	int no_way = variant->tcp ? -EHOSTUNREACH : -ENETUNREACH;
	bool copied;

	NETRIG_UP(other, card, MEM_UDMABUF, 0);
	ASSERT_EQ(0, net_udp(other, variant->family, &by_other));
	for (int slot = 0; slot < 2; slot++) {
		ASSERT_EQ(0, net_reg(n, slot, n->mem.fd, self->pair.tx, slot ?
				     IO_REGBUF_DMABUF_COPY_OK : 0));
		d = desc_add(by_other.tx);
		ASSERT_EQ(0, reg_one(&n->ring, slot, &d));
	}
	if (variant->tcp)
		ASSERT_EQ(0, net_wait_acked(self->pair.tx));
	ASSERT_EQ(0, route_of(n, variant->family, "del"));
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(no_way, net_send(n, self->pair.tx, 0, POS, want.len,
					   MSG_DONTWAIT));
	}
	if (variant->tcp) {
		EXPECT_EQ(0, net_unsent(self->pair.tx));
		EXPECT_EQ(want.len, net_send_sync(n, self->pair.tx, 1, POS,
						  want.len, 0, &copied));
		EXPECT_TRUE(copied);
	} else {
		EXPECT_EQ(no_way, net_send(n, self->pair.tx, 1, POS, want.len,
					   0));
	}
	ASSERT_EQ(0, route_of(n, variant->family, "add"));
	if (variant->tcp)
		ASSERT_EQ(0, net_recv(self->pair.rx, &want, 1));
	EXPECT_EQ(0, net_works(n, 0, &self->pair));
	net_close(&by_other);
}

/* --- accepted, but it cannot leave --- */

/* The error that @fd has, or gets in time; it is taken away by that */
static int wait_error(int fd)
{
	double end = lab_now() + net_patience() / 1000.0;
	socklen_t len = sizeof(int);
	int err = 0;

	while (!err && lab_now() < end) {
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len))
			return -errno;
		if (!err)
			lab_sleep_ms(20);
	}
	return err;
}

/* The peer is behind the other device, or behind the card again */
static int veth_route(struct netrig *n, int family, bool on)
{
	char peer[40];

	if (family == AF_INET6)
		snprintf(peer, sizeof(peer), "fd73:%u::2", n->net);
	else
		snprintf(peer, sizeof(peer), "10.73.%u.2", n->net);
	if (!on)
		return net_ip(n->home, "route del %s dev nr73\n", peer);
	return net_ip(n->home,
		      "neigh add %s lladdr 02:00:00:00:73:02 dev nr73 nud permanent\n"
		      "route add %s dev nr73\n", peer, peer);
}

/* What is not seen before the next call is not looked at */
static void forget_error(int fd)
{
	socklen_t len = sizeof(int);
	int err;

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
}

/*
 * A datagram waits in a qdisc while the card loses what it takes to send it. A
 * stream is queued while its route becomes one by another device.
 */
TEST_F(route, sender_is_told)
{
	const struct piece want = { SEED, POS, LEN };
	struct netrig *n = &self->net;

	ASSERT_EQ(0, net_reg(n, 0, n->mem.fd, self->pair.tx, 0));
	ASSERT_EQ(0, net_works(n, 0, &self->pair));
	if (!variant->tcp) {
		ASSERT_EQ(0, net_netem(n, NET_CARD, "delay 3s"));
		EXPECT_EQ(SHORT, net_send(n, self->pair.tx, 0, POS, SHORT, 0));
		ASSERT_EQ(0, net_feature(n, ETHTOOL_SSG, false));
		EXPECT_EQ(EHOSTUNREACH, wait_error(self->pair.tx));
		ASSERT_EQ(0, net_feature(n, ETHTOOL_SSG, true));
		ASSERT_EQ(0, net_idle(n));
		ASSERT_EQ(0, net_netem(n, NET_CARD, "delay 0"));
		EXPECT_EQ(0, net_works(n, 0, &self->pair));
		return;
	}

	ASSERT_EQ(0, net_ip(n->home, "link add nr73 type veth peer name nr73p\n"
			    "link set nr73p up\nlink set nr73 up\n"));
	self->veth = true;
	ASSERT_EQ(0, net_wait_acked(self->pair.tx));
	/* so that TCP finds the new route when it sends again */
	ASSERT_EQ(0, net_netem(n, NET_CARD, "loss 100%"));
	EXPECT_EQ(LEN, net_send(n, self->pair.tx, 0, POS, LEN, MSG_DONTWAIT));
	ASSERT_EQ(0, veth_route(n, variant->family, true));
	EXPECT_EQ(EHOSTUNREACH, wait_error(self->pair.tx));
	EXPECT_GT(net_unsent(self->pair.tx), 0);

	/* it was told, no more: all is well when the route is right again */
	ASSERT_EQ(0, net_netem(n, NET_CARD, "delay 0"));
	ASSERT_EQ(0, veth_route(n, variant->family, false));
	ASSERT_EQ(0, net_recv(self->pair.rx, &want, 1));
	forget_error(self->pair.tx);
	EXPECT_EQ(0, net_works(n, 0, &self->pair));
}

/*
 * What has no room in a datagram is copied if it may be, but not if it is too long.
 * TCP begins another packet instead.
 */
TEST_F(route, too_many_pieces)
{
	struct netrig *n = &self->net;
	struct piece pieces[40];
	struct iovec iov[40];

	for (unsigned int i = 0; i < 40; i++)
		pieces[i] = (struct piece) { SEED, 8192 * i + 13, 1 + i % 20 };
	pieces_iov(pieces, 40, iov);
	ASSERT_EQ(0, net_reg(n, 0, n->mem.fd, self->pair.tx, 0));
	ASSERT_EQ(0, net_reg(n, 1, n->mem.fd, self->pair.tx,
			     IO_REGBUF_DMABUF_COPY_OK));
	if (variant->tcp) {
		for (int slot = 0; slot < 2; slot++) {
			/* each piece takes a page of the send buffer */
			EXPECT_EQ(pieces_len(pieces, 40),
				  net_sendv(n, self->pair.tx, slot, iov, 40,
					    MSG_WAITALL));
			ASSERT_EQ(0, net_recv(self->pair.rx, pieces, 40));
		}
		ASSERT_EQ(0, net_idle(n));
		EXPECT_EQ(0, n->copied);
		return;
	}
	EXPECT_EQ(-EMSGSIZE, net_sendv(n, self->pair.tx, 0, iov, 40, 0));
	EXPECT_EQ(pieces_len(pieces, 40),
		  net_sendv(n, self->pair.tx, 1, iov, 40, 0));
	ASSERT_EQ(0, net_recv_datagram(self->pair.rx, pieces, 40));
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(1, n->copied);
	EXPECT_EQ(-EMSGSIZE, net_send(n, self->pair.tx, 1, 0, 66000, 0));
	EXPECT_EQ(0, net_works(n, 1, &self->pair));
}

/* The card reads, so that this is all that the memory is mapped for */
TEST_F(route, mapped_to_be_read)
{
	struct netrig *n = &self->net;
	struct counter read, all;

	ASSERT_EQ(0, counter_open(&read, "to_device"));
	ASSERT_EQ(0, counter_open(&all, "any_direction"));
	ASSERT_EQ(0, counter_add(&read, "dma/dma_map_sg", "dir == 1"));
	ASSERT_EQ(0, counter_add(&all, "dma/dma_map_sg", NULL));
	ASSERT_EQ(0, net_reg(n, 0, n->mem.fd, self->pair.tx, 0));
	EXPECT_GT(counter_read(&read), 0);
	EXPECT_EQ(counter_read(&all), counter_read(&read));
	counter_close(&read);
	counter_close(&all);
	EXPECT_EQ(0, net_works(n, 0, &self->pair));
	/* nor does it matter what else others may do with it */
	ASSERT_EQ(0, net_reg(n, 1, n->mem.fd, self->pair.tx,
			     IO_REGBUF_DMABUF_RDONLY));
	EXPECT_EQ(1, bufinfo_attachments(n->mem.fd));
	EXPECT_EQ(-EACCES, net_reg(n, 2, n->mem.fd, self->pair.tx,
				   IO_REGBUF_DMABUF_WRONLY));
}

TEST_HARNESS_MAIN
