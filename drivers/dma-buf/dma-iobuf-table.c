// SPDX-License-Identifier: GPL-2.0
/*
 * The table of a dma_iobuf mapping.
 *
 * A granule is the largest power of two such that the mapping is contiguous
 * inside every aligned granule of the dma-buf. One DMA address per granule is
 * then enough to find the address of any byte in O(1).
 *
 * How small a granule gets is up to the exporter: pieces of 4 GiB - 4 KiB, each
 * with an IOVA of its own, have one of 4 KiB. Where a table of granules would
 * take more than 16 bytes for each run, and more than a page, the table has the
 * runs instead, 12 bytes each, and is searched in O(log n).
 *
 * A run is what is contiguous, not a scatterlist entry: an exporter has to chop
 * a contiguous range of 4 GiB and more, because an entry's length is 32 bits.
 */
#include <linux/bitops.h>
#include <linux/export.h>
#include <linux/math.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/slab.h>

#include "dma-iobuf-internal.h"

/* bytes of granules that a run may cost, before runs are what is stored */
#define DMA_IOBUF_RUN_COST	16

/*
 * A search costs every command more than the few bytes are worth that runs save
 * in a page: memory without an IOMMU often has a handful of runs.
 */
static bool dma_iobuf_granules_fit(u64 granules, u64 runs)
{
	struct dma_iobuf_map *map;

	return granules * sizeof(map->addr[0]) <= runs * DMA_IOBUF_RUN_COST ||
	       granules <= (PAGE_SIZE - sizeof(*map)) / sizeof(map->addr[0]);
}

/*
 * Count the runs of a mapping. Returns log2 of its granule, or -EINVAL if it is
 * shorter than @size, or not made of whole DMA_IOBUF_PAGE_SIZE pages.
 */
static int dma_iobuf_table_scan(struct sg_table *sgt, u64 size, u64 *runs)
{
	struct scatterlist *sg;
	dma_addr_t end = 0;
	u64 off = 0, cuts = 0;
	unsigned int i;

	*runs = 1;
	for_each_sgtable_dma_sg(sgt, sg, i) {
		dma_addr_t addr = sg_dma_address(sg);
		u64 len = sg_dma_len(sg);

		/* some exporters count entries that they have left empty */
		if (!len)
			continue;
		if ((addr | len) & (DMA_IOBUF_PAGE_SIZE - 1))
			return -EINVAL;
		if (off && addr != end) {
			cuts |= off;
			(*runs)++;
		}
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

static void dma_iobuf_fill_granules(struct dma_iobuf_map *map,
				    struct sg_table *sgt, u64 size)
{
	struct scatterlist *sg;
	unsigned int i;
	u64 off = 0;

	for_each_sgtable_dma_sg(sgt, sg, i) {
		u64 end = min_t(u64, off + sg_dma_len(sg), size);
		/* first granule that starts in this entry */
		u64 at = ALIGN(off, map->granule);

		for (; at < end; at += map->granule)
			map->addr[at >> map->shift] = sg_dma_address(sg) +
						      (at - off);
		off += sg_dma_len(sg);
		if (off >= size)
			break;
	}
}

static void dma_iobuf_fill_runs(struct dma_iobuf_map *map, struct sg_table *sgt,
				u64 size)
{
	struct scatterlist *sg;
	dma_addr_t next = 0;
	unsigned int i, nr = 0;
	u64 off = 0;

	for_each_sgtable_dma_sg(sgt, sg, i) {
		if (!sg_dma_len(sg))
			continue;
		if (!off || sg_dma_address(sg) != next)
			map->addr[nr++] = sg_dma_address(sg);
		next = sg_dma_address(sg) + sg_dma_len(sg);
		off += sg_dma_len(sg);
		map->end[nr - 1] = DIV_ROUND_UP_ULL(min(off, size),
						    DMA_IOBUF_PAGE_SIZE);
		if (off >= size)
			break;
	}
}

/**
 * dma_iobuf_table_alloc - make the table of a mapping
 * @sgt:	mapped scatterlist, only DMA addresses are looked at
 * @size:	size of the dma-buf in bytes
 *
 * Context: process context, sleeps.
 * Return: a mapping with a table and nothing else, to be freed with kvfree();
 * ERR_PTR(-EINVAL) if @sgt is shorter than @size, or not made of whole
 * DMA_IOBUF_PAGE_SIZE pages; ERR_PTR(-EFBIG) or ERR_PTR(-ENOMEM) if the table
 * would be too large.
 */
struct dma_iobuf_map *dma_iobuf_table_alloc(struct sg_table *sgt, u64 size)
{
	struct dma_iobuf_map *map;
	u64 granules, runs, nr;
	bool by_run;
	int shift;

	shift = dma_iobuf_table_scan(sgt, size, &runs);
	if (shift < 0)
		return ERR_PTR(shift);
	granules = ((size - 1) >> shift) + 1;
	by_run = !dma_iobuf_granules_fit(granules, runs);
	nr = by_run ? runs : granules;
	if (nr >= INT_MAX || (by_run && size > (u64)U32_MAX * DMA_IOBUF_PAGE_SIZE))
		return ERR_PTR(-EFBIG);

	map = kvzalloc(size_add(struct_size(map, addr, nr),
				by_run ? size_mul(nr, sizeof(*map->end)) : 0),
		       GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!map)
		return ERR_PTR(-ENOMEM);
	map->nr = nr;
	map->shift = shift;
	if (by_run) {
		map->end = (u32 *)((void *)map + struct_size(map, addr, nr));
		dma_iobuf_fill_runs(map, sgt, size);
	} else {
		map->granule = 1ULL << shift;
		dma_iobuf_fill_granules(map, sgt, size);
	}
	return map;
}

/**
 * dma_iobuf_table_bytes - memory that a mapping takes, with its table
 * @map:	the mapping
 */
size_t dma_iobuf_table_bytes(const struct dma_iobuf_map *map)
{
	return struct_size(map, addr, map->nr) +
	       (map->end ? map->nr * sizeof(*map->end) : 0);
}

/**
 * dma_iobuf_run_find - find the run of an offset
 * @end:	where each run ends, ascending, in DMA_IOBUF_PAGE_SIZE
 * @nr:		runs
 * @off:	offset in bytes, before the end of the last run
 *
 * Context: any.
 */
unsigned int dma_iobuf_run_find(const u32 *end, unsigned int nr, u64 off)
{
	unsigned int steps;

	return dma_iobuf_run_search(end, nr, off, &steps);
}

/*
 * What dma_iobuf_map_addr() does not find in one granule. Runs and granules that
 * follow each other are one range.
 */
dma_addr_t __dma_iobuf_map_addr(const struct dma_iobuf_map *map, u64 off,
				u32 max, u32 *len)
{
	u64 in, avail;
	unsigned int i;
	dma_addr_t addr;

	if (!map->granule) {
		i = dma_iobuf_run_find(map->end, map->nr, off);
		in = off - dma_iobuf_run_start(map->end, i);
		avail = dma_iobuf_run_start(map->end, i + 1) - off;
		*len = min_t(u64, avail, max);
		return map->addr[i] + in;
	}

	i = off >> map->shift;
	in = off & (map->granule - 1);
	addr = map->addr[i] + in;
	avail = map->granule - in;
	for (; avail < max && i + 1 < map->nr; i++) {
		if (map->addr[i + 1] != map->addr[i] + map->granule)
			break;
		avail += map->granule;
	}
	*len = min_t(u64, avail, max);
	return addr;
}
EXPORT_SYMBOL_GPL(__dma_iobuf_map_addr);
