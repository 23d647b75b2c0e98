/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What ip(8) sets, without a program: to start one takes longer under emulation than most
 * tests. For what fixtures do each time; net_ip() is for the rest.
 *
 * @ns: the netns that @dev is in. Functions return 0 or -errno.
 */
#ifndef IOU_DMABUF_NETSET_H
#define IOU_DMABUF_NETSET_H

#include <stdbool.h>
#include <linux/types.h>

/* link set dev @dev mtu @mtu up (or down); the MTU stays if @mtu is 0 */
int netset_link(int ns, const char *dev, unsigned int mtu, bool up);
/* link set dev @dev netns: to that of @to */
int netset_move(int ns, const char *dev, int to);
/* link add name @dev type veth peer name @peer, which is in the netns @peer_ns */
int netset_veth(int ns, const char *dev, const char *peer, int peer_ns);
/* link del dev @dev */
int netset_delete(int ns, const char *dev);

/* addr add 10.73.@net.@host/24 dev @dev, and of fd73:@net::@host/64 nodad */
int netset_addr4(int ns, const char *dev, unsigned int net, unsigned int host);
int netset_addr6(int ns, const char *dev, unsigned int net, unsigned int host);
/* addr flush dev @dev */
int netset_flush(int ns, const char *dev);

/*
 * neigh replace for 10.73.@net.@host and fd73:@net::@host, lladdr @mac (6 bytes), dev @dev,
 * nud permanent; and neigh del of both, if they are there
 */
int netset_neigh(int ns, const char *dev, unsigned int net, unsigned int host,
		 const unsigned char *mac);
int netset_no_neigh(int ns, const char *dev, unsigned int net, unsigned int host);

#endif
