// SPDX-License-Identifier: GPL-2.0
/* NVMe commands of our own making on the char device */
#include <sys/ioctl.h>
#include <linux/fs.h>
#include <linux/nvme_ioctl.h>

#include "common.h"

#define SIZE		(16 * MiB)
#define NVME_WRITE	1
#define NVME_READ	2

FIXTURE(pt) {
	struct rig rig;		/* disk: the block device, as witness */
	int ng;
	int nsid;
	int lba;		/* bytes of a logical block */
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
	       variant->flags | IORING_SETUP_SQE128 | IORING_SETUP_CQE32);
	self->ng = open(NEED_ENV(variant->ng), O_RDWR | O_CLOEXEC);
	ASSERT_GE(self->ng, 0);
	self->nsid = ioctl(self->ng, NVME_IOCTL_ID);
	ASSERT_GT(self->nsid, 0);
	ASSERT_EQ(0, ioctl(self->rig.disk, BLKSSZGET, &self->lba));
	ASSERT_EQ(0, reg_dmabuf(&self->rig.ring, 0, self->rig.mem.fd, self->ng));
}

FIXTURE_TEARDOWN(pt)
{
	rig_down(&self->rig);
	close(self->ng);
}

/* res of the CQE: 0, a positive NVMe status or -errno */
static int command(struct _test_data_pt *self, __u8 opcode, __u32 op,
		   __u64 off, __u32 bytes, __u64 addr, __u32 data_len)
{
	struct io_uring_sqe *sqe = uring_sqe(&self->rig.ring);
	struct nvme_uring_cmd *cmd = (void *)sqe->cmd;
	__u64 slba = off / self->lba;

	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = self->ng;
	sqe->cmd_op = op;
	sqe->uring_cmd_flags = IORING_URING_CMD_FIXED;
	sqe->buf_index = 0;
	cmd->opcode = opcode;
	cmd->nsid = self->nsid;
	cmd->addr = addr;
	cmd->data_len = data_len;
	cmd->cdw10 = slba;
	cmd->cdw11 = slba >> 32;
	cmd->cdw12 = bytes / self->lba - 1;
	return uring_do(&self->rig.ring);
}

static int io(struct _test_data_pt *self, __u8 opcode, __u64 off, __u64 addr,
	      __u32 len)
{
	return command(self, opcode, NVME_URING_CMD_IO, off, len, addr, len);
}

TEST_F(pt, read)
{
	static const __u32 lens[] = { 512, 4096, 12288, 64 * KiB, 128 * KiB };
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, disk_fill(rig->disk, 0, MiB, 21));
	for (unsigned int i = 0; i < 5; i++) {
		ASSERT_EQ(0, mem_poison(&rig->mem, 0, MiB, POISON));
		ASSERT_EQ(0, io(self, NVME_READ, 4096, 4 * i + 8192, lens[i]));
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
	ASSERT_EQ(0, io(self, NVME_WRITE, 4096, 512, 128 * KiB));
	ASSERT_EQ(0, io(self, NVME_WRITE, 256 * KiB, 4, 512));
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
	ASSERT_EQ(0, command(self, NVME_READ, NVME_URING_CMD_IO_VEC, 8192, len,
			     (uintptr_t)iov, 3));
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(NO_MISMATCH,
			  mem_check(&rig->mem, (uintptr_t)iov[i].iov_base,
				    8192 + at, iov[i].iov_len, 23));
		at += iov[i].iov_len;
	}
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&rig->mem, 4096, 60 * KiB, POISON));
	ASSERT_EQ(0, disk_poison(rig->disk, 0, MiB, POISON));
	ASSERT_EQ(0, command(self, NVME_WRITE, NVME_URING_CMD_IO_VEC, 0, len,
			     (uintptr_t)iov, 3));
	EXPECT_EQ(NO_MISMATCH, disk_check(rig->disk, 0, 8192, len, 23));
}

TEST_F(pt, bad_length)
{
	struct rig *rig = &self->rig;

	/* not a multiple of what the device can address */
	EXPECT_EQ(-EINVAL, command(self, NVME_READ, NVME_URING_CMD_IO, 0, 512, 0,
				   513));
	EXPECT_EQ(-EINVAL, command(self, NVME_READ, NVME_URING_CMD_IO, 0, 512, 2,
				   512));
	/* more than the controller takes in one command */
	EXPECT_EQ(-EINVAL, io(self, NVME_READ, 0, 0, SIZE));
	/* outside the buffer */
	EXPECT_EQ(-EFAULT, io(self, NVME_READ, 0, SIZE - 512, 1024));
	EXPECT_EQ(-EFAULT, io(self, NVME_READ, 0, -4096ULL, 8192));
	ASSERT_EQ(0, disk_fill(rig->disk, 0, 4096, 3));
	ASSERT_EQ(0, io(self, NVME_READ, 0, 0, 4096));
	EXPECT_EQ(NO_MISMATCH, mem_check(&rig->mem, 0, 0, 4096, 3));
}

/* The device's own refusal comes back as its status */
TEST_F(pt, device_error)
{
	int ret = io(self, NVME_READ, 1ULL << 50, 0, 4096);

	EXPECT_GT(ret, 0);
	ASSERT_EQ(0, io(self, NVME_READ, 0, 0, 4096));
}

/* Registered through the block device, used through the char device */
TEST_F(pt, same_device_other_file)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	ASSERT_EQ(0, disk_fill(rig->disk, 0, 64 * KiB, 24));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, MiB, POISON));
	ASSERT_EQ(0, io(self, NVME_READ, 0, 4096, 64 * KiB));
	EXPECT_EQ(NO_MISMATCH, mem_check(&rig->mem, 4096, 0, 64 * KiB, 24));
}

TEST_F(pt, not_a_target)
{
	struct rig *rig = &self->rig;
	int other = NEED_DISK("LAB_NVME_FS");

	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, other));
	EXPECT_EQ(-EBADF, io(self, NVME_READ, 0, 0, 4096));
}

TEST_F(pt, direction)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, self->ng);

	ASSERT_EQ(0, disk_poison(rig->disk, 0, 8192, POISON));
	d.flags = IO_REGBUF_DMABUF_RDONLY;
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &d));
	EXPECT_EQ(-EFAULT, io(self, NVME_READ, 0, 0, 4096));
	d.flags = IO_REGBUF_DMABUF_WRONLY;
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &d));
	EXPECT_EQ(-EFAULT, io(self, NVME_WRITE, 0, 0, 4096));
	EXPECT_EQ(NO_MISMATCH, disk_check_poison(rig->disk, 0, 8192, POISON));
}

TEST_HARNESS_MAIN
