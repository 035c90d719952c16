/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * program.h: what the programs of the tests have in common: they end at what must not fail, and count
 * time in nanoseconds. Include it last.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define NANOSECONDS_PER_SECOND	    1000000000LL
#define NANOSECONDS_PER_MILLISECOND 1000000LL

static inline void fail(const char *what)
{
	perror(what);
	exit(1);
}

static inline void need(int rc, const char *what)
{
	if (rc < 0)
		fail(what);
}

static inline long long clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * NANOSECONDS_PER_SECOND + now.tv_nsec;
}
