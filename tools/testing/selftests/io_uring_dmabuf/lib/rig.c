// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rig.h"

#define GUARD		(64 * KiB)

static int rig_open(struct rig *rig, const char *env, enum mem_kind kind,
		    __u64 size, const char **why)
{
	const char *path = lab_env(env);
	static char reason[96];
	int ret;

	if (!kernel_has_regbuf()) {
		*why = "this kernel has no dma-buf buffers (IO_URING_QUERY_REGBUF)";
		return -EOPNOTSUPP;
	}
	if (!path) {
		snprintf(reason, sizeof(reason), "%s is not set", env);
		*why = reason;
		return -ENOENT;
	}
	rig->disk = lab_open(path);
	if (rig->disk < 0)
		return rig->disk;
	ret = mem_create(&rig->mem, kind, size);
	if (ret == -ENOENT || ret == -ENXIO || ret == -ENODEV) {
		snprintf(reason, sizeof(reason), "no exporter for %s memory",
			 mem_kind_name(kind));
		*why = reason;
	}
	return ret;
}

int rig_up(struct rig *rig, const char *env, enum mem_kind kind, __u64 size,
	   unsigned int ring_flags, const char **why)
{
	int ret;

	memset(rig, 0, sizeof(*rig));
	rig->mem.fd = -1;
	rig->disk = -1;
	rig->seed = 1000;
	ret = rig_open(rig, env, kind, size, why);
	if (!ret)
		ret = uring_init(&rig->ring, 64, ring_flags);
	if (!ret)
		ret = reg_sparse(&rig->ring, RIG_SLOTS);
	if (ret)
		rig_down(rig);
	return ret;
}

void rig_down(struct rig *rig)
{
	uring_exit(&rig->ring);
	if (rig->mem.fd >= 0 || rig->mem.map)
		mem_destroy(&rig->mem);
	if (rig->disk >= 0)
		close(rig->disk);
	rig->disk = -1;
}

/* The part of [off - GUARD, off + len + GUARD) that exists */
static void window(__u64 size, __u64 off, __u64 len, __u64 *start, __u64 *end)
{
	*start = off > GUARD ? off - GUARD : 0;
	*end = size - off - len > GUARD ? off + len + GUARD : size;
}

static int rig_result(const char *what, int res, __u64 off, __u64 addr,
		      __u32 len)
{
	if (res == (int)len)
		return 0;
	fprintf(stderr, "# %s of %u bytes at 0x%llx, address 0x%llx: %d\n", what,
		len, off, addr, res);
	return res < 0 ? res : -EIO;
}

static int rig_wrong(const char *what, __u64 off, __u64 addr, __u32 len)
{
	fprintf(stderr, "# wrong data: %s of %u bytes at 0x%llx, address 0x%llx\n",
		what, len, off, addr);
	return -EILSEQ;
}

int rig_read(struct rig *rig, int fd, __u16 slot, __u64 off, __u64 addr,
	     __u32 len)
{
	__u64 at = rig->base + addr, start, end, seed = ++rig->seed;
	struct mem *m = &rig->mem;
	int ret;

	window(m->size, at, len, &start, &end);
	ret = disk_fill(fd, off, len, seed);
	if (!ret)
		ret = mem_poison(m, start, end - start, POISON);
	if (ret)
		return ret;
	ret = rig_result("read", uring_read(&rig->ring, fd, off, addr, len, slot),
			 off, addr, len);
	if (ret)
		return ret;
	if (mem_check(m, at, off, len, seed) >= 0 ||
	    mem_check_poison(m, start, at - start, POISON) >= 0 ||
	    mem_check_poison(m, at + len, end - at - len, POISON) >= 0)
		return rig_wrong("read", off, addr, len);
	return 0;
}

int rig_write(struct rig *rig, int fd, __u16 slot, __u64 off, __u64 addr,
	      __u32 len)
{
	__u64 at = rig->base + addr, seed = ++rig->seed;
	__u64 before = off < 4096 ? off : 4096;
	struct mem *m = &rig->mem;
	int ret;

	ret = disk_poison(fd, off - before, before + len + 4096, POISON);
	if (!ret)
		ret = mem_fill(m, at, off, len, seed);
	if (ret)
		return ret;
	ret = rig_result("write", uring_write(&rig->ring, fd, off, addr, len, slot),
			 off, addr, len);
	if (ret)
		return ret;
	if (disk_check(fd, off, off, len, seed) >= 0 ||
	    disk_check_poison(fd, off - before, before, POISON) >= 0 ||
	    disk_check_poison(fd, off + len, 4096, POISON) >= 0 ||
	    mem_check(m, at, off, len, seed) >= 0)
		return rig_wrong("write", off, addr, len);
	return 0;
}

int rig_works(struct rig *rig, int fd, __u16 slot)
{
	int ret;

	ret = rig_read(rig, fd, slot, 4096, 0, 4096);
	if (!ret)
		ret = rig_write(rig, fd, slot, 8192, 4096, 4096);
	if (!ret)
		ret = rig_read(rig, fd, slot, 64 * KiB, 512, 31 * 512);
	if (!ret)
		ret = rig_write(rig, fd, slot, 128 * KiB, 1536, 32 * KiB);
	return ret;
}
