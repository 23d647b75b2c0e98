// SPDX-License-Identifier: GPL-2.0
/* RLIMIT_MEMLOCK: what a registration costs, to the page; and a memory cgroup */
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/dma-buf-bar.h>

#include "acct.h"
#include "common.h"

#define SIZE	ACCT_SIZE
#define PAGE	4096ULL
#define SLOTS	ACCT_SLOTS

FIXTURE(acct) {
	struct acct acct;
	int disk;
};

FIXTURE_SETUP(acct)
{
	struct acct *a = &self->acct;

	a->mem.fd = -1;
	a->tiny.fd = -1;
	if (!kernel_has_regbuf())
		SKIP(return, "this kernel has no dma-buf buffers");
	self->disk = NEED_DISK("LAB_NVME_MAIN");
	ASSERT_EQ(0, acct_up(a, MEM_UDMABUF, self->disk));
}

FIXTURE_TEARDOWN(acct)
{
	acct_down(&self->acct);
	close(self->disk);
}

static int flags_child(struct acct *a)
{
	static const struct {
		__u32 flags;
		bool memory;
	} cases[] = {
		{ 0, false },
		{ IO_REGBUF_DMABUF_RDONLY, false },
		{ IO_REGBUF_DMABUF_WRONLY, false },
		{ IO_REGBUF_DMABUF_PIN, true },
		{ IO_REGBUF_DMABUF_PIN | IO_REGBUF_DMABUF_WRONLY, true },
		{ IO_REGBUF_DMABUF_COPY_OK, true },
		{ IO_REGBUF_DMABUF_PIN | IO_REGBUF_DMABUF_COPY_OK, true },
	};
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);
	__u64 base = acct_locked(a);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		d.flags = cases[i].flags;
		CHECK(!acct_costs(a, 0, &d, cases[i].memory * SIZE + a->table));
		CHECK(!reg_clear(&a->ring, 0));
		CHECK(acct_locked_becomes(a, base));
	}
	return 0;
}

TEST_F(acct, every_flag)
{
	EXPECT_EQ(0, acct_run(flags_child, &self->acct));
}

/* The parts share the memory and its table */
static int parts_child(struct acct *a)
{
	__u64 base = acct_locked(a);

	for (int i = 0; i < 16; i++) {
		struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);

		d.flags = IO_REGBUF_DMABUF_PIN;
		d.dmabuf_off = i * SIZE / 16;
		d.size = SIZE / 16;
		CHECK(!acct_costs(a, i, &d, i ? 0 : SIZE + a->table));
	}
	/* the first goes first: the others pay on */
	for (int i = 0; i < 15; i++)
		CHECK(!reg_clear(&a->ring, i));
	lab_sleep_ms(200);
	CHECK(acct_locked(a) == base + SIZE + a->table);
	CHECK(!reg_clear(&a->ring, 15));
	CHECK(acct_locked_becomes(a, base));
	return 0;
}

TEST_F(acct, sixteen_parts)
{
	EXPECT_EQ(0, acct_run(parts_child, &self->acct));
}

/* Another kind of attachment has its own table; the memory is the same */
static int shared_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);
	__u64 base = acct_locked(a);

	d.flags = IO_REGBUF_DMABUF_PIN;
	CHECK(!acct_costs(a, 0, &d, SIZE + a->table));
	d.flags = 0;
	CHECK(!acct_costs(a, 1, &d, a->table));
	d.flags = IO_REGBUF_DMABUF_COPY_OK;
	CHECK(!acct_costs(a, 2, &d, 0));
	CHECK(!reg_clear(&a->ring, 0));
	CHECK(acct_locked_becomes(a, base + SIZE + a->table));
	CHECK(!reg_clear(&a->ring, 1));
	lab_sleep_ms(100);
	CHECK(acct_locked(a) == base + SIZE + a->table);
	CHECK(!reg_unregister(&a->ring));
	CHECK(!reg_sparse(&a->ring, SLOTS));
	CHECK(acct_locked_becomes(a, base));
	return 0;
}

TEST_F(acct, slots_with_other_flags)
{
	EXPECT_EQ(0, acct_run(shared_child, &self->acct));
}

/* A device's memory is no RAM: its table counts, it does not */
static int device_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);
	__u64 base = acct_locked(a);

	d.flags = IO_REGBUF_DMABUF_PIN;
	CHECK(!acct_costs(a, 0, &d, a->table));
	d.flags |= IO_REGBUF_DMABUF_COPY_OK;
	CHECK(!acct_costs(a, 1, &d, 0));
	/* it may be anywhere when the first copy is made */
	d.flags = IO_REGBUF_DMABUF_COPY_OK;
	CHECK(!acct_costs(a, 2, &d, SIZE + a->table));
	CHECK(!reg_unregister(&a->ring));
	CHECK(!reg_sparse(&a->ring, SLOTS));
	CHECK(acct_locked_becomes(a, base));
	/* the same with a limit that all of it would fit into */
	d.flags = IO_REGBUF_DMABUF_PIN;
	CHECK(!reg_one(&a->ring, 0, &d));
	CHECK(acct_locked_becomes(a, base + a->table));
	return 0;
}

TEST_F(acct, device_memory)
{
	struct acct bar;

	if (acct_up(&bar, MEM_BAR_4K, self->disk)) {
		acct_down(&bar);
		SKIP(return, "no /dev/dmabuf_bar");
	}
	EXPECT_GT(bar.table, 2 * PAGE);
	EXPECT_EQ(0, acct_run(device_child, &bar));
	acct_down(&bar);
}

static int pin_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);

	d.flags = IO_REGBUF_DMABUF_PIN;
	return acct_costs(a, 0, &d, SIZE + a->table);
}

/* The same exporter in system memory: refused, it is not left pinned */
static int refused_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);

	d.flags = IO_REGBUF_DMABUF_PIN;
	CHECK(!acct_limit(acct_locked(a) + SIZE - PAGE));
	CHECK(reg_one(&a->ring, 0, &d) == -ENOMEM);
	return 0;
}

TEST_F(acct, system_memory_of_the_same_exporter)
{
	struct dma_buf_bar_info info;
	struct acct bar;

	if (acct_up(&bar, MEM_BAR_SYSTEM, self->disk)) {
		acct_down(&bar);
		SKIP(return, "no /dev/dmabuf_bar");
	}
	EXPECT_TRUE(bufinfo_wait(bar.mem.fd, 0, 5000));
	EXPECT_EQ(0, acct_run(refused_child, &bar));
	ASSERT_EQ(0, bar_info(&bar.mem, &info));
	EXPECT_EQ(0, info.pinned);
	EXPECT_EQ(0, info.live);
	EXPECT_EQ(0, bufinfo_attachments(bar.mem.fd));
	EXPECT_EQ(0, acct_run(pin_child, &bar));
	acct_down(&bar);
}

static int clone_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);
	struct uring source = a->ring, clone;
	__u64 base;

	CHECK(!uring_init(&clone, 4, 0));
	base = acct_locked(a);
	d.flags = IO_REGBUF_DMABUF_PIN;
	CHECK(!acct_costs(a, 0, &d, SIZE + a->table));
	CHECK(!acct_limit(acct_locked(a)));
	CHECK(!reg_clone(&clone, &source));
	CHECK(acct_locked(a) == base + SIZE + a->table);
	CHECK(!reg_clear(&source, 0));
	lab_sleep_ms(200);
	CHECK(acct_locked(a) == base + SIZE + a->table);
	CHECK(!reg_clear(&clone, 0));
	CHECK(acct_locked_becomes(a, base));
	return 0;
}

TEST_F(acct, clones)
{
	EXPECT_EQ(0, acct_run(clone_child, &self->acct));
}

static int added[3];
static __u64 added_tables[4];

static int add_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);
	struct io_uring_query_regbuf_map q;
	__u64 base = acct_locked(a);

	CHECK(!acct_costs(a, 0, &d, added_tables[0]));
	for (int i = 0; i < 2; i++) {
		if (added[i] < 0)
			break;
		d = desc_add(added[i]);
		CHECK(!acct_costs(a, 0, &d, added_tables[i + 1]));
		/* again, it is free */
		CHECK(!acct_costs(a, 0, &d, 0));
	}
	CHECK(!query_map(&a->ring, 0, 0, &q));
	CHECK(q.nr_targets == (added[1] < 0 ? 2 : 4));
	CHECK(!reg_clear(&a->ring, 0));
	CHECK(acct_locked_becomes(a, base));
	return 0;
}

TEST_F(acct, targets_added)
{
	int p3 = NEED_PART(3), targets[3] = { self->disk, p3 }, nr = 2;
	const char *mp = lab_env("LAB_NVME_MP");

	added[0] = p3;
	added[1] = -1;
	if (mp) {
		targets[nr++] = lab_open(mp);
		added[1] = targets[2];
		ASSERT_GE(added[1], 0);
	}
	ASSERT_EQ(0, acct_tables(self->acct.mem.fd, targets, nr, added_tables));
	if (mp) {
		/* both paths */
		EXPECT_EQ(2 * added_tables[1], added_tables[2]);
	}
	EXPECT_EQ(0, acct_run(add_child, &self->acct));
}

/* A slot whose limit is used up can be registered again as it is */
static int replace_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);

	d.flags = IO_REGBUF_DMABUF_PIN;
	CHECK(!acct_costs(a, 0, &d, SIZE + a->table));
	for (int i = 0; i < 20; i++)
		CHECK(!acct_costs(a, 0, &d, 0));
	return 0;
}

TEST_F(acct, replaced_by_itself)
{
	EXPECT_EQ(0, acct_run(replace_child, &self->acct));
}

/* What was given up makes room, at once for who needs it */
static int order_child(struct acct *a)
{
	struct io_uring_regbuf_desc d[2] = {
		desc_dmabuf(a->mem.fd, a->target),
		desc_dmabuf(a[1].mem.fd, a->target),
	};
	__u64 base = acct_locked(a);

	/* one of them, and not both */
	CHECK(!acct_limit(base + SIZE + a->table + a[1].table));
	for (int i = 0; i < 40; i++) {
		d[i & 1].flags = IO_REGBUF_DMABUF_PIN;
		CHECK(!reg_one(&a->ring, i & 1, &d[i & 1]));
		d[!(i & 1)].flags = IO_REGBUF_DMABUF_PIN;
		CHECK(reg_one(&a->ring, 2, &d[!(i & 1)]) == -ENOMEM);
		CHECK(!reg_clear(&a->ring, i & 1));
	}
	CHECK(acct_locked_becomes(a, base));
	return 0;
}

TEST_F(acct, unregister_and_register)
{
	struct acct two[2];

	ASSERT_EQ(0, acct_up(&two[0], MEM_UDMABUF, self->disk));
	ASSERT_EQ(0, acct_up(&two[1], MEM_UDMABUF, self->disk));
	EXPECT_EQ(0, acct_run(order_child, two));
	acct_down(&two[0]);
	acct_down(&two[1]);
}

static struct acct *racing;

static void *race(void *arg)
{
	struct acct *a = racing;
	unsigned int slot = (uintptr_t)arg;
	struct uring r = a->ring;

	for (unsigned int i = 0; i < lab_scale(200, 40); i++) {
		struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);
		struct io_uring_regbuf_desc add = desc_add(added[0]);

		d.flags = i & 1 ? IO_REGBUF_DMABUF_PIN : IO_REGBUF_DMABUF_COPY_OK;
		if (reg_one(&r, slot, &d) || reg_one(&r, slot, &add) ||
		    (i % 3 && reg_clear(&r, slot)))
			return (void *)1;
	}
	return NULL;
}

static int race_child(struct acct *a)
{
	__u64 base = acct_locked(a);
	pthread_t threads[4];
	void *failed;

	racing = a;
	for (uintptr_t i = 0; i < 4; i++)
		CHECK(!pthread_create(&threads[i], NULL, race, (void *)i));
	for (int i = 0; i < 4; i++) {
		CHECK(!pthread_join(threads[i], &failed));
		CHECK(!failed);
	}
	for (int i = 0; i < 4; i++)
		CHECK(!reg_clear(&a->ring, i));
	CHECK(acct_locked_becomes(a, base));
	return 0;
}

/* Nothing is lost, whoever is first or last */
TEST_F(acct, threads)
{
	added[0] = NEED_PART(3);
	EXPECT_EQ(0, acct_run(race_child, &self->acct));
	EXPECT_TRUE(bufinfo_wait(self->acct.mem.fd, 0, 5000));
}

/* A user is the same one inside of a user namespace */
static int userns_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);
	pid_t pid;

	d.flags = IO_REGBUF_DMABUF_PIN;
	CHECK(!acct_costs(a, 0, &d, SIZE + a->table));
	pid = fork();
	if (!pid)
		_exit(unshare(CLONE_NEWUSER) ? 77 :
		      acct_ring(a) || acct_costs(a, 0, &d, 0) || acct_costs(a, 1, &d, 0));
	return acct_end(pid);
}

TEST_F(acct, user_namespace)
{
	int ret = acct_run(userns_child, &self->acct);

	if (ret == 77)
		SKIP(return, "no user namespaces");
	EXPECT_EQ(0, ret);
}

static int hold[2];

static int holding_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);
	char c = 0;

	d.flags = IO_REGBUF_DMABUF_PIN;
	CHECK(!acct_costs(a, 0, &d, SIZE + a->table));
	CHECK(write(hold[1], &c, 1) == 1);
	pause();
	return 0;
}

/* Each of two users pays: either may be the last one */
TEST_F(acct, two_users)
{
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(hold));
	pid = acct_start(holding_child, &self->acct);
	ASSERT_EQ(1, read(hold[0], &c, 1));
	EXPECT_EQ(0, acct_run(pin_child, &self->acct));
	kill(pid, SIGKILL);
	EXPECT_EQ(-1, acct_end(pid));
}

TEST_F(acct, cap_ipc_lock_costs_nothing)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(self->acct.mem.fd, self->disk);
	struct uring r;

	ASSERT_EQ(0, acct_limit(0));
	ASSERT_EQ(0, uring_init(&r, 4, 0));
	ASSERT_EQ(0, reg_sparse(&r, 1));
	d.flags = IO_REGBUF_DMABUF_PIN;
	EXPECT_EQ(0, reg_one(&r, 0, &d));
	uring_exit(&r);
}

/* Kernel memory: tables that take some pages, which they do without an IOMMU */
#define MANY	(32 * MiB)

FIXTURE(memcg) {
	struct mem mem;
	int disk;
	char path[40];		/* of a cgroup in a hierarchy of our own */
};

FIXTURE_SETUP(memcg)
{
	self->mem.fd = -1;
	self->disk = -1;
	strcpy(self->path, "/tmp/iou-cgroup-XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->path));
	if (!kernel_has_regbuf())
		SKIP(return, "this kernel has no dma-buf buffers");
	/* <sys/mount.h> and <linux/fs.h> do not go together */
	if (syscall(SYS_mount, "cgroup2", self->path, "cgroup2", 0, NULL))
		SKIP(return, "no cgroups");
	self->disk = NEED_DISK("LAB_NVME_MAIN");
	if (mem_create(&self->mem, MEM_BAR_4K, MANY))
		SKIP(return, "no /dev/dmabuf_bar");
}

FIXTURE_TEARDOWN(memcg)
{
	char path[64];

	close(self->disk);
	if (self->mem.fd >= 0)
		mem_destroy(&self->mem);
	snprintf(path, sizeof(path), "%s/iou", self->path);
	rmdir(path);
	syscall(SYS_umount2, self->path, 0);
	rmdir(self->path);
}

/* Bytes of kernel memory that the cgroup is charged for; -1: it does not say */
static long long kernel_memory(const char *cgroup)
{
	char path[96], stat[4096], *p;

	snprintf(path, sizeof(path), "%s/iou/memory.stat", cgroup);
	if (file_read(path, stat, sizeof(stat)))
		return -1;
	p = strstr(stat, "\nkernel ");
	return p ? atoll(p + strlen("\nkernel ")) : -1;
}

/* Other things of the kernel's take a page now and then */
static bool kernel_memory_becomes(const char *cgroup, long long least,
				  long long most)
{
	double end = lab_now() + 10;
	long long now;

	do {
		now = kernel_memory(cgroup);
		if (now >= least && now <= most)
			return true;
		lab_sleep_ms(50);
	} while (lab_now() < end);
	fprintf(stderr, "# kernel memory: %lld, not %lld to %lld\n", now, least, most);
	return false;
}

static int cgroup_child(const char *cgroup, const struct mem *mem, int disk)
{
	const long long slack = 32 * KiB;
	struct io_uring_query_regbuf_map q;
	struct uring r;
	long long before, table;
	char path[96];

	snprintf(path, sizeof(path), "%s/iou/cgroup.procs", cgroup);
	CHECK(!file_write(path, "0"));
	CHECK(!uring_init(&r, 4, 0));
	CHECK(!reg_sparse(&r, 1));
	/* so that what is allocated once is */
	for (int i = 0; i < 2; i++) {
		CHECK(!reg_dmabuf(&r, 0, mem->fd, disk));
		CHECK(!query_map(&r, 0, 0, &q));
		CHECK(!reg_clear(&r, 0));
		CHECK(bufinfo_wait(mem->fd, 0, 5000));
	}
	table = q.table_bytes;
	if (table < 2 * slack)
		fprintf(stderr, "# the table takes %lld bytes\n", table);
	CHECK(table >= 2 * slack);
	/* statistics are some seconds late, and memory is given back later still */
	lab_sleep_ms(5000);
	before = kernel_memory(cgroup);
	CHECK(before >= 0);
	CHECK(!reg_dmabuf(&r, 0, mem->fd, disk));
	/* the allocator rounds up */
	CHECK(kernel_memory_becomes(cgroup, before + table - slack,
				    before + 2 * table + slack));
	CHECK(!reg_clear(&r, 0));
	CHECK(kernel_memory_becomes(cgroup, before - slack, before + slack));
	uring_exit(&r);
	return 0;
}

TEST_F(memcg, mapping_table)
{
	char path[64];
	pid_t pid;

	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", self->path);
	if (file_write(path, "+memory"))
		SKIP(return, "no memory cgroup");
	snprintf(path, sizeof(path), "%s/iou", self->path);
	ASSERT_EQ(0, mkdir(path, 0700));
	pid = fork();
	if (!pid)
		_exit(!!cgroup_child(self->path, &self->mem, self->disk));
	EXPECT_EQ(0, acct_end(pid));
}

TEST_HARNESS_MAIN
