// SPDX-License-Identifier: GPL-2.0
/*
 * Zerocopy sends of what a buffer ring names: one entry, or as many as there are
 * (IORING_RECVSEND_BUNDLE), of registered buffers.
 */
#include <sys/mman.h>

#include "bufgroup.h"
#include "bufring.h"
#include "common.h"
#include "netio.h"

#define SIZE		(1 * MiB)
#define SEED		NET_SEED
#define ENTRY		4096
#define MANY		64
/* What a packet has at most that vmxnet3 copies whole, as it does if it may read it */
#define VMXNET3_COPIES	(128 - 66)

FIXTURE(bundle) {
	struct netrig net;
	struct net_pair pair;
	struct bufring bufs;
	char *user;
	__u64 rng;
};

FIXTURE_VARIANT(bundle) {
	const char *card;		/* NULL: loopback */
	bool user;			/* ordinary memory is registered, not a dma-buf */
	enum mem_kind kind;
	int family;
	unsigned int ring;
	unsigned int sqe_flags;
	bool single;			/* IORING_SEND_ZC_SINGLE_CQE */
};

#define DEFER (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)

FIXTURE_VARIANT_ADD(bundle, lo_user) { .user = true };
FIXTURE_VARIANT_ADD(bundle, lo_user_single_defer) { .user = true, .single = true, .ring = DEFER };
FIXTURE_VARIANT_ADD(bundle, lo_user_async) { .user = true, .sqe_flags = IOSQE_ASYNC };
FIXTURE_VARIANT_ADD(bundle, lo_copied) { .kind = MEM_HEAP };
FIXTURE_VARIANT_ADD(bundle, e1000e) { .card = "e1000e", .kind = MEM_UDMABUF };
FIXTURE_VARIANT_ADD(bundle, e1000e_bar_single) {
	.card = "e1000e", .kind = MEM_BAR, .single = true
};

FIXTURE_VARIANT_ADD(bundle, vmxnet3_tcp6_sqpoll) {
	.card = "vmxnet3", .kind = MEM_UDMABUF, .family = AF_INET6,
	.ring = IORING_SETUP_SQPOLL
};

FIXTURE_VARIANT_ADD(bundle, vmxnet3_user_defer) { .card = "vmxnet3", .user = true, .ring = DEFER };
FIXTURE_VARIANT_ADD(bundle, igb_bar_async) {
	.card = "igb", .kind = MEM_BAR, .sqe_flags = IOSQE_ASYNC
};

/* The ring of the variant; slot 0 is the memory, and slot 1, too, from its middle on */
static int make_slots(struct netrig *n, unsigned int flags, int target, char *user,
		      bool copied)
{
	int ret = netrig_ring(n, 256, flags);

	for (unsigned int slot = 0; !ret && slot < 2; slot++) {
		struct io_uring_regbuf_desc d = desc_dmabuf(n->mem.fd, target);

		d.dmabuf_off = slot * SIZE / 2;
		if (copied)
			d.flags = IO_REGBUF_DMABUF_COPY_OK;
		if (user)
			d = desc_uaddr(user + slot * SIZE / 2, SIZE - slot * SIZE / 2);
		ret = reg_one(&n->ring, slot, &d);
	}
	return ret;
}

FIXTURE_SETUP(bundle)
{
	const char *card = variant->card;
	struct netrig *n = &self->net;

	self->pair = NET_PAIR_NONE;
	self->rng = 7311;
	NETRIG_UP(n, card, variant->kind, SIZE);
	ASSERT_EQ(0, net_tcp_any(n, variant->family ?: AF_INET, &self->pair));
	if (variant->user) {
		self->user = net_user(SIZE);
		ASSERT_NE(NULL, self->user);
	} else {
		ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, SEED));
	}
	ASSERT_EQ(0, make_slots(n, variant->ring, self->pair.tx, self->user,
				!card && !variant->user));
	ASSERT_EQ(0, bufring_create(&self->bufs, &n->ring, NET_GROUP, 256, 0));
}

FIXTURE_TEARDOWN(bundle)
{
	struct netrig *n = &self->net;

	bufring_destroy(&self->bufs);
	net_close(&self->pair);
	EXPECT_TRUE(netrig_let_go(n));
	if (self->user)
		munmap(self->user, SIZE);
	netrig_down(n);
}

/* Entry @bid: @len bytes of @slot, somewhere; what will arrive of it goes to *@p */
static void provide(struct bufring *b, __u64 *rng, __u16 slot, __u32 len, __u16 bid,
		    struct piece *p)
{
	__u64 off = rnd(rng) % (SIZE / 2 - len);

	*p = (struct piece) { SEED, slot * SIZE / 2 + off, len };
	bufring_add(b, bufring_reg(slot, off), len, bid);
}

/* group_sent_by() of the variant */
#define SENT(n, want, bid, more)					\
	group_sent_by(n, want, bid, more, variant->single,		\
		      net_copies(variant->card, variant->user))

TEST_F(bundle, one_by_one)
{
	struct netrig *n = &self->net;
	const bool lo = n->home < 0;
	struct piece p[8];
	bool reads;

	reads = net_copies(variant->card, variant->user) == ANY_COPIED;
	for (unsigned int i = 0; i < 8; i++)
		provide(&self->bufs, &self->rng, i & 1, 1 + i * 1000, 100 + i, &p[i]);
	for (unsigned int i = 0; i < 8; i++) {
		group_prep(n, self->pair.tx, 0, 0, variant->sqe_flags, variant->single);
		ASSERT_LE(0, uring_submit(&n->ring, 0));
		ASSERT_EQ(0, net_recv(self->pair.rx, &p[i], 1));
		ASSERT_EQ(0, group_sent_by(n, p[i].len, 100 + i, false, variant->single,
					   lo || (reads && p[i].len <= VMXNET3_COPIES) ?
						COPIED : NOT_COPIED));
		EXPECT_EQ(i + 1, bufring_head(&self->bufs));
	}
}

TEST_F(bundle, all_of_a_slot)
{
	struct netrig *n = &self->net;
	struct piece p[MANY];
	struct receiver r;

	for (unsigned int round = 0; round < 3; round++) {
		for (unsigned int i = 0; i < MANY; i++)
			provide(&self->bufs, &self->rng, round & 1, ENTRY, i, &p[i]);
		ASSERT_EQ(0, receiver_start(&r, self->pair.rx, p, MANY));
		group_prep(n, self->pair.tx, 0, IORING_RECVSEND_BUNDLE, variant->sqe_flags,
			   variant->single);
		ASSERT_LE(0, uring_submit(&n->ring, 0));
		ASSERT_EQ(0, SENT(n, MANY * ENTRY, 0, false));
		ASSERT_EQ(0, receiver_join(&r));
		EXPECT_EQ((round + 1) * MANY, bufring_head(&self->bufs));
	}
	EXPECT_TRUE(uring_quiet(&n->ring, 20));
}

/* The next bundle begins there */
TEST_F(bundle, ends_where_the_slot_does)
{
	struct netrig *n = &self->net;
	struct piece p[7];

	for (unsigned int i = 0; i < 7; i++)
		provide(&self->bufs, &self->rng, i >= 3, 20000 + i, 10 + i, &p[i]);
	for (unsigned int i = 0; i < 2; i++) {
		const struct piece *mine = i ? p + 3 : p;
		unsigned int nr = i ? 4 : 3;
		struct receiver r;

		ASSERT_EQ(0, receiver_start(&r, self->pair.rx, mine, nr));
		group_prep(n, self->pair.tx, 0, IORING_RECVSEND_BUNDLE, variant->sqe_flags,
			   variant->single);
		ASSERT_LE(0, uring_submit(&n->ring, 0));
		ASSERT_EQ(0, SENT(n, pieces_len(mine, nr), i ? 13 : 10, false));
		ASSERT_EQ(0, receiver_join(&r));
		EXPECT_EQ(i ? 7 : 3, bufring_head(&self->bufs));
	}
}

/* Entries are taken as a whole: what is not all within the length is left for the next */
TEST_F(bundle, up_to_a_length)
{
	struct netrig *n = &self->net;
	struct piece p[5];

	for (unsigned int i = 0; i < 5; i++)
		provide(&self->bufs, &self->rng, 0, ENTRY, i, &p[i]);
	group_prep(n, self->pair.tx, 10000, IORING_RECVSEND_BUNDLE, variant->sqe_flags,
		   variant->single);
	ASSERT_LE(0, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, net_recv(self->pair.rx, p, 2));
	ASSERT_EQ(0, SENT(n, 2 * ENTRY, 0, false));
	EXPECT_EQ(2, bufring_head(&self->bufs));
	/* but for the first one, of which there is no other use */
	group_prep(n, self->pair.tx, 1000, IORING_RECVSEND_BUNDLE, variant->sqe_flags,
		   variant->single);
	ASSERT_LE(0, uring_submit(&n->ring, 0));
	p[2].len = 1000;
	ASSERT_EQ(0, net_recv(self->pair.rx, p + 2, 1));
	ASSERT_EQ(0, SENT(n, 1000, 2, false));
	EXPECT_EQ(3, bufring_head(&self->bufs));
}

TEST_F(bundle, piece_by_piece)
{
	struct netrig *n = &self->net;
	struct bufring inc;

	bufring_destroy(&self->bufs);
	ASSERT_EQ(0, bufring_create(&inc, &n->ring, NET_GROUP, 8, IOU_PBUF_RING_INC));
	bufring_add(&inc, bufring_reg(1, 5000), 100000, 200);
	for (unsigned int i = 0; i < 4; i++) {
		const struct piece p = { SEED, SIZE / 2 + 5000 + i * 25000, 25000 };

		group_prep(n, self->pair.tx, 25000, i & 1 ? IORING_RECVSEND_BUNDLE : 0,
			   variant->sqe_flags, variant->single);
		ASSERT_LE(0, uring_submit(&n->ring, 0));
		ASSERT_EQ(0, net_recv(self->pair.rx, &p, 1));
		ASSERT_EQ(0, SENT(n, 25000, 200, i < 3));
	}
	bufring_destroy(&inc);
}

/* A bundle ends in the middle of an entry, and the next one begins there */
TEST_F(bundle, pieces_of_several)
{
	struct netrig *n = &self->net;
	struct bufring inc;
	const struct piece p[] = {
		{ SEED, 0, 5000 }, { SEED, 9000, 2000 }, { SEED, 11000, 4000 },
	};

	bufring_destroy(&self->bufs);
	ASSERT_EQ(0, bufring_create(&inc, &n->ring, NET_GROUP, 8, IOU_PBUF_RING_INC));
	bufring_add(&inc, bufring_reg(0, 0), 5000, 1);
	bufring_add(&inc, bufring_reg(0, 9000), 6000, 2);
	group_prep(n, self->pair.tx, 7000, IORING_RECVSEND_BUNDLE, variant->sqe_flags,
		   variant->single);
	ASSERT_LE(0, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, net_recv(self->pair.rx, p, 2));
	ASSERT_EQ(0, SENT(n, 7000, 1, true));
	group_prep(n, self->pair.tx, 7000, IORING_RECVSEND_BUNDLE, variant->sqe_flags,
		   variant->single);
	ASSERT_LE(0, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, net_recv(self->pair.rx, p + 2, 1));
	ASSERT_EQ(0, SENT(n, 4000, 2, false));
	bufring_destroy(&inc);
}

/* There is room for a part of it only, again and again; the order stays */
TEST_F(bundle, slow_receiver)
{
	struct netrig *n = &self->net;
	struct piece p[MANY];
	struct receiver r;

	for (unsigned int i = 0; i < MANY; i++)
		provide(&self->bufs, &self->rng, 0, 10000 + i, i, &p[i]);
	net_set(self->pair.tx, SOL_SOCKET, SO_SNDBUF, 16 * KiB);
	net_set(self->pair.rx, SOL_SOCKET, SO_RCVBUF, 16 * KiB);
	group_prep(n, self->pair.tx, 0, IORING_RECVSEND_BUNDLE, variant->sqe_flags,
		   variant->single);
	ASSERT_LE(0, uring_submit(&n->ring, 0));
	EXPECT_TRUE(uring_quiet(&n->ring, 100));
	/* all of them are this request's */
	EXPECT_EQ(MANY, bufring_head(&self->bufs));
	ASSERT_EQ(0, receiver_start(&r, self->pair.rx, p, MANY));
	ASSERT_EQ(0, SENT(n, pieces_len(p, MANY), 0, false));
	ASSERT_EQ(0, receiver_join(&r));
	EXPECT_TRUE(uring_quiet(&n->ring, 20));
}

/* One CQE with that error, or with its notification, and nothing is taken */
#define TAKES_NOTHING(n, b, err) do {					\
	struct uring_res res_;						\
	int head_ = bufring_head(b);					\
									\
	ASSERT_LE(0, uring_submit(&(n)->ring, 0));			\
	ASSERT_EQ(0, uring_wait(&(n)->ring, &res_, net_patience()));	\
	EXPECT_EQ(err, res_.res);					\
	EXPECT_EQ(0, res_.flags & ~IORING_CQE_F_MORE);			\
	if (res_.flags & IORING_CQE_F_MORE) {				\
		ASSERT_EQ(0, uring_wait(&(n)->ring, &res_, net_patience())); \
		EXPECT_EQ(IORING_CQE_F_NOTIF, res_.flags);		\
	}								\
	EXPECT_EQ(head_, bufring_head(b));				\
} while (0)

TEST_F(bundle, wrong_entries)
{
	static const struct {
		__u64 addr;
		__u32 len;
		int err;
	} wrong[] = {
		{ (__u64)NETRIG_SLOTS << IOU_PBUF_REGBUF_SHIFT, ENTRY, -EFAULT },
		{ (__u64)2 << IOU_PBUF_REGBUF_SHIFT, ENTRY, -EFAULT },	/* empty slot */
		{ (__u64)0xffff << IOU_PBUF_REGBUF_SHIFT, ENTRY, -EFAULT },
		{ SIZE - 100, ENTRY, -EFAULT },
		{ SIZE, ENTRY, -EFAULT },
		{ (1ULL << IOU_PBUF_REGBUF_SHIFT) - 1, ENTRY, -EFAULT },
		{ 0, 0, -ENOBUFS },
	};
	const struct piece p = { SEED, 777, ENTRY };
	struct netrig *n = &self->net;

	group_prep(n, self->pair.tx, 0, 0, variant->sqe_flags, variant->single);
	TAKES_NOTHING(n, &self->bufs, -ENOBUFS);
	bufring_add(&self->bufs, 0, 0, 5);
	for (unsigned int i = 0; i < 2 * ARRAY_SIZE(wrong); i++) {
		bufring_change(&self->bufs, wrong[i / 2].addr, wrong[i / 2].len, 5);
		group_prep(n, self->pair.tx, 0, i & 1 ? IORING_RECVSEND_BUNDLE : 0,
			   variant->sqe_flags, variant->single);
		TAKES_NOTHING(n, &self->bufs, wrong[i / 2].err);
	}
	/* one is wrong, and so are those before it */
	bufring_change(&self->bufs, bufring_reg(0, 777), ENTRY, 5);
	bufring_add(&self->bufs, bufring_reg(0, SIZE), ENTRY, 6);
	group_prep(n, self->pair.tx, 0, IORING_RECVSEND_BUNDLE, variant->sqe_flags,
		   variant->single);
	TAKES_NOTHING(n, &self->bufs, -EFAULT);
	/* by itself it is as good as ever */
	group_prep(n, self->pair.tx, 0, 0, variant->sqe_flags, variant->single);
	ASSERT_LE(0, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, net_recv(self->pair.rx, &p, 1));
	ASSERT_EQ(0, SENT(n, ENTRY, 5, false));
}

/*
 * Of what devices may only write nothing is taken, alone or in a bundle; when they may read
 * it, the same entries are sent
 */
TEST_F(bundle, wrong_direction)
{
	struct netrig *n = &self->net;
	struct io_uring_regbuf_desc d = desc_dmabuf(n->mem.fd, -1);
	struct piece p[4];

	ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, SEED));
	/* with a socket as its target it would be refused */
	d.flags = IO_REGBUF_DMABUF_ON_DEMAND | IO_REGBUF_DMABUF_WRONLY;
	if (!variant->card)
		d.flags |= IO_REGBUF_DMABUF_COPY_OK;
	ASSERT_EQ(0, reg_one(&n->ring, 2, &d));
	for (unsigned int i = 0; i < 4; i++) {
		provide(&self->bufs, &self->rng, i < 2 ? 0 : 2, ENTRY, 60 + i, &p[i]);
		if (i >= 2)
			p[i].pos -= SIZE;	/* slot 2 begins where the memory does */
	}
	group_prep(n, self->pair.tx, 0, IORING_RECVSEND_BUNDLE, variant->sqe_flags,
		   variant->single);
	ASSERT_LE(0, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, net_recv(self->pair.rx, p, 2));
	ASSERT_EQ(0, SENT(n, 2 * ENTRY, 60, false));
	for (unsigned int i = 0; i < 2; i++) {
		group_prep(n, self->pair.tx, 0, i ? IORING_RECVSEND_BUNDLE : 0,
			   variant->sqe_flags, variant->single);
		TAKES_NOTHING(n, &self->bufs, -EFAULT);
	}
	d.flags ^= IO_REGBUF_DMABUF_WRONLY | IO_REGBUF_DMABUF_RDONLY;
	ASSERT_EQ(0, reg_one(&n->ring, 2, &d));
	group_prep(n, self->pair.tx, 0, IORING_RECVSEND_BUNDLE, variant->sqe_flags,
		   variant->single);
	ASSERT_LE(0, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, net_recv(self->pair.rx, p + 2, 2));
	ASSERT_EQ(0, SENT(n, 2 * ENTRY, 62, false));
	EXPECT_EQ(4, bufring_head(&self->bufs));
}

TEST_F(bundle, wrong_requests)
{
	struct netrig *n = &self->net;
	struct io_uring_sqe *sqe;
	struct piece p;

	provide(&self->bufs, &self->rng, 0, ENTRY, 1, &p);
	/* no such group, and one that is no ring */
	group_prep(n, self->pair.tx, 0, 0, variant->sqe_flags, variant->single)->buf_group = 99;
	TAKES_NOTHING(n, &self->bufs, -ENOENT);
	sqe = uring_sqe(&n->ring);
	sqe->opcode = IORING_OP_PROVIDE_BUFFERS;
	sqe->fd = 1;
	sqe->addr = (uintptr_t)&p;
	sqe->len = sizeof(p);
	sqe->buf_group = 99;
	ASSERT_EQ(0, uring_do(&n->ring));
	group_prep(n, self->pair.tx, 0, 0, variant->sqe_flags, variant->single)->buf_group = 99;
	TAKES_NOTHING(n, &self->bufs, -EINVAL);
	/* both would say where the data is */
	group_prep(n, self->pair.tx, 0, IORING_SEND_VECTORIZED, variant->sqe_flags,
		   variant->single);
	TAKES_NOTHING(n, &self->bufs, -EINVAL);
	sqe = group_prep(n, self->pair.tx, 0, 0, variant->sqe_flags, variant->single);
	sqe->opcode = IORING_OP_SENDMSG_ZC;
	TAKES_NOTHING(n, &self->bufs, -EOPNOTSUPP);
	/* a bundle of what */
	sqe = group_prep(n, self->pair.tx, 100, IORING_RECVSEND_BUNDLE, variant->sqe_flags,
			 variant->single);
	sqe->flags &= ~IOSQE_BUFFER_SELECT;
	TAKES_NOTHING(n, &self->bufs, -EINVAL);
	/* no socket */
	sqe = group_prep(n, self->pair.tx, 0, 0, variant->sqe_flags, variant->single);
	sqe->fd = n->ring.fd;
	TAKES_NOTHING(n, &self->bufs, -ENOTSOCK);
}

/* What the socket refuses is named: it was taken */
TEST_F(bundle, refused_later)
{
	__u32 name = IORING_CQE_F_BUFFER | 44 << IORING_CQE_BUFFER_SHIFT;
	struct netrig *n = &self->net;
	struct uring_res res;
	struct piece p;

	provide(&self->bufs, &self->rng, 0, ENTRY, 44, &p);
	shutdown(self->pair.tx, SHUT_WR);
	group_prep(n, self->pair.tx, 0, 0, variant->sqe_flags, variant->single);
	ASSERT_LE(0, uring_submit(&n->ring, 0));
	ASSERT_EQ(0, uring_wait(&n->ring, &res, net_patience()));
	EXPECT_EQ(-EPIPE, res.res);
	EXPECT_EQ(name, res.flags & ~(IORING_CQE_F_MORE | IORING_CQE_F_ZC_COPIED));
	EXPECT_EQ(1, bufring_head(&self->bufs));
}

/* Its notification holds the slot: the tag comes after it */
TEST_F(bundle, slot_is_cleared)
{
	const __u64 tag = 0x7a67;
	struct io_uring_regbuf_desc d = desc_uaddr(self->user, SIZE);
	struct netrig *n = &self->net;
	struct piece p[MANY];
	struct uring_res res;
	struct receiver r;

	if (!variant->user || variant->single)
		SKIP(return, "one kind of it is enough");
	ASSERT_EQ(1, reg_update(&n->ring, 0, &d, &tag, 1));
	for (unsigned int i = 0; i < MANY; i++)
		provide(&self->bufs, &self->rng, 0, ENTRY, i, &p[i]);
	net_set(self->pair.tx, SOL_SOCKET, SO_SNDBUFFORCE, 4 * MiB);
	net_set(self->pair.rx, SOL_SOCKET, SO_RCVBUF, 16 * KiB);
	group_prep(n, self->pair.tx, 0, IORING_RECVSEND_BUNDLE, variant->sqe_flags, false);
	ASSERT_LE(0, uring_submit(&n->ring, 0));
	lab_sleep_ms(100);
	ASSERT_EQ(0, reg_clear(&n->ring, 0));
	ASSERT_EQ(0, receiver_start(&r, self->pair.rx, p, MANY));
	ASSERT_EQ(0, SENT(n, MANY * ENTRY, 0, false));
	ASSERT_EQ(0, uring_wait(&n->ring, &res, net_patience()));
	EXPECT_EQ(tag, res.user_data);
	ASSERT_EQ(0, receiver_join(&r));
}

/* ---- datagrams, and offsets that 32 bits do not have ---- */

TEST(a_bundle_is_a_datagram)
{
	struct netrig n;
	struct net_pair udp = NET_PAIR_NONE;
	struct bufring bufs;
	struct piece p[5];
	__u64 rng = 3;

	NETRIG_UP(&n, "e1000e", MEM_UDMABUF, SIZE);
	ASSERT_EQ(0, net_udp(&n, AF_INET, &udp));
	ASSERT_EQ(0, mem_fill(&n.mem, 0, 0, SIZE, SEED));
	ASSERT_EQ(0, make_slots(&n, 0, udp.tx, NULL, false));
	ASSERT_EQ(0, bufring_create(&bufs, &n.ring, NET_GROUP, 8, 0));
	for (unsigned int i = 0; i < 5; i++)
		provide(&bufs, &rng, 0, 200 + i, i, &p[i]);
	group_prep(&n, udp.tx, 0, IORING_RECVSEND_BUNDLE, 0, false);
	ASSERT_LE(0, uring_submit(&n.ring, 0));
	ASSERT_EQ(0, net_recv_datagram(udp.rx, p, 5));
	EXPECT_EQ(0, group_sent(&n, pieces_len(p, 5), 0, false, false));
	bufring_destroy(&bufs);
	net_close(&udp);
	netrig_down(&n);
}

#define PAGES_LEN	(2 * MiB)
#define FAR_LEN		(5 * GiB)

/* 5 GiB of addresses for 2 MiB of memory, again and again */
static char *map_far(int memfd)
{
	char *va = mmap(NULL, FAR_LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			-1, 0);

	for (__u64 off = 0; va != MAP_FAILED && off < FAR_LEN; off += PAGES_LEN)
		if (mmap(va + off, PAGES_LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			 memfd, 0) == MAP_FAILED)
			return MAP_FAILED;
	return va;
}

TEST(beyond_4_gib)
{
	static const __u64 offs[] = { 0, 4 * GiB - 100, 4 * GiB, 4 * GiB + 12345, FAR_LEN - ENTRY };
	struct io_uring_regbuf_desc d;
	struct netrig n;
	struct net_pair tcp;
	struct bufring bufs;
	struct piece p[2 * ARRAY_SIZE(offs)];
	unsigned int nr = 0;
	char *map, *va;
	int fd;

	if (lab_debug_kernel())
		SKIP(return, "a million pages are too many for it");
	NETRIG_UP(&n, NULL, MEM_UDMABUF, SIZE);
	fd = memfd_sealed(PAGES_LEN, &map);
	ASSERT_LE(0, fd);
	pattern_fill(map, 0, PAGES_LEN, SEED);
	va = map_far(fd);
	ASSERT_NE(MAP_FAILED, va);
	ASSERT_EQ(0, net_local("127.0.0.1", &tcp));
	d = desc_uaddr(va, FAR_LEN);
	ASSERT_EQ(0, reg_one(&n.ring, 0, &d));
	ASSERT_EQ(0, bufring_create(&bufs, &n.ring, NET_GROUP, 8, 0));
	for (unsigned int i = 0; i < ARRAY_SIZE(offs); i++) {
		__u64 pos = offs[i] % PAGES_LEN;
		__u64 left = PAGES_LEN - pos, first = left < ENTRY ? left : ENTRY;

		bufring_add(&bufs, bufring_reg(0, offs[i]), ENTRY, i);
		p[nr++] = (struct piece) { SEED, pos, first };
		if (first < ENTRY)
			p[nr++] = (struct piece) { SEED, 0, ENTRY - first };
	}
	group_prep(&n, tcp.tx, 0, IORING_RECVSEND_BUNDLE, 0, false);
	ASSERT_LE(0, uring_submit(&n.ring, 0));
	ASSERT_EQ(0, net_recv(tcp.rx, p, nr));
	EXPECT_EQ(0, group_sent(&n, ARRAY_SIZE(offs) * ENTRY, 0, false, false));
	bufring_destroy(&bufs);
	net_close(&tcp);
	munmap(va, FAR_LEN);
	munmap(map, PAGES_LEN);
	close(fd);
	netrig_down(&n);
}

TEST_HARNESS_MAIN
