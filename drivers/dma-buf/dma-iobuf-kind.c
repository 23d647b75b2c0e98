// SPDX-License-Identifier: GPL-2.0
/*
 * Where is the memory behind a mapping, seen from the device?
 *
 * An exporter may legitimately answer a peer-to-peer capable attachment with
 * system memory. Users who ask for peer-to-peer have to be told, so look at
 * the addresses that the device is going to use, not at what was asked for.
 */
#include <linux/dma-direct.h>
#include <linux/iommu.h>
#include <linux/memremap.h>
#include <linux/pci.h>
#include <linux/pci-p2pdma.h>
#include <linux/swiotlb.h>

#include "dma-iobuf.h"

static bool dma_iobuf_is_ram(phys_addr_t phys)
{
	unsigned long pfn = PHYS_PFN(phys);

	return pfn_valid(pfn) && !is_zone_device_page(pfn_to_page(pfn));
}

/* the BAR that was found last, as the next address is likely in it, too */
struct dma_iobuf_bar {
	phys_addr_t		start, end;
	enum dma_iobuf_kind	kind;
};

static struct p2pdma_provider *dma_iobuf_provider(struct pci_dev *pdev, int bar)
{
#ifdef CONFIG_PCI_P2PDMA
	/* not every driver that lends its BAR takes part in P2PDMA */
	if (rcu_access_pointer(pdev->p2pdma))
		return pcim_p2pdma_provider(pdev, bar);
#endif
	return NULL;
}

/* routing that the P2PDMA core decided on for the BAR that @phys is in */
static enum dma_iobuf_kind dma_iobuf_peer_kind(struct device *dev,
					       phys_addr_t phys,
					       struct dma_iobuf_bar *last)
{
	struct pci_dev *pdev = NULL;
	int bar;

	if (last->end && phys >= last->start && phys <= last->end)
		return last->kind;

	for_each_pci_dev(pdev) {
		for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
			struct resource *res = &pdev->resource[bar];
			enum pci_p2pdma_map_type type;
			struct p2pdma_provider *provider;

			if (!(res->flags & IORESOURCE_MEM) ||
			    phys < res->start || phys > res->end)
				continue;
			provider = dma_iobuf_provider(pdev, bar);
			type = provider ? pci_p2pdma_map_type(provider, dev) :
				PCI_P2PDMA_MAP_THRU_HOST_BRIDGE;
			*last = (struct dma_iobuf_bar) {
				.start	= res->start,
				.end	= res->end,
				.kind	= type == PCI_P2PDMA_MAP_BUS_ADDR ?
					DMA_IOBUF_KIND_P2P_BUS :
					DMA_IOBUF_KIND_P2P_HOST,
			};
			pci_dev_put(pdev);
			return last->kind;
		}
	}
	return DMA_IOBUF_KIND_P2P_HOST;
}

static int dma_iobuf_addr_kind(struct device *dev, struct iommu_domain *domain,
			       dma_addr_t addr, struct dma_iobuf_bar *last)
{
	phys_addr_t phys;

	if (domain) {
		phys = iommu_iova_to_phys(domain, addr);
		/* not translated: a bus address that the switch routes */
		if (!phys)
			return DMA_IOBUF_KIND_P2P_BUS;
	} else {
		phys = dma_to_phys(dev, addr);
	}
	/* bounced: nobody would copy the data for a mapping that is kept */
	if (swiotlb_find_pool(dev, phys))
		return -EOPNOTSUPP;
	if (dma_iobuf_is_ram(phys))
		return DMA_IOBUF_KIND_SYSTEM;
	return dma_iobuf_peer_kind(dev, phys, last);
}

/**
 * dma_iobuf_mapping_kind - classify a mapping
 * @dev:	device it was made for
 * @sgt:	the mapping
 *
 * The first and the last page of every scatterlist entry are looked at.
 *
 * Context: process context.
 * Return: enum dma_iobuf_kind, or -EOPNOTSUPP if memory is bounced by swiotlb.
 */
int dma_iobuf_mapping_kind(struct device *dev, struct sg_table *sgt)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(dev);
	struct dma_iobuf_bar last = { };
	int kind = DMA_IOBUF_KIND_NONE;
	struct scatterlist *sg;
	unsigned int i;

	if (domain && !(domain->type & __IOMMU_DOMAIN_PAGING))
		domain = NULL;

	for_each_sgtable_dma_sg(sgt, sg, i) {
		dma_addr_t ends[2] = {
			sg_dma_address(sg),
			sg_dma_address(sg) + sg_dma_len(sg) - 1,
		};
		unsigned int n;

		for (n = 0; n < ARRAY_SIZE(ends); n++) {
			int ret = dma_iobuf_addr_kind(dev, domain, ends[n],
						      &last);

			if (ret < 0)
				return ret;
			if (kind == DMA_IOBUF_KIND_NONE)
				kind = ret;
			else if (kind != ret)
				return DMA_IOBUF_KIND_MIXED;
		}
	}
	return kind;
}
