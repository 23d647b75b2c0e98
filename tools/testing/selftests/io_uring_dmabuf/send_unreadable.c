// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that is being sent is read by the card and by nobody else: not by the
 * stack, not by who listens to it, not by another device that its packets are led
 * to. A second connection sends ordinary memory the same way, so that it is known
 * what could have been seen there.
 */
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <linux/bpf.h>
#include <linux/errqueue.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/ip.h>
#include <linux/net_tstamp.h>
#include <linux/sockios.h>
#include <linux/tcp.h>

#include "common.h"
#include "netio.h"

#define SIZE		(1 * MiB)
#define SEED		NET_SEED
#define PLAIN_SEED	(NET_SEED + 1)
#define LEN		20000
#define HDR_MAX		(ETH_HLEN + 60 + 60)
#define LONG		(HDR_MAX + 100)	/* has payload for certain */

#define BRIDGE		"ub73"
#define NETKIT		"uk73"
#define TUN		"ut73"
#define VETH		"uv73"
#define VETH_FAR	"uv73far"
#define TO_ALL		"ff:ff:ff:ff:ff:ff"

static const struct piece secret = { SEED, 4321, LEN };
static const struct piece plain = { PLAIN_SEED, 0, LEN };

/* --- probes --- */

/* What tells the two connections apart, wherever their packets are seen */
struct match {
	__be16 secret_port, plain_port;
	char *secret, *plain;		/* SIZE and LEN bytes */
};

enum probe_kind { PROBE_RAW, PROBE_DGRAM, PROBE_RING2, PROBE_RING3, PROBE_TUN,
		  PROBE_TAP };

/* A packet socket, or the end of a tun device that userspace has */
struct probe {
	int fd;
	enum probe_kind kind;
	void *ring;
	const struct match *match;
	unsigned int secrets;		/* packets with device memory */
	__u64 leaked;			/* bytes of their payload */
	__u64 plain;			/* bytes of the other connection's payload */
};

#define PROBE_NONE	((struct probe) { .fd = -1 })

#define FRAME_MAX	(128 * KiB)
#define RING_BLOCK	(256 * KiB)
#define RING_BLOCKS	4
#define RING_FRAME	2048

/* The end of @data, which is at least that long, is somewhere in @where */
static bool is_from(const char *where, size_t size, const void *data, size_t len)
{
	return len >= 16 && memmem(where, size, (const char *)data + len - 16, 16);
}

/* @len bytes of a packet, of which the first ones are in @ip */
static void saw_tcp(struct probe *p, const struct iphdr *ip, ssize_t len)
{
	const struct tcphdr *th = (void *)ip + ip->ihl * 4;
	ssize_t all = ntohs(ip->tot_len);
	ssize_t hdr = ip->ihl * 4 + th->doff * 4;

	/* short ones are padded */
	if (len > all)
		len = all;
	if (th->source == p->match->secret_port && all > hdr) {
		p->secrets++;
		p->leaked += len > hdr ? len - hdr : 0;
	} else if (th->source == p->match->plain_port && len > hdr &&
		   is_from(p->match->plain, LEN, (char *)ip + hdr, len - hdr)) {
		p->plain += len - hdr;
	}
}

/* A frame, or with @l2 == 0 what follows its header */
static void saw(struct probe *p, const char *frame, ssize_t len, ssize_t l2)
{
	const struct iphdr *ip = (void *)frame + l2;

	if (len >= l2 + (ssize_t)(sizeof(*ip) + sizeof(struct tcphdr)) &&
	    ip->version == 4 && ip->protocol == IPPROTO_TCP)
		saw_tcp(p, ip, len - l2);
	else if (is_from(p->match->secret, SIZE, frame, len))
		p->leaked += len;
}

static void read_fd(struct probe *p)
{
	bool l2 = p->kind == PROBE_RAW || p->kind == PROBE_TAP;
	static char frame[FRAME_MAX];
	ssize_t len;

	while ((len = read(p->fd, frame, sizeof(frame))) > 0)
		saw(p, frame, len, l2 ? ETH_HLEN : 0);
}

static void read_ring2(struct probe *p)
{
	for (__u64 i = 0; i < RING_BLOCKS * RING_BLOCK / RING_FRAME; i++) {
		struct tpacket2_hdr *h = p->ring + i * RING_FRAME;

		if (!(__atomic_load_n(&h->tp_status, __ATOMIC_ACQUIRE) &
		      TP_STATUS_USER))
			continue;
		saw(p, (char *)h + h->tp_mac, h->tp_snaplen,
		    h->tp_net - h->tp_mac);
		__atomic_store_n(&h->tp_status, TP_STATUS_KERNEL,
				 __ATOMIC_RELEASE);
	}
}

static void read_block(struct probe *p, struct tpacket_hdr_v1 *block, char *base)
{
	char *at = base + block->offset_to_first_pkt;

	for (__u32 i = 0; i < block->num_pkts; i++) {
		struct tpacket3_hdr *h = (void *)at;

		saw(p, at + h->tp_mac, h->tp_snaplen, h->tp_net - h->tp_mac);
		at += h->tp_next_offset;
	}
}

static void read_ring3(struct probe *p)
{
	for (int i = 0; i < RING_BLOCKS; i++) {
		struct tpacket_block_desc *d = p->ring + i * RING_BLOCK;
		__u32 *status = &d->hdr.bh1.block_status;

		if (!(__atomic_load_n(status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
			continue;
		read_block(p, &d->hdr.bh1, (char *)d);
		__atomic_store_n(status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
	}
}

static void probe_read(struct probe *p)
{
	if (p->kind == PROBE_RING2)
		read_ring2(p);
	else if (p->kind == PROBE_RING3)
		read_ring3(p);
	else
		read_fd(p);
}

/* Until all of them have seen ordinary memory */
static bool probes_wait(struct probe *p, unsigned int nr)
{
	double end = lab_now() + net_patience() / 1000.0;
	bool all;

	do {
		all = true;
		for (unsigned int i = 0; i < nr; i++) {
			probe_read(&p[i]);
			all = all && p[i].plain;
		}
		if (all)
			return true;
		lab_sleep_ms(10);
	} while (lab_now() < end);
	return false;
}

static bool probe_wait_secrets(struct probe *p, unsigned int nr)
{
	double end = lab_now() + net_patience() / 1000.0;

	while (p->secrets < nr && lab_now() < end) {
		lab_sleep_ms(10);
		probe_read(p);
	}
	return p->secrets >= nr;
}

static int probe_ring(struct probe *p)
{
	struct tpacket_req3 req = {
		.tp_block_size = RING_BLOCK,
		.tp_block_nr = RING_BLOCKS,
		.tp_frame_size = RING_FRAME,
		.tp_frame_nr = RING_BLOCKS * RING_BLOCK / RING_FRAME,
		.tp_retire_blk_tov = 50,
	};
	bool v3 = p->kind == PROBE_RING3;
	int ret;

	ret = net_set(p->fd, SOL_PACKET, PACKET_VERSION,
		      v3 ? TPACKET_V3 : TPACKET_V2);
	if (ret)
		return ret;
	if (setsockopt(p->fd, SOL_PACKET, PACKET_RX_RING, &req,
		       v3 ? sizeof(req) : sizeof(struct tpacket_req)))
		return -errno;
	p->ring = mmap(NULL, RING_BLOCKS * RING_BLOCK, PROT_READ | PROT_WRITE,
		       MAP_SHARED, p->fd, 0);
	return p->ring == MAP_FAILED ? -errno : 0;
}

/* Everything that passes the device, also what is not for it */
static int probe_bind(struct probe *p, const char *dev, int protocol)
{
	struct sockaddr_ll ll = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(protocol),
	};
	struct packet_mreq mreq = { .mr_type = PACKET_MR_PROMISC };
	struct ifreq ifr = { 0 };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", dev);
	if (ioctl(p->fd, SIOCGIFINDEX, &ifr))
		return -errno;
	ll.sll_ifindex = ifr.ifr_ifindex;
	mreq.mr_ifindex = ifr.ifr_ifindex;
	if (setsockopt(p->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mreq,
		       sizeof(mreq)) ||
	    bind(p->fd, (void *)&ll, sizeof(ll)))
		return -errno;
	return 0;
}

/* A socket on @dev, which is where that side of @n is */
static int probe_open(struct probe *p, const struct netrig *n, enum net_side side,
		      const char *dev, enum probe_kind kind, int protocol,
		      const struct match *match)
{
	bool ring = kind == PROBE_RING2 || kind == PROBE_RING3;
	int type = kind == PROBE_DGRAM ? SOCK_DGRAM : SOCK_RAW;
	int ret;

	*p = (struct probe) { .kind = kind, .match = match };
	p->fd = net_socket(n, side, AF_PACKET, type | SOCK_NONBLOCK, 0);
	if (p->fd < 0)
		return p->fd;
	net_set(p->fd, SOL_SOCKET, SO_RCVBUFFORCE, 8 * MiB);
	ret = ring ? probe_ring(p) : 0;
	return ret ?: probe_bind(p, dev, protocol);
}

static void probe_close(struct probe *p)
{
	if (p->fd >= 0)
		close(p->fd);
	if (p->ring)
		munmap(p->ring, RING_BLOCKS * RING_BLOCK);
	*p = PROBE_NONE;
}

/* --- what is changed, and how to change it back --- */

struct undo {
	char line[16][128];
	unsigned int nr;
};

static int run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void undo_by(struct undo *u, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static int run(const char *fmt, ...)
{
	char line[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (!system(line))
		return 0;
	fprintf(stderr, "# failed: %s\n", line);
	return -EIO;
}

static void undo_by(struct undo *u, const char *fmt, ...)
{
	va_list ap;

	if (u->nr == ARRAY_SIZE(u->line))
		abort();
	va_start(ap, fmt);
	vsnprintf(u->line[u->nr++], sizeof(u->line[0]), fmt, ap);
	va_end(ap);
}

/* The last first, until there are @nr */
static int undo_to(struct undo *u, unsigned int nr)
{
	int ret = 0;

	while (u->nr > nr)
		ret |= run("%s", u->line[--u->nr]);
	return ret;
}

static int undo_all(struct undo *u)
{
	return undo_to(u, 0);
}

static int sysctl_on(struct undo *u, const char *dev, const char *name)
{
	char path[128];

	if (dev)
		snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/%s", dev,
			 name);
	else
		snprintf(path, sizeof(path), "/proc/sys/net/ipv4/%s", name);
	undo_by(u, "echo 0 >%s", path);
	return file_write(path, "1");
}

static long long stat_of(const char *dev, const char *name)
{
	char path[128];
	long long value;
	int ret;

	snprintf(path, sizeof(path), "/sys/class/net/%s/statistics/%s", dev, name);
	ret = file_read_num(path, &value);
	return ret ? ret : value;
}

static bool stat_wait(const char *dev, const char *name, long long value)
{
	double end = lab_now() + net_patience() / 1000.0;

	while (stat_of(dev, name) < value) {
		if (lab_now() > end)
			return false;
		lab_sleep_ms(10);
	}
	return true;
}

/* --- the rig --- */

/* A card in use, and what one may try with it */
struct way {
	struct netrig net;
	struct netrig other;		/* with another card */
	struct netrig far;		/* its peer side is where the veth ends */
	struct net_pair tcp;		/* sends device memory */
	struct net_pair plain;		/* sends ordinary memory */
	struct net_pair aside;		/* another way to the peer, or to another one */
	struct piece queued;		/* of tcp, when it is not @secret */
	__u64 taken;			/* of that, by the peer */
	struct match match;
	struct probe probe[5];
	struct undo undo;
};

static __be16 port_of(int fd)
{
	struct sockaddr_in sin = { 0 };
	socklen_t len = sizeof(sin);

	getsockname(fd, (void *)&sin, &len);
	return sin.sin_port;
}

static void way_init(struct way *w)
{
	w->tcp = NET_PAIR_NONE;
	w->plain = NET_PAIR_NONE;
	w->aside = NET_PAIR_NONE;
	for (unsigned int i = 0; i < ARRAY_SIZE(w->probe); i++)
		w->probe[i] = PROBE_NONE;
	netrig_init(&w->net);
	netrig_init(&w->other);
	netrig_init(&w->far);
}

static int match_init(struct way *w)
{
	struct match *m = &w->match;

	m->secret_port = port_of(w->tcp.tx);
	m->plain_port = port_of(w->plain.tx);
	m->secret = malloc(SIZE);
	m->plain = malloc(LEN);
	if (!m->secret || !m->plain)
		return -ENOMEM;
	pattern_fill(m->secret, 0, SIZE, SEED);
	pattern_fill(m->plain, 0, LEN, PLAIN_SEED);
	return 0;
}

static void way_up(struct __test_metadata *_metadata, struct way *w,
		   enum net_card card)
{
	struct netrig *n = &w->net;

	way_init(w);
	NETRIG_UP(n, card, MEM_UDMABUF_4K, SIZE);
	ASSERT_EQ(0, net_tcp(n, AF_INET, &w->tcp));
	ASSERT_EQ(0, net_tcp(n, AF_INET, &w->plain));
	ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, SEED));
	ASSERT_EQ(0, reg_dmabuf(&n->ring, 0, n->mem.fd, w->tcp.tx));
	ASSERT_EQ(0, net_works(n, 0, &w->tcp));
	ASSERT_EQ(0, match_init(w));
}

static void way_down(struct way *w)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(w->probe); i++)
		probe_close(&w->probe[i]);
	undo_all(&w->undo);
	net_close(&w->aside);
	net_close(&w->plain);
	net_close(&w->tcp);
	if (w->far.ns[NET_PEER] >= 0)
		close(w->far.ns[NET_PEER]);
	netrig_down(&w->other);
	netrig_down(&w->net);
}

/* What takes its time: with one card */
FIXTURE(unread) {
	struct way way;
};

FIXTURE_VARIANT(unread) {
	enum net_card card, other;
};

FIXTURE_VARIANT_ADD(unread, e1000e) {
	.card = CARD_E1000E, .other = CARD_VMXNET3,
};

FIXTURE_SETUP(unread)
{
	way_up(_metadata, &self->way, variant->card);
}

FIXTURE_TEARDOWN(unread)
{
	way_down(&self->way);
}

/* With each card */
FIXTURE(cards) {
	struct way way;
};

FIXTURE_VARIANT(cards) {
	enum net_card card;
};

FIXTURE_VARIANT_ADD(cards, e1000e) { .card = CARD_E1000E };
FIXTURE_VARIANT_ADD(cards, vmxnet3) { .card = CARD_VMXNET3 };

FIXTURE_SETUP(cards)
{
	way_up(_metadata, &self->way, variant->card);
}

FIXTURE_TEARDOWN(cards)
{
	way_down(&self->way);
}

/* Both, in the order in which a probe must have seen the former after the latter */
static void send_both(struct __test_metadata *_metadata, struct way *w)
{
	ASSERT_EQ(0, net_send_all(&w->net, w->tcp.tx, 0, secret.pos,
				  secret.len, 0));
	ASSERT_EQ(0, piece_send(w->plain.tx, &plain, 0));
}

static void recv_both(struct __test_metadata *_metadata, struct way *w)
{
	ASSERT_EQ(0, net_recv(w->tcp.rx, &secret, 1));
	ASSERT_EQ(0, net_recv(w->plain.rx, &plain, 1));
}

#define SEND_BOTH()	send_both(_metadata, w)
#define RECV_BOTH()	recv_both(_metadata, w)

/* One of them, all the way; nothing of it will be sent again */
static void send_secret(struct __test_metadata *_metadata, struct way *w)
{
	ASSERT_EQ(0, net_send_all(&w->net, w->tcp.tx, 0, secret.pos,
				  secret.len, 0));
	ASSERT_EQ(0, net_recv(w->tcp.rx, &secret, 1));
	ASSERT_EQ(0, net_wait_acked(w->tcp.tx));
}

static void send_plain(struct __test_metadata *_metadata, struct way *w)
{
	ASSERT_EQ(0, piece_send(w->plain.tx, &plain, 0));
	ASSERT_EQ(0, net_recv(w->plain.rx, &plain, 1));
}

#define SEND_SECRET()	send_secret(_metadata, w)
#define SEND_PLAIN()	send_plain(_metadata, w)

static void check_probe(struct __test_metadata *_metadata, const struct probe *p)
{
	EXPECT_GT(p->plain, 0);
	EXPECT_EQ(0, p->leaked) {
		TH_LOG("probe of kind %u, %u packets", p->kind, p->secrets);
	}
}

/* All is as it was, and the slot can be cleared */
static void check_over(struct __test_metadata *_metadata, struct way *w)
{
	struct netrig *n = &w->net;

	EXPECT_EQ(0, net_works(n, 0, &w->tcp));
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(0, n->copied);
	ASSERT_EQ(0, reg_clear(&n->ring, 0));
	EXPECT_TRUE(bufinfo_wait(n->mem.fd, 0, net_patience()));
}

#define CHECK_OVER()	check_over(_metadata, w)

/* A veth, whose other end is far away */
static int veth_up(struct way *w)
{
	struct netrig *n = &w->net, *far = &w->far;
	int ret;

	ret = run("ip link add " VETH " type veth peer name " VETH_FAR);
	if (ret)
		return ret;
	undo_by(&w->undo, "ip link del " VETH);
	far->home = n->home;
	far->ns[NET_PEER] = net_ns_new();
	if (far->ns[NET_PEER] < 0)
		return far->ns[NET_PEER];
	ret = net_ip(n->home, "link set dev %s netns /proc/%d/fd/%d\n"
		     "link set dev %s up\n", VETH_FAR, getpid(),
		     far->ns[NET_PEER], VETH);
	return ret ?: net_ip(far->ns[NET_PEER], "link set dev %s up\n", VETH_FAR);
}

#define VETH_UP() do {							\
	if (veth_up(w))							\
		SKIP(return, "no veth (CONFIG_VETH)");			\
} while (0)

static int probe_far(struct way *w, struct probe *p)
{
	return probe_open(p, &w->far, NET_PEER, VETH_FAR, PROBE_RAW, ETH_P_ALL,
			  &w->match);
}

/* On a device that the stack of the test has */
static int probe_here(struct way *w, struct probe *p, const char *dev,
		      enum probe_kind kind, int protocol)
{
	return probe_open(p, &w->net, NET_CARD, dev, kind, protocol,
			  &w->match);
}

/* On the peer of another card: what is seen there came by the cable */
static int probe_other(struct way *w, struct probe *p)
{
	struct netrig *other = &w->other;

	return probe_open(p, other, NET_PEER, other->dev[NET_PEER], PROBE_RAW,
			  ETH_P_ALL, &w->match);
}

/* --- the stack's own ways --- */

/* The peer got bytes like all others */
TEST_F(cards, peek_at_peer)
{
	struct way *w = &self->way;
	char buf[LEN];

	SEND_BOTH();
	ASSERT_EQ(0, net_wait_acked(w->tcp.tx));
	ASSERT_EQ(LEN, net_recv_again(w->tcp.rx, buf, LEN, MSG_PEEK));
	EXPECT_EQ(NO_MISMATCH, pattern_check(buf, secret.pos, LEN, SEED));
	RECV_BOTH();
	CHECK_OVER();
}

static bool nothing_in_flight(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len))
		return false;
	return !info.tcpi_unacked && info.tcpi_notsent_bytes;
}

/* As much as the socket takes, until the peer, which does not read, is full */
static int queue_up(struct way *w)
{
	double end = lab_now() + net_patience() / 1000.0;
	struct netrig *n = &w->net;
	int tx = w->tcp.tx, ret;
	__u64 done = 0;

	net_set(tx, SOL_SOCKET, SO_SNDBUFFORCE, 4 * MiB);
	while (done < SIZE) {
		ret = net_send(n, tx, 0, done, SIZE - done, MSG_DONTWAIT);
		if (ret <= 0)
			break;
		done += ret;
	}
	w->queued = (struct piece) { SEED, 0, done };
	while (!nothing_in_flight(tx)) {
		if (lab_now() > end)
			return -ETIME;
		lab_sleep_ms(10);
	}
	return 0;
}

/* The peer reads what it has, so that it wants more: bytes, or -errno */
static int take(struct way *w)
{
	static char buf[FRAME_MAX];
	ssize_t len;

	while ((len = recv(w->tcp.rx, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		if (pattern_check(buf, w->taken, len, SEED) >= 0)
			return -EILSEQ;
		w->taken += len;
	}
	return errno == EAGAIN ? (int)w->taken : -errno;
}

/* The peer gets what is left of the queue */
static int recv_queued(struct way *w)
{
	struct piece left = {
		SEED, w->taken, w->queued.len - w->taken,
	};

	return net_recv(w->tcp.rx, &left, 1);
}

static ssize_t peek_queue(int fd, void *buf, size_t size)
{
	ssize_t ret;

	memset(buf, POISON, size);
	if (net_set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON) ||
	    net_set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE))
		return -ENOTSUP;
	ret = recv(fd, buf, size, MSG_PEEK);
	ret = ret < 0 ? -errno : ret;
	if (net_set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF))
		return -EPROTO;
	return ret;
}

/* Checkpoint and restore reads the send queue, where it can be read */
TEST_F(unread, repair)
{
	struct way *w = &self->way;
	const struct piece much = { PLAIN_SEED, 0, 512 * KiB };
	const struct piece end[] = { much, { SEED, 4321, 5000 } };
	struct netrig *n = &w->net;
	char *buf = malloc(2 * MiB);
	int tx = w->plain.tx;
	ssize_t ret;

	ASSERT_NE(NULL, buf);
	ASSERT_EQ(0, queue_up(w));
	ASSERT_GT(net_unsent(w->tcp.tx), 0);
	EXPECT_EQ(-EFAULT, peek_queue(w->tcp.tx, buf, 2 * MiB));
	EXPECT_EQ(NO_MISMATCH, poison_check(buf, 2 * MiB, POISON));

	net_set(tx, SOL_SOCKET, SO_SNDBUFFORCE, 4 * MiB);
	ASSERT_EQ(0, piece_send(tx, &much, 0));
	while (!nothing_in_flight(tx))
		lab_sleep_ms(10);
	ret = peek_queue(tx, buf, 2 * MiB);
	ASSERT_GT(ret, 0);
	EXPECT_EQ(net_unsent(tx), ret);
	EXPECT_EQ(NO_MISMATCH, pattern_check(buf, much.len - ret, ret, PLAIN_SEED));
	/* ordinary memory first, then the other */
	ASSERT_EQ(5000, net_send(n, tx, 0, 4321, 5000, 0));
	EXPECT_EQ(-EFAULT, peek_queue(tx, buf, 2 * MiB));
	EXPECT_EQ(NO_MISMATCH, poison_check(buf + ret, 2 * MiB - ret, POISON));

	EXPECT_EQ(0, net_recv(w->tcp.rx, &w->queued, 1));
	EXPECT_EQ(0, net_recv(w->plain.rx, end, 2));
	free(buf);
	CHECK_OVER();
}

/* --- datagrams that the stack loops back by itself --- */

#define GROUP		"ff05::73"

static socklen_t group_addr(const struct netrig *n, int family, __be16 port,
			    struct sockaddr_storage *ss)
{
	struct sockaddr_in6 *sin6 = (void *)ss;
	struct sockaddr_in *sin = (void *)ss;
	socklen_t len = net_addr(n, NET_CARD, family, 0, ss);

	if (family == AF_INET) {
		sin->sin_addr.s_addr |= htonl(0xff);
		sin->sin_port = port;
	} else {
		inet_pton(AF_INET6, GROUP, &sin6->sin6_addr);
		sin6->sin6_port = port;
	}
	return len;
}

static int ifindex_for(int fd, const char *dev)
{
	struct ifreq ifr = { 0 };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", dev);
	return ioctl(fd, SIOCGIFINDEX, &ifr) ? -errno : ifr.ifr_ifindex;
}

/* Receives what is sent to everybody, at port *@port, or *@port is some */
static int join(const struct netrig *n, enum net_side side, int family,
		__be16 *port)
{
	int sk = net_socket(n, side, family, SOCK_DGRAM, 0);
	struct sockaddr_storage ss = { .ss_family = family };
	struct ipv6_mreq mreq = { 0 };
	socklen_t len = sizeof(ss);

	((struct sockaddr_in *)&ss)->sin_port = *port;
	if (sk < 0 || bind(sk, (void *)&ss, len) ||
	    getsockname(sk, (void *)&ss, &len))
		return -errno;
	*port = ((struct sockaddr_in *)&ss)->sin_port;
	if (family == AF_INET)
		return sk;
	inet_pton(AF_INET6, GROUP, &mreq.ipv6mr_multiaddr);
	mreq.ipv6mr_interface = ifindex_for(sk, n->dev[side]);
	if (setsockopt(sk, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &mreq, sizeof(mreq)))
		return -errno;
	return sk;
}

static int send_to_all(const struct netrig *n, int family, __be16 port)
{
	int sk = net_socket(n, NET_CARD, family, SOCK_DGRAM, 0);
	struct sockaddr_storage ss;
	socklen_t len = group_addr(n, family, port, &ss);

	if (sk < 0)
		return sk;
	if (family == AF_INET)
		net_set(sk, SOL_SOCKET, SO_BROADCAST, 1);
	else
		net_set(sk, IPPROTO_IPV6, IPV6_MULTICAST_IF,
			ifindex_for(sk, n->dev[NET_CARD]));
	return connect(sk, (void *)&ss, len) ? -errno : sk;
}

static void check_group(struct __test_metadata *_metadata, struct way *w,
			int family)
{
	const struct piece mine = { SEED, 4321, 1000 };
	const struct piece mark = { PLAIN_SEED, 0, 1000 };
	struct netrig *n = &w->net;
	int tx, near, far;
	char buf[2000];
	__be16 port = 0;

	near = join(n, NET_CARD, family, &port);
	far = join(n, NET_PEER, family, &port);
	tx = send_to_all(n, family, port);
	ASSERT_TRUE(near >= 0 && far >= 0 && tx >= 0);
	ASSERT_EQ(0, net_wait_joined(tx, near, far));
	for (int i = 0; i < 3; i++) {
		bool copied;

		ASSERT_EQ(1000, net_send_sync(n, tx, 0, mine.pos, 1000, 0, &copied));
		EXPECT_FALSE(copied);
		EXPECT_EQ(0, net_recv_datagram(far, &mine, 1));
		EXPECT_EQ(-1, recv(near, buf, sizeof(buf), MSG_PEEK | MSG_DONTWAIT));
		EXPECT_EQ(EAGAIN, errno);
		/* the next that is there */
		ASSERT_EQ(0, piece_send(tx, &mark, 0));
		ASSERT_EQ(1000, net_recv_again(near, buf, sizeof(buf), MSG_PEEK));
		EXPECT_EQ(NO_MISMATCH, pattern_check(buf, 0, 1000, PLAIN_SEED));
		EXPECT_EQ(0, net_recv_datagram(near, &mark, 1));
		EXPECT_EQ(0, net_recv_datagram(far, &mark, 1));
	}
	close(tx);
	close(near);
	close(far);
}

/* Who sends to everybody would get it, too */
TEST_F(unread, broadcast_and_multicast)
{
	struct way *w = &self->way;

	check_group(_metadata, w, AF_INET);
	check_group(_metadata, w, AF_INET6);
	CHECK_OVER();
}

/* --- copies of what was sent, for the sender --- */

#define STAMPS	(SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_SCHED | \
		 SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_SOFTWARE)

/* Messages in the error queue; *@bytes that came with them, the end in @buf */
static unsigned int read_errors(int fd, char *buf, size_t size, __u64 *bytes)
{
	unsigned int nr = 0;
	ssize_t len;

	*bytes = 0;
	while ((len = recv(fd, buf, size, MSG_ERRQUEUE | MSG_DONTWAIT)) >= 0) {
		*bytes += len;
		nr++;
	}
	return nr;
}

/* Timestamps come with the packet */
TEST_F(cards, timestamps)
{
	struct way *w = &self->way;
	static char buf[FRAME_MAX];
	__u64 bytes;

	ASSERT_EQ(0, net_set(w->tcp.tx, SOL_SOCKET, SO_TIMESTAMPING, STAMPS));
	ASSERT_EQ(0, net_set(w->plain.tx, SOL_SOCKET, SO_TIMESTAMPING, STAMPS));
	SEND_BOTH();
	RECV_BOTH();
	ASSERT_EQ(0, net_wait_acked(w->tcp.tx));
	ASSERT_EQ(0, net_wait_acked(w->plain.tx));
	EXPECT_GT(read_errors(w->plain.tx, buf, sizeof(buf), &bytes), 0);
	EXPECT_GT(bytes, HDR_MAX);
	read_errors(w->tcp.tx, buf, sizeof(buf), &bytes);
	EXPECT_EQ(0, bytes);
	/* or come without */
	ASSERT_EQ(0, net_set(w->tcp.tx, SOL_SOCKET, SO_TIMESTAMPING,
			     STAMPS | SOF_TIMESTAMPING_OPT_TSONLY));
	SEND_BOTH();
	RECV_BOTH();
	ASSERT_EQ(0, net_wait_acked(w->tcp.tx));
	EXPECT_GT(read_errors(w->tcp.tx, buf, sizeof(buf), &bytes), 0);
	EXPECT_EQ(0, bytes);
	CHECK_OVER();
}

/* A datagram socket that is told about errors, to somebody who is not there */
static int send_to_nobody(const struct netrig *n, int family)
{
	int sk = net_socket(n, NET_CARD, family, SOCK_DGRAM, 0);
	struct sockaddr_storage ss;
	socklen_t len = net_addr(n, NET_PEER, family, 73, &ss);

	if (sk < 0)
		return sk;
	if (family == AF_INET) {
		((struct sockaddr_in *)&ss)->sin_addr.s_addr |= htonl(0x70);
		net_set(sk, IPPROTO_IP, IP_RECVERR, 1);
	} else {
		((struct sockaddr_in6 *)&ss)->sin6_addr.s6_addr[15] |= 0x70;
		net_set(sk, IPPROTO_IPV6, IPV6_RECVERR, 1);
	}
	return connect(sk, (void *)&ss, len) ? -errno : sk;
}

/* The one message in the error queue, or -errno */
static ssize_t read_error(int fd, char *buf, size_t size, unsigned int ms)
{
	double end = lab_now() + ms / 1000.0;
	ssize_t len;

	memset(buf, 0, size);
	do {
		len = recv(fd, buf, size, MSG_ERRQUEUE | MSG_DONTWAIT);
		if (len >= 0 || errno != EAGAIN)
			return len < 0 ? -errno : len;
		lab_sleep_ms(20);
	} while (lab_now() < end);
	return -ETIME;
}

static void check_quote(struct __test_metadata *_metadata, struct way *w,
			int family)
{
	const struct piece mine = { PLAIN_SEED, 0, 300 };
	struct netrig *n = &w->net;
	int dev, ordinary;
	char buf[2000];
	ssize_t len;

	dev = send_to_nobody(n, family);
	ordinary = send_to_nobody(n, family);
	ASSERT_TRUE(dev >= 0 && ordinary >= 0);
	ASSERT_EQ(300, net_send(n, dev, 0, secret.pos, 300, 0));
	ASSERT_EQ(0, piece_send(ordinary, &mine, 0));
	ASSERT_EQ(300, read_error(ordinary, buf, sizeof(buf), net_patience()));
	EXPECT_EQ(NO_MISMATCH, pattern_check(buf, 0, 300, PLAIN_SEED));
	/* they waited for the same address */
	len = read_error(dev, buf, sizeof(buf), net_patience() / 10);
	EXPECT_GE(len, 0);
	EXPECT_EQ(NO_MISMATCH, poison_check(buf, sizeof(buf), 0));
	ASSERT_EQ(0, net_idle(n));
	close(dev);
	close(ordinary);
}

/* ICMP errors quote the packet; here they come from the sender's own stack */
TEST_F(unread, icmp_quotes)
{
	struct way *w = &self->way;

	check_quote(_metadata, w, AF_INET);
	check_quote(_metadata, w, AF_INET6);
	CHECK_OVER();
}

/* --- packet sockets --- */

TEST_F(cards, packet_sockets)
{
	struct way *w = &self->way;
	static const enum probe_kind kinds[] = {
		PROBE_RAW, PROBE_DGRAM, PROBE_RING2, PROBE_RING3,
	};
	const char *dev = w->net.dev[NET_CARD];

	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++) {
		ASSERT_EQ(0, probe_here(w, &w->probe[i], dev, kinds[i],
					ETH_P_ALL));
	}
	SEND_BOTH();
	RECV_BOTH();
	EXPECT_TRUE(probes_wait(w->probe, ARRAY_SIZE(kinds)));
	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++)
		check_probe(_metadata, &w->probe[i]);
	CHECK_OVER();
}

/* What leaves by the card goes to @dev, @how mirred says it */
static int lead(struct way *w, const char *how, const char *dev)
{
	const char *card = w->net.dev[NET_CARD];

	if (run("tc qdisc add dev %s clsact", card))
		return -EIO;
	undo_by(&w->undo, "tc qdisc del dev %s clsact", card);
	return run("tc filter add dev %s egress protocol ip matchall action mirred %s dev %s",
		   card, how, dev);
}

#define MIRRED(how, dev) do {						\
	if (lead(w, how, dev))						\
		SKIP(return, "no mirred (CONFIG_NET_ACT_MIRRED)");	\
} while (0)

/*
 * On arrival, a socket for one protocol is the last in line and gets the packet
 * itself, not a copy.
 */
TEST_F(unread, packet_sockets_on_arrival)
{
	struct way *w = &self->way;
	struct probe *p = &w->probe[0];

	VETH_UP();
	MIRRED("ingress mirror", VETH);
	for (int kind = PROBE_RAW; kind <= PROBE_RING3; kind++) {
		ASSERT_EQ(0, probe_here(w, p, VETH, kind, ETH_P_IP));
		SEND_BOTH();
		RECV_BOTH();
		EXPECT_TRUE(probes_wait(p, 1));
		EXPECT_TRUE(probe_wait_secrets(p, 1));
		check_probe(_metadata, p);
		probe_close(p);
	}
	EXPECT_EQ(0, undo_all(&w->undo));
	CHECK_OVER();
}

/* A ring whose frames are too short for headers; whole packets are queued, too */
static int ring_of_stubs(struct probe *p)
{
	struct tpacket_req req = {
		.tp_block_size = 4096,
		.tp_block_nr = 64,
		.tp_frame_size = 64,
		.tp_frame_nr = 64 * 4096 / 64,
	};
	int ret = net_set(p->fd, SOL_PACKET, PACKET_VERSION, TPACKET_V2);

	if (!ret && setsockopt(p->fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)))
		ret = -errno;
	return ret ?: net_set(p->fd, SOL_PACKET, PACKET_COPY_THRESH, 1);
}

/* Who listens, but does not read, keeps nobody from taking the memory back */
static void idle(struct __test_metadata *_metadata, struct way *w, bool ring)
{
	struct probe *p = &w->probe[0];

	VETH_UP();
	MIRRED("ingress mirror", VETH);
	ASSERT_EQ(0, probe_here(w, p, VETH, PROBE_RAW, ETH_P_IP));
	if (ring)
		ASSERT_EQ(0, ring_of_stubs(p));
	SEND_BOTH();
	RECV_BOTH();
	CHECK_OVER();
	EXPECT_TRUE(probes_wait(p, 1));
	check_probe(_metadata, p);
	EXPECT_EQ(0, undo_all(&w->undo));
}

TEST_F(unread, idle_packet_socket)
{
	idle(_metadata, &self->way, false);
}

TEST_F(unread, idle_packet_ring)
{
	idle(_metadata, &self->way, true);
}

/* --- BPF programs --- */

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
static void check_classifier(struct __test_metadata *_metadata, struct way *w,
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

	SEND_SECRET();
	check_saw_nothing(_metadata, &prog);
	SEND_PLAIN();
	ASSERT_EQ(0, prog_read(&prog, &saw));
	EXPECT_GT(saw.packets, 0);
	EXPECT_EQ(saw.packets, saw.loads);
	EXPECT_EQ(saw.packets, saw.pulls);
	EXPECT_GE(saw.directs, saw.packets);
	EXPECT_EQ(saw.packets, saw.stores);
	EXPECT_NE(NULL, memmem(w->match.plain, LEN, &saw.last, 8));
	close(link);
	prog_done(&prog);
}

TEST_F(cards, bpf_egress)
{
	struct way *w = &self->way;

	check_classifier(_metadata, w, w->net.dev[NET_CARD],
			 BPF_TCX_EGRESS);
	CHECK_OVER();
}

TEST_F(unread, bpf_ingress)
{
	struct way *w = &self->way;

	VETH_UP();
	MIRRED("ingress mirror", VETH);
	check_classifier(_metadata, w, VETH, BPF_TCX_INGRESS);
	EXPECT_EQ(0, undo_all(&w->undo));
	CHECK_OVER();
}

/* To the far end of the veth, and back from it */
TEST_F(unread, bpf_clone_redirect)
{
	struct way *w = &self->way;
	struct probe *p = w->probe;
	struct prog prog;
	int link;

	VETH_UP();
	PROG_INIT(&prog);
	add_clone(&prog, if_nametoindex(VETH), 0);
	add_clone(&prog, if_nametoindex(VETH), BPF_F_INGRESS);
	ASSERT_EQ(0, prog_load(&prog, BPF_PROG_TYPE_SCHED_CLS));
	ASSERT_EQ(0, probe_far(w, &p[0]));
	ASSERT_EQ(0, probe_here(w, &p[1], VETH, PROBE_RAW, ETH_P_IP));
	ASSERT_EQ(0, probe_here(w, &p[2], VETH, PROBE_RAW, ETH_P_ALL));
	link = prog_attach(&prog, w->net.dev[NET_CARD], BPF_TCX_EGRESS);
	ASSERT_GE(link, 0);
	SEND_BOTH();
	RECV_BOTH();
	EXPECT_TRUE(probes_wait(p, 3));
	EXPECT_TRUE(probe_wait_secrets(&p[1], 1));
	EXPECT_EQ(0, p[0].secrets);
	for (int i = 0; i < 3; i++) {
		check_probe(_metadata, &p[i]);
		probe_close(&p[i]);
	}
	close(link);
	prog_done(&prog);
	EXPECT_EQ(0, undo_all(&w->undo));
	CHECK_OVER();
}

/* It runs on the packet before that is cut to what the socket may have */
TEST_F(unread, socket_filter)
{
	struct way *w = &self->way;
	struct probe *p = &w->probe[0];
	struct bpf_saw saw;
	struct prog prog;

	VETH_UP();
	MIRRED("ingress mirror", VETH);
	PROG_INIT(&prog);
	add_load(&prog);
	add_absolute(&prog);
	ASSERT_EQ(0, prog_load(&prog, BPF_PROG_TYPE_SOCKET_FILTER));
	ASSERT_EQ(0, probe_here(w, p, VETH, PROBE_RAW, ETH_P_IP));
	ASSERT_EQ(0, net_set(p->fd, SOL_SOCKET, SO_ATTACH_BPF, prog.fd));

	SEND_SECRET();
	check_saw_nothing(_metadata, &prog);
	SEND_PLAIN();
	EXPECT_TRUE(probes_wait(p, 1));
	check_probe(_metadata, p);
	ASSERT_EQ(0, prog_read(&prog, &saw));
	EXPECT_GT(saw.packets, 0);
	EXPECT_EQ(saw.packets, saw.loads);
	EXPECT_EQ(saw.packets, saw.absolutes);
	probe_close(p);
	prog_done(&prog);
	EXPECT_EQ(0, undo_all(&w->undo));
	CHECK_OVER();
}

/* --- other devices, by a redirect --- */

/*
 * @how the packets are led to @dev, behind which is the first probe. Those that
 * @dev does not take count as dropped.
 */
static void check_mirred(struct __test_metadata *_metadata, struct way *w,
			 const char *how, const char *dev)
{
	long long dropped = stat_of(dev, "tx_dropped");
	bool arrives = strstr(how, "mirror");
	struct probe *p = &w->probe[0];
	unsigned int nr = w->undo.nr;

	ASSERT_GE(dropped, 0);
	MIRRED(how, dev);
	SEND_BOTH();
	if (arrives)
		RECV_BOTH();
	EXPECT_TRUE(probes_wait(p, 1));
	EXPECT_TRUE(stat_wait(dev, "tx_dropped", dropped + 1));
	probe_read(p);
	check_probe(_metadata, p);
	EXPECT_EQ(0, p->secrets);
	EXPECT_EQ(0, undo_to(&w->undo, nr));
	probe_close(p);
	if (!arrives)
		RECV_BOTH();
}

#define CHECK_MIRRED(how, dev)	check_mirred(_metadata, w, how, dev)

TEST_F(unread, mirred_to_veth)
{
	struct way *w = &self->way;

	VETH_UP();
	ASSERT_EQ(0, probe_far(w, &w->probe[0]));
	CHECK_MIRRED("egress redirect", VETH);
	ASSERT_EQ(0, probe_far(w, &w->probe[0]));
	CHECK_MIRRED("egress mirror", VETH);
	EXPECT_EQ(0, undo_all(&w->undo));
	CHECK_OVER();
}

/* It could take the memory: there is a mapping for it, but not the packet's */
TEST_F(unread, mirred_to_card)
{
	struct way *w = &self->way;
	struct netrig *n = &w->net, *other = &w->other;
	struct io_uring_regbuf_desc add;

	NETRIG_UP(other, variant->other, MEM_UDMABUF, 0);
	ASSERT_EQ(0, net_tcp(other, AF_INET, &w->aside));
	add = desc_add(w->aside.tx);
	ASSERT_EQ(0, reg_one(&n->ring, 0, &add));
	EXPECT_EQ(0, net_works(n, 0, &w->aside));
	ASSERT_EQ(0, probe_other(w, &w->probe[0]));
	CHECK_MIRRED("egress redirect", other->dev[NET_CARD]);
	ASSERT_EQ(0, probe_other(w, &w->probe[0]));
	CHECK_MIRRED("egress mirror", other->dev[NET_CARD]);
	EXPECT_EQ(0, net_works(n, 0, &w->aside));
	CHECK_OVER();
}

/* @p has the end of it that is userspace's */
static int tun_open(struct way *w, struct probe *p, bool tap)
{
	struct ifreq ifr = { .ifr_name = TUN };

	ifr.ifr_flags = (tap ? IFF_TAP : IFF_TUN) | IFF_NO_PI;
	*p = (struct probe) {
		.fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC),
		.kind = tap ? PROBE_TAP : PROBE_TUN,
		.match = &w->match,
	};
	if (p->fd < 0 || ioctl(p->fd, TUNSETIFF, &ifr))
		return -errno;
	return net_ip(w->net.home, "link set dev " TUN " up\n");
}

#define TUN_OPEN(tap) do {						\
	if (tun_open(w, &w->probe[0], tap))				\
		SKIP(return, "no tun devices (CONFIG_TUN)");		\
} while (0)

TEST_F(unread, redirect_to_tun)
{
	struct way *w = &self->way;

	for (int tap = 0; tap < 2; tap++) {
		TUN_OPEN(tap);
		CHECK_MIRRED("egress redirect", TUN);
	}
	CHECK_OVER();
}

/* The peer is behind @dev now, which may have to know its MAC address */
static int reroute(struct way *w, const char *dev, const char *mac)
{
	struct netrig *n = &w->net;
	int ret;

	if (mac && net_ip(n->home, "neigh add 10.73.%u.2 lladdr %s dev %s nud permanent\n",
			  n->net, mac, dev))
		return -EIO;
	ret = net_ip(n->home, "route add 10.73.%u.2/32 dev %s\n", n->net, dev);
	if (!ret)
		undo_by(&w->undo, "ip route del 10.73.%u.2/32", n->net);
	return ret;
}

/*
 * The packets arrive by another device, and the way on is one more. Our sockets
 * stay with the card.
 */
TEST_F(unread, forward)
{
	struct way *w = &self->way;
	struct netrig *n = &w->net, *other = &w->other;
	struct probe *p = w->probe;
	long long dropped;

	NETRIG_UP(other, variant->other, MEM_UDMABUF, 0);
	VETH_UP();
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, net_bind_card(n, i ? w->tcp.tx : w->plain.tx));
	}
	ASSERT_EQ(0, reroute(w, other->dev[NET_CARD], TO_ALL));
	ASSERT_EQ(0, sysctl_on(&w->undo, NULL, "ip_forward"));
	ASSERT_EQ(0, sysctl_on(&w->undo, VETH, "accept_local"));
	ASSERT_EQ(0, probe_other(w, &p[0]));
	ASSERT_EQ(0, probe_here(w, &p[1], VETH, PROBE_RAW, ETH_P_ALL));
	dropped = stat_of(other->dev[NET_CARD], "tx_dropped");
	MIRRED("ingress redirect", VETH);

	SEND_BOTH();
	EXPECT_TRUE(probes_wait(p, 2));
	EXPECT_TRUE(stat_wait(other->dev[NET_CARD], "tx_dropped", dropped + 1));
	for (int i = 0; i < 2; i++) {
		probe_read(&p[i]);
		check_probe(_metadata, &p[i]);
		EXPECT_EQ(0, p[i].secrets);
		probe_close(&p[i]);
	}
	EXPECT_EQ(0, undo_all(&w->undo));
	RECV_BOTH();
	CHECK_OVER();
}

/* --- what the stack does to packets that the card cannot take as they are --- */

/* In software it would be a copy, of zeroes, with a checksum that is right for them */
TEST_F(unread, offloads_off)
{
	static const __u32 offloads[] = { ETHTOOL_STXCSUM, ETHTOOL_SSG };
	struct way *w = &self->way;
	struct netrig *n = &w->net;
	const char *dev = n->dev[NET_CARD];
	long long before;
	char c;

	ASSERT_EQ(0, queue_up(w));
	for (unsigned int i = 0; i < ARRAY_SIZE(offloads); i++) {
		ASSERT_EQ(0, net_feature(n, offloads[i], false));
	}
	before = stat_of(dev, "tx_dropped");
	ASSERT_GE(before, 0);
	ASSERT_GT(take(w), 0);
	EXPECT_TRUE(stat_wait(dev, "tx_dropped", before + 2));
	EXPECT_EQ(-1, recv(w->tcp.rx, &c, 1, MSG_PEEK | MSG_DONTWAIT));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_GT(net_unsent(w->tcp.tx), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(offloads); i++) {
		ASSERT_EQ(0, net_feature(n, offloads[i], true));
	}
	EXPECT_EQ(0, recv_queued(w));
	CHECK_OVER();
}

/* --- other devices, by a route that changes while data is queued --- */

/*
 * What still was on the cable has arrived: a timer may have sent something shortly
 * before the route changed, which it did not for IPv6.
 */
static int flush_cable(struct way *w)
{
	int ret = w->aside.tx < 0 ? net_tcp(&w->net, AF_INET6, &w->aside) : 0;

	return ret ?: net_mark(&w->aside);
}

/* Nobody has seen what is queued, not the receiver @rx, and it is still to be sent */
static void check_queued(struct __test_metadata *_metadata, struct way *w,
			 struct probe *p, int rx)
{
	char c;

	probe_read(p);
	check_probe(_metadata, p);
	EXPECT_EQ(-1, recv(rx, &c, 1, MSG_PEEK | MSG_DONTWAIT));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_GT(net_unsent(w->tcp.tx), 0);
}

/* The peer wants more, but @dev drops all of it */
static void check_rerouted(struct __test_metadata *_metadata, struct way *w,
			   const char *dev)
{
	struct probe *p = &w->probe[0];
	long long before;

	ASSERT_EQ(0, piece_send(w->plain.tx, &plain, 0));
	EXPECT_TRUE(probes_wait(p, 1));
	before = stat_of(dev, "tx_dropped");
	ASSERT_GE(before, 0);
	ASSERT_EQ(0, flush_cable(w));
	ASSERT_GT(take(w), 0);
	EXPECT_TRUE(stat_wait(dev, "tx_dropped", before + 2));
	check_queued(_metadata, w, p, w->tcp.rx);
	EXPECT_EQ(0, p->secrets);
}

#define CHECK_REROUTED(dev)	check_rerouted(_metadata, w, dev)

/* The way back, and all that is queued arrives by it */
static void check_back(struct __test_metadata *_metadata, struct way *w)
{
	EXPECT_EQ(0, undo_all(&w->undo));
	probe_close(&w->probe[0]);
	EXPECT_EQ(0, recv_queued(w));
	if (w->plain.rx >= 0)
		EXPECT_EQ(0, net_recv(w->plain.rx, &plain, 1));
	CHECK_OVER();
}

#define CHECK_BACK()	check_back(_metadata, w)

TEST_F(unread, route_by_veth)
{
	struct way *w = &self->way;

	VETH_UP();
	ASSERT_EQ(0, probe_far(w, &w->probe[0]));
	ASSERT_EQ(0, queue_up(w));
	ASSERT_EQ(0, reroute(w, VETH, TO_ALL));
	CHECK_REROUTED(VETH);
	CHECK_BACK();
}

TEST_F(unread, route_by_card)
{
	struct way *w = &self->way;
	const char *dev = w->other.dev[NET_CARD];

	NETRIG_UP(&w->other, variant->other, MEM_UDMABUF, 0);
	ASSERT_EQ(0, probe_other(w, &w->probe[0]));
	ASSERT_EQ(0, queue_up(w));
	ASSERT_EQ(0, reroute(w, dev, TO_ALL));
	CHECK_REROUTED(dev);
	CHECK_BACK();
}

TEST_F(unread, route_by_tun)
{
	struct way *w = &self->way;

	TUN_OPEN(false);
	ASSERT_EQ(0, queue_up(w));
	ASSERT_EQ(0, reroute(w, TUN, NULL));
	CHECK_REROUTED(TUN);
	CHECK_BACK();
}

/* A bridge with the one port @port */
static int bridge_up(struct way *w, const char *port)
{
	if (run("ip link add " BRIDGE " type bridge"))
		return -ENOTSUP;
	undo_by(&w->undo, "ip link del " BRIDGE);
	return net_ip(w->net.home, "link set dev %s master " BRIDGE "\n"
		      "link set dev " BRIDGE " up\n", port);
}

#define BRIDGE_UP(port) do {						\
	int ret_ = bridge_up(w, port);					\
									\
	if (ret_ == -ENOTSUP)						\
		SKIP(return, "no bridges (CONFIG_BRIDGE)");		\
	ASSERT_EQ(0, ret_);						\
} while (0)

TEST_F(unread, route_by_bridge)
{
	struct way *w = &self->way;

	VETH_UP();
	BRIDGE_UP(VETH);
	ASSERT_EQ(0, probe_far(w, &w->probe[0]));
	ASSERT_EQ(0, queue_up(w));
	ASSERT_EQ(0, reroute(w, BRIDGE, TO_ALL));
	CHECK_REROUTED(BRIDGE);
	CHECK_BACK();
}

/* Its port is the very card: the bridge is what the packets leave by */
TEST_F(unread, route_by_bridge_of_card)
{
	struct way *w = &self->way;
	struct netrig *n = &w->net;

	ASSERT_EQ(0, probe_open(&w->probe[0], n, NET_PEER, n->dev[NET_PEER],
				PROBE_RAW, ETH_P_ALL, &w->match));
	ASSERT_EQ(0, queue_up(w));
	/* the bridge would get the answer to who the peer is */
	ASSERT_EQ(0, flush_cable(w));
	BRIDGE_UP(n->dev[NET_CARD]);
	ASSERT_EQ(0, reroute(w, BRIDGE, TO_ALL));
	/* not what came by the cable while it was right */
	ASSERT_EQ(0, flush_cable(w));
	probe_read(&w->probe[0]);
	w->probe[0].secrets = 0;
	w->probe[0].leaked = 0;
	CHECK_REROUTED(BRIDGE);
	CHECK_BACK();
}

TEST_F(unread, route_by_loopback)
{
	struct way *w = &self->way;

	ASSERT_EQ(0, probe_here(w, &w->probe[0], "lo", PROBE_RAW, ETH_P_ALL));
	ASSERT_EQ(0, queue_up(w));
	ASSERT_EQ(0, reroute(w, "lo", NULL));
	CHECK_REROUTED("lo");
	CHECK_BACK();
}

/* Where queue @queue of a socket under repair is, or is to start */
static int queue_seq(int fd, int queue, __u32 *seq, bool set)
{
	socklen_t len = sizeof(*seq);

	if (net_set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue))
		return -EPROTO;
	if (set ? setsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, seq, len) :
		  getsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, seq, &len))
		return -errno;
	return 0;
}

/* What the next bytes of a connection are, for the sender @fd */
static int next_seqs(int fd, __u32 *to_ack, __u32 *to_get)
{
	int ret = net_set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);

	ret = ret ?: queue_seq(fd, TCP_SEND_QUEUE, to_ack, false);
	ret = ret ?: queue_seq(fd, TCP_RECV_QUEUE, to_get, false);
	*to_ack -= net_unsent(fd);
	return ret ?: net_set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
}

/*
 * Nothing more arrives: what is left of a window that has less room than a segment
 * takes is used when a timer expires
 */
static int wait_closed_window(int fd)
{
	double end = lab_now() + net_patience() / 1000.0;
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	while (!getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) &&
	       (info.tcpi_snd_wnd || info.tcpi_unacked)) {
		if (lab_now() > end)
			return -ETIME;
		lab_sleep_ms(10);
	}
	return 0;
}

/*
 * A socket of the sender's stack that is, by what it knows, the receiver; still
 * under repair.
 */
static int take_over(const struct net_pair *p)
{
	int sk = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in peer = { 0 }, own = { 0 };
	socklen_t len = sizeof(peer);
	__u32 to_get, to_send;

	net_timeouts(sk);
	if (getpeername(p->tx, (void *)&peer, &len) ||
	    getsockname(p->tx, (void *)&own, &len) ||
	    next_seqs(p->tx, &to_get, &to_send) ||
	    net_set(sk, IPPROTO_IP, IP_TRANSPARENT, 1) ||
	    net_set(sk, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON) ||
	    queue_seq(sk, TCP_RECV_QUEUE, &to_get, true) ||
	    queue_seq(sk, TCP_SEND_QUEUE, &to_send, true) ||
	    bind(sk, (void *)&peer, len) || connect(sk, (void *)&own, len)) {
		close(sk);
		return -EIO;
	}
	return sk;
}

/* The other end does not notice */
static void let_go(int sk)
{
	net_set(sk, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);
	close(sk);
}

/* The address of the peer becomes one of the sender's stack, which has a receiver */
TEST_F(unread, local_receiver)
{
	struct way *w = &self->way;
	struct probe *p = &w->probe[0];
	struct netrig *n = &w->net;
	int secrets, plains;
	long long before;

	ASSERT_EQ(0, probe_here(w, p, "lo", PROBE_RAW, ETH_P_ALL));
	ASSERT_EQ(0, queue_up(w));
	ASSERT_EQ(0, wait_closed_window(w->tcp.tx));
	secrets = take_over(&w->tcp);
	plains = take_over(&w->plain);
	ASSERT_TRUE(secrets >= 0 && plains >= 0);
	before = stat_of("lo", "tx_dropped");
	ASSERT_EQ(0, net_ip(n->home, "addr add 10.73.%u.2/32 dev lo\n", n->net));
	undo_by(&w->undo, "ip addr del 10.73.%u.2/32 dev lo", n->net);
	/* they say how much they can take */
	ASSERT_EQ(0, net_set(secrets, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF));
	ASSERT_EQ(0, net_set(plains, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF));

	ASSERT_EQ(0, piece_send(w->plain.tx, &plain, 0));
	EXPECT_EQ(0, net_recv(plains, &plain, 1));
	EXPECT_TRUE(stat_wait("lo", "tx_dropped", before + 2));
	EXPECT_TRUE(probes_wait(p, 1));
	check_queued(_metadata, w, p, secrets);
	EXPECT_EQ(0, p->secrets);

	let_go(secrets);
	let_go(plains);
	/* its peer knows nothing of what has been received */
	net_close(&w->plain);
	CHECK_BACK();
}

/* Of the pair of devices, the one that is not NETKIT */
static int netkit_far(char *name)
{
	long long ifindex;

	if (file_read_num("/sys/class/net/" NETKIT "/iflink", &ifindex))
		return -EIO;
	return if_indextoname(ifindex, name) ? 0 : -errno;
}

/*
 * netkit has no DMA and takes memory that cannot be read, for a card behind it. Here,
 * it ends where the peer is: the segments arrive at the receiver's own stack.
 */
TEST_F(unread, route_by_netkit)
{
	struct way *w = &self->way;
	struct probe *p = w->probe;
	struct netrig *n = &w->net;
	char far[IF_NAMESIZE];
	long long before;

	if (run("ip link add " NETKIT " type netkit"))
		SKIP(return, "no netkit (CONFIG_NETKIT)");
	undo_by(&w->undo, "ip link del " NETKIT);
	ASSERT_EQ(0, netkit_far(far));
	ASSERT_EQ(0, net_ip(n->home, "link set dev %s netns /proc/%d/fd/%d\n"
			    "link set dev " NETKIT " up\n", far, getpid(),
			    n->ns[NET_PEER]));
	ASSERT_EQ(0, net_ip(n->ns[NET_PEER], "link set dev %s up\n", far));
	ASSERT_EQ(0, probe_open(&p[0], n, NET_PEER, far, PROBE_RAW, ETH_P_ALL,
				&w->match));
	ASSERT_EQ(0, queue_up(w));
	ASSERT_EQ(0, reroute(w, NETKIT, NULL));
	SEND_PLAIN();
	EXPECT_TRUE(probes_wait(&p[0], 1));
	ASSERT_EQ(0, net_wait_acked(w->plain.tx));
	before = stat_of(NETKIT, "tx_bytes");
	ASSERT_EQ(0, flush_cable(w));
	ASSERT_GT(take(w), 0);
	EXPECT_TRUE(stat_wait(NETKIT, "tx_bytes", before + 5000));
	check_queued(_metadata, w, &p[0], w->tcp.rx);
	probe_close(&p[0]);
	/* last in line, see packet_sockets_on_arrival */
	ASSERT_EQ(0, probe_open(&p[1], n, NET_PEER, far, PROBE_RAW, ETH_P_IP,
				&w->match));
	SEND_PLAIN();
	EXPECT_TRUE(probes_wait(&p[1], 1));
	EXPECT_TRUE(probe_wait_secrets(&p[1], 1));
	check_queued(_metadata, w, &p[1], w->tcp.rx);
	probe_close(&p[1]);
	EXPECT_EQ(0, undo_all(&w->undo));
	EXPECT_EQ(0, recv_queued(w));
	CHECK_OVER();
}

TEST_HARNESS_MAIN
