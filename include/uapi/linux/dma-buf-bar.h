/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Test exporter: dma-bufs in a PCI memory device's BAR (CONFIG_DMABUF_BAR)
 *
 * Every ioctl is issued on /dev/dmabuf_bar; all but DMA_BUF_BAR_IOC_CREATE name
 * a dma-buf of this exporter by its fd. This is a test interface: it can change
 * with the tests that use it.
 */
#ifndef _UAPI_LINUX_DMA_BUF_BAR_H
#define _UAPI_LINUX_DMA_BUF_BAR_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* struct dma_buf_bar_create.flags */

/*
 * The backing is handed out in ->chunk byte pieces, in an order in which no
 * piece follows its predecessor in physical memory. In system memory the order
 * is the same, but what the page allocator returns decides the addresses.
 */
#define DMA_BUF_BAR_FRAGMENTED		(1U << 0)
/* The exporter has no ->pin, like one that can only revoke */
#define DMA_BUF_BAR_NO_PIN		(1U << 1)
/* Start in DMA_BUF_BAR_PLACE_SYSTEM instead of DMA_BUF_BAR_PLACE_A */
#define DMA_BUF_BAR_START_SYSTEM	(1U << 2)
/* The fd is O_RDONLY. POKE still works: it is not an access through the fd */
#define DMA_BUF_BAR_RDONLY		(1U << 3)

/*
 * The exporter maps memory in the BAR for the CPU in the kernel, as I/O memory;
 * not with DMA_BUF_BAR_NO_PIN
 */
#define DMA_BUF_BAR_VMAP		(1U << 8)

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
 * buffer is pinned.
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
 * struct dma_buf_bar_fd - a switch (DMA_BUF_BAR_IOC_REVOKE, _FENCE)
 * @fd: the dma-buf
 * @arg: REVOKE: 1 invalidates all mappings and lets maps fail with ENODEV,
 *	0 lets them succeed again.
 *	FENCE: 1 adds an unsignalled fence with kernel usage to the buffer (EBUSY
 *	if there is one), 0 signals it (ENOENT if there is none). It is signalled
 *	by itself after ten seconds, and when the buffer is released.
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

#endif /* _UAPI_LINUX_DMA_BUF_BAR_H */
