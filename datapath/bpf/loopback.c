/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * loopback.c: from_loopback, at tc ingress of the loopback interface while there are published
 * ports: the host itself asks at one of its addresses.
 *
 * Whatever address of its own the host asks from, the container sees that which other hosts know.
 * Everything else is untouched, and costs no hash lookup.
 *
 * Maps: those of published.h, hawse_config.
 */
#include <linux/pkt_cls.h>

#include "lib/flow.h"
#include "lib/metrics.h"
#include "lib/packet.h"
#include "lib/published.h"
#include "lib/stages.h"
#include "lib/transport.h"

int from_loopback(struct __sk_buff *skb)
{
	struct config_value *config = flow_config();
	struct ports_header *ports;
	struct iphdr *ipv4;
	struct flow flow;
	int verdict;

	if (!config || skb->protocol != bpf_htons(ETH_P_IP) || skb->pkt_type != PACKET_TO_HOST)
		return PASS_ON;
	ports = find_plain(skb, &ipv4);
	if (ports && !is_published_port(ports->destination))
		return PASS_ON;
	flow_begin(&flow, DIRECTION_INGRESS);
	if (parse_host_ipv4(skb, &ipv4) || read_transport(skb, ipv4, &flow))
		return PASS_ON;
	if (!is_published(config, &flow))
		return PASS_ON;
	flow.source_identity = HAWSE_IDENTITY_HOST;
	verdict = stage_published(skb, &flow, config->node_address[3]);
	return verdict < 0 ? hawse_drop(skb, &flow, verdict) : verdict;
}
