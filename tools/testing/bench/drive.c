// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/fs.h>
#include <linux/nvme_ioctl.h>

#include "drive.h"
#include "fail.h"

/*
 * With one CPU a drive has one queue, and the kernel then picks mq-deadline,
 * which a drive with a queue per CPU does not get.  Measure what drives do.
 */
static int no_scheduler(const char *path)
{
	const char *name = strrchr(path, '/');
	char file[256];
	int fd, ret;

	snprintf(file, sizeof(file), "/sys/class/block/%s/queue/scheduler", name ? name + 1 : path);
	fd = open(file, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return fail(file, errno, "is it an NVMe drive of the lab?");
	ret = write(fd, "none", 4) == 4 ? 0 : fail(file, errno, "is it an NVMe drive of the lab?");
	close(fd);
	return ret;
}

/*
 * The largest command is what the drive says: MDTS, byte 77 of its Identify data, a
 * power of two in pages of 4 KiB, 0 for no limit.  nvme-pci stops at 8 MiB.
 */
static int ask_largest(struct drive *drive)
{
	unsigned char id[4096] __attribute__((aligned(4096)));
	struct nvme_admin_cmd cmd = {
		.opcode = 0x06, .addr = (uintptr_t)id, .data_len = sizeof(id), .cdw10 = 1,
	};
	int ret = ioctl(drive->fd, NVME_IOCTL_ADMIN_CMD, &cmd);

	if (ret)
		return fail("Identify", ret < 0 ? errno : EIO, "is it an NVMe drive of the lab?");
	drive->largest = id[77] && id[77] < 11 ? 4096u << id[77] : 8u << 20;
	return 0;
}

int drive_open(struct drive *drive, const char *path)
{
	int block, ret;

	drive->path = path;
	drive->fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (drive->fd < 0)
		return fail(path, errno, "is it an NVMe drive of the lab?");
	drive->buffered_fd = open(path, O_RDWR | O_CLOEXEC);
	if (drive->buffered_fd < 0 || ioctl(drive->fd, BLKSSZGET, &block))
		return fail(path, errno, "is it an NVMe drive of the lab?");
	drive->block = (unsigned int)block;
	ret = ask_largest(drive);
	return ret ? ret : no_scheduler(path);
}

int drive_read(struct drive *drive, void *p, size_t len, uint64_t off)
{
	ssize_t n;

	for (char *to = p; len; to += n, off += (size_t)n, len -= (size_t)n) {
		n = pread(drive->fd, to, len, (off_t)off);
		if (n <= 0)
			return fail("ordinary read of the drive", n ? errno : EIO, drive->path);
	}
	return 0;
}

int drive_write(struct drive *drive, const void *p, size_t len, uint64_t off)
{
	ssize_t n;

	for (const char *from = p; len; from += n, off += (size_t)n, len -= (size_t)n) {
		n = pwrite(drive->fd, from, len, (off_t)off);
		if (n <= 0)
			return fail("ordinary write to the drive", n ? errno : EIO, drive->path);
	}
	return 0;
}
