// SPDX-License-Identifier: GPL-2.0
/*
 * Devices that take data from dma-bufs, and the sets of them that may DMA the data of a
 * file. What attaches to them is in dma-iobuf.c.
 */
#include <linux/dma-iobuf.h>
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/minmax.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>

#include "dma-iobuf-internal.h"

/* one prefix for all files of dma_iobuf */
#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "dma_iobuf."

static unsigned int max_devs = DMA_IOBUF_MAX_DEVS;
module_param(max_devs, uint, 0644);
MODULE_PARM_DESC(max_devs,
		 "Devices of a buffer that is made from now on, at most 128: for tests of what happens when there are more");

/* how many devices a buffer that is made now can have */
unsigned int dma_iobuf_max_devs(void)
{
	return clamp(READ_ONCE(max_devs), 1U, (unsigned int)DMA_IOBUF_MAX_DEVS);
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
 * dma_iobuf_dev_retire - the name that a device was registered by is gone
 * @idev:	the device
 *
 * The device is there. Attachments to it stay as they are: what was sent may need
 * them. Their entries in buffers can be used for other devices as long as there
 * is another one with the same &dma_iobuf_dev.same.
 *
 * Context: any.
 */
void dma_iobuf_dev_retire(struct dma_iobuf_dev *idev)
{
	WRITE_ONCE(idev->stale, true);
}

/* ---- sets ---- */

/**
 * dma_iobuf_set_add - add a device to a set
 * @set:	the set, filled by ->dma_targets()
 * @idev:	the device, or NULL if there is none
 *
 * Context: any; takes a reference to @idev.
 * Return: 0, also if @idev was in @set; -EOPNOTSUPP without @idev; -E2BIG.
 */
int dma_iobuf_set_add(struct dma_iobuf_set *set, struct dma_iobuf_dev *idev)
{
	unsigned int i;

	if (!idev)
		return -EOPNOTSUPP;
	for (i = 0; i < set->nr; i++)
		if (set->dev[i] == idev)
			return 0;
	if (set->nr >= dma_iobuf_max_devs())
		return -E2BIG;
	kref_get(&idev->ref);
	set->dev[set->nr++] = idev;
	return 0;
}
EXPORT_SYMBOL_GPL(dma_iobuf_set_add);

/**
 * dma_iobuf_set_add_disk - say which disk the devices of a set are of
 * @set:	the set, filled by ->dma_targets()
 * @seq:	sequence number of the disk (&struct gendisk.diskseq)
 *
 * The leaf devices of a disk come and go: paths, members. A buffer that was
 * registered for the disk gets those that come later without being told.
 *
 * Context: any.
 */
void dma_iobuf_set_add_disk(struct dma_iobuf_set *set, u64 seq)
{
	unsigned int i;

	for (i = 0; i < set->nr_disks; i++)
		if (set->disk[i] == seq)
			return;
	if (set->nr_disks < DMA_IOBUF_MAX_DISKS)
		set->disk[set->nr_disks++] = seq;
}
EXPORT_SYMBOL_GPL(dma_iobuf_set_add_disk);

/**
 * dma_iobuf_set_alloc - make an empty set
 *
 * Context: process context, sleeps.
 * Return: the set, for dma_iobuf_set_free(); or %NULL.
 */
struct dma_iobuf_set *dma_iobuf_set_alloc(void)
{
	return kzalloc_obj(struct dma_iobuf_set);
}

/**
 * dma_iobuf_set_free - drop a set and its references
 * @set:	the set, or %NULL
 *
 * Context: process context.
 */
void dma_iobuf_set_free(struct dma_iobuf_set *set)
{
	if (!set)
		return;
	dma_iobuf_set_put(set);
	kfree(set);
}

/**
 * dma_iobuf_set_put - empty a set and drop its references
 * @set:	the set
 *
 * Context: process context.
 */
void dma_iobuf_set_put(struct dma_iobuf_set *set)
{
	while (set->nr)
		dma_iobuf_dev_put(set->dev[--set->nr]);
	set->nr_disks = 0;
}

/**
 * dma_iobuf_set_drop_dead - take devices out of a set that are going, or gone
 * @set:	the set
 *
 * For who can do without them. Their end may take a while, which is nothing to wait
 * for.
 *
 * Context: process context.
 * Return: how many there were.
 */
unsigned int dma_iobuf_set_drop_dead(struct dma_iobuf_set *set)
{
	unsigned int i, left = 0, nr = set->nr;

	for (i = 0; i < nr; i++) {
		if (READ_ONCE(set->dev[i]->dead))
			dma_iobuf_dev_put(set->dev[i]);
		else
			set->dev[left++] = set->dev[i];
	}
	set->nr = left;
	return nr - left;
}

/**
 * dma_iobuf_set_of_file - add the leaf devices behind a file to a set
 * @file:	the file
 * @set:	the set, still to be put by the caller when this fails
 *
 * Context: process context, sleeps.
 * Return: 0; -EOPNOTSUPP if the file or its device cannot take a dma-buf.
 */
int dma_iobuf_set_of_file(struct file *file, struct dma_iobuf_set *set)
{
	if (!file->f_op->dma_targets)
		return -EOPNOTSUPP;
	return file->f_op->dma_targets(file, set);
}

/**
 * dma_iobuf_set_need_pin - whether a device needs pinned memory
 * @set:	the devices
 *
 * Context: any.
 */
bool dma_iobuf_set_need_pin(const struct dma_iobuf_set *set)
{
	unsigned int i;

	for (i = 0; i < set->nr; i++)
		if (set->dev[i]->ops &&
		    set->dev[i]->ops->flags & DMA_IOBUF_PIN)
			return true;
	return false;
}
