/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Exact counts of what the kernel did, from trace events and kprobes, in a
 * private tracefs instance.  Everything on the machine is counted, so only
 * the program under test should be running.
 */
#ifndef BENCH_COUNTERS_H
#define BENCH_COUNTERS_H

#include <stdint.h>

struct counts {
	uint64_t dma_map;	/* calls of the DMA API that map, one per segment */
	uint64_t dma_unmap;
	uint64_t iommu_map;	/* below it: page table changes */
	uint64_t iommu_unmap;
	uint64_t flush;		/* IOTLB invalidations that the CPU waited for */
	uint64_t commands;	/* NVMe reads and writes */
	uint64_t command_bytes;
	uint64_t command_max;	/* bytes of the largest */
	uint64_t copy_bytes;	/* by the CPU, in the data path, or COPIES_UNKNOWN */
};

#define COPIES_UNKNOWN	UINT64_MAX

/* All return 0 or -errno, and say on stderr what failed. */
int counters_open(void);
void counters_close(void);
int counters_start(void);

/* Counts only what @cpu does. */
int counters_cpu(unsigned int cpu);

/*
 * Shows @line every event, behind those counted from it in @c: its name and its
 * fields; and @event, which is not counted.
 */
int counters_watch(const char *event, void (*line)(void *ctx, struct counts *c, const char *name,
						   const char *fields), void *ctx);

/* Stops, and adds to @counts.  @block: logical block size of the drive. */
int counters_stop(struct counts *counts, unsigned int block);

#endif
