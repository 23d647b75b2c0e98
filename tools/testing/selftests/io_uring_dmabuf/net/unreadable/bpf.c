// SPDX-License-Identifier: GPL-2.0
/* BPF programs cannot read device memory that is being sent, nor write to it */
#include <string.h>
#include <unistd.h>
#include <net/if.h>
#include <sys/syscall.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>

#include "cards.h"

#define HDR_MAX		(ETH_HLEN + 60 + 60)
#define LONG		(HDR_MAX + 100)	/* has payload for certain */

#define INSN(c, d, s, o, i)						\
	((struct bpf_insn) { .code = c, .dst_reg = d, .src_reg = s,	\
			     .off = o, .imm = i })
#define MOV(d, s)		INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define MOV_K(d, k)		INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, k)
#define ADD_K(d, k)		INSN(BPF_ALU64 | BPF_ADD | BPF_K, d, 0, 0, k)
#define LOAD(size, d, s, o)	INSN(BPF_LDX | BPF_MEM | (size), d, s, o, 0)
#define STORE(size, d, o, s)	INSN(BPF_STX | BPF_MEM | (size), d, s, o, 0)
#define STORE_K(size, d, o, k)	INSN(BPF_ST | BPF_MEM | (size), d, 0, o, k)
#define JUMP(op, d, s, o)	INSN(BPF_JMP | (op) | BPF_X, d, s, o, 0)
#define JUMP_K(op, d, k, o)	INSN(BPF_JMP | (op) | BPF_K, d, 0, o, k)
#define CALL(f)			INSN(BPF_JMP | BPF_CALL, 0, 0, 0, f)
#define EXIT()			INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
#define LOAD_ABS(off)		INSN(BPF_LD | BPF_ABS | BPF_W, 0, 0, 0, off)

enum { R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 };

/* What a program got out of packets that are long enough to have payload */
struct bpf_saw {
	__u64 packets;
	__u64 loads, pulls, directs, stores, absolutes;	/* successful ones */
	__u64 last;		/* 8 bytes that were read */
};

#define COUNT(what)							\
	INSN(BPF_STX | BPF_DW | BPF_ATOMIC, R7, R8,			\
	     offsetof(struct bpf_saw, what), BPF_ADD)
#define KEEP(reg)		STORE(BPF_DW, R7, offsetof(struct bpf_saw, last), reg)
#define FIELD(what)		offsetof(struct __sk_buff, what)

struct prog {
	struct bpf_insn insn[128];
	unsigned int nr;
	int map, fd;
};

static void add_insns(struct prog *p, const struct bpf_insn *insn, unsigned int nr)
{
	if (p->nr + nr > ARRAY_SIZE(p->insn))
		abort();
	memcpy(p->insn + p->nr, insn, nr * sizeof(*insn));
	p->nr += nr;
}

#define ADD(p, ...) do {						\
	const struct bpf_insn insn_[] = { __VA_ARGS__ };		\
									\
	add_insns(p, insn_, ARRAY_SIZE(insn_));				\
} while (0)

/* R6 packet, R7 struct bpf_saw, R8 1, R9 length; 8 bytes at R10 - 16 */
static void add_start(struct prog *p)
{
	ADD(p,
	    MOV(R6, R1),
	    STORE_K(BPF_W, R10, -4, 0),
	    /* the address of the map, which takes two */
	    INSN(BPF_LD | BPF_DW | BPF_IMM, R1, BPF_PSEUDO_MAP_FD, 0, p->map),
	    INSN(0, 0, 0, 0, 0),
	    MOV(R2, R10),
	    ADD_K(R2, -4),
	    CALL(BPF_FUNC_map_lookup_elem),
	    JUMP_K(BPF_JNE, R0, 0, 2),
	    MOV_K(R0, -1),
	    EXIT(),
	    MOV(R7, R0),
	    MOV_K(R8, 1),
	    LOAD(BPF_W, R9, R6, FIELD(len)),
	    JUMP_K(BPF_JGE, R9, LONG, 2),
	    MOV_K(R0, -1),
	    EXIT(),
	    COUNT(packets));
}

/* -1: TCX_NEXT, or all of the packet */
static void add_end(struct prog *p)
{
	ADD(p, MOV_K(R0, -1), EXIT());
}

/* The last bytes */
static void add_load(struct prog *p)
{
	ADD(p,
	    MOV(R1, R6),
	    MOV(R2, R9),
	    ADD_K(R2, -8),
	    MOV(R3, R10),
	    ADD_K(R3, -16),
	    MOV_K(R4, 8),
	    CALL(BPF_FUNC_skb_load_bytes),
	    JUMP_K(BPF_JNE, R0, 0, 3),
	    LOAD(BPF_DW, R1, R10, -16),
	    KEEP(R1),
	    COUNT(loads));
}

/* Back to where they were read, or would have been */
static void add_store(struct prog *p)
{
	ADD(p,
	    MOV(R1, R6),
	    MOV(R2, R9),
	    ADD_K(R2, -8),
	    MOV(R3, R10),
	    ADD_K(R3, -16),
	    MOV_K(R4, 8),
	    MOV_K(R5, 0),
	    CALL(BPF_FUNC_skb_store_bytes),
	    JUMP_K(BPF_JNE, R0, 0, 1),
	    COUNT(stores));
}

/* The first bytes that are no header for certain */
static void add_direct(struct prog *p)
{
	ADD(p,
	    LOAD(BPF_W, R2, R6, FIELD(data)),
	    LOAD(BPF_W, R3, R6, FIELD(data_end)),
	    MOV(R4, R2),
	    ADD_K(R4, HDR_MAX + 8),
	    JUMP(BPF_JGT, R4, R3, 3),
	    LOAD(BPF_DW, R1, R2, HDR_MAX),
	    KEEP(R1),
	    COUNT(directs));
}

/* What is there already, then everything */
static void add_pull(struct prog *p)
{
	ADD(p,
	    MOV(R1, R6),
	    MOV_K(R2, 0),
	    CALL(BPF_FUNC_skb_pull_data));
	add_direct(p);
	ADD(p,
	    MOV(R1, R6),
	    MOV(R2, R9),
	    CALL(BPF_FUNC_skb_pull_data),
	    JUMP_K(BPF_JNE, R0, 0, 1),
	    COUNT(pulls));
	add_direct(p);
}

/* As classic BPF does it; the program ends if that fails */
static void add_absolute(struct prog *p)
{
	ADD(p, LOAD_ABS(HDR_MAX), COUNT(absolutes));
}

static void add_clone(struct prog *p, int ifindex, int flags)
{
	ADD(p,
	    MOV(R1, R6),
	    MOV_K(R2, ifindex),
	    MOV_K(R3, flags),
	    CALL(BPF_FUNC_clone_redirect));
}

static int bpf(int cmd, union bpf_attr *attr)
{
	int ret = syscall(__NR_bpf, cmd, attr, sizeof(*attr));

	return ret < 0 ? -errno : ret;
}

static int prog_init(struct prog *p)
{
	union bpf_attr attr = { 0 };

	attr.map_type = BPF_MAP_TYPE_ARRAY;
	attr.key_size = sizeof(__u32);
	attr.value_size = sizeof(struct bpf_saw);
	attr.max_entries = 1;
	*p = (struct prog) { .fd = -1 };
	p->map = bpf(BPF_MAP_CREATE, &attr);
	if (p->map < 0)
		return p->map;
	add_start(p);
	return 0;
}

static int prog_load(struct prog *p, enum bpf_prog_type type)
{
	static char log[FRAME_MAX];
	union bpf_attr attr = { 0 };

	add_end(p);
	attr.prog_type = type;
	attr.insns = (uintptr_t)p->insn;
	attr.insn_cnt = p->nr;
	attr.license = (uintptr_t)"GPL";
	attr.log_buf = (uintptr_t)log;
	attr.log_size = sizeof(log);
	attr.log_level = 1;
	p->fd = bpf(BPF_PROG_LOAD, &attr);
	if (p->fd < 0)
		fprintf(stderr, "# BPF program: %d\n%s\n", p->fd, log);
	return p->fd < 0 ? p->fd : 0;
}

/* A link, which goes with its descriptor */
static int prog_attach(struct prog *p, const char *dev, enum bpf_attach_type type)
{
	union bpf_attr attr = { 0 };

	attr.link_create.prog_fd = p->fd;
	attr.link_create.target_ifindex = if_nametoindex(dev);
	attr.link_create.attach_type = type;
	return bpf(BPF_LINK_CREATE, &attr);
}

static void prog_done(struct prog *p)
{
	close(p->fd);
	close(p->map);
}

/* What it saw, which it forgets */
static int prog_read(struct prog *p, struct bpf_saw *saw)
{
	const struct bpf_saw none = { 0 };
	union bpf_attr attr = { 0 };
	__u32 key = 0;
	int ret;

	attr.map_fd = p->map;
	attr.key = (uintptr_t)&key;
	attr.value = (uintptr_t)saw;
	ret = bpf(BPF_MAP_LOOKUP_ELEM, &attr);
	attr.value = (uintptr_t)&none;
	return ret ?: bpf(BPF_MAP_UPDATE_ELEM, &attr);
}

#define PROG_INIT(p) do {						\
	if (access("/proc/sys/kernel/unprivileged_bpf_disabled", F_OK))	\
		SKIP(return, "no bpf(2) (CONFIG_BPF_SYSCALL)");		\
	ASSERT_EQ(0, prog_init(p));					\
} while (0)

static void check_saw_nothing(struct __test_metadata *_metadata, struct prog *p)
{
	struct bpf_saw saw;

	ASSERT_EQ(0, prog_read(p, &saw));
	EXPECT_GT(saw.packets, 0);
	EXPECT_EQ(0, saw.loads);
	EXPECT_EQ(0, saw.pulls);
	EXPECT_EQ(0, saw.directs);
	EXPECT_EQ(0, saw.stores);
	EXPECT_EQ(0, saw.absolutes);
	EXPECT_EQ(0, saw.last);
}

/* All that a classifier can do, to packets of both connections */
static void check_classifier(struct __test_metadata *_metadata, struct unread_rig *rig,
			     const char *dev, enum bpf_attach_type type)
{
	struct bpf_saw saw;
	struct prog prog;
	int link;

	PROG_INIT(&prog);
	add_load(&prog);
	add_direct(&prog);
	add_pull(&prog);
	add_store(&prog);
	ASSERT_EQ(0, prog_load(&prog, BPF_PROG_TYPE_SCHED_CLS));
	link = prog_attach(&prog, dev, type);
	ASSERT_GE(link, 0);

	SEND_UNREADABLE();
	check_saw_nothing(_metadata, &prog);
	SEND_ORDINARY();
	ASSERT_EQ(0, prog_read(&prog, &saw));
	EXPECT_GT(saw.packets, 0);
	EXPECT_EQ(saw.packets, saw.loads);
	EXPECT_EQ(saw.packets, saw.pulls);
	EXPECT_GE(saw.directs, saw.packets);
	EXPECT_EQ(saw.packets, saw.stores);
	EXPECT_NE(NULL, memmem(rig->match.ordinary, LEN, &saw.last, 8));
	close(link);
	prog_done(&prog);
}

TEST_F(cards, bpf_egress)
{
	struct unread_rig *rig = &self->rig;

	check_classifier(_metadata, rig, rig->net.dev[NET_CARD],
			 BPF_TCX_EGRESS);
	CHECK_OVER();
}

TEST_F(unread, bpf_ingress)
{
	struct unread_rig *rig = &self->rig;

	VETH_UP();
	MIRRED("ingress mirror", VETH);
	check_classifier(_metadata, rig, VETH, BPF_TCX_INGRESS);
	EXPECT_EQ(0, undo_all(&rig->undo));
	CHECK_OVER();
}

/* To the far end of the veth, and back from it */
TEST_F(unread, bpf_clone_redirect)
{
	struct unread_rig *rig = &self->rig;
	struct probe *p = rig->probe;
	struct prog prog;
	int link;

	VETH_UP();
	PROG_INIT(&prog);
	add_clone(&prog, if_nametoindex(VETH), 0);
	add_clone(&prog, if_nametoindex(VETH), BPF_F_INGRESS);
	ASSERT_EQ(0, prog_load(&prog, BPF_PROG_TYPE_SCHED_CLS));
	ASSERT_EQ(0, probe_far(rig, &p[0]));
	ASSERT_EQ(0, probe_here(rig, &p[1], VETH, PROBE_RAW, ETH_P_IP));
	ASSERT_EQ(0, probe_here(rig, &p[2], VETH, PROBE_RAW, ETH_P_ALL));
	link = prog_attach(&prog, rig->net.dev[NET_CARD], BPF_TCX_EGRESS);
	ASSERT_GE(link, 0);
	SEND_BOTH();
	RECV_BOTH();
	EXPECT_TRUE(probes_wait(p, 3));
	EXPECT_TRUE(probe_wait_unreadable(&p[1], 1));
	EXPECT_EQ(0, p[0].nr_unreadable);
	for (int i = 0; i < 3; i++) {
		check_probe(_metadata, &p[i]);
		probe_close(&p[i]);
	}
	close(link);
	prog_done(&prog);
	EXPECT_EQ(0, undo_all(&rig->undo));
	CHECK_OVER();
}

/* It runs on the packet before that is cut to what the socket may have */
TEST_F(unread, socket_filter)
{
	struct unread_rig *rig = &self->rig;
	struct probe *p = &rig->probe[0];
	struct bpf_saw saw;
	struct prog prog;

	VETH_UP();
	MIRRED("ingress mirror", VETH);
	PROG_INIT(&prog);
	add_load(&prog);
	add_absolute(&prog);
	ASSERT_EQ(0, prog_load(&prog, BPF_PROG_TYPE_SOCKET_FILTER));
	ASSERT_EQ(0, probe_here(rig, p, VETH, PROBE_RAW, ETH_P_IP));
	ASSERT_EQ(0, net_set(p->fd, SOL_SOCKET, SO_ATTACH_BPF, prog.fd));

	SEND_UNREADABLE();
	check_saw_nothing(_metadata, &prog);
	SEND_ORDINARY();
	EXPECT_TRUE(probes_wait(p, 1));
	check_probe(_metadata, p);
	ASSERT_EQ(0, prog_read(&prog, &saw));
	EXPECT_GT(saw.packets, 0);
	EXPECT_EQ(saw.packets, saw.loads);
	EXPECT_EQ(saw.packets, saw.absolutes);
	probe_close(p);
	prog_done(&prog);
	EXPECT_EQ(0, undo_all(&rig->undo));
	CHECK_OVER();
}

TEST_HARNESS_MAIN
