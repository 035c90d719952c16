/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * maps.h: the pinned maps. HAWSE_MAPS is the folder they are pinned in, given by source.py.
 *
 * A map that is already pinned there is used as it is, so that a new build of the programs finds
 * every endpoint.
 */
#pragma once

#include "abi.h"

/* The containers of this host. */
BPF_TABLE_PINNED("hash", struct endpoint_key, struct endpoint_value, hawse_endpoints,
		 HAWSE_ENDPOINTS_MAX, HAWSE_MAPS "/hawse_endpoints", BPF_F_NO_PREALLOC);

/*
 * Every address of every network, here and on other hosts. Not preallocated: that would take as
 * much memory empty as full.
 */
BPF_TABLE_PINNED("hash", struct ipcache_key, struct ipcache_value, hawse_ipcache, HAWSE_IPCACHE_MAX,
		 HAWSE_MAPS "/hawse_ipcache", BPF_F_NO_PREALLOC);

/* The hosts whose tunnel packets are accepted. */
BPF_TABLE_PINNED("hash", struct node_key, struct node_value, hawse_nodes, HAWSE_NODES_MAX,
		 HAWSE_MAPS "/hawse_nodes", BPF_F_NO_PREALLOC);

/* This host. */
BPF_TABLE_PINNED("array", __u32, struct config_value, hawse_config, 1, HAWSE_MAPS "/hawse_config",
		 0);

/* Packets and bytes by what became of them. */
BPF_TABLE_PINNED("percpu_array", __u32, struct metrics_value, hawse_metrics, HAWSE_METRICS_MAX,
		 HAWSE_MAPS "/hawse_metrics", 0);

/* What is known of identities. All zero is closed: rules have to be written first. */
BPF_TABLE_PINNED("array", __u32, struct identity_value, hawse_identities, HAWSE_IDENTITIES_MAX,
		 HAWSE_MAPS "/hawse_identities", 0);

/* What policies say; a trie. */
BPF_TABLE_PINNED("lpm_trie", struct policy_key, struct policy_value, hawse_policy, HAWSE_POLICY_MAX,
		 HAWSE_MAPS "/hawse_policy", BPF_F_NO_PREALLOC);

/* Identities of address prefixes outside of the cluster; a trie. */
BPF_TABLE_PINNED("lpm_trie", struct prefix_key, struct prefix_value, hawse_prefixes,
		 HAWSE_PREFIXES_MAX, HAWSE_MAPS "/hawse_prefixes", BPF_F_NO_PREALLOC);

/* Which network an address belongs to; a trie. */
BPF_TABLE_PINNED("lpm_trie", struct prefix_key, struct network_value, hawse_networks,
		 HAWSE_NETWORKS_MAX, HAWSE_MAPS "/hawse_networks", BPF_F_NO_PREALLOC);

/* Connections; the one that was used least recently makes room. */
BPF_TABLE_PINNED("lru_hash", struct conntrack_key, struct conntrack_value, hawse_conntrack,
		 HAWSE_CONNTRACK_MAX, HAWSE_MAPS "/hawse_conntrack", 0);

/* Decisions; the one that was used least recently makes room. */
BPF_TABLE_PINNED("lru_hash", struct memo_key, struct memo_value, hawse_memo, HAWSE_MEMO_MAX,
		 HAWSE_MAPS "/hawse_memo", 0);

/* Ranges that are reached without masquerade; a trie. */
BPF_TABLE_PINNED("lpm_trie", struct prefix_key, struct routed_value, hawse_routed, HAWSE_ROUTED_MAX,
		 HAWSE_MAPS "/hawse_routed", BPF_F_NO_PREALLOC);

/* Interfaces to the outside. */
BPF_TABLE_PINNED("hash", struct device_key, struct device_value, hawse_devices, HAWSE_DEVICES_MAX,
		 HAWSE_MAPS "/hawse_devices", 0);

/* Virtual addresses. */
BPF_TABLE_PINNED("hash", struct service_key, struct service_value, hawse_services,
		 HAWSE_SERVICES_MAX, HAWSE_MAPS "/hawse_services", BPF_F_NO_PREALLOC);

/* What the array of one service's backends looks like; each has as many entries as it needs. */
BPF_TABLE_PINNED("array", __u32, struct backend_value, hawse_table, 1, HAWSE_MAPS "/hawse_table",
		 BPF_F_INNER_MAP);

/* The arrays of backends. */
BPF_TABLE_PINNED("hash_of_maps$hawse_table", struct table_key, int, hawse_tables, HAWSE_TABLES_MAX,
		 HAWSE_MAPS "/hawse_tables", BPF_F_NO_PREALLOC);

/* What sockets that were connected to a backend asked for. */
BPF_TABLE_PINNED("lru_hash", struct service_socket_key, struct service_socket_value,
		 hawse_service_sockets, HAWSE_SERVICE_SOCKETS_MAX,
		 HAWSE_MAPS "/hawse_service_sockets", 0);

/* Ports of this host that lead to containers. */
BPF_TABLE_PINNED("hash", struct published_key, struct published_value, hawse_published,
		 HAWSE_PUBLISHED_MAX, HAWSE_MAPS "/hawse_published", BPF_F_NO_PREALLOC);

/* Which ports are among them. */
BPF_TABLE_PINNED("array", __u32, struct published_ports_value, hawse_published_ports,
		 HAWSE_PUBLISHED_WORDS, HAWSE_MAPS "/hawse_published_ports", 0);

/* Translated connections. */
BPF_TABLE_PINNED("lru_hash", struct nat_key, struct nat_value, hawse_nat, HAWSE_NAT_MAX,
		 HAWSE_MAPS "/hawse_nat", 0);

/* Ports of datagrams that come in fragments. */
BPF_TABLE_PINNED("lru_hash", struct fragment_key, struct fragment_value, hawse_fragments,
		 HAWSE_FRAGMENTS_MAX, HAWSE_MAPS "/hawse_fragments", 0);

/* How many reports each CPU may still make. */
BPF_TABLE_PINNED("percpu_array", __u32, struct event_limit_value, hawse_event_limits, 2,
		 HAWSE_MAPS "/hawse_event_limits", 0);

/* Reports; BPF_RINGBUF_OUTPUT of bcc, pinned. */
struct hawse_events_table_t {
	int (*ringbuf_output)(void *, u64, u64);
	void *(*ringbuf_reserve)(u64);
	void (*ringbuf_discard)(void *, u64);
	void (*ringbuf_submit)(void *, u64);
	u64 (*ringbuf_query)(u64);
	u32 max_entries;
};
__attribute__((section("maps/ringbuf:" HAWSE_MAPS
		       "/hawse_events"))) struct hawse_events_table_t hawse_events = {
	.max_entries = HAWSE_EVENTS_BYTES};
