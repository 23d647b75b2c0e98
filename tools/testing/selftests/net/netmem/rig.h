/* SPDX-License-Identifier: GPL-2.0 */
/* Netdevsims, and a dma-buf that is bound to the sending one */
#ifndef NETMEM_RIG_H
#define NETMEM_RIG_H

#include <stdbool.h>

#include "nsim.h"
#include "tcp.h"

#define PAGE		4096UL
#define MEM_SIZE	(64 * PAGE)

struct rig {
	struct nsim nsim;
	int dmabuf;
	unsigned char *map;	/* the memory of the dma-buf, each page different */
	int nl;			/* closing this ends the binding */
	__u32 id;
	struct tcp_pair tcp;
};

/* 0, or -errno and nothing to take down; *@why says what the kernel lacks */
int rig_up(struct rig *rig, const char **why);
void rig_down(struct rig *rig);

/* A connection with nothing special. 0 or -errno */
int rig_connect(struct rig *rig, int family);

/* How many devices the dma-buf with that inode is attached to, -errno */
int bufinfo_attached(unsigned long ino);
/* Whether it is gone, or was soon after */
bool bufinfo_gone(unsigned long ino);
unsigned long dmabuf_ino(const struct rig *rig);

#endif
