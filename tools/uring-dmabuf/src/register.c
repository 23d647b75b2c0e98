// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Registration, and the reason when it fails */
#include <stdio.h>
#include <string.h>

#include "kernel.h"

static void say(struct io_uring_dmabuf_reason *why, const char *text)
{
	snprintf(why->text, sizeof(why->text), "%s", text);
}

/* For what fails before the kernel looks at a descriptor, or where it has no reasons */
static void say_what_is_known(struct io_uring_dmabuf_reason *why, int err)
{
	switch (err) {
	case -EOPNOTSUPP:
		say(why, "This kernel cannot register dma-bufs: boot one that can.");
		break;
	case -ENXIO:
		say(why, "The ring has no such slot: make a table that is large enough first.");
		break;
	case -EPERM:
		say(why, "io_uring is not allowed here: see the sysctl io_uring_disabled, and seccomp.");
		break;
	case -EBADF:
		say(why, "A file descriptor is not open.");
		break;
	default:
		snprintf(why->text, sizeof(why->text), "%s.", strerror(-err));
	}
}

/* Reasons that the kernel fills in, if it has them */
static int update_one(struct io_uring *ring, unsigned int slot,
		      struct io_uring_dmabuf_desc *desc, struct io_uring_dmabuf_reason *why)
{
	struct io_uring_dmabuf_reason unasked;
	struct io_uring_dmabuf_caps caps;
	int known = io_uring_dmabuf_query(&caps);
	int ret;

	if (!why)
		why = &unasked;
	memset(why, 0, sizeof(*why));
	why->size = sizeof(*why);
	why->target = -1;
	if (!known && caps.version >= 2)
		desc->reason = to_u64(why);
	ret = io_uring_dmabuf_update(ring, slot, desc, NULL, 1);
	if (ret == 1)
		return 0;
	if (ret >= 0)
		ret = -EIO;
	/* what a kernel says that knows no descriptors at all */
	if (ret == -EINVAL && known == -EOPNOTSUPP)
		ret = known;
	if (!why->text[0])
		say_what_is_known(why, ret);
	return ret;
}

int io_uring_dmabuf_register(struct io_uring *ring, unsigned int slot,
			     int dmabuf_fd, int target_fd, unsigned int flags,
			     struct io_uring_dmabuf_reason *why)
{
	return io_uring_dmabuf_register_range(ring, slot, dmabuf_fd, 0, 0, &target_fd, 1,
					      flags, why);
}

/* The first target goes into the descriptor, so that one alone is as in Linux 7.4 */
static void set_targets(struct io_uring_dmabuf_desc *desc, const int *targets,
			unsigned int nr)
{
	desc->target_fd = nr ? targets[0] : -1;
	if (nr > 1) {
		desc->targets = to_u64(targets + 1);
		desc->nr_targets = nr - 1;
	}
}

int io_uring_dmabuf_register_range(struct io_uring *ring, unsigned int slot,
				   int dmabuf_fd, uint64_t off, uint64_t size,
				   const int *targets, unsigned int nr_targets,
				   unsigned int flags,
				   struct io_uring_dmabuf_reason *why)
{
	struct io_uring_dmabuf_desc desc = {
		.type = IO_URING_DMABUF_TYPE_DMABUF,
		.flags = flags,
		.size = size,
		.dmabuf_fd = dmabuf_fd,
		.dmabuf_off = off,
	};

	set_targets(&desc, targets, nr_targets);
	return update_one(ring, slot, &desc, why);
}

int io_uring_dmabuf_add_targets(struct io_uring *ring, unsigned int slot,
				const int *targets, unsigned int nr_targets,
				struct io_uring_dmabuf_reason *why)
{
	struct io_uring_dmabuf_desc desc = {
		.type = IO_URING_DMABUF_TYPE_DMABUF,
		.flags = IO_URING_DMABUF_ADD_TARGETS,
		.dmabuf_fd = -1,
	};

	set_targets(&desc, targets, nr_targets);
	return update_one(ring, slot, &desc, why);
}

int io_uring_dmabuf_unregister(struct io_uring *ring, unsigned int slot)
{
	struct io_uring_dmabuf_desc desc = { .type = IO_URING_DMABUF_TYPE_EMPTY };
	int ret = io_uring_dmabuf_update(ring, slot, &desc, NULL, 1);

	return ret < 0 ? ret : 0;
}

int io_uring_dmabuf_update(struct io_uring *ring, unsigned int off,
			   const struct io_uring_dmabuf_desc *descs,
			   const uint64_t *tags, unsigned int nr)
{
	struct rsrc_update2 update = {
		.offset = off,
		.flags = RSRC_EXTENDED,
		.data = to_u64(descs),
		.tags = to_u64(tags),
		.nr = nr,
	};

	return register_call(ring->ring_fd, REGISTER_BUFFERS_UPDATE, &update, sizeof(update));
}

int io_uring_dmabuf_register_table(struct io_uring *ring,
				   const struct io_uring_dmabuf_desc *descs,
				   const uint64_t *tags, unsigned int nr)
{
	struct rsrc_register reg = {
		.nr = nr,
		.flags = RSRC_EXTENDED,
		.data = to_u64(descs),
		.tags = to_u64(tags),
	};

	return register_call(ring->ring_fd, REGISTER_BUFFERS2, &reg, sizeof(reg));
}

/* "of `device'" and what the exporter said, where there is something to say */
int io_uring_dmabuf_explain(int err, const struct io_uring_dmabuf_reason *why,
			    char *text, size_t size)
{
	char device[64] = "", exporter[128] = "";

	if (why->device[0])
		snprintf(device, sizeof(device), " for %.32s", why->device);
	if (why->exporter_errno)
		snprintf(exporter, sizeof(exporter), " (exporter %.32s: %s)",
			 why->exporter[0] ? why->exporter : "unknown",
			 strerror(-why->exporter_errno));
	return snprintf(text, size, "%s%s: %s%s%s%s",
			why->stage ? io_uring_dmabuf_stage_name(why->stage) : "registration",
			device, strerror(-err), exporter, why->text[0] ? ": " : "", why->text);
}
