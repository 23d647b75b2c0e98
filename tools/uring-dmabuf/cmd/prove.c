// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The proof that a pair works. What was there before is the opposite of what has to come,
 * in every bit: a byte that does not arrive cannot be missed.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pair.h"

static void set_opposite(struct pair *p)
{
	for (size_t i = 0; i < p->t.len; i++)
		p->other[i] = (unsigned char)~p->there[i];
}

/* ---- requests ---- */

/* The next completion's result and flags */
static int next_cqe(struct pair *p, uint32_t *flags)
{
	struct __kernel_timespec limit = { .tv_sec = p->o->timeout };
	struct io_uring_cqe *cqe;
	int ret;

	do {
		ret = io_uring_wait_cqe_timeout(&p->ring, &cqe, &limit);
	} while (ret == -EINTR);
	if (ret) {
		p->stuck = true;
		return ret == -ETIME ? -ETIMEDOUT : ret;
	}
	ret = cqe->res;
	*flags = cqe->flags;
	io_uring_cqe_seen(&p->ring, cqe);
	return ret;
}

/* Submits what is prepared; with a send, waits until its memory is free again */
static int request(struct pair *p)
{
	uint32_t flags, more;
	int ret = io_uring_submit(&p->ring);

	if (ret < 0)
		return ret;
	ret = next_cqe(p, &flags);
	if (flags & IORING_CQE_F_MORE && !p->stuck && next_cqe(p, &more) < 0 && p->stuck)
		return -ETIMEDOUT;
	return ret;
}

/* A whole one: one part, or what a short one has left */
static int requests(struct pair *p, const char *step,
		    void (*prep)(struct pair *p, struct io_uring_sqe *sqe, size_t done))
{
	size_t done = 0;
	int ret;

	while (done < p->t.len) {
		prep(p, io_uring_get_sqe(&p->ring), done);
		ret = request(p);
		if (ret <= 0)
			return fail_request(p->v, step, &p->t, ret ?: -ENODATA);
		done += (size_t)ret;
	}
	return 0;
}

static void prep_read(struct pair *p, struct io_uring_sqe *sqe, size_t done)
{
	io_uring_prep_read_dmabuf(sqe, p->t.fd, p->mem.off + done,
				  (unsigned int)(p->t.len - done), p->t.off + done, SLOT);
}

static void prep_write(struct pair *p, struct io_uring_sqe *sqe, size_t done)
{
	io_uring_prep_write_dmabuf(sqe, p->t.fd, p->mem.off + done,
				   (unsigned int)(p->t.len - done), p->t.write_off + done, SLOT);
}

/* ---- by the CPU ---- */

static int fail_cpu(struct pair *p, int err)
{
	return fail(p->v, "compare", err, "no-cpu-access",
		    "it is registered, but its bytes cannot be looked at: %s", dmabuf_mem_why());
}

static int to_memory(struct pair *p, const void *from)
{
	int ret = dmabuf_mem_copy_to(&p->mem, 0, from, p->t.len);

	return ret ? fail_cpu(p, ret) : 0;
}

static int from_memory(struct pair *p, void *to)
{
	int ret = dmabuf_mem_copy_from(&p->mem, 0, to, p->t.len);

	return ret ? fail_cpu(p, ret) : 0;
}

static int plain_read(struct pair *p, void *to, uint64_t off)
{
	ssize_t n = pread(p->t.fd, to, p->t.len, (off_t)off);

	if (n >= 0 && (size_t)n == p->t.len)
		return 0;
	return fail(p->v, "target", n < 0 ? -errno : -EIO, "cannot-read",
		    "%s cannot be read into ordinary memory either: %s", p->t.name,
		    n < 0 ? strerror(errno) : "a short read");
}

/* ---- directions ---- */

static int wrong(struct pair *p, const char *step, const unsigned char *want,
		 const unsigned char *is)
{
	size_t bad = 0, first = p->t.len;

	for (size_t i = 0; i < p->t.len; i++) {
		if (want[i] == is[i])
			continue;
		if (!bad++)
			first = i;
	}
	return fail(p->v, step, -EIO, "bytes-do-not-arrive",
		    "%s: %zu of %zu bytes are not what they have to be, the first at %zu, although "
		    "no error was reported: do not use this pair; look for IOMMU faults in dmesg",
		    p->t.name, bad, p->t.len, first);
}

/*
 * Somebody may write to a mounted drive meanwhile: what came counts as right if the
 * target held it before or after.
 */
static int compare_read(struct pair *p)
{
	int ret;

	if (!memcmp(p->there, p->other, p->t.len))
		return 0;
	ret = plain_read(p, p->there, p->t.off);
	if (ret || !memcmp(p->there, p->other, p->t.len))
		return ret;
	p->v->read = WRONG;
	return wrong(p, "read", p->there, p->other);
}

static int prove_read(struct pair *p)
{
	int ret = plain_read(p, p->there, p->t.off);

	if (ret)
		return ret;
	set_opposite(p);
	ret = to_memory(p, p->other);
	if (ret)
		return ret;
	p->v->read = REFUSED;
	ret = requests(p, "read", prep_read) ?: from_memory(p, p->other) ?: compare_read(p);
	if (!ret) {
		p->v->read = WORKS;
		p->v->bytes += p->t.len;
	}
	return ret;
}

static int plain_write(struct pair *p, const void *from)
{
	ssize_t n = pwrite(p->t.fd, from, p->t.len, (off_t)p->t.write_off);

	if (n >= 0 && (size_t)n == p->t.len && !fsync(p->t.fd))
		return 0;
	return fail(p->v, "target", n < 0 ? -errno : -EIO, "cannot-write",
		    "%s cannot be written from ordinary memory either, at %llu: %s", p->t.name,
		    (unsigned long long)p->t.write_off, n < 0 ? strerror(errno) : "a short write");
}

/* What has to be at the place that is written, after it was */
static int compare_written(struct pair *p, const unsigned char *want, unsigned char *is)
{
	int ret = plain_read(p, is, p->t.write_off);

	if (ret || !memcmp(is, want, p->t.len))
		return ret;
	p->v->write = WRONG;
	return wrong(p, "write", want, is);
}

/*
 * @way writes; what was there is put back, and nobody ends the program in between. A
 * request that never ends may still write, later and over what was put back: it is said
 * as a time-out.
 */
static int written(struct pair *p, int (*way)(struct pair *p, unsigned char *scratch))
{
	unsigned char *before = aligned_alloc(4096, p->t.len);
	unsigned char *scratch = aligned_alloc(4096, p->t.len);
	sigset_t all, mask;
	int ret, back;

	if (!before || !scratch)
		ret = fail(p->v, "write", -ENOMEM, "no-memory", "no memory");
	else
		ret = plain_read(p, before, p->t.write_off);
	if (!ret) {
		sigfillset(&all);
		sigprocmask(SIG_BLOCK, &all, &mask);
		ret = way(p, scratch);
		back = plain_write(p, before);
		sigprocmask(SIG_SETMASK, &mask, NULL);
		ret = ret ?: back;
	}
	free(before);
	free(scratch);
	return ret;
}

/* The opposite of what is there, from the memory */
static int write_from_memory(struct pair *p, unsigned char *scratch)
{
	int ret = plain_read(p, p->there, p->t.write_off);

	set_opposite(p);
	ret = ret ?: to_memory(p, p->other);
	p->v->write = REFUSED;
	return ret ?: requests(p, "write", prep_write) ?: compare_written(p, p->other, scratch);
}

static int prove_write(struct pair *p)
{
	int ret = written(p, write_from_memory);

	if (!ret) {
		p->v->write = WORKS;
		p->v->bytes += p->t.len;
	}
	return ret;
}

/*
 * Memory that the CPU cannot see: from one place of the target to it, and on to another
 * place, which has held the opposite.
 */
static int read_and_write(struct pair *p, unsigned char *scratch)
{
	int ret = plain_read(p, p->there, p->t.off);

	set_opposite(p);
	ret = ret ?: plain_write(p, p->other);
	p->v->read = p->v->write = REFUSED;
	return ret ?: requests(p, "read", prep_read) ?: requests(p, "write", prep_write) ?:
	       compare_written(p, p->there, scratch);
}

static int prove_round_trip(struct pair *p)
{
	int ret;

	p->v->compared = "round-trip";
	ret = written(p, read_and_write);
	if (!ret) {
		p->v->read = p->v->write = WORKS;
		p->v->bytes += 2 * p->t.len;
	}
	return ret;
}

/* In pieces: the echo comes while there is more to send, and nobody may wait for us */
#define PIECE	(32U << 10)

static int echo_piece(struct pair *p, size_t off, size_t len)
{
	size_t sent = 0, came = 0;
	ssize_t n;

	while (sent < len) {
		io_uring_prep_send_zc_dmabuf(io_uring_get_sqe(&p->ring), p->t.fd,
					     p->mem.off + off + sent, len - sent, MSG_NOSIGNAL,
					     0, SLOT);
		n = request(p);
		if (n <= 0)
			return fail_request(p->v, "send", &p->t, n ? (int)n : -EPIPE);
		sent += (size_t)n;
	}
	while (came < len) {
		do {
			n = recv(p->t.fd, p->other + off + came, len - came, 0);
		} while (n < 0 && errno == EINTR);
		if (n <= 0)
			return fail(p->v, "send", n ? -errno : -ECONNRESET, "no-echo",
				    "%s does not send back what it gets: %s; is it an echo server?",
				    p->t.name, n ? strerror(errno) : "it closed the connection");
		came += (size_t)n;
	}
	return 0;
}

static bool is_read_only(const struct pair *p)
{
	return (fcntl(p->mem.fd, F_GETFL) & O_ACCMODE) == O_RDONLY;
}

/* What is sent, in the memory and in @there: what cannot be written is sent as it is */
static int fill_memory(struct pair *p)
{
	if (is_read_only(p))
		return from_memory(p, p->there);
	for (size_t i = 0; i < p->t.len; i++)
		p->there[i] = (unsigned char)(i * 2654435761U >> 13);
	return to_memory(p, p->there);
}

static int prove_send(struct pair *p)
{
	int ret = fill_memory(p);

	if (ret)
		return ret;
	set_opposite(p);
	p->v->send = REFUSED;
	for (size_t off = 0; off < p->t.len; off += PIECE) {
		ret = echo_piece(p, off, p->t.len - off < PIECE ? p->t.len - off : PIECE);
		if (ret)
			return ret;
	}
	if (memcmp(p->there, p->other, p->t.len)) {
		p->v->send = WRONG;
		return wrong(p, "send", p->there, p->other);
	}
	p->v->send = WORKS;
	p->v->bytes += p->t.len;
	return 0;
}

/* Memory that cannot be looked at, and a target that may not be written */
static int not_seen(struct pair *p)
{
	snprintf(p->v->text, sizeof(p->v->text),
		 "it is registered, but whether bytes arrive was not seen: %s; %s", dmabuf_mem_why(),
		 p->t.kind == TARGET_TCP ? "check it with a drive" :
		 "with --write, or with a directory, they are written on, and read from there");
	return 0;
}

static int prove_disk(struct pair *p, bool cpu)
{
	bool may_write;
	int ret = target_may_write(p->o, &p->t, p->v, &may_write);

	if (ret)
		return ret;
	if (is_read_only(p))
		return fail(p->v, "read", -EACCES, "fd-read-only",
			    "the fd of the dma-buf is read-only, so no device may write to the memory: "
			    "export it with O_RDWR (DRM_RDWR, fd_flags of a dma-heap)");
	if (!cpu)
		return may_write ? prove_round_trip(p) : not_seen(p);
	return prove_read(p) ?: (may_write ? prove_write(p) : 0);
}

int prove(struct pair *p)
{
	bool cpu = !dmabuf_mem_copy_from(&p->mem, 0, p->there, 0);

	if (p->t.kind == TARGET_CARD)
		return card_check(p->v, &p->t);
	if (cpu)
		p->v->compared = "cpu";
	if (p->t.kind == TARGET_TCP)
		return cpu ? prove_send(p) : not_seen(p);
	return prove_disk(p, cpu);
}
