// SPDX-License-Identifier: GPL-2.0
/*
 * What a failed registration says of why: struct io_uring_regbuf_reason.
 *
 * Slot 0 holds a working registration, which every failure leaves as it was.
 */
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <linux/dma-buf-bar.h>

#include "common.h"
#include "netsock.h"

#define SIZE	(256 * KiB)

FIXTURE(why) {
	struct rig rig;
	struct io_uring_regbuf_desc desc;	/* a good one to spoil */
	struct io_uring_regbuf_reason why;
	int udp;
};

FIXTURE_SETUP(why)
{
	struct rig *rig = &self->rig;

	self->udp = -1;
	RIG_UP(rig, "LAB_NVME_MAIN", MEM_UDMABUF, SIZE, 0);
	self->desc = desc_dmabuf(rig->mem.fd, rig->disk);
	ASSERT_EQ(0, reg_one(&rig->ring, 0, &self->desc));
}

FIXTURE_TEARDOWN(why)
{
	if (self->udp >= 0)
		close(self->udp);
	rig_down(&self->rig);
}

/* One sentence, and nothing behind it */
static bool is_sentence(const char *text, size_t size)
{
	size_t len = strnlen(text, size);

	return len > 10 && len < size && text[len - 1] == '.' &&
	       text[0] >= 'A' && poison_check(text + len, size - len, 0) < 0;
}

#define EXPECT_WHY(err, want_stage, want_target, desc) do {		\
	struct io_uring_regbuf_reason *w_ = &self->why;			\
									\
	EXPECT_EQ(err, reg_why(&self->rig.ring, 0, desc, w_));		\
	EXPECT_EQ(want_stage, w_->stage);				\
	EXPECT_EQ(want_target, w_->target);				\
	EXPECT_EQ(sizeof(*w_), w_->size);				\
	EXPECT_TRUE(is_sentence(w_->text, sizeof(w_->text))) {		\
		TH_LOG("text: %.152s", w_->text);			\
	}								\
	ASSERT_EQ(0, rig_read(&self->rig, self->rig.disk, 0, 0, 0, 4096)); \
} while (0)

/* What is left when no exporter and no limit took part */
#define EXPECT_NOBODY_ELSE() do {					\
	EXPECT_EQ(0, self->why.exporter_errno);				\
	EXPECT_EQ(0, self->why.peer2peer);				\
	EXPECT_EQ(IO_REGBUF_MAP_NONE, self->why.state);			\
	EXPECT_EQ(0, self->why.bytes);					\
	EXPECT_EQ(0, self->why.limit);					\
	EXPECT_STREQ("", self->why.device);				\
} while (0)

TEST_F(why, not_written_on_success)
{
	struct io_uring_regbuf_desc add = desc_add(self->rig.disk);

	ASSERT_EQ(256, sizeof(self->why));
	ASSERT_EQ(0, reg_why(&self->rig.ring, 0, &self->desc, &self->why));
	EXPECT_TRUE(reason_untouched(&self->why));
	ASSERT_EQ(0, reg_why(&self->rig.ring, 0, &add, &self->why));
	EXPECT_TRUE(reason_untouched(&self->why));
	ASSERT_EQ(0, rig_works(&self->rig, self->rig.disk, 0));
}

TEST_F(why, size)
{
	struct {
		struct io_uring_regbuf_reason why;
		char more[64];
	} larger;
	static const __u32 small[] = { 0, 1, 4, 255 };

	for (size_t i = 0; i < ARRAY_SIZE(small); i++) {
		struct io_uring_regbuf_desc d = self->desc;

		memset(&larger, REASON_POISON, sizeof(larger));
		larger.why.size = small[i];
		d.reason = (uintptr_t)&larger;
		/* a good descriptor is refused, and nothing is told of why */
		EXPECT_EQ(-EINVAL, reg_one(&self->rig.ring, 1, &d));
		EXPECT_EQ(small[i], larger.why.size);
		larger.why.size = sizeof(larger.why);
		EXPECT_TRUE(reason_untouched(&larger.why));
	}
	EXPECT_EQ(-EFAULT, uring_read(&self->rig.ring, self->rig.disk, 0, 0,
				      4096, 1));

	/* a later version of it */
	memset(&larger, REASON_POISON, sizeof(larger));
	larger.why.size = sizeof(larger);
	self->desc.flags = 1U << 31;
	self->desc.reason = (uintptr_t)&larger;
	EXPECT_EQ(-EINVAL, reg_one(&self->rig.ring, 1, &self->desc));
	EXPECT_EQ(sizeof(larger.why), larger.why.size);
	EXPECT_EQ(IO_REGBUF_STAGE_DESCRIPTOR, larger.why.stage);
	EXPECT_EQ(NO_MISMATCH, poison_check(larger.more, sizeof(larger.more),
					    REASON_POISON));
}

/* EFAULT, before anything is done with the descriptor, be it good or bad */
TEST_F(why, bad_pointers)
{
	char *map = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct io_uring_regbuf_reason *why;
	__u64 bad[5];

	ASSERT_NE(MAP_FAILED, map);
	why = (void *)map;
	why->size = sizeof(*why);
	ASSERT_EQ(0, mprotect(map, 4096, PROT_READ));
	why = (void *)(map + 2 * 4096 - 128);
	why->size = sizeof(*why);
	ASSERT_EQ(0, munmap(map + 2 * 4096, 4096));
	bad[0] = 8;
	bad[1] = 1ULL << 63;
	bad[2] = ~0ULL - 100;
	bad[3] = (uintptr_t)map;			/* read only */
	bad[4] = (uintptr_t)why;			/* ends in a hole */
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct io_uring_regbuf_desc d = self->desc;

		d.reason = bad[i];
		EXPECT_EQ(-EFAULT, reg_one(&self->rig.ring, 1, &d));
		d.flags = 1U << 31;
		EXPECT_EQ(-EFAULT, reg_one(&self->rig.ring, 1, &d));
	}
	EXPECT_EQ(-EFAULT, uring_read(&self->rig.ring, self->rig.disk, 0, 0,
				      4096, 1));
	EXPECT_EQ(1, bufinfo_attachments(self->rig.mem.fd));
	munmap(map, 2 * 4096);
}

TEST_F(why, other_types_have_none)
{
	struct io_uring_regbuf_desc d = desc_empty();
	char *plain = aligned_alloc(4096, 4096);

	EXPECT_EQ(-EINVAL, reg_why(&self->rig.ring, 1, &d, &self->why));
	EXPECT_TRUE(reason_untouched(&self->why));
	d = desc_uaddr(plain, 4096);
	EXPECT_EQ(-EINVAL, reg_why(&self->rig.ring, 1, &d, &self->why));
	EXPECT_TRUE(reason_untouched(&self->why));
	free(plain);
}

TEST_F(why, descriptor)
{
	struct io_uring_regbuf_desc bad[8], add = desc_add(self->rig.disk);
	char text[sizeof(self->why.text)] = "";

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		bad[i] = self->desc;
	bad[0].flags = 1U << 31;
	bad[1].flags = IO_REGBUF_DMABUF_RDONLY | IO_REGBUF_DMABUF_WRONLY;
	bad[2].__resv[1] = 1;
	bad[3].size = 512;
	bad[4].targets = 4096;
	bad[5].nr_targets = LAB_MAX_TARGETS + 1;
	bad[6].dmabuf_off = SIZE;
	bad[7] = add;
	bad[7].size = 4096;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_WHY(i == 5 ? -E2BIG : -EINVAL, IO_REGBUF_STAGE_DESCRIPTOR,
			   -1, &bad[i]);
		EXPECT_NOBODY_ELSE();
		/* each has its own */
		EXPECT_STRNE(text, self->why.text);
		strcpy(text, self->why.text);
	}
	EXPECT_EQ(-EINVAL, reg_why(&self->rig.ring, 5, &add, &self->why));
	EXPECT_EQ(IO_REGBUF_STAGE_DESCRIPTOR, self->why.stage);
}

TEST_F(why, dmabuf_fd)
{
	self->desc.dmabuf_fd = -1;
	EXPECT_WHY(-EBADF, IO_REGBUF_STAGE_FD, -1, &self->desc);
	EXPECT_NOBODY_ELSE();
	EXPECT_STREQ("", self->why.exporter);
	self->desc.dmabuf_fd = self->rig.disk;
	EXPECT_WHY(-EINVAL, IO_REGBUF_STAGE_FD, -1, &self->desc);
	EXPECT_NOBODY_ELSE();
}

TEST_F(why, access_mode)
{
	struct io_uring_regbuf_desc d = self->desc;
	struct mem ro;

	if (mem_create_bar(&ro, SIZE, DMA_BUF_BAR_RDONLY, 0))
		SKIP(return, "no /dev/dmabuf_bar");
	d.dmabuf_fd = ro.fd;
	d.flags = IO_REGBUF_DMABUF_WRONLY;
	EXPECT_WHY(-EACCES, IO_REGBUF_STAGE_FD, -1, &d);
	EXPECT_NOBODY_ELSE();
	EXPECT_STRNE("", self->why.exporter);
	mem_destroy(&ro);
}

/* Which of the fds it is */
TEST_F(why, target_index)
{
	struct io_uring_regbuf_desc d = self->desc;
	int buffered = open(lab_env("LAB_NVME_MAIN"), O_RDWR | O_CLOEXEC);
	int zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
	int fds[3] = { self->rig.disk, self->rig.disk, self->rig.disk };

	ASSERT_GE(buffered, 0);
	ASSERT_GE(zero, 0);
	d.target_fd = buffered;
	EXPECT_WHY(-EINVAL, IO_REGBUF_STAGE_TARGET, 0, &d);
	EXPECT_NOBODY_ELSE();
	EXPECT_STREQ("udmabuf", self->why.exporter);
	d.target_fd = -1;
	EXPECT_WHY(-EBADF, IO_REGBUF_STAGE_TARGET, -1, &d);
	d = self->desc;
	d.targets = (uintptr_t)fds;
	d.nr_targets = 3;
	for (int i = 0; i < 3; i++) {
		fds[i] = zero;
		EXPECT_WHY(-EOPNOTSUPP, IO_REGBUF_STAGE_TARGET, i + 1, &d);
		fds[i] = -1;
		EXPECT_WHY(-EBADF, IO_REGBUF_STAGE_TARGET, i + 1, &d);
		EXPECT_NOBODY_ELSE();
		fds[i] = self->rig.disk;
	}
	d.targets = 8;
	EXPECT_WHY(-EFAULT, IO_REGBUF_STAGE_TARGET, 1, &d);
	d = desc_add(zero);
	EXPECT_WHY(-EOPNOTSUPP, IO_REGBUF_STAGE_TARGET, 0, &d);
	EXPECT_STREQ("udmabuf", self->why.exporter);
	close(buffered);
	close(zero);
}

TEST_F(why, sockets)
{
	struct sockaddr_in lo = {
		.sin_family = AF_INET,
		.sin_port = htons(9),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	self->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ASSERT_GE(self->udp, 0);
	self->desc.target_fd = self->udp;
	EXPECT_WHY(-ENOTCONN, IO_REGBUF_STAGE_TARGET, 0, &self->desc);
	ASSERT_EQ(0, connect(self->udp, (void *)&lo, sizeof(lo)));
	EXPECT_WHY(-EOPNOTSUPP, IO_REGBUF_STAGE_TARGET, 0, &self->desc);
	EXPECT_NOBODY_ELSE();
}

/* Several fds are one device: the first of them is named */
TEST_F(why, system_memory_and_require_p2p)
{
	int p3 = NEED_PART(3), fds[3] = { self->rig.disk, p3, self->rig.disk };

	self->desc.flags = IO_REGBUF_DMABUF_REQUIRE_P2P;
	EXPECT_WHY(-EREMOTEIO, IO_REGBUF_STAGE_ADDRESS, 0, &self->desc);
	EXPECT_EQ(0, self->why.exporter_errno);
	EXPECT_EQ(1, self->why.peer2peer);
	EXPECT_EQ(IO_REGBUF_MAP_SYSTEM, self->why.state);
	EXPECT_STREQ(NEED_ENV("LAB_PCI_MAIN"), self->why.device);
	EXPECT_STREQ("udmabuf", self->why.exporter);

	self->desc.target_fd = -1;
	self->desc.targets = (uintptr_t)fds;
	self->desc.nr_targets = 3;
	EXPECT_WHY(-EREMOTEIO, IO_REGBUF_STAGE_ADDRESS, 1, &self->desc);
	EXPECT_STREQ(NEED_ENV("LAB_PCI_MAIN"), self->why.device);
	EXPECT_EQ(1, bufinfo_attachments(self->rig.mem.fd));
}

/* The exporter's own errno, of the device that is added and of no other */
TEST_F(why, revoked)
{
	int p3 = NEED_PART(3), fds[3] = { self->rig.disk, self->rig.disk, p3 };
	struct io_uring_regbuf_desc d = self->desc;
	struct mem bar;

	if (mem_create(&bar, MEM_BAR, SIZE))
		SKIP(return, "no /dev/dmabuf_bar");
	ASSERT_EQ(0, reg_dmabuf(&self->rig.ring, 1, bar.fd, self->rig.disk));
	ASSERT_EQ(0, bar_revoke(&bar, true));
	d.dmabuf_fd = bar.fd;
	EXPECT_WHY(-ENODEV, IO_REGBUF_STAGE_MAP, 0, &d);
	EXPECT_EQ(-ENODEV, self->why.exporter_errno);
	EXPECT_EQ(1, self->why.peer2peer);
	EXPECT_STREQ(NEED_ENV("LAB_PCI_MAIN"), self->why.device);

	d = desc_add(-1);
	d.targets = (uintptr_t)fds;
	d.nr_targets = 3;
	EXPECT_EQ(-ENODEV, reg_why(&self->rig.ring, 1, &d, &self->why));
	EXPECT_EQ(IO_REGBUF_STAGE_MAP, self->why.stage);
	EXPECT_EQ(3, self->why.target);
	EXPECT_EQ(-ENODEV, self->why.exporter_errno);
	EXPECT_STREQ(NEED_ENV("LAB_PCI_FS"), self->why.device);
	ASSERT_EQ(0, bar_revoke(&bar, false));
	ASSERT_EQ(0, reg_one(&self->rig.ring, 1, &d));
	mem_destroy(&bar);
}

/* Codes that are the kernel's own business do not get out */
TEST_F(why, exporter_errno)
{
	struct io_uring_regbuf_desc d = self->desc;
	static const int errs[] = { ENOSPC, EPERM, EAGAIN };
	char text[16];
	struct mem bar;

	if (mem_create(&bar, MEM_BAR, SIZE))
		SKIP(return, "no /dev/dmabuf_bar");
	d.dmabuf_fd = bar.fd;
	for (size_t i = 0; i < ARRAY_SIZE(errs); i++) {
		snprintf(text, sizeof(text), "%d", errs[i]);
		ASSERT_EQ(0, file_write("/sys/kernel/debug/dma_buf_bar/fail_map_errno",
					text));
		ASSERT_EQ(0, file_write("/sys/kernel/debug/dma_buf_bar/fail_map_count",
					"1"));
		EXPECT_WHY(errs[i] == EAGAIN ? -EBUSY : -errs[i],
			   IO_REGBUF_STAGE_MAP, 0, &d);
		EXPECT_EQ(-errs[i], self->why.exporter_errno);
	}
	mem_destroy(&bar);
}

/* A child without CAP_IPC_LOCK; its exit status is the line of what is wrong */
static int memlock_child(struct rig *rig)
{
	struct rlimit rl = { .rlim_cur = SIZE / 2, .rlim_max = SIZE / 2 };
	struct io_uring_regbuf_desc d = desc_dmabuf(rig->mem.fd, rig->disk);
	struct io_uring_regbuf_reason why;
	struct uring r;

	if (setrlimit(RLIMIT_MEMLOCK, &rl) || setgid(65534) || setuid(71000))
		return __LINE__;
	if (uring_init(&r, 4, 0) || reg_sparse(&r, 1))
		return __LINE__;
	d.flags = IO_REGBUF_DMABUF_PIN;
	if (reg_why(&r, 0, &d, &why) != -ENOMEM)
		return __LINE__;
	if (why.stage != IO_REGBUF_STAGE_MEMLOCK || why.limit != SIZE / 2)
		return __LINE__;
	/* the ring takes a few pages, too */
	if (why.bytes < SIZE || why.bytes > SIZE + 64 * KiB || why.bytes % 4096)
		return __LINE__;
	if (!strstr(why.text, "RLIMIT_MEMLOCK") || strcmp(why.exporter, "udmabuf"))
		return __LINE__;
	return 0;
}

TEST_F(why, memlock)
{
	int status;
	pid_t pid = fork();

	ASSERT_GE(pid, 0);
	if (!pid) {
		int line = memlock_child(&self->rig);

		if (line)
			fprintf(stderr, "# line %d\n", line);
		_exit(!!line);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(1, bufinfo_attachments(self->rig.mem.fd));
}

/* BUFFERS2 tells it of the descriptor that failed */
TEST_F(why, table)
{
	struct io_uring_regbuf_desc d[3] = { self->desc, self->desc, self->desc };
	struct io_uring_regbuf_reason why[3];

	ASSERT_EQ(0, reg_unregister(&self->rig.ring));
	for (int i = 0; i < 3; i++) {
		memset(&why[i], REASON_POISON, sizeof(why[i]));
		why[i].size = sizeof(why[i]);
		d[i].reason = (uintptr_t)&why[i];
	}
	d[1].flags = IO_REGBUF_DMABUF_REQUIRE_P2P;
	EXPECT_EQ(-EREMOTEIO, reg_table(&self->rig.ring, d, NULL, 3));
	EXPECT_TRUE(reason_untouched(&why[0]));
	EXPECT_EQ(IO_REGBUF_STAGE_ADDRESS, why[1].stage);
	EXPECT_TRUE(reason_untouched(&why[2]));
}

/* --- a socket that leaves by a card --- */

FIXTURE(card) {
	struct netrig net;
	struct net_pair tcp;
};

FIXTURE_SETUP(card)
{
	netrig_init(&self->net);
	self->tcp = NET_PAIR_NONE;
	if (!kernel_has_regbuf())
		SKIP(return, "this kernel has no dma-buf buffers");
	NEED_ENV("LAB_NET_E1000E");
	NETRIG_UP(&self->net, "e1000e", MEM_UDMABUF, SIZE);
	ASSERT_EQ(0, net_tcp(&self->net, AF_INET, &self->tcp));
}

FIXTURE_TEARDOWN(card)
{
	net_close(&self->tcp);
	netrig_down(&self->net);
}

/* Which of two things does not go with the other */
TEST_F(card, write_only)
{
	struct netrig *n = &self->net;
	struct io_uring_regbuf_desc d = desc_dmabuf(n->mem.fd, self->tcp.tx);
	struct io_uring_regbuf_reason why;

	for (int copy = 0; copy < 2; copy++) {
		d.flags = IO_REGBUF_DMABUF_WRONLY |
			  (copy ? IO_REGBUF_DMABUF_COPY_OK : 0);
		EXPECT_EQ(-EACCES, reg_why(&n->ring, 0, &d, &why));
		EXPECT_EQ(IO_REGBUF_STAGE_TARGET, why.stage);
		EXPECT_EQ(0, why.target);
		EXPECT_NE(NULL, strstr(why.text, "WRONLY"));
	}
	EXPECT_EQ(0, bufinfo_attachments(n->mem.fd));
	d.flags = 0;
	EXPECT_EQ(0, reg_why(&n->ring, 0, &d, &why));
	EXPECT_TRUE(reason_untouched(&why));
}

/* The card takes part now, so it is named */
TEST_F(card, require_p2p)
{
	struct netrig *n = &self->net;
	struct io_uring_regbuf_desc d = desc_dmabuf(n->mem.fd, self->tcp.tx);
	struct io_uring_regbuf_reason why;

	d.flags = IO_REGBUF_DMABUF_REQUIRE_P2P;
	EXPECT_EQ(-EREMOTEIO, reg_why(&n->ring, 0, &d, &why));
	EXPECT_EQ(IO_REGBUF_STAGE_ADDRESS, why.stage);
	EXPECT_EQ(IO_REGBUF_MAP_SYSTEM, why.state);
	EXPECT_EQ(0, why.target);
	EXPECT_STREQ(n->pci, why.device);
}

TEST_HARNESS_MAIN
