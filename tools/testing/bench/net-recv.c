// SPDX-License-Identifier: GPL-2.0
/*
 * net-recv - what receiving by TCP costs the kernel, counted on the receiver's side only.
 *
 *   net-recv [options] KIND:SIZE:MTU...
 *
 *   recv     recv() into ordinary memory
 *   epoll    the same, each after an epoll_wait()
 *   zc       RECV_ZC into a slot, memory of a PCI device; the card is one with header split
 *   SIZE     bytes of one call, with k, m; zc takes a window at once, whatever SIZE is
 *   MTU      of both ends: 1500, or 4148, where packets carry a page
 *
 *   -d CARD  the environment has LAB_NET_<CARD> and LAB_NET_<CARD>_PEER [E1000E]
 *   -i N     windows for the instruction count (fninsn.c, cpu=0) [0]
 *   -e N     windows for the event counts [0]
 *
 * Needs two CPUs: the receiver and the card are on CPU 0, the peer sends from CPU 1. A
 * window is 1 MiB. It begins before the peer sends, and the receiver waits without system
 * calls until all has been received and acknowledged by the kernel; then it takes it. So
 * neither kind sleeps, and how often one would wake up is not compared. Every byte is
 * compared behind the window.
 *
 * Output, a JSON object per line; exit status 0: every byte was right, 1: not or something
 * failed, 2: wrong arguments.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <linux/sockios.h>

#include "counters.h"
#include "fail.h"
#include "link.h"
#include "netcount.h"
#include "program.h"
#include "relay.h"

#define WINDOW		(1u << 20)
/* the card's ring, a window of packets that carry 1448 bytes of a page, and spare ones */
#define AREA		(16u << 20)
#define MAX_PIECES	4096
#define WARM_WINDOWS	8
#define PATIENCE_S	400
#define POLL_US		2000
#define PATIENCE_US	30000000
/* what the card has to say of the last packets, and of acknowledgements, has been said */
#define SETTLE_US	20000

enum kind { RECV, EPOLL, ZC, KINDS };

static const char *const kind_name[KINDS] = { "recv", "epoll", "zc" };

/* A thread on OTHER_CPU; CPU 0 sets what follows, and waits for it, without system calls. */
struct peer {
	pthread_t thread;
	int fd, error;
	const unsigned char *data;
	atomic_uint go;			/* windows to send, ... */
	atomic_uint arrived;		/* ... that are there, ... */
	atomic_uint taken;		/* ... that the program has, ... */
	atomic_uint settled;		/* ... and nothing more happens */
	atomic_bool stop;
};

struct job {
	const struct bench_case *c;
	struct relay *relay;
	struct peer peer;
	unsigned char *pattern, *data;	/* of the peer, and where ordinary memory is received */
	int epoll;
	struct arrived pieces[MAX_PIECES];
	unsigned int nr_pieces, all_pieces, calls;
	unsigned int window;
	uint64_t verified, wrong;
};

static int parse(struct bench_case *c, const char *rest, const struct options *o)
{
	char *end;

	(void)o;
	if (*rest++ != ':' || c->size > WINDOW || WINDOW % c->size)
		return -EINVAL;
	c->mtu = (unsigned int)strtoul(rest, &end, 10);
	c->count = c->kind == ZC ? 1 : WINDOW / (unsigned int)c->size;
	if (c->kind == ZC)
		c->size = WINDOW;
	return *end || c->mtu < 1500 || c->mtu > MTU_PAGE_TCP4 ? -EINVAL : 0;
}

static const struct program program = {
	.usage = "usage: net-recv [-d CARD] [-i WINDOWS] [-e WINDOWS] KIND:SIZE:MTU...\n"
		 "e.g.   net-recv -e 3 recv:64k:1500 zc:1m:4148\n",
	.options = "d:i:e:",
	.kinds = kind_name,
	.nr_kinds = KINDS,
	.max_count = 1,
	.parse = parse,
};

/* ---- the peer ---- */

static void spin_until(const atomic_uint *n, unsigned int value)
{
	while (atomic_load_explicit(n, memory_order_acquire) != value)
		__builtin_ia32_pause();
}

/* The peer has no need to spin, and the emulator has other things to do. */
static bool sleep_until(struct peer *p, const atomic_uint *n, unsigned int value)
{
	while (atomic_load_explicit(n, memory_order_acquire) != value) {
		if (atomic_load(&p->stop))
			return false;
		usleep(POLL_US / 4);
	}
	return true;
}

static int wait_acked(int fd)
{
	int left;

	for (int us = 0; us < PATIENCE_US; us += POLL_US) {
		if (ioctl(fd, SIOCOUTQ, &left))
			return fail("SIOCOUTQ", errno, "TCP");
		if (!left)
			return 0;
		usleep(POLL_US);
	}
	return fail("waiting for the acknowledgement", ETIME, "TCP");
}

static int send_window(struct peer *p)
{
	size_t done;
	ssize_t n;

	for (done = 0; done < WINDOW; done += (size_t)n) {
		n = send(p->fd, p->data + done, WINDOW - done, MSG_NOSIGNAL);
		if (n <= 0)
			return fail("send", errno, "the peer's socket");
	}
	return wait_acked(p->fd);
}

static void *peer_run(void *arg)
{
	struct peer *p = arg;
	unsigned int n = 1;

	run_on(OTHER_CPU);
	for (; sleep_until(p, &p->go, n); n++) {
		p->error = send_window(p);
		usleep(SETTLE_US);
		atomic_store(&p->arrived, n);
		if (!sleep_until(p, &p->taken, n))
			break;
		usleep(SETTLE_US);
		atomic_store(&p->settled, n);
	}
	return NULL;
}

static int peer_start(struct peer *p, int fd, const unsigned char *data)
{
	*p = (struct peer){ .fd = fd, .data = data };
	if (pthread_create(&p->thread, NULL, peer_run, p))
		return fail("pthread_create", EAGAIN, "a thread for the peer");
	return 0;
}

/*
 * How many packets a poll of the card finds depends on host time, and with it what GRO puts
 * together and how often TCP acknowledges. So the card is polled rarely: by a timer, and not by
 * an interrupt again before two polls have found nothing.
 */
static int poll_rarely(const struct netrig *link)
{
	static const struct { const char *name, *value; } knobs[] = {
		{ "gro_flush_timeout", "50000000" },
		{ "napi_defer_hard_irqs", "2" },
	};
	char path[96];
	int ret = 0;

	for (size_t i = 0; i < sizeof(knobs) / sizeof(knobs[0]) && !ret; i++) {
		snprintf(path, sizeof(path), "/sys/class/net/%s/%s", link->dev[NET_CARD],
			 knobs[i].name);
		ret = file_write(path, knobs[i].value);
	}
	return ret ? fail(path, -ret, "as root") : 0;
}

/* ---- what has arrived is taken ---- */

static int take_by_calls(struct job *job)
{
	const struct bench_case *c = job->c;
	struct epoll_event event;

	for (unsigned int i = 0; i < c->count; i++) {
		if (c->kind == EPOLL) {
			job->calls++;
			if (epoll_wait(job->epoll, &event, 1, -1) != 1)
				return fail("epoll_wait", errno, "the card's socket");
		}
		job->calls++;
		if (recv(job->relay->tcp.rx, job->data + i * c->size, c->size, 0) !=
		    (ssize_t)c->size)
			return fail("recv", errno, "the card's socket");
	}
	return 0;
}

/* One completion: whether there are more to come, or -errno */
static int take_piece(struct job *job, const struct uring_res *res)
{
	if (!(res->flags & IORING_CQE_F_MORE))
		return res->res ? fail("RECV_ZC", -res->res, "it has ended") : 0;
	if (job->nr_pieces == MAX_PIECES)
		return fail("RECV_ZC", E2BIG, "too many pieces");
	job->pieces[job->nr_pieces++] = (struct arrived){ .off = res->extra,
							   .len = (unsigned int)res->res };
	return 1;
}

static int take_zc(struct job *job)
{
	struct relay *r = job->relay;
	struct uring_res res;
	int ret, more = 1;

	job->nr_pieces = 0;
	if (!zcrx_prep(&r->z, r->tcp.rx, WINDOW, RELAY_RECV))
		return fail("RECV_ZC", EBUSY, "no SQE");
	do {
		job->calls++;
		ret = ring_submit_and_wait(&r->ring, 1);
		while (!ret && more > 0 && uring_peek(&r->ring, &res))
			more = take_piece(job, &res);
	} while (!ret && more > 0);
	return ret ? ret : more;
}

static int take(struct job *job)
{
	return job->c->kind == ZC ? take_zc(job) : take_by_calls(job);
}

/* ---- and compared ---- */

static bool right_pieces(struct job *job)
{
	struct relay *r = job->relay;
	uint64_t got = 0;
	bool right = true;

	for (unsigned int i = 0; i < job->nr_pieces; i++) {
		const struct arrived *a = &job->pieces[i];
		uint64_t at = a->off & ~IORING_ZCRX_AREA_MASK;

		right &= at + a->len <= r->mem.size &&
			 mem_check(&r->mem, at, job->window * (uint64_t)WINDOW + got, a->len,
				   NET_SEED) == NO_MISMATCH;
		got += a->len;
	}
	for (unsigned int i = 0; i < job->nr_pieces; i++)
		zcrx_return(&r->z, job->pieces[i].off, job->pieces[i].len);
	job->all_pieces += job->nr_pieces;
	return right && got == WINDOW;
}

/* ---- windows ---- */

static void window_start(struct job *job)
{
	job->window++;
	pattern_fill(job->pattern, job->window * (uint64_t)WINDOW, WINDOW, NET_SEED);
	memset(job->data, POISON, WINDOW);
}

static int window_run(struct job *job)
{
	struct peer *p = &job->peer;
	int ret;

	atomic_store(&p->go, job->window);
	spin_until(&p->arrived, job->window);
	ret = p->error ? p->error : take(job);
	atomic_store(&p->taken, job->window);
	spin_until(&p->settled, job->window);
	return ret;
}

static void window_end(struct job *job)
{
	bool right = job->c->kind == ZC ? right_pieces(job) :
					  !memcmp(job->data, job->pattern, WINDOW);

	job->verified += WINDOW;
	job->wrong += !right;
	if (!right)
		fprintf(stderr, "net-recv: %s: window %u is wrong\n", job->c->name, job->window);
}

static int insn_window(struct job *job)
{
	int ret;

	window_start(job);
	mark();
	ret = window_run(job);
	mark();
	if (!ret)
		window_end(job);
	return ret;
}

static int event_window(struct job *job, struct counts *counts)
{
	int ret;

	window_start(job);
	ret = counters_start();
	if (!ret)
		ret = window_run(job);
	if (!ret)
		ret = counters_stop(counts, 512);
	if (!ret)
		window_end(job);
	return ret;
}

/* TCP's windows open; and the card has memory of the time before until then. */
static int warm_up(struct job *job)
{
	int ret = 0;

	for (unsigned int i = 0; i < WARM_WINDOWS && !ret; i++) {
		window_start(job);
		ret = window_run(job);
		if (!ret)
			window_end(job);
	}
	job->calls = job->all_pieces = 0;
	return ret;
}

/* ---- cases ---- */

static int slot_open(struct relay *r)
{
	const char *why = "a card that splits headers off?";
	int ret = rings_split(&r->net, SPLIT_ON);

	r->settled = true;
	if (!ret)
		ret = net_wait_running(&r->net, NET_CARD);
	if (!ret)
		ret = relay_store(r, MEM_BAR, AREA, ZCRX_RING, &why);
	if (!ret)
		ret = relay_open(r, 0, AREA);
	return ret ? fail("the slot that is received into", -ret, why) : 0;
}

static int epoll_open(struct job *job)
{
	struct epoll_event event = { .events = EPOLLIN };

	job->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (job->epoll < 0 ||
	    epoll_ctl(job->epoll, EPOLL_CTL_ADD, job->relay->tcp.rx, &event))
		return fail("epoll", errno, "CONFIG_EPOLL");
	return 0;
}

static int job_start(struct job *job, struct relay *r, const struct bench_case *c)
{
	int ret;

	*job = (struct job){ .c = c, .relay = r, .epoll = -1 };
	job->pattern = resident(WINDOW);
	job->data = resident(WINDOW);
	if (!job->pattern || !job->data)
		return -ENOMEM;
	ret = link_mtu(&r->net, c->mtu);
	if (!ret && c->kind == ZC)
		ret = slot_open(r);
	if (ret)
		return ret;
	/* the card may have others now */
	link_interrupts(&r->net);
	ret = link_connect_back(&r->net, &r->tcp);
	if (!ret && c->kind == EPOLL)
		ret = epoll_open(job);
	return ret ? ret : peer_start(&job->peer, r->tcp.tx, job->pattern);
}

static int job_end(struct job *job)
{
	struct relay *r = job->relay;
	int ret = 0;

	atomic_store(&job->peer.stop, true);
	pthread_join(job->peer.thread, NULL);
	net_close(&r->tcp);
	if (job->epoll >= 0)
		close(job->epoll);
	if (job->c->kind == ZC) {
		ret = relay_close(r);
		mem_destroy(&r->mem);
		close(r->disk);
		r->disk = -1;
	}
	munmap(job->pattern, WINDOW);
	munmap(job->data, WINDOW);
	return ret ? fail("the card as it was", -ret, "tcp-data-split") : 0;
}

static void print_head(const struct job *job, const char *what)
{
	print_case(&program, job->c, what, link_driver(&job->relay->net));
	printf(",\"mtu\":%u", job->c->mtu);
}

static void print_tail(const struct job *job)
{
	printf(",\"verified_bytes\":%llu,\"wrong_windows\":%llu,\"calls\":%u,\"pieces\":%u}\n",
	       (unsigned long long)job->verified, (unsigned long long)job->wrong, job->calls,
	       job->all_pieces);
	fflush(stdout);
}

static int count_insns(struct job *job, unsigned int windows)
{
	unsigned int first = next_window();
	int ret = 0;

	for (unsigned int i = 0; i < windows && !ret; i++)
		ret = insn_window(job);
	if (ret)
		return ret;
	print_head(job, "insns");
	printf(",\"first_window\":%u,\"windows\":%u", first, windows);
	print_tail(job);
	return 0;
}

static int count_events(struct job *job, unsigned int windows, struct netcount *net)
{
	struct counts n = { 0 };
	int ret = 0;

	netcount_reset(net);
	for (unsigned int i = 0; i < windows && !ret; i++)
		ret = event_window(job, &n);
	if (ret)
		return ret;
	print_head(job, "events");
	printf(",\"windows\":%u,\"page_maps\":%llu,\"dma_map\":%llu,\"dma_unmap\":%llu,"
	       "\"flush\":%llu", windows,
	       (unsigned long long)(net->received.map + net->received.unmap),
	       (unsigned long long)n.dma_map, (unsigned long long)n.dma_unmap,
	       (unsigned long long)n.flush);
	if (n.copy_bytes != COPIES_UNKNOWN)
		printf(",\"copy_bytes\":%llu", (unsigned long long)n.copy_bytes);
	print_tail(job);
	return 0;
}

struct bench {
	struct relay relay;
	struct options o;
	struct bench_case cases[MAX_CASES];
};

static int run_case(void *ctx, unsigned int i, struct netcount *net)
{
	static struct job job;
	struct bench *b = ctx;
	int ret;

	alarm(PATIENCE_S);
	ret = job_start(&job, &b->relay, &b->cases[i]);
	if (!ret)
		ret = warm_up(&job);
	if (!ret)
		ret = net ? count_events(&job, b->o.event_windows, net) :
			    count_insns(&job, b->o.insn_windows);
	if (!ret)
		ret = job_end(&job);
	return ret ? ret : job.wrong ? -EIO : 0;
}

int main(int argc, char **argv)
{
	static struct bench b = { .o = { .device = "E1000E", .depth = 1, .count = 1 } };
	unsigned int nr = arguments(argc, argv, &program, &b.o, b.cases);
	const struct netrig *link = &b.relay.net;

	if (!nr)
		return 2;
	relay_init(&b.relay);
	if (run_on(SENDER_CPU) || link_up(&b.relay.net, b.o.device, NET_PEER) ||
	    poll_rarely(link) || lock_memory())
		return 1;
	return netcount_cases(link, &b.o, nr, run_case, &b) ? 1 : 0;
}
