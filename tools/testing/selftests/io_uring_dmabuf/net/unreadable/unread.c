// SPDX-License-Identifier: GPL-2.0
/* A card that sends device memory, and where its packets may be led instead */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/tcp.h>

#include "kselftest.h"
#include "unread.h"

static __be16 port_of(int fd)
{
	struct sockaddr_in sin = { 0 };
	socklen_t len = sizeof(sin);

	getsockname(fd, (void *)&sin, &len);
	return sin.sin_port;
}

void unread_init(struct unread_rig *rig)
{
	rig->tcp = NET_PAIR_NONE;
	rig->ordinary = NET_PAIR_NONE;
	rig->aside = NET_PAIR_NONE;
	for (unsigned int i = 0; i < ARRAY_SIZE(rig->probe); i++)
		rig->probe[i] = PROBE_NONE;
	netrig_init(&rig->net);
	netrig_init(&rig->other);
	netrig_init(&rig->far);
}

int match_init(struct unread_rig *rig)
{
	struct match *m = &rig->match;

	m->unreadable_port = port_of(rig->tcp.tx);
	m->ordinary_port = port_of(rig->ordinary.tx);
	m->unreadable = malloc(SIZE);
	m->ordinary = malloc(LEN);
	if (!m->unreadable || !m->ordinary)
		return -ENOMEM;
	pattern_fill(m->unreadable, 0, SIZE, SEED);
	pattern_fill(m->ordinary, 0, LEN, ORDINARY_SEED);
	return 0;
}

void unread_down(struct unread_rig *rig)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(rig->probe); i++)
		probe_close(&rig->probe[i]);
	undo_all(&rig->undo);
	net_close(&rig->aside);
	net_close(&rig->ordinary);
	net_close(&rig->tcp);
	if (rig->far.ns[NET_PEER] >= 0)
		close(rig->far.ns[NET_PEER]);
	netrig_down(&rig->other);
	netrig_down(&rig->net);
}

/* A veth, whose other end is far away */
int veth_up(struct unread_rig *rig)
{
	struct netrig *n = &rig->net, *far = &rig->far;
	int ret;

	ret = run("ip link add " VETH " type veth peer name " VETH_FAR);
	if (ret)
		return ret;
	undo_by(&rig->undo, "ip link del " VETH);
	far->home = n->home;
	far->ns[NET_PEER] = net_ns_new();
	if (far->ns[NET_PEER] < 0)
		return far->ns[NET_PEER];
	ret = net_ip(n->home, "link set dev %s netns /proc/%d/fd/%d\n"
		     "link set dev %s up\n", VETH_FAR, getpid(),
		     far->ns[NET_PEER], VETH);
	return ret ?: net_ip(far->ns[NET_PEER], "link set dev %s up\n", VETH_FAR);
}

int probe_far(struct unread_rig *rig, struct probe *p)
{
	return probe_open(p, &rig->far, NET_PEER, VETH_FAR, PROBE_RAW, ETH_P_ALL,
			  &rig->match);
}

/* On a device that the stack of the test has */
int probe_here(struct unread_rig *rig, struct probe *p, const char *dev,
	       enum probe_kind kind, int protocol)
{
	return probe_open(p, &rig->net, NET_CARD, dev, kind, protocol,
			  &rig->match);
}

/* On the peer of another card: what is seen there came by the cable */
int probe_other(struct unread_rig *rig, struct probe *p)
{
	struct netrig *other = &rig->other;

	return probe_open(p, other, NET_PEER, other->dev[NET_PEER], PROBE_RAW,
			  ETH_P_ALL, &rig->match);
}

bool nothing_in_flight(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len))
		return false;
	return !info.tcpi_unacked && info.tcpi_notsent_bytes;
}

/* As much as the socket takes, until the peer, which does not read, is full */
int queue_up(struct unread_rig *rig)
{
	double end = lab_now() + net_patience() / 1000.0;
	struct netrig *n = &rig->net;
	int tx = rig->tcp.tx, ret;
	__u64 done = 0;

	net_set(tx, SOL_SOCKET, SO_SNDBUFFORCE, 4 * MiB);
	while (done < SIZE) {
		ret = net_send(n, tx, 0, done, SIZE - done, MSG_DONTWAIT);
		if (ret <= 0)
			break;
		done += ret;
	}
	rig->queued = (struct piece) { SEED, 0, done };
	while (!nothing_in_flight(tx)) {
		if (lab_now() > end)
			return -ETIME;
		lab_sleep_ms(10);
	}
	return 0;
}

/* The peer reads what it has, so that it wants more: bytes, or -errno */
int recv_some(struct unread_rig *rig)
{
	static char buf[FRAME_MAX];
	ssize_t len;

	while ((len = recv(rig->tcp.rx, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		if (pattern_check(buf, rig->taken, len, SEED) >= 0)
			return -EILSEQ;
		rig->taken += len;
	}
	return errno == EAGAIN ? (int)rig->taken : -errno;
}

/* The peer gets what is left of the queue */
int recv_queued(struct unread_rig *rig)
{
	struct piece left = {
		SEED, rig->taken, rig->queued.len - rig->taken,
	};

	return net_recv(rig->tcp.rx, &left, 1);
}

/* What leaves by the card goes to @dev, @how mirred says it */
int add_mirred(struct unread_rig *rig, const char *how, const char *dev)
{
	const char *card = rig->net.dev[NET_CARD];

	if (run("tc qdisc add dev %s clsact", card))
		return -EIO;
	undo_by(&rig->undo, "tc qdisc del dev %s clsact", card);
	return run("tc filter add dev %s egress protocol ip matchall action mirred %s dev %s",
		   card, how, dev);
}

/* The peer is behind @dev now, which may have to know its MAC address */
int reroute(struct unread_rig *rig, const char *dev, const char *mac)
{
	struct netrig *n = &rig->net;
	int ret;

	if (mac && net_ip(n->home, "neigh add 10.73.%u.2 lladdr %s dev %s nud permanent\n",
			  n->net, mac, dev))
		return -EIO;
	ret = net_ip(n->home, "route add 10.73.%u.2/32 dev %s\n", n->net, dev);
	if (!ret)
		undo_by(&rig->undo, "ip route del 10.73.%u.2/32", n->net);
	return ret;
}

/* @p has the end of it that is userspace's */
int tun_open(struct unread_rig *rig, struct probe *p, bool tap)
{
	struct ifreq ifr = { .ifr_name = TUN };

	ifr.ifr_flags = (tap ? IFF_TAP : IFF_TUN) | IFF_NO_PI;
	*p = (struct probe) {
		.fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC),
		.kind = tap ? PROBE_TAP : PROBE_TUN,
		.match = &rig->match,
	};
	if (p->fd < 0 || ioctl(p->fd, TUNSETIFF, &ifr))
		return -errno;
	return net_ip(rig->net.home, "link set dev " TUN " up\n");
}
