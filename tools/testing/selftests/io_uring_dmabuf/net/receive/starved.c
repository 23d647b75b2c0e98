// SPDX-License-Identifier: GPL-2.0
/*
 * A card with little memory to write to: an application that gives back late, one that
 * has gone to another processor, and segments that come too early and have all of it.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <linux/tcp.h>

#include "common.h"
#include "relay.h"

#define SEED	NET_SEED
#define SIZE	(4 * MiB)
#define PAGES	16
#define TICKS	lab_scale(200, 1000)	/* milliseconds; a tick is 10 */

/* --- an application that is slow --- */

FIXTURE(starved) {
	struct relay relay;
};

FIXTURE_VARIANT(starved) {
	const char *card;
};

FIXTURE_VARIANT_ADD(starved, e1000e) { .card = "e1000e" };
FIXTURE_VARIANT_ADD(starved, igb) { .card = "igb" };

FIXTURE_SETUP(starved)
{
	RELAY_UP_CARD(&self->relay, variant->card, MEM_UDMABUF_4K, SIZE, ZCRX_RING,
		      MTU_PAGE_TCP4);
	ASSERT_EQ(0, relay_open(&self->relay, 0, PAGES * 4096));
	ASSERT_EQ(0, relay_connect(&self->relay, AF_INET));
}

FIXTURE_TEARDOWN(starved)
{
	relay_down(&self->relay);
}

/* The card has taken what was given back */
static bool taken_soon(const struct zcrx *z)
{
	double end = lab_now() + TICKS / 1000.0;

	while (__atomic_load_n(z->head, __ATOMIC_ACQUIRE) != z->local_tail) {
		if (lab_now() > end)
			return false;
		lab_sleep_ms(1);
	}
	return true;
}

/* The application has all pages; it gives back one at a time, when nothing comes */
TEST_F(starved, one_at_a_time)
{
	const struct piece p = { SEED, 0, lab_scale(96, 48) * 4096 };
	struct relay *r = &self->relay;
	struct arrived held[2 * PAGES], a;
	unsigned int nr = 0, late = 0, rounds = 0;
	struct sender s;
	__u64 got = 0;
	int ret;

	ASSERT_NE(NULL, zcrx_prep(&r->z, r->tcp.rx, p.len, RELAY_RECV));
	ASSERT_LE(0, uring_submit(&r->ring, 0));
	ASSERT_EQ(0, sender_start(&s, r->tcp.tx, &p));
	while (got < p.len) {
		struct arrived oldest;

		/* until the card has none to write to */
		lab_sleep_ms(50);
		uring_submit(&r->ring, 0);
		while (nr < PAGES - 2 && got < p.len &&
		       (uring_ready(&r->ring) || !nr)) {
			ret = relay_next(r, &p, got, &a);
			ASSERT_GT(ret, 0);
			got += ret;
			ASSERT_LT(nr, 2 * PAGES);
			held[nr++] = a;
		}
		if (!nr)
			continue;
		oldest = held[0];
		memmove(held, held + 1, --nr * sizeof(held[0]));
		zcrx_return(&r->z, oldest.off, oldest.len);
		late += !taken_soon(&r->z);
		rounds++;
	}
	EXPECT_EQ(0, late) {
		TH_LOG("%u of %u", late, rounds);
	}
	EXPECT_EQ(0, sender_join(&s));
}

/* It has half of them for a while, and then none, for all of @p */
static int hold_and_return(struct relay *r, const struct piece *p, unsigned int *late)
{
	struct arrived held[PAGES];
	__u64 got = 0;
	int ret;

	while (got < p->len) {
		unsigned int nr = 0;

		do {
			ret = relay_next(r, p, got, &held[nr]);
			if (ret <= 0)
				return ret ?: -EPROTO;
			got += ret;
			nr++;
		} while (nr < PAGES / 2 && got < p->len);
		lab_sleep_ms(100);
		for (unsigned int i = 0; i < nr; i++)
			zcrx_return(&r->z, held[i].off, held[i].len);
		*late += !taken_soon(&r->z);
	}
	return 0;
}

static void check_held(struct __test_metadata *_metadata, struct relay *r,
		       unsigned int pieces)
{
	const struct piece p = { SEED, 0, pieces * 4096 };
	unsigned int late = 0;
	struct sender s;
	int ret, err;

	ASSERT_NE(NULL, zcrx_prep(&r->z, r->tcp.rx, p.len, RELAY_RECV));
	ASSERT_LE(0, uring_submit(&r->ring, 0));
	ASSERT_EQ(0, sender_start(&s, r->tcp.tx, &p));
	ret = hold_and_return(r, &p, &late);
	if (ret)
		shutdown(s.fd, SHUT_RDWR);
	err = sender_join(&s);
	ASSERT_EQ(0, ret);
	EXPECT_EQ(0, err);
	EXPECT_EQ(0, late);
}

TEST_F(starved, all_at_once)
{
	check_held(_metadata, &self->relay, 256);
}

/* --- an application that has gone to another processor --- */

/*
 * The packets that fill the ring first are allocated by who opens the queue. Where
 * they are freed is not where that processor receives, if it does at all.
 */
FIXTURE(moved) {
	struct relay relay;
};

FIXTURE_VARIANT(moved) {
	bool from_last;
};

FIXTURE_VARIANT_ADD(moved, up) { .from_last = false };
/* with more than two processors it is one that receives nothing */
FIXTURE_VARIANT_ADD(moved, down) { .from_last = true };

static unsigned int last_cpu(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN) - 1;
}

static int run_on(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) ? -errno : 0;
}

FIXTURE_SETUP(moved)
{
	if (!last_cpu())
		SKIP(return, "one processor");
	ASSERT_EQ(0, run_on(variant->from_last ? last_cpu() : 0));
	RELAY_UP(&self->relay, MEM_UDMABUF_4K, SIZE, ZCRX_RING, MTU_PAGE_TCP4);
	ASSERT_EQ(0, relay_open(&self->relay, 0, PAGES * 4096));
	ASSERT_EQ(0, relay_connect(&self->relay, AF_INET));
}

FIXTURE_TEARDOWN(moved)
{
	relay_down(&self->relay);
}

TEST_F(moved, all_at_once)
{
	ASSERT_EQ(0, run_on(variant->from_last ? 0 : last_cpu()));
	check_held(_metadata, &self->relay, 64);
}

/* --- segments that come too early --- */

#define EARLY_LEN	128	/* bytes of one; it takes a page all the same */

FIXTURE(early) {
	struct relay relay;
	struct rings before;
};

FIXTURE_VARIANT(early) {
	unsigned int pages, ring;
};

/* The ring is never full, or it is until most of the area is used */
FIXTURE_VARIANT_ADD(early, small_area) { .pages = PAGES, .ring = 256 };
FIXTURE_VARIANT_ADD(early, small_ring) { .pages = 128, .ring = 64 };

FIXTURE_SETUP(early)
{
	struct relay *r = &self->relay;

	RELAY_UP(r, MEM_UDMABUF_4K, SIZE, ZCRX_RING, MTU_PAGE_TCP4);
	ASSERT_EQ(0, rings_get(&r->net, &self->before));
	ASSERT_EQ(0, rings_rx(&r->net, variant->ring));
	ASSERT_EQ(0, relay_open(r, 0, variant->pages * 4096));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
}

FIXTURE_TEARDOWN(early)
{
	if (self->before.rx)
		rings_rx(&self->relay.net, self->before.rx);
	relay_down(&self->relay);
}

/* What somebody who knows a connection needs to send a segment of it */
struct early {
	int raw;
	struct sockaddr_in from, to;
	__u32 seq, ack, stamp;
};

struct segment {
	__be16 source, dest;
	__be32 seq, ack;
	__u8 doff, flags;
	__be16 window, check, urgent;
	__u8 nops[2], kind, size;
	__be32 stamp, echo;
	char data[EARLY_LEN];
} __attribute__((packed));

static int next_seq(int fd, int queue, __u32 *seq)
{
	socklen_t len = sizeof(*seq);

	if (net_set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue) ||
	    getsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, seq, &len))
		return -EPROTO;
	return 0;
}

/* @fd has sent nothing that is not acknowledged */
static int early_open(struct early *e, const struct netrig *n, int fd)
{
	socklen_t len = sizeof(e->from);
	int ret;

	if (getsockname(fd, (void *)&e->from, &len) ||
	    getpeername(fd, (void *)&e->to, &len))
		return -errno;
	len = sizeof(e->stamp);
	if (getsockopt(fd, IPPROTO_TCP, TCP_TIMESTAMP, &e->stamp, &len))
		return -errno;
	/* it has the lowest bit for itself */
	e->stamp += 2;
	ret = net_set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON);
	ret = ret ?: next_seq(fd, TCP_SEND_QUEUE, &e->seq);
	ret = ret ?: next_seq(fd, TCP_RECV_QUEUE, &e->ack);
	ret = ret ?: net_set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
	if (ret)
		return ret;
	e->raw = net_socket(n, NET_PEER, AF_INET, SOCK_RAW, IPPROTO_TCP);
	return e->raw < 0 ? e->raw : 0;
}

static __u32 sum_of(const void *data, size_t len, __u32 sum)
{
	const __u16 *word = data;

	for (size_t i = 0; i < len / 2; i++)
		sum += word[i];
	return sum;
}

static __u16 segment_check(const struct early *e, const struct segment *s)
{
	const __be16 pseudo[] = { htons(IPPROTO_TCP), htons(sizeof(*s)) };
	__u32 sum = sum_of(pseudo, sizeof(pseudo), 0);

	sum = sum_of(&e->from.sin_addr, 4, sum);
	sum = sum_of(&e->to.sin_addr, 4, sum);
	sum = sum_of(s, sizeof(*s), sum);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

/* The bytes of @p from @off on, whatever was sent before */
static int early_send(const struct early *e, const struct piece *p, __u64 off)
{
	struct sockaddr_in to = e->to;
	struct segment s = {
		.source = e->from.sin_port,
		.dest = e->to.sin_port,
		.seq = htonl(e->seq + off),
		.ack = htonl(e->ack),
		.doff = offsetof(struct segment, data) / 4 << 4,
		.flags = 0x10,	/* ACK */
		.window = htons(512),
		.nops = { 1, 1 },
		.kind = 8,	/* time stamps */
		.size = 10,
		.stamp = htonl(e->stamp),
	};

	pattern_fill(s.data, p->pos + off, sizeof(s.data), p->seed);
	s.check = segment_check(e, &s);
	to.sin_port = 0;
	return sendto(e->raw, &s, sizeof(s), 0, (void *)&to, sizeof(to)) == sizeof(s) ?
		0 : -errno;
}

/* A counter of TCP in the netns of the test, of /proc/net/netstat */
static long long tcp_count(const char *name)
{
	static char names[8192], values[8192];
	char *n, *v, *save_n = names, *save_v = values;
	FILE *f = fopen("/proc/net/netstat", "r");
	long long count = -ENOENT;

	if (!f)
		return -errno;
	/* TcpExt has the first two lines: names, and what they are */
	if (!fgets(names, sizeof(names), f) || !fgets(values, sizeof(values), f))
		names[0] = 0;
	fclose(f);
	while ((n = strsep(&save_n, "\n ")) && (v = strsep(&save_v, "\n ")))
		if (!strcmp(n, name))
			count = atoll(v);
	return count;
}

static long long early_count(void)
{
	return tcp_count("TCPOFOQueue") + tcp_count("TCPOFODrop");
}

static bool early_arrived(long long want)
{
	double end = net_deadline();

	while (early_count() < want && lab_now() < end)
		lab_sleep_ms(10);
	return early_count() >= want;
}

/*
 * More than there are pages for, and then what comes before: it arrives, and so does
 * all else. One after the other from the last on, or they would become one packet
 */
TEST_F(early, segments)
{
	const struct piece p = { SEED, 0, 256 * 4096 };
	struct relay *r = &self->relay;
	long long before = early_count();
	struct early e = { .raw = -1 };

	ASSERT_GE(before, 0);
	ASSERT_EQ(0, early_open(&e, &r->net, r->tcp.tx));
	for (unsigned int i = 2 * variant->pages; i; i--)
		ASSERT_EQ(0, early_send(&e, &p, i * EARLY_LEN));
	/* a descriptor has two pages, and a packet leaves one of them alone */
	ASSERT_TRUE(early_arrived(before + variant->pages - 2));
	EXPECT_EQ(0, relay_drain(r, &p));
	close(e.raw);
}

TEST_HARNESS_MAIN
