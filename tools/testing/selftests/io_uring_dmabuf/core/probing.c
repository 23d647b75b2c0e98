// SPDX-License-Identifier: GPL-2.0
/*
 * Programs that ask first: what the queries say that a kernel can do, and what becomes of
 * those who do it all the same. Each call is the same one everywhere. A kernel that does
 * not know it, as stock, refuses before anything has happened:
 *
 *				here		stock
 *   IO_URING_QUERY_REGBUF	its words	EOPNOTSUPP, and all words are 0
 *   RSRC_UPDATE_EXTENDED	registers	EINVAL
 *   SEND_ZC_SINGLE_CQE		sends		EINVAL
 *   IOSQE_BUFFER_SELECT	takes a buffer	EOPNOTSUPP, of SEND_ZC and READ_FIXED
 *   ZCRX_AREA_REGBUF		an area		EINVAL
 */
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include "../net/receive/zcrx.h"
#include "bufring.h"
#include "common.h"
#include "netio.h"

#define SIZE	(64 * KiB)
#define LEN	4096
#define SEED	NET_SEED
#define TAG	77
#define GROUP	5
#define BID	3

FIXTURE(probing) {
	struct asker {
		struct uring ring;
		char *mem, *other;	/* SIZE each, one behind the other; @mem is in slot 0 */
		char *data;		/* the pattern; what @file has */
		int file;
		struct net_pair tcp;
		struct bufring bufs;
	} asker;
};

FIXTURE_SETUP(probing)
{
	struct asker *a = &self->asker;
	struct iovec iov = { .iov_len = SIZE };
	const __u64 tag = TAG;

	a->tcp = NET_PAIR_NONE;
	a->file = memfd_sealed(SIZE, &a->data);
	ASSERT_LE(0, a->file);
	pattern_fill(a->data, 0, SIZE, SEED);
	a->mem = mmap(NULL, 2 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, a->mem);
	a->other = a->mem + SIZE;
	memset(a->mem, POISON, 2 * SIZE);

	ASSERT_EQ(0, uring_init(&a->ring, 8, 0));
	ASSERT_EQ(0, reg_sparse(&a->ring, 2));
	iov.iov_base = a->mem;
	ASSERT_EQ(1, reg_plain(&a->ring, 0, &iov, &tag, 1));
	ASSERT_EQ(0, bufring_create(&a->bufs, &a->ring, GROUP, 4, 0));
	ASSERT_EQ(0, net_local("127.0.0.1", &a->tcp));
}

FIXTURE_TEARDOWN(probing)
{
	struct asker *a = &self->asker;

	net_close(&a->tcp);
	bufring_destroy(&a->bufs);
	uring_exit(&a->ring);
	munmap(a->mem, 2 * SIZE);
	munmap(a->data, SIZE);
	close(a->file);
}

/* The lab says which kernel it has; elsewhere there is only the kernel's own word */
static bool known_here(void)
{
	return lab_env("LAB_KERNEL") ? !lab_is("LAB_KERNEL", "stock") : kernel_has_regbuf();
}

static long long answer(long long here, long long stock)
{
	return known_here() ? here : stock;
}

/* The first @len bytes of the pattern are at @at, and no others anywhere */
static bool has_only(const struct asker *a, const char *at, __u64 len)
{
	const char *end = a->mem + 2 * SIZE;

	return poison_check(a->mem, at - a->mem, POISON) == NO_MISMATCH &&
	       pattern_check(at, 0, len, SEED) == NO_MISMATCH &&
	       poison_check(at + len, end - at - len, POISON) == NO_MISMATCH;
}

/* By slot 0 to @to: LEN; or an error, and nothing was read */
static int read_to(struct asker *a, char *to)
{
	int ret;

	memset(a->mem, POISON, 2 * SIZE);
	ret = uring_read(&a->ring, a->file, 0, (uintptr_t)to, LEN, 0);
	return has_only(a, to, ret == LEN ? LEN : 0) ? ret : -EILSEQ;
}

/* Takes the table away: the tag of slot 0, which comes when its buffer goes, and not before */
static int empty_table(struct asker *a)
{
	struct uring_res res;
	int ret = uring_ready(&a->ring) ? -EPROTO : reg_unregister(&a->ring);

	if (!ret)
		ret = uring_wait(&a->ring, &res, 10000);
	return ret ?: (int)res.user_data;
}

/* What is prepared. One that is refused may still have a notification, which says nothing */
static int result(struct asker *a, struct uring_res *res)
{
	struct uring_res notif;
	int ret = uring_submit(&a->ring, 0);

	if (ret == 1)
		ret = uring_wait(&a->ring, res, net_patience());
	if (!ret && res->flags & IORING_CQE_F_MORE)
		ret = uring_wait(&a->ring, &notif, net_patience());
	return ret ?: uring_ready(&a->ring) ? -EPROTO : 0;
}

#define NEED_UDMABUF(m) do {						\
	int ret_ = mem_create(m, MEM_UDMABUF, SIZE);			\
									\
	if (ret_ == -ENOENT)						\
		SKIP(return, "no /dev/udmabuf");			\
	ASSERT_EQ(0, ret_);						\
} while (0)

TEST_F(probing, words)
{
	struct asker *a = &self->asker;
	struct io_uring_query_regbuf_map map;
	struct io_uring_query_regbuf q;
	__u32 len = sizeof(q);

	/* who does not look at the result finds nothing either */
	memset(&q, POISON, sizeof(q));
	EXPECT_EQ(answer(0, -EOPNOTSUPP), query(-1, IO_URING_QUERY_REGBUF, &q, &len));
	EXPECT_EQ(answer(sizeof(q), 0), len);
	EXPECT_EQ(answer(7, 0), q.type_mask);
	EXPECT_EQ(answer(IO_REGBUF_DMABUF_FLAGS, 0), q.dmabuf_flags);
	EXPECT_EQ(answer(IORING_RSRC_UPDATE_EXTENDED, 0), q.update_flags);
	EXPECT_EQ(answer(sizeof(struct io_uring_regbuf_desc), 0), q.desc_size);
	EXPECT_EQ(answer(IO_REGBUF_FEATURE_SINGLE_CQE | IO_REGBUF_FEATURE_PROVIDED, 0),
		  q.features);
	EXPECT_EQ(answer(0, -EOPNOTSUPP), query_map(&a->ring, 0, 0, &map));
	EXPECT_EQ(answer(SIZE, 0), map.size);
	EXPECT_EQ(answer(IORING_ZCRX_AREA_DMABUF | IORING_ZCRX_AREA_REGBUF,
			 IORING_ZCRX_AREA_DMABUF), zcrx_area_flags());
}

/* The slot, its memory and its tag are as they were, or all are the new ones */
TEST_F(probing, update)
{
	struct asker *a = &self->asker;
	const struct io_uring_regbuf_desc d = desc_uaddr(a->other, SIZE);
	const __u64 tag = TAG + 1;
	struct uring_res res;

	ASSERT_EQ(answer(1, -EINVAL), reg_update(&a->ring, 0, &d, &tag, 1));
	if (known_here()) {
		ASSERT_EQ(0, uring_wait(&a->ring, &res, 10000));
		EXPECT_EQ(TAG, res.user_data);
	}
	EXPECT_EQ(answer(-EFAULT, LEN), read_to(a, a->mem));
	EXPECT_EQ(answer(LEN, -EFAULT), read_to(a, a->other));
	ASSERT_EQ(answer(TAG + 1, TAG), empty_table(a));
}

/* Of a ring without a table, which may have one still */
TEST_F(probing, table)
{
	struct asker *a = &self->asker;
	const struct io_uring_regbuf_desc d = desc_uaddr(a->mem, SIZE);

	ASSERT_EQ(TAG, empty_table(a));
	ASSERT_EQ(answer(0, -EINVAL), reg_table(&a->ring, &d, NULL, 1));
	EXPECT_EQ(answer(LEN, -EFAULT), read_to(a, a->mem));
	EXPECT_EQ(answer(-EBUSY, 0), reg_sparse(&a->ring, 1));
}

/* An exporter that nobody else is to hear of, and a program that reads a reason */
TEST_F(probing, dmabuf)
{
	struct asker *a = &self->asker;
	struct io_uring_regbuf_reason why;
	struct io_uring_regbuf_desc d;
	int disk = NEED_DISK("LAB_NVME_MAIN");
	struct mem m;

	NEED_UDMABUF(&m);
	ASSERT_EQ(0, mem_poison(&m, 0, SIZE, POISON));
	ASSERT_EQ(0, disk_fill(disk, 0, LEN, SEED));
	d = desc_dmabuf(m.fd, disk);
	ASSERT_EQ(answer(0, -EINVAL), reg_why(&a->ring, 1, &d, &why));
	EXPECT_TRUE(reason_untouched(&why));
	EXPECT_EQ(answer(1, 0), bufinfo_attachments(m.fd));
	EXPECT_EQ(answer(LEN, -EFAULT), uring_read(&a->ring, disk, 0, 0, LEN, 1));
	EXPECT_EQ(NO_MISMATCH, mem_check_only(&m, 0, 0, answer(LEN, 0), SEED));
	ASSERT_EQ(TAG, empty_table(a));
	EXPECT_TRUE(bufinfo_wait(m.fd, 0, 10000));
	mem_destroy(&m);
	close(disk);
}

static struct io_uring_sqe *prep_send(struct asker *a, __u8 op, const void *addr, __u32 len)
{
	struct io_uring_sqe *sqe = uring_sqe(&a->ring);

	sqe->opcode = op;
	sqe->fd = a->tcp.tx;
	sqe->addr = (uintptr_t)addr;
	sqe->len = len;
	return sqe;
}

/* One completion that says that all has arrived; or one that says why nothing was sent */
TEST_F(probing, single)
{
	struct asker *a = &self->asker;
	const struct piece p = { SEED, 0, LEN };
	struct iovec iov = { .iov_base = a->data, .iov_len = LEN };
	const struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct uring_res res;

	for (unsigned int i = 0; i < 2; i++) {
		struct io_uring_sqe *sqe = i ? prep_send(a, IORING_OP_SENDMSG_ZC, &msg, 1) :
					       prep_send(a, IORING_OP_SEND_ZC, a->data, LEN);

		sqe->ioprio = IORING_SEND_ZC_SINGLE_CQE;
		ASSERT_EQ(0, result(a, &res));
		EXPECT_EQ(answer(LEN, -EINVAL), res.res);
		if (known_here()) {
			EXPECT_EQ(0, res.flags);
			EXPECT_EQ(0, net_recv(a->tcp.rx, &p, 1));
		}
		EXPECT_EQ(0, net_mark(&a->tcp));
	}
}

/* The next entry of the group, or none, and it is the next one still */
TEST_F(probing, provided_to_send)
{
	static const __u16 cases[] = {
		0, IORING_RECVSEND_BUNDLE, IORING_RECVSEND_FIXED_BUF,
		IORING_RECVSEND_FIXED_BUF | IORING_RECVSEND_BUNDLE,
	};
	struct asker *a = &self->asker;
	const struct piece p = { SEED, 0, LEN };
	struct uring_res res;

	pattern_fill(a->mem, 0, SIZE, SEED);
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		struct io_uring_sqe *sqe = prep_send(a, IORING_OP_SEND_ZC, NULL, 0);
		bool registered = cases[i] & IORING_RECVSEND_FIXED_BUF;

		bufring_add(&a->bufs, registered ? bufring_reg(0, 0) : (uintptr_t)a->mem, LEN, BID);
		sqe->ioprio = cases[i];
		sqe->flags = IOSQE_BUFFER_SELECT;
		sqe->buf_group = GROUP;
		ASSERT_EQ(0, result(a, &res));
		EXPECT_EQ(answer(LEN, -EOPNOTSUPP), res.res);
		EXPECT_EQ(answer(IORING_CQE_F_BUFFER | IORING_CQE_F_MORE |
				 BID << IORING_CQE_BUFFER_SHIFT, 0), res.flags);
		EXPECT_EQ(answer(i + 1, 0), bufring_head(&a->bufs));
		if (known_here())
			EXPECT_EQ(0, net_recv(a->tcp.rx, &p, 1));
		EXPECT_EQ(0, net_mark(&a->tcp));
	}
}

TEST_F(probing, provided_to_read)
{
	struct asker *a = &self->asker;
	struct uring_res res;

	bufring_add(&a->bufs, bufring_reg(0, 2 * LEN), LEN, BID);
	uring_prep_rw(&a->ring, IORING_OP_READ_FIXED, a->file, 0, 0, LEN, GROUP)->flags =
		IOSQE_BUFFER_SELECT;
	ASSERT_EQ(0, result(a, &res));
	EXPECT_EQ(answer(LEN, -EOPNOTSUPP), res.res);
	EXPECT_EQ(answer(IORING_CQE_F_BUFFER | BID << IORING_CQE_BUFFER_SHIFT, 0), res.flags);
	EXPECT_EQ(answer(1, 0), bufring_head(&a->bufs));
	EXPECT_TRUE(has_only(a, a->mem + 2 * LEN, answer(LEN, 0)));
}

/* An instance of what both know goes on, whatever it was asked to add */
TEST_F(probing, area)
{
	struct io_uring_zcrx_area_reg of_slot = area_slot(0, 0, SIZE), more = of_slot, of_user;
	struct asker *a = &self->asker;
	struct zcrx z, user;
	struct uring ring;
	struct mem m;
	struct io_uring_regbuf_desc d;

	NEED_UDMABUF(&m);
	ASSERT_EQ(0, uring_init(&ring, 8, ZCRX_RING));
	ASSERT_EQ(0, reg_sparse(&ring, 1));
	d = desc_dmabuf(m.fd, -1);
	d.flags = IO_REGBUF_DMABUF_ON_DEMAND | IO_REGBUF_DMABUF_COPY_OK;
	ASSERT_EQ(answer(0, -EINVAL), reg_one(&ring, 0, &d));
	EXPECT_EQ(answer(0, -EINVAL), zcrx_open(&z, &ring, 0, &of_slot));

	of_user = area_user(a->mem, SIZE);
	ASSERT_EQ(0, zcrx_open(&user, &ring, 0, &of_user));
	EXPECT_EQ(answer(0, -EINVAL), zcrx_add_area(known_here() ? &z : &user, &more));
	of_user = area_user(a->other, SIZE);
	EXPECT_EQ(0, zcrx_add_area(&user, &of_user));

	uring_exit(&ring);
	zcrx_forget(&user);
	zcrx_forget(&z);
	mem_destroy(&m);
}

TEST_HARNESS_MAIN
