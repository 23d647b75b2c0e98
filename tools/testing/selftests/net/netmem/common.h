/* SPDX-License-Identifier: GPL-2.0 */
/* What every test program includes, once */
#ifndef NETMEM_COMMON_H
#define NETMEM_COMMON_H

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "rig.h"

/* The harness kills a test after this; emulated and debug machines are slow */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 120

#define RIG_UP(rig) do {						\
	const char *why_ = NULL;					\
	int ret_ = rig_up(rig, &why_);					\
									\
	if (why_)							\
		SKIP(return, "%s", why_);				\
	ASSERT_EQ(0, ret_);						\
} while (0)

/* Offset of the first byte that differs, -1: none does */
static inline long first_diff(const unsigned char *got,
			      const unsigned char *want, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (got[i] != want[i])
			return i;
	return -1;
}

#endif
