// SPDX-License-Identifier: GPL-2.0
/*
 * RLIMIT_MEMLOCK for dma-bufs: what exists once is charged once.
 *
 * A charge belongs to a user and to a thing that takes memory, however many of
 * the user's buffers share that: a dma-buf that has to stay where it is, or an
 * attachment with its mapping table. It ends when the last of these buffers has
 * let go of the thing, not when its slot is cleared: that follows shortly after,
 * and a charge that does not fit waits for it.
 *
 * Who is charged for what is in Documentation/userspace-api/io_uring-dmabuf.rst.
 */
#include <linux/kernel.h>
#include <linux/errno.h>
#include <linux/dma-buf.h>
#include <linux/dma-iobuf.h>
#include <linux/hashtable.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/wait.h>
#include <linux/io_uring.h>

#include <uapi/linux/io_uring.h>

#include "io_uring.h"
#include "rsrc.h"
#include "regbuf_dmabuf.h"

/**
 * struct io_regbuf_user - a user who registered dma-bufs
 * @node:	in io_regbuf_users
 * @user:	who, with a reference
 * @refs:	buffers
 * @going:	buffers without a slot whose charges have not ended yet
 * @ended:	how many had charges that have
 * @charges:	&struct io_regbuf_charge
 */
struct io_regbuf_user {
	struct hlist_node	node;
	struct user_struct	*user;
	unsigned int		refs;
	unsigned int		going;
	unsigned int		ended;
	struct rb_root		charges;
};

/**
 * struct io_regbuf_charge - memory that a user is charged for
 * @node:	in &struct io_regbuf_user.charges
 * @dmabuf:	the dma-buf, with a reference
 * @att_id:	0: the memory of @dmabuf; otherwise the table of this attachment
 * @refs:	buffers of the user that need it
 * @pages:	how much
 */
struct io_regbuf_charge {
	struct rb_node		node;
	struct dma_buf		*dmabuf;
	u64			att_id;
	unsigned int		refs;
	unsigned long		pages;
};

static DEFINE_HASHTABLE(io_regbuf_users, 6);
static DEFINE_MUTEX(io_regbuf_mem_lock);	/* all of the above */
static DECLARE_WAIT_QUEUE_HEAD(io_regbuf_mem_wait);

/* ---- users ---- */

/**
 * io_regbuf_user_get - whom to charge for a buffer
 * @user:	the ring's, or NULL: nobody is charged
 *
 * Return: to be dropped with io_regbuf_charges_end(); NULL; or an ERR_PTR().
 */
struct io_regbuf_user *io_regbuf_user_get(struct user_struct *user)
{
	struct io_regbuf_user *u, *new;

	if (!user)
		return NULL;
	/* not under the lock: others would wait for the memory of this cgroup */
	new = kzalloc_obj(*new, GFP_KERNEL_ACCOUNT);
	mutex_lock(&io_regbuf_mem_lock);
	hash_for_each_possible(io_regbuf_users, u, node, (unsigned long)user)
		if (u->user == user)
			goto found;
	u = new;
	if (!u)
		goto out;
	new = NULL;
	u->user = get_uid(user);
	u->charges = RB_ROOT;
	hash_add(io_regbuf_users, &u->node, (unsigned long)user);
found:
	u->refs++;
out:
	mutex_unlock(&io_regbuf_mem_lock);
	kfree(new);
	return u ?: ERR_PTR(-ENOMEM);
}

/**
 * io_regbuf_user_hold - charge the same user for one more buffer
 * @u:		the user, or NULL
 *
 * Return: @u
 */
struct io_regbuf_user *io_regbuf_user_hold(struct io_regbuf_user *u)
{
	if (!u)
		return NULL;
	guard(mutex)(&io_regbuf_mem_lock);
	u->refs++;
	return u;
}

static void io_regbuf_user_drop(struct io_regbuf_user *u)
{
	lockdep_assert_held(&io_regbuf_mem_lock);
	if (--u->refs)
		return;
	hash_del(&u->node);
	free_uid(u->user);
	kfree(u);
}

/* ---- charges ---- */

static int io_regbuf_charge_key(const void *key, const struct rb_node *node)
{
	const struct io_regbuf_charge *a = key, *b =
		rb_entry(node, struct io_regbuf_charge, node);

	return cmp_int((unsigned long)a->dmabuf, (unsigned long)b->dmabuf) ?:
	       cmp_int(a->att_id, b->att_id);
}

static bool io_regbuf_charge_less(struct rb_node *node,
				  const struct rb_node *other)
{
	return io_regbuf_charge_key(rb_entry(node, struct io_regbuf_charge, node),
				    other) < 0;
}

static struct io_regbuf_charge *
io_regbuf_charge_find(struct io_regbuf_user *u, struct dma_buf *dmabuf,
		      u64 att_id)
{
	const struct io_regbuf_charge key = {
		.dmabuf = dmabuf,
		.att_id = att_id,
	};
	struct rb_node *node = rb_find(&key, &u->charges, io_regbuf_charge_key);

	return node ? rb_entry(node, struct io_regbuf_charge, node) : NULL;
}

/*
 * @pages is set to what there would have to be room for; @new, if it was needed, to
 * NULL.
 */
static struct io_regbuf_charge *
io_regbuf_charge_try(struct io_regbuf_user *u, struct dma_buf *dmabuf,
		     u64 att_id, unsigned long *pages,
		     struct io_regbuf_charge **new)
{
	struct io_regbuf_charge *c = io_regbuf_charge_find(u, dmabuf, att_id);

	lockdep_assert_held(&io_regbuf_mem_lock);
	if (c) {
		/* costs nothing, but who is beyond the limit gets no more */
		*pages = 0;
		if (atomic_long_read(&u->user->locked_vm) >
		    rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT)
			return ERR_PTR(-ENOMEM);
		c->refs++;
		return c;
	}
	if (!*new || __io_account_mem(u->user, *pages))
		return ERR_PTR(-ENOMEM);
	c = *new;
	*new = NULL;
	get_dma_buf(dmabuf);
	c->dmabuf = dmabuf;
	c->att_id = att_id;
	c->refs = 1;
	c->pages = *pages;
	rb_add(&c->node, &u->charges, io_regbuf_charge_less);
	return c;
}

/*
 * Charge, unless the user is charged for it already. What the user gave up, but
 * is still there, is waited for: no one else's exporter.
 */
static struct io_regbuf_charge *
io_regbuf_charge(struct io_regbuf_user *u, struct dma_buf *dmabuf, u64 att_id,
		 unsigned long pages, struct io_regbuf_why *why)
{
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT, need;
	struct io_regbuf_charge *c, *new;
	unsigned int ended;

	/* not under the lock, see io_regbuf_user_get() */
	new = kzalloc_obj(*new, GFP_KERNEL_ACCOUNT);
	for (;;) {
		mutex_lock(&io_regbuf_mem_lock);
		need = pages;
		c = io_regbuf_charge_try(u, dmabuf, att_id, &need, &new);
		if (!IS_ERR(c) || !u->going || pages > limit)
			break;
		ended = u->ended;
		mutex_unlock(&io_regbuf_mem_lock);
		if (wait_event_killable(io_regbuf_mem_wait,
					READ_ONCE(u->ended) != ended)) {
			io_regbuf_fail(why, IO_REGBUF_STAGE_MEMLOCK, -EINTR,
				       "The caller was killed.");
			kfree(new);
			return ERR_PTR(-EINTR);
		}
	}
	if (IS_ERR(c))
		io_regbuf_why_memlock(why,
				      atomic_long_read(&u->user->locked_vm) +
				      need, limit);
	mutex_unlock(&io_regbuf_mem_lock);
	kfree(new);
	return c;
}

static void io_regbuf_uncharge(struct io_regbuf_user *u,
			       struct io_regbuf_charge *c)
{
	guard(mutex)(&io_regbuf_mem_lock);
	if (--c->refs)
		return;
	__io_unaccount_mem(u->user, c->pages);
	rb_erase(&c->node, &u->charges);
	dma_buf_put(c->dmabuf);
	kfree(c);
}

/**
 * io_regbuf_charge_mem - charge the memory of a dma-buf that has to stay
 * @reg:	the buffer that it has to stay for
 * @dmabuf:	the dma-buf
 * @why:	filled in on failure
 *
 * All of it, also for a part.
 *
 * Context: process context; may wait for buffers of the same user to go away.
 * Return: 0, also if it is charged already; -ENOMEM; -EINTR.
 */
int io_regbuf_charge_mem(struct io_regbuf *reg, struct dma_buf *dmabuf,
			 struct io_regbuf_why *why)
{
	struct io_regbuf_charge *c;

	if (!reg->user || reg->mem)
		return 0;
	c = io_regbuf_charge(reg->user, dmabuf, 0,
			     DIV_ROUND_UP(dmabuf->size, PAGE_SIZE), why);
	if (IS_ERR(c))
		return PTR_ERR(c);
	reg->mem = c;
	return 0;
}

/**
 * io_regbuf_charge_copies - charge the memory before the CPU's mapping pins it
 * @reg:	the buffer, registered with COPY_OK
 *
 * It was charged when it was registered, unless a device had it pinned where it is no RAM.
 * That device may have given way since.
 *
 * Context: as io_regbuf_charge_mem(); nobody who adds targets waits for it.
 * Return: 0; -ENOMEM; -EINTR.
 */
int io_regbuf_charge_copies(struct io_regbuf *reg)
{
	struct io_regbuf_charge *c;
	struct io_regbuf_why why = { };

	if (!reg->user || READ_ONCE(reg->mem) || io_regbuf_in_device(reg->buf))
		return 0;
	c = io_regbuf_charge(reg->user, reg->buf->dmabuf, 0,
			     DIV_ROUND_UP(reg->buf->dmabuf->size, PAGE_SIZE), &why);
	if (IS_ERR(c))
		return PTR_ERR(c);
	scoped_guard(mutex, &reg->targets_lock)
		swap(c, reg->mem);
	if (c)
		io_regbuf_uncharge(reg->user, c);
	return 0;
}

/**
 * io_regbuf_uncharge_mem - the memory does not count after all
 * @reg:	the buffer
 */
void io_regbuf_uncharge_mem(struct io_regbuf *reg)
{
	if (reg->mem)
		io_regbuf_uncharge(reg->user, reg->mem);
	reg->mem = NULL;
}

/**
 * io_regbuf_charge_tables - charge the mapping tables of a new buffer
 * @reg:	what is charged for them
 * @buf:	the new buffer, has the attachments
 * @why:	filled in on failure
 *
 * A move may change the size of a table later; the memory cgroup sees that, the
 * limit does not.
 *
 * Context: as io_regbuf_charge_mem().
 * Return: 0; or -ENOMEM or -EINTR, with some of them charged.
 */
int io_regbuf_charge_tables(struct io_regbuf *reg, struct dma_iobuf *buf,
			    struct io_regbuf_why *why)
{
	unsigned int i, nr = dma_iobuf_nr_att(buf);
	struct io_regbuf_charge *c;
	struct dma_iobuf_info info;

	for (i = 0; reg->user && i < nr; i++) {
		/* the mapping may be gone again, and comes back */
		dma_iobuf_get_info(buf, i, &info);
		if (!info.charge_bytes)
			continue;
		c = io_regbuf_charge(reg->user, buf->dmabuf, info.id,
				     DIV_ROUND_UP_ULL(info.charge_bytes,
						      PAGE_SIZE), why);
		if (IS_ERR(c))
			return PTR_ERR(c);
		reg->table[reg->nr_tables++] = c;
	}
	return 0;
}

/* does @reg have what @c is for, and is it not charged for that yet? */
static bool io_regbuf_needs(const struct io_regbuf *reg,
			    const struct io_regbuf_charge *c)
{
	unsigned int i, nr = reg->buf ? dma_iobuf_nr_att(reg->buf) : 0;

	for (i = 0; i < reg->nr_tables; i++)
		if (reg->table[i] == c)
			return false;
	for (i = 0; i < nr; i++)
		if (dma_iobuf_att_id(reg->buf, i) == c->att_id)
			return true;
	return false;
}

/* has the memory of @reg to stay where it is, and is that RAM? */
static bool io_regbuf_needs_mem(const struct io_regbuf *reg)
{
	unsigned int i, nr = dma_iobuf_nr_att(reg->buf);
	struct dma_iobuf_info info;

	if (io_regbuf_in_device(reg->buf))
		return false;
	if (reg->flags & IO_REGBUF_DMABUF_COPY_OK)
		return true;
	for (i = 0; i < nr; i++) {
		dma_iobuf_get_info(reg->buf, i, &info);
		if (info.pinned && info.kind != DMA_IOBUF_KIND_DEAD)
			return true;
	}
	return false;
}

/**
 * io_regbuf_charges_move - a buffer has got targets of another one
 * @to:		the buffer, with &io_regbuf.targets_lock held
 * @from:	the other one, which has what made room for them, and is going to be freed
 * @all:	room for the charges of both, 2 * DMA_IOBUF_MAX_DEVS
 *
 * Each is charged for what it has now: what made room, until that is gone. Charges of
 * @to for what neither has end: devices that are gone may have been replaced.
 */
void io_regbuf_charges_move(struct io_regbuf *to, struct io_regbuf *from,
			    struct io_regbuf_charge **all)
{
	unsigned int nr = 0, i;

	if (!to->user)
		return;
	while (from->nr_tables)
		all[nr++] = from->table[--from->nr_tables];
	while (to->nr_tables)
		all[nr++] = to->table[--to->nr_tables];
	for (i = 0; i < nr; i++) {
		if (io_regbuf_needs(to, all[i]))
			to->table[to->nr_tables++] = all[i];
		else if (io_regbuf_needs(from, all[i]))
			from->table[from->nr_tables++] = all[i];
		else
			io_regbuf_uncharge(to->user, all[i]);
	}
	if (!to->mem)
		swap(to->mem, from->mem);
	if (to->mem && !io_regbuf_needs_mem(to)) {
		/* what had it pinned made room, or it is memory of a device */
		if (!from->mem)
			swap(to->mem, from->mem);
		io_regbuf_uncharge_mem(to);
	}
}

/**
 * io_regbuf_charges_going - the charges of a buffer are going to end
 * @reg:	the buffer
 *
 * Context: any process context; does not wait.
 */
void io_regbuf_charges_going(struct io_regbuf *reg)
{
	if (!reg->user)
		return;
	guard(mutex)(&io_regbuf_mem_lock);
	reg->user->going++;
}

/**
 * io_regbuf_charges_end - end all charges of a buffer
 * @reg:	the buffer, after io_regbuf_charges_going(); nothing of it is attached,
 *		pinned or mapped any more
 */
void io_regbuf_charges_end(struct io_regbuf *reg)
{
	struct io_regbuf_user *u = reg->user;

	if (!u)
		return;
	io_regbuf_uncharge_mem(reg);
	while (reg->nr_tables)
		io_regbuf_uncharge(u, reg->table[--reg->nr_tables]);
	reg->user = NULL;
	scoped_guard(mutex, &io_regbuf_mem_lock) {
		u->going--;
		WRITE_ONCE(u->ended, u->ended + 1);
		io_regbuf_user_drop(u);
	}
	wake_up_all(&io_regbuf_mem_wait);
}
