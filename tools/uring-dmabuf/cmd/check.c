// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* uring-dmabuf check: every memory with every target */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

#define MAX_NAMES	64

struct arguments {
	struct check_options o;
	char *memories[MAX_NAMES];
	char *targets[MAX_NAMES];
	size_t nr_memories, nr_targets;
};

static const char doc[] =
	"Tell which memory can be registered for which drive or network card, by moving "
	"bytes and comparing every one of them; where it cannot, why, and what to do.\v"
	"A TARGET is\n"
	"  /dev/NAME     a block device. It is read; with --write it is written,\n"
	"                too, and what was there is put back. A device that\n"
	"                something holds or mounts is not written to.\n"
	"  FILE          the same with a file\n"
	"  DIRECTORY     a file without a name in it, which is written and read\n"
	"  net:DEVICE    a network card; nothing is sent\n"
	"  tcp:HOST:PORT where all is sent back, as by\n"
	"                socat TCP-LISTEN:PORT,fork EXEC:cat\n"
	"Without one: the NVMe drives and network cards of this machine.\n\n"
	"A memory SPEC is udmabuf, heap:NAME, cuda:N, or fd:N, a dma-buf that this program "
	"inherits; its content is lost. Without one: all that this machine has.\n\n"
	"Exit: 0 all work; 1 some do not; 2 usage; 3 this kernel, or this process, cannot "
	"do it at all; 4 bytes were not where they have to be.";

static const struct argp_option options[] = {
	{ "memory", 'm', "SPEC", 0, "Check this memory; may be given several times", 0 },
	{ "write", 'w', NULL, 0, "Write to block devices and files, too, and put back what was there", 0 },
	{ "p2p", 'p', NULL, 0, "Only peer-to-peer is good enough", 0 },
	{ "pin", 'P', NULL, 0, "The exporter must not move the memory", 0 },
	{ "size", 's', "BYTES", 0, "Move so much (K, M: KiB, MiB); default 1M", 0 },
	{ "timeout", 't', "SECONDS", 0, "Give up on a request after so long; default 10", 0 },
	{ "json", 'j', NULL, 0, "Print JSON", 0 },
	{ 0 },
};

/* Whole pages; 0: none */
static size_t parse_size(const char *arg)
{
	char *end;
	unsigned long long n = strtoull(arg, &end, 10);

	if (*end == 'K' || *end == 'M') {
		n <<= *end == 'K' ? 10 : 20;
		end++;
	}
	return *end || n % 4096 || n > 1ULL << 30 ? 0 : (size_t)n;
}

static void parse_option(struct arguments *a, int key, char *arg, struct argp_state *state)
{
	switch (key) {
	case 'm':
		if (a->nr_memories == MAX_NAMES)
			argp_error(state, "at most %d memories", MAX_NAMES);
		a->memories[a->nr_memories++] = arg;
		break;
	case 's':
		a->o.size = parse_size(arg);
		if (!a->o.size)
			argp_error(state, "--size=%s: not a multiple of 4096 up to 1 GiB", arg);
		break;
	case 't':
		a->o.timeout = (unsigned int)strtoul(arg, &arg, 10);
		if (*arg || !a->o.timeout)
			argp_error(state, "--timeout: not a number of seconds");
		break;
	}
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case 'm': case 's': case 't':
		parse_option(a, key, arg, state);
		return 0;
	case 'w':
		a->o.write = true;
		return 0;
	case 'p':
		a->o.flags |= IO_URING_DMABUF_REQUIRE_P2P;
		return 0;
	case 'P':
		a->o.flags |= IO_URING_DMABUF_PIN;
		return 0;
	case 'j':
		a->o.json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (a->nr_targets == MAX_NAMES)
			argp_error(state, "at most %d targets", MAX_NAMES);
		a->targets[a->nr_targets++] = arg;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static int exit_code(const struct verdict *v, size_t nr)
{
	int code = EXIT_WORKS;

	for (size_t i = 0; i < nr; i++) {
		enum outcome outcome = verdict_outcome(v + i);

		if (outcome == WRONG)
			return EXIT_WRONG;
		if (v[i].step && !strcmp(v[i].step, "kernel"))
			code = EXIT_KERNEL;
		else if (outcome == REFUSED && code == EXIT_WORKS)
			code = EXIT_REFUSED;
	}
	return code;
}

static void check_all(const struct check_options *o, struct verdict *v, size_t nr)
{
	bool progress = isatty(STDERR_FILENO);

	for (size_t i = 0; i < nr; i++) {
		if (progress)
			fprintf(stderr, "\r\033[K%zu of %zu: %s, %s", i + 1, nr,
				v[i].memory, v[i].target);
		check_pair(o, v + i);
	}
	if (progress)
		fputs("\r\033[K", stderr);
}

static int check(const struct check_options *o, char **memories, size_t nr_memories,
		 char **targets, size_t nr_targets)
{
	size_t nr = nr_memories * nr_targets;
	struct verdict *v = calloc(nr, sizeof(*v));
	int code;

	if (!v)
		die("no memory for %zu pairs", nr);
	for (size_t i = 0; i < nr; i++) {
		v[i].memory = memories[i / nr_targets];
		v[i].target = targets[i % nr_targets];
	}
	check_all(o, v, nr);
	(o->json ? report_json : report_table)(v, nr);
	code = exit_code(v, nr);
	free(v);
	return code;
}

static void free_names(char **names, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		free(names[i]);
	free(names);
}

int check_main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options, .parser = parse, .doc = doc, .args_doc = "[TARGET...]",
	};
	struct arguments a = { .o = { .timeout = 10, .size = 1 << 20 } };
	size_t nr_memories = 0, nr_targets = 0;
	char **memories = NULL, **targets = NULL;
	char name[] = "uring-dmabuf check";
	int code;

	argv[0] = name;
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	if (!a.nr_memories)
		memories = all_memories(&nr_memories);
	if (!a.nr_targets)
		targets = all_targets(&nr_targets);
	if (!a.nr_memories && !nr_memories)
		die("there is no memory to check: no /dev/udmabuf, no /dev/dma_heap; name one with --memory");
	if (!a.nr_targets && !nr_targets)
		die("there is no NVMe drive and no network card: name a target");
	code = check(&a.o, memories ? memories : a.memories,
		     memories ? nr_memories : a.nr_memories,
		     targets ? targets : a.targets, targets ? nr_targets : a.nr_targets);
	free_names(memories, nr_memories);
	free_names(targets, nr_targets);
	return code;
}
