// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* uring-dmabuf cp: arguments, and what becomes of it */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cp.h"

struct arguments {
	struct cp_options o;
	char *names[MAX_JOBS + 1];
	unsigned int nr;
};

static const char doc[] =
	"Copy between files, block devices and dma-bufs by way of device memory: drives write "
	"into it and read from it, and the CPU copies nothing.\v"
	"SOURCE and DESTINATION are files on ext4 or XFS, block devices, or fd:N, a dma-buf "
	"that this program inherits. With several SOURCEs DESTINATION is a directory, and all "
	"are copied at the same time. A file has its name when all of it is there; what was "
	"there before stays until then. Holes stay holes.\n\n"
	"Exit: 0 all was copied; 1 not all, and it was said why; 2 usage; 3 this kernel, or this "
	"process, cannot do it at all; 4 --verify found other bytes; 130 interrupted.";

static const struct argp_option options[] = {
	{ "verify", 'v', NULL, 0, "Then read both by ordinary reads, and compare XXH3 checksums", 0 },
	{ "resume", 'r', NULL, 0, "Go on where an interrupted run of the same stopped; keep what is there for that", 0 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = state->child_inputs[1] = &a->o;
		return 0;
	case 'v':
		a->o.verify = true;
		return 0;
	case 'r':
		a->o.resume = true;
		return 0;
	case ARGP_KEY_ARG:
		if (a->nr > MAX_JOBS)
			argp_error(state, "at most %d at a time", MAX_JOBS);
		a->names[a->nr++] = arg;
		return 0;
	case ARGP_KEY_END:
		if (a->nr < 2)
			argp_error(state, "from where to where?");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static bool is_directory(const char *name)
{
	struct stat st;

	return !stat(name, &st) && S_ISDIR(st.st_mode);
}

static const char *destination(const char *name, const char *source, bool directory)
{
	const char *base = strrchr(source, '/');
	char *path;

	if (!directory)
		return name;
	if (asprintf(&path, "%s/%s", name, base ? base + 1 : source) < 0)
		die("no memory");
	return path;
}

/* Two sources that would have the same name: neither is lost without a word */
static bool is_taken(struct copier *c, unsigned int nr)
{
	c->jobs[nr].from.fd = c->jobs[nr].to.fd = -1;
	for (unsigned int i = 0; i < nr; i++) {
		if (strcmp(c->jobs[i].to.name, c->jobs[nr].to.name))
			continue;
		job_fail(&c->jobs[nr], "%s goes there, too", c->jobs[i].from.name);
		return true;
	}
	return false;
}

/* Whatever can be opened is copied; whether all could, is told at the end */
static void open_jobs(struct copier *c, const struct arguments *a)
{
	const char *last = a->names[a->nr - 1];
	bool directory = is_directory(last);

	if (a->nr > 2 && !directory)
		die("%s is no directory, and several are to go there", last);
	c->nr_jobs = a->nr - 1;
	for (unsigned int i = 0; i < c->nr_jobs; i++) {
		struct job *job = &c->jobs[i];

		job->from.name = a->names[i];
		job->to.name = destination(last, a->names[i], directory);
		if (is_taken(c, i) || job_open(c->o, job))
			job->failed = true;
	}
}

static bool any_left(const struct copier *c)
{
	for (unsigned int i = 0; i < c->nr_jobs; i++)
		if (!c->jobs[i].failed)
			return true;
	return false;
}

/* 0, -EILSEQ: wrong bytes; or another errno */
static int verify(struct copier *c, char hash[static 33])
{
	int ret = 0;

	for (unsigned int i = 0; i < c->nr_jobs; i++) {
		int one = c->jobs[i].finished ? job_verify(c, &c->jobs[i], hash) : 0;

		if (one && ret != -EILSEQ)
			ret = one;
	}
	/* of several there is no one checksum */
	if (c->nr_jobs > 1)
		hash[0] = '\0';
	return ret;
}

static int outcome(const struct copier *c, int verified)
{
	if (c->no_kernel)
		return EXIT_KERNEL;
	for (unsigned int i = 0; i < c->nr_jobs; i++)
		if (!c->jobs[i].finished)
			return cp_stop ? 128 + SIGINT : EXIT_REFUSED;
	if (verified == -EINTR)
		return 128 + SIGINT;
	return verified == -EILSEQ ? EXIT_WRONG : verified ? EXIT_REFUSED : EXIT_WORKS;
}

/* What has arrived is kept for --resume; the rest of it is not named, and gone */
static void leave(struct copier *c)
{
	for (unsigned int i = 0; i < c->nr_jobs; i++) {
		struct job *job = &c->jobs[i];

		if (job->part && cp_stop && !job->failed)
			job_save(job, job->next - job->next % BLOCK, true);
		job_close(job);
	}
}

static int copy(struct copier *c)
{
	bool verifies = false;
	char hash[33] = "";
	int verified = 0;

	progress_start();
	if (any_left(c) && !move_open(c)) {
		catch_signals();
		move_all(c);
		verifies = c->o->verify && !cp_stop;
		if (verifies)
			verified = verify(c, hash);
	}
	progress_end(c, hash, verifies && !verified);
	move_close(c);
	return outcome(c, verified);
}

int cp_main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options, .parser = parse, .doc = doc, .children = cp_common_options,
		.args_doc = "SOURCE DESTINATION\nSOURCE... DIRECTORY",
	};
	struct arguments a = { .o = { .memory = "udmabuf" } };
	char name[] = "uring-dmabuf cp";
	struct copier *c = calloc(1, sizeof(*c));
	int code;

	argv[0] = name;
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	if (!c)
		die("no memory");
	c->o = &a.o;
	open_jobs(c, &a);
	code = copy(c);
	leave(c);
	free(c);
	return code;
}
