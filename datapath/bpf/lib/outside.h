/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * outside.h: who an address is that no container has: a host of the cluster, or the world.
 *
 * Public: network_of, network_is_routed, is_routed, outside_identity, node_is_known. Maps: hawse_networks, hawse_nodes,
 * hawse_prefixes, hawse_config.
 */
#pragma once

#include "address.h"
#include "maps.h"

#define PREFIX_BITS_HOST 128

/* VNI of the network that an address is in; 0 = in none. */
static __always_inline __u32 network_of(__be32 ipv4)
{
	struct network_value *network;
	struct prefix_key key = {.prefix_bits = PREFIX_BITS_HOST};

	address_from_ipv4(key.address, ipv4);
	network = hawse_networks.lookup(&key);
	return network ? network->vni : 0;
}

/* Do packets of the network that the address is in leave the host with their own addresses? */
static __always_inline bool network_is_routed(__be32 ipv4)
{
	struct network_value *network;
	struct prefix_key key = {.prefix_bits = PREFIX_BITS_HOST};

	address_from_ipv4(key.address, ipv4);
	network = hawse_networks.lookup(&key);
	return network && network->flags & NETWORK_ROUTED;
}

/* Is the address reached without masquerade? */
static __always_inline bool is_routed(__be32 destination)
{
	struct prefix_key key = {.prefix_bits = PREFIX_BITS_HOST};

	address_from_ipv4(key.address, destination);
	return hawse_routed.lookup(&key);
}

static __always_inline bool node_is_known(__be32 ipv4)
{
	struct node_key key = {};

	address_from_ipv4(key.address, ipv4);
	return hawse_nodes.lookup(&key);
}

/* Identity of an address outside of all networks. */
static __always_inline __u32 outside_identity(const struct config_value *config, __be32 ipv4)
{
	struct prefix_key key = {.prefix_bits = PREFIX_BITS_HOST};
	struct prefix_value *prefix;

	if (address_is_ipv4(config->node_address, ipv4))
		return HAWSE_IDENTITY_HOST;
	if (node_is_known(ipv4))
		return HAWSE_IDENTITY_REMOTE;
	address_from_ipv4(key.address, ipv4);
	prefix = hawse_prefixes.lookup(&key);
	return prefix ? prefix->identity : HAWSE_IDENTITY_WORLD;
}
