/* SPDX-License-Identifier: GPL-2.0 */
/* The little of io_uring that the benchmark needs, on raw system calls. */
#ifndef BENCH_RING_H
#define BENCH_RING_H

#include <stdint.h>
#include <linux/io_uring.h>

struct ring {
	int fd;
	unsigned int entries;
	unsigned int *sq_tail, *cq_head, *cq_tail;
	unsigned int sq_mask, cq_mask;
	unsigned int queued;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

/* All return 0 or a count, or -errno. */
int ring_init(struct ring *ring, unsigned int entries);
void ring_exit(struct ring *ring);
struct io_uring_sqe *ring_sqe(struct ring *ring);
int ring_submit_and_wait(struct ring *ring, unsigned int nr);
struct io_uring_cqe *ring_peek(struct ring *ring);
void ring_seen(struct ring *ring);
int ring_register(int fd, unsigned int opcode, void *arg, unsigned int nr);
int ring_sparse_table(struct ring *ring, unsigned int nr);
int ring_update_slot(struct ring *ring, unsigned int slot, struct io_uring_regbuf_desc *desc);
int ring_query(int fd, unsigned int op, void *data, unsigned int size);

#endif
