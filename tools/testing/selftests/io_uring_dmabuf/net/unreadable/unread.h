/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A card that sends device memory, a second connection that sends ordinary memory
 * the same way, and where the packets of both may be led instead. Functions return 0,
 * a count, or -errno.
 */
#ifndef UNREADABLE_UNREAD_H
#define UNREADABLE_UNREAD_H

#include "probe.h"
#include "undo.h"

#define SEED		NET_SEED
#define ORDINARY_SEED	(NET_SEED + 1)

#define TUN		"ut73"
#define VETH		"uv73"
#define VETH_FAR	"uv73far"

/* A card in use, and what one may try with it */
struct unread_rig {
	struct netrig net;
	struct netrig other;		/* with another card */
	struct netrig far;		/* its peer side is where the veth ends */
	struct net_pair tcp;		/* sends device memory */
	struct net_pair ordinary;		/* sends ordinary memory */
	struct net_pair aside;		/* another way to the peer, or to another one */
	struct piece queued;		/* of tcp, when it is not unreadable_piece */
	__u64 taken;			/* of that, by the peer */
	struct match match;
	struct probe probe[5];
	struct undo undo;
};

void unread_init(struct unread_rig *rig);
/* Once both connections are there: what tells them apart */
int match_init(struct unread_rig *rig);
void unread_down(struct unread_rig *rig);

/* A veth, whose other end is far away */
int veth_up(struct unread_rig *rig);
/* @p has the end of it that is userspace's */
int tun_open(struct unread_rig *rig, struct probe *p, bool tap);
/* What leaves by the card goes to @dev, @how mirred says it */
int add_mirred(struct unread_rig *rig, const char *how, const char *dev);
/* The peer is behind @dev now, which may have to know its MAC address */
int reroute(struct unread_rig *rig, const char *dev, const char *mac);

/* At the far end of the veth */
int probe_far(struct unread_rig *rig, struct probe *p);
/* On a device that the stack of the test has */
int probe_here(struct unread_rig *rig, struct probe *p, const char *dev,
	       enum probe_kind kind, int protocol);
/* On the peer of another card: what is seen there came by the cable */
int probe_other(struct unread_rig *rig, struct probe *p);

/* The peer does not read, and is full */
bool nothing_in_flight(int fd);
/* As much as the socket takes, until then */
int queue_up(struct unread_rig *rig);
/* The peer reads what it has, so that it wants more: bytes */
int recv_some(struct unread_rig *rig);
/* The peer gets what is left of the queue */
int recv_queued(struct unread_rig *rig);

#endif
