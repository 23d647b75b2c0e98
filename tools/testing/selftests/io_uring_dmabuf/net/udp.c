// SPDX-License-Identifier: GPL-2.0
/* UDP from dma-bufs: a datagram arrives as it was sent, or is refused */
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <linux/udp.h>

#include "common.h"
#include "netio.h"
#include "../../net/netmem/cmsg.h"

#define SIZE		(1 * MiB)
#define SEED		NET_SEED
#define PLAIN		(SEED + 1)		/* from ordinary memory */
#define MAX_FRAGS	14		/* of an skb with memory of a device */

FIXTURE(udp) {
	struct netrig net;
	struct net_pair udp;
	__u64 rng;
	unsigned int max;	/* payload that fits the MTU */
};

FIXTURE_VARIANT(udp) {
	const char *card;
	int family;
	enum mem_kind kind;
};

FIXTURE_VARIANT_ADD(udp, e1000e_udp4) {
	.card = "e1000e", .family = AF_INET, .kind = MEM_UDMABUF_4K,
};

FIXTURE_VARIANT_ADD(udp, e1000e_udp6_bar) {
	.card = "e1000e", .family = AF_INET6, .kind = MEM_BAR,
};

FIXTURE_VARIANT_ADD(udp, vmxnet3_udp4_bar) {
	.card = "vmxnet3", .family = AF_INET, .kind = MEM_BAR_4K,
};

FIXTURE_VARIANT_ADD(udp, vmxnet3_udp6) {
	.card = "vmxnet3", .family = AF_INET6, .kind = MEM_UDMABUF_4K,
};

FIXTURE_VARIANT_ADD(udp, igb_udp4) {
	.card = "igb", .family = AF_INET, .kind = MEM_UDMABUF_4K,
};

FIXTURE_SETUP(udp)
{
	struct netrig *n = &self->net;

	self->rng = 7500;
	self->udp = NET_PAIR_NONE;
	self->max = 1500 - 8 - (variant->family == AF_INET ? 20 : 40);
	NETRIG_UP(n, variant->card, variant->kind, SIZE);
	ASSERT_EQ(0, net_udp(n, variant->family, &self->udp));
	ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, SEED));
	ASSERT_EQ(0, reg_dmabuf(&n->ring, 0, n->mem.fd, self->udp.tx));
}

FIXTURE_TEARDOWN(udp)
{
	net_close(&self->udp);
	netrig_down(&self->net);
}

static struct piece random_piece(__u64 *rng, __u64 len)
{
	return piece_random(rng, len, SIZE, SEED);
}

/* One datagram there, and right: 0 or what went wrong */
static int pass(struct netrig *n, struct net_pair *udp, const struct piece *p)
{
	int ret = net_send(n, udp->tx, 0, p->pos, p->len, 0);

	if (ret != (int)p->len) {
		fprintf(stderr, "# datagram of %llu bytes: %d\n", p->len, ret);
		return ret < 0 ? ret : -EIO;
	}
	return net_recv_datagram(udp->rx, p, 1);
}

TEST_F(udp, sizes)
{
	struct io_uring_query_regbuf_map before, after;
	struct netrig *n = &self->net;
	unsigned int nr = 0;
	struct piece p;

	/* a request that waits for space looks for the mapping once more */
	ASSERT_EQ(0, net_set(self->udp.tx, SOL_SOCKET, SO_SNDBUFFORCE, 8 * MiB));
	ASSERT_EQ(0, net_query(n, 0, &before));
	for (unsigned int len = 1; len <= self->max; nr++) {
		p = random_piece(&self->rng, len);
		ASSERT_EQ(0, pass(n, &self->udp, &p));
		/* each size near the ends, some in between */
		len += len < 20 || len > self->max - 40 ? 1 : lab_scale(11, 37);
	}
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(0, n->copied);
	ASSERT_EQ(0, net_query(n, 0, &after));
	EXPECT_EQ(nr, after.hits - before.hits);
	EXPECT_EQ(0, after.copied_bytes);
}

TEST_F(udp, empty)
{
	struct netrig *n = &self->net;

	EXPECT_EQ(0, net_send(n, self->udp.tx, 0, 100, 0, 0));
	EXPECT_EQ(0, net_recv_datagram(self->udp.rx, NULL, 0));
	EXPECT_EQ(0, net_works(n, 0, &self->udp));
}

TEST_F(udp, pieces)
{
	struct piece pieces[12];
	struct netrig *n = &self->net;
	struct iovec iov[12];

	for (unsigned int i = 0; i < lab_scale(60, 30); i++) {
		unsigned int nr = 1 + rnd(&self->rng) % 12;

		for (unsigned int k = 0; k < nr; k++)
			pieces[k] = random_piece(&self->rng,
						 1 + rnd(&self->rng) % (self->max / nr));
		pieces_iov(pieces, nr, iov);
		ASSERT_EQ(pieces_len(pieces, nr),
			  net_sendv(n, self->udp.tx, 0, iov, nr, 0));
		ASSERT_EQ(0, net_recv_datagram(self->udp.rx, pieces, nr));
	}
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(0, n->copied);
}

/* No two of them can share a frag; @nr of them in a vector */
static void scatter(struct piece *pieces, struct iovec *iov, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		pieces[i] = (struct piece) { SEED, 13 + (nr - i) * 8192, 30 + i };
	pieces_iov(pieces, nr, iov);
}

TEST_F(udp, as_many_pieces_as_fit)
{
	struct piece pieces[MAX_FRAGS];
	struct netrig *n = &self->net;
	struct iovec iov[MAX_FRAGS];

	for (unsigned int nr = 10; nr <= MAX_FRAGS; nr++) {
		scatter(pieces, iov, nr);
		EXPECT_EQ(pieces_len(pieces, nr),
			  net_sendv(n, self->udp.tx, 0, iov, nr, 0));
		ASSERT_EQ(0, net_recv_datagram(self->udp.rx, pieces, nr)) {
			TH_LOG("%u pieces", nr);
		}
	}
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(0, n->copied);
}

TEST_F(udp, more_pieces_than_fit)
{
	struct piece pieces[MAX_FRAGS + 8];
	struct iovec iov[MAX_FRAGS + 8];
	struct netrig *n = &self->net;

	for (unsigned int nr = MAX_FRAGS + 1; nr <= MAX_FRAGS + 8; nr += 7) {
		scatter(pieces, iov, nr);
		EXPECT_EQ(-EMSGSIZE, net_sendv(n, self->udp.tx, 0, iov, nr, 0));
		EXPECT_EQ(0, net_works(n, 0, &self->udp));
	}
	/* neighbours share one */
	for (unsigned int i = 0; i < MAX_FRAGS + 8; i++)
		pieces[i] = (struct piece) { SEED, 4096 + 20 * i, 20 };
	pieces_iov(pieces, MAX_FRAGS + 8, iov);
	EXPECT_EQ(20 * (MAX_FRAGS + 8), net_sendv(n, self->udp.tx, 0, iov,
						  MAX_FRAGS + 8, 0));
	EXPECT_EQ(0, net_recv_datagram(self->udp.rx, pieces, MAX_FRAGS + 8));
}

/* --- segmentation --- */

/* The datagrams that @p is cut into */
static int recv_segments(int rx, const struct piece *p, unsigned int size)
{
	int ret = 0;

	for (__u64 done = 0; done < p->len && !ret; done += size) {
		struct piece part = { p->seed, p->pos + done, p->len - done };

		if (part.len > size)
			part.len = size;
		ret = net_recv_datagram(rx, &part, 1);
	}
	return ret;
}

/* With UDP_SEGMENT for this one only */
static int send_segments(struct netrig *n, int fd, const struct piece *p,
			 __u16 size)
{
	char control[CMSG_SPACE(sizeof(size))] __attribute__((aligned(8)));
	struct iovec iov;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	cmsg_put(&msg, control, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size));
	pieces_iov(p, 1, &iov);
	net_prep_msg(n, fd, 0, &msg, 0);
	return net_do(n);
}

static const struct {
	unsigned int len, size;
} gso[] = {
	{ 1400, 1400 }, { 1401, 1400 }, { 2800, 1400 }, { 60000, 1400 },
	{ 20001, 701 }, { 9999, 100 }, { 3, 1 }, { 60000, 1452 },
};

TEST_F(udp, gso)
{
	struct netrig *n = &self->net;
	struct piece p;

	for (unsigned int i = 0; i < ARRAY_SIZE(gso); i++) {
		p = random_piece(&self->rng, gso[i].len);
		ASSERT_EQ(0, net_set(self->udp.tx, IPPROTO_UDP, UDP_SEGMENT,
				     gso[i].size));
		ASSERT_EQ(p.len, net_send(n, self->udp.tx, 0, p.pos, p.len, 0));
		ASSERT_EQ(0, recv_segments(self->udp.rx, &p, gso[i].size));
		ASSERT_EQ(0, net_set(self->udp.tx, IPPROTO_UDP, UDP_SEGMENT, 0));
		p = random_piece(&self->rng, gso[i].len);
		ASSERT_EQ(p.len, send_segments(n, self->udp.tx, &p, gso[i].size));
		ASSERT_EQ(0, recv_segments(self->udp.rx, &p, gso[i].size));
	}
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(0, n->copied);
}

/* --- many, to anybody --- */

#define BURST	48

/* Any of @pieces, each of another length, that was not @seen yet */
static int recv_one_of(int rx, const struct piece *pieces, bool *seen)
{
	char buf[2048];
	ssize_t len = net_recv_again(rx, buf, sizeof(buf), 0);

	if (len < 0)
		return -errno;
	for (int i = 0; i < BURST; i++) {
		if (len != (ssize_t)pieces[i].len)
			continue;
		if (seen[i])
			return -EEXIST;
		seen[i] = true;
		return pattern_check(buf, pieces[i].pos, len, SEED) < 0 ?
		       0 : -EILSEQ;
	}
	return -EMSGSIZE;
}

/* All at the same time. UDP keeps no order, so go by the lengths */
TEST_F(udp, burst)
{
	struct piece pieces[BURST];
	struct netrig *n = &self->net;
	bool seen[BURST] = {};
	struct uring_res res;

	/* while the peer's address is looked for, only so many can wait */
	ASSERT_EQ(0, net_works(n, 0, &self->udp));
	for (int i = 0; i < BURST; i++) {
		pieces[i] = random_piece(&self->rng, 100 + 23 * i);
		net_prep(n, self->udp.tx, 0, pieces[i].pos, pieces[i].len, 0);
	}
	ASSERT_EQ(BURST, uring_submit(&n->ring, 0));
	for (int i = 0; i < BURST; i++) {
		ASSERT_EQ(0, net_result(n, &res));
		EXPECT_GT(res.res, 0);
	}
	for (int i = 0; i < BURST; i++) {
		ASSERT_EQ(0, recv_one_of(self->udp.rx, pieces, seen));
	}
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(0, n->copied);
}

/* SEND_ZC with an address: bytes sent, or -errno */
static int send_to(struct netrig *n, int fd, __u16 slot, const struct piece *p,
		   const struct sockaddr_storage *ss, socklen_t len)
{
	struct io_uring_sqe *sqe = net_prep(n, fd, slot, p->pos, p->len, 0);

	sqe->addr2 = (uintptr_t)ss;
	sqe->addr_len = len;
	return net_do(n);
}

/* A socket without a peer names a device by being bound to it */
TEST_F(udp, bound_to_the_device)
{
	struct piece p = random_piece(&self->rng, 1000);
	struct netrig *n = &self->net;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int sk;

	sk = net_socket(n, NET_CARD, variant->family, SOCK_DGRAM, 0);
	ASSERT_GE(sk, 0);
	EXPECT_EQ(-ENOTCONN, reg_dmabuf(&n->ring, 1, n->mem.fd, sk));
	ASSERT_EQ(0, net_bind_card(n, sk));
	ASSERT_EQ(0, reg_dmabuf(&n->ring, 1, n->mem.fd, sk));
	ASSERT_EQ(0, getsockname(self->udp.rx, (void *)&ss, &len));
	EXPECT_EQ(1000, send_to(n, sk, 1, &p, &ss, len));
	EXPECT_EQ(0, net_recv_datagram(self->udp.rx, &p, 1));
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(0, n->copied);
	close(sk);
}

/* A packet without one could be fragmented, which would read it */
TEST_F(udp, without_checksum)
{
	struct piece p = random_piece(&self->rng, 1234);
	struct netrig *n = &self->net;

	if (variant->family == AF_INET) {
		ASSERT_EQ(0, net_set(self->udp.tx, SOL_SOCKET, SO_NO_CHECK, 1));
	} else {
		ASSERT_EQ(0, net_set(self->udp.tx, IPPROTO_UDP,
				     UDP_NO_CHECK6_TX, 1));
		ASSERT_EQ(0, net_set(self->udp.rx, IPPROTO_UDP,
				     UDP_NO_CHECK6_RX, 1));
	}
	EXPECT_EQ(-EOPNOTSUPP, net_send(n, self->udp.tx, 0, p.pos, p.len, 0));
	if (variant->family == AF_INET) {
		ASSERT_EQ(0, net_set(self->udp.tx, SOL_SOCKET, SO_NO_CHECK, 0));
	} else {
		ASSERT_EQ(0, net_set(self->udp.tx, IPPROTO_UDP,
				     UDP_NO_CHECK6_TX, 0));
	}
	EXPECT_EQ(0, pass(n, &self->udp, &p));
}

union address {
	struct sockaddr_storage ss;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static int join4(struct netrig *n, enum net_side side, int sk,
		 struct sockaddr_in *group)
{
	struct ip_mreqn mreq = {};
	union address own;

	net_addr(n, side, AF_INET, 0, &own.ss);
	mreq.imr_address = own.in.sin_addr;
	inet_pton(AF_INET, "239.73.0.1", &mreq.imr_multiaddr);
	group->sin_addr = mreq.imr_multiaddr;
	return setsockopt(sk, IPPROTO_IP, IP_ADD_MEMBERSHIP, &mreq, sizeof(mreq));
}

static int join6(struct netrig *n, enum net_side side, int sk,
		 struct sockaddr_in6 *group)
{
	struct ipv6_mreq mreq = {};
	struct ifreq ifr = {};

	/* of the netns of the socket */
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", n->dev[side]);
	if (ioctl(sk, SIOCGIFINDEX, &ifr))
		return -1;
	mreq.ipv6mr_interface = ifr.ifr_ifindex;
	inet_pton(AF_INET6, "ff05::73", &mreq.ipv6mr_multiaddr);
	group->sin6_addr = mreq.ipv6mr_multiaddr;
	return setsockopt(sk, IPPROTO_IPV6, IPV6_JOIN_GROUP, &mreq, sizeof(mreq));
}

/* A member of a group on @side: its socket, and the address to send to */
static int join(struct netrig *n, enum net_side side, union address *group,
		socklen_t *len)
{
	int family = group->ss.ss_family, ret;
	int sk = net_socket(n, side, family, SOCK_DGRAM, 0);

	*len = family == AF_INET ? sizeof(group->in) : sizeof(group->in6);
	if (family == AF_INET)
		group->in.sin_addr.s_addr = htonl(INADDR_ANY);
	else
		group->in6.sin6_addr = in6addr_any;
	net_set(sk, SOL_SOCKET, SO_REUSEADDR, 1);
	if (bind(sk, (void *)group, *len) ||
	    getsockname(sk, (void *)group, len))
		return -errno;
	ret = family == AF_INET ? join4(n, side, sk, &group->in) :
				  join6(n, side, sk, &group->in6);
	return ret ? -errno : sk;
}

/* Members on the sender's side would have to read it: they get nothing */
TEST_F(udp, multicast)
{
	union address group = { .ss.ss_family = variant->family };
	struct piece p = random_piece(&self->rng, 1000);
	struct netrig *n = &self->net;
	int here, there, plain;
	socklen_t len;
	char byte;

	there = join(n, NET_PEER, &group, &len);
	ASSERT_GE(there, 0);
	here = join(n, NET_CARD, &group, &len);
	ASSERT_GE(here, 0);
	plain = net_socket(n, NET_CARD, variant->family, SOCK_DGRAM, 0);
	ASSERT_EQ(0, net_bind_card(n, plain));
	ASSERT_EQ(0, connect(plain, (void *)&group, len));
	ASSERT_EQ(0, net_wait_joined(plain, here, there));
	ASSERT_EQ(0, net_bind_card(n, self->udp.tx));
	EXPECT_EQ(1000, send_to(n, self->udp.tx, 0, &p, &group.ss, len));
	EXPECT_EQ(0, net_recv_datagram(there, &p, 1));
	EXPECT_EQ(-1, recv(here, &byte, 1, MSG_DONTWAIT));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(0, net_works(n, 0, &self->udp));
	close(plain);
	close(here);
	close(there);
}

/* --- corks: what is collected is refused, or right --- */

static const struct piece head = { PLAIN, 0, 300 };
static const struct piece part = { SEED, 70001, 400 };
static const struct piece tail = { PLAIN, 5000, 55 };

/* One datagram, either the first @nr pieces of @all, or all but the first */
static int recv_with_or_without(int rx, const struct piece *all, unsigned int nr)
{
	char buf[2048];
	ssize_t len = net_recv_again(rx, buf, sizeof(buf), MSG_PEEK);

	if (len == (ssize_t)pieces_len(all, nr))
		return net_recv_datagram(rx, all, nr);
	return net_recv_datagram(rx, all + 1, nr - 1);
}

/* The stack has begun a datagram in ordinary memory, which it cannot go on in */
TEST_F(udp, cork_then_dmabuf)
{
	const struct piece all[] = { head, part, tail };
	const struct piece no_part[] = { head, tail };
	struct netrig *n = &self->net;
	int tx = self->udp.tx, ret;

	ASSERT_EQ(0, piece_send(tx, &head, MSG_MORE));
	ret = net_send(n, tx, 0, part.pos, part.len, MSG_MORE);
	ASSERT_EQ(0, piece_send(tx, &tail, 0));
	if (ret > 0) {
		EXPECT_EQ(part.len, ret);
		EXPECT_EQ(0, net_recv_datagram(self->udp.rx, all, 3));
	} else {
		/* an error may take what was collected with it */
		EXPECT_EQ(-EOPNOTSUPP, ret);
		EXPECT_EQ(0, recv_with_or_without(self->udp.rx, no_part, 2));
	}
	EXPECT_EQ(0, net_works(n, 0, &self->udp));
}

TEST_F(udp, dmabuf_then_cork)
{
	const struct piece all[] = { part, tail };
	struct netrig *n = &self->net;
	int tx = self->udp.tx, ret;

	ret = net_send(n, tx, 0, part.pos, part.len, MSG_MORE);
	ASSERT_EQ(0, piece_send(tx, &tail, 0));
	if (ret > 0) {
		EXPECT_EQ(part.len, ret);
		EXPECT_EQ(0, net_recv_datagram(self->udp.rx, all, 2));
	} else {
		EXPECT_EQ(-EOPNOTSUPP, ret);
		EXPECT_EQ(0, net_recv_datagram(self->udp.rx, &tail, 1));
	}
	EXPECT_EQ(0, net_works(n, 0, &self->udp));
}

/*
 * A copy can go on, and an error leave it as it is: what was collected before
 * must not get lost. The CPU has no mapping of PCI memory.
 */
TEST_F(udp, cork_then_copy)
{
	const struct piece all[] = { head, part, tail }, without[] = { head, tail };
	bool bar = mem_is_bar(&self->net.mem);
	struct netrig *n = &self->net;
	int tx = self->udp.tx;

	ASSERT_EQ(0, net_reg(n, 1, n->mem.fd, tx, IO_REGBUF_DMABUF_COPY_OK));
	ASSERT_EQ(0, piece_send(tx, &head, MSG_MORE));
	EXPECT_EQ(bar ? -EOPNOTSUPP : (int)part.len,
		  net_send(n, tx, 1, part.pos, part.len, MSG_MORE));
	ASSERT_EQ(0, piece_send(tx, &tail, 0));
	EXPECT_EQ(0, net_recv_datagram(self->udp.rx, bar ? without : all,
				       bar ? 2 : 3));
	EXPECT_EQ(0, net_works(n, 0, &self->udp));
}

/* What is segmented later may be collected: memory of both kinds in one skb */
TEST_F(udp, gso_of_a_cork)
{
	const struct piece all[] = { part, tail };
	struct netrig *n = &self->net;
	int tx = self->udp.tx, ret;

	ASSERT_EQ(0, net_set(tx, IPPROTO_UDP, UDP_SEGMENT, 1000));
	ret = net_send(n, tx, 0, part.pos, part.len, MSG_MORE);
	ASSERT_EQ(0, piece_send(tx, &tail, 0));
	if (ret > 0) {
		EXPECT_EQ(part.len, ret);
		EXPECT_EQ(0, net_recv_datagram(self->udp.rx, all, 2));
	} else {
		EXPECT_EQ(-EOPNOTSUPP, ret);
		EXPECT_EQ(0, net_recv_datagram(self->udp.rx, &tail, 1));
	}
	ASSERT_EQ(0, net_set(tx, IPPROTO_UDP, UDP_SEGMENT, 0));
	EXPECT_EQ(0, net_works(n, 0, &self->udp));
}

/*
 * What was collected does not fit any more when it is sent. Fragmenting would
 * read it, so segments get lost; none may be wrong.
 */
TEST_F(udp, smaller_mtu_for_a_cork)
{
	struct piece seg = random_piece(&self->rng, 4 * 1400);
	const struct piece last = { SEED, 999, 99 };
	struct netrig *n = &self->net;
	int tx = self->udp.tx;
	char buf[2048];

	ASSERT_EQ(0, net_set(tx, IPPROTO_UDP, UDP_SEGMENT, 1400));
	ASSERT_EQ(0, net_set(tx, IPPROTO_UDP, UDP_CORK, 1));
	ASSERT_EQ(seg.len, net_send(n, tx, 0, seg.pos, seg.len, 0));
	ASSERT_EQ(0, net_mtu(n, NET_CARD, 1300));
	net_set(tx, IPPROTO_UDP, UDP_CORK, 0);
	ASSERT_EQ(0, net_set(tx, IPPROTO_UDP, UDP_SEGMENT, 0));
	ASSERT_EQ(0, net_mtu(n, NET_CARD, 1500));
	ASSERT_EQ(last.len, net_send(n, tx, 0, last.pos, last.len, 0));
	while (net_recv_again(self->udp.rx, buf, sizeof(buf), MSG_PEEK) == 1400) {
		struct piece p = { SEED, seg.pos, 1400 };

		ASSERT_EQ(0, net_recv_datagram(self->udp.rx, &p, 1));
		seg.pos += 1400;
	}
	EXPECT_EQ(0, net_recv_datagram(self->udp.rx, &last, 1));
	EXPECT_EQ(0, net_idle(n));
}

/* --- last: a kernel that looks at the first piece of none may not survive --- */

FIXTURE(no_pieces) {
	struct netrig net;
	struct net_pair udp;
};

FIXTURE_SETUP(no_pieces)
{
	struct netrig *n = &self->net;

	self->udp = NET_PAIR_NONE;
	NETRIG_UP(n, "e1000e", MEM_UDMABUF, SIZE);
	ASSERT_EQ(0, net_udp(n, AF_INET, &self->udp));
	ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, SEED));
	ASSERT_EQ(0, reg_dmabuf(&n->ring, 0, n->mem.fd, self->udp.tx));
}

FIXTURE_TEARDOWN(no_pieces)
{
	net_close(&self->udp);
	netrig_down(&self->net);
}

/* An empty datagram, as from ordinary memory */
TEST_F(no_pieces, sent)
{
	struct netrig *n = &self->net;
	int tx = self->udp.tx;

	EXPECT_EQ(0, net_sendv(n, tx, 0, NULL, 0, 0));
	EXPECT_EQ(0, net_recv_datagram(self->udp.rx, NULL, 0));
	EXPECT_EQ(0, net_works(n, 0, &self->udp));
}

/* The ring keeps the vector of the request before */
TEST_F(no_pieces, sent_after_some)
{
	struct piece pieces[MAX_FRAGS];
	struct netrig *n = &self->net;
	struct iovec iov[MAX_FRAGS];
	int tx = self->udp.tx;

	scatter(pieces, iov, 8);
	EXPECT_EQ(pieces_len(pieces, 8), net_sendv(n, tx, 0, iov, 8, 0));
	EXPECT_EQ(0, net_recv_datagram(self->udp.rx, pieces, 8));
	EXPECT_EQ(0, net_sendv(n, tx, 0, NULL, 0, 0));
	EXPECT_EQ(0, net_recv_datagram(self->udp.rx, NULL, 0));
	EXPECT_EQ(0, net_works(n, 0, &self->udp));
}

TEST_F(no_pieces, copied)
{
	struct netrig *n = &self->net;
	int sk[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_DGRAM, 0, sk));
	ASSERT_EQ(0, net_timeouts(sk[1]));
	ASSERT_EQ(0, net_reg(n, 1, n->mem.fd, sk[0],
			     IO_REGBUF_DMABUF_COPY_OK));
	EXPECT_EQ(0, net_sendv(n, sk[0], 1, NULL, 0, 0));
	EXPECT_EQ(0, net_recv_datagram(sk[1], NULL, 0));
	EXPECT_EQ(0, net_works(n, 0, &self->udp));
	close(sk[0]);
	close(sk[1]);
}

TEST_HARNESS_MAIN
