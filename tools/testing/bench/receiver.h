/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The peer's end, a thread on OTHER_CPU.  How many acknowledgements TCP sends
 * depends on how fast this is, so in a window all but one are lost: that of the
 * answer, one byte, which the receiver sends when everything has come. By RDS, which may
 * answer by another connection, it is the acknowledgement of a last message, of one byte.
 */
#ifndef BENCH_RECEIVER_H
#define BENCH_RECEIVER_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdint.h>

#include "link.h"

struct receiver {
	pthread_t thread;
	sem_t go, checked;
	const struct net_pair *c;
	int control;			/* see link_mute() */
	const unsigned char *pattern;	/* what has to come */
	unsigned char *data;
	size_t size;
	long wrong;			/* bytes of the last window */
	int error;
	bool messages;			/* RDS */
	bool stop;
	bool muted;			/* but for the answer; not while a connection starts */
	atomic_bool there;		/* of RDS: time for the last message */
	atomic_bool acked;		/* the window's end: the sender spins on it */
};

/*
 * All return 0 or -errno, and say on stderr what failed. @control: of link_mute(), if the
 * connection is one of RDS; -1: that of TCP will do
 */
int receiver_start(struct receiver *r, const struct net_pair *c, int control,
		   const unsigned char *pattern, size_t size);
void receiver_stop(struct receiver *r);

/* A window begins. */
int receiver_expect(struct receiver *r, bool muted);
/* Of RDS: everything has come, and what comes now is acknowledged; no system call. */
void receiver_wait_there(struct receiver *r);
/* Everything has come and is acknowledged; no system call. */
int receiver_wait_acked(struct receiver *r);
/* Bytes of it that were wrong, or -errno. */
long receiver_result(struct receiver *r);

#endif
