// SPDX-License-Identifier: GPL-2.0
/*
 * Sending from dma-bufs that are named by an ITER_DMABUF.
 *
 * A network device becomes a leaf device of struct dma_iobuf when the first
 * socket that leaves by it is a target. Each attachment to it carries a TX
 * binding without an id: no socket can name it but through the iov_iter.
 *
 * Unlike a drive, the network cannot be waited for: a segment may be queued for
 * minutes. The attachment is pinned, and outlives its buffer for as long as a
 * frag refers to it. When the device is unregistered it goes at once; frags that
 * show up later are dropped by validate_xmit_unreadable_skb().
 *
 * See Documentation/networking/io_uring-dmabuf.rst.
 */
#include <linux/dma-iobuf.h>
#include <linux/export.h>
#include <linux/if_ether.h>
#include <linux/in6.h>
#include <linux/mm.h>
#include <linux/netdevice.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/skbuff.h>
#include <net/net_iobuf.h>
#include <net/dst.h>
#include <net/inet_connection_sock.h>
#include <net/inet_sock.h>
#include <net/ipv6.h>
#include <net/l3mdev.h>
#include <net/netdev_lock.h>
#include <net/netdev_queues.h>
#include <net/netdev_rx_queue.h>
#include <net/netmem.h>
#include <net/page_pool/helpers.h>
#include <net/route.h>
#include <net/sock.h>
#include <net/tcp.h>
#include <net/udp.h>

#include "devmem.h"
#include "page_pool_priv.h"

/**
 * struct net_iobuf_dev - a network device that dma-bufs are registered for
 * @list:	in net_iobuf_devs, or empty: @dev is gone
 * @idev:	what attachments belong to
 * @dev:	device that does the DMA
 * @vdev:	device without DMA of its own on top of it that routes name, or
 *		NULL: there is none, or it is gone; compared only
 * @virt:	there is or was a @vdev
 * @tracker:	of the reference to @dev that @unregister_work has
 * @unregister_work: ends all attachments
 *
 * The list holds no reference to @idev: it ends with the last attachment, so that
 * devices that come and go leave nothing behind. @dev and @vdev are valid while
 * this is on the list.
 */
struct net_iobuf_dev {
	struct list_head	list;
	struct dma_iobuf_dev	*idev;
	struct net_device	*dev;
	struct net_device	*vdev;
	bool			virt;
	netdevice_tracker	tracker;
	struct work_struct	unregister_work;
};

/**
 * struct net_iobuf - what an attachment to a network device carries
 * @binding:	for the frags; @binding.dev is NULL once the memory is not mapped
 * @owner:	the area of all of @niov
 * @att:	the attachment
 * @free_work:	ends it when the last frag is gone
 * @granule:	bytes that a net_iov stands for; 0: that differs, see @end
 * @shift:	log2 of @granule
 * @max_seg:	bytes that a descriptor of the device can name, and a frag has
 * @nr:		entries in @niov
 * @end:	where the bytes of each net_iov end in the dma-buf, in
 *		DMA_IOBUF_PAGE_SIZE; NULL unless @granule is 0
 * @niov:	one for each granule or run of the mapping, not for each page
 */
struct net_iobuf {
	struct net_devmem_dmabuf_binding binding;
	struct dmabuf_genpool_chunk_owner owner;
	struct dma_iobuf_att	*att;
	struct dma_iobuf_work	free_work;
	u64			granule;
	unsigned int		max_seg;
	unsigned int		shift;
	unsigned int		nr;
	u32			*end;
	struct net_iov		niov[] __counted_by(nr);
};

/*
 * Some devices take 16 descriptors for a packet that they do not segment, two of
 * which its header may need. More could not be linearized. No device can be asked:
 * struct net_device has limits for what is segmented only.
 */
#define NET_IOBUF_MAX_FRAGS	min(MAX_SKB_FRAGS, 14)

static LIST_HEAD(net_iobuf_devs);
static DEFINE_MUTEX(net_iobuf_lock);	/* net_iobuf_devs */
/* of its own: its work waits for the exporters of a device that is unregistered */
static struct workqueue_struct *net_iobuf_wq;

/* ---- attachments ---- */

static void net_iobuf_free_work(struct dma_iobuf_work *work)
{
	struct net_iobuf *nb = container_of(work, struct net_iobuf, free_work);
	struct dma_iobuf_att *att = nb->att;

	/* nobody asks for @att->priv afterwards */
	dma_iobuf_att_shutdown(att);
	percpu_ref_exit(&nb->binding.ref);
	kvfree(nb);
	dma_iobuf_att_free(att);
}

/* the last frag is gone; may be softirq context */
static void net_iobuf_release_ref(struct percpu_ref *ref)
{
	struct net_iobuf *nb = container_of(ref, struct net_iobuf, binding.ref);

	/* waits for the exporter */
	dma_iobuf_queue_work(nb->att->last, &nb->free_work, net_iobuf_free_work);
}

/*
 * Address and length of the net_iov at @off. If there are no granules it is for
 * what is contiguous, but not over the end of a window: no bio_vec goes further,
 * and offset and size of a frag are 32 bits, in places signed.
 */
static dma_addr_t net_iobuf_piece(const struct dma_iobuf_map *map, u64 off,
				  u64 size, u32 *len)
{
	u64 left = DMA_IOBUF_WIN_SIZE - off % DMA_IOBUF_WIN_SIZE;

	left = min3(left, size - off, map->granule ?: left);
	return dma_iobuf_map_addr(map, off, left, len);
}

static u64 net_iobuf_count(const struct dma_iobuf_map *map, u64 size,
			   unsigned int shift)
{
	u64 off, nr = 0;
	u32 len;

	if (map->granule)
		return ((size - 1) >> shift) + 1;
	for (off = 0; off < size; off += len, nr++)
		net_iobuf_piece(map, off, size, &len);
	return nr;
}

static void net_iobuf_fill(struct net_iobuf *nb,
			   const struct dma_iobuf_map *map, u64 size)
{
	unsigned int i;
	u64 off = 0;

	for (i = 0; i < nb->nr; i++) {
		struct net_iov *niov = &nb->niov[i];
		dma_addr_t addr;
		u32 len;

		addr = net_iobuf_piece(map, off, size, &len);
		net_iov_init(niov, &nb->owner.area, NET_IOV_DMABUF);
		page_pool_set_dma_addr_netmem(net_iov_to_netmem(niov), addr);
		off += len;
		if (nb->end)
			nb->end[i] = DIV_ROUND_UP_ULL(off, DMA_IOBUF_PAGE_SIZE);
	}
}

/* Who sets no limit has one of 64 KiB, which is 0 in a length of 16 bits */
static unsigned int net_iobuf_max_seg(struct device *dev)
{
	unsigned int max = dma_get_max_seg_size(dev);

	return max == SZ_64K ? SZ_64K - DMA_IOBUF_PAGE_SIZE : max;
}

static int net_iobuf_map(struct dma_iobuf_att *att,
			 const struct dma_iobuf_map *map)
{
	struct net_iobuf_dev *ndev = att->idev->priv;
	unsigned int shift = min_t(unsigned int, map->shift,
				   DMA_IOBUF_WIN_SHIFT);
	u64 size = att->dmabuf->size, nr;
	struct net_iobuf *nb;
	size_t bytes;
	int ret;

	/* was revoked: what is queued still refers to the old addresses */
	if (att->priv)
		return -ENODEV;
	nr = net_iobuf_count(map, size, shift);
	if (nr > INT_MAX)
		return -EFBIG;
	bytes = size_add(struct_size(nb, niov, nr),
			 map->granule ? 0 : size_mul(nr, sizeof(*nb->end)));
	nb = kvzalloc(bytes, GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!nb)
		return -ENOMEM;
	ret = net_devmem_binding_init(&nb->binding, ndev->dev, att->dmabuf,
				      att->dir, shift, net_iobuf_release_ref);
	if (ret) {
		kvfree(nb);
		return ret;
	}

	nb->owner.binding = &nb->binding;
	nb->owner.area.niovs = nb->niov;
	nb->owner.area.num_niovs = nr;
	nb->att = att;
	nb->max_seg = net_iobuf_max_seg(att->idev->dev);
	nb->shift = shift;
	nb->nr = nr;
	if (map->granule)
		nb->granule = 1ULL << shift;
	else
		nb->end = (u32 *)((void *)nb + struct_size(nb, niov, nr));
	net_iobuf_fill(nb, map, size);
	att->priv_bytes = bytes;
	/* pairs with net_iobuf_lookup() */
	smp_store_release(&att->priv, nb);
	return 0;
}

/*
 * The device is unregistered: it has been closed and nothing is queued to it.
 * Nothing else ends the mapping: the attachment cannot be revoked.
 */
static void net_iobuf_unmap(struct dma_iobuf_att *att)
{
	struct net_iobuf *nb = att->priv;

	if (!nb)
		return;
	ASSERT_EXCLUSIVE_WRITER(nb->binding.dev);
	WRITE_ONCE(nb->binding.dev, NULL);
}

/* no buffer uses the attachment any more, frags may */
static void net_iobuf_release(struct dma_iobuf_att *att)
{
	struct net_iobuf *nb = att->priv;

	if (nb)
		percpu_ref_kill(&nb->binding.ref);
	else
		dma_iobuf_att_free(att);
}

static void net_iobuf_dev_free(struct dma_iobuf_dev *idev)
{
	struct net_iobuf_dev *ndev = idev->priv;

	mutex_lock(&net_iobuf_lock);
	list_del(&ndev->list);
	mutex_unlock(&net_iobuf_lock);
	kfree(ndev);
}

static const struct dma_iobuf_dev_ops net_iobuf_dev_ops = {
	.flags		= DMA_IOBUF_PIN,
	.dir		= DMA_TO_DEVICE,
	.map		= net_iobuf_map,
	.unmap		= net_iobuf_unmap,
	.release	= net_iobuf_release,
	.free		= net_iobuf_dev_free,
};

/* ---- attachments of cards that write ---- */

/* who opens the queue takes the addresses from the mapping, and keeps it */
static int net_iobuf_rx_map(struct dma_iobuf_att *att,
			    const struct dma_iobuf_map *map)
{
	return 0;
}

/* ... until the queue is closed: nothing is mapped for it here */
static void net_iobuf_rx_unmap(struct dma_iobuf_att *att)
{
}

static const struct dma_iobuf_dev_ops net_iobuf_rx_ops = {
	.flags		= DMA_IOBUF_PIN,
	.dir		= DMA_FROM_DEVICE,
	.map		= net_iobuf_rx_map,
	.unmap		= net_iobuf_rx_unmap,
	.release	= dma_iobuf_att_free,
	.free		= net_iobuf_dev_free,
};

/* ---- devices ---- */

/* as for bind-tx by netlink */
static struct net_device *net_iobuf_phys_dev(struct net_device *dev)
{
	struct net_device *phys;
	struct netdev_rx_queue *rxq;
	int i;

	if (dev->netmem_tx == NETMEM_TX_DMA)
		return dev;
	if (dev->netmem_tx != NETMEM_TX_NO_DMA)
		return NULL;
	for (i = 0; i < dev->real_num_rx_queues; i++) {
		rxq = READ_ONCE(__netif_get_rx_queue(dev, i)->lease);
		if (!rxq)
			continue;
		phys = rxq->dev;
		if (netif_device_present(phys) &&
		    phys->netmem_tx == NETMEM_TX_DMA)
			return phys;
	}
	return NULL;
}

/* with a reference */
static struct dma_iobuf_dev *
net_iobuf_dev_get(struct net_device *dev, struct net_device *vdev,
		  struct device *dma_dev, const struct dma_iobuf_dev_ops *ops)
{
	struct net_iobuf_dev *ndev;

	lockdep_assert_held(&net_iobuf_lock);
	list_for_each_entry(ndev, &net_iobuf_devs, list)
		if (ndev->dev == dev && ndev->vdev == vdev &&
		    ndev->virt == !!vdev && ndev->idev->ops == ops &&
		    ndev->idev->dev == dma_dev &&
		    kref_get_unless_zero(&ndev->idev->ref))
			return ndev->idev;

	ndev = kzalloc_obj(*ndev);
	if (!ndev)
		return ERR_PTR(-ENOMEM);
	ndev->dev = dev;
	ndev->vdev = vdev;
	ndev->virt = vdev;
	ndev->idev = dma_iobuf_dev_create(dma_dev);
	if (!ndev->idev) {
		kfree(ndev);
		return ERR_PTR(-ENOMEM);
	}
	ndev->idev->ops = ops;
	/* sends go on by another attachment, a queue does not */
	if (ops == &net_iobuf_dev_ops)
		ndev->idev->same = dev;
	ndev->idev->priv = ndev;
	list_add(&ndev->list, &net_iobuf_devs);
	return ndev->idev;
}

/* @dev is locked, and so has not been taken off the list yet if it is registered */
static int net_iobuf_set_add(struct dma_iobuf_set *set, struct net_device *dev,
			     struct net_device *vdev, struct device *dma_dev,
			     const struct dma_iobuf_dev_ops *ops)
{
	struct dma_iobuf_dev *idev;
	int ret;

	if (dev->reg_state != NETREG_REGISTERED)
		return -ENODEV;
	if (!dma_dev)
		return -EOPNOTSUPP;
	mutex_lock(&net_iobuf_lock);
	idev = net_iobuf_dev_get(dev, vdev, dma_dev, ops);
	mutex_unlock(&net_iobuf_lock);
	if (IS_ERR(idev))
		return PTR_ERR(idev);
	ret = dma_iobuf_set_add(set, idev);
	dma_iobuf_dev_put(idev);
	return ret;
}

/**
 * net_iobuf_rx_target - a card that writes what it receives to a dma-buf
 * @dev:	the network device, with a reference
 * @dma_dev:	the device that does the DMA for its queue
 * @set:	it is added here
 *
 * The attachment is pinned, and lasts as long as a buffer has it. Its mapping has
 * to be held (dma_iobuf_map_get()) while the card may write, and be dropped before
 * NETDEV_UNREGISTER, when a memory provider is uninstalled: what has been attached
 * ends with @dev, whose driver waits for it.
 *
 * Context: process context, sleeps.
 * Return: 0; -ENODEV if it is going away; -ENOMEM.
 */
int net_iobuf_rx_target(struct net_device *dev, struct device *dma_dev,
			struct dma_iobuf_set *set)
{
	int ret;

	netdev_lock(dev);
	ret = net_iobuf_set_add(set, dev, NULL, dma_dev, &net_iobuf_rx_ops);
	netdev_unlock(dev);
	return ret;
}

static int net_iobuf_add_dev(struct net_device *dev,
			     struct dma_iobuf_set *set)
{
	struct net_device *phys;
	int ret = -ENODEV;

	/* nesting and order as for bind-tx by netlink */
	netdev_lock(dev);
	if (dev->reg_state != NETREG_REGISTERED || !netif_device_present(dev))
		goto unlock;
	ret = -EOPNOTSUPP;
	phys = net_iobuf_phys_dev(dev);
	if (!phys)
		goto unlock;
	if (phys != dev)
		netdev_lock(phys);
	ret = net_iobuf_set_add(set, phys, phys != dev ? dev : NULL,
				netdev_tx_get_dma_dev(phys), &net_iobuf_dev_ops);
	if (phys != dev)
		netdev_unlock(phys);
unlock:
	netdev_unlock(dev);
	return ret;
}

/*
 * The route to where an IPv4 socket is connected, for udp_sendmsg() looks it up
 * only when it sends. A datagram without options is assumed.
 */
static struct dst_entry *net_iobuf_udp4_dst(struct sock *sk)
{
	const struct inet_sock *inet = inet_sk(sk);
	struct flowi4 fl4;
	struct rtable *rt;

	inet_sk_init_flowi4(inet, &fl4);
	if (ipv4_is_multicast(fl4.daddr)) {
		if (!fl4.flowi4_oif ||
		    netif_index_is_l3_master(sock_net(sk), fl4.flowi4_oif))
			fl4.flowi4_oif = READ_ONCE(inet->mc_index);
		if (!fl4.saddr)
			fl4.saddr = READ_ONCE(inet->mc_addr);
	} else if (!fl4.flowi4_oif) {
		fl4.flowi4_oif = READ_ONCE(inet->uc_index);
	}
	rt = ip_route_output_flow(sock_net(sk), &fl4, sk);
	return IS_ERR(rt) ? NULL : &rt->dst;
}

/* Options that have to do with routes make a socket forget the one it had */
static struct dst_entry *net_iobuf_udp_dst(struct sock *sk)
{
	/* what is corked leaves by its own */
	if (READ_ONCE(udp_sk(sk)->pending))
		return dst_clone(inet_sk(sk)->cork.base.dst);
	if (sk->sk_state != TCP_ESTABLISHED || __sk_dst_get(sk))
		return NULL;
#if IS_ENABLED(CONFIG_IPV6)
	if (sk->sk_family == AF_INET6 && !ipv6_addr_v4mapped(&sk->sk_v6_daddr)) {
		ip6_datagram_dst_update(sk, false);
		return NULL;
	}
#endif
	return net_iobuf_udp4_dst(sk);
}

/**
 * net_iobuf_route - the route that TCP connections between two addresses leave by
 * @net:	where
 * @laddr:	the address that they are bound to; an IPv4 address is a mapped one
 * @faddr:	the address of the peer
 * @ifindex:	of the device that a link-local address belongs to, or 0
 *
 * Context: process context.
 * Return: the route, with a reference; or NULL: there is none.
 */
struct dst_entry *net_iobuf_route(struct net *net, const struct in6_addr *laddr,
				  const struct in6_addr *faddr, int ifindex)
{
	struct flowi6 fl6 = {
		.saddr		= *laddr,
		.daddr		= *faddr,
		.flowi6_oif	= ifindex,
		.flowi6_proto	= IPPROTO_TCP,
	};
	struct dst_entry *dst;

	if (ipv6_addr_v4mapped(faddr)) {
		struct flowi4 fl4 = {
			.saddr		= laddr->s6_addr32[3],
			.daddr		= faddr->s6_addr32[3],
			.flowi4_proto	= IPPROTO_TCP,
		};
		struct rtable *rt = ip_route_output_flow(net, &fl4, NULL);

		return IS_ERR(rt) ? NULL : &rt->dst;
	}
	dst = ip6_dst_lookup_flow(net, NULL, &fl6, NULL);
	return IS_ERR(dst) ? NULL : dst;
}
EXPORT_SYMBOL_GPL(net_iobuf_route);

/* of a socket's name; an IPv4 address is a mapped one. What it has none of is 0 */
static void net_iobuf_name(const struct sockaddr_storage *ss,
			   struct in6_addr *addr, int *ifindex)
{
	const struct sockaddr_in6 *sin6 = (const void *)ss;
	const struct sockaddr_in *sin = (const void *)ss;

	*addr = in6addr_any;
	if (ss->ss_family == AF_INET) {
		ipv6_addr_set_v4mapped(sin->sin_addr.s_addr, addr);
	} else if (ss->ss_family == AF_INET6) {
		*addr = sin6->sin6_addr;
		*ifindex = sin6->sin6_scope_id;
	}
}

static bool net_iobuf_sk_is_rds(const struct sock *sk)
{
	return sk->sk_family == PF_RDS;
}

/* RDS sends by TCP sockets that have its addresses, and that may be down */
static struct dst_entry *net_iobuf_rds_dst(const struct sock *sk)
{
	struct sockaddr_storage from = { }, to = { };
	struct in6_addr laddr, faddr;
	int ifindex = 0;

	if (kernel_getsockname(sk->sk_socket, (struct sockaddr *)&from) < 0 ||
	    kernel_getpeername(sk->sk_socket, (struct sockaddr *)&to) < 0)
		return NULL;
	net_iobuf_name(&to, &faddr, &ifindex);
	net_iobuf_name(&from, &laddr, &ifindex);
	if (from.ss_family != to.ss_family || ipv6_addr_any(&laddr))
		return NULL;
	return net_iobuf_route(sock_net(sk), &laddr, &faddr, ifindex);
}

/* the route that a socket leaves by, with a reference; NULL if there is none */
static struct dst_entry *net_iobuf_sk_dst(struct sock *sk)
{
	struct dst_entry *dst = NULL;

	if (net_iobuf_sk_is_rds(sk))
		return net_iobuf_rds_dst(sk);
	lock_sock(sk);
	if (!sk_is_tcp(sk))
		dst = net_iobuf_udp_dst(sk);
	else if (!((1 << sk->sk_state) & (TCPF_CLOSE | TCPF_LISTEN)))
		inet_csk(sk)->icsk_af_ops->rebuild_header(sk);
	/* ->release_cb() of UDP looks one up that is no longer valid */
	release_sock(sk);
	return dst ?: sk_dst_get(sk);
}

/* the device that a socket leaves by, with a reference */
static struct net_device *net_iobuf_sk_dev(struct sock *sk,
					   netdevice_tracker *tracker)
{
	struct dst_entry *dst = net_iobuf_sk_dst(sk);
	struct net_device *dev = NULL;
	int ifindex;

	if (dst) {
		rcu_read_lock();
		dev = dst_dev_rcu(dst);
		netdev_hold(dev, tracker, GFP_ATOMIC);
		rcu_read_unlock();
		dst_release(dst);
		return dev;
	}
	/* which the sockets that RDS sends by do not heed */
	ifindex = net_iobuf_sk_is_rds(sk) ? 0 : READ_ONCE(sk->sk_bound_dev_if);
	if (ifindex)
		dev = netdev_get_by_index(sock_net(sk), ifindex, tracker,
					  GFP_KERNEL);
	return dev;
}

/**
 * net_iobuf_sk_ok - can a socket send from ITER_DMABUF
 * @sk:		the socket, which user space has a file of
 *
 * What sends by other means (TLS, MPTCP, sockmap) would copy.
 */
bool net_iobuf_sk_ok(const struct sock *sk)
{
	if (sk_is_tcp(sk))
		return READ_ONCE(sk->sk_prot)->sendmsg == tcp_sendmsg;
	/* by TCP; which of its messages leave this machine it knows */
	if (net_iobuf_sk_is_rds(sk))
		return test_bit(SOCK_SUPPORT_ZC, &sk->sk_socket->flags);
	/* without a checksum a packet could be fragmented, which reads it */
	return sk_is_udp(sk) && !sk->sk_no_check_tx && !udp_get_no_check6_tx(sk);
}

/**
 * net_iobuf_targets - the device that the data of a socket leaves by
 * @sk:		the socket, connected or bound to a device
 * @set:	the device is added here
 *
 * Context: process context, sleeps.
 * Return: 0; -EOPNOTSUPP if the socket, or its device, cannot send what has no
 * page; -ENOTCONN if the device is not known: the socket is neither connected nor
 * bound to one, or there is no route now; -ENODEV if it is going away.
 */
int net_iobuf_targets(struct sock *sk, struct dma_iobuf_set *set)
{
	netdevice_tracker tracker;
	struct net_device *dev;
	int ret;

	if (!net_iobuf_sk_ok(sk))
		return -EOPNOTSUPP;
	dev = net_iobuf_sk_dev(sk, &tracker);
	if (!dev)
		return -ENOTCONN;
	ret = net_iobuf_add_dev(dev, set);
	netdev_put(dev, &tracker);
	return ret;
}

/* without RTNL: to unmap takes the exporter's lock, and so as long as that likes */
static void net_iobuf_unregister_work(struct work_struct *work)
{
	struct net_iobuf_dev *ndev = container_of(work, struct net_iobuf_dev,
						  unregister_work);
	struct net_device *dev = ndev->dev;
	netdevice_tracker tracker = ndev->tracker;
	struct dma_iobuf_dev *idev = ndev->idev;

	dma_iobuf_dev_shutdown(idev);
	/* may free ndev */
	dma_iobuf_dev_put(idev);
	/* who sends without a route may look at it, see net_iobuf_without_route() */
	synchronize_net();
	netdev_put(dev, &tracker);
}

/* one that is mapped for @dev, off the list and with a reference; NULL: no more */
static struct dma_iobuf_dev *net_iobuf_dev_pop(const struct net_device *dev)
{
	struct net_iobuf_dev *ndev, *tmp;

	guard(mutex)(&net_iobuf_lock);

	list_for_each_entry_safe(ndev, tmp, &net_iobuf_devs, list) {
		/* what it sent may be in the rings of @ndev->dev: only no more */
		if (ndev->vdev == dev) {
			dma_iobuf_dev_retire(ndev->idev);
			WRITE_ONCE(ndev->vdev, NULL);
		}
		if (ndev->dev != dev)
			continue;
		WRITE_ONCE(ndev->vdev, NULL);
		/* else the last attachment is gone, and soon it is, too */
		list_del_init(&ndev->list);
		if (kref_get_unless_zero(&ndev->idev->ref))
			return ndev->idev;
	}
	return NULL;
}

static int net_iobuf_netdev_event(struct notifier_block *nb,
				  unsigned long event, void *ptr)
{
	struct net_device *dev = netdev_notifier_info_to_dev(ptr);
	struct net_iobuf_dev *ndev;
	struct dma_iobuf_dev *idev;

	/* a move to another netns looks the same, but the device stays */
	if (event != NETDEV_UNREGISTER ||
	    dev->reg_state != NETREG_UNREGISTERING)
		return NOTIFY_DONE;

	while ((idev = net_iobuf_dev_pop(dev))) {
		ndev = idev->priv;
		/* its driver waits for this reference once RTNL is released */
		netdev_hold(dev, &ndev->tracker, GFP_KERNEL);
		INIT_WORK(&ndev->unregister_work, net_iobuf_unregister_work);
		queue_work(net_iobuf_wq, &ndev->unregister_work);
	}
	return NOTIFY_DONE;
}

static struct notifier_block net_iobuf_netdev_notifier = {
	.notifier_call = net_iobuf_netdev_event,
};

static int __init net_iobuf_init(void)
{
	net_iobuf_wq = alloc_workqueue("net_iobuf", WQ_UNBOUND, WQ_MAX_ACTIVE);
	if (!net_iobuf_wq)
		return -ENOMEM;
	return register_netdevice_notifier(&net_iobuf_netdev_notifier);
}
subsys_initcall(net_iobuf_init);

/* ---- sending ---- */

/*
 * The device is asked, not the socket: TCP sockets pretend to have SG, and what
 * cannot be read can neither be linearized nor checksummed later.
 */
static int net_iobuf_check_dev(const struct net_device *dev,
			       const struct net_device *phys, __be16 proto)
{
	netdev_features_t features = READ_ONCE(dev->features);

	if (!phys)
		return -ENODEV;
	if (!(features & NETIF_F_SG) || !can_checksum_protocol(features, proto))
		return -EOPNOTSUPP;
	features = READ_ONCE(phys->features);
	if (!(features & NETIF_F_SG) || !can_checksum_protocol(features, proto))
		return -EOPNOTSUPP;
	/* a VRF may send the packet through its own device first */
	return netif_is_l3_slave(dev) ? -EOPNOTSUPP : 0;
}

static int net_iobuf_check_dst(const struct dst_entry *dst,
			       const struct net_device *dev,
			       const struct net_device *phys)
{
	__be16 proto = dst->ops->family == AF_INET6 ? htons(ETH_P_IPV6) :
						      htons(ETH_P_IP);

	/* what encrypts or encapsulates reads, or takes another route */
	if (dst_xfrm(dst) || dst->lwtstate)
		return -EOPNOTSUPP;
	return net_iobuf_check_dev(dev, phys, proto);
}

/* does a route by @dev end at the device that @nb is mapped for */
static bool net_iobuf_leaves_by(const struct net_iobuf *nb,
				const struct net_device *dev)
{
	const struct net_iobuf_dev *ndev = nb->att->idev->priv;

	return dev == READ_ONCE(nb->binding.dev) ||
	       dev == READ_ONCE(ndev->vdev);
}

static struct net_iobuf *net_iobuf_lookup(const struct dma_iobuf *buf,
					  const struct net_device *dev)
{
	unsigned int i, nr = dma_iobuf_nr_att(buf);
	int ret = -EBADF;

	for (i = 0; i < nr; i++) {
		const struct dma_iobuf_att *att = rcu_dereference(buf->att[i]);
		struct net_iobuf *nb;

		if (att->idev->ops != &net_iobuf_dev_ops)
			continue;
		ret = -ENODEV;
		/* pairs with net_iobuf_map() */
		nb = smp_load_acquire(&att->priv);
		if (nb && net_iobuf_leaves_by(nb, dev))
			return nb;
	}
	return ERR_PTR(ret);
}

/**
 * net_iobuf_find - the binding for a packet
 * @from:	the data, of type ITER_DMABUF
 * @dst:	the route that it takes
 *
 * Context: any; the caller keeps @dst and the buffer behind @from, and with the
 * latter the binding.
 * Return: the binding; ERR_PTR(-EBADF): no socket is a target of the buffer;
 * ERR_PTR(-ENODEV): none that leaves by the device of @dst, or the device is
 * gone; ERR_PTR(-EOPNOTSUPP): the route or the device cannot take it, or not as
 * it is set up now.
 */
struct net_devmem_dmabuf_binding *
net_iobuf_find(const struct iov_iter *from, const struct dst_entry *dst)
{
	struct dma_iobuf *buf = bvec_dma_win(from->bvec)->buf;
	struct net_device *dev;
	struct net_iobuf *nb;
	int ret;

	rcu_read_lock();
	dev = dst_dev_rcu(dst);
	nb = net_iobuf_lookup(buf, dev);
	if (!IS_ERR(nb)) {
		ret = net_iobuf_check_dst(dst, dev, READ_ONCE(nb->binding.dev));
		if (ret)
			nb = ERR_PTR(ret);
		else
			this_cpu_inc(*nb->att->hits);
	}
	rcu_read_unlock();
	return IS_ERR(nb) ? ERR_CAST(nb) : &nb->binding;
}
EXPORT_SYMBOL_GPL(net_iobuf_find);

/* the device that routes have to name for @nb; NULL if it is gone */
static const struct net_device *net_iobuf_route_dev(const struct net_iobuf *nb)
{
	const struct net_iobuf_dev *ndev = nb->att->idev->priv;

	return ndev->virt ? READ_ONCE(ndev->vdev) : READ_ONCE(nb->binding.dev);
}

static __be16 net_iobuf_sk_protocol(const struct sock *sk)
{
#if IS_ENABLED(CONFIG_IPV6)
	if (sk->sk_family == AF_INET6 && !ipv6_addr_v4mapped(&sk->sk_v6_daddr))
		return htons(ETH_P_IPV6);
#endif
	return htons(ETH_P_IP);
}

/*
 * TCP queues also while there is no route. What it queues has to be for a device:
 * it is the one that @buf has in this netns, if there are no others to choose from.
 */
static struct net_devmem_dmabuf_binding *
net_iobuf_without_route(const struct dma_iobuf *buf, const struct sock *sk)
{
	unsigned int i, nr = dma_iobuf_nr_att(buf);
	struct net_iobuf *found = NULL;
	int ret = -EHOSTUNREACH;

	guard(rcu)();

	for (i = 0; i < nr; i++) {
		const struct dma_iobuf_att *att = rcu_dereference(buf->att[i]);
		const struct net_device *dev;
		struct net_iobuf *nb;

		if (att->idev->ops != &net_iobuf_dev_ops)
			continue;
		/* pairs with net_iobuf_map() */
		nb = smp_load_acquire(&att->priv);
		dev = nb ? net_iobuf_route_dev(nb) : NULL;
		if (!dev || !net_eq(dev_net(dev), sock_net(sk)))
			continue;
		if (found)
			return ERR_PTR(-EHOSTUNREACH);
		found = nb;
		ret = net_iobuf_check_dev(dev, READ_ONCE(nb->binding.dev),
					  net_iobuf_sk_protocol(sk));
	}
	if (ret)
		return ERR_PTR(ret);
	this_cpu_inc(*found->att->hits);
	return &found->binding;
}

/**
 * net_iobuf_get - the binding for a connected TCP socket
 * @from:	the data, of type ITER_DMABUF
 * @sk:		the socket, locked and connected
 *
 * Without a route it is that of the only device of the buffer.
 *
 * Return: as net_iobuf_find(), but with a reference; or
 * ERR_PTR(-EHOSTUNREACH): there is no route, and not just one device.
 */
struct net_devmem_dmabuf_binding *
net_iobuf_get(const struct iov_iter *from, struct sock *sk)
{
	struct net_devmem_dmabuf_binding *binding;
	struct dst_entry *dst;

	/* does nothing as long as the route is valid */
	inet_csk(sk)->icsk_af_ops->rebuild_header(sk);
	dst = __sk_dst_get(sk);
	/* another device may take the place of one that is gone */
	guard(rcu)();
	if (dst)
		binding = net_iobuf_find(from, dst);
	else
		binding = net_iobuf_without_route(bvec_dma_win(from->bvec)->buf,
						  sk);
	if (!IS_ERR(binding) && !net_devmem_dmabuf_binding_get(binding))
		return ERR_PTR(-ENODEV);
	return binding;
}

/* other than skb_can_coalesce(), also with zerocopy: a frag holds the binding */
static bool net_iobuf_can_coalesce(const struct net_iobuf *nb,
				   const struct sk_buff *skb, int i,
				   struct net_iov *niov, u32 in, size_t size)
{
	const skb_frag_t *frag;

	if (!i)
		return false;
	frag = &skb_shinfo(skb)->frags[i - 1];
	return skb_frag_netmem(frag) == net_iov_to_netmem(niov) &&
	       skb_frag_off(frag) + skb_frag_size(frag) == in &&
	       skb_frag_size(frag) + size <= nb->max_seg;
}

static bool net_iobuf_can_append(const struct sk_buff *skb,
				 struct net_devmem_dmabuf_binding *binding)
{
	const skb_frag_t *frag;
	struct net_iov *niov;
	int i = skb_shinfo(skb)->nr_frags;

	if (!i)
		return true;
	frag = &skb_shinfo(skb)->frags[i - 1];
	if (!skb_frag_is_net_iov(frag))
		return false;
	niov = netmem_to_net_iov(skb_frag_netmem(frag));
	return net_is_devmem_iov(niov) &&
	       net_devmem_iov_binding(niov) == binding;
}

/*
 * TCP begins another skb, UDP cannot. A datagram (these have an owner here) that
 * is larger than the MTU will be segmented, so that its packets have fewer.
 */
static unsigned int net_iobuf_max_frags(const struct net_iobuf *nb,
					const struct sk_buff *skb,
					size_t length)
{
	unsigned int max = NET_IOBUF_MAX_FRAGS;
	const struct net_device *dev;

	if (!skb->sk)
		return max;
	rcu_read_lock();
	dev = READ_ONCE(nb->binding.dev);
	if (dev && skb->len + length > READ_ONCE(dev->mtu))
		max = MAX_SKB_FRAGS;
	rcu_read_unlock();
	return max;
}

/* what net_iobuf_at() does not find in one granule */
static noinline struct net_iov *net_iobuf_seek(struct net_iobuf *nb, u64 off,
					       size_t max, u32 *in, size_t *len)
{
	unsigned int i, idx;
	u64 avail;

	if (!nb->granule) {
		idx = dma_iobuf_run_find(nb->end, nb->nr, off);
		*in = off - dma_iobuf_run_start(nb->end, idx);
		avail = dma_iobuf_run_start(nb->end, idx + 1) - off;
	} else {
		idx = off >> nb->shift;
		*in = off & (nb->granule - 1);
		avail = nb->granule - *in;
		for (i = idx; avail < max && i + 1 < nb->nr; i++) {
			if (nb->niov[i + 1].desc.dma_addr !=
			    nb->niov[i].desc.dma_addr + nb->granule)
				break;
			avail += nb->granule;
		}
	}
	*len = min_t(u64, avail, max);
	return &nb->niov[idx];
}

/* the net_iov at an offset, and how many bytes a frag can have from there */
static struct net_iov *net_iobuf_at(struct net_iobuf *nb, u64 off, size_t max,
				    u32 *in, size_t *len)
{
	u64 at = off & (nb->granule - 1);

	max = min_t(size_t, max, nb->max_seg);
	/* as in dma_iobuf_map_addr() */
	if (unlikely(at + max > nb->granule))
		return net_iobuf_seek(nb, off, max, in, len);
	*in = at;
	*len = max;
	return &nb->niov[off >> nb->shift];
}

/*
 * Is it still there? Another device may have taken the place of one that is gone.
 * TCP has a reference to the binding, and may have waited since it found it; what
 * it appends to a binding whose device is gone is dropped, and it is told.
 */
static bool net_iobuf_is_of(const struct net_iobuf *nb,
			    const struct dma_iobuf *buf)
{
	unsigned int i, nr = dma_iobuf_nr_att(buf);

	for (i = 0; i < nr; i++)
		if (READ_ONCE(rcu_dereference(buf->att[i])->priv) == nb)
			return true;
	return false;
}

/**
 * net_iobuf_fill_skb - append device memory to an skb
 * @skb:	the skb
 * @from:	the data, of type ITER_DMABUF; advanced
 * @length:	bytes wanted
 * @binding:	what net_iobuf_find() returned for @from in the same RCU
 *		section, or net_iobuf_get() for a stream, whose skbs have
 *		no owner here
 *
 * A frag is as long as the memory is contiguous for the device, and as one of its
 * descriptors takes.
 *
 * Return: 0; -EMSGSIZE if @skb has no room for all of it, or contains other
 * memory already; -ENODEV if the device is gone.
 */
int net_iobuf_fill_skb(struct sk_buff *skb, struct iov_iter *from,
		       size_t length,
		       struct net_devmem_dmabuf_binding *binding)
{
	struct net_iobuf *nb = container_of(binding, struct net_iobuf, binding);
	int i = skb_shinfo(skb)->nr_frags, max;

	if (!length || !iov_iter_count(from))
		return 0;
	guard(rcu)();
	if (skb->sk && !net_iobuf_is_of(nb, bvec_dma_win(from->bvec)->buf))
		return -ENODEV;
	/* two bindings never share an skb */
	if (!net_iobuf_can_append(skb, binding))
		return -EMSGSIZE;
	max = net_iobuf_max_frags(nb, skb, length);

	while (length && iov_iter_count(from)) {
		const struct bio_vec *bv = from->bvec;
		struct net_iov *niov;
		size_t size;
		u32 in;

		size = min3(bv->bv_len - from->iov_offset, from->count, length);
		niov = net_iobuf_at(nb, bvec_dma_win(bv)->base + bv->bv_offset +
				    from->iov_offset, size, &in, &size);
		if (net_iobuf_can_coalesce(nb, skb, i, niov, in, size)) {
			skb_coalesce_rx_frag(skb, i - 1, size,
					     PAGE_ALIGN(size));
		} else {
			if (i >= max)
				return -EMSGSIZE;
			net_devmem_get_net_iov(niov);
			skb_add_rx_frag_netmem(skb, i++,
					       net_iov_to_netmem(niov), in,
					       size, PAGE_ALIGN(size));
		}
		iov_iter_advance(from, size);
		length -= size;
	}
	return 0;
}

/* RFC 1122, 4.2.3.5: who sends is to be told when R1 is reached */
static bool net_iobuf_sk_tell(const struct sock *sk)
{
	u8 sent, probes;

	if (!sk_is_tcp(sk))
		return true;
	/* a queue that says what it drops: nothing counts as sent, so TCP probes */
	sent = READ_ONCE(inet_csk(sk)->icsk_retransmits);
	probes = READ_ONCE(inet_csk(sk)->icsk_probes_out);
	return max(sent, probes) >=
	       READ_ONCE(sock_net(sk)->ipv4.sysctl_tcp_retries1);
}

/**
 * net_iobuf_dropped - a packet is not sent because nobody can read it
 * @skb:	the packet, or any other one; not freed
 *
 * The route that was good when it was queued is another one now, be it by a new
 * route, NAT or a redirection, or its device was set up differently. The sender has
 * no other way to know than an error of its socket, as for an ICMP message.
 *
 * A datagram is lost, so that this is at once. TCP sends again, for the route may
 * come back: it gets a soft error, which is what the connection ends with when it
 * times out, and a real one once tcp_retries1 attempts have failed.
 *
 * Context: any but hardirq; the socket may be locked.
 */
void net_iobuf_dropped(const struct sk_buff *skb)
{
	struct sock *sk = skb->sk;

	if (skb_frags_readable(skb) || !sk || !sk_fullsock(sk))
		return;
	WRITE_ONCE(sk->sk_err_soft, EHOSTUNREACH);
	if (!net_iobuf_sk_tell(sk))
		return;
	WRITE_ONCE(sk->sk_err, EHOSTUNREACH);
	sk_error_report(sk);
}
