// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include "zcrx.h"

struct io_uring_zcrx_area_reg area_slot(__u32 slot, __u64 off, __u64 len)
{
	return (struct io_uring_zcrx_area_reg) {
		.flags = IORING_ZCRX_AREA_REGBUF,
		.buf_index = slot,
		.addr = off,
		.len = len,
	};
}

struct io_uring_zcrx_area_reg area_dmabuf(int fd, __u64 len)
{
	return (struct io_uring_zcrx_area_reg) {
		.flags = IORING_ZCRX_AREA_DMABUF,
		.dmabuf_fd = fd,
		.len = len,
	};
}

struct io_uring_zcrx_area_reg area_user(void *addr, __u64 len)
{
	return (struct io_uring_zcrx_area_reg) {
		.addr = (uintptr_t)addr,
		.len = len,
	};
}

static int map_region(struct zcrx *z)
{
	z->region_len = 4096 + ZCRX_ENTRIES * sizeof(struct io_uring_zcrx_rqe);
	z->region = mmap(NULL, z->region_len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (z->region != MAP_FAILED)
		return 0;
	z->region = NULL;
	return -ENOMEM;
}

static int open_queue(struct zcrx *z, struct uring *ring, unsigned int ifindex,
		      unsigned int queue, struct io_uring_zcrx_area_reg *area,
		      __u32 rx_buf_len)
{
	struct io_uring_region_desc region = { .flags = IORING_MEM_REGION_TYPE_USER };
	struct zcrx_event_desc event = { .flags = ZCRX_EVENT_DESC_FLAG_STATS };
	struct io_uring_zcrx_ifq_reg reg = {
		.if_idx = ifindex,
		.if_rxq = queue,
		.flags = ifindex ? 0 : ZCRX_REG_NODEV,
		.rq_entries = ZCRX_ENTRIES,
		.rx_buf_len = rx_buf_len,
		.area_ptr = (uintptr_t)area,
		.region_ptr = (uintptr_t)&region,
		.event_desc = (uintptr_t)&event,
	};
	int ret;

	memset(z, 0, sizeof(*z));
	z->ring = ring;
	ret = map_region(z);
	if (ret)
		return ret;
	event.stats_offset = z->region_len - sizeof(*z->stats);
	region.user_addr = (uintptr_t)z->region;
	region.size = z->region_len;
	ret = uring_register(ring->fd, IORING_REGISTER_ZCRX_IFQ, &reg, 1);
	if (ret) {
		zcrx_forget(z);
		return ret;
	}
	z->id = reg.zcrx_id;
	z->rx_buf_len = reg.rx_buf_len;
	z->token = area->rq_area_token;
	z->head = (void *)((char *)z->region + reg.offsets.head);
	z->tail = (void *)((char *)z->region + reg.offsets.tail);
	z->rqes = (void *)((char *)z->region + reg.offsets.rqes);
	z->stats = (void *)((char *)z->region + event.stats_offset);
	return 0;
}

int zcrx_open(struct zcrx *z, struct uring *ring, unsigned int ifindex,
	      struct io_uring_zcrx_area_reg *area)
{
	return open_queue(z, ring, ifindex, 0, area, 0);
}

int zcrx_open_queue(struct zcrx *z, struct uring *ring, unsigned int ifindex,
		    unsigned int queue, struct io_uring_zcrx_area_reg *area)
{
	return open_queue(z, ring, ifindex, queue, area, 0);
}

int zcrx_open_buf(struct zcrx *z, struct uring *ring, unsigned int ifindex,
		  struct io_uring_zcrx_area_reg *area, __u32 rx_buf_len)
{
	return open_queue(z, ring, ifindex, 0, area, rx_buf_len);
}

void zcrx_forget(struct zcrx *z)
{
	if (z->region)
		munmap(z->region, z->region_len);
	z->region = NULL;
}

static int ctrl(const struct zcrx *z, struct zcrx_ctrl *arg, __u32 op)
{
	arg->zcrx_id = z->id;
	arg->op = op;
	return uring_register(z->ring->fd, IORING_REGISTER_ZCRX_CTRL, arg, 0);
}

int zcrx_export(const struct zcrx *z)
{
	struct zcrx_ctrl arg = { 0 };
	int ret = ctrl(z, &arg, ZCRX_CTRL_EXPORT);

	return ret ?: (int)arg.zc_export.zcrx_fd;
}

int zcrx_import(struct zcrx *z, struct uring *ring, int fd)
{
	struct io_uring_zcrx_ifq_reg reg = { .flags = ZCRX_REG_IMPORT, .if_idx = fd };
	int ret;

	memset(z, 0, sizeof(*z));
	z->ring = ring;
	ret = uring_register(ring->fd, IORING_REGISTER_ZCRX_IFQ, &reg, 1);
	z->id = reg.zcrx_id;
	return ret;
}

int zcrx_add_area(const struct zcrx *z, struct io_uring_zcrx_area_reg *area)
{
	struct zcrx_ctrl arg = { .zc_area.area_ptr = (uintptr_t)area };

	return ctrl(z, &arg, ZCRX_CTRL_ADD_AREA);
}

int zcrx_flush(const struct zcrx *z)
{
	struct zcrx_ctrl arg = { 0 };

	return ctrl(z, &arg, ZCRX_CTRL_FLUSH_RQ);
}

struct io_uring_sqe *zcrx_prep(const struct zcrx *z, int fd, __u32 len,
			       __u64 user_data)
{
	struct io_uring_sqe *sqe = uring_sqe(z->ring);

	if (!sqe)
		return NULL;
	sqe->opcode = IORING_OP_RECV_ZC;
	sqe->fd = fd;
	sqe->len = len;
	sqe->ioprio = IORING_RECV_MULTISHOT;
	sqe->zcrx_ifq_idx = z->id;
	sqe->user_data = user_data;
	return sqe;
}

void zcrx_return(struct zcrx *z, __u64 off, __u32 len)
{
	z->rqes[z->local_tail++ % ZCRX_ENTRIES] = (struct io_uring_zcrx_rqe) {
		.off = off,
		.len = len,
	};
	__atomic_store_n(z->tail, z->local_tail, __ATOMIC_RELEASE);
}

int zcrx_area_flags(void)
{
	struct io_uring_query_zcrx q = { 0 };
	__u32 len = sizeof(q);
	int ret = query(-1, IO_URING_QUERY_ZCRX, &q, &len);

	return ret ?: (int)q.area_flags;
}
