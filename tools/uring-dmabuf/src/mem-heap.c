// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Memory of a dma-heap */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/dma-heap.h>

#include "mem.h"

#define HEAPS "/dev/dma_heap"

/* Those that there are, for people */
static void list_heaps(char *text, size_t size)
{
	DIR *dir = opendir(HEAPS);
	size_t len = 0;
	struct dirent *e;

	text[0] = '\0';
	while (dir && (e = readdir(dir))) {
		if (e->d_name[0] == '.' || len >= size)
			continue;
		len += (size_t)snprintf(text + len, size - len, " %s", e->d_name);
	}
	if (dir)
		closedir(dir);
	if (!text[0])
		snprintf(text, size, " none; the kernel needs CONFIG_DMABUF_HEAPS");
}

static int open_heap(struct dmabuf_mem *mem, const char *name, size_t size)
{
	struct dma_heap_allocation_data alloc = {
		.len = size, .fd_flags = O_RDWR | O_CLOEXEC,
	};
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char path[280], heaps[160];
	int fd, ret;

	if (!name[0] || strchr(name, '/') || strlen(name) > 255)
		return mem_why(EINVAL, "heap:%s: a name of " HEAPS, name);
	snprintf(path, sizeof(path), HEAPS "/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		ret = errno;
		list_heaps(heaps, sizeof(heaps));
		return mem_why(ret, "%s: %s; there are:%s", path, strerror(ret), heaps);
	}
	ret = ioctl(fd, DMA_HEAP_IOCTL_ALLOC, &alloc) ? errno : 0;
	close(fd);
	if (ret)
		return mem_why(ret, "%s: %zu bytes: %s", path, size, strerror(ret));
	mem->fd = (int)alloc.fd;
	mem->size = (size + page - 1) / page * page;
	return 0;
}

const struct dmabuf_mem_ops mem_heap = { .name = "heap", .arg = true, .open = open_heap };
