// SPDX-License-Identifier: GPL-2.0
/*
 * Mapping what an exporter has not mapped.
 *
 * Some exporters hand out the addresses of a BAR as they are on the bus although
 * the device is behind an IOMMU that translates: nv_dmabuf does so wherever
 * get_dma_ops() is NULL, which once meant that there is no IOMMU. No IOMMU lets
 * them pass. The importer knows its own device, so it can map them as well as
 * the exporter could have: whole ranges, not the pieces of the scatterlist.
 */
#include <linux/dma-mapping.h>
#include <linux/math.h>
#include <linux/pci-p2pdma.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "dma-iobuf-internal.h"

/* a length in a scatterlist is 32 bits; this one keeps the granule large */
#define DMA_IOBUF_REMAP_ENTRY	SZ_2G

/**
 * struct dma_iobuf_remap - what replaces an exporter's scatterlist
 * @sgt:	all of the dma-buf, what the exporter has mapped as it was
 * @nr:		entries used in @run
 * @run:	mappings of our own
 */
struct dma_iobuf_remap {
	struct sg_table		sgt;
	unsigned int		nr;
	struct {
		dma_addr_t	addr;
		size_t		len;
	} run[];
};

/* Entries of an exporter's scatterlist that go into one mapping */
struct dma_iobuf_run {
	dma_addr_t	addr;
	phys_addr_t	phys;
	size_t		len;
	bool		untranslated;
};

/*
 * The run that starts at @sg, of which @left entries are left: as many as are
 * contiguous in one BAR, if they have to be mapped. Returns how many; -EREMOTEIO
 * if one ends outside of the BAR it starts in.
 */
static int dma_iobuf_run_next(struct dma_iobuf_view *view,
			      struct scatterlist *sg, unsigned int left,
			      struct dma_iobuf_run *run)
{
	const struct dma_iobuf_bar *bar;
	int n = 1, kind;

	run->addr = sg_dma_address(sg);
	run->len = sg_dma_len(sg);
	run->untranslated = false;
	if (!run->len)
		return n;
	kind = dma_iobuf_view_kind(view, run->addr);
	if (kind < 0)
		return kind;
	run->untranslated = kind == DMA_IOBUF_UNTRANSLATED;
	if (!run->untranslated)
		return n;

	bar = dma_iobuf_view_bar(view, run->addr);
	run->phys = bar->phys + (run->addr - bar->start);
	if (run->len - 1 > bar->end - run->addr)
		return -EREMOTEIO;
	while (--left) {
		sg = sg_next(sg);
		if (sg_dma_address(sg) != run->addr + run->len ||
		    sg_dma_len(sg) > bar->end - run->addr - run->len + 1)
			break;
		run->len += sg_dma_len(sg);
		n++;
	}
	return n;
}

static struct scatterlist *dma_iobuf_remap_fill(struct scatterlist *sg,
						dma_addr_t addr, size_t len)
{
	while (len) {
		unsigned int n = min_t(size_t, len, DMA_IOBUF_REMAP_ENTRY);

		sg_dma_address(sg) = addr;
		sg_dma_len(sg) = n;
		addr += n;
		len -= n;
		sg = sg_next(sg);
	}
	return sg;
}

/* how many runs, mappings and entries there are going to be */
static int dma_iobuf_remap_count(struct dma_iobuf_view *view,
				 struct sg_table *sgt, unsigned int *nr_run,
				 unsigned int *nr_sg)
{
	struct scatterlist *sg = sgt->sgl;
	unsigned int left = sgt->nents;
	struct dma_iobuf_run run;

	*nr_run = 0;
	*nr_sg = 0;
	while (left) {
		int n = dma_iobuf_run_next(view, sg, left, &run);

		if (n < 0)
			return n;
		if (run.untranslated)
			++*nr_run;
		*nr_sg += DIV_ROUND_UP(run.len, DMA_IOBUF_REMAP_ENTRY);
		left -= n;
		while (n--)
			sg = sg_next(sg);
	}
	return 0;
}

static int dma_iobuf_remap_run(struct device *dev, struct dma_iobuf_remap *remap,
			       struct dma_iobuf_run *run,
			       enum dma_data_direction dir)
{
	dma_addr_t addr = dma_map_phys(dev, run->phys, run->len, dir,
				       DMA_ATTR_MMIO);

	if (dma_mapping_error(dev, addr))
		return -ENOMEM;
	remap->run[remap->nr].addr = addr;
	remap->run[remap->nr].len = run->len;
	remap->nr++;
	run->addr = addr;
	return 0;
}

/**
 * dma_iobuf_remap_create - map the BAR addresses of an exporter's scatterlist
 * @dev:	the device, behind an IOMMU
 * @sgt:	what the exporter returned; it has to stay as long as the result
 * @dir:	what @dev may do with the memory
 *
 * Only for what dma_iobuf_mapping_kind() has looked at: memory in a BAR that
 * @dev can reach through the host bridge. Nothing else is mapped.
 *
 * Context: process context, under the reservation lock.
 * Return: to be freed by dma_iobuf_remap_destroy(); ERR_PTR(-EREMOTEIO): an entry
 * is not inside of one BAR; ERR_PTR(-ENOMEM): no memory, or no addresses.
 */
struct dma_iobuf_remap *dma_iobuf_remap_create(struct device *dev,
					       struct sg_table *sgt,
					       enum dma_data_direction dir)
{
	struct scatterlist *sg = sgt->sgl, *to;
	unsigned int nr_run, nr_sg, left = sgt->nents;
	struct dma_iobuf_remap *remap;
	struct dma_iobuf_view view;
	int ret;

	dma_iobuf_view_init(&view, dev);
	ret = dma_iobuf_remap_count(&view, sgt, &nr_run, &nr_sg);
	if (ret)
		return ERR_PTR(ret);
	remap = kvzalloc_flex(*remap, run, nr_run, GFP_KERNEL_ACCOUNT);
	if (!remap)
		return ERR_PTR(-ENOMEM);
	ret = sg_alloc_table(&remap->sgt, nr_sg, GFP_KERNEL_ACCOUNT);
	if (ret) {
		kvfree(remap);
		return ERR_PTR(ret);
	}

	to = remap->sgt.sgl;
	while (left) {
		struct dma_iobuf_run run;
		int n = dma_iobuf_run_next(&view, sg, left, &run);

		ret = n < 0 ? n : 0;
		if (!ret && run.untranslated)
			ret = dma_iobuf_remap_run(dev, remap, &run, dir);
		if (ret) {
			dma_iobuf_remap_destroy(dev, remap, dir);
			return ERR_PTR(ret);
		}
		to = dma_iobuf_remap_fill(to, run.addr, run.len);
		left -= n;
		while (n--)
			sg = sg_next(sg);
	}
	return remap;
}

/**
 * dma_iobuf_remap_sgt - the addresses to use instead of the exporter's
 * @remap:	from dma_iobuf_remap_create()
 */
struct sg_table *dma_iobuf_remap_sgt(struct dma_iobuf_remap *remap)
{
	return &remap->sgt;
}

/**
 * dma_iobuf_remap_destroy - undo dma_iobuf_remap_create()
 * @dev:	the device, which does not use the addresses any more
 * @remap:	from dma_iobuf_remap_create(), or NULL
 * @dir:	as for dma_iobuf_remap_create()
 *
 * Context: process context, under the reservation lock.
 */
void dma_iobuf_remap_destroy(struct device *dev, struct dma_iobuf_remap *remap,
			     enum dma_data_direction dir)
{
	unsigned int i;

	if (!remap)
		return;
	for (i = 0; i < remap->nr; i++)
		dma_unmap_phys(dev, remap->run[i].addr, remap->run[i].len, dir,
			       DMA_ATTR_MMIO);
	sg_free_table(&remap->sgt);
	kvfree(remap);
}
