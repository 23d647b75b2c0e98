/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The peer's end, a thread on OTHER_CPU.  How many acknowledgements TCP sends
 * depends on how fast this is, so in a window all but one are lost: that of the
 * answer, one byte, which the receiver sends when everything has come.
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
	const unsigned char *pattern;	/* what has to come */
	unsigned char *data;
	size_t size;
	long wrong;			/* bytes of the last window */
	int error;
	bool stop;
	bool muted;			/* but for the answer; not while a connection starts */
	atomic_bool acked;		/* the window's end: the sender spins on it */
};

/* All return 0 or -errno, and say on stderr what failed. */
int receiver_start(struct receiver *r, const struct net_pair *c,
		   const unsigned char *pattern, size_t size);
void receiver_stop(struct receiver *r);

/* A window begins. */
int receiver_expect(struct receiver *r, bool muted);
/* Everything has come and is acknowledged; no system call. */
int receiver_wait_acked(struct receiver *r);
/* Bytes of it that were wrong, or -errno. */
long receiver_result(struct receiver *r);

#endif
