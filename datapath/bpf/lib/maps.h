/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * maps.h: the maps that outlive the programs.
 *
 * datapath/load.py pins them; one that is pinned already is used as it is, so that a new build of the
 * programs finds every endpoint.
 */
#pragma once

#include "abi.h"

/* The containers of this host. */
BPF_F_TABLE("hash", struct endpoint_key, struct endpoint_value, hawse_endpoints,
	    HAWSE_ENDPOINTS_MAX, BPF_F_NO_PREALLOC);

/*
 * Every address of every network, here and on other hosts. Not preallocated: that would take as
 * much memory empty as full.
 */
BPF_F_TABLE("hash", struct ipcache_key, struct ipcache_value, hawse_ipcache, HAWSE_IPCACHE_MAX,
	    BPF_F_NO_PREALLOC);

/* The hosts whose tunnel packets are accepted. */
BPF_F_TABLE("hash", struct node_key, struct node_value, hawse_nodes, HAWSE_NODES_MAX,
	    BPF_F_NO_PREALLOC);

/* This host. */
BPF_F_TABLE("array", __u32, struct config_value, hawse_config, 1, 0);

/* Packets and bytes by what became of them. */
BPF_F_TABLE("percpu_array", __u32, struct metrics_value, hawse_metrics, HAWSE_METRICS_MAX, 0);

/* What is known of identities. All zero is closed: rules have to be written first. */
BPF_F_TABLE("array", __u32, struct identity_value, hawse_identities, HAWSE_IDENTITIES_MAX, 0);

/* What policies say; a trie. */
BPF_F_TABLE("lpm_trie", struct policy_key, struct policy_value, hawse_policy, HAWSE_POLICY_MAX,
	    BPF_F_NO_PREALLOC);

/* Identities of address prefixes outside of the cluster; a trie. */
BPF_F_TABLE("lpm_trie", struct prefix_key, struct prefix_value, hawse_prefixes, HAWSE_PREFIXES_MAX,
	    BPF_F_NO_PREALLOC);

/* Which network an address belongs to; a trie. */
BPF_F_TABLE("lpm_trie", struct prefix_key, struct network_value, hawse_networks, HAWSE_NETWORKS_MAX,
	    BPF_F_NO_PREALLOC);

/* Connections; the one that was used least recently makes room. */
BPF_F_TABLE("lru_hash", struct conntrack_key, struct conntrack_value, hawse_conntrack,
	    HAWSE_CONNTRACK_MAX, 0);

/* Decisions; the one that was used least recently makes room. */
BPF_F_TABLE("lru_hash", struct memo_key, struct memo_value, hawse_memo, HAWSE_MEMO_MAX, 0);

/* Ranges that are reached without masquerade; a trie. */
BPF_F_TABLE("lpm_trie", struct prefix_key, struct routed_value, hawse_routed, HAWSE_ROUTED_MAX,
	    BPF_F_NO_PREALLOC);

/* Interfaces to the outside. */
BPF_F_TABLE("hash", struct device_key, struct device_value, hawse_devices, HAWSE_DEVICES_MAX, 0);

/* Virtual addresses. */
BPF_F_TABLE("hash", struct service_key, struct service_value, hawse_services, HAWSE_SERVICES_MAX,
	    BPF_F_NO_PREALLOC);

/* What the array of one service's backends looks like; each has as many entries as it needs. */
BPF_F_TABLE("array", __u32, struct backend_value, hawse_table, 1, BPF_F_INNER_MAP);

/* The arrays of backends. */
BPF_F_TABLE("hash_of_maps$hawse_table", struct table_key, int, hawse_tables, HAWSE_TABLES_MAX,
	    BPF_F_NO_PREALLOC);

/* What sockets that were connected to a backend asked for. */
BPF_F_TABLE("lru_hash", struct service_socket_key, struct service_socket_value,
	    hawse_service_sockets, HAWSE_SERVICE_SOCKETS_MAX, 0);

/* Ports of this host that lead to containers. */
BPF_F_TABLE("hash", struct published_key, struct published_value, hawse_published,
	    HAWSE_PUBLISHED_MAX, BPF_F_NO_PREALLOC);

/* Which ports are among them. */
BPF_F_TABLE("array", __u32, struct published_ports_value, hawse_published_ports,
	    HAWSE_PUBLISHED_WORDS, 0);

/* Translated connections. */
BPF_F_TABLE("lru_hash", struct nat_key, struct nat_value, hawse_nat, HAWSE_NAT_MAX, 0);

/* Ports of datagrams that come in fragments. */
BPF_F_TABLE("lru_hash", struct fragment_key, struct fragment_value, hawse_fragments,
	    HAWSE_FRAGMENTS_MAX, 0);

/* How many reports each CPU may still make. */
BPF_F_TABLE("percpu_array", __u32, struct event_limit_value, hawse_event_limits, 2, 0);

/* Reports; BPF_RINGBUF_OUTPUT of bcc, which counts pages, whose size differs. */
struct hawse_events_table_t {
	int (*ringbuf_output)(void *, u64, u64);
	void *(*ringbuf_reserve)(u64);
	void (*ringbuf_discard)(void *, u64);
	void (*ringbuf_submit)(void *, u64);
	u64 (*ringbuf_query)(u64);
	u32 max_entries;
};
__attribute__((section("maps/ringbuf"))) struct hawse_events_table_t hawse_events = {
	.max_entries = HAWSE_EVENTS_BYTES};
