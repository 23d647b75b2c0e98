/* SPDX-License-Identifier: GPL-2.0 */
#ifndef IOU_DMABUF_H
#define IOU_DMABUF_H

#include <linux/io_uring_types.h>

struct io_mapped_ubuf;
struct io_rsrc_node;
struct io_uring_query_regbuf_map;
struct io_uring_regbuf_desc;
struct seq_file;

struct io_rsrc_node *io_dmabuf_register(struct io_ring_ctx *ctx,
					const struct io_uring_regbuf_desc *desc);
int io_dmabuf_extend(struct io_ring_ctx *ctx,
		     const struct io_uring_regbuf_desc *desc,
		     struct io_rsrc_node *old);
int io_dmabuf_query(struct io_mapped_ubuf *imu,
		    struct io_uring_query_regbuf_map *q);

#ifdef CONFIG_DMA_SHARED_BUFFER
int io_dmabuf_prep_rw(struct io_kiocb *req, struct kiocb *kiocb);
int io_dmabuf_prep_cmd(struct io_kiocb *req, unsigned int issue_flags);
int io_dmabuf_no_data(struct io_kiocb *req, int ret);
void io_dmabuf_show_fdinfo(struct io_mapped_ubuf *imu, struct seq_file *m);
#else
static inline int io_dmabuf_prep_rw(struct io_kiocb *req, struct kiocb *kiocb)
{
	return -EOPNOTSUPP;
}

static inline int io_dmabuf_prep_cmd(struct io_kiocb *req,
				     unsigned int issue_flags)
{
	return -EOPNOTSUPP;
}

static inline int io_dmabuf_no_data(struct io_kiocb *req, int ret)
{
	return ret;
}

static inline void io_dmabuf_show_fdinfo(struct io_mapped_ubuf *imu,
					 struct seq_file *m)
{
}
#endif

#endif
