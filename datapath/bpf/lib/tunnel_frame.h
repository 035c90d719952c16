/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tunnel_frame.h: what a packet in the tunnel looks like at the underlay.
 *
 * Public: struct tunnel_header, struct tunnel_frame, tunnel_ecn, TUNNEL_BYTES, VXLAN_WITH_GROUP, ROOM_BELOW_MAC.
 */
#pragma once

#include <linux/if_ether.h>
#include <linux/ip.h>

#include "transport.h"

#define VXLAN_WITH_GROUP 0x88000000 /* a network and a group policy, and no other flag */
#define ROOM_BELOW_MAC	 1	    /* BPF_ADJ_ROOM_MAC */
#define IPV4_ECN	 0x03
#define IPV4_ECN_MARKED	 0x03
#define IPV4_ECN_ABLE	 0x02

/* What lies before a packet in the tunnel, behind the link-layer header. */
struct tunnel_header {
	struct iphdr ipv4;
	__be16 source_port;
	__be16 destination_port;
	__be16 length;
	__be16 checksum;
	__be32 flags_and_group;
	__be32 vni; /* << 8 */
	struct ethhdr inner_ethernet;
} __attribute__((packed));

/* Up to the ports of what it carries. */
struct tunnel_frame {
	struct ethhdr ethernet;
	struct tunnel_header outer;
	struct iphdr inner_ipv4;
	struct ports_pair inner_ports;
} __attribute__((packed));

#define TUNNEL_BYTES sizeof(struct tunnel_header)

/*
 * Of the outer type of service, whether routers may mark the packet when they are congested, or have
 * done so: as the device that packs it makes it of the inner one (RFC 6040).
 */
static __always_inline __u8 tunnel_ecn(__u8 inner_tos)
{
	__u8 ecn = inner_tos & IPV4_ECN;

	return ecn == IPV4_ECN_MARKED ? IPV4_ECN_ABLE : ecn;
}
