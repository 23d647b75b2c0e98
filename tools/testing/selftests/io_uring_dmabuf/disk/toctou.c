// SPDX-License-Identifier: GPL-2.0
/*
 * The direction of a slot holds, whatever the application does to the SQE, the
 * vector or the message header while they are read: what is read twice is read
 * from a copy. A page that is not there (userfaultfd) makes the kernel stop in
 * the middle of reading a vector; the SQE is changed then. The memory has moved,
 * so that the command is issued a second time.
 */
#include <pthread.h>
#include <string.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <linux/nvme_ioctl.h>
#include <linux/dma-buf-bar.h>

#include "cdev.h"
#include "common.h"
#include "fault.h"

#define SIZE		MiB
#define LEN		8192	/* of the command, in two pieces */
#define AT		(64 * KiB)
#define ELSEWHERE	(512 * KiB)	/* where the changed SQE points to */

FIXTURE(toctou) {
	struct rig rig;
	struct cdev dev;
	struct fault fault;	/* a page that is not there until filled */
	char fill[FAULT_LEN];	/* what it holds then */
	struct nvme_uring_cmd *cmd;
	bool flip;		/* change the SQE, too */
	pthread_t thread;
	__u8 ok, bad;		/* opcode that the slot allows, and the other */
};

FIXTURE_VARIANT(toctou) {
	__u32 flags;		/* of the slot */
	unsigned int ring_flags;
};

FIXTURE_VARIANT_ADD(toctou, rdonly) { IO_REGBUF_DMABUF_RDONLY, 0 };
FIXTURE_VARIANT_ADD(toctou, wronly) { IO_REGBUF_DMABUF_WRONLY, 0 };

FIXTURE_VARIANT_ADD(toctou, rdonly_sqpoll) {
	IO_REGBUF_DMABUF_RDONLY, IORING_SETUP_SQPOLL,
};

FIXTURE_VARIANT_ADD(toctou, wronly_sqpoll) {
	IO_REGBUF_DMABUF_WRONLY, IORING_SETUP_SQPOLL,
};

FIXTURE_VARIANT_ADD(toctou, rdonly_iopoll) {
	IO_REGBUF_DMABUF_RDONLY, IORING_SETUP_IOPOLL,
};

FIXTURE_SETUP(toctou)
{
	bool rdonly = variant->flags == IO_REGBUF_DMABUF_RDONLY;
	struct io_uring_regbuf_desc d;

	RIG_UP(&self->rig, "LAB_NVME_MAIN", MEM_BAR, SIZE,
	       variant->ring_flags | CDEV_RING);
	ASSERT_EQ(0, cdev_open(&self->dev, NEED_ENV("LAB_NG_MAIN"),
			       self->rig.disk));
	d = desc_dmabuf(self->rig.mem.fd, self->dev.fd);
	d.flags = variant->flags;
	ASSERT_EQ(0, reg_one(&self->rig.ring, 0, &d));
	ASSERT_EQ(0, fault_init(&self->fault));
	self->ok = rdonly ? NVME_WRITE : NVME_READ;
	self->bad = rdonly ? NVME_READ : NVME_WRITE;
	ASSERT_EQ(0, mem_fill(&self->rig.mem, 0, 0, SIZE, 71));
	ASSERT_EQ(0, disk_fill(self->rig.disk, 0, SIZE, 72));
}

FIXTURE_TEARDOWN(toctou)
{
	fault_exit(&self->fault);
	rig_down(&self->rig);
	close(self->dev.fd);
}

/* Somebody reads the page: change the SQE, then let him have it */
static void *fill_page(void *arg)
{
	struct _test_data_toctou *self = arg;

	if (fault_wait(&self->fault, -1))
		return "no fault";
	if (self->flip) {
		self->cmd->opcode = self->bad;
		self->cmd->cdw10 = ELSEWHERE / self->dev.lba;
		self->cmd->data_len = 1;
		self->cmd->addr = 0;
	}
	return fault_fill(&self->fault, self->fill) ? "not filled" : NULL;
}

static int watch(struct _test_data_toctou *self)
{
	return -pthread_create(&self->thread, NULL, fill_page, self);
}

static const char *watched(struct _test_data_toctou *self)
{
	void *why;

	pthread_join(self->thread, &why);
	return why;
}

/* Two pieces, the second one before the first */
static void pieces(struct iovec *iov, __u64 addr)
{
	iov[0].iov_base = (void *)(uintptr_t)(addr + LEN);
	iov[0].iov_len = LEN / 2;
	iov[1].iov_base = (void *)(uintptr_t)addr;
	iov[1].iov_len = LEN / 2;
}

#define UNCHANGED_MEM()							\
	EXPECT_EQ(NO_MISMATCH, mem_check(&self->rig.mem, 0, 0, SIZE, 71))
#define UNCHANGED_DISK(off, len)					\
	EXPECT_EQ(NO_MISMATCH, disk_check(self->rig.disk, off, off, len, 72))

/* What was submitted is done, and nothing else */
#define DONE_AS_SUBMITTED() do {					\
	if (self->ok == NVME_WRITE) {					\
		UNCHANGED_MEM();					\
		UNCHANGED_DISK(0, AT);					\
		UNCHANGED_DISK(AT + LEN, SIZE - AT - LEN);		\
		EXPECT_EQ(NO_MISMATCH,					\
			  disk_check(self->rig.disk, AT, LEN, LEN / 2, 71)); \
		EXPECT_EQ(NO_MISMATCH,					\
			  disk_check(self->rig.disk, AT + LEN / 2, 0,	\
				     LEN / 2, 71));			\
	} else {							\
		UNCHANGED_DISK(0, SIZE);				\
		EXPECT_EQ(NO_MISMATCH,					\
			  mem_check(&self->rig.mem, LEN, AT, LEN / 2, 72)); \
		EXPECT_EQ(NO_MISMATCH,					\
			  mem_check(&self->rig.mem, 0, AT + LEN / 2,	\
				    LEN / 2, 72));			\
		EXPECT_EQ(NO_MISMATCH,					\
			  mem_check(&self->rig.mem, LEN / 2, LEN / 2,	\
				    LEN / 2, 71));			\
		EXPECT_EQ(NO_MISMATCH,					\
			  mem_check(&self->rig.mem, LEN + LEN / 2,	\
				    LEN + LEN / 2,			\
				    SIZE - LEN - LEN / 2, 71));		\
	}								\
} while (0)

/* The vector of a passthrough command is copied; the SQE changes meanwhile */
TEST_F(toctou, passthrough_vector)
{
	struct rig *rig = &self->rig;
	struct io_uring_sqe *sqe;

	pieces((struct iovec *)self->fill, 0);
	self->flip = true;
	ASSERT_EQ(0, bar_move(&rig->mem, DMA_BUF_BAR_PLACE_B));
	sqe = cdev_prep(&rig->ring, &self->dev, self->ok, NVME_URING_CMD_IO_VEC,
			AT, LEN, (uintptr_t)self->fault.page, 2);
	self->cmd = (void *)sqe->cmd;
	ASSERT_EQ(0, watch(self));
	EXPECT_EQ(0, uring_do(&rig->ring));
	EXPECT_EQ(NULL, watched(self));
	DONE_AS_SUBMITTED();
}

/* The same with a direction that is wrong from the start */
TEST_F(toctou, passthrough_vector_refused)
{
	struct rig *rig = &self->rig;
	struct io_uring_sqe *sqe;

	pieces((struct iovec *)self->fill, 0);
	self->flip = true;
	ASSERT_EQ(0, bar_move(&rig->mem, DMA_BUF_BAR_PLACE_B));
	sqe = cdev_prep(&rig->ring, &self->dev, self->bad, NVME_URING_CMD_IO_VEC,
			AT, LEN, (uintptr_t)self->fault.page, 2);
	self->cmd = (void *)sqe->cmd;
	self->bad = self->ok;
	ASSERT_EQ(0, watch(self));
	EXPECT_EQ(-EFAULT, uring_do(&rig->ring));
	EXPECT_EQ(NULL, watched(self));
	UNCHANGED_MEM();
	UNCHANGED_DISK(0, SIZE);
}

/* Ordinary vectored reads and writes: the vector is copied when it is prepared */
TEST_F(toctou, vectored)
{
	__u8 op = self->ok == NVME_WRITE ? IORING_OP_WRITEV_FIXED :
					   IORING_OP_READV_FIXED;
	struct iovec *iov = (struct iovec *)self->fault.page;
	struct rig *rig = &self->rig;
	struct uring_res res;

	pieces((struct iovec *)self->fill, 0);
	ASSERT_EQ(0, bar_move(&rig->mem, DMA_BUF_BAR_PLACE_B));
	ASSERT_NE(NULL, uring_prep_rw(&rig->ring, op, rig->disk, AT,
				      (uintptr_t)self->fault.page, 2, 0));
	ASSERT_EQ(0, watch(self));
	ASSERT_EQ(1, uring_submit(&rig->ring, 0));
	/* it has been read: now it is ours again */
	EXPECT_EQ(NULL, watched(self));
	if (!(variant->ring_flags & IORING_SETUP_SQPOLL))
		pieces(iov, ELSEWHERE);
	ASSERT_EQ(0, uring_wait(&rig->ring, &res, 60000));
	EXPECT_EQ(LEN, res.res);
	DONE_AS_SUBMITTED();
}

TEST_F(toctou, wrong_direction)
{
	bool write = self->bad == NVME_WRITE;
	struct rig *rig = &self->rig;
	struct iovec iov[2];

	pieces(iov, 0);
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(-EFAULT, uring_rw(&rig->ring, write ?
					    IORING_OP_WRITEV_FIXED :
					    IORING_OP_READV_FIXED, rig->disk, AT,
					    (uintptr_t)iov, 2, 0));
		EXPECT_EQ(-EFAULT, uring_rw(&rig->ring, write ?
					    IORING_OP_WRITE_FIXED :
					    IORING_OP_READ_FIXED, rig->disk, AT,
					    0, LEN, 0));
		EXPECT_EQ(-EFAULT, cdev_io(&rig->ring, &self->dev, self->bad, AT,
					   0, LEN));
		EXPECT_EQ(-EFAULT, cdev_command(&rig->ring, &self->dev, self->bad,
						NVME_URING_CMD_IO_VEC, AT, LEN,
						(uintptr_t)iov, 2));
		/* once more with nothing mapped */
		ASSERT_EQ(0, bar_move(&rig->mem, DMA_BUF_BAR_PLACE_B));
	}
	UNCHANGED_MEM();
	UNCHANGED_DISK(0, SIZE);
}

/* Both ends of a connection through the loopback device */
static int tcp_pair(int *s)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int l = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t len = sizeof(addr);

	s[0] = socket(AF_INET, SOCK_STREAM, 0);
	s[1] = -1;
	if (!bind(l, (struct sockaddr *)&addr, sizeof(addr)) && !listen(l, 1) &&
	    !getsockname(l, (struct sockaddr *)&addr, &len) &&
	    !connect(s[0], (struct sockaddr *)&addr, sizeof(addr)))
		s[1] = accept(l, NULL, NULL);
	close(l);
	return s[1] < 0 ? -errno : 0;
}

/* Message header and vector of a send are copied when it is prepared */
TEST_F(toctou, sendmsg)
{
	struct io_uring_regbuf_desc d = desc_dmabuf(-1, -1);
	struct iovec *iov = (struct iovec *)(self->fill + 256);
	struct msghdr *msg = (struct msghdr *)self->fill;
	struct rig *rig = &self->rig;
	struct io_uring_sqe *sqe;
	struct uring_res res;
	struct mem mem;
	char got[LEN];
	int s[2];

	/* an exporter that has a mapping for the CPU */
	ASSERT_EQ(0, mem_create(&mem, MEM_UDMABUF, SIZE));
	ASSERT_EQ(0, mem_fill(&mem, 0, 0, SIZE, 71));
	d.dmabuf_fd = mem.fd;
	ASSERT_EQ(0, tcp_pair(s));
	d.target_fd = s[0];
	d.flags = variant->flags | IO_REGBUF_DMABUF_COPY_OK;
	/* the loopback device has no DMA: what is sent is copied */
	ASSERT_EQ(0, reg_one(&rig->ring, 1, &d));
	pieces(iov, 0);
	memset(msg, 0, sizeof(*msg));
	msg->msg_iov = (struct iovec *)(self->fault.page + 256);
	msg->msg_iovlen = 2;
	sqe = uring_sqe(&rig->ring);
	sqe->opcode = IORING_OP_SENDMSG_ZC;
	sqe->fd = s[0];
	sqe->addr = (uintptr_t)self->fault.page;
	sqe->len = 1;
	sqe->buf_index = 1;
	sqe->ioprio = IORING_RECVSEND_FIXED_BUF;
	ASSERT_EQ(0, watch(self));
	if (variant->ring_flags & IORING_SETUP_IOPOLL) {
		/* no sends there, whoever reads the header */
		EXPECT_EQ(0, self->fault.page[0]);
		sqe->addr = (uintptr_t)self->fill;
	}
	ASSERT_EQ(1, uring_submit(&rig->ring, 0));
	EXPECT_EQ(NULL, watched(self));
	if (!(variant->ring_flags & IORING_SETUP_SQPOLL))
		pieces((struct iovec *)(self->fault.page + 256), ELSEWHERE);
	ASSERT_EQ(0, uring_wait(&rig->ring, &res, 60000));
	if (variant->ring_flags & IORING_SETUP_IOPOLL) {
		EXPECT_EQ(-EINVAL, res.res);
	} else if (variant->flags & IO_REGBUF_DMABUF_WRONLY) {
		EXPECT_EQ(-EFAULT, res.res);
	} else {
		ASSERT_EQ(LEN, res.res);
		ASSERT_EQ(LEN, recv(s[1], got, LEN, MSG_WAITALL));
		EXPECT_EQ(NO_MISMATCH, pattern_check(got, LEN, LEN / 2, 71));
		EXPECT_EQ(NO_MISMATCH,
			  pattern_check(got + LEN / 2, 0, LEN / 2, 71));
	}
	EXPECT_EQ(NO_MISMATCH, mem_check(&mem, 0, 0, SIZE, 71));
	close(s[0]);
	close(s[1]);
	ASSERT_EQ(0, reg_clear(&rig->ring, 1));
	mem_destroy(&mem);
}

TEST_HARNESS_MAIN
