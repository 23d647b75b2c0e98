/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Two netdevsims with a cable between them, each in a netns of its own.
 * Functions return 0 or -errno unless they say otherwise.
 */
#ifndef NETMEM_NSIM_H
#define NETMEM_NSIM_H

#include <sys/socket.h>

/* The side that sends device memory, and the one that receives it */
enum side { TX, RX, SIDES };

struct nsim {
	int home;			/* the netns of the test */
	int ns[SIDES];
	int left;			/* the netns that one was moved from */
	unsigned int ifindex[SIDES];
};

/* -ENOENT: this kernel has no netdevsim */
int nsim_up(struct nsim *n);
void nsim_down(struct nsim *n);

/* The current netns becomes that of @fd */
int ns_enter(int fd);
int ns_new(const struct nsim *n);	/* fd of one, not entered */

/* Address the netdevsim of @side in its netns, and set it up */
int nsim_configure(struct nsim *n, enum side side);
/* Where it is then. Returns the length. */
socklen_t nsim_addr(enum side side, int family, int port,
		    struct sockaddr_storage *ss);

/* The end of the net_device; its parent, which does the DMA, stays */
int nsim_del_port(enum side side);
/* The end of both */
int nsim_del_dev(enum side side);

/* Move it to the netns of @ns, where it has to be configured again; once */
int nsim_move(struct nsim *n, enum side side, int ns);

/* A sysctl of the netns of @side: "net/ipv4/..." */
int nsim_sysctl(const struct nsim *n, enum side side, const char *name,
		const char *value);
/* A counter of /proc/net/netstat there: "TCPMTUPSuccess"; -ENOENT */
long long nsim_stat(const struct nsim *n, enum side side, const char *name);

#endif
