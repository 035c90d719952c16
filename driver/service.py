"""The use cases of the network driver.

How dockerd calls: every call may come again (after a broken connection or a restart), late, or not at all. Therefore

1. every use case is idempotent by its id, and taking away something unknown is success;
2. what a failed call had begun is undone before the error is answered, because the engine takes a failed
   CreateEndpoint or CreateNetwork for one that left nothing, and sends no Delete for it;
3. an endpoint's record is in the store before its interface is in the kernel, and is removed after it: whatever is
   left by a crash in between is in one of the two places that the reconciliation reads.

The engine holds a lock of its own per network over RequestAddress and CreateEndpoint; everything else may run in
parallel.

Source: https://github.com/moby/moby/blob/docker-v29.7.2/daemon/libnetwork/docs/remote.md
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from datapath.api import Datapath
from driver.endpoint_spec import endpoint_spec
from driver.label_identities import LabelIdentities
from driver.locks import KeyedLocks
from driver.options import EndpointOptions, NetworkOptions
from driver.ports import Addresses, EndpointRegistry, NetworkRegistry, Newcomers, PublishedPorts
from driver.protocol import (
    AllocateNetworkAnswer,
    AllocateNetworkRequest,
    CreateEndpointAnswer,
    CreateEndpointRequest,
    CreateNetworkRequest,
    DiscoveryRequest,
    Done,
    EndpointRequest,
    JoinAnswer,
    JoinRequest,
    NetworkRequest,
    OperInfo,
)
from driver.subnets import NetworkSubnet, refuse_foreign_ipam, refuse_ipv6, single_subnet
from driver.undo import undone_on_error
from ipam.pool_id import AddressSpace, PoolId
from model.addresses import SWARM_HOLDER, IPNetwork, MacAddress
from model.clock import Clock, SystemClock, rfc3339
from model.endpoints import Endpoint
from model.errors import Conflict, EndpointNotFound, InvalidInput, NetworkNotFound
from model.ids import DockerNetworkId, EndpointId, NodeName
from model.labels import SERVICE_LABEL
from model.networks import Network

log = logging.getLogger(__name__)

RULES_TIMEOUT_S: Final = 1.0
"""How long CreateEndpoint waits for the rules of a container whose labels are known."""
NEWCOMERS_TIMEOUT_S: Final = 0.5
"""How long Join waits for policies that new containers carry."""


class NetworkService:
    """What dockerd's calls mean on this node.

    Args:
        node: this node's name, under which it holds pools and networks.
        mtu_bytes: MTU of interfaces in networks that ask for no other.
        networks: the networks of the cluster.
        endpoints: the endpoints of the cluster.
        addresses: IPAM.
        datapath: the kernel.
        identities: what makes identities of labels.
        locks: by endpoint id, for everybody who changes endpoints.
        newcomers: containers that were just created.
        ports: the ports of this host that lead to containers.
        clock: for the time in records.
    """

    def __init__(
        self,
        *,
        node: NodeName,
        mtu_bytes: int,
        networks: NetworkRegistry,
        endpoints: EndpointRegistry,
        addresses: Addresses,
        datapath: Datapath,
        identities: LabelIdentities,
        locks: KeyedLocks,
        newcomers: Newcomers,
        ports: PublishedPorts,
        clock: Clock | None = None,
    ) -> None:
        self._node = node
        self._mtu_bytes = mtu_bytes
        self._networks = networks
        self._endpoints = endpoints
        self._addresses = addresses
        self._datapath = datapath
        self._clock = clock or SystemClock()
        self._identities = identities
        self._locks = locks
        self._newcomers = newcomers
        self._ports = ports

    def allocate_network(self, request: AllocateNetworkRequest) -> AllocateNetworkAnswer:
        """Make a network for the Swarm; called on its leader, and again on every new leader.

        The answer goes to the workers **instead of** the user's options, so it repeats them.

        Raises:
            InvalidInput: an option, a subnet or the IPAM driver is not usable.
            Conflict: the id or the pool is in use with another content.
        """
        subnet = single_subnet(request.ipv4, request.ipv6)
        options = NetworkOptions.parse(request.options)
        self._register(request.network_id, subnet, options, holder=SWARM_HOLDER, internal=False)
        return AllocateNetworkAnswer(options=request.options)

    def free_network(self, request: NetworkRequest) -> Done:
        """Forget a network of the Swarm; called on its leader, before ReleasePool."""
        with self._locks.hold(request.network_id):
            self._leave(request.network_id, SWARM_HOLDER)
        return Done()

    def create_network(self, request: CreateNetworkRequest) -> Done:
        """Make a network known on this node.

        Never called again after a restart of dockerd, so all that it says is kept in the store.

        Raises:
            InvalidInput: an option, a subnet or the IPAM driver is not usable.
            Conflict: the id or the pool is in use with another content.
        """
        if request.enable_ipv6:
            raise refuse_ipv6()
        if not request.enable_ipv4:
            raise InvalidInput("hawse needs IPv4; make the network without --ipv4=false")
        subnet = single_subnet(request.ipv4, request.ipv6)
        options = NetworkOptions.parse(request.options)
        self._register(request.network_id, subnet, options, holder=self._node, internal=request.internal)
        return Done()

    def delete_network(self, request: NetworkRequest) -> Done:
        """Forget a network on this node.

        The engine refuses to delete a network with endpoints, so those that are still here are left over from a crash
        that the engine has forgotten. Nobody would ever delete them: they go now, with their addresses.
        """
        with self._locks.hold(request.network_id):
            for endpoint in self._endpoints.local():
                if endpoint.docker_network == request.network_id:
                    self._collect(endpoint)
            self._leave(request.network_id, self._node)
        return Done()

    def create_endpoint(self, request: CreateEndpointRequest) -> CreateEndpointAnswer:
        """Connect one endpoint of a network to this host.

        Idempotent on the endpoint's id: the same content again gets the same answer. Only the MAC address is ever
        filled in, and only when the request has none.

        With labels in its options the endpoint has its identity before its interface exists. Otherwise it is ``init``
        until :mod:`driver.container_watch` has found its container; what was found stays when the call is repeated.

        Raises:
            NetworkNotFound: the network is not in the store.
            InvalidInput: no address, or one outside of the network; an option that does not exist; labels that cannot
                make an identity.
            Exhausted: its labels need a new identity, and there is none.
            Conflict: the id or the address is in use with another content.
            DatapathError: the kernel refused; nothing is left behind.
        """
        labels = EndpointOptions.parse(request.options).labels
        network = self._networks.by_docker_id(request.network_id)
        wanted = self._wanted_endpoint(request, network)
        with self._locks.hold(request.endpoint_id), undone_on_error() as undo:
            wanted = self._identified(wanted, labels)
            known = self._endpoints.seen(wanted.endpoint_id)
            if known is not None:
                _require_same(known, wanted)
            # A repeated call that fails is undone as well: to the engine the endpoint does not exist then.
            undo.push("endpoint record", lambda: self._endpoints.remove(wanted.endpoint_id))
            with contextlib.ExitStack() as recording:
                try:
                    endpoint = known or recording.enter_context(self._endpoints.recording(wanted))
                    _require_same(endpoint, wanted)
                except Conflict:
                    undo.forget()
                    raise
                if endpoint.own_labels:
                    self._identities.await_rules(endpoint.identity, RULES_TIMEOUT_S)
                undo.push("endpoint interface", lambda: self._datapath.remove_endpoint(wanted.endpoint_id))
                local = self._datapath.ensure_endpoint(endpoint_spec(endpoint, network, node_mtu_bytes=self._mtu_bytes))
        log.info(
            "endpoint created",
            extra={"endpoint_id": wanted.endpoint_id, "pool": str(network.pool), "ifindex": local.ifindex},
        )
        return CreateEndpointAnswer(mac=None if request.mac else endpoint.mac)

    def delete_endpoint(self, request: EndpointRequest) -> Done:
        """Disconnect an endpoint; may come without Leave, twice, or for an endpoint that never was."""
        with self._locks.hold(request.endpoint_id):
            self._remove(request.endpoint_id)
        return Done()

    def endpoint_oper_info(self, request: EndpointRequest) -> OperInfo:  # noqa: ARG002
        """Say nothing: the engine reads nothing that a remote driver could answer, and asks often."""
        return OperInfo()

    def join(self, request: JoinRequest) -> JoinAnswer:
        """Tell which interface the engine is to move into the container, and the way out.

        The interface is there since CreateEndpoint. It is ensured again, because it may have vanished: with the
        host's last boot, or with a container's namespace that died in between.

        Raises:
            EndpointNotFound: CreateEndpoint did not come or did not succeed.
            Conflict: the endpoint is in another network.
        """
        with self._locks.hold(request.endpoint_id):
            endpoint = self._endpoints.get(request.endpoint_id)
            if endpoint.docker_network != request.network_id:
                raise Conflict(
                    f"endpoint {request.endpoint_id} is in network {endpoint.docker_network}, not {request.network_id}"
                )
            network = self._networks.by_docker_id(request.network_id)
            local = self._datapath.ensure_endpoint(endpoint_spec(endpoint, network, node_mtu_bytes=self._mtu_bytes))
            self._endpoints.set_sandbox(request.endpoint_id, request.sandbox_key or None)
        # Its container runs when this has been answered. If it is the first with a policy, init is closed by then.
        if not endpoint.own_labels and not self._newcomers.await_prepared(NEWCOMERS_TIMEOUT_S):
            log.info("policies of new containers are late", extra={"endpoint_id": request.endpoint_id})
        self._newcomers.joined(request.endpoint_id, request.network_id)
        log.info("endpoint joined", extra={"endpoint_id": request.endpoint_id, "sandbox": request.sandbox_key})
        return JoinAnswer(
            src_name=local.container_ifname,
            gateway=None if network.internal else network.gateway,
        )

    def leave(self, request: EndpointRequest) -> Done:
        """Note that an endpoint's container is gone; may come without Join, twice, or for an unknown endpoint.

        The engine moves the interface back to the host's namespace afterwards, unless it died with the container's.
        """
        with self._locks.hold(request.endpoint_id), contextlib.suppress(EndpointNotFound):
            self._ports.withdraw(request.endpoint_id)
            self._endpoints.set_sandbox(request.endpoint_id, None)
        return Done()

    def discover_new(self, request: DiscoveryRequest) -> Done:
        """Take note of a node of the Swarm; hawse knows its nodes from the store, with and without Swarm."""
        log.debug("engine announced a node", extra={"address": request.address})
        return Done()

    def discover_delete(self, request: DiscoveryRequest) -> Done:
        """Take note that a node left the Swarm; what it means for hawse is decided by the store."""
        log.debug("engine took a node back", extra={"address": request.address})
        return Done()

    def _register(
        self,
        docker_id: DockerNetworkId,
        subnet: NetworkSubnet,
        options: NetworkOptions,
        *,
        holder: str,
        internal: bool,
    ) -> None:
        with self._locks.hold(docker_id), undone_on_error() as undo:
            if not self._is_registered(docker_id, subnet.pool, holder):
                self._require_own_pool(subnet.pool, holder)
                undo.push("network", lambda: self._networks.leave(docker_id, holder=holder))
            network = self._networks.ensure(
                subnet.pool,
                holder=holder,
                docker_id=docker_id,
                gateway=None if internal else subnet.gateway,
                internal=internal,
                mtu_bytes=options.mtu_bytes,
                masquerade=options.masquerade,
            )
            if subnet.reserved:
                self._addresses.reserve(subnet.pool, subnet.reserved)
        log.info("network created", extra={"docker_id": docker_id, "pool": str(network.pool), "vni": network.vni})

    def _is_registered(self, docker_id: DockerNetworkId, pool: IPNetwork, holder: str) -> bool:
        try:
            known = self._networks.by_docker_id(docker_id)
        except NetworkNotFound:
            return False
        if known.pool != pool:
            raise Conflict(f"network {docker_id} is on pool {known.pool}, not {pool}")
        return (holder, docker_id) in known.docker_ids

    def _require_own_pool(self, pool: IPNetwork, holder: str) -> None:
        """Refuse a pool that another IPAM driver granted, even if hawse has the same one for another node."""
        if not self._addresses.holds_pool(pool, holder):
            raise refuse_foreign_ipam(f"subnet {pool} was not granted by hawse")

    def _leave(self, docker_id: DockerNetworkId, holder: str) -> None:
        network = self._networks.leave(docker_id, holder=holder)
        if network is None:
            return
        # The engine sends ReleasePool before DeleteNetwork; IPAM kept the pool until now.
        self._addresses.drop_hold(network.pool, holder)
        log.info("network deleted", extra={"docker_id": docker_id, "pool": str(network.pool)})

    def _wanted_endpoint(self, request: CreateEndpointRequest, network: Network) -> Endpoint:
        if request.address_ipv6 is not None:
            raise refuse_ipv6()
        if request.address is None:
            raise refuse_foreign_ipam(f"endpoint {request.endpoint_id} has no address")
        address = request.address.ip
        if address not in network.pool:
            raise InvalidInput(f"address {address} is not in the network's subnet {network.pool}")
        return Endpoint(
            endpoint_id=request.endpoint_id,
            node=self._node,
            network=network.pool,
            docker_network=request.network_id,
            vni=network.vni,
            addresses=(address,),
            mac=request.mac or MacAddress.for_address(network.vni, address),
            created_at=rfc3339(self._clock.now()),
        )

    def _identified(self, wanted: Endpoint, labels: Mapping[str, str]) -> Endpoint:
        """Give an endpoint the identity of the labels that its attachment has; without any it stays as it is."""
        if not labels:
            return wanted
        found = self._identities.identify(self._identities.labels_of(labels))
        # Who answers for a service does so when its container runs, which the watch of containers sees.
        waits = SERVICE_LABEL in found.labels
        return replace(wanted, identity=found.identity, labels=found.labels, own_labels=True, unhealthy=waits)

    def _collect(self, endpoint: Endpoint) -> None:
        """Remove an endpoint that the engine has forgotten, and release its addresses as the engine would have done."""
        log.warning("removing an endpoint that was left over", extra={"endpoint_id": endpoint.endpoint_id})
        with self._locks.hold(endpoint.endpoint_id):
            self._remove(endpoint.endpoint_id)
        for address in endpoint.addresses:
            self._addresses.release_address(PoolId(space=AddressSpace.LOCAL, pool=endpoint.network), address)

    def _remove(self, endpoint_id: EndpointId) -> None:
        """Remove ports, interface and record, each even if another fails: the engine forgets the endpoint anyway."""
        with contextlib.ExitStack() as steps:
            steps.callback(self._endpoints.remove, endpoint_id)
            steps.callback(self._datapath.remove_endpoint, endpoint_id)
            self._ports.withdraw(endpoint_id)
        log.info("endpoint deleted", extra={"endpoint_id": endpoint_id})


def _require_same(known: Endpoint, wanted: Endpoint) -> None:
    """Refuse to make an endpoint another one; what was learned since it was made (sandbox, identity) does not count.

    Raises:
        Conflict: it was made with another content.
    """
    for what, has, asked in (
        ("network", known.docker_network, wanted.docker_network),
        ("address", ", ".join(map(str, known.addresses)), ", ".join(map(str, wanted.addresses))),
        ("MAC address", known.mac, wanted.mac),
        ("labels", _own_labels(known), _own_labels(wanted)),
    ):
        if has != asked:
            raise Conflict(f"endpoint {wanted.endpoint_id} exists with {what} {has}, not {asked}")


def _own_labels(endpoint: Endpoint) -> str:
    return str(endpoint.labels) if endpoint.own_labels else "of its container"
