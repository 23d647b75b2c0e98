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
/*
 * What of a huge page lies in front of a request is accounted to it as well (in
 * io_sg_from_iter()), so a window of a plain buffer looks like much more than it is.
 */
#define SEND_BUFFER	(1 << 30)
#define RECEIVE_BUFFER	(16 << 20)

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
static int large_ring(const struct netrig *link)
{
	struct ethtool_ringparam ring = { .cmd = ETHTOOL_GRINGPARAM };
	int ret = net_ethtool(link, NET_CARD, &ring);

	if (ret)
		return fail("ETHTOOL_GRINGPARAM", -ret, link_driver(link));
	ring.cmd = ETHTOOL_SRINGPARAM;
	ring.tx_pending = ring.tx_max_pending < TX_RING ? ring.tx_max_pending : TX_RING;
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
		{ "tcp_autocorking", "0" },
		{ "tcp_limit_output_bytes", "1073741824" },
		{ "tcp_pacing_ss_ratio", "1000" },
		{ "tcp_pacing_ca_ratio", "1000" },
		{ "tcp_min_tso_segs", "64" },
		{ "tcp_slow_start_after_idle", "0" },
		{ "tcp_early_retrans", "0" },
		{ "tcp_no_metrics_save", "1" },
		{ "tcp_mem", "1000000 1000000 1000000" },	/* see SEND_BUFFER */
	};
	char path[64];
	int ret = 0;

	for (size_t i = 0; i < sizeof(knobs) / sizeof(knobs[0]) && !ret; i++) {
		snprintf(path, sizeof(path), "/proc/sys/net/ipv4/%s", knobs[i].name);
		ret = file_write(path, knobs[i].value);
	}
	return ret ? fail(path, -ret, "TCP's sysctls") : 0;
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

int link_up(struct netrig *link, const char *name)
{
	const char *why = "see above, if anything is: iproute2 of the host?";
	int ret;

	netrig_init(link);
	ret = netrig_apart(link, name, &why);
	if (ret)
		return fail("the card and its peer", -ret, why);
	ret = calm();
	if (!ret)
		ret = large_ring(link);
	if (ret)
		return ret;
	/* a better route than the peer's: see link_mute() */
	ret = configure(link, NET_PEER, "metric 100");
	/* all that a measured window sends, at once */
	if (!ret)
		ret = configure(link, NET_CARD, "initcwnd 500000 rto_min 10s");
	if (!ret)
		ret = net_wait_running(link, NET_CARD);
	if (ret)
		return fail("setting up the link", -ret, why);
	few_interrupts(link);
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

int link_mute(const struct net_pair *c, bool on)
{
	struct rtentry route = {
		.rt_flags = RTF_UP | RTF_HOST | RTF_REJECT,
		.rt_metric = 2,
	};
	socklen_t len = sizeof(route.rt_dst);

	if (getpeername(c->rx, &route.rt_dst, &len) ||
	    ioctl(c->rx, on ? SIOCADDRT : SIOCDELRT, &route))
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
