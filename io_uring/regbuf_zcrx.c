// SPDX-License-Identifier: GPL-2.0
/*
 * Parts of registered dma-bufs as areas of zero-copy receive.
 *
 * An area has a buffer of its own, with the card as the only target, so that it and
 * the slot that it was made from end in any order. See rule 12 of
 * Documentation/driver-api/dma-iobuf.rst. What no card writes is copied, see
 * regbuf_copies.c.
 */
#include <linux/kernel.h>
#include <linux/overflow.h>
#include <linux/dma-iobuf.h>
#include <linux/io_uring.h>
#include <net/net_iobuf.h>

#include <uapi/linux/io_uring.h>

#include "io_uring.h"
#include "rsrc.h"
#include "regbuf.h"
#include "regbuf_dmabuf.h"
#include "regbuf_zcrx.h"

/**
 * io_regbuf_area_slot - the slot that an area is to be a part of
 * @ctx:	the ring, locked
 * @slot:	its index
 *
 * Return: the buffer with a reference; ERR_PTR(-EFAULT): there is none;
 * ERR_PTR(-EINVAL): it is no dma-buf.
 */
struct io_rsrc_node *io_regbuf_area_slot(struct io_ring_ctx *ctx,
					 unsigned int slot)
{
	struct io_rsrc_node *node;

	lockdep_assert_held(&ctx->uring_lock);

	node = io_rsrc_node_lookup(&ctx->buf_table, slot);
	if (!node)
		return ERR_PTR(-EFAULT);
	if (!(node->buf->flags & IO_REGBUF_F_DMABUF))
		return ERR_PTR(-EINVAL);
	node->refs++;
	return node;
}

/**
 * io_regbuf_area_check - may a part of a slot be written to
 * @node:	the slot, with a reference
 * @off:	offset in it in bytes
 * @len:	bytes
 *
 * Return: 0; -EFAULT: it is empty or not inside; -EACCES: it may only be read.
 */
int io_regbuf_area_check(const struct io_rsrc_node *node, u64 off, u64 len)
{
	const struct io_mapped_ubuf *imu = node->buf;
	u64 end;

	if (!len || check_add_overflow(off, len, &end) || end > imu->len)
		return -EFAULT;
	return imu->dir & IO_BUF_DEST ? 0 : -EACCES;
}

/**
 * io_regbuf_area_begin - let a card write to a part of a slot
 * @area:	zeroed; made here
 * @node:	the slot, with a reference
 * @off:	offset in it in bytes
 * @len:	bytes
 * @netdev:	the network device that is to write, with a reference
 * @dev:	the device that does the DMA for it
 *
 * Waits for the exporter, until it is killed. What is done the driver of @netdev
 * waits for when it is unbound.
 *
 * Context: process context, no lock is held.
 * Return: 0 or a negative errno, and then nothing is left.
 */
int io_regbuf_area_begin(struct io_regbuf_area *area,
			 const struct io_rsrc_node *node, u64 off, u64 len,
			 struct net_device *netdev, struct device *dev)
{
	const struct io_mapped_ubuf *imu = node->buf;
	struct dma_iobuf_set *set __free(dma_iobuf_set) = NULL;
	struct dma_iobuf_map *map;
	struct io_regbuf *reg;
	int ret;

	ret = io_regbuf_area_check(node, off, len);
	if (ret)
		return ret;
	set = dma_iobuf_set_alloc();
	if (!set)
		return -ENOMEM;
	ret = net_iobuf_rx_target(netdev, dev, set);
	if (ret)
		return ret;
	reg = io_regbuf_create_part(imu->priv, off, set);
	if (IS_ERR(reg))
		return PTR_ERR(reg);

	map = dma_iobuf_map_get(reg->buf, dev);
	if (IS_ERR(map)) {
		/* pinned, so that nothing but the end of the device ends it */
		io_regbuf_free(reg);
		return -ENODEV;
	}
	area->reg = reg;
	area->map = map;
	area->off = off;
	return 0;
}

/**
 * io_regbuf_area_addr - where the card has to write to
 * @area:	the area
 * @off:	offset in it in bytes
 * @len:	bytes, inside of it
 * @addr:	returns the address
 *
 * Context: any.
 * Return: 0; -ERANGE if it is not contiguous.
 */
int io_regbuf_area_addr(const struct io_regbuf_area *area, u64 off, u32 len,
			dma_addr_t *addr)
{
	u32 contig;

	*addr = dma_iobuf_map_addr(area->map, area->reg->off + off, len,
				   &contig);
	return contig == len ? 0 : -ERANGE;
}

/**
 * io_regbuf_area_end - the card does not write to it any more
 * @area:	the area; may have been ended before
 *
 * Context: process context, RTNL and the like may be held; does not wait for the
 * exporter.
 */
void io_regbuf_area_end(struct io_regbuf_area *area)
{
	if (!area->reg)
		return;
	dma_iobuf_map_put(area->map);
	io_regbuf_free(area->reg);
	area->reg = NULL;
	area->map = NULL;
}
