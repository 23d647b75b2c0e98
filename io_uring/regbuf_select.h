/* SPDX-License-Identifier: GPL-2.0 */
/* Buffer rings whose entries name ranges of registered buffers */
#ifndef IOU_REGBUF_SELECT_H
#define IOU_REGBUF_SELECT_H

#include <linux/io_uring_types.h>

struct iov_iter;

/**
 * struct io_regbuf_select - ranges that are to be taken of a buffer ring
 * @group:	the buffer group
 * @nr_max:	at most so many
 * @len:	at most so many bytes, 0: as many as there are; becomes what was taken
 * @ddir:	ITER_DEST or ITER_SOURCE
 * @addr:	becomes where the first of them begins, as requests without a ring say it
 * @copied:	the CPU is to copy it: only a dma-buf that allows that will do
 * @iter:	becomes the ranges
 * @vec:	memory for several ranges, which the caller frees
 */
struct io_regbuf_select {
	unsigned int	group;
	unsigned int	nr_max;
	size_t		len;
	u64		addr;
	int		ddir;
	bool		copied;
	struct iov_iter	*iter;
	struct iou_vec	*vec;
};

/* what one request takes; a page of iovecs */
#define IO_REGBUF_SELECT_MAX	256

int io_regbuf_select(struct io_kiocb *req, struct io_kiocb *holder,
		     struct io_regbuf_select *sel, unsigned int issue_flags);

#endif
