// SPDX-License-Identifier: GPL-2.0
/* Rings that write headers and payload of packets to different buffers */

#include <linux/etherdevice.h>
#include <linux/ethtool_netlink.h>
#include <net/page_pool/helpers.h>

#include "e1000_hw.h"
#include "igb.h"
#include "igb_split.h"

/**
 * igb_rx_pool_create - make what payload comes to
 * @adapter: board private structure
 * @queue: index of the ring, whose memory provider the pool has, if there is one
 * @count: its descriptors
 *
 * Return: the pool, or an ERR_PTR
 */
struct page_pool *igb_rx_pool_create(struct igb_adapter *adapter,
				     unsigned int queue, unsigned int count)
{
	struct page_pool_params params = {
		.flags		= PP_FLAG_DMA_MAP | PP_FLAG_DMA_SYNC_DEV |
				  PP_FLAG_ALLOW_UNREADABLE_NETMEM,
		.pool_size	= count,
		.nid		= NUMA_NO_NODE,
		.dev		= &adapter->pdev->dev,
		.netdev		= adapter->netdev,
		.queue_idx	= queue,
		.dma_dir	= DMA_FROM_DEVICE,
		.max_len	= PAGE_SIZE,
	};

	return page_pool_create(&params);
}

static void igb_rx_starved(struct timer_list *t)
{
	struct igb_rx_split *split = timer_container_of(split, t, starved);

	napi_schedule(&split->q_vector->napi);
}

/* A memory provider has nothing while the application has all of it. Without
 * buffers there are no packets, and without packets nobody comes to look if there
 * are buffers again. Look while there are a few left.
 */
static void igb_check_starved(struct igb_ring *ring)
{
	if (ring->split->pool &&
	    igb_desc_unused(ring) + IGB_RX_BUFFER_WRITE > ring->count)
		mod_timer(&ring->split->starved, jiffies + 1);
}

/**
 * igb_setup_rx_split - allocate what a ring needs to split headers off
 * @ring: the ring, with its size
 *
 * Does nothing but that @ring->split is NULL unless tcp-data-split is on. The ring
 * of the self test, which has no NAPI, does not split.
 *
 * Return: 0 or negative errno
 */
int igb_setup_rx_split(struct igb_ring *ring)
{
	struct igb_adapter *adapter = netdev_priv(ring->netdev);
	struct igb_rx_split *split;
	int err = -ENOMEM;

	ring->split = NULL;
	if (adapter->tcp_data_split != ETHTOOL_TCP_DATA_SPLIT_ENABLED ||
	    !ring->q_vector)
		return 0;

	split = kvzalloc_flex(*split, netmem, ring->count);
	if (!split)
		return err;
	split->hdr = dma_alloc_coherent(ring->dev, ring->count * IGB_RX_HDR_LEN,
					&split->hdr_dma, GFP_KERNEL);
	if (!split->hdr)
		goto err_free;

	split->pool = igb_rx_pool_create(adapter, ring->queue_index,
					 ring->count);
	if (IS_ERR(split->pool)) {
		err = PTR_ERR(split->pool);
		goto err_hdr;
	}

	split->q_vector = ring->q_vector;
	timer_setup(&split->starved, igb_rx_starved, 0);
	ring->split = split;
	return 0;

err_hdr:
	dma_free_coherent(ring->dev, ring->count * IGB_RX_HDR_LEN, split->hdr,
			  split->hdr_dma);
err_free:
	kvfree(split);
	return err;
}

/**
 * igb_free_rx_split - free what igb_setup_rx_split() has allocated
 * @ring: the ring, cleaned
 */
void igb_free_rx_split(struct igb_ring *ring)
{
	struct igb_rx_split *split = ring->split;

	if (!split)
		return;
	ring->split = NULL;
	page_pool_destroy(split->pool);
	dma_free_coherent(ring->dev, ring->count * IGB_RX_HDR_LEN, split->hdr,
			  split->hdr_dma);
	kvfree(split);
}

/* SRRCTL of a ring that splits: sizes and kind of descriptors */
u32 igb_split_srrctl(struct igb_adapter *adapter)
{
	struct e1000_hw *hw = &adapter->hw;
	unsigned int i;

	/* Headers end with TCP or UDP, or IP; the file system behind is payload.
	 * There is one register for each pool; those before ours are of virtual
	 * functions.
	 */
	for (i = adapter->vfs_allocated_count; i < 8; i++)
		wr32(E1000_PSRTYPE(i), E1000_PSRTYPE_UP_TO_L4);

	/* Not SPLIT_ALWAYS: that leaves packets that fit there with the headers,
	 * payload and all.
	 */
	return IGB_RX_HDR_LEN << E1000_SRRCTL_BSIZEHDRSIZE_SHIFT |
	       PAGE_SIZE >> E1000_SRRCTL_BSIZEPKT_SHIFT |
	       E1000_SRRCTL_DESCTYPE_HDR_SPLIT |
	       /* one ring without buffers must not hold up the others */
	       E1000_SRRCTL_DROP_EN;
}

/**
 * igb_alloc_rx_buffers_split - give the hardware buffers
 * @ring: the ring
 * @count: of how many descriptors
 */
void igb_alloc_rx_buffers_split(struct igb_ring *ring, u16 count)
{
	struct igb_rx_split *split = ring->split;
	u16 i = ring->next_to_use;

	if (!split->pool)
		return;

	while (count--) {
		union e1000_adv_rx_desc *rx_desc = IGB_RX_DESC(ring, i);
		netmem_ref netmem;

		netmem = page_pool_alloc_netmems(split->pool,
						 GFP_ATOMIC | __GFP_NOWARN);
		if (unlikely(!netmem)) {
			ring->rx_stats.alloc_failed++;
			set_bit(IGB_RING_FLAG_RX_ALLOC_FAILED, &ring->flags);
			break;
		}

		split->netmem[i] = netmem;
		rx_desc->read.pkt_addr =
			cpu_to_le64(page_pool_get_dma_addr_netmem(netmem));
		/* which is even, so DD is off */
		rx_desc->read.hdr_addr =
			cpu_to_le64(split->hdr_dma + i * IGB_RX_HDR_LEN);

		if (++i == ring->count)
			i = 0;
	}

	if (i == ring->next_to_use)
		return;

	ring->next_to_use = i;
	/* descriptors first, then that they are there */
	dma_wmb();
	writel(i, ring->tail);
}

/**
 * igb_clean_rx_ring_split - take all buffers back
 * @ring: the ring, stopped
 */
void igb_clean_rx_ring_split(struct igb_ring *ring)
{
	struct igb_rx_split *split = ring->split;
	unsigned int i;

	timer_delete_sync(&split->starved);
	for (i = 0; i < ring->count; i++) {
		if (!split->netmem[i])
			continue;
		page_pool_put_full_netmem(split->pool, split->netmem[i], false);
		split->netmem[i] = 0;
	}
}

/* The headers, where they are: split off, or before the payload */
static unsigned int igb_split_headers(struct igb_ring *ring, struct sk_buff *skb,
				      union e1000_adv_rx_desc *rx_desc,
				      netmem_ref netmem, unsigned int size)
{
	u16 info = le16_to_cpu(rx_desc->wb.lower.lo_dword.hdr_info);
	unsigned int i = ring->next_to_clean, len;
	void *va;

	len = (info & E1000_RXDADV_HDRBUFLEN_MASK) >> E1000_RXDADV_HDRBUFLEN_SHIFT;
	if (info & E1000_RXDADV_SPH && len <= IGB_RX_HDR_LEN) {
		skb_put_data(skb, ring->split->hdr + i * IGB_RX_HDR_LEN, len);
		return 0;
	}

	/* no IP, or too long; that ends in igb_split_finish() where it is unreadable */
	if (netmem_is_net_iov(netmem))
		return 0;
	va = netmem_address(netmem);
	page_pool_dma_sync_netmem_for_cpu(ring->split->pool, netmem, 0, size);
	len = size;
	if (len > IGB_RX_HDR_LEN)
		len = eth_get_headlen(skb->dev, va, IGB_RX_HDR_LEN);
	skb_put_data(skb, va, len);
	return len;
}

/* What one descriptor has of a packet, the first without @skb. NULL: no memory */
static struct sk_buff *igb_split_add(struct igb_ring *ring, struct sk_buff *skb,
				     union e1000_adv_rx_desc *rx_desc)
{
	netmem_ref *slot = &ring->split->netmem[ring->next_to_clean];
	unsigned int size = le16_to_cpu(rx_desc->wb.upper.length);
	struct page_pool *pool = ring->split->pool;
	unsigned int off = 0;

	if (!skb) {
		skb = napi_alloc_skb(&ring->q_vector->napi, IGB_RX_HDR_LEN);
		if (unlikely(!skb))
			return NULL;
		skb_mark_for_recycle(skb);
		off = igb_split_headers(ring, skb, rx_desc, *slot, size);
	}

	if (size > off) {
		page_pool_dma_sync_netmem_for_cpu(pool, *slot, off, size - off);
		skb_add_rx_frag_netmem(skb, skb_shinfo(skb)->nr_frags, *slot,
				       off, size - off, PAGE_SIZE);
	} else {
		page_pool_put_full_netmem(pool, *slot, true);
	}
	*slot = 0;
	return skb;
}

static bool igb_split_drop(struct igb_ring *ring, struct sk_buff *skb)
{
	struct igb_adapter *adapter = netdev_priv(ring->netdev);

	atomic_inc(&adapter->rx_unreadable_dropped);
	dev_kfree_skb_any(skb);
	return false;
}

/* Returns false if the packet is not for the stack: @skb is freed */
static bool igb_split_finish(struct igb_ring *ring, struct sk_buff *skb,
			     union e1000_adv_rx_desc *rx_desc)
{
	if (unlikely(igb_test_staterr(rx_desc,
				      E1000_RXDEXT_ERR_FRAME_ERR_MASK))) {
		dev_kfree_skb_any(skb);
		return false;
	}

	if (unlikely(skb_headlen(skb) < ETH_HLEN))
		return igb_split_drop(ring, skb);

	/* frees it if it returns an error */
	if (skb_frags_readable(skb) && eth_skb_pad(skb))
		return false;

	igb_process_skb_fields(ring, rx_desc, skb);

	/* nobody else can verify it: ICMP, IP fragments, errors */
	if (unlikely(!skb_frags_readable(skb) &&
		     skb->ip_summed != CHECKSUM_UNNECESSARY))
		return igb_split_drop(ring, skb);
	return true;
}

/**
 * igb_clean_rx_irq_split - receive packets
 * @q_vector: of the ring
 * @budget: how many at most
 *
 * Return: how many
 */
int igb_clean_rx_irq_split(struct igb_q_vector *q_vector, const int budget)
{
	unsigned int total_bytes = 0, total_packets = 0;
	struct igb_ring *ring = q_vector->rx.ring;
	u16 cleaned_count = igb_desc_unused(ring);
	struct sk_buff *skb = ring->skb;

	/* netpoll, which may have interrupts off: not with page_pools */
	if (unlikely(!budget))
		return 0;

	while (likely(total_packets < budget)) {
		union e1000_adv_rx_desc *rx_desc;
		struct sk_buff *next;
		unsigned int len;

		/* return some buffers to hardware, one at a time is too slow */
		if (cleaned_count >= IGB_RX_BUFFER_WRITE) {
			igb_alloc_rx_buffers_split(ring, cleaned_count);
			cleaned_count = 0;
		}

		if (ring->next_to_clean == ring->next_to_use)
			break;
		/* not the length, which is 0 where all is headers */
		rx_desc = IGB_RX_DESC(ring, ring->next_to_clean);
		if (!igb_test_staterr(rx_desc, E1000_RXD_STAT_DD))
			break;

		/* This memory barrier is needed to keep us from reading
		 * any other fields out of the rx_desc until we know the
		 * descriptor has been written back
		 */
		dma_rmb();

		next = igb_split_add(ring, skb, rx_desc);
		if (unlikely(!next)) {
			ring->rx_stats.alloc_failed++;
			set_bit(IGB_RING_FLAG_RX_ALLOC_FAILED, &ring->flags);
			break;
		}
		skb = next;

		cleaned_count++;
		if (++ring->next_to_clean == ring->count)
			ring->next_to_clean = 0;
		if (!igb_test_staterr(rx_desc, E1000_RXD_STAT_EOP))
			continue;

		len = skb->len;
		if (igb_split_finish(ring, skb, rx_desc))
			napi_gro_receive(&q_vector->napi, skb);
		skb = NULL;
		total_bytes += len;
		total_packets++;
	}

	/* the rest of a packet is still to come */
	ring->skb = skb;

	igb_update_rx_stats(q_vector, total_packets, total_bytes);

	cleaned_count = igb_desc_unused(ring);
	if (cleaned_count)
		igb_alloc_rx_buffers_split(ring, cleaned_count);
	igb_check_starved(ring);

	return total_packets;
}
