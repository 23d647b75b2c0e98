// SPDX-License-Identifier: GPL-2.0
/*
 * net-stream - the main jobs of a dma-buf that a network card is a target of,
 * done, counted, and compared where the data arrives.
 *
 *   net-stream [-d CARD] [-n MIB] [-f FILE] KIND...
 *
 *   gpu       GPU-to-network streaming: memory of a PCI device, sent by TCP from
 *             where it lies
 *   bundle    the same in one request for each MiB, which takes provided buffers, and has
 *             one completion
 *   storage   storage-to-network offload: a file on NVMe is read into a dma-buf and
 *             sent from there, one slot for both devices, READ_FIXED linked to SEND_ZC
 *   ordinary  the control: the same file by O_DIRECT read() and send()
 *
 *   -d CARD  the environment has LAB_NET_<CARD> and LAB_NET_<CARD>_PEER [E1000E]
 *   -n MIB   how much is sent [32]
 *   -f FILE  made, and removed at the end [$LAB_EXT4/net-stream]
 *
 * Needs two CPUs, see net-bench.c; what is counted is what CPU 0 does, which the
 * sender and the card and the drive have.  Before each MiB the memory is poisoned
 * and then filled by the PCI device's exporter, or by the drive.
 *
 * Output, a JSON object per line; exit status 0: every byte was right, 1: not or
 * something failed, 2: wrong arguments.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "buffer.h"
#include "bufring.h"
#include "counters.h"
#include "fail.h"
#include "link.h"
#include "netbuf.h"
#include "netcount.h"
#include "program.h"
#include "receiver.h"

#define WINDOW		NETBUF_MAX
#define BLOCK		(256u << 10)
#define BLOCKS		(WINDOW / BLOCK)
#define MAX_MIB		65536
#define PATIENCE_S	240
#define GROUP		0

enum kind { GPU, BUNDLE, STORAGE, ORDINARY, KINDS };

static const char *const kind_name[KINDS] = { "gpu", "bundle", "storage", "ordinary" };

static const struct program program = {
	.usage = "usage: net-stream [-d CARD] [-n MIB] [-f FILE] gpu|bundle|storage|ordinary...\n",
	.options = "d:n:f:",
	.kinds = kind_name,
	.nr_kinds = KINDS,
	.max_count = MAX_MIB,
};

struct stream {
	enum kind kind;
	unsigned int windows;
	int file;			/* O_DIRECT, or -1 */
	struct uring ring;
	struct mem buf;
	struct bufring bufs;		/* of bundles */
	struct net_pair conn;
	struct receiver receiver;
	unsigned char *pattern;
	unsigned int requests;		/* results to come, ... */
	int part;			/* ... of which each is as much */
	unsigned int notifications;
	uint64_t sqes, cqes, calls;	/* of requests, and system calls */
	uint64_t verified, wrong;
	struct counts counts;
	struct netcount net;
};

/* Not that of any other window */
static void fill_pattern(struct stream *s, unsigned int window)
{
	pattern_fill(s->pattern, (uint64_t)window * WINDOW, WINDOW, 0);
}

/* ---- requests ---- */

static void prepare(struct stream *s, uint8_t opcode, int fd, unsigned int block, uint64_t off,
		    bool last)
{
	struct io_uring_sqe *sqe = uring_sqe(&s->ring);

	sqe->opcode = opcode;
	sqe->fd = fd;
	sqe->addr = buffer_sqe_addr(&s->buf, block * BLOCK);
	sqe->len = BLOCK;
	sqe->off = off;
	sqe->buf_index = 0;
	if (!last)
		sqe->flags = IOSQE_IO_LINK;
	if (opcode == IORING_OP_SEND_ZC) {
		sqe->ioprio = IORING_RECVSEND_FIXED_BUF;
		sqe->msg_flags = MSG_WAITALL;
	}
	s->requests++;
	s->sqes++;
	s->part = BLOCK;
}

/* All blocks in one, which names none of them */
static void prepare_bundle(struct stream *s)
{
	struct io_uring_sqe *sqe = uring_sqe(&s->ring);

	for (unsigned int i = 0; i < BLOCKS; i++)
		bufring_add(&s->bufs, bufring_reg(0, i * BLOCK), BLOCK, (__u16)i);
	sqe->opcode = IORING_OP_SEND_ZC;
	sqe->fd = s->conn.tx;
	sqe->flags = IOSQE_BUFFER_SELECT;
	sqe->ioprio = IORING_RECVSEND_FIXED_BUF | IORING_RECVSEND_BUNDLE |
		      IORING_SEND_ZC_SINGLE_CQE;
	sqe->buf_group = GROUP;
	sqe->msg_flags = MSG_WAITALL;
	s->requests++;
	s->sqes++;
	s->part = WINDOW;
}

static int take(struct stream *s, const struct uring_res *cqe)
{
	s->cqes++;
	if (cqe->flags & IORING_CQE_F_NOTIF) {
		s->notifications--;
		return 0;
	}
	s->requests--;
	if (cqe->flags & IORING_CQE_F_MORE)
		s->notifications++;
	if (cqe->res < 0)
		return fail(kind_name[s->kind], -cqe->res, "a request");
	if (cqe->res != s->part)
		return fail(kind_name[s->kind], EIO, "a request did only a part");
	return 0;
}

static int enter(struct stream *s)
{
	s->calls++;
	return ring_submit_and_wait(&s->ring, 1);
}

/* Submits what is prepared, until results and notifications are all in */
static int complete(struct stream *s)
{
	int ret = enter(s);

	while (!ret) {
		struct uring_res cqe;

		if (uring_peek(&s->ring, &cqe))
			ret = take(s, &cqe);
		else if (s->requests || s->notifications)
			ret = enter(s);
		else
			break;
	}
	return ret;
}

static int send_gpu(struct stream *s)
{
	for (unsigned int i = 0; i < BLOCKS; i++)
		prepare(s, IORING_OP_SEND_ZC, s->conn.tx, i, 0, i + 1 == BLOCKS);
	return complete(s);
}

static int send_bundle(struct stream *s)
{
	prepare_bundle(s);
	return complete(s);
}

static int send_storage(struct stream *s, unsigned int window)
{
	uint64_t pos = (uint64_t)window * WINDOW;

	for (unsigned int i = 0; i < BLOCKS; i++) {
		prepare(s, IORING_OP_READ_FIXED, s->file, i, pos + i * BLOCK, false);
		prepare(s, IORING_OP_SEND_ZC, s->conn.tx, i, 0, i + 1 == BLOCKS);
	}
	return complete(s);
}

static int send_ordinary(struct stream *s, unsigned int window)
{
	uint64_t pos = (uint64_t)window * WINDOW;

	for (unsigned int i = 0; i < BLOCKS; i++) {
		char *p = s->buf.map + i * BLOCK;

		s->calls += 2;
		if (pread(s->file, p, BLOCK, (off_t)(pos + i * BLOCK)) != (ssize_t)BLOCK)
			return fail("read of the file", errno, "O_DIRECT");
		if (send(s->conn.tx, p, BLOCK, MSG_NOSIGNAL) != (ssize_t)BLOCK)
			return fail("send", errno, "the card's socket");
	}
	return 0;
}

/* ---- windows ---- */

/* Memory of a PCI device, and no file */
static bool of_device(enum kind kind)
{
	return kind == GPU || kind == BUNDLE;
}

static int window_run(struct stream *s, unsigned int window)
{
	switch (s->kind) {
	case GPU:
		return send_gpu(s);
	case BUNDLE:
		return send_bundle(s);
	case STORAGE:
		return send_storage(s, window);
	default:
		return send_ordinary(s, window);
	}
}

static int window_do(struct stream *s, unsigned int window)
{
	int ret = buffer_poison(&s->buf, (unsigned char)(0xa5 ^ window));
	long wrong;

	fill_pattern(s, window);
	if (!ret && of_device(s->kind))
		ret = buffer_fill(&s->buf, s->pattern);
	if (!ret)
		ret = receiver_expect(&s->receiver, false);
	if (!ret)
		ret = counters_start();
	if (!ret)
		ret = window_run(s, window);
	if (!ret)
		ret = receiver_wait_acked(&s->receiver);
	if (!ret)
		ret = counters_stop(&s->counts, 512);
	if (!ret)
		ret = link_take_answer(&s->conn);
	if (ret)
		return ret;
	wrong = receiver_result(&s->receiver);
	if (wrong < 0)
		return (int)wrong;
	s->wrong += (uint64_t)wrong;
	s->verified += WINDOW;
	return 0;
}

/* ---- the stream ---- */

/* With what an ordinary write puts there, on the drive before anybody reads it */
static int file_create(struct stream *s, const char *path)
{
	s->file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
	if (s->file < 0)
		return fail(path, errno, "a file on the drive");
	for (unsigned int w = 0; w < s->windows; w++) {
		fill_pattern(s, w);
		if (pwrite(s->file, s->pattern, WINDOW, (off_t)w * WINDOW) != (ssize_t)WINDOW)
			return fail(path, errno, "filling it");
	}
	return fsync(s->file) ? fail(path, errno, "fsync") : 0;
}

/* One slot, for the card and, if there is a file, for its drive */
static int slot_register(struct stream *s)
{
	struct io_uring_regbuf_desc desc = desc_dmabuf(s->buf.fd, s->conn.tx);
	int ret;

	if (s->file >= 0) {
		desc.targets = (uintptr_t)&s->file;
		desc.nr_targets = 1;
	}
	ret = reg_sparse(&s->ring, 1);
	if (ret >= 0)
		ret = reg_one(&s->ring, 0, &desc);
	return ret < 0 ? fail("registering the dma-buf", -ret, kind_name[s->kind]) : 0;
}

static int stream_start(struct stream *s, const struct netrig *link,
			const struct options *o)
{
	static const enum source source[KINDS] = {
		[GPU] = SOURCE_BAR, [BUNDLE] = SOURCE_BAR, [STORAGE] = SOURCE_DMABUF,
		[ORDINARY] = SOURCE_SEND,
	};
	int ret;

	s->pattern = resident(WINDOW);
	if (!s->pattern)
		return -ENOMEM;
	ret = of_device(s->kind) ? 0 : file_create(s, o->file);
	if (!ret)
		ret = ring_create(&s->ring, 4 * BLOCKS);
	if (!ret)
		ret = link_connect(link, &s->conn);
	if (!ret)
		ret = netbuf_create(&s->buf, source[s->kind], WINDOW);
	if (!ret && s->kind != ORDINARY)
		ret = slot_register(s);
	if (!ret && s->kind == BUNDLE)
		ret = bufring_create(&s->bufs, &s->ring, GROUP, BLOCKS, 0);
	if (!ret)
		ret = receiver_start(&s->receiver, &s->conn, -1, s->pattern, WINDOW);
	return ret ? ret : netcount_open(&s->net, link);
}

static void stream_end(struct stream *s, const struct options *o)
{
	receiver_stop(&s->receiver);
	bufring_destroy(&s->bufs);
	if (s->kind != ORDINARY)
		buffer_unregister(&s->ring);
	uring_exit(&s->ring);
	buffer_destroy(&s->buf);
	net_close(&s->conn);
	munmap(s->pattern, WINDOW);
	if (s->file >= 0) {
		close(s->file);
		unlink(o->file);
	}
}

/* Maps and unmaps that are not the card's are the drive's */
static void stream_print(const struct stream *s, const struct netrig *link)
{
	const struct use *pay = &s->net.payload, *head = &s->net.header, *rx = &s->net.receive;
	uint64_t all = s->counts.dma_map + s->counts.dma_unmap;
	uint64_t own = head->map + head->unmap + rx->map + rx->unmap;
	const char *iommu = getenv("LAB_IOMMU");

	printf("{\"what\":\"stream\",\"kind\":\"%s\",\"device\":\"%s\",\"iommu\":\"%s\","
	       "\"bytes\":%llu,\"wrong_bytes\":%llu,\"packets\":%llu,\"packet_segments\":%llu,"
	       "\"nvme_commands\":%llu,\"nvme_bytes\":%llu,\"card_maps\":%llu,"
	       "\"drive_maps\":%llu,\"own_maps\":%llu,\"sqes\":%llu,\"cqes\":%llu,"
	       "\"calls\":%llu",
	       kind_name[s->kind], link_driver(link), iommu ? iommu : "",
	       (unsigned long long)s->verified, (unsigned long long)s->wrong,
	       (unsigned long long)s->net.packets, (unsigned long long)s->net.segments,
	       (unsigned long long)s->counts.commands,
	       (unsigned long long)s->counts.command_bytes,
	       (unsigned long long)(pay->map + pay->unmap),
	       (unsigned long long)(all - own - pay->map - pay->unmap),
	       (unsigned long long)own, (unsigned long long)s->sqes,
	       (unsigned long long)s->cqes, (unsigned long long)s->calls);
	if (s->counts.copy_bytes != COPIES_UNKNOWN)
		printf(",\"copy_bytes\":%llu", (unsigned long long)s->counts.copy_bytes);
	printf("}\n");
	fflush(stdout);
}

/*
 * A window that does not count: after it the card is polled by the CPU that its
 * interrupts go to. Until then it may go on where it was brought up, and what is mapped
 * there and unmapped here is taken for payload.
 */
static int warm_up(struct stream *s)
{
	int ret = window_do(s, 0);

	netcount_reset(&s->net);
	s->counts = (struct counts){ 0 };
	s->verified = s->sqes = s->cqes = s->calls = 0;
	return ret;
}

static int run(enum kind kind, const struct netrig *link, const struct options *o)
{
	struct stream s = { .kind = kind, .windows = o->count, .file = -1, .buf.fd = -1 };
	int ret;

	alarm(PATIENCE_S);
	ret = stream_start(&s, link, o);
	if (!ret)
		ret = warm_up(&s);
	for (unsigned int w = 0; w < s.windows && !ret; w++)
		ret = window_do(&s, w);
	if (ret)
		return ret;
	stream_print(&s, link);
	stream_end(&s, o);
	return s.wrong ? -EIO : 0;
}

int main(int argc, char **argv)
{
	struct options o = { .device = "E1000E", .depth = 1, .count = 32 };
	struct bench_case cases[MAX_CASES] = { 0 };
	const char *dir = getenv("LAB_EXT4");
	struct netrig link;
	char path[128];
	unsigned int nr;
	int ret = 0;

	snprintf(path, sizeof(path), "%s/net-stream", dir ? dir : "/tmp");
	o.file = path;
	nr = arguments(argc, argv, &program, &o, cases);
	if (!nr)
		return 2;
	if (run_on(SENDER_CPU) || netbuf_init() || link_up(&link, o.device, NET_CARD) ||
	    counters_open())
		return 1;
	for (unsigned int i = 0; i < nr && !ret; i++)
		ret = run((enum kind)cases[i].kind, &link, &o);
	counters_close();
	return ret ? 1 : 0;
}
