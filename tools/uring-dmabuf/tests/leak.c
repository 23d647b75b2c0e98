// SPDX-License-Identifier: GPL-2.0
/*
 * What tests/valgrind has to find: a handle that is never closed, and a byte that nobody has
 * written. Without them, no findings would say nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "uring-dmabuf.h"

#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

int main(int argc, char **argv)
{
	struct dmabuf_io_params params = { 0 };
	struct dmabuf_io *io;
	volatile char *unwritten;

	if (argc > 1 && !strcmp(argv[1], "byte")) {
		unwritten = malloc(1);
		puts(unwritten && *unwritten ? "set" : "clear");
		free((void *)unwritten);
		return 0;
	}
	if (dmabuf_io_open(&io, &params))
		return 1;
	io = NULL;
	return 0;
}
