/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.c: the two ends of the tests of the way out and the way in.
 *
 *     peer serve NAME PORT...
 *         Answers on every PORT, TCP and UDP, with «NAME ADDRESS PORT» of who asks, as they are seen
 *         here, a newline, and then all that was sent.
 *     peer ask WAIT_MS QUESTION...
 *         A QUESTION is PROTOCOL,ADDRESS,PORT[,SIZE[,SOURCE]]: SIZE bytes are sent, from the own
 *         address SOURCE. All are asked at once, and answered in order with a line each: «open NAME
 *         ADDRESS PORT», refused (somebody said no), silent, or wrong (not what was sent).
 *     peer mtu ADDRESS PORT SIZE
 *         Sends datagrams of SIZE bytes, headers included, that must not be fragmented, until the
 *         host knows that they are too large; then one that just fits. Prints the MTU, how many
 *         were sent before it was known, and whether the last one was answered.
 *     peer flood PROTOCOL ADDRESS PORT COUNT FIRST_PORT
 *         COUNT flows from ports of their own, all open until the end. Prints how many were
 *         answered, wrong, refused and silent, datagrams that were sent again, and milliseconds;
 *         then for each that was answered a line with the address and the port that the server saw.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "program.h"

#define AGAIN_MS       250
#define LARGEST	       65000
#define PIECE	       16384
#define AT_ONCE	       200
#define FLOOD_MS       10000
#define UDP_HEADERS    28
#define RECEIVE_BYTES  (8 * 1024 * 1024)
#define EVENTS_AT_ONCE 256

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

static void watch(int epoll, int fd, unsigned int events, void *owner)
{
	struct epoll_event event = {.events = events, .data.ptr = owner};

	if (epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event) &&
	    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		fail("epoll");
}

/* The server. */

struct stream {
	int fd;
	enum {
		LISTENER,
		DATAGRAMS,
		CONNECTION
	} kind;
	size_t from; /* what of the buffer is still to be sent */
	size_t to;
	char buffer[];
};

static const char *own_name;

static size_t seen(char *text, size_t size, const struct sockaddr_in *peer)
{
	char address[INET_ADDRSTRLEN];

	inet_ntop(AF_INET, &peer->sin_addr, address, sizeof(address));
	return snprintf(text, size, "%s %s %d\n", own_name, address, ntohs(peer->sin_port));
}

static struct stream *new_stream(int fd, int kind, size_t room)
{
	struct stream *made = calloc(1, sizeof(*made) + room);

	if (!made)
		fail("memory");
	made->fd = fd;
	made->kind = kind;
	return made;
}

static void listen_at(int epoll, int type, int port)
{
	struct sockaddr_in any = at("0.0.0.0", port);
	int fd = socket(AF_INET, type | SOCK_NONBLOCK, 0), on = 1, room = RECEIVE_BYTES;
	int may_be_fragmented = IP_PMTUDISC_DONT;
	bool is_stream = type == SOCK_STREAM;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)))
		fail("socket");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	if (!is_stream && (setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)) ||
			   setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &may_be_fragmented,
				      sizeof(may_be_fragmented))))
		fail("options of datagrams");
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) || (is_stream && listen(fd, SOMAXCONN)))
		fail("listen");
	watch(epoll, fd, EPOLLIN, new_stream(fd, is_stream ? LISTENER : DATAGRAMS, 0));
}

static void accept_all(int epoll, int listener)
{
	struct sockaddr_in peer;
	socklen_t size = sizeof(peer);
	int fd;

	while ((fd = accept4(listener, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK)) >= 0) {
		struct stream *made = new_stream(fd, CONNECTION, PIECE);

		made->to = seen(made->buffer, PIECE, &peer);
		watch(epoll, fd, EPOLLIN, made);
	}
}

/* From the address that it came to: a host has several. */
static void answer_datagrams(int fd)
{
	static char text[128 + LARGEST];
	char control[CMSG_SPACE(sizeof(struct in_pktinfo))], *datagram = text + 128;
	struct sockaddr_in peer;

	for (;;) {
		struct iovec part = {.iov_base = datagram, .iov_len = LARGEST};
		struct msghdr message = {.msg_name = &peer,
					 .msg_namelen = sizeof(peer),
					 .msg_iov = &part,
					 .msg_iovlen = 1,
					 .msg_control = control,
					 .msg_controllen = sizeof(control)};
		struct iovec parts[2] = {{.iov_base = text}, {.iov_base = datagram}};
		struct cmsghdr *header;
		ssize_t got = recvmsg(fd, &message, 0);

		if (got < 0 && errno == EAGAIN)
			return;
		header = CMSG_FIRSTHDR(&message);
		if (got < 0 || !header)
			continue;
		((struct in_pktinfo *)CMSG_DATA(header))->ipi_ifindex = 0;
		parts[0].iov_len = seen(text, 128, &peer);
		parts[1].iov_len = got;
		message.msg_iov = parts;
		message.msg_iovlen = 2;
		sendmsg(fd, &message, MSG_NOSIGNAL);
	}
}

/* Nothing is read before all that was read has been sent; false when the connection is over. */
static bool echo(int epoll, struct stream *stream)
{
	ssize_t done;

	for (;;) {
		if (stream->from == stream->to) {
			done = recv(stream->fd, stream->buffer, PIECE, 0);
			if (done < 0 && errno == EAGAIN) {
				watch(epoll, stream->fd, EPOLLIN, stream);
				return true;
			}
			if (done <= 0)
				return false;
			stream->from = 0;
			stream->to = done;
		}
		done = send(stream->fd, stream->buffer + stream->from, stream->to - stream->from,
			    MSG_NOSIGNAL);
		if (done < 0 && errno == EAGAIN) {
			watch(epoll, stream->fd, EPOLLOUT, stream);
			return true;
		}
		if (done < 0)
			return false;
		stream->from += done;
	}
}

static void serve(char **ports)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	int epoll = epoll_create1(0);

	for (; *ports; ports++) {
		listen_at(epoll, SOCK_STREAM, atoi(*ports));
		listen_at(epoll, SOCK_DGRAM, atoi(*ports));
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		int count = epoll_wait(epoll, events, EVENTS_AT_ONCE, -1);

		for (int i = 0; i < count; i++) {
			struct stream *stream = events[i].data.ptr;

			if (stream->kind == LISTENER) {
				accept_all(epoll, stream->fd);
			} else if (stream->kind == DATAGRAMS) {
				answer_datagrams(stream->fd);
			} else if (!echo(epoll, stream)) {
				close(stream->fd);
				free(stream);
			}
		}
	}
}

/* The client. */

enum outcome {
	PENDING,
	OPEN,
	REFUSED,
	SILENT,
	WRONG
};

static const char *const outcomes[] = {"pending", "open", "refused", "silent", "wrong"};

struct flow {
	int fd;
	bool is_stream;
	enum outcome outcome;
	struct sockaddr_in target;
	size_t size;
	size_t sent;
	size_t got;
	size_t header; /* bytes of the answer's first line with its newline; 0 = not whole yet */
	long again_ms;
	int repeated;
	unsigned int seed;
	char line[128];
};

/* Every flow sends other bytes than every other. */
static char nth(const struct flow *flow, size_t position)
{
	unsigned int mixed = (position / 4 + 1) * 2654435761u ^ flow->seed * 40503u;

	return mixed >> position % 4 * 8;
}

static void fill(const struct flow *flow, char *piece, size_t from, size_t size)
{
	for (size_t i = 0; i < size; i++)
		piece[i] = nth(flow, from + i);
}

static void open_flow(struct flow *flow, int epoll, const struct sockaddr_in *own)
{
	int type = flow->is_stream ? SOCK_STREAM : SOCK_DGRAM, on = 1;

	flow->fd = socket(AF_INET, type | SOCK_NONBLOCK, 0);
	if (flow->fd < 0)
		fail("socket");
	setsockopt(flow->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(flow->fd, (const struct sockaddr *)own, sizeof(*own)))
		fail("bind");
	if (connect(flow->fd, (struct sockaddr *)&flow->target, sizeof(flow->target)) &&
	    errno != EINPROGRESS) {
		flow->outcome = REFUSED;
		return;
	}
	watch(epoll, flow->fd, EPOLLIN | (flow->is_stream ? EPOLLOUT : 0), flow);
}

static void send_datagram(struct flow *flow)
{
	static char datagram[LARGEST];

	fill(flow, datagram, 0, flow->size);
	flow->again_ms = now_ms() + AGAIN_MS;
	/* What is too large now that its path is known is fragmented the next time. */
	if (send(flow->fd, datagram, flow->size, 0) < 0 && errno != EMSGSIZE && errno != EAGAIN)
		flow->outcome = REFUSED;
}

static void take(struct flow *flow, const char *piece, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		size_t position = flow->got++;

		if (!flow->header) {
			if (position >= sizeof(flow->line)) {
				flow->outcome = WRONG;
				return;
			}
			flow->line[position] = piece[i];
			if (piece[i] == '\n') {
				flow->line[position] = 0;
				flow->header = position + 1;
			}
		} else if (piece[i] != nth(flow, position - flow->header)) {
			flow->outcome = WRONG;
			return;
		}
	}
	if (flow->header && flow->got == flow->header + flow->size)
		flow->outcome = OPEN;
	else if (!flow->is_stream)
		flow->outcome = WRONG;
}

static void go_on(struct flow *flow, int epoll)
{
	static char piece[LARGEST + 128];
	ssize_t done;

	while (flow->is_stream && flow->sent < flow->size) {
		size_t left = flow->size - flow->sent, now = left < PIECE ? left : PIECE;

		fill(flow, piece, flow->sent, now);
		done = send(flow->fd, piece, now, MSG_NOSIGNAL);
		if (done < 0) {
			if (errno != EAGAIN)
				flow->outcome = REFUSED;
			break;
		}
		flow->sent += done;
		if (flow->sent == flow->size)
			watch(epoll, flow->fd, EPOLLIN, flow);
	}
	while (flow->outcome == PENDING) {
		done = recv(flow->fd, piece, sizeof(piece), 0);
		if (done < 0 && (errno == EAGAIN || errno == EMSGSIZE))
			return;
		if (done < 0 || (!done && flow->is_stream))
			flow->outcome = REFUSED;
		else
			take(flow, piece, done);
	}
}

/* Until none is pending, AT_ONCE of them at a time; ends what is not answered in time. */
static void run_flows(struct flow *flows, int count, const struct sockaddr_in *own, long wait_ms,
		      bool ports_count)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	int epoll = epoll_create1(0), opened = 0, closed = 0;
	long last_ms = now_ms();

	while (closed < count) {
		while (opened < count && opened - closed < AT_ONCE) {
			struct sockaddr_in from = own[ports_count ? 0 : opened];
			struct flow *flow = &flows[opened];

			if (ports_count)
				from.sin_port = htons(ntohs(from.sin_port) + opened);
			open_flow(flow, epoll, &from);
			if (!flow->is_stream && flow->outcome == PENDING)
				send_datagram(flow);
			opened++;
		}
		int ready = epoll_wait(epoll, events, EVENTS_AT_ONCE, 20), before = closed;

		for (int i = 0; i < ready; i++) {
			struct flow *flow = events[i].data.ptr;

			if (flow->outcome == PENDING)
				go_on(flow, epoll);
			if (flow->outcome != PENDING)
				epoll_ctl(epoll, EPOLL_CTL_DEL, flow->fd, NULL);
		}
		closed = 0;
		for (int i = 0; i < opened; i++) {
			struct flow *flow = &flows[i];

			if (flow->outcome == PENDING && !flow->is_stream &&
			    now_ms() > flow->again_ms) {
				flow->repeated++;
				send_datagram(flow);
			}
			closed += flow->outcome != PENDING;
		}
		if (closed > before)
			last_ms = now_ms();
		if (now_ms() > last_ms + wait_ms)
			for (int i = 0; i < opened; i++)
				if (flows[i].outcome == PENDING)
					flows[i].outcome = SILENT;
	}
}

static void ask(long wait_ms, int count, char **questions)
{
	struct flow *flows = calloc(count, sizeof(*flows));
	struct sockaddr_in *own = calloc(count, sizeof(*own));

	for (int i = 0; i < count; i++) {
		char protocol[8], address[32], source[32] = "0.0.0.0";
		int port, size = 100;

		if (sscanf(questions[i], "%7[^,],%31[^,],%d,%d,%31s", protocol, address, &port,
			   &size, source) < 3)
			exit(2);
		flows[i].is_stream = !strcmp(protocol, "tcp");
		flows[i].target = at(address, port);
		flows[i].size = size;
		flows[i].seed = getpid() * 1000 + i;
		own[i] = at(source, 0);
	}
	run_flows(flows, count, own, wait_ms, false);
	for (int i = 0; i < count; i++)
		printf("%s %s\n", outcomes[flows[i].outcome],
		       flows[i].outcome == OPEN ? flows[i].line : "");
}

static void flood(char **argv)
{
	int count = atoi(argv[5]), numbers[5] = {}, repeated = 0;
	struct sockaddr_in own = at("0.0.0.0", atoi(argv[6]));
	struct flow *flows = calloc(count, sizeof(*flows));
	long started_ms = now_ms();

	for (int i = 0; i < count; i++) {
		flows[i].is_stream = !strcmp(argv[2], "tcp");
		flows[i].target = at(argv[3], atoi(argv[4]));
		flows[i].size = 40;
		flows[i].seed = getpid() * 1000003u + (unsigned int)started_ms + i;
	}
	run_flows(flows, count, &own, FLOOD_MS, true);
	for (int i = 0; i < count; i++) {
		numbers[flows[i].outcome]++;
		repeated += flows[i].repeated;
	}
	printf("%d %d %d %d %d %ld\n", numbers[OPEN], numbers[WRONG], numbers[REFUSED],
	       numbers[SILENT], repeated, now_ms() - started_ms);
	for (int i = 0; i < count; i++)
		if (flows[i].outcome == OPEN)
			puts(strchr(flows[i].line, ' ') + 1);
}

static void find_mtu(const char *address, int port, int size)
{
	struct sockaddr_in target = at(address, port);
	int fd = socket(AF_INET, SOCK_DGRAM, 0), strict = IP_PMTUDISC_DO, mtu = 0, sent = 0;
	struct timeval patience = {.tv_usec = AGAIN_MS * 1000};
	socklen_t length = sizeof(mtu);
	char datagram[LARGEST] = {};
	long ends_ms = now_ms() + FLOOD_MS;

	if (connect(fd, (struct sockaddr *)&target, sizeof(target)) ||
	    setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &strict, sizeof(strict)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)))
		fail("socket");
	while (now_ms() < ends_ms) {
		if (send(fd, datagram, size - UDP_HEADERS, 0) < 0)
			break;
		sent++;
		if (recv(fd, datagram, sizeof(datagram), 0) < 0 && errno == EMSGSIZE)
			break;
	}
	getsockopt(fd, IPPROTO_IP, IP_MTU, &mtu, &length);
	memset(datagram, 0, sizeof(datagram));
	if (send(fd, datagram, mtu - UDP_HEADERS, 0) < 0)
		fail("send");
	printf("%d %d %s\n", mtu, sent,
	       recv(fd, datagram, sizeof(datagram), 0) > 0 ? "open" : "silent");
}

static void end(int number)
{
	(void)number;
	_exit(0);
}

int main(int argc, char **argv)
{
	struct rlimit limit;

	/* A process 1 has no default for these. */
	signal(SIGTERM, end);
	signal(SIGINT, end);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	if (argc > 3 && !strcmp(argv[1], "serve")) {
		own_name = argv[2];
		serve(argv + 3);
	} else if (argc > 3 && !strcmp(argv[1], "ask")) {
		ask(atol(argv[2]), argc - 3, argv + 3);
	} else if (argc == 5 && !strcmp(argv[1], "mtu")) {
		find_mtu(argv[2], atoi(argv[3]), atoi(argv[4]));
	} else if (argc == 7 && !strcmp(argv[1], "flood")) {
		flood(argv);
	} else {
		return 2;
	}
	return 0;
}
