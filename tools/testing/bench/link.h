/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A network card and its peer at the other end of a cable, both in this guest:
 * the card is what is measured, the peer is in a netns of its own.
 * What the card does happens on SENDER_CPU, everything else on OTHER_CPU, and
 * nothing at some time of its own.
 */
#ifndef BENCH_LINK_H
#define BENCH_LINK_H

#include <stdbool.h>

#include "netsock.h"

#define SENDER_CPU	0
#define OTHER_CPU	1

/* What a window has done so far, as the sender's socket has counted it. */
struct tcp_counts {
	unsigned int segments;		/* sent */
	unsigned int acks;		/* segments that came back */
	unsigned int again;		/* sent more than once */
};

/* All return 0 or -errno, and say on stderr what failed. */

/* @name: the environment has LAB_NET_<name> and LAB_NET_<name>_PEER. @sender: of the payload */
int link_up(struct netrig *link, const char *name, enum net_side sender);
/* Of both ends, which have 1500 before; and the interrupts are where they were */
int link_mtu(const struct netrig *link, unsigned int mtu);
/* tx is the card's end, rx the peer's. */
int link_connect(const struct netrig *link, struct net_pair *c);
/* The same, which is to send from the peer to the card */
int link_connect_back(const struct netrig *link, struct net_pair *c);
/* The same with RDS sockets; RDS keeps its connections, which are as link_rds() says from the start */
int link_rds(const struct netrig *link);
int link_connect_rds(const struct netrig *link, struct net_pair *c);

/*
 * The peer has no route to the card: what it would send is lost. @control is a socket of the
 * peer's netns, of IPv4.
 */
int link_mute(const struct net_pair *c, int control, bool on);

/* One byte from the peer, acknowledged now and not at some time of its own. */
int link_take_answer(const struct net_pair *c);
int link_counts(const struct net_pair *c, struct tcp_counts *n);
/* Of all that the card's netns sends and receives by TCP */
int link_counts_rds(struct tcp_counts *n);

/* Those of the card to SENDER_CPU, all others to OTHER_CPU; link_up() has done it. */
void link_interrupts(const struct netrig *link);

/* The driver of the card; of this function's own memory. */
const char *link_driver(const struct netrig *link);

/* This thread runs on @cpu only. */
int run_on(unsigned int cpu);

#endif
