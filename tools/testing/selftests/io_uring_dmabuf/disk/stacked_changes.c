// SPDX-License-Identifier: GPL-2.0
/*
 * Stacked disks that refuse dma-bufs, and those that become others: another table, another
 * level, another drive, one less.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <linux/loop.h>

#include "common.h"
#include "nvme.h"
#include "stack.h"

#define SIZE	(1 * MiB)
#define AREA	(64 * MiB)
#define START	(1 * MiB)
#define SEED	9800
#define DM	"iou-dmabuf"
#define POOL	DM "-pool"
#define MD	7
#define PARTS	4

/* Parts of the first drive, each a mapped device that takes dma-bufs itself */
static char part[PARTS][32];

static struct dm_line linear(const char *disk, __u64 start)
{
	struct dm_line line = { .sectors = AREA / SECTOR, .target = "linear" };

	snprintf(line.args, sizeof(line.args), "%s %llu", disk, start / SECTOR);
	return line;
}

static int parts_make(const char *disk)
{
	int ret = 0;

	for (unsigned int i = 0; i < PARTS && !ret; i++) {
		struct dm_line line = linear(disk, START + i * AREA);
		char name[32];

		snprintf(name, sizeof(name), DM "-%u", i);
		ret = dm_create(name, &line, 1, part[i], sizeof(part[i]));
	}
	return ret;
}

static int parts_end(void)
{
	int ret = 0;

	for (unsigned int i = 0; i < PARTS; i++) {
		char name[32];

		snprintf(name, sizeof(name), DM "-%u", i);
		ret = dm_remove(name) ?: ret;
	}
	return ret;
}

static int refuser_end(void)
{
	return dm_remove(DM "-top") ?: dm_remove(POOL);
}

static int clean_up(void)
{
	int ret = refuser_end();

	ret = dm_remove(DM) ?: ret;
	md_stop(MD);
	return parts_end() ?: ret;
}

static int targets(struct rig *rig)
{
	struct io_uring_query_regbuf_map q;
	int ret = query_map(&rig->ring, 0, 0, &q);

	return ret ?: (int)q.nr_targets;
}

FIXTURE(change) {
	struct rig rig;
	const char *main, *other;
	int fd;
	char path[32];
};

FIXTURE_SETUP(change)
{
	struct dm_line line;

	self->fd = -1;
	self->main = NEED_ENV("LAB_NVME_MAIN");
	self->other = NEED_ENV("LAB_NVME_MP");
	clean_up();
	RIG_UP(&self->rig, "LAB_NVME_MAIN", MEM_UDMABUF, SIZE, 0);
	line = linear(self->main, START);
	ASSERT_EQ(0, dm_create(DM, &line, 1, self->path, sizeof(self->path)));
	self->fd = lab_open(self->path);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, reg_dmabuf(&self->rig.ring, 0, self->rig.mem.fd, self->fd));
}

FIXTURE_TEARDOWN(change)
{
	int dmabuf = dup(self->rig.mem.fd);

	rig_down(&self->rig);
	EXPECT_TRUE(bufinfo_wait(dmabuf, 0, 10000));
	close(dmabuf);
	if (self->fd >= 0)
		close(self->fd);
	EXPECT_EQ(0, clean_up());
}

/* ---- another drive ---- */

/* As a path of a multipath head that comes back: nobody has to be told */
TEST_F(change, another_drive)
{
	struct dm_line a = linear(self->main, START), b = linear(self->other, START);
	struct rig *rig = &self->rig;
	int other = NEED_DISK("LAB_NVME_MP");

	ASSERT_EQ(0, rig_works(rig, self->fd, 0));
	EXPECT_EQ(1, targets(rig));
	ASSERT_EQ(0, dm_reload(DM, &b, 1));
	/* by its own name it never was a target */
	EXPECT_EQ(-EBADF, uring_read(&rig->ring, other, 0, 0, 4096, 0));
	EXPECT_EQ(1, targets(rig));
	ASSERT_EQ(0, rig_works(rig, self->fd, 0));
	EXPECT_EQ(3, targets(rig));
	ASSERT_EQ(0, rig_write(rig, self->fd, 0, 64 * KiB, 0, 64 * KiB));
	EXPECT_EQ(NO_MISMATCH, disk_check(other, START + 64 * KiB, 64 * KiB, 64 * KiB, rig->seed));
	ASSERT_EQ(0, dm_reload(DM, &a, 1));
	ASSERT_EQ(0, rig_works(rig, self->fd, 0));
	EXPECT_EQ(3, targets(rig));
	close(other);
}

/* Who must not wait is told to come back */
TEST_F(change, another_drive_nowait)
{
	struct dm_line b = linear(self->other, START);
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, dm_reload(DM, &b, 1));
	uring_prep_rw(&rig->ring, IORING_OP_READ_FIXED, self->fd, 0, 0, 4096, 0)->rw_flags =
		RWF_NOWAIT;
	EXPECT_EQ(-EAGAIN, uring_do(&rig->ring));
	EXPECT_EQ(1, targets(rig));
	ASSERT_EQ(0, rig_works(rig, self->fd, 0));
	EXPECT_EQ(3, targets(rig));
}

TEST_F(change, grows)
{
	struct dm_line lines[2] = { linear(self->main, START), linear(self->other, START) };
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, dm_reload(DM, lines, 2));
	ASSERT_EQ(0, rig_works(rig, self->fd, 0));
	EXPECT_EQ(1, targets(rig));
	ASSERT_EQ(0, rig_read(rig, self->fd, 0, AREA - 64 * KiB, 0, 128 * KiB));
	EXPECT_EQ(3, targets(rig));
}

/* ---- what refuses ---- */

struct refuser {
	const char *name;
	__u64 sectors;
	/* @1 to @4 are the parts, @5 the drive, @6 a pool for what is thin */
	const char *target, *args;
};

#define KEY "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static const struct refuser refusers[] = {
	{ "crypt", 65536, "crypt", "aes-xts-plain64 " KEY " 0 @1 0" },
	{ "integrity", 8, "integrity", "@1 0 4 D 0" },
	{ "verity", 4096, "verity", "1 @1 @2 4096 4096 512 0 sha256 " KEY " " KEY },
	{ "writecache", 65536, "writecache", "s @1 @2 4096 0" },
	{ "log-writes", 65536, "log-writes", "@1 @2" },
	{ "ebs", 65536, "ebs", "@1 0 8" },
	{ "snapshot-origin", 65536, "snapshot-origin", "@1" },
	{ "snapshot", 65536, "snapshot", "@1 @2 N 8" },
	{ "thin", 65536, "thin", "@6 0" },
	{ "cache", 65536, "cache", "@1 @2 @3 128 1 writethrough default 0" },
	{ "era", 65536, "era", "@1 @2 128" },
	{ "clone", 65536, "clone", "@1 @2 @3 8" },
	{ "mirror", 65536, "mirror", "core 2 1024 nosync 2 @1 0 @2 0" },
	{ "raid1", 65536, "raid", "raid1 2 0 nosync 2 - @1 - @2" },
	{ "raid4", 65536, "raid", "raid4 2 128 nosync 3 - @1 - @2 - @3" },
	{ "raid5", 65536, "raid", "raid5_ls 2 128 nosync 3 - @1 - @2 - @3" },
	/* it has to be synchronised first */
	{ "raid6", 65536, "raid", "raid6_zr 1 128 4 - @1 - @2 - @3 - @4" },
	/* without metadata dm-raid forgets its layout */
	{ "raid10", 65536, "raid", "raid10 2 128 nosync 2 @3 @1 @4 @2" },
	{ "multipath", 65536, "multipath", "0 0 1 1 round-robin 0 1 1 @5 1" },
	{ "zero", 65536, "zero", "" },
	{ "error", 65536, "error", "" },
	{ "flakey", 65536, "flakey", "@1 0 60 0" },
};

/* Its line in a table */
static struct dm_line line_of(const struct refuser *r, const char *drive, const char *pool)
{
	const char *of[6] = { part[0], part[1], part[2], part[3], drive, pool };
	struct dm_line line = { .sectors = r->sectors, .target = r->target };
	char *out = line.args;

	for (const char *in = r->args; *in; in++) {
		if (*in == '@')
			out += sprintf(out, "%s", of[*++in - '1']);
		else
			*out++ = *in;
	}
	*out = '\0';
	return line;
}

/* The beginning of each part: none of them shall find metadata of another */
static int parts_clear(void)
{
	int ret = 0;

	for (unsigned int i = 0; i < PARTS && !ret; i++) {
		int fd = lab_open(part[i]);

		if (fd < 0)
			return fd;
		ret = disk_poison(fd, 0, 256 * KiB, 0);
		close(fd);
	}
	return ret;
}

static int pool_make(char *path, size_t len)
{
	struct dm_line pool = { .sectors = 65536, .target = "thin-pool" };

	snprintf(pool.args, sizeof(pool.args), "%s %s 128 0", part[0], part[1]);
	return dm_create(POOL, &pool, 1, path, len) ?: dm_message(POOL, "create_thin 0");
}

static int refuser_make(const struct refuser *r, const char *drive, char *path, size_t len)
{
	char pool[32] = "";
	struct dm_line line;
	int ret = parts_clear();

	if (!ret && !strcmp(r->target, "thin"))
		ret = pool_make(pool, sizeof(pool));
	if (ret)
		return ret;
	line = line_of(r, drive, pool);
	return dm_create(DM "-top", &line, 1, path, len);
}

/*
 * A slot that was registered for a disk which becomes one of these: nothing arrives, and
 * nothing is lost. Its registration anew says what is in the way.
 */
TEST_F(change, to_what_looks_at_data)
{
	struct dm_line plain = linear(self->main, START);
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_reason why;
	struct io_uring_regbuf_desc d;

	ASSERT_EQ(0, parts_make(self->main));
	for (unsigned int i = 0; i < ARRAY_SIZE(refusers); i++) {
		const struct refuser *r = &refusers[i];
		char path[32];
		int fd;

		ASSERT_EQ(0, refuser_make(r, self->main, path, sizeof(path))) {
			TH_LOG("%s", r->name);
		}
		fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
		ASSERT_LE(0, fd);
		d = desc_dmabuf(rig->mem.fd, fd);
		EXPECT_EQ(-EOPNOTSUPP, reg_why(&rig->ring, 1, &d, &why)) {
			TH_LOG("%s", r->name);
		}
		EXPECT_EQ(IO_REGBUF_STAGE_TARGET, why.stage);
		EXPECT_EQ(0, why.target);
		/* a slot of the very drive below */
		ASSERT_EQ(0, mem_poison(&rig->mem, 0, 4096, POISON));
		EXPECT_EQ(-EBADF, uring_read(&rig->ring, fd, 0, 0, 4096, 0)) {
			TH_LOG("%s", r->name);
		}
		EXPECT_EQ(NO_MISMATCH, mem_check_poison(&rig->mem, 0, 4096, POISON));
		close(fd);
		ASSERT_EQ(0, refuser_end());
	}
	EXPECT_EQ(1, targets(rig));
	EXPECT_EQ(1, bufinfo_attachments(rig->mem.fd));

	/* and the same disk, by another table */
	ASSERT_EQ(0, disk_fill(self->fd, 0, SIZE, SEED));
	plain.target = "crypt";
	snprintf(plain.args, sizeof(plain.args), "aes-xts-plain64 " KEY " 0 %s %llu", self->main,
		 START / SECTOR);
	ASSERT_EQ(0, dm_reload(DM, &plain, 1));
	EXPECT_EQ(-EBADF, uring_read(&rig->ring, self->fd, 0, 0, 4096, 0));
	EXPECT_EQ(-EBADF, uring_write(&rig->ring, self->fd, 0, 0, 4096, 0));
	plain = linear(self->main, START);
	ASSERT_EQ(0, dm_reload(DM, &plain, 1));
	EXPECT_EQ(NO_MISMATCH, disk_check(self->fd, 0, 0, SIZE, SEED));
	ASSERT_EQ(0, rig_works(rig, self->fd, 0));
}

/* One line of a table is enough */
TEST_F(change, a_table_that_looks_in_part)
{
	struct dm_line lines[2] = { linear(self->main, START), { .sectors = AREA / SECTOR } };
	struct io_uring_regbuf_desc d = desc_dmabuf(self->rig.mem.fd, self->fd);
	struct rig *rig = &self->rig;

	lines[1].target = "crypt";
	snprintf(lines[1].args, sizeof(lines[1].args), "aes-xts-plain64 " KEY " 0 %s %llu",
		 self->main, (START + AREA) / SECTOR);
	ASSERT_EQ(0, dm_reload(DM, lines, 2));
	EXPECT_EQ(-EOPNOTSUPP, reg_one(&rig->ring, 1, &d));
	EXPECT_EQ(-EBADF, uring_read(&rig->ring, self->fd, 0, 0, 4096, 0));
	EXPECT_EQ(-EBADF, uring_read(&rig->ring, self->fd, AREA, 0, 4096, 0));
}

/* What is below cannot: nor can what is above */
TEST_F(change, on_a_drive_that_cannot)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(self->rig.mem.fd, self->fd);
	struct dm_line line = { .sectors = 1024, .target = "linear" };
	struct rig *rig = &self->rig;
	char loop[32];
	int fd = lab_loop(loop, sizeof(loop));

	ASSERT_LE(0, fd);
	snprintf(line.args, sizeof(line.args), "%s 0", loop);
	ASSERT_EQ(0, dm_reload(DM, &line, 1));
	EXPECT_EQ(-EOPNOTSUPP, reg_one(&rig->ring, 1, &d));
	EXPECT_EQ(-EBADF, uring_read(&rig->ring, self->fd, 0, 0, 4096, 0));
	line = linear(self->main, START);
	ASSERT_EQ(0, dm_reload(DM, &line, 1));
	ioctl(fd, LOOP_CLR_FD);
	close(fd);
	ASSERT_EQ(0, rig_works(rig, self->fd, 0));
}

/* Tables that name each other have no end, and no drive. They take I/O for ever: none here. */
TEST_F(change, a_circle)
{
	struct dm_line line = { .sectors = AREA / SECTOR, .target = "linear" };
	struct dm_line back = linear(self->main, START);
	struct io_uring_regbuf_desc d;
	struct rig *rig = &self->rig;
	char path[32];
	int fd;

	snprintf(line.args, sizeof(line.args), "%s 0", self->path);
	ASSERT_EQ(0, dm_create(DM "-top", &line, 1, path, sizeof(path)));
	fd = lab_open(path);
	ASSERT_LE(0, fd);
	d = desc_dmabuf(rig->mem.fd, fd);
	EXPECT_EQ(0, reg_one(&rig->ring, 1, &d));
	snprintf(line.args, sizeof(line.args), "%s 0", path);
	EXPECT_EQ(0, dm_reload(DM, &line, 1));
	EXPECT_EQ(-EOPNOTSUPP, reg_one(&rig->ring, 2, &d));
	ASSERT_EQ(0, dm_reload(DM, &back, 1));
	EXPECT_EQ(0, reg_one(&rig->ring, 2, &d));
	close(fd);
	ASSERT_EQ(0, refuser_end());
	ASSERT_EQ(0, rig_works(rig, self->fd, 0));
}

TEST_F(change, levels_of_md)
{
	static const struct { int level; unsigned int nr; } levels[] = {
		{ 1, 2 }, { 4, 3 }, { 5, 3 }, { 6, 4 }, { 10, 2 },
	};
	struct rig *rig = &self->rig;
	const char *members[PARTS] = { part[0], part[1], part[2], part[3] };

	ASSERT_EQ(0, parts_make(self->main));
	for (unsigned int i = 0; i < ARRAY_SIZE(levels); i++) {
		struct io_uring_regbuf_desc d;
		char path[32];
		int fd;

		ASSERT_EQ(0, md_build(MD, levels[i].level, 64 * KiB, members, levels[i].nr, path,
				      sizeof(path))) {
			TH_LOG("level %d", levels[i].level);
		}
		fd = lab_open(path);
		ASSERT_LE(0, fd);
		d = desc_dmabuf(rig->mem.fd, fd);
		EXPECT_EQ(-EOPNOTSUPP, reg_one(&rig->ring, 1, &d)) {
			TH_LOG("level %d", levels[i].level);
		}
		EXPECT_EQ(-EBADF, uring_read(&rig->ring, fd, 0, 0, 4096, 0));
		close(fd);
		ASSERT_EQ(0, md_stop(MD));
	}
}

/* ---- in the middle of it ---- */

/* Reads of the same bytes, again and again, by a ring of its own */
struct reader {
	struct uring *ring;
	int fd;
	pthread_t thread;
	bool stop;
	unsigned int done, refused;
	int bad;
};

static void *reader_run(void *arg)
{
	struct reader *r = arg;

	while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED) && !r->bad) {
		struct uring_res res;

		for (unsigned int i = 0; i < 8; i++)
			uring_prep_rw(r->ring, IORING_OP_READ_FIXED, r->fd, i * 64 * KiB,
				      i * 64 * KiB, 64 * KiB, 0);
		uring_submit(r->ring, 0);
		for (unsigned int i = 0; i < 8; i++) {
			if (uring_wait(r->ring, &res, 60000))
				r->bad = -ETIME;
			else if (res.res == 64 * KiB)
				__atomic_add_fetch(&r->done, 1, __ATOMIC_RELAXED);
			else if (res.res == -EBADF || res.res == -EOPNOTSUPP)
				__atomic_add_fetch(&r->refused, 1, __ATOMIC_RELAXED);
			else
				r->bad = res.res ?: -EIO;
		}
	}
	return NULL;
}

static bool more(unsigned int *count, unsigned int before, const struct reader *r)
{
	for (unsigned int i = 0; i < 10000 && !r->bad; i++) {
		if (__atomic_load_n(count, __ATOMIC_RELAXED) != before)
			return true;
		lab_sleep_ms(1);
	}
	return false;
}

/*
 * Tables come and go while it is read: all of it, or a refusal. On the way a read may meet
 * crypt, which would take windows for pages.
 */
TEST_F(change, tables_under_load)
{
	struct dm_line lines[] = { linear(self->main, START), linear(self->other, START),
				   { .sectors = AREA / SECTOR, .target = "crypt" } };
	struct reader r = { .ring = &self->rig.ring, .fd = self->fd };
	unsigned int before;

	snprintf(lines[2].args, sizeof(lines[2].args), "aes-xts-plain64 " KEY " 0 %s %llu",
		 self->main, START / SECTOR);
	for (unsigned int i = 0; i < 2; i++) {
		ASSERT_EQ(0, dm_reload(DM, &lines[!i], 1));
		ASSERT_EQ(0, disk_fill(self->fd, 0, SIZE, SEED));
	}
	ASSERT_EQ(0, pthread_create(&r.thread, NULL, reader_run, &r));
	for (unsigned int i = 0; i < lab_soak(12, 1000); i++) {
		ASSERT_EQ(0, dm_reload(DM, &lines[2], 1));
		if (i % 4 == 0) {
			before = __atomic_load_n(&r.refused, __ATOMIC_RELAXED);
			EXPECT_TRUE(more(&r.refused, before, &r));
		}
		ASSERT_EQ(0, dm_reload(DM, &lines[i % 2], 1));
		if (i % 4 == 0) {
			before = __atomic_load_n(&r.done, __ATOMIC_RELAXED);
			EXPECT_TRUE(more(&r.done, before, &r));
		}
	}
	__atomic_store_n(&r.stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(r.thread, NULL));
	EXPECT_EQ(0, r.bad);
	/* both drives have the same */
	ASSERT_EQ(0, mem_poison(&self->rig.mem, 0, SIZE, POISON));
	ASSERT_EQ(SIZE, uring_read(&self->rig.ring, self->fd, 0, 0, SIZE, 0));
	EXPECT_EQ(NO_MISMATCH, mem_check(&self->rig.mem, 0, 0, SIZE, SEED));
}

/* Between two drives no read is refused, the first one included */
TEST_F(change, drives_under_load)
{
	struct dm_line lines[] = { linear(self->main, START), linear(self->other, START) };
	struct reader r = { .ring = &self->rig.ring, .fd = self->fd };

	ASSERT_EQ(0, pthread_create(&r.thread, NULL, reader_run, &r));
	for (unsigned int i = 0; i < lab_soak(10, 1000); i++) {
		unsigned int before;

		ASSERT_EQ(0, dm_reload(DM, &lines[!(i % 2)], 1));
		before = __atomic_load_n(&r.done, __ATOMIC_RELAXED);
		EXPECT_TRUE(more(&r.done, before, &r));
	}
	__atomic_store_n(&r.stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(r.thread, NULL));
	EXPECT_EQ(0, r.bad);
	EXPECT_EQ(0, r.refused);
	EXPECT_EQ(3, targets(&self->rig));
}

/* RAID0 becomes RAID5 while it is read */
TEST_F(change, level_under_load)
{
	const char *members[2] = { part[0], part[1] };
	struct rig *rig = &self->rig;
	struct reader r = { .ring = &rig->ring };
	unsigned int before;
	char path[32];

	ASSERT_EQ(0, parts_make(self->main));
	ASSERT_EQ(0, md_build(MD, 0, 64 * KiB, members, 2, path, sizeof(path)));
	r.fd = lab_open(path);
	ASSERT_LE(0, r.fd);
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, r.fd));
	ASSERT_EQ(0, rig_works(rig, r.fd, 0));
	ASSERT_EQ(0, disk_fill(r.fd, 0, SIZE, SEED));
	ASSERT_EQ(0, pthread_create(&r.thread, NULL, reader_run, &r));
	before = __atomic_load_n(&r.done, __ATOMIC_RELAXED);
	EXPECT_TRUE(more(&r.done, before, &r));
	EXPECT_EQ(0, md_write(MD, "level", "raid5"));
	before = __atomic_load_n(&r.refused, __ATOMIC_RELAXED);
	EXPECT_TRUE(more(&r.refused, before, &r));
	__atomic_store_n(&r.stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(r.thread, NULL));
	EXPECT_EQ(0, r.bad);
	EXPECT_EQ(-EBADF, uring_read(&rig->ring, r.fd, 0, 0, 4096, 0));
	EXPECT_EQ(NO_MISMATCH, disk_check(r.fd, 0, 0, SIZE, SEED));
	close(r.fd);
	ASSERT_EQ(0, md_stop(MD));
}

/* ---- a drive less ---- */

TEST_F(change, member_leaves)
{
	const char *pci = NEED_ENV("LAB_PCI_MAIN");
	const char *members[2] = { self->main, self->other };
	struct rig *rig = &self->rig;
	char path[32];
	int md;

	close(self->fd);
	self->fd = -1;
	ASSERT_EQ(0, dm_remove(DM));
	ASSERT_EQ(0, md_build(MD, 0, 64 * KiB, members, 2, path, sizeof(path)));
	md = lab_open(path);
	ASSERT_LE(0, md);
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, md));
	ASSERT_EQ(0, rig_works(rig, md, 0));
	close(rig->disk);
	ASSERT_EQ(0, nvme_unbind(pci));
	/* what was on it is an error, the rest goes on, by mappings that are made anew, too */
	EXPECT_EQ(-EIO, uring_read(&rig->ring, md, 0, 0, 4096, 0));
	EXPECT_EQ(4096, uring_read(&rig->ring, md, 64 * KiB, 0, 4096, 0));
	EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 2, 10000));
	ASSERT_EQ(0, reg_clear(&rig->ring, 0));
	EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 0, 10000));
	close(md);
	ASSERT_EQ(0, md_stop(MD));
	ASSERT_EQ(0, nvme_bind(pci));
	rig->disk = nvme_wait_disk(pci);
	ASSERT_LE(0, rig->disk);
}

TEST_HARNESS_MAIN
