// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "counters.h"
#include "fail.h"
#include "lab.h"

#define TRACEFS		"/sys/kernel/tracing"
#define INSTANCE	TRACEFS "/instances/regbuf-bench"
#define GROUP		"regbuf_bench"
#define BUFFER_KB	"32768"

static void count_one(uint64_t *n, uint64_t value)
{
	(void)value;
	(*n)++;
}

static void count_value(uint64_t *n, uint64_t value)
{
	*n += value;
}

/*
 * Functions without a trace event.  dma_iova_*() is the half of the DMA API
 * that has none; dma_iova_destroy() unmaps without calling dma_iova_unlink().
 * Every copy between an iov_iter and kernel memory ends in one of the leaves
 * named here, so none is counted twice.  The bytes are the function's argument.
 *
 * lib/ is built without ftrace, and a kprobe event there needs
 * CONFIG_KPROBE_EVENTS_ON_NOTRACE; without it the bytes are not known, which
 * is said and never shown as 0.
 */
static const struct probe {
	const char *symbol, *fetch;
	size_t field;
	void (*count)(uint64_t *n, uint64_t value);
	enum need { OPTIONAL, REQUIRED, COPIES } need;
} probes[] = {
#define ONE(s, f)		{ s, "", offsetof(struct counts, f), count_one, REQUIRED }
#define BYTES(s, arg, need)	{ s, "v=" arg, offsetof(struct counts, copy_bytes), count_value, need }
	ONE("dma_iova_link", dma_map),
	ONE("dma_iova_unlink", dma_unmap),
	ONE("dma_iova_destroy", dma_unmap),
	BYTES("_copy_to_iter", "%si:u64", COPIES),
	BYTES("_copy_from_iter", "%si:u64", COPIES),
	BYTES("_copy_mc_to_iter", "%si:u64", OPTIONAL),
	BYTES("_copy_from_iter_nocache", "%si:u64", OPTIONAL),
	BYTES("_copy_from_iter_flushcache", "%si:u64", OPTIONAL),
	BYTES("copy_page_to_iter_nofault", "%dx:u32", OPTIONAL),
	BYTES("copy_folio_from_iter_atomic", "%dx:u64", OPTIONAL),
	BYTES("bio_copy_data_iter", "+8(%si):u32", OPTIONAL),
	BYTES("skb_copy_bits", "%cx:u32", OPTIONAL),
#undef BYTES
#undef ONE
};

#define NR_PROBES	(sizeof(probes) / sizeof(probes[0]))

/*
 * One descriptor of the invalidation queue, kept apart by type: 2 and 6 empty
 * the IOTLB, 3 and 8 a device's own TLB; the rest is interrupt remapping and
 * context entries.  Each call waits for the hardware.
 */
#define FLUSH_PROBE	"qi_submit_sync"
#define FLUSH_FETCH	"v=+0(%si):b4@0/64"

static const struct event {
	const char *name;	/* as in the trace */
	const char *path;
	size_t field;
	bool required;
} events[] = {
	{ "dma_map_phys", "dma/dma_map_phys", offsetof(struct counts, dma_map), true },
	{ "dma_map_sg", "dma/dma_map_sg", offsetof(struct counts, dma_map), true },
	{ "dma_unmap_phys", "dma/dma_unmap_phys", offsetof(struct counts, dma_unmap), true },
	{ "dma_unmap_sg", "dma/dma_unmap_sg", offsetof(struct counts, dma_unmap), true },
	{ "map", "iommu/map", offsetof(struct counts, iommu_map), false },
	{ "unmap", "iommu/unmap", offsetof(struct counts, iommu_unmap), false },
};

#define NR_EVENTS	(sizeof(events) / sizeof(events[0]))

static bool copies_known = true;

static void (*watcher)(void *ctx, struct counts *c, const char *name, const char *fields);
static void *watcher_ctx;

/* Beside those that others have made */
static int kprobe_event(const char *line)
{
	int fd = open(TRACEFS "/kprobe_events", O_WRONLY | O_CLOEXEC | O_APPEND);
	int ret;

	if (fd < 0)
		return -errno;
	ret = write(fd, line, strlen(line)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

static int must_write(const char *path, const char *text)
{
	int ret = file_write(path, text);

	return ret ? fail(path, -ret, "tracefs of a lab kernel?") : 0;
}

static int add_probe(const char *symbol, const char *fetch)
{
	char line[256];
	int ret;

	snprintf(line, sizeof(line), "p:" GROUP "/%s %s %s", symbol, symbol, fetch);
	ret = kprobe_event(line);
	if (ret)
		return ret;
	snprintf(line, sizeof(line), INSTANCE "/events/" GROUP "/%s/enable", symbol);
	return must_write(line, "1");
}

static int add_needed_probe(const struct probe *probe)
{
	int ret = add_probe(probe->symbol, probe->fetch);

	if (!ret || probe->need == OPTIONAL)
		return 0;
	if (probe->need == REQUIRED)
		return fail(probe->symbol, -ret, "a kprobe the counts need; CONFIG_KPROBE_EVENTS?");
	copies_known = false;
	fail(probe->symbol, -ret, "copies cannot be counted; CONFIG_KPROBE_EVENTS_ON_NOTRACE?");
	return 0;
}

static int enable_event(const char *path, bool required)
{
	char file[256];

	snprintf(file, sizeof(file), INSTANCE "/events/%s/enable", path);
	if (!required && access(file, F_OK))
		return 0;
	return must_write(file, "1");
}

int counters_open(void)
{
	int ret;

	if (mkdir(INSTANCE, 0755) && errno != EEXIST)
		return fail(INSTANCE, errno, "is tracefs mounted, and is this root?");
	ret = must_write(INSTANCE "/tracing_on", "0");
	if (!ret)
		ret = must_write(INSTANCE "/buffer_size_kb", BUFFER_KB);
	if (!ret)
		ret = must_write(INSTANCE "/trace_options", "nocontext-info");
	for (size_t i = 0; i < NR_PROBES && !ret; i++)
		ret = add_needed_probe(&probes[i]);
	if (!ret)
		ret = add_probe(FLUSH_PROBE, FLUSH_FETCH);
	for (size_t i = 0; i < NR_EVENTS && !ret; i++)
		ret = enable_event(events[i].path, events[i].required);
	if (!ret)
		ret = enable_event("nvme/nvme_setup_cmd", true);
	if (!ret)
		ret = enable_event("swiotlb/swiotlb_bounced", false);
	return ret;
}

void counters_close(void)
{
	char line[128];

	file_write(INSTANCE "/tracing_on", "0");
	file_write(INSTANCE "/events/enable", "0");
	rmdir(INSTANCE);
	for (size_t i = 0; i < NR_PROBES; i++) {
		snprintf(line, sizeof(line), "-:" GROUP "/%s", probes[i].symbol);
		kprobe_event(line);
	}
	kprobe_event("-:" GROUP "/" FLUSH_PROBE);
}

int counters_cpu(unsigned int cpu)
{
	char mask[16];

	snprintf(mask, sizeof(mask), "%x", 1u << cpu);
	return must_write(INSTANCE "/tracing_cpumask", mask);
}

int counters_watch(const char *event, void (*line)(void *ctx, struct counts *c, const char *name,
						   const char *fields), void *ctx)
{
	watcher = line;
	watcher_ctx = ctx;
	return enable_event(event, true);
}

int counters_start(void)
{
	int ret = file_write(INSTANCE "/trace", "");

	if (ret)
		return fail(INSTANCE "/trace", -ret, "cannot empty it");
	return must_write(INSTANCE "/tracing_on", "1");
}

static uint64_t number_after(const char *line, const char *key)
{
	const char *at = strstr(line, key);

	return at ? strtoull(at + strlen(key), NULL, 0) : 0;
}

static void count_command(struct counts *c, const char *line, unsigned int block)
{
	uint64_t bytes;

	if (!strstr(line, "(nvme_cmd_read ") && !strstr(line, "(nvme_cmd_write "))
		return;
	bytes = (number_after(line, " len=") + 1) * block;
	c->commands++;
	c->command_bytes += bytes;
	if (bytes > c->command_max)
		c->command_max = bytes;
}

static void count_flush(struct counts *c, uint64_t type)
{
	c->flush += type == 2 || type == 3 || type == 6 || type == 8;
}

static uint64_t *field(struct counts *c, size_t offset)
{
	return (uint64_t *)((char *)c + offset);
}

/* The fields of an event, "(address) v=.." of a kprobe. */
static void count_event(struct counts *c, const char *name, const char *colon, unsigned int block)
{
	if (!strcmp(name, "nvme_setup_cmd")) {
		count_command(c, colon, block);
		return;
	}
	if (!strcmp(name, "swiotlb_bounced")) {
		c->copy_bytes += number_after(colon, " size=");
		return;
	}
	if (!strcmp(name, FLUSH_PROBE)) {
		count_flush(c, number_after(colon, " v="));
		return;
	}
	for (size_t i = 0; i < NR_EVENTS; i++)
		if (!strcmp(name, events[i].name))
			(*field(c, events[i].field))++;
	for (size_t i = 0; i < NR_PROBES; i++)
		if (!strcmp(name, probes[i].symbol))
			probes[i].count(field(c, probes[i].field), number_after(colon, " v="));
}

static void count_line(struct counts *c, char *line, unsigned int block)
{
	char *colon = strchr(line, ':');

	if (line[0] == '#' || !colon)
		return;
	*colon++ = '\0';
	count_event(c, line, colon, block);
	if (watcher)
		watcher(watcher_ctx, c, line, colon);
}

/* A full buffer drops events: then the counts are worth nothing. */
static int check_nothing_lost(void)
{
	char line[128];
	glob_t stats;
	int ret = 0;

	if (glob(INSTANCE "/per_cpu/cpu*/stats", 0, NULL, &stats))
		return fail(INSTANCE "/per_cpu", ENOENT, "tracefs has no statistics");
	for (size_t i = 0; i < stats.gl_pathc; i++) {
		FILE *f = fopen(stats.gl_pathv[i], "r");

		while (f && fgets(line, sizeof(line), f))
			if (number_after(line, "overrun: ") || number_after(line, "dropped events: "))
				ret = -EOVERFLOW;
		if (f)
			fclose(f);
	}
	globfree(&stats);
	return ret ? fail("trace buffer", -ret, "events were lost: fewer I/Os per window") : 0;
}

int counters_stop(struct counts *counts, unsigned int block)
{
	int ret = must_write(INSTANCE "/tracing_on", "0");
	char *line = NULL;
	size_t room = 0;
	FILE *f;

	if (!ret)
		ret = check_nothing_lost();
	if (ret)
		return ret;
	f = fopen(INSTANCE "/trace", "r");
	if (!f)
		return fail(INSTANCE "/trace", errno, "cannot read it");
	while (getline(&line, &room, f) > 0)
		count_line(counts, line, block);
	free(line);
	fclose(f);
	if (!copies_known)
		counts->copy_bytes = COPIES_UNKNOWN;
	return 0;
}
