// SPDX-License-Identifier: GPL-2.0
/*
 * Faults of stock code that I/O with dma-bufs runs into, and ordinary memory
 * does as well. Each has a fix of its own in the series.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <linux/dma-buf.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/nvme_ioctl.h>

#include "cdev.h"
#include "common.h"

/* --- a vector that reaches past the end of a block device --- */

#define PIECE	(8 * MiB)
#define NR	136		/* pieces: twice as much is over 2 GiB */

FIXTURE(end) {
	struct rig rig;
	char *plain;
	__u64 size;
};

FIXTURE_VARIANT(end) {
	__u16 slot;
};

FIXTURE_VARIANT_ADD(end, dmabuf) { 0 };
FIXTURE_VARIANT_ADD(end, plain) { 1 };

FIXTURE_SETUP(end)
{
	struct iovec iov = { .iov_len = PIECE };

	RIG_UP(&self->rig, "LAB_NVME_MAIN", MEM_UDMABUF, PIECE, 0);
	ASSERT_EQ(0, ioctl(self->rig.disk, BLKGETSIZE64, &self->size));
	ASSERT_EQ(0, lab_small_commands("LAB_NVME_MAIN", true));
	/* so few bio_vecs that the vector can be made */
	ASSERT_EQ(0, file_write("/proc/sys/vm/nr_hugepages", "8"));
	self->plain = mmap(NULL, PIECE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	ASSERT_NE(MAP_FAILED, self->plain);
	iov.iov_base = self->plain;
	ASSERT_EQ(0, reg_dmabuf(&self->rig.ring, 0, self->rig.mem.fd,
				self->rig.disk));
	ASSERT_EQ(1, reg_plain(&self->rig.ring, 1, &iov, NULL, 1));
}

FIXTURE_TEARDOWN(end)
{
	munmap(self->plain, PIECE);
	EXPECT_EQ(0, lab_small_commands("LAB_NVME_MAIN", false));
	EXPECT_EQ(0, file_write("/proc/sys/vm/nr_hugepages", "0"));
	rig_down(&self->rig);
}

/* As much as is left, however long the vector is, and however often issued */
TEST_F(end, vector_is_short)
{
	static const __u8 ops[] = {
		IORING_OP_READV_FIXED, IORING_OP_WRITEV_FIXED,
	};
	struct rig *rig = &self->rig;
	struct iovec iov[NR];

	for (unsigned int i = 0; i < NR; i++) {
		iov[i].iov_base = variant->slot ? self->plain : NULL;
		iov[i].iov_len = PIECE;
	}
	/* one command, then several: the second kind is always issued twice */
	for (__u64 rest = 4096; rest <= 9 * MiB; rest += 9 * MiB - 4096)
		for (unsigned int i = 0; i < 2; i++)
			EXPECT_EQ(rest, uring_rw(&rig->ring, ops[i], rig->disk,
						 self->size - rest,
						 (uintptr_t)iov, NR,
						 variant->slot));
}

/* --- a send that is cancelled by the failed request before it --- */

TEST(cancelled_send)
{
	static char plain[4096] __attribute__((aligned(4096)));
	static const int wanted[] = { 0, -EFAULT, -ECANCELED, -ECANCELED };
	struct iovec v = { plain, sizeof(plain) };
	struct io_uring_regbuf_desc d;
	struct rig rig;
	int s[2];

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_UDMABUF, 64 * KiB, 0);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	d = desc_dmabuf(rig.mem.fd, s[0]);
	d.flags = IO_REGBUF_DMABUF_COPY_OK;
	ASSERT_EQ(0, reg_one(&rig.ring, 0, &d));
	ASSERT_EQ(1, reg_plain(&rig.ring, 1, &v, NULL, 1));

	for (unsigned int i = 0; i < 8; i++) {
		unsigned int slot = i & 1, msg = i & 2, more = 0, notifs = 0;
		struct iovec iov = { slot ? plain : NULL, sizeof(plain) };
		struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
		struct io_uring_sqe *sqe;
		struct uring_res res;

		/* outside the buffer */
		sqe = uring_prep_rw(&rig.ring, IORING_OP_READ_FIXED, rig.disk, 0,
				    1ULL << 40, 512, 0);
		sqe->flags = IOSQE_IO_LINK | (i & 4 ? IOSQE_ASYNC : 0);
		sqe->user_data = 1;
		sqe = uring_sqe(&rig.ring);
		sqe->opcode = msg ? IORING_OP_SENDMSG_ZC : IORING_OP_SEND_ZC;
		sqe->fd = s[0];
		sqe->addr = msg ? (uintptr_t)&h : (uintptr_t)iov.iov_base;
		sqe->len = msg ? 1 : sizeof(plain);
		sqe->buf_index = slot;
		sqe->ioprio = IORING_RECVSEND_FIXED_BUF;
		sqe->user_data = 2;
		/* nothing comes after this */
		sqe->flags = IOSQE_IO_LINK;
		sqe = uring_sqe(&rig.ring);
		sqe->opcode = IORING_OP_NOP;
		sqe->user_data = 3;
		ASSERT_EQ(3, uring_submit(&rig.ring, 0));
		for (unsigned int done = 0; done < 4 || more > notifs; ) {
			ASSERT_EQ(0, uring_wait(&rig.ring, &res, 60000));
			if (res.flags & IORING_CQE_F_NOTIF) {
				EXPECT_EQ(2, res.user_data);
				notifs++;
				continue;
			}
			EXPECT_EQ(wanted[res.user_data], res.res);
			more += !!(res.flags & IORING_CQE_F_MORE);
			if (++done != 3)
				continue;
			/* one that nobody announced comes before this */
			sqe = uring_sqe(&rig.ring);
			sqe->opcode = IORING_OP_NOP;
			ASSERT_EQ(1, uring_submit(&rig.ring, 1));
		}
		while (uring_peek(&rig.ring, &res))
			notifs++;
		EXPECT_EQ(more, notifs) {
			TH_LOG("case %u: %u announced, %u came", i, more, notifs);
		}
	}
	close(s[0]);
	close(s[1]);
	rig_down(&rig);
}

/* --- a write past the end of a file that fails --- */

FIXTURE(append) {
	struct rig rig;
	char dev[64];
	bool mounted;
	int fd;
};

FIXTURE_VARIANT(append) {
	const char *mkfs, *options;
	__u64 size;		/* of the file */
	int dmabuf;		/* what a WRITE_FIXED gives */
};

FIXTURE_VARIANT_ADD(append, journal) {
	"", "data=journal", MiB, -EFAULT,
};

FIXTURE_VARIANT_ADD(append, inline_data) {
	"-O inline_data", "", 20, -EFAULT,
};

FIXTURE_VARIANT_ADD(append, inline_journal) {
	"-O inline_data", "data=journal", 20, -EFAULT,
};

/* these have direct I/O */
FIXTURE_VARIANT_ADD(append, nodelalloc) {
	"", "nodelalloc", MiB, 4096,
};

FIXTURE_VARIANT_ADD(append, delalloc) {
	"", "", MiB, 4096,
};

#define MNT	"/mnt/append"

FIXTURE_SETUP(append)
{
	char cmd[256], data[32] = "not empty";

	RIG_UP(&self->rig, "LAB_NVME_FS", MEM_UDMABUF, MiB, 0);
	snprintf(self->dev, sizeof(self->dev), "%sp3", lab_env("LAB_NVME_FS"));
	snprintf(cmd, sizeof(cmd), "mkfs.ext4 -q -F -b 4096 -I 256 %s %s",
		 variant->mkfs, self->dev);
	ASSERT_EQ(0, system(cmd));
	mkdir(MNT, 0700);
	ASSERT_EQ(0, mount(self->dev, MNT, "ext4", 0, variant->options));
	self->mounted = true;
	self->fd = open(MNT "/file", O_RDWR | O_CREAT, 0600);
	ASSERT_GE(self->fd, 0);
	ASSERT_EQ(20, write(self->fd, data, 20));
	ASSERT_EQ(0, ftruncate(self->fd, variant->size));
	ASSERT_EQ(0, reg_dmabuf(&self->rig.ring, 0, self->rig.mem.fd,
				self->rig.disk));
}

FIXTURE_TEARDOWN(append)
{
	close(self->fd);
	rig_down(&self->rig);
	/* the ring lets go of its files a little later */
	while (self->mounted && umount(MNT)) {
		ASSERT_EQ(EBUSY, errno);
		lab_sleep_ms(20);
	}
}

static long long size_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? -errno : st.st_size;
}

/* A buffered write from memory that is not there */
TEST_F(append, bad_address)
{
	char *none = mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	ASSERT_NE(MAP_FAILED, none);
	EXPECT_EQ(-1, pwrite(self->fd, none, 4096, 2 * MiB));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(variant->size, size_of(self->fd));
	/* within a block that is the last one, too */
	EXPECT_EQ(-1, pwrite(self->fd, none, 100, variant->size + 50));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(variant->size, size_of(self->fd));
	/* nothing is left of them: this is as if they had never been */
	EXPECT_EQ(0, fsync(self->fd));
	EXPECT_EQ(3, pwrite(self->fd, "end", 3, variant->size));
	EXPECT_EQ(0, fsync(self->fd));
	EXPECT_EQ(variant->size + 3, size_of(self->fd));
	munmap(none, 8192);
}

TEST_F(append, dmabuf)
{
	int fd = lab_open(MNT "/file");

	ASSERT_GE(fd, 0);
	EXPECT_EQ(variant->dmabuf,
		  uring_write(&self->rig.ring, fd, 2 * MiB, 0, 4096, 0));
	EXPECT_EQ(variant->dmabuf < 0 ? variant->size : 2 * MiB + 4096,
		  size_of(fd));
	close(fd);
}

/* --- passthrough commands that an interrupt completes, on rings that poll --- */

#define BATCH	64

FIXTURE(hybrid) {
	struct rig rig;
	struct cdev dev;
	char *plain;
};

FIXTURE_VARIANT(hybrid) {
	unsigned int flags;
	bool dmabuf;
};

FIXTURE_VARIANT_ADD(hybrid, plain) { 0, false };
FIXTURE_VARIANT_ADD(hybrid, plain_sqpoll) { IORING_SETUP_SQPOLL, false };
FIXTURE_VARIANT_ADD(hybrid, dmabuf) { 0, true };
FIXTURE_VARIANT_ADD(hybrid, dmabuf_sqpoll) { IORING_SETUP_SQPOLL, true };

FIXTURE_VARIANT_ADD(hybrid, dmabuf_defer) {
	IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER, true
};

FIXTURE_SETUP(hybrid)
{
	RIG_UP(&self->rig, "LAB_NVME_MAIN", MEM_UDMABUF, BATCH * 4 * KiB, 0);
	self->plain = aligned_alloc(4096, BATCH * 4 * KiB);
	ASSERT_NE(NULL, self->plain);
	ASSERT_EQ(0, cdev_open(&self->dev, NEED_ENV("LAB_NG_MAIN"),
			       self->rig.disk));
}

FIXTURE_TEARDOWN(hybrid)
{
	close(self->dev.fd);
	free(self->plain);
	rig_down(&self->rig);
}

/*
 * Each one ends, although they are so many that some have ended when the first
 * is polled. How long those took was mistaken for half a day and more when it was
 * the first batch of a ring.
 */
TEST_F(hybrid, batch)
{
	struct iovec iov = { self->plain, BATCH * 4 * KiB };
	struct mem *mem = &self->rig.mem;
	__u64 base = variant->dmabuf ? 0 : (uintptr_t)self->plain;
	unsigned int rounds = lab_scale(24, 8);

	for (unsigned int round = 0; round < rounds; round++) {
		struct uring_res res;
		struct uring ring;
		double start;

		ASSERT_EQ(0, disk_fill(self->rig.disk, 0, iov.iov_len, round));
		ASSERT_EQ(0, mem_poison(mem, 0, iov.iov_len, POISON));
		memset(self->plain, POISON, iov.iov_len);
		ASSERT_EQ(0, uring_init(&ring, BATCH, CDEV_RING | variant->flags |
					IORING_SETUP_IOPOLL |
					IORING_SETUP_HYBRID_IOPOLL));
		ASSERT_EQ(0, reg_sparse(&ring, 1));
		if (variant->dmabuf) {
			ASSERT_EQ(0, reg_dmabuf(&ring, 0, mem->fd, self->dev.fd));
		} else {
			ASSERT_EQ(1, reg_plain(&ring, 0, &iov, NULL, 1));
		}
		for (unsigned int i = 0; i < BATCH; i++)
			cdev_prep(&ring, &self->dev, NVME_READ,
				  NVME_URING_CMD_IO, 4096 * i, 4096,
				  base + 4096 * i, 4096);
		start = lab_now();
		ASSERT_EQ(BATCH, uring_submit(&ring, 0));
		for (unsigned int i = 0; i < BATCH; i++) {
			ASSERT_EQ(0, uring_wait(&ring, &res, 60000));
			ASSERT_EQ(0, res.res);
		}
		/* polling does not look at the time that it may wait */
		ASSERT_LE(lab_now() - start, lab_scale(10, 20));
		uring_exit(&ring);
		if (variant->dmabuf) {
			ASSERT_EQ(NO_MISMATCH, mem_check(mem, 0, 0, iov.iov_len,
							 round));
		} else {
			ASSERT_EQ(NO_MISMATCH, pattern_check(self->plain, 0,
							     iov.iov_len, round));
		}
	}
}

/* --- a file is truncated while a write makes it longer --- */

FIXTURE(cut) {
	struct rig rig;
	char path[160];
	char *plain;
};

FIXTURE_VARIANT(cut) {
	const char *env;
	__u16 slot;
};

FIXTURE_VARIANT_ADD(cut, ext4) { "LAB_EXT4", 0 };
FIXTURE_VARIANT_ADD(cut, ext4_plain) { "LAB_EXT4", 1 };
FIXTURE_VARIANT_ADD(cut, xfs) { "LAB_XFS", 0 };
FIXTURE_VARIANT_ADD(cut, xfs_plain) { "LAB_XFS", 1 };

FIXTURE_SETUP(cut)
{
	struct iovec iov = { .iov_len = 64 * KiB };

	RIG_UP(&self->rig, "LAB_NVME_FS", MEM_UDMABUF, 64 * KiB, 0);
	snprintf(self->path, sizeof(self->path), "%s/iou-dmabuf-cut",
		 NEED_ENV(variant->env));
	self->plain = aligned_alloc(4096, iov.iov_len);
	ASSERT_NE(NULL, self->plain);
	iov.iov_base = self->plain;
	ASSERT_EQ(0, reg_dmabuf(&self->rig.ring, 0, self->rig.mem.fd,
				self->rig.disk));
	ASSERT_EQ(1, reg_plain(&self->rig.ring, 1, &iov, NULL, 1));
	pattern_fill(self->plain, 0, iov.iov_len, 5);
	ASSERT_EQ(0, mem_fill(&self->rig.mem, 0, 0, iov.iov_len, 5));
}

FIXTURE_TEARDOWN(cut)
{
	unlink(self->path);
	rig_down(&self->rig);
	free(self->plain);
}

/* One of them is first: the file is as the other leaves it */
TEST_F(cut, while_it_grows)
{
	__u64 addr = variant->slot ? (uintptr_t)self->plain : 0;
	struct uring *ring = &self->rig.ring;
	unsigned int cut = 0, under_way = 0;

	/* until the write was on its way, or before a worker (ext4), eight times */
	for (unsigned int i = 0; i < 32 || under_way < 8; i++) {
		ASSERT_LT(i, 2000);
		struct uring_res res;
		struct stat st;
		int fd;

		unlink(self->path);
		fd = open(self->path, O_RDWR | O_DIRECT | O_CREAT | O_CLOEXEC,
			  0600);
		ASSERT_GE(fd, 0);
		/* nothing to allocate: the write is under way at once */
		ASSERT_EQ(0, fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, MiB));
		uring_prep_rw(ring, IORING_OP_WRITE_FIXED, fd, 0, addr, 64 * KiB,
			      variant->slot);
		ASSERT_EQ(1, uring_submit(ring, 0));
		under_way += !uring_ready(ring);
		ASSERT_EQ(0, ftruncate(fd, 8 * KiB));
		ASSERT_EQ(0, uring_wait(ring, &res, 60000));
		ASSERT_EQ(64 * KiB, res.res);

		ASSERT_EQ(0, fstat(fd, &st));
		ASSERT_EQ(NO_MISMATCH, disk_check(fd, 0, 0, st.st_size, 5));
		if (st.st_size == 8 * KiB) {
			/* no block is left behind the end */
			ASSERT_EQ(8 * KiB, st.st_blocks * 512);
			cut++;
		} else {
			ASSERT_EQ(64 * KiB, st.st_size);
		}
		ASSERT_EQ(0, ftruncate(fd, MiB));
		ASSERT_EQ(NO_MISMATCH,
			  disk_check_poison(fd, st.st_size, MiB - st.st_size, 0));
		close(fd);
	}
	TH_LOG("the write was first %u times, and on its way %u times", cut,
	       under_way);
}

/* --- a request that drains, behind one that completes lazily --- */

/* Who waits for both is told, although only the first CQE is under way when he begins */
TEST(drain_behind_a_read)
{
	struct io_uring_sqe *sqe;
	struct uring_res res;
	struct uring ring;
	int disk = NEED_DISK("LAB_NVME_MAIN");
	char *plain = aligned_alloc(4096, MiB);

	ASSERT_NE(NULL, plain);
	ASSERT_EQ(0, uring_init(&ring, 8, IORING_SETUP_SINGLE_ISSUER |
					  IORING_SETUP_DEFER_TASKRUN));
	ASSERT_EQ(0, disk_fill(disk, 0, MiB, 21));
	for (unsigned int i = 0; i < 20; i++) {
		double start = lab_now();

		memset(plain, POISON, MiB);
		uring_prep_rw(&ring, IORING_OP_READ, disk, 0, (uintptr_t)plain, MiB, 0)
			->user_data = 1;
		sqe = uring_sqe(&ring);
		sqe->opcode = IORING_OP_NOP;
		sqe->flags = IOSQE_IO_DRAIN;
		sqe->user_data = 2;
		ASSERT_EQ(2, uring_submit_for(&ring, 2, 60000));
		ASSERT_GT(30, lab_now() - start);
		for (unsigned int k = 1; k <= 2; k++) {
			ASSERT_EQ(1, uring_peek(&ring, &res));
			EXPECT_EQ(k, res.user_data);
			EXPECT_EQ(k == 1 ? (int)MiB : 0, res.res);
		}
		EXPECT_EQ(NO_MISMATCH, pattern_check(plain, 0, MiB, 21));
	}
	uring_exit(&ring);
	free(plain);
	close(disk);
}

/* --- a send of a part of a provided buffer --- */

/* The length is a limit, whoever provides the buffer */
TEST(part_of_a_provided_buffer)
{
	static char buf[4096], got[sizeof(buf)];
	struct io_uring_sqe *sqe;
	struct uring_res res;
	struct uring ring;
	int s[2];

	pattern_fill(buf, 0, sizeof(buf), 22);
	ASSERT_EQ(0, uring_init(&ring, 8, 0));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	/* less, all of it, more than there is, and no limit */
	for (unsigned int i = 0; i < 4; i++) {
		static const unsigned int wanted[] = { 100, 4096, 5000, 0 };
		int want = i ? (int)sizeof(buf) : 100;

		sqe = uring_sqe(&ring);
		sqe->opcode = IORING_OP_PROVIDE_BUFFERS;
		sqe->fd = 1;
		sqe->addr = (uintptr_t)buf;
		sqe->len = sizeof(buf);
		sqe->off = i;
		sqe->buf_group = 3;
		ASSERT_EQ(0, uring_do(&ring));
		sqe = uring_sqe(&ring);
		sqe->opcode = IORING_OP_SEND;
		sqe->flags = IOSQE_BUFFER_SELECT;
		sqe->fd = s[0];
		sqe->len = wanted[i];
		sqe->buf_group = 3;
		ASSERT_EQ(1, uring_submit(&ring, 1));
		ASSERT_EQ(1, uring_peek(&ring, &res));
		EXPECT_EQ(want, res.res);
		EXPECT_EQ(IORING_CQE_F_BUFFER | i << IORING_CQE_BUFFER_SHIFT, res.flags);
		ASSERT_EQ(want, recv(s[1], got, sizeof(got), MSG_WAITALL | MSG_DONTWAIT));
		EXPECT_EQ(NO_MISMATCH, pattern_check(got, 0, want, 22));
		EXPECT_EQ(-1, recv(s[1], got, 1, MSG_DONTWAIT));
	}
	close(s[0]);
	close(s[1]);
	uring_exit(&ring);
}

/* --- requests on a drive with metadata that become one command --- */

#define TOGETHER	(256 * KiB)

FIXTURE(merged) {
	struct uring ring;
	int disk;
	char *data;
};

FIXTURE_VARIANT(merged) {
	const char *env;
};

FIXTURE_VARIANT_ADD(merged, metadata) { "LAB_NVME_META" };
FIXTURE_VARIANT_ADD(merged, protection) { "LAB_NVME_PI" };

FIXTURE_SETUP(merged)
{
	struct iovec iov = { .iov_len = TOGETHER };

	self->disk = NEED_DISK(variant->env);
	self->data = aligned_alloc(4096, TOGETHER);
	ASSERT_NE(NULL, self->data);
	iov.iov_base = self->data;
	ASSERT_EQ(0, uring_init(&self->ring, 16, 0));
	ASSERT_EQ(0, reg_sparse(&self->ring, 1));
	ASSERT_EQ(1, reg_plain(&self->ring, 0, &iov, NULL, 1));
}

FIXTURE_TEARDOWN(merged)
{
	uring_exit(&self->ring);
	close(self->disk);
	free(self->data);
}

/*
 * Each brings metadata of its own length, somewhere in a page. Whether they become one
 * command is up to the drive: its metadata has to be allowed in pieces (QEMU 10).
 */
static int neighbours(struct uring *r, int disk, __u8 op, char *data)
{
	static const unsigned int blocks[] = { 8, 128, 1, 32, 8, 64, 2, 16 };
	unsigned int pos = 0;
	struct uring_res res;
	int ret;

	for (unsigned int i = 0; i < ARRAY_SIZE(blocks); i++) {
		uring_prep_rw(r, op, disk, pos, (uintptr_t)data + pos, blocks[i] * 512, 0)
			->user_data = i;
		pos += blocks[i] * 512;
	}
	/* in one go, so that they meet before they are issued */
	ret = uring_submit(r, ARRAY_SIZE(blocks));
	if (ret < 0)
		return ret;
	for (unsigned int i = 0; i < ARRAY_SIZE(blocks); i++) {
		ret = uring_wait(r, &res, 60000);
		if (ret)
			return ret;
		if (res.res != (int)blocks[res.user_data] * 512)
			return res.res < 0 ? res.res : -EIO;
	}
	return pos;
}

TEST_F(merged, neighbours)
{
	unsigned int len;

	ASSERT_EQ(0, disk_fill(self->disk, 0, TOGETHER, 11));
	memset(self->data, POISON, TOGETHER);
	len = neighbours(&self->ring, self->disk, IORING_OP_READ_FIXED, self->data);
	ASSERT_LT(0, (int)len);
	EXPECT_EQ(NO_MISMATCH, pattern_check(self->data, 0, len, 11));
	EXPECT_EQ(NO_MISMATCH, poison_check(self->data + len, TOGETHER - len, POISON));

	pattern_fill(self->data, 0, TOGETHER, 12);
	ASSERT_EQ(len, neighbours(&self->ring, self->disk, IORING_OP_WRITE_FIXED, self->data));
	EXPECT_EQ(NO_MISMATCH, disk_check(self->disk, 0, 0, len, 12));
	EXPECT_EQ(NO_MISMATCH, disk_check(self->disk, len, len, TOGETHER - len, 11));
}

/* --- two tasks that are the first to access a udmabuf by the CPU --- */

#define BUFFERS	1000

struct access {
	pthread_barrier_t both;
	int fd;
	int errors;
};

static void access_once(struct access *a)
{
	struct dma_buf_sync sync = { .flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW };
	int ret;

	pthread_barrier_wait(&a->both);
	ret = ioctl(a->fd, DMA_BUF_IOCTL_SYNC, &sync);
	sync.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW;
	ret = ioctl(a->fd, DMA_BUF_IOCTL_SYNC, &sync) ?: ret;
	if (ret)
		__atomic_add_fetch(&a->errors, 1, __ATOMIC_RELAXED);
	pthread_barrier_wait(&a->both);
}

static void *access_each(void *arg)
{
	for (unsigned int i = 0; i < BUFFERS; i++)
		access_once(arg);
	return NULL;
}

/* Both map it, and what is lost is in no count of ours: the log of a debug kernel has it */
TEST(udmabuf_accessed_by_two)
{
	struct access a = { 0 };
	pthread_t other;

	ASSERT_EQ(0, pthread_barrier_init(&a.both, NULL, 2));
	ASSERT_EQ(0, pthread_create(&other, NULL, access_each, &a));
	for (unsigned int i = 0; i < BUFFERS; i++) {
		struct mem m;

		ASSERT_EQ(0, mem_create(&m, MEM_UDMABUF, 4096));
		a.fd = m.fd;
		access_once(&a);
		mem_destroy(&m);
	}
	pthread_join(other, NULL);
	EXPECT_EQ(0, a.errors);
	pthread_barrier_destroy(&a.both);
}

TEST_HARNESS_MAIN
