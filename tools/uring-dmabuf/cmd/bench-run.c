// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * bench: one case. So many requests at a time, each of memory of its own; whichever is
 * complete goes out again at once. Then what arrived is looked at.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "stream.h"

#define ZC_NOTIF	IORING_CQE_F_NOTIF
#define ZC_COPIED	(1U << 31)	/* in the result of a notification */
#define ZC_REPORT	(1U << 3)	/* IORING_SEND_ZC_REPORT_USAGE, which liburing 2.3 lacks */
#define MAX_SAMPLES	(1U << 22)

/* A request on its way, or to be sent again */
struct flight {
	uint64_t off;		/* in the target */
	uint64_t started;	/* ns */
	int64_t result;
	unsigned int left;	/* completions that are to come */
};

/* What was measured of all, or of each second, fourth... one if they are many */
struct samples {
	uint64_t *ns;
	size_t nr, room;
	uint64_t seen, longest;
	unsigned int every;
};

struct run {
	struct bench *b;
	struct bench_case *c;
	struct target *t;
	struct io_uring ring;
	bool ring_there;
	struct flight *flights;
	struct samples samples;
	uint64_t submitted, next, until;
	unsigned int busy;
	bool ends;		/* nothing goes out again */
	int last;		/* the flight that was completed last, or -1 */
	unsigned short seed[3];
};

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* ---- percentiles ---- */

static void sample(struct samples *s, uint64_t ns)
{
	if (ns > s->longest)
		s->longest = ns;
	if (s->seen++ % s->every)
		return;
	if (s->nr == s->room) {
		s->room = s->room ? 2 * s->room : 4096;
		s->ns = realloc(s->ns, s->room * sizeof(*s->ns));
		if (!s->ns)
			die("no memory");
	}
	s->ns[s->nr++] = ns;
	if (s->nr < MAX_SAMPLES)
		return;
	for (size_t i = 0; i < s->nr / 2; i++)
		s->ns[i] = s->ns[2 * i];
	s->nr /= 2;
	s->every *= 2;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Nearest rank: a time that was one of them */
static void percentiles(struct samples *s, uint64_t to[static NR_PERCENTILES])
{
	static const double part[] = { 0.5, 0.9, 0.99, 0.999, 1 };

	if (!s->nr)
		return;
	qsort(s->ns, s->nr, sizeof(*s->ns), compare);
	for (int i = 0; i < NR_PERCENTILES; i++) {
		double rank = part[i] * (double)s->nr;
		size_t k = (size_t)rank;

		k += rank > (double)k;
		to[i] = s->ns[k ? k - 1 : 0];
	}
	/* of all */
	to[P100] = s->longest;
}

/* ---- what a request is ---- */

static bool uses_dmabuf(const struct run *r)
{
	return r->c->way == BENCH_DMABUF || r->c->way == BENCH_BOUNCE;
}

static bool brings(const struct run *r)
{
	return r->c->op == BENCH_READ || r->c->op == BENCH_RECV;
}

/* In ordinary memory or in the dma-buf */
static uint64_t at(const struct run *r, unsigned int i)
{
	return (uint64_t)i * r->c->block;
}

/* What the kernel calls that byte of the dma-buf, of which the memory may be a part */
static uint64_t slot_at(const struct run *r, unsigned int i)
{
	return r->b->mem.off + at(r, i);
}

static char *address(const struct run *r, unsigned int i)
{
	/* nothing receives into a registered buffer: into what the CPU sees of it */
	return (r->c->way == BENCH_DMABUF ? (char *)r->b->mem.ptr : r->b->plain) + at(r, i);
}

static void prepare_rw(struct run *r, struct io_uring_sqe *sqe, unsigned int i)
{
	unsigned int len = r->c->block;
	uint64_t off = r->flights[i].off;
	int fd = r->t->fd;
	bool read = r->c->op == BENCH_READ;

	if (r->c->way == BENCH_PLAIN && read)
		io_uring_prep_read(sqe, fd, address(r, i), len, off);
	else if (r->c->way == BENCH_PLAIN)
		io_uring_prep_write(sqe, fd, address(r, i), len, off);
	else if (r->c->way == BENCH_DMABUF && read)
		io_uring_prep_read_dmabuf(sqe, fd, slot_at(r, i), len, off, 0);
	else if (r->c->way == BENCH_DMABUF)
		io_uring_prep_write_dmabuf(sqe, fd, slot_at(r, i), len, off, 0);
	else if (read)
		io_uring_prep_read_fixed(sqe, fd, address(r, i), len, off, 0);
	else
		io_uring_prep_write_fixed(sqe, fd, address(r, i), len, off, 0);
}

static void prepare_net(struct run *r, struct io_uring_sqe *sqe, unsigned int i)
{
	unsigned int len = r->c->block;
	int fd = r->t->fd;

	if (r->c->op == BENCH_RECV)
		io_uring_prep_recv(sqe, fd, address(r, i), len, 0);
	else if (r->c->way == BENCH_DMABUF)
		io_uring_prep_send_zc_dmabuf(sqe, fd, slot_at(r, i), len, MSG_WAITALL, ZC_REPORT, 0);
	else if (r->c->way == BENCH_REGISTERED)
		io_uring_prep_send_zc_fixed(sqe, fd, address(r, i), len, MSG_WAITALL, ZC_REPORT, 0);
	else
		io_uring_prep_send(sqe, fd, address(r, i), len, MSG_WAITALL);
}

static uint64_t next_off(struct run *r)
{
	uint64_t blocks = r->t->len / r->c->block;
	uint64_t nr = r->b->o.random ? (uint64_t)nrand48(r->seed) % blocks : r->next++ % blocks;

	return (r->c->op == BENCH_WRITE ? r->t->write_off : r->t->off) + nr * r->c->block;
}

static void request_failed(struct run *r, int err)
{
	static const char *const steps[] = { "read", "write", "send", "receive" };

	if (!cp_stop)
		fail_request(&r->c->v, steps[r->c->op], r->t, err);
}

static void start(struct run *r, unsigned int i)
{
	struct flight *f = &r->flights[i];
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);

	if (r->c->op == BENCH_READ || r->c->op == BENCH_WRITE)
		f->off = next_off(r);
	f->started = now();
	f->left = 1;
	if (r->c->way == BENCH_BOUNCE && !brings(r)) {
		int ret = dmabuf_mem_copy_from(&r->b->mem, at(r, i), r->b->plain + at(r, i), r->c->block);

		r->c->copied += r->c->block;
		if (ret)
			request_failed(r, ret);
	}
	if (r->c->op == BENCH_READ || r->c->op == BENCH_WRITE)
		prepare_rw(r, sqe, i);
	else
		prepare_net(r, sqe, i);
	io_uring_sqe_set_data64(sqe, i);
	r->submitted++;
	r->busy++;
}

/* ---- what becomes of it ---- */

static void finished(struct run *r, unsigned int i)
{
	struct flight *f = &r->flights[i];
	struct bench_case *c = r->c;
	bool socket = c->op == BENCH_SEND || c->op == BENCH_RECV;
	int ret;

	r->busy--;
	if (f->result < 0 || (!f->result && socket)) {
		request_failed(r, f->result ? (int)f->result : -EPIPE);
		return;
	}
	if (!socket && f->result != c->block) {
		fail(&c->v, bench_op_names[c->op], -EIO, "short", "%s at %llu: %lld of %u bytes",
		     r->t->name, (unsigned long long)f->off, (long long)f->result, c->block);
		return;
	}
	if (c->way == BENCH_BOUNCE && brings(r)) {
		ret = dmabuf_mem_copy_to(&r->b->mem, at(r, i), r->b->plain + at(r, i), (size_t)f->result);
		c->copied += (uint64_t)f->result;
		if (ret)
			request_failed(r, ret);
	}
	/* TCP copies what it receives, and what it is not told to leave where it is */
	if (c->op == BENCH_RECV ||
	    (c->op == BENCH_SEND && (c->way == BENCH_PLAIN || c->way == BENCH_BOUNCE)))
		c->copied += (uint64_t)f->result;
	c->requests++;
	c->bytes += (uint64_t)f->result;
	sample(&r->samples, now() - f->started);
	r->last = (int)i;
}

static void complete(struct run *r, const struct io_uring_cqe *cqe)
{
	struct flight *f = &r->flights[cqe->user_data];

	if (cqe->flags & ZC_NOTIF) {
		if ((uint32_t)cqe->res & ZC_COPIED && f->result > 0)
			r->c->copied += (uint64_t)f->result;
	} else {
		f->result = cqe->res;
		f->left += !!(cqe->flags & IORING_CQE_F_MORE);
	}
	if (!--f->left)
		finished(r, (unsigned int)cqe->user_data);
}

static bool goes_on(const struct run *r)
{
	if (r->ends || r->c->v.step || cp_stop)
		return false;
	if (r->b->o.requests)
		return r->submitted < r->b->o.requests;
	/* one at least: what was not measured is not said to be */
	return !r->submitted || now() < r->until;
}

/* What is on its way has a peer that may never take it */
static void abort_connection(const struct run *r)
{
	const struct sockaddr none = { .sa_family = AF_UNSPEC };

	if (r->t->kind == TARGET_TCP)
		connect(r->t->fd, &none, sizeof(none));
}

static int wait_some(struct run *r)
{
	struct __kernel_timespec tick = { .tv_nsec = 200000000 };
	struct io_uring_cqe *cqe;
	int ret = io_uring_submit_and_wait_timeout(&r->ring, &cqe, 1, &tick, NULL);

	return ret < 0 && ret != -ETIME && ret != -EINTR ? ret : 0;
}

static void complete_all(struct run *r)
{
	struct io_uring_cqe *cqe;
	unsigned int head, nr;

	while (r->busy) {
		int ret = wait_some(r);

		if (ret) {
			fail(&r->c->v, bench_op_names[r->c->op], ret, "ring", "the ring: %s", strerror(-ret));
			return;
		}
		nr = 0;
		io_uring_for_each_cqe(&r->ring, head, cqe) {
			unsigned int i = (unsigned int)cqe->user_data;

			complete(r, cqe);
			nr++;
			if (!r->flights[i].left && goes_on(r))
				start(r, i);
		}
		io_uring_cq_advance(&r->ring, nr);
		if (cp_stop || r->c->v.step)
			abort_connection(r);
	}
}

static void move(struct run *r)
{
	for (unsigned int i = 0; i < r->b->o.depth && goes_on(r); i++)
		start(r, i);
	complete_all(r);
}

/*
 * One more, alone, that is not counted: two that were on their way at the same time may have
 * been written to the same place
 */
static void write_once_more(struct run *r)
{
	const struct bench_case was = *r->c;

	r->ends = true;
	start(r, (unsigned int)r->last);
	complete_all(r);
	r->c->requests = was.requests;
	r->c->bytes = was.bytes;
	r->c->copied = was.copied;
}

/* ---- before and after ---- */

static int open_ring(struct run *r)
{
	struct io_uring_dmabuf_reason why;
	struct iovec iov = { r->b->plain, (size_t)r->b->o.depth * r->c->block };
	int ret = ring_open(&r->ring, r->b->o.depth);

	if (ret) {
		r->b->no_kernel |= ret == -EPERM || ret == -ENOSYS;
		return fail_ring(&r->c->v, ret);
	}
	r->ring_there = true;
	if (r->c->op == BENCH_RECV && r->c->way == BENCH_DMABUF && !r->b->mem.ptr)
		return fail(&r->c->v, "memory", -EOPNOTSUPP, "cannot-access",
			    "%s: the CPU does not see it, and TCP copies into nothing else",
			    r->b->o.o.memory);
	if (r->c->way == BENCH_PLAIN || r->c->op == BENCH_RECV)
		return 0;
	if (r->c->way == BENCH_DMABUF) {
		ret = io_uring_register_buffers_sparse(&r->ring, 1);
		if (ret)
			return fail_ring(&r->c->v, ret);
		ret = io_uring_dmabuf_register_range(&r->ring, 0, r->b->mem.fd, 0, 0, &r->t->fd, 1,
						     r->b->o.copy_ok && r->c->op == BENCH_SEND ?
						     IO_URING_DMABUF_COPY_OK : 0, &why);
		return ret ? fail_register(&r->c->v, r->t, ret, &why) : 0;
	}
	ret = io_uring_register_buffers(&r->ring, &iov, 1);
	return ret < 0 ? fail(&r->c->v, "register", ret, ret == -ENOMEM ? "memlock" : "register",
			      "%zu bytes of ordinary memory: %s%s", iov.iov_len, strerror(-ret),
			      ret == -ENOMEM ? ": see ulimit -l, or give a smaller --depth" : "") : 0;
}

static int to_memory(struct run *r, unsigned int i, const char *data)
{
	if (uses_dmabuf(r))
		return dmabuf_mem_copy_to(&r->b->mem, at(r, i), data, r->c->block);
	memcpy(r->b->plain + at(r, i), data, r->c->block);
	return 0;
}

static int from_memory(struct run *r, unsigned int i, char *data, size_t len)
{
	if (uses_dmabuf(r))
		return dmabuf_mem_copy_from(&r->b->mem, at(r, i), data, len);
	memcpy(data, r->b->plain + at(r, i), len);
	return 0;
}

/* What is sent is known to the peer; what is written differs; what comes is not there yet */
static int fill(struct run *r, char *data)
{
	int ret = 0;

	for (unsigned int i = 0; i < r->b->o.depth && !ret; i++) {
		memset(data, r->c->op == BENCH_SEND ? BENCH_BYTE : (int)(0x80 | i), r->c->block);
		ret = to_memory(r, i, data);
	}
	return ret ? fail(&r->c->v, "memory", ret, "cannot-access", "%s: %s", r->b->o.o.memory,
			  dmabuf_mem_why()) : 0;
}

static int wrong(struct run *r, const char *where)
{
	r->b->wrong = true;
	return fail(&r->c->v, "compare", -EILSEQ, "wrong-bytes", "%s by %s: %s are other bytes",
		    r->t->name, bench_way_names[r->c->way], where);
}

static int look_at_drive(struct run *r, char *data, char *there)
{
	const struct flight *f = &r->flights[r->last];

	if (from_memory(r, (unsigned int)r->last, data, r->c->block))
		return fail(&r->c->v, "compare", -EIO, "cannot-access", "%s", dmabuf_mem_why());
	if (pread(r->t->fd, there, r->c->block, (off_t)f->off) != r->c->block)
		return fail(&r->c->v, "compare", -errno, "cannot-read", "%s: %s", r->t->name,
			    strerror(errno));
	return memcmp(data, there, r->c->block) ? wrong(r, "on the drive and in the memory") : 0;
}

static int look_at_memory(struct run *r, char *data)
{
	size_t len = (size_t)r->flights[r->last].result;

	if (from_memory(r, (unsigned int)r->last, data, len))
		return fail(&r->c->v, "compare", -EIO, "cannot-access", "%s", dmabuf_mem_why());
	return data[0] != BENCH_BYTE || memcmp(data, data + 1, len - 1) ? wrong(r, "received") : 0;
}

/* The last one is looked at, on its drive or in memory; of a send the peer has all */
static int look(struct run *r, char *data, char *there)
{
	int ret;

	if (r->last < 0 || r->c->v.step || cp_stop)
		return 0;
	if (r->c->op == BENCH_RECV)
		return look_at_memory(r, data);
	if (r->c->op == BENCH_WRITE)
		write_once_more(r);
	if (r->c->op != BENCH_SEND)
		return r->c->v.step ? 0 : look_at_drive(r, data, there);
	ret = bench_got(r->c, r->t->fd);
	if (ret == -EILSEQ)
		return wrong(r, "received");
	return ret ? fail(&r->c->v, "compare", ret, "no-answer", "%s: at the end: %s", r->t->name,
			  strerror(-ret)) : 0;
}

static double cpu_time(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void measure(struct run *r)
{
	bool sees = r->c->op == BENCH_RECV && r->c->way == BENCH_DMABUF;
	double cpu = cpu_time();
	uint64_t begin = now();
	int ret = sees ? stream_cpu_begin(&r->b->mem, true) : 0;

	r->until = begin + (uint64_t)(r->b->o.seconds * 1e9);
	if (!ret)
		move(r);
	if (!ret && sees)
		ret = stream_cpu_end(&r->b->mem, true);
	if (ret)
		fail(&r->c->v, "memory", ret, "cannot-access", "%s: %s", r->b->o.o.memory, strerror(-ret));
	r->c->seconds = (double)(now() - begin) / 1e9;
	r->c->cpu = cpu_time() - cpu;
	percentiles(&r->samples, r->c->latency);
}

void bench_run(struct bench *b, struct bench_case *c, struct target *t)
{
	char *data = aligned_alloc(BENCH_ALIGN, c->block), *there = aligned_alloc(BENCH_ALIGN, c->block);
	struct run r = { .b = b, .c = c, .t = t, .samples.every = 1, .last = -1 };

	r.flights = calloc(b->o.depth, sizeof(*r.flights));
	if (!data || !there || !r.flights)
		die("no memory");
	/* the peer begins when the connection is there, and waits for nobody's memory */
	if (!fill(&r, data) && (t->kind != TARGET_TCP || !bench_connect(c, t, &c->v)) && !open_ring(&r)) {
		measure(&r);
		look(&r, data, there);
	}
	/* before the ring goes, and with it what a peer could still take */
	if (t->fd >= 0)
		abort_connection(&r);
	if (r.ring_there)
		io_uring_queue_exit(&r.ring);
	free(r.flights);
	free(r.samples.ns);
	free(data);
	free(there);
}
