// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/ethtool.h>
#include <linux/ethtool_netlink.h>
#include <linux/genetlink.h>

#include "rings.h"
#include "../../../net/netmem/netlink.h"

/* A request about the rings of the card */
static int start(int nl, struct nl_request *req, const struct netrig *n, __u8 cmd)
{
	const struct genlmsghdr genl = { .cmd = cmd, .version = ETHTOOL_GENL_VERSION };
	const char *dev = n->dev[NET_CARD];
	struct nlattr *nest;
	int family = nl_family(nl, ETHTOOL_GENL_NAME);

	if (family < 0)
		return family;
	nl_start(req, family, 0, &genl, sizeof(genl));
	nest = nl_put_attr(req, ETHTOOL_A_RINGS_HEADER | NLA_F_NESTED, NULL, 0);
	nl_put_attr(req, ETHTOOL_A_HEADER_DEV_NAME, dev, strlen(dev) + 1);
	nest->nla_len = (char *)req + req->nlh.nlmsg_len - (char *)nest;
	return 0;
}

static __u32 attr_u32(const char *reply, __u16 type)
{
	const __u32 *value = nl_attr(reply, GENL_HDRLEN, type);

	return value ? *value : 0;
}

int rings_get(const struct netrig *n, struct rings *r)
{
	char reply[1024] __attribute__((aligned(NLMSG_ALIGNTO)));
	int nl = nl_socket(NETLINK_GENERIC), ret;
	struct nl_request req;
	const __u8 *split;

	ret = nl < 0 ? nl : start(nl, &req, n, ETHTOOL_MSG_RINGS_GET);
	if (!ret)
		ret = nl_do(nl, &req, reply, sizeof(reply));
	if (nl >= 0)
		close(nl);
	if (ret <= 0)
		return ret ?: -EPROTO;
	split = nl_attr(reply, GENL_HDRLEN, ETHTOOL_A_RINGS_TCP_DATA_SPLIT);
	r->split = split ? *split : SPLIT_UNSET;
	r->hds_thresh = attr_u32(reply, ETHTOOL_A_RINGS_HDS_THRESH);
	r->rx = attr_u32(reply, ETHTOOL_A_RINGS_RX);
	return 0;
}

/* Of @split, @thresh and @rx those that are not NULL */
static int set(const struct netrig *n, const __u8 *split, const __u32 *thresh,
	       const __u32 *rx)
{
	int nl = nl_socket(NETLINK_GENERIC), ret;
	struct nl_request req;

	if (nl < 0)
		return nl;
	ret = start(nl, &req, n, ETHTOOL_MSG_RINGS_SET);
	if (!ret) {
		if (split)
			nl_put_attr(&req, ETHTOOL_A_RINGS_TCP_DATA_SPLIT, split, 1);
		if (thresh)
			nl_put_attr(&req, ETHTOOL_A_RINGS_HDS_THRESH, thresh, 4);
		if (rx)
			nl_put_attr(&req, ETHTOOL_A_RINGS_RX, rx, 4);
		ret = nl_do(nl, &req, NULL, 0);
	}
	close(nl);
	return ret;
}

int rings_split(const struct netrig *n, enum split split)
{
	const __u32 zero = 0;
	const __u8 value = split;

	return set(n, &value, &zero, NULL);
}

int rings_thresh(const struct netrig *n, __u32 hds_thresh)
{
	return set(n, NULL, &hds_thresh, NULL);
}

int rings_rx(const struct netrig *n, __u32 rx)
{
	return set(n, NULL, NULL, &rx);
}

/* Their names, for the caller to free, or NULL */
static struct ethtool_gstrings *stat_names(const struct netrig *n)
{
	struct {
		struct ethtool_sset_info info;
		__u32 count;
	} sset = { .info = { .cmd = ETHTOOL_GSSET_INFO,
			     .sset_mask = 1ULL << ETH_SS_STATS } };
	struct ethtool_gstrings *names;

	if (net_ethtool(n, NET_CARD, &sset))
		return NULL;
	names = calloc(1, sizeof(*names) + sset.count * ETH_GSTRING_LEN);
	if (!names)
		return NULL;
	names->cmd = ETHTOOL_GSTRINGS;
	names->string_set = ETH_SS_STATS;
	names->len = sset.count;
	if (!net_ethtool(n, NET_CARD, names))
		return names;
	free(names);
	return NULL;
}

static long long find_stat(const struct ethtool_gstrings *names,
			   const struct ethtool_stats *stats, const char *name)
{
	for (__u32 i = 0; i < names->len; i++)
		if (!strncmp((const char *)names->data + i * ETH_GSTRING_LEN, name,
			     ETH_GSTRING_LEN))
			return stats->data[i];
	return -ENOENT;
}

long long card_stat(const struct netrig *n, const char *name)
{
	struct ethtool_gstrings *names = stat_names(n);
	struct ethtool_stats *stats = NULL;
	long long ret = -ENOMEM;

	if (names)
		stats = calloc(1, sizeof(*stats) + names->len * sizeof(__u64));
	if (stats) {
		stats->cmd = ETHTOOL_GSTATS;
		stats->n_stats = names->len;
		ret = net_ethtool(n, NET_CARD, stats);
	}
	if (!ret)
		ret = find_stat(names, stats, name);
	free(stats);
	free(names);
	return ret;
}
