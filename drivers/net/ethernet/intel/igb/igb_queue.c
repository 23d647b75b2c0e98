// SPDX-License-Identifier: GPL-2.0
/* Receive queues that are stopped one at a time, to get other memory */

#include <linux/iopoll.h>
#include <linux/pm_runtime.h>
#include <net/netdev_queues.h>
#include <net/page_pool/helpers.h>

#include "e1000_hw.h"
#include "igb.h"
#include "igb_split.h"

/**
 * struct igb_queue_mem - what a receive queue has from its memory provider
 * @pool: see struct igb_rx_split
 *
 * All else is the same for any kind of memory.
 */
struct igb_queue_mem {
	struct page_pool *pool;
};

/* NULL: suspended, or a self test has failed to open it again */
static struct igb_ring *igb_open_ring(struct igb_adapter *adapter, int idx)
{
	struct igb_ring *ring = adapter->rx_ring[idx];

	return ring && ring->desc ? ring : NULL;
}

static int igb_queue_mem_alloc(struct net_device *netdev,
			       struct netdev_queue_config *qcfg,
			       void *per_queue_mem, int idx)
{
	bool unreadable = netif_rxq_has_unreadable_mp(netdev, idx);
	struct igb_adapter *adapter = netdev_priv(netdev);
	struct igb_queue_mem *mem = per_queue_mem;
	struct page_pool *pool;
	bool there;

	/* it gets what has no headers to split off: ARP */
	if (unreadable && !idx)
		return -EOPNOTSUPP;

	pm_runtime_get_sync(netdev->dev.parent);
	/* until it is opened it may have fewer queues than it says */
	there = netif_running(netdev) ? !!igb_open_ring(adapter, idx) :
					idx < adapter->num_rx_queues;
	pm_runtime_put(netdev->dev.parent);
	if (!there)
		return -ENETDOWN;

	pool = igb_rx_pool_create(adapter, idx, adapter->rx_ring_count);
	if (IS_ERR(pool)) {
		if (unreadable)
			return PTR_ERR(pool);
		/* A provider that goes cannot be told that it has to stay. */
		netdev_err(netdev, "queue %d receives nothing: no memory\n", idx);
		pool = NULL;
	}
	mem->pool = pool;
	return 0;
}

static void igb_queue_mem_free(struct net_device *netdev, void *per_queue_mem)
{
	struct igb_queue_mem *mem = per_queue_mem;

	page_pool_destroy(mem->pool);
}

/* The hardware may write to buffers until the bit is off */
static bool igb_disable_rx_queue(struct igb_adapter *adapter,
				 struct igb_ring *ring)
{
	struct e1000_hw *hw = &adapter->hw;
	u32 rxdctl;

	wr32(E1000_RXDCTL(ring->reg_idx), 0);
	return !read_poll_timeout(rd32, rxdctl,
				  !(rxdctl & E1000_RXDCTL_QUEUE_ENABLE),
				  100, 20000, false,
				  E1000_RXDCTL(ring->reg_idx));
}

/* The lock of the device is held from here until the queue is started again. If the
 * device is stopped (suspended, or a PCI error) its rings are empty, and its
 * registers are left alone.
 */
static int igb_queue_stop(struct net_device *netdev, void *per_queue_mem,
			  int idx)
{
	struct igb_adapter *adapter = netdev_priv(netdev);
	struct igb_queue_mem *mem = per_queue_mem;
	struct igb_ring *ring;

	pm_runtime_get_sync(netdev->dev.parent);
	ring = igb_open_ring(adapter, idx);
	if (!ring || !ring->split)
		return 0;

	if (!test_bit(__IGB_STOPPED, &adapter->state)) {
		if (igb_disable_rx_queue(adapter, ring)) {
			/* the other direction waits for as long */
			napi_disable_locked(&ring->q_vector->napi);
			igb_clean_rx_ring(ring);
		} else {
			netdev_err(netdev, "queue %d does not stop: reset\n",
				   idx);
			igb_down(adapter);
		}
	}
	mem->pool = ring->split->pool;
	ring->split->pool = NULL;
	return 0;
}

static int igb_queue_start(struct net_device *netdev,
			   struct netdev_queue_config *qcfg,
			   void *per_queue_mem, int idx)
{
	struct igb_adapter *adapter = netdev_priv(netdev);
	struct igb_queue_mem *mem = per_queue_mem;
	struct igb_ring *ring;

	ring = igb_open_ring(adapter, idx);
	if (!ring || !ring->split) {
		page_pool_destroy(mem->pool);
	} else {
		ring->split->pool = mem->pool;
		if (!test_bit(__IGB_STOPPED, &adapter->state)) {
			igb_configure_rx_ring(adapter, ring);
			igb_alloc_rx_buffers_split(ring, igb_desc_unused(ring));
			napi_enable_locked(&ring->q_vector->napi);
			/* interrupts that were not served have masked it */
			local_bh_disable();
			napi_schedule(&ring->q_vector->napi);
			local_bh_enable();
		} else if (netif_device_present(netdev)) {
			/* igb_queue_stop() had to stop it */
			igb_up(adapter);
		} /* else whoever attaches it starts it */
	}
	mem->pool = NULL;
	pm_runtime_put(netdev->dev.parent);
	return 0;
}

/**
 * igb_queues_taken - how many receive queues there have to be
 * @netdev: the device, locked
 *
 * A provider ends at the queue that it began at: that one may not go before.
 *
 * Return: up to the last queue that has a memory provider
 */
unsigned int igb_queues_taken(struct net_device *netdev)
{
	unsigned int nr = netdev->real_num_rx_queues;

	while (nr && !netif_rxq_has_unreadable_mp(netdev, nr - 1))
		nr--;
	return nr;
}

const struct netdev_queue_mgmt_ops igb_queue_mgmt_ops = {
	.ndo_queue_mem_size	= sizeof(struct igb_queue_mem),
	.ndo_queue_mem_alloc	= igb_queue_mem_alloc,
	.ndo_queue_mem_free	= igb_queue_mem_free,
	.ndo_queue_start	= igb_queue_start,
	.ndo_queue_stop		= igb_queue_stop,
};
