"""Attaches BPF programs to interfaces and detaches them.

A filter has a fixed priority and handle, so attaching again replaces the program in place: no packet passes unfiltered
in between. On interfaces that are not ours other filters may stand: ours have a priority and a handle that nobody else
gets by chance, and a qdisc for filters that is there already is used as it is.

Source: tc-bpf(8), linux/pkt_sched.h.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final

from datapath.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Netlink, Request
from datapath.netlink_messages import tcmsg

_RTM_NEWQDISC: Final = 36
_RTM_NEWTFILTER: Final = 44
_RTM_DELTFILTER: Final = 45
_CLSACT: Final = 0xFFFFFFF1
_CLSACT_HANDLE: Final = 0xFFFF0000
_INGRESS: Final = 0xFFFFFFF2
_EGRESS: Final = 0xFFFFFFF3
_ETH_P_ALL_WIRE: Final = 0x0300
_DIRECT_ACTION: Final = 1
_SHARED_PRIORITY: Final = 104
"""The letter h; filters without a priority of their own get 49152 and less, one after the other."""
_SHARED_HANDLE: Final = 0x68617773
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENODEV, errno.EINVAL})
"""No such filter, no such interface, no qdisc or a filter of another kind."""


@dataclass(frozen=True, slots=True)
class Hook:
    """Where on an interface a filter of ours stands."""

    parent: int
    priority: int
    handle: int


OWN_INGRESS: Final = Hook(_INGRESS, 1, 1)
"""What comes in through an interface that is ours."""
SHARED_INGRESS: Final = Hook(_INGRESS, _SHARED_PRIORITY, _SHARED_HANDLE)
"""What comes in through an interface that is the host's."""
SHARED_EGRESS: Final = Hook(_EGRESS, _SHARED_PRIORITY, _SHARED_HANDLE)
"""What leaves through it."""


def attach(netlink: Netlink, *, ifindex: int, hook: Hook, program_fd: int, name: str) -> None:
    """Run the program on every packet that passes the hook. Idempotent.

    Raises:
        LinkError: the kernel refused; ENODEV when the interface is gone.
    """
    requests = requests_to_attach(ifindex=ifindex, hook=hook, program_fd=program_fd, name=name)
    netlink.execute(f"attach {name} to interface {ifindex}", requests)


def requests_to_attach(*, ifindex: int, hook: Hook, program_fd: int, name: str) -> list[Request]:
    """What :func:`attach` asks of the kernel, to be sent with something else."""
    qdisc = tcmsg()
    qdisc["index"] = ifindex
    qdisc["parent"] = _CLSACT
    qdisc["handle"] = _CLSACT_HANDLE
    qdisc["attrs"] = [("TCA_KIND", "clsact")]
    options = [("TCA_BPF_FD", program_fd), ("TCA_BPF_NAME", name), ("TCA_BPF_FLAGS", _DIRECT_ACTION)]
    return [
        Request(qdisc, _RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, harmless=frozenset({errno.EEXIST})),
        Request(
            _filter(ifindex, hook, ("TCA_OPTIONS", {"attrs": options})),
            _RTM_NEWTFILTER,
            NLM_F_CREATE | NLM_F_REPLACE,
        ),
    ]


def detach(netlink: Netlink, *, ifindex: int, hook: Hook) -> None:
    """Remove our filter, and nothing else; one that is not there is no error.

    Raises:
        LinkError: the kernel refused.
    """
    request = Request(_filter(ifindex, hook), _RTM_DELTFILTER, harmless=_NOT_THERE)
    netlink.execute(f"detach from interface {ifindex}", [request])


def _filter(ifindex: int, hook: Hook, *more: tuple[str, object]) -> tcmsg:
    message = tcmsg()
    message["index"] = ifindex
    message["parent"] = hook.parent
    message["handle"] = hook.handle
    message["info"] = hook.priority << 16 | _ETH_P_ALL_WIRE
    message["attrs"] = [("TCA_KIND", "bpf"), *more]
    return message
