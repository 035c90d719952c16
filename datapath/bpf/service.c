/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * service.c: to_service, for packets to an address of a network that no endpoint has: a virtual
 * one, where it was not translated at the socket.
 *
 * How a packet goes:
 * 1) a TCP connection whose backend was chosen keeps it; a segment that opens one always chooses
 *    anew, so that one that was begun towards a backend that died goes to another, and so do
 *    datagrams;
 * 2) the backend is found by a number that belongs to the connection, or with affinity to the
 *    client: a segment whose entry is lost finds the same one while the table has not changed;
 * 3) the connection, with the backend as its end, is looked up and judged;
 * 4) delivery. Pings of a virtual address are answered here; without a backend the sender is told.
 *
 * Maps: those of service.h, nat.h and track(), hawse_ipcache.
 */
#include <linux/pkt_cls.h>

#include "lib/conntrack.h"
#include "lib/deliver.h"
#include "lib/echo.h"
#include "lib/ipcache.h"
#include "lib/memo.h"
#include "lib/metrics.h"
#include "lib/nat.h"
#include "lib/service.h"
#include "lib/stages.h"

static __always_inline __u32 service_number(const struct service_value *service,
					    const struct flow *flow)
{
	struct flow client = {};

	if (!(service->flags & SERVICE_AFFINITY))
		return nat_hash(flow);
	client.tracked_source = flow->source;
	client.destination = flow->destination;
	return nat_hash(&client);
}

/* Does the packet belong to a connection whose backend was chosen? Datagrams choose each time. */
static __always_inline bool keeps_backend(const struct flow *flow, const struct nat_value *known)
{
	struct nat_value *partner;

	/* Who answers itself at a virtual address has that as its peer. */
	if (known->reply)
		return true;
	if (known->kind != NAT_SERVICE || flow->opens)
		return false;
	if (flow->kind != FLOW_STREAM)
		return true;
	if (flow->protocol != IPPROTO_TCP)
		return false;
	partner = nat_partner(known, flow->tracked_protocol);
	return !nat_is_idle(known, partner, flow->tracked_protocol, nat_now());
}

/* Choose who answers; known is the connection so far. Returns 0 or DROP(); to says it then. */
static __always_inline int choose_backend(const struct config_value *config,
					  const struct flow *flow,
					  const struct service_value *service,
					  struct nat_value *known, struct nat_value *to)
{
	struct backend_value *backend;
	__be16 port;

	if (!has_ports(flow->protocol) || flow->kind != FLOW_STREAM)
		return DROP(DROP_UNKNOWN_L3_TARGET);
	backend = service_backend(service, service_number(service, flow));
	if (!backend)
		return DROP(DROP_NO_SERVICE_BACKEND);
	port = backend->port ? backend->port : flow->destination_port;
	if (known && known->kind == NAT_SERVICE && known->destination == backend->address &&
	    known->destination_port == port)
		return nat_keep(flow, known, to);
	/* To itself it would send with its own address, which it would not accept. */
	to->source = backend->address == flow->source ? flow->destination : flow->source;
	to->destination = backend->address;
	to->destination_port = port;
	to->kind = NAT_SERVICE;
	return nat_open(config, flow, to);
}

/*
 * Nobody has the address, now. Who was on the way to somebody there is told, and so is who asks for
 * the second time to be let in; the first time it may be early.
 */
static __always_inline int to_nobody(struct __sk_buff *skb, const struct flow *flow)
{
	if (flow->protocol == IPPROTO_TCP && (end_tracked(flow) || asks_again(flow)))
		return stage_refuse(skb, flow, DROP(DROP_BACKEND_GONE));
	return DROP(DROP_UNKNOWN_L3_TARGET);
}

static __always_inline bool backend_is_gone(const struct flow *flow, const struct nat_value *known)
{
	struct ipcache_value *place = ipcache_ipv4(flow->vni, known->destination);

	return !place || place->flags & IPCACHE_GONE;
}

/* End the connection to a virtual address whose backend is gone. */
static __always_inline void end_translated(const struct flow *flow, const struct nat_value *known)
{
	struct flow backend = *flow;

	backend.tracked_source = known->source;
	backend.source_port = known->source_port;
	backend.destination = known->destination;
	backend.destination_port = known->destination_port;
	end_tracked(&backend);
}

static __always_inline int deliver_backend(struct __sk_buff *skb, const struct config_value *config,
					   const struct flow *flow)
{
	struct ipcache_value *place = ipcache_ipv4(flow->vni, flow->destination);
	bool is_host = !flow->source_local;
	int err;

	if (!place)
		return DROP(DROP_UNKNOWN_L3_TARGET);
	if (ipcache_is_local(place))
		return deliver_local(skb, place->ifindex, DIRECTION_EGRESS);
	if (is_host) {
		err = hide_router(skb);
		if (err)
			return err;
	}
	return deliver_remote(skb, config, place->tunnel_endpoint[3], flow->vni,
			      is_host ? HAWSE_IDENTITY_REMOTE : flow->source_identity);
}

static __always_inline int serve(struct __sk_buff *skb, struct flow *flow)
{
	struct config_value *config = flow_config();
	struct nat_value *known = nat_find(flow);
	__be32 asker = flow->source;
	struct service_value *service;
	struct ipcache_value *place;
	struct nat_value to = {};
	int err;

	if (!config)
		return DROP(DROP_NO_CONFIGURATION);
	if (known && keeps_backend(flow, known)) {
		if (!known->reply && backend_is_gone(flow, known)) {
			end_translated(flow, known);
			return stage_refuse(skb, flow, DROP(DROP_BACKEND_GONE));
		}
		err = nat_keep(flow, known, &to);
		if (err)
			return err;
	} else {
		service = service_find(flow->destination, flow->destination_port, flow->protocol);
		if (!service || service->vni != flow->vni)
			return to_nobody(skb, flow);
		if (flow->protocol == IPPROTO_ICMP)
			return answer_echo(skb);
		err = choose_backend(config, flow, service, known, &to);
		if (err && drop_reason(err) == DROP_NO_SERVICE_BACKEND)
			return stage_refuse(skb, flow, err);
		if (err)
			return err;
	}
	err = nat_apply(skb, flow, &to);
	if (err)
		return err;
	/* Nobody is kept from itself. */
	if (flow->destination == asker)
		return deliver_local(skb, skb->ifindex, DIRECTION_EGRESS);
	place = ipcache_ipv4(flow->vni, flow->destination);
	if (!place)
		return DROP(DROP_UNKNOWN_L3_TARGET);
	flow->destination_identity = place->identity;
	flow->destination_local = ipcache_is_local(place);
	flow->translated = 1;
	err = track(skb, config, flow);
	if (err)
		return err;
	if (flow->begins)
		memo_forget_answers(flow, place->ifindex);
	return deliver_backend(skb, config, flow);
}

int to_service(struct __sk_buff *skb)
{
	struct handover *handover = handed_over();
	struct flow flow;
	int verdict;

	if (!handover)
		return TC_ACT_SHOT;
	flow = handover->flow;
	verdict = serve(skb, &flow);
	return verdict < 0 ? hawse_drop(skb, &flow, verdict) : verdict;
}
