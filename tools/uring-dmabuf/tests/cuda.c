// SPDX-License-Identifier: GPL-2.0
/*
 * Memory by CUDA's driver API, which fake-cuda.c stands for: which range is exported for
 * which pointer, what is given back, and what is said when it cannot be.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "program.h"
#include "uring-dmabuf.h"

#define SEED	9700
#define BLOCK	(2 * MiB)

static int (*alloc)(__u64 *ptr, size_t size), (*push)(void *ctx), (*retain)(void **ctx, int dev);
static int *allocations, *contexts;

static bool is_fake(void)
{
	void *lib = dlopen("libcuda.so.1", RTLD_NOW);

	if (!lib || !dlsym(lib, "fake_cuda_allocations"))
		return false;
	alloc = dlsym(lib, "cuMemAlloc_v2");
	push = dlsym(lib, "cuCtxPushCurrent_v2");
	retain = dlsym(lib, "cuDevicePrimaryCtxRetain");
	allocations = dlsym(lib, "fake_cuda_allocations");
	contexts = dlsym(lib, "fake_cuda_contexts");
	return true;
}

FIXTURE(cuda) {
	struct dmabuf_mem mem;
	struct io_uring ring;
	int disk;
	char *data;
};

FIXTURE_SETUP(cuda)
{
	if (!is_fake())
		SKIP(return, "no fake libcuda.so.1 in LD_LIBRARY_PATH");
	self->disk = NEED_DISK("LAB_NVME_MAIN");
	self->data = malloc(BLOCK);
	ASSERT_EQ(0, io_uring_queue_init(8, &self->ring, 0));
	ASSERT_EQ(0, io_uring_register_buffers_sparse(&self->ring, 1));
}

FIXTURE_TEARDOWN(cuda)
{
	io_uring_queue_exit(&self->ring);
	dmabuf_mem_close(&self->mem);
	close(self->disk);
	free(self->data);
}

static int read_into(struct io_uring *ring, int disk, struct dmabuf_mem *mem, size_t len)
{
	struct io_uring_cqe *cqe;
	int ret;

	io_uring_prep_read_dmabuf(io_uring_get_sqe(ring), disk, mem->off, len, 0, 0);
	ret = io_uring_submit_and_wait(ring, 1);
	if (ret < 0 || io_uring_wait_cqe(ring, &cqe))
		return -EIO;
	ret = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return ret;
}

TEST_F(cuda, open)
{
	struct dmabuf_mem *mem = &self->mem;

	/* so that the next is not at the start of a block */
	ASSERT_EQ(0, dmabuf_mem_open(mem, "cuda:0", 4096)) TH_LOG("%s", dmabuf_mem_why());
	EXPECT_EQ(NULL, mem->ptr);
	EXPECT_NE(0, mem->device_ptr);
	dmabuf_mem_close(mem);
	EXPECT_EQ(0, *allocations);
	EXPECT_EQ(0, *contexts);

	ASSERT_EQ(0, dmabuf_mem_open(mem, "cuda:0", 1 * MiB)) TH_LOG("%s", dmabuf_mem_why());
	EXPECT_EQ(1 * MiB, mem->size);
	EXPECT_EQ(mem->device_ptr % BLOCK, mem->off);
	EXPECT_NE(0, mem->off);
	ASSERT_EQ(0, disk_fill(self->disk, 0, 1 * MiB, SEED));
	ASSERT_EQ(0, io_uring_dmabuf_register(&self->ring, 0, mem->fd, self->disk, 0, NULL));
	ASSERT_EQ(1 * MiB, read_into(&self->ring, self->disk, mem, 1 * MiB));
	ASSERT_EQ(0, dmabuf_mem_copy_from(mem, 0, self->data, 1 * MiB));
	EXPECT_EQ(NO_MISMATCH, pattern_check(self->data, 0, 1 * MiB, SEED));
	memset(self->data, 1, 100);
	ASSERT_EQ(0, dmabuf_mem_copy_to(mem, 5000, self->data, 100));
	ASSERT_EQ(0, dmabuf_mem_copy_from(mem, 4999, self->data, 102));
	EXPECT_EQ(NO_MISMATCH, pattern_check(self->data, 4999, 1, SEED));
	EXPECT_EQ(NO_MISMATCH, poison_check(self->data + 1, 100, 1));
	EXPECT_EQ(-EFAULT, dmabuf_mem_copy_to(mem, 1 * MiB - 1, self->data, 2));
}

/* A pointer to anywhere: as wide as what is around it allows */
TEST_F(cuda, from_ptr)
{
	struct dmabuf_mem *mem = &self->mem;
	__u64 tensor, small;
	void *ctx;

	ASSERT_EQ(0, retain(&ctx, 0));
	ASSERT_EQ(0, push(ctx));
	ASSERT_EQ(0, alloc(&tensor, 3 * BLOCK));
	ASSERT_EQ(0, alloc(&small, 5000));
	/* of a slice: whole blocks around it */
	ASSERT_EQ(0, dmabuf_mem_from_ptr(mem, (void *)(tensor + BLOCK + 512), BLOCK));
	EXPECT_EQ(512, mem->off);
	EXPECT_EQ(BLOCK, mem->size);
	EXPECT_EQ(2 * BLOCK, lseek(mem->fd, 0, SEEK_END));
	EXPECT_EQ(tensor + BLOCK + 512, mem->device_ptr);
	ASSERT_EQ(0, dmabuf_mem_copy_to(mem, 0, "slice", 5));
	dmabuf_mem_close(mem);
	/* what was allocated by somebody else is not freed */
	EXPECT_EQ(2, *allocations);
	EXPECT_EQ(1, *contexts);

	ASSERT_EQ(0, dmabuf_mem_from_ptr(mem, (void *)small, 5000));
	EXPECT_EQ(small % BLOCK, mem->off);
	dmabuf_mem_close(mem);

	/* to the last byte that is mapped */
	ASSERT_EQ(0, dmabuf_mem_from_ptr(mem, (void *)(tensor + 3 * BLOCK - 1), 1));
	EXPECT_EQ(BLOCK - 1, mem->off);
	dmabuf_mem_close(mem);
}

TEST_F(cuda, why_not)
{
	struct dmabuf_mem *mem = &self->mem;
	__u64 tensor;
	void *ctx;

	EXPECT_EQ(-EINVAL, dmabuf_mem_open(mem, "cuda:x", 4096));
	EXPECT_EQ(-ENODEV, dmabuf_mem_open(mem, "cuda:1", 4096));
	EXPECT_NE(NULL, strstr(dmabuf_mem_why(), "no device 1"));
	EXPECT_EQ(-ENOMEM, dmabuf_mem_open(mem, "cuda:0", GiB));
	EXPECT_NE(NULL, strstr(dmabuf_mem_why(), "OUT_OF_MEMORY"));
	EXPECT_EQ(-EINVAL, dmabuf_mem_from_ptr(mem, NULL, 4096));
	EXPECT_EQ(-EINVAL, dmabuf_mem_from_ptr(mem, self->data, 0));
	EXPECT_EQ(-EINVAL, dmabuf_mem_from_ptr(mem, self->data, SIZE_MAX));
	EXPECT_EQ(-EFAULT, dmabuf_mem_from_ptr(mem, self->data, 4096));
	EXPECT_NE(NULL, strstr(dmabuf_mem_why(), "does not know the pointer"));
	EXPECT_EQ(-EOPNOTSUPP, dmabuf_mem_from_ptr(mem, (void *)0x710000000000, 4096));
	EXPECT_NE(NULL, strstr(dmabuf_mem_why(), "UADDR"));
	EXPECT_EQ(-EOPNOTSUPP, dmabuf_mem_from_ptr(mem, (void *)0x720000000000, 4096));
	EXPECT_NE(NULL, strstr(dmabuf_mem_why(), "managed"));
	/* more than there is behind the pointer */
	ASSERT_EQ(0, retain(&ctx, 0));
	ASSERT_EQ(0, push(ctx));
	ASSERT_EQ(0, alloc(&tensor, BLOCK));
	EXPECT_EQ(-EINVAL, dmabuf_mem_from_ptr(mem, (void *)tensor, BLOCK + 1));
	EXPECT_NE(NULL, strstr(dmabuf_mem_why(), "INVALID_VALUE"));
	EXPECT_EQ(-1, mem->fd);
	EXPECT_EQ(1, *allocations);
	EXPECT_EQ(1, *contexts);
}

/* ---- in the program ---- */

static int none(void)
{
	return setenv("FAKE_CUDA", "none", 1);
}

static int old(void)
{
	return setenv("FAKE_CUDA", "old", 1);
}

static int without(void)
{
	return unsetenv("LD_LIBRARY_PATH");
}

static const char *why(const struct program *p)
{
	json_t *pair = json_array_get(json_object_get(p->json, "pairs"), 0);

	return json_string_value(json_object_get(pair, "text")) ?: "";
}

TEST(check)
{
	static const struct {
		int (*before)(void);
		const char *says;
	} cases[] = {
		{ none, "nvidia-smi" }, { old, "open kernel modules" }, { without, "libcuda.so.1" },
	};
	struct program p = { .fd = -1 };

	if (!is_fake())
		SKIP(return, "no fake libcuda.so.1 in LD_LIBRARY_PATH");
	PROGRAM(&p, "check", "--json", "--write", "-m", "cuda:0", NEED_ENV("LAB_EXT4"),
		NEED_ENV("LAB_NVME_MAIN"));
	EXPECT_EQ(0, program_run(&p)) TH_LOG("%s%s", p.out, p.err);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		p.before = cases[i].before;
		EXPECT_EQ(1, program_run(&p)) TH_LOG("%s%s", p.out, p.err);
		EXPECT_NE(NULL, strstr(why(&p), cases[i].says)) TH_LOG("%s", p.out);
	}
	program_free(&p);
}

TEST_HARNESS_MAIN
