// SPDX-License-Identifier: GPL-2.0
/*
 * The device goes away or is reset while requests run: every request ends, in
 * success or in an errno, no mapping is left, later requests get ENODEV, and
 * a new registration works once the device is back.
 *
 * Wants a machine of its own: it takes the disks away from under everybody.
 */
#include <dirent.h>
#include <pthread.h>

#include "common.h"

#define SIZE	(1 * MiB)
#define DEPTH	16
#define WINDOW	(SIZE / DEPTH)
#define BACK_MS	20000		/* a controller needs this long at most */

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

/* First entry of @dir that looks like an NVMe controller or a namespace */
static bool find_nvme(const char *dir, bool namespace, char *name, size_t len)
{
	struct dirent *de;
	unsigned int a, b;
	bool found = false;
	char end;
	DIR *d = opendir(dir);

	while (d && !found && (de = readdir(d))) {
		int n = sscanf(de->d_name, "nvme%un%u%c", &a, &b, &end);

		found = n == (namespace ? 2 : 1);
		if (found)
			snprintf(name, len, "%.32s", de->d_name);
	}
	if (d)
		closedir(d);
	return found;
}

/* The controller at @pci, or false */
static bool controller_of(const char *pci, char *path, size_t len)
{
	char dir[128], name[40];

	snprintf(dir, sizeof(dir), "/sys/bus/pci/devices/%s/nvme", pci);
	if (!find_nvme(dir, false, name, sizeof(name)))
		return false;
	snprintf(path, len, "%s/%s", dir, name);
	return true;
}

/* Its block device: the number need not be the controller's */
static bool disk_of(const char *pci, char *path, size_t len)
{
	char dir[200], name[40];

	if (!controller_of(pci, dir, sizeof(dir)) ||
	    !find_nvme(dir, true, name, sizeof(name)))
		return false;
	snprintf(path, len, "/dev/%s", name);
	return true;
}

/* Waits until the disk at @pci can be opened: its fd or -errno */
static int wait_for_disk(const char *pci)
{
	double end = lab_now() + BACK_MS / 1000.0;
	char path[80];
	int fd;

	for (;;) {
		fd = -ENOENT;
		if (disk_of(pci, path, sizeof(path)))
			fd = lab_open(path);
		if (fd >= 0 || lab_now() > end)
			return fd;
		lab_sleep_ms(50);
	}
}

static int pci_write(const char *pci, const char *file, const char *value)
{
	char path[160];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", pci, file);
	return file_write(path, value);
}

static int nvme_reset(const char *pci)
{
	char ctrl[200], path[240];

	if (!controller_of(pci, ctrl, sizeof(ctrl)))
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
	rig->disk = wait_for_disk(self->pci);
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
	int fd = wait_for_disk(pci);

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
	EXPECT_EQ(0, pci_write(self->pci, "driver/unbind", self->pci));
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
	EXPECT_EQ(0, pci_write(self->pci, "remove", "1"));
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
	ASSERT_EQ(0, pci_write(self->pci, "driver/unbind", self->pci));
	check_gone(_metadata, rig);
	ASSERT_EQ(0, file_write("/sys/bus/pci/drivers/nvme/bind", self->pci));
	check_back(_metadata, rig, self->pci);
}

/* The slot is cleared, the ring closed, only after the device has gone */
TEST_F(gone, late_unregister)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, pci_write(self->pci, "driver/unbind", self->pci));
	ASSERT_EQ(0, reg_clear(&rig->ring, 0));
	uring_exit(&rig->ring);
	EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 0, 5000));
	ASSERT_EQ(0, file_write("/sys/bus/pci/drivers/nvme/bind", self->pci));
	close(rig->disk);
	rig->disk = wait_for_disk(self->pci);
	ASSERT_GE(rig->disk, 0);
}

/* The PCI address of controller @skip+1 with serial "mp" */
static bool mp_controller(unsigned int skip, char *pci, size_t len)
{
	char path[160], serial[64];
	struct dirent *de;
	bool found = false;
	DIR *d = opendir("/sys/class/nvme");

	while (d && !found && (de = readdir(d))) {
		snprintf(path, sizeof(path), "/sys/class/nvme/%.32s/serial",
			 de->d_name);
		if (file_read(path, serial, sizeof(serial)) ||
		    strncmp(serial, "mp", 2) || skip--)
			continue;
		snprintf(path, sizeof(path), "/sys/class/nvme/%.32s/address",
			 de->d_name);
		found = !file_read(path, pci, len);
		pci[strcspn(pci, "\n ")] = '\0';
	}
	if (d)
		closedir(d);
	return found;
}

/* One path of two goes: requests carry on over the other, without an error */
TEST(path_of_a_multipath_head)
{
	struct reader reader;
	char pci[64];
	struct rig rig;

	RIG_UP(&rig, "LAB_NVME_MP", MEM_UDMABUF, SIZE, 0);
	ASSERT_TRUE(mp_controller(0, pci, sizeof(pci)));
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk));
	ASSERT_EQ(2, bufinfo_attachments(rig.mem.fd));
	ASSERT_EQ(0, reader_start(&reader, &rig));
	EXPECT_EQ(0, pci_write(pci, "driver/unbind", pci));
	lab_sleep_ms(300);
	reader_stop(&reader);
	EXPECT_SANE(&reader);
	EXPECT_EQ(0, reader.errors[EIO] + reader.errors[ENODEV] +
		     reader.errors[ENXIO]);
	EXPECT_TRUE(bufinfo_wait(rig.mem.fd, 1, 5000));
	ASSERT_EQ(0, rig_works(&rig, rig.disk, 0));
	ASSERT_EQ(0, file_write("/sys/bus/pci/drivers/nvme/bind", pci));
	lab_sleep_ms(1000);
	ASSERT_EQ(0, rig_works(&rig, rig.disk, 0));
	/* the path that came back can be added */
	rig_down(&rig);
}

TEST_HARNESS_MAIN
