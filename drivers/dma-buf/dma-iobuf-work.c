// SPDX-License-Identifier: GPL-2.0
/*
 * What waits for exporters on behalf of those who cannot.
 *
 * A worker that waits for an exporter does so for as long as the exporter likes,
 * and there are only so many workers. So a user has at most
 * DMA_IOBUF_USER_WORKERS of them: what there is more to do for the same user waits
 * until one of these is done. Nobody else does.
 */
#include <linux/cred.h>
#include <linux/dma-iobuf.h>
#include <linux/hashtable.h>
#include <linux/list.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uidgid.h>
#include <linux/user_namespace.h>
#include <linux/workqueue.h>

#include "dma-iobuf-internal.h"

#define DMA_IOBUF_USER_WORKERS	32

/**
 * struct dma_iobuf_user - whose buffers they are
 * @node:	in dma_iobuf_users
 * @uid:	who
 * @refs:	buffers, what drops mappings, and work that is not done
 * @running:	workers that the user has
 * @waiting:	&struct dma_iobuf_work.node
 */
struct dma_iobuf_user {
	struct hlist_node	node;
	kuid_t			uid;
	unsigned int		refs;
	unsigned int		running;
	struct list_head	waiting;
};

static DEFINE_HASHTABLE(dma_iobuf_users, 6);
static DEFINE_SPINLOCK(dma_iobuf_users_lock);	/* all of the above */
static struct workqueue_struct *dma_iobuf_wq;

/*
 * Whoever has made a user namespace may have many uids in it. Root, who makes them
 * for others, is not meant.
 */
static kuid_t dma_iobuf_current_user(void)
{
	const struct user_namespace *ns;
	kuid_t uid = current_uid();

	for (ns = current_user_ns(); ns->parent; ns = ns->parent)
		if (!uid_eq(ns->owner, GLOBAL_ROOT_UID))
			uid = ns->owner;
	return uid;
}

/* the caller's, with a reference */
struct dma_iobuf_user *dma_iobuf_user_get(void)
{
	struct dma_iobuf_user *new = kzalloc_obj(*new, GFP_KERNEL_ACCOUNT);
	kuid_t uid = dma_iobuf_current_user();
	struct dma_iobuf_user *user;
	unsigned long flags;

	spin_lock_irqsave(&dma_iobuf_users_lock, flags);
	hash_for_each_possible(dma_iobuf_users, user, node, __kuid_val(uid))
		if (uid_eq(user->uid, uid))
			goto found;
	user = new;
	if (!user)
		goto out;
	new = NULL;
	user->uid = uid;
	INIT_LIST_HEAD(&user->waiting);
	hash_add(dma_iobuf_users, &user->node, __kuid_val(uid));
found:
	user->refs++;
out:
	spin_unlock_irqrestore(&dma_iobuf_users_lock, flags);
	kfree(new);
	return user;
}

/* one reference more */
struct dma_iobuf_user *dma_iobuf_user_hold(struct dma_iobuf_user *user)
{
	unsigned long flags;

	spin_lock_irqsave(&dma_iobuf_users_lock, flags);
	user->refs++;
	spin_unlock_irqrestore(&dma_iobuf_users_lock, flags);
	return user;
}

void dma_iobuf_user_put(struct dma_iobuf_user *user)
{
	unsigned long flags;

	spin_lock_irqsave(&dma_iobuf_users_lock, flags);
	if (--user->refs)
		user = NULL;
	else
		hash_del(&user->node);
	spin_unlock_irqrestore(&dma_iobuf_users_lock, flags);
	kfree(user);
}

static void dma_iobuf_run_work(struct work_struct *ws)
{
	struct dma_iobuf_work *work = container_of(ws, struct dma_iobuf_work, work);
	struct dma_iobuf_user *user = work->user;
	unsigned long flags;

	/* @work may be gone afterwards */
	work->func(work);

	spin_lock_irqsave(&dma_iobuf_users_lock, flags);
	work = list_first_entry_or_null(&user->waiting, struct dma_iobuf_work,
					node);
	if (work)
		list_del(&work->node);
	else
		user->running--;
	spin_unlock_irqrestore(&dma_iobuf_users_lock, flags);
	/* to the end of the queue, behind what others have in it */
	if (work)
		queue_work(dma_iobuf_wq, &work->work);
	dma_iobuf_user_put(user);
}

/* dma_iobuf_queue_work(), for who has a user */
void dma_iobuf_user_queue(struct dma_iobuf_user *user, struct dma_iobuf_work *work,
			  void (*func)(struct dma_iobuf_work *work))
{
	unsigned long flags;
	bool run;

	INIT_WORK(&work->work, dma_iobuf_run_work);
	work->func = func;
	work->user = user;

	spin_lock_irqsave(&dma_iobuf_users_lock, flags);
	user->refs++;
	run = user->running < DMA_IOBUF_USER_WORKERS;
	if (run)
		user->running++;
	else
		list_add_tail(&work->node, &user->waiting);
	spin_unlock_irqrestore(&dma_iobuf_users_lock, flags);
	if (run)
		queue_work(dma_iobuf_wq, &work->work);
}

/**
 * dma_iobuf_queue_work - have something done that waits for an exporter
 * @buf:	whose user it is done for
 * @work:	the work, not queued
 * @func:	does it in process context; may free @work and let go of @buf
 *
 * Nobody has more than a few workers that wait for exporters: what is queued for
 * the user who has created @buf may have to wait for what was queued before.
 *
 * Context: any.
 */
void dma_iobuf_queue_work(struct dma_iobuf *buf, struct dma_iobuf_work *work,
			  void (*func)(struct dma_iobuf_work *work))
{
	dma_iobuf_user_queue(buf->user, work, func);
}

static int __init dma_iobuf_work_init(void)
{
	/* not WQ_MEM_RECLAIM: exporters may wait for work that is not */
	dma_iobuf_wq = alloc_workqueue("dma_iobuf", WQ_UNBOUND, WQ_MAX_ACTIVE);
	return dma_iobuf_wq ? 0 : -ENOMEM;
}
subsys_initcall(dma_iobuf_work_init);
