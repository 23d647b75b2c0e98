/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A network card and its peer at the other end of a cable, both in this guest:
 * the card sends and is what is measured, the peer is in a netns of its own.
 * What the card does happens on SENDER_CPU, everything else on OTHER_CPU.
 */
#ifndef BENCH_LINK_H
#define BENCH_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <net/if.h>

#define SENDER_CPU	0
#define OTHER_CPU	1

struct link {
	char card[IF_NAMESIZE], peer[IF_NAMESIZE];
	char driver[32];	/* of the card */
	char pci[32];		/* the card, as trace events name it */
	int home, away;		/* the netns of the card, and of the peer */
};

/* A TCP connection: tx is the card's end, rx the peer's. */
struct connection {
	int tx, rx;
};

/* What a window has done so far, as the sender's socket has counted it. */
struct tcp_counts {
	unsigned int segments;		/* sent */
	unsigned int acks;		/* segments that came back */
	unsigned int again;		/* sent more than once */
};

/* All return 0 or -errno, and say on stderr what failed. */

/* @name: the environment has LAB_NET_<name> and LAB_NET_<name>_PEER. */
int link_up(struct link *link, const char *name);
int link_connect(const struct link *link, struct connection *c);
void link_disconnect(struct connection *c);

/* The peer has no route to the card: what it would send is lost. */
int link_mute(const struct connection *c, bool on);

/* One byte from the peer, acknowledged now and not at some time of its own. */
int link_take_answer(const struct connection *c);
int link_counts(const struct connection *c, struct tcp_counts *n);

/* This thread runs on @cpu only. */
int run_on(unsigned int cpu);

#endif
