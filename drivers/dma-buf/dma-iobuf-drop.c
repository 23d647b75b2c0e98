// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings that nobody uses are given back (DMA_IOBUF_DROP), so that the exporter has its
 * memory to itself between bursts of I/O.
 *
 * Commands only count. A tick looks at the count; if it stands still, the mapping is taken
 * from the attachment, the last command drops its reference when it is done, and the next
 * tick finds the mapping idle and has it unmapped. A command that comes before gets that
 * mapping back, as others have it still. The exporter is waited for by a worker of the user,
 * and by nobody else.
 */
#include <linux/dma-iobuf.h>
#include <linux/dma-resv.h>
#include <linux/slab.h>

#include "dma-iobuf-internal.h"

/* a mapping is unmapped at most three of the first, and some of the second, after its use */
#define DMA_IOBUF_DROP_IDLE	(HZ / 4)
#define DMA_IOBUF_DROP_SOON	(HZ / 20 ?: 1)
/* ticks that a mapping which nobody has used yet is left, at most: 2 to the power of this */
#define DMA_IOBUF_DROP_VAIN	8U

/**
 * struct dma_iobuf_drop - what drops the mappings of an attachment
 * @att:	the attachment
 * @user:	whose worker unmaps, with a reference
 * @tick:	looks at the hits
 * @work:	unmaps
 * @queued:	@work is queued, and has a reference to @att->held
 * @hits:	those that the last tick has seen
 * @idle:	what @hits was when @work was queued
 * @idle_made:	what @made was then
 * @first:	what @hits was when the mapping was made
 * @made:	how often it was made, or given back to who wanted it
 * @ticks_made:	what @made was when @ticks began
 * @ticks:	while no command has used the mapping
 * @vain:	mappings in a row that no command has used
 * @nr:		mappings dropped so far; under the reservation lock
 */
struct dma_iobuf_drop {
	struct dma_iobuf_att	*att;
	struct dma_iobuf_user	*user;
	struct delayed_work	tick;
	struct dma_iobuf_work	work;
	bool			queued;
	u64			hits;
	u64			idle;
	unsigned long		idle_made;
	unsigned long		first;
	unsigned long		made;
	unsigned long		ticks_made;
	unsigned int		ticks;
	unsigned int		vain;
	u64			nr;
};

/* One that was taken here is unmapped; under the reservation lock */
void dma_iobuf_drop_done(struct dma_iobuf_att *att)
{
	WRITE_ONCE(att->drop->nr, att->drop->nr + 1);
}

static void dma_iobuf_drop_again(struct dma_iobuf_drop *drop, unsigned long delay)
{
	queue_delayed_work(system_dfl_wq, &drop->tick, delay);
}

/* under the reservation lock: one step towards having nothing mapped */
static void dma_iobuf_drop_step(struct dma_iobuf_drop *drop)
{
	struct dma_iobuf_att *att = drop->att;
	struct dma_iobuf_map *map;

	dma_resv_assert_held(att->dmabuf->resv);
	if (att->parked) {
		/* unless commands have it still: a device takes its time */
		if (dma_iobuf_att_reap(att))
			dma_iobuf_drop_done(att);
		return;
	}
	map = rcu_dereference_protected(att->map, true);
	if (IS_ERR_OR_NULL(map) || dma_iobuf_att_hits(att) != drop->idle ||
	    READ_ONCE(drop->made) != drop->idle_made)
		return;
	if ((unsigned long)drop->idle == drop->first)
		WRITE_ONCE(drop->vain, min(drop->vain + 1, DMA_IOBUF_DROP_VAIN));
	else
		WRITE_ONCE(drop->vain, 0);
	/* who comes now has to map again */
	dma_iobuf_att_park(att, NULL);
}

static void dma_iobuf_drop_work(struct dma_iobuf_work *work)
{
	struct dma_iobuf_drop *drop = container_of(work, struct dma_iobuf_drop, work);
	struct dma_iobuf_att *att = drop->att;

	dma_resv_lock(att->dmabuf->resv, NULL);
	dma_iobuf_drop_step(drop);
	dma_resv_unlock(att->dmabuf->resv);
	/* pairs with dma_iobuf_drop_tick(): the work is not used any more */
	smp_store_release(&drop->queued, false);
	kref_put(&att->held, dma_iobuf_att_unhold);
}

/*
 * Somebody had the mapping made, and no command came: it may be throttled, or queued
 * behind others. It would have it made again, and again not be there in time, so that it
 * gets twice the time whenever that was in vain.
 */
static bool dma_iobuf_drop_waits(struct dma_iobuf_drop *drop, u64 hits)
{
	unsigned long made = READ_ONCE(drop->made);

	if (made != drop->ticks_made) {
		drop->ticks_made = made;
		drop->ticks = 0;
	}
	return (unsigned long)hits == READ_ONCE(drop->first) &&
	       ++drop->ticks < 1U << READ_ONCE(drop->vain);
}

static void dma_iobuf_drop_tick(struct work_struct *ws)
{
	struct dma_iobuf_drop *drop = container_of(to_delayed_work(ws),
						   struct dma_iobuf_drop, tick);
	struct dma_iobuf_att *att = drop->att;
	bool taken = READ_ONCE(att->parked), mapped;
	unsigned long made = READ_ONCE(drop->made);
	u64 hits = dma_iobuf_att_hits(att);

	rcu_read_lock();
	mapped = !IS_ERR_OR_NULL(rcu_dereference(att->map));
	rcu_read_unlock();
	/* the next mapping begins anew */
	if (!taken && !mapped)
		return;
	if (!taken && (hits != drop->hits || dma_iobuf_drop_waits(drop, hits))) {
		drop->hits = hits;
		dma_iobuf_drop_again(drop, DMA_IOBUF_DROP_IDLE);
		return;
	}
	/* pairs with dma_iobuf_drop_work(): the work may be queued again */
	if (!smp_load_acquire(&drop->queued)) {
		drop->queued = true;
		drop->idle = hits;
		drop->idle_made = made;
		kref_get(&att->held);
		dma_iobuf_user_queue(drop->user, &drop->work, dma_iobuf_drop_work);
	}
	dma_iobuf_drop_again(drop, DMA_IOBUF_DROP_SOON);
}

/* for an attachment that is being made for @buf; false: no memory */
bool dma_iobuf_drop_init(struct dma_iobuf_att *att, const struct dma_iobuf *buf)
{
	struct dma_iobuf_drop *drop;

	/* who cannot be waited for cannot be asked whether it is done, either */
	if (!(att->flags & DMA_IOBUF_DROP) || att->idev->ops)
		return true;
	drop = kzalloc_obj(*drop, GFP_KERNEL_ACCOUNT);
	if (!drop)
		return false;
	drop->att = att;
	drop->user = dma_iobuf_user_hold(buf->user);
	INIT_DELAYED_WORK(&drop->tick, dma_iobuf_drop_tick);
	att->drop = drop;
	return true;
}

/* the attachment is freed */
void dma_iobuf_drop_free(struct dma_iobuf_att *att)
{
	if (!att->drop)
		return;
	dma_iobuf_user_put(att->drop->user);
	kfree(att->drop);
}

/* somebody wanted a mapping, and there is one; under the reservation lock */
void dma_iobuf_drop_mapped(struct dma_iobuf_att *att)
{
	if (!att->drop)
		return;
	WRITE_ONCE(att->drop->made, att->drop->made + 1);
	WRITE_ONCE(att->drop->first, dma_iobuf_att_hits(att));
	/* a tick may be due at once, for the mapping before */
	mod_delayed_work(system_dfl_wq, &att->drop->tick, DMA_IOBUF_DROP_IDLE);
}

/* No mapping comes any more, and no tick is left when this returns */
void dma_iobuf_drop_stop(struct dma_iobuf_att *att)
{
	if (att->drop)
		cancel_delayed_work_sync(&att->drop->tick);
}

u64 dma_iobuf_drop_count(const struct dma_iobuf_att *att)
{
	return att->drop ? READ_ONCE(att->drop->nr) : 0;
}
