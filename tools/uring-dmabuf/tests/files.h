/* SPDX-License-Identifier: GPL-2.0 */
/* Files of the tests, by ordinary calls */
#ifndef URING_DMABUF_TEST_FILES_H
#define URING_DMABUF_TEST_FILES_H

#include <stddef.h>
#include <linux/types.h>

/* @len bytes of the pattern of @seed, from 0 on: 0 or -EIO */
int make(const char *path, size_t len, __u64 seed);
/* Its size, and each byte: 0; -ENOENT, -EFBIG, -EILSEQ */
int is(const char *path, size_t len, __u64 seed);
/* How many names there are in a folder; and they are gone */
int empty(const char *path);

/* Does what @fmt says, with its two words: 0 if that has worked */
int shell(const char *fmt, const char *a, const char *b);

/* Two folders, on ext4 and on XFS, and a name in each */
struct folders {
	char dir[2][64];
	char a[80], b[80];
};

/* Both of that name, in @ext4 and in @xfs: 0 or -errno */
int folders_make(struct folders *f, const char *ext4, const char *xfs, const char *name);
/* With all that is in them: 0 or -errno */
int folders_remove(struct folders *f);

#endif
