// SPDX-License-Identifier: GPL-2.0
/*
 * dma-buf memory as the data buffer of direct I/O, see include/linux/dma-iobuf.h
 *
 * Lock order: &dma_iobuf.lock, &dma_iobuf_dev.lock, &dma_iobuf_att.lock, the
 * reservation lock of the dma-buf. Nothing here takes a lock of the caller, and
 * the completion path takes none at all.
 */
#include <linux/dma-iobuf.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/swiotlb.h>
#include <linux/task_work.h>

#include "dma-iobuf.h"

static struct workqueue_struct *dma_iobuf_wq;

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
 * Take the current mapping away and leave @next in its place. When this returns
 * the device no longer touches the memory. It waits for the hardware only, so
 * that the time is bounded by the device's own timeout and reset handling.
 */
static void dma_iobuf_att_unmap(struct dma_iobuf_att *att, void *next)
{
	struct dma_iobuf_map *map;

	dma_resv_assert_held(att->dmabuf->resv);
	map = rcu_dereference_protected(att->map, true);
	rcu_assign_pointer(att->map, next);
	if (IS_ERR_OR_NULL(map))
		return;

	if (att->idev->ops)
		att->idev->ops->unmap(att);
	percpu_ref_kill(&map->ref);
	while (!wait_for_completion_timeout(&map->idle, 60 * HZ))
		dev_warn(att->idev->dev,
			 "dma-buf: commands still running after 60 s\n");

	dma_buf_unmap_attachment(att->attach, map->sgt, att->dir);
	call_rcu(&map->rcu, dma_iobuf_map_free_rcu);
}

static void dma_iobuf_invalidate(struct dma_buf_attachment *attach)
{
	struct dma_iobuf_att *att = attach->importer_priv;

	dma_resv_assert_held(att->dmabuf->resv);
	if (IS_ERR_OR_NULL(rcu_access_pointer(att->map)))
		return;
	WRITE_ONCE(att->nr_invals, att->nr_invals + 1);
	if (att->idev->ops)
		WRITE_ONCE(att->revoked, true);
	dma_iobuf_att_unmap(att, NULL);
}

static const struct dma_buf_attach_ops dma_iobuf_attach_ops = {
	.allow_peer2peer	= true,
	.invalidate_mappings	= dma_iobuf_invalidate,
};

/*
 * The memory must not be used before the exporter's own work on it, a clear or
 * a move, is done. Not interruptible: io-wq workers carry TIF_NOTIFY_SIGNAL,
 * which would make an interruptible wait fail for no reason.
 */
static int dma_iobuf_wait_exporter(struct dma_buf *dmabuf)
{
	long ret;

	do {
		if (fatal_signal_pending(current))
			return -EINTR;
		ret = dma_resv_wait_timeout(dmabuf->resv,
					    DMA_RESV_USAGE_KERNEL, false, HZ);
	} while (!ret);		/* 0: still pending */
	return ret < 0 ? ret : 0;
}

static struct dma_iobuf_map *dma_iobuf_map_build(struct dma_iobuf_att *att,
						 struct sg_table *sgt)
{
	u64 size = att->dmabuf->size, entries;
	struct dma_iobuf_map *map;
	int kind, shift, ret;

	kind = dma_iobuf_mapping_kind(att->idev->dev, sgt);
	if (kind < 0)
		return ERR_PTR(kind);
	if ((att->flags & DMA_IOBUF_REQUIRE_P2P) &&
	    kind != DMA_IOBUF_KIND_P2P_BUS && kind != DMA_IOBUF_KIND_P2P_HOST)
		return ERR_PTR(-EREMOTEIO);

	shift = dma_iobuf_table_shift(sgt, size);
	if (shift < 0)
		return ERR_PTR(shift);
	entries = dma_iobuf_table_entries(size, shift);
	if (entries >= INT_MAX)
		return ERR_PTR(-EFBIG);

	/* one more entry ends the last run, see dma_iobuf_table_fill() */
	map = kvzalloc_flex(*map, addr, entries + 1,
			    GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!map)
		return ERR_PTR(-ENOMEM);
	ret = percpu_ref_init(&map->ref, dma_iobuf_map_idle, 0, GFP_KERNEL);
	if (ret) {
		kvfree(map);
		return ERR_PTR(ret);
	}
	init_completion(&map->idle);
	map->nr = entries + 1;
	map->shift = shift;
	map->kind = kind;
	map->sgt = sgt;
	dma_iobuf_table_fill(sgt, size, shift, map->addr);
	return map;
}

/* -EAGAIN means "once more from blocking context" to the callers */
static int dma_iobuf_exporter_error(int err)
{
	switch (err) {
	case -EAGAIN:
		return -EBUSY;
	case -ERESTARTSYS:
		return -EINTR;
	default:
		return err;
	}
}

/*
 * Exporters may wait interruptibly when they map. A worker of io_uring has
 * nothing that interrupts it but task work, which is no reason to fail an I/O:
 * do that and come back.
 */
static bool dma_iobuf_task_work_only(int err)
{
	if ((err != -EINTR && err != -ERESTARTSYS) ||
	    !(current->flags & PF_IO_WORKER) || task_sigpending(current))
		return false;
	clear_notify_signal();
	if (task_work_pending(current))
		task_work_run();
	return true;
}

/* map, unless there is a mapping; sleeps */
static int dma_iobuf_att_map(struct dma_iobuf_att *att)
{
	struct dma_resv *resv = att->dmabuf->resv;
	struct dma_iobuf_map *map;
	struct sg_table *sgt;
	int ret;

again:
	ret = 0;
	dma_resv_lock(resv, NULL);
	map = rcu_dereference_protected(att->map, dma_resv_held(resv));
	if (map) {
		ret = PTR_ERR_OR_ZERO(map);
		goto unlock;
	}

	sgt = dma_buf_map_attachment(att->attach, att->dir);
	if (IS_ERR(sgt)) {
		dma_resv_unlock(resv);
		if (dma_iobuf_task_work_only(PTR_ERR(sgt)))
			goto again;
		return dma_iobuf_exporter_error(PTR_ERR(sgt));
	}
	ret = dma_iobuf_wait_exporter(att->dmabuf);
	if (ret)
		goto unmap;
	map = dma_iobuf_map_build(att, sgt);
	if (IS_ERR(map)) {
		ret = PTR_ERR(map);
		goto unmap;
	}
	if (att->idev->ops) {
		ret = att->idev->ops->map(att, map);
		if (ret)
			goto free;
	}
	WRITE_ONCE(att->nr_maps, att->nr_maps + 1);
	rcu_assign_pointer(att->map, map);
unlock:
	dma_resv_unlock(resv);
	return ret;
free:
	percpu_ref_exit(&map->ref);
	kvfree(map);
unmap:
	dma_buf_unmap_attachment(att->attach, sgt, att->dir);
	goto unlock;
}

/* ---- attachments ---- */

/* No mapping and no attachment is left when this returns. Idempotent. */
static void dma_iobuf_att_shutdown(struct dma_iobuf_att *att)
{
	mutex_lock(&att->lock);
	if (att->attach) {
		dma_resv_lock(att->dmabuf->resv, NULL);
		dma_iobuf_att_unmap(att, ERR_PTR(-ENODEV));
		if (att->pinned)
			dma_buf_unpin(att->attach);
		dma_resv_unlock(att->dmabuf->resv);
		dma_buf_detach(att->dmabuf, att->attach);
		att->attach = NULL;
	}
	mutex_unlock(&att->lock);
}

static void dma_iobuf_att_free_rcu(struct rcu_head *rcu)
{
	struct dma_iobuf_att *att = container_of(rcu, struct dma_iobuf_att, rcu);

	free_percpu(att->hits);
	kfree(att);
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
	dma_iobuf_att_shutdown(att);
	mutex_lock(&att->idev->lock);
	list_del(&att->dev_node);
	mutex_unlock(&att->idev->lock);
	dma_iobuf_dev_put(att->idev);
	dma_buf_put(att->dmabuf);
	call_rcu(&att->rcu, dma_iobuf_att_free_rcu);
}

static void dma_iobuf_att_release(struct kref *ref)
{
	struct dma_iobuf_att *att = container_of(ref, struct dma_iobuf_att, ref);

	if (att->idev->ops)
		att->idev->ops->release(att);
	else
		dma_iobuf_att_free(att);
}

static void dma_iobuf_att_put(struct dma_iobuf_att *att)
{
	kref_put(&att->ref, dma_iobuf_att_release);
}

static int dma_iobuf_att_attach(struct dma_iobuf_att *att)
{
	struct dma_buf_attachment *attach;
	int ret = 0;

	attach = dma_buf_dynamic_attach(att->dmabuf, att->idev->dev,
					&dma_iobuf_attach_ops, att);
	if (IS_ERR(attach))
		return dma_iobuf_exporter_error(PTR_ERR(attach));
	if (att->flags & DMA_IOBUF_PIN) {
		dma_resv_lock(att->dmabuf->resv, NULL);
		ret = dma_buf_pin(attach);
		dma_resv_unlock(att->dmabuf->resv);
		if (ret) {
			dma_buf_detach(att->dmabuf, attach);
			return dma_iobuf_exporter_error(ret);
		}
		att->pinned = true;
	}
	att->attach = attach;
	return 0;
}

static unsigned int dma_iobuf_att_flags(const struct dma_iobuf_dev *idev,
					const struct dma_iobuf *buf)
{
	return buf->flags | (idev->ops ? idev->ops->flags : 0);
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
		    !READ_ONCE(att->revoked) &&
		    kref_get_unless_zero(&att->ref))
			return att;
	return NULL;
}

static struct dma_iobuf_att *dma_iobuf_att_alloc(struct dma_iobuf_dev *idev,
						 const struct dma_iobuf *buf)
{
	struct dma_iobuf_att *att = kzalloc_obj(*att, GFP_KERNEL_ACCOUNT);

	if (!att)
		return NULL;
	att->hits = alloc_percpu(unsigned long);
	if (!att->hits) {
		kfree(att);
		return NULL;
	}
	kref_init(&att->ref);
	mutex_init(&att->lock);
	att->idev = idev;
	att->dmabuf = buf->dmabuf;
	att->dir = dma_iobuf_att_dir(idev, buf);
	att->flags = dma_iobuf_att_flags(idev, buf);
	return att;
}

/*
 * The attachment of (dma-buf, device), shared by all buffers that want the same
 * of it. &dma_iobuf_dev.lock is held across the attach: dma_buf_attach() takes
 * no reference to the device, so none may appear once the driver let go.
 */
static struct dma_iobuf_att *dma_iobuf_att_get(struct dma_iobuf_dev *idev,
					       const struct dma_iobuf *buf)
{
	struct dma_iobuf_att *att;
	int ret;

	/* the mapping is kept and never synced: no bouncing, no cache flushes */
	if (!dev_is_dma_coherent(idev->dev) ||
	    is_swiotlb_force_bounce(idev->dev))
		return ERR_PTR(-EOPNOTSUPP);
	if (buf->dir != DMA_BIDIRECTIONAL &&
	    buf->dir != dma_iobuf_att_dir(idev, buf))
		return ERR_PTR(-EACCES);

	mutex_lock(&idev->lock);
	ret = -ENODEV;
	if (idev->dead)
		goto err;
	att = dma_iobuf_att_find(idev, buf);
	if (!att) {
		ret = -ENOMEM;
		att = dma_iobuf_att_alloc(idev, buf);
		if (!att)
			goto err;
		ret = dma_iobuf_att_attach(att);
		if (ret) {
			free_percpu(att->hits);
			kfree(att);
			goto err;
		}
		get_dma_buf(att->dmabuf);
		kref_get(&idev->ref);
		list_add(&att->dev_node, &idev->atts);
	}
	mutex_unlock(&idev->lock);

	ret = dma_iobuf_att_map(att);
	if (ret) {
		dma_iobuf_att_put(att);
		return ERR_PTR(ret);
	}
	return att;
err:
	mutex_unlock(&idev->lock);
	return ERR_PTR(ret);
}

/* ---- devices ---- */

/**
 * dma_iobuf_dev_create - make a device a possible target
 * @dev:	the device that does the DMA
 *
 * Called by a driver that implements dma_iobuf I/O, when it probes.
 *
 * Context: process context, sleeps.
 * Return: the target, owned by the driver until dma_iobuf_dev_put(); NULL if
 * there is no memory.
 */
struct dma_iobuf_dev *dma_iobuf_dev_create(struct device *dev)
{
	struct dma_iobuf_dev *idev = kzalloc_obj(*idev);

	if (!idev)
		return NULL;
	idev->dev = get_device(dev);
	kref_init(&idev->ref);
	mutex_init(&idev->lock);
	INIT_LIST_HEAD(&idev->atts);
	return idev;
}
EXPORT_SYMBOL_GPL(dma_iobuf_dev_create);

static void dma_iobuf_dev_release(struct kref *ref)
{
	struct dma_iobuf_dev *idev = container_of(ref, struct dma_iobuf_dev, ref);

	if (idev->ops)
		idev->ops->free(idev);
	put_device(idev->dev);
	kfree(idev);
}

/**
 * dma_iobuf_dev_put - drop a reference to a target
 * @idev:	the target, or NULL
 *
 * Context: process context.
 */
void dma_iobuf_dev_put(struct dma_iobuf_dev *idev)
{
	if (idev)
		kref_put(&idev->ref, dma_iobuf_dev_release);
}
EXPORT_SYMBOL_GPL(dma_iobuf_dev_put);

/**
 * dma_iobuf_dev_shutdown - the driver lets go of the device
 * @idev:	the target, or NULL
 *
 * To be called from the driver's remove path, when no command is running any
 * more and before the device is unbound. No mapping and no attachment survives
 * it, none comes back: buffers answer -ENODEV for this device from now on.
 *
 * Context: process context, sleeps. Waits for commands that still hold a
 * mapping, so the driver must have completed or cancelled them.
 */
void dma_iobuf_dev_shutdown(struct dma_iobuf_dev *idev)
{
	struct dma_iobuf_att *att;

	if (!idev)
		return;
	mutex_lock(&idev->lock);
	idev->dead = true;
	list_for_each_entry(att, &idev->atts, dev_node)
		dma_iobuf_att_shutdown(att);
	mutex_unlock(&idev->lock);
}
EXPORT_SYMBOL_GPL(dma_iobuf_dev_shutdown);

/**
 * dma_iobuf_targets_add - add a device to a set
 * @set:	the set, filled by ->dma_targets()
 * @idev:	the device, or NULL if there is none
 *
 * Context: any; takes a reference to @idev.
 * Return: 0, also if @idev was in @set; -EOPNOTSUPP without @idev; -E2BIG.
 */
int dma_iobuf_targets_add(struct dma_iobuf_targets *set,
			  struct dma_iobuf_dev *idev)
{
	unsigned int i;

	if (!idev)
		return -EOPNOTSUPP;
	for (i = 0; i < set->nr; i++)
		if (set->dev[i] == idev)
			return 0;
	if (set->nr == DMA_IOBUF_MAX_DEVS)
		return -E2BIG;
	kref_get(&idev->ref);
	set->dev[set->nr++] = idev;
	return 0;
}
EXPORT_SYMBOL_GPL(dma_iobuf_targets_add);

/**
 * dma_iobuf_targets_put - empty a set and drop its references
 * @set:	the set
 *
 * Context: process context.
 */
void dma_iobuf_targets_put(struct dma_iobuf_targets *set)
{
	while (set->nr)
		dma_iobuf_dev_put(set->dev[--set->nr]);
}

/**
 * dma_iobuf_targets_of - add the leaf devices behind a file to a set
 * @file:	the file
 * @set:	the set, still to be put by the caller when this fails
 *
 * Context: process context, sleeps.
 * Return: 0; -EOPNOTSUPP if the file or its device cannot take a dma-buf.
 */
int dma_iobuf_targets_of(struct file *file, struct dma_iobuf_targets *set)
{
	if (!file->f_op->dma_targets)
		return -EOPNOTSUPP;
	return file->f_op->dma_targets(file, set);
}

/**
 * dma_iobuf_targets_pin - whether a device needs pinned memory
 * @set:	the devices
 *
 * Context: any.
 */
bool dma_iobuf_targets_pin(const struct dma_iobuf_targets *set)
{
	unsigned int i;

	for (i = 0; i < set->nr; i++)
		if (set->dev[i]->ops &&
		    set->dev[i]->ops->flags & DMA_IOBUF_PIN)
			return true;
	return false;
}

static bool dma_iobuf_targets_has(const struct dma_iobuf_targets *set,
				  const struct dma_iobuf_dev *idev)
{
	unsigned int i;

	for (i = 0; i < set->nr; i++)
		if (set->dev[i] == idev)
			return true;
	return false;
}

/* ---- buffers ---- */

/**
 * dma_iobuf_add_targets - attach a buffer to more devices
 * @buf:	the buffer, may be in use
 * @set:	the devices; those that @buf has are skipped
 *
 * Context: process context, sleeps, may wait for the exporter.
 * Return: how many devices were added; or the first error, and @buf is as it
 * was.
 */
int dma_iobuf_add_targets(struct dma_iobuf *buf, struct dma_iobuf_targets *set)
{
	unsigned int nr, i, k;
	int ret = 0;

	mutex_lock(&buf->lock);
	nr = buf->nr_att;
	for (i = 0; i < set->nr && !ret; i++) {
		struct dma_iobuf_att *att;

		for (k = 0; k < nr; k++)
			if (buf->att[k]->idev == set->dev[i])
				break;
		if (k < nr)
			continue;
		if (nr == DMA_IOBUF_MAX_DEVS) {
			ret = -E2BIG;
			break;
		}
		att = dma_iobuf_att_get(set->dev[i], buf);
		if (IS_ERR(att)) {
			ret = PTR_ERR(att);
			break;
		}
		buf->dev[nr] = att->idev->dev;
		buf->att[nr++] = att;
	}
	if (ret) {
		while (nr > buf->nr_att)
			dma_iobuf_att_put(buf->att[--nr]);
	} else {
		ret = nr - buf->nr_att;
		/* pairs with dma_iobuf_nr_att() */
		smp_store_release(&buf->nr_att, nr);
	}
	mutex_unlock(&buf->lock);
	return ret;
}

static void dma_iobuf_free_work(struct work_struct *work)
{
	struct dma_iobuf *buf = container_of(work, struct dma_iobuf, free_work);

	while (buf->nr_att)
		dma_iobuf_att_put(buf->att[--buf->nr_att]);
	dma_buf_put(buf->dmabuf);
	kvfree(buf);
}

static void dma_iobuf_release(struct kref *ref)
{
	struct dma_iobuf *buf = container_of(ref, struct dma_iobuf, ref);

	queue_work(dma_iobuf_wq, &buf->free_work);
}

/**
 * dma_iobuf_put - drop the last use of a buffer
 * @buf:	the buffer, no I/O on it may be in flight
 *
 * The unmap and the detach follow shortly after, from a work item: the caller
 * may hold locks that are taken inside of a reservation lock elsewhere.
 *
 * Context: any.
 */
void dma_iobuf_put(struct dma_iobuf *buf)
{
	kref_put(&buf->ref, dma_iobuf_release);
}

/**
 * dma_iobuf_create - make a dma-buf a buffer for I/O to a set of devices
 * @dmabuf:	the memory; a reference is taken
 * @set:	the devices; may be empty, for a buffer that is only copied
 * @dir:	what the devices may do with the memory
 * @flags:	DMA_IOBUF_*
 *
 * Attaches and maps for every device, so that errors show now and not at the
 * first I/O.
 *
 * Context: process context, sleeps, may wait for the exporter.
 * Return: the buffer, to be dropped with dma_iobuf_put(); or an ERR_PTR():
 * -EOPNOTSUPP: a device is not coherent or bounces; -ENODEV: a device is going
 * away; -EREMOTEIO: DMA_IOBUF_REQUIRE_P2P and not peer-to-peer; -EINVAL: not
 * made of whole pages; -ENOMEM; or the exporter's error.
 */
struct dma_iobuf *dma_iobuf_create(struct dma_buf *dmabuf,
				   struct dma_iobuf_targets *set,
				   enum dma_data_direction dir,
				   unsigned int flags)
{
	struct dma_iobuf *buf;
	unsigned int nr_win, i;
	int ret;

	if (!dmabuf->size)
		return ERR_PTR(-EINVAL);
	nr_win = DIV_ROUND_UP_ULL(dmabuf->size, DMA_IOBUF_WIN_SIZE);
	buf = kvzalloc_flex(*buf, win, nr_win, GFP_KERNEL_ACCOUNT);
	if (!buf)
		return ERR_PTR(-ENOMEM);
	kref_init(&buf->ref);
	mutex_init(&buf->lock);
	INIT_WORK(&buf->free_work, dma_iobuf_free_work);
	get_dma_buf(dmabuf);
	buf->dmabuf = dmabuf;
	buf->dir = dir;
	buf->flags = flags;
	buf->nr_win = nr_win;
	for (i = 0; i < nr_win; i++) {
		buf->win[i].buf = buf;
		buf->win[i].base = (u64)i << DMA_IOBUF_WIN_SHIFT;
	}

	ret = dma_iobuf_add_targets(buf, set);
	if (ret < 0) {
		dma_iobuf_put(buf);
		return ERR_PTR(ret);
	}
	return buf;
}

/**
 * __dma_iobuf_prepare - slow path of dma_iobuf_prepare()
 * @buf:	the buffer
 * @file:	file that the I/O is for
 * @nowait:	do not sleep
 *
 * Devices that @file does not use are left alone: they may fail without harm
 * to this I/O. Of several that it does use, paths to the same data, some may be
 * gone as long as one is there.
 */
int __dma_iobuf_prepare(struct dma_iobuf *buf, struct file *file, bool nowait)
{
	unsigned int i, nr = dma_iobuf_nr_att(buf);
	struct dma_iobuf_targets set = { };
	bool alive = false, dead = false;
	int ret = dma_iobuf_targets_of(file, &set);

	for (i = 0; i < nr && !ret; i++) {
		struct dma_iobuf_att *att = buf->att[i];
		struct dma_iobuf_map *map = rcu_access_pointer(att->map);

		if (!dma_iobuf_targets_has(&set, att->idev))
			continue;
		if (!map)
			ret = nowait ? -EAGAIN : dma_iobuf_att_map(att);
		/* gone for good, which an exporter that says -ENODEV is not */
		if (IS_ERR(rcu_access_pointer(att->map))) {
			dead = true;
			ret = 0;
		} else if (!ret) {
			alive = true;
		}
	}
	dma_iobuf_targets_put(&set);
	if (!ret && dead && !alive)
		ret = -ENODEV;
	return ret;
}

/**
 * dma_iobuf_get_info - what an attachment really is
 * @buf:	the buffer
 * @idx:	which of its attachments, less than &dma_iobuf.nr_att
 * @info:	filled in
 *
 * A snapshot: the exporter may move the memory at any time.
 *
 * Context: any.
 */
void dma_iobuf_get_info(struct dma_iobuf *buf, unsigned int idx,
			struct dma_iobuf_info *info)
{
	struct dma_iobuf_att *att = buf->att[idx];
	struct dma_iobuf_map *map;
	int cpu;

	memset(info, 0, sizeof(*info));
	rcu_read_lock();
	map = rcu_dereference(att->map);
	if (IS_ERR(map)) {
		info->kind = DMA_IOBUF_KIND_DEAD;
	} else if (map) {
		info->kind = map->kind;
		info->granule = 1ULL << map->shift;
		info->entries = map->nr - 1;
		info->table_bytes = struct_size(map, addr, map->nr) +
				    att->priv_bytes;
	}
	rcu_read_unlock();

	for_each_possible_cpu(cpu)
		info->hits += READ_ONCE(*per_cpu_ptr(att->hits, cpu));
	info->maps = READ_ONCE(att->nr_maps);
	info->invals = READ_ONCE(att->nr_invals);
	strscpy(info->dev_name, dev_name(buf->dev[idx]));
}

static int __init dma_iobuf_init(void)
{
	dma_iobuf_wq = alloc_workqueue("dma_iobuf",
				       WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	return dma_iobuf_wq ? 0 : -ENOMEM;
}
subsys_initcall(dma_iobuf_init);
