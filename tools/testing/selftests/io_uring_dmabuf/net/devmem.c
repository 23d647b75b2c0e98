// SPDX-License-Identifier: GPL-2.0
/*
 * Devmem TCP by the same cards: sendmsg() with SCM_DEVMEM_DMABUF, which makes packets
 * of as many pieces as there is room for.
 */
#include <poll.h>
#include <unistd.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "common.h"
#include "netio.h"
#include "../../net/netmem/cmsg.h"
#include "../../net/netmem/netlink.h"

#define SIZE	(1 * MiB)
#define SEED	NET_SEED
#define PIECE	50		/* all of a send are less than one segment */
#define MAX	17		/* pieces, MAX_SKB_FRAGS */

FIXTURE(devmem) {
	struct netrig net;
	struct net_pair tcp;
	int nl;			/* the binding lasts as long */
	__u32 id;
};

FIXTURE_VARIANT(devmem) {
	const char *card;
	unsigned int most;	/* pieces that it takes in a packet that is not segmented */
};

FIXTURE_VARIANT_ADD(devmem, e1000e) { .card = "e1000e", .most = MAX };
FIXTURE_VARIANT_ADD(devmem, vmxnet3) { .card = "vmxnet3", .most = 14 };
FIXTURE_VARIANT_ADD(devmem, igb) { .card = "igb", .most = MAX };

FIXTURE_SETUP(devmem)
{
	struct netrig *n = &self->net;

	self->tcp = NET_PAIR_NONE;
	self->nl = -1;
	NETRIG_UP(n, variant->card, MEM_UDMABUF, SIZE);
	ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, SEED));
	self->nl = netdev_socket();
	ASSERT_LE(0, self->nl);
	ASSERT_EQ(0, netdev_bind_tx(self->nl, if_nametoindex(n->dev[NET_CARD]), n->mem.fd,
				    &self->id));
	ASSERT_EQ(0, net_tcp(n, AF_INET, &self->tcp));
	ASSERT_EQ(0, net_set(self->tcp.tx, SOL_SOCKET, SO_ZEROCOPY, 1));
}

FIXTURE_TEARDOWN(devmem)
{
	net_close(&self->tcp);
	if (self->nl >= 0)
		close(self->nl);
	netrig_down(&self->net);
}

/* Pieces that do not touch, in one call: bytes or -errno */
static ssize_t send_pieces(int fd, __u32 id, const struct piece *pieces, unsigned int nr)
{
	char control[CMSG_SPACE(sizeof(id))] __attribute__((aligned(8)));
	struct iovec iov[MAX];
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = nr };
	ssize_t ret;

	pieces_iov(pieces, nr, iov);
	cmsg_put(&msg, control, SOL_SOCKET, SCM_DEVMEM_DMABUF, &id, sizeof(id));
	ret = sendmsg(fd, &msg, MSG_ZEROCOPY | MSG_NOSIGNAL);
	return ret < 0 ? -errno : ret;
}

static void make_pieces(struct piece *pieces, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		pieces[i] = (struct piece) { SEED, 8192 * i + 13 * nr, PIECE };
}

/* An error of the socket: its errno, or 0 if none comes. A notification is none */
static int wait_error(int fd)
{
	double end = net_deadline();
	socklen_t len;
	int err = 0;

	while (!err && lab_now() < end) {
		len = sizeof(err);
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len))
			return -errno;
		if (!err)
			lab_sleep_ms(10);
	}
	return err;
}

TEST_F(devmem, pieces)
{
	struct piece pieces[MAX];

	for (unsigned int nr = 1; nr <= variant->most; nr++) {
		make_pieces(pieces, nr);
		ASSERT_EQ(nr * PIECE, send_pieces(self->tcp.tx, self->id, pieces, nr));
		ASSERT_EQ(0, net_recv(self->tcp.rx, pieces, nr));
	}
}

/* Not silence: TCP would send it again for ever */
TEST_F(devmem, too_many_pieces)
{
	struct netrig *n = &self->net;
	struct piece pieces[MAX];

	for (unsigned int nr = variant->most + 1; nr <= MAX; nr++) {
		make_pieces(pieces, nr);
		ASSERT_EQ(nr * PIECE, send_pieces(self->tcp.tx, self->id, pieces, nr));
		EXPECT_EQ(EHOSTUNREACH, wait_error(self->tcp.tx));
		net_close(&self->tcp);
		ASSERT_EQ(0, net_tcp(n, AF_INET, &self->tcp));
		ASSERT_EQ(0, net_set(self->tcp.tx, SOL_SOCKET, SO_ZEROCOPY, 1));
	}
	make_pieces(pieces, variant->most);
	ASSERT_EQ(variant->most * PIECE,
		  send_pieces(self->tcp.tx, self->id, pieces, variant->most));
	ASSERT_EQ(0, net_recv(self->tcp.rx, pieces, variant->most));
}

TEST_HARNESS_MAIN
