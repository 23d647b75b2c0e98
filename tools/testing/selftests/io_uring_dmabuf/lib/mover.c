// SPDX-License-Identifier: GPL-2.0
#include <linux/dma-buf-bar.h>

#include "lab.h"
#include "mover.h"

const __u32 mover_places[3] = {
	DMA_BUF_BAR_PLACE_A, DMA_BUF_BAR_PLACE_SYSTEM, DMA_BUF_BAR_PLACE_B,
};

static void *mover_run(void *arg)
{
	struct mover *m = arg;
	__u64 rng = 77;

	while (!__atomic_load_n(&m->stop, __ATOMIC_RELAXED) &&
	       !(m->count && m->moves >= m->count)) {
		__u32 place = mover_places[rnd(&rng) % m->nr_places];
		double start = lab_now(), took;

		m->error = bar_move(m->mem, place);
		took = lab_now() - start;
		if (m->error)
			break;
		if (took > m->longest)
			m->longest = took;
		m->moves++;
		if (m->rest_ms)
			lab_sleep_ms(m->rest_ms);
		if (rnd(&rng) % 4 == 0)
			lab_sleep_ms(rnd(&rng) % 3);
	}
	__atomic_store_n(&m->done, true, __ATOMIC_RELEASE);
	return NULL;
}

int mover_start(struct mover *m)
{
	return -pthread_create(&m->thread, NULL, mover_run, m);
}

bool mover_done(struct mover *m)
{
	return __atomic_load_n(&m->done, __ATOMIC_ACQUIRE);
}

void mover_stop(struct mover *m)
{
	__atomic_store_n(&m->stop, true, __ATOMIC_RELAXED);
	pthread_join(m->thread, NULL);
}
