// SPDX-License-Identifier: GPL-2.0
/*
 * uring-dmabuf cp: every byte arrives, by the CPU none; and whatever happens, a name stands
 * for all of a file.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "common.h"
#include "counters.h"
#include "files.h"
#include "program.h"

#define SEED	9500
#define LONG	(60 * MiB)		/* several times what is kept at once */
#define ODD	(9 * MiB + 3584 + 7)

FIXTURE(cp) {
	struct program p;
	struct mem mem;
	struct folders f;
};

FIXTURE_SETUP(cp)
{
	self->p.fd = self->mem.fd = -1;
	ASSERT_EQ(0, folders_make(&self->f, NEED_ENV("LAB_EXT4"), NEED_ENV("LAB_XFS"), "cp"));
}

FIXTURE_TEARDOWN(cp)
{
	program_free(&self->p);
	EXPECT_EQ(0, folders_remove(&self->f));
	if (self->mem.fd >= 0) {
		EXPECT_TRUE(bufinfo_wait(self->mem.fd, 0, 10000));
		mem_destroy(&self->mem);
	}
}

/* @len bytes, and zeroes from there to LONG */
static int is_sparse(const char *path, size_t len, __u64 seed)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *data = malloc(LONG);
	int ret = -ENOENT;

	if (fd >= 0 && data) {
		ret = pread(fd, data, LONG, 0) != LONG ? -EFBIG :
		      pattern_check(data, 0, len, seed) != NO_MISMATCH ||
		      poison_check(data + len, LONG - len, 0) != NO_MISMATCH ? -EILSEQ : 0;
	}
	free(data);
	close(fd);
	return ret;
}

/* ---- what works ---- */

TEST_F(cp, files)
{
	static const size_t sizes[] = { 0, 1, 4096, 4097, 1 * MiB, ODD };
	struct program *p = &self->p;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		ASSERT_EQ(0, make(self->f.a, sizes[i], SEED + i));
		PROGRAM(p, "cp", "--json", "--verify", self->f.a, self->f.b);
		EXPECT_EQ(0, program_run(p)) SAID(p);
		EXPECT_EQ(0, is(self->f.b, sizes[i], SEED + i));
		EXPECT_EQ(sizes[i], program_said(p, "bytes")) SAID(p);
		EXPECT_EQ(0, program_said(p, "copied_bytes")) SAID(p);
		/* in the place of what is there, and back */
		ASSERT_EQ(0, make(self->f.a, 10, 1));
		PROGRAM(p, "cp", "--json", "-m", "heap:system", self->f.b, self->f.a);
		EXPECT_EQ(0, program_run(p)) SAID(p);
		EXPECT_EQ(0, is(self->f.a, sizes[i], SEED + i));
	}
	EXPECT_EQ(1, empty(self->f.dir[0]));
	EXPECT_EQ(1, empty(self->f.dir[1]));
}

/* The file behind a link is replaced, the link stays */
TEST_F(cp, link)
{
	struct program *p = &self->p;
	char path[96];
	struct stat st;

	snprintf(path, sizeof(path), "%s/link", self->f.dir[0]);
	ASSERT_EQ(0, make(self->f.a, ODD, SEED));
	ASSERT_EQ(0, make(self->f.b, 10, 1));
	ASSERT_EQ(0, symlink(self->f.b, path));
	PROGRAM(p, "cp", self->f.a, path);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	ASSERT_EQ(0, lstat(path, &st));
	EXPECT_TRUE(S_ISLNK(st.st_mode));
	EXPECT_EQ(0, is(self->f.b, ODD, SEED));
	/* one that leads nowhere is no file, and stays */
	ASSERT_EQ(0, unlink(self->f.b));
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "is a link, and where it leads: No such file")) SAID(p);
	ASSERT_EQ(0, lstat(path, &st));
	EXPECT_TRUE(S_ISLNK(st.st_mode));
}

TEST_F(cp, names)
{
	struct program *p = &self->p;
	char name[400];

	ASSERT_EQ(0, make(self->f.a, ODD, SEED));
	/* as long as there may be, also in the place of what is there */
	snprintf(name, sizeof(name), "%s/%0255d", self->f.dir[1], 0);
	PROGRAM(p, "cp", self->f.a, name);
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(0, program_run(p)) SAID(p);
		EXPECT_EQ(0, is(name, ODD, SEED));
	}
	EXPECT_EQ(1, empty(self->f.dir[1]));
	snprintf(name, sizeof(name), "%s/%0256d", self->f.dir[1], 0);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "File name too long")) SAID(p);
	snprintf(name, sizeof(name), "%s/b/", self->f.dir[1]);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "no name of a file")) SAID(p);
	EXPECT_EQ(0, empty(self->f.dir[1]));
}

TEST_F(cp, mode)
{
	struct program *p = &self->p;
	struct stat st;

	ASSERT_EQ(0, make(self->f.a, 5000, SEED));
	ASSERT_EQ(0, chmod(self->f.a, 0755));
	umask(027);
	PROGRAM(p, "cp", self->f.a, self->f.b);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	umask(022);
	ASSERT_EQ(0, stat(self->f.b, &st));
	EXPECT_EQ(0750, st.st_mode & 07777);
	EXPECT_NE(NULL, strstr(p->out, "0 bytes copied by the CPU")) SAID(p);
}

/* A drive: what is behind the end of the file stays as it is */
TEST_F(cp, drives)
{
	struct program *p = &self->p;
	int disk = NEED_DISK("LAB_NVME_MAIN");
	char part[64];

	ASSERT_EQ(0, disk_poison(disk, 0, 10 * MiB, POISON));
	ASSERT_EQ(0, make(self->f.a, ODD, SEED));
	PROGRAM(p, "cp", "--json", "--verify", self->f.a, lab_env("LAB_NVME_MAIN"));
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_EQ(NO_MISMATCH, disk_check(disk, 0, 0, ODD / 512 * 512, SEED));
	EXPECT_EQ(NO_MISMATCH, disk_check_poison(disk, ODD / 4096 * 4096 + 4096,
						 10 * MiB - ODD / 4096 * 4096 - 4096, POISON));
	/* less than a block: its rest has to be read and written again */
	EXPECT_EQ(ODD % 4096, program_said(p, "copied_bytes")) SAID(p);

	snprintf(part, sizeof(part), "%sp3", NEED_ENV("LAB_NVME_FS"));
	PROGRAM(p, "cp", "--json", part, self->f.b);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_EQ(128 * MiB, program_said(p, "bytes"));
	PROGRAM(p, "cp", "--json", "--verify", self->f.b, part);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	close(disk);
}

/* Memory is saved, and loaded */
TEST_F(cp, memory)
{
	struct program *p = &self->p;

	ASSERT_EQ(0, mem_create(&self->mem, MEM_BAR, 2 * MiB));
	p->fd = self->mem.fd;
	ASSERT_EQ(0, mem_fill(&self->mem, 0, 0, 2 * MiB, SEED));
	PROGRAM(p, "cp", "--json", "fd:9", self->f.b);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_EQ(0, is(self->f.b, 2 * MiB, SEED));
	EXPECT_EQ(0, program_said(p, "copied_bytes"));

	ASSERT_EQ(0, make(self->f.a, 1 * MiB + 100, SEED + 1));
	PROGRAM(p, "cp", "--json", self->f.a, "fd:9");
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_EQ(NO_MISMATCH, mem_check(&self->mem, 0, 0, 1 * MiB + 100, SEED + 1));
	EXPECT_EQ(NO_MISMATCH, mem_check(&self->mem, 1 * MiB + 4096, 1 * MiB + 4096, 4096, SEED));

	/* more than there is room for */
	ASSERT_EQ(0, make(self->f.a, 2 * MiB + 1, SEED + 1));
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "2097153 are to go there")) SAID(p);
	PROGRAM(p, "cp", "fd:9", "fd:9");
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "on a drive")) SAID(p);
}

/* Through peer memory that the CPU cannot see */
TEST_F(cp, through_a_bar)
{
	struct program *p = &self->p;

	ASSERT_EQ(0, mem_create(&self->mem, MEM_BAR, 16 * MiB));
	p->fd = self->mem.fd;
	ASSERT_EQ(0, make(self->f.a, ODD, SEED));
	PROGRAM(p, "cp", "--json", "--verify", "-m", "fd:9", self->f.a, self->f.b);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_EQ(0, is(self->f.b, ODD, SEED));
}

/* Several at the same time; holes stay holes; one that fails is no reason for the others */
TEST_F(cp, several)
{
	struct program *p = &self->p;
	char path[96], path2[96];
	struct stat st;
	int fd;

	ASSERT_EQ(0, make(self->f.a, ODD, SEED));
	snprintf(path, sizeof(path), "%s/sparse", self->f.dir[0]);
	ASSERT_EQ(0, make(path, 64 * KiB, SEED));
	ASSERT_EQ(0, truncate(path, 50 * MiB));
	fd = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_EQ(4, pwrite(fd, "data", 4, 30 * MiB));
	fsync(fd);
	close(fd);
	snprintf(path2, sizeof(path2), "%s/missing", self->f.dir[0]);
	PROGRAM(p, "cp", "--json", self->f.a, path2, path, self->f.dir[1]);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "missing: No such file")) SAID(p);
	EXPECT_EQ(1, program_said(p, "failed")) SAID(p);
	snprintf(path2, sizeof(path2), "%s/a", self->f.dir[1]);
	EXPECT_EQ(0, is(path2, ODD, SEED));
	snprintf(path2, sizeof(path2), "%s/sparse", self->f.dir[1]);
	ASSERT_EQ(0, stat(path2, &st));
	EXPECT_EQ(50 * MiB, st.st_size);
	EXPECT_GT(1024, st.st_blocks);
	PROGRAM(p, "cp", "--json", "--verify", path, path2);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_LT(49 * MiB, program_said(p, "holes")) SAID(p);
}

TEST_F(cp, bounce)
{
	struct program *p = &self->p;
	char path[96];

	/* where no dma-buf can go, if and only if that is asked for */
	snprintf(path, sizeof(path), "/tmp/cp.%d", getpid());
	ASSERT_EQ(0, make(self->f.a, ODD, SEED));
	PROGRAM(p, "cp", "--json", self->f.a, path);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "file-system")) SAID(p);
	EXPECT_EQ(1, program_said(p, "failed")) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "--bounce")) SAID(p);
	EXPECT_EQ(-1, access(path, F_OK));
	PROGRAM(p, "cp", "--json", "--bounce", self->f.a, path);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_EQ(0, is(path, ODD, SEED));
	EXPECT_NE(NULL, strstr(p->out, "\"memory\":\"ordinary\"")) SAID(p);
	unlink(path);
}

/* Beside cp(1): the same bytes by both, from a cold page cache; and what starting costs */
TEST_F(cp, copies_nothing)
{
	struct program *p = &self->p;
	__u64 started, ours, theirs;

	if (counters_open())
		SKIP(return, "copies cannot be counted here");
	ASSERT_EQ(0, make(self->f.a, 0, SEED));
	PROGRAM(p, "cp", self->f.a, self->f.b);
	program_copies(p);			/* what has to be loaded is, then */
	started = program_copies(p);
	ASSERT_EQ(0, p->code) SAID(p);
	if (started == COPIES_UNKNOWN)
		SKIP(return, "copies cannot be counted here");
	ASSERT_EQ(0, make(self->f.a, LONG, SEED));
	ours = program_copies(p) - started;
	ASSERT_EQ(0, p->code) SAID(p);
	EXPECT_EQ(0, is(self->f.b, LONG, SEED));

	ASSERT_EQ(0, unlink(self->f.b));
	ASSERT_EQ(0, file_write("/proc/sys/vm/drop_caches", "1"));
	PROGRAM(p, "cp", "--sparse=never", "--reflink=never", self->f.a, self->f.b);
	p->path = "/bin/cp";
	theirs = program_copies(p);
	ASSERT_EQ(0, p->code) SAID(p);
	ksft_print_msg("%llu MiB: the CPU copied %lld bytes beside what starting costs, and %llu in cp(1)\n",
		       LONG / MiB, (long long)ours, theirs);
	EXPECT_GT((long long)(64 * KiB), (long long)ours);
	EXPECT_LE(2 * LONG, theirs);
	counters_close();
}

/* ---- what goes wrong ---- */

static const char *fault_call, *fault_number, *fault_signal;

static int preload(void)
{
	return setenv("LD_PRELOAD", program_sibling("fault.so"), 1) ?:
	       setenv("FAULT_CALL", fault_call, 1) ?:
	       setenv("FAULT_NUMBER", fault_number, 1) ?:
	       fault_signal ? setenv("FAULT_SIGNAL", fault_signal, 1) : 0;
}

/* In the next run, in call number @number of a function: see fault.c */
static void fault(struct program *p, const char *call, const char *number, const char *signal)
{
	fault_call = call;
	fault_number = number;
	fault_signal = signal;
	p->before = preload;
}

/* In the middle: what was there is still there, and nothing else is */
TEST_F(cp, interrupted)
{
	static const char *const signals[] = { "2", "15", "9" };
	static const int codes[] = { 130, 130, 128 + 9 };
	struct program *p = &self->p;

	ASSERT_EQ(0, make(self->f.a, LONG, SEED));
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		ASSERT_EQ(0, make(self->f.b, 5000, SEED + 1));
		fault(p, "submit", "2", signals[i]);
		PROGRAM(p, "cp", "--json", self->f.a, self->f.b);
		EXPECT_EQ(codes[i], program_run(p)) SAID(p);
		EXPECT_EQ(0, is(self->f.b, 5000, SEED + 1));
		EXPECT_EQ(1, empty(self->f.dir[1]));
	}
}

/* It goes on where it was, and is right; of a source that changed it starts anew */
TEST_F(cp, resumed)
{
	static const char *const signals[] = { "2", "9" };
	struct program *p = &self->p;

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		ASSERT_EQ(0, make(self->f.a, LONG, SEED + i));
		fault(p, "fsetxattr", "1", signals[i]);
		PROGRAM(p, "cp", "--json", "--resume", self->f.a, self->f.b);
		EXPECT_LE(128, program_run(p)) SAID(p);
		EXPECT_EQ(-ENOENT, is(self->f.b, LONG, SEED + i));
		p->before = NULL;
		EXPECT_EQ(0, program_run(p)) SAID(p);
		EXPECT_LE(16 * MiB, program_said(p, "resumed_bytes")) SAID(p);
		EXPECT_EQ(LONG, program_said(p, "bytes")) SAID(p);
		EXPECT_EQ(0, is(self->f.b, LONG, SEED + i));
		EXPECT_EQ(1, empty(self->f.dir[1]));
	}
	fault(p, "fsetxattr", "1", "9");
	EXPECT_EQ(128 + 9, program_run(p)) SAID(p);
	p->before = NULL;
	/* and where that has a hole now, nothing is left of what it was */
	ASSERT_EQ(0, make(self->f.a, 5000, SEED + 5));
	ASSERT_EQ(0, truncate(self->f.a, LONG));
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_EQ(0, program_said(p, "resumed_bytes")) SAID(p);
	ASSERT_EQ(0, is_sparse(self->f.b, 5000, SEED + 5));
}

static int small_files(void)
{
	const struct rlimit limit = { 4 * MiB, 4 * MiB };

	signal(SIGXFSZ, SIG_IGN);
	return setrlimit(RLIMIT_FSIZE, &limit);
}

TEST_F(cp, no_room)
{
	struct program *p = &self->p;
	int fd;

	ASSERT_EQ(0, make(self->f.a, ODD, SEED));
	ASSERT_EQ(0, make(self->f.b, 5000, SEED + 1));
	p->before = small_files;
	PROGRAM(p, "cp", "--json", self->f.a, self->f.b);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "File too large")) SAID(p);
	p->before = NULL;
	EXPECT_EQ(0, is(self->f.b, 5000, SEED + 1));
	EXPECT_EQ(1, empty(self->f.dir[1]));

	/* no byte is moved if there is no room for all */
	PROGRAM(p, "cp", "--json", NEED_ENV("LAB_NVME_MAIN"), self->f.b);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "No space left")) SAID(p);
	EXPECT_EQ(0, empty(self->f.dir[1]));

	fd = open(self->f.a, O_RDWR | O_CLOEXEC);
	ASSERT_EQ(0, ftruncate(fd, 20 * MiB));
	close(fd);
	PROGRAM(p, "cp", "--json", self->f.a, NEED_ENV("LAB_NVME_META"));
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "20971520 are to go there")) SAID(p);
}

TEST_F(cp, why_not)
{
	struct program *p = &self->p;
	char part[64];

	ASSERT_EQ(0, make(self->f.a, 5000, SEED));
	PROGRAM(p, "cp", self->f.a);
	EXPECT_EQ(2, program_run(p)) SAID(p);
	PROGRAM(p, "cp", self->f.a, self->f.a);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "they are the same")) SAID(p);
	EXPECT_EQ(0, is(self->f.a, 5000, SEED));
	PROGRAM(p, "cp", self->f.a, "/nowhere/b");
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "No such file")) SAID(p);
	PROGRAM(p, "cp", self->f.a, self->f.a, self->f.b);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "no directory")) SAID(p);
	PROGRAM(p, "cp", self->f.a, self->f.a, self->f.dir[1]);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "goes there, too")) SAID(p);
	EXPECT_EQ(1, empty(self->f.dir[1]));
	PROGRAM(p, "cp", "/dev/null", self->f.b);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "no file, block device or dma-buf")) SAID(p);
	snprintf(part, sizeof(part), "%sp1", NEED_ENV("LAB_NVME_FS"));
	PROGRAM(p, "cp", self->f.a, part);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "in use")) SAID(p);
	PROGRAM(p, "cp", "-m", "heap:nowhere", self->f.a, self->f.b);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "there are")) SAID(p);
	PROGRAM(p, "cp", "--resume", NEED_ENV("LAB_NVME_META"), self->f.b);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "--resume")) SAID(p);
	EXPECT_EQ(0, empty(self->f.dir[1]));
}

/* What a kernel says that does not know IORING_REGISTER_QUERY */
static int old_kernel(void)
{
	return program_forbid(__NR_io_uring_register, 35, EINVAL);
}

TEST_F(cp, kernel_without_it)
{
	struct program *p = &self->p;

	ASSERT_EQ(0, make(self->f.a, ODD, SEED));
	p->before = old_kernel;
	PROGRAM(p, "cp", "--json", self->f.a, self->f.b);
	EXPECT_EQ(3, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "--bounce")) SAID(p);
	EXPECT_EQ(0, empty(self->f.dir[1]));
	PROGRAM(p, "cp", "--json", "--bounce", self->f.a, self->f.b);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_EQ(0, is(self->f.b, ODD, SEED));
}

static int no_enter(void)
{
	return program_forbid(__NR_io_uring_enter, -1, EPERM);
}

/* From the first request on, where that is one alone */
static int takes_nothing(void)
{
	return program_forbid(__NR_io_uring_enter, 1, EPERM);
}

/* Of memory that is registered, and of memory that bounces */
TEST_F(cp, ring_that_takes_nothing)
{
	struct program *p = &self->p;

	ASSERT_EQ(0, make(self->f.a, 5000, SEED));
	for (int i = 0; i < 4; i++) {
		p->before = i & 1 ? takes_nothing : no_enter;
		PROGRAM(p, "cp", "--json", i & 2 ? "--bounce" : "--quiet", self->f.a, self->f.b);
		EXPECT_EQ(3, program_run(p)) SAID(p);
		EXPECT_NE(NULL, strstr(p->err, "io_uring is forbidden")) SAID(p);
		EXPECT_EQ(0, empty(self->f.dir[1]));
	}
}

/* A byte is changed after it has arrived */
TEST_F(cp, verify_sees_it)
{
	struct program *p = &self->p;

	ASSERT_EQ(0, make(self->f.a, ODD, SEED));
	ASSERT_EQ(0, make(self->f.b, 5000, SEED));
	/* the first linkat() finds that there is such a name */
	fault(p, "linkat", "2", NULL);
	PROGRAM(p, "cp", "--json", "--verify", self->f.a, self->f.b);
	EXPECT_EQ(4, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "differ")) SAID(p);
	EXPECT_EQ(-EILSEQ, is(self->f.b, ODD, SEED));
}

TEST_F(cp, json_schema)
{
	const char *schema = getenv("URING_DMABUF_SCHEMA");
	struct program *p = &self->p;

	if (!schema)
		SKIP(return, "URING_DMABUF_SCHEMA does not say where it is");
	ASSERT_EQ(0, make(self->f.a, ODD, SEED));
	PROGRAM(p, "cp", "--json", "--verify", self->f.a, self->f.b);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_EQ(0, program_validate(p, schema, "cp.json")) SAID(p);
}

TEST_HARNESS_MAIN
