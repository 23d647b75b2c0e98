// SPDX-License-Identifier: GPL-2.0
/* Device memory and connections whose segments have to be signed */
#include "common.h"

#define LEN	100

FIXTURE(keys) {
	struct rig rig;
	struct iovec iov;
};

FIXTURE_VARIANT(keys) {
	int family;
};

FIXTURE_VARIANT_ADD(keys, ipv4) { .family = AF_INET };
FIXTURE_VARIANT_ADD(keys, ipv6) { .family = AF_INET6 };

FIXTURE_SETUP(keys)
{
	RIG_UP(&self->rig);
	self->iov.iov_len = LEN;
	ASSERT_EQ(0, tcp_open(&self->rig.tcp, &self->rig.nsim,
			      variant->family));
}

FIXTURE_TEARDOWN(keys)
{
	rig_down(&self->rig);
}

typedef int (*set_key_fn)(int sk, enum side peer, int family);

/* Returns 0, -errno, or what is wrong */
static int refused(struct rig *rig, int family, set_key_fn set_key)
{
	struct iovec iov = { .iov_base = NULL, .iov_len = LEN };
	struct tcp_pair *tcp = &rig->tcp;
	char got[LEN];
	int ret;

	ret = set_key(tcp->listener, TX, family);
	if (!ret)
		ret = set_key(tcp->client, RX, family);
	if (!ret)
		ret = tcp_connect(tcp, family);
	if (ret)
		return ret;

	/* the connection works, ... */
	if (tcp_send(tcp->client, "before", 6, 0) != 6 ||
	    tcp_recv(tcp->server, got, 6) != 6)
		return 1;
	/* ... has its limits, ... */
	ret = tcp_send_devmem(tcp->client, rig->id, &iov, 1, 0);
	if (ret != -EOPNOTSUPP)
		return ret ?: 2;
	/* ... and still works */
	if (tcp_send(tcp->client, "after", 5, 0) != 5 ||
	    tcp_recv(tcp->server, got, 5) != 5)
		return 3;
	return memcmp(got, "after", 5) ? 4 : 0;
}

/*
 * A key can be set while the data is in the write queue, when it is too late to
 * refuse it.
 */
TEST_F(keys, key_after_send)
{
	struct rig *rig = &self->rig;
	struct timeval limit = { .tv_sec = 2 };
	long long failures;
	char got[LEN];
	int ret;

	ASSERT_EQ(0, tcp_connect(&rig->tcp, variant->family));
	/* should it leave before it is time, it has to be sent again */
	ASSERT_EQ(0, tcp_deaf(rig->tcp.server, 1));
	ASSERT_EQ(0, tcp_cork(rig->tcp.client, 1));
	ASSERT_EQ(LEN, tcp_send_devmem(rig->tcp.client, rig->id, &self->iov, 1,
				       0));
	ret = tcp_set_md5(rig->tcp.client, RX, variant->family);
	if (ret == -ENOPROTOOPT)
		SKIP(return, "no TCP-MD5");
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, tcp_set_md5(rig->tcp.server, TX, variant->family));
	failures = nsim_stat(&rig->nsim, RX, "TCPMD5Failure");
	ASSERT_EQ(0, tcp_deaf(rig->tcp.server, 0));
	ASSERT_EQ(0, tcp_cork(rig->tcp.client, 0));

	/* nothing comes, not even with a wrong signature */
	ASSERT_EQ(0, setsockopt(rig->tcp.server, SOL_SOCKET, SO_RCVTIMEO,
				&limit, sizeof(limit)));
	EXPECT_EQ(-EAGAIN, tcp_recv(rig->tcp.server, got, LEN));
	EXPECT_EQ(failures, nsim_stat(&rig->nsim, RX, "TCPMD5Failure"));
	EXPECT_EQ(-EOPNOTSUPP, tcp_send_devmem(rig->tcp.client, rig->id,
					       &self->iov, 1, 0));
}

TEST_F(keys, md5)
{
	int ret = refused(&self->rig, variant->family, tcp_set_md5);

	if (ret == -ENOPROTOOPT)
		SKIP(return, "no TCP-MD5");
	EXPECT_EQ(0, ret);
}

TEST_F(keys, ao)
{
	int ret = refused(&self->rig, variant->family, tcp_set_ao);

	if (ret == -ENOPROTOOPT)
		SKIP(return, "no TCP-AO");
	EXPECT_EQ(0, ret);
}

TEST_HARNESS_MAIN
