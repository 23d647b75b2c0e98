// SPDX-License-Identifier: GPL-2.0
/*
 * dma-bufs as registered buffers.
 *
 * A slot of type IO_REGBUF_TYPE_DMABUF owns a struct dma_iobuf. Its bio_vecs
 * are windows of it, so that all the arithmetic for ordinary registered buffers
 * works on them; iov_iters made from them are of type ITER_DMABUF.
 */
#include <linux/kernel.h>
#include <linux/blkdev.h>
#include <linux/errno.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/major.h>
#include <linux/overflow.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>
#include <linux/io_uring.h>
#include <linux/io_uring/cmd.h>
#include <linux/dma-iobuf.h>
#include <linux/iosys-map.h>

#include <uapi/linux/io_uring.h>
#include <uapi/linux/io_uring/query.h>

#include "io_uring.h"
#include "rsrc.h"
#include "regbuf.h"
#include "regbuf_dmabuf.h"
#include "uring_cmd.h"

/* ---- registration ---- */

static void io_regbuf_put(struct io_regbuf *reg)
{
	if (refcount_dec_and_test(&reg->refs))
		kfree(reg);
}

/* nothing of it is attached, pinned or mapped any more: that is when it costs nothing */
static void io_regbuf_gone(void *priv)
{
	struct io_regbuf *reg = priv;

	io_regbuf_charges_end(reg);
	complete(&reg->undone);
	io_regbuf_put(reg);
}

static void io_regbuf_free_work(struct dma_iobuf_work *work)
{
	struct io_regbuf *reg = container_of(work, struct io_regbuf, free_work);

	if (!iosys_map_is_null(&reg->vmap))
		dma_buf_vunmap_unlocked(reg->buf->dmabuf, &reg->vmap);
	dma_iobuf_free(reg->buf, io_regbuf_gone, reg);
}

/* ->uring_lock, or RTNL, may be held, which an exporter must not hold up */
void io_regbuf_free(struct io_regbuf *reg)
{
	io_regbuf_charges_going(reg);
	if (reg->buf)
		dma_iobuf_queue_work(reg->buf, &reg->free_work,
				     io_regbuf_free_work);
	else
		io_regbuf_gone(reg);
}

/*
 * The same of what no slot has, with no lock held: who is not killed finds nothing
 * left of it.
 */
static void io_regbuf_undo(struct io_regbuf *reg)
{
	refcount_inc(&reg->refs);
	io_regbuf_free(reg);
	wait_for_completion_killable(&reg->undone);
	io_regbuf_put(reg);
}

/* one more who has what is in a slot, for longer than that */
void io_regbuf_hold(struct io_regbuf *reg)
{
	refcount_inc(&reg->users);
}

/* in the contexts of io_regbuf_free() */
void io_regbuf_drop(struct io_regbuf *reg)
{
	if (refcount_dec_and_test(&reg->users))
		io_regbuf_free(reg);
}

static void io_regbuf_release(void *priv)
{
	io_regbuf_drop(priv);
}

/* what targets have to go with */
struct io_regbuf_want {
	bool			copy_ok;
	bool			on_demand;
	enum dma_data_direction	dir;
};

static int io_regbuf_resolve_file(struct file *file,
				  const struct io_regbuf_want *want,
				  struct dma_iobuf_set *set)
{
	umode_t mode = file_inode(file)->i_mode;
	int ret;

	if (!file->f_op->dma_targets)
		return -EOPNOTSUPP;
	if ((S_ISBLK(mode) || S_ISREG(mode)) && !(file->f_flags & O_DIRECT))
		return -EINVAL;
	ret = dma_iobuf_set_of_file(file, set);
	/* a card that sends the memory reads it */
	if (!ret && S_ISSOCK(mode) && want->dir == DMA_FROM_DEVICE)
		ret = -EACCES;
	/* no device, or none yet: sends to this socket are copied */
	if (want->copy_ok && S_ISSOCK(mode) &&
	    (ret == -EOPNOTSUPP || ret == -ENOTCONN))
		ret = 0;
	return ret;
}

static int io_regbuf_resolve_fd(int fd, const struct io_regbuf_want *want,
				struct dma_iobuf_set *set)
{
	CLASS(fd, f)(fd);

	if (fd_empty(f))
		return -EBADF;
	return io_regbuf_resolve_file(fd_file(f), want, set);
}

static int io_regbuf_resolve(const struct io_uring_regbuf_desc *desc,
			     const struct io_regbuf_want *want,
			     struct dma_iobuf_set *set,
			     struct io_regbuf_why *why)
{
	__s32 __user *fds = u64_to_user_ptr(desc->targets);
	unsigned int i, known;
	int ret;

	/* -1 is fine as long as there are others, or will be */
	if (desc->target_fd == -1 && !desc->nr_targets && !want->on_demand)
		return io_regbuf_fail(why, IO_REGBUF_STAGE_TARGET, -EBADF,
				      "There is no target: set target_fd, or targets and nr_targets.");
	for (i = 0; i <= desc->nr_targets; i++) {
		__s32 fd = desc->target_fd;

		if (!i && fd == -1)
			continue;
		why->target = i;
		ret = -EFAULT;
		if (i && get_user(fd, &fds[i - 1]))
			goto fail;
		known = set->nr;
		ret = io_regbuf_resolve_fd(fd, want, set);
		if (ret)
			goto fail;
		while (known < set->nr)
			why->fd_of_dev[known++] = i;
	}
	why->target = -1;
	return 0;
fail:
	return io_regbuf_fail(why, IO_REGBUF_STAGE_TARGET, ret, NULL);
}

static const char *io_regbuf_desc_fault(const struct io_uring_regbuf_desc *desc)
{
	const u32 both = IO_REGBUF_DMABUF_RDONLY | IO_REGBUF_DMABUF_WRONLY;

	if (desc->flags & ~IO_REGBUF_DMABUF_FLAGS)
		return "A flag is not known: IO_URING_QUERY_REGBUF tells which are.";
	if ((desc->flags & both) == both)
		return "RDONLY and WRONLY exclude each other.";
	if (desc->flags & IO_REGBUF_DMABUF_PIN &&
	    desc->flags & IO_REGBUF_DMABUF_DROP_IDLE)
		return "PIN and DROP_IDLE exclude each other.";
	if (desc->uaddr || desc->__resv1 ||
	    !mem_is_zero(desc->__resv, sizeof(desc->__resv)))
		return "uaddr and reserved fields have to be 0.";
	if ((desc->dmabuf_off | desc->size) & (DMA_IOBUF_PAGE_SIZE - 1))
		return "dmabuf_off and size have to be multiples of 4096.";
	if (desc->targets && !desc->nr_targets)
		return "There are targets, but nr_targets is 0.";
	return NULL;
}

static int io_regbuf_check_desc(const struct io_uring_regbuf_desc *desc,
				struct io_regbuf_why *why)
{
	const char *fault = io_regbuf_desc_fault(desc);

	if (fault)
		return io_regbuf_fail(why, IO_REGBUF_STAGE_DESCRIPTOR, -EINVAL,
				      fault);
	if (desc->nr_targets > dma_iobuf_max_devs())
		return io_regbuf_fail(why, IO_REGBUF_STAGE_DESCRIPTOR, -E2BIG,
				      "nr_targets is more than max_targets: register for fewer in one slot.");
	return 0;
}

/* DMA must not get at more than the file descriptor allows */
static int io_regbuf_direction(struct file *file, u32 flags)
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
 * Memory that a device owns is no RAM and does not count. The exporter must not
 * be able to move it into RAM later, so it has to be pinned.
 */
bool io_regbuf_in_device(struct dma_iobuf *buf)
{
	unsigned int i, nr = dma_iobuf_nr_att(buf);
	struct dma_iobuf_info info;
	bool pinned = false;

	for (i = 0; i < nr; i++) {
		dma_iobuf_get_info(buf, i, &info);
		switch (info.kind) {
		case DMA_IOBUF_KIND_NONE:
		case DMA_IOBUF_KIND_DEAD:
			break;
		case DMA_IOBUF_KIND_P2P_BUS:
		case DMA_IOBUF_KIND_P2P_HOST:
			pinned |= info.pinned;
			break;
		default:
			return false;
		}
	}
	return pinned;
}

/*
 * An exporter that waits interruptibly when it maps is interrupted by task work,
 * too. That is no reason to fail: do it and come back.
 */
bool io_regbuf_task_work(void)
{
	if (task_sigpending(current) ||
	    (!test_thread_flag(TIF_NOTIFY_SIGNAL) && !task_work_pending(current)))
		return false;
	io_run_task_work();
	return true;
}

/*
 * Make the buffer of @reg, charged. The memory is charged if it has to stay where
 * it is; before it does, as nobody shall lock more than the limit. Where it is,
 * only the mapping tells: a charge that does not fit is none if the core finds
 * memory of a device. Whatever fails, all that was done is in @reg.
 */
static int io_regbuf_make(struct io_regbuf *reg, struct dma_buf *dmabuf,
			  struct dma_iobuf_set *set,
			  enum dma_data_direction dir, unsigned int flags,
			  struct io_regbuf_why *why)
{
	/* what no device has yet is pinned for none */
	bool pin = set->nr && (flags & DMA_IOBUF_PIN ||
			       dma_iobuf_set_need_pin(set));
	struct dma_iobuf *buf;
	int charged = 0, ret;

	/* a mapping for the CPU pins, too; the first copy makes it */
	if (pin || reg->flags & IO_REGBUF_DMABUF_COPY_OK)
		charged = io_regbuf_charge_mem(reg, dmabuf, why);
	if (charged && (charged != -ENOMEM || !pin))
		return charged;
	if (charged)
		flags |= DMA_IOBUF_DEVICE_MEM;

	buf = dma_iobuf_create(dmabuf, dir, flags);
	if (IS_ERR(buf))
		return io_regbuf_fail(why, IO_REGBUF_STAGE_TABLE, PTR_ERR(buf),
				      NULL);
	reg->buf = buf;
	do {
		ret = dma_iobuf_attach(buf, set, &why->core);
	} while (ret == -EINTR && io_regbuf_task_work());
	/* RAM after all, and the limit is what is in the way */
	if (charged && ret == -ENOMEM &&
	    why->core.stage == DMA_IOBUF_STAGE_ADDRESS)
		return ret;
	if (ret)
		return io_regbuf_fail_core(why, ret);
	if (io_regbuf_in_device(buf))
		io_regbuf_uncharge_mem(reg);
	else if (charged)
		return charged;
	return io_regbuf_charge_tables(reg, buf, why);
}

/* everything that may wait for an exporter; no lock is held */
static int io_regbuf_create(struct io_regbuf *reg, struct dma_buf *dmabuf,
			    const struct io_uring_regbuf_desc *desc, int dir,
			    struct io_regbuf_why *why)
{
	struct io_regbuf_want want = {
		.copy_ok	= desc->flags & IO_REGBUF_DMABUF_COPY_OK,
		.on_demand	= desc->flags & IO_REGBUF_DMABUF_ON_DEMAND,
		.dir		= dir,
	};
	struct dma_iobuf_set *set __free(dma_iobuf_set) = dma_iobuf_set_alloc();
	unsigned int flags = 0;
	int ret;

	if (!set)
		return io_regbuf_fail(why, IO_REGBUF_STAGE_TABLE, -ENOMEM, NULL);

	if (desc->flags & IO_REGBUF_DMABUF_REQUIRE_P2P)
		flags |= DMA_IOBUF_REQUIRE_P2P;
	if (desc->flags & IO_REGBUF_DMABUF_PIN)
		flags |= DMA_IOBUF_PIN;
	if (desc->flags & IO_REGBUF_DMABUF_ON_DEMAND)
		flags |= DMA_IOBUF_EVICT;
	if (desc->flags & IO_REGBUF_DMABUF_DROP_IDLE)
		flags |= DMA_IOBUF_DROP;

	ret = io_regbuf_resolve(desc, &want, set, why);
	if (!ret)
		ret = io_regbuf_make(reg, dmabuf, set, dir, flags, why);
	return ret;
}

static struct io_rsrc_node *io_regbuf_node(struct io_ring_ctx *ctx,
					   struct io_regbuf *reg, u64 size)
{
	unsigned int first = reg->off >> DMA_IOBUF_WIN_SHIFT;
	unsigned int last = (reg->off + size - 1) >> DMA_IOBUF_WIN_SHIFT;
	u64 off = reg->off & (DMA_IOBUF_WIN_SIZE - 1);
	struct dma_iobuf *buf = reg->buf;
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
	imu->release = io_regbuf_release;
	imu->priv = reg;
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

/* the part of a dma-buf that a descriptor names: its size; or 0 */
static u64 io_regbuf_part(const struct dma_buf *dmabuf,
			  const struct io_uring_regbuf_desc *desc)
{
	u64 size = desc->size, end;

	if (!size && desc->dmabuf_off < dmabuf->size)
		size = dmabuf->size - desc->dmabuf_off;
	if (check_add_overflow(desc->dmabuf_off, size, &end) ||
	    end > dmabuf->size || end > IO_REGBUF_MAX_SIZE ||
	    (size_t)size != size)
		return 0;
	return size;
}

static struct io_regbuf *io_regbuf_alloc(u64 off, u32 flags)
{
	struct io_regbuf *reg = kzalloc_obj(*reg, GFP_KERNEL_ACCOUNT);

	if (!reg)
		return NULL;
	refcount_set(&reg->refs, 1);
	refcount_set(&reg->users, 1);
	init_completion(&reg->undone);
	mutex_init(&reg->targets_lock);
	mutex_init(&reg->vmap_lock);
	reg->off = off;
	reg->flags = flags;
	return reg;
}

static struct io_regbuf *
io_regbuf_alloc_charged(struct io_ring_ctx *ctx,
			const struct io_uring_regbuf_desc *desc)
{
	struct io_regbuf *reg = io_regbuf_alloc(desc->dmabuf_off, desc->flags);

	if (!reg)
		return NULL;
	reg->user = io_regbuf_user_get(ctx->user);
	if (IS_ERR(reg->user)) {
		kfree(reg);
		return NULL;
	}
	return reg;
}

static struct io_rsrc_node *
io_regbuf_register_buf(struct io_ring_ctx *ctx, struct dma_buf *dmabuf,
		       const struct io_uring_regbuf_desc *desc,
		       struct io_regbuf_why *why)
{
	u64 size = io_regbuf_part(dmabuf, desc);
	struct io_rsrc_node *node;
	struct io_regbuf *reg;
	int ret, dir;

	if (!size) {
		ret = io_regbuf_fail(why, IO_REGBUF_STAGE_DESCRIPTOR, -EINVAL,
				     "The part is not inside the dma-buf, or ends beyond max_size.");
		return ERR_PTR(ret);
	}
	dir = io_regbuf_direction(dmabuf->file, desc->flags);
	if (dir < 0)
		return ERR_PTR(io_regbuf_fail(why, IO_REGBUF_STAGE_FD, dir,
					      NULL));
	reg = io_regbuf_alloc_charged(ctx, desc);
	if (!reg)
		return ERR_PTR(io_regbuf_fail(why, IO_REGBUF_STAGE_TABLE,
					      -ENOMEM, NULL));

	mutex_unlock(&ctx->uring_lock);
	ret = io_regbuf_create(reg, dmabuf, desc, dir, why);
	if (ret)
		io_regbuf_undo(reg);
	mutex_lock(&ctx->uring_lock);
	if (ret)
		return ERR_PTR(ret);

	node = io_regbuf_node(ctx, reg, size);
	if (IS_ERR(node)) {
		io_regbuf_fail(why, IO_REGBUF_STAGE_TABLE, PTR_ERR(node), NULL);
		io_regbuf_free(reg);
	}
	return node;
}

/*
 * Make a dma-buf a node for the buffer table. ->uring_lock is dropped for as
 * long as an exporter may have to be waited for.
 */
struct io_rsrc_node *
io_regbuf_register_dmabuf(struct io_ring_ctx *ctx,
			  const struct io_uring_regbuf_desc *desc,
			  struct io_regbuf_why *why)
{
	struct io_rsrc_node *node;
	struct dma_buf *dmabuf;
	int ret;

	lockdep_assert_held(&ctx->uring_lock);

	ret = io_regbuf_check_desc(desc, why);
	if (ret)
		return ERR_PTR(ret);
	dmabuf = dma_buf_get(desc->dmabuf_fd);
	if (IS_ERR(dmabuf))
		return ERR_PTR(io_regbuf_fail(why, IO_REGBUF_STAGE_FD,
					      PTR_ERR(dmabuf), NULL));
	strscpy(why->exporter, dmabuf->exp_name);
	node = io_regbuf_register_buf(ctx, dmabuf, desc, why);
	dma_buf_put(dmabuf);
	return node;
}

/* the devices of @set that @buf does not have */
static void io_regbuf_new_targets(struct dma_iobuf *buf,
				  const struct dma_iobuf_set *set,
				  struct dma_iobuf_set *new,
				  struct io_regbuf_why *why)
{
	unsigned int i;

	for (i = 0; i < set->nr; i++) {
		if (dma_iobuf_has_target(buf, set->dev[i]))
			continue;
		why->fd_of_dev[new->nr] = why->fd_of_dev[i];
		/* there is room, and none is twice in @set */
		dma_iobuf_set_add(new, set->dev[i]);
	}
	for (i = 0; i < set->nr_disks; i++)
		dma_iobuf_set_add_disk(new, set->disk[i]);
}

/*
 * @new has the attachments of @set, which are shared, and what they cost, which moves. What
 * makes room for them is @new's, until that is gone, with what it costs.
 */
static int io_regbuf_take_targets(struct io_regbuf *reg, struct io_regbuf *new,
				  const struct dma_iobuf_set *set,
				  struct io_regbuf_why *why)
{
	struct io_regbuf_charge **all __free(kfree) =
		kcalloc(2 * DMA_IOBUF_MAX_DEVS, sizeof(*all), GFP_KERNEL);
	int ret = -ENOMEM;

	guard(mutex)(&reg->targets_lock);
	if (all)
		ret = dma_iobuf_share(reg->buf, new->buf, set);
	if (ret == -ENOMEM)
		return io_regbuf_fail(why, IO_REGBUF_STAGE_TABLE, ret, NULL);
	if (ret) {
		why->core.stage = DMA_IOBUF_STAGE_DEVICE;
		return io_regbuf_fail_core(why, ret);
	}
	io_regbuf_charges_move(reg, new, all);
	return 0;
}

/*
 * Add targets, charged like those of a new buffer: one is made for them, and
 * shares its attachments. So nobody who adds others waits for this exporter,
 * and nothing has to be taken away again if a charge does not fit. @missing are those
 * of @set that it does not have.
 */
static int io_regbuf_attach(struct io_regbuf *reg,
			    const struct dma_iobuf_set *set,
			    struct dma_iobuf_set *missing,
			    struct io_regbuf_why *why)
{
	struct io_regbuf *new = io_regbuf_alloc(0, reg->flags);
	int ret = 0;

	if (!new)
		return io_regbuf_fail(why, IO_REGBUF_STAGE_TABLE, -ENOMEM, NULL);
	new->user = io_regbuf_user_hold(reg->user);
	/* else only a disk is new: nothing is attached, nothing costs */
	if (missing->nr)
		ret = io_regbuf_make(new, reg->buf->dmabuf, missing,
				     reg->buf->dir, reg->buf->flags, why);
	if (!ret)
		ret = io_regbuf_take_targets(reg, new, set, why);
	if (ret)
		io_regbuf_undo(new);
	else
		io_regbuf_free(new);
	return ret;
}

/*
 * A buffer for what is not in a slot: from @off of @from on, with the devices of @set
 * and no others. What is mapped and charged it shares, and it needs @from no longer.
 */
struct io_regbuf *io_regbuf_create_part(const struct io_regbuf *from, u64 off,
					struct dma_iobuf_set *set)
{
	unsigned int flags = from->buf->flags & DMA_IOBUF_REQUIRE_P2P;
	struct io_regbuf_why why = { };
	struct io_regbuf *reg;
	int ret;

	reg = io_regbuf_alloc(from->off + off, 0);
	if (!reg)
		return ERR_PTR(-ENOMEM);
	reg->user = io_regbuf_user_hold(from->user);
	ret = io_regbuf_make(reg, from->buf->dmabuf, set, from->buf->dir, flags,
			     &why);
	if (!ret)
		return reg;
	io_regbuf_undo(reg);
	return ERR_PTR(ret);
}

/*
 * Add targets to the dma-buf in a slot. As above, ->uring_lock is dropped, and
 * the slot may be cleared meanwhile.
 */
int io_regbuf_add_targets(struct io_ring_ctx *ctx,
			  const struct io_uring_regbuf_desc *desc,
			  struct io_rsrc_node *old, u64 tag,
			  struct io_regbuf_why *why)
{
	struct dma_iobuf_set *set __free(dma_iobuf_set) = dma_iobuf_set_alloc();
	struct dma_iobuf_set *new __free(dma_iobuf_set) = dma_iobuf_set_alloc();
	struct io_regbuf_want want = { };
	struct io_regbuf *reg;
	int ret;

	lockdep_assert_held(&ctx->uring_lock);

	ret = io_regbuf_check_desc(desc, why);
	if (ret)
		return ret;
	if (desc->flags != IO_REGBUF_DMABUF_ADD_TARGETS || desc->size ||
	    desc->dmabuf_off || desc->dmabuf_fd != -1)
		return io_regbuf_fail(why, IO_REGBUF_STAGE_DESCRIPTOR, -EINVAL,
				      "ADD_TARGETS takes targets only: dmabuf_fd is -1, other flags and fields are 0.");
	if (tag)
		return io_regbuf_fail(why, IO_REGBUF_STAGE_DESCRIPTOR, -EINVAL,
				      "ADD_TARGETS makes no buffer that a tag could belong to.");
	if (!old || !(old->buf->flags & IO_REGBUF_F_DMABUF))
		return io_regbuf_fail(why, IO_REGBUF_STAGE_DESCRIPTOR, -EINVAL,
				      "The slot has no dma-buf that targets could be added to.");
	reg = old->buf->priv;
	want.copy_ok = reg->flags & IO_REGBUF_DMABUF_COPY_OK;
	want.dir = reg->buf->dir;
	strscpy(why->exporter, reg->buf->dmabuf->exp_name);
	if (!set || !new)
		return io_regbuf_fail(why, IO_REGBUF_STAGE_TABLE, -ENOMEM, NULL);

	old->refs++;
	mutex_unlock(&ctx->uring_lock);
	ret = io_regbuf_resolve(desc, &want, set, why);
	if (!ret)
		io_regbuf_new_targets(reg->buf, set, new, why);
	if (new->nr || new->nr_disks)
		ret = io_regbuf_attach(reg, set, new, why);
	mutex_lock(&ctx->uring_lock);
	io_put_rsrc_node(ctx, old);
	return ret;
}

/* @gone: a device has gone meanwhile, and those that are left may do */
static int io_regbuf_demand_once(struct io_regbuf *reg, struct file *file,
				 bool *gone)
{
	const struct io_regbuf_want want = { .dir = reg->buf->dir };
	struct dma_iobuf_set *set __free(dma_iobuf_set) = dma_iobuf_set_alloc();
	struct dma_iobuf_set *new __free(dma_iobuf_set) = dma_iobuf_set_alloc();
	struct io_regbuf_why why = { };
	int ret;

	*gone = false;
	if (!set || !new)
		return -ENOMEM;
	ret = io_regbuf_resolve_file(file, &want, set);
	if (!ret && dma_iobuf_set_drop_dead(set) && !set->nr)
		ret = -ENODEV;
	if (!ret) {
		io_regbuf_new_targets(reg->buf, set, new, &why);
		if (new->nr || new->nr_disks)
			ret = io_regbuf_attach(reg, set, new, &why);
		*gone = ret == -ENODEV && dma_iobuf_set_drop_dead(new);
	}
	return ret;
}

/*
 * The first I/O to a file: make its devices targets, as ADD_TARGETS would. 1: they are,
 * or were made by somebody else meanwhile; 0: it has no device for now, as a disk whose
 * paths are gone; or an error, whose reason ADD_TARGETS tells.
 */
int io_regbuf_demand(struct io_regbuf *reg, struct file *file)
{
	bool gone;
	int ret;

	/* nobody has named them: the paths that are there are all that is wanted */
	do {
		ret = io_regbuf_demand_once(reg, file, &gone);
	} while (gone);
	if (ret == -ENXIO)
		return 0;
	return ret ?: 1;
}

/* ---- I/O ---- */

/* the device was the wrong one */
#define IO_REGBUF_RETARGET	(REQ_F_DMABUF_RETARGET | REQ_F_DMABUF_GONE)

static int io_regbuf_prepare(struct io_kiocb *req)
{
	struct io_regbuf *reg = req->buf_node->buf->priv;
	int ret;

	ret = __dma_iobuf_prepare(reg->buf, req->file,
				  req->flags & IO_REGBUF_RETARGET);
	if (!(reg->flags & IO_REGBUF_DMABUF_ON_DEMAND))
		return ret;
	if (ret == -EBADF)
		ret = io_regbuf_demand(reg, req->file);
	/* it is a target now, whoever did that, and may give way before the I/O is there */
	if (!ret)
		req->flags &= ~REQ_F_DMABUF_RETARGET;
	return ret;
}

/*
 * Map before issuing, for requests that came back because a mapping was missing.
 * The exporter may have to be waited for, which a worker does.
 */
static int io_regbuf_map(struct io_kiocb *req, bool nowait)
{
	int ret;

	if (likely(!(req->flags & REQ_F_DMABUF_MAP)))
		return 0;
	if (nowait)
		return -EAGAIN;
	req->flags &= ~REQ_F_DMABUF_MAP;
	do {
		ret = io_regbuf_prepare(req);
	} while (ret == -EINTR && io_regbuf_task_work());
	/* a device more: what is tried once can be tried again */
	if (ret > 0) {
		req->flags &= ~IO_REGBUF_RETARGET;
		ret = 0;
	}
	/* hybrid polling is about the device's time, not the exporter's */
	if ((req->flags & REQ_F_IOPOLL) &&
	    (req->ctx->flags & IORING_SETUP_HYBRID_IOPOLL))
		req->iopoll_start = ktime_get_ns();
	return ret;
}

/*
 * Is @res of a kind that mapping, or attaching to a device, could cure? A device
 * that is gone, and then one that is new, can both be in the way of one request.
 */
static bool io_regbuf_may_map(struct io_kiocb *req, long res)
{
	switch (res) {
	case -EAGAIN:
		break;
	case -EBADF:
		if (req->flags & REQ_F_DMABUF_RETARGET)
			return false;
		req->flags |= REQ_F_DMABUF_RETARGET;
		break;
	case -ENODEV:
		if (req->flags & REQ_F_DMABUF_GONE)
			return false;
		req->flags |= REQ_F_DMABUF_GONE;
		break;
	default:
		return false;
	}
	req->flags |= REQ_F_DMABUF_MAP;
	return true;
}

/**
 * io_regbuf_should_reissue - is a read or write to be issued again
 * @req:	the request, on an ITER_DMABUF
 * @kiocb:	its kiocb
 * @res:	what it is about to end with, negative
 *
 * The mapping may go away at any time, and it takes a worker to map again: also
 * for a request that a worker has issued. A device that was no target may be a
 * new one of a disk that is; that is tried once for each new device.
 */
bool io_regbuf_should_reissue(struct io_kiocb *req, const struct kiocb *kiocb,
			      long res)
{
	/* what it gave from blocking context it would give again */
	if (res == -EOPNOTSUPP)
		return kiocb->ki_flags & IOCB_NOWAIT;
	return io_regbuf_may_map(req, res);
}

/* of the disk that a file's data is on; 0: there is none */
static u64 io_regbuf_diskseq(struct file *file)
{
#ifdef CONFIG_BLOCK
	struct inode *inode = file->f_mapping->host;
	struct block_device *bdev = inode->i_sb->s_bdev;

	if (S_ISBLK(inode->i_mode))
		bdev = I_BDEV(inode);
	return bdev ? bdev->bd_disk->diskseq : 0;
#else
	return 0;
#endif
}

/**
 * io_regbuf_nowait_errno - how a request that must not wait ends
 * @req:	a read or write of a file with RWF_NOWAIT, on an ITER_DMABUF
 * @err:	what it is about to end with
 *
 * Where others would have waited for their device to be attached, all that is known is
 * that this one did not.
 *
 * Context: any.
 * Return: -EAGAIN then, otherwise @err.
 */
int io_regbuf_nowait_errno(struct io_kiocb *req, int err)
{
	const struct io_regbuf *reg = req->buf_node->buf->priv;
	u64 disk;

	if (err != -EBADF)
		return err;
	if (reg->flags & IO_REGBUF_DMABUF_ON_DEMAND)
		return -EAGAIN;
	disk = io_regbuf_diskseq(req->file);
	return disk && dma_iobuf_has_disk(reg->buf, disk) ? -EAGAIN : err;
}

/*
 * Drives and MD split what does not fit a chunk, which takes memory that may have to be
 * waited for. They would say so, after all has been made ready. Device mapper has a chunk, too,
 * and splits at once.
 */
static bool io_regbuf_is_split(struct io_kiocb *req, const struct kiocb *kiocb)
{
#ifdef CONFIG_BLOCK
	struct inode *inode = req->file->f_mapping->host;
	const struct queue_limits *lim;
	struct block_device *bdev;
	sector_t sector;
	u64 left;

	if (!S_ISBLK(inode->i_mode) || kiocb->ki_pos < 0)
		return false;
	bdev = I_BDEV(inode);
	lim = bdev_limits(bdev);
	if (!lim->chunk_sectors)
		return false;
	if (!queue_is_mq(bdev_get_queue(bdev)) &&
	    bdev->bd_disk->major != MD_MAJOR)
		return false;
	sector = bdev->bd_start_sect + (kiocb->ki_pos >> SECTOR_SHIFT);
	left = blk_boundary_sectors_left(sector, lim->chunk_sectors);
	return req->cqe.res > left << SECTOR_SHIFT;
#else
	return false;
#endif
}

/**
 * io_regbuf_prep_rw - before ->read_iter() or ->write_iter() with ITER_DMABUF
 * @req:	the request
 * @kiocb:	its kiocb, with IOCB_NOWAIT set up
 *
 * Return: 0, -EAGAIN to come back from blocking context, or the error to
 * complete the request with.
 */
int io_regbuf_prep_rw(struct io_kiocb *req, struct kiocb *kiocb)
{
	if (unlikely(!req->file->f_op->dma_targets))
		return -EBADF;
	if (unlikely(!(kiocb->ki_flags & IOCB_DIRECT)))
		return -EINVAL;
	/* a slot may serve a file whose directory or mount is DAX by now */
	if (unlikely(IS_DAX(file_inode(req->file))))
		return -EBADF;
	if (unlikely(kiocb->ki_flags & IOCB_HIPRI)) {
		/*
		 * Polling takes ->private for the bio, with metadata it is the
		 * uio_meta: say what block devices say to the two together.
		 */
		if (kiocb->ki_flags & IOCB_HAS_METADATA)
			return -EOPNOTSUPP;
		/*
		 * An exporter that moves the memory, or the device going away,
		 * waits for the command. It must not depend on the application
		 * to poll.
		 */
		kiocb->ki_flags &= ~IOCB_HIPRI;
	}
	if (kiocb->ki_flags & IOCB_NOWAIT && req->cqe.res > DMA_IOBUF_PAGE_SIZE &&
	    io_regbuf_is_split(req, kiocb))
		return -EAGAIN;
	return io_regbuf_map(req, kiocb->ki_flags & IOCB_NOWAIT);
}

/**
 * io_regbuf_end_errno - a read met the end, or a write met a full device
 * @req:	the request
 * @ret:	0 or -ENOSPC
 *
 * A block device that was removed has no capacity any more, before its driver
 * is through with it. Say what happened.
 */
int io_regbuf_end_errno(struct io_kiocb *req, int ret)
{
	if (req->cqe.res && S_ISBLK(file_inode(req->file)->i_mode) &&
	    !i_size_read(req->file->f_mapping->host))
		return -ENODEV;
	return ret;
}

/**
 * io_regbuf_copy_sqe - before a driver is given a command that names a slot
 * @req:	the request
 * @issue_flags: IO_URING_F_*
 *
 * The application may write to the ring's SQE while it is issued, and may reuse
 * it before it is issued again. If the slot holds a dma-buf, what the driver
 * gets to see has to be the same each time, because a vector is imported once.
 */
void io_regbuf_copy_sqe(struct io_kiocb *req, unsigned int issue_flags)
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
 * io_regbuf_prep_cmd - before ->uring_cmd()
 * @req:	the request
 * @issue_flags: IO_URING_F_*
 *
 * Drivers hold locks when they import the buffer, and whoever wants these would
 * wait for the exporter, too.
 *
 * Return: see io_regbuf_prep_rw().
 */
int io_regbuf_prep_cmd(struct io_kiocb *req, unsigned int issue_flags)
{
	return io_regbuf_map(req, issue_flags & IO_URING_F_NONBLOCK);
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

	if (!(ioucmd->flags & IORING_URING_CMD_FIXED) ||
	    !(req->flags & REQ_F_BUF_NODE) ||
	    !(req->buf_node->buf->flags & IO_REGBUF_F_DMABUF))
		return false;
	if (percpu_ref_is_dying(&req->ctx->refs) ||
	    !io_regbuf_may_map(req, ret))
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

static const char * const io_regbuf_state[] = {
	[IO_REGBUF_MAP_NONE]		= "none",
	[IO_REGBUF_MAP_SYSTEM]		= "system",
	[IO_REGBUF_MAP_P2P_BUS]		= "p2p-bus",
	[IO_REGBUF_MAP_P2P_HOST]	= "p2p-host",
	[IO_REGBUF_MAP_MIXED]		= "mixed",
	[IO_REGBUF_MAP_DEAD]		= "dead",
};

int io_regbuf_query_map(struct io_mapped_ubuf *imu,
			struct io_uring_query_regbuf_map *q)
{
	struct io_regbuf *reg = imu->priv;
	struct dma_iobuf_info info;
	unsigned int nr = dma_iobuf_nr_att(reg->buf);

	/* one is the ABI, the other the kernel's */
	BUILD_BUG_ON(IO_REGBUF_MAP_NONE != (int)DMA_IOBUF_KIND_NONE);
	BUILD_BUG_ON(IO_REGBUF_MAP_SYSTEM != (int)DMA_IOBUF_KIND_SYSTEM);
	BUILD_BUG_ON(IO_REGBUF_MAP_P2P_BUS != (int)DMA_IOBUF_KIND_P2P_BUS);
	BUILD_BUG_ON(IO_REGBUF_MAP_P2P_HOST != (int)DMA_IOBUF_KIND_P2P_HOST);
	BUILD_BUG_ON(IO_REGBUF_MAP_MIXED != (int)DMA_IOBUF_KIND_MIXED);
	BUILD_BUG_ON(IO_REGBUF_MAP_DEAD != (int)DMA_IOBUF_KIND_DEAD);
	BUILD_BUG_ON(sizeof(q->device) != sizeof(info.dev_name));
	/* what the first version of it ends with; older programs have no more */
	BUILD_BUG_ON(offsetofend(struct io_uring_query_regbuf_map, device) != 136);

	if (!nr && !q->target) {
		/* registered for sockets that only copy */
		memset(&info, 0, sizeof(info));
	} else {
		if (q->target >= nr)
			return -EINVAL;
		dma_iobuf_get_info(reg->buf, array_index_nospec(q->target, nr),
				   &info);
	}
	q->nr_targets = nr;
	q->type = IO_REGBUF_TYPE_DMABUF;
	q->flags = reg->flags & ~IO_REGBUF_DMABUF_PIN;
	if (info.pinned && reg->buf->dmabuf->ops->pin)
		q->flags |= IO_REGBUF_DMABUF_PIN;
	if (!(imu->dir & IO_BUF_DEST))
		q->flags |= IO_REGBUF_DMABUF_RDONLY;
	if (!(imu->dir & IO_BUF_SOURCE))
		q->flags |= IO_REGBUF_DMABUF_WRONLY;
	q->state = info.kind;
	q->dmabuf_off = reg->off;
	q->size = imu->len;
	q->granule = info.granule;
	q->entries = info.entries;
	q->table_bytes = info.table_bytes;
	q->hits = info.hits;
	q->maps = info.maps;
	q->invalidations = info.invals;
	q->drops = info.drops;
	q->copied_bytes = atomic64_read(&reg->copied);
	q->peer2peer = info.peer2peer;
	strscpy(q->exporter, reg->buf->dmabuf->exp_name);
	memcpy(q->device, info.dev_name, sizeof(q->device));
	return 0;
}

void io_regbuf_show_fdinfo(struct io_mapped_ubuf *imu, struct seq_file *m)
{
	struct io_regbuf *reg = imu->priv;
	unsigned int i, nr = dma_iobuf_nr_att(reg->buf);
	struct dma_iobuf_info info;

	for (i = 0; i < nr; i++) {
		dma_iobuf_get_info(reg->buf, i, &info);
		seq_printf(m,
			   "       dmabuf: off:%llu dir:%s%s target:%u dev:%s state:%s granule:%llu entries:%llu bytes:%llu hits:%llu maps:%llu invalidations:%llu drops:%llu exporter:%s peer2peer:%d\n",
			   reg->off, imu->dir & IO_BUF_SOURCE ? "r" : "",
			   imu->dir & IO_BUF_DEST ? "w" : "", i, info.dev_name,
			   io_regbuf_state[info.kind], info.granule,
			   info.entries, info.table_bytes, info.hits, info.maps,
			   info.invals, info.drops,
			   reg->buf->dmabuf->exp_name,
			   info.peer2peer);
		cond_resched();
	}
	if (reg->flags & IO_REGBUF_DMABUF_COPY_OK)
		seq_printf(m, "       dmabuf: copied:%lld\n",
			   atomic64_read(&reg->copied));
}
