"""The name of a pool on the wire between Docker and hawse."""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass

from model.addresses import SWARM_HOLDER, IPNetwork
from model.errors import InvalidInput
from model.ids import NodeName


class AddressSpace(enum.StrEnum):
    """Who is asking: libnetwork on a node in the local space, the Swarm's allocator on the leader in the global one.

    Source: libnetwork ``network.go`` deriveAddressSpace, swarmkit ``cnmallocator`` allocatePools.
    """

    LOCAL = "hawse-local"
    GLOBAL = "hawse-global"

    @classmethod
    def parse(cls, text: str) -> AddressSpace:
        """Read an address space from Docker.

        Raises:
            InvalidInput: not one that ``GetDefaultAddressSpaces`` answers.
        """
        try:
            return cls(text)
        except ValueError as err:
            raise InvalidInput(
                f"address space {text[:80]!r} is not one of hawse's ({', '.join(cls)}); "
                "use the plugin for both --driver and --ipam-driver"
            ) from err

    def holder(self, node: NodeName) -> str:
        """Name under which this space's asker holds pools and addresses."""
        return SWARM_HOLDER if self is AddressSpace.GLOBAL else node


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolId:
    """``<space>:<pool>[:<sub-pool>]``, for example ``hawse-local:10.1.0.0/16:10.1.5.0/24``.

    It carries all that a later call needs, so no state has to be kept per id: a pool is the same pool on every node.
    """

    space: AddressSpace
    pool: IPNetwork
    sub_pool: IPNetwork | None = None
    """``--ip-range``: the part of the pool from which addresses are chosen on this request's network."""

    def __str__(self) -> str:
        text = f"{self.space}:{self.pool}"
        return text if self.sub_pool is None else f"{text}:{self.sub_pool}"

    @classmethod
    def parse(cls, text: str) -> PoolId:
        """Read what ``str()`` wrote; IPv6 pools contain colons, so the parts are told apart by their ``/``.

        Raises:
            InvalidInput: not a pool id that hawse made.
        """
        space, separator, rest = text.partition(":")
        pool, slash, tail = rest.partition("/")
        prefix, _, sub_pool = tail.partition(":")
        if not separator or not slash:
            raise InvalidInput(_not_ours(text))
        try:
            return cls(
                space=AddressSpace(space),
                pool=ipaddress.ip_network(f"{pool}/{prefix}"),
                sub_pool=ipaddress.ip_network(sub_pool) if sub_pool else None,
            )
        except ValueError as err:
            raise InvalidInput(_not_ours(text)) from err


def _not_ours(text: str) -> str:
    return f"PoolID {text[:120]!r} was not made by hawse; it looks like {AddressSpace.LOCAL}:10.1.0.0/16"
