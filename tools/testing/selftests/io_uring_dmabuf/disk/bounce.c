// SPDX-License-Identifier: GPL-2.0
/*
 * A machine where all DMA of ordinary memory goes through bounce buffers
 * (swiotlb=force; guests of confidential machines are like that). Nobody would
 * copy what is in a mapping that is kept, so such memory is no buffer. That of a
 * peer is: nothing is bounced.
 */
#include "common.h"

#define SIZE	(128 * KiB)

FIXTURE(bounce) {
	struct rig rig;
};

FIXTURE_VARIANT(bounce) {
	enum mem_kind kind;
};

FIXTURE_VARIANT_ADD(bounce, udmabuf) { MEM_UDMABUF_4K };
FIXTURE_VARIANT_ADD(bounce, heap) { MEM_HEAP };
FIXTURE_VARIANT_ADD(bounce, movable) { MEM_BAR_SYSTEM };

FIXTURE_SETUP(bounce)
{
	if (!lab_is("LAB_IOMMU", "bounce"))
		SKIP(return, "DMA is not bounced here");
	RIG_UP(&self->rig, "LAB_NVME_MAIN", variant->kind, SIZE, 0);
}

FIXTURE_TEARDOWN(bounce)
{
	rig_down(&self->rig);
}

/* Refused by name, nothing is left, and the drive works as ever */
TEST_F(bounce, refused)
{
	struct io_uring_regbuf_reason why = { .size = sizeof(why) };
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, rig->disk);
	static const __u32 flags[] = { 0, IO_REGBUF_DMABUF_PIN };

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		d.flags = flags[i];
		d.reason = (uintptr_t)&why;
		EXPECT_EQ(-EOPNOTSUPP, reg_one(&rig->ring, 0, &d));
		EXPECT_EQ(IO_REGBUF_STAGE_ADDRESS, why.stage);
		EXPECT_EQ(0, bufinfo_attachments(rig->mem.fd));
		EXPECT_EQ(-EFAULT, uring_read(&rig->ring, rig->disk, 0, 0, 4096,
					      0));
	}
}

TEST(peer_memory_is_not_bounced)
{
	struct io_uring_query_regbuf_map q;
	struct rig rig;

	if (!lab_is("LAB_IOMMU", "bounce"))
		SKIP(return, "DMA is not bounced here");
	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_BAR, SIZE, 0);
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk));
	ASSERT_EQ(0, query_map(&rig.ring, 0, 0, &q));
	EXPECT_EQ(IO_REGBUF_MAP_P2P_BUS, q.state);
	ASSERT_EQ(0, rig_read(&rig, rig.disk, 0, 0, 0, SIZE));
	ASSERT_EQ(0, rig_write(&rig, rig.disk, 0, 0, 0, SIZE));
	rig_down(&rig);
}

TEST_HARNESS_MAIN
