// SPDX-License-Identifier: GPL-2.0
/*
 * regbuf-scale - what a read costs, and how much kernel memory there is, as buffers, their
 * devices, rings and drives become more.
 *
 *   regbuf-scale [options] KIND:SIZE[:WHAT=N]...
 *
 *   KIND  plain | dmabuf    (buffer.h)
 *   SIZE  of a read: bytes, or with k, m
 *   WHAT  drives   that are read from, in turn                  [1]
 *         targets  of every dma-buf: these drives, and others   [as many as drives]
 *         slots    of every ring, each a buffer of its own, used in turn [1]
 *         rings    used in turn, whose slots are the same buffers [1]
 *
 *   -q DEPTH  reads submitted together, to one ring [4]
 *   -n COUNT  reads in a window [64, fewer if they do not fit in 32 MiB]
 *   -i N      windows for the instruction count (fninsn.c) [0]
 *   -e N      windows for the event counts [0]
 *   -m        kernel memory instead: what a registration of all that takes
 *
 * The drives are those of $LAB_MANY_DRIVES, or $LAB_NVME_MAIN alone. Every byte that is read
 * is compared. Output, a JSON object per line; exit status as regbuf-bench.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "buffer.h"
#include "counters.h"
#include "drive.h"
#include "fail.h"
#include "lab.h"
#include "pool.h"
#include "program.h"

#define MAX_SPAN	(32u << 20)
#define PAGE		4096u
#define MAX_DRIVES	40u
#define MAX_SLOTS	4096u
#define MAX_RINGS	64u
#define CGROUP		"/tmp/regbuf-scale"

static struct drive drives[MAX_DRIVES];
static unsigned int nr_drives;

/* What runs: one case, and all that it needs. */
struct job {
	const struct bench_case *c;
	struct uring *rings;
	struct mem *bufs;		/* of each slot, in every ring */
	uint64_t seed;
	uint64_t verified;
	long wrong;
};

/* ---- arguments ---- */

/* What follows ":WHAT=" is one of these. */
static unsigned int *scale_member(struct bench_case *c, const char *name, size_t len)
{
	const struct {
		const char *name;
		unsigned int *n;
	} members[] = {
		{ "drives", &c->drives },
		{ "targets", &c->targets },
		{ "slots", &c->slots },
		{ "rings", &c->rings },
	};

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		if (strlen(members[i].name) == len && !strncmp(name, members[i].name, len))
			return members[i].n;
	return NULL;
}

/* [":WHAT=N"]... */
static int parse(struct bench_case *c, const char *rest, const struct options *o)
{
	unsigned int *n;
	char *end;

	(void)o;
	c->drives = c->slots = c->rings = 1;
	while (*rest) {
		end = strchr(rest, '=');
		if (*rest++ != ':' || !end)
			return -EINVAL;
		n = scale_member(c, rest, (size_t)(end - rest));
		if (!n)
			return -EINVAL;
		*n = (unsigned int)strtoul(end + 1, &end, 10);
		if (!*n)
			return -EINVAL;
		rest = end;
	}
	if (!c->targets)
		c->targets = c->drives;
	if (c->size % 512 || c->size > MAX_SPAN || c->targets < c->drives ||
	    c->slots > MAX_SLOTS || c->rings > MAX_RINGS)
		return -EINVAL;
	if (c->kind != BUFFER_PLAIN && c->kind != BUFFER_DMABUF)
		return -EINVAL;
	while (c->count > 1 && span(c) > MAX_SPAN)
		c->count /= 2;
	return 0;
}

static const struct program program = {
	.usage = "usage: regbuf-scale [-q DEPTH] [-n COUNT] [-i WINDOWS] [-e WINDOWS] [-m] KIND:SIZE[:WHAT=N]...\n"
		 "e.g.   regbuf-scale -i 11 dmabuf:4k dmabuf:4k:slots=1000 dmabuf:4k:drives=8:targets=16\n",
	.options = "q:n:i:e:m",
	.kinds = buffer_kind_name,
	.nr_kinds = BUFFER_KINDS,
	.max_count = UINT_MAX,
	.parse = parse,
};

/* ---- drives ---- */

static int open_drives(void)
{
	const char *many = lab_env("LAB_MANY_DRIVES"), *one = lab_env("LAB_NVME_MAIN");
	char *all, *path, *rest;
	int ret = 0;

	if (!many && !one)
		return fail("drives", ENOENT, "LAB_MANY_DRIVES, LAB_NVME_MAIN");
	/* the names stay with the drives */
	all = strdup(many ? many : one);
	for (path = strtok_r(all, " ", &rest); path && nr_drives < MAX_DRIVES && !ret;
	     path = strtok_r(NULL, " ", &rest))
		ret = drive_open(&drives[nr_drives++], path);
	return ret;
}

/* ---- where read @nr goes ---- */

static unsigned int drive_of(const struct job *job, unsigned int nr)
{
	return nr % job->c->drives;
}

/* A gap behind each read, so that the block layer has no neighbours to merge. */
static uint64_t drive_offset(const struct job *job, unsigned int nr)
{
	return 2 * (uint64_t)nr * job->c->size;
}

/* All of them in turn; of more slots than reads, some that are far apart. */
static unsigned int slot_of(const struct job *job, unsigned int nr)
{
	const struct bench_case *c = job->c;

	return c->slots <= c->count ? nr % c->slots : nr * (c->slots / c->count);
}

static size_t slot_offset(const struct job *job, unsigned int nr)
{
	const struct bench_case *c = job->c;

	return c->slots <= c->count ? nr / c->slots * c->size : 0;
}

static size_t slot_size(const struct bench_case *c)
{
	size_t size = (c->count + c->slots - 1) / c->slots * c->size;

	return (size + PAGE - 1) / PAGE * PAGE;
}

/* ---- the reads of a window ---- */

static void prepare_read(struct job *job, struct uring *ring, unsigned int nr)
{
	struct io_uring_sqe *sqe = uring_sqe(ring);
	unsigned int slot = slot_of(job, nr);

	sqe->opcode = IORING_OP_READ_FIXED;
	sqe->fd = drives[drive_of(job, nr)].fd;
	sqe->addr = buffer_sqe_addr(&job->bufs[slot], slot_offset(job, nr));
	sqe->len = (unsigned int)job->c->size;
	sqe->off = drive_offset(job, nr);
	sqe->buf_index = (uint16_t)slot;
	sqe->user_data = nr;
}

static int reap(struct job *job, struct uring *ring, unsigned int nr)
{
	struct uring_res cqe;

	while (nr--) {
		if (!uring_peek(ring, &cqe))
			return fail("waiting for completions", EIO, "fewer than were asked for");
		if (cqe.res != (int)job->c->size)
			return fail(job->c->name, cqe.res < 0 ? -cqe.res : EIO, "a read");
	}
	return 0;
}

static int run_reads(struct job *job)
{
	const struct bench_case *c = job->c;
	unsigned int done, n, turn = 0;
	struct uring *ring;
	int ret = 0;

	for (done = 0; done < c->count && !ret; done += n) {
		ring = &job->rings[turn++ % c->rings];
		n = c->count - done < c->depth ? c->count - done : c->depth;
		for (unsigned int i = 0; i < n; i++)
			prepare_read(job, ring, done + i);
		ret = ring_submit_and_wait(ring, n);
		if (!ret)
			ret = reap(job, ring, n);
	}
	return ret;
}

static int poison(struct job *job, unsigned int window)
{
	int ret = 0;

	for (unsigned int i = 0; i < job->c->slots && !ret; i++)
		ret = buffer_poison(&job->bufs[i], (unsigned char)(0xa5 ^ window));
	return ret;
}

static void verify(struct job *job)
{
	for (unsigned int nr = 0; nr < job->c->count; nr++) {
		if (mem_check(&job->bufs[slot_of(job, nr)], slot_offset(job, nr),
			      drive_offset(job, nr), job->c->size,
			      job->seed + drive_of(job, nr)) != NO_MISMATCH)
			job->wrong++;
		job->verified += job->c->size;
	}
}

/* ---- a case, from start to end ---- */

static int fill_drives(struct job *job)
{
	int ret = 0;

	for (unsigned int nr = 0; nr < job->c->count && !ret; nr++)
		ret = disk_fill(drives[drive_of(job, nr)].fd, drive_offset(job, nr),
				job->c->size, job->seed + drive_of(job, nr));
	return ret ? fail("filling the drives", -ret, "are they large enough?") : 0;
}

/*
 * One buffer is of the pool, as regbuf-bench has them: ordinary memory at its best, and in
 * not more pieces than QEMU takes in one command.
 */
static int create_buffers(struct job *job)
{
	const struct bench_case *c = job->c;
	size_t size = slot_size(c);
	int ret = 0;

	if (c->slots == 1)
		return c->kind == BUFFER_PLAIN ? pool_memory(job->bufs, size)
					       : pool_udmabuf(job->bufs, size);
	for (unsigned int i = 0; i < c->slots && !ret; i++) {
		if (c->kind == BUFFER_PLAIN) {
			mem_wrap(&job->bufs[i], -1, size, resident(size));
			ret = job->bufs[i].map ? 0 : -ENOMEM;
		} else {
			ret = mem_create(&job->bufs[i], MEM_UDMABUF, size);
			if (ret)
				ret = fail("udmabuf", -ret, "CONFIG_UDMABUF, open files");
		}
	}
	return ret;
}

static void destroy_buffers(struct job *job)
{
	for (unsigned int i = 0; i < job->c->slots; i++) {
		if (job->bufs[i].fd >= 0)
			mem_destroy(&job->bufs[i]);
		else if (job->bufs[i].map && job->c->slots > 1)
			munmap(job->bufs[i].map, job->bufs[i].size);
	}
}

static int register_slot(struct job *job, struct uring *ring, unsigned int slot)
{
	struct mem *buf = &job->bufs[slot];
	struct iovec iov = { buf->map, buf->size };
	struct io_uring_regbuf_desc desc;
	int ret;

	if (job->c->kind == BUFFER_PLAIN)
		return reg_plain(ring, slot, &iov, NULL, 1);
	ret = reg_dmabuf(ring, slot, buf->fd, drives[0].fd);
	for (unsigned int i = 1; i < job->c->targets && ret >= 0; i++) {
		desc = desc_add(drives[i].fd);
		ret = reg_one(ring, slot, &desc);
	}
	return ret;
}

static int register_all(struct job *job)
{
	const struct bench_case *c = job->c;
	int ret;

	for (unsigned int i = 0; i < c->rings; i++) {
		ret = reg_sparse(&job->rings[i], c->slots);
		for (unsigned int slot = 0; slot < c->slots && ret >= 0; slot++)
			ret = register_slot(job, &job->rings[i], slot);
		if (ret < 0)
			return fail(c->name, -ret, "registering: too many targets for this kernel?");
	}
	return 0;
}

static int job_start(struct job *job, const struct bench_case *c, uint64_t seed)
{
	int ret = 0;

	*job = (struct job){ .c = c, .seed = seed };
	if (c->targets > nr_drives)
		return fail(c->name, ENODEV, "not as many drives: vm -t netmany");
	job->rings = calloc(c->rings, sizeof(*job->rings));
	job->bufs = calloc(c->slots, sizeof(*job->bufs));
	if (!job->rings || !job->bufs)
		return fail(c->name, ENOMEM, "so many?");
	for (unsigned int i = 0; i < c->slots; i++)
		job->bufs[i].fd = -1;
	for (unsigned int i = 0; i < c->rings; i++)
		job->rings[i].fd = -1;
	for (unsigned int i = 0; i < c->rings && !ret; i++)
		ret = ring_create(&job->rings[i], c->depth);
	return ret ? ret : create_buffers(job);
}

static void unregister_all(struct job *job)
{
	for (unsigned int i = 0; i < job->c->rings; i++)
		if (job->rings[i].fd >= 0)
			reg_unregister(&job->rings[i]);
}

/* Workers unmap and detach, which would be in the next window. */
static void wait_for_workers(void)
{
	for (unsigned int i = 0; i < 1000 && bufinfo_attached(NULL) > 0; i++)
		lab_sleep_ms(10);
}

static void job_end(struct job *job)
{
	if (!job->rings || !job->bufs)
		return;
	unregister_all(job);
	for (unsigned int i = 0; i < job->c->rings; i++)
		if (job->rings[i].fd >= 0)
			uring_exit(&job->rings[i]);
	wait_for_workers();
	destroy_buffers(job);
	free(job->rings);
	free(job->bufs);
}

/* ---- output ---- */

static void print_head(const struct job *job, const char *what)
{
	const struct bench_case *c = job->c;

	print_case(&program, c, what, drives[0].path);
	printf(",\"drives\":%u,\"targets\":%u,\"slots\":%u,\"rings\":%u,\"slot_bytes\":%zu",
	       c->drives, c->kind == BUFFER_PLAIN ? 0 : c->targets, c->slots, c->rings,
	       slot_size(c));
}

static void print_tail(const struct job *job)
{
	printf(",\"verified_bytes\":%llu,\"wrong_reads\":%ld}\n",
	       (unsigned long long)job->verified, job->wrong);
	fflush(stdout);
}

/* ---- what is counted ---- */

static int count_insns(struct job *job, unsigned int windows)
{
	unsigned int first = next_window();
	int ret = 0;

	for (unsigned int i = 0; i < windows && !ret; i++) {
		ret = poison(job, i);
		if (ret)
			break;
		mark();
		ret = run_reads(job);
		mark();
		if (!ret)
			verify(job);
	}
	if (ret)
		return ret;
	print_head(job, "insns");
	printf(",\"first_window\":%u,\"windows\":%u", first, windows);
	print_tail(job);
	return 0;
}

static int count_events(struct job *job, unsigned int windows)
{
	struct counts n = { 0 };
	int ret = 0;

	for (unsigned int i = 0; i < windows && !ret; i++) {
		ret = poison(job, i);
		if (!ret)
			ret = counters_start();
		if (!ret)
			ret = run_reads(job);
		if (!ret)
			ret = counters_stop(&n, drives[0].block);
		if (!ret)
			verify(job);
	}
	if (ret)
		return ret;
	print_head(job, "events");
	printf(",\"ios\":%u,\"dma_map\":%llu,\"dma_unmap\":%llu,\"flush\":%llu,\"commands\":%llu",
	       windows * job->c->count, (unsigned long long)n.dma_map,
	       (unsigned long long)n.dma_unmap, (unsigned long long)n.flush,
	       (unsigned long long)n.commands);
	print_tail(job);
	return 0;
}

/* One window that is not counted warms caches and allocators. */
static int run_case(const struct bench_case *c, uint64_t seed, const struct options *o, bool events)
{
	struct job job;
	int ret = job_start(&job, c, seed);

	if (!ret)
		ret = fill_drives(&job);
	if (!ret)
		ret = register_all(&job);
	if (!ret)
		ret = poison(&job, 0xff);
	if (!ret)
		ret = run_reads(&job);
	if (!ret)
		verify(&job);
	if (!ret)
		ret = events ? count_events(&job, o->event_windows)
			     : count_insns(&job, o->insn_windows);
	if (!ret && job.wrong)
		ret = fail(c->name, EIO, "wrong bytes were read");
	job_end(&job);
	return ret;
}

static int run_cases(const struct bench_case *cases, unsigned int nr, const struct options *o,
		     bool events)
{
	int ret, first_error = 0;

	for (unsigned int i = 0; i < nr; i++) {
		ret = run_case(&cases[i], 100 * (i + 1), o, events);
		if (ret && !first_error)
			first_error = ret;
	}
	return first_error;
}

/* ---- kernel memory ---- */

/* A cgroup of our own, which all kernel memory is charged to. */
static int enter_cgroup(void)
{
	int ret;

	if (mkdir(CGROUP, 0700) || mount("cgroup2", CGROUP, "cgroup2", 0, NULL))
		return fail("mounting cgroup2", errno, "CONFIG_MEMCG, as root");
	ret = file_write(CGROUP "/cgroup.subtree_control", "+memory");
	if (!ret && mkdir(CGROUP "/it", 0700))
		ret = -errno;
	if (!ret)
		ret = file_write(CGROUP "/it/cgroup.procs", "0");
	return ret ? fail("memory cgroup", -ret, "CONFIG_MEMCG") : 0;
}

static long long kernel_memory(void)
{
	char stat[4096], *p;

	if (file_read(CGROUP "/it/memory.stat", stat, sizeof(stat)))
		return -1;
	p = strstr(stat, "\nkernel ");
	return p ? atoll(p + strlen("\nkernel ")) : -1;
}

/* Statistics are seconds late, and memory is given back later still. */
static long long settled_memory(void)
{
	long long last = -1, now;
	unsigned int same = 0;

	for (unsigned int i = 0; i < 60 && same < 6; i++) {
		lab_sleep_ms(500);
		now = kernel_memory();
		same = now == last ? same + 1 : 0;
		last = now;
	}
	return last;
}

/* Registered twice: what is allocated once, with the first of them, is in no difference. */
static int measure_memory(const struct bench_case *c)
{
	long long before = 0, after = 0;
	struct job job;
	int ret = job_start(&job, c, 1);

	for (unsigned int i = 0; i < 2 && !ret; i++) {
		unregister_all(&job);
		before = settled_memory();
		ret = register_all(&job);
		after = settled_memory();
	}
	if (!ret && (before < 0 || after < 0))
		ret = fail("memory.stat", EIO, "no line `kernel`");
	if (!ret) {
		print_head(&job, "memory");
		printf(",\"kernel_bytes\":%lld", after - before);
		print_tail(&job);
	}
	job_end(&job);
	return ret;
}

static int measure_memories(const struct bench_case *cases, unsigned int nr)
{
	int ret = enter_cgroup();

	for (unsigned int i = 0; i < nr && !ret; i++)
		ret = measure_memory(&cases[i]);
	return ret;
}

int main(int argc, char **argv)
{
	struct options o = { .device = "", .depth = 4, .count = 64 };
	struct rlimit files = { 2 * MAX_SLOTS, 2 * MAX_SLOTS };
	struct bench_case cases[MAX_CASES] = { 0 };
	unsigned int nr = arguments(argc, argv, &program, &o, cases);
	int ret, ret2;

	if (!nr)
		return 2;
	if (setrlimit(RLIMIT_NOFILE, &files)) {
		fail("RLIMIT_NOFILE", errno, "as root");
		return 1;
	}
	if (open_drives() || pool_init(MAX_SPAN))
		return 1;
	if (o.m)
		return measure_memories(cases, nr) ? 1 : 0;
	ret = run_cases(cases, nr, &o, false);
	if (o.event_windows) {
		ret2 = counters_open();
		if (!ret2)
			ret2 = run_cases(cases, nr, &o, true);
		counters_close();
		ret = ret ? ret : ret2;
	}
	return ret ? 1 : 0;
}
