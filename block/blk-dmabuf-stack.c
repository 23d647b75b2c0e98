// SPDX-License-Identifier: GPL-2.0
/*
 * Disks made of disks that take REQ_DMABUF bios: the leaf devices are those of
 * all that is below.
 */
#include <linux/blkdev.h>
#include <linux/dma-iobuf.h>

#include "blk.h"

/* disks above each other; a stack ends somewhere, tables of dm may name each other */
#define MAX_DEPTH	8

/**
 * bdev_stack_dma_targets - name the leaf devices of what a disk is made of
 * @bdev:	one of the block devices that a stacking driver sends data to
 * @set:	leaf devices are added here
 *
 * For ->dma_targets() of a driver that only remaps: it calls this for each of
 * them, so that the set is the union. One that has no device for now, as it says by
 * -ENXIO, does not keep the others from being used: the driver goes on, and says
 * so itself only if all of them do.
 *
 * The buffer is registered for the disk on top. That is the one it remembers: it
 * is to follow when another device comes below that, and not when one of those
 * that are there now is used by somebody else.
 *
 * Context: any; the caller sees to it that @bdev stays.
 * Return: 0; -EOPNOTSUPP: a device below cannot take a dma-buf, or there are too
 * many above each other; -ENXIO: one has no device for now; -E2BIG.
 */
int bdev_stack_dma_targets(struct block_device *bdev, struct dma_iobuf_set *set)
{
	unsigned int nr_disks = set->nr_disks;
	int ret = -EOPNOTSUPP;

	if (set->depth < MAX_DEPTH) {
		set->depth++;
		ret = bdev_dma_targets(bdev, set);
		set->depth--;
	}
	set->nr_disks = nr_disks;
	return ret;
}
EXPORT_SYMBOL_GPL(bdev_stack_dma_targets);
