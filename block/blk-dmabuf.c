// SPDX-License-Identifier: GPL-2.0
/*
 * bios and requests whose data is dma-buf memory (REQ_DMABUF).
 *
 * Their bio_vecs name windows of a dma_iobuf, see include/linux/dma-iobuf.h.
 * There may be no struct page behind them, and the memory may move until the
 * driver takes the mapping in ->queue_rq(). So nothing between the submitter
 * and the driver may look at the data or ask for its physical address.
 */
#include <linux/blk-integrity.h>
#include <linux/blk-mq-dma.h>
#include <linux/dma-iobuf.h>
#include <linux/pagemap.h>

#include "blk.h"

/*
 * Protection information that the block layer generates or checks takes the
 * CPU to read the data. Metadata that is none, and protection information that
 * the submitter or the device cares for, do not.
 */
bool bio_dmabuf_needs_cpu(struct bio *bio)
{
	struct blk_integrity *bi = blk_get_integrity(bio->bi_bdev->bd_disk);

	if (!bi || bio_integrity(bio))
		return false;
	if (!bi->csum_type && !(bi->flags & BLK_INTEGRITY_REF_TAG))
		return false;
	return bio_integrity_action(bio) & BI_ACT_CHECK;
}

/*
 * The one place that lets REQ_DMABUF bios into a queue: drivers opt in with
 * BLK_FEAT_DMABUF, and no buffer can have been registered for any other device.
 * Data that the CPU would have to read on the way, to encrypt it or to generate
 * protection information, is refused, too. A stacking driver looks again when it
 * knows where the data goes, as the queue may have been another one here.
 *
 * A request of such data has one bio, and each queue gets to hear of it: drivers
 * that remap have good reasons to clear the flag of others.
 */
blk_status_t bio_dmabuf_check(struct bio *bio)
{
	struct gendisk *disk = bio->bi_bdev->bd_disk;
	blk_features_t features = disk->queue->limits.features;

	if (!(features & BLK_FEAT_DMABUF))
		return BLK_STS_NOTARGET;
	/* a write that was partly submitted can't be issued a second time */
	if (IS_ENABLED(CONFIG_BLK_DEV_ZONED) && features & BLK_FEAT_ZONED)
		return BLK_STS_NOTSUPP;
	if (bio_has_crypt_ctx(bio))
		return BLK_STS_NOTSUPP;
	if (blk_get_integrity(disk) && bio_dmabuf_needs_cpu(bio))
		return BLK_STS_NOTSUPP;
	bio->bi_opf |= REQ_NOMERGE;
	return BLK_STS_OK;
}

/* metadata in several pieces: the driver can't use PRPs for the data either */
static bool bio_dmabuf_takes_sgl(struct bio *bio)
{
	struct bio_integrity_payload *bip = bio_integrity(bio);

	return bip && bip->bip_vcnt > 1;
}

/**
 * bio_split_dmabuf - how much of a REQ_DMABUF bio fits the limits
 * @bio:	the bio
 * @lim:	limits of the queue
 * @max_bytes:	at most that many bytes
 * @len_align_mask: alignment of the length of each bio_vec
 * @nsegs:	returns the bio_vecs that fit, the last one maybe in part
 * @bytes:	returns the bytes that fit; not yet in logical blocks
 * @gaps:	returns the offsets, ORed, at which those bio_vecs meet
 *
 * The loop of bio_split_io_at() for windows. DMA segments are not known yet and
 * contiguous windows say nothing about contiguous memory, so count bio_vecs.
 * Memory without gaps can always be described by PRPs. With a gap it takes SGL
 * entries, in the worst case one for every page that a bio_vec touches. A
 * bio_vec of which nothing fits has no say: what it meets at is no gap of this
 * bio. As much of a bio_vec is taken as fits: the caller cannot make a request
 * of less than a logical block.
 *
 * Return: 0 if all of @bio fits, 1 if it has to be split, -EINVAL if it is not
 * aligned.
 */
int bio_split_dmabuf(struct bio *bio, const struct queue_limits *lim,
		unsigned int max_bytes, unsigned int len_align_mask,
		unsigned int *nsegs, unsigned int *bytes, unsigned int *gaps)
{
	const unsigned int page_mask = DMA_IOBUF_PAGE_SIZE - 1;
	bool sgl = bio_dmabuf_takes_sgl(bio);
	struct bio_vec bv, prev = { };
	unsigned int entries = 0;
	struct bvec_iter iter;

	/* all in one, as most are: no gap, and nothing to be counted */
	bv = mp_bvec_iter_bvec(bio->bi_io_vec, bio->bi_iter);
	if (likely(bv.bv_len == bio->bi_iter.bi_size && !sgl)) {
		if ((bv.bv_offset & lim->dma_alignment) ||
		    (bv.bv_len & len_align_mask))
			return -EINVAL;
		*nsegs = 1;
		*bytes = min(bv.bv_len, max_bytes);
		return *bytes < bv.bv_len;
	}

	bio_for_each_bvec(bv, bio, iter) {
		unsigned int len = min(bv.bv_len, max_bytes - *bytes);
		unsigned int off = bv.bv_offset & page_mask;
		unsigned int gap = 0;

		if ((bv.bv_offset & lim->dma_alignment) ||
		    (bv.bv_len & len_align_mask))
			return -EINVAL;

		if (*nsegs) {
			if (bvec_gap_to_prev(lim, &prev, bv.bv_offset))
				return 1;
			gap = bv.bv_offset | (prev.bv_offset + prev.bv_len);
		}
		if (*nsegs == lim->max_segments)
			return 1;
		if (sgl || (*gaps | gap) & page_mask) {
			unsigned int room = 0;

			if (lim->max_segments > entries)
				room = (lim->max_segments - entries) *
					DMA_IOBUF_PAGE_SIZE - off;
			len = min(len, room);
		}
		if (!len)
			return 1;

		entries += DIV_ROUND_UP(off + len, DMA_IOBUF_PAGE_SIZE);
		*gaps |= gap;
		*bytes += len;
		(*nsegs)++;
		if (len < bv.bv_len)
			return 1;
		prev = bv;
	}
	return 0;
}

int bdev_dma_targets(struct block_device *bdev, struct dma_iobuf_set *set)
{
	struct gendisk *disk = bdev->bd_disk;

	if (!blk_queue_dmabuf(disk->queue) || !disk->fops->dma_targets)
		return -EOPNOTSUPP;
	if (bdev_is_zoned(bdev))
		return -EOPNOTSUPP;
	dma_iobuf_set_add_disk(set, disk->diskseq);
	return disk->fops->dma_targets(disk, set);
}

/**
 * generic_file_dma_targets - ->dma_targets() for files of a block file system
 * @file:	regular file
 * @set:	leaf devices are added here
 *
 * For file systems whose direct I/O only goes to the block device they are
 * mounted from, and does not look at the data.
 *
 * Context: process context, sleeps.
 * Return: 0 or -EOPNOTSUPP.
 */
int generic_file_dma_targets(struct file *file, struct dma_iobuf_set *set)
{
	struct inode *inode = file_inode(file);

	if (!S_ISREG(inode->i_mode) || !inode->i_sb->s_bdev ||
	    IS_DAX(inode) || IS_ENCRYPTED(inode) || IS_VERITY(inode) ||
	    mapping_stable_writes(file->f_mapping))
		return -EOPNOTSUPP;
	return bdev_dma_targets(inode->i_sb->s_bdev, set);
}
EXPORT_SYMBOL_GPL(generic_file_dma_targets);

/**
 * blk_rq_dma_iobuf_status - what to end a request with that got no mapping
 * @req:	REQ_DMABUF request
 * @map:	ERR_PTR() from blk_rq_dma_iobuf_get()
 *
 * A mapping that moved away is no error of the device: keep the log quiet.
 */
blk_status_t blk_rq_dma_iobuf_status(struct request *req,
		struct dma_iobuf_map *map)
{
	req->rq_flags |= RQF_QUIET;
	switch (PTR_ERR(map)) {
	case -EAGAIN:
		return BLK_STS_AGAIN;
	case -EBADF:
		return BLK_STS_NOTARGET;
	case -EFAULT:
		return BLK_STS_DIRECTION;
	case -ENODEV:
		return BLK_STS_OFFLINE;
	case -EOPNOTSUPP:
		return BLK_STS_NOTSUPP;
	default:
		return BLK_STS_IOERR;
	}
}
EXPORT_SYMBOL_GPL(blk_rq_dma_iobuf_status);

/* the next contiguous piece; REQ_DMABUF requests never have a second bio */
bool blk_rq_dma_iobuf_iter_next(struct blk_dma_iter *iter)
{
	struct blk_map_iter *mi = &iter->iter;
	struct bio_vec bv;

	if (!mi->iter.bi_size)
		return false;
	bv = mp_bvec_iter_bvec(mi->bvecs, mi->iter);
	iter->addr = dma_iobuf_map_addr(iter->iobuf_map,
			bvec_dma_win(&bv)->base + bv.bv_offset, bv.bv_len,
			&iter->len);
	bvec_iter_advance_single(mi->bvecs, &mi->iter, iter->len);
	return true;
}

/**
 * blk_rq_dma_iobuf_iter_start - iterate over the DMA segments of a request
 * @req:	REQ_DMABUF request
 * @map:	from blk_rq_dma_iobuf_get()
 * @iter:	set to the first segment
 *
 * Go on with blk_rq_dma_map_iter_next(). There is nothing to unmap.
 *
 * Return: %false if there is no segment; see &blk_dma_iter.status.
 */
bool blk_rq_dma_iobuf_iter_start(struct request *req,
		struct dma_iobuf_map *map, struct blk_dma_iter *iter)
{
	memset(iter, 0, sizeof(*iter));
	if (WARN_ON_ONCE(req->bio != req->biotail)) {
		iter->status = BLK_STS_IOERR;
		return false;
	}
	iter->iobuf_map = map;
	iter->p2pdma.map = PCI_P2PDMA_MAP_NONE;
	iter->iter.bio = req->bio;
	iter->iter.bvecs = req->bio->bi_io_vec;
	iter->iter.iter = req->bio->bi_iter;
	return blk_rq_dma_iobuf_iter_next(iter);
}
EXPORT_SYMBOL_GPL(blk_rq_dma_iobuf_iter_start);

/* blk_rq_dma_map_iter_start() for REQ_DMABUF */
bool blk_rq_dma_iobuf_map_iter_start(struct request *req,
		struct device *dma_dev, struct dma_iova_state *state,
		struct blk_dma_iter *iter)
{
	struct dma_iobuf_map *map;
	dma_addr_t addr;
	u32 len;

	map = blk_rq_dma_iobuf_get(req, dma_dev, &addr, &len);
	if (IS_ERR(map)) {
		iter->status = blk_rq_dma_iobuf_status(req, map);
		return false;
	}
	/* for drivers that ask blk_rq_dma_map_coalesce() */
	memset(state, 0, sizeof(*state));
	if (blk_rq_dma_iobuf_iter_start(req, map, iter))
		return true;
	dma_iobuf_map_put(map);
	return false;
}

/**
 * blk_dma_iter_iobuf_segs - count the DMA segments of a REQ_DMABUF request
 * @iter:	at the first one
 * @max:	stop counting here
 *
 * Return: their number, at most @max. @iter stays where it is.
 */
unsigned int blk_dma_iter_iobuf_segs(const struct blk_dma_iter *iter,
		unsigned int max)
{
	struct blk_dma_iter copy = *iter;
	unsigned int segs = 1;

	while (segs < max && blk_rq_dma_iobuf_iter_next(&copy))
		segs++;
	return segs;
}
EXPORT_SYMBOL_GPL(blk_dma_iter_iobuf_segs);
