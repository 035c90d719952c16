/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * overlay.c: from_overlay, at tc ingress of the VXLAN device.
 *
 * How a packet goes:
 * 1) it must come from a node of the cluster, and carry the sender's identity;
 * 2) its inner source must be an address that is on that very node, or the node itself: a node
 *    cannot speak for another or for its containers;
 * 3) its destination must be a container of this host in the same network, or this host itself;
 * 4) the connection is looked up; a new one is judged by the destination's ingress policy, with the
 *    identity that the packet brought along.
 *
 * Anything else is dropped, counted and reported. Hash lookups per packet of a known connection:
 * node, ipcache twice, connection.
 *
 * Maps: hawse_nodes, hawse_ipcache, hawse_metrics, and those of track().
 */
#include <linux/pkt_cls.h>

#include "lib/address.h"
#include "lib/conntrack.h"
#include "lib/deliver.h"
#include "lib/flow.h"
#include "lib/ipcache.h"
#include "lib/maps.h"
#include "lib/metrics.h"
#include "lib/packet.h"
#include "lib/published.h"
#include "lib/stages.h"
#include "lib/transport.h"

/* Which identities another node may speak for: containers, with labels or without yet, and itself. */
static __always_inline bool may_come_from_wire(__u32 identity)
{
	return identity == HAWSE_IDENTITY_INIT || identity == HAWSE_IDENTITY_REMOTE ||
	       (identity >= HAWSE_IDENTITY_CLUSTER && identity < HAWSE_IDENTITIES_MAX);
}

/* Sets network and sender's identity in the flow, and the outer source. */
static __always_inline int read_tunnel(struct __sk_buff *skb, struct flow *flow,
				       __be32 *outer_source)
{
	struct vxlan_group_policy policy = {};
	struct bpf_tunnel_key key = {};
	struct node_key sender = {};

	if (bpf_skb_get_tunnel_key(skb, &key, offsetof(struct bpf_tunnel_key, local_ipv4), 0))
		return DROP(DROP_NO_TUNNEL_KEY);
	flow->vni = key.tunnel_id;
	*outer_source = bpf_htonl(key.remote_ipv4);
	address_from_ipv4(sender.address, *outer_source);
	if (!hawse_nodes.lookup(&sender))
		return DROP(DROP_UNKNOWN_NODE);
	/* The upper half has flags of the extension, which we neither set nor know. */
	if (bpf_skb_get_tunnel_opt(skb, &policy, sizeof(policy)) != sizeof(policy))
		return DROP(DROP_INVALID_IDENTITY);
	flow->source_identity = policy.group;
	return may_come_from_wire(policy.group) ? 0 : DROP(DROP_INVALID_IDENTITY);
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

static __always_inline int judge_ingress(struct __sk_buff *skb, struct flow *flow)
{
	struct config_value *config = flow_config();
	struct ipcache_value *place;
	struct iphdr *ipv4;
	__be32 outer_source;
	int err;

	if (!config)
		return DROP(DROP_NO_CONFIGURATION);
	err = read_tunnel(skb, flow, &outer_source);
	if (err)
		return err;
	err = parse_only_ipv4(skb, &ipv4);
	if (err)
		return err;
	flow->source = ipv4->saddr;
	flow->destination = ipv4->daddr;
	if (!source_is_there(flow, outer_source))
		return DROP(DROP_INVALID_SOURCE_IP);
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
	if (place)
		return deliver_local(skb, place->ifindex, DIRECTION_INGRESS);
	return deliver_host(skb, config, DIRECTION_INGRESS);
}

int from_overlay(struct __sk_buff *skb)
{
	struct flow flow;
	int verdict;

	flow_begin(&flow, DIRECTION_INGRESS);
	verdict = judge_ingress(skb, &flow);
	return verdict < 0 ? hawse_drop(skb, &flow, verdict) : verdict;
}
