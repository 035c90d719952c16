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

#define HAWSE_ABI_VERSION	  5
#define HAWSE_ROUTER_MAC	  0x026861777365 /* of every host end and of the tunnel device */
#define HAWSE_IDENTITY_HOST	  1		 /* never accepted from the wire */
#define HAWSE_IDENTITY_WORLD	  2
#define HAWSE_IDENTITY_INIT	  5   /* labels are not known yet */
#define HAWSE_IDENTITY_REMOTE	  6   /* the hosts of other nodes */
#define HAWSE_IDENTITY_CLUSTER	  256 /* the first that was allocated for labels */
#define HAWSE_IDENTITIES_MAX	  65536
#define HAWSE_POLICY_MAX	  131072
#define HAWSE_PREFIXES_MAX	  16384
#define HAWSE_NETWORKS_MAX	  16384
#define HAWSE_CONNTRACK_MAX	  262144
#define HAWSE_FRAGMENTS_MAX	  8192
#define HAWSE_EVENTS_BYTES	  4194304 /* a power of two */
#define HAWSE_EVENTS_PER_S	  10000	  /* of each kind on each CPU, also the largest burst */
#define HAWSE_RULE_NONE		  0
#define HAWSE_RULE_UNKNOWN	  1  /* an identity is not known on this node yet */
#define HAWSE_POLICY_BITS_ALL	  56 /* of a policy key: up to the direction */
#define HAWSE_POLICY_BITS_PROTO	  64 /* up to the protocol */
#define HAWSE_POLICY_BITS_PORT	  80 /* up to the port */
#define HAWSE_TCP_TIMEOUT_S	  8000
#define HAWSE_SYN_TIMEOUT_S	  60
#define HAWSE_CLOSE_TIMEOUT_S	  10
#define HAWSE_OTHER_TIMEOUT_S	  60  /* until an answer came */
#define HAWSE_STREAM_TIMEOUT_S	  180 /* after it */
#define HAWSE_ENDPOINT_ID_LENGTH  64  /* longest endpoint id that Docker gives */
#define HAWSE_ENDPOINTS_MAX	  16384
#define HAWSE_IPCACHE_MAX	  262144
#define HAWSE_NODES_MAX		  16384
#define HAWSE_METRICS_MAX	  512 /* 256 reasons in 2 directions */
#define HAWSE_SERVICES_MAX	  65536
#define HAWSE_TABLES_MAX	  16384 /* services that have backends */
#define HAWSE_SERVICE_SOCKETS_MAX 65536
#define HAWSE_NAT_MAX		  262144 /* two entries for each connection */
#define HAWSE_PUBLISHED_MAX	  65536
#define HAWSE_PUBLISHED_WORDS	  1024 /* 65536 ports */
#define HAWSE_DEVICES_MAX	  64
#define HAWSE_ROUTED_MAX	  1024
#define HAWSE_NAT_TRIES		  64 /* ports that are tried for a connection */
#define HAWSE_MEMO_MAX		  131072
#define HAWSE_SWEEP_AT_ONCE	  64 /* entries that a test run takes: a page holds them */
#define HAWSE_BUSY_PACKETS	  16 /* of a connection in one second: then a memo is made */

enum direction {
	DIRECTION_INGRESS = 0, /* ingress */
	DIRECTION_EGRESS = 1,  /* egress */
};

/* Numbers and texts below 224 are Cilium's, so that its dashboards serve; the others are our own.
 */
enum drop_reason {
	REASON_FORWARDED = 0,		 /* Forwarded */
	DROP_INVALID_SOURCE_MAC = 130,	 /* Invalid source mac */
	DROP_INVALID_SOURCE_IP = 132,	 /* Invalid source ip */
	DROP_POLICY_DENIED = 133,	 /* Policy denied */
	DROP_INVALID_PACKET = 134,	 /* Invalid packet */
	DROP_CT_INVALID_HEADER = 135,	 /* CT: Truncated or invalid header */
	DROP_UNSUPPORTED_L3 = 139,	 /* Unsupported L3 protocol */
	DROP_NO_TUNNEL_KEY = 147,	 /* Error retrieving tunnel key */
	DROP_UNKNOWN_L3_TARGET = 150,	 /* Unknown L3 target address */
	DROP_CT_CREATE_FAILED = 155,	 /* CT: Map insertion failed */
	DROP_NO_SERVICE_BACKEND = 158,	 /* Service backend not found */
	DROP_NO_TUNNEL_ENDPOINT = 160,	 /* No tunnel/encapsulation endpoint */
	DROP_NO_CONFIGURATION = 165,	 /* No configuration */
	DROP_UNSUPPORTED_L2 = 166,	 /* Unsupported L2 protocol */
	DROP_NAT_NO_MAPPING = 167,	 /* No mapping for NAT masquerade */
	DROP_NAT_UNSUPPORTED = 168,	 /* Unsupported protocol for NAT masquerade */
	DROP_ENCAP_PROHIBITED = 170,	 /* Encapsulation traffic is prohibited */
	DROP_INVALID_IDENTITY = 171,	 /* Invalid identity */
	DROP_FRAGMENTATION_NEEDED = 136, /* Fragmentation needed */
	DROP_MISSED_TAIL_CALL = 140,	 /* Missed tail call */
	DROP_WRITE_FAILED = 141,	 /* Error writing to packet */
	DROP_FRAGMENT_NOT_FOUND = 175,	 /* First logical datagram fragment not found */
	DROP_POLICY_DENY = 181,		 /* Policy denied by denylist */
	DROP_VLAN_FILTERED = 182,	 /* VLAN filtered */
	DROP_UNKNOWN_ENDPOINT = 224,	 /* Interface without endpoint entry */
	DROP_INVALID_TARGET_MAC = 225,	 /* Target mac is not the router's */
	DROP_MULTICAST = 226,		 /* Multicast and broadcast are not supported */
	DROP_UNKNOWN_NODE = 227,	 /* Tunnel packet from unknown node */
	DROP_NOT_LOCAL = 228,		 /* Tunnel packet for another node */
	DROP_BACKEND_GONE = 229,	 /* Connection to an address that is gone */
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

enum ipcache_flags {
	IPCACHE_GONE = 1, /* its node is lost: connections to it are reset */
};

struct ipcache_value {
	__be32 tunnel_endpoint[4]; /* underlay address of its node; all zero = this host */
	__u32 ifindex;		   /* host end of the veth pair on this host; 0 = on another */
	__u32 flags;		   /* enum ipcache_flags */
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
	__u32 policy_epoch;	/* raised by every change of the policy maps */
	__u32 places_epoch;   /* raised by every change of who is where; read with the one before */
	__u32 flags;	      /* enum config_flags */
	__u32 host_ifindex;   /* our end of the pair to the host's own stack; 0 = none */
	__u16 nat_port_first; /* masqueraded connections get a port from here, this machine's order */
	__u16 nat_port_last; /* to here; 0 = nothing is masqueraded */
	__u16 tunnel_port;   /* of the VXLAN device */
	__u16 memo_ticks;    /* how long a memo holds: a second, in ticks of this kernel's clock */
};

enum config_flags {
	CONFIG_AUDIT = 1,     /* what policy denies is reported and passes */
	CONFIG_PUBLISHED = 2, /* hawse_published is not empty */
	CONFIG_ROUTED = 4,    /* the outside may have routes to containers */
};

/* hawse_identities: what is known of an identity; an array, its index is the identity. */
enum identity_flags {
	IDENTITY_KNOWN = 1,   /* rules that name it as a peer are written */
	IDENTITY_READY = 2,   /* rules of endpoints of this host that have it are written */
	IDENTITY_INGRESS = 4, /* closed by default for what comes in */
	IDENTITY_EGRESS = 8,  /* closed by default for what goes out */
};

struct identity_value {
	__u32 flags; /* enum identity_flags */
};

/* hawse_policy: longest match over the fields from remote on. */
struct policy_key {
	__u32 prefix_bits; /* HAWSE_POLICY_BITS_ALL, _PROTO, or up to the last bit of the port */
	__u32 remote;	   /* identity of the peer; 0 = anyone */
	__u16 local;	   /* identity of the endpoint that is judged */
	__u8 direction;	   /* enum direction */
	__u8 protocol;	   /* of IP */
	__be16 port;	   /* destination port; of ICMP the message type */
	__u16 unused;	   /* 0 */
};

struct policy_value {
	__u32 rule; /* where it comes from; see datapath/policy_table.py */
	__u32 deny; /* 0 = allow, 1 = deny */
};

/* hawse_prefixes: identities of address prefixes outside of the cluster; longest match. */
struct prefix_key {
	__u32 prefix_bits; /* leading bits of the address that count; of IPv4 96 more */
	__be32 address[4]; /* IPv4-mapped or IPv6 */
};

struct prefix_value {
	__u32 identity; /* local to this node */
};

/* hawse_networks: pools that have a way out, by prefix_key; longest match. */
enum network_flags {
	NETWORK_ROUTED = 1, /* leaves the host with its containers' addresses, not the host's */
};

struct network_value {
	__u32 vni;   /* network */
	__u32 flags; /* enum network_flags */
};

/* hawse_routed: ranges that are reached without masquerade, by prefix_key; longest match. */
struct routed_value {
	__u32 flags; /* 0; none defined yet */
};

/* hawse_devices: interfaces to the outside that carry our programs. */
struct device_key {
	__u32 ifindex; /* interface */
};

struct device_value {
	__be32 address; /* IPv4 address that masqueraded packets get */
	__u32 flags;	/* 0; none defined yet */
};

/*
 * hawse_services: virtual addresses. Port and protocol 0 stand for every port of the address, which
 * the backend gets as it is; every virtual address has such an entry, also when it serves some
 * ports only.
 */
struct service_key {
	__be32 address; /* virtual address */
	__be16 port;	/* 0 = all */
	__u8 protocol;	/* of IP; 0 = all */
	__u8 unused;	/* 0 */
};

enum service_flags {
	SERVICE_AFFINITY = 1, /* a client keeps its backend */
};

struct service_value {
	__u32 table; /* key of hawse_tables */
	__u32 slots; /* of that table; 0 = there is no backend */
	__u32 vni;   /* network that the address is in */
	__u32 flags; /* enum service_flags */
};

/* hawse_tables: by number, an array map of backends for each service (Maglev, NSDI 2016). */
struct table_key {
	__u32 table; /* number */
};

struct backend_value {
	__be32 address; /* of the backend */
	__be16 port;	/* 0 = the one that the client asked for */
	__u16 unused;	/* 0 */
};

/* hawse_service_sockets: what a socket that was connected to a backend asked for. */
struct service_socket_key {
	__u64 cookie;	/* of the socket */
	__be32 address; /* of the backend */
	__be16 port;	/* of the backend */
	__u16 unused;	/* 0 */
};

struct service_socket_value {
	__be32 address; /* virtual address */
	__be16 port;	/* port at it */
	__u16 unused;	/* 0 */
};

/* hawse_published: ports of this host that lead to a container. */
struct published_key {
	__be32 address; /* address of the host; 0 = every one */
	__be16 port;	/* port of the host */
	__u8 protocol;	/* of IP */
	__u8 unused;	/* 0 */
};

struct published_value {
	__be32 address; /* of the container */
	__be16 port;	/* of the container */
	__u16 unused;	/* 0 */
	__u32 vni;	/* network of the container */
};

/*
 * hawse_published_ports: which ports are in hawse_published, of whatever address and protocol; an
 * array, its index is the port / 64. A port that is published has its bit.
 */
struct published_ports_value {
	__u64 bits; /* 1 << port % 64 */
};

/*
 * hawse_nat: translated connections. Each has two entries: packets of the one direction as they
 * come, and those of the other.
 */
struct nat_key {
	__be32 source;		 /* as it comes */
	__be32 destination;	 /* as it comes */
	__be16 source_port;	 /* of ICMP echo the id */
	__be16 destination_port; /* of ICMP echo the id */
	__u32 protocol;		 /* of IP */
};

enum nat_kind {
	NAT_MASQUERADE = 0, /* to the outside with an address of the host */
	NAT_PUBLISHED = 1,  /* to a published port */
	NAT_SERVICE = 2,    /* to a virtual address */
};

enum nat_flags {
	NAT_USED = 1,	 /* a packet of this direction has come */
	NAT_CLOSING = 2, /* FIN of this direction has come */
	NAT_RESET = 4,	 /* RST of this direction has come */
};

struct nat_value {
	__be32 source;		 /* as it goes on */
	__be32 destination;	 /* as it goes on */
	__be16 source_port;	 /* of ICMP echo the id */
	__be16 destination_port; /* of ICMP echo the id */
	__u32 seen_s;		 /* last packet, CLOCK_MONOTONIC */
	__u8 kind;		 /* enum nat_kind */
	__u8 reply;		 /* 1 = against the direction that opened the connection */
	__u16 flags;		 /* enum nat_flags */
};

/*
 * hawse_conntrack: connections, one entry for both directions and both ends. low and high are the
 * two ends in the order of their addresses as numbers of this machine.
 */
struct conntrack_key {
	__be32 low;		/* one address */
	__be32 high;		/* the other */
	__be16 low_port;	/* port of low; of ICMP echo the id */
	__be16 high_port;	/* port of high; of ICMP echo the id */
	__u32 vni_and_protocol; /* VNI << 8 | protocol of IP */
};

enum conntrack_flags {
	CONNTRACK_OPENED_BY_HIGH = 1, /* the connection was opened by high */
	CONNTRACK_REPLIED = 2,	      /* the other end has answered */
	CONNTRACK_CLOSED_SOURCE = 4,  /* FIN from the end that opened it */
	CONNTRACK_CLOSED_TARGET = 8,  /* FIN from the other end */
	CONNTRACK_RESET = 16,	      /* RST from either */
	CONNTRACK_TRANSLATED = 32,    /* its packets are translated; see hawse_nat */
	CONNTRACK_SOURCE_JUDGED = 64, /* translated: policy of the end that opened it counts here */
	CONNTRACK_TARGET_JUDGED = 128, /* translated: policy of the other end counts here */
};

/* Epoch, reason and direction are 8 aligned bytes, written at once. */
struct conntrack_value {
	__u32 epoch;		    /* policy epoch that the verdict was made under */
	__u8 reason;		    /* enum drop_reason when a policy cut it off, otherwise 0 */
	__u8 direction;		    /* enum direction of the policy that cut it off */
	__u16 packets;		    /* in the second of the last one, up to HAWSE_BUSY_PACKETS */
	__u32 seen_s;		    /* last packet, CLOCK_MONOTONIC */
	__u32 source_identity;	    /* of the end that opened it */
	__u32 destination_identity; /* of the other */
	__u32 egress_rule;	    /* rule of the source's policy; 0 = none was needed */
	__u32 ingress_rule;	    /* rule of the destination's policy; 0 = none was needed */
	__u32 flags;		    /* enum conntrack_flags */
};

/*
 * hawse_memo: what was decided for packets of one direction of a connection, so that the next one
 * costs one lookup. It repeats a decision for a moment, and is never the only place of anything.
 */
enum memo_hook {
	MEMO_FROM_CONTAINER = 0, /* came in through a veth pair */
	MEMO_FROM_OVERLAY = 1,	 /* came in through the tunnel */
	MEMO_FROM_NODE = 2,	 /* of the tunnel, before it is taken out of it; see lane.h */
	MEMO_TO_NODE = 3,	 /* of the tunnel, when it has been put into it; see lane.h */
};

struct memo_key {
	__u32 scope;   /* host end of the veth pair; of the tunnel the network; of a lane its own */
	__be32 source; /* address */
	__be32 destination;	 /* address */
	__be32 ports;		 /* source and destination, as they stand in the packet */
	__u32 protocol_and_hook; /* protocol of IP, and enum memo_hook << 8 */
};

/* Both epochs are 8 aligned bytes, as in config_value. */
struct memo_value {
	__u64 mark;	    /* of the key: an entry may be used anew while it is read */
	__u32 policy_epoch; /* that it was made under */
	__u32 places_epoch; /* that it was made under */
	__u64 until;	    /* jiffies */
	__u32 ifindex;	    /* host end of the receiver's veth pair; 0 = through the tunnel */
	__be32 node;	    /* where the tunnel leads, or where it has to come from; 0 = nowhere */
	__u32 vni;	    /* network */
	__u16 identity;	    /* of the sender, as the tunnel tells it */
	__u8 mac[6];	    /* that the frame has to come from; through the tunnel any */
	__u32 underlay;	    /* interface that the tunnel's packets come or go by; 0 = not known */
	/* The rest is of packets that go by it. */
	__be32 next_hop;    /* address */
	__u32 longest;	    /* bytes of the longest outer packet that was seen to leave whole */
	__be16 source_port; /* of the outer header */
	__be16 fragment;    /* of the outer header: whether routers may make fragments */
	__u8 tos;	    /* of the outer header, without the bits for congestion */
	__u8 ttl;	    /* of the outer header */
	__u16 unused;	    /* 0 */
};

/* hawse_fragments: ports of datagrams whose first fragment has been seen. */
struct fragment_key {
	__be32 source;	    /* address */
	__be32 destination; /* address */
	__u32 vni;	    /* network */
	__be16 datagram;    /* identification field */
	__u8 protocol;	    /* of IP */
	__u8 unused;	    /* 0 */
};

struct fragment_value {
	__be16 source_port;	 /* of ICMP echo the id */
	__be16 destination_port; /* of ICMP echo the id */
};

/* hawse_event_limits: how many reports a CPU may still make; index is enum event_kind. */
enum event_kind {
	EVENT_DROP = 0,	   /* dropped, or let through by the audit mode only */
	EVENT_FORWARD = 1, /* first packet of a connection that was forwarded */
};

struct event_limit_value {
	__u64 refilled_ns; /* CLOCK_MONOTONIC */
	__u64 left;	   /* reports that may be made */
	__u64 lost;	   /* reports that were not made */
};

/* What hawse_events, a ring buffer, carries. */
enum event_verdict {
	VERDICT_FORWARDED = 0, /* forwarded */
	VERDICT_DROPPED = 1,   /* dropped */
	VERDICT_AUDIT = 2,     /* would have been dropped */
};

struct flow_event {
	__u64 monotonic_ns;	    /* CLOCK_MONOTONIC */
	__be32 source[4];	    /* address, all zero = not read */
	__be32 destination[4];	    /* address, all zero = not read */
	__u32 source_identity;	    /* 0 = not known */
	__u32 destination_identity; /* 0 = not known */
	__u32 rule;		    /* that decided */
	__u32 other_rule;	    /* of the other end, when both are on this host */
	__u32 vni;		    /* network */
	__u32 ifindex;		    /* interface that the packet came in through */
	__u32 length;		    /* bytes with link-layer header */
	__be16 source_port;	    /* 0 = none; of ICMP 0 */
	__be16 destination_port;    /* 0 = none; of ICMP the message type */
	__u16 line;		    /* of the source file that dropped it */
	__u8 file;		    /* which file; see datapath/source.py */
	__u8 reason;		    /* enum drop_reason */
	__u8 verdict;		    /* enum event_verdict */
	__u8 direction;		    /* enum direction */
	__u8 protocol;		    /* of IP */
	__u8 tcp_flags;		    /* as in the header */
	__u8 is_reply;		    /* 1 = goes against the direction that opened the connection */
	__u8 unused[7];		    /* 0 */
};

/* hawse_metrics: what became of packets; per CPU; index is reason * 2 + direction. */
struct metrics_value {
	__u64 packets; /* packets on the wire: the segments of a large one are counted */
	__u64 bytes;   /* bytes with link-layer header */
};
