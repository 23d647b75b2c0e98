// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * dmabuf_relay HEAP FILE ADDRESS PORT: send a file by TCP. The drive writes it into a
 * dma-buf, the network card reads it there: one buffer with two targets, no copy.
 *
 * HEAP is a dma-heap (/dev/dma_heap/system). Memory of a device works the same way.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <linux/dma-heap.h>
#include <linux/io_uring.h>	/* of this kernel, before liburing's copy */
#include <liburing.h>

#define SIZE	(1u << 20)

static int make_dmabuf(const char *heap)
{
	struct dma_heap_allocation_data alloc = {
		.len = SIZE, .fd_flags = O_RDWR | O_CLOEXEC,
	};
	int fd = open(heap, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, DMA_HEAP_IOCTL_ALLOC, &alloc))
		err(1, "%s", heap);
	close(fd);
	return alloc.fd;
}

static int connect_to(const char *host, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *to;
	int ret = getaddrinfo(host, port, &hints, &to);
	int fd;

	if (ret)
		errx(1, "%s: %s", host, gai_strerror(ret));
	fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, to->ai_addr, to->ai_addrlen))
		err(1, "%s, port %s", host, port);
	freeaddrinfo(to);
	return fd;
}

/* Slot 0. The socket has to be connected: it is the card that the memory is for */
static void register_dmabuf(struct io_uring *ring, int dmabuf, int file, int sock)
{
	struct io_uring_regbuf_reason reason = { .size = sizeof(reason) };
	int32_t more[] = { sock };
	struct io_uring_regbuf_desc desc = {
		.type = IO_REGBUF_TYPE_DMABUF,
		.dmabuf_fd = dmabuf,
		.target_fd = file,
		.targets = (uintptr_t)more,
		.nr_targets = 1,
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
		err(1, "registering the dma-buf for %s: %s",
		    reason.target == 1 ? "the socket" : "the file",
		    reason.text[0] ? reason.text : "is this kernel able to?");
}

/* How many notifications are to come */
static unsigned int pending;

/* Takes a completion: true if it is that of a request, and *res is its result */
static bool take(struct io_uring *ring, int *res)
{
	struct io_uring_cqe *cqe;
	int ret = io_uring_wait_cqe(ring, &cqe);
	bool notification;

	if (ret < 0)
		errx(1, "io_uring: %s", strerror(-ret));
	notification = cqe->flags & IORING_CQE_F_NOTIF;
	if (notification)
		pending--;
	else if (cqe->flags & IORING_CQE_F_MORE)
		pending++;
	*res = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return !notification;
}

/* Submits what is prepared: its result */
static int result(struct io_uring *ring)
{
	int res = io_uring_submit(ring);

	if (res < 0)
		errx(1, "io_uring: %s", strerror(-res));
	while (!take(ring, &res))
		;
	return res;
}

static int read_some(struct io_uring *ring, int file, uint64_t pos)
{
	int ret;

	/* addresses are offsets in the dma-buf */
	io_uring_prep_read_fixed(io_uring_get_sqe(ring), file, (void *)0, SIZE, pos, 0);
	ret = result(ring);
	if (ret < 0)
		errx(1, "read at %llu: %s", (unsigned long long)pos, strerror(-ret));
	return ret;
}

/*
 * A send may take less than all. Its memory must stay as it is until its notification
 * says that neither TCP nor the card needs it any more.
 */
static void send_all(struct io_uring *ring, int sock, unsigned int len)
{
	unsigned int sent = 0;
	int ret;

	while (sent < len) {
		io_uring_prep_send_zc_fixed(io_uring_get_sqe(ring), sock,
					    (void *)(uintptr_t)sent, len - sent,
					    MSG_WAITALL, 0, 0);
		ret = result(ring);
		if (ret < 0)
			errx(1, "send: %s", strerror(-ret));
		sent += ret;
	}
	while (pending)
		take(ring, &ret);
}

int main(int argc, char **argv)
{
	int file, sock, dmabuf, n;
	struct io_uring ring;
	uint64_t pos;

	if (argc != 5)
		errx(2, "dmabuf_relay HEAP FILE ADDRESS PORT");
	file = open(argv[2], O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (file < 0)
		err(1, "%s", argv[2]);
	if (io_uring_queue_init(8, &ring, 0))
		errx(1, "no io_uring here");
	sock = connect_to(argv[3], argv[4]);
	dmabuf = make_dmabuf(argv[1]);
	register_dmabuf(&ring, dmabuf, file, sock);

	for (pos = 0; (n = read_some(&ring, file, pos)) > 0; pos += n)
		send_all(&ring, sock, n);
	io_uring_queue_exit(&ring);
	return 0;
}
