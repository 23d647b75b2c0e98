// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>
#include <linux/genetlink.h>
#include <linux/netdev.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include "netlink.h"

void *nl_put(struct nl_request *req, const void *data, size_t len)
{
	void *to = (char *)req + NLMSG_ALIGN(req->nlh.nlmsg_len);

	memcpy(to, data, len);
	req->nlh.nlmsg_len = NLMSG_ALIGN(req->nlh.nlmsg_len) + len;
	return to;
}

struct nlattr *nl_put_attr(struct nl_request *req, __u16 type,
			   const void *data, size_t len)
{
	struct nlattr attr = { .nla_len = NLA_HDRLEN + len, .nla_type = type };
	struct nlattr *at = nl_put(req, &attr, sizeof(attr));

	nl_put(req, data, len);
	return at;
}

const void *nl_attr(const void *reply, size_t skip, __u16 type)
{
	const struct nlmsghdr *nlh = reply;
	const char *at = (const char *)NLMSG_DATA(nlh) + NLMSG_ALIGN(skip);
	const char *end = (const char *)nlh + nlh->nlmsg_len;

	while (at + NLA_HDRLEN <= end) {
		const struct nlattr *attr = (const void *)at;

		if (attr->nla_len < NLA_HDRLEN)
			break;
		if ((attr->nla_type & NLA_TYPE_MASK) == type)
			return at + NLA_HDRLEN;
		at += NLA_ALIGN(attr->nla_len);
	}
	return NULL;
}

int nl_socket(int protocol)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);

	return fd < 0 ? -errno : fd;
}

int nl_do(int fd, struct nl_request *req, void *reply, size_t len)
{
	char buf[8192] __attribute__((aligned(NLMSG_ALIGNTO)));
	int got = 0;

	if (send(fd, req, req->nlh.nlmsg_len, 0) < 0)
		return -errno;

	for (;;) {
		const struct nlmsghdr *nlh = (void *)buf;
		int left = recv(fd, buf, sizeof(buf), 0);

		if (left < 0)
			return -errno;
		for (; NLMSG_OK(nlh, left); nlh = NLMSG_NEXT(nlh, left)) {
			const struct nlmsgerr *err = NLMSG_DATA(nlh);

			if (nlh->nlmsg_type == NLMSG_ERROR)
				return err->error ?: got;
			if (nlh->nlmsg_len > len)
				return -EMSGSIZE;
			memcpy(reply, nlh, nlh->nlmsg_len);
			got = nlh->nlmsg_len;
		}
	}
}

void nl_start(struct nl_request *req, __u16 type, __u16 flags,
	      const void *header, size_t len)
{
	memset(req, 0, sizeof(*req));
	req->nlh.nlmsg_len = NLMSG_HDRLEN;
	req->nlh.nlmsg_type = type;
	req->nlh.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
	nl_put(req, header, len);
}

int nl_family(int fd, const char *name)
{
	const struct genlmsghdr genl = { .cmd = CTRL_CMD_GETFAMILY, .version = 1 };
	char reply[8192] __attribute__((aligned(NLMSG_ALIGNTO)));
	struct nl_request req;
	const __u16 *id;
	int ret;

	nl_start(&req, GENL_ID_CTRL, 0, &genl, sizeof(genl));
	nl_put_attr(&req, CTRL_ATTR_FAMILY_NAME, name, strlen(name) + 1);
	ret = nl_do(fd, &req, reply, sizeof(reply));
	if (ret <= 0)
		return ret ?: -ENOENT;
	id = nl_attr(reply, GENL_HDRLEN, CTRL_ATTR_FAMILY_ID);
	return id ? *id : -ENOENT;
}

int netdev_socket(void)
{
	return nl_socket(NETLINK_GENERIC);
}

int netdev_bind_tx(int nl, unsigned int ifindex, int dmabuf_fd, __u32 *id)
{
	const struct genlmsghdr genl = {
		.cmd = NETDEV_CMD_BIND_TX,
		.version = NETDEV_FAMILY_VERSION,
	};
	char reply[1024] __attribute__((aligned(NLMSG_ALIGNTO)));
	__u32 dev = ifindex, buf = dmabuf_fd;
	const __u32 *answer;
	struct nl_request req;
	int ret;

	ret = nl_family(nl, NETDEV_FAMILY_NAME);
	if (ret < 0)
		return ret;

	nl_start(&req, ret, 0, &genl, sizeof(genl));
	nl_put_attr(&req, NETDEV_A_DMABUF_IFINDEX, &dev, sizeof(dev));
	nl_put_attr(&req, NETDEV_A_DMABUF_FD, &buf, sizeof(buf));
	ret = nl_do(nl, &req, reply, sizeof(reply));
	if (ret <= 0)
		return ret ?: -EPROTO;
	answer = nl_attr(reply, GENL_HDRLEN, NETDEV_A_DMABUF_ID);
	if (!answer)
		return -EPROTO;
	*id = *answer;
	return 0;
}

int link_move(unsigned int ifindex, int ns)
{
	struct ifinfomsg info = { .ifi_index = ifindex };
	__u32 fd_attr = ns;
	struct nl_request req;
	int fd, ret;

	fd = nl_socket(NETLINK_ROUTE);
	if (fd < 0)
		return fd;
	nl_start(&req, RTM_NEWLINK, 0, &info, sizeof(info));
	nl_put_attr(&req, IFLA_NET_NS_FD, &fd_attr, sizeof(fd_attr));
	ret = nl_do(fd, &req, NULL, 0);
	close(fd);
	return ret;
}
