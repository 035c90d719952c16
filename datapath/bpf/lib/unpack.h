/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * unpack.h: takes packets of known flows, and of known hosts, out of the tunnel at the interface of
 * the underlay already, past the host's stack and the VXLAN device.
 *
 * Public: unpack_again, unpack_stamp, unpack_stamped. Maps: hawse_memo.
 *
 * What the stack would have looked at is not left out: only what it lets through may make a memo
 * that counts here. So a packet of the tunnel that goes to the stack is stamped with the interface it
 * came in through; the stamp reaches from_overlay if the host's firewall, its filters for addresses
 * and its IPsec policies let the packet pass as it is; the memo keeps it, and counts here for packets
 * that come in through the same interface. After a moment the next packet goes that way again.
 */
#pragma once

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>

#include "checksum.h"
#include "deliver.h"
#include "lane.h"
#include "memo.h"
#include "packet.h"
#include "stages.h"
#include "transport.h"
#include "tunnel_frame.h"

#define UNPACK_STAMP 0x68617773 /* no priority that anybody else gives */

/* bcc does not declare this one. */
static long (*skb_get_xfrm_state)(struct __sk_buff *skb, __u32 number, struct bpf_xfrm_state *state,
				  __u32 bytes, __u64 flags) = (void *)BPF_FUNC_skb_get_xfrm_state;

/*
 * Note where a packet of the tunnel comes in. Not of one that IPsec has taken out of another tunnel: that
 * it may pass says nothing of those that come in the open.
 */
static __always_inline void unpack_stamp(struct __sk_buff *skb)
{
	struct bpf_xfrm_state state = {};

	if (skb_get_xfrm_state(skb, 0, &state, sizeof(state), 0))
		skb->priority = UNPACK_STAMP ^ skb->ifindex;
}

/* Where it came in, behind the tunnel; 0 = not known. The stamp is wiped off. */
static __always_inline __u32 unpack_stamped(struct __sk_buff *skb)
{
	__u32 ifindex = UNPACK_STAMP ^ skb->priority;

	/* Numbers of interfaces are small. */
	if (ifindex >> 24)
		return 0;
	skb->priority = 0;
	return ifindex;
}

/* Is the header of the outer packet right? */
static __always_inline bool is_intact(struct iphdr *ipv4)
{
	return !checksum_fold(bpf_csum_diff(0, 0, (__be32 *)ipv4, sizeof(*ipv4), 0));
}

/* Is it one whole packet of the tunnel, written as we do, with plain TCP or UDP inside? */
static __always_inline bool can_unpack(const struct __sk_buff *skb, struct tunnel_frame *frame)
{
	void *end = (void *)(long)skb->data_end;
	__u32 bytes = skb->len - ETH_HLEN;
	struct ports_header *ports;

	if ((void *)(frame + 1) > end || skb->gso_size)
		return false;
	if (frame->outer.checksum || bpf_ntohs(frame->outer.ipv4.tot_len) != bytes ||
	    bpf_ntohs(frame->outer.length) != bytes - sizeof(frame->outer.ipv4) ||
	    (frame->outer.flags_and_group & bpf_htonl(0xffff0000)) != bpf_htonl(VXLAN_WITH_GROUP) ||
	    frame->outer.vni & bpf_htonl(0xff))
		return false;
	if (frame->outer.inner_ethernet.h_proto != bpf_htons(ETH_P_IP) ||
	    !mac_is_router(frame->outer.inner_ethernet.h_dest) ||
	    *(__u8 *)&frame->inner_ipv4 != IPV4_PLAIN ||
	    frame->inner_ipv4.frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET) ||
	    bpf_ntohs(frame->inner_ipv4.tot_len) != bytes - TUNNEL_BYTES)
		return false;
	/* A router has marked it: the mark has to go on with the inner packet. */
	if ((frame->outer.ipv4.tos & IPV4_ECN) != tunnel_ecn(frame->inner_ipv4.tos))
		return false;
	if (frame->inner_ipv4.protocol == IPPROTO_UDP)
		return true;
	ports = (void *)&frame->inner_ports;
	return frame->inner_ipv4.protocol == IPPROTO_TCP && (void *)(ports + 1) <= end;
}

/* Does it begin or end a connection? */
static __always_inline bool is_turn(const struct __sk_buff *skb, const struct tunnel_frame *frame)
{
	void *end = (void *)(long)skb->data_end;
	struct ports_header *ports = (void *)&frame->inner_ports;

	return frame->inner_ipv4.protocol == IPPROTO_TCP &&
	       ((void *)(ports + 1) > end || ports->flags & TCP_TURNS);
}

/*
 * Deliver a packet of the tunnel as from_overlay would. The caller has seen that it is a plain datagram
 * for the port of the VXLAN device. 0 = it has to go through that device; it is as it was.
 */
static __always_inline int unpack_again(struct __sk_buff *skb, const struct config_value *config)
{
	struct tunnel_frame *frame = (void *)(long)skb->data;
	__u64 epochs = memo_epochs(config);
	__u8 macs[2 * ETH_ALEN];
	struct memo_value memo;
	struct memo_key key;
	struct flow flow;
	bool known = false;
	__be32 node;

	if (!can_unpack(skb, frame))
		return 0;
	flow_begin(&flow, DIRECTION_INGRESS);
	flow.epochs = epochs;
	flow.vni = bpf_ntohl(frame->outer.vni) >> 8;
	flow.source_identity = bpf_ntohl(frame->outer.flags_and_group) & 0xffff;
	node = frame->outer.ipv4.saddr;
	if (!is_turn(skb, frame)) {
		memo_key_set(&key, flow.vni, MEMO_FROM_OVERLAY, frame->inner_ipv4.protocol,
			     frame->inner_ipv4.saddr, frame->inner_ipv4.daddr,
			     *(__be32 *)&frame->inner_ports);
		known = memo_find(&key, epochs, MEMO_FROM_OVERLAY, &memo) && memo.node == node &&
			memo.identity == flow.source_identity && memo.underlay == skb->ifindex;
	}
	/* What is for this host itself may be refused, by the way that it came. */
	if (!known && (address_is_ipv4(config->node_address, frame->inner_ipv4.daddr) ||
		       !lane_in_is_open(config, epochs, skb->ifindex, node)))
		return 0;
	if (!is_intact(&frame->outer.ipv4))
		return 0;
	__builtin_memcpy(macs, &frame->outer.inner_ethernet, sizeof(macs));
	if (bpf_skb_adjust_room(skb, -(int)TUNNEL_BYTES, ROOM_BELOW_MAC, 0))
		return 0;
	if (bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0))
		return TC_ACT_SHOT;
	if (known)
		return deliver_local(skb, memo.ifindex, DIRECTION_INGRESS);
	return hawse_drop(skb, &flow, stage_unpacked(skb, &flow, node));
}
