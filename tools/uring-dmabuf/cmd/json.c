// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* JSON on stdout */
#include <stdio.h>

#include "json.h"

void print_json(json_t *json, size_t flags)
{
	if (!json || json_dumpf(json, stdout, flags) || puts("") < 0)
		die("JSON cannot be written: a name that is no UTF-8?");
	fflush(stdout);
	json_decref(json);
}
