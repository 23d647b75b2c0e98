// SPDX-License-Identifier: GPL-2.0
/*
 * An array of as many drives as a chassis has, and a volume: one slot for all of them.
 *
 * Wants a machine with LAB_MANY_DRIVES, drives that it may overwrite.
 */
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "stack.h"

#define MANY	40
#define CHUNK	(32 * KiB)	/* of each drive the first bytes */
#define SIZE	(MANY * CHUNK)
#define SEED	9900
#define DM	"iou-dmabuf"
#define MD	7

static char *names;		/* of the drives, in one string */
static const char *drives[MANY];

static unsigned int find_drives(void)
{
	unsigned int nr = 0;
	char *rest;

	free(names);
	names = strdup(lab_env("LAB_MANY_DRIVES"));
	for (char *path = strtok_r(names, " ", &rest); path && nr < MANY;
	     path = strtok_r(NULL, " ", &rest))
		drives[nr++] = path;
	return nr;
}

static int concat(char *path, size_t len)
{
	struct dm_line *lines = calloc(MANY, sizeof(*lines));
	int ret;

	if (!lines)
		return -ENOMEM;
	for (unsigned int i = 0; i < MANY; i++) {
		lines[i].sectors = CHUNK / SECTOR;
		lines[i].target = "linear";
		snprintf(lines[i].args, sizeof(lines[i].args), "%s 0", drives[i]);
	}
	ret = dm_create(DM, lines, MANY, path, len);
	free(lines);
	return ret;
}

FIXTURE(stacked_many) {
	struct rig rig;
	int fd;
	char path[32];
};

FIXTURE_VARIANT(stacked_many) {
	bool md;
	enum mem_kind kind;
};

FIXTURE_VARIANT_ADD(stacked_many, raid0) { true, MEM_UDMABUF };
FIXTURE_VARIANT_ADD(stacked_many, concat) { false, MEM_HEAP };

FIXTURE_SETUP(stacked_many)
{
	NEED_ENV("LAB_MANY_DRIVES");
	ASSERT_EQ(MANY, find_drives());
	dm_remove(DM);
	md_stop(MD);
	RIG_UP(&self->rig, "LAB_NVME_MAIN", variant->kind, SIZE, 0);
	ASSERT_EQ(0, variant->md ?
		  md_build(MD, 0, CHUNK, drives, MANY, self->path, sizeof(self->path)) :
		  concat(self->path, sizeof(self->path)));
	self->fd = lab_open(self->path);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(stacked_many)
{
	int dmabuf = dup(self->rig.mem.fd);

	rig_down(&self->rig);
	EXPECT_TRUE(bufinfo_wait(dmabuf, 0, 20000));
	close(dmabuf);
	close(self->fd);
	EXPECT_EQ(0, variant->md ? md_stop(MD) : dm_remove(DM));
}

TEST_F(stacked_many, one_slot)
{
	struct rig *rig = &self->rig;
	struct io_uring_query_regbuf_map q;

	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, self->fd));
	ASSERT_EQ(0, query_map(&rig->ring, 0, 0, &q));
	EXPECT_EQ(MANY, q.nr_targets);
	EXPECT_EQ(MANY, bufinfo_attachments(rig->mem.fd));
	for (unsigned int turn = 0; turn < 2; turn++) {
		ASSERT_EQ(0, mem_fill(&rig->mem, 0, 0, SIZE, SEED + turn));
		ASSERT_EQ(SIZE, uring_write(&rig->ring, self->fd, 0, 0, SIZE, 0));
		/* each drive has its chunk, and no other */
		for (unsigned int i = 0; i < MANY; i++) {
			int drive = lab_open(drives[i]);

			ASSERT_LE(0, drive);
			ASSERT_EQ(NO_MISMATCH, disk_check(drive, 0, i * CHUNK, CHUNK, SEED + turn));
			close(drive);
		}
		ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
		ASSERT_EQ(SIZE, uring_read(&rig->ring, self->fd, 0, 0, SIZE, 0));
		ASSERT_EQ(NO_MISMATCH, mem_check(&rig->mem, 0, 0, SIZE, SEED + turn));
	}
	for (unsigned int i = 0; i < MANY; i++) {
		ASSERT_EQ(0, query_map(&rig->ring, 0, i, &q));
		EXPECT_EQ(1, q.maps);
		EXPECT_LE(4, q.hits);
	}
	EXPECT_EQ(-EINVAL, query_map(&rig->ring, 0, MANY, &q));
}

/* The first I/O brings all of them */
TEST_F(stacked_many, on_demand)
{
	struct rig *rig = &self->rig;
	struct io_uring_query_regbuf_map q;

	ASSERT_EQ(0, reg_flags(&rig->ring, 0, rig->mem.fd, -1, IO_REGBUF_DMABUF_ON_DEMAND));
	ASSERT_EQ(0, rig_works(rig, self->fd, 0));
	ASSERT_EQ(0, query_map(&rig->ring, 0, 0, &q));
	EXPECT_EQ(MANY, q.nr_targets);
}

/* More than a slot may have */
TEST_F(stacked_many, no_room)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_reason why;
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, self->fd);

	ASSERT_EQ(0, lab_max_targets(MANY - 1));
	EXPECT_EQ(-E2BIG, reg_why(&rig->ring, 0, &d, &why));
	EXPECT_EQ(IO_REGBUF_STAGE_TARGET, why.stage);
	EXPECT_EQ(0, reg_flags(&rig->ring, 0, rig->mem.fd, -1, IO_REGBUF_DMABUF_ON_DEMAND));
	EXPECT_EQ(-E2BIG, uring_read(&rig->ring, self->fd, 0, 0, 4096, 0));
	EXPECT_EQ(0, bufinfo_attachments(rig->mem.fd));
	ASSERT_EQ(0, lab_max_targets(0));
	ASSERT_EQ(0, reg_one(&rig->ring, 1, &d));
}

TEST_HARNESS_MAIN
