/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A ring of provided buffers (IORING_REGISTER_PBUF_RING), of which the kernel takes the next
 * one, or several. Functions return 0 or a count, or -errno.
 */
#ifndef IOU_DMABUF_BUFRING_H
#define IOU_DMABUF_BUFRING_H

#include "uring.h"

struct bufring {
	struct uring *ring;
	struct io_uring_buf_ring *br;
	size_t map_len;
	unsigned int entries;
	__u16 group, tail;
};

/* @flags: IOU_PBUF_RING_INC or 0; @entries: a power of two */
int bufring_create(struct bufring *b, struct uring *ring, __u16 group,
		   unsigned int entries, unsigned int flags);
void bufring_destroy(struct bufring *b);
/* The next entry, which the kernel sees at once; there has to be room */
void bufring_add(struct bufring *b, __u64 addr, __u32 len, __u16 bid);
/* The last entry that was added, which the kernel has not taken, is another one */
void bufring_change(struct bufring *b, __u64 addr, __u32 len, __u16 bid);
/* How many entries the kernel has taken so far, modulo 2^16 */
int bufring_head(const struct bufring *b);

/* The address of an entry that names a registered buffer */
static inline __u64 bufring_reg(__u16 slot, __u64 off)
{
	return (__u64)slot << IOU_PBUF_REGBUF_SHIFT | off;
}

#endif
