// SPDX-License-Identifier: GPL-2.0
/*
 * Rings that poll, and a drive that has a queue to be polled. No interrupt says
 * that a command there has ended: who waits for one waits for ever.
 *
 * Wants a machine of its own: it takes the drive away and gives it back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <linux/nvme_ioctl.h>

#include "cdev.h"
#include "common.h"
#include "nvme.h"

#define POLL_QUEUES	"/sys/module/nvme/parameters/poll_queues"
#define BATCH		32
#define LEN		(16 * KiB)
#define SIZE		(BATCH * LEN)

struct bufs {
	struct rig rig;		/* slot 0: its memory, slot 1: the plain one */
	struct cdev dev;
	char *plain;
};

FIXTURE(polled) {
	struct bufs bufs;
	const char *pci;
	/* as they were: the parameter, and what the drive had */
	char queues[16];
	int before;
};

FIXTURE_VARIANT(polled) {
	unsigned int flags;
	enum mem_kind kind;
};

FIXTURE_VARIANT_ADD(polled, iopoll) { 0, MEM_UDMABUF };
FIXTURE_VARIANT_ADD(polled, iopoll_sqpoll) { IORING_SETUP_SQPOLL, MEM_BAR_64K };

FIXTURE_VARIANT_ADD(polled, hybrid) {
	IORING_SETUP_HYBRID_IOPOLL, MEM_UDMABUF_4K
};

FIXTURE_VARIANT_ADD(polled, hybrid_sqpoll) {
	IORING_SETUP_HYBRID_IOPOLL | IORING_SETUP_SQPOLL, MEM_UDMABUF
};

FIXTURE_VARIANT_ADD(polled, hybrid_defer) {
	IORING_SETUP_HYBRID_IOPOLL | IORING_SETUP_DEFER_TASKRUN |
	IORING_SETUP_SINGLE_ISSUER, MEM_UDMABUF
};

/* Probes the drive anew with @queues to poll; its disk, or -errno */
static int probe(const char *pci, const char *queues)
{
	int ret = nvme_unbind(pci);

	if (!ret)
		ret = file_write(POLL_QUEUES, queues);
	if (!ret)
		ret = nvme_bind(pci);
	return ret ?: nvme_wait_disk(pci);
}

/* Hardware queues of the disk at @pci that are polled; -errno */
static int polled_queues(const char *pci)
{
	char path[200], disk[80], type[16];
	int n = 0;

	if (!nvme_disk(pci, disk, sizeof(disk)))
		return -ENODEV;
	for (int i = 0; ; i++) {
		snprintf(path, sizeof(path),
			 "/sys/kernel/debug/block/%.40s/hctx%d/type",
			 strrchr(disk, '/') + 1, i);
		if (file_read(path, type, sizeof(type)))
			return i ? n : -ENOENT;
		n += !strncmp(type, "poll", 4);
	}
}

FIXTURE_SETUP(polled)
{
	struct iovec iov = { .iov_len = SIZE };
	char disk[80], ng[96];

	self->pci = NEED_ENV("LAB_PCI_MAIN");
	if (file_read(POLL_QUEUES, self->queues, sizeof(self->queues)))
		SKIP(return, "no " POLL_QUEUES);
	self->bufs.plain = aligned_alloc(4096, SIZE);
	ASSERT_NE(NULL, self->bufs.plain);
	iov.iov_base = self->bufs.plain;
	/* the disk may have another name than at boot: this one is not used */
	RIG_UP(&self->bufs.rig, "LAB_NVME_FS", variant->kind, SIZE,
	       variant->flags | IORING_SETUP_IOPOLL | CDEV_RING);
	close(self->bufs.rig.disk);
	self->before = polled_queues(self->pci);
	ASSERT_GE(self->before, 0);
	self->bufs.rig.disk = probe(self->pci, "1");
	ASSERT_GE(self->bufs.rig.disk, 0);
	ASSERT_EQ(1, polled_queues(self->pci));
	ASSERT_TRUE(nvme_disk(self->pci, disk, sizeof(disk)));
	snprintf(ng, sizeof(ng), "/dev/ng%s", disk + strlen("/dev/nvme"));
	ASSERT_EQ(0, cdev_open(&self->bufs.dev, ng, self->bufs.rig.disk));
	ASSERT_EQ(0, reg_dmabuf(&self->bufs.rig.ring, 0, self->bufs.rig.mem.fd,
				self->bufs.rig.disk));
	ASSERT_EQ(1, reg_plain(&self->bufs.rig.ring, 1, &iov, NULL, 1));
}

FIXTURE_TEARDOWN(polled)
{
	int disk;

	close(self->bufs.dev.fd);
	rig_down(&self->bufs.rig);
	free(self->bufs.plain);
	disk = probe(self->pci, self->queues);
	EXPECT_GE(disk, 0);
	close(disk);
	EXPECT_EQ(self->before, polled_queues(self->pci));
}

static void poison(struct bufs *b)
{
	mem_poison(&b->rig.mem, 0, SIZE, POISON);
	memset(b->plain, POISON, SIZE);
}

/* A request of LEN bytes; piece @i of the disk and of the buffer in @slot */
static void prep(struct bufs *b, bool command, bool write, unsigned int i,
		 __u16 slot)
{
	__u64 addr = i * LEN + (slot ? (uintptr_t)b->plain : 0);
	struct io_uring_sqe *sqe;

	if (command) {
		sqe = cdev_prep(&b->rig.ring, &b->dev,
				write ? NVME_WRITE : NVME_READ,
				NVME_URING_CMD_IO, i * LEN, LEN, addr, LEN);
		sqe->buf_index = slot;
	} else {
		sqe = uring_prep_rw(&b->rig.ring, write ?
				    IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED,
				    b->rig.disk, i * LEN, addr, LEN, slot);
	}
	sqe->user_data = i;
}

/* BATCH of them at once, all done: how many went wrong, or -errno */
static int batch(struct bufs *b, bool command, bool write, __u16 slot)
{
	int ret, want = command ? 0 : LEN, bad = 0;
	struct uring_res res;

	for (unsigned int i = 0; i < BATCH; i++)
		prep(b, command, write, i, slot);
	ret = uring_submit(&b->rig.ring, 0);
	if (ret != BATCH)
		return ret < 0 ? ret : -EIO;
	for (unsigned int i = 0; i < BATCH; i++) {
		ret = uring_wait(&b->rig.ring, &res, 60000);
		if (ret)
			return ret;
		if (res.res != want && !bad++)
			ksft_print_msg("piece %llu: %d\n",
				       res.user_data, res.res);
	}
	return bad;
}

/* As batch(): what is plain is polled, a dma-buf never is */
static int batch_by(const char *pci, struct bufs *b, bool command, bool write,
		    __u16 slot)
{
	long before = nvme_interrupts(pci), after;
	int ret = batch(b, command, write, slot);

	after = nvme_interrupts(pci);
	if (before < 0 || after < 0)
		return -ENODEV;
	if (!ret && (slot ? after != before : after == before)) {
		ksft_print_msg("slot %u: %ld interrupts\n", slot, after - before);
		ret = -EPROTO;
	}
	return ret;
}

static void check(struct __test_metadata *_metadata, const char *pci,
		  struct bufs *b, bool command)
{
	struct rig *rig = &b->rig;

	for (__u16 slot = 0; slot < 2; slot++) {
		__u64 seed = 10 + 2 * slot + 4 * command;

		ASSERT_EQ(0, disk_fill(rig->disk, 0, SIZE, seed));
		poison(b);
		ASSERT_EQ(0, batch_by(pci, b, command, false, slot));
		if (slot) {
			ASSERT_EQ(NO_MISMATCH,
				  pattern_check(b->plain, 0, SIZE, seed));
			ASSERT_EQ(NO_MISMATCH,
				  mem_check_poison(&rig->mem, 0, SIZE, POISON));
		} else {
			ASSERT_EQ(NO_MISMATCH,
				  mem_check(&rig->mem, 0, 0, SIZE, seed));
			ASSERT_EQ(NO_MISMATCH,
				  poison_check(b->plain, SIZE, POISON));
		}
		ASSERT_EQ(0, disk_poison(rig->disk, 0, SIZE, POISON));
		poison(b);
		if (slot) {
			pattern_fill(b->plain, 0, SIZE, seed + 1);
		} else {
			ASSERT_EQ(0, mem_fill(&rig->mem, 0, 0, SIZE, seed + 1));
		}
		ASSERT_EQ(0, batch_by(pci, b, command, true, slot));
		ASSERT_EQ(NO_MISMATCH, disk_check(rig->disk, 0, 0, SIZE, seed + 1));
	}
}

TEST_F(polled, rw)
{
	check(_metadata, self->pci, &self->bufs, false);
	/* one at a time */
	ASSERT_EQ(0, rig_works(&self->bufs.rig, self->bufs.rig.disk, 0));
}

TEST_F(polled, passthrough)
{
	struct rig *rig = &self->bufs.rig;

	check(_metadata, self->pci, &self->bufs, true);
	/* one at a time */
	ASSERT_EQ(0, disk_fill(rig->disk, 0, SIZE, 3));
	poison(&self->bufs);
	for (unsigned int i = 0; i < 8; i++) {
		prep(&self->bufs, true, false, i / 2, i & 1);
		ASSERT_EQ(0, uring_do(&rig->ring));
	}
	ASSERT_EQ(NO_MISMATCH, mem_check_only(&rig->mem, 0, 0, 4 * LEN, 3));
	ASSERT_EQ(NO_MISMATCH, pattern_check(self->bufs.plain, 0, 4 * LEN, 3));
	ASSERT_EQ(NO_MISMATCH, poison_check(self->bufs.plain + 4 * LEN,
					    SIZE - 4 * LEN, POISON));
}

/* Both kinds at once, from both slots: what is polled and what is not */
TEST_F(polled, mixed)
{
	struct rig *rig = &self->bufs.rig;
	struct uring_res res;

	ASSERT_EQ(0, disk_fill(rig->disk, 0, SIZE, 4));
	for (unsigned int round = 0; round < 4; round++) {
		poison(&self->bufs);
		for (unsigned int i = 0; i < BATCH; i++)
			prep(&self->bufs, i & 1, false, i, (i >> 1) & 1);
		ASSERT_EQ(BATCH, uring_submit(&rig->ring, 0));
		for (unsigned int i = 0; i < BATCH; i++) {
			ASSERT_EQ(0, uring_wait(&rig->ring, &res, 60000));
			ASSERT_EQ(res.user_data & 1 ? 0 : LEN, res.res);
		}
		for (unsigned int i = 0; i < BATCH; i++) {
			if (i & 2) {
				ASSERT_EQ(NO_MISMATCH,
					  pattern_check(self->bufs.plain + i * LEN,
							i * LEN, LEN, 4));
			} else {
				ASSERT_EQ(NO_MISMATCH,
					  mem_check(&rig->mem, i * LEN, i * LEN,
						    LEN, 4));
			}
		}
	}
}

TEST_HARNESS_MAIN
