// SPDX-License-Identifier: GPL-2.0
/*
 * A libcuda.so.1 without a GPU: what liburing-dmabuf calls of it, with the answers that an
 * H200 gave (driver 580): exports of any range that is mapped, at multiples of 4 KiB; small
 * allocations share 2 MiB and are aligned to 512 bytes. "Device memory" is a memfd, exported
 * by udmabuf; addresses of it are none of the process.
 *   FAKE_CUDA=old: a device that cannot export    none: there is no device
 *   bar: the memory is in a PCI BAR, which the CPU does not map: one allocation at a time
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/dma-buf-bar.h>
#include <linux/udmabuf.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define BASE		0x700000000000ULL
#define SIZE		(32ULL << 20)
#define BLOCK		(2ULL << 20)
#define HOST		0x710000000000ULL	/* pinned memory of the CPU */
#define MANAGED		0x720000000000ULL

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101,
       INVALID_CONTEXT = 201, NOT_SUPPORTED = 801 };

static int memory = -1;
static char *view;
static unsigned long long next = BASE, mapped = BASE;
static int context;		/* one is current */
static int exporter = -1;	/* of memory in a BAR */
static struct dma_buf_bar_create bar = { .fd = -1 };
int fake_cuda_allocations, fake_cuda_contexts;

static int is(const char *what)
{
	const char *fake = getenv("FAKE_CUDA");

	return fake && !strcmp(fake, what);
}

int cuInit(unsigned int flags)
{
	(void)flags;
	if (is("none"))
		return NO_DEVICE;
	/* a process may do it any number of times */
	if (memory >= 0 || exporter >= 0)
		return OK;
	if (is("bar")) {
		exporter = open("/dev/dmabuf_bar", O_RDWR | O_CLOEXEC);
		return exporter < 0 ? NO_DEVICE : OK;
	}
	/* somebody has the beginning of a block */
	if (is("used"))
		next = BASE + 12288;
	memory = memfd_create("fake-cuda", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	if (memory < 0 || ftruncate(memory, SIZE) || fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK))
		return OUT_OF_MEMORY;
	view = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	return view == MAP_FAILED ? OUT_OF_MEMORY : OK;
}

int cuGetErrorName(int err, const char **name)
{
	*name = err == INVALID_VALUE ? "CUDA_ERROR_INVALID_VALUE" :
		err == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" :
		err == NO_DEVICE ? "CUDA_ERROR_NO_DEVICE" :
		err == INVALID_DEVICE ? "CUDA_ERROR_INVALID_DEVICE" :
		err == INVALID_CONTEXT ? "CUDA_ERROR_INVALID_CONTEXT" : "CUDA_ERROR_OTHER";
	return OK;
}

int cuDeviceGet(int *dev, int ordinal)
{
	*dev = ordinal;
	return ordinal ? INVALID_DEVICE : OK;
}

int cuDeviceGetAttribute(int *value, int attribute, int dev)
{
	(void)dev;
	*value = attribute == 124 && !is("old");
	return OK;
}

int cuDevicePrimaryCtxRetain(void **ctx, int dev)
{
	(void)dev;
	*ctx = &context;
	fake_cuda_contexts++;
	return OK;
}

int cuDevicePrimaryCtxRelease_v2(int dev)
{
	(void)dev;
	fake_cuda_contexts--;
	return OK;
}

int cuCtxPushCurrent_v2(void *ctx)
{
	if (ctx != &context)
		return INVALID_CONTEXT;
	context++;
	return OK;
}

int cuCtxPopCurrent_v2(void **ctx)
{
	*ctx = &context;
	context--;
	return OK;
}

/* Whole blocks at BASE, as NVIDIA's driver exports them */
static int bar_alloc(unsigned long long *ptr, size_t size)
{
	bar.size = (size + BLOCK - 1) / BLOCK * BLOCK;
	bar.flags = DMA_BUF_BAR_NVIDIA;
	if (bar.fd >= 0 || ioctl(exporter, DMA_BUF_BAR_IOC_CREATE, &bar))
		return OUT_OF_MEMORY;
	*ptr = BASE;
	mapped = BASE + bar.size;
	fake_cuda_allocations++;
	return OK;
}

static int bar_free(void)
{
	close(bar.fd);
	bar.fd = -1;
	return OK;
}

static int bar_copy(unsigned long cmd, unsigned long long ptr, unsigned long uptr, size_t size)
{
	struct dma_buf_bar_io io = { .fd = bar.fd, .off = ptr - BASE, .len = size, .uptr = uptr };

	if (!context)
		return INVALID_CONTEXT;
	return ioctl(exporter, cmd, &io) ? INVALID_VALUE : OK;
}

/* Whole blocks from BLOCK on; less shares one, and is not at its start */
int cuMemAlloc_v2(unsigned long long *ptr, size_t size)
{
	if (!context)
		return INVALID_CONTEXT;
	if (exporter >= 0)
		return bar_alloc(ptr, size);
	if (size >= BLOCK || next % BLOCK + size > BLOCK)
		next = (next + BLOCK - 1) / BLOCK * BLOCK;
	if (next + size > BASE + SIZE)
		return OUT_OF_MEMORY;
	*ptr = next;
	next = (next + size + 511) / 512 * 512;
	mapped = (next + BLOCK - 1) / BLOCK * BLOCK;
	fake_cuda_allocations++;
	return OK;
}

int cuMemFree_v2(unsigned long long ptr)
{
	(void)ptr;
	fake_cuda_allocations--;
	if (exporter >= 0)
		return bar_free();
	return context ? OK : INVALID_CONTEXT;
}

int cuMemGetHandleForAddressRange(int *fd, unsigned long long ptr, size_t size, int type,
				  unsigned long long flags)
{
	struct udmabuf_create args = {
		.memfd = memory, .flags = UDMABUF_FLAGS_CLOEXEC, .offset = ptr - BASE, .size = size,
	};
	int dev;

	if (!context)
		return INVALID_CONTEXT;
	if (flags)
		return NOT_SUPPORTED;
	if (type != 1 || ptr % 4096 || size % 4096 || ptr < BASE || ptr + size > mapped)
		return INVALID_VALUE;
	if (exporter >= 0) {
		if (ptr != BASE || size != bar.size)
			return NOT_SUPPORTED;
		*fd = fcntl(bar.fd, F_DUPFD_CLOEXEC, 0);
		return *fd < 0 ? OUT_OF_MEMORY : OK;
	}
	dev = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	*fd = ioctl(dev, UDMABUF_CREATE, &args);
	close(dev);
	return *fd < 0 ? OUT_OF_MEMORY : OK;
}

int cuPointerGetAttribute(void *value, int attribute, unsigned long long ptr)
{
	int known = (ptr >= BASE && ptr < mapped) || ptr == HOST || ptr == MANAGED;

	if (!known)
		return INVALID_VALUE;
	*(unsigned int *)value = attribute == 2 ? (ptr == HOST ? 1 : 2) :
				 attribute == 8 ? ptr == MANAGED : 0;
	return OK;
}

int cuPointerSetAttribute(const void *value, int attribute, unsigned long long ptr)
{
	(void)value;
	(void)attribute;
	(void)ptr;
	return OK;
}

static int copy(void *to, const void *from, size_t size)
{
	if (!context)
		return INVALID_CONTEXT;
	memcpy(to, from, size);
	return OK;
}

int cuMemcpyHtoD_v2(unsigned long long to, const void *from, size_t size)
{
	if (exporter >= 0)
		return bar_copy(DMA_BUF_BAR_IOC_POKE, to, (unsigned long)from, size);
	return copy(view + (to - BASE), from, size);
}

int cuMemcpyDtoH_v2(void *to, unsigned long long from, size_t size)
{
	if (exporter >= 0)
		return bar_copy(DMA_BUF_BAR_IOC_PEEK, from, (unsigned long)to, size);
	return copy(to, view + (from - BASE), size);
}
