/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * overlay.c: from_overlay, at tc ingress of the VXLAN device; and judge_unpacked, for what from_underlay
 * has taken out of the tunnel before that (unpack.h), which goes the same way.
 *
 * How a packet goes:
 * 1) it must come from a node of the cluster, and carry the sender's identity;
 * 2) its inner source must be an address that is on that very node, or the node itself: a node
 *    cannot speak for another or for its containers;
 * 3) its destination must be a container of this host in the same network, or this host itself;
 * 4) the connection is looked up; a new one is judged by the destination's ingress policy, with the
 *    identity that the packet brought along.
 *
 * Anything else is dropped, counted and reported. Hash lookups per packet of a known connection: one,
 * of what was decided for the packets before it (memo.h); otherwise node, ipcache twice, connection.
 *
 * Maps: hawse_memo, hawse_nodes, hawse_ipcache, hawse_metrics, and those of track().
 */
#include <linux/pkt_cls.h>

#include "lib/address.h"
#include "lib/conntrack.h"
#include "lib/deliver.h"
#include "lib/flow.h"
#include "lib/ipcache.h"
#include "lib/lane.h"
#include "lib/maps.h"
#include "lib/memo.h"
#include "lib/metrics.h"
#include "lib/packet.h"
#include "lib/published.h"
#include "lib/stages.h"
#include "lib/transport.h"
#include "lib/unpack.h"

/* Which identities another node may speak for: containers, with labels or without yet, and itself. */
static __always_inline bool may_come_from_wire(__u32 identity)
{
	return identity == HAWSE_IDENTITY_INIT || identity == HAWSE_IDENTITY_REMOTE ||
	       (identity >= HAWSE_IDENTITY_CLUSTER && identity < HAWSE_IDENTITIES_MAX);
}

/* What the outer headers said. */
struct tunnel {
	__u32 vni;
	__be32 source;
	__u32 identity;	   /* of the sender */
	bool is_readable;  /* otherwise nothing is known */
	bool has_identity; /* otherwise it is 0 */
};

static __always_inline void read_tunnel(struct __sk_buff *skb, struct tunnel *tunnel)
{
	struct vxlan_group_policy policy = {};
	struct bpf_tunnel_key key = {};

	__builtin_memset(tunnel, 0, sizeof(*tunnel));
	if (bpf_skb_get_tunnel_key(skb, &key, offsetof(struct bpf_tunnel_key, local_ipv4), 0))
		return;
	tunnel->is_readable = true;
	tunnel->vni = key.tunnel_id;
	tunnel->source = bpf_htonl(key.remote_ipv4);
	if (bpf_skb_get_tunnel_opt(skb, &policy, sizeof(policy)) != sizeof(policy))
		return;
	tunnel->has_identity = true;
	/* The upper half has flags of the extension, which we neither set nor know. */
	tunnel->identity = policy.group;
}

/* May such a packet come? Sets network and sender's identity in the flow. */
static __always_inline int judge_tunnel(const struct tunnel *tunnel, struct flow *flow)
{
	struct node_key sender = {};

	if (!tunnel->is_readable)
		return DROP(DROP_NO_TUNNEL_KEY);
	flow->vni = tunnel->vni;
	address_from_ipv4(sender.address, tunnel->source);
	if (!hawse_nodes.lookup(&sender))
		return DROP(DROP_UNKNOWN_NODE);
	if (!tunnel->has_identity)
		return DROP(DROP_INVALID_IDENTITY);
	flow->source_identity = tunnel->identity;
	return may_come_from_wire(tunnel->identity) ? 0 : DROP(DROP_INVALID_IDENTITY);
}

/* Is the inner source on the node that sent the packet? */
static __always_inline bool source_is_there(const struct flow *flow, __be32 outer_source)
{
	struct ipcache_value *source;

	if (flow->source_identity == HAWSE_IDENTITY_REMOTE)
		return flow->source == outer_source;
	source = ipcache_ipv4(flow->vni, flow->source);
	return source && address_is_ipv4(source->tunnel_endpoint, outer_source);
}

/* Go the same way at once the next time. */
static __always_inline void keep_arrival(const struct tunnel *tunnel, __u32 underlay,
					 const struct ipcache_value *place, const struct flow *flow)
{
	struct memo_value memo = {};

	if (!memo_is_due(flow))
		return;
	memo.ifindex = place->ifindex;
	memo.node = tunnel->source;
	memo.vni = tunnel->vni;
	memo.identity = tunnel->identity;
	memo.underlay = underlay;
	memo_keep(flow, tunnel->vni, MEMO_FROM_OVERLAY, &memo);
}

static __always_inline int judge_ingress(struct __sk_buff *skb, const struct config_value *config,
					 const struct tunnel *tunnel, __u32 underlay, bool by_stack,
					 struct flow *flow)
{
	struct ipcache_value *place;
	struct iphdr *ipv4;
	int err;

	if (!config)
		return DROP(DROP_NO_CONFIGURATION);
	err = judge_tunnel(tunnel, flow);
	if (err)
		return err;
	err = parse_only_ipv4(skb, &ipv4);
	if (err)
		return err;
	flow->source = ipv4->saddr;
	flow->destination = ipv4->daddr;
	if (!source_is_there(flow, tunnel->source))
		return DROP(DROP_INVALID_SOURCE_IP);
	if (by_stack && underlay)
		lane_in_open(config, flow->epochs, underlay, tunnel->source);
	err = read_transport(skb, ipv4, flow);
	if (err)
		return err;
	place = ipcache_ipv4(flow->vni, flow->destination);
	if (place) {
		if (!ipcache_is_local(place))
			return DROP(DROP_NOT_LOCAL);
		flow->destination_identity = place->identity;
		flow->destination_local = 1;
	} else if (address_is_ipv4(config->node_address, flow->destination)) {
		flow->destination_identity = HAWSE_IDENTITY_HOST;
		if (is_published(config, flow))
			return stage_published(skb, flow, flow->tracked_source);
	} else {
		return DROP(DROP_UNKNOWN_L3_TARGET);
	}
	err = track(skb, config, flow);
	if (err)
		return err;
	if (flow->translated && flow->reply)
		return stage_undo(skb, flow);
	if (!place)
		return deliver_host(skb, config, DIRECTION_INGRESS);
	keep_arrival(tunnel, underlay, place, flow);
	return deliver_local(skb, place->ifindex, DIRECTION_INGRESS);
}

/* The way that the last packets of its connection went; 0 = it has to be found. */
static __always_inline int receive_again(struct __sk_buff *skb)
{
	struct config_value *config = flow_config();
	struct memo_value memo;
	struct tunnel tunnel;
	struct memo_key key;

	if (!config)
		return 0;
	read_tunnel(skb, &tunnel);
	/* Drivers and GRO leave in fragments what is below the headers that they know. */
	if (skb->len >= MEMO_BYTES)
		pull(skb, MEMO_BYTES);
	if (!tunnel.has_identity || !memo_read(skb, tunnel.vni, MEMO_FROM_OVERLAY, &key) ||
	    !memo_find(&key, memo_epochs(config), MEMO_FROM_OVERLAY, &memo) ||
	    memo.node != tunnel.source || memo.identity != tunnel.identity)
		return 0;
	unpack_stamped(skb);
	return deliver_local(skb, memo.ifindex, DIRECTION_INGRESS);
}

int from_overlay(struct __sk_buff *skb)
{
	int verdict = receive_again(skb);

	return verdict ? verdict : stage_from_start(skb, STAGE_OVERLAY, DIRECTION_INGRESS);
}

int judge_overlay(struct __sk_buff *skb)
{
	struct config_value *config = flow_config();
	struct tunnel tunnel;
	struct flow flow;
	int verdict;

	flow_begin(&flow, DIRECTION_INGRESS);
	if (config)
		flow.epochs = memo_epochs(config);
	read_tunnel(skb, &tunnel);
	verdict = judge_ingress(skb, config, &tunnel, unpack_stamped(skb), true, &flow);
	return verdict < 0 ? hawse_drop(skb, &flow, verdict) : verdict;
}

/* What was taken out of the tunnel before it came to its device. */
int judge_unpacked(struct __sk_buff *skb)
{
	struct config_value *config = flow_config();
	struct handover *handover = handed_over();
	struct tunnel tunnel = {};
	struct flow flow;
	int verdict;

	if (!handover)
		return TC_ACT_SHOT;
	flow = handover->flow;
	tunnel.vni = flow.vni;
	tunnel.source = handover->address;
	tunnel.identity = flow.source_identity;
	tunnel.is_readable = true;
	tunnel.has_identity = true;
	verdict = judge_ingress(skb, config, &tunnel, skb->ifindex, false, &flow);
	return verdict < 0 ? hawse_drop(skb, &flow, verdict) : verdict;
}
