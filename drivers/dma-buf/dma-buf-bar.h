/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Test exporter: dma-bufs in a PCI memory device's BAR (CONFIG_DMABUF_BAR)
 *
 * Every ioctl is issued on /dev/dmabuf_bar; all but DMA_BUF_BAR_IOC_CREATE name
 * a dma-buf of this exporter by its fd. This is between the exporter and the tests
 * that come with it, tools/testing/selftests/io_uring_dmabuf: no user API.
 */
#ifndef _DMA_BUF_BAR_H
#define _DMA_BUF_BAR_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* struct dma_buf_bar_create.flags */

/*
 * The backing is handed out in ->chunk byte pieces, in an order in which no
 * piece follows its predecessor in physical memory. In system memory the order
 * is the same, but what the page allocator returns decides the addresses.
 */
#define DMA_BUF_BAR_FRAGMENTED		0x0001
/* The exporter has no ->pin, like one that can only revoke */
#define DMA_BUF_BAR_NO_PIN		0x0002
/* Start in DMA_BUF_BAR_PLACE_SYSTEM instead of DMA_BUF_BAR_PLACE_A */
#define DMA_BUF_BAR_START_SYSTEM	0x0004
/* The fd is O_RDONLY. POKE still works: it is not an access through the fd */
#define DMA_BUF_BAR_RDONLY		0x0008

/*
 * Whose part is played; none of these: amdgpu and xe, which pin, move and, here,
 * are revoked.
 *
 * NVIDIA: nv_dmabuf of the discrete GPUs. No pin, never moves, never revokes. An
 * importer with attach ops has to be peer-to-peer capable, else ENOTSUPP, the
 * kernel's own number. Each piece is mapped by dma_map_resource(), whatever the
 * topology is.
 * HABANALABS: as NVIDIA, but anybody may attach; who cannot reach the memory gets
 * EPERM when it maps.
 * VFIO: vfio-pci. No pin, no move. Revoked at any time, so an importer has to be
 * revocable, else EOPNOTSUPP. Without a peer-to-peer path mapping is EINVAL.
 * TENSTORRENT: pins, and revokes all the same: refuses the same importers as VFIO.
 */
#define DMA_BUF_BAR_NVIDIA		0x0010
#define DMA_BUF_BAR_HABANALABS		0x0080
#define DMA_BUF_BAR_VFIO		0x1000
#define DMA_BUF_BAR_TENSTORRENT		0x0200
#define DMA_BUF_BAR_FLAVOURS		(DMA_BUF_BAR_NVIDIA | \
					 DMA_BUF_BAR_HABANALABS | \
					 DMA_BUF_BAR_VFIO | \
					 DMA_BUF_BAR_TENSTORRENT)

/*
 * NVIDIA only. Pieces are not mapped: the addresses are those of the BAR, also
 * behind an IOMMU, as from versions 580 and 595 on today's kernels.
 */
#define DMA_BUF_BAR_UNTRANSLATED	0x0020
/* With UNTRANSLATED: every other piece is mapped */
#define DMA_BUF_BAR_ALTERNATE		0x0800
/*
 * As if p2pdma knew no path from any device. amdgpu, xe and habanalabs clear
 * attach->peer2peer; the first two then move the memory to the system when it is
 * pinned or mapped, unless it is pinned where it is: pinning is EINVAL then, and
 * mapping gives addresses that are of no use. NVIDIA refuses to attach: ENOTSUPP.
 */
#define DMA_BUF_BAR_UNREACHABLE		0x0040
/* Pinned where it is, as by a device that can reach it */
#define DMA_BUF_BAR_HELD		0x0400
/*
 * With DMA_BUF_BAR_FRAGMENTED, in the BAR: pieces of 1, 1, 2, 4 to 128 chunks, and
 * so on from the start. The size is a multiple of 256 chunks.
 */
#define DMA_BUF_BAR_MIXED		0x10000
/*
 * In the BAR, every piece is mapped by itself, so that behind an IOMMU it has an
 * address of its own. NVIDIA's and habanalabs' drivers do that.
 */
#define DMA_BUF_BAR_SEPARATE		0x20000

/*
 * The exporter maps memory in the BAR for the CPU in the kernel, as I/O memory;
 * not with DMA_BUF_BAR_NO_PIN
 */
#define DMA_BUF_BAR_VMAP		0x0100

/* Where the memory of a buffer is */
#define DMA_BUF_BAR_PLACE_A		0	/* lower half of the BAR */
#define DMA_BUF_BAR_PLACE_B		1	/* upper half of the BAR */
#define DMA_BUF_BAR_PLACE_SYSTEM	2	/* ordinary pages */

/**
 * struct dma_buf_bar_create - make a zeroed buffer (DMA_BUF_BAR_IOC_CREATE)
 * @size: bytes, a multiple of 4096, at most half of the BAR
 * @flags: DMA_BUF_BAR_*
 * @chunk: DMA_BUF_BAR_FRAGMENTED: bytes, a power of two, at least 4096, and
 *	@size a multiple of it; otherwise 0
 * @fd: out: the new dma-buf, close-on-exec
 * @dev: which memory device, 0 is the first
 */
struct dma_buf_bar_create {
	__u64 size;
	__u32 flags;
	__u32 chunk;
	__s32 fd;
	__u32 dev;
};

/**
 * struct dma_buf_bar_move - move a buffer (DMA_BUF_BAR_IOC_MOVE)
 * @fd: the dma-buf
 * @place: DMA_BUF_BAR_PLACE_*; the present place is allowed and means other
 *	memory in the same place
 *
 * Invalidates all mappings, waits for all fences, copies, and fills the memory
 * left behind with 0xee. That memory stays reserved until the next move, and
 * bytes of it that change are counted as stray. Fails with EBUSY while the
 * buffer is pinned, with EOPNOTSUPP if whose part is played never moves it.
 */
struct dma_buf_bar_move {
	__s32 fd;
	__u32 place;
};

/**
 * struct dma_buf_bar_info - what happened to a buffer (DMA_BUF_BAR_IOC_INFO)
 * @fd: in: the dma-buf
 * @place: DMA_BUF_BAR_PLACE_*
 * @moves: successful moves
 * @maps: successful maps, including those already unmapped
 * @pinned: present pins
 * @revoked: 1: maps fail with ENODEV
 * @stray: bytes written to memory that a move left behind, up to now
 * @live: mappings that exist now
 * @late: moves and revokes after which a mapping still existed, although all
 *	importers were told and all fences had signalled
 */
struct dma_buf_bar_info {
	__s32 fd;
	__u32 place;
	__u64 moves;
	__u64 maps;
	__u32 pinned;
	__u32 revoked;
	__u64 stray;
	__u32 live;
	__u32 late;
};

/**
 * struct dma_buf_bar_io - CPU copy (DMA_BUF_BAR_IOC_PEEK, DMA_BUF_BAR_IOC_POKE)
 * @fd: the dma-buf
 * @__resv: 0
 * @off: first byte
 * @len: bytes
 * @uptr: user memory: destination of a PEEK, source of a POKE
 *
 * Goes through the exporter's own mapping of the present place, so it tells
 * what is in the memory whatever an importer believes.
 */
struct dma_buf_bar_io {
	__s32 fd;
	__u32 __resv;
	__u64 off;
	__u64 len;
	__u64 uptr;
};

/**
 * struct dma_buf_bar_fd - a switch (DMA_BUF_BAR_IOC_REVOKE, _FENCE, _HOLD)
 * @fd: the dma-buf
 * @arg: REVOKE: 1 invalidates all mappings and lets maps fail with ENODEV,
 *	0 lets them succeed again. EBUSY: an importer that cannot be told has
 *	attached; EOPNOTSUPP: whose part is played never does it.
 *	FENCE: 1 adds an unsignalled fence with kernel usage to the buffer (EBUSY
 *	if there is one), 0 signals it (ENOENT if there is none). It is signalled
 *	by itself after ten seconds, and when the buffer is released.
 *	HOLD: the reservation lock is held for this many milliseconds, at most ten
 *	seconds, as by a driver that moves memory; then, or after a signal or what
 *	else interrupts (EINTR), the ioctl returns.
 */
struct dma_buf_bar_fd {
	__s32 fd;
	__u32 arg;
};

#define DMA_BUF_BAR_IOC_MAGIC	'D'
#define DMA_BUF_BAR_IOC_CREATE	_IOWR(DMA_BUF_BAR_IOC_MAGIC, 0xb0, \
				      struct dma_buf_bar_create)
#define DMA_BUF_BAR_IOC_MOVE	_IOW(DMA_BUF_BAR_IOC_MAGIC, 0xb1, \
				     struct dma_buf_bar_move)
#define DMA_BUF_BAR_IOC_INFO	_IOWR(DMA_BUF_BAR_IOC_MAGIC, 0xb2, \
				      struct dma_buf_bar_info)
#define DMA_BUF_BAR_IOC_PEEK	_IOW(DMA_BUF_BAR_IOC_MAGIC, 0xb3, \
				     struct dma_buf_bar_io)
#define DMA_BUF_BAR_IOC_POKE	_IOW(DMA_BUF_BAR_IOC_MAGIC, 0xb4, \
				     struct dma_buf_bar_io)
#define DMA_BUF_BAR_IOC_REVOKE	_IOW(DMA_BUF_BAR_IOC_MAGIC, 0xb5, \
				     struct dma_buf_bar_fd)
#define DMA_BUF_BAR_IOC_FENCE	_IOW(DMA_BUF_BAR_IOC_MAGIC, 0xb6, \
				     struct dma_buf_bar_fd)
#define DMA_BUF_BAR_IOC_HOLD	_IOW(DMA_BUF_BAR_IOC_MAGIC, 0xb7, \
				     struct dma_buf_bar_fd)

#endif /* _DMA_BUF_BAR_H */
