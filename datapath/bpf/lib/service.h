/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * service.h: who answers for a virtual address.
 *
 * Public: service_find, service_backend. Maps: hawse_services, hawse_tables.
 *
 * The table of a service is Maglev's (NSDI 2016): the same number gets the same backend on every
 * host, and keeps it when another backend leaves.
 */
#pragma once

#include "maps.h"

/* What is asked for at a port; otherwise at the address. NULL: it is not a virtual address. */
static __always_inline struct service_value *service_find(__be32 address, __be16 port,
							  __u8 protocol)
{
	struct service_key key = {.address = address, .port = port, .protocol = protocol};
	struct service_value *service = hawse_services.lookup(&key);

	if (service)
		return service;
	key.port = 0;
	key.protocol = 0;
	return hawse_services.lookup(&key);
}

/* NULL: there is none. */
static __always_inline struct backend_value *service_backend(const struct service_value *service,
							     __u32 number)
{
	struct table_key key = {.table = service->table};
	__u32 slots = service->slots, slot;
	void *table;

	if (!slots)
		return 0;
	table = hawse_tables.lookup(&key);
	if (!table)
		return 0;
	slot = number % slots;
	return bpf_map_lookup_elem(table, &slot);
}
