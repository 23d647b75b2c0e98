// SPDX-License-Identifier: GPL-2.0
/*
 * Memory first, files later: a slot that is registered for no device gets those of the files
 * that are read and written (IO_REGBUF_DMABUF_ON_DEMAND).
 */
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <linux/loop.h>

#include "acct.h"
#include "cdev.h"
#include "common.h"
#include "mover.h"
#include "nvme.h"

#define SIZE	(1 * MiB)
#define SEED	8900

FIXTURE(demand) {
	struct rig rig;
};

FIXTURE_VARIANT(demand) {
	enum mem_kind kind;
	unsigned int ring;
};

FIXTURE_VARIANT_ADD(demand, udmabuf) { .kind = MEM_UDMABUF };
FIXTURE_VARIANT_ADD(demand, bar_defer) {
	.kind = MEM_BAR, .ring = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN
};

FIXTURE_VARIANT_ADD(demand, heap_sqpoll) { .kind = MEM_HEAP, .ring = IORING_SETUP_SQPOLL };
FIXTURE_VARIANT_ADD(demand, bar_iopoll) { .kind = MEM_BAR_64K, .ring = IORING_SETUP_IOPOLL };

/* Slot 0 */
static int reg_demand(struct uring *r, int dmabuf, __u32 flags)
{
	return reg_flags(r, 0, dmabuf, -1, IO_REGBUF_DMABUF_ON_DEMAND | flags);
}

FIXTURE_SETUP(demand)
{
	struct rig *rig = &self->rig;

	RIG_UP(rig, "LAB_NVME_MAIN", variant->kind, SIZE, variant->ring);
	ASSERT_EQ(0, reg_demand(&rig->ring, rig->mem.fd, 0));
}

FIXTURE_TEARDOWN(demand)
{
	rig_down(&self->rig);
}

/* Of the device that the slot has as number @i */
static __u64 maps(struct rig *rig, unsigned int i)
{
	struct io_uring_query_regbuf_map q;

	return query_map(&rig->ring, 0, i, &q) ? ~0ULL : q.maps;
}

static int targets(struct rig *rig)
{
	struct io_uring_query_regbuf_map q;
	int ret = query_map(&rig->ring, 0, 0, &q);

	return ret ?: (int)q.nr_targets;
}

TEST_F(demand, nothing_until_the_first_read)
{
	struct rig *rig = &self->rig;
	struct io_uring_query_regbuf_map q;

	EXPECT_EQ(0, bufinfo_attachments(rig->mem.fd));
	ASSERT_EQ(0, query_map(&rig->ring, 0, 0, &q));
	EXPECT_EQ(0, q.nr_targets);
	EXPECT_EQ(IO_REGBUF_DMABUF_ON_DEMAND, q.flags & IO_REGBUF_DMABUF_ON_DEMAND);
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	EXPECT_EQ(1, bufinfo_attachments(rig->mem.fd));
	EXPECT_EQ(1, targets(rig));
	/* and once is enough */
	for (unsigned int i = 0; i < 20; i++)
		ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	EXPECT_EQ(1, maps(rig, 0));
	EXPECT_EQ(1, targets(rig));
	ASSERT_EQ(0, reg_clear(&rig->ring, 0));
	EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 0, 10000));
}

TEST_F(demand, any_file)
{
	struct rig *rig = &self->rig;
	int p3 = NEED_PART(3), mp = NEED_DISK("LAB_NVME_MP");
	int meta = lab_env("LAB_NVME_META") ? lab_open(lab_env("LAB_NVME_META")) : -1;

	ASSERT_EQ(0, rig_works(rig, p3, 0));
	EXPECT_EQ(1, targets(rig));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	EXPECT_EQ(2, targets(rig));
	/* both paths, whichever is used */
	ASSERT_EQ(0, rig_works(rig, mp, 0));
	EXPECT_EQ(4, targets(rig));
	ASSERT_EQ(0, rig_works(rig, p3, 0));
	for (unsigned int i = 0; i < 4; i++)
		EXPECT_EQ(1, maps(rig, i));
	if (meta >= 0)
		close(meta);
	close(mp);
	close(p3);
}

/* And one on a file system, whose disk is what counts */
TEST_F(demand, files)
{
	struct rig *rig = &self->rig;
	static const char * const where[] = { "LAB_EXT4", "LAB_XFS" };
	int p3 = NEED_PART(3);

	for (unsigned int i = 0; i < ARRAY_SIZE(where); i++) {
		char path[160];
		int fd;

		ASSERT_EQ(0, reg_demand(&rig->ring, rig->mem.fd, 0));
		EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 0, 10000));
		snprintf(path, sizeof(path), "%s/iou-dmabuf-demand", NEED_ENV(where[i]));
		fd = open(path, O_RDWR | O_DIRECT | O_CREAT | O_CLOEXEC, 0600);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, disk_fill(fd, 0, SIZE, SEED));
		ASSERT_EQ(0, rig_works(rig, fd, 0));
		EXPECT_EQ(1, targets(rig));
		/* both are on the same drive */
		ASSERT_EQ(0, rig_works(rig, p3, 0));
		EXPECT_EQ(1, targets(rig));
		EXPECT_EQ(1, maps(rig, 0));
		close(fd);
		unlink(path);
	}
	close(p3);
}

static int read_nowait(struct rig *rig, int fd)
{
	uring_prep_rw(&rig->ring, IORING_OP_READ_FIXED, fd, 0, 0, 4096, 0)->rw_flags = RWF_NOWAIT;
	return uring_do(&rig->ring);
}

/* Who must not wait is told to come back, and does not wait for others' sake, either */
TEST_F(demand, nowait)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, disk_fill(rig->disk, 0, 4096, SEED));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, 4096, POISON));
	for (unsigned int i = 0; i < 3; i++) {
		EXPECT_EQ(-EAGAIN, read_nowait(rig, rig->disk));
		EXPECT_EQ(0, targets(rig));
		EXPECT_EQ(0, bufinfo_attachments(rig->mem.fd));
	}
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&rig->mem, 0, 4096, POISON));
	EXPECT_EQ(4096, uring_read(&rig->ring, rig->disk, 0, 0, 4096, 0));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, 4096, POISON));
	EXPECT_EQ(4096, read_nowait(rig, rig->disk));
	EXPECT_EQ(NO_MISMATCH, mem_check(&rig->mem, 0, 0, 4096, SEED));
	EXPECT_EQ(1, maps(rig, 0));
}

/* Named ones first, and more by name */
TEST_F(demand, beside_named_ones)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d;
	int p3 = NEED_PART(3), mp = NEED_DISK("LAB_NVME_MP");

	ASSERT_EQ(0, reg_flags(&rig->ring, 0, rig->mem.fd, rig->disk,
			       IO_REGBUF_DMABUF_ON_DEMAND));
	EXPECT_EQ(1, targets(rig));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	ASSERT_EQ(0, rig_works(rig, p3, 0));
	EXPECT_EQ(2, targets(rig));
	d = desc_add(mp);
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &d));
	EXPECT_EQ(4, targets(rig));
	ASSERT_EQ(0, rig_works(rig, mp, 0));
	EXPECT_EQ(1, maps(rig, 0));
	close(mp);
	close(p3);
}

/* Many at once, to two drives that the slot does not know: attached once each */
TEST_F(demand, all_at_once)
{
	struct rig *rig = &self->rig;
	int p3 = NEED_PART(3);
	struct uring_res res;

	ASSERT_EQ(0, disk_fill(rig->disk, 0, SIZE, SEED));
	ASSERT_EQ(0, disk_fill(p3, 0, SIZE, SEED + 1));
	for (unsigned int i = 0; i < 32; i++)
		uring_prep_rw(&rig->ring, IORING_OP_READ_FIXED, i & 1 ? p3 : rig->disk,
			      i * 32 * KiB, i * 32 * KiB, 32 * KiB, 0);
	ASSERT_LE(0, uring_submit(&rig->ring, 0));
	for (unsigned int i = 0; i < 32; i++) {
		ASSERT_EQ(0, uring_wait(&rig->ring, &res, 60000));
		EXPECT_EQ(32 * KiB, res.res);
	}
	for (unsigned int i = 0; i < 32; i++)
		EXPECT_EQ(NO_MISMATCH, mem_check(&rig->mem, i * 32 * KiB, i * 32 * KiB,
						 32 * KiB, SEED + (i & 1)));
	EXPECT_EQ(2, targets(rig));
	EXPECT_EQ(1, maps(rig, 0));
	EXPECT_EQ(1, maps(rig, 1));
	EXPECT_EQ(2, bufinfo_attachments(rig->mem.fd));
	close(p3);
}

/* A drive that cannot says why, each time, and the others go on */
TEST_F(demand, files_that_cannot)
{
	struct rig *rig = &self->rig;
	char path[32];
	int loop = lab_loop(path, sizeof(path)), cached, pipes[2];
	/* those rings refuse themselves what cannot be polled */
	bool polled = variant->ring & IORING_SETUP_IOPOLL;

	ASSERT_EQ(0, pipe(pipes));
	for (unsigned int i = 0; i < 2; i++) {
		if (loop >= 0)
			EXPECT_EQ(-EOPNOTSUPP, uring_read(&rig->ring, loop, 0, 0, 4096, 0));
		EXPECT_EQ(polled ? -EOPNOTSUPP : -EBADF,
			  uring_read(&rig->ring, pipes[0], 0, 0, 4096, 0));
	}
	cached = open(NEED_ENV("LAB_NVME_MAIN"), O_RDWR);
	ASSERT_LE(0, cached);
	EXPECT_EQ(polled ? -EOPNOTSUPP : -EINVAL,
		  uring_read(&rig->ring, cached, 0, 0, 4096, 0));
	EXPECT_EQ(0, targets(rig));
	EXPECT_EQ(0, bufinfo_attachments(rig->mem.fd));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	if (loop >= 0) {
		ioctl(loop, LOOP_CLR_FD);
		close(loop);
	}
	close(cached);
	close(pipes[0]);
	close(pipes[1]);
}

/* The drive goes and comes back, as for named ones */
TEST_F(demand, drive_comes_back)
{
	struct rig *rig = &self->rig;
	const char *pci = NEED_ENV("LAB_PCI_MAIN");

	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	close(rig->disk);
	ASSERT_EQ(0, nvme_unbind(pci));
	EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 0, 10000));
	ASSERT_EQ(0, nvme_bind(pci));
	rig->disk = nvme_wait_disk(pci);
	ASSERT_LE(0, rig->disk);
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	EXPECT_EQ(1, targets(rig));
}

TEST_F(demand, passthrough)
{
	struct rig *rig = &self->rig;
	struct cdev dev;

	if (variant->ring & IORING_SETUP_IOPOLL)
		SKIP(return, "the drive has no queues that are polled");
	uring_exit(&rig->ring);
	ASSERT_EQ(0, uring_init(&rig->ring, 64, variant->ring | CDEV_RING));
	ASSERT_EQ(0, reg_sparse(&rig->ring, RIG_SLOTS));
	ASSERT_EQ(0, reg_demand(&rig->ring, rig->mem.fd, 0));
	ASSERT_EQ(0, cdev_open(&dev, NEED_ENV("LAB_NG_MAIN"), rig->disk));
	ASSERT_EQ(0, disk_fill(rig->disk, 0, 64 * KiB, SEED));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	for (unsigned int i = 0; i < 3; i++)
		EXPECT_EQ(0, cdev_io(&rig->ring, &dev, NVME_READ, 0, 4096, 64 * KiB));
	EXPECT_EQ(NO_MISMATCH, mem_check_only(&rig->mem, 4096, 0, 64 * KiB, SEED));
	EXPECT_EQ(1, targets(rig));
	EXPECT_EQ(1, maps(rig, 0));
	close(dev.fd);
}

/* ---- what a registration checks, the first I/O checks ---- */

TEST(only_peer_to_peer)
{
	struct rig rig;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_UDMABUF, SIZE, 0);
	ASSERT_EQ(0, reg_demand(&rig.ring, rig.mem.fd, IO_REGBUF_DMABUF_REQUIRE_P2P));
	EXPECT_EQ(-EREMOTEIO, uring_read(&rig.ring, rig.disk, 0, 0, 4096, 0));
	EXPECT_EQ(0, targets(&rig));
	EXPECT_TRUE(bufinfo_wait(rig.mem.fd, 0, 10000));
	rig_down(&rig);
}

TEST(direction)
{
	struct rig rig;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_UDMABUF, SIZE, 0);
	ASSERT_EQ(0, reg_demand(&rig.ring, rig.mem.fd, IO_REGBUF_DMABUF_RDONLY));
	EXPECT_EQ(-EFAULT, uring_read(&rig.ring, rig.disk, 0, 0, 4096, 0));
	EXPECT_EQ(0, targets(&rig));
	EXPECT_EQ(4096, uring_write(&rig.ring, rig.disk, 0, 0, 4096, 0));
	EXPECT_EQ(1, targets(&rig));
	rig_down(&rig);
}

/* Without the flag it is as it was: a target, or an error, at registration */
TEST(without_the_flag)
{
	struct rig rig;
	struct io_uring_regbuf_desc d;
	int p3;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_UDMABUF, SIZE, 0);
	p3 = NEED_PART(3);
	EXPECT_EQ(-EBADF, reg_dmabuf(&rig.ring, 0, rig.mem.fd, -1));
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk));
	EXPECT_EQ(-EBADF, uring_read(&rig.ring, p3, 0, 0, 4096, 0));
	EXPECT_EQ(-EBADF, read_nowait(&rig, p3));
	/* nor is it anything that could be added to a slot */
	d = desc_add(p3);
	d.flags |= IO_REGBUF_DMABUF_ON_DEMAND;
	EXPECT_EQ(-EINVAL, reg_one(&rig.ring, 0, &d));
	close(p3);
	rig_down(&rig);
}

/* A table is charged when it is made, and the I/O that it is made for fails without room */
static int charged_child(struct acct *a)
{
	__u64 before = acct_locked(a);

	CHECK(!reg_demand(&a->ring, a->mem.fd, 0));
	CHECK(acct_locked(a) == before);
	CHECK(!acct_limit(before));
	CHECK(uring_read(&a->ring, a->target, 0, 0, 4096, 0) == -ENOMEM);
	CHECK(acct_locked_becomes(a, before));
	CHECK(!acct_limit(before + a->table));
	CHECK(uring_read(&a->ring, a->target, 0, 0, 4096, 0) == 4096);
	CHECK(!acct_limit(8 * MiB));
	CHECK(acct_locked(a) == before + a->table);
	CHECK(!reg_clear(&a->ring, 0));
	CHECK(acct_locked_becomes(a, before));
	return 0;
}

/* Pinned memory is charged when a device has it pinned */
static int pinned_child(struct acct *a)
{
	__u64 before = acct_locked(a);

	CHECK(!reg_demand(&a->ring, a->mem.fd, IO_REGBUF_DMABUF_PIN));
	CHECK(acct_locked(a) == before);
	CHECK(!acct_limit(before + ACCT_SIZE));
	CHECK(uring_read(&a->ring, a->target, 0, 0, 4096, 0) == -ENOMEM);
	CHECK(!acct_limit(before + ACCT_SIZE + a->table));
	CHECK(uring_read(&a->ring, a->target, 0, 0, 4096, 0) == 4096);
	CHECK(!acct_limit(16 * MiB));
	CHECK(acct_locked(a) == before + ACCT_SIZE + a->table);
	return 0;
}

TEST(memlock)
{
	struct acct a;
	int disk = NEED_DISK("LAB_NVME_MAIN");

	ASSERT_EQ(0, acct_up(&a, MEM_HEAP, disk));
	EXPECT_EQ(0, acct_run(charged_child, &a));
	EXPECT_TRUE(bufinfo_wait(a.mem.fd, 0, 10000));
	EXPECT_EQ(0, acct_run(pinned_child, &a));
	EXPECT_TRUE(bufinfo_wait(a.mem.fd, 0, 10000));
	acct_down(&a);
	close(disk);
}

/* ---- while others do as they like ---- */

/*
 * A path goes while it, or the other one, is attached: the exporter takes its time. Nobody
 * has named it, and the one that is left does
 */
TEST(path_goes)
{
	struct uring_res res;
	struct rig rig;
	char pci[64];

	RIG_UP(&rig, "LAB_NVME_MP", MEM_BAR, SIZE, 0);
	ASSERT_EQ(0, disk_fill(rig.disk, 0, 4096, SEED));
	for (int i = 0; i < 2; i++) {
		ASSERT_TRUE(nvme_shared_pci(i, pci, sizeof(pci)));
		ASSERT_EQ(0, reg_demand(&rig.ring, rig.mem.fd, 0));
		EXPECT_TRUE(bufinfo_wait(rig.mem.fd, 0, 10000));
		ASSERT_EQ(0, mem_poison(&rig.mem, 0, 4096, POISON));
		ASSERT_EQ(0, bar_fence(&rig.mem, 1));
		uring_prep_rw(&rig.ring, IORING_OP_READ_FIXED, rig.disk, 0, 0, 4096, 0);
		ASSERT_EQ(1, uring_submit(&rig.ring, 0));
		ASSERT_EQ(-ETIME, uring_wait(&rig.ring, &res, 300));
		ASSERT_EQ(0, nvme_unbind(pci));
		ASSERT_EQ(0, bar_fence(&rig.mem, 0));
		ASSERT_EQ(0, uring_wait(&rig.ring, &res, 20000));
		EXPECT_EQ(4096, res.res);
		EXPECT_EQ(NO_MISMATCH, mem_check(&rig.mem, 0, 0, 4096, SEED));
		EXPECT_EQ(1, targets(&rig));
		EXPECT_TRUE(bufinfo_wait(rig.mem.fd, 1, 10000));
		ASSERT_EQ(0, nvme_bind(pci));
		ASSERT_TRUE(nvme_wait_paths(2));
		ASSERT_EQ(0, rig_works(&rig, rig.disk, 0));
	}
	rig_down(&rig);
}

struct registrar {
	struct uring *ring;
	int fd;
	bool stop;
	unsigned int rounds;
	int error;
	pthread_t thread;
};

static void *registrar(void *arg)
{
	struct registrar *r = arg;

	while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE) && !r->error) {
		r->error = reg_demand(r->ring, r->fd, 0);
		r->rounds++;
	}
	return NULL;
}

/*
 * The slot is made anew all the time, and the exporter moves the memory: each read
 * attaches to what is there, and has its bytes
 */
TEST(races)
{
	unsigned int reads = lab_scale(400, 100);
	struct registrar r = { 0 };
	struct mover mover;
	struct rig rig;
	int p3;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_BAR_4K, SIZE, 0);
	p3 = NEED_PART(3);
	r.ring = &rig.ring;
	r.fd = rig.mem.fd;
	ASSERT_EQ(0, reg_demand(&rig.ring, rig.mem.fd, 0));
	mover = (struct mover) { .mem = &rig.mem, .nr_places = 3, .rest_ms = 20 };
	ASSERT_EQ(0, disk_fill(rig.disk, 0, SIZE, SEED));
	ASSERT_EQ(0, disk_fill(p3, 0, SIZE, SEED + 1));
	ASSERT_EQ(0, pthread_create(&r.thread, NULL, registrar, &r));
	ASSERT_EQ(0, mover_start(&mover));
	for (unsigned int i = 0; i < reads; i++) {
		__u64 off = i % 32 * 32 * KiB;

		ASSERT_EQ(32 * KiB, uring_read(&rig.ring, i & 1 ? p3 : rig.disk, off, off,
					       32 * KiB, 0));
	}
	mover_stop(&mover);
	EXPECT_EQ(0, mover.error);
	__atomic_store_n(&r.stop, true, __ATOMIC_RELEASE);
	pthread_join(r.thread, NULL);
	EXPECT_EQ(0, r.error);
	EXPECT_LT(0, r.rounds);
	/* the last two rounds of them */
	for (unsigned int i = 0; i < 32; i++) {
		__u64 off = i * 32 * KiB;

		ASSERT_EQ(32 * KiB, uring_read(&rig.ring, i & 1 ? p3 : rig.disk, off, off,
					       32 * KiB, 0));
		EXPECT_EQ(NO_MISMATCH, mem_check(&rig.mem, off, off, 32 * KiB, SEED + (i & 1)));
	}
	/* those that were replaced go, too: what is left is the slot's */
	EXPECT_TRUE(bufinfo_wait(rig.mem.fd, 2, 10000));
	ASSERT_EQ(0, reg_clear(&rig.ring, 0));
	EXPECT_TRUE(bufinfo_wait(rig.mem.fd, 0, 10000));
	close(p3);
	rig_down(&rig);
}

TEST_HARNESS_MAIN
