// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * uring-dmabuf send: the drive writes a block into the memory, and the card reads it from
 * there. Blocks are read in any order, and sent in that of their connection.
 */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "address.h"
#include "stream.h"

#define CONNECT_TIMEOUT	10	/* seconds */
#define READY_TIMEOUT	60	/* seconds, of a receiver that makes room */
#define LOOK_EVERY	200	/* ms, if the receiver has said something */

static const char doc[] =
	"Send a file, a block device or a dma-buf over TCP by way of device memory: the drive "
	"writes into it and the card reads from it, and the CPU copies nothing.\v"
	"SOURCE is a file on ext4 or XFS, a block device, or fd:N, a dma-buf that this program "
	"inherits; uring-dmabuf recv listens at HOST, whose addresses are all tried. Both sides "
	"compute a checksum of each connection. It is over when the receiver has said that "
	"everything is where it was to go.\n\n"
	"Exit: 0 all has arrived; 1 not all, and it was said why; 2 usage; 3 this kernel, or "
	"this process, cannot do it at all; 4 other bytes have arrived; 130 interrupted.";

static const struct argp_option options[] = {
	{ "copy-ok", 'o', NULL, 0, "Let the CPU copy what the connection cannot send as it is", 0 },
	{ "connections", 'c', "N", 0, "Over so many at a time, 1 to 16 (default 1)", 0 },
	{ "wait", 'w', "SECONDS", 0, "Try so long until the receiver listens (default 0)", 0 },
	{ "no-checksum", 'n', NULL, 0, "Do not look at the data", 0 },
	{ 0 },
};

/* A block on its way */
struct piece {
	struct dmabuf_io_request r;
	struct connection *to;		/* NULL: free */
	uint64_t nr;
	uint32_t len;
	enum { READING, READ, SENDING } state;
};

/**
 * struct connection - one of them
 * @target:	of the handle
 * @next:	block that is read next
 * @turn:	block that is sent next
 * @put:	bytes of the trailer that are sent
 * @answered:	what it was asked last
 */
struct connection {
	int fd, target;
	uint64_t next, turn;
	XXH3_state_t *hash;
	struct stream_trailer trailer;
	size_t put;
	bool answered;
};

struct sender {
	struct stream_options o;
	struct copier c;		/* its only job, for who says how far it is */
	struct job *job;
	struct dmabuf_io *io;
	struct dmabuf_mem pool, *mem;	/* where the blocks are */
	int buffer, source;
	struct connection connections[STREAM_MAX];
	unsigned int turn;
	struct piece *pieces;
	unsigned int nr_pieces;
	uint64_t blocks;
	uint64_t looked;		/* for a reply, ms */
	char *seen;			/* where memory that the CPU does not see is looked at */
};

/* ---- connections ---- */

/* Nobody listens yet, or the machine is not up yet */
static bool may_come(int err)
{
	return err == -ECONNREFUSED || err == -EHOSTUNREACH || err == -ENETUNREACH ||
	       err == -ETIMEDOUT;
}

static void say_waiting(void *arg)
{
	struct sender *s = arg;

	progress_wait(&s->c, "until the receiver listens");
}

static int connect_patiently(struct sender *s, unsigned int seconds, const char **text)
{
	const struct timespec tick = { .tv_nsec = 200000000 };
	const struct tcp_wait wait = { say_waiting, s };
	uint64_t until = stream_ms() + seconds * 1000ULL;
	int fd;

	for (;;) {
		fd = tcp_connect(s->job->to.name, CONNECT_TIMEOUT, &wait, text);
		if (!may_come(fd) || stream_ms() >= until || cp_stop)
			return fd;
		say_waiting(s);
		nanosleep(&tick, NULL);
	}
}

/* What the receiver says: true if it goes on */
static bool listen_to(struct sender *s, struct connection *con)
{
	struct stream_reply r;
	int ret = stream_get_reply(con->fd, &r, CONNECT_TIMEOUT);

	if (!ret && !r.error)
		return true;
	if (!ret) {
		s->c.wrong |= r.error == EILSEQ;
		job_fail(s->job, "the receiver says: %s", r.text);
	} else if (ret == -EPROTO) {
		job_fail(s->job, "who listens there is no uring-dmabuf recv of this version");
	} else if (ret == -ENODATA || ret == -ECONNRESET) {
		job_fail(s->job, "the receiver has gone");
	} else if (!cp_stop) {
		job_fail(s->job, "the receiver: %s", strerror(-ret));
	}
	return false;
}

/* Something is there to be read, or to be found out */
static bool has_something(const struct connection *con)
{
	char byte;
	ssize_t n;

	if (con->fd < 0)
		return false;
	n = recv(con->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	return n >= 0 || (errno != EAGAIN && errno != EINTR);
}

/*
 * A socket says @err: why, the receiver may have said by any of them, or be about to.
 * @what: of this side
 */
static void lost(struct sender *s, int err, const char *what)
{
	const struct timespec tick = { .tv_nsec = 50000000 };
	bool open = true;

	for (int patience = 20; patience && open && !s->job->failed && !cp_stop; patience--) {
		open = false;
		for (unsigned int i = 0; i < s->o.connections && !s->job->failed; i++) {
			struct connection *con = &s->connections[i];
			char byte;
			ssize_t n = con->fd < 0 ? 0 : recv(con->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

			open |= n < 0 && errno == EAGAIN;
			/* what has ended without a word is no answer */
			if (n == 1)
				listen_to(s, con);
		}
		if (open && !s->job->failed)
			nanosleep(&tick, NULL);
	}
	if (cp_stop)
		return;
	if (err == -EPIPE || err == -ECONNRESET)
		job_fail(s->job, "the receiver has gone");
	else
		job_fail(s->job, "%s: %s", what, strerror(-err));
}

static int connect_one(struct sender *s, unsigned int i)
{
	const struct timeval none = { 0 };
	struct connection *con = &s->connections[i];
	const char *text;

	con->fd = connect_patiently(s, i ? 0 : s->o.wait, &text);
	if (con->fd < 0) {
		if (text)
			job_fail(s->job, "%s", text);
		else if (i)
			lost(s, con->fd, "one more connection");
		else if (!cp_stop)
			job_fail(s->job, "%s%s", strerror(-con->fd), con->fd == -ECONNREFUSED ?
				 ": start uring-dmabuf recv there, or use --wait" : "");
		return con->fd;
	}
	/* a peer may take its time for what is sent */
	setsockopt(con->fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
	setsockopt(con->fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
	tcp_keep_alive(con->fd);
	con->hash = XXH3_createState();
	if (!con->hash)
		die("no memory");
	XXH3_128bits_reset(con->hash);
	return 0;
}

static int introduce(struct sender *s, const uint8_t session[static 16], unsigned int i)
{
	struct stream_header h = {
		.index = htole32(i), .connections = htole32(s->o.connections),
		.size = htole64(s->job->size), .block = htole32(STREAM_BLOCK),
		.hashed = htole32(s->o.hashed),
	};
	int ret;

	stream_set_magic(h.magic, "udmabufS");
	memcpy(h.session, session, sizeof(h.session));
	ret = stream_put(s->connections[i].fd, &h, sizeof(h), CONNECT_TIMEOUT);
	if (ret)
		lost(s, ret, "one more connection");
	return ret;
}

static int put_trailer(struct sender *s, struct connection *con)
{
	size_t left = sizeof(con->trailer) - con->put;
	ssize_t n = send(con->fd, (char *)&con->trailer + con->put, left, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		lost(s, -errno, "at the end");
		return -EPIPE;
	}
	con->put += n > 0 ? (size_t)n : 0;
	return 0;
}

/* Those that have not answered; what they are to have before goes out meanwhile */
static int wait_for_answers(struct sender *s, struct pollfd p[static STREAM_MAX])
{
	int waiting = 0;

	for (unsigned int i = 0; i < s->o.connections; i++) {
		const struct connection *con = &s->connections[i];
		bool puts = con->put < sizeof(con->trailer);

		p[i] = (struct pollfd) {
			.fd = con->answered ? -1 : con->fd,
			.events = POLLIN | (puts ? POLLOUT : 0),
		};
		waiting += !con->answered;
	}
	if (waiting)
		poll(p, s->o.connections, LOOK_EVERY);
	return waiting;
}

static bool answers(struct sender *s, struct connection *con)
{
	con->answered = listen_to(s, con);
	if (con->answered && con->put < sizeof(con->trailer)) {
		job_fail(s->job, "the receiver has ended before it had all");
		return false;
	}
	return con->answered;
}

/* Until all have answered that it goes on; the first one that does not ends it */
static int all_answer(struct sender *s, unsigned int seconds, const char *what)
{
	uint64_t until = stream_ms() + seconds * 1000ULL;
	struct pollfd p[STREAM_MAX];

	for (unsigned int i = 0; i < s->o.connections; i++)
		s->connections[i].answered = false;
	while (wait_for_answers(s, p)) {
		for (unsigned int i = 0; i < s->o.connections; i++) {
			struct connection *con = &s->connections[i];

			if (p[i].revents & ~POLLOUT) {
				if (!answers(s, con))
					return -ECONNABORTED;
			} else if (p[i].revents && put_trailer(s, con)) {
				return -ECONNABORTED;
			}
		}
		if (cp_stop)
			return -EINTR;
		if (seconds && stream_ms() >= until) {
			job_fail(s->job, "the receiver does not answer");
			return -ETIMEDOUT;
		}
		progress_wait(&s->c, what);
	}
	return 0;
}

static int connect_all(struct sender *s)
{
	uint8_t session[16];
	int ret = getrandom(session, sizeof(session), 0) == sizeof(session) ? 0 : -EAGAIN;

	for (unsigned int i = 0; i < s->o.connections && !ret; i++) {
		/* there is no trailer yet */
		s->connections[i].put = sizeof(s->connections[i].trailer);
		ret = connect_one(s, i);
		if (!ret)
			ret = introduce(s, session, i);
	}
	return ret ? ret : all_answer(s, READY_TIMEOUT, "until the receiver has made room");
}

/* Gives back what is in the socket, too, for which a peer that is stuck would have to answer */
static void abort_connection(const struct connection *con)
{
	const struct sockaddr none = { .sa_family = AF_UNSPEC };

	connect(con->fd, &none, sizeof(none));
}

/* ---- memory ---- */

static int prepare(struct sender *s)
{
	struct job *job = s->job;
	struct target from = {
		.name = job->from.name, .fd = job->from.fd,
		.kind = job->from.kind == END_BLOCK ? TARGET_BLOCK : TARGET_FILE,
	};
	struct target to = { .name = job->to.name, .kind = TARGET_TCP };
	const char *memory = job->from.kind == END_DMABUF ? job->from.name : s->o.o.memory;
	int ret = 0;

	if (job->from.kind != END_DMABUF) {
		s->source = dmabuf_io_add_target(s->io, job->from.fd);
		ret = s->source < 0 ? s->source :
		      stream_prepare(s->io, s->buffer, s->source, memory, &from);
	}
	for (unsigned int i = 0; i < s->o.connections && !ret; i++) {
		struct connection *con = &s->connections[i];

		con->next = con->turn = i;
		to.fd = con->fd;
		con->target = dmabuf_io_add_target(s->io, con->fd);
		ret = con->target < 0 ? con->target :
		      stream_prepare(s->io, s->buffer, con->target, memory, &to);
	}
	return ret;
}

static int open_memory(struct sender *s)
{
	unsigned int flags = s->o.o.bounce ? DMABUF_IO_BOUNCE :
			     s->o.copy_ok ? IO_URING_DMABUF_COPY_OK : 0;
	int ret;

	s->nr_pieces = 4 * s->o.connections > STREAM_PIECES ? 4 * s->o.connections : STREAM_PIECES;
	s->pieces = calloc(s->nr_pieces, sizeof(*s->pieces));
	s->seen = malloc(STREAM_BLOCK);
	if (!s->pieces || !s->seen)
		die("no memory");
	s->mem = &s->job->from.mem;
	if (s->job->from.kind != END_DMABUF) {
		s->mem = &s->pool;
		ret = stream_memory(&s->o.o, s->mem, (size_t)s->nr_pieces * STREAM_BLOCK);
		if (ret)
			return ret;
	}
	s->buffer = dmabuf_io_add_buffer(s->io, s->mem, flags);
	return s->buffer < 0 ? s->buffer : prepare(s);
}

/* ---- blocks ---- */

static uint64_t memory_of(const struct sender *s, const struct piece *p)
{
	if (s->job->from.kind == END_DMABUF)
		return p->nr * STREAM_BLOCK;
	return (uint64_t)(p - s->pieces) * STREAM_BLOCK;
}

static void submit(struct sender *s, struct piece *p)
{
	struct dmabuf_io_request *r = &p->r;
	int ret = dmabuf_io_submit(s->io, &r, 1);

	/* there are as many as pieces, and what they are about was checked */
	if (ret != 1)
		job_fail(s->job, "a request: %s", strerror(-ret));
}

/* The next block of a connection that has one, one after the other */
static struct connection *next_connection(struct sender *s)
{
	for (unsigned int i = 0; i < s->o.connections; i++) {
		struct connection *con = &s->connections[s->turn++ % s->o.connections];

		if (con->next < s->blocks)
			return con;
	}
	return NULL;
}

static void begin(struct sender *s, struct piece *p)
{
	struct connection *con = next_connection(s);

	if (!con)
		return;
	p->to = con;
	p->nr = con->next;
	p->len = stream_block_len(s->job->size, STREAM_BLOCK, p->nr);
	con->next += s->o.connections;
	p->state = READ;
	if (s->job->from.kind == END_DMABUF)
		return;
	p->state = READING;
	/* to the end of a block of the drive; what is behind the file is not there */
	p->r = (struct dmabuf_io_request) {
		.op = DMABUF_IO_READ, .buffer = s->buffer, .target = s->source,
		.buffer_off = memory_of(s, p), .target_off = p->nr * STREAM_BLOCK,
		.size = (p->len + BLOCK - 1) / BLOCK * BLOCK,
	};
	submit(s, p);
}

static int look_at(struct sender *s, struct piece *p)
{
	uint64_t off = memory_of(s, p);
	int ret;

	if (!s->o.hashed)
		return 0;
	if (s->mem->ptr) {
		ret = stream_cpu_begin(s->mem, false);
		if (ret)
			return ret;
		XXH3_128bits_update(p->to->hash, (char *)s->mem->ptr + off, p->len);
		return stream_cpu_end(s->mem, false);
	}
	ret = dmabuf_mem_copy_from(s->mem, off, s->seen, p->len);
	if (!ret)
		XXH3_128bits_update(p->to->hash, s->seen, p->len);
	s->c.copied += p->len;
	return ret;
}

static void send_piece(struct sender *s, struct piece *p)
{
	int ret = look_at(s, p);

	if (ret) {
		job_fail(s->job, "its checksum: %s: --no-checksum sends it without", strerror(-ret));
		return;
	}
	p->state = SENDING;
	p->to->turn += s->o.connections;
	p->r = (struct dmabuf_io_request) {
		.op = DMABUF_IO_SEND, .buffer = s->buffer, .target = p->to->target,
		.buffer_off = memory_of(s, p), .size = p->len,
	};
	submit(s, p);
}

/* How many blocks are on their way */
static unsigned int go_on(struct sender *s)
{
	unsigned int busy = 0;
	bool sent;

	for (unsigned int i = 0; i < s->nr_pieces; i++)
		if (!s->pieces[i].to)
			begin(s, &s->pieces[i]);
	do {
		sent = false;
		for (unsigned int i = 0; i < s->nr_pieces && !s->job->failed; i++) {
			struct piece *p = &s->pieces[i];

			if (p->to && p->state == READ && p->nr == p->to->turn) {
				send_piece(s, p);
				sent = true;
			}
		}
	} while (sent);
	for (unsigned int i = 0; i < s->nr_pieces; i++)
		busy += !!s->pieces[i].to;
	return busy;
}

static void request_failed(struct sender *s, struct piece *p, int err)
{
	struct job *job = s->job;
	bool sending = p->state == SENDING;
	struct target t = {
		.name = sending ? job->to.name : job->from.name,
		.fd = sending ? p->to->fd : job->from.fd,
		.kind = sending ? TARGET_TCP : job->from.kind == END_BLOCK ? TARGET_BLOCK : TARGET_FILE,
	};
	struct verdict v = { 0 };

	if (sending && (err == -EPIPE || err == -ECONNRESET || err == -ETIMEDOUT)) {
		lost(s, err, "the receiver");
		return;
	}
	fail_request(&v, sending ? "send" : "read", &t, err);
	job_fail(job, "%s at %llu: %s", sending ? "sent" : "read",
		 (unsigned long long)(p->nr * STREAM_BLOCK), v.text);
}

static void completed(struct sender *s, struct piece *p)
{
	int64_t result = p->r.result;

	s->c.copied += p->r.copied;
	if (result < 0) {
		request_failed(s, p, (int)result);
	} else if (p->state == READING && (uint64_t)result < p->len) {
		job_fail(s->job, "it has become shorter while it was sent");
	} else if (p->state == READING) {
		p->state = READ;
		return;
	} else {
		s->job->done += p->len;
	}
	p->to = NULL;
}

/* A receiver that cannot go on says so before the end */
static void look_for_reply(struct sender *s)
{
	uint64_t now = stream_ms();

	if (now - s->looked < LOOK_EVERY)
		return;
	s->looked = now;
	for (unsigned int i = 0; i < s->o.connections && !s->job->failed; i++)
		if (has_something(&s->connections[i]) && listen_to(s, &s->connections[i]))
			job_fail(s->job, "the receiver has ended before it had all");
}

static void send_all(struct sender *s)
{
	struct dmabuf_io_request *done[32];
	int n;

	while (go_on(s) && !s->job->failed && !cp_stop) {
		n = dmabuf_io_reap(s->io, done, 32, LOOK_EVERY);
		if (n < 0 && n != -EINTR)
			job_fail(s->job, "%s", strerror(-n));
		for (int i = 0; i < n; i++)
			completed(s, (struct piece *)done[i]);
		look_for_reply(s);
		progress(&s->c);
	}
}

/* All is sent; it is over when the receiver says so */
static void end(struct sender *s)
{
	for (unsigned int i = 0; i < s->o.connections; i++) {
		struct connection *con = &s->connections[i];
		XXH128_canonical_t hash;

		stream_set_magic(con->trailer.magic, "udmabufT");
		XXH128_canonicalFromHash(&hash, XXH3_128bits_digest(con->hash));
		memcpy(con->trailer.hash, &hash, sizeof(con->trailer.hash));
		con->put = 0;
	}
	s->job->finished = !all_answer(s, 0, "until the receiver has all on its drive");
}

/* ---- the program ---- */

static unsigned int number(struct argp_state *state, const char *arg, unsigned int least,
			   unsigned int most, const char *what)
{
	char *after;
	unsigned long n = strtoul(arg, &after, 10);

	if (!*arg || *after || *arg == '-' || n < least || n > most)
		argp_error(state, "%s: %u to %u, not %s", what, least, most, arg);
	return (unsigned int)n;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct sender *s = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = state->child_inputs[1] = &s->o.o;
		return 0;
	case 'o':
		s->o.copy_ok = true;
		return 0;
	case 'c':
		s->o.connections = number(state, arg, 1, STREAM_MAX, "--connections");
		return 0;
	case 'w':
		s->o.wait = number(state, arg, 0, 86400, "--wait");
		return 0;
	case 'n':
		s->o.hashed = false;
		return 0;
	case ARGP_KEY_ARG:
		if (state->arg_num > 1)
			argp_error(state, "one source, one destination");
		(state->arg_num ? &s->job->to : &s->job->from)->name = arg;
		return 0;
	case ARGP_KEY_END:
		if (state->arg_num < 2)
			argp_error(state, "from where to where?");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static void send_it(struct sender *s)
{
	if (job_open_source(s->job))
		return;
	s->blocks = stream_blocks(s->job->size, STREAM_BLOCK);
	/* what cannot be here need not be tried there */
	if (!stream_has_kernel(&s->c) || stream_open_ring(&s->io, &s->c) ||
	    connect_all(s) || open_memory(s))
		return;
	/* the time that it waited is no part of its rate */
	progress_start();
	send_all(s);
	if (!s->job->failed && !cp_stop)
		end(s);
}

static void close_all(struct sender *s)
{
	for (unsigned int i = 0; i < s->o.connections; i++)
		if (s->connections[i].fd >= 0 && !s->job->finished)
			abort_connection(&s->connections[i]);
	dmabuf_io_close(s->io);
	for (unsigned int i = 0; i < s->o.connections; i++) {
		if (s->connections[i].fd >= 0)
			close(s->connections[i].fd);
		XXH3_freeState(s->connections[i].hash);
	}
	dmabuf_mem_close(&s->pool);
	free(s->pieces);
	free(s->seen);
	job_close(s->job);
}

int send_main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options, .parser = parse, .doc = doc, .children = cp_common_options,
		.args_doc = "SOURCE tcp:HOST:PORT",
	};
	struct sender *s = calloc(1, sizeof(*s));
	char name[] = "uring-dmabuf send";
	int code;

	if (!s)
		die("no memory");
	s->job = &s->c.jobs[0];
	s->o = (struct stream_options) { .o.memory = "udmabuf", .connections = 1, .hashed = true };
	argv[0] = name;
	argp_parse(&argp, argc, argv, 0, NULL, s);
	stream_start(&s->o, &s->c);
	s->job->to.kind = END_STREAM;
	for (unsigned int i = 0; i < STREAM_MAX; i++)
		s->connections[i].fd = -1;
	send_it(s);
	progress_end(&s->c, "", s->job->finished && s->o.hashed);
	code = stream_outcome(&s->c);
	close_all(s);
	free(s);
	return code;
}
