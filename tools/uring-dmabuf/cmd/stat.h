/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* stat: samples of the counters of buffers, and what changed between two */
#ifndef URING_DMABUF_STAT_H
#define URING_DMABUF_STAT_H

#include <sys/types.h>

#include "cmd.h"

struct sample {
	double time;			/* of the monotonic clock, in seconds */
	struct io_uring_dmabuf_stat *stat;
	size_t nr, room;
};

/* sample.c: of one process, or of all that may be asked (0); 0 or -errno */
int sample_take(struct sample *s, pid_t pid);
void sample_free(struct sample *s);
/* The same buffer and device in an earlier sample; NULL: it was not there */
const struct io_uring_dmabuf_stat *sample_find(const struct sample *s,
					       const struct io_uring_dmabuf_stat *like);

/* child.c: a program that is watched until its end */
struct child {
	pid_t pid;
	int code;		/* of exit(2), when it has ended */
};

enum child_event {
	CHILD_RUNS,		/* the time was up */
	CHILD_ENDS,		/* it is about to: the last moment to ask */
	CHILD_ENDED,
};

/* Starts it; does not return if that is not possible */
void child_start(struct child *c, char **argv);
/* Until something happens, for at most @seconds */
enum child_event child_wait(struct child *c, double seconds);

#endif
