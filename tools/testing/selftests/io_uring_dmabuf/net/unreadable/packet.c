// SPDX-License-Identifier: GPL-2.0
/* Packet sockets see the headers of device memory that is being sent, and no more */
#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include "cards.h"

TEST_F(cards, packet_sockets)
{
	struct unread_rig *rig = &self->rig;
	static const enum probe_kind kinds[] = {
		PROBE_RAW, PROBE_DGRAM, PROBE_RING2, PROBE_RING3,
	};
	const char *dev = rig->net.dev[NET_CARD];

	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++) {
		ASSERT_EQ(0, probe_here(rig, &rig->probe[i], dev, kinds[i],
					ETH_P_ALL));
	}
	SEND_BOTH();
	RECV_BOTH();
	EXPECT_TRUE(probes_wait(rig->probe, ARRAY_SIZE(kinds)));
	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++)
		check_probe(_metadata, &rig->probe[i]);
	CHECK_OVER();
}

/*
 * On arrival, a socket for one protocol is the last in line and gets the packet
 * itself, not a copy.
 */
TEST_F(unread, packet_sockets_on_arrival)
{
	struct unread_rig *rig = &self->rig;
	struct probe *p = &rig->probe[0];

	VETH_UP();
	MIRRED("ingress mirror", VETH);
	for (int kind = PROBE_RAW; kind <= PROBE_RING3; kind++) {
		ASSERT_EQ(0, probe_here(rig, p, VETH, kind, ETH_P_IP));
		SEND_BOTH();
		RECV_BOTH();
		EXPECT_TRUE(probes_wait(p, 1));
		EXPECT_TRUE(probe_wait_unreadable(p, 1));
		check_probe(_metadata, p);
		probe_close(p);
	}
	EXPECT_EQ(0, undo_all(&rig->undo));
	CHECK_OVER();
}

/* A ring whose frames are too short for headers; whole packets are queued, too */
static int ring_of_stubs(struct probe *p)
{
	struct tpacket_req req = {
		.tp_block_size = 4096,
		.tp_block_nr = 64,
		.tp_frame_size = 64,
		.tp_frame_nr = 64 * 4096 / 64,
	};
	int ret = net_set(p->fd, SOL_PACKET, PACKET_VERSION, TPACKET_V2);

	if (!ret && setsockopt(p->fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)))
		ret = -errno;
	return ret ?: net_set(p->fd, SOL_PACKET, PACKET_COPY_THRESH, 1);
}

/* Who listens, but does not read, keeps nobody from taking the memory back */
static void idle(struct __test_metadata *_metadata, struct unread_rig *rig, bool ring)
{
	struct probe *p = &rig->probe[0];

	VETH_UP();
	MIRRED("ingress mirror", VETH);
	ASSERT_EQ(0, probe_here(rig, p, VETH, PROBE_RAW, ETH_P_IP));
	if (ring)
		ASSERT_EQ(0, ring_of_stubs(p));
	SEND_BOTH();
	RECV_BOTH();
	CHECK_OVER();
	EXPECT_TRUE(probes_wait(p, 1));
	check_probe(_metadata, p);
	EXPECT_EQ(0, undo_all(&rig->undo));
}

TEST_F(unread, idle_packet_socket)
{
	idle(_metadata, &self->rig, false);
}

TEST_F(unread, idle_packet_ring)
{
	idle(_metadata, &self->rig, true);
}

TEST_HARNESS_MAIN
