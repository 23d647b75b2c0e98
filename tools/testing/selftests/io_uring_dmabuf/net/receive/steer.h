/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What `ethtool -X` does: which receive queue of the card a flow comes to, by the hash
 * of its addresses and ports. 0, a number or -errno.
 */
#ifndef RECEIVE_STEER_H
#define RECEIVE_STEER_H

#include "netrig.h"

/* Receive queues of the card */
int steer_queues(const struct netrig *n);
/* So many, with the indirection table that the driver has for them: `ethtool -L` */
int steer_set_queues(const struct netrig *n, unsigned int queues);
/* All that has a hash comes to that queue; what has none, ARP, to queue 0 */
int steer_all(const struct netrig *n, unsigned int queue);
/* As it is by default: by all queues */
int steer_default(const struct netrig *n);
/*
 * A TCP connection comes to that queue, @fd is the card's end; with it the flows
 * that share its place in the table
 */
int steer_flow(const struct netrig *n, int fd, unsigned int queue);
/*
 * No other shares the place of that: neither what has the same addresses and no ports,
 * ICMP, nor the connection of @other, unless that is -1
 */
bool steer_alone(const struct netrig *n, int fd, int other);
/* Packets that the queue has had */
long long steer_packets(const struct netrig *n, unsigned int queue);

#endif
