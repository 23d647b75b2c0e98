// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What a name on the command line is: a drive, a file, a card, a connection */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/fs.h>

#include "address.h"
#include "check.h"

static int too_small(const struct target *t, struct verdict *v)
{
	return fail(v, "target", -EINVAL, "too-small",
		    "%s has less than 8192 bytes: name a larger one", t->name);
}

/*
 * In the middle, where a partition table or a superblock is least likely: if the machine
 * loses its power during --write, that is what is lost. What is written is not what is read.
 */
static int choose_parts(const struct check_options *o, struct target *t, uint64_t size,
			struct verdict *v)
{
	uint64_t half = size / 2 - size / 2 % 4096;

	if (!half)
		return too_small(t, v);
	t->len = o->size < half ? o->size : half;
	t->off = half - t->len;
	t->write_off = half;
	return 0;
}

static int held(const struct target *t, struct verdict *v)
{
	return fail(v, "target", -EBUSY, "held",
		    "%s is in use, and was not written to: see lsblk %s, or leave out --write",
		    t->name, t->name);
}

static int open_path(struct target *t, int flags, struct verdict *v)
{
	t->fd = open(t->name, flags | O_DIRECT | O_CLOEXEC, 0600);
	if (t->fd >= 0)
		return 0;
	if (errno == EINVAL)
		return fail(v, "target", -EINVAL, "not-direct",
			    "%s: its file system has no O_DIRECT: use ext4 or XFS on a drive",
			    t->name);
	/* what is mounted may be open to be read only */
	if (errno == EBUSY)
		return held(t, v);
	return fail(v, "target", -errno, "cannot-open", "%s: %s", t->name, strerror(errno));
}

static int open_block(const struct check_options *o, struct target *t, struct verdict *v)
{
	uint64_t size;
	int ret = open_path(t, o->write ? O_RDWR : O_RDONLY, v);

	if (ret)
		return ret;
	if (ioctl(t->fd, BLKGETSIZE64, &size))
		return fail(v, "target", -errno, "cannot-open", "%s: its size: %s", t->name,
			    strerror(errno));
	return choose_parts(o, t, size, v);
}

static int open_file(const struct check_options *o, struct target *t, uint64_t size,
		     struct verdict *v)
{
	int ret = open_path(t, o->write ? O_RDWR : O_RDONLY, v);

	return ret ?: choose_parts(o, t, size, v);
}

#define FILL_PIECE	((size_t)1 << 20)

/* Bytes, as what was never written has no place on the drive that could be read */
static int fill(struct target *t)
{
	size_t size = 2 * t->len, piece = size < FILL_PIECE ? size : FILL_PIECE;
	void *data = aligned_alloc(4096, piece);
	int ret = 0;
	ssize_t n;

	if (!data)
		return -ENOMEM;
	memset(data, 0x5a, piece);
	for (size_t off = 0; off < size && !ret; off += (size_t)n) {
		n = pwrite(t->fd, data, size - off < piece ? size - off : piece, (off_t)off);
		if (n <= 0)
			ret = n ? -errno : -ENOSPC;
	}
	free(data);
	return ret ? ret : fsync(t->fd) ? -errno : 0;
}

static int open_directory(const struct check_options *o, struct target *t, struct verdict *v)
{
	int ret = open_path(t, O_TMPFILE | O_RDWR, v);

	if (ret)
		return ret;
	t->len = o->size;
	t->write_off = t->len;
	ret = fill(t);
	if (ret == -ENOSPC)
		return fail(v, "target", ret, "no-space",
			    "%s has no room for %zu bytes: make some, or give a smaller --size",
			    t->name, 2 * t->len);
	if (ret)
		return fail(v, "target", ret, "cannot-write", "%s: a file of %zu bytes: %s",
			    t->name, 2 * t->len, strerror(-ret));
	return 0;
}

static int open_card(struct target *t, struct verdict *v)
{
	const char *device = t->name + strlen("net:");

	t->kind = TARGET_CARD;
	if (!if_nametoindex(device))
		return fail(v, "target", -ENODEV, "cannot-open", "%s: no such network device: see ip link",
			    t->name);
	t->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (t->fd < 0)
		return fail(v, "target", -errno, "cannot-open", "a socket: %s", strerror(errno));
	if (setsockopt(t->fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device)))
		return fail(v, "target", -errno, "cannot-open", "%s: bind a socket to it: %s",
			    t->name, strerror(errno));
	return 0;
}

static int open_tcp(const struct check_options *o, struct target *t, struct verdict *v)
{
	const char *text;
	int ret;

	t->kind = TARGET_TCP;
	t->len = o->size;
	ret = tcp_connect(t->name, o->timeout, NULL, &text);
	if (ret >= 0) {
		t->fd = ret;
		return 0;
	}
	if (text)
		return fail(v, "target", ret, "cannot-open", "%s: %s", t->name, text);
	return fail(v, "target", ret, "cannot-connect",
		    "%s: %s; start an echo server there: socat TCP-LISTEN:%s,fork EXEC:cat",
		    t->name, strerror(-ret), strrchr(t->name, ':') + 1);
}

static int open_existing(const struct check_options *o, struct target *t, struct verdict *v)
{
	struct stat st;

	if (stat(t->name, &st))
		return fail(v, "target", -errno, "cannot-open", "%s: %s", t->name,
			    strerror(errno));
	if (S_ISBLK(st.st_mode)) {
		t->kind = TARGET_BLOCK;
		return open_block(o, t, v);
	}
	if (S_ISDIR(st.st_mode)) {
		t->kind = TARGET_DIRECTORY;
		return open_directory(o, t, v);
	}
	if (S_ISREG(st.st_mode)) {
		t->kind = TARGET_FILE;
		return open_file(o, t, (uint64_t)st.st_size, v);
	}
	return fail(v, "target", -EINVAL, "cannot-open",
		    "%s: no block device, file or directory, and not net:DEVICE or tcp:HOST:PORT",
		    t->name);
}

int target_open(const struct check_options *o, struct target *t, struct verdict *v)
{
	t->fd = -1;
	if (!strncmp(t->name, "net:", 4))
		return open_card(t, v);
	if (!strncmp(t->name, "tcp:", 4))
		return open_tcp(o, t, v);
	return open_existing(o, t, v);
}

void target_close(struct target *t)
{
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

/* An exclusive open is the one question that nobody can be forgotten in */
static int nobody_has_it(const struct target *t, struct verdict *v)
{
	int fd = open(t->name, O_RDONLY | O_EXCL | O_CLOEXEC);

	if (fd < 0)
		return held(t, v);
	close(fd);
	return 0;
}

int target_may_write(const struct check_options *o, const struct target *t,
		     struct verdict *v, bool *may)
{
	*may = t->kind == TARGET_DIRECTORY ||
	       (o->write && (t->kind == TARGET_BLOCK || t->kind == TARGET_FILE));
	return *may && t->kind == TARGET_BLOCK ? nobody_has_it(t, v) : 0;
}
