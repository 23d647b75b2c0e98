/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* cp: files, block devices and dma-bufs, several at once, by way of one dma-buf */
#ifndef URING_DMABUF_CP_H
#define URING_DMABUF_CP_H

#include <argp.h>
#include <limits.h>
#include <signal.h>
#include <sys/types.h>

#include "check.h"

#define BLOCK		4096U	/* what direct I/O is aligned to */
#define CHUNK		(1U << 20)
#define NR_CHUNKS	16U
#define SLOT_CHUNKS	0	/* of the ring; job i has SLOT_JOBS + i, if it needs one */
#define SLOT_JOBS	1
#define MAX_JOBS	32

struct cp_options {
	const char *memory;
	bool bounce;		/* ordinary memory instead */
	bool verify, resume, json, quiet;
};

/* Those of all; each of a parser's child_inputs is its struct cp_options */
extern const struct argp_child memory_options[];
/* And --bounce */
extern const struct argp_child cp_common_options[];

enum end_kind { END_FILE, END_BLOCK, END_DMABUF, END_STREAM };

/* Where data comes from, or goes to */
struct end {
	const char *name;
	enum end_kind kind;
	int fd;			/* of a dma-buf: mem.fd */
	struct dmabuf_mem mem;
};

/**
 * struct job - one source and its destination
 * @size:	of the source
 * @next:	where the next chunk begins
 * @data_end:	of the data that @next is in; behind it may be a hole
 * @busy:	chunks on their way
 * @done:	bytes that have arrived
 * @holes:	bytes that were left out, as the source has none
 * @part:	the name under which an unfinished destination may be kept, or NULL
 * @real:	what a symbolic link leads to, or NULL
 * @saved:	where a later run would go on
 * @resumed:	where this one went on
 * @tail:	of a stream to a block device: the end that is less than a block
 * @mode:	of the file that had the name before, or 0
 * @failed:	it was said why
 * @why:	what was said
 */
struct job {
	struct end from, to;
	uint64_t size, next, data_end;
	unsigned int busy;
	uint64_t done, holes;
	char *part, *real;
	uint64_t saved, resumed;
	const char *tail;
	mode_t mode;
	bool failed, finished;
	char why[PATH_MAX + 256];
};

/* A part of a job that is being moved */
struct chunk {
	struct job *job;	/* NULL: free */
	uint64_t off;		/* in the job */
	unsigned int len, moved;
	bool writing;
	uint64_t started;	/* to find the one that is furthest behind */
};

struct copier {
	const struct cp_options *o;
	struct io_uring ring;
	struct dmabuf_mem mem;
	void *plain;		/* memory of --bounce */
	struct chunk chunks[NR_CHUNKS];
	struct job jobs[MAX_JOBS];
	unsigned int nr_jobs, turn;
	uint64_t copied;	/* bytes by the CPU */
	bool no_kernel;		/* it cannot, for any memory */
	bool has_ring;
	bool wrong;		/* other bytes have arrived */
};

/* To stderr: which job, what and why; it is over */
void job_fail(struct job *job, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* job.c */
int job_open_source(struct job *job);
/* Of job->size bytes, from a source that is open, or a stream */
int job_open_destination(const struct cp_options *o, struct job *job);
int job_open(const struct cp_options *o, struct job *job);
/* The next data from job->next on: false if there is no more */
bool job_seek(struct job *job);
/* All below @off has arrived: written down now and then, where it is kept */
void job_save(struct job *job, uint64_t off, bool now);
/* Everything has arrived: by its final name */
void job_finish(struct copier *c, struct job *job);
void job_close(struct job *job);

/*
 * verify.c: both ends once more, by ordinary reads; 0, or it was said what differs;
 * -EINTR: cp_stop
 */
int job_verify(const struct copier *c, const struct job *job, char hash[static 33]);

/* progress.c: a signal has come, and all is to end soon; 2: another one has, and it has to be now */
extern volatile sig_atomic_t cp_stop;
void catch_signals(void);

/* move.c: until all has arrived, failed, or cp_stop */
int move_open(struct copier *c);
void move_all(struct copier *c);
void move_close(struct copier *c);
/* Says why there is no ring; true: there can be none, of any kind */
bool cp_no_ring(int err);

/* progress.c */
void progress_start(void);
void progress(const struct copier *c);
/* Nothing moves, and what it is that it waits for */
void progress_wait(const struct copier *c, const char *what);
/* So much of it was read for --verify */
void progress_verify(const struct copier *c, const char *name, uint64_t off, uint64_t size);
void progress_end(const struct copier *c, const char *hash, bool verified);

#endif
