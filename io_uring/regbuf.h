/* SPDX-License-Identifier: GPL-2.0 */
#ifndef IOU_REGBUF_H
#define IOU_REGBUF_H

#include <linux/io_uring_types.h>
#include <linux/sizes.h>

struct io_uring_rsrc_register;
struct io_uring_rsrc_update2;
struct io_uring_query_regbuf;
struct io_uring_query_regbuf_map;

/* revision of the descriptor interface, for IO_URING_QUERY_REGBUF */
#define IO_REGBUF_VERSION	1
/* bytes in one buffer, see io_validate_user_buf_range() */
#define IO_REGBUF_MAX_SIZE	SZ_1T

int io_regbuf_update(struct io_ring_ctx *ctx, struct io_uring_rsrc_update2 *up,
		     unsigned int idx);
int io_regbuf_register(struct io_ring_ctx *ctx,
		       struct io_uring_rsrc_register *rr);
void io_query_regbuf(struct io_uring_query_regbuf *q);
int io_query_regbuf_map(struct io_ring_ctx *ctx,
			struct io_uring_query_regbuf_map *q);

#endif
