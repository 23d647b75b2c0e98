// SPDX-License-Identifier: GPL-2.0
/*
 * RDS over TCP, on any kernel: zerocopy messages arrive as they were sent, whatever
 * becomes of their memory once there is a cookie for it; cookies wake who waits for
 * them; and sends from a ring.
 *
 *	sender    | receiver
 *	rds73a ---|- rds73b
 *	10.74.0.1 | 10.74.0.2
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>

#include "common.h"
#include "netset.h"
#include "rdscookie.h"
#include "rdsrig.h"

#define SIZE		(1 * MiB)	/* of a message, the most that RDS takes */
#define BRIEF		lab_scale(SIZE, SIZE / 4)	/* of one that is sent twice, or slowly */
#define MAX_DEPTH	4
#define PORT		7300
#define SYSCTL		"/proc/sys/net/rds/tcp/rds_tcp_sndbuf"

enum { TX, RX };

FIXTURE(rds) {
	struct uring ring;
	int home, ns[2];
	int sk[2];
	__u64 *mem;		/* MAX_DEPTH messages that are sent */
	__u64 *buf;		/* one that was received */
};

static const char *const dev[] = { "rds73a", "rds73b" };
/* 10.73.NET.1 and .2 */
#define NET	74
static const char *const addr[] = { "10.73.74.1", "10.73.74.2" };

static struct sockaddr_in address(int side, int port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };

	sin.sin_port = htons(port);
	inet_pton(AF_INET, addr[side], &sin.sin_addr);
	return sin;
}

/* --- the rig --- */

static int side_up(const int *ns, int side)
{
	return netset_addr4(ns[side], dev[side], NET, side + 1) ?:
	       netset_link(ns[side], "lo", 0, true) ?:
	       netset_link(ns[side], dev[side], 0, true);
}

static int link_new(const int *ns)
{
	int ret = netset_veth(ns[TX], dev[TX], dev[RX], ns[RX]);

	ret = ret ?: side_up(ns, TX);
	return ret ?: side_up(ns, RX);
}

static int link_set(const int *ns, const char *state)
{
	return net_ip(ns[RX], "link set dev %s %s\n", dev[RX], state);
}

/* Bound, with room for all messages of a test */
static int socket_in(const int *ns, int side, int home, int port)
{
	struct sockaddr_in sin = address(side, port);
	int sk, ret = net_ns_enter(ns[side]);

	if (ret)
		return ret;
	sk = socket(PF_RDS, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	ret = sk < 0 ? -errno : net_bind(sk, &sin, sizeof(sin));
	net_ns_enter(home);
	ret = ret ?: net_timeouts(sk);
	ret = ret ?: net_set(sk, SOL_SOCKET, SO_SNDBUFFORCE, 32 * MiB);
	ret = ret ?: net_set(sk, SOL_SOCKET, SO_RCVBUFFORCE, 32 * MiB);
	if (ret && sk >= 0)
		close(sk);
	return ret ?: sk;
}

/* The path that the messages take depends on the @port of the sender */
static int sockets(int *sk, const int *ns, int home, int port)
{
	struct sockaddr_in to = address(RX, PORT);

	for (int side = TX; side <= RX; side++) {
		sk[side] = socket_in(ns, side, home, side == RX ? PORT : port);
		if (sk[side] < 0)
			return sk[side];
	}
	if (connect(sk[TX], (void *)&to, sizeof(to)))
		return -errno;
	return net_set(sk[TX], SOL_SOCKET, SO_ZEROCOPY, 1);
}

static __u64 *memory(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

FIXTURE_SETUP(rds)
{
	if (access("/proc/sys/net/rds/tcp", F_OK))
		SKIP(return, "no RDS over TCP");

	ASSERT_EQ(0, uring_init(&self->ring, 8, 0));
	self->home = net_ns_open();
	ASSERT_GE(self->home, 0);
	for (int side = TX; side <= RX; side++) {
		self->ns[side] = net_ns_new();
		ASSERT_GE(self->ns[side], 0);
	}
	self->mem = memory(MAX_DEPTH * SIZE);
	self->buf = memory(SIZE);
	ASSERT_TRUE(self->mem && self->buf);
	ASSERT_EQ(0, link_new(self->ns));
	ASSERT_EQ(0, sockets(self->sk, self->ns, self->home, PORT));
	/* twice: in between, RDS finds out how many connections there can be */
	ASSERT_EQ(0, rds_pass_between(self->sk[TX], self->sk[RX]));
	ASSERT_EQ(0, rds_pass_between(self->sk[TX], self->sk[RX]));
}

/* The connections refer to the netns until they notice that there is no link */
FIXTURE_TEARDOWN(rds)
{
	if (!self->ring.map)
		return;
	for (int side = TX; side <= RX; side++)
		close(self->sk[side]);
	netset_delete(self->ns[TX], dev[TX]);
	for (int side = TX; side <= RX; side++)
		close(self->ns[side]);
	close(self->home);
	uring_exit(&self->ring);
}

/* --- a flow of messages, the same few buffers for all of them --- */

struct flow {
	const int *sk;
	__u64 *mem, *buf;
	unsigned int depth;
	size_t size;		/* of each message */
	bool busy[MAX_DEPTH];	/* message n is in buffer n % depth */
	__u32 sent, got;
	unsigned int again;	/* messages that came more than once */
};

static __u64 *slot(const struct flow *f, __u32 message)
{
	return f->mem + message % f->depth * (f->size / sizeof(*f->mem));
}

/* Each one once, and of a message that is under way */
static int flow_cookies(struct flow *f)
{
	struct rds_zcopy_cookies done;
	int ret = rds_wait_cookies(f->sk[TX], &done);

	for (__u32 i = 0; i < done.num; i++) {
		__u32 message = done.cookies[i];
		bool *busy = &f->busy[message % f->depth];

		if (!*busy || message >= f->sent || f->sent - message > f->depth) {
			fprintf(stderr, "# cookie %u\n", message);
			return -EPROTO;
		}
		*busy = false;
	}
	return ret;
}

static int flow_send(void *flow)
{
	struct flow *f = flow;
	__u32 message = f->sent;
	int ret = 0;

	while (f->busy[message % f->depth] && !ret)
		ret = flow_cookies(f);
	if (ret)
		return ret;
	rds_stamp(slot(f, message), message, f->size);
	ret = rds_send_cookie(f->sk[TX], slot(f, message), f->size, message);
	if (ret != (int)f->size)
		return ret < 0 ? ret : -EIO;
	f->busy[message % f->depth] = true;
	f->sent++;
	return 0;
}

/* The next message. A connection may send what it is not sure of once more */
static int flow_recv(void *flow)
{
	struct flow *f = flow;
	ssize_t len;

	for (;;) {
		len = net_recv_again(f->sk[RX], f->buf, SIZE, 0);
		if (len != (ssize_t)f->size)
			return len < 0 ? -errno : -EMSGSIZE;
		if (f->buf[0] >> 32 >= f->got)
			return rds_check(f->buf, f->got++, f->size);
		if (rds_check(f->buf, f->buf[0] >> 32, f->size))
			return -EILSEQ;
		f->again++;
	}
}

/* All cookies are there, and the memory gets other content */
static int flow_idle(void *flow)
{
	struct flow *f = flow;
	int ret = 0;

	for (unsigned int i = 0; i < f->depth; i++) {
		while (f->busy[i] && !ret)
			ret = flow_cookies(f);
	}
	memset(f->mem, 0xdd, f->depth * f->size);
	return ret;
}

static int flow_run(struct flow *f, unsigned int nr)
{
	const struct rds_flow steps = { flow_send, flow_recv, flow_idle, &f->sent, &f->got };

	return rds_flow_run(&steps, f, nr);
}

#define FLOW(self_, depth_, size_) ((struct flow) {			\
	.sk = (self_)->sk,						\
	.mem = (self_)->mem,						\
	.buf = (self_)->buf,						\
	.depth = depth_,						\
	.size = size_,							\
})

TEST_F(rds, whole)
{
	for (unsigned int depth = 2; depth <= MAX_DEPTH; depth += 2) {
		struct flow f = FLOW(self, depth, SIZE);

		ASSERT_EQ(0, flow_run(&f, lab_scale(48, 24))) {
			TH_LOG("depth %u: %u sent, %u right", depth, f.sent,
			       f.got - 1);
		}
		EXPECT_EQ(0, f.again);
	}
}

/* The connections of the sender come down, and up again */
static int reconnect(const int *ns, int home)
{
	int ret = net_ns_enter(ns[TX]);

	ret = ret ?: file_write(SYSCTL, "1048576");
	net_ns_enter(home);
	return ret;
}

TEST_F_TIMEOUT(rds, reconnects, 400)
{
	struct flow f = FLOW(self, MAX_DEPTH, BRIEF);

	for (int i = 0; i < 3; i++) {
		for (int k = 0; k < MAX_DEPTH; k++) {
			ASSERT_EQ(0, flow_send(&f));
		}
		ASSERT_EQ(0, reconnect(self->ns, self->home));
		ASSERT_EQ(0, flow_run(&f, 2 * MAX_DEPTH)) {
			TH_LOG("%u sent, %u right", f.sent, f.got - 1);
		}
	}
}

/* --- an address that is gone --- */

#define AWAY		16		/* peers that are not there */
#define AWAY_MS		4000
#define DELAY		"/proc/sys/net/rds/reconnect_max_delay_ms"

/* Messages that wait for connections to peers that are away */
static int send_away(int sk)
{
	struct sockaddr_in to = address(RX, PORT);
	char message[64] = "";

	for (unsigned int i = 0; i < AWAY; i++) {
		to.sin_addr.s_addr = htonl(ntohl(to.sin_addr.s_addr) + 1);
		if (sendto(sk, message, sizeof(message), MSG_DONTWAIT, (void *)&to,
			   sizeof(to)) != sizeof(message))
			return -errno;
	}
	return 0;
}

/* Ticks that the processors have been busy; or -1 */
static long long busy(void)
{
	long long user, nice, system, irq, softirq;
	FILE *f = fopen("/proc/stat", "r");
	int nr = f ? fscanf(f, "cpu %lld %lld %lld %*d %*d %lld %lld", &user, &nice, &system,
			    &irq, &softirq) : 0;

	if (f)
		fclose(f);
	return nr == 5 ? user + nice + system + irq + softirq : -1;
}

/*
 * Connections are tried again while their address is gone, 20 times a second here and not
 * once, which is nothing to keep half a processor busy with
 */
TEST_F(rds, address_gone)
{
	long long before, spent, delay;
	char was[16];

	ASSERT_EQ(0, file_read_num(DELAY, &delay));
	ASSERT_EQ(0, file_write(DELAY, "50"));
	ASSERT_EQ(0, send_away(self->sk[TX]));
	ASSERT_EQ(0, netset_flush(self->ns[TX], dev[TX]));
	ASSERT_EQ(0, reconnect(self->ns, self->home));
	/* the connections that there were have ended */
	lab_sleep_ms(1000);
	before = busy();
	lab_sleep_ms(AWAY_MS);
	spent = busy() - before;
	snprintf(was, sizeof(was), "%lld", delay);
	EXPECT_EQ(0, file_write(DELAY, was));
	ASSERT_LE(0, before);
	EXPECT_GE(AWAY_MS / 1000 * sysconf(_SC_CLK_TCK) / 2, spent) {
		TH_LOG("%lld ticks in %d ms", spent, AWAY_MS);
	}
	ASSERT_EQ(0, netset_addr4(self->ns[TX], dev[TX], NET, TX + 1));
	EXPECT_EQ(0, rds_pass_between(self->sk[TX], self->sk[RX]));
}

/*
 * The old connection has not sent everything when the new one begins with it: there
 * is a cookie when both are through, not two of them
 */
TEST_F(rds, sent_by_two_connections)
{
	struct flow f = FLOW(self, MAX_DEPTH, SIZE);
	struct rds_zcopy_cookies done;

	ASSERT_EQ(0, link_set(self->ns, "down"));
	for (int k = 0; k < MAX_DEPTH; k++) {
		ASSERT_EQ(0, flow_send(&f));
	}
	ASSERT_EQ(0, reconnect(self->ns, self->home));
	/* that waits 5 seconds for the peer */
	lab_sleep_ms(6000);
	EXPECT_EQ(-EAGAIN, rds_recv_cookies(self->sk[TX], &done, MSG_DONTWAIT));
	ASSERT_EQ(0, link_set(self->ns, "up"));
	ASSERT_EQ(0, flow_idle(&f));
	while (f.got < f.sent) {
		ASSERT_EQ(0, flow_recv(&f));
	}
	ASSERT_EQ(0, flow_run(&f, 2 * MAX_DEPTH));
}

/*
 * A receiver that knows nothing of the connections that the sender has. 20 ms are
 * enough for some messages to be under way when it finds out which one it got.
 */
static int new_receiver(int *ns)
{
	int ret = net_ip(ns[TX], "link del dev %s\n", dev[TX]);

	if (ret)
		return ret;
	close(ns[RX]);
	ns[RX] = net_ns_new();
	if (ns[RX] < 0)
		return ns[RX];
	ret = link_new(ns);
	return ret ?: net_batch(ns[TX], "tc",
				"qdisc add dev rds73a root netem delay 20ms\n");
}

TEST_F_TIMEOUT(rds, new_peer, 400)
{
	for (int i = 1; i <= 4; i++) {
		struct flow f = FLOW(self, MAX_DEPTH, BRIEF);

		for (int side = TX; side <= RX; side++)
			close(self->sk[side]);
		ASSERT_EQ(0, new_receiver(self->ns));
		ASSERT_EQ(0, sockets(self->sk, self->ns, self->home, PORT + i));
		ASSERT_EQ(0, flow_run(&f, lab_scale(48, 24))) {
			TH_LOG("%d: %u sent, %u right", i, f.sent, f.got - 1);
		}
		EXPECT_EQ(0, f.again) {
			TH_LOG("%d: %u messages came again", i, f.again);
		}
	}
}

/*
 * A message that is dropped may be on its way: no cookie before TCP is through. It
 * is small enough that TCP has all of it.
 */
TEST_F(rds, cancelled)
{
	struct sockaddr_in to = address(RX, PORT);
	struct rds_zcopy_cookies done;
	size_t len = 32 * KiB;

	ASSERT_EQ(0, link_set(self->ns, "down"));
	ASSERT_EQ(len, rds_send_cookie(self->sk[TX], self->mem, len, 77));
	lab_sleep_ms(100);
	ASSERT_EQ(0, setsockopt(self->sk[TX], SOL_RDS, RDS_CANCEL_SENT_TO, &to,
				sizeof(to)));
	lab_sleep_ms(100);
	EXPECT_EQ(-EAGAIN, rds_recv_cookies(self->sk[TX], &done, MSG_DONTWAIT));
	ASSERT_EQ(0, link_set(self->ns, "up"));
	if (!done.num) {
		ASSERT_EQ(0, rds_wait_cookies(self->sk[TX], &done));
	}
	ASSERT_EQ(1, done.num);
	EXPECT_EQ(77, done.cookies[0]);
}

/* kmemleak and KASAN see what becomes of cookies that nobody takes */
TEST_F(rds, closed_in_flight)
{
	struct flow f = FLOW(self, MAX_DEPTH, SIZE);

	ASSERT_EQ(0, link_set(self->ns, "down"));
	for (int k = 0; k < MAX_DEPTH; k++) {
		ASSERT_EQ(0, flow_send(&f));
	}
	close(self->sk[TX]);
	ASSERT_EQ(0, link_set(self->ns, "up"));
	close(self->sk[RX]);
	ASSERT_EQ(0, sockets(self->sk, self->ns, self->home, PORT));
}

/* --- recvmsg() that blocks --- */

struct late_send {
	int sk;
	void *buf;
	ssize_t ret;
};

static void *send_late(void *arg)
{
	struct late_send *s = arg;

	lab_sleep_ms(300);
	s->ret = rds_send_cookie(s->sk, s->buf, SIZE, 7);
	return NULL;
}

TEST_F(rds, blocking_cookie)
{
	struct late_send s = { .sk = self->sk[TX], .buf = self->mem };
	struct rds_zcopy_cookies done;
	pthread_t thread;
	int ret;

	ASSERT_EQ(0, pthread_create(&thread, NULL, send_late, &s));
	ret = rds_recv_cookies(self->sk[TX], &done, 0);
	pthread_join(thread, NULL);
	ASSERT_EQ(SIZE, s.ret);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(1, done.num);
	EXPECT_EQ(7, done.cookies[0]);
}

/*
 * Sends one message, whose cookie is there afterwards. Who monitors ports for congestion
 * is not woken for all of them: nothing else makes the socket readable then.
 */
static int leave_cookie(const int *sk, void *buf)
{
	struct pollfd pfd = { .fd = sk[TX], .events = POLLIN };
	ssize_t ret = net_set(sk[TX], SOL_RDS, RDS_CONG_MONITOR, 1);

	ret = ret ?: rds_send_cookie(sk[TX], buf, SIZE, 8);
	if (ret != (ssize_t)SIZE)
		return ret < 0 ? ret : -EIO;
	return poll(&pfd, 1, net_patience()) == 1 ? 0 : -ETIME;
}

TEST_F(rds, cookie_that_was_there)
{
	struct rds_zcopy_cookies done;

	ASSERT_EQ(0, leave_cookie(self->sk, self->mem));
	ASSERT_EQ(0, rds_recv_cookies(self->sk[TX], &done, 0));
	ASSERT_EQ(1, done.num);
	EXPECT_EQ(8, done.cookies[0]);
}

static long cpu_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Who has no room for cookies waits for messages, and does not spin */
TEST_F(rds, cookie_without_room)
{
	struct timeval tv = { .tv_usec = 500000 };
	struct rds_zcopy_cookies done;
	long before;
	char byte;

	ASSERT_EQ(0, leave_cookie(self->sk, self->mem));
	ASSERT_EQ(0, setsockopt(self->sk[TX], SOL_SOCKET, SO_RCVTIMEO, &tv,
				sizeof(tv)));
	before = cpu_ms();
	EXPECT_EQ(-1, recv(self->sk[TX], &byte, 1, 0));
	EXPECT_EQ(ETIMEDOUT, errno);
	EXPECT_GT(250, cpu_ms() - before);
	EXPECT_EQ(0, rds_recv_cookies(self->sk[TX], &done, MSG_DONTWAIT));
	EXPECT_EQ(1, done.num);
}

/* It is an error, and the cookie is not lost */
TEST_F(rds, cookie_to_nowhere)
{
	struct rds_zcopy_cookies done;
	struct msghdr msg = { .msg_controllen = 1024 };

	msg.msg_control = mmap(NULL, 4096, PROT_NONE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, msg.msg_control);
	ASSERT_EQ(0, leave_cookie(self->sk, self->mem));
	EXPECT_EQ(-1, recvmsg(self->sk[TX], &msg, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(0, rds_recv_cookies(self->sk[TX], &done, MSG_DONTWAIT));
	EXPECT_EQ(1, done.num);
}

/* --- flags and rings --- */

TEST_F(rds, flags)
{
	char byte = 1;

	EXPECT_EQ(1, send(self->sk[TX], &byte, 1, MSG_NOSIGNAL));
	EXPECT_EQ(1, net_recv_again(self->sk[RX], &byte, 1, 0));
	EXPECT_EQ(-1, send(self->sk[TX], &byte, 1, MSG_MORE));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_EQ(-1, send(self->sk[TX], &byte, 1, MSG_OOB));
	EXPECT_EQ(EOPNOTSUPP, errno);
}

static void prep_send(struct uring *r, int sk, const void *buf, size_t len)
{
	uring_prep_rw(r, IORING_OP_SEND, sk, 0, (uintptr_t)buf, len, 0);
}

/* The whole of a message that was stamped */
static int recv_whole(int sk, __u64 *buf, __u32 message)
{
	ssize_t len = net_recv_again(sk, buf, SIZE, 0);

	if (len != (ssize_t)SIZE) {
		fprintf(stderr, "# message %u: %zd bytes\n", message, len);
		return len < 0 ? -errno : -EMSGSIZE;
	}
	return rds_check(buf, message, SIZE);
}

TEST_F(rds, uring_send)
{
	struct sockaddr_in to = address(RX, PORT);
	struct iovec iov = { self->mem, SIZE };
	struct msghdr msg = {
		.msg_name = &to,
		.msg_namelen = sizeof(to),
		.msg_iov = &iov,
		.msg_iovlen = 1,
	};

	rds_stamp(self->mem, 1, SIZE);
	prep_send(&self->ring, self->sk[TX], self->mem, SIZE);
	ASSERT_EQ(SIZE, uring_do(&self->ring));
	EXPECT_EQ(0, recv_whole(self->sk[RX], self->buf, 1));

	rds_stamp(self->mem, 2, SIZE);
	uring_prep_rw(&self->ring, IORING_OP_SENDMSG, self->sk[TX], 0,
		      (uintptr_t)&msg, 1, 0);
	ASSERT_EQ(SIZE, uring_do(&self->ring));
	EXPECT_EQ(0, recv_whole(self->sk[RX], self->buf, 2));
}

/* Messages to a peer that is away, until there is no room for more: their number */
static int fill_socket(int sk, __u64 *buf)
{
	int nr = 0;

	for (;;) {
		rds_stamp(buf, nr, SIZE);
		if (send(sk, buf, SIZE, MSG_DONTWAIT) != (ssize_t)SIZE)
			return errno == EAGAIN ? nr : -errno;
		nr++;
	}
}

/* A request that has to wait for room sends its message then, all of it */
TEST_F(rds, uring_waits_for_room)
{
	struct uring_res res;
	int nr;

	ASSERT_EQ(0, net_set(self->sk[TX], SOL_SOCKET, SO_SNDBUFFORCE, 2 * MiB));
	ASSERT_EQ(0, link_set(self->ns, "down"));
	nr = fill_socket(self->sk[TX], self->mem);
	ASSERT_GT(nr, 0);
	rds_stamp(self->mem, nr, SIZE);
	prep_send(&self->ring, self->sk[TX], self->mem, SIZE);
	ASSERT_EQ(1, uring_submit(&self->ring, 0));
	lab_sleep_ms(100);
	EXPECT_EQ(0, uring_ready(&self->ring));
	ASSERT_EQ(0, link_set(self->ns, "up"));
	ASSERT_EQ(0, uring_wait(&self->ring, &res, net_patience()));
	EXPECT_EQ(SIZE, res.res);
	for (int i = 0; i <= nr; i++) {
		ASSERT_EQ(0, recv_whole(self->sk[RX], self->buf, i));
	}
}

TEST_HARNESS_MAIN
