// SPDX-License-Identifier: GPL-2.0
/* KUnit tests of the granule table and of the windows of dma_iobuf */
#include <kunit/test.h>
#include <linux/overflow.h>
#include <linux/prandom.h>
#include <linux/slab.h>

#include "dma-iobuf.h"

struct run {
	dma_addr_t addr;
	u32 len;
};

static struct sg_table *runs_to_sgt(struct kunit *test, const struct run *runs,
				    unsigned int nr)
{
	struct sg_table *sgt = kunit_kzalloc(test, sizeof(*sgt), GFP_KERNEL);
	struct scatterlist *sg;
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, sgt);
	sgt->sgl = kunit_kcalloc(test, nr, sizeof(*sg), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, sgt->sgl);
	sg_init_table(sgt->sgl, nr);
	sgt->nents = nr;
	for_each_sgtable_dma_sg(sgt, sg, i) {
		sg_dma_address(sg) = runs[i].addr;
		sg_dma_len(sg) = runs[i].len;
	}
	return sgt;
}

static struct dma_iobuf_map *build(struct kunit *test, struct sg_table *sgt,
				   u64 size)
{
	int shift = dma_iobuf_table_shift(sgt, size);
	struct dma_iobuf_map *map;
	u64 nr;

	KUNIT_ASSERT_GE(test, shift, 0);
	nr = dma_iobuf_table_entries(size, shift) + 1;
	map = kunit_kzalloc(test, struct_size(map, addr, nr), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, map);
	map->nr = nr;
	map->shift = shift;
	dma_iobuf_table_fill(sgt, size, shift, map->addr);
	return map;
}

/* the slow and obvious way */
static dma_addr_t walk(const struct run *runs, u64 off)
{
	while (off >= runs->len)
		off -= runs++->len;
	return runs->addr + off;
}

static void check_range(struct kunit *test, struct dma_iobuf_map *map,
			const struct run *runs, u64 off, u32 want)
{
	while (want) {
		dma_addr_t addr;
		u32 len = 0;

		addr = dma_iobuf_map_addr(map, off, want, &len);
		KUNIT_ASSERT_GT(test, len, 0);
		KUNIT_ASSERT_LE(test, len, want);
		KUNIT_ASSERT_EQ(test, addr, walk(runs, off));
		/* all of the piece is where its start says */
		KUNIT_ASSERT_EQ(test, addr + len - 1, walk(runs, off + len - 1));
		off += len;
		want -= len;
	}
}

static void granule_contiguous(struct kunit *test)
{
	static const struct run runs[] = {
		{ 0x100000, SZ_1M }, { 0x200000, SZ_2M }, { 0x400000, SZ_4K },
	};
	u64 size = SZ_1M + SZ_2M + SZ_4K;
	struct sg_table *sgt = runs_to_sgt(test, runs, ARRAY_SIZE(runs));
	struct dma_iobuf_map *map = build(test, sgt, size);
	u32 len;

	/* one entry, whatever the number of scatterlist entries */
	KUNIT_EXPECT_EQ(test, map->nr, 2);
	KUNIT_EXPECT_EQ(test, dma_iobuf_map_addr(map, 0, size, &len), 0x100000);
	KUNIT_EXPECT_EQ(test, len, size);
}

static void granule_chopped_at_4g(struct kunit *test)
{
	/* what an exporter makes of 6 GiB: entries are at most 4 GiB - 4 KiB */
	static const struct run runs[] = {
		{ SZ_4G, SZ_4G - SZ_4K },
		{ SZ_4G + (SZ_4G - SZ_4K), SZ_2G + SZ_4K },
	};
	u64 size = SZ_4G + SZ_2G;
	struct sg_table *sgt = runs_to_sgt(test, runs, ARRAY_SIZE(runs));
	struct dma_iobuf_map *map = build(test, sgt, size);
	u32 len;

	KUNIT_EXPECT_EQ(test, map->nr, 2);
	KUNIT_EXPECT_EQ(test, dma_iobuf_map_addr(map, SZ_4G - 512, SZ_1G, &len),
			2ULL * SZ_4G - 512);
	KUNIT_EXPECT_EQ(test, len, SZ_1G);
}

static void granule_sizes(struct kunit *test)
{
	static const struct run runs[] = {
		{ 0x1000000, SZ_64K }, { 0x3000000, SZ_128K },
		{ 0x2000000, SZ_64K }, { 0x5000000, SZ_4K },
	};
	u64 size = SZ_256K + SZ_4K;
	struct sg_table *sgt = runs_to_sgt(test, runs, ARRAY_SIZE(runs));
	struct dma_iobuf_map *map = build(test, sgt, size);
	u32 len;

	KUNIT_EXPECT_EQ(test, map->shift, 16);
	KUNIT_EXPECT_EQ(test, map->nr, 6);
	/* neighbours are merged, strangers are not */
	dma_iobuf_map_addr(map, SZ_64K, SZ_256K - SZ_64K, &len);
	KUNIT_EXPECT_EQ(test, len, SZ_128K);
	/* the last entry ends the table */
	dma_iobuf_map_addr(map, SZ_256K, SZ_4K, &len);
	KUNIT_EXPECT_EQ(test, len, SZ_4K);
}

static void granule_refused(struct kunit *test)
{
	static const struct run unaligned[] = { { 0x1000200, SZ_4K } };
	static const struct run odd[] = { { 0x1000000, SZ_4K + 512 } };
	static const struct run fine[] = { { 0x1000000, SZ_4K } };

	KUNIT_EXPECT_EQ(test, -EINVAL,
			dma_iobuf_table_shift(runs_to_sgt(test, unaligned, 1), SZ_4K));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			dma_iobuf_table_shift(runs_to_sgt(test, odd, 1), SZ_4K));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			dma_iobuf_table_shift(runs_to_sgt(test, fine, 1), SZ_8K));
	KUNIT_EXPECT_EQ(test, -EINVAL,
			dma_iobuf_table_shift(runs_to_sgt(test, fine, 1), 0));
	KUNIT_EXPECT_EQ(test, 12,
			dma_iobuf_table_shift(runs_to_sgt(test, fine, 1), SZ_4K));
	/* longer than the dma-buf: the rest is not ours */
	KUNIT_EXPECT_EQ(test, 11,
			dma_iobuf_table_shift(runs_to_sgt(test, fine, 1), SZ_2K));
}

static void granule_random(struct kunit *test)
{
	struct rnd_state rnd;
	unsigned int round;

	prandom_seed_state(&rnd, 7);
	for (round = 0; round < 200; round++) {
		struct run runs[24];
		unsigned int nr = 1 + prandom_u32_state(&rnd) % ARRAY_SIZE(runs);
		unsigned int unit = SZ_4K << prandom_u32_state(&rnd) % 6;
		dma_addr_t next = SZ_4G;
		struct dma_iobuf_map *map;
		u64 size = 0;
		unsigned int i;

		for (i = 0; i < nr; i++) {
			runs[i].len = unit * (1 + prandom_u32_state(&rnd) % 8);
			/* every other one follows its predecessor */
			if (prandom_u32_state(&rnd) & 1)
				next += SZ_1G;
			runs[i].addr = next;
			next += runs[i].len;
			size += runs[i].len;
		}
		map = build(test, runs_to_sgt(test, runs, nr), size);
		KUNIT_ASSERT_GE(test, 1ULL << map->shift, unit);
		check_range(test, map, runs, 0, size);
		for (i = 0; i < 50; i++) {
			u64 off = prandom_u32_state(&rnd) % size;

			check_range(test, map, runs, off,
				    1 + prandom_u32_state(&rnd) % (size - off));
		}
	}
}

static void window_roundtrip(struct kunit *test)
{
	struct dma_iobuf_win *win = kunit_kzalloc(test, sizeof(*win), GFP_KERNEL);
	struct bio_vec bv;

	KUNIT_ASSERT_NOT_NULL(test, win);
	bvec_set_dma_win(&bv, win, SZ_8K, SZ_4K);
	KUNIT_EXPECT_PTR_EQ(test, bvec_dma_win(&bv), win);
	KUNIT_EXPECT_EQ(test, bv.bv_len, SZ_8K);
	KUNIT_EXPECT_EQ(test, bv.bv_offset, SZ_4K);
	/* nobody can follow it as if it were a page */
	KUNIT_EXPECT_NE(test, bv.bv_dma_win, (unsigned long)win);
	if (IS_ENABLED(CONFIG_X86_64))
		KUNIT_EXPECT_NE(test, bv.bv_dma_win >> 47 & 1,
				bv.bv_dma_win >> 62 & 1);
}

static struct kunit_case dma_iobuf_cases[] = {
	KUNIT_CASE(granule_contiguous),
	KUNIT_CASE(granule_chopped_at_4g),
	KUNIT_CASE(granule_sizes),
	KUNIT_CASE(granule_refused),
	KUNIT_CASE(granule_random),
	KUNIT_CASE(window_roundtrip),
	{}
};

static struct kunit_suite dma_iobuf_suite = {
	.name		= "dma_iobuf",
	.test_cases	= dma_iobuf_cases,
};

kunit_test_suite(dma_iobuf_suite);
