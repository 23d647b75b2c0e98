/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The memory under test: dma-bufs of several exporters behind one interface,
 * with a CPU view that does not go through the mapping under test, and byte
 * patterns that say where a byte belongs.
 */
#ifndef IOU_DMABUF_MEM_H
#define IOU_DMABUF_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <linux/types.h>

#define KiB		1024ULL
#define MiB		(1024 * KiB)
#define GiB		(1024 * MiB)
#define POISON		0xa5
#define NO_MISMATCH	(-1LL)

enum mem_kind {
	MEM_UDMABUF,		/* one memfd, as it comes */
	MEM_UDMABUF_4K,		/* its pages in an order without neighbours */
	MEM_HEAP,		/* system heap */
	MEM_CMA,		/* CMA heap: physically contiguous */
	MEM_BAR,		/* PCI memory, contiguous */
	MEM_BAR_4K,		/* PCI memory in shuffled 4 KiB pieces */
	MEM_BAR_64K,
	MEM_BAR_SYSTEM,		/* the movable exporter, in system memory */
	/* PCI memory, each piece with an address of its own behind an IOMMU, too */
	MEM_BAR_64K_SEPARATE,
	MEM_BAR_MIXED,		/* 4 KiB to 512 KiB, nine for each MiB */
};

struct mem {
	int fd;			/* the dma-buf */
	__u64 size;
	enum mem_kind kind;
	char *map;		/* CPU view, NULL for the BAR exporter */
};

/* 0 or -errno; -ENOENT and -ENXIO: no such exporter here */
int mem_create(struct mem *m, enum mem_kind kind, __u64 size);
void mem_destroy(struct mem *m);
/* The BAR exporter with its own flags; an O_RDONLY fd has no CPU view needed */
int mem_create_bar(struct mem *m, __u64 size, __u32 flags, __u32 chunk);
/* Takes ownership of a dma-buf fd with a CPU view at @map (may be NULL) */
void mem_wrap(struct mem *m, int fd, __u64 size, void *map);
bool mem_is_bar(const struct mem *m);
const char *mem_kind_name(enum mem_kind kind);

/* A udmabuf of @nr pieces of memfds: its fd or -errno */
struct udmabuf_create_item;
int udmabuf_pieces(const struct udmabuf_create_item *items, __u32 nr);
/* memfd with F_SEAL_SHRINK, mapped; -errno */
int memfd_sealed(__u64 size, char **map);

int mem_get(const struct mem *m, __u64 off, void *dst, size_t len);
int mem_put(const struct mem *m, __u64 off, const void *src, size_t len);

/* Byte p of the pattern depends on @seed and on p alone */
void pattern_fill(void *dst, __u64 pos, size_t len, __u64 seed);
/* Offset of the first wrong byte or NO_MISMATCH; says on stderr what it was */
long long pattern_check(const void *src, __u64 pos, size_t len, __u64 seed);
long long poison_check(const void *src, size_t len, int byte);

/* The same on [off, off + len) of the memory */
int mem_fill(const struct mem *m, __u64 off, __u64 pos, __u64 len, __u64 seed);
long long mem_check(const struct mem *m, __u64 off, __u64 pos, __u64 len,
		    __u64 seed);
int mem_poison(const struct mem *m, __u64 off, __u64 len, int byte);
long long mem_check_poison(const struct mem *m, __u64 off, __u64 len, int byte);
/* [off, off + len) is the pattern, everything else is still POISON */
long long mem_check_only(const struct mem *m, __u64 off, __u64 pos, __u64 len,
			 __u64 seed);

/* The witness: plain O_DIRECT pread/pwrite on an ordinary buffer */
int disk_fill(int fd, __u64 off, __u64 len, __u64 seed);
long long disk_check(int fd, __u64 off, __u64 pos, __u64 len, __u64 seed);
int disk_poison(int fd, __u64 off, __u64 len, int byte);
long long disk_check_poison(int fd, __u64 off, __u64 len, int byte);

/* The test exporter */
int bar_move(const struct mem *m, __u32 place);
int bar_revoke(const struct mem *m, bool on);
int bar_fence(const struct mem *m, __u32 arg);
/*
 * Holds the reservation lock for ten seconds, by a process of its own that is
 * returned; bar_let_go() ends it, -ETIME: that was after these ten seconds
 */
pid_t bar_hold(const struct mem *m);
int bar_let_go(pid_t holder);
struct dma_buf_bar_info;
int bar_info(const struct mem *m, struct dma_buf_bar_info *info);

/* Small deterministic random numbers */
__u64 rnd(__u64 *state);
/* A multiple of @align in [0, max] */
__u64 rnd_aligned(__u64 *state, __u64 max, __u64 align);

#endif
