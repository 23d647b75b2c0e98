/* SPDX-License-Identifier: GPL-2.0 */
/* The fixture of sends that cannot be made without copying */
#ifndef NET_REFUSED_H
#define NET_REFUSED_H

#include "common.h"
#include "netio.h"

#define SIZE		(1 * MiB)
#define SEED		NET_SEED
#define LEN		20000
#define POS		4321		/* of what is refused or copied */

/* @len bytes from @slot are refused with @err or, with @copy, copied */
static inline void check_send(struct __test_metadata *_metadata,
			      struct netrig *n, bool copy, __u16 slot,
			      struct net_pair *p, __u32 len, int err)
{
	const struct piece want = { SEED, POS, len };
	struct io_uring_query_regbuf_map before, after;
	bool copied;
	int ret;

	ASSERT_EQ(0, net_wait_acked(p->tx));
	ASSERT_EQ(0, query_map(&n->ring, slot, 0, &before));
	ret = net_send_sync(n, p->tx, slot, POS, len, 0, &copied);
	ASSERT_EQ(0, query_map(&n->ring, slot, 0, &after));
	EXPECT_EQ(copy ? (int)len : err, ret);
	EXPECT_EQ(copy ? len : 0, after.copied_bytes - before.copied_bytes);
	if (copy) {
		EXPECT_TRUE(copied);
		ASSERT_EQ(0, net_recv_each(p->rx, &want, 1));
	} else {
		EXPECT_EQ(0, net_unsent(p->tx));
	}
	ASSERT_EQ(0, net_mark(p));
}

FIXTURE(refused) {
	struct netrig net, other;
	struct net_pair tcp;		/* with nothing wrong; slot 0 is for it */
	struct net_pair bad;		/* what the test is about */
	bool copy;
	bool xfrm;			/* to be taken away */
	const char *dev;		/* likewise */
};

FIXTURE_VARIANT(refused) {
	__u32 flags;
};

FIXTURE_VARIANT_ADD(refused, plain) { .flags = 0 };
FIXTURE_VARIANT_ADD(refused, copy_ok) { .flags = IO_REGBUF_DMABUF_COPY_OK };

FIXTURE_SETUP(refused)
{
	struct netrig *n = &self->net;

	self->tcp = NET_PAIR_NONE;
	self->bad = NET_PAIR_NONE;
	self->copy = variant->flags & IO_REGBUF_DMABUF_COPY_OK;
	netrig_init(&self->other);
	NETRIG_UP(n, "e1000e", MEM_UDMABUF_4K, SIZE);
	ASSERT_EQ(0, net_tcp(n, AF_INET, &self->tcp));
	ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, SEED));
	ASSERT_EQ(0, net_reg(n, 0, n->mem.fd, self->tcp.tx, variant->flags));
}

FIXTURE_TEARDOWN(refused)
{
	struct netrig *n = &self->net;

	net_close(&self->bad);
	net_close(&self->tcp);
	if (self->xfrm)
		net_ip(n->home, "xfrm policy flush\nxfrm state flush\n");
	if (self->dev)
		net_ip(n->home, "link del %s\n", self->dev);
	netrig_down(&self->other);
	netrig_down(n);
}

/* Registration for the socket under test: @err, or nothing to say with COPY_OK */
#define EXPECT_NO_TARGET(err, sock) do {				\
	EXPECT_EQ(self->copy ? 0 : (err),				\
		  net_reg(&self->net, 1, self->net.mem.fd, sock,	\
			  variant->flags));				\
	EXPECT_EQ(0, reg_clear(&self->net.ring, 1));			\
} while (0)

#define EXPECT_TARGET(sock)						\
	EXPECT_EQ(0, net_reg(&self->net, 1, self->net.mem.fd, sock,	\
			     variant->flags))

#define CHECK_SEND(slot, pair, len, err)				\
	check_send(_metadata, &self->net, self->copy, slot, pair, len, err)

#endif
