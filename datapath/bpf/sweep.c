/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sweep.c: sweep_connections and sweep_translations, which remove connections that are over; no
 * packet comes here. The agent runs them by BPF_PROG_TEST_RUN.
 *
 * The "packet" is a link-layer header of zeros, room for HAWSE_SWEEP_AT_ONCE keys of the map, and up
 * to as many values: a part of the map as the agent has read it a moment ago. What is over by that
 * copy is looked up, and is removed if it still is over: the connection may have begun again
 * meanwhile. Here that takes a fraction of a microsecond, with no packet of this CPU in between. A
 * look at every entry would make each of them one that was used just now, by which an LRU map
 * chooses what it pushes out. Returns how many entries were removed.
 *
 * Maps: hawse_conntrack, hawse_nat.
 */
#include "lib/conntrack.h"
#include "lib/nat.h"

static __always_inline __u32 sweep_connection(struct __sk_buff *skb, __u32 key_at, __u32 value_at,
					      __u32 now)
{
	struct conntrack_value copy, *entry;
	struct conntrack_key key;

	if (bpf_skb_load_bytes(skb, key_at, &key, sizeof(key)) ||
	    bpf_skb_load_bytes(skb, value_at, &copy, sizeof(copy)))
		return 0;
	if (!is_expired(&copy, key.vni_and_protocol & 0xff, now))
		return 0;
	entry = hawse_conntrack.lookup(&key);
	if (!entry || !is_expired(entry, key.vni_and_protocol & 0xff, now))
		return 0;
	return !hawse_conntrack.delete(&key);
}

int sweep_connections(struct __sk_buff *skb)
{
	const __u32 values_at = ETH_HLEN + HAWSE_SWEEP_AT_ONCE * sizeof(struct conntrack_key);
	__u32 now = nat_now(), removed = 0, i;

	for (i = 0; i < HAWSE_SWEEP_AT_ONCE; i++)
		removed += sweep_connection(skb, ETH_HLEN + i * sizeof(struct conntrack_key),
					    values_at + i * sizeof(struct conntrack_value), now);
	return removed;
}

/*
 * One half of a connection, and the other with it: by itself that would count as a connection that
 * was never answered. The other may be another connection's by now, which then says so.
 */
static __always_inline __u32 sweep_translation(struct __sk_buff *skb, __u32 key_at, __u32 value_at,
					       __u32 now)
{
	struct nat_value copy, *one, *other;
	struct nat_key key, back = {};
	bool is_pair;

	if (bpf_skb_load_bytes(skb, key_at, &key, sizeof(key)) ||
	    bpf_skb_load_bytes(skb, value_at, &copy, sizeof(copy)))
		return 0;
	/* No connection is over sooner. */
	if ((__s32)(now - copy.seen_s) <= HAWSE_CLOSE_TIMEOUT_S)
		return 0;
	one = hawse_nat.lookup(&key);
	if (!one)
		return 0;
	nat_key_of_reply(&back, one, key.protocol);
	other = hawse_nat.lookup(&back);
	if (!nat_is_idle(one, other, key.protocol, now))
		return 0;
	is_pair = other && other->source == key.destination &&
		  other->source_port == key.destination_port && other->destination == key.source &&
		  other->destination_port == key.source_port;
	return !hawse_nat.delete(&key) + (is_pair && !hawse_nat.delete(&back));
}

int sweep_translations(struct __sk_buff *skb)
{
	const __u32 values_at = ETH_HLEN + HAWSE_SWEEP_AT_ONCE * sizeof(struct nat_key);
	__u32 now = nat_now(), removed = 0, i;

	for (i = 0; i < HAWSE_SWEEP_AT_ONCE; i++)
		removed += sweep_translation(skb, ETH_HLEN + i * sizeof(struct nat_key),
					     values_at + i * sizeof(struct nat_value), now);
	return removed;
}
