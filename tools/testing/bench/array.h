/* SPDX-License-Identifier: GPL-2.0 */
/* An array without redundancy (md raid0) of the first drives of $LAB_MANY_DRIVES. */
#ifndef BENCH_ARRAY_H
#define BENCH_ARRAY_H

#include "drive.h"

#define ARRAY_MEMBERS	4

/* These return 0 or -errno, and say on stderr what failed. */

/* @chunk: bytes in a row on one drive. */
int array_open(struct drive *drive, size_t chunk);

/* How many commands each of the drives has had since the machine was started. */
int array_commands(unsigned long long commands[ARRAY_MEMBERS]);

void array_close(struct drive *drive);

#endif
