// SPDX-License-Identifier: GPL-2.0
/*
 * SEND_ZC and SENDMSG_ZC from dma-bufs.
 *
 * The iterator is of type ITER_DMABUF and goes down to TCP or UDP as it is. If
 * they, or the device, cannot take it, nothing has been queued, and a buffer that
 * allows it (IO_REGBUF_DMABUF_COPY_OK) is sent from its mapping for the CPU.
 */
#include <linux/kernel.h>
#include <linux/errno.h>
#include <linux/dma-buf.h>
#include <linux/dma-iobuf.h>
#include <linux/iosys-map.h>
#include <linux/net.h>
#include <linux/slab.h>
#include <linux/socket.h>
#include <linux/udp.h>
#include <linux/io_uring.h>
#include <net/net_iobuf.h>

#include <uapi/linux/io_uring.h>

#include "io_uring.h"
#include "net.h"
#include "notif.h"
#include "rsrc.h"
#include "regbuf.h"
#include "regbuf_dmabuf.h"

/* what is copied at once from I/O memory */
#define IO_DMABUF_BOUNCE	((size_t)SZ_64K)

static struct io_regbuf *io_regbuf_of_notif(const struct io_kiocb *notif)
{
	return notif->buf_node->buf->priv;
}

/* Is it a dma-buf that may be copied */
bool io_regbuf_node_may_copy(const struct io_rsrc_node *node)
{
	const struct io_regbuf *reg = node->buf->priv;

	return node->buf->flags & IO_REGBUF_F_DMABUF &&
	       reg->flags & IO_REGBUF_DMABUF_COPY_OK;
}

/**
 * io_regbuf_may_copy - may a send to any kind of socket try
 * @req:	the request, to a socket that knows no zerocopy
 * @issue_flags: IO_URING_F_*
 *
 * Return: %true if its buffer is a dma-buf that may be copied, or is taken of a
 * ring, where io_regbuf_select() looks at it.
 */
bool io_regbuf_may_copy(struct io_kiocb *req, unsigned int issue_flags)
{
	struct io_kiocb *notif = io_send_zc_notif(req);
	struct io_rsrc_node *node;

	if (!notif)
		return false;
	if (req->flags & REQ_F_BUFFER_SELECT)
		return true;
	notif->buf_index = req->buf_index;
	node = io_find_buf_node(notif, issue_flags);
	return node && io_regbuf_node_may_copy(node);
}

/*
 * Exporters return what is not for user space, and -EAGAIN, which would mean that
 * the socket has to be polled.
 */
int io_regbuf_exporter_error(int err)
{
	switch (err) {
	case -EAGAIN:
		return -EBUSY;
	case -ERESTARTSYS:
	case -ERESTARTNOINTR:
	case -ERESTARTNOHAND:
	case -ERESTART_RESTARTBLOCK:
		return -EINTR;
	default:
		/* 524, if any of those */
		return err > -ERESTARTSYS ? err : -EOPNOTSUPP;
	}
}

/* it pins the memory, wherever that is then: charged before, if it is RAM */
static int io_regbuf_vmap_charged(struct io_regbuf *reg)
{
	struct iosys_map map;
	int ret;

	if (!reg->buf->dmabuf->ops->vmap)
		return -EOPNOTSUPP;
	ret = io_regbuf_charge_copies(reg);
	if (!ret)
		ret = dma_iobuf_vmap(reg->buf, &map);
	if (ret)
		return ret;
	/* the device that had it pinned may have given way just before */
	ret = io_regbuf_charge_copies(reg);
	if (ret)
		dma_buf_vunmap_unlocked(reg->buf->dmabuf, &map);
	else
		reg->vmap = map;
	return ret;
}

/**
 * io_regbuf_vmap - let the CPU see the memory, in &io_regbuf.vmap from now on
 * @reg:	the buffer, registered with COPY_OK
 *
 * Not when it is registered: it may make the exporter move the memory.
 *
 * Context: process context; waits for the exporter, until it is killed.
 * Return: 0; -EOPNOTSUPP: the exporter has no such view; -ENOMEM: RLIMIT_MEMLOCK;
 * -EINTR; or what the exporter says.
 */
int io_regbuf_vmap(struct io_regbuf *reg)
{
	int ret = mutex_lock_killable(&reg->vmap_lock);

	if (ret)
		return ret;
	if (iosys_map_is_null(&reg->vmap))
		ret = io_regbuf_vmap_charged(reg);
	mutex_unlock(&reg->vmap_lock);
	return ret;
}

/*
 * Let the iterator, and what is left of its vector, name the CPU's mapping. A
 * vector is the request's own, and a kvec has the size of a bio_vec. Without
 * one, the bio_vecs are those of the slot; but then the range is contiguous.
 */
static void io_regbuf_iter_to_kvec(struct io_async_msghdr *kmsg, void *vaddr)
{
	struct iov_iter *iter = &kmsg->msg.msg_iter;
	const struct bio_vec *bv = iter->bvec;
	struct kvec *kvec = (struct kvec *)bv;
	unsigned long i;

	BUILD_BUG_ON(sizeof(struct kvec) > sizeof(struct bio_vec));
	BUILD_BUG_ON(sizeof(struct kvec) != sizeof(kmsg->fast_iov));

	if (!kmsg->vec.bvec || bv < kmsg->vec.bvec ||
	    bv >= kmsg->vec.bvec + kmsg->vec.nr) {
		kvec = (struct kvec *)&kmsg->fast_iov;
		kvec->iov_base = vaddr + bvec_dma_win(bv)->base +
				 bv->bv_offset + iter->iov_offset;
		kvec->iov_len = iter->count;
		iov_iter_kvec(iter, ITER_SOURCE, kvec, 1, iter->count);
		return;
	}

	for (i = 0; i < iter->nr_segs; i++) {
		struct bio_vec seg = bv[i];

		kvec[i].iov_base = vaddr + bvec_dma_win(&seg)->base +
				   seg.bv_offset;
		kvec[i].iov_len = seg.bv_len;
	}
	iter->kvec = kvec;
	iter->iter_type = ITER_KVEC;
}

static int io_regbuf_send_mem(struct io_kiocb *req, struct socket *sock,
			      struct io_async_msghdr *kmsg,
			      unsigned int msg_flags, struct io_regbuf *reg)
{
	struct dma_buf *dmabuf = reg->buf->dmabuf;
	int ret;

	if (iov_iter_is_dmabuf(&kmsg->msg.msg_iter))
		io_regbuf_iter_to_kvec(kmsg, reg->vmap.vaddr);

	ret = dma_buf_begin_cpu_access(dmabuf, DMA_FROM_DEVICE);
	if (ret)
		return io_regbuf_exporter_error(ret);
	ret = io_send_zc_msg(req, sock, kmsg, msg_flags);
	dma_buf_end_cpu_access(dmabuf, DMA_FROM_DEVICE);
	return ret;
}

/* The next @len bytes of what is left of @iter */
static int io_regbuf_read_iomem(struct io_regbuf *reg, const struct iov_iter *iter,
				void *to, size_t len)
{
	struct dma_buf *dmabuf = reg->buf->dmabuf;
	struct iov_iter left = *iter;
	int ret;

	ret = dma_buf_begin_cpu_access(dmabuf, DMA_FROM_DEVICE);
	if (ret)
		return io_regbuf_exporter_error(ret);
	while (len) {
		const struct bio_vec *bv = left.bvec;
		size_t size = min_t(size_t, bv->bv_len - left.iov_offset, len);

		iosys_map_memcpy_from(to, &reg->vmap, bvec_dma_win(bv)->base +
				      bv->bv_offset + left.iov_offset, size);
		iov_iter_advance(&left, size);
		to += size;
		len -= size;
	}
	dma_buf_end_cpu_access(dmabuf, DMA_FROM_DEVICE);
	return 0;
}

/*
 * A part of the message, from @bounce. The iterator goes on naming the dma-buf, so
 * that what was not sent is copied again.
 */
static int io_regbuf_send_part(struct io_kiocb *req, struct socket *sock,
			       struct io_async_msghdr *kmsg,
			       unsigned int msg_flags, void *bounce, size_t len)
{
	struct kvec kvec = { .iov_base = bounce, .iov_len = len };
	struct iov_iter iter = kmsg->msg.msg_iter;
	int ret;

	/* the message does not end here */
	if (len < iter.count)
		msg_flags = (msg_flags & ~(MSG_EOR | MSG_OOB)) | MSG_MORE;
	iov_iter_kvec(&kmsg->msg.msg_iter, ITER_SOURCE, &kvec, 1, len);
	ret = io_send_zc_msg(req, sock, kmsg, msg_flags);
	kmsg->msg.msg_iter = iter;
	if (ret > 0) {
		iov_iter_advance(&kmsg->msg.msg_iter, ret);
		/* was sent with the first part */
		kmsg->msg.msg_controllen = 0;
	}
	return ret;
}

/* I/O memory: nobody but memcpy_fromio() can read it */
static int io_regbuf_send_iomem(struct io_kiocb *req, struct socket *sock,
				struct io_async_msghdr *kmsg,
				unsigned int msg_flags, struct io_regbuf *reg)
{
	struct iov_iter *iter = &kmsg->msg.msg_iter;
	size_t max = iov_iter_count(iter);
	void *bounce;
	int sent = 0;
	int ret;

	/* a datagram has to be there as a whole */
	if (sock->type == SOCK_STREAM)
		max = min(max, IO_DMABUF_BOUNCE);
	else if (max > READ_ONCE(sock->sk->sk_sndbuf))
		return -EMSGSIZE;
	bounce = kvmalloc(max, GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!bounce)
		return -ENOMEM;
	do {
		size_t len = min(iov_iter_count(iter), max);

		ret = io_regbuf_read_iomem(reg, iter, bounce, len);
		if (!ret)
			ret = io_regbuf_send_part(req, sock, kmsg, msg_flags,
						  bounce, len);
		if (ret > 0)
			sent += ret;
		if (ret < (int)len)
			break;
	} while (iov_iter_count(iter));
	kvfree(bounce);
	return sent ?: ret;
}

/* The exporter may have to be waited for, which a worker may do */
static bool io_regbuf_to_worker(struct io_kiocb *req, unsigned int issue_flags)
{
	if (!(issue_flags & IO_URING_F_NONBLOCK) ||
	    issue_flags & IO_URING_F_IOWQ)
		return false;
	io_queue_iowq(req);
	return true;
}

/* Is a device that is no target all that is wrong? That is mended once */
static bool io_regbuf_send_demands(struct io_kiocb *req, int err)
{
	struct io_regbuf *reg = io_regbuf_of_notif(io_send_zc_notif(req));

	return (err == -EBADF || err == -ENODEV) &&
	       reg->flags & IO_REGBUF_DMABUF_ON_DEMAND &&
	       !(req->flags & REQ_F_DMABUF_RETARGET);
}

/* The device that the socket sends by becomes a target, and the send is made */
static int io_regbuf_send_demand(struct io_kiocb *req,
				 struct io_async_msghdr *kmsg,
				 unsigned int msg_flags, int err)
{
	struct io_regbuf *reg = io_regbuf_of_notif(io_send_zc_notif(req));
	int ret;

	req->flags |= REQ_F_DMABUF_RETARGET;
	ret = io_regbuf_demand(reg, req->file);
	/* a datagram to an address: what it leaves by is its own business */
	if (ret == -ENOTCONN)
		ret = 0;
	if (ret <= 0)
		return ret ?: err;
	ret = io_send_zc_msg(req, sock_from_file(req->file), kmsg, msg_flags);
	/* the rest is sent later, and the device may have given way by then */
	if (ret > 0)
		req->flags &= ~REQ_F_DMABUF_RETARGET;
	return ret;
}

static int io_regbuf_send_copy(struct io_kiocb *req, struct socket *sock,
			       struct io_async_msghdr *kmsg,
			       unsigned int msg_flags, unsigned int issue_flags)
{
	struct io_kiocb *notif = io_send_zc_notif(req);
	struct io_regbuf *reg = io_regbuf_of_notif(notif);
	int ret;

	if (io_regbuf_to_worker(req, issue_flags))
		return IOU_ISSUE_SKIP_COMPLETE;
	if (req->flags & REQ_F_NOWAIT)
		msg_flags |= MSG_DONTWAIT;

	ret = io_regbuf_vmap(reg);
	if (ret)
		return io_regbuf_exporter_error(ret);
	kmsg->msg.msg_ubuf = NULL;
	msg_flags &= ~MSG_ZEROCOPY;
	if (reg->vmap.is_iomem)
		ret = io_regbuf_send_iomem(req, sock, kmsg, msg_flags, reg);
	else
		ret = io_regbuf_send_mem(req, sock, kmsg, msg_flags, reg);
	if (ret > 0) {
		WRITE_ONCE(io_notif_to_data(notif)->zc_copied, true);
		atomic64_add(ret, &reg->copied);
	}
	return ret;
}

/* Is it worth a copy: what was to be sent cannot be sent as it is */
static bool io_regbuf_copy_helps(const struct sock *sk, int err)
{
	switch (err) {
	case -EOPNOTSUPP:
	case -ENODEV:
	case -EBADF:
		return true;
	case -EMSGSIZE:
		/* too many pieces, unless it is too long */
		return sk_is_udp(sk);
	case -EHOSTUNREACH:
		/* which device's memory it would have to be is not known */
		return sk_is_tcp(sk) && !rcu_access_pointer(sk->sk_dst_cache);
	default:
		return false;
	}
}

/**
 * io_regbuf_send - send what an ITER_DMABUF, or its copy, names
 * @req:	the request
 * @msg_flags:	MSG_*
 * @issue_flags: IO_URING_F_*
 *
 * Return: what sendmsg says; or IOU_ISSUE_SKIP_COMPLETE: it is sent from
 * blocking context.
 */
int io_regbuf_send(struct io_kiocb *req, unsigned int msg_flags,
		   unsigned int issue_flags)
{
	struct socket *sock = sock_from_file(req->file);
	struct io_kiocb *notif = io_send_zc_notif(req);
	struct io_async_msghdr *kmsg = req->async_data;
	struct iov_iter *iter = &kmsg->msg.msg_iter;
	int ret = -EOPNOTSUPP;

	kmsg->msg.sg_from_iter = NULL;
	/* an empty datagram: no window, nothing that would have to be copied */
	if (!iov_iter_count(iter)) {
		iov_iter_kvec(iter, ITER_SOURCE, NULL, 0, 0);
		return io_send_zc_msg(req, sock, kmsg, msg_flags);
	}

	if (!io_send_zc_copies(req)) {
		bool copy_ok = io_regbuf_of_notif(notif)->flags &
			       IO_REGBUF_DMABUF_COPY_OK;
		/* compat control messages are longer once they are parsed */
		size_t controllen = kmsg->msg.msg_controllen;
		struct iov_iter all = *iter;
		/* an error would drop what a corked datagram has so far */
		bool corked = copy_ok && sk_is_udp(sock->sk) &&
			      READ_ONCE(udp_sk(sock->sk)->pending);

		if (!corked && net_iobuf_sk_ok(sock->sk))
			ret = io_send_zc_msg(req, sock, kmsg, msg_flags);
		if (io_regbuf_send_demands(req, ret)) {
			*iter = all;
			kmsg->msg.msg_controllen = controllen;
			if (io_regbuf_to_worker(req, issue_flags))
				return IOU_ISSUE_SKIP_COMPLETE;
			if (req->flags & REQ_F_NOWAIT)
				msg_flags |= MSG_DONTWAIT;
			ret = io_regbuf_send_demand(req, kmsg, msg_flags, ret);
		}
		if (!copy_ok || !io_regbuf_copy_helps(sock->sk, ret))
			return ret;
		/* a datagram may have taken some */
		*iter = all;
		kmsg->msg.msg_controllen = controllen;
		/* all that is left of it, though another issue may send that */
		io_send_zc_set_copies(req);
	}
	return io_regbuf_send_copy(req, sock, kmsg, msg_flags, issue_flags);
}
