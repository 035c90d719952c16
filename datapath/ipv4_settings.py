"""IPv4 settings of single interfaces, those below /proc/sys/net/ipv4/conf, through netlink.

A plugin sees /proc/sys read-only. The kernel takes the same settings in a message about the interface, as a list that
pyroute2 can only read.

Source: ``inet_set_link_af`` in net/ipv4/devinet.c, ``IPV4_DEVCONF_*`` in linux/ip.h.
"""

from __future__ import annotations

import enum
import socket
import struct
from collections.abc import Mapping
from typing import Any, Final

from datapath.netlink import Netlink, Request

_RTM_SETLINK: Final = 19
_IFLA_AF_SPEC: Final = 26
_IFLA_INET_CONF: Final = 1
_NESTED: Final = 1 << 15
_HEADER: Final = struct.Struct("=IHHII")
_IFINFO: Final = struct.Struct("=BxHiII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_NUMBER: Final = struct.Struct("=I")


class Setting(enum.IntEnum):
    """What can be set."""

    FORWARDING = 1
    RP_FILTER = 8
    ACCEPT_LOCAL = 23
    ROUTE_LOCALNET = 26


FORWARDING: Final[Mapping[Setting, int]] = {Setting.FORWARDING: 1}
"""For interfaces whose packets are forwarded by programs: ``bpf_fib_lookup`` refuses others."""

INTO_THE_STACK: Final[Mapping[Setting, int]] = {
    Setting.FORWARDING: 1,
    # Packets come with addresses of the host and of others. Loose: the strict check of «all» would otherwise hold.
    Setting.RP_FILTER: 2,
}
"""For the pair through which programs hand packets to the host's own stack."""

FROM_ITSELF: Final[Mapping[Setting, int]] = {Setting.ACCEPT_LOCAL: 1, Setting.ROUTE_LOCALNET: 1}
"""For loopback, where answers of published ports come in: from the host's own addresses, 127.0.0.1 among them."""


class _Message:
    """A message of :class:`datapath.netlink.Encodable`'s form."""

    def __init__(self, ifindex: int, settings: Mapping[Setting, int]) -> None:
        conf = b"".join(_attribute(setting, _NUMBER.pack(value)) for setting, value in settings.items())
        inet = _attribute(socket.AF_INET | _NESTED, _attribute(_IFLA_INET_CONF | _NESTED, conf))
        self.data = bytearray()
        self._body = _IFINFO.pack(socket.AF_UNSPEC, 0, ifindex, 0, 0) + _attribute(_IFLA_AF_SPEC | _NESTED, inet)
        self._header: dict[str, int] = {}

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "header":
            self._header = value

    def encode(self) -> None:
        """Fill ``data``."""
        header = self._header
        length = _HEADER.size + len(self._body)
        self.data = bytearray(
            _HEADER.pack(length, header["type"], header["flags"], header["sequence_number"], header["pid"]) + self._body
        )


def request(ifindex: int, settings: Mapping[Setting, int]) -> Request:
    """What changes the settings of an interface."""
    return Request(_Message(ifindex, settings), _RTM_SETLINK)


def apply(netlink: Netlink, *, ifindex: int, settings: Mapping[Setting, int]) -> None:
    """Change the settings of an interface.

    Raises:
        LinkError: the kernel refused; ENODEV when the interface is gone.
    """
    netlink.execute(f"configure IPv4 of interface {ifindex}", [request(ifindex, settings)])


def _attribute(kind: int, value: bytes) -> bytes:
    """All values here fill whole words, so none is padded."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value
