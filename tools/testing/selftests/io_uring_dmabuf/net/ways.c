// SPDX-License-Identifier: GPL-2.0
/*
 * Each way to send, from each kind of memory, by IPv4 and IPv6, on each kind of ring: all of
 * them, by each card. The other programs take a part, and look closer.
 */
#include <string.h>
#include <sys/mman.h>

#include "bufgroup.h"
#include "bufring.h"
#include "common.h"
#include "netio.h"

#define SIZE	(512 * KiB)
#define SEED	NET_SEED
#define GROUP	5
#define PIECES	16
#define LENGTH	9001		/* of a piece: no multiple of anything */

static const struct memory {
	const char *name;
	bool user;
	enum mem_kind kind;
} memories[] = {
	{ "user memory", .user = true },
	{ "udmabuf", .kind = MEM_UDMABUF },
	{ "heap", .kind = MEM_HEAP },
	{ "BAR", .kind = MEM_BAR },
};

static const struct family {
	const char *name;
	int family;
} families[] = {
	{ "IPv4", AF_INET },
	{ "IPv6", AF_INET6 },
};

FIXTURE(ways) {
	struct netrig net;
	const char *card;
	struct net_pair pair[ARRAY_SIZE(families)];
	char *user;
	__u64 rng;
};

FIXTURE_VARIANT(ways) {
	const char *card;
};

FIXTURE_VARIANT_ADD(ways, e1000e) { "e1000e" };
FIXTURE_VARIANT_ADD(ways, vmxnet3) { "vmxnet3" };
FIXTURE_VARIANT_ADD(ways, igb) { "igb" };

FIXTURE_SETUP(ways)
{
	struct netrig *n = &self->net;

	for (unsigned int i = 0; i < ARRAY_SIZE(families); i++)
		self->pair[i] = NET_PAIR_NONE;
	self->rng = 8801;
	self->card = variant->card;
	NETRIG_UP(n, variant->card, MEM_UDMABUF, SIZE);
	for (unsigned int i = 0; i < ARRAY_SIZE(families); i++)
		ASSERT_EQ(0, net_tcp(n, families[i].family, &self->pair[i]));
	self->user = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	ASSERT_NE(MAP_FAILED, self->user);
	pattern_fill(self->user, 0, SIZE, SEED);
}

FIXTURE_TEARDOWN(ways)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(families); i++)
		net_close(&self->pair[i]);
	netrig_down(&self->net);
	munmap(self->user, SIZE);
}

/* What is different between the ways */
struct way {
	bool single, provided, bundle;
	bool plain;			/* memory that is not registered */
	bool demand;			/* registered for no device */
	enum net_form form;
};

#define BUNDLE .provided = true, .bundle = true

static bool takes(const struct way *w, const struct memory *m)
{
	return m->user ? !w->demand : !w->plain;
}

/* Slot 0 of a new ring is the memory; on demand, nobody has attached the card before */
static int make_ring(struct netrig *n, const struct way *w, const struct uring_kind *k,
		     const struct mem *mem, char *user, int target)
{
	struct io_uring_regbuf_desc d = mem->fd < 0 ? desc_uaddr(user, SIZE) :
					desc_dmabuf(mem->fd, w->demand ? -1 : target);
	int ret;

	uring_exit(&n->ring);
	if (w->demand) {
		d.flags = IO_REGBUF_DMABUF_ON_DEMAND;
		if (!bufinfo_wait(mem->fd, 0, net_patience()))
			return -EBUSY;
	}
	ret = uring_init(&n->ring, 64, k->setup);
	if (!ret)
		ret = reg_sparse(&n->ring, 1);
	return ret || w->plain ? ret : reg_one(&n->ring, 0, &d);
}

static void prepare(struct netrig *n, struct bufring *b, const struct way *w, __u64 base,
		    const struct uring_kind *k, int fd, const struct piece *p, unsigned int nr)
{
	/* the request is submitted before there is another */
	static struct net_vec vec;
	struct io_uring_sqe *sqe = w->provided ? net_prep(n, fd, GROUP, 0, 0, MSG_WAITALL) :
				   net_prep(n, fd, 0, base + p->pos, p->len, MSG_WAITALL);

	net_reform(sqe, w->form, &vec);
	sqe->flags |= k->sqe_flags;
	if (w->single)
		sqe->ioprio |= IORING_SEND_ZC_SINGLE_CQE;
	if (w->plain)
		sqe->ioprio &= ~IORING_RECVSEND_FIXED_BUF;
	if (!w->provided)
		return;
	sqe->flags |= IOSQE_BUFFER_SELECT;
	if (w->bundle)
		sqe->ioprio |= IORING_RECVSEND_BUNDLE;
	for (unsigned int i = 0; i < nr; i++)
		bufring_add(b, w->plain ? base + p[i].pos : bufring_reg(0, p[i].pos), p[i].len,
			    70 + i);
}

/* All completions, with all of their flags; nothing was copied, unless it @may be */
static int completes(struct netrig *n, const struct way *w, int want, bool may)
{
	__u32 flags = w->provided ? IORING_CQE_F_BUFFER | 70U << IORING_CQE_BUFFER_SHIFT : 0;
	struct uring_res res;
	int ret = uring_wait(&n->ring, &res, net_patience());

	if (ret)
		return ret;
	if (may && w->single)
		res.flags &= ~IORING_CQE_F_ZC_COPIED;
	if (res.res != want || res.flags != (flags | (w->single ? 0 : IORING_CQE_F_MORE)))
		goto wrong;
	if (w->single)
		return 0;
	ret = uring_wait(&n->ring, &res, net_patience());
	if (ret)
		return ret;
	if (may && (unsigned int)res.res == IORING_NOTIF_USAGE_ZC_COPIED)
		res.res = 0;
	if (!res.res && res.flags == (flags | IORING_CQE_F_NOTIF))
		return 0;
wrong:
	fprintf(stderr, "# res %d, flags 0x%x\n", res.res, res.flags);
	return -EPROTO;
}

static int once(struct netrig *n, const struct way *w, const struct uring_kind *k,
		const struct net_pair *pair, __u64 base, bool may, __u64 *rng)
{
	unsigned int nr = w->bundle ? PIECES : 1;
	struct bufring b = { 0 };
	struct piece p[PIECES];
	struct receiver r;
	int ret = 0, got;

	if (w->provided)
		ret = bufring_create(&b, &n->ring, GROUP, 32, 0);
	if (ret)
		return ret;
	for (unsigned int i = 0; i < nr; i++)
		p[i] = (struct piece) { SEED, rnd(rng) % (SIZE - LENGTH * 10),
					w->bundle ? LENGTH : LENGTH * 10 };
	ret = receiver_start(&r, pair->rx, p, nr);
	if (!ret) {
		prepare(n, &b, w, base, k, pair->tx, p, nr);
		ret = uring_submit(&n->ring, 0);
		ret = ret < 0 ? ret : completes(n, w, pieces_len(p, nr), may);
		got = ret ? receiver_stop(&r) : receiver_join(&r);
		ret = ret ?: got;
	}
	if (w->provided) {
		if (!ret && bufring_head(&b) != nr)
			ret = -EBADMSG;
		bufring_destroy(&b);
	}
	return ret;
}

/* The card has become a target, by one mapping */
static int demanded(struct netrig *n)
{
	struct io_uring_query_regbuf_map q;
	int ret = net_query(n, 0, &q);

	return ret ?: q.nr_targets == 1 && q.maps == 1 ? 0 : -EBADMSG;
}

/* All went right, and none was left out */
static void everywhere(struct __test_metadata *_metadata, struct _test_data_ways *self,
		       const struct way *w)
{
	struct netrig *n = &self->net;
	unsigned int done = 0, kinds = 0;

	for (unsigned int m = 0; m < ARRAY_SIZE(memories); m++) {
		struct mem mem = { .fd = -1 };

		if (!takes(w, &memories[m]))
			continue;
		/* behind an IOMMU one heap stands for both: net_mem() */
		if (memories[m].kind == MEM_HEAP && strcmp(lab_env("LAB_IOMMU"), "off"))
			continue;
		kinds++;
		if (!memories[m].user) {
			ASSERT_EQ(0, net_mem(&mem, memories[m].kind, SIZE));
			ASSERT_EQ(0, mem_fill(&mem, 0, 0, SIZE, SEED));
		}
		for (unsigned int f = 0; f < ARRAY_SIZE(families); f++)
			for (unsigned int k = 0; k < URING_KINDS; k++) {
				const struct net_pair *pair = &self->pair[f];
				__u64 base = memories[m].user ? (uintptr_t)self->user : 0;
				int ret = make_ring(n, w, &uring_kinds[k], &mem, self->user,
						    pair->tx);

				ret = ret ?: once(n, w, &uring_kinds[k], pair, base,
						  net_copies(self->card, memories[m].user) ==
							ANY_COPIED,
						  &self->rng);
				if (!ret && w->demand)
					ret = demanded(n);
				EXPECT_EQ(0, ret) {
					TH_LOG("%s, %s, %s", memories[m].name, families[f].name,
					       uring_kinds[k].name);
				}
				done++;
			}
		uring_exit(&n->ring);
		if (mem.fd >= 0) {
			EXPECT_TRUE(bufinfo_wait(mem.fd, 0, net_patience()));
			mem_destroy(&mem);
		}
	}
	EXPECT_LE(w->plain ? 1 : w->demand ? 2 : 3, kinds);
	EXPECT_EQ(kinds * ARRAY_SIZE(families) * URING_KINDS, done);
}

TEST_F(ways, two_completions)
{
	everywhere(_metadata, self, &(struct way) { 0 });
}

TEST_F(ways, one_completion)
{
	everywhere(_metadata, self, &(struct way) { .single = true });
}

TEST_F(ways, message_with_one_completion)
{
	everywhere(_metadata, self, &(struct way) { .single = true, .form = NET_MESSAGE });
}

/* Behind the first send the card is a target: attached by a worker */
TEST_F(ways, demand)
{
	everywhere(_metadata, self, &(struct way) { .demand = true });
}

TEST_F(ways, plain)
{
	everywhere(_metadata, self, &(struct way) { .provided = true, .plain = true });
}

TEST_F(ways, provided)
{
	everywhere(_metadata, self, &(struct way) { .provided = true });
}

TEST_F(ways, bundle)
{
	everywhere(_metadata, self, &(struct way) { BUNDLE });
}

TEST_F(ways, bundle_with_one_completion)
{
	everywhere(_metadata, self, &(struct way) { .single = true, BUNDLE });
}

TEST_F(ways, bundle_on_demand)
{
	everywhere(_metadata, self, &(struct way) { .single = true, BUNDLE, .demand = true });
}

TEST_F(ways, plain_bundle)
{
	everywhere(_metadata, self, &(struct way) { .single = true, BUNDLE, .plain = true });
}

TEST_HARNESS_MAIN
