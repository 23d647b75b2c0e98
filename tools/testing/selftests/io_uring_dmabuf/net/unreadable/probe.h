/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Probes: who listens to packets, and whether that was memory that cannot be read.
 * Functions return 0 or -errno.
 */
#ifndef UNREADABLE_PROBE_H
#define UNREADABLE_PROBE_H

#include <stdbool.h>
#include <linux/types.h>

#include "netio.h"

#define SIZE		(1 * MiB)	/* of the device memory */
#define LEN		20000		/* that is sent of either memory */
#define FRAME_MAX	(128 * KiB)

/* What tells the two connections apart, wherever their packets are seen */
struct match {
	__be16 unreadable_port, ordinary_port;
	char *unreadable, *ordinary;		/* SIZE and LEN bytes */
};

enum probe_kind { PROBE_RAW, PROBE_DGRAM, PROBE_RING2, PROBE_RING3, PROBE_TUN,
		  PROBE_TAP };

/* A packet socket, or the end of a tun device that userspace has */
struct probe {
	int fd;
	enum probe_kind kind;
	void *ring;
	const struct match *match;
	unsigned int nr_unreadable;		/* packets with device memory */
	__u64 leaked;			/* bytes of their payload */
	__u64 ordinary;			/* bytes of the other connection's payload */
};

#define PROBE_NONE	((struct probe) { .fd = -1 })

/* What has come so far */
void probe_read(struct probe *p);
/* Until all of them have seen ordinary memory */
bool probes_wait(struct probe *p, unsigned int nr);
/* Until it has seen @nr packets with device memory */
bool probe_wait_unreadable(struct probe *p, unsigned int nr);
/* A socket on @dev, which is where that side of @n is */
int probe_open(struct probe *p, const struct netrig *n, enum net_side side,
	       const char *dev, enum probe_kind kind, int protocol,
	       const struct match *match);
void probe_close(struct probe *p);

#endif
