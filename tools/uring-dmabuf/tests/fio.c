// SPDX-License-Identifier: GPL-2.0
/*
 * The engine for fio, in the fio of this Debian: every block is what it was, from each memory,
 * and by no copy of the CPU; and what is not as it was is found.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "counters.h"
#include "files.h"
#include "program.h"

#define SEED	9900

FIXTURE(fio) {
	struct program p;
	struct mem mem;
	char engine[128];		/* an argument */
	char jobs[2][128];		/* drive.fio, verify.fio */
	char files[2][80];		/* on ext4, on XFS */
};

FIXTURE_SETUP(fio)
{
	static const char *const env[] = { "LAB_EXT4", "LAB_XFS" };
	static const char *const names[] = { "drive", "verify" };
	const char *engine = program_sibling("../../uring-dmabuf/fio-uring-dmabuf.so");

	self->p.fd = self->mem.fd = -1;
	if (access("/usr/bin/fio", X_OK))
		SKIP(return, "no fio here");
	if (access(engine, R_OK))
		SKIP(return, "no engine: the source of fio was not to be had");
	self->p.path = "/usr/bin/fio";
	ASSERT_EQ(0, setenv("ENGINE", engine, 1));
	snprintf(self->engine, sizeof(self->engine), "--ioengine=external:%s", engine);
	for (int i = 0; i < 2; i++) {
		snprintf(self->files[i], sizeof(self->files[i]), "%s/fio", NEED_ENV(env[i]));
		snprintf(self->jobs[i], sizeof(self->jobs[i]), "%s/%s.fio",
			 NEED_ENV("URING_DMABUF_JOBS"), names[i]);
	}
	/* a GPU whose memory is in a BAR, as its library tells it: see fake-cuda.c */
	ASSERT_EQ(0, setenv("FAKE_CUDA", "bar", 1));
}

FIXTURE_TEARDOWN(fio)
{
	program_free(&self->p);
	for (int i = 0; i < 2; i++)
		unlink(self->files[i]);
	if (self->mem.fd >= 0) {
		EXPECT_TRUE(bufinfo_wait(self->mem.fd, 0, 10000));
		mem_destroy(&self->mem);
	}
}

/* The number of which @after is behind it, in what it said first; -1: there is none */
static long long said(const struct program *p, const char *after)
{
	const char *at = p->out ? strstr(p->out, after) : NULL;

	while (at && at > p->out && at[-1] >= '0' && at[-1] <= '9')
		at--;
	return at && at[0] >= '0' && at[0] <= '9' ? atoll(at) : -1;
}

/* Reads and writes of the first job */
static long long issued(const struct program *p)
{
	const char *at = strstr(p->out, "issued rwts: total=");
	long long reads, writes;

	if (!at || sscanf(at, "issued rwts: total=%lld,%lld,", &reads, &writes) != 2)
		return -1;
	return reads + writes;
}

#define RUN(...) do {							\
	PROGRAM(p, "fio", __VA_ARGS__);				\
	program_run(p);							\
} while (0)

/* ---- what works ---- */

static int run_jobs(struct program *p, const char *job, const char *memory, const char *target)
{
	setenv("MEMORY", memory, 1);
	setenv("TARGET", target, 1);
	RUN(job);
	return p->code;
}

static const char *iops(const char *text)
{
	static char number[2][16];
	static unsigned int turn;
	const char *at = text ? strstr(text, "IOPS=") : NULL;

	snprintf(number[++turn % 2], sizeof(number[0]), "%.*s", at ? (int)strcspn(at + 5, ",") : 1,
		 at ? at + 5 : "?");
	return number[turn % 2];
}

/* Both jobs of a file: no error, and each request was a command that knew the memory */
static void expect_direct(struct __test_metadata *_metadata, struct program *p,
			  const char *memory, const char *target, const char *state)
{
	const char *fixed = strstr(p->out, "\nfixedbufs: (groupid=");

	EXPECT_NE(NULL, strstr(p->out, "dma-buf: (groupid=0, jobs=1): err= 0:")) SAID(p);
	EXPECT_NE(NULL, strstr(p->out, "fixedbufs: (groupid=1, jobs=1): err= 0:")) SAID(p);
	EXPECT_NE(NULL, strstr(p->out, state)) SAID(p);
	EXPECT_LT(64, issued(p)) SAID(p);
	EXPECT_LE(issued(p), said(p, " commands, ")) SAID(p);
	EXPECT_EQ(0, said(p, " bytes copied by the CPU")) SAID(p);
	ksft_print_msg("%s, %s: %lld requests, %lld commands, %s reads/s (fixedbufs: %s)\n", memory,
		       target, issued(p), said(p, " commands, "), iops(p->out), iops(fixed));
}

#define EXPECT_VERIFIED(memory, target, state) do {			\
	EXPECT_EQ(0, run_jobs(p, self->jobs[1], memory, target)) SAID(p);	\
	expect_direct(_metadata, p, memory, target, state);		\
} while (0)

TEST_F(fio, verified)
{
	struct program *p = &self->p;
	const char *drive = NEED_ENV("LAB_NVME_MAIN");

	EXPECT_VERIFIED("udmabuf", drive, ": system, granule ");
	EXPECT_VERIFIED("udmabuf", self->files[0], ": system, granule ");
	EXPECT_VERIFIED("heap:system", self->files[1], ": system, granule ");
}

/* Memory in a BAR, which fio looks at by copies of the GPU's library */
TEST_F(fio, verified_in_a_bar)
{
	struct program *p = &self->p;
	const char *drive = NEED_ENV("LAB_NVME_MAIN");

	EXPECT_VERIFIED("cuda:0", drive, ": p2p-");
	EXPECT_VERIFIED("cuda:0", self->files[0], ": p2p-");
	EXPECT_VERIFIED("cuda:0", self->files[1], ": p2p-");
}

TEST_F(fio, without_verify)
{
	const char *drive = NEED_ENV("LAB_NVME_MAIN");
	struct program *p = &self->p;

	EXPECT_EQ(0, run_jobs(p, self->jobs[0], "udmabuf", drive)) SAID(p);
	expect_direct(_metadata, p, "udmabuf", drive, ": system, granule ");
	EXPECT_EQ(0, run_jobs(p, self->jobs[0], "cuda:0", drive)) SAID(p);
	expect_direct(_metadata, p, "cuda:0", drive, ": p2p-");
}

/* The bytes are those of the memory that the CPU cannot see */
TEST_F(fio, through_a_bar)
{
	struct program *p = &self->p;
	char target[96];

	ASSERT_EQ(0, mem_create(&self->mem, MEM_BAR, 2 * MiB));
	ASSERT_EQ(0, mem_fill(&self->mem, 0, 0, 2 * MiB, SEED));
	p->fd = self->mem.fd;
	snprintf(target, sizeof(target), "--filename=%s", self->files[0]);
	RUN("--name=a", self->engine, "--memory=fd:9", "--require_p2p", target, "--direct=1",
	    "--rw=write", "--bs=2m", "--size=2m");
	EXPECT_EQ(0, p->code) SAID(p);
	EXPECT_EQ(0, is(self->files[0], 2 * MiB, SEED));
	EXPECT_EQ(1, issued(p)) SAID(p);

	ASSERT_EQ(0, mem_poison(&self->mem, 0, 2 * MiB, POISON));
	ASSERT_EQ(0, make(self->files[0], 2 * MiB, SEED + 1));
	RUN("--name=a", self->engine, "--memory=fd:9", target, "--direct=1", "--rw=read", "--bs=2m",
	    "--size=2m");
	EXPECT_EQ(0, p->code) SAID(p);
	EXPECT_EQ(NO_MISMATCH, mem_check(&self->mem, 0, 0, 2 * MiB, SEED + 1));
}

TEST_F(fio, jobs_and_files)
{
	struct program *p = &self->p;
	char folder[96];

	snprintf(folder, sizeof(folder), "--directory=%s", NEED_ENV("LAB_XFS"));
	RUN("--name=fio", self->engine, folder, "--filename=fio:fio2:fio3", "--direct=1",
	    "--rw=randrw", "--bsrange=4k-256k", "--iodepth=16", "--size=3m", "--thread",
	    "--fsync=7", "--verify=md5", "--verify_async=1", "--overwrite=1",
	    "--refill_buffers");
	EXPECT_EQ(0, p->code) SAID(p);
	EXPECT_EQ(0, said(p, " bytes copied by the CPU")) SAID(p);
}

TEST_F(fio, trims_between_writes)
{
	struct program *p = &self->p;
	char target[96];

	snprintf(target, sizeof(target), "--filename=%s", NEED_ENV("LAB_NVME_MAIN"));
	RUN("--name=a", self->engine, target, "--direct=1", "--rw=randtrimwrite", "--bs=64k",
	    "--iodepth=8", "--size=1m");
	EXPECT_EQ(0, p->code) SAID(p);
	EXPECT_NE(NULL, strstr(p->out, "issued rwts: total=0,16,16,0 ")) SAID(p);
	EXPECT_EQ(16, said(p, " commands, ")) SAID(p);
}

/* Where no dma-buf can go, if and only if that is asked for */
TEST_F(fio, bounce)
{
	struct program *p = &self->p;
	char target[96], path[64];

	snprintf(path, sizeof(path), "/tmp/fio.%d", getpid());
	ASSERT_EQ(0, make(path, 1 * MiB, SEED));
	snprintf(target, sizeof(target), "--filename=%s", path);
	RUN("--name=a", self->engine, target, "--rw=randread", "--bs=64k", "--iodepth=8");
	EXPECT_NE(0, p->code) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "bounce moves the same")) SAID(p);
	RUN("--name=a", self->engine, target, "--rw=randread", "--bs=64k", "--iodepth=8",
	    "--bounce");
	EXPECT_EQ(0, p->code) SAID(p);
	EXPECT_EQ(1 * MiB, said(p, " bytes copied by the CPU")) SAID(p);
	unlink(path);
}

/* By the kernel's word, and not by the engine's: 1 MiB, and 16 times as much */
TEST_F(fio, copies_nothing)
{
	struct program *p = &self->p;
	char target[96];
	__u64 little, much;

	if (counters_open())
		SKIP(return, "copies cannot be counted here");
	snprintf(target, sizeof(target), "--filename=%s", NEED_ENV("LAB_NVME_MAIN"));
	PROGRAM(p, "fio", "--name=a", self->engine, target, "--direct=1", "--rw=randread",
		"--bs=64k", "--iodepth=32", "--io_size=1m", "--size=16m");
	program_copies(p);			/* what has to be loaded is, then */
	little = program_copies(p);
	ASSERT_EQ(0, p->code) SAID(p);
	p->argv[8] = "--io_size=16m";
	much = program_copies(p);
	ASSERT_EQ(0, p->code) SAID(p);
	if (little == COPIES_UNKNOWN || much == COPIES_UNKNOWN)
		SKIP(return, "copies cannot be counted here");
	EXPECT_EQ(256, issued(p)) SAID(p);
	ksft_print_msg("15 MiB more: the CPU copied %lld bytes more\n", (long long)(much - little));
	EXPECT_GT((long long)MiB, (long long)(much - little));
	counters_close();
}

/* ---- what goes wrong ---- */

/* One byte of a block on the drive, by another way */
static int spoil(const char *path, off_t pos)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	char byte;
	int ret = pread(fd, &byte, 1, pos) != 1;

	byte ^= 1;
	ret = ret || pwrite(fd, &byte, 1, pos) != 1 || fsync(fd);
	close(fd);
	return ret;
}

#define EXPECT_FOUND(memory, path) do {					\
	char target_[96];						\
									\
	snprintf(target_, sizeof(target_), "--filename=%s", path);	\
	RUN("--name=a", self->engine, "--memory=" memory, target_, "--direct=1",	\
	    "--rw=randwrite", "--bs=16k", "--iodepth=32", "--size=1m",	\
	    "--verify=crc32c", "--do_verify=0");			\
	EXPECT_EQ(0, p->code) SAID(p);					\
	ASSERT_EQ(0, spoil(path, 500001));				\
	RUN("--name=a", self->engine, "--memory=" memory, target_, "--direct=1",	\
	    "--rw=randread", "--bs=16k", "--iodepth=32", "--size=1m",	\
	    "--verify=crc32c");						\
	EXPECT_NE(0, p->code) SAID(p);					\
	EXPECT_NE(NULL, strstr(p->err, "crc32c: verify failed at file")) SAID(p);	\
	EXPECT_NE(NULL, strstr(p->err, "offset 491520, length 16384")) SAID(p);	\
} while (0)

/* That verify can fail */
TEST_F(fio, finds_what_is_wrong)
{
	struct program *p = &self->p;
	const char *drive = NEED_ENV("LAB_NVME_MAIN");

	EXPECT_FOUND("udmabuf", self->files[1]);
	EXPECT_FOUND("cuda:0", drive);
}

#define EXPECT_REFUSED(text, ...) do {					\
	RUN("--name=a", self->engine, __VA_ARGS__, "--rw=read", "--bs=4k", "--size=1m");	\
	EXPECT_NE(0, p->code) SAID(p);					\
	EXPECT_GT(128, p->code) SAID(p);				\
	EXPECT_NE(NULL, strstr(p->err, text)) SAID(p);			\
} while (0)

TEST_F(fio, why_not)
{
	struct program *p = &self->p;
	char target[96];
	int fd;

	snprintf(target, sizeof(target), "--filename=%s", self->files[0]);
	ASSERT_EQ(0, make(self->files[0], 1 * MiB, SEED));
	EXPECT_REFUSED("no such memory; there are udmabuf", target, "--direct=1",
		       "--memory=nowhere");
	EXPECT_REFUSED("bounce takes such memory", target, "--direct=1", "--memory=host");
	p->fd = memfd_create("none", 0);
	EXPECT_REFUSED("fd 9 is no dma-buf", target, "--direct=1", "--memory=fd:9");
	close(p->fd);
	EXPECT_REFUSED("not peer-to-peer", target, "--direct=1", "--require_p2p");
	EXPECT_REFUSED("O_DIRECT", target, "--direct=0");
	EXPECT_REFUSED("8192", target, "--direct=1", "--iodepth=10000");

	EXPECT_REFUSED("conflicts with specified IO engine", target, "--direct=1", "--mem=mmap");

	/* verify has to see the bytes */
	ASSERT_EQ(0, mem_create(&self->mem, MEM_BAR, 2 * MiB));
	p->fd = self->mem.fd;
	EXPECT_REFUSED("does not let the CPU map its memory: no verify=", target, "--direct=1",
		       "--memory=fd:9", "--verify=crc32c");
	EXPECT_REFUSED("the dma-buf has 2097152 bytes", target, "--direct=1", "--memory=fd:9",
		       "--iodepth=1000");
	p->fd = -1;

	/* of what was never written no drive has a byte */
	fd = open(self->files[0], O_RDWR | O_TRUNC | O_CLOEXEC);
	ASSERT_EQ(0, ftruncate(fd, 1 * MiB));
	close(fd);
	EXPECT_REFUSED("never written", target, "--direct=1");
}

TEST_HARNESS_MAIN
