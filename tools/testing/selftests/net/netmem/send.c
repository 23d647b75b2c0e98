// SPDX-License-Identifier: GPL-2.0
/* That device memory arrives at all: what the other tests take for granted */
#include "common.h"

FIXTURE(send) {
	struct rig rig;
};

FIXTURE_VARIANT(send) {
	int family;
};

FIXTURE_VARIANT_ADD(send, ipv4) { .family = AF_INET };
FIXTURE_VARIANT_ADD(send, ipv6) { .family = AF_INET6 };

FIXTURE_SETUP(send)
{
	RIG_UP(&self->rig);
	ASSERT_EQ(0, rig_connect(&self->rig, variant->family));
}

FIXTURE_TEARDOWN(send)
{
	rig_down(&self->rig);
}

TEST_F(send, all)
{
	struct iovec iov = { .iov_base = NULL, .iov_len = MEM_SIZE };
	static unsigned char got[MEM_SIZE];
	struct rig *rig = &self->rig;
	int room = 4 * MEM_SIZE;

	/* nobody reads yet */
	ASSERT_EQ(0, setsockopt(rig->tcp.client, SOL_SOCKET, SO_SNDBUFFORCE,
				&room, sizeof(room)));
	ASSERT_EQ(MEM_SIZE, tcp_send_devmem(rig->tcp.client, rig->id, &iov, 1,
					    0));
	ASSERT_EQ(MEM_SIZE, tcp_recv(rig->tcp.server, got, MEM_SIZE));
	EXPECT_EQ(-1, first_diff(got, rig->map, MEM_SIZE));
	EXPECT_EQ(1, tcp_wait_notification(rig->tcp.client));
}

TEST_F(send, pieces)
{
	struct iovec iov[] = {
		{ .iov_base = (void *)1, .iov_len = 1 },
		{ .iov_base = (void *)(3 * PAGE - 100), .iov_len = 2000 },
		{ .iov_base = (void *)(MEM_SIZE - 5), .iov_len = 5 },
	};
	struct rig *rig = &self->rig;
	unsigned char got[2006], want[2006];

	want[0] = rig->map[1];
	memcpy(want + 1, rig->map + 3 * PAGE - 100, 2000);
	memcpy(want + 2001, rig->map + MEM_SIZE - 5, 5);
	ASSERT_EQ(2006, tcp_send_devmem(rig->tcp.client, rig->id, iov, 3, 0));
	ASSERT_EQ(2006, tcp_recv(rig->tcp.server, got, 2006));
	EXPECT_EQ(-1, first_diff(got, want, 2006));
}

TEST_F(send, no_such_binding)
{
	struct iovec iov = { .iov_base = NULL, .iov_len = PAGE };
	struct rig *rig = &self->rig;

	EXPECT_EQ(-EINVAL, tcp_send_devmem(rig->tcp.client, rig->id + 1, &iov,
					   1, 0));
}

TEST_HARNESS_MAIN
