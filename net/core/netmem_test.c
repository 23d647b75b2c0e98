// SPDX-License-Identifier: GPL-2.0
/*
 * Skbs with frags that have no page: who must not read them, and which devices
 * may have them. The net_iovs are of no memory at all; nothing here gets as far
 * as their contents.
 */
#include <kunit/test.h>
#include <linux/etherdevice.h>
#include <linux/ip.h>
#include <linux/netdevice.h>
#include <linux/scatterlist.h>
#include <linux/skbuff.h>
#include <linux/tcp.h>
#include <net/gro.h>
#include <net/netdev_lock.h>
#include <net/netdev_queues.h>
#include <net/netmem.h>
#include <net/page_pool/helpers.h>
#include <net/tcp.h>

#include "devmem.h"

#define HEAD_LEN	64
#define FRAG_LEN	1000

/* One net_iov, with as much of a binding as the stack looks at */
struct fake_iov {
	struct net_devmem_dmabuf_binding binding;
	struct dmabuf_genpool_chunk_owner owner;
	struct net_iov niov;
};

struct netmem_test {
	struct net_device *dev;
	struct net_device *other_dev;
	struct fake_iov *own;		/* bound to dev */
	struct fake_iov *other;		/* bound to other_dev */
	struct fake_iov *uring;		/* an area of io_uring */
};

static const struct net_device_ops fake_ops;

static void fake_release(struct percpu_ref *ref)
{
}

static void fake_iov_exit(void *data)
{
	struct fake_iov *fake = data;

	percpu_ref_exit(&fake->binding.ref);
}

static struct fake_iov *fake_iov_new(struct kunit *test,
				     struct net_device *dev,
				     enum net_iov_type type)
{
	struct fake_iov *fake = kunit_kzalloc(test, sizeof(*fake), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, fake);
	KUNIT_ASSERT_EQ(test, 0, percpu_ref_init(&fake->binding.ref,
						 fake_release, 0, GFP_KERNEL));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, fake_iov_exit,
							   fake));
	fake->binding.dev = dev;
	fake->binding.direction = DMA_TO_DEVICE;
	fake->owner.binding = &fake->binding;
	fake->owner.area.niovs = &fake->niov;
	fake->owner.area.num_niovs = 1;
	net_iov_init(&fake->niov, &fake->owner.area, type);
	return fake;
}

static void fake_dev_free(void *data)
{
	free_netdev(data);
}

static struct net_device *fake_dev_new(struct kunit *test)
{
	struct net_device *dev = alloc_etherdev(0);

	KUNIT_ASSERT_NOT_NULL(test, dev);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, fake_dev_free,
							   dev));
	dev->netdev_ops = &fake_ops;
	dev->netmem_tx = NETMEM_TX_DMA;
	dev->features = NETIF_F_SG | NETIF_F_FRAGLIST | NETIF_F_HW_CSUM |
			NETIF_F_HIGHDMA;
	return dev;
}

static int netmem_test_init(struct kunit *test)
{
	struct netmem_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	t->dev = fake_dev_new(test);
	t->other_dev = fake_dev_new(test);
	t->own = fake_iov_new(test, t->dev, NET_IOV_DMABUF);
	t->other = fake_iov_new(test, t->other_dev, NET_IOV_DMABUF);
	t->uring = fake_iov_new(test, NULL, NET_IOV_IOURING);
	test->priv = t;
	return 0;
}

static struct sk_buff *skb_new(struct kunit *test)
{
	struct netmem_test *t = test->priv;
	struct sk_buff *skb = alloc_skb(HEAD_LEN, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, skb);
	skb_put_zero(skb, HEAD_LEN);
	skb_reset_mac_header(skb);
	skb_reset_network_header(skb);
	skb->protocol = htons(ETH_P_IP);
	skb->dev = t->dev;
	return skb;
}

static void skb_add_iov(struct sk_buff *skb, struct fake_iov *fake)
{
	netmem_ref netmem = net_iov_to_netmem(&fake->niov);

	get_netmem(netmem);
	skb_add_rx_frag_netmem(skb, skb_shinfo(skb)->nr_frags, netmem, 0,
			       FRAG_LEN, PAGE_SIZE);
}

static void skb_add_page(struct kunit *test, struct sk_buff *skb)
{
	struct page *page = alloc_page(GFP_KERNEL | __GFP_ZERO);

	KUNIT_ASSERT_NOT_NULL(test, page);
	skb_add_rx_frag(skb, skb_shinfo(skb)->nr_frags, page, 0, FRAG_LEN,
			PAGE_SIZE);
}

static void skb_add_list(struct sk_buff *skb, struct sk_buff *child)
{
	skb_shinfo(skb)->frag_list = child;
	skb->len += child->len;
	skb->data_len += child->len;
	skb->truesize += child->truesize;
	skb->unreadable |= child->unreadable;
}

/* skb_to_sgvec() */

static int sgvec(struct sk_buff *skb, int offset, int len)
{
	struct scatterlist sg[4];

	sg_init_table(sg, ARRAY_SIZE(sg));
	return skb_to_sgvec(skb, sg, offset, len);
}

static void sgvec_page(struct kunit *test)
{
	struct sk_buff *skb = skb_new(test);

	skb_add_page(test, skb);
	KUNIT_EXPECT_EQ(test, 2, sgvec(skb, 0, skb->len));
	KUNIT_EXPECT_EQ(test, 1, sgvec(skb, HEAD_LEN, FRAG_LEN));
	kfree_skb(skb);
}

static void sgvec_net_iov(struct kunit *test)
{
	struct netmem_test *t = test->priv;
	struct sk_buff *skb = skb_new(test);
	struct scatterlist sg[4];

	skb_add_iov(skb, t->own);
	KUNIT_EXPECT_EQ(test, -EFAULT, sgvec(skb, 0, skb->len));
	KUNIT_EXPECT_EQ(test, -EFAULT, sgvec(skb, 0, HEAD_LEN + 1));
	KUNIT_EXPECT_EQ(test, -EFAULT, sgvec(skb, HEAD_LEN, FRAG_LEN));
	sg_init_table(sg, ARRAY_SIZE(sg));
	KUNIT_EXPECT_EQ(test, -EFAULT,
			skb_to_sgvec_nomark(skb, sg, 0, skb->len));
	/* the headers have pages */
	KUNIT_EXPECT_EQ(test, 1, sgvec(skb, 0, HEAD_LEN));
	kfree_skb(skb);
}

static void sgvec_frag_list(struct kunit *test)
{
	struct netmem_test *t = test->priv;
	struct sk_buff *skb = skb_new(test);
	struct sk_buff *child = skb_new(test);

	skb_add_iov(child, t->own);
	skb_add_list(skb, child);
	KUNIT_EXPECT_EQ(test, -EFAULT, sgvec(skb, 0, skb->len));
	/* even if only the child knows */
	skb->unreadable = 0;
	KUNIT_EXPECT_EQ(test, -EFAULT, sgvec(skb, 0, skb->len));
	kfree_skb(skb);
}

/* skb_segment() */

static int segments(struct sk_buff *skb, netdev_features_t features)
{
	struct sk_buff *segs, *seg;
	int nr = 0;

	skb_reset_mac_header(skb);
	__skb_pull(skb, HEAD_LEN);
	skb->protocol = htons(ETH_P_IP);
	skb_shinfo(skb)->gso_size = FRAG_LEN;
	skb_shinfo(skb)->gso_type = SKB_GSO_TCPV4;
	skb_shinfo(skb)->gso_segs = skb_shinfo(skb)->nr_frags;
	segs = skb_segment(skb, features);
	kfree_skb(skb);
	if (IS_ERR(segs))
		return PTR_ERR(segs);
	for (seg = segs; seg; seg = seg->next)
		nr++;
	kfree_skb_list(segs);
	return nr;
}

static void segment_page(struct kunit *test)
{
	struct sk_buff *skb = skb_new(test);

	skb_add_page(test, skb);
	skb_add_page(test, skb);
	KUNIT_EXPECT_EQ(test, 2, segments(skb, 0));
}

/* A copy would be of zeroes, with the checksum of zeroes */
static void segment_net_iov(struct kunit *test)
{
	static const struct {
		netdev_features_t features;
		int segments;
	} cases[] = {
		{ NETIF_F_SG | NETIF_F_HW_CSUM, 2 },
		{ NETIF_F_SG, -EFAULT },
		{ NETIF_F_HW_CSUM, -EFAULT },
		{ 0, -EFAULT },
	};
	struct netmem_test *t = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct sk_buff *skb = skb_new(test);

		skb_add_iov(skb, t->own);
		skb_add_iov(skb, t->own);
		KUNIT_EXPECT_EQ_MSG(test, cases[i].segments,
				    segments(skb, cases[i].features),
				    "case %u", i);
	}
}

/* skb_gro_receive() and skb_gro_receive_list(): what may be one skb */

typedef int (*gro_merge)(struct sk_buff *p, struct sk_buff *skb);

/* A segment with a frag of @fake, or of a page */
static struct sk_buff *skb_new_gro(struct kunit *test, struct fake_iov *fake)
{
	struct sk_buff *skb = skb_new(test);

	if (fake)
		skb_add_iov(skb, fake);
	else
		skb_add_page(test, skb);
	memset(NAPI_GRO_CB(skb), 0, sizeof(*NAPI_GRO_CB(skb)));
	NAPI_GRO_CB(skb)->data_offset = HEAD_LEN;
	NAPI_GRO_CB(skb)->count = 1;
	NAPI_GRO_CB(skb)->last = skb;
	return skb;
}

static void gro_cases(struct kunit *test, gro_merge merge, bool keeps)
{
	struct netmem_test *t = test->priv;
	struct fake_iov *frags[] = { NULL, t->own };
	unsigned int i;

	for (i = 0; i < 4; i++) {
		struct sk_buff *p = skb_new_gro(test, frags[i / 2]);
		struct sk_buff *skb = skb_new_gro(test, frags[i % 2]);
		int ret = merge(p, skb);

		KUNIT_EXPECT_EQ_MSG(test, i / 2 == i % 2 ? 0 : -ETOOMANYREFS,
				    ret, "case %u", i);
		if (ret || !keeps)
			kfree_skb(skb);
		kfree_skb(p);
	}
}

static void gro_frags(struct kunit *test)
{
	gro_cases(test, skb_gro_receive, false);
}

static void gro_list(struct kunit *test)
{
	gro_cases(test, skb_gro_receive_list, true);
}

/* validate_xmit_unreadable_skb() */

static bool may_xmit(struct sk_buff *skb, struct net_device *dev)
{
	bool again = false;
	bool may;

	skb->dev = dev;
	skb = validate_xmit_skb_list(skb, dev, &again);
	may = skb;
	kfree_skb(skb);
	return may;
}

static void xmit_own(struct kunit *test)
{
	struct netmem_test *t = test->priv;
	struct sk_buff *skb = skb_new(test);

	skb_add_iov(skb, t->own);
	skb_add_iov(skb, t->own);
	KUNIT_EXPECT_TRUE(test, may_xmit(skb, t->dev));
}

static void xmit_other(struct kunit *test)
{
	struct netmem_test *t = test->priv;
	struct sk_buff *skb = skb_new(test);

	skb_add_iov(skb, t->other);
	KUNIT_EXPECT_FALSE(test, may_xmit(skb, t->dev));
}

static void xmit_own_then_other(struct kunit *test)
{
	struct netmem_test *t = test->priv;
	struct sk_buff *skb = skb_new(test);

	skb_add_iov(skb, t->own);
	skb_add_iov(skb, t->other);
	KUNIT_EXPECT_FALSE(test, may_xmit(skb, t->dev));
}

static void xmit_uring(struct kunit *test)
{
	struct netmem_test *t = test->priv;
	struct sk_buff *skb = skb_new(test);

	skb_add_iov(skb, t->uring);
	KUNIT_EXPECT_FALSE(test, may_xmit(skb, t->dev));
}

static void xmit_own_then_uring(struct kunit *test)
{
	struct netmem_test *t = test->priv;
	struct sk_buff *skb = skb_new(test);

	skb_add_iov(skb, t->own);
	skb_add_iov(skb, t->uring);
	KUNIT_EXPECT_FALSE(test, may_xmit(skb, t->dev));
}

static void xmit_frag_list(struct kunit *test)
{
	struct netmem_test *t = test->priv;
	struct sk_buff *skb = skb_new(test);
	struct sk_buff *child = skb_new(test);

	skb_add_iov(skb, t->own);
	skb_add_iov(child, t->own);
	skb_add_list(skb, child);
	KUNIT_EXPECT_TRUE(test, may_xmit(skb, t->dev));

	skb = skb_new(test);
	child = skb_new(test);
	skb_add_iov(skb, t->own);
	skb_add_iov(child, t->other);
	skb_add_list(skb, child);
	KUNIT_EXPECT_FALSE(test, may_xmit(skb, t->dev));
}

/* Mapped for the device, but not to be read by it */
static void xmit_received(struct kunit *test)
{
	struct netmem_test *t = test->priv;
	struct sk_buff *skb = skb_new(test);

	t->own->binding.direction = DMA_FROM_DEVICE;
	skb_add_iov(skb, t->own);
	KUNIT_EXPECT_FALSE(test, may_xmit(skb, t->dev));
}

/* The device of the binding was unregistered */
static void xmit_unbound(struct kunit *test)
{
	struct netmem_test *t = test->priv;
	struct sk_buff *skb = skb_new(test);

	t->own->binding.dev = NULL;
	skb_add_iov(skb, t->own);
	KUNIT_EXPECT_FALSE(test, may_xmit(skb, t->dev));
}

static void xmit_modes(struct kunit *test)
{
	struct netmem_test *t = test->priv;
	struct sk_buff *skb = skb_new(test);

	t->dev->netmem_tx = NETMEM_TX_NONE;
	skb_add_iov(skb, t->own);
	KUNIT_EXPECT_FALSE(test, may_xmit(skb, t->dev));

	/* passes on what it does not map */
	t->dev->netmem_tx = NETMEM_TX_NO_DMA;
	skb = skb_new(test);
	skb_add_iov(skb, t->other);
	skb_add_iov(skb, t->uring);
	KUNIT_EXPECT_TRUE(test, may_xmit(skb, t->dev));
}

/* As of esp_output(): a page among the net_iovs */
static void xmit_page(struct kunit *test)
{
	struct netmem_test *t = test->priv;
	struct sk_buff *skb = skb_new(test);

	skb_add_iov(skb, t->own);
	skb_add_page(test, skb);
	KUNIT_EXPECT_TRUE(test, may_xmit(skb, t->dev));

	skb = skb_new(test);
	skb_add_page(test, skb);
	skb_add_iov(skb, t->own);
	KUNIT_EXPECT_TRUE(test, may_xmit(skb, t->dev));
}

/* tcp_inbound_hash() */

#ifdef CONFIG_TCP_MD5SIG
#define MD5_LEN		16

struct signed_head {
	struct iphdr ip;
	struct tcphdr th;
	u8 nop[2];
	u8 kind;
	u8 len;
	u8 hash[MD5_LEN];
};

static struct sk_buff *skb_new_signed(struct kunit *test)
{
	struct signed_head head = {
		.ip = {
			.saddr = htonl(0xc0000201),
			.daddr = htonl(0xc0000202),
		},
		.th = {
			.doff = (sizeof(head) - sizeof(head.ip)) / 4,
			.ack = 1,
		},
		.nop = { TCPOPT_NOP, TCPOPT_NOP },
		.kind = TCPOPT_MD5SIG,
		.len = TCPOLEN_MD5SIG,
	};
	struct sk_buff *skb = alloc_skb(sizeof(head), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, skb);
	skb_put_data(skb, &head, sizeof(head));
	skb_reset_network_header(skb);
	skb_pull(skb, sizeof(head.ip));
	skb_reset_transport_header(skb);
	return skb;
}

static enum skb_drop_reason inbound(struct sock *sk, struct sk_buff *skb)
{
	enum skb_drop_reason reason;

	rcu_read_lock();
	reason = tcp_inbound_hash(sk, NULL, skb, &ip_hdr(skb)->saddr,
				  &ip_hdr(skb)->daddr, AF_INET, 0, 0);
	rcu_read_unlock();
	return reason;
}

static void sign(struct sock *sk, struct sk_buff *skb)
{
	struct signed_head *head = (void *)ip_hdr(skb);
	struct tcp_md5sig_key *key;

	rcu_read_lock();
	key = tcp_md5_do_lookup(sk, 0, (void *)&head->ip.saddr, AF_INET);
	tcp_v4_md5_hash_skb(head->hash, key, NULL, skb);
	rcu_read_unlock();
}

static void sock_free(void *data)
{
	sock_release(data);
}

static struct sock *sock_new_md5(struct kunit *test)
{
	union tcp_md5_addr addr = { .a4.s_addr = htonl(0xc0000201) };
	static const u8 key[] = { 'k', 'e', 'y' };
	struct socket *sock;
	int err;

	KUNIT_ASSERT_EQ(test, 0, sock_create_kern(&init_net, AF_INET,
						  SOCK_STREAM, IPPROTO_TCP,
						  &sock));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, sock_free,
							   sock));
	lock_sock(sock->sk);
	err = tcp_md5_do_add(sock->sk, &addr, AF_INET, 32, 0, 0, key,
			     sizeof(key));
	release_sock(sock->sk);
	KUNIT_ASSERT_EQ(test, 0, err);
	return sock->sk;
}

static void inbound_md5(struct kunit *test)
{
	struct netmem_test *t = test->priv;
	struct sock *sk = sock_new_md5(test);
	struct sk_buff *skb;

	skb = skb_new_signed(test);
	skb_add_page(test, skb);
	sign(sk, skb);
	KUNIT_EXPECT_EQ(test, SKB_NOT_DROPPED_YET, inbound(sk, skb));
	kfree_skb(skb);

	skb = skb_new_signed(test);
	skb_add_iov(skb, t->own);
	KUNIT_EXPECT_EQ(test, SKB_DROP_REASON_TCP_MD5FAILURE,
			inbound(sk, skb));
	kfree_skb(skb);
}
#else
static void inbound_md5(struct kunit *test)
{
	kunit_skip(test, "no CONFIG_TCP_MD5SIG");
}
#endif

/* A device whose queue 1 is of another function, if queue 1 has a ring */
static struct device fake_functions[2];
static bool fake_second_ring;

static struct device *fake_queue_dma_dev(struct net_device *dev, int idx)
{
	if (idx && !fake_second_ring)
		return NULL;
	return &fake_functions[idx];
}

static const struct netdev_queue_mgmt_ops fake_queue_ops = {
	.ndo_queue_get_dma_dev = fake_queue_dma_dev,
};

static struct device *fake_tx_dma_dev(struct net_device *dev)
{
	struct device *dma_dev;

	netdev_lock(dev);
	dma_dev = netdev_tx_get_dma_dev(dev);
	netdev_unlock(dev);
	return dma_dev;
}

static void tx_dma_dev(struct kunit *test)
{
	static u64 mask = DMA_BIT_MASK(64);
	struct net_device *dev = alloc_etherdev_mq(0, 2);

	KUNIT_ASSERT_NOT_NULL(test, dev);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, fake_dev_free,
							   dev));
	if (PAGE_POOL_32BIT_ARCH_WITH_64BIT_DMA)
		kunit_skip(test, "addresses do not fit a net_iov here");
	fake_functions[0].dma_mask = &mask;
	fake_functions[1].dma_mask = &mask;

	/* who says nothing about queues has one device */
	dev->dev.parent = &fake_functions[0];
	KUNIT_EXPECT_PTR_EQ(test, &fake_functions[0], fake_tx_dma_dev(dev));
	dev->queue_mgmt_ops = &fake_queue_ops;
	fake_second_ring = false;
	KUNIT_EXPECT_PTR_EQ(test, &fake_functions[0], fake_tx_dma_dev(dev));
	fake_second_ring = true;
	KUNIT_EXPECT_NULL(test, fake_tx_dma_dev(dev));
	dev->queue_mgmt_ops = NULL;
	dev->dev.parent = NULL;
	KUNIT_EXPECT_NULL(test, fake_tx_dma_dev(dev));
}

static struct kunit_case netmem_cases[] = {
	KUNIT_CASE(tx_dma_dev),
	KUNIT_CASE(sgvec_page),
	KUNIT_CASE(sgvec_net_iov),
	KUNIT_CASE(sgvec_frag_list),
	KUNIT_CASE(segment_page),
	KUNIT_CASE(segment_net_iov),
	KUNIT_CASE(gro_frags),
	KUNIT_CASE(gro_list),
	KUNIT_CASE(xmit_own),
	KUNIT_CASE(xmit_other),
	KUNIT_CASE(xmit_own_then_other),
	KUNIT_CASE(xmit_uring),
	KUNIT_CASE(xmit_own_then_uring),
	KUNIT_CASE(xmit_frag_list),
	KUNIT_CASE(xmit_received),
	KUNIT_CASE(xmit_unbound),
	KUNIT_CASE(xmit_modes),
	/* A kernel with the bugs oopses in these, so they come last */
	KUNIT_CASE(xmit_page),
	KUNIT_CASE(inbound_md5),
	{}
};

static struct kunit_suite netmem_suite = {
	.name = "netmem",
	.init = netmem_test_init,
	.test_cases = netmem_cases,
};

kunit_test_suite(netmem_suite);
