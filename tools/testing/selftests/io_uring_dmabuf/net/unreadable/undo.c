// SPDX-License-Identifier: GPL-2.0
/* Changes to the network that are taken back; counters of devices */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "kselftest.h"
#include "netio.h"
#include "undo.h"

int run(const char *fmt, ...)
{
	char line[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (!system(line))
		return 0;
	fprintf(stderr, "# failed: %s\n", line);
	return -EIO;
}

void undo_by(struct undo *u, const char *fmt, ...)
{
	va_list ap;

	if (u->nr == ARRAY_SIZE(u->line))
		abort();
	va_start(ap, fmt);
	vsnprintf(u->line[u->nr++], sizeof(u->line[0]), fmt, ap);
	va_end(ap);
}

/* The last first, until there are @nr */
int undo_to(struct undo *u, unsigned int nr)
{
	int ret = 0;

	while (u->nr > nr)
		ret |= run("%s", u->line[--u->nr]);
	return ret;
}

int undo_all(struct undo *u)
{
	return undo_to(u, 0);
}

int sysctl_on(struct undo *u, const char *dev, const char *name)
{
	char path[128];

	if (dev)
		snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/%s", dev,
			 name);
	else
		snprintf(path, sizeof(path), "/proc/sys/net/ipv4/%s", name);
	undo_by(u, "echo 0 >%s", path);
	return file_write(path, "1");
}

long long stat_of(const char *dev, const char *name)
{
	char path[128];
	long long value;
	int ret;

	snprintf(path, sizeof(path), "/sys/class/net/%s/statistics/%s", dev, name);
	ret = file_read_num(path, &value);
	return ret ? ret : value;
}

bool stat_wait(const char *dev, const char *name, long long value)
{
	double end = lab_now() + net_patience() / 1000.0;

	while (stat_of(dev, name) < value) {
		if (lab_now() > end)
			return false;
		lab_sleep_ms(10);
	}
	return true;
}
