/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cubic.h: CUBIC for a socket that is new, whatever the host is set to.
 *
 * Before the socket has connected: one that was BBR's for as long as a handshake goes on being paced by
 * a timer for each few segments after it has been given another algorithm (sk_pacing_status in
 * net/ipv4/tcp_output.c), which is what iperf3 -C comes to on a host that is set to BBR.
 */
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "program.h"

#define CUBIC "cubic"

static inline void use_cubic(int fd)
{
	need(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, CUBIC, sizeof(CUBIC) - 1), CUBIC);
}
