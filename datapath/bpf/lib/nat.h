/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * nat.h: translates packets: to the outside with an address of the host, to published ports, and to
 * virtual addresses, all in the same way.
 *
 * Public: nat_find, nat_is_answer, nat_open, nat_keep, nat_apply, nat_undo, nat_hash. Maps: hawse_nat.
 *
 * A connection has two entries, each under its packets as they come: those of the end that opened
 * it, and those of the other. The second is written first and only if nobody else has it, so that
 * no two connections can share one. An entry says when it was last used; one whose connection is
 * over makes room for another. ICMP errors about a translated packet are translated with it
 * (RFC 5508), the later fragments of a datagram by the ports of its first.
 */
#pragma once

#include "drop.h"
#include "echo.h"
#include "flow.h"
#include "transport.h"

#define TCP_CHECKSUM	 16
#define UDP_CHECKSUM	 6
#define ICMP_ID		 4
#define ICMP_ERROR_BYTES 8

static __always_inline __u32 nat_now(void)
{
	return bpf_ktime_get_ns() / NANOSECONDS_PER_SECOND;
}

/* The connection's ends as the packet has them; of an ICMP error, those that it is about. */
static __always_inline void nat_key_of(struct nat_key *key, const struct flow *flow)
{
	key->source = flow->tracked_source;
	key->destination = flow->destination;
	key->source_port = flow->source_port;
	key->destination_port = flow->destination_port;
	key->protocol = flow->tracked_protocol;
}

/* How packets of the other direction come, when those of this one go on like that. */
static __always_inline void nat_key_of_reply(struct nat_key *key, const struct nat_value *to,
					     __u32 protocol)
{
	key->source = to->destination;
	key->destination = to->source;
	key->source_port = to->destination_port;
	key->destination_port = to->source_port;
	key->protocol = protocol;
}

static __always_inline struct nat_value *nat_find(const struct flow *flow)
{
	struct nat_key key = {};

	if (flow->kind == FLOW_STATELESS)
		return 0;
	nat_key_of(&key, flow);
	return hawse_nat.lookup(&key);
}

/* The other half of a connection; NULL: it was pushed out. */
static __always_inline struct nat_value *nat_partner(const struct nat_value *entry, __u32 protocol)
{
	struct nat_key key = {};

	nat_key_of_reply(&key, entry, protocol);
	return hawse_nat.lookup(&key);
}

/* Note that a packet has come. */
static __always_inline void nat_touch(struct nat_value *entry, const struct flow *flow)
{
	__u32 now = nat_now();
	__u16 flags = entry->flags | NAT_USED;

	if (flow->kind == FLOW_RELATED)
		return;
	if (flow->tcp_flags & TCP_FIN)
		flags |= NAT_CLOSING;
	if (flow->tcp_flags & TCP_RST)
		flags |= NAT_RESET;
	/* A write that changes nothing would still take the cache line from the other CPU. */
	if (entry->flags != flags)
		entry->flags = flags;
	if (entry->seen_s != now)
		entry->seen_s = now;
}

/* Is a connection over, or was it silent for too long? It is known by either half. */
static __always_inline bool nat_is_idle(const struct nat_value *one, const struct nat_value *other,
					__u32 protocol, __u32 now)
{
	__u32 any = one->flags, both = 0, seen_s = one->seen_s;
	__s32 limit_s;

	if (other) {
		any |= other->flags;
		both = one->flags & other->flags;
		if ((__s32)(other->seen_s - seen_s) > 0)
			seen_s = other->seen_s;
	}
	if (protocol != IPPROTO_TCP)
		limit_s = both & NAT_USED ? HAWSE_STREAM_TIMEOUT_S : HAWSE_OTHER_TIMEOUT_S;
	else if (any & NAT_RESET || both & NAT_CLOSING)
		limit_s = HAWSE_CLOSE_TIMEOUT_S;
	else
		limit_s = both & NAT_USED ? HAWSE_TCP_TIMEOUT_S : HAWSE_SYN_TIMEOUT_S;
	return (__s32)(now - seen_s) > limit_s;
}

/* Is the packet an answer of a connection that lives? */
static __always_inline bool nat_is_answer(const struct nat_value *known, const struct flow *flow)
{
	struct nat_value *partner;

	if (!known->reply || flow->opens)
		return false;
	partner = nat_partner(known, flow->tracked_protocol);
	return partner && !nat_is_idle(known, partner, flow->tracked_protocol, nat_now());
}

/* Make an entry, unless a connection that lives has it. */
static __always_inline bool nat_claim(struct nat_key *key, struct nat_value *value)
{
	struct nat_value *other;

	if (!hawse_nat.insert(key, value))
		return true;
	other = hawse_nat.lookup(key);
	if (!other)
		return false;
	if (other->source != value->source || other->destination != value->destination ||
	    other->source_port != value->source_port ||
	    other->destination_port != value->destination_port) {
		if (!nat_is_idle(other, nat_partner(other, key->protocol), key->protocol,
				 value->seen_s))
			return false;
	}
	return !hawse_nat.update(key, value);
}

/* A number that is the same for all packets of a connection, and spread evenly. */
static __always_inline __u32 nat_hash(const struct flow *flow)
{
	__u64 hash = (__u64)flow->tracked_source << 32 | flow->destination;

	hash ^= ((__u64)flow->source_port << 24 | (__u64)flow->destination_port << 8 |
		 flow->tracked_protocol) *
		0x9e3779b97f4a7c15ULL;
	hash ^= hash >> 33;
	hash *= 0xff51afd7ed558ccdULL;
	hash ^= hash >> 33;
	hash *= 0xc4ceb9fe1a85ec53ULL;
	return hash >> 32;
}

/* Both halves of a connection that begins now. */
static __always_inline void nat_begin(const struct flow *flow, struct nat_value *to,
				      struct nat_value *reply)
{
	to->seen_s = nat_now();
	to->flags = NAT_USED;
	to->reply = 0;
	reply->source = flow->destination;
	reply->source_port = flow->destination_port;
	reply->destination = flow->source;
	reply->destination_port = flow->source_port;
	reply->seen_s = to->seen_s;
	reply->flags = 0;
	reply->kind = to->kind;
	reply->reply = 1;
}

/*
 * Open a connection that goes on like that. Where the source is not the sender's own any more, its
 * port is chosen from the host's range for translation, if there is one. Returns 0 or DROP(); to is
 * complete then.
 */
static __always_inline int nat_open(const struct config_value *config, const struct flow *flow,
				    struct nat_value *to)
{
	__u32 first = config->nat_port_first, last = config->nat_port_last;
	bool chosen = to->source != flow->source && first && last >= first;
	struct nat_key key = {}, back = {};
	struct nat_value reply = {};
	__u32 ports, at;
	int i;

	if (flow->kind != FLOW_STREAM)
		return DROP(DROP_NAT_NO_MAPPING);
	if (!has_ports(flow->protocol) && flow->protocol != IPPROTO_ICMP)
		return DROP(DROP_NAT_UNSUPPORTED);
	nat_key_of(&key, flow);
	nat_begin(flow, to, &reply);
	/* The checksum of SCTP covers its ports, and no helper can compute it anew. */
	if (!chosen || flow->protocol == IPPROTO_SCTP) {
		to->source_port = flow->source_port;
		nat_key_of_reply(&back, to, flow->protocol);
		if (!nat_claim(&back, &reply))
			return DROP(DROP_NAT_NO_MAPPING);
		return hawse_nat.update(&key, to) ? DROP(DROP_NAT_NO_MAPPING) : 0;
	}
	ports = last - first + 1;
	at = nat_hash(flow) % ports;
	for (i = 0; i < HAWSE_NAT_TRIES; i++) {
		to->source_port = bpf_htons(first + at);
		if (flow->protocol == IPPROTO_ICMP)
			to->destination_port = to->source_port;
		nat_key_of_reply(&back, to, flow->protocol);
		if (nat_claim(&back, &reply))
			return hawse_nat.update(&key, to) ? DROP(DROP_NAT_NO_MAPPING) : 0;
		at = at + 1 < ports ? at + 1 : 0;
	}
	return DROP(DROP_NAT_NO_MAPPING);
}

/*
 * Go on as the connection's packets did so far. The other half may have been pushed out, or the
 * connection begins again: then it is made anew. Returns 0 or DROP() when somebody else has it.
 */
static __always_inline int nat_keep(const struct flow *flow, struct nat_value *known,
				    struct nat_value *to)
{
	struct nat_value *partner = nat_partner(known, flow->tracked_protocol);
	struct nat_key key = {}, back = {};
	struct nat_value reply = {};

	*to = *known;
	if (partner && !flow->opens && partner->destination == flow->tracked_source &&
	    partner->destination_port == flow->source_port) {
		nat_touch(known, flow);
		return 0;
	}
	if (flow->kind != FLOW_STREAM)
		return DROP(DROP_NAT_NO_MAPPING);
	nat_key_of(&key, flow);
	nat_begin(flow, to, &reply);
	nat_key_of_reply(&back, to, flow->protocol);
	if (!nat_claim(&back, &reply))
		return DROP(DROP_NAT_NO_MAPPING);
	return hawse_nat.update(&key, to) ? DROP(DROP_NAT_NO_MAPPING) : 0;
}

/* Write the addresses of an IPv4 header; returns how its checksum has changed. */
static __always_inline int write_addresses(struct __sk_buff *skb, __u32 header,
					   const struct ipv4_pair *from, struct ipv4_pair *into,
					   __s64 *difference)
{
	*difference =
		bpf_csum_diff((__be32 *)from, sizeof(*from), (__be32 *)into, sizeof(*into), 0);
	if (bpf_skb_store_bytes(skb, header + offsetof(struct iphdr, saddr), into, sizeof(*into),
				0) ||
	    bpf_l3_csum_replace(skb, header + offsetof(struct iphdr, check), 0, *difference, 0))
		return DROP(DROP_WRITE_FAILED);
	return 0;
}

/* Write ports, or the id of ICMP echo, and mend the checksum for them and for the addresses. */
static __always_inline int write_ports(struct __sk_buff *skb, const struct flow *flow,
				       const struct nat_value *to, __s64 addresses)
{
	struct ports_pair from = {.source = flow->source_port,
				  .destination = flow->destination_port};
	struct ports_pair into = {.source = to->source_port, .destination = to->destination_port};
	bool changed = from.source != into.source || from.destination != into.destination;
	__u32 at = flow->transport, checksum = at + UDP_CHECKSUM;
	__u64 flags = 0;
	__s64 ports;

	if (flow->protocol == IPPROTO_ICMP) {
		if (!changed)
			return 0;
		if (bpf_l4_csum_replace(skb, at + CHECKSUM_OFFSET, from.source, into.source,
					sizeof(into.source)) ||
		    bpf_skb_store_bytes(skb, at + ICMP_ID, &into.source, sizeof(into.source), 0))
			return DROP(DROP_WRITE_FAILED);
		return 0;
	}
	if (flow->protocol == IPPROTO_SCTP)
		return changed ? DROP(DROP_NAT_UNSUPPORTED) : 0;
	if (flow->protocol == IPPROTO_TCP)
		checksum = at + TCP_CHECKSUM;
	else
		flags = BPF_F_MARK_MANGLED_0; /* of UDP 0 says that there is none */
	if (bpf_l4_csum_replace(skb, checksum, 0, addresses, flags | BPF_F_PSEUDO_HDR))
		return DROP(DROP_WRITE_FAILED);
	if (!changed)
		return 0;
	ports = bpf_csum_diff((__be32 *)&from, sizeof(from), (__be32 *)&into, sizeof(into), 0);
	if (bpf_l4_csum_replace(skb, checksum, 0, ports, flags) ||
	    bpf_skb_store_bytes(skb, at, &into, sizeof(into), 0))
		return DROP(DROP_WRITE_FAILED);
	return 0;
}

/*
 * Write what an ICMP error quotes: a packet of the other direction, as its sender knows it. The
 * change of addresses is made up for by the quoted header's own checksum; that of the quoted ports
 * is not looked at by anybody.
 */
static __always_inline int write_quoted(struct __sk_buff *skb, const struct flow *flow,
					const struct nat_value *to)
{
	struct ipv4_pair from = {.source = flow->destination, .destination = flow->tracked_source};
	struct ipv4_pair into = {.source = to->destination, .destination = to->source};
	struct ports_pair old = {.source = flow->destination_port,
				 .destination = flow->source_port};
	struct ports_pair new = {.source = to->destination_port, .destination = to->source_port};
	__u32 quoted = flow->transport + ICMP_ERROR_BYTES;
	__u32 checksum = flow->transport + CHECKSUM_OFFSET;
	__s64 difference;
	__u8 first = 0;
	__u32 at;
	int err;

	if (bpf_skb_load_bytes(skb, quoted, &first, sizeof(first)))
		return DROP(DROP_CT_INVALID_HEADER);
	at = quoted + (first & 0xf) * 4;
	err = write_addresses(skb, quoted, &from, &into, &difference);
	if (err)
		return err;
	if (flow->tracked_protocol == IPPROTO_ICMP) {
		if (old.source == new.source)
			return 0;
		/* The quoted message's own checksum makes up for it as well. */
		if (bpf_l4_csum_replace(skb, at + CHECKSUM_OFFSET, old.source, new.source,
					sizeof(new.source)) ||
		    bpf_skb_store_bytes(skb, at + ICMP_ID, &new.source, sizeof(new.source), 0))
			return DROP(DROP_WRITE_FAILED);
		return 0;
	}
	difference = bpf_csum_diff((__be32 *)&old, sizeof(old), (__be32 *)&new, sizeof(new), 0);
	if (bpf_l4_csum_replace(skb, checksum, 0, difference, 0) ||
	    bpf_skb_store_bytes(skb, at, &new, sizeof(new), 0))
		return DROP(DROP_WRITE_FAILED);
	return 0;
}

/* Write the packet as it goes on; the flow follows. Pointers into the packet are void after this. */
static __always_inline int nat_apply(struct __sk_buff *skb, struct flow *flow,
				     const struct nat_value *to)
{
	struct ipv4_pair from = {.source = flow->source, .destination = flow->destination};
	struct ipv4_pair into = {.source = flow->source, .destination = to->destination};
	__s64 difference;
	int err;

	/* The sender of an ICMP error may be a router, which keeps its address. */
	if (flow->source == flow->tracked_source)
		into.source = to->source;
	err = write_addresses(skb, ETH_HLEN, &from, &into, &difference);
	if (err)
		return err;
	if (flow->kind == FLOW_STREAM)
		err = write_ports(skb, flow, to, difference);
	else if (flow->kind == FLOW_RELATED)
		err = write_quoted(skb, flow, to);
	if (err)
		return err;
	flow->source = into.source;
	flow->destination = into.destination;
	flow->tracked_source = to->source;
	flow->source_port = to->source_port;
	flow->destination_port = to->destination_port;
	return 0;
}

/*
 * Give an answer back the addresses that were asked for. Returns the kind of the connection or
 * DROP().
 */
static __always_inline int nat_undo(struct __sk_buff *skb, struct flow *flow)
{
	struct nat_value *entry = nat_find(flow);
	struct nat_value to;
	int err;

	if (!entry)
		return DROP(DROP_NAT_NO_MAPPING);
	nat_touch(entry, flow);
	to = *entry;
	err = nat_apply(skb, flow, &to);
	return err ? err : to.kind;
}
