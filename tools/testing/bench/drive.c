// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/fs.h>

#include "drive.h"
#include "fail.h"
#include "lab.h"

#define HINT	"is it an NVMe drive of the lab?"

/*
 * With one CPU a drive has one queue, and the kernel then picks mq-deadline,
 * which a drive with a queue per CPU does not get.  Measure what drives do.
 */
static int no_scheduler(const char *path)
{
	const char *name = strrchr(path, '/');
	char file[256];
	int ret;

	snprintf(file, sizeof(file), "/sys/class/block/%s/queue/scheduler", name ? name + 1 : path);
	ret = file_write(file, "none");
	return ret ? fail(file, -ret, HINT) : 0;
}

int drive_open_as(struct drive *drive, const char *path)
{
	int ret;

	drive->path = path;
	drive->fd = lab_open(path);
	if (drive->fd < 0)
		return fail(path, -drive->fd, HINT);
	drive->buffered_fd = open(path, O_RDWR | O_CLOEXEC);
	if (drive->buffered_fd >= 0)
		return 0;
	ret = fail(path, errno, HINT);
	close(drive->fd);
	return ret;
}

int drive_open(struct drive *drive, const char *path)
{
	int ret = drive_open_as(drive, path);
	int block, largest;

	if (ret)
		return ret;
	if (ioctl(drive->fd, BLKSSZGET, &block))
		return fail(path, errno, HINT);
	largest = lab_max_command(drive->fd);
	if (largest < 0)
		return fail("Identify", -largest, HINT);
	drive->block = (unsigned int)block;
	drive->largest = (unsigned int)largest;
	return no_scheduler(path);
}

void drive_close(struct drive *drive)
{
	close(drive->fd);
	close(drive->buffered_fd);
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
