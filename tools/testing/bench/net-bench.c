// SPDX-License-Identifier: GPL-2.0
/*
 * net-bench - what sending costs the kernel, counted on the sender's side only.
 *
 *   net-bench [options] KIND:SIZE...
 *
 *   KIND       send | plain | pages | dmabuf | bar | bundle | bundle1    (netbuf.h)
 *   SIZE       bytes of a request, or with k, m:  64 4k 1m
 *
 *   -d CARD    the environment has LAB_NET_<CARD> and LAB_NET_<CARD>_PEER [E1000E]
 *   -q DEPTH   requests submitted together [1]
 *   -n COUNT   requests per window [256], at most 1 MiB of them
 *   -m         all but the last of a window with MSG_MORE, so that TCP fills its
 *              packets; without it every request leaves at once
 *   -i N       windows for the instruction count (fninsn.c, cpu=0) [0]
 *   -e N       windows for the event counts [0]
 *
 * Needs two CPUs.  A window is COUNT requests on a TCP connection from the card to
 * its peer, until everything is sent, acknowledged and, with SEND_ZC, the last
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
#include "receiver.h"

#define MAX_COUNT	1024u
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
	unsigned char *pattern;
	unsigned int notifications;	/* to come */
	size_t part;			/* bytes of a request */
	uint64_t seed;
	long wrong;
	uint64_t verified;
	struct tcp_counts before, least, most;
};

static int parse(struct bench_case *c, const char *rest, const struct options *o)
{
	if (*rest || c->size % 8 || c->size > NETBUF_MAX)
		return -EINVAL;
	c->more = o->m;
	if (c->count > NETBUF_MAX / c->size)
		c->count = NETBUF_MAX / c->size;
	return 0;
}

static const struct program program = {
	.usage = "usage: net-bench [-d CARD] [-q DEPTH] [-n COUNT] [-m] [-i WINDOWS] [-e WINDOWS] KIND:SIZE...\n"
		 "e.g.   net-bench -e 3 send:4k plain:64k dmabuf:64k bar:1m\n",
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

static void prepare(struct job *job, unsigned int nr)
{
	struct io_uring_sqe *sqe = uring_sqe(&job->ring);

	sqe->opcode = IORING_OP_SEND_ZC;
	sqe->fd = job->conn.tx;
	sqe->addr = buffer_sqe_addr(&job->buf, nr * job->c->size);
	sqe->len = (unsigned int)job->c->size;
	sqe->ioprio = IORING_RECVSEND_FIXED_BUF;
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
	if (job->c->kind == SOURCE_BUNDLE_SINGLE)
		sqe->ioprio |= IORING_SEND_ZC_SINGLE_CQE;
	sqe->msg_flags = more(job->c, first + n - 1);
	sqe->buf_group = GROUP;
	job->part = n * job->c->size;
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
			return fail(job->c->name, -cqe.res, "SEND_ZC");
		if ((size_t)cqe.res != job->part)
			return fail(job->c->name, EIO, "SEND_ZC sent only a part");
		/* the only one comes when a notification would */
		if (job->c->kind == SOURCE_BUNDLE_SINGLE) {
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
	int ret = ring_submit_and_wait(&job->ring, nr), done = 0;

	while (!ret && done < (int)nr) {
		int n = reap(job);

		if (n < 0)
			return n;
		done += n;
		if (done < (int)nr)
			ret = ring_submit_and_wait(&job->ring, 1);
	}
	return ret;
}

static int send_zc(struct job *job)
{
	unsigned int done, n;
	int ret = 0;

	for (done = 0; done < job->c->count && !ret; done += n) {
		n = job->c->count - done;
		if (n > job->c->depth)
			n = job->c->depth;
		if (source_is_bundle(job->c->kind)) {
			bool single = job->c->kind == SOURCE_BUNDLE_SINGLE;

			prepare_bundle(job, done, n);
			job->notifications += single;
			/* the receiver acknowledges a window as a whole */
			ret = single ? ring_submit_and_wait(&job->ring, 0) : submit(job, 1);
			continue;
		}
		for (unsigned int i = 0; i < n; i++)
			prepare(job, done + i);
		ret = submit(job, n);
	}
	return ret;
}

static int send_plainly(struct job *job)
{
	const struct bench_case *c = job->c;

	for (unsigned int i = 0; i < c->count; i++) {
		ssize_t n = send(job->conn.tx, job->buf.map + i * c->size, c->size,
				 (int)(MSG_NOSIGNAL | more(c, i)));

		if (n < 0)
			return fail(c->name, errno, "send");
		if ((size_t)n != c->size)
			return fail(c->name, EIO, "send() sent only a part");
	}
	return 0;
}

static int wait_notifications(struct job *job)
{
	int ret = 0;

	while (!ret && job->notifications) {
		ret = ring_submit_and_wait(&job->ring, job->notifications);
		if (!ret && reap(job) < 0)
			return -EIO;
	}
	return ret;
}

/* ---- windows ---- */

static int window_start(struct job *job, bool muted)
{
	int ret;

	pattern_fill(job->pattern, job->seed++ * NETBUF_MAX, span(job->c), 0);
	ret = buffer_fill(&job->buf, job->pattern);
	if (!ret)
		ret = link_counts(&job->conn, &job->before);
	return ret ? ret : receiver_expect(&job->receiver, muted);
}

static int window_run(struct job *job)
{
	int ret = job->c->kind == SOURCE_SEND ? send_plainly(job) : send_zc(job);

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
	int ret = link_counts(&job->conn, &now);
	long wrong = receiver_result(&job->receiver);

	if (ret || wrong < 0)
		return ret ? ret : (int)wrong;
	job->wrong += wrong;
	job->verified += span(job->c);
	if (wrong)
		fprintf(stderr, "net-bench: %s: %ld of %zu bytes are wrong\n",
			job->c->name, wrong, span(job->c));
	ret = link_take_answer(&job->conn);
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
	job->least = (struct tcp_counts){ ~0u, ~0u, ~0u };
	job->most = (struct tcp_counts){ 0 };
	return ret;
}

/* ---- cases ---- */

static int job_start(struct job *job, const struct netrig *link, const struct bench_case *c,
		     uint64_t seed)
{
	int ret;

	*job = (struct job){ .c = c, .seed = seed << 16, .buf.fd = -1, .part = c->size };
	job->pattern = resident(span(c));
	if (!job->pattern)
		return -ENOMEM;
	/* with room for a notification each */
	ret = ring_create(&job->ring, c->count);
	if (!ret)
		ret = link_connect(link, &job->conn);
	if (!ret)
		ret = netbuf_create(&job->buf, c->kind, span(c));
	if (!ret && c->kind != SOURCE_SEND)
		ret = buffer_register(&job->buf, &job->ring, job->conn.tx);
	if (!ret && source_is_bundle(c->kind))
		ret = bufring_create(&job->bufs, &job->ring, GROUP, MAX_COUNT, 0);
	if (!ret)
		ret = receiver_start(&job->receiver, &job->conn, job->pattern, span(c));
	return ret;
}

static void job_end(struct job *job)
{
	receiver_stop(&job->receiver);
	bufring_destroy(&job->bufs);
	if (job->c->kind != SOURCE_SEND)
		buffer_unregister(&job->ring);
	uring_exit(&job->ring);
	buffer_destroy(&job->buf);
	net_close(&job->conn);
	munmap(job->pattern, span(job->c));
}

static void print_head(const struct job *job, const struct netrig *link, const char *what)
{
	print_case(&program, job->c, what, link_driver(link));
	printf(",\"more\":%d,\"pieces\":%u", job->c->more,
	       pool_pieces(&job->buf, job->buf.size, NETBUF_MAX));
}

static void print_tail(const struct job *job)
{
	const struct tcp_counts *least = &job->least, *most = &job->most;

	printf(",\"verified_bytes\":%llu,\"wrong_bytes\":%ld,\"segments_low\":%u,"
	       "\"segments_high\":%u,\"acks_low\":%u,\"acks_high\":%u,\"again\":%u}\n",
	       (unsigned long long)job->verified, job->wrong, least->segments, most->segments,
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

/* @net: events are counted, not instructions. */
static int run_case(const struct netrig *link, const struct bench_case *c, uint64_t seed,
		    const struct options *o, struct netcount *net)
{
	struct job job;
	int ret;

	alarm(PATIENCE_S);
	ret = job_start(&job, link, c, seed);
	if (ret)
		return ret;
	ret = warm_up(&job);
	if (!ret)
		ret = net ? count_events(&job, link, o->event_windows, net)
			  : count_insns(&job, link, o->insn_windows);
	if (ret)
		return ret;
	job_end(&job);
	return job.wrong ? -EIO : 0;
}

/* A case that fails leaves a connection in who knows what state: no more of them. */
static int run_cases(const struct netrig *link, const struct bench_case *cases, unsigned int nr,
		     const struct options *o, struct netcount *net)
{
	int ret = 0;

	for (unsigned int i = 0; i < nr && !ret; i++)
		ret = run_case(link, &cases[i], i + 1, o, net);
	return ret;
}

static int run(const struct netrig *link, const struct bench_case *cases, unsigned int nr,
	       const struct options *o)
{
	struct netcount net;
	int ret = 0;

	if (o->insn_windows)
		ret = run_cases(link, cases, nr, o, NULL);
	if (ret || !o->event_windows)
		return ret;
	ret = counters_open();
	if (!ret)
		ret = netcount_open(&net, link);
	if (!ret)
		ret = run_cases(link, cases, nr, o, &net);
	counters_close();
	return ret;
}

int main(int argc, char **argv)
{
	struct options o = { .device = "E1000E", .depth = 1, .count = 256 };
	struct bench_case cases[MAX_CASES] = { 0 };
	unsigned int nr = arguments(argc, argv, &program, &o, cases);
	struct netrig link;

	if (!nr)
		return 2;
	if (run_on(SENDER_CPU) || netbuf_init() || link_up(&link, o.device) || lock_memory())
		return 1;
	return run(&link, cases, nr, &o) ? 1 : 0;
}
