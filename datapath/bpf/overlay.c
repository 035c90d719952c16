/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * overlay.c: from_overlay, at tc ingress of the VXLAN device.
 *
 * How a packet goes:
 * 1) it must come from a node of the cluster, and carry the sender's identity;
 * 2) its inner source must be an address that is on that very node: a node cannot speak for the
 *    containers of another;
 * 3) its destination must be a container of this host in the same network.
 *
 * Anything else is dropped and counted. Map lookups per packet: node, ipcache twice, counter.
 *
 * Maps: hawse_nodes, hawse_ipcache, hawse_metrics.
 */
#include <linux/pkt_cls.h>

#include "lib/address.h"
#include "lib/deliver.h"
#include "lib/ipcache.h"
#include "lib/maps.h"
#include "lib/metrics.h"
#include "lib/packet.h"

/* Sets the network and the outer source. */
static __always_inline int read_tunnel(struct __sk_buff *skb, __u32 *vni, __be32 *outer_source)
{
	struct vxlan_group_policy policy = {};
	struct bpf_tunnel_key key = {};
	struct node_key sender = {};

	if (bpf_skb_get_tunnel_key(skb, &key, offsetof(struct bpf_tunnel_key, local_ipv4), 0))
		return -DROP_NO_TUNNEL_KEY;
	*vni = key.tunnel_id;
	*outer_source = bpf_htonl(key.remote_ipv4);
	address_from_ipv4(sender.address, *outer_source);
	if (!hawse_nodes.lookup(&sender))
		return -DROP_UNKNOWN_NODE;
	/* The upper half has flags of the extension, which we neither set nor know. */
	if (bpf_skb_get_tunnel_opt(skb, &policy, sizeof(policy)) != sizeof(policy) ||
	    !policy.group || policy.group == HAWSE_IDENTITY_HOST || policy.group > 0xffff)
		return -DROP_INVALID_IDENTITY;
	return 0;
}

static __always_inline int judge_ingress(struct __sk_buff *skb)
{
	struct ipcache_value *source, *place;
	struct ethhdr *ethernet;
	struct iphdr *ipv4;
	__be32 outer_source;
	__u32 vni;
	int err;

	err = read_tunnel(skb, &vni, &outer_source);
	if (err)
		return err;
	err = parse_ethernet(skb, &ethernet);
	if (err)
		return err;
	if (ethernet->h_proto != bpf_htons(ETH_P_IP))
		return -DROP_UNSUPPORTED_L3;
	err = parse_ipv4(skb, &ethernet, &ipv4);
	if (err)
		return err;
	if (!mac_is_router(ethernet->h_dest))
		return mac_is_group(ethernet->h_dest) ? -DROP_MULTICAST : -DROP_INVALID_TARGET_MAC;
	source = ipcache_ipv4(vni, ipv4->saddr);
	if (!source || !address_is_ipv4(source->tunnel_endpoint, outer_source))
		return -DROP_INVALID_SOURCE_IP;
	place = ipcache_ipv4(vni, ipv4->daddr);
	if (!place)
		return -DROP_UNKNOWN_L3_TARGET;
	if (!ipcache_is_local(place))
		return -DROP_NOT_LOCAL;
	return deliver_local(skb, place->ifindex, DIRECTION_INGRESS);
}

int from_overlay(struct __sk_buff *skb)
{
	int verdict = judge_ingress(skb);

	return verdict < 0 ? hawse_drop(skb, -verdict, DIRECTION_INGRESS) : verdict;
}
