"""Frames that the agent itself sends, to somebody on this host."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final

from datapath import names
from datapath.flow_event import TransportEnd
from model.addresses import MacAddress
from model.errors import DatapathError

_ETHERNET: Final = struct.Struct("!6s6sH")
_IPV4: Final = struct.Struct("!BBHHHBBH4s4s")
_TCP: Final = struct.Struct("!HHIIBBHHH")
_PSEUDO_HEADER: Final = struct.Struct("!4s4sBBH")
_ETHERTYPE_IPV4: Final = 0x0800
_VERSION_AND_LENGTH: Final = 0x45
_DO_NOT_FRAGMENT: Final = 0x4000
_TTL: Final = 64
_TCP_OFFSET: Final = 5 << 4
_ACK: Final = 0x10
_NO_RECEIVER: Final = frozenset({errno.ENXIO, errno.ENODEV, errno.ENETDOWN})


def tcp_acknowledgment(source: TransportEnd, destination: TransportEnd, *, mac: MacAddress, sequence: int) -> bytes:
    """The frame of a TCP segment without data that acknowledges the byte before number 0 (RFC 9293, 3.1).

    Args:
        source: whom it is from.
        destination: whom it is for.
        mac: of the receiver; the sender is the router of all networks.
        sequence: its sequence number.
    """
    addresses = source.address.packed, destination.address.packed
    pseudo_header = _PSEUDO_HEADER.pack(*addresses, 0, socket.IPPROTO_TCP, _TCP.size)

    def tcp(checksum: int) -> bytes:
        return _TCP.pack(source.port, destination.port, sequence, 0, _TCP_OFFSET, _ACK, 0, checksum, 0)

    def ipv4(checksum: int) -> bytes:
        return _IPV4.pack(
            _VERSION_AND_LENGTH, 0, _IPV4.size + _TCP.size, 0, _DO_NOT_FRAGMENT, _TTL, socket.IPPROTO_TCP, checksum,
            *addresses,
        )  # fmt: skip

    return b"".join((
        _ETHERNET.pack(mac.packed, names.router_mac().packed, _ETHERTYPE_IPV4),
        ipv4(_checksum(ipv4(0))),
        tcp(_checksum(pseudo_header + tcp(0))),
    ))  # fmt: skip


class FrameSender:
    """Sends frames out through interfaces of the network namespace that it was made in.

    Raises:
        DatapathError: the kernel refused the socket.
    """

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # protocol 0: it receives nothing
        except OSError as error:
            raise DatapathError(f"open a packet socket: {error.strerror}; the agent needs CAP_NET_RAW") from error

    def send(self, ifname: str, frame: bytes) -> bool:
        """Send it; returns whether there is such an interface, and it is up.

        Raises:
            DatapathError: the kernel refused.
        """
        try:
            self._socket.sendto(frame, (ifname, 0))
        except OSError as error:
            if error.errno in _NO_RECEIVER:
                return False
            raise DatapathError(f"send a frame out through {ifname}: {error.strerror}") from error
        return True

    def close(self) -> None:
        """Release the socket; idempotent."""
        self._socket.close()


def _checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
