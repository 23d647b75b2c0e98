// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Memory that is a dma-buf: where from, and the CPU's access to it */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/dma-buf.h>

#include "mem.h"

static const struct dmabuf_mem_ops *const sources[] = {
	&mem_udmabuf, &mem_heap, &mem_fd, &mem_cuda, &mem_host,
};

static __thread char why[256];

const char *dmabuf_mem_why(void)
{
	return why;
}

int mem_why(int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	return -err;
}

/* The source that @spec names, and what it says to it */
static const struct dmabuf_mem_ops *source_of(const char *spec, const char **arg)
{
	size_t len = strcspn(spec, ":");

	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
		const struct dmabuf_mem_ops *ops = sources[i];

		if (strlen(ops->name) == len && !memcmp(ops->name, spec, len) &&
		    ops->arg == (spec[len] == ':')) {
			*arg = spec + len + ops->arg;
			return ops;
		}
	}
	return NULL;
}

/* As the fd allows; memory that cannot be mapped is no error */
static void map(struct dmabuf_mem *mem)
{
	int mode = fcntl(mem->fd, F_GETFL) & O_ACCMODE;
	int prot = mode == O_RDONLY ? PROT_READ : PROT_READ | PROT_WRITE;
	char *p = mmap(NULL, mem->off + mem->size, prot, MAP_SHARED, mem->fd, 0);

	if (p != MAP_FAILED)
		mem->ptr = p + mem->off;
}

int dmabuf_mem_open(struct dmabuf_mem *mem, const char *spec, size_t size)
{
	const struct dmabuf_mem_ops *ops;
	const char *arg;
	int ret;

	why[0] = '\0';
	memset(mem, 0, sizeof(*mem));
	mem->fd = -1;
	ops = source_of(spec, &arg);
	if (!ops)
		return mem_why(EINVAL, "%s: no such memory; there are udmabuf, heap:NAME, cuda:N, fd:N and host",
			       spec);
	if (!size && ops != &mem_fd)
		return mem_why(EINVAL, "%s: how large?", spec);
	ret = ops->open(mem, arg, size);
	if (ret)
		return ret;
	mem->ops = ops;
	if (!ops->copy)
		map(mem);
	return 0;
}

int dmabuf_mem_from_ptr(struct dmabuf_mem *mem, const void *ptr, size_t size)
{
	int ret = -EOPNOTSUPP;

	why[0] = '\0';
	memset(mem, 0, sizeof(*mem));
	mem->fd = -1;
	if (!ptr || !size || (uintptr_t)ptr + size < (uintptr_t)ptr)
		return mem_why(EINVAL, "%zu bytes at %p are no memory", size, ptr);
	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
		if (!sources[i]->from_ptr)
			continue;
		ret = sources[i]->from_ptr(mem, ptr, size);
		if (!ret) {
			mem->ops = sources[i];
			break;
		}
	}
	return ret;
}

void dmabuf_mem_close(struct dmabuf_mem *mem)
{
	/* else it is none that was opened: its fd may be anybody's */
	if (mem->ops) {
		if (mem->ptr)
			munmap((char *)mem->ptr - mem->off, mem->off + mem->size);
		if (mem->ops->close)
			mem->ops->close(mem);
		if (mem->fd >= 0)
			close(mem->fd);
	}
	memset(mem, 0, sizeof(*mem));
	mem->fd = -1;
}

static int sync_cpu(const struct dmabuf_mem *mem, uint64_t flags)
{
	struct dma_buf_sync sync = { .flags = flags };
	int ret;

	do {
		ret = ioctl(mem->fd, DMA_BUF_IOCTL_SYNC, &sync);
	} while (ret && (errno == EINTR || errno == EAGAIN));
	if (ret)
		return mem_why(errno, "the exporter refuses the CPU: %s", strerror(errno));
	return 0;
}

static int check_range(const struct dmabuf_mem *mem, uint64_t off, size_t len)
{
	if (off > mem->size || len > mem->size - off)
		return mem_why(EFAULT, "not within the %zu bytes of the memory", mem->size);
	if (!mem->ptr && !mem->ops->copy)
		return mem_why(EOPNOTSUPP, "the exporter does not let the CPU map its memory");
	return 0;
}

int dmabuf_mem_copy_to(struct dmabuf_mem *mem, uint64_t off, const void *from, size_t len)
{
	int ret;

	why[0] = '\0';
	ret = check_range(mem, off, len);
	if (ret)
		return ret;
	if (mem->fd >= 0 && (fcntl(mem->fd, F_GETFL) & O_ACCMODE) == O_RDONLY)
		return mem_why(EACCES, "the dma-buf's fd is read-only: export it with O_RDWR");
	if (mem->ops->copy)
		return len ? mem->ops->copy(mem, off, NULL, from, len) : 0;
	ret = sync_cpu(mem, DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE);
	if (ret)
		return ret;
	memcpy((char *)mem->ptr + off, from, len);
	return sync_cpu(mem, DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE);
}

int dmabuf_mem_copy_from(struct dmabuf_mem *mem, uint64_t off, void *to, size_t len)
{
	int ret;

	why[0] = '\0';
	ret = check_range(mem, off, len);
	if (!ret && mem->ops->copy)
		return len ? mem->ops->copy(mem, off, to, NULL, len) : 0;
	if (!ret)
		ret = sync_cpu(mem, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ);
	if (ret)
		return ret;
	memcpy(to, (char *)mem->ptr + off, len);
	return sync_cpu(mem, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ);
}
