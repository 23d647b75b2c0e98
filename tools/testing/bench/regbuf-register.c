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
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <linux/io_uring/query.h>

#include "buffer.h"
#include "drive.h"
#include "fail.h"
#include "pool.h"
#include "ring.h"

#define MAX_REPEAT	101

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Reads the last 4 KiB of the buffer, so that it is surely mapped to its end. */
static int read_end(struct ring *ring, struct buffer *buf, struct drive *drive)
{
	struct io_uring_sqe *sqe = ring_sqe(ring);
	struct io_uring_cqe *cqe;
	int ret, res;

	sqe->opcode = IORING_OP_READ_FIXED;
	sqe->fd = drive->fd;
	sqe->addr = buffer_sqe_addr(buf, buf->size - 4096);
	sqe->len = 4096;
	ret = ring_submit_and_wait(ring, 1);
	cqe = ring_peek(ring);
	if (ret || !cqe)
		return ret ? ret : -EIO;
	res = cqe->res;
	ring_seen(ring);
	return res == 4096 ? 0 : res < 0 ? res : -EIO;
}

static int measure(struct buffer *buf, struct drive *drive, uint64_t *ns, unsigned int repeat,
		   struct io_uring_query_regbuf_map *map)
{
	struct ring ring;
	int ret = 0;

	for (unsigned int i = 0; i < repeat && !ret; i++) {
		ret = ring_init(&ring, 8);
		if (ret)
			return ret;
		ns[i] = now_ns();
		ret = buffer_register(buf, &ring, drive->fd);
		ns[i] = now_ns() - ns[i];
		if (!ret)
			ret = read_end(&ring, buf, drive);
		memset(map, 0, sizeof(*map));
		if (!ret)
			ret = ring_query(ring.fd, IO_URING_QUERY_REGBUF_MAP, map, sizeof(*map));
		if (!ret)
			ret = buffer_unregister(buf, &ring);
		ring_exit(&ring);
	}
	return ret;
}

int main(int argc, char **argv)
{
	const char *device = getenv("LAB_NVME_MAIN"), *iommu = getenv("LAB_IOMMU");
	struct io_uring_query_regbuf_map map;
	unsigned int mib = 1024, repeat = 5;
	uint64_t ns[MAX_REPEAT];
	struct drive drive;
	struct buffer buf;
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
