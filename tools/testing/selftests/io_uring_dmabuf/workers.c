// SPDX-License-Identifier: GPL-2.0
/*
 * Who has slow exporters holds up nobody else: a user has a few of the workers that
 * wait for exporters, not all.
 *
 * A slot whose memory was copied has a CPU view of it, which only goes with the
 * reservation lock. So thousands of slots of one dma-buf have something to wait
 * for, each, while its exporter holds that.
 */
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <linux/dma-buf-bar.h>

#include "common.h"
#include "netio.h"

#define SIZE	(64 * KiB)
#define SLOTS	2100	/* no workqueue runs more than 2048 at once */
#define USER	71000
#define AT_ONCE	(lab_scale(1, 3))	/* seconds */

FIXTURE(workers) {
	struct netrig net;	/* its memory is quick */
	struct mem slow;
	int sk[2];
	int disk;
	pid_t other, holder;
};

FIXTURE_SETUP(workers)
{
	self->sk[0] = -1;
	self->sk[1] = -1;
	self->slow.fd = -1;
	self->disk = NEED_DISK("LAB_NVME_MAIN");
	NETRIG_UP(&self->net, CARD_NONE, MEM_BAR, SIZE);
	if (mem_create_bar(&self->slow, SIZE, DMA_BUF_BAR_VMAP, 0))
		SKIP(return, "no PCI memory");
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, self->sk));
	net_timeouts(self->sk[0]);
	net_timeouts(self->sk[1]);
}

FIXTURE_TEARDOWN(workers)
{
	if (self->holder > 0)
		bar_let_go(self->holder);
	if (self->other > 0) {
		kill(self->other, SIGKILL);
		waitpid(self->other, NULL, 0);
	}
	netrig_down(&self->net);
	if (self->slow.fd >= 0)
		mem_destroy(&self->slow);
	close(self->sk[0]);
	close(self->sk[1]);
	close(self->disk);
}

/*
 * Another user: what fails is undone before the call returns. The memory is mapped
 * before it turns out that its table costs more than the user may have.
 */
static int other_user(int dmabuf, int disk, int ready, int go)
{
	struct rlimit none = { };
	struct uring ring;
	double began;
	char c = 0;
	int ret;

	if (setrlimit(RLIMIT_MEMLOCK, &none) || setgid(USER) || setuid(USER) ||
	    uring_init(&ring, 4, 0) || reg_sparse(&ring, 1))
		return 1;
	/* also what is done once */
	if (reg_dmabuf(&ring, 0, dmabuf, disk) != -ENOMEM ||
	    bufinfo_attachments(dmabuf) > 0)
		return 2;
	if (write(ready, &c, 1) != 1 || read(go, &c, 1) != 1)
		return 3;
	began = lab_now();
	ret = reg_dmabuf(&ring, 0, dmabuf, disk);
	fprintf(stderr, "# another user's registration failed (%d) after %.3f s\n",
		ret, lab_now() - began);
	if (ret != -ENOMEM)
		return 4;
	return lab_now() - began < AT_ONCE ? 0 : 5;
}

static int other_start(struct __test_metadata *_metadata,
		       FIXTURE_DATA(workers) *self)
{
	int ready[2], go[2];
	char c;

	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(go));
	self->other = fork();
	if (!self->other) {
		close(ready[0]);
		close(go[1]);
		_exit(other_user(self->net.mem.fd, self->disk, ready[1], go[0]));
	}
	close(ready[1]);
	close(go[0]);
	ASSERT_EQ(1, read(ready[0], &c, 1));
	close(ready[0]);
	return go[1];
}

/* A slot whose memory the CPU can see from now on */
static int slot_copied(struct netrig *n, const struct mem *mem, int *sk,
		       unsigned int slot)
{
	bool copied;
	char c;
	int ret;

	ret = net_reg(n, slot, mem->fd, sk[0], IO_REGBUF_DMABUF_COPY_OK);
	if (ret)
		return ret;
	ret = net_send_sync(n, sk[0], slot, slot, 1, 0, &copied);
	if (ret != 1 || !copied || recv(sk[1], &c, 1, 0) != 1)
		return -EPROTO;
	return 0;
}

static int other_ends(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

TEST_F(workers, many_slots_of_a_slow_exporter)
{
	struct netrig *n = &self->net;
	double began;
	char c = 0;
	int go;

	go = other_start(_metadata, self);
	ASSERT_EQ(0, reg_unregister(&n->ring));
	ASSERT_EQ(0, reg_sparse(&n->ring, SLOTS));
	for (unsigned int i = 0; i < SLOTS; i++)
		ASSERT_EQ(0, slot_copied(n, &self->slow, self->sk, i));

	self->holder = bar_hold(&self->slow);
	ASSERT_GT(self->holder, 0);
	began = lab_now();
	EXPECT_EQ(0, reg_unregister(&n->ring));
	/* until each has something that waits for it */
	lab_sleep_ms(1000);
	ASSERT_EQ(1, write(go, &c, 1));
	EXPECT_EQ(0, other_ends(self->other));
	self->other = 0;
	printf("# %d slots, held for %.1f s\n", SLOTS, lab_now() - began);
	/* it was held all the time */
	EXPECT_EQ(0, bar_let_go(self->holder));
	self->holder = 0;
	close(go);

	/* the user itself is through with all of them, too */
	ASSERT_EQ(0, reg_sparse(&n->ring, 1));
	began = lab_now();
	EXPECT_EQ(0, slot_copied(n, &self->slow, self->sk, 0));
	EXPECT_LT(lab_now() - began, AT_ONCE);
}

TEST_HARNESS_MAIN
