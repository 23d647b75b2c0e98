// SPDX-License-Identifier: GPL-2.0
/*
 * reader TARGET N CODE: N reads into a dma-buf, a tenth of a second between two, and exits
 * with CODE, its ring still open. To be watched.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "uring-dmabuf.h"

static int read_once(struct io_uring *ring, int target)
{
	struct io_uring_cqe *cqe;
	int ret;

	io_uring_prep_read_dmabuf(io_uring_get_sqe(ring), target, 0, 4096, 0, 2);
	if (io_uring_submit_and_wait(ring, 1) < 0 || io_uring_wait_cqe(ring, &cqe))
		return -1;
	ret = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return ret == 4096 ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct io_uring ring;
	struct dmabuf_mem mem;
	int target;

	if (argc != 4)
		return 120;
	target = open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (target < 0 || io_uring_queue_init(8, &ring, 0) ||
	    io_uring_register_buffers_sparse(&ring, 4) ||
	    dmabuf_mem_open(&mem, "udmabuf", 65536) ||
	    io_uring_dmabuf_register(&ring, 2, mem.fd, target, 0, NULL))
		return 121;
	for (int i = 0; i < atoi(argv[2]); i++) {
		if (read_once(&ring, target))
			return 122;
		usleep(100000);
	}
	return atoi(argv[3]);
}
