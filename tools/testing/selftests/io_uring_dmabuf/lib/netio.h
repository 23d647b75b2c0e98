/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Sends from registered dma-bufs, verified where they arrive. Functions return
 * 0 or a count, or -errno.
 */
#ifndef IOU_DMABUF_NETIO_H
#define IOU_DMABUF_NETIO_H

#include <pthread.h>
#include <sys/uio.h>

#include "netsock.h"

#define NET_SEED	7300	/* of the memory that most tests send */

/* Ordinary memory with that pattern, for munmap(); NULL: there is none */
char *net_user(__u64 size);

/* --- sending --- */

/* Prepare a request; offsets into the buffer in @slot are what is sent */
struct io_uring_sqe *net_prep(struct netrig *n, int fd, __u16 slot, __u64 off,
			      __u32 len, int flags);
struct io_uring_sqe *net_prep_msg(struct netrig *n, int fd, __u16 slot,
				  const struct msghdr *msg, int flags);
/*
 * What net_prep() has made, by other means: in two pieces, the second of which begins at an
 * odd place, of SENDMSG_ZC or of SEND_ZC. @v stays until the request is submitted
 */
enum net_form { NET_RANGE, NET_MESSAGE, NET_VECTOR };

struct net_vec {
	struct iovec iov[2];
	struct msghdr msg;
};

void net_reform(struct io_uring_sqe *sqe, enum net_form form, struct net_vec *v);
/* The next CQE that is no notification; -ETIME */
int net_result(struct netrig *n, struct uring_res *res);
/* Submits what is prepared and waits for its result: its res */
int net_do(struct netrig *n);
/* Waits until every notification has come */
int net_idle(struct netrig *n);

/* One request: its res, which may be less than @len */
int net_send(struct netrig *n, int fd, __u16 slot, __u64 off, __u32 len,
	     int flags);
int net_sendv(struct netrig *n, int fd, __u16 slot, const struct iovec *iov,
	      unsigned int nr, int flags);
/* The same; waits for the notification, and *@copied is what that said */
int net_send_sync(struct netrig *n, int fd, __u16 slot, __u64 off, __u32 len,
		  int flags, bool *copied);
/* As many requests as it takes */
int net_send_all(struct netrig *n, int fd, __u16 slot, __u64 off, __u32 len,
		 int flags);

/* reg_dmabuf() with IO_REGBUF_DMABUF_* */
int net_reg(struct netrig *n, unsigned int slot, int dmabuf, int target,
	    __u32 flags);
/* What the slot is for the card; -ENOENT: it is no target */
int net_query(struct netrig *n, unsigned int slot,
	      struct io_uring_query_regbuf_map *q);

/* --- receiving --- */

/* A part of what has to arrive: the pattern of @seed from @pos on */
struct piece {
	__u64 seed, pos, len;
};

/* Somewhere in a buffer of @size bytes that has the pattern at offset 0 */
struct piece piece_random(__u64 *rng, __u64 len, __u64 size, __u64 seed);
__u64 pieces_len(const struct piece *pieces, unsigned int nr);
/* The pieces as a vector of offsets */
void pieces_iov(const struct piece *pieces, unsigned int nr, struct iovec *iov);
/* Sends a piece from ordinary memory */
int piece_send(int fd, const struct piece *p, int flags);

/*
 * Receives exactly the pieces, one after the other: 0; -EILSEQ for wrong data,
 * -EOVERFLOW for more, -ETIME when less came (said on stderr); or -errno.
 */
int net_recv(int fd, const struct piece *pieces, unsigned int nr);
/* One datagram that consists of the pieces */
int net_recv_datagram(int fd, const struct piece *pieces, unsigned int nr);

/* recv(), again when the work of a ring has interrupted it, as signals do */
ssize_t net_recv_again(int fd, void *buf, size_t len, int flags);

/* Of a stream: net_recv(); else a datagram for each piece */
int net_recv_each(int fd, const struct piece *pieces, unsigned int nr);

/* What is sent next, from ordinary memory, is the next to arrive */
int net_mark(const struct net_pair *p);
/*
 * @tx sends to a group whose members are @near and, over the cable, @far: until @far
 * gets it, as cards may learn of a group some time after its member has joined
 */
int net_wait_joined(int tx, int near, int far);
/*
 * The slot, whose memory has the pattern of NET_SEED at offset 0, sends without
 * copying: 0, or what went wrong
 */
int net_works(struct netrig *n, __u16 slot, const struct net_pair *p);

/* net_recv() in a thread of its own */
struct receiver {
	int fd;
	const struct piece *pieces;
	unsigned int nr;
	pthread_t thread;
	__u64 got;		/* bytes, all right unless @error is -EILSEQ */
	int error;
};

int receiver_start(struct receiver *r, int fd, const struct piece *pieces,
		   unsigned int nr);
/* Waits until it is through: what net_recv() returned */
int receiver_join(struct receiver *r);
/* Nothing more will come: 0 or -EILSEQ */
int receiver_stop(struct receiver *r);

#endif
