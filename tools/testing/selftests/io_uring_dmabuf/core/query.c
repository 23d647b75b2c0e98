// SPDX-License-Identifier: GPL-2.0
/* What a slot says of itself: IO_URING_QUERY_REGBUF and its like */
#include <linux/dma-buf-bar.h>

#include "common.h"

#define SIZE		(1 * MiB)

FIXTURE(query) {
	struct rig rig;
};

FIXTURE_SETUP(query)
{
	RIG_UP(&self->rig, "LAB_NVME_MAIN", MEM_UDMABUF, SIZE, 0);
}

FIXTURE_TEARDOWN(query)
{
	rig_down(&self->rig);
}

TEST_F(query, limits)
{
	struct io_uring_query_regbuf q;

	ASSERT_EQ(0, query_regbuf(&q));
	EXPECT_EQ(7, q.type_mask & 7);
	EXPECT_EQ(IO_REGBUF_DMABUF_FLAGS, q.dmabuf_flags & IO_REGBUF_DMABUF_FLAGS);
	EXPECT_EQ(IORING_RSRC_UPDATE_EXTENDED,
		  q.update_flags & IORING_RSRC_UPDATE_EXTENDED);
	EXPECT_GT(q.max_size, 4 * GiB);
	EXPECT_EQ(sizeof(struct io_uring_regbuf_desc), q.desc_size);
	EXPECT_GE(q.max_targets, 16);
	EXPECT_GE(q.version, 1);
	EXPECT_EQ(IO_REGBUF_FEATURE_SINGLE_CQE | IO_REGBUF_FEATURE_PROVIDED, q.features);
	EXPECT_EQ(0, q.__resv2[0] | q.__resv2[1]);
}

TEST_F(query, map_of_a_slot)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, rig->disk);
	struct io_uring_query_regbuf_map q;

	d.dmabuf_off = 64 * KiB;
	d.size = 128 * KiB;
	d.flags = IO_REGBUF_DMABUF_RDONLY;
	ASSERT_EQ(0, reg_one(&rig->ring, 4, &d));
	ASSERT_EQ(0, disk_poison(rig->disk, 0, 8192, POISON));
	for (int i = 0; i < 10; i++) {
		ASSERT_EQ(4096, uring_write(&rig->ring, rig->disk, 0, 0, 4096, 4));
	}

	ASSERT_EQ(0, query_map(&rig->ring, 4, 0, &q));
	EXPECT_EQ(1, q.nr_targets);
	EXPECT_EQ(IO_REGBUF_TYPE_DMABUF, q.type);
	EXPECT_EQ(IO_REGBUF_DMABUF_RDONLY, q.flags);
	EXPECT_EQ(IO_REGBUF_MAP_SYSTEM, q.state);
	EXPECT_EQ(64 * KiB, q.dmabuf_off);
	EXPECT_EQ(128 * KiB, q.size);
	EXPECT_GE(q.granule, 4096);
	EXPECT_EQ(0, q.granule & (q.granule - 1));
	EXPECT_GE(q.entries, 1);
	EXPECT_GE(q.table_bytes, q.entries * 8);
	EXPECT_LE(q.table_bytes, q.entries * 16 + 256);
	EXPECT_GE(q.hits, 10);
	EXPECT_EQ(1, q.maps);
	EXPECT_EQ(0, q.invalidations);
	EXPECT_STREQ(NEED_ENV("LAB_PCI_MAIN"), q.device);
}

TEST_F(query, map_of_nothing)
{
	struct rig *rig = &self->rig;
	struct io_uring_query_regbuf_map q;

	ASSERT_EQ(0, query_map(&rig->ring, 0, 0, &q));
	EXPECT_EQ(IO_REGBUF_TYPE_EMPTY, q.type);
	EXPECT_EQ(0, q.nr_targets);
	EXPECT_EQ(-EINVAL, query_map(&rig->ring, RIG_SLOTS, 0, &q));
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	EXPECT_EQ(-EINVAL, query_map(&rig->ring, 0, 1, &q));
	EXPECT_EQ(-EINVAL, query_map(&rig->ring, 0, ~0U, &q));
}

/* A program of an earlier kernel, or of a later one */
TEST_F(query, of_other_sizes)
{
	struct rig *rig = &self->rig;
	const __u32 first = offsetof(struct io_uring_query_regbuf_map, exporter);
	struct {
		struct io_uring_query_regbuf_map map;
		char more[256];
	} larger;
	struct io_uring_query_regbuf_map q, whole;
	struct io_uring_query_regbuf limits;
	__u32 len;

	ASSERT_EQ(136, first);
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 1, rig->mem.fd, rig->disk));
	ASSERT_EQ(0, query_map(&rig->ring, 1, 0, &whole));
	for (len = 8; len <= sizeof(q); len += 8) {
		__u32 want = len, got = len;

		memset(&q, 0, sizeof(q));
		q.slot = 1;
		/* what is beyond is neither read nor written */
		memset((char *)&q + len, POISON, sizeof(q) - len);
		ASSERT_EQ(0, query(rig->ring.fd, IO_URING_QUERY_REGBUF_MAP, &q, &got));
		EXPECT_EQ(want, got);
		EXPECT_EQ(0, memcmp(&q, &whole, len));
		EXPECT_EQ(NO_MISMATCH, poison_check((char *)&q + len,
						    sizeof(q) - len, POISON));
	}
	for (len = 0; len < 8; len++) {
		__u32 got = len;

		memset(&q, 0, sizeof(q));
		EXPECT_EQ(-EINVAL, query(rig->ring.fd, IO_URING_QUERY_REGBUF_MAP,
					 &q, &got));
	}
	memset(&larger, 0, sizeof(larger));
	larger.map.slot = 1;
	len = sizeof(larger);
	ASSERT_EQ(0, query(rig->ring.fd, IO_URING_QUERY_REGBUF_MAP, &larger, &len));
	EXPECT_EQ(sizeof(q), len);
	EXPECT_EQ(0, memcmp(&larger.map, &whole, sizeof(whole)));

	memset(&limits, 0, sizeof(limits));
	len = 8;
	ASSERT_EQ(0, query(-1, IO_URING_QUERY_REGBUF, &limits, &len));
	EXPECT_EQ(8, len);
	EXPECT_EQ(7, limits.type_mask & 7);
	EXPECT_EQ(0, limits.dmabuf_flags);
}

/* What mainline counts is not ours, and the other way round */
TEST_F(query, numbers)
{
	struct io_uring_query_opcode ops = { };
	struct io_uring_query_regbuf q = { };
	__u32 len = sizeof(ops);

	ASSERT_EQ(0x8000, IO_URING_QUERY_REGBUF);
	ASSERT_EQ(0x8001, IO_URING_QUERY_REGBUF_MAP);
	ASSERT_EQ(0, query(-1, IO_URING_QUERY_OPCODES, &ops, &len));
	EXPECT_EQ(__IO_URING_QUERY_MAX, ops.nr_query_opcodes);
	for (__u32 op = __IO_URING_QUERY_MAX; op < 0x9000; op++) {
		if (op == IO_URING_QUERY_REGBUF || op == IO_URING_QUERY_REGBUF_MAP)
			continue;
		len = sizeof(q);
		ASSERT_EQ(-EOPNOTSUPP, query(-1, op, &q, &len));
	}
	len = sizeof(q);
	EXPECT_EQ(-EINVAL, query(-1, IO_URING_QUERY_REGBUF_MAP, &q, &len));
}

/* PIN is what the exporter did, not what was asked for */
TEST_F(query, says_whether_it_is_pinned)
{
	static const struct {
		enum mem_kind kind;
		__u32 bar, ask, is;
	} cases[] = {
		{ MEM_BAR, 0, IO_REGBUF_DMABUF_PIN, IO_REGBUF_DMABUF_PIN },
		{ MEM_BAR, 0, 0, 0 },
		{ MEM_BAR, DMA_BUF_BAR_NO_PIN, IO_REGBUF_DMABUF_PIN, 0 },
		{ MEM_UDMABUF, 0, IO_REGBUF_DMABUF_PIN, 0 },
	};
	struct rig *rig = &self->rig;
	struct io_uring_query_regbuf_map q;
	struct io_uring_regbuf_desc d;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct mem m;

		int ret = mem_create(&m, cases[i].kind, SIZE);

		if (!ret && cases[i].bar) {
			mem_destroy(&m);
			ret = mem_create_bar(&m, SIZE, cases[i].bar, 0);
		}
		if (ret)
			SKIP(return, "no /dev/dmabuf_bar");
		d = desc_dmabuf(m.fd, rig->disk);
		d.flags = cases[i].ask;
		ASSERT_EQ(0, reg_one(&rig->ring, 2, &d));
		ASSERT_EQ(0, query_map(&rig->ring, 2, 0, &q));
		EXPECT_EQ(cases[i].is, q.flags);
		EXPECT_EQ(1, q.peer2peer);
		EXPECT_STREQ(mem_is_bar(&m) ? "dma_buf_bar" : "udmabuf", q.exporter);
		EXPECT_TRUE(fdinfo_has(rig->ring.fd, q.exporter));
		ASSERT_EQ(0, reg_clear(&rig->ring, 2));
		mem_destroy(&m);
	}
}

TEST_HARNESS_MAIN
