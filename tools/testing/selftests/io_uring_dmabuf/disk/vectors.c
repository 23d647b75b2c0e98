// SPDX-License-Identifier: GPL-2.0
/*
 * Random vectors against a model of what has to come out: reads and writes of a
 * block device and of files, and passthrough commands. The model knows which
 * passthrough commands do not fit into one command; everything else arrives.
 *
 * SEED=n goes through the vectors of that seed again, SOAK=1 through many more.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/nvme_ioctl.h>

#include "cdev.h"
#include "common.h"

#define MAX_PIECES	64
#define MAX_SGL		256	/* entries that the driver has room for */
#define MEM_SIZE	(16 * MiB)
#define MAX_WINDOW	(12 * MiB)
#define AREA		(16 * MiB)	/* of disk or file */
#define GUARD		4096
#define PAGE		4096ULL

enum target { BDEV, EXT4, XFS, PASSTHROUGH };

struct vec {
	struct iovec iov[MAX_PIECES];
	unsigned int nr;
	__u64 window;		/* everything lies below */
	__u64 off;		/* of the data on the disk */
	__u64 total;
	bool write;
};

FIXTURE(vectors) {
	struct rig rig;
	struct cdev dev;
	int fd;			/* what is read and written; a witness, too */
	__u64 granule;
	__u64 max_command;	/* bytes */
	long long max_segments;	/* of a request that is described piece by piece */
	char path[96];
	char *mem, *got, *disk;	/* of the model, and to compare with it */
};

FIXTURE_VARIANT(vectors) {
	enum target target;
	enum mem_kind kind;
};

FIXTURE_VARIANT_ADD(vectors, bdev_scattered) { BDEV, MEM_UDMABUF_4K };
FIXTURE_VARIANT_ADD(vectors, bdev_bar) { BDEV, MEM_BAR };
FIXTURE_VARIANT_ADD(vectors, bdev_bar_4k) { BDEV, MEM_BAR_4K };
FIXTURE_VARIANT_ADD(vectors, ext4) { EXT4, MEM_UDMABUF_4K };
FIXTURE_VARIANT_ADD(vectors, xfs) { XFS, MEM_BAR_4K };
FIXTURE_VARIANT_ADD(vectors, passthrough_scattered) {
	PASSTHROUGH, MEM_UDMABUF_4K,
};

FIXTURE_VARIANT_ADD(vectors, passthrough_bar) { PASSTHROUGH, MEM_BAR };
FIXTURE_VARIANT_ADD(vectors, passthrough_bar_64k) { PASSTHROUGH, MEM_BAR_64K };

/* MDTS of the controller, which the driver cuts at 8 MiB: bytes, or -errno */
static long long max_command(int fd)
{
	unsigned char id[4096] __attribute__((aligned(4096)));
	struct nvme_admin_cmd cmd = {
		.opcode = 6,
		.addr = (uintptr_t)id,
		.data_len = sizeof(id),
		.cdw10 = 1,
	};
	long long max = 8 * MiB;

	if (ioctl(fd, NVME_IOCTL_ADMIN_CMD, &cmd))
		return -errno;
	if (id[77] && PAGE << id[77] < 8 * MiB)
		max = PAGE << id[77];
	return max;
}

FIXTURE_SETUP(vectors)
{
	bool file = variant->target == EXT4 || variant->target == XFS;
	struct io_uring_query_regbuf_map q;
	char segments[96];

	self->dev.fd = -1;
	RIG_UP(&self->rig, file ? "LAB_NVME_FS" : "LAB_NVME_MAIN", variant->kind,
	       MEM_SIZE, CDEV_RING);
	self->fd = self->rig.disk;
	if (file) {
		snprintf(self->path, sizeof(self->path), "%s/vectors",
			 NEED_ENV(variant->target == EXT4 ? "LAB_EXT4" :
				  "LAB_XFS"));
		self->fd = open(self->path, O_RDWR | O_CREAT | O_DIRECT, 0600);
		ASSERT_GE(self->fd, 0);
	}
	if (variant->target == BDEV)
		ASSERT_EQ(0, lab_small_commands("LAB_NVME_MAIN", true));
	ASSERT_EQ(0, cdev_open(&self->dev, NEED_ENV("LAB_NG_MAIN"),
			       self->rig.disk));
	snprintf(segments, sizeof(segments), "/sys/block/%s/queue/max_segments",
		 strrchr(lab_env("LAB_NVME_MAIN"), '/') + 1);
	ASSERT_EQ(0, file_read_num(segments, &self->max_segments));
	self->max_command = max_command(self->dev.fd);
	ASSERT_GT(self->max_command, 0);
	ASSERT_EQ(0, reg_dmabuf(&self->rig.ring, 0, self->rig.mem.fd, self->fd));
	ASSERT_EQ(0, query_map(&self->rig.ring, 0, 0, &q));
	self->granule = q.granule;
	ASSERT_EQ(0, disk_fill(self->fd, 0, AREA + GUARD, 81));
	ASSERT_EQ(0, posix_memalign((void **)&self->disk, PAGE,
				    MEM_SIZE + 2 * GUARD));
	self->mem = malloc(MEM_SIZE);
	self->got = malloc(MEM_SIZE);
	ASSERT_NE(NULL, self->mem);
	ASSERT_NE(NULL, self->got);
}

FIXTURE_TEARDOWN(vectors)
{
	if (variant->target == BDEV)
		EXPECT_EQ(0, lab_small_commands("LAB_NVME_MAIN", false));
	if (self->fd != self->rig.disk) {
		close(self->fd);
		unlink(self->path);
	}
	if (self->dev.fd >= 0)
		close(self->dev.fd);
	free(self->disk);
	free(self->mem);
	free(self->got);
	rig_down(&self->rig);
}

/* Small, of sectors, of pages, or large; never more than @room */
static __u64 piece_len(__u64 *rng, __u64 room)
{
	__u64 len;

	switch (rnd(rng) % 8) {
	case 0:
	case 1:
		len = 4 + rnd_aligned(rng, 2 * PAGE, 4);
		break;
	case 2:
	case 3:
		len = 512 + rnd_aligned(rng, 16 * KiB, 512);
		break;
	case 4:
		len = PAGE + rnd_aligned(rng, MiB, PAGE);
		break;
	case 5:
		len = PAGE + rnd_aligned(rng, 8 * MiB - PAGE, PAGE);
		break;
	case 6:
		len = 4 + rnd_aligned(rng, 8 * MiB - 4, 4);
		break;
	default:
		len = PAGE << rnd(rng) % 12;
	}
	return len < room ? len : room;
}

/* What lies between two pieces */
static __u64 piece_gap(__u64 *rng)
{
	switch (rnd(rng) % 5) {
	case 0:
		return 0;
	case 1:
		return rnd_aligned(rng, PAGE, 4);
	case 2:
		return rnd_aligned(rng, 64 * KiB, 512);
	default:
		return rnd_aligned(rng, 64 * KiB, PAGE);
	}
}

/* Pieces that do not overlap, in any order, of whole blocks together */
static void make_vec(struct vec *v, __u64 *rng)
{
	unsigned int nr = 1 + rnd(rng) % (rnd(rng) % 4 ? 6 : MAX_PIECES);
	__u64 at = rnd(rng) % 2 ? rnd_aligned(rng, PAGE, 4) : 0;
	unsigned int size = rnd(rng) % 16;

	v->window = size < 7 ? 64 * KiB : size < 11 ? MiB : MAX_WINDOW;
	v->write = rnd(rng) % 2;
	v->nr = 0;
	v->total = 0;
	while (v->nr < nr && at + PAGE <= v->window) {
		struct iovec *iov = &v->iov[v->nr++];

		iov->iov_base = (void *)(uintptr_t)at;
		iov->iov_len = piece_len(rng, v->window - at);
		v->total += iov->iov_len;
		at += iov->iov_len + piece_gap(rng);
	}
	/* the last one makes it whole, or what is too much is taken off */
	while (v->total % 512) {
		struct iovec *iov = &v->iov[v->nr - 1];
		__u64 more = v->total % 512;

		if (iov->iov_len > more) {
			iov->iov_len -= more;
			v->total -= more;
		} else if (v->nr > 1) {
			v->total -= iov->iov_len;
			v->nr--;
		} else {
			iov->iov_len = 512;
			v->total = 512;
		}
	}
	for (unsigned int i = v->nr - 1; i && rnd(rng) % 8; i--) {
		unsigned int j = rnd(rng) % (i + 1);
		struct iovec tmp = v->iov[i];

		v->iov[i] = v->iov[j];
		v->iov[j] = tmp;
	}
	v->off = rnd_aligned(rng, AREA - v->total - GUARD, 512);
	if (v->off < GUARD)
		v->off = GUARD;
}

/* Pieces of @unit bytes, aligned to that, that the vector touches */
static __u64 touched(const struct vec *v, __u64 unit)
{
	__u64 sum = 0;

	for (unsigned int i = 0; i < v->nr; i++) {
		__u64 at = (uintptr_t)v->iov[i].iov_base;

		sum += (at + v->iov[i].iov_len - 1) / unit - at / unit + 1;
	}
	return sum;
}

/* Two pieces that meet within a page */
static bool has_gap(const struct vec *v)
{
	for (unsigned int i = 1; i < v->nr; i++) {
		__u64 end = (uintptr_t)v->iov[i - 1].iov_base +
			    v->iov[i - 1].iov_len;

		if ((end | (uintptr_t)v->iov[i].iov_base) % PAGE)
			return true;
	}
	return false;
}

/* What the completion has to say */
static int expected(const struct _test_data_vectors *self, enum target target,
		    const struct vec *v)
{
	if (target != PASSTHROUGH)
		return v->total;
	if (v->total > self->max_command || v->nr > self->max_segments ||
	    (has_gap(v) && touched(v, PAGE) > self->max_segments))
		return -EINVAL;
	return 0;
}

static int submit(struct _test_data_vectors *self, enum target target,
		  const struct vec *v)
{
	struct uring *r = &self->rig.ring;

	if (target == PASSTHROUGH)
		return cdev_command(r, &self->dev, v->write ? NVME_WRITE : NVME_READ,
				    NVME_URING_CMD_IO_VEC, v->off, v->total,
				    (uintptr_t)v->iov, v->nr);
	return uring_rw(r, v->write ? IORING_OP_WRITEV_FIXED :
			IORING_OP_READV_FIXED, self->fd, v->off,
			(uintptr_t)v->iov, v->nr, 0);
}

/* Gathers the vector from the memory of the model, or scatters into it */
static void model(char *mem, char *disk, const struct vec *v)
{
	for (unsigned int i = 0; i < v->nr; i++) {
		char *piece = mem + (uintptr_t)v->iov[i].iov_base;
		size_t len = v->iov[i].iov_len;

		if (v->write)
			memcpy(disk, piece, len);
		else
			memcpy(piece, disk, len);
		disk += len;
	}
}

static int disk_get(struct _test_data_vectors *self, const struct vec *v)
{
	size_t len = v->total + 2 * GUARD;

	return pread(self->fd, self->disk, len, v->off - GUARD) == (ssize_t)len ?
	       0 : -EIO;
}

/* 0, or what was wrong */
static const char *one(struct _test_data_vectors *self, enum target target,
		       const struct vec *v, __u64 seed, int *res)
{
	int want = expected(self, target, v);
	char *want_disk = self->got;

	if (disk_get(self, v))
		return "witness read";
	if (v->write)
		pattern_fill(self->mem, 0, v->window, seed);
	else
		memset(self->mem, POISON, v->window);
	if (mem_put(&self->rig.mem, 0, self->mem, v->window))
		return "memory cannot be set up";

	*res = submit(self, target, v);
	if (*res != want)
		return "result";

	if (!v->write) {
		if (want >= 0)
			model(self->mem, self->disk + GUARD, v);
	} else {
		/* the guards are what they were */
		memcpy(want_disk, self->disk, v->total + 2 * GUARD);
		if (want >= 0)
			model(self->mem, want_disk + GUARD, v);
		if (disk_get(self, v))
			return "witness read afterwards";
		if (memcmp(want_disk, self->disk, v->total + 2 * GUARD))
			return "data on the disk";
	}
	if (mem_get(&self->rig.mem, 0, self->got, v->window) ||
	    memcmp(self->got, self->mem, v->window))
		return "data in memory";
	return NULL;
}

static void print_vec(const struct vec *v)
{
	fprintf(stderr, "# %s of %llu bytes at %llu:", v->write ? "write" : "read",
		v->total, v->off);
	for (unsigned int i = 0; i < v->nr; i++)
		fprintf(stderr, " {%llu, %zu}",
			(__u64)(uintptr_t)v->iov[i].iov_base, v->iov[i].iov_len);
	fprintf(stderr, "\n");
}

/*
 * Whether a passthrough command without gaps has too many SGL entries depends on
 * which pages happen to be neighbours: leave those out that may have. And one
 * with more pieces than QEMU takes is not for an emulated drive.
 */
static bool nobody_knows(const struct _test_data_vectors *self,
			 enum target target, const struct vec *v)
{
	if (target != PASSTHROUGH)
		return false;
	return touched(v, PAGE) > 1000 ||
	       (touched(v, self->granule) > MAX_SGL &&
		expected(self, target, v) == 0);
}

/* Whole pages, more of them than SGL entries, and then a gap */
TEST_F(vectors, gap_after_many_pages)
{
	static const __u64 first[] = {
		512 * KiB, 1000 * KiB, MiB - PAGE, MiB, MiB + PAGE, 1536 * KiB,
		2 * MiB, 3 * MiB, 8 * MiB,
	};
	struct vec v = { .nr = 2, .window = MAX_WINDOW, .off = MiB };
	unsigned int fits = 0;

	for (unsigned int i = 0; i < 4 * ARRAY_SIZE(first); i++) {
		const char *why;
		int res = 0;

		v.write = i & 1;
		v.iov[0].iov_base = NULL;
		v.iov[0].iov_len = first[i / 4];
		v.iov[1].iov_base = (void *)(uintptr_t)
			(10 * MiB + (i & 2 ? 512 : 0));
		v.iov[1].iov_len = PAGE;
		v.total = first[i / 4] + PAGE;
		if (nobody_knows(self, variant->target, &v))
			continue;
		why = one(self, variant->target, &v, 90 + i, &res);
		if (why)
			print_vec(&v);
		EXPECT_EQ(NULL, why) {
			TH_LOG("%s: %d", why, res);
		}
		fits += res >= 0;
	}
	EXPECT_GT(fits, 0);
}

TEST_F_TIMEOUT(vectors, random, SOAK_TIMEOUT)
{
	unsigned int count = lab_soak(lab_scale(250, 30), 6250);
	unsigned int i, refused = 0, gaps = 0;
	/* no two variants have the same vectors */
	__u64 seed = lab_seed() * 256 + variant->target * 16 + variant->kind;
	__u64 rng = seed * 2654435761ULL + 1;
	const char *why = NULL;

	for (i = 0; i < count && !why; i++) {
		struct vec v;
		int res = 0;

		do
			make_vec(&v, &rng);
		while (nobody_knows(self, variant->target, &v));
		why = one(self, variant->target, &v, seed + i, &res);
		refused += res < 0;
		gaps += has_gap(&v);
		if (why) {
			print_vec(&v);
			fprintf(stderr, "# vector %u: %s: %d, not %d\n", i, why,
				res, expected(self, variant->target, &v));
		}
	}
	TH_LOG("SEED=%llu: %u vectors, %u with gaps, %u do not fit", lab_seed(),
	       i, gaps, refused);
	EXPECT_EQ(NULL, why);
	EXPECT_GT(gaps, 0);
}

TEST_HARNESS_MAIN
