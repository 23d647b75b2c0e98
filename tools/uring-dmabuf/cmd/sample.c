// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Counters of buffers at a moment */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stat.h"

static int add(const struct io_uring_dmabuf_stat *stat, void *arg)
{
	struct sample *s = arg;

	if (s->nr == s->room) {
		size_t room = s->room ? 2 * s->room : 16;
		void *more = realloc(s->stat, room * sizeof(*s->stat));

		if (!more)
			return -ENOMEM;
		s->stat = more;
		s->room = room;
	}
	s->stat[s->nr++] = *stat;
	return 0;
}

/* Others' processes, and those that end meanwhile, are left out */
static int sample_all(struct sample *s)
{
	DIR *dir = opendir("/proc");
	struct dirent *d;
	int ret = 0;

	if (!dir)
		return -errno;
	while (ret != -ENOMEM && (d = readdir(dir)))
		if (isdigit((unsigned char)d->d_name[0]))
			ret = io_uring_dmabuf_stat(atoi(d->d_name), add, s);
	closedir(dir);
	return ret == -ENOMEM ? ret : 0;
}

int sample_take(struct sample *s, pid_t pid)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	s->time = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
	s->nr = 0;
	return pid ? io_uring_dmabuf_stat(pid, add, s) : sample_all(s);
}

void sample_free(struct sample *s)
{
	free(s->stat);
	memset(s, 0, sizeof(*s));
}

const struct io_uring_dmabuf_stat *sample_find(const struct sample *s,
					       const struct io_uring_dmabuf_stat *like)
{
	for (size_t i = 0; i < s->nr; i++) {
		const struct io_uring_dmabuf_stat *stat = &s->stat[i];

		if (stat->pid == like->pid && stat->ring_fd == like->ring_fd &&
		    stat->map.slot == like->map.slot && stat->map.target == like->map.target &&
		    !strcmp(stat->map.device, like->map.device))
			return stat;
	}
	return NULL;
}
