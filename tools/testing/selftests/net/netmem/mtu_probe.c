// SPDX-License-Identifier: GPL-2.0
/*
 * MTU probes are made of the frags at the head of the write queue. What is
 * sent here is more than a probe needs, on a connection that may send one.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include "common.h"

#define HEADERS_MAX	(ETH_HLEN + 60 + 60)

FIXTURE(mtu_probe) {
	struct rig rig;
};

FIXTURE_SETUP(mtu_probe)
{
	struct rig *rig = &self->rig;

	RIG_UP(rig);
	ASSERT_EQ(0, nsim_sysctl(&rig->nsim, TX, "net/ipv4/tcp_mtu_probing",
				 "2"));
	ASSERT_EQ(0, rig_connect(rig, AF_INET));
	ASSERT_EQ(0, tcp_warm_up(&rig->tcp));
}

FIXTURE_TEARDOWN(mtu_probe)
{
	rig_down(&self->rig);
}

static long long probes(const struct rig *rig)
{
	return nsim_stat(&rig->nsim, TX, "TCPMTUPSuccess");
}

TEST_F(mtu_probe, whole)
{
	struct iovec iov = { .iov_base = NULL, .iov_len = 4 * PAGE };
	struct rig *rig = &self->rig;
	unsigned char got[4 * PAGE];
	long long before = probes(rig);

	ASSERT_EQ(4 * PAGE, tcp_send_devmem(rig->tcp.client, rig->id, &iov, 1,
					    0));
	ASSERT_EQ(4 * PAGE, tcp_recv(rig->tcp.server, got, 4 * PAGE));
	EXPECT_EQ(-1, first_diff(got, rig->map, 4 * PAGE));
	ASSERT_EQ(0, tcp_wait_acked(rig->tcp.client));
	EXPECT_LT(before, probes(rig));
}

/* The second piece starts where the first one ends, but in another page */
TEST_F(mtu_probe, pieces)
{
	const size_t len = 1000, rest = PAGE - len, all = 3 * PAGE;
	struct rig *rig = &self->rig;
	struct iovec iov[] = {
		{ .iov_base = NULL, .iov_len = len },
		{ .iov_base = (void *)(5 * PAGE + len), .iov_len = rest },
		{ .iov_base = (void *)(8 * PAGE), .iov_len = 2 * PAGE },
	};
	unsigned char got[3 * PAGE], want[3 * PAGE];
	long long before = probes(rig);

	memcpy(want, rig->map, len);
	memcpy(want + len, rig->map + 5 * PAGE + len, rest);
	memcpy(want + PAGE, rig->map + 8 * PAGE, 2 * PAGE);
	ASSERT_EQ(all, tcp_send_devmem(rig->tcp.client, rig->id, iov, 3, 0));
	ASSERT_EQ(all, tcp_recv(rig->tcp.server, got, all));
	EXPECT_EQ(-1, first_diff(got, want, all));
	ASSERT_EQ(0, tcp_wait_acked(rig->tcp.client));
	EXPECT_LT(before, probes(rig));
}

/*
 * A send has been done with when the peer has acknowledged it. Ordinary memory,
 * as it makes no difference; the second send is too large to share the
 * notification of the first one.
 */
TEST_F(mtu_probe, notification)
{
	const size_t len = 500, more = 512 * 1024;
	struct rig *rig = &self->rig;
	int sndbuf = 1 << 20;
	unsigned char *buf;
	char got[500];

	buf = mmap(NULL, more, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ASSERT_NE(MAP_FAILED, buf);
	ASSERT_EQ(0, setsockopt(rig->tcp.client, SOL_SOCKET, SO_SNDBUFFORCE,
				&sndbuf, sizeof(sndbuf)));
	ASSERT_EQ(0, tcp_deaf(rig->tcp.server, 1));
	memset(buf, 1, more);
	ASSERT_EQ(len, tcp_send(rig->tcp.client, buf, len,
				MSG_ZEROCOPY | MSG_MORE));
	ASSERT_LT(0, tcp_send(rig->tcp.client, buf, more,
			      MSG_ZEROCOPY | MSG_DONTWAIT));
	EXPECT_EQ(0, tcp_notification(rig->tcp.client));

	/* it does come in the end */
	ASSERT_EQ(0, tcp_deaf(rig->tcp.server, 0));
	ASSERT_EQ(len, tcp_recv(rig->tcp.server, got, len));
	EXPECT_EQ(-1, first_diff((void *)got, buf, len));
	EXPECT_EQ(1, tcp_wait_notification(rig->tcp.client));
	munmap(buf, more);
}

/*
 * A packet socket gets what it may read. This comes last: a kernel that takes a
 * probe for ordinary memory may not survive it.
 */
TEST_F(mtu_probe, packet_socket)
{
	struct iovec iov = { .iov_base = NULL, .iov_len = 4 * PAGE };
	struct sockaddr_ll ll = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = self->rig.nsim.ifindex[TX],
	};
	struct rig *rig = &self->rig;
	unsigned char got[4 * PAGE];
	char *packet = malloc(65536);
	int sk, n = 0;
	ssize_t len;

	ASSERT_EQ(0, ns_enter(rig->nsim.ns[TX]));
	sk = socket(AF_PACKET, SOCK_RAW, 0);
	ASSERT_EQ(0, ns_enter(rig->nsim.home));
	ASSERT_LE(0, sk);
	ASSERT_EQ(0, bind(sk, (void *)&ll, sizeof(ll)));

	ASSERT_EQ(4 * PAGE, tcp_send_devmem(rig->tcp.client, rig->id, &iov, 1,
					    0));
	ASSERT_EQ(4 * PAGE, tcp_recv(rig->tcp.server, got, 4 * PAGE));
	EXPECT_EQ(-1, first_diff(got, rig->map, 4 * PAGE));

	/* acknowledgments at least, and no payload */
	while ((len = recv(sk, packet, 65536, MSG_DONTWAIT)) > 0) {
		EXPECT_GE(HEADERS_MAX, len);
		n++;
	}
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_LT(0, n);
	close(sk);
	free(packet);
}

TEST_HARNESS_MAIN
