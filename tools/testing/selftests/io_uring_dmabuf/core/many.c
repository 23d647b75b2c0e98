// SPDX-License-Identifier: GPL-2.0
/*
 * More devices than a slot has places (IO_REGBUF_DMABUF_ON_DEMAND): those that are idle make
 * room, all are served, and what is charged is what is there.
 *
 * Wants a machine with LAB_MANY_DRIVES, drives that it may overwrite.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <linux/dma-buf-bar.h>

#include "acct.h"
#include "common.h"
#include "netio.h"

#define SIZE	(2 * MiB)
#define PIECE	(32 * KiB)
#define SEED	9300
#define PLACES	16
#define TURNS	2
#define MANY	40

/* Open drives; the first bytes of each are its own */
struct drives {
	int fd[MANY];
	unsigned int nr;
};

static int drives_open(struct drives *d)
{
	char *all, *path, *rest;
	int ret = 0;

	*d = (struct drives) { .nr = 0 };
	if (!lab_env("LAB_MANY_DRIVES"))
		return -ENOENT;
	all = strdup(lab_env("LAB_MANY_DRIVES"));
	for (path = strtok_r(all, " ", &rest); path && d->nr < MANY && !ret;
	     path = strtok_r(NULL, " ", &rest)) {
		ret = lab_open(path);
		if (ret < 0)
			break;
		d->fd[d->nr] = ret;
		ret = disk_fill(d->fd[d->nr], 0, PIECE, SEED + d->nr);
		d->nr++;
	}
	free(all);
	return ret;
}

static void drives_close(struct drives *d)
{
	lab_max_targets(0);
	while (d->nr)
		close(d->fd[--d->nr]);
}

#define DRIVES_OPEN(d) do {						\
	NEED_ENV("LAB_MANY_DRIVES");					\
	ASSERT_EQ(0, lab_max_targets(PLACES));				\
	ASSERT_EQ(0, drives_open(d));					\
	ASSERT_EQ(MANY, (d)->nr);					\
} while (0)

static struct io_uring_regbuf_desc desc_demand(int dmabuf, __u32 flags)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(dmabuf, -1);

	d.flags = IO_REGBUF_DMABUF_ON_DEMAND | flags;
	return d;
}

/* Of the slot, with those that are gone and have a place still */
static int targets(struct uring *r)
{
	struct io_uring_query_regbuf_map q;
	int ret = query_map(r, 0, 0, &q);

	return ret ?: (int)q.nr_targets;
}

/* ---- reads ---- */

FIXTURE(many) {
	struct rig rig;
	struct drives drives;
};

FIXTURE_VARIANT(many) {
	enum mem_kind kind;
	unsigned int ring;
	__u32 flags;
};

FIXTURE_VARIANT_ADD(many, udmabuf) { .kind = MEM_UDMABUF };
FIXTURE_VARIANT_ADD(many, heap_defer) {
	.kind = MEM_HEAP, .ring = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN
};

/* what makes room may have no mapping at that time */
FIXTURE_VARIANT_ADD(many, heap_drop_sqpoll) {
	.kind = MEM_HEAP, .ring = IORING_SETUP_SQPOLL, .flags = IO_REGBUF_DMABUF_DROP_IDLE
};

FIXTURE_SETUP(many)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d;

	DRIVES_OPEN(&self->drives);
	RIG_UP(rig, "LAB_NVME_MAIN", variant->kind, SIZE, variant->ring);
	d = desc_demand(rig->mem.fd, variant->flags);
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &d));
}

FIXTURE_TEARDOWN(many)
{
	drives_close(&self->drives);
	rig_down(&self->rig);
}

TEST_F(many, one_after_the_other)
{
	struct rig *rig = &self->rig;
	struct drives *d = &self->drives;

	/* the last ones have made room before */
	for (unsigned int i = 0; i < MANY + PLACES; i++) {
		unsigned int known = i < PLACES ? i + 1 : PLACES;

		ASSERT_EQ(0, rig_works(rig, d->fd[i % MANY], 0));
		ASSERT_EQ(known, targets(&rig->ring));
		/* what made room goes when its commands are done, and they are */
		ASSERT_TRUE(bufinfo_wait(rig->mem.fd, known, 10000));
	}
	ASSERT_EQ(0, reg_clear(&rig->ring, 0));
	EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 0, 10000));
}

/*
 * A read of each drive at any time, until each has done as many as it has turns; or for a
 * minute. What each has done; or -errno
 */
static int all_read(struct rig *rig, struct drives *d, unsigned int *done)
{
	unsigned int pending = 0, served = 0;
	double end = lab_now() + 60;
	struct uring_res res;
	int ret;

	for (unsigned int i = 0; i < MANY; i++, pending++)
		uring_prep_rw(&rig->ring, IORING_OP_READ_FIXED, d->fd[i], 0, i * PIECE, PIECE, 0)
			->user_data = i;
	while (pending) {
		ret = uring_submit(&rig->ring, 0);
		if (ret >= 0)
			ret = uring_wait(&rig->ring, &res, 60000);
		if (ret < 0)
			return ret;
		pending--;
		if (res.res != (int)PIECE) {
			fprintf(stderr, "# drive %llu: %d\n", res.user_data, res.res);
			return res.res < 0 ? res.res : -EIO;
		}
		served += ++done[res.user_data] == TURNS;
		if (served == MANY || lab_now() > end)
			continue;
		uring_prep_rw(&rig->ring, IORING_OP_READ_FIXED, d->fd[res.user_data], 0,
			      res.user_data * PIECE, PIECE, 0)->user_data = res.user_data;
		pending++;
	}
	return 0;
}

/* Those that are busy take places from each other: none waits for ever, none fails */
TEST_F(many, all_at_once)
{
	struct rig *rig = &self->rig;
	unsigned int done[MANY] = { 0 };

	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	ASSERT_EQ(0, all_read(rig, &self->drives, done));
	for (unsigned int i = 0; i < MANY; i++) {
		EXPECT_LE(TURNS, done[i]) {
			TH_LOG("drive %u: %u reads", i, done[i]);
		}
		EXPECT_EQ(NO_MISMATCH, mem_check(&rig->mem, i * PIECE, 0, PIECE, SEED + i));
	}
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&rig->mem, MANY * PIECE, SIZE - MANY * PIECE,
						POISON));
	EXPECT_EQ(PLACES, targets(&rig->ring));
	EXPECT_TRUE(bufinfo_wait(rig->mem.fd, PLACES, 10000));
}

/* ---- what is charged ---- */

static struct drives drives;

static int read_drive(struct acct *a, unsigned int i)
{
	return uring_read(&a->ring, drives.fd[i], 0, 64 * KiB, 4096, 0);
}

/* As many tables as there are places, to the page, whoever has them */
static int tables_child(struct acct *a, __u32 flags)
{
	struct io_uring_regbuf_desc d = desc_demand(a->mem.fd, flags);
	__u64 before = acct_locked(a);

	CHECK(!reg_one(&a->ring, 0, &d));
	for (unsigned int i = 0; i < MANY; i++) {
		unsigned int nr = i < PLACES ? i + 1 : PLACES;

		CHECK(read_drive(a, i) == 4096);
		CHECK(acct_locked_becomes(a, before + nr * a->table));
	}
	/* what makes room is there until it is not: both have to fit */
	CHECK(!acct_limit(before + PLACES * a->table));
	CHECK(read_drive(a, 0) == -ENOMEM);
	CHECK(read_drive(a, MANY - 1) == 4096);
	CHECK(!acct_limit(before + (PLACES + 1) * a->table));
	for (unsigned int i = 0; i < PLACES; i++)
		CHECK(read_drive(a, i) == 4096);
	CHECK(!acct_limit(8 * MiB));
	CHECK(acct_locked_becomes(a, before + PLACES * a->table));
	CHECK(!reg_clear(&a->ring, 0));
	CHECK(acct_locked_becomes(a, before));
	return 0;
}

static int keeping_child(struct acct *a)
{
	return tables_child(a, 0);
}

/* A table that was given back comes back: it is charged all the time */
static int dropping_child(struct acct *a)
{
	return tables_child(a, IO_REGBUF_DMABUF_DROP_IDLE);
}

TEST(tables)
{
	struct acct a;

	DRIVES_OPEN(&drives);
	ASSERT_EQ(0, acct_up(&a, MEM_HEAP, drives.fd[0]));
	EXPECT_EQ(0, acct_run(keeping_child, &a));
	EXPECT_TRUE(bufinfo_wait(a.mem.fd, 0, 10000));
	EXPECT_EQ(0, acct_run(dropping_child, &a));
	EXPECT_TRUE(bufinfo_wait(a.mem.fd, 0, 10000));
	acct_down(&a);
	drives_close(&drives);
}

/* ---- a card among them ---- */

static int sockets[2];		/* by the card, and by loopback, whose sends are copied */
static __u64 card_table;

/* A send that has left altogether */
static int send_one(struct acct *a, int fd, bool *copied)
{
	struct io_uring_sqe *sqe;
	struct uring_res res;
	int ret;

	sqe = uring_prep_rw(&a->ring, IORING_OP_SEND_ZC, fd, 0, 0, 1000, 0);
	sqe->ioprio = IORING_RECVSEND_FIXED_BUF | IORING_SEND_ZC_SINGLE_CQE |
		      IORING_SEND_ZC_REPORT_USAGE;
	ret = uring_submit(&a->ring, 0);
	if (ret == 1)
		ret = uring_wait(&a->ring, &res, net_patience());
	if (ret)
		return ret;
	*copied = res.flags & IORING_CQE_F_ZC_COPIED;
	return res.res;
}

/* RAM: pinned for the card, and free when that has made room */
static int ram_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_demand(a->mem.fd, 0);
	__u64 before = acct_locked(a);
	bool copied;

	CHECK(!reg_one(&a->ring, 0, &d));
	CHECK(send_one(a, sockets[0], &copied) == 1000 && !copied);
	CHECK(acct_locked_becomes(a, before + ACCT_SIZE + card_table));
	for (unsigned int i = 0; i < PLACES; i++)
		CHECK(read_drive(a, i) == 4096);
	CHECK(acct_locked_becomes(a, before + PLACES * a->table));
	return 0;
}

/*
 * Memory of a device, pinned there for the card, costs nothing. It may move when the card has
 * made room, and is charged from then on, as a copy would pin it wherever it is
 */
static int device_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_demand(a->mem.fd, IO_REGBUF_DMABUF_COPY_OK);
	__u64 before = acct_locked(a);
	bool copied;

	CHECK(!reg_one(&a->ring, 0, &d));
	CHECK(acct_locked(a) == before + ACCT_SIZE);
	CHECK(send_one(a, sockets[0], &copied) == 1000 && !copied);
	CHECK(acct_locked_becomes(a, before + card_table));
	for (unsigned int i = 0; i < PLACES; i++)
		CHECK(read_drive(a, i) == 4096);
	/* the device that took its place has charged it */
	CHECK(acct_locked_becomes(a, before + PLACES * a->table + ACCT_SIZE));
	for (unsigned int i = 0; i < 2; i++)
		CHECK(send_one(a, sockets[1], &copied) == 1000 && copied);
	CHECK(!acct_limit(16 * MiB));
	CHECK(acct_locked_becomes(a, before + PLACES * a->table + ACCT_SIZE));
	CHECK(!reg_clear(&a->ring, 0));
	CHECK(acct_locked_becomes(a, before));
	return 0;
}

/* @mem, of ACCT_SIZE, for a drive and the card */
static int card_up(struct acct *a, enum mem_kind kind)
{
	int ret;

	*a = (struct acct) { .mem.fd = -1, .tiny.fd = -1, .target = drives.fd[0] };
	if (kind == MEM_BAR)
		ret = mem_create_bar(&a->mem, ACCT_SIZE, DMA_BUF_BAR_VMAP, 0);
	else
		ret = net_mem(&a->mem, kind, ACCT_SIZE);
	if (!ret)
		ret = mem_create(&a->tiny, MEM_UDMABUF, 4096);
	if (!ret)
		ret = acct_tables(a->mem.fd, &a->target, 1, &a->table);
	if (!ret)
		ret = acct_tables(a->mem.fd, &sockets[0], 1, &card_table);
	return ret ?: mem_fill(&a->mem, 0, 0, ACCT_SIZE, SEED);
}

TEST(card_makes_room)
{
	static int (* const child[])(struct acct *a) = { ram_child, device_child };
	const struct piece p[] = { { SEED, 0, 1000 }, { SEED, 0, 1000 } };
	struct net_pair tcp = NET_PAIR_NONE, local = NET_PAIR_NONE;
	struct netrig n;
	struct acct a;

	DRIVES_OPEN(&drives);
	NETRIG_UP(&n, "e1000e", MEM_UDMABUF, 0);
	ASSERT_EQ(0, net_tcp(&n, AF_INET, &tcp));
	ASSERT_EQ(0, net_local("127.0.0.1", &local));
	sockets[0] = tcp.tx;
	sockets[1] = local.tx;
	for (unsigned int i = 0; i < ARRAY_SIZE(child); i++) {
		ASSERT_EQ(0, card_up(&a, i ? MEM_BAR : MEM_UDMABUF));
		EXPECT_EQ(0, acct_run(child[i], &a));
		EXPECT_EQ(0, net_recv(tcp.rx, p, 1));
		EXPECT_TRUE(bufinfo_wait(a.mem.fd, 0, net_patience()));
		acct_down(&a);
	}
	/* what did not fit was not sent */
	EXPECT_EQ(0, net_recv(local.rx, p, 2));
	net_close(&local);
	net_close(&tcp);
	netrig_down(&n);
	drives_close(&drives);
}

TEST_HARNESS_MAIN
