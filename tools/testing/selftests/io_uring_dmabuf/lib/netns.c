// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/wait.h>

#include "lab.h"
#include "netns.h"

unsigned int net_patience(void)
{
	return lab_scale(20000, 60000);
}

double net_deadline(void)
{
	return lab_now() + net_patience() / 1000.0;
}

int net_ns_open(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int net_ns_enter(int fd)
{
	return setns(fd, CLONE_NEWNET) ? -errno : 0;
}

/*
 * QEMU 7.2 cuts large packets into fragments, not into segments, and what this
 * takes for a sign of fragments that were lost would be a packet that is
 */
static void take_all_fragments(void)
{
	int fd = open("/proc/sys/net/ipv4/ipfrag_max_dist", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "0", 1) != 1)
		perror("ipfrag_max_dist");
	close(fd);
}

/* Who makes a netns is in it: so let somebody else do it */
static void *ns_make(void *arg)
{
	int *fd = arg;

	*fd = unshare(CLONE_NEWNET) ? -errno : net_ns_open();
	if (*fd >= 0)
		take_all_fragments();
	return NULL;
}

int net_ns_new(void)
{
	pthread_t thread;
	int ret, fd;

	ret = -pthread_create(&thread, NULL, ns_make, &fd);
	if (ret)
		return ret;
	pthread_join(thread, NULL);
	return fd;
}

/* Short enough for the pipe: nobody has to read it yet */
static int text_pipe(const char *text)
{
	ssize_t len = strlen(text);
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	if (write(fds[1], text, len) != len) {
		close(fds[0]);
		fds[0] = -EIO;
	}
	close(fds[1]);
	return fds[0];
}

int net_run(int ns, const char *input, const char *const argv[])
{
	int status, in = text_pipe(input);
	pid_t pid;

	if (in < 0)
		return in;
	pid = fork();
	if (!pid) {
		dup2(in, STDIN_FILENO);
		if (!net_ns_enter(ns))
			execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(in);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -errno;
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	fprintf(stderr, "# %s failed\n", argv[0]);
	return -EIO;
}

int net_batch(int ns, const char *program, const char *text)
{
	const char *const argv[] = { program, "-batch", "-", NULL };
	int ret = net_run(ns, text, argv);

	if (ret)
		fprintf(stderr, "# %s", text);
	return ret;
}

int net_ip(int ns, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return net_batch(ns, "ip", text);
}
