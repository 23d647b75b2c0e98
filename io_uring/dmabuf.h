/* SPDX-License-Identifier: GPL-2.0 */
#ifndef IOU_DMABUF_H
#define IOU_DMABUF_H

#include <linux/completion.h>
#include <linux/dma-iobuf.h>
#include <linux/io_uring_types.h>
#include <linux/iosys-map.h>
#include <linux/mutex.h>
#include <linux/workqueue.h>

struct io_dmabuf_charge;
struct io_dmabuf_user;
struct io_mapped_ubuf;
struct io_rsrc_node;
struct io_uring_query_regbuf_map;
struct io_uring_regbuf_desc;
struct io_uring_regbuf_reason;
struct seq_file;
struct user_struct;

/**
 * struct io_dmabuf - &struct io_mapped_ubuf.priv, shared by clones of the buffer
 * @buf:	the dma-buf and its attachments
 * @off:	of the buffer in the dma-buf in bytes
 * @flags:	IO_REGBUF_DMABUF_*
 * @user:	who is charged (RLIMIT_MEMLOCK), or NULL
 * @mem:	the charge for the memory of the dma-buf, or NULL
 * @table:	the charges for mapping tables
 * @nr_tables:	entries in @table
 * @targets_lock: held while targets are added and charged
 * @free_work:	frees the buffer: nobody waits for the exporter that cannot be killed
 * @undone:	nothing of it is left
 * @refs:	one until all is gone, and those of who looks at @undone
 * @vmap_lock:	protects making @vmap
 * @vmap:	the dma-buf for the CPU, from the first send that is copied on
 * @copied:	bytes of payload that were sent by copying them
 */
struct io_dmabuf {
	struct dma_iobuf	*buf;
	u64			off;
	u32			flags;
	struct io_dmabuf_user	*user;
	struct io_dmabuf_charge	*mem;
	struct io_dmabuf_charge	*table[DMA_IOBUF_MAX_DEVS];
	unsigned int		nr_tables;
	struct mutex		targets_lock;	/* adding targets, charges */
	struct dma_iobuf_work	free_work;
	struct completion	undone;
	refcount_t		refs;
	struct mutex		vmap_lock;	/* vmap */
	struct iosys_map	vmap;
	atomic64_t		copied;
};

/**
 * struct io_dmabuf_why - why a registration failed
 * @stage:	IO_REGBUF_STAGE_*
 * @target:	see &struct io_uring_regbuf_reason, and the next two
 * @bytes:	what RLIMIT_MEMLOCK would have to be
 * @limit:	what it is
 * @text:	what to do; NULL: follows from stage and errno
 * @exporter:	its name, truncated
 * @core:	what the core says
 * @fd_of_dev:	the target fd that each device of the set comes from
 */
struct io_dmabuf_why {
	u32			stage;
	s32			target;
	u64			bytes;
	u64			limit;
	const char		*text;
	char			exporter[32];
	struct dma_iobuf_reason	core;
	s32			fd_of_dev[DMA_IOBUF_MAX_DEVS];
};

struct io_rsrc_node *io_dmabuf_register(struct io_ring_ctx *ctx,
					const struct io_uring_regbuf_desc *desc,
					struct io_dmabuf_why *why);
int io_dmabuf_extend(struct io_ring_ctx *ctx,
		     const struct io_uring_regbuf_desc *desc,
		     struct io_rsrc_node *old, u64 tag,
		     struct io_dmabuf_why *why);
int io_dmabuf_query(struct io_mapped_ubuf *imu,
		    struct io_uring_query_regbuf_map *q);

/* dmabuf_reason.c */
int io_dmabuf_fail(struct io_dmabuf_why *why, u32 stage, int err,
		   const char *text);
int io_dmabuf_fail_core(struct io_dmabuf_why *why, int err);
void io_dmabuf_why_memlock(struct io_dmabuf_why *why, unsigned long pages,
			   unsigned long limit);
int io_dmabuf_reason_check(struct io_uring_regbuf_reason __user *ureason);
void io_dmabuf_reason_write(struct io_uring_regbuf_reason __user *ureason,
			    const struct io_dmabuf_why *why, int err);

/* dmabuf_mem.c */
struct io_dmabuf_user *io_dmabuf_user_get(struct user_struct *user);
struct io_dmabuf_user *io_dmabuf_user_hold(struct io_dmabuf_user *u);
int io_dmabuf_charge_mem(struct io_dmabuf *idb, struct dma_buf *dmabuf,
			 struct io_dmabuf_why *why);
void io_dmabuf_uncharge_mem(struct io_dmabuf *idb);
int io_dmabuf_charge_tables(struct io_dmabuf *idb, struct dma_iobuf *buf,
			    struct io_dmabuf_why *why);
void io_dmabuf_charges_move(struct io_dmabuf *to, struct io_dmabuf *from);
void io_dmabuf_charges_going(struct io_dmabuf *idb);
void io_dmabuf_charges_end(struct io_dmabuf *idb);

#ifdef CONFIG_DMA_SHARED_BUFFER
int io_dmabuf_prep_rw(struct io_kiocb *req, struct kiocb *kiocb);
bool io_dmabuf_should_reissue(struct io_kiocb *req, const struct kiocb *kiocb,
			      long res);
void io_dmabuf_copy_sqe(struct io_kiocb *req, unsigned int issue_flags);
int io_dmabuf_prep_cmd(struct io_kiocb *req, unsigned int issue_flags);
int io_dmabuf_no_data(struct io_kiocb *req, int ret);
void io_dmabuf_show_fdinfo(struct io_mapped_ubuf *imu, struct seq_file *m);
#else
static inline int io_dmabuf_prep_rw(struct io_kiocb *req, struct kiocb *kiocb)
{
	return -EOPNOTSUPP;
}

static inline bool io_dmabuf_should_reissue(struct io_kiocb *req,
					    const struct kiocb *kiocb, long res)
{
	return false;
}

static inline void io_dmabuf_copy_sqe(struct io_kiocb *req,
				      unsigned int issue_flags)
{
}

static inline int io_dmabuf_prep_cmd(struct io_kiocb *req,
				     unsigned int issue_flags)
{
	return 0;
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
int io_dmabuf_send(struct io_kiocb *req, unsigned int msg_flags,
		   unsigned int issue_flags);
#else
static inline bool io_dmabuf_may_copy(struct io_kiocb *req,
				      unsigned int issue_flags)
{
	return false;
}

static inline int io_dmabuf_send(struct io_kiocb *req, unsigned int msg_flags,
				 unsigned int issue_flags)
{
	return -EOPNOTSUPP;
}
#endif

#endif
