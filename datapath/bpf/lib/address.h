/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * address.h: IP and link-layer addresses.
 *
 * Public: address_from_ipv4, address_is_ipv4, is_unicast, mac_equal, mac_router, mac_is_router, mac_is_group.
 */
#pragma once

#include "abi.h"

static __always_inline void address_from_ipv4(__be32 address[4], __be32 ipv4)
{
	address[0] = 0;
	address[1] = 0;
	address[2] = bpf_htonl(0xffff);
	address[3] = ipv4;
}

static __always_inline bool address_is_ipv4(const __be32 address[4], __be32 ipv4)
{
	return address[3] == ipv4 && address[2] == bpf_htonl(0xffff) && !address[1] && !address[0];
}

/* Could a single host elsewhere have it? Neither "this network", loopback, multicast nor broadcast. */
static __always_inline bool is_unicast(__be32 ipv4)
{
	__u8 first = bpf_ntohl(ipv4) >> 24;

	return first && first != 127 && first < 224;
}

static __always_inline bool mac_equal(const __u8 *one, const __u8 *other)
{
	const __u16 *a = (const void *)one, *b = (const void *)other;

	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]));
}

static __always_inline void mac_router(__u8 *mac)
{
	mac[0] = HAWSE_ROUTER_MAC >> 40 & 0xff;
	mac[1] = HAWSE_ROUTER_MAC >> 32 & 0xff;
	mac[2] = HAWSE_ROUTER_MAC >> 24 & 0xff;
	mac[3] = HAWSE_ROUTER_MAC >> 16 & 0xff;
	mac[4] = HAWSE_ROUTER_MAC >> 8 & 0xff;
	mac[5] = HAWSE_ROUTER_MAC & 0xff;
}

static __always_inline bool mac_is_router(const __u8 *mac)
{
	const __u16 *words = (const void *)mac;

	return words[0] == bpf_htons(HAWSE_ROUTER_MAC >> 32 & 0xffff) &&
	       words[1] == bpf_htons(HAWSE_ROUTER_MAC >> 16 & 0xffff) &&
	       words[2] == bpf_htons(HAWSE_ROUTER_MAC & 0xffff);
}

/* Is it a multicast or the broadcast address? */
static __always_inline bool mac_is_group(const __u8 *mac)
{
	return mac[0] & 1;
}
