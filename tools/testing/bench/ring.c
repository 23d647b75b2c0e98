// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/io_uring/query.h>

#include "ring.h"

int ring_init(struct ring *ring, unsigned int entries)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			 IORING_SETUP_NO_SQARRAY,
	};
	size_t cq_size, sqes_size;
	char *rings;

	memset(ring, 0, sizeof(*ring));
	ring->fd = (int)syscall(__NR_io_uring_setup, entries, &p);
	if (ring->fd < 0)
		return -errno;

	cq_size = p.cq_off.cqes + p.cq_entries * sizeof(*ring->cqes);
	sqes_size = p.sq_entries * sizeof(*ring->sqes);
	rings = mmap(NULL, cq_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		     ring->fd, IORING_OFF_CQ_RING);
	if (rings == MAP_FAILED)
		goto fail;
	ring->sqes = mmap(NULL, sqes_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			  ring->fd, IORING_OFF_SQES);
	if (ring->sqes == MAP_FAILED)
		goto fail;

	ring->entries = p.sq_entries;
	ring->sq_tail = (unsigned int *)(rings + p.sq_off.tail);
	ring->sq_mask = *(unsigned int *)(rings + p.sq_off.ring_mask);
	ring->cq_head = (unsigned int *)(rings + p.cq_off.head);
	ring->cq_tail = (unsigned int *)(rings + p.cq_off.tail);
	ring->cq_mask = *(unsigned int *)(rings + p.cq_off.ring_mask);
	ring->cqes = (struct io_uring_cqe *)(rings + p.cq_off.cqes);
	return 0;
fail:
	close(ring->fd);
	return -ENOMEM;
}

/* The mappings go with the process; the ring does not wait for it. */
void ring_exit(struct ring *ring)
{
	close(ring->fd);
}

struct io_uring_sqe *ring_sqe(struct ring *ring)
{
	unsigned int at = *ring->sq_tail + ring->queued;
	struct io_uring_sqe *sqe = &ring->sqes[at & ring->sq_mask];

	if (ring->queued == ring->entries)
		return NULL;
	ring->queued++;
	memset(sqe, 0, sizeof(*sqe));
	return sqe;
}

int ring_submit_and_wait(struct ring *ring, unsigned int nr)
{
	unsigned int queued = ring->queued;
	long ret;

	atomic_store_explicit((_Atomic unsigned int *)ring->sq_tail,
			      *ring->sq_tail + queued, memory_order_release);
	ring->queued = 0;
	ret = syscall(__NR_io_uring_enter, ring->fd, queued, nr, IORING_ENTER_GETEVENTS, NULL, 0);
	if (ret < 0)
		return -errno;
	return ret == queued ? 0 : -EIO;
}

struct io_uring_cqe *ring_peek(struct ring *ring)
{
	unsigned int head = *ring->cq_head;

	if (head == atomic_load_explicit((_Atomic unsigned int *)ring->cq_tail,
					 memory_order_acquire))
		return NULL;
	return &ring->cqes[head & ring->cq_mask];
}

void ring_seen(struct ring *ring)
{
	atomic_store_explicit((_Atomic unsigned int *)ring->cq_head,
			      *ring->cq_head + 1, memory_order_release);
}

int ring_register(int fd, unsigned int opcode, void *arg, unsigned int nr)
{
	long ret = syscall(__NR_io_uring_register, fd, opcode, arg, nr);

	return ret < 0 ? -errno : (int)ret;
}

int ring_sparse_table(struct ring *ring, unsigned int nr)
{
	struct io_uring_rsrc_register reg = { .nr = nr, .flags = IORING_RSRC_REGISTER_SPARSE };

	return ring_register(ring->fd, IORING_REGISTER_BUFFERS2, &reg, sizeof(reg));
}

int ring_update_slot(struct ring *ring, unsigned int slot, struct io_uring_regbuf_desc *desc)
{
	struct io_uring_rsrc_update2 up = {
		.offset = slot,
		.flags = IORING_RSRC_UPDATE_EXTENDED,
		.data = (uintptr_t)desc,
		.nr = 1,
	};
	int ret = ring_register(ring->fd, IORING_REGISTER_BUFFERS_UPDATE, &up, sizeof(up));

	if (ret < 0)
		return ret;
	return ret == 1 ? 0 : -EIO;
}

int ring_query(int fd, unsigned int op, void *data, unsigned int size)
{
	struct io_uring_query_hdr hdr = {
		.query_data = (uintptr_t)data,
		.query_op = op,
		.size = size,
	};
	int ret = ring_register(fd, IORING_REGISTER_QUERY, &hdr, 0);

	return ret < 0 ? ret : hdr.result;
}
