// SPDX-License-Identifier: GPL-2.0
/*
 * Messages from dma-bufs that are named by an ITER_DMABUF.
 *
 * Their memory has no pages. The message keeps the bio_vecs, which name windows
 * of the dma-buf and are good for as long as the owner of the memory is not told
 * that it is no longer used. Its scatterlist has lengths only, for those who count
 * what was sent.
 *
 * See Documentation/networking/io_uring-dmabuf.rst.
 */
#include <linux/dma-iobuf.h>
#include <linux/export.h>
#include <linux/slab.h>
#include <net/dst.h>
#include <net/net_iobuf.h>

#include "rds.h"

/**
 * rds_dmabuf_get - the data of a message
 * @rm: the message, with an owner of its memory and a scatterlist that has an
 *	entry for each of the bio_vecs of @from
 * @from: the data, of type ITER_DMABUF, not empty; advanced
 *
 * Return: 0; or -ENOMEM.
 */
int rds_dmabuf_get(struct rds_message *rm, struct iov_iter *from)
{
	struct scatterlist *sg = rm->data.op_sg;
	struct bio_vec *bv;

	bv = kmalloc_objs(*bv, from->nr_segs);
	if (!bv)
		return -ENOMEM;
	rm->data.op_bvec = bv;

	while (iov_iter_count(from)) {
		unsigned int len = min_t(size_t, iov_iter_count(from),
					 from->bvec->bv_len - from->iov_offset);

		/* nobody would get past an empty one */
		if (len) {
			*bv = *from->bvec;
			bv->bv_offset += from->iov_offset;
			bv->bv_len = len;
			sg->length = len;
			bv++;
			sg++;
			rm->data.op_nents++;
		}
		iov_iter_advance(from, len);
	}
	return 0;
}

/* No memory: that is the owner's, who is told next */
void rds_dmabuf_put(struct rds_message *rm)
{
	kfree(rm->data.op_bvec);
	rm->data.op_bvec = NULL;
}

/**
 * rds_dmabuf_iter - what is left to send of a message
 * @rm: the message
 * @sg: the entry of its scatterlist that is next
 * @off: how many bytes of this have been sent
 * @to: the data, of type ITER_DMABUF
 */
void rds_dmabuf_iter(const struct rds_message *rm, unsigned int sg,
		     unsigned int off, struct iov_iter *to)
{
	const struct bio_vec *bv = rm->data.op_bvec;
	unsigned int i, len = 0;

	for (i = sg; i < rm->data.op_nents; i++)
		len += bv[i].bv_len;
	iov_iter_bvec(to, ITER_SOURCE, bv + sg, rm->data.op_nents - sg, len);
	to->iter_type = ITER_DMABUF;
	iov_iter_advance(to, off);
}
EXPORT_SYMBOL_GPL(rds_dmabuf_iter);

/**
 * rds_dmabuf_check - can a message be sent by this connection
 * @conn: the connection
 * @rm: the message
 *
 * The route is asked, as the connection may be down.
 *
 * Context: process context.
 * Return: 0: yes, or there is no route now; or what net_iobuf_find() says.
 */
int rds_dmabuf_check(struct rds_connection *conn, const struct rds_message *rm)
{
	struct net_devmem_dmabuf_binding *binding;
	struct dst_entry *dst;
	struct iov_iter iter;

	/* who receives from the loop transport reads the message */
	if (conn->c_trans->t_type != RDS_TRANS_TCP)
		return -EOPNOTSUPP;
	dst = net_iobuf_route(rds_conn_net(conn), &conn->c_laddr,
			      &conn->c_faddr, conn->c_dev_if);
	if (!dst)
		return 0;
	rds_dmabuf_iter(rm, 0, 0, &iter);
	binding = net_iobuf_find(&iter, dst);
	dst_release(dst);
	return PTR_ERR_OR_ZERO(binding);
}
EXPORT_SYMBOL_GPL(rds_dmabuf_check);
