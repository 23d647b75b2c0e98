// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * dmabuf_read FILE: read a file into a dma-buf, without a copy, and write what has
 * come to the standard output.
 *
 * The dma-buf is memory of this process, a udmabuf. One of a GPU or of another device
 * is used the same way: only the function that makes it is another.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <linux/dma-buf.h>
#include <linux/io_uring.h>	/* of this kernel, before liburing's copy */
#include <linux/udmabuf.h>
#include <liburing.h>

#define SIZE	(8u << 20)

/* SIZE bytes; *cpu is where the program sees them */
static int make_dmabuf(unsigned char **cpu)
{
	struct udmabuf_create create = { .flags = UDMABUF_FLAGS_CLOEXEC, .size = SIZE };
	int memfd = memfd_create("example", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int dev = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	int fd;

	if (memfd < 0 || ftruncate(memfd, SIZE) || fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK))
		err(1, "memory for the dma-buf");
	create.memfd = memfd;
	fd = dev < 0 ? -1 : ioctl(dev, UDMABUF_CREATE, &create);
	if (fd < 0)
		err(1, "/dev/udmabuf");
	*cpu = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (*cpu == MAP_FAILED)
		err(1, "mmap of the dma-buf");
	close(memfd);
	close(dev);
	return fd;
}

/* Slot 0 of a table of one; that this fails is no surprise, so ask why */
static void register_dmabuf(struct io_uring *ring, int dmabuf, int target)
{
	struct io_uring_regbuf_reason reason = { .size = sizeof(reason) };
	struct io_uring_regbuf_desc desc = {
		.type = IO_REGBUF_TYPE_DMABUF,
		.dmabuf_fd = dmabuf,
		.target_fd = target,
		.reason = (uintptr_t)&reason,
	};
	struct io_uring_rsrc_update2 update = {
		.flags = IORING_RSRC_UPDATE_EXTENDED,
		.data = (uintptr_t)&desc,
		.nr = 1,
	};

	if (io_uring_register_buffers_sparse(ring, 1))
		errx(1, "no table of buffers");
	if (syscall(__NR_io_uring_register, ring->ring_fd, IORING_REGISTER_BUFFERS_UPDATE,
		    &update, sizeof(update)) != 1)
		err(1, "registering the dma-buf: %s",
		    reason.text[0] ? reason.text : "is this kernel able to?");
}

/* The next bytes of the file: how many, 0 at its end */
static int read_some(struct io_uring *ring, int fd, uint64_t pos)
{
	struct io_uring_cqe *cqe;
	int ret;

	/* the address is an offset in the dma-buf */
	io_uring_prep_read_fixed(io_uring_get_sqe(ring), fd, (void *)0, SIZE, pos, 0);
	ret = io_uring_submit(ring);
	if (ret >= 0)
		ret = io_uring_wait_cqe(ring, &cqe);
	if (ret < 0)
		errx(1, "io_uring: %s", strerror(-ret));
	ret = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	if (ret < 0)
		errx(1, "read at %llu: %s", (unsigned long long)pos, strerror(-ret));
	return ret;
}

static void sync_for_cpu(int dmabuf, uint64_t begin_or_end)
{
	struct dma_buf_sync sync = { .flags = begin_or_end | DMA_BUF_SYNC_READ };

	if (ioctl(dmabuf, DMA_BUF_IOCTL_SYNC, &sync))
		err(1, "DMA_BUF_IOCTL_SYNC");
}

/* A whole, as write() may take less */
static void write_all(const unsigned char *p, size_t len)
{
	while (len) {
		ssize_t n = write(STDOUT_FILENO, p, len);

		if (n < 0)
			err(1, "standard output");
		p += n;
		len -= n;
	}
}

int main(int argc, char **argv)
{
	struct io_uring ring;
	unsigned char *cpu;
	int fd, dmabuf, n;
	uint64_t pos;

	if (argc != 2)
		errx(2, "dmabuf_read FILE");
	fd = open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		err(1, "%s", argv[1]);
	if (io_uring_queue_init(8, &ring, 0))
		errx(1, "no io_uring here");
	dmabuf = make_dmabuf(&cpu);
	register_dmabuf(&ring, dmabuf, fd);

	for (pos = 0; (n = read_some(&ring, fd, pos)) > 0; pos += n) {
		sync_for_cpu(dmabuf, DMA_BUF_SYNC_START);
		write_all(cpu, n);
		sync_for_cpu(dmabuf, DMA_BUF_SYNC_END);
	}
	io_uring_queue_exit(&ring);
	return 0;
}
