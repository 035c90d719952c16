/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.c: what runs in the containers and hosts of the policy tests.
 *
 *     probe FOLDER PORT...
 *
 * It echoes on every PORT, TCP and UDP, and does what it is told at the Unix socket FOLDER/HOSTNAME:
 * one line for each connection, answered by one line.
 *
 *     tcp SOURCE ADDRESS PORT WAIT_MS    connect, send, wait for the echo
 *     udp SOURCE ADDRESS PORT WAIT_MS    send, and again now and then, until there is an echo
 *     icmp SOURCE ADDRESS 0 WAIT_MS      the same with echo requests
 *     end                                end it all; there is no answer
 *
 * SOURCE is an own address, 0.0.0.0 for any. The answer is the own port (of ICMP the identifier), how it
 * ended: open, refused (somebody said no) or silent; and the name of the error, or 0.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "program.h"

#define MAX_SOCKETS 128
#define AGAIN_MS    250

static const char hello[] = "hello";

static void end(int signal_number)
{
	(void)signal_number;
	_exit(0);
}

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static struct sockaddr_in at(const char *address, int port)
{
	struct sockaddr_in made = {.sin_family = AF_INET, .sin_port = htons(port)};

	if (inet_pton(AF_INET, address, &made.sin_addr) != 1)
		fail(address);
	return made;
}

/* Wait for something to read or write; false when the time is over. */
static int ready(int fd, short events, long deadline_ms)
{
	struct pollfd one = {.fd = fd, .events = events};
	long left = deadline_ms - now_ms();

	return left > 0 && poll(&one, 1, left) > 0;
}

static const char *said_no(void)
{
	return errno == EAGAIN || errno == EINPROGRESS ? "silent" : "refused";
}

static const char *try_tcp(int fd, const struct sockaddr_in *target, long deadline_ms)
{
	char answer[sizeof(hello)];
	socklen_t size = sizeof(errno);

	errno = 0;
	if (connect(fd, (const struct sockaddr *)target, sizeof(*target)) && errno != EINPROGRESS)
		return "refused";
	if (!ready(fd, POLLOUT, deadline_ms))
		return "silent";
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &errno, &size);
	if (errno || send(fd, hello, sizeof(hello), MSG_NOSIGNAL) < 0)
		return "refused";
	if (!ready(fd, POLLIN, deadline_ms))
		return "silent";
	return recv(fd, answer, sizeof(answer), 0) > 0 ? "open" : "refused";
}

/* A datagram may be lost: it is sent again. */
static const char *try_datagrams(int fd, const struct sockaddr_in *target, const void *message,
				 size_t size, long deadline_ms)
{
	char answer[1500];

	errno = 0;
	if (connect(fd, (const struct sockaddr *)target, sizeof(*target)))
		return "refused";
	while (now_ms() < deadline_ms) {
		long again_ms = now_ms() + AGAIN_MS;

		if (send(fd, message, size, 0) < 0)
			return said_no();
		while (ready(fd, POLLIN, again_ms < deadline_ms ? again_ms : deadline_ms)) {
			const struct icmphdr *echo = (const void *)(answer + sizeof(struct iphdr));
			ssize_t got = recv(fd, answer, sizeof(answer), 0);

			if (got < 0)
				return said_no();
			/* A raw socket gets all ICMP of this peer, with its IP header. */
			if (size == sizeof(hello) ||
			    (echo->type == ICMP_ECHOREPLY &&
			     echo->un.echo.id == ((const struct icmphdr *)message)->un.echo.id))
				return "open";
		}
	}
	return "silent";
}

static struct icmphdr echo_request(int id)
{
	struct icmphdr made = {.type = ICMP_ECHO, .un.echo.id = htons(id)};
	unsigned int sum = 0;
	unsigned short words[sizeof(made) / 2];

	memcpy(words, &made, sizeof(made));
	for (size_t i = 0; i < sizeof(made) / 2; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	made.checksum = ~(sum + (sum >> 16));
	return made;
}

static void obey(int control)
{
	char line[256] = "", kind[8], source[32], address[32], answer[64];
	const char *outcome, *error;
	struct sockaddr_in own, target;
	socklen_t size = sizeof(own);
	struct icmphdr echo;
	long wait_ms, deadline_ms;
	int port, fd, id;

	need(recv(control, line, sizeof(line) - 1, 0), "recv");
	if (!strcmp(line, "end\n")) {
		kill(getppid(), SIGTERM);
		exit(0);
	}
	if (sscanf(line, "%7s %31s %31s %d %ld", kind, source, address, &port, &wait_ms) != 5)
		exit(2);
	deadline_ms = now_ms() + wait_ms;
	target = at(address, port);
	own = at(source, 0);
	switch (kind[0]) {
	case 't':
		fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		break;
	case 'u':
		fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
		break;
	default:
		fd = socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_ICMP);
	}
	need(fd, "socket");
	need(bind(fd, (struct sockaddr *)&own, sizeof(own)), source);
	if (kind[0] == 't') {
		outcome = try_tcp(fd, &target, deadline_ms);
	} else if (kind[0] == 'u') {
		outcome = try_datagrams(fd, &target, hello, sizeof(hello), deadline_ms);
	} else {
		echo = echo_request(getpid() & 0xffff);
		outcome = try_datagrams(fd, &target, &echo, sizeof(echo), deadline_ms);
	}
	error = strerrorname_np(errno);
	getsockname(fd, (struct sockaddr *)&own, &size);
	id = kind[0] == 'i' ? getpid() & 0xffff : ntohs(own.sin_port);
	snprintf(answer, sizeof(answer), "%d %s %s\n", id, outcome, error);
	need(send(control, answer, strlen(answer), MSG_NOSIGNAL), "send");
	exit(0);
}

static void echo_stream(int fd)
{
	char buffer[2048];
	ssize_t got;

	while ((got = recv(fd, buffer, sizeof(buffer), 0)) > 0)
		if (send(fd, buffer, got, MSG_NOSIGNAL) < 0)
			break;
	exit(0);
}

/* From the address that it came to: a host has several. */
static void echo_datagram(int fd)
{
	char buffer[2048], control[CMSG_SPACE(sizeof(struct in_pktinfo))];
	struct sockaddr_in peer;
	struct iovec part = {.iov_base = buffer, .iov_len = sizeof(buffer)};
	struct msghdr message = {.msg_name = &peer,
				 .msg_namelen = sizeof(peer),
				 .msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = control,
				 .msg_controllen = sizeof(control)};
	ssize_t got = recvmsg(fd, &message, 0);
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	if (got < 0 || !header)
		return;
	((struct in_pktinfo *)CMSG_DATA(header))->ipi_ifindex = 0;
	part.iov_len = got;
	sendmsg(fd, &message, MSG_NOSIGNAL);
}

static int listen_at(int kind, int port)
{
	struct sockaddr_in any = at("0.0.0.0", port);
	int fd = socket(AF_INET, kind, 0), on = 1;

	need(fd, "socket");
	need(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), "SO_REUSEADDR");
	if (kind == SOCK_DGRAM)
		need(setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)), "IP_PKTINFO");
	need(bind(fd, (struct sockaddr *)&any, sizeof(any)), "bind");
	if (kind == SOCK_STREAM)
		need(listen(fd, 64), "listen");
	return fd;
}

static int listen_for_orders(const char *folder)
{
	struct sockaddr_un path = {.sun_family = AF_UNIX};
	char hostname[65] = "";
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	need(fd, "socket");
	need(gethostname(hostname, sizeof(hostname) - 1), "gethostname");
	snprintf(path.sun_path, sizeof(path.sun_path), "%s/%s", folder, hostname);
	unlink(path.sun_path);
	need(bind(fd, (struct sockaddr *)&path, sizeof(path)), path.sun_path);
	need(listen(fd, 64), "listen");
	return fd;
}

int main(int argc, char **argv)
{
	struct pollfd sockets[MAX_SOCKETS];
	int count = 0;

	if (argc < 2 || 2 * (argc - 2) + 1 > MAX_SOCKETS)
		return 2;
	signal(SIGTERM, end);
	signal(SIGINT, end);
	signal(SIGCHLD, SIG_IGN);
	/* First all TCP, then all UDP; the orders last, so that whoever finds them finds the ports. */
	for (int i = 2; i < argc; i++)
		sockets[count++].fd = listen_at(SOCK_STREAM, atoi(argv[i]));
	for (int i = 2; i < argc; i++)
		sockets[count++].fd = listen_at(SOCK_DGRAM, atoi(argv[i]));
	sockets[count++].fd = listen_for_orders(argv[1]);
	for (int i = 0; i < count; i++)
		sockets[i].events = POLLIN;
	for (;;) {
		if (poll(sockets, count, -1) < 0)
			continue;
		for (int i = 0; i < count; i++) {
			int is_order = i == count - 1, fd;

			if (!sockets[i].revents)
				continue;
			if (!is_order && i >= argc - 2) {
				echo_datagram(sockets[i].fd);
				continue;
			}
			fd = accept(sockets[i].fd, 0, 0);
			if (fd < 0)
				continue;
			if (!fork()) {
				if (is_order)
					obey(fd);
				echo_stream(fd);
			}
			close(fd);
		}
	}
}
