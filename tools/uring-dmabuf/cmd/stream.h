/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * send and recv: what goes over the connections. Numbers are little-endian.
 *
 *   sender		struct stream_header, on each connection
 *   receiver		struct stream_reply: it is ready, or why not
 *   sender		the blocks index, index + connections, index + 2 * connections...
 *			one after the other; the last one of all may be shorter
 *   sender		struct stream_trailer
 *   receiver		struct stream_reply: all is where it was to go, or why not
 *
 * The receiver may send its second reply at any time; the sender then stops.
 */
#ifndef URING_DMABUF_STREAM_H
#define URING_DMABUF_STREAM_H

#include <xxhash.h>

#include "cp.h"

#define STREAM_MAX	16		/* connections */
#define STREAM_BLOCK	(1U << 20)
#define STREAM_PIECES	16U		/* blocks on their way, at least */

struct stream_header {
	char magic[8];
	uint8_t session[16];
	uint32_t index, connections;
	uint64_t size;			/* of all, bytes */
	uint32_t block;			/* bytes, a multiple of BLOCK */
	uint32_t hashed;		/* 1: the trailers have checksums */
	uint64_t resv[2];
};

struct stream_trailer {
	char magic[8];
	uint8_t hash[16];		/* XXH3-128 of the connection's blocks, canonical */
};

struct stream_reply {
	char magic[8];
	int32_t error;			/* errno, or 0 */
	uint32_t resv;
	char text[112];			/* what and why, ends with a 0 */
};

struct stream_options {
	struct cp_options o;
	unsigned int connections, wait;
	bool hashed, copy_ok;
};

void stream_set_magic(char magic[static 8], const char *what);
bool stream_is_magic(const char magic[static 8], const char *what);

uint64_t stream_ms(void);

/* All of it; 0, -EINTR: cp_stop; -ETIMEDOUT after so many seconds, however much; -errno */
int stream_put(int fd, const void *data, size_t len, unsigned int seconds);
/*
 * 0: in @r, in this machine's order, with a text that a terminal can have, if it is an error;
 * else as above, -ENODATA: the peer has closed, -EPROTO: it speaks another language
 */
int stream_get_reply(int fd, struct stream_reply *r, unsigned int seconds);
/* @err: 0 or -errno. Of a long text the end */
int stream_put_reply(int fd, int err, const char *text);

/* Before and after the CPU looks at memory of an exporter, or writes it */
int stream_cpu_begin(const struct dmabuf_mem *mem, bool write);
int stream_cpu_end(const struct dmabuf_mem *mem, bool write);

/* dmabuf_io_prepare(), and says why not; @target of the program's kind, for the words */
int stream_prepare(struct dmabuf_io *io, int buffer, int nr, const char *memory,
		   const struct target *target);
/* Memory of @size bytes as the options have it; 0, or it was said why */
int stream_memory(const struct cp_options *o, struct dmabuf_mem *mem, size_t size);

/* Signals, the clock, the only job */
void stream_start(struct stream_options *o, struct copier *c);
/* Whether this kernel can, or need not; else it was said */
bool stream_has_kernel(struct copier *c);
/* 0, or it was said why there is none */
int stream_open_ring(struct dmabuf_io **io, struct copier *c);
/* The program's exit code */
int stream_outcome(const struct copier *c);

uint64_t stream_blocks(uint64_t size, uint32_t block);
uint32_t stream_block_len(uint64_t size, uint32_t block, uint64_t nr);

#endif
