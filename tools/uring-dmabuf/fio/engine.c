// SPDX-License-Identifier: GPL-2.0
/*
 * An engine for fio: its buffers are a dma-buf, and drives read and write that. See
 * uring-dmabuf-fio(1). Built against the source of the fio that loads it.
 *
 * What fio fills and verifies is the memory itself if the CPU can map it, else ordinary memory
 * (a shadow), which is copied. Both only where somebody looks at the bytes: see looks_at().
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <linux/dma-buf.h>

#include "fio.h"
#include "optgroup.h"
#include "verify.h"

#include <uring-dmabuf.h>

#define NAME	"uring-dmabuf"

struct options {
	struct thread_data *td;		/* fio's */
	char *memory;
	unsigned int bounce;
	unsigned int require_p2p;
};

/**
 * struct engine - of a job: a handle, its memory, and requests that are under way
 * @requests:	one for each io_u
 * @noted:	queued by fio, and not submitted
 * @refused:	never submitted, because of an error
 * @reaped:	done, until fio has asked for the next
 * @base:	where the io_us' buffers are: the memory, or its shadow
 * @shadow:	@base is not the memory
 * @looks:	somebody looks at the bytes of each request
 * @no_memory:	it has to be there, and is not; fio 3.33 goes on nevertheless
 * @explained:	what errors of requests mean was said
 * @copied:	bytes that went by way of ordinary memory
 * @looked_at:	bytes that were copied between the memory and its shadow
 * @brackets:	accesses of the CPU that the exporter was told of, and not of their end
 */
struct engine {
	struct dmabuf_io *io;
	struct dmabuf_mem mem;
	int buffer;
	struct dmabuf_io_request *requests;
	struct dmabuf_io_request **noted, **refused, **reaped;
	unsigned int nr_noted, nr_refused, depth;
	char *base;
	size_t size;
	bool shadow;
	bool looks;
	bool no_memory;
	bool explained;
	unsigned int brackets;
	uint64_t copied, looked_at;
};

struct ioengine_ops ioengine;

static struct fio_option options[] = {
	{
		.name = "memory",
		.lname = "Memory",
		.type = FIO_OPT_STR_STORE,
		.off1 = offsetof(struct options, memory),
		.help = "udmabuf, heap:NAME, cuda:N, fd:N, or host with bounce",
		.def = "udmabuf",
		.category = FIO_OPT_C_ENGINE,
		.group = FIO_OPT_G_INVALID,
	},
	{
		.name = "bounce",
		.lname = "By way of ordinary memory",
		.type = FIO_OPT_STR_SET,
		.off1 = offsetof(struct options, bounce),
		.help = "Go by way of ordinary memory, which the CPU copies",
		.category = FIO_OPT_C_ENGINE,
		.group = FIO_OPT_G_INVALID,
	},
	{
		.name = "require_p2p",
		.lname = "Require peer-to-peer",
		.type = FIO_OPT_STR_SET,
		.off1 = offsetof(struct options, require_p2p),
		.help = "Fail where the drive does not reach the device's own memory",
		.category = FIO_OPT_C_ENGINE,
		.group = FIO_OPT_G_INVALID,
	},
	{ .name = NULL },
};

/* NULL: before init(), as when fio opens a file for its size */
static struct engine *engine_of(const struct thread_data *td)
{
	return td->io_ops == &ioengine ? td->io_ops_data : NULL;
}

static const struct options *options_of(const struct thread_data *td)
{
	return td->eo;
}

/* ---- the CPU and the memory ---- */

/*
 * Does it matter what is in the buffers each time? Otherwise what is written is what they had
 * at first.
 */
static bool looks_at(const struct thread_data *td)
{
	return td->o.verify != VERIFY_NONE || td->flags & TD_F_REFILL_BUFFERS;
}

static int tell_exporter(struct engine *e, uint64_t when)
{
	struct dma_buf_sync sync = { .flags = when | DMA_BUF_SYNC_RW };
	int ret;

	if (e->shadow || e->mem.fd < 0)
		return 0;
	do {
		ret = ioctl(e->mem.fd, DMA_BUF_IOCTL_SYNC, &sync);
	} while (ret && (errno == EINTR || errno == EAGAIN));
	if (ret) {
		ret = -errno;
		log_err(NAME ": the exporter refuses the CPU: %s\n", strerror(errno));
	}
	return ret;
}

static int cpu_begin(struct engine *e)
{
	int ret = tell_exporter(e, DMA_BUF_SYNC_START);

	if (!ret)
		e->brackets++;
	return ret;
}

static int cpu_end(struct engine *e)
{
	e->brackets--;
	return tell_exporter(e, DMA_BUF_SYNC_END);
}

/* From the shadow of what is to be written, or to that of what was read */
static int copy(struct engine *e, const struct dmabuf_io_request *r, size_t len)
{
	char *shadow = e->base + r->buffer_off;
	int ret;

	if (r->op == DMABUF_IO_WRITE)
		ret = dmabuf_mem_copy_to(&e->mem, r->buffer_off, shadow, len);
	else
		ret = dmabuf_mem_copy_from(&e->mem, r->buffer_off, shadow, len);
	e->looked_at += len;
	if (ret)
		log_err(NAME ": %s\n", dmabuf_mem_why());
	return ret;
}

/* From here on the drive has the io_u's buffer */
static int give_away(struct engine *e, const struct dmabuf_io_request *r)
{
	int ret = 0;

	if (!e->looks)
		return 0;
	if (!e->shadow)
		return cpu_end(e);
	if (r->op == DMABUF_IO_WRITE)
		ret = copy(e, r, r->size);
	return ret;
}

/* It is fio's again */
static int take_back(struct engine *e, const struct dmabuf_io_request *r)
{
	int ret = 0;

	if (!e->looks)
		return 0;
	if (!e->shadow)
		return cpu_begin(e);
	if (r->op == DMABUF_IO_READ && r->result > 0)
		ret = copy(e, r, (size_t)r->result);
	return ret;
}

/* ---- a job begins and ends ---- */

static int out_of_memory(void)
{
	log_err(NAME ": no memory\n");
	return ENOMEM;
}

static int open_handle(struct thread_data *td, struct engine *e)
{
	struct dmabuf_io_params params = {
		.depth = td->o.iodepth, .max_buffers = 1,
		.max_targets = td->files_index ? td->files_index : 1,
	};
	int ret = dmabuf_io_open(&e->io, &params);

	if (ret == -EINVAL)
		log_err(NAME ": an iodepth of %u and %u files: 8192 and 16384 are the most\n",
			params.depth, params.max_targets);
	else if (ret)
		log_err(NAME ": io_uring: %s\n", strerror(-ret));
	return ret;
}

static int engine_init(struct thread_data *td)
{
	struct engine *e;

	if (td->io_ops != &ioengine) {
		log_err(NAME ": made for another fio: build it from the source of this one\n");
		return EINVAL;
	}
	e = calloc(1, sizeof(*e));
	if (!e)
		return out_of_memory();
	td->io_ops_data = e;
	e->buffer = e->mem.fd = -1;
	e->depth = td->o.iodepth;
	e->looks = looks_at(td);
	e->no_memory = td_read(td) || td_write(td);
	e->requests = calloc(e->depth, sizeof(*e->requests));
	e->noted = calloc(e->depth, sizeof(*e->noted));
	e->refused = calloc(e->depth, sizeof(*e->refused));
	e->reaped = calloc(e->depth, sizeof(*e->reaped));
	if (!e->requests || !e->noted || !e->refused || !e->reaped)
		return out_of_memory();
	return -open_handle(td, e);
}

static void engine_cleanup(struct thread_data *td)
{
	struct engine *e = engine_of(td);

	if (!e)
		return;
	dmabuf_io_close(e->io);
	free(e->requests);
	free(e->noted);
	free(e->refused);
	free(e->reaped);
	free(e);
}

static int engine_io_u_init(struct thread_data *td, struct io_u *io_u)
{
	/* a union: its index goes */
	io_u->engine_data = &engine_of(td)->requests[io_u->index];
	return 0;
}

/* ---- memory ---- */

static bool is_writable(const struct dmabuf_mem *mem)
{
	return mem->fd < 0 || (fcntl(mem->fd, F_GETFL) & O_ACCMODE) == O_RDWR;
}

static int make_shadow(struct engine *e)
{
	void *p = mmap(NULL, e->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	e->base = p;
	e->shadow = true;
	return 0;
}

static int open_memory(struct engine *e, const struct options *o, size_t size)
{
	int ret = dmabuf_mem_open(&e->mem, o->memory, size);

	if (ret) {
		log_err(NAME ": %s: %s\n", o->memory, dmabuf_mem_why());
		return ret;
	}
	if (e->mem.fd < 0 && !o->bounce) {
		log_err(NAME ": %s is no dma-buf: bounce takes such memory\n", o->memory);
		return -EINVAL;
	}
	e->size = size;
	if (e->mem.ptr && is_writable(&e->mem))
		e->base = e->mem.ptr;
	else
		ret = make_shadow(e);
	return ret;
}

/* The registration is made for the first file */
static int make_buffer(struct thread_data *td, struct engine *e)
{
	const struct options *o = options_of(td);
	unsigned int flags = o->bounce ? DMABUF_IO_BOUNCE :
			     o->require_p2p ? IO_URING_DMABUF_REQUIRE_P2P : 0;
	int ret = open_memory(e, o, td_max_bs(td) * td->o.iodepth + td->o.mem_align);

	if (ret)
		return ret;
	ret = dmabuf_io_add_buffer(e->io, &e->mem, flags);
	if (ret < 0) {
		log_err(NAME ": %s: %s\n", o->memory, strerror(-ret));
		return ret;
	}
	e->buffer = ret;
	/* fio fills it next */
	return cpu_begin(e);
}

/* @size: with what aligns an address; this begins with a page, and needs none of it */
static int engine_iomem_alloc(struct thread_data *td, size_t size)
{
	struct engine *e = engine_of(td);

	(void)size;
	e->no_memory = make_buffer(td, e);
	td->orig_buffer = e->base;
	return e->no_memory;
}

static void report_line(struct thread_data *td, struct engine *e, const char *way, uint64_t copied)
{
	char looked_at[64] = "";

	if (e->looked_at)
		snprintf(looked_at, sizeof(looked_at), ", and %llu to look at them",
			 (unsigned long long)e->looked_at);
	log_info(NAME ": %s: %s: %s, %llu bytes copied by the CPU%s\n", td->o.name,
		 options_of(td)->memory, way, (unsigned long long)copied, looked_at);
}

/* What was done, and by which way: the kernel's own counters, for each device */
static void report(struct thread_data *td, struct engine *e)
{
	struct io_uring_dmabuf_map map;
	char way[128];
	int nr = 1;

	if (!(output_format & FIO_OUTPUT_NORMAL))
		return;
	if (options_of(td)->bounce) {
		report_line(td, e, "bounced", e->copied);
		return;
	}
	for (int i = 0; i < nr; i++) {
		nr = dmabuf_io_map_info(e->io, e->buffer, (unsigned int)i, &map);
		if (nr <= 0)
			return;
		snprintf(way, sizeof(way), "%.32s: %s, granule %llu, %llu commands", map.device,
			 io_uring_dmabuf_state_name(map.state), (unsigned long long)map.granule,
			 (unsigned long long)map.hits);
		report_line(td, e, way, e->copied + map.copied_bytes);
	}
}

/* All files are closed */
static void engine_iomem_free(struct thread_data *td)
{
	struct engine *e = engine_of(td);

	if (!e)
		return;
	if (e->buffer >= 0)
		report(td, e);
	/* before the memory goes; it waits for what is in flight */
	dmabuf_io_close(e->io);
	e->io = NULL;
	while (e->brackets)
		cpu_end(e);
	if (e->shadow)
		munmap(e->base, e->size);
	dmabuf_mem_close(&e->mem);
	td->orig_buffer = NULL;
}

/* What cannot be copied is said now, and not of each request */
static int fill_from_shadow(struct thread_data *td, struct engine *e)
{
	int ret = 0;

	if (td_write(td))
		ret = dmabuf_mem_copy_to(&e->mem, 0, e->base, e->size);
	if (!ret && e->looks)
		ret = dmabuf_mem_copy_from(&e->mem, 0, e->base, e->size);
	if (ret && e->looks)
		log_err(NAME ": %s: %s: no verify= and no refill_buffers with such memory\n",
			options_of(td)->memory, dmabuf_mem_why());
	return e->looks ? ret : 0;
}

/* fio has filled the buffers */
static int engine_post_init(struct thread_data *td)
{
	struct engine *e = engine_of(td);
	int ret;

	if (e->no_memory || e->buffer < 0)
		return e->no_memory;
	ret = e->shadow ? fill_from_shadow(td, e) : cpu_end(e);
	/* between requests each buffer is fio's */
	for (unsigned int i = 0; i < e->depth && !ret && e->looks && !e->shadow; i++)
		ret = cpu_begin(e);
	if (ret)
		td_verror(td, -ret, "memory");
	return ret;
}

/* ---- files ---- */

static int register_for(struct thread_data *td, struct engine *e, struct fio_file *f)
{
	struct io_uring_dmabuf_reason why;
	char text[512];
	int target = dmabuf_io_add_target(e->io, f->fd);
	int ret;

	if (target < 0) {
		log_err(NAME ": %s: %s\n", f->file_name, strerror(-target));
		return target;
	}
	ret = dmabuf_io_prepare(e->io, e->buffer, target, &why);
	if (ret) {
		io_uring_dmabuf_explain(ret, &why, text, sizeof(text));
		log_err(NAME ": %s, %s: %s\n  (bounce moves the same by ordinary memory)\n",
			options_of(td)->memory, f->file_name, text);
		dmabuf_io_remove_target(e->io, target);
		return ret;
	}
	/* 0: it has none */
	FILE_SET_ENG_DATA(f, (void *)((uintptr_t)target + 1));
	return 0;
}

/* Where fio may trim it does not open with the flags that it was asked for */
static void set_direct(const struct thread_data *td, const struct fio_file *f)
{
	int flags = fcntl(f->fd, F_GETFL);

	if (td->o.odirect && flags >= 0 && !(flags & O_DIRECT))
		fcntl(f->fd, F_SETFL, flags | O_DIRECT);
}

static int engine_open_file(struct thread_data *td, struct fio_file *f)
{
	struct engine *e = engine_of(td);
	int ret = generic_open_file(td, f);

	FILE_SET_ENG_DATA(f, NULL);
	if (ret || !e || e->buffer < 0)
		return ret;
	set_direct(td, f);
	ret = register_for(td, e, f);
	if (!ret)
		return 0;
	td_verror(td, -ret, "registration");
	ret = generic_close_file(td, f);
	return ret ? ret : 1;
}

static int engine_close_file(struct thread_data *td, struct fio_file *f)
{
	uintptr_t target = (uintptr_t)FILE_ENG_DATA(f);
	struct engine *e = engine_of(td);

	if (e && e->io && target)
		dmabuf_io_remove_target(e->io, (int)(target - 1));
	FILE_SET_ENG_DATA(f, NULL);
	return generic_close_file(td, f);
}

/* ---- requests ---- */

static enum fio_q_status by_system_call(struct thread_data *td, struct io_u *io_u)
{
	if (io_u->ddir != DDIR_TRIM) {
		do_io_u_sync(td, io_u);
		return FIO_Q_COMPLETED;
	}
	do_io_u_trim(td, io_u);
	/* of what commit() does not see */
	io_u_mark_submit(td, 1);
	io_u_mark_complete(td, 1);
	return FIO_Q_COMPLETED;
}

static void describe(struct engine *e, struct dmabuf_io_request *r, struct io_u *io_u)
{
	r->op = io_u->ddir == DDIR_READ ? DMABUF_IO_READ : DMABUF_IO_WRITE;
	r->flags = 0;
	r->buffer = e->buffer;
	r->target = (int)((uintptr_t)FILE_ENG_DATA(io_u->file) - 1);
	r->buffer_off = (uint64_t)((char *)io_u->xfer_buf - e->base);
	r->target_off = io_u->offset;
	r->size = io_u->xfer_buflen;
	r->user_data = (uintptr_t)io_u;
}

static enum fio_q_status engine_queue(struct thread_data *td, struct io_u *io_u)
{
	struct dmabuf_io_request *r = io_u->engine_data;
	struct engine *e = engine_of(td);
	int ret;

	if (io_u->ddir != DDIR_READ && io_u->ddir != DDIR_WRITE) {
		/* not before what was queued earlier is on its way */
		return e->nr_noted ? FIO_Q_BUSY : by_system_call(td, io_u);
	}
	if (e->nr_noted == e->depth)
		return FIO_Q_BUSY;
	describe(e, r, io_u);
	ret = give_away(e, r);
	if (ret) {
		io_u->error = (unsigned int)-ret;
		return FIO_Q_COMPLETED;
	}
	e->noted[e->nr_noted++] = r;
	return FIO_Q_QUEUED;
}

/* fio's latencies begin here */
static void stamp(struct thread_data *td, struct dmabuf_io_request *const *requests,
		  unsigned int nr)
{
	struct timespec now;

	if (!fio_fill_issue_time(td))
		return;
	fio_gettime(&now, NULL);
	for (unsigned int i = 0; i < nr; i++) {
		struct io_u *io_u = (struct io_u *)(uintptr_t)requests[i]->user_data;

		io_u->issue_time = now;
		io_u_queued(td, io_u);
	}
	if (td->o.read_iolog_file)
		td->last_issue = now;
}

static int engine_commit(struct thread_data *td)
{
	struct engine *e = engine_of(td);
	unsigned int done = 0;

	stamp(td, e->noted, e->nr_noted);
	while (done < e->nr_noted) {
		int ret = dmabuf_io_submit(e->io, e->noted + done, e->nr_noted - done);

		if (ret < 0) {
			e->noted[done]->result = ret;
			e->refused[e->nr_refused++] = e->noted[done++];
		} else {
			io_u_mark_submit(td, (unsigned int)ret);
			done += (unsigned int)ret;
		}
	}
	e->nr_noted = 0;
	return 0;
}

static int milliseconds(const struct timespec *t)
{
	return t ? (int)(t->tv_sec * 1000 + t->tv_nsec / 1000000) : -1;
}

static int engine_getevents(struct thread_data *td, unsigned int min, unsigned int max,
			    const struct timespec *t)
{
	struct engine *e = engine_of(td);
	unsigned int n = 0;
	int ret;

	while (n < max && e->nr_refused)
		e->reaped[n++] = e->refused[--e->nr_refused];
	while (n < max) {
		ret = dmabuf_io_reap(e->io, e->reaped + n, max - n,
				     n < min ? milliseconds(t) : 0);
		if (ret == -EINTR)
			continue;
		if (ret < 0)
			return n ? (int)n : ret;
		n += (unsigned int)ret;
		if (n >= min || !ret)
			break;
	}
	return (int)n;
}

/* fio says what failed, in the words of errno: once what that means here */
static void explain(struct engine *e, int err)
{
	const char *text = NULL;

	if (err == -EOPNOTSUPP)
		text = "a part of the file was never written? overwrite=1 writes it first";
	else if (err == -EREMOTEIO)
		text = "the drive does not reach the memory now";
	if (text && !e->explained)
		log_err(NAME ": %s: %s\n", strerror(-err), text);
	e->explained |= !!text;
}

static struct io_u *engine_event(struct thread_data *td, int nr)
{
	struct engine *e = engine_of(td);
	struct dmabuf_io_request *r = e->reaped[nr];
	struct io_u *io_u = (struct io_u *)(uintptr_t)r->user_data;
	int ret = take_back(e, r);

	e->copied += r->copied;
	if (!ret && r->result < 0)
		ret = (int)r->result;
	explain(e, ret);
	io_u->error = (unsigned int)-ret;
	io_u->resid = ret ? io_u->xfer_buflen : io_u->xfer_buflen - (uint64_t)r->result;
	return io_u;
}

struct ioengine_ops ioengine = {
	.name = NAME,
	.version = FIO_IOOPS_VERSION,
	/* fio's own threads for submission would have an engine each, and no memory */
	.flags = FIO_ASYNCIO_SYNC_TRIM | FIO_ASYNCIO_SETS_ISSUE_TIME | FIO_NO_OFFLOAD,
	.init = engine_init,
	.post_init = engine_post_init,
	.cleanup = engine_cleanup,
	.iomem_alloc = engine_iomem_alloc,
	.iomem_free = engine_iomem_free,
	.io_u_init = engine_io_u_init,
	.open_file = engine_open_file,
	.close_file = engine_close_file,
	.get_file_size = generic_get_file_size,
	.queue = engine_queue,
	.commit = engine_commit,
	.getevents = engine_getevents,
	.event = engine_event,
	.options = options,
	.option_struct_size = sizeof(struct options),
};
