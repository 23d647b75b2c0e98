/* SPDX-License-Identifier: GPL-2.0 */
#ifndef BENCH_FAIL_H
#define BENCH_FAIL_H

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Says what failed, why, and what to look at; returns -@err. */
static inline int fail(const char *what, int err, const char *hint)
{
	fprintf(stderr, "%s: %s: %s (%s)\n", program_invocation_short_name, what,
		strerror(err), hint);
	return -err;
}

#endif
