// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of which devices a buffer has: more come than there is room for, and those
 * that were idle longest make room (DMA_IOBUF_EVICT); and of mappings that are dropped
 * (DMA_IOBUF_DROP) while a command has them
 */
#include <kunit/device.h>
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/kthread.h>
#include <linux/slab.h>

#include "dma-iobuf-internal.h"

#define NR	40
/* a buffer with less room than they have otherwise */
#define PLACES	16
#define SIZE	SZ_64K

/* ---- an exporter of addresses, behind which there is nothing ---- */

static struct sg_table *fake_map(struct dma_buf_attachment *attach,
				 enum dma_data_direction dir)
{
	struct sg_table *sgt = kzalloc_obj(*sgt);

	if (!sgt || sg_alloc_table(sgt, 1, GFP_KERNEL)) {
		kfree(sgt);
		return ERR_PTR(-ENOMEM);
	}
	sg_dma_address(sgt->sgl) = SZ_16M;
	sg_dma_len(sgt->sgl) = SIZE;
	return sgt;
}

struct fake {
	struct completion	released;
	atomic_t		unmapped;
};

static void fake_unmap(struct dma_buf_attachment *attach, struct sg_table *sgt,
		       enum dma_data_direction dir)
{
	struct fake *fake = attach->dmabuf->priv;

	atomic_inc(&fake->unmapped);
	sg_free_table(sgt);
	kfree(sgt);
}

static void fake_release(struct dma_buf *dmabuf)
{
	struct fake *fake = dmabuf->priv;

	complete(&fake->released);
}

static const struct dma_buf_ops fake_ops = {
	.map_dma_buf	= fake_map,
	.unmap_dma_buf	= fake_unmap,
	.release	= fake_release,
};

/* ---- a buffer, and devices that come one after the other ---- */

struct targets {
	struct dma_buf		*dmabuf;
	struct fake		fake;
	struct dma_iobuf	*buf;
	struct dma_iobuf_dev	*idev[NR];
	atomic_t		going;
};

static int targets_init(struct kunit *test)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct targets *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, t);
	init_completion(&t->fake.released);
	info.ops = &fake_ops;
	info.size = SIZE;
	info.flags = O_RDWR;
	info.priv = &t->fake;
	t->dmabuf = dma_buf_export(&info);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->dmabuf);
	t->buf = dma_iobuf_create(t->dmabuf, DMA_BIDIRECTIONAL, DMA_IOBUF_EVICT);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, t->buf);
	t->buf->max_att = PLACES;
	for (i = 0; i < NR; i++) {
		char name[32];
		struct device *dev;

		snprintf(name, sizeof(name), "evict.%u", i);
		dev = kunit_device_register(test, name);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dev);
		t->idev[i] = dma_iobuf_dev_create(dev);
		KUNIT_ASSERT_NOT_NULL(test, t->idev[i]);
	}
	test->priv = t;
	return 0;
}

/* What a worker does takes its time */
static bool becomes(atomic_t *value, int want)
{
	unsigned int i;

	for (i = 0; i < 1000 && atomic_read(value) != want; i++)
		msleep(20);
	return atomic_read(value) == want;
}

static void targets_exit(struct kunit *test)
{
	struct targets *t = test->priv;
	unsigned int i;

	if (!t)
		return;
	dma_iobuf_free(t->buf, NULL, NULL);
	KUNIT_EXPECT_TRUE(test, becomes(&t->going, 0));
	for (i = 0; i < NR; i++) {
		dma_iobuf_dev_shutdown(t->idev[i]);
		KUNIT_EXPECT_TRUE(test, list_empty(&t->idev[i]->atts));
		dma_iobuf_dev_put(t->idev[i]);
	}
	/* nothing of what made room is left: the memory goes */
	dma_buf_put(t->dmabuf);
	KUNIT_EXPECT_NE(test, 0, wait_for_completion_timeout(&t->fake.released, 20 * HZ));
}

/* A buffer that is freed by a worker, as what it has may take its time */
struct going {
	struct dma_iobuf_work	work;
	struct dma_iobuf	*buf;
	struct targets		*t;
};

static void is_gone(void *priv)
{
	struct targets *t = priv;

	atomic_dec(&t->going);
}

static void going_work(struct dma_iobuf_work *work)
{
	struct going *g = container_of(work, struct going, work);

	dma_iobuf_free(g->buf, is_gone, g->t);
	kfree(g);
}

/*
 * As a request does it that finds device @i not to be a target; its file has device
 * @other, too
 */
static int add_beside(struct targets *t, unsigned int i, unsigned int other)
{
	struct dma_iobuf_set *missing __free(dma_iobuf_set) = dma_iobuf_set_alloc();
	struct dma_iobuf_set *set __free(dma_iobuf_set) = dma_iobuf_set_alloc();
	struct going *g = kzalloc_obj(*g);
	struct dma_iobuf *new;
	int ret;

	if (!g || !missing || !set) {
		kfree(g);
		return -ENOMEM;
	}
	new = dma_iobuf_create(t->dmabuf, t->buf->dir, t->buf->flags);
	if (IS_ERR(new)) {
		kfree(g);
		return PTR_ERR(new);
	}
	ret = dma_iobuf_set_add(missing, t->idev[i]) ?:
	      dma_iobuf_set_add(set, t->idev[i]) ?:
	      dma_iobuf_set_add(set, t->idev[other]);
	if (!ret)
		ret = dma_iobuf_attach(new, missing, NULL);
	if (!ret)
		ret = dma_iobuf_share(t->buf, new, set);
	g->buf = new;
	g->t = t;
	atomic_inc(&t->going);
	dma_iobuf_queue_work(new, &g->work, going_work);
	return ret;
}

static int add(struct targets *t, unsigned int i)
{
	return add_beside(t, i, i);
}

/* A command of device @i: 0, or why not */
static int command(struct targets *t, unsigned int i)
{
	struct dma_iobuf_map *map = dma_iobuf_map_get(t->buf, t->idev[i]->dev);

	if (IS_ERR(map))
		return PTR_ERR(map);
	dma_iobuf_map_put(map);
	return 0;
}

static unsigned int nr_targets(struct targets *t)
{
	unsigned int i, nr = 0;

	for (i = 0; i < NR; i++)
		nr += dma_iobuf_has_target(t->buf, t->idev[i]);
	return nr;
}

static void one_after_the_other(struct kunit *test)
{
	struct targets *t = test->priv;
	unsigned int i;

	for (i = 0; i < NR; i++) {
		KUNIT_EXPECT_EQ(test, -EBADF, command(t, i));
		KUNIT_ASSERT_EQ(test, 0, add(t, i));
		KUNIT_EXPECT_EQ(test, 0, command(t, i));
		KUNIT_EXPECT_EQ(test, min(i + 1, PLACES), nr_targets(t));
		/* the one that was there longest went */
		if (i >= PLACES)
			KUNIT_EXPECT_EQ(test, -EBADF, command(t, i - PLACES));
	}
	/* and comes back if it is wanted */
	KUNIT_ASSERT_EQ(test, 0, add(t, 0));
	KUNIT_EXPECT_EQ(test, 0, command(t, 0));
	KUNIT_EXPECT_EQ(test, -EBADF, command(t, NR - PLACES));
}

/* What is used stays, however old it is */
static void used_ones_stay(struct kunit *test)
{
	static const unsigned int busy[] = { 0, 3, 7, 15 };
	struct targets *t = test->priv;
	unsigned int i, k;

	for (i = 0; i < NR; i++) {
		KUNIT_ASSERT_EQ(test, 0, add(t, i));
		/* what it was added for */
		KUNIT_ASSERT_EQ(test, 0, command(t, i));
		for (k = 0; k < ARRAY_SIZE(busy); k++)
			if (busy[k] <= i)
				KUNIT_ASSERT_EQ(test, 0, command(t, busy[k]));
	}
	for (i = 0; i < NR; i++) {
		bool stays = i > NR - 1 - (PLACES - ARRAY_SIZE(busy));

		for (k = 0; k < ARRAY_SIZE(busy); k++)
			stays |= i == busy[k];
		KUNIT_EXPECT_EQ_MSG(test, stays, dma_iobuf_has_target(t->buf, t->idev[i]),
				    "device %u", i);
	}
}

/* Those that are gone go first, even if they were used last */
static void gone_ones_first(struct kunit *test)
{
	struct targets *t = test->priv;
	unsigned int i;

	for (i = 0; i < PLACES; i++)
		KUNIT_ASSERT_EQ(test, 0, add(t, i));
	KUNIT_EXPECT_EQ(test, 0, command(t, 5));
	dma_iobuf_dev_shutdown(t->idev[5]);
	KUNIT_EXPECT_EQ(test, -ENODEV, command(t, 5));
	KUNIT_ASSERT_EQ(test, 0, add(t, 20));
	for (i = 0; i < PLACES; i++)
		KUNIT_EXPECT_EQ(test, i == 5 ? -EBADF : 0, command(t, i));
	KUNIT_EXPECT_EQ(test, 0, command(t, 20));
}

/* A command that runs keeps its mapping until it is done */
static void commands_that_run(struct kunit *test)
{
	struct targets *t = test->priv;
	struct dma_iobuf_map *map;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, 0, add(t, 0));
	map = dma_iobuf_map_get(t->buf, t->idev[0]->dev);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, map);
	for (i = 1; i < NR; i++) {
		KUNIT_ASSERT_EQ(test, 0, add(t, i));
		KUNIT_ASSERT_EQ(test, 0, command(t, i));
	}
	KUNIT_EXPECT_FALSE(test, dma_iobuf_has_target(t->buf, t->idev[0]));
	/* who ends it waits for the command, and nobody for who ends it */
	msleep(100);
	KUNIT_EXPECT_FALSE(test, list_empty(&t->idev[0]->atts));
	KUNIT_EXPECT_EQ(test, SZ_16M, map->addr[0]);
	/* and knows when that is: what it costs is charged until then */
	KUNIT_EXPECT_TRUE(test, becomes(&t->going, 1));
	msleep(100);
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&t->going));
	dma_iobuf_map_put(map);
	KUNIT_EXPECT_TRUE(test, becomes(&t->going, 0));
	KUNIT_EXPECT_TRUE(test, list_empty(&t->idev[0]->atts));
}

/* Another device of the same file does not make room: the I/O would find that missing */
static void same_file_stays(struct kunit *test)
{
	struct targets *t = test->priv;
	unsigned int i;

	for (i = 0; i < PLACES; i++) {
		KUNIT_ASSERT_EQ(test, 0, add(t, i));
		KUNIT_ASSERT_EQ(test, 0, command(t, i));
	}
	/* idle longest */
	KUNIT_ASSERT_EQ(test, 0, add_beside(t, 20, 0));
	KUNIT_EXPECT_EQ(test, 0, command(t, 20));
	KUNIT_EXPECT_EQ(test, 0, command(t, 0));
	KUNIT_EXPECT_EQ(test, -EBADF, command(t, 1));
}

/* ---- at the same time ---- */

struct helper {
	struct targets		*t;
	struct task_struct	*task;
	unsigned int		device;
	int			ret;
	u64			commands, adds;
	struct completion	done;
};

static void helper_start(struct kunit *test, struct helper *h, struct targets *t,
			 int (*fn)(void *))
{
	h->t = t;
	init_completion(&h->done);
	h->task = kthread_run(fn, h, "iobuf-test");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, h->task);
	get_task_struct(h->task);
}

static void helper_stop(struct helper *h)
{
	kthread_stop_put(h->task);
}

static int exporter_wants_it(void *data)
{
	struct helper *h = data;

	dma_resv_lock(h->t->dmabuf->resv, NULL);
	dma_buf_invalidate_mappings(h->t->dmabuf);
	/* from here on it is the exporter's */
	h->ret = atomic_read(&h->t->fake.unmapped);
	dma_resv_unlock(h->t->dmabuf->resv);
	complete_all(&h->done);
	while (!kthread_should_stop())
		msleep(20);
	return 0;
}

/* Who made room has a command still: the exporter gets its memory when that is done */
static void exporter_waits_for_commands(struct kunit *test)
{
	struct targets *t = test->priv;
	struct dma_iobuf_map *map;
	struct helper h = { };
	unsigned int i;
	int before;

	KUNIT_ASSERT_EQ(test, 0, add(t, 0));
	map = dma_iobuf_map_get(t->buf, t->idev[0]->dev);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, map);
	for (i = 1; i <= PLACES; i++) {
		KUNIT_ASSERT_EQ(test, 0, add(t, i));
		KUNIT_ASSERT_EQ(test, 0, command(t, i));
	}
	KUNIT_ASSERT_FALSE(test, dma_iobuf_has_target(t->buf, t->idev[0]));
	/* it waits for the command by now */
	msleep(100);
	before = atomic_read(&t->fake.unmapped);
	helper_start(test, &h, t, exporter_wants_it);
	msleep(200);
	KUNIT_EXPECT_FALSE(test, completion_done(&h.done));
	dma_iobuf_map_put(map);
	KUNIT_EXPECT_TRUE(test,
			  wait_for_completion_timeout(&h.done, 20 * HZ));
	helper_stop(&h);
	/* those of all that are targets, and this one */
	KUNIT_EXPECT_EQ(test, before + PLACES + 1, h.ret);
	/* what ended did not come back */
	KUNIT_EXPECT_EQ(test, -EBADF, command(t, 0));
}

static int looks(void *data)
{
	struct dma_iobuf_info info;
	struct helper *h = data;

	dma_iobuf_get_info(h->t->buf, 0, &info);
	h->ret = info.id == dma_iobuf_att_id(h->t->buf, 0) ? 0 : -ESTALE;
	complete_all(&h->done);
	while (!kthread_should_stop())
		msleep(20);
	return 0;
}

/* Who makes room has the lock for a grace period, and nobody who only looks wants it */
static void looking_waits_for_nothing(struct kunit *test)
{
	struct targets *t = test->priv;
	struct helper h = { };

	KUNIT_ASSERT_EQ(test, 0, add(t, 0));
	mutex_lock(&t->buf->lock);
	helper_start(test, &h, t, looks);
	KUNIT_EXPECT_TRUE(test,
			  wait_for_completion_timeout(&h.done, 2 * HZ));
	mutex_unlock(&t->buf->lock);
	wait_for_completion(&h.done);
	helper_stop(&h);
	KUNIT_EXPECT_EQ(test, 0, h.ret);
}

static struct dma_iobuf_att *att_of(struct targets *t)
{
	return rcu_dereference_protected(t->buf->att[0], true);
}

static bool loses_its_mapping(struct dma_iobuf_att *att)
{
	unsigned int i;

	for (i = 0; i < 500 && rcu_access_pointer(att->map); i++)
		msleep(20);
	return !rcu_access_pointer(att->map);
}

static int wants_a_mapping(void *data)
{
	struct helper *h = data;

	h->ret = dma_iobuf_att_prepare(att_of(h->t), NULL);
	complete_all(&h->done);
	while (!kthread_should_stop())
		msleep(20);
	return 0;
}

/*
 * A command that takes longer than a tick looks like none. It keeps its mapping, and
 * others need not wait for the end of it
 */
static void long_command(struct kunit *test)
{
	struct targets *t = test->priv;
	struct helper other = { }, exporter = { };
	struct dma_iobuf_info info;
	struct dma_iobuf_att *att;
	struct dma_iobuf_map *map;

	t->buf->flags |= DMA_IOBUF_DROP;
	KUNIT_ASSERT_EQ(test, 0, add(t, 0));
	att = att_of(t);
	map = dma_iobuf_map_get(t->buf, t->idev[0]->dev);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, map);
	KUNIT_ASSERT_TRUE(test, loses_its_mapping(att));
	KUNIT_EXPECT_EQ(test, -EAGAIN, command(t, 0));
	helper_start(test, &other, t, wants_a_mapping);
	KUNIT_EXPECT_TRUE(test,
			  wait_for_completion_timeout(&other.done, 2 * HZ));
	/* it is the same one */
	KUNIT_EXPECT_EQ(test, 0, command(t, 0));
	KUNIT_EXPECT_EQ(test, 1, READ_ONCE(att->nr_maps));
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&t->fake.unmapped));

	/* once more, and the exporter comes then: it waits for the first command */
	KUNIT_EXPECT_TRUE(test, loses_its_mapping(att));
	KUNIT_EXPECT_EQ(test, 0, dma_iobuf_att_prepare(att, NULL));
	helper_start(test, &exporter, t, exporter_wants_it);
	msleep(200);
	KUNIT_EXPECT_FALSE(test, completion_done(&exporter.done));
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&t->fake.unmapped));
	dma_iobuf_map_put(map);
	KUNIT_EXPECT_TRUE(test,
			  wait_for_completion_timeout(&exporter.done, 20 * HZ));
	KUNIT_EXPECT_EQ(test, 1, exporter.ret);
	helper_stop(&exporter);
	helper_stop(&other);
	KUNIT_EXPECT_EQ(test, 0, other.ret);

	/* and it is given back as ever when nobody uses it; what it cost is known */
	KUNIT_EXPECT_EQ(test, 0, dma_iobuf_att_prepare(att, NULL));
	KUNIT_EXPECT_EQ(test, 0, command(t, 0));
	KUNIT_EXPECT_TRUE(test, becomes(&t->fake.unmapped, 2));
	/* who unmaps counts, then lets go of the lock */
	dma_resv_lock(t->buf->dmabuf->resv, NULL);
	dma_resv_unlock(t->buf->dmabuf->resv);
	dma_iobuf_get_info(t->buf, 0, &info);
	KUNIT_EXPECT_EQ(test, DMA_IOBUF_KIND_NONE, info.kind);
	KUNIT_EXPECT_EQ(test, 0, info.table_bytes);
	KUNIT_EXPECT_NE(test, 0, info.charge_bytes);
	KUNIT_EXPECT_EQ(test, 1, info.drops);
	KUNIT_EXPECT_EQ(test, 1, info.invals);
}

struct asked {
	struct file		file;
	struct dma_iobuf_dev	*idev;
	unsigned int		nr;
};

static int asked_targets(struct file *file, struct dma_iobuf_set *set)
{
	struct asked *asked = container_of(file, struct asked, file);

	asked->nr++;
	return dma_iobuf_set_add(set, asked->idev);
}

static const struct file_operations asked_fops = {
	.dma_targets	= asked_targets,
};

static void moves(struct targets *t)
{
	dma_resv_lock(t->dmabuf->resv, NULL);
	dma_buf_invalidate_mappings(t->dmabuf);
	dma_resv_unlock(t->dmabuf->resv);
}

/* No file is asked for its devices while nothing is missing */
static void asks_if_something_is_missing(struct kunit *test)
{
	struct asked *asked = kunit_kzalloc(test, sizeof(*asked), GFP_KERNEL);
	struct targets *t = test->priv;

	KUNIT_ASSERT_NOT_NULL(test, asked);
	asked->file.f_op = &asked_fops;
	asked->idev = t->idev[0];
	KUNIT_ASSERT_EQ(test, 0, add(t, 0));
	KUNIT_ASSERT_EQ(test, 0, add(t, 1));
	KUNIT_EXPECT_EQ(test, 0, __dma_iobuf_prepare(t->buf, &asked->file, false));
	KUNIT_EXPECT_EQ(test, 0, asked->nr);

	moves(t);
	KUNIT_EXPECT_EQ(test, -EAGAIN, command(t, 0));
	KUNIT_EXPECT_EQ(test, 0, __dma_iobuf_prepare(t->buf, &asked->file, false));
	KUNIT_EXPECT_EQ(test, 1, asked->nr);
	KUNIT_EXPECT_EQ(test, 0, command(t, 0));
	/* that of another device is */
	KUNIT_EXPECT_EQ(test, -EAGAIN, command(t, 1));
	KUNIT_EXPECT_EQ(test, 0, __dma_iobuf_prepare(t->buf, &asked->file, false));
	KUNIT_EXPECT_EQ(test, 2, asked->nr);
	KUNIT_EXPECT_EQ(test, -EAGAIN, command(t, 1));
	asked->idev = t->idev[1];
	KUNIT_EXPECT_EQ(test, 0, __dma_iobuf_prepare(t->buf, &asked->file, false));
	KUNIT_EXPECT_EQ(test, 0, command(t, 1));
	KUNIT_EXPECT_EQ(test, 0, __dma_iobuf_prepare(t->buf, &asked->file, false));
	KUNIT_EXPECT_EQ(test, 3, asked->nr);

	/* the wrong device; and who drops what nobody wants hears that it is wanted */
	KUNIT_EXPECT_EQ(test, 0, __dma_iobuf_prepare(t->buf, &asked->file, true));
	KUNIT_EXPECT_EQ(test, 4, asked->nr);
	t->buf->flags |= DMA_IOBUF_DROP;
	KUNIT_EXPECT_EQ(test, 0, __dma_iobuf_prepare(t->buf, &asked->file, false));
	KUNIT_EXPECT_EQ(test, 5, asked->nr);
}

static int adds_one(void *data)
{
	struct helper *h = data;

	h->ret = add(h->t, h->device);
	complete_all(&h->done);
	while (!kthread_should_stop())
		msleep(20);
	return 0;
}

/* Who is told that a device is no target can rely on that: it adds it, or finds who did */
static void no_target_from_then_on(struct kunit *test)
{
	struct targets *t = test->priv;
	struct helper h = { .device = PLACES };
	unsigned int i;

	for (i = 0; i < PLACES; i++) {
		KUNIT_ASSERT_EQ(test, 0, add(t, i));
		KUNIT_ASSERT_EQ(test, 0, command(t, i));
	}
	helper_start(test, &h, t, adds_one);
	/* a command would count as use */
	while (READ_ONCE(t->buf->dev[0]) && !completion_done(&h.done))
		cpu_relax();
	KUNIT_EXPECT_EQ(test, -EBADF, command(t, 0));
	KUNIT_EXPECT_FALSE(test, dma_iobuf_has_target(t->buf, t->idev[0]));
	wait_for_completion(&h.done);
	helper_stop(&h);
	KUNIT_EXPECT_EQ(test, 0, h.ret);
}

/* I/O to a device that may have to give way: add and try again, as a request does */
static int reads(void *data)
{
	struct helper *h = data;
	int ret;

	while (!kthread_should_stop()) {
		ret = command(h->t, h->device);
		if (!ret) {
			WRITE_ONCE(h->commands, h->commands + 1);
		} else if (ret == -EBADF && !dma_iobuf_has_target(h->t->buf,
						h->t->idev[h->device])) {
			ret = add(h->t, h->device);
			h->adds++;
		}
		if (ret && ret != -EBADF)
			h->ret = ret;
		usleep_range(500, 1000);
	}
	return 0;
}

/* More that are busy than there is room for: each gets its turn */
static void nobody_starves(struct kunit *test)
{
	const unsigned int nr = PLACES + 4;
	struct targets *t = test->priv;
	u64 last[PLACES + 4] = { };
	unsigned int i, round;
	struct helper *h;

	h = kunit_kcalloc(test, nr, sizeof(*h), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, h);
	for (i = 0; i < nr; i++) {
		h[i].device = i;
		helper_start(test, &h[i], t, reads);
	}
	for (round = 0; round < 2; round++) {
		msleep(4000);
		for (i = 0; i < nr; i++) {
			u64 now = READ_ONCE(h[i].commands);

			KUNIT_EXPECT_GT_MSG(test, now, last[i], "device %u", i);
			last[i] = now;
		}
	}
	for (i = 0; i < nr; i++) {
		helper_stop(&h[i]);
		KUNIT_EXPECT_EQ(test, 0, h[i].ret);
	}
}

/* Without the flag there is no room, and all stays as it is */
static void without_the_flag(struct kunit *test)
{
	struct targets *t = test->priv;
	unsigned int i;

	t->buf->flags &= ~DMA_IOBUF_EVICT;
	for (i = 0; i < PLACES; i++)
		KUNIT_ASSERT_EQ(test, 0, add(t, i));
	KUNIT_EXPECT_EQ(test, -E2BIG, add(t, 20));
	for (i = 0; i < PLACES; i++)
		KUNIT_EXPECT_EQ(test, 0, command(t, i));
	KUNIT_EXPECT_EQ(test, -EBADF, command(t, 20));
}

/* As many as there can be: each is found where it is, and one that is none is not found */
static void all_places(struct kunit *test)
{
	const unsigned int nr = DMA_IOBUF_MAX_DEVS;
	struct targets *t = test->priv;
	struct dma_iobuf_dev **idev;
	struct dma_iobuf_set *set;
	unsigned int i, known = 0;
	struct dma_iobuf *buf;

	idev = kunit_kcalloc(test, nr, sizeof(*idev), GFP_KERNEL);
	set = dma_iobuf_set_alloc();
	buf = dma_iobuf_create(t->dmabuf, DMA_BIDIRECTIONAL, 0);
	KUNIT_ASSERT_NOT_NULL(test, idev);
	KUNIT_ASSERT_NOT_NULL(test, set);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, buf);
	for (i = 0; i < nr; i++) {
		char name[32];
		struct device *dev;

		snprintf(name, sizeof(name), "all.%u", i);
		dev = kunit_device_register(test, name);
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dev);
		idev[i] = dma_iobuf_dev_create(dev);
		KUNIT_ASSERT_NOT_NULL(test, idev[i]);
		KUNIT_EXPECT_EQ(test, 0, dma_iobuf_set_add(set, idev[i]));
	}
	/* twice is once, and there is no room for one more */
	KUNIT_EXPECT_EQ(test, 0, dma_iobuf_set_add(set, idev[5]));
	KUNIT_EXPECT_EQ(test, -E2BIG, dma_iobuf_set_add(set, t->idev[0]));
	KUNIT_ASSERT_EQ(test, 0, dma_iobuf_attach(buf, set, NULL));
	KUNIT_EXPECT_EQ(test, nr, dma_iobuf_nr_att(buf));
	for (i = 0; i < nr; i++) {
		struct dma_iobuf_map *map = dma_iobuf_map_get(buf, idev[i]->dev);

		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, map);
		dma_iobuf_map_put(map);
		known += dma_iobuf_where(buf, idev[i]->dev) == i;
		KUNIT_EXPECT_PTR_EQ(test, buf->dev[i], idev[i]->dev);
	}
	/* a few may have to be looked for */
	KUNIT_EXPECT_GE(test, known, nr - 4);
	KUNIT_EXPECT_EQ(test, -EBADF, PTR_ERR(dma_iobuf_map_get(buf, t->idev[0]->dev)));
	dma_iobuf_dev_shutdown(idev[7]);
	KUNIT_EXPECT_EQ(test, -ENODEV, PTR_ERR(dma_iobuf_map_get(buf, idev[7]->dev)));
	dma_iobuf_free(buf, NULL, NULL);
	dma_iobuf_set_free(set);
	for (i = 0; i < nr; i++)
		dma_iobuf_dev_put(idev[i]);
}

static struct kunit_case dma_iobuf_evict_cases[] = {
	KUNIT_CASE(one_after_the_other),
	KUNIT_CASE(used_ones_stay),
	KUNIT_CASE(gone_ones_first),
	KUNIT_CASE(commands_that_run),
	KUNIT_CASE(same_file_stays),
	KUNIT_CASE(exporter_waits_for_commands),
	KUNIT_CASE(looking_waits_for_nothing),
	KUNIT_CASE(long_command),
	KUNIT_CASE(asks_if_something_is_missing),
	KUNIT_CASE(no_target_from_then_on),
	KUNIT_CASE_SLOW(nobody_starves),
	KUNIT_CASE(without_the_flag),
	KUNIT_CASE_SLOW(all_places),
	{}
};

static struct kunit_suite dma_iobuf_evict_suite = {
	.name		= "dma_iobuf_evict",
	.init		= targets_init,
	.exit		= targets_exit,
	.test_cases	= dma_iobuf_evict_cases,
};

kunit_test_suite(dma_iobuf_evict_suite);
