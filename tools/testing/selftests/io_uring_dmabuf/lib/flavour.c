// SPDX-License-Identifier: GPL-2.0
/* Exporters as they really are */
#include <errno.h>
#include <linux/dma-buf-bar.h>

#include "flavour.h"
#include "lab.h"
#include "uring.h"

const struct flavour flavours[] = {
	{ .name = "amdgpu, xe" },
	{ .name = "pinned by somebody else", .flags = DMA_BUF_BAR_HELD },
	{ .name = "amdgpu, xe, out of reach",
	  .flags = DMA_BUF_BAR_UNREACHABLE,
	  .route = ROUTE_SYSTEM, .require = -EREMOTEIO },
	{ .name = "amdgpu, xe, out of reach, pinned by somebody else",
	  .flags = DMA_BUF_BAR_UNREACHABLE | DMA_BUF_BAR_HELD,
	  .drive = -EREMOTEIO, .require = -EREMOTEIO, .socket = -EINVAL },
	{ .name = "NVIDIA", .flags = DMA_BUF_BAR_NVIDIA, .route = ROUTE_MAPPED },
	{ .name = "NVIDIA, pieces",
	  .flags = DMA_BUF_BAR_NVIDIA | DMA_BUF_BAR_FRAGMENTED, .chunk = FLAVOUR_CHUNK,
	  .route = ROUTE_MAPPED },
	{ .name = "NVIDIA, not mapped",
	  .flags = DMA_BUF_BAR_NVIDIA | DMA_BUF_BAR_UNTRANSLATED },
	{ .name = "NVIDIA, not mapped, pieces",
	  .flags = DMA_BUF_BAR_NVIDIA | DMA_BUF_BAR_UNTRANSLATED |
		   DMA_BUF_BAR_FRAGMENTED, .chunk = FLAVOUR_CHUNK },
	{ .name = "NVIDIA, half of it mapped",
	  .flags = DMA_BUF_BAR_NVIDIA | DMA_BUF_BAR_UNTRANSLATED |
		   DMA_BUF_BAR_ALTERNATE | DMA_BUF_BAR_FRAGMENTED,
	  .chunk = FLAVOUR_CHUNK, .route = ROUTE_MAPPED },
	{ .name = "NVIDIA, out of reach",
	  .flags = DMA_BUF_BAR_NVIDIA | DMA_BUF_BAR_UNREACHABLE,
	  .drive = -EOPNOTSUPP, .require = -EOPNOTSUPP, .socket = -EOPNOTSUPP },
	{ .name = "habanalabs", .flags = DMA_BUF_BAR_HABANALABS,
	  .route = ROUTE_MAPPED },
	{ .name = "habanalabs, out of reach",
	  .flags = DMA_BUF_BAR_HABANALABS | DMA_BUF_BAR_UNREACHABLE,
	  .drive = -EPERM, .require = -EREMOTEIO, .socket = -EPERM },
	{ .name = "vfio-pci", .flags = DMA_BUF_BAR_VFIO, .socket = -EOPNOTSUPP },
	{ .name = "vfio-pci, out of reach",
	  .flags = DMA_BUF_BAR_VFIO | DMA_BUF_BAR_UNREACHABLE,
	  .drive = -EINVAL, .require = -EINVAL, .socket = -EOPNOTSUPP },
	{ .name = "tenstorrent", .flags = DMA_BUF_BAR_TENSTORRENT,
	  .socket = -EOPNOTSUPP },
	{ .name = "cannot pin", .flags = DMA_BUF_BAR_NO_PIN,
	  .socket = -EOPNOTSUPP },
};

const unsigned int nr_flavours = sizeof(flavours) / sizeof(flavours[0]);

int flavour_create(struct mem *m, const struct flavour *f)
{
	return mem_create_bar(m, FLAVOUR_SIZE, f->flags, f->chunk);
}

__u32 flavour_state(const struct flavour *f, bool is_switch)
{
	if (f->route == ROUTE_SYSTEM)
		return IO_REGBUF_MAP_SYSTEM;
	if (f->route == ROUTE_MAPPED && !lab_is("LAB_IOMMU", "off"))
		return IO_REGBUF_MAP_P2P_HOST;
	return is_switch ? IO_REGBUF_MAP_P2P_BUS : IO_REGBUF_MAP_P2P_HOST;
}
