/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Network namespaces, programs that run in one, and how long to wait for a network.
 * Functions return 0 or a descriptor, or -errno.
 */
#ifndef IOU_DMABUF_NETNS_H
#define IOU_DMABUF_NETNS_H

/* Milliseconds until something that has to happen has not */
unsigned int net_patience(void);
/* When that is, in lab_now() */
double net_deadline(void);

int net_ns_open(void);			/* of the netns of this thread */
int net_ns_enter(int ns);
int net_ns_new(void);			/* of a netns that nobody is in */

/* A program in the netns @ns, with @input on its stdin, which has to fit into a pipe */
int net_run(int ns, const char *input, const char *const argv[]);
/* iproute2's @program does what the lines of @text say, in the netns @ns */
int net_batch(int ns, const char *program, const char *text);
/* Lines for ip -batch, in the netns @ns */
int net_ip(int ns, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
