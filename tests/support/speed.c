/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * speed.c: what a network path carries, measured with as little of our own work per packet as the
 * system calls allow.
 *
 * speed receive PORT
 *	Counts datagrams, 64 at a system call, until SIGTERM. Says "ready" when it listens, and in
 *	the end how many came and their bytes. What the socket's buffer had no place for was not
 *	received. It looks every NAP_US and does not wait to be woken, which would cost the sender
 *	more than all of the path.
 * speed send ADDRESS PORT BYTES MS
 *	Sends datagrams of BYTES for MS from one socket, 64 at a system call. Says how many,
 *	and the nanoseconds that it took.
 * speed serve PORT
 *	Answers each TCP connection's request of 64 bytes with as many, and closes it, until it is
 *	ended.
 * speed connect ADDRESS PORT MS
 *	Connects, asks, reads to the end, closes: one connection after the other for MS. Says how
 *	many were answered, how many failed, and the nanoseconds that it took.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "cubic.h"
#include "program.h"

#define AT_ONCE			    64
#define DATAGRAM_MAX		    2048
#define NAP_US			    500
#define REQUEST_BYTES		    64
#define RECEIVE_BUFFER_BYTES	    (8 * 1024 * 1024)

static volatile sig_atomic_t told_to_end;

static void end(int number)
{
	(void)number;
	told_to_end = 1;
}

static struct sockaddr_in address_of(const char *address, const char *port)
{
	struct sockaddr_in found = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};

	if (inet_pton(AF_INET, address, &found.sin_addr) != 1)
		fail(address);
	return found;
}

static void ready(void)
{
	printf("ready\n");
	fflush(stdout);
}

static void receive(const char *port)
{
	static char data[AT_ONCE][DATAGRAM_MAX];
	static struct iovec parts[AT_ONCE];
	static struct mmsghdr messages[AT_ONCE];
	struct sigaction action = {.sa_handler = end};
	struct timespec nap = {.tv_nsec = NAP_US * 1000};
	struct sockaddr_in here = address_of("0.0.0.0", port);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	int size = RECEIVE_BUFFER_BYTES;
	long long packets = 0, bytes = 0;

	need(fd, "socket");
	/* The first needs a capability, the second stops at the kernel's limit. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		need(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), "receive buffer");
	need(sigaction(SIGTERM, &action, NULL), "signal");
	need(bind(fd, (struct sockaddr *)&here, sizeof(here)), "bind");
	for (int i = 0; i < AT_ONCE; i++) {
		parts[i] = (struct iovec){.iov_base = data[i], .iov_len = DATAGRAM_MAX};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
	}
	ready();
	for (;;) {
		int told = told_to_end;
		int got = recvmmsg(fd, messages, AT_ONCE, MSG_DONTWAIT, NULL);

		if (got < 0 && errno == EAGAIN) {
			if (told)
				break;
			nanosleep(&nap, NULL);
			continue;
		}
		need(got, "receive");
		packets += got;
		for (int i = 0; i < got; i++)
			bytes += messages[i].msg_len;
	}
	printf("%lld %lld\n", packets, bytes);
}

static void transmit(const char *address, const char *port, int bytes, int ms)
{
	static char data[DATAGRAM_MAX];
	static struct iovec parts[AT_ONCE];
	static struct mmsghdr messages[AT_ONCE];
	struct sockaddr_in there = address_of(address, port);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	long long packets = 0, begun_ns, ends_ns;

	need(fd, "socket");
	need(connect(fd, (struct sockaddr *)&there, sizeof(there)), "connect");
	for (int i = 0; i < AT_ONCE; i++) {
		parts[i] = (struct iovec){.iov_base = data, .iov_len = bytes};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
	}
	begun_ns = clock_ns(CLOCK_MONOTONIC);
	ends_ns = begun_ns + ms * NANOSECONDS_PER_MILLISECOND;
	while (clock_ns(CLOCK_MONOTONIC) < ends_ns) {
		int sent = sendmmsg(fd, messages, AT_ONCE, 0);

		/* What the path has no place for is lost there, and the receiver's count says so. */
		if (sent < 0 && errno != ENOBUFS)
			fail("send");
		packets += sent > 0 ? sent : 0;
	}
	printf("%lld %lld\n", packets, clock_ns(CLOCK_MONOTONIC) - begun_ns);
}

static void serve(const char *port)
{
	struct sockaddr_in here = address_of("0.0.0.0", port);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	int on = 1;

	need(fd, "socket");
	use_cubic(fd);
	need(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), "reuse");
	need(bind(fd, (struct sockaddr *)&here, sizeof(here)), "bind");
	need(listen(fd, SOMAXCONN), "listen");
	ready();
	for (;;) {
		char request[REQUEST_BYTES];
		int peer = accept(fd, NULL, NULL);

		if (peer < 0)
			continue;
		if (recv(peer, request, sizeof(request), MSG_WAITALL) == sizeof(request))
			send(peer, request, sizeof(request), MSG_NOSIGNAL);
		close(peer);
	}
}

static bool ask_once(const struct sockaddr_in *there)
{
	/* A lost packet must not hold up the measurement for longer than this. */
	struct timeval patience = {.tv_sec = 1};
	char request[REQUEST_BYTES] = {}, answer[REQUEST_BYTES + 1];
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	size_t read = 0;
	ssize_t got = 0;

	need(fd, "socket");
	use_cubic(fd);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (!connect(fd, (const struct sockaddr *)there, sizeof(*there)) &&
	    send(fd, request, sizeof(request), MSG_NOSIGNAL) == sizeof(request))
		while ((got = recv(fd, answer + read, sizeof(answer) - read, 0)) > 0)
			read += got;
	close(fd);
	return read == REQUEST_BYTES && got == 0;
}

static void ask(const char *address, const char *port, int ms)
{
	struct sockaddr_in there = address_of(address, port);
	long long begun_ns = clock_ns(CLOCK_MONOTONIC);
	long long ends_ns = begun_ns + ms * NANOSECONDS_PER_MILLISECOND;
	long long answered = 0, failed = 0;

	while (clock_ns(CLOCK_MONOTONIC) < ends_ns)
		if (ask_once(&there))
			answered++;
		else
			failed++;
	printf("%lld %lld %lld\n", answered, failed, clock_ns(CLOCK_MONOTONIC) - begun_ns);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (argc == 3 && !strcmp(what, "receive"))
		receive(argv[2]);
	else if (argc == 6 && !strcmp(what, "send") && atoi(argv[4]) <= DATAGRAM_MAX)
		transmit(argv[2], argv[3], atoi(argv[4]), atoi(argv[5]));
	else if (argc == 3 && !strcmp(what, "serve"))
		serve(argv[2]);
	else if (argc == 5 && !strcmp(what, "connect"))
		ask(argv[2], argv[3], atoi(argv[4]));
	else
		return 2;
	return 0;
}
