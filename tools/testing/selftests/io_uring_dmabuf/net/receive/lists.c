// SPDX-License-Identifier: GPL-2.0
/*
 * Addresses come to a card and go, with other locks than receive queues are opened and
 * set up with. The card is told all of them whenever it comes up.
 */
#include <pthread.h>
#include <string.h>
#include <unistd.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>

#include "common.h"
#include "relay.h"
#include "../../../net/netmem/netlink.h"

#define SEED	NET_SEED
#define SIZE	(4 * MiB)
#define GROUPS	64
#define ADDRESSES 8	/* more, and the card takes whatever comes */

FIXTURE(lists) {
	struct relay relay;
	struct rings before;
};

FIXTURE_VARIANT(lists) {
	const char *card;
};

FIXTURE_VARIANT_ADD(lists, e1000e) { .card = "e1000e" };
FIXTURE_VARIANT_ADD(lists, igb) { .card = "igb" };

FIXTURE_SETUP(lists)
{
	struct relay *r = &self->relay;

	RELAY_UP_CARD(r, variant->card, MEM_UDMABUF_4K, SIZE, ZCRX_RING, MTU_PAGE_TCP4);
	ASSERT_EQ(0, rings_get(&r->net, &self->before));
	ASSERT_EQ(0, relay_open(r, 0, SIZE));
}

FIXTURE_TEARDOWN(lists)
{
	if (self->before.rx)
		rings_rx(&self->relay.net, self->before.rx);
	relay_down(&self->relay);
}

/* Addresses of one kind, and who lets them come and go */
struct crowd {
	unsigned char mac[6];	/* of the first: the last byte counts */
	unsigned int nr;
	int ifindex, nl;
	pthread_t thread;
	bool stop;
	unsigned int rounds;
	int error;
};

/* `bridge fdb add MAC dev CARD`: with RTNL, as a macvlan would */
static int change(const struct crowd *c, unsigned int i, bool come)
{
	struct ndmsg nd = {
		.ndm_family = AF_BRIDGE,
		.ndm_ifindex = c->ifindex,
		.ndm_state = NUD_PERMANENT,
		.ndm_flags = NTF_SELF,
	};
	unsigned char mac[6];
	struct nl_request req;
	int ret;

	memcpy(mac, c->mac, sizeof(mac));
	mac[5] += i;
	nl_start(&req, come ? RTM_NEWNEIGH : RTM_DELNEIGH,
		 come ? NLM_F_CREATE | NLM_F_EXCL : 0, &nd, sizeof(nd));
	nl_put_attr(&req, NDA_LLADDR, mac, sizeof(mac));
	ret = nl_do(c->nl, &req, NULL, 0);
	/* one that went while the card was stopped is there until it is told (igb) */
	return ret == (come ? -EEXIST : -ENOENT) ? 0 : ret;
}

static void *come_and_go(void *arg)
{
	struct crowd *c = arg;

	while (!c->error && !__atomic_load_n(&c->stop, __ATOMIC_ACQUIRE)) {
		for (unsigned int i = 0; !c->error && i < 2 * c->nr; i++)
			c->error = change(c, i % c->nr, i < c->nr);
		c->rounds++;
	}
	return NULL;
}

static void crowd_start(struct __test_metadata *_metadata, struct crowd *c,
			const struct relay *r)
{
	c->ifindex = relay_ifindex(r);
	c->nl = nl_socket(NETLINK_ROUTE);
	ASSERT_LE(0, c->nl);
	ASSERT_EQ(0, pthread_create(&c->thread, NULL, come_and_go, c));
}

static void crowd_end(struct __test_metadata *_metadata, struct crowd *c)
{
	__atomic_store_n(&c->stop, true, __ATOMIC_RELEASE);
	pthread_join(c->thread, NULL);
	close(c->nl);
	EXPECT_EQ(0, c->error);
	EXPECT_GT(c->rounds, 0);
}

/*
 * A list that grows while the card is told of it had more than there was room for.
 * KASAN has to see that.
 */
TEST_F(lists, change_meanwhile)
{
	const struct piece p = { SEED, 0, 2 * MiB };
	struct relay *r = &self->relay;
	struct relay_run run = { 0 };
	struct crowd groups = {
		.mac = { 0x01, 0x00, 0x5e, 0x49, 0x49 }, .nr = GROUPS,
	};
	struct crowd addresses = {
		.mac = { 0x02, 0x00, 0x00, 0x49, 0x49 }, .nr = ADDRESSES,
	};

	crowd_start(_metadata, &groups, r);
	crowd_start(_metadata, &addresses, r);
	for (unsigned int i = 0; i < lab_scale(20, 40); i++) {
		ASSERT_EQ(0, relay_reopen(r, SIZE));
		/* which stops all queues, where there are several */
		ASSERT_EQ(0, rings_rx(&r->net, i % 2 ? self->before.rx : 128));
	}
	crowd_end(_metadata, &groups);
	crowd_end(_metadata, &addresses);
	ASSERT_EQ(0, net_wait_running(&r->net, NET_CARD));
	ASSERT_EQ(0, relay_connect(r, AF_INET));
	ASSERT_EQ(0, relay_run(r, &p, &run));
}

TEST_HARNESS_MAIN
