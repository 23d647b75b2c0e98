// SPDX-License-Identifier: GPL-2.0
/*
 * The examples of frameworks.md, as their users run them: they compare every byte themselves,
 * and say how many the CPU has copied.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "program.h"

FIXTURE(shapes) {
	struct program p;
	char files[2][80];
	char *transfer, *handle;
};

FIXTURE_SETUP(shapes)
{
	static const char *const env[] = { "LAB_EXT4", "LAB_XFS" };

	self->p.fd = -1;
	for (int i = 0; i < 2; i++)
		snprintf(self->files[i], sizeof(self->files[i]), "%s/shape", NEED_ENV(env[i]));
	self->transfer = strdup(program_sibling("examples/transfer"));
	self->handle = strdup(program_sibling("examples/handle"));
}

FIXTURE_TEARDOWN(shapes)
{
	program_free(&self->p);
	for (int i = 0; i < 2; i++)
		unlink(self->files[i]);
	free(self->transfer);
	free(self->handle);
}

#define RUN(path_, want, says, ...) do {					\
	struct program *p_ = &self->p;						\
										\
	PROGRAM(p_, path_, __VA_ARGS__);					\
	p_->path = path_;							\
	EXPECT_EQ(want, program_run(p_)) TH_LOG("exit %d\n%s%s", p_->code, p_->out, p_->err); \
	EXPECT_NE(NULL, strstr((want) ? p_->err : p_->out, says))		\
		TH_LOG("exit %d\n%s%s", p_->code, p_->out, p_->err);		\
} while (0)

TEST_F(shapes, prepared_posted_and_checked)
{
	char *disk = (char *)NEED_ENV("LAB_NVME_MAIN");

	RUN(self->transfer, 0, "12582912 bytes written and read back, the CPU copied 0\n", disk,
	    self->files[0], self->files[1]);
	RUN(self->transfer, 0, "8388608 bytes written and read back, the CPU copied 0\n", "-m",
	    "heap:system", self->files[0], disk);
	RUN(self->transfer, 0, "4194304 bytes written and read back, the CPU copied 8388608\n", "-b",
	    self->files[0]);
	RUN(self->transfer, 0, "4194304 bytes written and read back, the CPU copied 0\n", "-b", "-m",
	    "host", self->files[0]);
}

TEST_F(shapes, read_and_written_by_many_threads)
{
	RUN(self->transfer, 0, "the CPU copied 0\n", self->files[0]);
	RUN(self->handle, 0, "4194304 bytes by 4 threads, the CPU copied 0\n", self->files[0]);
	RUN(self->handle, 0, "4194304 bytes by 16 threads, the CPU copied 0\n", "-t", "16", "-w", "-m",
	    "heap:system", self->files[0]);
	RUN(self->handle, 0, "4194304 bytes by 3 threads, the CPU copied 4194304\n", "-t", "3", "-b",
	    self->files[0]);
}

TEST_F(shapes, why_not)
{
	/* a memory that is none, one that is no dma-buf, a target that cannot be one */
	RUN(self->transfer, 1, "nowhere", "-m", "heap:nowhere", self->files[0]);
	RUN(self->transfer, 1, "else --bounce", "-m", "host", self->files[0]);
	RUN(self->handle, 1, "else --bounce", "-m", "host", self->files[0]);
	RUN(self->transfer, 1, "/proc/self/stat: ", "/proc/self/stat");
	RUN(self->handle, 1, "/nowhere: No such file", "/nowhere");
	RUN(self->handle, 64, "Usage", "-t", "0", self->files[0]);
}

TEST_HARNESS_MAIN
