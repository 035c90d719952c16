/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * conntrack.h: knows which packets belong together, and has the first one judged.
 *
 * Public: track, end_tracked, asks_again. Maps: hawse_conntrack.
 *
 * One entry serves both directions and both ends: its key has the two ends in a fixed order, its
 * value says which one opened the connection. The entry keeps the verdict with the policy epoch and
 * the identities it was made for; under another epoch, or when an end has another identity by now,
 * the connection is judged again, always as it was opened, whichever way the packet goes. A
 * connection that is cut off stays in the map: its packets must not look like those of a new one.
 */
#pragma once

#include "events.h"
#include "nat.h"
#include "policy.h"
#include "transport.h"

/* The ends stand in a key in the order of their numbers: is the sender the second? */
static __always_inline bool source_comes_second(const struct flow *flow)
{
	return bpf_ntohl(flow->tracked_source) > bpf_ntohl(flow->destination);
}

static __always_inline void track_key(struct conntrack_key *key, const struct flow *flow,
				      bool source_is_high)
{
	key->low = source_is_high ? flow->destination : flow->tracked_source;
	key->high = source_is_high ? flow->tracked_source : flow->destination;
	key->low_port = source_is_high ? flow->destination_port : flow->source_port;
	key->high_port = source_is_high ? flow->source_port : flow->destination_port;
	key->vni_and_protocol = flow->vni << 8 | flow->tracked_protocol;
}

static __always_inline bool is_closed(__u32 flags)
{
	__u32 both = CONNTRACK_CLOSED_SOURCE | CONNTRACK_CLOSED_TARGET;

	return flags & CONNTRACK_RESET || (flags & both) == both;
}

static __always_inline __u32 timeout_s(__u8 protocol, __u32 flags)
{
	if (protocol != IPPROTO_TCP)
		return flags & CONNTRACK_REPLIED ? HAWSE_STREAM_TIMEOUT_S : HAWSE_OTHER_TIMEOUT_S;
	if (is_closed(flags))
		return HAWSE_CLOSE_TIMEOUT_S;
	return flags & CONNTRACK_REPLIED ? HAWSE_TCP_TIMEOUT_S : HAWSE_SYN_TIMEOUT_S;
}

/* No packet for too long? Another CPU may have written a second that this one has not reached. */
static __always_inline bool is_expired(const struct conntrack_value *entry, __u8 protocol,
				       __u32 now)
{
	return (__s32)(now - entry->seen_s) > (__s32)timeout_s(protocol, entry->flags);
}

/*
 * The policy epoch, read before anything is judged: were it read afterwards, a verdict that was made
 * by the policy of yesterday could be kept as one of today.
 */
static __always_inline __u32 policy_epoch(const struct config_value *config)
{
	return *(const volatile __u32 *)&config->policy_epoch;
}

/* Somebody whom no network of ours has an address of. */
static __always_inline bool is_outside(__u32 identity)
{
	return (identity && identity < HAWSE_IDENTITY_CLUSTER && identity != HAWSE_IDENTITY_INIT) ||
	       identity >= HAWSE_IDENTITIES_MAX;
}

/*
 * May the sender of an ICMP error report about the connection? Its own end may. A router may as well,
 * but there are none inside of our networks: it has to be outside, as the end that it speaks for.
 */
static __always_inline bool may_report_on(const struct flow *flow,
					  const struct conntrack_value *entry)
{
	if (flow->kind != FLOW_RELATED || flow->tracked_source == flow->source)
		return true;
	return is_outside(flow->source_identity) &&
	       is_outside(flow->reply ? entry->destination_identity : entry->source_identity);
}

/* What policies look at: of ICMP echo always the request, as which the connection was opened. */
static __always_inline __be16 judged_port(__u8 protocol, __be16 port)
{
	return protocol == IPPROTO_ICMP ? bpf_htons(ICMP_ECHO_REQUEST) : port;
}

/*
 * Judge a connection at its ends on this host. A denial is told in the flow: direction and rule.
 * Otherwise the rules of both ends are in the verdict.
 */
static __always_inline int judge_ends(struct flow *flow, struct conntrack_value *verdict,
				      bool source_local, bool destination_local, __u8 protocol,
				      __be16 port)
{
	int denied;

	verdict->egress_rule = HAWSE_RULE_NONE;
	verdict->ingress_rule = HAWSE_RULE_NONE;
	if (source_local) {
		denied = policy_judge(verdict->source_identity, verdict->destination_identity,
				      DIRECTION_EGRESS, protocol, port, &verdict->egress_rule);
		if (denied) {
			flow->direction = DIRECTION_EGRESS;
			flow->rule = verdict->egress_rule;
			return denied;
		}
	}
	if (destination_local) {
		denied = policy_judge(verdict->destination_identity, verdict->source_identity,
				      DIRECTION_INGRESS, protocol, port, &verdict->ingress_rule);
		if (denied) {
			flow->direction = DIRECTION_INGRESS;
			flow->rule = verdict->ingress_rule;
			return denied;
		}
	}
	return 0;
}

/* The rules that let a connection through, for its report. */
static __always_inline void tell_rules(struct flow *flow, const struct conntrack_value *verdict)
{
	bool egress = flow->source_local;

	flow->rule = egress ? verdict->egress_rule : verdict->ingress_rule;
	flow->other_rule =
		egress && flow->destination_local ? verdict->ingress_rule : HAWSE_RULE_NONE;
}

/* In audit mode a denial is only reported. */
static __always_inline int denied(struct __sk_buff *skb, const struct config_value *config,
				  struct flow *flow, int result)
{
	if (!(config->flags & CONFIG_AUDIT))
		return result;
	report(skb, flow, VERDICT_AUDIT, result);
	return 0;
}

typedef __u64 __attribute__((may_alias)) verdict_word;

/*
 * Epoch and verdict in one write: another CPU may be judging the connection under the next epoch,
 * and its denial must not be lost to ours.
 */
static __always_inline void write_verdict(struct conntrack_value *entry,
					  const struct conntrack_value *verdict)
{
	/* Of a pointer to 4 bytes the compiler would make two writes. */
	void *both = &entry->epoch;
	verdict_word word;

	__builtin_memcpy(&word, &verdict->epoch, sizeof(word));
	*(volatile verdict_word *)both = word;
}

/* Follow what the packet says of its connection. */
static __always_inline void follow(struct conntrack_value *entry, struct flow *flow, __u32 now)
{
	__u32 flags = entry->flags;

	if (flow->kind == FLOW_RELATED)
		return;
	flow->begins = flow->translated && !(flags & CONNTRACK_TRANSLATED);
	if (flow->reply)
		flags |= CONNTRACK_REPLIED;
	if (flow->translated)
		flags |= CONNTRACK_TRANSLATED;
	if (flow->translated && !flow->reply) {
		flags |= flow->source_local ? CONNTRACK_SOURCE_JUDGED : 0;
		flags |= flow->destination_local ? CONNTRACK_TARGET_JUDGED : 0;
	}
	if (flow->tcp_flags & TCP_RST)
		flags |= CONNTRACK_RESET;
	if (flow->tcp_flags & TCP_FIN)
		flags |= flow->reply ? CONNTRACK_CLOSED_TARGET : CONNTRACK_CLOSED_SOURCE;
	/* A write that changes nothing would still take the cache line from the other CPU. */
	if (flags != entry->flags)
		entry->flags = flags;
	if (now != entry->seen_s)
		entry->seen_s = now;
}

/*
 * Count the packets of this second. When there are many, and both ends have been heard, the next
 * ones need not come here; see memo.h.
 */
static __always_inline void count_busy(struct conntrack_value *entry, struct flow *flow, __u32 now)
{
	__u16 packets = entry->seen_s == now ? entry->packets : 0;

	if (flow->kind != FLOW_STREAM)
		return;
	if (packets < HAWSE_BUSY_PACKETS) {
		entry->packets = packets + 1;
		return;
	}
	flow->busy = !flow->translated && !is_closed(entry->flags) &&
		     (flow->protocol == IPPROTO_UDP ||
		      (flow->protocol == IPPROTO_TCP && entry->flags & CONNTRACK_REPLIED));
}

/* A packet of a connection that is in the map. */
static __always_inline int track_known(struct __sk_buff *skb, const struct config_value *config,
				       struct flow *flow, struct conntrack_value *entry,
				       __u32 epoch, __u32 now)
{
	struct conntrack_value verdict = {};
	bool source_local, destination_local;
	__be16 port;
	int result;

	/* The ends of the connection as they are now, the one that opened it first. */
	verdict.source_identity = flow->reply ? flow->destination_identity : flow->source_identity;
	verdict.destination_identity =
		flow->reply ? flow->source_identity : flow->destination_identity;
	if (flow->tracked_source != flow->source) {
		/* A router reports: it is not an end. */
		if (flow->reply)
			verdict.destination_identity = entry->destination_identity;
		else
			verdict.source_identity = entry->source_identity;
	}
	if (entry->epoch == epoch && entry->source_identity == verdict.source_identity &&
	    entry->destination_identity == verdict.destination_identity) {
		if (entry->reason) {
			flow->direction = entry->direction;
			flow->rule = entry->direction == DIRECTION_EGRESS ? entry->egress_rule
									  : entry->ingress_rule;
			return entry->reason == DROP_POLICY_DENY ? DROP(DROP_POLICY_DENY)
								 : DROP(DROP_POLICY_DENIED);
		}
		count_busy(entry, flow, now);
		follow(entry, flow, now);
		return 0;
	}
	source_local = flow->reply ? flow->destination_local : flow->source_local;
	destination_local = flow->reply ? flow->source_local : flow->destination_local;
	/* An answer does not tell whose policy counts: its ends look as if nothing were translated. */
	if (entry->flags & CONNTRACK_TRANSLATED) {
		source_local = entry->flags & CONNTRACK_SOURCE_JUDGED;
		destination_local = entry->flags & CONNTRACK_TARGET_JUDGED;
	}
	port = judged_port(flow->tracked_protocol,
			   flow->reply ? flow->source_port : flow->destination_port);
	result = judge_ends(flow, &verdict, source_local, destination_local, flow->tracked_protocol,
			    port);
	if (result)
		result = denied(skb, config, flow, result);
	entry->source_identity = verdict.source_identity;
	entry->destination_identity = verdict.destination_identity;
	entry->egress_rule = verdict.egress_rule;
	entry->ingress_rule = verdict.ingress_rule;
	verdict.epoch = epoch;
	if (result) {
		verdict.reason = drop_reason(result);
		verdict.direction = flow->direction;
		entry->seen_s = now;
	} else {
		follow(entry, flow, now);
	}
	write_verdict(entry, &verdict);
	return result;
}

/* The first packet of a connection, or one that belongs to none. */
static __always_inline int track_new(struct __sk_buff *skb, const struct config_value *config,
				     struct flow *flow, struct conntrack_key *key,
				     bool source_is_high, __u32 epoch, __u32 now)
{
	/* An answer to nothing opens nothing: it would open the way for requests. */
	bool stateless = flow->kind == FLOW_STATELESS || flow->kind == FLOW_RELATED ||
			 (flow->protocol == IPPROTO_ICMP && !flow->opens) ||
			 (flow->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK);
	__be16 port = flow->protocol == IPPROTO_ICMP ? flow->icmp_type : flow->destination_port;
	struct conntrack_value verdict = {};
	int result;

	flow->reply = 0;
	/* Its first one was not let through, or its connection has ended. */
	if (flow->kind == FLOW_FRAGMENT)
		return DROP(DROP_FRAGMENT_NOT_FOUND);
	verdict.source_identity = flow->source_identity;
	verdict.destination_identity = flow->destination_identity;
	result = judge_ends(flow, &verdict, flow->source_local, flow->destination_local,
			    flow->protocol, port);
	if (result) {
		result = denied(skb, config, flow, result);
		if (result)
			return result;
	} else {
		tell_rules(flow, &verdict);
		report(skb, flow, VERDICT_FORWARDED, 0);
	}
	if (stateless)
		return 0;
	verdict.epoch = epoch;
	verdict.flags = source_is_high ? CONNTRACK_OPENED_BY_HIGH : 0;
	verdict.seen_s = now;
	follow(&verdict, flow, now);
	return hawse_conntrack.update(key, &verdict) ? DROP(DROP_CT_CREATE_FAILED) : 0;
}

/*
 * An answer whose connection was pushed out of the map, but lives in hawse_nat: the connection is
 * judged and noted as it was opened. Without that, who answers would count as who opened it.
 */
static __always_inline int track_answer(struct __sk_buff *skb, const struct config_value *config,
					struct flow *flow, struct conntrack_key *key,
					bool source_is_high, bool opener_local, __u32 epoch,
					__u32 now)
{
	struct conntrack_value verdict = {};
	int result;

	flow->reply = 1;
	verdict.source_identity = flow->destination_identity;
	verdict.destination_identity = flow->source_identity;
	result =
		judge_ends(flow, &verdict, opener_local, flow->source_local, flow->tracked_protocol,
			   judged_port(flow->tracked_protocol, flow->source_port));
	if (result) {
		result = denied(skb, config, flow, result);
		if (result)
			return result;
	}
	/* A later fragment, or an error: they say nothing of it. */
	if (flow->kind != FLOW_STREAM)
		return 0;
	verdict.epoch = epoch;
	verdict.flags = source_is_high ? 0 : CONNTRACK_OPENED_BY_HIGH;
	if (flow->translated) {
		verdict.flags |= opener_local ? CONNTRACK_SOURCE_JUDGED : 0;
		verdict.flags |= flow->source_local ? CONNTRACK_TARGET_JUDGED : 0;
	}
	follow(&verdict, flow, now);
	verdict.seen_s = now;
	return hawse_conntrack.update(key, &verdict) ? DROP(DROP_CT_CREATE_FAILED) : 0;
}

/*
 * May the packet pass? Addresses, identities and locality of both ends are in the flow. Returns 0
 * or DROP().
 */
static __always_inline int track(struct __sk_buff *skb, const struct config_value *config,
				 struct flow *flow)
{
	bool source_is_high = source_comes_second(flow);
	__u32 now = bpf_ktime_get_ns() / NANOSECONDS_PER_SECOND;
	__u32 epoch = policy_epoch(config);
	struct conntrack_value *entry = 0;
	struct conntrack_key key = {};
	struct nat_value *known;
	bool anew;

	if (flow->kind != FLOW_STATELESS) {
		track_key(&key, flow, source_is_high);
		entry = hawse_conntrack.lookup(&key);
	}
	if (entry) {
		flow->reply = !!(entry->flags & CONNTRACK_OPENED_BY_HIGH) != source_is_high;
		anew = flow->opens && (flow->reply || is_closed(entry->flags));
		/* Who comes through a translation is who opened the connection. */
		if (flow->translated && flow->reply)
			anew = true;
		if (!anew && !is_expired(entry, flow->tracked_protocol, now) &&
		    may_report_on(flow, entry)) {
			if (entry->flags & CONNTRACK_TRANSLATED)
				flow->translated = 1;
			return track_known(skb, config, flow, entry, epoch, now);
		}
	}
	if (flow->answers)
		return track_answer(skb, config, flow, &key, source_is_high,
				    flow->destination_local, epoch, now);
	known = flow->opens || flow->translated ? 0 : nat_find(flow);
	if (known && known->kind != NAT_MASQUERADE && nat_is_answer(known, flow)) {
		flow->translated = 1;
		return track_answer(skb, config, flow, &key, source_is_high,
				    known->kind == NAT_SERVICE && flow->destination_local, epoch,
				    now);
	}
	return track_new(skb, config, flow, &key, source_is_high, epoch, now);
}

/*
 * The sender is about to be told that its other end is gone: the connection is over. Returns whether
 * the packet was one of a connection that was let through.
 */
static __always_inline bool end_tracked(const struct flow *flow)
{
	struct conntrack_value *entry;
	struct conntrack_key key = {};

	if (flow->kind != FLOW_STREAM)
		return false;
	track_key(&key, flow, source_comes_second(flow));
	entry = hawse_conntrack.lookup(&key);
	if (!entry || entry->reason)
		return false;
	entry->flags |= CONNTRACK_RESET;
	return true;
}

/*
 * Does the sender ask for a connection again whose other end was nowhere when it asked first? That is
 * noted as a connection that has ended, so that the next request counts as a new one.
 */
static __always_inline bool asks_again(const struct flow *flow)
{
	bool source_is_high = source_comes_second(flow);
	__u32 now = bpf_ktime_get_ns() / NANOSECONDS_PER_SECOND;
	struct conntrack_value noted = {};
	struct conntrack_value *entry;
	struct conntrack_key key = {};

	if (!flow->opens)
		return false;
	track_key(&key, flow, source_is_high);
	entry = hawse_conntrack.lookup(&key);
	if (entry && !is_expired(entry, flow->tracked_protocol, now))
		return entry->reason == DROP_UNKNOWN_L3_TARGET;
	noted.reason = DROP_UNKNOWN_L3_TARGET;
	noted.direction = DIRECTION_EGRESS;
	noted.source_identity = flow->source_identity;
	noted.flags = CONNTRACK_RESET | (source_is_high ? CONNTRACK_OPENED_BY_HIGH : 0);
	noted.seen_s = now;
	/* Should it not fit, the next request is again a first one. */
	hawse_conntrack.update(&key, &noted);
	return false;
}
