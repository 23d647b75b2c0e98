// SPDX-License-Identifier: GPL-2.0
/*
 * Registration of buffers by descriptor: IORING_RSRC_UPDATE_EXTENDED
 */
#include <linux/kernel.h>
#include <linux/errno.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/io_uring.h>
#include <linux/dma-iobuf.h>

#include <uapi/linux/io_uring.h>
#include <uapi/linux/io_uring/query.h>

#include "io_uring.h"
#include "rsrc.h"
#include "query.h"
#include "regbuf.h"
#include "regbuf_dmabuf.h"

static struct io_rsrc_node *
io_regbuf_empty(const struct io_uring_regbuf_desc *desc)
{
	struct io_uring_regbuf_desc zero = { .type = IO_REGBUF_TYPE_EMPTY };

	if (memcmp(desc, &zero, sizeof(zero)))
		return ERR_PTR(-EINVAL);
	return NULL;
}

static struct io_rsrc_node *
io_regbuf_uaddr(struct io_ring_ctx *ctx, const struct io_uring_regbuf_desc *desc)
{
	struct io_uring_regbuf_desc only = {
		.type	= IO_REGBUF_TYPE_UADDR,
		.size	= desc->size,
		.uaddr	= desc->uaddr,
	};
	struct iovec iov = {
		.iov_base	= u64_to_user_ptr(desc->uaddr),
		.iov_len	= desc->size,
	};

	if (memcmp(desc, &only, sizeof(only)))
		return ERR_PTR(-EINVAL);
	if (!desc->uaddr || iov.iov_len != desc->size ||
	    (uintptr_t)iov.iov_base != desc->uaddr)
		return ERR_PTR(-EFAULT);
	return io_sqe_buffer_register(ctx, &iov);
}

/* A failure is told where the descriptor says, and nothing is written else */
static struct io_rsrc_node *
io_regbuf_dmabuf(struct io_ring_ctx *ctx, const struct io_uring_regbuf_desc *desc,
		 struct io_rsrc_node *old, u64 tag, bool *in_place)
{
	struct io_uring_regbuf_reason __user *ureason =
						u64_to_user_ptr(desc->reason);
	struct io_regbuf_why why = { .target = -1 };
	struct io_rsrc_node *node;
	int ret;

	if (desc->reason) {
		if ((uintptr_t)ureason != desc->reason)
			return ERR_PTR(-EFAULT);
		ret = io_regbuf_reason_check(ureason);
		if (ret)
			return ERR_PTR(ret);
	}
	*in_place = desc->flags & IO_REGBUF_DMABUF_ADD_TARGETS;
	if (!*in_place)
		node = io_regbuf_register_dmabuf(ctx, desc, &why);
	else
		node = ERR_PTR(io_regbuf_add_targets(ctx, desc, old, tag,
						     &why));
	if (IS_ERR(node) && ureason)
		io_regbuf_reason_write(ureason, &why, PTR_ERR(node));
	return node;
}

/*
 * Turn one descriptor into a node for the buffer table.
 *
 * @old is what the slot holds now. @in_place is set if the descriptor changed
 * that, and there is no new node.
 *
 * ->uring_lock is dropped while an exporter may have to be waited for, so the
 * caller has to look at the buffer table again.
 */
static struct io_rsrc_node *io_regbuf_desc_register(struct io_ring_ctx *ctx,
						    void __user *udesc,
						    struct io_rsrc_node *old,
						    u64 tag, bool *in_place)
{
	struct io_uring_regbuf_desc desc;

	BUILD_BUG_ON(sizeof(desc) != 80);

	*in_place = false;
	if (copy_from_user(&desc, udesc, sizeof(desc)))
		return ERR_PTR(-EFAULT);

	switch (desc.type) {
	case IO_REGBUF_TYPE_EMPTY:
		/* there would be nothing that the tag belongs to */
		if (tag)
			return ERR_PTR(-EINVAL);
		return io_regbuf_empty(&desc);
	case IO_REGBUF_TYPE_UADDR:
		return io_regbuf_uaddr(ctx, &desc);
	case IO_REGBUF_TYPE_DMABUF:
		if (!IS_ENABLED(CONFIG_DMA_SHARED_BUFFER))
			return ERR_PTR(-EOPNOTSUPP);
		return io_regbuf_dmabuf(ctx, &desc, old, tag, in_place);
	default:
		return ERR_PTR(-EINVAL);
	}
}

static int io_regbuf_get_tag(u64 __user *tags, unsigned int idx, u64 *tag)
{
	*tag = 0;
	if (tags && copy_from_user(tag, &tags[idx], sizeof(*tag)))
		return -EFAULT;
	return 0;
}

/**
 * io_regbuf_update - IORING_REGISTER_BUFFERS_UPDATE with one descriptor
 * @ctx:	the ring
 * @up:		the request, its range was checked against the table
 * @idx:	which of the descriptors
 *
 * Return: 0 or an error, and the slot is as it was.
 */
int io_regbuf_update(struct io_ring_ctx *ctx, struct io_uring_rsrc_update2 *up,
		     unsigned int idx)
{
	struct io_uring_regbuf_desc __user *descs = u64_to_user_ptr(up->data);
	struct io_rsrc_node *node, *old;
	unsigned int slot = up->offset + idx;
	bool in_place;
	u64 tag;
	int ret;

	ret = io_regbuf_get_tag(u64_to_user_ptr(up->tags), idx, &tag);
	if (ret)
		return ret;

	/* looked up every time: the lock may have been dropped in between */
	if (slot >= ctx->buf_table.nr)
		return -ENXIO;
	old = io_rsrc_node_lookup(&ctx->buf_table, slot);
	node = io_regbuf_desc_register(ctx, &descs[idx], old, tag, &in_place);
	if (IS_ERR(node) || in_place)
		return PTR_ERR_OR_ZERO(node);
	if (slot >= ctx->buf_table.nr) {
		if (node)
			io_put_rsrc_node(ctx, node);
		return -ENXIO;
	}
	if (node)
		node->tag = tag;
	slot = array_index_nospec(slot, ctx->buf_table.nr);
	io_reset_rsrc_node(ctx, &ctx->buf_table, slot);
	ctx->buf_table.nodes[slot] = node;
	return 0;
}

/**
 * io_regbuf_register - IORING_REGISTER_BUFFERS2 with descriptors
 * @ctx:	the ring
 * @rr:		the request
 *
 * Return: 0 or an error, and there is no table, as before.
 */
int io_regbuf_register(struct io_ring_ctx *ctx,
		       struct io_uring_rsrc_register *rr)
{
	struct io_uring_regbuf_desc __user *descs = u64_to_user_ptr(rr->data);
	u64 __user *tags = u64_to_user_ptr(rr->tags);
	struct io_rsrc_data data;
	unsigned int i;
	int ret;

	if (ctx->buf_table.nr)
		return -EBUSY;
	if (rr->nr > IORING_MAX_REG_BUFFERS)
		return -EINVAL;
	ret = io_rsrc_data_alloc(&data, rr->nr);
	if (ret)
		return ret;

	for (i = 0; i < rr->nr; i++) {
		struct io_rsrc_node *node;
		bool in_place;
		u64 tag;

		ret = io_regbuf_get_tag(tags, i, &tag);
		if (ret)
			goto free;
		node = io_regbuf_desc_register(ctx, &descs[i], NULL, tag,
					       &in_place);
		if (IS_ERR(node)) {
			ret = PTR_ERR(node);
			goto free;
		}
		data.nodes[i] = node;
		if (node)
			node->tag = tag;
	}
	/* somebody else may have been quicker while the lock was dropped */
	ret = -EBUSY;
	if (ctx->buf_table.nr)
		goto free;
	ctx->buf_table = data;
	return 0;
free:
	/* what was never registered posts no tags */
	for (i = 0; i < rr->nr; i++)
		if (data.nodes[i])
			data.nodes[i]->tag = 0;
	io_rsrc_data_free(ctx, &data);
	return ret;
}

/* what this kernel understands, for IO_URING_QUERY_REGBUF */
static void io_query_regbuf(struct io_uring_query_regbuf *q)
{
	*q = (struct io_uring_query_regbuf) {
		.type_mask	= (1ULL << IO_REGBUF_TYPE_EMPTY) |
				  (1ULL << IO_REGBUF_TYPE_UADDR),
		.update_flags	= IORING_RSRC_UPDATE_EXTENDED,
		.max_size	= IO_REGBUF_MAX_SIZE,
		.desc_size	= sizeof(struct io_uring_regbuf_desc),
		.version	= IO_REGBUF_VERSION,
		.features	= IO_REGBUF_FEATURES,
	};
	if (IS_ENABLED(CONFIG_DMA_SHARED_BUFFER)) {
		q->type_mask |= 1ULL << IO_REGBUF_TYPE_DMABUF;
		q->dmabuf_flags = IO_REGBUF_DMABUF_FLAGS;
		q->max_targets = dma_iobuf_max_devs();
	}
}

/* what a slot really is, for IO_URING_QUERY_REGBUF_MAP */
static int io_query_regbuf_map(struct io_ring_ctx *ctx,
			       struct io_uring_query_regbuf_map *q)
{
	struct io_uring_query_regbuf_map in = {
		.slot	= q->slot,
		.target	= q->target,
	};
	struct io_rsrc_node *node;

	if (!ctx || memcmp(q, &in, sizeof(in)))
		return -EINVAL;
	lockdep_assert_held(&ctx->uring_lock);
	if (q->slot >= ctx->buf_table.nr)
		return -EINVAL;

	node = io_rsrc_node_lookup(&ctx->buf_table, q->slot);
	if (IS_ENABLED(CONFIG_DMA_SHARED_BUFFER) && node &&
	    (node->buf->flags & IO_REGBUF_F_DMABUF))
		return io_regbuf_query_map(node->buf, q);
	if (q->target)
		return -EINVAL;
	if (node) {
		q->type = IO_REGBUF_TYPE_UADDR;
		q->size = node->buf->len;
	}
	return 0;
}

/**
 * io_regbuf_query - the queries that io_regbuf_is_query() knows
 * @ctx:	the ring, or NULL
 * @op:		IO_URING_QUERY_REGBUF*
 * @data:	the caller's structure, then the answer
 * @size:	bytes of it that the caller has, the rest may be anything
 *
 * A program may be older, and its structure smaller, or newer. It gets the fields
 * that both know.
 *
 * Return: bytes in @data; or an error.
 */
ssize_t io_regbuf_query(struct io_ring_ctx *ctx, u32 op, void *data,
			size_t size)
{
	struct io_uring_query_regbuf_map *map = data;
	int ret;

	switch (op) {
	case IO_URING_QUERY_REGBUF:
		io_query_regbuf(data);
		return sizeof(struct io_uring_query_regbuf);
	case IO_URING_QUERY_REGBUF_MAP:
		/* the question has to be there */
		if (size < offsetofend(typeof(*map), target))
			return -EINVAL;
		if (size < sizeof(*map))
			memset(data + size, 0, sizeof(*map) - size);
		ret = io_query_regbuf_map(ctx, map);
		return ret ?: sizeof(*map);
	default:
		return -EOPNOTSUPP;
	}
}
