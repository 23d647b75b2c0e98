// SPDX-License-Identifier: GPL-2.0
/*
 * A driver that closes the interface itself, for a self test, and has no memory to
 * open it again.
 */
#include <stdio.h>
#include <string.h>
#include <net/if.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>

#include "common.h"
#include "netio.h"
#include "rings.h"

#define SEED	NET_SEED
#define LEN	(1 * MiB)
#define FAILSLAB "/sys/kernel/debug/failslab/"
#define MARK	"/proc/thread-self/make-it-fail"
#define VMALLOC	"__vmalloc_node_range_noprof"

FIXTURE(reopen) {
	struct netrig net;
	struct rings before;
};

FIXTURE_VARIANT(reopen) {
	const char *card;
	const char *function;	/* that opens it */
};

FIXTURE_VARIANT_ADD(reopen, e1000e) { .card = "e1000e", .function = "e1000e_open" };
FIXTURE_VARIANT_ADD(reopen, igb) { .card = "igb", .function = "__igb_open" };

/* "name", or what a compiler makes of it: "name.isra.0" */
static bool is_name(const char *symbol, const char *name)
{
	size_t len = strlen(name);

	return !strncmp(symbol, name, len) && (!symbol[len] || symbol[len] == '.');
}

/* Where the code of a function is: up to the next symbol */
static int find_function(const char *name, __u64 *start, __u64 *end)
{
	unsigned long long addr;
	char symbol[128];

	*start = 0;
	*end = ~0ULL;
	for (int pass = 0; pass < 2; pass++) {
		FILE *f = fopen("/proc/kallsyms", "re");

		if (!f)
			return -errno;
		while (fscanf(f, "%llx %*c %127s%*[^\n]", &addr, symbol) == 2) {
			if (!pass && is_name(symbol, name) && !strstr(symbol, ".cold"))
				*start = addr;
			else if (pass && addr > *start && addr < *end)
				*end = addr;
		}
		fclose(f);
		if (!*start)
			return -ENOENT;
	}
	return 0;
}

/* Whose callers a setting is about */
static int set_callers(const char *which, __u64 start, __u64 end)
{
	char path[96], text[32];
	int ret;

	snprintf(path, sizeof(path), FAILSLAB "%s-start", which);
	snprintf(text, sizeof(text), "0x%llx", start);
	ret = file_write(path, text);
	snprintf(path, sizeof(path), FAILSLAB "%s-end", which);
	snprintf(text, sizeof(text), "0x%llx", end);
	return ret ?: file_write(path, text);
}

/* Allocations of this task in the function fail; not those of vmalloc(), which says so */
static int fail_in(const char *function)
{
	static const struct {
		const char *path, *value;
	} knobs[] = {
		{ FAILSLAB "ignore-gfp-wait", "N" },
		{ FAILSLAB "verbose", "0" },
		{ FAILSLAB "task-filter", "Y" },
		{ FAILSLAB "times", "-1" },
		{ MARK, "1" },
		{ FAILSLAB "probability", "100" },
	};
	__u64 start, end;
	int ret = find_function(VMALLOC, &start, &end);

	if (!ret)
		ret = set_callers("reject", start, end);
	if (!ret)
		ret = find_function(function, &start, &end);
	if (!ret)
		ret = set_callers("require", start, end);
	for (unsigned int i = 0; !ret && i < ARRAY_SIZE(knobs); i++)
		ret = file_write(knobs[i].path, knobs[i].value);
	return ret;
}

static void fail_end(void)
{
	file_write(FAILSLAB "probability", "0");
	file_write(FAILSLAB "task-filter", "N");
	file_write(MARK, "0");
	set_callers("require", 0, ~0ULL);
	set_callers("reject", 0, 0);
}

FIXTURE_SETUP(reopen)
{
	if (set_callers("require", 0, ~0ULL))
		SKIP(return, "no failslab, or without a filter of stack traces");
	NETRIG_UP(&self->net, variant->card, MEM_UDMABUF, 0);
	ASSERT_EQ(0, rings_get(&self->net, &self->before));
}

FIXTURE_TEARDOWN(reopen)
{
	fail_end();
	net_link(&self->net, NET_CARD, true);
	if (self->before.rx)
		rings_rx(&self->net, self->before.rx);
	netrig_down(&self->net);
}

static bool is_up(const struct netrig *n)
{
	struct ifreq ifr = { 0 };

	return !net_ioctl(n, NET_CARD, SIOCGIFFLAGS, &ifr) && ifr.ifr_flags & IFF_UP;
}

/* It is closed then, and can be set up, and opened */
TEST_F(reopen, self_test)
{
	struct {
		struct ethtool_test test;
		__u64 results[8];
	} t = { .test = { .cmd = ETHTOOL_TEST, .flags = ETH_TEST_FL_OFFLINE } };
	const struct piece p = { SEED, 0, LEN };
	struct netrig *n = &self->net;
	struct receiver rx;
	struct net_pair tcp;
	struct rings now;
	int ret;

	ASSERT_TRUE(is_up(n));
	ASSERT_EQ(0, fail_in(variant->function));
	ret = net_ethtool(n, NET_CARD, &t);
	fail_end();
	ASSERT_EQ(0, ret);
	EXPECT_NE(0, t.test.flags & ETH_TEST_FL_FAILED);
	/* what comes next would wait for ever */
	ASSERT_FALSE(is_up(n));

	ASSERT_EQ(0, rings_rx(n, 128));
	ASSERT_EQ(0, net_link(n, NET_CARD, true));
	ASSERT_EQ(0, rings_get(n, &now));
	EXPECT_EQ(128, now.rx);
	ASSERT_EQ(0, net_tcp(n, AF_INET, &tcp));
	ASSERT_EQ(0, receiver_start(&rx, tcp.tx, &p, 1));
	EXPECT_EQ(0, piece_send(tcp.rx, &p, 0));
	EXPECT_EQ(0, receiver_join(&rx));
	net_close(&tcp);
}

TEST_HARNESS_MAIN
