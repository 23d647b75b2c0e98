// SPDX-License-Identifier: GPL-2.0
/* Files of the tests */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>

#include "files.h"
#include "mem.h"

int make(const char *path, size_t len, __u64 seed)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	char *data = malloc(len + 1);
	ssize_t n = -1;

	if (fd >= 0 && data) {
		pattern_fill(data, 0, len, seed);
		n = write(fd, data, len);
		fsync(fd);
	}
	free(data);
	close(fd);
	return n == (ssize_t)len ? 0 : -EIO;
}

int is(const char *path, size_t len, __u64 seed)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *data = malloc(len + 1);
	int ret = -ENOENT;

	if (fd >= 0 && data) {
		ret = read(fd, data, len + 1) == (ssize_t)len ? 0 : -EFBIG;
		if (!ret && pattern_check(data, 0, len, seed) != NO_MISMATCH)
			ret = -EILSEQ;
	}
	free(data);
	if (fd >= 0)
		close(fd);
	return ret;
}

int empty(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *d;
	int nr = 0;

	while (dir && (d = readdir(dir)))
		if (d->d_name[0] != '.' || strlen(d->d_name) > 2) {
			unlinkat(dirfd(dir), d->d_name, 0);
			nr++;
		}
	closedir(dir);
	return nr;
}

int shell(const char *fmt, const char *a, const char *b)
{
	char command[400];

	snprintf(command, sizeof(command), fmt, a, b);
	return system(command);
}

int folders_make(struct folders *f, const char *ext4, const char *xfs, const char *name)
{
	snprintf(f->dir[0], sizeof(f->dir[0]), "%s/%s", ext4, name);
	snprintf(f->dir[1], sizeof(f->dir[1]), "%s/%s", xfs, name);
	snprintf(f->a, sizeof(f->a), "%s/a", f->dir[0]);
	snprintf(f->b, sizeof(f->b), "%s/b", f->dir[1]);
	return mkdir(f->dir[0], 0700) || mkdir(f->dir[1], 0700) ? -errno : 0;
}

int folders_remove(struct folders *f)
{
	int ret = 0;

	for (int i = 0; i < 2; i++) {
		empty(f->dir[i]);
		ret = rmdir(f->dir[i]) ? -errno : ret;
	}
	return ret;
}
