// SPDX-License-Identifier: GPL-2.0
/*
 * Requests that are refused: the exact errno, no byte touched, and the slot
 * works as before.
 */
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <linux/dma-heap.h>

#include "common.h"

#define SIZE		(256 * KiB)

FIXTURE(io) {
	struct rig rig;
	struct io_uring_regbuf_desc desc;	/* what slots 0 and 1 hold */
};

FIXTURE_SETUP(io)
{
	struct rig *rig = &self->rig;

	RIG_UP(rig, "LAB_NVME_MAIN", MEM_UDMABUF, SIZE, 0);
	self->desc = desc_dmabuf(rig->mem.fd, rig->disk);
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &self->desc));
	ASSERT_EQ(0, reg_one(&rig->ring, 1, &self->desc));
}

FIXTURE_TEARDOWN(io)
{
	rig_down(&self->rig);
}

static int table_intact(struct rig *rig)
{
	int ret = rig_read(rig, rig->disk, 0, 0, 0, 4096);

	return ret ?: rig_write(rig, rig->disk, 1, 8192, 4096, 4096);
}

TEST_F(io, to_another_device)
{
	int p3 = NEED_PART(3);

	EXPECT_EQ(-EBADF, uring_read(&self->rig.ring, p3, 0, 0, 4096, 0));
	EXPECT_EQ(-EBADF, uring_write(&self->rig.ring, p3, 0, 0, 4096, 0));
	ASSERT_EQ(0, table_intact(&self->rig));
}

TEST_F(io, to_something_else)
{
	int fds[2], tmp = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	struct uring *r = &self->rig.ring;

	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ(0, ftruncate(tmp, 8192));
	EXPECT_EQ(-EBADF, uring_write(r, fds[1], -1ULL, 0, 4096, 0));
	EXPECT_EQ(-EBADF, uring_read(r, tmp, 0, 0, 4096, 0));
	EXPECT_EQ(-EBADF, uring_write(r, tmp, 0, 0, 4096, 0));
	ASSERT_EQ(0, table_intact(&self->rig));
}

TEST_F(io, outside_the_buffer)
{
	struct uring *r = &self->rig.ring;
	int disk = self->rig.disk;

	EXPECT_EQ(-EFAULT, uring_read(r, disk, 0, SIZE, 512, 0));
	EXPECT_EQ(-EFAULT, uring_read(r, disk, 0, SIZE - 512, 1024, 0));
	EXPECT_EQ(-EFAULT, uring_write(r, disk, 0, 0, SIZE + 512, 0));
	EXPECT_EQ(-EFAULT, uring_read(r, disk, 0, -4096ULL, 8192, 0));
	EXPECT_EQ(-EFAULT, uring_read(r, disk, 0, -512ULL, 512, 0));
	EXPECT_EQ(-EFAULT, uring_read(r, disk, 0, 1ULL << 63, 512, 0));
	EXPECT_EQ(-EFAULT, uring_read(r, disk, 0, 0, 0x7ffff000, 0));
	ASSERT_EQ(0, table_intact(&self->rig));
}

TEST_F(io, outside_the_buffer_vectored)
{
	struct iovec iov[2] = {
		{ .iov_base = NULL, .iov_len = 4096 },
		{ .iov_base = (void *)(SIZE - 512), .iov_len = 1024 },
	};
	struct uring *r = &self->rig.ring;
	int disk = self->rig.disk;

	EXPECT_EQ(-EFAULT, uring_rw(r, IORING_OP_READV_FIXED, disk, 0,
				    (uintptr_t)iov, 2, 0));
	EXPECT_EQ(-EFAULT, uring_rw(r, IORING_OP_WRITEV_FIXED, disk, 0,
				    (uintptr_t)iov, 2, 0));
	iov[1].iov_base = (void *)-512UL;
	EXPECT_EQ(-EFAULT, uring_rw(r, IORING_OP_READV_FIXED, disk, 0,
				    (uintptr_t)iov, 2, 0));
	ASSERT_EQ(0, table_intact(&self->rig));
}

TEST_F(io, unaligned)
{
	struct uring *r = &self->rig.ring;
	int disk = self->rig.disk;

	EXPECT_EQ(-EINVAL, uring_read(r, disk, 0, 0, 511, 0));
	EXPECT_EQ(-EINVAL, uring_read(r, disk, 100, 0, 512, 0));
	EXPECT_EQ(-EINVAL, uring_write(r, disk, 0, 0, 4097, 0));
	EXPECT_EQ(-EINVAL, uring_write(r, disk, 1, 0, 4096, 0));
	/* dma_alignment of NVMe: 4 bytes */
	EXPECT_EQ(-EINVAL, uring_read(r, disk, 0, 2, 4096, 0));
	EXPECT_EQ(-EINVAL, uring_write(r, disk, 0, 1, 512, 0));
	ASSERT_EQ(0, table_intact(&self->rig));
}

TEST_F(io, buffered)
{
	int fd = open(lab_env("LAB_NVME_MAIN"), O_RDWR | O_CLOEXEC);
	struct uring *r = &self->rig.ring;

	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, mem_poison(&self->rig.mem, 0, SIZE, POISON));
	EXPECT_EQ(-EINVAL, uring_read(r, fd, 0, 0, 4096, 0));
	EXPECT_EQ(-EINVAL, uring_write(r, fd, 0, 0, 4096, 0));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&self->rig.mem, 0, SIZE, POISON));
	close(fd);
	ASSERT_EQ(0, table_intact(&self->rig));
}

/* User space loses O_DIRECT from a target after registration */
TEST_F(io, after_o_direct_is_cleared)
{
	int fd = dup(self->rig.disk);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, fcntl(fd, F_SETFL, 0));
	EXPECT_EQ(-EINVAL, uring_read(&self->rig.ring, fd, 0, 0, 4096, 0));
	ASSERT_EQ(0, fcntl(fd, F_SETFL, O_DIRECT));
	close(fd);
	ASSERT_EQ(0, table_intact(&self->rig));
}

/* Opcodes that take memory must not take the offset for an address */
TEST_F(io, other_opcodes)
{
	struct uring *r = &self->rig.ring;
	struct uring_res res;
	int sock[2];

	EXPECT_EQ(-EFAULT, uring_rw(r, IORING_OP_READ, self->rig.disk, 0, 4096,
				    4096, 0));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	uring_prep_rw(r, IORING_OP_SEND_ZC, sock[0], 0, 0, 512, 0)->ioprio =
		IORING_RECVSEND_FIXED_BUF;
	ASSERT_EQ(1, uring_submit(r, 1));
	ASSERT_EQ(0, uring_wait(r, &res, 5000));
	EXPECT_EQ(-EOPNOTSUPP, res.res);
	if (res.flags & IORING_CQE_F_MORE) {
		/* the notification */
		ASSERT_EQ(0, uring_wait(r, &res, 5000));
	}
	ASSERT_EQ(0, table_intact(&self->rig));
}

TEST_F(io, direction_given)
{
	struct uring *r = &self->rig.ring;
	struct io_uring_regbuf_desc d = self->desc;
	int disk = self->rig.disk;

	d.flags = IO_REGBUF_DMABUF_RDONLY;
	ASSERT_EQ(0, reg_one(r, 2, &d));
	d.flags = IO_REGBUF_DMABUF_WRONLY;
	ASSERT_EQ(0, reg_one(r, 3, &d));
	ASSERT_EQ(0, rig_write(&self->rig, disk, 2, 0, 0, 4096));
	ASSERT_EQ(0, rig_read(&self->rig, disk, 3, 0, 0, 4096));
	ASSERT_EQ(0, mem_poison(&self->rig.mem, 0, SIZE, POISON));
	ASSERT_EQ(0, disk_poison(disk, 0, 8192, 0x11));
	EXPECT_EQ(-EFAULT, uring_read(r, disk, 0, 0, 4096, 2));
	EXPECT_EQ(-EFAULT, uring_write(r, disk, 0, 0, 4096, 3));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&self->rig.mem, 0, SIZE, POISON));
	EXPECT_EQ(NO_MISMATCH, disk_check_poison(disk, 0, 8192, 0x11));
	ASSERT_EQ(0, table_intact(&self->rig));
}

static int heap_fd(int mode)
{
	struct dma_heap_allocation_data data = {
		.len = SIZE,
		.fd_flags = mode | O_CLOEXEC,
	};
	int dev = open("/dev/dma_heap/system", O_RDWR | O_CLOEXEC);
	int ret;

	if (dev < 0)
		return -errno;
	ret = ioctl(dev, DMA_HEAP_IOCTL_ALLOC, &data) ? -errno : (int)data.fd;
	close(dev);
	return ret;
}

/* What the fd was not opened for is not granted, given or not */
TEST_F(io, direction_of_a_read_only_fd)
{
	struct io_uring_regbuf_desc d = self->desc;
	struct uring *r = &self->rig.ring;
	struct io_uring_query_regbuf_map q;
	int fd = heap_fd(O_RDONLY);

	if (fd == -ENOENT)
		SKIP(return, "no system heap");
	ASSERT_GE(fd, 0);
	d.dmabuf_fd = fd;
	d.flags = IO_REGBUF_DMABUF_WRONLY;
	EXPECT_EQ(-EACCES, reg_one(r, 1, &d));
	d.flags = 0;
	ASSERT_EQ(0, reg_one(r, 2, &d));
	ASSERT_EQ(0, query_map(r, 2, 0, &q));
	EXPECT_EQ(IO_REGBUF_DMABUF_RDONLY, q.flags);
	EXPECT_EQ(-EFAULT, uring_read(r, self->rig.disk, 0, 0, 4096, 2));
	EXPECT_EQ(4096, uring_write(r, self->rig.disk, 0, 0, 4096, 2));
	EXPECT_EQ(NO_MISMATCH, disk_check_poison(self->rig.disk, 0, 4096, 0));
	close(fd);
}

TEST_F(io, direction_of_a_write_only_fd)
{
	struct io_uring_regbuf_desc d = self->desc;
	struct uring *r = &self->rig.ring;
	int fd = heap_fd(O_WRONLY);

	if (fd == -ENOENT)
		SKIP(return, "no system heap");
	ASSERT_GE(fd, 0);
	d.dmabuf_fd = fd;
	d.flags = IO_REGBUF_DMABUF_RDONLY;
	EXPECT_EQ(-EACCES, reg_one(r, 1, &d));
	d.flags = 0;
	ASSERT_EQ(0, reg_one(r, 2, &d));
	EXPECT_EQ(-EFAULT, uring_write(r, self->rig.disk, 0, 0, 4096, 2));
	EXPECT_EQ(4096, uring_read(r, self->rig.disk, 0, 0, 4096, 2));
	close(fd);
}

TEST_F(io, empty_slot)
{
	EXPECT_EQ(-EFAULT, uring_read(&self->rig.ring, self->rig.disk, 0, 0, 4096, 6));
	EXPECT_EQ(-EFAULT, uring_read(&self->rig.ring, self->rig.disk, 0, 0, 4096,
				      RIG_SLOTS));
}

TEST_HARNESS_MAIN
