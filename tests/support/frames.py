"""Builds Ethernet frames byte by byte, good ones and bad ones."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from typing import Final

ROUTER: Final = "02:68:61:77:73:65"
BROADCAST: Final = "ff:ff:ff:ff:ff:ff"

IPV4: Final = 0x0800
ARP: Final = 0x0806
VLAN: Final = 0x8100
IPV6: Final = 0x86DD

ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
GRE: Final = 47
SCTP: Final = 132

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
ACK: Final = 0x10

MORE_FRAGMENTS: Final = 0x2000

SCTP_DATA: Final = 0
SCTP_INIT: Final = 1
SCTP_INIT_ACK: Final = 2


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def checksum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(payload: bytes, *, source: str, target: str = ROUTER, kind: int = IPV4) -> bytes:
    return mac(target) + mac(source) + kind.to_bytes(2, "big") + payload


def vlan(frame: bytes, tag: int) -> bytes:
    """Put a VLAN tag into a frame."""
    return frame[:12] + struct.pack("!HH", VLAN, tag) + frame[12:]


def ipv4(
    payload: bytes,
    *,
    source: str,
    target: str,
    protocol: int = ICMP,
    fragment: int = 0,
    total: int | None = None,
    first_byte: int = 0x45,
    identification: int = 1,
) -> bytes:
    length = 20 + len(payload) if total is None else total
    header = struct.pack(
        "!BBHHHBBH4s4s",
        first_byte,
        0,
        length,
        identification,
        fragment,
        64,
        protocol,
        0,
        IPv4Address(source).packed,
        IPv4Address(target).packed,
    )
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + payload


def echo(*, kind: int = 8, data: bytes = b"hawse" * 8, ident: int = 7) -> bytes:
    """ICMP echo request (8) or reply (0)."""
    return icmp(kind, struct.pack("!HH", ident, 1) + data)


def icmp(kind: int, body: bytes = bytes(4), *, code: int = 0) -> bytes:
    """Any ICMP message; the body begins after the checksum."""
    message = struct.pack("!BBH", kind, code, 0) + body
    return message[:2] + checksum(message).to_bytes(2, "big") + message[4:]


def icmp_error(packet: bytes, *, kind: int = 3, code: int = 3) -> bytes:
    """An ICMP error about an IPv4 packet; it quotes the header and the first 8 bytes."""
    return icmp(kind, bytes(4) + packet[: (packet[0] & 15) * 4 + 8], code=code)


def tcp(flags: int, *, source_port: int = 40000, port: int, data: bytes = b"") -> bytes:
    return struct.pack("!HHIIBBHHH", source_port, port, 1, 1, 5 << 4, flags, 0xFFFF, 0, 0) + data


def udp(data: bytes, *, port: int, source_port: int = 40000) -> bytes:
    return struct.pack("!HHHH", source_port, port, 8 + len(data), 0) + data


def sctp(chunk: int, *, source_port: int = 40000, port: int) -> bytes:
    """A packet with one chunk."""
    return struct.pack("!HHIIBBH", source_port, port, 1, 0, chunk, 0, 20) + bytes(16)


def arp(
    *, sender_mac: str, sender: str, target: str, operation: int = 1, target_mac: str = "00:00:00:00:00:00"
) -> bytes:
    return (
        struct.pack("!HHBBH", 1, IPV4, 6, 4, operation)
        + mac(sender_mac)
        + IPv4Address(sender).packed
        + mac(target_mac)
        + IPv4Address(target).packed
    )


def vxlan(frame: bytes, *, vni: int, group: int | None) -> bytes:
    """VXLAN with the group policy extension; None: without it."""
    flags = 0x08000000 if group is None else 0x88000000 | group
    return struct.pack("!II", flags, vni << 8) + frame
