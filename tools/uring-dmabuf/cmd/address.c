// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Sockets by name */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "address.h"

/* What a ring that ends has to do may interrupt it; it goes on all the same */
static int connected(int fd, unsigned int timeout)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(int);
	int err, n;

	do {
		n = poll(&p, 1, timeout ? (int)timeout * 1000 : -1);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n ? -errno : -ETIMEDOUT;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) ? -errno : -err;
}

static int connect_one(int fd, const struct addrinfo *a, unsigned int timeout)
{
	struct timeval limit = { .tv_sec = timeout };

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (!connect(fd, a->ai_addr, a->ai_addrlen))
		return 0;
	return errno == EINTR ? connected(fd, timeout) :
	       errno == EINPROGRESS ? -ETIMEDOUT : -errno;
}

static int listen_one(int fd, const struct addrinfo *a)
{
	const int on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	return bind(fd, a->ai_addr, a->ai_addrlen) || listen(fd, 64) ? -errno : 0;
}

static int parse(const char *name, char *host, size_t size, const char **port)
{
	const char *colon;
	size_t len;

	if (strncmp(name, "tcp:", 4))
		return -EINVAL;
	name += 4;
	colon = strrchr(name, ':');
	if (!colon || !colon[1])
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
		*text = listens ? "not tcp:[ADDRESS]:PORT" : "not tcp:HOST:PORT";
		return -EINVAL;
	}
	ret = getaddrinfo(*host ? host : NULL, port, &hints, list);
	if (!ret)
		return 0;
	*text = gai_strerror(ret);
	return -ENOENT;
}

/* A host has several addresses, and a server may listen at one of them only */
static int first_that_works(const struct addrinfo *list, bool listens, unsigned int timeout)
{
	int ret = -ENOENT;

	for (const struct addrinfo *a = list; a; a = a->ai_next) {
		int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);

		if (fd < 0) {
			ret = -errno;
			continue;
		}
		ret = listens ? listen_one(fd, a) : connect_one(fd, a, timeout);
		if (!ret)
			return fd;
		close(fd);
	}
	return ret;
}

static int open_tcp(const char *name, bool listens, int family, unsigned int timeout,
		    const char **text)
{
	struct addrinfo *list;
	int ret = lookup(name, listens, family, &list, text);

	if (ret)
		return ret;
	ret = first_that_works(list, listens, timeout);
	freeaddrinfo(list);
	return ret;
}

int tcp_connect(const char *name, unsigned int timeout, const char **text)
{
	return open_tcp(name, false, AF_UNSPEC, timeout, text);
}

int tcp_listen(const char *name, const char **text)
{
	/* all addresses are those of IPv6, to which IPv4's belong, where there is IPv6 */
	bool all = !strncmp(name, "tcp::", 5);
	int fd = open_tcp(name, true, all ? AF_INET6 : AF_UNSPEC, 0, text);

	return fd < 0 && all ? open_tcp(name, true, AF_INET, 0, text) : fd;
}
