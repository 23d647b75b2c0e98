// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mix.h"

#define STEP	(256 * KiB)	/* of a comparison */

int mix_init(struct mix *mix, struct rig *rig, int fd, __u16 slot, __u64 size)
{
	int ret;

	memset(mix, 0, sizeof(*mix));
	mix->ring = &rig->ring;
	mix->mem = &rig->mem;
	mix->fd = fd;
	mix->slot = slot;
	mix->size = size;
	mix->align = 4;
	mix->rng = 42;
	mix->mem_model = malloc(size);
	mix->disk_model = malloc(size);
	if (!mix->mem_model || !mix->disk_model)
		return -ENOMEM;
	pattern_fill(mix->mem_model, 0, size, 1);
	pattern_fill(mix->disk_model, 0, size, 2);
	ret = mem_fill(mix->mem, 0, 0, size, 1);
	return ret ?: disk_fill(fd, 0, size, 2);
}

void mix_free(struct mix *mix)
{
	free(mix->mem_model);
	free(mix->disk_model);
	mix->mem_model = NULL;
	mix->disk_model = NULL;
}

/* Cuts [addr, addr + len) into whole sectors' worth and turns the order round */
static void cut(struct mix *mix, struct mix_op *op, __u64 addr)
{
	unsigned int nr = 1 + rnd(&mix->rng) % MIX_MAX_PIECES;
	__u32 sectors = op->len / 512;

	if (nr > sectors)
		nr = sectors;
	op->nr = nr;
	for (unsigned int i = nr; i--;) {
		__u32 n = i ? sectors / (i + 1) : sectors;

		op->iov[i].iov_base = (void *)addr;
		op->iov[i].iov_len = n * 512;
		addr += n * 512;
		sectors -= n;
	}
}

static void choose(struct mix *mix, struct mix_op *op, __u64 start, __u64 window)
{
	static const __u8 opcodes[] = {
		IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED,
		IORING_OP_READV_FIXED, IORING_OP_WRITEV_FIXED,
	};
	__u64 addr;

	op->opcode = opcodes[rnd(&mix->rng) % (mix->no_vectors ? 2 : 4)];
	op->len = 512 + rnd_aligned(&mix->rng, window - 512, 512);
	op->off = start + rnd_aligned(&mix->rng, window - op->len, 512);
	addr = start + rnd_aligned(&mix->rng, window - op->len, mix->align);
	op->nr = 1;
	op->iov[0].iov_base = (void *)addr;
	op->iov[0].iov_len = op->len;
	if (op->opcode == IORING_OP_READV_FIXED ||
	    op->opcode == IORING_OP_WRITEV_FIXED)
		cut(mix, op, addr);
}

static bool is_write(const struct mix_op *op)
{
	return op->opcode == IORING_OP_WRITE_FIXED ||
	       op->opcode == IORING_OP_WRITEV_FIXED;
}

static void model(struct mix *mix, const struct mix_op *op)
{
	unsigned char *disk = mix->disk_model + op->off;

	for (unsigned int i = 0; i < op->nr; i++) {
		unsigned char *mem = mix->mem_model + (uintptr_t)op->iov[i].iov_base;

		if (is_write(op))
			memcpy(disk, mem, op->iov[i].iov_len);
		else
			memcpy(mem, disk, op->iov[i].iov_len);
		disk += op->iov[i].iov_len;
	}
}

static int prep(struct mix *mix, unsigned int i)
{
	struct mix_op *op = &mix->ops[i];
	bool vec = op->opcode != IORING_OP_READ_FIXED &&
		   op->opcode != IORING_OP_WRITE_FIXED;
	struct io_uring_sqe *sqe;

	sqe = uring_prep_rw(mix->ring, op->opcode, mix->fd, op->off,
			    vec ? (uintptr_t)op->iov : (uintptr_t)op->iov[0].iov_base,
			    vec ? op->nr : op->len, mix->slot);
	if (!sqe)
		return -EBUSY;
	sqe->flags = mix->sqe_flags;
	sqe->user_data = i;
	return 0;
}

int mix_submit(struct mix *mix, unsigned int depth)
{
	__u64 window = mix->size / depth;
	int ret;

	for (unsigned int i = 0; i < depth; i++) {
		choose(mix, &mix->ops[i], i * window, window);
		ret = prep(mix, i);
		if (ret)
			return ret;
		model(mix, &mix->ops[i]);
	}
	mix->nr_ops += depth;
	ret = uring_submit(mix->ring, 0);
	return ret == (int)depth ? 0 : ret < 0 ? ret : -EIO;
}

int mix_reap(struct mix *mix, unsigned int depth)
{
	struct uring_res res;
	int ret = 0, err;

	for (unsigned int i = 0; i < depth; i++) {
		err = uring_wait(mix->ring, &res, 60000);
		if (err)
			return err;
		if (res.res == -EAGAIN)
			mix->nr_eagain++;
		if (res.user_data >= depth)
			return -EBADMSG;
		if (res.res == (int)mix->ops[res.user_data].len)
			continue;
		fprintf(stderr, "# opcode %u, %u bytes at 0x%llx: %d\n",
			mix->ops[res.user_data].opcode,
			mix->ops[res.user_data].len,
			mix->ops[res.user_data].off, res.res);
		ret = ret ?: res.res < 0 ? res.res : -EIO;
	}
	return ret;
}

int mix_round(struct mix *mix, unsigned int depth)
{
	int ret = mix_submit(mix, depth);

	return ret ?: mix_reap(mix, depth);
}

static int compare(const char *what, const unsigned char *is,
		   const unsigned char *must, __u64 at, size_t len)
{
	size_t i = 0;

	if (!memcmp(is, must, len))
		return 0;
	while (is[i] == must[i])
		i++;
	fprintf(stderr, "# wrong byte in %s at 0x%llx: 0x%02x, must be 0x%02x\n",
		what, at + i, is[i], must[i]);
	return -EILSEQ;
}

int mix_verify(struct mix *mix)
{
	void *buf = NULL;
	int ret = 0;

	if (posix_memalign(&buf, 4096, STEP))
		return -ENOMEM;
	for (__u64 at = 0; !ret && at < mix->size; at += STEP) {
		size_t n = mix->size - at < STEP ? mix->size - at : STEP;

		ret = mem_get(mix->mem, at, buf, n);
		if (!ret)
			ret = compare("memory", buf, mix->mem_model + at, at, n);
		if (ret)
			break;
		if (pread(mix->fd, buf, n, at) != (ssize_t)n)
			ret = -EIO;
		else
			ret = compare("disk", buf, mix->disk_model + at, at, n);
	}
	free(buf);
	return ret;
}
