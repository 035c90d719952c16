/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * refuse.c: drops a packet and tells its sender at once, who would otherwise wait for a timeout.
 *
 * TCP gets a reset (RFC 9293, 3.10.7.1), anything else an ICMP error (RFC 792; RFC 1191 for the
 * length). The packet itself becomes the answer and goes back through the interface it came from.
 */
#include <linux/pkt_cls.h>

#include "lib/checksum.h"
#include "lib/echo.h"
#include "lib/metrics.h"
#include "lib/stages.h"
#include "lib/transport.h"

#define QUOTED_BYTES		   28 /* an IPv4 header and 8 bytes more */
#define ICMP_PORT_UNREACHABLE	   3
#define ICMP_FRAGMENTATION_NEEDED  4
#define TCP_OFFSET_WITHOUT_OPTIONS 0x50
#define ANSWER_TTL		   64

struct tcp_header {
	__be16 source;
	__be16 destination;
	__be32 sequence;
	__be32 acknowledged;
	__u8 offset;
	__u8 flags;
	__be16 window;
	__be16 checksum;
	__be16 urgent;
};

/* What the checksum of TCP covers beside the segment. */
struct pseudo_header {
	__be32 source;
	__be32 destination;
	__be16 protocol;
	__be16 length;
};

static __always_inline int answer_ethernet(struct __sk_buff *skb, struct ethhdr *ethernet)
{
	if (bpf_skb_load_bytes(skb, ETH_ALEN, ethernet->h_dest, ETH_ALEN))
		return DROP(DROP_INVALID_PACKET);
	mac_router(ethernet->h_source);
	ethernet->h_proto = bpf_htons(ETH_P_IP);
	return 0;
}

static __always_inline void answer_ipv4(struct iphdr *ipv4, __be32 source, __be32 destination,
					__u8 protocol, __u16 bytes)
{
	ipv4->version = 4;
	ipv4->ihl = 5;
	ipv4->tot_len = bpf_htons(bytes);
	ipv4->frag_off = bpf_htons(0x4000); /* not to be fragmented */
	ipv4->ttl = ANSWER_TTL;
	ipv4->protocol = protocol;
	ipv4->saddr = source;
	ipv4->daddr = destination;
	ipv4->check = checksum_fold(bpf_csum_diff(0, 0, (__be32 *)ipv4, sizeof(*ipv4), 0));
}

/* Bytes of the sequence that a segment takes up. */
static __always_inline __u32 segment_length(const struct __sk_buff *skb, const struct flow *flow,
					    const struct tcp_header *tcp)
{
	__u32 headers = flow->transport + tcp_header_bytes(tcp->offset);
	__u32 bytes = skb->len > headers ? skb->len - headers : 0;

	return bytes + !!(tcp->flags & TCP_SYN) + !!(tcp->flags & TCP_FIN);
}

static __always_inline int become_reset(struct __sk_buff *skb, const struct flow *flow)
{
	struct {
		struct pseudo_header pseudo;
		struct tcp_header tcp;
	} segment = {};
	struct tcp_header asked = {};
	struct ethhdr ethernet = {};
	struct iphdr ipv4 = {};
	int err;

	if (bpf_skb_load_bytes(skb, flow->transport, &asked, sizeof(asked)))
		return DROP(DROP_INVALID_PACKET);
	err = answer_ethernet(skb, &ethernet);
	if (err)
		return err;
	answer_ipv4(&ipv4, flow->destination, flow->source, IPPROTO_TCP,
		    sizeof(ipv4) + sizeof(segment.tcp));
	segment.pseudo.source = flow->destination;
	segment.pseudo.destination = flow->source;
	segment.pseudo.protocol = bpf_htons(IPPROTO_TCP);
	segment.pseudo.length = bpf_htons(sizeof(segment.tcp));
	segment.tcp.source = asked.destination;
	segment.tcp.destination = asked.source;
	segment.tcp.offset = TCP_OFFSET_WITHOUT_OPTIONS;
	segment.tcp.flags = TCP_RST;
	if (asked.flags & TCP_ACK) {
		segment.tcp.sequence = asked.acknowledged;
	} else {
		segment.tcp.flags |= TCP_ACK;
		segment.tcp.acknowledged =
			bpf_htonl(bpf_ntohl(asked.sequence) + segment_length(skb, flow, &asked));
	}
	segment.tcp.checksum =
		checksum_fold(bpf_csum_diff(0, 0, (__be32 *)&segment, sizeof(segment), 0));
	if (bpf_skb_change_tail(skb, ETH_HLEN + sizeof(ipv4) + sizeof(segment.tcp), 0) ||
	    bpf_skb_store_bytes(skb, 0, &ethernet, sizeof(ethernet), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, &ipv4, sizeof(ipv4), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + sizeof(ipv4), &segment.tcp, sizeof(segment.tcp), 0))
		return DROP(DROP_WRITE_FAILED);
	return 0;
}

static __always_inline int become_error(struct __sk_buff *skb, const struct flow *flow,
					__be32 sender, __u8 code, __u16 mtu_bytes)
{
	struct {
		struct icmp_header icmp;
		__u8 quoted[QUOTED_BYTES];
	} message = {};
	struct ethhdr ethernet = {};
	struct iphdr ipv4 = {};
	int err;

	/* Options are not quoted: with them there would be no port. */
	if (flow->transport != ETH_HLEN + sizeof(ipv4))
		return DROP(DROP_INVALID_PACKET);
	if (bpf_skb_load_bytes(skb, ETH_HLEN, message.quoted, sizeof(message.quoted)))
		return DROP(DROP_INVALID_PACKET);
	err = answer_ethernet(skb, &ethernet);
	if (err)
		return err;
	answer_ipv4(&ipv4, sender, flow->source, IPPROTO_ICMP, sizeof(ipv4) + sizeof(message));
	message.icmp.type = ICMP_UNREACHABLE;
	message.icmp.code = code;
	message.icmp.sequence = bpf_htons(mtu_bytes);
	message.icmp.checksum =
		checksum_fold(bpf_csum_diff(0, 0, (__be32 *)&message, sizeof(message), 0));
	if (bpf_skb_change_tail(skb, ETH_HLEN + sizeof(ipv4) + sizeof(message), 0) ||
	    bpf_skb_store_bytes(skb, 0, &ethernet, sizeof(ethernet), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, &ipv4, sizeof(ipv4), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + sizeof(ipv4), &message, sizeof(message), 0))
		return DROP(DROP_WRITE_FAILED);
	return 0;
}

static __always_inline int refuse(struct __sk_buff *skb, struct handover *handover)
{
	struct flow flow = handover->flow;
	int err;

	hawse_drop(skb, &flow, handover->result);
	/* Never about an error, a later fragment, or a reset (RFC 1122, 3.2.2). */
	if (flow.kind != FLOW_STREAM || flow.tcp_flags & TCP_RST)
		return TC_ACT_SHOT;
	if (handover->mtu_bytes)
		err = become_error(skb, &flow, handover->address, ICMP_FRAGMENTATION_NEEDED,
				   handover->mtu_bytes);
	else if (flow.protocol == IPPROTO_TCP)
		err = become_reset(skb, &flow);
	else
		err = become_error(skb, &flow, handover->address, ICMP_PORT_UNREACHABLE, 0);
	return err ? TC_ACT_SHOT : bpf_redirect(skb->ifindex, 0);
}

int refuse_packet(struct __sk_buff *skb)
{
	struct handover *handover = handed_over();

	return handover ? refuse(skb, handover) : TC_ACT_SHOT;
}
