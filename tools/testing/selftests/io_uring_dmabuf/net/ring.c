// SPDX-License-Identifier: GPL-2.0
/*
 * Frames that are in a card's ring when somebody lets go: of the slot, of the
 * exporter's device, of the card. The card must not read the memory once its next
 * owner has it. The transmitter stands still meanwhile, as with 802.3x flow control.
 * Wants a machine of its own.
 */
#include <dirent.h>
#include <pthread.h>
#include <sys/mman.h>
#include <linux/dma-buf-bar.h>

#include "common.h"
#include "netio.h"

#define SIZE		(1 * MiB)
#define LEN		20000		/* fits the first congestion window */
#define NEXT_OWNER	(NET_SEED + 77)
#define EXPORTER	"/sys/bus/pci/drivers/dmabuf_bar"

/* Registers of an e1000e */
#define CARD_BYTES	0x20000
#define TCTL		0x400
#define TCTL_EN		2
#define TDH		0x3810
#define TDT		0x3818

FIXTURE(queued) {
	struct netrig net;
	struct net_pair tcp;
	void *card;
	__u32 tctl;
	char driver[64];
	char exporter[32];		/* PCI address of its device */
	bool card_unbound, exporter_unbound;
};

static int map_card(struct netrig *n, void **card)
{
	char path[128];
	void *va;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource0", n->pci);
	fd = open(path, O_RDWR | O_SYNC);
	if (fd < 0)
		return -errno;
	va = mmap(NULL, CARD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (va == MAP_FAILED)
		return -errno;
	*card = va;
	return 0;
}

/* Device of the test exporter: a link in its driver's directory */
static bool find_exporter(char *pci, size_t size)
{
	bool found = false;
	struct dirent *de;
	DIR *d = opendir(EXPORTER);

	while (d && !found && (de = readdir(d))) {
		found = strchr(de->d_name, ':');
		if (found)
			snprintf(pci, size, "%.31s", de->d_name);
	}
	if (d)
		closedir(d);
	return found;
}

FIXTURE_SETUP(queued)
{
	struct netrig *n = &self->net;

	self->tcp = NET_PAIR_NONE;
	NETRIG_UP(n, "e1000e", MEM_BAR, SIZE);
	ASSERT_TRUE(find_exporter(self->exporter, sizeof(self->exporter)));
	ASSERT_EQ(0, net_driver(n, self->driver, sizeof(self->driver)));
	ASSERT_EQ(0, net_tcp(n, AF_INET, &self->tcp));
	ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, NET_SEED));
	ASSERT_EQ(0, reg_dmabuf(&n->ring, 0, n->mem.fd, self->tcp.tx));
	ASSERT_EQ(0, net_works(n, 0, &self->tcp));
	ASSERT_EQ(0, net_wait_acked(self->tcp.tx));
	ASSERT_EQ(0, map_card(n, &self->card));
}

FIXTURE_TEARDOWN(queued)
{
	if (self->card)
		munmap(self->card, CARD_BYTES);
	net_close(&self->tcp);
	if (self->card_unbound)
		net_rebind(&self->net, self->driver);
	if (self->exporter_unbound)
		file_write(EXPORTER "/bind", self->exporter);
	netrig_down(&self->net);
}

static __u32 reg_get(void *card, unsigned int reg)
{
	return __atomic_load_n((__u32 *)(card + reg), __ATOMIC_ACQUIRE);
}

static void reg_set(void *card, unsigned int reg, __u32 value)
{
	__atomic_store_n((__u32 *)(card + reg), value, __ATOMIC_RELEASE);
}

/*
 * @LEN bytes of the slot are in the ring, and none of it is on the wire; *@tctl is
 * for card_resume()
 */
static void queue_frames(struct __test_metadata *_metadata, struct netrig *n,
			 int tx, void *card, __u32 *tctl)
{
	*tctl = reg_get(card, TCTL);
	reg_set(card, TCTL, *tctl & ~TCTL_EN);
	ASSERT_EQ(LEN, net_send(n, tx, 0, 0, LEN, MSG_DONTWAIT));
	ASSERT_NE(reg_get(card, TDH), reg_get(card, TDT));
}

/*
 * The card goes on with what is in its ring. The tail is the driver's: a value of a
 * moment ago, written behind the head, would let the card read the whole ring again.
 */
static void card_resume(void *card, __u32 tctl)
{
	reg_set(card, TCTL, tctl);
}

static const struct piece frames = { NET_SEED, 0, LEN };

/* The exporter keeps what it has promised; the slot is not needed for that */
TEST_F(queued, exporter_wants_it_back)
{
	struct netrig *n = &self->net;

	queue_frames(_metadata, n, self->tcp.tx, self->card, &self->tctl);
	EXPECT_EQ(-EBUSY, bar_revoke(&n->mem, true));
	EXPECT_EQ(-EBUSY, bar_move(&n->mem, DMA_BUF_BAR_PLACE_B));
	ASSERT_EQ(0, reg_clear(&n->ring, 0));
	EXPECT_EQ(-EBUSY, bar_revoke(&n->mem, true));
	EXPECT_EQ(-EBUSY, bar_move(&n->mem, DMA_BUF_BAR_PLACE_B));

	card_resume(self->card, self->tctl);
	ASSERT_EQ(0, net_recv(self->tcp.rx, &frames, 1));
	ASSERT_EQ(0, net_idle(n));
	ASSERT_TRUE(bufinfo_wait(n->mem.fd, 0, net_patience()));
	ASSERT_EQ(0, bar_move(&n->mem, DMA_BUF_BAR_PLACE_B));
	ASSERT_EQ(0, bar_revoke(&n->mem, true));
	ASSERT_EQ(0, net_mark(&self->tcp));
}

struct unbind {
	pthread_t thread;
	const char *pci;
	int ret;
	bool done;
};

static void *unbind_exporter(void *arg)
{
	struct unbind *u = arg;

	u->ret = file_write(EXPORTER "/unbind", u->pci);
	__atomic_store_n(&u->done, true, __ATOMIC_RELEASE);
	return NULL;
}

/* Its driver lets go of the memory after the card */
TEST_F(queued, exporter_is_unbound)
{
	struct unbind u = { .pci = self->exporter };
	struct netrig *n = &self->net;
	char byte;

	queue_frames(_metadata, n, self->tcp.tx, self->card, &self->tctl);
	ASSERT_EQ(0, reg_clear(&n->ring, 0));
	self->exporter_unbound = true;
	ASSERT_EQ(0, pthread_create(&u.thread, NULL, unbind_exporter, &u));
	/* it has begun, and waits */
	while (mem_get(&n->mem, 0, &byte, 1) != -ENODEV)
		lab_sleep_ms(10);
	lab_sleep_ms(300);
	EXPECT_FALSE(__atomic_load_n(&u.done, __ATOMIC_ACQUIRE));
	EXPECT_EQ(1, bufinfo_attachments(n->mem.fd));

	card_resume(self->card, self->tctl);
	ASSERT_EQ(0, net_recv(self->tcp.rx, &frames, 1));
	pthread_join(u.thread, NULL);
	EXPECT_EQ(0, u.ret);
	EXPECT_EQ(0, bufinfo_attachments(n->mem.fd));
	ASSERT_EQ(0, net_idle(n));
	ASSERT_EQ(0, net_mark(&self->tcp));

	ASSERT_EQ(0, file_write(EXPORTER "/bind", self->exporter));
	self->exporter_unbound = false;
	mem_destroy(&n->mem);
	ASSERT_EQ(0, mem_create(&n->mem, MEM_BAR, SIZE));
	ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, NET_SEED));
	ASSERT_EQ(0, reg_dmabuf(&n->ring, 0, n->mem.fd, self->tcp.tx));
	EXPECT_EQ(0, net_works(n, 0, &self->tcp));
}

/* What is in its ring is lost with it: not read later, not by the next driver */
TEST_F(queued, card_is_unbound)
{
	struct netrig *n = &self->net;
	char byte;

	queue_frames(_metadata, n, self->tcp.tx, self->card, &self->tctl);
	munmap(self->card, CARD_BYTES);
	self->card = NULL;
	self->card_unbound = true;
	ASSERT_EQ(0, net_unbind(n, self->driver));
	EXPECT_EQ(0, bufinfo_attachments(n->mem.fd));
	/* now it is somebody else's */
	ASSERT_EQ(0, bar_revoke(&n->mem, true));
	ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, NEXT_OWNER));

	ASSERT_EQ(0, net_rebind(n, self->driver));
	self->card_unbound = false;
	ASSERT_EQ(0, net_configure(n, NET_CARD));
	ASSERT_EQ(0, net_link(n, NET_CARD, true));
	/* the new connection uses the ring, and what had been in it would be ahead */
	for (int i = 0; i < 2; i++) {
		struct net_pair next;

		ASSERT_EQ(0, net_tcp(n, AF_INET, &next));
		ASSERT_EQ(0, net_mark(&next));
		net_close(&next);
	}
	EXPECT_EQ(-1, recv(self->tcp.rx, &byte, 1, MSG_DONTWAIT));
	EXPECT_EQ(EAGAIN, errno);
}

TEST_HARNESS_MAIN
