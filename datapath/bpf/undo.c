/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * undo.c: to_asker, for answers of translated connections, when they have been judged.
 *
 * How a packet goes: it gets back the address that was asked for, and goes to who asked. That may be
 * a container of another network or host, which a published port of this host was asked by.
 *
 * Maps: those of nat.h, hawse_ipcache, hawse_networks, hawse_devices.
 */
#include <linux/pkt_cls.h>

#include "lib/deliver.h"
#include "lib/ipcache.h"
#include "lib/metrics.h"
#include "lib/nat.h"
#include "lib/outside.h"
#include "lib/stages.h"
#include "lib/way_out.h"

/* Where who asked is; 0 = outside, or this host. */
static __always_inline struct ipcache_value *find_asker(__be32 address, __u32 *vni)
{
	struct ipcache_value *asker = ipcache_ipv4(*vni, address);

	if (asker)
		return asker;
	/* Who asked at a published port may be in another network. */
	*vni = network_of(address);
	return *vni ? ipcache_ipv4(*vni, address) : 0;
}

static __always_inline int undo(struct __sk_buff *skb, const struct config_value *config,
				struct flow *flow)
{
	struct nat_value *known = nat_find(flow);
	struct bpf_fib_lookup fib = {};
	struct ipcache_value *asker;
	struct device_key key = {};
	__u32 vni = flow->vni;
	struct nat_value to;
	int way = 0;
	int err;

	if (!known)
		return DROP(DROP_NAT_NO_MAPPING);
	nat_touch(known, flow);
	to = *known;
	asker = find_asker(to.destination, &vni);
	if (!asker) {
		way = find_way(skb, flow, to.destination, &fib);
		/* It is the container that has to send less. */
		if (way < 0)
			return stage_refuse_length(skb, flow, way, to.source, fib.mtu_result);
	}
	err = nat_apply(skb, flow, &to);
	if (err)
		return err;
	if (asker && ipcache_is_local(asker))
		return deliver_local(skb, asker->ifindex, DIRECTION_EGRESS);
	if (asker)
		return deliver_remote(skb, config, asker->tunnel_endpoint[3], vni,
				      HAWSE_IDENTITY_REMOTE);
	key.ifindex = way;
	if (!way && to.kind == NAT_PUBLISHED)
		return deliver_loopback(skb, DIRECTION_EGRESS);
	if (!way || !hawse_devices.lookup(&key))
		return deliver_host(skb, config, DIRECTION_EGRESS);
	return deliver_device(skb, key.ifindex);
}

int to_asker(struct __sk_buff *skb)
{
	struct config_value *config = flow_config();
	struct handover *handover = handed_over();
	struct flow flow;
	int verdict;

	if (!handover || !config)
		return TC_ACT_SHOT;
	flow = handover->flow;
	verdict = undo(skb, config, &flow);
	return verdict < 0 ? hawse_drop(skb, &flow, verdict) : verdict;
}
