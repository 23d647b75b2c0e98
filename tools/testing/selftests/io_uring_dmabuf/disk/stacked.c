// SPDX-License-Identifier: GPL-2.0
/*
 * Disks that are made of drives: volumes of device mapper, and RAID0 of it and of MD. A slot
 * for one is attached to all drives below it.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <linux/blkpg.h>
#include <linux/dma-buf-bar.h>

#include "common.h"
#include "mix.h"
#include "mover.h"
#include "stack.h"

#define SIZE	(2 * MiB)
#define AREA	(32 * MiB)	/* of each drive */
#define START	(1 * MiB)	/* where it begins there */
#define CHUNK	(64 * KiB)
#define SEED	9700
#define DM	"iou-dmabuf"
#define MD	7

enum shape { LINEAR, CONCAT, STRIPED, RAID0, RAID0_ON_DM, DM_ON_RAID0 };

static bool has_md(enum shape shape)
{
	return shape == RAID0 || shape == RAID0_ON_DM || shape == DM_ON_RAID0;
}

/* One drive with one controller, and one with two */
static const char *drives[2];

static struct dm_line on(unsigned int drive)
{
	struct dm_line line = { .sectors = AREA / SECTOR, .target = "linear" };

	snprintf(line.args, sizeof(line.args), "%s %llu", drives[drive], START / SECTOR);
	return line;
}

static struct dm_line striped(__u64 chunk)
{
	struct dm_line line = { .sectors = 2 * AREA / SECTOR, .target = "striped" };

	snprintf(line.args, sizeof(line.args), "2 %llu %s %llu %s %llu", chunk / SECTOR,
		 drives[0], START / SECTOR, drives[1], START / SECTOR);
	return line;
}

static int raid0_on_dm(char *path, size_t len)
{
	const char *members[2];
	char dm[2][32];
	struct dm_line line;
	int ret = 0;

	for (unsigned int i = 0; i < 2 && !ret; i++) {
		line = on(i);
		ret = dm_create(i ? DM "-b" : DM "-a", &line, 1, dm[i], sizeof(dm[i]));
		members[i] = dm[i];
	}
	return ret ?: md_build(MD, 0, CHUNK, members, 2, path, len);
}

static int make(enum shape shape, char *path, size_t len)
{
	struct dm_line lines[2] = { on(0), on(1) };
	char md[32];
	int ret;

	switch (shape) {
	case LINEAR:
		return dm_create(DM, lines, 1, path, len);
	case CONCAT:
		return dm_create(DM, lines, 2, path, len);
	case STRIPED:
		lines[0] = striped(CHUNK);
		return dm_create(DM, lines, 1, path, len);
	case RAID0:
		return md_build(MD, 0, CHUNK, drives, 2, path, len);
	case RAID0_ON_DM:
		return raid0_on_dm(path, len);
	case DM_ON_RAID0:
		ret = md_build(MD, 0, CHUNK, drives, 2, md, sizeof(md));
		lines[0] = (struct dm_line) { .sectors = 2 * AREA / SECTOR, .target = "linear" };
		snprintf(lines[0].args, sizeof(lines[0].args), "%s 0", md);
		return ret ?: dm_create(DM, lines, 1, path, len);
	}
	return -EINVAL;
}

/* All that a test may have left */
static int unmake(void)
{
	static const char *const names[] = { DM, DM "-top" };
	int ret = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++)
		ret = dm_remove(names[i]) ?: ret;
	md_stop(MD);
	ret = dm_remove(DM "-a") ?: ret;
	return dm_remove(DM "-b") ?: ret;
}

FIXTURE(stacked) {
	struct rig rig;		/* of the first drive */
	int fd;
	int leaf[2];
	char path[32];
};

FIXTURE_VARIANT(stacked) {
	enum shape shape;
	enum mem_kind kind;
	unsigned int ring;
	unsigned int leaves;
};

FIXTURE_VARIANT_ADD(stacked, linear) { LINEAR, MEM_UDMABUF, 0, 1 };
FIXTURE_VARIANT_ADD(stacked, concat) { CONCAT, MEM_BAR, IORING_SETUP_SQPOLL, 3 };
FIXTURE_VARIANT_ADD(stacked, striped) { STRIPED, MEM_BAR, 0, 3 };
FIXTURE_VARIANT_ADD(stacked, striped_scattered) {
	STRIPED, MEM_UDMABUF_4K, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, 3
};

FIXTURE_VARIANT_ADD(stacked, raid0) { RAID0, MEM_UDMABUF, 0, 3 };
FIXTURE_VARIANT_ADD(stacked, raid0_bar) { RAID0, MEM_BAR_64K, IORING_SETUP_IOPOLL, 3 };
FIXTURE_VARIANT_ADD(stacked, raid0_on_dm) { RAID0_ON_DM, MEM_BAR, 0, 3 };
FIXTURE_VARIANT_ADD(stacked, dm_on_raid0) { DM_ON_RAID0, MEM_UDMABUF, 0, 3 };

FIXTURE_SETUP(stacked)
{
	drives[0] = NEED_ENV("LAB_NVME_MAIN");
	drives[1] = NEED_ENV("LAB_NVME_MP");
	self->leaf[0] = NEED_DISK("LAB_NVME_MAIN");
	self->leaf[1] = NEED_DISK("LAB_NVME_MP");
	unmake();
	RIG_UP(&self->rig, "LAB_NVME_MAIN", variant->kind, SIZE, variant->ring);
	ASSERT_EQ(0, make(variant->shape, self->path, sizeof(self->path)));
	self->fd = lab_open(self->path);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, reg_dmabuf(&self->rig.ring, 0, self->rig.mem.fd, self->fd));
}

FIXTURE_TEARDOWN(stacked)
{
	int dmabuf = dup(self->rig.mem.fd);

	rig_down(&self->rig);
	EXPECT_TRUE(bufinfo_wait(dmabuf, 0, 10000));
	close(dmabuf);
	if (self->fd >= 0)
		close(self->fd);
	close(self->leaf[0]);
	close(self->leaf[1]);
	EXPECT_EQ(0, unmake());
}

static int targets(struct rig *rig)
{
	struct io_uring_query_regbuf_map q;
	int ret = query_map(&rig->ring, 0, 0, &q);

	return ret ?: (int)q.nr_targets;
}

/* Where a chunk of the disk is: of which drive, at which byte */
static unsigned int leaf_of(enum shape shape, __u64 off, __u64 *at)
{
	__u64 chunk = off / CHUNK, start = START;

	if (shape == LINEAR || shape == CONCAT) {
		*at = START + off % AREA;
		return off / AREA;
	}
	/* without metadata the members of MD begin at 0 */
	if (shape == RAID0 || shape == DM_ON_RAID0)
		start = 0;
	*at = start + chunk / 2 * CHUNK + off % CHUNK;
	return chunk % 2;
}

TEST_F(stacked, reads_and_writes)
{
	__u64 border = variant->shape == LINEAR ? AREA / 2 : AREA;
	struct rig *rig = &self->rig;
	struct mix mix;

	EXPECT_EQ(variant->leaves, targets(rig));
	EXPECT_EQ(variant->leaves, bufinfo_attachments(rig->mem.fd));
	ASSERT_EQ(0, rig_works(rig, self->fd, 0));
	/* more than a chunk, and the border of two targets */
	ASSERT_EQ(0, rig_read(rig, self->fd, 0, border - 300 * KiB, 4096, 1 * MiB));
	ASSERT_EQ(0, rig_write(rig, self->fd, 0, border - 300 * KiB, 4096, 1 * MiB));
	ASSERT_EQ(0, mix_init(&mix, rig, self->fd, 0, SIZE));
	/* MD asks for that, whatever the drives do */
	mix.align = 512;
	for (unsigned int i = 0; i < 4; i++) {
		ASSERT_EQ(0, mix_round(&mix, 16));
		ASSERT_EQ(0, mix_verify(&mix));
	}
	mix_free(&mix);
}

/* The drives have the bytes that they should have, and they read them from there */
TEST_F(stacked, what_is_on_the_drives)
{
	struct rig *rig = &self->rig;
	__u64 off = variant->shape == CONCAT ? AREA - SIZE / 2 : 0, at;
	unsigned int leaf;

	ASSERT_EQ(0, mem_fill(&rig->mem, 0, off, SIZE, SEED));
	ASSERT_EQ(SIZE, uring_write(&rig->ring, self->fd, off, 0, SIZE, 0));
	for (__u64 i = 0; i < SIZE; i += CHUNK) {
		leaf = leaf_of(variant->shape, off + i, &at);
		ASSERT_EQ(NO_MISMATCH, disk_check(self->leaf[leaf], at, off + i, CHUNK, SEED));
	}
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	ASSERT_EQ(SIZE, uring_read(&rig->ring, self->fd, off, 0, SIZE, 0));
	ASSERT_EQ(NO_MISMATCH, mem_check(&rig->mem, 0, off, SIZE, SEED));
}

/* Neighbours in one submission: a request has one of them, as no driver looks for more */
TEST_F(stacked, neighbours)
{
	const unsigned int nr = SIZE / CHUNK;
	struct rig *rig = &self->rig;
	struct uring_res res;

	for (unsigned int write = 0; write < 2; write++) {
		if (write) {
			ASSERT_EQ(0, mem_fill(&rig->mem, 0, 0, SIZE, SEED + 2));
			ASSERT_EQ(0, disk_poison(self->fd, 0, SIZE, POISON));
		} else {
			ASSERT_EQ(0, disk_fill(self->fd, 0, SIZE, SEED + 3));
			ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
		}
		/* every second chunk is on the same drive, behind the last */
		for (unsigned int i = 0; i < nr; i++) {
			__u64 off = (i % 2 * nr / 2 + i / 2) * CHUNK;

			uring_prep_rw(&rig->ring, write ? IORING_OP_WRITE_FIXED :
				      IORING_OP_READ_FIXED, self->fd, off, off, CHUNK, 0);
		}
		ASSERT_LE(0, uring_submit(&rig->ring, 0));
		for (unsigned int i = 0; i < nr; i++) {
			ASSERT_EQ(0, uring_wait(&rig->ring, &res, 20000));
			EXPECT_EQ(CHUNK, res.res);
		}
		EXPECT_EQ(NO_MISMATCH, write ?
			  disk_check(self->fd, 0, 0, SIZE, SEED + 2) :
			  mem_check(&rig->mem, 0, 0, SIZE, SEED + 3));
	}
}

/* Commands that used the memory, whichever drive they went to */
static __u64 commands(struct rig *rig)
{
	struct io_uring_query_regbuf_map q;
	__u64 hits = 0;

	for (int i = 0; i < targets(rig) && !query_map(&rig->ring, 0, i, &q); i++)
		hits += q.hits;
	return hits;
}

/* What other memory is cut by, so that mapping it is fast, is no limit of what is mapped */
TEST_F(stacked, long_chunks)
{
	const __u32 chunk = SIZE / 2;
	struct dm_line line = striped(chunk);
	int largest = lab_max_command(self->leaf[0]);
	struct rig *rig = &self->rig;
	__u64 before;

	if (variant->shape != STRIPED)
		return;
	ASSERT_LT(0, largest);
	ASSERT_EQ(0, dm_reload(DM, &line, 1));
	ASSERT_EQ(0, disk_fill(self->fd, 0, SIZE, SEED));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	before = commands(rig);
	ASSERT_EQ(chunk, uring_read(&rig->ring, self->fd, 0, 0, chunk, 0));
	EXPECT_EQ((chunk + largest - 1) / largest, commands(rig) - before);
	ASSERT_EQ(SIZE, uring_read(&rig->ring, self->fd, 0, 0, SIZE, 0));
	EXPECT_EQ(NO_MISMATCH, mem_check(&rig->mem, 0, 0, SIZE, SEED));
}

/* The exporter moves it, and no drive is to blame */
TEST_F(stacked, moves)
{
	struct rig *rig = &self->rig;
	struct mover m = { .mem = &rig->mem, .nr_places = 3, .rest_ms = 2 };
	char status[128];

	if (!mem_is_bar(&rig->mem))
		return;
	ASSERT_EQ(0, mover_start(&m));
	for (unsigned int i = 0; i < lab_soak(20, 2000); i++) {
		int ret = rig_works(rig, self->fd, 0);

		if (ret)
			TH_LOG("round %u", i);
		EXPECT_EQ(0, ret);
	}
	mover_stop(&m);
	EXPECT_EQ(0, m.error);
	EXPECT_LT(0, m.moves);
	if (variant->shape != STRIPED)
		return;
	ASSERT_EQ(0, dm_status(DM, status, sizeof(status)));
	EXPECT_NE(NULL, strstr(status, " AA"));
}

static int rw_nowait(struct rig *rig, int fd, __u64 off, __u32 len)
{
	uring_prep_rw(&rig->ring, IORING_OP_READ_FIXED, fd, off, 0, len, 0)->rw_flags = RWF_NOWAIT;
	return uring_do(&rig->ring);
}

/*
 * Who must not wait gets what is in one piece, as with other memory. Device mapper has
 * more of them made at once, MD leaves them to who can wait.
 */
TEST_F(stacked, nowait)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, disk_fill(self->fd, 0, 2 * CHUNK, SEED));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	EXPECT_EQ(4096, rw_nowait(rig, self->fd, 4096, 4096));
	EXPECT_EQ(NO_MISMATCH, mem_check_only(&rig->mem, 0, 4096, 4096, SEED));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	if (has_md(variant->shape)) {
		EXPECT_EQ(-EAGAIN, rw_nowait(rig, self->fd, 0, 2 * CHUNK));
		EXPECT_EQ(2 * CHUNK, uring_read(&rig->ring, self->fd, 0, 0, 2 * CHUNK, 0));
	} else {
		EXPECT_EQ(2 * CHUNK, rw_nowait(rig, self->fd, 0, 2 * CHUNK));
	}
	EXPECT_EQ(NO_MISMATCH, mem_check_only(&rig->mem, 0, 0, 2 * CHUNK, SEED));
}

/* What MD would have to split is left to who can wait before anything is made ready for it */
TEST_F(stacked, no_vain_attempt)
{
	struct rig *rig = &self->rig;
	struct counter bios;
	char filter[64];
	struct stat st;
	long long nr;

	if (variant->shape != RAID0 && variant->shape != RAID0_ON_DM)
		SKIP(return, "MD is not on top");
	ASSERT_EQ(0, fstat(self->fd, &st));
	snprintf(filter, sizeof(filter), "dev == %u",
		 major(st.st_rdev) << 20 | minor(st.st_rdev));
	ASSERT_EQ(0, counter_open(&bios, "bios"));
	ASSERT_EQ(0, counter_add(&bios, "block/block_bio_queue", filter));
	nr = counter_read(&bios);
	ASSERT_EQ(CHUNK, uring_read(&rig->ring, self->fd, 0, 0, CHUNK, 0));
	EXPECT_EQ(1, counter_read(&bios) - nr);
	ASSERT_EQ(2 * CHUNK, uring_read(&rig->ring, self->fd, 0, 0, 2 * CHUNK, 0));
	EXPECT_EQ(2, counter_read(&bios) - nr);
	ASSERT_EQ(CHUNK, uring_write(&rig->ring, self->fd, CHUNK - 4096, 0, CHUNK, 0));
	EXPECT_EQ(3, counter_read(&bios) - nr);
	counter_close(&bios);
}

/* As for other memory: MD asks for sectors, device mapper leaves it to the drive */
TEST_F(stacked, alignment)
{
	bool md = has_md(variant->shape);
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, disk_fill(self->fd, 0, 4096, SEED));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	EXPECT_EQ(md ? -EINVAL : 4096, uring_read(&rig->ring, self->fd, 0, 4, 4096, 0));
	EXPECT_EQ(NO_MISMATCH, md ? mem_check_poison(&rig->mem, 0, SIZE, POISON) :
		  mem_check_only(&rig->mem, 4, 0, 4096, SEED));
	EXPECT_EQ(-EINVAL, uring_read(&rig->ring, self->fd, 0, 0, 100, 0));
}

/* By the drives' own names it serves, too, and the other way round */
TEST_F(stacked, a_slot_is_for_drives)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, self->leaf[0]);

	ASSERT_EQ(0, rig_read(rig, self->leaf[0], 0, START, 0, 64 * KiB));
	if (variant->leaves > 1)
		ASSERT_EQ(0, rig_read(rig, self->leaf[1], 0, START, 0, 64 * KiB));
	if (variant->leaves > 1) {
		d.targets = (uintptr_t)&self->leaf[1];
		d.nr_targets = 1;
	}
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &d));
	ASSERT_EQ(0, rig_works(rig, self->fd, 0));
	EXPECT_EQ(variant->leaves, targets(rig));
}

/* One drive of several: nothing of the rest is read, or written, and it is not to blame */
TEST_F(stacked, only_one_of_the_drives)
{
	struct rig *rig = &self->rig;
	char status[128];
	__u64 at;

	if (variant->leaves == 1)
		return;
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, self->leaf[0]));
	ASSERT_EQ(0, disk_fill(self->fd, 0, SIZE, SEED));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	for (__u64 off = 0; off < 2 * AREA; off += AREA - CHUNK) {
		unsigned int leaf = leaf_of(variant->shape, off, &at);
		int ret = uring_read(&rig->ring, self->fd, off, 0, 4096, 0);

		EXPECT_EQ(leaf ? -EBADF : 4096, ret);
		if (leaf)
			EXPECT_EQ(-EBADF, rw_nowait(rig, self->fd, off, 4096));
	}
	EXPECT_EQ(1, targets(rig));
	if (variant->shape != STRIPED)
		return;
	ASSERT_EQ(0, dm_status(DM, status, sizeof(status)));
	EXPECT_NE(NULL, strstr(status, " AA"));
}

TEST_F(stacked, on_demand)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, reg_flags(&rig->ring, 0, rig->mem.fd, -1, IO_REGBUF_DMABUF_ON_DEMAND));
	EXPECT_EQ(-EAGAIN, rw_nowait(rig, self->fd, 0, 4096));
	ASSERT_EQ(0, rig_works(rig, self->fd, 0));
	EXPECT_EQ(variant->leaves, targets(rig));
}

static int partition(int disk, bool add)
{
	struct blkpg_partition part = { .start = 1 * MiB, .length = 8 * MiB, .pno = 1 };
	struct blkpg_ioctl_arg arg = {
		.op = add ? BLKPG_ADD_PARTITION : BLKPG_DEL_PARTITION,
		.datalen = sizeof(part),
		.data = &part,
	};

	return ioctl(disk, BLKPG, &arg) ? -errno : 0;
}

TEST_F(stacked, partition)
{
	struct rig *rig = &self->rig;
	char path[40];
	int fd;

	/* of mapped devices the kernel makes none */
	if (variant->shape != RAID0 && variant->shape != RAID0_ON_DM)
		return;
	ASSERT_EQ(0, partition(self->fd, true));
	snprintf(path, sizeof(path), "%sp1", self->path);
	fd = lab_open(path);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, reg_dmabuf(&rig->ring, 1, rig->mem.fd, fd));
	EXPECT_EQ(0, rig_works(rig, fd, 1));
	EXPECT_EQ(0, rig_write(rig, fd, 1, 64 * KiB, 0, 256 * KiB));
	EXPECT_EQ(NO_MISMATCH, disk_check(self->fd, 1 * MiB + 64 * KiB, 64 * KiB, 256 * KiB,
					  rig->seed));
	close(fd);
	EXPECT_EQ(0, partition(self->fd, false));
}

/* A file system on it */
TEST_F(stacked, files)
{
	static const char dir[] = "/mnt/iou-dmabuf-stacked";
	struct rig *rig = &self->rig;
	char command[200];
	int fd;

	snprintf(command, sizeof(command),
		 "mkfs.ext4 -q -F %s 24M && mkdir -p %s && mount -t ext4 %s %s",
		 self->path, dir, self->path, dir);
	/* nobody may write to what is mounted */
	close(self->fd);
	self->fd = -1;
	ASSERT_EQ(0, system(command));
	snprintf(command, sizeof(command), "%s/file", dir);
	fd = open(command, O_RDWR | O_DIRECT | O_CREAT | O_CLOEXEC, 0600);
	EXPECT_LE(0, fd);
	EXPECT_EQ(0, reg_dmabuf(&rig->ring, 1, rig->mem.fd, fd));
	EXPECT_EQ(0, disk_fill(fd, 0, SIZE, SEED));
	EXPECT_EQ(0, rig_works(rig, fd, 1));
	EXPECT_EQ(0, rig_read(rig, fd, 1, 4096, 4096, 1 * MiB));
	EXPECT_EQ(0, ftruncate(fd, 0));
	EXPECT_EQ(0, ftruncate(fd, SIZE));
	/* a hole, here as anywhere */
	EXPECT_EQ(-EOPNOTSUPP, uring_read(&rig->ring, fd, 0, 0, 4096, 1));
	close(fd);
	snprintf(command, sizeof(command), "umount %s && rmdir %s", dir, dir);
	ASSERT_EQ(0, system(command));
}

/* ---- a fault of stock ---- */

/* So many that a drive has no room for: io_uring asks first if it would have to wait */
static int read_all_at_once(struct uring *r, int fd, void *plain, unsigned int nr)
{
	struct uring_res res;
	int ret = 0;

	for (unsigned int i = 0; i < nr; i++) {
		struct io_uring_sqe *sqe = uring_sqe(r);

		sqe->opcode = IORING_OP_READ;
		sqe->fd = fd;
		sqe->off = i * CHUNK;
		sqe->addr = (uintptr_t)plain + i * 4096;
		sqe->len = 4096;
	}
	uring_submit(r, 0);
	for (unsigned int i = 0; i < nr; i++)
		ret = uring_wait(r, &res, 20000) ?: res.res != 4096 ? -EIO : ret;
	return ret;
}

/* A drive that is busy is none that fails, whatever memory is read into */
TEST(busy_drives)
{
	struct uring ring;
	char path[32], status[128], tags[96], before[16];
	long long had;
	const unsigned int nr = 64;
	void *plain = aligned_alloc(4096, nr * 4096);
	int fd;

	drives[0] = NEED_ENV("LAB_NVME_MAIN");
	drives[1] = NEED_ENV("LAB_NVME_MP");
	unmake();
	snprintf(tags, sizeof(tags), "/sys/block/%s/queue/nr_requests",
		 strrchr(drives[0], '/') + 1);
	ASSERT_EQ(0, file_read_num(tags, &had));
	ASSERT_EQ(0, file_write(tags, "4"));
	ASSERT_EQ(0, make(STRIPED, path, sizeof(path)));
	fd = lab_open(path);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, uring_init(&ring, nr, 0));
	for (unsigned int i = 0; i < 4; i++)
		EXPECT_EQ(0, read_all_at_once(&ring, fd, plain, nr));
	EXPECT_EQ(0, dm_status(DM, status, sizeof(status)));
	EXPECT_NE(NULL, strstr(status, " AA")) {
		TH_LOG("%s", status);
	}
	uring_exit(&ring);
	close(fd);
	free(plain);
	EXPECT_EQ(0, unmake());
	snprintf(before, sizeof(before), "%lld", had);
	EXPECT_EQ(0, file_write(tags, before));
}

TEST_HARNESS_MAIN
