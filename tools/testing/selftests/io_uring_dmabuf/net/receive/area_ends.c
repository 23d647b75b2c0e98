// SPDX-License-Identifier: GPL-2.0
/*
 * What ends first: the slot, the area, the card, the process. Pieces are out whenever
 * something ends, and more have arrived that nobody has taken.
 */
#include <signal.h>
#include <sys/wait.h>
#include <linux/dma-buf-bar.h>

#include "common.h"
#include "relay.h"
#include "steer.h"

#define SEED	NET_SEED
#define SIZE	(4 * MiB)
#define AREA	(3 * MiB)
#define HELD	(64 * 4096)	/* bytes that the application has */
#define QUEUED	(16 * 4096)	/* and that it has not taken */
#define MAX	512
#define TAG	0x7a67
#define QUIET	300	/* milliseconds in which nothing arrives */

static const struct piece first = { SEED, 0, HELD };
static const struct piece second = { SEED + 1, 0, QUEUED };

FIXTURE(area_ends) {
	struct relay relay;
	struct arrived held[MAX];
	int nr;
	char driver[64];
	bool unbound;
};

FIXTURE_VARIANT(area_ends) {
	const char *card;
	enum mem_kind kind;
};

FIXTURE_VARIANT_ADD(area_ends, udmabuf) { .card = "e1000e", .kind = MEM_UDMABUF_4K };
FIXTURE_VARIANT_ADD(area_ends, bar) { .card = "e1000e", .kind = MEM_BAR };
FIXTURE_VARIANT_ADD(area_ends, igb) { .card = "igb", .kind = MEM_UDMABUF_4K };

FIXTURE_SETUP(area_ends)
{
	RELAY_UP_CARD(&self->relay, variant->card, variant->kind, SIZE, ZCRX_RING,
		      MTU_PAGE_TCP4);
	ASSERT_EQ(0, net_driver(&self->relay.net, self->driver, sizeof(self->driver)));
}

FIXTURE_TEARDOWN(area_ends)
{
	if (self->unbound)
		net_rebind(&self->relay.net, self->driver);
	relay_down(&self->relay);
}

/* An area of @slot: pieces of the first, the second is queued at the socket */
static void hold(struct __test_metadata *_metadata, struct _test_data_area_ends *self,
		 __u32 slot)
{
	struct relay *r = &self->relay;
	struct io_uring_zcrx_area_reg area = area_slot(slot, 0, AREA);
	struct uring_res res;

	ASSERT_EQ(0, relay_open_area(r, &area));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_NE(NULL, zcrx_prep(&r->z, r->tcp.rx, first.len, RELAY_RECV));
	ASSERT_EQ(0, piece_send(r->tcp.tx, &first, 0));
	self->nr = relay_arrive(r, &first, self->held, MAX);
	ASSERT_GT(self->nr, 0);
	ASSERT_EQ(0, uring_wait(&r->ring, &res, net_patience()));
	ASSERT_EQ(0, res.res);
	ASSERT_EQ(0, piece_send(r->tcp.tx, &second, 0));
	ASSERT_EQ(0, net_wait_acked(r->tcp.tx));
}

/* They are what they were, and @ring can write them to the drive by @slot */
static void check_held(struct __test_metadata *_metadata,
		       struct _test_data_area_ends *self, struct uring *ring, __u16 slot)
{
	struct relay *r = &self->relay;
	__u64 done = 0;

	ASSERT_EQ(0, disk_poison(r->disk, 0, first.len + 4096, POISON));
	for (int i = 0; i < self->nr; i++) {
		__u64 off = self->held[i].off & ~IORING_ZCRX_AREA_MASK;
		__u32 len = self->held[i].len;

		ASSERT_EQ(len, uring_write(ring, r->disk, done, off, len, slot));
		done += len;
	}
	EXPECT_EQ(NO_MISMATCH, disk_check(r->disk, 0, 0, first.len, first.seed));
	EXPECT_EQ(NO_MISMATCH, disk_check_poison(r->disk, first.len, 4096, POISON));
}

/* What was queued arrives, and whatever comes then */
static void check_goes_on(struct __test_metadata *_metadata,
			  struct _test_data_area_ends *self)
{
	const struct piece more = { SEED + 2, 0, 4 * MiB };
	struct relay *r = &self->relay;
	static struct arrived queued[MAX];
	struct relay_run run = { 0 };
	struct uring_res res;
	int nr;

	ASSERT_NE(NULL, zcrx_prep(&r->z, r->tcp.rx, second.len, RELAY_RECV));
	nr = relay_arrive(r, &second, queued, MAX);
	ASSERT_GT(nr, 0);
	ASSERT_EQ(0, uring_wait(&r->ring, &res, net_patience()));
	ASSERT_EQ(0, res.res);
	for (int i = 0; i < nr; i++)
		zcrx_return(&r->z, queued[i].off, queued[i].len);
	for (int i = 0; i < self->nr; i++)
		zcrx_return(&r->z, self->held[i].off, self->held[i].len);
	self->nr = 0;
	ASSERT_EQ(0, relay_run(r, &more, &run));
}

/* The tag says that the slot is idle, whatever the area does */
TEST_F(area_ends, slot_first)
{
	struct relay *r = &self->relay;
	struct io_uring_regbuf_desc d = desc_dmabuf(r->mem.fd, r->disk);
	struct uring_res res;
	const __u64 tag = TAG;

	ASSERT_EQ(1, reg_update(&r->ring, 1, &d, &tag, 1));
	hold(_metadata, self, 1);
	ASSERT_EQ(0, uring_ready(&r->ring));
	ASSERT_EQ(0, reg_clear(&r->ring, 1));
	ASSERT_EQ(0, uring_wait(&r->ring, &res, net_patience()));
	EXPECT_EQ(TAG, res.user_data);
	/* the card, and the drive by slot 0 */
	EXPECT_EQ(2, bufinfo_attachments(r->mem.fd));
	check_held(_metadata, self, &r->ring, 0);
	check_goes_on(_metadata, self);
	EXPECT_EQ(0, relay_close(r));
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 0, net_patience()));
}

/* All slots go, and so does the application's descriptor of the dma-buf */
TEST_F(area_ends, memory_first)
{
	struct relay *r = &self->relay;

	hold(_metadata, self, 0);
	ASSERT_EQ(0, reg_unregister(&r->ring));
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 1, net_patience()));
	ASSERT_EQ(0, reg_sparse(&r->ring, RELAY_SLOTS));
	ASSERT_EQ(0, reg_dmabuf(&r->ring, 0, r->mem.fd, r->disk));
	check_held(_metadata, self, &r->ring, 0);
	check_goes_on(_metadata, self);
}

/* The instance ends with its ring; another ring has a clone of the slot */
TEST_F(area_ends, area_first)
{
	struct relay *r = &self->relay;
	struct uring other;

	ASSERT_EQ(0, uring_init(&other, 16, 0));
	ASSERT_EQ(0, reg_clone(&other, &r->ring));
	hold(_metadata, self, 0);
	EXPECT_EQ(2, bufinfo_attachments(r->mem.fd));
	ASSERT_EQ(0, relay_close(r));
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 1, net_patience()));
	check_held(_metadata, self, &other, 0);
	/* what is queued there refers to it no more than to the card */
	net_close(&r->tcp);
	check_held(_metadata, self, &other, 0);
	uring_exit(&other);
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 0, net_patience()));
}

/*
 * The exporter asks in vain until the area has ended. From then on nobody writes to the
 * memory, whatever arrives
 */
TEST_F(area_ends, exporter_wants_it_back)
{
	const struct piece p = { SEED + 3, 0, 1 * MiB };
	struct relay *r = &self->relay;
	bool bar = mem_is_bar(&r->mem);
	struct receiver rx;

	hold(_metadata, self, 0);
	if (bar) {
		EXPECT_EQ(-EBUSY, bar_revoke(&r->mem, true));
		EXPECT_EQ(-EBUSY, bar_move(&r->mem, DMA_BUF_BAR_PLACE_B));
	}
	check_held(_metadata, self, &r->ring, 0);
	ASSERT_EQ(0, relay_close(r));
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 0, net_patience()));
	ASSERT_EQ(0, mem_poison(&r->mem, 0, SIZE, POISON));
	net_close(&r->tcp);
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_EQ(0, receiver_start(&rx, r->tcp.rx, &p, 1));
	EXPECT_EQ(0, piece_send(r->tcp.tx, &p, 0));
	EXPECT_EQ(0, receiver_join(&rx));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&r->mem, 0, SIZE, POISON));
	if (bar)
		EXPECT_EQ(0, bar_revoke(&r->mem, true));
}

/* The instance lasts as long as a ring that has imported it */
TEST_F(area_ends, imported)
{
	struct relay *r = &self->relay;
	struct uring other, mine;
	struct zcrx z;
	int fd;

	hold(_metadata, self, 0);
	ASSERT_EQ(0, uring_init(&other, 1024, ZCRX_RING));
	ASSERT_EQ(0, reg_clone(&other, &r->ring));
	fd = zcrx_export(&r->z);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, zcrx_import(&z, &other, fd));
	close(fd);
	mine = r->ring;
	uring_exit(&mine);
	r->ring = other;
	/* the refill ring is that of the instance */
	r->z.ring = &r->ring;
	r->z.id = z.id;
	check_held(_metadata, self, &r->ring, 0);
	check_goes_on(_metadata, self);
	EXPECT_EQ(0, relay_close(r));
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 0, net_patience()));
}

/* --- the card --- */

TEST_F(area_ends, card_down_and_up)
{
	struct relay *r = &self->relay;

	hold(_metadata, self, 0);
	ASSERT_EQ(0, net_link(&r->net, NET_CARD, false));
	EXPECT_EQ(2, bufinfo_attachments(r->mem.fd));
	check_held(_metadata, self, &r->ring, 0);
	ASSERT_EQ(0, net_link(&r->net, NET_CARD, true));
	check_goes_on(_metadata, self);
}

/* The area is closed while the card is down */
TEST_F(area_ends, area_of_a_card_that_is_down)
{
	struct relay *r = &self->relay;

	hold(_metadata, self, 0);
	ASSERT_EQ(0, net_link(&r->net, NET_CARD, false));
	net_close(&r->tcp);
	uring_exit(&r->ring);
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 0, net_patience()));
	ASSERT_EQ(0, net_link(&r->net, NET_CARD, true));
	EXPECT_EQ(0, relay_close(r));
}

/* And opened */
TEST_F(area_ends, opened_while_the_card_is_down)
{
	const struct piece p = { SEED, 0, 4 * MiB };
	struct relay *r = &self->relay;
	struct io_uring_zcrx_area_reg area = area_slot(0, 0, AREA);
	struct relay_run run = { 0 };

	ASSERT_EQ(0, net_link(&r->net, NET_CARD, false));
	ASSERT_EQ(0, zcrx_open_queue(&r->z, &r->ring, relay_ifindex(r), r->queue, &area));
	ASSERT_EQ(0, net_link(&r->net, NET_CARD, true));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_EQ(0, relay_run(r, &p, &run));
}

static void card_back(struct __test_metadata *_metadata,
		      struct _test_data_area_ends *self)
{
	struct netrig *n = &self->relay.net;

	ASSERT_EQ(0, net_rebind(n, self->driver));
	self->unbound = false;
	ASSERT_EQ(0, net_configure(n, NET_CARD));
	if (self->relay.queue)
		ASSERT_EQ(0, steer_all(n, 0));
	ASSERT_EQ(0, rings_split(n, SPLIT_ON));
	ASSERT_EQ(0, relay_side(&self->relay, NET_CARD, MTU_PAGE_TCP4));
}

TEST_F(area_ends, unbind)
{
	const struct piece p = { SEED, 0, 4 * MiB };
	struct relay *r = &self->relay;
	struct io_uring_zcrx_area_reg area = area_slot(0, 0, AREA);
	struct relay_run run = { 0 };
	struct uring_res res;

	hold(_metadata, self, 0);
	ASSERT_NE(NULL, zcrx_prep(&r->z, r->tcp.rx, 0, RELAY_RECV));
	ASSERT_LE(0, uring_submit(&r->ring, 0));
	self->unbound = true;
	ASSERT_EQ(0, net_unbind(&r->net, self->driver));
	/* at once: the card is not attached any more, and the drive is */
	EXPECT_EQ(1, bufinfo_attachments(r->mem.fd));
	area.rq_area_token = 0;
	EXPECT_EQ(-EFAULT, zcrx_add_area(&r->z, &area));
	EXPECT_EQ(1, bufinfo_attachments(r->mem.fd));
	/* what was queued, and the receive waits for its connection as others do */
	while (uring_peek(&r->ring, &res)) {
		EXPECT_GT(res.res, 0);
		EXPECT_NE(0, res.flags & IORING_CQE_F_MORE);
	}
	EXPECT_TRUE(uring_quiet(&r->ring, QUIET));
	net_close(&r->tcp);
	uring_exit(&r->ring);
	zcrx_forget(&r->z);
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 0, net_patience()));

	/* the next ring has it again, from the beginning */
	ASSERT_EQ(0, uring_init(&r->ring, 1024, ZCRX_RING));
	ASSERT_EQ(0, reg_sparse(&r->ring, RELAY_SLOTS));
	ASSERT_EQ(0, reg_dmabuf(&r->ring, 0, r->mem.fd, r->disk));
	check_held(_metadata, self, &r->ring, 0);
	card_back(_metadata, self);
	area.rq_area_token = 0;
	ASSERT_EQ(0, relay_open_area(r, &area));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_EQ(0, relay_run(r, &p, &run));
}

/* The drive goes on with the slot of the ring whose area has lost its card */
TEST_F(area_ends, unbind_and_write)
{
	struct relay *r = &self->relay;

	hold(_metadata, self, 0);
	self->unbound = true;
	ASSERT_EQ(0, net_unbind(&r->net, self->driver));
	check_held(_metadata, self, &r->ring, 0);
	card_back(_metadata, self);
	check_held(_metadata, self, &r->ring, 0);
}

/* It keeps its queue in another netns */
TEST_F(area_ends, card_moves)
{
	struct relay *r = &self->relay;
	struct netrig *n = &r->net;
	int ns = net_ns_new();

	ASSERT_GE(ns, 0);
	hold(_metadata, self, 0);
	ASSERT_EQ(0, net_ip(n->home, "link set dev %s netns /proc/%d/fd/%d\n",
			    n->dev[NET_CARD], getpid(), ns));
	EXPECT_EQ(2, bufinfo_attachments(r->mem.fd));
	check_held(_metadata, self, &r->ring, 0);
	ASSERT_EQ(0, net_ip(ns, "link set dev %s netns /proc/%d/fd/%d\n",
			    n->dev[NET_CARD], getpid(), n->home));
	ASSERT_EQ(0, net_configure(n, NET_CARD));
	ASSERT_EQ(0, net_mtu(n, NET_CARD, MTU_PAGE_TCP4));
	check_goes_on(_metadata, self);
	close(ns);
}

/* --- the process --- */

static int receive_until_killed(struct relay *r)
{
	struct io_uring_zcrx_area_reg area = area_slot(0, 0, AREA);
	static struct arrived held[MAX];

	memset(&r->ring, 0, sizeof(r->ring));
	if (uring_init(&r->ring, 1024, ZCRX_RING) || reg_sparse(&r->ring, RELAY_SLOTS) ||
	    reg_dmabuf(&r->ring, 0, r->mem.fd, r->disk) || relay_open_area(r, &area) ||
	    relay_connect(r, AF_INET) || !zcrx_prep(&r->z, r->tcp.rx, 0, RELAY_RECV) ||
	    piece_send(r->tcp.tx, &first, 0) ||
	    relay_arrive(r, &first, held, MAX) <= 0 || piece_send(r->tcp.tx, &second, 0))
		return 1;
	raise(SIGKILL);
	return 2;
}

TEST_F(area_ends, killed)
{
	const struct piece p = { SEED, 0, 4 * MiB };
	struct relay *r = &self->relay;
	struct relay_run run = { 0 };
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(receive_until_killed(r));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		TH_LOG("status %x", status);
	}
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 1, net_patience()));
	ASSERT_EQ(0, relay_open(r, 0, AREA));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_EQ(0, relay_run(r, &p, &run));
}

/* --- all at the same time --- */

/* What arrives goes to the drive, and back to the peer, by one slot */
TEST(one_slot_for_all)
{
	const struct piece p = { SEED, 0, 1 * MiB };
	struct relay rig, *r = &rig;
	static struct arrived pieces[MAX];
	struct io_uring_regbuf_desc add;
	struct receiver back;
	struct sender s;
	struct uring send;
	struct uring_res res;
	__u64 done = 0;
	int nr;

	/* contiguous for the card that sends, see net_mem() */
	RELAY_UP(r, MEM_CMA, SIZE, ZCRX_RING, MTU_PAGE_TCP4);
	ASSERT_EQ(0, relay_open(r, 0, AREA));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	add = desc_add(r->tcp.rx);
	ASSERT_EQ(0, reg_one(&r->ring, 0, &add));
	ASSERT_EQ(0, uring_init(&send, 64, 0));
	ASSERT_EQ(0, reg_clone(&send, &r->ring));
	/* the drive, the card that sends and the one that receives */
	EXPECT_EQ(3, bufinfo_attachments(r->mem.fd));
	ASSERT_EQ(0, disk_poison(r->disk, 0, p.len + 4096, POISON));
	ASSERT_EQ(0, receiver_start(&back, r->tcp.tx, &p, 1));
	ASSERT_NE(NULL, zcrx_prep(&r->z, r->tcp.rx, p.len, RELAY_RECV));
	ASSERT_EQ(0, sender_start(&s, r->tcp.tx, &p));
	nr = relay_arrive(r, &p, pieces, MAX);
	ASSERT_GT(nr, 0);
	EXPECT_EQ(0, sender_join(&s));
	ASSERT_EQ(0, uring_wait(&r->ring, &res, net_patience()));
	for (int i = 0; i < nr; i++) {
		__u64 off = pieces[i].off & ~IORING_ZCRX_AREA_MASK;
		struct io_uring_sqe *sqe;

		sqe = uring_prep_rw(&send, IORING_OP_SEND_ZC, r->tcp.rx, 0, off,
				    pieces[i].len, 0);
		ASSERT_NE(NULL, sqe);
		sqe->ioprio = IORING_RECVSEND_FIXED_BUF;
		sqe->msg_flags = MSG_WAITALL;
		ASSERT_LE(0, uring_submit(&send, 0));
		ASSERT_EQ(pieces[i].len, uring_write(&r->ring, r->disk, done, off,
						     pieces[i].len, 0));
		done += pieces[i].len;
		ASSERT_EQ(0, uring_wait(&send, &res, net_patience()));
		ASSERT_EQ(pieces[i].len, res.res);
		ASSERT_EQ(0, uring_wait(&send, &res, net_patience()));
		EXPECT_NE(0, res.flags & IORING_CQE_F_NOTIF);
		zcrx_return(&r->z, pieces[i].off, pieces[i].len);
	}
	EXPECT_EQ(0, receiver_join(&back));
	EXPECT_EQ(NO_MISMATCH, disk_check(r->disk, 0, 0, p.len, p.seed));
	EXPECT_EQ(NO_MISMATCH, disk_check_poison(r->disk, p.len, 4096, POISON));
	uring_exit(&send);
	EXPECT_EQ(0, relay_close(r));
	net_close(&r->tcp);
	EXPECT_TRUE(bufinfo_wait(r->mem.fd, 0, net_patience()));
	relay_down(r);
}

TEST_HARNESS_MAIN
