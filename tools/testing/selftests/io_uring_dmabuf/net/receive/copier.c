// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <linux/dma-buf-bar.h>

#include "copier.h"

#define FULL	1000	/* times that there may be no room left */

int copier_map_bar(struct relay *r, __u32 flags)
{
	mem_destroy(&r->mem);
	return mem_create_bar(&r->mem, COPIER_SIZE, flags, 0) ?:
	       mem_poison(&r->mem, 0, COPIER_SIZE, POISON);
}

int copier_store(struct relay *r, unsigned int slot, __u32 flags)
{
	return reg_flags(&r->ring, slot, r->mem.fd, r->disk, flags);
}

int copier_up(struct relay *r, enum mem_kind kind, const char **why)
{
	bool bar = kind == MEM_BAR;
	int ret;

	relay_init(r);
	ret = netrig_up(&r->net, NULL, MEM_UDMABUF, 0, why);
	if (!ret)
		ret = relay_store(r, kind, COPIER_SIZE, ZCRX_RING, why);
	if (!ret && bar)
		ret = copier_map_bar(r, DMA_BUF_BAR_VMAP);
	return ret ?: copier_store(r, 0, IO_REGBUF_DMABUF_COPY_OK);
}

int copier_open(struct relay *r, __u64 off, __u64 len)
{
	struct io_uring_zcrx_area_reg area = area_slot(0, off, len);
	int ret = zcrx_open(&r->z, &r->ring, 0, &area);

	return ret ?: net_local("127.0.0.1", &r->tcp);
}

__u64 copier_bytes(struct relay *r, unsigned int slot)
{
	struct io_uring_query_regbuf_map q;

	return query_map(&r->ring, slot, 0, &q) ? -1ULL : q.copied_bytes;
}

int copier_receive(struct relay *r, __u32 len)
{
	if (!zcrx_prep(&r->z, r->tcp.rx, len, RELAY_RECV))
		return -EBUSY;
	return uring_submit(&r->ring, 0) == 1 ? 0 : -EIO;
}

int copier_take(struct relay *r, const struct piece *p, struct taken *t)
{
	struct uring_res res;
	struct arrived a;
	__u64 got = 0;
	int ret = copier_receive(r, p->len);

	while (!ret && got < p->len) {
		ret = relay_next(r, p, got, &a);
		if (ret == -ENOMEM && t->full < FULL) {
			t->full++;
			ret = zcrx_flush(&r->z) ?: copier_receive(r, p->len - got);
		} else if (ret > 0) {
			zcrx_return(&r->z, a.off, a.len);
			t->in[a.off >> IORING_ZCRX_AREA_SHIFT] += a.len;
			t->pieces++;
			got += ret;
			ret = 0;
		}
	}
	if (ret)
		return ret;
	ret = uring_wait(&r->ring, &res, net_patience());
	return ret ?: res.res;
}

int copier_stream(struct relay *r, const struct piece *p, struct taken *t)
{
	struct sender s;
	int ret, err;

	ret = sender_start(&s, r->tcp.tx, p);
	if (ret)
		return ret;
	ret = copier_take(r, p, t);
	if (ret)
		shutdown(s.fd, SHUT_RDWR);
	err = sender_join(&s);
	return ret ?: err;
}
