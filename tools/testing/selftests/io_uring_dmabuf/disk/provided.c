// SPDX-License-Identifier: GPL-2.0
/* Reads that take the next free range of a pool, which a buffer ring names */
#include <sys/mman.h>
#include <linux/dma-buf-bar.h>

#include "bufring.h"
#include "common.h"

#define SIZE	(2 * MiB)
#define CHUNK	(64 * KiB)
#define POOL	16		/* entries of CHUNK */
#define GROUP	7
#define SEED	8800

FIXTURE(provided) {
	struct rig rig;
	struct bufring pool;
	char *user;
};

FIXTURE_VARIANT(provided) {
	const char *env;
	enum mem_kind kind;
	bool user;			/* ordinary memory instead */
	unsigned int ring;
	unsigned int sqe_flags;
};

FIXTURE_VARIANT_ADD(provided, udmabuf) {
	.env = "LAB_NVME_MAIN", .kind = MEM_UDMABUF_4K
};

FIXTURE_VARIANT_ADD(provided, bar_defer) {
	.env = "LAB_NVME_MAIN", .kind = MEM_BAR,
	.ring = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN
};

FIXTURE_VARIANT_ADD(provided, heap_async) {
	.env = "LAB_NVME_MAIN", .kind = MEM_HEAP, .sqe_flags = IOSQE_ASYNC
};

FIXTURE_VARIANT_ADD(provided, sqpoll) {
	.env = "LAB_NVME_MAIN", .kind = MEM_UDMABUF, .ring = IORING_SETUP_SQPOLL
};

FIXTURE_VARIANT_ADD(provided, user) {
	.env = "LAB_NVME_MAIN", .kind = MEM_UDMABUF, .user = true
};

FIXTURE_VARIANT_ADD(provided, user_async) {
	.env = "LAB_NVME_MAIN", .kind = MEM_UDMABUF, .user = true, .sqe_flags = IOSQE_ASYNC
};

FIXTURE_SETUP(provided)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d;

	RIG_UP(rig, variant->env, variant->kind, SIZE, variant->ring);
	d = desc_dmabuf(rig->mem.fd, rig->disk);
	if (variant->user) {
		self->user = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, self->user);
		d = desc_uaddr(self->user, SIZE);
	}
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &d));
	ASSERT_EQ(0, bufring_create(&self->pool, &rig->ring, GROUP, 2 * POOL, 0));
	ASSERT_EQ(0, disk_fill(rig->disk, 0, SIZE, SEED));
}

FIXTURE_TEARDOWN(provided)
{
	bufring_destroy(&self->pool);
	rig_down(&self->rig);
	if (self->user)
		munmap(self->user, SIZE);
}

/* Chunk @bid of the memory, in an order that is not that of the addresses */
static __u64 chunk(unsigned int bid)
{
	return bid * 5 % POOL * CHUNK;
}

static void provide(struct bufring *pool, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		bufring_add(pool, bufring_reg(0, chunk(i)), CHUNK, i);
}

/* The memory has at @off what the disk has at @pos */
static bool has(const struct rig *rig, const char *user, __u64 off, __u64 pos, __u64 len)
{
	return (user ? pattern_check(user + off, pos, len, SEED) :
		       mem_check(&rig->mem, off, pos, len, SEED)) == NO_MISMATCH;
}

static void prep(struct rig *rig, __u64 off, __u32 len, unsigned int sqe_flags)
{
	struct io_uring_sqe *sqe = uring_prep_rw(&rig->ring, IORING_OP_READ_FIXED, rig->disk,
						 off, 0, len, GROUP);

	sqe->flags = IOSQE_BUFFER_SELECT | sqe_flags;
	sqe->user_data = off;
}

#define BID(res)	((res).flags >> IORING_CQE_BUFFER_SHIFT)

/* A read that takes something: where it went */
#define TAKES(rig, off, len, sqe_flags, want, more) ({			\
	struct uring_res res_ = { 0 };					\
									\
	prep(rig, off, len, sqe_flags);					\
	ASSERT_LE(0, uring_submit(&(rig)->ring, 0));			\
	ASSERT_EQ(0, uring_wait(&(rig)->ring, &res_, 60000));		\
	EXPECT_EQ(want, res_.res);					\
	EXPECT_EQ(IORING_CQE_F_BUFFER | ((more) ? IORING_CQE_F_BUF_MORE : 0), \
		  res_.flags & 0xffff);					\
	BID(res_);							\
})

/* One that does not */
#define TAKES_NOTHING(rig, pool, err) do {				\
	struct uring_res res_ = { 0 };					\
	int head_ = bufring_head(pool);					\
									\
	prep(rig, 0, CHUNK, variant->sqe_flags);			\
	ASSERT_LE(0, uring_submit(&(rig)->ring, 0));			\
	ASSERT_EQ(0, uring_wait(&(rig)->ring, &res_, 60000));		\
	EXPECT_EQ(err, res_.res);					\
	EXPECT_EQ(0, res_.flags);					\
	EXPECT_EQ(head_, bufring_head(pool));				\
} while (0)

TEST_F(provided, whatever_is_free)
{
	struct rig *rig = &self->rig;

	for (unsigned int round = 0; round < 5; round++) {
		bool seen[POOL] = { false };

		provide(&self->pool, POOL);
		for (unsigned int i = 0; i < POOL; i++)
			prep(rig, i * CHUNK, CHUNK, variant->sqe_flags);
		ASSERT_LE(0, uring_submit(&rig->ring, 0));
		for (unsigned int i = 0; i < POOL; i++) {
			struct uring_res res;

			ASSERT_EQ(0, uring_wait(&rig->ring, &res, 60000));
			ASSERT_EQ(CHUNK, res.res);
			ASSERT_EQ(IORING_CQE_F_BUFFER, res.flags & 0xffff);
			ASSERT_GT(POOL, BID(res));
			EXPECT_FALSE(seen[BID(res)]);
			seen[BID(res)] = true;
			EXPECT_TRUE(has(rig, self->user, chunk(BID(res)), res.user_data, CHUNK));
		}
		TAKES_NOTHING(rig, &self->pool, -ENOBUFS);
	}
}

TEST_F(provided, part_of_an_entry)
{
	struct rig *rig = &self->rig;

	provide(&self->pool, 2);
	/* all of it is taken, though less is asked for */
	EXPECT_EQ(0, TAKES(rig, 8192, 4096, variant->sqe_flags, 4096, false));
	EXPECT_TRUE(has(rig, self->user, chunk(0), 8192, 4096));
	/* and 0 is all that there is of it */
	EXPECT_EQ(1, TAKES(rig, CHUNK, 0, variant->sqe_flags, CHUNK, false));
	EXPECT_TRUE(has(rig, self->user, chunk(1), CHUNK, CHUNK));
	TAKES_NOTHING(rig, &self->pool, -ENOBUFS);
}

TEST_F(provided, piece_by_piece)
{
	struct rig *rig = &self->rig;
	struct bufring inc;
	__u64 off = 0;

	bufring_destroy(&self->pool);
	ASSERT_EQ(0, bufring_create(&inc, &rig->ring, GROUP, 8, IOU_PBUF_RING_INC));
	bufring_add(&inc, bufring_reg(0, 4096), 5 * 4096, 9);
	for (unsigned int i = 0; i < 5; i++) {
		EXPECT_EQ(9, TAKES(rig, off, 4096, variant->sqe_flags, 4096, i < 4));
		EXPECT_TRUE(has(rig, self->user, 4096 + off, off, 4096));
		off += 4096;
	}
	TAKES_NOTHING(rig, &inc, -ENOBUFS);
	bufring_destroy(&inc);
}

/* What cannot be read into stays where it is, to be mended */
TEST_F(provided, wrong_entries)
{
	struct rig *rig = &self->rig;
	static const struct {
		__u64 addr;
		__u32 len;
		int err;
	} wrong[] = {
		{ (__u64)RIG_SLOTS << IOU_PBUF_REGBUF_SHIFT, CHUNK, -EFAULT },
		{ (__u64)1 << IOU_PBUF_REGBUF_SHIFT, CHUNK, -EFAULT },	/* empty slot */
		{ (__u64)0xffff << IOU_PBUF_REGBUF_SHIFT, CHUNK, -EFAULT },
		{ SIZE - 4096, CHUNK, -EFAULT },
		{ SIZE, CHUNK, -EFAULT },
		{ (1ULL << IOU_PBUF_REGBUF_SHIFT) - 4096, CHUNK, -EFAULT },
		{ 0, 0, -ENOBUFS },
	};

	bufring_add(&self->pool, 0, 0, 3);
	for (unsigned int i = 0; i < ARRAY_SIZE(wrong); i++) {
		bufring_change(&self->pool, wrong[i].addr, wrong[i].len, 3);
		TAKES_NOTHING(rig, &self->pool, wrong[i].err);
	}
	bufring_change(&self->pool, bufring_reg(0, CHUNK), CHUNK, 3);
	EXPECT_EQ(3, TAKES(rig, 0, CHUNK, variant->sqe_flags, CHUNK, false));
	EXPECT_TRUE(has(rig, self->user, CHUNK, 0, CHUNK));
}

/* What devices may only read, as the slot or the dma-buf has it, stays as it is */
TEST_F(provided, wrong_direction)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, rig->disk);
	struct mem ro;

	ASSERT_EQ(0, mem_create_bar(&ro, SIZE, DMA_BUF_BAR_RDONLY, 0));
	ASSERT_EQ(0, mem_poison(&ro, 0, SIZE, POISON));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	d.flags = IO_REGBUF_DMABUF_RDONLY;
	ASSERT_EQ(0, reg_one(&rig->ring, 1, &d));
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 2, ro.fd, rig->disk));
	bufring_add(&self->pool, bufring_reg(1, CHUNK), CHUNK, 8);
	TAKES_NOTHING(rig, &self->pool, -EFAULT);
	bufring_change(&self->pool, bufring_reg(2, CHUNK), CHUNK, 8);
	TAKES_NOTHING(rig, &self->pool, -EFAULT);
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&ro, 0, SIZE, POISON));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&rig->mem, 0, SIZE, POISON));
	/* the entry is good for another buffer in its slot */
	d.flags = IO_REGBUF_DMABUF_WRONLY;
	ASSERT_EQ(0, reg_one(&rig->ring, 2, &d));
	EXPECT_EQ(8, TAKES(rig, 4096, CHUNK, variant->sqe_flags, CHUNK, false));
	EXPECT_EQ(NO_MISMATCH, mem_check_only(&rig->mem, CHUNK, 4096, CHUNK, SEED));
	EXPECT_EQ(1, bufring_head(&self->pool));
	mem_destroy(&ro);
}

TEST_F(provided, wrong_groups)
{
	struct rig *rig = &self->rig;
	struct io_uring_sqe *sqe;
	struct bufring other;

	bufring_destroy(&self->pool);
	prep(rig, 0, CHUNK, variant->sqe_flags);
	EXPECT_EQ(-ENOENT, uring_do(&rig->ring));
	/* one that is no ring */
	sqe = uring_sqe(&rig->ring);
	sqe->opcode = IORING_OP_PROVIDE_BUFFERS;
	sqe->fd = 1;
	sqe->addr = (uintptr_t)&other;
	sqe->len = sizeof(other);
	sqe->buf_group = GROUP;
	ASSERT_EQ(0, uring_do(&rig->ring));
	prep(rig, 0, CHUNK, variant->sqe_flags);
	EXPECT_EQ(-EINVAL, uring_do(&rig->ring));
	sqe = uring_sqe(&rig->ring);
	sqe->opcode = IORING_OP_REMOVE_BUFFERS;
	sqe->fd = 1;
	sqe->buf_group = GROUP;
	EXPECT_EQ(1, uring_do(&rig->ring));
	/* what to write is known */
	sqe = uring_prep_rw(&rig->ring, IORING_OP_WRITE_FIXED, rig->disk, 0, 0, CHUNK, GROUP);
	sqe->flags = IOSQE_BUFFER_SELECT;
	EXPECT_EQ(-EOPNOTSUPP, uring_do(&rig->ring));
}

/* An error of the drive is no reason to keep the range */
TEST_F(provided, failed_reads)
{
	struct rig *rig = &self->rig;

	provide(&self->pool, 1);
	/* not a multiple of a block */
	EXPECT_EQ(0, TAKES(rig, 1, CHUNK, variant->sqe_flags, -EINVAL, false));
	TAKES_NOTHING(rig, &self->pool, -ENOBUFS);
}

/* The slot of an entry is looked up when it is taken, and then held */
TEST_F(provided, other_buffer_in_the_slot)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, rig->disk);

	if (variant->user)
		SKIP(return, "one of them is enough");
	provide(&self->pool, 2);
	ASSERT_EQ(0, reg_clear(&rig->ring, 0));
	TAKES_NOTHING(rig, &self->pool, -EFAULT);
	d.dmabuf_off = SIZE / 2;
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &d));
	EXPECT_EQ(0, TAKES(rig, 0, CHUNK, variant->sqe_flags, CHUNK, false));
	EXPECT_TRUE(has(rig, NULL, SIZE / 2 + chunk(0), 0, CHUNK));
}

TEST(is_said)
{
	struct io_uring_query_regbuf q;

	if (!kernel_has_regbuf())
		SKIP(return, "this kernel has no dma-buf buffers");
	ASSERT_EQ(0, query_regbuf(&q));
	EXPECT_TRUE(q.features & IO_REGBUF_FEATURE_PROVIDED);
}

/* A read that comes back for want of a mapping is issued again, and keeps its entry */
TEST_F(provided, issued_again)
{
	struct io_uring_regbuf_desc d;
	struct rig *rig = &self->rig;

	if (self->user)
		SKIP(return, "it is always mapped");
	for (unsigned int slot = 0; slot < 2; slot++) {
		/* the first read of each makes the drive a target */
		d = desc_dmabuf(rig->mem.fd, -1);
		d.flags = IO_REGBUF_DMABUF_ON_DEMAND;
		d.dmabuf_off = slot * SIZE / 2;
		ASSERT_EQ(0, reg_one(&rig->ring, slot, &d));
	}
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	bufring_add(&self->pool, bufring_reg(0, CHUNK), CHUNK, 5);
	bufring_add(&self->pool, bufring_reg(1, 2 * CHUNK), CHUNK, 6);
	EXPECT_EQ(5, TAKES(rig, 4096, CHUNK, variant->sqe_flags, CHUNK, false));
	EXPECT_EQ(1, bufring_head(&self->pool));
	EXPECT_EQ(NO_MISMATCH, mem_check_only(&rig->mem, CHUNK, 4096, CHUNK, SEED));
	/* and in the other slot, of which it is the only one */
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	EXPECT_EQ(6, TAKES(rig, 8192, CHUNK, variant->sqe_flags, CHUNK, false));
	EXPECT_EQ(2, bufring_head(&self->pool));
	EXPECT_EQ(NO_MISMATCH, mem_check_only(&rig->mem, SIZE / 2 + 2 * CHUNK, 8192, CHUNK,
					      SEED));
	TAKES_NOTHING(rig, &self->pool, -ENOBUFS);
}

TEST_HARNESS_MAIN
