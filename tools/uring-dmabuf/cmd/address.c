// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Sockets by name */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "address.h"
#include "cp.h"

#define TICK	200	/* ms, until cp_stop is seen */

static int left(const struct timespec *since, unsigned int timeout)
{
	struct timespec now;
	int64_t ms;

	clock_gettime(CLOCK_MONOTONIC, &now);
	ms = (now.tv_sec - since->tv_sec) * 1000LL + (now.tv_nsec - since->tv_nsec) / 1000000;
	if (!timeout || ms + TICK < timeout * 1000LL)
		return TICK;
	return ms < timeout * 1000LL ? (int)(timeout * 1000LL - ms) : 0;
}

/* What a ring that ends has to do may interrupt it; it goes on all the same */
static int connected(int fd, unsigned int timeout, const struct tcp_wait *wait)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(int);
	struct timespec since;
	int err, n, ms;

	clock_gettime(CLOCK_MONOTONIC, &since);
	do {
		if (cp_stop)
			return -EINTR;
		if (wait)
			wait->tick(wait->arg);
		ms = left(&since, timeout);
		n = poll(&p, 1, ms);
	} while ((!n && ms) || (n < 0 && errno == EINTR));
	if (n <= 0)
		return n ? -errno : -ETIMEDOUT;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) ? -errno : -err;
}

/* A port of this machine that nobody listens at may be given to who connects to it */
static bool is_itself(int fd)
{
	struct sockaddr_storage me = { 0 }, peer = { 0 };
	socklen_t len = sizeof(me), peer_len = sizeof(peer);

	return !getsockname(fd, (struct sockaddr *)&me, &len) &&
	       !getpeername(fd, (struct sockaddr *)&peer, &peer_len) &&
	       len == peer_len && !memcmp(&me, &peer, len);
}

static int connect_one(int fd, const struct addrinfo *a, unsigned int timeout,
		       const struct tcp_wait *wait)
{
	const int flags = fcntl(fd, F_GETFL);
	struct timeval limit = { .tv_sec = timeout };
	int ret;

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	ret = connect(fd, a->ai_addr, a->ai_addrlen) ? -errno : 0;
	if (ret == -EINPROGRESS || ret == -EINTR)
		ret = connected(fd, timeout, wait);
	fcntl(fd, F_SETFL, flags);
	return !ret && is_itself(fd) ? -ECONNREFUSED : ret;
}

static int listen_one(int fd, const struct addrinfo *a)
{
	const int on = 1, off = 0;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* all addresses are IPv4's, too, whatever the sysctl bindv6only says */
	if (a->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	return bind(fd, a->ai_addr, a->ai_addrlen) || listen(fd, 64) ? -errno : 0;
}

static bool is_port(const char *text)
{
	size_t digits = strspn(text, "0123456789");
	long port = strtol(text, NULL, 10);

	return digits && digits <= 5 && !text[digits] && port > 0 && port <= UINT16_MAX;
}

static int parse(const char *name, char *host, size_t size, const char **port)
{
	const char *colon;
	size_t len;

	if (strncmp(name, "tcp:", 4))
		return -EINVAL;
	name += 4;
	colon = strrchr(name, ':');
	if (!colon || !is_port(colon + 1))
		return -EINVAL;
	len = (size_t)(colon - name);
	if (len && *name == '[' && name[len - 1] == ']') {
		name++;
		len -= 2;
	}
	if (len >= size)
		return -EINVAL;
	memcpy(host, name, len);
	host[len] = '\0';
	*port = colon + 1;
	return 0;
}

static int lookup(const char *name, bool listens, int family, struct addrinfo **list,
		  const char **text)
{
	const struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM, .ai_flags = listens ? AI_PASSIVE : 0,
		.ai_family = family,
	};
	const char *port;
	char host[256];
	int ret;

	*text = NULL;
	if (parse(name, host, sizeof(host), &port) || (!listens && !*host)) {
		*text = listens ? "not tcp:[ADDRESS]:PORT, with a PORT of 1 to 65535" :
				  "not tcp:HOST:PORT, with a PORT of 1 to 65535";
		return -EINVAL;
	}
	ret = getaddrinfo(*host ? host : NULL, port, &hints, list);
	if (!ret)
		return 0;
	*text = gai_strerror(ret);
	return -ENOENT;
}

/* A host has several addresses, and a server may listen at one of them only */
static int first_that_works(const struct addrinfo *list, bool listens, unsigned int timeout,
			    const struct tcp_wait *wait)
{
	int ret = -ENOENT;

	for (const struct addrinfo *a = list; a; a = a->ai_next) {
		int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);

		if (fd < 0) {
			ret = -errno;
			continue;
		}
		ret = listens ? listen_one(fd, a) : connect_one(fd, a, timeout, wait);
		if (!ret)
			return fd;
		close(fd);
	}
	return ret;
}

static int open_tcp(const char *name, bool listens, int family, unsigned int timeout,
		    const struct tcp_wait *wait, const char **text)
{
	struct addrinfo *list;
	int ret = lookup(name, listens, family, &list, text);

	if (ret)
		return ret;
	ret = first_that_works(list, listens, timeout, wait);
	freeaddrinfo(list);
	return ret;
}

int tcp_connect(const char *name, unsigned int timeout, const struct tcp_wait *wait,
		const char **text)
{
	return open_tcp(name, false, AF_UNSPEC, timeout, wait, text);
}

int tcp_listen(const char *name, const char **text)
{
	/* all addresses are those of IPv6, to which IPv4's belong, where there is IPv6 */
	bool all = !strncmp(name, "tcp::", 5) && !strchr(name + 5, ':');
	int fd = open_tcp(name, true, all ? AF_INET6 : AF_UNSPEC, 0, NULL, text);

	/* of another reason it would be said that all are listened at, and half of them not be */
	return all && (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL || fd == -ENOENT) ?
	       open_tcp(name, true, AF_INET, 0, NULL, text) : fd;
}

void tcp_keep_alive(int fd)
{
	static const struct { int level, name, value; } set[] = {
		{ IPPROTO_TCP, TCP_KEEPIDLE, 10 },
		{ IPPROTO_TCP, TCP_KEEPINTVL, 5 },
		{ IPPROTO_TCP, TCP_KEEPCNT, 4 },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
	};

	for (unsigned int i = 0; i < sizeof(set) / sizeof(set[0]); i++)
		setsockopt(fd, set[i].level, set[i].name, &set[i].value, sizeof(set[i].value));
}
