// SPDX-License-Identifier: GPL-2.0
/*
 * uring-dmabuf check: what it says of a pair is what happens with it; it says why, and
 * what it touches is as before.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <linux/dma-buf-bar.h>
#include <linux/dma-heap.h>
#include <linux/ethtool.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "common.h"
#include "fileattr.h"
#include "files.h"
#include "flavour.h"
#include "netio.h"
#include "program.h"
#include "verdict.h"

#define MOVED	(1 * MiB)	/* by default */
#define SEED	9300
#define FD9	"fd:9"

static const char *map_state_name(__u32 state)
{
	return state == IO_REGBUF_MAP_SYSTEM ? "system" :
	       state == IO_REGBUF_MAP_P2P_BUS ? "p2p-bus" :
	       state == IO_REGBUF_MAP_P2P_HOST ? "p2p-host" : "unexpected";
}

FIXTURE(check) {
	struct program p;
	struct mem mem;
	char path[96];
};

FIXTURE_SETUP(check)
{
	self->p.fd = -1;
	self->mem.fd = -1;
	NEED_ENV("LAB_NVME_MAIN");
}

FIXTURE_TEARDOWN(check)
{
	if (self->mem.fd >= 0) {
		/* whatever was said: nothing of it is left */
		EXPECT_TRUE(bufinfo_wait(self->mem.fd, 0, 10000));
		mem_destroy(&self->mem);
	}
	if (self->path[0])
		unlink(self->path);
	program_free(&self->p);
}

#define GIVE(kind, size) do {						\
	ASSERT_EQ(0, mem_create(&self->mem, kind, size));		\
	self->p.fd = self->mem.fd;					\
} while (0)

/* ---- what works ---- */

/* Where it reads and writes, and what is around that */
static int middle_fill(int disk, __u64 middle)
{
	return disk_fill(disk, middle - 2 * MOVED, 4 * MOVED, SEED);
}

TEST_F(check, drives_and_files)
{
	struct program *p = &self->p;
	int disk = NEED_DISK("LAB_NVME_MAIN");
	__u64 middle = lseek(disk, 0, SEEK_END) / 2;

	snprintf(self->path, sizeof(self->path), "%sp3", NEED_ENV("LAB_NVME_FS"));
	ASSERT_EQ(0, middle_fill(disk, middle));
	PROGRAM(p, "check", "--json", "--write", "-m", "udmabuf", "-m", "heap:system",
		lab_env("LAB_NVME_MAIN"), self->path, NEED_ENV("LAB_NVME_MP"),
		NEED_ENV("LAB_EXT4"), NEED_ENV("LAB_XFS"));
	EXPECT_EQ(0, program_run(p)) SAID(p);
	ASSERT_EQ(10, nr_pairs(p));
	for (size_t i = 0; i < 10; i++) {
		EXPECT_OUTCOMES(p, i, "works", "works", "works", "-");
		EXPECT_WORD(p, i, "memory", i < 5 ? "udmabuf" : "heap:system");
		EXPECT_WORD(p, i, "target", p->argv[7 + i % 5]);
		EXPECT_WORD(p, i, "compared", "cpu");
		EXPECT_WORD(p, i, "text", "");
		EXPECT_EQ(2 * MOVED, json_integer_value(json_object_get(pair(p, i), "bytes")));
		EXPECT_STREQ("system", mapping(p, i, "state"));
	}
	EXPECT_STREQ(lab_env("LAB_PCI_MAIN"), mapping(p, 0, "device"));
	EXPECT_STREQ(lab_env("LAB_PCI_FS"), mapping(p, 4, "device"));
	/* what was there has been put back */
	EXPECT_EQ(NO_MISMATCH, disk_check(disk, middle - 2 * MOVED, middle - 2 * MOVED,
					  4 * MOVED, SEED));
	close(disk);
	self->path[0] = '\0';
}

/* Without being asked it writes to nothing that was there before */
TEST_F(check, writes_only_when_asked)
{
	struct program *p = &self->p;
	char filter[64];
	struct counter c;
	struct stat st;

	/* of this drive alone: file systems on others write when they like */
	ASSERT_EQ(0, stat(lab_env("LAB_NVME_MAIN"), &st));
	snprintf(filter, sizeof(filter), "rwbs ~ \"*W*\" && dev == %u",
		 major(st.st_rdev) << 20 | minor(st.st_rdev));
	ASSERT_EQ(0, counter_open(&c, "check"));
	ASSERT_EQ(0, counter_add(&c, "block/block_rq_issue", filter));
	PROGRAM(p, "check", "--json", "-m", "udmabuf", lab_env("LAB_NVME_MAIN"));
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_OUTCOMES(p, 0, "works", "works", "-", "-");
	EXPECT_EQ(0, counter_read(&c));
	PROGRAM(p, "check", "--json", "--write", "-m", "udmabuf", lab_env("LAB_NVME_MAIN"));
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_LT(0, counter_read(&c));
	counter_close(&c);
}

TEST_F(check, all_that_there_is)
{
	struct program *p = &self->p;

	PROGRAM(p, "check", "--json");
	EXPECT_EQ(1, program_run(p)) SAID(p);
	ASSERT_LE(16, nr_pairs(p));
	for (size_t i = 0; i < nr_pairs(p); i++) {
		const char *target = word(pair(p, i), "target"), *reason = "";

		if (!strcmp(target, NEED_ENV("LAB_NVME_PI")))
			reason = "protection-information";
		if (!strcmp(target, NEED_ENV("LAB_VIRTIO_PHYSICAL")))
			reason = "no-dma-api";
		EXPECT_WORD(p, i, "verdict", *reason ? "refused" : "works");
		EXPECT_STREQ(reason, failure(p, i, "reason"));
	}
}

TEST_F(check, table)
{
	struct program *p = &self->p;

	PROGRAM(p, "check", "-m", "udmabuf", NEED_ENV("LAB_EXT4"), "/nowhere");
	EXPECT_EQ(1, program_run(p));
	EXPECT_NE(NULL, strstr(p->out, "MEMORY")) SAID(p);
	EXPECT_NE(NULL, strstr(p->out, " works ")) SAID(p);
	EXPECT_NE(NULL, strstr(p->out, "udmabuf, /nowhere: cannot-open (target): /nowhere: No such"))
		SAID(p);
	EXPECT_STREQ("", p->err);
}

/* ---- exporters as they are ---- */

TEST_F(check, flavours)
{
	bool is_switch = lab_is("LAB_TOPO", "switch");
	struct program *p = &self->p;

	PROGRAM(p, "check", "--json", "--write", "-m", FD9, lab_env("LAB_NVME_MAIN"));
	for (unsigned int i = 0; i < nr_flavours; i++) {
		const struct flavour *f = &flavours[i];

		ASSERT_EQ(0, flavour_create(&self->mem, f));
		p->fd = self->mem.fd;
		EXPECT_EQ(f->drive ? 1 : 0, program_run(p)) SAID(p);
		EXPECT_EQ(f->drive, failure_errno(p, 0)) TH_LOG("%s", f->name);
		if (f->drive) {
			EXPECT_WORD(p, 0, "verdict", "refused");
		} else {
			EXPECT_OUTCOMES(p, 0, "works", "works", "works", "-");
			EXPECT_WORD(p, 0, "compared", "round-trip");
			EXPECT_STREQ(map_state_name(flavour_state(f, is_switch)),
				     mapping(p, 0, "state")) TH_LOG("%s", f->name);
		}
		EXPECT_TRUE(bufinfo_wait(self->mem.fd, 0, 10000));
		mem_destroy(&self->mem);
		self->mem.fd = -1;
	}
}

/* A drive that may not be written, and memory that cannot be looked at */
TEST_F(check, not_seen)
{
	struct program *p = &self->p;

	GIVE(MEM_BAR, MOVED);
	PROGRAM(p, "check", "--json", "-m", FD9, lab_env("LAB_NVME_MAIN"));
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_OUTCOMES(p, 0, "registers", "-", "-", "-");
	EXPECT_NE(NULL, strstr(word(pair(p, 0), "text"), "--write")) SAID(p);
	PROGRAM(p, "check", "--json", "-m", FD9, NEED_ENV("LAB_EXT4"));
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_OUTCOMES(p, 0, "works", "works", "works", "-");
}

/* ---- bytes that are not there ---- */

static int spoiled(void)
{
	return setenv("LD_PRELOAD", program_sibling("spoil.so"), 1);
}

TEST_F(check, bytes_that_do_not_arrive)
{
	struct program *p = &self->p;

	GIVE(MEM_UDMABUF, MOVED);
	p->before = spoiled;
	PROGRAM(p, "check", "--json", "-m", FD9, NEED_ENV("LAB_EXT4"));
	EXPECT_REASON(p, 4, "bytes-do-not-arrive", "1 of 1048576 bytes");
	EXPECT_OUTCOMES(p, 0, "wrong", "wrong", "-", "-");
	EXPECT_NE(NULL, strstr(word(pair(p, 0), "text"), "the first at 12345")) SAID(p);
}

/* ---- why not ---- */

TEST_F(check, usage)
{
	struct program *p = &self->p;

	PROGRAM(p, "nonsense");
	EXPECT_EQ(2, program_run(p));
	EXPECT_NE(NULL, strstr(p->err, "nonsense: no such command")) SAID(p);
	PROGRAM(p, "check", "--nonsense");
	EXPECT_EQ(2, program_run(p)) SAID(p);
	PROGRAM(p, "check", "--size=5000");
	EXPECT_EQ(2, program_run(p)) SAID(p);
	EXPECT_NE(NULL, strstr(p->err, "4096")) SAID(p);
	PROGRAM(p, "check", "--timeout=x");
	EXPECT_EQ(2, program_run(p)) SAID(p);
	PROGRAM(p, "--help");
	EXPECT_EQ(0, program_run(p));
	EXPECT_NE(NULL, strstr(p->out, "check")) SAID(p);
}

#define UDMABUF_LIMIT	"/sys/module/udmabuf/parameters/size_limit_mb"

TEST_F(check, memories)
{
	struct program *p = &self->p;
	char limit[16];

	PROGRAM(p, "check", "--json", "-m", "heap:nowhere", NEED_ENV("LAB_EXT4"));
	EXPECT_REASON(p, 1, "no-such-memory", "there are");
	ASSERT_EQ(0, file_read(UDMABUF_LIMIT, limit, sizeof(limit)));
	ASSERT_EQ(0, file_write(UDMABUF_LIMIT, "64"));
	PROGRAM(p, "check", "--json", "-m", "udmabuf", "-s", "128M", lab_env("LAB_NVME_MAIN"));
	EXPECT_REASON(p, 1, "no-such-memory", "size_limit_mb");
	ASSERT_EQ(0, file_write(UDMABUF_LIMIT, limit));
	PROGRAM(p, "check", "--json", "-m", FD9, NEED_ENV("LAB_EXT4"));
	EXPECT_REASON(p, 1, "no-such-memory", "not open");
	p->fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	EXPECT_REASON(p, 1, "no-such-memory", "no dma-buf");
	close(p->fd);
}

/* @mode: O_RDONLY, O_WRONLY */
static int heap_alloc(struct mem *m, int mode)
{
	struct dma_heap_allocation_data alloc = {
		.len = MOVED, .fd_flags = mode | O_CLOEXEC,
	};
	int heap = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);

	if (heap < 0 || ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &alloc))
		return -errno;
	close(heap);
	mem_wrap(m, alloc.fd, MOVED, NULL);
	return 0;
}

TEST_F(check, read_only_fd)
{
	struct program *p = &self->p;

	ASSERT_EQ(0, heap_alloc(&self->mem, O_RDONLY));
	p->fd = self->mem.fd;
	PROGRAM(p, "check", "--json", "-m", FD9, NEED_ENV("LAB_EXT4"));
	EXPECT_REASON(p, 1, "fd-read-only", "DRM_RDWR");
	EXPECT_EQ(-EACCES, failure_errno(p, 0));
}

TEST_F(check, exporters_that_refuse)
{
	struct program *p = &self->p;

	PROGRAM(p, "check", "--json", "-p", "-m", "udmabuf", NEED_ENV("LAB_EXT4"));
	EXPECT_REASON(p, 1, "no-p2p-route", "PCIe switch");
	GIVE(MEM_BAR, MOVED);
	ASSERT_EQ(0, bar_revoke(&self->mem, true));
	PROGRAM(p, "check", "--json", "-m", FD9, NEED_ENV("LAB_EXT4"));
	EXPECT_REASON(p, 1, "revoked", "a new dma-buf");
}

/* Held, mounted, too small, no drive behind it, written never */
TEST_F(check, targets)
{
	struct program *p = &self->p;
	char held[64];
	int fd;

	snprintf(held, sizeof(held), "%sp1", NEED_ENV("LAB_NVME_FS"));
	PROGRAM(p, "check", "--json", "-w", "-m", "udmabuf", held);
	EXPECT_REASON(p, 1, "held", "lsblk");
	/* to be read is harmless */
	PROGRAM(p, "check", "--json", "-m", "udmabuf", held);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_OUTCOMES(p, 0, "works", "works", "-", "-");
	PROGRAM(p, "check", "--json", "-w", "-m", "udmabuf", lab_env("LAB_NVME_FS"));
	EXPECT_REASON(p, 1, "held", "not written to");

	PROGRAM(p, "check", "--json", "-m", "udmabuf", "/nowhere");
	EXPECT_REASON(p, 1, "cannot-open", "No such file");
	PROGRAM(p, "check", "--json", "-m", "udmabuf", "/dev/null");
	EXPECT_REASON(p, 1, "cannot-open", "no block device, file or directory");
	PROGRAM(p, "check", "--json", "-m", "udmabuf", "/tmp");
	EXPECT_REASON(p, 1, "file-system", "ext4 and XFS");
	PROGRAM(p, "check", "--json", "-m", "udmabuf", "/proc");
	EXPECT_EQ(1, program_run(p)) SAID(p);

	snprintf(self->path, sizeof(self->path), "%s/check", NEED_ENV("LAB_EXT4"));
	fd = open(self->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	PROGRAM(p, "check", "--json", "-m", "udmabuf", self->path);
	EXPECT_REASON(p, 1, "too-small", "8192");
	ASSERT_EQ(0, ftruncate(fd, MOVED));
	EXPECT_REASON(p, 1, "hole", "write it first");
	close(fd);

	/* a file system of 256 MiB */
	PROGRAM(p, "check", "--json", "-m", "heap:system", "-s", "256M", lab_env("LAB_EXT4"));
	EXPECT_REASON(p, 1, "no-space", "--size");
}

TEST_F(check, files_that_the_cpu_has_to_see)
{
	struct program *p = &self->p;
	char dir[64];
	int fd;

	snprintf(dir, sizeof(dir), "%s/secret", NEED_ENV("LAB_EXT4"));
	ASSERT_EQ(0, mkdir(dir, 0700));
	EXPECT_EQ(0, file_encrypt_dir(dir));
	PROGRAM(p, "check", "--json", "-m", "udmabuf", dir);
	EXPECT_REASON(p, 1, "encrypted", "another one");
	rmdir(dir);

	snprintf(self->path, sizeof(self->path), "%s/verity", lab_env("LAB_EXT4"));
	fd = open(self->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_EQ(0, disk_fill(fd, 0, MOVED, SEED));
	close(fd);
	EXPECT_EQ(0, file_enable_verity(self->path));
	PROGRAM(p, "check", "--json", "-m", "udmabuf", self->path);
	EXPECT_REASON(p, 1, "verity", "another one");
}

TEST_F(check, loop)
{
	struct program *p = &self->p;
	char path[32];
	int fd = lab_loop(path, sizeof(path));

	if (fd == -ENOENT)
		SKIP(return, "no loop driver");
	ASSERT_LE(0, fd);
	PROGRAM(p, "check", "--json", "-m", "udmabuf", path);
	EXPECT_REASON(p, 1, "loop", "the file behind it");
	ioctl(fd, LOOP_CLR_FD);
	close(fd);
}

/* What is made of drives, or is none on PCIe: each by its own name */
TEST_F(check, stacked)
{
	const char *main = lab_env("LAB_NVME_MAIN"), *other = NEED_ENV("LAB_NVME_MP");
	struct program *p = &self->p;

	ASSERT_EQ(0, shell("dmsetup create check --table '0 65536 mirror core 2 1024 nosync "
			   "2 %s 0 %s 0' >&2", main, other));
	PROGRAM(p, "check", "--json", "-m", "udmabuf", "/dev/dm-0");
	EXPECT_REASON(p, 1, "device-mapper", "linear and striped ones do");
	EXPECT_EQ(0, shell("dmsetup remove check >&2", NULL, NULL));

	ASSERT_EQ(0, shell("mdadm --build /dev/md7 --level=1 --raid-devices=2 %s %s >&2", main, other));
	PROGRAM(p, "check", "--json", "-m", "udmabuf", "/dev/md7");
	EXPECT_REASON(p, 1, "md", "RAID0 does");
	/* and its members are in use */
	PROGRAM(p, "check", "--json", "--write", "-m", "udmabuf", main);
	EXPECT_REASON(p, 1, "held", "lsblk");
	EXPECT_EQ(0, shell("mdadm --stop /dev/md7 >&2", NULL, NULL));

	PROGRAM(p, "check", "--json", "-m", "udmabuf", "/dev/nullb0");
	EXPECT_REASON(p, 1, "block-driver", "NVMe on PCIe does");
}

/* A file system on memory: DAX, where there is no drive at all */
TEST_F(check, dax)
{
	const char *pmem = NEED_ENV("LAB_PMEM");
	struct program *p = &self->p;
	char dir[] = "/mnt/check-dax";

	ASSERT_EQ(0, mkdir(dir, 0700));
	EXPECT_EQ(0, shell("mkfs.ext4 -q -F -b 4096 -O ^has_journal %s >&2 && "
			   "mount -t ext4 -o dax=always %s /mnt/check-dax", pmem, pmem));
	PROGRAM(p, "check", "--json", "-m", "udmabuf", dir);
	EXPECT_REASON(p, 1, "dax", "another one");
	EXPECT_EQ(0, shell("umount /mnt/check-dax", NULL, NULL));
	rmdir(dir);
}

/* ---- a process that may not ---- */

static int little_memlock(void)
{
	const struct rlimit limit = { 64 * KiB, 64 * KiB };

	return prctl(PR_CAPBSET_DROP, 14 /* CAP_IPC_LOCK */, 0, 0, 0) ?:
	       setrlimit(RLIMIT_MEMLOCK, &limit);
}

static int no_register(void)
{
	return program_forbid(__NR_io_uring_register, -1, EPERM);
}

static int no_setup(void)
{
	return program_forbid(__NR_io_uring_setup, -1, ENOSYS);
}

/* A profile that was made when io_uring was two calls */
static int no_enter(void)
{
	return program_forbid(__NR_io_uring_enter, -1, EPERM);
}

/* What a kernel says that does not know the call */
static int old_kernel(void)
{
	return program_forbid(__NR_io_uring_register, -1, EINVAL);
}

TEST_F(check, process_and_kernel)
{
	struct program *p = &self->p;

	PROGRAM(p, "check", "--json", "-P", "-m", "udmabuf", NEED_ENV("LAB_EXT4"));
	p->before = little_memlock;
	EXPECT_REASON(p, 1, "memlock", "ulimit -l 10");
	p->before = no_register;
	EXPECT_REASON(p, 3, "seccomp", "profile");
	p->before = no_setup;
	EXPECT_REASON(p, 3, "seccomp", "profile");
	p->before = no_enter;
	EXPECT_REASON(p, 3, "seccomp", "profile");
	p->before = old_kernel;
	EXPECT_REASON(p, 3, "no-kernel-support", "make deb");
	EXPECT_EQ(0, json_boolean_value(json_object_get(json_object_get(p->json, "kernel"),
							"registers_dmabufs")));
	p->before = NULL;
	ASSERT_EQ(0, file_write("/proc/sys/kernel/io_uring_disabled", "2"));
	EXPECT_REASON(p, 3, "io_uring-disabled", "io_uring_disabled=0");
	ASSERT_EQ(0, file_write("/proc/sys/kernel/io_uring_disabled", "0"));
	EXPECT_EQ(0, program_run(p)) SAID(p);
}

TEST_F(check, bounced)
{
	struct program *p = &self->p;

	if (!lab_is("LAB_IOMMU", "bounce"))
		SKIP(return, "DMA is not bounced here");
	/* more than that, and it is the exporter that cannot map it */
	PROGRAM(p, "check", "--json", "-s", "128K", "-m", "udmabuf", NEED_ENV("LAB_EXT4"));
	EXPECT_REASON(p, 1, "bounce-buffers", "swiotlb");
}

/* ---- its JSON ---- */

TEST_F(check, json_schema)
{
	const char *schema = getenv("URING_DMABUF_SCHEMA");
	struct program *p = &self->p;

	if (!schema)
		SKIP(return, "URING_DMABUF_SCHEMA does not say where it is");
	/* works, registers, refused, each with and without a mapping */
	GIVE(MEM_BAR, MOVED);
	PROGRAM(p, "check", "--json", "-m", "udmabuf", "-m", FD9, NEED_ENV("LAB_EXT4"),
		lab_env("LAB_NVME_MAIN"), NEED_ENV("LAB_NVME_PI"), "/nowhere");
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_EQ(0, program_validate(p, schema, "check.json")) SAID(p);
}

/* ---- a card ---- */

/* Sends back what comes, for all who connect */
struct echo {
	int lsk;
	size_t limit;		/* closes the connection after so much; 0: never */
	bool mute;		/* sends nothing back */
	pthread_t thread;
	char spec[64];		/* tcp:HOST:PORT */
};

static void echo_one(struct echo *e, int fd)
{
	static char buf[65536];
	size_t all = 0;
	ssize_t n;

	while ((!e->limit || all < e->limit) &&
	       (n = net_recv_again(fd, buf, sizeof(buf), 0)) > 0) {
		all += n;
		if (e->mute)
			shutdown(fd, SHUT_WR);
		else if (send(fd, buf, n, MSG_NOSIGNAL) != n)
			break;
	}
	close(fd);
}

static void *echo_all(void *arg)
{
	struct echo *e = arg;
	int fd;

	while ((fd = accept(e->lsk, NULL, NULL)) >= 0)
		echo_one(e, fd);
	return NULL;
}

static int echo_start(struct echo *e, const struct netrig *n)
{
	struct sockaddr_in in;
	socklen_t len = sizeof(in);

	e->lsk = net_listen(n, AF_INET);
	if (e->lsk < 0 || getsockname(e->lsk, (struct sockaddr *)&in, &len))
		return -errno;
	snprintf(e->spec, sizeof(e->spec), "tcp:10.73.%u.2:%u", n->net, ntohs(in.sin_port));
	return -pthread_create(&e->thread, NULL, echo_all, e);
}

static void echo_stop(struct echo *e)
{
	shutdown(e->lsk, SHUT_RDWR);
	pthread_join(e->thread, NULL);
	close(e->lsk);
}

FIXTURE(card) {
	struct netrig net;
	struct program p;
	struct echo echo;
	char name[32];
};

FIXTURE_VARIANT(card) {
	const char *driver;
};

FIXTURE_VARIANT_ADD(card, e1000e) { "e1000e" };
FIXTURE_VARIANT_ADD(card, vmxnet3) { "vmxnet3" };

FIXTURE_SETUP(card)
{
	self->p.fd = -1;
	NETRIG_UP(&self->net, variant->driver, MEM_BAR, MOVED);
	snprintf(self->name, sizeof(self->name), "net:%s", self->net.dev[NET_CARD]);
}

FIXTURE_TEARDOWN(card)
{
	program_free(&self->p);
	netrig_down(&self->net);
}

TEST_F(card, works)
{
	struct program *p = &self->p;

	ASSERT_EQ(0, echo_start(&self->echo, &self->net));
	PROGRAM(p, "check", "--json", "-m", "heap:system", self->name, self->echo.spec);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_OUTCOMES(p, 0, "registers", "-", "-", "-");
	EXPECT_OUTCOMES(p, 1, "works", "-", "-", "works");
	EXPECT_EQ(MOVED, json_integer_value(json_object_get(pair(p, 1), "bytes")));
	EXPECT_STREQ(self->net.pci, mapping(p, 0, "device"));
	EXPECT_STREQ(self->net.pci, mapping(p, 1, "device"));
	echo_stop(&self->echo);
}

TEST_F(card, flavours)
{
	bool is_switch = lab_is("LAB_TOPO", "net");
	struct program *p = &self->p;

	PROGRAM(p, "check", "--json", "-m", FD9, self->name);
	for (unsigned int i = 0; i < nr_flavours; i++) {
		const struct flavour *f = &flavours[i];
		struct mem mem;

		ASSERT_EQ(0, flavour_create(&mem, f));
		p->fd = mem.fd;
		EXPECT_EQ(f->socket ? 1 : 0, program_run(p)) SAID(p);
		EXPECT_EQ(f->socket, failure_errno(p, 0)) TH_LOG("%s", f->name);
		EXPECT_STREQ(!f->socket ? "" :
			     f->socket == -EINVAL ? "cannot-pin" : "exporter-refuses",
			     failure(p, 0, "reason")) SAID(p);
		EXPECT_WORD(p, 0, "verdict", f->socket ? "refused" : "registers");
		if (!f->socket)
			EXPECT_STREQ(map_state_name(flavour_state(f, is_switch)),
				     mapping(p, 0, "state")) TH_LOG("%s", f->name);
		EXPECT_TRUE(bufinfo_wait(mem.fd, 0, 10000));
		mem_destroy(&mem);
	}
}

/* What cannot be written can be sent as it is */
TEST_F(card, read_only_fd)
{
	struct program *p = &self->p;
	struct mem mem = { .fd = -1 };

	ASSERT_EQ(0, heap_alloc(&mem, O_RDONLY));
	p->fd = mem.fd;
	ASSERT_EQ(0, echo_start(&self->echo, &self->net));
	PROGRAM(p, "check", "--json", "-m", FD9, self->echo.spec);
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_OUTCOMES(p, 0, "works", "-", "-", "works");
	echo_stop(&self->echo);
	mem_destroy(&mem);
}

TEST_F(card, why_not)
{
	struct program *p = &self->p;

	PROGRAM(p, "check", "--json", "-m", "udmabuf", "net:lo");
	EXPECT_REASON(p, 1, "no-card", "lo is no card");
	PROGRAM(p, "check", "--json", "-m", "udmabuf", "net:nowhere");
	EXPECT_REASON(p, 1, "cannot-open", "ip link");
	PROGRAM(p, "check", "--json", "-m", "udmabuf", "tcp:127.0.0.1:9");
	EXPECT_REASON(p, 1, "cannot-connect", "socat");
	PROGRAM(p, "check", "--json", "-m", "udmabuf", "tcp:nonsense");
	EXPECT_REASON(p, 1, "cannot-open", "HOST:PORT");
	ASSERT_EQ(0, net_feature(&self->net, ETHTOOL_SSG, false));
	PROGRAM(p, "check", "--json", "-m", "heap:system", self->name);
	EXPECT_REASON(p, 1, "card-offloads", "ethtool -k");
	ASSERT_EQ(0, echo_start(&self->echo, &self->net));
	PROGRAM(p, "check", "--json", "-m", "heap:system", self->echo.spec);
	EXPECT_REASON(p, 1, "card-offloads", "ethtool -k");
	echo_stop(&self->echo);
	ASSERT_EQ(0, net_feature(&self->net, ETHTOOL_SSG, true));
}

static int peer_ns;

/* Where the peer is, with the sysfs that shows it */
static int to_peer(void)
{
	return net_ns_enter(peer_ns) || unshare(CLONE_NEWNS) ||
	       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	       mount("check", "/sys", "sysfs", 0, NULL);
}

/* A driver that cannot do it */
TEST_F(card, without_support)
{
	struct program *p = &self->p;

	snprintf(self->name, sizeof(self->name), "net:%s", self->net.dev[NET_PEER]);
	PROGRAM(p, "check", "--json", "-m", "udmabuf", self->name);
	peer_ns = self->net.ns[NET_PEER];
	p->before = to_peer;
	EXPECT_REASON(p, 1, "card", "Its driver has to support");
}

TEST_F(card, peer_that_is_silent)
{
	struct program *p = &self->p;

	self->echo.mute = true;
	ASSERT_EQ(0, echo_start(&self->echo, &self->net));
	PROGRAM(p, "check", "--json", "-m", "heap:system", self->echo.spec);
	EXPECT_REASON(p, 1, "no-echo", "is it an echo server?");
	EXPECT_OUTCOMES(p, 0, "refused", "-", "-", "refused");
	echo_stop(&self->echo);
}

/* What may only be written cannot be sent */
TEST_F(card, write_only_fd)
{
	struct program *p = &self->p;
	struct mem mem = { .fd = -1 };

	ASSERT_EQ(0, heap_alloc(&mem, O_WRONLY));
	p->fd = mem.fd;
	PROGRAM(p, "check", "--json", "-m", FD9, self->name);
	EXPECT_REASON(p, 1, "target", "can only be written");
	EXPECT_EQ(-EACCES, failure_errno(p, 0));
	mem_destroy(&mem);
}

TEST_F(card, peer_that_goes)
{
	struct program *p = &self->p;

	self->echo.limit = 100000;
	ASSERT_EQ(0, echo_start(&self->echo, &self->net));
	PROGRAM(p, "check", "--json", "-m", "heap:system", self->echo.spec);
	EXPECT_EQ(1, program_run(p)) SAID(p);
	EXPECT_OUTCOMES(p, 0, "refused", "-", "-", "refused");
	EXPECT_NE(NULL, strstr(word(pair(p, 0), "text"), self->echo.spec)) SAID(p);
	echo_stop(&self->echo);
}

TEST_HARNESS_MAIN
