// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/udmabuf.h>

#include "fail.h"
#include "pool.h"

#define PAGE	4096u
#define CHUNK	(128u << 10)
#define HINT	"is there that much memory?"

static char *pool;
static size_t pool_size;
static struct udmabuf_create_item *pool_list;	/* the pool's chunks, in order */

static uint64_t frame_of(int pagemap, const void *p)
{
	uint64_t entry = 0;

	if (pread(pagemap, &entry, sizeof(entry),
		  (off_t)((uintptr_t)p / PAGE * sizeof(entry))) != sizeof(entry))
		return 0;
	return entry & ((1ull << 55) - 1);
}

/* Whether the pool's next chunk could be at @p: one piece of physical memory. */
static bool contiguous(int pagemap, const char *p)
{
	uint64_t first = frame_of(pagemap, p);

	for (size_t i = 1; i < CHUNK / PAGE; i++)
		if (frame_of(pagemap, p + i * PAGE) != first + i)
			return false;
	return true;
}

/*
 * Maps at @pool, one behind the other, chunks of @memfd that are contiguous.
 * Should there not be enough, the rest is as it comes.
 */
static int map_chunks(int memfd, const char *all, size_t all_size)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	size_t done = 0, at = 0;
	void *p;

	if (pagemap < 0)
		return fail("/proc/self/pagemap", errno, "needs root and CONFIG_PROC_PAGE_MONITOR");
	while (done < pool_size) {
		while (all_size - at > pool_size - done && !contiguous(pagemap, all + at))
			at += PAGE;
		p = mmap(pool + done, CHUNK, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED | MAP_POPULATE, memfd, (off_t)at);
		if (p == MAP_FAILED)
			return fail("mmap of the pool", errno, HINT);
		pool_list[done / CHUNK] = (struct udmabuf_create_item){
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
	char *all;
	int memfd = memfd_sealed(all_size, &all);
	int ret;

	if (memfd < 0)
		return fail("memfd of the pool", -memfd, HINT);
	if (madvise(all, all_size, MADV_POPULATE_WRITE))
		return fail("memory of the pool", errno, HINT);
	pool = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pool_list = calloc(size / CHUNK, sizeof(*pool_list));
	if (pool == MAP_FAILED || !pool_list)
		return fail("mmap of the pool", ENOMEM, HINT);
	pool_size = size;
	ret = map_chunks(memfd, all, all_size);
	munmap(all, all_size);
	return ret;
}

unsigned int pool_pieces(const struct mem *m, size_t span, size_t size)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	unsigned int pieces = 0;
	uint64_t frame, last = 0;

	for (size_t off = 0; m->map && off < span; off += PAGE) {
		frame = frame_of(pagemap, m->map + off);
		/* the mapping of a heap has no pages to look at */
		if (!frame)
			break;
		if (size < PAGE)
			pieces += PAGE / size;
		else if (off % size == 0 || frame != last + 1)
			pieces++;
		last = frame;
	}
	if (pagemap >= 0)
		close(pagemap);
	return pieces;
}

int pool_memory(struct mem *m, size_t size)
{
	if (size > pool_size)
		return fail("buffer", ENOMEM, "larger than the pool");
	mem_wrap(m, -1, size, pool);
	return 0;
}

/* As many of the pool's pages as @size needs, the last chunk perhaps in part. */
int pool_udmabuf(struct mem *m, size_t size)
{
	unsigned int last = (unsigned int)((size - 1) / CHUNK);
	void *p;
	int fd;

	if (size > pool_size)
		return fail("udmabuf", ENOMEM, "larger than the pool");
	pool_list[last].size = size - (size_t)last * CHUNK;
	fd = udmabuf_pieces(pool_list, last + 1);
	pool_list[last].size = CHUNK;
	if (fd < 0)
		return fail("udmabuf", -fd, "CONFIG_UDMABUF, udmabuf.size_limit_mb, list_limit");
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (p == MAP_FAILED) {
		close(fd);
		return fail("mmap of the dma-buf", ENOMEM, HINT);
	}
	mem_wrap(m, fd, size, p);
	return 0;
}
