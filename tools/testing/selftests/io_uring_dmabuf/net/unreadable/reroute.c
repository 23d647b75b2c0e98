// SPDX-License-Identifier: GPL-2.0
/* Device memory is queued, and then the route changes: to devices that read it */
#include <arpa/inet.h>
#include <net/if.h>
#include <string.h>
#include <unistd.h>
#include <linux/if_ether.h>
#include <linux/tcp.h>

#include "fixture.h"

#define BRIDGE		"ub73"
#define NETKIT		"uk73"
#define TO_ALL		"ff:ff:ff:ff:ff:ff"

/*
 * What still was on the cable has arrived: a timer may have sent something shortly
 * before the route changed, which it did not for IPv6.
 */
static int flush_cable(struct unread_rig *rig)
{
	int ret = rig->aside.tx < 0 ? net_tcp(&rig->net, AF_INET6, &rig->aside) : 0;

	return ret ?: net_mark(&rig->aside);
}

/* Nobody has seen what is queued, not the receiver @rx, and it is still to be sent */
static void check_queued(struct __test_metadata *_metadata, struct unread_rig *rig,
			 struct probe *p, int rx)
{
	char c;

	probe_read(p);
	check_probe(_metadata, p);
	EXPECT_EQ(-1, recv(rx, &c, 1, MSG_PEEK | MSG_DONTWAIT));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_GT(net_unsent(rig->tcp.tx), 0);
}

/* The peer wants more, but @dev drops all of it */
static void check_rerouted(struct __test_metadata *_metadata, struct unread_rig *rig,
			   const char *dev)
{
	struct probe *p = &rig->probe[0];
	long long before;

	ASSERT_EQ(0, piece_send(rig->ordinary.tx, &ordinary, 0));
	EXPECT_TRUE(probes_wait(p, 1));
	before = stat_of(dev, "tx_dropped");
	ASSERT_GE(before, 0);
	ASSERT_EQ(0, flush_cable(rig));
	ASSERT_GT(recv_some(rig), 0);
	EXPECT_TRUE(stat_wait(dev, "tx_dropped", before + 2));
	check_queued(_metadata, rig, p, rig->tcp.rx);
	EXPECT_EQ(0, p->nr_unreadable);
}

#define CHECK_REROUTED(dev)	check_rerouted(_metadata, rig, dev)

/* The way back, and all that is queued arrives by it */
static void check_back(struct __test_metadata *_metadata, struct unread_rig *rig)
{
	EXPECT_EQ(0, undo_all(&rig->undo));
	probe_close(&rig->probe[0]);
	EXPECT_EQ(0, recv_queued(rig));
	if (rig->ordinary.rx >= 0)
		EXPECT_EQ(0, net_recv(rig->ordinary.rx, &ordinary, 1));
	CHECK_OVER();
}

#define CHECK_BACK()	check_back(_metadata, rig)

TEST_F(unread, route_by_veth)
{
	struct unread_rig *rig = &self->rig;

	VETH_UP();
	ASSERT_EQ(0, probe_far(rig, &rig->probe[0]));
	ASSERT_EQ(0, queue_up(rig));
	ASSERT_EQ(0, reroute(rig, VETH, TO_ALL));
	CHECK_REROUTED(VETH);
	CHECK_BACK();
}

TEST_F(unread, route_by_card)
{
	struct unread_rig *rig = &self->rig;
	const char *dev = rig->other.dev[NET_CARD];

	NETRIG_UP(&rig->other, variant->other, MEM_UDMABUF, 0);
	ASSERT_EQ(0, probe_other(rig, &rig->probe[0]));
	ASSERT_EQ(0, queue_up(rig));
	ASSERT_EQ(0, reroute(rig, dev, TO_ALL));
	CHECK_REROUTED(dev);
	CHECK_BACK();
}

TEST_F(unread, route_by_tun)
{
	struct unread_rig *rig = &self->rig;

	TUN_OPEN(false);
	ASSERT_EQ(0, queue_up(rig));
	ASSERT_EQ(0, reroute(rig, TUN, NULL));
	CHECK_REROUTED(TUN);
	CHECK_BACK();
}

/* A bridge with the one port @port */
static int bridge_up(struct unread_rig *rig, const char *port)
{
	if (run("ip link add " BRIDGE " type bridge"))
		return -ENOTSUP;
	undo_by(&rig->undo, "ip link del " BRIDGE);
	return net_ip(rig->net.home, "link set dev %s master " BRIDGE "\n"
		      "link set dev " BRIDGE " up\n", port);
}

#define BRIDGE_UP(port) do {						\
	int ret_ = bridge_up(rig, port);					\
									\
	if (ret_ == -ENOTSUP)						\
		SKIP(return, "no bridges (CONFIG_BRIDGE)");		\
	ASSERT_EQ(0, ret_);						\
} while (0)

TEST_F(unread, route_by_bridge)
{
	struct unread_rig *rig = &self->rig;

	VETH_UP();
	BRIDGE_UP(VETH);
	ASSERT_EQ(0, probe_far(rig, &rig->probe[0]));
	ASSERT_EQ(0, queue_up(rig));
	ASSERT_EQ(0, reroute(rig, BRIDGE, TO_ALL));
	CHECK_REROUTED(BRIDGE);
	CHECK_BACK();
}

/* Its port is the very card: the bridge is what the packets leave by */
TEST_F(unread, route_by_bridge_of_card)
{
	struct unread_rig *rig = &self->rig;
	struct netrig *n = &rig->net;

	ASSERT_EQ(0, probe_open(&rig->probe[0], n, NET_PEER, n->dev[NET_PEER],
				PROBE_RAW, ETH_P_ALL, &rig->match));
	ASSERT_EQ(0, queue_up(rig));
	/* the bridge would get the answer to who the peer is */
	ASSERT_EQ(0, flush_cable(rig));
	BRIDGE_UP(n->dev[NET_CARD]);
	ASSERT_EQ(0, reroute(rig, BRIDGE, TO_ALL));
	/* not what came by the cable while it was right */
	ASSERT_EQ(0, flush_cable(rig));
	probe_read(&rig->probe[0]);
	rig->probe[0].nr_unreadable = 0;
	rig->probe[0].leaked = 0;
	CHECK_REROUTED(BRIDGE);
	CHECK_BACK();
}

TEST_F(unread, route_by_loopback)
{
	struct unread_rig *rig = &self->rig;

	ASSERT_EQ(0, probe_here(rig, &rig->probe[0], "lo", PROBE_RAW, ETH_P_ALL));
	ASSERT_EQ(0, queue_up(rig));
	ASSERT_EQ(0, reroute(rig, "lo", NULL));
	CHECK_REROUTED("lo");
	CHECK_BACK();
}

/* Where queue @queue of a socket under repair is, or is to start */
static int queue_seq(int fd, int queue, __u32 *seq, bool set)
{
	socklen_t len = sizeof(*seq);

	if (net_set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue))
		return -EPROTO;
	if (set ? setsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, seq, len) :
		  getsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, seq, &len))
		return -errno;
	return 0;
}

/* What the next bytes of a connection are, for the sender @fd */
static int next_seqs(int fd, __u32 *to_ack, __u32 *to_get)
{
	int ret = net_set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);

	ret = ret ?: queue_seq(fd, TCP_SEND_QUEUE, to_ack, false);
	ret = ret ?: queue_seq(fd, TCP_RECV_QUEUE, to_get, false);
	*to_ack -= net_unsent(fd);
	return ret ?: net_set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
}

/*
 * Nothing more arrives: what is left of a window that has less room than a segment
 * takes is used when a timer expires
 */
static int wait_closed_window(int fd)
{
	double end = lab_now() + net_patience() / 1000.0;
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	while (!getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) &&
	       (info.tcpi_snd_wnd || info.tcpi_unacked)) {
		if (lab_now() > end)
			return -ETIME;
		lab_sleep_ms(10);
	}
	return 0;
}

/*
 * A socket of the sender's stack that is, by what it knows, the receiver; still
 * under repair.
 */
static int take_over(const struct net_pair *p)
{
	int sk = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in peer = { 0 }, own = { 0 };
	socklen_t len = sizeof(peer);
	__u32 to_get, to_send;

	net_timeouts(sk);
	if (getpeername(p->tx, (void *)&peer, &len) ||
	    getsockname(p->tx, (void *)&own, &len) ||
	    next_seqs(p->tx, &to_get, &to_send) ||
	    net_set(sk, IPPROTO_IP, IP_TRANSPARENT, 1) ||
	    net_set(sk, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON) ||
	    queue_seq(sk, TCP_RECV_QUEUE, &to_get, true) ||
	    queue_seq(sk, TCP_SEND_QUEUE, &to_send, true) ||
	    bind(sk, (void *)&peer, len) || connect(sk, (void *)&own, len)) {
		close(sk);
		return -EIO;
	}
	return sk;
}

/* The other end does not notice */
static void close_silently(int sk)
{
	net_set(sk, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);
	close(sk);
}

/* The address of the peer becomes one of the sender's stack, which has a receiver */
TEST_F(unread, local_receiver)
{
	struct unread_rig *rig = &self->rig;
	struct probe *p = &rig->probe[0];
	struct netrig *n = &rig->net;
	int unreadable_rx, ordinary_rx;
	long long before;

	ASSERT_EQ(0, probe_here(rig, p, "lo", PROBE_RAW, ETH_P_ALL));
	ASSERT_EQ(0, queue_up(rig));
	ASSERT_EQ(0, wait_closed_window(rig->tcp.tx));
	unreadable_rx = take_over(&rig->tcp);
	ordinary_rx = take_over(&rig->ordinary);
	ASSERT_TRUE(unreadable_rx >= 0 && ordinary_rx >= 0);
	before = stat_of("lo", "tx_dropped");
	ASSERT_EQ(0, net_ip(n->home, "addr add 10.73.%u.2/32 dev lo\n", n->net));
	undo_by(&rig->undo, "ip addr del 10.73.%u.2/32 dev lo", n->net);
	/* they say how much they can take */
	ASSERT_EQ(0, net_set(unreadable_rx, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF));
	ASSERT_EQ(0, net_set(ordinary_rx, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF));

	ASSERT_EQ(0, piece_send(rig->ordinary.tx, &ordinary, 0));
	EXPECT_EQ(0, net_recv(ordinary_rx, &ordinary, 1));
	EXPECT_TRUE(stat_wait("lo", "tx_dropped", before + 2));
	EXPECT_TRUE(probes_wait(p, 1));
	check_queued(_metadata, rig, p, unreadable_rx);
	EXPECT_EQ(0, p->nr_unreadable);

	close_silently(unreadable_rx);
	close_silently(ordinary_rx);
	/* its peer knows nothing of what has been received */
	net_close(&rig->ordinary);
	CHECK_BACK();
}

/* Of the pair of devices, the one that is not NETKIT */
static int netkit_far(char *name)
{
	long long ifindex;

	if (file_read_num("/sys/class/net/" NETKIT "/iflink", &ifindex))
		return -EIO;
	return if_indextoname(ifindex, name) ? 0 : -errno;
}

/*
 * netkit has no DMA and takes memory that cannot be read, for a card behind it. Here,
 * it ends where the peer is: the segments arrive at the receiver's own stack.
 */
TEST_F(unread, route_by_netkit)
{
	struct unread_rig *rig = &self->rig;
	struct probe *p = rig->probe;
	struct netrig *n = &rig->net;
	char far[IF_NAMESIZE];
	long long before;

	if (run("ip link add " NETKIT " type netkit"))
		SKIP(return, "no netkit (CONFIG_NETKIT)");
	undo_by(&rig->undo, "ip link del " NETKIT);
	ASSERT_EQ(0, netkit_far(far));
	ASSERT_EQ(0, net_ip(n->home, "link set dev %s netns /proc/%d/fd/%d\n"
			    "link set dev " NETKIT " up\n", far, getpid(),
			    n->ns[NET_PEER]));
	ASSERT_EQ(0, net_ip(n->ns[NET_PEER], "link set dev %s up\n", far));
	ASSERT_EQ(0, probe_open(&p[0], n, NET_PEER, far, PROBE_RAW, ETH_P_ALL,
				&rig->match));
	ASSERT_EQ(0, queue_up(rig));
	ASSERT_EQ(0, reroute(rig, NETKIT, NULL));
	SEND_ORDINARY();
	EXPECT_TRUE(probes_wait(&p[0], 1));
	ASSERT_EQ(0, net_wait_acked(rig->ordinary.tx));
	before = stat_of(NETKIT, "tx_bytes");
	ASSERT_EQ(0, flush_cable(rig));
	ASSERT_GT(recv_some(rig), 0);
	EXPECT_TRUE(stat_wait(NETKIT, "tx_bytes", before + 5000));
	check_queued(_metadata, rig, &p[0], rig->tcp.rx);
	probe_close(&p[0]);
	/* last in line, see packet_sockets_on_arrival */
	ASSERT_EQ(0, probe_open(&p[1], n, NET_PEER, far, PROBE_RAW, ETH_P_IP,
				&rig->match));
	SEND_ORDINARY();
	EXPECT_TRUE(probes_wait(&p[1], 1));
	EXPECT_TRUE(probe_wait_unreadable(&p[1], 1));
	check_queued(_metadata, rig, &p[1], rig->tcp.rx);
	probe_close(&p[1]);
	EXPECT_EQ(0, undo_all(&rig->undo));
	EXPECT_EQ(0, recv_queued(rig));
	CHECK_OVER();
}

TEST_HARNESS_MAIN
