/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * checksum.h: the checksum of IPv4, TCP and ICMP (RFC 1071).
 *
 * Public: checksum_fold.
 */
#pragma once

/* Of what bpf_csum_diff has summed up; of a header that has its checksum, 0 when it is right. */
static __always_inline __be16 checksum_fold(__s64 sum)
{
	__u64 folded = sum & 0xffffffff;

	folded = (folded & 0xffff) + (folded >> 16);
	folded = (folded & 0xffff) + (folded >> 16);
	return ~folded & 0xffff;
}
