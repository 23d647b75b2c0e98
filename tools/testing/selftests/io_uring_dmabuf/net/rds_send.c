// SPDX-License-Identifier: GPL-2.0
/*
 * Zerocopy sends by RDS over TCP: messages from every kind of memory arrive as they
 * were sent, whatever their memory is used for once the ring says that it may be, and
 * each request completes as often as it should, with the truth.
 */
#include <netinet/in.h>
#include <linux/ethtool.h>

#include "common.h"
#include "rdscookie.h"
#include "rdsrig.h"

#define SIZE		RDS_SIZE
#define DEPTH		4		/* messages under way */
#define MAX_SENT	128		/* of a flow */
#define QUIET_MS	200

FIXTURE(rds_send) {
	struct rdsrig rig;
};

FIXTURE_VARIANT(rds_send) {
	const char *card;	/* NULL: veth */
	int family;
};

FIXTURE_VARIANT_ADD(rds_send, veth_4) { .family = AF_INET };
FIXTURE_VARIANT_ADD(rds_send, veth_6) { .family = AF_INET6 };
FIXTURE_VARIANT_ADD(rds_send, e1000e_4) { .card = "e1000e", .family = AF_INET };
FIXTURE_VARIANT_ADD(rds_send, e1000e_6) { .card = "e1000e", .family = AF_INET6 };
FIXTURE_VARIANT_ADD(rds_send, vmxnet3_4) { .card = "vmxnet3", .family = AF_INET };
FIXTURE_VARIANT_ADD(rds_send, vmxnet3_6) { .card = "vmxnet3", .family = AF_INET6 };
FIXTURE_VARIANT_ADD(rds_send, igb_4) { .card = "igb", .family = AF_INET };

FIXTURE_SETUP(rds_send)
{
	RDSRIG_UP(&self->rig, variant->card, variant->family);
}

FIXTURE_TEARDOWN(rds_send)
{
	EXPECT_EQ(0, rdsrig_idle(&self->rig));
	rdsrig_down(&self->rig);
}

/* --- a flow of messages, the same few buffers for all of them --- */

/* By a ring: SENT, QUEUED. By RDS itself: COOKIE */
enum state { FREE, SENT, QUEUED, COOKIE };

struct flow {
	struct rdsrig *r;
	enum rds_kind kind;
	unsigned int sqe_flags;
	unsigned int cookies;		/* one message of so many has a cookie; 0: none */
	enum state state[DEPTH];	/* message n is in buffer n % DEPTH */
	struct net_vec vec[DEPTH];
	__u32 sent, got;
	bool seen[MAX_SENT];
	unsigned int again;		/* messages that came more than once */
	unsigned int copied;
};

#define FLOW(self, kind_, sqe_flags_) ((struct flow) {			\
	.r = &(self)->rig,						\
	.kind = kind_,							\
	.sqe_flags = sqe_flags_,					\
})

static bool is_single(__u32 message)
{
	return message % 2;
}

static struct io_uring_sqe *prep(const struct flow *f, __u64 off, __u32 len, bool single)
{
	struct io_uring_sqe *sqe = rds_prep(f->r, f->r->tx, f->kind, off, len, single);

	sqe->flags |= f->sqe_flags;
	return sqe;
}

/* The next CQE: of a message that is under way, and the one that its request has to post */
static int flow_cqe(struct flow *f)
{
	struct uring_res res;
	enum state *state;
	bool copied, end;
	int ret = uring_wait(&f->r->net.ring, &res, net_patience());

	if (ret)
		return ret;
	state = &f->state[res.user_data % DEPTH];
	end = res.flags & IORING_CQE_F_NOTIF || is_single(res.user_data);
	copied = res.flags & IORING_CQE_F_NOTIF ? res.res & IORING_NOTIF_USAGE_ZC_COPIED :
						  res.flags & IORING_CQE_F_ZC_COPIED;
	if (res.user_data >= f->sent || f->sent - res.user_data > DEPTH ||
	    *state != (res.flags & IORING_CQE_F_NOTIF ? QUEUED : SENT) ||
	    !(res.flags & IORING_CQE_F_MORE) != end ||
	    (!(res.flags & IORING_CQE_F_NOTIF) && res.res != (int)SIZE)) {
		fprintf(stderr, "# message %llu of %u, state %d: res %d, flags %x\n",
			res.user_data, f->sent, *state, res.res, res.flags);
		return -EPROTO;
	}
	*state = end ? FREE : QUEUED;
	f->copied += copied;
	return 0;
}

/* Each once, and of a message that is under way */
static int flow_cookies(struct flow *f)
{
	struct rds_zcopy_cookies done;
	int ret = rds_wait_cookies(f->r->tx, &done);

	for (__u32 i = 0; i < done.num; i++) {
		__u32 message = done.cookies[i];
		enum state *state = &f->state[message % DEPTH];

		if (*state != COOKIE || message >= f->sent || f->sent - message > DEPTH) {
			fprintf(stderr, "# cookie %u of %u\n", message, f->sent);
			return -EPROTO;
		}
		*state = FREE;
	}
	return ret;
}

/* The buffer of message @i may be used again */
static int flow_free(struct flow *f, __u32 i)
{
	int ret = 0;

	while (f->state[i % DEPTH] != FREE && !ret)
		ret = f->state[i % DEPTH] == COOKIE ? flow_cookies(f) : flow_cqe(f);
	return ret;
}

static int flow_send_cookie(struct flow *f, __u32 i)
{
	char *buf = f->r->user + i % DEPTH * SIZE;
	ssize_t len;

	memcpy(buf, f->r->stamped, SIZE);
	len = rds_send_cookie(f->r->tx, buf, SIZE, i);
	f->state[i % DEPTH] = COOKIE;
	f->sent++;
	return len == SIZE ? 0 : len < 0 ? len : -EIO;
}

static int flow_send(void *flow)
{
	struct flow *f = flow;
	__u32 i = f->sent;
	__u64 off = i % DEPTH * SIZE;
	struct io_uring_sqe *sqe;
	int ret = flow_free(f, i);

	rds_stamp(f->r->stamped, i, SIZE);
	if (!ret && f->cookies && !(i % f->cookies))
		return flow_send_cookie(f, i);
	ret = ret ?: rds_put(f->r, f->kind, off, f->r->stamped, SIZE);
	if (ret)
		return ret;
	sqe = prep(f, off, SIZE, is_single(i));
	sqe->user_data = i;
	if (!(i % 3))
		net_reform(sqe, NET_MESSAGE, &f->vec[i % DEPTH]);
	f->state[i % DEPTH] = SENT;
	f->sent++;
	ret = uring_submit(&f->r->net.ring, 0);
	return ret < 0 ? ret : 0;
}

/* The next one. Workers overtake each other, and connections may send one once more */
static int flow_recv(void *flow)
{
	struct flow *f = flow;
	__u32 message;
	ssize_t len;

	for (;;) {
		len = net_recv_again(f->r->rx, f->r->stamped, SIZE, 0);
		if (len != (ssize_t)SIZE)
			return len < 0 ? -errno : -EMSGSIZE;
		message = f->r->stamped[0] >> 32;
		if (message >= f->sent || rds_check(f->r->stamped, message, SIZE))
			return -EILSEQ;
		if (f->seen[message]) {
			f->again++;
			continue;
		}
		if (message != f->got && !f->sqe_flags)
			return -EBADMSG;
		f->seen[message] = true;
		f->got++;
		return 0;
	}
}

/* All are complete, and the memory gets other content */
static int flow_idle(void *flow)
{
	struct flow *f = flow;
	int ret = 0;

	for (unsigned int i = 0; i < DEPTH; i++)
		ret = ret ?: flow_free(f, i);
	memset(f->r->stamped, 0xdd, SIZE);
	for (unsigned int i = 0; i < DEPTH; i++)
		ret = ret ?: rds_put(f->r, f->kind, i * SIZE, f->r->stamped, SIZE);
	if (f->cookies)
		memset(f->r->user, 0xdd, DEPTH * SIZE);
	return ret;
}

static int flow_run(struct flow *f, unsigned int nr)
{
	const struct rds_flow steps = { flow_send, flow_recv, flow_idle, &f->sent, &f->got };

	return rds_flow_run(&steps, f, nr);
}

/*
 * Of what veth delivers its receiver has a copy. vmxnet3 takes the end of a message
 * along with the headers, which it copies, where that is short enough and has pages.
 */
static int copied_wrongly(const struct rdsrig *r, const char *card, const struct flow *f)
{
	if (r->veth)
		return f->copied != f->sent;
	if (f->kind >= RDS_DMABUF || strcmp(card, "vmxnet3"))
		return f->copied;
	return f->copied > f->sent / 4;
}

/* By each card each kind of ring with each memory: half of them by IPv4, half by IPv6 */
static bool is_other_familys(unsigned int ring, enum rds_kind kind, int family)
{
	return lab_soak((ring + kind + (family == AF_INET6)) % 2, false);
}

TEST_F_TIMEOUT(rds_send, whole, 400)
{
	struct rdsrig *r = &self->rig;

	for (unsigned int i = 0; i < URING_KINDS; i++) {
		const struct uring_kind *k = &uring_kinds[i];

		ASSERT_EQ(0, rdsrig_ring(r, 64, k->setup));
		for (enum rds_kind kind = 0; kind < RDS_KINDS; kind++) {
			struct flow f = FLOW(self, kind, k->sqe_flags);

			if (!rdsrig_has(r, kind) ||
			    is_other_familys(i, kind, variant->family))
				continue;
			ASSERT_EQ(0, flow_run(&f, lab_scale(24, 14))) {
				TH_LOG("%s, memory %d: %u sent, %u right",
				       k->name, kind, f.sent, f.got);
			}
			EXPECT_EQ(0, f.again);
			EXPECT_EQ(0, copied_wrongly(r, variant->card, &f)) {
				TH_LOG("%s, memory %d: %u of %u copied", k->name,
				       kind, f.copied, f.sent);
			}
			EXPECT_TRUE(rds_quiet(r, 10));
		}
	}
}

/* RDS's own zerocopy: all of the messages, or some of them between a ring's */
TEST_F(rds_send, cookies)
{
	struct rdsrig *r = &self->rig;

	ASSERT_EQ(0, net_set(r->tx, SOL_SOCKET, SO_ZEROCOPY, 1));
	for (unsigned int every = 1; every <= 3; every += 2) {
		struct flow f = FLOW(self, r->veth ? RDS_REGISTERED : RDS_DMABUF, 0);

		f.cookies = every;
		ASSERT_EQ(0, flow_run(&f, lab_scale(24, 14))) {
			TH_LOG("one of %u: %u sent, %u right", every, f.sent, f.got);
		}
		EXPECT_EQ(0, f.again);
		EXPECT_TRUE(rds_quiet(r, 10));
	}
}

/* --- many --- */

#define SOCKETS		8
#define EACH		64
#define SMALL		(16 * KiB)

/* Message @k of socket @i is stamped with @round, too */
static int small_send(struct flow *f, const int *sk, unsigned int i, unsigned int k,
		      unsigned int round)
{
	unsigned int buffer = i * EACH + k;
	struct io_uring_sqe *sqe;
	int ret;

	rds_stamp(f->r->stamped, buffer << 4 | round, SMALL);
	ret = rds_put(f->r, f->kind, buffer * SMALL, f->r->stamped, SMALL);
	if (ret)
		return ret;
	sqe = rds_prep(f->r, sk[i], f->kind, buffer * SMALL, SMALL, true);
	sqe->user_data = buffer << 4 | round;
	return 0;
}

TEST_F(rds_send, many)
{
	struct rdsrig *r = &self->rig;
	struct flow f = FLOW(self, self->rig.veth ? RDS_REGISTERED : RDS_DMABUF, 0);
	unsigned int rounds = lab_scale(3, 2), sent = SOCKETS * EACH, got = 0, done = 0;
	static unsigned char seen[SOCKETS * EACH];
	int sk[SOCKETS];

	ASSERT_EQ(0, rdsrig_ring(r, SOCKETS * EACH, RDS_DEFER));
	memset(seen, 0, sizeof(seen));
	for (unsigned int i = 0; i < SOCKETS; i++) {
		sk[i] = rds_sender(r, RDS_PORT + 1 + i);
		ASSERT_GE(sk[i], 0);
		for (unsigned int k = 0; k < EACH; k++) {
			ASSERT_EQ(0, small_send(&f, sk, i, k, 0));
		}
	}
	ASSERT_EQ(SOCKETS * EACH, uring_submit(&r->net.ring, 0));
	while (done < sent) {
		struct uring_res res;
		unsigned int buffer, round;

		ASSERT_EQ(0, uring_wait(&r->net.ring, &res, net_patience()));
		ASSERT_EQ(SMALL, res.res);
		ASSERT_EQ(0, res.flags & (IORING_CQE_F_MORE | IORING_CQE_F_NOTIF));
		done++;
		buffer = res.user_data >> 4;
		round = (res.user_data & 15) + 1;
		if (round == rounds)
			continue;
		ASSERT_EQ(0, small_send(&f, sk, buffer / EACH, buffer % EACH, round));
		ASSERT_EQ(1, uring_submit(&r->net.ring, 0));
		sent++;
	}
	while (got < sent) {
		__u32 what;

		ASSERT_EQ(SMALL, net_recv_again(r->rx, r->stamped, SIZE, 0));
		what = r->stamped[0] >> 32;
		ASSERT_GT(SOCKETS * EACH, what >> 4);
		ASSERT_EQ(0, rds_check(r->stamped, what, SMALL));
		/* those of a socket come in order */
		ASSERT_EQ(what & 15, seen[what >> 4]++);
		got++;
	}
	for (unsigned int i = 0; i < SOCKETS; i++)
		close(sk[i]);
}

/* --- connections that end --- */

/* As an administrator does; the other end gets a reset */
static int kill_connections(const struct netrig *n, enum net_side side)
{
	static const char *const argv[] = {
		"sh", "-c", "ss -Kt '( sport = :16385 or dport = :16385 )' >/dev/null", NULL
	};

	return net_run(n->ns[side], "", argv);
}

TEST_F_TIMEOUT(rds_send, reconnects, 400)
{
	struct rdsrig *r = &self->rig;

	for (enum rds_kind kind = 0; kind < RDS_KINDS; kind++) {
		struct flow f = FLOW(self, kind, 0);

		if (!rdsrig_has(r, kind))
			continue;
		for (int i = 0; i < lab_scale(4, 2); i++) {
			for (int k = 0; k < DEPTH; k++) {
				ASSERT_EQ(0, flow_send(&f));
			}
			ASSERT_EQ(0, kill_connections(&r->net, i % 2));
			ASSERT_EQ(0, flow_run(&f, 2 * DEPTH)) {
				TH_LOG("memory %d, %d: %u sent, %u right", kind, i,
				       f.sent, f.got);
			}
		}
		EXPECT_TRUE(rds_quiet(r, 10));
	}
}

/* To a peer that is away; all are queued, and none completes */
static void send_away(struct __test_metadata *_metadata, struct flow *f)
{
	struct uring_res res;

	ASSERT_EQ(0, rdsrig_peer(f->r, "down"));
	for (int i = 0; i < DEPTH; i++) {
		rds_stamp(f->r->stamped, i, SIZE);
		ASSERT_EQ(0, rds_put(f->r, f->kind, i * SIZE, f->r->stamped, SIZE));
		prep(f, i * SIZE, SIZE, i % 2)->user_data = i;
	}
	ASSERT_EQ(DEPTH, uring_submit(&f->r->net.ring, 0));
	/* of those with two, the first */
	for (int i = 0; i < DEPTH; i += 2) {
		ASSERT_EQ(0, uring_wait(&f->r->net.ring, &res, net_patience()));
		EXPECT_EQ(i, res.user_data);
		EXPECT_EQ(SIZE, res.res);
		EXPECT_EQ(IORING_CQE_F_MORE, res.flags);
	}
	EXPECT_TRUE(rds_quiet(f->r, QUIET_MS));
}

/* One more each, in any order: with @result, or a notification that has none */
static void away_ends(struct __test_metadata *_metadata, struct flow *f, int result)
{
	bool seen[DEPTH] = { 0 };
	struct uring_res res;

	for (int i = 0; i < DEPTH; i++) {
		ASSERT_EQ(0, uring_wait(&f->r->net.ring, &res, 4 * net_patience()));
		ASSERT_GT(DEPTH, res.user_data);
		EXPECT_FALSE(seen[res.user_data]);
		seen[res.user_data] = true;
		if (res.user_data % 2) {
			EXPECT_EQ(result, res.res);
			EXPECT_EQ(0, res.flags & ~IORING_CQE_F_ZC_COPIED);
		} else {
			EXPECT_EQ(IORING_CQE_F_NOTIF, res.flags);
		}
	}
	EXPECT_TRUE(rds_quiet(f->r, 20));
}

#define OTHER_MEMORY(self) ((self)->rig.veth ? RDS_USER : RDS_BAR)

TEST_F(rds_send, peer_comes_back)
{
	struct flow f = FLOW(self, OTHER_MEMORY(self), 0);

	send_away(_metadata, &f);
	ASSERT_EQ(0, rdsrig_peer(f.r, "up"));
	for (int i = 0; i < DEPTH; i++) {
		ASSERT_EQ(0, rds_recv(f.r, i));
	}
	away_ends(_metadata, &f, SIZE);
}

TEST_F(rds_send, socket_is_closed)
{
	struct flow f = FLOW(self, OTHER_MEMORY(self), 0);

	send_away(_metadata, &f);
	close(f.r->tx);
	f.r->tx = -1;
	/* what TCP has of them it sends */
	ASSERT_EQ(0, rdsrig_peer(f.r, "up"));
	away_ends(_metadata, &f, -ECANCELED);
}

/*
 * TCP has a part of them, for a peer that is gone, and the connection is not the socket's:
 * it ends by itself. Others wait for the peer
 */
TEST_F(rds_send, peer_stays_away)
{
	struct flow f = FLOW(self, OTHER_MEMORY(self), 0);
	struct timeval patience = { .tv_sec = 60 };
	struct rdsrig *r = f.r;

	send_away(_metadata, &f);
	close(r->tx);
	away_ends(_metadata, &f, -ECANCELED);
	r->tx = rds_sender(r, RDS_PORT + 1);
	ASSERT_LE(0, r->tx);
	ASSERT_EQ(0, rdsrig_peer(r, "up"));
	/* by now TCP asks for a connection every 16 seconds */
	ASSERT_EQ(0, setsockopt(r->rx, SOL_SOCKET, SO_RCVTIMEO, &patience,
				sizeof(patience)));
	EXPECT_EQ(0, rds_pass(r));
}

TEST_F(rds_send, messages_are_cancelled)
{
	struct flow f = FLOW(self, OTHER_MEMORY(self), 0);
	struct sockaddr_storage to;
	socklen_t len = net_addr(&f.r->net, NET_PEER, variant->family, RDS_PORT, &to);

	send_away(_metadata, &f);
	ASSERT_EQ(0, setsockopt(f.r->tx, SOL_RDS, RDS_CANCEL_SENT_TO, &to, len));
	ASSERT_EQ(0, rdsrig_peer(f.r, "up"));
	away_ends(_metadata, &f, -ECANCELED);
}

/* What is queued is sent, from memory that is no longer registered */
TEST_F(rds_send, ring_goes_first)
{
	struct flow f = FLOW(self, self->rig.veth ? RDS_REGISTERED : RDS_BAR, 0);

	send_away(_metadata, &f);
	uring_exit(&f.r->net.ring);
	ASSERT_EQ(0, rdsrig_peer(f.r, "up"));
	for (int i = 0; i < DEPTH; i++) {
		ASSERT_EQ(0, rds_recv(f.r, i));
	}
}

/* --- devices --- */

/* Connections that were begun in the netns of the sender */
static long long active_opens(const struct netrig *n)
{
	static char text[4096];
	long long opens = -1;
	char *tcp;
	int ret;

	if (net_ns_enter(n->ns[NET_CARD]))
		return -1;
	ret = file_read("/proc/thread-self/net/snmp", text, sizeof(text));
	net_ns_enter(n->home);
	tcp = ret ? NULL : strstr(text, "\nTcp: ");
	tcp = tcp ? strstr(tcp + 1, "\nTcp: ") : NULL;
	if (tcp)
		sscanf(tcp, " Tcp: %*d %*d %*d %*d %lld", &opens);
	return opens;
}

/*
 * Messages are queued when the card loses what it takes to send memory without pages:
 * all end, and the connection carries on with others
 */
TEST_F_TIMEOUT(rds_send, device_cannot, 400)
{
	struct flow f = FLOW(self, RDS_BAR, 0);
	struct rdsrig *r = &self->rig;
	long long opens;

	if (r->veth)
		SKIP(return, "no card");
	send_away(_metadata, &f);
	ASSERT_EQ(0, net_feature(&r->net, ETHTOOL_STXCSUM, false));
	opens = active_opens(&r->net);
	ASSERT_LE(0, opens);
	ASSERT_EQ(0, rdsrig_peer(r, "up"));
	away_ends(_metadata, &f, -EOPNOTSUPP);
	EXPECT_EQ(0, rds_pass(r));
	/* two for each of the paths, at most: a connection ends, and its replacement races */
	EXPECT_GE(16, active_opens(&r->net) - opens) {
		TH_LOG("%lld connections", active_opens(&r->net) - opens);
	}
	EXPECT_EQ(0, net_feature(&r->net, ETHTOOL_STXCSUM, true));
	EXPECT_TRUE(rds_quiet(r, QUIET_MS));
}

/* --- completions and system calls --- */

#define BATCH		16
#define MESSAGES	(8 * BATCH)

static int read_batch(struct rdsrig *r)
{
	for (int i = 0; i < BATCH; i++)
		if (net_recv_again(r->rx, r->stamped, SMALL, 0) != SMALL ||
		    rds_check(r->stamped, i, SMALL))
			return -EBADMSG;
	return 0;
}

/* Batches that have to be complete before the next one: what each costs the sender */
TEST_F(rds_send, calls)
{
	struct rdsrig *r = &self->rig;
	unsigned int ring = 0, cookies = 0;
	struct uring_res res;

	ASSERT_EQ(0, rdsrig_ring(r, BATCH, RDS_DEFER));
	for (int i = 0; i < BATCH; i++)
		rds_stamp((__u64 *)(r->user + i * SMALL), i, SMALL);
	for (int n = 0; n < MESSAGES; n += BATCH) {
		for (int i = 0; i < BATCH; i++)
			rds_prep(r, r->tx, RDS_REGISTERED, i * SMALL, SMALL, true);
		ASSERT_EQ(BATCH, uring_submit(&r->net.ring, BATCH));
		ring++;
		for (int i = 0; i < BATCH; i++) {
			ASSERT_EQ(1, uring_peek(&r->net.ring, &res));
			ASSERT_EQ(SMALL, res.res);
		}
		ASSERT_EQ(0, read_batch(r));
	}
	ASSERT_EQ(0, net_set(r->tx, SOL_SOCKET, SO_ZEROCOPY, 1));
	for (int n = 0; n < MESSAGES; n += BATCH) {
		struct rds_zcopy_cookies some;
		int done = 0;

		for (int i = 0; i < BATCH; i++, cookies++) {
			ASSERT_EQ(SMALL, rds_send_cookie(r->tx, r->user + i * SMALL, SMALL, i));
		}
		for (; done < BATCH; cookies++) {
			ASSERT_EQ(0, rds_recv_cookies(r->tx, &some, 0));
			done += some.num;
		}
		ASSERT_EQ(BATCH, done);
		ASSERT_EQ(0, read_batch(r));
	}
	TH_LOG("system calls for %d messages: ring %u, cookies %u", MESSAGES, ring, cookies);
	EXPECT_EQ(MESSAGES / BATCH, ring);
	EXPECT_LE(MESSAGES + MESSAGES / 8, cookies);
}

TEST_HARNESS_MAIN
