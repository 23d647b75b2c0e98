// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <linux/tcp.h>

#include "netset.h"
#include "netsock.h"

#define MTU		1500
#define FIRST_NET	10		/* tests have those below for links of their own */
#define TRY_MS		300		/* for one connect() to a link that starts */
#define LOOK_MS		100		/* from one look at a link to the next */

/* --- the link --- */

int net_ioctl(const struct netrig *n, enum net_side side, unsigned long cmd,
	      struct ifreq *ifr)
{
	int sk = net_socket(n, side, AF_INET, SOCK_DGRAM, 0);
	int ret;

	if (sk < 0)
		return sk;
	snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%s", n->dev[side]);
	/* ethtool's may return more than 0 */
	ret = ioctl(sk, cmd, ifr) < 0 ? -errno : 0;
	close(sk);
	return ret;
}

int net_ethtool(const struct netrig *n, enum net_side side, void *cmd)
{
	struct ifreq ifr = { .ifr_data = cmd };

	return net_ioctl(n, side, SIOCETHTOOL, &ifr);
}

static int is_running(const struct netrig *n, enum net_side side)
{
	struct ethtool_value link = { .cmd = ETHTOOL_GLINK };
	struct ifreq ifr = { 0 };
	int ret = net_ethtool(n, side, &link);

	if (!ret)
		ret = net_ioctl(n, side, SIOCGIFFLAGS, &ifr);
	return ret ?: link.data && ifr.ifr_flags & IFF_RUNNING;
}

/*
 * That the link has changed is an interrupt cause (LSC) of e1000e, which reading ICR clears;
 * not in QEMU 7.2 with MSI-X. The next one is then no news, and the driver sees the link when
 * its timer ends, 2 s later. Clear it, and let the driver look: as often as the link is used
 * here, that is most of the time that it takes.
 */
static void look_at_link(const struct netrig *n)
{
	enum { ICR = 0xc0 / 4, ICS = 0xc8 / 4, LSC = 1 << 2, OTHER = 1 << 24 };
	char path[128], driver[64];
	__u32 *reg;
	int fd;

	if (net_driver(n, driver, sizeof(driver)) || strcmp(driver, "e1000e"))
		return;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource0", n->pci);
	fd = open(path, O_RDWR | O_SYNC | O_CLOEXEC);
	if (fd < 0)
		return;
	reg = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (reg == MAP_FAILED)
		return;
	__atomic_store_n(&reg[ICR], LSC | OTHER, __ATOMIC_SEQ_CST);
	__atomic_store_n(&reg[ICS], LSC | OTHER, __ATOMIC_SEQ_CST);
	munmap(reg, 4096);
}

int net_wait_running(const struct netrig *n, enum net_side side)
{
	double end = net_deadline(), look = lab_now() + LOOK_MS / 1000.0;
	int ret;

	while (!(ret = is_running(n, side))) {
		if (lab_now() > end)
			return -ENETDOWN;
		if (side == NET_CARD && lab_now() > look) {
			look_at_link(n);
			look = lab_now() + LOOK_MS / 1000.0;
		}
		lab_sleep_ms(10);
	}
	return ret < 0 ? ret : 0;
}

/* A carrier is not all: queues have to be started, addresses resolved */
static bool try_connect(const struct netrig *n, int family, int lsk)
{
	int sk = net_socket(n, NET_CARD, family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct pollfd pfd = { .fd = sk, .events = POLLOUT };
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int err = -1;

	if (sk < 0)
		return false;
	getsockname(lsk, (void *)&ss, &len);
	if (connect(sk, (void *)&ss, len) && errno == EINPROGRESS &&
	    poll(&pfd, 1, TRY_MS) == 1) {
		len = sizeof(err);
		getsockopt(sk, SOL_SOCKET, SO_ERROR, &err, &len);
	}
	close(sk);
	return !err;
}

static int wait_usable(const struct netrig *n, int family)
{
	int lsk = net_listen(n, family);
	double end = net_deadline();
	bool usable;

	if (lsk < 0)
		return lsk;
	while (!(usable = try_connect(n, family, lsk)) && lab_now() < end)
		lab_sleep_ms(10);
	close(lsk);
	return usable ? 0 : -EHOSTUNREACH;
}

/* How many features there are, and their names, for the caller to free: or -errno */
static int feature_names(const struct netrig *n, struct ethtool_gstrings **strings)
{
	struct {
		struct ethtool_sset_info info;
		__u32 count;
	} set = { .info = { .cmd = ETHTOOL_GSSET_INFO,
			    .sset_mask = 1ULL << ETH_SS_FEATURES } };
	int ret = net_ethtool(n, NET_CARD, &set);

	*strings = NULL;
	if (ret)
		return ret;
	*strings = calloc(1, sizeof(**strings) + set.count * ETH_GSTRING_LEN);
	if (!*strings)
		return -ENOMEM;
	(*strings)->cmd = ETHTOOL_GSTRINGS;
	(*strings)->string_set = ETH_SS_FEATURES;
	(*strings)->len = set.count;
	ret = net_ethtool(n, NET_CARD, *strings);
	return ret ?: (int)(*strings)->len;
}

static int feature_index(const struct ethtool_gstrings *strings, const char *name)
{
	for (__u32 i = 0; i < strings->len; i++) {
		if (!strncmp((const char *)strings->data + i * ETH_GSTRING_LEN,
			     name, ETH_GSTRING_LEN))
			return i;
	}
	fprintf(stderr, "# %s: no such feature\n", name);
	return -ENOENT;
}

/* ethtool -K, without a program */
static int features_off(const struct netrig *n, const char *const *names)
{
	struct ethtool_sfeatures *off = NULL;
	struct ethtool_gstrings *strings;
	int count = feature_names(n, &strings), ret = count;

	if (count < 0)
		goto out;
	off = calloc(1, sizeof(*off) + (count + 31) / 32 * sizeof(off->features[0]));
	ret = off ? 0 : -ENOMEM;
	if (ret)
		goto out;
	off->cmd = ETHTOOL_SFEATURES;
	off->size = (count + 31) / 32;
	for (; !ret && *names; names++) {
		int i = feature_index(strings, *names);

		if (i < 0)
			ret = i;
		else
			off->features[i / 32].valid |= 1U << i % 32;
	}
	if (!ret)
		ret = net_ethtool(n, NET_CARD, off);
out:
	free(off);
	free(strings);
	return ret;
}

/*
 * QEMU cuts the large packets of its cards itself when their peer cannot take
 * them: 7.2 does not cut those of IPv6 right, and 10.0 makes IP fragments of
 * those that igb is to cut into UDP datagrams, whatever memory they are in
 */
static int bad_offloads_off(const struct netrig *n)
{
	static const char *const names[] = {
		"tx-tcp6-segmentation", "tx-udp-segmentation", NULL
	};

	return features_off(n, names);
}

/* Up, and its addresses */
static int side_up(const struct netrig *n, enum net_side side, unsigned int mtu)
{
	const char *dev = n->dev[side];
	int ns = n->ns[side];

	return netset_link(ns, dev, mtu, true) ?:
	       netset_addr4(ns, dev, n->net, side + 1) ?:
	       netset_addr6(ns, dev, n->net, side + 1);
}

int net_configure(struct netrig *n, enum net_side side)
{
	int ret = side_up(n, side, MTU);

	if (!ret && side == NET_CARD)
		ret = bad_offloads_off(n);
	return ret ?: net_wait_running(n, side);
}

int net_link(struct netrig *n, enum net_side side, bool up)
{
	struct ifreq ifr = { 0 };
	int ret = net_ioctl(n, side, SIOCGIFFLAGS, &ifr);

	if (ret)
		return ret;
	ifr.ifr_flags &= ~IFF_UP;
	if (up)
		ifr.ifr_flags |= IFF_UP;
	ret = net_ioctl(n, side, SIOCSIFFLAGS, &ifr);
	if (!ret && up)
		ret = net_wait_running(n, side);
	return ret || !up ? ret : wait_usable(n, AF_INET);
}

int net_mtu(struct netrig *n, enum net_side side, unsigned int mtu)
{
	struct ifreq ifr = { .ifr_mtu = mtu };
	int ret = net_ioctl(n, side, SIOCSIFMTU, &ifr);

	if (!ret)
		ret = net_wait_running(n, side);
	return ret ?: wait_usable(n, AF_INET);
}

int net_feature(struct netrig *n, __u32 command, bool on)
{
	struct ethtool_value value = { .cmd = command, .data = on };
	int ret = net_ethtool(n, NET_CARD, &value);

	/* that one is for IPv6, too */
	if (!ret && on && command == ETHTOOL_STSO)
		ret = bad_offloads_off(n);
	return ret;
}

int net_netem(struct netrig *n, enum net_side side, const char *args)
{
	char text[256];
	int ret;

	snprintf(text, sizeof(text), "qdisc replace dev %s root netem %s\n",
		 n->dev[side], args);
	ret = net_batch(n->ns[side], "tc", text);
	n->netem[side] = !ret;
	return ret;
}

static void netem_end(struct netrig *n, enum net_side side)
{
	char text[256];

	if (!n->netem[side])
		return;
	snprintf(text, sizeof(text), "qdisc del dev %s root\n", n->dev[side]);
	net_batch(n->ns[side], "tc", text);
	n->netem[side] = false;
}

/* --- the rig --- */

static int rig_names(struct netrig *n, const char *card, const char **why)
{
	static char reason[96];

	for (int side = 0; side < NET_SIDES; side++) {
		char env[64];
		const char *dev;

		snprintf(env, sizeof(env), "LAB_NET_%s%s", card,
			 side == NET_PEER ? "_PEER" : "");
		for (char *c = env; *c; c++)
			*c = toupper(*c);
		dev = lab_env(env);
		if (!dev) {
			snprintf(reason, sizeof(reason), "%s is not set", env);
			*why = reason;
			return -ENODEV;
		}
		snprintf(n->dev[side], sizeof(n->dev[side]), "%s", dev);
	}
	return 0;
}

const char *netrig_other_card(const char *card)
{
	return strcmp(card, "e1000e") ? "e1000e" : "vmxnet3";
}

/* The netns of a test that was killed gives devices back after a while */
static int wait_home(const char *dev)
{
	double end = net_deadline();

	while (!if_nametoindex(dev)) {
		if (lab_now() > end)
			return -ENODEV;
		lab_sleep_ms(10);
	}
	return 0;
}

static int find_pci(struct netrig *n)
{
	char path[96], link[256], *slash;
	ssize_t len;

	snprintf(path, sizeof(path), "/sys/class/net/%s/device",
		 n->dev[NET_CARD]);
	len = readlink(path, link, sizeof(link) - 1);
	if (len < 0)
		return -errno;
	link[len] = '\0';
	slash = strrchr(link, '/');
	snprintf(n->pci, sizeof(n->pci), "%.32s", slash ? slash + 1 : link);
	return 0;
}

/* What a test that failed may have left behind */
static void features_on(struct netrig *n)
{
	static const __u32 features[] = {
		ETHTOOL_SSG, ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO,
	};

	/* not all of them can be switched on every card */
	for (unsigned int i = 0; i < 4; i++) {
		struct ethtool_value on = { .cmd = features[i], .data = 1 };

		net_ethtool(n, NET_CARD, &on);
	}
}

/* The two devices, and a netns for the peer */
static int rig_find(struct netrig *n, const char *card, const char **why)
{
	int ret = rig_names(n, card, why);

	if (!ret)
		ret = wait_home(n->dev[NET_CARD]);
	if (!ret)
		ret = wait_home(n->dev[NET_PEER]);
	if (!ret)
		ret = find_pci(n);
	if (ret)
		return ret;
	/* two links of a test do not share one; tests make others with 100 more */
	n->net = FIRST_NET + if_nametoindex(n->dev[NET_CARD]) % 100;
	n->home = net_ns_open();
	if (n->home < 0)
		return n->home;
	n->ns[NET_CARD] = n->home;
	n->ns[NET_PEER] = net_ns_new();
	return n->ns[NET_PEER] < 0 ? n->ns[NET_PEER] : 0;
}

/* The peer goes to its netns */
static int rig_apart(const struct netrig *n)
{
	return netset_flush(n->home, n->dev[NET_CARD]) ?:
	       netset_move(n->home, n->dev[NET_PEER], n->ns[NET_PEER]);
}

int netrig_apart(struct netrig *n, const char *card, const char **why)
{
	int ret = rig_find(n, card, why);

	return ret ?: rig_apart(n);
}

static int rig_begin(struct netrig *n, const char *card, const char **why)
{
	int ret = netrig_apart(n, card, why);

	if (!ret)
		features_on(n);
	return ret;
}

int netrig_link(struct netrig *n, unsigned int mtu)
{
	int ret = side_up(n, NET_CARD, mtu);

	if (!ret)
		ret = side_up(n, NET_PEER, mtu);
	if (!ret)
		ret = bad_offloads_off(n);
	if (!ret)
		ret = net_wait_running(n, NET_PEER);
	if (!ret)
		ret = net_wait_running(n, NET_CARD);
	/* datagrams are not sent again: where the peer is has to be known */
	return ret ?: wait_usable(n, AF_INET) ?: wait_usable(n, AF_INET6);
}

int net_mem(struct mem *m, enum mem_kind kind, __u64 size)
{
	const char *iommu = getenv("LAB_IOMMU");

	if (!iommu || strcmp(iommu, "off"))
		kind = kind >= MEM_BAR ? MEM_BAR : MEM_CMA;
	return mem_create(m, kind, size);
}

int netrig_ring(struct netrig *n, unsigned int entries, unsigned int flags)
{
	int ret;

	uring_exit(&n->ring);
	ret = uring_init(&n->ring, entries, flags);
	return ret ?: reg_sparse(&n->ring, NETRIG_SLOTS);
}

bool netrig_let_go(struct netrig *n)
{
	uring_exit(&n->ring);
	return n->mem.fd < 0 || bufinfo_wait(n->mem.fd, 0, net_patience());
}

static int rig_mem(struct netrig *n, enum mem_kind kind, __u64 size,
		   const char **why)
{
	static char reason[96];
	int ret = net_mem(&n->mem, kind, size);

	if (ret == -ENOENT || ret == -ENXIO || ret == -ENODEV) {
		snprintf(reason, sizeof(reason), "no exporter for %s memory",
			 mem_kind_name(kind));
		*why = reason;
	}
	return ret ?: netrig_ring(n, 64, 0);
}

void netrig_init(struct netrig *n)
{
	memset(n, 0, sizeof(*n));
	n->mem.fd = -1;
	n->home = -1;
	n->ns[NET_CARD] = -1;
	n->ns[NET_PEER] = -1;
}

static int rig_start(struct netrig *n, const char *card, const char **why)
{
	netrig_init(n);
	if (!kernel_has_regbuf()) {
		*why = "this kernel has no dma-buf buffers (IO_URING_QUERY_REGBUF)";
		return -EOPNOTSUPP;
	}
	return card ? rig_begin(n, card, why) : 0;
}

int netrig_begin(struct netrig *n, const char *card, const char **why)
{
	int ret = rig_start(n, card, why);

	if (!ret)
		ret = netset_link(n->home, n->dev[NET_CARD], 0, false);
	if (ret)
		netrig_down(n);
	return ret;
}

int netrig_up(struct netrig *n, const char *card, enum mem_kind kind,
	      __u64 size, const char **why)
{
	int ret = rig_start(n, card, why);

	if (!ret && card)
		ret = netrig_link(n, MTU);
	if (!ret && size)
		ret = rig_mem(n, kind, size, why);
	if (ret)
		netrig_down(n);
	return ret;
}

static void bring_home(struct netrig *n, enum net_side side)
{
	int ns = n->ns[side];

	if (ns < 0 || ns == n->home)
		return;
	netset_move(ns, n->dev[side], n->home);
	wait_home(n->dev[side]);
	close(ns);
	n->ns[side] = n->home;
}

void netrig_down(struct netrig *n)
{
	uring_exit(&n->ring);
	if (n->mem.fd >= 0 || n->mem.map)
		mem_destroy(&n->mem);
	if (n->home < 0)
		return;
	for (int side = 0; side < NET_SIDES; side++) {
		netem_end(n, side);
		bring_home(n, side);
	}
	/* the card stays up: it would take seconds to come back */
	netset_flush(n->home, n->dev[NET_CARD]);
	close(n->home);
	n->home = -1;
}

/* --- the driver of the card --- */

int net_driver(const struct netrig *n, char *driver, size_t size)
{
	char path[128], link[256];
	ssize_t len;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", n->pci);
	len = readlink(path, link, sizeof(link) - 1);
	if (len < 0)
		return -errno;
	link[len] = '\0';
	snprintf(driver, size, "%.40s", strrchr(link, '/') + 1);
	return 0;
}

static int bind_driver(const struct netrig *n, const char *driver,
		       const char *what)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/%s", driver, what);
	return file_write(path, n->pci);
}

/* The net device of the card that has come back */
static bool find_dev(const struct netrig *n, char *name, size_t size)
{
	struct dirent *de;
	bool found = false;
	char path[128];
	DIR *d;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/net", n->pci);
	d = opendir(path);
	while (d && !found && (de = readdir(d))) {
		found = de->d_name[0] != '.';
		if (found)
			snprintf(name, size, "%.15s", de->d_name);
	}
	if (d)
		closedir(d);
	return found;
}

int net_unbind(const struct netrig *n, const char *driver)
{
	return bind_driver(n, driver, "unbind");
}

int net_rebind(struct netrig *n, const char *driver)
{
	double end = lab_now() + net_patience() / 1000.0;
	char name[IF_NAMESIZE];
	int ret = bind_driver(n, driver, "bind");

	if (ret)
		return ret;
	while (!find_dev(n, name, sizeof(name))) {
		if (lab_now() > end)
			return -ENODEV;
		lab_sleep_ms(20);
	}
	if (!strcmp(name, n->dev[NET_CARD]))
		return 0;
	return net_ip(n->home, "link set dev %s name %s\n", name,
		      n->dev[NET_CARD]);
}
