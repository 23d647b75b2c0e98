// SPDX-License-Identifier: GPL-2.0
/*
 * Devices that leave and return while a slot lives: paths of a multipath head,
 * whole drives. SOAK=1 does as many rounds as a long life has.
 *
 * Wants a machine of its own: it takes the drives away from under everybody.
 */
#include <pthread.h>
#include <stdlib.h>
#include <linux/dma-buf-bar.h>
#include <linux/nvme_ioctl.h>

#include "cdev.h"
#include "common.h"
#include "mover.h"
#include "nvme.h"

#define SIZE	(1 * MiB)
#define READS	32
#define DEPTH	8

/* "round-robin": I/O takes all paths in turn, and one that is not attached shows */
static int set_iopolicy(const char *policy)
{
	char path[96];
	int ret = -ENOENT;

	for (int i = 0; i < 8; i++) {
		snprintf(path, sizeof(path),
			 "/sys/class/nvme-subsystem/nvme-subsys%d/iopolicy", i);
		if (!file_write(path, policy))
			ret = 0;
	}
	return ret;
}

/* How long a head without paths waits for one, in seconds */
static int set_patience(const char *seconds)
{
	const char *disk = lab_env("LAB_NVME_MP");
	char path[96];

	if (!disk)
		return -ENOENT;
	snprintf(path, sizeof(path), "/sys/block/%s/delayed_removal_secs",
		 strrchr(disk, '/') + 1);
	return file_write(path, seconds);
}

/* Reads that are all compared, DEPTH at a time: how many went wrong, and how */
static int reads(struct rig *rig, unsigned int nr)
{
	struct uring_res res;
	int bad = 0;

	for (unsigned int i = 0; i < nr; i += DEPTH) {
		unsigned int n = nr - i < DEPTH ? nr - i : DEPTH;

		for (unsigned int k = 0; k < n; k++) {
			__u64 at = (i + k) % (SIZE / 4096) * 4096;

			mem_poison(&rig->mem, at, 4096, POISON);
			uring_prep_rw(&rig->ring, IORING_OP_READ_FIXED,
				      rig->disk, at, at, 4096, 0)->user_data = at;
		}
		uring_submit(&rig->ring, 0);
		for (unsigned int k = 0; k < n; k++) {
			if (uring_wait(&rig->ring, &res, 60000))
				return -1;
			if (res.res == 4096 &&
			    mem_check(&rig->mem, res.user_data, res.user_data,
				      4096, 77) < 0)
				continue;
			if (!bad++)
				ksft_print_msg("read at %llu: %d\n",
					       res.user_data, res.res);
		}
	}
	return bad;
}

FIXTURE(flaps) {
};

FIXTURE_SETUP(flaps)
{
}

/* what the kernel begins with */
FIXTURE_TEARDOWN(flaps)
{
	set_patience("0");
	set_iopolicy("numa");
}

static unsigned int nr_targets(struct rig *rig)
{
	struct io_uring_query_regbuf_map q;

	if (query_map(&rig->ring, 0, 0, &q))
		return 0;
	return q.nr_targets;
}

/* A slot that has both paths of a multipath head; @policy is who takes I/O */
static void paths_up(struct __test_metadata *_metadata, struct rig *rig,
		     const char *policy, char pci[2][64])
{
	ASSERT_EQ(0, set_iopolicy(policy));
	for (int i = 0; i < 2; i++)
		ASSERT_TRUE(nvme_shared_pci(i, pci[i], sizeof(pci[i])));
	ASSERT_EQ(0, disk_fill(rig->disk, 0, SIZE, 77));
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	ASSERT_EQ(2, nr_targets(rig));
}

/*
 * A path leaves and comes back, the two in turn. While one is there all I/O is
 * right, and the one that is back serves again without anybody's help. The slot
 * has no more entries than before.
 */
TEST_F_TIMEOUT(flaps, paths, SOAK_TIMEOUT)
{
	unsigned int nr = lab_soak(lab_scale(6, 3), 1000);
	char pci[2][64];
	struct rig rig;

	RIG_UP(&rig, "LAB_NVME_MP", MEM_UDMABUF, SIZE, 0);
	paths_up(_metadata, &rig, "round-robin", pci);
	ASSERT_EQ(0, reads(&rig, READS));
	for (unsigned int i = 0; i < nr; i++) {
		ASSERT_EQ(0, nvme_unbind(pci[i % 2]));
		ASSERT_EQ(0, reads(&rig, READS));
		ASSERT_EQ(1, bufinfo_attachments(rig.mem.fd));
		ASSERT_EQ(0, nvme_bind(pci[i % 2]));
		ASSERT_TRUE(nvme_wait_paths(2));
		/* it is taken a moment after it is there */
		for (int t = 0; bufinfo_attachments(rig.mem.fd) != 2 && t < 200; t++) {
			ASSERT_EQ(0, reads(&rig, READS));
			lab_sleep_ms(20);
		}
		ASSERT_EQ(2, bufinfo_attachments(rig.mem.fd));
		ASSERT_EQ(2, nr_targets(&rig));
		ASSERT_EQ(0, reads(&rig, READS));
	}
	rig_down(&rig);
}

/*
 * A path comes back that no I/O takes, until the other one goes: then all do at
 * once, and find it not attached. Nobody is told that it is gone.
 */
TEST_F_TIMEOUT(flaps, failover, SOAK_TIMEOUT)
{
	unsigned int nr = lab_soak(lab_scale(3, 2), 200);
	char pci[2][64];
	struct rig rig;

	RIG_UP(&rig, "LAB_NVME_MP", MEM_UDMABUF, SIZE, 0);
	paths_up(_metadata, &rig, "numa", pci);
	for (unsigned int i = 0; i < 2 * nr; i++) {
		ASSERT_EQ(0, nvme_unbind(pci[i % 2]));
		ASSERT_EQ(0, reads(&rig, READS));
		ASSERT_EQ(0, nvme_bind(pci[i % 2]));
		ASSERT_TRUE(nvme_wait_paths(2));
		ASSERT_EQ(0, nvme_unbind(pci[(i + 1) % 2]));
		ASSERT_EQ(0, reads(&rig, READS));
		ASSERT_EQ(1, bufinfo_attachments(rig.mem.fd));
		ASSERT_EQ(0, nvme_bind(pci[(i + 1) % 2]));
		ASSERT_TRUE(nvme_wait_paths(2));
		ASSERT_EQ(2, nr_targets(&rig));
	}
	rig_down(&rig);
}

/*
 * A slot for a disk that only one of the controllers has, used for the head: that is
 * served through this controller, and refused through the other one; at once, as
 * the head was never named, and no path of it is new.
 */
TEST_F(flaps, another_disk_of_a_controller)
{
	const char *private = NEED_ENV("LAB_NVME_META");
	unsigned int served = 0, refused = 0;
	char pci[2][64];
	struct rig rig;
	int disk, ret;

	RIG_UP(&rig, "LAB_NVME_MP", MEM_UDMABUF, SIZE, 0);
	paths_up(_metadata, &rig, "numa", pci);
	for (int i = 0; i < 2; i++) {
		/* the one that is left takes all I/O from now on */
		ASSERT_EQ(0, nvme_unbind(pci[i]));
		ASSERT_EQ(NO_MISMATCH, disk_check(rig.disk, 0, 0, 4096, 77));
		ASSERT_EQ(0, nvme_bind(pci[i]));
		ASSERT_TRUE(nvme_wait_paths(2));
		disk = -ENOENT;
		for (int t = 0; disk < 0 && t < 200; t++) {
			disk = lab_open(private);
			lab_sleep_ms(20);
		}
		ASSERT_GE(disk, 0);
		ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, disk));
		ASSERT_EQ(1, nr_targets(&rig));
		ret = uring_read(&rig.ring, rig.disk, 0, 0, 4096, 0);
		served += ret == 4096;
		refused += ret == -EBADF;
		close(disk);
	}
	EXPECT_EQ(1, served);
	EXPECT_EQ(1, refused);
	rig_down(&rig);
}

/* One request for the first 4 KiB, as a file would issue it or as a command */
static int submit_one(struct rig *rig, const struct cdev *dev)
{
	mem_poison(&rig->mem, 0, 4096, POISON);
	if (dev)
		cdev_prep(&rig->ring, dev, NVME_READ, NVME_URING_CMD_IO, 0, 4096,
			  0, 4096);
	else
		uring_prep_rw(&rig->ring, IORING_OP_READ_FIXED, rig->disk, 0, 0,
			      4096, 0);
	return uring_submit(&rig->ring, 0);
}

/* Its end: 0, -ETIME, or how it was wrong */
static int one_ended(struct rig *rig, const struct cdev *dev, int timeout_ms)
{
	struct uring_res res;
	int ret = uring_wait(&rig->ring, &res, timeout_ms);

	if (ret)
		return ret;
	if (res.res != (dev ? 0 : 4096))
		return res.res ?: -EIO;
	return mem_check(&rig->mem, 0, 0, 4096, 77) < 0 ? 0 : -EILSEQ;
}

/* A path goes while requests wait for an exporter, and does not wait for it, too */
static void unbound_meanwhile(struct __test_metadata *_metadata, bool command)
{
	struct cdev dev = { .fd = -1 };
	char pci[2][64];
	struct rig rig;
	double start;

	RIG_UP(&rig, "LAB_NVME_MP", MEM_BAR, SIZE, CDEV_RING);
	paths_up(_metadata, &rig, "numa", pci);
	if (command)
		ASSERT_EQ(0, cdev_open(&dev, NEED_ENV("LAB_NG_MP"), rig.disk));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, bar_move(&rig.mem, i ? DMA_BUF_BAR_PLACE_A :
						    DMA_BUF_BAR_PLACE_B));
		ASSERT_EQ(0, bar_fence(&rig.mem, 1));
		ASSERT_EQ(1, submit_one(&rig, command ? &dev : NULL));
		ASSERT_EQ(-ETIME, one_ended(&rig, NULL, 300));
		start = lab_now();
		ASSERT_EQ(0, nvme_unbind(pci[i]));
		EXPECT_LE(lab_now() - start, lab_scale(1, 3));
		ASSERT_EQ(-ETIME, one_ended(&rig, NULL, 0));
		/* it was pending all the time, and the path that is left does it */
		ASSERT_EQ(0, bar_fence(&rig.mem, 0));
		ASSERT_EQ(0, one_ended(&rig, command ? &dev : NULL, 20000));
		ASSERT_EQ(0, nvme_bind(pci[i]));
		ASSERT_TRUE(nvme_wait_paths(2));
	}
	if (command)
		close(dev.fd);
	rig_down(&rig);
}

TEST_F(flaps, while_reads_wait)
{
	unbound_meanwhile(_metadata, false);
}

TEST_F(flaps, while_commands_wait)
{
	unbound_meanwhile(_metadata, true);
}

/*
 * All paths go while a request waits for an exporter. The head waits for one of
 * them to come back, with this request as with one from plain memory; and it is
 * served by a path that is new, as the two that the slot had are gone.
 */
TEST_F(flaps, no_path_for_a_while)
{
	struct uring_res res;
	char pci[2][64];
	struct rig rig;
	char *plain;

	NEED_ENV("LAB_NVME_MP");
	plain = aligned_alloc(4096, 4096);
	ASSERT_NE(NULL, plain);
	RIG_UP(&rig, "LAB_NVME_MP", MEM_BAR, SIZE, 0);
	paths_up(_metadata, &rig, "numa", pci);
	ASSERT_EQ(0, set_patience("60"));
	ASSERT_EQ(0, bar_move(&rig.mem, DMA_BUF_BAR_PLACE_B));
	ASSERT_EQ(0, bar_fence(&rig.mem, 1));
	ASSERT_EQ(1, submit_one(&rig, NULL));
	ASSERT_EQ(-ETIME, one_ended(&rig, NULL, 300));
	ASSERT_EQ(0, nvme_unbind(pci[0]));
	ASSERT_EQ(0, nvme_unbind(pci[1]));
	ASSERT_EQ(0, bar_fence(&rig.mem, 0));
	ASSERT_EQ(-ETIME, one_ended(&rig, NULL, 500));
	uring_prep_rw(&rig.ring, IORING_OP_READ, rig.disk, 0, (uintptr_t)plain,
		      4096, 0)->user_data = 1;
	ASSERT_EQ(1, uring_submit(&rig.ring, 0));
	ASSERT_EQ(-ETIME, one_ended(&rig, NULL, 500));
	ASSERT_EQ(0, nvme_bind(pci[0]));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, uring_wait(&rig.ring, &res, 20000));
		EXPECT_EQ(4096, res.res) {
			TH_LOG("from %s memory", res.user_data ? "plain" : "BAR");
		}
	}
	EXPECT_EQ(NO_MISMATCH, mem_check(&rig.mem, 0, 0, 4096, 77));
	EXPECT_EQ(NO_MISMATCH, pattern_check(plain, 0, 4096, 77));
	ASSERT_EQ(0, nvme_bind(pci[1]));
	ASSERT_TRUE(nvme_wait_paths(2));
	ASSERT_EQ(0, reads(&rig, READS));
	free(plain);
	rig_down(&rig);
}

/* The fast path does not look at devices that the I/O does not use */
TEST_F(flaps, other_targets)
{
	struct io_uring_regbuf_desc d;
	struct counter c;
	struct rig rig;
	long long n;
	char pci[64];
	__s32 more;
	int ev;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_BAR, SIZE, 0);
	ASSERT_TRUE(nvme_shared_pci(0, pci, sizeof(pci)));
	more = NEED_DISK("LAB_NVME_MP");
	d = desc_dmabuf(rig.mem.fd, rig.disk);
	d.targets = (uintptr_t)&more;
	d.nr_targets = 1;
	ASSERT_EQ(0, disk_fill(rig.disk, 0, SIZE, 77));
	ASSERT_EQ(0, reg_one(&rig.ring, 0, &d));

	ev = open("/sys/kernel/tracing/kprobe_events", O_WRONLY | O_APPEND);
	ASSERT_GE(ev, 0);
	ASSERT_EQ(34, write(ev, "p:regbuf/slow __dma_iobuf_prepare\n", 34));
	close(ev);
	ASSERT_EQ(0, counter_open(&c, "regbuf"));
	ASSERT_EQ(0, counter_add(&c, "regbuf/slow", NULL));

	/* idle: after a move nobody has used it through the other device */
	ASSERT_EQ(0, bar_move(&rig.mem, 1));
	n = counter_read(&c);
	ASSERT_EQ(0, reads(&rig, 1));
	EXPECT_EQ(1, counter_read(&c) - n);	/* the counter counts */
	n = counter_read(&c);
	ASSERT_EQ(0, reads(&rig, 1000));
	EXPECT_EQ(0, counter_read(&c) - n);

	/* dead */
	close(more);
	ASSERT_EQ(0, nvme_unbind(pci));
	n = counter_read(&c);
	ASSERT_EQ(0, reads(&rig, 1000));
	EXPECT_EQ(0, counter_read(&c) - n);
	ASSERT_EQ(0, nvme_bind(pci));
	ASSERT_TRUE(nvme_wait_paths(2));
	counter_close(&c);
	rig_down(&rig);
}

/*
 * A drive is unplugged and plugged in again, with the slot alive. The new disk is
 * another one, and is added: in the place of the old one.
 */
TEST_F_TIMEOUT(flaps, drives, SOAK_TIMEOUT)
{
	const char *pci = NEED_ENV("LAB_PCI_MAIN");
	unsigned int nr = lab_soak(lab_scale(4, 2), 200);
	struct io_uring_regbuf_desc d;
	struct rig rig;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_UDMABUF, SIZE, 0);
	ASSERT_EQ(0, disk_fill(rig.disk, 0, SIZE, 77));
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk));
	for (unsigned int i = 0; i < nr; i++) {
		ASSERT_EQ(0, reads(&rig, READS));
		ASSERT_EQ(0, nvme_unbind(pci));
		EXPECT_EQ(-ENODEV, uring_read(&rig.ring, rig.disk, 0, 0, 4096, 0));
		ASSERT_EQ(0, bufinfo_attachments(rig.mem.fd));
		close(rig.disk);
		ASSERT_EQ(0, nvme_bind(pci));
		rig.disk = nvme_wait_disk(pci);
		ASSERT_GE(rig.disk, 0);
		/* never named: not attached by itself */
		EXPECT_EQ(-EBADF, uring_read(&rig.ring, rig.disk, 0, 0, 4096, 0));
		d = desc_add(rig.disk);
		ASSERT_EQ(0, reg_one(&rig.ring, 0, &d));
		ASSERT_EQ(1, nr_targets(&rig));
		ASSERT_EQ(1, bufinfo_attachments(rig.mem.fd));
	}
	ASSERT_EQ(0, reads(&rig, READS));
	rig_down(&rig);
}

/*
 * Registers, reads and clears, whether the drive is there or not. What a
 * registration says of a drive that goes is ours, and is ENODEV alone. A read
 * that the block layer or the driver has taken ends as one of any memory does:
 * EIO, too, if the drive was going then.
 */
struct registrar {
	const struct mem *mem;
	const char *pci;
	bool stop;
	unsigned int worked, gone, lost;	/* lost: reads that gave EIO */
	int register_error, read_error;	/* the first that it should not be */
};

static void register_once(struct registrar *r, struct uring *ring, int disk,
			  __u32 flags)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(r->mem->fd, disk);
	int ret;

	d.flags = flags;
	ret = reg_one(ring, 0, &d);
	if (ret) {
		r->gone += ret == -ENODEV;
		if (ret != -ENODEV && !r->register_error)
			r->register_error = ret;
		return;
	}
	ret = uring_read(ring, disk, 0, 0, 4096, 0);
	if (ret == 4096)
		ret = mem_check(r->mem, 0, 0, 4096, 77) < 0 ? 0 : -EILSEQ;
	r->worked += !ret;
	r->gone += ret == -ENODEV;
	r->lost += ret == -EIO;
	if (ret && ret != -ENODEV && ret != -EIO && !r->read_error)
		r->read_error = ret;
	ret = reg_clear(ring, 0);
	if (ret && !r->register_error)
		r->register_error = ret;
}

static void *register_always(void *arg)
{
	struct registrar *r = arg;
	struct uring ring;
	char path[80];

	if (uring_init(&ring, 8, 0) || reg_sparse(&ring, 1)) {
		r->register_error = -ENOMEM;
		return NULL;
	}
	for (unsigned int i = 0; !__atomic_load_n(&r->stop, __ATOMIC_RELAXED); i++) {
		int disk = nvme_disk(r->pci, path, sizeof(path)) ?
			   lab_open(path) : -ENOENT;

		if (disk < 0)
			continue;
		/* the disk is there for a moment longer than its drive */
		for (int k = 0; k < 20; k++)
			register_once(r, &ring, disk,
				      i & 1 ? IO_REGBUF_DMABUF_PIN : 0);
		close(disk);
	}
	uring_exit(&ring);
	return NULL;
}

/*
 * Whoever has a disk open keeps its name from the next one. Nobody has now: the
 * drive comes back by the name that the other tests know.
 */
static int back_to_its_name(const char *pci)
{
	int ret = nvme_unbind(pci) ?: nvme_bind(pci), disk;
	char path[80];

	if (ret)
		return ret;
	disk = nvme_wait_disk(pci);
	if (disk < 0)
		return disk;
	close(disk);
	return nvme_disk(pci, path, sizeof(path)) &&
	       !strcmp(path, lab_env("LAB_NVME_MAIN")) ? 0 : -EAGAIN;
}

/* A drive goes at any point of a registration: that has worked, or it is ENODEV */
TEST_F_TIMEOUT(flaps, registered_meanwhile, SOAK_TIMEOUT)
{
	unsigned int nr = lab_soak(lab_scale(10, 5), 200);
	const char *pci = NEED_ENV("LAB_PCI_MAIN");
	struct registrar r[2];
	pthread_t thread[2];
	struct rig rig;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_BAR, SIZE, 0);
	ASSERT_EQ(0, disk_fill(rig.disk, 0, SIZE, 77));
	for (int i = 0; i < 2; i++) {
		r[i] = (struct registrar) { .mem = &rig.mem, .pci = pci };
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, register_always,
					    &r[i]));
	}
	for (unsigned int i = 0; i < nr; i++) {
		lab_sleep_ms(20 + 7 * i % 50);
		ASSERT_EQ(0, nvme_unbind(pci));
		lab_sleep_ms(20);
		ASSERT_EQ(0, nvme_bind(pci));
		close(rig.disk);
		rig.disk = nvme_wait_disk(pci);
		ASSERT_GE(rig.disk, 0);
	}
	for (int i = 0; i < 2; i++) {
		__atomic_store_n(&r[i].stop, true, __ATOMIC_RELAXED);
		pthread_join(thread[i], NULL);
		EXPECT_EQ(0, r[i].register_error);
		EXPECT_EQ(0, r[i].read_error);
		EXPECT_GT(r[i].worked, 0);
		TH_LOG("%u worked, %u found no device, %u reads were lost",
		       r[i].worked, r[i].gone, r[i].lost);
	}
	EXPECT_TRUE(bufinfo_wait(rig.mem.fd, 0, 5000));
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk));
	ASSERT_EQ(0, reads(&rig, READS));
	ASSERT_EQ(0, reg_clear(&rig.ring, 0));
	rig_down(&rig);
	/* a disk goes a moment after it was closed */
	for (int i = 0; back_to_its_name(pci); i++) {
		ASSERT_LT(i, 10);
		lab_sleep_ms(200);
	}
}

struct resetter {
	const char *pci;
	bool stop;
	unsigned int resets;
	int error;
};

static void *reset_always(void *arg)
{
	struct resetter *r = arg;
	char path[160];

	while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED) && !r->error) {
		if (!nvme_controller(r->pci, path, sizeof(path) - 20)) {
			r->error = -ENODEV;
			break;
		}
		strcat(path, "/reset_controller");
		r->error = file_write(path, "1");
		r->resets++;
		lab_sleep_ms(30);
	}
	return NULL;
}

/*
 * A drive is reset, which cancels commands and issues them again, while the
 * exporter moves the memory and has to wait for just these commands.
 */
TEST_F_TIMEOUT(flaps, moved_while_reset, SOAK_TIMEOUT)
{
	unsigned int nr = lab_soak(lab_scale(10, 4), 500);
	struct resetter r = { .pci = NEED_ENV("LAB_PCI_MAIN") };
	struct mover m = { .nr_places = 2, .rest_ms = lab_scale(15, 60) };
	pthread_t thread;
	struct rig rig;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_BAR, SIZE, 0);
	m.mem = &rig.mem;
	ASSERT_EQ(0, disk_fill(rig.disk, 0, SIZE, 77));
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk));
	ASSERT_EQ(0, pthread_create(&thread, NULL, reset_always, &r));
	ASSERT_EQ(0, mover_start(&m));
	while (__atomic_load_n(&r.resets, __ATOMIC_RELAXED) < nr &&
	       !__atomic_load_n(&r.error, __ATOMIC_RELAXED))
		ASSERT_EQ(0, reads(&rig, READS));
	__atomic_store_n(&r.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	mover_stop(&m);
	EXPECT_EQ(0, r.error);
	EXPECT_EQ(0, m.error);
	EXPECT_GT(m.moves, nr);
	TH_LOG("%u resets, %u moves, the longest took %.3f s", r.resets, m.moves,
	       m.longest);
	EXPECT_EQ(1, bufinfo_attachments(rig.mem.fd));
	rig_down(&rig);
}

TEST_HARNESS_MAIN
