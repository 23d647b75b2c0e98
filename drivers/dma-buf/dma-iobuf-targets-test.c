// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of which devices a buffer has: more come than there is room for, and those
 * that were idle longest make room (DMA_IOBUF_EVICT)
 */
#include <kunit/device.h>
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/kthread.h>
#include <linux/slab.h>

#include "dma-iobuf-internal.h"

#define NR	40
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

static void targets_exit(struct kunit *test)
{
	struct targets *t = test->priv;
	unsigned int i;

	if (!t)
		return;
	dma_iobuf_free(t->buf, NULL, NULL);
	for (i = 0; i < NR; i++) {
		dma_iobuf_dev_shutdown(t->idev[i]);
		KUNIT_EXPECT_TRUE(test, list_empty(&t->idev[i]->atts));
		dma_iobuf_dev_put(t->idev[i]);
	}
	/* nothing of what made room is left: the memory goes */
	dma_buf_put(t->dmabuf);
	KUNIT_EXPECT_NE(test, 0, wait_for_completion_timeout(&t->fake.released, 20 * HZ));
}

/* As a request does it that finds device @i not to be a target */
static int add(struct targets *t, unsigned int i)
{
	struct dma_iobuf_set set = { };
	struct dma_iobuf *new;
	int ret;

	new = dma_iobuf_create(t->dmabuf, t->buf->dir, t->buf->flags);
	if (IS_ERR(new))
		return PTR_ERR(new);
	ret = dma_iobuf_set_add(&set, t->idev[i]);
	if (!ret)
		ret = dma_iobuf_attach(new, &set, NULL);
	if (!ret)
		ret = dma_iobuf_share(t->buf, new, &set);
	dma_iobuf_set_put(&set);
	dma_iobuf_free(new, NULL, NULL);
	return ret;
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
		KUNIT_EXPECT_EQ(test, min(i + 1, DMA_IOBUF_MAX_DEVS), nr_targets(t));
		/* the one that was there longest went */
		if (i >= DMA_IOBUF_MAX_DEVS)
			KUNIT_EXPECT_EQ(test, -EBADF, command(t, i - DMA_IOBUF_MAX_DEVS));
	}
	/* and comes back if it is wanted */
	KUNIT_ASSERT_EQ(test, 0, add(t, 0));
	KUNIT_EXPECT_EQ(test, 0, command(t, 0));
	KUNIT_EXPECT_EQ(test, -EBADF, command(t, NR - DMA_IOBUF_MAX_DEVS));
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
		bool stays = i > NR - 1 - (DMA_IOBUF_MAX_DEVS - ARRAY_SIZE(busy));

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

	for (i = 0; i < DMA_IOBUF_MAX_DEVS; i++)
		KUNIT_ASSERT_EQ(test, 0, add(t, i));
	KUNIT_EXPECT_EQ(test, 0, command(t, 5));
	dma_iobuf_dev_shutdown(t->idev[5]);
	KUNIT_EXPECT_EQ(test, -ENODEV, command(t, 5));
	KUNIT_ASSERT_EQ(test, 0, add(t, 20));
	for (i = 0; i < DMA_IOBUF_MAX_DEVS; i++)
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
	dma_iobuf_map_put(map);
}

/* ---- at the same time ---- */

struct helper {
	struct targets		*t;
	struct task_struct	*task;
	unsigned int		device;
	int			ret;
	u64			commands, adds;
	bool			done;
};

static void helper_start(struct kunit *test, struct helper *h, struct targets *t,
			 int (*fn)(void *))
{
	h->t = t;
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
	smp_store_release(&h->done, true);
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
	for (i = 1; i <= DMA_IOBUF_MAX_DEVS; i++) {
		KUNIT_ASSERT_EQ(test, 0, add(t, i));
		KUNIT_ASSERT_EQ(test, 0, command(t, i));
	}
	KUNIT_ASSERT_FALSE(test, dma_iobuf_has_target(t->buf, t->idev[0]));
	/* it waits for the command by now */
	msleep(100);
	before = atomic_read(&t->fake.unmapped);
	helper_start(test, &h, t, exporter_wants_it);
	msleep(200);
	KUNIT_EXPECT_FALSE(test, smp_load_acquire(&h.done));
	dma_iobuf_map_put(map);
	for (i = 0; i < 1000 && !smp_load_acquire(&h.done); i++)
		msleep(20);
	KUNIT_EXPECT_TRUE(test, h.done);
	helper_stop(&h);
	/* those of all that are targets, and this one */
	KUNIT_EXPECT_EQ(test, before + DMA_IOBUF_MAX_DEVS + 1, h.ret);
	/* what ended did not come back */
	KUNIT_EXPECT_EQ(test, -EBADF, command(t, 0));
}

static int adds_one(void *data)
{
	struct helper *h = data;

	h->ret = add(h->t, h->device);
	smp_store_release(&h->done, true);
	while (!kthread_should_stop())
		msleep(20);
	return 0;
}

/* Who is told that a device is no target can rely on that: it adds it, or finds who did */
static void no_target_from_then_on(struct kunit *test)
{
	struct targets *t = test->priv;
	struct helper h = { .device = DMA_IOBUF_MAX_DEVS };
	unsigned int i;

	for (i = 0; i < DMA_IOBUF_MAX_DEVS; i++) {
		KUNIT_ASSERT_EQ(test, 0, add(t, i));
		KUNIT_ASSERT_EQ(test, 0, command(t, i));
	}
	helper_start(test, &h, t, adds_one);
	/* a command would count as use */
	while (READ_ONCE(t->buf->dev[0]) && !smp_load_acquire(&h.done))
		cpu_relax();
	KUNIT_EXPECT_EQ(test, -EBADF, command(t, 0));
	KUNIT_EXPECT_FALSE(test, dma_iobuf_has_target(t->buf, t->idev[0]));
	while (!smp_load_acquire(&h.done))
		msleep(20);
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
	const unsigned int nr = DMA_IOBUF_MAX_DEVS + 4;
	struct targets *t = test->priv;
	u64 last[DMA_IOBUF_MAX_DEVS + 4] = { };
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
	for (i = 0; i < DMA_IOBUF_MAX_DEVS; i++)
		KUNIT_ASSERT_EQ(test, 0, add(t, i));
	KUNIT_EXPECT_EQ(test, -E2BIG, add(t, 20));
	for (i = 0; i < DMA_IOBUF_MAX_DEVS; i++)
		KUNIT_EXPECT_EQ(test, 0, command(t, i));
	KUNIT_EXPECT_EQ(test, -EBADF, command(t, 20));
}

static struct kunit_case dma_iobuf_evict_cases[] = {
	KUNIT_CASE(one_after_the_other),
	KUNIT_CASE(used_ones_stay),
	KUNIT_CASE(gone_ones_first),
	KUNIT_CASE(commands_that_run),
	KUNIT_CASE(exporter_waits_for_commands),
	KUNIT_CASE(no_target_from_then_on),
	KUNIT_CASE_SLOW(nobody_starves),
	KUNIT_CASE(without_the_flag),
	{}
};

static struct kunit_suite dma_iobuf_evict_suite = {
	.name		= "dma_iobuf_evict",
	.init		= targets_init,
	.exit		= targets_exit,
	.test_cases	= dma_iobuf_evict_cases,
};

kunit_test_suite(dma_iobuf_evict_suite);
