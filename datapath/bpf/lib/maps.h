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
