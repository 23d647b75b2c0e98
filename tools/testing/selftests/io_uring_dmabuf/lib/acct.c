// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "acct.h"

#define PAGE		4096ULL
#define ACCT_TINY	(ACCT_SLOTS - 1)	/* slot of the registration that cannot succeed */

int acct_limit(__u64 bytes)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_MEMLOCK, &rl))
		return -errno;
	rl.rlim_cur = bytes;
	return setrlimit(RLIMIT_MEMLOCK, &rl) ? -errno : 0;
}

__u64 acct_locked(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->tiny.fd, a->target);
	struct io_uring_regbuf_reason why;
	int ret;

	d.flags = IO_REGBUF_DMABUF_PIN;
	acct_limit(0);
	ret = reg_why(&a->ring, ACCT_TINY, &d, &why);
	acct_limit(RLIM_INFINITY);
	if (ret != -ENOMEM || why.stage != IO_REGBUF_STAGE_MEMLOCK)
		return -1ULL;
	return why.bytes - PAGE;
}

/* What is given up goes shortly after */
bool acct_locked_becomes(struct acct *a, __u64 bytes)
{
	double end = lab_now() + 10;

	while (acct_locked(a) != bytes) {
		if (lab_now() > end) {
			fprintf(stderr, "# locked: %llu, not %llu\n", acct_locked(a), bytes);
			return false;
		}
		lab_sleep_ms(10);
	}
	return true;
}

/* @d fits if there is room for @bytes, and does not with a page less */
int acct_costs(struct acct *a, unsigned int slot,
	       const struct io_uring_regbuf_desc *d, __u64 bytes)
{
	__u64 before = acct_locked(a);

	CHECK(before != -1ULL);
	if (bytes) {
		CHECK(!acct_limit(before + bytes - PAGE));
		CHECK(reg_one(&a->ring, slot, d) == -ENOMEM);
		CHECK(acct_locked_becomes(a, before));
	}
	CHECK(!acct_limit(before + bytes));
	CHECK(!reg_one(&a->ring, slot, d));
	CHECK(acct_locked_becomes(a, before + bytes));
	return 0;
}

static __u64 table_pages(const struct io_uring_query_regbuf_map *q)
{
	return (q->table_bytes + PAGE - 1) / PAGE * PAGE;
}

/* Of @mem for each of the @nr targets that are added to the first; by root */
int acct_tables(int fd, const int *targets, int nr, __u64 *bytes)
{
	struct io_uring_query_regbuf_map q;
	unsigned int seen = 0;
	struct uring r;
	int ret;

	ret = uring_init(&r, 4, 0) ?: reg_sparse(&r, 1);
	for (int i = 0; i < nr && !ret; i++) {
		struct io_uring_regbuf_desc d = i ? desc_add(targets[i]) :
						desc_dmabuf(fd, targets[i]);

		ret = reg_one(&r, 0, &d);
		bytes[i] = 0;
		while (!ret && !query_map(&r, 0, seen, &q) && q.nr_targets) {
			bytes[i] += table_pages(&q);
			seen++;
		}
	}
	uring_exit(&r);
	return ret;
}

int acct_up(struct acct *a, enum mem_kind kind, int target)
{
	int ret;

	a->target = target;
	a->mem.fd = -1;
	a->tiny.fd = -1;
	ret = mem_create(&a->mem, kind, ACCT_SIZE);
	if (!ret)
		ret = mem_create(&a->tiny, MEM_UDMABUF, PAGE);
	if (!ret)
		ret = acct_tables(a->mem.fd, &target, 1, &a->table);
	return ret;
}

void acct_down(struct acct *a)
{
	if (a->mem.fd >= 0)
		mem_destroy(&a->mem);
	if (a->tiny.fd >= 0)
		mem_destroy(&a->tiny);
}

static int become(unsigned int uid)
{
	struct rlimit rl = { RLIM_INFINITY, RLIM_INFINITY };

	CHECK(!setrlimit(RLIMIT_MEMLOCK, &rl));
	CHECK(!setgid(65534) && !setuid(uid));
	return 0;
}

int acct_ring(struct acct *a)
{
	CHECK(!uring_init(&a->ring, 4, 0));
	CHECK(!reg_sparse(&a->ring, ACCT_SLOTS));
	return 0;
}

unsigned int acct_uid = 72000;

pid_t acct_start_as(unsigned int uid, int (*fn)(struct acct *a),
		    struct acct *a)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	_exit(become(uid + getppid() % 1000 * 1000) || acct_ring(a) || fn(a));
}

pid_t acct_start(int (*fn)(struct acct *a), struct acct *a)
{
	return acct_start_as(acct_uid++, fn, a);
}

int acct_end(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

int acct_run(int (*fn)(struct acct *a), struct acct *a)
{
	return acct_end(acct_start(fn, a));
}
