// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * bench over TCP: the other side. Of each connection it is told first what it is to do: to
 * take what comes, look at it, and say at the end how much it was; or to send.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <linux/sockios.h>

#include "address.h"
#include "bench.h"
#include "stream.h"

#define TIMEOUT		10	/* seconds */
#define PIECE		(1U << 20)

/* Little-endian */
struct hello {
	char magic[8];
	uint32_t op;		/* of who connects */
	uint32_t resv;
};

struct result {
	char magic[8];
	uint64_t bytes;
	uint32_t wrong;		/* 1: among them others than BENCH_BYTE */
	uint32_t resv;
};

/* ---- the side that serves ---- */

/* One of them is on at a time; a peer that does nothing is given up after a while */
static int wait_for(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	for (int ticks = 0; ticks < TIMEOUT * 5 && !cp_stop; ticks++)
		if (poll(&p, 1, 200) > 0)
			return 0;
	return -ETIMEDOUT;
}

static void take_all(int fd, char *data)
{
	struct result result = { 0 };
	uint64_t bytes = 0;
	bool wrong = false;
	ssize_t n;

	stream_set_magic(result.magic, "udmabufG");
	for (;;) {
		if (wait_for(fd, POLLIN))
			return;
		n = recv(fd, data, PIECE, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0)
			break;
		bytes += (uint64_t)n;
		/* all alike: each byte is the next one */
		wrong |= data[0] != BENCH_BYTE || memcmp(data, data + 1, (size_t)n - 1);
	}
	result.bytes = htole64(bytes);
	result.wrong = htole32(wrong);
	stream_put(fd, &result, sizeof(result), TIMEOUT);
}

static void give_all(int fd, char *data)
{
	ssize_t n;

	memset(data, BENCH_BYTE, PIECE);
	do {
		if (wait_for(fd, POLLOUT))
			return;
		n = send(fd, data, PIECE, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n >= 0 || errno == EAGAIN || errno == EINTR);
}

static void serve_one(int fd, char *data)
{
	struct hello hello;
	size_t got = 0;
	ssize_t n;

	while (got < sizeof(hello)) {
		if (wait_for(fd, POLLIN))
			return;
		n = recv(fd, (char *)&hello + got, sizeof(hello) - got, MSG_DONTWAIT);
		if (n <= 0)
			return;
		got += (size_t)n;
	}
	if (!stream_is_magic(hello.magic, "udmabufB"))
		return;
	if (le32toh(hello.op) == BENCH_SEND)
		take_all(fd, data);
	else if (le32toh(hello.op) == BENCH_RECV)
		give_all(fd, data);
}

int bench_serve(const struct bench_options *o)
{
	const char *text;
	int listener = tcp_listen(o->serve, &text), fd;
	char *data = malloc(PIECE);

	if (!data)
		die("no memory");
	if (listener < 0)
		die("%s: %s", o->serve, text ? text : strerror(-listener));
	fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK);
	catch_signals();
	if (!o->o.quiet)
		fprintf(stderr, "uring-dmabuf: serving at %s; it ends by a signal\n", o->serve);
	while (!cp_stop) {
		struct pollfd p = { .fd = listener, .events = POLLIN };

		if (poll(&p, 1, 200) <= 0)
			continue;
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		tcp_keep_alive(fd);
		serve_one(fd, data);
		close(fd);
	}
	close(listener);
	free(data);
	return EXIT_WORKS;
}

/* ---- the side that measures ---- */

int bench_connect(const struct bench_case *c, struct target *t, struct verdict *v)
{
	const struct timeval none = { 0 };
	struct hello hello = { .op = htole32(c->op) };
	const char *text;
	int ret;

	t->kind = TARGET_TCP;
	t->fd = tcp_connect(t->name, TIMEOUT, NULL, &text);
	if (t->fd < 0)
		return fail(v, "target", t->fd, text ? "cannot-open" : "cannot-connect",
			    "%s: %s%s", t->name, text ? text : strerror(-t->fd), text ? "" :
			    ": start uring-dmabuf bench --serve there");
	setsockopt(t->fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
	setsockopt(t->fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
	tcp_keep_alive(t->fd);
	stream_set_magic(hello.magic, "udmabufB");
	ret = stream_put(t->fd, &hello, sizeof(hello), TIMEOUT);
	return ret ? fail(v, "target", ret, "cannot-connect", "%s: %s", t->name, strerror(-ret)) : 0;
}

/* Whatever is in this side's socket may take its time, as long as it becomes less */
static int wait_for_result(int fd)
{
	int before = INT_MAX, left;

	for (;;) {
		if (!wait_for(fd, POLLIN))
			return 0;
		if (cp_stop)
			return -EINTR;
		if (ioctl(fd, SIOCOUTQ, &left) || left >= before)
			return -ETIMEDOUT;
		before = left;
	}
}

int bench_got(const struct bench_case *c, int fd)
{
	struct result result;
	size_t got = 0;
	ssize_t n;

	if (shutdown(fd, SHUT_WR))
		return -errno;
	while (got < sizeof(result)) {
		int ret = wait_for_result(fd);

		if (ret)
			return ret;
		n = recv(fd, (char *)&result + got, sizeof(result) - got, MSG_DONTWAIT);
		if (n <= 0)
			return n ? -errno : -EPIPE;
		got += (size_t)n;
	}
	if (!stream_is_magic(result.magic, "udmabufG"))
		return -EPROTO;
	return result.wrong || le64toh(result.bytes) != c->bytes ? -EILSEQ : 0;
}
