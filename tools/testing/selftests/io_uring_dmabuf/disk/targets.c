// SPDX-License-Identifier: GPL-2.0
/* What a target can be: disks, partitions, multipath heads, files */
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <linux/fs.h>

#include "common.h"
#include "mix.h"

#define SIZE	(1 * MiB)
#define PAGE	4096

FIXTURE(target) {
	struct rig rig;
};

FIXTURE_SETUP(target)
{
	RIG_UP(&self->rig, "LAB_NVME_MAIN", MEM_UDMABUF, SIZE, 0);
}

FIXTURE_TEARDOWN(target)
{
	rig_down(&self->rig);
}

static int mixed_rounds(struct rig *rig, int fd, unsigned int rounds)
{
	struct mix mix;
	int ret = mix_init(&mix, rig, fd, 0, SIZE);

	while (!ret && rounds--) {
		ret = mix_round(&mix, 16);
		if (!ret)
			ret = mix_verify(&mix);
	}
	mix_free(&mix);
	return ret;
}

TEST_F(target, partition)
{
	struct rig *rig = &self->rig;
	int p3 = NEED_PART(3);

	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, p3));
	ASSERT_EQ(0, rig_works(rig, p3, 0));
	ASSERT_EQ(0, mixed_rounds(rig, p3, 4));
}

/* A slot belongs to the device: other partitions of it are fine, too */
TEST_F(target, partition_or_disk)
{
	struct rig *rig = &self->rig;
	int p3 = NEED_PART(3), disk = NEED_DISK("LAB_NVME_FS");

	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, disk));
	ASSERT_EQ(0, rig_works(rig, p3, 0));
}

TEST_F(target, end_of_the_device)
{
	struct rig *rig = &self->rig;
	int p3 = NEED_PART(3);
	char *buf = aligned_alloc(4096, 8192);
	__u64 end;

	ASSERT_EQ(0, ioctl(p3, BLKGETSIZE64, &end));
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, p3));
	ASSERT_EQ(0, disk_fill(p3, end - 4096, 4096, 9));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	/* what an ordinary read says is right */
	ASSERT_EQ(4096, pread(p3, buf, 8192, end - 4096));
	EXPECT_EQ(4096, uring_read(&rig->ring, p3, end - 4096, 0, 8192, 0));
	EXPECT_EQ(NO_MISMATCH, mem_check_only(&rig->mem, 0, end - 4096, 4096, 9));
	EXPECT_EQ(0, uring_read(&rig->ring, p3, end, 0, 4096, 0));
	EXPECT_EQ(-ENOSPC, uring_write(&rig->ring, p3, end, 0, 4096, 0));
	free(buf);
}

static int set_iopolicy(const char *disk, const char *policy)
{
	char path[160];

	snprintf(path, sizeof(path), "/sys/block/%s/device/iopolicy",
		 strrchr(disk, '/') + 1);
	return file_write(path, policy);
}

/* Both controllers are leaf devices; both see requests */
TEST_F(target, multipath)
{
	struct rig *rig = &self->rig;
	const char *path = NEED_ENV("LAB_NVME_MP");
	int mp = NEED_DISK("LAB_NVME_MP");
	struct io_uring_query_regbuf_map q;

	ASSERT_EQ(0, set_iopolicy(path, "round-robin"));
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, mp));
	ASSERT_EQ(0, rig_works(rig, mp, 0));
	ASSERT_EQ(0, mixed_rounds(rig, mp, 4));
	for (unsigned int i = 0; i < 2; i++) {
		ASSERT_EQ(0, query_map(&rig->ring, 0, i, &q));
		EXPECT_EQ(2, q.nr_targets);
		EXPECT_GT(q.hits, 0);
		TH_LOG("path %u: %s, %llu hits", i, q.device, q.hits);
	}
	ASSERT_EQ(0, set_iopolicy(path, "numa"));
	ASSERT_EQ(0, rig_works(rig, mp, 0));
}

/* One slot for two drives and everything on them, at the same time */
TEST_F(target, group)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, rig->disk);
	int p3 = NEED_PART(3);
	struct uring_res res;

	d.targets = (uintptr_t)&p3;
	d.nr_targets = 1;
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &d));
	ASSERT_EQ(0, disk_fill(rig->disk, 0, SIZE, 31));
	ASSERT_EQ(0, disk_fill(p3, 0, SIZE, 32));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	for (int i = 0; i < 32; i++)
		uring_prep_rw(&rig->ring, IORING_OP_READ_FIXED,
			      i & 1 ? p3 : rig->disk, i * 32 * KiB, i * 32 * KiB,
			      32 * KiB, 0);
	ASSERT_EQ(32, uring_submit(&rig->ring, 0));
	for (int i = 0; i < 32; i++) {
		ASSERT_EQ(0, uring_wait(&rig->ring, &res, 10000));
		EXPECT_EQ(32 * KiB, res.res);
	}
	for (int i = 0; i < 32; i++) {
		EXPECT_EQ(NO_MISMATCH, mem_check(&rig->mem, i * 32 * KiB,
						 i * 32 * KiB, 32 * KiB,
						 31 + (i & 1)));
	}
}

/* From one drive to the other without the data passing by */
TEST_F(target, copy_between_drives)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, rig->disk);
	int p3 = NEED_PART(3);

	d.targets = (uintptr_t)&p3;
	d.nr_targets = 1;
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &d));
	ASSERT_EQ(0, disk_fill(rig->disk, 0, SIZE, 33));
	ASSERT_EQ(0, disk_poison(p3, 4 * MiB, SIZE, POISON));
	ASSERT_EQ(SIZE, uring_read(&rig->ring, rig->disk, 0, 0, SIZE, 0));
	ASSERT_EQ(SIZE, uring_write(&rig->ring, p3, 4 * MiB, 0, SIZE, 0));
	EXPECT_EQ(NO_MISMATCH, disk_check(p3, 4 * MiB, 0, SIZE, 33));
}

/* --- files --- */

FIXTURE(file) {
	struct rig rig;
	int fd;
	char path[160];
};

FIXTURE_VARIANT(file) {
	const char *env;
};

FIXTURE_VARIANT_ADD(file, ext4) { .env = "LAB_EXT4" };
FIXTURE_VARIANT_ADD(file, xfs) { .env = "LAB_XFS" };

FIXTURE_SETUP(file)
{
	self->fd = -1;
	RIG_UP(&self->rig, "LAB_NVME_FS", MEM_UDMABUF, SIZE, 0);
	snprintf(self->path, sizeof(self->path), "%s/iou-dmabuf-test",
		 NEED_ENV(variant->env));
	unlink(self->path);
	self->fd = open(self->path, O_RDWR | O_DIRECT | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_GE(self->fd, 0);
	ASSERT_EQ(0, reg_dmabuf(&self->rig.ring, 0, self->rig.mem.fd, self->fd));
}

FIXTURE_TEARDOWN(file)
{
	if (self->fd >= 0) {
		close(self->fd);
		unlink(self->path);
	}
	rig_down(&self->rig);
}

TEST_F(file, overwrite_and_read)
{
	ASSERT_EQ(0, disk_fill(self->fd, 0, SIZE, 1));
	ASSERT_EQ(0, rig_works(&self->rig, self->fd, 0));
	ASSERT_EQ(0, mixed_rounds(&self->rig, self->fd, 4));
}

static bool stay_clean;

static void *keep_dirty(void *page)
{
	while (!__atomic_load_n(&stay_clean, __ATOMIC_RELAXED))
		__atomic_add_fetch((char *)page, 1, __ATOMIC_RELAXED);
	return NULL;
}

/*
 * Somebody writes to the first page of @fd by a mapping: now and then that page of
 * the cache is dirty again before it can be dropped, which makes a write of anything
 * else buffered.
 */
static void page_cache_in_use(struct __test_metadata *_metadata,
			      struct rig *rig, int fd)
{
	unsigned int busy = 0;
	pthread_t thread;
	char *page;

	ASSERT_EQ(0, disk_fill(fd, 0, 2 * PAGE, 1));
	ASSERT_EQ(0, mem_fill(&rig->mem, 0, 0, 2 * PAGE, 2));
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, page);
	stay_clean = false;
	ASSERT_EQ(0, pthread_create(&thread, NULL, keep_dirty, page));
	for (unsigned int i = 0; !busy; i++) {
		int ret = uring_write(&rig->ring, fd, 0, 0, 2 * PAGE, 0);

		if (ret == -EBUSY)
			busy++;
		else
			ASSERT_EQ(2 * PAGE, ret);
		ASSERT_LT(i, 100000);
	}
	__atomic_store_n(&stay_clean, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	ASSERT_EQ(0, munmap(page, PAGE));
	/* that the two did meet is told to whoever asks */
	if (fsync(fd))
		ASSERT_EQ(EIO, errno);
	ASSERT_EQ(2 * PAGE, uring_write(&rig->ring, fd, 0, 0, 2 * PAGE, 0));
	ASSERT_EQ(NO_MISMATCH, disk_check(fd, 0, 0, 2 * PAGE, 2));
}

TEST_F(file, page_cache_in_use)
{
	page_cache_in_use(_metadata, &self->rig, self->fd);
}

/* The file system is mounted anew, which is when it asks if the device needs that */
static int need_stable_data(bool xfs, const char *dir, bool on)
{
	const char *disk = lab_env("LAB_NVME_FS");
	char queue[128], part[80];
	int ret;

	snprintf(queue, sizeof(queue), "/sys/block/%s/queue/stable_writes",
		 strrchr(disk, '/') + 1);
	snprintf(part, sizeof(part), "%sp%u", disk, xfs ? 2 : 1);
	ret = file_write(queue, on ? "1" : "0");
	/* <sys/mount.h> and <linux/fs.h> do not go together */
	if (!ret && (syscall(SYS_umount2, dir, 0) ||
		     syscall(SYS_mount, part, dir, xfs ? "xfs" : "ext4", 0, NULL)))
		ret = -errno;
	return ret;
}

/* Data that nobody changes meanwhile: XFS would copy it */
TEST_F(file, stable_writes)
{
	bool xfs = !strcmp(variant->env, "LAB_XFS");
	int err = xfs ? -EOPNOTSUPP : 0;
	struct rig *rig = &self->rig;

	close(self->fd);
	unlink(self->path);
	ASSERT_EQ(0, need_stable_data(xfs, lab_env(variant->env), true));
	self->fd = open(self->path, O_RDWR | O_DIRECT | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_GE(self->fd, 0);
	ASSERT_EQ(0, disk_fill(self->fd, 0, SIZE, 1));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	EXPECT_EQ(err ?: PAGE, uring_read(&rig->ring, self->fd, 0, 0, PAGE, 0));
	EXPECT_EQ(err ?: PAGE, uring_write(&rig->ring, self->fd, 0, 0, PAGE, 0));
	EXPECT_EQ(err ?: 512, uring_write(&rig->ring, self->fd, SIZE, 0, 512, 0));
	if (err) {
		EXPECT_EQ(NO_MISMATCH,
			  mem_check_poison(&rig->mem, 0, SIZE, POISON));
		EXPECT_EQ(NO_MISMATCH, disk_check(self->fd, 0, 0, SIZE, 1));
		EXPECT_EQ(SIZE, lseek(self->fd, 0, SEEK_END));
	}
	close(self->fd);
	self->fd = -1;
	unlink(self->path);
	ASSERT_EQ(0, need_stable_data(xfs, lab_env(variant->env), false));
}

TEST(page_cache_of_a_disk_in_use)
{
	struct rig rig;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_UDMABUF, SIZE, 0);
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk));
	page_cache_in_use(_metadata, &rig, rig.disk);
	rig_down(&rig);
}

TEST_F(file, extending_write)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, mem_fill(&rig->mem, 0, 0, SIZE, 7));
	for (__u64 off = 0; off < SIZE; off += 128 * KiB) {
		ASSERT_EQ(128 * KiB, uring_write(&rig->ring, self->fd, off, off,
						 128 * KiB, 0));
	}
	EXPECT_EQ(SIZE, lseek(self->fd, 0, SEEK_END));
	EXPECT_EQ(NO_MISMATCH, disk_check(self->fd, 0, 0, SIZE, 7));
}

TEST_F(file, append)
{
	struct rig *rig = &self->rig;
	int fd = open(self->path, O_RDWR | O_DIRECT | O_APPEND | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, mem_fill(&rig->mem, 0, 0, SIZE, 8));
	for (__u64 off = 0; off < 256 * KiB; off += 64 * KiB) {
		ASSERT_EQ(64 * KiB, uring_write(&rig->ring, fd, 0, off, 64 * KiB, 0));
	}
	EXPECT_EQ(256 * KiB, lseek(fd, 0, SEEK_END));
	EXPECT_EQ(NO_MISMATCH, disk_check(fd, 0, 0, 256 * KiB, 8));
	close(fd);
}

TEST_F(file, preallocated)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, fallocate(self->fd, 0, 0, SIZE));
	ASSERT_EQ(0, mem_fill(&rig->mem, 0, 0, SIZE, 9));
	ASSERT_EQ(256 * KiB, uring_write(&rig->ring, self->fd, 128 * KiB,
					 128 * KiB, 256 * KiB, 0));
	EXPECT_EQ(NO_MISMATCH, disk_check(self->fd, 128 * KiB, 128 * KiB,
					  256 * KiB, 9));
	EXPECT_EQ(NO_MISMATCH, disk_check_poison(self->fd, 0, 128 * KiB, 0));
	EXPECT_EQ(NO_MISMATCH, disk_check_poison(self->fd, 384 * KiB, 128 * KiB, 0));
}

TEST_F(file, write_into_a_hole)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, ftruncate(self->fd, SIZE));
	ASSERT_EQ(0, mem_fill(&rig->mem, 0, 0, SIZE, 10));
	ASSERT_EQ(64 * KiB, uring_write(&rig->ring, self->fd, 512 * KiB, 0,
					64 * KiB, 0));
	EXPECT_EQ(NO_MISMATCH, disk_check(self->fd, 512 * KiB, 0, 64 * KiB, 10));
	EXPECT_EQ(NO_MISMATCH, disk_check_poison(self->fd, 0, 512 * KiB, 0));
}

/*
 * No device is asked for the bytes of a hole. Zeroes in memory and success, or
 * EOPNOTSUPP; never success with memory that nobody wrote.
 */
static void read_hole(struct __test_metadata *_metadata, struct rig *rig,
		      int fd)
{
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	EXPECT_EQ(-EOPNOTSUPP, uring_read(&rig->ring, fd, 0, 0, 64 * KiB, 0));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&rig->mem, 0, SIZE, POISON));
}

TEST_F(file, read_a_hole)
{
	ASSERT_EQ(0, ftruncate(self->fd, SIZE));
	read_hole(_metadata, &self->rig, self->fd);
}

TEST_F(file, read_unwritten)
{
	ASSERT_EQ(0, fallocate(self->fd, 0, 0, SIZE));
	read_hole(_metadata, &self->rig, self->fd);
}

TEST_F(file, read_data_then_hole)
{
	struct io_uring_query_regbuf_map before, after;
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, disk_fill(self->fd, 0, 64 * KiB, 12));
	ASSERT_EQ(0, ftruncate(self->fd, SIZE));
	for (int i = 0; i < 8; i++) {
		ASSERT_EQ(0, query_map(&rig->ring, 0, 0, &before));
		EXPECT_EQ(-EOPNOTSUPP, uring_read(&rig->ring, self->fd, 0, 0,
						  128 * KiB, 0));
		ASSERT_EQ(0, query_map(&rig->ring, 0, 0, &after));
		/* once without waiting, once more from a worker: no oftener */
		EXPECT_LE(after.hits - before.hits, 2);
	}
	EXPECT_EQ(64 * KiB, uring_read(&rig->ring, self->fd, 0, 0, 64 * KiB, 0));
	EXPECT_EQ(NO_MISMATCH, mem_check(&rig->mem, 0, 0, 64 * KiB, 12));
}

TEST_F(file, tail_of_the_file)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, disk_fill(self->fd, 0, 16 * KiB, 13));
	ASSERT_EQ(0, ftruncate(self->fd, 9000));
	ASSERT_EQ(0, fsync(self->fd));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	EXPECT_EQ(9000, uring_read(&rig->ring, self->fd, 0, 4096, 64 * KiB, 0));
	EXPECT_EQ(NO_MISMATCH, mem_check(&rig->mem, 4096, 0, 9000, 13));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&rig->mem, 0, 4096, POISON));
	/* the rest of the last block may be written, nothing behind it */
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&rig->mem, 4096 + 12 * KiB,
						SIZE - 16 * KiB, POISON));
	EXPECT_EQ(808, uring_read(&rig->ring, self->fd, 8192, 0, 4096, 0));
	EXPECT_EQ(0, uring_read(&rig->ring, self->fd, 12 * KiB, 0, 4096, 0));
}

TEST_F(file, fragmented_extents)
{
	struct rig *rig = &self->rig;

	/* every second 8 KiB written first: extents alternate */
	for (__u64 off = 0; off < 256 * KiB; off += 16 * KiB) {
		ASSERT_EQ(0, disk_fill(self->fd, off, 8 * KiB, 14));
	}
	ASSERT_EQ(0, fsync(self->fd));
	for (__u64 off = 8 * KiB; off < 256 * KiB; off += 16 * KiB) {
		ASSERT_EQ(0, disk_fill(self->fd, off, 8 * KiB, 14));
	}
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	ASSERT_EQ(256 * KiB, uring_read(&rig->ring, self->fd, 0, 4096, 256 * KiB, 0));
	EXPECT_EQ(NO_MISMATCH, mem_check_only(&rig->mem, 4096, 0, 256 * KiB, 14));
	ASSERT_EQ(0, rig_write(rig, self->fd, 0, 4096, 0, 200 * KiB));
}

TEST_F(file, dsync_write)
{
	int fd = open(self->path, O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, disk_fill(fd, 0, SIZE, 1));
	ASSERT_EQ(0, rig_works(&self->rig, fd, 0));
	close(fd);
}

/* Copy-on-write: the clone is written, the original stays */
TEST_F(file, write_to_a_reflink)
{
	struct rig *rig = &self->rig;
	char path[200];
	int fd;

	ASSERT_EQ(0, disk_fill(self->fd, 0, 256 * KiB, 15));
	ASSERT_EQ(0, fsync(self->fd));
	snprintf(path, sizeof(path), "%s.clone", self->path);
	fd = open(path, O_RDWR | O_DIRECT | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ASSERT_GE(fd, 0);
	unlink(path);
	if (ioctl(fd, FICLONE, self->fd)) {
		EXPECT_STREQ("LAB_EXT4", variant->env);
		close(fd);
		return;
	}
	ASSERT_EQ(0, rig_write(rig, fd, 0, 64 * KiB, 0, 64 * KiB));
	EXPECT_EQ(NO_MISMATCH, disk_check(self->fd, 0, 0, 256 * KiB, 15));
	close(fd);
}

TEST_F(file, buffered)
{
	int fd = open(self->path, O_RDWR | O_CLOEXEC);
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, fd);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, disk_fill(self->fd, 0, SIZE, 17));
	EXPECT_EQ(-EINVAL, reg_one(&rig->ring, 1, &d));
	EXPECT_EQ(-EINVAL, uring_read(&rig->ring, fd, 0, 0, 4096, 0));
	EXPECT_EQ(-EINVAL, uring_write(&rig->ring, fd, 0, 0, 4096, 0));
	EXPECT_EQ(NO_MISMATCH, disk_check(self->fd, 0, 0, SIZE, 17));
	close(fd);
}

/* The slot of one drive used through a file on another */
TEST_F(file, of_another_device)
{
	struct rig *rig = &self->rig;
	int disk = NEED_DISK("LAB_NVME_MAIN");

	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 1, rig->mem.fd, disk));
	ASSERT_EQ(0, disk_fill(self->fd, 0, 64 * KiB, 18));
	EXPECT_EQ(-EBADF, uring_read(&rig->ring, self->fd, 0, 0, 4096, 1));
	EXPECT_EQ(-EBADF, uring_write(&rig->ring, self->fd, 0, 0, 4096, 1));
	EXPECT_EQ(NO_MISMATCH, disk_check(self->fd, 0, 0, 64 * KiB, 18));
}

TEST_HARNESS_MAIN
