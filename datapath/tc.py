"""Attaches a BPF program to the ingress of an interface.

The filter has a fixed priority and handle, so attaching again replaces the program in place: no packet passes
unfiltered in between.
"""

from __future__ import annotations

import errno
from typing import Final

from datapath.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Netlink, Request
from datapath.netlink_messages import tcmsg

_RTM_NEWQDISC: Final = 36
_RTM_NEWTFILTER: Final = 44
_CLSACT: Final = 0xFFFFFFF1
_CLSACT_HANDLE: Final = 0xFFFF0000
_INGRESS: Final = 0xFFFFFFF2
_PRIORITY: Final = 1
_HANDLE: Final = 1
_ETH_P_ALL_WIRE: Final = 0x0300
_DIRECT_ACTION: Final = 1


def attach_ingress(netlink: Netlink, *, ifindex: int, program_fd: int, name: str) -> None:
    """Run the program on every packet that comes in through the interface. Idempotent.

    Raises:
        LinkError: the kernel refused; ENODEV when the interface is gone.
    """
    qdisc = tcmsg()
    qdisc["index"] = ifindex
    qdisc["parent"] = _CLSACT
    qdisc["handle"] = _CLSACT_HANDLE
    qdisc["attrs"] = [("TCA_KIND", "clsact")]
    program = tcmsg()
    program["index"] = ifindex
    program["parent"] = _INGRESS
    program["handle"] = _HANDLE
    program["info"] = _PRIORITY << 16 | _ETH_P_ALL_WIRE
    options = [("TCA_BPF_FD", program_fd), ("TCA_BPF_NAME", name), ("TCA_BPF_FLAGS", _DIRECT_ACTION)]
    program["attrs"] = [("TCA_KIND", "bpf"), ("TCA_OPTIONS", {"attrs": options})]
    netlink.execute(
        f"attach {name} to interface {ifindex}",
        [
            Request(qdisc, _RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, harmless=frozenset({errno.EEXIST})),
            Request(program, _RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_REPLACE),
        ],
    )
