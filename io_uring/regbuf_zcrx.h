/* SPDX-License-Identifier: GPL-2.0 */
/* Parts of registered dma-bufs as areas of zero-copy receive */
#ifndef IOU_REGBUF_ZCRX_H
#define IOU_REGBUF_ZCRX_H

#include <linux/err.h>
#include <linux/types.h>

struct device;
struct dma_iobuf_map;
struct io_regbuf;
struct io_regbuf_copies;
struct io_ring_ctx;
struct io_rsrc_node;
struct net_device;
struct page;
struct sock;

/**
 * struct io_regbuf_area - what a card, or the CPU, may write to
 * @reg:	a buffer with the card as its only target; NULL: none, or ended
 * @map:	its mapping for the card, with a reference
 * @off:	where the area begins in the slot in bytes
 * @copies:	how the CPU writes to it; NULL: not at all
 */
struct io_regbuf_area {
	struct io_regbuf	*reg;
	struct dma_iobuf_map	*map;
	u64			off;
	struct io_regbuf_copies	*copies;
};

#ifdef CONFIG_DMA_SHARED_BUFFER
struct io_rsrc_node *io_regbuf_area_slot(struct io_ring_ctx *ctx,
					 unsigned int slot);
int io_regbuf_area_check(const struct io_rsrc_node *node, u64 off, u64 len);
int io_regbuf_area_begin(struct io_regbuf_area *area,
			 const struct io_rsrc_node *node, u64 off, u64 len,
			 struct net_device *netdev, struct device *dev);
int io_regbuf_area_addr(const struct io_regbuf_area *area, u64 off, u32 len,
			dma_addr_t *addr);
void io_regbuf_area_end(struct io_regbuf_area *area);

/* regbuf_copies.c */
int io_regbuf_copies_begin(struct io_regbuf_area *area,
			   const struct io_rsrc_node *node, u64 off, u64 len);
bool io_regbuf_copies_get(struct io_regbuf_area *to,
			  const struct io_regbuf_area *area);
void io_regbuf_copies_put(struct io_regbuf_area *area);
int io_regbuf_copies_open(const struct io_regbuf_area *area, struct sock *sk);
void io_regbuf_copy_to(const struct io_regbuf_area *area, u64 off,
		       struct page *page, unsigned int page_off, size_t len);
void io_regbuf_copied(const struct io_regbuf_area *area, size_t len);
void io_regbuf_copies_close(const struct io_regbuf_area *area);
void io_regbuf_copies_end(struct io_regbuf_area *area);
#else
static inline struct io_rsrc_node *
io_regbuf_area_slot(struct io_ring_ctx *ctx, unsigned int slot)
{
	return ERR_PTR(-EINVAL);
}

static inline int
io_regbuf_area_begin(struct io_regbuf_area *area,
		     const struct io_rsrc_node *node, u64 off, u64 len,
		     struct net_device *netdev, struct device *dev)
{
	return -EINVAL;
}

static inline int io_regbuf_area_addr(const struct io_regbuf_area *area,
				      u64 off, u32 len, dma_addr_t *addr)
{
	return -EINVAL;
}

static inline void io_regbuf_area_end(struct io_regbuf_area *area)
{
}

static inline int io_regbuf_copies_begin(struct io_regbuf_area *area,
					 const struct io_rsrc_node *node,
					 u64 off, u64 len)
{
	return -EINVAL;
}

static inline bool io_regbuf_copies_get(struct io_regbuf_area *to,
					const struct io_regbuf_area *area)
{
	return false;
}

static inline void io_regbuf_copies_put(struct io_regbuf_area *area)
{
}

static inline int io_regbuf_copies_open(const struct io_regbuf_area *area,
					struct sock *sk)
{
	return -EINVAL;
}

static inline void io_regbuf_copy_to(const struct io_regbuf_area *area, u64 off,
				     struct page *page, unsigned int page_off,
				     size_t len)
{
}

static inline void io_regbuf_copied(const struct io_regbuf_area *area,
				    size_t len)
{
}

static inline void io_regbuf_copies_close(const struct io_regbuf_area *area)
{
}

static inline void io_regbuf_copies_end(struct io_regbuf_area *area)
{
}
#endif

#endif
