/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* tcp:HOST:PORT; a host with colons may be in brackets */
#ifndef URING_DMABUF_ADDRESS_H
#define URING_DMABUF_ADDRESS_H

#include <stddef.h>

/* Called several times a second by what waits */
struct tcp_wait {
	void (*tick)(void *arg);
	void *arg;
};

/*
 * Connects to @name, to the first address of the host that answers. @timeout: seconds, also
 * of what is sent and received later; 0: none. The socket, or -errno; *text says more of a
 * name that is not one. -EINTR: cp_stop. @wait: or NULL
 */
int tcp_connect(const char *name, unsigned int timeout, const struct tcp_wait *wait,
		const char **text);
/* Listens there; an empty host is all of this machine's addresses. As above */
int tcp_listen(const char *name, const char **text);
/* A peer that is no more there is noticed after 30 s, also by who only waits for it */
void tcp_keep_alive(int fd);

#endif
