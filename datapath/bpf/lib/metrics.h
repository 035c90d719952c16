/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * metrics.h: counts what became of every packet.
 *
 * Public: count_forwarded, hawse_drop. Maps: hawse_metrics.
 *
 * A packet is counted once, by the hook that decided on it: from_container counts egress,
 * from_overlay ingress.
 */
#pragma once

#include "events.h"
#include "maps.h"

static __always_inline void count(const struct __sk_buff *skb, __u32 reason,
				  enum direction direction)
{
	__u32 index = reason * 2 + direction;
	struct metrics_value *value = hawse_metrics.lookup(&index);
	__u32 segments;

	if (!value)
		return;
	segments = skb->gso_segs;
	value->packets += segments ? segments : 1;
	value->bytes += skb->len;
}

static __always_inline void count_forwarded(const struct __sk_buff *skb, enum direction direction)
{
	count(skb, REASON_FORWARDED, direction);
}

/* The only place that drops: count, report, and return the verdict. */
static __always_inline int hawse_drop(const struct __sk_buff *skb, const struct flow *flow,
				      int result)
{
	count(skb, drop_reason(result), flow->direction);
	report(skb, flow, VERDICT_DROPPED, result);
	return TC_ACT_SHOT;
}
