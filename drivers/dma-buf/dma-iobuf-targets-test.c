// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of which devices a buffer has: more come than there is room for, and those
 * that were idle longest make room (DMA_IOBUF_EVICT)
 */
#include <kunit/device.h>
#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/dma-buf.h>
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

static void fake_unmap(struct dma_buf_attachment *attach, struct sg_table *sgt,
		       enum dma_data_direction dir)
{
	sg_free_table(sgt);
	kfree(sgt);
}

static void fake_release(struct dma_buf *dmabuf)
{
	complete(dmabuf->priv);
}

static const struct dma_buf_ops fake_ops = {
	.map_dma_buf	= fake_map,
	.unmap_dma_buf	= fake_unmap,
	.release	= fake_release,
};

/* ---- a buffer, and devices that come one after the other ---- */

struct targets {
	struct dma_buf		*dmabuf;
	struct completion	released;
	struct dma_iobuf	*buf;
	struct dma_iobuf_dev	*idev[NR];
};

static int targets_init(struct kunit *test)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct targets *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, t);
	init_completion(&t->released);
	info.ops = &fake_ops;
	info.size = SIZE;
	info.flags = O_RDWR;
	info.priv = &t->released;
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
	KUNIT_EXPECT_NE(test, 0, wait_for_completion_timeout(&t->released, 20 * HZ));
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
