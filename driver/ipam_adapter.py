"""The use cases of the IPAM driver: Docker's texts to IPAM's values and back."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from driver.ipam_protocol import (
    REQUEST_ADDRESS_TYPE,
    ReleaseAddressRequest,
    ReleasePoolRequest,
    RequestAddressAnswer,
    RequestAddressRequest,
    RequestPoolAnswer,
    RequestPoolRequest,
)
from driver.options import ENGINE_PREFIX
from driver.ports import Addresses
from driver.protocol import Done
from driver.subnets import refuse_ipv6
from ipam.pool_id import AddressSpace, PoolId
from model.errors import InvalidInput

log = logging.getLogger(__name__)


class IpamAdapter:
    """What dockerd's IPAM calls mean; all rules are IPAM's own."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

    def request_pool(self, request: RequestPoolRequest) -> RequestPoolAnswer:
        """Hold a pool for a network to come.

        Raises:
            InvalidInput: IPv6, an option, or an address space that is not hawse's.
            Conflict: the pool overlaps another one.
            Exhausted: no default pool is left.
        """
        _refuse_options(request.options)
        if request.v6:
            raise refuse_ipv6()
        pool_id = self._addresses.request_pool(
            space=AddressSpace.parse(request.address_space), pool=request.pool, sub_pool=request.sub_pool
        )
        log.info("pool requested", extra={"pool_id": str(pool_id)})
        return RequestPoolAnswer(pool_id=str(pool_id), pool=pool_id.pool)

    def release_pool(self, request: ReleasePoolRequest) -> Done:
        """Give a pool back; the engine sends this before it deletes the network."""
        self._addresses.release_pool(PoolId.parse(request.pool_id))
        log.info("pool released", extra={"pool_id": request.pool_id})
        return Done()

    def request_address(self, request: RequestAddressRequest) -> RequestAddressAnswer:
        """Hold an address, a certain one or any free one.

        Raises:
            PoolNotFound: the pool is not held by anybody.
            Conflict: the address belongs to someone else.
            Exhausted: no address is left in the pool.
        """
        granted = self._addresses.request_address(
            PoolId.parse(request.pool_id), address=request.address, gateway=request.gateway
        )
        return RequestAddressAnswer(address=granted)

    def release_address(self, request: ReleaseAddressRequest) -> Done:
        """Give an address back; double and unknown releases are no error."""
        pool_id = PoolId.parse(request.pool_id)
        if request.address is not None:
            self._addresses.release_address(pool_id, request.address)
        return Done()


def _refuse_options(options: Mapping[str, str]) -> None:
    """Refuse ``--ipam-opt``; what the engine and the Swarm put there themselves means nothing for a pool."""
    unknown = sorted(name for name in options if name != REQUEST_ADDRESS_TYPE and not name.startswith(ENGINE_PREFIX))
    if unknown:
        raise InvalidInput(f"--ipam-opt {', '.join(unknown)[:200]}: hawse has no IPAM options; leave it out")
