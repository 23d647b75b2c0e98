// SPDX-License-Identifier: GPL-2.0
/*
 * Areas that cannot be: the errno of each, at registration and when one is added, and
 * nothing that is left of it.
 */
#include <sys/mman.h>
#include <linux/dma-buf-bar.h>
#include <linux/ethtool.h>

#include "common.h"
#include "flavour.h"
#include "relay.h"

#define SEED	NET_SEED
#define SIZE	(4 * MiB)

FIXTURE(area_errors) {
	struct relay relay;
};

FIXTURE_VARIANT(area_errors) {
	bool add;
};

/* One area, which is to be the first of an instance */
FIXTURE_VARIANT_ADD(area_errors, registered) { .add = false };
/* One more area of an instance */
FIXTURE_VARIANT_ADD(area_errors, added) { .add = true };

FIXTURE_SETUP(area_errors)
{
	struct relay *r = &self->relay;

	RELAY_UP(r, MEM_UDMABUF_4K, SIZE, ZCRX_RING, MTU_PAGE_TCP4);
	if (variant->add)
		ASSERT_EQ(0, relay_open(r, 0, SIZE));
}

FIXTURE_TEARDOWN(area_errors)
{
	relay_down(&self->relay);
}

static int attempt(struct relay *r, bool add, struct io_uring_zcrx_area_reg area)
{
	struct zcrx z;
	int ret;

	if (add)
		return zcrx_add_area(&r->z, &area);
	ret = zcrx_open(&z, &r->ring, relay_ifindex(r), &area);
	zcrx_forget(&z);
	return ret;
}

#define ATTEMPT(area) attempt(&self->relay, variant->add, area)

/* And @m has the attachments that it had */
#define REFUSED(err, area, m) do {					\
	int had_ = bufinfo_attachments((m)->fd);			\
									\
	EXPECT_EQ(err, ATTEMPT(area));					\
	EXPECT_TRUE(bufinfo_wait((m)->fd, had_, net_patience()));	\
} while (0)

/* What there was works, and what was refused can be had if it is right */
static void check_works(struct __test_metadata *_metadata, struct relay *r, bool add)
{
	const struct piece p = { SEED, 0, 512 * KiB };
	struct relay_run run = { 0 };

	if (!add)
		ASSERT_EQ(0, relay_open(r, 0, SIZE));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_EQ(0, relay_run(r, &p, &run));
	ASSERT_EQ(0, relay_close(r));
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 0, net_patience()));
}

#define CHECK_WORKS() check_works(_metadata, &self->relay, variant->add)

TEST_F(area_errors, no_such_slot)
{
	struct mem *m = &self->relay.mem;

	REFUSED(-EFAULT, area_slot(1, 0, SIZE), m);
	REFUSED(-EFAULT, area_slot(RELAY_SLOTS, 0, SIZE), m);
	REFUSED(-EFAULT, area_slot(~0U, 0, SIZE), m);
	ASSERT_EQ(0, reg_dmabuf(&self->relay.ring, 1, m->fd, self->relay.disk));
	ASSERT_EQ(0, reg_clear(&self->relay.ring, 1));
	REFUSED(-EFAULT, area_slot(1, 0, SIZE), m);
	CHECK_WORKS();
}

TEST_F(area_errors, not_inside)
{
	struct mem *m = &self->relay.mem;
	struct io_uring_regbuf_desc d;

	REFUSED(-EFAULT, area_slot(0, 0, SIZE + 4096), m);
	REFUSED(-EFAULT, area_slot(0, 4096, SIZE), m);
	REFUSED(-EFAULT, area_slot(0, SIZE, 4096), m);
	REFUSED(-EFAULT, area_slot(0, -4096ULL, 4096), m);
	REFUSED(-EFAULT, area_slot(0, -4096ULL, 8192), m);
	REFUSED(-EFAULT, area_slot(0, 4096, -4096ULL), m);
	/* the slot counts, not the dma-buf */
	d = desc_dmabuf(m->fd, self->relay.disk);
	d.dmabuf_off = SIZE / 2;
	d.size = SIZE / 4;
	ASSERT_EQ(0, reg_one(&self->relay.ring, 1, &d));
	REFUSED(-EFAULT, area_slot(1, 0, SIZE / 4 + 4096), m);
	REFUSED(-EFAULT, area_slot(1, SIZE / 4, 4096), m);
	ASSERT_EQ(0, reg_clear(&self->relay.ring, 1));
	CHECK_WORKS();
}

TEST_F(area_errors, malformed)
{
	struct mem *m = &self->relay.mem;
	struct io_uring_zcrx_area_reg a = area_slot(0, 0, SIZE);

	REFUSED(-EINVAL, area_slot(0, 512, 4096), m);
	REFUSED(-EINVAL, area_slot(0, 0, 4096 + 512), m);
	REFUSED(-EFAULT, area_slot(0, 0, 0), m);
	a.flags |= IORING_ZCRX_AREA_DMABUF;
	REFUSED(-EINVAL, a, m);
	a.flags = IORING_ZCRX_AREA_REGBUF << 1;
	REFUSED(-EINVAL, a, m);
	a = area_slot(0, 0, SIZE);
	a.rq_area_token = 1;
	REFUSED(-EINVAL, a, m);
	a = area_slot(0, 0, SIZE);
	a.__resv2[1] = 1;
	REFUSED(-EINVAL, a, m);
	CHECK_WORKS();
}

TEST_F(area_errors, slot_of_user_memory)
{
	struct relay *r = &self->relay;
	void *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);
	struct io_uring_regbuf_desc d = desc_uaddr(p, SIZE);

	ASSERT_NE(MAP_FAILED, p);
	ASSERT_EQ(0, reg_one(&r->ring, 1, &d));
	REFUSED(-EINVAL, area_slot(1, 0, SIZE), &r->mem);
	ASSERT_EQ(0, reg_clear(&r->ring, 1));
	munmap(p, SIZE);
	CHECK_WORKS();
}

/* Of the slot, of the descriptor of the dma-buf */
TEST_F(area_errors, read_only)
{
	struct relay *r = &self->relay;
	struct io_uring_regbuf_desc d = desc_dmabuf(r->mem.fd, r->disk);
	struct mem m;

	d.flags = IO_REGBUF_DMABUF_RDONLY;
	ASSERT_EQ(0, reg_one(&r->ring, 1, &d));
	REFUSED(-EACCES, area_slot(1, 0, SIZE), &r->mem);
	ASSERT_EQ(0, mem_create_bar(&m, SIZE, DMA_BUF_BAR_RDONLY, 0));
	ASSERT_EQ(0, reg_dmabuf(&r->ring, 2, m.fd, r->disk));
	REFUSED(-EACCES, area_slot(2, 0, SIZE), &m);
	/* what only the drive writes to the card may write to, too */
	d.flags = IO_REGBUF_DMABUF_WRONLY;
	ASSERT_EQ(0, reg_one(&r->ring, 3, &d));
	EXPECT_EQ(0, ATTEMPT(area_slot(3, 0, SIZE)));
	mem_destroy(&m);
}

/* The card would not reach it peer-to-peer; no device is attached before */
TEST_F(area_errors, require_p2p)
{
	struct relay *r = &self->relay;
	struct io_uring_regbuf_desc d = desc_dmabuf(r->mem.fd, -1);

	d.flags = IO_REGBUF_DMABUF_ON_DEMAND | IO_REGBUF_DMABUF_REQUIRE_P2P;
	ASSERT_EQ(0, reg_one(&r->ring, 1, &d));
	REFUSED(-EREMOTEIO, area_slot(1, 0, SIZE), &r->mem);
	ASSERT_EQ(0, reg_clear(&r->ring, 1));
	CHECK_WORKS();
}

/* And where it would */
TEST_F(area_errors, require_p2p_of_a_bar)
{
	struct relay *r = &self->relay;
	struct io_uring_regbuf_desc d;
	struct mem m;

	ASSERT_EQ(0, mem_create(&m, MEM_BAR, SIZE));
	d = desc_dmabuf(m.fd, -1);
	d.flags = IO_REGBUF_DMABUF_ON_DEMAND | IO_REGBUF_DMABUF_REQUIRE_P2P;
	ASSERT_EQ(0, reg_one(&r->ring, 1, &d));
	EXPECT_EQ(0, ATTEMPT(area_slot(1, 0, SIZE)));
	mem_destroy(&m);
}

/* What a card that sends is told, one that receives is told as well */
TEST_F(area_errors, exporters)
{
	struct relay *r = &self->relay;

	for (unsigned int i = 0; i < nr_flavours; i++) {
		const struct flavour *f = &flavours[i];
		struct io_uring_regbuf_desc d;
		struct mem m;
		int ret;

		ASSERT_EQ(0, flavour_create(&m, f));
		d = desc_dmabuf(m.fd, -1);
		d.flags = IO_REGBUF_DMABUF_ON_DEMAND;
		ASSERT_EQ(0, reg_one(&r->ring, 1, &d));
		if (f->socket) {
			REFUSED(f->socket, area_slot(1, 0, FLAVOUR_SIZE), &m);
		} else if (variant->add) {
			ret = ATTEMPT(area_slot(1, 0, FLAVOUR_SIZE));
			EXPECT_EQ(0, ret) {
				TH_LOG("%s", f->name);
			}
		}
		ASSERT_EQ(0, reg_clear(&r->ring, 1));
		mem_destroy(&m);
	}
	CHECK_WORKS();
}

/* --- what is wrong with the queue, not with the area --- */

FIXTURE(queue_errors) {
	struct relay relay;
};

FIXTURE_SETUP(queue_errors)
{
	RELAY_UP(&self->relay, MEM_UDMABUF_4K, SIZE, ZCRX_RING, MTU_PAGE_TCP4);
}

FIXTURE_TEARDOWN(queue_errors)
{
	relay_down(&self->relay);
}

static int part_on_queue(struct relay *r, unsigned int ifindex, __u64 len,
			 __u32 rx_buf_len)
{
	struct io_uring_zcrx_area_reg area = area_slot(0, 0, len);
	struct zcrx z;
	int ret = zcrx_open_buf(&z, &r->ring, ifindex, &area, rx_buf_len);

	zcrx_forget(&z);
	return ret;
}

static int on_queue(struct relay *r, unsigned int ifindex, __u32 rx_buf_len)
{
	return part_on_queue(r, ifindex, SIZE, rx_buf_len);
}

TEST_F(queue_errors, all)
{
	struct relay *r = &self->relay;
	struct mem *m = &r->mem;

	/* what arrives would have to be copied to it, which it may not be */
	EXPECT_EQ(-EOPNOTSUPP, on_queue(r, 0, 0));
	EXPECT_TRUE(bufinfo_wait(m->fd, 1, net_patience()));
	EXPECT_EQ(-ENODEV, on_queue(r, 99999, 0));
	EXPECT_TRUE(bufinfo_wait(m->fd, 1, net_patience()));
	EXPECT_EQ(-EOPNOTSUPP, on_queue(r, relay_ifindex(r), 4096));
	EXPECT_TRUE(bufinfo_wait(m->fd, 1, net_patience()));
	/* scattered pages: where there is no IOMMU that makes one piece of them */
	EXPECT_EQ(lab_is("LAB_IOMMU", "off") ? -ERANGE : -EOPNOTSUPP,
		  on_queue(r, relay_ifindex(r), 8192));
	EXPECT_TRUE(bufinfo_wait(m->fd, 1, net_patience()));
	/* half a buffer, and a half that is left over */
	EXPECT_EQ(-ERANGE, part_on_queue(r, relay_ifindex(r), 4096, 8192));
	EXPECT_TRUE(bufinfo_wait(m->fd, 1, net_patience()));
	EXPECT_EQ(-ERANGE, part_on_queue(r, relay_ifindex(r), 3 * 4096, 8192));
	EXPECT_TRUE(bufinfo_wait(m->fd, 1, net_patience()));
	ASSERT_EQ(0, rings_split(&r->net, SPLIT_UNSET));
	EXPECT_EQ(-EINVAL, on_queue(r, relay_ifindex(r), 0));
	EXPECT_TRUE(bufinfo_wait(m->fd, 1, net_patience()));
	ASSERT_EQ(0, rings_split(&r->net, SPLIT_ON));
	ASSERT_EQ(0, relay_open(r, 0, SIZE));
	EXPECT_EQ(-EEXIST, on_queue(r, relay_ifindex(r), 0));
	EXPECT_TRUE(bufinfo_wait(m->fd, 2, net_patience()));
	check_works(_metadata, r, true);
}

/* Completions that have no room for where a piece is, or that others than the ring's task post */
TEST_F(queue_errors, rings)
{
	static const unsigned int flags[] = {
		0, IORING_SETUP_CQE32, IORING_SETUP_CQE_MIXED,
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_CQE32,
		IORING_SETUP_SQPOLL | IORING_SETUP_CQE32,
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
	};
	struct io_uring_zcrx_area_reg area = area_slot(0, 0, SIZE);
	struct relay *r = &self->relay;
	struct uring rings[ARRAY_SIZE(flags)];
	struct zcrx z;
	int fd;

	for (unsigned int i = 0; i < ARRAY_SIZE(flags); i++) {
		ASSERT_EQ(0, uring_init(&rings[i], 64, flags[i]));
		ASSERT_EQ(0, reg_sparse(&rings[i], 1));
		ASSERT_EQ(0, reg_dmabuf(&rings[i], 0, r->mem.fd, r->disk));
		EXPECT_EQ(-EINVAL, zcrx_open(&z, &rings[i], relay_ifindex(r), &area));
		EXPECT_EQ(-EINVAL, zcrx_open(&z, &rings[i], 0, &area));
	}
	ASSERT_EQ(0, relay_open(r, 0, SIZE));
	fd = zcrx_export(&r->z);
	ASSERT_LE(0, fd);
	for (unsigned int i = 0; i < ARRAY_SIZE(flags); i++) {
		EXPECT_EQ(-EINVAL, zcrx_import(&z, &rings[i], fd));
		uring_exit(&rings[i]);
	}
	close(fd);
	/* the drive's and the card's */
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 2, net_patience()));
	check_works(_metadata, r, true);
}

/* A card that has no such queues */
TEST_F(queue_errors, other_card)
{
	struct relay *r = &self->relay;
	const char *other = NEED_ENV("LAB_NET_VMXNET3");

	EXPECT_EQ(-EOPNOTSUPP, on_queue(r, if_nametoindex(other), 0));
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 1, net_patience()));
	check_works(_metadata, r, false);
}

TEST_F(queue_errors, query)
{
	EXPECT_EQ(IORING_ZCRX_AREA_DMABUF | IORING_ZCRX_AREA_REGBUF, zcrx_area_flags());
}

TEST_HARNESS_MAIN
