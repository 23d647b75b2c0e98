/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* A pair that is being checked */
#ifndef URING_DMABUF_PAIR_H
#define URING_DMABUF_PAIR_H

#include "check.h"

#define SLOT	0

struct pair {
	const struct check_options *o;
	struct verdict *v;
	struct target t;
	struct dmabuf_mem mem;
	struct io_uring ring;
	unsigned char *there;	/* what the target holds */
	unsigned char *other;	/* its opposite, and what came */
	bool stuck;		/* a request that did not end still has the buffers */
};

/* prove.c: 0, or a failed verdict */
int prove(struct pair *p);

#endif
