// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* cp --verify: what is on the drives, by ordinary reads */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "cp.h"

#define PIECE	(4U << 20)

/* The next piece; 0 or -errno */
static int get(const struct end *e, void *data, size_t len, uint64_t off)
{
	size_t got = 0;
	ssize_t n;

	if (e->kind == END_DMABUF)
		return dmabuf_mem_copy_from((struct dmabuf_mem *)&e->mem, off, data, len);
	while (got < len) {
		n = pread(e->fd, (char *)data + got, PIECE - got, (off_t)(off + got));
		if (n <= 0)
			return n ? -errno : -ENODATA;
		got += (size_t)n;
	}
	return 0;
}

static int hash_of(const struct copier *c, const struct end *e, uint64_t size,
		   char hash[static 33])
{
	XXH3_state_t *state = XXH3_createState();
	void *data = aligned_alloc(BLOCK, PIECE);
	XXH128_hash_t h;
	int ret = state && data ? 0 : -ENOMEM;

	if (!ret)
		XXH3_128bits_reset(state);
	for (uint64_t off = 0; !ret && off < size; off += PIECE) {
		size_t len = size - off < PIECE ? size - off : PIECE;

		progress_verify(c, e->name, off, size);
		ret = cp_stop ? -EINTR : get(e, data, len, off);
		if (!ret)
			XXH3_128bits_update(state, data, len);
	}
	if (!ret) {
		h = XXH3_128bits_digest(state);
		snprintf(hash, 33, "%016llx%016llx", (unsigned long long)h.high64,
			 (unsigned long long)h.low64);
	}
	XXH3_freeState(state);
	free(data);
	return ret;
}

static int hash_or_say(const struct copier *c, const struct end *e, uint64_t size,
		       char hash[static 33])
{
	int ret = hash_of(c, e, size, hash);

	if (ret && ret != -EINTR)
		fprintf(stderr, "uring-dmabuf: --verify reads %s: %s\n", e->name, strerror(-ret));
	return ret;
}

int job_verify(const struct copier *c, const struct job *job, char hash[static 33])
{
	char to[33];
	int ret = hash_or_say(c, &job->from, job->size, hash) ?:
		  hash_or_say(c, &job->to, job->size, to);

	if (ret || !strcmp(hash, to))
		return ret;
	fprintf(stderr, "uring-dmabuf: %s (XXH3 %s) and %s (%s) differ: do not use what is there\n",
		job->from.name, hash, job->to.name, to);
	return -EILSEQ;
}
