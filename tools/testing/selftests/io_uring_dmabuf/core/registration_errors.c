// SPDX-License-Identifier: GPL-2.0
/*
 * Descriptors that are refused: the exact errno, and the table left as it was.
 *
 * Slots 0 and 1 hold a working registration. Bad descriptors go to slot 1;
 * after each both slots must still move data.
 */
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <linux/dma-buf-bar.h>
#include <linux/loop.h>

#include "common.h"

#define SIZE		(256 * KiB)
#define BAD_SLOT	1

FIXTURE(err) {
	struct rig rig;
	struct io_uring_regbuf_desc desc;	/* a good one to spoil */
};

FIXTURE_SETUP(err)
{
	struct rig *rig = &self->rig;

	RIG_UP(rig, "LAB_NVME_MAIN", MEM_UDMABUF, SIZE, 0);
	self->desc = desc_dmabuf(rig->mem.fd, rig->disk);
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &self->desc));
	ASSERT_EQ(0, reg_one(&rig->ring, BAD_SLOT, &self->desc));
}

FIXTURE_TEARDOWN(err)
{
	rig_down(&self->rig);
}

static int table_intact(struct rig *rig)
{
	int ret = rig_read(rig, rig->disk, 0, 0, 0, 4096);

	if (!ret)
		ret = rig_write(rig, rig->disk, BAD_SLOT, 8192, 4096, 4096);
	return ret;
}

#define EXPECT_REFUSED(err, desc) do {					\
	EXPECT_EQ(err, reg_one(&self->rig.ring, BAD_SLOT, desc));	\
	ASSERT_EQ(0, table_intact(&self->rig));				\
} while (0)

TEST_F(err, unknown_flags)
{
	for (int bit = 0; bit < 32; bit++) {
		struct io_uring_regbuf_desc d = self->desc;

		d.flags = 1U << bit;
		if (d.flags & IO_REGBUF_DMABUF_FLAGS)
			continue;
		EXPECT_REFUSED(-EINVAL, &d);
	}
}

TEST_F(err, read_only_and_write_only)
{
	self->desc.flags = IO_REGBUF_DMABUF_RDONLY | IO_REGBUF_DMABUF_WRONLY;
	EXPECT_REFUSED(-EINVAL, &self->desc);
}

TEST_F(err, reserved_fields)
{
	struct io_uring_regbuf_desc d;

	d = self->desc;
	d.__resv1 = 1;
	EXPECT_REFUSED(-EINVAL, &d);
	for (int i = 0; i < 2; i++) {
		d = self->desc;
		d.__resv[i] = 1ULL << 63;
		EXPECT_REFUSED(-EINVAL, &d);
	}
	d = self->desc;
	d.uaddr = 4096;
	EXPECT_REFUSED(-EINVAL, &d);
}

TEST_F(err, reserved_fields_of_other_types)
{
	struct io_uring_regbuf_desc d = desc_empty();
	char *plain = aligned_alloc(4096, 4096);

	d.__resv[1] = 1;
	EXPECT_REFUSED(-EINVAL, &d);
	d = desc_empty();
	d.flags = IO_REGBUF_DMABUF_RDONLY;
	EXPECT_REFUSED(-EINVAL, &d);
	d = desc_uaddr(plain, 4096);
	d.__resv[0] = 1;
	EXPECT_REFUSED(-EINVAL, &d);
	d = desc_uaddr(plain, 4096);
	d.flags = IO_REGBUF_DMABUF_PIN;
	EXPECT_REFUSED(-EINVAL, &d);
	free(plain);
}

TEST_F(err, bad_type)
{
	self->desc.type = 3;
	EXPECT_REFUSED(-EINVAL, &self->desc);
	self->desc.type = ~0U;
	EXPECT_REFUSED(-EINVAL, &self->desc);
}

TEST_F(err, user_memory_errors)
{
	struct io_uring_regbuf_desc d = desc_uaddr(NULL, 4096);

	EXPECT_REFUSED(-EFAULT, &d);
	EXPECT_REFUSED(-EFAULT, (struct io_uring_regbuf_desc *)8);
	d = self->desc;
	d.nr_targets = 1;
	d.targets = 8;
	EXPECT_REFUSED(-EFAULT, &d);
}

/* The update call's own flags and reserved field */
TEST_F(err, update_flags)
{
	struct io_uring_rsrc_update2 up = {
		.offset = BAD_SLOT,
		.data = (uintptr_t)&self->desc,
		.nr = 1,
	};
	int fd = self->rig.ring.fd;

	for (int bit = 0; bit < 32; bit++) {
		up.flags = IORING_RSRC_UPDATE_EXTENDED | 1U << bit;
		if (up.flags == IORING_RSRC_UPDATE_EXTENDED)
			continue;
		EXPECT_EQ(-EINVAL, uring_register(fd, IORING_REGISTER_BUFFERS_UPDATE,
						  &up, sizeof(up)));
	}
	up.flags = IORING_RSRC_UPDATE_EXTENDED;
	up.resv2 = 1;
	EXPECT_EQ(-EINVAL, uring_register(fd, IORING_REGISTER_BUFFERS_UPDATE,
					  &up, sizeof(up)));
	up.resv2 = 0;
	up.nr = 0;
	EXPECT_EQ(-EINVAL, uring_register(fd, IORING_REGISTER_BUFFERS_UPDATE,
					  &up, sizeof(up)));
	up.nr = 1;
	up.offset = RIG_SLOTS;
	EXPECT_EQ(-EINVAL, uring_register(fd, IORING_REGISTER_BUFFERS_UPDATE,
					  &up, sizeof(up)));
	up.offset = ~0U;
	EXPECT_EQ(-EOVERFLOW, uring_register(fd, IORING_REGISTER_BUFFERS_UPDATE,
					     &up, sizeof(up)));
	ASSERT_EQ(0, table_intact(&self->rig));
}

/* Descriptors are for buffers, not for files */
TEST_F(err, files_update_with_the_flag)
{
	__s32 fds[1] = { -1 };
	struct io_uring_rsrc_register reg = { .nr = 1, .data = (uintptr_t)fds };
	struct io_uring_rsrc_update2 up = { .nr = 1, .data = (uintptr_t)fds };
	int fd = self->rig.ring.fd;

	ASSERT_EQ(0, uring_register(fd, IORING_REGISTER_FILES2, &reg, sizeof(reg)));
	EXPECT_EQ(1, uring_register(fd, IORING_REGISTER_FILES_UPDATE2, &up,
				    sizeof(up)));
	up.flags = IORING_RSRC_UPDATE_EXTENDED;
	EXPECT_EQ(-EINVAL, uring_register(fd, IORING_REGISTER_FILES_UPDATE2, &up,
					  sizeof(up)));
}

TEST_F(err, table_flags)
{
	struct io_uring_rsrc_register reg = {
		.nr = 1,
		.data = (uintptr_t)&self->desc,
	};
	int fd = self->rig.ring.fd;

	ASSERT_EQ(0, reg_unregister(&self->rig.ring));
	for (int bit = 2; bit < 32; bit++) {
		reg.flags = IORING_RSRC_UPDATE_EXTENDED | 1U << bit;
		EXPECT_EQ(-EINVAL, uring_register(fd, IORING_REGISTER_BUFFERS2,
						  &reg, sizeof(reg)));
	}
	reg.flags = IORING_RSRC_UPDATE_EXTENDED;
	reg.resv2 = 1;
	EXPECT_EQ(-EINVAL, uring_register(fd, IORING_REGISTER_BUFFERS2, &reg,
					  sizeof(reg)));
	reg.resv2 = 0;
	EXPECT_EQ(0, uring_register(fd, IORING_REGISTER_BUFFERS2, &reg,
				    sizeof(reg)));
}

TEST_F(err, without_a_table)
{
	struct uring r;

	ASSERT_EQ(0, uring_init(&r, 4, 0));
	EXPECT_EQ(-ENXIO, reg_one(&r, 0, &self->desc));
	uring_exit(&r);
}

/* The probe for old kernels must not disturb what it always meant */
TEST_F(err, without_the_flag_it_is_an_iovec)
{
	struct uring *r = &self->rig.ring;
	char *plain = aligned_alloc(4096, 4096);
	struct iovec iov = { .iov_base = plain, .iov_len = 4096 };

	EXPECT_EQ(1, reg_plain(r, 2, &iov, NULL, 1));
	EXPECT_EQ(4096, uring_read(r, self->rig.disk, 0, (uintptr_t)plain, 4096, 2));
	iov = (struct iovec) { };
	EXPECT_EQ(1, reg_plain(r, 2, &iov, NULL, 1));
	EXPECT_EQ(-EFAULT, uring_read(r, self->rig.disk, 0, (uintptr_t)plain, 4096, 2));
	ASSERT_EQ(0, table_intact(&self->rig));
	free(plain);
}

TEST_F(err, not_a_dmabuf)
{
	self->desc.dmabuf_fd = self->rig.disk;
	EXPECT_REFUSED(-EINVAL, &self->desc);
}

TEST_F(err, closed_fds)
{
	struct io_uring_regbuf_desc d = self->desc;
	int closed = dup(self->rig.disk);

	close(closed);
	d.dmabuf_fd = closed;
	EXPECT_REFUSED(-EBADF, &d);
	d.dmabuf_fd = -1;
	EXPECT_REFUSED(-EBADF, &d);
	d = self->desc;
	d.target_fd = closed;
	EXPECT_REFUSED(-EBADF, &d);
	d = self->desc;
	d.targets = (uintptr_t)&closed;
	d.nr_targets = 1;
	EXPECT_REFUSED(-EBADF, &d);
}

TEST_F(err, no_target)
{
	self->desc.target_fd = -1;
	EXPECT_REFUSED(-EBADF, &self->desc);
}

TEST_F(err, target_not_o_direct)
{
	int fd = open(lab_env("LAB_NVME_MAIN"), O_RDWR | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	self->desc.target_fd = fd;
	EXPECT_REFUSED(-EINVAL, &self->desc);
	close(fd);
}

TEST_F(err, target_without_a_hook)
{
	int tmp = open("/tmp", O_TMPFILE | O_RDWR | O_DIRECT, 0600);
	int fds[4], bad[2];

	ASSERT_EQ(0, pipe2(bad, O_DIRECT));
	fds[0] = bad[0];
	fds[1] = open("/dev/zero", O_RDWR);
	fds[2] = eventfd(0, 0);
	fds[3] = tmp;
	for (int i = 0; i < 4; i++) {
		struct io_uring_regbuf_desc d = self->desc;

		ASSERT_GE(fds[i], 0);
		d.target_fd = fds[i];
		EXPECT_REFUSED(-EOPNOTSUPP, &d);
		/* good first, bad second */
		d = self->desc;
		d.targets = (uintptr_t)&fds[i];
		d.nr_targets = 1;
		EXPECT_REFUSED(-EOPNOTSUPP, &d);
		close(fds[i]);
	}
	/* that of the two slots */
	EXPECT_EQ(1, bufinfo_attachments(self->rig.mem.fd));
}

TEST_F(err, target_loop_device)
{
	char path[32];
	int fd = lab_loop(path, sizeof(path));

	if (fd == -ENOENT)
		SKIP(return, "no loop driver");
	ASSERT_GE(fd, 0);
	self->desc.target_fd = fd;
	EXPECT_REFUSED(-EOPNOTSUPP, &self->desc);
	/* and no way round it: the disk's slot does not serve the loop device */
	EXPECT_EQ(-EBADF, uring_read(&self->rig.ring, fd, 0, 0, 4096, 0));
	ioctl(fd, LOOP_CLR_FD);
	close(fd);
}

TEST_F(err, target_null_blk)
{
	int fd = lab_open("/dev/nullb0");

	if (fd == -ENOENT)
		SKIP(return, "no /dev/nullb0");
	ASSERT_GE(fd, 0);
	self->desc.target_fd = fd;
	EXPECT_REFUSED(-EOPNOTSUPP, &self->desc);
	close(fd);
}

TEST_F(err, sub_range)
{
	static const struct {
		__u64 off, size;
	} bad[] = {
		{ 512, 4096 }, { 4096, 512 }, { 1, 0 }, { 0, 4095 },
		{ SIZE, 0 }, { SIZE, 4096 }, { 0, SIZE + 4096 },
		{ SIZE - 4096, 8192 }, { 1ULL << 63, 0 },
		{ -4096ULL, 8192 }, { 4096, -4096ULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct io_uring_regbuf_desc d = self->desc;

		d.dmabuf_off = bad[i].off;
		d.size = bad[i].size;
		EXPECT_REFUSED(-EINVAL, &d);
	}
}

TEST_F(err, require_p2p_of_system_memory)
{
	self->desc.flags = IO_REGBUF_DMABUF_REQUIRE_P2P;
	EXPECT_REFUSED(-EREMOTEIO, &self->desc);
}

TEST_F(err, too_many_targets)
{
	struct io_uring_query_regbuf q;
	__s32 *fds;

	ASSERT_EQ(0, query_regbuf(&q));
	ASSERT_EQ(LAB_MAX_TARGETS, q.max_targets);
	/* an absurd number is no excuse for an absurd allocation */
	fds = calloc(1 << 16, sizeof(*fds));
	self->desc.targets = (uintptr_t)fds;
	self->desc.nr_targets = ~0U;
	EXPECT_REFUSED(-E2BIG, &self->desc);
	self->desc.nr_targets = LAB_MAX_TARGETS + 1;
	EXPECT_REFUSED(-E2BIG, &self->desc);
	/* all of them, and target_fd, are one device */
	for (int i = 0; i < LAB_MAX_TARGETS; i++)
		fds[i] = self->rig.disk;
	self->desc.nr_targets = LAB_MAX_TARGETS;
	EXPECT_EQ(0, reg_one(&self->rig.ring, BAD_SLOT, &self->desc));
	ASSERT_EQ(0, table_intact(&self->rig));
	free(fds);
}

struct register_job {
	struct rig *rig;
	int dmabuf;
	int ret;
};

static void *register_in_thread(void *arg)
{
	struct register_job *job = arg;

	job->ret = reg_dmabuf(&job->rig->ring, BAD_SLOT, job->dmabuf,
			      job->rig->disk);
	return NULL;
}

/* The slot goes away while the exporter is waited for */
TEST_F(err, slot_is_gone)
{
	struct rig *rig = &self->rig;
	struct register_job job = { .rig = rig };
	struct dma_buf_bar_info info;
	pthread_t thread;
	struct mem bar;

	if (mem_create(&bar, MEM_BAR, SIZE))
		SKIP(return, "no /dev/dmabuf_bar");
	job.dmabuf = bar.fd;
	ASSERT_EQ(0, bar_fence(&bar, 1));
	ASSERT_EQ(0, pthread_create(&thread, NULL, register_in_thread, &job));
	/* most likely it waits by then; it cannot be done, and ENXIO is right anyway */
	lab_sleep_ms(300);
	ASSERT_EQ(0, reg_unregister(&rig->ring));
	ASSERT_EQ(0, bar_fence(&bar, 0));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(-ENXIO, job.ret);
	EXPECT_TRUE(bufinfo_wait(bar.fd, 0, 5000));
	ASSERT_EQ(0, bar_info(&bar, &info));
	EXPECT_EQ(0, info.live);
	ASSERT_EQ(0, reg_sparse(&rig->ring, RIG_SLOTS));
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, BAD_SLOT, rig->mem.fd, rig->disk));
	ASSERT_EQ(0, table_intact(rig));
	mem_destroy(&bar);
}

TEST_F(err, add_targets)
{
	struct io_uring_regbuf_desc good = desc_add(self->rig.disk), d;
	struct uring *r = &self->rig.ring;
	__u64 tag = 1;

	d = good;
	d.dmabuf_fd = self->rig.mem.fd;
	EXPECT_REFUSED(-EINVAL, &d);
	d = good;
	d.size = 4096;
	EXPECT_REFUSED(-EINVAL, &d);
	d = good;
	d.dmabuf_off = 4096;
	EXPECT_REFUSED(-EINVAL, &d);
	d = good;
	d.uaddr = 4096;
	EXPECT_REFUSED(-EINVAL, &d);
	d = good;
	d.flags |= IO_REGBUF_DMABUF_PIN;
	EXPECT_REFUSED(-EINVAL, &d);
	d = desc_add(-1);
	EXPECT_REFUSED(-EBADF, &d);
	EXPECT_EQ(-EINVAL, reg_update(r, BAD_SLOT, &good, &tag, 1));
	/* a slot without a dma-buf has nothing to add to */
	EXPECT_EQ(-EINVAL, reg_one(r, 5, &good));
	ASSERT_EQ(0, table_intact(&self->rig));
}

/* --- accounting --- */

/* Runs in a child without CAP_IPC_LOCK; its exit status is the answer */
static int register_as_nobody(struct rig *rig, __u64 limit, __u32 flags)
{
	struct rlimit rl = { .rlim_cur = limit, .rlim_max = limit };
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, rig->disk);
	struct uring r;
	int ret;

	if (setrlimit(RLIMIT_MEMLOCK, &rl) || setgid(65534) || setuid(65534))
		return 255;
	if (uring_init(&r, 4, 0) || reg_sparse(&r, 1))
		return 254;
	d.flags = flags;
	ret = reg_one(&r, 0, &d);
	if (!ret)
		ret = uring_read(&r, rig->disk, 0, 0, 4096, 0) == 4096 ? 0 : -EIO;
	return -ret;
}

static int in_child(int (*fn)(struct rig *, __u64, __u32), struct rig *rig,
		    __u64 limit, __u32 flags)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(fn(rig, limit, flags));
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

/* The last ring's share is given back shortly after its exit */
static int eventually_in_child(int (*fn)(struct rig *, __u64, __u32),
			       struct rig *rig, __u64 limit, __u32 flags)
{
	double end = lab_now() + 10;
	int ret;

	do {
		ret = in_child(fn, rig, limit, flags);
		lab_sleep_ms(20);
	} while (ret == ENOMEM && lab_now() < end);
	return ret;
}

static void check_locked(struct __test_metadata *_metadata, struct rig *rig,
			 __u32 flags)
{
	EXPECT_EQ(ENOMEM, in_child(register_as_nobody, rig, SIZE / 2, flags));
	for (int i = 0; i < 5; i++) {
		EXPECT_EQ(0, eventually_in_child(register_as_nobody, rig,
						 SIZE * 3 / 2, flags));
	}
	ASSERT_EQ(0, table_intact(rig));
}

TEST_F(err, pinned_bytes_count_as_locked)
{
	check_locked(_metadata, &self->rig, IO_REGBUF_DMABUF_PIN);
	/* both are one and the same memory */
	check_locked(_metadata, &self->rig,
		     IO_REGBUF_DMABUF_PIN | IO_REGBUF_DMABUF_COPY_OK);
}

/* Copies are made from a mapping for the CPU, which pins */
TEST_F(err, bytes_that_may_be_copied_count_as_locked)
{
	/* what neither pins nor copies does not */
	EXPECT_EQ(0, eventually_in_child(register_as_nobody, &self->rig,
					 SIZE / 2, 0));
	check_locked(_metadata, &self->rig, IO_REGBUF_DMABUF_COPY_OK);
}

/* Adding what is there already is free, however often */
static int add_again_as_nobody(struct rig *rig, __u64 limit, __u32 flags)
{
	struct rlimit rl = { .rlim_cur = limit, .rlim_max = limit };
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, rig->disk);
	struct io_uring_regbuf_desc add = desc_add(rig->disk);
	struct uring r;
	int ret;

	if (setrlimit(RLIMIT_MEMLOCK, &rl) || setgid(65534) || setuid(65534))
		return 255;
	if (uring_init(&r, 4, 0) || reg_sparse(&r, 1))
		return 254;
	d.flags = flags;
	ret = reg_one(&r, 0, &d);
	for (int i = 0; !ret && i < 1000; i++)
		ret = reg_one(&r, 0, &add);
	return -ret;
}

TEST_F(err, targets_added_again_cost_nothing)
{
	EXPECT_EQ(0, eventually_in_child(add_again_as_nobody, &self->rig,
					 256 * KiB, 0));
	ASSERT_EQ(0, table_intact(&self->rig));
}

TEST_HARNESS_MAIN
