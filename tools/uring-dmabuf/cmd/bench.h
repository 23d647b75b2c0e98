/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* bench: the same requests from ordinary memory and from a dma-buf, and what each costs */
#ifndef URING_DMABUF_BENCH_H
#define URING_DMABUF_BENCH_H

#include "cp.h"

#define BENCH_BLOCKS	8
#define BENCH_ALIGN	4096U	/* what direct I/O is aligned to */
#define BENCH_BYTE	0x5a	/* what goes over a connection, all of it */

enum bench_op { BENCH_READ, BENCH_WRITE, BENCH_SEND, BENCH_RECV, NR_BENCH_OPS };

/* How the data gets there */
enum bench_way {
	BENCH_PLAIN,		/* ordinary memory, ordinary requests */
	BENCH_REGISTERED,	/* ordinary memory, registered; a send is a zero-copy one */
	BENCH_DMABUF,		/* the dma-buf, registered */
	BENCH_BOUNCE,		/* ordinary memory, and the CPU copies from or to the dma-buf */
	NR_BENCH_WAYS,
};

struct bench_options {
	struct cp_options o;		/* memory, json, quiet */
	const char *serve;
	unsigned int blocks[BENCH_BLOCKS], nr_blocks;
	unsigned int depth;
	unsigned int ways, ops;		/* bit masks */
	double seconds;			/* of a case */
	uint64_t requests;		/* of a case; 0: as many as there is time for */
	size_t span;			/* of a target, bytes */
	bool write, random, copy_ok;
};

enum { P50, P90, P99, P99_9, P100, NR_PERCENTILES };

/**
 * struct bench_case - one line of the table
 * @requests:	that were completed
 * @bytes:	that they moved
 * @copied:	of them, by the CPU, each time that it did
 * @seconds:	from the first submission to the last completion
 * @cpu:	seconds of this process, in user space and in the kernel
 * @latency:	percentiles, ns, of a request: until its memory may be used again
 * @v:		why not, if it could not be done
 */
struct bench_case {
	const char *target;
	enum bench_op op;
	enum bench_way way;
	unsigned int block;
	uint64_t requests, bytes, copied;
	double seconds, cpu;
	uint64_t latency[NR_PERCENTILES];
	struct verdict v;
};

/* What the cases share */
struct bench {
	struct bench_options o;
	struct dmabuf_mem mem;
	char *plain;			/* as much ordinary memory */
	struct bench_case *cases;
	size_t nr_cases;
	bool no_kernel, wrong;
};

extern const char *const bench_op_names[NR_BENCH_OPS];
extern const char *const bench_way_names[NR_BENCH_WAYS];

/* bench-run.c: fills in what was measured, or @c->v; @t is open, or a peer that is not yet */
void bench_run(struct bench *b, struct bench_case *c, struct target *t);

/*
 * bench-peer.c. Serves until a signal comes; an exit code. A connection for one case: 0 or
 * failed. At the end of a send what the peer got: 0, or -EILSEQ: not what was sent; -errno
 */
int bench_serve(const struct bench_options *o);
int bench_connect(const struct bench_case *c, struct target *t, struct verdict *v);
int bench_got(const struct bench_case *c, int fd);

/* bench-report.c */
void bench_table(const struct bench *b);
void bench_json(const struct bench *b);

#endif
