// SPDX-License-Identifier: GPL-2.0
/*
 * fninsn - QEMU TCG plugin: guest instructions and calls per kernel function,
 * inside windows that the program in the guest opens and closes.
 *
 *   qemu-system-x86_64 -smp 1 -plugin fninsn.so,sym=System.map,out=FILE[,mark=SYMBOL][,cpu=N]
 *
 *   sym=FILE     System.map of the kernel in the guest.  Boot it with nokaslr.
 *   out=FILE     the tables are written here; an older file is replaced.
 *   mark=SYMBOL  kernel function whose entry toggles the window: an odd entry
 *                opens one, the next closes it and appends its table.
 *                Default: __x64_sys_ioprio_get, which changes nothing.
 *   cpu=N        of several vCPUs only this one counts, its marks too.  Without
 *                it there may be only one.
 *
 * The tables, one line per record:
 *
 *   W <window> <kernel> <other> <user>        instructions, the whole window
 *   F <window> <symbol> <instructions> <calls>
 *   E <windows> <dropped>                     at exit: closed windows, and
 *                                             1 if one was still open
 *
 * "other" is kernel-space code outside the kernel image: modules, BPF,
 * ftrace trampolines.  A call is an execution of a function's first
 * instruction.
 *
 * What an instruction is: QEMU counts a block of translated code as a whole
 * when it enters it, so an instruction that faults in the middle of a block
 * also counts those behind it.  String instructions (rep movs) count one per
 * iteration.  Both are the same from run to run.
 *
 * Nothing from qemu-plugin.h is needed to build: the few declarations below
 * have not changed since they appeared.  -DPLUGIN_API=1 suits QEMU 4.2 to 8.2,
 * 2 and later suit 9.0 and later (QEMU says which range it takes).
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef PLUGIN_API
#define PLUGIN_API 1
#endif

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;

/* The head of qemu_info_t, the same in every version so far. */
struct qemu_info {
	const char *target_name;
	struct {
		int min, cur;
	} version;
	bool system_emulation;
	struct {
		int smp_vcpus, max_vcpus;
	} system;
};

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
		void (*cb)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb,
		void (*cb)(unsigned int vcpu, void *data), int flags, void *data);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id,
		void (*cb)(qemu_plugin_id_t id, void *data), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb,
						 size_t idx);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);

EXPORT int qemu_plugin_version = PLUGIN_API;

#define KERNEL_SPACE	0xffff800000000000ull

struct symbol {
	uint64_t addr;
	char *name;
	char type;
	uint64_t insns, calls;
};

/* A run of instructions of one symbol within a translated block. */
struct run {
	struct symbol *sym;
	uint32_t insns;
	uint32_t calls;
};

/* Kernel text: [_text, _etext) and, while booting, [_sinittext, _einittext). */
struct range {
	uint64_t start, end;
};

static struct symbol *symbols;
static size_t nr_symbols;
static struct range text, init_text;
static struct symbol user = { .name = "[user]" };
static struct symbol other = { .name = "[other]" };

static const char *mark_name = "__x64_sys_ioprio_get";
static uint64_t mark_addr;
static FILE *out;
static unsigned int window;
static bool counting;
static unsigned int counted_cpu;

/*
 * With several vCPUs, each has a host thread (MTTCG).  What is above and changes
 * after the start is touched by the thread of counted_cpu only, and at exit.
 */

static bool within(const struct range *r, uint64_t addr)
{
	return addr >= r->start && addr < r->end;
}

static struct symbol *find_symbol(uint64_t addr)
{
	size_t lo = 0, hi = nr_symbols;

	if (addr < KERNEL_SPACE)
		return &user;
	if (!within(&text, addr) && !within(&init_text, addr))
		return &other;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (symbols[mid].addr <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo ? &symbols[lo - 1] : &other;
}

static void open_window(void)
{
	for (size_t i = 0; i < nr_symbols; i++)
		symbols[i].insns = symbols[i].calls = 0;
	user.insns = other.insns = 0;
	window++;
}

static void close_window(void)
{
	uint64_t kernel = 0;

	for (size_t i = 0; i < nr_symbols; i++)
		kernel += symbols[i].insns;
	fprintf(out, "W %u %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
		window, kernel, other.insns, user.insns);
	for (size_t i = 0; i < nr_symbols; i++)
		if (symbols[i].insns)
			fprintf(out, "F %u %s %" PRIu64 " %" PRIu64 "\n",
				window, symbols[i].name,
				symbols[i].insns, symbols[i].calls);
	fflush(out);
}

static void on_mark(unsigned int vcpu, void *data)
{
	(void)data;
	if (vcpu != counted_cpu)
		return;
	if (counting)
		close_window();
	else
		open_window();
	counting = !counting;
}

static void on_run(unsigned int vcpu, void *data)
{
	struct run *run = data;

	if (vcpu != counted_cpu || !counting)
		return;
	run->sym->insns += run->insns;
	run->sym->calls += run->calls;
}

/*
 * A block is translated once and executed many times, so the symbols are
 * looked up here.  Nearly every block is one run; a function that falls
 * through into the next makes two.  Runs live as long as QEMU may execute the
 * block, which it does not tell: they are never freed.
 */
static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb);
	struct run *run = NULL;

	(void)id;
	for (size_t i = 0; i < n; i++) {
		uint64_t addr = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, i));
		struct symbol *sym = find_symbol(addr);

		if (i == 0 && addr == mark_addr)
			qemu_plugin_register_vcpu_tb_exec_cb(tb, on_mark, 0, NULL);
		if (!run || run->sym != sym) {
			run = calloc(1, sizeof(*run));
			if (!run)
				abort();
			run->sym = sym;
			qemu_plugin_register_vcpu_tb_exec_cb(tb, on_run, 0, run);
		}
		run->insns++;
		run->calls += addr == sym->addr;
	}
}

static void on_exit_qemu(qemu_plugin_id_t id, void *data)
{
	(void)id;
	(void)data;
	fprintf(out, "E %u %d\n", window - counting, counting);
	fclose(out);
}

/* By address; of aliases, the global one first, then by name: find_symbol() takes the last. */
static int compare(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;

	if (x->addr != y->addr)
		return x->addr < y->addr ? -1 : 1;
	if ((x->type == 'T') != (y->type == 'T'))
		return x->type == 'T' ? 1 : -1;
	return strcmp(y->name, x->name);
}

static void add_symbol(uint64_t addr, char type, const char *name)
{
	static size_t room;

	if (nr_symbols == room) {
		room = room ? room * 2 : 65536;
		symbols = realloc(symbols, room * sizeof(*symbols));
		if (!symbols)
			abort();
	}
	symbols[nr_symbols++] = (struct symbol){ .addr = addr, .type = type, .name = strdup(name) };
}

static int read_system_map(const char *path)
{
	char line[1024], name[512], type;
	uint64_t addr;
	FILE *f = path ? fopen(path, "r") : NULL;

	if (!f) {
		fprintf(stderr, "fninsn: cannot read System.map '%s' (give sym=FILE)\n",
			path ? path : "");
		return -1;
	}
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNx64 " %c %511s", &addr, &type, name) != 3 ||
		    addr < KERNEL_SPACE)
			continue;
		if (!strcmp(name, "_text"))
			text.start = addr;
		else if (!strcmp(name, "_etext"))
			text.end = addr;
		else if (!strcmp(name, "_sinittext"))
			init_text.start = addr;
		else if (!strcmp(name, "_einittext"))
			init_text.end = addr;
		else if (!strchr("tTwW", type))
			continue;
		if (!strcmp(name, mark_name))
			mark_addr = addr;
		add_symbol(addr, type, name);
	}
	fclose(f);
	if (!mark_addr || text.start >= text.end) {
		fprintf(stderr, "fninsn: %s: no '%s' or no _text.._etext in it (is it the System.map of an x86-64 kernel?)\n",
			path, mark_name);
		return -1;
	}
	qsort(symbols, nr_symbols, sizeof(*symbols), compare);
	return 0;
}

static const char *value(const char *arg, const char *key)
{
	size_t n = strlen(key);

	return strncmp(arg, key, n) ? NULL : arg + n;
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *qemu_info, int argc, char **argv)
{
	const struct qemu_info *info = qemu_info;
	const char *map = NULL, *path = NULL, *v;
	int cpu = -1;

	for (int i = 0; i < argc; i++) {
		if ((v = value(argv[i], "sym=")))
			map = v;
		else if ((v = value(argv[i], "out=")))
			path = v;
		else if ((v = value(argv[i], "mark=")))
			mark_name = strdup(v);
		else if ((v = value(argv[i], "cpu=")))
			cpu = atoi(v);
		else {
			fprintf(stderr, "fninsn: unknown argument '%s' (sym=, out=, mark=, cpu=)\n", argv[i]);
			return -1;
		}
	}
	if (info->system_emulation && info->system.smp_vcpus != 1 && cpu < 0) {
		fprintf(stderr, "fninsn: %d vCPUs: one of them is counted (say cpu=N, or use -smp 1)\n",
			info->system.smp_vcpus);
		return -1;
	}
	counted_cpu = cpu < 0 ? 0 : (unsigned int)cpu;
	if (read_system_map(map))
		return -1;
	out = path ? fopen(path, "w") : NULL;
	if (!out) {
		fprintf(stderr, "fninsn: cannot write '%s' (give out=FILE)\n", path ? path : "");
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
	qemu_plugin_register_atexit_cb(id, on_exit_qemu, NULL);
	return 0;
}
