/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * policy.h: may this identity open a connection to that one?
 *
 * Public: policy_judge. Maps: hawse_identities, hawse_policy.
 *
 * Two lookups, under the peer and under anyone, each for the longest match of protocol and port; a
 * deny of either wins. The compiler writes no allow below a deny that covers it, so the longest
 * match of one peer is its verdict. What is not known is closed.
 */
#pragma once

#include "drop.h"
#include "maps.h"

/* Flags of an identity; those of address prefixes are made with the rules that name them. */
static __always_inline __u32 identity_flags(__u32 identity)
{
	struct identity_value *value;

	if (identity >= HAWSE_IDENTITIES_MAX)
		return IDENTITY_KNOWN;
	value = hawse_identities.lookup(&identity);
	return value ? value->flags : 0;
}

/*
 * Judge at one end. local is the end's identity, remote the other one's; port is the destination's
 * in both directions. Returns 0 or DROP(); rule is what decided.
 */
static __always_inline int policy_judge(__u32 local, __u32 remote, enum direction direction,
					__u8 protocol, __be16 port, __u32 *rule)
{
	__u32 closed = direction == DIRECTION_INGRESS ? IDENTITY_INGRESS : IDENTITY_EGRESS;
	struct policy_value *named, *anyone;
	__u32 flags = identity_flags(local);
	struct policy_key key = {};

	*rule = HAWSE_RULE_UNKNOWN;
	if (!(flags & IDENTITY_READY))
		return DROP(DROP_POLICY_DENIED);
	if (!(flags & closed)) {
		*rule = HAWSE_RULE_NONE;
		return 0;
	}
	if (!(identity_flags(remote) & IDENTITY_KNOWN))
		return DROP(DROP_POLICY_DENIED);

	key.prefix_bits = HAWSE_POLICY_BITS_PORT;
	key.remote = remote;
	key.local = local;
	key.direction = direction;
	key.protocol = protocol;
	key.port = port;
	named = hawse_policy.lookup(&key);
	if (named && named->deny) {
		*rule = named->rule;
		return DROP(DROP_POLICY_DENY);
	}
	key.remote = 0;
	anyone = hawse_policy.lookup(&key);
	if (anyone && anyone->deny) {
		*rule = anyone->rule;
		return DROP(DROP_POLICY_DENY);
	}
	if (!named)
		named = anyone;
	if (!named) {
		*rule = HAWSE_RULE_NONE;
		return DROP(DROP_POLICY_DENIED);
	}
	*rule = named->rule;
	return 0;
}
