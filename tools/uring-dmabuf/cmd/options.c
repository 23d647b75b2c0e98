// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The options that programs share which move data by way of a memory */
#include "cp.h"

static const struct argp_option options[] = {
	{ "memory", 'm', "SPEC", 0, "By this memory: udmabuf (default), heap:NAME, cuda:N, fd:N", 0 },
	{ "quiet", 'q', NULL, 0, "Say nothing unless it fails", 0 },
	{ "json", 'j', NULL, 0, "Print JSON: a line each second, and one at the end", 0 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct cp_options *o = state->input;

	switch (key) {
	case 'm':
		o->memory = arg;
		return 0;
	case 'q':
		o->quiet = true;
		return 0;
	case 'j':
		o->json = true;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_option bounce_options[] = {
	{ "bounce", 'b', NULL, 0, "By ordinary memory instead", 0 },
	{ 0 },
};

static error_t parse_bounce(int key, char *arg, struct argp_state *state)
{
	struct cp_options *o = state->input;

	(void)arg;
	if (key != 'b')
		return ARGP_ERR_UNKNOWN;
	o->bounce = true;
	return 0;
}

static const struct argp memory = { .options = options, .parser = parse };
static const struct argp bounce = { .options = bounce_options, .parser = parse_bounce };

const struct argp_child memory_options[] = { { &memory, 0, NULL, 0 }, { 0 } };
const struct argp_child cp_common_options[] = {
	{ &memory, 0, NULL, 0 }, { &bounce, 0, NULL, 0 }, { 0 },
};
