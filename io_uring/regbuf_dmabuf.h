/* SPDX-License-Identifier: GPL-2.0 */
#ifndef IOU_REGBUF_DMABUF_H
#define IOU_REGBUF_DMABUF_H

#include <linux/completion.h>
#include <linux/dma-iobuf.h>
#include <linux/io_uring_types.h>
#include <linux/iosys-map.h>
#include <linux/mutex.h>
#include <linux/workqueue.h>

struct io_regbuf_charge;
struct io_regbuf_user;
struct io_mapped_ubuf;
struct io_rsrc_node;
struct io_uring_query_regbuf_map;
struct io_uring_regbuf_desc;
struct io_uring_regbuf_reason;
struct seq_file;
struct user_struct;

/**
 * struct io_regbuf - &struct io_mapped_ubuf.priv, shared by clones of the buffer
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
 * @users:	the slot, with its clones, and areas that are copied to
 * @vmap_lock:	protects making @vmap
 * @vmap:	the dma-buf for the CPU, from the first send that is copied, or the first
 *		area that may be copied to, on
 * @copied:	bytes of payload that were sent or received by copying them
 */
struct io_regbuf {
	struct dma_iobuf	*buf;
	u64			off;
	u32			flags;
	struct io_regbuf_user	*user;
	struct io_regbuf_charge	*mem;
	struct io_regbuf_charge	*table[DMA_IOBUF_MAX_DEVS];
	unsigned int		nr_tables;
	struct mutex		targets_lock;	/* adding targets, charges */
	struct dma_iobuf_work	free_work;
	struct completion	undone;
	refcount_t		refs;
	refcount_t		users;
	struct mutex		vmap_lock;	/* vmap */
	struct iosys_map	vmap;
	atomic64_t		copied;
};

/**
 * struct io_regbuf_why - why a registration failed
 * @stage:	IO_REGBUF_STAGE_*
 * @target:	see &struct io_uring_regbuf_reason, and the next two
 * @bytes:	what RLIMIT_MEMLOCK would have to be
 * @limit:	what it is
 * @text:	what to do; NULL: follows from stage and errno
 * @exporter:	its name, truncated
 * @core:	what the core says
 * @fd_of_dev:	the target fd that each device of the set comes from
 */
struct io_regbuf_why {
	u32			stage;
	s32			target;
	u64			bytes;
	u64			limit;
	const char		*text;
	char			exporter[32];
	struct dma_iobuf_reason	core;
	u8			fd_of_dev[DMA_IOBUF_MAX_DEVS];
};

struct io_rsrc_node *
io_regbuf_register_dmabuf(struct io_ring_ctx *ctx,
			  const struct io_uring_regbuf_desc *desc,
			  struct io_regbuf_why *why);
int io_regbuf_add_targets(struct io_ring_ctx *ctx,
			  const struct io_uring_regbuf_desc *desc,
			  struct io_rsrc_node *old, u64 tag,
			  struct io_regbuf_why *why);
bool io_regbuf_in_device(struct dma_iobuf *buf);
int io_regbuf_demand(struct io_regbuf *reg, struct file *file);
struct io_regbuf *io_regbuf_create_part(const struct io_regbuf *from, u64 off,
					struct dma_iobuf_set *set);
void io_regbuf_free(struct io_regbuf *reg);
void io_regbuf_hold(struct io_regbuf *reg);
void io_regbuf_drop(struct io_regbuf *reg);
bool io_regbuf_task_work(void);
int io_regbuf_query_map(struct io_mapped_ubuf *imu,
			struct io_uring_query_regbuf_map *q);

/* regbuf_reason.c */
int io_regbuf_fail(struct io_regbuf_why *why, u32 stage, int err,
		   const char *text);
int io_regbuf_fail_core(struct io_regbuf_why *why, int err);
void io_regbuf_why_memlock(struct io_regbuf_why *why, unsigned long pages,
			   unsigned long limit);
int io_regbuf_reason_check(struct io_uring_regbuf_reason __user *ureason);
void io_regbuf_reason_write(struct io_uring_regbuf_reason __user *ureason,
			    const struct io_regbuf_why *why, int err);

/* regbuf_mem.c */
struct io_regbuf_user *io_regbuf_user_get(struct user_struct *user);
struct io_regbuf_user *io_regbuf_user_hold(struct io_regbuf_user *u);
int io_regbuf_charge_mem(struct io_regbuf *reg, struct dma_buf *dmabuf,
			 struct io_regbuf_why *why);
int io_regbuf_charge_copies(struct io_regbuf *reg);
void io_regbuf_uncharge_mem(struct io_regbuf *reg);
int io_regbuf_charge_tables(struct io_regbuf *reg, struct dma_iobuf *buf,
			    struct io_regbuf_why *why);
void io_regbuf_charges_move(struct io_regbuf *to, struct io_regbuf *from,
			    struct io_regbuf_charge **all);
void io_regbuf_charges_going(struct io_regbuf *reg);
void io_regbuf_charges_end(struct io_regbuf *reg);

#ifdef CONFIG_DMA_SHARED_BUFFER
int io_regbuf_prep_rw(struct io_kiocb *req, struct kiocb *kiocb);
int io_regbuf_nowait_errno(struct io_kiocb *req, int err);
bool io_regbuf_should_reissue(struct io_kiocb *req, const struct kiocb *kiocb,
			      long res);
void io_regbuf_copy_sqe(struct io_kiocb *req, unsigned int issue_flags);
int io_regbuf_prep_cmd(struct io_kiocb *req, unsigned int issue_flags);
int io_regbuf_end_errno(struct io_kiocb *req, int ret);
void io_regbuf_show_fdinfo(struct io_mapped_ubuf *imu, struct seq_file *m);
#else
static inline int io_regbuf_prep_rw(struct io_kiocb *req, struct kiocb *kiocb)
{
	return -EOPNOTSUPP;
}

static inline int io_regbuf_nowait_errno(struct io_kiocb *req, int err)
{
	return err;
}

static inline bool io_regbuf_should_reissue(struct io_kiocb *req,
					    const struct kiocb *kiocb, long res)
{
	return false;
}

static inline void io_regbuf_copy_sqe(struct io_kiocb *req,
				      unsigned int issue_flags)
{
}

static inline int io_regbuf_prep_cmd(struct io_kiocb *req,
				     unsigned int issue_flags)
{
	return 0;
}

static inline int io_regbuf_end_errno(struct io_kiocb *req, int ret)
{
	return ret;
}

static inline void io_regbuf_show_fdinfo(struct io_mapped_ubuf *imu,
					 struct seq_file *m)
{
}
#endif

/* regbuf_net.c */
int io_regbuf_exporter_error(int err);

#if defined(CONFIG_DMA_SHARED_BUFFER) && defined(CONFIG_NET)
bool io_regbuf_may_copy(struct io_kiocb *req, unsigned int issue_flags);
bool io_regbuf_node_may_copy(const struct io_rsrc_node *node);
int io_regbuf_vmap(struct io_regbuf *reg);
int io_regbuf_send(struct io_kiocb *req, unsigned int msg_flags,
		   unsigned int issue_flags);
#else
static inline bool io_regbuf_may_copy(struct io_kiocb *req,
				      unsigned int issue_flags)
{
	return false;
}

static inline bool io_regbuf_node_may_copy(const struct io_rsrc_node *node)
{
	return false;
}

static inline int io_regbuf_send(struct io_kiocb *req, unsigned int msg_flags,
				 unsigned int issue_flags)
{
	return -EOPNOTSUPP;
}
#endif

#endif
