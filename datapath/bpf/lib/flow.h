/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * flow.h: what is known of a packet while it is judged; filled as it goes along, so that a drop at
 * any point can tell all that was known by then.
 *
 * Public: struct flow, flow_begin, flow_config.
 */
#pragma once

#include "maps.h"

enum flow_kind {
	FLOW_STREAM = 0,    /* belongs to a connection */
	FLOW_STATELESS = 1, /* a message without one */
	FLOW_FRAGMENT = 2,  /* a later fragment: no header of its own */
	FLOW_RELATED = 3,   /* an ICMP error; its ports are those of what it is about */
};

struct flow {
	__u64 epochs; /* read before anything was looked at; see memo.h */
	__be32 source;
	__be32 destination;
	__be32 tracked_source; /* the connection's end on the sender's side */
	__u32 vni;
	__u32 source_identity;
	__u32 destination_identity;
	__u32 rule;
	__u32 other_rule;
	__be16 source_port;
	__be16 destination_port;
	__be16 icmp_type;
	__u8 protocol;
	__u8 tracked_protocol;
	__u8 tcp_flags;
	__u8 kind;
	__u8 opens; /* can only be the first packet of a connection */
	__u8 reply;
	__u8 direction; /* whose policy decided; before that, the hook's */
	__u8 source_local;
	__u8 destination_local;
	__u8 transport;	 /* where the header above IPv4 begins */
	__u8 translated; /* its connection is in hawse_nat */
	__u8 answers;	 /* a translated connection lives that it is an answer of */
	__u8 busy;	 /* its connection has many packets, and is judged */
	__u8 begins;	 /* from now on its connection is a translated one */
};

static __always_inline void flow_begin(struct flow *flow, enum direction direction)
{
	__builtin_memset(flow, 0, sizeof(*flow));
	flow->direction = direction;
}

/* This host's configuration; NULL when there is none, which no running program sees. */
static __always_inline struct config_value *flow_config(void)
{
	__u32 index = 0;

	return hawse_config.lookup(&index);
}
