// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <linux/dma-buf.h>
#include <linux/dma-buf-bar.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>

#include "lab.h"
#include "mem.h"

#define BOUNCE		(256 * KiB)	/* CPU copies of BAR memory and disks */

static __u64 mix(__u64 x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	return x ^ (x >> 29);
}

__u64 rnd(__u64 *state)
{
	return mix((*state)++);
}

__u64 rnd_aligned(__u64 *state, __u64 max, __u64 align)
{
	return rnd(state) % (max / align + 1) * align;
}

/*
 * Most of what a test computes is the pattern: one mix() for eight words, which differ
 * by what belongs to their place in them.
 */
#define LINE		64
#define LINE_WORDS	(LINE / 8)
#define WORD_STEP	0x9fb21c651e98df25ULL

static __u64 pattern_line(__u64 pos, __u64 seed)
{
	return mix(pos / LINE ^ seed << 40);
}

static __u64 pattern_word(__u64 pos, __u64 seed)
{
	return pattern_line(pos, seed) ^ pos / 8 % LINE_WORDS * WORD_STEP;
}

static void line_fill(unsigned char *p, __u64 line)
{
	#pragma GCC unroll 8
	for (__u64 i = 0; i < LINE_WORDS; i++) {
		__u64 w = line ^ i * WORD_STEP;

		memcpy(p + 8 * i, &w, 8);
	}
}

static bool line_matches(const unsigned char *p, __u64 line)
{
	__u64 diff = 0;

	#pragma GCC unroll 8
	for (__u64 i = 0; i < LINE_WORDS; i++) {
		__u64 w;

		memcpy(&w, p + 8 * i, 8);
		diff |= w ^ line ^ i * WORD_STEP;
	}
	return !diff;
}

static bool whole_line(__u64 pos, size_t len)
{
	return pos % LINE == 0 && len >= LINE;
}

static size_t min_size(__u64 a, __u64 b)
{
	return a < b ? a : b;
}

void pattern_fill(void *dst, __u64 pos, size_t len, __u64 seed)
{
	unsigned char *p = dst;

	while (len) {
		__u64 w = pattern_word(pos, seed);
		size_t skip = pos % 8;
		size_t n = min_size(8 - skip, len);

		if (whole_line(pos, len)) {
			n = LINE;
			line_fill(p, w);
		} else {
			memcpy(p, (unsigned char *)&w + skip, n);
		}
		p += n;
		pos += n;
		len -= n;
	}
}

static long long mismatch(size_t at, int got, int want)
{
	fprintf(stderr, "# byte 0x%zx is 0x%02x, must be 0x%02x\n", at, got, want);
	return at;
}

long long pattern_check(const void *src, __u64 pos, size_t len, __u64 seed)
{
	const unsigned char *p = src;
	size_t done = 0;

	while (done < len) {
		__u64 w = pattern_word(pos + done, seed);
		const unsigned char *want = (unsigned char *)&w;
		size_t skip = (pos + done) % 8;
		size_t n = min_size(8 - skip, len - done);

		if (whole_line(pos + done, len - done) &&
		    line_matches(p + done, w)) {
			done += LINE;
			continue;
		}
		for (size_t i = 0; i < n; i++)
			if (p[done + i] != want[skip + i])
				return mismatch(done + i, p[done + i],
						want[skip + i]);
		done += n;
	}
	return NO_MISMATCH;
}

long long poison_check(const void *src, size_t len, int byte)
{
	const unsigned char *p = src;

	if (!len || (p[0] == byte && !memcmp(p, p + 1, len - 1)))
		return NO_MISMATCH;
	for (size_t i = 0; i < len; i++)
		if (p[i] != byte)
			return mismatch(i, p[i], byte);
	return NO_MISMATCH;
}

int memfd_sealed(__u64 size, char **map)
{
	int fd = memfd_create("iou-dmabuf", MFD_ALLOW_SEALING | MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, size) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))
		goto fail;
	*map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (*map == MAP_FAILED)
		goto fail;
	return fd;
fail:
	close(fd);
	return -ENOMEM;
}

/* Page i of the dma-buf is memfd page order(i): even pages, then odd ones */
static __u64 split_order(__u64 i, __u64 pages)
{
	__u64 even = (pages + 1) / 2;

	return i < even ? i * 2 : (i - even) * 2 + 1;
}

int udmabuf_pieces(const struct udmabuf_create_item *items, __u32 nr)
{
	struct udmabuf_create_list *list;
	size_t len = nr * sizeof(*items);
	int dev, fd;

	dev = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return -errno;
	list = malloc(sizeof(*list) + len);
	list->flags = UDMABUF_FLAGS_CLOEXEC;
	list->count = nr;
	memcpy(list->list, items, len);
	fd = ioctl(dev, UDMABUF_CREATE_LIST, list);
	fd = fd < 0 ? -errno : fd;
	free(list);
	close(dev);
	return fd;
}

static int udmabuf_create(__u64 size, int memfd, bool split)
{
	__u64 pages = split ? size / 4096 : 1;
	struct udmabuf_create_item *items = calloc(pages, sizeof(*items));
	int fd;

	for (__u64 i = 0; i < pages; i++) {
		items[i].memfd = memfd;
		items[i].offset = split ? split_order(i, pages) * 4096 : 0;
		items[i].size = split ? 4096 : size;
	}
	fd = udmabuf_pieces(items, pages);
	free(items);
	return fd;
}

static int heap_alloc(const char *heap, __u64 size)
{
	struct dma_heap_allocation_data data = {
		.len = size,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	int dev = open(heap, O_RDWR | O_CLOEXEC);
	int ret;

	if (dev < 0)
		return -errno;
	ret = ioctl(dev, DMA_HEAP_IOCTL_ALLOC, &data);
	ret = ret < 0 ? -errno : (int)data.fd;
	close(dev);
	return ret;
}

static int bar_ioctl(unsigned long cmd, void *arg)
{
	int dev = open("/dev/dmabuf_bar", O_RDWR | O_CLOEXEC);
	int ret;

	if (dev < 0)
		return -errno;
	ret = ioctl(dev, cmd, arg) < 0 ? -errno : 0;
	close(dev);
	return ret;
}

int mem_create_bar(struct mem *m, __u64 size, __u32 flags, __u32 chunk)
{
	struct dma_buf_bar_create arg = {
		.size = size,
		.flags = flags,
		.chunk = chunk,
	};
	int ret, tries = 400;

	/* what rings that just exited had registered is freed shortly after */
	do {
		ret = bar_ioctl(DMA_BUF_BAR_IOC_CREATE, &arg);
		if (ret == -ENOSPC)
			usleep(50000);
	} while (ret == -ENOSPC && tries--);
	if (ret)
		return ret;
	*m = (struct mem) { .fd = arg.fd, .size = size, .kind = MEM_BAR };
	return 0;
}

void mem_wrap(struct mem *m, int fd, __u64 size, void *map)
{
	*m = (struct mem) { .fd = fd, .size = size, .kind = MEM_UDMABUF,
			    .map = map };
}

bool mem_is_bar(const struct mem *m)
{
	return m->kind >= MEM_BAR;
}

const char *mem_kind_name(enum mem_kind kind)
{
	static const char *const names[] = {
		"udmabuf", "udmabuf-4k", "system-heap", "cma-heap", "bar", "bar-4k",
		"bar-64k", "bar-system", "bar-64k-separate", "bar-mixed",
	};

	return names[kind];
}

static int mem_map(struct mem *m)
{
	m->map = mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
	if (m->map != MAP_FAILED)
		return 0;
	m->map = NULL;
	close(m->fd);
	m->fd = -1;
	return -ENOMEM;
}

static int mem_create_udmabuf(struct mem *m, bool split)
{
	char *map;
	int memfd = memfd_sealed(m->size, &map);

	if (memfd < 0)
		return memfd;
	munmap(map, m->size);
	m->fd = udmabuf_create(m->size, memfd, split);
	close(memfd);
	return m->fd < 0 ? m->fd : mem_map(m);
}

int mem_create(struct mem *m, enum mem_kind kind, __u64 size)
{
	__u32 frag = DMA_BUF_BAR_FRAGMENTED;
	int ret;

	*m = (struct mem) { .fd = -1, .size = size, .kind = kind };
	switch (kind) {
	case MEM_UDMABUF:
	case MEM_UDMABUF_4K:
		return mem_create_udmabuf(m, kind == MEM_UDMABUF_4K);
	case MEM_HEAP:
		m->fd = heap_alloc("/dev/dma_heap/system", size);
		return m->fd < 0 ? m->fd : mem_map(m);
	case MEM_CMA:
		m->fd = heap_alloc("/dev/dma_heap/default_cma_region", size);
		return m->fd < 0 ? m->fd : mem_map(m);
	case MEM_BAR:
		return mem_create_bar(m, size, 0, 0);
	case MEM_BAR_4K:
		ret = mem_create_bar(m, size, frag, 4 * KiB);
		break;
	case MEM_BAR_64K:
		ret = mem_create_bar(m, size, frag, 64 * KiB);
		break;
	case MEM_BAR_64K_SEPARATE:
		ret = mem_create_bar(m, size, frag | DMA_BUF_BAR_SEPARATE,
				     64 * KiB);
		break;
	case MEM_BAR_MIXED:
		ret = mem_create_bar(m, size, frag | DMA_BUF_BAR_SEPARATE |
				     DMA_BUF_BAR_MIXED, 4 * KiB);
		break;
	case MEM_BAR_SYSTEM:
		ret = mem_create_bar(m, size, DMA_BUF_BAR_START_SYSTEM, 0);
		break;
	default:
		return -EINVAL;
	}
	m->kind = kind;
	return ret;
}

void mem_destroy(struct mem *m)
{
	if (m->map)
		munmap(m->map, m->size);
	if (m->fd >= 0)
		close(m->fd);
	*m = (struct mem) { .fd = -1 };
}

static int bar_copy(const struct mem *m, unsigned long cmd, __u64 off,
		    void *buf, size_t len)
{
	struct dma_buf_bar_io io = {
		.fd = m->fd,
		.off = off,
		.len = len,
		.uptr = (uintptr_t)buf,
	};

	return bar_ioctl(cmd, &io);
}

/* udmabuf and the heap want their CPU access announced */
static int mem_sync(const struct mem *m, __u64 flags)
{
	struct dma_buf_sync sync = { .flags = flags };

	return ioctl(m->fd, DMA_BUF_IOCTL_SYNC, &sync) < 0 ? -errno : 0;
}

int mem_get(const struct mem *m, __u64 off, void *dst, size_t len)
{
	if (mem_is_bar(m))
		return bar_copy(m, DMA_BUF_BAR_IOC_PEEK, off, dst, len);
	mem_sync(m, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ);
	memcpy(dst, m->map + off, len);
	mem_sync(m, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ);
	return 0;
}

int mem_put(const struct mem *m, __u64 off, const void *src, size_t len)
{
	if (mem_is_bar(m))
		return bar_copy(m, DMA_BUF_BAR_IOC_POKE, off, (void *)src, len);
	mem_sync(m, DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE);
	memcpy(m->map + off, src, len);
	mem_sync(m, DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE);
	return 0;
}

/* Either the pattern of @seed at @pos, or @byte when @byte >= 0 */
struct content {
	__u64 pos, seed;
	int byte;
};

static void content_make(const struct content *c, void *buf, __u64 done,
			 size_t len)
{
	if (c->byte >= 0)
		memset(buf, c->byte, len);
	else
		pattern_fill(buf, c->pos + done, len, c->seed);
}

static long long content_check(const struct content *c, const void *buf,
			       __u64 done, size_t len)
{
	long long at;

	if (c->byte >= 0)
		at = poison_check(buf, len, c->byte);
	else
		at = pattern_check(buf, c->pos + done, len, c->seed);
	return at < 0 ? at : (long long)done + at;
}

static void *bounce_alloc(void)
{
	void *buf = NULL;

	if (posix_memalign(&buf, 4096, BOUNCE))
		abort();
	return buf;
}

static int mem_set(const struct mem *m, __u64 off, __u64 len,
		   const struct content *c)
{
	void *buf = bounce_alloc();
	__u64 done = 0;
	int ret = 0;

	while (!ret && done < len) {
		size_t n = min_size(len - done, BOUNCE);

		content_make(c, buf, done, n);
		ret = mem_put(m, off + done, buf, n);
		done += n;
	}
	free(buf);
	return ret;
}

static long long mem_verify(const struct mem *m, __u64 off, __u64 len,
			    const struct content *c)
{
	long long at = NO_MISMATCH;
	void *buf = bounce_alloc();
	__u64 done = 0;

	while (at < 0 && done < len) {
		size_t n = min_size(len - done, BOUNCE);

		if (mem_get(m, off + done, buf, n))
			at = done;
		else
			at = content_check(c, buf, done, n);
		done += n;
	}
	free(buf);
	if (at >= 0)
		fprintf(stderr, "# in %s memory at offset 0x%llx (start 0x%llx)\n",
			mem_kind_name(m->kind), off + at, off);
	return at;
}

int mem_fill(const struct mem *m, __u64 off, __u64 pos, __u64 len, __u64 seed)
{
	struct content c = { .pos = pos, .seed = seed, .byte = -1 };

	return mem_set(m, off, len, &c);
}

long long mem_check(const struct mem *m, __u64 off, __u64 pos, __u64 len,
		    __u64 seed)
{
	struct content c = { .pos = pos, .seed = seed, .byte = -1 };

	return mem_verify(m, off, len, &c);
}

int mem_poison(const struct mem *m, __u64 off, __u64 len, int byte)
{
	struct content c = { .byte = byte };

	return mem_set(m, off, len, &c);
}

long long mem_check_poison(const struct mem *m, __u64 off, __u64 len, int byte)
{
	struct content c = { .byte = byte };

	return mem_verify(m, off, len, &c);
}

long long mem_check_only(const struct mem *m, __u64 off, __u64 pos, __u64 len,
			 __u64 seed)
{
	long long at = mem_check(m, off, pos, len, seed);

	if (at < 0)
		at = mem_check_poison(m, 0, off, POISON);
	if (at < 0)
		at = mem_check_poison(m, off + len, m->size - off - len, POISON);
	return at;
}

static int disk_set(int fd, __u64 off, __u64 len, const struct content *c)
{
	void *buf = bounce_alloc();
	__u64 done = 0;
	int ret = 0;

	while (!ret && done < len) {
		size_t n = min_size(len - done, BOUNCE);

		content_make(c, buf, done, n);
		if (pwrite(fd, buf, n, off + done) != (ssize_t)n)
			ret = errno ? -errno : -EIO;
		done += n;
	}
	free(buf);
	return ret;
}

static long long disk_verify(int fd, __u64 off, __u64 len,
			     const struct content *c)
{
	long long at = NO_MISMATCH;
	void *buf = bounce_alloc();
	__u64 done = 0;

	while (at < 0 && done < len) {
		size_t n = min_size(len - done, BOUNCE);

		/* O_DIRECT wants whole sectors; the file may end before */
		memset(buf, POISON, n);
		if (pread(fd, buf, (n + 511) & ~511UL, off + done) < (ssize_t)n)
			at = done;
		else
			at = content_check(c, buf, done, n);
		done += n;
	}
	free(buf);
	if (at >= 0)
		fprintf(stderr, "# on disk at offset 0x%llx (start 0x%llx)\n",
			off + at, off);
	return at;
}

int disk_fill(int fd, __u64 off, __u64 len, __u64 seed)
{
	struct content c = { .pos = off, .seed = seed, .byte = -1 };

	return disk_set(fd, off, len, &c);
}

long long disk_check(int fd, __u64 off, __u64 pos, __u64 len, __u64 seed)
{
	struct content c = { .pos = pos, .seed = seed, .byte = -1 };

	return disk_verify(fd, off, len, &c);
}

int disk_poison(int fd, __u64 off, __u64 len, int byte)
{
	struct content c = { .byte = byte };

	return disk_set(fd, off, len, &c);
}

long long disk_check_poison(int fd, __u64 off, __u64 len, int byte)
{
	struct content c = { .byte = byte };

	return disk_verify(fd, off, len, &c);
}

int bar_move(const struct mem *m, __u32 place)
{
	struct dma_buf_bar_move arg = { .fd = m->fd, .place = place };

	return bar_ioctl(DMA_BUF_BAR_IOC_MOVE, &arg);
}

int bar_revoke(const struct mem *m, bool on)
{
	struct dma_buf_bar_fd arg = { .fd = m->fd, .arg = on };

	return bar_ioctl(DMA_BUF_BAR_IOC_REVOKE, &arg);
}

int bar_fence(const struct mem *m, __u32 arg)
{
	struct dma_buf_bar_fd f = { .fd = m->fd, .arg = arg };

	return bar_ioctl(DMA_BUF_BAR_IOC_FENCE, &f);
}

/* Interruptibly, soon: the exporter does so once it has the lock, and waits for that otherwise */
static bool sleeps(pid_t pid)
{
	double end = lab_now() + 10;
	char path[40], stat[256];
	const char *state;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	while (lab_now() < end) {
		if (file_read(path, stat, sizeof(stat)))
			return false;
		state = strrchr(stat, ')');
		if (state && state[1] && state[2] == 'S')
			return true;
		lab_sleep_ms(1);
	}
	return false;
}

pid_t bar_hold(const struct mem *m)
{
	struct dma_buf_bar_fd f = { .fd = m->fd, .arg = 10000 };
	int begins[2];
	pid_t pid;
	char c = 0;

	if (pipe(begins))
		return -errno;
	pid = fork();
	if (!pid) {
		if (write(begins[1], &c, 1) != 1)
			_exit(1);
		_exit(bar_ioctl(DMA_BUF_BAR_IOC_HOLD, &f) ? 2 : 0);
	}
	close(begins[1]);
	if (pid > 0 && read(begins[0], &c, 1) != 1)
		pid = -ECHILD;
	close(begins[0]);
	/* it is the next thing that it does */
	if (pid > 0 && !sleeps(pid))
		pid = -ETIME;
	return pid;
}

int bar_let_go(pid_t holder)
{
	int status;

	kill(holder, SIGKILL);
	if (waitpid(holder, &status, 0) != holder)
		return -errno;
	return WIFSIGNALED(status) ? 0 : -ETIME;
}

int bar_info(const struct mem *m, struct dma_buf_bar_info *info)
{
	memset(info, 0, sizeof(*info));
	info->fd = m->fd;
	return bar_ioctl(DMA_BUF_BAR_IOC_INFO, info);
}
