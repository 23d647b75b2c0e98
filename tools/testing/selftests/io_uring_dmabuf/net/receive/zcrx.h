/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Zero-copy receive on raw system calls: an instance with its refill ring, and
 * areas. Functions return 0 or -errno.
 */
#ifndef RECEIVE_ZCRX_H
#define RECEIVE_ZCRX_H

#include "uring.h"

#define ZCRX_ENTRIES	4096	/* of the refill ring */
/* A ring that may have one; or with IORING_SETUP_CQE_MIXED instead of CQE32 */
#define ZCRX_RING	(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | \
			 IORING_SETUP_CQE32)
#define ZCRX_RING_MIXED	(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | \
			 IORING_SETUP_CQE_MIXED)

struct zcrx {
	struct uring *ring;
	__u32 id;
	__u32 rx_buf_len;
	__u64 token;		/* of the first area */
	void *region;		/* NULL: not open */
	size_t region_len;
	unsigned int *head, *tail;
	struct io_uring_zcrx_rqe *rqes;
	const struct zcrx_stats *stats;		/* what was copied */
	unsigned int local_tail;
};

struct io_uring_zcrx_area_reg area_slot(__u32 slot, __u64 off, __u64 len);
struct io_uring_zcrx_area_reg area_dmabuf(int fd, __u64 len);
struct io_uring_zcrx_area_reg area_user(void *addr, __u64 len);

/* For the first queue of @ifindex, without a device if that is 0. @z is set all over */
int zcrx_open(struct zcrx *z, struct uring *ring, unsigned int ifindex,
	      struct io_uring_zcrx_area_reg *area);
/* For any queue */
int zcrx_open_queue(struct zcrx *z, struct uring *ring, unsigned int ifindex,
		    unsigned int queue, struct io_uring_zcrx_area_reg *area);
/* For the first, with sizes of buffers that the card is to be given */
int zcrx_open_buf(struct zcrx *z, struct uring *ring, unsigned int ifindex,
		  struct io_uring_zcrx_area_reg *area, __u32 rx_buf_len);
/* The instance itself ends with its ring, and the rings that have imported it */
void zcrx_forget(struct zcrx *z);
/* A descriptor of the instance, and the same instance for another ring */
int zcrx_export(const struct zcrx *z);
int zcrx_import(struct zcrx *z, struct uring *ring, int fd);

/* The area's token comes back in @area */
int zcrx_add_area(const struct zcrx *z, struct io_uring_zcrx_area_reg *area);
int zcrx_flush(const struct zcrx *z);

/* Prepares a multishot receive of @len bytes, or without end: 0 */
struct io_uring_sqe *zcrx_prep(const struct zcrx *z, int fd, __u32 len,
			       __u64 user_data);
/* The piece that a completion named, by its offset with the area's token */
void zcrx_return(struct zcrx *z, __u64 off, __u32 len);

/* What IO_URING_QUERY_ZCRX has in area_flags, or -errno */
int zcrx_area_flags(void);

#endif
