/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * underlay.c: from_underlay, at tc ingress of every interface to the outside.
 */
#include <linux/pkt_cls.h>

#include "lib/maps.h"

int from_underlay(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}
