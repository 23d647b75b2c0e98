// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "bufring.h"

int bufring_create(struct bufring *b, struct uring *ring, __u16 group,
		   unsigned int entries, unsigned int flags)
{
	struct io_uring_buf_reg reg = {
		.ring_entries = entries, .bgid = group, .flags = flags,
	};
	int ret;

	memset(b, 0, sizeof(*b));
	b->map_len = entries * sizeof(struct io_uring_buf);
	b->br = mmap(NULL, b->map_len, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (b->br == MAP_FAILED) {
		b->br = NULL;
		return -errno;
	}
	b->ring = ring;
	b->entries = entries;
	b->group = group;
	reg.ring_addr = (uintptr_t)b->br;
	ret = uring_register(ring->fd, IORING_REGISTER_PBUF_RING, &reg, 1);
	if (ret) {
		munmap(b->br, b->map_len);
		b->br = NULL;
	}
	return ret;
}

void bufring_destroy(struct bufring *b)
{
	struct io_uring_buf_reg reg = { .bgid = b->group };

	if (!b->br)
		return;
	uring_register(b->ring->fd, IORING_UNREGISTER_PBUF_RING, &reg, 1);
	munmap(b->br, b->map_len);
	b->br = NULL;
}

static void set(struct bufring *b, __u16 at, __u64 addr, __u32 len, __u16 bid)
{
	struct io_uring_buf *buf = &b->br->bufs[at & (b->entries - 1)];

	/* not the field behind bid, where the tail is */
	buf->addr = addr;
	buf->len = len;
	buf->bid = bid;
}

void bufring_add(struct bufring *b, __u64 addr, __u32 len, __u16 bid)
{
	set(b, b->tail, addr, len, bid);
	__atomic_store_n(&b->br->tail, ++b->tail, __ATOMIC_RELEASE);
}

void bufring_change(struct bufring *b, __u64 addr, __u32 len, __u16 bid)
{
	set(b, b->tail - 1, addr, len, bid);
}

int bufring_head(const struct bufring *b)
{
	struct io_uring_buf_status status = { .buf_group = b->group };
	int ret = uring_register(b->ring->fd, IORING_REGISTER_PBUF_STATUS, &status, 1);

	return ret ?: (int)status.head;
}
