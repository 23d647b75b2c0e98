// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * uring-dmabuf recv: what arrives is put into the memory by the CPU, as TCP does it, and the
 * drive reads it from there. It has its name when all of it is there and is what was sent.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "stream.h"

#define HEADER_TIMEOUT	10000	/* ms, of one connection */
#define OTHERS_TIMEOUT	30000	/* ms, until all connections are there */
#define LAST_WORDS	5000	/* ms, for the sender to hear why */
#define UNKNOWN_MAX	32	/* connections that have not said what they are */
#define TICK		200	/* ms */

static const char doc[] =
	"Receive what uring-dmabuf send sends, once, into a file, a block device or a dma-buf.\v"
	"DESTINATION is a file on ext4 or XFS, a block device that nothing holds, or fd:N, a "
	"dma-buf that this program inherits. Without an ADDRESS it listens at all of this "
	"machine's. A file has its name when all of it is there and its checksums are right; "
	"what was there before stays until then.\n\n"
	"Exit: 0 all has arrived; 1 not all, and it was said why; 2 usage; 3 this kernel, or "
	"this process, cannot do it at all; 4 other bytes have arrived; 130 interrupted.";

/* A block that arrives, and is written */
struct piece {
	struct dmabuf_io_request r;
	bool used;
	uint64_t nr;
	uint32_t len;
};

/**
 * struct input - a connection
 * @next:	block that comes next
 * @piece:	of it, or NULL
 * @got:	bytes of the block, or of the trailer
 * @whole:	the trailer is there
 * @scratch:	where it arrives if the CPU does not see the memory
 */
struct input {
	int fd;
	uint64_t next;
	struct piece *piece;
	size_t got;
	struct stream_trailer trailer;
	bool whole;
	XXH3_state_t *hash;
	char *scratch;
};

/* Who has connected, and has not said all of what it is */
struct unknown {
	int fd;
	struct stream_header h;
	size_t got;
	uint64_t until;		/* ms */
};

struct receiver {
	struct stream_options o;
	struct copier c;
	struct job *job;
	int listener;
	struct unknown unknown[UNKNOWN_MAX];
	unsigned int nr_unknown;
	uint64_t others_until;		/* ms */
	struct stream_header header;	/* of the first connection, in this machine's order */
	struct input inputs[STREAM_MAX];
	unsigned int nr, whole;
	struct dmabuf_io *io;
	struct dmabuf_mem pool, *mem;
	int buffer, target, event_fd;
	struct piece *pieces;
	unsigned int nr_pieces, busy;
	uint64_t blocks;
	int stops;			/* cp_stop, when it ended */
	char tail[BLOCK];
};

/* ---- connections ---- */

static int check_header(struct receiver *r, struct stream_header *h, const char **why)
{
	*why = "this is uring-dmabuf recv, of another version";
	if (!stream_is_magic(h->magic, "udmabufS"))
		return -EPROTO;
	h->index = le32toh(h->index);
	h->connections = le32toh(h->connections);
	h->size = le64toh(h->size);
	h->block = le32toh(h->block);
	h->hashed = le32toh(h->hashed);
	if (h->block != STREAM_BLOCK || h->size > INT64_MAX || h->hashed > 1 || h->resv[0] || h->resv[1])
		return -EPROTO;
	*why = "so many connections are not possible";
	if (!h->connections || h->connections > STREAM_MAX || h->index >= h->connections)
		return -EPROTO;
	if (!r->nr)
		return 0;
	*why = "another sender was first";
	if (memcmp(h->session, r->header.session, sizeof(h->session)))
		return -EBUSY;
	*why = "its connections do not belong together";
	if (h->connections != r->header.connections || h->size != r->header.size ||
	    h->hashed != r->header.hashed || r->inputs[h->index].fd >= 0)
		return -EPROTO;
	return 0;
}

static void use(struct receiver *r, int fd, const struct stream_header *h)
{
	struct input *in = &r->inputs[h->index];

	if (!r->nr++) {
		r->header = *h;
		r->others_until = stream_ms() + OTHERS_TIMEOUT;
	}
	in->fd = fd;
	in->next = h->index;
	in->hash = XXH3_createState();
	if (!in->hash)
		die("no memory");
	XXH3_128bits_reset(in->hash);
}

/* Those that say what they are not are told, and forgotten. False: it is unknown no more */
static bool get_known(struct receiver *r, struct unknown *u)
{
	const char *why;
	ssize_t n = recv(u->fd, (char *)&u->h + u->got, sizeof(u->h) - u->got, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0) {
		close(u->fd);
		return false;
	}
	u->got += (size_t)n;
	if (u->got < sizeof(u->h))
		return true;
	if (!check_header(r, &u->h, &why)) {
		use(r, u->fd, &u->h);
	} else {
		stream_put_reply(u->fd, -EPROTO, why);
		close(u->fd);
	}
	return false;
}

static void forget(struct receiver *r, unsigned int i)
{
	r->unknown[i] = r->unknown[--r->nr_unknown];
}

static void get_all_known(struct receiver *r, const struct pollfd *p)
{
	uint64_t now = stream_ms();

	/* backwards: in the place of one that goes comes one that was looked at */
	for (unsigned int i = r->nr_unknown; i--; ) {
		struct unknown *u = &r->unknown[i];

		if (p[i].revents) {
			if (!get_known(r, u))
				forget(r, i);
		} else if (now >= u->until) {
			close(u->fd);
			forget(r, i);
		}
	}
}

/* Whoever has said nothing for the longest time goes for the next one */
static void make_room(struct receiver *r)
{
	unsigned int oldest = 0;

	for (unsigned int i = 1; i < r->nr_unknown; i++)
		if (r->unknown[i].until < r->unknown[oldest].until)
			oldest = i;
	close(r->unknown[oldest].fd);
	forget(r, oldest);
}

static void accept_one(struct receiver *r)
{
	int fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	tcp_keep_alive(fd);
	if (r->nr_unknown == UNKNOWN_MAX)
		make_room(r);
	r->unknown[r->nr_unknown++] = (struct unknown) {
		.fd = fd, .until = stream_ms() + HEADER_TIMEOUT,
	};
}

static bool waits(const struct receiver *r)
{
	return !r->nr || r->nr < r->header.connections;
}

/* Whoever is slow, or says nothing, keeps nobody from being the sender */
static void accept_some(struct receiver *r)
{
	struct pollfd p[UNKNOWN_MAX + STREAM_MAX + 1];
	unsigned int n = 0, unknown = r->nr_unknown;

	for (; n < unknown; n++)
		p[n] = (struct pollfd) { .fd = r->unknown[n].fd, .events = POLLIN };
	for (unsigned int i = 0; i < STREAM_MAX; i++)
		p[n++] = (struct pollfd) { .fd = r->inputs[i].fd, .events = POLLRDHUP };
	p[n] = (struct pollfd) { .fd = r->listener, .events = POLLIN };
	if (poll(p, n + 1, TICK) < 0)
		return;
	get_all_known(r, p);
	for (unsigned int i = 0; i < STREAM_MAX; i++)
		if (p[unknown + i].revents)
			job_fail(r->job, "the sender has gone before all its connections were there");
	if (p[n].revents)
		accept_one(r);
}

static void too_late(int fd)
{
	stream_put_reply(fd, -EBUSY, "another sender was first");
	close(fd);
}

static int accept_all(struct receiver *r)
{
	int fd;

	while (waits(r)) {
		accept_some(r);
		if (cp_stop)
			return -EINTR;
		if (r->nr && waits(r) && stream_ms() >= r->others_until)
			job_fail(r->job, "%u of %u connections are there, and no more come", r->nr,
				 r->header.connections);
		if (r->job->failed)
			return -ECONNABORTED;
	}
	for (unsigned int i = 0; i < r->nr_unknown; i++)
		too_late(r->unknown[i].fd);
	r->nr_unknown = 0;
	/* and those that nobody has accepted yet */
	while ((fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		too_late(fd);
	close(r->listener);
	r->listener = -1;
	return 0;
}

static int listen_there(struct receiver *r)
{
	const char *text;

	r->listener = tcp_listen(r->job->from.name, &text);
	if (r->listener >= 0) {
		/* who has gone again before it was accepted is not waited for */
		fcntl(r->listener, F_SETFL, fcntl(r->listener, F_GETFL) | O_NONBLOCK);
		if (!r->o.o.quiet && !r->o.o.json)
			fprintf(stderr, "uring-dmabuf: listening at %s\n", r->job->from.name);
		return 0;
	}
	job_fail(r->job, "%s", text ? text : strerror(-r->listener));
	return r->listener;
}

static void reply_all(struct receiver *r, int err, const char *text)
{
	for (unsigned int i = 0; i < STREAM_MAX; i++)
		if (r->inputs[i].fd >= 0)
			stream_put_reply(r->inputs[i].fd, err, text);
}

static void read_away(struct input *in)
{
	static char nothing[1 << 16];
	ssize_t got = in->fd < 0 ? 0 : recv(in->fd, nothing, sizeof(nothing), MSG_DONTWAIT);

	if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	if (in->fd >= 0)
		close(in->fd);
	in->fd = -1;
}

/*
 * What is closed with data that nobody has read takes back what was said. A sender that
 * hears nothing, and goes on, has so much time; who interrupts once more has none.
 */
static void last_words(struct receiver *r)
{
	uint64_t until = stream_ms() + LAST_WORDS;
	struct pollfd p[STREAM_MAX];
	unsigned int n;

	for (unsigned int i = 0; i < STREAM_MAX; i++)
		if (r->inputs[i].fd >= 0)
			shutdown(r->inputs[i].fd, SHUT_WR);
	while (cp_stop <= r->stops && stream_ms() < until) {
		n = 0;
		for (unsigned int i = 0; i < STREAM_MAX; i++)
			if (r->inputs[i].fd >= 0)
				p[n++] = (struct pollfd) { .fd = r->inputs[i].fd, .events = POLLIN };
		if (!n)
			return;
		if (poll(p, n, TICK) <= 0)
			continue;
		for (unsigned int i = 0; i < STREAM_MAX; i++)
			read_away(&r->inputs[i]);
	}
}

/* ---- memory ---- */

static int prepare(struct receiver *r)
{
	struct target t = {
		.name = r->job->to.name, .fd = r->job->to.fd,
		.kind = r->job->to.kind == END_BLOCK ? TARGET_BLOCK : TARGET_FILE,
	};

	r->buffer = dmabuf_io_add_buffer(r->io, r->mem, r->o.o.bounce ? DMABUF_IO_BOUNCE : 0);
	r->target = dmabuf_io_add_target(r->io, r->job->to.fd);
	r->event_fd = dmabuf_io_event_fd(r->io);
	if (r->buffer < 0 || r->target < 0 || r->event_fd < 0) {
		job_fail(r->job, "%s", strerror(r->buffer < 0 ? -r->buffer : r->target < 0 ?
						-r->target : -r->event_fd));
		return -EIO;
	}
	return stream_prepare(r->io, r->buffer, r->target, r->o.o.memory, &t);
}

static int open_memory(struct receiver *r)
{
	int ret;

	r->nr_pieces = 4 * r->nr > STREAM_PIECES ? 4 * r->nr : STREAM_PIECES;
	r->pieces = calloc(r->nr_pieces, sizeof(*r->pieces));
	if (!r->pieces)
		die("no memory");
	r->mem = &r->job->to.mem;
	if (r->job->to.kind != END_DMABUF) {
		r->mem = &r->pool;
		ret = stream_memory(&r->o.o, r->mem, (size_t)r->nr_pieces * STREAM_BLOCK);
		if (!ret)
			ret = prepare(r);
		if (ret)
			return ret;
	}
	for (unsigned int i = 0; i < r->nr && !r->mem->ptr; i++) {
		r->inputs[i].scratch = malloc(STREAM_BLOCK);
		if (!r->inputs[i].scratch)
			die("no memory");
	}
	return 0;
}

/* ---- blocks ---- */

static uint64_t memory_of(const struct receiver *r, const struct piece *p)
{
	if (r->job->to.kind == END_DMABUF)
		return p->nr * STREAM_BLOCK;
	return (uint64_t)(p - r->pieces) * STREAM_BLOCK;
}

static void piece_done(struct receiver *r, struct piece *p, bool there)
{
	if (there)
		r->job->done += p->len;
	p->used = false;
	r->busy--;
}

/* To the end of a block of a file, which is cut off; on a block device not that far */
static uint32_t written_len(struct receiver *r, const struct piece *p)
{
	uint32_t rest = p->len % BLOCK;

	return !rest ? p->len : r->job->to.kind == END_BLOCK ? p->len - rest : p->len - rest + BLOCK;
}

static int fill_up(struct receiver *r, struct piece *p, uint32_t len)
{
	static const char zeros[BLOCK];
	uint64_t off = memory_of(r, p);

	/* what was here before is nobody's business */
	if (len > p->len)
		return dmabuf_mem_copy_to(r->mem, off + p->len, zeros, len - p->len);
	if (len == p->len)
		return 0;
	r->job->tail = r->tail;
	return dmabuf_mem_copy_from(r->mem, off + len, r->tail, p->len - len);
}

static void write_piece(struct receiver *r, struct piece *p)
{
	struct dmabuf_io_request *request = &p->r;
	uint32_t len = written_len(r, p);
	int ret = fill_up(r, p, len);

	if (!ret && !len) {
		/* the tail is all of it; job_finish() counts it */
		p->len = 0;
		piece_done(r, p, true);
		return;
	}
	if (len < p->len)
		p->len = len;
	p->r = (struct dmabuf_io_request) {
		.op = DMABUF_IO_WRITE, .buffer = r->buffer, .target = r->target,
		.buffer_off = memory_of(r, p), .target_off = p->nr * STREAM_BLOCK, .size = len,
	};
	if (!ret) {
		ret = dmabuf_io_submit(r->io, &request, 1);
		ret = ret == 1 ? 0 : ret;
	}
	if (ret)
		job_fail(r->job, "a request: %s", strerror(-ret));
}

/* All of a block has arrived */
static void arrived(struct receiver *r, struct input *in)
{
	struct piece *p = in->piece;
	int ret = 0;

	if (in->scratch) {
		ret = dmabuf_mem_copy_to(r->mem, memory_of(r, p), in->scratch, p->len);
		r->c.copied += p->len;
	}
	in->piece = NULL;
	in->got = 0;
	in->next += r->header.connections;
	if (ret)
		job_fail(r->job, "%s", dmabuf_mem_why());
	else if (r->job->to.kind == END_DMABUF)
		piece_done(r, p, true);
	else
		write_piece(r, p);
}

static bool begin(struct receiver *r, struct input *in)
{
	for (unsigned int i = 0; i < r->nr_pieces; i++) {
		struct piece *p = &r->pieces[i];

		if (p->used)
			continue;
		p->used = true;
		p->nr = in->next;
		p->len = stream_block_len(r->header.size, STREAM_BLOCK, p->nr);
		in->piece = p;
		r->busy++;
		return true;
	}
	return false;
}

static ssize_t receive_into(struct receiver *r, struct input *in, char *at, size_t len)
{
	bool memory = in->piece && !in->scratch;
	ssize_t n;
	int err = memory ? stream_cpu_begin(r->mem, true) : 0;

	if (err)
		return err;
	n = recv(in->fd, at, len, MSG_DONTWAIT);
	if (n < 0)
		n = -errno;
	if (n > 0 && in->piece) {
		if (r->header.hashed)
			XXH3_128bits_update(in->hash, at, (size_t)n);
		/* TCP has copied it */
		r->c.copied += (uint64_t)n;
	}
	err = memory ? stream_cpu_end(r->mem, true) : 0;
	return err ? err : n;
}

static char *place(struct receiver *r, struct input *in, size_t *len)
{
	if (!in->piece) {
		*len = sizeof(in->trailer) - in->got;
		return (char *)&in->trailer + in->got;
	}
	*len = in->piece->len - in->got;
	return in->scratch ? in->scratch + in->got :
			     (char *)r->mem->ptr + memory_of(r, in->piece) + in->got;
}

/* What is there of a connection, up to the end of its block */
static void receive(struct receiver *r, struct input *in)
{
	size_t len;
	char *at = place(r, in, &len);
	ssize_t n = receive_into(r, in, at, len);

	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n < 0 && n != -ECONNRESET && n != -ETIMEDOUT) {
		job_fail(r->job, "what arrives: %s", strerror((int)-n));
		return;
	}
	if (n <= 0) {
		job_fail(r->job, "the sender has gone after %llu of %llu bytes%s%s",
			 (unsigned long long)r->job->done, (unsigned long long)r->job->size,
			 n ? ": " : "", n ? strerror((int)-n) : "");
		return;
	}
	in->got += (size_t)n;
	if ((size_t)n < len)
		return;
	if (in->piece) {
		arrived(r, in);
	} else {
		in->whole = true;
		r->whole++;
	}
}

/* Something is to come by it, and there is room for it */
static bool wants(struct receiver *r, struct input *in)
{
	return !in->whole && (in->piece || in->next >= r->blocks || begin(r, in));
}

static void wait_for_some(struct receiver *r)
{
	struct input *of[STREAM_MAX];
	struct pollfd p[STREAM_MAX + 1];
	unsigned int n = 0;
	eventfd_t count;

	for (unsigned int i = 0; i < r->nr; i++) {
		if (!wants(r, &r->inputs[i]))
			continue;
		of[n] = &r->inputs[i];
		p[n++] = (struct pollfd) { .fd = r->inputs[i].fd, .events = POLLIN };
	}
	p[n] = (struct pollfd) { .fd = r->event_fd, .events = POLLIN };
	if (poll(p, n + 1, 200) <= 0)
		return;
	for (unsigned int i = 0; i < n && !r->job->failed; i++)
		if (p[i].revents)
			receive(r, of[i]);
	if (p[n].revents)
		eventfd_read(r->event_fd, &count);
}

static void completed(struct receiver *r, struct piece *p)
{
	struct target t = {
		.name = r->job->to.name, .fd = r->job->to.fd,
		.kind = r->job->to.kind == END_BLOCK ? TARGET_BLOCK : TARGET_FILE,
	};
	struct verdict v = { 0 };

	/* TCP's copies are counted already, and a bounce of ordinary memory is none */
	r->c.copied += p->r.copied;
	if (p->r.result < 0) {
		fail_request(&v, "write", &t, (int)p->r.result);
		job_fail(r->job, "written at %llu: %s", (unsigned long long)(p->nr * STREAM_BLOCK), v.text);
	}
	piece_done(r, p, p->r.result >= 0);
}

static void receive_all(struct receiver *r)
{
	struct dmabuf_io_request *done[32];
	int n;

	while ((r->busy || r->whole < r->nr) && !r->job->failed && !cp_stop) {
		wait_for_some(r);
		while (r->io && (n = dmabuf_io_reap(r->io, done, 32, 0)) > 0)
			for (int i = 0; i < n; i++)
				completed(r, (struct piece *)done[i]);
		progress(&r->c);
	}
}

/* ---- the end ---- */

static bool is_right(const struct receiver *r)
{
	for (unsigned int i = 0; i < r->nr; i++) {
		const struct input *in = &r->inputs[i];
		XXH128_canonical_t hash;

		if (!stream_is_magic(in->trailer.magic, "udmabufT"))
			return false;
		XXH128_canonicalFromHash(&hash, XXH3_128bits_digest(in->hash));
		if (r->header.hashed && memcmp(&hash, in->trailer.hash, sizeof(hash)))
			return false;
	}
	return true;
}

static void end(struct receiver *r)
{
	if (!is_right(r)) {
		r->c.wrong = true;
		job_fail(r->job, "other bytes have arrived than were sent: do not use what is there");
		reply_all(r, -EILSEQ, "other bytes have arrived");
		return;
	}
	job_finish(&r->c, r->job);
	if (r->job->finished)
		reply_all(r, 0, "");
}

static void receive_it(struct receiver *r)
{
	/* what cannot be here need not be sent */
	if (!stream_has_kernel(&r->c) || stream_open_ring(&r->io, &r->c) || listen_there(r) ||
	    accept_all(r))
		return;
	progress_start();
	r->job->size = r->header.size;
	r->blocks = stream_blocks(r->header.size, STREAM_BLOCK);
	if (job_open_destination(&r->o.o, r->job) || open_memory(r))
		return;
	reply_all(r, 0, "");
	receive_all(r);
	if (!r->job->failed && !cp_stop)
		end(r);
}

/* Why it has ended, for who sends: the text is of this side */
static void say_why(struct receiver *r)
{
	r->stops = cp_stop > 0;
	if (r->job->finished || r->c.wrong)
		return;
	reply_all(r, cp_stop ? -EINTR : -EIO, cp_stop ? "interrupted" : r->job->failed && r->job->why[0] ?
		  r->job->why : "it cannot: see there");
}

static void close_all(struct receiver *r)
{
	dmabuf_io_close(r->io);
	last_words(r);
	if (r->listener >= 0)
		close(r->listener);
	for (unsigned int i = 0; i < r->nr_unknown; i++)
		close(r->unknown[i].fd);
	for (unsigned int i = 0; i < STREAM_MAX; i++) {
		if (r->inputs[i].fd >= 0)
			close(r->inputs[i].fd);
		XXH3_freeState(r->inputs[i].hash);
		free(r->inputs[i].scratch);
	}
	dmabuf_mem_close(&r->pool);
	free(r->pieces);
	job_close(r->job);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct receiver *r = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = state->child_inputs[1] = &r->o.o;
		return 0;
	case ARGP_KEY_ARG:
		if (state->arg_num > 1)
			argp_error(state, "one address, one destination");
		(state->arg_num ? &r->job->to : &r->job->from)->name = arg;
		return 0;
	case ARGP_KEY_END:
		if (state->arg_num < 2)
			argp_error(state, "from where to where?");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

int recv_main(int argc, char **argv)
{
	static const struct argp argp = {
		.parser = parse, .doc = doc, .children = cp_common_options,
		.args_doc = "tcp:[ADDRESS]:PORT DESTINATION",
	};
	struct receiver *r = calloc(1, sizeof(*r));
	char name[] = "uring-dmabuf recv";
	int code;

	if (!r)
		die("no memory");
	r->job = &r->c.jobs[0];
	r->o = (struct stream_options) { .o.memory = "udmabuf" };
	argv[0] = name;
	argp_parse(&argp, argc, argv, 0, NULL, r);
	stream_start(&r->o, &r->c);
	r->listener = r->event_fd = -1;
	r->job->from.kind = END_STREAM;
	for (unsigned int i = 0; i < STREAM_MAX; i++)
		r->inputs[i].fd = -1;
	receive_it(r);
	say_why(r);
	progress_end(&r->c, "", r->job->finished && r->header.hashed);
	code = stream_outcome(&r->c);
	close_all(r);
	free(r);
	return code;
}
