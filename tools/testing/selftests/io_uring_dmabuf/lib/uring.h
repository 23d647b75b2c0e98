/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A small io_uring ring on raw system calls, and the registration calls for
 * buffer descriptors. All functions return 0 or a count, or -errno.
 */
#ifndef IOU_DMABUF_URING_H
#define IOU_DMABUF_URING_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>
#include <linux/types.h>
#include <linux/io_uring.h>
#include <linux/io_uring/query.h>

struct uring {
	int fd;
	unsigned int flags;		/* IORING_SETUP_* */
	unsigned int entries;
	unsigned int *sq_head, *sq_tail, *sq_flags;
	unsigned int *cq_head, *cq_tail;
	unsigned int sq_mask, cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
	unsigned int local_tail;	/* SQEs handed out by uring_sqe() */
	void *map;
	size_t map_len, sqes_len;
};

/* What a test looks at of one CQE */
struct uring_res {
	__u64 user_data;
	__s32 res;
	__u32 flags;
	__u64 extra;			/* big_cqe[0] of a CQE32 ring */
};

/* What requests take different ways by: those of a ring, or with IOSQE_* */
struct uring_kind {
	const char *name;
	unsigned int setup, sqe_flags;
};

#define URING_KINDS 4
extern const struct uring_kind uring_kinds[URING_KINDS];

int uring_init(struct uring *r, unsigned int entries, unsigned int flags);
void uring_exit(struct uring *r);

/* A zeroed SQE, or NULL when the SQ is full */
struct io_uring_sqe *uring_sqe(struct uring *r);
/* Submits what uring_sqe() handed out; waits for @wait completions */
int uring_submit(struct uring *r, unsigned int wait);
/* The same, for at most so long */
int uring_submit_for(struct uring *r, unsigned int wait, int timeout_ms);
/* Takes one CQE if there is one: 1 or 0 */
int uring_peek(struct uring *r, struct uring_res *res);
/* Waits for one CQE: 0, or -ETIME after @timeout_ms */
int uring_wait(struct uring *r, struct uring_res *res, int timeout_ms);
/* None comes for so long; takes it if one does */
bool uring_quiet(struct uring *r, int timeout_ms);
/* CQEs posted and not taken yet, without entering the kernel */
unsigned int uring_ready(const struct uring *r);
/* Submits the one prepared SQE and waits for it: its res */
int uring_do(struct uring *r);

/* Prepares a *_FIXED request; @addr is the offset into the buffer */
struct io_uring_sqe *uring_prep_rw(struct uring *r, __u8 op, int fd, __u64 off,
				   __u64 addr, __u32 len, __u16 slot);
/* The same, submitted and waited for: its res */
int uring_rw(struct uring *r, __u8 op, int fd, __u64 off, __u64 addr,
	     __u32 len, __u16 slot);
static inline int uring_read(struct uring *r, int fd, __u64 off, __u64 addr,
			     __u32 len, __u16 slot)
{
	return uring_rw(r, IORING_OP_READ_FIXED, fd, off, addr, len, slot);
}

static inline int uring_write(struct uring *r, int fd, __u64 off, __u64 addr,
			      __u32 len, __u16 slot)
{
	return uring_rw(r, IORING_OP_WRITE_FIXED, fd, off, addr, len, slot);
}

/* io_uring_register(2) */
int uring_register(int fd, unsigned int op, const void *arg, unsigned int nr);

/* Registration; argument order: ring, offset, array, tags, nr */
int reg_sparse(struct uring *r, unsigned int nr);
int reg_update(struct uring *r, unsigned int offset,
	       const struct io_uring_regbuf_desc *descs, const __u64 *tags,
	       unsigned int nr);
int reg_table(struct uring *r, const struct io_uring_regbuf_desc *descs,
	      const __u64 *tags, unsigned int nr);
int reg_plain(struct uring *r, unsigned int offset, const struct iovec *iov,
	      const __u64 *tags, unsigned int nr);
int reg_unregister(struct uring *r);
int reg_clone(struct uring *dst, struct uring *src);
int reg_clear(struct uring *r, unsigned int slot);
/* The whole of @dmabuf for @target, as programs for Linux 7.4 do it */
int reg_dmabuf(struct uring *r, unsigned int slot, int dmabuf, int target);
/* The same with IO_REGBUF_DMABUF_* */
int reg_flags(struct uring *r, unsigned int slot, int dmabuf, int target, __u32 flags);
/* One descriptor: 0 or -errno */
int reg_one(struct uring *r, unsigned int slot,
	    const struct io_uring_regbuf_desc *desc);

/* The same; *@why is REASON_POISON all over unless it fails */
#define REASON_POISON	0x5a
int reg_why(struct uring *r, unsigned int slot,
	    const struct io_uring_regbuf_desc *desc,
	    struct io_uring_regbuf_reason *why);
/* @why, made by reg_why(), was not written to */
bool reason_untouched(const struct io_uring_regbuf_reason *why);

struct io_uring_regbuf_desc desc_dmabuf(int dmabuf, int target);
struct io_uring_regbuf_desc desc_uaddr(void *addr, size_t len);
struct io_uring_regbuf_desc desc_empty(void);
struct io_uring_regbuf_desc desc_add(int target);

/* Queries: 0 or what the kernel put into hdr.result; *@len is what it filled */
int query(int fd, unsigned int op, void *data, __u32 *len);
int query_regbuf(struct io_uring_query_regbuf *q);
int query_map(struct uring *r, unsigned int slot, unsigned int target,
	      struct io_uring_query_regbuf_map *q);
bool kernel_has_regbuf(void);

#endif
