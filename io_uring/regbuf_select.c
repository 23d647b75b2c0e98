// SPDX-License-Identifier: GPL-2.0
/*
 * Provided registered buffers: an entry of a buffer ring names a slot and an offset into it
 * (IOU_PBUF_REGBUF_SHIFT), so that one request can take the next range, or several.
 *
 * All or nothing: entries are looked at, their slot is found and the ranges are imported
 * before the ring's head moves, all under ->uring_lock. What is wrong with an entry takes
 * nothing.
 */
#include <linux/kernel.h>
#include <linux/errno.h>
#include <linux/uio.h>
#include <linux/io_uring.h>

#include <uapi/linux/io_uring.h>

#include "io_uring.h"
#include "kbuf.h"
#include "rsrc.h"
#include "regbuf.h"
#include "regbuf_dmabuf.h"
#include "regbuf_select.h"

#define IO_REGBUF_OFF_MASK	((1ULL << IOU_PBUF_REGBUF_SHIFT) - 1)

/* The application may change an entry at any time: each field is read once */
static void io_regbuf_read_entry(const struct io_buffer_list *bl, __u16 head,
				 u64 *addr, u32 *len, u16 *bid)
{
	const struct io_uring_buf *buf = &bl->buf_ring->bufs[head & bl->mask];

	*addr = READ_ONCE(buf->addr);
	*len = READ_ONCE(buf->len);
	*bid = READ_ONCE(buf->bid);
}

/*
 * Offsets and lengths of entries of one slot go to the start of @iov: how many. Of the
 * last one only a part may fit into @sel->len; a ring of which entries are taken as a
 * whole (not IOBL_INC) gives a part only of the first.
 */
static int io_regbuf_peek(const struct io_buffer_list *bl, unsigned int nr_max,
			  struct io_regbuf_select *sel, struct iovec *iov,
			  u16 *slot, u16 *first)
{
	size_t left = min_not_zero(sel->len, (size_t)MAX_RW_COUNT);
	__u16 head = bl->head;
	unsigned int n;

	for (n = 0; n < nr_max && left; n++, head++) {
		u64 addr, off;
		u16 bid;
		u32 len;

		io_regbuf_read_entry(bl, head, &addr, &len, &bid);
		off = addr & IO_REGBUF_OFF_MASK;
		if (!n) {
			*slot = addr >> IOU_PBUF_REGBUF_SHIFT;
			*first = bid;
		} else if (*slot != addr >> IOU_PBUF_REGBUF_SHIFT) {
			break;
		}
		if (len > left) {
			if (n && !(bl->flags & IOBL_INC))
				break;
			len = left;
		}
		if (!len)
			break;
		/* an iovec of a 32-bit kernel has no room for it */
		if (off != (uintptr_t)off)
			return -EFAULT;
		iov[n].iov_base = u64_to_user_ptr(off);
		iov[n].iov_len = len;
		left -= len;
	}
	sel->len = min_not_zero(sel->len, (size_t)MAX_RW_COUNT) - left;
	return n ?: -ENOBUFS;
}

static int io_regbuf_import(struct io_kiocb *holder, struct io_regbuf_select *sel,
			    struct iovec *iov, unsigned int nr, u64 base,
			    unsigned int issue_flags)
{
	struct iovec *end = sel->vec->iovec + sel->vec->nr - nr;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		uintptr_t start;

		if (check_add_overflow((uintptr_t)iov[i].iov_base,
				       (uintptr_t)base, &start))
			return -EFAULT;
		iov[i].iov_base = (void __user *)start;
	}
	if (nr == 1)
		return io_import_reg_buf_dma(holder, sel->iter,
					     (u64)(uintptr_t)iov->iov_base,
					     iov->iov_len, sel->ddir, issue_flags);
	/* where it is taken from, for bio_vecs are made in front of it */
	memmove(end, iov, nr * sizeof(*iov));
	return io_import_reg_vec_dma(sel->ddir, sel->iter, holder, sel->vec, nr,
				     issue_flags);
}

static int __io_regbuf_select(struct io_kiocb *req, struct io_kiocb *holder,
			      struct io_regbuf_select *sel)
{
	/* the lock is held */
	const unsigned int issue_flags = 0;
	struct io_ring_ctx *ctx = req->ctx;
	struct iovec single, *iov = &single;
	struct io_rsrc_node *node;
	struct io_buffer_list *bl;
	unsigned int nr;
	u16 slot, bid;
	int n, ret;

	bl = xa_load(&ctx->io_bl_xa, sel->group);
	if (!bl)
		return -ENOENT;
	if (!(bl->flags & IOBL_BUF_RING))
		return -EINVAL;
	/* entries are written before the tail is, by the application */
	nr = (__u16)(smp_load_acquire(&bl->buf_ring->tail) - bl->head);
	nr = min(nr, sel->nr_max);
	if (!nr)
		return -ENOBUFS;
	if (nr > 1) {
		if (sel->vec->nr < nr && io_vec_realloc(sel->vec, nr))
			return -ENOMEM;
		iov = sel->vec->iovec;
	}
	n = io_regbuf_peek(bl, nr, sel, iov, &slot, &bid);
	if (n < 0)
		return n;

	holder->buf_index = slot;
	node = io_find_buf_node(holder, issue_flags);
	if (!node)
		return -EFAULT;
	if (sel->copied && !io_regbuf_node_may_copy(node))
		return -EOPNOTSUPP;
	sel->addr = (uintptr_t)iov->iov_base + node->buf->ubuf;
	ret = io_regbuf_import(holder, sel, iov, n, node->buf->ubuf, issue_flags);
	if (ret)
		return ret;

	/* nothing else can fail: take them. They are not given back */
	req->buf_index = bid;
	req->flags |= REQ_F_BUFFER_RING | REQ_F_BUFFERS_COMMIT | REQ_F_BL_NO_RECYCLE;
	if (!io_kbuf_commit(req, bl, sel->len, n))
		req->flags |= REQ_F_BUF_MORE;
	return 0;
}

/**
 * io_regbuf_select - take the next ranges that a buffer ring names
 * @req:	the request, which does not have any yet
 * @holder:	whose ->buf_node the slot becomes: the notification of a zerocopy send, or
 *		@req
 * @sel:	what is wanted, and where it goes
 * @issue_flags: IO_URING_F_*
 *
 * The ranges are of one slot: they end before the first entry of another.
 *
 * Context: process context.
 * Return: 0, and the request has a buffer ID for its CQE. -ENOENT: there is no such group;
 * -EINVAL: it is no ring; -ENOBUFS: it is empty, or its first entry is; -EFAULT: there is
 * no such slot, or the range is not in it, or not for this direction; -EOPNOTSUPP: it may
 * not be copied; -ENOMEM. Nothing is taken of the ring then.
 */
int io_regbuf_select(struct io_kiocb *req, struct io_kiocb *holder,
		     struct io_regbuf_select *sel, unsigned int issue_flags)
{
	int ret;

	io_ring_submit_lock(req->ctx, issue_flags);
	ret = __io_regbuf_select(req, holder, sel);
	io_ring_submit_unlock(req->ctx, issue_flags);
	return ret;
}
