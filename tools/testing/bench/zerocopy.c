// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <linux/errqueue.h>

#include "fail.h"
#include "rdscookie.h"
#include "zerocopy.h"

int zerocopy_enable(int fd)
{
	int one = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)))
		return fail("SO_ZEROCOPY", errno, "a protocol without it?");
	return 0;
}

long zerocopy_send(int fd, const void *buf, size_t len, int flags)
{
	return send(fd, buf, len, flags | MSG_ZEROCOPY);
}

/* One notification: of as many sends as it names, if they have neighbouring numbers */
static int ended(struct msghdr *msg)
{
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg);
	struct sock_extended_err err;

	if (!cmsg || cmsg->cmsg_level != SOL_IP || cmsg->cmsg_type != IP_RECVERR)
		return fail("error queue", EPROTO, "something else is there");
	memcpy(&err, CMSG_DATA(cmsg), sizeof(err));
	if (err.ee_errno || err.ee_origin != SO_EE_ORIGIN_ZEROCOPY)
		return fail("error queue", (int)err.ee_errno, "no notification");
	if (err.ee_code & SO_EE_CODE_ZEROCOPY_COPIED)
		return fail("MSG_ZEROCOPY", EOPNOTSUPP, "the data was copied");
	return (int)(err.ee_data - err.ee_info + 1);
}

int zerocopy_done(int fd, unsigned int *calls)
{
	char control[128] __attribute__((aligned(8)));
	struct msghdr msg = { .msg_control = control, .msg_controllen = sizeof(control) };
	struct pollfd pfd = { .fd = fd };

	for (;;) {
		++*calls;
		if (!recvmsg(fd, &msg, MSG_ERRQUEUE))
			return ended(&msg);
		if (errno != EAGAIN)
			return fail("recvmsg", errno, "the error queue");
		/* errors only */
		++*calls;
		if (poll(&pfd, 1, -1) < 0)
			return fail("poll", errno, "the error queue");
	}
}

int zerocopy_cookies(int fd, unsigned int *calls)
{
	struct rds_zcopy_cookies done;
	int ret = rds_recv_cookies(fd, &done, 0);

	++*calls;
	return ret ? fail("recvmsg", -ret, "cookies") : (int)done.num;
}
