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
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from model.addresses import IPAddress, IPNetwork, MacAddress
from model.ids import EndpointId, IdentityId, Vni

if TYPE_CHECKING:
    from datapath.flow_event import FlowEvents, TrackedConnection
    from datapath.newest import Newest
    from datapath.policy_table import PolicyKey, PolicyTable, PolicyVerdict
    from datapath.sweep import Swept


@dataclass(frozen=True, slots=True, kw_only=True)
class DatapathConfig:
    """What the datapath must know of its node."""

    node_address: IPAddress
    """Underlay address: source of tunnel packets."""
    tunnel_port: int
    mtu_bytes: int
    """MTU of container interfaces that ask for no other."""
    way_out: WayOut | None = None
    """None: nothing is masqueraded."""
    cgroup: Path | None = None
    """cgroup v2 folder above all containers, for translation at sockets; None: it is not wanted or there is none."""


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
    gone: bool = False
    """Its node is lost: connections to it are reset."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the ipcache says of one address."""

    identity: IdentityId
    tunnel_endpoint: IPAddress | None
    """Underlay address of its node; None = this host."""
    ifindex: int
    """Host end of the veth pair on this host, 0 = on another."""
    gone: bool = False
    """Its node is lost: connections to it are reset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontend:
    """Where a service is asked for: a virtual address, and a port of it or all."""

    address: IPv4Address
    vni: Vni
    """Network that the address is in."""
    port: int = 0
    """0: every port; the backend gets the one that the client asked for."""
    protocol: int = 0
    """IP protocol number; 0 with port 0."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Who answers for a service."""

    address: IPv4Address
    port: int = 0
    """0: the port that the client asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balancing:
    """How new connections to a frontend are spread; those that are open are not concerned."""

    backends: tuple[Backend, ...] = ()
    """Empty: connections are refused."""
    table: Sequence[int] = ()
    """Places in ``backends``, one for each slot of the table (Maglev); empty exactly when there is no backend."""
    affinity: bool = False
    """Whether a client keeps its backend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPort:
    """A port of this host."""

    port: int
    protocol: int
    """IP protocol number."""
    address: IPv4Address | None = None
    """None: every address of the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTarget:
    """Where a published port leads to: a container of this host."""

    address: IPv4Address
    vni: Vni
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """One half of a translated connection: how its packets come, and how they go on."""

    kind: str
    """``masquerade``, ``published`` or ``service``."""
    protocol: int
    source: IPv4Address
    source_port: int
    destination: IPv4Address
    destination_port: int
    new_source: IPv4Address
    new_source_port: int
    new_destination: IPv4Address
    new_destination_port: int
    reply: bool
    """Whether these packets go against the direction that opened the connection."""
    idle_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WayOut:
    """How packets leave for the outside."""

    first_port: int
    """Masqueraded connections get a port from here ..."""
    last_port: int
    """... to here; the host itself must use none of them."""
    routed: tuple[IPv4Network, ...] = ()
    """Ranges that are reached with the container's own address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """A network that has a way out."""

    vni: Vni
    routed: bool = False
    """Whether its packets leave the host with their containers' addresses: the outside has a route back."""


class TranslationMode(enum.StrEnum):
    """Where virtual addresses are translated."""

    SOCKET = "socket"
    """At connect() and sendmsg(), by programs at a control group."""
    PACKET = "packet"
    """In every packet."""


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

        Nothing is loaded when the pinned programs were built from the same source with the same options. Calling it
        again applies a changed config.

        Raises:
            ProgramLoadError: a program did not compile or load.
            AbiMismatch: a pinned map of this ABI version has another layout.
        """
        ...

    def programs_loaded(self) -> bool | None:
        """Whether :meth:`start` had to load the programs; False: pinned ones were adopted. None before it."""
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

    def local_identities(self) -> Mapping[EndpointId, IdentityId]:
        """What each endpoint of this host is judged as; known without a question to the kernel, however many there are.

        Those whose interface has vanished are among them until they are removed.
        """
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

    def replace_networks(self, networks: Mapping[IPNetwork, NetworkSpec]) -> None:
        """Let exactly these pools reach their host and be reached by it: those of networks that are not internal."""
        ...

    def replace_services(self, services: Mapping[Frontend, Balancing]) -> None:
        """Spread new connections to exactly these frontends.

        Every virtual address gets an entry for all its ports, also when only some are served (connections to the others
        are refused). What has not changed is not written; a changed table takes the place of the old one at once.

        Raises:
            Exhausted: they do not fit; nothing of what did not fit is served.
        """
        ...

    def services(self) -> Mapping[Frontend, Balancing]:
        """The frontends and their tables, read from the kernel."""
        ...

    def replace_published(self, ports: Mapping[PublishedPort, PublishedTarget]) -> None:
        """Lead exactly these ports of this host to containers."""
        ...

    def published(self) -> Mapping[PublishedPort, PublishedTarget]:
        """The published ports, read from the kernel."""
        ...

    def translations(self, limit: int | None = None) -> Newest[Translation]:
        """The translated connections, read from the kernel; two of each; expired ones are left out.

        Those that were used last come first; with a limit no more than so many. Nobody else waits meanwhile.
        """
        ...

    def translation_mode(self) -> TranslationMode | None:
        """Where virtual addresses are translated; None before :meth:`start`."""
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

    def connections(self, limit: int | None = None) -> Newest[TrackedConnection]:
        """The tracked connections, read from the kernel; expired ones are left out.

        Those that were used last come first; with a limit no more than so many. Nobody else waits meanwhile.
        """
        ...

    def sweep(self) -> Swept:
        """Remove connections that are over from the tables. For every half minute; waits for nobody and keeps nobody.

        Without that the tables would fill with dead entries, and idle connections lose their place before their time.
        """
        ...

    def probe_half_open(self) -> int:
        """Have TCP find out where its other end has left its network, or its node was lost, since the last call.

        Who only waits would wait for ever; it is reset. What is not reset by the next call is tried once more. For
        every second; waits for nobody and keeps nobody. Returns how many connections of this host were tried.
        """
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
