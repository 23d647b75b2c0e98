// SPDX-License-Identifier: GPL-2.0
/*
 * What becomes of messages when their connection or their socket ends, where sockets and
 * connections would have to be caught within microseconds.
 */
#include <kunit/test.h>
#include <linux/bvec.h>
#include <linux/net.h>
#include <linux/skbuff.h>
#include <linux/uio.h>
#include <net/net_namespace.h>
#include <net/sock.h>

#include "rds.h"

/* --- connections --- */

#define PATHS	2

struct rds_test_conn {
	struct rds_connection conn;
	struct rds_conn_path path[PATHS];
	struct rds_transport trans;
	unsigned int sent;		/* messages that the transport got */
	unsigned int tries;		/* to send some */
};

/* Who does not give up would never end */
static void rds_test_prepare(struct rds_conn_path *cp)
{
	struct rds_test_conn *c = container_of(cp->cp_conn, struct rds_test_conn, conn);

	if (++c->tries > 100)
		c->conn.c_cp0_mprds_catchup_tx_seq = 0;
}

/* Has room for everything */
static int rds_test_xmit(struct rds_connection *conn, struct rds_message *rm,
			 unsigned int hdr_off, unsigned int sg, unsigned int off)
{
	struct rds_test_conn *c = container_of(conn, struct rds_test_conn, conn);

	c->sent++;
	return sizeof(struct rds_header);
}

/* As that of TCP */
static int rds_test_is_acked(struct rds_message *rm, uint64_t ack)
{
	return test_bit(RDS_MSG_HAS_ACK_SEQ, &rm->m_flags) &&
	       (s32)((u32)rm->m_ack_seq - (u32)ack) < 0;
}

static struct rds_test_conn *rds_test_conn_new(struct kunit *test)
{
	struct rds_test_conn *c = kunit_kzalloc(test, sizeof(*c), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, c);
	c->trans.xmit_path_prepare = rds_test_prepare;
	c->trans.xmit = rds_test_xmit;
	c->trans.t_mp_capable = 1;
	c->conn.c_trans = &c->trans;
	c->conn.c_path = c->path;
	c->conn.c_npaths = PATHS;
	rds_conn_net_set(&c->conn, &init_net);
	for (unsigned int i = 0; i < PATHS; i++) {
		struct rds_conn_path *cp = &c->path[i];

		cp->cp_conn = &c->conn;
		cp->cp_index = i;
		cp->cp_next_tx_seq = 1;
		spin_lock_init(&cp->cp_lock);
		init_waitqueue_head(&cp->cp_waitq);
		INIT_LIST_HEAD(&cp->cp_send_queue);
		INIT_LIST_HEAD(&cp->cp_retrans);
		atomic_set(&cp->cp_state, RDS_CONN_UP);
	}
	return c;
}

/* An empty one, which a path is to send; with a reference for the test */
static struct rds_message *rds_test_queue(struct kunit *test, struct rds_conn_path *cp)
{
	struct rds_message *rm = rds_message_alloc(0, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, rm);
	rm->data.op_active = 1;
	rm->m_inc.i_conn = cp->cp_conn;
	rm->m_inc.i_conn_path = cp;
	rds_message_populate_header(&rm->m_inc.i_hdr, 0, 0, cp->cp_next_tx_seq++);
	rds_message_addref(rm);
	list_add_tail(&rm->m_conn_item, &cp->cp_send_queue);
	set_bit(RDS_MSG_ON_CONN, &rm->m_flags);
	return rm;
}

/*
 * A message that a connection had sent is about to be sent by the next one, which learns
 * just then that all that it has sent is acknowledged. The sequence numbers of the two
 * have nothing to do with each other.
 */
static void rds_test_sent_again(struct kunit *test)
{
	struct rds_test_conn *c = rds_test_conn_new(test);
	struct rds_conn_path *cp = &c->path[0];
	struct rds_message *rm = rds_test_queue(test, cp);

	KUNIT_EXPECT_EQ(test, 0, rds_send_xmit(cp));
	KUNIT_EXPECT_EQ(test, 1, c->sent);
	rm->m_ack_seq = 1000;
	set_bit(RDS_MSG_HAS_ACK_SEQ, &rm->m_flags);

	rds_send_path_reset(cp);
	KUNIT_EXPECT_TRUE(test, test_bit(RDS_MSG_RETRANSMITTED, &rm->m_flags));
	/* as rds_send_xmit() does, before the transport gets it */
	list_move_tail(&rm->m_conn_item, &cp->cp_retrans);
	rds_send_path_drop_acked(cp, 2000, rds_test_is_acked);
	KUNIT_EXPECT_TRUE(test, test_bit(RDS_MSG_ON_CONN, &rm->m_flags));
	KUNIT_EXPECT_FALSE(test, list_empty(&cp->cp_retrans));

	rm->m_ack_seq = 2000;
	set_bit(RDS_MSG_HAS_ACK_SEQ, &rm->m_flags);
	rds_send_path_drop_acked(cp, 2001, rds_test_is_acked);
	KUNIT_EXPECT_FALSE(test, test_bit(RDS_MSG_ON_CONN, &rm->m_flags));
	KUNIT_EXPECT_TRUE(test, list_empty(&cp->cp_retrans));
	KUNIT_EXPECT_EQ(test, 1, refcount_read(&rm->m_refcount));
	rds_message_put(rm);
}

/* Path 0 is transmitting a congestion map, which has no place among the messages */
static void rds_test_map_in_transit(struct kunit *test)
{
	struct rds_test_conn *c = rds_test_conn_new(test);
	struct rds_conn_path *cp = &c->path[1];
	struct rds_message *map = rds_message_alloc(0, GFP_KERNEL);
	struct rds_message *rm = rds_test_queue(test, cp);

	KUNIT_ASSERT_NOT_NULL(test, map);
	map->m_inc.i_hdr.h_flags = RDS_FLAG_CONG_BITMAP;
	c->path[0].cp_xmit_rm = map;
	c->conn.c_cp0_mprds_catchup_tx_seq = 3;
	KUNIT_EXPECT_EQ(test, 0, rds_send_xmit(cp));
	KUNIT_EXPECT_EQ(test, 1, c->tries);
	KUNIT_EXPECT_EQ(test, 1, c->sent);
	list_del_init(&rm->m_conn_item);
	rds_message_put(rm);
	rds_message_put(rm);
	rds_message_put(map);
}

/*
 * What path 0 has to send comes first, be it under way or not. Who waits for it tries once
 * and comes again: the caller may be a sendmsg() that does not block, and path 0 be down
 */
static void rds_test_path_0_first(struct kunit *test)
{
	struct rds_test_conn *c = rds_test_conn_new(test);
	struct rds_conn_path *cp0 = &c->path[0], *cp = &c->path[1];
	struct rds_message *first = rds_test_queue(test, cp0);
	struct rds_message *rm = rds_test_queue(test, cp);

	c->conn.c_cp0_mprds_catchup_tx_seq = cp0->cp_next_tx_seq;
	KUNIT_EXPECT_EQ(test, -ENOMEM, rds_send_xmit(cp));
	KUNIT_EXPECT_EQ(test, 1, c->tries);
	KUNIT_EXPECT_EQ(test, 0, c->sent);
	KUNIT_EXPECT_EQ(test, 0, rds_send_xmit(cp0));
	KUNIT_EXPECT_EQ(test, 1, c->sent);
	KUNIT_EXPECT_EQ(test, -ENOMEM, rds_send_xmit(cp));
	KUNIT_EXPECT_EQ(test, 1, c->sent);
	rds_send_path_drop_acked(cp0, 1, NULL);
	KUNIT_EXPECT_EQ(test, 0, rds_send_xmit(cp));
	KUNIT_EXPECT_EQ(test, 2, c->sent);
	KUNIT_EXPECT_EQ(test, 4, c->tries);
	list_del_init(&rm->m_conn_item);
	rds_message_put(rm);
	rds_message_put(rm);
	rds_message_put(first);
}

/* --- cookies --- */

struct rds_test_sock {
	struct socket *sock;
	struct rds_sock *rs;	/* with a reference */
	struct page *page;
};

static void rds_test_sock_exit(void *data)
{
	struct rds_test_sock *s = data;

	if (s->sock)
		sock_release(s->sock);
	/* else they were leaked */
	rds_notify_msg_zcopy_purge(&s->rs->rs_zcookie_queue);
	sock_put(rds_rs_to_sk(s->rs));
	put_page(s->page);
}

static struct rds_test_sock *rds_test_sock_new(struct kunit *test)
{
	struct rds_test_sock *s = kunit_kzalloc(test, sizeof(*s), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, s);
	s->page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	KUNIT_ASSERT_NOT_NULL(test, s->page);
	KUNIT_ASSERT_EQ(test, 0, sock_create_kern(&init_net, PF_RDS, SOCK_SEQPACKET, 0,
						  &s->sock));
	s->rs = rds_sk_to_rs(s->sock->sk);
	sock_hold(s->sock->sk);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, rds_test_sock_exit, s));
	return s;
}

/* A zerocopy message, as it is once it was queued by the socket */
static struct rds_message *rds_test_zerocopy(struct kunit *test, struct rds_test_sock *s,
					     u32 cookie)
{
	struct rds_message *rm = rds_message_alloc(sizeof(struct scatterlist), GFP_KERNEL);
	struct iov_iter from;
	struct bio_vec bv;

	KUNIT_ASSERT_NOT_NULL(test, rm);
	rm->data.op_sg = rds_message_alloc_sgs(rm, 1);
	bvec_set_page(&bv, s->page, PAGE_SIZE, 0);
	iov_iter_bvec(&from, ITER_SOURCE, &bv, 1, PAGE_SIZE);
	KUNIT_ASSERT_EQ(test, 0, rds_message_copy_from_user(rm, &from, true));
	rm->data.op_mmp_znotifier->z_cookie = cookie;
	sock_hold(rds_rs_to_sk(s->rs));
	rm->m_rs = s->rs;
	return rm;
}

/* How many the socket has for who asks */
static unsigned int rds_test_cookies(const struct rds_test_sock *s)
{
	struct rds_msg_zcopy_info *info;
	unsigned int nr = 0;

	list_for_each_entry(info, &s->rs->rs_zcookie_queue.zcookie_head, rs_zcookie_next)
		nr += info->zcookies.num;
	return nr;
}

static void rds_test_cookie(struct kunit *test)
{
	struct rds_test_sock *s = rds_test_sock_new(test);
	int sk_refs = refcount_read(&rds_rs_to_sk(s->rs)->sk_refcnt);

	for (u32 i = 1; i <= RDS_MAX_ZCOOKIES + 1; i++) {
		struct rds_message *rm = rds_test_zerocopy(test, s, i);

		KUNIT_EXPECT_EQ(test, i - 1, rds_test_cookies(s));
		rds_message_put(rm);
		KUNIT_EXPECT_EQ(test, i, rds_test_cookies(s));
	}
	KUNIT_EXPECT_EQ(test, sk_refs, refcount_read(&rds_rs_to_sk(s->rs)->sk_refcnt));
	KUNIT_EXPECT_EQ(test, 1, page_count(s->page));
}

/* The message is acknowledged, and an skb still has its page */
static void rds_test_cookie_waits_for_skb(struct kunit *test)
{
	struct rds_test_sock *s = rds_test_sock_new(test);
	struct rds_message *rm = rds_test_zerocopy(test, s, 1);
	struct ubuf_info *uarg = rds_message_ubuf(rm);

	KUNIT_ASSERT_NOT_NULL(test, uarg);
	net_zcopy_get(uarg);
	rds_message_put(rm);
	KUNIT_EXPECT_EQ(test, 0, rds_test_cookies(s));
	net_zcopy_put(uarg);
	KUNIT_EXPECT_EQ(test, 1, rds_test_cookies(s));
}

/* Nobody asks for a cookie of a socket that is closed, and nobody frees it later */
static void rds_test_cookie_after_close(struct kunit *test)
{
	struct rds_test_sock *s = rds_test_sock_new(test);
	struct rds_message *early = rds_test_zerocopy(test, s, 1);
	struct rds_message *late = rds_test_zerocopy(test, s, 2);

	rds_message_put(early);
	KUNIT_EXPECT_EQ(test, 1, rds_test_cookies(s));
	sock_release(s->sock);
	s->sock = NULL;
	KUNIT_EXPECT_EQ(test, 0, rds_test_cookies(s));
	rds_message_put(late);
	KUNIT_EXPECT_EQ(test, 0, rds_test_cookies(s));
	KUNIT_EXPECT_EQ(test, 1, refcount_read(&rds_rs_to_sk(s->rs)->sk_refcnt));
	KUNIT_EXPECT_EQ(test, 1, page_count(s->page));
}

static struct kunit_case rds_test_cases[] = {
	KUNIT_CASE(rds_test_sent_again),
	KUNIT_CASE(rds_test_map_in_transit),
	KUNIT_CASE(rds_test_path_0_first),
	KUNIT_CASE(rds_test_cookie),
	KUNIT_CASE(rds_test_cookie_waits_for_skb),
	KUNIT_CASE(rds_test_cookie_after_close),
	{}
};

static struct kunit_suite rds_test_suite = {
	.name = "rds",
	.test_cases = rds_test_cases,
};

kunit_test_suite(rds_test_suite);
