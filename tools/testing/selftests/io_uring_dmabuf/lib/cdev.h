/* SPDX-License-Identifier: GPL-2.0 */
/* NVMe commands of our own making, on the character device of a namespace */
#ifndef IOU_DMABUF_CDEV_H
#define IOU_DMABUF_CDEV_H

#include "uring.h"

#define NVME_WRITE	1
#define NVME_READ	2
/* the rings that passthrough takes */
#define CDEV_RING	(IORING_SETUP_SQE128 | IORING_SETUP_CQE32)

struct cdev {
	int fd;
	int nsid;
	int lba;		/* bytes of a logical block */
};

/* @disk: the block device of the same namespace; 0 or -errno */
int cdev_open(struct cdev *dev, const char *path, int disk);
/*
 * A command on slot 0. @op: NVME_URING_CMD_*; @bytes of data at @off of the
 * namespace; @addr and @data_len as @op wants them. Returns the SQE.
 */
struct io_uring_sqe *cdev_prep(struct uring *r, const struct cdev *dev,
			       __u8 opcode, __u32 op, __u64 off, __u32 bytes,
			       __u64 addr, __u32 data_len);
/* The same, waited for. res of the CQE: 0, a positive NVMe status or -errno */
int cdev_command(struct uring *r, const struct cdev *dev, __u8 opcode, __u32 op,
		 __u64 off, __u32 bytes, __u64 addr, __u32 data_len);
/* One range of the buffer */
int cdev_io(struct uring *r, const struct cdev *dev, __u8 opcode, __u64 off,
	    __u64 addr, __u32 len);

#endif
