/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Sockets at both ends of a rig's cable; netrig.h has it. Functions return 0 or a
 * descriptor, or -errno.
 */
#ifndef IOU_DMABUF_NETSOCK_H
#define IOU_DMABUF_NETSOCK_H

#include "netrig.h"

/* @tx sends to @rx */
struct net_pair {
	int tx, rx;
};

#define NET_PAIR_NONE	((struct net_pair) { .tx = -1, .rx = -1 })

socklen_t net_addr(const struct netrig *n, enum net_side side, int family,
		   int port, struct sockaddr_storage *ss);
int net_socket(const struct netrig *n, enum net_side side, int family, int type,
	       int protocol);
int net_set(int fd, int level, int option, int value);
/* Sends by the card only, whatever the routes say */
int net_bind_card(const struct netrig *n, int fd);
/* Nothing blocks for longer than net_patience(); sockets from here have it */
int net_timeouts(int fd);

/* A TCP socket of the peer that listens somewhere */
int net_listen(const struct netrig *n, int family);
/* @fd connects to the listening @lsk: the socket that this accepts */
int net_connect(int fd, int lsk);
/* Connected, from the card to the peer */
int net_tcp(const struct netrig *n, int family, struct net_pair *p);
/* The same, or over loopback by IPv4 if the rig has no card */
int net_tcp_any(const struct netrig *n, int family, struct net_pair *p);
int net_udp(const struct netrig *n, int family, struct net_pair *p);
/* TCP over loopback, at @addr of IPv4 or IPv6; needs no rig */
int net_local(const char *addr, struct net_pair *p);
/* With a reset; nothing of a connection is left */
void net_close(struct net_pair *p);
/* @fd becomes -1: the kernel goes on sending what is queued, whoever is slow to read it */
void net_orphan(int *fd);

/* bind(); who had the address may be going: a ring lets go of its sockets when it has ended */
int net_bind(int fd, const void *addr, socklen_t len);

/* Bytes that the peer has not acknowledged */
int net_unsent(int fd);
int net_wait_acked(int fd);
/* Until there are some: a worker may take its time */
int net_wait_unsent(int fd);

#endif
