// SPDX-License-Identifier: GPL-2.0
/*
 * Preloaded: memory in which a byte is not what came, each time when the CPU begins to
 * look at it. That is how memory looks that a device reaches by wrong addresses.
 */
#include <stdarg.h>
#include <unistd.h>
#include <linux/dma-buf.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define WHERE	12345

static void spoil(int fd)
{
	char *map = mmap(NULL, WHERE + 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		return;
	map[WHERE] ^= 1;
	munmap(map, WHERE + 1);
}

int ioctl(int fd, unsigned long request, ...)
{
	void *arg;
	va_list ap;
	int ret;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	ret = (int)syscall(SYS_ioctl, fd, request, arg);
	if (!ret && request == DMA_BUF_IOCTL_SYNC &&
	    ((struct dma_buf_sync *)arg)->flags == (DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ))
		spoil(fd);
	return ret;
}
