/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * lane.h: knows for a moment what the host's stack does with the tunnel's packets of another host, and
 * with those to it, whichever connection they are of: the first packets of one, too, are taken out of
 * the tunnel and put into it past the stack.
 *
 * Public: lane_in_is_open, lane_in_open, lane_send, lane_learn. Maps: hawse_memo.
 *
 * A lane says nothing of what is in the tunnel: behind it and before it a packet goes the whole way.
 * 1) In: the stack has let a packet of this host pass that came in through this interface.
 * 2) Out: how the stack has let a packet leave for that host; as pack.h learns it for a connection.
 *    There are some of them for each host, so that routers and queues, which go by the outer source
 *    port, see more than one; a connection has always the same.
 * Both are entries of hawse_memo, and hold no longer: the next packet goes through the stack again.
 */
#pragma once

#include "pack.h"

#define LANES 16 /* to each host */

static __always_inline void lane_in_key(struct memo_key *key, const struct config_value *config,
					__u32 ifindex, __be32 node)
{
	memo_key_set(key, ifindex, MEMO_FROM_NODE, 0, node, config->node_address[3], 0);
}

/* May packets of the tunnel from this host that come in here be taken out of it? */
static __always_inline bool lane_in_is_open(const struct config_value *config, __u64 epochs,
					    __u32 ifindex, __be32 node)
{
	struct memo_value memo;
	struct memo_key key;

	lane_in_key(&key, config, ifindex, node);
	return memo_find(&key, epochs, MEMO_FROM_NODE, &memo);
}

/* The stack has let a packet pass that came in here. */
static __always_inline void lane_in_open(const struct config_value *config, __u64 epochs,
					 __u32 ifindex, __be32 node)
{
	struct memo_value memo = {};
	struct memo_key key;

	/* What does not go past the stack for another reason need not be noted each time. */
	if (lane_in_is_open(config, epochs, ifindex, node))
		return;
	lane_in_key(&key, config, ifindex, node);
	memo.mark = memo_mark(&key);
	*(epochs_word *)&memo.policy_epoch = epochs;
	memo.until = bpf_jiffies64() + config->memo_ticks;
	hawse_memo.update(&key, &memo);
}

static __always_inline void lane_out_key(struct memo_key *key, const struct config_value *config,
					 __be32 node, __be32 source, __be32 destination,
					 __be32 ports)
{
	__u32 mixed = source ^ destination ^ ports;

	mixed ^= mixed >> 16;
	mixed ^= mixed >> 8;
	mixed ^= mixed >> 4;
	memo_key_set(key, mixed % LANES, MEMO_TO_NODE, 0, config->node_address[3], node, 0);
}

/*
 * Send a packet of a container to another host; it has been let through. 0 = it has to go through the
 * VXLAN device; it is as it was.
 */
static __always_inline int lane_send(struct __sk_buff *skb, const struct config_value *config,
				     const struct flow *flow, const __u8 *mac, __be32 node,
				     __u16 identity)
{
	struct memo_value memo;
	struct memo_key key;

	if (skb->gso_size || flow->kind != FLOW_STREAM ||
	    flow->transport != ETH_HLEN + sizeof(struct iphdr) ||
	    (flow->protocol != IPPROTO_TCP && flow->protocol != IPPROTO_UDP))
		return 0;
	lane_out_key(&key, config, node, flow->source, flow->destination,
		     memo_ports(flow->source_port, flow->destination_port));
	if (!memo_find(&key, flow->epochs, MEMO_TO_NODE, &memo) ||
	    skb->len - ETH_HLEN + TUNNEL_BYTES > memo.longest) {
		pack_stamp(skb, LANE_STAMP);
		return 0;
	}
	memo.node = node;
	memo.vni = flow->vni;
	memo.identity = identity;
	__builtin_memcpy(memo.mac, mac, sizeof(memo.mac));
	return pack_again(skb, config, &memo);
}

/* Keep how a packet of the tunnel that was stamped leaves this host. The stamp is wiped off. */
static __always_inline void lane_learn(struct __sk_buff *skb, const struct config_value *config,
				       __u32 ifindex)
{
	struct tunnel_frame frame;
	struct memo_value memo = {};
	__u64 epochs = memo_epochs(config);
	struct memo_key key;
	__be32 next_hop;

	if (!learn_from(skb, config, &frame))
		return;
	next_hop = learn_next_hop(skb, &frame, ifindex);
	if (!next_hop)
		return;
	lane_out_key(&key, config, frame.outer.ipv4.daddr, frame.inner_ipv4.saddr,
		     frame.inner_ipv4.daddr, *(__be32 *)&frame.inner_ports);
	if (!memo_find(&key, epochs, MEMO_TO_NODE, &memo)) {
		memo.longest = 0;
		memo.until = bpf_jiffies64() + config->memo_ticks;
	}
	memo.mark = memo_mark(&key);
	*(epochs_word *)&memo.policy_epoch = epochs;
	learn_way(&memo, skb, &frame, next_hop);
	hawse_memo.update(&key, &memo);
}
