// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* cp: a source, its destination, and the names of what is not finished */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <linux/fs.h>

#include "cp.h"

#define STATE		"user.uring-dmabuf.cp"
/* What a run that is killed has to do again, at most */
#define SAVE_EVERY	(16ULL << 20)

void job_fail(struct job *job, const char *fmt, ...)
{
	va_list ap;

	if (job->failed)
		return;
	job->failed = true;
	va_start(ap, fmt);
	vsnprintf(job->why, sizeof(job->why), fmt, ap);
	va_end(ap);
	fprintf(stderr, "uring-dmabuf: %s to %s: ", job->from.name, job->to.name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

/* ---- opening ---- */

static int open_dmabuf(struct job *job, struct end *e)
{
	int ret = dmabuf_mem_open(&e->mem, e->name, 0);

	if (ret) {
		job_fail(job, "%s: %s", e->name, dmabuf_mem_why());
		return ret;
	}
	e->kind = END_DMABUF;
	e->fd = e->mem.fd;
	return 0;
}

static int block_size(struct job *job, int fd, const char *name, uint64_t *size)
{
	int err;

	if (!ioctl(fd, BLKGETSIZE64, size))
		return 0;
	err = errno;
	job_fail(job, "%s: its size: %s", name, strerror(err));
	return -err;
}

static int cannot_open(struct job *job, const char *name)
{
	int err = errno;

	if (err == EINVAL)
		job_fail(job, "%s: its file system has no O_DIRECT", name);
	else if (err == EBUSY)
		job_fail(job, "%s is in use: see lsblk %s", name, name);
	else
		job_fail(job, "%s: %s", name, strerror(err));
	return -err;
}

static int no_such_thing(struct job *job, const char *name)
{
	job_fail(job, "%s: no file, block device or dma-buf", name);
	return -EINVAL;
}

int job_open_source(struct job *job)
{
	struct end *e = &job->from;
	struct stat st;

	if (!strncmp(e->name, "fd:", 3)) {
		int ret = open_dmabuf(job, e);

		job->size = e->mem.size;
		return ret;
	}
	if (stat(e->name, &st))
		return cannot_open(job, e->name);
	if (!S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode))
		return no_such_thing(job, e->name);
	e->fd = open(e->name, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (e->fd < 0 || fstat(e->fd, &st))
		return cannot_open(job, e->name);
	if (S_ISBLK(st.st_mode)) {
		e->kind = END_BLOCK;
		return block_size(job, e->fd, e->name, &job->size);
	}
	job->size = (uint64_t)st.st_size;
	return 0;
}

/* What an unfinished destination is unfinished of; a source that changed is another one */
static int describe(const struct job *job, char *text, size_t size, uint64_t off)
{
	struct stat st;

	if (fstat(job->from.fd, &st))
		return -errno;
	snprintf(text, size, "1 %llu %llu %lld %lld.%09ld %lld.%09ld %llu",
		 (unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
		 (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
		 (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec, (unsigned long long)off);
	return 0;
}

/* Where an earlier run of the same stopped; 0: from the start */
static uint64_t resumed(const struct job *job)
{
	char was[160] = "", now[160];
	char *off;

	if (fgetxattr(job->to.fd, STATE, was, sizeof(was) - 1) < 0 ||
	    describe(job, now, sizeof(now), 0))
		return 0;
	off = strrchr(was, ' ');
	if (!off || off - was != strrchr(now, ' ') - now ||
	    memcmp(was, now, (size_t)(off - was)))
		return 0;
	return strtoull(off, NULL, 10);
}

void job_save(struct job *job, uint64_t off, bool now)
{
	char text[160];

	if (off <= job->saved || (!now && off - job->saved < SAVE_EVERY))
		return;
	/* it is not said to be there before it is */
	if (fdatasync(job->to.fd) || describe(job, text, sizeof(text), off) ||
	    fsetxattr(job->to.fd, STATE, text, strlen(text), 0)) {
		job_fail(job, "what is there cannot be kept for --resume: %s", strerror(errno));
		return;
	}
	job->saved = off;
}

/* DIRECTORY/.NAME.part */
static char *part_name(const char *name)
{
	const char *base = strrchr(name, '/');
	char *part;

	base = base ? base + 1 : name;
	if (asprintf(&part, "%.*s.%s.part", (int)(base - name), name, base) < 0)
		die("no memory");
	return part;
}

static char *directory_of(const char *name)
{
	const char *base = strrchr(name, '/');
	char *dir;

	if (asprintf(&dir, "%.*s", base ? (int)(base - name) + 1 : 1, base ? name : ".") < 0)
		die("no memory");
	return dir;
}

/* Without a name until it is whole; or with one of its own, to go on with */
static int open_new(const struct cp_options *o, struct job *job)
{
	size_t len = strlen(job->to.name);
	char *dir;

	if (!len || job->to.name[len - 1] == '/') {
		job_fail(job, "%s: that is no name of a file", job->to.name);
		return -EINVAL;
	}
	dir = directory_of(job->to.name);
	if (o->resume && job->from.kind != END_FILE) {
		free(dir);
		job_fail(job, "--resume: whether %s has changed since cannot be told; only of files it can",
			 job->from.name);
		return -EINVAL;
	}
	if (o->resume) {
		job->part = part_name(job->to.name);
		job->to.fd = open(job->part, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
	} else {
		job->to.fd = open(dir, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
	}
	free(dir);
	if (job->to.fd < 0)
		return cannot_open(job, job->to.name);
	if (o->resume) {
		job->resumed = job->saved = resumed(job);
		job->next = job->data_end = job->done = job->saved;
	}
	return 0;
}

/* What is not needed is given back before anything is moved: a full disk is said at once */
static int reserve(struct job *job)
{
	uint64_t next = job->next;
	int err;

	/* of another run's nothing is left where the source has holes */
	if ((!job->resumed && ftruncate(job->to.fd, 0)) ||
	    ftruncate(job->to.fd, (off_t)job->size))
		goto failed;
	while (job_seek(job)) {
		if (fallocate(job->to.fd, 0, (off_t)job->next,
			      (off_t)(job->data_end - job->next)) && errno != EOPNOTSUPP)
			goto failed;
		job->next = job->data_end;
	}
	job->next = job->data_end = next;
	job->holes = 0;
	return 0;
failed:
	err = errno;
	job_fail(job, "%s: room for %llu bytes: %s", job->to.name, (unsigned long long)job->size,
		 strerror(err));
	return -err;
}

static int open_block(struct job *job)
{
	uint64_t size;
	int ret;

	job->to.kind = END_BLOCK;
	/* O_EXCL: nothing holds or mounts it */
	job->to.fd = open(job->to.name, O_RDWR | O_DIRECT | O_EXCL | O_CLOEXEC);
	if (job->to.fd < 0)
		return cannot_open(job, job->to.name);
	ret = block_size(job, job->to.fd, job->to.name, &size);
	if (!ret && size < job->size) {
		job_fail(job, "%s has %llu bytes, and %llu are to go there", job->to.name,
			 (unsigned long long)size, (unsigned long long)job->size);
		ret = -ENOSPC;
	}
	return ret;
}

static bool same(const struct stat *a, const struct stat *b)
{
	return S_ISBLK(a->st_mode) ? S_ISBLK(b->st_mode) && a->st_rdev == b->st_rdev :
				     a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* The file that a link leads to is replaced, not the link */
static int follow_link(struct job *job)
{
	struct stat st;
	int err;

	if (lstat(job->to.name, &st) || !S_ISLNK(st.st_mode))
		return 0;
	job->real = realpath(job->to.name, NULL);
	if (!job->real) {
		err = errno;
		job_fail(job, "%s is a link, and where it leads: %s", job->to.name, strerror(err));
		return -err;
	}
	job->to.name = job->real;
	return 0;
}

static int open_destination_dmabuf(struct job *job)
{
	int ret = open_dmabuf(job, &job->to), flags;

	if (ret)
		return ret;
	flags = fcntl(job->to.fd, F_GETFL);
	if ((flags & O_ACCMODE) == O_RDONLY) {
		job_fail(job, "%s is open for reading only", job->to.name);
		return -EBADF;
	}
	if (job->to.mem.size >= job->size)
		return 0;
	job_fail(job, "%s has %zu bytes, and %llu are to go there", job->to.name, job->to.mem.size,
		 (unsigned long long)job->size);
	return -ENOSPC;
}

int job_open_destination(const struct cp_options *o, struct job *job)
{
	struct stat from, to;
	int ret;

	if (!strncmp(job->to.name, "fd:", 3))
		return open_destination_dmabuf(job);
	ret = follow_link(job);
	if (ret)
		return ret;
	if (stat(job->to.name, &to)) {
		/* a name that cannot be is said now, not when all has arrived */
		if (errno != ENOENT)
			return cannot_open(job, job->to.name);
		to.st_mode = 0;
	} else if (!fstat(job->from.fd, &from) && same(&from, &to)) {
		job_fail(job, "they are the same");
		return -EINVAL;
	}
	if (S_ISBLK(to.st_mode))
		return open_block(job);
	if (to.st_mode && !S_ISREG(to.st_mode))
		return no_such_thing(job, job->to.name);
	job->mode = to.st_mode;
	ret = open_new(o, job);
	return ret ? ret : reserve(job);
}

int job_open(const struct cp_options *o, struct job *job)
{
	int ret;

	job->from.fd = job->to.fd = -1;
	ret = job_open_source(job);
	if (!ret)
		ret = job_open_destination(o, job);
	if (!ret && job->from.kind == END_DMABUF && job->to.kind == END_DMABUF) {
		job_fail(job, "one of the two has to be on a drive");
		ret = -EINVAL;
	}
	return ret;
}

/* ---- on the way ---- */

/* A file is written in whole blocks, and then cut off; a block device must not be */
static uint64_t end_of_blocks(const struct job *job)
{
	return job->to.kind == END_BLOCK ? job->size - job->size % BLOCK : job->size;
}

bool job_seek(struct job *job)
{
	uint64_t end = end_of_blocks(job);
	off_t data, hole;

	if (job->next < job->data_end)
		return true;
	if (job->next >= end)
		return false;
	if (job->from.kind != END_FILE || job->to.kind != END_FILE) {
		job->data_end = end;
		return true;
	}
	data = lseek(job->from.fd, (off_t)job->next, SEEK_DATA);
	if (data < 0) {
		job->holes += end - job->next;
		job->next = job->data_end = end;
		return false;
	}
	data -= data % BLOCK;
	hole = lseek(job->from.fd, data, SEEK_HOLE);
	if ((uint64_t)data > job->next) {
		job->holes += (uint64_t)data - job->next;
		job->next = (uint64_t)data;
	}
	job->data_end = hole < 0 || (uint64_t)hole > end ? end :
			((uint64_t)hole + BLOCK - 1) / BLOCK * BLOCK;
	if (job->data_end > end)
		job->data_end = end;
	return job->next < job->data_end;
}

/* ---- the end ---- */

static int link_as(int fd, const char *name)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, path, AT_FDCWD, name, AT_SYMLINK_FOLLOW);
}

/* A name beside @name that nobody has; whoever was killed here has left one. NULL: errno */
static char *link_beside(int fd, const char *name)
{
	char *dir = directory_of(name), *new = NULL;
	int ret = -1;

	for (int i = 0; i < 100 && ret; i++) {
		free(new);
		/* the name's own length may be all that there may be */
		if (asprintf(&new, "%s/.uring-dmabuf.%d.%d", dir, getpid(), i) < 0)
			die("no memory");
		ret = link_as(fd, new);
		if (ret && errno != EEXIST)
			break;
	}
	free(dir);
	if (!ret)
		return new;
	free(new);
	return NULL;
}

/* In the place of what is there, at once: nobody sees half of it */
static int name_it(struct job *job)
{
	char *new;
	int ret, err;

	if (job->part)
		return rename(job->part, job->to.name);
	if (!link_as(job->to.fd, job->to.name))
		return 0;
	if (errno != EEXIST)
		return -1;
	new = link_beside(job->to.fd, job->to.name);
	if (!new)
		return -1;
	ret = rename(new, job->to.name);
	err = errno;
	if (ret)
		unlink(new);
	free(new);
	errno = err;
	return ret;
}

static int sync_directory(const char *name, int file)
{
	char *dir = directory_of(name);
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), ret = -1;

	free(dir);
	/* who may make names in it, and not read it, has all of the file system written */
	if (fd < 0)
		return errno == EACCES ? syncfs(file) : -1;
	ret = fsync(fd);
	close(fd);
	return ret;
}

static int finish_file(struct job *job)
{
	mode_t mask = umask(0), mode = 0666 & ~mask;
	struct stat st = { 0 };

	umask(mask);
	/* a stream has no mode: what had the name has one */
	if (job->from.kind != END_STREAM && fstat(job->from.fd, &st))
		return -1;
	if (S_ISREG(st.st_mode))
		mode = st.st_mode & 0777 & ~mask;
	else if (job->from.kind == END_STREAM && job->mode)
		mode = job->mode & 0777;
	if (job->part)
		fremovexattr(job->to.fd, STATE);
	if (ftruncate(job->to.fd, (off_t)job->size) ||
	    fchmod(job->to.fd, mode) || fsync(job->to.fd) || name_it(job))
		return -1;
	free(job->part);
	job->part = NULL;
	return sync_directory(job->to.name, job->to.fd);
}

/*
 * The end of a file on a block device, less than a block, of which the rest stays: by the
 * CPU, and counted
 */
static int copy_tail(struct copier *c, struct job *job)
{
	uint64_t off = end_of_blocks(job);
	size_t len = job->size - off;
	char *block = aligned_alloc(BLOCK, BLOCK), *data = aligned_alloc(BLOCK, BLOCK);
	ssize_t there;
	int ret = -1;

	errno = block && data ? EIO : ENOMEM;
	if (!len) {
		ret = 0;
	} else if (block && data &&
		   (job->tail || pread(job->from.fd, data, BLOCK, (off_t)off) >= (ssize_t)len)) {
		/* less than a block where the device ends */
		there = pread(job->to.fd, block, BLOCK, (off_t)off);
		if (there >= (ssize_t)len) {
			memcpy(block, job->tail ? job->tail : data, len);
			ret = pwrite(job->to.fd, block, (size_t)there, (off_t)off) == there ? 0 : -1;
		}
	}
	free(block);
	free(data);
	if (!ret) {
		job->done += len;
		c->copied += len;
	}
	return ret;
}

void job_finish(struct copier *c, struct job *job)
{
	if (copy_tail(c, job) ||
	    (job->to.kind == END_FILE ? finish_file(job) :
	     job->to.kind == END_BLOCK ? fsync(job->to.fd) : 0))
		job_fail(job, "at the end: %s", strerror(errno));
	job->finished = !job->failed;
}

void job_close(struct job *job)
{
	/* what was not begun is nothing to go on with */
	if (job->part && !job->saved)
		unlink(job->part);
	free(job->part);
	free(job->real);
	for (int k = 0; k < 2; k++) {
		struct end *e = k ? &job->to : &job->from;

		if (e->kind == END_DMABUF)
			dmabuf_mem_close(&e->mem);
		else if (e->fd >= 0)
			close(e->fd);
	}
}
