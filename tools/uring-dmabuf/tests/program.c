// SPDX-License-Identifier: GPL-2.0
/* A program as its users run it */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "counters.h"
#include "program.h"

const char *program_sibling(const char *name)
{
	static char path[PATH_MAX + 64];
	char self[PATH_MAX] = "";

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		return NULL;
	snprintf(path, sizeof(path), "%s/%s", dirname(self), name);
	return path;
}

void program_free(struct program *p)
{
	free(p->out);
	free(p->err);
	json_decref(p->json);
	p->out = p->err = NULL;
	p->json = NULL;
}

static void become(struct program *p, int out, int err)
{
	/* build/uring-dmabuf/uring-dmabuf, of build/tests/uring-dmabuf/<this program> */
	char *path = strdup(program_sibling("../../uring-dmabuf/uring-dmabuf"));
	char *argv[PROGRAM_MAX_ARGS + 1] = { (char *)"uring-dmabuf" };
	int program;

	for (int i = 0; i < PROGRAM_MAX_ARGS - 1 && p->argv[i]; i++)
		argv[i + 1] = (char *)p->argv[i];
	if (dup2(out, STDOUT_FILENO) < 0 || dup2(err, STDERR_FILENO) < 0)
		_exit(126);
	/* dup2() of a number to itself leaves FD_CLOEXEC */
	if (p->fd == PROGRAM_FD ? fcntl(p->fd, F_SETFD, 0) :
	    p->fd >= 0 && dup2(p->fd, PROGRAM_FD) < 0)
		_exit(126);
	/* who @before makes of this process may not come to the program's folder */
	program = open(p->path ? p->path : path, O_PATH | O_CLOEXEC);
	if (program < 0)
		_exit(127);
	if (p->before && p->before())
		_exit(125);
	execveat(program, "", argv + !!p->path, environ, AT_EMPTY_PATH);
	_exit(127);
}

/* What is in a file that was written from the start, as a string */
static char *content(int fd)
{
	struct stat st;
	char *text;

	if (fstat(fd, &st))
		return NULL;
	text = calloc(1, (size_t)st.st_size + 1);
	if (text && pread(fd, text, (size_t)st.st_size, 0) != st.st_size) {
		free(text);
		return NULL;
	}
	return text;
}

static int exit_code(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) != pid)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int program_start(struct program *p)
{
	program_free(p);
	p->out_fd = memfd_create("stdout", MFD_CLOEXEC);
	p->err_fd = memfd_create("stderr", MFD_CLOEXEC);
	fflush(NULL);
	p->pid = fork();
	if (!p->pid)
		become(p, p->out_fd, p->err_fd);
	return p->pid < 0 ? -errno : 0;
}

int program_end(struct program *p)
{
	p->code = p->pid <= 0 ? -ESRCH : exit_code(p->pid);
	p->out = content(p->out_fd);
	p->err = content(p->err_fd);
	close(p->out_fd);
	close(p->err_fd);
	p->pid = 0;
	p->json = p->out ? json_loads(p->out, 0, NULL) : NULL;
	return p->code;
}

static bool has_said(int fd, const char *what)
{
	char *text = content(fd);
	bool said = text && strstr(text, what);

	free(text);
	return said;
}

int program_wait_for(const struct program *p, const char *what, int ms)
{
	for (int i = 0; i <= ms / 20; i++) {
		if (has_said(p->out_fd, what) || has_said(p->err_fd, what))
			return 0;
		usleep(20000);
	}
	return -ETIMEDOUT;
}

void program_destroy(struct program *p)
{
	if (p->pid > 0) {
		kill(p->pid, SIGKILL);
		program_end(p);
	}
	program_free(p);
}

int program_run(struct program *p)
{
	int ret = program_start(p);

	return program_end(p), ret ? ret : p->code;
}

long long program_said(const struct program *p, const char *member)
{
	const char *line = p->out, *next;
	json_t *last, *value;
	long long n;

	while ((next = strchr(line, '\n')) && next[1])
		line = next + 1;
	last = json_loads(line, 0, NULL);
	value = json_object_get(last, member);
	n = value ? json_integer_value(value) : -1;
	json_decref(last);
	return n;
}

int program_forbid(int nr, int op, int err)
{
	/* both are compared in any case: there is no need for two filters */
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(op < 0 ? BPF_JMP | BPF_JA : BPF_JMP | BPF_JEQ | BPF_K, op < 0 ? 0 : op, 0,
			 op < 0 ? 0 : 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = {
		.len = sizeof(filter) / sizeof(filter[0]), .filter = filter,
	};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) ? -errno : 0;
}

unsigned long long program_copies(struct program *p)
{
	struct counts counts = { 0 };

	sync();
	if (counters_start())
		return COPIES_UNKNOWN;
	program_run(p);
	if (counters_stop(&counts, 512))
		return COPIES_UNKNOWN;
	return counts.copy_bytes;
}

int program_validate(const struct program *p, const char *dir, const char *name)
{
	char path[] = "/tmp/program.XXXXXX", command[512];
	int fd = mkstemp(path), ret;
	FILE *f;

	if (fd < 0)
		return -errno;
	f = fdopen(fd, "w");
	fputs(p->out, f);
	fclose(f);
	snprintf(command, sizeof(command), "python3 -W ignore %s/../tests/validate.py %s %s/%s", dir, path,
		 dir, name);
	ret = system(command);
	unlink(path);
	return ret;
}
