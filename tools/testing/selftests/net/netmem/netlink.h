/* SPDX-License-Identifier: GPL-2.0 */
/* The few netlink requests that the tests make. All return 0 or -errno. */
#ifndef NETMEM_NETLINK_H
#define NETMEM_NETLINK_H

#include <stddef.h>
#include <linux/netlink.h>
#include <linux/types.h>

/* --- any request --- */

struct nl_request {
	struct nlmsghdr nlh;
	char data[512];
};

int nl_socket(int protocol);
/* @header: that of the family, behind that of netlink */
void nl_start(struct nl_request *req, __u16 type, __u16 flags,
	      const void *header, size_t len);
void *nl_put(struct nl_request *req, const void *data, size_t len);
struct nlattr *nl_put_attr(struct nl_request *req, __u16 type,
			   const void *data, size_t len);
/*
 * Sends @req and reads until the acknowledgment. What is answered before that
 * goes to @reply (@len bytes), and the result is its length; 0: no answer.
 */
int nl_do(int fd, struct nl_request *req, void *reply, size_t len);
/* Attribute @type of a reply, behind @skip bytes of family header, or NULL */
const void *nl_attr(const void *reply, size_t skip, __u16 type);
/* The id of a generic family */
int nl_family(int fd, const char *name);

/* --- those that the tests make --- */

/*
 * Bind the dma-buf @dmabuf_fd to device @ifindex for transmission. The binding
 * is *@id until the socket @nl is closed.
 */
int netdev_bind_tx(int nl, unsigned int ifindex, int dmabuf_fd, __u32 *id);
int netdev_socket(void);	/* @nl for the above; its netns counts */

/* Move device @ifindex of the current netns to that of @ns */
int link_move(unsigned int ifindex, int ns);

#endif
