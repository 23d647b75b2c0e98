// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "uring.h"

const struct uring_kind uring_kinds[URING_KINDS] = {
	{ "plain", .setup = 0 },
	{ "DEFER_TASKRUN",
	  .setup = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN },
	{ "SQPOLL", .setup = IORING_SETUP_SQPOLL },
	{ "IOSQE_ASYNC", .sqe_flags = IOSQE_ASYNC },
};

static int uring_enter(int fd, unsigned int submit, unsigned int wait,
		       unsigned int flags, void *arg, size_t len)
{
	long ret = syscall(__NR_io_uring_enter, fd, submit, wait, flags, arg, len);

	return ret < 0 ? -errno : (int)ret;
}

int uring_register(int fd, unsigned int op, const void *arg, unsigned int nr)
{
	long ret = syscall(__NR_io_uring_register, fd, op, arg, nr);

	return ret < 0 ? -errno : (int)ret;
}

int uring_init(struct uring *r, unsigned int entries, unsigned int flags)
{
	struct io_uring_params p = { .flags = flags | IORING_SETUP_NO_SQARRAY };
	size_t cqe = sizeof(struct io_uring_cqe) << !!(flags & IORING_SETUP_CQE32);
	size_t sqe = sizeof(struct io_uring_sqe) << !!(flags & IORING_SETUP_SQE128);
	char *base;

	memset(r, 0, sizeof(*r));
	p.sq_thread_idle = 50;
	r->fd = syscall(__NR_io_uring_setup, entries, &p);
	if (r->fd < 0)
		return -errno;

	r->flags = p.flags;
	r->entries = p.sq_entries;
	r->map_len = p.cq_off.cqes + p.cq_entries * cqe;
	r->sqes_len = p.sq_entries * sqe;
	r->map = mmap(NULL, r->map_len, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQ_RING);
	r->sqes = mmap(NULL, r->sqes_len, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQES);
	if (r->map == MAP_FAILED || r->sqes == MAP_FAILED) {
		close(r->fd);
		return -ENOMEM;
	}
	base = r->map;
	r->sq_head = (void *)(base + p.sq_off.head);
	r->sq_tail = (void *)(base + p.sq_off.tail);
	r->sq_flags = (void *)(base + p.sq_off.flags);
	r->sq_mask = *(unsigned int *)(base + p.sq_off.ring_mask);
	r->cq_head = (void *)(base + p.cq_off.head);
	r->cq_tail = (void *)(base + p.cq_off.tail);
	r->cq_mask = *(unsigned int *)(base + p.cq_off.ring_mask);
	r->cqes = (void *)(base + p.cq_off.cqes);
	return 0;
}

void uring_exit(struct uring *r)
{
	if (!r->map)
		return;
	munmap(r->sqes, r->sqes_len);
	munmap(r->map, r->map_len);
	close(r->fd);
	memset(r, 0, sizeof(*r));
	r->fd = -1;
}

struct io_uring_sqe *uring_sqe(struct uring *r)
{
	unsigned int head = __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE);
	unsigned int shift = !!(r->flags & IORING_SETUP_SQE128);
	struct io_uring_sqe *sqe;

	if (r->local_tail - head >= r->entries)
		return NULL;
	sqe = &r->sqes[(r->local_tail++ & r->sq_mask) << shift];
	memset(sqe, 0, sizeof(*sqe) << shift);
	return sqe;
}

static int submit(struct uring *r, unsigned int wait, void *arg, size_t size)
{
	unsigned int nr = r->local_tail - *r->sq_tail;
	unsigned int flags = 0;

	__atomic_store_n(r->sq_tail, r->local_tail, __ATOMIC_RELEASE);
	if (r->flags & IORING_SETUP_SQPOLL) {
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (__atomic_load_n(r->sq_flags, __ATOMIC_RELAXED) &
		    IORING_SQ_NEED_WAKEUP)
			flags |= IORING_ENTER_SQ_WAKEUP;
		if (!flags && !wait)
			return nr;
	}
	if (wait || r->flags & IORING_SETUP_IOPOLL)
		flags |= IORING_ENTER_GETEVENTS;
	if (arg)
		flags |= IORING_ENTER_EXT_ARG;
	return uring_enter(r->fd, nr, wait, flags, arg, size);
}

int uring_submit(struct uring *r, unsigned int wait)
{
	return submit(r, wait, NULL, 0);
}

int uring_submit_for(struct uring *r, unsigned int wait, int timeout_ms)
{
	struct __kernel_timespec ts = {
		.tv_sec = timeout_ms / 1000,
		.tv_nsec = timeout_ms % 1000 * 1000000LL,
	};
	struct io_uring_getevents_arg arg = { .ts = (uintptr_t)&ts };

	return submit(r, wait, &arg, sizeof(arg));
}

int uring_peek(struct uring *r, struct uring_res *res)
{
	unsigned int shift = !!(r->flags & IORING_SETUP_CQE32);
	unsigned int head = *r->cq_head, big;
	struct io_uring_cqe *cqe;

	if (head == __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE))
		return 0;
	cqe = &r->cqes[(head & r->cq_mask) << shift];
	/* IORING_SETUP_CQE_MIXED: fills the end of the queue */
	if (cqe->flags & IORING_CQE_F_SKIP) {
		__atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE);
		return uring_peek(r, res);
	}
	res->user_data = cqe->user_data;
	res->res = cqe->res;
	res->flags = cqe->flags;
	big = !shift && cqe->flags & IORING_CQE_F_32;
	res->extra = shift || big ? cqe->big_cqe[0] : 0;
	__atomic_store_n(r->cq_head, head + 1 + big, __ATOMIC_RELEASE);
	return 1;
}

unsigned int uring_ready(const struct uring *r)
{
	return __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE) - *r->cq_head;
}

int uring_wait(struct uring *r, struct uring_res *res, int timeout_ms)
{
	struct __kernel_timespec ts = {
		.tv_sec = timeout_ms / 1000,
		.tv_nsec = timeout_ms % 1000 * 1000000LL,
	};
	struct io_uring_getevents_arg arg = { .ts = (uintptr_t)&ts };
	int ret;

	while (!uring_peek(r, res)) {
		ret = uring_enter(r->fd, 0, 1,
				  IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
				  &arg, sizeof(arg));
		if (ret < 0 && ret != -EINTR && !uring_ready(r))
			return ret;
	}
	return 0;
}

bool uring_quiet(struct uring *r, int timeout_ms)
{
	struct uring_res res;

	return uring_wait(r, &res, timeout_ms) == -ETIME;
}

int uring_do(struct uring *r)
{
	struct uring_res res;
	int ret = uring_submit(r, 1);

	if (ret < 0)
		return ret;
	ret = uring_wait(r, &res, 60000);
	return ret < 0 ? ret : res.res;
}

struct io_uring_sqe *uring_prep_rw(struct uring *r, __u8 op, int fd, __u64 off,
				   __u64 addr, __u32 len, __u16 slot)
{
	struct io_uring_sqe *sqe = uring_sqe(r);

	if (!sqe)
		return NULL;
	sqe->opcode = op;
	sqe->fd = fd;
	sqe->off = off;
	sqe->addr = addr;
	sqe->len = len;
	sqe->buf_index = slot;
	return sqe;
}

int uring_rw(struct uring *r, __u8 op, int fd, __u64 off, __u64 addr,
	     __u32 len, __u16 slot)
{
	if (!uring_prep_rw(r, op, fd, off, addr, len, slot))
		return -EBUSY;
	return uring_do(r);
}

int reg_sparse(struct uring *r, unsigned int nr)
{
	struct io_uring_rsrc_register reg = {
		.nr = nr,
		.flags = IORING_RSRC_REGISTER_SPARSE,
	};

	return uring_register(r->fd, IORING_REGISTER_BUFFERS2, &reg, sizeof(reg));
}

int reg_table(struct uring *r, const struct io_uring_regbuf_desc *descs,
	      const __u64 *tags, unsigned int nr)
{
	struct io_uring_rsrc_register reg = {
		.nr = nr,
		.flags = IORING_RSRC_UPDATE_EXTENDED,
		.data = (uintptr_t)descs,
		.tags = (uintptr_t)tags,
	};

	return uring_register(r->fd, IORING_REGISTER_BUFFERS2, &reg, sizeof(reg));
}

int reg_update(struct uring *r, unsigned int offset,
	       const struct io_uring_regbuf_desc *descs, const __u64 *tags,
	       unsigned int nr)
{
	struct io_uring_rsrc_update2 up = {
		.offset = offset,
		.flags = IORING_RSRC_UPDATE_EXTENDED,
		.data = (uintptr_t)descs,
		.tags = (uintptr_t)tags,
		.nr = nr,
	};

	return uring_register(r->fd, IORING_REGISTER_BUFFERS_UPDATE, &up,
			      sizeof(up));
}

int reg_plain(struct uring *r, unsigned int offset, const struct iovec *iov,
	      const __u64 *tags, unsigned int nr)
{
	struct io_uring_rsrc_update2 up = {
		.offset = offset,
		.data = (uintptr_t)iov,
		.tags = (uintptr_t)tags,
		.nr = nr,
	};

	return uring_register(r->fd, IORING_REGISTER_BUFFERS_UPDATE, &up,
			      sizeof(up));
}

int reg_unregister(struct uring *r)
{
	return uring_register(r->fd, IORING_UNREGISTER_BUFFERS, NULL, 0);
}

int reg_clone(struct uring *dst, struct uring *src)
{
	struct io_uring_clone_buffers arg = { .src_fd = src->fd };

	return uring_register(dst->fd, IORING_REGISTER_CLONE_BUFFERS, &arg, 1);
}

int reg_one(struct uring *r, unsigned int slot,
	    const struct io_uring_regbuf_desc *desc)
{
	int ret = reg_update(r, slot, desc, NULL, 1);

	return ret == 1 ? 0 : ret;
}

int reg_why(struct uring *r, unsigned int slot,
	    const struct io_uring_regbuf_desc *desc,
	    struct io_uring_regbuf_reason *why)
{
	struct io_uring_regbuf_desc d = *desc;

	memset(why, REASON_POISON, sizeof(*why));
	why->size = sizeof(*why);
	d.reason = (uintptr_t)why;
	return reg_one(r, slot, &d);
}

bool reason_untouched(const struct io_uring_regbuf_reason *why)
{
	struct io_uring_regbuf_reason as_was;

	memset(&as_was, REASON_POISON, sizeof(as_was));
	as_was.size = sizeof(as_was);
	return !memcmp(why, &as_was, sizeof(as_was));
}

int reg_clear(struct uring *r, unsigned int slot)
{
	struct io_uring_regbuf_desc d = desc_empty();

	return reg_one(r, slot, &d);
}

int reg_dmabuf(struct uring *r, unsigned int slot, int dmabuf, int target)
{
	return reg_flags(r, slot, dmabuf, target, 0);
}

int reg_flags(struct uring *r, unsigned int slot, int dmabuf, int target, __u32 flags)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(dmabuf, target);

	d.flags = flags;
	return reg_one(r, slot, &d);
}

struct io_uring_regbuf_desc desc_dmabuf(int dmabuf, int target)
{
	return (struct io_uring_regbuf_desc) {
		.type = IO_REGBUF_TYPE_DMABUF,
		.dmabuf_fd = dmabuf,
		.target_fd = target,
	};
}

struct io_uring_regbuf_desc desc_uaddr(void *addr, size_t len)
{
	return (struct io_uring_regbuf_desc) {
		.type = IO_REGBUF_TYPE_UADDR,
		.uaddr = (uintptr_t)addr,
		.size = len,
	};
}

struct io_uring_regbuf_desc desc_empty(void)
{
	return (struct io_uring_regbuf_desc) { .type = IO_REGBUF_TYPE_EMPTY };
}

struct io_uring_regbuf_desc desc_add(int target)
{
	return (struct io_uring_regbuf_desc) {
		.type = IO_REGBUF_TYPE_DMABUF,
		.flags = IO_REGBUF_DMABUF_ADD_TARGETS,
		.dmabuf_fd = -1,
		.target_fd = target,
	};
}

int query(int fd, unsigned int op, void *data, __u32 *len)
{
	struct io_uring_query_hdr hdr = {
		.query_data = (uintptr_t)data,
		.query_op = op,
		.size = *len,
	};
	int ret = uring_register(fd, IORING_REGISTER_QUERY, &hdr, 0);

	*len = hdr.size;
	return ret < 0 ? ret : hdr.result;
}

int query_regbuf(struct io_uring_query_regbuf *q)
{
	__u32 len = sizeof(*q);

	memset(q, 0, sizeof(*q));
	return query(-1, IO_URING_QUERY_REGBUF, q, &len);
}

int query_map(struct uring *r, unsigned int slot, unsigned int target,
	      struct io_uring_query_regbuf_map *q)
{
	__u32 len = sizeof(*q);

	memset(q, 0, sizeof(*q));
	q->slot = slot;
	q->target = target;
	return query(r->fd, IO_URING_QUERY_REGBUF_MAP, q, &len);
}

bool kernel_has_regbuf(void)
{
	struct io_uring_query_regbuf q;

	return query_regbuf(&q) == 0;
}
