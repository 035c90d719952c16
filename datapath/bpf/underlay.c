/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * underlay.c: from_underlay, at tc ingress of the interfaces to the outside, and to_underlay, at
 * their egress.
 *
 * How a packet that comes in goes:
 * 1) an answer to a container that left with this host's address gets the container's back; one to
 *    a published port goes to its container, and where networks are routed so does one to the
 *    address of a container; everything else is the host's, untouched;
 * 2) the sender is another host or the world; an address of a network cannot be the source;
 * 3) the connection is looked up, and judged by the container's ingress policy;
 * 4) delivery on this host.
 *
 * to_underlay lets everything pass, and notes how packets of the tunnel leave (pack.h).
 *
 * A packet of the tunnel, to the port of the VXLAN device, is taken out of it here when its flow is
 * known (unpack.h); that is one hash lookup. Hash lookups per packet that is for the host: none, when
 * its port is neither published nor one that containers leave with, and no network is routed;
 * otherwise two to five.
 *
 * Maps: those of nat.h, published.h, outside.h and track(), hawse_ipcache.
 */
#include <linux/pkt_cls.h>

#include "lib/conntrack.h"
#include "lib/deliver.h"
#include "lib/flow.h"
#include "lib/ipcache.h"
#include "lib/lane.h"
#include "lib/metrics.h"
#include "lib/nat.h"
#include "lib/outside.h"
#include "lib/pack.h"
#include "lib/packet.h"
#include "lib/published.h"
#include "lib/stages.h"
#include "lib/transport.h"
#include "lib/unpack.h"
#include "lib/way_out.h"

static __always_inline bool is_nat_port(const struct config_value *config, __be16 port)
{
	__u16 number = bpf_ntohs(port);

	return number >= config->nat_port_first && number <= config->nat_port_last;
}

/*
 * What most packets are: the tunnel's, for nobody else can have the port of the VXLAN device, or
 * nothing but the host's. Says what becomes of them, or 0: it has to be found out.
 */
static __always_inline int pass_quickly(struct __sk_buff *skb, const struct config_value *config)
{
	struct ports_header *ports;
	struct iphdr *ipv4;
	int verdict;

	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->vlan_present ||
	    skb->pkt_type != PACKET_TO_HOST)
		return PASS_ON;
	ports = find_plain(skb, &ipv4);
	if (!ports)
		return 0;
	if (ipv4->protocol == IPPROTO_UDP && ports->destination == bpf_htons(config->tunnel_port) &&
	    address_is_ipv4(config->node_address, ipv4->daddr)) {
		verdict = unpack_again(skb, config);
		if (verdict)
			return verdict;
		unpack_stamp(skb);
		return PASS_ON;
	}
	if (config->flags & CONFIG_ROUTED || is_nat_port(config, ports->destination))
		return 0;
	if (config->flags & CONFIG_PUBLISHED && is_published_port(ports->destination))
		return 0;
	return PASS_ON;
}

/* Can the packet be an answer to a port that containers leave with? */
static __always_inline bool may_be_answer(const struct config_value *config,
					  const struct flow *flow)
{
	if (flow->protocol == IPPROTO_ICMP)
		return !flow->opens;
	/* Its ports cannot be changed. */
	if (flow->protocol == IPPROTO_SCTP)
		return true;
	return is_nat_port(config, flow->destination_port);
}

static __always_inline bool is_here(__be32 address)
{
	__u32 vni = network_of(address);
	struct ipcache_value *place = vni ? ipcache_ipv4(vni, address) : 0;

	return place && ipcache_is_local(place);
}

/*
 * Is it for a container of this host, by the address that it has, and may the sender know that? Others
 * are for the host's stack.
 */
static __always_inline bool is_for_container(const struct config_value *config,
					     const struct flow *flow)
{
	if (!(config->flags & CONFIG_ROUTED))
		return false;
	if (!network_is_routed(flow->destination) && !is_routed(flow->source))
		return false;
	return is_here(flow->destination);
}

/* Is the packet on its way to another host, which this one routes for? */
static __always_inline bool leads_on(struct __sk_buff *skb, const struct config_value *config,
				     const struct flow *flow)
{
	struct bpf_fib_lookup fib = {};

	if (address_is_ipv4(config->node_address, flow->destination))
		return false;
	return find_way(skb, flow, flow->destination, &fib);
}

/* To a container of this host. */
static __always_inline int receive(struct __sk_buff *skb, const struct config_value *config,
				   struct flow *flow)
{
	struct ipcache_value *place;
	int err;

	flow->vni = network_of(flow->destination);
	place = ipcache_ipv4(flow->vni, flow->destination);
	if (!place || !ipcache_is_local(place))
		return DROP(DROP_UNKNOWN_L3_TARGET);
	flow->destination_identity = place->identity;
	flow->destination_local = 1;
	err = track(skb, config, flow);
	if (err)
		return err;
	return deliver_local(skb, place->ifindex, DIRECTION_INGRESS);
}

static __always_inline int judge_underlay(struct __sk_buff *skb, const struct config_value *config,
					  struct flow *flow)
{
	struct nat_value *known = 0;
	struct iphdr *ipv4;
	bool published;
	int err;

	/* What cannot be read is the host's to refuse. */
	if (parse_host_ipv4(skb, &ipv4) || read_transport(skb, ipv4, flow))
		return PASS_ON;
	/* Nobody out there has such an address, nor this host's: the stack knows what to say. */
	if (!is_unicast(flow->source) || !is_unicast(flow->destination) ||
	    address_is_ipv4(config->node_address, flow->source))
		return PASS_ON;
	if (may_be_answer(config, flow))
		known = nat_find(flow);
	if (known && (known->kind != NAT_MASQUERADE || !nat_is_answer(known, flow)))
		known = 0;
	published = !known && is_published(config, flow);
	if (published && leads_on(skb, config, flow))
		return PASS_ON;
	if (!known && !published && !is_for_container(config, flow))
		return PASS_ON;
	if (network_of(flow->source))
		return DROP(DROP_INVALID_SOURCE_IP);
	flow->source_identity = outside_identity(config, flow->source);
	if (published)
		return stage_published(skb, flow, flow->tracked_source);
	if (known) {
		err = nat_undo(skb, flow);
		if (err < 0)
			return err;
		flow->answers = 1;
	}
	return receive(skb, config, flow);
}

int from_underlay(struct __sk_buff *skb)
{
	struct config_value *config = flow_config();
	struct flow flow;
	int verdict;

	if (!config)
		return PASS_ON;
	verdict = pass_quickly(skb, config);
	if (verdict)
		return verdict;
	flow_begin(&flow, DIRECTION_INGRESS);
	verdict = judge_underlay(skb, config, &flow);
	return verdict < 0 && verdict != PASS_ON ? hawse_drop(skb, &flow, verdict) : verdict;
}

/* What leaves is let go as it is; of one packet of a known flow it is noted how (pack.h). */
int to_underlay(struct __sk_buff *skb)
{
	__u32 of_flow = pack_stamped(skb, PACK_STAMP), of_lane = pack_stamped(skb, LANE_STAMP);
	struct config_value *config;

	if (!of_flow && !of_lane)
		return PASS_ON;
	config = flow_config();
	if (!config)
		return PASS_ON;
	if (of_flow)
		pack_learn(skb, config, of_flow);
	else
		lane_learn(skb, config, of_lane);
	return PASS_ON;
}
