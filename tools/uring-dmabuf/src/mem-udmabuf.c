// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Pages of this process as a dma-buf */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/udmabuf.h>

#include "mem.h"

#define LIMIT "/sys/module/udmabuf/parameters/size_limit_mb"

static int open_device(void)
{
	int fd = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == EACCES)
		return mem_why(EACCES, "/dev/udmabuf: be a member of its group (ls -l /dev/udmabuf)");
	return mem_why(errno, "/dev/udmabuf: %s; the kernel needs CONFIG_UDMABUF", strerror(errno));
}

/* In MiB; 0: not known */
static unsigned int size_limit(void)
{
	unsigned int mb = 0;
	FILE *f = fopen(LIMIT, "re");

	if (f) {
		if (fscanf(f, "%u", &mb) != 1)
			mb = 0;
		fclose(f);
	}
	return mb;
}

static int sealed_memfd(size_t size)
{
	int fd = memfd_create("uring-dmabuf", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int err;

	if (fd >= 0 && !ftruncate(fd, (off_t)size) && !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))
		return fd;
	err = errno;
	if (fd >= 0)
		close(fd);
	return mem_why(err, "memfd of %zu bytes: %s", size, strerror(err));
}

static int create(int dev, int memfd, size_t size)
{
	struct udmabuf_create args = {
		.memfd = (uint32_t)memfd, .flags = UDMABUF_FLAGS_CLOEXEC, .size = size,
	};
	unsigned int limit;
	int fd = ioctl(dev, UDMABUF_CREATE, &args);

	if (fd >= 0)
		return fd;
	limit = size_limit();
	if (errno == EINVAL && limit && size > (size_t)limit << 20)
		return mem_why(EINVAL, "a udmabuf has at most %u MiB: as root, write more to " LIMIT,
			       limit);
	return mem_why(errno, "UDMABUF_CREATE: %s", strerror(errno));
}

static int open_udmabuf(struct dmabuf_mem *mem, const char *arg, size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int dev, memfd;

	(void)arg;
	if (size > SIZE_MAX - page)
		return mem_why(EINVAL, "%zu bytes are too many", size);
	size = (size + page - 1) / page * page;
	dev = open_device();
	if (dev < 0)
		return dev;
	memfd = sealed_memfd(size);
	mem->fd = memfd < 0 ? memfd : create(dev, memfd, size);
	mem->size = size;
	if (memfd >= 0)
		close(memfd);
	close(dev);
	if (mem->fd >= 0)
		return 0;
	memfd = mem->fd;
	mem->fd = -1;
	return memfd;
}

const struct dmabuf_mem_ops mem_udmabuf = { .name = "udmabuf", .open = open_udmabuf };
