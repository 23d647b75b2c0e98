// SPDX-License-Identifier: GPL-2.0
/*
 * uring-dmabuf send and recv: every byte arrives, by the sender's CPU none; and whatever
 * becomes of one side, the other one says so, and a name stands for all of a file.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <linux/dma-heap.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "common.h"
#include "files.h"
#include "netio.h"
#include "program.h"

#define SEED	9600
#define PORT	7712
#define LISTEN	"tcp::7712"
#define THERE	"tcp:127.0.0.1:7712"
#define LONG	(40 * MiB)
#define ODD	(9 * MiB + 3584 + 7)

FIXTURE(stream) {
	struct program from, to;
	struct mem mem;
	struct folders f;
};

FIXTURE_SETUP(stream)
{
	self->from.fd = self->to.fd = self->mem.fd = -1;
	ASSERT_EQ(0, folders_make(&self->f, NEED_ENV("LAB_EXT4"), NEED_ENV("LAB_XFS"), "stream"));
}

FIXTURE_TEARDOWN(stream)
{
	program_destroy(&self->from);
	program_destroy(&self->to);
	EXPECT_EQ(0, folders_remove(&self->f));
	if (self->mem.fd >= 0) {
		EXPECT_TRUE(bufinfo_wait(self->mem.fd, 0, 10000));
		mem_destroy(&self->mem);
	}
}

/* Both as they are; one line of a test for each side. 100 * recv's exit code + send's */
static int both(struct program *from, struct program *to)
{
	int ret;

	if (program_start(to))
		return -1;
	ret = program_run(from);
	return 100 * program_end(to) + ret;
}

#define BOTH(want) do {								\
	EXPECT_EQ(want, both(from, to))						\
		TH_LOG("send %d\n%s%srecv %d\n%s%s", from->code, from->out, from->err, \
		       to->code, to->out, to->err);				\
} while (0)

/* Loopback reads no memory, so that sends there have to be copies, and allowed to be */
#define SEND(...) PROGRAM(from, "send", "--json", "--wait", "20", __VA_ARGS__)
#define COPIES "--copy-ok"
#define RECV(...) PROGRAM(to, "recv", "--json", __VA_ARGS__)

TEST_F(stream, files)
{
	static const size_t sizes[] = { ODD, 0, 1, 4096, MiB, LONG };
	static const char *const connections[] = { "1", "5", "16" };
	struct program *from = &self->from, *to = &self->to;

	for (unsigned int i = 0; i < 6; i++) {
		ASSERT_EQ(0, make(self->f.a, sizes[i], SEED + i));
		SEND(COPIES, "-c", connections[i % 3], self->f.a, THERE);
		RECV(LISTEN, self->f.b);
		BOTH(0);
		EXPECT_EQ(0, is(self->f.b, sizes[i], SEED + i));
		EXPECT_EQ(sizes[i], program_said(from, "bytes"));
		EXPECT_EQ(sizes[i], program_said(to, "bytes"));
		EXPECT_EQ(sizes[i], program_said(from, "copied_bytes"));
		EXPECT_EQ(sizes[i], program_said(to, "copied_bytes"));
	}
	/* the last one was there before the next came */
	EXPECT_EQ(1, empty(self->f.dir[1]));
}

TEST_F(stream, by_heap_and_by_ordinary_memory)
{
	struct program *from = &self->from, *to = &self->to;

	ASSERT_EQ(0, make(self->f.a, ODD, SEED + 10));
	SEND(COPIES, "-m", "heap:system", "-c", "3", self->f.a, THERE);
	RECV("-m", "heap:system", LISTEN, self->f.b);
	BOTH(0);
	EXPECT_EQ(0, is(self->f.b, ODD, SEED + 10));
	ASSERT_EQ(1, empty(self->f.dir[1]));

	SEND("--bounce", "-c", "2", self->f.a, THERE);
	RECV("--bounce", LISTEN, self->f.b);
	BOTH(0);
	EXPECT_EQ(0, is(self->f.b, ODD, SEED + 10));
	EXPECT_EQ(ODD, program_said(from, "copied_bytes"));
	EXPECT_EQ(ODD, program_said(to, "copied_bytes"));

	SEND(COPIES, "--no-checksum", self->f.a, THERE);
	RECV(LISTEN, self->f.b);
	BOTH(0);
	EXPECT_EQ(0, is(self->f.b, ODD, SEED + 10));
}

TEST_F(stream, drives_and_memory)
{
	struct program *from = &self->from, *to = &self->to;
	char block[4096] __attribute__((aligned(4096)));
	int disk = NEED_DISK("LAB_NVME_META");
	const char *drive = lab_env("LAB_NVME_META");

	/* from a drive into memory */
	ASSERT_EQ(0, mem_create(&self->mem, MEM_UDMABUF, 2 * MiB));
	ASSERT_EQ(0, mem_poison(&self->mem, 0, 2 * MiB, POISON));
	ASSERT_EQ(0, make(self->f.a, MiB + 5000, SEED + 20));
	to->fd = self->mem.fd;
	SEND(COPIES, "-c", "2", self->f.a, THERE);
	RECV(LISTEN, "fd:9");
	BOTH(0);
	EXPECT_EQ(NO_MISMATCH, mem_check(&self->mem, 0, 0, MiB + 5000, SEED + 20));
	EXPECT_EQ(NO_MISMATCH, mem_check_poison(&self->mem, MiB + 5000, MiB - 5000, POISON));
	to->fd = -1;

	/* from memory to a drive */
	ASSERT_EQ(0, mem_fill(&self->mem, 0, 0, 2 * MiB, SEED + 21));
	from->fd = self->mem.fd;
	SEND(COPIES, "fd:9", THERE);
	RECV(LISTEN, drive);
	BOTH(0);
	EXPECT_EQ(NO_MISMATCH, disk_check(disk, 0, 0, 2 * MiB, SEED + 21));
	from->fd = -1;

	/* the rest of a block that is not the file's stays */
	ASSERT_EQ(0, disk_poison(disk, 0, 2 * MiB, POISON));
	SEND(COPIES, self->f.a, THERE);
	RECV(LISTEN, drive);
	BOTH(0);
	EXPECT_EQ(MiB + 5000, program_said(to, "bytes"));
	EXPECT_EQ(NO_MISMATCH, disk_check(disk, 0, 0, MiB + 4096, SEED + 20));
	ASSERT_EQ(4096, pread(disk, block, 4096, MiB + 4096));
	EXPECT_EQ(NO_MISMATCH, pattern_check(block, MiB + 4096, 904, SEED + 20));
	EXPECT_EQ(NO_MISMATCH, poison_check(block + 904, 4096 - 904, POISON));
	/* and from a drive: all of it */
	SEND(COPIES, "-c", "4", drive, THERE);
	RECV(LISTEN, "/dev/null");
	BOTH(101);
	EXPECT_NE(NULL, strstr(from->err, "the receiver says: /dev/null: no file")) SAID(from);
	close(disk);
}

/* ---- what is wrong ---- */

TEST_F(stream, why_not)
{
	struct program *from = &self->from, *to = &self->to;

	ASSERT_EQ(0, make(self->f.a, ODD, SEED + 30));
	PROGRAM(from, "send", self->f.a);
	WRONG(from, 2, "from where to where");
	PROGRAM(from, "send", self->f.a, THERE, "more");
	WRONG(from, 2, "one source");
	PROGRAM(from, "send", "-c", "17", self->f.a, THERE);
	WRONG(from, 2, "1 to 16");
	PROGRAM(from, "send", "-c", "x", self->f.a, THERE);
	WRONG(from, 2, "1 to 16");
	PROGRAM(to, "recv", LISTEN);
	WRONG(to, 2, "from where to where");
	PROGRAM(from, "send", "/nowhere", THERE);
	WRONG(from, 1, "No such file");
	PROGRAM(from, "send", "/dev/null", THERE);
	WRONG(from, 1, "no file, block device or dma-buf");
	PROGRAM(from, "send", self->f.a, "127.0.0.1:7712");
	WRONG(from, 1, "not tcp:HOST:PORT");
	PROGRAM(from, "send", self->f.a, "tcp::7712");
	WRONG(from, 1, "not tcp:HOST:PORT");
	PROGRAM(to, "recv", "7712", self->f.b);
	WRONG(to, 1, "not tcp:[ADDRESS]:PORT");
	PROGRAM(to, "recv", "tcp:192.0.2.1:7712", self->f.b);
	WRONG(to, 1, "Cannot assign requested address");
	PROGRAM(from, "send", self->f.a, "tcp:127.0.0.1:0");
	WRONG(from, 1, "1 to 65535");
	PROGRAM(from, "send", self->f.a, "tcp:127.0.0.1:65536");
	WRONG(from, 1, "1 to 65535");
	PROGRAM(to, "recv", "tcp::http", self->f.b);
	WRONG(to, 1, "1 to 65535");
	PROGRAM(from, "send", self->f.a, THERE);
	WRONG(from, 1, "start uring-dmabuf recv there");

	/* the receiver's reasons are the sender's */
	SEND(COPIES, self->f.a, THERE);
	RECV(LISTEN, "/nowhere/b");
	BOTH(101);
	EXPECT_NE(NULL, strstr(from->err, "the receiver says: /nowhere/b: No such file")) SAID(from);
	SEND(COPIES, NEED_ENV("LAB_NVME_MAIN"), THERE);
	RECV(LISTEN, self->f.b);
	BOTH(101);
	EXPECT_NE(NULL, strstr(from->err, "No space left")) SAID(from);
	ASSERT_EQ(0, mem_create(&self->mem, MEM_UDMABUF, MiB));
	to->fd = self->mem.fd;
	SEND(COPIES, self->f.a, THERE);
	RECV(LISTEN, "fd:9");
	BOTH(101);
	EXPECT_NE(NULL, strstr(from->err, "has 1048576 bytes")) SAID(from);
	to->fd = -1;

	/* nothing is copied unasked */
	SEND(self->f.a, THERE);
	RECV(LISTEN, self->f.b);
	BOTH(101);
	EXPECT_NE(NULL, strstr(from->err, "--bounce")) SAID(from);
	EXPECT_NE(NULL, strstr(to->err, "the sender has gone")) SAID(to);
	SEND("-m", "host", self->f.a, THERE);
	RECV(LISTEN, self->f.b);
	BOTH(101);
	EXPECT_NE(NULL, strstr(from->err, "host is no dma-buf")) SAID(from);
	EXPECT_EQ(0, empty(self->f.dir[1]));
}

/* What a name stands for before, and after */
TEST_F(stream, names)
{
	struct program *from = &self->from, *to = &self->to;
	char name[400], link[100];
	struct stat st;

	ASSERT_EQ(0, make(self->f.a, 10000, SEED + 31));
	/* the mode is that of what was there */
	ASSERT_EQ(0, make(self->f.b, 5, SEED));
	ASSERT_EQ(0, chmod(self->f.b, 0604));
	SEND(COPIES, self->f.a, THERE);
	RECV(LISTEN, self->f.b);
	BOTH(0);
	EXPECT_EQ(0, is(self->f.b, 10000, SEED + 31));
	ASSERT_EQ(0, stat(self->f.b, &st));
	EXPECT_EQ(0604, st.st_mode & 07777);
	/* as long as there may be, twice: also in the place of what is there */
	snprintf(name, sizeof(name), "%s/%0255d", self->f.dir[1], 0);
	for (int i = 0; i < 2; i++) {
		RECV(LISTEN, name);
		BOTH(0);
		EXPECT_EQ(0, is(name, 10000, SEED + 31));
	}
	EXPECT_EQ(2, empty(self->f.dir[1]));

	/* nothing is sent for a name that cannot be; of a long path the reason is left */
	snprintf(name, sizeof(name), "%s/%0256d", self->f.dir[1], 0);
	RECV(LISTEN, name);
	BOTH(101);
	EXPECT_NE(NULL, strstr(from->err, "0: File name too long")) SAID(from);
	snprintf(name, sizeof(name), "%s/%0150d/b", self->f.dir[1], 0);
	BOTH(101);
	EXPECT_NE(NULL, strstr(from->err, "b: No such file or directory")) SAID(from);
	snprintf(name, sizeof(name), "%s/b/", self->f.dir[1]);
	BOTH(101);
	EXPECT_NE(NULL, strstr(from->err, "no name of a file")) SAID(from);
	snprintf(link, sizeof(link), "%s/link", self->f.dir[1]);
	ASSERT_EQ(0, symlink("nowhere/b", link));
	RECV(LISTEN, link);
	BOTH(101);
	EXPECT_NE(NULL, strstr(from->err, "is a link, and where it leads: No such file")) SAID(from);
	EXPECT_EQ(1, empty(self->f.dir[1]));
}

TEST_F(stream, memory_for_reading_only)
{
	struct dma_heap_allocation_data heap = { .len = MiB, .fd_flags = O_RDONLY | O_CLOEXEC };
	struct program *from = &self->from, *to = &self->to;
	int dev = open("/dev/dma_heap/system", O_RDWR | O_CLOEXEC);

	ASSERT_LE(0, dev);
	ASSERT_EQ(0, ioctl(dev, DMA_HEAP_IOCTL_ALLOC, &heap));
	close(dev);
	ASSERT_EQ(0, make(self->f.a, 10000, SEED + 32));
	to->fd = (int)heap.fd;
	SEND(COPIES, self->f.a, THERE);
	RECV(LISTEN, "fd:9");
	BOTH(101);
	EXPECT_NE(NULL, strstr(from->err, "open for reading only")) SAID(from);
	to->fd = -1;
	close((int)heap.fd);
}

static int no_ring(void)
{
	return program_forbid(__NR_io_uring_setup, -1, EPERM);
}

/* Also for ordinary memory; and nobody is made to connect for it */
TEST_F(stream, ring_is_forbidden)
{
	struct program *from = &self->from, *to = &self->to;

	ASSERT_EQ(0, make(self->f.a, ODD, SEED + 41));
	from->before = to->before = no_ring;
	PROGRAM(from, "send", "--bounce", self->f.a, THERE);
	WRONG(from, 3, "io_uring");
	PROGRAM(to, "recv", "--bounce", LISTEN, self->f.b);
	WRONG(to, 3, "io_uring");
	PROGRAM(to, "cp", "--bounce", self->f.a, self->f.b);
	WRONG(to, 3, "io_uring");
}

static int no_registration(void)
{
	/* as of an older kernel */
	return program_forbid(__NR_io_uring_register, 16, EINVAL) ||
	       program_forbid(__NR_io_uring_register, 35, EINVAL);
}

TEST_F(stream, kernel_without_it)
{
	struct program *from = &self->from, *to = &self->to;

	ASSERT_EQ(0, make(self->f.a, ODD, SEED + 40));
	from->before = to->before = no_registration;
	PROGRAM(from, "send", self->f.a, THERE);
	WRONG(from, 3, "--bounce moves the same");
	PROGRAM(to, "recv", LISTEN, self->f.b);
	WRONG(to, 3, "--bounce moves the same");
	SEND("--bounce", self->f.a, THERE);
	RECV("--bounce", LISTEN, self->f.b);
	BOTH(0);
	EXPECT_EQ(0, is(self->f.b, ODD, SEED + 40));
}

/* ---- the other side, by hand ---- */

struct header {
	char magic[8];
	__u8 session[16];
	__u32 index, connections;
	__u64 size;
	__u32 block, hashed;
	__u64 resv[2];
};

struct reply {
	char magic[8];
	__s32 error;
	__u32 resv;
	char text[112];
};

static int connect_there(void)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	for (int i = 0; i < 200; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (!connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
			return fd;
		close(fd);
		lab_sleep_ms(100);
	}
	return -1;
}

static struct header header(__u64 size)
{
	return (struct header) {
		.magic = { 'u', 'd', 'm', 'a', 'b', 'u', 'f', 'S' }, .connections = htole32(1),
		.size = htole64(size), .block = htole32(MiB), .hashed = htole32(1),
	};
}

/* A sender as far as the beginning; the receiver is ready. Its socket, or -1 */
static int send_header(const struct header *h, struct reply *r)
{
	int fd = connect_there();

	if (fd >= 0 && send(fd, h, sizeof(*h), MSG_NOSIGNAL) == sizeof(*h) &&
	    recv(fd, r, sizeof(*r), MSG_WAITALL) == sizeof(*r))
		return fd;
	close(fd);
	return -1;
}

TEST_F(stream, other_bytes)
{
	struct program *to = &self->to;
	struct header h = header(100);
	char data[100], trailer[24] = "udmabufT";
	struct reply r;
	int fd;

	ASSERT_EQ(0, make(self->f.b, 7, SEED + 50));
	RECV(LISTEN, self->f.b);
	ASSERT_EQ(0, program_start(to));
	fd = send_header(&h, &r);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, r.error);
	ASSERT_EQ(100, send(fd, data, 100, MSG_NOSIGNAL));
	/* a checksum that cannot be */
	ASSERT_EQ(24, send(fd, trailer, 24, MSG_NOSIGNAL));
	ASSERT_EQ(sizeof(r), recv(fd, &r, sizeof(r), MSG_WAITALL));
	EXPECT_EQ(EILSEQ, le32toh(r.error));
	close(fd);
	EXPECT_EQ(4, program_end(to)) SAID(to);
	EXPECT_NE(NULL, strstr(to->err, "do not use")) SAID(to);
	EXPECT_EQ(0, is(self->f.b, 7, SEED + 50));
	EXPECT_EQ(1, empty(self->f.dir[1]));
}

TEST_F(stream, strangers)
{
	struct program *to = &self->to, *from = &self->from;
	struct header h;
	struct reply r;
	int fd;

	ASSERT_EQ(0, make(self->f.a, ODD, SEED + 60));
	RECV(LISTEN, self->f.b);
	ASSERT_EQ(0, program_start(to));
	/* who says nothing, who says something else, and who says what cannot be */
	fd = connect_there();
	ASSERT_LE(0, fd);
	close(fd);
	memset(&h, 'x', sizeof(h));
	fd = send_header(&h, &r);
	ASSERT_LE(0, fd);
	EXPECT_NE(0, r.error);
	close(fd);
#define CANNOT_BE(member, value) do {						\
	h = header(100);							\
	h.member = value;							\
	fd = send_header(&h, &r);						\
	EXPECT_LE(0, fd);							\
	EXPECT_NE(0, r.error);							\
	EXPECT_EQ(0, recv(fd, &r, 1, 0));					\
	close(fd);								\
} while (0)
	CANNOT_BE(connections, 0);
	CANNOT_BE(connections, htole32(17));
	CANNOT_BE(index, htole32(1));
	CANNOT_BE(size, htole64(1ULL << 63));
	CANNOT_BE(block, 0);
	CANNOT_BE(hashed, htole32(2));
	CANNOT_BE(resv[1], 1);
	/* it is still there for the right one */
	SEND(COPIES, "-c", "2", self->f.a, THERE);
	EXPECT_EQ(0, program_run(from)) SAID(from);
	EXPECT_EQ(0, program_end(to)) SAID(to);
	EXPECT_EQ(0, is(self->f.b, ODD, SEED + 60));
}

TEST_F(stream, silent_strangers)
{
	struct program *to = &self->to, *from = &self->from;
	struct header h = header(100);
	struct reply r;
	int fds[5];

	ASSERT_EQ(0, make(self->f.a, ODD, SEED + 61));
	RECV(LISTEN, self->f.b);
	ASSERT_EQ(0, program_start(to));
	/* the last one has begun to say what it is */
	for (int i = 0; i < 5; i++) {
		fds[i] = connect_there();
		ASSERT_LE(0, fds[i]);
	}
	ASSERT_EQ(50, send(fds[4], &h, 50, MSG_NOSIGNAL));
	SEND(COPIES, "-c", "2", self->f.a, THERE);
	EXPECT_EQ(0, program_run(from)) SAID(from);
	EXPECT_EQ(0, program_end(to)) SAID(to);
	EXPECT_EQ(0, is(self->f.b, ODD, SEED + 61));
	for (int i = 0; i < 5; i++) {
		/* nobody has waited for their ten seconds to end: they hear who has come instead */
		EXPECT_EQ(sizeof(r), recv(fds[i], &r, sizeof(r), MSG_WAITALL));
		EXPECT_EQ(EBUSY, le32toh(r.error));
		close(fds[i]);
	}
}

/* As many as are listened to, and more: the sender comes all the same */
TEST_F(stream, many_strangers)
{
	struct program *to = &self->to, *from = &self->from;
	int fds[70];

	ASSERT_EQ(0, make(self->f.a, ODD, SEED + 62));
	RECV(LISTEN, self->f.b);
	ASSERT_EQ(0, program_start(to));
	for (int i = 0; i < 70; i++) {
		fds[i] = connect_there();
		ASSERT_LE(0, fds[i]);
	}
	SEND(COPIES, "-c", "2", self->f.a, THERE);
	EXPECT_EQ(0, program_run(from)) SAID(from);
	EXPECT_EQ(0, program_end(to)) SAID(to);
	EXPECT_EQ(0, is(self->f.b, ODD, SEED + 62));
	for (int i = 0; i < 70; i++)
		close(fds[i]);
}

/* A peer whose machine is no more there is noticed: the sockets are asked to look */
TEST_F(stream, keeps_alive)
{
	struct program *to = &self->to;
	struct header h = header(100);
	struct reply r;
	int fd, pidfd, found = 0;

	RECV(LISTEN, self->f.b);
	ASSERT_EQ(0, program_start(to));
	fd = send_header(&h, &r);
	ASSERT_LE(0, fd);
	pidfd = (int)syscall(__NR_pidfd_open, to->pid, 0);
	ASSERT_LE(0, pidfd);
	for (int i = 3; i < 64; i++) {
		int theirs = (int)syscall(__NR_pidfd_getfd, pidfd, i, 0), on = 0;
		socklen_t len = sizeof(on);
		struct sockaddr_in6 peer;
		socklen_t peer_len = sizeof(peer);

		if (theirs < 0)
			continue;
		if (!getpeername(theirs, (struct sockaddr *)&peer, &peer_len) &&
		    !getsockopt(theirs, SOL_SOCKET, SO_KEEPALIVE, &on, &len)) {
			found++;
			EXPECT_EQ(1, on);
			EXPECT_EQ(0, getsockopt(theirs, IPPROTO_TCP, TCP_KEEPIDLE, &on, &len));
			EXPECT_EQ(10, on);
		}
		close(theirs);
	}
	EXPECT_EQ(1, found);
	close(pidfd);
	close(fd);
	EXPECT_EQ(1, program_end(to)) SAID(to);
}

/* ---- who goes ---- */

/* Before all its connections are there */
TEST_F(stream, sender_that_goes_early)
{
	struct program *to = &self->to;
	struct header h = header(LONG);
	double start;
	int fd;

	h.connections = htole32(2);
	RECV(LISTEN, self->f.b);
	ASSERT_EQ(0, program_start(to));
	fd = connect_there();
	ASSERT_LE(0, fd);
	ASSERT_EQ(sizeof(h), send(fd, &h, sizeof(h), MSG_NOSIGNAL));
	lab_sleep_ms(300);
	start = lab_now();
	close(fd);
	EXPECT_EQ(1, program_end(to)) SAID(to);
	EXPECT_GT(5.0, lab_now() - start);
	EXPECT_NE(NULL, strstr(to->err, "before all its connections")) SAID(to);
}

/* A sender that goes on, whatever it is told: it is not listened to for ever */
TEST_F(stream, sender_that_does_not_stop)
{
	struct program *to = &self->to;
	static char data[MiB];
	struct header h = header(1ULL << 40);
	const struct timeval soon = { .tv_usec = 100000 };
	struct reply r;
	double start;
	int fd;

	ASSERT_EQ(0, mem_create(&self->mem, MEM_UDMABUF, MiB));
	for (int twice = 0; twice < 2; twice++) {
		h.size = htole64(MiB);
		to->fd = self->mem.fd;
		RECV(LISTEN, "fd:9");
		ASSERT_EQ(0, program_start(to));
		fd = send_header(&h, &r);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon)));
		/* so that it is interrupted in the middle */
		ASSERT_EQ(4096, send(fd, data, 4096, MSG_NOSIGNAL));
		ASSERT_EQ(0, kill(to->pid, SIGINT));
		start = lab_now();
		for (double again = start + 0.5; lab_now() - start < 20; ) {
			if (send(fd, data, sizeof(data), MSG_NOSIGNAL) < 0 && errno != EAGAIN)
				break;
			if (twice && lab_now() > again) {
				kill(to->pid, SIGINT);
				again = start + 60;
			}
		}
		EXPECT_GT(twice ? 4.0 : 9.0, lab_now() - start);
		EXPECT_EQ(130, program_end(to)) SAID(to);
		close(fd);
	}
	to->fd = -1;
}

/* As nohup(1) and a shell's background do it */
static int ignore_int(void)
{
	return signal(SIGINT, SIG_IGN) == SIG_ERR;
}

TEST_F(stream, ignored_signals_stay_so)
{
	struct program *to = &self->to, *from = &self->from;
	int fd;

	ASSERT_EQ(0, make(self->f.a, ODD, SEED + 75));
	to->before = ignore_int;
	RECV(LISTEN, self->f.b);
	ASSERT_EQ(0, program_start(to));
	fd = connect_there();
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, kill(to->pid, SIGINT));
	SEND(COPIES, self->f.a, THERE);
	EXPECT_EQ(0, program_run(from)) SAID(from);
	EXPECT_EQ(0, program_end(to)) SAID(to);
	EXPECT_EQ(0, is(self->f.b, ODD, SEED + 75));
	close(fd);
}

TEST_F(stream, sender_that_goes)
{
	struct program *to = &self->to;
	struct header h = header(LONG);
	struct reply r;
	int fd;

	ASSERT_EQ(0, make(self->f.b, 5000, SEED + 70));
	RECV(LISTEN, self->f.b);
	ASSERT_EQ(0, program_start(to));
	fd = send_header(&h, &r);
	ASSERT_LE(0, fd);
	ASSERT_EQ(sizeof(h), send(fd, &h, sizeof(h), MSG_NOSIGNAL));
	close(fd);
	EXPECT_EQ(1, program_end(to)) SAID(to);
	EXPECT_NE(NULL, strstr(to->err, "the sender has gone after 0 of 41943040 bytes")) SAID(to);
	EXPECT_EQ(0, is(self->f.b, 5000, SEED + 70));
	EXPECT_EQ(1, empty(self->f.dir[1]));
}

TEST_F(stream, receiver_is_interrupted)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGKILL };
	struct program *to = &self->to;
	struct header h = header(LONG);
	struct reply r;
	int fd;

	ASSERT_EQ(0, make(self->f.b, 5000, SEED + 71));
	for (int i = 0; i < 3; i++) {
		RECV(LISTEN, self->f.b);
		ASSERT_EQ(0, program_start(to));
		fd = send_header(&h, &r);
		ASSERT_LE(0, fd);
		ASSERT_EQ(sizeof(h), send(fd, &h, sizeof(h), MSG_NOSIGNAL));
		lab_sleep_ms(50);
		ASSERT_EQ(0, kill(to->pid, signals[i]));
		if (signals[i] != SIGKILL) {
			ASSERT_EQ(sizeof(r), recv(fd, &r, sizeof(r), MSG_WAITALL));
			EXPECT_EQ(EINTR, le32toh(r.error));
			EXPECT_STREQ("interrupted", r.text);
		}
		close(fd);
		EXPECT_EQ(signals[i] == SIGKILL ? 128 + SIGKILL : 130, program_end(to)) SAID(to);
		EXPECT_EQ(0, is(self->f.b, 5000, SEED + 71));
	}
	EXPECT_EQ(1, empty(self->f.dir[1]));
}

/* Listens, and takes one connection as far as that it is ready */
static int be_ready(int lsk)
{
	struct reply r = { .magic = { 'u', 'd', 'm', 'a', 'b', 'u', 'f', 'R' } };
	int fd = accept4(lsk, NULL, NULL, SOCK_CLOEXEC);
	struct header h;

	if (recv(fd, &h, sizeof(h), MSG_WAITALL) == sizeof(h) && !memcmp(h.magic, "udmabufS", 8) &&
	    send(fd, &r, sizeof(r), MSG_NOSIGNAL) == sizeof(r))
		return fd;
	close(fd);
	return -1;
}

static int listen_there(void)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	net_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	/* so that much is under way and the peer has not taken it */
	net_set(fd, SOL_SOCKET, SO_RCVBUF, 64 * KiB);
	return bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, 8) ? -1 : fd;
}

TEST_F(stream, sender_is_interrupted)
{
	struct program *from = &self->from;
	int lsk = listen_there(), fd;
	double start;

	ASSERT_LE(0, lsk);
	ASSERT_EQ(0, make(self->f.a, LONG, SEED + 72));
	for (int way = 0; way < 2; way++) {
		SEND(way ? "--bounce" : COPIES, self->f.a, THERE);
		ASSERT_EQ(0, program_start(from));
		fd = be_ready(lsk);
		ASSERT_LE(0, fd);
		/* a peer that reads nothing, and says nothing */
		lab_sleep_ms(500);
		start = lab_now();
		ASSERT_EQ(0, kill(from->pid, SIGINT));
		EXPECT_EQ(130, program_end(from)) SAID(from);
		EXPECT_GT(5.0, lab_now() - start);
		close(fd);
	}
	close(lsk);
}

/* Before there is a connection */
TEST_F(stream, sender_that_waits_is_interrupted)
{
	struct program *from = &self->from;
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int lsk = listen_there(), fds[3];
	double start;

	ASSERT_LE(0, lsk);
	ASSERT_EQ(0, make(self->f.a, 1000, SEED + 76));
	/* nobody answers there: as many wait as may */
	ASSERT_EQ(0, listen(lsk, 0));
	for (int i = 0; i < 3; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		connect(fds[i], (struct sockaddr *)&addr, sizeof(addr));
	}
	for (int i = 0; i < 2; i++) {
		SEND(self->f.a, THERE);
		if (i) {
			/* nor is there a way to it */
			PROGRAM(from, "send", "--json", "--wait", "60", self->f.a, "tcp:192.0.2.1:7712");
		}
		ASSERT_EQ(0, program_start(from));
		/* who waits sees that it does */
		EXPECT_EQ(0, program_wait_for(from, "\"progress\"", 9000));
		start = lab_now();
		ASSERT_EQ(0, kill(from->pid, SIGINT));
		EXPECT_EQ(130, program_end(from)) SAID(from);
		EXPECT_GT(3.0, lab_now() - start);
		EXPECT_STREQ("", from->err);
	}
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	close(lsk);
}

/* It says so while the sender has always something to do */
TEST_F(stream, receiver_that_says_no_and_goes_on)
{
	struct reply r = {
		.magic = { 'u', 'd', 'm', 'a', 'b', 'u', 'f', 'R' }, .error = htole32(ENOSPC),
	};
	struct program *from = &self->from;
	static char data[64 * KiB];
	size_t taken = 0;
	int lsk = listen_there(), fd;
	ssize_t n;

	ASSERT_LE(0, lsk);
	ASSERT_EQ(0, make(self->f.a, LONG, SEED + 77));
	SEND(COPIES, self->f.a, THERE);
	ASSERT_EQ(0, program_start(from));
	fd = be_ready(lsk);
	ASSERT_LE(0, fd);
	while ((n = recv(fd, data, sizeof(data), 0)) > 0) {
		if (taken < MiB && taken + (size_t)n >= MiB)
			ASSERT_EQ(sizeof(r), send(fd, &r, sizeof(r), MSG_NOSIGNAL));
		taken += (size_t)n;
		lab_sleep_ms(6);
	}
	EXPECT_EQ(1, program_end(from)) SAID(from);
	/* of an errno alone there is a text, too */
	EXPECT_NE(NULL, strstr(from->err, "the receiver says: No space left")) SAID(from);
	EXPECT_GT(LONG / 2, taken);
	close(fd);
	close(lsk);
}

/* By another connection than the one that has to answer first */
TEST_F(stream, receiver_that_says_no_elsewhere)
{
	struct reply r = {
		.magic = { 'u', 'd', 'm', 'a', 'b', 'u', 'f', 'R' }, .error = htole32(EINTR),
	};
	struct program *from = &self->from;
	int lsk = listen_there(), fds[2];
	static char data[MiB + 24];

	ASSERT_LE(0, lsk);
	ASSERT_EQ(0, make(self->f.a, 2 * MiB, SEED + 78));
	SEND(COPIES, "-c", "2", self->f.a, THERE);
	ASSERT_EQ(0, program_start(from));
	for (int i = 0; i < 2; i++) {
		fds[i] = be_ready(lsk);
		ASSERT_LE(0, fds[i]);
	}
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(sizeof(data), recv(fds[i], data, sizeof(data), MSG_WAITALL));
	ASSERT_EQ(sizeof(r), send(fds[1], &r, sizeof(r), MSG_NOSIGNAL));
	EXPECT_EQ(1, program_end(from)) SAID(from);
	EXPECT_NE(NULL, strstr(from->err, "the receiver says: Interrupted system call")) SAID(from);
	for (int i = 0; i < 2; i++)
		close(fds[i]);
	close(lsk);
}

/* A connection to a port of this machine may become one to itself */
TEST_F(stream, nobody_but_itself)
{
	const char *path = "/proc/sys/net/ipv4/ip_local_port_range";
	struct program *from = &self->from;
	char was[40] = "";
	int fd = open(path, O_RDWR | O_CLOEXEC);

	ASSERT_LE(0, fd);
	ASSERT_LT(0, read(fd, was, sizeof(was) - 1));
	ASSERT_EQ(9, pwrite(fd, "7712 7713", 9, 0));
	ASSERT_EQ(0, make(self->f.a, 1000, SEED + 79));
	for (int i = 0; i < 4; i++) {
		PROGRAM(from, "send", self->f.a, THERE);
		EXPECT_EQ(1, program_run(from)) SAID(from);
		EXPECT_NE(NULL, strstr(from->err, "start uring-dmabuf recv there")) SAID(from);
	}
	ASSERT_EQ((ssize_t)strlen(was), pwrite(fd, was, strlen(was), 0));
	close(fd);
}

TEST_F(stream, receiver_that_goes)
{
	struct reply r = { .magic = { 'u', 'd', 'm', 'a', 'b', 'u', 'f', 'R' }, .text = "no more\033" };
	struct program *from = &self->from;
	char end[2];
	int lsk = listen_there(), fd;

	ASSERT_LE(0, lsk);
	ASSERT_EQ(0, make(self->f.a, LONG, SEED + 73));
	/* without a word, in the middle */
	SEND(COPIES, self->f.a, THERE);
	ASSERT_EQ(0, program_start(from));
	fd = be_ready(lsk);
	ASSERT_LE(0, fd);
	lab_sleep_ms(200);
	close(fd);
	EXPECT_EQ(1, program_end(from)) SAID(from);
	EXPECT_NE(NULL, strstr(from->err, "the receiver has")) SAID(from);

	/* it says why; nothing of it does anything to a terminal */
	r.error = htole32(ENOSPC);
	ASSERT_EQ(0, program_start(from));
	fd = be_ready(lsk);
	ASSERT_LE(0, fd);
	lab_sleep_ms(200);
	ASSERT_EQ(sizeof(r), send(fd, &r, sizeof(r), MSG_NOSIGNAL));
	EXPECT_EQ(1, program_end(from)) SAID(from);
	EXPECT_NE(NULL, strstr(from->err, "the receiver says: no more?")) SAID(from);
	close(fd);

	/* and that it got other bytes than were sent */
	ASSERT_EQ(0, make(self->f.a, 2, SEED + 74));
	r.error = htole32(EILSEQ);
	ASSERT_EQ(0, program_start(from));
	fd = be_ready(lsk);
	ASSERT_LE(0, fd);
	ASSERT_EQ(2, recv(fd, end, 2, MSG_WAITALL));
	ASSERT_EQ(sizeof(r), send(fd, &r, sizeof(r), MSG_NOSIGNAL));
	EXPECT_EQ(4, program_end(from)) SAID(from);
	close(fd);

	/* who listens there is something else */
	ASSERT_EQ(0, program_start(from));
	fd = accept4(lsk, NULL, NULL, SOCK_CLOEXEC);
	memset(&r, '<', sizeof(r));
	ASSERT_EQ(sizeof(r), send(fd, &r, sizeof(r), MSG_NOSIGNAL));
	EXPECT_EQ(1, program_end(from)) SAID(from);
	EXPECT_NE(NULL, strstr(from->err, "no uring-dmabuf recv")) SAID(from);
	close(fd);
	close(lsk);
}

/* A host has several addresses; nobody listens at its first one */
TEST_F(stream, any_address)
{
	struct program *from = &self->from, *to = &self->to;

	ASSERT_EQ(0, make(self->f.a, ODD, SEED + 80));
	SEND(COPIES, self->f.a, "tcp:localhost:7712");
	RECV("tcp:127.0.0.1:7712", self->f.b);
	BOTH(0);
	EXPECT_EQ(0, is(self->f.b, ODD, SEED + 80));
	SEND(COPIES, self->f.a, "tcp:[::1]:7712");
	RECV(LISTEN, self->f.b);
	BOTH(0);
	SEND(COPIES, self->f.a, THERE);
	RECV(LISTEN, self->f.b);
	BOTH(0);
}

TEST_F(stream, json_schema)
{
	struct program *from = &self->from, *to = &self->to;
	const char *schema = getenv("URING_DMABUF_SCHEMA");

	if (!schema)
		SKIP(return, "URING_DMABUF_SCHEMA does not say where it is");
	ASSERT_EQ(0, make(self->f.a, 1000, SEED + 90));
	SEND(COPIES, self->f.a, THERE);
	RECV(LISTEN, self->f.b);
	BOTH(0);
	EXPECT_EQ(0, program_validate(from, schema, "cp.json")) SAID(from);
	EXPECT_EQ(0, program_validate(to, schema, "cp.json")) SAID(to);
}

/* ---- over a card ---- */

static int peer_ns;

static int at_the_peer(void)
{
	return net_ns_enter(peer_ns);
}

TEST(card)
{
	struct program from_ = { .fd = -1 }, to_ = { .fd = -1, .before = at_the_peer };
	struct program *from = &from_, *to = &to_;
	char a[80], b[80], address[64];
	struct netrig rig;

	snprintf(a, sizeof(a), "%s/stream-a", NEED_ENV("LAB_EXT4"));
	snprintf(b, sizeof(b), "%s/stream-b", NEED_ENV("LAB_XFS"));
	netrig_init(&rig);
	NETRIG_UP(&rig, "e1000e", MEM_UDMABUF, 0);
	peer_ns = rig.ns[NET_PEER];
	ASSERT_EQ(0, make(a, ODD, SEED + 100));
	snprintf(address, sizeof(address), "tcp:10.73.%u.2:7712", rig.net);
	/* of contiguous memory: see net_mem() */
	SEND("-m", "heap:default_cma_region", "-c", "3", a, address);
	RECV(LISTEN, b);
	BOTH(0);
	EXPECT_EQ(0, is(b, ODD, SEED + 100));
	EXPECT_EQ(ODD, program_said(from, "bytes"));
	/* what the project is for */
	EXPECT_EQ(0, program_said(from, "copied_bytes"));
	program_free(from);
	program_free(to);
	unlink(a);
	unlink(b);
	netrig_down(&rig);
}

TEST_HARNESS_MAIN
