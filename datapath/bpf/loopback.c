/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * loopback.c: from_loopback, at tc egress of the host's loopback, while ports are published.
 */
#include <linux/pkt_cls.h>

#include "lib/maps.h"

int from_loopback(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}
