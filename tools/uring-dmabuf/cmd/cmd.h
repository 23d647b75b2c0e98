/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* The program uring-dmabuf: what its subcommands share */
#ifndef URING_DMABUF_CMD_H
#define URING_DMABUF_CMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uring-dmabuf.h"

/* Exit codes, of all subcommands */
enum {
	EXIT_WORKS	= 0,
	EXIT_REFUSED	= 1,	/* something does not work, and it was said why */
	EXIT_USAGE	= 2,
	EXIT_KERNEL	= 3,	/* nothing can work on this kernel, or for this process */
	EXIT_WRONG	= 4,	/* bytes are not what they have to be */
};

struct command {
	const char *name;
	const char *what;	/* one line of --help */
	int (*main)(int argc, char **argv);
};

int bench_main(int argc, char **argv);
int check_main(int argc, char **argv);
int cp_main(int argc, char **argv);
int recv_main(int argc, char **argv);
int send_main(int argc, char **argv);
int stat_main(int argc, char **argv);

/* To stderr: what, and why. Ends the program with EXIT_REFUSED */
void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* The first line of a file, without its end; false: there is none. */
bool read_line(const char *path, char *line, size_t size);

#endif
