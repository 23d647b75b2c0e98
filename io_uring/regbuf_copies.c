// SPDX-License-Identifier: GPL-2.0
/*
 * Areas of zero-copy receive that the CPU writes to.
 *
 * What arrives where no card has written it to the area is copied there, if the slot
 * was registered with IO_REGBUF_DMABUF_COPY_OK: by the slot's mapping for the CPU,
 * which an area has from its beginning on. While the exporter has work to do on the
 * memory nothing is copied. Requests run with the lock of their ring, so that nobody
 * waits for it: the end of its fences wakes the socket.
 */
#include <linux/kernel.h>
#include <linux/errno.h>
#include <linux/dma-buf.h>
#include <linux/dma-fence.h>
#include <linux/dma-iobuf.h>
#include <linux/dma-resv.h>
#include <linux/highmem.h>
#include <linux/iosys-map.h>
#include <linux/rbtree.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <linux/io_uring.h>
#include <net/sock.h>

#include <uapi/linux/io_uring.h>

#include "io_uring.h"
#include "rsrc.h"
#include "regbuf.h"
#include "regbuf_dmabuf.h"
#include "regbuf_zcrx.h"

/* what the CPU writes waits for everybody who reads or writes the memory */
#define IO_REGBUF_FENCES	dma_resv_usage_rw(true)

/**
 * struct io_regbuf_copies - how the CPU writes to an area
 * @reg:	what was in the slot, mapped
 * @refs:	the area, requests that copy, and @work if there are any @waiting
 * @lock:	the following
 * @waiting:	&struct io_regbuf_waiter by socket; @work is queued if there are any, or
 *		will be by @fence
 * @fence:	the fence that is waited for, with a reference, or %NULL
 * @ended:	there is no area any more
 * @done:	queues @work
 * @work:	waits for the next fence, or wakes
 */
struct io_regbuf_copies {
	struct io_regbuf	*reg;
	refcount_t		refs;
	spinlock_t		lock;		/* waiting, fence, ended */
	struct rb_root		waiting;
	struct dma_fence	*fence;
	bool			ended;
	struct dma_fence_cb	done;
	struct work_struct	work;
};

/* a socket whose data has to wait, with a reference */
struct io_regbuf_waiter {
	struct rb_node		node;
	struct sock		*sk;
};

static void io_regbuf_copies_drop(struct io_regbuf_copies *c)
{
	if (!refcount_dec_and_test(&c->refs))
		return;
	io_regbuf_drop(c->reg);
	kfree(c);
}

static void io_regbuf_copies_work(struct work_struct *work);

/**
 * io_regbuf_copies_begin - let the CPU write to a part of a slot
 * @area:	the area, of that part
 * @node:	the slot, with a reference
 * @off:	offset in it in bytes
 * @len:	bytes
 *
 * What is in the slot is kept for the area then, with its targets, as a clone does.
 *
 * Context: process context, no lock is held; waits for the exporter, until it is
 * killed.
 * Return: 0; -EOPNOTSUPP: it may not be copied, or the exporter cannot map it for
 * the CPU; -ENOMEM; -EINTR; or what else the exporter says. Then nothing is left.
 */
int io_regbuf_copies_begin(struct io_regbuf_area *area,
			   const struct io_rsrc_node *node, u64 off, u64 len)
{
	struct io_regbuf *reg = node->buf->priv;
	struct io_regbuf_copies *c;
	int ret;

	ret = io_regbuf_area_check(node, off, len);
	if (ret)
		return ret;
	if (!(reg->flags & IO_REGBUF_DMABUF_COPY_OK))
		return -EOPNOTSUPP;
	c = kzalloc_obj(*c, GFP_KERNEL_ACCOUNT);
	if (!c)
		return -ENOMEM;
	do {
		ret = io_regbuf_vmap(reg);
		if (ret)
			ret = io_regbuf_exporter_error(ret);
	} while (ret == -EINTR && io_regbuf_task_work());
	if (ret) {
		kfree(c);
		return ret;
	}
	io_regbuf_hold(reg);
	c->reg = reg;
	refcount_set(&c->refs, 1);
	spin_lock_init(&c->lock);
	c->waiting = RB_ROOT;
	INIT_WORK(&c->work, io_regbuf_copies_work);
	area->off = off;
	area->copies = c;
	return 0;
}

/**
 * io_regbuf_copies_get - a reference for somebody who copies
 * @to:		zeroed; given back by io_regbuf_copies_put()
 * @area:	the area; the caller sees to it that it is not ended meanwhile
 *
 * Context: any but hardirq.
 * Return: %false: it may not be copied to, or has been ended.
 */
bool io_regbuf_copies_get(struct io_regbuf_area *to,
			  const struct io_regbuf_area *area)
{
	if (!area->copies)
		return false;
	refcount_inc(&area->copies->refs);
	to->off = area->off;
	to->copies = area->copies;
	return true;
}

/**
 * io_regbuf_copies_put - give that back
 * @area:	made by io_regbuf_copies_get()
 *
 * Context: process context, any locks; does not wait.
 */
void io_regbuf_copies_put(struct io_regbuf_area *area)
{
	io_regbuf_copies_drop(area->copies);
	area->copies = NULL;
}

/**
 * io_regbuf_copies_end - the CPU does not write to it any more
 * @area:	the area; there may have been nothing to end
 *
 * Nobody waits for its exporter from here on. Who copies now goes on.
 *
 * Context: process context, any locks; does not wait.
 */
void io_regbuf_copies_end(struct io_regbuf_area *area)
{
	struct io_regbuf_copies *c = area->copies;

	if (!c)
		return;
	spin_lock(&c->lock);
	c->ended = true;
	if (c->fence && dma_fence_remove_callback(c->fence, &c->done))
		queue_work(system_dfl_wq, &c->work);
	spin_unlock(&c->lock);
	io_regbuf_copies_put(area);
}

/* ---- waiting ---- */

/*
 * Who polls it looks again at what it has. The socket is not locked: its owner may have
 * it locked for any time, and all others would wait for that. Nor is its
 * ->sk_data_ready() called: one that is not sock_def_readable() may want the lock. Of
 * a socket that has been closed meanwhile there is nobody to wake.
 */
static void io_regbuf_wake(struct io_regbuf_waiter *w)
{
	sock_def_readable(w->sk);
	sock_put(w->sk);
	kfree(w);
}

/* with the lock of the fence, and interrupts off */
static void io_regbuf_copies_done(struct dma_fence *fence,
				  struct dma_fence_cb *done)
{
	struct io_regbuf_copies *c =
		container_of(done, struct io_regbuf_copies, done);

	queue_work(system_dfl_wq, &c->work);
}

/*
 * Is there a fence to wait for? The first of them queues the work, which looks for
 * the next.
 */
static bool io_regbuf_copies_arm(struct io_regbuf_copies *c)
{
	struct dma_resv_iter cursor;
	struct dma_fence *fence;

	lockdep_assert_held(&c->lock);

	if (c->ended)
		return false;
	dma_resv_iter_begin(&cursor, c->reg->buf->dmabuf->resv,
			    IO_REGBUF_FENCES);
	dma_resv_for_each_fence_unlocked(&cursor, fence) {
		if (dma_fence_add_callback(fence, &c->done,
					   io_regbuf_copies_done))
			continue;
		c->fence = dma_fence_get(fence);
		break;
	}
	dma_resv_iter_end(&cursor);
	return c->fence;
}

static void io_regbuf_copies_work(struct work_struct *work)
{
	struct io_regbuf_copies *c =
		container_of(work, struct io_regbuf_copies, work);
	struct io_regbuf_waiter *w, *next;
	struct dma_fence *fence;
	struct rb_root woken = RB_ROOT;
	bool again;

	spin_lock(&c->lock);
	fence = c->fence;
	c->fence = NULL;
	again = io_regbuf_copies_arm(c);
	if (!again)
		swap(c->waiting, woken);
	spin_unlock(&c->lock);
	/* @work may run again from here on */
	dma_fence_put(fence);
	if (again)
		return;
	rbtree_postorder_for_each_entry_safe(w, next, &woken, node) {
		io_regbuf_wake(w);
		cond_resched();
	}
	io_regbuf_copies_drop(c);
}

static int io_regbuf_waiter_cmp(struct rb_node *a, const struct rb_node *b)
{
	const struct sock *l = rb_entry(a, struct io_regbuf_waiter, node)->sk;
	const struct sock *r = rb_entry(b, struct io_regbuf_waiter, node)->sk;

	return cmp_int(l, r);
}

/* -EAGAIN: @sk is woken when it is worth another try */
static int io_regbuf_copies_wait(struct io_regbuf_copies *c, struct sock *sk)
{
	struct io_regbuf_waiter *w = kmalloc_obj(*w, GFP_KERNEL_ACCOUNT);
	bool known, first;

	if (!w)
		return -ENOMEM;
	w->sk = sk;
	spin_lock(&c->lock);
	first = RB_EMPTY_ROOT(&c->waiting);
	known = rb_find_add(&w->node, &c->waiting, io_regbuf_waiter_cmp);
	if (!known)
		sock_hold(sk);
	if (first) {
		refcount_inc(&c->refs);
		if (!io_regbuf_copies_arm(c))
			queue_work(system_dfl_wq, &c->work);
	}
	spin_unlock(&c->lock);
	if (known)
		kfree(w);
	return -EAGAIN;
}

/*
 * dma_buf_begin_cpu_access() would wait for a fence that has come since it was looked
 * for.
 */
static int io_regbuf_begin(struct dma_buf *dmabuf)
{
	int ret = 0;

	if (dmabuf->ops->begin_cpu_access)
		ret = dmabuf->ops->begin_cpu_access(dmabuf, DMA_TO_DEVICE);
	if (ret)
		return io_regbuf_exporter_error(ret);
	if (dma_resv_test_signaled(dmabuf->resv, IO_REGBUF_FENCES))
		return 0;
	dma_buf_end_cpu_access(dmabuf, DMA_TO_DEVICE);
	return -EINTR;
}

/**
 * io_regbuf_copies_open - before the CPU writes to an area
 * @area:	the area, with &io_regbuf_area.copies
 * @sk:		the socket that has something for it, not locked
 *
 * Context: process context; does not wait for work of the exporter that is there.
 * Return: 0, and then io_regbuf_copies_close() follows; -EAGAIN: there is, and
 * @sk's pollers are woken when it is done; or another negative errno.
 */
int io_regbuf_copies_open(const struct io_regbuf_area *area, struct sock *sk)
{
	struct io_regbuf_copies *c = area->copies;
	struct dma_buf *dmabuf = c->reg->buf->dmabuf;
	int ret;

	if (!dma_resv_test_signaled(dmabuf->resv, IO_REGBUF_FENCES))
		return io_regbuf_copies_wait(c, sk);
	ret = io_regbuf_begin(dmabuf);
	/* there is now, or something else to do meanwhile */
	return ret == -EINTR ? io_regbuf_copies_wait(c, sk) : ret;
}

/**
 * io_regbuf_copies_close - after io_regbuf_copies_open()
 * @area:	the area
 */
void io_regbuf_copies_close(const struct io_regbuf_area *area)
{
	struct io_regbuf *reg = area->copies->reg;

	if (reg->vmap.is_iomem) {
		/* a device that is told to read it finds no buffer of the CPU */
		wmb();
	}
	dma_buf_end_cpu_access(reg->buf->dmabuf, DMA_TO_DEVICE);
}

/* ---- copying ---- */

/**
 * io_regbuf_copy_to - copy to an area that is open
 * @area:	the area
 * @off:	where to, from its beginning on in bytes
 * @page:	where from
 * @page_off:	bytes from its beginning on, which may be in a page behind it
 * @len:	bytes, inside of both
 *
 * Context: any but hardirq.
 */
void io_regbuf_copy_to(const struct io_regbuf_area *area, u64 off,
		       struct page *page, unsigned int page_off, size_t len)
{
	struct io_regbuf *reg = area->copies->reg;
	u64 to = reg->off + area->off + off;

	while (len) {
		size_t n = min(len, PAGE_SIZE - offset_in_page(page_off));
		void *from = kmap_local_page(page + page_off / PAGE_SIZE);

		iosys_map_memcpy_to(&reg->vmap, to,
				    from + offset_in_page(page_off), n);
		kunmap_local(from);
		page_off += n;
		to += n;
		len -= n;
	}
}

/**
 * io_regbuf_copied - the application is told of what was copied
 * @area:	the area
 * @len:	bytes
 *
 * Context: any.
 */
void io_regbuf_copied(const struct io_regbuf_area *area, size_t len)
{
	atomic64_add(len, &area->copies->reg->copied);
}
