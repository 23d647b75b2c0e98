// SPDX-License-Identifier: GPL-2.0
/*
 * RLIMIT_MEMLOCK: what a registration costs, to the page.
 *
 * Children without CAP_IPC_LOCK register, each as a user of its own, so that
 * nothing else counts for them. What a user has locked is read from the reason of
 * a registration that cannot succeed.
 */
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <linux/dma-buf-bar.h>

#include "common.h"
#include "netrig.h"

#define SIZE	(4 * MiB)
#define PAGE	4096ULL
#define SLOTS	20
#define TINY	(SLOTS - 1)	/* slot of the registration that cannot succeed */

struct acct {
	struct mem mem, tiny;
	int target;		/* of most registrations */
	int more;		/* that is added */
	__u64 kept;		/* locked until somebody lets go of the memory */
	struct uring ring;	/* of a child */
	__u64 table;		/* what the table of @mem for @target takes */
};

/* Exits with the line of what is not as it should be */
#define CHECK(cond) do {						\
	if (!(cond)) {							\
		fprintf(stderr, "# line %d: %s\n", __LINE__, #cond);	\
		return -1;						\
	}								\
} while (0)

static int soft_limit(__u64 bytes)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_MEMLOCK, &rl))
		return -errno;
	rl.rlim_cur = bytes;
	return setrlimit(RLIMIT_MEMLOCK, &rl) ? -errno : 0;
}

static __u64 locked(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->tiny.fd, a->target);
	struct io_uring_regbuf_reason why;
	int ret;

	d.flags = IO_REGBUF_DMABUF_PIN;
	soft_limit(0);
	ret = reg_why(&a->ring, TINY, &d, &why);
	soft_limit(RLIM_INFINITY);
	if (ret != -ENOMEM || why.stage != IO_REGBUF_STAGE_MEMLOCK)
		return -1ULL;
	return why.bytes - PAGE;
}

/* What is given up goes shortly after */
static bool locked_becomes(struct acct *a, __u64 bytes)
{
	double end = lab_now() + 10;

	while (locked(a) != bytes) {
		if (lab_now() > end) {
			fprintf(stderr, "# locked: %llu, not %llu\n", locked(a), bytes);
			return false;
		}
		lab_sleep_ms(10);
	}
	return true;
}

/* @d fits if there is room for @bytes, and does not with a page less */
static int costs(struct acct *a, unsigned int slot,
		 const struct io_uring_regbuf_desc *d, __u64 bytes)
{
	__u64 before = locked(a);

	CHECK(before != -1ULL);
	if (bytes) {
		CHECK(!soft_limit(before + bytes - PAGE));
		CHECK(reg_one(&a->ring, slot, d) == -ENOMEM);
		CHECK(locked_becomes(a, before));
	}
	CHECK(!soft_limit(before + bytes));
	CHECK(!reg_one(&a->ring, slot, d));
	CHECK(locked_becomes(a, before + bytes));
	return 0;
}

static __u64 table_pages(const struct io_uring_query_regbuf_map *q)
{
	return (q->table_bytes + PAGE - 1) / PAGE * PAGE;
}

/* Of @mem for each of the @nr targets that are added to the first; by root */
static int tables(int fd, const int *targets, int nr, __u64 *bytes)
{
	struct io_uring_query_regbuf_map q;
	unsigned int seen = 0;
	struct uring r;
	int ret;

	ret = uring_init(&r, 4, 0) ?: reg_sparse(&r, 1);
	for (int i = 0; i < nr && !ret; i++) {
		struct io_uring_regbuf_desc d = i ? desc_add(targets[i]) :
						desc_dmabuf(fd, targets[i]);

		ret = reg_one(&r, 0, &d);
		bytes[i] = 0;
		while (!ret && !query_map(&r, 0, seen, &q) && q.nr_targets) {
			bytes[i] += table_pages(&q);
			seen++;
		}
	}
	uring_exit(&r);
	return ret;
}

static int acct_up(struct acct *a, enum mem_kind kind, int target)
{
	int ret;

	a->target = target;
	a->mem.fd = -1;
	a->tiny.fd = -1;
	ret = mem_create(&a->mem, kind, SIZE);
	if (!ret)
		ret = mem_create(&a->tiny, MEM_UDMABUF, PAGE);
	if (!ret)
		ret = tables(a->mem.fd, &target, 1, &a->table);
	return ret;
}

static void acct_down(struct acct *a)
{
	if (a->mem.fd >= 0)
		mem_destroy(&a->mem);
	if (a->tiny.fd >= 0)
		mem_destroy(&a->tiny);
}

static int become(unsigned int uid)
{
	struct rlimit rl = { RLIM_INFINITY, RLIM_INFINITY };

	CHECK(!setrlimit(RLIMIT_MEMLOCK, &rl));
	CHECK(!setgid(65534) && !setuid(uid));
	return 0;
}

static int ring_up(struct acct *a)
{
	CHECK(!uring_init(&a->ring, 4, 0));
	CHECK(!reg_sparse(&a->ring, SLOTS));
	return 0;
}

static unsigned int next_uid = 72000;

static pid_t start_as(unsigned int uid, int (*fn)(struct acct *a),
		      struct acct *a)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	_exit(become(uid + getppid() % 1000 * 1000) || ring_up(a) || fn(a));
}

static pid_t start(int (*fn)(struct acct *a), struct acct *a)
{
	return start_as(next_uid++, fn, a);
}

static int end(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static int run(int (*fn)(struct acct *a), struct acct *a)
{
	return end(start(fn, a));
}

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
	__u64 base = locked(a);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		d.flags = cases[i].flags;
		CHECK(!costs(a, 0, &d, cases[i].memory * SIZE + a->table));
		CHECK(!reg_clear(&a->ring, 0));
		CHECK(locked_becomes(a, base));
	}
	return 0;
}

TEST_F(acct, every_flag)
{
	EXPECT_EQ(0, run(flags_child, &self->acct));
}

/* The parts share the memory and its table */
static int parts_child(struct acct *a)
{
	__u64 base = locked(a);

	for (int i = 0; i < 16; i++) {
		struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);

		d.flags = IO_REGBUF_DMABUF_PIN;
		d.dmabuf_off = i * SIZE / 16;
		d.size = SIZE / 16;
		CHECK(!costs(a, i, &d, i ? 0 : SIZE + a->table));
	}
	/* the first goes first: the others pay on */
	for (int i = 0; i < 15; i++)
		CHECK(!reg_clear(&a->ring, i));
	lab_sleep_ms(200);
	CHECK(locked(a) == base + SIZE + a->table);
	CHECK(!reg_clear(&a->ring, 15));
	CHECK(locked_becomes(a, base));
	return 0;
}

TEST_F(acct, sixteen_parts)
{
	EXPECT_EQ(0, run(parts_child, &self->acct));
}

/* Another kind of attachment has its own table; the memory is the same */
static int shared_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);
	__u64 base = locked(a);

	d.flags = IO_REGBUF_DMABUF_PIN;
	CHECK(!costs(a, 0, &d, SIZE + a->table));
	d.flags = 0;
	CHECK(!costs(a, 1, &d, a->table));
	d.flags = IO_REGBUF_DMABUF_COPY_OK;
	CHECK(!costs(a, 2, &d, 0));
	CHECK(!reg_clear(&a->ring, 0));
	CHECK(locked_becomes(a, base + SIZE + a->table));
	CHECK(!reg_clear(&a->ring, 1));
	lab_sleep_ms(100);
	CHECK(locked(a) == base + SIZE + a->table);
	CHECK(!reg_unregister(&a->ring));
	CHECK(!reg_sparse(&a->ring, SLOTS));
	CHECK(locked_becomes(a, base));
	return 0;
}

TEST_F(acct, slots_with_other_flags)
{
	EXPECT_EQ(0, run(shared_child, &self->acct));
}

/* A device's memory is no RAM: its table counts, it does not */
static int device_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);
	__u64 base = locked(a);

	d.flags = IO_REGBUF_DMABUF_PIN;
	CHECK(!costs(a, 0, &d, a->table));
	d.flags |= IO_REGBUF_DMABUF_COPY_OK;
	CHECK(!costs(a, 1, &d, 0));
	/* it may be anywhere when the first copy is made */
	d.flags = IO_REGBUF_DMABUF_COPY_OK;
	CHECK(!costs(a, 2, &d, SIZE + a->table));
	CHECK(!reg_unregister(&a->ring));
	CHECK(!reg_sparse(&a->ring, SLOTS));
	CHECK(locked_becomes(a, base));
	/* the same with a limit that all of it would fit into */
	d.flags = IO_REGBUF_DMABUF_PIN;
	CHECK(!reg_one(&a->ring, 0, &d));
	CHECK(locked_becomes(a, base + a->table));
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
	EXPECT_EQ(0, run(device_child, &bar));
	acct_down(&bar);
}

static int pin_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);

	d.flags = IO_REGBUF_DMABUF_PIN;
	return costs(a, 0, &d, SIZE + a->table);
}

/* The same exporter in system memory: refused, it is not left pinned */
static int refused_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);

	d.flags = IO_REGBUF_DMABUF_PIN;
	CHECK(!soft_limit(locked(a) + SIZE - PAGE));
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
	EXPECT_EQ(0, run(refused_child, &bar));
	ASSERT_EQ(0, bar_info(&bar.mem, &info));
	EXPECT_EQ(0, info.pinned);
	EXPECT_EQ(0, info.live);
	EXPECT_EQ(0, bufinfo_attachments(bar.mem.fd));
	EXPECT_EQ(0, run(pin_child, &bar));
	acct_down(&bar);
}

static int clone_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);
	struct uring source = a->ring, clone;
	__u64 base;

	CHECK(!uring_init(&clone, 4, 0));
	base = locked(a);
	d.flags = IO_REGBUF_DMABUF_PIN;
	CHECK(!costs(a, 0, &d, SIZE + a->table));
	CHECK(!soft_limit(locked(a)));
	CHECK(!reg_clone(&clone, &source));
	CHECK(locked(a) == base + SIZE + a->table);
	CHECK(!reg_clear(&source, 0));
	lab_sleep_ms(200);
	CHECK(locked(a) == base + SIZE + a->table);
	CHECK(!reg_clear(&clone, 0));
	CHECK(locked_becomes(a, base));
	return 0;
}

TEST_F(acct, clones)
{
	EXPECT_EQ(0, run(clone_child, &self->acct));
}

static int added[3];
static __u64 added_tables[4];

static int add_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);
	struct io_uring_query_regbuf_map q;
	__u64 base = locked(a);

	CHECK(!costs(a, 0, &d, added_tables[0]));
	for (int i = 0; i < 2; i++) {
		if (added[i] < 0)
			break;
		d = desc_add(added[i]);
		CHECK(!costs(a, 0, &d, added_tables[i + 1]));
		/* again, it is free */
		CHECK(!costs(a, 0, &d, 0));
	}
	CHECK(!query_map(&a->ring, 0, 0, &q));
	CHECK(q.nr_targets == (added[1] < 0 ? 2 : 4));
	CHECK(!reg_clear(&a->ring, 0));
	CHECK(locked_becomes(a, base));
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
	ASSERT_EQ(0, tables(self->acct.mem.fd, targets, nr, added_tables));
	if (mp) {
		/* both paths */
		EXPECT_EQ(2 * added_tables[1], added_tables[2]);
	}
	EXPECT_EQ(0, run(add_child, &self->acct));
}

/* A slot whose limit is used up can be registered again as it is */
static int replace_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);

	d.flags = IO_REGBUF_DMABUF_PIN;
	CHECK(!costs(a, 0, &d, SIZE + a->table));
	for (int i = 0; i < 20; i++)
		CHECK(!costs(a, 0, &d, 0));
	return 0;
}

TEST_F(acct, replaced_by_itself)
{
	EXPECT_EQ(0, run(replace_child, &self->acct));
}

/* What was given up makes room, at once for who needs it */
static int order_child(struct acct *a)
{
	struct io_uring_regbuf_desc d[2] = {
		desc_dmabuf(a->mem.fd, a->target),
		desc_dmabuf(a[1].mem.fd, a->target),
	};
	__u64 base = locked(a);

	/* one of them, and not both */
	CHECK(!soft_limit(base + SIZE + a->table + a[1].table));
	for (int i = 0; i < 40; i++) {
		d[i & 1].flags = IO_REGBUF_DMABUF_PIN;
		CHECK(!reg_one(&a->ring, i & 1, &d[i & 1]));
		d[!(i & 1)].flags = IO_REGBUF_DMABUF_PIN;
		CHECK(reg_one(&a->ring, 2, &d[!(i & 1)]) == -ENOMEM);
		CHECK(!reg_clear(&a->ring, i & 1));
	}
	CHECK(locked_becomes(a, base));
	return 0;
}

TEST_F(acct, unregister_and_register)
{
	struct acct two[2];

	ASSERT_EQ(0, acct_up(&two[0], MEM_UDMABUF, self->disk));
	ASSERT_EQ(0, acct_up(&two[1], MEM_UDMABUF, self->disk));
	EXPECT_EQ(0, run(order_child, two));
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
	__u64 base = locked(a);
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
	CHECK(locked_becomes(a, base));
	return 0;
}

/* Nothing is lost, whoever is first or last */
TEST_F(acct, threads)
{
	added[0] = NEED_PART(3);
	EXPECT_EQ(0, run(race_child, &self->acct));
	EXPECT_TRUE(bufinfo_wait(self->acct.mem.fd, 0, 5000));
}

/* A user is the same one inside of a user namespace */
static int userns_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);
	pid_t pid;

	d.flags = IO_REGBUF_DMABUF_PIN;
	CHECK(!costs(a, 0, &d, SIZE + a->table));
	pid = fork();
	if (!pid)
		_exit(unshare(CLONE_NEWUSER) ? 77 :
		      ring_up(a) || costs(a, 0, &d, 0) || costs(a, 1, &d, 0));
	return end(pid);
}

TEST_F(acct, user_namespace)
{
	int ret = run(userns_child, &self->acct);

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
	CHECK(!costs(a, 0, &d, SIZE + a->table));
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
	pid = start(holding_child, &self->acct);
	ASSERT_EQ(1, read(hold[0], &c, 1));
	EXPECT_EQ(0, run(pin_child, &self->acct));
	kill(pid, SIGKILL);
	EXPECT_EQ(-1, end(pid));
}

static int go[2];

static int pipes(void)
{
	return pipe(hold) || pipe(go) ? -errno : 0;
}

static void close_pipes(void)
{
	/* prepared() has closed the other one */
	close(hold[0]);
	close(go[0]);
	close(go[1]);
}

/* The parent's end: 0 when the child is, -EPIPE when it has ended */
static int prepared(void)
{
	char c;

	close(hold[1]);
	return read(hold[0], &c, 1) == 1 ? 0 : -EPIPE;
}

/* What can be done before the exporter is slow is done */
static int ready(void)
{
	char c = 0;

	CHECK(write(hold[1], &c, 1) == 1);
	CHECK(read(go[0], &c, 1) == 1);
	return 0;
}

static int waiting_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);

	d.flags = IO_REGBUF_DMABUF_PIN;
	CHECK(!ready());
	CHECK(!reg_one(&a->ring, 0, &d));
	return 0;
}

/* The slot costs its table, and the target that is added has the memory pinned */
static int adding_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);

	CHECK(!reg_one(&a->ring, 0, &d));
	CHECK(!ready());
	d = desc_add(a->more);
	CHECK(!reg_one(&a->ring, 0, &d));
	return 0;
}

/* The same user: what it has given up counts until it is gone */
static int settled_child(struct acct *a)
{
	char c = 0;

	CHECK(locked(a) == a->kept);
	CHECK(write(hold[1], &c, 1) == 1);
	CHECK(locked_becomes(a, 0));
	return 0;
}

/*
 * Killed when the memory is pinned, but not mapped yet, and nobody can unpin it for
 * the time being: it is charged all the same.
 */
static void killed(struct __test_metadata *_metadata, struct acct *a,
		   int (*waiting)(struct acct *a))
{
	struct dma_buf_bar_info info = { };
	double end_of_wait = lab_now() + 10;
	pid_t pid, holder;
	char c = 0;

	EXPECT_TRUE(bufinfo_wait(a->mem.fd, 0, 5000));
	ASSERT_EQ(0, pipes());
	pid = start_as(next_uid, waiting, a);
	ASSERT_EQ(0, prepared());
	ASSERT_EQ(0, bar_fence(&a->mem, 1));
	ASSERT_EQ(1, write(go[1], &c, 1));
	while (!info.pinned && lab_now() < end_of_wait) {
		ASSERT_EQ(0, bar_info(&a->mem, &info));
		lab_sleep_ms(20);
	}
	ASSERT_EQ(1, info.pinned);
	holder = bar_hold(&a->mem);
	ASSERT_GT(holder, 0);
	kill(pid, SIGKILL);
	EXPECT_EQ(-1, end(pid));
	close_pipes();
	ASSERT_EQ(0, pipes());
	pid = start_as(next_uid++, settled_child, a);
	EXPECT_EQ(0, prepared());
	EXPECT_EQ(0, bar_let_go(holder));
	EXPECT_EQ(0, end(pid));
	close_pipes();
	EXPECT_TRUE(bufinfo_wait(a->mem.fd, 0, 5000));
	ASSERT_EQ(0, bar_info(&a->mem, &info));
	EXPECT_EQ(0, info.pinned);
	bar_fence(&a->mem, 0);
}

TEST_F(acct, killed_while_pinned)
{
	struct acct bar;

	if (acct_up(&bar, MEM_BAR_SYSTEM, self->disk)) {
		acct_down(&bar);
		SKIP(return, "no /dev/dmabuf_bar");
	}
	bar.kept = SIZE;
	killed(_metadata, &bar, waiting_child);
	acct_down(&bar);
}

static int beyond_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);

	d.flags = IO_REGBUF_DMABUF_PIN;
	CHECK(!soft_limit(SIZE - PAGE));
	CHECK(!ready());
	CHECK(reg_one(&a->ring, 0, &d) == -ENOMEM);
	return 0;
}

/* Where the memory is, only a mapping tells: it is not pinned until that can be made */
TEST_F(acct, beyond_the_limit_while_a_fence_is_pending)
{
	struct dma_buf_bar_info info;
	struct acct bar;
	char c = 0;
	pid_t pid;

	if (acct_up(&bar, MEM_BAR_SYSTEM, self->disk)) {
		acct_down(&bar);
		SKIP(return, "no /dev/dmabuf_bar");
	}
	ASSERT_EQ(0, pipes());
	pid = start(beyond_child, &bar);
	ASSERT_EQ(0, prepared());
	ASSERT_EQ(0, bar_fence(&bar.mem, 1));
	ASSERT_EQ(1, write(go[1], &c, 1));
	lab_sleep_ms(500);
	ASSERT_EQ(0, bar_info(&bar.mem, &info));
	EXPECT_EQ(0, info.pinned);
	ASSERT_EQ(0, waitpid(pid, NULL, WNOHANG));
	ASSERT_EQ(0, bar_fence(&bar.mem, 0));
	EXPECT_EQ(0, end(pid));
	ASSERT_EQ(0, bar_info(&bar.mem, &info));
	EXPECT_EQ(0, info.pinned);
	close_pipes();
	acct_down(&bar);
}

TEST_F(acct, cap_ipc_lock_costs_nothing)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(self->acct.mem.fd, self->disk);
	struct uring r;

	ASSERT_EQ(0, soft_limit(0));
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
	EXPECT_EQ(0, end(pid));
}

/* A socket pins, so it is as with PIN */
FIXTURE(card) {
	struct netrig net;
	struct net_pair tcp;
};

FIXTURE_SETUP(card)
{
	netrig_init(&self->net);
	self->tcp = NET_PAIR_NONE;
	if (!kernel_has_regbuf())
		SKIP(return, "this kernel has no dma-buf buffers");
	NEED_ENV("LAB_NET_E1000E");
	NETRIG_UP(&self->net, CARD_E1000E, MEM_UDMABUF, 64 * KiB);
	ASSERT_EQ(0, net_tcp(&self->net, AF_INET, &self->tcp));
}

FIXTURE_TEARDOWN(card)
{
	net_close(&self->tcp);
	netrig_down(&self->net);
}

static int socket_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);
	__u64 memory = mem_is_bar(&a->mem) ? 0 : SIZE, base = locked(a);

	CHECK(!costs(a, 0, &d, memory + a->table));
	d.flags = IO_REGBUF_DMABUF_COPY_OK;
	CHECK(!costs(a, 1, &d, 0));
	CHECK(!reg_clear(&a->ring, 0));
	CHECK(!reg_clear(&a->ring, 1));
	CHECK(locked_becomes(a, base));
	return 0;
}

TEST_F(card, socket)
{
	static const enum mem_kind kinds[] = { MEM_UDMABUF, MEM_BAR };
	struct acct a;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		ASSERT_EQ(0, acct_up(&a, kinds[i], self->tcp.tx));
		EXPECT_EQ(0, run(socket_child, &a));
		acct_down(&a);
	}
}

static int clearing_child(struct acct *a)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);

	CHECK(!reg_one(&a->ring, 0, &d));
	CHECK(locked(a) == a->kept);
	CHECK(!ready());
	CHECK(!reg_clear(&a->ring, 0));
	lab_sleep_ms(300);
	CHECK(locked(a) == a->kept);
	close(hold[1]);
	CHECK(locked_becomes(a, 0));
	return 0;
}

/* Nothing is queued, but nobody can unpin the memory for the time being */
TEST_F(card, cleared_while_locked)
{
	struct acct bar;
	pid_t pid, holder;
	char c = 0;

	ASSERT_EQ(0, acct_up(&bar, MEM_BAR_SYSTEM, self->tcp.tx));
	bar.kept = SIZE + bar.table;
	EXPECT_TRUE(bufinfo_wait(bar.mem.fd, 0, 5000));
	ASSERT_EQ(0, pipes());
	pid = start(clearing_child, &bar);
	ASSERT_EQ(0, prepared());
	holder = bar_hold(&bar.mem);
	ASSERT_GT(holder, 0);
	ASSERT_EQ(1, write(go[1], &c, 1));
	/* until the child has looked */
	EXPECT_EQ(0, read(hold[0], &c, 1));
	EXPECT_EQ(0, bar_let_go(holder));
	EXPECT_EQ(0, end(pid));
	close_pipes();
	acct_down(&bar);
}

/* As killed_while_pinned, by ADD_TARGETS */
TEST_F(card, killed_while_a_target_is_added)
{
	int disk = NEED_DISK("LAB_NVME_MAIN");
	struct acct bar;

	ASSERT_EQ(0, acct_up(&bar, MEM_BAR_SYSTEM, disk));
	bar.more = self->tcp.tx;
	bar.kept = SIZE + bar.table;
	killed(_metadata, &bar, adding_child);
	acct_down(&bar);
	close(disk);
}

TEST_HARNESS_MAIN
