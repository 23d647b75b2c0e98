// SPDX-License-Identifier: GPL-2.0
/*
 * Requests and registrations that cannot work, for a socket that could: the exact
 * errno and nothing on the way; or, where that is allowed, a copy that says so.
 */
#include <linux/dma-buf-bar.h>
#include <linux/ethtool.h>

#include "refused.h"

/* --- the card as it is set up now --- */

TEST_F(refused, offloads)
{
	static const __u32 features[] = { ETHTOOL_SSG, ETHTOOL_STXCSUM };
	struct netrig *n = &self->net;

	ASSERT_EQ(0, net_udp(n, AF_INET, &self->bad));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, net_feature(n, features[i], false));
		CHECK_SEND(0, &self->tcp, LEN, -EOPNOTSUPP);
		CHECK_SEND(0, &self->bad, 1000, -EOPNOTSUPP);
		ASSERT_EQ(0, net_feature(n, features[i], true));
		EXPECT_EQ(0, net_works(n, 0, &self->tcp));
		EXPECT_EQ(0, net_works(n, 0, &self->bad));
	}
}

/* --- requests that make no sense; a copy does not mend them --- */

TEST_F(refused, outside_of_the_buffer)
{
	static const struct {
		__u64 off;
		__u32 len;
	} bad[] = {
		{ SIZE, 1 }, { SIZE - 1, 2 }, { 0, SIZE + 1 }, { 1, SIZE },
		{ SIZE + 1, 0 }, { -1ULL, 1 }, { -1ULL, 2 }, { 1ULL << 63, 4096 },
		{ 1ULL << 32, 1 }, { 0, 0x7ffff000 }, { 0, ~0U },
	};
	struct netrig *n = &self->net;

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(-EFAULT, net_send(n, self->tcp.tx, 0, bad[i].off,
					    bad[i].len, MSG_DONTWAIT));
	}
	ASSERT_EQ(0, net_idle(n));
	ASSERT_EQ(0, net_mark(&self->tcp));
	EXPECT_EQ(0, net_works(n, 0, &self->tcp));
}

TEST_F(refused, vector_with_a_bad_piece)
{
	static const struct iovec bad[] = {
		{ (void *)SIZE, 1 }, { (void *)(SIZE - 10), 11 },
		{ (void *)-1ULL, 2 }, { NULL, 0 },
	};
	struct netrig *n = &self->net;

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		struct iovec iov[] = { { NULL, 100 }, bad[i], { NULL, 100 } };

		EXPECT_EQ(-EFAULT, net_sendv(n, self->tcp.tx, 0, iov, 3,
					     MSG_DONTWAIT));
	}
	ASSERT_EQ(0, net_idle(n));
	ASSERT_EQ(0, net_mark(&self->tcp));
	EXPECT_EQ(0, net_works(n, 0, &self->tcp));
}

TEST_F(refused, empty_slot)
{
	struct netrig *n = &self->net;
	struct iovec iov = { NULL, 100 };

	EXPECT_EQ(-EFAULT, net_send(n, self->tcp.tx, 5, 0, 100, 0));
	EXPECT_EQ(-EFAULT, net_sendv(n, self->tcp.tx, 5, &iov, 1, 0));
	EXPECT_EQ(-EFAULT, net_send(n, self->tcp.tx, NETRIG_SLOTS, 0, 100, 0));
	ASSERT_EQ(0, net_mark(&self->tcp));
}

/* SEND, which knows ordinary registered buffers */
TEST_F(refused, send_that_copies_anyway)
{
	struct netrig *n = &self->net;

	uring_prep_rw(&n->ring, IORING_OP_SEND, self->tcp.tx, 0, 0, 100, 0)->ioprio =
		IORING_RECVSEND_FIXED_BUF;
	EXPECT_EQ(-EOPNOTSUPP, net_do(n));
	ASSERT_EQ(0, net_mark(&self->tcp));
}

/* A socket is a target, but no file: its offsets are no addresses */
TEST_F(refused, read_and_write)
{
	struct netrig *n = &self->net;

	EXPECT_LT(uring_write(&n->ring, self->tcp.tx, 0, 0, 100, 0), 0);
	EXPECT_LT(uring_write(&n->ring, self->tcp.tx, -1ULL, 4096, 100, 0), 0);
	/* a read would wait, if it were one */
	ASSERT_EQ(0, piece_send(self->tcp.rx, &(struct piece) { 1, 0, 100 }, 0));
	EXPECT_LT(uring_read(&n->ring, self->tcp.tx, 0, 0, 100, 0), 0);
	EXPECT_EQ(NO_MISMATCH, mem_check(&n->mem, 0, 0, SIZE, SEED));
	ASSERT_EQ(0, net_mark(&self->tcp));
}

/* --- registration --- */

TEST_F(refused, direction)
{
	struct netrig *n = &self->net;
	int dmabuf = n->mem.fd;

	EXPECT_EQ(-EACCES, net_reg(n, 1, dmabuf, self->tcp.tx, variant->flags |
				   IO_REGBUF_DMABUF_WRONLY));
	EXPECT_EQ(0, net_reg(n, 1, dmabuf, self->tcp.tx, variant->flags |
			     IO_REGBUF_DMABUF_RDONLY));
	EXPECT_EQ(0, net_works(n, 1, &self->tcp));
	EXPECT_EQ(0, net_works(n, 0, &self->tcp));
	if (!self->copy)
		return;
	/* no device is asked here, so it is the send that fails */
	ASSERT_EQ(0, net_local("127.0.0.1", &self->bad));
	EXPECT_EQ(0, net_reg(n, 1, dmabuf, self->bad.tx, variant->flags |
			     IO_REGBUF_DMABUF_WRONLY));
	EXPECT_EQ(-EFAULT, net_send(n, self->bad.tx, 1, 0, 100, 0));
	ASSERT_EQ(0, net_mark(&self->bad));
}

/* It cannot be moved, and what can be said by REQUIRE_P2P and PIN, may be said */
TEST_F(refused, memory_is_pinned)
{
	struct netrig *n = &self->net;
	struct dma_buf_bar_info info;
	struct mem mem;

	if (mem_create(&mem, MEM_BAR, SIZE))
		SKIP(return, "no /dev/dmabuf_bar");
	ASSERT_EQ(0, mem_fill(&mem, 0, 0, SIZE, SEED));
	ASSERT_EQ(0, net_reg(n, 1, mem.fd, self->tcp.tx, variant->flags |
			     IO_REGBUF_DMABUF_REQUIRE_P2P |
			     IO_REGBUF_DMABUF_PIN));
	ASSERT_EQ(0, bar_info(&mem, &info));
	EXPECT_GE(info.pinned, 1);
	EXPECT_EQ(-EBUSY, bar_move(&mem, DMA_BUF_BAR_PLACE_SYSTEM));
	EXPECT_EQ(0, net_works(n, 1, &self->tcp));
	ASSERT_EQ(0, reg_clear(&n->ring, 1));
	EXPECT_TRUE(bufinfo_wait(mem.fd, 0, net_patience()));
	ASSERT_EQ(0, bar_info(&mem, &info));
	EXPECT_EQ(0, info.pinned);
	EXPECT_EQ(0, bar_move(&mem, DMA_BUF_BAR_PLACE_SYSTEM));
	mem_destroy(&mem);
}

/* PCI memory is nothing to copy from, so that COPY_OK is of no use */
TEST_F(refused, memory_that_cannot_be_copied)
{
	struct netrig *n = &self->net;
	struct mem mem;
	int err = self->copy ? -EOPNOTSUPP : -ENODEV;

	if (mem_create(&mem, MEM_BAR, SIZE))
		SKIP(return, "no /dev/dmabuf_bar");
	ASSERT_EQ(0, mem_fill(&mem, 0, 0, SIZE, SEED));
	ASSERT_EQ(0, net_reg(n, 1, mem.fd, self->tcp.tx, variant->flags));
	ASSERT_EQ(0, net_local("127.0.0.1", &self->bad));
	check_send(_metadata, n, false, 1, &self->bad, LEN, err);
	EXPECT_EQ(0, net_works(n, 1, &self->tcp));
	mem_destroy(&mem);
}

/* The card cannot be told to let go, so that its exporter keeps what it promised */
TEST_F(refused, memory_is_not_taken_back)
{
	struct netrig *n = &self->net;
	struct mem mem;

	if (mem_create(&mem, MEM_BAR, SIZE))
		SKIP(return, "no /dev/dmabuf_bar");
	ASSERT_EQ(0, mem_fill(&mem, 0, 0, SIZE, SEED));
	ASSERT_EQ(0, net_reg(n, 1, mem.fd, self->tcp.tx, variant->flags));
	EXPECT_EQ(0, net_works(n, 1, &self->tcp));
	EXPECT_EQ(-EBUSY, bar_revoke(&mem, true));
	EXPECT_EQ(0, net_works(n, 1, &self->tcp));
	ASSERT_EQ(0, net_wait_acked(self->tcp.tx));
	ASSERT_EQ(0, reg_clear(&n->ring, 1));
	ASSERT_TRUE(bufinfo_wait(mem.fd, 0, net_patience()));
	ASSERT_EQ(0, bar_revoke(&mem, true));
	EXPECT_EQ(-ENODEV, net_reg(n, 1, mem.fd, self->tcp.tx, variant->flags));
	ASSERT_EQ(0, bar_revoke(&mem, false));
	ASSERT_EQ(0, net_reg(n, 1, mem.fd, self->tcp.tx, variant->flags));
	EXPECT_EQ(0, net_works(n, 1, &self->tcp));
	mem_destroy(&mem);
}

/* Who takes memory back, pinned or not, refuses a card */
TEST_F(refused, memory_that_may_be_taken_back)
{
	static const __u32 flags[] = {
		DMA_BUF_BAR_NO_PIN, DMA_BUF_BAR_VFIO, DMA_BUF_BAR_TENSTORRENT,
	};
	struct netrig *n = &self->net;
	struct mem mem;

	for (unsigned int i = 0; i < ARRAY_SIZE(flags); i++) {
		if (mem_create_bar(&mem, SIZE, flags[i], 0))
			SKIP(return, "no /dev/dmabuf_bar");
		EXPECT_EQ(-EOPNOTSUPP, net_reg(n, 1, mem.fd, self->tcp.tx,
					       variant->flags));
		EXPECT_TRUE(bufinfo_wait(mem.fd, 0, 5000));
		mem_destroy(&mem);
	}
}

TEST_HARNESS_MAIN
