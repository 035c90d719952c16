/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * abi.h: everything that the BPF programs and the agent both see, declared once.
 *
 * scripts/generate_abi.py turns this file into datapath/abi.py. It reads a small subset of C: __u8
 * ... __u64, __be16, __be32, fixed arrays of them, flat structs without implicit padding, enums and
 * integer #defines; one comment per field and enumerator, which becomes its text in Python.
 *
 * Addresses are 16 bytes in wire order; an IPv4 address is written as IPv4-mapped IPv6
 * (::ffff:a.b.c.d).
 *
 * A change of a struct or of a number that is stored in a map needs a new HAWSE_ABI_VERSION: maps
 * are pinned below a folder of that name and outlive the agent. Drop reason numbers are never used
 * again.
 */
#pragma once

#define HAWSE_ABI_VERSION	 1
#define HAWSE_ROUTER_MAC	 0x026861777365 /* of every host end and of the tunnel device */
#define HAWSE_IDENTITY_HOST	 1		/* never accepted from the wire */
#define HAWSE_ENDPOINT_ID_LENGTH 64		/* longest endpoint id that Docker gives */
#define HAWSE_ENDPOINTS_MAX	 16384
#define HAWSE_IPCACHE_MAX	 262144
#define HAWSE_NODES_MAX		 16384
#define HAWSE_METRICS_MAX	 512 /* 256 reasons in 2 directions */

enum direction {
	DIRECTION_INGRESS = 0, /* ingress */
	DIRECTION_EGRESS = 1,  /* egress */
};

/* Numbers and texts below 224 are Cilium's, so that its dashboards serve; the others are our own.
 */
enum drop_reason {
	REASON_FORWARDED = 0,	       /* Forwarded */
	DROP_INVALID_SOURCE_MAC = 130, /* Invalid source mac */
	DROP_INVALID_SOURCE_IP = 132,  /* Invalid source ip */
	DROP_INVALID_PACKET = 134,     /* Invalid packet */
	DROP_UNSUPPORTED_L3 = 139,     /* Unsupported L3 protocol */
	DROP_NO_TUNNEL_KEY = 147,      /* Error retrieving tunnel key */
	DROP_UNKNOWN_L3_TARGET = 150,  /* Unknown L3 target address */
	DROP_NO_TUNNEL_ENDPOINT = 160, /* No tunnel/encapsulation endpoint */
	DROP_NO_CONFIGURATION = 165,   /* No configuration */
	DROP_UNSUPPORTED_L2 = 166,     /* Unsupported L2 protocol */
	DROP_INVALID_IDENTITY = 171,   /* Invalid identity */
	DROP_VLAN_FILTERED = 182,      /* VLAN filtered */
	DROP_UNKNOWN_ENDPOINT = 224,   /* Interface without endpoint entry */
	DROP_INVALID_TARGET_MAC = 225, /* Target mac is not the router's */
	DROP_MULTICAST = 226,	       /* Multicast and broadcast are not supported */
	DROP_UNKNOWN_NODE = 227,       /* Tunnel packet from unknown node */
	DROP_NOT_LOCAL = 228,	       /* Tunnel packet for another node */
};

/* hawse_endpoints: the containers of this host, by the host end of their veth pair. */
struct endpoint_key {
	__u32 ifindex; /* host end of the veth pair */
};

struct endpoint_value {
	__be32 ipv4[4];	      /* address, IPv4-mapped; all zero = none */
	__be32 ipv6[4];	      /* address; all zero = none */
	__be32 gateway[4];    /* gateway of the network, IPv4-mapped; all zero = none */
	__u8 mac[6];	      /* address of the container's end */
	__u16 identity;	      /* security identity */
	__u32 vni;	      /* network */
	__u32 flags;	      /* 0; none defined yet */
	__u8 endpoint_id[64]; /* Docker's id, padded with zeros; for the agent only */
};

/* hawse_ipcache: where an address of a network is. */
struct ipcache_key {
	__u32 vni;	   /* network */
	__be32 address[4]; /* address inside the network */
};

struct ipcache_value {
	__be32 tunnel_endpoint[4]; /* underlay address of its node; all zero = this host */
	__u32 ifindex;		   /* host end of the veth pair on this host; 0 = on another */
	__u32 flags;		   /* 0; none defined yet */
	__u16 identity;		   /* security identity */
	__u8 mac[6]; /* address of the container's end on this host; all zero = on another */
};

/* hawse_nodes: whose tunnel packets are accepted. */
struct node_key {
	__be32 address[4]; /* underlay address */
};

struct node_value {
	__u32 flags; /* 0; none defined yet */
};

/* Key of the array maps. The kernel wants a plain __u32 there, so the programs use that. */
struct array_key {
	__u32 index; /* position */
};

/* hawse_config: what the programs must know of this host; one entry, index 0. */
struct config_value {
	__be32 node_address[4]; /* source of tunnel packets; all zero = not configured */
	__u32 tunnel_ifindex;	/* the VXLAN device */
	__u32 abi_version;	/* HAWSE_ABI_VERSION */
};

/* hawse_metrics: what became of packets; per CPU; index is reason * 2 + direction. */
struct metrics_value {
	__u64 packets; /* packets on the wire: the segments of a large one are counted */
	__u64 bytes;   /* bytes with link-layer header */
};
