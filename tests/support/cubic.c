/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cubic.c: preloaded into programs whose TCP connections are measured, gives each of their sockets CUBIC before
 * it can connect.
 */
#define _GNU_SOURCE
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cubic.h"

#define TYPE_BITS 0xf /* the others are flags */

int socket(int domain, int type, int protocol)
{
	int fd = syscall(SYS_socket, domain, type, protocol);

	if (fd >= 0 && (domain == AF_INET || domain == AF_INET6) && (type & TYPE_BITS) == SOCK_STREAM)
		use_cubic(fd);
	return fd;
}
