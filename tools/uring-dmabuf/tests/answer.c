// SPDX-License-Identifier: GPL-2.0
/*
 * Preloaded: registrations of dma-bufs that end as none does on this machine.
 *   ANSWER_STAGE=n ANSWER_ERRNO=n   so is each refused, by a kernel that has no words for it
 *   ANSWER_RESULT=n                 with this errno the first request ends
 *   ANSWER_CPU=n                    with this errno its exporter refuses the CPU that would write
 *   ANSWER_NTH=n                    the n-th allocation of a registration fails, in the kernel
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <liburing.h>
#include <linux/dma-buf.h>
#include <sys/ioctl.h>

#include "../src/kernel.h"

/* 0: it is not set */
static int number(const char *name)
{
	const char *text = getenv(name);

	return text ? atoi(text) : 0;
}

static long refuse(const struct rsrc_update2 *update)
{
	struct io_uring_dmabuf_desc *desc = (void *)(uintptr_t)update->data;
	struct io_uring_dmabuf_reason *why = (void *)(uintptr_t)desc->reason;

	why->stage = (uint32_t)number("ANSWER_STAGE");
	snprintf(why->text, sizeof(why->text), "As it was told.");
	errno = number("ANSWER_ERRNO");
	return -1;
}

/* Of this thread, until 0 is written; that allocates nothing itself */
static void fail_nth(int fd, const char *nth)
{
	if (write(fd, nth, strlen(nth)) < 0)
		abort();
}

long syscall(long nr, ...)
{
	long (*real)(long nr, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	const char *nth = getenv("ANSWER_NTH");
	int err, fd = -1;
	long arg[6], ret;
	va_list ap;
	bool is_it;

	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		arg[i] = va_arg(ap, long);
	va_end(ap);
	is_it = nr == __NR_io_uring_register && arg[1] == REGISTER_BUFFERS_UPDATE;
	if (is_it && number("ANSWER_STAGE"))
		return refuse((void *)arg[2]);
	if (is_it && nth) {
		fd = open("/proc/thread-self/fail-nth", O_WRONLY | O_CLOEXEC);
		fail_nth(fd, nth);
	}
	ret = real(nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
	err = errno;
	if (fd >= 0) {
		fail_nth(fd, "0");
		close(fd);
	}
	errno = err;
	return ret;
}

int ioctl(int fd, unsigned long request, ...)
{
	const struct dma_buf_sync *sync;
	va_list ap;

	va_start(ap, request);
	sync = va_arg(ap, void *);
	va_end(ap);
	if (request == DMA_BUF_IOCTL_SYNC && number("ANSWER_CPU") &&
	    sync->flags == (DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE)) {
		errno = number("ANSWER_CPU");
		return -1;
	}
	return (int)syscall(__NR_ioctl, fd, request, sync);
}

int io_uring_wait_cqe_timeout(struct io_uring *ring, struct io_uring_cqe **cqe,
			      struct __kernel_timespec *ts)
{
	int (*real)(struct io_uring *ring, struct io_uring_cqe **cqe,
		    struct __kernel_timespec *ts) = dlsym(RTLD_NEXT, "io_uring_wait_cqe_timeout");
	int ret = real(ring, cqe, ts);

	if (!ret && number("ANSWER_RESULT"))
		(*cqe)->res = -number("ANSWER_RESULT");
	return ret;
}
