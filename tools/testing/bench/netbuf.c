// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/dma-heap.h>

#include "fail.h"
#include "netbuf.h"
#include "pool.h"

#define HEAP	"/dev/dma_heap/default_cma_region"
#define HUGE	(2u << 20)
#define PAGE	4096u

const char *const source_name[SOURCES] = {
	[SOURCE_SEND] = "send",
	[SOURCE_PLAIN] = "plain",
	[SOURCE_PAGES] = "pages",
	[SOURCE_DMABUF] = "dmabuf",
	[SOURCE_BAR] = "bar",
};

static unsigned char *huge_page;

int netbuf_init(void)
{
	unsigned char *p = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return fail("mmap", errno, "is there that much memory?");
	p += HUGE - (uintptr_t)p % HUGE;
	if (madvise(p, HUGE, MADV_HUGEPAGE))
		return fail("MADV_HUGEPAGE", errno, "needs CONFIG_TRANSPARENT_HUGEPAGE");
	memset(p, 0, HUGE);
	huge_page = p;
	return pool_init(NETBUF_MAX);
}

static int heap_create(struct buffer *buf)
{
	struct dma_heap_allocation_data data = {
		.len = buf->size, .fd_flags = O_RDWR | O_CLOEXEC,
	};
	int dev = open(HEAP, O_RDWR | O_CLOEXEC), ret, err;
	void *p;

	if (dev < 0)
		return fail(HEAP, errno, "cma= on the command line: vm -t net");
	ret = ioctl(dev, DMA_HEAP_IOCTL_ALLOC, &data);
	err = errno;
	close(dev);
	if (ret)
		return fail(HEAP, err, "cma= on the command line: vm -t net");
	p = mmap(NULL, buf->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		 (int)data.fd, 0);
	if (p == MAP_FAILED) {
		err = errno;
		close((int)data.fd);
		return fail("mmap of the dma-buf", err, HEAP);
	}
	buf->fd = (int)data.fd;
	buf->cpu = p;
	return 0;
}

int netbuf_create(struct buffer *buf, enum source source, size_t size)
{
	if (source == SOURCE_BAR)
		return buffer_create(buf, BUFFER_BAR, size);
	*buf = (struct buffer){ .kind = BUFFER_PLAIN, .size = size, .fd = -1 };
	if (source == SOURCE_PAGES) {
		buf->cpu = pool_memory(size);
		return buf->cpu ? 0 : fail("buffer", ENOMEM, "larger than the pool");
	}
	if (source == SOURCE_DMABUF) {
		buf->kind = BUFFER_DMABUF;
		return heap_create(buf);
	}
	buf->cpu = huge_page;
	return 0;
}

unsigned int netbuf_pieces(const struct buffer *buf)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	unsigned int pieces = 0;
	uint64_t entry, last = 0;

	if (pagemap < 0 || !buf->cpu)
		goto out;
	/* the CMA heap's mapping has no pages to look at */
	for (size_t off = 0; off < buf->size; off += PAGE) {
		if (pread(pagemap, &entry, sizeof(entry),
			  (off_t)((uintptr_t)(buf->cpu + off) / PAGE * sizeof(entry))) != sizeof(entry))
			break;
		entry &= (1ull << 55) - 1;
		if (!entry)
			break;
		pieces += entry != last + 1;
		last = entry;
	}
out:
	if (pagemap >= 0)
		close(pagemap);
	return pieces;
}
