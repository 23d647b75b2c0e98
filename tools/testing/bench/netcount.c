// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "counters.h"
#include "fail.h"
#include "link.h"
#include "netcount.h"
#include "program.h"

#define MAX_HEADERS	65536u

static uint64_t number(const char *fields, const char *key, int base)
{
	const char *at = strstr(fields, key);

	return at ? strtoull(at + strlen(key), NULL, base) : 0;
}

static bool of_card(const struct netcount *n, const char *fields)
{
	size_t len = strlen(n->link->pci);

	return fields[0] == ' ' && !strncmp(fields + 1, n->link->pci, len) &&
	       fields[len + 1] == ' ';
}

/* What is linear in an skb of TCP's sender is its headers, ... */
static void packet(struct netcount *n, const char *fields)
{
	uint64_t segs = number(fields, " gso_segs=", 10);
	char name[IF_NAMESIZE + 8];

	snprintf(name, sizeof(name), "dev=%s ", n->link->dev[NET_CARD]);
	if (!strstr(fields, name))
		return;
	n->packets++;
	n->segments += segs ? segs : 1;
	n->linear = number(fields, " len=", 10) - number(fields, " data_len=", 10);
}

/* The most that a card writes headers to, where it splits them off */
#define SPLIT_HEADER	256

/* ... and in front of segmentation some drivers pull a few bytes of payload there. */
#define PULLED	4

static void map(struct netcount *n, const char *fields)
{
	uint64_t addr = number(fields, " dma_addr=", 16), size = number(fields, " size=", 10);

	if (!strstr(fields, " dir=TO_DEVICE")) {
		n->receive.map++;
		n->received.map += size > SPLIT_HEADER;
		return;
	}
	if (size < n->linear || size > n->linear + PULLED || n->nr_headers == MAX_HEADERS) {
		n->payload.map++;
		return;
	}
	n->linear = 0;
	n->header.map++;
	n->headers[n->nr_headers++] = addr;
}

static bool is_header(struct netcount *n, uint64_t addr)
{
	for (unsigned int i = 0; i < n->nr_headers; i++) {
		if (n->headers[i] == addr) {
			n->headers[i] = n->headers[--n->nr_headers];
			return true;
		}
	}
	return false;
}

/* The event comes behind the invalidations that the unmap waited for. */
static void unmap(struct netcount *n, const char *fields, uint64_t flush)
{
	struct use *use = &n->payload;

	if (!strstr(fields, " dir=TO_DEVICE")) {
		use = &n->receive;
		n->received.unmap += number(fields, " size=", 10) > SPLIT_HEADER;
	}
	else if (is_header(n, number(fields, " dma_addr=", 16)))
		use = &n->header;
	use->unmap++;
	use->flush += flush - n->flushed;
	n->flushed = flush;
}

static void line(void *ctx, struct counts *c, const char *name, const char *fields)
{
	struct netcount *n = ctx;

	if (!strcmp(name, "net_dev_start_xmit"))
		packet(n, fields);
	else if (!strcmp(name, "dma_map_phys") && of_card(n, fields))
		map(n, fields);
	else if (!strcmp(name, "dma_unmap_phys") && of_card(n, fields))
		unmap(n, fields, c->flush);
}

int netcount_open(struct netcount *n, const struct netrig *link)
{
	int ret = counters_cpu(SENDER_CPU);

	*n = (struct netcount){ .link = link };
	n->headers = malloc(MAX_HEADERS * sizeof(*n->headers));
	if (!n->headers)
		return fail("memory for the counts", ENOMEM, "a larger guest?");
	return ret ? ret : counters_watch("net/net_dev_start_xmit", line, n);
}

/* To 0; and the counts that come beside it are new, too. */
void netcount_reset(struct netcount *n)
{
	*n = (struct netcount){ .link = n->link, .headers = n->headers };
}

static int each(unsigned int nr, int (*run)(void *ctx, unsigned int i, struct netcount *n),
		void *ctx, struct netcount *n)
{
	int ret = 0;

	for (unsigned int i = 0; i < nr && !ret; i++)
		ret = run(ctx, i, n);
	return ret;
}

int netcount_cases(const struct netrig *link, const struct options *o, unsigned int nr,
		   int (*run)(void *ctx, unsigned int i, struct netcount *n), void *ctx)
{
	struct netcount n;
	int ret = o->insn_windows ? each(nr, run, ctx, NULL) : 0;

	if (ret || !o->event_windows)
		return ret;
	ret = counters_open();
	if (!ret)
		ret = netcount_open(&n, link);
	if (!ret)
		ret = each(nr, run, ctx, &n);
	counters_close();
	return ret;
}
