"""The messages of ``IpamDriver.*``, like :mod:`driver.protocol`.

Source: https://github.com/moby/moby/blob/docker-v29.7.2/daemon/libnetwork/ipams/remote/api/api.go and
https://github.com/moby/moby/blob/docker-v29.7.2/daemon/libnetwork/docs/ipam.md; the same fields since 20.10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from driver.fields import Fields
from driver.protocol import Json
from model.addresses import IPAddress, IPInterface, IPNetwork

REQUEST_ADDRESS_TYPE: Final = "RequestAddressType"
GATEWAY_ADDRESS: Final = "com.docker.network.gateway"


@dataclass(frozen=True, slots=True)
class IpamCapabilities:
    """Answer of ``IpamDriver.GetCapabilities``: addresses need no MAC, and nothing is to be replayed at boot."""

    def as_json(self) -> Json:
        """Write the capabilities."""
        return {"RequiresMACAddress": False, "RequiresRequestReplay": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultAddressSpaces:
    """Answer of ``IpamDriver.GetDefaultAddressSpaces``; the space tells who asks: a host or the Swarm's leader."""

    local: str
    cluster: str

    def as_json(self) -> Json:
        """Write both names."""
        return {"LocalDefaultAddressSpace": self.local, "GlobalDefaultAddressSpace": self.cluster}


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPoolRequest:
    """A network is about to be made on a subnet; which network is not told."""

    address_space: str
    pool: IPNetwork | None
    sub_pool: IPNetwork | None
    options: Mapping[str, str]
    """``--ipam-opt``."""
    v6: bool

    @classmethod
    def read(cls, message: Fields) -> Self:
        """Read ``IpamDriver.RequestPool``."""
        return cls(
            address_space=message.needed_text("AddressSpace"),
            pool=message.network("Pool"),
            sub_pool=message.network("SubPool"),
            options=message.texts("Options"),
            v6=message.flag("V6"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPoolAnswer:
    """The pool and the name under which the engine will ask for its addresses."""

    pool_id: str
    pool: IPNetwork

    def as_json(self) -> Json:
        """Write id and pool."""
        return {"PoolID": self.pool_id, "Pool": str(self.pool), "Data": {}}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePoolRequest:
    """A network on the pool is about to be deleted."""

    pool_id: str

    @classmethod
    def read(cls, message: Fields) -> Self:
        """Read ``IpamDriver.ReleasePool``."""
        return cls(pool_id=message.needed_text("PoolID"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAddressRequest:
    """An address is wanted: a certain one, or any."""

    pool_id: str
    address: IPAddress | None
    gateway: bool
    """Whether it is to be the gateway of the pool."""

    @classmethod
    def read(cls, message: Fields) -> Self:
        """Read ``IpamDriver.RequestAddress``; other options (MAC, container name, serial) change nothing."""
        return cls(
            pool_id=message.needed_text("PoolID"),
            address=message.address("Address"),
            gateway=message.texts("Options").get(REQUEST_ADDRESS_TYPE) == GATEWAY_ADDRESS,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAddressAnswer:
    """The granted address with the prefix length of its pool."""

    address: IPInterface

    def as_json(self) -> Json:
        """Write the address."""
        return {"Address": str(self.address), "Data": {}}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseAddressRequest:
    """An address is not needed any more."""

    pool_id: str
    address: IPAddress | None
    """None when the engine names no address: then there is nothing to release."""

    @classmethod
    def read(cls, message: Fields) -> Self:
        """Read ``IpamDriver.ReleaseAddress``."""
        return cls(pool_id=message.needed_text("PoolID"), address=message.address("Address"))
