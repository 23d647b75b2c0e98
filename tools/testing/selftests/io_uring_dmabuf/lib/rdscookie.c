// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "../../net/netmem/cmsg.h"
#include "lab.h"
#include "netns.h"
#include "rdscookie.h"

ssize_t rds_send_cookie(int sk, const void *buf, size_t len, __u32 cookie)
{
	char control[CMSG_SPACE(sizeof(cookie))] __attribute__((aligned(8)));
	struct iovec iov = { (void *)buf, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t ret;

	cmsg_put(&msg, control, SOL_RDS, RDS_CMSG_ZCOPY_COOKIE, &cookie, sizeof(cookie));
	ret = sendmsg(sk, &msg, MSG_ZEROCOPY);
	return ret < 0 ? -errno : ret;
}

int rds_recv_cookies(int sk, struct rds_zcopy_cookies *done, int flags)
{
	char control[CMSG_SPACE(sizeof(*done))] __attribute__((aligned(8)));
	struct msghdr msg = {
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg;
	ssize_t len = recvmsg(sk, &msg, flags);

	done->num = 0;
	if (len)
		return len < 0 ? -errno : -EBADMSG;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_level != SOL_RDS ||
	    cmsg->cmsg_type != RDS_CMSG_ZCOPY_COMPLETION)
		return -ENODATA;
	memcpy(done, CMSG_DATA(cmsg), sizeof(*done));
	return 0;
}

int rds_wait_cookies(int sk, struct rds_zcopy_cookies *done)
{
	struct pollfd pfd = { .fd = sk, .events = POLLIN };
	double end = net_deadline();
	int ret;

	do {
		poll(&pfd, 1, 100);
		ret = rds_recv_cookies(sk, done, MSG_DONTWAIT);
	} while (ret == -EAGAIN && lab_now() < end);
	return ret;
}
