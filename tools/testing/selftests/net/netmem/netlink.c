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

struct request {
	struct nlmsghdr nlh;
	char data[512];
};

static void *put(struct request *req, const void *data, size_t len)
{
	void *to = (char *)req + NLMSG_ALIGN(req->nlh.nlmsg_len);

	memcpy(to, data, len);
	req->nlh.nlmsg_len = NLMSG_ALIGN(req->nlh.nlmsg_len) + len;
	return to;
}

static void put_attr(struct request *req, __u16 type, const void *data,
		     size_t len)
{
	struct nlattr attr = { .nla_len = NLA_HDRLEN + len, .nla_type = type };

	put(req, &attr, sizeof(attr));
	put(req, data, len);
}

/* Attribute @type behind @skip bytes of family header, or NULL */
static const void *get_attr(const struct nlmsghdr *nlh, size_t skip,
			    __u16 type)
{
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

static int nl_socket(int protocol)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);

	return fd < 0 ? -errno : fd;
}

/*
 * Sends @req and reads until the acknowledgment. What is answered before that
 * goes to @reply (@len bytes), and the result is its length; 0: no answer.
 */
static int nl_request(int fd, struct request *req, void *reply, size_t len)
{
	char buf[8192] __attribute__((aligned(NLMSG_ALIGNTO)));
	int got = 0;

	req->nlh.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
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

static void genl_start(struct request *req, __u16 family, __u8 cmd,
		       __u8 version)
{
	struct genlmsghdr genl = { .cmd = cmd, .version = version };

	memset(req, 0, sizeof(*req));
	req->nlh.nlmsg_len = NLMSG_HDRLEN;
	req->nlh.nlmsg_type = family;
	put(req, &genl, sizeof(genl));
}

static int genl_family(int fd, const char *name)
{
	char reply[8192] __attribute__((aligned(NLMSG_ALIGNTO)));
	struct request req;
	const __u16 *id;
	int ret;

	genl_start(&req, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1);
	put_attr(&req, CTRL_ATTR_FAMILY_NAME, name, strlen(name) + 1);
	ret = nl_request(fd, &req, reply, sizeof(reply));
	if (ret <= 0)
		return ret ?: -ENOENT;
	id = get_attr((void *)reply, GENL_HDRLEN, CTRL_ATTR_FAMILY_ID);
	return id ? *id : -ENOENT;
}

int netdev_socket(void)
{
	return nl_socket(NETLINK_GENERIC);
}

int netdev_bind_tx(int nl, unsigned int ifindex, int dmabuf_fd, __u32 *id)
{
	char reply[1024] __attribute__((aligned(NLMSG_ALIGNTO)));
	__u32 dev = ifindex, buf = dmabuf_fd;
	const __u32 *answer;
	struct request req;
	int ret;

	ret = genl_family(nl, NETDEV_FAMILY_NAME);
	if (ret < 0)
		return ret;

	genl_start(&req, ret, NETDEV_CMD_BIND_TX, NETDEV_FAMILY_VERSION);
	put_attr(&req, NETDEV_A_DMABUF_IFINDEX, &dev, sizeof(dev));
	put_attr(&req, NETDEV_A_DMABUF_FD, &buf, sizeof(buf));
	ret = nl_request(nl, &req, reply, sizeof(reply));
	if (ret <= 0)
		return ret ?: -EPROTO;
	answer = get_attr((void *)reply, GENL_HDRLEN, NETDEV_A_DMABUF_ID);
	if (!answer)
		return -EPROTO;
	*id = *answer;
	return 0;
}

int link_move(unsigned int ifindex, int ns)
{
	struct ifinfomsg info = { .ifi_index = ifindex };
	__u32 fd_attr = ns;
	struct request req;
	int fd, ret;

	fd = nl_socket(NETLINK_ROUTE);
	if (fd < 0)
		return fd;
	memset(&req, 0, sizeof(req));
	req.nlh.nlmsg_len = NLMSG_HDRLEN;
	req.nlh.nlmsg_type = RTM_NEWLINK;
	put(&req, &info, sizeof(info));
	put_attr(&req, IFLA_NET_NS_FD, &fd_attr, sizeof(fd_attr));
	ret = nl_request(fd, &req, NULL, 0);
	close(fd);
	return ret;
}
