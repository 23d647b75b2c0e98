// SPDX-License-Identifier: GPL-2.0
/* Bindings whose device goes away */
#include <pthread.h>

#include "common.h"

FIXTURE(unregister) {
	struct rig rig;
	unsigned long ino;
};

FIXTURE_SETUP(unregister)
{
	RIG_UP(&self->rig);
	self->ino = dmabuf_ino(&self->rig);
	if (bufinfo_attached(self->ino) == -EIO) {
		rig_down(&self->rig);
		SKIP(return, "debugfs has no dma_buf/bufinfo");
	}
	ASSERT_EQ(1, bufinfo_attached(self->ino));
}

FIXTURE_TEARDOWN(unregister)
{
	rig_down(&self->rig);
}

static void unbind(struct rig *rig)
{
	close(rig->nl);
	rig->nl = -1;
}

/* Ends the rig's own use of the dma-buf: is it freed? */
static bool is_freed(struct rig *rig, unsigned long ino)
{
	tcp_close(&rig->tcp);
	if (rig->nl >= 0)
		unbind(rig);
	close(rig->dmabuf);
	rig->dmabuf = -1;
	return bufinfo_gone(ino);
}

/* With no unregistering: bindings end with their socket */
TEST_F(unregister, not_at_all)
{
	unbind(&self->rig);
	EXPECT_TRUE(is_freed(&self->rig, self->ino));
}

/* It is unmapped when the net_device is gone, not when the socket is */
TEST_F(unregister, then_close)
{
	ASSERT_EQ(0, nsim_del_port(TX));
	EXPECT_EQ(0, bufinfo_attached(self->ino));
	unbind(&self->rig);
	EXPECT_TRUE(is_freed(&self->rig, self->ino));
}

/* The device that did the DMA is gone, too */
TEST_F(unregister, with_parent)
{
	ASSERT_EQ(0, nsim_del_dev(TX));
	EXPECT_EQ(0, bufinfo_attached(self->ino));
	unbind(&self->rig);
	EXPECT_TRUE(is_freed(&self->rig, self->ino));
}

/* Frags in a write queue hold the binding, and nothing else */
TEST_F(unregister, with_data_queued)
{
	struct iovec iov = { .iov_base = NULL, .iov_len = 100 };
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, rig_connect(rig, AF_INET));
	ASSERT_EQ(0, tcp_deaf(rig->tcp.server, 1));
	ASSERT_EQ(100, tcp_send_devmem(rig->tcp.client, rig->id, &iov, 1, 0));
	ASSERT_EQ(0, nsim_del_port(TX));
	EXPECT_EQ(0, bufinfo_attached(self->ino));
	EXPECT_GT(0, tcp_send_devmem(rig->tcp.client, rig->id, &iov, 1,
				     MSG_DONTWAIT));
	unbind(rig);
	EXPECT_EQ(0, bufinfo_attached(self->ino));
	EXPECT_TRUE(is_freed(rig, self->ino));
}

/* The last reference is dropped before the device goes */
TEST_F(unregister, after_close_with_data_queued)
{
	struct iovec iov = { .iov_base = NULL, .iov_len = 100 };
	struct rig *rig = &self->rig;

	ASSERT_EQ(0, rig_connect(rig, AF_INET));
	ASSERT_EQ(0, tcp_deaf(rig->tcp.server, 1));
	ASSERT_EQ(100, tcp_send_devmem(rig->tcp.client, rig->id, &iov, 1, 0));
	unbind(rig);
	EXPECT_EQ(1, bufinfo_attached(self->ino));
	ASSERT_EQ(0, nsim_del_port(TX));
	EXPECT_EQ(0, bufinfo_attached(self->ino));
	EXPECT_TRUE(is_freed(rig, self->ino));
}

static void *del_port(void *data)
{
	int *ret = data;

	*ret = nsim_del_port(TX);
	return NULL;
}

/* Both at once, and a bit after each other */
TEST_F(unregister, while_closing)
{
	struct rig *rig = &self->rig;
	pthread_t thread;
	int i, ret;

	for (i = 0; i < 10; i++) {
		if (i) {
			rig_down(rig);
			RIG_UP(rig);
			self->ino = dmabuf_ino(rig);
		}
		ASSERT_EQ(0, pthread_create(&thread, NULL, del_port, &ret));
		usleep(i * 500);
		unbind(rig);
		ASSERT_EQ(0, pthread_join(thread, NULL));
		EXPECT_EQ(0, ret);
		EXPECT_TRUE(is_freed(rig, self->ino));
	}
}

/* A device that moves to another netns takes its bindings along */
TEST_F(unregister, netns_move)
{
	struct iovec iov = { .iov_base = NULL, .iov_len = 4 * PAGE };
	struct rig *rig = &self->rig;
	unsigned char got[4 * PAGE];
	int ns = ns_new(&rig->nsim);

	ASSERT_LE(0, ns);
	ASSERT_EQ(0, nsim_move(&rig->nsim, TX, ns));
	EXPECT_EQ(1, bufinfo_attached(self->ino));
	ASSERT_EQ(0, nsim_configure(&rig->nsim, TX));
	ASSERT_EQ(0, rig_connect(rig, AF_INET));
	ASSERT_EQ(4 * PAGE, tcp_send_devmem(rig->tcp.client, rig->id, &iov, 1,
					    0));
	ASSERT_EQ(4 * PAGE, tcp_recv(rig->tcp.server, got, 4 * PAGE));
	EXPECT_EQ(-1, first_diff(got, rig->map, 4 * PAGE));
}

TEST_HARNESS_MAIN
