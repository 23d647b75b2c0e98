// SPDX-License-Identifier: GPL-2.0
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <linux/loop.h>
#include <linux/nvme_ioctl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "lab.h"

#define TRACEFS	"/sys/kernel/tracing"
#define BUFINFO	"/sys/kernel/debug/dma_buf/bufinfo"

const char *lab_env(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

bool lab_is(const char *name, const char *value)
{
	const char *is = lab_env(name);

	return is && !strcmp(is, value);
}

bool lab_debug_kernel(void)
{
	return lab_is("LAB_KERNEL", "debug");
}

unsigned int lab_scale(unsigned int plain, unsigned int debug)
{
	return lab_debug_kernel() ? debug : plain;
}

unsigned int lab_soak(unsigned int brief, unsigned int lengthy)
{
	return lab_env("SOAK") ? lengthy : brief;
}

__u64 lab_seed(void)
{
	const char *seed = lab_env("SEED");

	return seed ? strtoull(seed, NULL, 0) : 0;
}

int lab_open(const char *path)
{
	int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int lab_open_part(const char *disk, unsigned int part)
{
	char path[128];

	snprintf(path, sizeof(path), "%sp%u", disk, part);
	return lab_open(path);
}

/*
 * MDTS is byte 77 of the controller's data, a power of two in its smallest pages
 * (4 KiB on this architecture's drives); 0 is no limit. nvme-pci stops at 8 MiB.
 */
int lab_max_command(int disk)
{
	__u8 id[4096] __attribute__((aligned(4096)));
	struct nvme_admin_cmd cmd = {
		.opcode = 0x06,		/* Identify */
		.addr = (uintptr_t)id,
		.data_len = sizeof(id),
		.cdw10 = 1,		/* the controller */
	};
	int ret = ioctl(disk, NVME_IOCTL_ADMIN_CMD, &cmd);

	if (ret)
		return ret < 0 ? -errno : -EIO;
	return id[77] && id[77] < 11 ? 4096 << id[77] : 8 << 20;
}

int lab_small_commands(const char *env, bool on)
{
	char limit[96];

	if (lab_is("LAB_IOMMU", "off"))
		return 0;
	snprintf(limit, sizeof(limit), "/sys/block/%.32s/queue/max_sectors_kb",
		 strrchr(lab_env(env), '/') + 1);
	/* 0: the user sets no limit */
	return file_write(limit, on ? "2048" : "0");
}

int lab_max_targets(unsigned int nr)
{
	char value[16];

	snprintf(value, sizeof(value), "%u", nr ?: LAB_MAX_TARGETS);
	return file_write("/sys/module/dma_iobuf/parameters/max_devs", value);
}

int lab_loop(char *path, size_t len)
{
	struct loop_config cfg = { .block_size = 512 };
	int ctl = open("/dev/loop-control", O_RDWR);
	int nr, fd;

	if (ctl < 0)
		return -errno;
	nr = ioctl(ctl, LOOP_CTL_GET_FREE);
	close(ctl);
	if (nr < 0)
		return -errno;
	snprintf(path, len, "/dev/loop%d", nr);
	cfg.fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	if ((int)cfg.fd < 0 || ftruncate(cfg.fd, 1 << 20))
		return -errno;
	fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, LOOP_CONFIGURE, &cfg))
		return -errno;
	close(cfg.fd);
	return fd;
}

double lab_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

void lab_sleep_ms(unsigned int ms)
{
	struct timespec ts = { .tv_sec = ms / 1000,
			       .tv_nsec = ms % 1000 * 1000000L };

	nanosleep(&ts, NULL);
}

int file_write(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_TRUNC);
	ssize_t ret;

	if (fd < 0)
		return -errno;
	ret = write(fd, value, strlen(value));
	ret = ret < 0 ? -errno : 0;
	close(fd);
	return ret;
}

int file_read(const char *path, char *buf, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n, got = 0;

	if (fd < 0)
		return -errno;
	while ((n = read(fd, buf + got, len - 1 - got)) > 0)
		got += n;
	close(fd);
	if (n < 0)
		return -errno;
	buf[got] = '\0';
	return 0;
}

int file_read_num(const char *path, long long *value)
{
	char buf[64];
	int ret = file_read(path, buf, sizeof(buf));

	if (!ret)
		*value = strtoll(buf, NULL, 0);
	return ret;
}

/* -EINTR: the kernel waits for locks there, and task work interrupts that */
static int bufinfo_count_once(unsigned long long ino, const char *dev)
{
	unsigned long long size, line_ino;
	bool mine = false, devices = false;
	char line[512], name[256];
	int count = 0;
	FILE *f = fopen(BUFINFO, "re");

	if (!f)
		return -errno;
	errno = 0;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%llu %*x %*x %*d %*s %llu", &size, &line_ino) == 2) {
			mine = !ino || line_ino == ino;
			devices = false;
		} else if (strstr(line, "Attached Devices:")) {
			devices = true;
		} else if (!strncmp(line, "Total", 5)) {
			devices = false;
		} else if (mine && devices && sscanf(line, "\t%255s", name) == 1) {
			count += !dev || !strcmp(name, dev);
		}
	}
	/* what could not be read is not "none" */
	if (ferror(f))
		count = errno ? -errno : -EIO;
	fclose(f);
	return count;
}

/*
 * bufinfo: a line per buffer (8 or more digits of size, then flags, mode,
 * count, exporter, inode), then an indented line per attached device.
 */
static int bufinfo_count(unsigned long long ino, const char *dev)
{
	int count;

	do {
		count = bufinfo_count_once(ino, dev);
	} while (count == -EINTR);
	return count;
}

int bufinfo_attachments(int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	return bufinfo_count(st.st_ino, NULL);
}

int bufinfo_attached(const char *dev)
{
	return bufinfo_count(0, dev);
}

bool bufinfo_wait(int fd, int want, unsigned int timeout_ms)
{
	double end = lab_now() + timeout_ms / 1000.0;

	while (bufinfo_attachments(fd) != want) {
		if (lab_now() > end)
			return false;
		lab_sleep_ms(10);
	}
	return true;
}

bool fdinfo_has(int fd, const char *what)
{
	char path[64], *buf = calloc(1, 65536);
	bool has;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	has = buf && !file_read(path, buf, 65536) && strstr(buf, what);
	free(buf);
	return has;
}

static int counter_file(const struct counter *c, const char *name,
			const char *value)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", c->dir, name);
	return file_write(path, value);
}

int counter_open(struct counter *c, const char *name)
{
	int ret;

	snprintf(c->dir, sizeof(c->dir), TRACEFS "/instances/%s-%d", name,
		 getpid());
	if (mkdir(c->dir, 0700)) {
		ret = -errno;
		c->dir[0] = '\0';
		return ret;
	}
	return counter_file(c, "buffer_size_kb", "64");
}

int counter_add(struct counter *c, const char *event, const char *filter)
{
	char name[160];
	int ret = 0;

	if (filter) {
		snprintf(name, sizeof(name), "events/%s/filter", event);
		ret = counter_file(c, name, filter);
	}
	snprintf(name, sizeof(name), "events/%s/enable", event);
	return ret ?: counter_file(c, name, "1");
}

/* Everything that went through the buffers, kept or overwritten */
long long counter_read(const struct counter *c)
{
	char path[256], line[128];
	long long total = 0, n;
	struct dirent *de;
	DIR *dir;
	FILE *f;

	snprintf(path, sizeof(path), "%s/per_cpu", c->dir);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((de = readdir(dir))) {
		snprintf(path, sizeof(path), "%s/per_cpu/%.16s/stats", c->dir,
			 de->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		while (fgets(line, sizeof(line), f))
			if (sscanf(line, "entries: %lld", &n) == 1 ||
			    sscanf(line, "overrun: %lld", &n) == 1 ||
			    sscanf(line, "commit overrun: %lld", &n) == 1 ||
			    sscanf(line, "dropped events: %lld", &n) == 1)
				total += n;
		fclose(f);
	}
	closedir(dir);
	return total;
}

void counter_close(struct counter *c)
{
	if (!c->dir[0])
		return;
	counter_file(c, "events/enable", "0");
	rmdir(c->dir);
	c->dir[0] = '\0';
}
