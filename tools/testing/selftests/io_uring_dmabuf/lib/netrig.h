/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A network card and its peer at the other end of a cable, both in this
 * machine: the card stays in the netns of the test, the peer goes to one of
 * its own. And sockets at both ends.
 *
 * Functions return 0, a count or a descriptor, or -errno.
 */
#ifndef IOU_DMABUF_NETRIG_H
#define IOU_DMABUF_NETRIG_H

#include <stdbool.h>
#include <net/if.h>
#include <sys/socket.h>
#include <linux/types.h>

#include "lab.h"
#include "mem.h"
#include "netns.h"
#include "uring.h"

#define NETRIG_SLOTS	8

/* 10.73.<net>.1 and fd73:<net>::1 are the card, .2 and ::2 its peer */
enum net_side { NET_CARD, NET_PEER, NET_SIDES };

struct netrig {
	struct uring ring;
	struct mem mem;
	unsigned int net;
	char dev[NET_SIDES][IF_NAMESIZE];
	char pci[64];		/* what does the DMA for the card */
	int home;		/* the netns of the test */
	int ns[NET_SIDES];	/* where the two are */
	bool netem[NET_SIDES];	/* there is a qdisc to take away */
	__u64 serial;		/* user_data of the last send */
	__u64 failed[64];	/* the last sends that did nothing */
	unsigned int nr_failed;
	int pending;		/* notifications to come */
	unsigned int copied;	/* sends so far that were reported as copied */
};

/* Not up: netrig_down() does nothing */
void netrig_init(struct netrig *n);
/*
 * The link of the card with that driver, which LAB_NET_<DRIVER> and
 * LAB_NET_<DRIVER>_PEER name; none if @card is NULL. And a ring with an empty
 * buffer table and a dma-buf, unless @size is 0. *why is set when the machine
 * lacks something the test needs.
 */
int netrig_up(struct netrig *n, const char *card, enum mem_kind kind,
	      __u64 size, const char **why);
/*
 * The beginning of that, for who wants another link, on any kernel: the peer is in a
 * netns of its own, and neither has an address. After netrig_init()
 */
int netrig_apart(struct netrig *n, const char *card, const char **why);
/*
 * Both parts of netrig_up(), without its memory, for who sets the card up in between: the
 * link is down for that, as each change would take it down and up again. Then all addresses,
 * and a link that works.
 */
int netrig_begin(struct netrig *n, const char *card, const char **why);
int netrig_link(struct netrig *n, unsigned int mtu);
/* Another ring in the place of that one, with an empty buffer table */
int netrig_ring(struct netrig *n, unsigned int entries, unsigned int flags);
/* The ring goes: whether nothing is left behind that has the dma-buf, if there is one */
bool netrig_let_go(struct netrig *n);
/* A card for a second link beside that of @card */
const char *netrig_other_card(const char *card);
/* The peer is back in the netns of the test, and nothing has an address */
void netrig_down(struct netrig *n);

#define NETRIG_UP(n, card, kind, size) do {				\
	const char *why_ = NULL;					\
	int ret_ = netrig_up(n, card, kind, size, &why_);		\
									\
	if (why_)							\
		SKIP(return, "%s", why_);				\
	ASSERT_EQ(0, ret_);						\
} while (0)

/*
 * mem_create(). Behind an IOMMU a descriptor may cover what is contiguous for the
 * card only, and QEMU's cards (7.2: net_tx_pkt_add_raw_fragment()) drop a packet
 * with a descriptor that they cannot map in one piece. There, it is memory of the
 * same sort that is contiguous.
 */
int net_mem(struct mem *m, enum mem_kind kind, __u64 size);

/* --- the link --- */

/* Of the device at @side, whose name is filled in */
int net_ioctl(const struct netrig *n, enum net_side side, unsigned long cmd,
	      struct ifreq *ifr);
/* @cmd: one of ethtool's structures */
int net_ethtool(const struct netrig *n, enum net_side side, void *cmd);
/* A carrier, and the stack has heard of it */
int net_wait_running(const struct netrig *n, enum net_side side);
/* Addresses, MTU 1500, up; waits for the carrier */
int net_configure(struct netrig *n, enum net_side side);
/* These wait until the link can be used */
int net_link(struct netrig *n, enum net_side side, bool up);
int net_mtu(struct netrig *n, enum net_side side, unsigned int mtu);
/* A feature of the card: ETHTOOL_SSG, _STXCSUM, _STSO, _SGSO */
int net_feature(struct netrig *n, __u32 command, bool on);
/* netem on what leaves by @side, or other netem; ends with the rig */
int net_netem(struct netrig *n, enum net_side side, const char *args);

/* --- the driver of the card --- */

int net_driver(const struct netrig *n, char *driver, size_t size);
/* The card is gone when this returns */
int net_unbind(const struct netrig *n, const char *driver);
/* Waits for the card, which keeps its name; net_configure() is next */
int net_rebind(struct netrig *n, const char *driver);

#endif
