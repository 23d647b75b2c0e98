// SPDX-License-Identifier: GPL-2.0
/*
 * Why the registration of a dma-buf failed: struct io_uring_regbuf_reason.
 *
 * One errno has up to five origins. Who fails sets the stage, and a text where
 * the stage and the errno are not enough to tell what to do.
 */
#include <linux/kernel.h>
#include <linux/errno.h>
#include <linux/dma-iobuf.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include <uapi/linux/io_uring.h>

#include "regbuf_dmabuf.h"

/* of the kernel; for an exporter's, exporter_errno has it */
#define NO_MEMORY	"There is no memory."

/* @err 0: any other; of one stage the first that fits */
static const struct {
	u32		stage;
	int		err;
	const char	*text;
} io_regbuf_texts[] = {
	{ IO_REGBUF_STAGE_FD, -EBADF,
	  "dmabuf_fd is not open.",
	},
	{ IO_REGBUF_STAGE_FD, -EINVAL,
	  "dmabuf_fd is not a dma-buf.",
	},
	{ IO_REGBUF_STAGE_FD, -EACCES,
	  "The fd of the dma-buf does not grant this: export it with O_RDWR, or ask for RDONLY or WRONLY only.",
	},

	{ IO_REGBUF_STAGE_TARGET, -EBADF,
	  "The target fd is not open.",
	},
	{ IO_REGBUF_STAGE_TARGET, -EINVAL,
	  "The target is not open with O_DIRECT: open it with that flag.",
	},
	{ IO_REGBUF_STAGE_TARGET, -EFAULT,
	  "The array of target fds cannot be read.",
	},
	{ IO_REGBUF_STAGE_TARGET, -EACCES,
	  "A send reads the memory: a socket does not go with WRONLY, or with a dma-buf that can only be written.",
	},
	{ IO_REGBUF_STAGE_TARGET, -ENOTCONN,
	  "The socket is neither connected nor bound to a device: do that first, or allow copies with COPY_OK.",
	},
	{ IO_REGBUF_STAGE_TARGET, -ENXIO,
	  "The multipath device has no path now: register when it has one.",
	},
	{ IO_REGBUF_STAGE_TARGET, -ENODEV,
	  "The device of the target is gone or going: register again when it is back.",
	},
	{ IO_REGBUF_STAGE_TARGET, -E2BIG,
	  "The targets have more devices than max_targets: register for fewer of them in one slot.",
	},
	{ IO_REGBUF_STAGE_TARGET, -ENOMEM,
	  NO_MEMORY,
	},
	{ IO_REGBUF_STAGE_TARGET, 0,
	  "The driver or file system of the target, or the device below it, has no support for dma-bufs.",
	},

	{ IO_REGBUF_STAGE_DEVICE, -EOPNOTSUPP,
	  "The device cannot use the memory directly: it is not cache coherent, uses bounce buffers, or cannot wait for a revoke.",
	},
	{ IO_REGBUF_STAGE_DEVICE, -ENODEV,
	  "The device is gone or going: register again when it is back.",
	},
	{ IO_REGBUF_STAGE_DEVICE, -E2BIG,
	  "The buffer has as many devices as it can have: use another slot for more of them.",
	},
	{ IO_REGBUF_STAGE_DEVICE, -EACCES,
	  "A send reads the memory: a socket does not go with WRONLY, or with a dma-buf that can only be written.",
	},
	{ IO_REGBUF_STAGE_DEVICE, -ENOMEM,
	  NO_MEMORY,
	},
	{ IO_REGBUF_STAGE_DEVICE, 0,
	  "The device cannot take this dma-buf.",
	},

	{ IO_REGBUF_STAGE_ATTACH, -EREMOTEIO,
	  "The device does not reach the memory peer-to-peer: put both below one PCIe switch, or leave out REQUIRE_P2P.",
	},
	{ IO_REGBUF_STAGE_ATTACH, -EOPNOTSUPP,
	  "The exporter refuses the device: it is out of reach, or cannot wait for a revoke; put both below one PCIe switch.",
	},
	{ IO_REGBUF_STAGE_ATTACH, 0,
	  "The exporter refuses the device; exporter_errno says why.",
	},

	{ IO_REGBUF_STAGE_PIN, -EOPNOTSUPP,
	  "The exporter cannot pin the memory: register for drives only, without PIN.",
	},
	{ IO_REGBUF_STAGE_PIN, 0,
	  "The exporter did not pin the memory: there may be no room where the device reaches it; exporter_errno says why.",
	},

	{ IO_REGBUF_STAGE_MAP, -ENODEV,
	  "The exporter has revoked the memory: get a new dma-buf.",
	},
	{ IO_REGBUF_STAGE_MAP, -EREMOTEIO,
	  "The device does not reach the memory peer-to-peer: put both below one PCIe switch, or leave out REQUIRE_P2P.",
	},
	{ IO_REGBUF_STAGE_MAP, 0,
	  "The exporter did not map the memory for the device; exporter_errno says why.",
	},

	{ IO_REGBUF_STAGE_FENCE, -EINTR,
	  "The caller was killed while the exporter was still working on the memory.",
	},
	{ IO_REGBUF_STAGE_FENCE, 0,
	  "The exporter's own work on the memory failed.",
	},

	{ IO_REGBUF_STAGE_ADDRESS, -EREMOTEIO,
	  "The memory is not peer-to-peer, or not within reach: put exporter and device below one PCIe switch, or see REQUIRE_P2P.",
	},
	{ IO_REGBUF_STAGE_ADDRESS, -EOPNOTSUPP,
	  "The memory is reached through bounce buffers (swiotlb): it cannot be registered for this device.",
	},
	{ IO_REGBUF_STAGE_ADDRESS, -ENOMEM,
	  NO_MEMORY,
	},
	{ IO_REGBUF_STAGE_ADDRESS, 0,
	  "The exporter's addresses cannot be used by the device.",
	},

	{ IO_REGBUF_STAGE_TABLE, -ENOMEM,
	  "There is no memory for the mapping table, or the memory cgroup is at its limit.",
	},
	{ IO_REGBUF_STAGE_TABLE, -EINVAL,
	  "The exporter's mapping is not made of whole 4 KiB pages that cover the dma-buf.",
	},
	{ IO_REGBUF_STAGE_TABLE, 0,
	  "The mapping is too fragmented for a table.",
	},
};

/**
 * io_regbuf_fail - note what failed
 * @why:	the reason
 * @stage:	IO_REGBUF_STAGE_*
 * @err:	the errno, negative
 * @text:	what to do, or NULL if stage and errno tell
 *
 * Return: @err.
 */
int io_regbuf_fail(struct io_regbuf_why *why, u32 stage, int err,
		   const char *text)
{
	why->stage = stage;
	why->text = text;
	why->bytes = 0;
	why->limit = 0;
	return err;
}

/**
 * io_regbuf_fail_core - take over what the core says of a failure
 * @why:	the reason, with &io_regbuf_why.core filled in
 * @err:	the errno, negative
 *
 * Return: @err.
 */
int io_regbuf_fail_core(struct io_regbuf_why *why, int err)
{
	const struct dma_iobuf_reason *core = &why->core;

	/* one is the ABI, the other the kernel's */
	BUILD_BUG_ON(IO_REGBUF_STAGE_DEVICE - (int)DMA_IOBUF_STAGE_DEVICE !=
		     IO_REGBUF_STAGE_TABLE - (int)DMA_IOBUF_STAGE_TABLE);
	BUILD_BUG_ON(IO_REGBUF_STAGE_MAP - (int)DMA_IOBUF_STAGE_MAP !=
		     IO_REGBUF_STAGE_TABLE - (int)DMA_IOBUF_STAGE_TABLE);

	if (core->stage == DMA_IOBUF_STAGE_NONE)
		return io_regbuf_fail(why, IO_REGBUF_STAGE_TABLE, err, NULL);
	if (core->idx < ARRAY_SIZE(why->fd_of_dev))
		why->target = why->fd_of_dev[core->idx];
	return io_regbuf_fail(why, core->stage + IO_REGBUF_STAGE_DEVICE -
			      DMA_IOBUF_STAGE_DEVICE, err, NULL);
}

/**
 * io_regbuf_why_memlock - RLIMIT_MEMLOCK does not suffice
 * @why:	the reason
 * @pages:	what it would have to be at least
 * @limit:	what it is, in pages
 */
void io_regbuf_why_memlock(struct io_regbuf_why *why, unsigned long pages,
			   unsigned long limit)
{
	io_regbuf_fail(why, IO_REGBUF_STAGE_MEMLOCK, -ENOMEM,
		       "RLIMIT_MEMLOCK is too small: raise it to at least .bytes (ulimit -l), or make the ring with CAP_IPC_LOCK.");
	why->bytes = (u64)pages << PAGE_SHIFT;
	why->limit = (u64)limit << PAGE_SHIFT;
}

static const char *io_regbuf_text(const struct io_regbuf_why *why, int err)
{
	unsigned int i;

	if (why->text)
		return why->text;
	for (i = 0; i < ARRAY_SIZE(io_regbuf_texts); i++)
		if (io_regbuf_texts[i].stage == why->stage &&
		    (!io_regbuf_texts[i].err || io_regbuf_texts[i].err == err))
			return io_regbuf_texts[i].text;
	return err == -ENOMEM ? NO_MEMORY : "";
}

/* some errnos are the kernel's own business */
static s32 io_regbuf_errno(int exporter_errno, int err)
{
	return exporter_errno <= -512 ? err : exporter_errno;
}

/**
 * io_regbuf_reason_check - can a reason be written if there is one
 * @ureason:	where to
 *
 * Return: 0; -EFAULT: not to there; -EINVAL: it is too small.
 */
int io_regbuf_reason_check(struct io_uring_regbuf_reason __user *ureason)
{
	u32 size;

	if (get_user(size, &ureason->size))
		return -EFAULT;
	/* the first version of it */
	if (size < offsetofend(struct io_uring_regbuf_reason, text))
		return -EINVAL;
	if (fault_in_safe_writeable((char __user *)ureason, sizeof(*ureason)))
		return -EFAULT;
	return 0;
}

/**
 * io_regbuf_reason_write - tell why a registration failed
 * @ureason:	where to, io_regbuf_reason_check() was content with it
 * @why:	the reason
 * @err:	the errno, negative
 *
 * If it can no longer be written it is lost: the errno is told all the same.
 */
void io_regbuf_reason_write(struct io_uring_regbuf_reason __user *ureason,
			    const struct io_regbuf_why *why, int err)
{
	struct io_uring_regbuf_reason reason = {
		.size		= sizeof(reason),
		.stage		= why->stage,
		.target		= why->target,
		.exporter_errno	= io_regbuf_errno(why->core.exporter_errno, err),
		.peer2peer	= why->core.peer2peer,
		.state		= (u32)why->core.kind,
		.bytes		= why->bytes,
		.limit		= why->limit,
	};

	BUILD_BUG_ON(sizeof(reason) != 256);
	BUILD_BUG_ON(sizeof(why->core.device) != sizeof(reason.device));
	strscpy_pad(reason.exporter, why->exporter);
	strscpy_pad(reason.device, why->core.device);
	strscpy_pad(reason.text, io_regbuf_text(why, err));
	if (copy_to_user(ureason, &reason, sizeof(reason)))
		return;
}
