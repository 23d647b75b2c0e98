// SPDX-License-Identifier: GPL-2.0
/*
 * Reads into what was sent: with one completion for a send (IORING_SEND_ZC_SINGLE_CQE) a
 * chain of links goes through one place of the memory.
 */
#include "common.h"
#include "netio.h"

#define SEED	NET_SEED
#define STEPS	12
#define BLOCK	(256 * KiB)

FIXTURE(chain) {
	struct netrig net;
	struct net_pair tcp;
	int disk;
};

FIXTURE_VARIANT(chain) {
	const char *card;
	enum mem_kind kind;
};

FIXTURE_VARIANT_ADD(chain, e1000e) { .card = "e1000e", .kind = MEM_UDMABUF };
FIXTURE_VARIANT_ADD(chain, vmxnet3_bar) { .card = "vmxnet3", .kind = MEM_BAR };

FIXTURE_SETUP(chain)
{
	struct netrig *n = &self->net;
	struct io_uring_regbuf_desc d;

	self->tcp = NET_PAIR_NONE;
	self->disk = NEED_DISK("LAB_NVME_MAIN");
	NETRIG_UP(n, variant->card, variant->kind, BLOCK);
	ASSERT_EQ(0, net_tcp(n, AF_INET, &self->tcp));
	ASSERT_EQ(0, reg_dmabuf(&n->ring, 0, n->mem.fd, self->disk));
	d = desc_add(self->tcp.tx);
	ASSERT_EQ(0, reg_one(&n->ring, 0, &d));
}

FIXTURE_TEARDOWN(chain)
{
	net_close(&self->tcp);
	EXPECT_TRUE(netrig_let_go(&self->net));
	netrig_down(&self->net);
	close(self->disk);
}

/*
 * From the disk into the same place, and from there to a peer that is slow, without a look
 * at the ring in between: one chain of links, submitted at once
 */
TEST_F(chain, into_the_same_place)
{
	const struct piece all = { SEED, 0, STEPS * BLOCK };
	struct netrig *n = &self->net;
	struct uring_res res;
	struct receiver r;

	ASSERT_EQ(0, disk_fill(self->disk, 0, STEPS * BLOCK, SEED));
	/* a part of a block fits into the sender, and not into the receiver */
	net_set(self->tcp.tx, SOL_SOCKET, SO_SNDBUFFORCE, 4 * MiB);
	net_set(self->tcp.rx, SOL_SOCKET, SO_RCVBUF, 64 * KiB);
	for (unsigned int i = 0; i < STEPS; i++) {
		struct io_uring_sqe *sqe;

		sqe = uring_prep_rw(&n->ring, IORING_OP_READ_FIXED, self->disk, i * BLOCK,
				    0, BLOCK, 0);
		sqe->flags |= IOSQE_IO_LINK;
		sqe->user_data = 2 * i;
		sqe = net_prep(n, self->tcp.tx, 0, 0, BLOCK, MSG_WAITALL);
		sqe->ioprio |= IORING_SEND_ZC_SINGLE_CQE;
		sqe->flags |= IOSQE_IO_LINK;
		sqe->user_data = 2 * i + 1;
	}
	ASSERT_EQ(2 * STEPS, uring_submit(&n->ring, 0));
	lab_sleep_ms(300);
	ASSERT_EQ(0, receiver_start(&r, self->tcp.rx, &all, 1));
	for (unsigned int i = 0; i < 2 * STEPS; i++) {
		ASSERT_EQ(0, uring_wait(&n->ring, &res, net_patience()));
		EXPECT_EQ(i, res.user_data);
		EXPECT_EQ(BLOCK, res.res);
		EXPECT_EQ(0, res.flags);
	}
	EXPECT_EQ(0, receiver_join(&r));
}

TEST_HARNESS_MAIN
