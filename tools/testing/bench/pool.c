// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/udmabuf.h>

#include "fail.h"
#include "pool.h"

#define PAGE	4096u
#define CHUNK	(128u << 10)

static unsigned char *pool;
static size_t pool_size;
static struct udmabuf_create_list *pool_list;	/* the pool's chunks, in order */

static int create_memfd(size_t size)
{
	int fd = memfd_create("regbuf-bench", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return fail("memfd_create", errno, "needs CONFIG_MEMFD_CREATE");
	if (ftruncate(fd, (off_t)size) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)) {
		int err = errno;

		close(fd);
		return fail("memfd size", err, "is there that much memory?");
	}
	return fd;
}

static uint64_t frame_of(int pagemap, const void *p)
{
	uint64_t entry = 0;

	if (pread(pagemap, &entry, sizeof(entry),
		  (off_t)((uintptr_t)p / PAGE * sizeof(entry))) != sizeof(entry))
		return 0;
	return entry & ((1ull << 55) - 1);
}

/* Whether the pool's next chunk could be at @p: one piece of physical memory. */
static bool contiguous(int pagemap, const unsigned char *p)
{
	uint64_t first = frame_of(pagemap, p);

	for (size_t i = 1; i < CHUNK / PAGE; i++)
		if (frame_of(pagemap, p + i * PAGE) != first + i)
			return false;
	return true;
}

/*
 * Maps at @to, one behind the other, chunks of @memfd that are contiguous.
 * Should there not be enough, the rest is as it comes.
 */
static int map_chunks(unsigned char *to, int memfd, const unsigned char *all, size_t all_size)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	size_t done = 0, at = 0;
	void *p;

	if (pagemap < 0)
		return fail("/proc/self/pagemap", errno, "needs root and CONFIG_PROC_PAGE_MONITOR");
	while (done < pool_size) {
		while (all_size - at > pool_size - done && !contiguous(pagemap, all + at))
			at += PAGE;
		p = mmap(to + done, CHUNK, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED | MAP_POPULATE, memfd, (off_t)at);
		if (p == MAP_FAILED)
			return fail("mmap of the pool", errno, "is there that much memory?");
		pool_list->list[done / CHUNK] = (struct udmabuf_create_item){
			.memfd = (unsigned int)memfd, .offset = at, .size = CHUNK,
		};
		at += CHUNK;
		done += CHUNK;
	}
	close(pagemap);
	return 0;
}

int pool_init(size_t size)
{
	size_t all_size = 2 * size;
	unsigned char *all;
	int memfd = create_memfd(all_size);
	void *p;
	int ret;

	if (memfd < 0)
		return memfd;
	all = mmap(NULL, all_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memfd, 0);
	if (all == MAP_FAILED)
		return fail("mmap of the pool", errno, "is there that much memory?");
	p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return fail("mmap of the pool", errno, "is there that much memory?");
	pool_list = calloc(1, sizeof(*pool_list) + size / CHUNK * sizeof(pool_list->list[0]));
	if (!pool_list)
		return fail("list of the pool", ENOMEM, "is there that much memory?");
	pool = p;
	pool_size = size;
	ret = map_chunks(pool, memfd, all, all_size);
	munmap(all, all_size);
	return ret;
}

unsigned long pool_segments(size_t span, size_t size)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	unsigned long segments = 0;
	uint64_t frame, last = 0;

	for (size_t off = 0; pagemap >= 0 && off < span; off += PAGE) {
		frame = frame_of(pagemap, pool + off);
		if (size < PAGE)
			segments += PAGE / size;
		else if (off % size == 0 || frame != last + 1)
			segments++;
		last = frame;
	}
	if (pagemap >= 0)
		close(pagemap);
	return segments;
}

unsigned char *pool_memory(size_t size)
{
	return size <= pool_size ? pool : NULL;
}

/* As many of the pool's pages as @size needs, the last chunk perhaps in part. */
int pool_udmabuf(size_t size)
{
	unsigned int last = (unsigned int)((size - 1) / CHUNK);
	int dev, fd, err;

	if (size > pool_size)
		return fail("udmabuf", ENOMEM, "larger than the pool");
	dev = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return fail("/dev/udmabuf", errno, "needs CONFIG_UDMABUF");
	pool_list->flags = UDMABUF_FLAGS_CLOEXEC;
	pool_list->count = last + 1;
	pool_list->list[last].size = size - (size_t)last * CHUNK;
	fd = ioctl(dev, UDMABUF_CREATE_LIST, pool_list);
	err = errno;
	pool_list->list[last].size = CHUNK;
	close(dev);
	if (fd < 0)
		return fail("UDMABUF_CREATE_LIST", err, "see udmabuf.size_limit_mb, list_limit");
	return fd;
}
