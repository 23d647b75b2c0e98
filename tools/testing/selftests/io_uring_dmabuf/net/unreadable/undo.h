/* SPDX-License-Identifier: GPL-2.0 */
/* What a test has changed in the network, and how to change it back */
#ifndef UNREADABLE_UNDO_H
#define UNREADABLE_UNDO_H

#include <stdbool.h>

struct undo {
	char line[16][128];
	unsigned int nr;
};

/* A shell command: 0, or -EIO, which is said on stderr */
int run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The command that takes back what was done last */
void undo_by(struct undo *u, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* The last first, until there are @nr */
int undo_to(struct undo *u, unsigned int nr);
int undo_all(struct undo *u);
/* Of IPv4, for @dev or for all: on until it is undone */
int sysctl_on(struct undo *u, const char *dev, const char *name);

/* A counter of a device, or -errno */
long long stat_of(const char *dev, const char *name);
/* Until it is @value or more */
bool stat_wait(const char *dev, const char *name, long long value);

#endif
