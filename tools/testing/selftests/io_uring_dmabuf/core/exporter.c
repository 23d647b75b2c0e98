// SPDX-License-Identifier: GPL-2.0
/* What the exporter says counts: errors, revocation, pins, read-only fds */
#include <linux/dma-buf-bar.h>

#include "common.h"

#define SIZE		(256 * KiB)

FIXTURE(exporter) {
	struct rig rig;
	struct io_uring_regbuf_desc desc;
};

FIXTURE_SETUP(exporter)
{
	struct rig *rig = &self->rig;

	RIG_UP(rig, "LAB_NVME_MAIN", MEM_BAR, SIZE, 0);
	self->desc = desc_dmabuf(rig->mem.fd, rig->disk);
}

FIXTURE_TEARDOWN(exporter)
{
	file_write("/sys/kernel/debug/dma_buf_bar/fail_map_count", "0");
	rig_down(&self->rig);
}

static int fail_maps(const char *err, const char *count)
{
	int ret = file_write("/sys/kernel/debug/dma_buf_bar/fail_map_errno", err);

	return ret ?: file_write("/sys/kernel/debug/dma_buf_bar/fail_map_count",
				 count);
}

TEST_F(exporter, map_error_is_passed_on)
{
	struct uring *r = &self->rig.ring;
	struct mem *m = &self->rig.mem, other;

	ASSERT_EQ(0, fail_maps("28", "1"));
	EXPECT_EQ(-ENOSPC, reg_one(r, 1, &self->desc));
	EXPECT_TRUE(bufinfo_wait(m->fd, 0, 5000));
	EXPECT_EQ(-EFAULT, uring_read(r, self->rig.disk, 0, 0, 4096, 1));
	ASSERT_EQ(0, fail_maps("12", "1"));
	EXPECT_EQ(-ENOMEM, reg_one(r, 1, &self->desc));
	ASSERT_EQ(0, reg_one(r, 1, &self->desc));
	ASSERT_EQ(0, rig_works(&self->rig, self->rig.disk, 1));
	/* the slot keeps its content when the next one fails */
	ASSERT_EQ(0, mem_create(&other, MEM_BAR, SIZE));
	self->desc.dmabuf_fd = other.fd;
	ASSERT_EQ(0, fail_maps("28", "1"));
	EXPECT_EQ(-ENOSPC, reg_one(r, 1, &self->desc));
	ASSERT_EQ(0, rig_works(&self->rig, self->rig.disk, 1));
	mem_destroy(&other);
}

/* The exporter cannot map again after a move: the request says so */
TEST_F(exporter, map_error_after_a_move)
{
	struct uring *r = &self->rig.ring;

	ASSERT_EQ(0, reg_one(r, 1, &self->desc));
	ASSERT_EQ(0, fail_maps("28", "1"));
	ASSERT_EQ(0, bar_move(&self->rig.mem, DMA_BUF_BAR_PLACE_B));
	EXPECT_EQ(-ENOSPC, uring_read(r, self->rig.disk, 0, 0, 4096, 1));
	ASSERT_EQ(0, rig_works(&self->rig, self->rig.disk, 1));
}

/* What the exporter may say, and what user space is told */
static int told(int err)
{
	switch (err) {
	case EAGAIN:
	case 517:		/* EPROBE_DEFER */
	case 528:		/* EJUKEBOX */
		return -EBUSY;
	case 512:		/* ERESTARTSYS, -NOINTR, -NOHAND, _RESTARTBLOCK */
	case 513:
	case 514:
	case 516:
		return -EINTR;
	case 515:		/* ENOIOCTLCMD */
	case 524:		/* ENOTSUPP */
		return -EOPNOTSUPP;
	default:
		return err > EHWPOISON ? -EIO : -err;
	}
}

/* Every number there is: those that only the kernel knows stay there */
TEST_F(exporter, errors_that_user_space_knows)
{
	struct uring *r = &self->rig.ring;
	char number[16];

	for (int err = 1; err < 4096; err = err < 540 ? err + 1 : err + 507) {
		snprintf(number, sizeof(number), "%d", err);
		ASSERT_EQ(0, fail_maps(number, "1"));
		EXPECT_EQ(told(err), reg_one(r, 1, &self->desc)) {
			TH_LOG("registration: the exporter said %d", err);
		}
	}
	ASSERT_EQ(0, reg_one(r, 1, &self->desc));
	for (int err = 1; err < 540; err += err < 134 || err > 510 ? 1 : 47) {
		/* a worker that was only interrupted tries again */
		if (told(err) == -EINTR)
			continue;
		snprintf(number, sizeof(number), "%d", err);
		ASSERT_EQ(0, fail_maps(number, "1"));
		ASSERT_EQ(0, bar_move(&self->rig.mem, DMA_BUF_BAR_PLACE_B));
		EXPECT_EQ(told(err),
			  uring_read(r, self->rig.disk, 0, 0, 4096, 1)) {
			TH_LOG("read after a move: the exporter said %d", err);
		}
	}
	ASSERT_EQ(0, rig_works(&self->rig, self->rig.disk, 1));
}

TEST_F(exporter, revoked)
{
	struct uring *r = &self->rig.ring;
	struct mem *m = &self->rig.mem;

	ASSERT_EQ(0, reg_one(r, 0, &self->desc));
	ASSERT_EQ(0, rig_works(&self->rig, self->rig.disk, 0));
	ASSERT_EQ(0, mem_poison(m, 0, SIZE, POISON));
	ASSERT_EQ(0, bar_revoke(m, true));
	EXPECT_EQ(-ENODEV, uring_read(r, self->rig.disk, 0, 0, 4096, 0));
	EXPECT_EQ(-ENODEV, uring_write(r, self->rig.disk, 0, 0, 4096, 0));
	EXPECT_EQ(-ENODEV, reg_one(r, 1, &self->desc));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(m, 0, SIZE, POISON));
	ASSERT_EQ(0, bar_revoke(m, false));
	ASSERT_EQ(0, rig_works(&self->rig, self->rig.disk, 0));
}

TEST_F(exporter, pinned_memory_does_not_move)
{
	struct uring *r = &self->rig.ring;
	struct mem *m = &self->rig.mem;
	struct dma_buf_bar_info info;

	self->desc.flags = IO_REGBUF_DMABUF_PIN;
	ASSERT_EQ(0, reg_one(r, 0, &self->desc));
	ASSERT_EQ(0, bar_info(m, &info));
	EXPECT_EQ(1, info.pinned);
	EXPECT_EQ(-EBUSY, bar_move(m, DMA_BUF_BAR_PLACE_B));
	ASSERT_EQ(0, rig_works(&self->rig, self->rig.disk, 0));
	ASSERT_EQ(0, reg_clear(r, 0));
	EXPECT_TRUE(bufinfo_wait(m->fd, 0, 5000));
	ASSERT_EQ(0, bar_info(m, &info));
	EXPECT_EQ(0, info.pinned);
	EXPECT_EQ(0, bar_move(m, DMA_BUF_BAR_PLACE_B));
}

TEST_F(exporter, read_only_fd)
{
	struct uring *r = &self->rig.ring;
	struct io_uring_regbuf_desc d;
	struct mem ro;

	ASSERT_EQ(0, mem_create_bar(&ro, SIZE, DMA_BUF_BAR_RDONLY, 0));
	d = desc_dmabuf(ro.fd, self->rig.disk);
	d.flags = IO_REGBUF_DMABUF_WRONLY;
	EXPECT_EQ(-EACCES, reg_one(r, 0, &d));
	d.flags = 0;
	ASSERT_EQ(0, reg_one(r, 0, &d));
	EXPECT_EQ(-EFAULT, uring_read(r, self->rig.disk, 0, 0, 4096, 0));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&ro, 0, SIZE, 0));
	ASSERT_EQ(0, mem_fill(&ro, 0, 0, 4096, 9));
	EXPECT_EQ(4096, uring_write(r, self->rig.disk, 0, 0, 4096, 0));
	EXPECT_EQ(NO_MISMATCH, disk_check(self->rig.disk, 0, 0, 4096, 9));
	mem_destroy(&ro);
}

/* REQUIRE_P2P holds for the life of the registration, not for one mapping */
TEST_F(exporter, require_p2p_after_a_move_to_system_memory)
{
	struct uring *r = &self->rig.ring;
	struct mem *m = &self->rig.mem;

	self->desc.flags = IO_REGBUF_DMABUF_REQUIRE_P2P;
	ASSERT_EQ(0, reg_one(r, 0, &self->desc));
	ASSERT_EQ(0, rig_works(&self->rig, self->rig.disk, 0));
	ASSERT_EQ(0, bar_move(m, DMA_BUF_BAR_PLACE_SYSTEM));
	EXPECT_EQ(-EREMOTEIO, uring_read(r, self->rig.disk, 0, 0, 4096, 0));
	EXPECT_EQ(-EREMOTEIO, reg_one(r, 1, &self->desc));
	ASSERT_EQ(0, bar_move(m, DMA_BUF_BAR_PLACE_A));
	ASSERT_EQ(0, rig_works(&self->rig, self->rig.disk, 0));
}

TEST_HARNESS_MAIN
