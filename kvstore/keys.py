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
    /hawse/v1/leader                              leased: the node that collects garbage for the cluster

A pool is written with ``-`` for its ``/``: ``10.1.0.0-16``. Builders and parsers come in pairs; a parser refuses what
its builder cannot have made.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from model.addresses import IPAddress, IPNetwork
from model.errors import InvalidInput
from model.ids import EndpointId, NodeName, Vni, endpoint_id, node_name

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
LEADER: Final = ROOT + "leader"


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
