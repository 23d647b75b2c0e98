// SPDX-License-Identifier: GPL-2.0
/*
 * What the steady state costs: counted by trace events, for a dma-buf and for
 * an ordinary registered buffer, which proves that the counters can count.
 */
#include <sys/mman.h>

#include "common.h"

#define SIZE	(8 * MiB)

struct meters {
	struct counter maps;	/* DMA API maps and unmaps, IOMMU page tables */
	struct counter flush;	/* IOTLB invalidations */
	struct counter cmds;	/* NVMe commands to the disk */
};

struct reading {
	long long maps, flush, cmds;
};

static int count_maps(struct counter *c, const char *pci)
{
	static const char *const events[] = {
		"dma/dma_map_phys", "dma/dma_unmap_phys",
		"dma/dma_map_sg", "dma/dma_unmap_sg",
	};
	char filter[64];
	int ret;

	snprintf(filter, sizeof(filter), "device == \"%s\"", pci);
	ret = counter_open(c, "maps");
	for (int i = 0; !ret && i < 4; i++)
		ret = counter_add(c, events[i], filter);
	if (!ret)
		ret = counter_add(c, "iommu/map", NULL);
	return ret ?: counter_add(c, "iommu/unmap", NULL);
}

/* Bit 1 of the first word: IOTLB and device TLB, not wait or interrupts */
static int count_flushes(struct counter *c)
{
	int ret = counter_open(c, "flush");

	return ret ?: counter_add(c, "intel_iommu/qi_submit", "qw0 & 2");
}

static int count_commands(struct counter *c, const char *disk)
{
	char filter[64];
	int ret = counter_open(c, "cmds");

	snprintf(filter, sizeof(filter), "disk == \"%s\"", strrchr(disk, '/') + 1);
	return ret ?: counter_add(c, "nvme/nvme_setup_cmd", filter);
}

static void meters_close(struct meters *m)
{
	counter_close(&m->maps);
	counter_close(&m->flush);
	counter_close(&m->cmds);
}

static int meters_open(struct meters *m)
{
	int ret;

	memset(m, 0, sizeof(*m));
	ret = count_maps(&m->maps, lab_env("LAB_PCI_MAIN"));
	if (!ret && !lab_is("LAB_IOMMU", "off"))
		ret = count_flushes(&m->flush);
	if (!ret)
		ret = count_commands(&m->cmds, lab_env("LAB_NVME_MAIN"));
	if (ret)
		meters_close(m);
	return ret;
}

static void meters_read(struct meters *m, struct reading *r)
{
	r->maps = counter_read(&m->maps);
	r->flush = m->flush.dir[0] ? counter_read(&m->flush) : 0;
	r->cmds = counter_read(&m->cmds);
}

FIXTURE(count) {
	struct rig rig;
	struct meters meters;
	char *plain;
};

FIXTURE_VARIANT(count) {
	__u32 len;
	unsigned int nr;
};

FIXTURE_VARIANT_ADD(count, k4) { .len = 4 * KiB, .nr = 64 };
FIXTURE_VARIANT_ADD(count, k128) { .len = 128 * KiB, .nr = 32 };
FIXTURE_VARIANT_ADD(count, m8) { .len = 8 * MiB, .nr = 4 };

FIXTURE_SETUP(count)
{
	struct rig *rig = &self->rig;
	struct iovec iov = { .iov_len = SIZE };

	NEED_ENV("LAB_PCI_MAIN");
	/*
	 * The heap hands out memory in large pieces. QEMU aborts on a command
	 * of more than 1024 pieces, and pages of a memfd may be as many.
	 */
	RIG_UP(rig, "LAB_NVME_MAIN", variant->len == SIZE ? MEM_HEAP : MEM_UDMABUF,
	       SIZE, 0);
	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	self->plain = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->plain);
	iov.iov_base = self->plain;
	ASSERT_EQ(1, reg_plain(&rig->ring, 1, &iov, NULL, 1));
	ASSERT_EQ(0, meters_open(&self->meters));
	/* steady state: the first requests are over */
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0));
}

FIXTURE_TEARDOWN(count)
{
	meters_close(&self->meters);
	rig_down(&self->rig);
}

/* @nr reads or writes, one after the other; the events they made */
static int measure(struct _test_data_count *self, __u8 op, __u64 base,
		   __u16 slot, __u32 len, unsigned int nr, struct reading *r)
{
	struct rig *rig = &self->rig;
	struct reading before;

	meters_read(&self->meters, &before);
	for (unsigned int i = 0; i < nr; i++) {
		__u64 at = (__u64)i * len % SIZE;
		int ret = uring_rw(&rig->ring, op, rig->disk, at, base + at, len,
				   slot);

		if (ret != (int)len)
			return ret;
	}
	meters_read(&self->meters, r);
	r->maps -= before.maps;
	r->flush -= before.flush;
	r->cmds -= before.cmds;
	return 0;
}

/* One command, or as many of the drive's largest as @len needs */
static unsigned int commands(const struct rig *rig, __u32 len)
{
	int largest = lab_max_command(rig->disk);

	return largest > 0 ? (len + largest - 1) / largest : 0;
}

static void say(const char *what, __u32 len, unsigned int nr,
		const struct reading *r)
{
	ksft_print_msg("%s, %u x %u KiB: %lld maps+unmaps, %lld IOTLB flushes, %lld commands\n",
		       what, nr, len / 1024, r->maps, r->flush, r->cmds);
}

TEST_F(count, dmabuf_read)
{
	struct reading r;

	ASSERT_EQ(0, measure(self, IORING_OP_READ_FIXED, 0, 0, variant->len,
			     variant->nr, &r));
	say("dma-buf read", variant->len, variant->nr, &r);
	EXPECT_EQ(0, r.maps);
	/* in lazy mode what others unmapped earlier is flushed at any time */
	if (!lab_is("LAB_IOMMU", "lazy"))
		EXPECT_EQ(0, r.flush);
	EXPECT_EQ(variant->nr * commands(&self->rig, variant->len), r.cmds);
}

TEST_F(count, dmabuf_write)
{
	struct reading r;

	ASSERT_EQ(0, measure(self, IORING_OP_WRITE_FIXED, 0, 0, variant->len,
			     variant->nr, &r));
	say("dma-buf write", variant->len, variant->nr, &r);
	EXPECT_EQ(0, r.maps);
	/* in lazy mode what others unmapped earlier is flushed at any time */
	if (!lab_is("LAB_IOMMU", "lazy"))
		EXPECT_EQ(0, r.flush);
	EXPECT_EQ(variant->nr * commands(&self->rig, variant->len), r.cmds);
}

TEST_F(count, plain_read)
{
	bool strict = lab_is("LAB_IOMMU", "strict");
	struct reading r;

	ASSERT_EQ(0, measure(self, IORING_OP_READ_FIXED, (uintptr_t)self->plain,
			     1, variant->len, variant->nr, &r));
	say("plain read", variant->len, variant->nr, &r);
	EXPECT_GE(r.maps, 2 * variant->nr);
	if (strict) {
		EXPECT_GE(r.flush, variant->nr);
	}
	if (!lab_is("LAB_IOMMU", "off") && variant->len == 8 * MiB) {
		EXPECT_GE(r.cmds, 64 * variant->nr);
	}
}

/* The registration itself is where the mapping is made */
TEST(registration_maps)
{
	struct meters meters;
	struct reading before, after;
	struct rig rig;

	NEED_ENV("LAB_PCI_MAIN");
	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_UDMABUF, SIZE, 0);
	ASSERT_EQ(0, meters_open(&meters));
	meters_read(&meters, &before);
	EXPECT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk));
	meters_read(&meters, &after);
	EXPECT_GE(after.maps - before.maps, 1);
	EXPECT_EQ(0, after.cmds - before.cmds);
	meters_close(&meters);
	rig_down(&rig);
}

/* BAR memory takes the same path */
TEST(bar_costs_nothing_either)
{
	struct _test_data_count self = { };
	struct reading r;

	NEED_ENV("LAB_PCI_MAIN");
	RIG_UP(&self.rig, "LAB_NVME_MAIN", MEM_BAR, SIZE, 0);
	ASSERT_EQ(0, reg_dmabuf(&self.rig.ring, 0, self.rig.mem.fd, self.rig.disk));
	ASSERT_EQ(0, meters_open(&self.meters));
	ASSERT_EQ(0, rig_works(&self.rig, self.rig.disk, 0));
	EXPECT_EQ(0, measure(&self, IORING_OP_READ_FIXED, 0, 0, 8 * MiB, 4, &r));
	say("BAR read", 8 * MiB, 4, &r);
	EXPECT_EQ(0, r.maps);
	/* in lazy mode what others unmapped earlier is flushed at any time */
	if (!lab_is("LAB_IOMMU", "lazy"))
		EXPECT_EQ(0, r.flush);
	EXPECT_EQ(4 * commands(&self.rig, 8 * MiB), r.cmds);
	meters_close(&self.meters);
	rig_down(&self.rig);
}

TEST_HARNESS_MAIN
