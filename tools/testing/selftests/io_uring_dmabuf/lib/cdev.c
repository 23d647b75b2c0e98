// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <linux/fs.h>
#include <linux/nvme_ioctl.h>

#include "cdev.h"

int cdev_open(struct cdev *dev, const char *path, int disk)
{
	dev->fd = open(path, O_RDWR | O_CLOEXEC);
	if (dev->fd < 0)
		return -errno;
	dev->nsid = ioctl(dev->fd, NVME_IOCTL_ID);
	if (dev->nsid <= 0 || ioctl(disk, BLKSSZGET, &dev->lba))
		return -EIO;
	return 0;
}

struct io_uring_sqe *cdev_prep(struct uring *r, const struct cdev *dev,
			       __u8 opcode, __u32 op, __u64 off, __u32 bytes,
			       __u64 addr, __u32 data_len)
{
	struct io_uring_sqe *sqe = uring_sqe(r);
	struct nvme_uring_cmd *cmd = (void *)sqe->cmd;
	__u64 slba = off / dev->lba;

	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = dev->fd;
	sqe->cmd_op = op;
	sqe->uring_cmd_flags = IORING_URING_CMD_FIXED;
	sqe->buf_index = 0;
	cmd->opcode = opcode;
	cmd->nsid = dev->nsid;
	cmd->addr = addr;
	cmd->data_len = data_len;
	cmd->cdw10 = slba;
	cmd->cdw11 = slba >> 32;
	cmd->cdw12 = bytes / dev->lba - 1;
	return sqe;
}

int cdev_command(struct uring *r, const struct cdev *dev, __u8 opcode, __u32 op,
		 __u64 off, __u32 bytes, __u64 addr, __u32 data_len)
{
	cdev_prep(r, dev, opcode, op, off, bytes, addr, data_len);
	return uring_do(r);
}

int cdev_io(struct uring *r, const struct cdev *dev, __u8 opcode, __u64 off,
	    __u64 addr, __u32 len)
{
	return cdev_command(r, dev, opcode, NVME_URING_CMD_IO, off, len, addr,
			    len);
}
