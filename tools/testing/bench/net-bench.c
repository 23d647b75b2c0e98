// SPDX-License-Identifier: GPL-2.0
/*
 * net-bench - what sending costs the kernel, counted on the sender's side only.
 *
 *   net-bench [options] KIND:SIZE...
 *
 *   KIND       send | msgzc | ring | user | plain | pages | dmabuf | dmabuf1 | bar |
 *              bundle | bundle1    (netbuf.h)
 *   SIZE       bytes of a request, or with k, m:  64 4k 1m
 *
 *   -d CARD    the environment has LAB_NET_<CARD> and LAB_NET_<CARD>_PEER [E1000E]
 *   -q DEPTH   requests submitted together [1]
 *   -n COUNT   requests per window [256], at most 1 MiB of them
 *   -m         all but the last of a window with MSG_MORE, so that TCP fills its
 *              packets; without it every request leaves at once
 *   -r         by RDS over TCP: a request is a message, all of a window send the same
 *              memory, and may be 4 MiB together
 *   -i N       windows for the instruction count (fninsn.c, cpu=0) [0]
 *   -e N       windows for the event counts [0]
 *
 * Needs two CPUs.  A window is COUNT requests on a TCP connection from the card to
 * its peer, until everything is sent, acknowledged and, where there are any, the last
 * notification is in.  What the sender and the card do, interrupts included, is on
 * CPU 0, which waits without system calls; the receiver is on CPU 1.  Every window
 * sends other data, and the receiver compares every byte.
 *
 * Output, a JSON object per line; exit status 0: every byte was right, 1: not
 * or something failed, 2: wrong arguments.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bufring.h"
#include "counters.h"
#include "fail.h"
#include "link.h"
#include "netbuf.h"
#include "netcount.h"
#include "pool.h"
#include "program.h"
#include "rdscookie.h"
#include "receiver.h"
#include "zerocopy.h"

#define MAX_COUNT	1024u
#define RDS_MAX		(4u << 20)	/* of a window */
#define PATIENCE_S	120	/* for a case; then the signal ends the program */
#define WARM_WINDOWS	8		/* then TCP's windows are wide open */

/* What runs: one case, with its memory and its connection ready. */
struct job {
	const struct bench_case *c;
	struct uring ring;
	struct mem buf;
	struct net_pair conn;
	struct bufring bufs;		/* of bundles */
	struct receiver receiver;
	int control;			/* see link_mute() */
	unsigned char *pattern;
	unsigned int notifications;	/* to come */
	unsigned int calls;		/* system calls of windows */
	size_t part;			/* bytes of a request */
	uint64_t seed;
	long wrong;
	uint64_t verified;
	struct tcp_counts before, least, most;
};

static int parse(struct bench_case *c, const char *rest, const struct options *o)
{
	const size_t max = o->r ? RDS_MAX : NETBUF_MAX;

	if (*rest || c->size % 8 || c->size > NETBUF_MAX || (o->m && o->r))
		return -EINVAL;
	if (o->r && source_is_bundle(c->kind))
		return -EINVAL;
	c->more = o->m;
	c->rds = o->r;
	if (c->count > max / c->size)
		c->count = max / c->size;
	return 0;
}

static const struct program program = {
	.usage = "usage: net-bench [-d CARD] [-q DEPTH] [-n COUNT] [-m|-r] [-i WINDOWS] [-e WINDOWS] KIND:SIZE...\n"
		 "e.g.   net-bench -e 3 send:4k plain:64k dmabuf:64k bar:1m\n",
	.options = "d:q:n:i:e:mr",
	.kinds = source_name,
	.nr_kinds = SOURCES,
	.max_count = MAX_COUNT,
	.parse = parse,
};

/* ---- sending ---- */

static unsigned int more(const struct bench_case *c, unsigned int nr)
{
	return c->more && nr + 1 < c->count ? MSG_MORE : 0;
}

/* Where request @nr lies in the memory */
static size_t place(const struct bench_case *c, unsigned int nr)
{
	return c->rds ? 0 : nr * c->size;
}

static void prepare(struct job *job, unsigned int nr)
{
	struct io_uring_sqe *sqe = uring_sqe(&job->ring);
	unsigned int kind = job->c->kind;

	sqe->opcode = kind == SOURCE_RING ? IORING_OP_SEND : IORING_OP_SEND_ZC;
	sqe->fd = job->conn.tx;
	sqe->addr = buffer_sqe_addr(&job->buf, place(job->c, nr));
	sqe->len = (unsigned int)job->c->size;
	if (source_is_registered(kind))
		sqe->ioprio = IORING_RECVSEND_FIXED_BUF;
	if (source_is_single(kind))
		sqe->ioprio |= IORING_SEND_ZC_SINGLE_CQE;
	/* RDS has messages, all or nothing */
	if (!job->c->rds)
		sqe->msg_flags = MSG_WAITALL | more(job->c, nr);
	sqe->buf_index = 0;
}

#define GROUP	1

/* The next @n pieces in one request, which names none of them */
static void prepare_bundle(struct job *job, unsigned int first, unsigned int n)
{
	struct io_uring_sqe *sqe = uring_sqe(&job->ring);

	for (unsigned int i = first; i < first + n; i++)
		bufring_add(&job->bufs, bufring_reg(0, i * job->c->size),
			    (unsigned int)job->c->size, (__u16)i);
	sqe->opcode = IORING_OP_SEND_ZC;
	sqe->fd = job->conn.tx;
	sqe->flags = IOSQE_BUFFER_SELECT;
	sqe->ioprio = IORING_RECVSEND_FIXED_BUF | IORING_RECVSEND_BUNDLE;
	if (source_is_single(job->c->kind))
		sqe->ioprio |= IORING_SEND_ZC_SINGLE_CQE;
	sqe->msg_flags = more(job->c, first + n - 1);
	sqe->buf_group = GROUP;
	job->part = n * job->c->size;
}

static int enter(struct job *job, unsigned int wait)
{
	job->calls++;
	return ring_submit_and_wait(&job->ring, wait);
}

/* Takes what is there: how many results of requests, or -errno. */
static int reap(struct job *job)
{
	struct uring_res cqe;
	int results = 0;

	while (uring_peek(&job->ring, &cqe)) {
		if (cqe.flags & IORING_CQE_F_NOTIF) {
			job->notifications--;
			continue;
		}
		if (cqe.res < 0)
			return fail(job->c->name, -cqe.res, "a request");
		if ((size_t)cqe.res != job->part)
			return fail(job->c->name, EIO, "a request sent only a part");
		if (source_is_single(job->c->kind)) {
			job->notifications--;
			continue;
		}
		job->notifications += !!(cqe.flags & IORING_CQE_F_MORE);
		results++;
	}
	return results;
}

static int submit(struct job *job, unsigned int nr)
{
	int ret = enter(job, nr), done = 0;

	while (!ret && done < (int)nr) {
		int n = reap(job);

		if (n < 0)
			return n;
		done += n;
		if (done < (int)nr)
			ret = enter(job, 1);
	}
	return ret;
}

static int send_by_ring(struct job *job)
{
	const bool single = source_is_single(job->c->kind);
	unsigned int done, n;
	int ret = 0;

	for (done = 0; done < job->c->count && !ret; done += n) {
		n = job->c->count - done;
		if (n > job->c->depth)
			n = job->c->depth;
		if (source_is_bundle(job->c->kind)) {
			prepare_bundle(job, done, n);
		} else {
			for (unsigned int i = 0; i < n; i++)
				prepare(job, done + i);
		}
		/* the receiver acknowledges a window as a whole: nothing is there to wait for */
		if (single) {
			job->notifications += source_is_bundle(job->c->kind) ? 1 : n;
			ret = enter(job, 0);
			continue;
		}
		ret = submit(job, source_is_bundle(job->c->kind) ? 1 : n);
	}
	return ret;
}

static ssize_t send_one(const struct job *job, unsigned int nr)
{
	const struct bench_case *c = job->c;
	const char *p = job->buf.map + place(c, nr);
	const int fd = job->conn.tx;
	/* stock's RDS knows neither flag */
	int flags = c->rds ? 0 : (int)(MSG_NOSIGNAL | more(c, nr));
	ssize_t n;

	if (c->kind == SOURCE_MSG && c->rds)
		return rds_send_cookie(fd, p, c->size, nr);
	n = c->kind == SOURCE_MSG ? zerocopy_send(fd, p, c->size, flags)
				  : send(fd, p, c->size, flags);
	return n < 0 ? -errno : n;
}

static int send_by_calls(struct job *job)
{
	const struct bench_case *c = job->c;

	for (unsigned int i = 0; i < c->count; i++) {
		ssize_t n = send_one(job, i);

		if (n < 0)
			return fail(c->name, (int)-n, "send");
		if ((size_t)n != c->size)
			return fail(c->name, EIO, "send() sent only a part");
	}
	job->calls += c->count;
	if (c->kind == SOURCE_MSG)
		job->notifications = c->count;
	return 0;
}

/* What the socket has of them */
static int take_notifications(struct job *job)
{
	int n = job->c->rds ? zerocopy_cookies(job->conn.tx, &job->calls)
			    : zerocopy_done(job->conn.tx, &job->calls);

	if (n > (int)job->notifications)
		return fail(job->c->name, EPROTO, "more notifications than requests");
	job->notifications -= n < 0 ? 0 : (unsigned int)n;
	return n < 0 ? n : 0;
}

static int wait_notifications(struct job *job)
{
	int ret = 0;

	while (!ret && job->notifications) {
		if (job->c->kind == SOURCE_MSG) {
			ret = take_notifications(job);
			continue;
		}
		ret = enter(job, job->notifications);
		if (!ret && reap(job) < 0)
			return -EIO;
	}
	return ret;
}

/* ---- windows ---- */

static int tcp_counts(const struct job *job, struct tcp_counts *n)
{
	return job->c->rds ? link_counts_rds(n) : link_counts(&job->conn, n);
}

/* Bytes of memory that are sent: a window, or a message */
static size_t memory_size(const struct bench_case *c)
{
	return c->rds ? c->size : span(c);
}

static int window_start(struct job *job, bool muted)
{
	const size_t size = memory_size(job->c);
	int ret;

	pattern_fill(job->pattern, job->seed++ * NETBUF_MAX, size, 0);
	for (size_t at = size; at < span(job->c); at += size)
		memcpy(job->pattern + at, job->pattern, size);
	ret = buffer_fill(&job->buf, job->pattern);
	if (!ret)
		ret = tcp_counts(job, &job->before);
	return ret ? ret : receiver_expect(&job->receiver, muted);
}

/* What lets the peer acknowledge a window; all kinds have it, and it is not in the calls. */
static int send_last(struct job *job)
{
	receiver_wait_there(&job->receiver);
	return send(job->conn.tx, "", 1, 0) == 1 ? 0 : fail("send", errno, "the last message");
}

static int window_run(struct job *job)
{
	int ret = source_is_call(job->c->kind) ? send_by_calls(job) : send_by_ring(job);

	if (!ret && job->c->rds)
		ret = send_last(job);
	if (!ret)
		ret = receiver_wait_acked(&job->receiver);
	return ret ? ret : wait_notifications(job);
}

static void keep_range(struct tcp_counts *least, struct tcp_counts *most, struct tcp_counts n)
{
#define KEEP(field) do {				\
	if (n.field < least->field)			\
		least->field = n.field;			\
	if (n.field > most->field)			\
		most->field = n.field;			\
} while (0)
	KEEP(segments);
	KEEP(acks);
	KEEP(again);
#undef KEEP
}

static int window_end(struct job *job)
{
	struct tcp_counts now;
	int ret = tcp_counts(job, &now);
	long wrong = receiver_result(&job->receiver);

	if (ret || wrong < 0)
		return ret ? ret : (int)wrong;
	job->wrong += wrong;
	job->verified += span(job->c);
	if (wrong)
		fprintf(stderr, "net-bench: %s: %ld of %zu bytes are wrong\n",
			job->c->name, wrong, span(job->c));
	ret = job->c->rds ? 0 : link_take_answer(&job->conn);
	if (ret)
		return ret;
	now.segments -= job->before.segments;
	now.acks -= job->before.acks;
	now.again -= job->before.again;
	keep_range(&job->least, &job->most, now);
	return 0;
}

static int insn_window(struct job *job)
{
	int ret = window_start(job, true);

	if (ret)
		return ret;
	mark();
	ret = window_run(job);
	mark();
	return ret ? ret : window_end(job);
}

static int event_window(struct job *job, struct counts *counts)
{
	int ret = window_start(job, true);

	if (!ret)
		ret = counters_start();
	if (!ret)
		ret = window_run(job);
	if (!ret)
		ret = counters_stop(counts, 512);
	return ret ? ret : window_end(job);
}

static int warm_up(struct job *job)
{
	int ret = 0;

	for (unsigned int i = 0; i < WARM_WINDOWS && !ret; i++) {
		ret = window_start(job, i + 1 == WARM_WINDOWS);
		if (!ret)
			ret = window_run(job);
		if (!ret)
			ret = window_end(job);
	}
	job->calls = 0;
	job->least = (struct tcp_counts){ ~0u, ~0u, ~0u };
	job->most = (struct tcp_counts){ 0 };
	return ret;
}

/* ---- cases ---- */

static int job_connect(struct job *job, const struct netrig *link)
{
	int ret;

	if (!job->c->rds)
		return link_connect(link, &job->conn);
	ret = link_connect_rds(link, &job->conn);
	if (ret)
		return ret;
	job->control = net_socket(link, NET_PEER, AF_INET, SOCK_DGRAM, 0);
	return job->control < 0 ? fail("socket", -job->control, "of the peer's netns") : 0;
}

static int job_start(struct job *job, const struct netrig *link, const struct bench_case *c,
		     uint64_t seed)
{
	int ret;

	*job = (struct job){ .c = c, .seed = seed << 16, .buf.fd = -1, .part = c->size,
			     .control = -1 };
	job->pattern = resident(span(c));
	if (!job->pattern)
		return -ENOMEM;
	/* with room for a notification each */
	ret = ring_create(&job->ring, c->count);
	if (!ret)
		ret = job_connect(job, link);
	if (!ret)
		ret = netbuf_create(&job->buf, c->kind, memory_size(c));
	if (!ret && c->kind == SOURCE_MSG)
		ret = zerocopy_enable(job->conn.tx);
	if (!ret && source_is_registered(c->kind))
		ret = buffer_register(&job->buf, &job->ring, job->conn.tx);
	if (!ret && source_is_bundle(c->kind))
		ret = bufring_create(&job->bufs, &job->ring, GROUP, MAX_COUNT, 0);
	if (!ret)
		ret = receiver_start(&job->receiver, &job->conn, job->control, job->pattern, span(c));
	return ret;
}

static void job_end(struct job *job)
{
	receiver_stop(&job->receiver);
	bufring_destroy(&job->bufs);
	if (source_is_registered(job->c->kind))
		buffer_unregister(&job->ring);
	uring_exit(&job->ring);
	buffer_destroy(&job->buf);
	net_close(&job->conn);
	if (job->control >= 0)
		close(job->control);
	munmap(job->pattern, span(job->c));
}

static void print_head(const struct job *job, const struct netrig *link, const char *what)
{
	print_case(&program, job->c, what, link_driver(link));
	printf(",\"more\":%d,\"rds\":%d,\"pieces\":%u", job->c->more, job->c->rds,
	       pool_pieces(&job->buf, job->buf.size, NETBUF_MAX));
}

static void print_tail(const struct job *job)
{
	const struct tcp_counts *least = &job->least, *most = &job->most;

	printf(",\"verified_bytes\":%llu,\"wrong_bytes\":%ld,\"calls\":%u,\"segments_low\":%u,"
	       "\"segments_high\":%u,\"acks_low\":%u,\"acks_high\":%u,\"again\":%u}\n",
	       (unsigned long long)job->verified, job->wrong, job->calls, least->segments, most->segments,
	       least->acks, most->acks, most->again);
	fflush(stdout);
}

static void print_use(const char *name, const struct use *use)
{
	printf(",\"%s_map\":%llu,\"%s_unmap\":%llu,\"%s_flush\":%llu",
	       name, (unsigned long long)use->map, name, (unsigned long long)use->unmap,
	       name, (unsigned long long)use->flush);
}

static void print_counts(const struct job *job, const struct netrig *link, unsigned int windows,
			 const struct counts *n, const struct netcount *net)
{
	print_head(job, link, "events");
	printf(",\"sends\":%u,\"dma_map\":%llu,\"dma_unmap\":%llu,\"flush\":%llu",
	       windows * job->c->count, (unsigned long long)n->dma_map,
	       (unsigned long long)n->dma_unmap, (unsigned long long)n->flush);
	print_use("payload", &net->payload);
	print_use("header", &net->header);
	print_use("receive", &net->receive);
	printf(",\"packets\":%llu,\"packet_segments\":%llu",
	       (unsigned long long)net->packets, (unsigned long long)net->segments);
	if (n->copy_bytes != COPIES_UNKNOWN)
		printf(",\"copy_bytes\":%llu", (unsigned long long)n->copy_bytes);
	print_tail(job);
}

static int count_insns(struct job *job, const struct netrig *link, unsigned int windows)
{
	unsigned int first = next_window();
	int ret = 0;

	for (unsigned int i = 0; i < windows && !ret; i++)
		ret = insn_window(job);
	if (ret)
		return ret;
	print_head(job, link, "insns");
	printf(",\"first_window\":%u,\"windows\":%u", first, windows);
	print_tail(job);
	return 0;
}

static int count_events(struct job *job, const struct netrig *link, unsigned int windows,
			struct netcount *net)
{
	struct counts counts = { 0 };
	int ret = 0;

	netcount_reset(net);
	for (unsigned int i = 0; i < windows && !ret; i++)
		ret = event_window(job, &counts);
	if (!ret)
		print_counts(job, link, windows, &counts, net);
	return ret;
}

struct bench {
	struct netrig link;
	struct options o;
	struct bench_case cases[MAX_CASES];
};

static int run_case(void *ctx, unsigned int i, struct netcount *net)
{
	const struct bench *b = ctx;
	struct job job;
	int ret;

	alarm(PATIENCE_S);
	ret = job_start(&job, &b->link, &b->cases[i], i + 1);
	if (ret)
		return ret;
	ret = warm_up(&job);
	if (!ret)
		ret = net ? count_events(&job, &b->link, b->o.event_windows, net)
			  : count_insns(&job, &b->link, b->o.insn_windows);
	if (ret)
		return ret;
	job_end(&job);
	return job.wrong ? -EIO : 0;
}

int main(int argc, char **argv)
{
	struct bench b = { .o = { .device = "E1000E", .depth = 1, .count = 256 } };
	unsigned int nr = arguments(argc, argv, &program, &b.o, b.cases);

	if (!nr)
		return 2;
	if (run_on(SENDER_CPU) || netbuf_init() || link_up(&b.link, b.o.device, NET_CARD) ||
	    (b.o.r && link_rds(&b.link)) || lock_memory())
		return 1;
	return netcount_cases(&b.link, &b.o, nr, run_case, &b) ? 1 : 0;
}
