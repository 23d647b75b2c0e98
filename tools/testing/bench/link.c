// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <glob.h>
#include <net/route.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <linux/tcp.h>

#include "fail.h"
#include "link.h"

#define TX_RING		4096u		/* the most that e1000e takes */
#define RX_RING		1024u		/* each with a page, of an area perhaps */
/*
 * What of a huge page lies in front of a request is accounted to it as well (in
 * io_sg_from_iter()), so a window of a plain buffer looks like much more than it is.
 */
#define SEND_BUFFER	(1 << 30)
#define RECEIVE_BUFFER	(16 << 20)
#define RDS_BUFFER	(64 << 20)	/* of sockets, beside those of TCP */
#define RDS_PORT	7300

int run_on(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		return fail("sched_setaffinity", errno, "a guest with two CPUs");
	return 0;
}

/* ---- interrupts ---- */

/* Those that cannot move have nothing to do with it. */
static void move_interrupts(const char *pattern, unsigned int cpu)
{
	char path[64], mask[16];
	glob_t irqs;

	snprintf(mask, sizeof(mask), "%x", 1u << cpu);
	if (glob(pattern, 0, NULL, &irqs))
		return;
	for (size_t i = 0; i < irqs.gl_pathc; i++) {
		snprintf(path, sizeof(path), "/proc/irq/%s/smp_affinity",
			 strrchr(irqs.gl_pathv[i], '/') + 1);
		file_write(path, mask);
	}
	globfree(&irqs);
}

void link_interrupts(const struct netrig *link)
{
	char pattern[96];

	move_interrupts("/proc/irq/[0-9]*", OTHER_CPU);
	snprintf(pattern, sizeof(pattern), "/sys/class/net/%s/device/msi_irqs/*",
		 link->dev[NET_CARD]);
	move_interrupts(pattern, SENDER_CPU);
}

/* ---- the two devices ---- */

const char *link_driver(const struct netrig *link)
{
	static char driver[48];

	return net_driver(link, driver, sizeof(driver)) ? "?" : driver;
}

/*
 * Room for a window, so that the queue never stops: when it would start again
 * depends on host time.
 */
static int large_ring(const struct netrig *link, enum net_side sender)
{
	struct ethtool_ringparam ring = { .cmd = ETHTOOL_GRINGPARAM };
	int ret = net_ethtool(link, NET_CARD, &ring);

	if (ret)
		return fail("ETHTOOL_GRINGPARAM", -ret, link_driver(link));
	ring.cmd = ETHTOOL_SRINGPARAM;
	if (sender == NET_CARD)
		ring.tx_pending = ring.tx_max_pending < TX_RING ? ring.tx_max_pending : TX_RING;
	else
		ring.rx_pending = ring.rx_max_pending < RX_RING ? ring.rx_max_pending : RX_RING;
	ret = net_ethtool(link, NET_CARD, &ring);
	return ret ? fail("ETHTOOL_SRINGPARAM", -ret, link_driver(link)) : 0;
}

/* As few completion interrupts as can be, which come at times of their own. */
static void few_interrupts(const struct netrig *link)
{
	struct ethtool_coalesce c = { .cmd = ETHTOOL_GCOALESCE };

	/* not every driver has it, and then there is nothing to do */
	if (net_ethtool(link, NET_CARD, &c))
		return;
	c.cmd = ETHTOOL_SCOALESCE;
	c.rx_coalesce_usecs = 4000;
	net_ethtool(link, NET_CARD, &c);
}

/*
 * Where TCP would send more or less at once depending on how long things took, it
 * sends what it is given: no autocorking, no limit on what is queued in the device,
 * segments of full size whatever the round trip time is.
 */
static int calm(void)
{
	static const struct { const char *name, *value; } knobs[] = {
		{ "ipv4/tcp_autocorking", "0" },
		{ "ipv4/tcp_limit_output_bytes", "1073741824" },
		{ "ipv4/tcp_pacing_ss_ratio", "1000" },
		{ "ipv4/tcp_pacing_ca_ratio", "1000" },
		{ "ipv4/tcp_min_tso_segs", "64" },
		{ "ipv4/tcp_slow_start_after_idle", "0" },
		{ "ipv4/tcp_early_retrans", "0" },
		{ "ipv4/tcp_no_metrics_save", "1" },
		/* a notification of MSG_ZEROCOPY for each request of a window */
		{ "core/optmem_max", "16777216" },
	};
	char path[64];
	int ret = 0;

	for (size_t i = 0; i < sizeof(knobs) / sizeof(knobs[0]) && !ret; i++) {
		snprintf(path, sizeof(path), "/proc/sys/net/%s", knobs[i].name);
		ret = file_write(path, knobs[i].value);
	}
	return ret ? fail(path, -ret, "TCP's sysctls") : 0;
}

/* Memory is one for all, and told to the netns of the card only. */
static int calm_sender(const struct netrig *link, enum net_side sender)
{
	int ret = file_write("/proc/sys/net/ipv4/tcp_mem", "1000000 1000000 1000000"), err;

	if (ret)
		return fail("tcp_mem", -ret, "see SEND_BUFFER");
	ret = net_ns_enter(link->ns[sender]);
	if (!ret)
		ret = calm();
	err = net_ns_enter(link->home);
	return ret ? ret : err;
}

/* Nothing comes of it where there is no IPv6 anyway. */
static int no_ipv6(const struct netrig *link, enum net_side side)
{
	char path[96];
	int ret = net_ns_enter(link->ns[side]);

	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", link->dev[side]);
	if (!ret)
		file_write(path, "1");
	return ret ? ret : net_ns_enter(link->home);
}

static void address(const struct netrig *link, enum net_side side, char text[INET_ADDRSTRLEN])
{
	struct sockaddr_storage ss;
	struct sockaddr_in *sin = (void *)&ss;

	net_addr(link, side, AF_INET, 0, &ss);
	inet_ntop(AF_INET, &sin->sin_addr, text, INET_ADDRSTRLEN);
}

/* With a neighbour that is not asked for from time to time. */
static int configure(const struct netrig *link, enum net_side side, const char *route)
{
	enum net_side other = side == NET_CARD ? NET_PEER : NET_CARD;
	char own[INET_ADDRSTRLEN], its[INET_ADDRSTRLEN];
	const char *dev = link->dev[side];
	struct ifreq ifr = { 0 };
	const unsigned char *mac = (unsigned char *)ifr.ifr_hwaddr.sa_data;
	int ret;

	address(link, side, own);
	address(link, other, its);
	ret = net_ioctl(link, other, SIOCGIFHWADDR, &ifr);
	if (!ret)
		ret = no_ipv6(link, side);
	if (ret)
		return ret;
	return net_ip(link->ns[side],
		      "link set dev %s mtu 1500 up\n"
		      "addr add %s/32 dev %s\n"
		      "route add %s dev %s src %s %s\n"
		      "neigh replace %s lladdr %02x:%02x:%02x:%02x:%02x:%02x dev %s nud permanent\n",
		      dev, own, dev, its, dev, own, route, its,
		      mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], dev);
}

int link_up(struct netrig *link, const char *name, enum net_side sender)
{
	/* all that a measured window sends, at once */
	static const char *const sending = "initcwnd 500000 rto_min 10s";
	/* a better route than the peer's: see link_mute() */
	static const char *const answering = "metric 100";
	const char *why = "see above, if anything is: iproute2 of the host?";
	int ret;

	netrig_init(link);
	ret = netrig_apart(link, name, &why);
	if (ret)
		return fail("the card and its peer", -ret, why);
	ret = calm_sender(link, sender);
	if (!ret)
		ret = large_ring(link, sender);
	if (ret)
		return ret;
	ret = configure(link, NET_PEER, sender == NET_PEER ? sending : answering);
	if (!ret)
		ret = configure(link, NET_CARD, sender == NET_CARD ? sending : answering);
	if (!ret)
		ret = net_wait_running(link, NET_CARD);
	if (ret)
		return fail("setting up the link", -ret, why);
	few_interrupts(link);
	link_interrupts(link);
	return 0;
}

int link_mtu(const struct netrig *link, unsigned int mtu)
{
	int ret = 0;

	for (int side = 0; side < NET_SIDES && !ret; side++)
		ret = net_ip(link->ns[side], "link set dev %s mtu %u\n", link->dev[side], mtu);
	if (!ret)
		ret = net_wait_running(link, NET_CARD);
	if (ret)
		return fail("MTU", -ret, link_driver(link));
	link_interrupts(link);
	return 0;
}

/* ---- sockets ---- */

static int set(int fd, int level, int option, int value)
{
	int ret = net_set(fd, level, option, value);

	return ret ? fail("setsockopt", -ret, "as root") : 0;
}

/* Not net_tcp(): that is patient, and what is measured has no timers of that kind. */
static int connect_card(struct net_pair *c, int listener)
{
	int ret = set(listener, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER);

	c->tx = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!ret && c->tx < 0)
		ret = fail("socket", errno, "TCP");
	if (!ret)
		ret = set(c->tx, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER);
	if (!ret)
		ret = set(c->tx, IPPROTO_TCP, TCP_NODELAY, 1);
	if (ret)
		return ret;
	c->rx = net_connect(c->tx, listener);
	return c->rx < 0 ? fail("connect", -c->rx, "from the card to the peer") : 0;
}

int link_connect(const struct netrig *link, struct net_pair *c)
{
	int listener = net_listen(link, AF_INET), ret;

	*c = NET_PAIR_NONE;
	if (listener < 0)
		return fail("listen", -listener, "the peer's address");
	ret = connect_card(c, listener);
	close(listener);
	if (ret)
		net_close(c);
	return ret;
}

int link_connect_back(const struct netrig *link, struct net_pair *c)
{
	struct net_pair p;
	int ret = link_connect(link, &p);

	*c = (struct net_pair){ .tx = p.rx, .rx = p.tx };
	if (!ret)
		ret = set(c->tx, SOL_SOCKET, SO_SNDBUFFORCE, RECEIVE_BUFFER);
	if (!ret)
		ret = set(c->rx, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER);
	return ret;
}

/* Buffers of the connections that RDS makes; those there are it ends */
static int rds_buffers(const struct netrig *link, enum net_side side, const char *name, int size)
{
	char path[64], text[16];
	int ret = net_ns_enter(link->ns[side]);

	snprintf(path, sizeof(path), "/proc/sys/net/rds/tcp/%s", name);
	snprintf(text, sizeof(text), "%d", size);
	if (!ret)
		ret = file_write(path, text);
	net_ns_enter(link->home);
	return ret ? fail(path, -ret, "RDS over TCP") : 0;
}

static int rds_socket(const struct netrig *link, enum net_side side)
{
	struct sockaddr_storage ss;
	socklen_t len = net_addr(link, side, AF_INET, RDS_PORT, &ss);
	int sk = net_socket(link, side, PF_RDS, SOCK_SEQPACKET, 0);

	if (sk < 0)
		return fail("socket", -sk, "RDS");
	if (bind(sk, (void *)&ss, len))
		return fail("bind", errno, "RDS over TCP");
	if (set(sk, SOL_SOCKET, SO_SNDBUFFORCE, RDS_BUFFER) ||
	    set(sk, SOL_SOCKET, SO_RCVBUFFORCE, RDS_BUFFER))
		return -EPERM;
	return sk;
}

static int rds_connect(const struct netrig *link, int sk, enum net_side to)
{
	struct sockaddr_storage ss;
	socklen_t len = net_addr(link, to, AF_INET, RDS_PORT, &ss);

	return connect(sk, (void *)&ss, len) ? fail("connect", errno, "RDS") : 0;
}

/* A small message */
static int rds_pass(int from, int to)
{
	char byte = 1;

	if (send(from, &byte, 1, 0) != 1 || recv(to, &byte, 1, 0) != 1)
		return fail("the first message", errno, "RDS");
	return 0;
}

int link_rds(const struct netrig *link)
{
	static const char *const workers = "/sys/devices/virtual/workqueue/cpumask";
	char mask[16];
	int ret;

	/* what they do for the sender is counted */
	snprintf(mask, sizeof(mask), "%x", 1u << SENDER_CPU);
	ret = file_write(workers, mask);
	if (ret)
		return fail(workers, -ret, "where workers of RDS run");
	/* RDS sends page by page, and with this, as ever, packets are filled with them */
	ret = file_write("/proc/sys/net/ipv4/tcp_autocorking", "1");
	if (!ret)
		ret = rds_buffers(link, NET_CARD, "rds_tcp_sndbuf", SEND_BUFFER);
	return ret ? ret : rds_buffers(link, NET_PEER, "rds_tcp_rcvbuf", RECEIVE_BUFFER);
}

int link_connect_rds(const struct netrig *link, struct net_pair *c)
{
	int ret;

	*c = NET_PAIR_NONE;
	c->rx = rds_socket(link, NET_PEER);
	c->tx = rds_socket(link, NET_CARD);
	if (c->rx < 0 || c->tx < 0)
		return -EIO;
	ret = rds_connect(link, c->tx, NET_PEER);
	if (!ret)
		ret = rds_connect(link, c->rx, NET_CARD);
	/* in between, RDS finds out how many connections there can be */
	for (int i = 0; i < 2 && !ret; i++) {
		ret = rds_pass(c->tx, c->rx);
		if (!ret)
			ret = rds_pass(c->rx, c->tx);
	}
	return ret;
}

int link_mute(const struct net_pair *c, int control, bool on)
{
	struct rtentry route = {
		.rt_flags = RTF_UP | RTF_HOST | RTF_REJECT,
		.rt_metric = 2,
	};
	socklen_t len = sizeof(route.rt_dst);

	if (getpeername(c->rx, &route.rt_dst, &len) ||
	    ioctl(control, on ? SIOCADDRT : SIOCDELRT, &route))
		return fail(on ? "SIOCADDRT" : "SIOCDELRT", errno, "the peer's netns");
	return 0;
}

int link_take_answer(const struct net_pair *c)
{
	char answer;

	if (recv(c->tx, &answer, 1, 0) != 1)
		return fail("recv", errno, "the answer");
	/* 2: and again delayed from here on */
	return set(c->tx, IPPROTO_TCP, TCP_QUICKACK, 2);
}

int link_counts(const struct net_pair *c, struct tcp_counts *n)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	if (getsockopt(c->tx, IPPROTO_TCP, TCP_INFO, &info, &len))
		return fail("TCP_INFO", errno, "TCP");
	*n = (struct tcp_counts){
		.segments = info.tcpi_segs_out,
		.acks = info.tcpi_segs_in,
		.again = info.tcpi_total_retrans,
	};
	return 0;
}

/* The second line that begins with "Tcp:" has the values. */
int link_counts_rds(struct tcp_counts *n)
{
	static char text[8192];
	char *tcp;
	int ret = file_read("/proc/thread-self/net/snmp", text, sizeof(text));

	if (ret < 0)
		return fail("/proc/net/snmp", -ret, "procfs");
	tcp = strstr(text, "\nTcp: ");
	tcp = tcp ? strstr(tcp + 1, "\nTcp: ") : NULL;
	if (!tcp || sscanf(tcp, " Tcp: %*d %*d %*d %*d %*d %*d %*d %*d %*d %u %u %u",
			   &n->acks, &n->segments, &n->again) != 3)
		return fail("/proc/net/snmp", EPROTO, "TCP's counters");
	return 0;
}
