/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * stages.h: the ways that not every packet goes are programs of their own, called by number; what
 * is known of the packet by then is handed over.
 *
 * Public: stage_refuse, stage_refuse_length, stage_service, stage_undo, stage_published,
 * stage_outside, stage_unpacked, stage_from_start, handed_over.
 *
 * So no program is longer, and none harder to verify, than what it does. The array of programs
 * belongs to one build; datapath/load.py fills it.
 */
#pragma once

#include "drop.h"
#include "flow.h"
#include "metrics.h"

enum stage {
	STAGE_REFUSE = 0,    /* refuse.c */
	STAGE_SERVICE = 1,   /* service.c */
	STAGE_UNDO = 2,	     /* undo.c */
	STAGE_PUBLISHED = 3, /* published.c */
	STAGE_OUTSIDE = 4,   /* outside.c */
	STAGE_CONTAINER = 5, /* endpoint.c: judge_container */
	STAGE_OVERLAY = 6,   /* overlay.c: judge_overlay */
	STAGE_UNPACKED = 7,  /* overlay.c: judge_unpacked */
	STAGES = 8,
};

struct handover {
	struct flow flow;
	int result;	 /* why the packet is refused */
	__be32 address;	 /* of who tells the sender; to a published port, the source from now on */
	__u32 mtu_bytes; /* what would fit; 0 = that is not why */
	__u32 routed;	 /* 1 = the network keeps its own addresses outside */
};

BPF_PROG_ARRAY(hawse_stages, STAGES);

/* One for each CPU: a packet is done before the next one comes. */
BPF_PERCPU_ARRAY(hawse_handover, struct handover, 1);

static __always_inline struct handover *handed_over(void)
{
	int index = 0;

	return hawse_handover.lookup(&index);
}

static __always_inline int hand_over(struct __sk_buff *skb, const struct flow *flow,
				     enum stage stage, int result, __be32 address, __u32 value)
{
	struct handover *handover = handed_over();

	if (!handover)
		return DROP(DROP_MISSED_TAIL_CALL);
	handover->flow = *flow;
	handover->result = result;
	handover->address = address;
	handover->mtu_bytes = stage == STAGE_REFUSE ? value : 0;
	handover->routed = stage == STAGE_OUTSIDE ? value : 0;
	hawse_stages.call(skb, stage);
	return DROP(DROP_MISSED_TAIL_CALL);
}

/* To the whole way of packets that came in like this one; nothing is known of it yet. */
static __always_inline int stage_from_start(struct __sk_buff *skb, enum stage stage,
					    enum direction direction)
{
	struct flow flow;

	hawse_stages.call(skb, stage);
	flow_begin(&flow, direction);
	return hawse_drop(skb, &flow, DROP(DROP_MISSED_TAIL_CALL));
}

/* Drop the packet and tell its sender at once. */
static __always_inline int stage_refuse(struct __sk_buff *skb, const struct flow *flow, int result)
{
	return hand_over(skb, flow, STAGE_REFUSE, result, flow->destination, 0);
}

/* The same for one that is too long; sender is who says so. */
static __always_inline int stage_refuse_length(struct __sk_buff *skb, const struct flow *flow,
					       int result, __be32 sender, __u16 mtu_bytes)
{
	return hand_over(skb, flow, STAGE_REFUSE, result, sender, mtu_bytes);
}

/* To an address of the flow's network that no endpoint has. */
static __always_inline int stage_service(struct __sk_buff *skb, const struct flow *flow)
{
	return hand_over(skb, flow, STAGE_SERVICE, 0, 0, 0);
}

/* An answer, judged already, of a connection that is translated. */
static __always_inline int stage_undo(struct __sk_buff *skb, const struct flow *flow)
{
	return hand_over(skb, flow, STAGE_UNDO, 0, 0, 0);
}

/* To a published port of this host, from then on with this source. */
static __always_inline int stage_published(struct __sk_buff *skb, const struct flow *flow,
					   __be32 source)
{
	return hand_over(skb, flow, STAGE_PUBLISHED, 0, source, 0);
}

/* From a container to the world, judged already; gateway is that of its network. */
static __always_inline int stage_outside(struct __sk_buff *skb, const struct flow *flow,
					 __be32 gateway, bool routed)
{
	return hand_over(skb, flow, STAGE_OUTSIDE, 0, gateway, routed);
}

/* Out of the tunnel already; network and sender's identity are in the flow, node is who sent it. */
static __always_inline int stage_unpacked(struct __sk_buff *skb, const struct flow *flow,
					  __be32 node)
{
	return hand_over(skb, flow, STAGE_UNPACKED, 0, node, 0);
}
