/* SPDX-License-Identifier: GPL-2.0 */
/* The block device under test, and the ordinary way to its data. */
#ifndef BENCH_DRIVE_H
#define BENCH_DRIVE_H

#include <stddef.h>
#include <stdint.h>

struct drive {
	const char *path;
	int fd;			/* O_DIRECT */
	int buffered_fd;	/* through the page cache */
	unsigned int block;	/* logical block size, bytes */
	unsigned int largest;	/* command, bytes */
};

/* Both return 0 or -errno, and say on stderr what failed. */
int drive_open(struct drive *drive, const char *path);
/* What is no NVMe drive itself; the caller says how large blocks and commands are. */
int drive_open_as(struct drive *drive, const char *path);

/* Ordinary synchronous O_DIRECT I/O; @p is page aligned.  0 or -errno. */
int drive_read(struct drive *drive, void *p, size_t len, uint64_t off);
int drive_write(struct drive *drive, const void *p, size_t len, uint64_t off);

void drive_close(struct drive *drive);

#endif
