/* SPDX-License-Identifier: GPL-2.0 */
/*
 * From the network to a drive: a card writes what the peer sends by TCP into a part
 * of a registered dma-buf, and each piece goes from there to the drive, by the offset
 * that its completion has. Functions return 0, or -errno.
 */
#ifndef RECEIVE_RELAY_H
#define RECEIVE_RELAY_H

#include "netio.h"
#include "rings.h"
#include "zcrx.h"

#define RELAY_SLOTS	8
#define RELAY_VECTORS	64
/* MTUs of packets that carry one page, with the time stamps that TCP has */
#define MTU_PAGE_TCP4	4148
#define MTU_PAGE_TCP6	4168
#define MTU_PAGE(family) ((family) == AF_INET ? MTU_PAGE_TCP4 : MTU_PAGE_TCP6)

struct relay {
	const char *card;
	unsigned int queue;	/* of the card: the last */
	struct netrig net;	/* its ring and memory are not used */
	struct uring ring;
	struct mem mem;		/* slot 0, with the drive as target */
	__u64 base;		/* where address 0 of the slot lies in it */
	struct zcrx z;
	int disk;
	struct net_pair tcp;	/* from the peer to the card */
	bool settled;		/* the card is to be as it was */
};

/* What a run of it was like */
struct relay_run {
	unsigned int batch;	/* pieces that one write takes; 0: 1 */
	/* returned */
	unsigned int pieces, writes;
	unsigned int whole;	/* pieces of 4096 bytes at the beginning of a page */
};

void relay_init(struct relay *r);
/*
 * A card that splits headers off, with that MTU at both ends, and neighbours that need
 * not be asked for. *@why as netrig_up()
 */
int relay_link(struct relay *r, unsigned int mtu, const char **why);
/* That of one end: its MTU, and the other end as a neighbour */
int relay_side(const struct relay *r, enum net_side side, unsigned int mtu);
/* A ring with memory in slot 0 for the drive; no area yet */
int relay_store(struct relay *r, enum mem_kind kind, __u64 size, __u32 ring_flags,
		const char **why);
/*
 * The instance with @len bytes of slot 0 from @off on as its area, for the queue of
 * the relay; waits for the link
 */
int relay_open(struct relay *r, __u64 off, __u64 len);
int relay_open_area(struct relay *r, struct io_uring_zcrx_area_reg *area);
/* Another ring, with the memory in slot 0; the last one goes */
int relay_renew(struct relay *r);
/* That, and the queue gets the first @len bytes, as soon as the last ring has ended */
int relay_reopen(struct relay *r, __u64 len);
/* The connection comes to the queue of the relay, where the card has others */
int relay_connect(struct relay *r, int family);
/* The ring has ended, and the card receives into ordinary memory */
int relay_close(struct relay *r);
void relay_down(struct relay *r);

#define RELAY_UP_CARD(r, name, kind, size, ring_flags, mtu) do {		\
	const char *why_ = NULL;					\
	int ret_;							\
									\
	relay_init(r);							\
	(r)->card = name;						\
	ret_ = relay_link(r, mtu, &why_);				\
	if (!ret_)							\
		ret_ = relay_store(r, kind, size, ring_flags, &why_);	\
	if (why_)							\
		SKIP(return, "%s", why_);				\
	ASSERT_EQ(0, ret_);						\
} while (0)

#define RELAY_UP(r, kind, size, ring_flags, mtu)				\
	RELAY_UP_CARD(r, "e1000e", kind, size, ring_flags, mtu)

unsigned int relay_ifindex(const struct relay *r);

/*
 * The peer sends @p, which is a whole number of blocks; it arrives in the area, goes
 * to the drive at 0, and is compared in both places
 */
int relay_run(struct relay *r, const struct piece *p, struct relay_run *run);
/* What arrives of that, and where it lies; who sends and who looks at the drive is the caller */
int relay_take(struct relay *r, const struct piece *p, struct relay_run *run);

/* It is compared in the area only, and given back at once */
int relay_drain(struct relay *r, const struct piece *p);

/* --- and single steps of that --- */

/* piece_send() by the peer, in a thread of its own */
struct sender {
	int fd;
	struct piece p;
	pthread_t thread;
	int error;
};

int sender_start(struct sender *s, int fd, const struct piece *p);
int sender_join(struct sender *s);

/* A piece that has arrived: its offset with the token of its area */
struct arrived {
	__u64 off;
	__u32 len;
};

/*
 * A receive has been submitted with the user_data RELAY_RECV: its next piece, which
 * are bytes of @p behind the @got first. How many, or -errno; -EPIPE: it has ended
 */
#define RELAY_RECV	1
int relay_next(struct relay *r, const struct piece *p, __u64 got, struct arrived *a);
/* A receive has been prepared: until it has all of @p. How many pieces, or -errno */
int relay_arrive(struct relay *r, const struct piece *p, struct arrived *pieces,
		 unsigned int max);

#endif
