// SPDX-License-Identifier: GPL-2.0
/*
 * Zerocopy sends by RDS over TCP that cannot be, or have to wait: which errno, how many
 * completions, and that the socket works as before.
 */
#include <netinet/in.h>
#include <linux/rds.h>

#include "common.h"
#include "rdsrig.h"
#include "../../net/netmem/cmsg.h"

#define LEN	(64 * KiB)

FIXTURE(rds_errors) {
	struct rdsrig rig;
};

FIXTURE_VARIANT(rds_errors) {
	const char *card;	/* NULL: veth */
	int family;
};

FIXTURE_VARIANT_ADD(rds_errors, veth_4) { .family = AF_INET };
FIXTURE_VARIANT_ADD(rds_errors, e1000e_6) { .card = "e1000e", .family = AF_INET6 };
FIXTURE_VARIANT_ADD(rds_errors, vmxnet3_4) { .card = "vmxnet3", .family = AF_INET };

/* What the memory has: registered or not, ordinary memory is the same */
static __u32 stamp_of(enum rds_kind kind)
{
	return kind == RDS_USER ? RDS_REGISTERED : kind;
}

FIXTURE_SETUP(rds_errors)
{
	struct rdsrig *r = &self->rig;

	RDSRIG_UP(r, variant->card, variant->family);
	for (enum rds_kind kind = 0; kind < RDS_KINDS; kind++) {
		if (!rdsrig_has(r, kind))
			continue;
		rds_stamp(r->stamped, stamp_of(kind), RDS_SIZE);
		ASSERT_EQ(0, rds_put(r, kind, 0, r->stamped, RDS_SIZE));
	}
}

FIXTURE_TEARDOWN(rds_errors)
{
	EXPECT_EQ(0, rdsrig_idle(&self->rig));
	rdsrig_down(&self->rig);
}

/* The request is the only one, and fails: with one CQE, or with two that are right */
#define FAILS(r, result, single) do {					\
	struct uring_res res_;						\
									\
	ASSERT_EQ(1, uring_submit(&(r)->net.ring, 0));			\
	ASSERT_EQ(0, uring_wait(&(r)->net.ring, &res_, net_patience()));	\
	EXPECT_EQ(result, res_.res);					\
	EXPECT_EQ((single) ? 0 : IORING_CQE_F_MORE, res_.flags);	\
	if (!(single)) {						\
		ASSERT_EQ(0, uring_wait(&(r)->net.ring, &res_,		\
					net_patience()));		\
		EXPECT_EQ(IORING_CQE_F_NOTIF, res_.flags);		\
	}								\
	EXPECT_TRUE(rds_quiet(r, 10));					\
} while (0)

/* It arrives */
#define WORKS(r, sk, kind) do {						\
	struct uring_res res_;						\
									\
	rds_prep(r, sk, kind, 0, RDS_SIZE, true);			\
	ASSERT_EQ(1, uring_submit(&(r)->net.ring, 0));			\
	ASSERT_EQ(0, uring_wait(&(r)->net.ring, &res_, net_patience()));	\
	EXPECT_EQ(RDS_SIZE, res_.res);					\
	EXPECT_EQ(0, rds_recv(r, stamp_of(kind)));				\
} while (0)

TEST_F(rds_errors, requests)
{
	struct rdsrig *r = &self->rig;

	for (enum rds_kind kind = 0; kind < RDS_KINDS; kind++) {
		if (!rdsrig_has(r, kind))
			continue;
		for (int single = 0; single < 2; single++) {
			rds_prep(r, r->tx, kind, 0, 1 * MiB + 1, single);
			FAILS(r, -EMSGSIZE, single);
			rds_prep(r, r->tx, kind, 0, LEN, single)->msg_flags = MSG_MORE;
			FAILS(r, -EOPNOTSUPP, single);
			rds_prep(r, r->tx, kind, 0, LEN, single)->msg_flags = MSG_WAITALL;
			FAILS(r, -EOPNOTSUPP, single);
			ASSERT_EQ(0, net_set(r->tx, SOL_SOCKET, SO_SNDBUFFORCE, LEN));
			rds_prep(r, r->tx, kind, 0, LEN + 1, single);
			FAILS(r, -EMSGSIZE, single);
			ASSERT_EQ(0, net_set(r->tx, SOL_SOCKET, SO_SNDBUFFORCE, 64 * MiB));
			/* past the end of the slot; there is nothing behind the memory */
			if (kind != RDS_USER) {
				rds_prep(r, r->tx, kind, RDS_AREA - 100, 200, single);
				FAILS(r, -EFAULT, single);
			}
		}
		WORKS(r, r->tx, kind);
	}
	mprotect(r->user + RDS_AREA / 2, 4096, PROT_NONE);
	for (int single = 0; single < 2; single++) {
		rds_prep(r, r->tx, RDS_USER, RDS_AREA / 2 - 8192, 16384, single);
		FAILS(r, -EFAULT, single);
	}
	EXPECT_EQ(0, rds_pass(r));
}

/* The longest message there can be, and the shortest */
TEST_F(rds_errors, lengths)
{
	struct rdsrig *r = &self->rig;
	__u64 *got = malloc(1 * MiB);
	struct uring_res res;

	ASSERT_NE(NULL, got);
	for (enum rds_kind kind = 0; kind < RDS_KINDS; kind++) {
		if (!rdsrig_has(r, kind))
			continue;
		rds_stamp(got, 9, 1 * MiB);
		ASSERT_EQ(0, rds_put(r, kind, 0, got, 1 * MiB));
		memset(got, 0, 1 * MiB);
		rds_prep(r, r->tx, kind, 0, 1 * MiB, true);
		ASSERT_EQ(1, uring_submit(&r->net.ring, 0));
		ASSERT_EQ(0, uring_wait(&r->net.ring, &res, net_patience()));
		EXPECT_EQ(1 * MiB, res.res);
		ASSERT_EQ(1 * MiB, net_recv_again(r->rx, got, 1 * MiB, 0));
		EXPECT_EQ(0, rds_check(got, 9, 1 * MiB));
		rds_prep(r, r->tx, kind, 0, 0, true);
		ASSERT_EQ(1, uring_submit(&r->net.ring, 0));
		ASSERT_EQ(0, uring_wait(&r->net.ring, &res, net_patience()));
		EXPECT_EQ(0, res.res);
		EXPECT_EQ(0, net_recv_again(r->rx, got, 1 * MiB, 0));
	}
	free(got);
}

TEST_F(rds_errors, not_connected)
{
	struct rdsrig *r = &self->rig;
	int bound = rds_socket(r, NET_CARD, RDS_PORT + 1);
	int fresh = net_socket(&r->net, NET_CARD, PF_RDS, SOCK_SEQPACKET, 0);
	struct io_uring_regbuf_desc d;

	ASSERT_GE(bound, 0);
	ASSERT_GE(fresh, 0);
	for (int single = 0; single < 2; single++) {
		rds_prep(r, bound, RDS_REGISTERED, 0, LEN, single);
		FAILS(r, -ENOTCONN, single);
		rds_prep(r, fresh, RDS_USER, 0, LEN, single);
		FAILS(r, -ENOTCONN, single);
	}
	d = desc_dmabuf(r->net.mem.fd, bound);
	EXPECT_EQ(-ENOTCONN, reg_one(&r->net.ring, 5, &d));
	d = desc_dmabuf(r->net.mem.fd, fresh);
	EXPECT_EQ(-ENOTCONN, reg_one(&r->net.ring, 5, &d));
	/* the device that it is bound to is none that RDS heeds */
	ASSERT_EQ(0, net_bind_card(&r->net, bound));
	EXPECT_EQ(-ENOTCONN, reg_one(&r->net.ring, 5, &d));
	close(bound);
	close(fresh);
}

/* An address in the place of a connection; and a cookie, which the ring is in place of */
TEST_F(rds_errors, messages)
{
	struct rdsrig *r = &self->rig;
	int sk = rds_socket(r, NET_CARD, RDS_PORT + 1);
	char control[CMSG_SPACE(sizeof(__u32))] __attribute__((aligned(8)));
	struct iovec iov = { r->user, RDS_SIZE };
	struct sockaddr_storage to;
	struct msghdr msg = {
		.msg_name = &to,
		.msg_namelen = net_addr(&r->net, NET_PEER, r->family, RDS_PORT, &to),
		.msg_iov = &iov,
		.msg_iovlen = 1,
	};
	struct uring_res res;

	ASSERT_GE(sk, 0);
	rds_stamp(r->stamped, 3, RDS_SIZE);
	ASSERT_EQ(0, rds_put(r, RDS_USER, 0, r->stamped, RDS_SIZE));
	for (int cookie = 0; cookie < 2; cookie++) {
		struct io_uring_sqe *sqe = net_prep_msg(&r->net, sk, RDS_REGISTERED, &msg, 0);

		sqe->ioprio |= IORING_SEND_ZC_SINGLE_CQE;
		if (cookie) {
			cmsg_put(&msg, control, SOL_RDS, RDS_CMSG_ZCOPY_COOKIE, &(__u32) { 0 },
				 sizeof(__u32));
			FAILS(r, -EINVAL, true);
			continue;
		}
		ASSERT_EQ(1, uring_submit(&r->net.ring, 0));
		ASSERT_EQ(0, uring_wait(&r->net.ring, &res, net_patience()));
		EXPECT_EQ(RDS_SIZE, res.res);
		EXPECT_EQ(0, rds_recv(r, 3));
	}
	close(sk);
}

/*
 * RDS hands such a message over. It has the memory no more, even if nobody ever reads it,
 * and its receiver reads what was sent.
 */
TEST_F(rds_errors, same_namespace)
{
	struct rdsrig *r = &self->rig;
	int rx = rds_socket(r, NET_CARD, RDS_PORT + 2);
	int tx = rds_socket(r, NET_CARD, RDS_PORT + 1);
	const __u64 off = 1000;		/* no page begins with what is sent */
	int peer = r->rx;
	struct sockaddr_storage to;
	socklen_t len = net_addr(&r->net, NET_CARD, r->family, RDS_PORT + 2, &to);
	struct io_uring_regbuf_desc d;
	struct uring_res res;

	ASSERT_GE(rx, 0);
	ASSERT_GE(tx, 0);
	ASSERT_EQ(0, connect(tx, (void *)&to, len));
	r->rx = rx;
	for (enum rds_kind kind = 0; kind < RDS_DMABUF; kind++) {
		rds_stamp(r->stamped, 20 + kind, RDS_SIZE);
		ASSERT_EQ(0, rds_put(r, kind, off, r->stamped, RDS_SIZE));
		rds_prep(r, tx, kind, off, RDS_SIZE, true);
		ASSERT_EQ(1, uring_submit(&r->net.ring, 0));
		ASSERT_EQ(0, uring_wait(&r->net.ring, &res, net_patience()));
		EXPECT_EQ(RDS_SIZE, res.res);
		EXPECT_EQ(IORING_CQE_F_ZC_COPIED, res.flags);
		rds_stamp(r->stamped, 30 + kind, RDS_SIZE);
		ASSERT_EQ(0, rds_put(r, kind, off, r->stamped, RDS_SIZE));
		EXPECT_EQ(0, rds_recv(r, 20 + kind));
	}
	/* one that is thrown away, and one without data */
	for (unsigned int len = 0; len <= RDS_SIZE; len += RDS_SIZE) {
		rds_prep(r, tx, RDS_REGISTERED, off, len, false);
		ASSERT_EQ(1, uring_submit(&r->net.ring, 0));
		ASSERT_EQ(0, uring_wait(&r->net.ring, &res, net_patience()));
		EXPECT_EQ(len, res.res);
		EXPECT_EQ(IORING_CQE_F_MORE, res.flags);
		ASSERT_EQ(0, uring_wait(&r->net.ring, &res, net_patience()));
		EXPECT_EQ(IORING_CQE_F_NOTIF, res.flags);
		EXPECT_EQ(IORING_NOTIF_USAGE_ZC_COPIED, (__u32)res.res);
	}
	for (int single = 0; single < 2 && !r->veth; single++) {
		rds_prep(r, tx, RDS_DMABUF, 0, RDS_SIZE, single);
		FAILS(r, -EOPNOTSUPP, single);
	}
	d = desc_dmabuf(r->net.mem.fd, tx);
	EXPECT_EQ(-EOPNOTSUPP, reg_one(&r->net.ring, 5, &d));
	r->rx = peer;
	close(rx);
	close(tx);
	EXPECT_EQ(0, rds_pass(r));
}

/* --- targets --- */

/* A socket that is bound to the other card, in whatever netns that is */
static int other_socket(const char *card)
{
	char env[64] = "LAB_NET_";
	const char *dev;
	int sk;

	strcat(env, strcmp(card, "e1000e") ? "E1000E" : "VMXNET3");
	dev = lab_env(env);
	sk = dev ? socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
	if (sk >= 0 && setsockopt(sk, SOL_SOCKET, SO_BINDTODEVICE, dev, strlen(dev) + 1)) {
		close(sk);
		return -errno;
	}
	return sk;
}

TEST_F(rds_errors, targets)
{
	struct rdsrig *r = &self->rig;
	struct io_uring_regbuf_desc d = desc_dmabuf(r->net.mem.fd, r->tx);
	struct net_pair udp = NET_PAIR_NONE;
	int disk, other;

	if (r->veth) {
		EXPECT_EQ(-EOPNOTSUPP, reg_one(&r->net.ring, RDS_DMABUF, &d));
		return;
	}
	disk = NEED_DISK("LAB_NVME_MAIN");
	ASSERT_EQ(0, reg_dmabuf(&r->net.ring, RDS_DMABUF, r->net.mem.fd, disk));
	for (int single = 0; single < 2; single++) {
		rds_prep(r, r->tx, RDS_DMABUF, 0, LEN, single);
		FAILS(r, -EBADF, single);
	}
	other = other_socket(variant->card);
	ASSERT_GE(other, 0);
	ASSERT_EQ(0, reg_dmabuf(&r->net.ring, RDS_DMABUF, r->net.mem.fd, other));
	for (int single = 0; single < 2; single++) {
		rds_prep(r, r->tx, RDS_DMABUF, 0, LEN, single);
		FAILS(r, -ENODEV, single);
	}
	/* the device counts: any socket that leaves by it will do */
	ASSERT_EQ(0, net_udp(&r->net, r->family, &udp));
	ASSERT_EQ(0, reg_dmabuf(&r->net.ring, RDS_DMABUF, r->net.mem.fd, udp.tx));
	WORKS(r, r->tx, RDS_DMABUF);
	net_close(&udp);
	close(other);
	close(disk);
}

/* Every byte from the CPU's mapping, where that is allowed */
TEST_F(rds_errors, copy_is_allowed)
{
	struct rdsrig *r = &self->rig;
	struct io_uring_regbuf_desc d = desc_dmabuf(r->net.mem.fd, -1);
	struct uring_res res;
	int disk = NEED_DISK("LAB_NVME_MAIN");

	d.target_fd = disk;
	d.flags = IO_REGBUF_DMABUF_COPY_OK;
	ASSERT_EQ(0, reg_one(&r->net.ring, RDS_DMABUF, &d));
	rds_stamp(r->stamped, 5, RDS_SIZE);
	ASSERT_EQ(0, mem_put(&r->net.mem, 0, r->stamped, RDS_SIZE));
	rds_prep(r, r->tx, RDS_DMABUF, 0, RDS_SIZE, true);
	ASSERT_EQ(1, uring_submit(&r->net.ring, 0));
	ASSERT_EQ(0, uring_wait(&r->net.ring, &res, net_patience()));
	EXPECT_EQ(RDS_SIZE, res.res);
	EXPECT_EQ(IORING_CQE_F_ZC_COPIED, res.flags);
	EXPECT_EQ(0, rds_recv(r, 5));
	close(disk);
}

/* --- waiting --- */

/* A request that has to wait for room sends its message then, all of it */
TEST_F(rds_errors, waits_for_room)
{
	struct rdsrig *r = &self->rig;
	enum rds_kind kind = r->veth ? RDS_REGISTERED : RDS_DMABUF;
	struct uring_res res;

	ASSERT_EQ(0, net_set(r->tx, SOL_SOCKET, SO_SNDBUFFORCE, 2 * RDS_SIZE));
	ASSERT_EQ(0, rdsrig_peer(r, "down"));
	for (unsigned int i = 0; i < 6; i++) {
		rds_stamp(r->stamped, i, RDS_SIZE);
		ASSERT_EQ(0, rds_put(r, kind, i * RDS_SIZE, r->stamped, RDS_SIZE));
		rds_prep(r, r->tx, kind, i * RDS_SIZE, RDS_SIZE, true)->user_data = i;
	}
	ASSERT_EQ(6, uring_submit(&r->net.ring, 0));
	EXPECT_TRUE(rds_quiet(r, 100));
	ASSERT_EQ(0, rdsrig_peer(r, "up"));
	for (unsigned int i = 0; i < 6; i++) {
		ASSERT_EQ(0, uring_wait(&r->net.ring, &res, net_patience()));
		EXPECT_EQ(RDS_SIZE, res.res);
	}
	/* who waits is woken in no particular order */
	for (unsigned int seen = 0; seen != 0x3f;) {
		__u32 i;

		ASSERT_EQ(RDS_SIZE, net_recv_again(r->rx, r->stamped, RDS_SIZE, 0));
		i = r->stamped[0] >> 32;
		ASSERT_GT(6, i);
		EXPECT_EQ(0, rds_check(r->stamped, i, RDS_SIZE));
		EXPECT_FALSE(seen & 1U << i);
		seen |= 1U << i;
	}
}

/* Who receives nothing stops the senders, which are told */
TEST_F(rds_errors, congestion)
{
	struct rdsrig *r = &self->rig;
	enum rds_kind kind = r->veth ? RDS_USER : RDS_BAR;
	unsigned int sent = 0;
	struct uring_res res;

	ASSERT_EQ(0, net_set(r->rx, SOL_SOCKET, SO_RCVBUFFORCE, RDS_SIZE));
	do {
		rds_prep(r, r->tx, kind, 0, RDS_SIZE, true);
		ASSERT_EQ(1, uring_submit(&r->net.ring, 0));
		ASSERT_EQ(0, uring_wait(&r->net.ring, &res, net_patience()));
		if (res.res == (int)RDS_SIZE)
			sent++;
		/* the receiver has to say so first */
		lab_sleep_ms(50);
	} while (res.res == (int)RDS_SIZE && sent < 20);
	EXPECT_EQ(-ENOBUFS, res.res);
	EXPECT_EQ(0, res.flags);
	while (sent--) {
		ASSERT_EQ(0, rds_recv(r, stamp_of(kind)));
	}
	lab_sleep_ms(100);
	EXPECT_EQ(0, rds_pass(r));
}

TEST_HARNESS_MAIN
