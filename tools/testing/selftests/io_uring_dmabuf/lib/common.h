/* SPDX-License-Identifier: GPL-2.0 */
/* What every test program includes, once: the harness and macros for it */
#ifndef IOU_DMABUF_COMMON_H
#define IOU_DMABUF_COMMON_H

#include <errno.h>
#include <fcntl.h>

#include "kselftest_harness.h"

#include "rig.h"

/* The harness kills a test after this; emulated and debug machines are slow */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 180
/* Of tests that have a long form: that ends by the time limit of the program */
#define SOAK_TIMEOUT (8 * 3600)

#define RIG_UP(rig, env, kind, size, ring_flags) do {			\
	const char *why_ = NULL;					\
	int ret_ = rig_up(rig, env, kind, size, ring_flags, &why_);	\
									\
	if (why_)							\
		SKIP(return, "%s", why_);				\
	ASSERT_EQ(0, ret_);						\
} while (0)

/* The value of a LAB_* variable, or skip */
#define NEED_ENV(name) ({						\
	const char *value_ = lab_env(name);				\
									\
	if (!value_)							\
		SKIP(return, "%s is not set", name);			\
	value_;								\
})

/* An O_DIRECT fd, or skip when the variable is not set */
#define NEED_DISK(name) ({						\
	int fd_ = lab_open(NEED_ENV(name));				\
									\
	ASSERT_GE(fd_, 0);						\
	fd_;								\
})

#define NEED_PART(part) ({						\
	int fd_ = lab_open_part(NEED_ENV("LAB_NVME_FS"), part);		\
									\
	ASSERT_GE(fd_, 0);						\
	fd_;								\
})

#endif
