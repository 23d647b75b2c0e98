// SPDX-License-Identifier: GPL-2.0
/*
 * Zerocopy sends by RDS over TCP to a peer that is away, and stays there: RDS gives them up,
 * so that who waits for them ends, and nobody else has to close the socket.
 */
#include <signal.h>
#include <unistd.h>
#include <netinet/in.h>
#include <sys/wait.h>

#include "common.h"
#include "rdsrig.h"

#define SIZE		RDS_SIZE
#define MESSAGES	4
#define LIMIT		60	/* seconds until nobody waits any more */
#define PATIENCE	29	/* ... and in which nothing is given up */

FIXTURE(rds_away) {
	struct rdsrig rig;
};

FIXTURE_SETUP(rds_away)
{
	RDSRIG_UP(&self->rig, NULL, AF_INET);
}

FIXTURE_TEARDOWN(rds_away)
{
	EXPECT_EQ(0, rdsrig_idle(&self->rig));
	rdsrig_down(&self->rig);
}

/* Connected to an address of the link that nobody has */
static int away_sender(const struct rdsrig *r, int port)
{
	struct sockaddr_storage ss;
	struct sockaddr_in *sin = (void *)&ss;
	socklen_t len = net_addr(&r->net, NET_PEER, AF_INET, RDS_PORT, &ss);
	int sk = rds_socket(r, NET_CARD, port), ret;

	sin->sin_addr.s_addr = htonl(ntohl(sin->sin_addr.s_addr) + 75);
	if (sk < 0 || !connect(sk, (void *)&ss, len))
		return sk;
	ret = -errno;
	close(sk);
	return ret;
}

/* All that are under way end, with one CQE or two, before @end and not before @begin */
static void all_end(struct __test_metadata *_metadata, struct rdsrig *r, double begin,
		    double end)
{
	unsigned int cqes = MESSAGES + MESSAGES / 2;
	struct uring_res res;

	while (cqes--) {
		ASSERT_EQ(0, uring_wait(&r->net.ring, &res,
					1000 * (end > lab_now() ? end - lab_now() : 0)));
		if (res.flags & IORING_CQE_F_MORE) {
			EXPECT_EQ(SIZE, res.res);
			continue;
		}
		EXPECT_LE(begin, lab_now());
		if (res.flags & IORING_CQE_F_NOTIF)
			continue;
		EXPECT_EQ(-ETIMEDOUT, res.res);
		EXPECT_EQ(0, res.flags);
	}
	EXPECT_TRUE(rds_quiet(r, 20));
}

static void send_all(struct __test_metadata *_metadata, struct rdsrig *r, int sk)
{
	for (unsigned int i = 0; i < MESSAGES; i++)
		rds_prep(r, sk, i % 4 < 2 ? RDS_USER : RDS_REGISTERED, i * SIZE, SIZE, i % 2);
	ASSERT_EQ(MESSAGES, uring_submit(&r->net.ring, 0));
}

/* A message is queued, by a ring of its own; then it runs until it is killed, or another program */
static void queue_and_wait(struct rdsrig *r, int sk, unsigned int ring, int ready)
{
	struct uring_res res;

	if (rdsrig_ring(r, 4, ring))
		_exit(2);
	rds_prep(r, sk, RDS_REGISTERED, 0, SIZE, false);
	if (uring_submit(&r->net.ring, 0) < 0 ||
	    uring_wait(&r->net.ring, &res, net_patience()) ||
	    res.res != (int)SIZE || res.flags != IORING_CQE_F_MORE ||
	    write(ready, "r", 1) != 1)
		_exit(3);
	if (ring & IORING_SETUP_SQPOLL)
		pause();
	else
		execl("/bin/true", "true", NULL);
	_exit(1);
}

static pid_t child(struct __test_metadata *_metadata, struct rdsrig *r, int sk,
		   unsigned int ring)
{
	int ready[2];
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(ready));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		queue_and_wait(r, sk, ring, ready[1]);
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &c, 1));
	close(ready[0]);
	return pid;
}

/* How it ended; -1 if it has not by @end */
static int ended(pid_t pid, double end)
{
	int status;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (lab_now() > end)
			return -1;
		lab_sleep_ms(50);
	}
	return status;
}

/*
 * There never was a connection. A thread that submits for a process has its files, so that
 * no socket is closed when that is killed; execve() closes none before it waits
 */
TEST_F_TIMEOUT(rds_away, nobody, 200)
{
	struct rdsrig *r = &self->rig;
	double start = lab_now();
	pid_t killed, other;
	int sk[3], status;

	for (int i = 0; i < 3; i++) {
		sk[i] = away_sender(r, RDS_PORT + 1 + i);
		ASSERT_LE(0, sk[i]);
	}
	killed = child(_metadata, r, sk[0], IORING_SETUP_SQPOLL);
	other = child(_metadata, r, sk[1], 0);
	send_all(_metadata, r, sk[2]);
	ASSERT_EQ(0, kill(killed, SIGKILL));
	all_end(_metadata, r, start + PATIENCE, start + LIMIT);
	status = ended(killed, start + LIMIT);
	ASSERT_NE(-1, status);
	EXPECT_TRUE(WIFSIGNALED(status));
	status = ended(other, start + LIMIT);
	ASSERT_NE(-1, status);
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	for (int i = 0; i < 3; i++)
		close(sk[i]);
}

/* A connection has a part of them when the peer goes. Others arrive when it comes back */
TEST_F_TIMEOUT(rds_away, peer_goes, 200)
{
	struct timeval patience = { .tv_sec = 60 };
	struct rdsrig *r = &self->rig;
	double start;

	ASSERT_EQ(0, rdsrig_peer(r, "down"));
	start = lab_now();
	send_all(_metadata, r, r->tx);
	all_end(_metadata, r, start + PATIENCE, start + LIMIT);
	ASSERT_EQ(0, rdsrig_peer(r, "up"));
	/* by now TCP asks for a connection every 16 seconds */
	ASSERT_EQ(0, setsockopt(r->rx, SOL_SOCKET, SO_RCVTIMEO, &patience,
				sizeof(patience)));
	EXPECT_EQ(0, rds_pass(r));
}

TEST_HARNESS_MAIN
