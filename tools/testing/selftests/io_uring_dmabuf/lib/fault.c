// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <linux/userfaultfd.h>

#include "fault.h"

int fault_init(struct fault *f)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range.len = FAULT_LEN,
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	/* without O_NONBLOCK it cannot be polled */
	f->uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (f->uffd < 0 || ioctl(f->uffd, UFFDIO_API, &api))
		return -errno;
	f->page = mmap(NULL, FAULT_LEN, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reg.range.start = (uintptr_t)f->page;
	return ioctl(f->uffd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

void fault_exit(struct fault *f)
{
	close(f->uffd);
	munmap(f->page, FAULT_LEN);
}

int fault_wait(const struct fault *f, int timeout_ms)
{
	struct pollfd pfd = { .fd = f->uffd, .events = POLLIN };
	struct uffd_msg msg;

	if (poll(&pfd, 1, timeout_ms) != 1)
		return -ETIME;
	return read(f->uffd, &msg, sizeof(msg)) == sizeof(msg) ? 0 : -EIO;
}

int fault_fill(const struct fault *f, const void *with)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)f->page,
		.src = (uintptr_t)with,
		.len = FAULT_LEN,
	};

	return ioctl(f->uffd, UFFDIO_COPY, &copy) ? -errno : 0;
}
