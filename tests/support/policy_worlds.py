"""Random small clusters: policies, label sets, addresses, and the packets whose judgement is interesting.

There are few labels, ports and prefixes, so that they meet all the time.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from hypothesis import strategies as st

from model.addresses import IPAddress, IPNetwork
from model.identities import CIDR_IDENTITY_BASE, IDENTITY_MIN
from model.ids import (
    IDENTITY_HEALTH,
    IDENTITY_HOST,
    IDENTITY_INIT,
    IDENTITY_REMOTE_NODE,
    IDENTITY_UNMANAGED,
    IDENTITY_WORLD,
    IdentityId,
)
from model.labels import STACK_LABEL, Labels
from model.policies import (
    NAMESPACE_NAME_LABEL,
    PORT_MAX,
    CidrPeer,
    Entity,
    Operator,
    Peer,
    Policy,
    PolicyMode,
    PortMatch,
    Protocol,
    Requirement,
    Rule,
    Selector,
)
from policy.compiler import PolicyInputs, prefixes_of
from tests.support.policy_reference import End

LABELS: Final = {"app": ("web", "db"), "tier": ("a", "b"), STACK_LABEL: ("shop", "bank")}
NAMED_PORTS: Final = {"hawse.port.sql": ("5432/tcp", "53/udp", "443/tcp"), "hawse.port.www": ("80/tcp", "443/sctp")}
RESERVED: Final = (
    IDENTITY_HOST,
    IDENTITY_WORLD,
    IDENTITY_UNMANAGED,
    IDENTITY_HEALTH,
    IDENTITY_INIT,
    IDENTITY_REMOTE_NODE,
)
RESERVED_LABELS: Final = ("reserved:init", "reserved:host", "reserved:world")
NAMESPACES: Final = ("shop", "bank", "default")
PREFIXES: Final[tuple[IPNetwork, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.0.0/24",
        "10.1.2.0/24",
        "10.1.2.3/32",
        "192.0.2.0/25",
        "::/0",
        "fd00::/8",
        "fd00:1::/32",
        "fd00:1::1/128",
    )
)
ADDRESSES: Final[tuple[IPAddress, ...]] = tuple(
    ipaddress.ip_address(text)
    for text in (
        "10.1.2.3",
        "10.1.2.4",
        "10.1.0.7",
        "10.1.9.9",
        "10.9.9.9",
        "192.0.2.1",
        "192.0.2.200",
        "fd00:1::1",
        "fd00:1::2",
        "fd00::1",
        "2001:db8::1",
    )
)
EDGES: Final = (0, 1, 53, 80, 81, 443, 1023, 1024, 5432, 65534, 65535)
ECHO_REQUEST: Final = 8
GRE: Final = 47
"""A protocol that no rule can name."""

_CHOICES: Final = 512

_PORTS: Final = frozenset(range(PORT_MAX + 1))

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One cluster as one host sees it."""

    policies: tuple[Policy, ...]
    identities: Mapping[IdentityId, Labels]
    """All of them have endpoints here."""
    addresses: tuple[IPAddress, ...]
    """Outside of the cluster."""
    reserved: tuple[IdentityId, ...]
    """Other ends that are asked about; ``init`` is always among them."""
    mode: PolicyMode
    prefix_identities: Mapping[IPNetwork, int]
    packets: tuple[tuple[int, int], ...]
    """Protocols and destination ports (of ICMP: message types) to ask about."""

    @property
    def inputs(self) -> PolicyInputs:
        return PolicyInputs(
            policies=self.policies,
            identities=self.identities,
            local=frozenset(self.identities),
            mode=self.mode,
            prefix_identities=self.prefix_identities,
        )

    @property
    def remotes(self) -> tuple[End, ...]:
        """All ends, as they are to the reference."""
        return (*self.identities.values(), *self.reserved, *self.addresses)

    def number_of(self, end: End) -> int:
        """The identity that an end has in the kernel."""
        if isinstance(end, int):
            return end
        if isinstance(end, Labels):
            return next(number for number, labels in self.identities.items() if labels == end)
        around = [prefix for prefix in self.prefix_identities if end in prefix]
        return self.prefix_identities[max(around, key=lambda one: one.prefixlen)] if around else IDENTITY_WORLD

    @property
    def endpoints(self) -> tuple[End, ...]:
        """The ends that have policies of their own."""
        return (*self.identities.values(), IDENTITY_INIT)


def worlds() -> st.SearchStrategy[World]:
    """Worlds for hypothesis, that shrink with the bytes that they are made from."""
    return st.binary(min_size=_CHOICES, max_size=_CHOICES).map(lambda data: world_from(_Choices(data)))


class _Choices(random.Random):
    """Choices that are written down beforehand, one a byte; zeros when they are used up.

    Much faster than asking hypothesis for every single one.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._left = iter(data)

    def getrandbits(self, k: int) -> int:
        return next(self._left, 0) % (1 << k)


def random_world(seed: int) -> World:
    """The world of a seed, the same in every run."""
    return world_from(random.Random(seed))


def world_from(choice: random.Random) -> World:
    """A world made by these choices."""
    labels = {_labels(choice) for _ in range(choice.randint(1, 3))}
    policies = tuple(_policy(choice, f"p{at}") for at in range(choice.randint(1, 4)))
    named = sorted(prefixes_of(policies), key=str)
    return World(
        policies=policies,
        identities={IdentityId(IDENTITY_MIN + at): one for at, one in enumerate(sorted(labels, key=str))},
        addresses=tuple(sorted({choice.choice(ADDRESSES) for _ in range(2)}, key=str)),
        reserved=tuple(sorted({IDENTITY_INIT, choice.choice(RESERVED), choice.choice(RESERVED)})),
        mode=_mostly(choice, PolicyMode.DEFAULT, PolicyMode.ALWAYS, PolicyMode.NEVER),
        prefix_identities={prefix: CIDR_IDENTITY_BASE + at for at, prefix in enumerate(named)},
        packets=_packets(choice, policies),
    )


def _mostly(choice: random.Random, usual: _T, *unusual: _T) -> _T:
    return usual if choice.randrange(8) else choice.choice(unusual)


def _labels(choice: random.Random) -> Labels:
    found = {key: choice.choice(values) for key, values in LABELS.items() if choice.randrange(3)}
    found |= {key: choice.choice(values) for key, values in NAMED_PORTS.items() if choice.randrange(2)}
    return Labels.of(found)


def _policy(choice: random.Random, name: str) -> Policy:
    ingress = _rules(choice, "ingress")
    egress = _rules(choice, "egress")
    return Policy(
        name=name,
        subject=_selector(choice),
        ingress=ingress,
        egress=egress,
        enforce_ingress=_mostly(choice, bool(ingress), not ingress),
        enforce_egress=_mostly(choice, bool(egress), not egress),
    )


def _rules(choice: random.Random, section: str) -> tuple[Rule, ...]:
    return tuple(
        dataclasses.replace(_rule(choice), path=f"spec.{section}[{at}]") for at in range(choice.choice((0, 1, 1, 2, 3)))
    )


def _rule(choice: random.Random) -> Rule:
    return Rule(
        peers=None if not choice.randrange(6) else tuple(_peer(choice) for _ in range(_few(choice))),
        ports=None if not choice.randrange(4) else tuple(_port(choice) for _ in range(_few(choice))),
        deny=not choice.randrange(3),
    )


def _few(choice: random.Random) -> int:
    return choice.choice((0, 1, 1, 1, 1, 2, 2, 3))


def _peer(choice: random.Random) -> Peer:
    match choice.choice(("selector", "selector", "cidr", "entity")):
        case "selector":
            return _selector(choice)
        case "cidr":
            cidr = choice.choice(PREFIXES)
            inside = [one for one in PREFIXES if one.version == cidr.version and one.subnet_of(cidr)]  # type: ignore[arg-type]
            return CidrPeer(cidr, tuple(choice.choice(inside) for _ in range(choice.choice((0, 0, 1, 2)))))
        case _:
            return choice.choice(tuple(Entity))


def _selector(choice: random.Random) -> Selector:
    labels = tuple(_requirement(choice) for _ in range(choice.choice((0, 1, 1, 2))))
    namespace = ()
    if not choice.randrange(5):
        namespace = (
            Requirement(NAMESPACE_NAME_LABEL, choice.choice(tuple(Operator)), frozenset({choice.choice(NAMESPACES)})),
        )
    return Selector(labels=labels, namespace=namespace)


def _requirement(choice: random.Random) -> Requirement:
    operator = choice.choice((Operator.IN, *Operator))
    if not choice.randrange(8):
        return Requirement(choice.choice(RESERVED_LABELS), operator, frozenset({""}))
    key = choice.choice(tuple(LABELS))
    return Requirement(key, operator, frozenset(choice.choice(LABELS[key]) for _ in range(choice.choice((1, 1, 2)))))


def _port(choice: random.Random) -> PortMatch:
    protocol = choice.choice((None, Protocol.TCP, Protocol.TCP, Protocol.UDP, Protocol.SCTP, Protocol.ICMP))
    if protocol is Protocol.ICMP:
        return choice.choice((PortMatch(protocol), PortMatch(protocol, ECHO_REQUEST, ECHO_REQUEST)))
    if not choice.randrange(4):
        return PortMatch(protocol, name=choice.choice(("sql", "www")))
    first, last = sorted((choice.choice(EDGES), choice.choice(EDGES)))
    return choice.choice((PortMatch(protocol, first, last), PortMatch(protocol, first, first), PortMatch(protocol)))


def _packets(choice: random.Random, policies: Sequence[Policy]) -> tuple[tuple[int, int], ...]:
    """Some at the edges of what the policies name, and one without a port."""
    edges = {53, 80, 443, 5432}
    for policy in policies:
        for rule in (*policy.ingress, *policy.egress):
            for match in rule.ports or ():
                edges |= {match.first - 1, match.first, match.last, match.last + 1} & _PORTS
    protocols = (Protocol.TCP, Protocol.TCP, Protocol.UDP, Protocol.SCTP)
    found = {(choice.choice(protocols), choice.choice(sorted(edges))) for _ in range(3)}
    found.add(choice.choice(((Protocol.ICMP, ECHO_REQUEST), (Protocol.ICMP, 0), (GRE, 0))))
    return tuple(sorted((int(protocol), port) for protocol, port in found))
