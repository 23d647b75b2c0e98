/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NETMEM_CMSG_H
#define NETMEM_CMSG_H

#include <string.h>
#include <sys/socket.h>

/*
 * One control message for @msg, of the @len bytes at @value. @control has
 * CMSG_SPACE(@len) bytes, aligned as a struct cmsghdr
 */
static inline void cmsg_put(struct msghdr *msg, void *control, int level, int type,
			    const void *value, size_t len)
{
	struct cmsghdr *cmsg;

	memset(control, 0, CMSG_SPACE(len));
	msg->msg_control = control;
	msg->msg_controllen = CMSG_SPACE(len);
	cmsg = CMSG_FIRSTHDR(msg);
	cmsg->cmsg_level = level;
	cmsg->cmsg_type = type;
	cmsg->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(cmsg), value, len);
}

#endif
