// SPDX-License-Identifier: GPL-2.0
/*
 * Where is the memory behind a mapping, seen from the device?
 *
 * An exporter may legitimately answer a peer-to-peer capable attachment with
 * system memory. Users who ask for peer-to-peer have to be told, so look at
 * the addresses that the device is going to use, not at what was asked for.
 *
 * Peer memory is what is in a memory BAR of a PCI device. Everything else is
 * memory of the host: also that of a GPU with a coherent link of its own, which
 * no PCI device can reach as a peer.
 */
#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/minmax.h>
#include <linux/pci.h>
#include <linux/pci-p2pdma.h>

#include "dma-iobuf-internal.h"

/* translations that are made to tell where a large mapping is */
#define DMA_IOBUF_KIND_SAMPLES	64

/*
 * The BAR that @addr is in, or what is between two of them. @pci: @addr is on
 * the bus of the device; otherwise it is a physical address, which makes a
 * difference where host bridges translate.
 */
static void dma_iobuf_bar_search(struct device *dev, u64 addr, bool pci,
				 struct dma_iobuf_bar *bar)
{
#ifdef CONFIG_PCI
	struct pci_dev *pdev = NULL;
	int i;

	for_each_pci_dev(pdev) {
		bool on_bus = pci && dev_is_pci(dev) &&
			      pci_domain_nr(pdev->bus) ==
			      pci_domain_nr(to_pci_dev(dev)->bus);

		for (i = 0; i < PCI_STD_NUM_BARS; i++) {
			struct resource *res = &pdev->resource[i];
			u64 start, end;

			if (!(res->flags & IORESOURCE_MEM) || !res->parent)
				continue;
			start = on_bus ? pci_bus_address(pdev, i) : res->start;
			end = start + resource_size(res) - 1;
			if (addr < start) {
				bar->end = min(bar->end, start - 1);
			} else if (addr > end) {
				bar->start = max(bar->start, end + 1);
			} else {
				bar->start = start;
				bar->end = end;
				bar->phys = res->start;
				bar->type = pci_p2pdma_route(pdev, dev);
				pci_dev_put(pdev);
				return;
			}
		}
	}
#endif
}

static const struct dma_iobuf_bar *
dma_iobuf_bar_find(struct device *dev, struct dma_iobuf_bars *bars, u64 addr,
		   bool pci)
{
	struct dma_iobuf_bar *bar;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bars->bar); i++) {
		bar = &bars->bar[i];
		if (bar->end && addr >= bar->start && addr <= bar->end)
			return bar;
	}
	bar = &bars->bar[bars->next++ % ARRAY_SIZE(bars->bar)];
	*bar = (struct dma_iobuf_bar) {
		.end	= U64_MAX,
		.type	= PCI_P2PDMA_MAP_NONE,
	};
	dma_iobuf_bar_search(dev, addr, pci, bar);
	return bar;
}

/**
 * dma_iobuf_view_init - start to look at addresses of a device
 * @view:	to be filled in
 * @dev:	the device
 *
 * Context: process context. Does not take references: for the time of one call.
 */
void dma_iobuf_view_init(struct dma_iobuf_view *view, struct device *dev)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(dev);

	*view = (struct dma_iobuf_view) {
		.dev	= dev,
		.domain	= domain && domain->type & __IOMMU_DOMAIN_PAGING ?
			  domain : NULL,
	};
}

/**
 * dma_iobuf_view_bar - the BAR that an address is in, by what is on the bus
 * @view:	from dma_iobuf_view_init()
 * @addr:	DMA address
 *
 * Context: process context.
 * Return: valid until the next call. &dma_iobuf_bar.type is
 * PCI_P2PDMA_MAP_NONE for what is in no BAR.
 */
const struct dma_iobuf_bar *dma_iobuf_view_bar(struct dma_iobuf_view *view,
					       dma_addr_t addr)
{
	return dma_iobuf_bar_find(view->dev, &view->bus, addr, true);
}

/**
 * dma_iobuf_view_kind - where an address leads
 * @view:	from dma_iobuf_view_init()
 * @addr:	DMA address
 *
 * A switch looks at an address before any IOMMU does. Where none routes it, an
 * address that the IOMMU does not know leads nowhere: the exporter has handed
 * out what the BAR is called on the bus. That can be mapped if peer-to-peer
 * through the host bridge is possible.
 *
 * Context: process context.
 * Return: enum dma_iobuf_kind; DMA_IOBUF_UNTRANSLATED: an address of a BAR
 * that has to be mapped first; -EREMOTEIO: @dev cannot reach it.
 */
int dma_iobuf_view_kind(struct dma_iobuf_view *view, dma_addr_t addr)
{
	const struct dma_iobuf_bar *bar = dma_iobuf_view_bar(view, addr);
	phys_addr_t phys;

	if (bar->type == PCI_P2PDMA_MAP_BUS_ADDR)
		return DMA_IOBUF_KIND_P2P_BUS;
	if (!view->domain)
		return bar->type == PCI_P2PDMA_MAP_NONE ?
			DMA_IOBUF_KIND_SYSTEM : DMA_IOBUF_KIND_P2P_HOST;

	phys = iommu_iova_to_phys(view->domain, addr);
	if (!phys)
		return bar->type == PCI_P2PDMA_MAP_THRU_HOST_BRIDGE ?
			DMA_IOBUF_UNTRANSLATED : -EREMOTEIO;
	bar = dma_iobuf_bar_find(view->dev, &view->phys, phys, false);
	return bar->type == PCI_P2PDMA_MAP_NONE ? DMA_IOBUF_KIND_SYSTEM :
						  DMA_IOBUF_KIND_P2P_HOST;
}

/*
 * dma_need_sync() says yes to everything that an IOMMU maps when DMA debugging
 * is on, so ask first whether the device has ever needed it.
 */
static bool dma_iobuf_needs_sync(struct device *dev, dma_addr_t addr)
{
	if (IS_ENABLED(CONFIG_DMA_NEED_SYNC) && dev_dma_skip_sync(dev))
		return false;
	return dma_need_sync(dev, addr);
}

/**
 * dma_iobuf_mapping_kind - classify a mapping
 * @dev:	device it was made for
 * @sgt:	the mapping
 * @all:	translate every address; otherwise only 64 or so of those that
 *		an IOMMU has given out are looked up in its tables
 * @untranslated: set if there are BAR addresses for dma_iobuf_remap_create();
 *		they count as %DMA_IOBUF_KIND_P2P_HOST
 *
 * The first and the last byte of every scatterlist entry are looked at. What is
 * needed for the data to arrive is always asked of all of them: that nothing is
 * bounced, and that no address of a BAR is mistaken for one of the IOMMU.
 *
 * Context: process context.
 * Return: enum dma_iobuf_kind; -EOPNOTSUPP: memory is bounced by swiotlb, or
 * the device is not coherent: nobody would sync a mapping that is kept;
 * -EREMOTEIO: @dev cannot reach an address.
 */
int dma_iobuf_mapping_kind(struct device *dev, struct sg_table *sgt, bool all,
			   bool *untranslated)
{
	unsigned int i, step = all ? 1 : sgt->nents / DMA_IOBUF_KIND_SAMPLES + 1;
	enum dma_iobuf_kind kind = DMA_IOBUF_KIND_NONE;
	struct dma_iobuf_view view;
	struct scatterlist *sg;

	*untranslated = false;
	dma_iobuf_view_init(&view, dev);
	for_each_sgtable_dma_sg(sgt, sg, i) {
		dma_addr_t ends[2] = {
			sg_dma_address(sg),
			sg_dma_address(sg) + sg_dma_len(sg) - 1,
		};
		/* a page of the IOMMU is not in two places */
		unsigned int n = sg_dma_len(sg) <= DMA_IOBUF_PAGE_SIZE;

		/* nothing is there */
		if (!sg_dma_len(sg))
			continue;
		for (; n < ARRAY_SIZE(ends); n++) {
			int ret;

			if (dma_iobuf_needs_sync(dev, ends[n]))
				return -EOPNOTSUPP;
			if (view.domain && i % step &&
			    dma_iobuf_view_bar(&view, ends[n])->type ==
			    PCI_P2PDMA_MAP_NONE)
				continue;
			ret = dma_iobuf_view_kind(&view, ends[n]);
			if (ret < 0)
				return ret;
			if (ret == DMA_IOBUF_UNTRANSLATED) {
				*untranslated = true;
				ret = DMA_IOBUF_KIND_P2P_HOST;
			}
			kind = dma_iobuf_kind_add(kind, ret);
		}
	}
	return kind;
}
