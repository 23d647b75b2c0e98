// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/sockios.h>

#include "buffer.h"
#include "fail.h"
#include "receiver.h"

#define POLL_US		2000
#define PATIENCE_US	30000000
/*
 * The card has said that all is sent, and been listened to, by then; and TCP does
 * not yet acknowledge the answer.
 */
#define SETTLE_US	10000
/* Workers of RDS have run, too, which wait for the sender's CPU to be theirs. */
#define SETTLE_RDS_US	40000

/* Until @request says that @fd has @want bytes. */
static int wait_bytes(int fd, unsigned long request, int want, const char *what)
{
	int have = 0;

	for (int us = 0; us < PATIENCE_US; us += POLL_US) {
		if (ioctl(fd, request, &have))
			return fail(what, errno, "TCP");
		if (have == want)
			return 0;
		usleep(POLL_US);
	}
	fprintf(stderr, "%s: %s: %d bytes, not %d\n", program_invocation_short_name, what,
		have, want);
	return -ETIME;
}

/* All of it, and nothing else. */
static int read_all(struct receiver *r)
{
	size_t done;
	ssize_t n;

	for (done = 0; done < r->size; done += (size_t)n) {
		n = recv(r->c->rx, r->data + done, r->size - done, 0);
		if (n <= 0)
			return fail("recv", n ? errno : EPIPE, "the peer's socket");
	}
	return 0;
}

static int receive_window(struct receiver *r)
{
	int ret = wait_bytes(r->c->rx, SIOCINQ, (int)r->size, "waiting for the data");

	if (!ret)
		ret = read_all(r);
	if (!ret && r->muted)
		ret = link_mute(r->c, r->control, false);
	if (!ret && send(r->c->rx, "", 1, MSG_NOSIGNAL) != 1)
		ret = fail("send", errno, "the peer's socket");
	if (!ret)
		ret = wait_bytes(r->c->tx, SIOCOUTQ, 0, "waiting for the acknowledgement");
	usleep(SETTLE_US);
	return ret;
}

/* One more than @acks, of which those that the peer sends now are the only ones. */
static int wait_acks(unsigned int acks)
{
	struct tcp_counts n;
	int ret;

	for (int us = 0; us < PATIENCE_US; us += POLL_US) {
		ret = link_counts_rds(&n);
		if (ret)
			return ret;
		if (n.acks != acks)
			return 0;
		usleep(POLL_US);
	}
	return fail("waiting for the acknowledgement", ETIME, "RDS");
}

/* RDS has several connections, and takes whichever it likes for an answer. */
static int receive_messages(struct receiver *r)
{
	struct tcp_counts before;
	char byte;
	int ret = read_all(r);

	if (!ret && r->muted)
		ret = link_mute(r->c, r->control, false);
	if (!ret)
		ret = link_counts_rds(&before);
	atomic_store(&r->there, true);
	if (!ret && recv(r->c->rx, &byte, 1, 0) != 1)
		ret = fail("recv", errno, "the last message");
	if (!ret)
		ret = wait_acks(before.acks);
	usleep(SETTLE_RDS_US);
	return ret;
}

static void *run(void *arg)
{
	struct receiver *r = arg;

	run_on(OTHER_CPU);
	for (;;) {
		sem_wait(&r->go);
		if (r->stop)
			return NULL;
		r->error = r->messages ? receive_messages(r) : receive_window(r);
		atomic_store(&r->acked, true);
		r->wrong = r->error ? 0 : count_wrong(r->data, r->pattern, r->size);
		sem_post(&r->checked);
	}
}

int receiver_start(struct receiver *r, const struct net_pair *c, int control,
		   const unsigned char *pattern, size_t size)
{
	*r = (struct receiver){ .c = c, .pattern = pattern, .size = size };
	r->messages = control >= 0;
	r->control = r->messages ? control : c->rx;
	sem_init(&r->go, 0, 0);
	sem_init(&r->checked, 0, 0);
	r->data = malloc(size);
	if (!r->data)
		return fail("memory for the receiver", ENOMEM, "a larger guest?");
	if (pthread_create(&r->thread, NULL, run, r)) {
		free(r->data);
		return fail("pthread_create", EAGAIN, "a thread for the receiver");
	}
	return 0;
}

void receiver_stop(struct receiver *r)
{
	r->stop = true;
	sem_post(&r->go);
	pthread_join(r->thread, NULL);
	free(r->data);
}

int receiver_expect(struct receiver *r, bool muted)
{
	int ret = muted ? link_mute(r->c, r->control, true) : 0;

	r->muted = muted;
	atomic_store(&r->acked, false);
	atomic_store(&r->there, false);
	sem_post(&r->go);
	return ret;
}

void receiver_wait_there(struct receiver *r)
{
	while (!atomic_load_explicit(&r->there, memory_order_acquire))
		__builtin_ia32_pause();
}

int receiver_wait_acked(struct receiver *r)
{
	while (!atomic_load_explicit(&r->acked, memory_order_acquire))
		__builtin_ia32_pause();
	return r->error;
}

long receiver_result(struct receiver *r)
{
	while (sem_wait(&r->checked))
		;
	return r->error ? r->error : r->wrong;
}
