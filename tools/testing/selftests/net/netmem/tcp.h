/* SPDX-License-Identifier: GPL-2.0 */
/*
 * TCP connections from the sending to the receiving side. What returns an int
 * returns a descriptor or 0, or -errno.
 */
#ifndef NETMEM_TCP_H
#define NETMEM_TCP_H

#include <stddef.h>
#include <sys/uio.h>
#include <linux/types.h>

#include "nsim.h"

#define PORT	4433

struct tcp_pair {
	int listener;
	int client;		/* in the netns of TX, with SO_ZEROCOPY */
	int server;		/* in that of RX, receives with a time limit */
};

/* Both sockets, not connected yet: for options that have to be set before */
int tcp_open(struct tcp_pair *p, const struct nsim *n, int family);
int tcp_connect(struct tcp_pair *p, int family);
void tcp_close(struct tcp_pair *p);

/* From the dma-buf bound as @id; iov_base is an offset. Bytes or -errno */
ssize_t tcp_send_devmem(int sk, __u32 id, const struct iovec *iov, size_t nr,
			int flags);
ssize_t tcp_send(int sk, const void *buf, size_t len, int flags);
/* All of @len, or what came until the time was up, or -errno */
ssize_t tcp_recv(int sk, void *buf, size_t len);

int tcp_cork(int sk, int on);
/* Wait until the peer has acknowledged everything */
int tcp_wait_acked(int sk);
/* Ordinary data until the congestion window allows for an MTU probe */
int tcp_warm_up(const struct tcp_pair *p);

/* 1 when a zerocopy notification was read, 0 when there is none */
int tcp_notification(int sk);
/*
 * The same, but waits up to ten seconds for it: what is acknowledged may still be
 * in the hands of a device, or of who looks at packets
 */
int tcp_wait_notification(int sk);

/* Segments for this socket are lost from now on, or no more */
int tcp_deaf(int sk, int on);

int tcp_set_md5(int sk, enum side peer, int family);
int tcp_set_ao(int sk, enum side peer, int family);

#endif
