/* SPDX-License-Identifier: GPL-2.0 */
/* A thread that makes the test exporter move a buffer, again and again */
#ifndef IOU_DMABUF_MOVER_H
#define IOU_DMABUF_MOVER_H

#include <pthread.h>

#include "mem.h"

extern const __u32 mover_places[3];	/* DMA_BUF_BAR_PLACE_* */

/* Moves @mem until mover_stop() or for @count times */
struct mover {
	const struct mem *mem;
	unsigned int count;	/* 0: until stop */
	unsigned int nr_places;	/* of mover_places */
	unsigned int rest_ms;	/* at least, between two moves */
	pthread_t thread;
	bool stop, done;
	unsigned int moves;
	int error;
	double longest;		/* seconds */
};

/* 0 or -errno */
int mover_start(struct mover *m);
/* It made its @count moves, or failed */
bool mover_done(struct mover *m);
/* Waits for the end; see @error then */
void mover_stop(struct mover *m);

#endif
