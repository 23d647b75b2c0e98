/* SPDX-License-Identifier: GPL-2.0 */
/* Disks made of disks: device mapper and MD, by their ioctls */
#ifndef IOU_DMABUF_STACK_H
#define IOU_DMABUF_STACK_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>

#define SECTOR		512ULL

/* One line of a table. The next one begins where it ends. */
struct dm_line {
	__u64 sectors;
	const char *target;
	char args[480];
};

/* A mapped device @name with these lines; its path goes to @path. 0 or -errno */
int dm_create(const char *name, const struct dm_line *lines, unsigned int nr,
	      char *path, size_t len);
/* Another table for it, now; I/O waits meanwhile */
int dm_reload(const char *name, const struct dm_line *lines, unsigned int nr);
/* What its first target says; @len bytes at most */
int dm_status(const char *name, char *status, size_t len);
int dm_message(const char *name, const char *message);
/* Waits a moment for who has it open; 0 if there is none, too */
int dm_remove(const char *name);

/* An array of MD without metadata, /dev/md<@minor>. 0 or -errno */
int md_build(unsigned int minor, int level, unsigned int chunk,
	     const char *const *disks, unsigned int nr, char *path, size_t len);
int md_stop(unsigned int minor);
/* /sys/block/md<@minor>/md/@file */
int md_write(unsigned int minor, const char *file, const char *value);

#endif
