/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * published.c: to_published, for packets to a published port, from wherever they come.
 *
 * How a packet goes:
 * 1) a connection that is known keeps its way as long as the port leads there;
 * 2) the sender keeps its address, so that the container and its policy know it. A container that
 *    asks itself gets the host as its peer;
 * 3) the connection, with the container as its end, is looked up and judged by the container's
 *    ingress policy;
 * 4) delivery on this host.
 *
 * Maps: those of published.h and track(), hawse_ipcache, hawse_networks.
 */
#include <linux/pkt_cls.h>

#include "lib/conntrack.h"
#include "lib/deliver.h"
#include "lib/ipcache.h"
#include "lib/memo.h"
#include "lib/metrics.h"
#include "lib/outside.h"
#include "lib/published.h"
#include "lib/stages.h"

/*
 * How a packet to a published port goes on. The sender keeps its address, unless source says
 * another. Returns 1 when there is such a way, 0 when there is none, or DROP().
 */
static __always_inline int find_published(const struct config_value *config,
					  const struct flow *flow, __be32 source,
					  struct nat_value *to)
{
	struct nat_value *known = nat_find(flow);
	struct published_value *target;
	int err;

	if (known && known->kind == NAT_PUBLISHED && !known->reply) {
		target = published_find(config, flow);
		/* A port that was taken back, or leads elsewhere now, keeps no connection. */
		if (flow->kind != FLOW_STREAM || (target && target->address == known->destination &&
						  target->port == known->destination_port)) {
			err = nat_keep(flow, known, to);
			return err ? err : 1;
		}
	} else {
		target = published_find(config, flow);
	}
	if (!target)
		return 0;
	to->source = source == target->address ? config->node_address[3] : source;
	to->destination = target->address;
	to->destination_port = target->port;
	to->kind = NAT_PUBLISHED;
	err = nat_open(config, flow, to);
	return err ? err : 1;
}

/*
 * Bring a packet to the container behind the port, after its ingress policy. The sender's identity
 * is in the flow.
 */
static __always_inline int deliver_published(struct __sk_buff *skb,
					     const struct config_value *config, struct flow *flow,
					     const struct nat_value *to)
{
	bool hairpin = to->source != flow->tracked_source && to->destination == flow->source;
	struct ipcache_value *place;
	int err;

	err = nat_apply(skb, flow, to);
	if (err)
		return err;
	flow->vni = network_of(flow->destination);
	place = ipcache_ipv4(flow->vni, flow->destination);
	if (!place || !ipcache_is_local(place))
		return DROP(DROP_UNKNOWN_L3_TARGET);
	flow->destination_identity = place->identity;
	flow->source_local = 0;
	flow->translated = 1;
	/* Nobody is kept from itself. */
	flow->destination_local = !hairpin;
	if (hairpin)
		flow->source_identity = HAWSE_IDENTITY_HOST;
	err = track(skb, config, flow);
	if (err)
		return err;
	if (flow->begins)
		memo_forget_answers(flow, place->ifindex);
	return deliver_local(skb, place->ifindex, DIRECTION_INGRESS);
}

static __always_inline int publish(struct __sk_buff *skb, struct flow *flow, __be32 source)
{
	struct config_value *config = flow_config();
	struct nat_value to = {};
	int found;

	if (!config)
		return DROP(DROP_NO_CONFIGURATION);
	/* A container is no router: it may report only what it was sent itself. */
	if (flow->kind == FLOW_RELATED && flow->source != flow->tracked_source &&
	    !is_outside(flow->source_identity))
		return DROP(DROP_INVALID_SOURCE_IP);
	found = find_published(config, flow, source, &to);
	if (found < 0)
		return found;
	/* It was taken back just now. */
	if (!found)
		return DROP(DROP_UNKNOWN_L3_TARGET);
	return deliver_published(skb, config, flow, &to);
}

int to_published(struct __sk_buff *skb)
{
	struct handover *handover = handed_over();
	struct flow flow;
	int verdict;

	if (!handover)
		return TC_ACT_SHOT;
	flow = handover->flow;
	verdict = publish(skb, &flow, handover->address);
	return verdict < 0 ? hawse_drop(skb, &flow, verdict) : verdict;
}
