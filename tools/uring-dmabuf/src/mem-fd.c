// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* A dma-buf that the process has already */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/dma-buf.h>

#include "mem.h"

/* Flags that no kernel knows: a dma-buf says EINVAL to them, other files ENOTTY */
static bool is_dmabuf(int fd)
{
	struct dma_buf_sync sync = { .flags = ~0ULL };

	return ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync) && errno == EINVAL;
}

static int open_fd(struct dmabuf_mem *mem, const char *arg, size_t size)
{
	char *end;
	long fd = strtol(arg, &end, 10);
	off_t all;

	if (!arg[0] || *end || fd < 0 || fd > 1 << 30)
		return mem_why(EINVAL, "fd:%s: not a number of a file descriptor", arg);
	if (fcntl((int)fd, F_GETFD) < 0)
		return mem_why(EBADF, "fd %ld is not open", fd);
	if (!is_dmabuf((int)fd))
		return mem_why(EINVAL, "fd %ld is no dma-buf", fd);
	all = lseek((int)fd, 0, SEEK_END);
	if (all < 0)
		return mem_why(errno, "size of the dma-buf: %s", strerror(errno));
	if (size > (size_t)all)
		return mem_why(EINVAL, "the dma-buf has %lld bytes, not %zu", (long long)all, size);
	mem->fd = fcntl((int)fd, F_DUPFD_CLOEXEC, 0);
	if (mem->fd < 0)
		return mem_why(errno, "fd %ld: %s", fd, strerror(errno));
	mem->size = size ? size : (size_t)all;
	return 0;
}

const struct dmabuf_mem_ops mem_fd = { .name = "fd", .arg = true, .open = open_fd };
