// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "buffer.h"
#include "fail.h"
#include "pool.h"

const char *const buffer_kind_name[BUFFER_KINDS] = {
	[BUFFER_PLAIN] = "plain",
	[BUFFER_BUFFERED] = "buffered",
	[BUFFER_DMABUF] = "dmabuf",
	[BUFFER_BAR] = "bar",
	[BUFFER_NOP] = "nop",
};

int buffer_export(struct mem *buf, enum mem_kind kind, size_t size)
{
	int ret = mem_create(buf, kind, size);

	if (!ret)
		return 0;
	return fail(mem_kind_name(kind), -ret, kind == MEM_CMA ?
		    "cma= on the command line: vm -t net" :
		    "CONFIG_DMABUF_BAR and an ivshmem device; half of the BAR is the most");
}

int buffer_create(struct mem *buf, enum buffer_kind kind, size_t size)
{
	switch (kind) {
	case BUFFER_DMABUF:
		return pool_udmabuf(buf, size);
	case BUFFER_BAR:
		return buffer_export(buf, MEM_BAR, size);
	default:
		return pool_memory(buf, size);
	}
}

/* Ordinary memory stays for the next one. */
void buffer_destroy(struct mem *buf)
{
	if (buf->fd >= 0)
		mem_destroy(buf);
}

/* The oldest call that does it: stock kernels are measured, too. */
static int register_plain(const struct mem *buf, struct uring *ring)
{
	struct iovec iov = { buf->map, buf->size };
	int ret = uring_register(ring->fd, IORING_REGISTER_BUFFERS, &iov, 1);

	return ret < 0 ? fail("IORING_REGISTER_BUFFERS", -ret, "see RLIMIT_MEMLOCK") : 0;
}

int buffer_register(const struct mem *buf, struct uring *ring, int target_fd)
{
	int ret;

	if (buf->fd < 0)
		return register_plain(buf, ring);
	ret = reg_sparse(ring, 1);
	if (ret < 0)
		return fail("sparse buffer table", -ret, "IORING_REGISTER_BUFFERS2");
	ret = reg_dmabuf(ring, 0, buf->fd, target_fd);
	if (ret == -EINVAL)
		return fail("registering the dma-buf", -ret, "a kernel without dma-buf buffers?");
	return ret < 0 ? fail("registering the dma-buf", -ret, "for this target") : 0;
}

int buffer_unregister(struct uring *ring)
{
	int ret = reg_unregister(ring);

	return ret < 0 ? fail("IORING_UNREGISTER_BUFFERS", -ret, "the table is busy?") : 0;
}

uint64_t buffer_sqe_addr(const struct mem *buf, size_t off)
{
	return buf->fd < 0 ? (uintptr_t)buf->map + off : off;
}

static int accessed(int ret)
{
	return ret ? fail("access to the buffer by the CPU", -ret, "/dev/dmabuf_bar") : 0;
}

int buffer_fill(const struct mem *buf, const unsigned char *from)
{
	return accessed(mem_put(buf, 0, from, buf->size));
}

int buffer_read(const struct mem *buf, unsigned char *to)
{
	return accessed(mem_get(buf, 0, to, buf->size));
}

int buffer_poison(const struct mem *buf, unsigned char byte)
{
	return accessed(mem_poison(buf, 0, buf->size, byte));
}

long count_wrong(const unsigned char *a, const unsigned char *b, size_t len)
{
	long wrong = 0;

	if (!memcmp(a, b, len))
		return 0;
	for (size_t i = 0; i < len; i++)
		wrong += a[i] != b[i];
	return wrong;
}
