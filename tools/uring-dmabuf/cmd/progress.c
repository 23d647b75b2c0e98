// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* cp: how far it is; on a terminal a line that stays, in JSON a line each second */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cp.h"
#include "json.h"

volatile sig_atomic_t cp_stop;

static void on_signal(int signal_)
{
	(void)signal_;
	/* one more than once is as good as many */
	if (cp_stop < 2)
		cp_stop++;
}

void catch_signals(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	const struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct sigaction was;

	/* what nohup(1) and the like have ignored stays so */
	for (int i = 0; i < 3; i++)
		if (!sigaction(signals[i], NULL, &was) && was.sa_handler != SIG_IGN)
			sigaction(signals[i], &sa, NULL);
}

static double begin, said;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct sum {
	uint64_t size, done, holes, resumed;
	unsigned int files, failed;
	double seconds;
};

static struct sum sum_of(const struct copier *c)
{
	struct sum s = { .files = c->nr_jobs, .seconds = now() - begin };

	for (unsigned int i = 0; i < c->nr_jobs; i++) {
		s.size += c->jobs[i].size;
		s.done += c->jobs[i].done;
		s.holes += c->jobs[i].holes;
		s.resumed += c->jobs[i].resumed;
		s.failed += !c->jobs[i].finished;
	}
	return s;
}

static double rate_of(const struct sum *s)
{
	return s->seconds > 0 ? (double)(s->done - s->resumed) / s->seconds : 0;
}

static void say_line(const struct sum *s)
{
	double rate = rate_of(s);
	uint64_t there = s->done + s->holes;

	fprintf(stderr, "\r\033[K%3.0f %%  %llu of %llu MiB  %.1f MiB/s", s->size ?
		100.0 * (double)there / (double)s->size : 100, (unsigned long long)there >> 20,
		(unsigned long long)s->size >> 20, rate / 1048576);
	if (rate > 0)
		fprintf(stderr, "  %.0f s left", (double)(s->size - there) / rate);
}

static void say_json(const struct sum *s)
{
	json_t *line = json_pack("{s:i, s:s, s:I, s:I, s:I, s:f, s:f}", "version", 1, "event",
				 "progress", "size", (json_int_t)s->size,
				 "bytes", (json_int_t)s->done, "holes", (json_int_t)s->holes,
				 "seconds", s->seconds, "bytes_per_second", rate_of(s));

	print_json(line, JSON_COMPACT);
}

void progress_start(void)
{
	begin = said = now();
}

/* Somebody looks, and it is time to say more */
static bool is_time(const struct copier *c)
{
	if (!c->o->json && (c->o->quiet || !isatty(STDERR_FILENO)))
		return false;
	if (now() - said < (c->o->json ? 1 : 0.2))
		return false;
	said = now();
	return true;
}

void progress(const struct copier *c)
{
	struct sum s;

	if (!is_time(c))
		return;
	s = sum_of(c);
	if (c->o->json)
		say_json(&s);
	else
		say_line(&s);
}

void progress_wait(const struct copier *c, const char *what)
{
	struct sum s;

	if (!is_time(c))
		return;
	s = sum_of(c);
	if (c->o->json)
		say_json(&s);
	else
		fprintf(stderr, "\r\033[K%.0f s: %s", s.seconds, what);
}

void progress_verify(const struct copier *c, const char *name, uint64_t off, uint64_t size)
{
	if (c->o->json || c->o->quiet || !isatty(STDERR_FILENO) || now() - said < 0.2)
		return;
	said = now();
	fprintf(stderr, "\r\033[K%3.0f %%  of %s read again", 100.0 * (double)off / (double)size,
		name);
}

static void end_json(const struct copier *c, const struct sum *s, const char *hash, bool verified)
{
	json_t *line = json_pack("{s:i, s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:f, s:b, s:s?}",
				 "version", 1, "event", "end", "files", (int)s->files,
				 "failed", (int)s->failed, "size", (json_int_t)s->size,
				 "bytes", (json_int_t)s->done, "holes", (json_int_t)s->holes,
				 "resumed_bytes", (json_int_t)s->resumed,
				 "copied_bytes", (json_int_t)c->copied,
				 "memory", c->o->bounce ? "ordinary" : c->o->memory,
				 "seconds", s->seconds, "bytes_per_second", rate_of(s),
				 "verified", (int)verified, "xxh3", *hash ? hash : NULL);

	print_json(line, JSON_COMPACT);
}

void progress_end(const struct copier *c, const char *hash, bool verified)
{
	struct sum s = sum_of(c);

	if (c->o->json) {
		end_json(c, &s, hash, verified);
		return;
	}
	if (isatty(STDERR_FILENO) && !c->o->quiet)
		fputs("\r\033[K", stderr);
	if (c->o->quiet || s.failed)
		return;
	printf("%llu bytes in %.1f s, %.1f MiB/s, by %s; %llu bytes copied by the CPU%s%s%s%s\n",
	       (unsigned long long)s.done, s.seconds, rate_of(&s) / 1048576,
	       c->o->bounce ? "ordinary memory" : c->o->memory, (unsigned long long)c->copied,
	       s.holes ? "; holes left out" : "", verified ? "; verified" : "",
	       *hash ? ", XXH3 " : "", hash);
}
