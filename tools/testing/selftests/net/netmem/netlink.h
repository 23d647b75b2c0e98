/* SPDX-License-Identifier: GPL-2.0 */
/* The few netlink requests that the tests make. All return 0 or -errno. */
#ifndef NETMEM_NETLINK_H
#define NETMEM_NETLINK_H

#include <linux/types.h>

/*
 * Bind the dma-buf @dmabuf_fd to device @ifindex for transmission. The binding
 * is *@id until the socket @nl is closed.
 */
int netdev_bind_tx(int nl, unsigned int ifindex, int dmabuf_fd, __u32 *id);
int netdev_socket(void);	/* @nl for the above; its netns counts */

/* Move device @ifindex of the current netns to that of @ns */
int link_move(unsigned int ifindex, int ns);

#endif
