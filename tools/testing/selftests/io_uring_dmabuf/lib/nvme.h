/* SPDX-License-Identifier: GPL-2.0 */
/* NVMe controllers that leave and come back, named by their PCI address */
#ifndef IOU_DMABUF_NVME_H
#define IOU_DMABUF_NVME_H

#include <stdbool.h>
#include <stddef.h>

bool nvme_controller(const char *pci, char *path, size_t len);	/* in sysfs */
bool nvme_disk(const char *pci, char *path, size_t len);	/* in /dev */
long nvme_interrupts(const char *pci);		/* of its I/O queues so far, or -errno */
int nvme_wait_disk(const char *pci);		/* its fd, or -errno */
int nvme_pci_write(const char *pci, const char *file, const char *value);
int nvme_unbind(const char *pci);
int nvme_bind(const char *pci);

/* the controllers of the subsystem that shares a namespace: 0, 1; false: no more */
bool nvme_shared_pci(unsigned int nr, char *pci, size_t len);
bool nvme_wait_paths(unsigned int want);

#endif
