// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "netset.h"
#include "rdsrig.h"

#define VETH_NET	9		/* cards have others */
#define LAG		8		/* messages that the receiver has not read */

static int veth_up(struct netrig *n)
{
	n->net = VETH_NET;
	n->home = net_ns_open();
	if (n->home < 0)
		return n->home;
	for (int side = 0; side < NET_SIDES; side++) {
		n->ns[side] = net_ns_new();
		if (n->ns[side] < 0)
			return n->ns[side];
		snprintf(n->dev[side], sizeof(n->dev[side]), "rds74%c", 'a' + side);
	}
	return netset_veth(n->ns[NET_CARD], n->dev[NET_CARD], n->dev[NET_PEER],
			   n->ns[NET_PEER]);
}

static int card_up(struct netrig *n, const char *card, const char **why)
{
	int ret = netrig_apart(n, card, why);

	if (ret)
		return ret;
	n->ns[NET_CARD] = net_ns_new();
	if (n->ns[NET_CARD] < 0)
		return n->ns[NET_CARD];
	return netset_move(n->home, n->dev[NET_CARD], n->ns[NET_CARD]);
}

static int side_up(struct netrig *n, enum net_side side, bool veth)
{
	const char *dev = n->dev[side];
	int ret = netset_link(n->ns[side], "lo", 0, true);

	if (ret || !veth)
		return ret ?: net_configure(n, side);
	return netset_link(n->ns[side], dev, 0, true) ?:
	       netset_addr4(n->ns[side], dev, n->net, side + 1) ?:
	       netset_addr6(n->ns[side], dev, n->net, side + 1);
}

int rdsrig_peer(const struct rdsrig *r, const char *state)
{
	const struct netrig *n = &r->net;
	int ret = net_ip(n->ns[NET_PEER], "link set dev %s %s\n", n->dev[NET_PEER],
			 state);

	/* IPv6 addresses go with the link */
	if (!ret && !strcmp(state, "up"))
		ret = net_ip(n->ns[NET_PEER], "addr replace fd73:%u::2/64 dev %s nodad\n",
			     n->net, n->dev[NET_PEER]);
	return ret;
}

bool rdsrig_has(const struct rdsrig *r, enum rds_kind kind)
{
	return kind < RDS_DMABUF || !r->veth;
}

int rds_socket(const struct rdsrig *r, enum net_side side, int port)
{
	struct sockaddr_storage ss;
	socklen_t len = net_addr(&r->net, side, r->family, port, &ss);
	int sk = net_socket(&r->net, side, PF_RDS, SOCK_SEQPACKET, 0);
	int ret = sk < 0 ? sk : 0;

	ret = ret ?: net_bind(sk, &ss, len);
	ret = ret ?: net_set(sk, SOL_SOCKET, SO_SNDBUFFORCE, 64 * MiB);
	ret = ret ?: net_set(sk, SOL_SOCKET, SO_RCVBUFFORCE, 64 * MiB);
	if (ret && sk >= 0)
		close(sk);
	return ret ?: sk;
}

int rds_sender(const struct rdsrig *r, int port)
{
	struct sockaddr_storage ss;
	socklen_t len = net_addr(&r->net, NET_PEER, r->family, RDS_PORT, &ss);
	int sk = rds_socket(r, NET_CARD, port), ret;

	if (sk < 0 || !connect(sk, (void *)&ss, len))
		return sk;
	ret = -errno;
	close(sk);
	return ret;
}

int rds_pass_between(int tx, int rx)
{
	char out[] = "a small message", in[sizeof(out) + 1];
	ssize_t len = send(tx, out, sizeof(out), 0);

	if (len != sizeof(out))
		return len < 0 ? -errno : -EIO;
	len = net_recv_again(rx, in, sizeof(in), 0);
	if (len != sizeof(out))
		return len < 0 ? -errno : -EMSGSIZE;
	return memcmp(in, out, sizeof(out)) ? -EILSEQ : 0;
}

int rds_pass(const struct rdsrig *r)
{
	return rds_pass_between(r->tx, r->rx);
}

int rdsrig_ring(struct rdsrig *r, unsigned int entries, unsigned int flags)
{
	struct io_uring_regbuf_desc d = desc_uaddr(r->user, RDS_AREA);
	struct uring *ring = &r->net.ring;
	int ret = netrig_ring(&r->net, entries, flags);

	ret = ret ?: reg_one(ring, RDS_REGISTERED, &d);
	if (ret || r->veth)
		return ret;
	ret = reg_dmabuf(ring, RDS_DMABUF, r->net.mem.fd, r->tx);
	return ret ?: reg_dmabuf(ring, RDS_BAR, r->bar.fd, r->tx);
}

/* What it takes to send */
static int sockets_up(struct rdsrig *r)
{
	int ret;

	r->rx = rds_socket(r, NET_PEER, RDS_PORT);
	if (r->rx < 0)
		return r->rx;
	r->tx = rds_sender(r, RDS_PORT);
	if (r->tx < 0)
		return r->tx;
	ret = rdsrig_ring(r, 64, 0);
	/* twice: in between, RDS finds out how many connections there can be */
	ret = ret ?: rds_pass(r);
	return ret ?: rds_pass(r);
}

static int memory_up(struct rdsrig *r)
{
	void *p = mmap(NULL, RDS_AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	r->user = p == MAP_FAILED ? NULL : p;
	r->stamped = malloc(RDS_SIZE);
	if (!r->user || !r->stamped)
		return -ENOMEM;
	return r->veth ? 0 : net_mem(&r->bar, MEM_BAR, RDS_AREA);
}

int rdsrig_up(struct rdsrig *r, const char *card, int family, const char **why)
{
	struct netrig *n = &r->net;
	int ret;

	*r = (struct rdsrig) { .family = family, .tx = -1, .rx = -1, .veth = !card };
	r->bar.fd = -1;
	netrig_init(n);
	if (access("/proc/sys/net/rds/tcp", F_OK)) {
		*why = "no RDS over TCP";
		return -EPROTONOSUPPORT;
	}
	ret = netrig_up(n, NULL, MEM_UDMABUF, RDS_AREA, why);
	if (ret)
		return ret;
	ret = card ? card_up(n, card, why) : veth_up(n);
	ret = ret ?: side_up(n, NET_PEER, r->veth);
	ret = ret ?: side_up(n, NET_CARD, r->veth);
	ret = ret ?: memory_up(r);
	ret = ret ?: sockets_up(r);
	if (ret)
		rdsrig_down(r);
	return ret;
}

int rdsrig_idle(struct rdsrig *r)
{
	if (r->tx >= 0)
		close(r->tx);
	if (r->rx >= 0)
		close(r->rx);
	r->tx = -1;
	r->rx = -1;
	uring_exit(&r->net.ring);
	if (r->net.mem.fd < 0 || r->bar.fd < 0)
		return 0;
	return bufinfo_wait(r->net.mem.fd, 0, net_patience()) &&
	       bufinfo_wait(r->bar.fd, 0, net_patience()) ? 0 : -EBUSY;
}

void rdsrig_down(struct rdsrig *r)
{
	struct netrig *n = &r->net;

	rdsrig_idle(r);
	if (r->bar.fd >= 0)
		mem_destroy(&r->bar);
	if (r->user)
		munmap(r->user, RDS_AREA);
	free(r->stamped);
	r->bar.fd = -1;
	r->user = NULL;
	r->stamped = NULL;
	if (r->veth && n->home >= 0) {
		/* the connections refer to the netns until there is no link */
		netset_delete(n->ns[NET_CARD], n->dev[NET_CARD]);
		close(n->ns[NET_CARD]);
		close(n->ns[NET_PEER]);
		close(n->home);
		n->home = -1;
	}
	netrig_down(n);
}

int rds_put(struct rdsrig *r, enum rds_kind kind, __u64 off, const void *src, size_t len)
{
	if (kind >= RDS_DMABUF)
		return mem_put(kind == RDS_BAR ? &r->bar : &r->net.mem, off, src, len);
	memcpy(r->user + off, src, len);
	return 0;
}

__u64 rds_address(const struct rdsrig *r, enum rds_kind kind, __u64 off)
{
	return kind >= RDS_DMABUF ? off : (uintptr_t)r->user + off;
}

struct io_uring_sqe *rds_prep(struct rdsrig *r, int tx, enum rds_kind kind, __u64 off,
			      __u32 len, bool single)
{
	struct io_uring_sqe *sqe = net_prep(&r->net, tx, kind, rds_address(r, kind, off),
					    len, 0);

	if (kind == RDS_USER)
		sqe->ioprio &= ~IORING_RECVSEND_FIXED_BUF;
	if (single)
		sqe->ioprio |= IORING_SEND_ZC_SINGLE_CQE;
	return sqe;
}

void rds_stamp(__u64 *buf, __u32 message, size_t len)
{
	for (__u32 i = 0; i < len / sizeof(*buf); i++)
		buf[i] = (__u64)message << 32 | i;
}

int rds_check(const __u64 *buf, __u32 message, size_t len)
{
	for (__u32 i = 0; i < len / sizeof(*buf); i++) {
		if (buf[i] == ((__u64)message << 32 | i))
			continue;
		fprintf(stderr, "# message %u at 0x%zx: %llx of message %llu\n",
			message, i * sizeof(*buf), buf[i] & ~0U, buf[i] >> 32);
		return -EILSEQ;
	}
	return 0;
}

int rds_flow_run(const struct rds_flow *f, void *flow, unsigned int nr)
{
	__u32 end = *f->sent + nr;
	int ret = 0;

	while (*f->sent < end && !ret) {
		ret = f->send(flow);
		if (!ret && *f->sent - *f->got > LAG)
			ret = f->recv(flow);
	}
	ret = ret ?: f->idle(flow);
	while (*f->got < end && !ret)
		ret = f->recv(flow);
	return ret;
}

int rds_recv(struct rdsrig *r, __u32 message)
{
	ssize_t len = net_recv_again(r->rx, r->stamped, RDS_SIZE, 0);

	if (len != (ssize_t)RDS_SIZE)
		return len < 0 ? -errno : -EMSGSIZE;
	return rds_check(r->stamped, message, RDS_SIZE);
}

bool rds_quiet(struct rdsrig *r, int ms)
{
	struct uring_res res;

	return uring_wait(&r->net.ring, &res, ms) == -ETIME;
}
