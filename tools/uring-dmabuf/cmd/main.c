// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* uring-dmabuf: finds the subcommand */
#include <argp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

static const struct command commands[] = {
	{ "bench", "what requests cost from ordinary memory and from a dma-buf", bench_main },
	{ "check", "which memory goes to which drive or card, and why not", check_main },
	{ "cp", "copy between drives, files and dma-bufs, by way of device memory", cp_main },
	{ "recv", "receive what send sends, into a file, block device or dma-buf", recv_main },
	{ "send", "send a file, block device or dma-buf over TCP, without copies", send_main },
	{ "stat", "what the buffers of running programs do", stat_main },
};

#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

void die(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "uring-dmabuf: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(EXIT_REFUSED);
}

bool read_line(const char *path, char *line, size_t size)
{
	FILE *f = fopen(path, "re");
	bool there = f && fgets(line, (int)size, f);

	if (f)
		fclose(f);
	if (there)
		line[strcspn(line, "\n")] = '\0';
	return there;
}

static void help(FILE *to)
{
	fprintf(to, "Usage: uring-dmabuf COMMAND [OPTION...] [ARGUMENT...]\n"
		"Device memory as registered buffers of io_uring.\n\n");
	for (size_t i = 0; i < NR_COMMANDS; i++)
		fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].what);
	fprintf(to, "\n`uring-dmabuf COMMAND --help' explains one; uring-dmabuf(7) what is behind it.\n");
}

static void list_commands(void)
{
	for (size_t i = 0; i < NR_COMMANDS; i++)
		puts(commands[i].name);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";

	argp_err_exit_status = EXIT_USAGE;
	for (size_t i = 0; i < NR_COMMANDS; i++)
		if (!strcmp(name, commands[i].name))
			return commands[i].main(argc - 1, argv + 1);
	if (!strcmp(name, "--help") || !strcmp(name, "-?")) {
		help(stdout);
	} else if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
		printf("uring-dmabuf %d.%d\n", URING_DMABUF_VERSION_MAJOR,
		       URING_DMABUF_VERSION_MINOR);
	} else if (!strcmp(name, "--list-commands")) {
		list_commands();
	} else {
		if (*name)
			fprintf(stderr, "uring-dmabuf: %s: no such command\n\n", name);
		help(stderr);
		return EXIT_USAGE;
	}
	return EXIT_WORKS;
}
