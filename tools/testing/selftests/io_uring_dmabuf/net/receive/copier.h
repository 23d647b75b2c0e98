/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A relay whose slot may be copied (IO_REGBUF_DMABUF_COPY_OK): receives without a card,
 * by loopback, say. Functions return 0, or -errno.
 */
#ifndef RECEIVE_COPIER_H
#define RECEIVE_COPIER_H

#include "relay.h"

#define COPIER_SIZE	(4 * MiB)	/* of the memory */

/* PCI memory that its exporter maps for the CPU, in place of what @r has */
int copier_map_bar(struct relay *r, __u32 flags);
/* The memory in @slot, for the drive */
int copier_store(struct relay *r, unsigned int slot, __u32 flags);
/* A ring with memory in slot 0 that may be copied to, and no card. *@why as netrig_up() */
int copier_up(struct relay *r, enum mem_kind kind, const char **why);

#define COPIER_UP(r, kind) do {						\
	const char *why_ = NULL;					\
	int ret_ = copier_up(r, kind, &why_);				\
									\
	if (why_)							\
		SKIP(return, "%s", why_);				\
	ASSERT_EQ(0, ret_);						\
} while (0)

/* An instance without a card, and a connection by loopback */
int copier_open(struct relay *r, __u64 off, __u64 len);
/* What has been copied to the buffer in @slot; ~0: that was not to be found out */
__u64 copier_bytes(struct relay *r, unsigned int slot);

/* Of all that has been received */
#define CHECK_COPIED(r, bytes, pieces) do {				\
	EXPECT_EQ(bytes, (r)->z.stats->copy_bytes);			\
	EXPECT_EQ(pieces, (r)->z.stats->copy_count);			\
	EXPECT_EQ(bytes, copier_bytes(r, 0));				\
} while (0)

/* Submits a receive of @len bytes, or without end: 0 */
int copier_receive(struct relay *r, __u32 len);

/* What was received, and how */
struct taken {
	unsigned int pieces;
	unsigned int full;	/* times that there was no room left */
	__u64 in[4];		/* bytes by area */
};

/* Gives back at once, which the instance finds when there is no room, and it is flushed */
int copier_take(struct relay *r, const struct piece *p, struct taken *t);
/* The peer sends it meanwhile */
int copier_stream(struct relay *r, const struct piece *p, struct taken *t);

#endif
