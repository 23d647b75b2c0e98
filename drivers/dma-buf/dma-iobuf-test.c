// SPDX-License-Identifier: GPL-2.0
/* KUnit tests of the mapping table and of the windows of dma_iobuf */
#include <kunit/test.h>
#include <linux/bits.h>
#include <linux/log2.h>
#include <linux/prandom.h>
#include <linux/slab.h>

#include "dma-iobuf-internal.h"

struct run {
	dma_addr_t addr;
	u32 len;
};

KUNIT_DEFINE_ACTION_WRAPPER(free_sgt, sg_free_table, struct sg_table *);
KUNIT_DEFINE_ACTION_WRAPPER(free_map, kvfree, const void *);

static struct sg_table *sgt_alloc(struct kunit *test, unsigned int nr)
{
	struct sg_table *sgt = kunit_kzalloc(test, sizeof(*sgt), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, sgt);
	KUNIT_ASSERT_EQ(test, 0, sg_alloc_table(sgt, nr, GFP_KERNEL));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, free_sgt, sgt));
	return sgt;
}

static struct sg_table *runs_to_sgt(struct kunit *test, const struct run *runs,
				    unsigned int nr)
{
	struct sg_table *sgt = sgt_alloc(test, nr);
	struct scatterlist *sg;
	unsigned int i;

	for_each_sgtable_dma_sg(sgt, sg, i) {
		sg_dma_address(sg) = runs[i].addr;
		sg_dma_len(sg) = runs[i].len;
	}
	return sgt;
}

static u64 sgt_size(struct sg_table *sgt)
{
	struct scatterlist *sg;
	unsigned int i;
	u64 size = 0;

	for_each_sgtable_dma_sg(sgt, sg, i)
		size += sg_dma_len(sg);
	return size;
}

static unsigned int sgt_runs(struct sg_table *sgt)
{
	struct scatterlist *sg;
	dma_addr_t next = 0;
	unsigned int i, runs = 0;

	for_each_sgtable_dma_sg(sgt, sg, i) {
		runs += !i || sg_dma_address(sg) != next;
		next = sg_dma_address(sg) + sg_dma_len(sg);
	}
	return runs;
}

static struct dma_iobuf_map *build(struct kunit *test, struct sg_table *sgt,
				   u64 size)
{
	struct dma_iobuf_map *map = dma_iobuf_table_alloc(sgt, size);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, map);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, free_map, map));
	return map;
}

/* what a table may take: 16 bytes for each run, or the rest of a page */
static size_t max_bytes(unsigned int runs)
{
	return max_t(size_t, 16 * (size_t)runs,
		     PAGE_SIZE - sizeof(struct dma_iobuf_map));
}

/* No more than that, and the search is not longer than it has to be */
static void check_cost(struct kunit *test, struct dma_iobuf_map *map,
		       struct sg_table *sgt, u64 size)
{
	unsigned int i, steps, most = 0, runs = sgt_runs(sgt);
	size_t bytes = dma_iobuf_table_bytes(map) - sizeof(*map);

	for (i = 0; map->end && i < map->nr; i++) {
		u64 off = dma_iobuf_run_start(map->end, i);

		KUNIT_ASSERT_EQ(test, i, dma_iobuf_run_search(map->end, map->nr,
							      off, &steps));
		most = max(most, steps);
	}
	kunit_info(test, "%llu MiB, %u pieces, %u runs: %s %u, table %zu bytes, %zu.%02zu per run, search %u steps\n",
		   size >> 20, sgt->nents, runs, map->end ? "runs" : "granules",
		   map->nr, bytes, bytes / runs, bytes * 100 / runs % 100, most);
	KUNIT_EXPECT_LE(test, bytes, max_bytes(runs));
	KUNIT_EXPECT_LE(test, most, ilog2(map->nr) + 1);
	if (map->end)
		KUNIT_EXPECT_EQ(test, map->nr, runs);
}

/*
 * The slow and obvious way: walk the scatterlist. @sg and @start are where the
 * last walk ended, to begin there if that helps.
 */
struct walker {
	struct sg_table *sgt;
	struct scatterlist *sg;
	u64 start;
};

static dma_addr_t walk(struct walker *w, u64 off, u64 max, u64 *len)
{
	struct scatterlist *sg;
	u64 avail;

	if (!w->sg || off < w->start) {
		w->sg = w->sgt->sgl;
		w->start = 0;
	}
	while (off - w->start >= sg_dma_len(w->sg)) {
		w->start += sg_dma_len(w->sg);
		w->sg = sg_next(w->sg);
	}
	sg = w->sg;
	avail = sg_dma_len(sg) - (off - w->start);
	for (; avail < max && sg_next(sg); sg = sg_next(sg)) {
		if (sg_dma_address(sg) + sg_dma_len(sg) !=
		    sg_dma_address(sg_next(sg)))
			break;
		avail += sg_dma_len(sg_next(sg));
	}
	*len = min(avail, max);
	return sg_dma_address(w->sg) + (off - w->start);
}

/* A piece is where it has to be, and as long as it can be */
static void check_range(struct kunit *test, struct dma_iobuf_map *map,
			struct walker *w, u64 off, u32 want)
{
	while (want) {
		dma_addr_t addr;
		u64 model_len;
		u32 len = 0;

		addr = dma_iobuf_map_addr(map, off, want, &len);
		KUNIT_ASSERT_EQ(test, addr, walk(w, off, want, &model_len));
		KUNIT_ASSERT_EQ(test, (u64)len, model_len);
		off += len;
		want -= len;
	}
}

/* All of it, in steps of at most @step bytes that end where a window does */
static void check_all(struct kunit *test, struct dma_iobuf_map *map,
		      struct sg_table *sgt, u64 size, u64 step)
{
	struct walker w = { .sgt = sgt };
	u64 off, len;

	for (off = 0; off < size; off += len) {
		len = DMA_IOBUF_WIN_SIZE - off % DMA_IOBUF_WIN_SIZE;
		len = min3(len, step, size - off);
		check_range(test, map, &w, off, len);
	}
}

static void check_some(struct kunit *test, struct dma_iobuf_map *map,
		       struct sg_table *sgt, u64 size, struct rnd_state *rnd,
		       unsigned int times)
{
	while (times--) {
		struct walker w = { .sgt = sgt };
		u64 off = ((u64)prandom_u32_state(rnd) << 32 |
			   prandom_u32_state(rnd)) % size;
		u64 max = 1 + (prandom_u32_state(rnd) >> prandom_u32_state(rnd) % 32);

		check_range(test, map, &w, off,
			    min3(max, size - off, (u64)DMA_IOBUF_WIN_SIZE));
	}
}

/* IOVAs as the kernel makes them: from the top, aligned to the size */
static dma_addr_t next_iova(dma_addr_t *top, u32 len)
{
	u64 align = 1ULL << fls64(len - 1);

	*top = (*top - len) & ~(align - 1);
	return *top;
}

#define IOVA_TOP	BIT_ULL(47)

/* @size bytes in pieces of @piece with an IOVA for each */
static struct sg_table *pieces_sgt(struct kunit *test, u64 size, u32 piece)
{
	struct sg_table *sgt = sgt_alloc(test, DIV_ROUND_UP_ULL(size, piece));
	dma_addr_t top = IOVA_TOP;
	struct scatterlist *sg;
	unsigned int i;

	for_each_sgtable_dma_sg(sgt, sg, i) {
		sg_dma_len(sg) = min_t(u64, piece, size);
		sg_dma_address(sg) = next_iova(&top, sg_dma_len(sg));
		size -= sg_dma_len(sg);
	}
	return sgt;
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
	KUNIT_EXPECT_EQ(test, map->nr, 1);
	KUNIT_EXPECT_EQ(test, dma_iobuf_map_addr(map, 0, size, &len), 0x100000);
	KUNIT_EXPECT_EQ(test, len, size);
	check_cost(test, map, sgt, size);
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

	KUNIT_EXPECT_EQ(test, map->nr, 1);
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
	KUNIT_EXPECT_EQ(test, map->granule, SZ_64K);
	KUNIT_EXPECT_EQ(test, map->nr, 5);
	/* neighbours are merged, strangers are not */
	dma_iobuf_map_addr(map, SZ_64K, SZ_256K - SZ_64K, &len);
	KUNIT_EXPECT_EQ(test, len, SZ_128K);
	/* nothing is read behind the last entry */
	dma_iobuf_map_addr(map, SZ_256K, SZ_4K, &len);
	KUNIT_EXPECT_EQ(test, len, SZ_4K);
	check_all(test, map, sgt, size, size);
}

static long refusal(struct kunit *test, const struct run *run, u64 size)
{
	return PTR_ERR_OR_ZERO(dma_iobuf_table_alloc(runs_to_sgt(test, run, 1),
						     size));
}

static void table_refused(struct kunit *test)
{
	static const struct run unaligned[] = { { 0x1000200, SZ_4K } };
	static const struct run odd[] = { { 0x1000000, SZ_4K + 512 } };
	static const struct run fine[] = { { 0x1000000, SZ_4K } };
	struct sg_table *sgt = runs_to_sgt(test, fine, 1);

	KUNIT_EXPECT_EQ(test, -EINVAL, refusal(test, unaligned, SZ_4K));
	KUNIT_EXPECT_EQ(test, -EINVAL, refusal(test, odd, SZ_4K));
	KUNIT_EXPECT_EQ(test, -EINVAL, refusal(test, fine, SZ_8K));
	KUNIT_EXPECT_EQ(test, -EINVAL, refusal(test, fine, 0));
	KUNIT_EXPECT_EQ(test, 12, build(test, sgt, SZ_4K)->shift);
	/* longer than the dma-buf: the rest is not ours */
	KUNIT_EXPECT_EQ(test, 11, build(test, sgt, SZ_2K)->shift);
}

/* They are nowhere, whatever address they have */
static void empty_entries(struct kunit *test)
{
	static const struct run full[] = {
		{ SZ_4G, SZ_4K }, { SZ_1G, SZ_4M - SZ_4K }, { SZ_2G, SZ_4M },
	};
	static const struct run some_empty[] = {
		{ 0x1234, 0 }, { 0, 0 }, { SZ_4G, SZ_4K }, { SZ_4G, 0 },
		{ SZ_1G, SZ_4M - SZ_4K }, { SZ_2G, SZ_4M }, { SZ_4K, 0 },
	};
	struct sg_table *sgt = runs_to_sgt(test, full, ARRAY_SIZE(full));
	struct sg_table *empty = runs_to_sgt(test, some_empty,
					     ARRAY_SIZE(some_empty));
	struct dma_iobuf_map *map = build(test, empty, SZ_8M);

	KUNIT_EXPECT_EQ(test, map->granule, 0);
	KUNIT_EXPECT_EQ(test, map->nr, ARRAY_SIZE(full));
	check_cost(test, map, sgt, SZ_8M);
	check_all(test, map, sgt, SZ_8M, SZ_4K);
	/* likewise with granules */
	map = build(test, empty, SZ_8K);
	check_all(test, map, sgt, SZ_8K, SZ_4K);
	KUNIT_EXPECT_EQ(test, -EINVAL, refusal(test, some_empty, SZ_4K));
}

static void table_random(struct kunit *test)
{
	unsigned int round, by_run = 0;
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 7);
	for (round = 0; round < 200; round++) {
		struct run runs[24];
		unsigned int nr = 1 + prandom_u32_state(&rnd) % ARRAY_SIZE(runs);
		unsigned int unit = SZ_4K << prandom_u32_state(&rnd) % 6;
		dma_addr_t next = SZ_4G;
		struct dma_iobuf_map *map;
		struct sg_table *sgt;
		u64 size = 0;
		unsigned int i;

		for (i = 0; i < nr; i++) {
			runs[i].len = unit * (1 + prandom_u32_state(&rnd) % 100);
			/* every other one follows its predecessor */
			if (prandom_u32_state(&rnd) & 1)
				next += SZ_1G;
			runs[i].addr = next;
			next += runs[i].len;
			size += runs[i].len;
		}
		sgt = runs_to_sgt(test, runs, nr);
		map = build(test, sgt, size);
		KUNIT_ASSERT_GE(test, 1ULL << map->shift, unit);
		KUNIT_ASSERT_LE(test, dma_iobuf_table_bytes(map) - sizeof(*map),
				max_bytes(sgt_runs(sgt)));
		by_run += !!map->end;
		check_all(test, map, sgt, size, size);
		check_some(test, map, sgt, size, &rnd, 50);
	}
	/* both kinds of tables were met */
	KUNIT_EXPECT_GT(test, by_run, 20);
	KUNIT_EXPECT_LT(test, by_run, 180);
}

/* What exporters make for a device that says nothing about its segments */
static void pieces_of_4g_less_a_page(struct kunit *test)
{
	u64 size = 80ULL * SZ_1G;
	struct sg_table *sgt = pieces_sgt(test, size, SZ_4G - SZ_4K);
	struct dma_iobuf_map *map = build(test, sgt, size);
	struct rnd_state rnd;
	u64 border;

	prandom_seed_state(&rnd, 80);
	KUNIT_EXPECT_EQ(test, sgt->nents, 21);
	KUNIT_EXPECT_EQ(test, map->shift, 12);
	check_cost(test, map, sgt, size);
	/* windows as they are: 80, of which 20 are cut in two */
	check_all(test, map, sgt, size, size);
	check_all(test, map, sgt, size, SZ_2M);
	check_some(test, map, sgt, size, &rnd, 2000);
	/* single bytes, and what lies across the end of a piece */
	for (border = SZ_4G - SZ_4K; border < size; border += SZ_4G - SZ_4K) {
		struct walker w = { .sgt = sgt };

		check_range(test, map, &w, border - 1, 1);
		check_range(test, map, &w, border, 1);
		check_range(test, map, &w, border - SZ_4K, SZ_8K);
		check_range(test, map, &w, border - 512,
			    min_t(u64, SZ_1M, size - (border - 512)));
	}
	check_range(test, map, &(struct walker){ .sgt = sgt }, size - 1, 1);
}

/* and for one that does, see dma_set_max_seg_size() */
static void pieces_of_2g(struct kunit *test)
{
	u64 size = 80ULL * SZ_1G;
	struct sg_table *sgt = pieces_sgt(test, size, SZ_2G);
	struct dma_iobuf_map *map = build(test, sgt, size);

	KUNIT_EXPECT_EQ(test, map->granule, SZ_2G);
	KUNIT_EXPECT_EQ(test, map->nr, 40);
	check_cost(test, map, sgt, size);
	check_all(test, map, sgt, size, size);
}

static void pieces_of_64k(struct kunit *test)
{
	u64 size = SZ_1G;
	struct sg_table *sgt = pieces_sgt(test, size, SZ_64K);
	struct dma_iobuf_map *map = build(test, sgt, size);
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 64);
	KUNIT_EXPECT_EQ(test, map->granule, SZ_64K);
	KUNIT_EXPECT_EQ(test, map->nr, SZ_1G / SZ_64K);
	check_cost(test, map, sgt, size);
	check_all(test, map, sgt, size, SZ_4K);
	check_all(test, map, sgt, size, SZ_1M + SZ_4K);
	check_some(test, map, sgt, size, &rnd, 200);
}

/* 64 KiB less a page: the granule would be a page, sixteen for a piece */
static void pieces_of_64k_less_a_page(struct kunit *test)
{
	u64 size = SZ_512M + SZ_4K;
	struct sg_table *sgt = pieces_sgt(test, size, SZ_64K - SZ_4K);
	struct dma_iobuf_map *map = build(test, sgt, size);
	struct rnd_state rnd;

	prandom_seed_state(&rnd, 60);
	KUNIT_EXPECT_EQ(test, map->granule, 0);
	KUNIT_EXPECT_EQ(test, map->shift, 12);
	check_cost(test, map, sgt, size);
	check_all(test, map, sgt, size, SZ_4K);
	check_some(test, map, sgt, size, &rnd, 200);
}

/* 4 KiB to 2 MiB; one of four follows its predecessor, like a block split in two */
static void pieces_of_mixed_orders(struct kunit *test)
{
	struct sg_table *sgt = sgt_alloc(test, 4000);
	dma_addr_t top = IOVA_TOP, end = 0;
	struct dma_iobuf_map *map;
	struct scatterlist *sg;
	struct rnd_state rnd;
	unsigned int i;
	u64 size;

	prandom_seed_state(&rnd, 4096);
	for_each_sgtable_dma_sg(sgt, sg, i) {
		sg_dma_len(sg) = SZ_4K << prandom_u32_state(&rnd) % 10;
		if (!i || prandom_u32_state(&rnd) % 4)
			/* with room behind it for one that follows */
			sg_dma_address(sg) = next_iova(&top, SZ_32M);
		else
			sg_dma_address(sg) = end;
		end = sg_dma_address(sg) + sg_dma_len(sg);
	}
	/* the dma-buf ends within the last piece */
	sg_dma_len(sg_last(sgt->sgl, sgt->nents)) = SZ_2M;
	size = sgt_size(sgt) - SZ_1M - SZ_4K;
	map = build(test, sgt, size);

	KUNIT_EXPECT_LT(test, sgt_runs(sgt), 3500);
	KUNIT_EXPECT_EQ(test, map->granule, 0);
	check_cost(test, map, sgt, size);
	check_all(test, map, sgt, size, SZ_4K);
	check_all(test, map, sgt, size, SZ_8M + SZ_4K);
	check_some(test, map, sgt, size, &rnd, 500);
}

/* Where a table of runs begins: at more than a page, and three granules for a run */
static void pieces_on_the_border(struct kunit *test)
{
	u32 fit = (PAGE_SIZE - sizeof(struct dma_iobuf_map)) / sizeof(dma_addr_t);
	struct run runs[] = { { SZ_1M, SZ_4K }, { SZ_4M, (fit - 1) * SZ_4K } };
	u64 size = (u64)fit * SZ_4K;
	struct sg_table *sgt = runs_to_sgt(test, runs, 2);
	struct dma_iobuf_map *map = build(test, sgt, size);

	KUNIT_EXPECT_EQ(test, map->granule, SZ_4K);
	KUNIT_EXPECT_EQ(test, map->nr, fit);
	check_cost(test, map, sgt, size);
	check_all(test, map, sgt, size, 512);

	size += SZ_4K;
	runs[1].len += SZ_4K;
	sgt = runs_to_sgt(test, runs, 2);
	map = build(test, sgt, size);
	KUNIT_EXPECT_EQ(test, map->granule, 0);
	KUNIT_EXPECT_EQ(test, map->nr, 2);
	check_cost(test, map, sgt, size);
	check_all(test, map, sgt, size, 512);
	/* the last page is not all of the dma-buf's */
	map = build(test, sgt, size - SZ_2K);
	KUNIT_EXPECT_EQ(test, map->granule, 0);
	check_all(test, map, sgt, size - SZ_2K, 512);

	/* two granules for each run, then one more */
	sgt = pieces_sgt(test, SZ_16M, SZ_8K);
	sg_dma_len(sgt->sgl) = SZ_4K;
	size = SZ_16M - SZ_4K;
	map = build(test, sgt, size);
	KUNIT_EXPECT_EQ(test, map->granule, SZ_4K);
	KUNIT_EXPECT_EQ(test, map->nr, 2 * sgt->nents - 1);
	sg_dma_len(sgt->sgl) = 3 * SZ_4K;
	size += SZ_8K;
	map = build(test, sgt, size);
	KUNIT_EXPECT_EQ(test, map->granule, 0);
	KUNIT_EXPECT_EQ(test, map->nr, sgt->nents);
	check_cost(test, map, sgt, size);
	check_all(test, map, sgt, size, SZ_4K);
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

/* What is said of the whole mapping holds for each piece of it, in any order */
static void kinds_of_pieces(struct kunit *test)
{
	const enum dma_iobuf_kind ram = DMA_IOBUF_KIND_SYSTEM;
	const enum dma_iobuf_kind bus = DMA_IOBUF_KIND_P2P_BUS;
	const enum dma_iobuf_kind host = DMA_IOBUF_KIND_P2P_HOST;
	const enum dma_iobuf_kind mixed = DMA_IOBUF_KIND_MIXED;
	const struct {
		enum dma_iobuf_kind piece[3], all;
	} cases[] = {
		{ { ram, ram, ram }, ram },
		{ { bus, bus, bus }, bus },
		{ { host, host, host }, host },
		/* a part of it takes the long way */
		{ { bus, bus, host }, host },
		/* REQUIRE_P2P is not met by a part */
		{ { ram, ram, bus }, mixed },
		{ { ram, bus, bus }, mixed },
		{ { ram, ram, host }, mixed },
		{ { ram, host, host }, mixed },
		{ { ram, bus, host }, mixed },
	};
	unsigned int i, j, first;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		/* each rotation, forwards and backwards */
		for (first = 0; first < 6; first++) {
			enum dma_iobuf_kind kind = DMA_IOBUF_KIND_NONE;
			unsigned int step = first < 3 ? 1 : 2;

			for (j = 0; j < 3; j++)
				kind = dma_iobuf_kind_add(kind,
					cases[i].piece[(first + j * step) % 3]);
			KUNIT_EXPECT_EQ_MSG(test, kind, cases[i].all,
					    "case %u, order %u", i, first);
		}
	}
}

static struct kunit_case dma_iobuf_cases[] = {
	KUNIT_CASE(granule_contiguous),
	KUNIT_CASE(granule_chopped_at_4g),
	KUNIT_CASE(granule_sizes),
	KUNIT_CASE(table_refused),
	KUNIT_CASE(empty_entries),
	KUNIT_CASE(table_random),
	KUNIT_CASE(pieces_of_4g_less_a_page),
	KUNIT_CASE(pieces_of_2g),
	KUNIT_CASE(pieces_of_64k),
	KUNIT_CASE(pieces_of_64k_less_a_page),
	KUNIT_CASE(pieces_of_mixed_orders),
	KUNIT_CASE(pieces_on_the_border),
	KUNIT_CASE(window_roundtrip),
	KUNIT_CASE(kinds_of_pieces),
	{}
};

static struct kunit_suite dma_iobuf_suite = {
	.name		= "dma_iobuf",
	.test_cases	= dma_iobuf_cases,
};

kunit_test_suite(dma_iobuf_suite);
