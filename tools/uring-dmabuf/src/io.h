/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * The handle of dmabuf_io_open(). Who holds what:
 *
 *   @lock	everything of the handle, its ring and its requests. It is not held while
 *		anybody sleeps: in the kernel for a completion, or for an exporter
 *   @leader	somebody sleeps in the kernel for completions. Only the leader takes
 *		completions then: were they taken by others while it is on its way into the
 *		kernel, it would sleep for one that has been. All others are @waiters, each at
 *		a futex of its own. When the leader leaves, it wakes one of them to lead
 *   users	of a buffer and a target: requests in flight, and a prepare under way. What
 *		has users stays
 */
#ifndef URING_DMABUF_IO_H
#define URING_DMABUF_IO_H

#include <pthread.h>

#include "uring-dmabuf.h"

/* Half of the chunks are for sends, whose peers may never take their data, half for files */
#define BOUNCE_HALF	8
#define BOUNCE_CHUNKS	(2 * BOUNCE_HALF)
#define BOUNCE_SIZE	(1U << 20)

/* A number: an index, and above it how often that index was given out. Never negative. */
#define ID_INDEX	0xffff
#define ID_STEP		0x10000

struct io_buffer {
	int id;
	bool used;
	bool leaves;			/* is being removed */
	bool registered;
	unsigned int users;
	int fd;
	unsigned int flags;
	uint64_t off, size;		/* of what is registered, in the dma-buf */
	uint64_t begins;		/* the memory, in what is registered */
	uint64_t length;
	struct dmabuf_mem *bounce;	/* by way of a chunk, or, if it is host memory, as it is */
	uint64_t *prepared;		/* a bit for each target */
	pthread_mutex_t registering;	/* outside of @lock */
};

struct list {
	struct dmabuf_io_request *first, *last;
};

struct io_target {
	int id;
	bool used;
	bool socket;
	unsigned int users;
	int fd;
	bool stream;			/* its bytes have an order */
	unsigned int broken;		/* sends that failed, and whose owners do not know yet */
	bool sending;			/* a request has the turn */
	struct list sends;		/* others, in their order */
};

/* A thread that sleeps: for one request, or, if it is NULL, for any */
struct waiter {
	const struct dmabuf_io_request *r;
	uint32_t woken;			/* the futex */
	struct waiter *next, *prev;
};

struct dmabuf_io {
	pthread_mutex_t lock;
	struct io_uring ring;
	struct waiter *waiters;
	bool leader;
	bool closing;
	bool news;			/* a request is done, and not everybody knows */
	int event_fd;
	unsigned int depth, in_flight;
	unsigned int max_buffers, max_targets;
	struct io_buffer *buffers;
	struct io_target *targets;
	struct list done;		/* nobody has them yet */
	struct list copies;		/* the CPU is to copy for them */
	struct list starved[2];		/* of chunks, of one of the halves */
	char *bounce;			/* BOUNCE_CHUNKS of BOUNCE_SIZE */
	uint32_t chunks[2];		/* free ones of each half, a bit each */
};

enum request_state {
	REQUEST_IDLE = 0,
	REQUEST_BUSY,
	REQUEST_DONE,			/* in the list */
	REQUEST_WAITED,			/* done, for who waits for it */
};

/* dmabuf_io_request.priv */
struct request {
	struct dmabuf_io_request *next, *prev;
	uint8_t state;
	uint8_t cancel;			/* has been asked for */
	uint8_t copied;			/* the CPU has copied what was to be sent */
	uint8_t turn;			/* the socket takes its bytes, and no other's */
	uint8_t taken;			/* was submitted once */
	uint8_t broke;			/* counts in the target's @broken */
	uint32_t step;			/* bytes of the request in the kernel */
	int32_t result;			/* of it, if a notification is to come */
	int32_t chunk;			/* + 1 */
	struct list *waits;		/* for its turn, or for a chunk: in this list */
};

static inline struct request *request_of(struct dmabuf_io_request *r)
{
	return (struct request *)r->priv;
}

_Static_assert(sizeof(struct request) <= sizeof(((struct dmabuf_io_request *)0)->priv),
	       "private part of a request");

/* By number, or NULL */
struct io_buffer *io_buffer_of(struct dmabuf_io *io, int id);
struct io_target *io_target_of(struct dmabuf_io *io, int id);
bool io_is_prepared(const struct io_buffer *b, const struct io_target *t);

/* Cancels everything and waits for it; called once */
void io_end_requests(struct dmabuf_io *io);

#endif
