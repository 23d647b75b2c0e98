// SPDX-License-Identifier: GPL-2.0
/*
 * The granule table of a dma_iobuf mapping.
 *
 * A granule is the largest power of two such that the mapping is contiguous
 * inside every aligned granule of the dma-buf. One DMA address per granule is
 * then enough to find the address of any byte in O(1).
 *
 * Runs are what counts, not scatterlist entries: an exporter has to chop a
 * contiguous range of 4 GiB and more, because an entry's length is 32 bits.
 */
#include <linux/bitops.h>

#include "dma-iobuf.h"

/**
 * dma_iobuf_table_shift - find the granule of a mapping
 * @sgt:	mapped scatterlist, only DMA addresses are looked at
 * @size:	size of the dma-buf in bytes
 *
 * Context: any.
 * Return: log2 of the granule in bytes; -EINVAL if the mapping is shorter than
 * @size, or not made of whole DMA_IOBUF_PAGE_SIZE pages.
 */
int dma_iobuf_table_shift(struct sg_table *sgt, u64 size)
{
	struct scatterlist *sg;
	dma_addr_t end = 0;
	u64 off = 0, cuts = 0;
	unsigned int i;

	for_each_sgtable_dma_sg(sgt, sg, i) {
		dma_addr_t addr = sg_dma_address(sg);
		u64 len = sg_dma_len(sg);

		if ((addr | len) & (DMA_IOBUF_PAGE_SIZE - 1))
			return -EINVAL;
		if (off && addr != end)
			cuts |= off;
		end = addr + len;
		off += len;
		if (off >= size)
			break;
	}
	if (!size || off < size)
		return -EINVAL;
	/* contiguous throughout: one granule that covers everything */
	return cuts ? __ffs64(cuts) : fls64(size - 1);
}

/**
 * dma_iobuf_table_entries - granules needed for a dma-buf
 * @size:	size of the dma-buf in bytes, not 0
 * @shift:	log2 of the granule
 */
u64 dma_iobuf_table_entries(u64 size, unsigned int shift)
{
	return ((size - 1) >> shift) + 1;
}

/**
 * dma_iobuf_table_fill - write the DMA address of every granule
 * @sgt:	mapped scatterlist
 * @size:	size of the dma-buf in bytes
 * @shift:	what dma_iobuf_table_shift() returned for @sgt
 * @addr:	dma_iobuf_table_entries() + 1 entries; the last one becomes
 *		DMA_MAPPING_ERROR, so that no run goes on past the end
 */
void dma_iobuf_table_fill(struct sg_table *sgt, u64 size, unsigned int shift,
			  dma_addr_t *addr)
{
	u64 granule = 1ULL << shift, off = 0;
	struct scatterlist *sg;
	unsigned int i;

	for_each_sgtable_dma_sg(sgt, sg, i) {
		u64 end = min_t(u64, off + sg_dma_len(sg), size);
		/* first granule that starts in this entry */
		u64 at = ALIGN(off, granule);

		for (; at < end; at += granule)
			addr[at >> shift] = sg_dma_address(sg) + (at - off);
		off += sg_dma_len(sg);
		if (off >= size)
			break;
	}
	addr[dma_iobuf_table_entries(size, shift)] = DMA_MAPPING_ERROR;
}
