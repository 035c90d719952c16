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
 * 4) the ipcache says where the destination is: another container of this host (redirect_peer) or
 *    another host (tunnel). The network's gateway is on no host: its pings are answered here.
 *
 * Anything else is dropped and counted; nothing reaches the stack of the host. Map lookups per
 * packet: endpoint, ipcache, counter, and for another host the configuration.
 *
 * Maps: hawse_endpoints, hawse_ipcache, hawse_config, hawse_metrics.
 */
#include <linux/pkt_cls.h>

#include "lib/address.h"
#include "lib/arp.h"
#include "lib/deliver.h"
#include "lib/echo.h"
#include "lib/ipcache.h"
#include "lib/maps.h"
#include "lib/metrics.h"
#include "lib/packet.h"

static __always_inline int send_ipv4(struct __sk_buff *skb, const struct endpoint_value *endpoint)
{
	struct ipcache_value *place;
	struct ethhdr *ethernet;
	struct iphdr *ipv4;
	int err = parse_ipv4(skb, &ethernet, &ipv4);

	if (err)
		return err;
	if (!mac_is_router(ethernet->h_dest))
		return mac_is_group(ethernet->h_dest) ? -DROP_MULTICAST : -DROP_INVALID_TARGET_MAC;
	if (!mac_equal(ethernet->h_source, endpoint->mac))
		return -DROP_INVALID_SOURCE_MAC;
	if (!address_is_ipv4(endpoint->ipv4, ipv4->saddr))
		return -DROP_INVALID_SOURCE_IP;
	place = ipcache_ipv4(endpoint->vni, ipv4->daddr);
	if (!place && address_is_ipv4(endpoint->gateway, ipv4->daddr))
		return answer_echo(skb, ipv4);
	if (!place)
		return -DROP_UNKNOWN_L3_TARGET;
	if (ipcache_is_local(place))
		return deliver_local(skb, place->ifindex, DIRECTION_EGRESS);
	return deliver_remote(skb, place, endpoint->vni, endpoint->identity);
}

static __always_inline int judge_egress(struct __sk_buff *skb)
{
	struct endpoint_key key = {};
	struct endpoint_value *endpoint;
	struct ethhdr *ethernet;
	int err;

	key.ifindex = skb->ifindex;
	endpoint = hawse_endpoints.lookup(&key);
	if (!endpoint)
		return -DROP_UNKNOWN_ENDPOINT;
	err = parse_ethernet(skb, &ethernet);
	if (err)
		return err;
	switch (bpf_ntohs(ethernet->h_proto)) {
	case ETH_P_IP:
		return send_ipv4(skb, endpoint);
	case ETH_P_ARP:
		return answer_arp(skb, endpoint);
	default:
		return -DROP_UNSUPPORTED_L3;
	}
}

int from_container(struct __sk_buff *skb)
{
	int verdict = judge_egress(skb);

	return verdict < 0 ? hawse_drop(skb, -verdict, DIRECTION_EGRESS) : verdict;
}
