// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/dma-buf.h>
#include "../../../drivers/dma-buf/dma-buf-bar.h"

#include "buffer.h"
#include "fail.h"
#include "pool.h"
#include "ring.h"

const char *const buffer_kind_name[BUFFER_KINDS] = {
	[BUFFER_PLAIN] = "plain",
	[BUFFER_BUFFERED] = "buffered",
	[BUFFER_DMABUF] = "dmabuf",
	[BUFFER_BAR] = "bar",
	[BUFFER_NOP] = "nop",
};

static int create_bar(size_t size)
{
	struct dma_buf_bar_create create = { .size = size };
	int dev = open("/dev/dmabuf_bar", O_RDWR | O_CLOEXEC);
	int ret, err, tries = 400;

	if (dev < 0)
		return fail("/dev/dmabuf_bar", errno, "needs CONFIG_DMABUF_BAR and an ivshmem device");
	/* what a ring that has just exited had registered is freed shortly after */
	do {
		ret = ioctl(dev, DMA_BUF_BAR_IOC_CREATE, &create);
		err = errno;
		if (ret < 0 && err == ENOSPC)
			usleep(50000);
	} while (ret < 0 && err == ENOSPC && tries--);
	close(dev);
	if (ret < 0)
		return fail("DMA_BUF_BAR_IOC_CREATE", err, "half of the BAR is the most");
	return create.fd;
}

static int create_dmabuf(struct buffer *buf)
{
	void *p;

	buf->fd = pool_udmabuf(buf->size);
	if (buf->fd < 0)
		return buf->fd;
	p = mmap(NULL, buf->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, buf->fd, 0);
	if (p == MAP_FAILED) {
		close(buf->fd);
		return fail("mmap of the dma-buf", errno, "is there that much memory?");
	}
	buf->cpu = p;
	return 0;
}

int buffer_create(struct buffer *buf, enum buffer_kind kind, size_t size)
{
	*buf = (struct buffer){ .kind = kind, .size = size, .fd = -1 };
	switch (kind) {
	case BUFFER_DMABUF:
		return create_dmabuf(buf);
	case BUFFER_BAR:
		buf->fd = create_bar(size);
		return buf->fd < 0 ? buf->fd : 0;
	default:
		buf->cpu = pool_memory(size);
		return buf->cpu ? 0 : fail("buffer", ENOMEM, "larger than the pool");
	}
}

void buffer_destroy(struct buffer *buf)
{
	if (buf->fd < 0)
		return;
	if (buf->cpu)
		munmap(buf->cpu, buf->size);
	close(buf->fd);
}

/* Slot 0 of a table that this makes. */
int buffer_register(struct buffer *buf, struct ring *ring, int target_fd)
{
	struct io_uring_regbuf_desc desc = {
		.type = IO_REGBUF_TYPE_DMABUF, .dmabuf_fd = buf->fd, .target_fd = target_fd,
	};
	struct iovec iov = { buf->cpu, buf->size };
	int ret;

	if (buf->fd < 0) {
		ret = ring_register(ring->fd, IORING_REGISTER_BUFFERS, &iov, 1);
		return ret < 0 ? fail("IORING_REGISTER_BUFFERS", -ret, "see RLIMIT_MEMLOCK") : 0;
	}
	ret = ring_sparse_table(ring, 1);
	if (ret < 0)
		return fail("sparse buffer table", -ret, "IORING_REGISTER_BUFFERS2");
	ret = ring_update_slot(ring, 0, &desc);
	if (ret == -EINVAL)
		return fail("registering the dma-buf", -ret, "a kernel without dma-buf buffers?");
	return ret < 0 ? fail("registering the dma-buf", -ret, "for this drive") : 0;
}

int buffer_unregister(struct buffer *buf, struct ring *ring)
{
	int ret = ring_register(ring->fd, IORING_UNREGISTER_BUFFERS, NULL, 0);

	(void)buf;
	return ret < 0 ? fail("IORING_UNREGISTER_BUFFERS", -ret, "the table is busy?") : 0;
}

uint64_t buffer_sqe_addr(const struct buffer *buf, size_t off)
{
	return buf->fd < 0 ? (uintptr_t)buf->cpu + off : off;
}

/* A dma-buf's CPU access is announced, as its users are asked to. */
static int cpu_access(struct buffer *buf, uint64_t flags)
{
	struct dma_buf_sync sync = { .flags = flags };

	if (buf->fd < 0)
		return 0;
	if (ioctl(buf->fd, DMA_BUF_IOCTL_SYNC, &sync))
		return fail("DMA_BUF_IOCTL_SYNC", errno, "exporter");
	return 0;
}

static int bar_copy(struct buffer *buf, unsigned long op, size_t off, void *p, size_t len)
{
	struct dma_buf_bar_io io = {
		.fd = buf->fd, .off = off, .len = len, .uptr = (uintptr_t)p,
	};
	int dev = open("/dev/dmabuf_bar", O_RDWR | O_CLOEXEC);
	int ret = dev < 0 ? -1 : ioctl(dev, op, &io);
	int err = errno;

	if (dev >= 0)
		close(dev);
	return ret < 0 ? fail("peek or poke at the BAR", err, "/dev/dmabuf_bar") : 0;
}

int buffer_fill(struct buffer *buf, const unsigned char *from)
{
	int ret;

	if (buf->kind == BUFFER_BAR)
		return bar_copy(buf, DMA_BUF_BAR_IOC_POKE, 0, (void *)from, buf->size);
	ret = cpu_access(buf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE);
	if (ret)
		return ret;
	memcpy(buf->cpu, from, buf->size);
	return cpu_access(buf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE);
}

int buffer_poison(struct buffer *buf, unsigned char byte)
{
	unsigned char chunk[65536];
	size_t off, n;
	int ret = 0;

	if (buf->kind != BUFFER_BAR) {
		ret = cpu_access(buf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE);
		if (ret)
			return ret;
		memset(buf->cpu, byte, buf->size);
		return cpu_access(buf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE);
	}
	memset(chunk, byte, sizeof(chunk));
	for (off = 0; off < buf->size && !ret; off += n) {
		n = buf->size - off < sizeof(chunk) ? buf->size - off : sizeof(chunk);
		ret = bar_copy(buf, DMA_BUF_BAR_IOC_POKE, off, chunk, n);
	}
	return ret;
}

void make_pattern(unsigned char *p, size_t len, uint64_t first)
{
	for (size_t i = 0; i < len; i += 8) {
		uint64_t x = (first + i) * 0x9e3779b97f4a7c15ull;

		x ^= x >> 29;
		memcpy(p + i, &x, 8);
	}
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

long buffer_compare(struct buffer *buf, const unsigned char *expected)
{
	unsigned char chunk[65536];
	long wrong = 0;
	size_t off, n;
	int ret;

	if (buf->kind != BUFFER_BAR) {
		ret = cpu_access(buf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ);
		if (ret)
			return ret;
		wrong = count_wrong(buf->cpu, expected, buf->size);
		ret = cpu_access(buf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ);
		return ret ? ret : wrong;
	}
	for (off = 0; off < buf->size; off += n) {
		n = buf->size - off < sizeof(chunk) ? buf->size - off : sizeof(chunk);
		ret = bar_copy(buf, DMA_BUF_BAR_IOC_PEEK, off, chunk, n);
		if (ret)
			return ret;
		wrong += count_wrong(chunk, expected + off, n);
	}
	return wrong;
}
