// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* uring-dmabuf stat: what the buffers of running programs do */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "json.h"
#include "stat.h"

struct stat_options {
	pid_t pid;		/* 0: all */
	double interval;	/* 0: once */
	unsigned long count;	/* 0: no end */
	bool json;
	char **program;
};

static const char doc[] =
	"Show what the registered dma-bufs of a process do: commands that used them, bytes "
	"that were copied after all, mappings that the exporter took away.\v"
	"Without -p, all processes that may be looked at. With a PROGRAM it is started, and "
	"what its buffers have done is told when it ends; give an interval to see more. "
	"COPIED is the slow way: bytes of sends that could not go out directly.\n\n"
	"Exit: 0; 1 no such process, or it has no such buffers; 2 usage; with a PROGRAM that "
	"program's own code.";

static const struct argp_option options[] = {
	{ "pid", 'p', "PID", 0, "Of this process", 0 },
	{ "interval", 'i', "SECONDS", 0, "Again and again, and what changed in between", 0 },
	{ "count", 'c', "N", 0, "So many times", 0 },
	{ "json", 'j', NULL, 0, "Print JSON, an object in a line for each time", 0 },
	{ 0 },
};

static double parse_number(struct argp_state *state, const char *what, char *arg)
{
	char *end;
	double n = strtod(arg, &end);

	if (*end || end == arg || n <= 0 || n > 1e9)
		argp_error(state, "--%s=%s: not a number above 0", what, arg);
	return n;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct stat_options *o = state->input;

	switch (key) {
	case 'p':
		o->pid = (pid_t)parse_number(state, "pid", arg);
		return 0;
	case 'i':
		o->interval = parse_number(state, "interval", arg);
		return 0;
	case 'c':
		o->count = (unsigned long)parse_number(state, "count", arg);
		return 0;
	case 'j':
		o->json = true;
		return 0;
	case ARGP_KEY_ARGS:
		o->program = state->argv + state->next;
		return 0;
	case ARGP_KEY_END:
		if (o->pid && o->program)
			argp_error(state, "a process or a program, not both");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* ---- output ---- */

static double per_second(const struct sample *before, const struct sample *now, uint64_t then,
			 uint64_t n)
{
	return before->time && now->time > before->time ?
	       (double)(n - then) / (now->time - before->time) : 0;
}

static void print_text(const struct sample *before, const struct sample *now, bool heading)
{
	if (heading)
		printf("%8s %4s %4s %-16s %-8s %12s %10s %14s %6s %6s %s\n", "PID", "RING", "SLOT",
		       "DEVICE", "STATE", "COMMANDS", "PER-SECOND", "COPIED-BYTES", "MAPS", "TAKEN",
		       "EXPORTER");
	for (size_t i = 0; i < now->nr; i++) {
		const struct io_uring_dmabuf_stat *s = &now->stat[i], *old = sample_find(before, s);

		printf("%8d %4d %4u %-16s %-8s %12llu %10.0f %14llu %6llu %6llu %s\n", s->pid,
		       s->ring_fd, s->map.slot, s->map.nr_targets ? s->map.device : "(copies)",
		       io_uring_dmabuf_state_name(s->map.state), (unsigned long long)s->map.hits,
		       per_second(before, now, old ? old->map.hits : 0, s->map.hits),
		       (unsigned long long)s->map.copied_bytes,
		       (unsigned long long)s->map.maps, (unsigned long long)s->map.invalidations,
		       s->map.exporter);
	}
	fflush(stdout);
}

static json_t *json_buffer(const struct sample *before, const struct sample *now,
			   const struct io_uring_dmabuf_stat *s)
{
	const struct io_uring_dmabuf_stat *old = sample_find(before, s);
	const struct io_uring_dmabuf_map *m = &s->map;

	return json_pack("{s:i, s:i, s:i, s:i, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:f, s:I, s:I, s:I}",
			 "pid", s->pid, "ring_fd", s->ring_fd, "slot", (int)m->slot,
			 "target", (int)m->target, "device", m->device, "exporter", m->exporter,
			 "state", io_uring_dmabuf_state_name(m->state),
			 "size", (json_int_t)m->size, "granule", (json_int_t)m->granule,
			 "table_bytes", (json_int_t)m->table_bytes,
			 "commands", (json_int_t)m->hits, "commands_per_second",
			 per_second(before, now, old ? old->map.hits : 0, m->hits),
			 "copied_bytes", (json_int_t)m->copied_bytes, "maps", (json_int_t)m->maps,
			 "invalidations", (json_int_t)m->invalidations);
}

static void print_samples(const struct sample *before, const struct sample *now)
{
	json_t *buffers = json_array(), *all;

	for (size_t i = 0; i < now->nr; i++)
		json_array_append_new(buffers, json_buffer(before, now, &now->stat[i]));
	all = json_pack("{s:i, s:f, s:o}", "version", 1, "time", now->time, "buffers", buffers);
	print_json(all, JSON_COMPACT);
}

/* On a terminal always from the top; else the heading once */
static void print(const struct stat_options *o, const struct sample *before,
		  const struct sample *now)
{
	bool screen = o->interval && isatty(STDOUT_FILENO);

	if (o->json) {
		print_samples(before, now);
		return;
	}
	if (!now->nr)
		return;
	if (screen)
		fputs("\033[H\033[J", stdout);
	print_text(before, now, screen || !before->time);
}

/* ---- taking them ---- */

static void take(struct sample *s, pid_t pid)
{
	int ret = sample_take(s, pid);

	if (ret == -EACCES)
		die("process %d is another user's: as root, or as that user", pid);
	if (ret && ret != -ESRCH)
		die("process %d: %s", pid, strerror(-ret));
}

static void pause_for(double seconds)
{
	struct timespec t = { .tv_sec = (time_t)seconds };

	t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

/* @now becomes what was before */
static void turn(struct sample *before, struct sample *now)
{
	struct sample old = *before;

	*before = *now;
	*now = old;
}

static int watch(const struct stat_options *o)
{
	struct sample before = { 0 }, now = { 0 };
	bool found = false;

	for (unsigned long i = 0;; i++) {
		take(&now, o->pid);
		/* it has ended */
		if (!now.nr && o->pid)
			break;
		found |= now.nr;
		print(o, &before, &now);
		turn(&before, &now);
		if (!o->interval || (o->count && i + 1 == o->count))
			break;
		pause_for(o->interval);
	}
	sample_free(&before);
	sample_free(&now);
	if (!found && o->pid)
		die("process %d: there is none, or it has no dma-buf registered with a ring", o->pid);
	if (!found)
		die("no process that may be looked at has a dma-buf registered with a ring");
	return EXIT_WORKS;
}

static int run(const struct stat_options *o)
{
	struct sample before = { 0 }, now = { 0 };
	enum child_event event;
	unsigned long n = 0;
	struct child c;

	c.code = 0;
	child_start(&c, o->program);
	while ((event = child_wait(&c, o->interval ? o->interval : 3600)) != CHILD_ENDED) {
		bool last = event == CHILD_ENDS;

		if (!last && (!o->interval || (o->count && n == o->count)))
			continue;
		take(&now, c.pid);
		if (last && !now.nr)
			fprintf(stderr, "uring-dmabuf: at its end, %s had no dma-buf registered with a ring\n",
				o->program[0]);
		if (last || now.nr) {
			print(o, &before, &now);
			turn(&before, &now);
			n++;
		}
	}
	sample_free(&before);
	sample_free(&now);
	return c.code;
}

int stat_main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options, .parser = parse, .doc = doc,
		.args_doc = "\n-- PROGRAM [ARGUMENT...]",
	};
	struct stat_options o = { 0 };
	char name[] = "uring-dmabuf stat";

	argv[0] = name;
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &o);
	return o.program ? run(&o) : watch(&o);
}
