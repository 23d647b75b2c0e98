/* SPDX-License-Identifier: GPL-2.0 */
/*
 * dma-buf memory as the data buffer of direct I/O.
 *
 * A struct dma_iobuf stands for one dma-buf and is independent of any device.
 * It owns one attachment per leaf device it was registered for, and every
 * attachment has at most one live mapping. I/O names the memory by "windows"
 * (see &struct bio_vec.bv_dma_win); only the leaf driver turns a window and an
 * offset into a DMA address, right before it hands the command to the device.
 *
 * The rules about who may wait for what, and for how long a mapping may be
 * held, are in Documentation/driver-api/dma-iobuf.rst.
 */
#ifndef _LINUX_DMA_IOBUF_H
#define _LINUX_DMA_IOBUF_H

#include <linux/bvec.h>
#include <linux/completion.h>
#include <linux/dma-buf.h>
#include <linux/dma-direction.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/percpu-refcount.h>
#include <linux/workqueue.h>

struct file;

/* bv_len and bv_offset are 32 bits: a large buffer is cut into windows */
#define DMA_IOBUF_WIN_SHIFT	30
#define DMA_IOBUF_WIN_SIZE	(1UL << DMA_IOBUF_WIN_SHIFT)

/* DMA addresses and lengths of a mapping are multiples of this */
#define DMA_IOBUF_PAGE_SIZE	SZ_4K

/* leaf devices of one target file, and attachments of one buffer */
#define DMA_IOBUF_MAX_DEVS	16

/* dma_iobuf_create() flags */
#define DMA_IOBUF_PIN		(1U << 0)	/* exporter must not move it */
#define DMA_IOBUF_REQUIRE_P2P	(1U << 1)	/* fail unless peer-to-peer */

struct dma_iobuf_att;
struct dma_iobuf_dev;
struct dma_iobuf_map;

/**
 * struct dma_iobuf_dev_ops - for devices whose mappings cannot be waited for
 * @flags:	DMA_IOBUF_* that every attachment needs
 * @dir:	all that the device does with memory, DMA_BIDIRECTIONAL: any
 * @map:	a mapping was made; under the reservation lock. An error ends
 *		the mapping.
 * @unmap:	the mapping is about to end; under the reservation lock. The
 *		device has to be through with it.
 * @release:	no buffer uses the attachment any more. To be followed by
 *		dma_iobuf_att_free(), at once or later.
 * @free:	the device is freed
 *
 * A drive takes a reference to a mapping for each command, and needs none of
 * this.
 */
struct dma_iobuf_dev_ops {
	unsigned int	flags;
	enum dma_data_direction dir;
	int		(*map)(struct dma_iobuf_att *att,
			       const struct dma_iobuf_map *map);
	void		(*unmap)(struct dma_iobuf_att *att);
	void		(*release)(struct dma_iobuf_att *att);
	void		(*free)(struct dma_iobuf_dev *idev);
};

/**
 * struct dma_iobuf_dev - a leaf device that can be the target of dma_iobuf I/O
 * @dev:	the device that does the DMA
 * @ref:	held by the driver, by attachments and by target sets
 * @lock:	protects @atts and @dead; taken before a reservation lock
 * @atts:	attachments to @dev, &struct dma_iobuf_att.dev_node
 * @dead:	dma_iobuf_dev_shutdown() was called
 * @ops:	NULL for devices that take references to mappings
 * @priv:	for @ops
 */
struct dma_iobuf_dev {
	struct device		*dev;
	struct kref		ref;
	struct mutex		lock;		/* atts, dead */
	struct list_head	atts;
	bool			dead;
	const struct dma_iobuf_dev_ops *ops;
	void			*priv;
};

/**
 * struct dma_iobuf_targets - the leaf devices that may DMA the data of a file
 * @nr:		entries used in @dev
 * @dev:	the devices, each with a reference
 */
struct dma_iobuf_targets {
	unsigned int		nr;
	struct dma_iobuf_dev	*dev[DMA_IOBUF_MAX_DEVS];
};

/* where the memory of a mapping is, seen from the device */
enum dma_iobuf_kind {
	DMA_IOBUF_KIND_NONE,		/* not mapped now */
	DMA_IOBUF_KIND_SYSTEM,		/* system memory */
	DMA_IOBUF_KIND_P2P_BUS,		/* peer memory by bus address */
	DMA_IOBUF_KIND_P2P_HOST,	/* peer memory, host bridge or IOMMU */
	DMA_IOBUF_KIND_MIXED,		/* system and peer memory */
	DMA_IOBUF_KIND_DEAD,		/* the device is gone */
};

/**
 * struct dma_iobuf_map - one generation of a mapping
 * @ref:	one per command the hardware works on, and one while published
 * @shift:	log2 of the granule: the mapping is contiguous within one
 * @nr:		entries in @addr
 * @kind:	where the memory is
 * @sgt:	what the exporter returned
 * @idle:	@ref dropped to zero
 * @rcu:	a reader may look at @ref until a grace period has passed
 * @addr:	DMA address of every granule, then one DMA_MAPPING_ERROR that
 *		stops dma_iobuf_map_addr() at the end
 */
struct dma_iobuf_map {
	struct percpu_ref	ref;
	unsigned int		shift;
	unsigned int		nr;
	enum dma_iobuf_kind	kind;
	struct sg_table		*sgt;
	struct completion	idle;
	struct rcu_head		rcu;
	dma_addr_t		addr[] __counted_by(nr);
};

/**
 * struct dma_iobuf_att - the attachment of a dma-buf to one leaf device
 * @map:	current mapping; NULL: none, map again; ERR_PTR(): device gone.
 *		Written under the reservation lock.
 * @hits:	commands that used @map
 * @ref:	one per buffer that uses the attachment
 * @idev:	the device
 * @dmabuf:	the memory, with a reference
 * @attach:	NULL once detached; written under @lock
 * @dir:	what the device may do with the memory
 * @flags:	DMA_IOBUF_*
 * @pinned:	dma_buf_pin() was done
 * @revoked:	the exporter took it away and @idev has ops: not to be used again
 * @nr_maps:	mappings made so far; under the reservation lock
 * @nr_invals:	mappings the exporter took away; under the reservation lock
 * @lock:	serialises shutdown; taken before the reservation lock
 * @dev_node:	in &struct dma_iobuf_dev.atts
 * @priv:	for &struct dma_iobuf_dev.ops
 * @priv_bytes:	memory that @priv takes
 * @rcu:	drivers look at @map without a reference
 */
struct dma_iobuf_att {
	struct dma_iobuf_map __rcu *map;
	unsigned long __percpu	*hits;
	struct kref		ref;
	struct dma_iobuf_dev	*idev;
	struct dma_buf		*dmabuf;
	struct dma_buf_attachment *attach;
	enum dma_data_direction	dir;
	unsigned int		flags;
	bool			pinned;
	bool			revoked;
	u64			nr_maps;
	u64			nr_invals;
	struct mutex		lock;		/* attach */
	struct list_head	dev_node;
	void			*priv;
	size_t			priv_bytes;
	struct rcu_head		rcu;
};

/**
 * struct dma_iobuf_win - what the bio_vecs of a dma_iobuf point to
 * @buf:	the buffer
 * @base:	offset of the window in the dma-buf in bytes
 */
struct dma_iobuf_win {
	struct dma_iobuf	*buf;
	u64			base;
};

/**
 * struct dma_iobuf - a dma-buf used as an I/O buffer
 * @nr_att:	entries published in @dev and @att; only ever grows
 * @dev:	devices of @att, apart so that a lookup touches one cache line
 * @att:	attachments
 * @dmabuf:	the memory, with a reference
 * @dir:	what devices may do with the memory
 * @flags:	DMA_IOBUF_*
 * @ref:	one per owner (an io_uring buffer slot and its clones)
 * @lock:	serialises dma_iobuf_add_targets()
 * @free_work:	tears down from process context
 * @nr_win:	entries in @win
 * @win:	windows of DMA_IOBUF_WIN_SIZE bytes
 */
struct dma_iobuf {
	unsigned int		nr_att;
	struct device		*dev[DMA_IOBUF_MAX_DEVS];
	struct dma_iobuf_att	*att[DMA_IOBUF_MAX_DEVS];
	struct dma_buf		*dmabuf;
	enum dma_data_direction	dir;
	unsigned int		flags;
	struct kref		ref;
	struct mutex		lock;		/* growing att */
	struct work_struct	free_work;
	unsigned int		nr_win;
	struct dma_iobuf_win	win[] __counted_by(nr_win);
};

/**
 * struct dma_iobuf_info - what one attachment of a buffer really is
 * @kind:	where the memory is
 * @granule:	bytes contiguous per table entry, 0 when not mapped
 * @entries:	table entries
 * @table_bytes: memory the table takes
 * @hits:	commands that used the mapping
 * @maps:	mappings made so far
 * @invals:	mappings the exporter took away
 * @dev_name:	name of the device, truncated
 */
struct dma_iobuf_info {
	enum dma_iobuf_kind	kind;
	u64			granule;
	u64			entries;
	u64			table_bytes;
	u64			hits;
	u64			maps;
	u64			invals;
	char			dev_name[32];
};

/*
 * A window pointer is stored with a bit of the address flipped that makes it
 * non-canonical: whoever mistakes it for a struct page faults at once.
 */
#define DMA_IOBUF_WIN_TAG	(1UL << (BITS_PER_LONG - 2))

static inline void bvec_set_dma_win(struct bio_vec *bv,
				    struct dma_iobuf_win *win,
				    unsigned int len, unsigned int offset)
{
	bv->bv_dma_win = (unsigned long)win ^ DMA_IOBUF_WIN_TAG;
	bv->bv_len = len;
	bv->bv_offset = offset;
}

static inline struct dma_iobuf_win *bvec_dma_win(const struct bio_vec *bv)
{
	return (struct dma_iobuf_win *)(bv->bv_dma_win ^ DMA_IOBUF_WIN_TAG);
}

int __dma_iobuf_prepare(struct dma_iobuf *buf, struct file *file, bool nowait);

#ifdef CONFIG_DMA_SHARED_BUFFER
struct dma_iobuf_dev *dma_iobuf_dev_create(struct device *dev);
void dma_iobuf_dev_put(struct dma_iobuf_dev *idev);
void dma_iobuf_dev_shutdown(struct dma_iobuf_dev *idev);
void dma_iobuf_att_free(struct dma_iobuf_att *att);

int dma_iobuf_targets_add(struct dma_iobuf_targets *set,
			  struct dma_iobuf_dev *idev);
void dma_iobuf_targets_put(struct dma_iobuf_targets *set);
bool dma_iobuf_targets_pin(const struct dma_iobuf_targets *set);
int dma_iobuf_targets_of(struct file *file, struct dma_iobuf_targets *set);

struct dma_iobuf *dma_iobuf_create(struct dma_buf *dmabuf,
				   struct dma_iobuf_targets *set,
				   enum dma_data_direction dir,
				   unsigned int flags);
int dma_iobuf_add_targets(struct dma_iobuf *buf, struct dma_iobuf_targets *set);
void dma_iobuf_put(struct dma_iobuf *buf);
void dma_iobuf_get_info(struct dma_iobuf *buf, unsigned int idx,
			struct dma_iobuf_info *info);
#else
static inline struct dma_iobuf_dev *dma_iobuf_dev_create(struct device *dev)
{
	return NULL;
}

static inline void dma_iobuf_dev_put(struct dma_iobuf_dev *idev)
{
}

static inline void dma_iobuf_dev_shutdown(struct dma_iobuf_dev *idev)
{
}

static inline int dma_iobuf_targets_add(struct dma_iobuf_targets *set,
					struct dma_iobuf_dev *idev)
{
	return -EOPNOTSUPP;
}
#endif

static inline unsigned int dma_iobuf_nr_att(const struct dma_iobuf *buf)
{
	/* pairs with dma_iobuf_add_targets(): entries are there before nr_att */
	return smp_load_acquire(&buf->nr_att);
}

/**
 * dma_iobuf_prepare - make sure that a buffer is mapped before I/O is issued
 * @buf:	the buffer
 * @file:	file that the I/O is for, it must have ->dma_targets()
 * @nowait:	do not sleep
 *
 * The mapping may be gone again by the time the driver asks for it; the driver
 * then ends the I/O with BLK_STS_AGAIN, and the issuer has to come back here.
 *
 * Context: process context; sleeps unless @nowait.
 * Return: 0, -EAGAIN with @nowait, -ENODEV when a device of @file is gone, or
 * the exporter's error.
 */
static inline int dma_iobuf_prepare(struct dma_iobuf *buf, struct file *file,
				    bool nowait)
{
	unsigned int i, nr = dma_iobuf_nr_att(buf);

	for (i = 0; i < nr; i++)
		if (IS_ERR_OR_NULL(rcu_access_pointer(buf->att[i]->map)))
			return IS_ENABLED(CONFIG_DMA_SHARED_BUFFER) ?
				__dma_iobuf_prepare(buf, file, nowait) : -EIO;
	return 0;
}

/**
 * dma_iobuf_map_get - take the current mapping for one command
 * @buf:	the buffer
 * @dev:	the leaf device
 *
 * To be called right before the command is handed to the hardware. The
 * reference has to be dropped with dma_iobuf_map_put() as soon as the hardware
 * is done with the command: the exporter waits for it.
 *
 * Context: any.
 * Return: the mapping; ERR_PTR(-EAGAIN): none now, the issuer has to call
 * dma_iobuf_prepare(); ERR_PTR(-EBADF): @dev is not a target of @buf;
 * ERR_PTR(-ENODEV): @dev is going away.
 */
static inline struct dma_iobuf_map *dma_iobuf_map_get(struct dma_iobuf *buf,
						      struct device *dev)
{
	unsigned int i, nr = dma_iobuf_nr_att(buf);
	struct dma_iobuf_map *map = ERR_PTR(-EBADF);

	rcu_read_lock();
	for (i = 0; i < nr; i++) {
		if (buf->dev[i] != dev)
			continue;
		map = rcu_dereference(buf->att[i]->map);
		/* dead: the device may be there again, under a later entry */
		if (!IS_ERR(map))
			break;
	}
	if (IS_ERR_OR_NULL(map)) {
		if (!map)
			map = ERR_PTR(-EAGAIN);
	} else if (unlikely(!percpu_ref_tryget_live_rcu(&map->ref))) {
		map = ERR_PTR(-EAGAIN);
	} else {
		this_cpu_inc(*buf->att[i]->hits);
	}
	rcu_read_unlock();
	return map;
}

/**
 * dma_iobuf_map_put - the hardware is done with a command
 * @map:	what dma_iobuf_map_get() returned
 *
 * Context: any.
 */
static inline void dma_iobuf_map_put(struct dma_iobuf_map *map)
{
	percpu_ref_put(&map->ref);
}

/**
 * dma_iobuf_map_addr - DMA address of an offset
 * @map:	the mapping
 * @off:	offset in the dma-buf in bytes, has to be inside of it
 * @max:	bytes wanted, @off + @max has to be inside, too
 * @len:	returns the bytes that are contiguous from there, at most @max
 *
 * Context: any, with a reference to @map.
 */
static inline dma_addr_t dma_iobuf_map_addr(const struct dma_iobuf_map *map,
					    u64 off, u32 max, u32 *len)
{
	u64 granule = 1ULL << map->shift;
	u64 idx = off >> map->shift;
	u64 in = off & (granule - 1);
	dma_addr_t addr = map->addr[idx];
	u64 avail = granule - in;

	while (unlikely(avail < max) &&
	       map->addr[idx + 1] == map->addr[idx] + granule) {
		avail += granule;
		idx++;
	}
	*len = min_t(u64, avail, max);
	return addr + in;
}

#endif /* _LINUX_DMA_IOBUF_H */
