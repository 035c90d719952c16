/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * deliver.h: brings a packet to where its destination is.
 *
 * Public: deliver_local, deliver_remote, deliver_host, deliver_device,
 * deliver_loopback, hide_router.
 *
 * Link-layer addresses stay as they are: every frame goes to the router's address, the receiving
 * end of the veth pair sees it as its own because bpf_redirect_peer keeps the packet type that the
 * sending end found.
 */
#pragma once

#include "address.h"
#include "drop.h"
#include "maps.h"
#include "metrics.h"

/* What the group policy extension of VXLAN looks like to bpf_skb_{get,set}_tunnel_opt. */
struct vxlan_group_policy {
	__u32 group;
};

/* bcc has declared this one with an argument too few. */
static long (*redirect_neigh)(__u32 ifindex, void *neighbour, int bytes,
			      __u64 flags) = (void *)BPF_FUNC_redirect_neigh;

/* Hand the packet to the container behind this host end, past the stack of the host. */
static __always_inline int deliver_local(struct __sk_buff *skb, __u32 ifindex,
					 enum direction direction)
{
	count_forwarded(skb, direction);
	return bpf_redirect_peer(ifindex, 0);
}

/*
 * A VXLAN device takes a frame with its own address as source for one that it sent itself, and all
 * of ours have the router's.
 */
static __always_inline int hide_router(struct __sk_buff *skb)
{
	__u8 mac[ETH_ALEN];

	mac_router(mac);
	mac[ETH_ALEN - 1]++;
	return bpf_skb_store_bytes(skb, ETH_ALEN, mac, sizeof(mac), 0) ? DROP(DROP_INVALID_PACKET)
								       : 0;
}

/* Send the packet through the tunnel to another host. */
static __always_inline int deliver_remote(struct __sk_buff *skb, const struct config_value *config,
					  __be32 tunnel_endpoint, __u32 vni, __u16 identity)
{
	struct vxlan_group_policy policy = {.group = identity};
	struct bpf_tunnel_key key = {};

	if (!config->tunnel_ifindex)
		return DROP(DROP_NO_CONFIGURATION);
	key.tunnel_id = vni;
	key.tunnel_ttl = 64;
	key.remote_ipv4 = bpf_ntohl(tunnel_endpoint);
	key.local_ipv4 = bpf_ntohl(config->node_address[3]);
	if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), BPF_F_ZERO_CSUM_TX) &&
	    /* Kernels before 6.0 know no source address; there the route chooses it. */
	    bpf_skb_set_tunnel_key(skb, &key, offsetof(struct bpf_tunnel_key, local_ipv4),
				   BPF_F_ZERO_CSUM_TX))
		return DROP(DROP_NO_TUNNEL_ENDPOINT);
	if (bpf_skb_set_tunnel_opt(skb, &policy, sizeof(policy)))
		return DROP(DROP_NO_TUNNEL_ENDPOINT);
	count_forwarded(skb, DIRECTION_EGRESS);
	return bpf_redirect(config->tunnel_ifindex, 0);
}

/* Hand the packet to the stack of this host, which has it for itself or routes it on. */
static __always_inline int deliver_host(struct __sk_buff *skb, const struct config_value *config,
					enum direction direction)
{
	if (!config->host_ifindex)
		return DROP(DROP_NO_CONFIGURATION);
	count_forwarded(skb, direction);
	return bpf_redirect(config->host_ifindex, 0);
}

/* Send the packet out through this interface, past the stack of the host. */
static __always_inline int deliver_device(struct __sk_buff *skb, __u32 ifindex)
{
	count_forwarded(skb, DIRECTION_EGRESS);
	return redirect_neigh(ifindex, 0, 0, 0);
}

/*
 * Hand the packet to the stack of this host where it takes what comes from its own addresses. The
 * loopback interface is the first of every namespace, and has no link-layer address.
 */
static __always_inline int deliver_loopback(struct __sk_buff *skb, enum direction direction)
{
	__u8 none[2 * ETH_ALEN] = {};

	if (bpf_skb_store_bytes(skb, 0, none, sizeof(none), 0))
		return DROP(DROP_WRITE_FAILED);
	count_forwarded(skb, direction);
	return bpf_redirect(1, BPF_F_INGRESS);
}
