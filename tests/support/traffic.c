/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * traffic.c: knocks at a port without a pause, and notes every packet that comes to one.
 *
 * traffic knock ADDRESS PORT NAME KINDS INTERVAL_US DURATION_MS REPORT
 *	Sends a packet of each of KINDS every INTERVAL_US, from its first instruction on, for
 *	DURATION_MS (0: until it is told to end), then waits to be told to end. KINDS: d, a datagram
 *	of one flow; n, a datagram from a new port; s, a TCP SYN from a new port. A datagram says
 *	"NAME SEQUENCE START_NS". REPORT always has one line: own address, when it started, when it
 *	sent last (since 1970), rounds, and whether it has ended.
 * traffic catch PORT
 *	Prints a line for each datagram and each SYN to PORT that reaches its interface: when (by
 *	the kernel, since 1970), protocol, source address and port, and what a datagram says. Something
 *	listens at PORT in both protocols.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "program.h"

#define REPORT_EVERY_NS	       10000000LL
#define OPEN_AT_ONCE	       64
#define RECEIVE_BUFFER_BYTES   (16 * 1024 * 1024)

static volatile sig_atomic_t told_to_end;

static void end(int number)
{
	(void)number;
	told_to_end = 1;
}

struct knocking {
	struct sockaddr_in target;
	const char *name;
	int report;
	int flow;
	int open[OPEN_AT_ONCE];
	unsigned int opened;
	long long started_ns;
	long long sent_ns;
	long long rounds;
};

static void write_report(const struct knocking *state, bool ended)
{
	struct sockaddr_in own = {};
	socklen_t size = sizeof(own);
	char address[INET_ADDRSTRLEN];
	char line[128];
	int length;

	getsockname(state->flow, (struct sockaddr *)&own, &size);
	inet_ntop(AF_INET, &own.sin_addr, address, sizeof(address));
	length = snprintf(line, sizeof(line), "%-15s %020lld %020lld %012lld %d\n", address,
			  state->started_ns, state->sent_ns, state->rounds, ended);
	if (pwrite(state->report, line, length, 0) != length)
		fail("report");
}

/* Sockets for packets from new ports are kept for a while: one that is closed sends no more SYN. */
static int new_socket(struct knocking *state, int type)
{
	struct linger at_once = {.l_onoff = 1};
	int *place = &state->open[state->opened++ % OPEN_AT_ONCE];

	if (*place)
		close(*place);
	*place = socket(AF_INET, type | SOCK_NONBLOCK, 0);
	if (*place < 0)
		fail("socket");
	if (type == SOCK_STREAM)
		setsockopt(*place, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	return *place;
}

/* What is refused, or lost at once, is what this is about: no error ends it. */
static void knock_once(struct knocking *state, char kind)
{
	char text[128];
	int length = snprintf(text, sizeof(text), "%s %lld %lld", state->name, state->rounds,
			      state->started_ns);
	const struct sockaddr *target = (const struct sockaddr *)&state->target;

	switch (kind) {
	case 'd':
		send(state->flow, text, length, MSG_DONTWAIT);
		break;
	case 'n':
		sendto(new_socket(state, SOCK_DGRAM), text, length, 0, target,
		       sizeof(state->target));
		break;
	case 's':
		connect(new_socket(state, SOCK_STREAM), target, sizeof(state->target));
		break;
	default:
		errno = EINVAL;
		fail("kind of packet");
	}
}

static void knock(char **argv)
{
	struct knocking state = {.name = argv[4], .started_ns = clock_ns(CLOCK_REALTIME)};
	long long interval_ns = atoll(argv[6]) * 1000;
	long long ends_ns = atoll(argv[7]) * 1000000;
	long long next_ns = state.started_ns;
	long long reported_ns = 0;

	state.target.sin_family = AF_INET;
	state.target.sin_port = htons(atoi(argv[3]));
	if (inet_pton(AF_INET, argv[2], &state.target.sin_addr) != 1)
		fail(argv[2]);
	state.flow = socket(AF_INET, SOCK_DGRAM, 0);
	if (connect(state.flow, (struct sockaddr *)&state.target, sizeof(state.target)))
		fail("connect");
	for (const char *kind = argv[5]; *kind; kind++)
		knock_once(&state, *kind);
	state.rounds = 1;
	state.report = open(argv[8], O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (state.report < 0)
		fail(argv[8]);
	while (!told_to_end) {
		state.sent_ns = clock_ns(CLOCK_REALTIME);
		if (state.sent_ns - reported_ns >= REPORT_EVERY_NS) {
			write_report(&state, false);
			reported_ns = state.sent_ns;
		}
		if (ends_ns && state.sent_ns - state.started_ns >= ends_ns)
			break;
		next_ns += interval_ns;
		if (next_ns > state.sent_ns) {
			struct timespec pause = {.tv_nsec = next_ns - state.sent_ns};

			nanosleep(&pause, NULL);
		} else {
			next_ns = state.sent_ns;
		}
		for (const char *kind = argv[5]; *kind; kind++)
			knock_once(&state, *kind);
		state.rounds++;
	}
	write_report(&state, true);
	while (!told_to_end)
		pause();
}

static int listener(int type, int port)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, type | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof(here)))
		fail("bind");
	if (type == SOCK_STREAM && listen(fd, SOMAXCONN))
		fail("listen");
	return fd;
}

static void print_packet(const unsigned char *packet, ssize_t size, long long time_ns, int port)
{
	const struct iphdr *ipv4 = (const void *)packet;
	const unsigned char *transport = packet + ipv4->ihl * 4;
	const struct tcphdr *tcp = (const void *)transport;
	const struct udphdr *udp = (const void *)transport;
	char source[INET_ADDRSTRLEN];

	if (size < (ssize_t)sizeof(*ipv4) + (ssize_t)sizeof(*udp))
		return;
	inet_ntop(AF_INET, &ipv4->saddr, source, sizeof(source));
	if (ipv4->protocol == IPPROTO_UDP && ntohs(udp->dest) == port) {
		const char *text = (const char *)(udp + 1);

		printf("%lld udp %s %d %.*s\n", time_ns, source, ntohs(udp->source),
		       (int)((const char *)packet + size - text), text);
	} else if (ipv4->protocol == IPPROTO_TCP && ntohs(tcp->dest) == port && tcp->syn) {
		printf("%lld tcp %s %d\n", time_ns, source, ntohs(tcp->source));
	}
}

static void catch (int port)
{
	int buffer = RECEIVE_BUFFER_BYTES, on = 1;
	/* Nobody reads the datagrams here: a full buffer is no refusal. */
	int wire = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP));
	int stream = listener(SOCK_STREAM, port);

	listener(SOCK_DGRAM, port);
	if (wire < 0)
		fail("packet socket");
	if (setsockopt(wire, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) ||
	    setsockopt(wire, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)) ||
	    setsockopt(wire, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer)))
		fail("packet socket");
	setlinebuf(stdout);
	printf("ready\n");
	while (!told_to_end) {
		unsigned char packet[2048], control[128];
		struct iovec part = {.iov_base = packet, .iov_len = sizeof(packet)};
		struct msghdr message = {.msg_iov = &part,
					 .msg_iovlen = 1,
					 .msg_control = control,
					 .msg_controllen = sizeof(control)};
		ssize_t size = recvmsg(wire, &message, 0);
		struct cmsghdr *said = size < 0 ? NULL : CMSG_FIRSTHDR(&message);
		struct timespec time;
		int peer;

		while ((peer = accept(stream, NULL, NULL)) >= 0)
			close(peer);
		if (!said)
			continue;
		memcpy(&time, CMSG_DATA(said), sizeof(time));
		print_packet(packet, size, time.tv_sec * NANOSECONDS_PER_SECOND + time.tv_nsec,
			     port);
	}
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = end};

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	if (argc == 9 && !strcmp(argv[1], "knock"))
		knock(argv);
	else if (argc == 3 && !strcmp(argv[1], "catch"))
		catch (atoi(argv[2]));
	else
		return 2;
	return 0;
}
