/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What of the counts (counters.h) is the payload's: a card maps the headers of
 * every packet, and memory to receive into, whatever is sent.
 */
#ifndef BENCH_NETCOUNT_H
#define BENCH_NETCOUNT_H

#include <stdint.h>

struct netrig;
struct options;

struct use {
	uint64_t map, unmap, flush;
};

struct netcount {
	struct use payload, header;
	struct use receive;		/* memory to receive into, ... */
	struct use received;		/* ... of which these are more than a header's */
	uint64_t packets;		/* handed to the card's driver */
	uint64_t segments;		/* and what the card made of them */

	/* inside */
	const struct netrig *link;
	uint64_t linear;		/* bytes of the packet's header that are not mapped yet */
	uint64_t flushed;
	uint64_t *headers;		/* DMA addresses of headers */
	unsigned int nr_headers;
};

/* After counters_open(); 0 or -errno, and says on stderr what failed. */
int netcount_open(struct netcount *n, const struct netrig *link);
void netcount_reset(struct netcount *n);

/*
 * All cases, as far as @o says: with instructions counted, and then with events. @run does
 * number @i: events, where there is @n. The first that fails ends it: it leaves a card, or a
 * connection, in who knows what state.
 */
int netcount_cases(const struct netrig *link, const struct options *o, unsigned int nr,
		   int (*run)(void *ctx, unsigned int i, struct netcount *n), void *ctx);

#endif
