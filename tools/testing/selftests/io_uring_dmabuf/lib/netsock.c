// SPDX-License-Identifier: GPL-2.0
/* Sockets at both ends of a rig's cable */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <linux/sockios.h>
#include <linux/tcp.h>

#include "netsock.h"

socklen_t net_addr(const struct netrig *n, enum net_side side, int family,
		   int port, struct sockaddr_storage *ss)
{
	struct sockaddr_in6 *sin6 = (void *)ss;
	struct sockaddr_in *sin = (void *)ss;
	char text[INET6_ADDRSTRLEN];

	memset(ss, 0, sizeof(*ss));
	ss->ss_family = family;
	if (family == AF_INET) {
		snprintf(text, sizeof(text), "10.73.%u.%u", n->net, side + 1);
		inet_pton(AF_INET, text, &sin->sin_addr);
		sin->sin_port = htons(port);
		return sizeof(*sin);
	}
	snprintf(text, sizeof(text), "fd73:%u::%u", n->net, side + 1);
	inet_pton(AF_INET6, text, &sin6->sin6_addr);
	sin6->sin6_port = htons(port);
	return sizeof(*sin6);
}

int net_set(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) ? -errno : 0;
}

int net_bind_card(const struct netrig *n, int fd)
{
	const char *dev = n->dev[NET_CARD];

	return setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, dev,
			  strlen(dev) + 1) ? -errno : 0;
}

int net_timeouts(int fd)
{
	struct timeval tv = { .tv_sec = net_patience() / 1000 };

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)))
		return -errno;
	return 0;
}

int net_socket(const struct netrig *n, enum net_side side, int family, int type,
	       int protocol)
{
	int sk, ret = net_ns_enter(n->ns[side]);

	if (ret)
		return ret;
	sk = socket(family, type | SOCK_CLOEXEC, protocol);
	sk = sk < 0 ? -errno : sk;
	net_ns_enter(n->home);
	if (sk < 0)
		return sk;
	net_timeouts(sk);
	/*
	 * TCP tries again within a second of what a test waits for, so that there is
	 * no backoff to be patient with; it does not give up any earlier for that.
	 * Other protocols do not know the options.
	 */
	net_set(sk, IPPROTO_TCP, TCP_RTO_MAX_MS, 1000);
	net_set(sk, IPPROTO_TCP, TCP_USER_TIMEOUT, 600 * 1000);
	return sk;
}

/* A socket of the peer, bound to its address and some port */
static int peer_socket(const struct netrig *n, int family, int type)
{
	int sk = net_socket(n, NET_PEER, family, type, 0);
	struct sockaddr_storage ss;
	socklen_t len = net_addr(n, NET_PEER, family, 0, &ss);
	int ret;

	if (sk < 0 || !bind(sk, (void *)&ss, len))
		return sk;
	ret = -errno;
	close(sk);
	return ret;
}

int net_listen(const struct netrig *n, int family)
{
	int sk = peer_socket(n, family, SOCK_STREAM), ret;

	if (sk < 0 || !listen(sk, 8))
		return sk;
	ret = -errno;
	close(sk);
	return ret;
}

static int connect_to(int fd, int other)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int ret = getsockname(other, (void *)&ss, &len);

	/* the work of a ring interrupts it; the next call goes on */
	if (!ret) {
		do {
			ret = connect(fd, (void *)&ss, len);
		} while (ret && errno == EINTR);
	}
	return ret ? -errno : 0;
}

int net_connect(int fd, int lsk)
{
	int ret = connect_to(fd, lsk), sk;

	if (ret)
		return ret;
	do {
		sk = accept4(lsk, NULL, NULL, SOCK_CLOEXEC);
	} while (sk < 0 && errno == EINTR);
	if (sk < 0)
		return -errno;
	net_timeouts(sk);
	return sk;
}

int net_tcp(const struct netrig *n, int family, struct net_pair *p)
{
	int lsk = net_listen(n, family);

	*p = NET_PAIR_NONE;
	if (lsk < 0)
		return lsk;
	p->tx = net_socket(n, NET_CARD, family, SOCK_STREAM, 0);
	if (p->tx >= 0) {
		net_set(p->tx, IPPROTO_TCP, TCP_NODELAY, 1);
		p->rx = net_connect(p->tx, lsk);
	}
	close(lsk);
	if (p->tx < 0)
		return p->tx;
	return p->rx < 0 ? p->rx : 0;
}

int net_udp(const struct netrig *n, int family, struct net_pair *p)
{
	*p = NET_PAIR_NONE;
	p->rx = peer_socket(n, family, SOCK_DGRAM);
	if (p->rx < 0)
		return p->rx;
	/* bursts wait there until the test looks at them */
	net_set(p->rx, SOL_SOCKET, SO_RCVBUFFORCE, 8 * MiB);
	p->tx = net_socket(n, NET_CARD, family, SOCK_DGRAM, 0);
	if (p->tx < 0)
		return p->tx;
	return connect_to(p->tx, p->rx);
}

int net_local(const char *addr, struct net_pair *p)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6 };
	bool v6 = strchr(addr, ':');
	int family = v6 ? AF_INET6 : AF_INET;
	int lsk = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int ret;

	*p = NET_PAIR_NONE;
	inet_pton(family, addr, v6 ? (void *)&sin6.sin6_addr : (void *)&sin.sin_addr);
	ret = v6 ? bind(lsk, (void *)&sin6, sizeof(sin6)) :
		   bind(lsk, (void *)&sin, sizeof(sin));
	if (ret || listen(lsk, 1)) {
		close(lsk);
		return -EADDRNOTAVAIL;
	}
	p->tx = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	net_timeouts(lsk);
	net_timeouts(p->tx);
	p->rx = net_connect(p->tx, lsk);
	close(lsk);
	return p->rx < 0 ? p->rx : 0;
}

int net_tcp_any(const struct netrig *n, int family, struct net_pair *p)
{
	return n->home < 0 ? net_local("127.0.0.1", p) : net_tcp(n, family, p);
}

void net_close(struct net_pair *p)
{
	struct linger now = { .l_onoff = 1 };

	if (p->tx >= 0) {
		setsockopt(p->tx, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(p->tx);
	}
	if (p->rx >= 0)
		close(p->rx);
	*p = NET_PAIR_NONE;
}

/*
 * Whether a connection that nobody has any more is alive the kernel tells by its backoff: one
 * that has come to its limit, which is a second by net_socket(), is dead at the next probe
 */
void net_orphan(int *fd)
{
	net_set(*fd, IPPROTO_TCP, TCP_RTO_MAX_MS, 120 * 1000);
	close(*fd);
	*fd = -1;
}

int net_bind(int fd, const void *addr, socklen_t len)
{
	double end = net_deadline();

	while (bind(fd, addr, len)) {
		if (errno != EADDRINUSE || lab_now() > end)
			return -errno;
		lab_sleep_ms(20);
	}
	return 0;
}

int net_unsent(int fd)
{
	int left;

	return ioctl(fd, SIOCOUTQ, &left) ? -errno : left;
}

int net_wait_unsent(int fd)
{
	double end = net_deadline();
	int left;

	while (!(left = net_unsent(fd))) {
		if (lab_now() > end)
			return -ETIME;
		lab_sleep_ms(5);
	}
	return left < 0 ? left : 0;
}

int net_wait_acked(int fd)
{
	double end = net_deadline();
	int left;

	while ((left = net_unsent(fd)) > 0) {
		if (lab_now() > end)
			return -ETIME;
		lab_sleep_ms(5);
	}
	return left;
}
