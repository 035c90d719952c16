"""Every etcd path of hawse, version 1. Only compatible changes may be made to this file.

Keys are text and readable, because ``etcdctl get --prefix /hawse/v1/`` is an operator's tool::

    /hawse/v1/nodes/<node>                        Node
    /hawse/v1/alive/<node>                        leased: the node's agent runs
    /hawse/v1/networks/<pool>                     Network
    /hawse/v1/vnis/<vni>                          the pool that has this VNI
    /hawse/v1/ipam/pools/<pool>                   PoolRecord
    /hawse/v1/ipam/pool-set                       written with every new pool: two that overlap cannot both be made
    /hawse/v1/ipam/addresses/<pool>/<address>     AddressRecord
    /hawse/v1/ipam/cursors/<pool>                 the address granted last, so that the next one is another
    /hawse/v1/endpoints/<node>/<endpoint id>      Endpoint
    /hawse/v1/identities/id/<number>              IdentityRecord
    /hawse/v1/identities/by-labels/<hash>         the number that this set of labels has
    /hawse/v1/policies/<name>                     PolicyRecord of a Policy
    /hawse/v1/policies/<namespace>/<name>         PolicyRecord of a NetworkPolicy
    /hawse/v1/enforced/<node>                     Enforcement: the policy revision that the node enforces
    /hawse/v1/services/<id>                       Service
    /hawse/v1/lost/<node>                         LostNode: the Swarm has given the host up
    /hawse/v1/swarm-leader                        leased: the manager that writes services and lost nodes
    /hawse/v1/leader                              leased: the node that collects garbage for the cluster

A pool is written with ``-`` for its ``/``: ``10.1.0.0-16``. Builders and parsers come in pairs; a parser refuses what
its builder cannot have made.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from typing import Final

from model.addresses import IPAddress, IPNetwork
from model.errors import InvalidInput
from model.identities import IDENTITY_MAX, IDENTITY_MIN
from model.ids import EndpointId, IdentityId, NodeName, ServiceId, Vni, endpoint_id, node_name, service_id
from model.labels import Labels

ROOT: Final = "/hawse/v1/"
NODES: Final = ROOT + "nodes/"
ALIVE: Final = ROOT + "alive/"
NETWORKS: Final = ROOT + "networks/"
VNIS: Final = ROOT + "vnis/"
POOLS: Final = ROOT + "ipam/pools/"
POOL_SET: Final = ROOT + "ipam/pool-set"
ADDRESSES: Final = ROOT + "ipam/addresses/"
CURSORS: Final = ROOT + "ipam/cursors/"
ENDPOINTS: Final = ROOT + "endpoints/"
IDENTITIES: Final = ROOT + "identities/"
IDENTITY_IDS: Final = IDENTITIES + "id/"
IDENTITY_LABELS: Final = IDENTITIES + "by-labels/"
POLICIES: Final = ROOT + "policies/"
ENFORCED: Final = ROOT + "enforced/"
SERVICES: Final = ROOT + "services/"
LOST: Final = ROOT + "lost/"
SWARM_LEADER: Final = ROOT + "swarm-leader"
LEADER: Final = ROOT + "leader"

_DECIMAL: Final = re.compile(r"[1-9][0-9]{0,4}")
_POLICY_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?")


def pool_segment(pool: IPNetwork) -> str:
    """Write a pool as one path segment, ``10.1.0.0-16``."""
    return f"{pool.network_address}-{pool.prefixlen}"


def parse_pool_segment(segment: str) -> IPNetwork:
    """Read what :func:`pool_segment` wrote.

    Raises:
        InvalidInput: not a pool segment.
    """
    wrong = InvalidInput(f"{segment!r} in an etcd key is not a pool like 10.1.0.0-16")
    address, _, prefix = segment.rpartition("-")
    try:
        value = ipaddress.ip_network(f"{address}/{prefix}")
    except ValueError as err:
        raise wrong from err
    # Other spellings of the same pool (a netmask, zeros written out) would be other keys.
    if pool_segment(value) != segment:
        raise wrong
    return value


def node(name: NodeName) -> str:
    """Key of a node's record."""
    return NODES + name


def alive(name: NodeName) -> str:
    """Key that exists while the node's agent runs."""
    return ALIVE + name


def network(pool: IPNetwork) -> str:
    """Key of a network's record."""
    return NETWORKS + pool_segment(pool)


def vni(number: Vni) -> str:
    """Key that claims a VNI for a pool."""
    return f"{VNIS}{number}"


def pool(value: IPNetwork) -> str:
    """Key of a pool's record."""
    return POOLS + pool_segment(value)


def addresses_of(value: IPNetwork) -> str:
    """Prefix of all addresses of a pool."""
    return f"{ADDRESSES}{pool_segment(value)}/"


def address(value: IPNetwork, ip: IPAddress) -> str:
    """Key of one address."""
    return addresses_of(value) + str(ip)


def cursor(value: IPNetwork) -> str:
    """Key of the address that was granted last in a pool."""
    return CURSORS + pool_segment(value)


def endpoints_of(name: NodeName) -> str:
    """Prefix of all endpoints of a node."""
    return f"{ENDPOINTS}{name}/"


def endpoint(name: NodeName, ident: EndpointId) -> str:
    """Key of one endpoint."""
    return endpoints_of(name) + ident


def identity(number: IdentityId) -> str:
    """Key of an identity's record."""
    return f"{IDENTITY_IDS}{number}"


def identity_labels(labels: Labels) -> str:
    """Key that claims a set of labels for one identity.

    Labels are free text and may be long, so the key is a digest of them; the record has the text.
    """
    text = json.dumps(labels.pairs, separators=(",", ":"))
    return IDENTITY_LABELS + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def policy(name: str) -> str:
    """Key of a policy, ``<name>`` or ``<namespace>/<name>``.

    Raises:
        InvalidInput: not a name; the message says what one looks like.
    """
    segments = name.split("/")
    if len(segments) not in {1, 2} or not all(_POLICY_NAME.fullmatch(segment) for segment in segments):
        raise InvalidInput(
            f"{name[:80]!r} is no policy name: up to 253 lower-case letters, digits, '-', '_' and '.', "
            "and a namespace before a '/' for a NetworkPolicy"
        )
    return POLICIES + name


def enforced(name: NodeName) -> str:
    """Key of what a node says of the policies that it enforces."""
    return ENFORCED + name


def service(ident: ServiceId) -> str:
    """Key of a service."""
    return SERVICES + ident


def lost(name: NodeName) -> str:
    """Key that exists while the Swarm has given a host up."""
    return LOST + name


def parse_service(key: str) -> ServiceId:
    """Read the id from the key of a service."""
    if not key.startswith(SERVICES):
        raise _not(key, "a service")
    return service_id(key.removeprefix(SERVICES))


def parse_lost(key: str) -> NodeName:
    """Read the name from the key of a lost node."""
    if not key.startswith(LOST):
        raise _not(key, "a lost node")
    return node_name(key.removeprefix(LOST))


def parse_identity(key: str) -> IdentityId:
    """Read the number from the key of an identity's record."""
    number = key.removeprefix(IDENTITY_IDS)
    if not (key.startswith(IDENTITY_IDS) and _DECIMAL.fullmatch(number)):
        raise _not(key, "an identity")
    if not IDENTITY_MIN <= int(number) <= IDENTITY_MAX:
        raise InvalidInput(f"etcd key {key!r} is an identity outside {IDENTITY_MIN} to {IDENTITY_MAX}")
    return IdentityId(int(number))


def parse_policy(key: str) -> str:
    """Read the name from the key of a policy."""
    if not key.startswith(POLICIES):
        raise _not(key, "a policy")
    name = key.removeprefix(POLICIES)
    if policy(name) != key:
        raise _not(key, "a policy")
    return name


def parse_enforced(key: str) -> NodeName:
    """Read the node from the key of its enforcement."""
    if not key.startswith(ENFORCED):
        raise _not(key, "a node's enforcement")
    return node_name(key.removeprefix(ENFORCED))


def parse_node(key: str) -> NodeName:
    """Read the node's name from the key of a node or of its liveness."""
    for prefix in (NODES, ALIVE):
        if key.startswith(prefix):
            return node_name(key.removeprefix(prefix))
    raise _not(key, "a node")


def parse_network(key: str) -> IPNetwork:
    """Read the pool from the key of a network."""
    if not key.startswith(NETWORKS):
        raise _not(key, "a network")
    return parse_pool_segment(key.removeprefix(NETWORKS))


def parse_pool(key: str) -> IPNetwork:
    """Read the pool from the key of a pool."""
    if not key.startswith(POOLS):
        raise _not(key, "a pool")
    return parse_pool_segment(key.removeprefix(POOLS))


def parse_address(key: str) -> tuple[IPNetwork, IPAddress]:
    """Read pool and address from the key of an address."""
    if not key.startswith(ADDRESSES):
        raise _not(key, "an address")
    segment, _, text = key.removeprefix(ADDRESSES).partition("/")
    value = parse_pool_segment(segment)
    try:
        ip = ipaddress.ip_address(text)
    except ValueError as err:
        raise _not(key, "an address") from err
    if ip not in value or str(ip) != text:
        raise _not(key, "an address in its pool")
    return value, ip


def parse_endpoint(key: str) -> tuple[NodeName, EndpointId]:
    """Read node and endpoint id from the key of an endpoint."""
    if not key.startswith(ENDPOINTS):
        raise _not(key, "an endpoint")
    name, _, ident = key.removeprefix(ENDPOINTS).partition("/")
    return node_name(name), endpoint_id(ident)


def _not(key: str, what: str) -> InvalidInput:
    return InvalidInput(f"etcd key {key!r} is not the key of {what}")
