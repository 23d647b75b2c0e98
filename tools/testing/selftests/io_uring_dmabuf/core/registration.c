// SPDX-License-Identifier: GPL-2.0
/* Buffer descriptors: what can be registered, and when it goes away */
#include <pthread.h>
#include <signal.h>
#include <linux/dma-buf-bar.h>
#include <linux/udmabuf.h>

#include "common.h"

#define SIZE		(1 * MiB)
#define IDLE_MS		5000	/* unmap may follow a CQE shortly after */

FIXTURE(reg) {
	struct rig rig;
};

FIXTURE_SETUP(reg)
{
	RIG_UP(&self->rig, "LAB_NVME_MAIN", MEM_UDMABUF, SIZE, 0);
}

FIXTURE_TEARDOWN(reg)
{
	rig_down(&self->rig);
}

/* As programs for Linux 7.4 do it: whole dma-buf, zeroes in the tail */
TEST_F(reg, posted_descriptor)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, rig->disk);

	ASSERT_EQ(80, sizeof(d));
	ASSERT_EQ(1, reg_update(&rig->ring, 0, &d, NULL, 1));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
}

TEST_F(reg, full_table_update)
{
	struct rig *rig = &self->rig;
	struct iovec iov = { .iov_len = 4096 };

	iov.iov_base = aligned_alloc(4096, 4096);
	for (int slot = 0; slot < RIG_SLOTS; slot++) {
		ASSERT_EQ(1, reg_plain(&rig->ring, slot, &iov, NULL, 1));
	}
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 3, rig->mem.fd, rig->disk));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 3));
	EXPECT_EQ(4096, uring_read(&rig->ring, rig->disk, 0,
				   (uintptr_t)iov.iov_base, 4096, 4));
	free(iov.iov_base);
}

TEST_F(reg, sub_range)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, rig->disk);

	d.dmabuf_off = 64 * KiB;
	d.size = 256 * KiB;
	rig->base = d.dmabuf_off;
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &d));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	/* the last byte of it, and one sector more */
	ASSERT_EQ(0, rig_read(rig, rig->disk, 0, 0, d.size - 4096, 4096));
	EXPECT_EQ(-EFAULT, uring_read(&rig->ring, rig->disk, 0, d.size - 4096,
				      4096 + 512, 0));
	EXPECT_EQ(-EFAULT, uring_read(&rig->ring, rig->disk, 0, d.size, 512, 0));
}

TEST_F(reg, sub_range_to_the_end)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, rig->disk);

	d.dmabuf_off = SIZE - 256 * KiB;
	rig->base = d.dmabuf_off;
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &d));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	EXPECT_EQ(-EFAULT, uring_read(&rig->ring, rig->disk, 0, 256 * KiB, 512, 0));
}

TEST_F(reg, sub_range_of_movable_memory)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d;

	mem_destroy(&rig->mem);
	if (mem_create(&rig->mem, MEM_BAR_4K, SIZE))
		SKIP(return, "no /dev/dmabuf_bar");
	d = desc_dmabuf(rig->mem.fd, rig->disk);
	d.dmabuf_off = 12 * KiB;
	d.size = 500 * KiB;
	rig->base = d.dmabuf_off;
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &d));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	ASSERT_EQ(0, bar_move(&rig->mem, DMA_BUF_BAR_PLACE_B));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
}

TEST_F(reg, several_targets)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, rig->disk);
	struct io_uring_query_regbuf_map q;
	int p3 = NEED_PART(3), more[1] = { p3 };

	d.targets = (uintptr_t)more;
	d.nr_targets = 1;
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &d));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	ASSERT_EQ(0, rig_works(rig, p3, 0));
	ASSERT_EQ(0, query_map(&rig->ring, 0, 1, &q));
	EXPECT_EQ(2, q.nr_targets);
	EXPECT_EQ(2, bufinfo_attachments(rig->mem.fd));
}

/* The same device through many files is one leaf device */
TEST_F(reg, targets_in_the_array_only)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, -1);
	struct io_uring_query_regbuf_map q;
	int fds[8];

	for (int i = 0; i < 8; i++)
		fds[i] = rig->disk;
	d.targets = (uintptr_t)fds;
	d.nr_targets = 8;
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &d));
	ASSERT_EQ(0, query_map(&rig->ring, 0, 0, &q));
	EXPECT_EQ(1, q.nr_targets);
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
}

TEST_F(reg, add_targets)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d = desc_add(-1);
	int p3 = NEED_PART(3);

	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	ASSERT_EQ(-EBADF, uring_read(&rig->ring, p3, 0, 0, 4096, 0));
	d.target_fd = p3;
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &d));
	ASSERT_EQ(0, rig_works(rig, p3, 0));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	/* again, by the array: it is one already */
	d = desc_add(-1);
	d.targets = (uintptr_t)&p3;
	d.nr_targets = 1;
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &d));
	EXPECT_EQ(2, bufinfo_attachments(rig->mem.fd));
	ASSERT_EQ(0, rig_works(rig, p3, 0));
}

TEST_F(reg, mixed_types_in_one_call)
{
	struct rig *rig = &self->rig;
	char *plain = aligned_alloc(4096, 8192);
	struct io_uring_regbuf_desc d[4] = {
		desc_dmabuf(rig->mem.fd, rig->disk),
		desc_empty(),
		desc_uaddr(plain, 8192),
		desc_dmabuf(rig->mem.fd, rig->disk),
	};

	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 1, rig->mem.fd, rig->disk));
	ASSERT_EQ(4, reg_update(&rig->ring, 0, d, NULL, 4));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 3));
	EXPECT_EQ(-EFAULT, uring_read(&rig->ring, rig->disk, 0, 0, 4096, 1));

	ASSERT_EQ(0, disk_fill(rig->disk, 0, 8192, 77));
	memset(plain, POISON, 8192);
	ASSERT_EQ(8192, uring_read(&rig->ring, rig->disk, 0, (uintptr_t)plain,
				   8192, 2));
	EXPECT_EQ(NO_MISMATCH, pattern_check(plain, 0, 8192, 77));
	free(plain);
}

TEST_F(reg, table_from_descriptors)
{
	struct rig *rig = &self->rig;
	char *plain = aligned_alloc(4096, 8192);
	struct io_uring_regbuf_desc d[3] = {
		desc_uaddr(plain, 8192),
		desc_empty(),
		desc_dmabuf(rig->mem.fd, rig->disk),
	};

	ASSERT_EQ(0, reg_unregister(&rig->ring));
	ASSERT_EQ(0, reg_table(&rig->ring, d, NULL, 3));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 2));
	EXPECT_EQ(-EFAULT, uring_read(&rig->ring, rig->disk, 0, 0, 4096, 1));
	free(plain);
}

TEST_F(reg, table_is_all_or_nothing)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d[2] = {
		desc_dmabuf(rig->mem.fd, rig->disk),
		desc_dmabuf(rig->disk, rig->disk),
	};

	ASSERT_EQ(0, reg_unregister(&rig->ring));
	EXPECT_EQ(-EINVAL, reg_table(&rig->ring, d, NULL, 2));
	EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 0, IDLE_MS));
	/* there is no table */
	EXPECT_EQ(-ENXIO, reg_update(&rig->ring, 0, d, NULL, 1));
	d[1] = desc_empty();
	ASSERT_EQ(0, reg_table(&rig->ring, d, NULL, 2));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	/* a second table is refused, the first one stays */
	EXPECT_EQ(-EBUSY, reg_table(&rig->ring, d, NULL, 2));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
}

TEST_F(reg, update_stops_at_the_first_bad_one)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d[3] = {
		desc_dmabuf(rig->mem.fd, rig->disk),
		desc_dmabuf(rig->disk, rig->disk),
		desc_empty(),
	};

	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 1, rig->mem.fd, rig->disk));
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 2, rig->mem.fd, rig->disk));
	EXPECT_EQ(1, reg_update(&rig->ring, 0, d, NULL, 3));
	for (int slot = 0; slot < 3; slot++) {
		ASSERT_EQ(0, rig_works(rig, rig->disk, slot));
	}
	EXPECT_EQ(-EINVAL, reg_update(&rig->ring, 1, &d[1], NULL, 2));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 1));
}

static int tag_of_next_cqe(struct uring *r, __u64 *tag)
{
	struct uring_res res;
	int ret = uring_wait(r, &res, 5000);

	*tag = res.user_data;
	return ret;
}

TEST_F(reg, tag_on_replace_clear_unregister)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, rig->disk);
	__u64 tags[3] = { 0x1001, 0x1002, 0x1003 }, tag;

	ASSERT_EQ(1, reg_update(&rig->ring, 0, &d, &tags[0], 1));
	ASSERT_EQ(0, uring_ready(&rig->ring));
	ASSERT_EQ(1, reg_update(&rig->ring, 0, &d, &tags[1], 1));
	ASSERT_EQ(0, tag_of_next_cqe(&rig->ring, &tag));
	EXPECT_EQ(tags[0], tag);
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));

	ASSERT_EQ(0, reg_clear(&rig->ring, 0));
	ASSERT_EQ(0, tag_of_next_cqe(&rig->ring, &tag));
	EXPECT_EQ(tags[1], tag);

	ASSERT_EQ(1, reg_update(&rig->ring, 0, &d, &tags[2], 1));
	ASSERT_EQ(0, reg_unregister(&rig->ring));
	ASSERT_EQ(0, tag_of_next_cqe(&rig->ring, &tag));
	EXPECT_EQ(tags[2], tag);
}

TEST_F(reg, tag_on_empty_is_refused)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d = desc_empty();
	__u64 tag = 5;

	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	EXPECT_EQ(-EINVAL, reg_update(&rig->ring, 0, &d, &tag, 1));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
}

#define BURST	16

static int submit_reads(struct rig *rig, __u32 len)
{
	for (unsigned int i = 0; i < BURST; i++)
		uring_prep_rw(&rig->ring, IORING_OP_READ_FIXED, rig->disk,
			      i * len, i * len, len, 0)->user_data = i;
	return uring_submit(&rig->ring, 0);
}

/* The tag says "idle": it comes after the requests that use the slot */
TEST_F(reg, tag_waits_for_requests)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, rig->disk);
	__u64 tag = 0x1001;
	struct uring_res res;

	ASSERT_EQ(0, disk_fill(rig->disk, 0, SIZE, 5));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	ASSERT_EQ(1, reg_update(&rig->ring, 0, &d, &tag, 1));
	ASSERT_EQ(BURST, submit_reads(rig, SIZE / BURST));
	ASSERT_EQ(0, reg_clear(&rig->ring, 0));
	for (int i = 0; i < BURST; i++) {
		ASSERT_EQ(0, uring_wait(&rig->ring, &res, 10000));
		ASSERT_NE(tag, res.user_data);
		EXPECT_EQ(SIZE / BURST, res.res);
	}
	ASSERT_EQ(0, uring_wait(&rig->ring, &res, 10000));
	EXPECT_EQ(tag, res.user_data);
	EXPECT_EQ(NO_MISMATCH, mem_check(&rig->mem, 0, 0, SIZE, 5));
}

/* Requests keep the buffer they were submitted with */
TEST_F(reg, replace_under_requests)
{
	struct rig *rig = &self->rig;
	struct uring_res res;
	struct mem other;

	ASSERT_EQ(0, mem_create(&other, MEM_UDMABUF, SIZE));
	ASSERT_EQ(0, mem_poison(&other, 0, SIZE, POISON));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	ASSERT_EQ(0, disk_fill(rig->disk, 0, SIZE, 6));
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	ASSERT_EQ(BURST, submit_reads(rig, SIZE / BURST));
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, other.fd, rig->disk));
	for (int i = 0; i < BURST; i++) {
		ASSERT_EQ(0, uring_wait(&rig->ring, &res, 10000));
		EXPECT_EQ(SIZE / BURST, res.res);
	}
	EXPECT_EQ(NO_MISMATCH, mem_check(&rig->mem, 0, 0, SIZE, 6));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&other, 0, SIZE, POISON));
	mem_destroy(&other);
}

TEST_F(reg, clone_outlives_the_source)
{
	struct rig *rig = &self->rig;
	struct uring source = rig->ring;

	ASSERT_EQ(0, reg_dmabuf(&source, 2, rig->mem.fd, rig->disk));
	ASSERT_EQ(0, uring_init(&rig->ring, 64, 0));
	ASSERT_EQ(0, reg_clone(&rig->ring, &source));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 2));
	ASSERT_EQ(0, reg_unregister(&source));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 2));
	uring_exit(&source);
	ASSERT_EQ(0, rig_works(rig, rig->disk, 2));
	EXPECT_EQ(1, bufinfo_attachments(rig->mem.fd));
	ASSERT_EQ(0, reg_clear(&rig->ring, 2));
	EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 0, IDLE_MS));
}

/* Several slots, one attachment: each slot is its own part */
TEST_F(reg, parts_of_one_dmabuf)
{
	struct rig *rig = &self->rig;
	const __u64 part = SIZE / RIG_SLOTS;

	for (int slot = 0; slot < RIG_SLOTS; slot++) {
		struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, rig->disk);

		d.dmabuf_off = slot * part;
		d.size = part;
		ASSERT_EQ(0, reg_one(&rig->ring, slot, &d));
	}
	EXPECT_EQ(1, bufinfo_attachments(rig->mem.fd));
	for (int slot = 0; slot < RIG_SLOTS; slot++) {
		rig->base = slot * part;
		ASSERT_EQ(0, rig_read(rig, rig->disk, slot, 0, 0, part));
		ASSERT_EQ(0, rig_write(rig, rig->disk, slot, 8192, 4096, 4096));
		EXPECT_EQ(-EFAULT, uring_read(&rig->ring, rig->disk, 0, part, 512,
					      slot));
	}
	for (int slot = 0; slot < RIG_SLOTS; slot++) {
		rig->base = slot * part;
		ASSERT_EQ(0, rig_read(rig, rig->disk, slot, 0, 0, part));
		ASSERT_EQ(0, reg_clear(&rig->ring, slot));
	}
	EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 0, IDLE_MS));
}

TEST_F(reg, fdinfo_names_the_device)
{
	struct rig *rig = &self->rig;

	EXPECT_FALSE(fdinfo_has(rig->ring.fd, NEED_ENV("LAB_PCI_MAIN")));
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 5, rig->mem.fd, rig->disk));
	EXPECT_TRUE(fdinfo_has(rig->ring.fd, "    5: "));
	EXPECT_FALSE(fdinfo_has(rig->ring.fd, "    5: <none>"));
	EXPECT_TRUE(fdinfo_has(rig->ring.fd, NEED_ENV("LAB_PCI_MAIN")));
}

TEST_F(reg, fds_can_be_closed)
{
	struct rig *rig = &self->rig;
	struct udmabuf_create_item item = { .size = SIZE };
	int memfd, fd, target;
	char *map;

	mem_destroy(&rig->mem);
	memfd = memfd_sealed(SIZE, &map);
	ASSERT_GE(memfd, 0);
	item.memfd = memfd;
	fd = udmabuf_pieces(&item, 1);
	ASSERT_GE(fd, 0);
	target = lab_open(lab_env("LAB_NVME_MAIN"));
	ASSERT_GE(target, 0);
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, fd, target));
	close(target);
	close(fd);
	close(memfd);
	/* no dma-buf fd any more; the memory is seen through the memfd's map */
	mem_wrap(&rig->mem, -1, SIZE, map);
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
}

TEST_F(reg, clearing_a_slot_detaches)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, bufinfo_attachments(rig->mem.fd));
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	ASSERT_EQ(1, bufinfo_attachments(rig->mem.fd));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	ASSERT_EQ(0, reg_clear(&rig->ring, 0));
	EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 0, IDLE_MS));
}

TEST_F(reg, unregister_detaches)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 7, rig->mem.fd, rig->disk));
	ASSERT_EQ(0, reg_unregister(&rig->ring));
	EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 0, IDLE_MS));
}

TEST_F(reg, ring_exit_detaches)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	ASSERT_EQ(BURST, submit_reads(rig, SIZE / BURST));
	uring_exit(&rig->ring);
	EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 0, IDLE_MS));
}

/* Runs until killed */
static void read_for_ever(struct rig *rig, int ready)
{
	struct uring_res res;

	if (uring_init(&rig->ring, 64, 0) || reg_sparse(&rig->ring, 1) ||
	    reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk) ||
	    submit_reads(rig, SIZE / BURST) != BURST)
		_exit(1);
	if (write(ready, "r", 1) != 1)
		_exit(1);
	while (!uring_wait(&rig->ring, &res, 10000)) {
		uring_prep_rw(&rig->ring, IORING_OP_READ_FIXED, rig->disk, 0, 0,
			      64 * KiB, 0);
		uring_submit(&rig->ring, 0);
	}
	_exit(1);
}

TEST_F(reg, kill_detaches)
{
	struct rig *rig = &self->rig;
	int ready[2], status;
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(ready));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		read_for_ever(rig, ready[1]);
	ASSERT_EQ(1, read(ready[0], &c, 1));
	EXPECT_EQ(1, bufinfo_attachments(rig->mem.fd));
	lab_sleep_ms(50);
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 0, IDLE_MS));
}

TEST_F(reg, two_rings_one_buffer)
{
	struct rig *rig = &self->rig;
	struct uring first = rig->ring;

	ASSERT_EQ(0, reg_dmabuf(&first, 0, rig->mem.fd, rig->disk));
	ASSERT_EQ(0, uring_init(&rig->ring, 64, 0));
	ASSERT_EQ(0, reg_sparse(&rig->ring, 1));
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	uring_exit(&rig->ring);
	rig->ring = first;
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
}

TEST_F(reg, repeated)
{
	struct rig *rig = &self->rig;

	for (unsigned int i = 0; i < lab_scale(300, 60); i++) {
		ASSERT_EQ(0, reg_dmabuf(&rig->ring, i % RIG_SLOTS, rig->mem.fd,
					rig->disk));
	}
	ASSERT_EQ(0, rig_works(rig, rig->disk, 3));
	ASSERT_EQ(0, reg_unregister(&rig->ring));
	EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 0, IDLE_MS));
}

/* A whole-buffer mapping made by registration, not by the first request */
TEST_F(reg, maps_once)
{
	struct rig *rig = &self->rig;
	struct dma_buf_bar_info info;

	mem_destroy(&rig->mem);
	if (mem_create(&rig->mem, MEM_BAR, SIZE))
		SKIP(return, "no /dev/dmabuf_bar");
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	ASSERT_EQ(0, bar_info(&rig->mem, &info));
	EXPECT_EQ(1, info.maps);
	EXPECT_EQ(1, info.live);
	EXPECT_EQ(0, info.pinned);
	ASSERT_EQ(0, reg_clear(&rig->ring, 0));
	EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 0, IDLE_MS));
	ASSERT_EQ(0, bar_info(&rig->mem, &info));
	EXPECT_EQ(0, info.live);
}

static void *signal_after_300_ms(void *arg)
{
	lab_sleep_ms(300);
	bar_fence(arg, 0);
	return NULL;
}

/* Work of the exporter on the memory is waited for before it is mapped */
TEST_F(reg, waits_for_the_kernel_fence)
{
	struct rig *rig = &self->rig;
	pthread_t thread;
	double start;

	mem_destroy(&rig->mem);
	if (mem_create(&rig->mem, MEM_BAR, SIZE))
		SKIP(return, "no /dev/dmabuf_bar");
	ASSERT_EQ(0, bar_fence(&rig->mem, 1));
	ASSERT_EQ(0, pthread_create(&thread, NULL, signal_after_300_ms, &rig->mem));
	start = lab_now();
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	ASSERT_EQ(0, rig_read(rig, rig->disk, 0, 0, 0, 4096));
	EXPECT_GE(lab_now() - start, 0.25);
	EXPECT_LT(lab_now() - start, 8.0);
	pthread_join(thread, NULL);
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
}

TEST_HARNESS_MAIN
