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
 *   -a CHUNK   instead of it an array (md raid0) of four drives of $LAB_MANY_DRIVES, with
 *              chunks of that many bytes
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
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "array.h"
#include "buffer.h"
#include "counters.h"
#include "drive.h"
#include "fail.h"
#include "lab.h"
#include "pool.h"
#include "program.h"

#define MAX_SPAN	(32u << 20)
#define PAGE		4096u

/* What runs: one case, with its memory and its drive ready. */
struct job {
	const struct bench_case *c;
	struct drive *drive;
	size_t chunk;			/* of the array that the drive is; or 0 */
	struct uring ring;
	struct mem buf;
	bool write;
	unsigned long long commands[ARRAY_MEMBERS];	/* of each drive of an array */
	unsigned char *pattern;		/* what the destination must hold */
	unsigned char *witness;		/* what it holds; of the drive by an ordinary read */
	long wrong;
	uint64_t verified;
};

/* ":DIRECTION" */
static int parse(struct bench_case *c, const char *rest, const struct options *o)
{
	(void)o;
	if (strcmp(rest, ":read") && strcmp(rest, ":write"))
		return -EINVAL;
	if (c->size % 512 || c->size > MAX_SPAN)
		return -EINVAL;
	c->direction = rest + 1;
	while (c->count > 1 && span(c) > MAX_SPAN)
		c->count /= 2;
	while (span(c) % PAGE)
		c->count++;
	return 0;
}

static const struct program program = {
	.usage = "usage: regbuf-bench [-d DEVICE | -a CHUNK] [-q DEPTH] [-n COUNT] [-i WINDOWS] [-e WINDOWS] [-m] KIND:SIZE:DIRECTION...\n"
		 "e.g.   regbuf-bench -e 3 plain:4k:read dmabuf:4k:read bar:8m:write\n",
	.options = "d:a:q:n:i:e:m",
	.kinds = buffer_kind_name,
	.nr_kinds = BUFFER_KINDS,
	.max_count = UINT_MAX,
	.parse = parse,
};

/*
 * A gap behind each I/O, so that the block layer has no neighbours to merge; of an array, the
 * next one begins at another drive.
 */
static uint64_t drive_offset(const struct job *job, unsigned int nr)
{
	return nr * (2 * (uint64_t)job->c->size + job->chunk);
}

static void prepare_io(struct job *job, unsigned int nr)
{
	const struct bench_case *c = job->c;
	struct io_uring_sqe *sqe = uring_sqe(&job->ring);

	if (c->kind == BUFFER_NOP) {
		sqe->opcode = IORING_OP_NOP;
		return;
	}
	sqe->opcode = job->write ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
	sqe->fd = c->kind == BUFFER_BUFFERED ? job->drive->buffered_fd : job->drive->fd;
	sqe->addr = buffer_sqe_addr(&job->buf, nr * c->size);
	sqe->len = (unsigned int)c->size;
	sqe->off = drive_offset(job, nr);
	sqe->buf_index = 0;
	sqe->user_data = nr;
}

static int reap(struct job *job, unsigned int nr)
{
	struct uring_res cqe;

	while (nr--) {
		if (!uring_peek(&job->ring, &cqe))
			return fail("waiting for completions", EIO, "fewer than were asked for");
		if (cqe.res < 0)
			return fail(job->c->name, -cqe.res, "I/O failed");
		if ((size_t)cqe.res != (job->c->kind == BUFFER_NOP ? 0 : job->c->size))
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
		if (!ret)
			ret = reap(job, n);
	}
	return ret;
}

/* The drive's side of every I/O, by ordinary reads. */
static int read_drive(struct job *job)
{
	int ret = 0;

	for (unsigned int i = 0; i < job->c->count && !ret; i++)
		ret = drive_read(job->drive, job->witness + i * job->c->size, job->c->size,
				 drive_offset(job, i));
	return ret;
}

static int write_drive(struct job *job, const unsigned char *from)
{
	int ret = 0;

	for (unsigned int i = 0; i < job->c->count && !ret; i++)
		ret = drive_write(job->drive, from + i * job->c->size, job->c->size,
				  drive_offset(job, i));
	return ret;
}

/* The destination forgets what it holds. */
static int poison(struct job *job, unsigned int window)
{
	unsigned char byte = (unsigned char)(0xa5 ^ window);

	if (job->c->kind == BUFFER_NOP)
		return 0;
	if (!job->write)
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
	ret = job->write ? read_drive(job) : buffer_read(&job->buf, job->witness);
	if (ret)
		return ret;
	wrong = count_wrong(job->witness, job->pattern, span(job->c));
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

/* Adds what the array's drives have had to do since @before. */
static int add_commands(struct job *job, const unsigned long long *before)
{
	unsigned long long now[ARRAY_MEMBERS];
	int ret = array_commands(now);

	for (unsigned int i = 0; i < ARRAY_MEMBERS && !ret; i++)
		job->commands[i] += now[i] - before[i];
	return ret;
}

static int event_window(struct job *job, unsigned int window, struct counts *counts)
{
	unsigned long long before[ARRAY_MEMBERS];
	int ret = poison(job, window);

	if (!ret && job->chunk)
		ret = array_commands(before);
	if (!ret)
		ret = counters_start();
	if (ret)
		return ret;
	ret = run_ios(job);
	if (!ret)
		ret = counters_stop(counts, job->drive->block);
	if (!ret && job->chunk)
		ret = add_commands(job, before);
	return ret ? ret : verify(job);
}

/* The source holds the pattern; for a read, the witness says so too. */
static int fill_source(struct job *job, uint64_t seed)
{
	int ret;

	pattern_fill(job->pattern, 0, span(job->c), seed);
	if (job->write)
		return buffer_fill(&job->buf, job->pattern);
	ret = write_drive(job, job->pattern);
	if (!ret)
		ret = read_drive(job);
	if (!ret && count_wrong(job->witness, job->pattern, span(job->c)))
		ret = fail("ordinary read of the drive", EIO, "not what was written");
	return ret;
}

static int job_start(struct job *job, struct drive *drive, const struct bench_case *c,
		     uint64_t seed, const struct options *o)
{
	int ret;

	*job = (struct job){
		.c = c, .drive = drive, .chunk = o->chunk,
		.write = !strcmp(c->direction, "write"),
	};
	job->pattern = resident(span(c));
	job->witness = resident(span(c));
	if (!job->pattern || !job->witness)
		return -ENOMEM;
	ret = ring_create(&job->ring, c->depth);
	if (!ret)
		ret = buffer_create(&job->buf, c->kind, span(c));
	if (!ret)
		ret = fill_source(job, seed);
	if (!ret)
		ret = buffer_register(&job->buf, &job->ring, drive->fd);
	return ret;
}

static void job_end(struct job *job)
{
	buffer_unregister(&job->ring);
	uring_exit(&job->ring);
	buffer_destroy(&job->buf);
	munmap(job->pattern, span(job->c));
	munmap(job->witness, span(job->c));
}

static void print_head(const struct job *job, const char *what)
{
	const struct bench_case *c = job->c;

	print_case(&program, c, what, job->drive->path);
	printf(",\"drive_largest\":%u,\"chunk\":%zu", job->drive->largest, job->chunk);
	if (c->kind == BUFFER_PLAIN)
		printf(",\"segments\":%u", pool_pieces(&job->buf, span(c), c->size));
}

static void print_tail(const struct job *job)
{
	printf(",\"verified_bytes\":%llu,\"wrong_bytes\":%ld}\n",
	       (unsigned long long)job->verified, job->wrong);
	fflush(stdout);
}

/* Of the drive of an array that had most, and of the one that had least. */
static void print_commands(const struct job *job)
{
	unsigned long long least = job->commands[0], most = least;

	if (!job->chunk)
		return;
	for (unsigned int i = 1; i < ARRAY_MEMBERS; i++) {
		if (job->commands[i] < least)
			least = job->commands[i];
		if (job->commands[i] > most)
			most = job->commands[i];
	}
	printf(",\"drives\":%u,\"commands_least\":%llu,\"commands_most\":%llu",
	       ARRAY_MEMBERS, least, most);
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
	print_commands(job);
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
	struct io_uring_query_regbuf_map map;
	int ret = query_map(&job->ring, 0, 0, &map);

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
	unsigned int first = next_window();
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
	int ret = job_start(&job, drive, c, seed, o);

	if (ret)
		return ret;
	ret = poison(&job, 0xff);
	if (!ret)
		ret = run_ios(&job);
	if (!ret)
		ret = verify(&job);
	if (!ret && o->m && !events && job.buf.fd >= 0)
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

int main(int argc, char **argv)
{
	struct options o = { .device = lab_env("LAB_NVME_MAIN"), .depth = 32, .count = 64 };
	struct bench_case cases[MAX_CASES] = { 0 };
	unsigned int nr = arguments(argc, argv, &program, &o, cases);
	struct drive drive;
	int ret, ret2;

	if (!nr)
		return 2;
	if (pool_init(MAX_SPAN) || lock_memory())
		return 1;
	if (o.chunk ? array_open(&drive, o.chunk) : drive_open(&drive, o.device))
		return 1;
	ret = run_cases(&drive, cases, nr, &o, false);
	if (o.event_windows) {
		ret2 = counters_open();
		if (!ret2)
			ret2 = run_cases(&drive, cases, nr, &o, true);
		counters_close();
		ret = ret ? ret : ret2;
	}
	if (o.chunk)
		array_close(&drive);
	return ret ? 1 : 0;
}
