/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * published.h: is a packet for a port of this host that leads to a container?
 *
 * Public: published_find, is_published, is_published_port. Maps: hawse_published,
 * hawse_published_ports, hawse_nat.
 */
#pragma once

#include "nat.h"

/* Is the port published at some address, for some protocol? Costs no hash lookup. */
static __always_inline bool is_published_port(__be16 port)
{
	__u32 number = bpf_ntohs(port);
	__u32 index = number / 64;
	struct published_ports_value *ports = hawse_published_ports.lookup(&index);

	return ports && ports->bits >> number % 64 & 1;
}

/* NULL: the port is not published at this address of the host. */
static __always_inline struct published_value *published_find(const struct config_value *config,
							      const struct flow *flow)
{
	struct published_key key = {};
	struct published_value *target;

	if (!(config->flags & CONFIG_PUBLISHED) || flow->kind != FLOW_STREAM ||
	    !has_ports(flow->protocol) || !is_published_port(flow->destination_port))
		return 0;
	key.address = flow->destination;
	key.port = flow->destination_port;
	key.protocol = flow->protocol;
	target = hawse_published.lookup(&key);
	if (target)
		return target;
	key.address = 0;
	return hawse_published.lookup(&key);
}

static __always_inline bool is_published(const struct config_value *config, const struct flow *flow)
{
	struct nat_value *known;

	if (flow->kind == FLOW_STREAM)
		return published_find(config, flow);
	known = nat_find(flow);
	return known && known->kind == NAT_PUBLISHED && !known->reply;
}
