/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _DMA_IOBUF_INTERNAL_H
#define _DMA_IOBUF_INTERNAL_H

#include <linux/dma-iobuf.h>
#include <linux/scatterlist.h>

/* dma-iobuf-table.c: the granule table, no device needed */
int dma_iobuf_table_shift(struct sg_table *sgt, u64 size);
u64 dma_iobuf_table_entries(u64 size, unsigned int shift);
void dma_iobuf_table_fill(struct sg_table *sgt, u64 size, unsigned int shift,
			  dma_addr_t *addr);

/* dma-iobuf-kind.c: where the memory behind a mapping is */
int dma_iobuf_mapping_kind(struct device *dev, struct sg_table *sgt);

#endif /* _DMA_IOBUF_INTERNAL_H */
