// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "fail.h"
#include "netbuf.h"
#include "pool.h"

#define HUGE	(2u << 20)

const char *const source_name[SOURCES] = {
	[SOURCE_SEND] = "send",
	[SOURCE_PLAIN] = "plain",
	[SOURCE_PAGES] = "pages",
	[SOURCE_DMABUF] = "dmabuf",
	[SOURCE_BAR] = "bar",
	[SOURCE_BUNDLE] = "bundle",
	[SOURCE_BUNDLE_SINGLE] = "bundle1",
	[SOURCE_USER] = "user",
	[SOURCE_MSG] = "msgzc",
	[SOURCE_SINGLE] = "dmabuf1",
	[SOURCE_RING] = "ring",
};

static char *huge_page;

int netbuf_init(void)
{
	char *p = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return fail("mmap", errno, "is there that much memory?");
	p += HUGE - (uintptr_t)p % HUGE;
	if (madvise(p, HUGE, MADV_HUGEPAGE))
		return fail("MADV_HUGEPAGE", errno, "needs CONFIG_TRANSPARENT_HUGEPAGE");
	memset(p, 0, HUGE);
	huge_page = p;
	return pool_init(NETBUF_MAX);
}

int netbuf_create(struct mem *buf, enum source source, size_t size)
{
	switch (source) {
	case SOURCE_PAGES:
		return pool_memory(buf, size);
	case SOURCE_DMABUF:
	case SOURCE_SINGLE:
	case SOURCE_BUNDLE:
	case SOURCE_BUNDLE_SINGLE:
		return buffer_export(buf, MEM_CMA, size);
	case SOURCE_BAR:
		return buffer_export(buf, MEM_BAR, size);
	default:
		mem_wrap(buf, -1, size, huge_page);
		return 0;
	}
}
