/* SPDX-License-Identifier: GPL-2.0 */
#ifndef IOU_DMABUF_H
#define IOU_DMABUF_H

#include <linux/io_uring_types.h>
#include <linux/iosys-map.h>
#include <linux/mutex.h>

struct dma_iobuf;
struct io_async_msghdr;
struct io_mapped_ubuf;
struct io_rsrc_node;
struct io_uring_query_regbuf_map;
struct io_uring_regbuf_desc;
struct seq_file;
struct socket;

/**
 * struct io_dmabuf - &struct io_mapped_ubuf.priv, shared by clones of the buffer
 * @buf:	the dma-buf and its attachments
 * @off:	of the buffer in the dma-buf in bytes
 * @flags:	IO_REGBUF_DMABUF_*
 * @user:	who is charged (RLIMIT_MEMLOCK) for pinned memory and tables
 * @acct_pages:	how much
 * @targets_lock: held while targets are added, and what that pins is charged
 * @pin_charged: the memory of the dma-buf is in @acct_pages
 * @vmap_lock:	protects making @vmap
 * @vmap:	the dma-buf for the CPU, from the first send that is copied on
 * @copied:	bytes of payload that were sent by copying them
 */
struct io_dmabuf {
	struct dma_iobuf	*buf;
	u64			off;
	u32			flags;
	struct user_struct	*user;
	atomic_long_t		acct_pages;
	struct mutex		targets_lock;	/* adding targets, pin_charged */
	bool			pin_charged;
	struct mutex		vmap_lock;	/* vmap */
	struct iosys_map	vmap;
	atomic64_t		copied;
};

struct io_rsrc_node *io_dmabuf_register(struct io_ring_ctx *ctx,
					const struct io_uring_regbuf_desc *desc);
int io_dmabuf_extend(struct io_ring_ctx *ctx,
		     const struct io_uring_regbuf_desc *desc,
		     struct io_rsrc_node *old);
int io_dmabuf_query(struct io_mapped_ubuf *imu,
		    struct io_uring_query_regbuf_map *q);

#ifdef CONFIG_DMA_SHARED_BUFFER
int io_dmabuf_prep_rw(struct io_kiocb *req, struct kiocb *kiocb);
void io_dmabuf_copy_sqe(struct io_kiocb *req, unsigned int issue_flags);
int io_dmabuf_prep_cmd(struct io_kiocb *req, unsigned int issue_flags);
int io_dmabuf_no_data(struct io_kiocb *req, int ret);
void io_dmabuf_show_fdinfo(struct io_mapped_ubuf *imu, struct seq_file *m);
#else
static inline int io_dmabuf_prep_rw(struct io_kiocb *req, struct kiocb *kiocb)
{
	return -EOPNOTSUPP;
}

static inline void io_dmabuf_copy_sqe(struct io_kiocb *req,
				      unsigned int issue_flags)
{
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

#if defined(CONFIG_DMA_SHARED_BUFFER) && defined(CONFIG_NET)
bool io_dmabuf_may_copy(struct io_kiocb *req, unsigned int issue_flags);
int io_dmabuf_send(struct io_kiocb *req, struct socket *sock,
		   struct io_async_msghdr *kmsg, unsigned int msg_flags,
		   unsigned int issue_flags);
#else
static inline bool io_dmabuf_may_copy(struct io_kiocb *req,
				      unsigned int issue_flags)
{
	return false;
}

static inline int io_dmabuf_send(struct io_kiocb *req, struct socket *sock,
				 struct io_async_msghdr *kmsg,
				 unsigned int msg_flags,
				 unsigned int issue_flags)
{
	return -EOPNOTSUPP;
}
#endif

#endif
