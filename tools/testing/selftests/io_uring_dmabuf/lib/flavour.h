/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Exporters as they really are (see DMA_BUF_BAR_FLAVOURS), and what the kernel has to say
 * of each of them.
 */
#ifndef IOU_DMABUF_FLAVOUR_H
#define IOU_DMABUF_FLAVOUR_H

#include "mem.h"

#define FLAVOUR_SIZE	(1 * MiB)
#define FLAVOUR_CHUNK	(64 * KiB)	/* the pieces of those that have some */

/* What a peer device is reached by */
enum route {
	ROUTE_P2P,		/* bus address below a switch, else the host */
	ROUTE_MAPPED,		/* the IOMMU if there is one, else the same */
	ROUTE_SYSTEM,		/* the memory comes */
};

/* @drive, @require, @socket: 0 or the errno of the registration */
struct flavour {
	const char *name;
	__u32 flags, chunk;
	enum route route;
	int drive, require, socket;
};

extern const struct flavour flavours[];
extern const unsigned int nr_flavours;

/* FLAVOUR_SIZE bytes; as mem_create_bar() */
int flavour_create(struct mem *m, const struct flavour *f);
/* The state that is true, for a device that is below @is_switch with the memory */
__u32 flavour_state(const struct flavour *f, bool is_switch);

#endif
