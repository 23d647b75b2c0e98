// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fail.h"
#include "lab.h"
#include "program.h"

static unsigned int nr_marks;

void mark(void)
{
	syscall(SYS_ioprio_get, 1, 0);
	nr_marks++;
}

unsigned int next_window(void)
{
	return nr_marks / 2 + 1;
}

size_t span(const struct bench_case *c)
{
	return c->count * c->size;
}

/* ---- arguments ---- */

/* bytes, or with k, m; what is behind them goes to @end */
static size_t size_of(const char *text, char **end)
{
	size_t size = strtoull(text, end, 10);

	if (**end == 'k')
		size <<= 10;
	else if (**end == 'm')
		size <<= 20;
	*end += **end == 'k' || **end == 'm';
	return size;
}

static bool parse_options(int argc, char **argv, const char *options, struct options *o)
{
	char *end;
	int opt;

	while ((opt = getopt(argc, argv, options)) != -1) {
		switch (opt) {
		case 'd':
			o->device = optarg;
			break;
		case 'a':
			o->chunk = size_of(optarg, &end);
			if (!o->chunk || *end)
				return false;
			break;
		case 'q':
			o->depth = (unsigned int)atoi(optarg);
			break;
		case 'n':
			o->count = (unsigned int)atoi(optarg);
			break;
		case 'i':
			o->insn_windows = (unsigned int)atoi(optarg);
			break;
		case 'e':
			o->event_windows = (unsigned int)atoi(optarg);
			break;
		case 'm':
			o->m = true;
			break;
		case 'r':
			o->r = true;
			break;
		case 'f':
			o->file = optarg;
			break;
		default:
			return false;
		}
	}
	return true;
}

/* KIND:SIZE, and what the program makes of the rest; or KIND. */
static int parse_case(const struct program *p, const char *name, const struct options *o,
		      struct bench_case *c)
{
	size_t len = strcspn(name, ":");
	char *end;

	c->name = name;
	while (strlen(p->kinds[c->kind]) != len || strncmp(name, p->kinds[c->kind], len))
		if (++c->kind == p->nr_kinds)
			return -EINVAL;
	/* a kind with a size, or a kind */
	if (!name[len] || !p->parse)
		return name[len] || p->parse ? -EINVAL : 0;
	c->size = size_of(name + len + 1, &end);
	c->count = o->count;
	if (!c->size || p->parse(c, end, o))
		return -EINVAL;
	c->depth = o->depth < c->count ? o->depth : c->count;
	return 0;
}

static unsigned int usage(const struct program *p, const char *why)
{
	fprintf(stderr, "%s: %s\n%s", program_invocation_short_name, why, p->usage);
	return 0;
}

unsigned int arguments(int argc, char **argv, const struct program *p, struct options *o,
		       struct bench_case cases[MAX_CASES])
{
	unsigned int nr = 0;

	if (!parse_options(argc, argv, p->options, o))
		return usage(p, "unknown option");
	if (!o->device || !o->depth || !o->count || o->count > p->max_count)
		return usage(p, "needs a device, a depth and a count");
	for (; optind < argc; optind++)
		if (nr == MAX_CASES || parse_case(p, argv[optind], o, &cases[nr++]))
			return usage(p, argv[optind]);
	return nr ? nr : usage(p, "no case given");
}

/* ---- output ---- */

static const char *env(const char *name)
{
	const char *v = lab_env(name);

	return v ? v : "";
}

void print_case(const struct program *p, const struct bench_case *c, const char *what,
		const char *device)
{
	printf("{\"what\":\"%s\",\"case\":\"%s\",\"kind\":\"%s\",\"size\":%zu,",
	       what, c->name, p->kinds[c->kind], c->size);
	if (c->direction)
		printf("\"direction\":\"%s\",", c->direction);
	printf("\"device\":\"%s\",\"iommu\":\"%s\",\"topology\":\"%s\",\"kernel\":\"%s\","
	       "\"count\":%u,\"depth\":%u", device, env("LAB_IOMMU"), env("LAB_TOPO"),
	       env("LAB_KERNEL"), c->count, c->depth);
}

/* ---- memory and rings ---- */

int lock_memory(void)
{
	return mlockall(MCL_CURRENT) ? fail("mlockall", errno, "as root") : 0;
}

unsigned char *resident(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p != MAP_FAILED)
		return p;
	fail("memory for the data", errno, "a larger guest?");
	return NULL;
}

int ring_create(struct uring *ring, unsigned int entries)
{
	int ret = uring_init(ring, entries, IORING_SETUP_SINGLE_ISSUER |
					    IORING_SETUP_DEFER_TASKRUN);

	return ret ? fail("io_uring_setup", -ret, "needs a kernel with io_uring") : 0;
}

int ring_submit_and_wait(struct uring *ring, unsigned int nr)
{
	unsigned int queued = ring->local_tail - *ring->sq_tail;
	int ret = uring_submit(ring, nr);

	if (ret == (int)queued)
		return 0;
	return fail("io_uring_enter", ret < 0 ? -ret : EIO, "all or nothing");
}
