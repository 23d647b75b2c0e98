// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <net/route.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <linux/tcp.h>

#include "fail.h"
#include "lab.h"
#include "link.h"

#define CARD_ADDR	"10.74.0.1"
#define PEER_ADDR	"10.74.0.2"
#define TX_RING		4096u		/* the most that e1000e takes */
/*
 * What of a huge page lies in front of a request is accounted to it as well (in
 * io_sg_from_iter()), so a window of a plain buffer looks like much more than it is.
 */
#define SEND_BUFFER	(1 << 30)
#define RECEIVE_BUFFER	(16 << 20)

/* ---- this machine's knobs ---- */

int run_on(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		return fail("sched_setaffinity", errno, "a guest with two CPUs");
	return 0;
}

static int enter(int ns)
{
	return setns(ns, CLONE_NEWNET) ? fail("setns", errno, "as root") : 0;
}

/* iproute2 does what the line says, in the netns @ns. */
static int ip(int ns, const char *fmt, ...)
{
	char line[256];
	va_list ap;
	int status;
	pid_t pid;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	pid = fork();
	if (!pid) {
		if (!enter(ns))
			execl("/bin/sh", "sh", "-c", line, NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return fail("fork", errno, line);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return fail(line, EIO, "iproute2 of the host?");
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

static void place_interrupts(const struct link *link)
{
	char pattern[96];

	move_interrupts("/proc/irq/[0-9]*", OTHER_CPU);
	snprintf(pattern, sizeof(pattern), "/sys/class/net/%s/device/msi_irqs/*", link->card);
	move_interrupts(pattern, SENDER_CPU);
}

/* ---- the two devices ---- */

static int dev_name(char *to, const char *name, const char *suffix)
{
	char env[64];
	const char *dev;

	snprintf(env, sizeof(env), "LAB_NET_%s%s", name, suffix);
	dev = getenv(env);
	if (!dev)
		return fail(env, ENODEV, "is not set: vm -t net");
	snprintf(to, IF_NAMESIZE, "%s", dev);
	return 0;
}

static int device_link(const struct link *link, const char *what, char *to, size_t size)
{
	char path[96], target[256], *slash;
	ssize_t len;

	snprintf(path, sizeof(path), "/sys/class/net/%s/device%s", link->card, what);
	len = readlink(path, target, sizeof(target) - 1);
	if (len < 0)
		return fail(path, errno, "a PCI card");
	target[len] = '\0';
	slash = strrchr(target, '/');
	snprintf(to, size, "%.31s", slash ? slash + 1 : target);
	return 0;
}

static int make_netns(struct link *link)
{
	link->home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (link->home < 0 || unshare(CLONE_NEWNET))
		return fail("a netns for the peer", errno, "as root");
	/* inherited by the ip that moves the peer there */
	link->away = open("/proc/self/ns/net", O_RDONLY);
	if (link->away < 0)
		return fail("/proc/self/ns/net", errno, "is /proc mounted?");
	return enter(link->home);
}

/* Of @dev in the netns that this thread is in. */
static int ethtool(const char *dev, void *data)
{
	struct ifreq ifr = { 0 };
	int sk = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int ret;

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", dev);
	ifr.ifr_data = data;
	ret = sk < 0 || ioctl(sk, SIOCETHTOOL, &ifr) ? -errno : 0;
	if (sk >= 0)
		close(sk);
	return ret;
}

/*
 * Room for a window, so that the queue never stops: when it would start again
 * depends on host time.
 */
static int large_ring(const struct link *link)
{
	struct ethtool_ringparam ring = { .cmd = ETHTOOL_GRINGPARAM };
	int ret = ethtool(link->card, &ring);

	if (ret)
		return fail("ETHTOOL_GRINGPARAM", -ret, link->driver);
	ring.cmd = ETHTOOL_SRINGPARAM;
	ring.tx_pending = ring.tx_max_pending < TX_RING ? ring.tx_max_pending : TX_RING;
	ret = ethtool(link->card, &ring);
	return ret ? fail("ETHTOOL_SRINGPARAM", -ret, link->driver) : 0;
}

/* As few completion interrupts as can be, which come at times of their own. */
static void few_interrupts(const struct link *link)
{
	struct ethtool_coalesce c = { .cmd = ETHTOOL_GCOALESCE };

	/* not every driver has it, and then there is nothing to do */
	if (ethtool(link->card, &c))
		return;
	c.cmd = ETHTOOL_SCOALESCE;
	c.rx_coalesce_usecs = 4000;
	ethtool(link->card, &c);
}

static int wait_carrier(const struct link *link)
{
	struct ethtool_value up = { .cmd = ETHTOOL_GLINK };

	for (int tries = 3000; tries--; usleep(10000))
		if (!ethtool(link->card, &up) && up.data)
			return 0;
	return fail(link->card, ENETDOWN, "no carrier after 30 s");
}

struct knob {
	const char *path, *value;
};

#define IPV4	"/proc/sys/net/ipv4/"

/*
 * Where TCP would send more or less at once depending on how long things took, it
 * sends what it is given: no autocorking, no limit on what is queued in the device,
 * segments of full size whatever the round trip time is.
 */
static const struct knob sender_knobs[] = {
	{ IPV4 "tcp_autocorking", "0" },
	{ IPV4 "tcp_limit_output_bytes", "1073741824" },
	{ IPV4 "tcp_pacing_ss_ratio", "1000" },
	{ IPV4 "tcp_pacing_ca_ratio", "1000" },
	{ IPV4 "tcp_min_tso_segs", "64" },
	{ IPV4 "tcp_slow_start_after_idle", "0" },
	{ IPV4 "tcp_early_retrans", "0" },
	{ IPV4 "tcp_no_metrics_save", "1" },
	{ IPV4 "tcp_mem", "1000000 1000000 1000000" },	/* see SEND_BUFFER */
};

/*
 * QEMU 7.2's cards segment by making IP fragments, more of one packet than may lie
 * between two of another.
 */
static const struct knob receiver_knobs[] = {
	{ IPV4 "ipfrag_max_dist", "0" },
};

static int turn(int ns, int home, const struct knob *knobs, size_t nr)
{
	int ret = enter(ns);

	for (size_t i = 0; i < nr && !ret; i++) {
		ret = file_write(knobs[i].path, knobs[i].value);
		if (ret)
			fail(knobs[i].path, -ret, "TCP's sysctls");
	}
	if (enter(home))
		return -EIO;
	return ret;
}

static int calm(const struct link *link)
{
	int ret = turn(link->home, link->home, sender_knobs,
		       sizeof(sender_knobs) / sizeof(sender_knobs[0]));

	return ret ? ret : turn(link->away, link->home, receiver_knobs,
				sizeof(receiver_knobs) / sizeof(receiver_knobs[0]));
}

/* Nothing that happens at some time of its own: no IPv6, and see neighbour(). */
static int configure(int ns, const char *dev, const char *addr, const char *other,
		     const char *route)
{
	int ret = ip(ns, "echo 1 >/proc/sys/net/ipv6/conf/%s/disable_ipv6 2>/dev/null; "
			 "ip link set %s mtu 1500 up && ip addr add %s/32 dev %s", dev, dev, addr, dev);

	if (!ret)
		ret = ip(ns, "ip route add %s dev %s src %s %s", other, dev, addr, route);
	return ret;
}

static int neighbour(int ns, const char *dev, const char *addr, const char *mac)
{
	return ip(ns, "ip neigh replace %s lladdr %s dev %s nud permanent", addr, mac, dev);
}

static int read_mac(const char *dev, char mac[32])
{
	char path[96];
	FILE *f;
	int ret;

	snprintf(path, sizeof(path), "/sys/class/net/%s/address", dev);
	f = fopen(path, "r");
	ret = f && fscanf(f, "%31s", mac) == 1 ? 0 : fail(path, ENODEV, "sysfs");
	if (f)
		fclose(f);
	return ret;
}

int link_up(struct link *link, const char *name)
{
	char card_mac[32], peer_mac[32];
	int ret;

	ret = dev_name(link->card, name, "");
	if (!ret)
		ret = dev_name(link->peer, name, "_PEER");
	if (!ret)
		ret = device_link(link, "", link->pci, sizeof(link->pci));
	if (!ret)
		ret = device_link(link, "/driver", link->driver, sizeof(link->driver));
	if (!ret)
		ret = read_mac(link->card, card_mac);
	if (!ret)
		ret = read_mac(link->peer, peer_mac);
	if (!ret)
		ret = make_netns(link);
	if (!ret)
		ret = ip(link->home, "ip link set %s netns /proc/self/fd/%d", link->peer, link->away);
	if (!ret)
		ret = calm(link);
	if (!ret)
		ret = large_ring(link);
	/* a better route than the peer's: see link_mute() */
	if (!ret)
		ret = configure(link->away, link->peer, PEER_ADDR, CARD_ADDR, "metric 100");
	/* all that a measured window sends, at once */
	if (!ret)
		ret = configure(link->home, link->card, CARD_ADDR, PEER_ADDR,
				"initcwnd 500000 rto_min 10s");
	if (!ret)
		ret = neighbour(link->home, link->card, PEER_ADDR, peer_mac);
	if (!ret)
		ret = neighbour(link->away, link->peer, CARD_ADDR, card_mac);
	if (!ret)
		ret = wait_carrier(link);
	if (!ret) {
		few_interrupts(link);
		place_interrupts(link);
	}
	return ret;
}

/* ---- sockets ---- */

static int set(int fd, int level, int option, int value)
{
	if (!setsockopt(fd, level, option, &value, sizeof(value)))
		return 0;
	return fail("setsockopt", errno, "as root");
}

static struct sockaddr_in address(const char *addr)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };

	inet_pton(AF_INET, addr, &sin.sin_addr);
	return sin;
}

static int new_listener(const struct link *link)
{
	struct sockaddr_in sin = address(PEER_ADDR);
	int sk, ret = enter(link->away);

	if (ret)
		return ret;
	sk = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ret = enter(link->home);
	if (ret || sk < 0)
		return ret ? ret : fail("socket", errno, "TCP");
	ret = set(sk, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER);
	if (!ret && (bind(sk, (void *)&sin, sizeof(sin)) || listen(sk, 1)))
		ret = fail("listen", errno, PEER_ADDR);
	if (!ret)
		return sk;
	close(sk);
	return ret;
}

int link_connect(const struct link *link, struct connection *c)
{
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);
	int listener = new_listener(link), ret;

	*c = (struct connection){ -1, -1 };
	if (listener < 0)
		return listener;
	c->tx = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ret = c->tx < 0 ? fail("socket", errno, "TCP") : 0;
	if (!ret)
		ret = set(c->tx, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER);
	if (!ret)
		ret = set(c->tx, IPPROTO_TCP, TCP_NODELAY, 1);
	if (!ret && (getsockname(listener, (void *)&sin, &len) ||
		     connect(c->tx, (void *)&sin, len)))
		ret = fail("connect", errno, "from the card to the peer");
	if (!ret) {
		c->rx = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		ret = c->rx < 0 ? fail("accept", errno, "the peer") : 0;
	}
	close(listener);
	if (ret)
		link_disconnect(c);
	return ret;
}

int link_mute(const struct connection *c, bool on)
{
	struct sockaddr_in card = address(CARD_ADDR);
	struct rtentry route = {
		.rt_flags = RTF_UP | RTF_HOST | RTF_REJECT,
		.rt_metric = 2,
	};

	memcpy(&route.rt_dst, &card, sizeof(card));
	if (ioctl(c->rx, on ? SIOCADDRT : SIOCDELRT, &route))
		return fail(on ? "SIOCADDRT" : "SIOCDELRT", errno, "the peer's netns");
	return 0;
}

int link_take_answer(const struct connection *c)
{
	char answer;

	if (recv(c->tx, &answer, 1, 0) != 1)
		return fail("recv", errno, "the answer");
	/* 2: and again delayed from here on */
	return set(c->tx, IPPROTO_TCP, TCP_QUICKACK, 2);
}

void link_disconnect(struct connection *c)
{
	if (c->tx >= 0)
		close(c->tx);
	if (c->rx >= 0)
		close(c->rx);
}

int link_counts(const struct connection *c, struct tcp_counts *n)
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
