/* SPDX-License-Identifier: GPL-2.0 */
#ifndef IOU_REGBUF_H
#define IOU_REGBUF_H

#include <linux/io_uring_types.h>
#include <linux/sizes.h>

#include <uapi/linux/io_uring/query.h>

struct io_uring_rsrc_register;
struct io_uring_rsrc_update2;

/* revision of the descriptor interface, for IO_URING_QUERY_REGBUF */
#define IO_REGBUF_VERSION	2
/* bytes in one buffer, see io_validate_user_buf_range() */
#define IO_REGBUF_MAX_SIZE	SZ_1T

int io_regbuf_update(struct io_ring_ctx *ctx, struct io_uring_rsrc_update2 *up,
		     unsigned int idx);
int io_regbuf_register(struct io_ring_ctx *ctx,
		       struct io_uring_rsrc_register *rr);
ssize_t io_regbuf_query(struct io_ring_ctx *ctx, u32 op, void *data,
			size_t size);

static inline bool io_regbuf_is_query(u32 op)
{
	return op == IO_URING_QUERY_REGBUF || op == IO_URING_QUERY_REGBUF_MAP;
}

#endif
