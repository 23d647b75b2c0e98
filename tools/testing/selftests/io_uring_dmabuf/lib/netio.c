// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "netio.h"

#define CHUNK		(256 * KiB)	/* of one recv() */
#define DATAGRAM_MAX	65536
#define ARRAY_LEN(a)	(sizeof(a) / sizeof((a)[0]))

char *net_user(__u64 size)
{
	char *user = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	if (user == MAP_FAILED)
		return NULL;
	pattern_fill(user, 0, size, NET_SEED);
	return user;
}

static struct io_uring_sqe *prep(struct netrig *n, __u8 op, int fd, __u16 slot,
				 __u64 addr, __u32 len, int flags)
{
	struct io_uring_sqe *sqe = uring_prep_rw(&n->ring, op, fd, 0, addr, len,
						 slot);

	if (!sqe)
		abort();
	sqe->ioprio = IORING_RECVSEND_FIXED_BUF | IORING_SEND_ZC_REPORT_USAGE;
	sqe->msg_flags = flags;
	sqe->user_data = ++n->serial;
	return sqe;
}

struct io_uring_sqe *net_prep(struct netrig *n, int fd, __u16 slot, __u64 off,
			      __u32 len, int flags)
{
	return prep(n, IORING_OP_SEND_ZC, fd, slot, off, len, flags);
}

struct io_uring_sqe *net_prep_msg(struct netrig *n, int fd, __u16 slot,
				  const struct msghdr *msg, int flags)
{
	return prep(n, IORING_OP_SENDMSG_ZC, fd, slot, (uintptr_t)msg, 1, flags);
}

void net_reform(struct io_uring_sqe *sqe, enum net_form form, struct net_vec *v)
{
	const char *data = (const char *)(uintptr_t)sqe->addr;
	__u32 first = sqe->len / 3 | 1;

	if (form == NET_RANGE)
		return;
	v->iov[0] = (struct iovec) { (void *)data, first };
	v->iov[1] = (struct iovec) { (void *)(data + first), sqe->len - first };
	v->msg = (struct msghdr) { .msg_iov = v->iov, .msg_iovlen = 2 };
	if (form == NET_VECTOR) {
		sqe->ioprio |= IORING_SEND_VECTORIZED;
		sqe->addr = (uintptr_t)v->iov;
		sqe->len = 2;
	} else {
		sqe->opcode = IORING_OP_SENDMSG_ZC;
		sqe->addr = (uintptr_t)&v->msg;
		sqe->len = 1;
	}
}

/* Where nothing was sent, nothing was sent without copying either */
static bool has_failed(const struct netrig *n, __u64 serial)
{
	for (unsigned int i = 0; i < ARRAY_LEN(n->failed); i++)
		if (n->failed[i] == serial)
			return true;
	return false;
}

static void notified(struct netrig *n, const struct uring_res *res)
{
	n->pending--;
	if (res->res & IORING_NOTIF_USAGE_ZC_COPIED &&
	    !has_failed(n, res->user_data))
		n->copied++;
}

int net_result(struct netrig *n, struct uring_res *res)
{
	int ret;

	for (;;) {
		ret = uring_wait(&n->ring, res, net_patience());
		if (ret)
			return ret;
		if (!(res->flags & IORING_CQE_F_NOTIF))
			break;
		notified(n, res);
	}
	/* always before the notification */
	if (res->flags & IORING_CQE_F_MORE) {
		n->pending++;
		if (res->res <= 0)
			n->failed[n->nr_failed++ % ARRAY_LEN(n->failed)] =
				res->user_data;
	}
	return 0;
}

int net_do(struct netrig *n)
{
	struct uring_res res;
	int ret;

	/* keep the CQ from running over; there are no other CQEs now */
	while (n->pending > 32 && uring_peek(&n->ring, &res))
		notified(n, &res);
	ret = uring_submit(&n->ring, 0);
	if (ret >= 0)
		ret = net_result(n, &res);
	return ret < 0 ? ret : res.res;
}

int net_idle(struct netrig *n)
{
	struct uring_res res;
	int ret;

	while (n->pending) {
		ret = uring_wait(&n->ring, &res, net_patience());
		if (ret)
			return ret;
		if (!(res.flags & IORING_CQE_F_NOTIF))
			return -EPROTO;
		notified(n, &res);
	}
	return 0;
}

int net_send(struct netrig *n, int fd, __u16 slot, __u64 off, __u32 len,
	     int flags)
{
	net_prep(n, fd, slot, off, len, flags);
	return net_do(n);
}

int net_sendv(struct netrig *n, int fd, __u16 slot, const struct iovec *iov,
	      unsigned int nr, int flags)
{
	struct msghdr msg = {
		.msg_iov = (struct iovec *)iov,
		.msg_iovlen = nr,
	};

	net_prep_msg(n, fd, slot, &msg, flags);
	return net_do(n);
}

int net_send_sync(struct netrig *n, int fd, __u16 slot, __u64 off, __u32 len,
		  int flags, bool *copied)
{
	unsigned int before;
	int ret, err = net_idle(n);

	*copied = false;
	if (err)
		return err;
	before = n->copied;
	ret = net_send(n, fd, slot, off, len, flags);
	err = net_idle(n);
	*copied = n->copied != before;
	return err ?: ret;
}

static int wait_writable(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };

	return poll(&pfd, 1, net_patience()) == 1 ? 0 : -ETIME;
}

int net_send_all(struct netrig *n, int fd, __u16 slot, __u64 off, __u32 len,
		 int flags)
{
	__u32 done = 0;
	int ret;

	while (done < len) {
		ret = net_send(n, fd, slot, off + done, len - done, flags);
		if (ret == -EAGAIN && flags & MSG_DONTWAIT)
			ret = wait_writable(fd);
		else if (!ret)
			ret = -EIO;
		if (ret < 0) {
			fprintf(stderr, "# send of %u bytes at 0x%llx: %d\n",
				len - done, off + done, ret);
			return ret;
		}
		done += ret;
	}
	return 0;
}

int net_reg(struct netrig *n, unsigned int slot, int dmabuf, int target,
	    __u32 flags)
{
	return reg_flags(&n->ring, slot, dmabuf, target, flags);
}

int net_query(struct netrig *n, unsigned int slot,
	      struct io_uring_query_regbuf_map *q)
{
	unsigned int i = 0;
	int ret;

	do {
		ret = query_map(&n->ring, slot, i, q);
		if (ret)
			return ret;
		if (!strcmp(q->device, n->pci))
			return 0;
	} while (++i < q->nr_targets);
	return -ENOENT;
}

/* --- receiving --- */

struct piece piece_random(__u64 *rng, __u64 len, __u64 size, __u64 seed)
{
	return (struct piece) {
		.seed = seed,
		.pos = rnd(rng) % (size - len + 1),
		.len = len,
	};
}

__u64 pieces_len(const struct piece *pieces, unsigned int nr)
{
	__u64 len = 0;

	while (nr--)
		len += pieces[nr].len;
	return len;
}

void pieces_iov(const struct piece *pieces, unsigned int nr, struct iovec *iov)
{
	for (unsigned int i = 0; i < nr; i++) {
		iov[i].iov_base = (void *)(uintptr_t)pieces[i].pos;
		iov[i].iov_len = pieces[i].len;
	}
}

/* Notifications interrupt what waits with a time limit */
ssize_t net_recv_again(int fd, void *buf, size_t len, int flags)
{
	ssize_t ret;

	do {
		ret = recv(fd, buf, len, flags);
	} while (ret < 0 && errno == EINTR);
	return ret;
}

int piece_send(int fd, const struct piece *p, int flags)
{
	char *buf = malloc(p->len);
	__u64 done = 0;
	ssize_t ret;

	if (!buf)
		return -ENOMEM;
	pattern_fill(buf, p->pos, p->len, p->seed);
	/* the work of a ring interrupts this, too, also in the middle of a stream */
	do {
		ret = send(fd, buf + done, p->len - done, flags | MSG_NOSIGNAL);
		if (ret > 0)
			done += ret;
	} while (ret < 0 ? errno == EINTR : ret && done < p->len);
	ret = ret < 0 ? -errno : 0;
	free(buf);
	return ret ?: done == p->len ? 0 : -EIO;
}

/* Some bytes of @p, of which there are @done already: how many, or -errno */
static int recv_some(int fd, void *buf, const struct piece *p, __u64 done)
{
	__u64 len = p->len - done;
	ssize_t n = net_recv_again(fd, buf, len < CHUNK ? len : CHUNK, 0);

	if (n <= 0)
		return n && errno != EAGAIN ? -errno : -ETIME;
	if (pattern_check(buf, p->pos + done, n, p->seed) >= 0)
		return -EILSEQ;
	return n;
}

static int recv_piece(int fd, void *buf, const struct piece *p, __u64 *got)
{
	__u64 done = 0;
	int ret;

	while (done < p->len) {
		ret = recv_some(fd, buf, p, done);
		if (ret < 0)
			return ret;
		done += ret;
		*got += ret;
	}
	return 0;
}

static int recv_all(int fd, const struct piece *pieces, unsigned int nr,
		    __u64 *got)
{
	char *buf = malloc(CHUNK);
	unsigned int i;
	int ret = buf ? 0 : -ENOMEM;

	for (i = 0; i < nr && !ret; i++)
		ret = recv_piece(fd, buf, &pieces[i], got);
	if (ret)
		fprintf(stderr, "# received %llu good bytes, then %d, in piece %u of %u\n",
			*got, ret, i, nr);
	else if (recv(fd, buf, 1, MSG_DONTWAIT) > 0)
		ret = -EOVERFLOW;
	free(buf);
	return ret;
}

int net_recv(int fd, const struct piece *pieces, unsigned int nr)
{
	__u64 got = 0;

	return recv_all(fd, pieces, nr, &got);
}

static int check_datagram(const char *buf, ssize_t len,
			  const struct piece *pieces, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		if (len < (ssize_t)pieces[i].len)
			return -EMSGSIZE;
		if (pattern_check(buf, pieces[i].pos, pieces[i].len,
				  pieces[i].seed) >= 0)
			return -EILSEQ;
		buf += pieces[i].len;
		len -= pieces[i].len;
	}
	return len ? -EOVERFLOW : 0;
}

int net_recv_datagram(int fd, const struct piece *pieces, unsigned int nr)
{
	char *buf = malloc(DATAGRAM_MAX);
	ssize_t len;
	int ret;

	if (!buf)
		return -ENOMEM;
	len = net_recv_again(fd, buf, DATAGRAM_MAX, 0);
	if (len < 0)
		ret = errno == EAGAIN ? -ETIME : -errno;
	else
		ret = check_datagram(buf, len, pieces, nr);
	if (ret)
		fprintf(stderr, "# datagram of %zd bytes: %d\n", len, ret);
	free(buf);
	return ret;
}

static bool is_stream(int fd)
{
	int type = 0;
	socklen_t len = sizeof(type);

	getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len);
	return type == SOCK_STREAM;
}

int net_recv_each(int fd, const struct piece *pieces, unsigned int nr)
{
	int ret = 0;

	if (is_stream(fd))
		return net_recv(fd, pieces, nr);
	for (unsigned int i = 0; i < nr && !ret; i++)
		ret = net_recv_datagram(fd, &pieces[i], 1);
	return ret;
}

int net_mark(const struct net_pair *p)
{
	const struct piece mark = { NET_SEED + 77, 0, 333 };
	int ret = net_wait_acked(p->tx);

	if (!ret)
		ret = piece_send(p->tx, &mark, 0);
	return ret ?: net_recv_each(p->rx, &mark, 1);
}

int net_works(struct netrig *n, __u16 slot, const struct net_pair *p)
{
	const struct piece want = { NET_SEED, 54321, 1357 };
	bool copied;
	int ret = net_send_sync(n, p->tx, slot, want.pos, want.len, 0, &copied);

	if (ret == (int)want.len && !copied)
		return net_recv_each(p->rx, &want, 1);
	fprintf(stderr, "# send of %llu bytes: %d%s\n", want.len, ret,
		copied ? ", copied" : "");
	return ret < 0 ? ret : -EPROTO;
}

int net_wait_joined(int tx, int near, int far)
{
	double end = lab_now() + net_patience() / 1000.0;
	const struct piece p = { NET_SEED + 78, 0, 99 };
	char buf[100];

	do {
		if (lab_now() > end)
			return -ETIME;
		if (piece_send(tx, &p, 0) || net_recv_datagram(near, &p, 1))
			return -EIO;
		lab_sleep_ms(50);
	} while (recv(far, buf, sizeof(buf), MSG_DONTWAIT) != 99);
	while (recv(far, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
	return 0;
}

static void *receiver_run(void *arg)
{
	struct receiver *r = arg;

	r->error = recv_all(r->fd, r->pieces, r->nr, &r->got);
	return NULL;
}

int receiver_start(struct receiver *r, int fd, const struct piece *pieces,
		   unsigned int nr)
{
	*r = (struct receiver) { .fd = fd, .pieces = pieces, .nr = nr };
	return -pthread_create(&r->thread, NULL, receiver_run, r);
}

int receiver_join(struct receiver *r)
{
	pthread_join(r->thread, NULL);
	return r->error;
}

int receiver_stop(struct receiver *r)
{
	shutdown(r->fd, SHUT_RD);
	pthread_join(r->thread, NULL);
	return r->error == -EILSEQ ? -EILSEQ : 0;
}
