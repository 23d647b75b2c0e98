// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <linux/udmabuf.h>

#include "netlink.h"
#include "rig.h"

#define BUFINFO	"/sys/kernel/debug/dma_buf/bufinfo"

static int memfd_new(unsigned char **map)
{
	int fd = memfd_create("netmem", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	unsigned long i;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, MEM_SIZE) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))
		goto fail;
	*map = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (*map == MAP_FAILED) {
		*map = NULL;
		goto fail;
	}
	/* each byte says which page it is of, and most of them where there */
	for (i = 0; i < MEM_SIZE; i++)
		(*map)[i] = i / PAGE * 7 + i % PAGE % 251;
	return fd;
fail:
	close(fd);
	return -EIO;
}

static int dmabuf_new(unsigned char **map)
{
	struct udmabuf_create create = {
		.flags = UDMABUF_FLAGS_CLOEXEC,
		.size = MEM_SIZE,
	};
	int dev, memfd, fd;

	dev = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return -errno;
	memfd = memfd_new(map);
	if (memfd < 0) {
		close(dev);
		return memfd;
	}
	create.memfd = memfd;
	fd = ioctl(dev, UDMABUF_CREATE, &create);
	if (fd < 0)
		fd = -errno;
	close(memfd);
	close(dev);
	return fd;
}

static int rig_bind(struct rig *rig)
{
	int ret = ns_enter(rig->nsim.ns[TX]);

	if (ret)
		return ret;
	rig->nl = netdev_socket();
	ret = rig->nl;
	if (ret >= 0)
		ret = netdev_bind_tx(rig->nl, rig->nsim.ifindex[TX],
				     rig->dmabuf, &rig->id);
	ns_enter(rig->nsim.home);
	return ret;
}

static int rig_make(struct rig *rig, const char **why)
{
	int ret = nsim_up(&rig->nsim);

	if (ret == -ENOENT)
		*why = "no netdevsim";
	if (ret)
		return ret;
	rig->dmabuf = dmabuf_new(&rig->map);
	if (rig->dmabuf == -ENOENT)
		*why = "no udmabuf";
	if (rig->dmabuf < 0)
		return rig->dmabuf;
	ret = rig_bind(rig);
	if (ret == -EOPNOTSUPP)
		*why = "netdevsim cannot send device memory";
	return ret;
}

int rig_up(struct rig *rig, const char **why)
{
	int ret;

	*rig = (struct rig) {
		.dmabuf = -1,
		.nl = -1,
		.tcp = { .listener = -1, .client = -1, .server = -1 },
	};
	ret = rig_make(rig, why);
	if (ret)
		rig_down(rig);
	return ret;
}

void rig_down(struct rig *rig)
{
	tcp_close(&rig->tcp);
	if (rig->nl >= 0)
		close(rig->nl);
	if (rig->dmabuf >= 0)
		close(rig->dmabuf);
	if (rig->map)
		munmap(rig->map, MEM_SIZE);
	rig->nl = -1;
	rig->dmabuf = -1;
	rig->map = NULL;
	nsim_down(&rig->nsim);
}

int rig_connect(struct rig *rig, int family)
{
	int ret = tcp_open(&rig->tcp, &rig->nsim, family);

	return ret ?: tcp_connect(&rig->tcp, family);
}

unsigned long dmabuf_ino(const struct rig *rig)
{
	struct stat st;

	return fstat(rig->dmabuf, &st) ? 0 : st.st_ino;
}

/*
 * bufinfo: a line for each buffer (size, flags, mode, count, exporter, inode),
 * then an indented line for each attached device.
 */
int bufinfo_attached(unsigned long ino)
{
	bool mine = false, devices = false;
	int count = -ENOENT;
	char line[512];
	FILE *f = fopen(BUFINFO, "re");

	if (!f)
		return -EIO;
	while (fgets(line, sizeof(line), f)) {
		unsigned long line_ino;

		if (sscanf(line, "%*u %*x %*x %*d %*s %lu", &line_ino) == 1) {
			mine = line_ino == ino;
			devices = false;
			if (mine)
				count = 0;
		} else if (strstr(line, "Attached Devices:")) {
			devices = true;
		} else if (!strncmp(line, "Total", 5)) {
			devices = false;
		} else if (mine && devices && line[0] == '\t') {
			count++;
		}
	}
	fclose(f);
	return count;
}

bool bufinfo_gone(unsigned long ino)
{
	int i;

	for (i = 0; i < 500; i++) {
		if (bufinfo_attached(ino) == -ENOENT)
			return true;
		usleep(10000);
	}
	return false;
}
