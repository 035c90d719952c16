"""Networks: one per pool in the whole cluster, with a VNI that no other has."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from kvstore import keys
from kvstore.codec import decode, encode
from kvstore.first_read import FirstRead
from kvstore.own_writes import wait_visible
from kvstore.store import Delete, KeyValue, Op, Put, Store, absent, unchanged
from kvstore.watcher import View
from model.addresses import SWARM_HOLDER, IPAddress, IPNetwork
from model.errors import CasFailed, Conflict, Exhausted, NetworkNotFound
from model.ids import VNI_MAX, VNI_MIN, DockerNetworkId, Vni
from model.networks import Network

log = logging.getLogger(__name__)

_ATTEMPTS: Final = 64


def _any_vni() -> int:
    return random.randint(VNI_MIN, VNI_MAX)  # noqa: S311  (spreads competitors, keeps no secret)


class NetworkRegistry:
    """The networks of the cluster and the Docker networks on each. Safe from any thread.

    A VNI is claimed by creating its key in the same transaction as the network's: the search starts at a random
    number and takes the next one when that is taken.

    Args:
        store: the cluster's state.
        view: of the networks' keys.
        first_vni: where the search for a free VNI starts.
    """

    def __init__(self, store: Store, view: View[Network], *, first_vni: Callable[[], int] = _any_vni) -> None:
        self._store = store
        self._view = view
        self._read = FirstRead(view, "networks")
        self._first_vni = first_vni

    def ensure(
        self,
        pool: IPNetwork,
        *,
        holder: str,
        docker_id: DockerNetworkId,
        gateway: IPAddress | None,
        internal: bool,
        mtu_bytes: int | None,
        masquerade: bool = True,
    ) -> Network:
        """Make the pool's network if there is none, and note that ``holder`` knows it as ``docker_id``.

        Raises:
            Conflict: the pool's network has another gateway or MTU, or is not ``--internal`` or masqueraded alike; the
            message has its value. Exhausted: no free VNI was found.
        """
        wanted = Network(
            pool=pool,
            vni=Vni(self._first_vni()),
            gateway=gateway,
            internal=internal,
            mtu_bytes=mtu_bytes,
            masquerade=masquerade,
            docker_ids=((holder, docker_id),),
        )
        key = keys.network(pool)
        item = self._store.get(key)
        for _ in range(_ATTEMPTS):
            if item is None:
                result = self._store.txn(
                    [absent(key), absent(keys.vni(wanted.vni))],
                    [Put(key, encode(wanted)), Put(keys.vni(wanted.vni), str(pool).encode())],
                )
                if result.succeeded:
                    log.info("network created", extra={"pool": str(pool), "vni": wanted.vni, "docker_id": docker_id})
                    wait_visible(self._view, result.revision)
                    return wanted
                item, vni_item = result.current
                if vni_item is not None:
                    wanted = replace(wanted, vni=_next_vni(wanted.vni))
                continue
            known, wanted = _as_nodes_say(decode(Network, item.value, key=key), wanted, holder)
            _refuse_difference(known, wanted)
            if (holder, docker_id) in known.docker_ids:
                return known
            joined = replace(known, docker_ids=tuple(sorted({*known.docker_ids, (holder, docker_id)})))
            result = self._store.txn([unchanged(item)], [Put(key, encode(joined))])
            if result.succeeded:
                log.info("network joined", extra={"pool": str(pool), "holder": holder, "docker_id": docker_id})
                wait_visible(self._view, result.revision)
                return joined
            (item,) = result.current
        raise Exhausted(f"no free VNI for network {pool} in {_ATTEMPTS} attempts; remove unused networks or try again")

    def leave(self, docker_id: DockerNetworkId, *, holder: str) -> Network | None:
        """Take back what :meth:`ensure` noted; the last one takes the network and its VNI with it.

        Returns:
            The network as it was; None when the holder knows no network by this id.
        """
        item = self._find((holder, docker_id))
        for _ in range(_ATTEMPTS):
            if item is None:
                return None
            known = decode(Network, item.value, key=item.key)
            rest = tuple(pair for pair in known.docker_ids if pair != (holder, docker_id))
            if rest == known.docker_ids:
                return None
            ops: list[Op] = [Put(item.key, encode(replace(known, docker_ids=rest)))]
            if not rest:
                ops = [Delete(item.key), Delete(keys.vni(known.vni))]
            result = self._store.txn([unchanged(item)], ops)
            if result.succeeded:
                log.info(
                    "network left" if rest else "network removed",
                    extra={"pool": str(known.pool), "holder": holder, "docker_id": docker_id},
                )
                wait_visible(self._view, result.revision)
                return known
            (item,) = result.current
        raise CasFailed(f"network {docker_id} changed {_ATTEMPTS} times while {holder} tried to leave it; try again")

    def by_docker_id(self, docker_id: DockerNetworkId) -> Network:
        """Find a network by Docker's id.

        Raises:
            NetworkNotFound: neither known here nor in the store.
        """
        for entry in self._view.items().values():
            if any(known == docker_id for _, known in entry.value.docker_ids):
                return entry.value
        for item in self._store.list(keys.NETWORKS).items:
            network = decode(Network, item.value, key=item.key)
            if any(known == docker_id for _, known in network.docker_ids):
                return network
        raise NetworkNotFound(f"network {docker_id} is not known to hawse; remove it and create it again")

    def by_pool(self, pool: IPNetwork) -> Network | None:
        """Find a network by its pool, as far as is known here.

        Raises:
            StoreUnavailable: nothing has been read from the store yet.
        """
        self._read.require()
        entry = self._view.get(keys.network(pool))
        return None if entry is None else entry.value

    def all(self) -> Sequence[Network]:
        """All networks, sorted by pool."""
        networks = [entry.value for entry in self._view.items().values()]
        return sorted(networks, key=lambda network: (network.pool.version, network.pool))

    def holds_network(self, pool: IPNetwork, holder: str) -> bool:
        """Whether the holder has a Docker network on the pool.

        Raises:
            StoreUnavailable: nothing has been read from the store yet.
        """
        network = self.by_pool(pool)
        return network is not None and any(one == holder for one, _ in network.docker_ids)

    def _find(self, pair: tuple[str, DockerNetworkId]) -> KeyValue | None:
        for entry in self._view.items().values():
            if pair in entry.value.docker_ids:
                return entry.item
        for item in self._store.list(keys.NETWORKS).items:
            if pair in decode(Network, item.value, key=item.key).docker_ids:
                return item
        return None


def _next_vni(vni: Vni) -> Vni:
    return Vni(vni + 1 if vni < VNI_MAX else VNI_MIN)


def _as_nodes_say(known: Network, wanted: Network, holder: str) -> tuple[Network, Network]:
    """Settle whether the network is internal: a Swarm's leader is not told, its nodes are.

    So what the leader says of it counts for nothing once a node has spoken, and until then the first node's word does.
    """
    if holder == SWARM_HOLDER:
        return known, replace(wanted, internal=known.internal, gateway=None if known.internal else wanted.gateway)
    if all(one == SWARM_HOLDER for one, _ in known.docker_ids):
        gateway = None if wanted.internal else known.gateway or wanted.gateway
        return replace(known, internal=wanted.internal, gateway=gateway), wanted
    return known, wanted


def _refuse_difference(known: Network, wanted: Network) -> None:
    """Two Docker networks on one pool are one network, so they cannot differ.

    Raises:
        Conflict: they do.
    """
    pool = known.pool
    if known.internal != wanted.internal:
        has, add = ("is", "add --internal") if known.internal else ("is not", "leave out --internal")
        raise Conflict(f"network {pool} exists already and {has} internal; {add}, or choose another --subnet")
    if known.gateway != wanted.gateway:
        raise Conflict(
            f"network {pool} exists already with {_gateway(known)}, not {_gateway(wanted)}; "
            "use the same --gateway, or choose another --subnet"
        )
    if known.mtu_bytes != wanted.mtu_bytes:
        raise Conflict(
            f"network {pool} exists already with {_mtu(known)}, not {_mtu(wanted)}; "
            "use the same com.docker.network.driver.mtu, or choose another --subnet"
        )
    if known.masquerade != wanted.masquerade:
        has, what = ("is", "leave out -o") if known.masquerade else ("is not", "add -o")
        raise Conflict(
            f"network {pool} exists already and {has} masqueraded; {what} hawse.masquerade=false, "
            "or choose another --subnet"
        )


def _gateway(network: Network) -> str:
    return "no gateway" if network.gateway is None else f"gateway {network.gateway}"


def _mtu(network: Network) -> str:
    return "the nodes' own MTU" if network.mtu_bytes is None else f"MTU {network.mtu_bytes}"
