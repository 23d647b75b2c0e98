// SPDX-License-Identifier: GPL-2.0
/* Packet sockets and tun devices that look for device memory */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <linux/tcp.h>

#include "probe.h"

/*
 * A block of TPACKET_V3 is closed RING_CLOSE_MS after its first packet, and the ring drops
 * packets once all are closed. Nobody reads them before everything has arrived, which
 * takes a slow machine seconds.
 */
#define RING_BLOCK	(128 * KiB)
#define RING_BLOCKS	32
#define RING_CLOSE_MS	200
#define RING_FRAME	2048

/* The end of @data, which is at least that long, is somewhere in @where */
static bool is_from(const char *where, size_t size, const void *data, size_t len)
{
	return len >= 16 && memmem(where, size, (const char *)data + len - 16, 16);
}

/* @len bytes of a packet, of which the first ones are in @ip */
static void saw_tcp(struct probe *p, const struct iphdr *ip, ssize_t len)
{
	const struct tcphdr *th = (void *)ip + ip->ihl * 4;
	ssize_t all = ntohs(ip->tot_len);
	ssize_t hdr = ip->ihl * 4 + th->doff * 4;

	/* short ones are padded */
	if (len > all)
		len = all;
	if (th->source == p->match->unreadable_port && all > hdr) {
		p->nr_unreadable++;
		p->leaked += len > hdr ? len - hdr : 0;
	} else if (th->source == p->match->ordinary_port && len > hdr &&
		   is_from(p->match->ordinary, LEN, (char *)ip + hdr, len - hdr)) {
		p->ordinary += len - hdr;
	}
}

/* A frame, or with @l2 == 0 what follows its header */
static void saw(struct probe *p, const char *frame, ssize_t len, ssize_t l2)
{
	const struct iphdr *ip = (void *)frame + l2;

	if (len >= l2 + (ssize_t)(sizeof(*ip) + sizeof(struct tcphdr)) &&
	    ip->version == 4 && ip->protocol == IPPROTO_TCP)
		saw_tcp(p, ip, len - l2);
	else if (is_from(p->match->unreadable, SIZE, frame, len))
		p->leaked += len;
}

static void read_fd(struct probe *p)
{
	bool l2 = p->kind == PROBE_RAW || p->kind == PROBE_TAP;
	static char frame[FRAME_MAX];
	ssize_t len;

	while ((len = read(p->fd, frame, sizeof(frame))) > 0)
		saw(p, frame, len, l2 ? ETH_HLEN : 0);
}

static void read_ring2(struct probe *p)
{
	for (__u64 i = 0; i < RING_BLOCKS * RING_BLOCK / RING_FRAME; i++) {
		struct tpacket2_hdr *h = p->ring + i * RING_FRAME;

		if (!(__atomic_load_n(&h->tp_status, __ATOMIC_ACQUIRE) &
		      TP_STATUS_USER))
			continue;
		saw(p, (char *)h + h->tp_mac, h->tp_snaplen,
		    h->tp_net - h->tp_mac);
		__atomic_store_n(&h->tp_status, TP_STATUS_KERNEL,
				 __ATOMIC_RELEASE);
	}
}

static void read_block(struct probe *p, struct tpacket_hdr_v1 *block, char *base)
{
	char *at = base + block->offset_to_first_pkt;

	for (__u32 i = 0; i < block->num_pkts; i++) {
		struct tpacket3_hdr *h = (void *)at;

		saw(p, at + h->tp_mac, h->tp_snaplen, h->tp_net - h->tp_mac);
		at += h->tp_next_offset;
	}
}

static void read_ring3(struct probe *p)
{
	for (int i = 0; i < RING_BLOCKS; i++) {
		struct tpacket_block_desc *d = p->ring + i * RING_BLOCK;
		__u32 *status = &d->hdr.bh1.block_status;

		if (!(__atomic_load_n(status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
			continue;
		read_block(p, &d->hdr.bh1, (char *)d);
		__atomic_store_n(status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
	}
}

void probe_read(struct probe *p)
{
	if (p->kind == PROBE_RING2)
		read_ring2(p);
	else if (p->kind == PROBE_RING3)
		read_ring3(p);
	else
		read_fd(p);
}

/* Until all of them have seen ordinary memory */
bool probes_wait(struct probe *p, unsigned int nr)
{
	double end = lab_now() + net_patience() / 1000.0;
	bool all;

	do {
		all = true;
		for (unsigned int i = 0; i < nr; i++) {
			probe_read(&p[i]);
			all = all && p[i].ordinary;
		}
		if (all)
			return true;
		lab_sleep_ms(10);
	} while (lab_now() < end);
	return false;
}

bool probe_wait_unreadable(struct probe *p, unsigned int nr)
{
	double end = lab_now() + net_patience() / 1000.0;

	while (p->nr_unreadable < nr && lab_now() < end) {
		lab_sleep_ms(10);
		probe_read(p);
	}
	return p->nr_unreadable >= nr;
}

static int probe_ring(struct probe *p)
{
	struct tpacket_req3 req = {
		.tp_block_size = RING_BLOCK,
		.tp_block_nr = RING_BLOCKS,
		.tp_frame_size = RING_FRAME,
		.tp_frame_nr = RING_BLOCKS * RING_BLOCK / RING_FRAME,
		.tp_retire_blk_tov = RING_CLOSE_MS,
	};
	bool v3 = p->kind == PROBE_RING3;
	int ret;

	ret = net_set(p->fd, SOL_PACKET, PACKET_VERSION,
		      v3 ? TPACKET_V3 : TPACKET_V2);
	if (ret)
		return ret;
	if (setsockopt(p->fd, SOL_PACKET, PACKET_RX_RING, &req,
		       v3 ? sizeof(req) : sizeof(struct tpacket_req)))
		return -errno;
	p->ring = mmap(NULL, RING_BLOCKS * RING_BLOCK, PROT_READ | PROT_WRITE,
		       MAP_SHARED, p->fd, 0);
	return p->ring == MAP_FAILED ? -errno : 0;
}

/* Everything that passes the device, also what is not for it */
static int probe_bind(struct probe *p, const char *dev, int protocol)
{
	struct sockaddr_ll ll = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(protocol),
	};
	struct packet_mreq mreq = { .mr_type = PACKET_MR_PROMISC };
	struct ifreq ifr = { 0 };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", dev);
	if (ioctl(p->fd, SIOCGIFINDEX, &ifr))
		return -errno;
	ll.sll_ifindex = ifr.ifr_ifindex;
	mreq.mr_ifindex = ifr.ifr_ifindex;
	if (setsockopt(p->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mreq,
		       sizeof(mreq)) ||
	    bind(p->fd, (void *)&ll, sizeof(ll)))
		return -errno;
	return 0;
}

/* A socket on @dev, which is where that side of @n is */
int probe_open(struct probe *p, const struct netrig *n, enum net_side side,
	       const char *dev, enum probe_kind kind, int protocol,
		      const struct match *match)
{
	bool ring = kind == PROBE_RING2 || kind == PROBE_RING3;
	int type = kind == PROBE_DGRAM ? SOCK_DGRAM : SOCK_RAW;
	int ret;

	*p = (struct probe) { .kind = kind, .match = match };
	p->fd = net_socket(n, side, AF_PACKET, type | SOCK_NONBLOCK, 0);
	if (p->fd < 0)
		return p->fd;
	net_set(p->fd, SOL_SOCKET, SO_RCVBUFFORCE, 8 * MiB);
	ret = ring ? probe_ring(p) : 0;
	return ret ?: probe_bind(p, dev, protocol);
}

void probe_close(struct probe *p)
{
	if (p->fd >= 0)
		close(p->fd);
	if (p->ring)
		munmap(p->ring, RING_BLOCKS * RING_BLOCK);
	*p = PROBE_NONE;
}
