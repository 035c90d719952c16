/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * metrics.h: counts what became of every packet.
 *
 * Public: count_forwarded, count_as, hawse_drop. Maps: hawse_metrics.
 *
 * A packet is counted once, by the hook that decided on it: from_container counts egress,
 * from_overlay ingress.
 */
#pragma once

#include "events.h"
#include "maps.h"

/* A packet that may have been changed by now. */
static __always_inline void count_as(__u32 bytes, __u32 segments, __u32 reason,
				     enum direction direction)
{
	__u32 index = reason * 2 + direction;
	struct metrics_value *value = hawse_metrics.lookup(&index);

	if (!value)
		return;
	value->packets += segments ? segments : 1;
	value->bytes += bytes;
}

static __always_inline void count(const struct __sk_buff *skb, __u32 reason,
				  enum direction direction)
{
	count_as(skb->len, skb->gso_segs, reason, direction);
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
