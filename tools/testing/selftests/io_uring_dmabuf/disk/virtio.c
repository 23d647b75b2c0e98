// SPDX-License-Identifier: GPL-2.0
/*
 * virtio drives, whose requests have an entry of the ring for each piece of the
 * memory: split and packed rings. One that does not use the DMA API is refused.
 *
 * Takes them away and resets them, and nobody else's drives.
 */
#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <linux/dma-buf-bar.h>

#include "common.h"
#include "mix.h"
#include "mover.h"

#define SIZE	(8 * MiB)
#define PAGE	4096
#define ALIGN	512		/* of memory: what the driver says */

FIXTURE(virtio) {
	struct rig rig;
	const char *pci;
};

FIXTURE_VARIANT(virtio) {
	const char *disk, *pci;
	enum mem_kind kind;
};

FIXTURE_VARIANT_ADD(virtio, split_udmabuf) {
	"LAB_VIRTIO_SPLIT", "LAB_PCI_SPLIT", MEM_UDMABUF_4K
};

FIXTURE_VARIANT_ADD(virtio, split_bar) {
	"LAB_VIRTIO_SPLIT", "LAB_PCI_SPLIT", MEM_BAR_4K
};

FIXTURE_VARIANT_ADD(virtio, packed_udmabuf) {
	"LAB_VIRTIO_PACKED", "LAB_PCI_PACKED", MEM_UDMABUF_4K
};

FIXTURE_VARIANT_ADD(virtio, packed_bar) {
	"LAB_VIRTIO_PACKED", "LAB_PCI_PACKED", MEM_BAR_4K
};

FIXTURE_SETUP(virtio)
{
	struct rig *rig = &self->rig;

	self->pci = NEED_ENV(variant->pci);
	RIG_UP(rig, variant->disk, variant->kind, SIZE, 0);
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
}

FIXTURE_TEARDOWN(virtio)
{
	rig_down(&self->rig);
}

static const __u32 sizes[] = {
	512, 1 * KiB, 4 * KiB, 4 * KiB + 512, 8 * KiB, 12 * KiB, 64 * KiB,
	128 * KiB - 512, 128 * KiB, 256 * KiB, 512 * KiB, 1 * MiB, 2 * MiB + 512,
	SIZE,
};

TEST_F(virtio, read_sizes)
{
	struct rig *rig = &self->rig;

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		ASSERT_EQ(0, rig_read(rig, rig->disk, 0, 4096, 0, sizes[i]));
	}
}

TEST_F(virtio, write_sizes)
{
	struct rig *rig = &self->rig;

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		ASSERT_EQ(0, rig_write(rig, rig->disk, 0, 8192, 0, sizes[i]));
	}
}

/*
 * Bytes of the largest request: it takes an entry for each page, and one more if
 * it does not begin with one. -errno
 */
static long long largest(const char *disk)
{
	long long segments;
	char path[96];
	int ret;

	snprintf(path, sizeof(path), "/sys/block/%.32s/queue/max_segments",
		 strrchr(disk, '/') + 1);
	ret = file_read_num(path, &segments);
	return ret ?: (segments - 1) * PAGE;
}

/* As many pieces as a request has entries, and more */
TEST_F(virtio, every_entry)
{
	static const __u32 addrs[] = { 0, ALIGN, PAGE - ALIGN };
	long long most = largest(NEED_ENV(variant->disk));
	struct rig *rig = &self->rig;

	ASSERT_LE(64 * KiB, most);
	ASSERT_GE(SIZE / 2, most);
	for (unsigned int i = 0; i < ARRAY_SIZE(addrs); i++) {
		for (int more = -512; more <= 512; more += 512) {
			__u32 len = most + more;

			ASSERT_EQ(0, rig_read(rig, rig->disk, 0, 0, addrs[i], len));
			ASSERT_EQ(0, rig_write(rig, rig->disk, 0, 4096, addrs[i],
					       len));
		}
	}
}

/* What lies between pieces stays as it is; with gaps a request has fewer of them */
TEST_F(virtio, scattered_sectors)
{
	struct rig *rig = &self->rig;
	struct iovec iov[300];
	__u64 rng = 5;

	ASSERT_EQ(0, disk_fill(rig->disk, 0, 300 * 512, 3));
	ASSERT_EQ(0, disk_poison(rig->disk, MiB, 300 * 512, POISON));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
	for (int i = 0; i < 300; i++) {
		/* one sector somewhere in each 8 KiB, from the back */
		iov[i].iov_base = (void *)((299 - i) * 8 * KiB +
					   rnd_aligned(&rng, 4096, ALIGN));
		iov[i].iov_len = 512;
	}
	ASSERT_EQ(300 * 512, uring_rw(&rig->ring, IORING_OP_READV_FIXED,
				      rig->disk, 0, (uintptr_t)iov, 300, 0));
	ASSERT_EQ(300 * 512, uring_rw(&rig->ring, IORING_OP_WRITEV_FIXED,
				      rig->disk, MiB, (uintptr_t)iov, 300, 0));
	EXPECT_EQ(NO_MISMATCH, disk_check(rig->disk, MiB, 0, 300 * 512, 3));
	for (int i = 0; i < 300; i++) {
		__u64 at = (uintptr_t)iov[i].iov_base, start = at / 8192 * 8192;

		ASSERT_EQ(NO_MISMATCH,
			  mem_check(&rig->mem, at, i * 512, 512, 3));
		ASSERT_EQ(NO_MISMATCH, mem_check_poison(&rig->mem, start,
							at - start, POISON));
		ASSERT_EQ(NO_MISMATCH, mem_check_poison(&rig->mem, at + 512,
							start + 8192 - at - 512,
							POISON));
	}
}

static int mixed_rounds(struct rig *rig, int fd, __u64 size,
			unsigned int rounds)
{
	struct mix mix;
	int ret = mix_init(&mix, rig, fd, 0, size);

	mix.align = ALIGN;
	while (!ret && rounds--) {
		ret = mix_round(&mix, MIX_MAX_DEPTH);
		if (!ret)
			ret = mix_verify(&mix);
	}
	if (!ret && mix.nr_eagain)
		ret = -EAGAIN;
	mix_free(&mix);
	return ret;
}

TEST_F(virtio, deep)
{
	ASSERT_EQ(0, mixed_rounds(&self->rig, self->rig.disk, MiB,
				  lab_scale(8, 3)));
}

struct meters {
	struct counter maps;	/* DMA API maps for the drive */
	struct counter requests;
};

static int meters_open(struct meters *m, const char *pci, int disk)
{
	char filter[64];
	struct stat st;
	int ret;

	memset(m, 0, sizeof(*m));
	if (fstat(disk, &st))
		return -errno;
	ret = counter_open(&m->maps, "maps");
	snprintf(filter, sizeof(filter), "device == \"%s\"", pci);
	if (!ret)
		ret = counter_add(&m->maps, "dma/dma_map_phys", filter);
	if (!ret)
		ret = counter_open(&m->requests, "requests");
	snprintf(filter, sizeof(filter), "dev == %u",
		 major(st.st_rdev) << 20 | minor(st.st_rdev));
	return ret ?: counter_add(&m->requests, "block/block_rq_issue", filter);
}

static void meters_close(struct meters *m)
{
	counter_close(&m->maps);
	counter_close(&m->requests);
}

/*
 * Header, status and the table of entries are the driver's and are mapped for each
 * request; the data is not, however large and scattered it is.
 */
TEST_F(virtio, maps)
{
	static const __u32 lens[] = { 512, 4 * KiB, 128 * KiB, SIZE };
	long long most = largest(NEED_ENV(variant->disk));
	struct rig *rig = &self->rig;
	struct meters m;

	ASSERT_LT(0, most);
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	ASSERT_EQ(0, meters_open(&m, self->pci, rig->disk));
	for (unsigned int i = 0; i < 2 * ARRAY_SIZE(lens); i++) {
		long long maps = counter_read(&m.maps);
		long long requests = counter_read(&m.requests);
		__u32 len = lens[i / 2];

		ASSERT_EQ(len, uring_rw(&rig->ring, i & 1 ? IORING_OP_WRITE_FIXED :
					IORING_OP_READ_FIXED, rig->disk, 0, 0, len,
					0));
		requests = counter_read(&m.requests) - requests;
		EXPECT_EQ((len + most - 1) / most, requests);
		EXPECT_EQ(3 * requests, counter_read(&m.maps) - maps);
	}
	meters_close(&m);
}

/* Makes one on the drive, which nobody has open, and mounts it */
static int make_ext4(const char *disk, const char *dir)
{
	char command[160];
	int ret;

	snprintf(command, sizeof(command),
		 "mkfs.ext4 -q -F -b 4096 -O ^has_journal -E nodiscard %.32s >&2", disk);
	ret = system(command);
	if (!ret && mkdir(dir, 0700) && errno != EEXIST)
		ret = -errno;
	/* <sys/mount.h> and <linux/fs.h> do not go together */
	if (!ret && syscall(SYS_mount, disk, dir, "ext4", 0, NULL))
		ret = -errno;
	return ret;
}

TEST_F(virtio, ext4)
{
	static const char dir[] = "/mnt/virtio", path[] = "/mnt/virtio/file";
	const char *disk = NEED_ENV(variant->disk);
	struct rig *rig = &self->rig;
	int fd;

	close(rig->disk);
	rig->disk = -1;
	ASSERT_EQ(0, make_ext4(disk, dir));
	fd = open(path, O_RDWR | O_DIRECT | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	/* the slot is for the drive: a file on it needs no registration of its own */
	EXPECT_EQ(0, disk_fill(fd, 0, SIZE + 64 * KiB, 1));
	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		EXPECT_EQ(0, rig_read(rig, fd, 0, 4096, 0, sizes[i]));
		EXPECT_EQ(0, rig_write(rig, fd, 0, 8192, 0, sizes[i]));
	}
	EXPECT_EQ(0, mixed_rounds(rig, fd, MiB, 1));
	EXPECT_EQ(0, reg_dmabuf(&rig->ring, 1, rig->mem.fd, fd));
	EXPECT_EQ(0, rig_works(rig, fd, 1));
	close(fd);
	/* slots hold no file, and no mount */
	EXPECT_EQ(0, syscall(SYS_umount2, dir, 0));
	rig->disk = lab_open(disk);
	ASSERT_LE(0, rig->disk);
	EXPECT_EQ(0, rig_works(rig, rig->disk, 0));
}

/* ---- memory that moves, drives that are reset and that go ---- */

#define MOVED	(256 * KiB)

FIXTURE(drive) {
	struct rig rig;
	const char *pci;
};

FIXTURE_VARIANT(drive) {
	const char *disk, *pci;
};

FIXTURE_VARIANT_ADD(drive, split) { "LAB_VIRTIO_SPLIT", "LAB_PCI_SPLIT" };
FIXTURE_VARIANT_ADD(drive, packed) { "LAB_VIRTIO_PACKED", "LAB_PCI_PACKED" };

FIXTURE_SETUP(drive)
{
	struct rig *rig = &self->rig;

	self->pci = NEED_ENV(variant->pci);
	RIG_UP(rig, variant->disk, MEM_BAR_4K, MOVED, 0);
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
}

FIXTURE_TEARDOWN(drive)
{
	rig_down(&self->rig);
}

/* The driver says 512 bytes: less is refused, and nothing is touched */
TEST_F(drive, alignment)
{
	struct rig *rig = &self->rig;
	struct uring *r = &rig->ring;

	ASSERT_EQ(0, disk_fill(rig->disk, 0, 2 * PAGE, 4));
	ASSERT_EQ(0, mem_poison(&rig->mem, 0, MOVED, POISON));
	EXPECT_EQ(-EINVAL, uring_read(r, rig->disk, 0, 4, PAGE, 0));
	EXPECT_EQ(-EINVAL, uring_read(r, rig->disk, 0, 508, 512, 0));
	EXPECT_EQ(-EINVAL, uring_read(r, rig->disk, 0, 0, 511, 0));
	EXPECT_EQ(-EINVAL, uring_write(r, rig->disk, 0, 256, PAGE, 0));
	EXPECT_EQ(-EINVAL, uring_write(r, rig->disk, 4, 0, PAGE, 0));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&rig->mem, 0, MOVED, POISON));
	EXPECT_EQ(NO_MISMATCH, disk_check(rig->disk, 0, 0, 2 * PAGE, 4));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
}

/* An exporter waits for the device, and for nothing else */
TEST_F(drive, moves)
{
	struct rig *rig = &self->rig;
	struct mover mover = {
		.mem = &rig->mem,
		.count = lab_scale(100, 20),
		.nr_places = 3,
	};
	struct dma_buf_bar_info info;
	struct mix mix;
	int ret = 0;

	ASSERT_EQ(0, mix_init(&mix, rig, rig->disk, 0, MOVED));
	mix.align = ALIGN;
	ASSERT_EQ(0, mover_start(&mover));
	while (!ret && !mover_done(&mover)) {
		ret = mix_round(&mix, 16);
		if (!ret)
			ret = mix_verify(&mix);
	}
	mover_stop(&mover);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, mover.error);
	EXPECT_EQ(0, mix.nr_eagain);
	mix_free(&mix);
	/* one more, so that the last old place is looked at */
	ASSERT_EQ(0, bar_move(&rig->mem, DMA_BUF_BAR_PLACE_A));
	ASSERT_EQ(0, bar_info(&rig->mem, &info));
	EXPECT_EQ(mover.count + 1, info.moves);
	EXPECT_EQ(0, info.stray);
	EXPECT_EQ(0, info.late);
}

#define HELD	32

/* HELD reads, of a page each, are submitted: how many of them, or -errno */
static int reads_begin(struct rig *rig, int seed)
{
	int ret = disk_fill(rig->disk, 0, HELD * PAGE, seed) ?:
		  mem_poison(&rig->mem, 0, MOVED, POISON);

	if (ret)
		return ret;
	for (unsigned int i = 0; i < HELD; i++)
		uring_prep_rw(&rig->ring, IORING_OP_READ_FIXED, rig->disk,
			      i * PAGE, i * PAGE, PAGE, 0);
	return uring_submit(&rig->ring, 0);
}

/* Completions that nobody looks at */
TEST_F(drive, nobody_reaps)
{
	struct rig *rig = &self->rig;
	struct uring_res res;
	double start;

	ASSERT_EQ(HELD, reads_begin(rig, 6));
	start = lab_now();
	ASSERT_EQ(0, bar_move(&rig->mem, DMA_BUF_BAR_PLACE_B));
	EXPECT_GT(lab_scale(2, 6), lab_now() - start);
	for (unsigned int i = 0; i < HELD; i++) {
		ASSERT_EQ(0, uring_wait(&rig->ring, &res, 20000));
		EXPECT_EQ(PAGE, res.res);
	}
	EXPECT_EQ(NO_MISMATCH, mem_check_only(&rig->mem, 0, 0, HELD * PAGE, 6));
}

static int pci_write(const char *pci, const char *file)
{
	char path[120];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", pci, file);
	return file_write(path, "1");
}

struct resetter {
	const char *pci;
	int ret;
	bool done;
};

static void *reset_it(void *arg)
{
	struct resetter *r = arg;

	for (unsigned int i = 0; !r->ret && i < 4; i++) {
		lab_sleep_ms(50);
		r->ret = pci_write(r->pci, "reset");
	}
	__atomic_store_n(&r->done, true, __ATOMIC_RELEASE);
	return NULL;
}

/* Requests wait until it is over; the attachment outlasts it */
TEST_F(drive, reset)
{
	struct resetter resetter = { .pci = self->pci };
	struct rig *rig = &self->rig;
	pthread_t thread;
	int ret = 0;

	ASSERT_EQ(0, pthread_create(&thread, NULL, reset_it, &resetter));
	while (!ret && !__atomic_load_n(&resetter.done, __ATOMIC_ACQUIRE))
		ret = mixed_rounds(rig, rig->disk, MOVED, 2);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, resetter.ret);
	EXPECT_EQ(1, bufinfo_attachments(rig->mem.fd));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
}

/* The disk at @pci, when it is there; its fd, with its path in @path, or -errno */
static int wait_disk(const char *pci, char *path, size_t len)
{
	double end = lab_now() + 20;
	char pattern[96];
	int fd = -ENOENT;

	snprintf(pattern, sizeof(pattern),
		 "/sys/bus/pci/devices/%s/virtio*/block/vd*", pci);
	while (fd < 0 && lab_now() < end) {
		glob_t found;

		if (!glob(pattern, 0, NULL, &found)) {
			snprintf(path, len, "/dev/%.32s",
				 strrchr(found.gl_pathv[0], '/') + 1);
			globfree(&found);
			fd = lab_open(path);
		}
		if (fd < 0)
			lab_sleep_ms(50);
	}
	return fd;
}

/*
 * The disk that was taken away comes back, as @disk: others know it by that name, which is
 * free when the last request that had the old one open has let go of it.
 */
static int bring_back(const char *pci, const char *disk)
{
	char path[64];
	int ret, fd;

	for (unsigned int i = 0; i < 20; i++) {
		ret = file_write("/sys/bus/pci/rescan", "1");
		if (ret)
			return ret;
		fd = wait_disk(pci, path, sizeof(path));
		if (fd < 0 || !strcmp(path, disk))
			return fd;
		close(fd);
		lab_sleep_ms(100);
		ret = pci_write(pci, "remove");
		if (ret)
			return ret;
	}
	return -EEXIST;
}

/* Requests end, nothing is left; what comes back is another device */
TEST_F(drive, taken_away)
{
	struct rig *rig = &self->rig;
	struct io_uring_query_regbuf_map q;
	struct uring_res res;

	ASSERT_EQ(HELD, reads_begin(rig, 7));
	ASSERT_EQ(0, pci_write(self->pci, "remove"));
	/* which waits for what the drive has */
	for (unsigned int i = 0; i < HELD; i++) {
		ASSERT_EQ(0, uring_wait(&rig->ring, &res, 20000));
		EXPECT_EQ(PAGE, res.res);
	}
	EXPECT_EQ(NO_MISMATCH, mem_check_only(&rig->mem, 0, 0, HELD * PAGE, 7));
	EXPECT_TRUE(bufinfo_wait(rig->mem.fd, 0, 5000));
	EXPECT_EQ(-ENODEV, uring_read(&rig->ring, rig->disk, 0, 0, PAGE, 0));
	EXPECT_EQ(-ENODEV, uring_write(&rig->ring, rig->disk, 0, 0, PAGE, 0));
	ASSERT_EQ(0, query_map(&rig->ring, 0, 0, &q));
	EXPECT_EQ(IO_REGBUF_MAP_DEAD, q.state);
	EXPECT_EQ(-ENODEV, reg_dmabuf(&rig->ring, 1, rig->mem.fd, rig->disk));

	close(rig->disk);
	rig->disk = bring_back(self->pci, NEED_ENV(variant->disk));
	ASSERT_LE(0, rig->disk);
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
}

TEST_F(drive, on_demand)
{
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, reg_clear(&rig->ring, 0));
	ASSERT_TRUE(bufinfo_wait(rig->mem.fd, 0, 5000));
	ASSERT_EQ(0, reg_flags(&rig->ring, 0, rig->mem.fd, -1,
			       IO_REGBUF_DMABUF_ON_DEMAND));
	EXPECT_EQ(0, bufinfo_attachments(rig->mem.fd));
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
	EXPECT_EQ(1, bufinfo_attachments(rig->mem.fd));
}

/* Both drives at the same time, and what is read from one is written to the other */
TEST(copy_between_rings)
{
	struct io_uring_regbuf_desc d;
	struct rig rig;
	int packed;

	RIG_UP(&rig, "LAB_VIRTIO_SPLIT", MEM_UDMABUF_4K, MiB, IORING_SETUP_IOPOLL);
	packed = NEED_DISK("LAB_VIRTIO_PACKED");
	d = desc_dmabuf(rig.mem.fd, rig.disk);
	d.targets = (uintptr_t)&packed;
	d.nr_targets = 1;
	ASSERT_EQ(0, reg_one(&rig.ring, 0, &d));
	EXPECT_EQ(2, bufinfo_attachments(rig.mem.fd));
	ASSERT_EQ(0, disk_fill(rig.disk, 0, MiB, 8));
	ASSERT_EQ(0, disk_poison(packed, 4 * MiB, MiB, POISON));
	ASSERT_EQ(0, mem_poison(&rig.mem, 0, MiB, POISON));
	ASSERT_EQ(MiB, uring_read(&rig.ring, rig.disk, 0, 0, MiB, 0));
	ASSERT_EQ(MiB, uring_write(&rig.ring, packed, 4 * MiB, 0, MiB, 0));
	EXPECT_EQ(NO_MISMATCH, disk_check(packed, 4 * MiB, 0, MiB, 8));
	close(packed);
	rig_down(&rig);
}

/*
 * A request has no more pieces than fit the empty ring, with header and status: there
 * may be no memory for a table of them just now.
 */
TEST(small_ring)
{
	enum { RING = 32, LEN = MiB };
	const __u32 most = (RING - 3) * PAGE;
	long long segments, requests;
	struct meters m;
	struct rig rig;
	char path[96];

	RIG_UP(&rig, "LAB_VIRTIO_SMALL", MEM_UDMABUF_4K, LEN, 0);
	snprintf(path, sizeof(path), "/sys/block/%.32s/queue/max_segments",
		 strrchr(NEED_ENV("LAB_VIRTIO_SMALL"), '/') + 1);
	ASSERT_EQ(0, file_read_num(path, &segments));
	ASSERT_LT(RING, segments);
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk));
	ASSERT_EQ(0, rig_read(&rig, rig.disk, 0, 0, 0, LEN));
	ASSERT_EQ(0, rig_write(&rig, rig.disk, 0, 4096, 512, LEN - 512));
	ASSERT_EQ(0, meters_open(&m, NEED_ENV("LAB_PCI_SMALL"), rig.disk));
	requests = counter_read(&m.requests);
	ASSERT_EQ(LEN, uring_read(&rig.ring, rig.disk, 0, 0, LEN, 0));
	EXPECT_EQ((LEN + most - 1) / most, counter_read(&m.requests) - requests);
	meters_close(&m);
	rig_down(&rig);
}

/* Guest physical addresses are not those of the DMA API */
TEST(no_dma_api)
{
	struct io_uring_regbuf_reason why;
	struct io_uring_regbuf_desc d;
	struct rig rig;
	int physical;

	RIG_UP(&rig, "LAB_VIRTIO_SPLIT", MEM_UDMABUF_4K, MiB, 0);
	physical = NEED_DISK("LAB_VIRTIO_PHYSICAL");
	ASSERT_EQ(0, disk_fill(physical, 0, MiB, 9));
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk));
	d = desc_dmabuf(rig.mem.fd, physical);
	EXPECT_EQ(-EOPNOTSUPP, reg_why(&rig.ring, 0, &d, &why));
	EXPECT_EQ(IO_REGBUF_STAGE_TARGET, why.stage);
	EXPECT_EQ(0, why.target);
	d = desc_add(physical);
	EXPECT_EQ(-EOPNOTSUPP, reg_one(&rig.ring, 0, &d));
	EXPECT_EQ(1, bufinfo_attachments(rig.mem.fd));

	/* the slot is what it was, and no use for that drive */
	ASSERT_EQ(0, mem_poison(&rig.mem, 0, MiB, POISON));
	EXPECT_EQ(-EBADF, uring_read(&rig.ring, physical, 0, 0, PAGE, 0));
	EXPECT_EQ(-EBADF, uring_write(&rig.ring, physical, 0, 0, PAGE, 0));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&rig.mem, 0, MiB, POISON));
	EXPECT_EQ(NO_MISMATCH, disk_check(physical, 0, 0, MiB, 9));
	ASSERT_EQ(0, rig_works(&rig, rig.disk, 0));
	close(physical);
	rig_down(&rig);
}

TEST_HARNESS_MAIN
