// SPDX-License-Identifier: GPL-2.0
/*
 * regbuf-bench - what one I/O on a registered buffer costs the kernel, counted.
 *
 *   regbuf-bench [options] KIND:SIZE:DIRECTION...
 *
 *   KIND       plain | buffered | dmabuf | bar | nop    (buffer.h)
 *   SIZE       bytes, or with k, m:  4k 128k 8m
 *   DIRECTION  read | write
 *
 *   -d DEVICE  NVMe block device, its first 64 MiB are overwritten [$LAB_NVME_MAIN]
 *   -q DEPTH   I/Os submitted together [32]
 *   -n COUNT   I/Os per window [64, fewer if they do not fit in 32 MiB]
 *   -i N       windows for the instruction count (fninsn.c) [0]
 *   -e N       windows for the event counts [0]
 *   -m         also say how the kernel mapped the buffer
 *
 * A window is COUNT I/Os, each to its own place in the buffer and on the
 * drive.  Before it the destination is poisoned, behind it every byte is
 * compared; an ordinary O_DIRECT read of the drive is the witness.  The
 * instruction windows of all cases come first and the event windows last, so
 * that no tracing is on while instructions are counted.
 *
 * Output, a JSON object per line; exit status 0: every byte was right, 1: not
 * or something failed, 2: wrong arguments.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/io_uring/query.h>

#include "buffer.h"
#include "counters.h"
#include "drive.h"
#include "fail.h"
#include "pool.h"
#include "ring.h"

#define MAX_CASES	64
#define MAX_SPAN	(32u << 20)
#define PAGE		4096u

struct options {
	const char *device;
	unsigned int depth, count;
	unsigned int insn_windows, event_windows;
	bool show_map;
};

struct bench_case {
	const char *name;
	enum buffer_kind kind;
	size_t size;
	bool write;
	unsigned int count, depth;
};

/* What runs: one case, with its memory and its drive ready. */
struct job {
	const struct bench_case *c;
	struct drive *drive;
	struct ring ring;
	struct buffer buf;
	unsigned char *pattern;		/* what the destination must hold */
	unsigned char *witness;		/* what an ordinary read sees */
	long wrong;
	uint64_t verified;
};

static unsigned int nr_marks;

/* Opens or closes a window of fninsn.c; changes nothing in the kernel. */
static void mark(void)
{
	syscall(SYS_ioprio_get, 1, 0);
	nr_marks++;
}

static size_t span(const struct bench_case *c)
{
	return c->count * c->size;
}

/* A gap behind each I/O, so that the block layer has no neighbours to merge. */
static uint64_t drive_offset(const struct bench_case *c, unsigned int nr)
{
	return 2 * (uint64_t)nr * c->size;
}

static void prepare_io(struct job *job, unsigned int nr)
{
	const struct bench_case *c = job->c;
	struct io_uring_sqe *sqe = ring_sqe(&job->ring);

	if (c->kind == BUFFER_NOP) {
		sqe->opcode = IORING_OP_NOP;
		return;
	}
	sqe->opcode = c->write ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
	sqe->fd = c->kind == BUFFER_BUFFERED ? job->drive->buffered_fd : job->drive->fd;
	sqe->addr = buffer_sqe_addr(&job->buf, nr * c->size);
	sqe->len = (unsigned int)c->size;
	sqe->off = drive_offset(c, nr);
	sqe->buf_index = 0;
	sqe->user_data = nr;
}

static int reap(struct job *job, unsigned int nr)
{
	struct io_uring_cqe *cqe;
	int res;

	while (nr) {
		cqe = ring_peek(&job->ring);
		if (!cqe)
			return fail("waiting for completions", EIO, "fewer than were asked for");
		res = cqe->res;
		ring_seen(&job->ring);
		nr--;
		if (res < 0)
			return fail(job->c->name, -res, "I/O failed");
		if ((size_t)res != (job->c->kind == BUFFER_NOP ? 0 : job->c->size))
			return fail(job->c->name, EIO, "short I/O");
	}
	return 0;
}

static int run_ios(struct job *job)
{
	unsigned int done, n;
	int ret = 0;

	for (done = 0; done < job->c->count && !ret; done += n) {
		n = job->c->count - done;
		if (n > job->c->depth)
			n = job->c->depth;
		for (unsigned int i = 0; i < n; i++)
			prepare_io(job, done + i);
		ret = ring_submit_and_wait(&job->ring, n);
		if (ret)
			return fail("io_uring_enter", -ret, "");
		ret = reap(job, n);
	}
	return ret;
}

/* The drive's side of every I/O, by ordinary reads into @to. */
static int read_drive(struct job *job, unsigned char *to)
{
	int ret = 0;

	for (unsigned int i = 0; i < job->c->count && !ret; i++)
		ret = drive_read(job->drive, to + i * job->c->size, job->c->size,
				 drive_offset(job->c, i));
	return ret;
}

static int write_drive(struct job *job, const unsigned char *from)
{
	int ret = 0;

	for (unsigned int i = 0; i < job->c->count && !ret; i++)
		ret = drive_write(job->drive, from + i * job->c->size, job->c->size,
				  drive_offset(job->c, i));
	return ret;
}

/* The destination forgets what it holds. */
static int poison(struct job *job, unsigned int window)
{
	unsigned char byte = (unsigned char)(0xa5 ^ window);

	if (job->c->kind == BUFFER_NOP)
		return 0;
	if (!job->c->write)
		return buffer_poison(&job->buf, byte);
	memset(job->witness, byte, span(job->c));
	return write_drive(job, job->witness);
}

static int verify(struct job *job)
{
	long wrong;
	int ret;

	if (job->c->kind == BUFFER_NOP)
		return 0;
	if (job->c->write) {
		ret = read_drive(job, job->witness);
		if (ret)
			return ret;
		wrong = count_wrong(job->witness, job->pattern, span(job->c));
	} else {
		wrong = buffer_compare(&job->buf, job->pattern);
		if (wrong < 0)
			return (int)wrong;
	}
	job->wrong += wrong;
	job->verified += span(job->c);
	if (wrong)
		fprintf(stderr, "regbuf-bench: %s: %ld of %zu bytes are wrong\n",
			job->c->name, wrong, span(job->c));
	return 0;
}

static int insn_window(struct job *job, unsigned int window)
{
	int ret = poison(job, window);

	if (ret)
		return ret;
	mark();
	ret = run_ios(job);
	mark();
	return ret ? ret : verify(job);
}

static int event_window(struct job *job, unsigned int window, struct counts *counts)
{
	int ret = poison(job, window);

	if (!ret)
		ret = counters_start();
	if (ret)
		return ret;
	ret = run_ios(job);
	if (!ret)
		ret = counters_stop(counts, job->drive->block);
	return ret ? ret : verify(job);
}

static unsigned char *alloc_pages(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* The source holds the pattern; for a read, the witness says so too. */
static int fill_source(struct job *job, uint64_t seed)
{
	int ret;

	make_pattern(job->pattern, span(job->c), seed);
	if (job->c->write)
		return buffer_fill(&job->buf, job->pattern);
	ret = write_drive(job, job->pattern);
	if (!ret)
		ret = read_drive(job, job->witness);
	if (!ret && count_wrong(job->witness, job->pattern, span(job->c)))
		ret = fail("ordinary read of the drive", EIO, "not what was written");
	return ret;
}

static int job_start(struct job *job, struct drive *drive, const struct bench_case *c,
		     uint64_t seed)
{
	int ret;

	*job = (struct job){ .c = c, .drive = drive };
	job->pattern = alloc_pages(span(c));
	job->witness = alloc_pages(span(c));
	if (!job->pattern || !job->witness)
		return fail("memory for the patterns", ENOMEM, "a larger guest?");
	ret = ring_init(&job->ring, c->depth);
	if (ret)
		return fail("io_uring_setup", -ret, "needs a kernel with io_uring");
	ret = buffer_create(&job->buf, c->kind, span(c));
	if (!ret)
		ret = fill_source(job, seed);
	if (!ret)
		ret = buffer_register(&job->buf, &job->ring, drive->fd);
	return ret;
}

static void job_end(struct job *job)
{
	buffer_unregister(&job->buf, &job->ring);
	ring_exit(&job->ring);
	buffer_destroy(&job->buf);
	munmap(job->pattern, span(job->c));
	munmap(job->witness, span(job->c));
}

static const char *env(const char *name)
{
	const char *v = getenv(name);

	return v ? v : "";
}

static void print_head(const struct job *job, const char *what)
{
	const struct bench_case *c = job->c;

	printf("{\"what\":\"%s\",\"case\":\"%s\",\"kind\":\"%s\",\"size\":%zu,\"direction\":\"%s\","
	       "\"device\":\"%s\",\"iommu\":\"%s\",\"topology\":\"%s\",\"kernel\":\"%s\","
	       "\"count\":%u,\"depth\":%u,\"drive_largest\":%u",
	       what, c->name, buffer_kind_name[c->kind], c->size, c->write ? "write" : "read",
	       job->drive->path, env("LAB_IOMMU"), env("LAB_TOPO"), env("LAB_KERNEL"),
	       c->count, c->depth, job->drive->largest);
	if (c->kind == BUFFER_PLAIN)
		printf(",\"segments\":%lu", pool_segments(span(c), c->size));
}

static void print_tail(const struct job *job)
{
	printf(",\"verified_bytes\":%llu,\"wrong_bytes\":%ld}\n",
	       (unsigned long long)job->verified, job->wrong);
	fflush(stdout);
}

static void print_counts(const struct job *job, unsigned int windows, const struct counts *n)
{
	print_head(job, "events");
	printf(",\"ios\":%u,\"dma_map\":%llu,\"dma_unmap\":%llu,\"iommu_map\":%llu,"
	       "\"iommu_unmap\":%llu,\"flush\":%llu,\"commands\":%llu,\"command_bytes\":%llu,"
	       "\"command_max\":%llu",
	       windows * job->c->count,
	       (unsigned long long)n->dma_map, (unsigned long long)n->dma_unmap,
	       (unsigned long long)n->iommu_map, (unsigned long long)n->iommu_unmap,
	       (unsigned long long)n->flush, (unsigned long long)n->commands,
	       (unsigned long long)n->command_bytes, (unsigned long long)n->command_max);
	if (n->copy_bytes != COPIES_UNKNOWN)
		printf(",\"copy_bytes\":%llu", (unsigned long long)n->copy_bytes);
	print_tail(job);
}

static int print_map(struct job *job)
{
	static const char *const state[] = {
		[IO_REGBUF_MAP_NONE] = "not mapped",
		[IO_REGBUF_MAP_SYSTEM] = "system memory",
		[IO_REGBUF_MAP_P2P_BUS] = "P2P, bus address",
		[IO_REGBUF_MAP_P2P_HOST] = "P2P, through the host bridge",
		[IO_REGBUF_MAP_MIXED] = "mixed",
		[IO_REGBUF_MAP_DEAD] = "dead",
	};
	struct io_uring_query_regbuf_map map = { .slot = 0, .target = 0 };
	int ret = ring_query(job->ring.fd, IO_URING_QUERY_REGBUF_MAP, &map, sizeof(map));

	if (ret)
		return fail("IO_URING_QUERY_REGBUF_MAP", -ret, "a kernel without it?");
	print_head(job, "map");
	printf(",\"target\":\"%.32s\",\"targets\":%u,\"state\":\"%s\",\"bytes\":%llu,"
	       "\"granule\":%llu,\"entries\":%llu,\"table_bytes\":%llu",
	       map.device, map.nr_targets,
	       map.state < sizeof(state) / sizeof(state[0]) ? state[map.state] : "?",
	       (unsigned long long)map.size, (unsigned long long)map.granule,
	       (unsigned long long)map.entries, (unsigned long long)map.table_bytes);
	print_tail(job);
	return 0;
}

static int count_insns(struct job *job, unsigned int windows)
{
	unsigned int first = nr_marks / 2 + 1;
	int ret = 0;

	for (unsigned int i = 0; i < windows && !ret; i++)
		ret = insn_window(job, i);
	if (ret)
		return ret;
	print_head(job, "insns");
	printf(",\"first_window\":%u,\"windows\":%u", first, windows);
	print_tail(job);
	return 0;
}

static int count_events(struct job *job, unsigned int windows)
{
	struct counts counts = { 0 };
	int ret = 0;

	for (unsigned int i = 0; i < windows && !ret; i++)
		ret = event_window(job, i, &counts);
	if (!ret)
		print_counts(job, windows, &counts);
	return ret;
}

/* One window that is not counted warms caches and allocators. */
static int run_case(struct drive *drive, const struct bench_case *c, uint64_t seed,
		    const struct options *o, bool events)
{
	struct job job;
	int ret = job_start(&job, drive, c, seed);

	if (ret)
		return ret;
	ret = poison(&job, 0xff);
	if (!ret)
		ret = run_ios(&job);
	if (!ret)
		ret = verify(&job);
	if (!ret && o->show_map && !events && job.buf.fd >= 0)
		ret = print_map(&job);
	if (!ret)
		ret = events ? count_events(&job, o->event_windows)
			     : count_insns(&job, o->insn_windows);
	job_end(&job);
	return ret ? ret : job.wrong ? -EIO : 0;
}

static int run_cases(struct drive *drive, const struct bench_case *cases, unsigned int nr,
		     const struct options *o, bool events)
{
	int ret, first_error = 0;

	for (unsigned int i = 0; i < nr; i++) {
		ret = run_case(drive, &cases[i], i + 1, o, events);
		if (ret && !first_error)
			first_error = ret;
	}
	return first_error;
}

static int parse_size(const char *s, size_t *size)
{
	char *end;
	unsigned long long n = strtoull(s, &end, 10);

	if (*end == 'k')
		n <<= 10;
	else if (*end == 'm')
		n <<= 20;
	end += *end == 'k' || *end == 'm';
	*size = n;
	return *end == ':' && n && n % 512 == 0 && n <= MAX_SPAN ? 0 : -EINVAL;
}

static int parse_case(const char *name, const struct options *o, struct bench_case *c)
{
	const char *size = strchr(name, ':'), *dir = size ? strchr(size + 1, ':') : NULL;
	unsigned int kind;

	if (!dir || parse_size(size + 1, &c->size))
		return -EINVAL;
	for (kind = 0; kind < BUFFER_KINDS; kind++)
		if (strlen(buffer_kind_name[kind]) == (size_t)(size - name) &&
		    !strncmp(name, buffer_kind_name[kind], (size_t)(size - name)))
			break;
	if (kind == BUFFER_KINDS || (strcmp(dir, ":read") && strcmp(dir, ":write")))
		return -EINVAL;
	c->name = name;
	c->kind = kind;
	c->write = dir[1] == 'w';
	c->count = o->count;
	while (c->count > 1 && (size_t)c->count * c->size > MAX_SPAN)
		c->count /= 2;
	while (c->count * c->size % PAGE)
		c->count++;
	c->depth = o->depth < c->count ? o->depth : c->count;
	return 0;
}

static int usage(const char *why)
{
	fprintf(stderr, "regbuf-bench: %s\n"
		"usage: regbuf-bench [-d DEVICE] [-q DEPTH] [-n COUNT] [-i WINDOWS] [-e WINDOWS] [-m] KIND:SIZE:DIRECTION...\n"
		"e.g.   regbuf-bench -e 3 plain:4k:read dmabuf:4k:read bar:8m:write\n", why);
	return 2;
}

int main(int argc, char **argv)
{
	struct options o = { .device = getenv("LAB_NVME_MAIN"), .depth = 32, .count = 64 };
	struct bench_case cases[MAX_CASES] = { 0 };
	unsigned int nr = 0;
	struct drive drive;
	int opt, ret, ret2;

	while ((opt = getopt(argc, argv, "d:q:n:i:e:m")) != -1) {
		switch (opt) {
		case 'd':
			o.device = optarg;
			break;
		case 'q':
			o.depth = (unsigned int)atoi(optarg);
			break;
		case 'n':
			o.count = (unsigned int)atoi(optarg);
			break;
		case 'i':
			o.insn_windows = (unsigned int)atoi(optarg);
			break;
		case 'e':
			o.event_windows = (unsigned int)atoi(optarg);
			break;
		case 'm':
			o.show_map = true;
			break;
		default:
			return usage("unknown option");
		}
	}
	if (!o.device || !o.depth || !o.count)
		return usage("needs a device, a depth and a count");
	for (; optind < argc; optind++)
		if (nr == MAX_CASES || parse_case(argv[optind], &o, &cases[nr++]))
			return usage(argv[optind]);
	if (!nr)
		return usage("no case given");

	if (pool_init(MAX_SPAN))
		return 1;
	/* No page faults in the windows. */
	if (mlockall(MCL_CURRENT)) {
		fail("mlockall", errno, "as root");
		return 1;
	}
	if (drive_open(&drive, o.device))
		return 1;
	ret = run_cases(&drive, cases, nr, &o, false);
	if (o.event_windows) {
		ret2 = counters_open();
		if (!ret2)
			ret2 = run_cases(&drive, cases, nr, &o, true);
		counters_close();
		ret = ret ? ret : ret2;
	}
	return ret ? 1 : 0;
}
