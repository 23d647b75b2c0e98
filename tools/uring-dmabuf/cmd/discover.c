// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The memory and the targets that a machine has */
#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

struct names {
	char **name;
	size_t nr;
};

static void add(struct names *names, const char *prefix, const char *name)
{
	char **more = realloc(names->name, (names->nr + 1) * sizeof(*more));

	if (!more || asprintf(&more[names->nr], "%s%s", prefix, name) < 0)
		die("no memory");
	names->name = more;
	names->nr++;
}

/* What @pattern finds, by the last part of its path, if @wanted says so */
static void add_all(struct names *names, const char *pattern, const char *prefix,
		    bool (*wanted)(const char *path))
{
	glob_t found;

	if (glob(pattern, 0, NULL, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc; i++)
		if (!wanted || wanted(found.gl_pathv[i]))
			add(names, prefix, strrchr(found.gl_pathv[i], '/') + 1);
	globfree(&found);
}

/* CUDA counts those that there are: /dev/nvidia0 and so on, whatever their numbers */
static void add_gpus(struct names *names)
{
	glob_t found;
	char name[24];

	if (glob("/dev/nvidia[0-9]*", 0, NULL, &found))
		return;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		snprintf(name, sizeof(name), "%zu", i);
		add(names, "cuda:", name);
	}
	globfree(&found);
}

char **all_memories(size_t *nr)
{
	struct names names = { 0 };

	if (!access("/dev/udmabuf", F_OK))
		add(&names, "", "udmabuf");
	add_all(&names, "/dev/dma_heap/*", "heap:", NULL);
	add_gpus(&names);
	*nr = names.nr;
	return names.name;
}

/* A multipath head has a node; its paths (nvme0c0n1) have none */
static bool has_node(const char *path)
{
	char node[300];

	snprintf(node, sizeof(node), "/dev/%s", strrchr(path, '/') + 1);
	return !access(node, F_OK);
}

/* Hardware is behind it */
static bool has_device(const char *path)
{
	char device[300];

	snprintf(device, sizeof(device), "%s/device", path);
	return !access(device, F_OK);
}

char **all_targets(size_t *nr)
{
	struct names names = { 0 };

	add_all(&names, "/sys/block/nvme*", "/dev/", has_node);
	add_all(&names, "/sys/block/vd*", "/dev/", has_node);
	add_all(&names, "/sys/class/net/*", "net:", has_device);
	*nr = names.nr;
	return names.name;
}
