/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* A source of memory is one of these, in a file of its own */
#ifndef URING_DMABUF_MEM_H
#define URING_DMABUF_MEM_H

#include "uring-dmabuf.h"

/**
 * struct dmabuf_mem_ops - a source of memory
 * @name:	the first word of a specification
 * @arg:	it is followed by a colon and more
 * @open:	@arg: what follows the colon. Sets @fd (-1: it is no dma-buf), @off and @size
 *		of a zeroed @mem;
 *		what can be mapped is mapped by the caller. -errno, after mem_why()
 * @from_ptr:	the same of memory that the process has already; NULL: there is no such thing
 * @copy:	@len bytes at @off of the memory, to @to or from @from, the other one is NULL;
 *		without it that goes by mmap()
 * @close:	or NULL; the fd is closed by the caller
 */
struct dmabuf_mem_ops {
	const char *name;
	bool arg;
	int (*open)(struct dmabuf_mem *mem, const char *arg, size_t size);
	int (*from_ptr)(struct dmabuf_mem *mem, const void *ptr, size_t size);
	int (*copy)(struct dmabuf_mem *mem, uint64_t off, void *to, const void *from, size_t len);
	void (*close)(struct dmabuf_mem *mem);
};

extern const struct dmabuf_mem_ops mem_udmabuf, mem_heap, mem_fd, mem_cuda, mem_host;

/* Sets what dmabuf_mem_why() says; returns -@err */
int mem_why(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
