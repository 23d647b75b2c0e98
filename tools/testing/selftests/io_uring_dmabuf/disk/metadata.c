// SPDX-License-Identifier: GPL-2.0
/*
 * Drives that are formatted with metadata. Where nobody generates or checks
 * protection information a dma-buf works as ordinary memory does; where the
 * kernel would have to, it is refused, unless the application brings it along.
 */
#include <stdlib.h>
#include <string.h>
#include <linux/dma-buf-bar.h>

#include "common.h"
#include "mover.h"

#define SIZE	(4 * MiB)
#define TUPLE	8U		/* bytes of metadata of a 512-byte block */

FIXTURE(metadata) {
	struct rig rig;
};

FIXTURE_VARIANT(metadata) {
	enum mem_kind kind;
};

FIXTURE_VARIANT_ADD(metadata, bar) { MEM_BAR };
FIXTURE_VARIANT_ADD(metadata, scattered) { MEM_UDMABUF_4K };

FIXTURE_SETUP(metadata)
{
	RIG_UP(&self->rig, "LAB_NVME_META", variant->kind, SIZE, 0);
	ASSERT_EQ(0, reg_dmabuf(&self->rig.ring, 0, self->rig.mem.fd,
				self->rig.disk));
}

FIXTURE_TEARDOWN(metadata)
{
	rig_down(&self->rig);
}

TEST_F(metadata, as_plain_memory)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	/* several commands */
	ASSERT_EQ(0, rig_read(rig, rig->disk, 0, 512, 4, 3 * MiB));
	ASSERT_EQ(0, rig_write(rig, rig->disk, 0, 4096, 512, 3 * MiB));
}

TEST_F(metadata, vectored)
{
	struct iovec iov[2] = {
		{ .iov_base = (void *)(MiB + 4), .iov_len = MiB + 508 },
		{ .iov_base = (void *)512, .iov_len = 4 + 64 * KiB },
	};
	__u64 len = iov[0].iov_len + iov[1].iov_len;
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, disk_fill(rig->disk, 0, SIZE, 5));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	ASSERT_EQ(len, uring_rw(&rig->ring, IORING_OP_READV_FIXED, rig->disk,
				8192, (uintptr_t)iov, 2, 0));
	EXPECT_EQ(NO_MISMATCH, mem_check(&rig->mem, MiB + 4, 8192,
					 iov[0].iov_len, 5));
	EXPECT_EQ(NO_MISMATCH, mem_check(&rig->mem, 512, 8192 + iov[0].iov_len,
					 iov[1].iov_len, 5));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&rig->mem, 0, 512, POISON));
}

/* --- protection information --- */

FIXTURE(pi) {
	struct rig rig;
	unsigned char *out, *in;
};

FIXTURE_SETUP(pi)
{
	RIG_UP(&self->rig, "LAB_NVME_PI", MEM_BAR_4K, 512 * KiB, 0);
	ASSERT_EQ(0, reg_dmabuf(&self->rig.ring, 0, self->rig.mem.fd,
				self->rig.disk));
	self->out = aligned_alloc(4096, 64 * KiB);
	self->in = aligned_alloc(4096, 64 * KiB);
}

FIXTURE_TEARDOWN(pi)
{
	free(self->out);
	free(self->in);
	rig_down(&self->rig);
}

static int rw_pi(struct rig *rig, __u8 op, __u64 off, __u64 addr, __u32 len,
		 void *pi)
{
	struct io_uring_attr_pi attr = {
		.addr = (uintptr_t)pi,
		.len = len / 512 * TUPLE,
		.seed = off / 512,
	};
	struct io_uring_sqe *sqe = uring_prep_rw(&rig->ring, op, rig->disk, off,
						 addr, len, 0);

	sqe->attr_type_mask = IORING_RW_ATTR_FLAG_PI;
	sqe->attr_ptr = (uintptr_t)&attr;
	return uring_do(&rig->ring);
}

TEST_F(pi, kernel_would_have_to)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, disk_fill(rig->disk, 0, 64 * KiB, 6));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, 64 * KiB, POISON));
	EXPECT_EQ(-EOPNOTSUPP, uring_read(&rig->ring, rig->disk, 0, 0, 4096, 0));
	EXPECT_EQ(-EOPNOTSUPP, uring_write(&rig->ring, rig->disk, 0, 0, 4096, 0));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&rig->mem, 0, 64 * KiB, POISON));
	EXPECT_EQ(NO_MISMATCH, disk_check(rig->disk, 0, 0, 64 * KiB, 6));
}

TEST_F(pi, brought_along)
{
	static const __u32 lens[] = { 512, 4096, 12288, 64 * KiB, 256 * KiB };
	struct rig *rig = &self->rig;
	struct mover mover = {
		.mem = &rig->mem, .nr_places = 3, .rest_ms = 1,
	};

	for (unsigned int i = 0; i < lab_scale(100, 20); i++) {
		__u32 len = lens[i % 5], tuples = len / 512 * TUPLE;
		__u64 addr = 4 * i, off = 512 * (i % 64);

		/* the first ones without moves */
		if (i == 10)
			ASSERT_EQ(0, mover_start(&mover));
		for (unsigned int j = 0; j < tuples; j++)
			self->out[j] = 7 * i + j;
		memset(self->in, POISON, 64 * KiB);
		ASSERT_EQ(0, mem_fill(&rig->mem, addr, off, len, 40 + i));
		ASSERT_EQ(len, rw_pi(rig, IORING_OP_WRITE_FIXED, off, addr, len,
				     self->out));
		ASSERT_EQ(0, mem_poison(&rig->mem, 0, 512 * KiB, POISON));
		ASSERT_EQ(len, rw_pi(rig, IORING_OP_READ_FIXED, off, addr, len,
				     self->in));
		ASSERT_EQ(0, memcmp(self->in, self->out, tuples));
		ASSERT_EQ(NO_MISMATCH, poison_check(self->in + tuples,
						    64 * KiB - tuples, POISON));
		ASSERT_EQ(NO_MISMATCH,
			  mem_check_only(&rig->mem, addr, off, len, 40 + i));
	}
	mover_stop(&mover);
	EXPECT_EQ(0, mover.error);
	EXPECT_GT(mover.moves, 0);
}

TEST_HARNESS_MAIN
