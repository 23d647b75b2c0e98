// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The buffers of a process, as /proc/PID/fdinfo of its rings has them */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"

/* More devices than a buffer can have; others are not told */
#define MAX_TARGETS	128
/* a millisecond each */
#define TRIES		500

struct slot {
	struct io_uring_dmabuf_stat stat[MAX_TARGETS];
	unsigned int nr;
	bool copies;		/* there was a line about copies */
	uint64_t copied;
};

/* The number behind "KEY:" */
static uint64_t number(const char *line, const char *key)
{
	const char *at = strstr(line, key);

	return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

/* What is behind @key, up to @end, or all of it */
static void name(const char *line, const char *key, const char *end, char *to, size_t size)
{
	const char *at = strstr(line, key), *stop;

	to[0] = '\0';
	if (!at)
		return;
	at += strlen(key);
	stop = strstr(at, end);
	snprintf(to, size, "%.*s", stop ? (int)(stop - at) : (int)strlen(at), at);
}

static uint32_t state_number(const char *state)
{
	for (uint32_t i = 0; i <= IO_URING_DMABUF_STATE_DEAD; i++)
		if (!strcmp(io_uring_dmabuf_state_name(i), state))
			return i;
	return IO_URING_DMABUF_STATE_NONE;
}

static void parse_device(struct io_uring_dmabuf_map *map, const char *line)
{
	char text[32];

	map->type = IO_URING_DMABUF_TYPE_DMABUF;
	map->dmabuf_off = number(line, "off:");
	map->target = (uint32_t)number(line, "target:");
	name(line, "dir:", " ", text, sizeof(text));
	map->flags = !strcmp(text, "r") ? IO_URING_DMABUF_RDONLY :
		     !strcmp(text, "w") ? IO_URING_DMABUF_WRONLY : 0;
	name(line, "state:", " ", text, sizeof(text));
	map->state = state_number(text);
	map->granule = number(line, "granule:");
	map->entries = number(line, "entries:");
	map->table_bytes = number(line, " bytes:");
	map->hits = number(line, "hits:");
	map->maps = number(line, "maps:");
	map->invalidations = number(line, "invalidations:");
	map->drops = (uint32_t)number(line, "drops:");
	map->peer2peer = (uint32_t)number(line, "peer2peer:");
	name(line, "dev:", " state:", map->device, sizeof(map->device));
	name(line, "exporter:", " peer2peer:", map->exporter, sizeof(map->exporter));
}

/* All lines of a slot were there: tells of each device, or of copies alone */
static int tell(struct slot *s, int (*each)(const struct io_uring_dmabuf_stat *stat, void *arg),
		void *arg)
{
	unsigned int nr = s->nr ? s->nr : s->copies;
	int ret = 0;

	for (unsigned int i = 0; i < nr && !ret; i++) {
		struct io_uring_dmabuf_map *map = &s->stat[i].map;

		map->nr_targets = s->nr;
		map->copied_bytes = s->copied;
		if (s->copies)
			map->flags |= IO_URING_DMABUF_COPY_OK;
		ret = each(&s->stat[i], arg);
	}
	return ret;
}

static void new_slot(struct slot *s, int pid, int ring_fd, unsigned int slot, uint64_t size)
{
	memset(s, 0, sizeof(*s));
	for (unsigned int i = 0; i < MAX_TARGETS; i++) {
		s->stat[i].pid = pid;
		s->stat[i].ring_fd = ring_fd;
		s->stat[i].map.slot = slot;
		s->stat[i].map.size = size;
	}
}

/* A line below that of a slot */
static void parse_line(struct slot *s, const char *line)
{
	const char *what = strstr(line, "dmabuf: ");

	if (!what)
		return;
	if (!strncmp(what, "dmabuf: copied:", 15)) {
		s->copies = true;
		s->copied = number(what, "copied:");
	} else if (s->nr < MAX_TARGETS) {
		parse_device(&s->stat[s->nr++].map, what);
	}
}

static int read_ring(int pid, int fd, const char *path,
		     int (*each)(const struct io_uring_dmabuf_stat *stat, void *arg), void *arg)
{
	unsigned long long size;
	FILE *f = fopen(path, "re");
	struct slot s;
	unsigned int slot;
	bool complete = false;
	char line[512];
	int ret = 0;

	if (!f)
		return -errno;
	memset(&s, 0, sizeof(s));
	while (!ret && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		complete |= !strncmp(line, "UserBufs:", 9);
		if (sscanf(line, "%u: 0x%*x/%llu", &slot, &size) == 2) {
			ret = tell(&s, each, arg);
			new_slot(&s, pid, fd, slot, size);
		} else {
			parse_line(&s, line);
		}
	}
	if (!ret)
		ret = tell(&s, each, arg);
	fclose(f);
	return ret ? ret : complete ? 0 : -EAGAIN;
}

/* A ring that is busy has nothing to say: it is asked again */
static int read_busy_ring(int pid, int fd, int (*each)(const struct io_uring_dmabuf_stat *stat,
						       void *arg), void *arg)
{
	char path[64];
	int ret;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", pid, fd);
	for (int i = 0; i < TRIES; i++) {
		ret = read_ring(pid, fd, path, each, arg);
		if (ret != -EAGAIN)
			break;
		usleep(1000);
	}
	/* closed meanwhile */
	return ret == -ENOENT ? 0 : ret;
}

static bool is_ring(const char *path)
{
	char link[64];
	ssize_t n = readlink(path, link, sizeof(link) - 1);

	if (n < 0)
		return false;
	link[n] = '\0';
	return !strcmp(link, "anon_inode:[io_uring]");
}

int io_uring_dmabuf_stat(int pid, int (*each)(const struct io_uring_dmabuf_stat *stat, void *arg),
			 void *arg)
{
	char path[64];
	struct dirent *d;
	int ret = 0;
	DIR *dir;

	if (!pid)
		pid = getpid();
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? -ESRCH : -errno;
	while (!ret && (d = readdir(dir))) {
		int fd = atoi(d->d_name);

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
		if (d->d_name[0] == '.' || !is_ring(path))
			continue;
		ret = read_busy_ring(pid, fd, each, arg);
	}
	closedir(dir);
	return ret;
}
