// SPDX-License-Identifier: GPL-2.0
/*
 * Exporters as they really are (see DMA_BUF_BAR_FLAVOURS), each with a drive and
 * with sockets, in whatever topology this machine has: either every byte arrives and
 * the kernel says truly where the memory is, or the registration says why not.
 */
#include <linux/dma-buf-bar.h>

#include "common.h"
#include "flavour.h"
#include "netio.h"

#define SIZE		FLAVOUR_SIZE
#define CHUNK		FLAVOUR_CHUNK

/* behind an assertion: what to say when it fails */
#define NAMED(f) TH_LOG("%s", (f)->name)

/* Nothing of a registration is left: no attachment, no mapping, no pin */
static void expect_gone(struct __test_metadata *_metadata, const struct mem *m,
			const struct flavour *f)
{
	struct dma_buf_bar_info info;

	EXPECT_TRUE(bufinfo_wait(m->fd, 0, net_patience())) NAMED(f);
	ASSERT_EQ(0, bar_info(m, &info));
	EXPECT_EQ(0, info.live) NAMED(f);
	EXPECT_EQ(!!(f->flags & DMA_BUF_BAR_HELD), info.pinned) NAMED(f);
}

/* --- a drive --- */

FIXTURE(drive) {
	struct rig rig;
	bool is_switch;
};

FIXTURE_VARIANT(drive) {
	const char *disk;
};

FIXTURE_VARIANT_ADD(drive, main) { "LAB_NVME_MAIN" };
/* multipath: its controllers sit on root ports of their own */
FIXTURE_VARIANT_ADD(drive, multipath) { "LAB_NVME_MP" };

FIXTURE_SETUP(drive)
{
	RIG_UP(&self->rig, variant->disk, MEM_BAR, SIZE, 0);
	mem_destroy(&self->rig.mem);
	self->is_switch = (lab_is("LAB_TOPO", "switch") ||
			   lab_is("LAB_TOPO", "net")) &&
			  !strcmp(variant->disk, "LAB_NVME_MAIN");
}

FIXTURE_TEARDOWN(drive)
{
	rig_down(&self->rig);
}

static void check_drive(struct __test_metadata *_metadata, struct rig *rig,
			const struct flavour *f, __u32 flags, __u32 state, int err)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, rig->disk);
	struct io_uring_query_regbuf_map q;
	struct dma_buf_bar_info info;

	d.flags = flags;
	ASSERT_EQ(err, reg_one(&rig->ring, 0, &d)) NAMED(f);
	if (err) {
		expect_gone(_metadata, &rig->mem, f);
		ASSERT_EQ(0, bar_info(&rig->mem, &info));
		/* and nothing has been moved for it */
		EXPECT_EQ(DMA_BUF_BAR_PLACE_A, info.place) NAMED(f);
		return;
	}
	ASSERT_EQ(0, query_map(&rig->ring, 0, 0, &q));
	ksft_print_msg("%s: state %u, %llu entries\n", f->name, q.state,
		       q.entries);
	EXPECT_EQ(state, q.state) NAMED(f);
	ASSERT_EQ(0, rig_works(rig, rig->disk, 0)) NAMED(f);
	ASSERT_EQ(0, rig_read(rig, rig->disk, 0, 0, 0, SIZE)) NAMED(f);
	ASSERT_EQ(0, rig_write(rig, rig->disk, 0, 4096, 0, SIZE)) NAMED(f);
	ASSERT_EQ(0, reg_clear(&rig->ring, 0));
	expect_gone(_metadata, &rig->mem, f);
}

TEST_F(drive, every_byte_arrives)
{
	struct rig *rig = &self->rig;

	for (unsigned int i = 0; i < nr_flavours; i++) {
		const struct flavour *f = &flavours[i];

		ASSERT_EQ(0, flavour_create(&rig->mem, f)) NAMED(f);
		check_drive(_metadata, rig, f, 0,
			    flavour_state(f, self->is_switch), f->drive);
		mem_destroy(&rig->mem);
	}
}

TEST_F(drive, require_p2p)
{
	struct rig *rig = &self->rig;

	for (unsigned int i = 0; i < nr_flavours; i++) {
		const struct flavour *f = &flavours[i];

		ASSERT_EQ(0, flavour_create(&rig->mem, f)) NAMED(f);
		check_drive(_metadata, rig, f, IO_REGBUF_DMABUF_REQUIRE_P2P,
			    flavour_state(f, self->is_switch), f->require);
		mem_destroy(&rig->mem);
	}
}

/* Mapped by us in whole ranges, as often as anybody likes */
TEST_F(drive, pieces_become_one_range)
{
	static const struct flavour f = {
		.name = "not mapped",
		.flags = DMA_BUF_BAR_NVIDIA | DMA_BUF_BAR_UNTRANSLATED,
	};
	struct io_uring_query_regbuf_map q;
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, flavour_create(&rig->mem, &f));
	for (int i = 0; i < 50; i++) {
		ASSERT_EQ(0, reg_dmabuf(&rig->ring, 0, rig->mem.fd, rig->disk));
		ASSERT_EQ(0, query_map(&rig->ring, 0, 0, &q));
		EXPECT_EQ(1, q.entries);
		ASSERT_EQ(0, rig_read(rig, rig->disk, 0, 0, 0, 4096));
		ASSERT_EQ(0, reg_clear(&rig->ring, 0));
		ASSERT_TRUE(bufinfo_wait(rig->mem.fd, 0, net_patience()));
	}
}

/* --- sockets --- */

FIXTURE(sock) {
	struct netrig net;
	struct net_pair pair;
};

FIXTURE_VARIANT(sock) {
	const char *card;
	bool udp;
};

FIXTURE_VARIANT_ADD(sock, tcp) { "e1000e", false };
FIXTURE_VARIANT_ADD(sock, udp) { "e1000e", true };
FIXTURE_VARIANT_ADD(sock, tcp_vmxnet3) { "vmxnet3", false };

FIXTURE_SETUP(sock)
{
	struct netrig *n = &self->net;

	self->pair = NET_PAIR_NONE;
	NETRIG_UP(n, variant->card, MEM_BAR, SIZE);
	mem_destroy(&n->mem);
	ASSERT_EQ(0, variant->udp ? net_udp(n, AF_INET, &self->pair) :
				    net_tcp(n, AF_INET, &self->pair));
}

FIXTURE_TEARDOWN(sock)
{
	net_close(&self->pair);
	netrig_down(&self->net);
}

/*
 * QEMU's cards drop a packet with a descriptor for what only the IOMMU makes
 * contiguous, see net_mem(): no send leaves a piece, or a page of the system's
 */
static __u32 send_len(const struct flavour *f, bool udp)
{
	return udp || f->route == ROUTE_SYSTEM ? 1400 : 50000;
}

static void check_sock(struct __test_metadata *_metadata, struct netrig *n,
		       struct net_pair *p, const struct flavour *f, __u32 flags,
		       int err, __u32 len)
{
	__u32 state = flavour_state(f, lab_is("LAB_TOPO", "net"));
	struct io_uring_query_regbuf_map q;

	ASSERT_EQ(err, net_reg(n, 0, n->mem.fd, p->tx, flags)) NAMED(f);
	if (err) {
		expect_gone(_metadata, &n->mem, f);
		return;
	}
	ASSERT_EQ(0, net_query(n, 0, &q));
	ksft_print_msg("%s: state %u\n", f->name, q.state);
	EXPECT_EQ(state, q.state) NAMED(f);
	/* from all over the buffer */
	for (__u64 off = 123; off + len <= SIZE; off += 3 * CHUNK) {
		const struct piece want = { NET_SEED, off, len };
		bool copied;

		ASSERT_EQ(len, net_send_sync(n, p->tx, 0, off, len, MSG_WAITALL,
					     &copied)) NAMED(f);
		EXPECT_FALSE(copied) NAMED(f);
		ASSERT_EQ(0, net_recv_each(p->rx, &want, 1)) NAMED(f);
	}
	ASSERT_EQ(0, net_query(n, 0, &q));
	EXPECT_EQ(0, q.copied_bytes) NAMED(f);
	ASSERT_EQ(0, net_wait_acked(p->tx));
	ASSERT_EQ(0, reg_clear(&n->ring, 0));
	expect_gone(_metadata, &n->mem, f);
}

TEST_F(sock, every_byte_arrives)
{
	struct netrig *n = &self->net;

	for (unsigned int i = 0; i < nr_flavours; i++) {
		const struct flavour *f = &flavours[i];

		ASSERT_EQ(0, flavour_create(&n->mem, f)) NAMED(f);
		ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, NET_SEED));
		check_sock(_metadata, n, &self->pair, f, 0, f->socket,
			   send_len(f, variant->udp));
		mem_destroy(&n->mem);
	}
}

/* A socket is told the same as a drive, unless its answer is another one anyway */
TEST_F(sock, require_p2p)
{
	struct netrig *n = &self->net;

	for (unsigned int i = 0; i < nr_flavours; i++) {
		const struct flavour *f = &flavours[i];
		int err = f->require == -EREMOTEIO ? -EREMOTEIO : f->socket;

		ASSERT_EQ(0, flavour_create(&n->mem, f)) NAMED(f);
		ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, NET_SEED));
		check_sock(_metadata, n, &self->pair, f,
			   IO_REGBUF_DMABUF_REQUIRE_P2P, err,
			   send_len(f, variant->udp));
		mem_destroy(&n->mem);
	}
}

TEST_HARNESS_MAIN
