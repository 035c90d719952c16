/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * memo.h: repeats for a moment what was decided for a connection, so that its next packet costs one
 * lookup.
 *
 * Public: memo_epochs, memo_key_set, memo_read, memo_find, memo_is_due, memo_keep, memo_renew,
 * memo_forget_answers. Maps: hawse_memo, hawse_nat, hawse_config.
 *
 * A memo is made at the end of the whole way, for one direction of a connection that is judged, is
 * not translated, and has many packets. What makes it right:
 * 1) its key has all that the way looks at in the packet, its value what the way compares the packet
 *    with: a packet that the way would treat otherwise finds no memo, or does not fit it;
 * 2) it counts only under the two epochs that were read before its way began. Whoever changes a map
 *    that the way looks at raises one of them afterwards;
 * 3) it holds for a moment only: after that, the way sees a packet again, and so do the connection's
 *    entry and its timeouts;
 * 4) segments that begin or end a connection, fragments, and headers with options never fit;
 * 5) when the connection becomes a translated one, it is forgotten.
 *
 * An entry of the map may be used anew while a program reads it. The mark stands first in it and is
 * looked at last, so what was read in between belongs to the key.
 */
#pragma once

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>

#include "address.h"
#include "flow.h"
#include "maps.h"
#include "nat.h"
#include "transport.h"

/* All that is read of a packet. */
#define MEMO_BYTES (ETH_HLEN + sizeof(struct iphdr) + sizeof(struct ports_header))

typedef __u64 __attribute__((may_alias)) epochs_word;

/* Both epochs at once. They have to be read before anything is looked at. */
static __always_inline __u64 memo_epochs(const struct config_value *config)
{
	/* Of a pointer to 4 bytes the compiler would make two reads. */
	const void *both = &config->policy_epoch;

	return *(const volatile epochs_word *)both;
}

static __always_inline __u64 memo_mark(const struct memo_key *key)
{
	return ((__u64)key->source << 32 | key->destination) ^ (__u64)key->ports << 13 ^ key->scope;
}

/* Whole words: what is written in parts and then hashed as a word waits for the parts. */
static __always_inline void memo_key_set(struct memo_key *key, __u32 scope, enum memo_hook hook,
					 __u8 protocol, __be32 source, __be32 destination,
					 __be32 ports)
{
	key->scope = scope;
	key->source = source;
	key->destination = destination;
	key->ports = ports;
	key->protocol_and_hook = protocol | hook << 8;
}

/*
 * Read a frame that a memo can be about. NULL: there can be none. Otherwise its link-layer header.
 */
static __always_inline struct ethhdr *memo_read(const struct __sk_buff *skb, __u32 scope,
						enum memo_hook hook, struct memo_key *key)
{
	void *end = (void *)(long)skb->data_end;
	struct ports_header *ports;
	struct ethhdr *ethernet;
	struct iphdr *ipv4;

	ports = find_plain(skb, &ipv4);
	if (!ports)
		return 0;
	ethernet = (void *)(long)skb->data;
	if (!mac_is_router(ethernet->h_dest))
		return 0;
	if (ipv4->protocol == IPPROTO_TCP &&
	    ((void *)(ports + 1) > end || ports->flags & TCP_TURNS))
		return 0;
	memo_key_set(key, scope, hook, ipv4->protocol, ipv4->saddr, ipv4->daddr, *(__be32 *)ports);
	return ethernet;
}

/* What was decided for such a packet, copied: true when there is something, and it holds. */
static __always_inline bool memo_find(const struct memo_key *key, __u64 epochs, enum memo_hook hook,
				      struct memo_value *memo)
{
	const volatile struct memo_value *known = hawse_memo.lookup((struct memo_key *)key);

	if (!known || *(const volatile epochs_word *)&known->policy_epoch != epochs)
		return false;
	memo->until = known->until;
	memo->ifindex = known->ifindex;
	memo->node = known->node;
	memo->vni = known->vni;
	memo->identity = known->identity;
	memo->underlay = known->underlay;
	*(__u16 *)&memo->mac[0] = *(const volatile __u16 *)&known->mac[0];
	*(__u16 *)&memo->mac[2] = *(const volatile __u16 *)&known->mac[2];
	*(__u16 *)&memo->mac[4] = *(const volatile __u16 *)&known->mac[4];
	if (hook == MEMO_FROM_CONTAINER || hook == MEMO_TO_NODE) {
		memo->next_hop = known->next_hop;
		memo->longest = known->longest;
		memo->source_port = known->source_port;
		memo->fragment = known->fragment;
		memo->tos = known->tos;
		memo->ttl = known->ttl;
	}
	return known->mark == memo_mark(key) && (__s64)(memo->until - bpf_jiffies64()) > 0;
}

/* May the way be left out for the next packets? The flow has been let through. */
static __always_inline bool memo_is_due(const struct flow *flow)
{
	return flow->busy && flow->transport == ETH_HLEN + sizeof(struct iphdr) &&
	       !(flow->tcp_flags & TCP_TURNS);
}

static __always_inline __be32 memo_ports(__be16 source, __be16 destination)
{
	return bpf_htonl((__u32)bpf_ntohs(source) << 16 | bpf_ntohs(destination));
}

/* A translation may begin at any moment: it forgets what was kept before. */
static __always_inline void memo_store(const struct flow *flow, struct memo_key *key,
				       struct memo_value *memo)
{
	if (nat_find(flow))
		return;
	hawse_memo.update(key, memo);
	if (nat_find(flow))
		hawse_memo.delete(key);
}

/* Keep a decision; the caller has said in it where the packet goes and from whom it may come. */
static __always_inline void memo_keep(const struct flow *flow, __u32 scope, enum memo_hook hook,
				      struct memo_value *memo)
{
	struct config_value *config = flow_config();
	struct memo_key key;

	if (!config)
		return;
	memo_key_set(&key, scope, hook, flow->protocol, flow->source, flow->destination,
		     memo_ports(flow->source_port, flow->destination_port));
	memo->mark = memo_mark(&key);
	*(epochs_word *)&memo->policy_epoch = flow->epochs;
	memo->until = bpf_jiffies64() + config->memo_ticks;
	memo_store(flow, &key, memo);
}

/* Keep more about a decision, which holds no longer for that; memo is what was found. */
static __always_inline void memo_renew(struct memo_key *key, __u64 epochs, struct memo_value *memo)
{
	__u32 ports = bpf_ntohl(key->ports);
	struct flow flow = {};

	flow.tracked_source = key->source;
	flow.destination = key->destination;
	flow.source_port = bpf_htons(ports >> 16);
	flow.destination_port = bpf_htons(ports & 0xffff);
	flow.tracked_protocol = key->protocol_and_hook & 0xff;
	memo->mark = memo_mark(key);
	*(epochs_word *)&memo->policy_epoch = epochs;
	memo_store(&flow, key, memo);
}

/*
 * The connection that the flow opens is a translated one from now on: forget what was decided about
 * its answers when it was not. ifindex is where they come from; 0 = through the tunnel.
 */
static __always_inline void memo_forget_answers(const struct flow *flow, __u32 ifindex)
{
	enum memo_hook hook = ifindex ? MEMO_FROM_CONTAINER : MEMO_FROM_OVERLAY;
	struct memo_key key;

	memo_key_set(&key, ifindex ? ifindex : flow->vni, hook, flow->protocol, flow->destination,
		     flow->source, memo_ports(flow->destination_port, flow->source_port));
	hawse_memo.delete(&key);
}
