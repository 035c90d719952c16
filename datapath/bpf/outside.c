/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * outside.c: to_outside, for packets of containers to the world.
 *
 * How a packet goes:
 * 1) one to the port of the tunnel is refused: with this host's address, other hosts would take what
 *    is in it for packets of this host's containers;
 * 2) the host's routes say through which interface; a packet that is too long for it is refused
 *    with the length that fits;
 * 3) it gets the host's address on that interface and a port of the range for translation, unless
 *    its network or its destination is routed;
 * 4) it leaves through the interface. What leads elsewhere is for the host's stack.
 *
 * Maps: hawse_devices, hawse_routed, and those of nat.h.
 */
#include <linux/pkt_cls.h>

#include "lib/deliver.h"
#include "lib/metrics.h"
#include "lib/nat.h"
#include "lib/outside.h"
#include "lib/stages.h"
#include "lib/way_out.h"

/* Give the packet an address of the host. */
static __always_inline int masquerade(struct __sk_buff *skb, const struct config_value *config,
				      struct flow *flow, __be32 address)
{
	struct nat_value *known = nat_find(flow);
	struct nat_value to = {};
	int err;

	if (!known || known->reply || known->kind != NAT_MASQUERADE || known->source != address ||
	    nat_keep(flow, known, &to)) {
		to.source = address;
		to.destination = flow->destination;
		to.destination_port = flow->destination_port;
		to.source_port = 0;
		to.kind = NAT_MASQUERADE;
		err = nat_open(config, flow, &to);
		if (err)
			return err;
	}
	return nat_apply(skb, flow, &to);
}

/*
 * Send a container's packet to the outside. gateway is who tells the container when the packet is
 * too long; routed, that its network keeps its own addresses.
 */
static __always_inline int leave(struct __sk_buff *skb, const struct config_value *config,
				 struct flow *flow, __be32 gateway, bool routed)
{
	struct bpf_fib_lookup fib = {};
	struct device_value *device;
	struct device_key key = {};
	__u32 ifindex;
	int err;

	if (flow->protocol == IPPROTO_UDP &&
	    flow->destination_port == bpf_htons(config->tunnel_port))
		return DROP(DROP_ENCAP_PROHIBITED);
	err = find_way(skb, flow, flow->destination, &fib);
	if (err < 0)
		return stage_refuse_length(skb, flow, err, gateway, fib.mtu_result);
	key.ifindex = err;
	device = err ? hawse_devices.lookup(&key) : 0;
	if (!device)
		return deliver_host(skb, config, DIRECTION_EGRESS);
	ifindex = key.ifindex;
	/* Who was asked from outside at its own address answers with it. */
	if (!routed && !flow->reply && config->nat_port_last && !is_routed(flow->destination)) {
		err = masquerade(skb, config, flow, device->address);
		if (err)
			return err;
	}
	return deliver_device(skb, ifindex);
}

int to_outside(struct __sk_buff *skb)
{
	struct handover *handover = handed_over();
	struct config_value *config = flow_config();
	struct flow flow;
	int verdict;

	if (!handover || !config)
		return TC_ACT_SHOT;
	flow = handover->flow;
	verdict = leave(skb, config, &flow, handover->address, handover->routed);
	return verdict < 0 ? hawse_drop(skb, &flow, verdict) : verdict;
}
