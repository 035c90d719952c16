/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * drop.h: how a function says that a packet has to be dropped.
 *
 * Public: DROP, drop_reason, drop_line, drop_file.
 *
 * The negative result carries the reason and where it was found, so that an event can name the
 * line. HAWSE_FILE is the number of the source file, kept up to date by datapath/source.py.
 */
#pragma once

#include "abi.h"

#define DROP(reason) (-(int)(HAWSE_FILE << 24 | (__LINE__ & 0x7fff) << 8 | (reason)))

static __always_inline __u8 drop_reason(int result)
{
	return -result & 0xff;
}

static __always_inline __u16 drop_line(int result)
{
	return -result >> 8 & 0x7fff;
}

static __always_inline __u8 drop_file(int result)
{
	return -result >> 24 & 0x7f;
}
