"""A hawse network: one pool, one VNI, seen by Docker under one id per host (local) or one id (Swarm)."""

from __future__ import annotations

from dataclasses import dataclass, field

from model.addresses import IPAddress, IPNetwork
from model.ids import DockerNetworkId, Vni


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The value of ``/hawse/v1/networks/<pool>``.

    A pool is unique in the cluster, so a second Docker network on the same CIDR is the same hawse network: that is how
    hosts without Swarm share one.
    """

    pool: IPNetwork
    vni: Vni
    gateway: IPAddress | None = None
    """None for ``--internal`` networks."""
    internal: bool = False
    mtu_bytes: int | None = None
    """``com.docker.network.driver.mtu`` of this network; None: the node's own."""
    masquerade: bool = True
    """False (``-o hawse.masquerade=false``): packets leave the hosts with their containers' addresses."""
    docker_ids: tuple[tuple[str, DockerNetworkId], ...] = field(default=())
    """Sorted pairs of (holder, Docker network id); the holder is a node name or ``@swarm``."""
