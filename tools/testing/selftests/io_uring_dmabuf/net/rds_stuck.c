// SPDX-License-Identifier: GPL-2.0
/*
 * Messages from dma-bufs whose packets do not get where the route says: BPF redirects what
 * has no page to a device that cannot send it. RDS cannot see that, but for connections
 * that get stuck.
 */
#include <poll.h>
#include <stddef.h>
#include <unistd.h>
#include <netinet/in.h>
#include <net/if.h>
#include <sys/syscall.h>
#include <linux/bpf.h>

#include "common.h"
#include "rdsrig.h"

#define SIZE		RDS_SIZE
#define MESSAGES	2
#define OTHER		"rds75a"	/* the device; there is nobody behind it */
#define OTHER_END	"rds75b"
#define HEADERS		200		/* more than those of a packet */
#define SENDERS		24		/* of the peer: by each of the paths, or nearly so */
#define AHEAD		16		/* messages of each that may be under way */

FIXTURE(rds_stuck) {
	struct rdsrig rig;
	int link;			/* of the program, or -1 */
};

FIXTURE_VARIANT(rds_stuck) {
	const char *card;
	int family;
};

FIXTURE_VARIANT_ADD(rds_stuck, e1000e_6) { .card = "e1000e", .family = AF_INET6 };
FIXTURE_VARIANT_ADD(rds_stuck, vmxnet3_4) { .card = "vmxnet3", .family = AF_INET };

FIXTURE_SETUP(rds_stuck)
{
	self->link = -1;
	RDSRIG_UP(&self->rig, variant->card, variant->family);
	if (access("/proc/sys/kernel/unprivileged_bpf_disabled", F_OK))
		SKIP(return, "no bpf(2) (CONFIG_BPF_SYSCALL)");
}

FIXTURE_TEARDOWN(rds_stuck)
{
	if (self->link >= 0)
		close(self->link);
	EXPECT_EQ(0, rdsrig_idle(&self->rig));
	rdsrig_down(&self->rig);
}

static int sys_bpf(int cmd, union bpf_attr *attr)
{
	int ret = syscall(__NR_bpf, cmd, attr, sizeof(*attr));

	return ret < 0 ? -errno : ret;
}

#define INSN(c, d, s, o, i)						\
	{ .code = c, .dst_reg = d, .src_reg = s, .off = o, .imm = i }
#define MOV_K(d, k)	INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, k)
#define CALL(f)		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, f)
#define EXIT()		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

/* Whatever has more than headers and cannot be read goes to @ifindex */
static int load_prog(int ifindex)
{
	const struct bpf_insn insn[] = {
		INSN(BPF_LDX | BPF_MEM | BPF_W, 2, 1, offsetof(struct __sk_buff, len), 0),
		INSN(BPF_JMP | BPF_JLE | BPF_K, 2, 0, 7, HEADERS),
		MOV_K(2, HEADERS),
		CALL(BPF_FUNC_skb_pull_data),
		INSN(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 4, 0),
		MOV_K(1, ifindex),
		MOV_K(2, 0),
		CALL(BPF_FUNC_redirect),
		EXIT(),
		MOV_K(0, TCX_NEXT),
		EXIT(),
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_SCHED_CLS,
		.insns = (uintptr_t)insn,
		.insn_cnt = ARRAY_SIZE(insn),
		.license = (uintptr_t)"GPL",
	};

	return sys_bpf(BPF_PROG_LOAD, &attr);
}

/* In the netns of the card: a link that lasts as long as its descriptor */
static int attach(const char *card)
{
	union bpf_attr attr = {
		.link_create = {
			.target_ifindex = if_nametoindex(card),
			.attach_type = BPF_TCX_EGRESS,
		},
	};
	int prog = load_prog(if_nametoindex(OTHER)), link;

	if (prog < 0)
		return prog;
	attr.link_create.prog_fd = prog;
	link = sys_bpf(BPF_LINK_CREATE, &attr);
	close(prog);
	return link;
}

static int redirect(const struct rdsrig *r)
{
	const struct netrig *n = &r->net;
	int ret = net_ip(n->ns[NET_CARD],
			 "link add name " OTHER " type veth peer name " OTHER_END "\n"
			 "link set dev " OTHER " up\n"
			 "link set dev " OTHER_END " up\n");

	ret = ret ?: net_ns_enter(n->ns[NET_CARD]);
	if (ret)
		return ret;
	ret = attach(n->dev[NET_CARD]);
	net_ns_enter(n->home);
	return ret;
}

/* --- the other direction, which passes --- */

struct crowd {
	struct sockaddr_storage to;
	socklen_t to_len;
	int tx[SENDERS], rx;
	unsigned int sent[SENDERS], got[SENDERS];
	unsigned int lost, again;
	bool stop;			/* sending */
	pthread_t thread;
};

/* Of several segments, for an acknowledgment at once */
struct numbered {
	__u32 sender, nr;
	char fill[4000];
};

static void crowd_send(struct crowd *c, __u32 i)
{
	const struct numbered m = { i, c->sent[i], "" };

	if (c->sent[i] - c->got[i] < AHEAD &&
	    sendto(c->tx[i], &m, sizeof(m), MSG_DONTWAIT, (void *)&c->to, c->to_len) ==
	    sizeof(m))
		c->sent[i]++;
}

/* Those of a sender come in order. None comes for @ms: false */
static bool crowd_recv(struct crowd *c, int ms)
{
	struct pollfd p = { .fd = c->rx, .events = POLLIN };
	struct numbered m;

	if (poll(&p, 1, ms) != 1 || recv(c->rx, &m, sizeof(m), MSG_DONTWAIT) != sizeof(m) ||
	    m.sender >= SENDERS)
		return false;
	if (m.nr < c->got[m.sender]) {
		c->again++;
		return true;
	}
	c->lost += m.nr - c->got[m.sender];
	c->got[m.sender] = m.nr + 1;
	return true;
}

static void *crowd_run(void *data)
{
	struct crowd *c = data;

	while (!__atomic_load_n(&c->stop, __ATOMIC_RELAXED)) {
		for (__u32 i = 0; i < SENDERS; i++)
			crowd_send(c, i);
		/* all is under way: the processors are for those who receive it */
		if (!crowd_recv(c, 1))
			continue;
		while (crowd_recv(c, 0))
			;
	}
	return NULL;
}

static int crowd_start(struct crowd *c, const struct rdsrig *r)
{
	memset(c, 0, sizeof(*c));
	c->to_len = net_addr(&r->net, NET_CARD, r->family, RDS_PORT + 1, &c->to);
	c->rx = rds_socket(r, NET_CARD, RDS_PORT + 1);
	if (c->rx < 0)
		return c->rx;
	for (int i = 0; i < SENDERS; i++) {
		c->tx[i] = rds_socket(r, NET_PEER, RDS_PORT + 1 + i);
		if (c->tx[i] < 0)
			return c->tx[i];
	}
	return -pthread_create(&c->thread, NULL, crowd_run, c);
}

/* All that was sent has arrived; or how many have not */
static unsigned int crowd_stop(struct crowd *c)
{
	unsigned int lost;

	__atomic_store_n(&c->stop, true, __ATOMIC_RELAXED);
	pthread_join(c->thread, NULL);
	for (int i = 0; i < SENDERS; i++)
		while (c->got[i] < c->sent[i] && crowd_recv(c, net_patience()))
			;
	lost = c->lost;
	for (int i = 0; i < SENDERS; i++) {
		lost += c->sent[i] - c->got[i];
		close(c->tx[i]);
	}
	close(c->rx);
	return lost;
}

/* --- what does not --- */

/* The messages are sent, and come to this end, one CQE each */
static void all_end(struct __test_metadata *_metadata, struct rdsrig *r, int result)
{
	struct uring_res res;

	for (unsigned int i = 0; i < MESSAGES; i++) {
		rds_stamp(r->stamped, i, SIZE);
		ASSERT_EQ(0, rds_put(r, RDS_BAR, i * SIZE, r->stamped, SIZE));
		rds_prep(r, r->tx, RDS_BAR, i * SIZE, SIZE, true);
	}
	ASSERT_EQ(MESSAGES, uring_submit(&r->net.ring, 0));
	for (unsigned int i = 0; i < MESSAGES; i++) {
		ASSERT_EQ(0, uring_wait(&r->net.ring, &res, 4 * net_patience()));
		EXPECT_EQ(result, res.res);
		EXPECT_EQ(0, res.flags);
	}
	EXPECT_TRUE(rds_quiet(r, 20));
}

/*
 * Connections get stuck with one of the messages after the other, each of which ends. What
 * can be read passes as soon as there is none before it, and what the peer sends all the
 * time: it is not acknowledged by a connection that is given up, and then lost
 */
TEST_F_TIMEOUT(rds_stuck, redirected, 400)
{
	struct rdsrig *r = &self->rig;
	static struct crowd crowd;

	self->link = redirect(r);
	ASSERT_LE(0, self->link);
	EXPECT_EQ(0, rds_pass(r));
	ASSERT_EQ(0, crowd_start(&crowd, r));
	all_end(_metadata, r, -EHOSTUNREACH);
	EXPECT_EQ(0, crowd_stop(&crowd));
	EXPECT_EQ(0, crowd.again);
	EXPECT_EQ(0, rds_pass(r));

	close(self->link);
	self->link = -1;
	all_end(_metadata, r, SIZE);
	for (unsigned int i = 0; i < MESSAGES; i++) {
		EXPECT_EQ(0, rds_recv(r, i));
	}
}

/* It is over before TCP has got tired: nothing is lost */
TEST_F(rds_stuck, for_a_moment)
{
	struct rdsrig *r = &self->rig;
	struct uring_res res;

	self->link = redirect(r);
	ASSERT_LE(0, self->link);
	rds_stamp(r->stamped, 7, SIZE);
	ASSERT_EQ(0, rds_put(r, RDS_BAR, 0, r->stamped, SIZE));
	rds_prep(r, r->tx, RDS_BAR, 0, SIZE, true);
	ASSERT_EQ(1, uring_submit(&r->net.ring, 0));
	EXPECT_TRUE(rds_quiet(r, 300));
	close(self->link);
	self->link = -1;
	ASSERT_EQ(0, uring_wait(&r->net.ring, &res, net_patience()));
	EXPECT_EQ(SIZE, res.res);
	EXPECT_EQ(0, rds_recv(r, 7));
}

TEST_HARNESS_MAIN
