// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "fail.h"
#include "lab.h"
#include "stack.h"

#define MINOR	0

static struct drive members[ARRAY_MEMBERS];

static int open_members(void)
{
	const char *many = lab_env("LAB_MANY_DRIVES");
	char *all, *path, *rest;
	unsigned int nr = 0;
	int ret = 0;

	if (!many)
		return fail("drives", ENOENT, "LAB_MANY_DRIVES: vm -t netmany");
	/* the names stay with the drives */
	all = strdup(many);
	for (path = strtok_r(all, " ", &rest); path && nr < ARRAY_MEMBERS && !ret;
	     path = strtok_r(NULL, " ", &rest))
		ret = drive_open(&members[nr++], path);
	if (!ret && nr < ARRAY_MEMBERS)
		ret = fail("LAB_MANY_DRIVES", ENOENT, "fewer drives than an array has");
	return ret;
}

int array_open(struct drive *drive, size_t chunk)
{
	const char *paths[ARRAY_MEMBERS];
	static char path[32];
	int ret = open_members();

	if (ret)
		return ret;
	for (unsigned int i = 0; i < ARRAY_MEMBERS; i++) {
		paths[i] = members[i].path;
		drive_close(&members[i]);
	}
	ret = md_build(MINOR, 0, (unsigned int)chunk, paths, ARRAY_MEMBERS, path, sizeof(path));
	if (ret)
		return fail("making an array", -ret, "a kernel with MD_RAID0?");
	drive->block = members[0].block;
	drive->largest = members[0].largest;
	ret = drive_open_as(drive, path);
	if (ret)
		md_stop(MINOR);
	return ret;
}

void array_close(struct drive *drive)
{
	drive_close(drive);
	md_stop(MINOR);
}

int array_commands(unsigned long long commands[ARRAY_MEMBERS])
{
	unsigned long long reads, writes;
	char file[96], text[256];
	int ret;

	for (unsigned int i = 0; i < ARRAY_MEMBERS; i++) {
		snprintf(file, sizeof(file), "/sys/class/block/%.32s/stat",
			 strrchr(members[i].path, '/') + 1);
		ret = file_read(file, text, sizeof(text));
		if (ret < 0)
			return fail(file, -ret, "it was there a moment ago");
		if (sscanf(text, "%llu %*u %*u %*u %llu", &reads, &writes) != 2)
			return fail(file, EIO, "not the statistics of a disk");
		commands[i] = reads + writes;
	}
	return 0;
}
