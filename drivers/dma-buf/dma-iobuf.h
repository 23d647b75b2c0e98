/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _DMA_IOBUF_INTERNAL_H
#define _DMA_IOBUF_INTERNAL_H

#include <linux/dma-iobuf.h>
#include <linux/scatterlist.h>

/* dma-iobuf-table.c: granules or runs, no device needed */
struct dma_iobuf_map *dma_iobuf_table_alloc(struct sg_table *sgt, u64 size);
size_t dma_iobuf_table_bytes(const struct dma_iobuf_map *map);

/* the first run that ends behind @off; @steps is for the tests */
static __always_inline unsigned int
dma_iobuf_run_search(const u32 *end, unsigned int nr, u64 off,
		     unsigned int *steps)
{
	u32 page = off / DMA_IOBUF_PAGE_SIZE;
	unsigned int lo = 0, hi = nr - 1;

	for (*steps = 0; lo < hi; (*steps)++) {
		unsigned int mid = lo + (hi - lo) / 2;

		if (end[mid] > page)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* dma-iobuf-kind.c: where the memory behind a mapping is */
int dma_iobuf_mapping_kind(struct device *dev, struct sg_table *sgt);

#endif /* _DMA_IOBUF_INTERNAL_H */
