// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Memory of NVIDIA GPUs, by the CUDA driver API, which is loaded when it is asked for. What
 * of it is used is declared here: numbers and prototypes of a stable binary interface.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"

typedef unsigned long long cu_ptr;
typedef struct cu_context *cu_context;

enum {
	CU_OK				= 0,
	CU_INVALID_VALUE		= 1,
	CU_NOT_SUPPORTED		= 801,

	CU_DEVICE_DMA_BUF_SUPPORTED	= 124,

	CU_POINTER_MEMORY_TYPE		= 2,
	CU_POINTER_SYNC_MEMOPS		= 6,
	CU_POINTER_IS_MANAGED		= 8,
	CU_POINTER_DEVICE_ORDINAL	= 9,

	CU_MEMORY_DEVICE		= 2,

	CU_HANDLE_DMA_BUF_FD		= 1,
	CU_MAPPING_TYPE_PCIE		= 1,
};

static struct {
	int (*init)(unsigned int flags);
	int (*error_name)(int err, const char **name);
	int (*device_get)(int *dev, int ordinal);
	int (*device_attribute)(int *value, int attribute, int dev);
	int (*ctx_retain)(cu_context *ctx, int dev);
	int (*ctx_release)(int dev);
	int (*ctx_push)(cu_context ctx);
	int (*ctx_pop)(cu_context *ctx);
	int (*alloc)(cu_ptr *ptr, size_t size);
	int (*free)(cu_ptr ptr);
	int (*export)(void *handle, cu_ptr ptr, size_t size, int type, unsigned long long flags);
	int (*pointer_get)(void *value, int attribute, cu_ptr ptr);
	int (*pointer_set)(const void *value, int attribute, cu_ptr ptr);
	int (*to_device)(cu_ptr to, const void *from, size_t size);
	int (*from_device)(void *to, cu_ptr from, size_t size);
} cu;

static const struct {
	void **function;
	const char *name;
} symbols[] = {
	{ (void **)&cu.init, "cuInit" },
	{ (void **)&cu.error_name, "cuGetErrorName" },
	{ (void **)&cu.device_get, "cuDeviceGet" },
	{ (void **)&cu.device_attribute, "cuDeviceGetAttribute" },
	{ (void **)&cu.ctx_retain, "cuDevicePrimaryCtxRetain" },
	{ (void **)&cu.ctx_release, "cuDevicePrimaryCtxRelease_v2" },
	{ (void **)&cu.ctx_push, "cuCtxPushCurrent_v2" },
	{ (void **)&cu.ctx_pop, "cuCtxPopCurrent_v2" },
	{ (void **)&cu.alloc, "cuMemAlloc_v2" },
	{ (void **)&cu.free, "cuMemFree_v2" },
	{ (void **)&cu.export, "cuMemGetHandleForAddressRange" },
	{ (void **)&cu.pointer_get, "cuPointerGetAttribute" },
	{ (void **)&cu.pointer_set, "cuPointerSetAttribute" },
	{ (void **)&cu.to_device, "cuMemcpyHtoD_v2" },
	{ (void **)&cu.from_device, "cuMemcpyDtoH_v2" },
};

/* ---- the library ---- */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char cannot_load[160];	/* "": it is there */
static int load_err;

static void cannot(int err, const char *fmt, const char *what)
{
	load_err = err;
	snprintf(cannot_load, sizeof(cannot_load), fmt, what);
}

static const char *name_of(int err)
{
	const char *name;

	return !cu.error_name(err, &name) && name ? name : "an unknown error";
}

static void load(void)
{
	void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	int err;

	if (!lib) {
		cannot(ENODEV, "%s (it comes with NVIDIA's driver)", dlerror());
		return;
	}
	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		*symbols[i].function = dlsym(lib, symbols[i].name);
		if (!*symbols[i].function) {
			cannot(EOPNOTSUPP, "libcuda.so.1 has no %s: CUDA 11.7 is the first with dma-bufs",
			       symbols[i].name);
			return;
		}
	}
	err = cu.init(0);
	if (err)
		cannot(ENODEV, "cuInit: %s; is the driver loaded (nvidia-smi)?", name_of(err));
}

static int loaded(void)
{
	pthread_once(&once, load);
	return cannot_load[0] ? mem_why(load_err, "CUDA: %s", cannot_load) : 0;
}

/* ---- a device ---- */

struct cuda {
	int dev;
	cu_context ctx;
	cu_ptr allocated;	/* to be freed, or 0 */
	cu_ptr ptr;		/* where the memory begins */
};

static int failed(const char *what, int err)
{
	return mem_why(err == CU_INVALID_VALUE ? EINVAL : err == CU_NOT_SUPPORTED ? EOPNOTSUPP : EIO,
		       "CUDA: %s: %s", what, name_of(err));
}

static int device_open(struct cuda *c, int ordinal)
{
	int can = 0, err = cu.device_get(&c->dev, ordinal);

	if (err)
		return mem_why(ENODEV, "CUDA: there is no device %d: %s", ordinal, name_of(err));
	err = cu.device_attribute(&can, CU_DEVICE_DMA_BUF_SUPPORTED, c->dev);
	if (err || !can)
		return mem_why(EOPNOTSUPP, "CUDA: device %d cannot export dma-bufs: NVIDIA's open kernel modules can, on Turing and newer",
			       ordinal);
	err = cu.ctx_retain(&c->ctx, c->dev);
	return err ? failed("cuDevicePrimaryCtxRetain", err) : 0;
}

static int enter(const struct cuda *c)
{
	int err = cu.ctx_push(c->ctx);

	return err ? failed("cuCtxPushCurrent", err) : 0;
}

static void leave(void)
{
	cu_context ctx;

	cu.ctx_pop(&ctx);
}

/* ---- export ---- */

/* The way that a coherent GPU has beside its own; others do not know the flag */
static int export_range(int *fd, cu_ptr start, size_t size)
{
	int err = cu.export(fd, start, size, CU_HANDLE_DMA_BUF_FD, CU_MAPPING_TYPE_PCIE);

	if (err == CU_INVALID_VALUE || err == CU_NOT_SUPPORTED)
		err = cu.export(fd, start, size, CU_HANDLE_DMA_BUF_FD, 0);
	return err;
}

/*
 * What the caller has named, rounded to what is as large as possible: the larger the pieces,
 * the larger the granule. Where the neighbourhood is not mapped the driver says INVALID_VALUE.
 * The allocation's base is of no use: of memory that was mapped in pieces (PyTorch's
 * expandable segments) it is that of one piece.
 */
static int export_around(struct dmabuf_mem *mem, cu_ptr ptr, size_t size)
{
	static const cu_ptr alignments[] = { 2 << 20, 64 << 10, 4 << 10 };
	int fd, err = CU_INVALID_VALUE;

	for (size_t i = 0; i < 3 && err == CU_INVALID_VALUE; i++) {
		cu_ptr start = ptr & ~(alignments[i] - 1);
		cu_ptr end = (ptr + size + alignments[i] - 1) & ~(alignments[i] - 1);

		err = export_range(&fd, start, end - start);
		mem->off = ptr - start;
	}
	if (err)
		return failed("cuMemGetHandleForAddressRange", err);
	mem->fd = fd;
	mem->size = size;
	mem->device_ptr = ptr;
	return 0;
}

static void cuda_close(struct dmabuf_mem *mem)
{
	struct cuda *c = mem->priv;

	if (!c)
		return;
	if (c->allocated && !cu.ctx_push(c->ctx)) {
		cu.free(c->allocated);
		leave();
	}
	if (c->ctx)
		cu.ctx_release(c->dev);
	free(c);
	mem->priv = NULL;
}

/* In the device's context; what was begun is undone by the caller */
static int allocate(struct dmabuf_mem *mem, struct cuda *c, size_t size)
{
	unsigned int on = 1;
	int err = cu.alloc(&c->allocated, size);

	if (err) {
		c->allocated = 0;
		return mem_why(ENOMEM, "CUDA: cuMemAlloc of %zu bytes: %s", size, name_of(err));
	}
	c->ptr = c->allocated;
	/* what the CPU copies is there when the copy has returned */
	cu.pointer_set(&on, CU_POINTER_SYNC_MEMOPS, c->ptr);
	return export_around(mem, c->ptr, size);
}

static int finish(struct dmabuf_mem *mem, int ret)
{
	if (ret)
		cuda_close(mem);
	return ret;
}

static int cuda_open(struct dmabuf_mem *mem, const char *arg, size_t size)
{
	struct cuda *c;
	char *end;
	long ordinal = strtol(arg, &end, 10);
	int ret = loaded();

	if (ret)
		return ret;
	if (!*arg || *end || ordinal < 0 || ordinal > 1024)
		return mem_why(EINVAL, "cuda:%s: not the number of a device", arg);
	if (size > SIZE_MAX - (2 << 20))
		return mem_why(EINVAL, "%zu bytes are too many", size);
	c = calloc(1, sizeof(*c));
	if (!c)
		return mem_why(ENOMEM, "no memory");
	mem->priv = c;
	size = (size + 4095) & ~(size_t)4095;
	ret = device_open(c, (int)ordinal);
	if (!ret)
		ret = enter(c);
	if (!ret) {
		ret = allocate(mem, c, size);
		leave();
	}
	return finish(mem, ret);
}

/* ---- memory that somebody else has allocated ---- */

static int check_kind(cu_ptr ptr)
{
	unsigned int type = 0, managed = 0;

	if (cu.pointer_get(&type, CU_POINTER_MEMORY_TYPE, ptr))
		return mem_why(EFAULT, "CUDA does not know the pointer: is it of this process, and a device's?");
	cu.pointer_get(&managed, CU_POINTER_IS_MANAGED, ptr);
	if (managed)
		return mem_why(EOPNOTSUPP, "managed memory moves between CPU and GPU, and cannot be exported: use cuMemAlloc");
	if (type != CU_MEMORY_DEVICE)
		return mem_why(EOPNOTSUPP, "it is pinned memory of the CPU: register it as it is (IO_URING_DMABUF_TYPE_UADDR)");
	return 0;
}

static int cuda_from_ptr(struct dmabuf_mem *mem, const void *devptr, size_t size)
{
	cu_ptr ptr = (cu_ptr)(uintptr_t)devptr;
	struct cuda *c;
	int ordinal = 0, ret = loaded();

	if (ret)
		return ret;
	ret = check_kind(ptr);
	if (ret)
		return ret;
	cu.pointer_get(&ordinal, CU_POINTER_DEVICE_ORDINAL, ptr);
	c = calloc(1, sizeof(*c));
	if (!c)
		return mem_why(ENOMEM, "no memory");
	mem->priv = c;
	c->ptr = ptr;
	ret = device_open(c, ordinal);
	if (!ret)
		ret = enter(c);
	if (!ret) {
		ret = export_around(mem, ptr, size);
		leave();
	}
	return finish(mem, ret);
}

/* ---- copies ---- */

static int cuda_copy(struct dmabuf_mem *mem, uint64_t off, void *to, const void *from, size_t len)
{
	const struct cuda *c = mem->priv;
	int err, ret = enter(c);

	if (ret)
		return ret;
	err = to ? cu.from_device(to, c->ptr + off, len) : cu.to_device(c->ptr + off, from, len);
	leave();
	return err ? failed(to ? "cuMemcpyDtoH" : "cuMemcpyHtoD", err) : 0;
}

const struct dmabuf_mem_ops mem_cuda = {
	.name = "cuda", .arg = true, .open = cuda_open, .from_ptr = cuda_from_ptr,
	.copy = cuda_copy, .close = cuda_close,
};
