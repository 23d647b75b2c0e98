// SPDX-License-Identifier: GPL-2.0
/*
 * Transmission of frags that have no page. The peer is another netdevsim, so
 * there is no DMA: the CPU reads what a device would have read, at the address
 * that a device would have been given.
 */
#include <linux/dma-direct.h>
#include <linux/highmem.h>
#include <linux/netdevice.h>
#include <linux/skbuff.h>
#include <net/netmem.h>

#include "netdevsim.h"

/* Like hardware, ask the frags: what the skb says about them may be wrong */
static bool nsim_skb_has_netmem(const struct sk_buff *skb)
{
	int i;

	for (i = 0; i < skb_shinfo(skb)->nr_frags; i++)
		if (skb_frag_is_net_iov(&skb_shinfo(skb)->frags[i]))
			return true;
	return false;
}

static int nsim_dma_read(struct device *dma_dev, dma_addr_t addr, void *to,
			 size_t len)
{
	while (len) {
		phys_addr_t phys = dma_to_phys(dma_dev, addr);
		size_t off = offset_in_page(phys);
		size_t n = min_t(size_t, len, PAGE_SIZE - off);

		/* The memory of another device */
		if (!pfn_valid(PHYS_PFN(phys)))
			return -EFAULT;
		memcpy_from_page(to, pfn_to_page(PHYS_PFN(phys)), off, n);
		addr += n;
		to += n;
		len -= n;
	}
	return 0;
}

static int nsim_frag_read(struct device *dma_dev, const skb_frag_t *frag,
			  void *to)
{
	u32 p_off, p_len, copied;
	struct page *p;

	/* The length does not fit into a descriptor */
	if (skb_frag_size(frag) > dma_get_max_seg_size(dma_dev))
		return -EMSGSIZE;
	if (skb_frag_is_net_iov(frag))
		return nsim_dma_read(dma_dev, skb_frag_dma_map(dma_dev, frag),
				     to, skb_frag_size(frag));

	skb_frag_foreach_page(frag, skb_frag_off(frag), skb_frag_size(frag),
			      p, p_off, p_len, copied)
		memcpy_from_page(to + copied, p, p_off, p_len);
	return 0;
}

static int nsim_skb_read(struct device *dma_dev, const struct sk_buff *skb,
			 struct sk_buff *copy)
{
	int i, err;

	skb_reserve(copy, skb_headroom(skb));
	skb_put_data(copy, skb->data, skb_headlen(skb));
	for (i = 0; i < skb_shinfo(skb)->nr_frags; i++) {
		const skb_frag_t *frag = &skb_shinfo(skb)->frags[i];

		err = nsim_frag_read(dma_dev, frag,
				     skb_put(copy, skb_frag_size(frag)));
		if (err)
			return err;
	}
	skb_copy_header(copy, skb);
	copy->unreadable = 0;
	return 0;
}

/**
 * nsim_netmem_tx() - make an skb with net_iovs one that the peer can read
 * @skb: what is transmitted, consumed if it is not what is returned
 * @dma_dev: the device that the net_iovs were mapped for
 *
 * Return: @skb if it has no net_iovs, else a linear copy of it; %NULL if there
 * is no memory for one, frags are too long or net_iovs are not in system memory.
 */
struct sk_buff *nsim_netmem_tx(struct sk_buff *skb, struct device *dma_dev)
{
	struct sk_buff *copy = NULL;

	if (likely(!nsim_skb_has_netmem(skb)))
		return skb;

	if (!skb_has_frag_list(skb))
		copy = alloc_skb(skb_headroom(skb) + skb->len,
				 GFP_ATOMIC | __GFP_NOWARN);
	if (!copy || nsim_skb_read(dma_dev, skb, copy)) {
		kfree_skb(copy);
		kfree_skb(skb);
		return NULL;
	}
	consume_skb(skb);
	return copy;
}
