// SPDX-License-Identifier: GPL-2.0
/*
 * net-store - from the network to a drive, counted, and compared on the drive.
 *
 *   net-store [-n MIB] KIND...
 *
 *   store    a network card writes what arrives by TCP into memory of a PCI device, and
 *            an NVMe drive reads it from there: one slot, of which a part is the card's
 *            area, RECV_ZC and WRITEV_FIXED
 *   recv     the control: recv() and O_DIRECT pwrite()
 *
 *   -n MIB   how much arrives [32]
 *
 * The card is the e1000e, with packets that carry a page. Needs two CPUs: what is counted
 * is what CPU 0 does, which the receiver and the card and the drive have; the peer sends
 * from the other. The drive is poisoned before each MiB.
 *
 * Output, a JSON object per line; exit status 0: every byte was right, 1: not or
 * something failed, 2: wrong arguments.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>

#include "counters.h"
#include "fail.h"
#include "lab.h"
#include "link.h"
#include "netcount.h"
#include "program.h"
#include "relay.h"

#define WINDOW		(1u << 20)
#define BLOCK		(256u << 10)
#define AREA		(2u << 20)
#define MAX_MIB		65536
#define PATIENCE_S	240

enum kind { STORE, RECV, KINDS };

static const char *const kind_name[KINDS] = { "store", "recv" };

static const struct program program = {
	.usage = "usage: net-store [-n MIB] store|recv...\n",
	.options = "n:",
	.kinds = kind_name,
	.nr_kinds = KINDS,
	.max_count = MAX_MIB,
};

struct store {
	enum kind kind;
	unsigned int windows;
	struct relay relay;
	void *data;			/* of recv() */
	struct relay_run run;
	uint64_t verified, wrong;
	struct counts counts;
	struct netcount net;
};

/* ---- the peer ---- */

static void *peer_run(void *arg)
{
	struct sender *s = arg;

	s->error = run_on(OTHER_CPU) ?: piece_send(s->fd, &s->p, 0);
	return NULL;
}

static int peer_start(struct sender *s, int fd, const struct piece *p)
{
	*s = (struct sender) { .fd = fd, .p = *p };
	return -pthread_create(&s->thread, NULL, peer_run, s);
}

/* ---- the receiver ---- */

static int receive_ordinary(struct store *s, const struct piece *p)
{
	for (uint64_t pos = 0; pos < p->len; pos += BLOCK) {
		if (recv(s->relay.tcp.rx, s->data, BLOCK, MSG_WAITALL) != (ssize_t)BLOCK)
			return fail("recv", errno, "the card's socket");
		if (pwrite(s->relay.disk, s->data, BLOCK, (off_t)pos) != (ssize_t)BLOCK)
			return fail("write to the drive", errno, "O_DIRECT");
	}
	return 0;
}

static int receive(struct store *s, const struct piece *p)
{
	int ret;

	if (s->kind == RECV)
		return receive_ordinary(s, p);
	ret = relay_take(&s->relay, p, &s->run);
	return ret ? fail("receiving into the slot", -ret, "what has arrived so far is above") : 0;
}

static int window_do(struct store *s, unsigned int window)
{
	const struct piece p = { NET_SEED, (uint64_t)window * WINDOW, WINDOW };
	struct sender peer;
	int ret = disk_poison(s->relay.disk, 0, WINDOW, POISON), err;

	if (ret)
		return fail("poisoning the drive", -ret, "O_DIRECT");
	ret = counters_start();
	if (!ret)
		ret = peer_start(&peer, s->relay.tcp.tx, &p);
	if (ret)
		return ret;
	ret = receive(s, &p);
	if (ret)
		shutdown(peer.fd, SHUT_RDWR);
	err = sender_join(&peer);
	if (!ret && err)
		ret = fail("the peer's send", -err, "TCP");
	if (!ret)
		ret = counters_stop(&s->counts, 512);
	if (ret)
		return ret;
	s->wrong += disk_check(s->relay.disk, 0, p.pos, p.len, p.seed) >= 0;
	s->verified += WINDOW;
	return 0;
}

/* ---- one after the other ---- */

/*
 * Pieces in one write: as many as the drive takes in one command. Then a page that comes in two
 * pieces makes no command more
 */
static unsigned int pieces_of_a_command(void)
{
	char path[96];
	long long most;

	snprintf(path, sizeof(path), "/sys/block/%.32s/queue/max_segments",
		 strrchr(lab_env("LAB_NVME_MAIN"), '/') + 1);
	return file_read_num(path, &most) || most > RELAY_VECTORS ? RELAY_VECTORS :
								    (unsigned int)most;
}

static int slot_open(struct store *s, const char **why)
{
	struct relay *r = &s->relay;
	int ret = relay_store(r, MEM_BAR, AREA, ZCRX_RING, why);

	if (!ret)
		s->run.batch = pieces_of_a_command();
	if (ret || s->kind == STORE)
		return ret ?: relay_open(r, 0, AREA);
	/* as the card is for those that do not ask */
	ret = rings_split(&r->net, SPLIT_UNSET);
	if (!ret)
		ret = net_wait_running(&r->net, NET_CARD);
	return ret ?: -posix_memalign(&s->data, 4096, BLOCK);
}

static int store_start(struct store *s)
{
	struct relay *r = &s->relay;
	const char *why = "see above, if anything is: iproute2 of the host?";
	int ret;

	relay_init(r);
	ret = relay_link(r, MTU_PAGE(AF_INET), &why);
	if (!ret)
		ret = slot_open(s, &why);
	if (ret)
		return fail("the card, its peer, and the slot", -ret, why);
	link_interrupts(&r->net);
	ret = relay_connect(r, AF_INET);
	if (ret)
		return fail("connect", -ret, "from the peer to the card");
	return netcount_open(&s->net, &r->net);
}

/* Maps and unmaps that are not the card's are the drive's */
static void store_print(const struct store *s)
{
	const struct use *pay = &s->net.payload, *head = &s->net.header;
	const struct use *rx = &s->net.receive, *page = &s->net.received;
	uint64_t all = s->counts.dma_map + s->counts.dma_unmap;
	uint64_t card = pay->map + pay->unmap + head->map + head->unmap + rx->map + rx->unmap;
	const char *iommu = getenv("LAB_IOMMU");

	printf("{\"what\":\"stream\",\"kind\":\"%s\",\"device\":\"%s\",\"iommu\":\"%s\","
	       "\"bytes\":%llu,\"wrong_windows\":%llu,\"pieces\":%u,\"whole_pages\":%u,"
	       "\"nvme_commands\":%llu,\"nvme_bytes\":%llu,\"card_maps\":%llu,"
	       "\"drive_maps\":%llu,\"own_maps\":%llu",
	       kind_name[s->kind], link_driver(&s->relay.net), iommu ? iommu : "",
	       (unsigned long long)s->verified, (unsigned long long)s->wrong,
	       s->run.pieces, s->run.whole,
	       (unsigned long long)s->counts.commands,
	       (unsigned long long)s->counts.command_bytes,
	       (unsigned long long)(page->map + page->unmap),
	       (unsigned long long)(all - card),
	       (unsigned long long)(card - page->map - page->unmap));
	if (s->counts.copy_bytes != COPIES_UNKNOWN)
		printf(",\"copy_bytes\":%llu", (unsigned long long)s->counts.copy_bytes);
	printf("}\n");
	fflush(stdout);
}

/* A window that does not count: until its end the card has memory of the time before */
static int warm_up(struct store *s)
{
	int ret = window_do(s, 0);

	netcount_reset(&s->net);
	s->counts = (struct counts){ 0 };
	s->run = (struct relay_run){ .batch = s->run.batch };
	s->verified = 0;
	return ret;
}

static int run(enum kind kind, unsigned int mib)
{
	struct store s = { .kind = kind, .windows = mib };
	int ret;

	alarm(PATIENCE_S);
	ret = store_start(&s);
	if (!ret)
		ret = warm_up(&s);
	for (unsigned int w = 0; w < s.windows && !ret; w++)
		ret = window_do(&s, w + 1);
	if (!ret)
		store_print(&s);
	relay_down(&s.relay);
	free(s.data);
	return ret ?: s.wrong ? -EIO : 0;
}

int main(int argc, char **argv)
{
	struct options o = { .device = "E1000E", .depth = 1, .count = 32 };
	struct bench_case cases[MAX_CASES] = { 0 };
	unsigned int nr = arguments(argc, argv, &program, &o, cases);
	int ret = 0;

	if (!nr)
		return 2;
	if (run_on(SENDER_CPU) || counters_open())
		return 1;
	for (unsigned int i = 0; i < nr && !ret; i++)
		ret = run((enum kind)cases[i].kind, o.count);
	counters_close();
	return ret ? 1 : 0;
}
