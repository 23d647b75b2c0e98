// SPDX-License-Identifier: GPL-2.0
/* NVMe to and from PCI memory, in whatever topology this machine has */
#include <linux/dma-buf-bar.h>

#include "common.h"
#include "mix.h"

#define SIZE	(4 * MiB)
#define MAP_BYTES	256	/* of a mapping, whatever its table is */

FIXTURE(p2p) {
	struct rig rig;
};

FIXTURE_VARIANT(p2p) {
	const char *disk;
	enum mem_kind kind;
};

FIXTURE_VARIANT_ADD(p2p, contiguous) { "LAB_NVME_MAIN", MEM_BAR };
FIXTURE_VARIANT_ADD(p2p, pieces_4k) { "LAB_NVME_MAIN", MEM_BAR_4K };
FIXTURE_VARIANT_ADD(p2p, pieces_64k) { "LAB_NVME_MAIN", MEM_BAR_64K };
FIXTURE_VARIANT_ADD(p2p, separate_64k) { "LAB_NVME_MAIN", MEM_BAR_64K_SEPARATE };
FIXTURE_VARIANT_ADD(p2p, separate_mixed) { "LAB_NVME_MAIN", MEM_BAR_MIXED };
/* multipath: its controllers sit on root ports of their own */
FIXTURE_VARIANT_ADD(p2p, multipath) { "LAB_NVME_MP", MEM_BAR };

FIXTURE_SETUP(p2p)
{
	RIG_UP(&self->rig, variant->disk, variant->kind, SIZE, 0);
	ASSERT_EQ(0, reg_flags(&self->rig.ring, 0, self->rig.mem.fd, self->rig.disk,
			       IO_REGBUF_DMABUF_REQUIRE_P2P));
}

FIXTURE_TEARDOWN(p2p)
{
	rig_down(&self->rig);
}

static const char *state_name(__u32 state)
{
	static const char *const names[] = {
		"not mapped", "system memory", "bus address below one switch",
		"peer memory through the host bridge", "mixed", "dead",
	};

	return state < 6 ? names[state] : "unknown";
}

TEST_F(p2p, state)
{
	struct io_uring_query_regbuf_map q;
	bool is_switch = lab_is("LAB_TOPO", "switch") &&
			 !strcmp(variant->disk, "LAB_NVME_MAIN");

	ASSERT_EQ(0, query_map(&self->rig.ring, 0, 0, &q));
	ksft_print_msg("%s, IOMMU %s: %s to %s, granule %llu KiB, %llu entries\n",
		       lab_env("LAB_TOPO"), lab_env("LAB_IOMMU"),
		       state_name(q.state), q.device, q.granule / 1024, q.entries);
	EXPECT_EQ(IO_REGBUF_DMABUF_REQUIRE_P2P, q.flags);
	if (!is_switch) {
		EXPECT_EQ(IO_REGBUF_MAP_P2P_HOST, q.state);
	} else if (lab_is("LAB_IOMMU", "off")) {
		EXPECT_EQ(IO_REGBUF_MAP_P2P_BUS, q.state);
	} else {
		/* access control of the switch sends it through the IOMMU */
		EXPECT_TRUE(q.state == IO_REGBUF_MAP_P2P_BUS ||
			    q.state == IO_REGBUF_MAP_P2P_HOST);
	}
}

/* The table is as large as the memory has pieces, not as they are small */
TEST_F(p2p, granule)
{
	struct io_uring_query_regbuf_map q;

	ASSERT_EQ(0, query_map(&self->rig.ring, 0, 0, &q));
	ksft_print_msg("%s: granule %llu KiB, %llu entries, %llu bytes\n",
		       mem_kind_name(variant->kind), q.granule / 1024, q.entries,
		       q.table_bytes);
	EXPECT_LE(q.table_bytes, q.entries * 16 + MAP_BYTES);
	EXPECT_LE(q.entries, SIZE / 4096);
	if (variant->kind == MEM_BAR) {
		EXPECT_LE(q.entries, 2);
	}
	if (variant->kind == MEM_BAR_64K) {
		EXPECT_GE(q.granule, 64 * KiB);
	}
	if (variant->kind == MEM_BAR_64K_SEPARATE) {
		EXPECT_GE(q.granule, 64 * KiB);
		EXPECT_LE(q.entries, SIZE / (64 * KiB));
	}
	/*
	 * Granules of 4 KiB would be 1024. The allocator of IOVAs decides which
	 * pieces become neighbours, so that there can be fewer, and larger ones.
	 */
	if (variant->kind == MEM_BAR_MIXED) {
		EXPECT_GE(q.granule, 4 * KiB);
		EXPECT_LE(q.entries, 9 * SIZE / MiB);
	}
}

TEST_F(p2p, from_the_drive)
{
	static const __u32 lens[] = { 512, 4096, 64 * KiB + 512, MiB, SIZE };
	struct rig *rig = &self->rig;

	for (unsigned int i = 0; i < 5; i++) {
		ASSERT_EQ(0, rig_read(rig, rig->disk, 0, 512 * i, 0, lens[i]));
	}
	ASSERT_EQ(0, rig_read(rig, rig->disk, 0, 0, SIZE - 4096 - 4, 4096));
}

TEST_F(p2p, to_the_drive)
{
	static const __u32 lens[] = { 512, 4096, 64 * KiB + 512, MiB, SIZE };
	struct rig *rig = &self->rig;

	for (unsigned int i = 0; i < 5; i++) {
		ASSERT_EQ(0, rig_write(rig, rig->disk, 0, 8192 + 512 * i, 0,
				       lens[i]));
	}
}

TEST_F(p2p, deep)
{
	struct rig *rig = &self->rig;
	struct mix mix;

	ASSERT_EQ(0, mix_init(&mix, rig, rig->disk, 0, SIZE));
	for (unsigned int i = 0; i < lab_scale(4, 2); i++) {
		ASSERT_EQ(0, mix_round(&mix, 32));
		ASSERT_EQ(0, mix_verify(&mix));
	}
	mix_free(&mix);
}

/* The mapping follows the memory: PCI, then system memory, then PCI again */
TEST(state_follows_moves)
{
	struct io_uring_query_regbuf_map q;
	struct rig rig;
	__u32 p2p;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_BAR, SIZE, 0);
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk));
	ASSERT_EQ(0, query_map(&rig.ring, 0, 0, &q));
	p2p = q.state;
	EXPECT_TRUE(p2p == IO_REGBUF_MAP_P2P_BUS || p2p == IO_REGBUF_MAP_P2P_HOST);

	ASSERT_EQ(0, bar_move(&rig.mem, DMA_BUF_BAR_PLACE_SYSTEM));
	ASSERT_EQ(0, query_map(&rig.ring, 0, 0, &q));
	EXPECT_EQ(IO_REGBUF_MAP_NONE, q.state);
	EXPECT_EQ(1, q.invalidations);
	ASSERT_EQ(0, rig_works(&rig, rig.disk, 0));
	ASSERT_EQ(0, query_map(&rig.ring, 0, 0, &q));
	EXPECT_EQ(IO_REGBUF_MAP_SYSTEM, q.state);

	ASSERT_EQ(0, bar_move(&rig.mem, DMA_BUF_BAR_PLACE_B));
	ASSERT_EQ(0, rig_works(&rig, rig.disk, 0));
	ASSERT_EQ(0, query_map(&rig.ring, 0, 0, &q));
	EXPECT_EQ(p2p, q.state);
	EXPECT_EQ(3, q.maps);
	EXPECT_EQ(2, q.invalidations);
	rig_down(&rig);
}

/* Drive to drive over PCI memory, both being targets */
TEST(drive_to_drive)
{
	struct io_uring_regbuf_desc d;
	struct rig rig;
	int p3 = NEED_PART(3);

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_BAR_64K, SIZE, 0);
	d = desc_dmabuf(rig.mem.fd, rig.disk);
	d.flags = IO_REGBUF_DMABUF_REQUIRE_P2P;
	d.targets = (uintptr_t)&p3;
	d.nr_targets = 1;
	ASSERT_EQ(0, reg_one(&rig.ring, 0, &d));
	ASSERT_EQ(0, disk_fill(rig.disk, 0, SIZE, 41));
	ASSERT_EQ(0, disk_poison(p3, 0, SIZE, POISON));
	ASSERT_EQ(SIZE, uring_read(&rig.ring, rig.disk, 0, 0, SIZE, 0));
	ASSERT_EQ(SIZE, uring_write(&rig.ring, p3, 0, 0, SIZE, 0));
	EXPECT_EQ(NO_MISMATCH, disk_check(p3, 0, 0, SIZE, 41));
	rig_down(&rig);
}

TEST(system_memory_is_refused)
{
	static const enum mem_kind kinds[] = {
		MEM_UDMABUF, MEM_HEAP, MEM_BAR_SYSTEM,
	};

	for (int i = 0; i < 3; i++) {
		struct rig rig;

		RIG_UP(&rig, "LAB_NVME_MAIN", kinds[i], MiB, 0);
		EXPECT_EQ(-EREMOTEIO, reg_flags(&rig.ring, 0, rig.mem.fd, rig.disk,
						IO_REGBUF_DMABUF_REQUIRE_P2P));
		EXPECT_TRUE(bufinfo_wait(rig.mem.fd, 0, 5000));
		rig_down(&rig);
	}
}

TEST_HARNESS_MAIN
