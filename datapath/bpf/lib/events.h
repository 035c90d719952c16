/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * events.h: reports packets to the agent.
 *
 * Public: report. Maps: hawse_events, hawse_event_limits.
 *
 * Drops and new connections have each a limit of their own on every CPU, so that neither can hide
 * the other, and a flood costs a counter and no copy.
 */
#pragma once

#include <linux/in.h>

#include "drop.h"
#include "flow.h"

#define NANOSECONDS_PER_SECOND 1000000000ULL

/* Take one report from what is left; the counter of lost ones otherwise. */
static __always_inline bool may_report(__u32 kind, __u64 now)
{
	struct event_limit_value *limit = hawse_event_limits.lookup(&kind);
	__u64 since;

	if (!limit)
		return false;
	since = now - limit->refilled_ns;
	if (since >= NANOSECONDS_PER_SECOND) {
		limit->left = HAWSE_EVENTS_PER_S;
		limit->refilled_ns = now;
	}
	if (!limit->left) {
		limit->lost++;
		return false;
	}
	limit->left--;
	return true;
}

static __always_inline void report(const struct __sk_buff *skb, const struct flow *flow,
				   enum event_verdict verdict, int result)
{
	__u32 kind = verdict == VERDICT_FORWARDED ? EVENT_FORWARD : EVENT_DROP;
	__u64 now = bpf_ktime_get_ns();
	struct event_limit_value *limit;
	struct flow_event *event;

	if (!may_report(kind, now))
		return;
	event = hawse_events.ringbuf_reserve(sizeof(*event));
	if (!event) {
		limit = hawse_event_limits.lookup(&kind);
		if (limit)
			limit->lost++;
		return;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->monotonic_ns = now;
	if (flow->source)
		address_from_ipv4(event->source, flow->source);
	if (flow->destination)
		address_from_ipv4(event->destination, flow->destination);
	event->source_identity = flow->source_identity;
	event->destination_identity = flow->destination_identity;
	event->rule = flow->rule;
	event->other_rule = flow->other_rule;
	event->vni = flow->vni;
	event->ifindex = skb->ifindex;
	event->length = skb->len;
	event->protocol = flow->protocol;
	if (flow->protocol == IPPROTO_ICMP) {
		event->destination_port = flow->icmp_type;
	} else {
		event->source_port = flow->source_port;
		event->destination_port = flow->destination_port;
	}
	event->tcp_flags = flow->tcp_flags;
	event->is_reply = flow->reply;
	event->direction = flow->direction;
	event->verdict = verdict;
	if (result < 0) {
		event->reason = drop_reason(result);
		event->line = drop_line(result);
		event->file = drop_file(result);
	}
	hawse_events.ringbuf_submit(event, 0);
}
