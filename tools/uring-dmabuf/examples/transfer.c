// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * transfer FILE...: a backend for transfers, of the shape of NIXL's, and a program that uses
 * it: writes a pattern to all FILEs, whose content is lost, from one memory, reads it back into
 * another and compares every byte. Two threads post, one checks.
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

enum { XFER_DONE = 0, XFER_IN_PROGRESS = 1 };	/* or -errno */

struct descriptors {
	int mem, file;
	uint64_t mem_off, file_off, len;
};

/* One thread at a time uses it; any number of them may be in flight */
struct xfer {
	unsigned int nr, posted, done;
	int error;			/* the first one */
	uint64_t copied;		/* bytes, by the CPU, since it was prepared */
	struct dmabuf_io_request **order;
	struct dmabuf_io_request requests[];
};

static int register_mem(struct dmabuf_io *io, struct dmabuf_mem *mem, unsigned int flags)
{
	return dmabuf_io_add_buffer(io, mem, flags);
}

static int deregister_mem(struct dmabuf_io *io, int mem)
{
	return dmabuf_io_remove_buffer(io, mem);
}

static int register_file(struct dmabuf_io *io, int fd)
{
	return dmabuf_io_add_target(io, fd);
}

/* Waits for the exporter of the memory, the first time that a memory goes with a file */
static int prep_xfer(struct dmabuf_io *io, uint32_t op, const struct descriptors *list,
		     unsigned int nr, struct xfer **xfer, struct io_uring_dmabuf_reason *why)
{
	struct xfer *x = calloc(1, sizeof(*x) + nr * (sizeof(*x->requests) + sizeof(*x->order)));
	int ret = x ? 0 : -ENOMEM;

	*why = (struct io_uring_dmabuf_reason) { 0 };
	for (unsigned int i = 0; i < nr && !ret; i++)
		ret = dmabuf_io_prepare(io, list[i].mem, list[i].file, why);
	if (ret) {
		free(x);
		return ret;
	}
	x->order = (struct dmabuf_io_request **)&x->requests[nr];
	for (; x->nr < nr; x->nr++, list++) {
		/* check_xfer() asks for each by itself: nobody else is to reap it */
		x->requests[x->nr] = (struct dmabuf_io_request) {
			.op = op, .flags = DMABUF_IO_WAITED, .size = list->len,
			.buffer = list->mem, .buffer_off = list->mem_off,
			.target = list->file, .target_off = list->file_off,
		};
		x->order[x->nr] = &x->requests[x->nr];
	}
	*xfer = x;
	return 0;
}

/* XFER_*, or why it failed, when none of it is in flight. Waits for no device */
static int check_xfer(struct dmabuf_io *io, struct xfer *x)
{
	if (!x->error && x->posted < x->nr) {
		int ret = dmabuf_io_submit(io, x->order + x->posted, x->nr - x->posted);

		if (ret > 0)
			x->posted += (unsigned int)ret;
		else if (ret != -EAGAIN)	/* no room: the next time */
			x->error = ret;
	}
	/* all have to be done: it is enough to look at the first that is not */
	for (; x->done < x->posted; x->done++) {
		struct dmabuf_io_request *r = &x->requests[x->done];

		if (dmabuf_io_wait(io, r, 0))
			return XFER_IN_PROGRESS;
		x->copied += r->copied;
		if (!x->error && r->result != (int64_t)r->size)
			x->error = r->result < 0 ? (int)r->result : -ENODATA;
	}
	return x->error ? x->error : x->posted < x->nr ? XFER_IN_PROGRESS : XFER_DONE;
}

/* A transfer that is done may be posted again */
static int post_xfer(struct dmabuf_io *io, struct xfer *x)
{
	if (x->done < x->posted)
		return -EBUSY;
	x->posted = 0;
	x->done = 0;
	x->error = 0;
	return check_xfer(io, x);
}

/* Whatever is in flight: a request stays where it is until it has been given back */
static void release_req(struct dmabuf_io *io, struct xfer *x)
{
	for (unsigned int i = x->done; i < x->posted; i++)
		dmabuf_io_cancel(io, &x->requests[i]);
	while (x->done < x->posted)
		x->done += !dmabuf_io_wait(io, &x->requests[x->done], -1);
	free(x);
}

/* ---- the program ---- */
#define MAX_FILES	8
#define POSTERS		2
#define BLOCKS		8		/* of each file, for each poster */
#define BLOCK		(256UL << 10)
#define PER_FILE	(POSTERS * BLOCKS * BLOCK)

static struct {
	const char *spec, *names[MAX_FILES];
	unsigned int flags, nr, op;
	struct dmabuf_io *io;
	int files[MAX_FILES], mem;	/* this memory, and @op, are of one round */
	atomic_uintptr_t xfers[POSTERS * MAX_FILES];
	unsigned long copied;
} t = { .spec = "udmabuf" };
static uint64_t pattern[MAX_FILES * PER_FILE / 8], back[MAX_FILES * PER_FILE / 8];

/* Every other block of all files */
static void *post(void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg;
	struct io_uring_dmabuf_reason why;
	struct descriptors list[BLOCKS];
	struct xfer *x;
	char text[512];

	for (unsigned int f = 0; f < t.nr; f++) {
		for (unsigned int i = 0; i < BLOCKS; i++) {
			uint64_t off = (i * POSTERS + me) * BLOCK;

			list[i] = (struct descriptors) {
				t.mem, t.files[f], f * PER_FILE + off, off, BLOCK };
		}
		int ret = prep_xfer(t.io, t.op, list, BLOCKS, &x, &why);

		if (ret) {
			io_uring_dmabuf_explain(ret, &why, text, sizeof(text));
			errx(1, "%s: %s", t.names[f], text);
		}
		post_xfer(t.io, x);
		t.xfers[me * t.nr + f] = (uintptr_t)x;
	}
	return NULL;
}

static void run(uint32_t op, void *bytes)
{
	unsigned int all = POSTERS * t.nr, left = all;
	size_t size = t.nr * PER_FILE;
	pthread_t threads[POSTERS];
	struct dmabuf_mem mem;

	if (dmabuf_mem_open(&mem, t.spec, size) || dmabuf_mem_copy_to(&mem, 0, bytes, size))
		errx(1, "%s", dmabuf_mem_why());
	t.mem = register_mem(t.io, &mem, t.flags);
	if (t.mem < 0)
		errx(1, "%s: no buffer: %s (a dma-buf? else --bounce)", t.spec, strerror(-t.mem));
	t.op = op;
	for (uintptr_t i = 0; i < POSTERS; i++)
		if (pthread_create(&threads[i], NULL, post, (void *)i))
			errx(1, "no threads");
	for (unsigned int i = 0; left; i = (i + 1) % all) {
		struct xfer *x = (struct xfer *)t.xfers[i];
		int ret = x ? check_xfer(t.io, x) : XFER_IN_PROGRESS;

		if (ret < 0)
			errx(1, "%s: %s", t.names[i % t.nr], strerror(-ret));
		if (ret == XFER_IN_PROGRESS)
			continue;
		t.copied += x->copied;
		release_req(t.io, x);
		t.xfers[i] = 0;
		left--;
	}
	for (unsigned int i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	if (deregister_mem(t.io, t.mem) || dmabuf_mem_copy_from(&mem, 0, bytes, size))
		errx(1, "the memory is still in use, or gone: %s", dmabuf_mem_why());
	dmabuf_mem_close(&mem);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	if (key == 'm')
		t.spec = arg;
	else if (key == 'b')
		t.flags = DMABUF_IO_BOUNCE;
	else if (key == ARGP_KEY_ARG && t.nr < MAX_FILES)
		t.names[t.nr++] = arg;
	else if (key == ARGP_KEY_NO_ARGS)
		argp_usage(state);
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

static const struct argp_option options[] = {
	{ "memory", 'm', "SPEC", 0, "udmabuf (default), heap:NAME, cuda:N; to bounce: host", 0 },
	{ "bounce", 'b', NULL, 0, "By way of memory of the CPU, with any kernel", 0 },
	{ 0 },
};

static const struct argp argp = { options, parse, "FILE...", NULL, NULL, NULL, NULL };

int main(int argc, char **argv)
{
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	for (size_t i = 0; i < t.nr * PER_FILE / sizeof(*pattern); i++)
		pattern[i] = (i + 1) * 0x9e3779b97f4a7c15;
	if (dmabuf_io_open(&t.io, NULL))
		errx(1, "no io_uring: see the sysctl io_uring_disabled, and seccomp");
	for (unsigned int f = 0; f < t.nr; f++) {
		int mode = O_RDWR | O_CREAT | O_CLOEXEC | (t.flags ? 0 : O_DIRECT);
		int fd = open(t.names[f], mode, 0600);

		if (fd < 0)
			err(1, "%s", t.names[f]);
		t.files[f] = register_file(t.io, fd);
		close(fd);
	}
	run(DMABUF_IO_WRITE, pattern);
	run(DMABUF_IO_READ, back);
	if (memcmp(back, pattern, t.nr * PER_FILE))
		errx(1, "other bytes have come back");
	printf("%lu bytes written and read back, the CPU copied %lu\n", t.nr * PER_FILE, t.copied);
	dmabuf_io_close(t.io);
	return t.copied && !t.flags;
}
