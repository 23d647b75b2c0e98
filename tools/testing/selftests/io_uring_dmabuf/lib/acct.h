/* SPDX-License-Identifier: GPL-2.0 */
/*
 * RLIMIT_MEMLOCK: what a registration costs, to the page.
 *
 * Children without CAP_IPC_LOCK register, each as a user of its own, so that
 * nothing else counts for them. What a user has locked is read from the reason of
 * a registration that cannot succeed. Functions return 0 or -errno.
 */
#ifndef IOU_DMABUF_ACCT_H
#define IOU_DMABUF_ACCT_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "lab.h"
#include "mem.h"
#include "uring.h"

#define ACCT_SIZE	(4 * MiB)	/* of the memory */
#define ACCT_SLOTS	20		/* of a child's ring */

struct acct {
	struct mem mem, tiny;
	int target;		/* of most registrations */
	int more;		/* that is added */
	__u64 kept;		/* locked until somebody lets go of the memory */
	struct uring ring;	/* of a child */
	__u64 table;		/* what the table of @mem for @target takes */
};

/* Returns with the line of what is not as it should be */
#define CHECK(cond) do {						\
	if (!(cond)) {							\
		fprintf(stderr, "# line %d: %s\n", __LINE__, #cond);	\
		return -1;						\
	}								\
} while (0)

/* The soft limit */
int acct_limit(__u64 bytes);
/* What this user has locked, ~0: that was not to be found out */
__u64 acct_locked(struct acct *a);
/* What is given up goes shortly after */
bool acct_locked_becomes(struct acct *a, __u64 bytes);
/* @d fits if there is room for @bytes, and does not with a page less */
int acct_costs(struct acct *a, unsigned int slot,
	       const struct io_uring_regbuf_desc *d, __u64 bytes);
/* Tables of @fd for each of the @nr targets that are added to the first; by root */
int acct_tables(int fd, const int *targets, int nr, __u64 *bytes);

int acct_up(struct acct *a, enum mem_kind kind, int target);
void acct_down(struct acct *a);

/* The next user */
extern unsigned int acct_uid;
/* A child that is this user, and has a ring */
pid_t acct_start_as(unsigned int uid, int (*fn)(struct acct *a), struct acct *a);
pid_t acct_start(int (*fn)(struct acct *a), struct acct *a);
/* What such a child begins with */
int acct_ring(struct acct *a);
/* Its exit code; -1: there is none */
int acct_end(pid_t pid);
int acct_run(int (*fn)(struct acct *a), struct acct *a);

#endif
