// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include "lab.h"
#include "netset.h"
#include "relay.h"
#include "steer.h"

#define BLOCK		512
#define AREA_OFF(off)	((off) & ~IORING_ZCRX_AREA_MASK)

void relay_init(struct relay *r)
{
	memset(r, 0, sizeof(*r));
	r->card = "e1000e";
	netrig_init(&r->net);
	r->mem.fd = -1;
	r->disk = -1;
	r->tcp = NET_PAIR_NONE;
}

unsigned int relay_ifindex(const struct relay *r)
{
	return if_nametoindex(r->net.dev[NET_CARD]);
}

/*
 * Neighbour discovery of IPv6 is payload for a card, and lost while that goes to an
 * application
 */
static int know_other(const struct relay *r, enum net_side side)
{
	const struct netrig *n = &r->net;
	enum net_side other = side == NET_CARD ? NET_PEER : NET_CARD;
	struct ifreq ifr = { 0 };
	int ret = net_ioctl(n, other, SIOCGIFHWADDR, &ifr);

	return ret ?: netset_neigh(n->ns[side], n->dev[side], n->net, other + 1,
				   (void *)ifr.ifr_hwaddr.sa_data);
}

int relay_side(const struct relay *r, enum net_side side, unsigned int mtu)
{
	const struct netrig *n = &r->net;

	return netset_link(n->ns[side], n->dev[side], mtu, true) ?: know_other(r, side);
}

/* Where there are several queues the last is the relay's, and the first all others' */
static int pick_queue(struct relay *r)
{
	int queues = steer_queues(&r->net);

	if (queues <= 0)
		return queues ?: -EPROTO;
	r->queue = queues - 1;
	return r->queue ? steer_all(&r->net, 0) : 0;
}

int relay_link(struct relay *r, unsigned int mtu, const char **why)
{
	struct netrig *n = &r->net;
	int ret = netrig_begin(n, r->card, why);

	if (ret)
		return ret;
	r->settled = true;
	ret = rings_split(n, SPLIT_ON);
	if (ret == -EOPNOTSUPP)
		*why = "this driver does not split headers off";
	if (!ret)
		ret = netrig_link(n, mtu);
	if (!ret)
		ret = know_other(r, NET_PEER) ?: know_other(r, NET_CARD);
	if (!ret)
		ret = pick_queue(r);
	if (!ret && !r->queue && strcmp(r->card, "e1000e"))
		*why = "no queue but the first";
	return ret;
}

int relay_store(struct relay *r, enum mem_kind kind, __u64 size, __u32 ring_flags,
		const char **why)
{
	const char *path = lab_env("LAB_NVME_MAIN");
	int ret;

	if (!path) {
		*why = "LAB_NVME_MAIN is not set";
		return -ENODEV;
	}
	r->disk = lab_open(path);
	if (r->disk < 0)
		return r->disk;
	ret = mem_create(&r->mem, kind, size);
	if (ret == -ENOENT || ret == -ENXIO || ret == -ENODEV)
		*why = "no exporter for this memory";
	if (!ret)
		ret = uring_init(&r->ring, 1024, ring_flags);
	if (!ret)
		ret = reg_sparse(&r->ring, RELAY_SLOTS);
	if (!ret)
		ret = mem_poison(&r->mem, 0, size, POISON);
	return ret ?: reg_dmabuf(&r->ring, 0, r->mem.fd, r->disk);
}

int relay_renew(struct relay *r)
{
	int ret;

	uring_exit(&r->ring);
	zcrx_forget(&r->z);
	ret = uring_init(&r->ring, 1024, ZCRX_RING);
	if (!ret)
		ret = reg_sparse(&r->ring, RELAY_SLOTS);
	return ret ?: reg_dmabuf(&r->ring, 0, r->mem.fd, r->disk);
}

int relay_reopen(struct relay *r, __u64 len)
{
	double end = net_deadline();
	int ret = relay_renew(r);

	while (!ret) {
		struct io_uring_zcrx_area_reg area = area_slot(0, 0, len);

		/* a ring that is closed ends some time later */
		ret = zcrx_open_queue(&r->z, &r->ring, relay_ifindex(r), r->queue, &area);
		if (ret != -EEXIST || lab_now() > end)
			break;
		ret = 0;
		lab_sleep_ms(1);
	}
	return ret;
}

int relay_open_area(struct relay *r, struct io_uring_zcrx_area_reg *area)
{
	int ret = zcrx_open_queue(&r->z, &r->ring, relay_ifindex(r), r->queue, area);

	/* the card may have been reset */
	return ret ?: net_wait_running(&r->net, NET_CARD);
}

int relay_open(struct relay *r, __u64 off, __u64 len)
{
	struct io_uring_zcrx_area_reg area = area_slot(0, off, len);

	return relay_open_area(r, &area);
}

int relay_connect(struct relay *r, int family)
{
	struct net_pair p;
	int ret;

	for (;;) {
		ret = net_tcp(&r->net, family, &p);
		r->tcp = (struct net_pair) { .tx = p.rx, .rx = p.tx };
		if (ret || !r->queue)
			return ret;
		if (steer_alone(&r->net, r->tcp.rx, -1))
			return steer_flow(&r->net, r->tcp.rx, r->queue);
		net_close(&r->tcp);
	}
}

/* A ring that is closed ends some time later, and its instance with it */
static int split_off(const struct netrig *n)
{
	double end = net_deadline();
	int ret;

	while ((ret = rings_split(n, SPLIT_UNSET)) == -EINVAL && lab_now() < end)
		lab_sleep_ms(10);
	return ret;
}

int relay_close(struct relay *r)
{
	uring_exit(&r->ring);
	zcrx_forget(&r->z);
	return r->settled ? split_off(&r->net) : 0;
}

void relay_down(struct relay *r)
{
	net_close(&r->tcp);
	relay_close(r);
	if (r->mem.fd >= 0 || r->mem.map)
		mem_destroy(&r->mem);
	if (r->disk >= 0)
		close(r->disk);
	/* netrig_up() sets the MTU */
	if (r->settled && r->queue)
		steer_default(&r->net);
	if (r->settled)
		netset_no_neigh(r->net.home, r->net.dev[NET_CARD], r->net.net,
				NET_PEER + 1);
	netrig_down(&r->net);
}

/* --- the peer --- */

static void *sender_run(void *arg)
{
	struct sender *s = arg;

	s->error = piece_send(s->fd, &s->p, 0);
	return NULL;
}

int sender_start(struct sender *s, int fd, const struct piece *p)
{
	*s = (struct sender) { .fd = fd, .p = *p };
	return -pthread_create(&s->thread, NULL, sender_run, s);
}

int sender_join(struct sender *s)
{
	pthread_join(s->thread, NULL);
	return s->error;
}

/* --- what arrives --- */

/* One completion of the receive: its bytes, 0 at its end, or -errno */
static int one_piece(struct relay *r, const struct uring_res *res,
		     const struct piece *p, __u64 got, struct arrived *a)
{
	__u64 at = r->base + AREA_OFF(res->extra);

	if (res->res <= 0 || !(res->flags & IORING_CQE_F_MORE)) {
		if (res->res)
			fprintf(stderr, "# the receive ends after %llu bytes: %d\n", got,
				res->res);
		return res->res > 0 ? -EPROTO : res->res;
	}
	*a = (struct arrived) { .off = res->extra, .len = res->res };
	if (got + a->len > p->len)
		return -EOVERFLOW;
	if (at + a->len > r->mem.size) {
		fprintf(stderr, "# a piece at 0x%llx\n", res->extra);
		return -ERANGE;
	}
	if (mem_check(&r->mem, at, p->pos + got, a->len, p->seed) >= 0) {
		fprintf(stderr, "# wrong data: a piece of %u bytes at 0x%llx\n", a->len,
			res->extra);
		return -EILSEQ;
	}
	return a->len;
}

int relay_next(struct relay *r, const struct piece *p, __u64 got, struct arrived *a)
{
	struct uring_res res;
	int ret = uring_wait(&r->ring, &res, net_patience());

	if (!ret && res.user_data != RELAY_RECV)
		ret = -EPROTO;
	if (!ret) {
		ret = one_piece(r, &res, p, got, a);
		return ret ?: -EPIPE;
	}
	return ret;
}

int relay_arrive(struct relay *r, const struct piece *p, struct arrived *pieces,
		 unsigned int max)
{
	unsigned int nr = 0;
	__u64 got = 0;
	int ret = uring_submit(&r->ring, 0);

	while (ret >= 0 && got < p->len) {
		if (nr == max)
			return -E2BIG;
		ret = relay_next(r, p, got, &pieces[nr]);
		if (ret > 0) {
			got += ret;
			nr++;
		}
	}
	return ret < 0 ? ret : (int)nr;
}

static int take_back(struct relay *r, const struct piece *p)
{
	struct arrived a;
	struct uring_res res;
	__u64 got = 0;
	int ret = 0;

	while (ret >= 0 && got < p->len) {
		ret = relay_next(r, p, got, &a);
		if (ret > 0) {
			zcrx_return(&r->z, a.off, a.len);
			got += ret;
		}
	}
	if (ret < 0)
		return ret;
	ret = uring_wait(&r->ring, &res, net_patience());
	return ret ?: res.res;
}

int relay_drain(struct relay *r, const struct piece *p)
{
	struct sender s;
	int ret, err;

	if (!zcrx_prep(&r->z, r->tcp.rx, p->len, RELAY_RECV))
		return -EBUSY;
	ret = uring_submit(&r->ring, 0);
	if (ret >= 0)
		ret = sender_start(&s, r->tcp.tx, p);
	if (ret)
		return ret;
	ret = take_back(r, p);
	if (ret)
		shutdown(s.fd, SHUT_RDWR);
	err = sender_join(&s);
	return ret ?: err;
}

/* --- and goes to the drive --- */

struct batch {
	struct iovec iov[RELAY_VECTORS];
	struct arrived pieces[RELAY_VECTORS];
	unsigned int nr;
	__u64 pos, len;		/* on the drive */
};

struct relaying {
	struct relay *r;
	const struct piece *p;
	struct relay_run *run;
	struct batch *batch;	/* that is not written yet */
	__u64 got, written;
	bool ended;
};

static int write_batch(struct relaying *w)
{
	struct relay *r = w->r;
	struct batch *b = w->batch;
	struct io_uring_sqe *sqe;

	if (b->nr == 1)
		sqe = uring_prep_rw(&r->ring, IORING_OP_WRITE_FIXED, r->disk, b->pos,
				    (uintptr_t)b->iov[0].iov_base, b->len, 0);
	else
		sqe = uring_prep_rw(&r->ring, IORING_OP_WRITEV_FIXED, r->disk, b->pos,
				    (uintptr_t)b->iov, b->nr, 0);
	if (!sqe)
		return -EBUSY;
	sqe->user_data = (uintptr_t)b;
	w->batch = NULL;
	w->run->writes++;
	return uring_submit(&r->ring, 0) == 1 ? 0 : -EIO;
}

/* It may be that what there is makes no whole block yet */
static int add_piece(struct relaying *w, const struct arrived *a)
{
	unsigned int batch = w->run->batch ?: 1;
	struct batch *b = w->batch ?: calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	if (!w->batch)
		b->pos = w->got;
	w->batch = b;
	b->pieces[b->nr] = *a;
	b->iov[b->nr++] = (struct iovec) {
		.iov_base = (void *)(uintptr_t)AREA_OFF(a->off),
		.iov_len = a->len,
	};
	b->len += a->len;
	w->got += a->len;
	w->run->pieces++;
	w->run->whole += a->len == 4096 && !(a->off % 4096);
	if (!(b->len % BLOCK) && (b->nr >= batch || w->got == w->p->len))
		return write_batch(w);
	return b->nr == RELAY_VECTORS ? -EMSGSIZE : 0;
}

/* The card may have the memory again only now */
static int written(struct relaying *w, const struct uring_res *res)
{
	struct batch *b = (void *)(uintptr_t)res->user_data;
	int ret = 0;

	if (res->res != (int)b->len) {
		fprintf(stderr, "# write of %llu bytes in %u pieces at 0x%llx: %d\n", b->len,
			b->nr, b->pos, res->res);
		ret = res->res < 0 ? res->res : -EIO;
	}
	for (unsigned int i = 0; i < b->nr; i++)
		zcrx_return(&w->r->z, b->pieces[i].off, b->pieces[i].len);
	w->written += b->len;
	free(b);
	return ret;
}

static int relay_step(struct relaying *w)
{
	struct arrived a;
	struct uring_res res;
	int ret = uring_wait(&w->r->ring, &res, net_patience());

	if (ret) {
		fprintf(stderr, "# %llu bytes have arrived, %llu are on the drive: %d\n",
			w->got, w->written, ret);
		return ret;
	}
	if (res.user_data != RELAY_RECV)
		return written(w, &res);
	ret = one_piece(w->r, &res, w->p, w->got, &a);
	if (ret > 0)
		return add_piece(w, &a);
	w->ended = true;
	return ret ?: w->got == w->p->len ? 0 : -EPIPE;
}

int relay_take(struct relay *r, const struct piece *p, struct relay_run *run)
{
	struct relaying w = { .r = r, .p = p, .run = run };
	int ret;

	if (!zcrx_prep(&r->z, r->tcp.rx, p->len, RELAY_RECV))
		return -EBUSY;
	ret = uring_submit(&r->ring, 0);
	if (ret > 0)
		ret = 0;
	while (!ret && (!w.ended || w.written < p->len))
		ret = relay_step(&w);
	free(w.batch);
	return ret;
}

int relay_run(struct relay *r, const struct piece *p, struct relay_run *run)
{
	struct sender s;
	int ret, err;

	ret = disk_poison(r->disk, 0, p->len + 4096, POISON);
	if (!ret)
		ret = sender_start(&s, r->tcp.tx, p);
	if (ret)
		return ret;
	ret = relay_take(r, p, run);
	if (ret)
		shutdown(s.fd, SHUT_RDWR);
	err = sender_join(&s);
	ret = ret ?: err;
	if (!ret && (disk_check(r->disk, 0, p->pos, p->len, p->seed) >= 0 ||
		     disk_check_poison(r->disk, p->len, 4096, POISON) >= 0))
		ret = -EILSEQ;
	return ret;
}
