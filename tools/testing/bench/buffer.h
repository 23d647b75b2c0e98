/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The memory that the drive reads into and writes from: a struct mem, whose fd is a
 * dma-buf's, or -1 for ordinary memory.
 */
#ifndef BENCH_BUFFER_H
#define BENCH_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "mem.h"
#include "uring.h"

enum buffer_kind {
	BUFFER_PLAIN,		/* memfd pages of 4 KiB, an ordinary registered buffer */
	BUFFER_BUFFERED,	/* the same, but the file is not O_DIRECT: the CPU copies */
	BUFFER_DMABUF,		/* the same pages as a dma-buf (udmabuf) */
	BUFFER_BAR,		/* a PCI BAR as a dma-buf (/dev/dmabuf_bar) */
	BUFFER_NOP,		/* no I/O at all: IORING_OP_NOP, the cost of counting */
	BUFFER_KINDS,
};

extern const char *const buffer_kind_name[BUFFER_KINDS];

/* All return 0 or -errno, and say on stderr what failed. */
int buffer_create(struct mem *buf, enum buffer_kind kind, size_t size);
/* A dma-buf of an exporter of the machine, MEM_BAR or MEM_CMA. */
int buffer_export(struct mem *buf, enum mem_kind kind, size_t size);
void buffer_destroy(struct mem *buf);

/* Slot 0 of a table that this makes. */
int buffer_register(const struct mem *buf, struct uring *ring, int target_fd);
int buffer_unregister(struct uring *ring);

/* All of it, by the CPU. */
int buffer_poison(const struct mem *buf, unsigned char byte);
int buffer_fill(const struct mem *buf, const unsigned char *from);
int buffer_read(const struct mem *buf, unsigned char *to);

/* What sqe->addr is for byte @off of the buffer. */
uint64_t buffer_sqe_addr(const struct mem *buf, size_t off);

/* Number of bytes that differ. */
long count_wrong(const unsigned char *a, const unsigned char *b, size_t len);

#endif
