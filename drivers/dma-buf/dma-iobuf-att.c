// SPDX-License-Identifier: GPL-2.0
/*
 * What one device needs to reach one dma-buf: the attachment, and its mapping for as
 * long as the exporter leaves the memory where it is. See dma-iobuf.c, for the order
 * of the locks, too.
 */
#include <linux/dma-iobuf.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "dma-iobuf-internal.h"

/* ---- mappings ---- */

static void dma_iobuf_map_free_rcu(struct rcu_head *rcu)
{
	struct dma_iobuf_map *map = container_of(rcu, struct dma_iobuf_map, rcu);

	percpu_ref_exit(&map->ref);
	kvfree(map);
}

/* the last command is done; may be hardirq context: no locks, no dma_resv */
static void dma_iobuf_map_idle(struct percpu_ref *ref)
{
	complete(&container_of(ref, struct dma_iobuf_map, ref)->idle);
}

/*
 * Take the current mapping away and leave @next in its place. Commands that have it go
 * on; when they are done it can be unmapped, which whoever finds that does.
 */
void dma_iobuf_att_park(struct dma_iobuf_att *att, void *next)
{
	struct dma_iobuf_map *map;

	dma_resv_assert_held(att->dmabuf->resv);
	if (att->pending) {
		dma_buf_unmap_attachment(att->attach, att->pending, att->dir);
		att->pending = NULL;
	}
	map = rcu_dereference_protected(att->map, true);
	rcu_assign_pointer(att->map, next);
	if (IS_ERR_OR_NULL(map))
		return;
	if (att->idev->ops)
		att->idev->ops->unmap(att);
	WRITE_ONCE(att->parked, map);
	percpu_ref_kill(&map->ref);
}

/* Unmap what was taken away, if commands are through with it: is nothing left? */
bool dma_iobuf_att_reap(struct dma_iobuf_att *att)
{
	struct dma_iobuf_map *map = att->parked;

	dma_resv_assert_held(att->dmabuf->resv);
	if (!map)
		return true;
	if (!completion_done(&map->idle))
		return false;
	WRITE_ONCE(att->parked, NULL);
	dma_iobuf_remap_destroy(att->idev->dev, map->remap, att->dir);
	dma_buf_unmap_attachment(att->attach, map->sgt, att->dir);
	call_rcu(&map->rcu, dma_iobuf_map_free_rcu);
	return true;
}

/*
 * The mapping that nobody seemed to use has commands that take their time, and somebody
 * wants one: it is as good as it was. If the exporter had asked for it, it would be gone.
 * False: the last of these commands is done just now.
 */
static bool dma_iobuf_att_revive(struct dma_iobuf_att *att)
{
	struct dma_iobuf_map *map = att->parked;

	dma_resv_assert_held(att->dmabuf->resv);
	/* with a reference, nobody finds it idle meanwhile */
	if (!percpu_ref_tryget(&map->ref))
		return false;
	percpu_ref_resurrect(&map->ref);
	percpu_ref_put(&map->ref);
	WRITE_ONCE(att->parked, NULL);
	rcu_assign_pointer(att->map, map);
	dma_iobuf_drop_mapped(att);
	return true;
}

/*
 * Reap, and wait for the commands: for the hardware only, so that the time is bounded by
 * the device's own timeout and reset handling. When this returns the device no longer
 * touches the memory.
 */
static void dma_iobuf_att_finish(struct dma_iobuf_att *att)
{
	while (!dma_iobuf_att_reap(att)) {
		if (wait_for_completion_timeout(&att->parked->idle, 60 * HZ))
			complete(&att->parked->idle);
		else
			dev_warn(att->idev->dev,
				 "dma-buf: commands still running after 60 s\n");
	}
}

static void dma_iobuf_att_unmap(struct dma_iobuf_att *att, void *next)
{
	dma_iobuf_att_park(att, next);
	dma_iobuf_att_finish(att);
}

static void dma_iobuf_invalidate(struct dma_buf_attachment *attach)
{
	struct dma_iobuf_att *att = attach->importer_priv;
	struct dma_iobuf_map *map;

	dma_resv_assert_held(att->dmabuf->resv);
	map = rcu_dereference_protected(att->map, true);
	/* of one that ends, commands may be left: dma_iobuf_att_wait_parked() */
	if (IS_ERR_OR_NULL(map) && !att->pending && !att->parked)
		return;
	WRITE_ONCE(att->nr_invals, att->nr_invals + 1);
	/* what is dead stays dead */
	dma_iobuf_att_unmap(att, IS_ERR(map) ? map : NULL);
}

static const struct dma_buf_attach_ops dma_iobuf_attach_ops = {
	.allow_peer2peer	= true,
	.invalidate_mappings	= dma_iobuf_invalidate,
};

/*
 * For a device that cannot be waited for, the truth: no way to take the memory
 * back. An exporter that may want to sees it (dma_buf_attach_revocable()), and
 * refuses.
 */
static const struct dma_buf_attach_ops dma_iobuf_attach_pinned_ops = {
	.allow_peer2peer	= true,
};

/*
 * A reservation lock may be held for as long as somebody likes, so that whoever
 * waits has to be killable. What else interrupts, TIF_NOTIFY_SIGNAL of io_uring's
 * workers above all, is no reason to give up.
 */
int dma_iobuf_resv_lock(struct dma_resv *resv)
{
	if (!dma_resv_lock_interruptible(resv, NULL))
		return 0;
	while (!dma_resv_trylock(resv)) {
		if (fatal_signal_pending(current))
			return -EINTR;
		schedule_timeout_uninterruptible(1);
	}
	return 0;
}

/* the exporter's own work on the memory, a clear or a move, is done */
static bool dma_iobuf_exporter_done(struct dma_buf *dmabuf)
{
	return dma_resv_test_signaled(dmabuf->resv, DMA_RESV_USAGE_KERNEL);
}

/* @why may be NULL, here and below */
static void dma_iobuf_why(struct dma_iobuf_reason *why,
			  enum dma_iobuf_stage stage, int exporter_errno)
{
	if (!why)
		return;
	why->stage = stage;
	why->exporter_errno = exporter_errno;
}

void dma_iobuf_why_device(struct dma_iobuf_reason *why,
			  const struct dma_iobuf_dev *idev, unsigned int idx)
{
	if (!why)
		return;
	dma_iobuf_why(why, DMA_IOBUF_STAGE_DEVICE, 0);
	strscpy(why->device, dev_name(idev->dev));
	why->idx = idx;
}

static struct dma_iobuf_map *dma_iobuf_map_build(struct dma_iobuf_att *att,
						 struct sg_table *sgt,
						 struct dma_iobuf_reason *why)
{
	/* where each byte is: once, and whenever it is asked for */
	bool all = !att->nr_maps || att->flags & DMA_IOBUF_REQUIRE_P2P;
	struct dma_iobuf_remap *remap = NULL;
	struct sg_table *exported = sgt;
	struct dma_iobuf_map *map;
	bool untranslated;
	int kind, ret;

	dma_iobuf_why(why, DMA_IOBUF_STAGE_ADDRESS, 0);
	kind = dma_iobuf_mapping_kind(att->idev->dev, sgt, all, &untranslated);
	if (kind < 0)
		return ERR_PTR(kind);
	if (why)
		why->kind = kind;
	/* addresses of peer memory from who knows that they cannot be reached */
	if (kind != DMA_IOBUF_KIND_SYSTEM && !att->attach->peer2peer)
		return ERR_PTR(-EREMOTEIO);
	if ((att->flags & DMA_IOBUF_REQUIRE_P2P) &&
	    kind != DMA_IOBUF_KIND_P2P_BUS && kind != DMA_IOBUF_KIND_P2P_HOST)
		return ERR_PTR(-EREMOTEIO);
	if (untranslated) {
		remap = dma_iobuf_remap_create(att->idev->dev, sgt, att->dir);
		if (IS_ERR(remap))
			return ERR_CAST(remap);
		sgt = dma_iobuf_remap_sgt(remap);
	}

	dma_iobuf_why(why, DMA_IOBUF_STAGE_TABLE, 0);
	map = dma_iobuf_table_alloc(sgt, att->dmabuf->size);
	if (IS_ERR(map)) {
		ret = PTR_ERR(map);
		goto err_unmap;
	}
	ret = percpu_ref_init(&map->ref, dma_iobuf_map_idle,
			      att->drop ? PERCPU_REF_ALLOW_REINIT : 0,
			      GFP_KERNEL_ACCOUNT);
	if (ret)
		goto err_free;
	init_completion(&map->idle);
	map->kind = kind;
	map->sgt = exported;
	map->remap = remap;
	return map;

err_free:
	kvfree(map);
err_unmap:
	dma_iobuf_remap_destroy(att->idev->dev, remap, att->dir);
	return ERR_PTR(ret);
}

/*
 * What user space may hear. -EAGAIN means "once more from blocking context" to
 * the callers; above EHWPOISON are numbers that never leave the kernel. -EIO of
 * dma_map_sgtable() says nothing: for a device that bounces it is that its bounce
 * buffers are too small, and they could not be used anyway.
 */
static int dma_iobuf_exporter_error(const struct dma_iobuf_att *att, int err)
{
	switch (err) {
	case -EIO:
		return dma_max_mapping_size(att->idev->dev) == SIZE_MAX ?
			err : -EOPNOTSUPP;
	case -EAGAIN:
	case -EPROBE_DEFER:
	case -EJUKEBOX:
		return -EBUSY;
	case -ERESTARTSYS:
	case -ERESTARTNOINTR:
	case -ERESTARTNOHAND:
	case -ERESTART_RESTARTBLOCK:
		return -EINTR;
	case -ENOTSUPP:
	case -ENOIOCTLCMD:
		return -EOPNOTSUPP;
	default:
		return err < -EHWPOISON ? -EIO : err;
	}
}

static int dma_iobuf_fail(const struct dma_iobuf_att *att,
			  struct dma_iobuf_reason *why,
			  enum dma_iobuf_stage stage, int err)
{
	dma_iobuf_why(why, stage, err);
	return dma_iobuf_exporter_error(att, err);
}

/*
 * Wait until the exporter's work is done, with no lock held: it takes as long as
 * the exporter likes.
 */
static int dma_iobuf_wait_exporter(const struct dma_iobuf_att *att,
				   struct dma_iobuf_reason *why)
{
	long ret;

	do {
		if (fatal_signal_pending(current)) {
			dma_iobuf_why(why, DMA_IOBUF_STAGE_FENCE, 0);
			return -EINTR;
		}
		ret = dma_resv_wait_timeout(att->dmabuf->resv,
					    DMA_RESV_USAGE_KERNEL, false,
					    HZ / 10);
	} while (!ret);		/* 0: still pending */
	if (ret > 0)
		return 0;
	return dma_iobuf_fail(att, why, DMA_IOBUF_STAGE_FENCE, ret);
}

/* make the mapping that the exporter gave the current one */
static int dma_iobuf_att_publish(struct dma_iobuf_att *att,
				 struct dma_iobuf_reason *why)
{
	struct dma_iobuf_map *map;
	int ret;

	map = dma_iobuf_map_build(att, att->pending, why);
	if (IS_ERR(map))
		return PTR_ERR(map);
	if (att->idev->ops) {
		dma_iobuf_why(why, DMA_IOBUF_STAGE_DEVICE, 0);
		ret = att->idev->ops->map(att, map);
		if (ret) {
			dma_iobuf_remap_destroy(att->idev->dev, map->remap,
						att->dir);
			percpu_ref_exit(&map->ref);
			kvfree(map);
			return ret;
		}
	}
	att->pending = NULL;
	WRITE_ONCE(att->nr_maps, att->nr_maps + 1);
	WRITE_ONCE(att->table_bytes,
		   dma_iobuf_table_bytes(map) + att->priv_bytes);
	rcu_assign_pointer(att->map, map);
	dma_iobuf_drop_mapped(att);
	return 0;
}

/*
 * One step under the reservation lock. DMA_IOBUF_STEP_EXPORTER: it has work to do on
 * the memory first. It may have begun that when it mapped; the mapping then waits in
 * &dma_iobuf_att.pending, where an invalidation finds it. DMA_IOBUF_STEP_COMMANDS:
 * the last one that has the last mapping is about to give it back.
 */
enum { DMA_IOBUF_STEP_EXPORTER = 1, DMA_IOBUF_STEP_COMMANDS };

static int dma_iobuf_att_map_step(struct dma_iobuf_att *att,
				  struct dma_iobuf_reason *why)
{
	struct dma_iobuf_map *map;
	struct sg_table *sgt;
	int ret;

	map = rcu_dereference_protected(att->map,
					dma_resv_held(att->dmabuf->resv));
	if (map) {
		dma_iobuf_why(why, DMA_IOBUF_STAGE_DEVICE, 0);
		return PTR_ERR_OR_ZERO(map);
	}
	if (!dma_iobuf_exporter_done(att->dmabuf))
		return DMA_IOBUF_STEP_EXPORTER;
	/* an exporter may keep one mapping only for an attachment */
	if (att->parked) {
		if (!dma_iobuf_att_reap(att))
			return dma_iobuf_att_revive(att) ?
				0 : DMA_IOBUF_STEP_COMMANDS;
		dma_iobuf_drop_done(att);
	}
	if (!att->pending) {
		sgt = dma_buf_map_attachment(att->attach, att->dir);
		if (IS_ERR(sgt))
			return dma_iobuf_fail(att, why, DMA_IOBUF_STAGE_MAP,
					      PTR_ERR(sgt));
		att->pending = sgt;
		if (!dma_iobuf_exporter_done(att->dmabuf))
			return DMA_IOBUF_STEP_EXPORTER;
	}
	ret = dma_iobuf_att_publish(att, why);
	if (ret) {
		dma_buf_unmap_attachment(att->attach, att->pending, att->dir);
		att->pending = NULL;
	}
	return ret;
}

/* map, unless there is a mapping; sleeps, and waits for the exporter */
static int dma_iobuf_att_map(struct dma_iobuf_att *att,
			     struct dma_iobuf_reason *why)
{
	struct dma_resv *resv = att->dmabuf->resv;
	int ret;

	lockdep_assert_held(&att->wait_lock);
	do {
		ret = dma_iobuf_resv_lock(resv);
		if (ret) {
			dma_iobuf_why(why, DMA_IOBUF_STAGE_FENCE, 0);
			return ret;
		}
		ret = dma_iobuf_att_map_step(att, why);
		dma_resv_unlock(resv);
		if (ret <= 0)
			return ret;
		if (ret == DMA_IOBUF_STEP_EXPORTER) {
			ret = dma_iobuf_wait_exporter(att, why);
		} else if (fatal_signal_pending(current)) {
			dma_iobuf_why(why, DMA_IOBUF_STAGE_FENCE, 0);
			ret = -EINTR;
		} else {
			/* who does that may want the lock */
			schedule_timeout_uninterruptible(1);
			ret = 0;
		}
	} while (!ret);
	return ret;
}

/* ---- attachments ---- */

/*
 * Commands that have the mapping may take their time, and the dma-buf is not only
 * theirs: its reservation lock is not held meanwhile. If the exporter wants the memory
 * back it waits for them itself, and the mapping may be gone then.
 */
static void dma_iobuf_att_wait_parked(struct dma_iobuf_att *att)
{
	unsigned long warn = jiffies + 60 * HZ;
	struct dma_iobuf_map *map = att->parked;

	/*
	 * With the lock held: a grace period, after which it is known whether there
	 * are any. Mostly there are none. Who maps the memory anew, again and again,
	 * would else be faster than what ends.
	 */
	if (map) {
		percpu_ref_switch_to_atomic_sync(&map->ref);
		/* the switch has a reference, and lets go of it last */
		if (wait_for_completion_timeout(&map->idle, 1))
			complete(&map->idle);
	}
	while (!dma_iobuf_att_reap(att)) {
		dma_resv_unlock(att->dmabuf->resv);
		/* not for the completion: the mapping may be freed with it */
		schedule_timeout_uninterruptible(1);
		if (time_after(jiffies, warn)) {
			warn += 60 * HZ;
			dev_warn(att->idev->dev,
				 "dma-buf: commands still running after 60 s\n");
		}
		dma_resv_lock(att->dmabuf->resv, NULL);
	}
}

/**
 * dma_iobuf_att_shutdown - end an attachment
 * @att:	the attachment
 *
 * No mapping and no attachment is left when this returns, and none comes back.
 * Idempotent. Who is about to attach finds out when it is done, and undoes it.
 *
 * For who implements &dma_iobuf_dev_ops.release and has to free what goes with the
 * attachment before dma_iobuf_att_free(), with which it stops being charged for.
 *
 * Context: process context, sleeps, waits for the exporter.
 */
void dma_iobuf_att_shutdown(struct dma_iobuf_att *att)
{
	mutex_lock(&att->lock);
	WRITE_ONCE(att->dead, true);
	if (att->attach) {
		dma_resv_lock(att->dmabuf->resv, NULL);
		dma_iobuf_att_park(att, ERR_PTR(-ENODEV));
		dma_iobuf_att_wait_parked(att);
		if (att->pinned)
			dma_buf_unpin(att->attach);
		dma_resv_unlock(att->dmabuf->resv);
		dma_buf_detach(att->dmabuf, att->attach);
		att->attach = NULL;
	}
	mutex_unlock(&att->lock);
	dma_iobuf_drop_stop(att);
}

static void dma_iobuf_att_discard(struct dma_iobuf_att *att)
{
	dma_iobuf_drop_free(att);
	free_percpu(att->hits);
	kfree(att);
}

static void dma_iobuf_att_free_rcu(struct rcu_head *rcu)
{
	dma_iobuf_att_discard(container_of(rcu, struct dma_iobuf_att, rcu));
}

void dma_iobuf_att_unhold(struct kref *held)
{
	struct dma_iobuf_att *att = container_of(held, struct dma_iobuf_att, held);

	dma_iobuf_dev_put(att->idev);
	dma_buf_put(att->dmabuf);
	call_rcu(&att->rcu, dma_iobuf_att_free_rcu);
}

/**
 * dma_iobuf_att_free - nothing uses an attachment any more
 * @att:	the attachment
 *
 * Called by &dma_iobuf_dev_ops.release, or by what that has started.
 *
 * Context: process context, sleeps.
 */
void dma_iobuf_att_free(struct dma_iobuf_att *att)
{
	struct dma_iobuf *last = att->last;

	dma_iobuf_att_shutdown(att);
	mutex_lock(&att->idev->lock);
	list_del(&att->dev_node);
	mutex_unlock(&att->idev->lock);
	kref_put(&att->held, dma_iobuf_att_unhold);
	dma_iobuf_ended(last);
}

static void dma_iobuf_att_release(struct dma_iobuf_att *att)
{
	if (att->idev->ops)
		att->idev->ops->release(att);
	else
		dma_iobuf_att_free(att);
}

static void dma_iobuf_att_free_work(struct dma_iobuf_work *work)
{
	dma_iobuf_att_release(container_of(work, struct dma_iobuf_att,
					   free_work));
}

/*
 * Drop the reference that @buf, or somebody on its behalf, has. After the last one
 * the attachment ends, and @buf is not gone before it has. @wait: not for those who
 * have nothing to do with it, or can be killed.
 */
void dma_iobuf_att_put(struct dma_iobuf *buf, struct dma_iobuf_att *att,
		       bool wait)
{
	if (!refcount_dec_and_test(&att->ref))
		return;
	refcount_inc(&buf->left);
	att->last = buf;
	if (wait) {
		dma_iobuf_att_release(att);
	} else {
		dma_iobuf_queue_work(buf, &att->free_work,
				     dma_iobuf_att_free_work);
	}
}

/*
 * dma_buf_dynamic_attach() takes the reservation lock, and cannot be killed while
 * it waits. So wait here: then it finds the lock free, but for those who come just
 * in between.
 */
static int dma_iobuf_wait_resv(struct dma_resv *resv)
{
	int ret = dma_iobuf_resv_lock(resv);

	if (!ret)
		dma_resv_unlock(resv);
	return ret;
}

/*
 * The exporter may take its time, so no lock is held that the end of the device
 * needs. An attachment that comes too late for it has no mapping yet, and goes
 * again.
 */
static int dma_iobuf_att_attach_new(struct dma_iobuf_att *att,
				    struct dma_iobuf_reason *why)
{
	struct dma_buf_attachment *attach;
	int ret = dma_iobuf_wait_resv(att->dmabuf->resv);
	bool dead;

	if (ret) {
		dma_iobuf_why(why, DMA_IOBUF_STAGE_FENCE, 0);
		return ret;
	}
	attach = dma_buf_dynamic_attach(att->dmabuf, att->idev->dev,
					att->idev->ops ?
					&dma_iobuf_attach_pinned_ops :
					&dma_iobuf_attach_ops, att);
	if (IS_ERR(attach))
		return dma_iobuf_fail(att, why, DMA_IOBUF_STAGE_ATTACH,
				      PTR_ERR(attach));
	mutex_lock(&att->lock);
	dead = att->dead;
	if (!dead) {
		att->peer2peer = attach->peer2peer;
		WRITE_ONCE(att->attach, attach);
	}
	mutex_unlock(&att->lock);
	if (!dead)
		return 0;

	dma_iobuf_why(why, DMA_IOBUF_STAGE_DEVICE, 0);
	dma_buf_detach(att->dmabuf, attach);
	return -ENODEV;
}

static int dma_iobuf_att_pin(struct dma_iobuf_att *att,
			     struct dma_iobuf_reason *why)
{
	struct dma_resv *resv = att->dmabuf->resv;
	int ret = dma_iobuf_resv_lock(resv);

	if (ret) {
		dma_iobuf_why(why, DMA_IOBUF_STAGE_FENCE, 0);
		return ret;
	}
	if (IS_ERR(rcu_access_pointer(att->map))) {
		/* the end of the device was here; it detaches, or has */
		ret = -ENODEV;
		dma_iobuf_why(why, DMA_IOBUF_STAGE_DEVICE, 0);
	} else if (!att->pinned) {
		ret = dma_buf_pin(att->attach);
		att->pinned = !ret;
		if (ret)
			ret = dma_iobuf_fail(att, why, DMA_IOBUF_STAGE_PIN, ret);
	}
	dma_resv_unlock(resv);
	return ret;
}

/*
 * Attach and pin, as far as that is not done. What was done stays if the rest
 * fails, until the last reference is dropped: those who were killed leave that to
 * a work item.
 */
static int dma_iobuf_att_attach(struct dma_iobuf_att *att,
				struct dma_iobuf_reason *why)
{
	int ret = 0;

	lockdep_assert_held(&att->wait_lock);
	if (READ_ONCE(att->dead)) {
		dma_iobuf_why(why, DMA_IOBUF_STAGE_DEVICE, 0);
		return -ENODEV;
	}
	if (!READ_ONCE(att->attach))
		ret = dma_iobuf_att_attach_new(att, why);
	if (ret)
		return ret;
	/* pin and map would only make it move the memory to where it can */
	if ((att->flags & DMA_IOBUF_REQUIRE_P2P) && !att->peer2peer) {
		dma_iobuf_why(why, DMA_IOBUF_STAGE_ATTACH, 0);
		ret = -EREMOTEIO;
	} else if (att->flags & DMA_IOBUF_PIN) {
		ret = dma_iobuf_att_pin(att, why);
	}
	if (ret != -EINTR)
		WRITE_ONCE(att->spent, ret);
	return ret;
}

/* attach and map, as far as that is not done */
int dma_iobuf_att_prepare(struct dma_iobuf_att *att,
			  struct dma_iobuf_reason *why)
{
	int ret = mutex_lock_killable(&att->wait_lock);

	if (ret) {
		dma_iobuf_why(why, DMA_IOBUF_STAGE_FENCE, 0);
		return ret;
	}
	ret = dma_iobuf_att_attach(att, why);
	if (why)
		why->peer2peer = att->peer2peer;
	if (!ret)
		ret = dma_iobuf_att_map(att, why);
	mutex_unlock(&att->wait_lock);
	return ret;
}

/* commands that used the mapping, whoever's they were */
u64 dma_iobuf_att_hits(const struct dma_iobuf_att *att)
{
	u64 hits = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		hits += READ_ONCE(*per_cpu_ptr(att->hits, cpu));
	return hits;
}

void dma_iobuf_att_info(struct dma_iobuf_att *att,
			struct dma_iobuf_info *info)
{
	struct dma_iobuf_map *map;

	memset(info, 0, sizeof(*info));
	rcu_read_lock();
	map = rcu_dereference(att->map);
	if (IS_ERR(map)) {
		info->kind = DMA_IOBUF_KIND_DEAD;
	} else if (map) {
		info->kind = map->kind;
		info->granule = 1ULL << map->shift;
		info->entries = map->nr;
		info->table_bytes = dma_iobuf_table_bytes(map) +
				    att->priv_bytes;
	}
	rcu_read_unlock();

	info->charge_bytes = READ_ONCE(att->table_bytes);
	info->hits = dma_iobuf_att_hits(att);
	info->maps = READ_ONCE(att->nr_maps);
	info->invals = READ_ONCE(att->nr_invals);
	info->drops = dma_iobuf_drop_count(att);
	info->id = att->id;
	info->peer2peer = att->peer2peer;
	info->pinned = att->pinned;
	strscpy(info->dev_name, dev_name(att->idev->dev));
}

static unsigned int dma_iobuf_att_flags(const struct dma_iobuf_dev *idev,
					const struct dma_iobuf *buf)
{
	return (buf->flags & ~DMA_IOBUF_BUF_FLAGS) |
	       (idev->ops ? idev->ops->flags : 0);
}

/* A device that only reads is mapped for that, whatever the buffer allows others */
static enum dma_data_direction dma_iobuf_att_dir(const struct dma_iobuf_dev *idev,
						 const struct dma_iobuf *buf)
{
	if (!idev->ops || idev->ops->dir == DMA_BIDIRECTIONAL)
		return buf->dir;
	return idev->ops->dir;
}

static struct dma_iobuf_att *dma_iobuf_att_find(struct dma_iobuf_dev *idev,
						const struct dma_iobuf *buf)
{
	struct dma_iobuf_att *att;

	lockdep_assert_held(&idev->lock);
	list_for_each_entry(att, &idev->atts, dev_node)
		if (att->dmabuf == buf->dmabuf &&
		    att->dir == dma_iobuf_att_dir(idev, buf) &&
		    att->flags == dma_iobuf_att_flags(idev, buf) &&
		    !READ_ONCE(att->spent) &&
		    refcount_inc_not_zero(&att->ref))
			return att;
	return NULL;
}

static struct dma_iobuf_att *dma_iobuf_att_alloc(struct dma_iobuf_dev *idev,
						 const struct dma_iobuf *buf)
{
	struct dma_iobuf_att *att = kzalloc_obj(*att, GFP_KERNEL_ACCOUNT);
	static atomic64_t last_id = ATOMIC64_INIT(0);

	if (!att)
		return NULL;
	att->hits = alloc_percpu_gfp(unsigned long, GFP_KERNEL_ACCOUNT);
	if (!att->hits) {
		dma_iobuf_att_discard(att);
		return NULL;
	}
	refcount_set(&att->ref, 1);
	kref_init(&att->held);
	mutex_init(&att->wait_lock);
	mutex_init(&att->lock);
	att->id = atomic64_inc_return(&last_id);
	att->idev = idev;
	att->dmabuf = buf->dmabuf;
	att->dir = dma_iobuf_att_dir(idev, buf);
	att->flags = dma_iobuf_att_flags(idev, buf);
	if (!dma_iobuf_drop_init(att, buf)) {
		dma_iobuf_att_discard(att);
		return NULL;
	}
	return att;
}

/*
 * The attachment that @buf wants, if there is one; or @new, if that is not NULL,
 * which then is on the device's list.
 */
static struct dma_iobuf_att *dma_iobuf_att_find_or_add(struct dma_iobuf_dev *idev,
						       const struct dma_iobuf *buf,
						       struct dma_iobuf_att *new)
{
	struct dma_iobuf_att *att;
	int ret;

	ret = mutex_lock_killable(&idev->lock);
	if (ret)
		return ERR_PTR(ret);
	att = idev->dead ? ERR_PTR(-ENODEV) : dma_iobuf_att_find(idev, buf);
	if (!att && new) {
		att = new;
		get_dma_buf(att->dmabuf);
		kref_get(&idev->ref);
		list_add(&att->dev_node, &idev->atts);
	}
	mutex_unlock(&idev->lock);
	return att;
}

/*
 * Find the attachment that @buf wants, or make one that is not attached yet. No
 * memory is allocated under the device's lock: what a cgroup has to wait for
 * others would wait for, too.
 */
static struct dma_iobuf_att *dma_iobuf_att_lookup(struct dma_iobuf_dev *idev,
						  const struct dma_iobuf *buf)
{
	struct dma_iobuf_att *att, *new;

	if (buf->dir != DMA_BIDIRECTIONAL &&
	    buf->dir != dma_iobuf_att_dir(idev, buf))
		return ERR_PTR(-EACCES);
	att = dma_iobuf_att_find_or_add(idev, buf, NULL);
	if (att)
		return att;
	new = dma_iobuf_att_alloc(idev, buf);
	if (!new)
		return ERR_PTR(-ENOMEM);
	att = dma_iobuf_att_find_or_add(idev, buf, new);
	if (att != new)
		dma_iobuf_att_discard(new);
	return att;
}

/*
 * The attachment of (dma-buf, device), shared by all buffers that want the same
 * of it. It is on the list of the device before it is attached, so that whoever
 * wants the same waits for the exporter, too, and nobody else does. That is in
 * dma_iobuf_att_ready(); nothing is waited for here.
 */
struct dma_iobuf_att *dma_iobuf_att_get(struct dma_iobuf_dev *idev,
					const struct dma_iobuf *buf)
{
	/* do not queue up behind the end of the device */
	if (READ_ONCE(idev->dead))
		return ERR_PTR(-ENODEV);
	return dma_iobuf_att_lookup(idev, buf);
}

/* attached and mapped, as @buf wants it */
int dma_iobuf_att_ready(struct dma_iobuf_att *att,
			const struct dma_iobuf *buf,
			struct dma_iobuf_reason *why)
{
	struct dma_iobuf_info info;
	int ret;

	if (!(buf->flags & DMA_IOBUF_DEVICE_MEM))
		return dma_iobuf_att_prepare(att, why);
	/* it may be RAM that must not be pinned: only for a moment, no fence's time */
	ret = dma_iobuf_wait_exporter(att, why);
	if (ret)
		return ret;
	ret = dma_iobuf_att_prepare(att, why);
	if (ret)
		return ret;
	dma_iobuf_att_info(att, &info);
	if (info.kind == DMA_IOBUF_KIND_P2P_BUS ||
	    info.kind == DMA_IOBUF_KIND_P2P_HOST)
		return 0;
	dma_iobuf_why(why, DMA_IOBUF_STAGE_ADDRESS, 0);
	return -ENOMEM;
}
