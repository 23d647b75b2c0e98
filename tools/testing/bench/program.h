/* SPDX-License-Identifier: GPL-2.0 */
/* What the measuring programs share: arguments, cases, windows, their output. */
#ifndef BENCH_PROGRAM_H
#define BENCH_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>

#include "uring.h"

#define MAX_CASES	64

struct options {
	const char *device;		/* -d */
	size_t chunk;			/* -a: of an array; 0: none */
	unsigned int depth, count;	/* -q, -n */
	unsigned int insn_windows, event_windows;	/* -i, -e */
	bool m, r;			/* -m, -r: what they are, the program says */
	const char *file;		/* -f */
};

struct bench_case {
	const char *name;
	unsigned int kind;		/* of memory: enum buffer_kind or enum source */
	size_t size;
	unsigned int count, depth;
	const char *direction;		/* of drives only */
	bool more;			/* of sends only: MSG_MORE */
	bool rds;			/* of sends only: by RDS, not by TCP */
	unsigned int mtu;		/* of receiving only */
	unsigned int drives, targets, slots, rings;	/* of regbuf-scale only */
};

struct program {
	const char *usage;
	const char *options;		/* for getopt() */
	const char *const *kinds;
	unsigned int nr_kinds;
	unsigned int max_count;
	/*
	 * The rest of a case, behind its size: 0 or -EINVAL. May change c->count. NULL: a case
	 * is a kind, and nothing else
	 */
	int (*parse)(struct bench_case *c, const char *rest, const struct options *o);
};

/* @o has the defaults.  How many cases, or 0: and has said what is wrong. */
unsigned int arguments(int argc, char **argv, const struct program *p, struct options *o,
		       struct bench_case cases[MAX_CASES]);

/* Bytes of a window. */
size_t span(const struct bench_case *c);

/* Opens or closes a window of fninsn.c; changes nothing in the kernel. */
void mark(void);
/* The number of the window that the next mark() opens; from 1. */
unsigned int next_window(void);

/* Up to the depth; the object is still open. */
void print_case(const struct program *p, const struct bench_case *c, const char *what,
		const char *device);

/* These return 0 or -errno, and say on stderr what failed. */

/* Nothing that is mapped now has page faults in the windows. */
int lock_memory(void);

/* A ring as those have it who want the most of io_uring. */
int ring_create(struct uring *ring, unsigned int entries);

/* All that uring_sqe() handed out, at once. */
int ring_submit_and_wait(struct uring *ring, unsigned int nr);

/* Pages that are there; NULL, and says so. */
unsigned char *resident(size_t len);

#endif
