/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * packet.h: finds and checks the headers of a frame.
 *
 * Public: parse_ethernet, parse_ipv4, parse_routed_ipv4, parse_only_ipv4, parse_host_ipv4.
 *
 * All return 0 or DROP(). Packet memory is only read here and through helpers written:
 * a program with a direct write gets a prologue that copies every cloned packet, and every TCP
 * packet is a clone.
 */
#pragma once

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>

#include "abi.h"
#include "address.h"
#include "drop.h"

/* Verdict of a program at an interface that is not ours: the next filter, and then the stack. */
#define PASS_ON TC_ACT_UNSPEC

/* PACKET_HOST of linux/if_packet.h: neither to many, nor to another. */
#define PACKET_TO_HOST 0

/* Make the first bytes readable: a driver or GRO may have left them in fragments. */
static __always_inline bool pull(struct __sk_buff *skb, __u32 bytes)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;

	if (data + bytes <= end)
		return true;
	return !bpf_skb_pull_data(skb, bytes);
}

static __always_inline int parse_ethernet(struct __sk_buff *skb, struct ethhdr **ethernet)
{
	void *data, *end;
	struct ethhdr *header;

	if (skb->vlan_present)
		return DROP(DROP_VLAN_FILTERED);
	if (!pull(skb, sizeof(*header)))
		return DROP(DROP_INVALID_PACKET);
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	header = data;
	if (data + sizeof(*header) > end)
		return DROP(DROP_INVALID_PACKET);
	if (header->h_proto == bpf_htons(ETH_P_8021Q) || header->h_proto == bpf_htons(ETH_P_8021AD))
		return DROP(DROP_VLAN_FILTERED);
	if (bpf_ntohs(header->h_proto) < ETH_P_802_3_MIN)
		return DROP(DROP_UNSUPPORTED_L2);
	*ethernet = header;
	return 0;
}

/* Pointers got earlier are void after this. */
static __always_inline int parse_ipv4(struct __sk_buff *skb, struct ethhdr **ethernet,
				      struct iphdr **ipv4)
{
	void *data, *end;
	struct iphdr *header;
	__u32 total;

	if (!pull(skb, ETH_HLEN + sizeof(*header)))
		return DROP(DROP_INVALID_PACKET);
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (data + ETH_HLEN + sizeof(*header) > end)
		return DROP(DROP_INVALID_PACKET);
	header = data + ETH_HLEN;
	if (header->version != 4 || header->ihl < 5)
		return DROP(DROP_INVALID_PACKET);
	total = bpf_ntohs(header->tot_len);
	/* A packet that is still to be segmented may be longer than the field can say. */
	if (!skb->gso_size && (total < header->ihl * 4 || total > skb->len - ETH_HLEN))
		return DROP(DROP_INVALID_PACKET);
	*ethernet = data;
	*ipv4 = header;
	return 0;
}

/* The same, and the frame has to be for us: everything goes to the router's address. */
static __always_inline int parse_routed_ipv4(struct __sk_buff *skb, struct ethhdr **ethernet,
					     struct iphdr **ipv4)
{
	int err = parse_ipv4(skb, ethernet, ipv4);

	if (err)
		return err;
	if (mac_is_router((*ethernet)->h_dest))
		return 0;
	return mac_is_group((*ethernet)->h_dest) ? DROP(DROP_MULTICAST)
						 : DROP(DROP_INVALID_TARGET_MAC);
}

/* Of a frame in which nothing but IPv4 is expected. */
static __always_inline int parse_only_ipv4(struct __sk_buff *skb, struct iphdr **ipv4)
{
	struct ethhdr *ethernet;
	int err = parse_ethernet(skb, &ethernet);

	if (err)
		return err;
	if (ethernet->h_proto != bpf_htons(ETH_P_IP))
		return DROP(DROP_UNSUPPORTED_L3);
	return parse_routed_ipv4(skb, &ethernet, ipv4);
}

/* Of a packet that may be anything, for the host's stack. */
static __always_inline int parse_host_ipv4(struct __sk_buff *skb, struct iphdr **ipv4)
{
	struct ethhdr *ethernet;

	return parse_ipv4(skb, &ethernet, ipv4);
}
