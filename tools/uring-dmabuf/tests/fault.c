// SPDX-License-Identifier: GPL-2.0
/*
 * Preloaded: something happens to the program at a certain call.
 *   FAULT_CALL=name  FAULT_NUMBER=n   in its n-th call of this function
 *   FAULT_SIGNAL=n   it gets this signal; without: linkat() names a file with a byte that
 *                    is not what was written
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <liburing.h>
#include <sys/xattr.h>

static int calls;

static int is_it(const char *name)
{
	const char *call = getenv("FAULT_CALL"), *n = getenv("FAULT_NUMBER");

	return call && !strcmp(call, name) && ++calls == (n ? atoi(n) : 1);
}

static void fault(const char *name)
{
	const char *signal_ = getenv("FAULT_SIGNAL");

	if (signal_ && is_it(name))
		raise(atoi(signal_));
}

int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
	int (*real)(int fd, const char *name, const void *value, size_t size, int flags) =
		dlsym(RTLD_NEXT, "fsetxattr");
	int ret = real(fd, name, value, size, flags);

	fault("fsetxattr");
	return ret;
}

int io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **cqe,
				     unsigned int nr, struct __kernel_timespec *ts, sigset_t *mask)
{
	int (*real)(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned int nr,
		    struct __kernel_timespec *ts, sigset_t *mask) =
		dlsym(RTLD_NEXT, "io_uring_submit_and_wait_timeout");

	fault("submit");
	return real(ring, cqe, nr, ts, mask);
}

static void spoil(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	char byte = 0;

	if (fd >= 0 && pread(fd, &byte, 1, 5000) == 1) {
		byte ^= 1;
		if (pwrite(fd, &byte, 1, 5000) != 1)
			abort();
	}
	fsync(fd);
	close(fd);
}

int linkat(int from, const char *path, int to, const char *name, int flags)
{
	int (*real)(int from, const char *path, int to, const char *name, int flags) =
		dlsym(RTLD_NEXT, "linkat");

	if (is_it("linkat"))
		spoil(path);
	return real(from, path, to, name, flags);
}
