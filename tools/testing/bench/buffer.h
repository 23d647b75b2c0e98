/* SPDX-License-Identifier: GPL-2.0 */
/* The memory that the drive reads into and writes from. */
#ifndef BENCH_BUFFER_H
#define BENCH_BUFFER_H

#include <stddef.h>
#include <stdint.h>

struct ring;

enum buffer_kind {
	BUFFER_PLAIN,		/* memfd pages of 4 KiB, an ordinary registered buffer */
	BUFFER_BUFFERED,	/* the same, but the file is not O_DIRECT: the CPU copies */
	BUFFER_DMABUF,		/* the same pages as a dma-buf (udmabuf) */
	BUFFER_BAR,		/* a PCI BAR as a dma-buf (/dev/dmabuf_bar) */
	BUFFER_NOP,		/* no I/O at all: IORING_OP_NOP, the cost of counting */
	BUFFER_KINDS,
};

extern const char *const buffer_kind_name[BUFFER_KINDS];

struct buffer {
	enum buffer_kind kind;
	size_t size;
	int fd;			/* dma-buf, or -1 */
	unsigned char *cpu;	/* mapping, or NULL for a BAR: peek and poke */
};

/* All return 0 or -errno, and say on stderr what failed. */
int buffer_create(struct buffer *buf, enum buffer_kind kind, size_t size);
void buffer_destroy(struct buffer *buf);
int buffer_register(struct buffer *buf, struct ring *ring, int target_fd);
int buffer_unregister(struct buffer *buf, struct ring *ring);
int buffer_poison(struct buffer *buf, unsigned char byte);
int buffer_fill(struct buffer *buf, const unsigned char *from);

/* Bytes that differ from @expected, which is as long as the buffer; or -errno. */
long buffer_compare(struct buffer *buf, const unsigned char *expected);

/* What sqe->addr is for byte @off of the buffer. */
uint64_t buffer_sqe_addr(const struct buffer *buf, size_t off);

/*
 * Every 8 bytes differ from all others, and from those of a pattern that begins
 * elsewhere: @first is the number of its first byte.
 */
void make_pattern(unsigned char *p, size_t len, uint64_t first);

/* Number of bytes that differ. */
long count_wrong(const unsigned char *a, const unsigned char *b, size_t len);

#endif
