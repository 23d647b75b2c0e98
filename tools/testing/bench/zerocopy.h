/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Zerocopy without a ring: MSG_ZEROCOPY of send(), whose notifications are on the socket's
 * error queue, and that of RDS, whose notifications are cookies that come beside messages.
 */
#ifndef BENCH_ZEROCOPY_H
#define BENCH_ZEROCOPY_H

#include <stddef.h>

/* All return 0 or -errno, and say on stderr what failed, if not said otherwise. */
int zerocopy_enable(int fd);

/* What send() returns; nothing is said. */
long zerocopy_send(int fd, const void *buf, size_t len, int flags);

/*
 * How many sends one call says have ended, or -errno. Waits, if none has; @calls grows by the
 * system calls. Nothing may have been copied.
 */
int zerocopy_done(int fd, unsigned int *calls);
int zerocopy_cookies(int fd, unsigned int *calls);

#endif
