"""What the use cases need of the floors below, as Protocols; :mod:`plugin.wiring` puts the real ones in.

Implemented by :mod:`cluster` (registries), :mod:`ipam` and :mod:`policy`. All methods may be called from any thread,
block no longer than :func:`model.deadline.remaining_s`, and raise StoreUnavailable when the store cannot be reached.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from ipam.pool_id import AddressSpace, PoolId
from model.addresses import IPAddress, IPInterface, IPNetwork
from model.endpoints import Endpoint, PortRequest, Publication
from model.ids import DockerNetworkId, EndpointId, IdentityId
from model.labels import Labels
from model.networks import Network


class NetworkRegistry(Protocol):
    """The networks of the cluster."""

    def ensure(
        self,
        pool: IPNetwork,
        *,
        holder: str,
        docker_id: DockerNetworkId,
        gateway: IPAddress | None,
        internal: bool,
        mtu_bytes: int | None,
        masquerade: bool,
    ) -> Network:
        """Make the network of the pool if there is none, and note that ``holder`` knows it as ``docker_id``.

        Raises:
            Conflict: the pool's network has another content.
        """
        ...

    def leave(self, docker_id: DockerNetworkId, *, holder: str) -> Network | None:
        """Take back what :meth:`ensure` noted; None when nothing was. The network goes with the last holder."""
        ...

    def by_docker_id(self, docker_id: DockerNetworkId) -> Network:
        """Find a network.

        Raises:
            NetworkNotFound: neither known nor in the store.
        """
        ...

    def all(self) -> Sequence[Network]:
        """Every network of the cluster that is known here."""
        ...


class EndpointRegistry(Protocol):
    """The endpoints of the cluster; those of this node can be written."""

    def recording(self, endpoint: Endpoint) -> AbstractContextManager[Endpoint]:
        """Record an endpoint of this node; yields the record as it is then: of one that was there, what was learned.

        At the end it is among those that are seen; what is done inside need not wait for that.

        Raises:
            Conflict: another content is recorded under its id, or another endpoint has its address; nothing was
                written.
        """
        ...

    def set_sandbox(self, endpoint_id: EndpointId, sandbox_key: str | None) -> None:
        """Record where an endpoint of this node is used; :meth:`get` knows it at once, the others soon.

        Raises:
            EndpointNotFound: not recorded.
        """
        ...

    def set_identity(
        self,
        endpoint_id: EndpointId,
        *,
        identity: IdentityId,
        labels: Labels | None,
        container: str,
        unhealthy: bool | None = None,
    ) -> Endpoint:
        """Record what was learned of an endpoint of this node; returns the record as it is then.

        ``unhealthy`` stays as it is when it is None.

        Raises:
            EndpointNotFound: not recorded.
        """
        ...

    def remove(self, endpoint_id: EndpointId) -> Endpoint | None:
        """Remove the record; None when there was none."""
        ...

    def get(self, endpoint_id: EndpointId) -> Endpoint:
        """Find an endpoint of this node.

        Raises:
            EndpointNotFound: not recorded.
        """
        ...

    def seen(self, endpoint_id: EndpointId) -> Endpoint | None:
        """Find an endpoint of this node without a question to the store; None also when it is not known here yet."""
        ...

    def local(self) -> Sequence[Endpoint]:
        """All endpoints of this node."""
        ...


class PublishedPorts(Protocol):
    """The ports of this host that lead to containers: :class:`balancer.published.PublishedPorts`."""

    def publish(self, endpoint: Endpoint, requests: Sequence[PortRequest]) -> Sequence[Publication]:
        """Lead ports of this host to an endpoint, these and no others; again = the same choice.

        Raises:
            Conflict: a container or a process of the host has a port; the message names it.
            InvalidInput: the host does not have an address or a protocol.
            Exhausted: no port is free.
            DatapathError: the kernel refused.
        """
        ...

    def withdraw(self, endpoint_id: EndpointId) -> None:
        """Lead no port to an endpoint any more; unknown ones are no error."""
        ...


class Addresses(Protocol):
    """Pools and addresses: :class:`ipam.service.Ipam`."""

    def request_pool(self, *, space: AddressSpace, pool: IPNetwork | None, sub_pool: IPNetwork | None) -> PoolId:
        """Hold a pool, a certain one or any; again the same answer for the same pool."""
        ...

    def release_pool(self, pool_id: PoolId) -> None:
        """Give a pool back; unknown ones are no error."""
        ...

    def request_address(self, pool_id: PoolId, *, address: IPAddress | None, gateway: bool) -> IPInterface:
        """Hold an address, a certain one or any free one."""
        ...

    def release_address(self, pool_id: PoolId, address: IPAddress) -> None:
        """Give an address back; unknown ones are no error."""
        ...

    def reserve(self, pool: IPNetwork, addresses: Iterable[IPAddress]) -> None:
        """Keep addresses from being given to containers as long as the pool lives; idempotent."""
        ...

    def drop_hold(self, pool: IPNetwork, holder: str) -> None:
        """Give a pool back for a holder, unless it still has a network on it; idempotent."""
        ...

    def holds_pool(self, pool: IPNetwork, holder: str) -> bool:
        """Whether the holder has requested this very pool; sees what was written a moment ago."""
        ...


class IdentityRegistry(Protocol):
    """The identities of the cluster: :class:`policy.identities.IdentityRegistry`."""

    def ensure(self, labels: Labels) -> IdentityId:
        """Find the identity of a set of labels, or allocate one; it is known here when this returns.

        Raises:
            Exhausted: no number is free.
        """
        ...


class PolicyReadiness(Protocol):
    """What of the policies stands in the kernel of this node.

    An identity that is not ready is closed (:class:`datapath.policy_table.IdentityFlags`): who waits gives a container
    a better start, who does not opens nothing.
    """

    def expect(self, identity: IdentityId) -> None:
        """Make ready for endpoints of this node that will have this identity soon; returns at once."""
        ...

    def wait_ready(self, identity: IdentityId, timeout_s: float) -> bool:
        """Wait until the kernel judges packets of this identity by its rules; False when it does not in time."""
        ...


class Newcomers(Protocol):
    """Containers that were created a moment ago: :class:`driver.container_watch.ContainerWatch`."""

    def await_prepared(self, timeout_s: float) -> bool:
        """Wait until the kernel knows the policies that they carry; False when it does not in time."""
        ...

    def joined(self, endpoint_id: EndpointId, docker_network: DockerNetworkId) -> None:
        """Hear that Join of an endpoint is about to be answered; returns at once."""
        ...
