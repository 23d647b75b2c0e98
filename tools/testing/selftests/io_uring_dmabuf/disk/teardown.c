// SPDX-License-Identifier: GPL-2.0
/*
 * The device goes away or is reset while requests run: every request ends, in
 * success or in an errno, no mapping is left, later requests get ENODEV, and
 * a new registration works once the device is back.
 *
 * Wants a machine of its own: it takes the disks away from under everybody.
 */
#include <pthread.h>

#include "common.h"
#include "nvme.h"

#define SIZE	(1 * MiB)
#define DEPTH	16
#define WINDOW	(SIZE / DEPTH)

/* Keeps DEPTH verified reads in flight until told to stop */
struct reader {
	struct rig *rig;
	pthread_t thread;
	bool stop;
	unsigned long good, short_reads, bad_errno, lost, eagain, wrong;
	int errors[256];	/* how often each errno */
};

static const int good_errnos[] = { EIO, ENODEV, ENXIO };

static bool errno_is_good(int err)
{
	for (int i = 0; i < 3; i++)
		if (err == good_errnos[i])
			return true;
	return false;
}

static void reader_submit(struct reader *r, unsigned int i)
{
	struct rig *rig = r->rig;

	mem_poison(&rig->mem, i * WINDOW, WINDOW, POISON);
	uring_prep_rw(&rig->ring, IORING_OP_READ_FIXED, rig->disk, i * WINDOW,
		      i * WINDOW, WINDOW, 0)->user_data = i;
	uring_submit(&rig->ring, 0);
}

static void reader_account(struct reader *r, const struct uring_res *res)
{
	__u64 at = res->user_data * WINDOW;

	if (res->res == WINDOW) {
		r->good++;
		if (mem_check(&r->rig->mem, at, at, WINDOW, 90) >= 0)
			r->wrong++;
		return;
	}
	if (res->res == -EAGAIN)
		r->eagain++;
	if (res->res >= 0)
		r->short_reads++;
	else if (!errno_is_good(-res->res))
		r->bad_errno++;
	if (res->res < 0 && res->res > -256)
		r->errors[-res->res]++;
}

static void *reader_run(void *arg)
{
	unsigned int inflight = DEPTH;
	struct reader *r = arg;
	struct uring_res res;

	for (unsigned int i = 0; i < DEPTH; i++)
		reader_submit(r, i);
	while (inflight) {
		if (uring_wait(&r->rig->ring, &res, 60000)) {
			r->lost = inflight;
			break;
		}
		reader_account(r, &res);
		if (__atomic_load_n(&r->stop, __ATOMIC_RELAXED))
			inflight--;
		else
			reader_submit(r, res.user_data);
		if (res.res != WINDOW)
			lab_sleep_ms(1);
	}
	return NULL;
}

static int reader_start(struct reader *r, struct rig *rig)
{
	int ret;

	memset(r, 0, sizeof(*r));
	r->rig = rig;
	ret = disk_fill(rig->disk, 0, SIZE, 90);
	if (!ret)
		ret = -pthread_create(&r->thread, NULL, reader_run, r);
	lab_sleep_ms(200);
	return ret;
}

static void reader_stop(struct reader *r)
{
	__atomic_store_n(&r->stop, true, __ATOMIC_RELAXED);
	pthread_join(r->thread, NULL);
	ksft_print_msg("%lu good reads, EIO %d, ENODEV %d, ENXIO %d\n", r->good,
		       r->errors[EIO], r->errors[ENODEV], r->errors[ENXIO]);
	for (int i = 0; i < 256; i++)
		if (r->errors[i] && !errno_is_good(i))
			ksft_print_msg("and errno %d: %d times\n", i, r->errors[i]);
}

#define EXPECT_SANE(reader) do {					\
	EXPECT_GT((reader)->good, 0);					\
	EXPECT_EQ(0, (reader)->wrong);					\
	EXPECT_EQ(0, (reader)->lost);					\
	EXPECT_EQ(0, (reader)->eagain);					\
	EXPECT_EQ(0, (reader)->bad_errno);				\
	EXPECT_EQ(0, (reader)->short_reads);				\
} while (0)

static int nvme_reset(const char *pci)
{
	char ctrl[200], path[240];

	if (!nvme_controller(pci, ctrl, sizeof(ctrl)))
		return -ENODEV;
	snprintf(path, sizeof(path), "%s/reset_controller", ctrl);
	return file_write(path, "1");
}

FIXTURE(gone) {
	struct rig rig;
	const char *pci;
};

FIXTURE_VARIANT(gone) {
	enum mem_kind kind;
	unsigned int ring_flags;
};

FIXTURE_VARIANT_ADD(gone, udmabuf) { .kind = MEM_UDMABUF };
FIXTURE_VARIANT_ADD(gone, bar) { .kind = MEM_BAR_4K };

FIXTURE_VARIANT_ADD(gone, iopoll) {
	.kind = MEM_UDMABUF_4K, .ring_flags = IORING_SETUP_IOPOLL,
};

FIXTURE_SETUP(gone)
{
	const char *why = NULL;
	struct rig *rig = &self->rig;
	int ret;

	self->pci = NEED_ENV("LAB_PCI_MAIN");
	ret = rig_up(rig, "LAB_NVME_FS", variant->kind, SIZE, variant->ring_flags,
		     &why);
	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, ret);
	/* the disk may have another name than at boot */
	close(rig->disk);
	rig->disk = nvme_wait_disk(self->pci);
	ASSERT_GE(rig->disk, 0);
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
}

FIXTURE_TEARDOWN(gone)
{
	rig_down(&self->rig);
}

TEST_F(gone, reset)
{
	struct rig *rig = &self->rig;
	struct reader reader;

	ASSERT_EQ(0, reader_start(&reader, rig));
	for (int i = 0; i < 8; i++) {
		EXPECT_EQ(0, nvme_reset(self->pci));
		lab_sleep_ms(lab_scale(150, 500));
	}
	reader_stop(&reader);
	EXPECT_SANE(&reader);
	/* a reset is not the end of the device */
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
}

/* After the device has gone: nothing is left, and the slot knows it */
static void check_gone(struct __test_metadata *_metadata, struct rig *rig)
{
	struct io_uring_query_regbuf_map q;
	int ret;

	EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 0, 5000));
	ret = uring_read(&rig->ring, rig->disk, 0, 0, 4096, 0);
	EXPECT_EQ(-ENODEV, ret);
	ASSERT_EQ(0, query_map(&rig->ring, 0, 0, &q));
	EXPECT_EQ(IO_REGBUF_MAP_DEAD, q.state);
	EXPECT_LT(reg_dmabuf(&rig->ring, 1, rig->mem.fd, rig->disk), 0);
}

/* The old slot stays dead, a new one serves the device that came back */
static void check_back(struct __test_metadata *_metadata, struct rig *rig,
		       const char *pci)
{
	int fd = nvme_wait_disk(pci);

	ASSERT_GE(fd, 0);
	EXPECT_LT(uring_read(&rig->ring, fd, 0, 0, 4096, 0), 0);
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, fd));
	ASSERT_EQ(0, rig_works(rig, fd, 0));
	close(fd);
}

TEST_F(gone, unbind)
{
	struct rig *rig = &self->rig;
	struct reader reader;

	ASSERT_EQ(0, reader_start(&reader, rig));
	EXPECT_EQ(0, nvme_pci_write(self->pci, "driver/unbind", self->pci));
	reader_stop(&reader);
	EXPECT_SANE(&reader);
	check_gone(_metadata, rig);
	ASSERT_EQ(0, file_write("/sys/bus/pci/drivers/nvme/bind", self->pci));
	check_back(_metadata, rig, self->pci);
}

TEST_F(gone, hot_remove)
{
	struct rig *rig = &self->rig;
	struct reader reader;

	ASSERT_EQ(0, reader_start(&reader, rig));
	EXPECT_EQ(0, nvme_pci_write(self->pci, "remove", "1"));
	reader_stop(&reader);
	EXPECT_SANE(&reader);
	check_gone(_metadata, rig);
	ASSERT_EQ(0, file_write("/sys/bus/pci/rescan", "1"));
	check_back(_metadata, rig, self->pci);
}

TEST_F(gone, reset_then_unbind_idle)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, nvme_reset(self->pci));
	ASSERT_EQ(0, nvme_pci_write(self->pci, "driver/unbind", self->pci));
	check_gone(_metadata, rig);
	ASSERT_EQ(0, file_write("/sys/bus/pci/drivers/nvme/bind", self->pci));
	check_back(_metadata, rig, self->pci);
}

/* The slot is cleared, the ring closed, only after the device has gone */
TEST_F(gone, late_unregister)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, nvme_pci_write(self->pci, "driver/unbind", self->pci));
	ASSERT_EQ(0, reg_clear(&rig->ring, 0));
	uring_exit(&rig->ring);
	EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 0, 5000));
	ASSERT_EQ(0, file_write("/sys/bus/pci/drivers/nvme/bind", self->pci));
	close(rig->disk);
	rig->disk = nvme_wait_disk(self->pci);
	ASSERT_GE(rig->disk, 0);
}

/* One path of two goes: requests carry on over the other, without an error */
TEST(path_of_a_multipath_head)
{
	struct reader reader;
	char pci[64];
	struct rig rig;

	RIG_UP(&rig, "LAB_NVME_MP", MEM_UDMABUF, SIZE, 0);
	ASSERT_TRUE(nvme_shared_pci(0, pci, sizeof(pci)));
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk));
	ASSERT_EQ(2, bufinfo_attachments(rig.mem.fd));
	ASSERT_EQ(0, reader_start(&reader, &rig));
	EXPECT_EQ(0, nvme_pci_write(pci, "driver/unbind", pci));
	lab_sleep_ms(300);
	reader_stop(&reader);
	EXPECT_SANE(&reader);
	EXPECT_EQ(0, reader.errors[EIO] + reader.errors[ENODEV] +
		     reader.errors[ENXIO]);
	EXPECT_TRUE(bufinfo_wait(rig.mem.fd, 1, 5000));
	ASSERT_EQ(0, rig_works(&rig, rig.disk, 0));
	ASSERT_EQ(0, file_write("/sys/bus/pci/drivers/nvme/bind", pci));
	ASSERT_TRUE(nvme_wait_paths(2));
	ASSERT_EQ(0, rig_works(&rig, rig.disk, 0));
	rig_down(&rig);
}

static void *register_at_the_disk(void *arg)
{
	struct rig *rig = arg;

	return (void *)(long)reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk);
}

static void *unbind(void *pci)
{
	return (void *)(long)nvme_unbind(pci);
}

/* References to a dma-buf: the list of attachments would wait for other dma-bufs */
static int references(int fd)
{
	char path[64], buf[1024], *count;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	if (file_read(path, buf, sizeof(buf)))
		return -1;
	count = strstr(buf, "count:");
	return count ? atoi(count + strlen("count:")) : -1;
}

/* The end of the drive waits for one exporter: nobody else's memory does */
TEST(unbind_while_another_exporter_is_slow)
{
	char *pci = (char *)NEED_ENV("LAB_PCI_MAIN");
	pthread_t thread;
	struct mem other;
	struct rig rig;
	pid_t holder;
	double end;
	int without;
	void *ret;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_BAR, SIZE, 0);
	ASSERT_EQ(0, mem_create(&other, MEM_UDMABUF, SIZE));
	/* the latest one is the first that the end of the drive comes to */
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, other.fd, rig.disk));
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 1, rig.mem.fd, rig.disk));
	holder = bar_hold(&rig.mem);
	ASSERT_GT(holder, 0);
	ASSERT_EQ(0, pthread_create(&thread, NULL, unbind, pci));
	lab_sleep_ms(lab_scale(1000, 3000));
	/* the buffer and the attachment have one each */
	without = references(other.fd) - 2;
	ASSERT_GE(without, 0);
	EXPECT_EQ(0, reg_clear(&rig.ring, 0));
	end = lab_now() + lab_scale(1, 3);
	while (references(other.fd) != without && lab_now() < end)
		lab_sleep_ms(10);
	EXPECT_EQ(without, references(other.fd));
	EXPECT_EQ(0, bar_let_go(holder));	/* it was slow all the time */
	ASSERT_EQ(0, pthread_join(thread, &ret));
	EXPECT_EQ(0, (long)ret);
	EXPECT_EQ(0, bufinfo_attachments(rig.mem.fd));
	/* nobody has the old one: it comes back by its name */
	close(rig.disk);
	ASSERT_EQ(0, nvme_bind(pci));
	rig.disk = nvme_wait_disk(pci);
	ASSERT_GE(rig.disk, 0);
	mem_destroy(&other);
	rig_down(&rig);
}

/* Somebody waits for a slow exporter: the end of the drive does not wait with him */
TEST(unbind_while_a_registration_waits)
{
	const char *pci = NEED_ENV("LAB_PCI_MAIN");
	double start, alone;
	pthread_t thread;
	struct rig rig;
	void *ret;

	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_BAR, SIZE, 0);
	start = lab_now();
	ASSERT_EQ(0, nvme_unbind(pci));
	alone = lab_now() - start;	/* what it takes when nobody waits */
	ASSERT_EQ(0, nvme_bind(pci));
	close(rig.disk);
	rig.disk = nvme_wait_disk(pci);
	ASSERT_GE(rig.disk, 0);

	ASSERT_EQ(0, bar_fence(&rig.mem, 1));
	ASSERT_EQ(0, pthread_create(&thread, NULL, register_at_the_disk, &rig));
	lab_sleep_ms(300);
	start = lab_now();
	ASSERT_EQ(0, nvme_unbind(pci));
	EXPECT_LE(lab_now() - start, alone + lab_scale(1, 3));
	ASSERT_EQ(0, bar_fence(&rig.mem, 0));	/* it was pending all the time */
	pthread_join(thread, &ret);
	EXPECT_EQ(-ENODEV, (long)ret);
	EXPECT_TRUE(bufinfo_wait(rig.mem.fd, 0, 5000));
	ASSERT_EQ(0, nvme_bind(pci));
	close(rig.disk);
	rig.disk = nvme_wait_disk(pci);
	ASSERT_GE(rig.disk, 0);
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk));
	ASSERT_EQ(0, rig_works(&rig, rig.disk, 0));
	rig_down(&rig);
}

TEST_HARNESS_MAIN
