// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* One memory and one target, from a ring to a verdict */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pair.h"

int fail(struct verdict *v, const char *step, int err, const char *reason,
	 const char *fmt, ...)
{
	va_list ap;

	if (v->step)
		return err;
	v->step = step;
	v->err = err;
	v->reason = reason;
	va_start(ap, fmt);
	vsnprintf(v->text, sizeof(v->text), fmt, ap);
	va_end(ap);
	return err;
}

enum outcome verdict_outcome(const struct verdict *v)
{
	if (v->read == WRONG || v->write == WRONG || v->send == WRONG)
		return WRONG;
	if (v->step)
		return REFUSED;
	return v->read == WORKS || v->write == WORKS || v->send == WORKS ? WORKS : NOT_TRIED;
}

const char *verdict_word(const struct verdict *v)
{
	static const char *const words[] = {
		[NOT_TRIED]	= "registers",
		[WORKS]		= "works",
		[REFUSED]	= "refused",
		[WRONG]		= "wrong",
	};

	return words[verdict_outcome(v)];
}

static int allocate(struct pair *p)
{
	size_t len = p->t.len ?: 4096;

	p->there = aligned_alloc(4096, len);
	p->other = aligned_alloc(4096, len);
	if (p->there && p->other)
		return 0;
	return fail(p->v, "memory", -ENOMEM, "no-memory", "no %zu bytes of ordinary memory",
		    2 * len);
}

static int open_memory(struct pair *p)
{
	/* all of a dma-buf that is given; as much as is moved of one that is made */
	bool given = !strncmp(p->v->memory, "fd:", 3);
	int ret = dmabuf_mem_open(&p->mem, p->v->memory, given ? 0 : p->o->size);

	if (ret)
		return fail(p->v, "memory", ret, "no-such-memory", "%s", dmabuf_mem_why());
	if (p->mem.fd < 0)
		return fail(p->v, "memory", -EINVAL, "no-such-memory",
			    "%s is no dma-buf, and nothing is registered of it", p->v->memory);
	if (p->t.len > p->mem.size)
		p->t.len = p->mem.size;
	return 0;
}

static int register_memory(struct pair *p)
{
	struct io_uring_dmabuf_reason why;
	int ret = io_uring_dmabuf_register(&p->ring, SLOT, p->mem.fd, p->t.fd, p->o->flags, &why);

	if (ret)
		return fail_register(p->v, &p->t, ret, &why);
	p->v->mapped = io_uring_dmabuf_map_info(&p->ring, SLOT, 0, &p->v->map) > 0;
	return 0;
}

static int open_ring(struct pair *p)
{
	int ret = ring_open(&p->ring, 8);

	if (!ret) {
		ret = io_uring_register_buffers_sparse(&p->ring, 1);
		if (ret)
			io_uring_queue_exit(&p->ring);
	}
	return ret ? fail_ring(p->v, ret) : 0;
}

/* What a request that has not ended may still write to stays until the program's end */
static void close_all(struct pair *p)
{
	if (!p->stuck) {
		free(p->there);
		free(p->other);
	}
	dmabuf_mem_close(&p->mem);
	target_close(&p->t);
}

void check_pair(const struct check_options *o, struct verdict *v)
{
	struct pair p = { .o = o, .v = v, .t = { .name = v->target, .fd = -1 }, .mem = { .fd = -1 } };

	if (kernel_check(v) || open_ring(&p))
		return;
	if (!target_open(o, &p.t, v) && !open_memory(&p) && !allocate(&p) &&
	    !register_memory(&p) && !prove(&p) && v->mapped)
		io_uring_dmabuf_map_info(&p.ring, SLOT, 0, &v->map);
	if (!p.stuck)
		io_uring_queue_exit(&p.ring);
	close_all(&p);
}
