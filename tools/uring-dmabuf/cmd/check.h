/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* check: pairs of memory and target, what became of each, and why */
#ifndef URING_DMABUF_CHECK_H
#define URING_DMABUF_CHECK_H

#include "cmd.h"

enum outcome {
	NOT_TRIED,
	WORKS,		/* all bytes were moved, and compared */
	REFUSED,
	WRONG,		/* it was said to work, and bytes are not there */
};

enum target_kind {
	TARGET_BLOCK,
	TARGET_FILE,
	TARGET_DIRECTORY,	/* a file without a name, in it */
	TARGET_CARD,		/* net:DEVICE: a socket that nothing is sent by */
	TARGET_TCP,		/* tcp:HOST:PORT, where what comes is sent back */
};

/**
 * struct target - what memory is registered for
 * @name:	as it was given
 * @kind:	what it turned out to be
 * @fd:		open, or -1
 * @off:	where bytes are read
 * @write_off:	where they are written
 * @len:	how many; 0 for a card
 */
struct target {
	const char *name;
	enum target_kind kind;
	int fd;
	uint64_t off, write_off;
	size_t len;
};

struct check_options {
	bool json;
	bool write;		/* also to what exists; it is put back */
	unsigned int flags;	/* of the registration */
	unsigned int timeout;	/* of one request, in seconds */
	size_t size;
};

/**
 * struct verdict - of one pair
 * @read:	target to memory
 * @write:	memory to target
 * @send:	memory to the peer of a socket
 * @step:	where it ended: "kernel", "memory", "target", "register", "read", "write",
 *		"send", "compare"; NULL if nothing failed
 * @err:	negative errno, or 0
 * @reason:	a word for scripts; NULL if nothing failed
 * @text:	for people: what, why, and what to do; also if bytes were not seen
 * @compared:	"cpu": memory was looked at; "round-trip": only what was written from it;
 *		NULL: no byte was moved
 * @map:	what the buffer is for the target's device, if @mapped
 * @bytes:	moved and compared
 */
struct verdict {
	const char *memory;
	const char *target;
	enum outcome read, write, send;
	const char *step;
	int err;
	const char *reason;
	char text[640];
	const char *compared;
	bool mapped;
	struct io_uring_dmabuf_map map;
	uint64_t bytes;
};

/* Notes what failed, once; returns @err */
int fail(struct verdict *v, const char *step, int err, const char *reason,
	 const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* Of all directions and steps */
enum outcome verdict_outcome(const struct verdict *v);
const char *verdict_word(const struct verdict *v);

void check_pair(const struct check_options *o, struct verdict *v);

/* target.c: 0, or a failed verdict */
int target_open(const struct check_options *o, struct target *t, struct verdict *v);
void target_close(struct target *t);
/* May check write to it: it is a file of its own, or it was allowed and nobody has it */
int target_may_write(const struct check_options *o, const struct target *t,
		     struct verdict *v, bool *may);

/* facts.c: what the system says of what the kernel refuses as one */
int kernel_check(struct verdict *v);
/* Of a target that is a card: has it what a send takes */
int card_check(struct verdict *v, const struct target *t);
int fail_ring(struct verdict *v, int err);
/* A ring that may be entered, too; 0 or -errno, which is for fail_ring() */
int ring_open(struct io_uring *ring, unsigned int entries);
int fail_register(struct verdict *v, const struct target *t, int err,
		  const struct io_uring_dmabuf_reason *why);
int fail_request(struct verdict *v, const char *step, const struct target *t, int err);

/* discover.c: what this machine has. Allocated; *nr of them */
char **all_memories(size_t *nr);
char **all_targets(size_t *nr);

/* report.c */
void report_table(const struct verdict *v, size_t nr);
void report_json(const struct verdict *v, size_t nr);

#endif
