/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The memory of every buffer but a BAR's, taken when the program starts: pages
 * of 4 KiB in pieces of 128 KiB that are physically contiguous.  A plain buffer
 * and a dma-buf are the same pages.  How memory lies decides how many segments
 * an I/O has; this is a plain buffer at its best, and the same for every case
 * and in every boot.
 */
#ifndef BENCH_POOL_H
#define BENCH_POOL_H

#include <stddef.h>

#include "mem.h"

/* These return 0 or -errno, and say on stderr what failed. */

/*
 * @size: a multiple of 128 KiB.  The memory is held until the program ends, and
 * as much again.
 */
int pool_init(size_t size);

/* The pool's first @size bytes: themselves, or a dma-buf of them. */
int pool_memory(struct mem *m, size_t size);
int pool_udmabuf(struct mem *m, size_t size);

/*
 * Physically contiguous pieces that I/Os of @size on the first @span bytes of the
 * memory have, in all; 0: where the memory lies cannot be known.
 */
unsigned int pool_pieces(const struct mem *m, size_t span, size_t size);

#endif
