/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _DMA_IOBUF_INTERNAL_H
#define _DMA_IOBUF_INTERNAL_H

#include <linux/dma-iobuf.h>
#include <linux/kref.h>
#include <linux/pci-p2pdma.h>
#include <linux/scatterlist.h>

/* dma-iobuf.c */
void dma_iobuf_ended(struct dma_iobuf *buf);

/* dma-iobuf-att.c: a device's attachment and mapping */
int dma_iobuf_resv_lock(struct dma_resv *resv);
void dma_iobuf_why_device(struct dma_iobuf_reason *why,
			  const struct dma_iobuf_dev *idev, unsigned int idx);
struct dma_iobuf_att *dma_iobuf_att_get(struct dma_iobuf_dev *idev,
					const struct dma_iobuf *buf);
int dma_iobuf_att_ready(struct dma_iobuf_att *att, const struct dma_iobuf *buf,
			struct dma_iobuf_reason *why);
int dma_iobuf_att_prepare(struct dma_iobuf_att *att,
			  struct dma_iobuf_reason *why);
void dma_iobuf_att_park(struct dma_iobuf_att *att, void *next);
bool dma_iobuf_att_reap(struct dma_iobuf_att *att);
u64 dma_iobuf_att_hits(const struct dma_iobuf_att *att);
void dma_iobuf_att_info(struct dma_iobuf_att *att, struct dma_iobuf_info *info);
void dma_iobuf_att_put(struct dma_iobuf *buf, struct dma_iobuf_att *att,
		       bool wait);
void dma_iobuf_att_unhold(struct kref *held);

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

/**
 * struct dma_iobuf_bar - a range of addresses
 * @start:	first
 * @end:	last
 * @phys:	physical address of @start, if it is a BAR
 * @type:	how the BAR is reached; %PCI_P2PDMA_MAP_NONE: there is no BAR
 */
struct dma_iobuf_bar {
	u64			start, end;
	phys_addr_t		phys;
	enum pci_p2pdma_map_type type;
};

/* those that were found last, as the next address is likely in one of them */
struct dma_iobuf_bars {
	struct dma_iobuf_bar	bar[4];
	unsigned int		next;
};

/**
 * struct dma_iobuf_view - how a device sees memory
 * @dev:	the device
 * @domain:	translates its addresses; NULL: nobody does
 * @bus:	by what is on the bus
 * @phys:	by physical address
 */
struct dma_iobuf_view {
	struct device		*dev;
	struct iommu_domain	*domain;
	struct dma_iobuf_bars	bus, phys;
};

/* dma_iobuf_view_kind(): beside enum dma_iobuf_kind */
#define DMA_IOBUF_UNTRANSLATED	0x100

/* two pieces of a mapping together */
static inline enum dma_iobuf_kind dma_iobuf_kind_add(enum dma_iobuf_kind a,
						     enum dma_iobuf_kind b)
{
	if (a == DMA_IOBUF_KIND_NONE || a == b)
		return b;
	if (a == DMA_IOBUF_KIND_SYSTEM || b == DMA_IOBUF_KIND_SYSTEM ||
	    a == DMA_IOBUF_KIND_MIXED)
		return DMA_IOBUF_KIND_MIXED;
	return DMA_IOBUF_KIND_P2P_HOST;
}

void dma_iobuf_view_init(struct dma_iobuf_view *view, struct device *dev);
const struct dma_iobuf_bar *dma_iobuf_view_bar(struct dma_iobuf_view *view,
					       dma_addr_t addr);
int dma_iobuf_view_kind(struct dma_iobuf_view *view, dma_addr_t addr);
int dma_iobuf_mapping_kind(struct device *dev, struct sg_table *sgt, bool all,
			   bool *untranslated);

/* dma-iobuf-drop.c: mappings that nobody uses */
bool dma_iobuf_drop_init(struct dma_iobuf_att *att, const struct dma_iobuf *buf);
void dma_iobuf_drop_free(struct dma_iobuf_att *att);
void dma_iobuf_drop_mapped(struct dma_iobuf_att *att);
void dma_iobuf_drop_done(struct dma_iobuf_att *att);
void dma_iobuf_drop_stop(struct dma_iobuf_att *att);
u64 dma_iobuf_drop_count(const struct dma_iobuf_att *att);

/* dma-iobuf-work.c: who waits for exporters when nobody can */
struct dma_iobuf_user *dma_iobuf_user_get(void);
struct dma_iobuf_user *dma_iobuf_user_hold(struct dma_iobuf_user *user);
void dma_iobuf_user_put(struct dma_iobuf_user *user);
void dma_iobuf_user_queue(struct dma_iobuf_user *user, struct dma_iobuf_work *work,
			  void (*func)(struct dma_iobuf_work *work));

/* dma-iobuf-remap.c: addresses that the exporter has not mapped */
struct dma_iobuf_remap *dma_iobuf_remap_create(struct device *dev,
					       struct sg_table *sgt,
					       enum dma_data_direction dir);
struct sg_table *dma_iobuf_remap_sgt(struct dma_iobuf_remap *remap);
void dma_iobuf_remap_destroy(struct device *dev, struct dma_iobuf_remap *remap,
			     enum dma_data_direction dir);

#endif /* _DMA_IOBUF_INTERNAL_H */
