/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * endpoint.c: from_container, at tc ingress of the host end of every container's veth pair.
 *
 * How a packet goes:
 * 1) the endpoint is found by the interface the packet came in through; a container cannot claim
 *    to be another one;
 * 2) the frame must come from the container's link-layer address and go to the router's, the packet
 *    must come from the container's IP address;
 * 3) ARP is answered here;
 * 4) the ipcache says where the destination is and which identity it has;
 * 5) the connection is looked up; a new one is judged by the egress policy of this container and,
 *    when the destination is on this host too, by the ingress policy of that one: redirect_peer
 *    passes by every other hook;
 * 6) delivery: another container of this host (redirect_peer), one of another host or that host
 *    itself (tunnel; packets of known flows are put into it here, see pack.h), or this host's own
 *    stack, for itself and for all that is outside. The network's gateway is on no host: its pings
 *    are answered here, as the host's.
 *
 * Anything else is dropped, counted and reported. A network without a gateway is internal: nothing
 * of it reaches the host. Hash lookups per packet of a known connection between containers: one, of
 * what was decided for the packets before it (memo.h); otherwise endpoint, ipcache, connection.
 *
 * Maps: hawse_memo, hawse_endpoints, hawse_ipcache, hawse_config, hawse_metrics, and those of
 * track().
 */
#include <linux/pkt_cls.h>

#include "lib/address.h"
#include "lib/arp.h"
#include "lib/conntrack.h"
#include "lib/deliver.h"
#include "lib/echo.h"
#include "lib/flow.h"
#include "lib/ipcache.h"
#include "lib/lane.h"
#include "lib/maps.h"
#include "lib/memo.h"
#include "lib/metrics.h"
#include "lib/outside.h"
#include "lib/pack.h"
#include "lib/packet.h"
#include "lib/published.h"
#include "lib/stages.h"
#include "lib/transport.h"

/* Where a packet goes. */
enum way {
	WAY_ENDPOINT = 0, /* to a container of this network */
	WAY_NETWORK,	  /* to an address of this network that no container has */
	WAY_GATEWAY,	  /* answered here */
	WAY_OUTSIDE,	  /* to a host or the world */
	WAY_ASKER,	  /* to a container of another network that asked at a published port */
};

/*
 * Of an address that no endpoint of this network has; a way or DROP(). The identity of who has it
 * is in the flow then.
 */
static __always_inline int find_other_way(const struct config_value *config,
					  const struct endpoint_value *endpoint, struct flow *flow)
{
	__be32 destination = flow->destination;
	__u32 vni = endpoint->vni;
	struct ipcache_value *asker;
	struct nat_value *known;

	if (address_is_ipv4(endpoint->gateway, destination)) {
		flow->destination_identity = HAWSE_IDENTITY_HOST;
		return WAY_GATEWAY;
	}
	if (!is_unicast(destination))
		return DROP(DROP_UNKNOWN_L3_TARGET);
	/* Of a network without a gateway nothing is outside. */
	if (endpoint->gateway[2])
		vni = network_of(destination);
	if (!vni) {
		flow->destination_identity = outside_identity(config, destination);
		return WAY_OUTSIDE;
	}
	if (vni == endpoint->vni)
		return WAY_NETWORK;
	known = nat_find(flow);
	asker = ipcache_ipv4(vni, destination);
	if (!asker || !known || !known->reply || known->kind != NAT_PUBLISHED)
		return DROP(DROP_UNKNOWN_L3_TARGET);
	flow->destination_identity = asker->identity;
	return WAY_ASKER;
}

static __always_inline int send_outside(struct __sk_buff *skb, const struct config_value *config,
					const struct endpoint_value *endpoint,
					const struct flow *flow)
{
	switch (flow->destination_identity) {
	case HAWSE_IDENTITY_HOST:
		if (is_published(config, flow))
			return stage_published(skb, flow, flow->tracked_source);
		return deliver_host(skb, config, DIRECTION_EGRESS);
	case HAWSE_IDENTITY_REMOTE:
		return deliver_remote(skb, config, flow->destination, endpoint->vni,
				      endpoint->identity);
	default:
		return stage_outside(skb, flow, endpoint->gateway[3],
				     network_is_routed(endpoint->ipv4[3]));
	}
}

/* Go the same way at once the next time. Returns whether the packet has to go through the device for that. */
static __always_inline bool keep_way(struct __sk_buff *skb, const struct endpoint_value *endpoint,
				     const struct ipcache_value *place, const struct flow *flow)
{
	struct memo_value memo = {};

	if (!memo_is_due(flow) || place->flags & IPCACHE_GONE)
		return false;
	memo.ifindex = place->ifindex;
	memo.node = place->tunnel_endpoint[3];
	memo.vni = endpoint->vni;
	memo.identity = endpoint->identity;
	__builtin_memcpy(memo.mac, endpoint->mac, sizeof(memo.mac));
	memo_keep(flow, skb->ifindex, MEMO_FROM_CONTAINER, &memo);
	if (place->ifindex)
		return false;
	pack_stamp(skb, PACK_STAMP);
	return true;
}

static __always_inline int send_ipv4(struct __sk_buff *skb, const struct endpoint_value *endpoint,
				     struct flow *flow)
{
	struct config_value *config = flow_config();
	struct ipcache_value *place;
	struct ethhdr *ethernet;
	int way = WAY_ENDPOINT;
	struct iphdr *ipv4;
	bool stamped;
	int err = parse_routed_ipv4(skb, &ethernet, &ipv4);

	if (err)
		return err;
	if (!config)
		return DROP(DROP_NO_CONFIGURATION);
	if (!mac_equal(ethernet->h_source, endpoint->mac))
		return DROP(DROP_INVALID_SOURCE_MAC);
	flow->source = ipv4->saddr;
	flow->destination = ipv4->daddr;
	if (!address_is_ipv4(endpoint->ipv4, ipv4->saddr))
		return DROP(DROP_INVALID_SOURCE_IP);
	err = read_transport(skb, ipv4, flow);
	if (err)
		return err;
	place = ipcache_ipv4(endpoint->vni, flow->destination);
	if (place) {
		flow->destination_identity = place->identity;
		flow->destination_local = ipcache_is_local(place);
		/* A host that is not lost after all would have answered the first segment. */
		if (place->flags & IPCACHE_GONE && flow->protocol == IPPROTO_TCP &&
		    (end_tracked(flow) || !flow->opens))
			return stage_refuse(skb, flow, DROP(DROP_BACKEND_GONE));
	} else {
		way = find_other_way(config, endpoint, flow);
		if (way < 0)
			return way;
		if (way == WAY_NETWORK)
			return stage_service(skb, flow);
	}
	err = track(skb, config, flow);
	if (err)
		return err;
	if (flow->translated && flow->reply)
		return stage_undo(skb, flow);
	if (way == WAY_OUTSIDE)
		return send_outside(skb, config, endpoint, flow);
	if (way == WAY_GATEWAY)
		return answer_echo(skb);
	if (!place)
		return DROP(DROP_UNKNOWN_L3_TARGET);
	stamped = keep_way(skb, endpoint, place, flow);
	if (ipcache_is_local(place))
		return deliver_local(skb, place->ifindex, DIRECTION_EGRESS);
	if (!stamped) {
		way = lane_send(skb, config, flow, endpoint->mac, place->tunnel_endpoint[3],
				endpoint->identity);
		if (way)
			return way;
	}
	return deliver_remote(skb, config, place->tunnel_endpoint[3], endpoint->vni,
			      endpoint->identity);
}

static __always_inline int judge_egress(struct __sk_buff *skb, struct flow *flow)
{
	struct endpoint_key key = {};
	struct endpoint_value *endpoint;
	struct ethhdr *ethernet;
	int err;

	key.ifindex = skb->ifindex;
	endpoint = hawse_endpoints.lookup(&key);
	if (!endpoint)
		return DROP(DROP_UNKNOWN_ENDPOINT);
	flow->vni = endpoint->vni;
	flow->source_identity = endpoint->identity;
	flow->source_local = 1;
	err = parse_ethernet(skb, &ethernet);
	if (err)
		return err;
	switch (bpf_ntohs(ethernet->h_proto)) {
	case ETH_P_IP:
		return send_ipv4(skb, endpoint, flow);
	case ETH_P_ARP:
		return answer_arp(skb, endpoint);
	default:
		return DROP(DROP_UNSUPPORTED_L3);
	}
}

/* The way that the last packets of its connection went; 0 = it has to be found. */
static __always_inline int send_again(struct __sk_buff *skb)
{
	struct config_value *config = flow_config();
	struct memo_value memo;
	struct ethhdr *ethernet;
	struct memo_key key;
	int verdict;

	if (!config)
		return 0;
	ethernet = memo_read(skb, skb->ifindex, MEMO_FROM_CONTAINER, &key);
	if (!ethernet || !memo_find(&key, memo_epochs(config), MEMO_FROM_CONTAINER, &memo) ||
	    !mac_equal(ethernet->h_source, memo.mac))
		return 0;
	if (memo.ifindex)
		return deliver_local(skb, memo.ifindex, DIRECTION_EGRESS);
	verdict = pack_again(skb, config, &memo);
	return verdict ? verdict : deliver_remote(skb, config, memo.node, memo.vni, memo.identity);
}

int from_container(struct __sk_buff *skb)
{
	int verdict = send_again(skb);

	return verdict ? verdict : stage_from_start(skb, STAGE_CONTAINER, DIRECTION_EGRESS);
}

int judge_container(struct __sk_buff *skb)
{
	struct config_value *config = flow_config();
	struct flow flow;
	int verdict;

	flow_begin(&flow, DIRECTION_EGRESS);
	if (config)
		flow.epochs = memo_epochs(config);
	verdict = judge_egress(skb, &flow);
	return verdict < 0 ? hawse_drop(skb, &flow, verdict) : verdict;
}
