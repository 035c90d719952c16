"""The BPF programs and maps of a datapath that stands, fed with single packets through BPF_PROG_TEST_RUN.

No interface and no container is needed for that: a test run comes in through the loopback interface, so whoever sends
is made its endpoint for the length of the run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Final

from datapath import abi, bpf_syscalls, entries, maps
from datapath.abi import DropReason
from datapath.api import DatapathConfig, EndpointSpec, IpcacheKey, RemoteEndpoint
from datapath.flow_event import FlowEvent, FlowVerdict
from datapath.linux import LinuxDatapath
from datapath.maps import TypedMap
from datapath.pins import Pins
from datapath.policy_maps import prefix_key
from datapath.policy_table import PolicyTable
from datapath.programs import open_programs
from model.ids import IDENTITY_INIT, IdentityId, Vni
from tests.support import frames
from tests.support.frames import ethernet, ipv4
from tests.support.netns import Namespaces
from tests.support.overlay import MTU, TUNNEL_PORT, VNI, an_endpoint

LOOPBACK: Final = 1
NODE: Final = IPv4Address("10.77.0.1")
OTHER_NODE: Final = IPv4Address("10.77.0.2")
_SHOT: Final = 2
_REDIRECT: Final = 7
_IFINDEX_OF_ANYONE: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """An address of a network and who has it."""

    address: str
    identity: int
    vni: Vni = VNI
    here: bool = True

    @property
    def spec(self) -> EndpointSpec:
        """Of one that is on this host."""
        return an_endpoint(
            self.address, vni=self.vni, endpoint_id=self.address, identity=IdentityId(self.identity), gateway="10.5.0.1"
        )

    def as_identity(self, identity: int) -> End:
        """The same container after its labels became known."""
        return dataclasses.replace(self, identity=identity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a packet, and what was reported of it."""

    passed: bool
    events: tuple[FlowEvent, ...]

    @property
    def reason(self) -> DropReason:
        """Why it was dropped; FORWARDED when it was not."""
        return DropReason(0) if self.passed else DropReason(self.events[-1].reason)

    @property
    def verdicts(self) -> list[FlowVerdict]:
        """Of the reports, in order."""
        return [event.verdict for event in self.events]


class PolicyBench:
    """A datapath, and its maps beside it. Packets between containers are in the network :data:`VNI`."""

    def __init__(self, datapath: LinuxDatapath, root: Path) -> None:
        self.datapath = datapath
        where = Pins(root)
        with contextlib.ExitStack() as undo:
            self.programs = open_programs(where)
            undo.callback(self.programs.close)
            self.endpoints = TypedMap(where.maps, "hawse_endpoints", maps.ENDPOINTS)
            undo.callback(self.endpoints.close)
            self.ipcache = TypedMap(where.maps, "hawse_ipcache", maps.IPCACHE)
            undo.callback(self.ipcache.close)
            self.conntrack = TypedMap(where.maps, "hawse_conntrack", maps.CONNTRACK)
            undo.callback(self.conntrack.close)
            self.memo = TypedMap(where.maps, "hawse_memo", maps.MEMO)
            undo.callback(self.memo.close)
            self.identities = TypedMap(where.maps, "hawse_identities", maps.IDENTITIES)
            undo.callback(self.identities.close)
            self.fragments = TypedMap(where.maps, "hawse_fragments", maps.FRAGMENTS)
            undo.callback(self.fragments.close)
            self.limits = TypedMap(where.maps, "hawse_event_limits", maps.EVENT_LIMITS)
            undo.callback(self.limits.close)
            self.networks = TypedMap(where.maps, "hawse_networks", maps.NETWORKS)
            undo.callback(self.networks.close)
            self._close = undo.pop_all()
        self._fresh_ports = itertools.cycle(range(1024, 65000))
        self._sending: End | None = None

    def close(self) -> None:
        """Close the maps; the datapath is the caller's."""
        self._close.close()

    def reset(self) -> None:
        """Nobody is anywhere, nothing is tracked or reported, nothing is known to policy."""
        self.endpoints.sync([])
        self.ipcache.sync([])
        self.networks.sync([])
        self.datapath.replace_nodes([])
        self.forget_connections()
        self.datapath.apply_policy(PolicyTable())
        self.datapath.flow_events()
        self._sending = None

    def forget_connections(self) -> None:
        """Empty the connection tracking, that of fragments too."""
        self.conntrack.sync([])
        self.memo.sync([])
        self.fragments.sync([])

    def place(self, *ends: End) -> None:
        """Put containers where they are; an address that is placed already gets its new identity."""
        self.ipcache.update_many(
            (
                entries.ipcache_key(IpcacheKey(end.vni, IPv4Address(end.address))),
                entries.local_place(end.spec, _IFINDEX_OF_ANYONE)
                if end.here
                else entries.remote_place(
                    RemoteEndpoint(tunnel_endpoint=OTHER_NODE, identity=IdentityId(end.identity))
                ),
            )
            for end in ends
        )

    def fresh_port(self) -> int:
        """A source port that no packet had lately."""
        return next(self._fresh_ports)

    def send(  # from, to, what
        self,
        source: End,
        target: End,
        payload: bytes,
        protocol: int = frames.ICMP,
        *,
        fragment: int = 0,
        identification: int = 1,
        total: int | None = None,
    ) -> Outcome:
        """Let a container of this host send an IPv4 packet."""
        return self.send_packet(
            source,
            ipv4(
                payload,
                source=source.address,
                target=target.address,
                protocol=protocol,
                fragment=fragment,
                identification=identification,
                total=total,
            ),
        )

    def send_packet(self, source: End, packet: bytes) -> Outcome:
        """Let a container of this host send an IPv4 packet that is made already."""
        if self._sending != source:
            self.endpoints.update(abi.EndpointKey(ifindex=LOOPBACK), entries.endpoint_value(source.spec))
            self._sending = source
        return self.run(self.programs.from_container, ethernet(packet, source=str(source.spec.mac)))

    def send_from_host(self, source: str, target: End, payload: bytes, protocol: int = frames.ICMP) -> Outcome:
        """Let the stack of this host hand on an IPv4 packet, of its own or from outside."""
        packet = ipv4(payload, source=source, target=target.address, protocol=protocol)
        return self.run(self.programs.from_host, ethernet(packet, source=frames.ROUTER))

    def open_to_host(self, pool: str, vni: Vni = VNI) -> None:
        """Let a network have a way out, and in."""
        key = prefix_key(ip_network(pool))
        self.networks.update(key, abi.NetworkValue(vni=vni))

    def run(self, program_fd: int, frame: bytes) -> Outcome:
        """Run a program on a frame."""
        verdict = bpf_syscalls.run_program(program_fd, frame).verdict
        assert verdict in {_SHOT, _REDIRECT}
        return Outcome(passed=verdict == _REDIRECT, events=self.datapath.flow_events().events)

    def entry(self) -> tuple[abi.ConntrackKey, abi.ConntrackValue]:
        """The only connection that is tracked."""
        ((key, value),) = self.conntrack.items()
        return key, value

    def age(self, seconds: int) -> None:
        """Make every connection look as if its last packet were that much older."""
        for key, value in list(self.conntrack.items()):
            value.seen_s = (value.seen_s - seconds) % 2**32
            self.conntrack.update(key, value)


@contextlib.contextmanager
def standing_bench(bpf_root: Path) -> Iterator[PolicyBench]:
    """A bench in a network namespace of its own; all of it is gone afterwards."""
    namespaces = Namespaces()
    namespace = namespaces.make("bench")
    root = bpf_root / namespace.name
    with namespace.entered():
        datapath = LinuxDatapath(root=root)
    try:
        datapath.start(DatapathConfig(node_address=NODE, tunnel_port=TUNNEL_PORT, mtu_bytes=MTU))
        bench = PolicyBench(datapath, root)
        try:
            yield bench
        finally:
            bench.close()
    finally:
        datapath.destroy()
        datapath.close()
        namespaces.close()


WEB: Final = End(address="10.5.0.2", identity=300)
DB: Final = End(address="10.5.0.3", identity=301)
CACHE: Final = End(address="10.5.0.4", identity=302)
FAR: Final = End(address="10.5.0.5", identity=303, here=False)
NEW: Final = End(address="10.5.0.6", identity=IDENTITY_INIT)
