// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bufgroup.h"
#include "netio.h"

struct io_uring_sqe *group_prep(struct netrig *n, int fd, __u32 len, unsigned int ioprio,
				unsigned int sqe_flags, bool single)
{
	struct io_uring_sqe *sqe = net_prep(n, fd, NET_GROUP, 0, len, MSG_WAITALL);

	sqe->ioprio |= ioprio | (single ? IORING_SEND_ZC_SINGLE_CQE : 0);
	sqe->flags |= IOSQE_BUFFER_SELECT | sqe_flags;
	return sqe;
}

int group_sent_by(struct netrig *n, int want, __u16 bid, bool more, bool single,
		  enum copied copied)
{
	__u32 name = IORING_CQE_F_BUFFER | (__u32)bid << IORING_CQE_BUFFER_SHIFT;
	__u32 flags = name | (more ? IORING_CQE_F_BUF_MORE : 0) |
		      (single ? 0 : IORING_CQE_F_MORE);
	struct uring_res res;
	int ret = uring_wait(&n->ring, &res, net_patience());

	if (ret)
		return ret;
	if (single && (copied == COPIED ||
		       (copied == ANY_COPIED && (res.flags & IORING_CQE_F_ZC_COPIED))))
		flags |= IORING_CQE_F_ZC_COPIED;
	if (res.res != want || res.flags != flags) {
		fprintf(stderr, "# res %d, flags 0x%x; not %d, 0x%x\n", res.res, res.flags,
			want, flags);
		return -EPROTO;
	}
	if (single)
		return 0;
	ret = uring_wait(&n->ring, &res, net_patience());
	if (copied == ANY_COPIED && !ret)
		copied = (unsigned int)res.res == IORING_NOTIF_USAGE_ZC_COPIED;
	want = copied ? IORING_NOTIF_USAGE_ZC_COPIED : 0;
	if (!ret && (res.res != want || res.flags != (name | IORING_CQE_F_NOTIF))) {
		fprintf(stderr, "# notification: 0x%x, flags 0x%x\n", res.res, res.flags);
		ret = -EPROTO;
	}
	return ret;
}

enum copied net_copies(const char *card, bool user)
{
	if (!card)
		return COPIED;
	return user && !strcmp(card, "vmxnet3") ? ANY_COPIED : NOT_COPIED;
}

int group_sent(struct netrig *n, int want, __u16 bid, bool more, bool single)
{
	return group_sent_by(n, want, bid, more, single, n->home < 0 ? COPIED : NOT_COPIED);
}
