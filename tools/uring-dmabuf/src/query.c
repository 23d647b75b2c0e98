// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What the kernel can, and what it has made of a buffer */
#include <string.h>

#include "kernel.h"

/* 0, or what the kernel says of the query itself */
static int query(int fd, uint32_t op, void *data, uint32_t size)
{
	struct query_hdr hdr = {
		.query_data = to_u64(data), .query_op = op, .size = size,
	};
	int ret = register_call(fd, REGISTER_QUERY, &hdr, 0);

	return ret < 0 ? ret : hdr.result;
}

int io_uring_dmabuf_query(struct io_uring_dmabuf_caps *caps)
{
	int ret;

	memset(caps, 0, sizeof(*caps));
	ret = query(-1, QUERY_REGBUF, caps, sizeof(*caps));
	if (ret == -EPERM || ret == -ENOSYS)
		return ret;
	/* an older kernel; or another one, where the number means something else */
	if (ret < 0 || !caps->version || caps->desc_size != sizeof(struct io_uring_dmabuf_desc) ||
	    !(caps->type_mask & 1U << IO_URING_DMABUF_TYPE_DMABUF)) {
		memset(caps, 0, sizeof(*caps));
		return -EOPNOTSUPP;
	}
	return 0;
}

int io_uring_dmabuf_map_info(struct io_uring *ring, unsigned int slot,
			     unsigned int target, struct io_uring_dmabuf_map *map)
{
	int ret;

	memset(map, 0, sizeof(*map));
	map->slot = slot;
	map->target = target;
	ret = query(ring->ring_fd, QUERY_REGBUF_MAP, map, sizeof(*map));
	return ret < 0 ? ret : (int)map->nr_targets;
}

static const char *name(const char *const *names, unsigned int nr, unsigned int i)
{
	return i < nr && names[i] ? names[i] : "unknown";
}

#define NAME(names, i) name(names, sizeof(names) / sizeof(names[0]), i)

const char *io_uring_dmabuf_state_name(unsigned int state)
{
	static const char *const names[] = {
		[IO_URING_DMABUF_STATE_NONE]		= "none",
		[IO_URING_DMABUF_STATE_SYSTEM]		= "system",
		[IO_URING_DMABUF_STATE_P2P_BUS]		= "p2p-bus",
		[IO_URING_DMABUF_STATE_P2P_HOST]	= "p2p-host",
		[IO_URING_DMABUF_STATE_MIXED]		= "mixed",
		[IO_URING_DMABUF_STATE_DEAD]		= "dead",
	};

	return NAME(names, state);
}

const char *io_uring_dmabuf_stage_name(unsigned int stage)
{
	static const char *const names[] = {
		[IO_URING_DMABUF_STAGE_NONE]		= "none",
		[IO_URING_DMABUF_STAGE_DESCRIPTOR]	= "descriptor",
		[IO_URING_DMABUF_STAGE_FD]		= "fd",
		[IO_URING_DMABUF_STAGE_TARGET]		= "target",
		[IO_URING_DMABUF_STAGE_DEVICE]		= "device",
		[IO_URING_DMABUF_STAGE_ATTACH]		= "attach",
		[IO_URING_DMABUF_STAGE_PIN]		= "pin",
		[IO_URING_DMABUF_STAGE_MAP]		= "map",
		[IO_URING_DMABUF_STAGE_FENCE]		= "fence",
		[IO_URING_DMABUF_STAGE_ADDRESS]		= "address",
		[IO_URING_DMABUF_STAGE_TABLE]		= "table",
		[IO_URING_DMABUF_STAGE_MEMLOCK]		= "memlock",
	};

	return NAME(names, stage);
}
