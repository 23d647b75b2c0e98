// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* cp: chunks on their way through the memory */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "cp.h"

/* ---- registration ---- */

static enum target_kind target_kind(const struct end *e)
{
	return e->kind == END_BLOCK ? TARGET_BLOCK : TARGET_FILE;
}

/* The files of all jobs, or those of one; *@of: which end each is of */
static unsigned int targets(struct job *jobs, unsigned int nr, int *fds, struct end **of)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < nr; i++) {
		struct end *ends[] = { &jobs[i].from, &jobs[i].to };

		for (int k = 0; k < 2; k++) {
			if (ends[k]->kind == END_DMABUF || jobs[i].failed)
				continue;
			of[n] = ends[k];
			fds[n++] = ends[k]->fd;
		}
	}
	return n;
}

/* Says why in the words of check */
static int cannot_register(int err, const struct io_uring_dmabuf_reason *why, struct end **of,
			   unsigned int nr, const char *memory)
{
	unsigned int which = why->target >= 0 && (unsigned int)why->target < nr ?
			     (unsigned int)why->target : 0;
	struct target t = {
		.name = of[which]->name, .kind = target_kind(of[which]), .fd = of[which]->fd,
	};
	struct verdict v = { 0 };

	fail_register(&v, &t, err, why);
	fprintf(stderr, "uring-dmabuf: %s, %s: %s: %s\n"
		"  (--bounce moves the same by ordinary memory)\n", memory, t.name, v.reason, v.text);
	return err;
}

static int register_for(struct copier *c, unsigned int slot, int dmabuf, const char *memory,
			struct job *jobs, unsigned int nr)
{
	struct io_uring_dmabuf_reason why;
	struct end *of[2 * MAX_JOBS];
	int fds[2 * MAX_JOBS], ret;
	unsigned int n = targets(jobs, nr, fds, of);

	if (!n)
		return 0;
	ret = io_uring_dmabuf_register_range(&c->ring, slot, dmabuf, 0, 0, fds, n, 0, &why);
	return ret ? cannot_register(ret, &why, of, n, memory) : 0;
}

/* Ordinary memory, which is a registered buffer, too */
static int register_plain(struct copier *c)
{
	struct io_uring_dmabuf_desc desc = { .type = IO_URING_DMABUF_TYPE_UADDR };
	int ret;

	c->plain = aligned_alloc(BLOCK, (size_t)CHUNK * NR_CHUNKS);
	if (!c->plain)
		return -ENOMEM;
	desc.uaddr = (uint64_t)(uintptr_t)c->plain;
	desc.size = (uint64_t)CHUNK * NR_CHUNKS;
	ret = io_uring_dmabuf_update(&c->ring, SLOT_CHUNKS, &desc, NULL, 1);
	return ret < 0 ? ret : 0;
}

/* On a kernel that knows no descriptors, too */
static int register_plain_old(struct copier *c)
{
	struct iovec iov = { c->plain, (size_t)CHUNK * NR_CHUNKS };
	int ret = io_uring_register_buffers_update_tag(&c->ring, SLOT_CHUNKS, &iov, NULL, 1);

	return ret < 0 ? ret : 0;
}

static int open_chunks(struct copier *c)
{
	int ret;

	if (c->o->bounce) {
		ret = register_plain(c);
		if (ret == -EINVAL)
			ret = register_plain_old(c);
		if (ret)
			fprintf(stderr, "uring-dmabuf: %u MiB of ordinary memory: %s\n",
				(CHUNK >> 20) * NR_CHUNKS, strerror(-ret));
		return ret;
	}
	ret = dmabuf_mem_open(&c->mem, c->o->memory, (size_t)CHUNK * NR_CHUNKS);
	if (ret) {
		fprintf(stderr, "uring-dmabuf: %s: %s\n", c->o->memory, dmabuf_mem_why());
		return ret;
	}
	if (c->mem.fd < 0) {
		fprintf(stderr, "uring-dmabuf: %s is no dma-buf: --bounce takes such memory\n",
			c->o->memory);
		return -EINVAL;
	}
	return register_for(c, SLOT_CHUNKS, c->mem.fd, c->o->memory, c->jobs, c->nr_jobs);
}

static struct end *dmabuf_of(struct job *job)
{
	return job->from.kind == END_DMABUF ? &job->from :
	       job->to.kind == END_DMABUF ? &job->to : NULL;
}

bool cp_no_ring(int err)
{
	struct verdict v = { 0 };

	fail_ring(&v, err);
	fprintf(stderr, "uring-dmabuf: %s\n", v.text);
	return err == -EPERM || err == -ENOSYS;
}

int move_open(struct copier *c)
{
	struct verdict v = { 0 };
	bool chunks = false;
	int ret;

	c->mem.fd = -1;
	if (!c->o->bounce && kernel_check(&v)) {
		fprintf(stderr, "uring-dmabuf: %s\n  (--bounce moves the same by ordinary memory)\n",
			v.text);
		c->no_kernel = true;
		return v.err;
	}
	ret = ring_open(&c->ring, 2 * NR_CHUNKS);
	c->has_ring = !ret;
	if (!ret)
		ret = io_uring_register_buffers_sparse(&c->ring, SLOT_JOBS + MAX_JOBS);
	if (ret) {
		c->no_kernel = cp_no_ring(ret);
		return ret;
	}
	for (unsigned int i = 0; i < c->nr_jobs && !ret; i++) {
		struct end *end = dmabuf_of(&c->jobs[i]);

		chunks |= !end;
		if (end)
			ret = register_for(c, SLOT_JOBS + i, end->fd, end->name, &c->jobs[i], 1);
	}
	return ret || !chunks ? ret : open_chunks(c);
}

void move_close(struct copier *c)
{
	if (c->has_ring)
		io_uring_queue_exit(&c->ring);
	dmabuf_mem_close(&c->mem);
	free(c->plain);
}

/* ---- requests ---- */

static unsigned int slot_of(const struct copier *c, struct job *job)
{
	return dmabuf_of(job) ? SLOT_JOBS + (unsigned int)(job - c->jobs) : SLOT_CHUNKS;
}

/* Where a chunk is in its memory */
static uint64_t memory_of(const struct copier *c, const struct chunk *ch)
{
	const struct end *end = dmabuf_of(ch->job);

	if (end)
		return end->mem.off + ch->off + ch->moved;
	return c->mem.off + (uint64_t)(uintptr_t)c->plain +
	       (uint64_t)(ch - c->chunks) * CHUNK + ch->moved;
}

/* To the end of a block: what is behind the end of a file is not there, or cut off */
static unsigned int rounded(const struct chunk *ch)
{
	return (ch->len - ch->moved + BLOCK - 1) / BLOCK * BLOCK;
}

static void prepare(struct copier *c, struct chunk *ch)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&c->ring);
	unsigned int slot = slot_of(c, ch->job);

	if (ch->writing)
		io_uring_prep_write_dmabuf(sqe, ch->job->to.fd, memory_of(c, ch), rounded(ch),
					   ch->off + ch->moved, slot);
	else
		io_uring_prep_read_dmabuf(sqe, ch->job->from.fd, memory_of(c, ch), rounded(ch),
					  ch->off + ch->moved, slot);
	io_uring_sqe_set_data(sqe, ch);
}

/* The next part of a job that has one, job after job */
static struct job *next_job(struct copier *c)
{
	for (unsigned int i = 0; i < c->nr_jobs; i++) {
		struct job *job = &c->jobs[c->turn++ % c->nr_jobs];

		if (!job->failed && !job->finished && job_seek(job))
			return job;
	}
	return NULL;
}

static bool start(struct copier *c, struct chunk *ch)
{
	struct job *job = next_job(c);
	uint64_t len;

	if (!job)
		return false;
	len = job->data_end - job->next;
	*ch = (struct chunk) {
		.job = job, .off = job->next, .len = len < CHUNK ? (unsigned int)len : CHUNK,
		.writing = job->from.kind == END_DMABUF,
	};
	job->next += ch->len;
	job->busy++;
	prepare(c, ch);
	return true;
}

/* All of a job below this has arrived */
static uint64_t arrived(const struct copier *c, const struct job *job)
{
	uint64_t off = job->next;

	for (unsigned int i = 0; i < NR_CHUNKS; i++)
		if (c->chunks[i].job == job && c->chunks[i].off < off)
			off = c->chunks[i].off;
	return off;
}

static void end_chunk(struct copier *c, struct chunk *ch)
{
	struct job *job = ch->job;

	job->busy--;
	ch->job = NULL;
	if (job->failed)
		return;
	job->done += ch->len;
	if (job->part)
		job_save(job, arrived(c, job), false);
	if (!job->busy && !job_seek(job))
		job_finish(c, job);
}

static void request_failed(struct chunk *ch, int err)
{
	const struct end *e = ch->writing ? &ch->job->to : &ch->job->from;
	struct target t = { .name = e->name, .kind = target_kind(e), .fd = e->fd };
	struct verdict v = { 0 };

	fail_request(&v, ch->writing ? "write" : "read", &t, err);
	job_fail(ch->job, "%s at %llu: %s", ch->writing ? "written" : "read",
		 (unsigned long long)(ch->off + ch->moved), v.text);
}

static void completed(struct copier *c, struct chunk *ch, int res)
{
	bool both = !dmabuf_of(ch->job);

	if (res <= 0)
		request_failed(ch, res ? res : -ENODATA);
	if (ch->job->failed) {
		end_chunk(c, ch);
		return;
	}
	ch->moved += (unsigned int)res;
	if (ch->moved < ch->len) {
		/* the rest has to start at a block */
		ch->moved -= ch->moved % BLOCK;
	} else if (both && !ch->writing) {
		ch->writing = true;
		ch->moved = 0;
	} else {
		end_chunk(c, ch);
		return;
	}
	prepare(c, ch);
}

static unsigned int start_all(struct copier *c, bool stop)
{
	unsigned int busy = 0;

	for (unsigned int i = 0; i < NR_CHUNKS; i++) {
		if (!c->chunks[i].job && !stop)
			start(c, &c->chunks[i]);
		busy += !!c->chunks[i].job;
	}
	return busy;
}

/* Jobs of which nothing is to be moved */
static void finish_empty(struct copier *c)
{
	for (unsigned int i = 0; i < c->nr_jobs; i++) {
		struct job *job = &c->jobs[i];

		if (!job->failed && !job->finished && !job->busy && !job_seek(job))
			job_finish(c, job);
	}
}

/*
 * The ring takes nothing any more, and never will: no job ends. What is in flight is
 * cancelled, or ends, with the ring.
 */
static void no_more(struct copier *c, int err)
{
	struct verdict v = { 0 };

	fail_ring(&v, err);
	c->no_kernel |= err == -EPERM || err == -ENOSYS;
	for (unsigned int i = 0; i < c->nr_jobs; i++)
		if (!c->jobs[i].finished)
			job_fail(&c->jobs[i], "%s", v.text);
}

static bool for_now(int err)
{
	return err == -ETIME || err == -EINTR || err == -EAGAIN || err == -EBUSY;
}

void move_all(struct copier *c)
{
	struct __kernel_timespec tick = { .tv_nsec = 200000000 };
	struct io_uring_cqe *cqe;
	int ret;

	finish_empty(c);
	while (start_all(c, cp_stop)) {
		ret = io_uring_submit_and_wait_timeout(&c->ring, &cqe, 1, &tick, NULL);
		if (ret < 0 && !for_now(ret)) {
			no_more(c, ret);
			return;
		}
		while (!io_uring_peek_cqe(&c->ring, &cqe)) {
			struct chunk *ch = io_uring_cqe_get_data(cqe);
			int res = cqe->res;

			io_uring_cqe_seen(&c->ring, cqe);
			/* liburing's own, of the time */
			if (ch)
				completed(c, ch, res);
		}
		progress(c);
	}
}
