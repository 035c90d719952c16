/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * transport.h: reads what is above IPv4 into a flow: ports, flags, message types, and of fragments
 * what their first one said.
 *
 * Public: read_transport, find_plain, tcp_header_bytes. Maps: hawse_fragments.
 */
#pragma once

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>

#include "drop.h"
#include "flow.h"

#define IPV4_MORE_FRAGMENTS  0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff
#define TCP_FIN		     0x01
#define TCP_SYN		     0x02
#define TCP_RST		     0x04
#define TCP_TURNS	     (TCP_SYN | TCP_FIN | TCP_RST) /* where a connection begins or ends */
#define TCP_ACK		     0x10
#define ICMP_ECHO_REPLY	     0
#define ICMP_UNREACHABLE     3
#define ICMP_ECHO_REQUEST    8
#define ICMP_TIME_EXCEEDED   11
#define ICMP_PARAMETER	     12

#define IPV4_PLAIN	 0x45 /* version, and a header without options */
#define SCTP_INIT	 1
#define UDP_HEADER_BYTES 8

/* The first bytes of a TCP header; those of UDP begin alike, those of SCTP have the same length. */
struct ports_header {
	__be16 source;
	__be16 destination;
	__be32 sequence;
	__be32 acknowledged;
	__u8 offset; /* of SCTP: type of the first chunk */
	__u8 flags;
};

/* Of the byte of a TCP header that says where its data begin. */
static __always_inline __u32 tcp_header_bytes(__u8 offset)
{
	return (offset >> 4) * 4;
}

struct icmp_header {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 id;
	__be16 sequence;
};

/* Only the ports; all that an ICMP error has to quote. */
struct ports_pair {
	__be16 source;
	__be16 destination;
};

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

/*
 * Headers of what almost every packet is: all of a datagram or segment, behind an IPv4 header without
 * options, in memory that can be read at once. NULL: it is something else. TCP's flags may lie behind
 * the end.
 */
static __always_inline struct ports_header *find_plain(const struct __sk_buff *skb,
						       struct iphdr **header)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ethhdr *ethernet = data;
	struct iphdr *ipv4 = data + ETH_HLEN;
	__u32 total;

	if (data + ETH_HLEN + sizeof(*ipv4) + UDP_HEADER_BYTES > end)
		return 0;
	if (ethernet->h_proto != bpf_htons(ETH_P_IP) || skb->vlan_present ||
	    *(__u8 *)ipv4 != IPV4_PLAIN ||
	    ipv4->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET))
		return 0;
	if (ipv4->protocol != IPPROTO_TCP && ipv4->protocol != IPPROTO_UDP)
		return 0;
	total = bpf_ntohs(ipv4->tot_len);
	if (!skb->gso_size && (total < sizeof(*ipv4) || total > skb->len - ETH_HLEN))
		return 0;
	*header = ipv4;
	return data + ETH_HLEN + sizeof(*ipv4);
}

/*
 * Find the connection that the ICMP error at this offset is about, seen in the direction in which
 * the error goes. A router may report it, so its other end need not be the sender of the error.
 */
static __always_inline int read_quoted(struct __sk_buff *skb, __u32 offset, struct flow *flow)
{
	struct ports_pair ports = {};
	struct icmp_header echo = {};
	struct iphdr quoted = {};

	if (bpf_skb_load_bytes(skb, offset, &quoted, sizeof(quoted)))
		return DROP(DROP_CT_INVALID_HEADER);
	/* It has to be about something that its receiver sent. */
	if (quoted.version != 4 || quoted.ihl < 5 || quoted.saddr != flow->destination)
		return DROP(DROP_CT_INVALID_HEADER);
	if (quoted.frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET))
		return 0;
	offset += quoted.ihl * 4;
	if (has_ports(quoted.protocol)) {
		if (bpf_skb_load_bytes(skb, offset, &ports, sizeof(ports)))
			return DROP(DROP_CT_INVALID_HEADER);
		flow->source_port = ports.destination;
		flow->destination_port = ports.source;
	} else if (quoted.protocol == IPPROTO_ICMP) {
		if (bpf_skb_load_bytes(skb, offset, &echo, sizeof(echo)))
			return DROP(DROP_CT_INVALID_HEADER);
		if (echo.type != ICMP_ECHO_REQUEST && echo.type != ICMP_ECHO_REPLY)
			return 0;
		flow->source_port = echo.id;
		flow->destination_port = echo.id;
	}
	flow->kind = FLOW_RELATED;
	flow->tracked_source = quoted.daddr;
	flow->tracked_protocol = quoted.protocol;
	return 0;
}

static __always_inline int read_icmp(struct __sk_buff *skb, __u32 offset, struct flow *flow)
{
	struct icmp_header icmp = {};

	if (bpf_skb_load_bytes(skb, offset, &icmp, sizeof(icmp)))
		return DROP(DROP_CT_INVALID_HEADER);
	flow->icmp_type = bpf_htons(icmp.type);
	switch (icmp.type) {
	case ICMP_ECHO_REQUEST:
		flow->opens = 1;
		/* fall through */
	case ICMP_ECHO_REPLY:
		flow->source_port = icmp.id;
		flow->destination_port = icmp.id;
		return 0;
	case ICMP_UNREACHABLE:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETER:
		flow->kind = FLOW_STATELESS;
		return read_quoted(skb, offset + sizeof(icmp), flow);
	default:
		flow->kind = FLOW_STATELESS;
		return 0;
	}
}

static __always_inline int read_ports(struct __sk_buff *skb, __u32 offset, struct flow *flow)
{
	struct ports_header header = {};

	if (flow->protocol == IPPROTO_UDP) {
		if (bpf_skb_load_bytes(skb, offset, &header, UDP_HEADER_BYTES))
			return DROP(DROP_CT_INVALID_HEADER);
	} else if (bpf_skb_load_bytes(skb, offset, &header, sizeof(header))) {
		return DROP(DROP_CT_INVALID_HEADER);
	}
	if (flow->protocol == IPPROTO_TCP) {
		flow->tcp_flags = header.flags;
		flow->opens = (header.flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	} else if (flow->protocol == IPPROTO_SCTP) {
		/* Both ends may use the same port: then only this tells who opens. */
		flow->opens = header.offset == SCTP_INIT;
	}
	flow->source_port = header.source;
	flow->destination_port = header.destination;
	return 0;
}

/* Read the headers above IPv4. */
static __always_inline int read_transport(struct __sk_buff *skb, const struct iphdr *ipv4,
					  struct flow *flow)
{
	__u16 fragment = bpf_ntohs(ipv4->frag_off);
	__u32 offset = ETH_HLEN + ipv4->ihl * 4;
	struct fragment_value ports = {};
	struct fragment_value *known;
	struct fragment_key key = {};
	int err = 0;

	flow->source = ipv4->saddr;
	flow->destination = ipv4->daddr;
	flow->protocol = ipv4->protocol;
	flow->transport = offset;
	flow->tracked_source = flow->source;
	flow->tracked_protocol = flow->protocol;
	if (fragment & (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET)) {
		key.source = ipv4->saddr;
		key.destination = ipv4->daddr;
		key.vni = flow->vni;
		key.datagram = ipv4->id;
		key.protocol = ipv4->protocol;
	}
	if (fragment & IPV4_FRAGMENT_OFFSET) {
		known = hawse_fragments.lookup(&key);
		if (!known)
			return DROP(DROP_FRAGMENT_NOT_FOUND);
		flow->kind = FLOW_FRAGMENT;
		flow->source_port = known->source_port;
		flow->destination_port = known->destination_port;
		return 0;
	}
	/* What the next fragment brings must not be read from the padding of this one. */
	if (fragment & IPV4_MORE_FRAGMENTS &&
	    (flow->protocol == IPPROTO_TCP || flow->protocol == IPPROTO_SCTP) &&
	    bpf_ntohs(ipv4->tot_len) < ipv4->ihl * 4 + sizeof(struct ports_header))
		return DROP(DROP_CT_INVALID_HEADER);
	if (flow->protocol == IPPROTO_ICMP)
		err = read_icmp(skb, offset, flow);
	else if (has_ports(flow->protocol))
		err = read_ports(skb, offset, flow);
	if (err)
		return err;
	if (fragment & IPV4_MORE_FRAGMENTS) {
		ports.source_port = flow->source_port;
		ports.destination_port = flow->destination_port;
		hawse_fragments.update(&key, &ports);
	}
	return 0;
}
