/* SPDX-License-Identifier: GPL-2.0 */
/* A page that is not there: who touches it, the kernel as well, stops until it is */
#ifndef IOU_DMABUF_FAULT_H
#define IOU_DMABUF_FAULT_H

#define FAULT_LEN	4096

struct fault {
	int uffd;
	char *page;
};

/* Functions return 0 or -errno */
int fault_init(struct fault *f);
void fault_exit(struct fault *f);
/* Until somebody touches it: -ETIME; without end if @timeout_ms is -1 */
int fault_wait(const struct fault *f, int timeout_ms);
/* He finds these FAULT_LEN bytes, and goes on */
int fault_fill(const struct fault *f, const void *with);

#endif
