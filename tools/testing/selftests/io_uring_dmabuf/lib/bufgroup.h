/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Zerocopy sends of what a group of provided buffers names. Functions return 0 or -errno.
 */
#ifndef IOU_DMABUF_BUFGROUP_H
#define IOU_DMABUF_BUFGROUP_H

#include "netrig.h"

#define NET_GROUP	11

/* What a notification is to say of its data */
enum copied { NOT_COPIED, COPIED, ANY_COPIED };

/* A send of registered memory that NET_GROUP provides; @single: IORING_SEND_ZC_SINGLE_CQE */
struct io_uring_sqe *group_prep(struct netrig *n, int fd, __u32 len, unsigned int ioprio,
				unsigned int sqe_flags, bool single);
/*
 * The CQE, or both, of a send: @want bytes, from buffer @bid on; @more: some of that is left.
 * The notification names it, too, and says whether it was copied.
 */
int group_sent_by(struct netrig *n, int want, __u16 bid, bool more, bool single,
		  enum copied copied);
/*
 * What became of data that @card, NULL for loopback, has sent: of all that loopback delivers
 * its receiver has a copy. vmxnet3 copies packets of at most 128 bytes, if it may read them,
 * and how small the last one of a send is depends on TCP.
 */
enum copied net_copies(const char *card, bool user);
/* group_sent_by(), of a dma-buf, or by loopback */
int group_sent(struct netrig *n, int want, __u16 bid, bool more, bool single);

#endif
