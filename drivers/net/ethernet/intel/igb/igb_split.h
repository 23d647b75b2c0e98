/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _IGB_SPLIT_H_
#define _IGB_SPLIT_H_

#include <linux/timer.h>
#include <net/netmem.h>

struct igb_adapter;
struct igb_q_vector;
struct page_pool;

/**
 * struct igb_rx_split - what a ring has that splits headers off
 * @pool: what payload comes to, NULL: nowhere, nothing is received
 * @q_vector: of the ring
 * @starved: looks for buffers when there were nearly none
 * @hdr: what headers come to, IGB_RX_HDR_LEN for each descriptor
 * @hdr_dma: DMA address of that
 * @netmem: what the hardware has of @pool, for each descriptor, or 0
 */
struct igb_rx_split {
	struct page_pool *pool;
	struct igb_q_vector *q_vector;
	struct timer_list starved;
	void *hdr;
	dma_addr_t hdr_dma;
	netmem_ref netmem[];
};

struct page_pool *igb_rx_pool_create(struct igb_adapter *adapter,
				     unsigned int queue, unsigned int count);

#endif
