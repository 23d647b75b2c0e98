// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>

#include "netlink.h"
#include "nsim.h"

#define BUS	"/sys/bus/netdevsim"
#define SPACE	"\n "

static const unsigned int ids[SIDES] = { 7301, 7302 };
static const char *const addr4[SIDES] = { "192.0.2.1", "192.0.2.2" };
static const char *const addr6[SIDES] = { "2001:db8::1", "2001:db8::2" };

/* What the ioctl for IPv6 wants; the uAPI header does not go with libc's */
struct in6_addr_req {
	struct in6_addr addr;
	__u32 prefixlen;
	int ifindex;
};

static int write_file(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, value, strlen(value)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

static int ns_open(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int ns_enter(int fd)
{
	return setns(fd, CLONE_NEWNET) ? -errno : 0;
}

int ns_new(const struct nsim *n)
{
	int fd;

	if (unshare(CLONE_NEWNET))
		return -errno;
	fd = ns_open();
	ns_enter(n->home);
	return fd;
}

static bool is_nsim(int sk, const char *name)
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq ifr = { .ifr_data = (void *)&info };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	return !ioctl(sk, SIOCETHTOOL, &ifr) &&
	       !strcmp(info.driver, "netdevsim");
}

/* The one netdevsim of the current netns */
static int nsim_find(unsigned int *ifindex)
{
	int sk = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct if_nameindex *all = if_nameindex(), *i;
	int ret = -ENODEV;

	for (i = all; i && i->if_index; i++) {
		if (!is_nsim(sk, i->if_name))
			continue;
		*ifindex = i->if_index;
		ret = 0;
	}
	if (all)
		if_freenameindex(all);
	close(sk);
	return ret;
}

static int nsim_new_dev(struct nsim *n, enum side side)
{
	char id[32];
	int ret;

	n->ns[side] = ns_new(n);
	if (n->ns[side] < 0)
		return n->ns[side];
	ret = ns_enter(n->ns[side]);
	if (ret)
		return ret;
	snprintf(id, sizeof(id), "%u 1 1", ids[side]);
	ret = write_file(BUS "/new_device", id);
	if (!ret)
		ret = nsim_find(&n->ifindex[side]);
	ns_enter(n->home);
	return ret;
}

int nsim_up(struct nsim *n)
{
	char link[64];
	int ret, side;

	*n = (struct nsim) { .ns = { -1, -1 }, .left = -1 };
	n->home = ns_open();
	if (n->home < 0)
		return n->home;

	for (side = 0; side < SIDES; side++) {
		nsim_del_dev(side);	/* of a test that crashed */
		ret = nsim_new_dev(n, side);
		if (ret)
			return ret;
	}
	snprintf(link, sizeof(link), "%d:%u %d:%u", n->ns[TX], n->ifindex[TX],
		 n->ns[RX], n->ifindex[RX]);
	ret = write_file(BUS "/link_device", link);
	if (!ret)
		ret = nsim_configure(n, TX);
	return ret ?: nsim_configure(n, RX);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void nsim_down(struct nsim *n)
{
	nsim_del_dev(TX);
	nsim_del_dev(RX);
	close_fd(&n->ns[TX]);
	close_fd(&n->ns[RX]);
	close_fd(&n->left);
	close_fd(&n->home);
}

static int add_addr4(int sk, const char *name, enum side side)
{
	struct ifreq ifr = {};
	struct sockaddr_in *sin = (void *)&ifr.ifr_addr;

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	sin->sin_family = AF_INET;
	inet_pton(AF_INET, addr4[side], &sin->sin_addr);
	return ioctl(sk, SIOCSIFADDR, &ifr) ? -errno : 0;
}

/* An address can be used some time after it was added */
static void wait_addr6(int sk, enum side side)
{
	struct sockaddr_storage ss;
	socklen_t len = nsim_addr(side, AF_INET6, 0, &ss);
	int i;

	for (i = 0; i < 200 && bind(sk, (void *)&ss, len); i++)
		usleep(10000);
}

/* That there is no IPv6 is no error: its tests will see */
static void add_addr6(const char *name, enum side side, unsigned int ifindex)
{
	struct in6_addr_req req = { .prefixlen = 64, .ifindex = ifindex };
	int sk = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char path[96];

	if (sk < 0)
		return;
	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/accept_dad",
		 name);
	write_file(path, "0");
	inet_pton(AF_INET6, addr6[side], &req.addr);
	if (!ioctl(sk, SIOCSIFADDR, &req))
		wait_addr6(sk, side);
	close(sk);
}

static int link_up(int sk, const char *name)
{
	struct ifreq ifr = { .ifr_flags = IFF_UP };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	return ioctl(sk, SIOCSIFFLAGS, &ifr) ? -errno : 0;
}

int nsim_configure(struct nsim *n, enum side side)
{
	char name[IF_NAMESIZE];
	int sk, ret;

	ret = ns_enter(n->ns[side]);
	if (ret)
		return ret;
	sk = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ret = if_indextoname(n->ifindex[side], name) ? 0 : -errno;
	if (!ret)
		ret = add_addr4(sk, name, side);
	if (!ret)
		ret = link_up(sk, name);
	if (!ret)
		add_addr6(name, side, n->ifindex[side]);
	close(sk);
	ns_enter(n->home);
	return ret;
}

socklen_t nsim_addr(enum side side, int family, int port,
		    struct sockaddr_storage *ss)
{
	struct sockaddr_in6 *sin6 = (void *)ss;
	struct sockaddr_in *sin = (void *)ss;

	memset(ss, 0, sizeof(*ss));
	ss->ss_family = family;
	if (family == AF_INET) {
		sin->sin_port = htons(port);
		inet_pton(AF_INET, addr4[side], &sin->sin_addr);
		return sizeof(*sin);
	}
	sin6->sin6_port = htons(port);
	inet_pton(AF_INET6, addr6[side], &sin6->sin6_addr);
	return sizeof(*sin6);
}

int nsim_del_port(enum side side)
{
	char path[96];

	snprintf(path, sizeof(path), BUS "/devices/netdevsim%u/del_port",
		 ids[side]);
	return write_file(path, "0");
}

int nsim_del_dev(enum side side)
{
	char id[16];

	snprintf(id, sizeof(id), "%u", ids[side]);
	return write_file(BUS "/del_device", id);
}

int nsim_move(struct nsim *n, enum side side, int ns)
{
	int ret = ns_enter(n->ns[side]);

	if (ret)
		return ret;
	ret = link_move(n->ifindex[side], ns);
	if (!ret)
		ret = ns_enter(ns);
	if (!ret)
		ret = nsim_find(&n->ifindex[side]);
	ns_enter(n->home);
	if (ret)
		return ret;
	/* its end would send the netdevsim to the netns of init */
	n->left = n->ns[side];
	n->ns[side] = ns;
	return 0;
}

int nsim_sysctl(const struct nsim *n, enum side side, const char *name,
		const char *value)
{
	char path[128];
	int ret = ns_enter(n->ns[side]);

	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/proc/sys/%s", name);
	ret = write_file(path, value);
	ns_enter(n->home);
	return ret;
}

/* Two lines for each group: "TcpExt: name name ...", "TcpExt: 1 2 ..." */
static long long netstat_find(FILE *f, const char *name)
{
	static char names[8192], values[8192];

	while (fgets(names, sizeof(names), f) &&
	       fgets(values, sizeof(values), f)) {
		char *sn, *sv;
		char *n = strtok_r(names, SPACE, &sn);
		char *v = strtok_r(values, SPACE, &sv);

		while (n && v) {
			if (!strcmp(n, name))
				return atoll(v);
			n = strtok_r(NULL, SPACE, &sn);
			v = strtok_r(NULL, SPACE, &sv);
		}
	}
	return -ENOENT;
}

long long nsim_stat(const struct nsim *n, enum side side, const char *name)
{
	long long ret = ns_enter(n->ns[side]);
	FILE *f;

	if (ret)
		return ret;
	f = fopen("/proc/thread-self/net/netstat", "re");
	ret = f ? netstat_find(f, name) : -errno;
	if (f)
		fclose(f);
	ns_enter(n->home);
	return ret;
}
