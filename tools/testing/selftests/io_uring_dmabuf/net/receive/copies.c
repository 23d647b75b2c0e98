// SPDX-License-Identifier: GPL-2.0
/*
 * Areas that may be copied to (IO_REGBUF_DMABUF_COPY_OK): receives without a card, by
 * any TCP socket, and what a card has not written. All that was copied is counted.
 */
#include <sys/mman.h>
#include <linux/dma-buf-bar.h>

#include "common.h"
#include "copier.h"

#define SEED		NET_SEED
#define SIZE		COPIER_SIZE
#define FAIL_ERRNO	"/sys/kernel/debug/dma_buf_bar/fail_map_errno"
#define FAIL_COUNT	"/sys/kernel/debug/dma_buf_bar/fail_map_count"
#define QUIET		300	/* milliseconds in which nothing arrives */

/* --- no card --- */

FIXTURE(nodev) {
	struct relay relay;
};

FIXTURE_VARIANT(nodev) {
	enum mem_kind kind;
	const char *card;	/* NULL: loopback */
	int family;
	int refused;		/* what the card says to an area */
};

FIXTURE_VARIANT_ADD(nodev, udmabuf_lo_tcp4) {
	.kind = MEM_UDMABUF_4K, .family = AF_INET,
};

FIXTURE_VARIANT_ADD(nodev, heap_lo_tcp6) {
	.kind = MEM_HEAP, .family = AF_INET6,
};

FIXTURE_VARIANT_ADD(nodev, bar_lo_tcp4) {
	.kind = MEM_BAR, .family = AF_INET,
};

FIXTURE_VARIANT_ADD(nodev, udmabuf_vmxnet3_tcp6) {
	.kind = MEM_UDMABUF_4K, .card = "vmxnet3", .family = AF_INET6,
	.refused = -EOPNOTSUPP,
};

FIXTURE_VARIANT_ADD(nodev, bar_vmxnet3_tcp4) {
	.kind = MEM_BAR, .card = "vmxnet3", .family = AF_INET,
	.refused = -EOPNOTSUPP,
};

FIXTURE_VARIANT_ADD(nodev, heap_e1000e_tcp4) {
	.kind = MEM_HEAP, .card = "e1000e", .family = AF_INET,
	.refused = -EINVAL,	/* it does not split headers off now */
};

FIXTURE_SETUP(nodev)
{
	struct io_uring_zcrx_area_reg area = area_slot(0, MiB, SIZE - MiB);
	struct relay *r = &self->relay;
	const char *why = NULL;
	int ret;

	COPIER_UP(r, variant->kind);
	if (variant->card) {
		ret = netrig_up(&r->net, variant->card, MEM_UDMABUF, 0, &why);
		if (why)
			SKIP(return, "%s", why);
		ASSERT_EQ(0, ret);
		ASSERT_EQ(0, relay_connect(r, variant->family));
		/* as a program does that runs everywhere */
		ASSERT_EQ(variant->refused,
			  zcrx_open(&r->z, &r->ring, relay_ifindex(r), &area));
	} else {
		ASSERT_EQ(0, net_local(variant->family == AF_INET ? "127.0.0.1" : "::1",
				       &r->tcp));
	}
	ASSERT_EQ(0, zcrx_open(&r->z, &r->ring, 0, &area));
}

FIXTURE_TEARDOWN(nodev)
{
	struct relay *r = &self->relay;

	net_close(&r->tcp);
	EXPECT_EQ(0, relay_close(r));
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 0, net_patience()));
	relay_down(r);
}

/* Each piece goes to the drive, by the offset that its completion has */
TEST_F(nodev, stores)
{
	static const __u32 lens[] = { 512, 1024, 64 * KiB, 1024, 32 * KiB, 512 };
	struct relay *r = &self->relay;
	struct relay_run run = { .batch = RELAY_VECTORS };
	struct piece p = { .seed = SEED };

	for (unsigned int i = 0; i < ARRAY_SIZE(lens); i++) {
		p.pos += p.len;
		p.len = lens[i];
		ASSERT_EQ(0, relay_run(r, &p, &run));
	}
	CHECK_COPIED(r, p.pos + p.len, run.pieces);
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&r->mem, 0, MiB, POISON));
}

/* More than the area has room for: it is full from time to time, and nothing is lost */
TEST_F(nodev, streams)
{
	const struct piece p = { SEED, 0, lab_scale(8, 5) * MiB };
	struct relay *r = &self->relay;
	struct taken t = { 0 };

	ASSERT_EQ(0, copier_stream(r, &p, &t));
	EXPECT_GT(t.full, 0);
	CHECK_COPIED(r, p.len, t.pieces);
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&r->mem, 0, MiB, POISON));
}

/* --- loopback --- */

FIXTURE(local) {
	struct relay relay;
};

FIXTURE_VARIANT(local) {
	enum mem_kind kind;
};

FIXTURE_VARIANT_ADD(local, udmabuf) { .kind = MEM_UDMABUF_4K };
FIXTURE_VARIANT_ADD(local, bar) { .kind = MEM_BAR };

FIXTURE_SETUP(local)
{
	COPIER_UP(&self->relay, variant->kind);
}

FIXTURE_TEARDOWN(local)
{
	relay_down(&self->relay);
}

/* The slot is a part of the dma-buf, and the area one of the slot */
TEST_F(local, part_of_a_part)
{
	const struct piece p = { SEED, 0, 256 * KiB };
	struct relay *r = &self->relay;
	struct io_uring_regbuf_desc d = desc_dmabuf(r->mem.fd, r->disk);
	struct taken t = { 0 };

	d.flags = IO_REGBUF_DMABUF_COPY_OK;
	d.dmabuf_off = MiB;
	d.size = 2 * MiB;
	ASSERT_EQ(0, reg_one(&r->ring, 0, &d));
	r->base = d.dmabuf_off;
	ASSERT_EQ(0, copier_open(r, MiB, MiB));
	ASSERT_EQ(0, copier_stream(r, &p, &t));
	CHECK_COPIED(r, p.len, t.pieces);
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&r->mem, 0, 2 * MiB, POISON));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&r->mem, 3 * MiB, MiB, POISON));
}

/* Two pages: one that the application keeps, and one that comes and goes */
TEST_F(local, nearly_full)
{
	const struct piece keep = { SEED, 0, 1000 }, p = { SEED, 1000, 64 * KiB };
	struct relay *r = &self->relay;
	struct taken t = { 0 };
	struct arrived kept;

	ASSERT_EQ(0, copier_open(r, 0, 2 * 4096));
	ASSERT_EQ(0, piece_send(r->tcp.tx, &keep, 0));
	ASSERT_NE(NULL, zcrx_prep(&r->z, r->tcp.rx, keep.len, RELAY_RECV));
	ASSERT_EQ(1, relay_arrive(r, &keep, &kept, 1));
	ASSERT_EQ(0, uring_do(&r->ring));
	ASSERT_EQ(0, copier_stream(r, &p, &t));
	EXPECT_GE(t.full, 15);
	EXPECT_EQ(NO_MISMATCH, mem_check(&r->mem, kept.off, 0, keep.len, SEED));
	CHECK_COPIED(r, keep.len + p.len, t.pieces + 1);
}

/* The first is full, and the next takes what follows; one that may not be is not copied to */
TEST_F(local, several_areas)
{
	const struct piece p = { SEED, 0, 128 * KiB };
	struct relay *r = &self->relay;
	struct io_uring_zcrx_area_reg areas[] = {
		area_slot(1, 3 * MiB, MiB),
		area_slot(0, 2 * MiB, MiB),
	};
	struct taken t = { 0 };

	ASSERT_EQ(0, copier_open(r, 0, 64 * KiB));
	ASSERT_EQ(0, copier_store(r, 1, 0));
	EXPECT_EQ(-EOPNOTSUPP, zcrx_add_area(&r->z, &areas[0]));
	ASSERT_EQ(0, zcrx_add_area(&r->z, &areas[1]));
	ASSERT_EQ(0, copier_stream(r, &p, &t));
	EXPECT_EQ(0, t.full);
	EXPECT_GT(t.in[0], 0);
	EXPECT_GT(t.in[1], 0);
	CHECK_COPIED(r, p.len, t.pieces);
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&r->mem, 3 * MiB, MiB, POISON));
}

/* The area goes on, and keeps what was in the slot */
TEST_F(local, slot_is_cleared)
{
	const struct piece p = { SEED, 0, 256 * KiB };
	struct relay *r = &self->relay;
	struct taken t = { 0 };

	ASSERT_EQ(0, copier_open(r, 0, SIZE));
	ASSERT_EQ(0, copier_stream(r, &p, &t));
	ASSERT_EQ(0, reg_clear(&r->ring, 0));
	ASSERT_EQ(0, copier_stream(r, &p, &t));
	EXPECT_EQ(2 * p.len, r->z.stats->copy_bytes);
	EXPECT_EQ(t.pieces, r->z.stats->copy_count);
	EXPECT_EQ(1, bufinfo_attachments(r->mem.fd));
	EXPECT_EQ(0, relay_close(r));
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 0, net_patience()));
}

/* What copies of sends and of receives have in common is one counter */
TEST_F(local, sends_count_too)
{
	const struct piece p = { SEED, 0, 64 * KiB };
	struct relay *r = &self->relay;
	struct io_uring_sqe *sqe;
	struct taken t = { 0 };
	struct uring_res res;

	ASSERT_EQ(0, copier_open(r, 0, SIZE));
	ASSERT_EQ(0, copier_stream(r, &p, &t));
	ASSERT_EQ(0, mem_fill(&r->mem, 0, 0, 4096, SEED));
	sqe = uring_sqe(&r->ring);
	sqe->opcode = IORING_OP_SEND_ZC;
	sqe->ioprio = IORING_RECVSEND_FIXED_BUF | IORING_SEND_ZC_SINGLE_CQE;
	sqe->fd = r->tcp.tx;
	sqe->len = 4096;
	ASSERT_EQ(4096, uring_do(&r->ring));
	EXPECT_EQ(p.len + 4096, copier_bytes(r, 0));
	EXPECT_EQ(p.len, r->z.stats->copy_bytes);
	EXPECT_EQ(0, uring_peek(&r->ring, &res));
}

/* As the CPU writes to it, the memory stays where it is until the area has ended */
TEST_F(local, exporter_wants_to_move_it)
{
	const struct piece p = { SEED, 0, 64 * KiB };
	struct relay *r = &self->relay;
	struct taken t = { 0 };

	if (variant->kind != MEM_BAR)
		SKIP(return, "it does not move");
	ASSERT_EQ(0, copier_open(r, 0, SIZE));
	EXPECT_EQ(-EBUSY, bar_move(&r->mem, DMA_BUF_BAR_PLACE_B));
	ASSERT_EQ(0, reg_clear(&r->ring, 0));
	EXPECT_EQ(-EBUSY, bar_move(&r->mem, DMA_BUF_BAR_PLACE_B));
	ASSERT_EQ(0, copier_stream(r, &p, &t));
	ASSERT_EQ(0, relay_close(r));
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 0, net_patience()));
	EXPECT_EQ(0, bar_move(&r->mem, DMA_BUF_BAR_PLACE_B));
}

/* With connections that wait for the exporter, and with one that does not */
TEST_F(local, ring_ends)
{
	struct piece p = { SEED, 0, 256 * KiB };
	struct relay *r = &self->relay;
	struct arrived a;
	struct sender s;

	ASSERT_EQ(0, copier_open(r, 0, SIZE));
	ASSERT_EQ(0, copier_receive(r, 0));
	ASSERT_EQ(0, sender_start(&s, r->tcp.tx, &p));
	for (__u64 got = 0; got < p.len; got += a.len)
		ASSERT_GT(relay_next(r, &p, got, &a), 0);
	ASSERT_EQ(0, sender_join(&s));
	/* there is room for it: what comes next waits for the exporter */
	if (variant->kind == MEM_BAR)
		ASSERT_EQ(0, bar_fence(&r->mem, 1));
	p = (struct piece) { SEED, p.len, 32 * MiB };
	ASSERT_EQ(0, sender_start(&s, r->tcp.tx, &p));
	if (variant->kind == MEM_BAR) {
		EXPECT_EQ(-ETIME, uring_submit_for(&r->ring, 1, QUIET));
	} else {
		ASSERT_GT(relay_next(r, &p, 0, &a), 0);
	}
	EXPECT_EQ(0, relay_close(r));
	net_close(&r->tcp);
	EXPECT_NE(0, sender_join(&s));
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 0, net_patience()));
}

/* The connection ends, with something that waits for the exporter, and without */
TEST_F(local, peer_hangs_up)
{
	const struct piece p = { SEED, 0, 8 * KiB };
	struct relay *r = &self->relay;
	struct arrived pieces[8];
	struct uring_res res;
	int nr;

	ASSERT_EQ(0, copier_open(r, 0, SIZE));
	if (variant->kind == MEM_BAR)
		ASSERT_EQ(0, bar_fence(&r->mem, 1));
	ASSERT_EQ(0, copier_receive(r, 0));
	ASSERT_EQ(0, piece_send(r->tcp.tx, &p, 0));
	ASSERT_EQ(0, shutdown(r->tcp.tx, SHUT_WR));
	if (variant->kind == MEM_BAR) {
		EXPECT_EQ(-ETIME, uring_submit_for(&r->ring, 1, QUIET));
		ASSERT_EQ(0, bar_fence(&r->mem, 0));
	}
	nr = relay_arrive(r, &p, pieces, ARRAY_SIZE(pieces));
	ASSERT_GT(nr, 0);
	ASSERT_EQ(0, uring_wait(&r->ring, &res, net_patience()));
	EXPECT_EQ(0, res.res);
	EXPECT_FALSE(res.flags & IORING_CQE_F_MORE);
	CHECK_COPIED(r, p.len, (unsigned int)nr);
}

/* --- what cannot be --- */

static int attempt(struct relay *r, struct io_uring_zcrx_area_reg area, __u32 buf_len)
{
	struct zcrx z;
	int ret = zcrx_open_buf(&z, &r->ring, 0, &area, buf_len);

	zcrx_forget(&z);
	return ret;
}

/* And the memory is not pinned or attached by it */
#define REFUSED(err, area) do {						\
	int had_ = bufinfo_attachments(r->mem.fd);			\
									\
	EXPECT_EQ(err, attempt(r, area, 0));				\
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, had_, net_patience()));	\
} while (0)

TEST_F(local, errors)
{
	const struct piece p = { SEED, 0, 64 * KiB };
	struct relay *r = &self->relay;
	struct io_uring_zcrx_area_reg both = area_slot(0, 0, SIZE);
	struct taken t = { 0 };

	both.flags |= IORING_ZCRX_AREA_DMABUF;
	REFUSED(-EINVAL, both);
	REFUSED(-EFAULT, area_slot(1, 0, SIZE));
	REFUSED(-EFAULT, area_slot(RELAY_SLOTS, 0, SIZE));
	REFUSED(-EFAULT, area_slot(0, 0, 0));
	REFUSED(-EFAULT, area_slot(0, 0, SIZE + 4096));
	REFUSED(-EFAULT, area_slot(0, SIZE, 4096));
	REFUSED(-EFAULT, area_slot(0, 4096, -4096ULL));
	REFUSED(-EINVAL, area_slot(0, 512, 4096));
	REFUSED(-EINVAL, area_slot(0, 0, 4096 + 512));
	EXPECT_EQ(-EOPNOTSUPP, attempt(r, area_slot(0, 0, SIZE), 8192));
	EXPECT_EQ(-EINVAL, attempt(r, area_slot(0, 0, SIZE), 2048));
	ASSERT_EQ(0, copier_store(r, 1, 0));
	REFUSED(-EOPNOTSUPP, area_slot(1, 0, SIZE));
	ASSERT_EQ(0, copier_store(r, 2, IO_REGBUF_DMABUF_COPY_OK | IO_REGBUF_DMABUF_RDONLY));
	REFUSED(-EACCES, area_slot(2, 0, SIZE));
	/* and what is right can be had */
	ASSERT_EQ(0, copier_open(r, 0, SIZE));
	ASSERT_EQ(0, copier_stream(r, &p, &t));
	CHECK_COPIED(r, p.len, t.pieces);
}

/* User memory is no slot's area, also if it is registered; by itself it is one as ever */
TEST_F(local, user_memory)
{
	const struct piece p = { SEED, 0, 64 * KiB };
	struct relay *r = &self->relay;
	char *user = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct io_uring_zcrx_area_reg area = area_user(user, SIZE), slot = area_slot(0, 0, SIZE);
	struct io_uring_regbuf_desc d = desc_uaddr(user, SIZE);
	int had = bufinfo_attachments(r->mem.fd);
	struct mem mem = r->mem;
	struct taken t = { 0 };
	int ret;

	ASSERT_NE(MAP_FAILED, user);
	if (variant->kind == MEM_BAR)
		SKIP(return, "one of them is enough");
	ASSERT_EQ(0, reg_one(&r->ring, 1, &d));
	REFUSED(-EINVAL, area_slot(1, 0, SIZE));
	ASSERT_EQ(0, zcrx_open(&r->z, &r->ring, 0, &area));
	ASSERT_EQ(0, net_local("127.0.0.1", &r->tcp));
	/* nor do the two go together */
	EXPECT_EQ(-EINVAL, zcrx_add_area(&r->z, &slot));
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, had, net_patience()));
	/* where the pieces are looked for */
	r->mem.map = user;
	ret = copier_stream(r, &p, &t);
	r->mem = mem;
	ASSERT_EQ(0, ret);
	EXPECT_EQ(p.len, r->z.stats->copy_bytes);
	EXPECT_EQ(t.pieces, r->z.stats->copy_count);
	EXPECT_EQ(0, copier_bytes(r, 0));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&r->mem, 0, SIZE, POISON));
	munmap(user, SIZE);
}

/* Exporters that have no view for the CPU, or cannot make it */
TEST_F(local, exporters)
{
	static const struct {
		const char *exporter;
		int err;
	} errors[] = {
		{ "12", -ENOMEM }, { "11", -EBUSY }, { "512", -EINTR },
		{ "524", -EOPNOTSUPP },
	};
	struct relay *r = &self->relay;

	if (variant->kind != MEM_BAR)
		SKIP(return, "it has a view");
	for (unsigned int i = 0; i < ARRAY_SIZE(errors); i++) {
		ASSERT_EQ(0, file_write(FAIL_ERRNO, errors[i].exporter));
		ASSERT_EQ(0, file_write(FAIL_COUNT, "1"));
		REFUSED(errors[i].err, area_slot(0, 0, SIZE));
	}
	ASSERT_EQ(0, reg_clear(&r->ring, 0));
	ASSERT_EQ(0, copier_map_bar(r, 0));
	ASSERT_EQ(0, copier_store(r, 0, IO_REGBUF_DMABUF_COPY_OK));
	REFUSED(-EOPNOTSUPP, area_slot(0, 0, SIZE));
	ASSERT_EQ(0, reg_clear(&r->ring, 0));
	/* in ordinary pages, which it does not map */
	ASSERT_EQ(0, copier_map_bar(r, DMA_BUF_BAR_VMAP | DMA_BUF_BAR_START_SYSTEM));
	ASSERT_EQ(0, copier_store(r, 0, IO_REGBUF_DMABUF_COPY_OK));
	REFUSED(-EOPNOTSUPP, area_slot(0, 0, SIZE));
}

/* --- a card --- */

/* The card's ring takes half of it, and what is copied needs room, too */
#define CARD_AREA	SIZE

FIXTURE(carded) {
	struct relay relay;
};

FIXTURE_SETUP(carded)
{
	struct relay *r = &self->relay;

	RELAY_UP(r, MEM_BAR, SIZE, ZCRX_RING, MTU_PAGE_TCP4);
	ASSERT_EQ(0, copier_map_bar(r, DMA_BUF_BAR_VMAP));
	ASSERT_EQ(0, copier_store(r, 0, IO_REGBUF_DMABUF_COPY_OK));
}

FIXTURE_TEARDOWN(carded)
{
	struct relay *r = &self->relay;

	net_close(&r->tcp);
	EXPECT_EQ(0, relay_close(r));
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 0, net_patience()));
	relay_down(r);
}

/* One program, two kinds of connections: what the card writes is not counted */
static void check_both(struct __test_metadata *_metadata, struct relay *r)
{
	const struct piece p = { SEED, 0, 512 * KiB };
	struct relay_run run = { 0 };
	struct taken t = { 0 };

	ASSERT_EQ(0, relay_open(r, 0, CARD_AREA));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_EQ(0, relay_run(r, &p, &run));
	CHECK_COPIED(r, 0, 0);
	net_close(&r->tcp);
	ASSERT_EQ(0, net_local("127.0.0.1", &r->tcp));
	ASSERT_EQ(0, copier_stream(r, &p, &t));
	CHECK_COPIED(r, p.len, t.pieces);
	net_close(&r->tcp);
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_EQ(0, relay_run(r, &p, &run));
	CHECK_COPIED(r, p.len, t.pieces);
}

TEST_F(carded, loopback_too)
{
	check_both(_metadata, &self->relay);
}

TEST_F(carded, loopback_too_ordinary_memory)
{
	struct relay *r = &self->relay;

	mem_destroy(&r->mem);
	ASSERT_EQ(0, mem_create(&r->mem, MEM_UDMABUF_4K, SIZE));
	ASSERT_EQ(0, mem_poison(&r->mem, 0, SIZE, POISON));
	ASSERT_EQ(0, copier_store(r, 0, IO_REGBUF_DMABUF_COPY_OK));
	check_both(_metadata, r);
}

/* What came before the area was there has pages, and what follows has not */
TEST_F(carded, queued_before)
{
	const struct piece first = { SEED, 0, 48 * KiB };
	const struct piece rest = { SEED, first.len, 256 * KiB };
	const struct piece all = { SEED, 0, first.len + rest.len };
	struct relay *r = &self->relay;
	static struct arrived pieces[512];
	struct sender s;

	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_EQ(0, piece_send(r->tcp.tx, &first, 0));
	ASSERT_EQ(0, net_wait_acked(r->tcp.tx));
	ASSERT_EQ(0, relay_open(r, 0, CARD_AREA));
	ASSERT_EQ(0, sender_start(&s, r->tcp.tx, &rest));
	ASSERT_NE(NULL, zcrx_prep(&r->z, r->tcp.rx, 0, RELAY_RECV));
	ASSERT_GT(relay_arrive(r, &all, pieces, ARRAY_SIZE(pieces)), 0);
	EXPECT_EQ(0, sender_join(&s));
	EXPECT_EQ(first.len, r->z.stats->copy_bytes);
	EXPECT_EQ(first.len, copier_bytes(r, 0));
}

/* Without leave nothing is copied, and nothing is lost */
TEST_F(carded, may_not)
{
	const struct piece p = { SEED, 0, 48 * KiB };
	struct relay *r = &self->relay;

	ASSERT_EQ(0, copier_store(r, 0, 0));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_EQ(0, piece_send(r->tcp.tx, &p, 0));
	ASSERT_EQ(0, net_wait_acked(r->tcp.tx));
	ASSERT_EQ(0, relay_open(r, 0, CARD_AREA));
	ASSERT_NE(NULL, zcrx_prep(&r->z, r->tcp.rx, 0, RELAY_RECV));
	EXPECT_EQ(-ENOMEM, uring_do(&r->ring));
	CHECK_COPIED(r, 0, 0);
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&r->mem, 0, SIZE, POISON));
	EXPECT_EQ(0, net_recv(r->tcp.rx, &p, 1));
}

/* The card writes all the same to what the CPU cannot */
TEST_F(carded, exporter_without_a_view)
{
	const struct piece p = { SEED, 0, 256 * KiB }, q = { SEED, p.len, 32 * KiB };
	struct relay *r = &self->relay;
	struct relay_run run = { 0 };

	ASSERT_EQ(0, reg_clear(&r->ring, 0));
	ASSERT_EQ(0, copier_map_bar(r, 0));
	ASSERT_EQ(0, copier_store(r, 0, IO_REGBUF_DMABUF_COPY_OK));
	ASSERT_EQ(0, relay_open(r, 0, CARD_AREA));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_EQ(0, relay_run(r, &p, &run));
	net_close(&r->tcp);
	ASSERT_EQ(0, net_local("127.0.0.1", &r->tcp));
	ASSERT_EQ(0, piece_send(r->tcp.tx, &q, 0));
	ASSERT_NE(NULL, zcrx_prep(&r->z, r->tcp.rx, 0, RELAY_RECV));
	EXPECT_EQ(-ENOMEM, uring_do(&r->ring));
	CHECK_COPIED(r, 0, 0);
	EXPECT_EQ(0, net_recv(r->tcp.rx, &q, 1));
}

/* An area that may be copied to beside one that may not: only there is it copied to */
TEST_F(carded, one_of_two)
{
	const struct piece p = { SEED, 0, 64 * KiB };
	struct relay *r = &self->relay;
	struct io_uring_zcrx_area_reg first = area_slot(1, 0, SIZE / 2),
		second = area_slot(0, SIZE / 2, 128 * KiB);
	struct taken t = { 0 };

	ASSERT_EQ(0, copier_store(r, 1, 0));
	ASSERT_EQ(0, relay_open_area(r, &first));
	ASSERT_EQ(0, zcrx_add_area(&r->z, &second));
	ASSERT_EQ(0, net_local("127.0.0.1", &r->tcp));
	ASSERT_EQ(0, copier_stream(r, &p, &t));
	EXPECT_EQ(0, t.in[0]);
	EXPECT_EQ(p.len, t.in[1]);
	CHECK_COPIED(r, p.len, t.pieces);
	EXPECT_EQ(0, copier_bytes(r, 1));
}

/*
 * What sockets have of the area keeps neither its memory nor the slot: who opened them
 * may be anybody
 */
TEST_F(carded, ring_ends_first)
{
	const struct piece p = { SEED, 0, 64 * KiB };
	struct relay *r = &self->relay;

	ASSERT_EQ(0, relay_open(r, 0, CARD_AREA));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_EQ(0, piece_send(r->tcp.tx, &p, 0));
	ASSERT_EQ(0, net_wait_acked(r->tcp.tx));
	EXPECT_EQ(-EBUSY, bar_move(&r->mem, DMA_BUF_BAR_PLACE_B));
	ASSERT_EQ(0, relay_close(r));
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 0, net_patience()));
	EXPECT_EQ(0, bar_move(&r->mem, DMA_BUF_BAR_PLACE_B));
}

/* The card goes, with the area that it wrote to: by loopback it is still received */
TEST_F(carded, card_goes)
{
	const struct piece p = { SEED, 0, 64 * KiB };
	struct relay *r = &self->relay;
	struct taken t = { 0 };
	char driver[64];
	int ret;

	ASSERT_EQ(0, net_driver(&r->net, driver, sizeof(driver)));
	ASSERT_EQ(0, relay_open(r, 0, CARD_AREA));
	ASSERT_EQ(0, net_local("127.0.0.1", &r->tcp));
	ASSERT_EQ(0, copier_stream(r, &p, &t));
	ASSERT_EQ(0, net_unbind(&r->net, driver));
	r->settled = false;
	ret = zcrx_flush(&r->z) ?: copier_stream(r, &p, &t);
	EXPECT_EQ(0, net_rebind(&r->net, driver));
	ASSERT_EQ(0, ret);
	CHECK_COPIED(r, 2 * p.len, t.pieces);
}

TEST_HARNESS_MAIN
