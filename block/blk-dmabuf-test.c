// SPDX-License-Identifier: GPL-2.0
/* KUnit tests of what stands between submitters and drivers of REQ_DMABUF */
#include <kunit/test.h>
#include <linux/blk-integrity.h>
#include <linux/blk-mq-dma.h>
#include <linux/dma-iobuf.h>
#include <linux/sizes.h>

#include "blk.h"

#define MAX_SEGS	256

static struct dma_iobuf *make_buf(struct kunit *test,
				  enum dma_data_direction dir)
{
	struct dma_iobuf *buf;

	buf = kunit_kzalloc(test, struct_size(buf, win, 1), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, buf);
	buf->nr_win = 1;
	buf->win[0].buf = buf;
	buf->dir = dir;
	return buf;
}

/* Status codes of dma-bufs have an errno; the errnos of others stay I/O errors */
static void blk_dmabuf_errnos(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, -EBADF, blk_status_to_errno(BLK_STS_NOTARGET));
	KUNIT_EXPECT_EQ(test, -EFAULT, blk_status_to_errno(BLK_STS_DIRECTION));
	KUNIT_EXPECT_TRUE(test, errno_to_blk_status(-EBADF) == BLK_STS_IOERR);
	KUNIT_EXPECT_TRUE(test, errno_to_blk_status(-EFAULT) == BLK_STS_IOERR);
	KUNIT_EXPECT_TRUE(test, errno_to_blk_status(-EIO) == BLK_STS_IOERR);
	KUNIT_EXPECT_TRUE(test, errno_to_blk_status(-EINVAL) == BLK_STS_INVAL);
	KUNIT_EXPECT_TRUE(test, errno_to_blk_status(0) == BLK_STS_OK);
	KUNIT_EXPECT_FALSE(test, blk_path_error(BLK_STS_NOTARGET));
	KUNIT_EXPECT_FALSE(test, blk_path_error(BLK_STS_DIRECTION));
}

/* A request in a direction that the buffer does not allow gets no mapping */
static void blk_dmabuf_direction(struct kunit *test)
{
	static const struct {
		enum dma_data_direction dir;
		enum req_op op;
		int err;	/* -EBADF: it got as far as looking for the device */
	} cases[] = {
		{ DMA_BIDIRECTIONAL, REQ_OP_READ, -EBADF },
		{ DMA_BIDIRECTIONAL, REQ_OP_WRITE, -EBADF },
		{ DMA_TO_DEVICE, REQ_OP_WRITE, -EBADF },
		{ DMA_TO_DEVICE, REQ_OP_DRV_OUT, -EBADF },
		{ DMA_TO_DEVICE, REQ_OP_READ, -EFAULT },
		{ DMA_TO_DEVICE, REQ_OP_DRV_IN, -EFAULT },
		{ DMA_FROM_DEVICE, REQ_OP_READ, -EBADF },
		{ DMA_FROM_DEVICE, REQ_OP_DRV_IN, -EBADF },
		{ DMA_FROM_DEVICE, REQ_OP_WRITE, -EFAULT },
		{ DMA_FROM_DEVICE, REQ_OP_DRV_OUT, -EFAULT },
	};
	struct request *req = kunit_kzalloc(test, sizeof(*req), GFP_KERNEL);
	struct bio *bio = kunit_kzalloc(test, sizeof(*bio), GFP_KERNEL);
	struct bio_vec bv;
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, req);
	KUNIT_ASSERT_NOT_NULL(test, bio);
	bio->bi_io_vec = &bv;
	bio->bi_iter.bi_size = SZ_4K;
	req->bio = bio;
	req->biotail = bio;
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct dma_iobuf *buf = make_buf(test, cases[i].dir);
		struct dma_iova_state state;
		struct blk_dma_iter iter;

		bvec_set_dma_win(&bv, &buf->win[0], SZ_4K, 0);
		req->cmd_flags = cases[i].op | REQ_DMABUF;
		KUNIT_ASSERT_FALSE(test, blk_rq_dma_map_iter_start(req, NULL,
								   &state,
								   &iter));
		KUNIT_EXPECT_EQ_MSG(test, cases[i].err,
				    blk_status_to_errno(iter.status),
				    "case %u", i);
	}
}

static void map_unused(struct percpu_ref *ref)
{
}

/*
 * One attachment with a mapping in granules of 4 KiB, the last first.
 * put_mapping() says whether somebody still holds it.
 */
static struct dma_iobuf_map *make_mapping(struct kunit *test,
					  struct dma_iobuf *buf,
					  struct device *dev, unsigned int nr)
{
	struct dma_iobuf_att *att;
	struct dma_iobuf_map *map;
	unsigned int i;

	att = kunit_kzalloc(test, sizeof(*att), GFP_KERNEL);
	map = kunit_kzalloc(test, struct_size(map, addr, nr), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, att);
	KUNIT_ASSERT_NOT_NULL(test, map);
	KUNIT_ASSERT_EQ(test, 0, percpu_ref_init(&map->ref, map_unused,
						 PERCPU_REF_INIT_ATOMIC,
						 GFP_KERNEL));
	att->hits = alloc_percpu(unsigned long);
	map->nr = nr;
	map->granule = SZ_4K;
	map->shift = 12;
	for (i = 0; i < nr; i++)
		map->addr[i] = SZ_1M + (nr - 1 - i) * SZ_4K;
	rcu_assign_pointer(att->map, map);
	rcu_assign_pointer(buf->att[0], att);
	buf->dev[0] = dev;
	/* pairs with dma_iobuf_nr_att() */
	smp_store_release(&buf->nr_att, 1);
	return map;
}

static bool put_mapping(struct dma_iobuf *buf, struct dma_iobuf_map *map)
{
	struct dma_iobuf_att *att = rcu_dereference_protected(buf->att[0], true);
	bool held;

	percpu_ref_kill(&map->ref);
	held = !percpu_ref_is_zero(&map->ref);
	percpu_ref_exit(&map->ref);
	free_percpu(att->hits);
	return held;
}

/* The iterator of all drivers takes the mapping, and finds every piece */
static void blk_dmabuf_iter(struct kunit *test)
{
	static const struct {
		unsigned int off, len, segs;
	} cases[] = {
		{ 0, SZ_4K, 1 },
		{ 512, 512, 1 },
		{ SZ_4K, SZ_4K, 1 },
		{ 512, SZ_4K, 2 },
		{ 0, SZ_16K, 4 },
		{ SZ_4K - 4, 8 + SZ_4K, 3 },
	};
	struct request *req = kunit_kzalloc(test, sizeof(*req), GFP_KERNEL);
	struct bio *bio = kunit_kzalloc(test, sizeof(*bio), GFP_KERNEL);
	struct dma_iobuf *buf = make_buf(test, DMA_BIDIRECTIONAL);
	struct dma_iova_state state = { .__size = SZ_4K };
	/* only to be found in a table */
	struct device *dev = (struct device *)buf;
	struct blk_dma_iter iter;
	struct dma_iobuf_map *map;
	struct bio_vec bv;
	unsigned int i, segs, off;

	KUNIT_ASSERT_NOT_NULL(test, req);
	KUNIT_ASSERT_NOT_NULL(test, bio);
	bio->bi_io_vec = &bv;
	req->bio = bio;
	req->biotail = bio;
	req->cmd_flags = REQ_OP_READ | REQ_DMABUF;
	map = make_mapping(test, buf, dev, 4);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		bvec_set_dma_win(&bv, &buf->win[0], SZ_16K, 0);
		bio->bi_iter = (struct bvec_iter) {
			.bi_size	= cases[i].len,
			.bi_offset	= cases[i].off,
		};
		req->__data_len = cases[i].len;
		memset(&iter, 0xff, sizeof(iter));
		KUNIT_ASSERT_TRUE(test, blk_rq_dma_map_iter_start(req, dev,
								  &state,
								  &iter));
		KUNIT_ASSERT_PTR_EQ(test, map, iter.iobuf_map);
		KUNIT_EXPECT_EQ_MSG(test, cases[i].segs,
				    blk_dma_iter_iobuf_segs(&iter, 9),
				    "case %u", i);
		KUNIT_EXPECT_EQ_MSG(test, min(cases[i].segs, 2U),
				    blk_dma_iter_iobuf_segs(&iter, 2),
				    "case %u", i);
		segs = 0;
		off = cases[i].off;
		do {
			KUNIT_EXPECT_EQ_MSG(test, map->addr[off / SZ_4K] +
					    off % SZ_4K, iter.addr,
					    "case %u", i);
			KUNIT_ASSERT_NE(test, 0, iter.len);
			off += iter.len;
			segs++;
		} while (blk_rq_dma_map_iter_next(req, dev, &iter));
		KUNIT_EXPECT_TRUE_MSG(test, iter.status == BLK_STS_OK,
				      "case %u", i);
		KUNIT_EXPECT_EQ_MSG(test, cases[i].segs, segs, "case %u", i);
		KUNIT_EXPECT_EQ_MSG(test, cases[i].len, off - cases[i].off,
				    "case %u", i);
		/* what a driver keeps for a mapping of its own says that there is none */
		KUNIT_EXPECT_FALSE(test, dma_use_iova(&state));
		dma_iobuf_map_put(map);
	}
	KUNIT_EXPECT_FALSE(test, put_mapping(buf, map));
}

struct piece {
	u32 off, len;
};

/* What bio_split_dmabuf() says to a bio of @pieces; @metadata: pieces of that */
static int split_pieces(struct kunit *test, const struct piece *pieces,
			unsigned int nr, unsigned int metadata,
			unsigned int *nsegs, unsigned int *bytes,
			unsigned int *gaps)
{
	struct dma_iobuf *buf = make_buf(test, DMA_BIDIRECTIONAL);
	struct queue_limits lim = {
		.max_segments = MAX_SEGS,
		.dma_alignment = 3,
		.logical_block_size = 512,
	};
	struct bio_integrity_payload bip = { .bip_vcnt = metadata };
	struct bio *bio = kunit_kzalloc(test, sizeof(*bio), GFP_KERNEL);
	struct bio_vec *bv = kunit_kcalloc(test, nr, sizeof(*bv), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, bio);
	KUNIT_ASSERT_NOT_NULL(test, bv);
	for (i = 0; i < nr; i++) {
		bvec_set_dma_win(&bv[i], &buf->win[0], pieces[i].len,
				 pieces[i].off);
		bio->bi_iter.bi_size += pieces[i].len;
	}
	bio->bi_io_vec = bv;
	bio->bi_opf = REQ_OP_READ | REQ_DMABUF;
	if (metadata) {
		bio->bi_opf |= REQ_INTEGRITY;
		bio->bi_integrity = &bip;
	}
	*nsegs = 0;
	*bytes = 0;
	*gaps = 0;
	return bio_split_dmabuf(bio, &lim, SZ_8M, 3, nsegs, bytes, gaps);
}

static void blk_dmabuf_split(struct kunit *test)
{
	static const struct {
		struct piece p[3];
		unsigned int nr, metadata;
		int ret;
		unsigned int nsegs, bytes, gap;	/* @gap: in a page */
	} cases[] = {
		/* one range, and ranges that meet at pages: whatever the size */
		{ { { 4, SZ_8M } }, 1, 0, 0, 1, SZ_8M, 0 },
		{ { { 4, SZ_8M + 512 } }, 1, 0, 1, 1, SZ_8M, 0 },
		{ { { 512, SZ_1M - 512 }, { SZ_2M, SZ_2M + 4 } }, 2, 0, 0, 2,
		  SZ_2M + SZ_1M - 508, 0 },
		/* the gap of a piece that does not fit is not there */
		{ { { 0, SZ_1M + SZ_512K }, { SZ_4M + 512, SZ_4K } }, 2, 0, 1, 1,
		  SZ_1M + SZ_512K, 0 },
		{ { { 0, SZ_1M }, { SZ_4M + 512, SZ_4K } }, 2, 0, 1, 1, SZ_1M, 0 },
		{ { { 0, SZ_4K }, { SZ_4M, SZ_2M }, { 512, 512 } }, 3, 0, 1, 2,
		  SZ_2M + SZ_4K, 0 },
		/* what fits of it counts: 255 pages, the first one in part */
		{ { { 0, SZ_4K }, { SZ_4M + 512, SZ_4M } }, 2, 0, 1, 2,
		  SZ_4K + 255 * SZ_4K - 512, 512 },
		{ { { 0, SZ_1M - SZ_8K }, { 512, SZ_4K } }, 2, 0, 0, 2,
		  SZ_1M - SZ_4K, 512 },
		/* metadata in pieces: never more than SGL entries */
		{ { { 0, SZ_8M } }, 1, 1, 0, 1, SZ_8M, 0 },
		{ { { 0, SZ_8M } }, 1, 2, 1, 1, SZ_1M, 0 },
		{ { { 2048, SZ_8M } }, 1, 2, 1, 1, SZ_1M - 2048, 0 },
		{ { { 0, SZ_1M } }, 1, 2, 0, 1, SZ_1M, 0 },
		/* alignment */
		{ { { 2, SZ_4K } }, 1, 0, -EINVAL },
		{ { { 0, 514 } }, 1, 0, -EINVAL },
	};
	unsigned int i, nsegs, bytes, gaps;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		KUNIT_EXPECT_EQ_MSG(test, cases[i].ret,
				    split_pieces(test, cases[i].p, cases[i].nr,
					  cases[i].metadata, &nsegs, &bytes,
					  &gaps), "case %u", i);
		KUNIT_EXPECT_EQ_MSG(test, cases[i].nsegs, nsegs, "case %u", i);
		KUNIT_EXPECT_EQ_MSG(test, cases[i].bytes, bytes, "case %u", i);
		KUNIT_EXPECT_EQ_MSG(test, cases[i].gap, gaps & (SZ_4K - 1),
				    "case %u", i);
	}
}

/* The smallest pieces: a logical block of them always fits */
static void blk_dmabuf_split_small(struct kunit *test)
{
	struct piece *p = kunit_kcalloc(test, 300, sizeof(*p), GFP_KERNEL);
	unsigned int i, nsegs, bytes, gaps;

	KUNIT_ASSERT_NOT_NULL(test, p);
	for (i = 0; i < 300; i++)
		p[i] = (struct piece) { .off = i * SZ_8K + 4, .len = 4 };
	KUNIT_EXPECT_EQ(test, 1, split_pieces(test, p, 300, 0, &nsegs, &bytes, &gaps));
	KUNIT_EXPECT_EQ(test, MAX_SEGS, nsegs);
	KUNIT_EXPECT_EQ(test, MAX_SEGS * 4, bytes);
}

static struct kunit_case blk_dmabuf_cases[] = {
	KUNIT_CASE(blk_dmabuf_errnos),
	KUNIT_CASE(blk_dmabuf_direction),
	KUNIT_CASE(blk_dmabuf_iter),
	KUNIT_CASE(blk_dmabuf_split),
	KUNIT_CASE(blk_dmabuf_split_small),
	{}
};

static struct kunit_suite blk_dmabuf_suite = {
	.name = "dma_iobuf_block",
	.test_cases = blk_dmabuf_cases,
};

kunit_test_suite(blk_dmabuf_suite);
