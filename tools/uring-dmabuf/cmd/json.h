/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* JSON on stdout */
#ifndef URING_DMABUF_JSON_H
#define URING_DMABUF_JSON_H

#include <jansson.h>

#include "cmd.h"

/* With the flags of json_dumpf(), and an end of line; @json (NULL: an error) is given up */
void print_json(json_t *json, size_t flags);

#endif
