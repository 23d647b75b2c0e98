// SPDX-License-Identifier: GPL-2.0
/*
 * regbuf-register - what registering a large dma-buf costs: time, and the
 * size of the mapping table.
 *
 *   regbuf-register [-d DEVICE] [-s MIB] [-r REPEAT]      [$LAB_NVME_MAIN, 1024, 5]
 *
 * Prints a JSON object: the median time of REPEAT registrations and, after
 * one read through it, what the kernel made of it.  Exit status as regbuf-bench.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "buffer.h"
#include "drive.h"
#include "fail.h"
#include "lab.h"
#include "pool.h"
#include "program.h"

#define MAX_REPEAT	101

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Reads the last 4 KiB of the buffer, so that it is surely mapped to its end. */
static int read_end(struct uring *ring, struct mem *buf, struct drive *drive)
{
	int ret = uring_read(ring, drive->fd, 0, buf->size - 4096, 4096, 0);

	return ret == 4096 ? 0 : ret < 0 ? ret : -EIO;
}

static int measure(struct mem *buf, struct drive *drive, uint64_t *ns, unsigned int repeat,
		   struct io_uring_query_regbuf_map *map)
{
	struct uring ring;
	double start;
	int ret = 0;

	for (unsigned int i = 0; i < repeat && !ret; i++) {
		ret = ring_create(&ring, 8);
		if (ret)
			return ret;
		start = lab_now();
		ret = buffer_register(buf, &ring, drive->fd);
		ns[i] = (uint64_t)((lab_now() - start) * 1e9);
		if (!ret)
			ret = read_end(&ring, buf, drive);
		if (!ret)
			ret = query_map(&ring, 0, 0, map);
		if (!ret)
			ret = buffer_unregister(&ring);
		uring_exit(&ring);
	}
	return ret;
}

int main(int argc, char **argv)
{
	const char *device = lab_env("LAB_NVME_MAIN"), *iommu = lab_env("LAB_IOMMU");
	struct io_uring_query_regbuf_map map;
	unsigned int mib = 1024, repeat = 5;
	uint64_t ns[MAX_REPEAT];
	struct drive drive;
	struct mem buf;
	int opt, ret;

	while ((opt = getopt(argc, argv, "d:s:r:")) != -1) {
		switch (opt) {
		case 'd':
			device = optarg;
			break;
		case 's':
			mib = (unsigned int)atoi(optarg);
			break;
		case 'r':
			repeat = (unsigned int)atoi(optarg);
			break;
		default:
			return 2;
		}
	}
	if (!device || !mib || !repeat || repeat > MAX_REPEAT) {
		fprintf(stderr, "usage: regbuf-register [-d DEVICE] [-s MIB] [-r REPEAT]\n");
		return 2;
	}
	if (drive_open(&drive, device) || pool_init((size_t)mib << 20) ||
	    buffer_create(&buf, BUFFER_DMABUF, (size_t)mib << 20))
		return 1;
	ret = measure(&buf, &drive, ns, repeat, &map);
	if (ret) {
		fail("registering and reading", -ret, "after the line above, or at the first read");
		return 1;
	}
	qsort(ns, repeat, sizeof(ns[0]), by_value);
	printf("{\"what\":\"register\",\"mib\":%u,\"iommu\":\"%s\",\"target\":\"%.32s\",\"ns\":%llu,"
	       "\"granule\":%llu,\"entries\":%llu,\"table_bytes\":%llu}\n",
	       mib, iommu ? iommu : "", map.device, (unsigned long long)ns[repeat / 2],
	       (unsigned long long)map.granule, (unsigned long long)map.entries,
	       (unsigned long long)map.table_bytes);
	buffer_destroy(&buf);
	return 0;
}
