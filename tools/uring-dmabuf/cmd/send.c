// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * uring-dmabuf send: the drive writes a block into the memory, and the card reads it from
 * there. Blocks are read in any order, and sent in that of their connection.
 */
#include <argp.h>
#include <endian.h>
#include <errno.h>
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
	{ "memory", 'm', "SPEC", 0, "By this memory: udmabuf (default), heap:NAME, cuda:N, fd:N", 0 },
	{ "bounce", 'b', NULL, 0, "By ordinary memory instead, and ordinary sends", 0 },
	{ "copy-ok", 'o', NULL, 0, "Let the CPU copy what the connection cannot send as it is", 0 },
	{ "connections", 'c', "N", 0, "Over so many at a time, 1 to 16 (default 1)", 0 },
	{ "wait", 'w', "SECONDS", 0, "Try so long until the receiver listens (default 0)", 0 },
	{ "no-checksum", 'n', NULL, 0, "Do not look at the data", 0 },
	{ "quiet", 'q', NULL, 0, "Say nothing unless it fails", 0 },
	{ "json", 'j', NULL, 0, "Print JSON: a line each second, and one at the end", 0 },
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
 */
struct connection {
	int fd, target;
	uint64_t next, turn;
	XXH3_state_t *hash;
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
	char *seen;			/* where memory that the CPU does not see is looked at */
};

/* ---- connections ---- */

static int connect_patiently(const char *name, unsigned int seconds, const char **text)
{
	const struct timespec tick = { .tv_nsec = 200000000 };
	int fd;

	for (unsigned int i = 0; ; i++) {
		fd = tcp_connect(name, CONNECT_TIMEOUT, text);
		if (fd != -ECONNREFUSED || i >= 5 * seconds || cp_stop)
			return fd;
		nanosleep(&tick, NULL);
	}
}

static int connect_one(struct sender *s, struct connection *con)
{
	const struct timeval none = { 0 };
	const char *text;

	con->fd = connect_patiently(s->job->to.name, s->o.wait, &text);
	if (con->fd < 0) {
		if (text)
			job_fail(s->job, "%s", text);
		else
			job_fail(s->job, "%s%s", strerror(-con->fd), con->fd == -ECONNREFUSED ?
				 ": start uring-dmabuf recv there, or use --wait" : "");
		return con->fd;
	}
	/* a peer may take its time for what is sent */
	setsockopt(con->fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
	setsockopt(con->fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
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

	stream_set_magic(h.magic, "udmabufS");
	memcpy(h.session, session, sizeof(h.session));
	return stream_put(s->connections[i].fd, &h, sizeof(h), CONNECT_TIMEOUT);
}

/* What the receiver says: true if it goes on */
static bool listen_to(struct sender *s, struct connection *con, unsigned int seconds)
{
	char text[112];
	int ret = stream_get_reply(con->fd, text, seconds);

	if (ret == -EILSEQ && *text)
		s->c.wrong = true;
	if (ret && *text)
		job_fail(s->job, "the receiver says: %s", text);
	else if (ret == -ENODATA)
		job_fail(s->job, "the receiver has closed the connection");
	else if (ret && ret != -EINTR)
		job_fail(s->job, "the receiver: %s", strerror(-ret));
	return !ret;
}

static int connect_all(struct sender *s)
{
	uint8_t session[16];
	int ret = getrandom(session, sizeof(session), 0) == sizeof(session) ? 0 : -EAGAIN;

	for (unsigned int i = 0; i < s->o.connections && !ret; i++) {
		ret = connect_one(s, &s->connections[i]);
		if (ret)
			break;
		ret = introduce(s, session, i);
		if (ret)
			job_fail(s->job, "%s", strerror(-ret));
	}
	for (unsigned int i = 0; i < s->o.connections && !ret; i++)
		if (!listen_to(s, &s->connections[i], 6 * CONNECT_TIMEOUT))
			ret = -ECONNABORTED;
	return ret;
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
	struct dmabuf_io_params params = { .max_targets = STREAM_MAX + 1 };
	unsigned int flags = s->o.o.bounce ? DMABUF_IO_BOUNCE :
			     s->o.copy_ok ? IO_URING_DMABUF_COPY_OK : 0;
	struct verdict v = { 0 };
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
	ret = dmabuf_io_open(&s->io, &params);
	if (ret) {
		fail_ring(&v, ret);
		fprintf(stderr, "uring-dmabuf: %s\n", v.text);
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
	char byte;

	/* the receiver may have said why */
	for (unsigned int i = 0; sending && i < s->o.connections; i++)
		if (recv(s->connections[i].fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1 &&
		    !listen_to(s, &s->connections[i], 1))
			return;
	if (sending && (err == -EPIPE || err == -ECONNRESET)) {
		job_fail(job, "the receiver has gone");
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
	char byte;

	for (unsigned int i = 0; i < s->o.connections && !s->job->failed; i++) {
		ssize_t n = recv(s->connections[i].fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

		if (n >= 0 && listen_to(s, &s->connections[i], 1))
			job_fail(s->job, "the receiver has ended before it had all");
	}
}

static void send_all(struct sender *s)
{
	struct dmabuf_io_request *done[32];
	int n;

	while (go_on(s) && !s->job->failed && !cp_stop) {
		n = dmabuf_io_reap(s->io, done, 32, 200);
		if (n < 0 && n != -EINTR)
			job_fail(s->job, "%s", strerror(-n));
		for (int i = 0; i < n; i++)
			completed(s, (struct piece *)done[i]);
		if (!n)
			look_for_reply(s);
		progress(&s->c);
	}
}

/* All is sent; it is over when the receiver says so */
static void end(struct sender *s)
{
	for (unsigned int i = 0; i < s->o.connections; i++) {
		struct connection *con = &s->connections[i];
		struct stream_trailer t = { 0 };
		XXH128_canonical_t hash;
		int ret;

		stream_set_magic(t.magic, "udmabufT");
		XXH128_canonicalFromHash(&hash, XXH3_128bits_digest(con->hash));
		memcpy(t.hash, &hash, sizeof(t.hash));
		ret = stream_put(con->fd, &t, sizeof(t), STREAM_FOREVER);
		if (ret && ret != -EINTR)
			job_fail(s->job, "at the end: %s", strerror(-ret));
		if (ret)
			return;
	}
	for (unsigned int i = 0; i < s->o.connections; i++)
		if (!listen_to(s, &s->connections[i], STREAM_FOREVER))
			return;
	s->job->finished = true;
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
	case 'm':
		s->o.o.memory = arg;
		return 0;
	case 'b':
		s->o.o.bounce = true;
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
	case 'q':
		s->o.o.quiet = true;
		return 0;
	case 'j':
		s->o.o.json = true;
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
	struct verdict v = { 0 };

	if (job_open_source(s->job))
		return;
	s->blocks = stream_blocks(s->job->size, STREAM_BLOCK);
	if (!s->o.o.bounce && kernel_check(&v)) {
		fprintf(stderr, "uring-dmabuf: %s\n  (--bounce moves the same by ordinary memory)\n", v.text);
		s->c.no_kernel = true;
		return;
	}
	catch_signals();
	progress_start(&s->c);
	if (connect_all(s) || open_memory(s))
		return;
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
		.options = options, .parser = parse, .doc = doc,
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
	s->c.o = &s->o.o;
	s->c.nr_jobs = 1;
	s->job->from.fd = s->job->to.fd = -1;
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
