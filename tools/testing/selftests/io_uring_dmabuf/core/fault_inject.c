// SPDX-License-Identifier: GPL-2.0
/*
 * Allocations fail one by one, during registration and during I/O: ENOMEM,
 * the old content of the slot stays, nothing is left behind.
 */
#include <linux/dma-buf-bar.h>

#include "common.h"

#define SIZE		(256 * KiB)
#define FAIL_NTH	"/proc/thread-self/fail-nth"
#define MAX_NTH		400

/* The @nth allocation of this thread from now on fails */
static int fail_nth(unsigned int nth)
{
	char value[16];

	snprintf(value, sizeof(value), "%u", nth);
	return file_write(FAIL_NTH, value);
}

/* Switches it off; true when it had not come to that allocation */
static bool fail_nth_unused(void)
{
	long long left = 0;

	file_read_num(FAIL_NTH, &left);
	fail_nth(0);
	return left > 0;
}

static int inject_where(void)
{
	static const struct {
		const char *path, *value;
	} knobs[] = {
		{ "/sys/kernel/debug/failslab/ignore-gfp-wait", "N" },
		{ "/sys/kernel/debug/failslab/verbose", "0" },
		{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N" },
		{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N" },
		{ "/sys/kernel/debug/fail_page_alloc/min-order", "0" },
		{ "/sys/kernel/debug/fail_page_alloc/verbose", "0" },
	};
	int ret = 0;

	for (unsigned int i = 0; !ret && i < ARRAY_SIZE(knobs); i++)
		ret = file_write(knobs[i].path, knobs[i].value);
	return ret;
}

FIXTURE(fault) {
	struct rig rig;
};

FIXTURE_VARIANT(fault) {
	enum mem_kind kind;
};

FIXTURE_VARIANT_ADD(fault, udmabuf) { .kind = MEM_UDMABUF };
FIXTURE_VARIANT_ADD(fault, udmabuf_4k) { .kind = MEM_UDMABUF_4K };
FIXTURE_VARIANT_ADD(fault, bar) { .kind = MEM_BAR_4K };

FIXTURE_SETUP(fault)
{
	if (fail_nth(0) || inject_where())
		SKIP(return, "no failslab, fail_page_alloc or fail-nth in this kernel");
	RIG_UP(&self->rig, "LAB_NVME_MAIN", variant->kind, SIZE, 0);
}

FIXTURE_TEARDOWN(fault)
{
	fail_nth(0);
	rig_down(&self->rig);
}

/* Nobody is told to change the device or the buffer for it */
static bool says_memory(const struct io_uring_regbuf_reason *why)
{
	switch (why->stage) {
	case IO_REGBUF_STAGE_ATTACH:
	case IO_REGBUF_STAGE_PIN:
	case IO_REGBUF_STAGE_MAP:
		return why->exporter_errno == -ENOMEM;
	case IO_REGBUF_STAGE_TABLE:
		return strstr(why->text, "no memory for the mapping table");
	default:
		return !strcmp(why->text, "There is no memory.");
	}
}

#define REGISTRATION_PASSES	40

/* Each allocation of a registration fails once: how many there are, or 0 */
static unsigned int fail_each(struct __test_metadata *_metadata, struct rig *rig,
			      unsigned int *failed, unsigned int *stages)
{
	const struct io_uring_regbuf_desc desc = desc_dmabuf(rig->mem.fd, rig->disk);
	unsigned int nth;

	for (nth = 1; nth < MAX_NTH; nth++) {
		struct io_uring_regbuf_reason why;
		bool unused;
		int ret;

		ASSERT_EQ(0, fail_nth(nth));
		ret = reg_why(&rig->ring, 0, &desc, &why);
		unused = fail_nth_unused();
		if (ret) {
			ASSERT_EQ(-ENOMEM, ret);
			/* it may have been the memory for the reason */
			if (!reason_untouched(&why)) {
				EXPECT_TRUE(says_memory(&why)) {
					TH_LOG("stage %u: %s", why.stage, why.text);
				}
				*stages |= 1 << why.stage;
			}
			ASSERT_EQ(-EFAULT, uring_read(&rig->ring, rig->disk, 0, 0,
						      4096, 0));
			ASSERT_TRUE(bufinfo_wait(rig->mem.fd, 0, 5000));
			(*failed)++;
			continue;
		}
		ASSERT_EQ(0, rig_read(rig, rig->disk, 0, 0, 0, 4096));
		ASSERT_EQ(0, reg_clear(&rig->ring, 0));
		ASSERT_TRUE(bufinfo_wait(rig->mem.fd, 0, 5000));
		if (unused)
			return nth - 1;
	}
	return 0;
}

/*
 * What checks the kernel allocates, too, and not in each registration as often: the one
 * allocation of a stage may be the fourth now and the third in the next attempt, and be
 * missed. Not in many passes.
 */
TEST_F(fault, registration)
{
	const unsigned int want = 1 << IO_REGBUF_STAGE_ATTACH | 1 << IO_REGBUF_STAGE_TABLE;
	unsigned int pass = 0, nr, failed = 0, stages = 0;

	do {
		nr = fail_each(_metadata, &self->rig, &failed, &stages);
		ASSERT_NE(0, nr);
	} while (++pass < REGISTRATION_PASSES && (stages & want) != want);
	ksft_print_msg("%u allocations, %u fatal in %u passes, at stages 0x%x\n", nr, failed, pass,
		       stages);
	EXPECT_GT(failed, 2 * pass);
	EXPECT_EQ(want, stages & want);
}

/* The slot is in use: it must survive */
TEST_F(fault, replacement)
{
	struct rig *rig = &self->rig;
	bool unused = false;

	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	for (unsigned int nth = 1; !unused && nth < MAX_NTH; nth++) {
		int ret;

		ASSERT_EQ(0, fail_nth(nth));
		ret = reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk);
		unused = fail_nth_unused();
		ASSERT_TRUE(ret == 0 || ret == -ENOMEM);
		ASSERT_EQ(0, rig_read(rig, rig->disk, 0, 0, 0, 4096));
	}
	EXPECT_TRUE(unused);
}

TEST_F(fault, add_targets)
{
	struct rig *rig = &self->rig;
	struct io_uring_regbuf_desc add;
	int p3 = NEED_PART(3);
	bool unused = false;

	add = desc_add(p3);
	for (unsigned int nth = 1; !unused && nth < MAX_NTH; nth++) {
		int ret;

		ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
		ASSERT_EQ(0, fail_nth(nth));
		ret = reg_one(&rig->ring, 0, &add);
		unused = fail_nth_unused();
		ASSERT_TRUE(ret == 0 || ret == -ENOMEM);
		ASSERT_EQ(0, rig_read(rig, rig->disk, 0, 0, 0, 4096));
		ASSERT_EQ(ret ? -EBADF : 4096,
			  uring_read(&rig->ring, p3, 0, 0, 4096, 0));
	}
	EXPECT_TRUE(unused);
}

TEST_F(fault, requests)
{
	struct rig *rig = &self->rig;
	bool unused = false;

	ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
	ASSERT_EQ(0, disk_fill(rig->disk, 0, 64 * KiB, 81));
	for (unsigned int nth = 1; !unused && nth < MAX_NTH; nth++) {
		int ret;

		ASSERT_EQ(0, mem_poison(&rig->mem, 0, SIZE, POISON));
		ASSERT_EQ(0, fail_nth(nth));
		ret = uring_read(&rig->ring, rig->disk, 0, 0, 64 * KiB, 0);
		unused = fail_nth_unused();
		if (ret == 64 * KiB) {
			ASSERT_EQ(NO_MISMATCH, mem_check_only(&rig->mem, 0, 0,
							      64 * KiB, 81));
		} else {
			ASSERT_TRUE(ret == -ENOMEM || ret == -EIO);
		}
	}
	EXPECT_TRUE(unused);
}

/* Mapping again after a move, with allocations failing on the way */
TEST(mapping_again)
{
	struct rig rig;
	bool unused = false;

	if (fail_nth(0) || inject_where())
		SKIP(return, "no failslab, fail_page_alloc or fail-nth in this kernel");
	RIG_UP(&rig, "LAB_NVME_MAIN", MEM_BAR_4K, SIZE, 0);
	ASSERT_EQ(0, reg_dmabuf(&rig.ring, 0, rig.mem.fd, rig.disk));
	for (unsigned int nth = 1; !unused && nth < 100; nth++) {
		int ret;

		ASSERT_EQ(0, bar_move(&rig.mem, DMA_BUF_BAR_PLACE_A));
		ASSERT_EQ(0, fail_nth(nth));
		ret = uring_read(&rig.ring, rig.disk, 0, 0, 4096, 0);
		unused = fail_nth_unused();
		ASSERT_TRUE(ret == 4096 || ret == -ENOMEM || ret == -EIO);
		ASSERT_EQ(0, rig_read(&rig, rig.disk, 0, 0, 0, 4096));
	}
	EXPECT_TRUE(unused);
	rig_down(&rig);
}

TEST_HARNESS_MAIN
