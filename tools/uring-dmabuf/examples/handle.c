// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * handle FILE: files and memory of the shape of cuFile's, and a program that uses them. Any
 * thread reads from a registered file into registered memory, or writes, and returns when that
 * is done. Each thread here reads its own blocks of FILE; then all is compared with pread().
 */
#include <argp.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uring-dmabuf.h>

#define MAX_BUFFERS	64
#define MAX_THREADS	256

struct buffer {
	const void *base;		/* its name for reads and writes; NULL: there is none */
	int number;
	bool own;			/* @mem was made here */
	struct dmabuf_mem mem;
};

/* One for the process, as cuFile's */
static struct {
	struct dmabuf_io *io;
	pthread_rwlock_t lock;		/* of @buffers */
	struct buffer buffers[MAX_BUFFERS];
	atomic_ulong copied;		/* bytes, by the CPU */
} driver = { .lock = PTHREAD_RWLOCK_INITIALIZER };

/* All functions return -errno; this is what else is known of the last error of move() */
static __thread struct io_uring_dmabuf_reason why;

static int driver_open(void)
{
	/* each thread has one request in flight */
	return dmabuf_io_open(&driver.io, &(struct dmabuf_io_params) { .depth = MAX_THREADS });
}

static int handle_register(int fd)
{
	return dmabuf_io_add_target(driver.io, fd);
}

/* Both deregistrations give -EBUSY while somebody reads or writes */
static int handle_deregister(int handle)
{
	return dmabuf_io_remove_target(driver.io, handle);
}

static struct buffer *find(const void *base)
{
	for (unsigned int i = 0; i < MAX_BUFFERS; i++)
		if (driver.buffers[i].base == base)
			return &driver.buffers[i];
	return NULL;
}

/* @size bytes of @mem, by the name of @base; if that is NULL, of what CUDA has at @base */
static int buf_register(const void *base, size_t size, const struct dmabuf_mem *mem,
			unsigned int flags)
{
	struct buffer *b;
	int ret = -EINVAL;

	pthread_rwlock_wrlock(&driver.lock);
	b = base && !find(base) ? find(NULL) : NULL;
	if (b && mem)
		b->mem = *mem;
	if (b)
		ret = mem ? 0 : dmabuf_mem_from_ptr(&b->mem, base, size);
	if (!ret) {
		b->own = !mem;
		b->mem.size = size;
		b->number = dmabuf_io_add_buffer(driver.io, &b->mem, flags);
		ret = b->number < 0 ? b->number : 0;
		if (!ret)
			b->base = base;
		else if (b->own)
			dmabuf_mem_close(&b->mem);
	}
	pthread_rwlock_unlock(&driver.lock);
	return ret;
}

static int buf_deregister(const void *base)
{
	struct buffer *b;
	int ret;

	pthread_rwlock_wrlock(&driver.lock);
	b = base ? find(base) : NULL;
	ret = b ? dmabuf_io_remove_buffer(driver.io, b->number) : -EINVAL;
	if (!ret) {
		b->base = NULL;
		if (b->own)
			dmabuf_mem_close(&b->mem);
	}
	pthread_rwlock_unlock(&driver.lock);
	return ret;
}

static ssize_t move(uint32_t op, int handle, const void *base, size_t size, off_t file_at,
		    off_t buf_at)
{
	struct dmabuf_io_request r = {
		.op = op, .flags = DMABUF_IO_WAITED, .size = size, .target = handle,
		.target_off = (uint64_t)file_at, .buffer_off = (uint64_t)buf_at,
	}, *one = &r;
	const struct buffer *b;
	int ret;

	pthread_rwlock_rdlock(&driver.lock);
	b = base ? find(base) : NULL;
	/* should the buffer go now: its number is not used again, and refused below */
	r.buffer = b ? b->number : -1;
	pthread_rwlock_unlock(&driver.lock);

	/* registers, the first time that these two go together; then it looks at a bit */
	ret = dmabuf_io_prepare(driver.io, r.buffer, handle, &why);
	while (!ret || ret == -EAGAIN)
		ret = dmabuf_io_submit(driver.io, &one, 1);
	if (ret < 0)
		return ret;
	/* after a signal, too: the request stays here until it has been given back */
	while (dmabuf_io_wait(driver.io, &r, -1))
		;
	driver.copied += r.copied;
	return r.moved ? (ssize_t)r.moved : (ssize_t)r.result;
}

static ssize_t handle_read(int handle, const void *base, size_t size, off_t file_at, off_t buf_at)
{
	return move(DMABUF_IO_READ, handle, base, size, file_at, buf_at);
}

static ssize_t handle_write(int handle, const void *base, size_t size, off_t file_at, off_t buf_at)
{
	return move(DMABUF_IO_WRITE, handle, base, size, file_at, buf_at);
}

/* ---- the program ---- */

#define BLOCK		(256L << 10)
#define MAX_SIZE	(16L << 20)

static struct {
	const char *name, *spec;
	unsigned int threads, flags;
	int mode, handle;
	const void *base;
	off_t size;
} t = { .spec = "udmabuf", .threads = 4, .mode = O_RDONLY };
static char expected[MAX_SIZE], got[MAX_SIZE];

/* One block of every so many; the last one of the file may be shorter */
static void *reads(void *arg)
{
	char text[512];

	for (off_t at = (off_t)(uintptr_t)arg * BLOCK; at < t.size; at += t.threads * BLOCK) {
		ssize_t n = handle_read(t.handle, t.base, BLOCK, at, at);

		if (n == BLOCK && t.mode == O_RDWR)
			n = handle_write(t.handle, t.base, BLOCK, at, at);
		if (n >= 0)
			continue;
		io_uring_dmabuf_explain((int)n, &why, text, sizeof(text));
		errx(1, "%s: %s", t.name, why.text[0] ? text : strerror((int)-n));
	}
	return NULL;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	if (key == 'm')
		t.spec = arg;
	else if (key == 'b')
		t.flags = DMABUF_IO_BOUNCE;
	else if (key == 'w')
		t.mode = O_RDWR;
	else if (key == 't' && atoi(arg) > 0 && atoi(arg) <= MAX_THREADS)
		t.threads = (unsigned int)atoi(arg);
	else if (key == ARGP_KEY_ARG && !t.name)
		t.name = arg;
	else if (key == 't' || key == ARGP_KEY_NO_ARGS)
		argp_usage(state);
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

static const struct argp_option options[] = {
	{ "memory", 'm', "SPEC", 0, "udmabuf (default), heap:NAME, cuda:N; to bounce: host", 0 },
	{ "threads", 't', "NR", 0, "So many threads (4)", 0 },
	{ "write", 'w', NULL, 0, "Write each block back to where it was", 0 },
	{ "bounce", 'b', NULL, 0, "By way of memory of the CPU, with any kernel", 0 },
	{ 0 },
};

int main(int argc, char **argv)
{
	const struct argp argp = { options, parse, "FILE", NULL, NULL, NULL, NULL };
	pthread_t threads[MAX_THREADS];
	struct dmabuf_mem mem;

	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	if (driver_open())
		errx(1, "no io_uring: see the sysctl io_uring_disabled, and seccomp");
	if (dmabuf_mem_open(&mem, t.spec, MAX_SIZE))
		errx(1, "%s", dmabuf_mem_why());
	/* what neither the CPU nor a GPU sees has another name: any address that is ours */
	t.base = mem.ptr ? mem.ptr : mem.device_ptr ? (void *)(uintptr_t)mem.device_ptr : &mem;
	if (buf_register(t.base, MAX_SIZE, &mem, t.flags))
		errx(1, "%s: no buffer (a dma-buf? else --bounce)", t.spec);

	int fd = open(t.name, t.mode | O_CLOEXEC | (t.flags ? 0 : O_DIRECT));
	int usual = open(t.name, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || usual < 0)
		err(1, "%s", t.name);
	t.size = pread(usual, expected, MAX_SIZE, 0);
	if (t.size < 0)
		err(1, "%s", t.name);
	t.handle = handle_register(fd);
	for (uintptr_t i = 0; i < t.threads; i++)
		if (pthread_create(&threads[i], NULL, reads, (void *)i))
			errx(1, "no threads");
	for (unsigned int i = 0; i < t.threads; i++)
		pthread_join(threads[i], NULL);

	if (dmabuf_mem_copy_from(&mem, 0, got, t.size) || memcmp(got, expected, t.size))
		errx(1, "%s: other bytes than those of pread() %s", t.name, dmabuf_mem_why());
	if (pread(usual, got, MAX_SIZE, 0) != t.size || memcmp(got, expected, t.size))
		errx(1, "%s: other bytes than it had", t.name);
	if (handle_deregister(t.handle) || buf_deregister(t.base))
		errx(1, "%s: still in use", t.name);
	printf("%ld bytes by %u threads, the CPU copied %lu\n", (long)t.size, t.threads,
	       driver.copied);
	dmabuf_mem_close(&mem);
	dmabuf_io_close(driver.io);
	return driver.copied && !t.flags;
}
