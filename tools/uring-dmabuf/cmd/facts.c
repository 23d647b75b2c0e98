// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Why: the kernel's reason where it has one, and what the system says of what the kernel
 * refuses in one sentence for many.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <linux/ethtool.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/sockios.h>

#include "check.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC	0x58465342
#endif

/* ---- the process and the kernel ---- */

/* EPERM, ENOSYS: who forbids io_uring */
static int fail_forbidden(struct verdict *v, int err)
{
	char line[128];

	if (read_line("/proc/sys/kernel/io_uring_disabled", line, sizeof(line)) && line[0] != '0')
		return fail(v, "kernel", err, "io_uring-disabled",
			    "io_uring is switched off: sysctl kernel.io_uring_disabled is %s; as root: "
			    "sysctl -w kernel.io_uring_disabled=0, or with 1 be in the group of "
			    "kernel.io_uring_group", line);
	return fail(v, "kernel", err, "seccomp",
		    "io_uring is forbidden to this process, most likely by a seccomp filter "
		    "(Seccomp: in /proc/self/status): containers need a profile that allows "
		    "io_uring_setup, io_uring_enter and io_uring_register");
}

int fail_ring(struct verdict *v, int err)
{
	if (err == -EPERM || err == -ENOSYS)
		return fail_forbidden(v, err);
	return fail(v, "kernel", err, "no-ring", "a ring: %s", strerror(-err));
}

int ring_open(struct io_uring *ring, unsigned int entries)
{
	int ret = io_uring_queue_init(entries, ring, 0);

	if (ret)
		return ret;
	/* A filter may allow to make a ring, and nothing else: a wait would have no end. */
	ret = io_uring_get_events(ring);
	if (ret < 0)
		io_uring_queue_exit(ring);
	return ret < 0 ? ret : 0;
}

int kernel_check(struct verdict *v)
{
	struct io_uring_dmabuf_caps caps;
	int err = io_uring_dmabuf_query(&caps);

	if (!err)
		return 0;
	if (err == -EPERM || err == -ENOSYS)
		return fail_forbidden(v, err);
	return fail(v, "kernel", err, "no-kernel-support",
		    "this kernel cannot register dma-bufs: install and boot the packages that "
		    "`make deb' builds (REAL-HARDWARE.md)");
}

/* ---- drives ---- */

static bool has(const char *disk, const char *what)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", disk, what);
	return !access(path, F_OK);
}

/* The directory of the disk that a device number is, or is a part of */
static bool disk_directory(dev_t dev, char path[static 200])
{
	char link[64];
	char *real;

	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(dev), minor(dev));
	real = realpath(link, NULL);
	if (!real)
		return false;
	snprintf(path, 200, "%s", real);
	free(real);
	if (has(path, "partition"))
		*strrchr(path, '/') = '\0';
	return true;
}

/*
 * How an NVMe drive is reached: by a path that is not on PCIe, if it has one. Of a multipath
 * head the device is the subsystem, which has the controllers. false: it is no NVMe
 */
static bool nvme_transport(const char *disk, char *transport, size_t size)
{
	static const char *const places[] = { "transport", "nvme*/transport" };
	bool found = false, pcie = true;
	char path[300];
	glob_t files;

	for (size_t i = 0; i < 2 && pcie; i++) {
		snprintf(path, sizeof(path), "%s/device/%s", disk, places[i]);
		if (glob(path, 0, NULL, &files))
			continue;
		for (size_t f = 0; f < files.gl_pathc && pcie; f++) {
			if (!read_line(files.gl_pathv[f], transport, size))
				continue;
			found = true;
			pcie = !strcmp(transport, "pcie");
		}
		globfree(&files);
	}
	return found;
}

static const char *driver_of(const char *disk, char *name, size_t size)
{
	char path[300], link[300];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/device/driver", disk);
	n = readlink(path, link, sizeof(link) - 1);
	if (n < 0)
		return "unknown";
	link[n] = '\0';
	snprintf(name, size, "%.60s", strrchr(link, '/') ? strrchr(link, '/') + 1 : link);
	return name;
}

/* A virtio device that is told physical addresses; false: it is not, or no virtio */
static bool without_dma_api(const char *disk)
{
	enum { ACCESS_PLATFORM = 33 };	/* VIRTIO_F_ACCESS_PLATFORM */
	char path[300], line[128], name[64];

	snprintf(path, sizeof(path), "%s/device/features", disk);
	return !strcmp(driver_of(disk, name, sizeof(name)), "virtio_blk") &&
	       read_line(path, line, sizeof(line)) && strlen(line) > ACCESS_PLATFORM &&
	       line[ACCESS_PLATFORM] == '0';
}

static int fail_disk(struct verdict *v, const struct target *t, int err, dev_t dev)
{
	char disk[200], line[64], zoned[220];

	if (!disk_directory(dev, disk))
		return fail(v, "register", err, "no-drive",
			    "no drive is behind the file system of %s: use a file on one", t->name);
	if (has(disk, "dm"))
		return fail(v, "register", err, "device-mapper",
			    "%s is on a device-mapper volume that does not pass dma-bufs on: linear and "
			    "striped ones do (LVM), on drives that take them (lsblk -s %s)", t->name,
			    t->name);
	if (has(disk, "md"))
		return fail(v, "register", err, "md",
			    "%s is on an MD array that does not pass dma-bufs on: RAID0 does, of members "
			    "that take them", t->name);
	if (has(disk, "loop"))
		return fail(v, "register", err, "loop",
			    "%s is on a loop device: use the file behind it", t->name);
	snprintf(zoned, sizeof(zoned), "%s/queue/zoned", disk);
	if (read_line(zoned, line, sizeof(line)) && strcmp(line, "none"))
		return fail(v, "register", err, "zoned", "%s is on a zoned drive", t->name);
	if (nvme_transport(disk, line, sizeof(line)) && strcmp(line, "pcie"))
		return fail(v, "register", err, "fabrics",
			    "%s is on an NVMe drive over %s: only drives on PCIe take dma-bufs",
			    t->name, line);
	if (without_dma_api(disk))
		return fail(v, "register", err, "no-dma-api",
			    "%s is a virtio drive that is told physical addresses, and not those of "
			    "the DMA API: give it iommu_platform=on (QEMU), iommu='on' (libvirt)",
			    t->name);
	return fail(v, "register", err, "block-driver",
		    "the driver of %s (%s) takes no dma-bufs: NVMe on PCIe does", t->name,
		    driver_of(disk, line, sizeof(line)));
}

/* ---- files ---- */

static bool is_realtime(int fd)
{
	struct fsxattr attr;

	return !ioctl(fd, FS_IOC_FSGETXATTR, &attr) && attr.fsx_xflags & FS_XFLAG_REALTIME;
}

static const char *attribute_of(int fd)
{
	static const struct {
		uint64_t bit;
		const char *name;
	} names[] = {
		{ STATX_ATTR_DAX, "dax" },
		{ STATX_ATTR_VERITY, "verity" },
		{ STATX_ATTR_ENCRYPTED, "encrypted" },
		{ STATX_ATTR_COMPRESSED, "compressed" },
	};
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH, 0, &st))
		return NULL;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (st.stx_attributes & names[i].bit)
			return names[i].name;
	return NULL;
}

static int fail_attribute(struct verdict *v, const char *step, const struct target *t, int err,
			  const char *attribute)
{
	return fail(v, step, err, attribute,
		    "%s is a file whose data the CPU has to see (%s): use another one", t->name,
		    attribute);
}

/* Its drive takes dma-bufs */
static bool is_on_nvme(dev_t dev)
{
	char disk[200], transport[64];

	return disk_directory(dev, disk) && nvme_transport(disk, transport, sizeof(transport)) &&
	       !strcmp(transport, "pcie");
}

static int fail_file(struct verdict *v, const struct target *t, int err)
{
	const char *attribute = attribute_of(t->fd);
	struct statfs fs = { 0 };
	struct stat st;

	if (attribute)
		return fail_attribute(v, "register", t, err, attribute);
	if (is_realtime(t->fd))
		return fail(v, "register", err, "realtime",
			    "%s is on the realtime device of XFS: use a file on its data device", t->name);
	if (!fstatfs(t->fd, &fs) && fs.f_type != EXT4_SUPER_MAGIC && fs.f_type != XFS_SUPER_MAGIC)
		return fail(v, "register", err, "file-system",
			    "the file system of %s takes no dma-bufs: ext4 and XFS do", t->name);
	if (fstat(t->fd, &st))
		return fail(v, "register", err, "cannot-open", "%s: %s", t->name, strerror(errno));
	if (is_on_nvme(st.st_dev))
		return fail(v, "register", err, "buffered",
			    "the file system has to copy the data of %s, or has to have it unchanged "
			    "while it is written: use a file without a data journal (chattr -j, "
			    "mount without data=journal), on a drive without protection information",
			    t->name);
	return fail_disk(v, t, err, st.st_dev);
}

/* ---- cards ---- */

static int fail_card(struct verdict *v, const struct target *t, int err, const char *text)
{
	const char *device = strchr(t->name, ':') + 1;
	char path[300];
	glob_t lower;
	int stacked;

	if (t->kind != TARGET_CARD)
		return fail(v, "register", err, "card", "the card that leads to %s: %s", device, text);
	snprintf(path, sizeof(path), "/sys/class/net/%s/lower_*", device);
	stacked = !glob(path, 0, NULL, &lower);
	if (stacked)
		globfree(&lower);
	snprintf(path, sizeof(path), "/sys/class/net/%s/device", device);
	if (stacked || access(path, F_OK))
		return fail(v, "register", err, "no-card",
			    "%s is no card, but a device of the kernel's own (VLAN, bond, bridge, "
			    "tunnel): name the card below it", device);
	return fail(v, "register", err, "card",
		    "%s: %s Its driver has to support buffers that the CPU cannot read", device, text);
}

#define OFFLOADS "scatter-gather and checksum offload have to be on (ethtool -k, ethtool -K)"

static bool is_off(int fd, const char *device, uint32_t command)
{
	struct ethtool_value value = { .cmd = command };
	struct ifreq ifr = { .ifr_data = (void *)&value };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%.15s", device);
	return !ioctl(fd, SIOCETHTOOL, &ifr) && !value.data;
}

int card_check(struct verdict *v, const struct target *t)
{
	const char *device = strchr(t->name, ':') + 1;

	if (!is_off(t->fd, device, ETHTOOL_GSG) && !is_off(t->fd, device, ETHTOOL_GTXCSUM))
		return 0;
	return fail(v, "send", -EOPNOTSUPP, "card-offloads",
		    "memory can be registered for %s, and no send will work: " OFFLOADS, device);
}

/* ---- registrations and requests ---- */

struct word {
	unsigned int stage;
	int err;	/* 0: any other */
	const char *reason;
};

/* Of one stage the first that fits */
static const struct word words[] = {
	{ IO_URING_DMABUF_STAGE_NONE, -ENOMEM, "no-memory" },
	{ IO_URING_DMABUF_STAGE_DESCRIPTOR, 0, "bad-argument" },
	{ IO_URING_DMABUF_STAGE_FD, -EACCES, "fd-read-only" },
	{ IO_URING_DMABUF_STAGE_FD, -EBADF, "fd-not-open" },
	{ IO_URING_DMABUF_STAGE_FD, 0, "no-dma-buf" },
	{ IO_URING_DMABUF_STAGE_TARGET, -EINVAL, "not-direct" },
	{ IO_URING_DMABUF_STAGE_TARGET, -ENXIO, "no-path" },
	{ IO_URING_DMABUF_STAGE_TARGET, -ENODEV, "device-gone" },
	{ IO_URING_DMABUF_STAGE_TARGET, -ENOTCONN, "not-connected" },
	{ IO_URING_DMABUF_STAGE_TARGET, -E2BIG, "too-many-devices" },
	{ IO_URING_DMABUF_STAGE_TARGET, 0, "target" },
	{ IO_URING_DMABUF_STAGE_DEVICE, -ENODEV, "device-gone" },
	{ IO_URING_DMABUF_STAGE_DEVICE, -E2BIG, "too-many-devices" },
	{ IO_URING_DMABUF_STAGE_DEVICE, -ENOMEM, "no-memory" },
	{ IO_URING_DMABUF_STAGE_DEVICE, 0, "device-cannot" },
	{ IO_URING_DMABUF_STAGE_ATTACH, -EREMOTEIO, "no-p2p-route" },
	{ IO_URING_DMABUF_STAGE_ATTACH, 0, "exporter-refuses" },
	{ IO_URING_DMABUF_STAGE_PIN, 0, "cannot-pin" },
	{ IO_URING_DMABUF_STAGE_MAP, -ENODEV, "revoked" },
	{ IO_URING_DMABUF_STAGE_MAP, -EREMOTEIO, "no-p2p-route" },
	{ IO_URING_DMABUF_STAGE_MAP, 0, "exporter-refuses" },
	{ IO_URING_DMABUF_STAGE_FENCE, 0, "fence" },
	{ IO_URING_DMABUF_STAGE_ADDRESS, -EREMOTEIO, "no-p2p-route" },
	{ IO_URING_DMABUF_STAGE_ADDRESS, -EOPNOTSUPP, "bounce-buffers" },
	{ IO_URING_DMABUF_STAGE_ADDRESS, -ENOMEM, "no-memory" },
	{ IO_URING_DMABUF_STAGE_ADDRESS, 0, "addresses" },
	{ IO_URING_DMABUF_STAGE_TABLE, -ENOMEM, "no-memory" },
	{ IO_URING_DMABUF_STAGE_TABLE, -EINVAL, "not-whole-pages" },
	{ IO_URING_DMABUF_STAGE_TABLE, 0, "too-fragmented" },
	{ IO_URING_DMABUF_STAGE_MEMLOCK, 0, "memlock" },
};

static const char *word_of(unsigned int stage, int err)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (words[i].stage == stage && (!words[i].err || words[i].err == err))
			return words[i].reason;
	return "unknown";
}

static int fail_memlock(struct verdict *v, int err, const struct io_uring_dmabuf_reason *why)
{
	return fail(v, "register", err, "memlock",
		    "RLIMIT_MEMLOCK is %llu KiB, and has to be %llu KiB: ulimit -l %llu; "
		    "LimitMEMLOCK= of a service; --ulimit memlock= of a container",
		    (unsigned long long)why->limit >> 10, (unsigned long long)why->bytes >> 10,
		    (unsigned long long)why->bytes >> 10);
}

/* What the kernel says in one sentence of many kinds of target */
static int fail_target(struct verdict *v, const struct target *t, int err, const char *text)
{
	struct stat st;

	switch (t->kind) {
	case TARGET_CARD:
	case TARGET_TCP:
		return fail_card(v, t, err, text);
	case TARGET_BLOCK:
		return fail_disk(v, t, err, fstat(t->fd, &st) ? 0 : st.st_rdev);
	default:
		return fail_file(v, t, err);
	}
}

int fail_register(struct verdict *v, const struct target *t, int err,
		  const struct io_uring_dmabuf_reason *why)
{
	char text[512];

	if (why->stage == IO_URING_DMABUF_STAGE_MEMLOCK)
		return fail_memlock(v, err, why);
	if (why->stage == IO_URING_DMABUF_STAGE_TARGET && err == -EOPNOTSUPP)
		return fail_target(v, t, err, why->text);
	io_uring_dmabuf_explain(err, why, text, sizeof(text));
	return fail(v, "register", err, word_of(why->stage, err), "%s", text);
}

/* A card without what a send takes, data that the kernel has to look at, a hole */
static int fail_unsupported(struct verdict *v, const char *step, const struct target *t)
{
	if (t->kind == TARGET_TCP)
		return fail(v, step, -EOPNOTSUPP, "card-offloads",
			    "the card that leads to %s cannot send it now: " OFFLOADS ", and no xfrm, "
			    "tunnel or VRF on the way", t->name);
	if (t->kind == TARGET_BLOCK)
		return fail(v, step, -EOPNOTSUPP, "protection-information",
			    "%s is formatted with protection information, which the kernel makes and "
			    "checks with the CPU: nvme format it without", t->name);
	return fail(v, step, -EOPNOTSUPP, "hole",
		    "%s has parts that were never written, of which no drive has a byte: write it first",
		    t->name);
}

int fail_request(struct verdict *v, const char *step, const struct target *t, int err)
{
	static const struct {
		int err;
		const char *reason, *text;
	} known[] = {
		{ -ETIMEDOUT, "timeout", "it did not end in time; see --timeout, and dmesg" },
		{ -EFAULT, "buffered", "its file system wanted to copy it: use a file on ext4 or XFS" },
		{ -ENODEV, "device-gone", "the device is gone, or the memory was revoked" },
		{ -EREMOTEIO, "no-p2p-route", "the memory has moved to where the device does not reach it" },
		{ -EBUSY, "page-cache", "somebody has it mapped, or reads it by the page cache" },
	};
	const char *attribute;

	attribute = t->kind == TARGET_FILE || t->kind == TARGET_DIRECTORY ? attribute_of(t->fd) : NULL;
	if (attribute && (err == -EFAULT || err == -EOPNOTSUPP))
		return fail_attribute(v, step, t, err, attribute);
	if (err == -EOPNOTSUPP)
		return fail_unsupported(v, step, t);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].err == err)
			return fail(v, step, err, known[i].reason, "%s: %s (%s)", t->name,
				    known[i].text, strerror(-err));
	return fail(v, step, err, "io-error", "%s: %s", t->name, strerror(-err));
}
