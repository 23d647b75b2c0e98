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
#include "dmabuf.h"

/**
 * struct io_dmabuf_user - a user who registered dma-bufs
 * @node:	in io_dmabuf_users
 * @user:	who, with a reference
 * @refs:	buffers
 * @going:	buffers without a slot whose charges have not ended yet
 * @ended:	how many had charges that have
 * @charges:	&struct io_dmabuf_charge
 */
struct io_dmabuf_user {
	struct hlist_node	node;
	struct user_struct	*user;
	unsigned int		refs;
	unsigned int		going;
	unsigned int		ended;
	struct rb_root		charges;
};

/**
 * struct io_dmabuf_charge - memory that a user is charged for
 * @node:	in &struct io_dmabuf_user.charges
 * @dmabuf:	the dma-buf, with a reference
 * @att_id:	0: the memory of @dmabuf; otherwise the table of this attachment
 * @refs:	buffers of the user that need it
 * @pages:	how much
 */
struct io_dmabuf_charge {
	struct rb_node		node;
	struct dma_buf		*dmabuf;
	u64			att_id;
	unsigned int		refs;
	unsigned long		pages;
};

static DEFINE_HASHTABLE(io_dmabuf_users, 6);
static DEFINE_MUTEX(io_dmabuf_mem_lock);	/* all of the above */
static DECLARE_WAIT_QUEUE_HEAD(io_dmabuf_mem_wait);

/* ---- users ---- */

/**
 * io_dmabuf_user_get - whom to charge for a buffer
 * @user:	the ring's, or NULL: nobody is charged
 *
 * Return: to be dropped with io_dmabuf_charges_end(); NULL; or an ERR_PTR().
 */
struct io_dmabuf_user *io_dmabuf_user_get(struct user_struct *user)
{
	struct io_dmabuf_user *u, *new;

	if (!user)
		return NULL;
	/* not under the lock: others would wait for the memory of this cgroup */
	new = kzalloc_obj(*new, GFP_KERNEL_ACCOUNT);
	mutex_lock(&io_dmabuf_mem_lock);
	hash_for_each_possible(io_dmabuf_users, u, node, (unsigned long)user)
		if (u->user == user)
			goto found;
	u = new;
	if (!u)
		goto out;
	new = NULL;
	u->user = get_uid(user);
	u->charges = RB_ROOT;
	hash_add(io_dmabuf_users, &u->node, (unsigned long)user);
found:
	u->refs++;
out:
	mutex_unlock(&io_dmabuf_mem_lock);
	kfree(new);
	return u ?: ERR_PTR(-ENOMEM);
}

/**
 * io_dmabuf_user_hold - charge the same user for one more buffer
 * @u:		the user, or NULL
 *
 * Return: @u
 */
struct io_dmabuf_user *io_dmabuf_user_hold(struct io_dmabuf_user *u)
{
	if (!u)
		return NULL;
	guard(mutex)(&io_dmabuf_mem_lock);
	u->refs++;
	return u;
}

static void io_dmabuf_user_drop(struct io_dmabuf_user *u)
{
	lockdep_assert_held(&io_dmabuf_mem_lock);
	if (--u->refs)
		return;
	hash_del(&u->node);
	free_uid(u->user);
	kfree(u);
}

/* ---- charges ---- */

static int io_dmabuf_charge_key(const void *key, const struct rb_node *node)
{
	const struct io_dmabuf_charge *a = key, *b =
		rb_entry(node, struct io_dmabuf_charge, node);

	return cmp_int((unsigned long)a->dmabuf, (unsigned long)b->dmabuf) ?:
	       cmp_int(a->att_id, b->att_id);
}

static bool io_dmabuf_charge_less(struct rb_node *node,
				  const struct rb_node *other)
{
	return io_dmabuf_charge_key(rb_entry(node, struct io_dmabuf_charge, node),
				    other) < 0;
}

static struct io_dmabuf_charge *
io_dmabuf_charge_find(struct io_dmabuf_user *u, struct dma_buf *dmabuf,
		      u64 att_id)
{
	const struct io_dmabuf_charge key = {
		.dmabuf = dmabuf,
		.att_id = att_id,
	};
	struct rb_node *node = rb_find(&key, &u->charges, io_dmabuf_charge_key);

	return node ? rb_entry(node, struct io_dmabuf_charge, node) : NULL;
}

/*
 * @pages is set to what there would have to be room for; @new, if it was needed, to
 * NULL.
 */
static struct io_dmabuf_charge *
io_dmabuf_charge_try(struct io_dmabuf_user *u, struct dma_buf *dmabuf,
		     u64 att_id, unsigned long *pages,
		     struct io_dmabuf_charge **new)
{
	struct io_dmabuf_charge *c = io_dmabuf_charge_find(u, dmabuf, att_id);

	lockdep_assert_held(&io_dmabuf_mem_lock);
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
	rb_add(&c->node, &u->charges, io_dmabuf_charge_less);
	return c;
}

/*
 * Charge, unless the user is charged for it already. What the user gave up, but
 * is still there, is waited for: no one else's exporter.
 */
static struct io_dmabuf_charge *
io_dmabuf_charge(struct io_dmabuf_user *u, struct dma_buf *dmabuf, u64 att_id,
		 unsigned long pages, struct io_dmabuf_why *why)
{
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT, need;
	struct io_dmabuf_charge *c, *new;
	unsigned int ended;

	/* not under the lock, see io_dmabuf_user_get() */
	new = kzalloc_obj(*new, GFP_KERNEL_ACCOUNT);
	for (;;) {
		mutex_lock(&io_dmabuf_mem_lock);
		need = pages;
		c = io_dmabuf_charge_try(u, dmabuf, att_id, &need, &new);
		if (!IS_ERR(c) || !u->going || pages > limit)
			break;
		ended = u->ended;
		mutex_unlock(&io_dmabuf_mem_lock);
		if (wait_event_killable(io_dmabuf_mem_wait,
					READ_ONCE(u->ended) != ended)) {
			io_dmabuf_fail(why, IO_REGBUF_STAGE_MEMLOCK, -EINTR,
				       "The caller was killed.");
			kfree(new);
			return ERR_PTR(-EINTR);
		}
	}
	if (IS_ERR(c))
		io_dmabuf_why_memlock(why,
				      atomic_long_read(&u->user->locked_vm) +
				      need, limit);
	mutex_unlock(&io_dmabuf_mem_lock);
	kfree(new);
	return c;
}

static void io_dmabuf_uncharge(struct io_dmabuf_user *u,
			       struct io_dmabuf_charge *c)
{
	guard(mutex)(&io_dmabuf_mem_lock);
	if (--c->refs)
		return;
	__io_unaccount_mem(u->user, c->pages);
	rb_erase(&c->node, &u->charges);
	dma_buf_put(c->dmabuf);
	kfree(c);
}

/**
 * io_dmabuf_charge_mem - charge the memory of a dma-buf that has to stay
 * @idb:	the buffer that it has to stay for
 * @dmabuf:	the dma-buf
 * @why:	filled in on failure
 *
 * All of it, also for a part.
 *
 * Context: process context; may wait for buffers of the same user to go away.
 * Return: 0, also if it is charged already; -ENOMEM; -EINTR.
 */
int io_dmabuf_charge_mem(struct io_dmabuf *idb, struct dma_buf *dmabuf,
			 struct io_dmabuf_why *why)
{
	struct io_dmabuf_charge *c;

	if (!idb->user || idb->mem)
		return 0;
	c = io_dmabuf_charge(idb->user, dmabuf, 0,
			     DIV_ROUND_UP(dmabuf->size, PAGE_SIZE), why);
	if (IS_ERR(c))
		return PTR_ERR(c);
	idb->mem = c;
	return 0;
}

/**
 * io_dmabuf_uncharge_mem - the memory does not count after all
 * @idb:	the buffer
 */
void io_dmabuf_uncharge_mem(struct io_dmabuf *idb)
{
	if (idb->mem)
		io_dmabuf_uncharge(idb->user, idb->mem);
	idb->mem = NULL;
}

/**
 * io_dmabuf_charge_tables - charge the mapping tables of a new buffer
 * @idb:	what is charged for them
 * @buf:	the new buffer, has the attachments
 * @why:	filled in on failure
 *
 * A move may change the size of a table later; the memory cgroup sees that, the
 * limit does not.
 *
 * Context: as io_dmabuf_charge_mem().
 * Return: 0; or -ENOMEM or -EINTR, with some of them charged.
 */
int io_dmabuf_charge_tables(struct io_dmabuf *idb, struct dma_iobuf *buf,
			    struct io_dmabuf_why *why)
{
	unsigned int i, nr = dma_iobuf_nr_att(buf);
	struct io_dmabuf_charge *c;
	struct dma_iobuf_info info;

	for (i = 0; idb->user && i < nr; i++) {
		dma_iobuf_get_info(buf, i, &info);
		if (!info.table_bytes)
			continue;
		c = io_dmabuf_charge(idb->user, buf->dmabuf, info.id,
				     DIV_ROUND_UP_ULL(info.table_bytes,
						      PAGE_SIZE), why);
		if (IS_ERR(c))
			return PTR_ERR(c);
		idb->table[idb->nr_tables++] = c;
	}
	return 0;
}

/* is it for a table that @idb has, and is not charged for more than once? */
static bool io_dmabuf_needs(const struct io_dmabuf *idb,
			    const struct io_dmabuf_charge *c)
{
	unsigned int i, nr = dma_iobuf_nr_att(idb->buf);
	struct dma_iobuf_info info;

	for (i = 0; i < idb->nr_tables; i++)
		if (idb->table[i] == c)
			return false;
	for (i = 0; i < nr; i++) {
		dma_iobuf_get_info(idb->buf, i, &info);
		if (info.id == c->att_id)
			return true;
	}
	return false;
}

/**
 * io_dmabuf_charges_move - a buffer got targets that another was charged for
 * @to:		the buffer, with &io_dmabuf.targets_lock held
 * @from:	has charges for the targets; those that @to needs are moved
 *
 * Charges of @to for attachments that it has no more end: those of devices that
 * are gone may have been replaced.
 */
void io_dmabuf_charges_move(struct io_dmabuf *to, struct io_dmabuf *from)
{
	struct io_dmabuf_charge *was[DMA_IOBUF_MAX_DEVS];
	unsigned int i, nr = to->nr_tables, left = 0;

	if (!to->user)
		return;
	memcpy(was, to->table, sizeof(was));
	to->nr_tables = 0;
	for (i = 0; i < nr; i++) {
		if (io_dmabuf_needs(to, was[i]))
			to->table[to->nr_tables++] = was[i];
		else
			io_dmabuf_uncharge(to->user, was[i]);
	}
	for (i = 0; i < from->nr_tables; i++) {
		if (io_dmabuf_needs(to, from->table[i]))
			to->table[to->nr_tables++] = from->table[i];
		else
			from->table[left++] = from->table[i];
	}
	from->nr_tables = left;
	if (!to->mem)
		swap(to->mem, from->mem);
}

/**
 * io_dmabuf_charges_going - the charges of a buffer are going to end
 * @idb:	the buffer
 *
 * Context: any process context; does not wait.
 */
void io_dmabuf_charges_going(struct io_dmabuf *idb)
{
	if (!idb->user)
		return;
	guard(mutex)(&io_dmabuf_mem_lock);
	idb->user->going++;
}

/**
 * io_dmabuf_charges_end - end all charges of a buffer
 * @idb:	the buffer, after io_dmabuf_charges_going(); nothing of it is attached,
 *		pinned or mapped any more
 */
void io_dmabuf_charges_end(struct io_dmabuf *idb)
{
	struct io_dmabuf_user *u = idb->user;

	if (!u)
		return;
	io_dmabuf_uncharge_mem(idb);
	while (idb->nr_tables)
		io_dmabuf_uncharge(u, idb->table[--idb->nr_tables]);
	idb->user = NULL;
	scoped_guard(mutex, &io_dmabuf_mem_lock) {
		u->going--;
		WRITE_ONCE(u->ended, u->ended + 1);
		io_dmabuf_user_drop(u);
	}
	wake_up_all(&io_dmabuf_mem_wait);
}
