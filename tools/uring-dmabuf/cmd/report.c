// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What check found: a table for people, JSON for scripts (schema/check.json) */
#include <errno.h>
#include <libsmartcols/libsmartcols.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "check.h"
#include "json.h"

static const char *outcome_name(enum outcome outcome)
{
	static const char *const names[] = {
		[NOT_TRIED]	= "-",
		[WORKS]		= "works",
		[REFUSED]	= "refused",
		[WRONG]		= "wrong",
	};

	return names[outcome];
}

/* ---- table ---- */

enum { MEMORY, TARGET, VERDICT, READ, WRITE, SEND, MAPPING, GRANULE, DEVICE, NR_COLUMNS };

static const struct {
	const char *name;
	int flags;
} columns[NR_COLUMNS] = {
	[MEMORY]	= { "MEMORY", 0 },
	[TARGET]	= { "TARGET", 0 },
	[VERDICT]	= { "VERDICT", 0 },
	[READ]		= { "READ", 0 },
	[WRITE]		= { "WRITE", 0 },
	[SEND]		= { "SEND", 0 },
	[MAPPING]	= { "MAPPING", 0 },
	[GRANULE]	= { "GRANULE", SCOLS_FL_RIGHT },
	[DEVICE]	= { "DEVICE", 0 },
};

/* In the largest unit that leaves nothing over */
static void print_size(char *text, size_t size, uint64_t bytes)
{
	static const char units[] = "BKMGT";
	int unit = 0;

	while (bytes && !(bytes % 1024) && units[unit + 1]) {
		bytes /= 1024;
		unit++;
	}
	snprintf(text, size, "%llu%c", (unsigned long long)bytes, units[unit]);
}

static void set_line(struct libscols_line *line, const struct verdict *v)
{
	char granule[32] = "";

	if (v->mapped)
		print_size(granule, sizeof(granule), v->map.granule);
	scols_line_set_data(line, MEMORY, v->memory);
	scols_line_set_data(line, TARGET, v->target);
	scols_line_set_data(line, VERDICT, verdict_word(v));
	scols_line_set_data(line, READ, outcome_name(v->read));
	scols_line_set_data(line, WRITE, outcome_name(v->write));
	scols_line_set_data(line, SEND, outcome_name(v->send));
	scols_line_set_data(line, MAPPING, v->mapped ? io_uring_dmabuf_state_name(v->map.state) : "");
	scols_line_set_data(line, GRANULE, granule);
	scols_line_set_data(line, DEVICE, v->mapped ? v->map.device : "");
}

/* Each of them once: pairs are often refused for one and the same reason */
static void print_reasons(const struct verdict *v, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		bool said = !v[i].text[0];

		for (size_t k = 0; k < i && !said; k++)
			said = !strcmp(v[k].text, v[i].text);
		if (said)
			continue;
		if (!v[i].step)
			printf("\n%s, %s: %s\n", v[i].memory, v[i].target, v[i].text);
		else if (!strcmp(v[i].step, "kernel"))
			printf("\n%s\n", v[i].text);
		else
			printf("\n%s, %s: %s (%s): %s\n", v[i].memory, v[i].target, v[i].reason,
			       v[i].step, v[i].text);
	}
}

void report_table(const struct verdict *v, size_t nr)
{
	struct libscols_table *table = scols_new_table();

	if (!table)
		die("no memory for a table");
	for (size_t i = 0; i < NR_COLUMNS; i++)
		scols_table_new_column(table, columns[i].name, 0, columns[i].flags);
	for (size_t i = 0; i < nr; i++) {
		struct libscols_line *line = scols_table_new_line(table, NULL);

		if (!line)
			die("no memory for a table");
		set_line(line, v + i);
	}
	scols_print_table(table);
	scols_unref_table(table);
	print_reasons(v, nr);
}

/* ---- JSON ---- */

static json_t *json_mapping(const struct verdict *v)
{
	bool peer = v->map.state == IO_URING_DMABUF_STATE_P2P_BUS ||
		    v->map.state == IO_URING_DMABUF_STATE_P2P_HOST;

	if (!v->mapped)
		return json_null();
	return json_pack("{s:s, s:b, s:s, s:s, s:I, s:I, s:I}",
			 "state", io_uring_dmabuf_state_name(v->map.state),
			 "peer_to_peer", (int)peer,
			 "device", v->map.device, "exporter", v->map.exporter,
			 "granule", (json_int_t)v->map.granule,
			 "entries", (json_int_t)v->map.entries,
			 "table_bytes", (json_int_t)v->map.table_bytes);
}

static json_t *json_failure(const struct verdict *v)
{
	if (!v->step)
		return json_null();
	return json_pack("{s:s, s:s, s:i, s:s}", "step", v->step, "reason", v->reason,
			 "errno", -v->err, "errno_name", strerrorname_np(-v->err) ?: "");
}

static json_t *json_pair(const struct verdict *v)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:s?, s:s, s:o, s:o}",
			 "memory", v->memory, "target", v->target, "verdict", verdict_word(v),
			 "read", outcome_name(v->read), "write", outcome_name(v->write),
			 "send", outcome_name(v->send), "bytes", (json_int_t)v->bytes,
			 "compared", v->compared, "text", v->text,
			 "mapping", json_mapping(v), "failure", json_failure(v));
}

void report_json(const struct verdict *v, size_t nr)
{
	struct io_uring_dmabuf_caps caps;
	bool can = !io_uring_dmabuf_query(&caps);
	json_t *pairs = json_array(), *all;
	struct utsname kernel;

	uname(&kernel);
	for (size_t i = 0; i < nr; i++)
		json_array_append_new(pairs, json_pair(v + i));
	all = json_pack("{s:i, s:{s:s, s:b, s:i}, s:o}", "version", 1,
			"kernel", "release", kernel.release, "registers_dmabufs", (int)can,
			"interface", (int)caps.version, "pairs", pairs);
	print_json(all, JSON_INDENT(2));
}
