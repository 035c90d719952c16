/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sock.c: translates virtual addresses where they are asked for, at a control group above all
 * containers: no packet of the connection has to be changed.
 *
 * service_connect4, service_sendmsg4: the socket gets a backend in place of the virtual address. A
 * TCP connection gets any, datagrams of one socket all get the same one as long as the table has
 * it, and so does everything of one network namespace when the service has affinity.
 * service_recvmsg4, service_getpeername4: the program that asked is told what it asked for.
 *
 * A service without a backend is left as it is: the packet will be refused, and reported, on its
 * way (service.c). No call is ever refused here.
 *
 * Maps: those of service.h, hawse_service_sockets.
 */
#include <linux/in.h>

#include "lib/maps.h"
#include "lib/service.h"

#define PROCEED 1

static __always_inline __u32 spread(__u64 number)
{
	number ^= number >> 33;
	number *= 0xff51afd7ed558ccdULL;
	number ^= number >> 33;
	return number * 0xc4ceb9fe1a85ec53ULL >> 32;
}

static __always_inline __u32 socket_number(struct bpf_sock_addr *socket,
					   const struct service_value *service)
{
	if (service->flags & SERVICE_AFFINITY)
		return spread(bpf_get_netns_cookie(socket));
	if (socket->protocol == IPPROTO_UDP)
		return spread(bpf_get_socket_cookie(socket));
	return bpf_get_prandom_u32();
}

/* Remember what was asked for; a write that changes nothing is saved. */
static __always_inline bool remember(struct bpf_sock_addr *socket,
				     const struct backend_value *backend, __be16 port)
{
	struct service_socket_value asked = {.address = socket->user_ip4,
					     .port = socket->user_port};
	struct service_socket_key key = {.address = backend->address, .port = port};
	struct service_socket_value *known;

	key.cookie = bpf_get_socket_cookie(socket);
	known = hawse_service_sockets.lookup(&key);
	if (known && known->address == asked.address && known->port == asked.port)
		return true;
	return !hawse_service_sockets.update(&key, &asked);
}

static __always_inline int ask_backend(struct bpf_sock_addr *socket)
{
	struct service_value *service;
	struct backend_value *backend;
	__be16 port = socket->user_port;

	if (socket->protocol != IPPROTO_TCP && socket->protocol != IPPROTO_UDP)
		return PROCEED;
	service = service_find(socket->user_ip4, port, socket->protocol);
	if (!service)
		return PROCEED;
	backend = service_backend(service, socket_number(socket, service));
	if (!backend)
		return PROCEED;
	if (backend->port)
		port = backend->port;
	/* Without that the answers would come from a stranger. */
	if (!remember(socket, backend, port))
		return PROCEED;
	socket->user_ip4 = backend->address;
	socket->user_port = port;
	return PROCEED;
}

static __always_inline int tell_asked(struct bpf_sock_addr *socket)
{
	struct service_socket_key key = {.address = socket->user_ip4, .port = socket->user_port};
	struct service_socket_value *asked;

	key.cookie = bpf_get_socket_cookie(socket);
	asked = hawse_service_sockets.lookup(&key);
	if (asked) {
		socket->user_ip4 = asked->address;
		socket->user_port = asked->port;
	}
	return PROCEED;
}

int service_connect4(struct bpf_sock_addr *socket)
{
	return ask_backend(socket);
}

int service_sendmsg4(struct bpf_sock_addr *socket)
{
	return ask_backend(socket);
}

int service_recvmsg4(struct bpf_sock_addr *socket)
{
	return tell_asked(socket);
}

int service_getpeername4(struct bpf_sock_addr *socket)
{
	return tell_asked(socket);
}
