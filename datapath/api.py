"""The seam to the kernel: what the upper floors may ask of the datapath.

Two implementations, one contract suite (``tests/contract/test_datapath.py``): :class:`datapath.linux.LinuxDatapath` and
:class:`datapath.fake.FakeDatapath`.

How packets go (ADR 0003):

1. Every container interface is a veth pair. Its host end carries one tc filter (ingress: ``from_container``); programs
   are shared, what differs per endpoint stands in maps keyed by the host end's ifindex.
2. ``from_container`` checks the source, answers ARP, looks the destination up in the ipcache ``{vni, address}`` and
   delivers: on this host by ``bpf_redirect_peer``, on another through the one VXLAN device (VNI = network, GBP =
   identity).
3. ``from_overlay`` (tc ingress of the VXLAN device) accepts packets of known nodes only and delivers the same way.

Cost per endpoint on its own host: one map entry by ifindex and one ipcache entry per address; on every other host: one
ipcache entry per address. No bridge, no FDB, no neighbour entry, no iptables rule.

Programs, maps and links outlive the agent. Every method is idempotent and safe to call from any thread.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from model.addresses import IPAddress, IPNetwork, MacAddress
from model.ids import EndpointId, IdentityId, Vni

if TYPE_CHECKING:
    from datapath.flow_event import FlowEvents, TrackedConnection
    from datapath.policy_table import PolicyKey, PolicyTable, PolicyVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class DatapathConfig:
    """What the datapath must know of its node."""

    node_address: IPAddress
    """Underlay address: source of tunnel packets."""
    tunnel_port: int
    mtu_bytes: int
    """MTU of container interfaces that ask for no other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSpec:
    """What the datapath must know to connect one container interface."""

    endpoint_id: EndpointId
    vni: Vni
    addresses: tuple[IPAddress, ...]
    mac: MacAddress
    identity: IdentityId
    mtu_bytes: int
    gateway: IPAddress | None = None
    """Gateway of the network; it answers pings. None: the network has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalEndpoint:
    """A container interface as the kernel has it."""

    endpoint_id: EndpointId
    host_ifname: str
    """Name of the host end, at most 15 characters."""
    container_ifname: str
    """Name of the other end while it is still in the host's namespace; Docker moves and renames it."""
    ifindex: int
    in_container: bool = False
    """Whether Docker has moved the other end into a container: then it is in use, whatever the records say."""
    spec: EndpointSpec | None
    """What the maps say of it; None when the interface has no map entry (a half-made or foreign-ABI endpoint)."""


@dataclass(frozen=True, slots=True)
class IpcacheKey:
    """Names one destination: an address inside one network."""

    vni: Vni
    address: IPAddress


@dataclass(frozen=True, slots=True)
class RemoteEndpoint:
    """A destination on another node."""

    tunnel_endpoint: IPAddress
    """Underlay address of the node it is on."""
    identity: IdentityId


@dataclass(frozen=True, slots=True)
class Place:
    """What the ipcache says of one address."""

    identity: IdentityId
    tunnel_endpoint: IPAddress | None
    """Underlay address of its node; None = this host."""
    ifindex: int
    """Host end of the veth pair on this host, 0 = on another."""


class Direction(enum.StrEnum):
    """Which way a packet was going, seen from the container."""

    EGRESS = "egress"
    INGRESS = "ingress"


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketCounter:
    """Packets and bytes with one outcome; summed over CPUs, monotonic as long as the pinned map lives.

    A packet is counted once on a node, by the hook that decided: leaving a container as egress, out of the tunnel as
    ingress. ARP that is answered or swallowed is not counted.
    """

    reason: int
    """0 = forwarded, otherwise the drop reason's number (Cilium's numbering)."""
    text: str
    """The reason in words, from ``abi.h``."""
    direction: Direction
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One kernel capability that was probed at start, not guessed from a version."""

    name: str
    available: bool
    required: bool
    detail: str
    """Why it is not available or what is used instead; empty when available."""


class Datapath(Protocol):
    """The kernel side of one node.

    Methods that change something raise:
        DatapathError: the kernel refused; what was begun has been undone.
        Exhausted: a map is full.
    """

    def start(self, config: DatapathConfig) -> None:
        """Make the tunnel device, programs and maps stand; adopt what is pinned and unchanged.

        Nothing is compiled when the pinned programs were built from the same source with the same options. Calling it
        again applies a changed config.

        Raises:
            ProgramLoadError: a program did not compile or load.
            AbiMismatch: a pinned map of this ABI version has another layout.
        """
        ...

    def programs_compiled(self) -> bool | None:
        """Whether :meth:`start` had to compile the programs; False: pinned ones were adopted. None before it."""
        ...

    def features(self) -> Sequence[Feature]:
        """The probed kernel features, required ones first."""
        ...

    def ensure_endpoint(self, spec: EndpointSpec) -> LocalEndpoint:
        """Connect a container interface: veth pair, filter, then its map entries last (nothing passes before that).

        Same spec again = the same answer and no change; another spec for the same id replaces addresses, MAC and
        identity.
        """
        ...

    def remove_endpoint(self, endpoint_id: EndpointId) -> None:
        """Disconnect: map entries first, then filter and veth pair. Unknown ids and vanished links are no error."""
        ...

    def local_endpoints(self) -> Sequence[LocalEndpoint]:
        """Every hawse interface of this host, read from the kernel."""
        ...

    def replace_remotes(self, remotes: Mapping[IpcacheKey, RemoteEndpoint]) -> None:
        """Make the remote part of the ipcache exactly this: add and change first, delete last. Local entries stay."""
        ...

    def update_remotes(self, upserts: Mapping[IpcacheKey, RemoteEndpoint], deletes: Iterable[IpcacheKey]) -> None:
        """Change some remote entries in as few system calls as possible; unknown deletes are no error."""
        ...

    def replace_nodes(self, addresses: Iterable[IPAddress]) -> None:
        """Accept tunnel packets from exactly these underlay addresses."""
        ...

    def replace_networks(self, networks: Mapping[IPNetwork, Vni]) -> None:
        """Let exactly these pools reach their host and be reached by it: those of networks that are not internal."""
        ...

    def apply_policy(self, table: PolicyTable) -> int:
        """Make the kernel judge by this table; returns the policy epoch, which every change raises.

        Step by step (:mod:`datapath.policy_change`), so that nothing passes that neither the old nor the new table
        allows, the epoch last; every known connection is judged again at its next packet. The same table again changes
        nothing, but for the first time after :meth:`start`.

        Raises:
            Exhausted: the entries do not fit; the kernel judges as before.
        """
        ...

    def policy_entries(self) -> Mapping[PolicyKey, PolicyVerdict]:
        """The policy entries, read from the kernel."""
        ...

    def policy_prefixes(self) -> Mapping[IPNetwork, int]:
        """Identities of address prefixes, read from the kernel: numbers that must not be given to others."""
        ...

    def ipcache(self) -> Mapping[IpcacheKey, Place]:
        """Where every address is, read from the kernel."""
        ...

    def connections(self) -> Sequence[TrackedConnection]:
        """The tracked connections, read from the kernel; expired ones are left out."""
        ...

    def flow_events(self) -> FlowEvents:
        """Take what the kernel has reported since the last call, in order; does not wait. One caller at a time."""
        ...

    def counters(self) -> Sequence[PacketCounter]:
        """Counters that are not zero, forwarded ones too."""
        ...

    def destroy(self) -> None:
        """Remove every link, filter, map and program of hawse from this host (uninstall).

        Running endpoints lose their network.
        """
        ...

    def close(self) -> None:
        """Release file descriptors and sockets; everything in the kernel stays. Idempotent."""
        ...
