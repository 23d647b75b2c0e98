// SPDX-License-Identifier: GPL-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <net/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>

#include "netns.h"
#include "netset.h"
#include "../../net/netmem/netlink.h"

#define ADDRESSES	16		/* of one device */

/* A socket that belongs to another netns than this thread */
static int socket_in(int ns)
{
	int home = net_ns_open(), fd, ret;

	if (home < 0)
		return home;
	ret = net_ns_enter(ns);
	fd = ret ?: nl_socket(NETLINK_ROUTE);
	ret = net_ns_enter(home);
	close(home);
	if (fd >= 0 && ret) {
		close(fd);
		fd = ret;
	}
	return fd;
}

/* The socket, and the number of the device there */
static int socket_for(int ns, const char *dev, int *ifindex)
{
	struct ifreq ifr = { 0 };
	int fd = socket_in(ns), ret;

	if (fd < 0)
		return fd;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", dev);
	if (!ioctl(fd, SIOCGIFINDEX, &ifr)) {
		*ifindex = ifr.ifr_ifindex;
		return fd;
	}
	ret = -errno;
	fprintf(stderr, "# %s: %s\n", dev, strerror(errno));
	close(fd);
	return ret;
}

/* Sends it, and closes the socket */
static int done(int fd, struct nl_request *req, const char *what, const char *dev)
{
	int ret = nl_do(fd, req, NULL, 0);

	if (ret)
		fprintf(stderr, "# %s %s: %s\n", what, dev, strerror(-ret));
	close(fd);
	return ret;
}

/* --- links --- */

int netset_link(int ns, const char *dev, unsigned int mtu, bool up)
{
	struct ifinfomsg info = { .ifi_flags = up ? IFF_UP : 0, .ifi_change = IFF_UP };
	struct nl_request req;
	int fd = socket_for(ns, dev, &info.ifi_index);

	if (fd < 0)
		return fd;
	nl_start(&req, RTM_NEWLINK, 0, &info, sizeof(info));
	if (mtu)
		nl_put_attr(&req, IFLA_MTU, &mtu, sizeof(mtu));
	return done(fd, &req, "link set", dev);
}

int netset_move(int ns, const char *dev, int to)
{
	struct ifinfomsg info = { 0 };
	struct nl_request req;
	int fd = socket_for(ns, dev, &info.ifi_index);

	if (fd < 0)
		return fd;
	nl_start(&req, RTM_NEWLINK, 0, &info, sizeof(info));
	nl_put_attr(&req, IFLA_NET_NS_FD, &to, sizeof(to));
	return done(fd, &req, "link set netns", dev);
}

int netset_delete(int ns, const char *dev)
{
	struct ifinfomsg info = { 0 };
	struct nl_request req;
	int fd = socket_for(ns, dev, &info.ifi_index);

	if (fd < 0)
		return fd;
	nl_start(&req, RTM_DELLINK, 0, &info, sizeof(info));
	return done(fd, &req, "link del", dev);
}

static struct nlattr *nest(struct nl_request *req, __u16 type)
{
	return nl_put_attr(req, type | NLA_F_NESTED, NULL, 0);
}

static void nest_end(struct nl_request *req, struct nlattr *at)
{
	at->nla_len = (char *)req + req->nlh.nlmsg_len - (char *)at;
}

int netset_veth(int ns, const char *dev, const char *peer, int peer_ns)
{
	const struct ifinfomsg info = { 0 };
	struct nlattr *link, *data, *end;
	struct nl_request req;
	int fd = socket_in(ns);

	if (fd < 0)
		return fd;
	nl_start(&req, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof(info));
	nl_put_attr(&req, IFLA_IFNAME, dev, strlen(dev) + 1);
	link = nest(&req, IFLA_LINKINFO);
	nl_put_attr(&req, IFLA_INFO_KIND, "veth", 4);
	data = nest(&req, IFLA_INFO_DATA);
	end = nest(&req, VETH_INFO_PEER);
	nl_put(&req, &info, sizeof(info));
	nl_put_attr(&req, IFLA_IFNAME, peer, strlen(peer) + 1);
	nl_put_attr(&req, IFLA_NET_NS_FD, &peer_ns, sizeof(peer_ns));
	nest_end(&req, end);
	nest_end(&req, data);
	nest_end(&req, link);
	return done(fd, &req, "link add", dev);
}

/* --- addresses --- */

struct address {
	unsigned char family, len, prefix;
	unsigned char bytes[16];
};

static struct address address4(unsigned int net, unsigned int host)
{
	return (struct address) {
		.family = AF_INET, .len = 4, .prefix = 24, .bytes = { 10, 73, net, host },
	};
}

/* As text: fd73:10:: is hexadecimal */
static struct address address6(unsigned int net, unsigned int host)
{
	struct address a = { .family = AF_INET6, .len = 16, .prefix = 64 };
	char text[INET6_ADDRSTRLEN];

	snprintf(text, sizeof(text), "fd73:%u::%u", net, host);
	inet_pton(AF_INET6, text, a.bytes);
	return a;
}

static int add_address(int ns, const char *dev, const struct address *a)
{
	struct ifaddrmsg msg = {
		.ifa_family = a->family,
		.ifa_prefixlen = a->prefix,
		.ifa_flags = a->family == AF_INET6 ? IFA_F_NODAD : 0,
	};
	struct nl_request req;
	int ifindex = 0, fd = socket_for(ns, dev, &ifindex);

	if (fd < 0)
		return fd;
	msg.ifa_index = ifindex;
	nl_start(&req, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &msg, sizeof(msg));
	nl_put_attr(&req, IFA_LOCAL, a->bytes, a->len);
	nl_put_attr(&req, IFA_ADDRESS, a->bytes, a->len);
	return done(fd, &req, "addr add", dev);
}

int netset_addr4(int ns, const char *dev, unsigned int net, unsigned int host)
{
	const struct address a = address4(net, host);

	return add_address(ns, dev, &a);
}

int netset_addr6(int ns, const char *dev, unsigned int net, unsigned int host)
{
	const struct address a = address6(net, host);

	return add_address(ns, dev, &a);
}

/* Of a message of the dump, if it is of this device: for its removal */
static bool take_address(const struct nlmsghdr *nlh, unsigned int ifindex,
			 struct ifaddrmsg *msg, struct address *a)
{
	const struct ifaddrmsg *it = NLMSG_DATA(nlh);
	const void *bytes;

	if (nlh->nlmsg_type != RTM_NEWADDR || it->ifa_index != ifindex)
		return false;
	bytes = nl_attr(nlh, sizeof(*it), IFA_LOCAL) ?:
		nl_attr(nlh, sizeof(*it), IFA_ADDRESS);
	if (!bytes)
		return false;
	*msg = *it;
	a->family = it->ifa_family;
	a->len = it->ifa_family == AF_INET6 ? 16 : 4;
	memcpy(a->bytes, bytes, a->len);
	return true;
}

/* How many there are, or -errno */
static int list_addresses(int fd, unsigned int ifindex, struct ifaddrmsg *msgs,
			  struct address *list)
{
	const struct ifaddrmsg all = { .ifa_family = AF_UNSPEC };
	char buf[16384] __attribute__((aligned(NLMSG_ALIGNTO)));
	struct nl_request req;
	int n = 0;

	nl_start(&req, RTM_GETADDR, NLM_F_DUMP, &all, sizeof(all));
	req.nlh.nlmsg_flags &= ~NLM_F_ACK;
	if (send(fd, &req, req.nlh.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		const struct nlmsghdr *nlh = (void *)buf;
		int left = recv(fd, buf, sizeof(buf), 0);

		if (left < 0)
			return -errno;
		for (; NLMSG_OK(nlh, left); nlh = NLMSG_NEXT(nlh, left)) {
			if (nlh->nlmsg_type == NLMSG_DONE)
				return n;
			if (nlh->nlmsg_type == NLMSG_ERROR)
				return ((struct nlmsgerr *)NLMSG_DATA(nlh))->error ?: -EPROTO;
			if (n < ADDRESSES)
				n += take_address(nlh, ifindex, &msgs[n], &list[n]);
		}
	}
}

int netset_flush(int ns, const char *dev)
{
	struct ifaddrmsg msgs[ADDRESSES];
	struct address list[ADDRESSES];
	int ifindex = 0, fd = socket_for(ns, dev, &ifindex), n, ret = 0;

	if (fd < 0)
		return fd;
	n = list_addresses(fd, ifindex, msgs, list);
	for (int i = 0; !ret && i < n; i++) {
		struct nl_request req;

		nl_start(&req, RTM_DELADDR, 0, &msgs[i], sizeof(msgs[i]));
		nl_put_attr(&req, IFA_LOCAL, list[i].bytes, list[i].len);
		ret = nl_do(fd, &req, NULL, 0);
		/* one goes with another: secondary ones, and with the link */
		if (ret == -EADDRNOTAVAIL)
			ret = 0;
	}
	if (n < 0 || ret)
		fprintf(stderr, "# addr flush %s: %s\n", dev, strerror(n < 0 ? -n : -ret));
	close(fd);
	return n < 0 ? n : ret;
}

/* --- neighbours --- */

/* @mac: NULL takes it away */
static int neighbour(int ns, const char *dev, const struct address *a,
		     const unsigned char *mac)
{
	struct ndmsg msg = { .ndm_family = a->family, .ndm_state = NUD_PERMANENT };
	struct nl_request req;
	int fd = socket_for(ns, dev, &msg.ndm_ifindex), ret;

	if (fd < 0)
		return fd;
	if (mac)
		nl_start(&req, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &msg, sizeof(msg));
	else
		nl_start(&req, RTM_DELNEIGH, 0, &msg, sizeof(msg));
	nl_put_attr(&req, NDA_DST, a->bytes, a->len);
	if (mac) {
		nl_put_attr(&req, NDA_LLADDR, mac, 6);
		return done(fd, &req, "neigh replace", dev);
	}
	ret = nl_do(fd, &req, NULL, 0);
	close(fd);
	return ret == -ENOENT ? 0 : ret;
}

int netset_neigh(int ns, const char *dev, unsigned int net, unsigned int host,
		 const unsigned char *mac)
{
	const struct address v4 = address4(net, host), v6 = address6(net, host);

	return neighbour(ns, dev, &v4, mac) ?: neighbour(ns, dev, &v6, mac);
}

int netset_no_neigh(int ns, const char *dev, unsigned int net, unsigned int host)
{
	return netset_neigh(ns, dev, net, host, NULL);
}
