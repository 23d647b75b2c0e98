// SPDX-License-Identifier: GPL-2.0
/* The sizes that must not grow, as assembler comments: see sizes. */
#include <linux/blk-mq.h>
#include <linux/bvec.h>
#include <linux/skbuff.h>
#include <linux/uio.h>

#define SIZE_OF(type)	asm volatile("\n.ascii \"SIZE " #type " %c0\"" : : "i" (sizeof(type)))

void sizes(void);

void sizes(void)
{
	SIZE_OF(struct bio);
	SIZE_OF(struct bio_vec);
	SIZE_OF(struct request);
	SIZE_OF(struct sk_buff);
	SIZE_OF(struct iov_iter);
}
