// SPDX-License-Identifier: GPL-2.0
/*
 * Buffers over 1 GiB and over 4 GiB.
 *
 * The dma-buf is a list of pieces. Nearly all of them repeat one memfd, so that
 * it needs less memory than it has bytes; around the offsets of interest it has
 * memory of its own, which the CPU sees through another memfd.
 */
#include <sys/mman.h>
#include <linux/udmabuf.h>

#include "common.h"

#define PIECE	(2 * MiB)
#define VIEW	(2 * PIECE)	/* own memory around an offset */

struct big {
	struct uring ring;
	int disk;
	int fill, own;		/* memfds */
	__u64 fill_size;	/* what the other pieces repeat */
	char *fill_map, *own_map;
	int fd;			/* the dma-buf */
	__u64 size;
};

/* The offsets around which memory is told apart */
static const __u64 borders[] = { 1 * GiB, 2 * GiB, 4 * GiB };

#define NR_BORDERS 3

static int big_create(struct big *b, __u64 size)
{
	__u32 nr = size / PIECE;
	struct udmabuf_create_item *items = calloc(nr, sizeof(*items));

	b->size = size;
	/*
	 * Without an IOMMU, DMA-API debug takes the same memory mapped more than
	 * eight times for a leak.
	 */
	b->fill_size = lab_is("LAB_IOMMU", "off") ? 1 * GiB : PIECE;
	b->fill = memfd_sealed(b->fill_size, &b->fill_map);
	b->own = memfd_sealed(NR_BORDERS * VIEW, &b->own_map);
	if (b->fill < 0 || b->own < 0)
		return -ENOMEM;
	for (__u32 i = 0; i < nr; i++)
		items[i] = (struct udmabuf_create_item) {
			.memfd = b->fill, .size = PIECE,
			.offset = (__u64)i * PIECE % b->fill_size,
		};
	for (int i = 0; i < NR_BORDERS; i++) {
		__u32 at = borders[i] / PIECE;

		if (borders[i] + PIECE > size)
			continue;
		for (int half = 0; half < 2; half++) {
			items[at - 1 + half].memfd = b->own;
			items[at - 1 + half].offset = i * VIEW + half * PIECE;
		}
	}
	b->fd = udmabuf_pieces(items, nr);
	free(items);
	return b->fd < 0 ? b->fd : 0;
}

static void big_destroy(struct big *b)
{
	uring_exit(&b->ring);
	munmap(b->fill_map, b->fill_size);
	munmap(b->own_map, NR_BORDERS * VIEW);
	close(b->fill);
	close(b->own);
	close(b->fd);
	close(b->disk);
}

#define BIG_UP(b, size) do {						\
	memset(b, 0, sizeof(*(b)));					\
	if (!kernel_has_regbuf())					\
		SKIP(return, "this kernel has no dma-buf buffers");	\
	(b)->disk = NEED_DISK("LAB_NVME_MAIN");				\
	ASSERT_EQ(0, big_create(b, size));				\
	ASSERT_EQ(0, uring_init(&(b)->ring, 64, 0));			\
	ASSERT_EQ(0, reg_sparse(&(b)->ring, 1));			\
} while (0)

/* A rig whose memory is the view of border @i */
static struct rig rig_at(struct big *b, int i)
{
	struct rig rig = { .ring = b->ring, .disk = b->disk, .seed = i * 100 };

	mem_wrap(&rig.mem, -1, VIEW, b->own_map + i * VIEW);
	rig.base = -(borders[i] - PIECE);
	return rig;
}

/* The ring's indices must come back */
#define AT_BORDER(b, i, call) ({					\
	struct rig rig_ = rig_at(b, i);					\
	int ret_ = call;						\
									\
	(b)->ring = rig_.ring;						\
	ret_;								\
})

TEST(five_gib)
{
	struct io_uring_query_regbuf_map q;
	struct big b;
	double start;

	BIG_UP(&b, 5 * GiB);
	start = lab_now();
	ASSERT_EQ(0, reg_dmabuf(&b.ring, 0, b.fd, b.disk));
	start = lab_now() - start;
	ASSERT_EQ(0, query_map(&b.ring, 0, 0, &q));
	EXPECT_EQ(5 * GiB, q.size);
	ksft_print_msg("5 GiB in %.2f s: granule %llu KiB, %llu entries, %llu bytes\n",
		       start, q.granule / 1024, q.entries, q.table_bytes);
	for (int i = 0; i < NR_BORDERS; i++) {
		__u64 at = borders[i];

		ASSERT_EQ(0, AT_BORDER(&b, i, rig_read(&rig_, b.disk, 0, 0,
						       at - MiB, 2 * MiB)));
		ASSERT_EQ(0, AT_BORDER(&b, i, rig_write(&rig_, b.disk, 0, 4096,
							at - MiB, 2 * MiB)));
		ASSERT_EQ(0, AT_BORDER(&b, i, rig_read(&rig_, b.disk, 0, 512,
						       at - 512, 1024)));
		ASSERT_EQ(0, AT_BORDER(&b, i, rig_write(&rig_, b.disk, 0, 8192,
							at - 4, 512)));
		ASSERT_EQ(0, AT_BORDER(&b, i, rig_read(&rig_, b.disk, 0, 0, at,
						       4096)));
	}
	EXPECT_EQ(-EFAULT, uring_read(&b.ring, b.disk, 0, 5 * GiB, 512, 0));
	EXPECT_EQ(-EFAULT, uring_read(&b.ring, b.disk, 0, 5 * GiB - 512, 1024, 0));
	EXPECT_EQ(512, uring_write(&b.ring, b.disk, 0, 5 * GiB - 512, 512, 0));
	big_destroy(&b);
}

/* A sub-range that starts and ends behind 4 GiB */
TEST(sub_range_behind_four_gib)
{
	struct io_uring_regbuf_desc d;
	struct rig rig;
	struct big b;

	BIG_UP(&b, 5 * GiB);
	d = desc_dmabuf(b.fd, b.disk);
	d.dmabuf_off = 4 * GiB - 64 * KiB;
	d.size = 1 * MiB;
	ASSERT_EQ(0, reg_one(&b.ring, 0, &d));
	rig = rig_at(&b, 2);
	rig.base += d.dmabuf_off;
	ASSERT_EQ(0, rig_works(&rig, b.disk, 0));
	EXPECT_EQ(-EFAULT, uring_read(&rig.ring, b.disk, 0, MiB, 512, 0));
	b.ring = rig.ring;
	big_destroy(&b);
}

static int fill_iov(struct iovec *iov, __u64 at, __u64 step)
{
	for (int i = 0; i < 4; i++) {
		iov[i].iov_base = (void *)(at + i * step);
		iov[i].iov_len = 64 * KiB;
	}
	return 4;
}

/* One request whose pieces lie gigabytes apart */
TEST(vector_over_gigabytes)
{
	struct iovec iov[4];
	struct big b;

	BIG_UP(&b, 5 * GiB);
	ASSERT_EQ(0, reg_dmabuf(&b.ring, 0, b.fd, b.disk));
	ASSERT_EQ(4, fill_iov(iov, 1 * GiB, 1 * GiB));	/* 1, 2, 3, 4 GiB */
	ASSERT_EQ(0, disk_fill(b.disk, 0, 256 * KiB, 71));
	memset(b.own_map, POISON, NR_BORDERS * VIEW);
	ASSERT_EQ(256 * KiB, uring_rw(&b.ring, IORING_OP_READV_FIXED, b.disk, 0,
				      (uintptr_t)iov, 4, 0));
	EXPECT_EQ(NO_MISMATCH, pattern_check(b.own_map + PIECE, 0, 64 * KiB, 71));
	EXPECT_EQ(NO_MISMATCH, pattern_check(b.own_map + VIEW + PIECE, 64 * KiB,
					     64 * KiB, 71));
	EXPECT_EQ(NO_MISMATCH, pattern_check(b.own_map + 2 * VIEW + PIECE,
					     192 * KiB, 64 * KiB, 71));
	EXPECT_EQ(NO_MISMATCH, poison_check(b.own_map, PIECE, POISON));
	big_destroy(&b);
}

TEST(one_gib_table)
{
	struct io_uring_query_regbuf_map q;
	struct big b;
	double start;

	BIG_UP(&b, 1 * GiB);
	start = lab_now();
	ASSERT_EQ(0, reg_dmabuf(&b.ring, 0, b.fd, b.disk));
	start = lab_now() - start;
	ASSERT_EQ(0, query_map(&b.ring, 0, 0, &q));
	ksft_print_msg("1 GiB in %.2f s, IOMMU %s: granule %llu KiB, %llu entries, %llu bytes\n",
		       start, lab_env("LAB_IOMMU"), q.granule / 1024, q.entries,
		       q.table_bytes);
	/* less than 1 GiB if the entries are ranges and not granules */
	EXPECT_LE(q.entries * q.granule, 2 * GiB);
	EXPECT_GE(q.entries, 1);
	EXPECT_LE(q.table_bytes, q.entries * 16 + 256);
	if (lab_env("LAB_IOMMU") && !lab_is("LAB_IOMMU", "off")) {
		EXPECT_LE(q.entries, 16);
		EXPECT_LE(q.table_bytes, 4096);
	}
	big_destroy(&b);
}

TEST_HARNESS_MAIN
