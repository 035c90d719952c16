/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * host.c: from_host, at tc ingress of our end of the pair that joins the host's own stack. The
 * host's routes to all networks lead through that pair.
 *
 * How a packet goes:
 * 1) the network is found by the destination; an address of a network cannot be the source: its
 *    packets come from containers;
 * 2) the sender is the host itself, another host, or the world, some prefix of which may have an
 *    identity of its own;
 * 3) the connection is looked up; a new one is judged by the destination's ingress policy when the
 *    destination is on this host;
 * 4) delivery, as from a container. Only the host itself may send through the tunnel: the receiving
 *    node could not tell who else it was.
 *
 * Maps: hawse_networks, hawse_nodes, hawse_prefixes, hawse_ipcache, hawse_config, hawse_metrics,
 * and those of track().
 */
#include <linux/pkt_cls.h>

#include "lib/conntrack.h"
#include "lib/deliver.h"
#include "lib/flow.h"
#include "lib/ipcache.h"
#include "lib/metrics.h"
#include "lib/outside.h"
#include "lib/packet.h"
#include "lib/stages.h"
#include "lib/transport.h"

static __always_inline int judge_host(struct __sk_buff *skb, struct flow *flow)
{
	struct config_value *config = flow_config();
	struct ipcache_value *place;
	struct iphdr *ipv4;
	int err;

	if (!config)
		return DROP(DROP_NO_CONFIGURATION);
	err = parse_only_ipv4(skb, &ipv4);
	if (err)
		return err;
	flow->source = ipv4->saddr;
	flow->destination = ipv4->daddr;
	if (network_of(ipv4->saddr))
		return DROP(DROP_INVALID_SOURCE_IP);
	flow->source_identity = outside_identity(config, ipv4->saddr);
	flow->vni = network_of(ipv4->daddr);
	if (!flow->vni)
		return DROP(DROP_UNKNOWN_L3_TARGET);
	err = read_transport(skb, ipv4, flow);
	if (err)
		return err;
	place = ipcache_ipv4(flow->vni, flow->destination);
	if (!place)
		return flow->source_identity == HAWSE_IDENTITY_HOST ? stage_service(skb, flow)
								    : DROP(DROP_UNKNOWN_L3_TARGET);
	flow->destination_identity = place->identity;
	flow->destination_local = ipcache_is_local(place);
	if (!flow->destination_local && flow->source_identity != HAWSE_IDENTITY_HOST)
		return DROP(DROP_NO_TUNNEL_ENDPOINT);
	err = track(skb, config, flow);
	if (err)
		return err;
	if (ipcache_is_local(place))
		return deliver_local(skb, place->ifindex, DIRECTION_INGRESS);
	err = hide_router(skb);
	if (err)
		return err;
	return deliver_remote(skb, config, place->tunnel_endpoint[3], flow->vni,
			      HAWSE_IDENTITY_REMOTE);
}

int from_host(struct __sk_buff *skb)
{
	struct flow flow;
	int verdict;

	flow_begin(&flow, DIRECTION_INGRESS);
	verdict = judge_host(skb, &flow);
	return verdict < 0 ? hawse_drop(skb, &flow, verdict) : verdict;
}
