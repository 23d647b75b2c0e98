/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * dma-bufs as buffers of an io_uring: registration, requests, and where the memory comes
 * from. See uring-dmabuf(7), and io_uring_dmabuf_register(3) to begin with.
 *
 * May stand before or after <linux/io_uring.h> and <liburing.h>, of any age: all names are
 * its own. The structures have the layout of the kernel's.
 *
 * Functions return 0 or a count, or -errno. They start no thread, and allocate memory only
 * to open a source of memory or a handle.
 */
#ifndef URING_DMABUF_H
#define URING_DMABUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <liburing.h>

#ifdef __cplusplus
extern "C" {
#endif

#define URING_DMABUF_VERSION_MAJOR	0
#define URING_DMABUF_VERSION_MINOR	1

/* ---- what can be registered ---- */

/* io_uring_dmabuf_desc.type */
enum {
	IO_URING_DMABUF_TYPE_EMPTY	= 0,	/* clears the slot */
	IO_URING_DMABUF_TYPE_UADDR	= 1,	/* memory of the process, as by an iovec */
	IO_URING_DMABUF_TYPE_DMABUF	= 2,
};

/* io_uring_dmabuf_desc.flags */
#define IO_URING_DMABUF_RDONLY		(1U << 0)	/* devices only read the memory */
#define IO_URING_DMABUF_WRONLY		(1U << 1)	/* devices only write it */
#define IO_URING_DMABUF_REQUIRE_P2P	(1U << 2)	/* peer-to-peer, or an error */
#define IO_URING_DMABUF_PIN		(1U << 3)	/* the exporter must not move it */
#define IO_URING_DMABUF_ADD_TARGETS	(1U << 4)	/* io_uring_dmabuf_add_targets() */
#define IO_URING_DMABUF_COPY_OK		(1U << 5)	/* a send may be a copy, if it has to */
#define IO_URING_DMABUF_ON_DEMAND	(1U << 6)	/* the first I/O to a file makes it a target */
#define IO_URING_DMABUF_DROP_IDLE	(1U << 7)	/* drives keep no mapping without I/O */

struct io_uring_dmabuf_desc {
	uint32_t type;
	uint32_t flags;
	uint64_t size;			/* bytes; 0: to the end of the dma-buf */
	uint64_t uaddr;			/* 0 for a dma-buf */
	int32_t dmabuf_fd;
	int32_t target_fd;
	uint64_t dmabuf_off;
	uint64_t targets;		/* address of int32_t[nr_targets] */
	uint32_t nr_targets;
	uint32_t resv1;
	uint64_t reason;		/* address of io_uring_dmabuf_reason, or 0 */
	uint64_t resv[2];
};

/* io_uring_dmabuf_reason.stage: what failed */
enum {
	IO_URING_DMABUF_STAGE_NONE		= 0,
	IO_URING_DMABUF_STAGE_DESCRIPTOR	= 1,
	IO_URING_DMABUF_STAGE_FD		= 2,
	IO_URING_DMABUF_STAGE_TARGET		= 3,
	IO_URING_DMABUF_STAGE_DEVICE		= 4,
	IO_URING_DMABUF_STAGE_ATTACH		= 5,
	IO_URING_DMABUF_STAGE_PIN		= 6,
	IO_URING_DMABUF_STAGE_MAP		= 7,
	IO_URING_DMABUF_STAGE_FENCE		= 8,
	IO_URING_DMABUF_STAGE_ADDRESS		= 9,
	IO_URING_DMABUF_STAGE_TABLE		= 10,
	IO_URING_DMABUF_STAGE_MEMLOCK		= 11,
};

/* Why a registration failed; the functions that take one fill in all of it */
struct io_uring_dmabuf_reason {
	uint32_t size;
	uint32_t stage;
	int32_t target;			/* 0: target_fd, i + 1: targets[i], -1: none */
	int32_t exporter_errno;		/* what the exporter said, negative, or 0 */
	uint32_t peer2peer;
	uint32_t state;			/* IO_URING_DMABUF_STATE_* */
	uint64_t bytes;			/* MEMLOCK: what RLIMIT_MEMLOCK would have to be */
	uint64_t limit;			/* MEMLOCK: what it is */
	char exporter[32];
	char device[32];
	char text[152];			/* what to do, in one sentence */
};

/* ---- what the kernel can, what a buffer is ---- */

/* io_uring_dmabuf_caps.features */
#define IO_URING_DMABUF_FEATURE_SINGLE_CQE	(1U << 0)	/* a send may have one CQE */
#define IO_URING_DMABUF_FEATURE_PROVIDED	(1U << 1)	/* buffer rings may name buffers */

struct io_uring_dmabuf_caps {
	uint64_t type_mask;		/* 1 << IO_URING_DMABUF_TYPE_* */
	uint64_t dmabuf_flags;
	uint64_t update_flags;
	uint64_t max_size;		/* of a buffer, in bytes */
	uint32_t desc_size;
	uint32_t max_targets;		/* devices of a buffer */
	uint32_t version;
	uint32_t features;		/* IO_URING_DMABUF_FEATURE_* */
	uint64_t resv2[2];
};

/* io_uring_dmabuf_map.state, and of a reason */
enum {
	IO_URING_DMABUF_STATE_NONE	= 0,	/* not mapped now; the next I/O maps it */
	IO_URING_DMABUF_STATE_SYSTEM	= 1,	/* system memory */
	IO_URING_DMABUF_STATE_P2P_BUS	= 2,	/* peer-to-peer, below a switch */
	IO_URING_DMABUF_STATE_P2P_HOST	= 3,	/* peer-to-peer, through the host bridge */
	IO_URING_DMABUF_STATE_MIXED	= 4,	/* some of each */
	IO_URING_DMABUF_STATE_DEAD	= 5,	/* the device is gone */
};

/* A buffer for one of its devices */
struct io_uring_dmabuf_map {
	uint32_t slot;
	uint32_t target;
	uint32_t nr_targets;
	uint32_t type;
	uint32_t flags;
	uint32_t state;
	uint64_t dmabuf_off;
	uint64_t size;
	uint64_t granule;		/* bytes that one entry of the table stands for */
	uint64_t entries;
	uint64_t table_bytes;
	uint64_t hits;			/* commands that used the mapping */
	uint64_t maps;
	uint64_t invalidations;		/* by the exporter */
	uint64_t copied_bytes;
	uint32_t peer2peer;
	uint32_t drops;			/* mappings given back (IO_URING_DMABUF_DROP_IDLE) */
	char device[32];
	char exporter[32];
};

/*
 * 0; -EOPNOTSUPP: the kernel cannot register dma-bufs; -EPERM: io_uring is not allowed
 * here (a sysctl, or seccomp); -ENOSYS: there is none. Needs no ring.
 */
int io_uring_dmabuf_query(struct io_uring_dmabuf_caps *caps);
/* The number of devices that the buffer is registered for; 0: it is no dma-buf */
int io_uring_dmabuf_map_info(struct io_uring *ring, unsigned int slot,
			     unsigned int target, struct io_uring_dmabuf_map *map);
/* Names as they stand in fdinfo ("system", "p2p-bus"); never NULL */
const char *io_uring_dmabuf_state_name(unsigned int state);
const char *io_uring_dmabuf_stage_name(unsigned int stage);

/* A buffer of any process, for one of its devices */
struct io_uring_dmabuf_stat {
	int32_t pid;
	int32_t ring_fd;		/* of that process */
	struct io_uring_dmabuf_map map;	/* nr_targets 0: sends from it are copied only */
};

/*
 * Calls @each for all of process @pid (0: this one), until it does not return 0, which
 * then is returned. -ESRCH: no such process; -EACCES: it is another user's; -EAGAIN: a
 * ring was busy for half a second
 */
int io_uring_dmabuf_stat(int pid, int (*each)(const struct io_uring_dmabuf_stat *stat, void *arg),
			 void *arg);

/* ---- registration; @why may be NULL ---- */

/* The whole dma-buf for one target. The ring has a table of buffers. */
int io_uring_dmabuf_register(struct io_uring *ring, unsigned int slot,
			     int dmabuf_fd, int target_fd, unsigned int flags,
			     struct io_uring_dmabuf_reason *why);
/* @size bytes of it from @off on, multiples of 4096 (0: to its end), for several */
int io_uring_dmabuf_register_range(struct io_uring *ring, unsigned int slot,
				   int dmabuf_fd, uint64_t off, uint64_t size,
				   const int *targets, unsigned int nr_targets,
				   unsigned int flags,
				   struct io_uring_dmabuf_reason *why);
/* More targets for a buffer that may be in use */
int io_uring_dmabuf_add_targets(struct io_uring *ring, unsigned int slot,
				const int *targets, unsigned int nr_targets,
				struct io_uring_dmabuf_reason *why);
int io_uring_dmabuf_unregister(struct io_uring *ring, unsigned int slot);
/* Slots from @off on: how many were updated, or the error of the first. @tags: or NULL */
int io_uring_dmabuf_update(struct io_uring *ring, unsigned int off,
			   const struct io_uring_dmabuf_desc *descs,
			   const uint64_t *tags, unsigned int nr);
/* A table of @nr slots for a ring that has none: all of them, or an error */
int io_uring_dmabuf_register_table(struct io_uring *ring,
				   const struct io_uring_dmabuf_desc *descs,
				   const uint64_t *tags, unsigned int nr);
/*
 * One line for people: what failed, on what, why, and what to do. @err is what a
 * function returned. Returns what snprintf() does.
 */
int io_uring_dmabuf_explain(int err, const struct io_uring_dmabuf_reason *why,
			    char *text, size_t size);

/* ---- requests: what is an address elsewhere is an offset in the buffer ---- */

/* liburing of Debian 12 and 13 has neither */
#define IO_URING_DMABUF_OP_READV_FIXED	60
#define IO_URING_DMABUF_OP_WRITEV_FIXED	61
/* io_uring_sqe.ioprio of a send that is a vector of offsets */
#define IO_URING_DMABUF_SEND_FIXED_BUF	(1U << 2)
/* @zc_flags of sends: entries of a buffer ring, as many as fit, in one message */
#define IO_URING_DMABUF_SEND_BUNDLE	(1U << 4)
/* one completion, when the memory may change (IO_URING_DMABUF_FEATURE_SINGLE_CQE) */
#define IO_URING_DMABUF_SEND_SINGLE_CQE	(1U << 6)
/* io_uring_cqe.flags of such a send, if it was asked whether data is copied: it was */
#define IO_URING_DMABUF_CQE_COPIED	(1U << 6)
/* what io_uring_buf.addr of a registered buffer is made of: its slot above its offset */
#define IO_URING_DMABUF_BUF_SHIFT	48

static inline void
io_uring_prep_read_dmabuf(struct io_uring_sqe *sqe, int fd, uint64_t buf_off,
			  unsigned int len, uint64_t offset, unsigned int slot)
{
	io_uring_prep_read_fixed(sqe, fd, (void *)(uintptr_t)buf_off, len, offset, (int)slot);
}

static inline void
io_uring_prep_write_dmabuf(struct io_uring_sqe *sqe, int fd, uint64_t buf_off,
			   unsigned int len, uint64_t offset, unsigned int slot)
{
	io_uring_prep_write_fixed(sqe, fd, (const void *)(uintptr_t)buf_off, len, offset,
				  (int)slot);
}

/* @iov: of offsets */
static inline void
io_uring_prep_readv_dmabuf(struct io_uring_sqe *sqe, int fd, const struct iovec *iov,
			   unsigned int nr, uint64_t offset, unsigned int slot)
{
	io_uring_prep_readv(sqe, fd, iov, nr, offset);
	sqe->opcode = IO_URING_DMABUF_OP_READV_FIXED;
	sqe->buf_index = (uint16_t)slot;
}

static inline void
io_uring_prep_writev_dmabuf(struct io_uring_sqe *sqe, int fd, const struct iovec *iov,
			    unsigned int nr, uint64_t offset, unsigned int slot)
{
	io_uring_prep_writev(sqe, fd, iov, nr, offset);
	sqe->opcode = IO_URING_DMABUF_OP_WRITEV_FIXED;
	sqe->buf_index = (uint16_t)slot;
}

static inline void
io_uring_prep_send_zc_dmabuf(struct io_uring_sqe *sqe, int sockfd, uint64_t buf_off,
			     size_t len, int flags, unsigned int zc_flags,
			     unsigned int slot)
{
	io_uring_prep_send_zc_fixed(sqe, sockfd, (const void *)(uintptr_t)buf_off, len, flags,
				    zc_flags, slot);
}

/* @msg: its vector is of offsets */
static inline void
io_uring_prep_sendmsg_zc_dmabuf(struct io_uring_sqe *sqe, int sockfd,
				const struct msghdr *msg, unsigned int flags,
				unsigned int slot)
{
	io_uring_prep_sendmsg_zc(sqe, sockfd, msg, flags);
	sqe->ioprio |= IO_URING_DMABUF_SEND_FIXED_BUF;
	sqe->buf_index = (uint16_t)slot;
}

/*
 * Buffer rings whose entries are parts of registered buffers, of any kind
 * (IO_URING_DMABUF_FEATURE_PROVIDED): as io_uring_buf_ring_add(), and what follows it is the same
 */
static inline void
io_uring_dmabuf_buf_ring_add(struct io_uring_buf_ring *br, unsigned int slot, uint64_t buf_off,
			     unsigned int len, unsigned short bid, int mask, int buf_offset)
{
	struct io_uring_buf *buf = &br->bufs[(br->tail + buf_offset) & mask];

	buf->addr = (uint64_t)slot << IO_URING_DMABUF_BUF_SHIFT | buf_off;
	buf->len = len;
	buf->bid = bid;
}

/* Into the next entry of the ring, @len bytes at most; 0: all of it */
static inline void
io_uring_prep_read_provided_dmabuf(struct io_uring_sqe *sqe, int fd, unsigned int len,
				   uint64_t offset, unsigned int group)
{
	io_uring_prep_read_fixed(sqe, fd, NULL, len, offset, (int)group);
	sqe->flags |= IOSQE_BUFFER_SELECT;
}

/* The next entry, or with IO_URING_DMABUF_SEND_BUNDLE the next ones, @len bytes at most; 0: all */
static inline void
io_uring_prep_send_zc_provided_dmabuf(struct io_uring_sqe *sqe, int sockfd, size_t len,
				      int flags, unsigned int zc_flags, unsigned int group)
{
	io_uring_prep_send_zc_fixed(sqe, sockfd, NULL, len, flags, zc_flags, group);
	sqe->flags |= IOSQE_BUFFER_SELECT;
}

/* ---- memory ---- */

struct dmabuf_mem_ops;

/**
 * struct dmabuf_mem - memory that is, or is behind, a dma-buf
 * @fd:		the dma-buf; -1: it is none ("host")
 * @off:	where the memory begins in it
 * @size:	bytes
 * @ptr:	where the process sees it, or NULL
 * @device_ptr:	where programs of its device see it (a CUDA pointer), or 0
 * @ops:	private
 * @priv:	private
 */
struct dmabuf_mem {
	int fd;
	uint64_t off;
	size_t size;
	void *ptr;
	uint64_t device_ptr;
	const struct dmabuf_mem_ops *ops;
	void *priv;
};

/*
 * @spec: where from; @size bytes, rounded up to what the source makes:
 *   udmabuf		pages of this process
 *   heap:NAME		/dev/dma_heap/NAME
 *   cuda:N		memory of NVIDIA's GPU number N
 *   fd:N		a dma-buf that the process has; @size 0: all of it
 *   host		pages of this process that are no dma-buf: DMABUF_IO_BOUNCE only
 * dmabuf_mem_why() says more of an error.
 */
int dmabuf_mem_open(struct dmabuf_mem *mem, const char *spec, size_t size);
/*
 * Memory that a device's own library has allocated in this process, of any alignment: a
 * CUDA pointer. The dma-buf is somewhat larger; @mem->off is where the memory begins in it.
 */
int dmabuf_mem_from_ptr(struct dmabuf_mem *mem, const void *ptr, size_t size);
void dmabuf_mem_close(struct dmabuf_mem *mem);
/*
 * By the CPU, with what the exporter wants to be told before and after; or by the device's
 * own library
 */
int dmabuf_mem_copy_to(struct dmabuf_mem *mem, uint64_t off, const void *from, size_t len);
int dmabuf_mem_copy_from(struct dmabuf_mem *mem, uint64_t off, void *to, size_t len);
/* Of this thread's last error: what, and what to do; "" if there was none */
const char *dmabuf_mem_why(void);

/* ---- I/O from any thread, see dmabuf_io_open(3) ---- */

/*
 * A ring, its buffers and its targets, which any thread may use at any time. Memory is added
 * before it is known where its data goes; targets are added and prepared later. There is no
 * thread of its own: what goes in parts goes on while somebody reaps, waits or submits.
 */
struct dmabuf_io;

struct dmabuf_io_params {
	uint32_t depth;			/* requests in flight at most; 0: 128 */
	uint32_t max_buffers;		/* 0: 64 */
	uint32_t max_targets;		/* 0: 64 */
	uint32_t flags;			/* 0 */
	uint64_t resv[2];
};

/* @params: NULL: all 0 */
int dmabuf_io_open(struct dmabuf_io **io, const struct dmabuf_io_params *params);
/* Cancels what is in flight, and waits for it; nobody may be in another function */
void dmabuf_io_close(struct dmabuf_io *io);

/* dmabuf_io_add_buffer() only: by way of memory of the CPU, for any kernel and any target */
#define DMABUF_IO_BOUNCE	(1U << 31)

/*
 * Numbers for requests. @mem stays open until its buffer is removed; @fd may be closed.
 * @flags: IO_URING_DMABUF_*, of registration, or DMABUF_IO_BOUNCE. Nothing is registered yet.
 */
int dmabuf_io_add_buffer(struct dmabuf_io *io, struct dmabuf_mem *mem, unsigned int flags);
int dmabuf_io_add_target(struct dmabuf_io *io, int fd);
/* -EBUSY: a request is in flight */
int dmabuf_io_remove_buffer(struct dmabuf_io *io, int buffer);
int dmabuf_io_remove_target(struct dmabuf_io *io, int target);
/*
 * Registers @buffer for the device of @target, if it is not; waits for the exporter.
 * @why: or NULL
 */
int dmabuf_io_prepare(struct dmabuf_io *io, int buffer, int target,
		      struct io_uring_dmabuf_reason *why);
/* As io_uring_dmabuf_map_info() */
int dmabuf_io_map_info(struct dmabuf_io *io, int buffer, unsigned int target,
		       struct io_uring_dmabuf_map *map);

/* dmabuf_io_request.op */
enum {
	DMABUF_IO_READ	= 0,		/* from a file or block device to the buffer */
	DMABUF_IO_WRITE	= 1,
	DMABUF_IO_SEND	= 2,		/* to a socket, in the order of submission */
};

/* dmabuf_io_request.flags: only dmabuf_io_wait() gives it back, whoever reaps meanwhile */
#define DMABUF_IO_WAITED	(1U << 0)

/**
 * struct dmabuf_io_request - bytes from one place to another; zeroed at first
 * @op:		DMABUF_IO_*
 * @flags:	DMABUF_IO_WAITED
 * @buffer:	a number of dmabuf_io_add_buffer()
 * @target:	a number of dmabuf_io_add_target()
 * @buffer_off:	where in the memory
 * @target_off:	where in the file
 * @size:	bytes
 * @user_data:	the caller's
 * @result:	when it is done: bytes, fewer than @size only at the end of a file; or -errno
 * @moved:	when it is done: bytes, also if it failed
 * @copied:	bytes of these that the CPU has copied: DMABUF_IO_BOUNCE and
 *		IO_URING_DMABUF_COPY_OK
 * @priv:	the library's
 */
struct dmabuf_io_request {
	uint32_t op;
	uint32_t flags;
	int32_t buffer;
	int32_t target;
	uint64_t buffer_off;
	uint64_t target_off;
	uint64_t size;
	uint64_t user_data;
	int64_t result;
	uint64_t moved;
	uint64_t copied;
	uint64_t priv[8];
};

/*
 * How many of @requests have been taken, from the first on, or why the first was not:
 * -EAGAIN: as many as can be are in flight. One that was taken stays where it is, until
 * dmabuf_io_reap() has given it back or dmabuf_io_wait() has returned 0 for it; where one
 * thread reaps, what others wait for has DMABUF_IO_WAITED.
 */
int dmabuf_io_submit(struct dmabuf_io *io, struct dmabuf_io_request *const *requests,
		     unsigned int nr);
/* Milliseconds; -1: without an end. How many are done, 0 after the time; -EINTR */
int dmabuf_io_reap(struct dmabuf_io *io, struct dmabuf_io_request **requests,
		   unsigned int max, int timeout);
/* 0: it is done. -ETIMEDOUT, -EINTR: not yet. -EINVAL: it was never submitted */
int dmabuf_io_wait(struct dmabuf_io *io, struct dmabuf_io_request *request, int timeout);
/* Asks for its end, which may be any result; 0, or -EINVAL: it is not in flight */
int dmabuf_io_cancel(struct dmabuf_io *io, struct dmabuf_io_request *request);
/* For poll(2): an eventfd, which counts up when dmabuf_io_reap() may have something */
int dmabuf_io_event_fd(struct dmabuf_io *io);

#ifdef __cplusplus
}
#endif
#endif
