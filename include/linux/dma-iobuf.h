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
#include <linux/cleanup.h>
#include <linux/completion.h>
#include <linux/dma-buf.h>
#include <linux/dma-direction.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/percpu-refcount.h>
#include <linux/refcount.h>
#include <linux/workqueue.h>

struct file;
struct iosys_map;

/* bv_len and bv_offset are 32 bits: a large buffer is cut into windows */
#define DMA_IOBUF_WIN_SHIFT	30
#define DMA_IOBUF_WIN_SIZE	(1UL << DMA_IOBUF_WIN_SHIFT)

/* DMA addresses and lengths of a mapping are multiples of this */
#define DMA_IOBUF_PAGE_SIZE	SZ_4K

/* leaf devices of one target file, and attachments of one buffer, at most */
#define DMA_IOBUF_MAX_DEVS	128

/* disks that a buffer remembers */
#define DMA_IOBUF_MAX_DISKS	16

/* devices that are found by looking at all: a cache line */
#define DMA_IOBUF_FEW		8
/* where the others are, by their address */
#define DMA_IOBUF_HINTS		256

/* dma_iobuf_create() flags */
#define DMA_IOBUF_PIN		(1U << 0)	/* exporter must not move it */
#define DMA_IOBUF_REQUIRE_P2P	(1U << 1)	/* fail unless peer-to-peer */
#define DMA_IOBUF_DEVICE_MEM	(1U << 2)	/* -ENOMEM for system memory */
#define DMA_IOBUF_EVICT		(1U << 3)	/* what is idle longest makes room */
#define DMA_IOBUF_DROP		(1U << 4)	/* no mapping while nobody uses it */
/* those that are about the buffer, and not about how a device is attached */
#define DMA_IOBUF_BUF_FLAGS	(DMA_IOBUF_DEVICE_MEM | DMA_IOBUF_EVICT)

struct dma_iobuf_age;
struct dma_iobuf_att;
struct dma_iobuf_dev;
struct dma_iobuf_drop;
struct dma_iobuf_map;
struct dma_iobuf_remap;
struct dma_iobuf_user;

/**
 * struct dma_iobuf_work - something that has to wait for an exporter
 * @work:	runs it
 * @node:	among those that the user has too many of
 * @func:	what it is
 * @user:	whom it is done for
 *
 * See dma_iobuf_queue_work().
 */
struct dma_iobuf_work {
	struct work_struct	work;
	struct list_head	node;
	void			(*func)(struct dma_iobuf_work *work);
	struct dma_iobuf_user	*user;
};

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
 * @lock:	protects @atts and @dead; no lock is taken and nothing waited for under it
 * @atts:	attachments to @dev, &struct dma_iobuf_att.dev_node
 * @dead:	dma_iobuf_dev_shutdown() was called
 * @stale:	dma_iobuf_dev_retire() was called; under no lock
 * @same:	attachments to devices with the same, unless %NULL, stand in for each
 *		other
 * @ops:	NULL for devices that take references to mappings
 * @priv:	for @ops
 */
struct dma_iobuf_dev {
	struct device		*dev;
	struct kref		ref;
	struct mutex		lock;		/* atts, dead */
	struct list_head	atts;
	bool			dead;
	bool			stale;
	const void		*same;
	const struct dma_iobuf_dev_ops *ops;
	void			*priv;
};

/**
 * struct dma_iobuf_set - the leaf devices that may DMA the data of a file
 * @nr:		entries used in @dev
 * @dev:	the devices, each with a reference
 * @nr_disks:	entries used in @disk
 * @disk:	sequence numbers of the disks that they are of
 * @depth:	disks above the one that is asked now
 *
 * It does not belong on a stack: dma_iobuf_set_alloc().
 */
struct dma_iobuf_set {
	unsigned int		nr;
	struct dma_iobuf_dev	*dev[DMA_IOBUF_MAX_DEVS];
	unsigned int		nr_disks;
	u64			disk[DMA_IOBUF_MAX_DISKS];
	unsigned int		depth;
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

/* which step of a registration failed */
enum dma_iobuf_stage {
	DMA_IOBUF_STAGE_NONE,
	DMA_IOBUF_STAGE_DEVICE,		/* the device cannot, or is going away */
	DMA_IOBUF_STAGE_ATTACH,		/* the exporter does not attach it */
	DMA_IOBUF_STAGE_PIN,		/* ... pin the memory for it */
	DMA_IOBUF_STAGE_MAP,		/* ... map */
	DMA_IOBUF_STAGE_FENCE,		/* the wait for the exporter's work */
	DMA_IOBUF_STAGE_ADDRESS,	/* the device cannot use the addresses */
	DMA_IOBUF_STAGE_TABLE,		/* pieces that no table can be made of */
};

/**
 * struct dma_iobuf_reason - why dma_iobuf_attach() failed
 * @stage:	which step
 * @exporter_errno: what the exporter returned, 0 if it was not the exporter
 * @peer2peer:	&struct dma_buf_attachment.peer2peer after the attach
 * @kind:	where the memory is, if that was found out
 * @idx:	which of the devices in the set
 * @device:	its name, truncated
 */
struct dma_iobuf_reason {
	enum dma_iobuf_stage	stage;
	int			exporter_errno;
	bool			peer2peer;
	enum dma_iobuf_kind	kind;
	unsigned int		idx;
	char			device[32];
};

/**
 * struct dma_iobuf_map - one generation of a mapping
 * @ref:	one per command the hardware works on, and one while published
 * @granule:	the mapping is contiguous within this many bytes, and @addr has
 *		an entry for each; 0: it has one for each run, see @end
 * @shift:	log2 of the largest power of two within which the mapping is
 *		contiguous; of @granule unless that is 0
 * @nr:		entries in @addr
 * @kind:	where the memory is
 * @sgt:	what the exporter returned
 * @remap:	mappings of our own for what the exporter did not map, or NULL
 * @idle:	@ref dropped to zero
 * @rcu:	a reader may look at @ref until a grace period has passed
 * @end:	where each run ends in the dma-buf, in DMA_IOBUF_PAGE_SIZE; NULL
 *		unless @granule is 0
 * @addr:	DMA address of every granule, or run
 */
struct dma_iobuf_map {
	struct percpu_ref	ref;
	u64			granule;
	unsigned int		shift;
	unsigned int		nr;
	enum dma_iobuf_kind	kind;
	struct sg_table		*sgt;
	struct dma_iobuf_remap	*remap;
	struct completion	idle;
	struct rcu_head		rcu;
	u32			*end;
	dma_addr_t		addr[] __counted_by(nr);
};

/**
 * struct dma_iobuf_att - the attachment of a dma-buf to one leaf device
 * @map:	current mapping; NULL: none, map again; ERR_PTR(): device gone.
 *		Written under the reservation lock.
 * @hits:	commands that used @map
 * @ref:	one per buffer that uses the attachment; it ends after the last one
 * @held:	one until it has ended, and one while its device ends it
 * @last:	the buffer that had the last @ref, and is not gone before the
 *		attachment has ended
 * @ending:	its device ends it, or has; under the lock of that
 * @idev:	the device
 * @dmabuf:	the memory, with a reference
 * @attach:	NULL until attached and once detached; written under @lock
 * @pending:	mapping of the exporter's that waits for its fences, or NULL; under
 *		the reservation lock
 * @parked:	mapping that was taken away, and is not unmapped yet as commands have it,
 *		or NULL; under the reservation lock
 * @dir:	what the device may do with the memory
 * @flags:	DMA_IOBUF_*
 * @pinned:	dma_buf_pin() was done; under the reservation lock
 * @id:		for &struct dma_iobuf_info
 * @peer2peer:	the exporter left &dma_buf_attachment.peer2peer set
 * @nr_maps:	mappings made so far; under the reservation lock
 * @table_bytes: what the table of the last one takes; it may be gone by now
 * @nr_invals:	mappings the exporter took away; under the reservation lock
 * @dead:	shut down: never attach again; written under @lock
 * @spent:	what the exporter said to it was no; the next one asks anew
 * @wait_lock:	held by the one that waits for the exporter: for those who want
 *		this very attachment, and nobody else
 * @lock:	protects @attach and @dead, serialises shutdown; taken before the
 *		reservation lock
 * @dev_node:	in &struct dma_iobuf_dev.atts
 * @drop:	what drops mappings that nobody uses, or NULL
 * @priv:	for &struct dma_iobuf_dev.ops
 * @priv_bytes:	memory that @priv takes
 * @free_work:	ends it, for those who cannot wait
 * @rcu:	drivers look at @map without a reference
 */
struct dma_iobuf_att {
	struct dma_iobuf_map __rcu *map;
	unsigned long __percpu	*hits;
	refcount_t		ref;
	struct kref		held;
	struct dma_iobuf	*last;
	bool			ending;
	struct dma_iobuf_dev	*idev;
	struct dma_buf		*dmabuf;
	struct dma_buf_attachment *attach;
	struct sg_table		*pending;
	struct dma_iobuf_map	*parked;
	enum dma_data_direction	dir;
	unsigned int		flags;
	bool			pinned;
	bool			dead;
	bool			spent;
	bool			peer2peer;
	u64			id;
	u64			nr_maps;
	u64			table_bytes;
	u64			nr_invals;
	struct mutex		wait_lock;	/* one waits for the exporter */
	struct mutex		lock;		/* attach, dead */
	struct list_head	dev_node;
	struct dma_iobuf_drop	*drop;
	void			*priv;
	size_t			priv_bytes;
	struct dma_iobuf_work	free_work;
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
 * @nr_att:	entries published in @dev and @att; only ever grows, and those of
 *		devices that are gone are used again
 * @dev:	devices of @att, apart so that a lookup touches one cache line
 * @att:	attachments
 * @hint:	1 + the entry of a device whose address has this hash or one a little
 *		below, 0: none; what it says is looked up, and may be wrong
 * @max_att:	entries that it may have
 * @disk:	sequence numbers of the disks it was registered for, 0: none
 * @next_disk:	where in @disk the next one goes
 * @age:	of DMA_IOBUF_EVICT: of each entry, otherwise %NULL
 * @clock:	how often entries were added
 * @dmabuf:	the memory, with a reference
 * @dir:	what devices may do with the memory
 * @flags:	DMA_IOBUF_*
 * @user:	who has created it
 * @left:	what has to end before it is gone: itself, and attachments
 * @gone:	called then
 * @priv:	for @gone
 * @lock:	protects changes of entries and @disk, and what is for EVICT; nothing
 *		is waited for under it but a grace period
 * @nr_win:	entries in @win
 * @win:	windows of DMA_IOBUF_WIN_SIZE bytes
 */
struct dma_iobuf {
	unsigned int		nr_att;
	struct device		*dev[DMA_IOBUF_MAX_DEVS];
	struct dma_iobuf_att __rcu *att[DMA_IOBUF_MAX_DEVS];
	u8			hint[DMA_IOBUF_HINTS];
	unsigned int		max_att;
	u64			disk[DMA_IOBUF_MAX_DISKS];
	unsigned int		next_disk;
	struct dma_iobuf_age	*age;
	u64			clock;
	struct dma_buf		*dmabuf;
	enum dma_data_direction	dir;
	unsigned int		flags;
	struct dma_iobuf_user	*user;
	refcount_t		left;
	void			(*gone)(void *priv);
	void			*priv;
	struct mutex		lock;		/* changing entries and disks */
	unsigned int		nr_win;
	struct dma_iobuf_win	win[] __counted_by(nr_win);
};

/**
 * struct dma_iobuf_info - what one attachment of a buffer really is
 * @kind:	where the memory is
 * @granule:	largest power of two within which the mapping is contiguous, in
 *		bytes; 0 when not mapped
 * @entries:	table entries: granules, or runs where those take less memory
 * @table_bytes: memory the table takes
 * @charge_bytes: the same, or what it took when there was one
 * @hits:	commands that used the mapping
 * @maps:	mappings made so far
 * @invals:	mappings the exporter took away
 * @drops:	mappings that were dropped because nobody used them
 * @id:		of the attachment, no other ever has the same
 * @peer2peer:	the device is attached peer-to-peer
 * @pinned:	the memory is pinned for it
 * @dev_name:	name of the device, truncated
 */
struct dma_iobuf_info {
	enum dma_iobuf_kind	kind;
	u64			granule;
	u64			entries;
	u64			table_bytes;
	u64			charge_bytes;
	u64			hits;
	u64			maps;
	u64			invals;
	u64			drops;
	u64			id;
	bool			peer2peer;
	bool			pinned;
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

#ifdef CONFIG_DMA_SHARED_BUFFER
struct dma_iobuf_dev *dma_iobuf_dev_create(struct device *dev);
void dma_iobuf_dev_put(struct dma_iobuf_dev *idev);
void dma_iobuf_dev_shutdown(struct dma_iobuf_dev *idev);
void dma_iobuf_dev_retire(struct dma_iobuf_dev *idev);
void dma_iobuf_att_shutdown(struct dma_iobuf_att *att);
void dma_iobuf_att_free(struct dma_iobuf_att *att);
void dma_iobuf_queue_work(struct dma_iobuf *buf, struct dma_iobuf_work *work,
			  void (*func)(struct dma_iobuf_work *work));

unsigned int dma_iobuf_max_devs(void);
struct dma_iobuf_set *dma_iobuf_set_alloc(void);
void dma_iobuf_set_free(struct dma_iobuf_set *set);
DEFINE_FREE(dma_iobuf_set, struct dma_iobuf_set *, dma_iobuf_set_free(_T))
int dma_iobuf_set_add(struct dma_iobuf_set *set, struct dma_iobuf_dev *idev);
void dma_iobuf_set_add_disk(struct dma_iobuf_set *set, u64 seq);
void dma_iobuf_set_put(struct dma_iobuf_set *set);
unsigned int dma_iobuf_set_drop_dead(struct dma_iobuf_set *set);
bool dma_iobuf_set_need_pin(const struct dma_iobuf_set *set);
int dma_iobuf_set_of_file(struct file *file, struct dma_iobuf_set *set);

struct dma_iobuf *dma_iobuf_create(struct dma_buf *dmabuf,
				   enum dma_data_direction dir,
				   unsigned int flags);
int dma_iobuf_attach(struct dma_iobuf *buf, struct dma_iobuf_set *set,
		     struct dma_iobuf_reason *why);
int dma_iobuf_share(struct dma_iobuf *buf, struct dma_iobuf *from,
		    const struct dma_iobuf_set *set);
int __dma_iobuf_prepare(struct dma_iobuf *buf, struct file *file, bool retarget);
void dma_iobuf_free(struct dma_iobuf *buf, void (*gone)(void *priv), void *priv);
bool dma_iobuf_has_target(struct dma_iobuf *buf,
			  const struct dma_iobuf_dev *idev);
void dma_iobuf_get_info(struct dma_iobuf *buf, unsigned int idx,
			struct dma_iobuf_info *info);
u64 dma_iobuf_att_id(struct dma_iobuf *buf, unsigned int idx);
bool dma_iobuf_has_disk(const struct dma_iobuf *buf, u64 seq);
int dma_iobuf_vmap(struct dma_iobuf *buf, struct iosys_map *map);
unsigned int dma_iobuf_where(const struct dma_iobuf *buf, const struct device *dev);
#else
static inline unsigned int dma_iobuf_max_devs(void)
{
	return 0;
}

static inline unsigned int dma_iobuf_where(const struct dma_iobuf *buf,
					   const struct device *dev)
{
	return 0;
}

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

static inline int dma_iobuf_set_add(struct dma_iobuf_set *set,
				    struct dma_iobuf_dev *idev)
{
	return -EOPNOTSUPP;
}

static inline void dma_iobuf_set_add_disk(struct dma_iobuf_set *set, u64 seq)
{
}
#endif

static inline unsigned int dma_iobuf_nr_att(const struct dma_iobuf *buf)
{
	/* pairs with dma_iobuf_publish(): entries are there before nr_att */
	return smp_load_acquire(&buf->nr_att);
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
 * __dma_iobuf_prepare(); ERR_PTR(-EBADF): @dev is not a target of @buf;
 * ERR_PTR(-ENODEV): @dev is going away.
 */
static inline struct dma_iobuf_map *dma_iobuf_map_get(struct dma_iobuf *buf,
						      struct device *dev)
{
	unsigned int i = 0, left, nr = dma_iobuf_nr_att(buf);
	struct dma_iobuf_map *map = ERR_PTR(-EBADF);
	struct dma_iobuf_att *att = NULL;

	rcu_read_lock();
	/* look where it ought to be, and then at all others */
	if (unlikely(nr > DMA_IOBUF_FEW)) {
		i = dma_iobuf_where(buf, dev);
		/* it may have come just now */
		nr = max(nr, i + 1);
	}
	for (left = nr; left; left--, i = i + 1 < nr ? i + 1 : 0) {
		/* pairs with dma_iobuf_publish(): then its attachment is there */
		if (smp_load_acquire(&buf->dev[i]) != dev)
			continue;
		att = rcu_dereference(buf->att[i]);
		map = rcu_dereference(att->map);
		/* dead: the device may be there again, under another entry */
		if (!IS_ERR(map))
			break;
	}
	if (IS_ERR_OR_NULL(map)) {
		if (!map)
			map = ERR_PTR(-EAGAIN);
	} else if (unlikely(!percpu_ref_tryget_live_rcu(&map->ref))) {
		map = ERR_PTR(-EAGAIN);
	} else {
		this_cpu_inc(*att->hits);
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

unsigned int dma_iobuf_run_find(const u32 *end, unsigned int nr, u64 off);

/* offset at which run @i begins, in bytes; that of @nr is where the last one ends */
static inline u64 dma_iobuf_run_start(const u32 *end, unsigned int i)
{
	return i ? (u64)end[i - 1] * DMA_IOBUF_PAGE_SIZE : 0;
}

dma_addr_t __dma_iobuf_map_addr(const struct dma_iobuf_map *map, u64 off,
				u32 max, u32 *len);

/**
 * dma_iobuf_map_addr - DMA address of an offset
 * @map:	the mapping
 * @off:	offset in the dma-buf in bytes, has to be inside of it
 * @max:	bytes wanted, @off + @max has to be inside, too
 * @len:	returns the bytes that are contiguous from there, at most @max
 *
 * Context: any, with a reference to @map.
 * Return: the address of the byte at @off
 */
static inline dma_addr_t dma_iobuf_map_addr(const struct dma_iobuf_map *map,
					    u64 off, u32 max, u32 *len)
{
	u64 in = off & (map->granule - 1);

	/* more than this granule; always so if there are none, as it is 0 then */
	if (IS_ENABLED(CONFIG_DMA_SHARED_BUFFER) &&
	    unlikely(in + max > map->granule))
		return __dma_iobuf_map_addr(map, off, max, len);
	*len = max;
	return map->addr[off >> map->shift] + in;
}

#endif /* _LINUX_DMA_IOBUF_H */
