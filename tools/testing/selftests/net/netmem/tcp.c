// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <linux/errqueue.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <linux/tcp.h>

#include "cmsg.h"
#include "tcp.h"

#define KEY		"a secret"
#define PROBE_CWND	11	/* tcp_mtu_probe() wants that many */

static int set_int(int sk, int level, int name, int value)
{
	return setsockopt(sk, level, name, &value, sizeof(value)) ? -errno : 0;
}

static int tcp_socket(const struct nsim *n, enum side side, int family)
{
	int ret = ns_enter(n->ns[side]);
	int sk;

	if (ret)
		return ret;
	sk = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sk < 0)
		sk = -errno;
	ns_enter(n->home);
	return sk;
}

static int tcp_listen(int sk, int family)
{
	struct sockaddr_storage ss;
	socklen_t len = nsim_addr(RX, family, PORT, &ss);
	int ret = set_int(sk, SOL_SOCKET, SO_REUSEADDR, 1);

	if (ret)
		return ret;
	return bind(sk, (void *)&ss, len) || listen(sk, 1) ? -errno : 0;
}

int tcp_open(struct tcp_pair *p, const struct nsim *n, int family)
{
	int ret;

	*p = (struct tcp_pair) { .client = -1, .server = -1 };
	p->listener = tcp_socket(n, RX, family);
	if (p->listener < 0)
		return p->listener;
	ret = tcp_listen(p->listener, family);
	if (ret)
		return ret;
	p->client = tcp_socket(n, TX, family);
	if (p->client < 0)
		return p->client;
	ret = set_int(p->client, SOL_SOCKET, SO_ZEROCOPY, 1);
	return ret ?: set_int(p->client, IPPROTO_TCP, TCP_NODELAY, 1);
}

int tcp_connect(struct tcp_pair *p, int family)
{
	struct timeval limit = { .tv_sec = 20 };
	struct sockaddr_storage ss;
	socklen_t len = nsim_addr(RX, family, PORT, &ss);

	if (setsockopt(p->client, SOL_SOCKET, SO_SNDTIMEO, &limit,
		       sizeof(limit)) ||
	    connect(p->client, (void *)&ss, len))
		return -errno;
	p->server = accept(p->listener, NULL, NULL);
	if (p->server < 0)
		return -errno;
	limit.tv_sec = 10;
	return setsockopt(p->server, SOL_SOCKET, SO_RCVTIMEO, &limit,
			  sizeof(limit)) ? -errno : 0;
}

/* With a reset: nothing of the connection is left */
void tcp_close(struct tcp_pair *p)
{
	struct linger now = { .l_onoff = 1 };

	if (p->client >= 0) {
		setsockopt(p->client, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(p->client);
	}
	if (p->server >= 0)
		close(p->server);
	if (p->listener >= 0)
		close(p->listener);
	*p = (struct tcp_pair) { .listener = -1, .client = -1, .server = -1 };
}

ssize_t tcp_send_devmem(int sk, __u32 id, const struct iovec *iov, size_t nr,
			int flags)
{
	char control[CMSG_SPACE(sizeof(id))] __attribute__((aligned(8)));
	struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = nr };
	ssize_t ret;

	cmsg_put(&msg, control, SOL_SOCKET, SCM_DEVMEM_DMABUF, &id, sizeof(id));
	ret = sendmsg(sk, &msg, flags | MSG_ZEROCOPY | MSG_NOSIGNAL);
	return ret < 0 ? -errno : ret;
}

ssize_t tcp_send(int sk, const void *buf, size_t len, int flags)
{
	ssize_t ret = send(sk, buf, len, flags | MSG_NOSIGNAL);

	return ret < 0 ? -errno : ret;
}

ssize_t tcp_recv(int sk, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t ret = recv(sk, (char *)buf + done, len - done, 0);

		if (ret < 0 && !done)
			return -errno;
		if (ret <= 0)
			break;
		done += ret;
	}
	return done;
}

int tcp_cork(int sk, int on)
{
	return set_int(sk, IPPROTO_TCP, TCP_CORK, on);
}

int tcp_wait_acked(int sk)
{
	int i, left;

	for (i = 0; i < 1000; i++) {
		if (ioctl(sk, SIOCOUTQ, &left))
			return -errno;
		if (!left)
			return 0;
		usleep(10000);
	}
	return -ETIMEDOUT;
}

static int tcp_cwnd(int sk)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	if (getsockopt(sk, IPPROTO_TCP, TCP_INFO, &info, &len))
		return -errno;
	return info.tcpi_snd_cwnd;
}

/* The window grows when it was filled, by what is acknowledged */
int tcp_warm_up(const struct tcp_pair *p)
{
	int i, mss, cwnd, ret;
	socklen_t len = sizeof(mss);
	char *buf;

	if (getsockopt(p->client, IPPROTO_TCP, TCP_MAXSEG, &mss, &len))
		return -errno;
	for (i = 0; i < 10; i++) {
		size_t size;

		cwnd = tcp_cwnd(p->client);
		if (cwnd < 0)
			return cwnd;
		if (cwnd >= PROBE_CWND)
			return 0;
		size = (size_t)cwnd * mss;
		buf = calloc(1, size);
		ret = tcp_send(p->client, buf, size, 0);
		if (ret >= 0)
			ret = tcp_recv(p->server, buf, size);
		free(buf);
		if (ret >= 0)
			ret = tcp_wait_acked(p->client);
		if (ret < 0)
			return ret;
	}
	return -EAGAIN;
}

int tcp_notification(int sk)
{
	char control[128];
	struct msghdr msg = {
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct sock_extended_err *err;
	struct cmsghdr *cmsg;

	if (recvmsg(sk, &msg, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
		return errno == EAGAIN ? 0 : -errno;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg)
		return -EPROTO;
	err = (void *)CMSG_DATA(cmsg);
	return err->ee_origin == SO_EE_ORIGIN_ZEROCOPY ? 1 : -EPROTO;
}

int tcp_deaf(int sk, int on)
{
	struct sock_filter none = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog prog = { .len = 1, .filter = &none };

	if (!on)
		return set_int(sk, SOL_SOCKET, SO_DETACH_FILTER, 0);
	return setsockopt(sk, SOL_SOCKET, SO_ATTACH_FILTER, &prog,
			  sizeof(prog)) ? -errno : 0;
}

int tcp_set_md5(int sk, enum side peer, int family)
{
	struct tcp_md5sig md5 = { .tcpm_keylen = strlen(KEY) };
	struct sockaddr_storage ss;

	nsim_addr(peer, family, 0, &ss);
	memcpy(&md5.tcpm_addr, &ss, sizeof(ss));
	memcpy(md5.tcpm_key, KEY, strlen(KEY));
	return setsockopt(sk, IPPROTO_TCP, TCP_MD5SIG, &md5, sizeof(md5)) ?
	       -errno : 0;
}

int tcp_set_ao(int sk, enum side peer, int family)
{
	struct tcp_ao_add ao = {
		.alg_name = "hmac(sha1)",
		.prefix = family == AF_INET ? 32 : 128,
		.sndid = 100,
		.rcvid = 100,
		.keylen = strlen(KEY),
	};
	struct sockaddr_storage ss;

	nsim_addr(peer, family, 0, &ss);
	memcpy(&ao.addr, &ss, sizeof(ss));
	memcpy(ao.key, KEY, strlen(KEY));
	return setsockopt(sk, IPPROTO_TCP, TCP_AO_ADD_KEY, &ao, sizeof(ao)) ?
	       -errno : 0;
}

int tcp_wait_notification(int sk)
{
	struct pollfd pf = { .fd = sk };
	int ret = poll(&pf, 1, 10000);

	if (ret < 0)
		return -errno;
	return ret ? tcp_notification(sk) : 0;
}
