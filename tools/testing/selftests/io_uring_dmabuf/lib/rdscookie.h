/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Zerocopy as RDS has it by itself: cookies, which come back when the memory of their
 * messages may change.
 */
#ifndef IOU_DMABUF_RDSCOOKIE_H
#define IOU_DMABUF_RDSCOOKIE_H

#include <stddef.h>
#include <sys/types.h>
#include <linux/rds.h>
#include <linux/types.h>

/* A message to whom the socket is connected: what was sent, or -errno */
ssize_t rds_send_cookie(int sk, const void *buf, size_t len, __u32 cookie);
/* One recvmsg(): 0 and some cookies, or -errno and none */
int rds_recv_cookies(int sk, struct rds_zcopy_cookies *done, int flags);
/* The same when there are some, without blocking in it: poll() is true for other reasons, too */
int rds_wait_cookies(int sk, struct rds_zcopy_cookies *done);

#endif
