// SPDX-License-Identifier: GPL-2.0
/*
 * uring-dmabuf check: the words for why a pair does not work that check.c does not come to.
 * Most of them are provoked. What no machine of the lab has is shown to the program: a drive
 * by its files in sysfs, a refusal of the kernel by one who stands for it.
 *
 * Wants a machine of its own: it takes drives away.
 */
#include <fcntl.h>
#include <glob.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include <linux/dma-buf-bar.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "common.h"
#include "files.h"
#include "nvme.h"
#include "verdict.h"
#include "uring-dmabuf.h"

#define MOVED	(1 * MiB)	/* by default */
#define SEED	9400
#define FD9	"fd:9"

FIXTURE(reasons) {
	struct program p;
	struct mem mem;
	char path[96], dir[64];
	char away[2][64];	/* PCI addresses of controllers that are to come back */
};

FIXTURE_SETUP(reasons)
{
	self->p.fd = -1;
	self->mem.fd = -1;
	NEED_ENV("LAB_NVME_MAIN");
}

FIXTURE_TEARDOWN(reasons)
{
	for (int i = 0; i < 2; i++)
		if (self->away[i][0])
			nvme_bind(self->away[i]);
	program_destroy(&self->p);
	if (self->mem.fd >= 0) {
		EXPECT_TRUE(bufinfo_wait(self->mem.fd, 0, 20000));
		mem_destroy(&self->mem);
	}
	if (self->path[0])
		unlink(self->path);
	if (self->dir[0]) {
		umount(self->dir);
		EXPECT_EQ(0, rmdir(self->dir));
	}
}

#define GIVE(kind) do {							\
	ASSERT_EQ(0, mem_create(&self->mem, kind, MOVED));		\
	self->p.fd = self->mem.fd;					\
} while (0)

/* ---- what is set before the program starts, which takes no arguments ---- */

static const char *preload[4];

static int with(const char *library, const char *name, const char *value)
{
	return setenv("LD_PRELOAD", program_sibling(library), 1) || setenv(name, value, 1);
}

/* @preload: a library, then names and values for it */
static int preloaded(void)
{
	return with(preload[0], preload[1], preload[2]) ||
	       (preload[3] && setenv("ANSWER_ERRNO", preload[3], 1));
}

#define MEANWHILE(p, what) do {						\
	preload[0] = "meanwhile.so";					\
	preload[1] = "MEANWHILE";					\
	preload[2] = what;						\
	preload[3] = NULL;						\
	(p)->before = preloaded;					\
} while (0)

#define ANSWER(p, name, value, err) do {				\
	preload[0] = "answer.so";					\
	preload[1] = name;						\
	preload[2] = value;						\
	preload[3] = err;						\
	(p)->before = preloaded;					\
} while (0)

/* ---- files ---- */

/* The data of its files is on another device than the one that the file system is on */
TEST_F(reasons, realtime)
{
	const char *data = lab_env("LAB_NVME_MAIN"), *rt = NEED_ENV("LAB_NVME_MP");
	struct program *p = &self->p;
	char options[80];

	ASSERT_EQ(0, shell("mkfs.xfs -q -f -d rtinherit=1 -r rtdev=%s %s >&2", rt, data));
	strcpy(self->dir, "/mnt/reasons-rt");
	ASSERT_EQ(0, mkdir(self->dir, 0700));
	snprintf(options, sizeof(options), "rtdev=%s", rt);
	ASSERT_EQ(0, mount(data, self->dir, "xfs", 0, options));
	PROGRAM(p, "check", "--json", "-m", "udmabuf", self->dir);
	EXPECT_REASON(p, 1, "realtime", "on its data device");
	snprintf(self->path, sizeof(self->path), "%s/file", self->dir);
	ASSERT_EQ(0, make(self->path, MOVED, SEED));
	PROGRAM(p, "check", "--json", "-m", "udmabuf", self->path);
	EXPECT_REASON(p, 1, "realtime", "on its data device");
}

/*
 * Registered before the file gets a data journal, and then with it; ext4 has none as long as
 * it allocates late
 */
TEST_F(reasons, data_journal)
{
	const char *disk = NEED_ENV("LAB_NVME_MP");
	struct program *p = &self->p;
	char journal[120];

	ASSERT_EQ(0, shell("mkfs.ext4 -q -F -b 4096 %s >&2", disk, NULL));
	strcpy(self->dir, "/mnt/reasons-ext4");
	ASSERT_EQ(0, mkdir(self->dir, 0700));
	ASSERT_EQ(0, mount(disk, self->dir, "ext4", 0, "nodelalloc"));
	snprintf(self->path, sizeof(self->path), "%s/file", self->dir);
	ASSERT_EQ(0, make(self->path, MOVED, SEED));
	PROGRAM(p, "check", "--json", "-m", "udmabuf", self->path);
	/* from the first request on */
	snprintf(journal, sizeof(journal), "+j %s", self->path);
	MEANWHILE(p, journal);
	EXPECT_REASON(p, 1, "buffered", "its file system wanted to copy it");
	EXPECT_EQ(-EFAULT, failure_errno(p, 0));
	EXPECT_OUTCOMES(p, 0, "refused", "refused", "-", "-");
	p->before = NULL;
	EXPECT_REASON(p, 1, "buffered", "without a data journal");
	EXPECT_EQ(-EOPNOTSUPP, failure_errno(p, 0));
	/* a wish that ext4 keeps in mind; file systems that fulfil it are not here */
	ASSERT_EQ(0, shell("chattr +c %s", self->path, NULL));
	EXPECT_REASON(p, 1, "compressed", "another one");
	ASSERT_EQ(0, shell("chattr -cj %s", self->path, NULL));
	EXPECT_EQ(0, program_run(p)) SAID(p);
}

/* The bytes that were written can be registered, and are looked at by somebody else */
TEST_F(reasons, page_cache)
{
	struct program *p = &self->p;

	PROGRAM(p, "check", "--json", "-m", "udmabuf", NEED_ENV("LAB_EXT4"));
	ANSWER(p, "ANSWER_RESULT", "16", NULL);
	EXPECT_REASON(p, 1, "page-cache", "has it mapped");
	EXPECT_EQ(-EBUSY, failure_errno(p, 0));
}

TEST_F(reasons, not_direct)
{
	struct program *p = &self->p;

	PROGRAM(p, "check", "--json", "-m", "udmabuf", "/proc/version");
	EXPECT_REASON(p, 1, "not-direct", "no O_DIRECT");
}

static int small_files(void)
{
	const struct rlimit limit = { 64 * KiB, 64 * KiB };

	/* it is told by an errno, too */
	return signal(SIGXFSZ, SIG_IGN) == SIG_ERR || setrlimit(RLIMIT_FSIZE, &limit);
}

TEST_F(reasons, cannot_write)
{
	struct program *p = &self->p;

	PROGRAM(p, "check", "--json", "-m", "heap:system", NEED_ENV("LAB_EXT4"));
	p->before = small_files;
	EXPECT_REASON(p, 1, "cannot-write", "File too large");
}

/* ---- drives that fail ---- */

#define INJECT	"/sys/kernel/debug/fail_make_request/"

/* Each request for @disk fails, or each second one */
static int requests_fail(const char *disk, const char *interval)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/block/%s/make-it-fail", strrchr(disk, '/') + 1);
	return file_write(INJECT "verbose", "0") ?:
	       file_write(INJECT "times", "-1") ?:
	       file_write(INJECT "interval", interval ?: "1") ?:
	       file_write(INJECT "probability", interval ? "100" : "0") ?:
	       file_write(path, interval ? "1" : "0");
}

TEST_F(reasons, io_errors)
{
	const char *disk = lab_env("LAB_NVME_MAIN");
	struct program *p = &self->p;

	PROGRAM(p, "check", "--json", "-s", "4K", "-m", "udmabuf", disk);
	ASSERT_EQ(0, requests_fail(disk, "1"));
	EXPECT_REASON(p, 1, "cannot-read", "into ordinary memory either");
	EXPECT_OUTCOMES(p, 0, "refused", "-", "-", "-");
	/* what is read first, into ordinary memory, is as it should be */
	ASSERT_EQ(0, requests_fail(disk, "2"));
	EXPECT_REASON(p, 1, "io-error", "Input/output error");
	EXPECT_OUTCOMES(p, 0, "refused", "refused", "-", "-");
	ASSERT_EQ(0, requests_fail(disk, NULL));
	EXPECT_EQ(0, program_run(p)) SAID(p);
}

/* How long a multipath head without paths stays */
static int stays(const char *head, const char *seconds)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/block/%s/delayed_removal_secs", strrchr(head, '/') + 1);
	return file_write(path, seconds);
}

TEST_F(reasons, no_path)
{
	const char *head = NEED_ENV("LAB_NVME_MP");
	struct program *p = &self->p;
	char pci[2][64];

	for (int i = 0; i < 2; i++)
		ASSERT_TRUE(nvme_shared_pci(i, pci[i], sizeof(pci[i])));
	ASSERT_EQ(0, stays(head, "60"));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, nvme_unbind(pci[i]));
		strcpy(self->away[i], pci[i]);
	}
	PROGRAM(p, "check", "--json", "-m", "udmabuf", head);
	EXPECT_REASON(p, 1, "no-path", "has no path now");
	EXPECT_EQ(-ENXIO, failure_errno(p, 0));
	EXPECT_OUTCOMES(p, 0, "refused", "-", "-", "-");
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, nvme_bind(pci[i]));
		self->away[i][0] = '\0';
	}
	ASSERT_TRUE(nvme_wait_paths(2));
	EXPECT_EQ(0, program_run(p)) SAID(p);
	ASSERT_EQ(0, stays(head, "0"));
}

/* While it is registered, or later */
TEST_F(reasons, device_gone)
{
	const char *pci = NEED_ENV("LAB_PCI_MAIN"), *disk = lab_env("LAB_NVME_MAIN");
	struct program *p = &self->p;
	int fd;

	GIVE(MEM_BAR);
	PROGRAM(p, "check", "--json", "-m", FD9, disk);
	ASSERT_EQ(0, bar_fence(&self->mem, 1));
	ASSERT_EQ(0, program_start(p));
	/* it waits for the exporter, or is about to */
	ASSERT_TRUE(bufinfo_wait(self->mem.fd, 1, 10000));
	ASSERT_EQ(0, nvme_unbind(pci));
	strcpy(self->away[0], pci);
	ASSERT_EQ(0, bar_fence(&self->mem, 0));
	program_end(p);
	EXPECT_REFUSED(p, 1, "device-gone", "is gone or going");
	EXPECT_STREQ("register", failure(p, 0, "step")) SAID(p);
	EXPECT_NE(NULL, strstr(word(pair(p, 0), "text"), pci)) SAID(p);
	ASSERT_EQ(0, nvme_bind(pci));
	self->away[0][0] = '\0';
	fd = nvme_wait_disk(pci);
	ASSERT_LE(0, fd);
	close(fd);
	/* it has its name again */
	fd = lab_open(disk);
	ASSERT_LE(0, fd);
	close(fd);

	PROGRAM(p, "check", "--json", "-m", FD9, NEED_ENV("LAB_EXT4"));
	MEANWHILE(p, "revoke");
	EXPECT_REASON(p, 1, "device-gone", "the memory was revoked");
	EXPECT_STREQ("read", failure(p, 0, "step")) SAID(p);
}

/* ---- memory that goes, or stays away ---- */

TEST_F(reasons, timeout)
{
	struct program *p = &self->p;

	GIVE(MEM_BAR);
	PROGRAM(p, "check", "--json", "-t", "1", "-m", FD9, NEED_ENV("LAB_EXT4"));
	MEANWHILE(p, "fence");
	ASSERT_EQ(0, program_start(p));
	/* its end waits for the request */
	EXPECT_EQ(0, program_wait_for(p, "\"timeout\"", 9000));
	EXPECT_EQ(0, bar_fence(&self->mem, 0));
	program_end(p);
	EXPECT_REFUSED(p, 1, "timeout", "did not end in time");
	EXPECT_OUTCOMES(p, 0, "refused", "refused", "refused", "-");
}

TEST_F(reasons, moved_away)
{
	struct program *p = &self->p;

	GIVE(MEM_BAR);
	PROGRAM(p, "check", "--json", "-p", "-m", FD9, NEED_ENV("LAB_EXT4"));
	MEANWHILE(p, "move");
	EXPECT_REASON(p, 1, "no-p2p-route", "has moved to where");
	EXPECT_STREQ("read", failure(p, 0, "step")) SAID(p);
}

/*
 * A GPU that sleeps, of amdgpu, lets nobody be its peer: it is as if there was no way to it.
 * Its memory goes to the system then, or is refused if that is not good enough.
 */
TEST_F(reasons, gpu_asleep)
{
	struct program *p = &self->p;

	ASSERT_EQ(0, mem_create_bar(&self->mem, MOVED, DMA_BUF_BAR_UNREACHABLE, 0));
	p->fd = self->mem.fd;
	PROGRAM(p, "check", "--json", "-m", FD9, NEED_ENV("LAB_EXT4"));
	EXPECT_EQ(0, program_run(p)) SAID(p);
	EXPECT_STREQ("system", mapping(p, 0, "state")) SAID(p);
	PROGRAM(p, "check", "--json", "-p", "-m", FD9, lab_env("LAB_EXT4"));
	EXPECT_REASON(p, 1, "no-p2p-route", "leave out REQUIRE_P2P");
}

/* Memory of a GPU that is behind the part of it that the bus sees: of xe */
TEST_F(reasons, small_bar)
{
	struct program *p = &self->p;

	GIVE(MEM_BAR);
	ASSERT_EQ(0, file_write("/sys/kernel/debug/dma_buf_bar/fail_map_errno", "95"));
	ASSERT_EQ(0, file_write("/sys/kernel/debug/dma_buf_bar/fail_map_count", "1"));
	PROGRAM(p, "check", "--json", "-m", FD9, NEED_ENV("LAB_EXT4"));
	EXPECT_REASON(p, 1, "exporter-refuses", ": Operation not supported)");
	EXPECT_EQ(0, program_run(p)) SAID(p);
}

/* It may look at it, and not write to it */
TEST_F(reasons, no_cpu_access)
{
	struct program *p = &self->p;

	PROGRAM(p, "check", "--json", "-m", "udmabuf", NEED_ENV("LAB_EXT4"));
	ANSWER(p, "ANSWER_CPU", "1", NULL);
	EXPECT_REASON(p, 1, "no-cpu-access", "refuses the CPU: Operation not permitted");
}

/* ---- a process that may not have it ---- */

static int little_memory(void)
{
	const struct rlimit limit = { 256 * MiB, 256 * MiB };

	return setrlimit(RLIMIT_AS, &limit);
}

static int no_ring(void)
{
	return program_forbid(__NR_io_uring_setup, -1, ENOMEM);
}

TEST_F(reasons, process)
{
	struct program *p = &self->p;

	PROGRAM(p, "check", "--json", "-s", "128M", "-m", "heap:system", lab_env("LAB_NVME_MAIN"));
	p->before = little_memory;
	EXPECT_REASON(p, 1, "no-memory", "268435456 bytes of ordinary memory");
	p->before = no_ring;
	EXPECT_REASON(p, 3, "no-ring", "Cannot allocate memory");
}

/* Whichever it is that there is no memory for, it is not the device's fault */
TEST_F(reasons, allocations)
{
	struct program *p = &self->p;
	unsigned int failed = 0;
	char nth[8];

	ASSERT_EQ(0, file_write("/sys/kernel/debug/failslab/ignore-gfp-wait", "N"));
	ASSERT_EQ(0, file_write("/sys/kernel/debug/failslab/verbose", "0"));
	GIVE(MEM_UDMABUF);
	PROGRAM(p, "check", "--json", "-m", FD9, NEED_ENV("LAB_EXT4"));
	ANSWER(p, "ANSWER_NTH", nth, NULL);
	for (unsigned int i = 1; i <= 24; i++) {
		const char *reason;

		snprintf(nth, sizeof(nth), "%u", i);
		if (!program_run(p))
			continue;
		reason = failure(p, 0, "reason");
		EXPECT_TRUE(!strcmp(reason, "no-memory") ||
			    !strcmp(reason, "exporter-refuses")) SAID(p);
		EXPECT_EQ(-ENOMEM, failure_errno(p, 0)) SAID(p);
		failed += !strcmp(reason, "no-memory");
	}
	EXPECT_LT(2, failed);
	EXPECT_EQ(0, file_write("/sys/kernel/debug/failslab/ignore-gfp-wait", "Y"));
	EXPECT_EQ(0, file_write("/sys/kernel/debug/failslab/verbose", "2"));
}

/* ---- drives that are not here, by their files in sysfs ---- */

#define OTHER	"/dev/nullb0"
#define SYSFS	"/sys/block/nullb0"

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ssize_t n = write(fd, text, strlen(text));

	close(fd);
	return n < 0;
}

/* The directory of a disk, for the program alone */
static int own_sysfs(void)
{
	return unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	       mount("reasons", SYSFS, "tmpfs", 0, NULL);
}

static int is_zoned(void)
{
	return own_sysfs() || mkdir(SYSFS "/queue", 0700) ||
	       put(SYSFS "/queue/zoned", "host-managed\n");
}

static int over_tcp(void)
{
	return own_sysfs() || mkdir(SYSFS "/device", 0700) ||
	       put(SYSFS "/device/transport", "tcp\n");
}

/* A multipath head, whose device is the subsystem: that has the controllers */
static int head_over_tcp(void)
{
	return own_sysfs() || mkdir(SYSFS "/device", 0700) ||
	       mkdir(SYSFS "/device/nvme3", 0700) || mkdir(SYSFS "/device/nvme4", 0700) ||
	       put(SYSFS "/device/nvme3/transport", "pcie\n") ||
	       put(SYSFS "/device/nvme4/transport", "tcp\n");
}

/* As containers have it */
static int no_sysfs(void)
{
	return unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	       mount("reasons", "/sys/dev", "tmpfs", 0, NULL);
}

TEST_F(reasons, drives_of_others)
{
	struct program *p = &self->p;

	PROGRAM(p, "check", "--json", "-m", "udmabuf", OTHER);
	p->before = is_zoned;
	EXPECT_REASON(p, 1, "zoned", "on a zoned drive");
	p->before = over_tcp;
	EXPECT_REASON(p, 1, "fabrics", "an NVMe drive over tcp");
	p->before = head_over_tcp;
	EXPECT_REASON(p, 1, "fabrics", "an NVMe drive over tcp");
	p->before = no_sysfs;
	EXPECT_REASON(p, 1, "no-drive", "no drive is behind");
	p->before = NULL;
	EXPECT_REASON(p, 1, "block-driver", "NVMe on PCIe does");
}

/* ---- cards ---- */

/* What is above a card */
TEST_F(reasons, cards)
{
	struct program *p = &self->p;
	char name[48];
	glob_t found;

	if (file_write("/sys/bus/netdevsim/new_device", "94 1"))
		SKIP(return, "no netdevsim");
	ASSERT_EQ(0, glob("/sys/bus/netdevsim/devices/netdevsim94/net/*", 0, NULL, &found));
	snprintf(name, sizeof(name), "%.40s", strrchr(found.gl_pathv[0], '/') + 1);
	globfree(&found);
	ASSERT_EQ(0, shell("ip link add link %s name check-vlan type vlan id 5 && "
			   "ip link add check-bond type bond", name, NULL));
	PROGRAM(p, "check", "--json", "-m", "udmabuf", "net:check-vlan");
	EXPECT_REASON(p, 1, "no-card", "check-vlan is no card");
	PROGRAM(p, "check", "--json", "-m", "udmabuf", "net:check-bond");
	EXPECT_REASON(p, 1, "no-card", "check-bond is no card");
	EXPECT_EQ(0, shell("ip link del check-vlan; ip link del check-bond", NULL, NULL));
	EXPECT_EQ(0, file_write("/sys/bus/netdevsim/del_device", "94"));
}

/* ---- what the kernel says, and nothing here makes it say ---- */

TEST_F(reasons, words)
{
	static const struct {
		unsigned int stage;
		int err;
		const char *reason;
	} words[] = {
		{ IO_URING_DMABUF_STAGE_DESCRIPTOR, EINVAL, "bad-argument" },
		{ IO_URING_DMABUF_STAGE_FD, EBADF, "fd-not-open" },
		{ IO_URING_DMABUF_STAGE_FD, EINVAL, "no-dma-buf" },
		{ IO_URING_DMABUF_STAGE_TARGET, ENOTCONN, "not-connected" },
		{ IO_URING_DMABUF_STAGE_TARGET, ENODEV, "device-gone" },
		{ IO_URING_DMABUF_STAGE_TARGET, E2BIG, "too-many-devices" },
		{ IO_URING_DMABUF_STAGE_TARGET, EACCES, "target" },
		{ IO_URING_DMABUF_STAGE_DEVICE, E2BIG, "too-many-devices" },
		{ IO_URING_DMABUF_STAGE_DEVICE, EOPNOTSUPP, "device-cannot" },
		{ IO_URING_DMABUF_STAGE_FENCE, EIO, "fence" },
		{ IO_URING_DMABUF_STAGE_ADDRESS, EINVAL, "addresses" },
		{ IO_URING_DMABUF_STAGE_TABLE, EINVAL, "not-whole-pages" },
		{ IO_URING_DMABUF_STAGE_TABLE, EFBIG, "too-fragmented" },
	};
	struct program *p = &self->p;

	PROGRAM(p, "check", "--json", "-m", "udmabuf", lab_env("LAB_NVME_MAIN"));
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		char stage[8], err[8], says[128];

		snprintf(stage, sizeof(stage), "%u", words[i].stage);
		snprintf(err, sizeof(err), "%d", words[i].err);
		snprintf(says, sizeof(says), "%s: %s: As it was told.",
			 io_uring_dmabuf_stage_name(words[i].stage), strerror(words[i].err));
		ANSWER(p, "ANSWER_STAGE", stage, err);
		EXPECT_REASON(p, 1, words[i].reason, says);
		EXPECT_EQ(-words[i].err, failure_errno(p, 0));
		EXPECT_OUTCOMES(p, 0, "refused", "-", "-", "-");
	}
}

TEST_HARNESS_MAIN
