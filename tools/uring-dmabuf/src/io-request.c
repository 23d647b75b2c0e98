// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Requests of a handle: from a submission to the one completion that its owner sees.
 *
 * A request has at most one entry in the ring at a time. What the kernel did a part of is
 * submitted again for the rest, by whoever takes the completion.
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include <linux/futex.h>

#include "io.h"
#include "kernel.h"

/* Of one entry; larger requests go in steps */
#define MAX_STEP	(1ULL << 30)
/* Smallest block of any drive: what ends within one is the end of a file */
#define SECTOR		512

/* Linux 6.2; liburing of Debian 12 does not name it */
#define SEND_ZC_REPORT_USAGE	(1U << 3)
#define NOTIF_ZC_COPIED		(1U << 31)

/* ---- lists ---- */

static void append(struct list *l, struct dmabuf_io_request *r)
{
	struct request *q = request_of(r);

	q->next = NULL;
	q->prev = l->last;
	if (l->last)
		request_of(l->last)->next = r;
	else
		l->first = r;
	l->last = r;
}

static void take(struct list *l, struct dmabuf_io_request *r)
{
	struct request *q = request_of(r);

	if (q->prev)
		request_of(q->prev)->next = q->next;
	else
		l->first = q->next;
	if (q->next)
		request_of(q->next)->prev = q->prev;
	else
		l->last = q->prev;
}

static struct dmabuf_io_request *pop(struct list *l)
{
	struct dmabuf_io_request *r = l->first;

	if (r)
		take(l, r);
	return r;
}

/* It is not in the kernel, and start() is next */
static void park(struct list *l, struct dmabuf_io_request *r)
{
	request_of(r)->waits = l;
	append(l, r);
}

static struct dmabuf_io_request *unpark(struct list *l)
{
	struct dmabuf_io_request *r = pop(l);

	if (r)
		request_of(r)->waits = NULL;
	return r;
}

/* ---- into the ring ---- */

static char *chunk_of(const struct dmabuf_io *io, const struct request *q)
{
	return io->bounce + (size_t)(q->chunk - 1) * BOUNCE_SIZE;
}

/* Memory of a device, which the CPU has to copy to and from a chunk */
static bool takes_chunk(const struct io_buffer *b)
{
	return b->bounce && b->bounce->fd >= 0;
}

/* Memory of the process, as any program has it */
static void prep_bounced(struct dmabuf_io *io, struct io_uring_sqe *sqe,
			 const struct dmabuf_io_request *r, const struct io_buffer *b, int fd)
{
	struct request *q = request_of((struct dmabuf_io_request *)r);
	char *chunk = takes_chunk(b) ? chunk_of(io, q) :
				       (char *)b->bounce->ptr + r->buffer_off + r->moved;
	uint64_t at = r->target_off + r->moved;

	switch (r->op) {
	case DMABUF_IO_READ:
		io_uring_prep_read(sqe, fd, chunk, q->step, at);
		break;
	case DMABUF_IO_WRITE:
		io_uring_prep_write(sqe, fd, chunk, q->step, at);
		break;
	case DMABUF_IO_SEND:
		io_uring_prep_send(sqe, fd, chunk, q->step, MSG_NOSIGNAL | MSG_WAITALL);
		break;
	}
}

static void prep_direct(struct io_uring_sqe *sqe, const struct dmabuf_io_request *r,
			const struct io_buffer *b, int fd)
{
	struct request *q = request_of((struct dmabuf_io_request *)r);
	uint64_t from = b->begins + r->buffer_off + r->moved;
	uint64_t at = r->target_off + r->moved;
	unsigned int slot = (unsigned int)b->id & ID_INDEX;

	switch (r->op) {
	case DMABUF_IO_READ:
		io_uring_prep_read_dmabuf(sqe, fd, from, q->step, at, slot);
		break;
	case DMABUF_IO_WRITE:
		io_uring_prep_write_dmabuf(sqe, fd, from, q->step, at, slot);
		break;
	case DMABUF_IO_SEND:
		/* without the flag nothing is ever copied */
		io_uring_prep_send_zc_dmabuf(sqe, fd, from, q->step, MSG_NOSIGNAL | MSG_WAITALL,
					     b->flags & IO_URING_DMABUF_COPY_OK ?
					     SEND_ZC_REPORT_USAGE : 0, slot);
		break;
	}
}

static void set_step(const struct io_buffer *b, struct dmabuf_io_request *r)
{
	uint64_t left = r->size - r->moved;
	uint64_t most = takes_chunk(b) ? BOUNCE_SIZE : MAX_STEP;

	request_of(r)->step = (uint32_t)(left < most ? left : most);
}

/*
 * False: the kernel has no memory for it now. It is tried again by the leader, which never
 * sleeps for long, or by who polls
 */
static bool flush(struct dmabuf_io *io)
{
	while (io_uring_sq_ready(&io->ring)) {
		int ret = io_uring_submit(&io->ring);

		if (ret >= 0 || ret == -EINTR)
			continue;
		if (io->event_fd >= 0)
			eventfd_write(io->event_fd, 1);
		return false;
	}
	return true;
}

/* There are two entries for each request; only flush() that fails for long makes them scarce */
static struct io_uring_sqe *get_sqe(struct dmabuf_io *io)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&io->ring);

	if (!sqe && flush(io))
		sqe = io_uring_get_sqe(&io->ring);
	return sqe;
}

static void finish(struct dmabuf_io *io, struct dmabuf_io_request *r, int error);

static void enqueue(struct dmabuf_io *io, struct dmabuf_io_request *r)
{
	struct io_buffer *b = io_buffer_of(io, r->buffer);
	int fd = io_target_of(io, r->target)->fd;
	struct io_uring_sqe *sqe = get_sqe(io);

	if (!sqe) {
		finish(io, r, -ENOMEM);
		return;
	}
	if (b->bounce)
		prep_bounced(io, sqe, r, b, fd);
	else
		prep_direct(sqe, r, b, fd);
	io_uring_sqe_set_data(sqe, r);
}

static unsigned int half_of(const struct dmabuf_io_request *r)
{
	return r->op == DMABUF_IO_SEND;
}

static bool take_chunk(struct dmabuf_io *io, const struct dmabuf_io_request *r, struct request *q)
{
	unsigned int half = half_of(r);

	if (!io->chunks[half])
		return false;
	q->chunk = (int32_t)(half * BOUNCE_HALF) + __builtin_ffs((int)io->chunks[half]);
	io->chunks[half] &= io->chunks[half] - 1;
	return true;
}

static void start(struct dmabuf_io *io, struct dmabuf_io_request *r)
{
	struct io_buffer *b = io_buffer_of(io, r->buffer);
	struct io_target *t = io_target_of(io, r->target);
	struct request *q = request_of(r);

	if (r->op == DMABUF_IO_SEND && !q->turn) {
		if (t->sending) {
			park(&t->sends, r);
			return;
		}
		t->sending = true;
		q->turn = 1;
	}
	set_step(b, r);
	if (takes_chunk(b) && !q->chunk && !take_chunk(io, r, q)) {
		park(&io->starved[half_of(r)], r);
		return;
	}
	if (takes_chunk(b) && r->op != DMABUF_IO_READ)
		append(&io->copies, r);
	else
		enqueue(io, r);
}

/* ---- out of the ring ---- */

static void futex_wake(uint32_t *word)
{
	syscall(__NR_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void wake(struct waiter *w)
{
	if (w->woken)
		return;
	__atomic_store_n(&w->woken, 1, __ATOMIC_RELEASE);
	futex_wake(&w->woken);
}

/* Who waits for the request, or for any */
static void wake_for(struct dmabuf_io *io, const struct dmabuf_io_request *r)
{
	for (struct waiter *w = io->waiters; w; w = w->next)
		if (w->r ? w->r == r : request_of((struct dmabuf_io_request *)r)->state == REQUEST_DONE)
			wake(w);
}

static void free_chunk(struct dmabuf_io *io, const struct dmabuf_io_request *r, struct request *q)
{
	unsigned int half = half_of(r);
	struct dmabuf_io_request *next = unpark(&io->starved[half]);

	io->chunks[half] |= 1U << ((unsigned int)q->chunk - 1 - half * BOUNCE_HALF);
	q->chunk = 0;
	if (next)
		start(io, next);
}

/*
 * The socket has taken all of the request, whose memory may not be free yet, or there will
 * be no more of it: then what was to come behind it must not be sent, either
 */
static void end_turn(struct dmabuf_io *io, struct dmabuf_io_request *r, bool failed)
{
	struct io_target *t = io_target_of(io, r->target);
	struct dmabuf_io_request *next;

	request_of(r)->turn = 0;
	t->sending = false;
	while (failed && t->stream && (next = unpark(&t->sends)))
		finish(io, next, -ECANCELED);
	next = unpark(&t->sends);
	if (next)
		start(io, next);
}

static void finish(struct dmabuf_io *io, struct dmabuf_io_request *r, int error)
{
	struct request *q = request_of(r);

	r->result = error ? error : (int64_t)r->moved;
	io_buffer_of(io, r->buffer)->users--;
	io_target_of(io, r->target)->users--;
	io->in_flight--;
	if (error && r->op == DMABUF_IO_SEND && io_target_of(io, r->target)->stream) {
		q->broke = 1;
		io_target_of(io, r->target)->broken++;
	}
	if (io->closing) {
		q->state = REQUEST_IDLE;
	} else if (r->flags & DMABUF_IO_WAITED) {
		q->state = REQUEST_WAITED;
	} else {
		q->state = REQUEST_DONE;
		append(&io->done, r);
	}
	wake_for(io, r);
	io->news = true;
	if (q->turn)
		end_turn(io, r, error);
	if (q->chunk)
		free_chunk(io, r, q);
}

/* It is not submitted again */
static bool ends(const struct dmabuf_io *io, const struct request *q)
{
	return q->cancel || io->closing;
}

/* @q->step bytes, or as many of them as @res, are where they should be */
static void advance(struct dmabuf_io *io, struct dmabuf_io_request *r, uint32_t res)
{
	struct request *q = request_of(r);
	bool short_read = res < q->step && r->op == DMABUF_IO_READ;

	r->moved += res;
	if (r->moved == r->size)
		finish(io, r, 0);
	else if (!res)
		finish(io, r, r->op == DMABUF_IO_READ ? 0 : -EIO);
	else if (short_read && r->moved % SECTOR)
		finish(io, r, 0);
	else if (ends(io, q))
		finish(io, r, -ECANCELED);
	else
		start(io, r);
}

static void step_done(struct dmabuf_io *io, struct dmabuf_io_request *r, int res)
{
	struct io_buffer *b = io_buffer_of(io, r->buffer);
	struct request *q = request_of(r);

	/* the thread that submitted it has ended, or has had a signal */
	if (!ends(io, q) &&
	    (res == -ECANCELED || (res == -EINTR && r->op == DMABUF_IO_SEND))) {
		enqueue(io, r);
		return;
	}
	if (res < 0) {
		finish(io, r, res);
		return;
	}
	if (takes_chunk(b) && r->op == DMABUF_IO_READ && res) {
		q->result = res;
		append(&io->copies, r);
		return;
	}
	/* a plain send is a copy to the socket */
	if (takes_chunk(b) || q->copied || (b->bounce && r->op == DMABUF_IO_SEND))
		r->copied += (uint32_t)res;
	q->copied = 0;
	advance(io, r, (uint32_t)res);
}

static void complete(struct dmabuf_io *io, const struct io_uring_cqe *cqe)
{
	struct dmabuf_io_request *r = io_uring_cqe_get_data(cqe);
	struct request *q;

	/* of an entry that cancels */
	if (!r)
		return;
	q = request_of(r);
	if (cqe->flags & IORING_CQE_F_NOTIF) {
		q->copied = r->op == DMABUF_IO_SEND && (uint32_t)cqe->res & NOTIF_ZC_COPIED;
		step_done(io, r, q->result);
	} else if (cqe->flags & IORING_CQE_F_MORE) {
		q->result = cqe->res;
		if (cqe->res >= 0 && r->moved + (uint32_t)cqe->res == r->size)
			end_turn(io, r, false);
	} else {
		step_done(io, r, cqe->res);
	}
}

/* Takes all completions that are there. Nobody else is the leader. */
static void drain(struct dmabuf_io *io)
{
	struct io_uring_cqe *cqes[32];
	unsigned int n;

	do {
		n = io_uring_peek_batch_cqe(&io->ring, cqes, 32);
		for (unsigned int i = 0; i < n; i++)
			complete(io, cqes[i]);
		io_uring_cq_advance(&io->ring, n);
	} while (n);
	flush(io);
}

/*
 * What is done outside of a leader's sleep, by a copy or a cancellation, is told to the
 * leader, who sleeps until there is a completion; and to who polls the eventfd, as the kernel
 * may have told them of the completion before it was taken. What is left to be copied is for
 * any of them.
 */
static void announce(struct dmabuf_io *io)
{
	bool copies = io->copies.first;

	if (!io->news && !copies)
		return;
	io->news = false;
	if (io->leader) {
		struct io_uring_sqe *sqe = get_sqe(io);

		if (sqe) {
			io_uring_prep_nop(sqe);
			io_uring_sqe_set_data(sqe, NULL);
			flush(io);
		}
	}
	if (io->event_fd >= 0 && (io->done.first || copies))
		eventfd_write(io->event_fd, 1);
}

/* If nobody leads, and nobody is on the way to do so, somebody has to */
static void hand_over(struct dmabuf_io *io)
{
	if (io->leader)
		return;
	for (struct waiter *w = io->waiters; w; w = w->next)
		if (w->woken)
			return;
	if (io->waiters)
		wake(io->waiters);
}

static void unlock(struct dmabuf_io *io)
{
	announce(io);
	hand_over(io);
	pthread_mutex_unlock(&io->lock);
}

/* What the CPU has to copy; it may wait for an exporter, so without the lock */
static void copy_one(struct dmabuf_io *io, struct dmabuf_io_request *r)
{
	struct request *q = request_of(r);
	struct dmabuf_mem *mem = io_buffer_of(io, r->buffer)->bounce;
	uint64_t at = r->buffer_off + r->moved;
	char *chunk = chunk_of(io, q);
	int ret;

	unlock(io);
	if (r->op == DMABUF_IO_READ)
		ret = dmabuf_mem_copy_to(mem, at, chunk, (size_t)q->result);
	else
		ret = dmabuf_mem_copy_from(mem, at, chunk, q->step);
	pthread_mutex_lock(&io->lock);
	if (!ret && ends(io, q) && r->op != DMABUF_IO_READ)
		ret = -ECANCELED;
	if (ret) {
		finish(io, r, ret);
	} else if (r->op == DMABUF_IO_READ) {
		r->copied += (uint32_t)q->result;
		advance(io, r, (uint32_t)q->result);
	} else {
		enqueue(io, r);
	}
}

/* True: there was something to copy, and the world has changed meanwhile */
static bool run_copy(struct dmabuf_io *io)
{
	struct dmabuf_io_request *r = pop(&io->copies);

	if (!r)
		return false;
	copy_one(io, r);
	flush(io);
	announce(io);
	return true;
}

/* ---- submission ---- */

static int check(struct dmabuf_io *io, const struct dmabuf_io_request *r)
{
	const struct io_buffer *b = io_buffer_of(io, r->buffer);
	const struct io_target *t = io_target_of(io, r->target);
	const struct request *q = request_of((struct dmabuf_io_request *)r);

	if (q->state != REQUEST_IDLE)
		return -EBUSY;
	if (r->op > DMABUF_IO_SEND || r->flags & ~DMABUF_IO_WAITED || !r->size)
		return -EINVAL;
	if (!b || !t)
		return -EBADF;
	if (t->socket != (r->op == DMABUF_IO_SEND))
		return t->socket ? -EOPNOTSUPP : -ENOTSOCK;
	if (r->buffer_off > b->length || r->size > b->length - r->buffer_off)
		return -EFAULT;
	if (r->target_off + r->size < r->target_off || r->target_off + r->size > INT64_MAX)
		return -EINVAL;
	if (!io_is_prepared(b, t))
		return -ENOTCONN;
	if (io->in_flight == io->depth)
		return -EAGAIN;
	return 0;
}

int dmabuf_io_submit(struct dmabuf_io *io, struct dmabuf_io_request *const *requests,
		     unsigned int nr)
{
	unsigned int n;
	int ret = 0;

	pthread_mutex_lock(&io->lock);
	for (n = 0; n < nr; n++) {
		struct dmabuf_io_request *r = requests[n];
		struct request *q = request_of(r);

		ret = check(io, r);
		if (ret)
			break;
		memset(q, 0, sizeof(*q));
		q->state = REQUEST_BUSY;
		q->taken = 1;
		r->result = 0;
		r->moved = r->copied = 0;
		io_buffer_of(io, r->buffer)->users++;
		io_target_of(io, r->target)->users++;
		io->in_flight++;
		/* it would leave a gap, of which its owner does not know yet */
		if (r->op == DMABUF_IO_SEND && io_target_of(io, r->target)->broken)
			finish(io, r, -ECANCELED);
		else
			start(io, r);
	}
	flush(io);
	/* as many as it has brought */
	for (unsigned int i = 0; i < n && run_copy(io); i++)
		;
	unlock(io);
	return n ? (int)n : ret;
}

/* What was to be sent behind it is cancelled with it: a stream has no gaps */
static void cancel_waiting(struct dmabuf_io *io, struct dmabuf_io_request *r)
{
	struct list *l = request_of(r)->waits;
	bool behind = l != &io->starved[0] && l != &io->starved[1] &&
		      io_target_of(io, r->target)->stream;

	while (r) {
		struct dmabuf_io_request *next = behind ? request_of(r)->next : NULL;

		take(l, r);
		request_of(r)->waits = NULL;
		finish(io, r, -ECANCELED);
		r = next;
	}
}

int dmabuf_io_cancel(struct dmabuf_io *io, struct dmabuf_io_request *r)
{
	struct request *q = request_of(r);
	struct io_uring_sqe *sqe;
	int ret = 0;

	pthread_mutex_lock(&io->lock);
	if (q->state != REQUEST_BUSY) {
		ret = -EINVAL;
	} else if (q->waits) {
		cancel_waiting(io, r);
		flush(io);
	} else {
		/* once more is harmless, and helps if there was no entry */
		q->cancel = 1;
		sqe = get_sqe(io);
		if (sqe) {
			io_uring_prep_cancel(sqe, r, 0);
			io_uring_sqe_set_data(sqe, NULL);
			flush(io);
		}
	}
	unlock(io);
	return ret;
}

/* ---- completion ---- */

struct deadline {
	bool none;
	bool now;
	struct timespec at;
};

static struct deadline deadline_of(int timeout)
{
	struct deadline d = { .none = timeout < 0, .now = !timeout };

	if (timeout > 0) {
		clock_gettime(CLOCK_MONOTONIC, &d.at);
		d.at.tv_sec += timeout / 1000;
		d.at.tv_nsec += timeout % 1000 * 1000000L;
		if (d.at.tv_nsec >= 1000000000L) {
			d.at.tv_sec++;
			d.at.tv_nsec -= 1000000000L;
		}
	}
	return d;
}

/* What is left of it; false: nothing is */
static bool time_left(const struct deadline *d, struct timespec *left)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	left->tv_sec = d->at.tv_sec - now.tv_sec;
	left->tv_nsec = d->at.tv_nsec - now.tv_nsec;
	if (left->tv_nsec < 0) {
		left->tv_sec--;
		left->tv_nsec += 1000000000L;
	}
	return left->tv_sec >= 0 && (left->tv_sec || left->tv_nsec);
}

/*
 * Until the kernel has a completion, but for a second at most: what others could not submit
 * then (the kernel had no memory) is tried again, and sooner if it is known already.
 */
static int sleep_in_kernel(struct dmabuf_io *io, const struct timespec *left, bool soon)
{
	struct __kernel_timespec ts = { .tv_sec = !soon, .tv_nsec = soon ? 10000000 : 0 };
	struct io_uring_getevents_arg arg = { .ts = to_u64(&ts) };

	if (left && (left->tv_sec < ts.tv_sec ||
		     (left->tv_sec == ts.tv_sec && left->tv_nsec < ts.tv_nsec))) {
		ts.tv_sec = left->tv_sec;
		ts.tv_nsec = left->tv_nsec;
	}
	if (syscall(__NR_io_uring_enter, io->ring.ring_fd, 0, 1,
		    IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof(arg)) >= 0)
		return 0;
	return errno == ETIME ? 0 : -errno;
}

/* As the leader: 0 or -EINTR. What others wait for may be there then, and somebody else leads. */
static int lead(struct dmabuf_io *io, const struct timespec *left)
{
	bool flushed = flush(io);
	int ret;

	io->leader = true;
	pthread_mutex_unlock(&io->lock);
	ret = sleep_in_kernel(io, left, !flushed);
	pthread_mutex_lock(&io->lock);
	io->leader = false;
	drain(io);
	return ret;
}

/* As one of the others. There always is a time, so that a signal handler ends it: -EINTR */
static int follow(struct dmabuf_io *io, const struct deadline *d,
		  const struct dmabuf_io_request *r)
{
	struct waiter w = { .r = r, .next = io->waiters };
	struct timespec at = d->at;
	long ret;

	if (d->none) {
		clock_gettime(CLOCK_MONOTONIC, &at);
		at.tv_sec += 3600;
	}
	if (w.next)
		w.next->prev = &w;
	io->waiters = &w;
	pthread_mutex_unlock(&io->lock);
	ret = syscall(__NR_futex, &w.woken, FUTEX_WAIT_BITSET_PRIVATE, 0, &at, NULL,
		      FUTEX_BITSET_MATCH_ANY);
	ret = ret < 0 && errno == EINTR ? -EINTR : 0;
	pthread_mutex_lock(&io->lock);
	if (w.next)
		w.next->prev = w.prev;
	if (w.prev)
		w.prev->next = w.next;
	else
		io->waiters = w.next;
	return (int)ret;
}

/* One round of waiting for @r or any, under the lock: 0, -ETIMEDOUT or -EINTR */
static int wait_once(struct dmabuf_io *io, const struct deadline *d,
		     const struct dmabuf_io_request *r, bool copied)
{
	struct timespec left;

	if (d->now || (!d->none && !time_left(d, &left)))
		return -ETIMEDOUT;
	/* there may be more to copy, or what it waits for is there */
	if (copied)
		return 0;
	announce(io);
	return io->leader ? follow(io, d, r) : lead(io, d->none ? NULL : &left);
}

/* Takes what is there. True: it has copied something, one thing, so that time is looked at */
static bool look(struct dmabuf_io *io)
{
	if (!io->leader)
		drain(io);
	return run_copy(io);
}

/* It is its owner's again, who knows what has become of it */
static void give_back(struct dmabuf_io *io, struct dmabuf_io_request *r)
{
	struct request *q = request_of(r);
	struct io_target *t = io_target_of(io, r->target);

	q->state = REQUEST_IDLE;
	if (q->broke && t)
		t->broken--;
	q->broke = 0;
}

int dmabuf_io_reap(struct dmabuf_io *io, struct dmabuf_io_request **requests,
		   unsigned int max, int timeout)
{
	struct deadline d = deadline_of(timeout);
	unsigned int n = 0;
	int ret = 0;

	if (!max || max > INT32_MAX)
		return -EINVAL;
	pthread_mutex_lock(&io->lock);
	for (;;) {
		bool copied = look(io);

		for (; n < max && io->done.first; n++) {
			requests[n] = pop(&io->done);
			give_back(io, requests[n]);
		}
		if (n || ret)
			break;
		ret = wait_once(io, &d, NULL, copied);
	}
	/* who waits for one of them by name */
	for (unsigned int i = 0; i < n; i++)
		wake_for(io, requests[i]);
	unlock(io);
	if (n)
		return (int)n;
	return ret == -ETIMEDOUT ? 0 : ret;
}

int dmabuf_io_wait(struct dmabuf_io *io, struct dmabuf_io_request *r, int timeout)
{
	struct deadline d = deadline_of(timeout);
	struct request *q = request_of(r);
	int ret = 0;

	pthread_mutex_lock(&io->lock);
	if (!q->taken) {
		pthread_mutex_unlock(&io->lock);
		return -EINVAL;
	}
	for (;;) {
		bool copied = look(io);

		if (q->state != REQUEST_BUSY) {
			if (q->state == REQUEST_DONE)
				take(&io->done, r);
			if (q->state != REQUEST_IDLE)
				give_back(io, r);
			ret = 0;
			break;
		}
		if (ret)
			break;
		ret = wait_once(io, &d, r, copied);
	}
	unlock(io);
	return ret;
}

/* ---- the end ---- */

static void cancel_all(struct dmabuf_io *io)
{
	struct io_uring_sqe *sqe = get_sqe(io);
	struct dmabuf_io_request *r;

	/* those that are not in the kernel; a turn ends with who has it */
	for (int i = 0; i < 2; i++)
		while ((r = unpark(&io->starved[i])))
			finish(io, r, -ECANCELED);
	if (!sqe)
		return;
	io_uring_prep_cancel(sqe, NULL, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
	io_uring_sqe_set_data(sqe, NULL);
	flush(io);
}

void io_end_requests(struct dmabuf_io *io)
{
	static const struct timespec again = { .tv_nsec = 100000000 };
	struct dmabuf_io_request *r;

	pthread_mutex_lock(&io->lock);
	io->closing = true;
	/* done, and never asked for */
	while ((r = pop(&io->done)))
		request_of(r)->state = REQUEST_IDLE;
	look(io);
	while (io->in_flight) {
		cancel_all(io);
		lead(io, &again);
		while (look(io))
			;
	}
	pthread_mutex_unlock(&io->lock);
}
