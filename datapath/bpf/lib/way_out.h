/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * way_out.h: finds the way to the outside, past the host's stack and its firewall.
 *
 * Public: find_way. Maps: none.
 *
 * The host's routes decide (bpf_fib_lookup); where they lead to an interface that carries our
 * programs, the packet leaves through it. Everything else is for the host's stack to decide.
 */
#pragma once

#include <linux/if_ether.h>

#include "drop.h"
#include "flow.h"

#define TCP_HEADER_BYTES 20

/* Bytes of the packet on the wire, from the IPv4 header on; of one that is still to be segmented,
 * of a segment without TCP options. */
static __always_inline __u32 wire_length(const struct __sk_buff *skb, const struct flow *flow)
{
	if (skb->gso_size)
		return flow->transport - ETH_HLEN + TCP_HEADER_BYTES + skb->gso_size;
	return skb->len - ETH_HLEN;
}

/* Where the host's routes lead; the interface, 0 for the host's stack, or DROP(). */
static __always_inline int find_way(struct __sk_buff *skb, const struct flow *flow,
				    __be32 destination, struct bpf_fib_lookup *fib)
{
	long result;

	fib->family = 2; /* AF_INET */
	fib->ifindex = skb->ifindex;
	fib->ipv4_src = flow->source;
	fib->ipv4_dst = destination;
	fib->l4_protocol = flow->protocol;
	fib->tot_len = wire_length(skb, flow);
	result = bpf_fib_lookup(skb, fib, sizeof(*fib), 0);
	if (result == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return DROP(DROP_FRAGMENTATION_NEEDED);
	/* Without a neighbour entry yet the interface is known all the same. */
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return 0;
	return fib->ifindex;
}
