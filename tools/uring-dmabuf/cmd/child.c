// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A program that is watched. It stops once more when it ends, with its rings still open, so
 * that nothing between the last interval and the end is missed (PTRACE_EVENT_EXIT).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "stat.h"

/* The other end closes when it may go on */
static void run(char **argv, int go)
{
	sigset_t none;
	char byte;

	while (read(go, &byte, 1) < 0 && errno == EINTR)
		;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execvp(argv[0], argv);
	fprintf(stderr, "uring-dmabuf: %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

void child_start(struct child *c, char **argv)
{
	sigset_t chld;
	int go[2];

	/* for sigtimedwait(), before there is a child */
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	if (pipe(go))
		die("a pipe: %s", strerror(errno));
	c->pid = fork();
	if (c->pid < 0)
		die("a process: %s", strerror(errno));
	if (!c->pid) {
		close(go[1]);
		run(argv, go[0]);
	}
	close(go[0]);
	if (ptrace(PTRACE_SEIZE, c->pid, NULL, PTRACE_O_TRACEEXIT))
		die("%s cannot be watched: %s; start it by itself and use -p", argv[0],
		    strerror(errno));
	/* what the terminal sends goes to both: it decides */
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	close(go[1]);
}

static void go_on(pid_t pid, int signal_)
{
	ptrace(PTRACE_CONT, pid, NULL, (void *)(long)signal_);
}

/* A stop that is not the one before its end: what made it is passed on */
static enum child_event stopped(struct child *c, int status)
{
	int event = status >> 16;

	if (event == PTRACE_EVENT_EXIT)
		return CHILD_ENDS;
	if (event == PTRACE_EVENT_STOP && WSTOPSIG(status) != SIGTRAP)
		ptrace(PTRACE_LISTEN, c->pid, NULL, NULL);
	else
		go_on(c->pid, event ? 0 : WSTOPSIG(status));
	return CHILD_RUNS;
}

static enum child_event look(struct child *c)
{
	int status;

	if (waitpid(c->pid, &status, WNOHANG) != c->pid)
		return CHILD_RUNS;
	if (WIFSTOPPED(status))
		return stopped(c, status);
	c->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	return CHILD_ENDED;
}

static double left(const struct timespec *end, struct timespec *rest)
{
	struct timespec now;
	double seconds;

	clock_gettime(CLOCK_MONOTONIC, &now);
	seconds = (double)(end->tv_sec - now.tv_sec) + (double)(end->tv_nsec - now.tv_nsec) / 1e9;
	rest->tv_sec = seconds > 0 ? (time_t)seconds : 0;
	rest->tv_nsec = seconds > 0 ? (long)((seconds - (double)rest->tv_sec) * 1e9) : 0;
	return seconds;
}

enum child_event child_wait(struct child *c, double seconds)
{
	struct timespec end, rest;
	enum child_event event;
	sigset_t chld;

	/* it has been asked for the last time: let it end */
	if (c->code == -1)
		go_on(c->pid, 0);
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += (time_t)seconds;
	end.tv_nsec += (long)((seconds - (double)(time_t)seconds) * 1e9);
	for (;;) {
		event = look(c);
		if (event == CHILD_ENDS)
			c->code = -1;
		if (event != CHILD_RUNS || left(&end, &rest) <= 0)
			return event;
		sigtimedwait(&chld, NULL, &rest);
	}
}
