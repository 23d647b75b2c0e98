// SPDX-License-Identifier: GPL-2.0
/*
 * RLIMIT_MEMLOCK: what an area costs beside its slot, to the page. A user who may set
 * up queues (CAP_NET_ADMIN), but not lock as much as he likes.
 */
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <linux/capability.h>
#include <linux/dma-buf-bar.h>

#include "acct.h"
#include "common.h"
#include "relay.h"

#define SIZE	ACCT_SIZE
#define PAGE	4096ULL
#define REFILL	(PAGE + ZCRX_ENTRIES * sizeof(struct io_uring_zcrx_rqe))	/* its ring */

FIXTURE(area_charges) {
	struct relay relay;
	struct acct acct;
};

FIXTURE_VARIANT(area_charges) {
	enum mem_kind kind;
};

FIXTURE_VARIANT_ADD(area_charges, udmabuf) { .kind = MEM_UDMABUF };
/* memory of a device is no RAM */
FIXTURE_VARIANT_ADD(area_charges, bar) { .kind = MEM_BAR };

/* for children, which have no other argument */
static struct relay *relay;

FIXTURE_SETUP(area_charges)
{
	struct relay *r = &self->relay;

	self->acct.mem.fd = -1;
	self->acct.tiny.fd = -1;
	RELAY_UP(r, MEM_UDMABUF, PAGE, ZCRX_RING, MTU_PAGE_TCP4);
	ASSERT_EQ(0, acct_up(&self->acct, variant->kind, r->disk));
	ASSERT_EQ(0, prctl(PR_SET_KEEPCAPS, 1));
	relay = r;
}

FIXTURE_TEARDOWN(area_charges)
{
	acct_down(&self->acct);
	relay_down(&self->relay);
}

static int only_net_admin(void)
{
	struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {
		{ .effective = 1U << CAP_NET_ADMIN, .permitted = 1U << CAP_NET_ADMIN },
	};

	return syscall(__NR_capset, &hdr, data) ? -errno : 0;
}

/* The user's ring, its slot, and what is locked then */
static int prepare(struct acct *a, struct uring *ring, __u32 flags, __u64 *base)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(a->mem.fd, a->target);

	d.flags = flags;
	CHECK(!only_net_admin());
	CHECK(!uring_init(ring, 64, ZCRX_RING));
	CHECK(!reg_sparse(ring, 2));
	CHECK(!reg_one(ring, 0, &d));
	lab_sleep_ms(100);
	*base = acct_locked(a);
	CHECK(*base != -1ULL);
	return 0;
}

/* Without a device if @ifindex is 0 */
static int open_area(struct uring *ring, struct zcrx *z, unsigned int ifindex)
{
	struct io_uring_zcrx_area_reg area = area_slot(0, 0, SIZE);

	return zcrx_open(z, ring, ifindex, &area);
}

/* @memory: bytes of it that are charged for the area, and were not for the slot */
static int costs(struct acct *a, __u32 flags, __u64 memory)
{
	struct io_uring_zcrx_area_reg more = area_slot(0, SIZE / 2, SIZE / 2);
	struct uring ring;
	struct zcrx z;
	__u64 nothing = acct_locked(a), base, price;
	int attached;

	CHECK(!prepare(a, &ring, flags, &base));
	attached = bufinfo_attachments(a->mem.fd);
	/* the mapping's table, and the refill ring */
	price = memory + a->table + REFILL;
	CHECK(!acct_limit(base + price - PAGE));
	CHECK(open_area(&ring, &z, relay_ifindex(relay)) == -ENOMEM);
	CHECK(acct_locked_becomes(a, base));
	CHECK(bufinfo_wait(a->mem.fd, attached, net_patience()));
	CHECK(!acct_limit(base + price));
	CHECK(!open_area(&ring, &z, relay_ifindex(relay)));
	CHECK(acct_locked_becomes(a, base + price));
	/* one more of the same memory */
	CHECK(!zcrx_add_area(&z, &more));
	CHECK(acct_locked_becomes(a, base + price));
	/* the slot ends, the area does not */
	CHECK(!reg_clear(&ring, 0));
	lab_sleep_ms(100);
	CHECK(acct_locked(a) >= nothing + memory);
	uring_exit(&ring);
	zcrx_forget(&z);
	CHECK(acct_locked_becomes(a, nothing));
	return 0;
}

static int of_a_device(const struct acct *a)
{
	return mem_is_bar(&a->mem);
}

static int slot_child(struct acct *a)
{
	return costs(a, 0, of_a_device(a) ? 0 : SIZE);
}

/* The drive's slot has paid for the memory */
static int pinned_child(struct acct *a)
{
	return costs(a, IO_REGBUF_DMABUF_PIN, 0);
}

TEST_F(area_charges, of_a_slot)
{
	EXPECT_EQ(0, acct_run(slot_child, &self->acct));
}

TEST_F(area_charges, of_a_pinned_slot)
{
	EXPECT_EQ(0, acct_run(pinned_child, &self->acct));
}

/* The slot has paid for the CPU's mapping, too; the area has the slot's charges */
static int copied_child(struct acct *a)
{
	struct uring ring;
	struct zcrx z;
	__u64 nothing = acct_locked(a), base;

	CHECK(!prepare(a, &ring, IO_REGBUF_DMABUF_COPY_OK, &base));
	CHECK(base >= nothing + SIZE);
	CHECK(!acct_limit(base + REFILL - PAGE));
	CHECK(open_area(&ring, &z, 0) == -ENOMEM);
	CHECK(acct_locked_becomes(a, base));
	CHECK(!acct_limit(base + REFILL));
	CHECK(!open_area(&ring, &z, 0));
	CHECK(acct_locked_becomes(a, base + REFILL));
	CHECK(!reg_clear(&ring, 0));
	lab_sleep_ms(100);
	CHECK(acct_locked(a) == base + REFILL);
	uring_exit(&ring);
	zcrx_forget(&z);
	CHECK(acct_locked_becomes(a, nothing));
	return 0;
}

TEST_F(area_charges, of_an_area_that_is_copied_to)
{
	if (mem_is_bar(&self->acct.mem)) {
		mem_destroy(&self->acct.mem);
		ASSERT_EQ(0, mem_create_bar(&self->acct.mem, SIZE, DMA_BUF_BAR_VMAP, 0));
	}
	EXPECT_EQ(0, acct_run(copied_child, &self->acct));
}

TEST_HARNESS_MAIN
