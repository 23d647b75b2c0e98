// SPDX-License-Identifier: GPL-2.0
/* uring-dmabuf stat, and its library call: what they say is what the kernel says */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "netio.h"
#include "program.h"
#include "uring-dmabuf.h"

#define SIZE	(256 * KiB)

FIXTURE(stat) {
	struct program p;
	struct rig rig;
	char pid[16];
};

FIXTURE_SETUP(stat)
{
	self->p.fd = -1;
	snprintf(self->pid, sizeof(self->pid), "%d", getpid());
	RIG_UP(&self->rig, "LAB_NVME_MAIN", MEM_BAR, SIZE, 0);
}

FIXTURE_TEARDOWN(stat)
{
	program_free(&self->p);
	rig_down(&self->rig);
}

static const json_t *buffer(const struct program *p, size_t i)
{
	return json_array_get(json_object_get(p->json, "buffers"), i);
}

static size_t nr_buffers(const struct program *p)
{
	return json_array_size(json_object_get(p->json, "buffers"));
}

static long long number(const struct program *p, size_t i, const char *member)
{
	return json_integer_value(json_object_get(buffer(p, i), member));
}

static const char *word(const struct program *p, size_t i, const char *member)
{
	return json_string_value(json_object_get(buffer(p, i), member)) ?: "";
}


struct found {
	struct io_uring_dmabuf_stat stat[4];
	unsigned int nr;
};

static int find(const struct io_uring_dmabuf_stat *stat, void *arg)
{
	struct found *f = arg;

	if (f->nr == ARRAY_SIZE(f->stat))
		return 77;
	f->stat[f->nr++] = *stat;
	return 0;
}

/* All that a query of the ring itself says is in both */
static void expect_same(struct __test_metadata *_metadata, struct program *p,
			struct rig *rig, const struct io_uring_dmabuf_stat *stat)
{
	struct io_uring_query_regbuf_map q;

	ASSERT_EQ(0, query_map(&rig->ring, stat->map.slot, stat->map.target, &q));
	EXPECT_EQ(getpid(), stat->pid);
	EXPECT_EQ(q.type, stat->map.type);
	EXPECT_EQ(q.nr_targets, stat->map.nr_targets);
	EXPECT_EQ(q.flags & ~IO_REGBUF_DMABUF_PIN, stat->map.flags);
	EXPECT_EQ(q.state, stat->map.state);
	EXPECT_EQ(q.dmabuf_off, stat->map.dmabuf_off);
	EXPECT_EQ(q.size, stat->map.size);
	EXPECT_EQ(q.granule, stat->map.granule);
	EXPECT_EQ(q.entries, stat->map.entries);
	EXPECT_EQ(q.table_bytes, stat->map.table_bytes);
	EXPECT_EQ(q.hits, stat->map.hits);
	EXPECT_EQ(q.maps, stat->map.maps);
	EXPECT_EQ(q.invalidations, stat->map.invalidations);
	EXPECT_EQ(q.peer2peer, stat->map.peer2peer);
	EXPECT_STREQ(q.device, stat->map.device);
	EXPECT_STREQ(q.exporter, stat->map.exporter);

	EXPECT_EQ(getpid(), number(p, 0, "pid")) SAID(p);
	EXPECT_EQ(stat->ring_fd, number(p, 0, "ring_fd"));
	EXPECT_EQ(stat->map.slot, number(p, 0, "slot"));
	EXPECT_EQ(q.size, number(p, 0, "size"));
	EXPECT_EQ(q.granule, number(p, 0, "granule"));
	EXPECT_EQ(q.hits, number(p, 0, "commands"));
	EXPECT_EQ(q.maps, number(p, 0, "maps"));
	EXPECT_EQ(q.invalidations, number(p, 0, "invalidations"));
	EXPECT_STREQ(q.device, word(p, 0, "device"));
	EXPECT_STREQ(q.exporter, word(p, 0, "exporter"));
	EXPECT_STREQ(io_uring_dmabuf_state_name(q.state), word(p, 0, "state"));
}

TEST_F(stat, of_a_process)
{
	struct program *p = &self->p;
	struct rig *rig = &self->rig;
	struct found f = { .nr = 0 };
	struct io_uring_regbuf_desc d;

	d = desc_dmabuf(rig->mem.fd, rig->disk);
	d.dmabuf_off = 4096;
	d.size = 65536;
	d.flags = IO_REGBUF_DMABUF_WRONLY;
	ASSERT_EQ(0, reg_one(&rig->ring, 3, &d));
	ASSERT_EQ(4096, uring_read(&rig->ring, rig->disk, 0, 0, 4096, 3));
	ASSERT_EQ(0, bar_move(&rig->mem, 1));
	ASSERT_EQ(4096, uring_read(&rig->ring, rig->disk, 0, 0, 4096, 3));

	PROGRAM(p, "stat", "--json", "-p", self->pid);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	ASSERT_EQ(1, nr_buffers(p)) SAID(p);
	ASSERT_EQ(0, io_uring_dmabuf_stat(0, find, &f));
	ASSERT_EQ(1, f.nr);
	EXPECT_EQ(3, f.stat[0].map.slot);
	EXPECT_EQ(1, f.stat[0].map.invalidations);
	EXPECT_EQ(2, f.stat[0].map.hits);
	expect_same(_metadata, p, rig, &f.stat[0]);

	/* what the callback returns ends it */
	ASSERT_EQ(0, reg_one(&rig->ring, 4, &d));
	f.nr = ARRAY_SIZE(f.stat);
	EXPECT_EQ(77, io_uring_dmabuf_stat(getpid(), find, &f));

	PROGRAM(p, "stat", "-p", self->pid);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->out, "COPIED-BYTES")) SAID(p);
	EXPECT_NE(NULL, strstr(p->out, f.stat[0].map.device)) SAID(p);
	/* among all processes, too */
	PROGRAM(p, "stat", "--json");
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_EQ(2, nr_buffers(p)) SAID(p);
}

/* A socket that no card is behind: every byte is copied, and that is told */
TEST_F(stat, copies)
{
	struct net_pair pair = NET_PAIR_NONE;
	struct program *p = &self->p;
	struct netrig net;
	char data[1000];
	bool copied;

	NETRIG_UP(&net, NULL, MEM_BAR, SIZE);
	/* which the CPU cannot read */
	mem_destroy(&net.mem);
	ASSERT_EQ(0, mem_create(&net.mem, MEM_UDMABUF, SIZE));
	ASSERT_EQ(0, net_local("127.0.0.1", &pair));
	ASSERT_EQ(0, net_reg(&net, 0, net.mem.fd, pair.tx, IO_REGBUF_DMABUF_COPY_OK));
	ASSERT_EQ(1000, net_send_sync(&net, pair.tx, 0, 0, 1000, 0, &copied));
	EXPECT_TRUE(copied);
	ASSERT_EQ(1000, net_recv_again(pair.rx, data, 1000, MSG_WAITALL));
	PROGRAM(p, "stat", "--json", "-p", self->pid);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	ASSERT_EQ(1, nr_buffers(p)) SAID(p);
	EXPECT_EQ(1000, number(p, 0, "copied_bytes"));
	EXPECT_STREQ("", word(p, 0, "device"));
	net_close(&pair);
	netrig_down(&net);
}

/* The last line of several */
static json_t *last_line(const char *out)
{
	const char *line = out, *next;

	while ((next = strchr(line, '\n')) && next[1])
		line = next + 1;
	return json_loads(line, 0, NULL);
}

/* To its very end, and its exit code is passed on */
TEST_F(stat, of_a_program)
{
	struct program *p = &self->p;
	const char *reader = strdup(program_sibling("reader"));

	PROGRAM(p, "stat", "--json", "--", reader, lab_env("LAB_NVME_MAIN"), "7", "5");
	EXPECT_EQ(5, program_run(p)) SAID(p);
	ASSERT_EQ(1, nr_buffers(p)) SAID(p);
	EXPECT_EQ(7, number(p, 0, "commands"));
	EXPECT_EQ(2, number(p, 0, "slot"));
	EXPECT_EQ(65536, number(p, 0, "size"));

	PROGRAM(p, "stat", "--json", "-i", "0.2", "--", reader, lab_env("LAB_NVME_MAIN"), "8", "0");
	EXPECT_EQ(0, program_run(p)) SAID(p);
	/* several objects are no JSON document */
	EXPECT_EQ(NULL, p->json);
	p->json = last_line(p->out);
	ASSERT_EQ(1, nr_buffers(p)) SAID(p);
	EXPECT_EQ(8, number(p, 0, "commands"));

	/* what it dies of is passed on, too */
	PROGRAM(p, "stat", "--json", "--", "sh", "-c", "kill -TERM $$");
	EXPECT_EQ(128 + SIGTERM, program_run(p)) SAID(p);
	PROGRAM(p, "stat", "--", "/nowhere");
	EXPECT_EQ(127, program_run(p)) SAID(p);
}

static int as_nobody(void)
{
	return setresuid(65534, 65534, 65534);
}

TEST_F(stat, why_not)
{
	struct program *p = &self->p;

	PROGRAM(p, "stat", "-p", "4000000");
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "there is none")) SAID(p);
	PROGRAM(p, "stat", "-p", self->pid);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "no dma-buf registered")) SAID(p);
	p->before = as_nobody;
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "another user")) SAID(p);
	p->before = NULL;
	PROGRAM(p, "stat", "-p", "1", "--", "true");
	EXPECT_EQ(2, program_run(p)) SAID(p);
	PROGRAM(p, "stat", "-i", "x");
	EXPECT_EQ(2, program_run(p)) SAID(p);
	PROGRAM(p, "stat", "-p", "-1");
	EXPECT_EQ(2, program_run(p)) SAID(p);
	EXPECT_EQ(-ESRCH, io_uring_dmabuf_stat(4000000, find, NULL));
}

TEST_F(stat, json_schema)
{
	const char *schema = getenv("URING_DMABUF_SCHEMA");
	struct program *p = &self->p;
	struct rig *rig = &self->rig;

	if (!schema)
		SKIP(return, "URING_DMABUF_SCHEMA does not say where it is");
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	PROGRAM(p, "stat", "--json", "-p", self->pid);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_EQ(0, program_validate(p, schema, "stat.json")) SAID(p);
}

TEST_HARNESS_MAIN
