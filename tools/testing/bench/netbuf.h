/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The memory that is sent.  All of it lies in one piece: for send() and a plain
 * registered buffer that is one huge page, for a dma-buf memory of the CMA heap,
 * or of a PCI BAR.  Behind an IOMMU a dma-buf is one piece for the card however it
 * lies, but QEMU's cards (7.2) drop a packet whose memory is not one piece for
 * QEMU, too.
 */
#ifndef BENCH_NETBUF_H
#define BENCH_NETBUF_H

#include <stdbool.h>
#include <stddef.h>

#include "buffer.h"

enum source {
	SOURCE_SEND,		/* send() */
	SOURCE_PLAIN,		/* SEND_ZC, plain registered buffer: a huge page */
	SOURCE_PAGES,		/* the same with pages of 4 KiB, 128 KiB of them in one piece */
	SOURCE_DMABUF,		/* SEND_ZC, dma-buf */
	SOURCE_BAR,		/* SEND_ZC, a PCI BAR as a dma-buf */
	SOURCE_BUNDLE,		/* dma-buf; one SEND_ZC for what is submitted together */
	SOURCE_BUNDLE_SINGLE,	/* the same, with one completion */
	SOURCE_USER,		/* SEND_ZC, the huge page, not registered */
	SOURCE_MSG,		/* send() with MSG_ZEROCOPY: the huge page; RDS: cookies */
	SOURCE_SINGLE,		/* SEND_ZC, dma-buf, with one completion */
	SOURCE_RING,		/* SEND by a ring, the huge page, not registered: copies */
	SOURCES,
};

extern const char *const source_name[SOURCES];

#define NETBUF_MAX	(1u << 20)

/* Takes the huge page; 0 or -errno, and says on stderr what failed. */
int netbuf_init(void);

/* By system calls of sockets; there is no ring */
static inline bool source_is_call(unsigned int source)
{
	return source == SOURCE_SEND || source == SOURCE_MSG;
}

/* The memory is in slot 0 */
static inline bool source_is_registered(unsigned int source)
{
	return !source_is_call(source) && source != SOURCE_USER && source != SOURCE_RING;
}

/* The only completion comes when a notification would */
static inline bool source_is_single(unsigned int source)
{
	return source == SOURCE_SINGLE || source == SOURCE_BUNDLE_SINGLE;
}

static inline bool source_is_bundle(unsigned int source)
{
	return source == SOURCE_BUNDLE || source == SOURCE_BUNDLE_SINGLE;
}

/* For buffer.h's functions from here on. */
int netbuf_create(struct mem *buf, enum source source, size_t size);

#endif
