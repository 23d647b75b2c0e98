// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <linux/dm-ioctl.h>
#include <linux/major.h>
#include <linux/raid/md_p.h>
#include <linux/raid/md_u.h>

#include "lab.h"
#include "stack.h"

/* ---- device mapper ---- */

#define DM_BYTES	(16 * 1024)

/* Of DM_BYTES, for the caller to free */
static struct dm_ioctl *dm_args(const char *name)
{
	struct dm_ioctl *io = calloc(1, DM_BYTES);

	if (!io)
		return NULL;
	io->version[0] = DM_VERSION_MAJOR;
	io->data_size = DM_BYTES;
	io->data_start = sizeof(*io);
	snprintf(io->name, sizeof(io->name), "%s", name);
	return io;
}

static int dm_do(unsigned long command, struct dm_ioctl *io)
{
	int fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (ioctl(fd, command, io))
		ret = -errno;
	close(fd);
	return ret;
}

static int dm_simple(unsigned long command, const char *name, __u32 flags)
{
	struct dm_ioctl *io = dm_args(name);
	int ret;

	if (!io)
		return -ENOMEM;
	io->flags = flags;
	ret = dm_do(command, io);
	free(io);
	return ret;
}

/* verity wants to be read only */
static bool dm_read_only(const struct dm_line *line)
{
	return !strcmp(line->target, "verity");
}

static int dm_load(const char *name, const struct dm_line *lines, unsigned int nr)
{
	struct dm_ioctl *io = dm_args(name);
	char *at, *end = (char *)io + DM_BYTES;
	__u64 start = 0;
	int ret = 0;

	if (!io)
		return -ENOMEM;
	at = (char *)io + io->data_start;
	for (unsigned int i = 0; i < nr && !ret; i++) {
		struct dm_target_spec *spec = (void *)at;
		size_t bytes = sizeof(*spec) + strlen(lines[i].args) + 1;

		bytes = (bytes + 7) & ~7UL;
		if (bytes > (size_t)(end - at)) {
			ret = -E2BIG;
			break;
		}
		spec->sector_start = start;
		spec->length = lines[i].sectors;
		spec->next = bytes;
		snprintf(spec->target_type, sizeof(spec->target_type), "%s", lines[i].target);
		memcpy(spec + 1, lines[i].args, strlen(lines[i].args) + 1);
		start += lines[i].sectors;
		at += bytes;
		if (dm_read_only(&lines[i]))
			io->flags |= DM_READONLY_FLAG;
	}
	io->target_count = nr;
	if (!ret)
		ret = dm_do(DM_TABLE_LOAD, io);
	free(io);
	return ret;
}

int dm_reload(const char *name, const struct dm_line *lines, unsigned int nr)
{
	int ret = dm_load(name, lines, nr);

	if (!ret)
		ret = dm_simple(DM_DEV_SUSPEND, name, DM_SUSPEND_FLAG);
	/* which takes the new table */
	if (!ret)
		ret = dm_simple(DM_DEV_SUSPEND, name, 0);
	return ret;
}

int dm_create(const char *name, const struct dm_line *lines, unsigned int nr,
	      char *path, size_t len)
{
	struct dm_ioctl *io = dm_args(name);
	int ret;

	if (!io)
		return -ENOMEM;
	ret = dm_do(DM_DEV_CREATE, io);
	snprintf(path, len, "/dev/dm-%u", minor(io->dev));
	free(io);
	if (ret)
		return ret;
	ret = dm_load(name, lines, nr);
	if (!ret)
		ret = dm_simple(DM_DEV_SUSPEND, name, 0);
	if (ret)
		dm_remove(name);
	return ret;
}

int dm_status(const char *name, char *status, size_t len)
{
	struct dm_ioctl *io = dm_args(name);
	int ret;

	if (!io)
		return -ENOMEM;
	ret = dm_do(DM_TABLE_STATUS, io);
	if (!ret)
		snprintf(status, len, "%s", (char *)io + io->data_start +
			 sizeof(struct dm_target_spec));
	free(io);
	return ret;
}

int dm_message(const char *name, const char *message)
{
	struct dm_ioctl *io = dm_args(name);
	struct dm_target_msg *msg;
	int ret;

	if (!io)
		return -ENOMEM;
	msg = (void *)((char *)io + io->data_start);
	memcpy(msg->message, message, strlen(message) + 1);
	ret = dm_do(DM_TARGET_MSG, io);
	free(io);
	return ret;
}

int dm_remove(const char *name)
{
	int ret;

	for (unsigned int i = 0; i < 100; i++) {
		ret = dm_simple(DM_DEV_REMOVE, name, 0);
		if (ret != -EBUSY)
			break;
		lab_sleep_ms(20);
	}
	return ret == -ENXIO ? 0 : ret;
}

/* ---- MD ---- */

static int md_open(unsigned int minor)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/dev/md%u", minor);
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int md_add(int fd, const char *disk, unsigned int number)
{
	mdu_disk_info_t info = {
		.number = number,
		.raid_disk = number,
		.state = 1 << MD_DISK_ACTIVE | 1 << MD_DISK_SYNC,
	};
	struct stat st;

	if (stat(disk, &st))
		return -errno;
	info.major = major(st.st_rdev);
	info.minor = minor(st.st_rdev);
	return ioctl(fd, ADD_NEW_DISK, &info) ? -errno : 0;
}

int md_build(unsigned int minor, int level, unsigned int chunk,
	     const char *const *disks, unsigned int nr, char *path, size_t len)
{
	mdu_array_info_t info = {
		.level = level,
		.nr_disks = nr,
		.raid_disks = nr,
		.md_minor = minor,
		.not_persistent = 1,
		.state = 1 << MD_SB_CLEAN,
		.active_disks = nr,
		.working_disks = nr,
		.chunk_size = level == 1 ? 0 : chunk,
	};
	mdu_param_t param = { 0 };
	char name[16];
	int fd, ret = 0;

	/* it may be there still, stopped */
	snprintf(name, sizeof(name), "md%u", minor);
	file_write("/sys/module/md_mod/parameters/new_array", name);
	fd = md_open(minor);
	if (fd < 0)
		return fd;
	snprintf(path, len, "/dev/md%u", minor);
	/* left-symmetric; near copies, two of them */
	if (level == 5 || level == 6)
		info.layout = 2;
	if (level == 10)
		info.layout = 0x102;
	/* of members that are not of the same size */
	if (!level)
		file_write("/sys/module/raid0/parameters/default_layout", "2");
	if (ioctl(fd, SET_ARRAY_INFO, &info))
		ret = -errno;
	for (unsigned int i = 0; i < nr && !ret; i++)
		ret = md_add(fd, disks[i], i);
	if (!ret && ioctl(fd, RUN_ARRAY, &param))
		ret = -errno;
	close(fd);
	if (ret)
		md_stop(minor);
	return ret;
}

int md_stop(unsigned int minor)
{
	int fd = md_open(minor), ret = 0;

	if (fd < 0)
		return fd;
	for (unsigned int i = 0; i < 100; i++) {
		ret = ioctl(fd, STOP_ARRAY) ? -errno : 0;
		if (ret != -EBUSY)
			break;
		lab_sleep_ms(20);
	}
	close(fd);
	return ret;
}

int md_write(unsigned int minor, const char *file, const char *value)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/block/md%u/md/%s", minor, file);
	return file_write(path, value);
}
