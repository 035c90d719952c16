/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * arp.h: answers the ARP requests of containers.
 *
 * Public: answer_arp.
 *
 * Every address but the asker's own is answered with the router's link-layer address, so a
 * container never learns another one's, nothing is flooded and no neighbour entry depends on where
 * an address is.
 */
#pragma once

#include "abi.h"
#include "drop.h"
#include "address.h"
#include "packet.h"

#define ARP_HARDWARE_ETHERNET 1
#define ARP_REQUEST	      1
#define ARP_REPLY	      2

/* An ARP message for IPv4 over Ethernet, as on the wire. */
struct arp_frame {
	struct ethhdr ethernet;
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_bytes;
	__u8 protocol_bytes;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__be32 sender_ip;
	__u8 target_mac[ETH_ALEN];
	__be32 target_ip;
} __attribute__((packed));

static __always_inline int parse_arp(struct __sk_buff *skb, struct arp_frame **arp)
{
	struct arp_frame *frame;
	void *data, *end;

	if (!pull(skb, sizeof(*frame)))
		return DROP(DROP_INVALID_PACKET);
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (data + sizeof(*frame) > end)
		return DROP(DROP_INVALID_PACKET);
	frame = data;
	if (frame->hardware != bpf_htons(ARP_HARDWARE_ETHERNET) ||
	    frame->protocol != bpf_htons(ETH_P_IP) || frame->hardware_bytes != ETH_ALEN ||
	    frame->protocol_bytes != sizeof(frame->sender_ip))
		return DROP(DROP_INVALID_PACKET);
	*arp = frame;
	return 0;
}

static __always_inline int answer_arp(struct __sk_buff *skb, const struct endpoint_value *endpoint)
{
	struct arp_frame *request, reply = {};
	int err = parse_arp(skb, &request);

	if (err)
		return err;
	if (!mac_equal(request->ethernet.h_source, endpoint->mac) ||
	    !mac_equal(request->sender_mac, endpoint->mac))
		return DROP(DROP_INVALID_SOURCE_MAC);
	/* 0.0.0.0 asks whether an address is taken (RFC 5227). */
	if (request->sender_ip && !address_is_ipv4(endpoint->ipv4, request->sender_ip))
		return DROP(DROP_INVALID_SOURCE_IP);
	/* A question for its own address must stay unanswered, or it looks taken; announcements
	 * concern nobody. */
	if (request->operation != bpf_htons(ARP_REQUEST) ||
	    address_is_ipv4(endpoint->ipv4, request->target_ip))
		return TC_ACT_STOLEN;

	reply.ethernet.h_proto = bpf_htons(ETH_P_ARP);
	__builtin_memcpy(reply.ethernet.h_dest, endpoint->mac, ETH_ALEN);
	mac_router(reply.ethernet.h_source);
	reply.hardware = bpf_htons(ARP_HARDWARE_ETHERNET);
	reply.protocol = bpf_htons(ETH_P_IP);
	reply.hardware_bytes = ETH_ALEN;
	reply.protocol_bytes = sizeof(reply.sender_ip);
	reply.operation = bpf_htons(ARP_REPLY);
	mac_router(reply.sender_mac);
	reply.sender_ip = request->target_ip;
	__builtin_memcpy(reply.target_mac, endpoint->mac, ETH_ALEN);
	reply.target_ip = request->sender_ip;
	if (bpf_skb_store_bytes(skb, 0, &reply, sizeof(reply), 0))
		return DROP(DROP_INVALID_PACKET);
	return bpf_redirect(skb->ifindex, 0);
}
