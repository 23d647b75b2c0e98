/* SPDX-License-Identifier: GPL-2.0 */
/* The fixture that these programs have, and what all of their tests do */
#ifndef UNREADABLE_FIXTURE_H
#define UNREADABLE_FIXTURE_H

#include "common.h"
#include "unread.h"

static const struct piece unreadable = { SEED, 4321, LEN };
static const struct piece ordinary = { ORDINARY_SEED, 0, LEN };

static inline void unread_up(struct __test_metadata *_metadata, struct unread_rig *rig,
			     const char *card)
{
	struct netrig *n = &rig->net;

	unread_init(rig);
	NETRIG_UP(n, card, MEM_UDMABUF_4K, SIZE);
	ASSERT_EQ(0, net_tcp(n, AF_INET, &rig->tcp));
	ASSERT_EQ(0, net_tcp(n, AF_INET, &rig->ordinary));
	ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, SEED));
	ASSERT_EQ(0, reg_dmabuf(&n->ring, 0, n->mem.fd, rig->tcp.tx));
	ASSERT_EQ(0, net_works(n, 0, &rig->tcp));
	ASSERT_EQ(0, match_init(rig));
}

/* With one card; see cards.h for what is tried with each */
FIXTURE(unread) {
	struct unread_rig rig;
};

FIXTURE_VARIANT(unread) {
	const char *card, *other;
};

FIXTURE_VARIANT_ADD(unread, e1000e) {
	.card = "e1000e", .other = "vmxnet3",
};

FIXTURE_SETUP(unread)
{
	unread_up(_metadata, &self->rig, variant->card);
}

FIXTURE_TEARDOWN(unread)
{
	unread_down(&self->rig);
}

/* Both, in the order in which a probe must have seen the former after the latter */
static inline void send_both(struct __test_metadata *_metadata, struct unread_rig *rig)
{
	ASSERT_EQ(0, net_send_all(&rig->net, rig->tcp.tx, 0, unreadable.pos,
				  unreadable.len, 0));
	ASSERT_EQ(0, piece_send(rig->ordinary.tx, &ordinary, 0));
}

static inline void recv_both(struct __test_metadata *_metadata, struct unread_rig *rig)
{
	ASSERT_EQ(0, net_recv(rig->tcp.rx, &unreadable, 1));
	ASSERT_EQ(0, net_recv(rig->ordinary.rx, &ordinary, 1));
}

#define SEND_BOTH()	send_both(_metadata, rig)
#define RECV_BOTH()	recv_both(_metadata, rig)

/* One of them, all the way; nothing of it will be sent again */
static inline void send_unreadable(struct __test_metadata *_metadata, struct unread_rig *rig)
{
	ASSERT_EQ(0, net_send_all(&rig->net, rig->tcp.tx, 0, unreadable.pos,
				  unreadable.len, 0));
	ASSERT_EQ(0, net_recv(rig->tcp.rx, &unreadable, 1));
	ASSERT_EQ(0, net_wait_acked(rig->tcp.tx));
}

static inline void send_ordinary(struct __test_metadata *_metadata, struct unread_rig *rig)
{
	ASSERT_EQ(0, piece_send(rig->ordinary.tx, &ordinary, 0));
	ASSERT_EQ(0, net_recv(rig->ordinary.rx, &ordinary, 1));
}

#define SEND_UNREADABLE()	send_unreadable(_metadata, rig)
#define SEND_ORDINARY()	send_ordinary(_metadata, rig)

static inline void check_probe(struct __test_metadata *_metadata, const struct probe *p)
{
	EXPECT_GT(p->ordinary, 0) {
		TH_LOG("probe of kind %u, %u packets", p->kind, p->nr_unreadable);
	}
	EXPECT_EQ(0, p->leaked) {
		TH_LOG("probe of kind %u, %u packets", p->kind, p->nr_unreadable);
	}
}

/* All is as it was, and the slot can be cleared */
static inline void check_over(struct __test_metadata *_metadata, struct unread_rig *rig)
{
	struct netrig *n = &rig->net;

	EXPECT_EQ(0, net_works(n, 0, &rig->tcp));
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(0, n->copied);
	ASSERT_EQ(0, reg_clear(&n->ring, 0));
	EXPECT_TRUE(bufinfo_wait(n->mem.fd, 0, net_patience()));
}

#define CHECK_OVER()	check_over(_metadata, rig)

#define VETH_UP() do {							\
	if (veth_up(rig))							\
		SKIP(return, "no veth (CONFIG_VETH)");			\
} while (0)

#define TUN_OPEN(tap) do {						\
	if (tun_open(rig, &rig->probe[0], tap))				\
		SKIP(return, "no tun devices (CONFIG_TUN)");		\
} while (0)

#define MIRRED(how, dev) do {						\
	if (add_mirred(rig, how, dev))						\
		SKIP(return, "no mirred (CONFIG_NET_ACT_MIRRED)");	\
} while (0)

#endif
