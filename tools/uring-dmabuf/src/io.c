// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Handles: a ring with buffers and targets for all threads of a process */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "kernel.h"

#define MAX_DEPTH	8192
#define PAGE		4096ULL

/* ---- the handle ---- */

static int check_params(struct dmabuf_io_params *p)
{
	if (p->flags || p->resv[0] || p->resv[1])
		return -EINVAL;
	p->depth = p->depth ? p->depth : 128;
	p->max_buffers = p->max_buffers ? p->max_buffers : 64;
	p->max_targets = p->max_targets ? p->max_targets : 64;
	if (p->depth > MAX_DEPTH || p->max_buffers > 1 << 14 || p->max_targets > 1 << 14)
		return -EINVAL;
	return 0;
}

static int init_tables(struct dmabuf_io *io)
{
	size_t words = (io->max_targets + 63) / 64;
	uint64_t *bits;

	io->buffers = calloc(io->max_buffers, sizeof(*io->buffers));
	io->targets = calloc(io->max_targets, sizeof(*io->targets));
	bits = calloc(io->max_buffers * words, sizeof(*bits));
	if (!io->buffers || !io->targets || !bits) {
		free(bits);
		return -ENOMEM;
	}
	for (unsigned int i = 0; i < io->max_buffers; i++) {
		io->buffers[i].prepared = bits + i * words;
		io->buffers[i].id = (int)i;
		io->buffers[i].fd = -1;
		pthread_mutex_init(&io->buffers[i].registering, NULL);
	}
	for (unsigned int i = 0; i < io->max_targets; i++) {
		io->targets[i].id = (int)i;
		io->targets[i].fd = -1;
	}
	return 0;
}

static void free_all(struct dmabuf_io *io)
{
	if (io->buffers)
		free(io->buffers[0].prepared);
	free(io->buffers);
	free(io->targets);
	if (io->bounce)
		munmap(io->bounce, (size_t)BOUNCE_CHUNKS * BOUNCE_SIZE);
	free(io);
}

/*
 * Each request in flight has one entry at a time, and one to cancel it; both may have a
 * completion that nobody has taken, and a send a notification.
 */
static int init_ring(struct dmabuf_io *io)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
		.cq_entries = 4 * io->depth,
	};
	int ret = io_uring_queue_init_params(2 * io->depth, &io->ring, &p);

	if (ret)
		return ret;
	/* a filter may allow to make a ring, and nothing else: nobody would be told later */
	ret = io_uring_get_events(&io->ring);
	if (ret >= 0)
		ret = io_uring_register_buffers_sparse(&io->ring, io->max_buffers);
	if (ret < 0) {
		io_uring_queue_exit(&io->ring);
		return ret;
	}
	/* a child has nothing to do here */
	io_uring_ring_dontfork(&io->ring);
	return 0;
}

int dmabuf_io_open(struct dmabuf_io **handle, const struct dmabuf_io_params *params)
{
	struct dmabuf_io_params p = { 0 };
	struct dmabuf_io *io;
	int ret;

	*handle = NULL;
	if (params)
		p = *params;
	ret = check_params(&p);
	if (ret)
		return ret;
	io = calloc(1, sizeof(*io));
	if (!io)
		return -ENOMEM;
	io->event_fd = -1;
	io->depth = p.depth;
	io->max_buffers = p.max_buffers;
	io->max_targets = p.max_targets;
	ret = init_tables(io);
	if (!ret)
		ret = init_ring(io);
	if (ret) {
		free_all(io);
		return ret;
	}
	pthread_mutex_init(&io->lock, NULL);
	*handle = io;
	return 0;
}

void dmabuf_io_close(struct dmabuf_io *io)
{
	if (!io)
		return;
	io_end_requests(io);
	/* a child that was forked has the ring, too, and would keep what is registered */
	io_uring_unregister_buffers(&io->ring);
	io_uring_queue_exit(&io->ring);
	for (unsigned int i = 0; i < io->max_buffers; i++) {
		if (io->buffers[i].fd >= 0)
			close(io->buffers[i].fd);
		pthread_mutex_destroy(&io->buffers[i].registering);
	}
	for (unsigned int i = 0; i < io->max_targets; i++)
		if (io->targets[i].used)
			close(io->targets[i].fd);
	if (io->event_fd >= 0)
		close(io->event_fd);
	pthread_mutex_destroy(&io->lock);
	free_all(io);
}

int dmabuf_io_event_fd(struct dmabuf_io *io)
{
	int ret;

	pthread_mutex_lock(&io->lock);
	if (io->event_fd < 0) {
		ret = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (ret < 0) {
			ret = -errno;
			goto out;
		}
		io->event_fd = ret;
		ret = io_uring_register_eventfd(&io->ring, io->event_fd);
		if (ret) {
			close(io->event_fd);
			io->event_fd = -1;
			goto out;
		}
		/* what was done before it was there */
		eventfd_write(io->event_fd, 1);
	}
	ret = io->event_fd;
out:
	pthread_mutex_unlock(&io->lock);
	return ret;
}

/* ---- numbers ---- */

struct io_buffer *io_buffer_of(struct dmabuf_io *io, int id)
{
	unsigned int i = (unsigned int)id & ID_INDEX;
	struct io_buffer *b = i < io->max_buffers ? &io->buffers[i] : NULL;

	return b && b->used && !b->leaves && b->id == id ? b : NULL;
}

struct io_target *io_target_of(struct dmabuf_io *io, int id)
{
	unsigned int i = (unsigned int)id & ID_INDEX;
	struct io_target *t = i < io->max_targets ? &io->targets[i] : NULL;

	return t && t->used && t->id == id ? t : NULL;
}

/* So that a number of one that was removed is not taken for another's */
static int next_id(int id)
{
	return (int)(((unsigned int)id + ID_STEP) & 0x7fffffff);
}

static unsigned int index_of(int id)
{
	return (unsigned int)id & ID_INDEX;
}

bool io_is_prepared(const struct io_buffer *b, const struct io_target *t)
{
	unsigned int i = index_of(t->id);

	return b->bounce || b->prepared[i / 64] >> i % 64 & 1;
}

static void set_prepared(struct io_buffer *b, unsigned int i, bool on)
{
	uint64_t bit = 1ULL << i % 64;

	if (on)
		b->prepared[i / 64] |= bit;
	else
		b->prepared[i / 64] &= ~bit;
}

/* ---- buffers ---- */

static int make_bounce(struct dmabuf_io *io)
{
	void *p;

	if (io->bounce)
		return 0;
	p = mmap(NULL, (size_t)BOUNCE_CHUNKS * BOUNCE_SIZE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	madvise(p, (size_t)BOUNCE_CHUNKS * BOUNCE_SIZE, MADV_DONTFORK);
	io->bounce = p;
	io->chunks[0] = io->chunks[1] = (1U << BOUNCE_HALF) - 1;
	return 0;
}

static bool is_host(const struct dmabuf_mem *mem)
{
	return mem->fd < 0 && mem->ptr;
}

/* Pages of the dma-buf are registered: all that the memory is in */
static void set_range(struct io_buffer *b, const struct dmabuf_mem *mem)
{
	b->off = mem->off & ~(PAGE - 1);
	b->begins = mem->off - b->off;
	b->length = mem->size;
	b->size = (b->begins + b->length + PAGE - 1) & ~(PAGE - 1);
}

int dmabuf_io_add_buffer(struct dmabuf_io *io, struct dmabuf_mem *mem, unsigned int flags)
{
	bool bounce = flags == DMABUF_IO_BOUNCE;
	struct io_buffer *b = NULL;
	int fd = -1, ret;

	if (!bounce && flags & (DMABUF_IO_BOUNCE | IO_URING_DMABUF_ADD_TARGETS))
		return -EINVAL;
	/* memory that nobody has opened cannot be copied */
	if (!mem->size || (bounce && !mem->ops))
		return -EINVAL;
	if (!bounce || !is_host(mem))
		fd = fcntl(mem->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0 && !(bounce && is_host(mem)))
		return -errno;
	pthread_mutex_lock(&io->lock);
	ret = bounce && !is_host(mem) ? make_bounce(io) : 0;
	for (unsigned int i = 0; i < io->max_buffers && !ret && !b; i++)
		if (!io->buffers[i].used)
			b = &io->buffers[i];
	if (!ret && !b)
		ret = -ENOSPC;
	if (!ret) {
		set_range(b, mem);
		b->used = true;
		b->registered = false;
		b->fd = fd;
		b->flags = flags;
		b->bounce = bounce ? mem : NULL;
		ret = b->id;
	}
	pthread_mutex_unlock(&io->lock);
	if (ret < 0 && fd >= 0)
		close(fd);
	return ret;
}

int dmabuf_io_remove_buffer(struct dmabuf_io *io, int buffer)
{
	struct io_buffer *b;
	int ret = 0;

	pthread_mutex_lock(&io->lock);
	b = io_buffer_of(io, buffer);
	if (!b)
		ret = -EBADF;
	else if (b->users)
		ret = -EBUSY;
	else
		b->leaves = true;
	pthread_mutex_unlock(&io->lock);
	if (ret)
		return ret;

	if (b->registered)
		ret = io_uring_dmabuf_unregister(&io->ring, index_of(buffer));

	pthread_mutex_lock(&io->lock);
	b->leaves = false;
	if (!ret) {
		for (unsigned int i = 0; i < io->max_targets; i++)
			set_prepared(b, i, false);
		if (b->fd >= 0)
			close(b->fd);
		b->fd = -1;
		b->used = false;
		b->id = next_id(b->id);
	}
	pthread_mutex_unlock(&io->lock);
	return ret;
}

/* ---- targets ---- */

static bool is_stream(int fd)
{
	socklen_t len = sizeof(int);
	int type;

	return !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) && type == SOCK_STREAM;
}

int dmabuf_io_add_target(struct dmabuf_io *io, int fd)
{
	struct io_target *t = NULL;
	struct stat st;
	int own, ret;

	own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (own < 0)
		return -errno;
	if (fstat(own, &st)) {
		ret = -errno;
		close(own);
		return ret;
	}
	pthread_mutex_lock(&io->lock);
	for (unsigned int i = 0; i < io->max_targets && !t; i++)
		if (!io->targets[i].used)
			t = &io->targets[i];
	if (t) {
		t->used = true;
		t->fd = own;
		t->socket = S_ISSOCK(st.st_mode);
		t->stream = t->socket && is_stream(own);
		t->broken = 0;
		ret = t->id;
	} else {
		ret = -ENOSPC;
	}
	pthread_mutex_unlock(&io->lock);
	if (ret < 0)
		close(own);
	return ret;
}

int dmabuf_io_remove_target(struct dmabuf_io *io, int target)
{
	struct io_target *t;
	int ret = 0;

	pthread_mutex_lock(&io->lock);
	t = io_target_of(io, target);
	if (!t) {
		ret = -EBADF;
	} else if (t->users) {
		ret = -EBUSY;
	} else {
		/* the device stays a device of the buffer, until that is removed */
		for (unsigned int i = 0; i < io->max_buffers; i++)
			set_prepared(&io->buffers[i], index_of(target), false);
		close(t->fd);
		t->fd = -1;
		t->used = false;
		t->id = next_id(t->id);
	}
	pthread_mutex_unlock(&io->lock);
	return ret;
}

/* ---- a buffer for a target ---- */

static int register_for(struct dmabuf_io *io, struct io_buffer *b, int fd,
			struct io_uring_dmabuf_reason *why)
{
	unsigned int slot = index_of(b->id);

	if (b->registered)
		return io_uring_dmabuf_add_targets(&io->ring, slot, &fd, 1, why);
	return io_uring_dmabuf_register_range(&io->ring, slot, b->fd, b->off, b->size, &fd, 1,
					      b->flags, why);
}

int dmabuf_io_prepare(struct dmabuf_io *io, int buffer, int target,
		      struct io_uring_dmabuf_reason *why)
{
	struct io_uring_dmabuf_reason unasked;
	struct io_buffer *b;
	struct io_target *t;
	int ret = 0;

	if (!why)
		why = &unasked;
	memset(why, 0, sizeof(*why));
	why->size = sizeof(*why);
	why->target = -1;

	pthread_mutex_lock(&io->lock);
	b = io_buffer_of(io, buffer);
	t = io_target_of(io, target);
	if (!b || !t)
		ret = -EBADF;
	else if (!io_is_prepared(b, t))
		ret = 1;
	if (ret > 0) {
		b->users++;
		t->users++;
	}
	pthread_mutex_unlock(&io->lock);
	if (ret <= 0)
		return ret;

	/* users hold what is read here; two that prepare the same do it one after the other */
	pthread_mutex_lock(&b->registering);
	pthread_mutex_lock(&io->lock);
	ret = !io_is_prepared(b, t);
	pthread_mutex_unlock(&io->lock);
	if (ret)
		ret = register_for(io, b, t->fd, why);
	pthread_mutex_lock(&io->lock);
	if (!ret) {
		b->registered = true;
		set_prepared(b, index_of(target), true);
	}
	pthread_mutex_unlock(&io->lock);
	pthread_mutex_unlock(&b->registering);

	pthread_mutex_lock(&io->lock);
	b->users--;
	t->users--;
	pthread_mutex_unlock(&io->lock);
	return ret;
}

int dmabuf_io_map_info(struct dmabuf_io *io, int buffer, unsigned int target,
		       struct io_uring_dmabuf_map *map)
{
	struct io_buffer *b;
	int ret = 0;

	pthread_mutex_lock(&io->lock);
	b = io_buffer_of(io, buffer);
	if (b)
		b->users++;
	pthread_mutex_unlock(&io->lock);
	if (!b)
		return -EBADF;
	ret = io_uring_dmabuf_map_info(&io->ring, index_of(buffer), target, map);
	pthread_mutex_lock(&io->lock);
	b->users--;
	pthread_mutex_unlock(&io->lock);
	return ret;
}
