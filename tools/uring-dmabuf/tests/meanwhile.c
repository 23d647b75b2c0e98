// SPDX-License-Identifier: GPL-2.0
/*
 * Preloaded: what somebody else does between the registration of the memory, which is fd 9,
 * and the first request.
 *   MEANWHILE=fence    its exporter takes it, and is not through with it
 *   MEANWHILE=move     it goes to the memory of the system
 *   MEANWHILE=revoke   it is taken back
 *   MEANWHILE=+j FILE  this command: chattr(1)
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <liburing.h>
#include <linux/dma-buf-bar.h>
#include <sys/ioctl.h>

#include "program.h"

static int bar(unsigned long request, void *arg)
{
	int fd = open("/dev/dmabuf_bar", O_RDWR | O_CLOEXEC);
	int ret = ioctl(fd, request, arg);

	close(fd);
	return ret;
}

static int move(unsigned int place)
{
	struct dma_buf_bar_move move = { .fd = PROGRAM_FD, .place = place };

	return bar(DMA_BUF_BAR_IOC_MOVE, &move);
}

static int happens(const char *what)
{
	struct dma_buf_bar_fd on = { .fd = PROGRAM_FD, .arg = 1 };
	char command[200];

	if (!strcmp(what, "fence"))
		return move(DMA_BUF_BAR_PLACE_B) || bar(DMA_BUF_BAR_IOC_FENCE, &on);
	if (!strcmp(what, "move"))
		return move(DMA_BUF_BAR_PLACE_SYSTEM);
	if (!strcmp(what, "revoke"))
		return bar(DMA_BUF_BAR_IOC_REVOKE, &on);
	snprintf(command, sizeof(command), "unset LD_PRELOAD; chattr %s >&2", what);
	return system(command);
}

int io_uring_submit(struct io_uring *ring)
{
	int (*real)(struct io_uring *ring) = dlsym(RTLD_NEXT, "io_uring_submit");
	const char *what = getenv("MEANWHILE");

	if (what && happens(what))
		abort();
	unsetenv("MEANWHILE");
	return real(ring);
}
