// SPDX-License-Identifier: GPL-2.0
/*
 * What may happen between send and arrival, to sockets, rings and the network:
 * TCP from dma-bufs is as reliable as it always was.
 */
#include <arpa/inet.h>
#include <sys/mman.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include "common.h"
#include "netio.h"

#define SIZE		(1 * MiB)
#define SEED		NET_SEED
#define MAX_PIECES	80

FIXTURE(path) {
	struct netrig net;
	struct net_pair tcp;
	__u64 rng;
};

FIXTURE_VARIANT(path) {
	const char *card;
};

FIXTURE_VARIANT_ADD(path, e1000e) { .card = "e1000e" };
FIXTURE_VARIANT_ADD(path, vmxnet3) { .card = "vmxnet3" };
FIXTURE_VARIANT_ADD(path, igb) { .card = "igb" };

FIXTURE_SETUP(path)
{
	struct netrig *n = &self->net;

	self->rng = 7301;
	self->tcp = NET_PAIR_NONE;
	NETRIG_UP(n, variant->card, MEM_UDMABUF_4K, SIZE);
	ASSERT_EQ(0, net_tcp(n, AF_INET, &self->tcp));
	ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, SEED));
	ASSERT_EQ(0, reg_dmabuf(&n->ring, 0, n->mem.fd, self->tcp.tx));
}

FIXTURE_TEARDOWN(path)
{
	net_close(&self->tcp);
	netrig_down(&self->net);
}

/* Everything arrived, every notification came, and none said "copied" */
static void check_arrived(struct __test_metadata *_metadata, struct netrig *n,
			  struct receiver *r)
{
	ASSERT_EQ(0, receiver_join(r));
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(0, n->copied);
}

/* Sends all pieces, which are somewhere in slot 0 */
static int send_pieces(struct netrig *n, int fd, const struct piece *pieces,
		       unsigned int nr)
{
	int ret = 0;

	for (unsigned int i = 0; i < nr && !ret; i++)
		ret = net_send_all(n, fd, 0, pieces[i].pos, pieces[i].len, 0);
	return ret;
}

/* @nr pieces of up to @max bytes, all the way to the receiver */
static void transfer(struct __test_metadata *_metadata, struct netrig *n,
		     struct net_pair *tcp, unsigned int nr, __u64 max)
{
	struct piece pieces[MAX_PIECES];
	struct receiver r;
	__u64 rng = max;

	for (unsigned int i = 0; i < nr; i++)
		pieces[i] = piece_random(&rng, 1 + rnd(&rng) % max, SIZE,
					 SEED);
	ASSERT_EQ(0, receiver_start(&r, tcp->rx, pieces, nr));
	ASSERT_EQ(0, send_pieces(n, tcp->tx, pieces, nr));
	check_arrived(_metadata, n, &r);
}

/* As much of the buffer as the socket takes while nobody reads: bytes */
static __u64 fill_queue(struct netrig *n, int tx)
{
	__u64 done = 0;
	int ret;

	net_set(tx, SOL_SOCKET, SO_SNDBUFFORCE, 4 * MiB);
	while (done < SIZE) {
		ret = net_send(n, tx, 0, done, SIZE - done, MSG_DONTWAIT);
		if (ret <= 0)
			break;
		done += ret;
	}
	return done;
}

/* Memory that was freed too early gets other content */
static void reuse_free_memory(void)
{
	size_t len = 16 * MiB;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return;
	memset(p, 0xdd, len);
	munmap(p, len);
}

/* Nothing of the card's is attached any more, or soon */
static bool nothing_attached(const struct netrig *n)
{
	double end = lab_now() + net_patience() / 1000.0;

	while (bufinfo_attached(n->pci)) {
		if (lab_now() > end)
			return false;
		lab_sleep_ms(10);
	}
	return true;
}

/* The slot, the memory and the ring go; the peer reads only then */
static void let_go(struct __test_metadata *_metadata, struct netrig *n)
{
	ASSERT_EQ(0, reg_clear(&n->ring, 0));
	EXPECT_EQ(1, bufinfo_attachments(n->mem.fd));
	mem_destroy(&n->mem);
	uring_exit(&n->ring);
	n->pending = 0;
	reuse_free_memory();
	EXPECT_EQ(1, bufinfo_attached(n->pci));
}

/*
 * Small sends share a packet, and what became of it is told to the first one's
 * notification only. The others know it as well, whether that one reports or not.
 */
TEST_F(path, usage_of_a_shared_packet)
{
	static const bool reports[][3] = {
		{ false, true, true }, { false, false, true },
		{ true, false, true }, { true, true, true },
	};
	struct netrig *n = &self->net;
	struct piece pieces[3];
	struct io_uring_sqe *sqe;
	struct receiver r;

	for (unsigned int i = 0; i < 3; i++)
		pieces[i] = (struct piece){ .seed = SEED, .pos = i * 100,
					   .len = 100 };
	for (unsigned int i = 0; i < 4; i++) {
		ASSERT_EQ(0, receiver_start(&r, self->tcp.rx, pieces, 3));
		for (unsigned int j = 0; j < 3; j++) {
			sqe = net_prep(n, self->tcp.tx, 0, pieces[j].pos, 100,
				       j < 2 ? MSG_MORE : 0);
			if (!reports[i][j])
				sqe->ioprio &= ~IORING_SEND_ZC_REPORT_USAGE;
			ASSERT_EQ(100, net_do(n));
		}
		check_arrived(_metadata, n, &r);
	}
}

TEST_F(path, unregistered_while_queued)
{
	struct netrig *n = &self->net;
	struct piece all = { SEED, 0, 0 };

	all.len = fill_queue(n, self->tcp.tx);
	ASSERT_GT(all.len, SIZE / 2);
	ASSERT_GT(net_unsent(self->tcp.tx), 0);
	let_go(_metadata, n);
	EXPECT_EQ(0, net_recv(self->tcp.rx, &all, 1));
	EXPECT_TRUE(nothing_attached(n));
}

/* As before, and the connection is the kernel's alone */
TEST_F(path, closed_while_queued)
{
	struct netrig *n = &self->net;
	struct piece all = { SEED, 0, 0 };

	all.len = fill_queue(n, self->tcp.tx);
	ASSERT_GT(net_unsent(self->tcp.tx), 0);
	net_orphan(&self->tcp.tx);
	let_go(_metadata, n);
	EXPECT_EQ(0, net_recv(self->tcp.rx, &all, 1));
	EXPECT_TRUE(nothing_attached(n));
}

/* The peer does not want it: the memory is free at once */
TEST_F(path, reset_while_queued)
{
	struct linger now = { .l_onoff = 1 };
	struct netrig *n = &self->net;
	int ret;

	ASSERT_GT(fill_queue(n, self->tcp.tx), 0);
	ASSERT_GT(net_unsent(self->tcp.tx), 0);
	ASSERT_EQ(0, setsockopt(self->tcp.rx, SOL_SOCKET, SO_LINGER, &now,
				sizeof(now)));
	close(self->tcp.rx);
	self->tcp.rx = -1;
	EXPECT_EQ(0, net_idle(n));
	ret = net_send(n, self->tcp.tx, 0, 0, 100, 0);
	EXPECT_TRUE(ret == -ECONNRESET || ret == -EPIPE);
	ASSERT_EQ(0, reg_clear(&n->ring, 0));
	EXPECT_TRUE(bufinfo_wait(n->mem.fd, 0, net_patience()));
}

/* Runs until killed, or as another program */
static void send_and_wait(struct netrig *n, int tx, __u64 len, int ready,
			  bool exec)
{
	/* a ring of its own: the other one is the parent's */
	if (uring_init(&n->ring, 64, 0) || reg_sparse(&n->ring, 1) ||
	    reg_dmabuf(&n->ring, 0, n->mem.fd, tx) ||
	    net_send_all(n, tx, 0, 0, len, 0))
		_exit(1);
	if (write(ready, "r", 1) != 1)
		_exit(1);
	if (exec)
		execl("/bin/true", "true", NULL);
	else
		pause();
	_exit(1);
}

/* Who sends is gone; what it sent arrives all the same: how that ended */
static int sender_ends(struct __test_metadata *_metadata, struct netrig *n,
		       struct net_pair *tcp, bool exec)
{
	struct piece all = { SEED, 0, 128 * KiB };
	int ready[2], status = -1;
	pid_t pid;
	char c;

	ASSERT_EQ(0, net_set(tcp->tx, SOL_SOCKET, SO_SNDBUFFORCE, 4 * MiB));
	ASSERT_EQ(0, pipe(ready));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		send_and_wait(n, tcp->tx, all.len, ready[1], exec);
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &c, 1));
	ASSERT_EQ(0, reg_clear(&n->ring, 0));
	if (!exec)
		kill(pid, SIGKILL);
	/* it is gone when its notifications have come, not before */
	EXPECT_EQ(0, net_recv(tcp->rx, &all, 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(nothing_attached(n));
	close(ready[0]);
	return status;
}

TEST_F(path, killed_while_queued)
{
	int status = sender_ends(_metadata, &self->net, &self->tcp, false);

	EXPECT_TRUE(WIFSIGNALED(status));
}

TEST_F(path, exec_while_queued)
{
	int status = sender_ends(_metadata, &self->net, &self->tcp, true);

	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
}

/* Nothing gets through for two seconds: all of it is sent again */
TEST_F(path, peer_is_down)
{
	struct netrig *n = &self->net;
	struct piece pieces[32];
	struct receiver r;

	for (int i = 0; i < 32; i++)
		pieces[i] = piece_random(&self->rng, 30000, SIZE, SEED);
	ASSERT_EQ(0, net_set(self->tcp.tx, SOL_SOCKET, SO_SNDBUFFORCE, 4 * MiB));
	ASSERT_EQ(0, receiver_start(&r, self->tcp.rx, pieces, 32));
	ASSERT_EQ(0, send_pieces(n, self->tcp.tx, pieces, 16));
	ASSERT_EQ(0, net_link(n, NET_PEER, false));
	ASSERT_EQ(0, send_pieces(n, self->tcp.tx, pieces + 16, 16));
	lab_sleep_ms(2000);
	EXPECT_GT(net_unsent(self->tcp.tx), 0);
	ASSERT_EQ(0, net_link(n, NET_PEER, true));
	check_arrived(_metadata, n, &r);
}

/* Data is lost, doubled and overtaken */
TEST_F(path, bad_network)
{
	struct netrig *n = &self->net;

	if (net_netem(n, NET_CARD, "delay 2ms loss 5% duplicate 5% reorder 25% 50%"))
		SKIP(return, "no netem");
	transfer(_metadata, n, &self->tcp, lab_scale(80, 30), 40000);
}

/* Acknowledgments are */
TEST_F(path, bad_way_back)
{
	struct netrig *n = &self->net;

	if (net_netem(n, NET_PEER, "delay 2ms loss 5% duplicate 5% reorder 25% 50%"))
		SKIP(return, "no netem");
	transfer(_metadata, n, &self->tcp, lab_scale(80, 30), 40000);
}

/* The stack cuts segments, not the card */
TEST_F(path, without_tso)
{
	struct netrig *n = &self->net;

	ASSERT_EQ(0, net_feature(n, ETHTOOL_STSO, false));
	transfer(_metadata, n, &self->tcp, lab_scale(30, 15), 100000);
	ASSERT_EQ(0, net_feature(n, ETHTOOL_SGSO, false));
	transfer(_metadata, n, &self->tcp, lab_scale(30, 15), 100001);
	ASSERT_EQ(0, net_feature(n, ETHTOOL_SGSO, true));
	ASSERT_EQ(0, net_feature(n, ETHTOOL_STSO, true));
	transfer(_metadata, n, &self->tcp, lab_scale(30, 15), 100002);
}

/* Who listens on the card sees headers at most, and disturbs nobody */
TEST_F(path, packet_socket)
{
	struct sockaddr_ll ll = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = if_nametoindex(self->net.dev[NET_CARD]),
	};
	unsigned int seen = 0, payload = 0;
	struct netrig *n = &self->net;
	char packet[2048];
	ssize_t len;
	int sk;

	sk = socket(AF_PACKET, SOCK_RAW, 0);
	if (sk < 0)
		SKIP(return, "no packet sockets");
	ASSERT_EQ(0, bind(sk, (void *)&ll, sizeof(ll)));
	transfer(_metadata, n, &self->tcp, 20, 50000);
	while ((len = recv(sk, packet, sizeof(packet), MSG_DONTWAIT | MSG_TRUNC)) > 0) {
		seen++;
		payload += len > ETH_HLEN + 60 + 60;
	}
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_GT(seen, 0);
	EXPECT_EQ(0, payload);
	close(sk);
}

static const struct {
	const char *name;
	unsigned int flags;
} ring_kinds[] = {
	{ "DEFER_TASKRUN", IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN },
	{ "SQPOLL", IORING_SETUP_SQPOLL },
	{ "CQE32, SQE128", IORING_SETUP_CQE32 | IORING_SETUP_SQE128 },
};

TEST_F(path, kinds_of_rings)
{
	struct netrig *n = &self->net;
	struct uring first = n->ring;

	for (unsigned int i = 0; i < ARRAY_SIZE(ring_kinds); i++) {
		TH_LOG("%s", ring_kinds[i].name);
		ASSERT_EQ(0, uring_init(&n->ring, 64, ring_kinds[i].flags));
		ASSERT_EQ(0, reg_sparse(&n->ring, 1));
		ASSERT_EQ(0, reg_dmabuf(&n->ring, 0, n->mem.fd, self->tcp.tx));
		transfer(_metadata, n, &self->tcp, 20, 30000);
		uring_exit(&n->ring);
	}
	/* a clone, which outlives what it was made of */
	ASSERT_EQ(0, uring_init(&n->ring, 64, 0));
	ASSERT_EQ(0, reg_clone(&n->ring, &first));
	uring_exit(&first);
	transfer(_metadata, n, &self->tcp, 20, 30000);
}

/* From a worker, and only once the socket can take it */
TEST_F(path, async_and_poll_first)
{
	struct netrig *n = &self->net;
	struct piece pieces[16];
	struct receiver r;

	for (int i = 0; i < 16; i++)
		pieces[i] = piece_random(&self->rng, 60000, SIZE, SEED);
	ASSERT_EQ(0, net_set(self->tcp.tx, SOL_SOCKET, SO_SNDBUF, 16 * KiB));
	ASSERT_EQ(0, receiver_start(&r, self->tcp.rx, pieces, 16));
	for (int i = 0; i < 16; i++) {
		struct io_uring_sqe *sqe = net_prep(n, self->tcp.tx, 0,
						    pieces[i].pos, pieces[i].len,
						    MSG_WAITALL);

		if (i & 1)
			sqe->flags |= IOSQE_ASYNC;
		else
			sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
		EXPECT_EQ(pieces[i].len, net_do(n));
	}
	check_arrived(_metadata, n, &r);
}

/* Many requests at a time: linked, they stay in order */
TEST_F(path, chain)
{
	struct netrig *n = &self->net;
	struct piece pieces[32];
	struct uring_res res;
	struct receiver r;

	for (int i = 0; i < 32; i++)
		pieces[i] = piece_random(&self->rng, 1 + rnd(&self->rng) % 50000,
					 SIZE, SEED);
	ASSERT_EQ(0, receiver_start(&r, self->tcp.rx, pieces, 32));
	for (int i = 0; i < 32; i++)
		net_prep(n, self->tcp.tx, 0, pieces[i].pos, pieces[i].len,
			 MSG_WAITALL)->flags = i < 31 ? IOSQE_IO_LINK : 0;
	ASSERT_EQ(32, uring_submit(&n->ring, 0));
	for (int i = 0; i < 32; i++) {
		ASSERT_EQ(0, net_result(n, &res));
		EXPECT_EQ(pieces[i].len, res.res);
	}
	check_arrived(_metadata, n, &r);
}

TEST_HARNESS_MAIN
