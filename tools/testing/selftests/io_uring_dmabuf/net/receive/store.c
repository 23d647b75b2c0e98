// SPDX-License-Identifier: GPL-2.0
/*
 * What arrives goes to a drive, from the part of a registered dma-buf that the card
 * has written it to: memory of every kind, by IPv4 and IPv6.
 */
#include "common.h"
#include "relay.h"

#define SEED		NET_SEED
#define SIZE		(8 * MiB)
#define AREA		(4 * MiB)
#define AREA_OFF	(1 * MiB)
#define ALL		(lab_scale(12, 6) * MiB)

FIXTURE(store) {
	struct relay relay;
};

FIXTURE_VARIANT(store) {
	enum mem_kind kind;
	int family;
	__u32 ring;
	const char *card;	/* or e1000e */
};

FIXTURE_VARIANT_ADD(store, udmabuf) {
	.kind = MEM_UDMABUF, .family = AF_INET, .ring = ZCRX_RING,
};

FIXTURE_VARIANT_ADD(store, udmabuf_4k_tcp6) {
	.kind = MEM_UDMABUF_4K, .family = AF_INET6, .ring = ZCRX_RING_MIXED,
};

FIXTURE_VARIANT_ADD(store, heap) {
	.kind = MEM_HEAP, .family = AF_INET, .ring = ZCRX_RING_MIXED,
};

FIXTURE_VARIANT_ADD(store, heap_tcp6) {
	.kind = MEM_HEAP, .family = AF_INET6, .ring = ZCRX_RING,
};

FIXTURE_VARIANT_ADD(store, cma) {
	.kind = MEM_CMA, .family = AF_INET, .ring = ZCRX_RING,
};

FIXTURE_VARIANT_ADD(store, bar) {
	.kind = MEM_BAR, .family = AF_INET, .ring = ZCRX_RING,
};

FIXTURE_VARIANT_ADD(store, bar_tcp6) {
	.kind = MEM_BAR, .family = AF_INET6, .ring = ZCRX_RING_MIXED,
};

FIXTURE_VARIANT_ADD(store, bar_4k) {
	.kind = MEM_BAR_4K, .family = AF_INET, .ring = ZCRX_RING,
};

FIXTURE_VARIANT_ADD(store, igb_heap_tcp6) {
	.kind = MEM_HEAP, .family = AF_INET6, .ring = ZCRX_RING, .card = "igb",
};

FIXTURE_VARIANT_ADD(store, igb_bar) {
	.kind = MEM_BAR, .family = AF_INET, .ring = ZCRX_RING_MIXED, .card = "igb",
};

FIXTURE_SETUP(store)
{
	RELAY_UP_CARD(&self->relay, variant->card ?: "e1000e", variant->kind, SIZE,
		      variant->ring, MTU_PAGE(variant->family));
	ASSERT_EQ(0, relay_open(&self->relay, AREA_OFF, AREA));
	ASSERT_EQ(0, relay_connect(&self->relay, variant->family));
}

FIXTURE_TEARDOWN(store)
{
	relay_down(&self->relay);
}

/* Nothing of the dma-buf but the area was written to, and nobody has it afterwards */
static void check_over(struct __test_metadata *_metadata, struct relay *r)
{
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&r->mem, 0, AREA_OFF, POISON));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&r->mem, AREA_OFF + AREA,
						SIZE - AREA_OFF - AREA, POISON));
	EXPECT_EQ(0, relay_close(r));
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 0, net_patience()));
}

/* A write for each piece; the area is used several times over */
TEST_F(store, pieces)
{
	const struct piece p = { SEED, 0, ALL };
	struct relay *r = &self->relay;
	struct relay_run run = { 0 };
	long long split = card_stat(&r->net, "rx_header_split");

	if (!variant->card)
		ASSERT_GE(split, 0);
	ASSERT_EQ(0, relay_run(r, &p, &run));
	/* nearly all packets are whole pages */
	EXPECT_GE(run.whole, p.len / 4096 * 9 / 10);
	/* igb does not count them */
	if (!variant->card)
		EXPECT_GE(card_stat(&r->net, "rx_header_split") - split, p.len / 4096);
	TH_LOG("%u pieces, %u of them pages; %u writes", run.pieces, run.whole,
	       run.writes);
	check_over(_metadata, r);
}

/* Many pieces in one command */
TEST_F(store, vectors)
{
	const struct piece p = { SEED + 1, 0, ALL };
	struct relay *r = &self->relay;
	struct relay_run run = { .batch = 32 };

	ASSERT_EQ(0, relay_run(r, &p, &run));
	EXPECT_LE(run.writes, run.pieces / 16);
	TH_LOG("%u pieces, %u of them pages; %u writes", run.pieces, run.whole,
	       run.writes);
	check_over(_metadata, r);
}

TEST_HARNESS_MAIN
