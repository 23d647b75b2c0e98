// SPDX-License-Identifier: GPL-2.0
/* The library's types and numbers are the kernel's: compiled, not run */
#include <stddef.h>
#include <linux/io_uring.h>	/* of the kernel that was built */
#include <linux/io_uring/query.h>

#include "../src/kernel.h"

#define SAME_SIZE(a, b) \
	_Static_assert(sizeof(struct a) == sizeof(struct b), #b)
#define SAME_FIELD(a, x, b, y) \
	_Static_assert(offsetof(struct a, x) == offsetof(struct b, y) && \
		       sizeof(((struct a *)0)->x) == sizeof(((struct b *)0)->y), #b "." #y)
#define SAME(a, b) _Static_assert((long)(a) == (long)(b), #b)

#define DESC(x) SAME_FIELD(io_uring_dmabuf_desc, x, io_uring_regbuf_desc, x)
SAME_SIZE(io_uring_dmabuf_desc, io_uring_regbuf_desc);
DESC(type); DESC(flags); DESC(size); DESC(uaddr); DESC(dmabuf_fd); DESC(target_fd);
DESC(dmabuf_off); DESC(targets); DESC(nr_targets); DESC(reason);

#define REASON(x) SAME_FIELD(io_uring_dmabuf_reason, x, io_uring_regbuf_reason, x)
SAME_SIZE(io_uring_dmabuf_reason, io_uring_regbuf_reason);
REASON(size); REASON(stage); REASON(target); REASON(exporter_errno); REASON(peer2peer);
REASON(state); REASON(bytes); REASON(limit); REASON(exporter); REASON(device); REASON(text);

#define CAPS(x) SAME_FIELD(io_uring_dmabuf_caps, x, io_uring_query_regbuf, x)
SAME_SIZE(io_uring_dmabuf_caps, io_uring_query_regbuf);
CAPS(type_mask); CAPS(dmabuf_flags); CAPS(update_flags); CAPS(max_size); CAPS(desc_size);
CAPS(max_targets); CAPS(version); CAPS(features);

#define MAP(x) SAME_FIELD(io_uring_dmabuf_map, x, io_uring_query_regbuf_map, x)
SAME_SIZE(io_uring_dmabuf_map, io_uring_query_regbuf_map);
MAP(slot); MAP(target); MAP(nr_targets); MAP(type); MAP(flags); MAP(state); MAP(dmabuf_off);
MAP(size); MAP(granule); MAP(entries); MAP(table_bytes); MAP(hits); MAP(maps);
MAP(invalidations); MAP(copied_bytes); MAP(peer2peer); MAP(drops); MAP(device); MAP(exporter);

SAME_SIZE(query_hdr, io_uring_query_hdr);
SAME_FIELD(query_hdr, result, io_uring_query_hdr, result);
SAME_SIZE(rsrc_register, io_uring_rsrc_register);
SAME_FIELD(rsrc_register, tags, io_uring_rsrc_register, tags);
SAME_SIZE(rsrc_update2, io_uring_rsrc_update2);
SAME_FIELD(rsrc_update2, flags, io_uring_rsrc_update2, flags);
SAME_FIELD(rsrc_update2, nr, io_uring_rsrc_update2, nr);

SAME(REGISTER_BUFFERS2, IORING_REGISTER_BUFFERS2);
SAME(REGISTER_BUFFERS_UPDATE, IORING_REGISTER_BUFFERS_UPDATE);
SAME(REGISTER_QUERY, IORING_REGISTER_QUERY);
SAME(RSRC_EXTENDED, IORING_RSRC_UPDATE_EXTENDED);
SAME(QUERY_REGBUF, IO_URING_QUERY_REGBUF);
SAME(QUERY_REGBUF_MAP, IO_URING_QUERY_REGBUF_MAP);

SAME(IO_URING_DMABUF_TYPE_EMPTY, IO_REGBUF_TYPE_EMPTY);
SAME(IO_URING_DMABUF_TYPE_UADDR, IO_REGBUF_TYPE_UADDR);
SAME(IO_URING_DMABUF_TYPE_DMABUF, IO_REGBUF_TYPE_DMABUF);
SAME(IO_URING_DMABUF_RDONLY, IO_REGBUF_DMABUF_RDONLY);
SAME(IO_URING_DMABUF_WRONLY, IO_REGBUF_DMABUF_WRONLY);
SAME(IO_URING_DMABUF_REQUIRE_P2P, IO_REGBUF_DMABUF_REQUIRE_P2P);
SAME(IO_URING_DMABUF_PIN, IO_REGBUF_DMABUF_PIN);
SAME(IO_URING_DMABUF_ADD_TARGETS, IO_REGBUF_DMABUF_ADD_TARGETS);
SAME(IO_URING_DMABUF_COPY_OK, IO_REGBUF_DMABUF_COPY_OK);
SAME(IO_URING_DMABUF_ON_DEMAND, IO_REGBUF_DMABUF_ON_DEMAND);
SAME(IO_URING_DMABUF_DROP_IDLE, IO_REGBUF_DMABUF_DROP_IDLE);
SAME(IO_REGBUF_DMABUF_FLAGS, (1U << 8) - 1);	/* no other flag */

SAME(IO_URING_DMABUF_FEATURE_SINGLE_CQE, IO_REGBUF_FEATURE_SINGLE_CQE);
SAME(IO_URING_DMABUF_FEATURE_PROVIDED, IO_REGBUF_FEATURE_PROVIDED);

SAME(IO_URING_DMABUF_STAGE_DESCRIPTOR, IO_REGBUF_STAGE_DESCRIPTOR);
SAME(IO_URING_DMABUF_STAGE_FD, IO_REGBUF_STAGE_FD);
SAME(IO_URING_DMABUF_STAGE_TARGET, IO_REGBUF_STAGE_TARGET);
SAME(IO_URING_DMABUF_STAGE_DEVICE, IO_REGBUF_STAGE_DEVICE);
SAME(IO_URING_DMABUF_STAGE_ATTACH, IO_REGBUF_STAGE_ATTACH);
SAME(IO_URING_DMABUF_STAGE_PIN, IO_REGBUF_STAGE_PIN);
SAME(IO_URING_DMABUF_STAGE_MAP, IO_REGBUF_STAGE_MAP);
SAME(IO_URING_DMABUF_STAGE_FENCE, IO_REGBUF_STAGE_FENCE);
SAME(IO_URING_DMABUF_STAGE_ADDRESS, IO_REGBUF_STAGE_ADDRESS);
SAME(IO_URING_DMABUF_STAGE_TABLE, IO_REGBUF_STAGE_TABLE);
SAME(IO_URING_DMABUF_STAGE_MEMLOCK, IO_REGBUF_STAGE_MEMLOCK);

SAME(IO_URING_DMABUF_STATE_NONE, IO_REGBUF_MAP_NONE);
SAME(IO_URING_DMABUF_STATE_SYSTEM, IO_REGBUF_MAP_SYSTEM);
SAME(IO_URING_DMABUF_STATE_P2P_BUS, IO_REGBUF_MAP_P2P_BUS);
SAME(IO_URING_DMABUF_STATE_P2P_HOST, IO_REGBUF_MAP_P2P_HOST);
SAME(IO_URING_DMABUF_STATE_MIXED, IO_REGBUF_MAP_MIXED);
SAME(IO_URING_DMABUF_STATE_DEAD, IO_REGBUF_MAP_DEAD);

SAME(IO_URING_DMABUF_OP_READV_FIXED, IORING_OP_READV_FIXED);
SAME(IO_URING_DMABUF_OP_WRITEV_FIXED, IORING_OP_WRITEV_FIXED);
SAME(IO_URING_DMABUF_SEND_FIXED_BUF, IORING_RECVSEND_FIXED_BUF);
SAME(IO_URING_DMABUF_SEND_BUNDLE, IORING_RECVSEND_BUNDLE);
SAME(IO_URING_DMABUF_SEND_SINGLE_CQE, IORING_SEND_ZC_SINGLE_CQE);
SAME(IO_URING_DMABUF_CQE_COPIED, IORING_CQE_F_ZC_COPIED);
SAME(IO_URING_DMABUF_BUF_SHIFT, IOU_PBUF_REGBUF_SHIFT);
