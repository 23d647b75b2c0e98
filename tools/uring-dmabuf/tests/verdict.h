/* SPDX-License-Identifier: GPL-2.0 */
/* What `uring-dmabuf check --json` said of pairs of memory and target */
#ifndef URING_DMABUF_TEST_VERDICT_H
#define URING_DMABUF_TEST_VERDICT_H

#include <string.h>

#include "program.h"

json_t *pair(const struct program *p, size_t i);
size_t nr_pairs(const struct program *p);
/* A string of an object; "": there is none */
const char *word(const json_t *of, const char *member);
/* Of what failed, of pair @i */
const char *failure(const struct program *p, size_t i, const char *member);
int failure_errno(const struct program *p, size_t i);
/* Of what the buffer is for the device, of pair @i */
const char *mapping(const struct program *p, size_t i, const char *member);

/* Behind an assertion: all of it */
#define EXPECT_WORD(p, i, member, want)					\
	EXPECT_STREQ(want, word(pair(p, i), member)) SAID(p)

#define EXPECT_OUTCOMES(p, i, verdict, read, write, send) do {		\
	EXPECT_WORD(p, i, "verdict", verdict);				\
	EXPECT_WORD(p, i, "read", read);				\
	EXPECT_WORD(p, i, "write", write);				\
	EXPECT_WORD(p, i, "send", send);				\
} while (0)

/* Of one pair that was refused, by a program that has ended: why, in a word and in words */
#define EXPECT_REFUSED(p, code_, reason_, hint) do {			\
	EXPECT_EQ(code_, (p)->code) SAID(p);				\
	EXPECT_EQ(1, nr_pairs(p));					\
	EXPECT_STREQ(reason_, failure(p, 0, "reason")) SAID(p);		\
	EXPECT_NE(NULL, strstr(word(pair(p, 0), "text"), hint)) SAID(p);	\
} while (0)

/* The same, and it is run first */
#define EXPECT_REASON(p, code_, reason_, hint) do {			\
	program_run(p);							\
	EXPECT_REFUSED(p, code_, reason_, hint);			\
} while (0)

#endif
