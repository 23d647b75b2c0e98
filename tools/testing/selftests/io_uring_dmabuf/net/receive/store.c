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
	const char *card;
	enum mem_kind kind;
	int family;
	__u32 ring;
};

FIXTURE_VARIANT_ADD(store, udmabuf) { "e1000e", MEM_UDMABUF, AF_INET, ZCRX_RING };
FIXTURE_VARIANT_ADD(store, udmabuf_4k_tcp6) { "e1000e", MEM_UDMABUF_4K, AF_INET6, ZCRX_RING_MIXED };
FIXTURE_VARIANT_ADD(store, heap) { "e1000e", MEM_HEAP, AF_INET, ZCRX_RING_MIXED };
FIXTURE_VARIANT_ADD(store, heap_tcp6) { "e1000e", MEM_HEAP, AF_INET6, ZCRX_RING };
FIXTURE_VARIANT_ADD(store, cma) { "e1000e", MEM_CMA, AF_INET, ZCRX_RING };
FIXTURE_VARIANT_ADD(store, bar) { "e1000e", MEM_BAR, AF_INET, ZCRX_RING };
FIXTURE_VARIANT_ADD(store, bar_tcp6) { "e1000e", MEM_BAR, AF_INET6, ZCRX_RING_MIXED };
FIXTURE_VARIANT_ADD(store, bar_4k) { "e1000e", MEM_BAR_4K, AF_INET, ZCRX_RING };
FIXTURE_VARIANT_ADD(store, igb_heap_tcp6) { "igb", MEM_HEAP, AF_INET6, ZCRX_RING };
FIXTURE_VARIANT_ADD(store, igb_bar) { "igb", MEM_BAR, AF_INET, ZCRX_RING_MIXED };

FIXTURE_SETUP(store)
{
	RELAY_UP_CARD(&self->relay, variant->card, variant->kind, SIZE,
		      variant->ring, MTU_PAGE(variant->family));
	ASSERT_EQ(0, relay_open(&self->relay, AREA_OFF, AREA));
	ASSERT_EQ(0, relay_connect(&self->relay, variant->family));
}

FIXTURE_TEARDOWN(store)
{
	relay_down(&self->relay);
}

/* Nothing of the dma-buf but the area was written to, and nobody has it afterwards */
static void check_over(struct __test_metadata *_metadata, struct relay *r,
		       const struct relay_run *run)
{
	TH_LOG("%u pieces, %u of them pages; %u writes", run->pieces, run->whole,
	       run->writes);
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
	/* igb does not count them */
	bool counts = strcmp(variant->card, "igb");

	if (counts)
		ASSERT_GE(split, 0);
	ASSERT_EQ(0, relay_run(r, &p, &run));
	/* nearly all packets are whole pages */
	EXPECT_GE(run.whole, p.len / 4096 * 9 / 10);
	if (counts)
		EXPECT_GE(card_stat(&r->net, "rx_header_split") - split, p.len / 4096);
	check_over(_metadata, r, &run);
}

/* Many pieces in one command */
TEST_F(store, vectors)
{
	const struct piece p = { SEED + 1, 0, ALL };
	struct relay *r = &self->relay;
	struct relay_run run = { .batch = 32 };

	ASSERT_EQ(0, relay_run(r, &p, &run));
	EXPECT_LE(run.writes, run.pieces / 16);
	check_over(_metadata, r, &run);
}

TEST_HARNESS_MAIN
