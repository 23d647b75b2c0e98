// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What bench measured: a table for people, JSON for scripts and plots (schema/bench.json) */
#include <libsmartcols/libsmartcols.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench.h"
#include "json.h"

static double rate(const struct bench_case *c, double n)
{
	return c->seconds > 0 ? n / c->seconds : 0;
}

static double cpu_per_gb(const struct bench_case *c)
{
	return c->bytes ? c->cpu / ((double)c->bytes / 1e9) : 0;
}

/* ---- table ---- */

static const char *const columns[] = {
	"TARGET", "OPERATION", "SIZE", "WAY", "MiB/s", "REQUESTS/s", "P50 us", "P99 us", "MAX us",
	"CPU s/GB", "COPIED",
};

#define NR_COLUMNS	(sizeof(columns) / sizeof(columns[0]))
#define NR_TEXTS	4U	/* to the left; the others are numbers */

static void set(struct libscols_line *line, size_t column, const char *fmt, ...)
{
	char text[64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	scols_line_set_data(line, column, text);
}

static void set_line(struct libscols_line *line, const struct bench_case *c)
{
	scols_line_set_data(line, 0, c->target);
	scols_line_set_data(line, 1, bench_op_names[c->op]);
	set(line, 2, "%uk", c->block >> 10);
	scols_line_set_data(line, 3, bench_way_names[c->way]);
	if (c->v.step || !c->requests) {
		scols_line_set_data(line, 4, c->v.step ? c->v.reason : "-");
		return;
	}
	set(line, 4, "%.1f", rate(c, (double)c->bytes / 1048576));
	set(line, 5, "%.0f", rate(c, (double)c->requests));
	set(line, 6, "%.1f", (double)c->latency[P50] / 1e3);
	set(line, 7, "%.1f", (double)c->latency[P99] / 1e3);
	set(line, 8, "%.1f", (double)c->latency[P100] / 1e3);
	set(line, 9, "%.3f", cpu_per_gb(c));
	set(line, 10, "%.0f %%", 100 * (double)c->copied / (double)c->bytes);
}

/* Each of them once */
static void print_reasons(const struct bench *b)
{
	for (size_t i = 0; i < b->nr_cases; i++) {
		const struct verdict *v = &b->cases[i].v;
		bool said = !v->step;

		for (size_t k = 0; k < i && !said; k++)
			said = !strcmp(b->cases[k].v.text, v->text);
		if (!said)
			printf("\n%s, %s: %s (%s): %s\n", v->memory, v->target, v->reason, v->step, v->text);
	}
}

void bench_table(const struct bench *b)
{
	struct libscols_table *table = scols_new_table();

	if (!table)
		die("no memory for a table");
	for (size_t i = 0; i < NR_COLUMNS; i++)
		scols_table_new_column(table, columns[i], 0, i < NR_TEXTS ? 0 : SCOLS_FL_RIGHT);
	for (size_t i = 0; i < b->nr_cases; i++) {
		struct libscols_line *line = scols_table_new_line(table, NULL);

		if (!line)
			die("no memory for a table");
		set_line(line, &b->cases[i]);
	}
	if (!b->o.o.quiet)
		scols_print_table(table);
	scols_unref_table(table);
	print_reasons(b);
}

/* ---- JSON ---- */

static json_t *json_latency(const struct bench_case *c)
{
	if (!c->requests)
		return json_null();
	return json_pack("{s:f, s:f, s:f, s:f, s:f}", "p50", (double)c->latency[P50] / 1e3,
			 "p90", (double)c->latency[P90] / 1e3, "p99", (double)c->latency[P99] / 1e3,
			 "p99_9", (double)c->latency[P99_9] / 1e3,
			 "max", (double)c->latency[P100] / 1e3);
}

static json_t *json_failure(const struct verdict *v)
{
	if (!v->step)
		return json_null();
	return json_pack("{s:s, s:s, s:i, s:s}", "step", v->step, "reason", v->reason,
			 "errno", -v->err, "text", v->text);
}

static json_t *json_case(const struct bench_case *c)
{
	return json_pack("{s:s, s:s, s:I, s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:o, s:o}",
			 "target", c->target, "operation", bench_op_names[c->op],
			 "size", (json_int_t)c->block, "way", bench_way_names[c->way],
			 "requests", (json_int_t)c->requests, "bytes", (json_int_t)c->bytes,
			 "copied_bytes", (json_int_t)c->copied, "seconds", c->seconds,
			 "bytes_per_second", rate(c, (double)c->bytes),
			 "requests_per_second", rate(c, (double)c->requests),
			 "cpu_seconds", c->cpu, "cpu_seconds_per_gb", cpu_per_gb(c),
			 "latency_us", json_latency(c), "failure", json_failure(&c->v));
}

/* What a plot has to name: numbers without a machine say nothing */
static json_t *json_machine(void)
{
	char cpu[128] = "unknown", line[256];
	FILE *f = fopen("/proc/cpuinfo", "re");
	struct utsname u;

	uname(&u);
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "model name", 10) || !strchr(line, ':'))
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(cpu, sizeof(cpu), "%s", strchr(line, ':') + 2);
		break;
	}
	if (f)
		fclose(f);
	return json_pack("{s:s, s:s, s:s, s:i}", "name", u.nodename, "kernel", u.release,
			 "processor", cpu, "processors", (int)sysconf(_SC_NPROCESSORS_ONLN));
}

void bench_json(const struct bench *b)
{
	json_t *cases = json_array();

	for (size_t i = 0; i < b->nr_cases; i++)
		json_array_append_new(cases, json_case(&b->cases[i]));
	print_json(json_pack("{s:i, s:o, s:s, s:i, s:b, s:o}", "version", 1,
			     "machine", json_machine(), "memory", b->o.o.memory,
			     "depth", (int)b->o.depth, "random", (int)b->o.random, "cases", cases),
		   JSON_INDENT(2));
}
