/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* Facts of the kernel's interface that the header does not show */
#ifndef URING_DMABUF_KERNEL_H
#define URING_DMABUF_KERNEL_H

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "uring-dmabuf.h"

/* io_uring_register(2) */
enum {
	REGISTER_BUFFERS2	= 15,
	REGISTER_BUFFERS_UPDATE	= 16,
	REGISTER_QUERY		= 35,
};

/* io_uring_rsrc_register.flags, io_uring_rsrc_update2.flags: descriptors, no iovecs */
#define RSRC_EXTENDED	(1U << 1)

/* io_uring_query_hdr.query_op */
#define QUERY_REGBUF		0x8000U
#define QUERY_REGBUF_MAP	0x8001U

struct query_hdr {
	uint64_t next_entry;
	uint64_t query_data;
	uint32_t query_op;
	uint32_t size;
	int32_t result;
	uint32_t resv[3];
};

struct rsrc_register {
	uint32_t nr;
	uint32_t flags;
	uint64_t resv2;
	uint64_t data;
	uint64_t tags;
};

struct rsrc_update2 {
	uint32_t offset;
	uint32_t flags;
	uint64_t data;
	uint64_t tags;
	uint32_t nr;
	uint32_t resv2;
};

static inline uint64_t to_u64(const void *p)
{
	return (uint64_t)(uintptr_t)p;
}

static inline int register_call(int fd, unsigned int op, const void *arg, unsigned int nr)
{
	long ret = syscall(__NR_io_uring_register, fd, op, arg, nr);

	return ret < 0 ? -errno : (int)ret;
}

#endif
