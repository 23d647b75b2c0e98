/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the machine offers: devices named by LAB_* variables, sysfs and
 * debugfs files, event counters from tracefs.
 */
#ifndef IOU_DMABUF_LAB_H
#define IOU_DMABUF_LAB_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>

/*
 * LAB_NVME_MAIN, LAB_NG_MAIN	disk and char device with large commands; all
 *				of it may be overwritten
 * LAB_NVME_FS			disk with partitions p1 (ext4), p2 (XFS), p3 (raw)
 * LAB_NVME_MP, LAB_NG_MP	multipath head
 * LAB_NVME_META, LAB_NVME_PI	disks formatted with 8 bytes of metadata, without and
 *				with protection information in it
 * LAB_VIRTIO_SPLIT, LAB_VIRTIO_PACKED	virtio disks that use the DMA API, by their kind
 *				of ring; LAB_PCI_SPLIT, LAB_PCI_PACKED: their PCI addresses
 * LAB_VIRTIO_PHYSICAL		one that does not use it
 * LAB_VIRTIO_SMALL, LAB_PCI_SMALL	one whose ring has fewer entries than a request may
 * LAB_MANY_DRIVES	forty small disks, with spaces between them; topology netmany
 * LAB_PCI_MAIN, LAB_PCI_FS	PCI addresses of the first two
 * LAB_EXT4, LAB_XFS		mount points
 * LAB_IOMMU			strict, lazy, off or bounce
 * LAB_TOPO			switch, bridge, net, netbridge or netmany
 * LAB_KERNEL			plain, debug or stock
 * LAB_MAX_COMMAND		bytes, of LAB_NVME_MAIN: what the lab gave it (tests ask it,
 *				by lab_max_command())
 * LAB_NET_<CARD>		network interface that tests may set up as they like:
 *				E1000E, VMXNET3, IGB
 * LAB_NET_<CARD>_PEER		the one at the other end of its cable
 */
const char *lab_env(const char *name);		/* NULL when unset or empty */
bool lab_is(const char *name, const char *value);
bool lab_debug_kernel(void);
/* @plain on a plain kernel, @debug on one with KASAN and friends */
unsigned int lab_scale(unsigned int plain, unsigned int debug);
/* @brief, or @lengthy where SOAK is set, for a long run (tools/testing/lab/soak) */
unsigned int lab_soak(unsigned int brief, unsigned int lengthy);
/* Where random choices start: SEED, by default 0 */
__u64 lab_seed(void);

/* O_DIRECT, read-write; -errno */
int lab_open(const char *path);
int lab_open_part(const char *disk, unsigned int part);
/* Bytes of the largest command that an NVMe drive takes, by its own word; -errno */
int lab_max_command(int disk);
/*
 * Commands of at most 2 MiB for the drive that @env names. An emulated one may take
 * at most 1024 scattered pieces in a command, IOMMU or not: QEMU's aborts at more
 * ("niov <= IOV_MAX"). Without an IOMMU the lab has such a limit already.
 */
int lab_small_commands(const char *env, bool on);

/*
 * How many devices the buffers that are made from now on can have; 0: as many as there can
 * be. For tests of what happens when there are more.
 */
#define LAB_MAX_TARGETS	128
int lab_max_targets(unsigned int nr);

/*
 * A loop device on a tmpfs file: stacked, no device that does DMA. Its fd, until
 * LOOP_CLR_FD; -ENOENT: no such driver
 */
int lab_loop(char *path, size_t len);

double lab_now(void);				/* seconds, monotonic */
void lab_sleep_ms(unsigned int ms);

/* One small file; 0 or -errno */
int file_write(const char *path, const char *value);
int file_read(const char *path, char *buf, size_t len);
int file_read_num(const char *path, long long *value);

/* Attachments of the dma-buf @fd in bufinfo, -errno when it cannot be read */
int bufinfo_attachments(int fd);
/* Attachments of all buffers together whose device is named @dev (any: NULL) */
int bufinfo_attached(const char *dev);
/* Polls until bufinfo_attachments() is @want: true when that came in time */
bool bufinfo_wait(int fd, int want, unsigned int timeout_ms);

/* fdinfo of @fd has a line that contains @what */
bool fdinfo_has(int fd, const char *what);

/* A counter of trace events, in a trace instance of its own */
struct counter {
	char dir[96];
};

int counter_open(struct counter *c, const char *name);
/* @event: "system/event"; @filter may be NULL. -ENOENT: no such event */
int counter_add(struct counter *c, const char *event, const char *filter);
/* Events since counter_open(); take differences */
long long counter_read(const struct counter *c);
void counter_close(struct counter *c);

#endif
