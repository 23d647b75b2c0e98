// SPDX-License-Identifier: GPL-2.0
/*
 * TCP from dma-bufs: every byte that is sent arrives, in order and once, and
 * none of them is copied, whatever the sizes, the memory, and who else sends.
 */
#include "common.h"
#include "netio.h"

#define SIZE		(4 * MiB)	/* of the memory in slot 0 */
#define SEED		NET_SEED	/* of its content */
#define MAX_PIECES	320

FIXTURE(send) {
	struct netrig net;
	struct net_pair tcp;
	struct net_pair more[3];
	__u64 rng;
};

FIXTURE_VARIANT(send) {
	const char *card;
	int family;
	enum mem_kind kind;
};

FIXTURE_VARIANT_ADD(send, e1000e_tcp4) {
	.card = "e1000e", .family = AF_INET, .kind = MEM_UDMABUF,
};

FIXTURE_VARIANT_ADD(send, e1000e_tcp6) {
	.card = "e1000e", .family = AF_INET6, .kind = MEM_UDMABUF_4K,
};

FIXTURE_VARIANT_ADD(send, e1000e_tcp4_bar) {
	.card = "e1000e", .family = AF_INET, .kind = MEM_BAR,
};

FIXTURE_VARIANT_ADD(send, vmxnet3_tcp4) {
	.card = "vmxnet3", .family = AF_INET, .kind = MEM_UDMABUF_4K,
};

FIXTURE_VARIANT_ADD(send, vmxnet3_tcp6_bar) {
	.card = "vmxnet3", .family = AF_INET6, .kind = MEM_BAR_MIXED,
};

FIXTURE_VARIANT_ADD(send, igb_tcp4) {
	.card = "igb", .family = AF_INET, .kind = MEM_UDMABUF_4K,
};

FIXTURE_VARIANT_ADD(send, igb_tcp6_bar) {
	.card = "igb", .family = AF_INET6, .kind = MEM_BAR,
};

FIXTURE_SETUP(send)
{
	struct netrig *n = &self->net;

	self->rng = 7300;
	self->tcp = NET_PAIR_NONE;
	for (int i = 0; i < 3; i++)
		self->more[i] = NET_PAIR_NONE;
	NETRIG_UP(n, variant->card, variant->kind, SIZE);
	ASSERT_EQ(0, net_tcp(n, variant->family, &self->tcp));
	ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, SEED));
	ASSERT_EQ(0, reg_dmabuf(&n->ring, 0, n->mem.fd, self->tcp.tx));
}

FIXTURE_TEARDOWN(send)
{
	/* a process does not end before its notifications have come */
	net_close(&self->tcp);
	for (int i = 0; i < 3; i++)
		net_close(&self->more[i]);
	netrig_down(&self->net);
}

/* Everything arrived, every notification came, and none said "copied" */
static void check_arrived(struct __test_metadata *_metadata, struct netrig *n,
			  struct receiver *r)
{
	ASSERT_EQ(0, receiver_join(r));
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(0, n->copied);
}

static struct piece random_piece(__u64 *rng, __u64 len)
{
	return piece_random(rng, len, SIZE, SEED);
}

static int send_piece(struct netrig *n, int fd, const struct piece *p)
{
	return net_send_all(n, fd, 0, p->pos, p->len, 0);
}

/* Offsets are as odd as they come */
TEST_F(send, sizes)
{
	static const __u32 lens[] = {
		1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 100, 1000, 1427, 1428, 1429,
		1447, 1448, 1449, 4095, 4096, 4097, 8192, 16383, 16384, 16385,
		65483, 65535, 65536, 65537, 100000, 1 * MiB - 1, 1 * MiB + 13,
	};
	struct piece pieces[2 * ARRAY_SIZE(lens) + 1];
	struct io_uring_query_regbuf_map before, after;
	unsigned int nr = ARRAY_SIZE(pieces);
	struct netrig *n = &self->net;
	struct receiver r;

	for (unsigned int i = 0; i < nr - 1; i++)
		pieces[i] = random_piece(&self->rng, lens[i % ARRAY_SIZE(lens)]);
	pieces[nr - 1] = random_piece(&self->rng, SIZE);
	ASSERT_EQ(0, net_query(n, 0, &before));
	ASSERT_EQ(0, receiver_start(&r, self->tcp.rx, pieces, nr));
	for (unsigned int i = 0; i < nr; i++) {
		ASSERT_EQ(0, send_piece(n, self->tcp.tx, &pieces[i]));
	}
	check_arrived(_metadata, n, &r);
	ASSERT_EQ(0, net_query(n, 0, &after));
	EXPECT_GE(after.hits - before.hits, nr);
	EXPECT_EQ(1, after.maps);
	EXPECT_EQ(0, after.copied_bytes);
	EXPECT_STREQ(n->pci, after.device);
	ksft_print_msg("%s: %llu entries, %llu bytes\n",
		       mem_kind_name(n->mem.kind), after.entries,
		       after.table_bytes);
	/* nine pieces in each MiB; granules of 4 KiB would be 256 */
	if (n->mem.kind == MEM_BAR_MIXED)
		EXPECT_LE(after.entries, 9 * SIZE / MiB);
}

/* The first and the last bytes of the buffer, and nothing at all */
TEST_F(send, ends_of_the_buffer)
{
	const struct piece pieces[] = {
		{ SEED, 0, 1 }, { SEED, SIZE - 1, 1 }, { SEED, SIZE - 4097, 4097 },
		{ SEED, 4095, 2 },
	};
	struct netrig *n = &self->net;
	int tx = self->tcp.tx;

	EXPECT_EQ(0, net_send(n, tx, 0, 0, 0, 0));
	EXPECT_EQ(0, net_send(n, tx, 0, SIZE, 0, 0));
	for (unsigned int i = 0; i < 4; i++) {
		ASSERT_EQ(0, send_piece(n, tx, &pieces[i]));
	}
	EXPECT_EQ(0, net_recv(self->tcp.rx, pieces, 4));
	ASSERT_EQ(0, net_idle(n));
}

/* One request for all of a large buffer */
TEST_F(send, large)
{
	bool bar = mem_is_bar(&self->net.mem);
	__u64 size = lab_scale(bar ? 16 : 64, 4) * MiB;
	const struct piece all = { SEED + 1, 0, size };
	struct netrig *n = &self->net;
	struct receiver r;
	struct mem mem;

	ASSERT_EQ(0, net_mem(&mem, variant->kind, size));
	ASSERT_EQ(0, mem_fill(&mem, 0, 0, size, SEED + 1));
	ASSERT_EQ(0, reg_dmabuf(&n->ring, 1, mem.fd, self->tcp.tx));
	ASSERT_EQ(0, receiver_start(&r, self->tcp.rx, &all, 1));
	EXPECT_EQ(size, net_send(n, self->tcp.tx, 1, 0, size, MSG_WAITALL));
	check_arrived(_metadata, n, &r);
	mem_destroy(&mem);
}

/* Many short sends, which the kernel goes on with by itself */
TEST_F(send, waitall_with_a_small_sndbuf)
{
	__u32 len = lab_scale(1 * MiB, 256 * KiB) - 11;
	struct piece all = random_piece(&self->rng, len);
	struct netrig *n = &self->net;
	struct receiver r;

	ASSERT_EQ(0, net_set(self->tcp.tx, SOL_SOCKET, SO_SNDBUF, 4096));
	ASSERT_EQ(0, receiver_start(&r, self->tcp.rx, &all, 1));
	EXPECT_EQ(len, net_send(n, self->tcp.tx, 0, all.pos, len, MSG_WAITALL));
	check_arrived(_metadata, n, &r);
}

/* Short sends, which the program goes on with: it is told how far it came */
TEST_F(send, short_sends)
{
	struct piece all = random_piece(&self->rng, 2 * MiB + 1);
	unsigned int shorter = 0, again = 0;
	struct netrig *n = &self->net;
	int tx = self->tcp.tx, ret;
	struct receiver r;
	__u64 done = 0;

	ASSERT_EQ(0, net_set(tx, SOL_SOCKET, SO_SNDBUF, 32 * KiB));
	ASSERT_EQ(0, receiver_start(&r, self->tcp.rx, &all, 1));
	while (done < all.len) {
		struct pollfd pfd = { .fd = tx, .events = POLLOUT };

		ret = net_send(n, tx, 0, all.pos + done, all.len - done,
			       MSG_DONTWAIT);
		if (ret == -EAGAIN) {
			again++;
			ASSERT_EQ(1, poll(&pfd, 1, net_patience()));
			continue;
		}
		ASSERT_GT(ret, 0);
		shorter += ret < all.len - done;
		done += ret;
	}
	check_arrived(_metadata, n, &r);
	EXPECT_GT(shorter, 0);
	ksft_print_msg("%u short sends, EAGAIN %u times\n", shorter, again);
}

/* Cuts about @len bytes into @nr random pieces of at least one byte */
static __u64 random_pieces(__u64 *rng, struct piece *pieces, unsigned int nr,
			   __u64 len)
{
	__u64 max = 2 * len / nr, total = 0;

	for (unsigned int i = 0; i < nr; i++) {
		pieces[i] = random_piece(rng, 1 + rnd(rng) % max);
		total += pieces[i].len;
	}
	return total;
}

static int send_vectorized(struct netrig *n, int fd, const struct iovec *iov,
			   unsigned int nr)
{
	struct io_uring_sqe *sqe;

	sqe = net_prep(n, fd, 0, (uintptr_t)iov, nr, MSG_WAITALL);
	sqe->ioprio |= IORING_SEND_VECTORIZED;
	return net_do(n);
}

/* SENDMSG_ZC, and SEND_ZC with a vector, in turns */
TEST_F(send, vectors)
{
	static const struct {
		unsigned int nr;
		__u64 len;
	} vecs[] = {
		{ 1, 5000 }, { 2, 64 }, { 2, 3000 }, { 3, 200000 }, { 8, 1000 },
		{ 16, 16 * 1448 }, { 17, 17 * 4096 }, { 18, 18 * 4096 },
		{ 64, 500000 }, { 80, 20000 },
	};
	struct piece pieces[MAX_PIECES], *p = pieces;
	__u64 len[ARRAY_SIZE(vecs)];
	struct netrig *n = &self->net;
	struct iovec iov[MAX_PIECES];
	struct receiver r;
	int ret;

	for (unsigned int i = 0; i < ARRAY_SIZE(vecs); i++) {
		len[i] = random_pieces(&self->rng, p, vecs[i].nr, vecs[i].len);
		p += vecs[i].nr;
	}
	ASSERT_EQ(0, receiver_start(&r, self->tcp.rx, pieces, p - pieces));
	p = pieces;
	for (unsigned int i = 0; i < ARRAY_SIZE(vecs); i++) {
		pieces_iov(p, vecs[i].nr, iov);
		if (i & 1)
			ret = send_vectorized(n, self->tcp.tx, iov, vecs[i].nr);
		else
			ret = net_sendv(n, self->tcp.tx, 0, iov, vecs[i].nr,
					MSG_WAITALL);
		EXPECT_EQ(len[i], ret);
		p += vecs[i].nr;
	}
	check_arrived(_metadata, n, &r);
}

/* A segment can hold more of these than an skb has frags, a card descriptors */
TEST_F(send, tiny_pieces)
{
	struct piece pieces[MAX_PIECES];
	struct iovec iov[MAX_PIECES];
	struct netrig *n = &self->net;
	struct receiver r;
	__u64 len;

	len = random_pieces(&self->rng, pieces, 200, 200 * 20);
	pieces_iov(pieces, 200, iov);
	ASSERT_EQ(0, receiver_start(&r, self->tcp.rx, pieces, 200));
	EXPECT_EQ(len, net_sendv(n, self->tcp.tx, 0, iov, 200, MSG_WAITALL));
	check_arrived(_metadata, n, &r);
}

/* Offsets count from the start of the range, and end with it */
TEST_F(send, sub_range)
{
	const __u64 start = 77 * 4096, size = 300 * 4096;
	struct netrig *n = &self->net;
	struct io_uring_regbuf_desc d = desc_dmabuf(n->mem.fd, self->tcp.tx);
	struct piece pieces[8];
	struct receiver r;

	d.dmabuf_off = start;
	d.size = size;
	ASSERT_EQ(0, reg_one(&n->ring, 1, &d));
	for (unsigned int i = 0; i < 8; i++) {
		pieces[i] = piece_random(&self->rng, 1 + rnd(&self->rng) % 100000,
					 size, SEED);
		pieces[i].pos += start;
	}
	pieces[0].pos = start;
	pieces[7] = (struct piece) { SEED, start + size - 5001, 5001 };
	ASSERT_EQ(0, receiver_start(&r, self->tcp.rx, pieces, 8));
	for (unsigned int i = 0; i < 8; i++) {
		ASSERT_EQ(0, net_send_all(n, self->tcp.tx, 1, pieces[i].pos - start,
					  pieces[i].len, 0));
		EXPECT_EQ(-EFAULT, net_send(n, self->tcp.tx, 1, size - i, i + 1, 0));
	}
	check_arrived(_metadata, n, &r);
}

/* Slots 0, 1: two dma-bufs; 2: ordinary memory; and send(2) */
enum source { FIRST, SECOND, PLAIN, SYSCALL, SOURCES };

#define SECOND_SIZE	(256 * KiB)

struct sources {
	struct mem second;
	char *plain;
};

static int sources_init(struct sources *s, struct netrig *n, int tx)
{
	struct io_uring_regbuf_desc d;
	int ret;

	ret = net_mem(&s->second, MEM_UDMABUF, SECOND_SIZE);
	if (!ret)
		ret = mem_fill(&s->second, 0, 0, SECOND_SIZE, SEED + SECOND);
	if (!ret)
		ret = reg_dmabuf(&n->ring, 1, s->second.fd, tx);
	if (ret)
		return ret;
	s->plain = aligned_alloc(4096, SECOND_SIZE);
	pattern_fill(s->plain, 0, SECOND_SIZE, SEED + PLAIN);
	d = desc_uaddr(s->plain, SECOND_SIZE);
	return reg_one(&n->ring, 2, &d);
}

static struct piece source_piece(__u64 *rng, enum source from)
{
	__u64 max = rnd(rng) % 3 ? 300 : 30000;
	__u64 len = 1 + rnd(rng) % max;

	return piece_random(rng, len, SECOND_SIZE, SEED + from);
}

static int source_send(struct netrig *n, const struct sources *s, int tx,
		       const struct piece *p, int flags)
{
	enum source from = p->seed - SEED;

	if (from == SYSCALL)
		return piece_send(tx, p, flags);
	return net_send_all(n, tx, from,
			    from == PLAIN ? (uintptr_t)s->plain + p->pos : p->pos,
			    p->len, flags);
}

/* Memory that can be read, and memory that cannot, of two buffers */
TEST_F(send, interleaved)
{
	struct piece pieces[MAX_PIECES];
	struct netrig *n = &self->net;
	unsigned int nr = lab_scale(MAX_PIECES, 120);
	struct receiver r;
	struct sources s;

	ASSERT_EQ(0, sources_init(&s, n, self->tcp.tx));
	for (unsigned int i = 0; i < nr; i++)
		pieces[i] = source_piece(&self->rng, rnd(&self->rng) % SOURCES);
	ASSERT_EQ(0, receiver_start(&r, self->tcp.rx, pieces, nr));
	for (unsigned int i = 0; i < nr; i++) {
		bool more = i < nr - 1 && !(rnd(&self->rng) % 3);

		ASSERT_EQ(0, source_send(n, &s, self->tcp.tx, &pieces[i],
					 more ? MSG_MORE : 0));
	}
	ASSERT_EQ(0, receiver_join(&r));
	ASSERT_EQ(0, net_idle(n));
	mem_destroy(&s.second);
	ASSERT_EQ(0, reg_clear(&n->ring, 2));
	free(s.plain);
}

/* What is registered is the card: other sockets that leave by it may send, too */
TEST_F(send, other_sockets)
{
	static const int families[] = { AF_INET, AF_INET6, AF_INET };
	struct net_pair *pairs = self->more;
	struct netrig *n = &self->net;
	struct piece pieces[3][16];
	struct receiver r[3];

	for (int i = 0; i < 3; i++) {
		for (int k = 0; k < 16; k++)
			pieces[i][k] = random_piece(&self->rng,
						    1 + rnd(&self->rng) % 20000);
		ASSERT_EQ(0, net_tcp(n, families[i], &pairs[i]));
		ASSERT_EQ(0, receiver_start(&r[i], pairs[i].rx, pieces[i], 16));
	}
	/* the one that was registered is not needed any more */
	net_close(&self->tcp);
	for (int k = 0; k < 16; k++) {
		for (int i = 0; i < 3; i++) {
			ASSERT_EQ(0, send_piece(n, pairs[i].tx, &pieces[i][k]));
		}
	}
	for (int i = 0; i < 3; i++) {
		check_arrived(_metadata, n, &r[i]);
	}
}

#define BLOCK	(128 * KiB)
#define BLOCKS	8

/* Drive and card are targets of one slot: a read, linked to a send */
TEST_F(send, from_a_drive)
{
	struct netrig *n = &self->net;
	struct io_uring_regbuf_desc d = desc_dmabuf(n->mem.fd, self->tcp.tx);
	int disk = NEED_DISK("LAB_NVME_MAIN");
	struct piece pieces[BLOCKS];
	struct uring_res res;
	struct receiver r;

	d.targets = (uintptr_t)&disk;
	d.nr_targets = 1;
	ASSERT_EQ(0, reg_one(&n->ring, 1, &d));
	ASSERT_EQ(0, disk_fill(disk, 0, BLOCKS * BLOCK, 7400));
	ASSERT_EQ(0, mem_poison(&n->mem, 0, SIZE, POISON));
	for (int i = 0; i < BLOCKS; i++)
		pieces[i] = (struct piece) { 7400, i * BLOCK, BLOCK };
	ASSERT_EQ(0, receiver_start(&r, self->tcp.rx, pieces, BLOCKS));
	for (int i = 0; i < BLOCKS; i++) {
		/* backwards in memory, so that no order is right by chance */
		__u64 off = (BLOCKS - 1 - i) * BLOCK;

		uring_prep_rw(&n->ring, IORING_OP_READ_FIXED, disk, i * BLOCK,
			      off, BLOCK, 1)->flags = IOSQE_IO_LINK;
		net_prep(n, self->tcp.tx, 1, off, BLOCK, MSG_WAITALL);
		ASSERT_EQ(2, uring_submit(&n->ring, 0));
		ASSERT_EQ(0, net_result(n, &res));
		EXPECT_EQ(BLOCK, res.res);
		ASSERT_EQ(0, net_result(n, &res));
		EXPECT_EQ(BLOCK, res.res);
	}
	check_arrived(_metadata, n, &r);
	close(disk);
}

TEST_HARNESS_MAIN
