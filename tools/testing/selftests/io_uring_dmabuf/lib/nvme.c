// SPDX-License-Identifier: GPL-2.0
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lab.h"
#include "nvme.h"

#define BACK_MS	20000		/* a controller needs this long at most */

/* First entry of @dir that looks like an NVMe controller or a namespace */
static bool find_nvme(const char *dir, bool namespace, char *name, size_t len)
{
	struct dirent *de;
	unsigned int a, b;
	bool found = false;
	char end;
	DIR *d = opendir(dir);

	while (d && !found && (de = readdir(d))) {
		int n = sscanf(de->d_name, "nvme%un%u%c", &a, &b, &end);

		found = n == (namespace ? 2 : 1);
		if (found)
			snprintf(name, len, "%.32s", de->d_name);
	}
	if (d)
		closedir(d);
	return found;
}

/* The controller at @pci, or false */
bool nvme_controller(const char *pci, char *path, size_t len)
{
	char dir[128], name[40];

	snprintf(dir, sizeof(dir), "/sys/bus/pci/devices/%s/nvme", pci);
	if (!find_nvme(dir, false, name, sizeof(name)))
		return false;
	snprintf(path, len, "%s/%s", dir, name);
	return true;
}

/* Its block device: the number need not be the controller's */
bool nvme_disk(const char *pci, char *path, size_t len)
{
	char dir[200], name[40];

	if (!nvme_controller(pci, dir, sizeof(dir)) ||
	    !find_nvme(dir, true, name, sizeof(name)))
		return false;
	snprintf(path, len, "/dev/%s", name);
	return true;
}

/* A line of /proc/interrupts: one column for each CPU, and at its end the name */
static long interrupts_of(const char *line, const char *queue)
{
	const char *p = strchr(line, ':'), *name = strrchr(line, ' ');
	long count, sum = 0;
	int used;

	if (!p || !name || strncmp(name + 1, queue, strlen(queue)) ||
	    !strcmp(name + 1 + strlen(queue), "0\n"))
		return 0;
	for (p++; sscanf(p, "%ld%n", &count, &used) == 1 && p[used] == ' '; p += used)
		sum += count;
	return sum;
}

/* Interrupts of the I/O queues of the controller at @pci so far, or -errno */
long nvme_interrupts(const char *pci)
{
	char dir[200], queue[48], line[4096];
	long sum = 0;
	FILE *f;

	if (!nvme_controller(pci, dir, sizeof(dir)))
		return -ENODEV;
	snprintf(queue, sizeof(queue), "%.40sq", strrchr(dir, '/') + 1);
	f = fopen("/proc/interrupts", "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f))
		sum += interrupts_of(line, queue);
	fclose(f);
	return sum;
}

/* Waits until the disk at @pci can be opened: its fd or -errno */
int nvme_wait_disk(const char *pci)
{
	double end = lab_now() + BACK_MS / 1000.0;
	char path[80];
	int fd;

	for (;;) {
		fd = -ENOENT;
		if (nvme_disk(pci, path, sizeof(path)))
			fd = lab_open(path);
		if (fd >= 0 || lab_now() > end)
			return fd;
		lab_sleep_ms(50);
	}
}

int nvme_pci_write(const char *pci, const char *file, const char *value)
{
	char path[160];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", pci, file);
	return file_write(path, value);
}

/* The PCI address of controller @skip+1 with serial "mp" */
bool nvme_shared_pci(unsigned int skip, char *pci, size_t len)
{
	char path[160], serial[64];
	struct dirent *de;
	bool found = false;
	DIR *d = opendir("/sys/class/nvme");

	while (d && !found && (de = readdir(d))) {
		snprintf(path, sizeof(path), "/sys/class/nvme/%.32s/serial",
			 de->d_name);
		if (file_read(path, serial, sizeof(serial)) ||
		    strncmp(serial, "mp", 2) || skip--)
			continue;
		snprintf(path, sizeof(path), "/sys/class/nvme/%.32s/address",
			 de->d_name);
		found = !file_read(path, pci, len);
		pci[strcspn(pci, "\n ")] = '\0';
	}
	if (d)
		closedir(d);
	return found;
}

/* A namespace below a controller, that is a path of a head: nvme0c1n1 */
static bool has_path(const char *ctrl)
{
	unsigned int a, b, c;
	bool found = false;
	struct dirent *de;
	DIR *d = opendir(ctrl);

	while (d && !found && (de = readdir(d)))
		found = sscanf(de->d_name, "nvme%uc%un%u", &a, &b, &c) == 3;
	if (d)
		closedir(d);
	return found;
}

/* How many paths of the shared subsystem are there, with a live controller */
static unsigned int live_paths(void)
{
	char ctrl[200], path[240], pci[64], state[32];
	unsigned int live = 0;

	for (unsigned int i = 0; nvme_shared_pci(i, pci, sizeof(pci)); i++) {
		if (!nvme_controller(pci, ctrl, sizeof(ctrl)))
			continue;
		snprintf(path, sizeof(path), "%s/state", ctrl);
		live += !file_read(path, state, sizeof(state)) &&
			!strncmp(state, "live", 4) && has_path(ctrl);
	}
	return live;
}

/* Waits until that many are */
bool nvme_wait_paths(unsigned int want)
{
	double end = lab_now() + BACK_MS / 1000.0;

	while (live_paths() != want) {
		if (lab_now() > end)
			return false;
		lab_sleep_ms(20);
	}
	return true;
}

int nvme_unbind(const char *pci)
{
	return nvme_pci_write(pci, "driver/unbind", pci);
}

int nvme_bind(const char *pci)
{
	return file_write("/sys/bus/pci/drivers/nvme/bind", pci);
}
