// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings that are given back when nobody uses them (IO_REGBUF_DMABUF_DROP_IDLE), and made
 * again for the next I/O.
 */
#include <linux/dma-buf-bar.h>

#include "common.h"
#include "mover.h"
#include "nvme.h"

#define SIZE	(1 * MiB)
#define SEED	9100
#define SOON	1.0		/* seconds; the mapping is gone by then */

FIXTURE(drop) {
	struct rig rig;
};

FIXTURE_VARIANT(drop) {
	enum mem_kind kind;
	unsigned int ring;
};

FIXTURE_VARIANT_ADD(drop, udmabuf) { .kind = MEM_UDMABUF };
FIXTURE_VARIANT_ADD(drop, heap_defer) {
	.kind = MEM_HEAP, .ring = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN
};

FIXTURE_VARIANT_ADD(drop, bar) { .kind = MEM_BAR_64K };
/* mapped by the importer, as the exporter does not */
FIXTURE_VARIANT_ADD(drop, bar_sqpoll) { .kind = MEM_BAR, .ring = IORING_SETUP_SQPOLL };

static int reg_drop(struct rig *rig, unsigned int slot, __u32 more)
{
	return reg_flags(&rig->ring, slot, rig->mem.fd, rig->disk,
			 IO_REGBUF_DMABUF_DROP_IDLE | more);
}

FIXTURE_SETUP(drop)
{
	struct rig *rig = &self->rig;

	RIG_UP(rig, "LAB_NVME_MAIN", variant->kind, SIZE, variant->ring);
	ASSERT_EQ(0, reg_drop(rig, 0, 0));
}

FIXTURE_TEARDOWN(drop)
{
	rig_down(&self->rig);
}

static struct io_uring_query_regbuf_map now(struct rig *rig, unsigned int slot)
{
	struct io_uring_query_regbuf_map q;

	if (query_map(&rig->ring, slot, 0, &q))
		memset(&q, 0xff, sizeof(q));
	return q;
}

/* All mappings that were made have ended, one way or the other */
static bool unmapped(struct rig *rig, unsigned int slot)
{
	struct io_uring_query_regbuf_map q = now(rig, slot);

	return q.state == IO_REGBUF_MAP_NONE && q.maps == q.drops + q.invalidations;
}

/* Seconds until that, or that it does not come */
static double gone_after(struct rig *rig, unsigned int slot)
{
	double start = lab_now();

	while (!unmapped(rig, slot)) {
		if (lab_now() - start > 10)
			return 1e9;
		lab_sleep_ms(5);
	}
	return lab_now() - start;
}

TEST_F(drop, after_the_last_io)
{
	struct rig *rig = &self->rig;

	/* errors of the mapping are those of the registration */
	EXPECT_EQ(1, now(rig, 0).maps);
	for (unsigned int i = 1; i <= 3; i++) {
		double soon;

		ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
		soon = gone_after(rig, 0);
		EXPECT_LT(soon, SOON);
		TH_LOG("gone after %.2f s", soon);
		EXPECT_LE(i, now(rig, 0).drops);
		EXPECT_EQ(0, now(rig, 0).table_bytes);
		if (mem_is_bar(&rig->mem)) {
			struct dma_buf_bar_info info;

			ASSERT_EQ(0, bar_info(&rig->mem, &info));
			EXPECT_EQ(0, info.live);
		}
		/* the device is a target all the same */
		EXPECT_EQ(1, bufinfo_attachments(rig->mem.fd));
	}
	EXPECT_EQ(IO_REGBUF_DMABUF_DROP_IDLE, now(rig, 0).flags & IO_REGBUF_DMABUF_DROP_IDLE);
	ASSERT_EQ(0, reg_clear(&rig->ring, 0));
	EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 0, 10000));
}

/* Nobody pays for it who is busy */
TEST_F(drop, not_between_ios)
{
	struct rig *rig = &self->rig;
	struct io_uring_query_regbuf_map was, is;
	double end;

	ASSERT_EQ(4096, uring_read(&rig->ring, rig->disk, 0, 0, 4096, 0));
	was = now(rig, 0);
	end = lab_now() + 2;
	while (lab_now() < end) {
		ASSERT_EQ(4096, uring_read(&rig->ring, rig->disk, 0, 0, 4096, 0));
		/* shorter than a tick */
		lab_sleep_ms(20);
	}
	is = now(rig, 0);
	EXPECT_EQ(was.maps, is.maps);
	EXPECT_EQ(was.drops, is.drops);
	EXPECT_NE(IO_REGBUF_MAP_NONE, is.state);
}

/* What comes when the mapping is being dropped: around that time, again and again */
TEST_F(drop, at_that_very_moment)
{
	struct rig *rig = &self->rig;
	unsigned int rounds = lab_scale(30, 10);

	ASSERT_EQ(0, disk_fill(rig->disk, 0, SIZE, SEED));
	for (unsigned int i = 0; i < rounds; i++) {
		ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
		for (unsigned int k = 0; k < 8; k++)
			uring_prep_rw(&rig->ring, IORING_OP_READ_FIXED, rig->disk, k * 64 * KiB,
				      k * 64 * KiB, 64 * KiB, 0);
		ASSERT_LE(0, uring_submit(&rig->ring, 0));
		for (unsigned int k = 0; k < 8; k++) {
			struct uring_res res;

			ASSERT_EQ(0, uring_wait(&rig->ring, &res, 60000));
			ASSERT_EQ(64 * KiB, res.res);
		}
		ASSERT_EQ(NO_MISMATCH, mem_check_only(&rig->mem, 0, 0, 512 * KiB, SEED));
		/* 200 to 520 ms: the first tick is after 250 */
		lab_sleep_ms(200 + i * 7 % 32 * 10);
	}
	TH_LOG("%llu mapped, %u dropped", now(rig, 0).maps, now(rig, 0).drops);
	EXPECT_LT(0, now(rig, 0).drops);
}

/* The exporter moves it, whether it is mapped or not; it sees no more of it than it has to */
TEST_F(drop, exporter_moves)
{
	struct rig *rig = &self->rig;
	struct mover mover = { .mem = &rig->mem, .nr_places = 3, .rest_ms = 60 };
	double end = lab_now() + 4;
	unsigned int i = 0;

	if (!mem_is_bar(&rig->mem))
		SKIP(return, "it is the test exporter's");
	ASSERT_EQ(0, mover_start(&mover));
	while (lab_now() < end) {
		ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
		lab_sleep_ms(i++ % 3 * 200);
	}
	mover_stop(&mover);
	EXPECT_EQ(0, mover.error);
	EXPECT_EQ(0, rig_works(rig, rig->disk, 0));
	EXPECT_LT(gone_after(rig, 0), SOON);
}

TEST_F(drop, drive_goes)
{
	struct rig *rig = &self->rig;
	const char *pci = NEED_ENV("LAB_PCI_MAIN");

	for (unsigned int i = 0; i < 3; i++) {
		ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
		/* mapped, while it is dropped, and long after */
		lab_sleep_ms(i * 260);
		close(rig->disk);
		ASSERT_EQ(0, nvme_unbind(pci));
		EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 0, 10000));
		ASSERT_EQ(0, nvme_bind(pci));
		rig->disk = nvme_wait_disk(pci);
		ASSERT_LE(0, rig->disk);
		/* its disk is another one: a slot has to be told */
		ASSERT_EQ(0, reg_drop(rig, 0, 0));
	}
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
}

/* The slot, and all else, goes at any time */
TEST_F(drop, slot_goes)
{
	struct rig *rig = &self->rig;
	unsigned int rounds = lab_scale(20, 8);

	for (unsigned int i = 0; i < rounds; i++) {
		ASSERT_EQ(4096, uring_read(&rig->ring, rig->disk, 0, 0, 4096, 0));
		lab_sleep_ms(230 + i * 5);
		ASSERT_EQ(0, reg_clear(&rig->ring, 0));
		ASSERT_TRUE(bufinfo_wait(rig->mem.fd, 0, 10000));
		ASSERT_EQ(0, reg_drop(rig, 0, 0));
	}
}

/* Two slots of a kind have one mapping, which either uses; one that keeps has its own */
TEST_F(drop, shared)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, reg_drop(rig, 1, 0));
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 2, rig->mem.fd, rig->disk));
	EXPECT_EQ(2, bufinfo_attachments(rig->mem.fd));
	ASSERT_EQ(4096, uring_read(&rig->ring, rig->disk, 0, 0, 4096, 0));
	EXPECT_LT(gone_after(rig, 0), SOON);
	EXPECT_EQ(IO_REGBUF_MAP_NONE, now(rig, 1).state);
	EXPECT_NE(IO_REGBUF_MAP_NONE, now(rig, 2).state);
	ASSERT_EQ(0, rig_works(rig, rig->disk, 1));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 2));
	EXPECT_EQ(0, now(rig, 2).drops);
	EXPECT_EQ(1, now(rig, 2).maps);
}

TEST_F(drop, wrong_flags)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d = desc_add(rig->disk);

	EXPECT_EQ(-EINVAL, reg_drop(rig, 1, IO_REGBUF_DMABUF_PIN));
	d.flags |= IO_REGBUF_DMABUF_DROP_IDLE;
	EXPECT_EQ(-EINVAL, reg_one(&rig->ring, 0, &d));
}

TEST_HARNESS_MAIN
