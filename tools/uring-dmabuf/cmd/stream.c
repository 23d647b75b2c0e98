// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* send and recv: what both do */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <linux/dma-buf.h>

#include "stream.h"

#define TICK	200	/* ms, until a signal is seen */

void stream_set_magic(char magic[static 8], const char *what)
{
	memset(magic, 0, 8);
	memcpy(magic, what, strnlen(what, 8));
}

bool stream_is_magic(const char magic[static 8], const char *what)
{
	char right[8];

	stream_set_magic(right, what);
	return !memcmp(magic, right, 8);
}

uint64_t stream_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int wait_for(int fd, short events, uint64_t until)
{
	struct pollfd p = { .fd = fd, .events = events };
	int n;

	for (;;) {
		if (cp_stop)
			return -EINTR;
		n = poll(&p, 1, TICK);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (stream_ms() >= until)
			return -ETIMEDOUT;
	}
}

int stream_put(int fd, const void *data, size_t len, unsigned int seconds)
{
	uint64_t until = stream_ms() + seconds * 1000ULL;

	while (len) {
		int ret = wait_for(fd, POLLOUT, until);
		ssize_t n;

		if (ret)
			return ret;
		n = send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n > 0) {
			data = (const char *)data + n;
			len -= (size_t)n;
		}
	}
	return 0;
}

static int get(int fd, void *data, size_t len, unsigned int seconds)
{
	uint64_t until = stream_ms() + seconds * 1000ULL;

	while (len) {
		int ret = wait_for(fd, POLLIN, until);
		ssize_t n;

		if (ret)
			return ret;
		n = recv(fd, data, len, MSG_DONTWAIT);
		if (!n)
			return -ENODATA;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n > 0) {
			data = (char *)data + n;
			len -= (size_t)n;
		}
	}
	return 0;
}

int stream_get_reply(int fd, struct stream_reply *r, unsigned int seconds)
{
	int ret = get(fd, r, sizeof(*r), seconds);

	if (ret)
		return ret;
	r->error = (int32_t)le32toh((uint32_t)r->error);
	if (!stream_is_magic(r->magic, "udmabufR") || r->text[sizeof(r->text) - 1] ||
	    r->error < 0 || r->error > 4095)
		return -EPROTO;
	if (!*r->text)
		snprintf(r->text, sizeof(r->text), "%s", strerror(r->error));
	/* it goes to a terminal */
	for (char *c = r->text; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	return 0;
}

int stream_put_reply(int fd, int err, const char *text)
{
	struct stream_reply r = { .error = (int32_t)htole32((uint32_t)-err) };
	size_t len = strlen(text), room = sizeof(r.text) - 1;

	stream_set_magic(r.magic, "udmabufR");
	/* a path comes first, and the reason last */
	if (len > room)
		snprintf(r.text, sizeof(r.text), "...%s", text + len - room + 3);
	else
		memcpy(r.text, text, len);
	return send(fd, &r, sizeof(r), MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(r) ? 0 : -EPIPE;
}

static int sync_cpu(const struct dmabuf_mem *mem, uint64_t flags)
{
	struct dma_buf_sync sync = { .flags = flags };
	int ret;

	if (mem->fd < 0)
		return 0;
	do {
		ret = ioctl(mem->fd, DMA_BUF_IOCTL_SYNC, &sync);
	} while (ret && (errno == EINTR || errno == EAGAIN));
	return ret ? -errno : 0;
}

int stream_cpu_begin(const struct dmabuf_mem *mem, bool write)
{
	return sync_cpu(mem, DMA_BUF_SYNC_START | (write ? DMA_BUF_SYNC_WRITE : DMA_BUF_SYNC_READ));
}

int stream_cpu_end(const struct dmabuf_mem *mem, bool write)
{
	return sync_cpu(mem, DMA_BUF_SYNC_END | (write ? DMA_BUF_SYNC_WRITE : DMA_BUF_SYNC_READ));
}

int stream_prepare(struct dmabuf_io *io, int buffer, int nr, const char *memory,
		   const struct target *target)
{
	struct io_uring_dmabuf_reason why;
	struct verdict v = { 0 };
	int ret = dmabuf_io_prepare(io, buffer, nr, &why);

	if (!ret)
		return 0;
	fail_register(&v, target, ret, &why);
	fprintf(stderr, "uring-dmabuf: %s, %s: %s: %s\n"
		"  (--bounce moves the same by ordinary memory)\n", memory, target->name, v.reason, v.text);
	return ret;
}

int stream_memory(const struct cp_options *o, struct dmabuf_mem *mem, size_t size)
{
	const char *spec = o->bounce ? "host" : o->memory;
	int ret = dmabuf_mem_open(mem, spec, size);

	if (ret) {
		fprintf(stderr, "uring-dmabuf: %s: %s\n", spec, dmabuf_mem_why());
		return ret;
	}
	if (mem->fd >= 0 || o->bounce)
		return 0;
	fprintf(stderr, "uring-dmabuf: %s is no dma-buf: --bounce takes such memory\n", spec);
	dmabuf_mem_close(mem);
	return -EINVAL;
}

uint64_t stream_blocks(uint64_t size, uint32_t block)
{
	return size / block + !!(size % block);
}

uint32_t stream_block_len(uint64_t size, uint32_t block, uint64_t nr)
{
	uint64_t left = size - nr * block;

	return left < block ? (uint32_t)left : block;
}

void stream_start(struct stream_options *o, struct copier *c)
{
	c->o = &o->o;
	c->nr_jobs = 1;
	c->jobs[0].from.fd = c->jobs[0].to.fd = -1;
	progress_start();
	catch_signals();
}

bool stream_has_kernel(struct copier *c)
{
	struct verdict v = { 0 };

	if (c->o->bounce || !kernel_check(&v))
		return true;
	fprintf(stderr, "uring-dmabuf: %s\n  (--bounce moves the same by ordinary memory)\n", v.text);
	c->no_kernel = true;
	return false;
}

int stream_open_ring(struct dmabuf_io **io, struct copier *c)
{
	struct dmabuf_io_params params = { .max_targets = STREAM_MAX + 1 };
	int ret = dmabuf_io_open(io, &params);

	if (ret)
		c->no_kernel = cp_no_ring(ret);
	return ret;
}

int stream_outcome(const struct copier *c)
{
	const struct job *job = &c->jobs[0];

	if (c->no_kernel)
		return EXIT_KERNEL;
	if (c->wrong)
		return EXIT_WRONG;
	if (job->finished)
		return EXIT_WORKS;
	return cp_stop && !job->failed ? 128 + SIGINT : EXIT_REFUSED;
}
