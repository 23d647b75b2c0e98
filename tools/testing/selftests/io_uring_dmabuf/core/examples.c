// SPDX-License-Identifier: GPL-2.0
/*
 * The programs that Documentation shows, as their users run them. They need liburing,
 * without which they are not built.
 */
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <sys/wait.h>

#include "common.h"
#include "netio.h"

#define SEED	8100
/* Not a multiple of what the programs take at a time, nor of a page */
#define LENGTH	(9 * MiB + 3584)

/* Where an example is: beside the folder of this program, or, installed, beside it */
static const char *example(const char *name)
{
	static char path[PATH_MAX];
	char self[PATH_MAX] = "";
	const char *dir;

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		return NULL;
	dir = dirname(self);
	snprintf(path, sizeof(path), "%s/../examples/%s", dir, name);
	if (!access(path, X_OK))
		return path;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return access(path, X_OK) ? NULL : path;
}

struct program {
	pid_t pid;
	int out, err;
	char said[1024];	/* on stderr */
};

static int program_start(struct program *p, const char *const argv[])
{
	int out[2], err[2];

	memset(p, 0, sizeof(*p));
	if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		return -errno;
	p->pid = fork();
	if (!p->pid) {
		dup2(out[1], STDOUT_FILENO);
		dup2(err[1], STDERR_FILENO);
		execv(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(out[1]);
	close(err[1]);
	p->out = out[0];
	p->err = err[0];
	return p->pid < 0 ? -errno : 0;
}

/* Its exit code, and what it said */
static int program_end(struct program *p)
{
	size_t len = 0;
	ssize_t n;
	int status;

	while (len < sizeof(p->said) - 1 &&
	       (n = read(p->err, p->said + len, sizeof(p->said) - 1 - len)) > 0)
		len += n;
	close(p->out);
	close(p->err);
	if (waitpid(p->pid, &status, 0) != p->pid || !WIFEXITED(status))
		return -ECHILD;
	if (WEXITSTATUS(status))
		fprintf(stderr, "# %s", p->said);
	return WEXITSTATUS(status);
}

#define NEED_EXAMPLE(name) ({						\
	const char *path_ = example(name);				\
									\
	if (!path_)							\
		SKIP(return, "%s is not built: no liburing", name);	\
	path_;								\
})

/* A file of LENGTH bytes in a directory, with the pattern of SEED */
static int make_file(const char *path)
{
	char *data = malloc(LENGTH);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ssize_t n = -1;

	if (data && fd >= 0) {
		pattern_fill(data, 0, LENGTH, SEED);
		n = write(fd, data, LENGTH);
		fsync(fd);
	}
	free(data);
	close(fd);
	return n == LENGTH ? 0 : -EIO;
}

FIXTURE(read_example) {
	const char *program;
	char file[PATH_MAX];
};

FIXTURE_SETUP(read_example)
{
	const char *dir = NEED_ENV("LAB_EXT4");

	self->program = NEED_EXAMPLE("dmabuf_read");
	snprintf(self->file, sizeof(self->file), "%s/example", dir);
	ASSERT_EQ(0, make_file(self->file));
}

FIXTURE_TEARDOWN(read_example)
{
	unlink(self->file);
}

TEST_F(read_example, every_byte_comes)
{
	const char *const argv[] = { self->program, self->file, NULL };
	char *data = malloc(LENGTH + 1);
	struct program p;
	size_t len = 0;
	ssize_t n;

	ASSERT_NE(NULL, data);
	ASSERT_EQ(0, program_start(&p, argv));
	while (len <= LENGTH && (n = read(p.out, data + len, LENGTH + 1 - len)) > 0)
		len += n;
	EXPECT_EQ(0, program_end(&p));
	EXPECT_EQ(LENGTH, len);
	EXPECT_EQ(NO_MISMATCH, pattern_check(data, 0, LENGTH, SEED));
	free(data);
}

TEST_F(read_example, says_why)
{
	/* a file that no drive is behind */
	const char *const argv[] = { self->program, "/tmp/example", NULL };
	struct program p;

	ASSERT_EQ(0, make_file("/tmp/example"));
	ASSERT_EQ(0, program_start(&p, argv));
	EXPECT_EQ(1, program_end(&p));
	unlink("/tmp/example");
	/* tmpfs opens with O_DIRECT, and the kernel has a sentence for it */
	EXPECT_NE(NULL, strstr(p.said, "registering the dma-buf: "));
	EXPECT_EQ(NULL, strstr(p.said, "is this kernel able to?"));
	EXPECT_NE(NULL, strstr(p.said, strerror(EOPNOTSUPP)));
}

TEST_F(read_example, no_such_file)
{
	const char *const argv[] = { self->program, "/nowhere", NULL };
	struct program p;

	ASSERT_EQ(0, program_start(&p, argv));
	EXPECT_EQ(1, program_end(&p));
	EXPECT_NE(NULL, strstr(p.said, "/nowhere: "));
}

/* --- with a network card --- */

FIXTURE(card_example) {
	struct netrig net;
	const char *program;
	char file[PATH_MAX];
	int listener;
};

FIXTURE_SETUP(card_example)
{
	const char *dir = NEED_ENV("LAB_EXT4");

	self->listener = -1;
	netrig_init(&self->net);
	self->program = NEED_EXAMPLE("dmabuf_relay");
	NETRIG_UP(&self->net, "e1000e", MEM_CMA, 0);
	snprintf(self->file, sizeof(self->file), "%s/example", dir);
	ASSERT_EQ(0, make_file(self->file));
	self->listener = net_listen(&self->net, AF_INET);
	ASSERT_GE(self->listener, 0);
}

FIXTURE_TEARDOWN(card_example)
{
	close(self->listener);
	unlink(self->file);
	netrig_down(&self->net);
}

/* To where @listener is: an address of IPv4 */
static int relay_start(struct program *p, const char *program, const char *file,
		       int listener)
{
	char host[INET_ADDRSTRLEN], port[16];
	/* of one piece, which QEMU's cards need behind an IOMMU */
	const char *const argv[] = {
		program, "/dev/dma_heap/default_cma_region", file, host, port, NULL,
	};
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);

	if (getsockname(listener, (struct sockaddr *)&sin, &len) ||
	    !inet_ntop(AF_INET, &sin.sin_addr, host, sizeof(host)))
		return -errno;
	snprintf(port, sizeof(port), "%u", ntohs(sin.sin_port));
	return program_start(p, argv);
}

TEST_F(card_example, every_byte_arrives)
{
	struct piece whole = { .seed = SEED, .pos = 0, .len = LENGTH };
	struct program p;
	int fd;

	ASSERT_EQ(0, relay_start(&p, self->program, self->file, self->listener));
	fd = accept(self->listener, NULL, NULL);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, net_timeouts(fd));
	EXPECT_EQ(0, net_recv(fd, &whole, 1));
	EXPECT_EQ(0, program_end(&p));
	close(fd);
}

TEST_HARNESS_MAIN
