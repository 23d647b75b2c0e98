/* SPDX-License-Identifier: GPL-2.0 */
/*
 * RDS sockets at both ends of a link, and memory of every kind to send from. Sender and
 * receiver are in netns of their own, so that connections of RDS, which last as long as
 * their netns, end with the test.
 *
 * Functions return 0 or a descriptor, or -errno.
 */
#ifndef IOU_DMABUF_RDSRIG_H
#define IOU_DMABUF_RDSRIG_H

#include <sys/mman.h>

#include "netio.h"

#define RDS_AREA	(8 * MiB)	/* of each kind of memory */
#define RDS_SIZE	(256 * KiB)	/* the longest message of a test, but for one */
#define RDS_PORT	7300
#define RDS_DEFER	(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)

/* The last three are the slots of that number */
enum rds_kind { RDS_USER, RDS_REGISTERED, RDS_DMABUF, RDS_BAR, RDS_KINDS };

struct rdsrig {
	struct netrig net;
	struct mem bar;		/* the other dma-buf is the rig's */
	char *user;
	__u64 *stamped;		/* one message, to copy from or to compare with */
	int family;
	int tx, rx;		/* connected; both have room for all messages of a test */
	bool veth;		/* no card: no dma-bufs */
};

/* @card is NULL: veth. *why is set when the machine lacks something the test needs */
int rdsrig_up(struct rdsrig *r, const char *card, int family, const char **why);
/* Every mapping of the dma-bufs is gone; then all the rest */
int rdsrig_idle(struct rdsrig *r);
void rdsrig_down(struct rdsrig *r);

#define RDSRIG_UP(r, card, family) do {					\
	const char *why_ = NULL;					\
	int ret_ = rdsrig_up(r, card, family, &why_);			\
									\
	if (why_)							\
		SKIP(return, "%s", why_);				\
	ASSERT_EQ(0, ret_);						\
} while (0)

/* Another ring, with the slots; @entries at least as many as requests under way */
int rdsrig_ring(struct rdsrig *r, unsigned int entries, unsigned int flags);
/* The peer's end of the link is "up" or "down" */
int rdsrig_peer(const struct rdsrig *r, const char *state);
bool rdsrig_has(const struct rdsrig *r, enum rds_kind kind);

/* Bound */
int rds_socket(const struct rdsrig *r, enum net_side side, int port);
/* Bound to @port, connected to the receiver */
int rds_sender(const struct rdsrig *r, int port);
/* A small message gets there */
int rds_pass(const struct rdsrig *r);
int rds_pass_between(int tx, int rx);

/* Into memory of that kind */
int rds_put(struct rdsrig *r, enum rds_kind kind, __u64 off, const void *src, size_t len);
/* A send of it by @tx; with one CQE, or two */
struct io_uring_sqe *rds_prep(struct rdsrig *r, int tx, enum rds_kind kind, __u64 off,
			      __u32 len, bool single);
__u64 rds_address(const struct rdsrig *r, enum rds_kind kind, __u64 off);

/* Each word says of which message it is, and where */
void rds_stamp(__u64 *buf, __u32 message, size_t len);
int rds_check(const __u64 *buf, __u32 message, size_t len);
/* How a test sends messages from a few buffers, and how far it is */
struct rds_flow {
	int (*send)(void *flow);	/* the next, once its buffer is free */
	int (*recv)(void *flow);	/* the next */
	int (*idle)(void *flow);	/* all buffers are free, and get other content */
	const __u32 *sent, *got;
};

/*
 * @nr more, each of which is read when its memory has been written to several times.
 * It does not depend on who is faster.
 */
int rds_flow_run(const struct rds_flow *f, void *flow, unsigned int nr);

/* The next message, of RDS_SIZE, is that one */
int rds_recv(struct rdsrig *r, __u32 message);
/* For @ms there is no CQE */
bool rds_quiet(struct rdsrig *r, int ms);

#endif
