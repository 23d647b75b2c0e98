/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The rig most tests start from: a ring with an empty buffer table, a disk
 * and a dma-buf; and I/O on it that is verified byte for byte.
 */
#ifndef IOU_DMABUF_RIG_H
#define IOU_DMABUF_RIG_H

#include "lab.h"
#include "mem.h"
#include "uring.h"

#define RIG_SLOTS	8

struct rig {
	struct uring ring;
	struct mem mem;
	int disk;
	__u64 base;		/* where address 0 of the slot lies in mem */
	__u64 seed;		/* of the last pattern */
};

/*
 * 0 or -errno. *why is set when the machine lacks something the test needs.
 * @env names the variable that names the disk.
 */
int rig_up(struct rig *rig, const char *env, enum mem_kind kind, __u64 size,
	   unsigned int ring_flags, const char **why);
void rig_down(struct rig *rig);

/*
 * One request each, of @fd at @off, slot address @addr. Disk and memory are
 * set up by the CPU first; afterwards the data and 64 KiB on both sides of it
 * are compared. 0, the negative res, -EIO for a short one, -EILSEQ for wrong
 * data (said on stderr).
 */
int rig_read(struct rig *rig, int fd, __u16 slot, __u64 off, __u64 addr,
	     __u32 len);
int rig_write(struct rig *rig, int fd, __u16 slot, __u64 off, __u64 addr,
	      __u32 len);
/* Both directions, some sizes and offsets */
int rig_works(struct rig *rig, int fd, __u16 slot);

#endif
