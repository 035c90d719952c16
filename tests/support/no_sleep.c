/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * no_sleep.c: preloaded into sockperf, which sleeps for two seconds after it has connected by TCP and measures nothing
 * meanwhile: longer than the measurement itself takes.
 */

unsigned int sleep(unsigned int seconds);

unsigned int sleep(unsigned int seconds)
{
	(void)seconds;
	return 0;
}
