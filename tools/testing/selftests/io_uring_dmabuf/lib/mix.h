/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Rounds of random requests, all in flight together, against a model.
 *
 * A region of the disk and the buffer are cut into as many windows as there
 * are requests, so that no two requests of a round touch the same bytes. The
 * same copies are done by the CPU on two plain arrays. Afterwards every byte
 * of memory and disk must be what the arrays say.
 */
#ifndef IOU_DMABUF_MIX_H
#define IOU_DMABUF_MIX_H

#include "rig.h"

#define MIX_MAX_DEPTH	32
#define MIX_MAX_PIECES	4

struct mix_op {
	__u8 opcode;
	__u64 off;
	__u32 len;
	unsigned int nr;
	struct iovec iov[MIX_MAX_PIECES];
};

struct mix {
	struct uring *ring;
	struct mem *mem;
	int fd;
	__u16 slot;
	__u8 sqe_flags;
	bool no_vectors;
	unsigned int align;	/* of addresses; 4 unless set otherwise */
	__u64 size;		/* of the buffer and of the region at disk offset 0 */
	__u64 rng;
	unsigned char *mem_model, *disk_model;
	struct mix_op ops[MIX_MAX_DEPTH];
	unsigned int nr_eagain;	/* CQEs with it; must stay 0 */
	unsigned long nr_ops;
};

/* Fills disk and memory; 0 or -errno */
int mix_init(struct mix *mix, struct rig *rig, int fd, __u16 slot, __u64 size);
void mix_free(struct mix *mix);
/* One round of @depth requests: 0, or the first bad res */
int mix_round(struct mix *mix, unsigned int depth);
/* The two halves of a round; CQEs are not taken in between */
int mix_submit(struct mix *mix, unsigned int depth);
int mix_reap(struct mix *mix, unsigned int depth);
/* 0, or -EILSEQ and the place on stderr */
int mix_verify(struct mix *mix);

#endif
