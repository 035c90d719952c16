/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * service_load.c: backends of a service that say who they are, and clients that count who answers.
 *
 * service_load serve NAME PORT...
 *	Answers on every PORT. A TCP client says "once TOKEN" or "stay TOKEN" in a line, and is told
 *	"TOKEN NAME ADDRESS PORT" in one, with the address and port that it has here; after "once" the
 *	connection is closed. A datagram is answered in the same way. NAME "-" is the host's. SIGTERM:
 *	takes no more, goes on with the connections that are open, and ends with the last of them.
 * service_load load KIND TARGET PORT COUNT RATE TIMEOUT_MS REPORT
 *	Makes COUNT connections (0: until SIGTERM), RATE a second (0: as fast as it goes). KIND: tcp;
 *	udp, a new socket for each datagram, connected; sendto, one that is not connected.
 * service_load hold TARGET PORT CONNECTIONS INTERVAL_MS REPORT
 *	Opens TCP connections and says "stay" on each every INTERVAL_MS, until SIGTERM or until the
 *	last of them has broken.
 *
 * TARGET is an IPv4 address, or a name that the first nameserver of /etc/resolv.conf is asked for.
 * REPORT is a file that always has a JSON object, or "-": standard output, in the end. Times are
 * nanoseconds since 1970.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "program.h"

#define REPORT_EVERY_NS		    50000000LL
#define OPEN_AT_ONCE		    4096
#define FAST_AT_ONCE		    64
#define NAMES_MAX		    256
#define FAILURES_MAX		    2048
#define LISTENERS_MAX		    16
#define RESOLVE_TRIES		    20

static int signals;

/* SIGTERM and SIGINT become readable. */
static void catch_signals(void)
{
	sigset_t ending;

	sigemptyset(&ending);
	sigaddset(&ending, SIGTERM);
	sigaddset(&ending, SIGINT);
	sigprocmask(SIG_BLOCK, &ending, NULL);
	signals = signalfd(-1, &ending, SFD_NONBLOCK);
	need(signals, "signalfd");
}

static bool told_to_end(void)
{
	struct signalfd_siginfo info;

	return read(signals, &info, sizeof(info)) == sizeof(info);
}

/* Up to the moment; it may be over sooner. */
static void wait_until(struct pollfd *sockets, int count, long long moment_ns)
{
	long long left = moment_ns - clock_ns(CLOCK_REALTIME);
	struct timespec time = {};

	if (left > 0) {
		time.tv_sec = left / NANOSECONDS_PER_SECOND;
		time.tv_nsec = left % NANOSECONDS_PER_SECOND;
	}
	if (ppoll(sockets, count, &time, NULL) < 0 && errno != EINTR)
		fail("poll");
}

/* ---- serve ---- */

struct client {
	int fd;
	struct sockaddr_in peer;
	int length;
	char line[64];
};

static struct client clients[OPEN_AT_ONCE];
static int client_count;

/* Returns whether the connection stays open. */
static bool answer_line(char *line, const char *name, const struct sockaddr_in *peer, char *answer,
			size_t size)
{
	char word[8] = "", token[32] = "", address[INET_ADDRSTRLEN];

	sscanf(line, "%7s %31s", word, token);
	inet_ntop(AF_INET, &peer->sin_addr, address, sizeof(address));
	snprintf(answer, size, "%s %s %s %d\n", token, name, address, ntohs(peer->sin_port));
	return !strcmp(word, "stay");
}

static int listen_at(int type, int port)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, type | SOCK_NONBLOCK, 0), on = 1;

	need(fd, "socket");
	need(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), "SO_REUSEADDR");
	need(bind(fd, (struct sockaddr *)&here, sizeof(here)), "bind");
	if (type == SOCK_STREAM)
		need(listen(fd, SOMAXCONN), "listen");
	return fd;
}

static void serve_datagrams(int fd, const char *name)
{
	struct sockaddr_in peer;
	socklen_t size = sizeof(peer);
	char line[64], answer[256];
	ssize_t got;

	while ((got = recvfrom(fd, line, sizeof(line) - 1, 0, (struct sockaddr *)&peer, &size)) >=
	       0) {
		line[got] = 0;
		answer_line(line, name, &peer, answer, sizeof(answer));
		sendto(fd, answer, strlen(answer), 0, (struct sockaddr *)&peer, size);
		size = sizeof(peer);
	}
}

/* Returns whether the connection is over. */
static bool serve_client(struct client *client, const char *name)
{
	char *end, answer[256];
	ssize_t got = recv(client->fd, client->line + client->length,
			   sizeof(client->line) - 1 - client->length, 0);

	if (got <= 0)
		return got == 0 || errno != EAGAIN;
	client->length += got;
	client->line[client->length] = 0;
	while ((end = strchr(client->line, '\n'))) {
		bool stays;

		*end = 0;
		stays = answer_line(client->line, name, &client->peer, answer, sizeof(answer));
		if (send(client->fd, answer, strlen(answer), MSG_NOSIGNAL) < 0 || !stays)
			return true;
		client->length -= end + 1 - client->line;
		memmove(client->line, end + 1, client->length + 1);
	}
	return client->length == sizeof(client->line) - 1;
}

static void take_clients(int fd)
{
	while (client_count < OPEN_AT_ONCE) {
		struct client *client = &clients[client_count];
		socklen_t size = sizeof(client->peer);

		client->length = 0;
		client->fd = accept4(fd, (struct sockaddr *)&client->peer, &size, SOCK_NONBLOCK);
		if (client->fd < 0)
			return;
		client_count++;
	}
}

static void serve(int argc, char **argv)
{
	static struct pollfd sockets[1 + 2 * LISTENERS_MAX + OPEN_AT_ONCE];
	char hostname[65] = "";
	const char *name = argv[2];
	int listeners = 1;
	bool ends = false;

	if (!strcmp(name, "-")) {
		need(gethostname(hostname, sizeof(hostname) - 1), "gethostname");
		name = hostname;
	}
	sockets[0].fd = signals;
	for (int i = 3; i < argc && i < 3 + LISTENERS_MAX; i++) {
		sockets[listeners++].fd = listen_at(SOCK_STREAM, atoi(argv[i]));
		sockets[listeners++].fd = listen_at(SOCK_DGRAM, atoi(argv[i]));
	}
	for (int i = 0; i < listeners; i++)
		sockets[i].events = POLLIN;
	while (!ends || client_count) {
		int open = client_count;

		for (int i = 0; i < open; i++)
			sockets[listeners + i] =
				(struct pollfd){.fd = clients[i].fd, .events = POLLIN};
		need(poll(sockets, listeners + open, -1), "poll");
		for (int i = open - 1; i >= 0; i--) {
			if (!sockets[listeners + i].revents || !serve_client(&clients[i], name))
				continue;
			close(clients[i].fd);
			clients[i] = clients[--client_count];
		}
		if (sockets[0].revents && told_to_end()) {
			ends = true;
			/* Who is in the queue of a listener has been taken, too. */
			for (int i = 1; i < listeners; i += 2)
				take_clients(sockets[i].fd);
			for (int i = 1; i < listeners; i++)
				close(sockets[i].fd);
			listeners = 1;
		}
		for (int i = 1; i < listeners; i += 2) {
			take_clients(sockets[i].fd);
			serve_datagrams(sockets[i + 1].fd, name);
		}
	}
}

/* ---- names ---- */

static struct in_addr nameserver(void)
{
	FILE *file = fopen("/etc/resolv.conf", "r");
	struct in_addr found = {};
	char line[256], address[64];

	if (!file)
		fail("/etc/resolv.conf");
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "nameserver %63s", address) == 1 &&
		    inet_pton(AF_INET, address, &found) == 1)
			break;
	fclose(file);
	return found;
}

static int write_question(unsigned char *message, const char *name)
{
	static const unsigned char header[12] = {0x68, 0x77, 1, 0, 0, 1};
	static const unsigned char type_a_class_in[4] = {0, 1, 0, 1};
	unsigned char *at = message + sizeof(header);

	memcpy(message, header, sizeof(header));
	while (*name) {
		size_t length = strcspn(name, ".");

		*at++ = length;
		memcpy(at, name, length);
		at += length;
		name += length + (name[length] == '.');
	}
	*at++ = 0;
	memcpy(at, type_a_class_in, sizeof(type_a_class_in));
	return at + sizeof(type_a_class_in) - message;
}

static int skip_name(const unsigned char *message, int at, int size)
{
	while (at < size && message[at] && message[at] < 0xc0)
		at += message[at] + 1;
	return at + (at < size && message[at] ? 2 : 1);
}

/* The first address of an answer. */
static bool read_answer(const unsigned char *message, int size, int at, struct in_addr *found)
{
	int answers = size < 12 ? 0 : message[6] << 8 | message[7];

	while (answers-- && (at = skip_name(message, at, size)) + 10 <= size) {
		int length = message[at + 8] << 8 | message[at + 9];

		if (message[at + 1] == 1 && length == 4 && at + 14 <= size) {
			memcpy(found, message + at + 10, 4);
			return true;
		}
		at += 10 + length;
	}
	return false;
}

static struct sockaddr_in resolve(const char *name, int port)
{
	struct sockaddr_in target = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(53)};
	struct timeval second = {.tv_sec = 1};
	unsigned char question[300], answer[1500];

	if (inet_pton(AF_INET, name, &target.sin_addr) == 1)
		return target;
	if (strlen(name) > 253) {
		errno = ENAMETOOLONG;
		fail(name);
	}
	server.sin_addr = nameserver();
	for (int tries = 0; tries < RESOLVE_TRIES; tries++) {
		int size = write_question(question, name);
		int fd = socket(AF_INET, SOCK_DGRAM, 0);
		ssize_t got = -1;

		need(fd, "socket");
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second));
		if (!connect(fd, (struct sockaddr *)&server, sizeof(server)) &&
		    send(fd, question, size, 0) == size)
			got = recv(fd, answer, sizeof(answer), 0);
		close(fd);
		if (got > 0 && read_answer(answer, got, size, &target.sin_addr))
			return target;
		usleep(250000);
	}
	fprintf(stderr, "%s has no address\n", name);
	exit(3);
}

/* ---- reports ---- */

static const char *report_path;

static FILE *begin_report(const struct sockaddr_in *target, bool ended)
{
	char path[512], address[INET_ADDRSTRLEN];
	FILE *file = stdout;

	if (strcmp(report_path, "-")) {
		snprintf(path, sizeof(path), "%s.new", report_path);
		file = fopen(path, "w");
		if (!file)
			fail(path);
	}
	inet_ntop(AF_INET, &target->sin_addr, address, sizeof(address));
	fprintf(file, "{\"address\": \"%s\", \"ended\": %s, \"at_ns\": %lld", address,
		ended ? "true" : "false", clock_ns(CLOCK_REALTIME));
	return file;
}

static void end_report(FILE *file)
{
	char path[512];

	fprintf(file, "}\n");
	if (file == stdout) {
		fflush(stdout);
		return;
	}
	snprintf(path, sizeof(path), "%s.new", report_path);
	if (fclose(file) || rename(path, report_path))
		fail(report_path);
}

/* Whether there is somebody who reads before the end. */
static bool reports_on_the_way(void)
{
	return strcmp(report_path, "-") != 0;
}

static const char *said(int error)
{
	switch (error) {
	case 0:
		return "closed";
	case ECONNREFUSED:
		return "refused";
	case ECONNRESET:
	case EPIPE:
		return "reset";
	case ETIMEDOUT:
		return "timeout";
	case EHOSTUNREACH:
	case ENETUNREACH:
		return "unreachable";
	case EPERM:
	case EACCES:
		return "forbidden";
	default:
		return strerrorname_np(error);
	}
}

static bool is_plain(const char *text)
{
	for (; *text; text++)
		if (!isalnum((unsigned char)*text) && !strchr("-._", *text))
			return false;
	return true;
}

/* Read "TOKEN NAME ADDRESS PORT"; false when it is anything else, or of somebody else's question. */
static bool read_line(const char *line, const char *token, char *name, char *address)
{
	char seen_token[32];
	int port;

	return sscanf(line, "%31s %64s %15s %d", seen_token, name, address, &port) == 4 &&
	       !strcmp(seen_token, token) && is_plain(name) && is_plain(address);
}

/* ---- load ---- */

enum kind {
	KIND_TCP,
	KIND_UDP,
	KIND_SENDTO
};

struct tally {
	char name[65];
	long long count;
	long long first_ns;
	long long last_ns;
};

struct tallies {
	struct tally all[NAMES_MAX];
	int count;
};

struct attempt {
	int fd;
	bool asked;
	int length;
	long long started_ns;
	char token[32];
	char answer[160];
};

struct failure {
	const char *kind;
	long long started_ns;
	long long ended_ns;
	int own_port;
};

static struct {
	enum kind kind;
	struct sockaddr_in target;
	long long count;
	long long interval_ns;
	long long timeout_ns;
	long long begun_ns;
	long long started;
	long long answered;
	long long failed;
	long long slowest_ns;
	long long other_peer;
	struct tallies servers;
	struct tallies seen;
	struct tallies failures;
	struct failure failure[FAILURES_MAX];
	struct attempt open[OPEN_AT_ONCE];
	int open_count;
} load;

static void add(struct tallies *tallies, const char *name, long long time_ns)
{
	struct tally *tally = tallies->all;

	while (tally < tallies->all + tallies->count && strcmp(tally->name, name))
		tally++;
	if (tally == tallies->all + tallies->count) {
		if (tallies->count == NAMES_MAX)
			return;
		tallies->count++;
		snprintf(tally->name, sizeof(tally->name), "%s", name);
		tally->first_ns = time_ns;
	}
	tally->count++;
	if (time_ns > tally->last_ns)
		tally->last_ns = time_ns;
	if (time_ns < tally->first_ns)
		tally->first_ns = time_ns;
}

static void print_tallies(FILE *file, const char *key, const struct tallies *tallies)
{
	fprintf(file, ", \"%s\": {", key);
	for (int i = 0; i < tallies->count; i++)
		fprintf(file, "%s\"%s\": {\"count\": %lld, \"first_ns\": %lld, \"last_ns\": %lld}",
			i ? ", " : "", tallies->all[i].name, tallies->all[i].count,
			tallies->all[i].first_ns, tallies->all[i].last_ns);
	fprintf(file, "}");
}

static void report_load(bool ended)
{
	FILE *file = begin_report(&load.target, ended);
	long long listed = load.failed < FAILURES_MAX ? load.failed : FAILURES_MAX;

	fprintf(file,
		", \"begun_ns\": %lld, \"started\": %lld, \"answered\": %lld, \"failed\": %lld",
		load.begun_ns, load.started, load.answered, load.failed);
	fprintf(file, ", \"slowest_ns\": %lld, \"other_peer\": %lld", load.slowest_ns,
		load.other_peer);
	print_tallies(file, "servers", &load.servers);
	print_tallies(file, "seen", &load.seen);
	print_tallies(file, "kinds", &load.failures);
	fprintf(file, ", \"failures\": [");
	for (long long i = 0; i < listed; i++)
		fprintf(file,
			"%s{\"kind\": \"%s\", \"started_ns\": %lld, \"ended_ns\": %lld, "
			"\"own_port\": %d}",
			i ? ", " : "", load.failure[i].kind, load.failure[i].started_ns,
			load.failure[i].ended_ns, load.failure[i].own_port);
	fprintf(file, "]");
	end_report(file);
}

static void end_attempt(struct attempt *attempt)
{
	close(attempt->fd);
	*attempt = load.open[--load.open_count];
}

static void attempt_failed(struct attempt *attempt, const char *kind)
{
	struct failure *failure = &load.failure[load.failed % FAILURES_MAX];
	struct sockaddr_in own = {};
	socklen_t size = sizeof(own);

	getsockname(attempt->fd, (struct sockaddr *)&own, &size);
	/* Of more than can be listed, the first and the last ones are. */
	if (load.failed >= FAILURES_MAX)
		failure = &load.failure[FAILURES_MAX - 1];
	*failure = (struct failure){.kind = kind,
				    .started_ns = attempt->started_ns,
				    .ended_ns = clock_ns(CLOCK_REALTIME),
				    .own_port = ntohs(own.sin_port)};
	load.failed++;
	add(&load.failures, kind, attempt->started_ns);
	end_attempt(attempt);
}

static void attempt_answered(struct attempt *attempt, const struct sockaddr_in *peer)
{
	char name[65], address[16];
	long long took_ns = clock_ns(CLOCK_REALTIME) - attempt->started_ns;

	if (!read_line(attempt->answer, attempt->token, name, address)) {
		attempt_failed(attempt, "wrong");
		return;
	}
	if (peer->sin_addr.s_addr != load.target.sin_addr.s_addr ||
	    peer->sin_port != load.target.sin_port)
		load.other_peer++;
	if (took_ns > load.slowest_ns)
		load.slowest_ns = took_ns;
	load.answered++;
	add(&load.servers, name, attempt->started_ns);
	add(&load.seen, address, attempt->started_ns);
	end_attempt(attempt);
}

/* Returns whether it could be sent. */
static bool ask(struct attempt *attempt)
{
	char question[64];
	int length = snprintf(question, sizeof(question), "once %s\n", attempt->token);

	attempt->asked = true;
	if (load.kind == KIND_SENDTO)
		return sendto(attempt->fd, question, length, 0, (struct sockaddr *)&load.target,
			      sizeof(load.target)) == length;
	return send(attempt->fd, question, length, MSG_NOSIGNAL) == length;
}

static void begin_attempt(void)
{
	struct attempt *attempt = &load.open[load.open_count++];
	const struct sockaddr *target = (const struct sockaddr *)&load.target;
	int type = load.kind == KIND_TCP ? SOCK_STREAM : SOCK_DGRAM;

	*attempt = (struct attempt){.started_ns = clock_ns(CLOCK_REALTIME)};
	snprintf(attempt->token, sizeof(attempt->token), "%llx-%llx", load.begun_ns, load.started);
	load.started++;
	attempt->fd = socket(AF_INET, type | SOCK_NONBLOCK, 0);
	need(attempt->fd, "socket");
	if (load.kind != KIND_SENDTO && connect(attempt->fd, target, sizeof(load.target)) &&
	    errno != EINPROGRESS)
		attempt_failed(attempt, said(errno));
	else if (load.kind != KIND_TCP && !ask(attempt))
		attempt_failed(attempt, said(errno));
}

/* A TCP connection counts when its end has come after the line: a reset there is a failure. */
static void go_on_with_attempt(struct attempt *attempt)
{
	struct sockaddr_in peer = load.target;
	socklen_t size = sizeof(peer);
	ssize_t got;

	if (!attempt->asked) {
		int error = 0;
		socklen_t length = sizeof(error);

		getsockopt(attempt->fd, SOL_SOCKET, SO_ERROR, &error, &length);
		if (error || !ask(attempt))
			attempt_failed(attempt, said(error ? error : errno));
		return;
	}
	got = recvfrom(attempt->fd, attempt->answer + attempt->length,
		       sizeof(attempt->answer) - 1 - attempt->length, 0, (struct sockaddr *)&peer,
		       &size);
	if (got < 0) {
		if (errno != EAGAIN)
			attempt_failed(attempt, said(errno));
		return;
	}
	attempt->length += got;
	if (load.kind == KIND_SENDTO) {
		attempt_answered(attempt, &peer);
		return;
	}
	if (load.kind == KIND_TCP && got > 0)
		return;
	size = sizeof(peer);
	if (getpeername(attempt->fd, (struct sockaddr *)&peer, &size))
		peer = load.target;
	if (attempt->length)
		attempt_answered(attempt, &peer);
	else
		attempt_failed(attempt, "closed");
}

static void run_load(char **argv)
{
	static struct pollfd sockets[1 + OPEN_AT_ONCE];
	long long rate = atoll(argv[6]), next_ns, reported_ns = 0;
	int at_once = rate ? OPEN_AT_ONCE : FAST_AT_ONCE;
	bool ends = false;

	load.kind = !strcmp(argv[2], "tcp")   ? KIND_TCP
		    : !strcmp(argv[2], "udp") ? KIND_UDP
					      : KIND_SENDTO;
	report_path = argv[8];
	load.target = resolve(argv[3], atoi(argv[4]));
	load.count = atoll(argv[5]);
	load.interval_ns = rate ? NANOSECONDS_PER_SECOND / rate : 0;
	load.timeout_ns = atoll(argv[7]) * NANOSECONDS_PER_MILLISECOND;
	load.begun_ns = next_ns = clock_ns(CLOCK_REALTIME);
	sockets[0] = (struct pollfd){.fd = signals, .events = POLLIN};
	while (!ends || load.open_count) {
		long long now = clock_ns(CLOCK_REALTIME);
		long long wake_ns = now + REPORT_EVERY_NS;
		int open;

		while (!ends && next_ns <= now && load.open_count < at_once) {
			begin_attempt();
			ends = load.count && load.started == load.count;
			next_ns = load.interval_ns ? next_ns + load.interval_ns : now;
		}
		if (!ends && load.interval_ns && next_ns < wake_ns)
			wake_ns = next_ns;
		open = load.open_count;
		for (int i = 0; i < open; i++) {
			const struct attempt *attempt = &load.open[i];

			sockets[1 + i] = (struct pollfd){
				.fd = attempt->fd, .events = attempt->asked ? POLLIN : POLLOUT};
			if (attempt->started_ns + load.timeout_ns < wake_ns)
				wake_ns = attempt->started_ns + load.timeout_ns;
		}
		wait_until(sockets, 1 + open, wake_ns);
		if (told_to_end())
			ends = true;
		now = clock_ns(CLOCK_REALTIME);
		/* From the last one on: what has ended gets the place of a later one, which is done. */
		for (int i = open - 1; i >= 0; i--) {
			if (sockets[1 + i].revents)
				go_on_with_attempt(&load.open[i]);
			else if (now - load.open[i].started_ns >= load.timeout_ns)
				attempt_failed(&load.open[i], "timeout");
		}
		if (reports_on_the_way() && now - reported_ns >= REPORT_EVERY_NS) {
			report_load(false);
			reported_ns = now;
		}
	}
	report_load(true);
}

/* ---- hold ---- */

struct held {
	int fd;
	bool open;
	const char *how;
	char name[65];
	char seen[16];
	int own_port;
	int length;
	long long opened_ns;
	long long said_count;
	long long answered;
	long long answered_ns;
	long long longest_ns;
	long long broke_ns;
	char answer[160];
};

static struct held held[OPEN_AT_ONCE];
static int held_count;

static void report_held(const struct sockaddr_in *target, bool ended)
{
	FILE *file = begin_report(target, ended);

	fprintf(file, ", \"connections\": [");
	for (int i = 0; i < held_count; i++) {
		const struct held *one = &held[i];

		fprintf(file,
			"%s{\"server\": \"%s\", \"seen\": \"%s\", \"own_port\": %d, \"opened_ns\": "
			"%lld, "
			"\"said\": %lld, \"answered\": %lld, \"answered_ns\": %lld, "
			"\"longest_ns\": %lld, "
			"\"broke_ns\": %lld, \"how\": \"%s\"}",
			i ? ", " : "", one->name, one->seen, one->own_port, one->opened_ns,
			one->said_count, one->answered, one->answered_ns, one->longest_ns,
			one->broke_ns, one->how);
	}
	fprintf(file, "]");
	end_report(file);
}

static void broke(struct held *one, const char *how)
{
	one->how = how;
	one->broke_ns = clock_ns(CLOCK_REALTIME);
	close(one->fd);
	one->fd = -1;
}

static void open_held(struct held *one, const struct sockaddr_in *target)
{
	one->how = "";
	one->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	need(one->fd, "socket");
	if (connect(one->fd, (const struct sockaddr *)target, sizeof(*target)) &&
	    errno != EINPROGRESS)
		broke(one, said(errno));
}

static void say(struct held *one)
{
	char line[64];
	int length = snprintf(line, sizeof(line), "stay held\n");

	one->said_count++;
	if (send(one->fd, line, length, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
		broke(one, said(errno));
}

static void opened(struct held *one)
{
	struct sockaddr_in own = {};
	socklen_t size = sizeof(own);
	int error = 0, on = 1;
	socklen_t length = sizeof(error);

	getsockopt(one->fd, SOL_SOCKET, SO_ERROR, &error, &length);
	if (error) {
		broke(one, said(error));
		return;
	}
	getsockname(one->fd, (struct sockaddr *)&own, &size);
	one->own_port = ntohs(own.sin_port);
	one->open = true;
	one->opened_ns = one->answered_ns = clock_ns(CLOCK_REALTIME);
	/* A line that was not acknowledged does not hold up the next one. */
	setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	say(one);
}

static void hear(struct held *one)
{
	ssize_t got =
		recv(one->fd, one->answer + one->length, sizeof(one->answer) - 1 - one->length, 0);
	char *end;

	if (got <= 0) {
		if (got == 0 || errno != EAGAIN)
			broke(one, said(got ? errno : 0));
		return;
	}
	one->length += got;
	one->answer[one->length] = 0;
	while ((end = strchr(one->answer, '\n'))) {
		char name[65], seen[16];
		long long now = clock_ns(CLOCK_REALTIME);

		*end = 0;
		if (!read_line(one->answer, "held", name, seen) ||
		    (one->answered && strcmp(name, one->name))) {
			broke(one, "wrong");
			return;
		}
		strcpy(one->name, name);
		strcpy(one->seen, seen);
		if (now - one->answered_ns > one->longest_ns)
			one->longest_ns = now - one->answered_ns;
		one->answered++;
		one->answered_ns = now;
		one->length -= end + 1 - one->answer;
		memmove(one->answer, end + 1, one->length + 1);
	}
}

static void hold(char **argv)
{
	static struct pollfd sockets[1 + OPEN_AT_ONCE];
	struct sockaddr_in target = resolve(argv[2], atoi(argv[3]));
	long long interval_ns = atoll(argv[5]) * NANOSECONDS_PER_MILLISECOND;
	long long next_ns = clock_ns(CLOCK_REALTIME) + interval_ns, reported_ns = 0;
	int left;

	report_path = argv[6];
	held_count = atoi(argv[4]) < OPEN_AT_ONCE ? atoi(argv[4]) : OPEN_AT_ONCE;
	for (int i = 0; i < held_count; i++)
		open_held(&held[i], &target);
	sockets[0] = (struct pollfd){.fd = signals, .events = POLLIN};
	do {
		long long now, wake_ns = next_ns;

		for (int i = 0; i < held_count; i++)
			sockets[1 + i] = (struct pollfd){.fd = held[i].fd,
							 .events = held[i].open ? POLLIN : POLLOUT};
		if (reports_on_the_way() && reported_ns + REPORT_EVERY_NS < wake_ns)
			wake_ns = reported_ns + REPORT_EVERY_NS;
		wait_until(sockets, 1 + held_count, wake_ns);
		now = clock_ns(CLOCK_REALTIME);
		left = 0;
		for (int i = 0; i < held_count; i++) {
			struct held *one = &held[i];

			if (one->fd >= 0 && sockets[1 + i].revents)
				one->open ? hear(one) : opened(one);
			if (one->fd >= 0 && one->open && now >= next_ns)
				say(one);
			left += one->fd >= 0;
		}
		if (now >= next_ns)
			next_ns += interval_ns;
		if (reports_on_the_way() && now - reported_ns >= REPORT_EVERY_NS) {
			report_held(&target, false);
			reported_ns = now;
		}
	} while (left && !told_to_end());
	report_held(&target, true);
}

int main(int argc, char **argv)
{
	catch_signals();
	if (argc >= 4 && !strcmp(argv[1], "serve"))
		serve(argc, argv);
	else if (argc == 9 && !strcmp(argv[1], "load"))
		run_load(argv);
	else if (argc == 7 && !strcmp(argv[1], "hold"))
		hold(argv);
	else
		return 2;
	return 0;
}
