// SPDX-License-Identifier: GPL-2.0
/*
 * The exporter moves the memory while requests run: no byte gets lost, none
 * is written to the old place, no request learns of it, and the move never
 * waits for the application.
 */
#include <signal.h>
#include <linux/dma-buf-bar.h>

#include "common.h"
#include "mix.h"
#include "mover.h"

#define SIZE	(128 * KiB)

FIXTURE(moves) {
	struct rig rig;
};

FIXTURE_VARIANT(moves) {
	unsigned int ring_flags;
	enum mem_kind kind;
	unsigned int nr_places;
	unsigned int plain, debug;	/* how many moves */
};

FIXTURE_VARIANT_ADD(moves, everywhere) {
	0, MEM_BAR_4K, 3, 1000, 200,
};

FIXTURE_VARIANT_ADD(moves, within_the_bar) {
	0, MEM_BAR, 1, 200, 40,
};

FIXTURE_VARIANT_ADD(moves, iopoll) {
	IORING_SETUP_IOPOLL, MEM_BAR_64K, 3, 200, 40,
};

FIXTURE_VARIANT_ADD(moves, defer_taskrun) {
	IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER, MEM_BAR_64K, 3,
	200, 40,
};

FIXTURE_VARIANT_ADD(moves, sqpoll) {
	IORING_SETUP_SQPOLL, MEM_BAR_4K, 3, 200, 40,
};

FIXTURE_SETUP(moves)
{
	RIG_UP(&self->rig, "LAB_NVME_MAIN", variant->kind, SIZE,
	       variant->ring_flags);
	ASSERT_EQ(0, reg_dmabuf(&self->rig.ring, 0, self->rig.mem.fd,
				self->rig.disk));
}

FIXTURE_TEARDOWN(moves)
{
	rig_down(&self->rig);
}

TEST_F(moves, under_load)
{
	struct rig *rig = &self->rig;
	struct mover mover = {
		.mem = &rig->mem,
		.count = lab_scale(variant->plain, variant->debug),
		.nr_places = variant->nr_places,
	};
	struct dma_buf_bar_info info;
	struct mix mix;
	int ret = 0;

	ASSERT_EQ(0, mix_init(&mix, rig, rig->disk, 0, SIZE));
	ASSERT_EQ(0, mover_start(&mover));
	while (!ret && !mover_done(&mover)) {
		for (unsigned int i = 0; !ret && i < 4; i++)
			ret = mix_round(&mix, 8 << i % 3);
		if (!ret)
			ret = mix_verify(&mix);
	}
	mover_stop(&mover);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, mover.error);
	ASSERT_EQ(0, mix_round(&mix, 8));
	EXPECT_EQ(0, mix_verify(&mix));
	EXPECT_EQ(0, mix.nr_eagain);
	/* one more, so that the last old place is looked at */
	ASSERT_EQ(0, bar_move(&rig->mem, DMA_BUF_BAR_PLACE_A));
	ASSERT_EQ(0, bar_info(&rig->mem, &info));
	EXPECT_EQ(mover.count + 1, info.moves);
	EXPECT_EQ(0, info.stray);
	EXPECT_EQ(0, info.late);
	ksft_print_msg("%u moves, the longest %.3f s, during %lu requests\n",
		       mover.moves, mover.longest, mix.nr_ops);
	mix_free(&mix);
}

/* How long a move may take with requests in flight: they are short */
static double move_limit(void)
{
	return lab_scale(2, 6);
}

#define HELD	32

/*
 * Requests are submitted, their completions are never looked at: the memory
 * moves all the same, and what was read is there afterwards.
 */
static int submit_held(struct rig *rig)
{
	for (unsigned int i = 0; i < HELD; i++)
		uring_prep_rw(&rig->ring, IORING_OP_READ_FIXED, rig->disk,
			      i * SIZE / HELD, i * SIZE / HELD, SIZE / HELD, 0);
	return uring_submit(&rig->ring, 0);
}

static int reap_held(struct rig *rig)
{
	struct uring_res res;
	int ret;

	for (unsigned int i = 0; i < HELD; i++) {
		ret = uring_wait(&rig->ring, &res, 20000);
		if (ret)
			return ret;
		if (res.res != SIZE / HELD)
			return res.res ?: -EIO;
	}
	return 0;
}

TEST_F(moves, nobody_reaps)
{
	struct rig *rig = &self->rig;
	struct dma_buf_bar_info info;

	for (unsigned int i = 0; i < lab_scale(6, 3); i++) {
		double start;

		ASSERT_EQ(0, disk_fill(rig->disk, 0, SIZE, 50 + i));
		ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
		ASSERT_EQ(HELD, submit_held(rig));
		start = lab_now();
		ASSERT_EQ(0, bar_move(&rig->mem, mover_places[i % 3]));
		EXPECT_LT(lab_now() - start, move_limit());
		ASSERT_EQ(0, bar_move(&rig->mem, mover_places[(i + 1) % 3]));
		EXPECT_LT(lab_now() - start, 2 * move_limit());
		ASSERT_EQ(0, reap_held(rig));
		ASSERT_EQ(NO_MISMATCH, mem_check(&rig->mem, 0, 0, SIZE, 50 + i));
	}
	ASSERT_EQ(0, bar_info(&rig->mem, &info));
	EXPECT_EQ(0, info.stray);
	EXPECT_EQ(0, info.late);
}

/* The whole process is stopped with requests in flight */
static void submit_and_stop(struct rig *rig, unsigned int ring_flags)
{
	if (uring_init(&rig->ring, 64, ring_flags) || reg_sparse(&rig->ring, 1) ||
	    reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk) ||
	    submit_held(rig) != HELD)
		_exit(1);
	raise(SIGSTOP);
	_exit(reap_held(rig) ? 2 : 0);
}

TEST_F(moves, stopped_process)
{
	struct rig *rig = &self->rig;
	int status;
	pid_t pid;

	ASSERT_EQ(0, reg_clear(&rig->ring, 0));
	ASSERT_EQ(0, disk_fill(rig->disk, 0, SIZE, 60));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		submit_and_stop(rig, variant->ring_flags);
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	for (int i = 0; i < 6; i++) {
		double start = lab_now();

		ASSERT_EQ(0, bar_move(&rig->mem, mover_places[i % 3]));
		EXPECT_LT(lab_now() - start, move_limit());
	}
	kill(pid, SIGCONT);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	EXPECT_EQ(NO_MISMATCH, mem_check(&rig->mem, 0, 0, SIZE, 60));
}

/* Two drives, one buffer: an invalidation reaches every attachment */
TEST(two_targets)
{
	struct io_uring_regbuf_desc d;
	struct dma_buf_bar_info info;
	struct mover mover = { .count = lab_scale(100, 30), .nr_places = 3 };
	struct rig rig;
	int p3 = NEED_PART(3), ret = 0;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_BAR_4K, SIZE, 0);
	d = desc_dmabuf(rig.mem.fd, rig.disk);
	d.targets = (uintptr_t)&p3;
	d.nr_targets = 1;
	ASSERT_EQ(0, reg_one(&rig.ring, 0, &d));
	mover.mem = &rig.mem;
	ASSERT_EQ(0, mover_start(&mover));
	while (!ret && !mover_done(&mover)) {
		ret = rig_works(&rig, rig.disk, 0);
		if (!ret)
			ret = rig_works(&rig, p3, 0);
	}
	mover_stop(&mover);
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, mover.error);
	ASSERT_EQ(0, bar_move(&rig.mem, DMA_BUF_BAR_PLACE_B));
	ASSERT_EQ(0, bar_info(&rig.mem, &info));
	EXPECT_EQ(0, info.stray);
	EXPECT_EQ(0, info.late);
	rig_down(&rig);
}

/* Registration and clearing race with moves */
TEST(registration_under_moves)
{
	struct mover mover = { .nr_places = 3 };
	struct dma_buf_bar_info info;
	struct rig rig;
	int ret = 0;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_BAR_4K, SIZE, 0);
	mover.mem = &rig.mem;
	ASSERT_EQ(0, mover_start(&mover));
	for (unsigned int i = 0; !ret && i < lab_scale(100, 20); i++) {
		ret = reg_dmabuf(&rig.ring, i % RIG_SLOTS, rig.mem.fd, rig.disk);
		if (!ret)
			ret = rig_read(&rig, rig.disk, i % RIG_SLOTS, 0, 0, 8192);
		if (!ret && i % 3 == 0)
			ret = reg_clear(&rig.ring, i % RIG_SLOTS);
	}
	mover_stop(&mover);
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, mover.error);
	EXPECT_GT(mover.moves, 0);
	ASSERT_EQ(0, reg_unregister(&rig.ring));
	EXPECT_TRUE(bufinfo_wait(rig.mem.fd, 0, 5000));
	ASSERT_EQ(0, bar_info(&rig.mem, &info));
	EXPECT_EQ(0, info.stray);
	EXPECT_EQ(0, info.late);
	EXPECT_EQ(0, info.live);
	rig_down(&rig);
}

/* Requests behind a move wait for the exporter's fence, in any ring */
TEST_F(moves, waits_for_the_fence)
{
	struct rig *rig = &self->rig;
	struct uring_res res;

	ASSERT_EQ(0, disk_fill(rig->disk, 0, SIZE, 61));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	ASSERT_EQ(0, bar_move(&rig->mem, DMA_BUF_BAR_PLACE_B));
	ASSERT_EQ(0, bar_fence(&rig->mem, 1));
	uring_prep_rw(&rig->ring, IORING_OP_READ_FIXED, rig->disk, 0, 0, SIZE, 0);
	ASSERT_EQ(1, uring_submit(&rig->ring, 0));
	lab_sleep_ms(300);
	EXPECT_EQ(0, uring_ready(&rig->ring));
	ASSERT_EQ(0, bar_fence(&rig->mem, 0));
	ASSERT_EQ(0, uring_wait(&rig->ring, &res, 10000));
	EXPECT_EQ(SIZE, res.res);
	EXPECT_EQ(NO_MISMATCH, mem_check(&rig->mem, 0, 0, SIZE, 61));
}

/* Who does not want to wait is told, and nothing is lost by that */
TEST(nowait)
{
	struct rig rig;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_BAR, SIZE, 0);
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk));
	ASSERT_EQ(0, disk_fill(rig.disk, 0, SIZE, 62));
	ASSERT_EQ(0, mem_poison(&rig.mem, 0, SIZE, POISON));
	ASSERT_EQ(0, bar_move(&rig.mem, DMA_BUF_BAR_PLACE_B));
	uring_prep_rw(&rig.ring, IORING_OP_READ_FIXED, rig.disk, 0, 0, SIZE,
		      0)->rw_flags = RWF_NOWAIT;
	EXPECT_EQ(-EAGAIN, uring_do(&rig.ring));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&rig.mem, 0, SIZE, POISON));
	/* mapped again by one that may wait */
	ASSERT_EQ(4096, uring_read(&rig.ring, rig.disk, 0, 0, 4096, 0));
	uring_prep_rw(&rig.ring, IORING_OP_READ_FIXED, rig.disk, 0, 0, SIZE,
		      0)->rw_flags = RWF_NOWAIT;
	EXPECT_EQ(SIZE, uring_do(&rig.ring));
	EXPECT_EQ(NO_MISMATCH, mem_check(&rig.mem, 0, 0, SIZE, 62));
	rig_down(&rig);
}

/* --- files: their direct I/O has retries of its own --- */

FIXTURE(file_moves) {
	struct rig rig;
	int fd;
	char path[160];
};

FIXTURE_VARIANT(file_moves) {
	const char *env;
	unsigned int ring_flags;
	__u8 sqe_flags;
};

FIXTURE_VARIANT_ADD(file_moves, ext4) { .env = "LAB_EXT4" };
FIXTURE_VARIANT_ADD(file_moves, xfs) { .env = "LAB_XFS" };
FIXTURE_VARIANT_ADD(file_moves, xfs_async) {
	.env = "LAB_XFS", .sqe_flags = IOSQE_ASYNC,
};

FIXTURE_VARIANT_ADD(file_moves, xfs_iopoll) {
	.env = "LAB_XFS", .ring_flags = IORING_SETUP_IOPOLL,
};

FIXTURE_SETUP(file_moves)
{
	self->fd = -1;
	RIG_UP(&self->rig, "LAB_NVME_FS", MEM_BAR_4K, SIZE, variant->ring_flags);
	snprintf(self->path, sizeof(self->path), "%s/iou-dmabuf-moves",
		 NEED_ENV(variant->env));
	unlink(self->path);
	self->fd = open(self->path, O_RDWR | O_DIRECT | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_GE(self->fd, 0);
	ASSERT_EQ(0, reg_dmabuf(&self->rig.ring, 0, self->rig.mem.fd, self->fd));
}

FIXTURE_TEARDOWN(file_moves)
{
	if (self->fd >= 0) {
		close(self->fd);
		unlink(self->path);
	}
	rig_down(&self->rig);
}

/* Reads and writes in sectors, which are less than a block of the file system */
TEST_F(file_moves, under_load)
{
	struct rig *rig = &self->rig;
	struct mover mover = {
		.mem = &rig->mem, .count = lab_scale(200, 40), .nr_places = 3,
	};
	struct dma_buf_bar_info info;
	struct mix mix;
	int ret = 0;

	ASSERT_EQ(0, mix_init(&mix, rig, self->fd, 0, SIZE));
	mix.sqe_flags = variant->sqe_flags;
	ASSERT_EQ(0, mover_start(&mover));
	while (!ret && !mover_done(&mover)) {
		ret = mix_round(&mix, 8);
		if (!ret)
			ret = mix_verify(&mix);
	}
	mover_stop(&mover);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, mover.error);
	EXPECT_EQ(0, mix.nr_eagain);
	ASSERT_EQ(0, bar_move(&rig->mem, DMA_BUF_BAR_PLACE_A));
	ASSERT_EQ(0, bar_info(&rig->mem, &info));
	EXPECT_EQ(0, info.stray);
	EXPECT_EQ(0, info.late);
	mix_free(&mix);
}

/* One block and no more: that has a way of its own through iomap */
TEST_F(file_moves, single_blocks)
{
	struct rig *rig = &self->rig;
	struct mover mover = {
		.mem = &rig->mem, .count = lab_scale(100, 20), .nr_places = 3,
	};
	struct dma_buf_bar_info info;
	unsigned int i = 0;

	ASSERT_EQ(0, disk_fill(self->fd, 0, SIZE, 64));
	ASSERT_EQ(0, mover_start(&mover));
	for (; !mover_done(&mover); i++) {
		__u64 off = i % 31 * 4096, addr = (i * 7 % 31) * 4096;
		/* a block of the file system, and one of the drive */
		__u32 len = i % 4 ? 4096 : 512;

		ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
		uring_prep_rw(&rig->ring, IORING_OP_READ_FIXED, self->fd, off,
			      addr, len, 0)->flags = variant->sqe_flags;
		ASSERT_EQ(len, uring_do(&rig->ring));
		ASSERT_EQ(NO_MISMATCH,
			  mem_check_only(&rig->mem, addr, off, len, 64));
	}
	mover_stop(&mover);
	EXPECT_EQ(0, mover.error);
	EXPECT_GT(i, 0);
	ASSERT_EQ(0, bar_move(&rig->mem, DMA_BUF_BAR_PLACE_A));
	ASSERT_EQ(0, bar_info(&rig->mem, &info));
	EXPECT_EQ(0, info.stray);
	EXPECT_EQ(0, info.late);
}

TEST_F(file_moves, extending)
{
	struct rig *rig = &self->rig;
	/*
	 * A write that extends a file takes long from the mapping to the device,
	 * 50 ms and more on ext4 with a debug kernel. Moves that always come
	 * quicker than that would starve it.
	 */
	struct mover mover = {
		.mem = &rig->mem, .nr_places = 3, .rest_ms = lab_scale(0, 60),
	};
	const __u32 len = 4608;
	double start;
	__u64 off = 0;
	int ret = len;

	ASSERT_EQ(0, mem_fill(&rig->mem, 0, 0, SIZE, 63));
	ASSERT_EQ(0, mover_start(&mover));
	start = lab_now();
	for (; ret == (int)len && off + len <= SIZE; off += len) {
		uring_prep_rw(&rig->ring, IORING_OP_WRITE_FIXED, self->fd, off,
			      off, len, 0)->flags = variant->sqe_flags;
		ret = uring_do(&rig->ring);
	}
	mover_stop(&mover);
	ASSERT_EQ(len, ret);
	ASSERT_EQ(0, mover.error);
	EXPECT_EQ(off, lseek(self->fd, 0, SEEK_END));
	EXPECT_EQ(NO_MISMATCH, disk_check(self->fd, 0, 0, off, 63));
	ksft_print_msg("%llu writes during %u moves, %.1f s\n", off / len,
		       mover.moves, lab_now() - start);
}

TEST_HARNESS_MAIN
