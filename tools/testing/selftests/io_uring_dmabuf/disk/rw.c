// SPDX-License-Identifier: GPL-2.0
/* Reads and writes: every exporter, size, alignment, vector and kind of ring */
#include "common.h"
#include "mix.h"

#define SIZE	(4 * MiB)

FIXTURE(rw) {
	struct rig rig;
};

FIXTURE_VARIANT(rw) {
	enum mem_kind kind;
};

FIXTURE_VARIANT_ADD(rw, udmabuf) { .kind = MEM_UDMABUF };
FIXTURE_VARIANT_ADD(rw, udmabuf_4k) { .kind = MEM_UDMABUF_4K };
FIXTURE_VARIANT_ADD(rw, heap) { .kind = MEM_HEAP };
FIXTURE_VARIANT_ADD(rw, bar) { .kind = MEM_BAR };
FIXTURE_VARIANT_ADD(rw, bar_4k) { .kind = MEM_BAR_4K };
FIXTURE_VARIANT_ADD(rw, bar_64k) { .kind = MEM_BAR_64K };
FIXTURE_VARIANT_ADD(rw, bar_mixed) { .kind = MEM_BAR_MIXED };
FIXTURE_VARIANT_ADD(rw, bar_system) { .kind = MEM_BAR_SYSTEM };

FIXTURE_SETUP(rw)
{
	RIG_UP(&self->rig, "LAB_NVME_MAIN", variant->kind, SIZE, 0);
	ASSERT_EQ(0, reg_dmabuf(&self->rig.ring, 0, self->rig.mem.fd,
				self->rig.disk));
}

FIXTURE_TEARDOWN(rw)
{
	rig_down(&self->rig);
}

static const __u32 sizes[] = {
	512, 4 * KiB, 4 * KiB + 512, 8 * KiB, 12 * KiB, 64 * KiB,
	128 * KiB, 128 * KiB - 512, 512 * KiB, 1 * MiB, 3 * MiB + 512, SIZE,
};

TEST_F(rw, read_sizes)
{
	struct rig *rig = &self->rig;

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		ASSERT_EQ(0, rig_read(rig, rig->disk, 0, 4096, 0, sizes[i]));
	}
}

TEST_F(rw, write_sizes)
{
	struct rig *rig = &self->rig;

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		ASSERT_EQ(0, rig_write(rig, rig->disk, 0, 8192, 0, sizes[i]));
	}
}

/* Any multiple of four bytes is a good address for NVMe */
TEST_F(rw, memory_alignment)
{
	static const __u32 addrs[] = { 4, 60, 508, 516, 2048, 4092, 4100,
				       64 * KiB - 4, 64 * KiB + 4 };
	static const __u32 lens[] = { 512, 4096, 8192 + 512, 64 * KiB };
	struct rig *rig = &self->rig;

	for (unsigned int i = 0; i < ARRAY_SIZE(addrs); i++) {
		__u32 len = lens[i % 4];

		ASSERT_EQ(0, rig_read(rig, rig->disk, 0, 512 * i, addrs[i], len));
		ASSERT_EQ(0, rig_write(rig, rig->disk, 0, 8192 + 512 * i, addrs[i],
				       len));
	}
}

TEST_F(rw, end_of_the_buffer)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, rig_read(rig, rig->disk, 0, 0, SIZE - 512, 512));
	ASSERT_EQ(0, rig_write(rig, rig->disk, 0, 4096, SIZE - 8192, 8192));
	ASSERT_EQ(0, rig_read(rig, rig->disk, 0, 0, SIZE - 68 * KiB + 4,
			      68 * KiB - 512));
}

TEST_F_TIMEOUT(rw, random, SOAK_TIMEOUT)
{
	struct rig *rig = &self->rig;
	__u64 rng = variant->kind * 1000 + lab_seed();

	for (unsigned int i = 0; i < lab_soak(lab_scale(40, 10), lab_scale(1000, 100)); i++) {
		__u32 len = 512 + rnd_aligned(&rng, 256 * KiB, 512);
		__u64 off = rnd_aligned(&rng, 16 * MiB, 512);
		__u64 addr = rnd_aligned(&rng, SIZE - len, 4);

		ASSERT_EQ(0, rig_read(rig, rig->disk, 0, off, addr, len));
		ASSERT_EQ(0, rig_write(rig, rig->disk, 0, off, addr, len));
	}
}

/* All four opcodes, vectors whose pieces are not in order, depth 32 */
TEST_F(rw, deep)
{
	struct mix mix;

	ASSERT_EQ(0, mix_init(&mix, &self->rig, self->rig.disk, 0, SIZE));
	for (unsigned int i = 0; i < lab_scale(6, 2); i++) {
		ASSERT_EQ(0, mix_round(&mix, MIX_MAX_DEPTH));
		ASSERT_EQ(0, mix_verify(&mix));
	}
	/* and small ones */
	for (unsigned int i = 0; i < lab_scale(20, 4); i++) {
		ASSERT_EQ(0, mix_round(&mix, MIX_MAX_DEPTH));
	}
	ASSERT_EQ(0, mix_verify(&mix));
	EXPECT_EQ(0, mix.nr_eagain);
	mix_free(&mix);
}

TEST_F(rw, many_small_pieces)
{
	struct rig *rig = &self->rig;
	struct iovec iov[256];
	__u64 rng = 5;

	ASSERT_EQ(0, disk_fill(rig->disk, 0, 256 * 512, 3));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	for (int i = 0; i < 256; i++) {
		/* one sector somewhere in each 8 KiB, from the back */
		iov[i].iov_base = (void *)((255 - i) * 8 * KiB +
					   rnd_aligned(&rng, 4096, 4));
		iov[i].iov_len = 512;
	}
	ASSERT_EQ(256 * 512, uring_rw(&rig->ring, IORING_OP_READV_FIXED,
				      rig->disk, 0, (uintptr_t)iov, 256, 0));
	for (int i = 0; i < 256; i++) {
		ASSERT_EQ(NO_MISMATCH,
			  mem_check(&rig->mem, (uintptr_t)iov[i].iov_base,
				    i * 512, 512, 3));
	}
	ASSERT_EQ(0, disk_poison(rig->disk, MiB, 256 * 512, POISON));
	ASSERT_EQ(256 * 512, uring_rw(&rig->ring, IORING_OP_WRITEV_FIXED,
				      rig->disk, MiB, (uintptr_t)iov, 256, 0));
	EXPECT_EQ(NO_MISMATCH, disk_check(rig->disk, MiB, 0, 256 * 512, 3));
}

TEST_F(rw, nothing)
{
	struct rig *rig = &self->rig;

	EXPECT_EQ(0, uring_read(&rig->ring, rig->disk, 0, 0, 0, 0));
	EXPECT_EQ(0, uring_write(&rig->ring, rig->disk, 0, 4096, 0, 0));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
}

/* --- kinds of rings --- */

FIXTURE(ring) {
	struct rig rig;
};

FIXTURE_VARIANT(ring) {
	unsigned int flags;
	__u8 sqe_flags;
};

FIXTURE_VARIANT_ADD(ring, plain) { };
FIXTURE_VARIANT_ADD(ring, iopoll) { .flags = IORING_SETUP_IOPOLL };
FIXTURE_VARIANT_ADD(ring, sqpoll) { .flags = IORING_SETUP_SQPOLL };

FIXTURE_VARIANT_ADD(ring, sqpoll_iopoll) {
	.flags = IORING_SETUP_SQPOLL | IORING_SETUP_IOPOLL
};

FIXTURE_VARIANT_ADD(ring, defer_taskrun) {
	.flags = IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER
};

FIXTURE_VARIANT_ADD(ring, defer_iopoll) {
	.flags = IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER |
		 IORING_SETUP_IOPOLL
};

FIXTURE_VARIANT_ADD(ring, coop_taskrun) { .flags = IORING_SETUP_COOP_TASKRUN };

FIXTURE_VARIANT_ADD(ring, big_entries) {
	.flags = IORING_SETUP_SQE128 | IORING_SETUP_CQE32
};

FIXTURE_VARIANT_ADD(ring, async) { .sqe_flags = IOSQE_ASYNC };

FIXTURE_VARIANT_ADD(ring, async_iopoll) {
	.flags = IORING_SETUP_IOPOLL, .sqe_flags = IOSQE_ASYNC
};

FIXTURE_VARIANT_ADD(ring, linked) { .sqe_flags = IOSQE_IO_LINK };

FIXTURE_SETUP(ring)
{
	RIG_UP(&self->rig, "LAB_NVME_MAIN", MEM_UDMABUF, MiB, variant->flags);
}

FIXTURE_TEARDOWN(ring)
{
	rig_down(&self->rig);
}

static int ring_rounds(struct rig *rig, __u8 sqe_flags)
{
	struct mix mix;
	int ret;

	ret = mix_init(&mix, rig, rig->disk, 0, MiB);
	mix.sqe_flags = sqe_flags;
	for (unsigned int i = 0; !ret && i < lab_scale(12, 4); i++) {
		ret = mix_round(&mix, 16);
		if (!ret)
			ret = mix_verify(&mix);
	}
	mix_free(&mix);
	return ret;
}

TEST_F(ring, system_memory)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	ASSERT_EQ(0, ring_rounds(rig, variant->sqe_flags));
}

TEST_F(ring, bar)
{
	struct rig *rig = &self->rig;

	mem_destroy(&rig->mem);
	if (mem_create(&rig->mem, MEM_BAR_64K, MiB))
		SKIP(return, "no /dev/dmabuf_bar");
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	ASSERT_EQ(0, ring_rounds(rig, variant->sqe_flags));
}

/* A read and, linked to it, the write of what was read */
TEST(linked_copy)
{
	struct rig rig;
	struct uring_res res;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_UDMABUF, MiB, 0);
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk));
	ASSERT_EQ(0, disk_fill(rig.disk, 0, 256 * KiB, 8));
	ASSERT_EQ(0, disk_poison(rig.disk, MiB, 256 * KiB, POISON));
	ASSERT_EQ(0, mem_poison(&rig.mem, 0, MiB, POISON));
	uring_prep_rw(&rig.ring, IORING_OP_READ_FIXED, rig.disk, 0, 4096,
		      256 * KiB, 0)->flags = IOSQE_IO_LINK;
	uring_prep_rw(&rig.ring, IORING_OP_WRITE_FIXED, rig.disk, MiB, 4096,
		      256 * KiB, 0);
	ASSERT_EQ(2, uring_submit(&rig.ring, 2));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, uring_wait(&rig.ring, &res, 10000));
		EXPECT_EQ(256 * KiB, res.res);
	}
	EXPECT_EQ(NO_MISMATCH, disk_check(rig.disk, MiB, 0, 256 * KiB, 8));
	rig_down(&rig);
}

TEST(registered_file)
{
	struct io_uring_rsrc_register reg = { .nr = 1 };
	struct rig rig;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_UDMABUF, MiB, 0);
	reg.data = (uintptr_t)&rig.disk;
	ASSERT_EQ(0, uring_register(rig.ring.fd, IORING_REGISTER_FILES2, &reg,
				    sizeof(reg)));
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk));
	ASSERT_EQ(0, disk_fill(rig.disk, 0, 64 * KiB, 4));
	ASSERT_EQ(0, mem_poison(&rig.mem, 0, MiB, POISON));
	uring_prep_rw(&rig.ring, IORING_OP_READ_FIXED, 0, 0, 512, 64 * KiB,
		      0)->flags = IOSQE_FIXED_FILE;
	ASSERT_EQ(64 * KiB, uring_do(&rig.ring));
	EXPECT_EQ(NO_MISMATCH, mem_check_only(&rig.mem, 512, 0, 64 * KiB, 4));
	rig_down(&rig);
}

/* Larger than any command, and than one bio: split without a gap */
static int move_64_mib(struct rig *rig)
{
	int ret = rig_read(rig, rig->disk, 0, 0, 0, 64 * MiB);

	return ret ?: rig_write(rig, rig->disk, 0, 64 * MiB, 0, 64 * MiB);
}

TEST(sixty_four_mib)
{
	struct rig rig;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_HEAP, 64 * MiB, 0);
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk));
	ASSERT_EQ(0, move_64_mib(&rig));
	rig_down(&rig);
}

TEST(sixty_four_mib_of_single_pages)
{
	struct rig rig;
	int ret;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_UDMABUF_4K, 64 * MiB, 0);
	ASSERT_LE(MiB, lab_max_command(rig.disk));
	ASSERT_EQ(0, lab_small_commands("LAB_NVME_MAIN", true));
	ret = reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk);
	if (!ret)
		ret = move_64_mib(&rig);
	EXPECT_EQ(0, lab_small_commands("LAB_NVME_MAIN", false));
	EXPECT_EQ(0, ret);
	rig_down(&rig);
}

TEST_HARNESS_MAIN
