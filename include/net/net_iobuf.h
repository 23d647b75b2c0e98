/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Sending from dma-bufs that are named by an ITER_DMABUF.
 */
#ifndef _NET_IOBUF_H
#define _NET_IOBUF_H

#include <linux/err.h>
#include <linux/uio.h>

struct device;
struct dma_iobuf_set;
struct dst_entry;
struct in6_addr;
struct net;
struct net_device;
struct net_devmem_dmabuf_binding;
struct sk_buff;
struct sock;

/* without TCP and UDP there is nothing to send by */
#if defined(CONFIG_NET_DEVMEM) && defined(CONFIG_INET)
bool net_iobuf_sk_ok(const struct sock *sk);
int net_iobuf_targets(struct sock *sk, struct dma_iobuf_set *set);
int net_iobuf_rx_target(struct net_device *dev, struct device *dma_dev,
			struct dma_iobuf_set *set);
struct dst_entry *net_iobuf_route(struct net *net, const struct in6_addr *laddr,
				  const struct in6_addr *faddr, int ifindex);
struct net_devmem_dmabuf_binding *
net_iobuf_find(const struct iov_iter *from, const struct dst_entry *dst);
struct net_devmem_dmabuf_binding *
net_iobuf_get(const struct iov_iter *from, struct sock *sk);
int net_iobuf_fill_skb(struct sk_buff *skb, struct iov_iter *from,
		       size_t length,
		       struct net_devmem_dmabuf_binding *binding);
void net_iobuf_dropped(const struct sk_buff *skb);
#else
static inline bool net_iobuf_sk_ok(const struct sock *sk)
{
	return false;
}

static inline int net_iobuf_targets(struct sock *sk, struct dma_iobuf_set *set)
{
	return -EOPNOTSUPP;
}

static inline int net_iobuf_rx_target(struct net_device *dev,
				      struct device *dma_dev,
				      struct dma_iobuf_set *set)
{
	return -EOPNOTSUPP;
}

static inline struct dst_entry *
net_iobuf_route(struct net *net, const struct in6_addr *laddr,
		const struct in6_addr *faddr, int ifindex)
{
	return NULL;
}

static inline struct net_devmem_dmabuf_binding *
net_iobuf_find(const struct iov_iter *from, const struct dst_entry *dst)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static inline struct net_devmem_dmabuf_binding *
net_iobuf_get(const struct iov_iter *from, struct sock *sk)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static inline int
net_iobuf_fill_skb(struct sk_buff *skb, struct iov_iter *from,
		   size_t length,
		   struct net_devmem_dmabuf_binding *binding)
{
	return -EOPNOTSUPP;
}

static inline void net_iobuf_dropped(const struct sk_buff *skb)
{
}
#endif

#endif /* _NET_IOBUF_H */
