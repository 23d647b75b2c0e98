// SPDX-License-Identifier: GPL-2.0
/*
 * dma-buf memory as the data buffer of direct I/O, see include/linux/dma-iobuf.h
 *
 * Nobody but the caller waits for an exporter: &dma_iobuf_att.wait_lock is the
 * only lock that is held meanwhile, besides the reservation lock in the
 * exporter's own functions. All others are held for a moment.
 *
 * Lock order: &dma_iobuf_att.wait_lock, &dma_iobuf_att.lock, the reservation lock
 * of the dma-buf. &dma_iobuf_dev.lock and &dma_iobuf.lock are taken with none of
 * them. Nothing here takes a lock of the caller, and the
 * completion path takes none at all.
 */
#include <linux/dma-iobuf.h>
#include <linux/dma-resv.h>
#include <linux/bitmap.h>
#include <linux/fs.h>
#include <linux/hash.h>
#include <linux/slab.h>

#include "dma-iobuf-internal.h"

/* ---- devices ---- */

/*
 * An attachment that the end of the device has not come to yet; held, as its users
 * may be about to end it themselves. What one exporter takes its time for must not
 * hold up those of others, so the lock is not.
 */
static struct dma_iobuf_att *dma_iobuf_dev_next(struct dma_iobuf_dev *idev)
{
	struct dma_iobuf_att *att;

	guard(mutex)(&idev->lock);

	/* none is added any more, and those that it has come to are the last */
	att = list_first_entry_or_null(&idev->atts, struct dma_iobuf_att,
				       dev_node);
	if (!att || att->ending)
		return NULL;
	att->ending = true;
	list_move_tail(&att->dev_node, &idev->atts);
	kref_get(&att->held);
	return att;
}

/**
 * dma_iobuf_dev_shutdown - the driver lets go of the device
 * @idev:	the target, or NULL
 *
 * To be called once, from the driver's remove path, when no command is running any
 * more and before the device is unbound. No mapping and no attachment survives
 * it, none comes back: buffers answer -ENODEV for this device from now on.
 *
 * Context: process context, sleeps. Waits for commands that still hold a
 * mapping, so the driver must have completed or cancelled them.
 */
void dma_iobuf_dev_shutdown(struct dma_iobuf_dev *idev)
{
	struct dma_iobuf_att *att;

	if (!idev)
		return;
	scoped_guard(mutex, &idev->lock)
		WRITE_ONCE(idev->dead, true);
	while ((att = dma_iobuf_dev_next(idev))) {
		dma_iobuf_att_shutdown(att);
		kref_put(&att->held, dma_iobuf_att_unhold);
	}
}
EXPORT_SYMBOL_GPL(dma_iobuf_dev_shutdown);

/* ---- buffers ---- */

/* of an entry that may have to make room */
struct dma_iobuf_age {
	u64		used;		/* when it was seen in use, in units of the clock */
	u64		hits;		/* that its attachment had then */
	unsigned long	fresh;		/* jiffies when it came, 0: it was in use since */
};

/* more of them on the way from one device to the next would be no help */
#define DMA_IOBUF_PROBES	16

static unsigned int dma_iobuf_hash(const struct device *dev, unsigned int probe)
{
	return (hash_ptr(dev, ilog2(DMA_IOBUF_HINTS)) + probe) % DMA_IOBUF_HINTS;
}

/**
 * dma_iobuf_where - the entry of a device
 * @buf:	the buffer, may be in use
 * @dev:	the device
 *
 * For dma_iobuf_map_get(), which looks there first: as fast with many devices as
 * with a few.
 *
 * Context: any.
 * Return: where it was a moment ago; if it is not known, 0.
 */
unsigned int dma_iobuf_where(const struct dma_iobuf *buf, const struct device *dev)
{
	unsigned int probe, i;

	for (probe = 0; probe < DMA_IOBUF_PROBES; probe++) {
		i = READ_ONCE(buf->hint[dma_iobuf_hash(dev, probe)]);
		if (!i)
			break;
		if (READ_ONCE(buf->dev[i - 1]) == dev)
			return i - 1;
	}
	return 0;
}
EXPORT_SYMBOL_GPL(dma_iobuf_where);

/* Entries have changed. Who looks meanwhile looks at all of them. */
static void dma_iobuf_rehash(struct dma_iobuf *buf)
{
	unsigned int i, probe;
	u8 *hint;

	for (i = 0; i < DMA_IOBUF_HINTS; i++)
		WRITE_ONCE(buf->hint[i], 0);
	for (i = 0; i < buf->nr_att; i++) {
		for (probe = 0; probe < DMA_IOBUF_PROBES; probe++) {
			hint = &buf->hint[dma_iobuf_hash(buf->dev[i], probe)];
			if (*hint)
				continue;
			WRITE_ONCE(*hint, i + 1);
			break;
		}
	}
}

/* one thing less that has to end before @buf is gone */
void dma_iobuf_ended(struct dma_iobuf *buf)
{
	if (!refcount_dec_and_test(&buf->left))
		return;
	if (buf->gone)
		buf->gone(buf->priv);
	dma_iobuf_user_put(buf->user);
	dma_buf_put(buf->dmabuf);
	kvfree(buf->age);
	kvfree(buf);
}

static struct dma_iobuf_att *dma_iobuf_entry(struct dma_iobuf *buf,
					     unsigned int i)
{
	return rcu_dereference_protected(buf->att[i],
					 lockdep_is_held(&buf->lock));
}

/* the device of an entry is gone: the entry can be used for another */
static bool dma_iobuf_entry_dead(struct dma_iobuf *buf, unsigned int i)
{
	return READ_ONCE(dma_iobuf_entry(buf, i)->idev->dead);
}

/* the attachment to a device that is there, with a reference; or NULL */
static struct dma_iobuf_att *dma_iobuf_att_of(struct dma_iobuf *buf,
					      const struct dma_iobuf_dev *idev)
{
	unsigned int i, nr = dma_iobuf_nr_att(buf);
	struct dma_iobuf_att *att;

	guard(rcu)();
	for (i = 0; i < nr; i++) {
		/* it makes room (dma_iobuf_publish()), and is no target any more */
		if (!smp_load_acquire(&buf->dev[i]))
			continue;
		att = rcu_dereference(buf->att[i]);
		if (att->idev == idev && refcount_inc_not_zero(&att->ref))
			return att;
	}
	return NULL;
}

/**
 * dma_iobuf_has_target - whether a device is a target of a buffer
 * @buf:	the buffer, may be in use
 * @idev:	the device
 *
 * Context: process context.
 */
bool dma_iobuf_has_target(struct dma_iobuf *buf,
			  const struct dma_iobuf_dev *idev)
{
	unsigned int i, nr = dma_iobuf_nr_att(buf);

	guard(rcu)();
	for (i = 0; i < nr; i++)
		/* pairs with dma_iobuf_publish(): the device is there last */
		if (smp_load_acquire(&buf->dev[i]) &&
		    rcu_dereference(buf->att[i])->idev == idev)
			return true;
	return false;
}

/* an entry that stays, or one that comes, does for the device what entry @i does */
static bool dma_iobuf_has_other(struct dma_iobuf *buf, unsigned int i,
				const unsigned long *chosen,
				struct dma_iobuf_att **atts, unsigned int nr)
{
	const void *same = dma_iobuf_entry(buf, i)->idev->same;
	unsigned int k;

	if (!same)
		return false;
	for (k = 0; k < nr; k++)
		if (atts[k]->idev->same == same)
			return true;
	for (k = 0; k < buf->nr_att; k++)
		if (k != i && !test_bit(k, chosen) &&
		    !dma_iobuf_entry_dead(buf, k) &&
		    dma_iobuf_entry(buf, k)->idev->same == same)
			return true;
	return false;
}

/*
 * Which entries were used since the last look? Commands only count, as they have to
 * be cheap, so that "idle longest" is as fine as entries are added.
 */
static void dma_iobuf_grow_older(struct dma_iobuf *buf)
{
	struct dma_iobuf_age *age = buf->age;
	unsigned int i;
	u64 hits;

	lockdep_assert_held(&buf->lock);
	buf->clock++;
	for (i = 0; i < buf->nr_att; i++, age++) {
		hits = dma_iobuf_att_hits(dma_iobuf_entry(buf, i));
		if (hits == age->hits)
			continue;
		age->hits = hits;
		age->used = buf->clock;
		age->fresh = 0;
	}
}

/* Who has it attached is on the way with a first command */
static bool dma_iobuf_is_fresh(const struct dma_iobuf *buf, unsigned int i)
{
	unsigned long fresh = buf->age[i].fresh;

	return fresh && time_before(jiffies, fresh + HZ);
}

/* Entries of the devices in @set, which those who want them use together */
static void dma_iobuf_entries_of(struct dma_iobuf *buf,
				 const struct dma_iobuf_set *set,
				 unsigned long *entries)
{
	unsigned int i, k;

	for (i = 0; i < buf->nr_att; i++)
		for (k = 0; k < set->nr; k++)
			if (dma_iobuf_entry(buf, i)->idev == set->dev[k])
				__set_bit(i, entries);
}

/*
 * The entry that is idle longest, but for those in @but; there is one. What is
 * fresh was not used either, and comes last: those who want an entry would take
 * theirs from each other before a command gets there.
 */
static unsigned int dma_iobuf_idlest(const struct dma_iobuf *buf,
				     const unsigned long *but)
{
	unsigned int i, best = buf->nr_att;
	bool fresh, best_fresh = true;

	for (i = 0; i < buf->nr_att; i++) {
		if (test_bit(i, but))
			continue;
		fresh = dma_iobuf_is_fresh(buf, i);
		if (best != buf->nr_att &&
		    (fresh > best_fresh || (fresh == best_fresh &&
					    buf->age[i].used >= buf->age[best].used)))
			continue;
		best = i;
		best_fresh = fresh;
	}
	return best;
}

/*
 * Choose entries for attachments: devices come and go, and the table must not fill
 * up. Those whose device is gone and empty ones first; then those whose name is
 * gone, but not the last one of a device that is there; then, if the buffer wants
 * that, those that are idle longest, but for other devices of the same file: it would
 * take its own place.
 */
static int dma_iobuf_choose(struct dma_iobuf *buf, struct dma_iobuf_att **atts,
			    unsigned int nr_new, const struct dma_iobuf_set *set,
			    u8 *to)
{
	DECLARE_BITMAP(chosen, DMA_IOBUF_MAX_DEVS) = { };
	unsigned int nr = buf->nr_att, i, k = 0;

	lockdep_assert_held(&buf->lock);
	/* the limit was another one when the buffer was made */
	if (set->nr > buf->max_att)
		return -E2BIG;
	for (i = 0; k < nr_new && i < buf->max_att; i++) {
		if (i < nr && !dma_iobuf_entry_dead(buf, i))
			continue;
		__set_bit(i, chosen);
		to[k++] = i;
	}
	for (i = 0; k < nr_new && i < nr; i++) {
		if (test_bit(i, chosen) ||
		    !READ_ONCE(dma_iobuf_entry(buf, i)->idev->stale) ||
		    !dma_iobuf_has_other(buf, i, chosen, atts, nr_new))
			continue;
		__set_bit(i, chosen);
		to[k++] = i;
	}
	/* there are as many entries as a set has devices: enough without those kept */
	dma_iobuf_entries_of(buf, set, chosen);
	while (k < nr_new && buf->flags & DMA_IOBUF_EVICT) {
		to[k] = dma_iobuf_idlest(buf, chosen);
		__set_bit(to[k++], chosen);
	}
	return k < nr_new ? -E2BIG : 0;
}

/*
 * Make attachments entries of a buffer. Those who look at an entry find no device
 * in it for one grace period, and so never one device's attachment under the name
 * of another. Returns how many were there before and are in @old, to be put after
 * one more grace period.
 */
static int dma_iobuf_publish(struct dma_iobuf *buf, struct dma_iobuf_att **atts,
			     unsigned int nr_new, const struct dma_iobuf_set *set,
			     struct dma_iobuf_att **old)
{
	unsigned int nr = buf->nr_att, k, nr_old = 0;
	u8 to[DMA_IOBUF_MAX_DEVS];
	int ret;

	lockdep_assert_held(&buf->lock);
	if (buf->age)
		dma_iobuf_grow_older(buf);
	ret = dma_iobuf_choose(buf, atts, nr_new, set, to);
	if (ret)
		return ret;
	for (k = 0; k < nr_new; k++) {
		if (to[k] >= nr)
			continue;
		WRITE_ONCE(buf->dev[to[k]], NULL);
		old[nr_old++] = dma_iobuf_entry(buf, to[k]);
	}
	if (nr_old)
		synchronize_rcu();
	for (k = 0; k < nr_new; k++) {
		if (buf->age) {
			buf->age[to[k]].hits = dma_iobuf_att_hits(atts[k]);
			buf->age[to[k]].used = buf->clock;
			buf->age[to[k]].fresh = jiffies ?: 1;
		}
		rcu_assign_pointer(buf->att[to[k]], atts[k]);
		/* pairs with dma_iobuf_map_get(): the attachment is there */
		smp_store_release(&buf->dev[to[k]], atts[k]->idev->dev);
		nr = max(nr, to[k] + 1U);
	}
	/* pairs with dma_iobuf_nr_att() */
	smp_store_release(&buf->nr_att, nr);
	dma_iobuf_rehash(buf);
	return nr_old;
}

/* who else was quicker? Drops what @buf has by now, returns what is left */
static unsigned int dma_iobuf_drop_known(struct dma_iobuf *buf,
					 struct dma_iobuf_att **atts,
					 unsigned int nr)
{
	struct dma_iobuf_att *att;
	unsigned int i, left = 0;

	lockdep_assert_held(&buf->lock);
	for (i = 0; i < nr; i++) {
		att = dma_iobuf_att_of(buf, atts[i]->idev);
		if (!att) {
			atts[left++] = atts[i];
			continue;
		}
		dma_iobuf_att_put(buf, att, false);
		dma_iobuf_att_put(buf, atts[i], false);
	}
	return left;
}

/* remember the disks that @buf is registered for; the oldest makes room */
static void dma_iobuf_add_disks(struct dma_iobuf *buf,
				const struct dma_iobuf_set *set)
{
	unsigned int i, k;

	lockdep_assert_held(&buf->lock);
	for (i = 0; i < set->nr_disks; i++) {
		for (k = 0; k < DMA_IOBUF_MAX_DISKS; k++)
			if (buf->disk[k] == set->disk[i])
				break;
		if (k < DMA_IOBUF_MAX_DISKS)
			continue;
		WRITE_ONCE(buf->disk[buf->next_disk], set->disk[i]);
		buf->next_disk = (buf->next_disk + 1) % DMA_IOBUF_MAX_DISKS;
	}
}

/**
 * dma_iobuf_has_disk - whether a buffer was registered for a disk
 * @buf:	the buffer, may be in use
 * @seq:	sequence number of the disk, not 0
 *
 * Context: any.
 */
bool dma_iobuf_has_disk(const struct dma_iobuf *buf, u64 seq)
{
	unsigned int i;

	for (i = 0; i < DMA_IOBUF_MAX_DISKS; i++)
		if (READ_ONCE(buf->disk[i]) == seq)
			return true;
	return false;
}

static bool dma_iobuf_knows_disk(const struct dma_iobuf *buf,
				 const struct dma_iobuf_set *set)
{
	unsigned int i;

	for (i = 0; i < set->nr_disks; i++)
		if (dma_iobuf_has_disk(buf, set->disk[i]))
			return true;
	return false;
}

/*
 * Make attachments with a reference entries of a buffer, unless it has such by now.
 * Returns how many were there before, which are in @old, and nobody looks at them any
 * more; *@nr is how many of @atts, the first, are there now. Or an error, and @buf is as
 * it was. The references are gone in any case.
 */
static int dma_iobuf_add(struct dma_iobuf *buf, struct dma_iobuf_att **atts,
			 unsigned int *nr, const struct dma_iobuf_set *set,
			 struct dma_iobuf_att **old)
{
	int ret;

	mutex_lock(&buf->lock);
	*nr = dma_iobuf_drop_known(buf, atts, *nr);
	ret = dma_iobuf_publish(buf, atts, *nr, set, old);
	if (ret >= 0)
		dma_iobuf_add_disks(buf, set);
	mutex_unlock(&buf->lock);
	if (ret > 0)
		synchronize_rcu();
	while (ret < 0 && *nr)
		dma_iobuf_att_put(buf, atts[--*nr], false);
	return ret;
}

/* attachments that come, and those that make room for them: too many for a stack */
struct dma_iobuf_turnover {
	struct dma_iobuf_att *new[DMA_IOBUF_MAX_DEVS];
	struct dma_iobuf_att *old[DMA_IOBUF_MAX_DEVS];
};

/* attach a buffer that is in use to the devices that it does not have */
static int dma_iobuf_add_set(struct dma_iobuf *buf, struct dma_iobuf_set *set)
{
	struct dma_iobuf_turnover *t __free(kfree) = kzalloc_obj(*t);
	struct dma_iobuf_att **atts, **old, *att;
	unsigned int nr = 0, i;
	int ret = 0;

	if (!t)
		return -ENOMEM;
	atts = t->new;
	old = t->old;
	for (i = 0; i < set->nr && !ret; i++) {
		if (READ_ONCE(set->dev[i]->dead) ||
		    dma_iobuf_has_target(buf, set->dev[i]))
			continue;
		att = dma_iobuf_att_get(set->dev[i], buf);
		if (IS_ERR(att)) {
			ret = PTR_ERR(att);
		} else {
			atts[nr++] = att;
			ret = dma_iobuf_att_ready(att, buf, NULL);
		}
		/* it went just now: the others may still serve */
		if (ret && READ_ONCE(set->dev[i]->dead)) {
			if (!IS_ERR(att))
				dma_iobuf_att_put(buf, atts[--nr], false);
			ret = 0;
		}
	}
	if (ret) {
		while (nr)
			dma_iobuf_att_put(buf, atts[--nr], false);
		return ret;
	}
	ret = dma_iobuf_add(buf, atts, &nr, set, old);
	while (ret > 0)
		dma_iobuf_att_put(buf, old[--ret], false);
	return ret ?: nr;
}

/* What made room for @new, which is there, takes its place in @from */
static void dma_iobuf_swap(struct dma_iobuf *from, struct dma_iobuf_att *new,
			   struct dma_iobuf_att *old)
{
	unsigned int i;

	for (i = 0; i < from->nr_att; i++) {
		if (rcu_access_pointer(from->att[i]) != new)
			continue;
		RCU_INIT_POINTER(from->att[i], old);
		from->dev[i] = old->idev->dev;
		/* it has another one by now */
		dma_iobuf_att_put(from, new, false);
		return;
	}
}

/**
 * dma_iobuf_share - give a buffer the targets of another one
 * @buf:	the buffer, may be in use
 * @from:	has attachments that @buf shall have, too, and is not in use; or NULL: there
 *		are none
 * @set:	all devices of the file, which stay where they are, and the disks that they
 *		are of
 *
 * What has to make room in @buf goes to @from in their place, and ends with it: so
 * whoever has @from freed knows when that is.
 *
 * Context: process context; waits for no exporter.
 * Return: 0; or -E2BIG or -ENOMEM, and @buf is as it was.
 */
int dma_iobuf_share(struct dma_iobuf *buf, struct dma_iobuf *from,
		    const struct dma_iobuf_set *set)
{
	struct dma_iobuf_turnover *t __free(kfree) = kzalloc_obj(*t);
	unsigned int i, nr = from ? from->nr_att : 0;
	int ret;

	if (!t)
		return -ENOMEM;
	for (i = 0; i < nr; i++) {
		t->new[i] = rcu_dereference_protected(from->att[i], true);
		refcount_inc(&t->new[i]->ref);
	}
	ret = dma_iobuf_add(buf, t->new, &nr, set, t->old);
	/* no more made room than came */
	while (ret > 0) {
		ret--;
		dma_iobuf_swap(from, t->new[ret], t->old[ret]);
	}
	return ret;
}

/**
 * dma_iobuf_free - let go of a buffer
 * @buf:	the buffer, no I/O on it may be in flight
 * @gone:	called when nothing that was done for @buf is left: what is attached,
 *		pinned or mapped is so for other buffers; or NULL
 * @priv:	for @gone
 *
 * @gone is called from process context, before this returns or later: attachments
 * to network devices last until nothing that is queued refers to them, and those that
 * an I/O has tried or replaced, when a device came back, end by a work item.
 *
 * Context: process context, sleeps, waits for the exporter. Not for those who can be
 * killed: nothing ends the wait.
 */
void dma_iobuf_free(struct dma_iobuf *buf, void (*gone)(void *priv), void *priv)
{
	struct dma_iobuf_att *att;

	buf->gone = gone;
	buf->priv = priv;
	while (buf->nr_att) {
		att = rcu_dereference_protected(buf->att[--buf->nr_att], true);
		dma_iobuf_att_put(buf, att, true);
	}
	dma_iobuf_ended(buf);
}

/**
 * dma_iobuf_create - make a dma-buf a buffer for I/O
 * @dmabuf:	the memory; a reference is taken
 * @dir:	what devices may do with the memory
 * @flags:	DMA_IOBUF_*
 *
 * Without a device it is good for copies only. See dma_iobuf_attach().
 *
 * Context: process context, sleeps.
 * Return: the buffer, to be freed with dma_iobuf_free(); or an ERR_PTR(): -EINVAL:
 * the dma-buf is empty; -ENOMEM.
 */
struct dma_iobuf *dma_iobuf_create(struct dma_buf *dmabuf,
				   enum dma_data_direction dir,
				   unsigned int flags)
{
	struct dma_iobuf *buf;
	unsigned int nr_win, i;

	if (!dmabuf->size)
		return ERR_PTR(-EINVAL);
	nr_win = DIV_ROUND_UP_ULL(dmabuf->size, DMA_IOBUF_WIN_SIZE);
	buf = kvzalloc_flex(*buf, win, nr_win, GFP_KERNEL_ACCOUNT);
	if (!buf)
		return ERR_PTR(-ENOMEM);
	buf->max_att = dma_iobuf_max_devs();
	if (flags & DMA_IOBUF_EVICT) {
		buf->age = kvcalloc(buf->max_att, sizeof(*buf->age),
				    GFP_KERNEL_ACCOUNT);
		if (!buf->age)
			goto free;
	}
	buf->user = dma_iobuf_user_get();
	if (!buf->user)
		goto free;
	refcount_set(&buf->left, 1);
	mutex_init(&buf->lock);
	get_dma_buf(dmabuf);
	buf->dmabuf = dmabuf;
	buf->dir = dir;
	buf->flags = flags;
	buf->nr_win = nr_win;
	for (i = 0; i < nr_win; i++) {
		buf->win[i].buf = buf;
		buf->win[i].base = (u64)i << DMA_IOBUF_WIN_SHIFT;
	}
	return buf;
free:
	kvfree(buf->age);
	kvfree(buf);
	return ERR_PTR(-ENOMEM);
}

/**
 * dma_iobuf_attach - attach a new buffer to a set of devices
 * @buf:	the buffer; nobody else has seen it yet
 * @set:	the devices
 * @why:	says more if it fails, or NULL
 *
 * Attaches and maps for every device, so that errors show now and not at the
 * first I/O. When it fails, what it has done is in @buf, and is undone with it:
 * the caller may try once more with the same @set, or have the buffer freed by
 * somebody who can wait, who then knows when all of it is gone.
 *
 * Context: process context, sleeps, waits for the exporter; no lock that anybody
 * else could want is held meanwhile. A fatal signal ends the wait.
 * Return: 0; -EOPNOTSUPP: a device is not coherent or bounces; -ENODEV: a device is
 * going away; -E2BIG: more devices than it has room for; -EREMOTEIO:
 * DMA_IOBUF_REQUIRE_P2P and not peer-to-peer, or addresses that a device cannot reach;
 * -EINVAL: not made of whole pages; -ENOMEM, also for DMA_IOBUF_DEVICE_MEM and not memory
 * of a device; -EINTR: a fatal signal; or the exporter's error, as user space knows it.
 */
int dma_iobuf_attach(struct dma_iobuf *buf, struct dma_iobuf_set *set,
		     struct dma_iobuf_reason *why)
{
	struct dma_iobuf_att *att;
	unsigned int i;
	int ret;

	if (set->nr > buf->max_att)
		return -E2BIG;
	for (i = 0; i < set->nr; i++) {
		dma_iobuf_why_device(why, set->dev[i], i);
		if (i == buf->nr_att) {
			att = dma_iobuf_att_get(set->dev[i], buf);
			if (IS_ERR(att))
				return PTR_ERR(att);
			RCU_INIT_POINTER(buf->att[i], att);
			buf->nr_att++;
		}
		att = rcu_dereference_protected(buf->att[i], true);
		ret = dma_iobuf_att_ready(att, buf, why);
		if (ret)
			return ret;
		buf->dev[i] = att->idev->dev;
	}
	scoped_guard(mutex, &buf->lock) {
		dma_iobuf_add_disks(buf, set);
		dma_iobuf_rehash(buf);
	}
	/* a question to this call, no property of the buffer */
	buf->flags &= ~DMA_IOBUF_DEVICE_MEM;
	return 0;
}

/* the devices of @set: 0, 1 or an error as below; @gone: none of them is left */
static int dma_iobuf_prepare_set(struct dma_iobuf *buf,
				 struct dma_iobuf_set *set, bool retarget,
				 bool *gone)
{
	bool missing = false, mapped = false;
	struct dma_iobuf_att *att;
	unsigned int i;
	int ret;

	for (i = 0; i < set->nr; i++) {
		/* its end may take a while, which is nothing to wait for */
		if (READ_ONCE(set->dev[i]->dead))
			continue;
		att = dma_iobuf_att_of(buf, set->dev[i]);
		if (!att) {
			missing = true;
			continue;
		}
		ret = dma_iobuf_att_prepare(att, NULL);
		/* of several paths to the same data some may be gone */
		if (ret && READ_ONCE(att->idev->dead))
			ret = 0;
		else if (!ret)
			mapped = true;
		dma_iobuf_att_put(buf, att, false);
		if (ret)
			return ret;
	}
	/* if only a mapping was gone, a new device has nothing to do with this I/O */
	if (missing && (retarget || !mapped)) {
		/* it gave way, and what was charged for it is not any more */
		if (buf->flags & DMA_IOBUF_EVICT)
			return -EBADF;
		if (dma_iobuf_knows_disk(buf, set)) {
			ret = dma_iobuf_add_set(buf, set);
			/* 0: somebody else was quicker, and has attached it */
			return ret < 0 ? ret : 1;
		}
		if (!mapped)
			return -EBADF;
	}
	*gone = !mapped;
	return mapped ? 0 : -ENODEV;
}

/*
 * Has every device its mapping? Then an I/O came back for another reason, as one that had to
 * be split and must not wait, or somebody else has mapped meanwhile. Who drops mappings that
 * nobody uses wants to know that one is wanted.
 */
static bool dma_iobuf_is_mapped(struct dma_iobuf *buf)
{
	unsigned int i, nr = dma_iobuf_nr_att(buf);
	struct dma_iobuf_att *att;

	if (buf->flags & DMA_IOBUF_DROP)
		return false;
	guard(rcu)();
	for (i = 0; i < nr; i++) {
		/* pairs with dma_iobuf_publish(): then its attachment is there */
		if (!smp_load_acquire(&buf->dev[i]))
			return false;
		att = rcu_dereference(buf->att[i]);
		if (IS_ERR_OR_NULL(rcu_access_pointer(att->map)))
			return false;
	}
	return nr;
}

/**
 * __dma_iobuf_prepare - map a buffer for the devices of a file
 * @buf:	the buffer
 * @file:	file that the I/O is for, it must have ->dma_targets()
 * @retarget:	the I/O went to a device that is no target, or is gone
 *
 * For I/O that a driver has refused because the mapping was missing
 * (dma_iobuf_map_get()). It is not called before: the mapping may be gone again
 * by the time the driver asks, so asking first would save nothing.
 *
 * Devices that @file does not use are left alone. A device that is new behind a
 * disk that @buf was registered for is attached. If a disk has no device for now,
 * as ->dma_targets() says by -ENXIO, there is nothing to do: the I/O waits for a
 * path to come back, or fails, as it does from other memory.
 *
 * Context: process context, sleeps, waits for the exporter. A fatal signal ends
 * the wait.
 * Return: 0; 1: a device that was missing is attached now; -EBADF: @file was not a
 * target of @buf, or is none any more (DMA_IOBUF_EVICT); -ENODEV: its devices are
 * gone; -EINTR, also if the exporter's wait was interrupted; or the exporter's error.
 */
int __dma_iobuf_prepare(struct dma_iobuf *buf, struct file *file, bool retarget)
{
	struct dma_iobuf_set *set __free(dma_iobuf_set) = NULL;
	bool gone = true;
	int ret, i;

	if (!retarget && dma_iobuf_is_mapped(buf))
		return 0;
	set = dma_iobuf_set_alloc();
	if (!set)
		return -ENOMEM;

	/* they may go while the exporter takes its time: who is left then? */
	for (i = 0; i < 2 && gone; i++) {
		gone = false;
		ret = dma_iobuf_set_of_file(file, set);
		if (!ret)
			ret = dma_iobuf_prepare_set(buf, set, retarget, &gone);
		else if (ret == -ENXIO)
			ret = 0;
		else if (ret == -EOPNOTSUPP)
			ret = -EBADF;	/* what cannot be a target was none */
		dma_iobuf_set_put(set);
	}
	return ret;
}

/**
 * dma_iobuf_get_info - what an attachment really is
 * @buf:	the buffer
 * @idx:	which of its attachments, less than &dma_iobuf.nr_att
 * @info:	filled in
 *
 * A snapshot: the exporter may move the memory at any time.
 *
 * Context: process context; waits for nothing.
 */
void dma_iobuf_get_info(struct dma_iobuf *buf, unsigned int idx,
			struct dma_iobuf_info *info)
{
	struct dma_iobuf_att *att;

	scoped_guard(rcu) {
		/* what makes room has its reference for a grace period after that */
		att = rcu_dereference(buf->att[idx]);
		kref_get(&att->held);
	}
	dma_iobuf_att_info(att, info);
	kref_put(&att->held, dma_iobuf_att_unhold);
}

/**
 * dma_iobuf_att_id - which attachment an entry is
 * @buf:	the buffer, may be in use
 * @idx:	which of its attachments, less than &dma_iobuf.nr_att
 *
 * Context: any.
 * Return: its &struct dma_iobuf_info.id.
 */
u64 dma_iobuf_att_id(struct dma_iobuf *buf, unsigned int idx)
{
	guard(rcu)();
	return rcu_dereference(buf->att[idx])->id;
}

/**
 * dma_iobuf_vmap - make the memory visible to the CPU
 * @buf:	the buffer
 * @map:	the view, to be given back with dma_buf_vunmap_unlocked()
 *
 * Context: process context, sleeps, waits for the exporter. A fatal signal ends the
 * wait for its reservation lock.
 * Return: 0; -EINTR: a fatal signal; or the exporter's error.
 */
int dma_iobuf_vmap(struct dma_iobuf *buf, struct iosys_map *map)
{
	struct dma_resv *resv = buf->dmabuf->resv;
	int ret = dma_iobuf_resv_lock(resv);

	if (ret)
		return ret;
	ret = dma_buf_vmap(buf->dmabuf, map);
	dma_resv_unlock(resv);
	return ret;
}
