// SPDX-License-Identifier: GPL-2.0
/*
 * Areas that do not begin where their slot does, or where the dma-buf does: what a
 * completion names is what a write takes. Several areas; offsets that are no area's.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <linux/udmabuf.h>

#include "common.h"
#include "relay.h"

#define SEED	NET_SEED
#define SIZE	(8 * MiB)
#define AREA	(3 * MiB)
#define ALL	(4 * MiB)

FIXTURE(area_parts) {
	struct relay relay;
};

FIXTURE_VARIANT(area_parts) {
	enum mem_kind kind;
};

FIXTURE_VARIANT_ADD(area_parts, udmabuf) { .kind = MEM_UDMABUF_4K };
FIXTURE_VARIANT_ADD(area_parts, bar) { .kind = MEM_BAR };

FIXTURE_SETUP(area_parts)
{
	RELAY_UP(&self->relay, variant->kind, SIZE, ZCRX_RING, MTU_PAGE_TCP4);
}

FIXTURE_TEARDOWN(area_parts)
{
	relay_down(&self->relay);
}

/* [from, to) of the memory may have been written to */
static void check_only(struct __test_metadata *_metadata, struct relay *r, __u64 from,
		       __u64 to)
{
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&r->mem, 0, from, POISON));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&r->mem, to, SIZE - to, POISON));
}

/* A part of a slot that is a part of the dma-buf */
TEST_F(area_parts, of_a_part)
{
	const struct piece p = { SEED, 0, ALL };
	struct relay *r = &self->relay;
	struct io_uring_regbuf_desc d = desc_dmabuf(r->mem.fd, r->disk);
	struct relay_run run = { 0 };

	d.dmabuf_off = 2 * MiB;
	d.size = 5 * MiB;
	ASSERT_EQ(0, reg_one(&r->ring, 0, &d));
	r->base = d.dmabuf_off;
	ASSERT_EQ(0, relay_open(r, 1 * MiB, AREA));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_EQ(0, relay_run(r, &p, &run));
	check_only(_metadata, r, 3 * MiB, 3 * MiB + AREA);
}

/* The last bytes of a slot */
TEST_F(area_parts, at_the_end)
{
	const struct piece p = { SEED, 0, ALL };
	struct relay *r = &self->relay;
	struct relay_run run = { .batch = 8 };

	ASSERT_EQ(0, relay_open(r, SIZE - AREA, AREA));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_EQ(0, relay_run(r, &p, &run));
	check_only(_metadata, r, SIZE - AREA, SIZE);
}

static bool written_to(struct relay *r, __u64 off, __u64 len)
{
	static char buf[2 << 20];
	__u64 i = 0;

	if (mem_get(&r->mem, off, buf, len))
		return false;
	while (i < len && (unsigned char)buf[i] == POISON)
		i++;
	return i < len;
}

/* One that is too small for the card's ring, and more that are added */
TEST_F(area_parts, several)
{
	const struct piece p = { SEED, 0, ALL };
	struct relay *r = &self->relay;
	struct io_uring_zcrx_area_reg areas[] = {
		area_slot(0, 5 * MiB, 64 * KiB),
		area_slot(0, 1 * MiB, 1 * MiB),
		area_slot(0, 3 * MiB, 2 * MiB),
	};
	struct relay_run run = { 0 };

	ASSERT_EQ(0, relay_open_area(r, &areas[0]));
	for (unsigned int i = 1; i < ARRAY_SIZE(areas); i++) {
		ASSERT_EQ(0, zcrx_add_area(&r->z, &areas[i]));
		EXPECT_EQ((__u64)i << IORING_ZCRX_AREA_SHIFT, areas[i].rq_area_token);
	}
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_EQ(0, relay_run(r, &p, &run));
	check_only(_metadata, r, 1 * MiB, 5 * MiB + 64 * KiB);
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&r->mem, 2 * MiB, 1 * MiB, POISON));
	/* the ring takes more than the first two have */
	for (unsigned int i = 0; i < ARRAY_SIZE(areas); i++) {
		EXPECT_TRUE(written_to(r, areas[i].addr, areas[i].len)) {
			TH_LOG("area %u", i);
		}
	}
	EXPECT_EQ(0, relay_close(r));
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 0, net_patience()));
}

/* --- entries of the refill ring --- */

#define HELD	64

static bool is_held(const struct arrived *held, unsigned int nr, const struct arrived *a)
{
	while (nr--)
		if (held[nr].off / 4096 == a->off / 4096)
			return true;
	return false;
}

/*
 * What is wrong gives nothing back: pieces that the application has stay as they are,
 * while all else of the area is used again and again
 */
TEST_F(area_parts, wrong_refills)
{
	const struct piece p = { SEED, 0, HELD * 4096 }, next = { SEED + 1, 0, ALL };
	struct relay *r = &self->relay;
	static struct arrived held[2 * HELD];
	const __u64 area = 2 * MiB;
	struct arrived a;
	struct sender s;
	int nr, got;

	ASSERT_EQ(0, relay_open(r, area, AREA));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_NE(NULL, zcrx_prep(&r->z, r->tcp.rx, 0, RELAY_RECV));
	ASSERT_EQ(0, piece_send(r->tcp.tx, &p, 0));
	nr = relay_arrive(r, &p, held, ARRAY_SIZE(held));
	ASSERT_GT(nr, 0);

	for (int i = 0; i < nr; i++) {
		__u64 off = held[i].off, at = off - area;

		/* offsets of the area, not of the slot: they lie before it, or in it */
		if (at < area)
			zcrx_return(&r->z, at, 4096);
		zcrx_return(&r->z, off + AREA, 4096);
		zcrx_return(&r->z, off | 1ULL << 44, 4096);
		zcrx_return(&r->z, off | 1ULL << 47, 4096);
		zcrx_return(&r->z, off + (1ULL << IORING_ZCRX_AREA_SHIFT), 4096);
		zcrx_return(&r->z, off | IORING_ZCRX_AREA_MASK, 4096);
	}
	zcrx_return(&r->z, area - 4096, 4096);
	zcrx_return(&r->z, area + AREA, 4096);
	zcrx_return(&r->z, 0, 4096);
	zcrx_return(&r->z, ~0ULL, 4096);
	/* no flush ends at one */
	ASSERT_EQ(0, zcrx_flush(&r->z));
	ASSERT_EQ(r->z.local_tail, *r->z.head);

	ASSERT_EQ(0, sender_start(&s, r->tcp.tx, &next));
	for (__u64 done = 0; done < next.len; done += got) {
		got = relay_next(r, &next, done, &a);
		ASSERT_GT(got, 0);
		ASSERT_FALSE(is_held(held, nr, &a));
		zcrx_return(&r->z, a.off, a.len);
	}
	EXPECT_EQ(0, sender_join(&s));
	for (__u64 done = 0, i = 0; done < p.len; done += held[i++].len)
		EXPECT_EQ(NO_MISMATCH,
			  mem_check(&r->mem, held[i].off, done, held[i].len, p.seed));
}

/* A piece that is returned twice is returned once */
TEST_F(area_parts, returned_twice)
{
	const struct piece p = { SEED, 0, HELD * 4096 }, next = { SEED + 1, 0, ALL };
	struct relay *r = &self->relay;
	static struct arrived held[2 * HELD];
	struct relay_run run = { 0 };
	int nr;

	ASSERT_EQ(0, relay_open(r, 2 * MiB, AREA));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_NE(NULL, zcrx_prep(&r->z, r->tcp.rx, p.len, RELAY_RECV));
	ASSERT_EQ(0, piece_send(r->tcp.tx, &p, 0));
	nr = relay_arrive(r, &p, held, ARRAY_SIZE(held));
	ASSERT_GT(nr, 0);
	for (int i = 0; i < 3 * nr; i++)
		zcrx_return(&r->z, held[i % nr].off, held[i % nr].len);
	ASSERT_EQ(0, zcrx_flush(&r->z));
	/* the end of the first receive */
	while (uring_ready(&r->ring)) {
		struct uring_res res;

		uring_peek(&r->ring, &res);
		EXPECT_EQ(0, res.res);
	}
	EXPECT_EQ(0, relay_run(r, &next, &run));
}

/* --- offsets that 32 bits do not have --- */

#define FAR_AT	(4 * GiB)
#define VIEW	(8 * MiB)	/* around it there is memory of its own */
#define FILL	(2 * MiB)	/* what all else repeats */

/* The view is the memory of the rig */
static int far_create(struct relay *r, int *fill, char **fill_map)
{
	__u32 nr = (FAR_AT + VIEW / 2) / FILL;
	struct udmabuf_create_item *items = calloc(nr, sizeof(*items));
	int view, fd, ret;
	char *map;

	*fill = memfd_sealed(FILL, fill_map);
	view = memfd_sealed(VIEW, &map);
	if (!items || *fill < 0 || view < 0)
		return -ENOMEM;
	for (__u32 i = 0; i < nr; i++) {
		__u64 at = (__u64)i * FILL;
		bool mine = at >= FAR_AT - VIEW / 2;

		items[i] = (struct udmabuf_create_item) {
			.memfd = mine ? view : *fill, .size = FILL,
			.offset = mine ? at - (FAR_AT - VIEW / 2) : 0,
		};
	}
	fd = udmabuf_pieces(items, nr);
	free(items);
	close(view);
	if (fd < 0)
		return fd;
	mem_destroy(&r->mem);
	mem_wrap(&r->mem, fd, VIEW, map);
	r->base = -(FAR_AT - VIEW / 2);
	ret = mem_poison(&r->mem, 0, VIEW, POISON);
	return ret ?: reg_dmabuf(&r->ring, 0, fd, r->disk);
}

TEST(beyond_4_gib)
{
	const struct piece p = { SEED, 0, ALL };
	struct relay rig, *r = &rig;
	struct relay_run run = { 0 };
	char *fill_map;
	int fill;

	if (lab_debug_kernel())
		SKIP(return, "a million pages are too many for it");
	RELAY_UP(r, MEM_UDMABUF, SIZE, ZCRX_RING, MTU_PAGE_TCP4);
	ASSERT_EQ(0, far_create(r, &fill, &fill_map));
	/* on both sides of it */
	ASSERT_EQ(0, relay_open(r, FAR_AT - MiB, AREA));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	EXPECT_EQ(0, relay_run(r, &p, &run));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&r->mem, 0, VIEW / 2 - MiB, POISON));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&r->mem, VIEW / 2 - MiB + AREA,
						VIEW / 2 + MiB - AREA, POISON));
	EXPECT_EQ(NO_MISMATCH, poison_check(fill_map, FILL, 0));
	munmap(fill_map, FILL);
	close(fill);
	relay_down(r);
}

TEST_HARNESS_MAIN
