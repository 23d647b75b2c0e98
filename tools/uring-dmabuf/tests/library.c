// SPDX-License-Identifier: GPL-2.0
/*
 * liburing-dmabuf as its users have it: registration, requests, memory, and what it says
 * when something is not possible.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/dma-heap.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "common.h"
#include "netsock.h"
#include "uring-dmabuf.h"

#define SIZE	(1 * MiB)
#define SEED	9100

FIXTURE(lib) {
	struct io_uring ring;
	struct dmabuf_mem mem;
	int disk;
	char *data;
};

FIXTURE_VARIANT(lib) {
	const char *memory;
};

FIXTURE_VARIANT_ADD(lib, udmabuf) { "udmabuf" };
FIXTURE_VARIANT_ADD(lib, heap) { "heap:system" };

FIXTURE_SETUP(lib)
{
	self->disk = NEED_DISK("LAB_NVME_MAIN");
	self->data = malloc(SIZE);
	ASSERT_NE(NULL, self->data);
	ASSERT_EQ(0, io_uring_queue_init(8, &self->ring, 0));
	ASSERT_EQ(0, io_uring_register_buffers_sparse(&self->ring, 4));
	ASSERT_EQ(0, dmabuf_mem_open(&self->mem, variant->memory, SIZE))
		TH_LOG("%s", dmabuf_mem_why());
	EXPECT_EQ(SIZE, self->mem.size);
	EXPECT_EQ(0, self->mem.off);
	EXPECT_STREQ("", dmabuf_mem_why());
}

FIXTURE_TEARDOWN(lib)
{
	io_uring_queue_exit(&self->ring);
	/* the ring's end takes its buffers along a little later */
	EXPECT_TRUE(bufinfo_wait(self->mem.fd, 0, 10000));
	dmabuf_mem_close(&self->mem);
	EXPECT_EQ(-1, self->mem.fd);
	free(self->data);
	close(self->disk);
}

/* Submits the one request that is prepared: its result */
static int done(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	int ret = io_uring_submit_and_wait(ring, 1);

	if (ret >= 0)
		ret = io_uring_wait_cqe(ring, &cqe);
	if (ret < 0)
		return ret;
	ret = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return ret;
}

TEST_F(lib, reads)
{
	struct io_uring_dmabuf_reason why;
	struct io_uring *ring = &self->ring;

	ASSERT_EQ(0, io_uring_dmabuf_register(ring, 1, self->mem.fd, self->disk, 0, &why));
	EXPECT_EQ(IO_URING_DMABUF_STAGE_NONE, why.stage);
	EXPECT_STREQ("", why.text);
	ASSERT_EQ(0, disk_fill(self->disk, 0, SIZE, SEED));
	memset(self->data, POISON, SIZE);
	ASSERT_EQ(0, dmabuf_mem_copy_to(&self->mem, 0, self->data, SIZE));

	io_uring_prep_read_dmabuf(io_uring_get_sqe(ring), self->disk, 4096, 64 * KiB, 8192, 1);
	ASSERT_EQ(64 * KiB, done(ring));
	ASSERT_EQ(0, dmabuf_mem_copy_from(&self->mem, 0, self->data, SIZE));
	EXPECT_EQ(NO_MISMATCH, poison_check(self->data, 4096, POISON));
	EXPECT_EQ(NO_MISMATCH, pattern_check(self->data + 4096, 8192, 64 * KiB, SEED));
	EXPECT_EQ(NO_MISMATCH, poison_check(self->data + 4096 + 64 * KiB,
					    SIZE - 4096 - 64 * KiB, POISON));
}

TEST_F(lib, writes)
{
	struct io_uring *ring = &self->ring;

	ASSERT_EQ(0, io_uring_dmabuf_register(ring, 0, self->mem.fd, self->disk, 0, NULL));
	ASSERT_EQ(0, disk_poison(self->disk, 0, SIZE, POISON));
	pattern_fill(self->data, 0, SIZE, SEED + 1);
	ASSERT_EQ(0, dmabuf_mem_copy_to(&self->mem, 0, self->data, SIZE));

	io_uring_prep_write_dmabuf(io_uring_get_sqe(ring), self->disk, 12288, 32 * KiB, 4096, 0);
	ASSERT_EQ(32 * KiB, done(ring));
	EXPECT_EQ(NO_MISMATCH, disk_check_poison(self->disk, 0, 4096, POISON));
	EXPECT_EQ(NO_MISMATCH, disk_check(self->disk, 4096, 12288, 32 * KiB, SEED + 1));
	EXPECT_EQ(NO_MISMATCH, disk_check_poison(self->disk, 4096 + 32 * KiB, 64 * KiB, POISON));
}

TEST_F(lib, vectors)
{
	struct iovec iov[] = {
		{ (void *)(512 * KiB), 4096 }, { (void *)8192, 8192 },
	};
	struct io_uring *ring = &self->ring;

	ASSERT_EQ(0, io_uring_dmabuf_register(ring, 0, self->mem.fd, self->disk, 0, NULL));
	ASSERT_EQ(0, disk_fill(self->disk, 0, SIZE, SEED + 2));
	io_uring_prep_readv_dmabuf(io_uring_get_sqe(ring), self->disk, iov, 2, 4096, 0);
	ASSERT_EQ(12288, done(ring));
	ASSERT_EQ(0, dmabuf_mem_copy_from(&self->mem, 0, self->data, SIZE));
	EXPECT_EQ(NO_MISMATCH, pattern_check(self->data + 512 * KiB, 4096, 4096, SEED + 2));
	EXPECT_EQ(NO_MISMATCH, pattern_check(self->data + 8192, 8192, 8192, SEED + 2));

	/* the same bytes to elsewhere */
	io_uring_prep_writev_dmabuf(io_uring_get_sqe(ring), self->disk, iov, 2, 256 * KiB, 0);
	ASSERT_EQ(12288, done(ring));
	EXPECT_EQ(NO_MISMATCH, disk_check(self->disk, 256 * KiB, 4096, 12288, SEED + 2));
}

/* The same of a send: its result, once the notification has come, too */
static int sent(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	int ret = done(ring);

	if (ret < 0 || io_uring_wait_cqe(ring, &cqe))
		return -EIO;
	if (!(cqe->flags & IORING_CQE_F_NOTIF))
		ret = -EPROTO;
	io_uring_cqe_seen(ring, cqe);
	return ret;
}

TEST_F(lib, sends_a_copy_where_it_may)
{
	struct iovec iov[] = { { (void *)8192, 600 }, { (void *)4096, 400 } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	struct io_uring *ring = &self->ring;
	struct net_pair pair;

	ASSERT_EQ(0, net_local("127.0.0.1", &pair));
	pattern_fill(self->data, 0, SIZE, SEED + 3);
	ASSERT_EQ(0, dmabuf_mem_copy_to(&self->mem, 0, self->data, SIZE));
	/* loopback is no device that reads memory */
	ASSERT_EQ(0, io_uring_dmabuf_register(ring, 0, self->mem.fd, pair.tx,
					      IO_URING_DMABUF_COPY_OK, NULL));
	io_uring_prep_send_zc_dmabuf(io_uring_get_sqe(ring), pair.tx, 4096, 1000, 0, 0, 0);
	EXPECT_EQ(1000, sent(ring));
	io_uring_prep_sendmsg_zc_dmabuf(io_uring_get_sqe(ring), pair.tx, &msg, 0, 0);
	EXPECT_EQ(1000, sent(ring));

	ASSERT_EQ(2000, recv(pair.rx, self->data, 2000, MSG_WAITALL));
	EXPECT_EQ(NO_MISMATCH, pattern_check(self->data, 4096, 1000, SEED + 3));
	EXPECT_EQ(NO_MISMATCH, pattern_check(self->data + 1000, 8192, 600, SEED + 3));
	EXPECT_EQ(NO_MISMATCH, pattern_check(self->data + 1600, 4096, 400, SEED + 3));
	net_close(&pair);
}

/* The kernel chooses the place; the completions say which it was */
TEST_F(lib, provided)
{
	struct io_uring *ring = &self->ring;
	struct io_uring_buf_ring *pool;
	struct io_uring_buf_reg reg = { .ring_entries = 4, .bgid = 7 };
	struct io_uring_dmabuf_caps caps;
	struct io_uring_cqe *cqe;
	struct net_pair pair;
	int mask;

	ASSERT_EQ(0, io_uring_dmabuf_query(&caps));
	ASSERT_TRUE(caps.features & IO_URING_DMABUF_FEATURE_PROVIDED);
	ASSERT_TRUE(caps.features & IO_URING_DMABUF_FEATURE_SINGLE_CQE);
	ASSERT_EQ(0, net_local("127.0.0.1", &pair));
	ASSERT_EQ(0, io_uring_dmabuf_register(ring, 3, self->mem.fd, self->disk,
					      IO_URING_DMABUF_COPY_OK, NULL));
	ASSERT_EQ(0, disk_fill(self->disk, 0, SIZE, SEED + 5));
	pool = aligned_alloc(4096, 4096);
	ASSERT_NE(NULL, pool);
	reg.ring_addr = (uintptr_t)pool;
	ASSERT_EQ(0, io_uring_register_buf_ring(ring, &reg, 0));
	io_uring_buf_ring_init(pool);
	mask = io_uring_buf_ring_mask(4);
	io_uring_dmabuf_buf_ring_add(pool, 3, 512 * KiB, 8192, 40, mask, 0);
	io_uring_dmabuf_buf_ring_add(pool, 3, 64 * KiB, 1000, 41, mask, 1);
	io_uring_dmabuf_buf_ring_add(pool, 3, 512 * KiB + 4096, 500, 42, mask, 2);
	io_uring_buf_ring_advance(pool, 3);

	io_uring_prep_read_provided_dmabuf(io_uring_get_sqe(ring), self->disk, 0, 4096, 7);
	ASSERT_EQ(1, io_uring_submit_and_wait(ring, 1));
	ASSERT_EQ(0, io_uring_wait_cqe(ring, &cqe));
	EXPECT_EQ(8192, cqe->res);
	EXPECT_EQ(40 << IORING_CQE_BUFFER_SHIFT | IORING_CQE_F_BUFFER, cqe->flags);
	io_uring_cqe_seen(ring, cqe);
	ASSERT_EQ(0, dmabuf_mem_copy_from(&self->mem, 512 * KiB, self->data, 8192));
	EXPECT_EQ(NO_MISMATCH, pattern_check(self->data, 4096, 8192, SEED + 5));

	/* the other two, in their order, with one completion */
	pattern_fill(self->data, 0, 1000, SEED + 6);
	ASSERT_EQ(0, dmabuf_mem_copy_to(&self->mem, 64 * KiB, self->data, 1000));
	io_uring_prep_send_zc_provided_dmabuf(io_uring_get_sqe(ring), pair.tx, 0, 0,
					      IO_URING_DMABUF_SEND_BUNDLE |
					      IO_URING_DMABUF_SEND_SINGLE_CQE, 7);
	ASSERT_EQ(1, io_uring_submit_and_wait(ring, 1));
	ASSERT_EQ(0, io_uring_wait_cqe(ring, &cqe));
	EXPECT_EQ(1500, cqe->res);
	EXPECT_EQ(41 << IORING_CQE_BUFFER_SHIFT | IORING_CQE_F_BUFFER,
		  cqe->flags & ~IO_URING_DMABUF_CQE_COPIED);
	io_uring_cqe_seen(ring, cqe);
	EXPECT_EQ(-EAGAIN, io_uring_peek_cqe(ring, &cqe));
	ASSERT_EQ(1500, recv(pair.rx, self->data, 1500, MSG_WAITALL));
	EXPECT_EQ(NO_MISMATCH, pattern_check(self->data, 0, 1000, SEED + 6));
	EXPECT_EQ(NO_MISMATCH, pattern_check(self->data + 1000, 4096 + 4096, 500, SEED + 5));

	/* nothing is left */
	io_uring_prep_read_provided_dmabuf(io_uring_get_sqe(ring), self->disk, 0, 4096, 7);
	EXPECT_EQ(-ENOBUFS, done(ring));
	EXPECT_EQ(0, io_uring_unregister_buf_ring(ring, 7));
	free(pool);
	net_close(&pair);
}

TEST_F(lib, parts_and_targets)
{
	struct io_uring *ring = &self->ring;
	struct io_uring_dmabuf_reason why;
	struct io_uring_dmabuf_map map;
	int fs = NEED_PART(3);

	ASSERT_EQ(0, io_uring_dmabuf_register_range(ring, 2, self->mem.fd, 8192, 64 * KiB,
						    &self->disk, 1, IO_URING_DMABUF_WRONLY,
						    &why));
	ASSERT_EQ(1, io_uring_dmabuf_map_info(ring, 2, 0, &map));
	EXPECT_EQ(IO_URING_DMABUF_TYPE_DMABUF, map.type);
	EXPECT_EQ(IO_URING_DMABUF_WRONLY, map.flags);
	EXPECT_EQ(8192, map.dmabuf_off);
	EXPECT_EQ(64 * KiB, map.size);
	EXPECT_STREQ("system", io_uring_dmabuf_state_name(map.state));
	EXPECT_STREQ(lab_env("LAB_PCI_MAIN"), map.device);

	ASSERT_EQ(0, io_uring_dmabuf_add_targets(ring, 2, &fs, 1, &why));
	ASSERT_EQ(2, io_uring_dmabuf_map_info(ring, 2, 1, &map));
	EXPECT_STREQ(lab_env("LAB_PCI_FS"), map.device);
	ASSERT_EQ(0, disk_fill(fs, 0, 4096, SEED + 4));
	io_uring_prep_read_dmabuf(io_uring_get_sqe(ring), fs, 0, 4096, 0, 2);
	EXPECT_EQ(4096, done(ring));
	ASSERT_EQ(0, dmabuf_mem_copy_from(&self->mem, 8192, self->data, 4096));
	EXPECT_EQ(NO_MISMATCH, pattern_check(self->data, 0, 4096, SEED + 4));
	/* devices only write it */
	io_uring_prep_write_dmabuf(io_uring_get_sqe(ring), fs, 0, 4096, 0, 2);
	EXPECT_EQ(-EFAULT, done(ring));

	ASSERT_EQ(0, io_uring_dmabuf_unregister(ring, 2));
	EXPECT_EQ(0, io_uring_dmabuf_map_info(ring, 2, 0, &map));
	io_uring_prep_read_dmabuf(io_uring_get_sqe(ring), fs, 0, 4096, 0, 2);
	EXPECT_EQ(-EFAULT, done(ring));
	close(fs);
}

TEST_F(lib, tables)
{
	struct io_uring_dmabuf_desc descs[2] = {
		{ .type = IO_URING_DMABUF_TYPE_DMABUF, .dmabuf_fd = self->mem.fd,
		  .target_fd = self->disk },
		{ .type = IO_URING_DMABUF_TYPE_EMPTY },
	};
	struct io_uring ring;

	ASSERT_EQ(0, io_uring_queue_init(8, &ring, 0));
	ASSERT_EQ(0, io_uring_dmabuf_register_table(&ring, descs, NULL, 2));
	EXPECT_EQ(-EBUSY, io_uring_dmabuf_register_table(&ring, descs, NULL, 2));
	io_uring_prep_read_dmabuf(io_uring_get_sqe(&ring), self->disk, 0, 4096, 0, 0);
	EXPECT_EQ(4096, done(&ring));
	/* the slot that was empty, and the one after the last */
	EXPECT_EQ(1, io_uring_dmabuf_update(&ring, 1, descs, NULL, 1));
	EXPECT_EQ(-EINVAL, io_uring_dmabuf_update(&ring, 2, descs, NULL, 1));
	io_uring_queue_exit(&ring);
}

/* --- what is not possible --- */

TEST_F(lib, says_why)
{
	struct io_uring_dmabuf_reason why;
	struct io_uring *ring = &self->ring;
	int tmpfs = memfd_create("no target", MFD_CLOEXEC);
	int fds[] = { self->disk, tmpfs };
	char text[512];

	ASSERT_EQ(-EOPNOTSUPP, io_uring_dmabuf_register_range(ring, 0, self->mem.fd, 0, 0, fds,
							      2, 0, &why));
	EXPECT_EQ(IO_URING_DMABUF_STAGE_TARGET, why.stage);
	EXPECT_EQ(1, why.target);
	EXPECT_NE('\0', why.text[0]);
	EXPECT_LT(0, io_uring_dmabuf_explain(-EOPNOTSUPP, &why, text, sizeof(text)));
	EXPECT_EQ(0, strncmp(text, "target: Operation not supported: ", 33));
	EXPECT_NE(NULL, strstr(text, why.text));

	EXPECT_EQ(-EINVAL, io_uring_dmabuf_register(ring, 0, tmpfs, self->disk, 0, &why));
	EXPECT_EQ(IO_URING_DMABUF_STAGE_FD, why.stage);
	EXPECT_EQ(-EBADF, io_uring_dmabuf_register(ring, 0, -1, self->disk, 0, &why));
	EXPECT_EQ(-EBADF, io_uring_dmabuf_register_range(ring, 0, self->mem.fd, 0, 0, NULL, 0,
							 0, &why));
	EXPECT_EQ(-EINVAL, io_uring_dmabuf_register(ring, 0, self->mem.fd, self->disk,
						    IO_URING_DMABUF_RDONLY |
						    IO_URING_DMABUF_WRONLY, &why));
	EXPECT_EQ(-EINVAL, io_uring_dmabuf_register_range(ring, 0, self->mem.fd, 100, 0,
							  &self->disk, 1, 0, &why));
	EXPECT_EQ(-EREMOTEIO, io_uring_dmabuf_register(ring, 0, self->mem.fd, self->disk,
						       IO_URING_DMABUF_REQUIRE_P2P, &why));
	EXPECT_EQ(IO_URING_DMABUF_STAGE_ADDRESS, why.stage);
	EXPECT_EQ(-EINVAL, io_uring_dmabuf_register(ring, 99, self->mem.fd, self->disk, 0, &why));
	EXPECT_NE('\0', why.text[0]);
	/* nothing of all that is left */
	EXPECT_EQ(0, io_uring_dmabuf_map_info(ring, 0, 0, &(struct io_uring_dmabuf_map){ 0 }));
	EXPECT_TRUE(bufinfo_wait(self->mem.fd, 0, 10000));
	close(tmpfs);
}

TEST_F(lib, no_table)
{
	struct io_uring_dmabuf_reason why;
	struct io_uring ring;

	ASSERT_EQ(0, io_uring_queue_init(8, &ring, 0));
	EXPECT_EQ(-ENXIO, io_uring_dmabuf_register(&ring, 0, self->mem.fd, self->disk, 0, &why));
	EXPECT_NE(NULL, strstr(why.text, "make a table"));
	io_uring_queue_exit(&ring);
}

TEST_F(lib, outside_of_the_memory)
{
	char byte = 1;

	EXPECT_EQ(-EFAULT, dmabuf_mem_copy_to(&self->mem, SIZE, &byte, 1));
	EXPECT_EQ(-EFAULT, dmabuf_mem_copy_from(&self->mem, SIZE - 1, &byte, 2));
	EXPECT_EQ(-EFAULT, dmabuf_mem_copy_from(&self->mem, 1, &byte, SIZE_MAX));
	EXPECT_NE(NULL, strstr(dmabuf_mem_why(), "not within"));
	EXPECT_EQ(0, dmabuf_mem_copy_from(&self->mem, SIZE - 1, &byte, 1));
	EXPECT_EQ(0, dmabuf_mem_copy_to(&self->mem, SIZE, &byte, 0));
	EXPECT_STREQ("", dmabuf_mem_why());
}

TEST(kernel)
{
	struct io_uring_dmabuf_caps caps;

	ASSERT_EQ(0, io_uring_dmabuf_query(&caps));
	EXPECT_LE(2, caps.version);
	EXPECT_EQ(80, caps.desc_size);
	EXPECT_TRUE(caps.type_mask & 1 << IO_URING_DMABUF_TYPE_DMABUF);
	EXPECT_STREQ("unknown", io_uring_dmabuf_state_name(1000));
	EXPECT_STREQ("unknown", io_uring_dmabuf_stage_name(1000));
}

/* As the profiles of container runtimes do it */
static int forbid_io_uring_register(unsigned int errno_)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_register, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | errno_),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = ARRAY_SIZE(code), .filter = code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

static int query_when_forbidden(unsigned int errno_)
{
	struct io_uring_dmabuf_caps caps;
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(forbid_io_uring_register(errno_) ? 255 : -io_uring_dmabuf_query(&caps));
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -ECHILD;
	return -WEXITSTATUS(status);
}

TEST(seccomp)
{
	EXPECT_EQ(-EPERM, query_when_forbidden(EPERM));
	EXPECT_EQ(-ENOSYS, query_when_forbidden(ENOSYS));
	/* an old kernel's words */
	EXPECT_EQ(-EOPNOTSUPP, query_when_forbidden(EINVAL));
}

TEST(memory_that_is_not_there)
{
	struct dmabuf_mem mem;
	char spec[32];
	int fd;

	EXPECT_EQ(-EINVAL, dmabuf_mem_open(&mem, "nonsense", 4096));
	EXPECT_NE(NULL, strstr(dmabuf_mem_why(), "nonsense"));
	EXPECT_EQ(-1, mem.fd);
	EXPECT_EQ(-EINVAL, dmabuf_mem_open(&mem, "", 4096));
	EXPECT_EQ(-EINVAL, dmabuf_mem_open(&mem, "udmabuf:1", 4096));
	EXPECT_EQ(-EINVAL, dmabuf_mem_open(&mem, "heap", 4096));
	EXPECT_EQ(-EINVAL, dmabuf_mem_open(&mem, "udmabuf", 0));
	EXPECT_EQ(-EINVAL, dmabuf_mem_open(&mem, "heap:../null", 4096));
	EXPECT_EQ(-ENOENT, dmabuf_mem_open(&mem, "heap:nowhere", 4096));
	EXPECT_NE(NULL, strstr(dmabuf_mem_why(), " system"));
	/* one more than the limit of the module */
	EXPECT_EQ(-EINVAL, dmabuf_mem_open(&mem, "udmabuf", (1ULL << 40) + 1));
	EXPECT_NE(NULL, strstr(dmabuf_mem_why(), "size_limit_mb"));
	EXPECT_EQ(-EINVAL, dmabuf_mem_open(&mem, "udmabuf", SIZE_MAX));

	EXPECT_EQ(-EINVAL, dmabuf_mem_open(&mem, "fd:", 0));
	EXPECT_EQ(-EINVAL, dmabuf_mem_open(&mem, "fd:x", 0));
	EXPECT_EQ(-EINVAL, dmabuf_mem_open(&mem, "fd:-1", 0));
	EXPECT_EQ(-EBADF, dmabuf_mem_open(&mem, "fd:1000", 0));
	fd = memfd_create("no dma-buf", MFD_CLOEXEC);
	snprintf(spec, sizeof(spec), "fd:%d", fd);
	EXPECT_EQ(-EINVAL, dmabuf_mem_open(&mem, spec, 0));
	EXPECT_NE(NULL, strstr(dmabuf_mem_why(), "no dma-buf"));
	close(fd);
}

TEST(memory_of_others)
{
	struct dmabuf_mem mem, same;
	char spec[32], data[8] = "1234567";

	/* not a multiple of a page: rounded up */
	ASSERT_EQ(0, dmabuf_mem_open(&mem, "udmabuf", 5000));
	EXPECT_EQ(8192, mem.size);
	snprintf(spec, sizeof(spec), "fd:%d", mem.fd);
	EXPECT_EQ(-EINVAL, dmabuf_mem_open(&same, spec, 8193));
	ASSERT_EQ(0, dmabuf_mem_open(&same, spec, 0));
	EXPECT_EQ(8192, same.size);
	EXPECT_NE(mem.fd, same.fd);
	ASSERT_EQ(0, dmabuf_mem_copy_to(&mem, 100, data, 8));
	memset(data, 0, 8);
	dmabuf_mem_close(&mem);
	ASSERT_EQ(0, dmabuf_mem_copy_from(&same, 100, data, 8));
	EXPECT_STREQ("1234567", data);
	dmabuf_mem_close(&same);
	/* twice is harmless */
	dmabuf_mem_close(&same);
}

TEST(memory_that_was_never_opened)
{
	struct dmabuf_mem mem = { 0 };

	ASSERT_LE(0, fcntl(0, F_GETFD));
	dmabuf_mem_close(&mem);
	EXPECT_LE(0, fcntl(0, F_GETFD));
	EXPECT_EQ(-1, mem.fd);
}

TEST(memory_without_a_view)
{
	struct mem bar;
	struct dmabuf_mem mem;
	char spec[32], byte = 0;

	/* the lab's exporter has no view for the CPU */
	if (mem_create(&bar, MEM_BAR, 64 * KiB))
		SKIP(return, "no memory in a BAR");
	snprintf(spec, sizeof(spec), "fd:%d", bar.fd);
	ASSERT_EQ(0, dmabuf_mem_open(&mem, spec, 4096));
	EXPECT_EQ(NULL, mem.ptr);
	EXPECT_EQ(-EOPNOTSUPP, dmabuf_mem_copy_from(&mem, 0, &byte, 1));
	EXPECT_NE(NULL, strstr(dmabuf_mem_why(), "does not let the CPU map"));
	dmabuf_mem_close(&mem);
	mem_destroy(&bar);
}

TEST(memory_that_is_read_only)
{
	struct dma_heap_allocation_data alloc = {
		.len = 4096, .fd_flags = O_RDONLY | O_CLOEXEC,
	};
	int heap = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
	struct dmabuf_mem mem;
	char spec[32], byte = 1;

	ASSERT_LE(0, heap);
	ASSERT_EQ(0, ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &alloc));
	close(heap);
	snprintf(spec, sizeof(spec), "fd:%d", alloc.fd);
	ASSERT_EQ(0, dmabuf_mem_open(&mem, spec, 0));
	close(alloc.fd);
	EXPECT_EQ(-EACCES, dmabuf_mem_copy_to(&mem, 0, &byte, 1));
	EXPECT_NE(NULL, strstr(dmabuf_mem_why(), "O_RDWR"));
	EXPECT_EQ(0, dmabuf_mem_copy_from(&mem, 0, &byte, 1));
	EXPECT_EQ(0, byte);
	dmabuf_mem_close(&mem);
}

TEST_HARNESS_MAIN
