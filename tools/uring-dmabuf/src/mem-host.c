// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Memory of the process, which is no dma-buf: for what bounces, on any machine */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "mem.h"

#define PAGE	4096ULL

static int open_host(struct dmabuf_mem *mem, const char *arg, size_t size)
{
	void *p;

	(void)arg;
	if (size > SIZE_MAX - PAGE)
		return mem_why(EINVAL, "host: %zu bytes are too many", size);
	size = (size + PAGE - 1) & ~(PAGE - 1);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return mem_why(errno, "host: %zu bytes: %s", size, strerror(errno));
	mem->ptr = p;
	mem->size = size;
	return 0;
}

static int copy_host(struct dmabuf_mem *mem, uint64_t off, void *to, const void *from, size_t len)
{
	char *at = (char *)mem->ptr + off;

	if (to)
		memcpy(to, at, len);
	else
		memcpy(at, from, len);
	return 0;
}

const struct dmabuf_mem_ops mem_host = { .name = "host", .open = open_host, .copy = copy_host };
