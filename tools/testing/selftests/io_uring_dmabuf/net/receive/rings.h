/* SPDX-License-Identifier: GPL-2.0 */
/* What `ethtool -G` and -S do, with the errno that the kernel gives. 0 or -errno */
#ifndef RECEIVE_RINGS_H
#define RECEIVE_RINGS_H

#include "netrig.h"

enum split { SPLIT_UNSET, SPLIT_OFF, SPLIT_ON };

struct rings {
	enum split split;	/* never SPLIT_UNSET if the driver knows */
	__u32 hds_thresh;
	__u32 rx;
};

int rings_get(const struct netrig *n, struct rings *r);
/* tcp-data-split; hds-thresh becomes 0 */
int rings_split(const struct netrig *n, enum split split);
int rings_thresh(const struct netrig *n, __u32 hds_thresh);
/* Descriptors of the receive ring */
int rings_rx(const struct netrig *n, __u32 rx);

/* A counter of the driver, or -errno */
long long card_stat(const struct netrig *n, const char *name);

#endif
