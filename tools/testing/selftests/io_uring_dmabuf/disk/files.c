// SPDX-License-Identifier: GPL-2.0
/*
 * Files whose data the CPU reads or writes on its way: encrypted ones, those with
 * verity, and DAX, which has no block layer below it; and those whose data is not
 * where the file system is. They are no targets. Nor are
 * they read or written by a slot that another file of the same disk is a target of.
 */
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <linux/fs.h>

#include "common.h"
#include "fileattr.h"

#define SIZE	(64 * KiB)
#define LEN	4096
#define SEED	4200

FIXTURE(files) {
	struct rig rig;
	char dir[96], path[128];
	bool mounted;
};

FIXTURE_SETUP(files)
{
	RIG_UP(&self->rig, "LAB_NVME_FS", MEM_UDMABUF, SIZE, 0);
	snprintf(self->dir, sizeof(self->dir), "%s/files", NEED_ENV("LAB_EXT4"));
	snprintf(self->path, sizeof(self->path), "%s/file", self->dir);
	/* a slot of the disk that the file system is on */
	ASSERT_EQ(0, reg_dmabuf(&self->rig.ring, 0, self->rig.mem.fd,
				self->rig.disk));
	ASSERT_EQ(0, mkdir(self->dir, 0700));
}

FIXTURE_TEARDOWN(files)
{
	unlink(self->path);
	/* <sys/mount.h> and <linux/fs.h> do not go together */
	if (self->mounted)
		EXPECT_EQ(0, syscall(SYS_umount2, self->dir, 0));
	EXPECT_EQ(0, rmdir(self->dir));
	rig_down(&self->rig);
}

/* A file with the pattern, as an ordinary program writes it */
static int file_make(const char *path)
{
	char *buf = malloc(SIZE);
	int fd, ret = 0;

	pattern_fill(buf, 0, SIZE, SEED);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, buf, SIZE) != SIZE || fsync(fd))
		ret = -errno;
	free(buf);
	if (fd >= 0)
		close(fd);
	return ret;
}

static long long file_compare(const char *path)
{
	char *buf = malloc(SIZE);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	long long bad = -EIO;

	if (read(fd, buf, SIZE) == SIZE)
		bad = pattern_check(buf, 0, SIZE, SEED);
	close(fd);
	free(buf);
	return bad;
}

/* The errno of a registration; of reads, and of writes unless that is 0 */
static void refused(struct __test_metadata *_metadata, struct rig *rig,
		    const char *path, int flags, int err, int write_err)
{
	struct io_uring_regbuf_desc d;
	struct io_uring_regbuf_reason why;
	int fd, part = NEED_PART(3);

	fd = open(path, flags | O_DIRECT | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	d = desc_dmabuf(rig->mem.fd, fd);
	EXPECT_EQ(-EOPNOTSUPP, reg_why(&rig->ring, 1, &d, &why));
	EXPECT_EQ(IO_REGBUF_STAGE_TARGET, why.stage);
	EXPECT_EQ(0, why.target);

	EXPECT_EQ(err, uring_read(&rig->ring, fd, 0, 0, LEN, 0));
	EXPECT_EQ(err, uring_read(&rig->ring, fd, SIZE - LEN, LEN, LEN, 0));
	if (write_err) {
		EXPECT_EQ(write_err, uring_write(&rig->ring, fd, 0, 0, LEN, 0));
		EXPECT_EQ(write_err, uring_write(&rig->ring, fd, SIZE, 0, LEN, 0));
	}
	EXPECT_EQ(SIZE, lseek(fd, 0, SEEK_END));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&rig->mem, 0, SIZE, POISON));
	EXPECT_EQ(NO_MISMATCH, file_compare(path));
	/* the slot is as good as before */
	EXPECT_EQ(0, rig_works(rig, part, 0));
	close(part);
	close(fd);
}

TEST_F(files, encrypted)
{
	ASSERT_EQ(0, file_encrypt_dir(self->dir));
	ASSERT_EQ(0, file_make(self->path));
	refused(_metadata, &self->rig, self->path, O_RDWR, -EOPNOTSUPP, -EOPNOTSUPP);
}

/* Nobody can write to it */
TEST_F(files, verity)
{
	ASSERT_EQ(0, file_make(self->path));
	ASSERT_EQ(0, file_enable_verity(self->path));
	/* ext4 reads it by the page cache */
	refused(_metadata, &self->rig, self->path, O_RDONLY, -EFAULT, 0);
}

/*
 * No pmem is a target, whatever its files are: it is the slot of another disk that
 * must not be led to memory.
 */
TEST_F(files, dax)
{
	const char *pmem = NEED_ENV("LAB_PMEM");
	struct statx st;
	char cmd[160];

	snprintf(cmd, sizeof(cmd), "mkfs.ext4 -q -F -b 4096 -O ^has_journal %s >&2",
		 pmem);
	ASSERT_EQ(0, system(cmd));
	ASSERT_EQ(0, syscall(SYS_mount, pmem, self->dir, "ext4", 0, "dax=always"));
	self->mounted = true;
	ASSERT_EQ(0, file_make(self->path));
	ASSERT_EQ(0, statx(AT_FDCWD, self->path, 0, STATX_BASIC_STATS, &st));
	ASSERT_TRUE(st.stx_attributes & STATX_ATTR_DAX);
	/* no disk of the slot's: what anything else but a target gives */
	refused(_metadata, &self->rig, self->path, O_RDWR, -EBADF, -EBADF);
}

/* What is made in it from now on has its data on the realtime device */
static int rt_inherit(const char *dir)
{
	struct fsxattr fsx = { .fsx_xflags = FS_XFLAG_RTINHERIT };
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0 || ioctl(fd, FS_IOC_FSSETXATTR, &fsx))
		ret = -errno;
	if (fd >= 0)
		close(fd);
	return ret;
}

static bool rt_file(int fd)
{
	struct fsxattr fsx;

	return !ioctl(fd, FS_IOC_FSGETXATTR, &fsx) &&
	       fsx.fsx_xflags & FS_XFLAG_REALTIME;
}

/*
 * Data is on another device than the one that the file system answers for. Not
 * even a slot that has this device is used: zoned ones are written in a way that
 * takes an error for the end of the file system.
 */
TEST_F(files, realtime)
{
	const char *data = NEED_ENV("LAB_NVME_MAIN"), *rt = NEED_ENV("LAB_NVME_MP");
	int fd, disk;
	char cmd[160], options[80];

	snprintf(cmd, sizeof(cmd), "mkfs.xfs -q -f -r rtdev=%s %s >&2", rt, data);
	ASSERT_EQ(0, system(cmd));
	snprintf(options, sizeof(options), "rtdev=%s", rt);
	ASSERT_EQ(0, syscall(SYS_mount, data, self->dir, "xfs", 0, options));
	self->mounted = true;
	ASSERT_EQ(0, rt_inherit(self->dir));
	ASSERT_EQ(0, file_make(self->path));
	refused(_metadata, &self->rig, self->path, O_RDWR, -EOPNOTSUPP, -EOPNOTSUPP);

	/* nobody writes to a disk that is mounted */
	disk = open(rt, O_RDONLY | O_DIRECT | O_CLOEXEC);
	ASSERT_GE(disk, 0);
	ASSERT_EQ(0, reg_dmabuf(&self->rig.ring, 1, self->rig.mem.fd, disk));
	fd = open(self->path, O_RDWR | O_DIRECT | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	EXPECT_TRUE(rt_file(fd));
	EXPECT_EQ(-EOPNOTSUPP, uring_read(&self->rig.ring, fd, 0, 0, LEN, 1));
	EXPECT_EQ(-EOPNOTSUPP, uring_write(&self->rig.ring, fd, 0, 0, LEN, 1));
	EXPECT_EQ(NO_MISMATCH, file_compare(self->path));
	close(fd);
	close(disk);
}

TEST_HARNESS_MAIN
