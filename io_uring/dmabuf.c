// SPDX-License-Identifier: GPL-2.0
/*
 * dma-bufs as registered buffers.
 *
 * A slot of type IO_REGBUF_TYPE_DMABUF owns a struct dma_iobuf. Its bio_vecs
 * are windows of it, so that all the arithmetic for ordinary registered buffers
 * works on them; iov_iters made from them are of type ITER_DMABUF.
 */
#include <linux/kernel.h>
#include <linux/errno.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/overflow.h>
#include <linux/sched/user.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/io_uring.h>
#include <linux/io_uring/cmd.h>
#include <linux/dma-iobuf.h>
#include <linux/iosys-map.h>

#include <uapi/linux/io_uring.h>
#include <uapi/linux/io_uring/query.h>

#include "io_uring.h"
#include "rsrc.h"
#include "regbuf.h"
#include "dmabuf.h"
#include "uring_cmd.h"

/* ---- registration ---- */

static int io_dmabuf_account(struct io_dmabuf *idb, unsigned long nr_pages)
{
	int ret;

	if (!idb->user)
		return 0;
	ret = __io_account_mem(idb->user, nr_pages);
	if (!ret)
		atomic_long_add(nr_pages, &idb->acct_pages);
	return ret;
}

static void io_dmabuf_unaccount(struct io_dmabuf *idb, unsigned long nr_pages)
{
	if (!idb->user)
		return;
	__io_unaccount_mem(idb->user, nr_pages);
	atomic_long_sub(nr_pages, &idb->acct_pages);
}

static void io_dmabuf_free(struct io_dmabuf *idb)
{
	if (!iosys_map_is_null(&idb->vmap))
		dma_buf_vunmap_unlocked(idb->buf->dmabuf, &idb->vmap);
	if (idb->buf)
		dma_iobuf_put(idb->buf);
	io_dmabuf_unaccount(idb, atomic_long_read(&idb->acct_pages));
	if (idb->user)
		free_uid(idb->user);
	kfree(idb);
}

static void io_dmabuf_release(void *priv)
{
	io_dmabuf_free(priv);
}

/* a move may change the size later on; memcg sees that, the rlimit does not */
static unsigned long io_dmabuf_table_pages(struct dma_iobuf *buf)
{
	unsigned int i, nr = dma_iobuf_nr_att(buf);
	struct dma_iobuf_info info;
	unsigned long pages = 0;

	for (i = 0; i < nr; i++) {
		dma_iobuf_get_info(buf, i, &info);
		pages += DIV_ROUND_UP_ULL(info.table_bytes, PAGE_SIZE);
	}
	return pages;
}

static int io_dmabuf_add_target(int fd, bool copy_ok,
				struct dma_iobuf_targets *set)
{
	CLASS(fd, f)(fd);
	umode_t mode;
	int ret;

	if (fd_empty(f))
		return -EBADF;
	if (!fd_file(f)->f_op->dma_targets)
		return -EOPNOTSUPP;
	mode = file_inode(fd_file(f))->i_mode;
	if ((S_ISBLK(mode) || S_ISREG(mode)) &&
	    !(fd_file(f)->f_flags & O_DIRECT))
		return -EINVAL;
	ret = dma_iobuf_targets_of(fd_file(f), set);
	/* no device, or none yet: sends to this socket are copied */
	if (copy_ok && S_ISSOCK(mode) && (ret == -EOPNOTSUPP || ret == -ENOTCONN))
		ret = 0;
	return ret;
}

static int io_dmabuf_targets(const struct io_uring_regbuf_desc *desc,
			     bool copy_ok, struct dma_iobuf_targets *set)
{
	__s32 __user *fds = u64_to_user_ptr(desc->targets);
	unsigned int i;
	int ret = 0;

	/* -1 is fine as long as there are others */
	if (desc->target_fd != -1 || !desc->nr_targets)
		ret = io_dmabuf_add_target(desc->target_fd, copy_ok, set);
	for (i = 0; i < desc->nr_targets && !ret; i++) {
		__s32 fd;

		if (get_user(fd, &fds[i]))
			return -EFAULT;
		ret = io_dmabuf_add_target(fd, copy_ok, set);
	}
	return ret;
}

static int io_dmabuf_check_desc(const struct io_uring_regbuf_desc *desc)
{
	const u32 both = IO_REGBUF_DMABUF_RDONLY | IO_REGBUF_DMABUF_WRONLY;

	if (desc->flags & ~IO_REGBUF_DMABUF_FLAGS ||
	    (desc->flags & both) == both)
		return -EINVAL;
	if (desc->uaddr || desc->__resv1 ||
	    !mem_is_zero(desc->__resv, sizeof(desc->__resv)))
		return -EINVAL;
	if ((desc->dmabuf_off | desc->size) & (DMA_IOBUF_PAGE_SIZE - 1))
		return -EINVAL;
	if (desc->targets && !desc->nr_targets)
		return -EINVAL;
	if (desc->nr_targets > DMA_IOBUF_MAX_DEVS)
		return -E2BIG;
	return 0;
}

/* DMA must not get at more than the file descriptor allows */
static int io_dmabuf_direction(struct file *file, u32 flags)
{
	bool dev_reads = file->f_mode & FMODE_READ;
	bool dev_writes = file->f_mode & FMODE_WRITE;

	if ((flags & IO_REGBUF_DMABUF_RDONLY && !dev_reads) ||
	    (flags & IO_REGBUF_DMABUF_WRONLY && !dev_writes))
		return -EACCES;
	if (flags & IO_REGBUF_DMABUF_RDONLY)
		dev_writes = false;
	if (flags & IO_REGBUF_DMABUF_WRONLY)
		dev_reads = false;
	if (dev_reads && dev_writes)
		return DMA_BIDIRECTIONAL;
	if (dev_reads)
		return DMA_TO_DEVICE;
	if (dev_writes)
		return DMA_FROM_DEVICE;
	return -EACCES;
}

/*
 * Once for a buffer, however many of its attachments are pinned. Under
 * ->targets_lock once others can see the buffer: who is not charged relies on a
 * charge that must not be taken back meanwhile.
 */
static int io_dmabuf_account_pin(struct io_dmabuf *idb, struct dma_buf *dmabuf)
{
	int ret;

	if (idb->pin_charged)
		return 0;
	ret = io_dmabuf_account(idb, dmabuf->size >> PAGE_SHIFT);
	idb->pin_charged = !ret;
	return ret;
}

/* everything that may wait for an exporter; no lock is held */
static int io_dmabuf_create(struct io_dmabuf *idb, struct dma_buf *dmabuf,
			    const struct io_uring_regbuf_desc *desc, int dir)
{
	struct dma_iobuf_targets set = { };
	struct dma_iobuf *buf;
	unsigned int flags = 0;
	int ret;

	if (desc->flags & IO_REGBUF_DMABUF_REQUIRE_P2P)
		flags |= DMA_IOBUF_REQUIRE_P2P;
	if (desc->flags & IO_REGBUF_DMABUF_PIN)
		flags |= DMA_IOBUF_PIN;

	ret = io_dmabuf_targets(desc, desc->flags & IO_REGBUF_DMABUF_COPY_OK,
				&set);
	/* a mapping for the CPU pins, too; the first copy makes it */
	if (!ret && (flags & DMA_IOBUF_PIN || dma_iobuf_targets_pin(&set) ||
		     desc->flags & IO_REGBUF_DMABUF_COPY_OK))
		ret = io_dmabuf_account_pin(idb, dmabuf);
	if (!ret) {
		buf = dma_iobuf_create(dmabuf, &set, dir, flags);
		if (IS_ERR(buf))
			ret = PTR_ERR(buf);
		else
			idb->buf = buf;
	}
	dma_iobuf_targets_put(&set);
	if (ret)
		return ret;
	return io_dmabuf_account(idb, io_dmabuf_table_pages(idb->buf));
}

static struct io_rsrc_node *io_dmabuf_node(struct io_ring_ctx *ctx,
					   struct io_dmabuf *idb, u64 size)
{
	unsigned int first = idb->off >> DMA_IOBUF_WIN_SHIFT;
	unsigned int last = (idb->off + size - 1) >> DMA_IOBUF_WIN_SHIFT;
	u64 off = idb->off & (DMA_IOBUF_WIN_SIZE - 1);
	struct dma_iobuf *buf = idb->buf;
	struct io_mapped_ubuf *imu;
	struct io_rsrc_node *node;
	unsigned int i;

	lockdep_assert_held(&ctx->uring_lock);

	node = io_rsrc_node_alloc(ctx, IORING_RSRC_BUFFER);
	if (!node)
		return ERR_PTR(-ENOMEM);
	imu = io_alloc_imu(ctx, last - first + 1);
	if (!imu) {
		io_cache_free(&ctx->node_cache, node);
		return ERR_PTR(-ENOMEM);
	}
	imu->nr_bvecs = last - first + 1;
	imu->ubuf = 0;
	imu->len = size;
	imu->folio_shift = DMA_IOBUF_WIN_SHIFT;
	imu->release = io_dmabuf_release;
	imu->priv = idb;
	imu->flags = IO_REGBUF_F_DMABUF;
	imu->dir = 0;
	if (buf->dir != DMA_TO_DEVICE)
		imu->dir |= IO_BUF_DEST;
	if (buf->dir != DMA_FROM_DEVICE)
		imu->dir |= IO_BUF_SOURCE;
	refcount_set(&imu->refs, 1);

	for (i = 0; i < imu->nr_bvecs; i++) {
		u64 len = min_t(u64, size, DMA_IOBUF_WIN_SIZE - off);

		bvec_set_dma_win(&imu->bvec[i], &buf->win[first + i], len, off);
		size -= len;
		off = 0;
	}
	node->buf = imu;
	return node;
}

/*
 * Make a dma-buf a node for the buffer table. ->uring_lock is dropped for as
 * long as an exporter may have to be waited for.
 */
struct io_rsrc_node *io_dmabuf_register(struct io_ring_ctx *ctx,
					const struct io_uring_regbuf_desc *desc)
{
	struct io_rsrc_node *node;
	struct io_dmabuf *idb;
	struct dma_buf *dmabuf;
	u64 size, end;
	int ret, dir;

	lockdep_assert_held(&ctx->uring_lock);

	ret = io_dmabuf_check_desc(desc);
	if (ret)
		return ERR_PTR(ret);
	dmabuf = dma_buf_get(desc->dmabuf_fd);
	if (IS_ERR(dmabuf))
		return ERR_CAST(dmabuf);

	size = desc->size;
	ret = -EINVAL;
	if (!size && desc->dmabuf_off < dmabuf->size)
		size = dmabuf->size - desc->dmabuf_off;
	if (check_add_overflow(desc->dmabuf_off, size, &end) ||
	    end > dmabuf->size || !size || end > IO_REGBUF_MAX_SIZE ||
	    (size_t)size != size)
		goto out_put;

	dir = io_dmabuf_direction(dmabuf->file, desc->flags);
	if (dir < 0) {
		ret = dir;
		goto out_put;
	}

	ret = -ENOMEM;
	idb = kzalloc_obj(*idb, GFP_KERNEL_ACCOUNT);
	if (!idb)
		goto out_put;
	mutex_init(&idb->targets_lock);
	mutex_init(&idb->vmap_lock);
	idb->off = desc->dmabuf_off;
	idb->flags = desc->flags;
	if (ctx->user)
		idb->user = get_uid(ctx->user);

	mutex_unlock(&ctx->uring_lock);
	ret = io_dmabuf_create(idb, dmabuf, desc, dir);
	mutex_lock(&ctx->uring_lock);

	if (!ret) {
		node = io_dmabuf_node(ctx, idb, size);
		ret = PTR_ERR_OR_ZERO(node);
	}
	if (ret)
		io_dmabuf_free(idb);
out_put:
	dma_buf_put(dmabuf);
	return ret < 0 ? ERR_PTR(ret) : node;
}

/* charge what these targets pin, and add them: how many were new, or -errno */
static int io_dmabuf_add_targets(struct io_dmabuf *idb,
				 struct dma_iobuf_targets *set)
{
	bool charged;
	int ret;

	ret = mutex_lock_killable(&idb->targets_lock);
	if (ret)
		return ret;
	charged = idb->pin_charged;
	if (dma_iobuf_targets_pin(set))
		ret = io_dmabuf_account_pin(idb, idb->buf->dmabuf);
	if (!ret)
		ret = dma_iobuf_add_targets(idb->buf, set);
	if (ret < 0 && idb->pin_charged != charged) {
		idb->pin_charged = false;
		io_dmabuf_unaccount(idb, idb->buf->dmabuf->size >> PAGE_SHIFT);
	}
	mutex_unlock(&idb->targets_lock);
	return ret;
}

/*
 * Add targets to the dma-buf in a slot. As above, ->uring_lock is dropped, and
 * the slot may be cleared meanwhile.
 */
int io_dmabuf_extend(struct io_ring_ctx *ctx,
		     const struct io_uring_regbuf_desc *desc,
		     struct io_rsrc_node *old)
{
	struct dma_iobuf_targets set = { };
	unsigned long pages, used;
	struct io_dmabuf *idb;
	int ret;

	lockdep_assert_held(&ctx->uring_lock);

	ret = io_dmabuf_check_desc(desc);
	if (ret)
		return ret;
	if (desc->flags != IO_REGBUF_DMABUF_ADD_TARGETS || desc->size ||
	    desc->dmabuf_off || desc->dmabuf_fd != -1)
		return -EINVAL;
	if (!old || !(old->buf->flags & IO_REGBUF_F_DMABUF))
		return -EINVAL;
	idb = old->buf->priv;

	/* a table per target fd, as large as those that are there on average */
	used = DIV_ROUND_UP(io_dmabuf_table_pages(idb->buf),
			    max(dma_iobuf_nr_att(idb->buf), 1U));
	pages = used * (desc->nr_targets + (desc->target_fd != -1));
	ret = io_dmabuf_account(idb, pages);
	if (ret)
		return ret;

	old->refs++;
	mutex_unlock(&ctx->uring_lock);
	ret = io_dmabuf_targets(desc, idb->flags & IO_REGBUF_DMABUF_COPY_OK,
				&set);
	if (!ret)
		ret = io_dmabuf_add_targets(idb, &set);
	dma_iobuf_targets_put(&set);
	mutex_lock(&ctx->uring_lock);
	/* targets that were there already, or all of them, cost nothing */
	used *= max(ret, 0);
	if (used < pages)
		io_dmabuf_unaccount(idb, pages - used);
	io_put_rsrc_node(ctx, old);
	return min(ret, 0);
}

/* ---- I/O ---- */

static struct dma_iobuf *io_req_dma_iobuf(struct io_kiocb *req)
{
	struct io_dmabuf *idb = req->buf_node->buf->priv;

	return idb->buf;
}

/**
 * io_dmabuf_prep_rw - before ->read_iter() or ->write_iter() with ITER_DMABUF
 * @req:	the request
 * @kiocb:	its kiocb, with IOCB_NOWAIT set up
 *
 * Return: 0, -EAGAIN to come back from blocking context, or the error to
 * complete the request with.
 */
int io_dmabuf_prep_rw(struct io_kiocb *req, struct kiocb *kiocb)
{
	if (unlikely(!req->file->f_op->dma_targets))
		return -EBADF;
	if (unlikely(!(kiocb->ki_flags & IOCB_DIRECT)))
		return -EINVAL;
	/* a slot may serve a file whose directory or mount is DAX by now */
	if (unlikely(IS_DAX(file_inode(req->file))))
		return -EBADF;
	/*
	 * Polling takes ->private for the bio, with metadata it is the uio_meta.
	 * Whoever polls does not look at IOCB_HIPRI, so say what block devices
	 * say to the two together.
	 */
	if (unlikely((kiocb->ki_flags & IOCB_HIPRI) &&
		     (kiocb->ki_flags & IOCB_HAS_METADATA)))
		return -EOPNOTSUPP;
	/*
	 * An exporter that moves the memory, or the device going away, waits
	 * for the command. It must not depend on the application to poll.
	 */
	kiocb->ki_flags &= ~IOCB_HIPRI;
	return dma_iobuf_prepare(io_req_dma_iobuf(req), req->file,
				 kiocb->ki_flags & IOCB_NOWAIT);
}

/**
 * io_dmabuf_no_data - a read met the end, or a write met a full device
 * @req:	the request
 * @ret:	0 or -ENOSPC
 *
 * A block device that was removed has no capacity any more, before its driver
 * is through with it. Say what happened.
 */
int io_dmabuf_no_data(struct io_kiocb *req, int ret)
{
	if (req->cqe.res && S_ISBLK(file_inode(req->file)->i_mode) &&
	    !i_size_read(req->file->f_mapping->host))
		return -ENODEV;
	return ret;
}

/**
 * io_dmabuf_copy_sqe - before a driver is given a command that names a slot
 * @req:	the request
 * @issue_flags: IO_URING_F_*
 *
 * The application may write to the ring's SQE while it is issued, and may reuse
 * it before it is issued again. If the slot holds a dma-buf, what the driver
 * gets to see has to be the same each time, because a vector is imported once.
 */
void io_dmabuf_copy_sqe(struct io_kiocb *req, unsigned int issue_flags)
{
	struct io_rsrc_node *node;

	if (req->flags & REQ_F_SQE_COPIED)
		return;
	node = io_find_buf_node(req, issue_flags);
	if (!node || !(node->buf->flags & IO_REGBUF_F_DMABUF))
		return;
	req->flags |= REQ_F_SQE_COPIED;
	io_uring_cmd_sqe_copy(req);
}

/**
 * io_dmabuf_prep_cmd - before a driver uses an ITER_DMABUF in ->uring_cmd()
 * @req:	the request
 * @issue_flags: IO_URING_F_*
 *
 * Return: see io_dmabuf_prep_rw().
 */
int io_dmabuf_prep_cmd(struct io_kiocb *req, unsigned int issue_flags)
{
	/* see io_dmabuf_copy_sqe() */
	if (WARN_ON_ONCE(!(req->flags & REQ_F_SQE_COPIED)))
		return -EINVAL;
	return dma_iobuf_prepare(io_req_dma_iobuf(req), req->file,
				 issue_flags & IO_URING_F_NONBLOCK);
}

/**
 * io_uring_cmd_retry_dmabuf - issue a command again after its buffer moved
 * @ioucmd:	the command
 * @ret:	what it is about to be completed with
 *
 * To be called by a driver from task work, with nothing of the first attempt
 * left, instead of io_uring_cmd_done().
 *
 * Return: %true if the command was queued again.
 */
bool io_uring_cmd_retry_dmabuf(struct io_uring_cmd *ioucmd, int ret)
{
	struct io_kiocb *req = cmd_to_io_kiocb(ioucmd);

	if (ret != -EAGAIN || !(ioucmd->flags & IORING_URING_CMD_FIXED) ||
	    !(req->flags & REQ_F_BUF_NODE) ||
	    !(req->buf_node->buf->flags & IO_REGBUF_F_DMABUF))
		return false;
	if (percpu_ref_is_dying(&req->ctx->refs))
		return false;
	if (req->flags & REQ_F_IOPOLL) {
		/* it is on ->iopoll_list: io_do_iopoll() issues it again */
		req->flags |= REQ_F_REISSUE;
		/* orders the flag before io_do_iopoll() sees it completed */
		smp_store_release(&req->iopoll_completed, 1);
	} else {
		io_uring_cmd_issue_blocking(ioucmd);
	}
	return true;
}
EXPORT_SYMBOL_GPL(io_uring_cmd_retry_dmabuf);

/* ---- what is it really? ---- */

static const char * const io_dmabuf_state[] = {
	[IO_REGBUF_MAP_NONE]		= "none",
	[IO_REGBUF_MAP_SYSTEM]		= "system",
	[IO_REGBUF_MAP_P2P_BUS]		= "p2p-bus",
	[IO_REGBUF_MAP_P2P_HOST]	= "p2p-host",
	[IO_REGBUF_MAP_MIXED]		= "mixed",
	[IO_REGBUF_MAP_DEAD]		= "dead",
};

int io_dmabuf_query(struct io_mapped_ubuf *imu,
		    struct io_uring_query_regbuf_map *q)
{
	struct io_dmabuf *idb = imu->priv;
	struct dma_iobuf_info info;
	unsigned int nr = dma_iobuf_nr_att(idb->buf);

	/* one is the ABI, the other the kernel's */
	BUILD_BUG_ON(IO_REGBUF_MAP_NONE != (int)DMA_IOBUF_KIND_NONE);
	BUILD_BUG_ON(IO_REGBUF_MAP_SYSTEM != (int)DMA_IOBUF_KIND_SYSTEM);
	BUILD_BUG_ON(IO_REGBUF_MAP_P2P_BUS != (int)DMA_IOBUF_KIND_P2P_BUS);
	BUILD_BUG_ON(IO_REGBUF_MAP_P2P_HOST != (int)DMA_IOBUF_KIND_P2P_HOST);
	BUILD_BUG_ON(IO_REGBUF_MAP_MIXED != (int)DMA_IOBUF_KIND_MIXED);
	BUILD_BUG_ON(IO_REGBUF_MAP_DEAD != (int)DMA_IOBUF_KIND_DEAD);
	BUILD_BUG_ON(sizeof(q->device) != sizeof(info.dev_name));

	if (!nr && !q->target) {
		/* registered for sockets that only copy */
		memset(&info, 0, sizeof(info));
	} else {
		if (q->target >= nr)
			return -EINVAL;
		dma_iobuf_get_info(idb->buf, array_index_nospec(q->target, nr),
				   &info);
	}
	q->nr_targets = nr;
	q->type = IO_REGBUF_TYPE_DMABUF;
	q->flags = idb->flags;
	if (!(imu->dir & IO_BUF_DEST))
		q->flags |= IO_REGBUF_DMABUF_RDONLY;
	if (!(imu->dir & IO_BUF_SOURCE))
		q->flags |= IO_REGBUF_DMABUF_WRONLY;
	q->state = info.kind;
	q->dmabuf_off = idb->off;
	q->size = imu->len;
	q->granule = info.granule;
	q->entries = info.entries;
	q->table_bytes = info.table_bytes;
	q->hits = info.hits;
	q->maps = info.maps;
	q->invalidations = info.invals;
	q->copied_bytes = atomic64_read(&idb->copied);
	memcpy(q->device, info.dev_name, sizeof(q->device));
	return 0;
}

void io_dmabuf_show_fdinfo(struct io_mapped_ubuf *imu, struct seq_file *m)
{
	struct io_dmabuf *idb = imu->priv;
	unsigned int i, nr = dma_iobuf_nr_att(idb->buf);
	struct dma_iobuf_info info;

	for (i = 0; i < nr; i++) {
		dma_iobuf_get_info(idb->buf, i, &info);
		seq_printf(m,
			   "       dmabuf: off:%llu dir:%s%s target:%u dev:%s state:%s granule:%llu entries:%llu bytes:%llu hits:%llu maps:%llu invalidations:%llu\n",
			   idb->off, imu->dir & IO_BUF_SOURCE ? "r" : "",
			   imu->dir & IO_BUF_DEST ? "w" : "", i, info.dev_name,
			   io_dmabuf_state[info.kind], info.granule,
			   info.entries, info.table_bytes, info.hits, info.maps,
			   info.invals);
		cond_resched();
	}
	if (idb->flags & IO_REGBUF_DMABUF_COPY_OK)
		seq_printf(m, "       dmabuf: copied:%lld\n",
			   atomic64_read(&idb->copied));
}
