/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * echo.h: answers pings to the gateway, which is an address of the network but of no host.
 *
 * Public: answer_echo.
 */
#pragma once

#include <linux/in.h>

#include "address.h"
#include "drop.h"
#include "metrics.h"
#include "packet.h"
#include "transport.h"

#define IPV4_FRAGMENT_MASK 0x3fff /* "more fragments" and the offset */
#define CHECKSUM_OFFSET	   2
#define ECHO_OFFSET	   (ETH_HLEN + sizeof(struct iphdr))

struct mac_pair {
	__u8 destination[ETH_ALEN];
	__u8 source[ETH_ALEN];
};

struct ipv4_pair {
	__be32 source;
	__be32 destination;
};

/* Turn an echo request round; anything else for the gateway has no target. */
static __always_inline int answer_echo(struct __sk_buff *skb)
{
	__u16 request = bpf_htons(ICMP_ECHO_REQUEST << 8), reply = bpf_htons(ICMP_ECHO_REPLY << 8);
	struct ipv4_pair addresses = {};
	struct mac_pair macs = {};
	__u16 type_and_code = 0;
	struct ethhdr *ethernet;
	struct iphdr *ipv4;
	int err = parse_ipv4(skb, &ethernet, &ipv4);

	if (err)
		return err;
	addresses.source = ipv4->daddr;
	addresses.destination = ipv4->saddr;

	if (ipv4->protocol != IPPROTO_ICMP || ipv4->ihl != 5 ||
	    ipv4->frag_off & bpf_htons(IPV4_FRAGMENT_MASK))
		return DROP(DROP_UNKNOWN_L3_TARGET);
	if (bpf_skb_load_bytes(skb, ECHO_OFFSET, &type_and_code, sizeof(type_and_code)))
		return DROP(DROP_INVALID_PACKET);
	if (type_and_code != request)
		return DROP(DROP_UNKNOWN_L3_TARGET);
	if (bpf_skb_load_bytes(skb, ETH_ALEN, macs.destination, ETH_ALEN))
		return DROP(DROP_INVALID_PACKET);
	mac_router(macs.source);
	if (bpf_l4_csum_replace(skb, ECHO_OFFSET + CHECKSUM_OFFSET, request, reply,
				sizeof(reply)) ||
	    bpf_skb_store_bytes(skb, ECHO_OFFSET, &reply, sizeof(reply), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct iphdr, saddr), &addresses,
				sizeof(addresses), 0) ||
	    bpf_skb_store_bytes(skb, 0, &macs, sizeof(macs), 0))
		return DROP(DROP_INVALID_PACKET);
	count_forwarded(skb, DIRECTION_EGRESS);
	return bpf_redirect(skb->ifindex, 0);
}
