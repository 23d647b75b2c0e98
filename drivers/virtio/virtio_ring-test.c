// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of chains of which one list is mapped already: what a device sees of
 * them, and what is mapped and unmapped, by every kind of ring. Emulators do not have
 * all kinds.
 */
#include <kunit/test.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#define RING		16	/* descriptors */
#define MAX_DATA	5	/* entries of the list that may be mapped already */
#define MAX_CHAIN	(MAX_DATA + 2)
#define ROUNDS		1000

#define MAPPED		0x40000000UL	/* where addresses of mappings begin */
#define PREMAPPED	0x80000000UL	/* and those that nobody has mapped here */

struct mapping {
	void		*ptr;		/* NULL: none */
	size_t		len;
	enum dma_data_direction dir;
};

/* What is mapped, and the device behind the ring */
struct fake {
	struct virtio_device	vdev;
	struct virtqueue	*vq;
	struct mapping		live[4 * MAX_CHAIN];
	unsigned int		maps;
	unsigned int		bad;	/* unmaps of what was not mapped like that */
	unsigned int		fail;	/* which map from now on is to fail, 0: none */
	unsigned int		next;	/* packed: where the next chain begins */
	bool			wrap;
	u16			used;	/* split: chains so far */
	char			*hdr, *status, *data;
};

/* ---- a map for the device, whose addresses tell what they are of ---- */

static struct fake *to_fake(union virtio_map map)
{
	return (struct fake *)map.group;
}

static struct mapping *fake_find(struct fake *f, u64 addr)
{
	u64 i = (addr - MAPPED) / SZ_64K;

	if (addr < MAPPED || addr % SZ_64K || i >= ARRAY_SIZE(f->live) ||
	    !f->live[i].ptr)
		return NULL;
	return &f->live[i];
}

static unsigned int fake_nr_live(struct fake *f)
{
	unsigned int i, nr = 0;

	for (i = 0; i < ARRAY_SIZE(f->live); i++)
		nr += !!f->live[i].ptr;
	return nr;
}

static dma_addr_t fake_map_page(union virtio_map map, struct page *page,
				unsigned long offset, size_t len,
				enum dma_data_direction dir, unsigned long attrs)
{
	struct fake *f = to_fake(map);
	unsigned int i;

	if (f->fail && !--f->fail)
		return DMA_MAPPING_ERROR;
	for (i = 0; i < ARRAY_SIZE(f->live); i++) {
		if (f->live[i].ptr)
			continue;
		f->live[i] = (struct mapping) {
			.ptr = page_address(page) + offset, .len = len, .dir = dir,
		};
		f->maps++;
		return MAPPED + i * SZ_64K;
	}
	return DMA_MAPPING_ERROR;
}

static void fake_unmap_page(union virtio_map map, dma_addr_t addr, size_t len,
			    enum dma_data_direction dir, unsigned long attrs)
{
	struct mapping *m = fake_find(to_fake(map), addr);

	if (!m || m->len != len || m->dir != dir)
		to_fake(map)->bad++;
	else
		m->ptr = NULL;
}

static void *fake_alloc(union virtio_map map, size_t size, dma_addr_t *addr,
			gfp_t gfp)
{
	void *ptr = alloc_pages_exact(PAGE_ALIGN(size), gfp | __GFP_ZERO);

	*addr = (unsigned long)ptr;
	return ptr;
}

static void fake_free(union virtio_map map, size_t size, void *ptr,
		      dma_addr_t addr, unsigned long attrs)
{
	free_pages_exact(ptr, PAGE_ALIGN(size));
}

static int fake_mapping_error(union virtio_map map, dma_addr_t addr)
{
	return addr == DMA_MAPPING_ERROR ? -ENOMEM : 0;
}

static const struct virtio_map_ops fake_ops = {
	.map_page	= fake_map_page,
	.unmap_page	= fake_unmap_page,
	.alloc		= fake_alloc,
	.free		= fake_free,
	.mapping_error	= fake_mapping_error,
};

/* ---- the device ---- */

struct entry {
	u64	addr;
	u32	len;
	bool	write;
};

static bool fake_is_packed(struct fake *f)
{
	return virtio_has_feature(&f->vdev, VIRTIO_F_RING_PACKED);
}

static void *fake_ring(struct fake *f)
{
	return (void *)(unsigned long)virtqueue_get_desc_addr(f->vq);
}

static u16 fake_split_head(struct fake *f)
{
	const struct vring *vring = virtqueue_get_vring(f->vq);

	return virtio16_to_cpu(&f->vdev, vring->avail->ring[f->used % RING]);
}

static unsigned int fake_split_chain(struct fake *f, struct entry *e)
{
	struct vring_desc *table = fake_ring(f), *d = &table[fake_split_head(f)];
	unsigned int nr = 0;
	u16 flags = virtio16_to_cpu(&f->vdev, d->flags);

	if (flags & VRING_DESC_F_INDIRECT) {
		struct mapping *m = fake_find(f, virtio64_to_cpu(&f->vdev, d->addr));

		if (!m)
			return 0;
		table = m->ptr;
		d = table;
	}
	while (nr < MAX_CHAIN) {
		flags = virtio16_to_cpu(&f->vdev, d->flags);
		e[nr].addr = virtio64_to_cpu(&f->vdev, d->addr);
		e[nr].len = virtio32_to_cpu(&f->vdev, d->len);
		e[nr++].write = flags & VRING_DESC_F_WRITE;
		if (!(flags & VRING_DESC_F_NEXT))
			return nr;
		d = &table[virtio16_to_cpu(&f->vdev, d->next)];
	}
	return 0;
}

static unsigned int fake_packed_chain(struct fake *f, struct entry *e)
{
	struct vring_packed_desc *table = fake_ring(f), *d = &table[f->next];
	unsigned int i, nr = 0, start = f->next, left = MAX_CHAIN;
	bool indirect = le16_to_cpu(d->flags) & VRING_DESC_F_INDIRECT;

	if (indirect) {
		struct mapping *m = fake_find(f, le64_to_cpu(d->addr));

		if (!m)
			return 0;
		left = le32_to_cpu(d->len) / sizeof(*d);
		table = m->ptr;
		start = 0;
	}
	for (i = start; nr < min(left, MAX_CHAIN); i = (i + 1) % RING) {
		u16 flags = le16_to_cpu(table[i].flags);

		e[nr].addr = le64_to_cpu(table[i].addr);
		e[nr].len = le32_to_cpu(table[i].len);
		e[nr++].write = flags & VRING_DESC_F_WRITE;
		if (!indirect && !(flags & VRING_DESC_F_NEXT))
			break;
	}
	return nr;
}

/* The chain, which takes @slots of the ring, was used */
static void fake_use(struct fake *f, unsigned int slots)
{
	const struct vring *vring;

	if (fake_is_packed(f)) {
		struct vring_packed_desc *table = fake_ring(f);

		/* which all entries of a chain have, but of the indirect one */
		table[f->next].id = table[(f->next + slots - 1) % RING].id;
		table[f->next].flags = f->wrap ?
			cpu_to_le16(BIT(VRING_PACKED_DESC_F_AVAIL) |
				    BIT(VRING_PACKED_DESC_F_USED)) : 0;
		f->next += slots;
		if (f->next >= RING) {
			f->next -= RING;
			f->wrap = !f->wrap;
		}
		return;
	}
	vring = virtqueue_get_vring(f->vq);
	vring->used->ring[f->used % RING].id =
		cpu_to_virtio32(&f->vdev, fake_split_head(f));
	vring->used->idx = cpu_to_virtio16(&f->vdev, ++f->used);
}

/* ---- tests ---- */

static const struct ring_kind {
	const char	*name;
	u64		features;
} kinds[] = {
	{ "split", 0 },
	{ "split_indirect", BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) },
	{ "split_in_order", BIT_ULL(VIRTIO_F_IN_ORDER) },
	{ "split_in_order_indirect", BIT_ULL(VIRTIO_F_IN_ORDER) |
				     BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) },
	{ "packed", BIT_ULL(VIRTIO_F_RING_PACKED) },
	{ "packed_indirect", BIT_ULL(VIRTIO_F_RING_PACKED) |
			     BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) },
	{ "packed_in_order", BIT_ULL(VIRTIO_F_RING_PACKED) |
			     BIT_ULL(VIRTIO_F_IN_ORDER) },
	{ "packed_in_order_indirect", BIT_ULL(VIRTIO_F_RING_PACKED) |
				      BIT_ULL(VIRTIO_F_IN_ORDER) |
				      BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) },
};

static void ring_kind_name(const struct ring_kind *kind, char *name)
{
	strscpy(name, kind->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(ring_kind, kinds, ring_kind_name);

static bool fake_notify(struct virtqueue *vq)
{
	return true;
}

static void fake_callback(struct virtqueue *vq)
{
}

static struct fake *fake_create(struct kunit *test)
{
	const struct ring_kind *kind = test->param_value;
	struct fake *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);
	union virtio_map map = { .group = (struct vduse_vq_group *)f };

	KUNIT_ASSERT_NOT_NULL(test, f);
	f->hdr = kunit_kzalloc(test, 16, GFP_KERNEL);
	f->status = kunit_kzalloc(test, 1, GFP_KERNEL);
	f->data = kunit_kzalloc(test, MAX_DATA * 512, GFP_KERNEL);
	KUNIT_ASSERT_TRUE(test, f->hdr && f->status && f->data);
	f->wrap = true;
	f->vdev.map = &fake_ops;
	f->vdev.features = kind->features | BIT_ULL(VIRTIO_F_VERSION_1) |
			   BIT_ULL(VIRTIO_F_ACCESS_PLATFORM);
	INIT_LIST_HEAD(&f->vdev.vqs);
	spin_lock_init(&f->vdev.vqs_list_lock);
	f->vq = vring_create_virtqueue_map(0, RING, SMP_CACHE_BYTES, &f->vdev,
					   true, false, false, fake_notify,
					   fake_callback, "test", map);
	KUNIT_ASSERT_NOT_NULL(test, f->vq);
	/* with VIRTIO_HARDEN_NOTIFICATION it is until the device is ready */
	__virtqueue_unbreak(f->vq);
	return f;
}

/* One chain: header, data, status, as drives have them */
struct chain {
	struct scatterlist	hdr, status, data[MAX_DATA];
	unsigned int		nr_data;
	bool			write, premapped;
};

static int chain_add(struct fake *f, struct chain *c)
{
	struct scatterlist *sgs[] = { &c->hdr, c->data, &c->status };
	unsigned int i;

	sg_init_one(&c->hdr, f->hdr, 16);
	sg_init_one(&c->status, f->status, 1);
	sg_init_table(c->data, c->nr_data);
	for (i = 0; i < c->nr_data; i++) {
		if (!c->premapped) {
			sg_set_buf(&c->data[i], f->data + i * 512, 512 - i);
			continue;
		}
		sg_dma_address(&c->data[i]) = PREMAPPED + i * SZ_8K;
		sg_dma_len(&c->data[i]) = 512 - i;
	}
	return virtqueue_add_sgs_premapped(f->vq, sgs, 1 + c->write, 2 - c->write,
					   c->premapped ? BIT(1) : 0, c, GFP_KERNEL);
}

static bool entry_is(struct fake *f, const struct entry *e, void *ptr,
		     unsigned int len, bool write)
{
	struct mapping *m = fake_find(f, e->addr);

	return m && m->ptr == ptr && m->len == len && e->len == len &&
	       e->write == write &&
	       m->dir == (write ? DMA_FROM_DEVICE : DMA_TO_DEVICE);
}

static bool chain_is_right(struct fake *f, const struct chain *c)
{
	unsigned int i, nr, last = c->nr_data + 1;
	struct entry e[MAX_CHAIN];

	nr = fake_is_packed(f) ? fake_packed_chain(f, e) : fake_split_chain(f, e);
	if (nr != c->nr_data + 2 || !entry_is(f, &e[0], f->hdr, 16, false) ||
	    !entry_is(f, &e[last], f->status, 1, true))
		return false;
	for (i = 0; i < c->nr_data; i++) {
		const struct entry *d = &e[i + 1];
		bool good;

		if (c->premapped)
			good = d->addr == PREMAPPED + i * SZ_8K &&
			       d->len == 512 - i && d->write != c->write;
		else
			good = entry_is(f, d, f->data + i * 512, 512 - i,
					!c->write);
		if (!good)
			return false;
	}
	return true;
}

static void vring_premapped(struct kunit *test)
{
	struct fake *f = fake_create(test);
	unsigned int i, len, slots;

	for (i = 0; i < ROUNDS && !f->bad; i++) {
		struct chain c = {
			.nr_data = 1 + i % MAX_DATA, .write = i & 1,
			.premapped = i % 3,
		};
		unsigned int want = 2 + (c.premapped ? 0 : c.nr_data) +
			virtio_has_feature(&f->vdev, VIRTIO_RING_F_INDIRECT_DESC);

		f->maps = 0;
		slots = f->vq->num_free;
		KUNIT_ASSERT_EQ(test, 0, chain_add(f, &c));
		slots -= f->vq->num_free;
		KUNIT_ASSERT_EQ(test, want, f->maps);
		KUNIT_ASSERT_TRUE(test, chain_is_right(f, &c));
		fake_use(f, slots);
		KUNIT_ASSERT_PTR_EQ(test, (void *)&c,
				    virtqueue_get_buf(f->vq, &len));
		KUNIT_ASSERT_EQ(test, 0, fake_nr_live(f));
		KUNIT_ASSERT_EQ(test, RING, f->vq->num_free);
	}
	KUNIT_EXPECT_EQ(test, 0, f->bad);
	vring_del_virtqueue(f->vq);
}

/* A map in the middle fails: what was mapped is unmapped, and nothing else */
static void vring_premapped_fails(struct kunit *test)
{
	struct fake *f = fake_create(test);
	unsigned int i, len, slots;
	int ret;

	for (i = 0; i < ROUNDS && !f->bad; i++) {
		struct chain c = {
			.nr_data = 1 + i % MAX_DATA, .write = i & 1,
			.premapped = i % 3,
		};

		slots = f->vq->num_free;
		/* header or status */
		f->fail = 1 + i / 2 % 2;
		if (!c.premapped)
			f->fail = 1 + i % (c.nr_data + 2);
		ret = chain_add(f, &c);
		KUNIT_ASSERT_EQ(test, 0, f->fail);
		slots -= f->vq->num_free;
		if (!ret) {
			/* a packed ring does without the table */
			KUNIT_ASSERT_TRUE(test, fake_is_packed(f));
			KUNIT_ASSERT_TRUE(test, chain_is_right(f, &c));
			fake_use(f, slots);
			KUNIT_ASSERT_PTR_EQ(test, (void *)&c,
					    virtqueue_get_buf(f->vq, &len));
		} else {
			KUNIT_ASSERT_EQ(test, fake_is_packed(f) ? -EIO : -ENOMEM,
					ret);
		}
		KUNIT_ASSERT_EQ(test, 0, fake_nr_live(f));
		KUNIT_ASSERT_EQ(test, RING, f->vq->num_free);
	}
	KUNIT_EXPECT_EQ(test, 0, f->bad);
	vring_del_virtqueue(f->vq);
}

/* A device that is gone uses none: whoever takes chains back leaves what is not its own */
static void vring_premapped_unused(struct kunit *test)
{
	struct fake *f = fake_create(test);
	struct chain c[2] = {
		{ .nr_data = MAX_DATA, .premapped = true },
		{ .nr_data = MAX_DATA, .premapped = true, .write = true },
	};
	unsigned int seen = 0;
	struct chain *unused;

	KUNIT_ASSERT_EQ(test, 0, chain_add(f, &c[0]));
	KUNIT_ASSERT_EQ(test, 0, chain_add(f, &c[1]));
	KUNIT_EXPECT_NE(test, 0, fake_nr_live(f));
	while ((unused = virtqueue_detach_unused_buf(f->vq)))
		seen |= BIT(unused - c);
	KUNIT_EXPECT_EQ(test, BIT(0) | BIT(1), seen);
	KUNIT_EXPECT_EQ(test, 0, fake_nr_live(f));
	KUNIT_EXPECT_EQ(test, 0, f->bad);
	vring_del_virtqueue(f->vq);
}

static struct kunit_case vring_cases[] = {
	KUNIT_CASE_PARAM(vring_premapped, ring_kind_gen_params),
	KUNIT_CASE_PARAM(vring_premapped_fails, ring_kind_gen_params),
	KUNIT_CASE_PARAM(vring_premapped_unused, ring_kind_gen_params),
	{}
};

static struct kunit_suite vring_suite = {
	.name = "dma_iobuf_vring",
	.test_cases = vring_cases,
};

kunit_test_suite(vring_suite);
