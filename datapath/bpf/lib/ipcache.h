/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ipcache.h: finds where an address of a network is.
 *
 * Public: ipcache_ipv4, ipcache_is_local. Maps: hawse_ipcache.
 */
#pragma once

#include "address.h"
#include "maps.h"

/* NULL: the network has no such address. */
static __always_inline struct ipcache_value *ipcache_ipv4(__u32 vni, __be32 ipv4)
{
	struct ipcache_key key = {};

	key.vni = vni;
	address_from_ipv4(key.address, ipv4);
	return hawse_ipcache.lookup(&key);
}

static __always_inline bool ipcache_is_local(const struct ipcache_value *place)
{
	return place->ifindex != 0;
}
