/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pack.h: puts packets of known flows into the tunnel itself, past the VXLAN device and the host's
 * stack.
 *
 * Public: pack_again, pack_stamp, pack_stamped, pack_learn. Maps: hawse_memo, hawse_nat.
 *
 * What the stack decides is not left out, only repeated. The packet that makes a memo goes through
 * the device and is stamped with the interface that it came from. If the host's firewall, its IPsec
 * policies and its routes let it leave as a packet of the tunnel, through an interface to the outside,
 * it is seen there with the outer header that they have given it: source port, type of service,
 * time to live. The memo learns that header, the next hop, and the length. The next packets get the
 * same header and leave through the same interface, by its neighbour table and its queues, for as long
 * as the memo holds. One that is longer than any that was seen to leave whole goes through the device
 * as well, which knows how long a packet may be, and is seen again if it needed no fragments. Of a large
 * one of TCP, which is still to be cut, that is the length of its segments: the kernel is told which
 * headers are the outer ones and cuts it where it leaves, or lets the interface do that.
 */
#pragma once

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>

#include "checksum.h"
#include "deliver.h"
#include "memo.h"
#include "packet.h"
#include "transport.h"
#include "tunnel_frame.h"

/* No priorities that anybody else gives: an interface follows, and 4 bits that say: nothing special. */
#define PACK_STAMP	 0x70000000
#define LANE_STAMP	 0x71000000 /* of a packet that a lane can be known by; see lane.h */
#define PACK_STAMP_BITS	 4
#define PACK_IFINDEX_MAX 0xfffff

/* Flags of bpf_skb_adjust_room: the last needs Linux 5.13. */
#define ROOM_KEEPS_GSO_SIZE (1ULL << 0)
#define ROOM_FOR_IPV4	    (1ULL << 1)
#define ROOM_FOR_UDP	    (1ULL << 4)
#define ROOM_FOR_ETHERNET   (1ULL << 6 | (__u64)ETH_HLEN << 56)
#define ROOM_FOR_TUNNEL	    (ROOM_KEEPS_GSO_SIZE | ROOM_FOR_IPV4 | ROOM_FOR_UDP | ROOM_FOR_ETHERNET)

#define IPV4_BYTES_MAX 0xffff

/* Have the packet, which goes to the VXLAN device, tell what becomes of it; stamp says to whom. */
static __always_inline void pack_stamp(struct __sk_buff *skb, __u32 stamp)
{
	__u32 ifindex = skb->ifindex;

	if (ifindex <= PACK_IFINDEX_MAX)
		skb->priority = stamp | ifindex << PACK_STAMP_BITS;
}

/* The interface that a packet with this stamp came from; 0 = it is another one. */
static __always_inline __u32 pack_stamped(const struct __sk_buff *skb, __u32 stamp)
{
	__u32 rest = skb->priority ^ stamp;

	return rest >> 24 || rest & ((1 << PACK_STAMP_BITS) - 1) ? 0 : rest >> PACK_STAMP_BITS;
}

/* Bytes of each packet of the tunnel, from its IPv4 header on, that a large one of TCP is cut into. */
static __always_inline __u32 cut_bytes(__u32 gso_size, const struct ports_header *tcp)
{
	return TUNNEL_BYTES + sizeof(struct iphdr) + tcp_header_bytes(tcp->offset) + gso_size;
}

static __always_inline void pack_header(struct tunnel_header *header,
					const struct config_value *config,
					const struct memo_value *memo, __u8 inner_tos, __u32 bytes)
{
	__builtin_memset(header, 0, sizeof(*header));
	*(__u8 *)&header->ipv4 = IPV4_PLAIN;
	header->ipv4.tos = memo->tos | tunnel_ecn(inner_tos);
	header->ipv4.tot_len = bpf_htons(bytes);
	/* Unlike the stack's, numbers do not follow one another; they need only differ. */
	header->ipv4.id = bpf_get_prandom_u32();
	header->ipv4.frag_off = memo->fragment;
	header->ipv4.ttl = memo->ttl;
	header->ipv4.protocol = IPPROTO_UDP;
	header->ipv4.saddr = config->node_address[3];
	header->ipv4.daddr = memo->node;
	header->ipv4.check = checksum_fold(
		bpf_csum_diff(0, 0, (__be32 *)&header->ipv4, sizeof(header->ipv4), 0));
	header->source_port = memo->source_port;
	header->destination_port = bpf_htons(config->tunnel_port);
	header->length = bpf_htons(bytes - sizeof(header->ipv4));
	header->flags_and_group = bpf_htonl(VXLAN_WITH_GROUP | memo->identity);
	header->vni = bpf_htonl(memo->vni << 8);
	mac_router(header->inner_ethernet.h_dest);
	__builtin_memcpy(header->inner_ethernet.h_source, memo->mac, ETH_ALEN);
	header->inner_ethernet.h_proto = bpf_htons(ETH_P_IP);
}

/*
 * Send a packet of a container through the tunnel, as the VXLAN device would. The caller has found its
 * memo. 0 = it has to go through that device; it is as it was.
 */
static __always_inline int pack_again(struct __sk_buff *skb, const struct config_value *config,
				      const struct memo_value *memo)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *ipv4 = data + ETH_HLEN;
	__u32 frame_bytes = skb->len, bytes = frame_bytes - ETH_HLEN + TUNNEL_BYTES;
	__u32 gso_size = skb->gso_size, segments = skb->gso_segs, longest = bytes;
	struct ports_header *ports = (void *)(ipv4 + 1);
	struct bpf_redir_neigh hop = {};
	struct tunnel_header header;
	__u8 inner_tos;

	if (!memo->underlay || (void *)(ipv4 + 1) > end)
		return 0;
	if (gso_size) {
		if (ipv4->protocol != IPPROTO_TCP || (void *)(ports + 1) > end ||
		    bytes > IPV4_BYTES_MAX)
			return 0;
		longest = cut_bytes(gso_size, ports);
	}
	if (longest > memo->longest) {
		pack_stamp(skb, PACK_STAMP);
		return 0;
	}
	inner_tos = ipv4->tos;
	if (bpf_skb_adjust_room(skb, TUNNEL_BYTES, ROOM_BELOW_MAC, ROOM_FOR_TUNNEL))
		return 0;
	pack_header(&header, config, memo, inner_tos, bytes);
	if (bpf_skb_store_bytes(skb, ETH_HLEN, &header, sizeof(header), 0))
		return TC_ACT_SHOT;
	/* A veth pair notes its only queue, and every flow would leave by the first one (before 5.17). */
	skb->queue_mapping = 0;
	count_as(frame_bytes, segments, REASON_FORWARDED, DIRECTION_EGRESS);
	hop.nh_family = 2; /* AF_INET */
	hop.ipv4_nh = memo->next_hop;
	return redirect_neigh(memo->underlay, &hop, sizeof(hop), 0);
}

/* Is it a packet of the tunnel, whole, written as the VXLAN device does? */
static __always_inline bool is_tunnels(const struct __sk_buff *skb,
				       const struct config_value *config,
				       const struct tunnel_frame *frame)
{
	if (skb->vlan_present || frame->ethernet.h_proto != bpf_htons(ETH_P_IP) ||
	    *(__u8 *)&frame->outer.ipv4 != IPV4_PLAIN ||
	    frame->outer.ipv4.frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET))
		return false;
	return frame->outer.ipv4.protocol == IPPROTO_UDP &&
	       frame->outer.destination_port == bpf_htons(config->tunnel_port) &&
	       address_is_ipv4(config->node_address, frame->outer.ipv4.saddr) &&
	       !frame->outer.checksum;
}

/* Where the host's routes have led the packet: the next hop; 0 = that cannot be told. */
static __always_inline __be32 learn_next_hop(struct __sk_buff *skb,
					     const struct tunnel_frame *frame, __u32 ifindex)
{
	struct bpf_fib_lookup fib = {};

	fib.family = 2; /* AF_INET */
	fib.l4_protocol = IPPROTO_UDP;
	fib.sport = frame->outer.source_port;
	fib.dport = frame->outer.destination_port;
	fib.tos = frame->outer.ipv4.tos & ~IPV4_ECN;
	fib.ipv4_src = frame->outer.ipv4.saddr;
	fib.ipv4_dst = frame->outer.ipv4.daddr;
	/* As if it came from the container: through interfaces of the host it need not forward. */
	fib.ifindex = ifindex;
	if (bpf_fib_lookup(skb, &fib, sizeof(fib), 0) != BPF_FIB_LKUP_RET_SUCCESS)
		return 0;
	/* By another rule the packet may have gone another way than this. */
	if (fib.family != 2 || fib.ifindex != skb->ifindex ||
	    !mac_equal(fib.dmac, frame->ethernet.h_dest))
		return 0;
	return fib.ipv4_dst;
}

/*
 * Read a packet of the tunnel that leaves this host, and wipe its stamp off. false: nothing can be
 * learned of it.
 */
static __always_inline bool learn_from(struct __sk_buff *skb, const struct config_value *config,
				       struct tunnel_frame *frame)
{
	if (bpf_skb_load_bytes(skb, 0, frame, sizeof(*frame)) || !is_tunnels(skb, config, frame))
		return false;
	skb->priority = 0;
	/* Rules of the host's own go by the mark, its queues' perhaps; the next packets would have none. */
	return !skb->mark && frame->outer.inner_ethernet.h_proto == bpf_htons(ETH_P_IP) &&
	       *(__u8 *)&frame->inner_ipv4 == IPV4_PLAIN;
}

/* How long a packet, or what it is cut into, has left whole; 0 = it says nothing about that. */
static __always_inline __u32 learn_longest(struct __sk_buff *skb, const struct tunnel_frame *frame)
{
	__u32 gso_size = skb->gso_size;
	struct ports_header ports;

	if (!gso_size)
		return skb->len - ETH_HLEN;
	/* The stack has let it pass uncut, so what it is cut into fits. */
	if (frame->inner_ipv4.protocol != IPPROTO_TCP ||
	    bpf_skb_load_bytes(skb, offsetof(struct tunnel_frame, inner_ports), &ports,
			       sizeof(ports)))
		return 0;
	return cut_bytes(gso_size, &ports);
}

/* Note how the packet leaves, in what is known of those before it. */
static __always_inline void learn_way(struct memo_value *memo, struct __sk_buff *skb,
				      const struct tunnel_frame *frame, __be32 next_hop)
{
	__u32 bytes = learn_longest(skb, frame);

	if (memo->underlay != skb->ifindex || memo->next_hop != next_hop || memo->longest < bytes)
		memo->longest = bytes;
	memo->underlay = skb->ifindex;
	memo->next_hop = next_hop;
	memo->source_port = frame->outer.source_port;
	memo->tos = frame->outer.ipv4.tos & ~IPV4_ECN;
	memo->ttl = frame->outer.ipv4.ttl;
	memo->fragment = frame->outer.ipv4.frag_off;
}

/*
 * Keep in the memo of its flow how a packet of the tunnel leaves this host; it was stamped with this
 * interface. The stamp is wiped off.
 */
static __always_inline void pack_learn(struct __sk_buff *skb, const struct config_value *config,
				       __u32 ifindex)
{
	struct tunnel_frame frame;
	struct memo_value memo = {};
	__u64 epochs = memo_epochs(config);
	struct memo_key key;
	__be32 next_hop;

	if (!learn_from(skb, config, &frame))
		return;
	memo_key_set(&key, ifindex, MEMO_FROM_CONTAINER, frame.inner_ipv4.protocol,
		     frame.inner_ipv4.saddr, frame.inner_ipv4.daddr, *(__be32 *)&frame.inner_ports);
	if (!memo_find(&key, epochs, MEMO_FROM_CONTAINER, &memo) || memo.ifindex ||
	    memo.node != frame.outer.ipv4.daddr || frame.outer.vni != bpf_htonl(memo.vni << 8) ||
	    frame.outer.flags_and_group != bpf_htonl(VXLAN_WITH_GROUP | memo.identity))
		return;
	next_hop = learn_next_hop(skb, &frame, ifindex);
	if (!next_hop)
		return;
	learn_way(&memo, skb, &frame, next_hop);
	memo_renew(&key, epochs, &memo);
}
