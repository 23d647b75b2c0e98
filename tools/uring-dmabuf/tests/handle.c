// SPDX-License-Identifier: GPL-2.0
/*
 * Handles of liburing-dmabuf: memory first, targets later, requests from any thread, and
 * one completion for each of them.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/dma-buf.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common.h"
#include "netio.h"
#include "uring-dmabuf.h"

#define SIZE	(4 * MiB)
#define SEED	9700
#define PATIENCE 20000		/* ms; nothing takes that long */

FIXTURE(handle) {
	struct dmabuf_io *io;
	struct dmabuf_mem mem;
	int disk;
	char *data;
};

FIXTURE_VARIANT(handle) {
	const char *memory;
	unsigned int flags;
};

FIXTURE_VARIANT_ADD(handle, udmabuf) { "udmabuf", 0 };
FIXTURE_VARIANT_ADD(handle, heap) { "heap:system", 0 };
/* the same, but for registration */
FIXTURE_VARIANT_ADD(handle, bounce) { "udmabuf", DMABUF_IO_BOUNCE };

FIXTURE_SETUP(handle)
{
	struct dmabuf_io_params params = { .depth = 64, .max_buffers = 4, .max_targets = 3 };

	self->disk = NEED_DISK("LAB_NVME_MAIN");
	self->data = malloc(SIZE);
	ASSERT_NE(NULL, self->data);
	ASSERT_EQ(0, dmabuf_mem_open(&self->mem, variant->memory, SIZE))
		TH_LOG("%s", dmabuf_mem_why());
	ASSERT_EQ(0, dmabuf_io_open(&self->io, &params));
}

FIXTURE_TEARDOWN(handle)
{
	dmabuf_io_close(self->io);
	/* nothing is left of a registration */
	EXPECT_TRUE(bufinfo_wait(self->mem.fd, 0, 10000));
	dmabuf_mem_close(&self->mem);
	free(self->data);
	close(self->disk);
}

static struct dmabuf_io_request request(unsigned int op, int buffer, int target, __u64 buffer_off,
					__u64 target_off, __u64 size)
{
	return (struct dmabuf_io_request) {
		.op = op, .buffer = buffer, .target = target, .buffer_off = buffer_off,
		.target_off = target_off, .size = size,
	};
}

static int submit(struct dmabuf_io *io, struct dmabuf_io_request *r)
{
	return dmabuf_io_submit(io, &r, 1);
}

/* What came of it; -EIO: it was not taken. Others may reap */
static long long done(struct dmabuf_io *io, struct dmabuf_io_request *r)
{
	int ret;

	r->flags |= DMABUF_IO_WAITED;
	ret = submit(io, r);
	if (ret != 1)
		return ret ? ret : -EIO;
	ret = dmabuf_io_wait(io, r, PATIENCE);
	return ret ? ret : r->result;
}

#define BOUNCES	(variant->flags == DMABUF_IO_BOUNCE)

/* A buffer and the disk, ready; the buffer was there first */
#define READY(buffer, target) do {						\
	struct io_uring_dmabuf_reason why_;					\
										\
	buffer = dmabuf_io_add_buffer(self->io, &self->mem, variant->flags);	\
	ASSERT_LE(0, buffer);							\
	target = dmabuf_io_add_target(self->io, self->disk);			\
	ASSERT_LE(0, target);							\
	ASSERT_EQ(0, dmabuf_io_prepare(self->io, buffer, target, &why_))	\
		TH_LOG("%s", why_.text);					\
} while (0)

TEST_F(handle, reads_and_writes)
{
	struct dmabuf_io_request r;
	int buffer, target;

	READY(buffer, target);
	ASSERT_EQ(0, disk_fill(self->disk, 0, SIZE, SEED));
	memset(self->data, POISON, SIZE);
	ASSERT_EQ(0, dmabuf_mem_copy_to(&self->mem, 0, self->data, SIZE));
	r = request(DMABUF_IO_READ, buffer, target, 8192, 4096, 2 * MiB + 4096);
	ASSERT_EQ(2 * MiB + 4096, done(self->io, &r));
	EXPECT_EQ(2 * MiB + 4096, r.moved);
	EXPECT_EQ(BOUNCES ? 2 * MiB + 4096 : 0, r.copied);
	ASSERT_EQ(0, dmabuf_mem_copy_from(&self->mem, 0, self->data, SIZE));
	EXPECT_EQ(NO_MISMATCH, poison_check(self->data, 8192, POISON));
	EXPECT_EQ(NO_MISMATCH, pattern_check(self->data + 8192, 4096, 2 * MiB + 4096, SEED));
	EXPECT_EQ(NO_MISMATCH, poison_check(self->data + 2 * MiB + 12288, 2 * MiB - 12288, POISON));

	ASSERT_EQ(0, disk_poison(self->disk, 0, SIZE, POISON));
	pattern_fill(self->data, 0, SIZE, SEED + 1);
	ASSERT_EQ(0, dmabuf_mem_copy_to(&self->mem, 0, self->data, SIZE));
	r = request(DMABUF_IO_WRITE, buffer, target, 4096, 12288, 2 * MiB + 8192);
	ASSERT_EQ(2 * MiB + 8192, done(self->io, &r));
	EXPECT_EQ(BOUNCES ? 2 * MiB + 8192 : 0, r.copied);
	EXPECT_EQ(NO_MISMATCH, disk_check_poison(self->disk, 0, 12288, POISON));
	EXPECT_EQ(NO_MISMATCH, disk_check(self->disk, 12288, 4096, 2 * MiB + 8192, SEED + 1));
	EXPECT_EQ(NO_MISMATCH, disk_check_poison(self->disk, 2 * MiB + 20480, MiB, POISON));
}

/* Sixty at once: more than there are chunks to bounce by */
TEST_F(handle, many)
{
	struct dmabuf_io_request r[61], *all[61], *got[61];
	int buffer, target, n = 0, ret;

	READY(buffer, target);
	ASSERT_EQ(0, disk_fill(self->disk, 0, SIZE, SEED + 2));
	for (unsigned int i = 0; i < 60; i++) {
		r[i] = request(DMABUF_IO_READ, buffer, target, i * 64 * KiB, i * 64 * KiB, 64 * KiB);
		r[i].user_data = i;
		all[i] = &r[i];
	}
	ASSERT_EQ(60, dmabuf_io_submit(self->io, all, 60));
	while (n < 60) {
		ret = dmabuf_io_reap(self->io, got, 7, PATIENCE);
		ASSERT_LT(0, ret);
		ASSERT_GE(7, ret);
		for (int i = 0; i < ret; i++) {
			EXPECT_EQ(64 * KiB, got[i]->result);
			EXPECT_EQ(got[i], &r[got[i]->user_data]);
			/* once */
			got[i]->user_data = 60;
		}
		n += ret;
	}
	EXPECT_EQ(0, dmabuf_io_reap(self->io, got, 7, 0));
	ASSERT_EQ(0, dmabuf_mem_copy_from(&self->mem, 0, self->data, SIZE));
	EXPECT_EQ(NO_MISMATCH, pattern_check(self->data, 0, 60 * 64 * KiB, SEED + 2));
}

TEST_F(handle, end_of_a_file)
{
	struct dmabuf_io_request r;
	int buffer, target, file;
	char path[64];

	snprintf(path, sizeof(path), "%s/handle", NEED_ENV("LAB_EXT4"));
	file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
	ASSERT_LE(0, file);
	ASSERT_EQ(0, unlink(path));
	ASSERT_EQ(0, disk_fill(file, 0, 64 * KiB, SEED + 3));
	ASSERT_EQ(0, ftruncate(file, 50000));
	buffer = dmabuf_io_add_buffer(self->io, &self->mem, variant->flags);
	target = dmabuf_io_add_target(self->io, file);
	close(file);
	ASSERT_EQ(0, dmabuf_io_prepare(self->io, buffer, target, NULL));
	r = request(DMABUF_IO_READ, buffer, target, 0, 4096, MiB);
	EXPECT_EQ(50000 - 4096, done(self->io, &r));
	ASSERT_EQ(0, dmabuf_mem_copy_from(&self->mem, 0, self->data, SIZE));
	EXPECT_EQ(NO_MISMATCH, pattern_check(self->data, 4096, 50000 - 4096, SEED + 3));
	r = request(DMABUF_IO_READ, buffer, target, 0, 64 * KiB, 4096);
	EXPECT_EQ(0, done(self->io, &r));
}

/* ---- what is wrong ---- */

TEST_F(handle, wrong_requests)
{
	struct dmabuf_io_request r, again, *two[2] = { &r, &again };
	int buffer, target, later, fd;

	READY(buffer, target);
#define WRONG(err, ...) do {							\
	r = request(__VA_ARGS__);						\
	EXPECT_EQ(err, submit(self->io, &r));					\
	EXPECT_EQ(-EINVAL, dmabuf_io_wait(self->io, &r, 0));			\
	EXPECT_EQ(-EINVAL, dmabuf_io_cancel(self->io, &r));			\
} while (0)
	WRONG(-EINVAL, 3, buffer, target, 0, 0, 4096);
	WRONG(-EINVAL, DMABUF_IO_READ, buffer, target, 0, 0, 0);
	WRONG(-EBADF, DMABUF_IO_READ, buffer + 1, target, 0, 0, 4096);
	WRONG(-EBADF, DMABUF_IO_READ, -1, target, 0, 0, 4096);
	WRONG(-EBADF, DMABUF_IO_READ, buffer, target + 1, 0, 0, 4096);
	WRONG(-EBADF, DMABUF_IO_READ, buffer, -1, 0, 0, 4096);
	WRONG(-EFAULT, DMABUF_IO_READ, buffer, target, SIZE, 0, 4096);
	WRONG(-EFAULT, DMABUF_IO_READ, buffer, target, 4096, 0, SIZE);
	WRONG(-EFAULT, DMABUF_IO_READ, buffer, target, 4096, 0, -4096ULL);
	WRONG(-EINVAL, DMABUF_IO_READ, buffer, target, 0, -4096ULL, 4096);
	WRONG(-EINVAL, DMABUF_IO_READ, buffer, target, 0, INT64_MAX - 4094, 4096);
	WRONG(-ENOTSOCK, DMABUF_IO_SEND, buffer, target, 0, 0, 4096);
	r = request(DMABUF_IO_READ, buffer, target, 0, 0, 4096);
	r.flags = 2;
	EXPECT_EQ(-EINVAL, submit(self->io, &r));

	/* a target that no buffer was prepared for */
	fd = lab_open_part(NEED_ENV("LAB_NVME_FS"), 3);
	ASSERT_LE(0, fd);
	later = dmabuf_io_add_target(self->io, fd);
	ASSERT_LE(0, later);
	r = request(DMABUF_IO_READ, buffer, later, 0, 0, 4096);
	if (!BOUNCES)
		EXPECT_EQ(-ENOTCONN, submit(self->io, &r));
	/* what came before the wrong one is under way */
	r = request(DMABUF_IO_READ, buffer, target, 0, 0, 4096);
	again = r;
	again.size = 0;
	EXPECT_EQ(1, dmabuf_io_submit(self->io, two, 2));
	EXPECT_EQ(0, dmabuf_io_wait(self->io, &r, PATIENCE));
	EXPECT_EQ(4096, r.result);
	/* it was the caller's once more from here on */
	EXPECT_EQ(0, dmabuf_io_wait(self->io, &r, 0));
	EXPECT_EQ(4096, done(self->io, &r));
	EXPECT_EQ(-EINVAL, dmabuf_io_reap(self->io, two, 0, 0));
	/* what the kernel refuses is done, and says so */
	r = request(DMABUF_IO_READ, buffer, target, 0, 100, 4096);
	EXPECT_EQ(-EINVAL, done(self->io, &r));
	EXPECT_EQ(0, r.moved);
	close(fd);
}

TEST_F(handle, wrong_buffers_and_targets)
{
	struct io_uring_dmabuf_reason why;
	struct io_uring_dmabuf_map map;
	struct dmabuf_mem none = { .fd = -1, .size = 4096 };
	int buffer, target, other, b[4], t[3];

	EXPECT_EQ(-EBADF, dmabuf_io_add_buffer(self->io, &none, 0));
	none.size = 0;
	EXPECT_EQ(-EINVAL, dmabuf_io_add_buffer(self->io, &none, 0));
	none = self->mem;
	none.ops = NULL;
	EXPECT_EQ(-EINVAL, dmabuf_io_add_buffer(self->io, &none, DMABUF_IO_BOUNCE));
	EXPECT_EQ(-EINVAL, dmabuf_io_add_buffer(self->io, &self->mem, DMABUF_IO_BOUNCE | 1));
	EXPECT_EQ(-EINVAL, dmabuf_io_add_buffer(self->io, &self->mem, IO_URING_DMABUF_ADD_TARGETS));
	EXPECT_EQ(-EBADF, dmabuf_io_add_target(self->io, -1));
	EXPECT_EQ(-EBADF, dmabuf_io_remove_buffer(self->io, 0));
	EXPECT_EQ(-EBADF, dmabuf_io_remove_target(self->io, 0));
	EXPECT_EQ(-EBADF, dmabuf_io_prepare(self->io, 0, 0, &why));
	EXPECT_EQ(-EBADF, dmabuf_io_map_info(self->io, 0, 0, &map));

	READY(buffer, target);
	EXPECT_EQ(-EBADF, dmabuf_io_prepare(self->io, buffer, target + 1, NULL));
	/* once more is nothing */
	EXPECT_EQ(0, dmabuf_io_prepare(self->io, buffer, target, &why));
	EXPECT_EQ(BOUNCES ? 0 : 1, dmabuf_io_map_info(self->io, buffer, 0, &map));
	/* a file that is no target says why, and nothing is lost */
	other = dmabuf_io_add_target(self->io, STDERR_FILENO);
	ASSERT_LE(0, other);
	if (!BOUNCES) {
		EXPECT_GT(0, dmabuf_io_prepare(self->io, buffer, other, &why));
		EXPECT_EQ(IO_URING_DMABUF_STAGE_TARGET, why.stage);
		EXPECT_NE('\0', why.text[0]);
		EXPECT_EQ(1, dmabuf_io_map_info(self->io, buffer, 0, &map));
	}

	/* numbers are not used twice */
	EXPECT_EQ(0, dmabuf_io_remove_target(self->io, other));
	EXPECT_EQ(-EBADF, dmabuf_io_remove_target(self->io, other));
	t[0] = dmabuf_io_add_target(self->io, self->disk);
	EXPECT_NE(other, t[0]);
	EXPECT_EQ(0, dmabuf_io_remove_buffer(self->io, buffer));
	EXPECT_EQ(-EBADF, dmabuf_io_remove_buffer(self->io, buffer));
	EXPECT_EQ(-EBADF, dmabuf_io_prepare(self->io, buffer, target, NULL));
	EXPECT_TRUE(bufinfo_wait(self->mem.fd, 0, 10000));

	/* as many as there is room for */
	t[1] = dmabuf_io_add_target(self->io, self->disk);
	EXPECT_LE(0, t[1]);
	EXPECT_EQ(-ENOSPC, dmabuf_io_add_target(self->io, self->disk));
	for (int i = 0; i < 4; i++) {
		b[i] = dmabuf_io_add_buffer(self->io, &self->mem, variant->flags);
		EXPECT_LE(0, b[i]);
	}
	EXPECT_EQ(-ENOSPC, dmabuf_io_add_buffer(self->io, &self->mem, variant->flags));
}

TEST(wrong_handles)
{
	struct dmabuf_io_params params = { .depth = 1 << 20 };
	struct dmabuf_io *io = (void *)1;

	EXPECT_EQ(-EINVAL, dmabuf_io_open(&io, &params));
	EXPECT_EQ(NULL, io);
	params = (struct dmabuf_io_params) { .flags = 1 };
	EXPECT_EQ(-EINVAL, dmabuf_io_open(&io, &params));
	params = (struct dmabuf_io_params) { .resv = { 0, 1 } };
	EXPECT_EQ(-EINVAL, dmabuf_io_open(&io, &params));
	params = (struct dmabuf_io_params) { .max_buffers = 1 << 16 };
	EXPECT_EQ(-EINVAL, dmabuf_io_open(&io, &params));
	dmabuf_io_close(NULL);
	ASSERT_EQ(0, dmabuf_io_open(&io, NULL));
	dmabuf_io_close(io);
}

/* What opening gives where a system call gives @err; positive: a handle */
static int opened_without(int nr, unsigned int err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = { .len = ARRAY_SIZE(code), .filter = code };
	struct dmabuf_io *io;
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
			_exit(255);
		status = dmabuf_io_open(&io, NULL);
		_exit(!io == !status ? 254 : -status);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -ECHILD;
	return WEXITSTATUS(status) ? -WEXITSTATUS(status) : 1;
}

/* Any of its calls: a handle that nothing can be asked of would be waited for without an end */
TEST(forbidden)
{
	static const int calls[] = {
		__NR_io_uring_setup, __NR_io_uring_enter, __NR_io_uring_register,
	};

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		EXPECT_EQ(-EPERM, opened_without(calls[i], EPERM));
		EXPECT_EQ(-ENOSYS, opened_without(calls[i], ENOSYS));
	}
	EXPECT_EQ(1, opened_without(__NR_uname, EPERM));
}

/* ---- sends, and what does not end by itself ---- */

#define SENDS(buffer, target, pair) do {					\
	ASSERT_EQ(0, net_local("127.0.0.1", &(pair)));				\
	buffer = dmabuf_io_add_buffer(self->io, &self->mem, variant->flags ?: IO_URING_DMABUF_COPY_OK); \
	ASSERT_LE(0, buffer);							\
	target = dmabuf_io_add_target(self->io, (pair).tx);			\
	ASSERT_LE(0, target);							\
	ASSERT_EQ(0, dmabuf_io_prepare(self->io, buffer, target, NULL));	\
} while (0)

/*
 * The result of a send of @want from there on, which @fd receives: -EBADMSG if that is not
 * what has come. A request goes on while somebody waits for it, so the two are at once.
 */
static long long received(struct dmabuf_io *io, struct dmabuf_io_request *r, int fd, __u64 seed)
{
	struct piece want = { seed, r->buffer_off, r->size };
	struct receiver peer = { 0 };
	int ret = receiver_start(&peer, fd, &want, 1);

	if (ret)
		return ret;
	ret = dmabuf_io_wait(io, r, PATIENCE);
	if (receiver_join(&peer))
		return -EBADMSG;
	return ret ? ret : r->result;
}

TEST_F(handle, sends)
{
	struct dmabuf_io_request r;
	struct net_pair pair;
	int buffer, target;

	SENDS(buffer, target, pair);
	pattern_fill(self->data, 0, SIZE, SEED + 4);
	ASSERT_EQ(0, dmabuf_mem_copy_to(&self->mem, 0, self->data, SIZE));
	r = request(DMABUF_IO_READ, buffer, target, 0, 0, 4096);
	EXPECT_EQ(-EOPNOTSUPP, submit(self->io, &r));
	/* more than the socket takes at once */
	r = request(DMABUF_IO_SEND, buffer, target, 1000, 0, 3 * MiB + 7);
	ASSERT_EQ(1, submit(self->io, &r));
	EXPECT_EQ(3 * MiB + 7, received(self->io, &r, pair.rx, SEED + 4));
	/* loopback reads no memory: the CPU did, and it is said */
	EXPECT_EQ(3 * MiB + 7, r.copied);
	net_close(&pair);
}

TEST_F(handle, a_peer_that_does_not_read)
{
	struct dmabuf_io_request r, *got;
	struct net_pair pair;
	int buffer, target;
	double start;

	SENDS(buffer, target, pair);
	pattern_fill(self->data, 0, SIZE, SEED + 5);
	ASSERT_EQ(0, dmabuf_mem_copy_to(&self->mem, 0, self->data, SIZE));
	ASSERT_EQ(0, net_set(pair.tx, SOL_SOCKET, SO_SNDBUF, 64 * KiB));
	r = request(DMABUF_IO_SEND, buffer, target, 0, 0, SIZE);
	ASSERT_EQ(1, submit(self->io, &r));
	EXPECT_EQ(-EBUSY, submit(self->io, &r));
	start = lab_now();
	EXPECT_EQ(-ETIMEDOUT, dmabuf_io_wait(self->io, &r, 200));
	EXPECT_LE(0.2, lab_now() - start);
	EXPECT_EQ(0, dmabuf_io_reap(self->io, &got, 1, 50));
	EXPECT_EQ(-EBUSY, dmabuf_io_remove_buffer(self->io, buffer));
	EXPECT_EQ(-EBUSY, dmabuf_io_remove_target(self->io, target));

	EXPECT_EQ(0, dmabuf_io_cancel(self->io, &r));
	/* what is in the socket is sent; the peer has to take it before the memory is free */
	for (unsigned int n = 0; dmabuf_io_wait(self->io, &r, 10) == -ETIMEDOUT; n++) {
		ASSERT_GT(2000, n);
		if (recv(pair.rx, self->data, SIZE, MSG_DONTWAIT) < 0)
			ASSERT_EQ(EAGAIN, errno);
	}
	EXPECT_TRUE(r.result == -ECANCELED || (r.result > 0 && r.result < SIZE))
		TH_LOG("%lld", (long long)r.result);
	EXPECT_GT(SIZE, r.moved);
	EXPECT_EQ(-EINVAL, dmabuf_io_cancel(self->io, &r));
	EXPECT_EQ(0, dmabuf_io_remove_buffer(self->io, buffer));
	EXPECT_EQ(0, dmabuf_io_remove_target(self->io, target));
	net_close(&pair);
}

TEST_F(handle, closed_with_requests)
{
	struct dmabuf_io_request r[20], *all[20];
	struct net_pair pair;
	int buffer, target;

	SENDS(buffer, target, pair);
	ASSERT_EQ(0, net_set(pair.tx, SOL_SOCKET, SO_SNDBUF, 64 * KiB));
	for (int i = 0; i < 20; i++) {
		r[i] = request(DMABUF_IO_SEND, buffer, target, 0, 0, SIZE);
		all[i] = &r[i];
	}
	ASSERT_EQ(20, dmabuf_io_submit(self->io, all, 20));
	/* what the peer has not taken is nobody's after a reset */
	close(pair.rx);
	dmabuf_io_close(self->io);
	ASSERT_EQ(0, dmabuf_io_open(&self->io, NULL));
	close(pair.tx);
}

TEST_F(handle, a_peer_that_goes)
{
	struct dmabuf_io_request r;
	struct net_pair pair;
	int buffer, target;
	long long ret;

	SENDS(buffer, target, pair);
	close(pair.rx);
	/* the first may be in the socket before the peer says that it is gone */
	for (int i = 0; i < 3; i++) {
		r = request(DMABUF_IO_SEND, buffer, target, 0, 0, MiB);
		ret = done(self->io, &r);
	}
	EXPECT_EQ(-EPIPE, ret);
	close(pair.tx);
}

/* More sends than there are chunks, none of which gets on: the last ones wait for one */
TEST_F(handle, cancelled_before_it_began)
{
	struct dmabuf_io_request r[20], *all[20];
	struct net_pair pairs[20];
	struct dmabuf_io *io;
	int buffer;

	if (!BOUNCES)
		SKIP(return, "only what bounces waits for a chunk");
	ASSERT_EQ(0, dmabuf_io_open(&io, NULL));
	buffer = dmabuf_io_add_buffer(io, &self->mem, DMABUF_IO_BOUNCE);
	for (int i = 0; i < 20; i++) {
		ASSERT_EQ(0, net_local("127.0.0.1", &pairs[i]));
		ASSERT_EQ(0, net_set(pairs[i].tx, SOL_SOCKET, SO_SNDBUF, 64 * KiB));
		r[i] = request(DMABUF_IO_SEND, buffer, dmabuf_io_add_target(io, pairs[i].tx), 0, 0,
			       SIZE);
		all[i] = &r[i];
	}
	ASSERT_EQ(20, dmabuf_io_submit(io, all, 20));
	for (int i = 8; i < 20; i++) {
		EXPECT_EQ(0, dmabuf_io_cancel(io, &r[i]));
		EXPECT_EQ(0, dmabuf_io_wait(io, &r[i], 0));
		EXPECT_EQ(-ECANCELED, r[i].result);
		EXPECT_EQ(0, r[i].moved);
	}
	/* files have chunks of their own: a peer may never take its data */
	r[8] = request(DMABUF_IO_READ, buffer, dmabuf_io_add_target(io, self->disk), 0, 0, 2 * MiB);
	EXPECT_EQ(2 * MiB, done(io, &r[8]));
	/* and one that has its chunk */
	EXPECT_EQ(0, dmabuf_io_cancel(io, &r[0]));
	EXPECT_EQ(0, dmabuf_io_wait(io, &r[0], PATIENCE));
	EXPECT_GT(SIZE, r[0].moved);
	dmabuf_io_close(io);
	for (int i = 0; i < 20; i++)
		net_close(&pairs[i]);
}

/* Nor do files that nothing comes from hold up a send: they have chunks of their own, too */
TEST_F(handle, sends_beside_files_that_wait)
{
	struct dmabuf_io_request r[20], *all[20], sent;
	struct net_pair pair;
	int buffer, target, pipe, ends[2];

	if (!BOUNCES)
		SKIP(return, "only what bounces waits for a chunk");
	SENDS(buffer, target, pair);
	ASSERT_EQ(0, pipe2(ends, O_CLOEXEC));
	pipe = dmabuf_io_add_target(self->io, ends[0]);
	ASSERT_LE(0, pipe);
	for (int i = 0; i < 20; i++) {
		r[i] = request(DMABUF_IO_READ, buffer, pipe, 0, 0, 4096);
		r[i].flags = DMABUF_IO_WAITED;
		all[i] = &r[i];
	}
	ASSERT_EQ(20, dmabuf_io_submit(self->io, all, 20));
	sent = request(DMABUF_IO_SEND, buffer, target, 0, 0, 4096);
	EXPECT_EQ(4096, done(self->io, &sent));
	for (int i = 19; i >= 0; i--) {
		EXPECT_EQ(0, dmabuf_io_cancel(self->io, &r[i]));
		EXPECT_EQ(0, dmabuf_io_wait(self->io, &r[i], PATIENCE));
		EXPECT_EQ(-ECANCELED, r[i].result);
	}
	close(ends[0]);
	close(ends[1]);
	net_close(&pair);
}

/* Of different sizes, from different places; the socket takes a part of one at a time */
TEST_F(handle, sends_in_order)
{
	struct dmabuf_io_request r[40], *all[40], *got[40];
	struct receiver peer = { 0 };
	struct piece pieces[40];
	struct net_pair pair;
	int buffer, target, n = 0, ret;

	SENDS(buffer, target, pair);
	pattern_fill(self->data, 0, SIZE, SEED + 15);
	ASSERT_EQ(0, dmabuf_mem_copy_to(&self->mem, 0, self->data, SIZE));
	ASSERT_EQ(0, net_set(pair.tx, SOL_SOCKET, SO_SNDBUF, 64 * KiB));
	for (int i = 0; i < 40; i++) {
		pieces[i] = (struct piece) { SEED + 15, i * 100 * KiB + i, 1 + i * 5003 };
		r[i] = request(DMABUF_IO_SEND, buffer, target, pieces[i].pos, 0, pieces[i].len);
		all[i] = &r[i];
	}
	ASSERT_EQ(20, dmabuf_io_submit(self->io, all, 20));
	ASSERT_EQ(20, dmabuf_io_submit(self->io, all + 20, 20));
	ASSERT_EQ(0, receiver_start(&peer, pair.rx, pieces, 40));
	while (n < 40) {
		ret = dmabuf_io_reap(self->io, got, 40, PATIENCE);
		ASSERT_LT(0, ret);
		for (int i = 0; i < ret; i++)
			EXPECT_EQ(got[i]->size, got[i]->result);
		n += ret;
	}
	EXPECT_EQ(0, receiver_join(&peer));
	net_close(&pair);
}

/* One that is cancelled takes along what was to come behind it, and nothing before it */
TEST_F(handle, a_stream_has_no_gaps)
{
	struct dmabuf_io_request r[6], *all[6];
	struct receiver peer = { 0 };
	struct piece pieces[2];
	struct net_pair pair;
	int buffer, target;

	SENDS(buffer, target, pair);
	pattern_fill(self->data, 0, SIZE, SEED + 16);
	ASSERT_EQ(0, dmabuf_mem_copy_to(&self->mem, 0, self->data, SIZE));
	ASSERT_EQ(0, net_set(pair.tx, SOL_SOCKET, SO_SNDBUF, 64 * KiB));
	r[0] = request(DMABUF_IO_SEND, buffer, target, 0, 0, 3 * MiB);
	for (int i = 1; i < 6; i++)
		r[i] = request(DMABUF_IO_SEND, buffer, target, 3 * MiB + i * 4096, 0, 4096);
	for (int i = 0; i < 6; i++)
		all[i] = &r[i];
	ASSERT_EQ(6, dmabuf_io_submit(self->io, all, 6));
	EXPECT_EQ(0, dmabuf_io_cancel(self->io, &r[2]));
	for (int i = 2; i < 6; i++) {
		EXPECT_EQ(0, dmabuf_io_wait(self->io, &r[i], 0));
		EXPECT_EQ(-ECANCELED, r[i].result);
	}
	for (int i = 0; i < 2; i++)
		pieces[i] = (struct piece) { SEED + 16, r[i].buffer_off, r[i].size };
	ASSERT_EQ(0, receiver_start(&peer, pair.rx, pieces, 2));
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(0, dmabuf_io_wait(self->io, &r[i], PATIENCE));
		EXPECT_EQ(r[i].size, r[i].result);
	}
	EXPECT_EQ(0, receiver_join(&peer));
	/* what comes before its owner knows that one failed would leave a gap, too */
	r[0].flags = r[1].flags = r[2].flags = DMABUF_IO_WAITED;
	ASSERT_EQ(1, submit(self->io, &r[0]));
	ASSERT_EQ(1, submit(self->io, &r[1]));
	ASSERT_EQ(0, dmabuf_io_cancel(self->io, &r[1]));
	ASSERT_EQ(1, submit(self->io, &r[2]));
	EXPECT_EQ(0, dmabuf_io_wait(self->io, &r[2], 0));
	EXPECT_EQ(-ECANCELED, r[2].result);
	ASSERT_EQ(0, dmabuf_io_wait(self->io, &r[1], 0));
	EXPECT_EQ(-ECANCELED, r[1].result);
	EXPECT_EQ(3 * MiB, received(self->io, &r[0], pair.rx, SEED + 16));
	/* the stream goes on with what is submitted then */
	r[2] = request(DMABUF_IO_SEND, buffer, target, 1, 0, 4099);
	ASSERT_EQ(1, submit(self->io, &r[2]));
	EXPECT_EQ(4099, received(self->io, &r[2], pair.rx, SEED + 16));
	net_close(&pair);
}

TEST_F(handle, as_deep_as_asked_for)
{
	struct dmabuf_io_request r[65], *all[65], *got[64];
	struct net_pair pair;
	int buffer, target;

	SENDS(buffer, target, pair);
	ASSERT_EQ(0, net_set(pair.tx, SOL_SOCKET, SO_SNDBUF, 64 * KiB));
	for (int i = 0; i < 65; i++) {
		r[i] = request(DMABUF_IO_SEND, buffer, target, 0, 0, SIZE);
		all[i] = &r[i];
	}
	EXPECT_EQ(64, dmabuf_io_submit(self->io, all, 65));
	EXPECT_EQ(-EAGAIN, submit(self->io, &r[64]));
	close(pair.rx);
	for (int n = 0, ret; n < 64; n += ret) {
		ret = dmabuf_io_reap(self->io, got, 64, PATIENCE);
		ASSERT_LT(0, ret);
		for (int i = 0; i < ret; i++)
			EXPECT_NE(SIZE, got[i]->result);
	}
	close(pair.tx);
}

static void nothing(int sig __attribute__((unused)))
{
}

TEST_F(handle, signals)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec soon = { .it_value = { .tv_nsec = 100000000 } };
	struct sigaction act = { .sa_handler = nothing };
	struct dmabuf_io_request r, *got;
	struct net_pair pair;
	int buffer, target;
	timer_t timer;

	SENDS(buffer, target, pair);
	pattern_fill(self->data, 0, SIZE, SEED + 13);
	ASSERT_EQ(0, dmabuf_mem_copy_to(&self->mem, 0, self->data, SIZE));
	ASSERT_EQ(0, net_set(pair.tx, SOL_SOCKET, SO_SNDBUF, 64 * KiB));
	r = request(DMABUF_IO_SEND, buffer, target, 0, 0, SIZE);
	ASSERT_EQ(1, submit(self->io, &r));
	ASSERT_EQ(0, sigaction(SIGUSR1, &act, NULL));
	ASSERT_EQ(0, timer_create(CLOCK_MONOTONIC, &event, &timer));
	ASSERT_EQ(0, timer_settime(timer, 0, &soon, NULL));
	EXPECT_EQ(-EINTR, dmabuf_io_wait(self->io, &r, PATIENCE));
	ASSERT_EQ(0, timer_settime(timer, 0, &soon, NULL));
	EXPECT_EQ(-EINTR, dmabuf_io_reap(self->io, &got, 1, PATIENCE));
	timer_delete(timer);
	/* the send goes on */
	EXPECT_EQ(SIZE, received(self->io, &r, pair.rx, SEED + 13));
	net_close(&pair);
}

/* One that waits while another thread sleeps in the kernel hears of a signal, too */
static void *waits_undisturbed(void *arg)
{
	struct dmabuf_io_request *r = arg;
	struct dmabuf_io *io = (void *)(uintptr_t)r->user_data;
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	return (void *)(intptr_t)dmabuf_io_wait(io, r, PATIENCE);
}

TEST_F(handle, signals_of_others)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec soon = { .it_value = { .tv_nsec = 200000000 } };
	struct sigaction act = { .sa_handler = nothing };
	struct dmabuf_io_request r[2], *got;
	struct net_pair pair;
	int buffer, target;
	pthread_t thread;
	timer_t timer;
	void *ret;

	SENDS(buffer, target, pair);
	ASSERT_EQ(0, net_set(pair.tx, SOL_SOCKET, SO_SNDBUF, 64 * KiB));
	for (int i = 0; i < 2; i++) {
		r[i] = request(DMABUF_IO_SEND, buffer, target, 0, 0, SIZE);
		r[i].flags = DMABUF_IO_WAITED;
		r[i].user_data = (uintptr_t)self->io;
		ASSERT_EQ(1, submit(self->io, &r[i]));
	}
	ASSERT_EQ(0, sigaction(SIGUSR1, &act, NULL));
	ASSERT_EQ(0, timer_create(CLOCK_MONOTONIC, &event, &timer));
	ASSERT_EQ(0, pthread_create(&thread, NULL, waits_undisturbed, &r[0]));
	lab_sleep_ms(100);
	ASSERT_EQ(0, timer_settime(timer, 0, &soon, NULL));
	EXPECT_EQ(-EINTR, dmabuf_io_wait(self->io, &r[1], -1));
	ASSERT_EQ(0, timer_settime(timer, 0, &soon, NULL));
	EXPECT_EQ(-EINTR, dmabuf_io_reap(self->io, &got, 1, PATIENCE));
	timer_delete(timer);
	close(pair.rx);
	EXPECT_EQ(0, dmabuf_io_wait(self->io, &r[1], PATIENCE));
	EXPECT_GT(0, r[1].result);
	pthread_join(thread, &ret);
	EXPECT_EQ(NULL, ret);
	close(pair.tx);
}

/* ---- threads ---- */

#define THREADS	4
#define ROUNDS	200
#define PART	(SIZE / THREADS)

struct worker {
	pthread_t thread;
	struct dmabuf_io *io;
	int buffer, target;
	unsigned int nr;
	long long wrong;	/* requests whose result was another */
};

/* Blocks of its own part to where they belong, in an order of its own */
static void *reads_its_part(void *arg)
{
	struct worker *w = arg;
	__u64 seed = 77 + w->nr;

	for (int i = 0; i < ROUNDS; i++) {
		__u64 off = w->nr * PART + rnd_aligned(&seed, PART - 16 * KiB, 4096);
		struct dmabuf_io_request r = request(DMABUF_IO_READ, w->buffer, w->target, off, off,
						     16 * KiB);

		if (done(w->io, &r) != 16 * KiB)
			w->wrong++;
	}
	for (__u64 off = w->nr * PART; off < (w->nr + 1) * PART; off += 64 * KiB) {
		struct dmabuf_io_request r = request(DMABUF_IO_READ, w->buffer, w->target, off, off,
						     64 * KiB);

		if (done(w->io, &r) != 64 * KiB)
			w->wrong++;
	}
	return NULL;
}

TEST_F(handle, threads)
{
	struct worker w[THREADS];
	int buffer, target;

	READY(buffer, target);
	ASSERT_EQ(0, disk_fill(self->disk, 0, SIZE, SEED + 6));
	memset(self->data, POISON, SIZE);
	ASSERT_EQ(0, dmabuf_mem_copy_to(&self->mem, 0, self->data, SIZE));
	for (unsigned int i = 0; i < THREADS; i++) {
		w[i] = (struct worker) { .io = self->io, .buffer = buffer, .target = target, .nr = i };
		ASSERT_EQ(0, pthread_create(&w[i].thread, NULL, reads_its_part, &w[i]));
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		pthread_join(w[i].thread, NULL);
		EXPECT_EQ(0, w[i].wrong);
	}
	ASSERT_EQ(0, dmabuf_mem_copy_from(&self->mem, 0, self->data, SIZE));
	EXPECT_EQ(NO_MISMATCH, pattern_check(self->data, 0, SIZE, SEED + 6));
}

static void *submits_and_ends(void *arg)
{
	struct dmabuf_io_request **r = arg;
	struct worker *w = (void *)(uintptr_t)r[32]->user_data;

	w->wrong = dmabuf_io_submit(w->io, r, 32);
	return NULL;
}

/* The kernel ends what a thread has begun when that ends; a request knows nothing of it */
TEST_F(handle, threads_that_end)
{
	struct dmabuf_io_request r[33], *all[33];
	struct worker w = { .io = self->io };
	int buffer, target;

	READY(buffer, target);
	ASSERT_EQ(0, disk_fill(self->disk, 0, SIZE, SEED + 7));
	r[32].user_data = (uintptr_t)&w;
	all[32] = &r[32];
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 32; i++) {
			r[i] = request(DMABUF_IO_READ, buffer, target, i * 128 * KiB, i * 128 * KiB, 128 * KiB);
			all[i] = &r[i];
		}
		memset(self->data, POISON, SIZE);
		ASSERT_EQ(0, dmabuf_mem_copy_to(&self->mem, 0, self->data, SIZE));
		ASSERT_EQ(0, pthread_create(&w.thread, NULL, submits_and_ends, all));
		pthread_join(w.thread, NULL);
		ASSERT_EQ(32, w.wrong);
		for (int i = 0; i < 32; i++) {
			ASSERT_EQ(0, dmabuf_io_wait(self->io, &r[i], PATIENCE));
			EXPECT_EQ(128 * KiB, r[i].result);
		}
		ASSERT_EQ(0, dmabuf_mem_copy_from(&self->mem, 0, self->data, SIZE));
		EXPECT_EQ(NO_MISMATCH, pattern_check(self->data, 0, SIZE, SEED + 7));
	}
}

/* A send that waits for its peer cannot go on for a thread that is no more: another takes it */
TEST_F(handle, send_of_a_thread_that_ended)
{
	struct dmabuf_io_request r, *all[33] = { &r };
	struct worker w = { .io = self->io };
	struct net_pair pair;
	int buffer, target;

	SENDS(buffer, target, pair);
	pattern_fill(self->data, 0, SIZE, SEED + 14);
	ASSERT_EQ(0, dmabuf_mem_copy_to(&self->mem, 0, self->data, SIZE));
	ASSERT_EQ(0, net_set(pair.tx, SOL_SOCKET, SO_SNDBUF, 64 * KiB));
	r = request(DMABUF_IO_SEND, buffer, target, 0, 0, SIZE);
	r.flags = DMABUF_IO_WAITED;
	for (int i = 1; i < 33; i++)
		all[i] = &r;
	r.user_data = (uintptr_t)&w;
	ASSERT_EQ(0, pthread_create(&w.thread, NULL, submits_and_ends, all));
	pthread_join(w.thread, NULL);
	/* the same once more was refused */
	ASSERT_EQ(1, w.wrong);
	EXPECT_EQ(SIZE, received(self->io, &r, pair.rx, SEED + 14));
	net_close(&pair);
}

/* One thread has an event loop; others wait by name, and take its completions as they come */
TEST_F(handle, event_loop_beside_threads)
{
	struct dmabuf_io_request r[40], *all[40], *got[8];
	struct worker w[2];
	int buffer, target, n = 0, fd;

	READY(buffer, target);
	ASSERT_EQ(0, disk_fill(self->disk, 0, SIZE, SEED + 8));
	fd = dmabuf_io_event_fd(self->io);
	ASSERT_LE(0, fd);
	EXPECT_EQ(fd, dmabuf_io_event_fd(self->io));
	for (unsigned int i = 0; i < 2; i++) {
		w[i] = (struct worker) { .io = self->io, .buffer = buffer, .target = target, .nr = i };
		ASSERT_EQ(0, pthread_create(&w[i].thread, NULL, reads_its_part, &w[i]));
	}
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 40; i++) {
			r[i] = request(DMABUF_IO_READ, buffer, target, 2 * MiB + i * 4096,
				       2 * MiB + i * 4096, 4096);
			r[i].user_data = 1;
			all[i] = &r[i];
		}
		ASSERT_EQ(40, dmabuf_io_submit(self->io, all, 40));
		for (n = 0; n < 40; ) {
			struct pollfd p = { .fd = fd, .events = POLLIN };
			eventfd_t count;
			int ret;

			ASSERT_EQ(1, poll(&p, 1, PATIENCE)) TH_LOG("%d of 40 in round %d", n, round);
			ASSERT_EQ(0, eventfd_read(fd, &count));
			while ((ret = dmabuf_io_reap(self->io, got, 8, 0)) > 0)
				for (int i = 0; i < ret; i++) {
					/* ours, and none of the other threads' */
					EXPECT_EQ(1, got[i]->user_data);
					EXPECT_EQ(4096, got[i]->result);
					n++;
				}
			ASSERT_EQ(0, ret);
		}
	}
	for (unsigned int i = 0; i < 2; i++) {
		pthread_join(w[i].thread, NULL);
		EXPECT_EQ(0, w[i].wrong);
	}
}

struct preparing {
	pthread_t thread;
	struct dmabuf_io *io;
	int buffer, target, ret;
};

static void *prepares(void *arg)
{
	struct preparing *p = arg;

	p->ret = dmabuf_io_prepare(p->io, p->buffer, p->target, NULL);
	return NULL;
}

/* An exporter that is slow holds up who asks for its memory, and nobody else */
TEST_F(handle, slow_exporter)
{
	struct preparing p[2];
	struct dmabuf_io_request r;
	struct dmabuf_mem slow;
	struct mem bar;
	char spec[32];
	int buffer, target, slow_buffer;
	double start;

	if (mem_create(&bar, MEM_BAR, 64 * KiB))
		SKIP(return, "no memory in a BAR");
	READY(buffer, target);
	snprintf(spec, sizeof(spec), "fd:%d", bar.fd);
	ASSERT_EQ(0, dmabuf_mem_open(&slow, spec, 0));
	slow_buffer = dmabuf_io_add_buffer(self->io, &slow, 0);
	ASSERT_LE(0, slow_buffer);
	ASSERT_EQ(0, bar_fence(&bar, 1));
	for (int i = 0; i < 2; i++) {
		p[i] = (struct preparing) { .io = self->io, .buffer = slow_buffer, .target = target };
		ASSERT_EQ(0, pthread_create(&p[i].thread, NULL, prepares, &p[i]));
	}
	lab_sleep_ms(100);
	start = lab_now();
	EXPECT_EQ(-EBUSY, dmabuf_io_remove_buffer(self->io, slow_buffer));
	EXPECT_EQ(-EBUSY, dmabuf_io_remove_target(self->io, target));
	r = request(DMABUF_IO_READ, slow_buffer, target, 0, 0, 4096);
	EXPECT_EQ(-ENOTCONN, submit(self->io, &r));
	for (int i = 0; i < 10; i++) {
		r = request(DMABUF_IO_READ, buffer, target, 0, 0, 4096);
		EXPECT_EQ(4096, done(self->io, &r));
	}
	EXPECT_GT(5.0, lab_now() - start);
	ASSERT_EQ(0, bar_fence(&bar, 0));
	for (int i = 0; i < 2; i++) {
		pthread_join(p[i].thread, NULL);
		EXPECT_EQ(0, p[i].ret);
	}
	r = request(DMABUF_IO_READ, slow_buffer, target, 0, 0, 4096);
	EXPECT_EQ(4096, done(self->io, &r));
	EXPECT_EQ(0, dmabuf_io_remove_buffer(self->io, slow_buffer));
	dmabuf_mem_close(&slow);
	EXPECT_TRUE(bufinfo_wait(bar.fd, 0, 10000));
	mem_destroy(&bar);
}

static int ioctl_sync_file(int fd, unsigned long request, int sync)
{
	struct dma_buf_export_sync_file arg = { .flags = DMA_BUF_SYNC_RW, .fd = sync };

	return ioctl(fd, request, &arg) ? -errno : arg.fd;
}

/* The CPU has to wait for the fence of @bar before it looks at @mem */
static int make_slow(struct dmabuf_mem *mem, const struct mem *bar)
{
	int sync = ioctl_sync_file(bar->fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, -1);
	int ret = ioctl_sync_file(mem->fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, sync);

	close(sync);
	return ret < 0 ? ret : 0;
}

struct submission {
	pthread_t thread;
	struct dmabuf_io *io;
	struct dmabuf_io_request *requests[2];
	int ret;
};

static void *submits_two(void *arg)
{
	struct submission *s = arg;

	s->ret = dmabuf_io_submit(s->io, s->requests, 2);
	return NULL;
}

/* A copy that waits for an exporter holds up its request, and who makes it; nobody else */
TEST_F(handle, slow_copies)
{
	struct dmabuf_io_request r[3];
	struct submission s = { .io = self->io, .requests = { &r[0], &r[1] } };
	struct dmabuf_mem slow;
	struct mem bar;
	int buffer, target, slow_buffer;
	double start;

	if (!BOUNCES)
		SKIP(return, "only what bounces is copied");
	if (mem_create(&bar, MEM_BAR, 64 * KiB))
		SKIP(return, "no memory in a BAR");
	READY(buffer, target);
	ASSERT_EQ(0, dmabuf_mem_open(&slow, "udmabuf", MiB));
	slow_buffer = dmabuf_io_add_buffer(self->io, &slow, DMABUF_IO_BOUNCE);
	ASSERT_LE(0, slow_buffer);
	ASSERT_EQ(0, bar_fence(&bar, 1));
	ASSERT_EQ(0, make_slow(&slow, &bar));
	/* one that is quick comes with one that is not */
	r[0] = request(DMABUF_IO_WRITE, buffer, target, 0, 0, 4096);
	r[1] = request(DMABUF_IO_WRITE, slow_buffer, target, 0, MiB, 4096);
	r[2] = request(DMABUF_IO_READ, buffer, target, 4096, 4096, 4096);
	for (int i = 0; i < 3; i++)
		r[i].flags = DMABUF_IO_WAITED;
	start = lab_now();
	ASSERT_EQ(0, pthread_create(&s.thread, NULL, submits_two, &s));
	lab_sleep_ms(100);
	EXPECT_EQ(0, dmabuf_io_wait(self->io, &r[0], PATIENCE));
	EXPECT_EQ(4096, r[0].result);
	EXPECT_EQ(4096, done(self->io, &r[2]));
	EXPECT_EQ(-ETIMEDOUT, dmabuf_io_wait(self->io, &r[1], 0));
	EXPECT_GT(5.0, lab_now() - start);
	ASSERT_EQ(0, bar_fence(&bar, 0));
	EXPECT_EQ(0, dmabuf_io_wait(self->io, &r[1], PATIENCE));
	EXPECT_EQ(4096, r[1].result);
	pthread_join(s.thread, NULL);
	EXPECT_EQ(2, s.ret);
	EXPECT_EQ(0, dmabuf_io_remove_buffer(self->io, slow_buffer));
	dmabuf_mem_close(&slow);
	mem_destroy(&bar);
}

/* ---- targets that come later ---- */

TEST_F(handle, targets_later)
{
	struct io_uring_dmabuf_map map;
	struct dmabuf_io_request r;
	struct worker w;
	int buffer, target, fd, later;

	READY(buffer, target);
	ASSERT_EQ(0, disk_fill(self->disk, 0, SIZE, SEED + 9));
	w = (struct worker) { .io = self->io, .buffer = buffer, .target = target };
	ASSERT_EQ(0, pthread_create(&w.thread, NULL, reads_its_part, &w));
	/* while it is in use */
	fd = lab_open_part(NEED_ENV("LAB_NVME_FS"), 3);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, disk_fill(fd, 0, 64 * KiB, SEED + 10));
	later = dmabuf_io_add_target(self->io, fd);
	close(fd);
	ASSERT_LE(0, later);
	ASSERT_EQ(0, dmabuf_io_prepare(self->io, buffer, later, NULL));
	r = request(DMABUF_IO_READ, buffer, later, 3 * MiB, 0, 64 * KiB);
	EXPECT_EQ(64 * KiB, done(self->io, &r));
	pthread_join(w.thread, NULL);
	EXPECT_EQ(0, w.wrong);
	if (!BOUNCES) {
		ASSERT_EQ(2, dmabuf_io_map_info(self->io, buffer, 1, &map));
		EXPECT_STREQ(lab_env("LAB_PCI_FS"), map.device);
		EXPECT_EQ(0, map.copied_bytes);
	}
	ASSERT_EQ(0, dmabuf_mem_copy_from(&self->mem, 0, self->data, SIZE));
	EXPECT_EQ(NO_MISMATCH, pattern_check(self->data, 0, PART, SEED + 9));
	EXPECT_EQ(NO_MISMATCH, pattern_check(self->data + 3 * MiB, 0, 64 * KiB, SEED + 10));
	/* one goes, the other stays */
	EXPECT_EQ(0, dmabuf_io_remove_target(self->io, target));
	EXPECT_EQ(64 * KiB, done(self->io, &r));
	r.target = target;
	EXPECT_EQ(-EBADF, submit(self->io, &r));
}

/* Memory that begins and ends in the middle of a page, as a tensor does */
TEST_F(handle, parts_of_pages)
{
	struct dmabuf_mem part = self->mem;
	struct dmabuf_io_request r;
	int buffer, target;

	part.off += 512;
	part.size = 8192;
	part.ptr = (char *)part.ptr + 512;
	buffer = dmabuf_io_add_buffer(self->io, &part, variant->flags);
	target = dmabuf_io_add_target(self->io, self->disk);
	ASSERT_EQ(0, dmabuf_io_prepare(self->io, buffer, target, NULL));
	ASSERT_EQ(0, disk_fill(self->disk, 0, 16 * KiB, SEED + 11));
	memset(self->data, POISON, SIZE);
	ASSERT_EQ(0, dmabuf_mem_copy_to(&self->mem, 0, self->data, SIZE));
	r = request(DMABUF_IO_READ, buffer, target, 0, 4096, 8192);
	EXPECT_EQ(8192, done(self->io, &r));
	ASSERT_EQ(0, dmabuf_mem_copy_from(&self->mem, 0, self->data, SIZE));
	EXPECT_EQ(NO_MISMATCH, poison_check(self->data, 512, POISON));
	EXPECT_EQ(NO_MISMATCH, pattern_check(self->data + 512, 4096, 8192, SEED + 11));
	EXPECT_EQ(NO_MISMATCH, poison_check(self->data + 8704, SIZE - 8704, POISON));
	r = request(DMABUF_IO_READ, buffer, target, 4096, 0, 8192);
	EXPECT_EQ(-EFAULT, submit(self->io, &r));
}

/* ---- over a card ---- */

TEST(card)
{
	struct dmabuf_io_request r;
	struct dmabuf_io *io;
	struct dmabuf_mem mem;
	struct net_pair pair;
	struct netrig rig;
	char spec[32];
	int buffer, target;

	netrig_init(&rig);
	NETRIG_UP(&rig, "e1000e", MEM_UDMABUF, SIZE);
	ASSERT_EQ(0, net_tcp(&rig, AF_INET, &pair));
	ASSERT_EQ(0, mem_fill(&rig.mem, 0, 0, SIZE, SEED + 12));
	snprintf(spec, sizeof(spec), "fd:%d", rig.mem.fd);
	ASSERT_EQ(0, dmabuf_mem_open(&mem, spec, 0));
	ASSERT_EQ(0, dmabuf_io_open(&io, NULL));
	/* it may be a copy, but need not */
	buffer = dmabuf_io_add_buffer(io, &mem, IO_URING_DMABUF_COPY_OK);
	ASSERT_LE(0, buffer);
	target = dmabuf_io_add_target(io, pair.tx);
	ASSERT_LE(0, target);
	ASSERT_EQ(0, dmabuf_io_prepare(io, buffer, target, NULL));
	r = request(DMABUF_IO_SEND, buffer, target, 4096, 0, 2 * MiB + 100);
	ASSERT_EQ(1, submit(io, &r));
	EXPECT_EQ(2 * MiB + 100, received(io, &r, pair.rx, SEED + 12));
	EXPECT_EQ(0, r.copied);
	net_close(&pair);
	dmabuf_io_close(io);
	EXPECT_TRUE(bufinfo_wait(mem.fd, 0, 10000));
	dmabuf_mem_close(&mem);
	netrig_down(&rig);
}

TEST_HARNESS_MAIN
