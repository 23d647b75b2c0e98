// SPDX-License-Identifier: GPL-2.0
/*
 * uring-dmabuf bench: it does what it says that it measured, counts it right, notices other
 * bytes, and overwrites nothing unasked.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>

#include "common.h"
#include "files.h"
#include "netio.h"
#include "program.h"

#define SEED	9700
#define SERVE	"tcp:127.0.0.1:7714"

FIXTURE(bench) {
	struct program p, peer;
	struct folders f;
};

FIXTURE_SETUP(bench)
{
	self->p.fd = self->peer.fd = -1;
	ASSERT_EQ(0, folders_make(&self->f, NEED_ENV("LAB_EXT4"), NEED_ENV("LAB_XFS"), "bench"));
}

FIXTURE_TEARDOWN(bench)
{
	program_destroy(&self->p);
	program_destroy(&self->peer);
	EXPECT_EQ(0, folders_remove(&self->f));
}

/* ---- what it said ---- */

static const char *word(const json_t *of, const char *member)
{
	const char *text = json_string_value(json_object_get(of, member));

	return text ? text : "";
}

static long long number(const json_t *of, const char *member)
{
	return json_integer_value(json_object_get(of, member));
}

static double real(const json_t *of, const char *member)
{
	return json_number_value(json_object_get(of, member));
}

static size_t nr_cases(const struct program *p)
{
	return json_array_size(json_object_get(p->json, "cases"));
}

static const json_t *case_of(const struct program *p, const char *op, const char *way)
{
	const json_t *cases = json_object_get(p->json, "cases");

	for (size_t i = 0; i < json_array_size(cases); i++) {
		const json_t *c = json_array_get(cases, i);

		if (!strcmp(word(c, "operation"), op) && !strcmp(word(c, "way"), way))
			return c;
	}
	return NULL;
}

/* So many requests of that size, and the CPU copied each byte so many times */
#define EXPECT_CASE(p, op, way, nr, size, copies) do {				\
	const json_t *c_ = case_of(p, op, way);					\
										\
	ASSERT_NE(NULL, c_) SAID(p);						\
	EXPECT_TRUE(json_is_null(json_object_get(c_, "failure"))) SAID(p);	\
	EXPECT_EQ(nr, number(c_, "requests")) SAID(p);				\
	EXPECT_EQ((long long)(nr) * (size), number(c_, "bytes")) SAID(p);	\
	EXPECT_EQ((long long)(nr) * (size) * (copies), number(c_, "copied_bytes")) SAID(p); \
	EXPECT_LT(0, real(c_, "seconds"));					\
	EXPECT_LT(0, real(json_object_get(c_, "latency_us"), "p50"));		\
	EXPECT_LE(real(json_object_get(c_, "latency_us"), "p50"),		\
		  real(json_object_get(c_, "latency_us"), "p99"));		\
	EXPECT_LE(real(json_object_get(c_, "latency_us"), "p99"),		\
		  real(json_object_get(c_, "latency_us"), "max"));		\
} while (0)

/* ---- drives and files ---- */

TEST_F(bench, ways)
{
	static const char *const memories[] = { "udmabuf", "heap:system" };
	static const char *const ways[] = { "plain", "registered", "dmabuf", "bounce" };
	struct program *p = &self->p;

	for (int i = 0; i < 2; i++) {
		/* an odd depth, and a part of a round at the end */
		PROGRAM(p, "bench", "--json", "-m", memories[i], "-s", "64k", "-d", "7", "--requests",
			"100", "--span", "4m", self->f.dir[i]);
		EXPECT_EQ(0, program_run(p)) SAID(p);
		EXPECT_EQ(8, nr_cases(p));
		for (int way = 0; way < 4; way++) {
			int copies = !strcmp(ways[way], "bounce");

			EXPECT_CASE(p, "read", ways[way], 100, 65536, copies);
			EXPECT_CASE(p, "write", ways[way], 100, 65536, copies);
		}
		/* of a file without a name nothing is left */
		EXPECT_EQ(0, empty(self->f.dir[i]));
	}
}

TEST_F(bench, by_the_clock)
{
	struct program *p = &self->p;
	const json_t *c;

	PROGRAM(p, "bench", "--json", "-s", "4k,1m", "-t", "0.3", "-W", "dmabuf", "--random",
		"--span", "16m", self->f.dir[0]);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_EQ(4, nr_cases(p));
	for (int i = 0; i < 4; i++) {
		c = json_array_get(json_object_get(p->json, "cases"), i);
		EXPECT_LT(0, number(c, "requests")) SAID(p);
		EXPECT_LE(0.3, real(c, "seconds")) SAID(p);
		EXPECT_EQ(number(c, "requests") * number(c, "size"), number(c, "bytes"));
	}
	/* however little time there is, something is measured */
	PROGRAM(p, "bench", "--json", "-s", "4k", "--span", "1m", "-t", "0.000001", self->f.dir[0]);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_LE(1, number(case_of(p, "write", "bounce"), "requests")) SAID(p);
	PROGRAM(p, "bench", "-s", "4k", "--span", "1m", "--requests", "10", self->f.dir[0]);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->out, "CPU s/GB")) SAID(p);
	EXPECT_NE(NULL, strstr(p->out, "bounce")) SAID(p);
}

TEST_F(bench, overwrites_nothing_unasked)
{
	struct program *p = &self->p;
	const char *drive = NEED_ENV("LAB_NVME_META");
	int disk = NEED_DISK("LAB_NVME_META");

	ASSERT_EQ(0, make(self->f.a, 2 * MiB, SEED));
	PROGRAM(p, "bench", "--json", "-s", "64k", "--requests", "20", "-W", "dmabuf", self->f.a);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_CASE(p, "read", "dmabuf", 20, 65536, 0);
	EXPECT_NE(NULL, strstr(p->out, "is not overwritten without --write")) SAID(p);
	EXPECT_EQ(0, is(self->f.a, 2 * MiB, SEED));

	ASSERT_EQ(0, disk_fill(disk, 0, 8 * MiB, SEED + 1));
	PROGRAM(p, "bench", "--json", "-s", "64k", "--requests", "20", "-W", "dmabuf", "-O", "read",
		drive);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_EQ(NO_MISMATCH, disk_check(disk, 0, 0, 8 * MiB, SEED + 1));
	PROGRAM(p, "bench", "--json", "-s", "64k", "--requests", "20", "--write", "--span", "1m", drive);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_EQ(8, nr_cases(p));
	close(disk);
	/* what is mounted is not written with it, either */
	PROGRAM(p, "bench", "--json", "-s", "64k", "--requests", "20", "--write", "-O", "write",
		NEED_ENV("LAB_NVME_FS"));
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->out, "is in use")) SAID(p);
}

static int used_cuda(void)
{
	return setenv("FAKE_CUDA", "used", 1);
}

/* Memory of a GPU that begins in the middle of what its driver exports */
TEST_F(bench, part_of_a_dmabuf)
{
	struct program *p = &self->p;

	p->before = used_cuda;
	PROGRAM(p, "bench", "--json", "-m", "cuda:0", "-s", "4k", "-d", "8", "--requests", "40", "--span",
		"1m", self->f.dir[0]);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_CASE(p, "read", "dmabuf", 40, 4096, 0);
	EXPECT_CASE(p, "read", "bounce", 40, 4096, 1);
	EXPECT_CASE(p, "write", "dmabuf", 40, 4096, 0);
	EXPECT_CASE(p, "write", "bounce", 40, 4096, 1);
}

/* ---- connections ---- */

TEST_F(bench, over_tcp)
{
	struct program *p = &self->p, *peer = &self->peer;

	PROGRAM(peer, "bench", "--serve", SERVE);
	ASSERT_EQ(0, program_start(peer));
	ASSERT_EQ(0, program_wait_for(peer, "serving", 20000));
	PROGRAM(p, "bench", "--json", "-s", "64k", "-d", "5", "--requests", "50", "--copy-ok", SERVE);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_EQ(7, nr_cases(p));
	EXPECT_CASE(p, "send", "plain", 50, 65536, 1);
	/* loopback reads no memory of anybody: it was copied, and allowed to be */
	EXPECT_CASE(p, "send", "registered", 50, 65536, 1);
	EXPECT_CASE(p, "send", "dmabuf", 50, 65536, 1);
	EXPECT_CASE(p, "send", "bounce", 50, 65536, 2);
	/* what comes is as much as came */
	EXPECT_EQ(50, number(case_of(p, "receive", "plain"), "requests")) SAID(p);
	EXPECT_EQ(number(case_of(p, "receive", "dmabuf"), "bytes"),
		  number(case_of(p, "receive", "dmabuf"), "copied_bytes"));
	EXPECT_EQ(2 * number(case_of(p, "receive", "bounce"), "bytes"),
		  number(case_of(p, "receive", "bounce"), "copied_bytes"));

	/* memory that the CPU does not see */
	PROGRAM(p, "bench", "--json", "-m", "cuda:0", "-s", "64k", "-d", "5", "--requests", "50", "--copy-ok",
		SERVE);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_CASE(p, "send", "dmabuf", 50, 65536, 1);
	EXPECT_EQ(50, number(case_of(p, "receive", "bounce"), "requests")) SAID(p);
	EXPECT_EQ(0, number(case_of(p, "receive", "dmabuf"), "requests")) SAID(p);
	EXPECT_NE(NULL, strstr(p->out, "the CPU does not see it")) SAID(p);

	/* not allowed: refused, and the others measured */
	PROGRAM(p, "bench", "--json", "-s", "64k", "--requests", "50", "-O", "send", SERVE);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_CASE(p, "send", "plain", 50, 65536, 1);
	EXPECT_FALSE(json_is_null(json_object_get(case_of(p, "send", "dmabuf"), "failure"))) SAID(p);
	kill(peer->pid, SIGTERM);
	EXPECT_EQ(0, program_end(peer)) SAID(peer);

	PROGRAM(p, "bench", "-O", "send", "-W", "plain", SERVE);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->out, "start uring-dmabuf bench --serve there")) SAID(p);
}

static int peer_ns;

static int at_the_peer(void)
{
	return net_ns_enter(peer_ns);
}

/* ---- what is wrong ---- */

/* Whatever is written meanwhile is not what was read */
TEST_F(bench, other_bytes)
{
	struct program *p = &self->p;
	int fd;
	char data[4096] __attribute__((aligned(4096)));

	ASSERT_EQ(0, make(self->f.a, 8192, SEED + 2));
	fd = open(self->f.a, O_RDWR | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, fd);
	/* one block, which is read again and again while it changes */
	PROGRAM(p, "bench", "--json", "-s", "4k", "-d", "1", "-t", "1", "-W", "dmabuf", "-O", "read",
		self->f.a);
	for (int i = 0; i < 20 && p->code != 4; i++) {
		pid_t pid;

		ASSERT_EQ(0, program_start(p));
		pid = fork();
		if (!pid) {
			for (unsigned int n = 0; ; n++) {
				memset(data, (int)(n & 0x7f), sizeof(data));
				if (pwrite(fd, data, sizeof(data), 0) != sizeof(data))
					_exit(1);
			}
		}
		program_end(p);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	close(fd);
	EXPECT_EQ(4, p->code) SAID(p);
	EXPECT_NE(NULL, strstr(p->out, "wrong-bytes")) SAID(p);
}

static int no_registration(void)
{
	return program_forbid(__NR_io_uring_register, 16, EINVAL) ||
	       program_forbid(__NR_io_uring_register, 35, EINVAL);
}

static int no_ring(void)
{
	return program_forbid(__NR_io_uring_setup, -1, EPERM);
}

static int no_enter(void)
{
	return program_forbid(__NR_io_uring_enter, -1, EPERM);
}

TEST_F(bench, why_not)
{
	static const struct { const char *option, *arg; } usage[] = {
		{ "-s", "5k" }, { "-s", "0" }, { "-s", "2g" }, { "-s", "4k,,x" }, { "-s", "-4k" },
		{ "-s", "4k,4k,4k,4k,4k,4k,4k,4k,4k" }, { "-d", "0" }, { "-d", "1025" }, { "-t", "0" },
		{ "-t", "x" }, { "-t", "nan" }, { "-W", "none" }, { "-O", "" }, { "--requests", "0" },
		{ "--span", "1" }, { "--span", "18446744073709551615k" },
	};
	struct program *p = &self->p;

	for (size_t i = 0; i < ARRAY_SIZE(usage); i++) {
		PROGRAM(p, "bench", usage[i].option, usage[i].arg, self->f.dir[0]);
		EXPECT_EQ(2, program_run(p)) TH_LOG("%s %s", usage[i].option, usage[i].arg);
	}
	PROGRAM(p, "bench");
	WRONG(p, 2, "a TARGET, or --serve");
	PROGRAM(p, "bench", "-O", "send", self->f.dir[0]);
	WRONG(p, 1, "none of these targets");
	PROGRAM(p, "bench", "-m", "heap:nowhere", self->f.dir[0]);
	WRONG(p, 1, "heap:nowhere");
	PROGRAM(p, "bench", "-m", "host", self->f.dir[0]);
	WRONG(p, 1, "no dma-buf");
	PROGRAM(p, "bench", "--serve", "7714");
	WRONG(p, 1, "not tcp:[ADDRESS]:PORT");
	PROGRAM(p, "bench", "--json", "/nowhere");
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->out, "No such file")) SAID(p);
	/* no room: nothing is measured of what is half there */
	PROGRAM(p, "bench", "--json", "-s", "64k", "--span", "64g", "-O", "read", self->f.dir[0]);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_EQ(0, number(case_of(p, "read", "bounce"), "requests")) SAID(p);
	EXPECT_NE(NULL, strstr(p->out, "has no room for")) SAID(p);
	PROGRAM(p, "bench", "--json", "-s", "64k", "--span", "4k", self->f.dir[0]);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->out, "too-small")) SAID(p);

	p->before = no_ring;
	PROGRAM(p, "bench", "--span", "1m", "-s", "4k", self->f.dir[0]);
	EXPECT_EQ(3, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->out, "io_uring is forbidden")) SAID(p);
	p->before = no_enter;
	EXPECT_EQ(3, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->out, "io_uring is forbidden")) SAID(p);
	p->before = no_registration;
	WRONG(p, 3, "--ways plain,registered,bounce");
	/* the rest is measured there, too */
	PROGRAM(p, "bench", "--json", "-s", "4k", "--requests", "10", "-W", "plain,registered,bounce",
		"--span", "1m", self->f.dir[0]);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_EQ(6, nr_cases(p));
}

TEST_F(bench, interrupted)
{
	struct program *p = &self->p;

	PROGRAM(p, "bench", "--json", "-t", "60", "--span", "4m", "-W", "dmabuf", self->f.dir[0]);
	/* once it is in its first case, whenever that is */
	for (unsigned int ms = 1500; ms < 30000; ms *= 2) {
		ASSERT_EQ(0, program_start(p));
		lab_sleep_ms(ms);
		ASSERT_EQ(0, kill(p->pid, SIGINT));
		program_end(p);
		if (nr_cases(p) && number(case_of(p, "read", "dmabuf"), "requests"))
			break;
	}
	EXPECT_EQ(130, p->code) SAID(p);
	EXPECT_EQ(6, nr_cases(p)) SAID(p);
	EXPECT_LT(0, number(case_of(p, "read", "dmabuf"), "requests")) SAID(p);
	EXPECT_EQ(0, empty(self->f.dir[0]));
}

TEST_F(bench, json_schema)
{
	struct program *p = &self->p;
	const char *schema = getenv("URING_DMABUF_SCHEMA");

	if (!schema)
		SKIP(return, "URING_DMABUF_SCHEMA does not say where it is");
	PROGRAM(p, "bench", "--json", "-s", "4k", "--span", "1m", "--requests", "50", self->f.dir[0]);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_EQ(0, program_validate(p, schema, "bench.json")) SAID(p);
	PROGRAM(p, "bench", "--json", "-s", "4k", "/nowhere");
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_EQ(0, program_validate(p, schema, "bench.json")) SAID(p);
}

/* ---- over a card ---- */

TEST(card)
{
	struct program p_ = { .fd = -1 }, peer_ = { .fd = -1, .before = at_the_peer };
	struct program *p = &p_, *peer = &peer_;
	char address[64];
	struct netrig rig;

	netrig_init(&rig);
	NETRIG_UP(&rig, "e1000e", MEM_UDMABUF, 0);
	peer_ns = rig.ns[NET_PEER];
	PROGRAM(peer, "bench", "--serve", "tcp::7714");
	ASSERT_EQ(0, program_start(peer));
	ASSERT_EQ(0, program_wait_for(peer, "serving", 20000));
	snprintf(address, sizeof(address), "tcp:10.73.%u.2:7714", rig.net);
	/* of contiguous memory: see net_mem() */
	PROGRAM(p, "bench", "--json", "-m", "heap:default_cma_region", "-s", "64k", "-d", "4",
		"--requests", "30", "-O", "send", address);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_CASE(p, "send", "plain", 30, 65536, 1);
	EXPECT_CASE(p, "send", "registered", 30, 65536, 0);
	EXPECT_CASE(p, "send", "dmabuf", 30, 65536, 0);
	EXPECT_CASE(p, "send", "bounce", 30, 65536, 2);
	kill(peer->pid, SIGTERM);
	EXPECT_EQ(0, program_end(peer)) SAID(peer);
	program_free(p);
	program_free(peer);
	netrig_down(&rig);
}

TEST_HARNESS_MAIN
