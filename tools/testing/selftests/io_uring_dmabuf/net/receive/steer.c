// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>
#include <linux/ethtool.h>

#include "rings.h"
#include "steer.h"

#define TABLE	128	/* places; of more, only so many cards are known */
#define KEY	64	/* bytes of a key, at most */

struct rss {
	struct ethtool_rxfh h;
	__u32 data[TABLE + KEY / 4];
};

int steer_queues(const struct netrig *n)
{
	struct ethtool_channels ch = { .cmd = ETHTOOL_GCHANNELS };
	int ret = net_ethtool(n, NET_CARD, &ch);

	if (ret == -EOPNOTSUPP)
		return 1;
	return ret ?: (int)(ch.combined_count + ch.rx_count);
}

int steer_set_queues(const struct netrig *n, unsigned int queues)
{
	struct ethtool_channels ch = { .cmd = ETHTOOL_GCHANNELS };
	int ret = net_ethtool(n, NET_CARD, &ch);

	if (ret)
		return ret;
	ch.cmd = ETHTOOL_SCHANNELS;
	ch.combined_count = queues;
	return net_ethtool(n, NET_CARD, &ch);
}

static int get(const struct netrig *n, struct rss *rss)
{
	int ret;

	memset(rss, 0, sizeof(*rss));
	rss->h.cmd = ETHTOOL_GRSSH;
	ret = net_ethtool(n, NET_CARD, rss);
	if (ret)
		return ret;
	if (rss->h.indir_size != TABLE || rss->h.key_size > KEY)
		return -EOVERFLOW;
	rss->h.cmd = ETHTOOL_GRSSH;
	return net_ethtool(n, NET_CARD, rss);
}

static int set(const struct netrig *n, struct rss *rss)
{
	rss->h.cmd = ETHTOOL_SRSSH;
	rss->h.key_size = 0;
	return net_ethtool(n, NET_CARD, rss);
}

int steer_all(const struct netrig *n, unsigned int queue)
{
	struct rss rss;
	int ret = get(n, &rss);

	for (unsigned int i = 0; i < TABLE; i++)
		rss.data[i] = queue;
	return ret ?: set(n, &rss);
}

int steer_default(const struct netrig *n)
{
	struct rss rss = { .h.cmd = ETHTOOL_SRSSH };

	return net_ethtool(n, NET_CARD, &rss);
}

struct flow {
	unsigned char bytes[36];
	unsigned int len;
};

static void add(struct flow *f, const void *bytes, unsigned int len)
{
	memcpy(f->bytes + f->len, bytes, len);
	f->len += len;
}

static void add_address(struct flow *f, const struct sockaddr_storage *ss)
{
	if (ss->ss_family == AF_INET)
		add(f, &((const struct sockaddr_in *)ss)->sin_addr, 4);
	else
		add(f, &((const struct sockaddr_in6 *)ss)->sin6_addr, 16);
}

/* Of what comes to @fd: from where, to where */
static int flow_of(int fd, struct flow *f)
{
	struct sockaddr_storage from, to;
	socklen_t len = sizeof(from);

	if (getpeername(fd, (void *)&from, &len))
		return -errno;
	len = sizeof(to);
	if (getsockname(fd, (void *)&to, &len))
		return -errno;
	f->len = 0;
	add_address(f, &from);
	add_address(f, &to);
	add(f, &((struct sockaddr_in *)&from)->sin_port, 2);
	add(f, &((struct sockaddr_in *)&to)->sin_port, 2);
	return 0;
}

/* Toeplitz: for each bit that is set, 32 bits of the key from there on */
static __u32 hash_of(const struct flow *f, const unsigned char *key)
{
	__u64 window = 0;
	__u32 hash = 0;

	for (unsigned int i = 0; i < 8; i++)
		window = window << 8 | key[i];
	for (unsigned int i = 0; i < f->len; i++) {
		for (unsigned int bit = 0; bit < 8; bit++) {
			if (f->bytes[i] & 0x80 >> bit)
				hash ^= window >> (32 - bit);
		}
		window = window << 8 | key[i + 8];
	}
	return hash;
}

static int place_of(const struct rss *rss, int fd, bool ports)
{
	struct flow f = { .len = 0 };
	int ret = flow_of(fd, &f);

	if (ret)
		return ret;
	if (!ports)
		f.len -= 4;
	if (f.len + 8 > KEY)
		return -EOVERFLOW;
	return hash_of(&f, (const unsigned char *)&rss->data[TABLE]) % TABLE;
}

int steer_flow(const struct netrig *n, int fd, unsigned int queue)
{
	struct rss rss;
	int ret = get(n, &rss);

	if (!ret)
		ret = place_of(&rss, fd, true);
	if (ret < 0)
		return ret;
	rss.data[ret] = queue;
	return set(n, &rss);
}

bool steer_alone(const struct netrig *n, int fd, int other)
{
	struct rss rss;
	int place;

	if (get(n, &rss))
		return false;
	place = place_of(&rss, fd, true);
	return place >= 0 && place != place_of(&rss, fd, false) &&
	       (other < 0 || place != place_of(&rss, other, true));
}

long long steer_packets(const struct netrig *n, unsigned int queue)
{
	char name[ETH_GSTRING_LEN];

	snprintf(name, sizeof(name), "rx_queue_%u_packets", queue);
	return card_stat(n, name);
}
