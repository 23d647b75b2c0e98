// SPDX-License-Identifier: GPL-2.0
/*
 * Sockets of a container, which leave by a netkit device. That one does no DMA: it
 * stands for the device of which it leases a receive queue. Here, this is a
 * netdevsim:
 *
 *	container | host                    | peer
 *	nk73c ----|- nk73    netdevsim7301 -|- netdevsim7302
 *	10.73.9.1 |        192.0.2.1        | 192.0.2.2, 10.73.9.2
 */
#include <linux/ethtool.h>
#include <linux/genetlink.h>
#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <linux/netdev.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include "common.h"
#include "netio.h"
#include "../../net/netmem/netlink.h"
#include "../../net/netmem/nsim.h"

#define SIZE		(1 * MiB)
#define SEED		NET_SEED
#define NET		9
#define LEN		20000
#define NETKITS		6
#define MAX_TARGETS	16
#define OF_ONE_SLOT	(MAX_TARGETS + 3)
#define PHYS		"netdevsim7301"

/* --- netlink: a netkit, and the lease --- */

static void put_u32(struct nl_request *req, __u16 type, __u32 value)
{
	nl_put_attr(req, type, &value, sizeof(value));
}

static void put_str(struct nl_request *req, __u16 type, const char *value)
{
	nl_put_attr(req, type, value, strlen(value) + 1);
}

static struct nlattr *nest_begin(struct nl_request *req, __u16 type)
{
	return nl_put_attr(req, type | NLA_F_NESTED, NULL, 0);
}

static void nest_end(struct nl_request *req, struct nlattr *nest)
{
	nest->nla_len = (char *)req + NLMSG_ALIGN(req->nlh.nlmsg_len) -
			(char *)nest;
}

static int nl_socket_in(int ns, int protocol)
{
	int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int fd = ns_enter(ns);

	if (!fd)
		fd = nl_socket(protocol);
	ns_enter(home);
	close(home);
	return fd;
}

/*
 * In the netns @ns. What the kernel says or, if that is 0 and @attr is not, the
 * value of this attribute of its reply, behind @skip bytes of the family's header.
 */
static int nl_do_in(int ns, int protocol, struct nl_request *req, size_t skip,
		    __u16 attr)
{
	char reply[8192] __attribute__((aligned(NLMSG_ALIGNTO)));
	int fd = nl_socket_in(ns, protocol), ret;
	const int *value;

	if (fd < 0)
		return fd;
	ret = nl_do(fd, req, reply, sizeof(reply));
	close(fd);
	if (ret < 0 || !attr)
		return ret < 0 ? ret : 0;
	value = ret ? nl_attr(reply, skip, attr) : NULL;
	return value ? *value : -ENOENT;
}

/* nk73 in the netns @host, nk73c with room for a leased queue in @container */
static int netkit_new(int host, int container)
{
	const struct ifinfomsg info = {};
	struct nlattr *link, *data, *peer;
	struct nl_request req;

	nl_start(&req, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &info,
		     sizeof(info));
	put_str(&req, IFLA_IFNAME, "nk73");
	link = nest_begin(&req, IFLA_LINKINFO);
	put_str(&req, IFLA_INFO_KIND, "netkit");
	data = nest_begin(&req, IFLA_INFO_DATA);
	peer = nest_begin(&req, IFLA_NETKIT_PEER_INFO);
	nl_put(&req, &info, sizeof(info));
	put_str(&req, IFLA_IFNAME, "nk73c");
	put_u32(&req, IFLA_NUM_RX_QUEUES, 2);
	put_u32(&req, IFLA_NET_NS_FD, container);
	nest_end(&req, peer);
	nest_end(&req, data);
	nest_end(&req, link);
	return nl_do_in(host, NETLINK_ROUTE, &req, 0, 0);
}

/* What the netns @other is called in the netns @ns */
static int nsid_of(int ns, int other)
{
	const struct rtgenmsg gen = {};
	struct nl_request req;

	nl_start(&req, RTM_GETNSID, 0, &gen, sizeof(gen));
	put_u32(&req, NETNSA_FD, other);
	return nl_do_in(ns, NETLINK_ROUTE, &req, sizeof(gen), NETNSA_NSID);
}

static int family_of(int ns, const char *name)
{
	int fd = nl_socket_in(ns, NETLINK_GENERIC);
	int ret = fd < 0 ? fd : nl_family(fd, name);

	close(fd);
	return ret;
}

/* @dev in @ns gets a queue, queue 0 of @phys in @phys_ns: its number */
static int lease(int ns, unsigned int dev, int phys_ns, unsigned int phys)
{
	const struct genlmsghdr genl = {
		.cmd = NETDEV_CMD_QUEUE_CREATE,
		.version = NETDEV_FAMILY_VERSION,
	};
	int family = family_of(ns, NETDEV_FAMILY_NAME);
	int nsid = nsid_of(ns, phys_ns);
	struct nlattr *nest, *queue;
	struct nl_request req;

	if (family < 0 || nsid < 0)
		return family < 0 ? family : nsid;
	nl_start(&req, family, 0, &genl, sizeof(genl));
	put_u32(&req, NETDEV_A_QUEUE_IFINDEX, dev);
	put_u32(&req, NETDEV_A_QUEUE_TYPE, NETDEV_QUEUE_TYPE_RX);
	nest = nest_begin(&req, NETDEV_A_QUEUE_LEASE);
	put_u32(&req, NETDEV_A_LEASE_IFINDEX, phys);
	queue = nest_begin(&req, NETDEV_A_LEASE_QUEUE);
	put_u32(&req, NETDEV_A_QUEUE_ID, 0);
	put_u32(&req, NETDEV_A_QUEUE_TYPE, NETDEV_QUEUE_TYPE_RX);
	nest_end(&req, queue);
	put_u32(&req, NETDEV_A_LEASE_NETNS_ID, nsid);
	nest_end(&req, nest);
	return nl_do_in(ns, NETLINK_GENERIC, &req, GENL_HDRLEN, NETDEV_A_QUEUE_ID);
}

/* --- the rig --- */

FIXTURE(netkit) {
	struct netrig net;	/* its card is nk73c, its peer netdevsim7302 */
	struct netrig host;	/* sockets of the host, no ring of its own */
	struct nsim nsim;
	struct net_pair pair;	/* from the container */
	struct net_pair other;	/* from the host */
	__u64 rng;
};

FIXTURE_VARIANT(netkit) {
	bool tcp;
};

FIXTURE_VARIANT_ADD(netkit, tcp) { .tcp = true };
FIXTURE_VARIANT_ADD(netkit, udp) { .tcp = false };

static unsigned int index_in(int ns, int home, const char *dev)
{
	unsigned int index = 0;

	if (!ns_enter(ns))
		index = if_nametoindex(dev);
	ns_enter(home);
	return index;
}

static int container_up(const struct netrig *n)
{
	return net_ip(n->ns[NET_CARD],
		      "link set dev nk73c up\n"
		      "addr add 10.73.%u.1/24 dev nk73c\n", n->net);
}

static int host_up(const struct netrig *n, const struct nsim *s)
{
	return net_ip(s->ns[TX],
		      "link set dev nk73 up\n"
		      "route add 10.73.%u.1/32 dev nk73\n", n->net);
}

/* The host forwards. Nobody asks for addresses on a netkit: it has IFF_NOARP */
static int routes(const struct netrig *n, const struct nsim *s)
{
	int ret = nsim_sysctl(s, TX, "net/ipv4/ip_forward", "1");

	if (!ret)
		ret = host_up(n, s);
	if (!ret)
		ret = net_ip(s->ns[TX], "route add 10.73.%u.2/32 via 192.0.2.2\n",
			     n->net);
	if (!ret)
		ret = net_ip(s->ns[RX],
			     "addr add 10.73.%u.2/32 dev lo\n"
			     "route add 10.73.%u.1/32 via 192.0.2.1\n",
			     n->net, n->net);
	return ret ?: container_up(n);
}

static int open_pair(const struct netrig *n, bool tcp, struct net_pair *p)
{
	return tcp ? net_tcp(n, AF_INET, p) : net_udp(n, AF_INET, p);
}

FIXTURE_SETUP(netkit)
{
	struct netrig *n = &self->net;
	struct nsim *s = &self->nsim;
	int ret;

	self->rng = 7900;
	self->pair = NET_PAIR_NONE;
	self->other = NET_PAIR_NONE;
	NETRIG_UP(n, NULL, MEM_UDMABUF_4K, SIZE);
	ASSERT_EQ(0, mem_fill(&n->mem, 0, 0, SIZE, SEED));
	ret = nsim_up(s);
	if (ret == -ENOENT)
		SKIP(return, "no netdevsim");
	ASSERT_EQ(0, ret);

	n->net = NET;
	n->home = s->home;
	n->ns[NET_PEER] = s->ns[RX];
	n->ns[NET_CARD] = net_ns_new();
	ASSERT_GE(n->ns[NET_CARD], 0);
	snprintf(n->pci, sizeof(n->pci), PHYS);
	self->host = *n;
	self->host.ns[NET_CARD] = s->ns[TX];

	ret = netkit_new(s->ns[TX], n->ns[NET_CARD]);
	if (ret == -EOPNOTSUPP)
		SKIP(return, "no netkit");
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, routes(n, s));
	ASSERT_EQ(0, open_pair(n, variant->tcp, &self->pair));
	ASSERT_EQ(0, net_mark(&self->pair));
}

FIXTURE_TEARDOWN(netkit)
{
	lab_max_targets(0);
	struct netrig *n = &self->net;

	net_close(&self->other);
	net_close(&self->pair);
	if (n->ns[NET_CARD] >= 0)
		close(n->ns[NET_CARD]);
	/* there is nothing to be brought home */
	n->home = -1;
	netrig_down(n);
	nsim_down(&self->nsim);
}

#define LEASE() do {							\
	int ns_ = self->net.ns[NET_CARD];				\
									\
	ASSERT_EQ(1, lease(ns_, index_in(ns_, self->nsim.home, "nk73c"), \
			   self->nsim.ns[TX], self->nsim.ifindex[TX]));	\
} while (0)

#define LEASE_AND_REGISTER() do {					\
	LEASE();							\
	ASSERT_EQ(0, net_reg(&self->net, 0, self->net.mem.fd,		\
			     self->pair.tx, 0));			\
} while (0)

/* --- who is a target --- */

TEST_F(netkit, without_a_lease)
{
	struct io_uring_query_regbuf_map q;
	struct netrig *n = &self->net;
	int fd = n->mem.fd;

	EXPECT_EQ(-EOPNOTSUPP, net_reg(n, 0, fd, self->pair.tx, 0));
	EXPECT_EQ(0, net_reg(n, 1, fd, self->pair.tx, IO_REGBUF_DMABUF_COPY_OK));
	ASSERT_EQ(0, query_map(&n->ring, 1, 0, &q));
	EXPECT_EQ(0, q.nr_targets);
	EXPECT_EQ(0, bufinfo_attached(PHYS));

	/* it is looked at when a buffer is registered */
	LEASE();
	ASSERT_EQ(0, net_reg(n, 0, fd, self->pair.tx, 0));
	EXPECT_EQ(0, net_works(n, 0, &self->pair));
}

TEST_F(netkit, names_the_leased_device)
{
	struct io_uring_query_regbuf_map q;
	struct netrig *n = &self->net;

	LEASE_AND_REGISTER();
	ASSERT_EQ(0, net_query(n, 0, &q));
	EXPECT_STREQ(PHYS, q.device);
	EXPECT_EQ(1, q.nr_targets);
	EXPECT_EQ(1, bufinfo_attached(PHYS));
	EXPECT_EQ(1, bufinfo_attachments(n->mem.fd));
	ASSERT_EQ(0, reg_clear(&n->ring, 0));
	EXPECT_TRUE(bufinfo_wait(n->mem.fd, 0, net_patience()));
}

/* --- data --- */

TEST_F(netkit, sends)
{
	static const __u32 lens[] = { 1, 7, 500, 1000, 1472, 4097, 65536, SIZE };
	unsigned int nr = variant->tcp ? ARRAY_SIZE(lens) : 5;
	struct io_uring_query_regbuf_map q;
	struct netrig *n = &self->net;
	struct receiver r;
	bool copied;

	LEASE_AND_REGISTER();
	for (unsigned int i = 0; i < nr; i++) {
		struct piece p = piece_random(&self->rng, lens[i], SIZE, SEED);

		if (!variant->tcp) {
			ASSERT_EQ(p.len, net_send_sync(n, self->pair.tx, 0,
						       p.pos, p.len, 0,
						       &copied));
			EXPECT_FALSE(copied);
			ASSERT_EQ(0, net_recv_datagram(self->pair.rx, &p, 1));
			continue;
		}
		ASSERT_EQ(0, receiver_start(&r, self->pair.rx, &p, 1));
		EXPECT_EQ(p.len, net_send(n, self->pair.tx, 0, p.pos, p.len,
					  MSG_WAITALL));
		ASSERT_EQ(0, receiver_join(&r));
	}
	ASSERT_EQ(0, net_idle(n));
	EXPECT_EQ(0, n->copied);
	ASSERT_EQ(0, net_query(n, 0, &q));
	EXPECT_EQ(IO_REGBUF_MAP_SYSTEM, q.state);
	EXPECT_GE(q.hits, nr);
	EXPECT_EQ(0, q.copied_bytes);
}

/* What was mapped for the container's device is mapped for the host's */
TEST_F(netkit, sockets_of_the_host)
{
	struct netrig *n = &self->net;

	ASSERT_EQ(0, open_pair(&self->host, variant->tcp, &self->other));
	LEASE_AND_REGISTER();
	EXPECT_EQ(0, net_works(n, 0, &self->other));
	EXPECT_EQ(0, net_works(n, 0, &self->pair));

	/* but the host's socket says nothing about the container's device */
	ASSERT_EQ(0, net_reg(n, 1, n->mem.fd, self->other.tx, 0));
	EXPECT_EQ(0, net_works(n, 1, &self->other));
	EXPECT_EQ(-ENODEV, net_send(n, self->pair.tx, 1, 0, 1000, 0));
	ASSERT_EQ(0, net_mark(&self->pair));
}

/* What counts is what the device that does the DMA can, not what netkit says */
TEST_F(netkit, leased_device_without_sg)
{
	struct netrig *n = &self->net, *host = &self->host;

	LEASE_AND_REGISTER();
	ASSERT_FALSE(ns_enter(self->nsim.ns[TX]));
	if_indextoname(self->nsim.ifindex[TX], host->dev[NET_CARD]);
	ASSERT_FALSE(ns_enter(n->home));
	ASSERT_EQ(0, net_feature(host, ETHTOOL_SSG, false));
	EXPECT_EQ(-EOPNOTSUPP, net_send(n, self->pair.tx, 0, 0, 1000, 0));
	ASSERT_EQ(0, net_feature(host, ETHTOOL_SSG, true));
	EXPECT_EQ(0, net_works(n, 0, &self->pair));
}

/* --- the end of a device --- */

/* Another netkit for the container, with the same address; it leads nowhere */
static int netkit_renew(const struct netrig *n, const struct nsim *s)
{
	int ret = netkit_new(s->ns[RX], n->ns[NET_CARD]);

	if (!ret)
		ret = net_ip(s->ns[RX], "link set dev nk73 up\n");
	return ret ?: container_up(n);
}

/*
 * Slot 0 sends nothing by netkit any more. It is still @mapped if the device is
 * there, which may have packets of it in its rings. Then it is cleared.
 */
#define CHECK_GONE(mapped) do {						\
	struct netrig *n_ = &self->net;					\
	struct io_uring_query_regbuf_map q_;				\
	int no_route_ = variant->tcp ? -EHOSTUNREACH : -ENETUNREACH;	\
									\
	EXPECT_EQ(0, index_in(n_->ns[NET_CARD], n_->home, "nk73c"));	\
	EXPECT_TRUE(bufinfo_wait(n_->mem.fd, mapped, net_patience()));	\
	EXPECT_EQ(mapped, bufinfo_attached(PHYS));			\
	EXPECT_EQ(no_route_, net_send(n_, self->pair.tx, 0, 0, 1000, 0)); \
	ASSERT_EQ(0, netkit_renew(n_, &self->nsim));			\
	EXPECT_EQ(-ENODEV, net_send(n_, self->pair.tx, 0, 0, 1000, 0));	\
	ASSERT_EQ(0, query_map(&n_->ring, 0, 0, &q_));			\
	EXPECT_EQ(mapped ? IO_REGBUF_MAP_SYSTEM : IO_REGBUF_MAP_DEAD,	\
		  q_.state);						\
	EXPECT_EQ(-EOPNOTSUPP,						\
		  net_reg(n_, 1, n_->mem.fd, self->pair.tx, 0));	\
	EXPECT_EQ(0, reg_clear(&n_->ring, 0));				\
	EXPECT_TRUE(bufinfo_wait(n_->mem.fd, 0, net_patience()));	\
	EXPECT_EQ(0, bufinfo_attached(PHYS));				\
} while (0)

TEST_F(netkit, netkit_is_removed)
{
	struct netrig *n = &self->net;

	LEASE_AND_REGISTER();
	ASSERT_EQ(0, open_pair(&self->host, variant->tcp, &self->other));
	EXPECT_EQ(0, net_works(n, 0, &self->pair));
	EXPECT_EQ(0, net_works(n, 0, &self->other));
	ASSERT_EQ(0, net_ip(self->nsim.ns[TX], "link del nk73\n"));
	EXPECT_EQ(0, net_works(n, 0, &self->other));
	CHECK_GONE(1);

	/* the device itself is as it was */
	ASSERT_EQ(0, net_reg(n, 0, n->mem.fd, self->other.tx, 0));
	EXPECT_EQ(0, net_works(n, 0, &self->other));
}

TEST_F(netkit, leased_device_is_removed)
{
	LEASE_AND_REGISTER();
	EXPECT_EQ(0, net_works(&self->net, 0, &self->pair));
	ASSERT_EQ(0, nsim_del_port(TX));
	CHECK_GONE(0);
}

TEST_F(netkit, leased_device_and_its_parent_are_removed)
{
	LEASE_AND_REGISTER();
	EXPECT_EQ(0, net_works(&self->net, 0, &self->pair));
	ASSERT_EQ(0, nsim_del_dev(TX));
	CHECK_GONE(0);
}

/* Each time for a netkit that is not the one before, although it is called so */
TEST_F(netkit, leases_again)
{
	struct netrig *n = &self->net;
	struct nsim *s = &self->nsim;

	for (int i = 0; i < 3; i++) {
		LEASE();
		ASSERT_EQ(0, net_reg(n, i, n->mem.fd, self->pair.tx, 0));
		EXPECT_EQ(0, net_works(n, i, &self->pair));
		EXPECT_EQ(i + 1, bufinfo_attached(PHYS));
		ASSERT_EQ(0, net_ip(s->ns[TX], "link del nk73\n"));
		ASSERT_EQ(0, netkit_new(s->ns[TX], n->ns[NET_CARD]));
		ASSERT_EQ(0, host_up(n, s));
		ASSERT_EQ(0, container_up(n));
		EXPECT_EQ(-ENODEV, net_send(n, self->pair.tx, i, 0, 1000, 0));
		ASSERT_EQ(0, net_mark(&self->pair));
	}
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(0, reg_clear(&n->ring, i));
}

/*
 * Data is on its way through the host when the netkit goes: it arrives or it does
 * not, but as it is, and nothing stays.
 */
TEST_F(netkit, removed_while_sending)
{
	const struct piece want = { SEED, 0, variant->tcp ? LEN : 1000 };
	struct netrig *n = &self->net, *host = &self->host;
	char got[1];

	LEASE_AND_REGISTER();
	ASSERT_FALSE(ns_enter(self->nsim.ns[TX]));
	if_indextoname(self->nsim.ifindex[TX], host->dev[NET_CARD]);
	ASSERT_FALSE(ns_enter(n->home));
	if (net_netem(host, NET_CARD, "delay 500ms"))
		SKIP(return, "no netem");
	EXPECT_EQ(want.len, net_send(n, self->pair.tx, 0, 0, want.len, 0));
	EXPECT_EQ(1, n->pending);
	ASSERT_EQ(0, net_ip(self->nsim.ns[TX], "link del nk73\n"));
	if (variant->tcp) {
		lab_sleep_ms(800);
		net_close(&self->pair);
		EXPECT_EQ(0, net_idle(n));
	} else {
		EXPECT_EQ(0, net_idle(n));
		lab_sleep_ms(200);
		if (recv(self->pair.rx, got, 1, MSG_PEEK | MSG_DONTWAIT) >= 0)
			EXPECT_EQ(0, net_recv_datagram(self->pair.rx, &want, 1));
	}
	EXPECT_EQ(0, reg_clear(&n->ring, 0));
	EXPECT_TRUE(bufinfo_wait(n->mem.fd, 0, net_patience()));
	EXPECT_EQ(0, bufinfo_attached(PHYS));
}

/* --- devices that come and go --- */

/* What is made for a device, and freed again */
static int count_devices(struct counter *made, struct counter *freed)
{
	int ret = counter_open(made, "idev_made") ?:
		  counter_open(freed, "idev_freed");

	if (ret)
		return ret;
	ret = counter_add(made, "kmem/kmalloc",
			  "call_site.function == dma_iobuf_dev_create");
	return ret ?: counter_add(freed, "kmem/kfree",
				  "call_site.function == net_iobuf_dev_free");
}

/* That ends in a worker */
static bool wait_freed(struct counter *made, struct counter *freed)
{
	double end = lab_now() + net_patience() / 1000.0;

	while (counter_read(freed) < counter_read(made) && lab_now() < end)
		lab_sleep_ms(20);
	return counter_read(freed) == counter_read(made);
}

/* Another netkit, as good as the one that goes */
static int netkit_again(const struct netrig *n, const struct nsim *s)
{
	int ret = net_ip(s->ns[TX], "link del nk73\n") ?:
		  netkit_new(s->ns[TX], n->ns[NET_CARD]);

	return ret ?: host_up(n, s) ?: container_up(n);
}

/* Nothing is left, be the slot cleared before the netkit goes or after */
TEST_F(netkit, many_netkits)
{
	struct netrig *n = &self->net;
	struct counter made, freed;

	ASSERT_EQ(0, count_devices(&made, &freed));
	for (int i = 0; i < NETKITS; i++) {
		LEASE_AND_REGISTER();
		EXPECT_EQ(0, net_works(n, 0, &self->pair));
		ASSERT_EQ(0, net_idle(n));
		if (i & 1) {
			ASSERT_EQ(0, reg_clear(&n->ring, 0));
			ASSERT_TRUE(bufinfo_wait(n->mem.fd, 0, net_patience()));
		}
		ASSERT_EQ(0, netkit_again(n, &self->nsim));
		if (!(i & 1))
			ASSERT_EQ(0, reg_clear(&n->ring, 0));
		ASSERT_EQ(0, net_mark(&self->pair));
	}
	EXPECT_TRUE(wait_freed(&made, &freed));
	EXPECT_EQ(NETKITS, counter_read(&made));
	counter_close(&made);
	counter_close(&freed);
}

/*
 * One slot outlives them all, the device that they lease is always there: entries
 * of netkits that are gone make room, once there is no other. A socket of the host
 * has sent a part by the first of them, and waits for its peer meanwhile: what is
 * queued keeps the first attachment, the rest is sent by another.
 */
TEST_F(netkit, many_netkits_of_one_slot)
{
	struct io_uring_query_regbuf_map q;
	struct io_uring_regbuf_desc d;
	struct netrig *n = &self->net;
	const struct piece all = { SEED, 0, SIZE };
	struct counter made, freed;
	struct uring_res res;
	struct receiver r;
	bool queued;

	ASSERT_EQ(0, lab_max_targets(MAX_TARGETS));
	ASSERT_EQ(0, count_devices(&made, &freed));
	LEASE_AND_REGISTER();
	ASSERT_EQ(0, open_pair(&self->host, variant->tcp, &self->other));
	if (variant->tcp) {
		ASSERT_EQ(0, net_set(self->other.tx, SOL_SOCKET, SO_SNDBUF,
				     64 * KiB));
		ASSERT_EQ(0, net_set(self->other.rx, SOL_SOCKET, SO_RCVBUF,
				     64 * KiB));
		net_prep(n, self->other.tx, 0, all.pos, all.len, MSG_WAITALL);
		ASSERT_EQ(1, uring_submit(&n->ring, 0));
	}
	for (unsigned int i = 1; i < OF_ONE_SLOT; i++) {
		EXPECT_EQ(0, net_works(n, 0, &self->pair));
		ASSERT_EQ(0, net_idle(n));
		ASSERT_EQ(0, netkit_again(n, &self->nsim));
		EXPECT_EQ(-ENODEV, net_send(n, self->pair.tx, 0, 0, 1000, 0));
		ASSERT_EQ(0, net_mark(&self->pair));
		LEASE();
		d = desc_add(self->pair.tx);
		ASSERT_EQ(0, reg_one(&n->ring, 0, &d));
		ASSERT_EQ(0, query_map(&n->ring, 0, 0, &q));
		EXPECT_EQ(i < MAX_TARGETS ? i + 1 : MAX_TARGETS, q.nr_targets);
		queued = variant->tcp && i >= MAX_TARGETS;
		EXPECT_TRUE(bufinfo_wait(n->mem.fd, q.nr_targets + queued,
					 net_patience()));
	}
	EXPECT_EQ(0, net_works(n, 0, &self->pair));
	if (variant->tcp) {
		ASSERT_EQ(0, receiver_start(&r, self->other.rx, &all, 1));
		ASSERT_EQ(0, net_result(n, &res));
		EXPECT_EQ(all.len, res.res);
		ASSERT_EQ(0, receiver_join(&r));
	}
	EXPECT_EQ(0, net_works(n, 0, &self->other));
	ASSERT_EQ(0, net_idle(n));
	ASSERT_EQ(0, reg_clear(&n->ring, 0));
	EXPECT_TRUE(bufinfo_wait(n->mem.fd, 0, net_patience()));
	/* the last netkit is still there */
	EXPECT_TRUE(wait_freed(&made, &freed));
	EXPECT_EQ(OF_ONE_SLOT, counter_read(&made));
	counter_close(&made);
	counter_close(&freed);
}

/* --- what a descriptor takes --- */

#define MAX_SEGMENT	"/sys/kernel/debug/netdevsim/netdevsim7301/max_segment_size"

/* Packets of more than a descriptor, all the way */
static int large_mtu(const struct netrig *n, const struct nsim *s)
{
	char name[IF_NAMESIZE];
	int ret = net_ip(n->ns[NET_CARD], "link set dev nk73c mtu 60000\n") ?:
		  net_ip(s->ns[TX], "link set dev nk73 mtu 60000\n");

	for (int side = TX; !ret && side < SIDES; side++) {
		ns_enter(s->ns[side]);
		if_indextoname(s->ifindex[side], name);
		ns_enter(s->home);
		ret = net_ip(s->ns[side], "link set dev %s mtu 60000\n", name);
	}
	return ret;
}

/* Memory that is contiguous is cut for a device with small descriptors */
TEST_F(netkit, small_descriptors)
{
	static const char *const max[] = { "4096", "16384", "65536" };
	struct piece p = { SEED, 3, variant->tcp ? SIZE - 3 : 40000 };
	struct netrig *n = &self->net;
	struct receiver r;
	struct mem mem;
	int tx, rx;

	LEASE();
	ASSERT_EQ(0, large_mtu(n, &self->nsim));
	ASSERT_EQ(0, open_pair(n, variant->tcp, &self->other));
	tx = self->other.tx;
	rx = self->other.rx;
	ASSERT_EQ(0, mem_create(&mem, MEM_CMA, SIZE));
	ASSERT_EQ(0, mem_fill(&mem, 0, 0, SIZE, SEED));
	for (unsigned int i = 0; i < ARRAY_SIZE(max); i++) {
		ASSERT_EQ(0, file_write(MAX_SEGMENT, max[i]));
		ASSERT_EQ(0, net_reg(n, 0, mem.fd, tx, 0));
		if (variant->tcp) {
			ASSERT_EQ(0, receiver_start(&r, rx, &p, 1));
			EXPECT_EQ(0, net_send_all(n, tx, 0, p.pos,
						  p.len, 0));
			ASSERT_EQ(0, receiver_join(&r));
		} else {
			EXPECT_EQ(p.len, net_send(n, tx, 0, p.pos,
						  p.len, 0));
			ASSERT_EQ(0, net_recv_datagram(rx, &p, 1));
		}
		ASSERT_EQ(0, net_idle(n));
		ASSERT_EQ(0, reg_clear(&n->ring, 0));
		/* the next registration is to see the next limit */
		ASSERT_TRUE(bufinfo_wait(mem.fd, 0, net_patience()));
	}
	EXPECT_EQ(0, n->copied);
	mem_destroy(&mem);
}

TEST_HARNESS_MAIN
