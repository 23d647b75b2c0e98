// SPDX-License-Identifier: GPL-2.0
/* Packets with device memory that are led to other devices do not get there */
#include <string.h>
#include <linux/if_ether.h>

#include "fixture.h"

#define TO_ALL		"ff:ff:ff:ff:ff:ff"

/*
 * @how the packets are led to @dev, behind which is the first probe. Those that
 * @dev does not take count as dropped.
 */
static void check_mirred(struct __test_metadata *_metadata, struct unread_rig *rig,
			 const char *how, const char *dev)
{
	long long dropped = stat_of(dev, "tx_dropped");
	bool arrives = strstr(how, "mirror");
	struct probe *p = &rig->probe[0];
	unsigned int nr = rig->undo.nr;

	ASSERT_GE(dropped, 0);
	MIRRED(how, dev);
	SEND_BOTH();
	if (arrives)
		RECV_BOTH();
	EXPECT_TRUE(probes_wait(p, 1));
	EXPECT_TRUE(stat_wait(dev, "tx_dropped", dropped + 1));
	probe_read(p);
	check_probe(_metadata, p);
	EXPECT_EQ(0, p->nr_unreadable);
	EXPECT_EQ(0, undo_to(&rig->undo, nr));
	probe_close(p);
	if (!arrives)
		RECV_BOTH();
}

#define CHECK_MIRRED(how, dev)	check_mirred(_metadata, rig, how, dev)

TEST_F(unread, mirred_to_veth)
{
	struct unread_rig *rig = &self->rig;

	VETH_UP();
	ASSERT_EQ(0, probe_far(rig, &rig->probe[0]));
	CHECK_MIRRED("egress redirect", VETH);
	ASSERT_EQ(0, probe_far(rig, &rig->probe[0]));
	CHECK_MIRRED("egress mirror", VETH);
	EXPECT_EQ(0, undo_all(&rig->undo));
	CHECK_OVER();
}

/* It could take the memory: there is a mapping for it, but not the packet's */
TEST_F(unread, mirred_to_card)
{
	struct unread_rig *rig = &self->rig;
	struct netrig *n = &rig->net, *other = &rig->other;
	struct io_uring_regbuf_desc add;

	NETRIG_UP(other, variant->other, MEM_UDMABUF, 0);
	ASSERT_EQ(0, net_tcp(other, AF_INET, &rig->aside));
	add = desc_add(rig->aside.tx);
	ASSERT_EQ(0, reg_one(&n->ring, 0, &add));
	EXPECT_EQ(0, net_works(n, 0, &rig->aside));
	ASSERT_EQ(0, probe_other(rig, &rig->probe[0]));
	CHECK_MIRRED("egress redirect", other->dev[NET_CARD]);
	ASSERT_EQ(0, probe_other(rig, &rig->probe[0]));
	CHECK_MIRRED("egress mirror", other->dev[NET_CARD]);
	EXPECT_EQ(0, net_works(n, 0, &rig->aside));
	CHECK_OVER();
}

TEST_F(unread, redirect_to_tun)
{
	struct unread_rig *rig = &self->rig;

	for (int tap = 0; tap < 2; tap++) {
		TUN_OPEN(tap);
		CHECK_MIRRED("egress redirect", TUN);
	}
	CHECK_OVER();
}

/*
 * The packets arrive by another device, and the way on is one more. Our sockets
 * stay with the card.
 */
TEST_F(unread, forward)
{
	struct unread_rig *rig = &self->rig;
	struct netrig *n = &rig->net, *other = &rig->other;
	struct probe *p = rig->probe;
	long long dropped;

	NETRIG_UP(other, variant->other, MEM_UDMABUF, 0);
	VETH_UP();
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, net_bind_card(n, i ? rig->tcp.tx : rig->ordinary.tx));
	}
	ASSERT_EQ(0, reroute(rig, other->dev[NET_CARD], TO_ALL));
	ASSERT_EQ(0, sysctl_on(&rig->undo, NULL, "ip_forward"));
	ASSERT_EQ(0, sysctl_on(&rig->undo, VETH, "accept_local"));
	ASSERT_EQ(0, probe_other(rig, &p[0]));
	ASSERT_EQ(0, probe_here(rig, &p[1], VETH, PROBE_RAW, ETH_P_ALL));
	dropped = stat_of(other->dev[NET_CARD], "tx_dropped");
	MIRRED("ingress redirect", VETH);

	SEND_BOTH();
	EXPECT_TRUE(probes_wait(p, 2));
	EXPECT_TRUE(stat_wait(other->dev[NET_CARD], "tx_dropped", dropped + 1));
	for (int i = 0; i < 2; i++) {
		probe_read(&p[i]);
		check_probe(_metadata, &p[i]);
		EXPECT_EQ(0, p[i].nr_unreadable);
		probe_close(&p[i]);
	}
	EXPECT_EQ(0, undo_all(&rig->undo));
	RECV_BOTH();
	CHECK_OVER();
}

TEST_HARNESS_MAIN
