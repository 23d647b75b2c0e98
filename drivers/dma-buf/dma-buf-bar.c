// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test exporter: dma-bufs in a PCI memory device's BAR
 *
 * Plays the part of a GPU for tests of importers: memory behind a BAR that has
 * no struct page, that moves (between the halves of the BAR and system memory),
 * is revoked, and disappears with its device. What a GPU driver would not tell
 * is what tests need to know: the exporter shows the memory through its own CPU
 * mapping, counts maps, poisons the memory that a move leaves behind and counts
 * the bytes that are written to it afterwards.
 *
 * The device is an ivshmem-plain as QEMU has it; its BAR 2 is plain memory.
 *
 * Real exporters differ in what they ask of an importer and in what they do
 * without one. The parts of those that matter most are played, too, flaws
 * included: see DMA_BUF_BAR_FLAVOURS.
 *
 * Locking: bar_lock covers the list of devices and each device's list of
 * buffers; everything in struct bar_buf but its list node and its fence is under
 * the buffer's dma_resv lock. bar_lock is not taken under a dma_resv lock.
 */
#include <linux/atomic.h>
#include <linux/bitops.h>
#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/dma-buf.h>
#include <linux/dma-buf-mapping.h>
#include <linux/dma-fence.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/genalloc.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/iosys-map.h>
#include <linux/log2.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/pci.h>
#include <linux/pci-p2pdma.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/wait.h>

#include "dma-buf-bar.h"

#define BAR_NR			2
#define BAR_POISON		0xee
#define BAR_BOUNCE_SIZE		SZ_64K
#define BAR_QUIESCE_TIMEOUT	(60 * HZ)
#define BAR_FENCE_TIMEOUT	(10 * HZ)
#define BAR_CREATE_FLAGS	(DMA_BUF_BAR_FRAGMENTED | DMA_BUF_BAR_NO_PIN | \
				 DMA_BUF_BAR_START_SYSTEM | DMA_BUF_BAR_RDONLY | \
				 DMA_BUF_BAR_FLAVOURS | \
				 DMA_BUF_BAR_UNTRANSLATED | \
				 DMA_BUF_BAR_ALTERNATE | \
				 DMA_BUF_BAR_UNREACHABLE | DMA_BUF_BAR_HELD | \
				 DMA_BUF_BAR_MIXED | DMA_BUF_BAR_SEPARATE | \
				 DMA_BUF_BAR_VMAP)
/* never move, and never take back what they have handed out */
#define BAR_STAYS		(DMA_BUF_BAR_NVIDIA | DMA_BUF_BAR_HABANALABS)
/* DMA_BUF_BAR_MIXED: chunks after which the sizes begin again */
#define BAR_MIXED_CHUNKS	256

/**
 * struct bar_dev - one memory device
 * @ref: the bound driver, and every buffer
 * @node: in bar_devs
 * @bufs: buffers that have to be told when the driver unbinds
 * @provider: for P2PDMA; gone when the driver is unbound, as is @va
 * @va: CPU mapping of the whole BAR
 * @phys: physical address of the BAR
 * @half: bytes in each half
 * @pool: allocators of the halves, in physical addresses
 */
struct bar_dev {
	struct kref ref;
	struct list_head node;
	struct list_head bufs;
	struct p2pdma_provider *provider;
	void *va;
	phys_addr_t phys;
	size_t half;
	struct gen_pool *pool[2];
};

/**
 * struct bar_store - memory in one place
 * @ref: the buffer, and every mapping of this memory
 * @bdev: borrowed from the buffer
 * @place: DMA_BUF_BAR_PLACE_*
 * @size: bytes
 * @chunk: bytes that are contiguous; @size if not fragmented
 * @flags: &dma_buf_bar_create.flags
 * @phys: in a BAR: physical address of the lowest byte
 * @va: CPU mapping of the lowest byte; for pages, in the order of @pages
 * @pages: in system memory: the pages, first one of the buffer first
 */
struct bar_store {
	struct kref ref;
	struct bar_dev *bdev;
	u32 place;
	size_t size;
	size_t chunk;
	u32 flags;
	phys_addr_t phys;
	void *va;
	struct page **pages;
};

/**
 * struct bar_buf - what a dma-buf of ours is
 * @bdev: the device, with a reference
 * @dmabuf: the dma-buf; it owns this structure
 * @node: in &bar_dev.bufs
 * @cur: the memory in use
 * @old: the memory in use before the last move, poisoned, or %NULL
 * @maps: all mappings, &struct bar_map
 * @fence_lock: for @fence
 * @fence: fence of DMA_BUF_BAR_IOC_FENCE, or %NULL
 * @idle: woken up when the last mapping of a BAR is gone
 * @chunk: &dma_buf_bar_create.chunk
 * @flags: &dma_buf_bar_create.flags
 * @nr_moves: see &struct dma_buf_bar_info, as the following
 * @nr_maps: all maps that succeeded
 * @stray: bytes that were written to @old
 * @nr_pins: pins now
 * @nr_live: mappings now
 * @nr_late: quiescing that left mappings behind
 * @nr_bar_live: those of @nr_live that are of a BAR
 * @revoked: user space asked for it
 * @dead: the device is gone, @cur and @old cannot be looked at
 */
struct bar_buf {
	struct bar_dev *bdev;
	struct dma_buf *dmabuf;
	struct list_head node;
	struct bar_store *cur;
	struct bar_store *old;
	struct list_head maps;
	spinlock_t fence_lock;	/* importers wait under the dma_resv lock */
	struct dma_fence *fence;
	wait_queue_head_t idle;
	size_t chunk;
	u32 flags;
	u64 nr_moves;
	u64 nr_maps;
	u64 stray;
	u32 nr_pins;
	u32 nr_live;
	u32 nr_late;
	u32 nr_bar_live;
	bool revoked;
	bool dead;
};

/* A mapping: says at unmap time where the memory was at map time */
struct bar_map {
	struct list_head node;
	struct sg_table *sgt;
	struct bar_store *store;
	bool pieces;			/* from bar_map_pieces() */
};

struct bar_fence {
	struct dma_fence base;		/* first: freed by dma_fence_free() */
	struct timer_list timer;	/* holds a reference while pending */
};

static DEFINE_MUTEX(bar_lock);
static LIST_HEAD(bar_devs);

/* debugfs: the next bar_fail_count maps fail with bar_fail_errno */
static atomic_t bar_fail_count;
static u32 bar_fail_errno = ENOMEM;
/* the same for the CPU's accesses, and how many of the next add a fence meanwhile */
static atomic_t bar_fail_cpu_count;
static u32 bar_fail_cpu_errno = ENOMEM;
static atomic_t bar_cpu_fence_count;
static atomic_t bar_maps_live;

static void bar_dev_release(struct kref *ref)
{
	struct bar_dev *bdev = container_of(ref, struct bar_dev, ref);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bdev->pool); i++)
		if (bdev->pool[i])
			gen_pool_destroy(bdev->pool[i]);
	kfree(bdev);
}

static void bar_dev_put(struct bar_dev *bdev)
{
	kref_put(&bdev->ref, bar_dev_release);
}

/* The n-th device, in the order in which they were bound */
static struct bar_dev *bar_dev_find(u32 n)
{
	struct bar_dev *bdev;

	lockdep_assert_held(&bar_lock);

	list_for_each_entry(bdev, &bar_devs, node)
		if (!n--)
			return bdev;
	return NULL;
}

/*
 * Position in memory of chunk @i of @nr: the odd ones first, then the even
 * ones. No chunk is right behind its predecessor, whatever @nr is.
 */
static size_t bar_shuffle(size_t i, size_t nr)
{
	return i < nr / 2 ? 2 * i + 1 : 2 * (i - nr / 2);
}

/*
 * The same with DMA_BUF_BAR_MIXED: pieces that begin at a power of two and end at
 * the next, the last one first. They too never follow their predecessor.
 */
static size_t bar_shuffle_mixed(size_t i)
{
	size_t in = i % BAR_MIXED_CHUNKS;
	size_t first = in ? rounddown_pow_of_two(in) : 0;
	size_t next = first ? 2 * first : 1;

	return i - in + BAR_MIXED_CHUNKS - next + (in - first);
}

static bool bar_store_fragmented(const struct bar_store *st)
{
	return st->chunk < st->size;
}

/*
 * Offset in @st's memory of byte @off of the buffer. @len is cut to what is
 * contiguous from there.
 */
static size_t bar_store_pos(const struct bar_store *st, size_t off, size_t *len)
{
	size_t i = off / st->chunk, in_chunk;

	if (st->pages || !bar_store_fragmented(st))
		return off;
	in_chunk = off & (st->chunk - 1);
	*len = min(*len, st->chunk - in_chunk);
	i = st->flags & DMA_BUF_BAR_MIXED ? bar_shuffle_mixed(i) :
					    bar_shuffle(i, st->size / st->chunk);
	return i * st->chunk + in_chunk;
}

static void *bar_store_va(const struct bar_store *st, size_t off, size_t *len)
{
	return st->va + bar_store_pos(st, off, len);
}

static void bar_store_read(const struct bar_store *st, size_t off, void *to,
			   size_t size)
{
	size_t done, len;

	for (done = 0; done < size; done += len) {
		void *va;

		len = size - done;
		va = bar_store_va(st, off + done, &len);
		memcpy(to + done, va, len);
	}
}

static void bar_store_write(const struct bar_store *st, size_t off,
			    const void *from, size_t size)
{
	size_t done, len;

	for (done = 0; done < size; done += len) {
		void *va;

		len = size - done;
		va = bar_store_va(st, off + done, &len);
		memcpy(va, from + done, len);
	}
	/* The BAR is mapped write combining: a device has to see this now */
	mb();
}

static void bar_store_copy(const struct bar_store *to,
			   const struct bar_store *from)
{
	size_t off, len;

	for (off = 0; off < from->size; off += len) {
		void *va;

		len = from->size - off;
		va = bar_store_va(from, off, &len);
		bar_store_write(to, off, va, len);
	}
}

/* In any order: all bytes become the same */
static void bar_store_fill(const struct bar_store *st, u8 byte)
{
	memset(st->va, byte, st->size);
	mb(); /* as in bar_store_write() */
}

/* Count the bytes that are no longer poisoned and poison them again */
static u64 bar_store_stray(const struct bar_store *st)
{
	u8 *p = st->va, *end = p + st->size;
	u64 stray = 0;

	while ((p = memchr_inv(p, BAR_POISON, end - p))) {
		for (; p < end && *p != BAR_POISON; p++) {
			*p = BAR_POISON;
			stray++;
		}
	}
	return stray;
}

static void bar_store_free_pages(struct bar_store *st)
{
	size_t i;

	if (st->va)
		vunmap(st->va);
	for (i = 0; i < st->size >> PAGE_SHIFT; i++)
		if (st->pages[i])
			__free_page(st->pages[i]);
	kvfree(st->pages);
}

/* One block of pages per chunk, or single pages if not fragmented */
static int bar_store_alloc_pages(struct bar_store *st)
{
	size_t i, j, blocks, nr = st->size >> PAGE_SHIFT;
	unsigned int order = 0;
	struct page *page;

	st->pages = kvcalloc(nr, sizeof(*st->pages), GFP_KERNEL);
	if (!st->pages)
		return -ENOMEM;
	if (bar_store_fragmented(st))
		order = min(get_order(st->chunk), MAX_PAGE_ORDER);
	blocks = nr >> order;

	for (i = 0; i < blocks; i++) {
		size_t to = bar_store_fragmented(st) ? bar_shuffle(i, blocks) : i;

		page = alloc_pages(GFP_KERNEL | __GFP_NOWARN, order);
		if (!page)
			goto err_free;
		split_page(page, order);
		for (j = 0; j < 1UL << order; j++)
			st->pages[(to << order) + j] = page + j;
	}

	st->va = vmap(st->pages, nr, VM_MAP, PAGE_KERNEL);
	if (st->va)
		return 0;
err_free:
	bar_store_free_pages(st);
	return -ENOMEM;
}

static int bar_store_alloc_bar(struct bar_store *st)
{
	struct genpool_data_align align = {
		.align = bar_store_fragmented(st) ? st->chunk : PAGE_SIZE,
	};
	struct bar_dev *bdev = st->bdev;

	st->phys = gen_pool_alloc_algo(bdev->pool[st->place], st->size,
				       gen_pool_first_fit_align, &align);
	if (!st->phys)
		return -ENOSPC;
	st->va = bdev->va + (st->phys - bdev->phys);
	return 0;
}

static struct bar_store *bar_store_alloc(struct bar_dev *bdev, u32 place,
					 size_t size, size_t chunk, u32 flags)
{
	struct bar_store *st;
	int ret;

	st = kzalloc_obj(*st);
	if (!st)
		return ERR_PTR(-ENOMEM);
	kref_init(&st->ref);
	st->bdev = bdev;
	st->place = place;
	st->size = size;
	st->chunk = chunk ?: size;
	st->flags = flags;

	if (place == DMA_BUF_BAR_PLACE_SYSTEM)
		ret = bar_store_alloc_pages(st);
	else
		ret = bar_store_alloc_bar(st);
	if (ret) {
		kfree(st);
		return ERR_PTR(ret);
	}
	return st;
}

static void bar_store_release(struct kref *ref)
{
	struct bar_store *st = container_of(ref, struct bar_store, ref);

	if (st->pages)
		bar_store_free_pages(st);
	else
		gen_pool_free(st->bdev->pool[st->place], st->phys, st->size);
	kfree(st);
}

static void bar_store_put(struct bar_store *st)
{
	if (st)
		kref_put(&st->ref, bar_store_release);
}

static const char *bar_fence_name(struct dma_fence *fence)
{
	return "dmabuf_bar";
}

static const struct dma_fence_ops bar_fence_ops = {
	.get_driver_name	= bar_fence_name,
	.get_timeline_name	= bar_fence_name,
};

static void bar_fence_expire(struct timer_list *timer)
{
	struct bar_fence *f = timer_container_of(f, timer, timer);

	dma_fence_signal(&f->base);
	dma_fence_put(&f->base);
}

static struct dma_fence *bar_fence_take(struct bar_buf *buf)
{
	struct dma_fence *fence;

	spin_lock(&buf->fence_lock);
	fence = buf->fence;
	buf->fence = NULL;
	spin_unlock(&buf->fence_lock);
	return fence;
}

static bool bar_fence_busy(struct bar_buf *buf)
{
	guard(spinlock)(&buf->fence_lock);

	return buf->fence && !dma_fence_is_signaled(buf->fence);
}

static int bar_fence_install(struct bar_buf *buf)
{
	struct dma_resv *resv = buf->dmabuf->resv;
	struct bar_fence *f;
	int ret;

	dma_resv_assert_held(resv);

	if (bar_fence_busy(buf))
		return -EBUSY;
	ret = dma_resv_reserve_fences(resv, 1);
	if (ret)
		return ret;
	f = kzalloc_obj(*f);
	if (!f)
		return -ENOMEM;
	dma_fence_init(&f->base, &bar_fence_ops, NULL,
		       dma_fence_context_alloc(1), 1);
	dma_resv_add_fence(resv, &f->base, DMA_RESV_USAGE_KERNEL);

	/* A fence has to signal in finite time, whatever user space does */
	timer_setup(&f->timer, bar_fence_expire, 0);
	dma_fence_get(&f->base);
	mod_timer(&f->timer, jiffies + BAR_FENCE_TIMEOUT);

	dma_fence_put(bar_fence_take(buf));	/* an expired one */
	spin_lock(&buf->fence_lock);
	buf->fence = &f->base;
	spin_unlock(&buf->fence_lock);
	return 0;
}

/* Without the dma_resv lock, which those who wait may hold */
static int bar_fence_signal(struct bar_buf *buf)
{
	struct dma_fence *fence = bar_fence_take(buf);

	if (!fence)
		return -ENOENT;
	if (timer_delete(&container_of(fence, struct bar_fence, base)->timer))
		dma_fence_put(fence);
	dma_fence_signal(fence);
	dma_fence_put(fence);
	return 0;
}

/*
 * BAR memory has no struct pages, which an importer has to know. And it has to let
 * go of the memory when it is told, or must be able to pin it.
 */
static bool bar_attach_allowed(struct dma_buf_attachment *attach, u32 place)
{
	if (!dma_buf_attach_revocable(attach) && !attach->dmabuf->ops->pin)
		return false;
	return place == DMA_BUF_BAR_PLACE_SYSTEM || attach->peer2peer;
}

/* amdgpu, xe: the memory comes to a device that it cannot be reached by */
static bool bar_comes(const struct bar_buf *buf)
{
	return buf->flags & DMA_BUF_BAR_UNREACHABLE &&
	       !(buf->flags & DMA_BUF_BAR_FLAVOURS);
}

static int bar_attach_check(struct bar_buf *buf,
			    struct dma_buf_attachment *attach)
{
	bool unreachable = buf->flags & DMA_BUF_BAR_UNREACHABLE;

	if (buf->dead)
		return -ENODEV;
	switch (buf->flags & DMA_BUF_BAR_FLAVOURS) {
	case DMA_BUF_BAR_NVIDIA:
		return unreachable ||
		       (attach->importer_ops && !attach->peer2peer) ?
		       -ENOTSUPP : 0;
	case DMA_BUF_BAR_HABANALABS:
		if (unreachable)
			attach->peer2peer = false;
		return 0;
	case DMA_BUF_BAR_VFIO:
	case DMA_BUF_BAR_TENSTORRENT:
		if (buf->revoked)
			return -ENODEV;
		return attach->peer2peer && dma_buf_attach_revocable(attach) ?
		       0 : -EOPNOTSUPP;
	}
	if (bar_comes(buf)) {
		attach->peer2peer = false;
		return bar_attach_allowed(attach, DMA_BUF_BAR_PLACE_SYSTEM) ?
		       0 : -EOPNOTSUPP;
	}
	return bar_attach_allowed(attach, buf->cur->place) ? 0 : -EOPNOTSUPP;
}

static int bar_attach(struct dma_buf *dmabuf, struct dma_buf_attachment *attach)
{
	struct bar_buf *buf = dmabuf->priv;
	int ret;

	dma_resv_lock(dmabuf->resv, NULL);
	ret = bar_attach_check(buf, attach);
	dma_resv_unlock(dmabuf->resv);
	return ret;
}

static int bar_buf_move(struct bar_buf *buf, u32 place);

static int bar_pin(struct dma_buf_attachment *attach)
{
	struct bar_buf *buf = attach->dmabuf->priv;
	int ret = 0;

	if (buf->dead || buf->revoked)
		return -ENODEV;
	if (bar_comes(buf) && !buf->cur->pages)
		ret = buf->nr_pins ? -EINVAL :
		      bar_buf_move(buf, DMA_BUF_BAR_PLACE_SYSTEM);
	if (!ret)
		buf->nr_pins++;
	return ret;
}

static void bar_unpin(struct dma_buf_attachment *attach)
{
	struct bar_buf *buf = attach->dmabuf->priv;

	if (!WARN_ON(!buf->nr_pins))
		buf->nr_pins--;
}

static struct sg_table *bar_map_pages(struct dma_buf_attachment *attach,
				      struct bar_store *st,
				      enum dma_data_direction dir)
{
	struct sg_table *sgt;
	int ret;

	sgt = kzalloc_obj(*sgt);
	if (!sgt)
		return ERR_PTR(-ENOMEM);
	ret = sg_alloc_table_from_pages(sgt, st->pages, st->size >> PAGE_SHIFT,
					0, st->size, GFP_KERNEL);
	if (ret)
		goto err_free;
	ret = dma_map_sgtable(attach->dev, sgt, dir, 0);
	if (ret)
		goto err_free_table;
	return sgt;

err_free_table:
	sg_free_table(sgt);
err_free:
	kfree(sgt);
	return ERR_PTR(ret);
}

static void bar_unmap_pages(struct dma_buf_attachment *attach,
			    struct sg_table *sgt, enum dma_data_direction dir)
{
	dma_unmap_sgtable(attach->dev, sgt, dir, 0);
	sg_free_table(sgt);
	kfree(sgt);
}

/*
 * A PCIe switch routes a bus address between its ports. QEMU has the switch but
 * not the routing: with an emulated IOMMU each access goes there, and is a fault.
 * So let the IOMMU pass on, unchanged, what the switch would have kept to itself.
 * The addresses are those that real hardware is given: iova_reserve_pci_windows()
 * keeps the DMA API from ever handing them out for something else.
 */
static bool bar_emulate_switch;
module_param_named(emulate_switch, bar_emulate_switch, bool, 0444);
MODULE_PARM_DESC(emulate_switch, "map bus addresses 1:1 in the IOMMU, for QEMU");

static int bar_route(struct dma_buf_attachment *attach, struct bar_dev *bdev)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(attach->dev);
	static DEFINE_MUTEX(lock);

	if (!bar_emulate_switch || !domain ||
	    !(domain->type & __IOMMU_DOMAIN_PAGING) ||
	    pci_p2pdma_map_type(bdev->provider, attach->dev) !=
	    PCI_P2PDMA_MAP_BUS_ADDR)
		return 0;

	/* once per domain, and for as long as that lives */
	guard(mutex)(&lock);
	if (iommu_iova_to_phys(domain, bdev->phys))
		return 0;
	return iommu_map(domain, bdev->phys, bdev->phys, 2 * bdev->half,
			 IOMMU_READ | IOMMU_WRITE | IOMMU_MMIO, GFP_KERNEL);
}

/* DMA_BUF_BAR_SEPARATE */
static void bar_unmap_separate(struct dma_buf_attachment *attach,
			       struct sg_table *sgt, enum dma_data_direction dir)
{
	struct scatterlist *sg;
	unsigned int i;

	for_each_sgtable_dma_sg(sgt, sg, i)
		if (sg_dma_len(sg))
			dma_unmap_phys(attach->dev, sg_dma_address(sg),
				       sg_dma_len(sg), dir, DMA_ATTR_MMIO);
	sg_free_table(sgt);
	kfree(sgt);
}

static struct sg_table *bar_map_separate(struct dma_buf_attachment *attach,
					 const struct phys_vec *vec, size_t nr,
					 enum dma_data_direction dir)
{
	struct scatterlist *sg;
	struct sg_table *sgt;
	unsigned int i;
	int ret;

	sgt = kzalloc_obj(*sgt);
	if (!sgt)
		return ERR_PTR(-ENOMEM);
	ret = sg_alloc_table(sgt, nr, GFP_KERNEL);
	if (ret) {
		kfree(sgt);
		return ERR_PTR(ret);
	}
	for_each_sgtable_dma_sg(sgt, sg, i) {
		dma_addr_t addr = dma_map_phys(attach->dev, vec[i].paddr,
					       vec[i].len, dir, DMA_ATTR_MMIO);

		if (dma_mapping_error(attach->dev, addr)) {
			bar_unmap_separate(attach, sgt, dir);
			return ERR_PTR(-EIO);
		}
		sg_dma_address(sg) = addr;
		sg_dma_len(sg) = vec[i].len;
	}
	return sgt;
}

/* The pieces of memory, in the order of the buffer; returns how many */
static size_t bar_pieces(const struct bar_store *st, struct phys_vec *vec)
{
	size_t off, len, nr = 0;

	for (off = 0; off < st->size; off += len) {
		phys_addr_t phys;

		len = st->size - off;
		phys = st->phys + bar_store_pos(st, off, &len);
		if (nr && vec[nr - 1].paddr + vec[nr - 1].len == phys)
			vec[nr - 1].len += len;
		else
			vec[nr++] = (struct phys_vec) { .paddr = phys, .len = len };
	}
	return nr;
}

static struct sg_table *bar_map_bar(struct dma_buf_attachment *attach,
				    struct bar_store *st,
				    enum dma_data_direction dir)
{
	bool separate = st->flags & DMA_BUF_BAR_SEPARATE;
	struct phys_vec *vec;
	struct sg_table *sgt;
	size_t nr;
	int ret;

	ret = separate ? 0 : bar_route(attach, st->bdev);
	if (ret)
		return ERR_PTR(ret);
	vec = kvcalloc(st->size / st->chunk, sizeof(*vec), GFP_KERNEL);
	if (!vec)
		return ERR_PTR(-ENOMEM);
	nr = bar_pieces(st, vec);
	if (separate)
		sgt = bar_map_separate(attach, vec, nr, dir);
	else
		sgt = dma_buf_phys_vec_to_sgt(attach, st->bdev->provider, vec,
					      nr, st->size, dir);
	kvfree(vec);
	return sgt;
}

static bool bar_piece_is_mapped(const struct bar_buf *buf, unsigned int i)
{
	if (!(buf->flags & DMA_BUF_BAR_UNTRANSLATED))
		return true;
	return buf->flags & DMA_BUF_BAR_ALTERNATE && i & 1;
}

static void bar_unmap_pieces(struct dma_buf_attachment *attach,
			     struct sg_table *sgt, enum dma_data_direction dir)
{
	struct bar_buf *buf = attach->dmabuf->priv;
	struct scatterlist *sg;
	unsigned int i;

	for_each_sgtable_dma_sg(sgt, sg, i)
		if (sg_dma_len(sg) && bar_piece_is_mapped(buf, i))
			dma_unmap_resource(attach->dev, sg_dma_address(sg),
					   sg_dma_len(sg), dir, 0);
	sg_free_table(sgt);
	kfree(sgt);
}

/* As drivers do that know nothing of switches: each piece for itself */
static struct sg_table *bar_map_pieces(struct dma_buf_attachment *attach,
				       struct bar_store *st,
				       enum dma_data_direction dir)
{
	struct bar_buf *buf = attach->dmabuf->priv;
	size_t nr = st->size / st->chunk;
	struct scatterlist *sg;
	struct sg_table *sgt;
	unsigned int i;
	int ret;

	ret = bar_route(attach, st->bdev);
	if (ret)
		return ERR_PTR(ret);
	sgt = kzalloc_obj(*sgt);
	if (!sgt)
		return ERR_PTR(-ENOMEM);
	ret = sg_alloc_table(sgt, nr, GFP_KERNEL);
	if (ret) {
		kfree(sgt);
		return ERR_PTR(ret);
	}
	for_each_sgtable_dma_sg(sgt, sg, i) {
		size_t len = st->chunk;
		dma_addr_t addr = st->phys +
				  bar_store_pos(st, i * st->chunk, &len);

		if (bar_piece_is_mapped(buf, i))
			addr = dma_map_resource(attach->dev, addr, len, dir, 0);
		if (dma_mapping_error(attach->dev, addr)) {
			bar_unmap_pieces(attach, sgt, dir);
			return ERR_PTR(-ENOMEM);
		}
		sg_dma_address(sg) = addr;
		sg_dma_len(sg) = len;
	}
	return sgt;
}

/* What is to go wrong with this; 0: nothing */
static int bar_fail(atomic_t *count, u32 err)
{
	if (atomic_dec_if_positive(count) < 0)
		return 0;
	return err && err <= MAX_ERRNO ? -(int)err : -EIO;
}

static int bar_fail_map(void)
{
	return bar_fail(&bar_fail_count, READ_ONCE(bar_fail_errno));
}

/* May the memory be mapped where it is; moves it if that is what it takes */
static int bar_map_prepare(struct bar_buf *buf,
			   struct dma_buf_attachment *attach)
{
	bool unreachable = buf->flags & DMA_BUF_BAR_UNREACHABLE;

	if (buf->dead || buf->revoked)
		return -ENODEV;
	switch (buf->flags & DMA_BUF_BAR_FLAVOURS) {
	case DMA_BUF_BAR_HABANALABS:
		return attach->peer2peer ? 0 : -EPERM;
	case DMA_BUF_BAR_VFIO:
	case DMA_BUF_BAR_TENSTORRENT:
		return unreachable ? -EINVAL : 0;
	case DMA_BUF_BAR_NVIDIA:
		return 0;
	}
	if (bar_comes(buf)) {
		if (buf->cur->pages || buf->nr_pins)
			return 0;
		return bar_buf_move(buf, DMA_BUF_BAR_PLACE_SYSTEM);
	}
	return bar_attach_allowed(attach, buf->cur->place) ? 0 : -EOPNOTSUPP;
}

static struct sg_table *bar_map_store(struct dma_buf_attachment *attach,
				      struct bar_map *map,
				      enum dma_data_direction dir)
{
	struct bar_buf *buf = attach->dmabuf->priv;

	if (map->store->pages)
		return bar_map_pages(attach, map->store, dir);
	map->pieces = buf->flags & BAR_STAYS || bar_comes(buf);
	if (map->pieces)
		return bar_map_pieces(attach, map->store, dir);
	return bar_map_bar(attach, map->store, dir);
}

static struct sg_table *bar_map(struct dma_buf_attachment *attach,
				enum dma_data_direction dir)
{
	struct bar_buf *buf = attach->dmabuf->priv;
	struct bar_store *st;
	struct sg_table *sgt;
	struct bar_map *map;
	int ret;

	ret = bar_map_prepare(buf, attach);
	if (!ret)
		ret = bar_fail_map();
	if (ret)
		return ERR_PTR(ret);

	map = kzalloc_obj(*map);
	if (!map)
		return ERR_PTR(-ENOMEM);
	st = buf->cur;
	map->store = st;
	sgt = bar_map_store(attach, map, dir);
	if (IS_ERR(sgt)) {
		kfree(map);
		return sgt;
	}

	kref_get(&st->ref);
	map->sgt = sgt;
	list_add(&map->node, &buf->maps);
	buf->nr_maps++;
	buf->nr_live++;
	if (!st->pages)
		buf->nr_bar_live++;
	atomic_inc(&bar_maps_live);
	return sgt;
}

static struct bar_map *bar_map_find(struct bar_buf *buf, struct sg_table *sgt)
{
	struct bar_map *map;

	list_for_each_entry(map, &buf->maps, node)
		if (map->sgt == sgt)
			return map;
	return NULL;
}

/* bar_buf_kill() looks at the count without the dma_resv lock */
static void bar_buf_bar_unmapped(struct bar_buf *buf)
{
	WRITE_ONCE(buf->nr_bar_live, buf->nr_bar_live - 1);
	if (!buf->nr_bar_live)
		wake_up_all(&buf->idle);
}

static void bar_unmap(struct dma_buf_attachment *attach, struct sg_table *sgt,
		      enum dma_data_direction dir)
{
	struct bar_buf *buf = attach->dmabuf->priv;
	struct bar_map *map = bar_map_find(buf, sgt);
	struct bar_store *st;

	if (WARN_ON(!map))
		return;
	st = map->store;
	if (st->pages)
		bar_unmap_pages(attach, sgt, dir);
	else if (st->flags & DMA_BUF_BAR_SEPARATE)
		bar_unmap_separate(attach, sgt, dir);
	else if (map->pieces)
		bar_unmap_pieces(attach, sgt, dir);
	else
		dma_buf_free_sgt(attach, sgt, dir);

	list_del(&map->node);
	kfree(map);
	atomic_dec(&bar_maps_live);
	buf->nr_live--;
	if (!st->pages)
		bar_buf_bar_unmapped(buf);
	bar_store_put(st);
}

/* As drivers for graphics map their memory; it stays where it is, as if pinned */
static int bar_vmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct bar_buf *buf = dmabuf->priv;
	struct bar_store *st = buf->cur;
	int ret;

	if (buf->dead || buf->revoked)
		return -ENODEV;
	if (st->pages || buf->chunk)
		return -EOPNOTSUPP;
	ret = bar_fail_map();
	if (ret)
		return ret;
	iosys_map_set_vaddr_iomem(map, (void __iomem __force *)st->va);
	buf->nr_pins++;
	buf->nr_bar_live++;
	return 0;
}

static void bar_vunmap(struct dma_buf *dmabuf, struct iosys_map *map)
{
	struct bar_buf *buf = dmabuf->priv;

	buf->nr_pins--;
	bar_buf_bar_unmapped(buf);
}

/* Somebody else may begin to work on the memory at any time, so just then, too */
static int bar_begin_cpu_access(struct dma_buf *dmabuf,
				enum dma_data_direction dir)
{
	int ret;

	ret = bar_fail(&bar_fail_cpu_count, READ_ONCE(bar_fail_cpu_errno));
	if (ret || atomic_dec_if_positive(&bar_cpu_fence_count) < 0)
		return ret;
	dma_resv_lock(dmabuf->resv, NULL);
	ret = bar_fence_install(dmabuf->priv);
	dma_resv_unlock(dmabuf->resv);
	return ret;
}

static void bar_buf_free(struct bar_buf *buf)
{
	bar_store_put(buf->old);
	bar_store_put(buf->cur);
	bar_dev_put(buf->bdev);
	kfree(buf);
}

static void bar_release(struct dma_buf *dmabuf)
{
	struct bar_buf *buf = dmabuf->priv;

	mutex_lock(&bar_lock);
	list_del(&buf->node);
	mutex_unlock(&bar_lock);

	if (buf->flags & DMA_BUF_BAR_HELD)
		buf->nr_pins--;
	WARN_ON(buf->nr_live || buf->nr_pins);
	bar_fence_signal(buf);
	bar_buf_free(buf);
}

static const struct dma_buf_ops bar_ops = {
	.attach		= bar_attach,
	.pin		= bar_pin,
	.unpin		= bar_unpin,
	.map_dma_buf	= bar_map,
	.unmap_dma_buf	= bar_unmap,
	.release	= bar_release,
};

/* DMA_BUF_BAR_NO_PIN */
static const struct dma_buf_ops bar_ops_no_pin = {
	.attach		= bar_attach,
	.map_dma_buf	= bar_map,
	.unmap_dma_buf	= bar_unmap,
	.release	= bar_release,
};

/* DMA_BUF_BAR_VMAP */
static const struct dma_buf_ops bar_ops_vmap = {
	.attach		= bar_attach,
	.pin		= bar_pin,
	.unpin		= bar_unpin,
	.map_dma_buf	= bar_map,
	.unmap_dma_buf	= bar_unmap,
	.vmap		= bar_vmap,
	.vunmap		= bar_vunmap,
	.begin_cpu_access = bar_begin_cpu_access,
	.release	= bar_release,
};

/*
 * Make all importers stop. They may map again as soon as the dma_resv lock is
 * dropped, unless bar_map() has a reason to refuse.
 */
static int bar_buf_quiesce(struct bar_buf *buf)
{
	long left;

	dma_resv_assert_held(buf->dmabuf->resv);

	dma_buf_invalidate_mappings(buf->dmabuf);
	left = dma_resv_wait_timeout(buf->dmabuf->resv,
				     DMA_RESV_USAGE_BOOKKEEP, false,
				     BAR_QUIESCE_TIMEOUT);
	if (buf->nr_live)
		buf->nr_late++;
	if (left < 0)
		return left;
	return left ? 0 : -ETIMEDOUT;
}

static void bar_buf_check_poison(struct bar_buf *buf)
{
	if (buf->old && !buf->dead)
		buf->stray += bar_store_stray(buf->old);
}

static int bar_buf_move(struct bar_buf *buf, u32 place)
{
	struct bar_store *st;
	int ret;

	dma_resv_assert_held(buf->dmabuf->resv);

	if (buf->dead)
		return -ENODEV;
	if (buf->nr_pins)
		return -EBUSY;

	/* First, as its memory may be what the new place has to be made of */
	bar_buf_check_poison(buf);
	bar_store_put(buf->old);
	buf->old = NULL;

	st = bar_store_alloc(buf->bdev, place, buf->dmabuf->size, buf->chunk,
			     buf->flags);
	if (IS_ERR(st))
		return PTR_ERR(st);
	ret = bar_buf_quiesce(buf);
	if (ret) {
		bar_store_put(st);
		return ret;
	}

	bar_store_copy(st, buf->cur);
	bar_store_fill(buf->cur, BAR_POISON);
	buf->old = buf->cur;
	buf->cur = st;
	buf->nr_moves++;
	return 0;
}

/* Somebody has attached who cannot be told to let go */
static bool bar_buf_is_kept(struct bar_buf *buf)
{
	struct dma_buf_attachment *attach;

	list_for_each_entry(attach, &buf->dmabuf->attachments, node)
		if (attach->importer_ops && !dma_buf_attach_revocable(attach))
			return true;
	return false;
}

static int bar_buf_revoke(struct bar_buf *buf, bool revoke)
{
	dma_resv_assert_held(buf->dmabuf->resv);

	if (buf->dead)
		return -ENODEV;
	if (buf->flags & BAR_STAYS)
		return -EOPNOTSUPP;
	if (revoke && bar_buf_is_kept(buf))
		return -EBUSY;
	buf->revoked = revoke;
	return revoke ? bar_buf_quiesce(buf) : 0;
}

/* The device goes away. Returns when nobody can reach its memory any more. */
static void bar_buf_kill(struct bar_buf *buf)
{
	struct dma_resv *resv = buf->dmabuf->resv;

	dma_resv_lock(resv, NULL);
	buf->dead = true;
	bar_buf_quiesce(buf);
	dma_resv_unlock(resv);

	/* Importers that do not unmap at once have to do it soon */
	wait_event(buf->idle, !READ_ONCE(buf->nr_bar_live));
}

/* A reference to the returned dma-buf is the caller's */
static struct dma_buf *bar_buf_create(const struct dma_buf_bar_create *c)
{
	bool no_pin = c->flags & (DMA_BUF_BAR_NO_PIN | DMA_BUF_BAR_VFIO |
				  BAR_STAYS);
	bool sys = c->flags & DMA_BUF_BAR_START_SYSTEM;
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct bar_dev *bdev;
	struct bar_buf *buf;
	int ret;

	/* Held to the end: the device must not go away before the list knows */
	guard(mutex)(&bar_lock);

	bdev = bar_dev_find(c->dev);
	if (!bdev)
		return ERR_PTR(-ENODEV);
	if (c->size > bdev->half)
		return ERR_PTR(-EINVAL);

	buf = kzalloc_obj(*buf);
	if (!buf)
		return ERR_PTR(-ENOMEM);
	kref_get(&bdev->ref);
	buf->bdev = bdev;
	buf->chunk = c->chunk;
	buf->flags = c->flags;
	if (c->flags & DMA_BUF_BAR_HELD)
		buf->nr_pins++;
	INIT_LIST_HEAD(&buf->maps);
	spin_lock_init(&buf->fence_lock);
	init_waitqueue_head(&buf->idle);

	buf->cur = bar_store_alloc(bdev, sys ? DMA_BUF_BAR_PLACE_SYSTEM :
					       DMA_BUF_BAR_PLACE_A,
				   c->size, c->chunk, c->flags);
	if (IS_ERR(buf->cur)) {
		ret = PTR_ERR(buf->cur);
		buf->cur = NULL;
		goto err_free;
	}
	bar_store_fill(buf->cur, 0);

	info.ops = no_pin ? &bar_ops_no_pin : &bar_ops;
	if (c->flags & DMA_BUF_BAR_VMAP)
		info.ops = &bar_ops_vmap;
	info.size = c->size;
	info.flags = c->flags & DMA_BUF_BAR_RDONLY ? O_RDONLY : O_RDWR;
	info.priv = buf;
	buf->dmabuf = dma_buf_export(&info);
	if (IS_ERR(buf->dmabuf)) {
		ret = PTR_ERR(buf->dmabuf);
		goto err_free;
	}
	list_add(&buf->node, &bdev->bufs);
	return buf->dmabuf;

err_free:
	bar_buf_free(buf);
	return ERR_PTR(ret);
}

static bool bar_create_valid(const struct dma_buf_bar_create *c)
{
	if (c->flags & ~BAR_CREATE_FLAGS ||
	    hweight32(c->flags & DMA_BUF_BAR_FLAVOURS) > 1)
		return false;
	/* the parts that are played are of memory in a BAR */
	if (c->flags & DMA_BUF_BAR_FLAVOURS &&
	    c->flags & DMA_BUF_BAR_START_SYSTEM)
		return false;
	if (c->flags & DMA_BUF_BAR_UNTRANSLATED &&
	    !(c->flags & DMA_BUF_BAR_NVIDIA))
		return false;
	if (c->flags & DMA_BUF_BAR_ALTERNATE &&
	    !(c->flags & DMA_BUF_BAR_UNTRANSLATED))
		return false;
	if (c->flags & DMA_BUF_BAR_NO_PIN && c->flags & DMA_BUF_BAR_VMAP)
		return false;
	if (!c->size || !PAGE_ALIGNED(c->size))
		return false;
	if (!(c->flags & DMA_BUF_BAR_FRAGMENTED))
		return !c->chunk && !(c->flags & DMA_BUF_BAR_MIXED);
	if (c->flags & DMA_BUF_BAR_MIXED &&
	    c->size % ((u64)BAR_MIXED_CHUNKS * c->chunk))
		return false;
	return is_power_of_2(c->chunk) && c->chunk >= PAGE_SIZE &&
	       IS_ALIGNED(c->size, c->chunk);
}

static int bar_ioctl_create(void __user *arg)
{
	struct dma_buf_bar_create c;
	struct dma_buf *dmabuf;
	int ret;

	if (copy_from_user(&c, arg, sizeof(c)))
		return -EFAULT;
	if (!bar_create_valid(&c))
		return -EINVAL;
	c.fd = get_unused_fd_flags(O_CLOEXEC);
	if (c.fd < 0)
		return c.fd;

	dmabuf = bar_buf_create(&c);
	if (IS_ERR(dmabuf)) {
		ret = PTR_ERR(dmabuf);
		goto err_put_fd;
	}
	if (copy_to_user(arg, &c, sizeof(c))) {
		ret = -EFAULT;
		goto err_put_dmabuf;
	}
	dma_buf_fd_install(dmabuf, c.fd);
	return 0;

err_put_dmabuf:
	dma_buf_put(dmabuf);
err_put_fd:
	put_unused_fd(c.fd);
	return ret;
}

/* Ends with dma_buf_put(buf->dmabuf) */
static struct bar_buf *bar_buf_get(int fd)
{
	struct dma_buf *dmabuf = dma_buf_get(fd);

	if (IS_ERR(dmabuf))
		return ERR_CAST(dmabuf);
	if (dmabuf->ops != &bar_ops && dmabuf->ops != &bar_ops_no_pin &&
	    dmabuf->ops != &bar_ops_vmap) {
		dma_buf_put(dmabuf);
		return ERR_PTR(-EINVAL);
	}
	return dmabuf->priv;
}

static int bar_ioctl_move(void __user *arg)
{
	struct dma_buf_bar_move m;
	struct bar_buf *buf;
	int ret;

	if (copy_from_user(&m, arg, sizeof(m)))
		return -EFAULT;
	if (m.place > DMA_BUF_BAR_PLACE_SYSTEM)
		return -EINVAL;
	buf = bar_buf_get(m.fd);
	if (IS_ERR(buf))
		return PTR_ERR(buf);

	dma_resv_lock(buf->dmabuf->resv, NULL);
	ret = buf->flags & DMA_BUF_BAR_FLAVOURS ? -EOPNOTSUPP :
						  bar_buf_move(buf, m.place);
	dma_resv_unlock(buf->dmabuf->resv);
	dma_buf_put(buf->dmabuf);
	return ret;
}

static int bar_ioctl_info(void __user *arg)
{
	struct dma_buf_bar_info info;
	struct bar_buf *buf;

	if (copy_from_user(&info, arg, sizeof(info)))
		return -EFAULT;
	buf = bar_buf_get(info.fd);
	if (IS_ERR(buf))
		return PTR_ERR(buf);

	dma_resv_lock(buf->dmabuf->resv, NULL);
	bar_buf_check_poison(buf);
	info.place = buf->cur->place;
	info.moves = buf->nr_moves;
	info.maps = buf->nr_maps;
	info.pinned = buf->nr_pins;
	info.revoked = buf->revoked || buf->dead;
	info.stray = buf->stray;
	info.live = buf->nr_live;
	info.late = buf->nr_late;
	dma_resv_unlock(buf->dmabuf->resv);
	dma_buf_put(buf->dmabuf);
	return copy_to_user(arg, &info, sizeof(info)) ? -EFAULT : 0;
}

static int bar_buf_access(struct bar_buf *buf, size_t off, void *data,
			  size_t len, bool poke)
{
	int ret = 0;

	dma_resv_lock(buf->dmabuf->resv, NULL);
	if (buf->dead)
		ret = -ENODEV;
	else if (poke)
		bar_store_write(buf->cur, off, data, len);
	else
		bar_store_read(buf->cur, off, data, len);
	dma_resv_unlock(buf->dmabuf->resv);
	return ret;
}

/* Through a bounce buffer: no page faults under the dma_resv lock */
static int bar_buf_rw(struct bar_buf *buf, const struct dma_buf_bar_io *io,
		      void *bounce, bool poke)
{
	void __user *uptr = u64_to_user_ptr(io->uptr);
	u64 done, end;
	size_t len;
	int ret;

	if (check_add_overflow(io->off, io->len, &end) ||
	    end > buf->dmabuf->size)
		return -EINVAL;

	for (done = 0; done < io->len; done += len) {
		len = min_t(u64, io->len - done, BAR_BOUNCE_SIZE);
		if (poke && copy_from_user(bounce, uptr + done, len))
			return -EFAULT;
		ret = bar_buf_access(buf, io->off + done, bounce, len, poke);
		if (ret)
			return ret;
		if (!poke && copy_to_user(uptr + done, bounce, len))
			return -EFAULT;
		cond_resched();
	}
	return 0;
}

static int bar_ioctl_rw(void __user *arg, bool poke)
{
	struct dma_buf_bar_io io;
	struct bar_buf *buf;
	void *bounce;
	int ret;

	if (copy_from_user(&io, arg, sizeof(io)))
		return -EFAULT;
	if (io.__resv)
		return -EINVAL;
	bounce = kvmalloc(BAR_BOUNCE_SIZE, GFP_KERNEL);
	if (!bounce)
		return -ENOMEM;

	buf = bar_buf_get(io.fd);
	ret = PTR_ERR_OR_ZERO(buf);
	if (!ret) {
		ret = bar_buf_rw(buf, &io, bounce, poke);
		dma_buf_put(buf->dmabuf);
	}
	kvfree(bounce);
	return ret;
}

/* /proc tells that it has the lock: only then its sleep can be interrupted */
static int bar_buf_hold(struct bar_buf *buf, u32 ms)
{
	int ret;

	dma_resv_lock(buf->dmabuf->resv, NULL);
	ret = msleep_interruptible(ms) ? -EINTR : 0;
	dma_resv_unlock(buf->dmabuf->resv);
	return ret;
}

static int bar_buf_switch(struct bar_buf *buf, unsigned int cmd, u32 arg)
{
	int ret;

	if (cmd == DMA_BUF_BAR_IOC_FENCE && !arg)
		return bar_fence_signal(buf);

	if (cmd == DMA_BUF_BAR_IOC_HOLD)
		return bar_buf_hold(buf, arg);

	dma_resv_lock(buf->dmabuf->resv, NULL);
	if (cmd == DMA_BUF_BAR_IOC_FENCE)
		ret = bar_fence_install(buf);
	else
		ret = bar_buf_revoke(buf, arg);
	dma_resv_unlock(buf->dmabuf->resv);
	return ret;
}

static int bar_ioctl_switch(unsigned int cmd, void __user *arg)
{
	struct dma_buf_bar_fd s;
	struct bar_buf *buf;
	int ret;

	if (copy_from_user(&s, arg, sizeof(s)))
		return -EFAULT;
	if (s.arg > (cmd == DMA_BUF_BAR_IOC_HOLD ? 10 * MSEC_PER_SEC : 1))
		return -EINVAL;
	buf = bar_buf_get(s.fd);
	if (IS_ERR(buf))
		return PTR_ERR(buf);

	ret = bar_buf_switch(buf, cmd, s.arg);
	dma_buf_put(buf->dmabuf);
	return ret;
}

static long bar_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *uarg = (void __user *)arg;

	switch (cmd) {
	case DMA_BUF_BAR_IOC_CREATE:
		return bar_ioctl_create(uarg);
	case DMA_BUF_BAR_IOC_MOVE:
		return bar_ioctl_move(uarg);
	case DMA_BUF_BAR_IOC_INFO:
		return bar_ioctl_info(uarg);
	case DMA_BUF_BAR_IOC_PEEK:
		return bar_ioctl_rw(uarg, false);
	case DMA_BUF_BAR_IOC_POKE:
		return bar_ioctl_rw(uarg, true);
	case DMA_BUF_BAR_IOC_REVOKE:
	case DMA_BUF_BAR_IOC_FENCE:
	case DMA_BUF_BAR_IOC_HOLD:
		return bar_ioctl_switch(cmd, uarg);
	}
	return -ENOTTY;
}

static const struct file_operations bar_fops = {
	.owner		= THIS_MODULE,
	.unlocked_ioctl	= bar_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

static struct miscdevice bar_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "dmabuf_bar",
	.fops	= &bar_fops,
};

static int bar_dev_init_pools(struct bar_dev *bdev, int nid)
{
	unsigned int i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(bdev->pool); i++) {
		bdev->pool[i] = gen_pool_create(PAGE_SHIFT, nid);
		if (!bdev->pool[i])
			return -ENOMEM;
		ret = gen_pool_add(bdev->pool[i], bdev->phys + i * bdev->half,
				   bdev->half, nid);
		if (ret)
			return ret;
	}
	return 0;
}

static int bar_dev_init(struct bar_dev *bdev, struct pci_dev *pdev)
{
	resource_size_t size = pci_resource_len(pdev, BAR_NR);
	int ret;

	bdev->phys = pci_resource_start(pdev, BAR_NR);
	bdev->half = ALIGN_DOWN(size / 2, PAGE_SIZE);
	if (!bdev->half)
		return -ENODEV;
	ret = pcim_p2pdma_init(pdev);
	if (ret)
		return ret;
	bdev->provider = pcim_p2pdma_provider(pdev, BAR_NR);
	if (!bdev->provider)
		return -ENODEV;
	bdev->va = devm_memremap(&pdev->dev, bdev->phys, size, MEMREMAP_WC);
	if (IS_ERR(bdev->va))
		return PTR_ERR(bdev->va);
	return bar_dev_init_pools(bdev, dev_to_node(&pdev->dev));
}

static int bar_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct bar_dev *bdev;
	int ret;

	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	ret = pcim_request_region(pdev, BAR_NR, "dmabuf_bar");
	if (ret)
		return ret;

	bdev = kzalloc_obj(*bdev);
	if (!bdev)
		return -ENOMEM;
	kref_init(&bdev->ref);
	INIT_LIST_HEAD(&bdev->bufs);
	ret = bar_dev_init(bdev, pdev);
	if (ret) {
		bar_dev_put(bdev);
		return ret;
	}

	pci_set_drvdata(pdev, bdev);
	mutex_lock(&bar_lock);
	list_add_tail(&bdev->node, &bar_devs);
	mutex_unlock(&bar_lock);
	pci_info(pdev, "test exporter of dma-bufs in %pR\n",
		 pci_resource_n(pdev, BAR_NR));
	return 0;
}

/* Takes a buffer off the list, with a reference unless it is being released */
static struct bar_buf *bar_dev_pop_buf(struct bar_dev *bdev)
{
	struct bar_buf *buf, *tmp;

	guard(mutex)(&bar_lock);

	list_for_each_entry_safe(buf, tmp, &bdev->bufs, node) {
		list_del_init(&buf->node);
		if (get_file_active(&buf->dmabuf->file))
			return buf;
	}
	return NULL;
}

static void bar_remove(struct pci_dev *pdev)
{
	struct bar_dev *bdev = pci_get_drvdata(pdev);
	struct bar_buf *buf;

	mutex_lock(&bar_lock);
	list_del(&bdev->node);
	mutex_unlock(&bar_lock);

	/* One by one, as importers may have to release another one meanwhile */
	while ((buf = bar_dev_pop_buf(bdev))) {
		bar_buf_kill(buf);
		dma_buf_put(buf->dmabuf);
	}
	bar_dev_put(bdev);
}

static const struct pci_device_id bar_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_REDHAT_QUMRANET, 0x1110) }, /* ivshmem */
	{ }
};

static struct pci_driver bar_driver = {
	.name		= "dmabuf_bar",
	.id_table	= bar_ids,
	.probe		= bar_probe,
	.remove		= bar_remove,
};

static void __init bar_debugfs_init(void)
{
	struct dentry *dir = debugfs_create_dir("dma_buf_bar", NULL);

	debugfs_create_u32("fail_map_errno", 0600, dir, &bar_fail_errno);
	debugfs_create_atomic_t("fail_map_count", 0600, dir, &bar_fail_count);
	debugfs_create_u32("fail_cpu_errno", 0600, dir, &bar_fail_cpu_errno);
	debugfs_create_atomic_t("fail_cpu_count", 0600, dir,
				&bar_fail_cpu_count);
	debugfs_create_atomic_t("cpu_fence_count", 0600, dir,
				&bar_cpu_fence_count);
	debugfs_create_atomic_t("maps_live", 0400, dir, &bar_maps_live);
}

static int __init bar_init(void)
{
	int ret;

	ret = pci_register_driver(&bar_driver);
	if (ret)
		return ret;
	ret = misc_register(&bar_misc);
	if (ret) {
		pci_unregister_driver(&bar_driver);
		return ret;
	}
	bar_debugfs_init();
	return 0;
}
device_initcall(bar_init);
