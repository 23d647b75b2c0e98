// SPDX-License-Identifier: GPL-2.0
#include "verdict.h"

json_t *pair(const struct program *p, size_t i)
{
	return json_array_get(json_object_get(p->json, "pairs"), i);
}

size_t nr_pairs(const struct program *p)
{
	return json_array_size(json_object_get(p->json, "pairs"));
}

const char *word(const json_t *of, const char *member)
{
	const char *text = json_string_value(json_object_get(of, member));

	return text ? text : "";
}

const char *failure(const struct program *p, size_t i, const char *member)
{
	return word(json_object_get(pair(p, i), "failure"), member);
}

int failure_errno(const struct program *p, size_t i)
{
	return -(int)json_integer_value(json_object_get(json_object_get(pair(p, i), "failure"),
							"errno"));
}

const char *mapping(const struct program *p, size_t i, const char *member)
{
	return word(json_object_get(pair(p, i), "mapping"), member);
}
