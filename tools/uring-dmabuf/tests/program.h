/* SPDX-License-Identifier: GPL-2.0 */
/* A program as its users run it, and what it said */
#ifndef URING_DMABUF_TEST_PROGRAM_H
#define URING_DMABUF_TEST_PROGRAM_H

#include <stddef.h>
#include <jansson.h>

#define PROGRAM_MAX_ARGS	24

/* The number by which a program inherits a dma-buf: fd:9 */
#define PROGRAM_FD	9

struct program {
	const char *argv[PROGRAM_MAX_ARGS];
	const char *path;		/* another program, if not NULL; without argv[0] */
	int fd;				/* is PROGRAM_FD there, if not -1 */
	int (*before)(void);		/* in the new process; not 0: it ends */
	int code;			/* exit code, or -errno; 128 and more: a signal */
	char *out, *err;		/* what it wrote, as strings */
	int pid, out_fd, err_fd;	/* while it runs; else @pid is 0 */
	json_t *json;			/* the same, if it is that */
};

/*
 * Runs `uring-dmabuf`, of this repository, with the arguments of @argv (from 0 on) and
 * waits: its exit code, or -errno. With --json among them @json is there. What was
 * there of an earlier run is freed.
 */
int program_run(struct program *p);
/*
 * The same between counters_open() and counters_close(): bytes that the CPU has copied in the
 * data path while it ran, or COPIES_UNKNOWN
 */
unsigned long long program_copies(struct program *p);
/* The two halves of that */
int program_start(struct program *p);
int program_end(struct program *p);
/* Between the two: until it has written @what, to stdout or stderr. 0, or -ETIMEDOUT after @ms */
int program_wait_for(const struct program *p, const char *what, int ms);
/* For a teardown: kills it if it was not ended, and frees what it said */
void program_destroy(struct program *p);
/*
 * For @before: from now on the system call @nr gives @err; if @op is not -1, only with that
 * as its second argument. 0 or -errno
 */
int program_forbid(int nr, int op, int err);
/*
 * Holds each JSON document that it wrote against the schema @dir/@name, by
 * python3-jsonschema: 0 if there is one, and all are right
 */
int program_validate(const struct program *p, const char *dir, const char *name);
/* The path of what is where the running program is; until the next call */
const char *program_sibling(const char *name);
void program_free(struct program *p);

/* A number of the last line of JSON that it wrote; -1: there is none of that name */
long long program_said(const struct program *p, const char *member);

/* Behind an assertion: what there is to know if it fails */
#define SAID(p) TH_LOG("exit %d\n%s%s", (p)->code, (p)->out, (p)->err)

/* It ends with that code, and says that on its standard error output */
#define WRONG(p, code_, what) do {						\
	EXPECT_EQ(code_, program_run(p)) SAID(p);				\
	EXPECT_NE(NULL, strstr((p)->err, what)) SAID(p);			\
} while (0)

#define PROGRAM(p, ...) do {						\
	const char *const args_[] = { __VA_ARGS__, NULL };		\
									\
	memset((p)->argv, 0, sizeof((p)->argv));			\
	memcpy((p)->argv, args_, sizeof(args_));			\
} while (0)

#endif
