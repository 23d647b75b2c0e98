// SPDX-License-Identifier: GPL-2.0
/* NVMe commands of our own making on the char device */
#include <linux/nvme_ioctl.h>

#include <linux/dma-buf-bar.h>

#include "cdev.h"
#include "common.h"
#include "mover.h"

#define SIZE		(16 * MiB)

FIXTURE(pt) {
	struct rig rig;		/* disk: the block device, as witness */
	struct cdev dev;
};

FIXTURE_VARIANT(pt) {
	const char *disk, *ng;
	enum mem_kind kind;
	unsigned int flags;
};

FIXTURE_VARIANT_ADD(pt, udmabuf) {
	.disk = "LAB_NVME_MAIN", .ng = "LAB_NG_MAIN", .kind = MEM_UDMABUF,
};

FIXTURE_VARIANT_ADD(pt, bar) {
	.disk = "LAB_NVME_MAIN", .ng = "LAB_NG_MAIN", .kind = MEM_BAR_64K,
};

FIXTURE_VARIANT_ADD(pt, iopoll) {
	.disk = "LAB_NVME_MAIN", .ng = "LAB_NG_MAIN", .kind = MEM_UDMABUF,
	.flags = IORING_SETUP_IOPOLL,
};

FIXTURE_VARIANT_ADD(pt, iopoll_bar) {
	.disk = "LAB_NVME_MAIN", .ng = "LAB_NG_MAIN", .kind = MEM_BAR,
	.flags = IORING_SETUP_IOPOLL,
};

FIXTURE_VARIANT_ADD(pt, defer_taskrun) {
	.disk = "LAB_NVME_MAIN", .ng = "LAB_NG_MAIN", .kind = MEM_UDMABUF_4K,
	.flags = IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER,
};

FIXTURE_VARIANT_ADD(pt, multipath) {
	.disk = "LAB_NVME_MP", .ng = "LAB_NG_MP", .kind = MEM_UDMABUF,
};

FIXTURE_SETUP(pt)
{
	RIG_UP(&self->rig, variant->disk, variant->kind, SIZE,
	       variant->flags | CDEV_RING);
	ASSERT_EQ(0, cdev_open(&self->dev, NEED_ENV(variant->ng),
			       self->rig.disk));
	ASSERT_EQ(0, reg_dmabuf(&self->rig.ring, 0, self->rig.mem.fd, self->dev.fd));
}

FIXTURE_TEARDOWN(pt)
{
	rig_down(&self->rig);
	close(self->dev.fd);
}

static int command(struct rig *rig, const struct cdev *dev, __u8 opcode,
		   __u32 op, __u64 off, __u32 bytes, __u64 addr, __u32 data_len)
{
	return cdev_command(&rig->ring, dev, opcode, op, off, bytes, addr,
			    data_len);
}

static int io(struct rig *rig, const struct cdev *dev, __u8 opcode, __u64 off,
	      __u64 addr, __u32 len)
{
	return cdev_io(&rig->ring, dev, opcode, off, addr, len);
}

TEST_F(pt, read)
{
	static const __u32 lens[] = { 512, 4096, 12288, 64 * KiB, 128 * KiB };
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, disk_fill(rig->disk, 0, MiB, 21));
	for (unsigned int i = 0; i < 5; i++) {
		ASSERT_EQ(0, mem_poison(&rig->mem, 0, MiB, POISON));
		ASSERT_EQ(0, io(rig, &self->dev, NVME_READ, 4096, 4 * i + 8192, lens[i]));
		ASSERT_EQ(NO_MISMATCH, mem_check(&rig->mem, 4 * i + 8192, 4096,
						 lens[i], 21));
		ASSERT_EQ(NO_MISMATCH, mem_check_poison(&rig->mem, 0,
							4 * i + 8192, POISON));
		ASSERT_EQ(NO_MISMATCH,
			  mem_check_poison(&rig->mem, 8192 + 4 * i + lens[i],
					   64 * KiB, POISON));
	}
}

TEST_F(pt, write)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, mem_fill(&rig->mem, 0, 0, MiB, 22));
	ASSERT_EQ(0, disk_poison(rig->disk, 0, MiB, POISON));
	ASSERT_EQ(0, io(rig, &self->dev, NVME_WRITE, 4096, 512, 128 * KiB));
	ASSERT_EQ(0, io(rig, &self->dev, NVME_WRITE, 256 * KiB, 4, 512));
	EXPECT_EQ(NO_MISMATCH, disk_check(rig->disk, 4096, 512, 128 * KiB, 22));
	EXPECT_EQ(NO_MISMATCH, disk_check(rig->disk, 256 * KiB, 4, 512, 22));
	EXPECT_EQ(NO_MISMATCH, disk_check_poison(rig->disk, 0, 4096, POISON));
	EXPECT_EQ(NO_MISMATCH, disk_check_poison(rig->disk, 132 * KiB, 124 * KiB,
						 POISON));
}

TEST_F(pt, vectored)
{
	struct iovec iov[3] = {
		{ .iov_base = (void *)(64 * KiB), .iov_len = 8192 },
		{ .iov_base = (void *)0, .iov_len = 4096 },
		{ .iov_base = (void *)(256 * KiB), .iov_len = 16384 },
	};
	struct rig *rig = &self->rig;
	__u32 len = 8192 + 4096 + 16384, at = 0;

	ASSERT_EQ(0, disk_fill(rig->disk, 0, MiB, 23));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, MiB, POISON));
	ASSERT_EQ(0, command(rig, &self->dev, NVME_READ, NVME_URING_CMD_IO_VEC, 8192, len,
			     (uintptr_t)iov, 3));
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(NO_MISMATCH,
			  mem_check(&rig->mem, (uintptr_t)iov[i].iov_base,
				    8192 + at, iov[i].iov_len, 23));
		at += iov[i].iov_len;
	}
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&rig->mem, 4096, 60 * KiB, POISON));
	ASSERT_EQ(0, disk_poison(rig->disk, 0, MiB, POISON));
	ASSERT_EQ(0, command(rig, &self->dev, NVME_WRITE, NVME_URING_CMD_IO_VEC, 0, len,
			     (uintptr_t)iov, 3));
	EXPECT_EQ(NO_MISMATCH, disk_check(rig->disk, 0, 8192, len, 23));
}

TEST_F(pt, bad_length)
{
	struct rig *rig = &self->rig;

	/* not a multiple of what the device can address */
	EXPECT_EQ(-EINVAL, command(rig, &self->dev, NVME_READ, NVME_URING_CMD_IO, 0, 512, 0,
				   513));
	EXPECT_EQ(-EINVAL, command(rig, &self->dev, NVME_READ, NVME_URING_CMD_IO, 0, 512, 2,
				   512));
	/* more than the controller takes in one command */
	EXPECT_EQ(-EINVAL, io(rig, &self->dev, NVME_READ, 0, 0, SIZE));
	/* outside the buffer */
	EXPECT_EQ(-EFAULT, io(rig, &self->dev, NVME_READ, 0, SIZE - 512, 1024));
	EXPECT_EQ(-EFAULT, io(rig, &self->dev, NVME_READ, 0, -4096ULL, 8192));
	ASSERT_EQ(0, disk_fill(rig->disk, 0, 4096, 3));
	ASSERT_EQ(0, io(rig, &self->dev, NVME_READ, 0, 0, 4096));
	EXPECT_EQ(NO_MISMATCH, mem_check(&rig->mem, 0, 0, 4096, 3));
}

/* The device's own refusal comes back as its status */
TEST_F(pt, device_error)
{
	struct rig *rig = &self->rig;
	int ret = io(rig, &self->dev, NVME_READ, 1ULL << 50, 0, 4096);

	EXPECT_GT(ret, 0);
	ASSERT_EQ(0, io(rig, &self->dev, NVME_READ, 0, 0, 4096));
}

/* Registered through the block device, used through the char device */
TEST_F(pt, same_device_other_file)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	ASSERT_EQ(0, disk_fill(rig->disk, 0, 64 * KiB, 24));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, MiB, POISON));
	ASSERT_EQ(0, io(rig, &self->dev, NVME_READ, 0, 4096, 64 * KiB));
	EXPECT_EQ(NO_MISMATCH, mem_check(&rig->mem, 4096, 0, 64 * KiB, 24));
}

TEST_F(pt, not_a_target)
{
	struct rig *rig = &self->rig;
	int other = NEED_DISK("LAB_NVME_FS");

	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, other));
	EXPECT_EQ(-EBADF, io(rig, &self->dev, NVME_READ, 0, 0, 4096));
}

TEST_F(pt, direction)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, self->dev.fd);

	ASSERT_EQ(0, disk_poison(rig->disk, 0, 8192, POISON));
	d.flags = IO_REGBUF_DMABUF_RDONLY;
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &d));
	EXPECT_EQ(-EFAULT, io(rig, &self->dev, NVME_READ, 0, 0, 4096));
	d.flags = IO_REGBUF_DMABUF_WRONLY;
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &d));
	EXPECT_EQ(-EFAULT, io(rig, &self->dev, NVME_WRITE, 0, 0, 4096));
	EXPECT_EQ(NO_MISMATCH, disk_check_poison(rig->disk, 0, 8192, POISON));
}

/* Nobody asked whether the device may do both */
TEST_F(pt, both_directions_at_once)
{
	struct rig *rig = &self->rig;

	/* vendor specific, both ways */
	EXPECT_EQ(-EOPNOTSUPP, io(rig, &self->dev, 0x83, 0, 0, 4096));
	/* no data, as far as the opcode says: the drive does not know it */
	EXPECT_GT(io(rig, &self->dev, 0x80, 0, 0, 4096), 0);
	ASSERT_EQ(0, io(rig, &self->dev, NVME_READ, 0, 0, 4096));
}

/* --- while the memory moves --- */

FIXTURE(pt_moves) {
	struct rig rig;
	struct cdev dev;
	struct mover mover;
};

FIXTURE_VARIANT(pt_moves) {
	const char *disk, *ng;
	unsigned int flags;
};

FIXTURE_VARIANT_ADD(pt_moves, plain) {
	.disk = "LAB_NVME_MAIN", .ng = "LAB_NG_MAIN",
};

FIXTURE_VARIANT_ADD(pt_moves, iopoll) {
	.disk = "LAB_NVME_MAIN", .ng = "LAB_NG_MAIN",
	.flags = IORING_SETUP_IOPOLL,
};

FIXTURE_VARIANT_ADD(pt_moves, defer_taskrun) {
	.disk = "LAB_NVME_MAIN", .ng = "LAB_NG_MAIN",
	.flags = IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER,
};

FIXTURE_VARIANT_ADD(pt_moves, multipath) {
	.disk = "LAB_NVME_MP", .ng = "LAB_NG_MP",
};

FIXTURE_SETUP(pt_moves)
{
	RIG_UP(&self->rig, variant->disk, MEM_BAR_4K, MiB,
	       variant->flags | CDEV_RING);
	ASSERT_EQ(0, cdev_open(&self->dev, NEED_ENV(variant->ng),
			       self->rig.disk));
	ASSERT_EQ(0, reg_dmabuf(&self->rig.ring, 0, self->rig.mem.fd,
				self->dev.fd));
	self->mover.mem = &self->rig.mem;
	self->mover.nr_places = 3;
	self->mover.count = lab_scale(80, 20);
	ASSERT_EQ(0, disk_fill(self->rig.disk, 0, MiB, 31));
	ASSERT_EQ(0, mover_start(&self->mover));
}

FIXTURE_TEARDOWN(pt_moves)
{
	struct dma_buf_bar_info info;

	mover_stop(&self->mover);
	EXPECT_EQ(0, self->mover.error);
	EXPECT_EQ(0, bar_info(&self->rig.mem, &info));
	EXPECT_EQ(0, info.stray);
	EXPECT_EQ(0, info.late);
	rig_down(&self->rig);
	close(self->dev.fd);
}

TEST_F(pt_moves, under_load)
{
	struct rig *rig = &self->rig;
	unsigned int i = 0;

	for (; !mover_done(&self->mover); i++) {
		__u32 len = 4096 << i % 5;
		__u64 addr = 8192 * (i % 7);

		ASSERT_EQ(0, mem_poison(&rig->mem, 0, MiB, POISON));
		ASSERT_EQ(0, io(rig, &self->dev, NVME_READ, 4096, addr, len));
		ASSERT_EQ(NO_MISMATCH,
			  mem_check(&rig->mem, addr, 4096, len, 31));
		ASSERT_EQ(NO_MISMATCH,
			  mem_check_poison(&rig->mem, addr + len, 64 * KiB,
					   POISON));
		ASSERT_EQ(0, mem_fill(&rig->mem, addr, i, len, 32));
		ASSERT_EQ(0, io(rig, &self->dev, NVME_WRITE, MiB, addr, len));
		ASSERT_EQ(NO_MISMATCH, disk_check(rig->disk, MiB, i, len, 32));
	}
	EXPECT_GT(i, 0);
}

/*
 * Commands that wait for those before them, and that are issued again after a
 * move: in order, and what waits behind them is let go once.
 */
TEST_F(pt_moves, drained)
{
	struct rig *rig = &self->rig;
	unsigned int i = 0;

	for (; !mover_done(&self->mover); i++) {
		__u64 addr = 64 * KiB * (1 + i % 4);
		struct uring_res res;

		ASSERT_EQ(0, mem_fill(&rig->mem, 0, i, 32 * KiB, 33));
		ASSERT_EQ(0, mem_poison(&rig->mem, addr, 32 * KiB, POISON));
		/* the read gives what the write before it wrote */
		cdev_prep(&rig->ring, &self->dev, NVME_WRITE, NVME_URING_CMD_IO,
			  MiB, 32 * KiB, 0, 32 * KiB)->user_data = 1;
		for (unsigned int n = 2; n < 4; n++) {
			struct io_uring_sqe *sqe;

			sqe = cdev_prep(&rig->ring, &self->dev, NVME_READ,
					NVME_URING_CMD_IO, MiB + (n - 2) * 16 * KiB,
					16 * KiB, addr + (n - 2) * 16 * KiB,
					16 * KiB);
			sqe->flags = IOSQE_IO_DRAIN;
			sqe->user_data = n;
		}
		ASSERT_EQ(3, uring_submit(&rig->ring, 0));
		for (unsigned int n = 1; n < 4; n++) {
			ASSERT_EQ(0, uring_wait(&rig->ring, &res, 60000));
			ASSERT_EQ(0, res.res);
			ASSERT_EQ(n, res.user_data);
		}
		ASSERT_EQ(NO_MISMATCH,
			  mem_check(&rig->mem, addr, i, 32 * KiB, 33));
	}
	EXPECT_GT(i, 0);
}

/* The vector is the application's again as soon as it was submitted */
TEST_F(pt_moves, vector_reused)
{
	const struct iovec wanted[2] = {
		{ .iov_base = (void *)(64 * KiB), .iov_len = 16 * KiB },
		{ .iov_base = (void *)(8 * KiB), .iov_len = 16 * KiB },
	};
	struct rig *rig = &self->rig;
	unsigned int i = 0;

	for (; !mover_done(&self->mover); i++) {
		struct iovec iov[2] = { wanted[0], wanted[1] };
		struct uring_res res;

		ASSERT_EQ(0, mem_poison(&rig->mem, 0, MiB, POISON));
		cdev_prep(&rig->ring, &self->dev, NVME_READ,
			  NVME_URING_CMD_IO_VEC, 0, 32 * KiB, (uintptr_t)iov,
			  2);
		ASSERT_EQ(1, uring_submit(&rig->ring, 0));
		iov[0].iov_base = (void *)(512 * KiB);
		iov[1].iov_base = (void *)(640 * KiB);
		ASSERT_EQ(0, uring_wait(&rig->ring, &res, 20000));
		ASSERT_EQ(0, res.res);
		ASSERT_EQ(NO_MISMATCH, mem_check(&rig->mem, 64 * KiB, 0,
						 16 * KiB, 31));
		ASSERT_EQ(NO_MISMATCH, mem_check(&rig->mem, 8 * KiB, 16 * KiB,
						 16 * KiB, 31));
		ASSERT_EQ(NO_MISMATCH, mem_check_poison(&rig->mem, 512 * KiB,
							512 * KiB, POISON));
	}
	EXPECT_GT(i, 0);
}

/*
 * A command that finds the memory moved is issued again at once, also where whoever
 * waits for two completions is woken up for two only.
 */
TEST(issued_again_at_once)
{
	struct __kernel_timespec ts = { .tv_sec = lab_scale(2, 5) };
	struct io_uring_sqe *sqe;
	struct uring_res res;
	struct cdev dev;
	struct rig rig;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_BAR, SIZE, CDEV_RING |
	       IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER);
	ASSERT_EQ(0, cdev_open(&dev, NEED_ENV("LAB_NG_MAIN"), rig.disk));
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, dev.fd));
	ASSERT_EQ(0, disk_fill(rig.disk, 0, MiB, 24));
	for (int i = 0; i < 4; i++) {
		ASSERT_EQ(0, bar_move(&rig.mem, i & 1 ? DMA_BUF_BAR_PLACE_A :
							DMA_BUF_BAR_PLACE_B));
		sqe = uring_sqe(&rig.ring);
		sqe->opcode = IORING_OP_TIMEOUT;
		sqe->fd = -1;
		sqe->addr = (uintptr_t)&ts;
		sqe->len = 1;
		sqe->user_data = 1;
		/* by a worker: what it completes finds somebody who waits */
		cdev_prep(&rig.ring, &dev, NVME_READ, NVME_URING_CMD_IO, 4096, 8192,
			  4096, 8192)->flags = IOSQE_ASYNC;
		ASSERT_EQ(2, uring_submit(&rig.ring, 2));
		ASSERT_EQ(0, uring_wait(&rig.ring, &res, 20000));
		EXPECT_EQ(0, res.user_data);
		EXPECT_EQ(0, res.res);
		ASSERT_EQ(0, uring_wait(&rig.ring, &res, 20000));
		EXPECT_EQ(1, res.user_data);
		EXPECT_EQ(NO_MISMATCH, mem_check(&rig.mem, 4096, 4096, 8192, 24));
	}
	close(dev.fd);
	rig_down(&rig);
}

TEST_HARNESS_MAIN
