// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* uring-dmabuf bench: arguments, and one case after the other */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

#define MAX_BLOCK	(1U << 30)
#define MAX_DEPTH	1024

const char *const bench_op_names[NR_BENCH_OPS] = { "read", "write", "send", "receive" };
const char *const bench_way_names[NR_BENCH_WAYS] = { "plain", "registered", "dmabuf", "bounce" };

static const char doc[] =
	"Measure the same requests from ordinary memory and from a dma-buf: how many, how long "
	"each takes, what the CPU does for them, and how much of the data it copies.\v"
	"TARGET is a directory on ext4 or XFS, where a file without a name is read and written; "
	"a file or block device, which is read, and with --write overwritten; or tcp:HOST:PORT, "
	"where uring-dmabuf bench --serve sends and receives. The ways are: plain, ordinary "
	"memory and requests; registered, the same memory as a registered buffer, zero-copy if "
	"it is sent; dmabuf, the dma-buf as one; bounce, by ordinary memory, and the CPU copies "
	"between it and the dma-buf, as one does without this.\n\n"
	"The last bytes of each case are compared. CPU time is that of this process; interrupts "
	"and kernel threads are not in it.\n\n"
	"Exit: 0 all was measured; 1 not all, and it was said why; 2 usage; 3 this kernel, or "
	"this process, cannot do it at all; 4 other bytes have arrived; 130 interrupted.";

enum { KEY_SERVE = 256, KEY_REQUESTS, KEY_COPY_OK, KEY_WRITE, KEY_RANDOM, KEY_SPAN };

static const struct argp_option options[] = {
	{ "sizes", 's', "LIST", 0, "Of a request: 4k,64k,1m by default", 0 },
	{ "depth", 'd', "N", 0, "So many requests at a time (32)", 0 },
	{ "ways", 'W', "LIST", 0, "Of plain,registered,dmabuf,bounce (all)", 0 },
	{ "ops", 'O', "LIST", 0, "Of read,write,send,receive (all that TARGET has)", 0 },
	{ "time", 't', "SECONDS", 0, "Of each case (2)", 0 },
	{ "requests", KEY_REQUESTS, "N", 0, "So many of each case, however long it takes", 0 },
	{ "span", KEY_SPAN, "SIZE", 0, "How much of a drive or file is used (64m)", 0 },
	{ "random", KEY_RANDOM, NULL, 0, "Anywhere in it, not one after the other", 0 },
	{ "write", KEY_WRITE, NULL, 0, "Overwrite files and block devices, too: what is there is lost", 0 },
	{ "copy-ok", KEY_COPY_OK, NULL, 0, "Let the CPU copy what a connection cannot send as it is", 0 },
	{ "serve", KEY_SERVE, "tcp:[ADDRESS]:PORT", 0, "Be the other side of a connection, until a signal", 0 },
	{ 0 },
};

struct arguments {
	struct bench *b;
	char *targets[MAX_JOBS];
	unsigned int nr;
};

/* ---- arguments ---- */

/* Bytes, with k, m or g behind */
static uint64_t size_of(struct argp_state *state, const char *text, uint64_t least, uint64_t most)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);
	unsigned int shift = *end == 'k' ? 10 : *end == 'm' ? 20 : *end == 'g' ? 30 : 0;

	if (end == text || *text == '-' || end[!!shift] || n > most >> shift || n << shift < least ||
	    n << shift & (BENCH_ALIGN - 1))
		argp_error(state, "%s: no multiple of 4k from %lluk to %lluk", text,
			   (unsigned long long)least >> 10, (unsigned long long)most >> 10);
	return n << shift;
}

static uint64_t number(struct argp_state *state, const char *text, uint64_t most, const char *what)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);

	if (end == text || *end || *text == '-' || !n || n > most)
		argp_error(state, "%s: 1 to %llu, not %s", what, (unsigned long long)most, text);
	return n;
}

static void parse_sizes(struct argp_state *state, struct bench_options *o, char *list)
{
	char *save = NULL;

	o->nr_blocks = 0;
	for (char *one = strtok_r(list, ",", &save); one; one = strtok_r(NULL, ",", &save)) {
		if (o->nr_blocks == BENCH_BLOCKS)
			argp_error(state, "at most %d sizes", BENCH_BLOCKS);
		o->blocks[o->nr_blocks++] = (unsigned int)size_of(state, one, BENCH_ALIGN, MAX_BLOCK);
	}
	if (!o->nr_blocks)
		argp_error(state, "no sizes");
}

static unsigned int parse_names(struct argp_state *state, char *list, const char *const *names,
				unsigned int nr)
{
	unsigned int mask = 0, i;
	char *save = NULL;

	for (char *one = strtok_r(list, ",", &save); one; one = strtok_r(NULL, ",", &save)) {
		for (i = 0; i < nr && strcmp(one, names[i]); i++)
			;
		if (i == nr)
			argp_error(state, "%s: there is no such one, see --help", one);
		mask |= 1U << i;
	}
	if (!mask)
		argp_error(state, "an empty list");
	return mask;
}

static double parse_seconds(struct argp_state *state, const char *text)
{
	char *end;
	double s = strtod(text, &end);

	if (end == text || *end || !(s > 0 && s <= 86400))
		argp_error(state, "--time: more than 0, at most 86400 seconds, not %s", text);
	return s;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;
	struct bench_options *o = &a->b->o;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &o->o;
		return 0;
	case 's':
		parse_sizes(state, o, arg);
		return 0;
	case 'd':
		o->depth = (unsigned int)number(state, arg, MAX_DEPTH, "--depth");
		return 0;
	case 'W':
		o->ways = parse_names(state, arg, bench_way_names, NR_BENCH_WAYS);
		return 0;
	case 'O':
		o->ops = parse_names(state, arg, bench_op_names, NR_BENCH_OPS);
		return 0;
	case 't':
		o->seconds = parse_seconds(state, arg);
		return 0;
	case KEY_REQUESTS:
		o->requests = number(state, arg, UINT32_MAX, "--requests");
		return 0;
	case KEY_SPAN:
		o->span = size_of(state, arg, BENCH_ALIGN, 1ULL << 40);
		return 0;
	case KEY_RANDOM:
		o->random = true;
		return 0;
	case KEY_WRITE:
		o->write = true;
		return 0;
	case KEY_COPY_OK:
		o->copy_ok = true;
		return 0;
	case KEY_SERVE:
		o->serve = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (a->nr == MAX_JOBS)
			argp_error(state, "at most %d targets", MAX_JOBS);
		a->targets[a->nr++] = arg;
		return 0;
	case ARGP_KEY_END:
		if (!a->nr != !!o->serve)
			argp_error(state, "a TARGET, or --serve");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* ---- cases ---- */

static bool is_tcp(const char *name)
{
	return !strncmp(name, "tcp:", 4);
}

/* What a target has; nothing receives into a registered buffer */
static bool is_case(const struct bench *b, const char *target, enum bench_op op, enum bench_way way)
{
	bool net = op == BENCH_SEND || op == BENCH_RECV;

	return b->o.ops & 1U << op && b->o.ways & 1U << way && net == is_tcp(target) &&
	       !(op == BENCH_RECV && way == BENCH_REGISTERED);
}

/* The ways of one thing beside each other, so that what else a machine does meets all */
static void list_cases(struct bench *b, const struct arguments *a)
{
	size_t most = (size_t)a->nr * NR_BENCH_OPS * b->o.nr_blocks * NR_BENCH_WAYS;

	b->cases = calloc(most, sizeof(*b->cases));
	if (!b->cases)
		die("no memory");
	for (unsigned int t = 0; t < a->nr; t++)
		for (int op = 0; op < NR_BENCH_OPS; op++)
			for (unsigned int i = 0; i < b->o.nr_blocks; i++)
				for (int way = 0; way < NR_BENCH_WAYS; way++) {
					if (!is_case(b, a->targets[t], op, way))
						continue;
					b->cases[b->nr_cases++] = (struct bench_case) {
						.target = a->targets[t], .op = op, .way = way,
						.block = b->o.blocks[i],
					};
				}
}

static int open_target(struct bench *b, struct bench_case *c, struct target *t)
{
	const struct check_options o = { .write = b->o.write, .size = b->o.span };

	*t = (struct target) { .name = c->target, .fd = -1 };
	if (!is_tcp(c->target))
		return target_open(&o, t, &c->v);
	t->kind = TARGET_TCP;
	return 0;
}

static int may_run(struct bench *b, struct bench_case *c, struct target *t)
{
	const struct check_options o = { .write = b->o.write };
	bool may = true;
	int ret = c->op == BENCH_WRITE ? target_may_write(&o, t, &c->v, &may) : 0;

	if (ret)
		return ret;
	if (!may)
		return fail(&c->v, "target", -EPERM, "not-asked",
			    "%s is not overwritten without --write", c->target);
	if (!is_tcp(c->target) && t->len < c->block)
		return fail(&c->v, "target", -EINVAL, "too-small", "%s: a request of %u bytes is "
			    "larger than half of it, or than --span", c->target, c->block);
	return 0;
}

static void say_case(const struct bench *b, size_t i)
{
	const struct bench_case *c = &b->cases[i];

	if (b->o.o.quiet || !isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "\r\033[K%zu of %zu: %s %s %uk %s", i + 1, b->nr_cases, c->target,
		bench_op_names[c->op], c->block >> 10, bench_way_names[c->way]);
}

/* A drive or file is open for all of its cases; a connection is one for each */
static void run_all(struct bench *b)
{
	struct target t = { .name = "", .fd = -1 };

	for (size_t i = 0; i < b->nr_cases && !cp_stop; i++) {
		struct bench_case *c = &b->cases[i];

		c->v.memory = b->o.o.memory;
		c->v.target = c->target;
		say_case(b, i);
		if (t.fd < 0 || is_tcp(c->target) || strcmp(t.name, c->target)) {
			target_close(&t);
			if (open_target(b, c, &t)) {
				target_close(&t);
				continue;
			}
		}
		if (!may_run(b, c, &t))
			bench_run(b, c, &t);
	}
	target_close(&t);
	if (!b->o.o.quiet && isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
}

/* ---- the program ---- */

static int open_memory(struct bench *b)
{
	size_t size = 0;
	int ret;

	for (unsigned int i = 0; i < b->o.nr_blocks; i++)
		if (b->o.blocks[i] > size)
			size = b->o.blocks[i];
	size *= b->o.depth;
	b->plain = aligned_alloc(BENCH_ALIGN, size);
	if (!b->plain)
		die("%zu bytes of ordinary memory: there is no more", size);
	/* what was never touched has no pages */
	memset(b->plain, 0, size);
	if (!(b->o.ways & (1U << BENCH_DMABUF | 1U << BENCH_BOUNCE)))
		return 0;
	ret = dmabuf_mem_open(&b->mem, b->o.o.memory, size);
	if (!ret && b->mem.fd >= 0)
		return 0;
	fprintf(stderr, "uring-dmabuf: %s: %s\n", b->o.o.memory, ret ? dmabuf_mem_why() :
		"no dma-buf");
	return ret ? ret : -EINVAL;
}

static int outcome(const struct bench *b)
{
	if (b->no_kernel)
		return EXIT_KERNEL;
	if (b->wrong)
		return EXIT_WRONG;
	if (cp_stop)
		return 128 + SIGINT;
	for (size_t i = 0; i < b->nr_cases; i++)
		if (b->cases[i].v.step)
			return EXIT_REFUSED;
	return EXIT_WORKS;
}

static int bench(struct bench *b, const struct arguments *a)
{
	struct verdict v = { 0 };

	list_cases(b, a);
	if (!b->nr_cases)
		die("none of these targets has one of these --ops and --ways");
	if (b->o.ways & 1U << BENCH_DMABUF && kernel_check(&v)) {
		fprintf(stderr, "uring-dmabuf: %s\n  (--ways plain,registered,bounce measures the rest)\n",
			v.text);
		return EXIT_KERNEL;
	}
	catch_signals();
	if (open_memory(b))
		return EXIT_REFUSED;
	run_all(b);
	if (b->o.o.json)
		bench_json(b);
	else
		bench_table(b);
	return outcome(b);
}

int bench_main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options, .parser = parse, .doc = doc, .children = memory_options,
		.args_doc = "TARGET...\n--serve tcp:[ADDRESS]:PORT",
	};
	struct bench b = { .o = {
		.o.memory = "udmabuf", .blocks = { 4096, 65536, 1 << 20 }, .nr_blocks = 3,
		.depth = 32, .ways = ~0U, .ops = ~0U, .seconds = 2, .span = 64 << 20,
	} };
	struct arguments a = { .b = &b };
	char name[] = "uring-dmabuf bench";
	int code;

	argv[0] = name;
	b.mem.fd = -1;
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	signal(SIGPIPE, SIG_IGN);
	if (b.o.serve)
		return bench_serve(&b.o);
	code = bench(&b, &a);
	dmabuf_mem_close(&b.mem);
	free(b.plain);
	free(b.cases);
	return code;
}
