// SPDX-License-Identifier: GPL-2.0
/*
 * tsc-khz: how many thousand times a second this machine's time stamp counter counts, on
 * stdout. An emulated processor's counter is the host's; a guest that finds out by itself,
 * against emulated timers on a busy machine, may be wrong by a factor of five.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

struct moment {
	uint64_t tsc;
	int64_t ns;
};

static int64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

/* Both clocks at the same time: the try that was interrupted least */
static struct moment look(void)
{
	int64_t best = INT64_MAX;
	struct moment m = { 0 };

	for (int i = 0; i < 1000; i++) {
		int64_t before = now(), after;
		uint64_t tsc = __rdtsc();

		after = now();
		if (after - before >= best)
			continue;
		best = after - before;
		m.tsc = tsc;
		m.ns = before + best / 2;
	}
	return m;
}

int main(void)
{
	struct timespec pause = { .tv_nsec = 200000000 };
	struct moment a = look(), b;

	nanosleep(&pause, NULL);
	b = look();
	printf("%.0f\n", (double)(b.tsc - a.tsc) * 1e6 / (double)(b.ns - a.ns));
	return 0;
}
