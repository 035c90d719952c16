"""Names of interfaces, made and read in one place."""

from __future__ import annotations

import re
from typing import Final

from datapath.abi import ROUTER_MAC
from model.addresses import MacAddress
from model.ids import EndpointId

TUNNEL_IFNAME: Final = "hawse0"
HOST_IFNAME: Final = "hawse_host"
"""The host's own end of the pair that joins its stack; its routes to all networks lead there."""
HOST_PEER_IFNAME: Final = "hawse_peer"
"""Our end of it."""

_HOST: Final = re.compile(r"hw[A-Za-z0-9]{1,12}")
_ID_CHARACTERS: Final = 12
_ALIAS: Final = "hawse:"


def router_mac() -> MacAddress:
    """The link-layer address of every host end and of the tunnel device."""
    return MacAddress.from_packed(ROUTER_MAC.to_bytes(6, "big"))


def host_ifname(endpoint_id: EndpointId) -> str:
    """Host end of an endpoint's veth pair; at most 15 characters."""
    return f"hw{endpoint_id[:_ID_CHARACTERS]}"


def container_ifname(endpoint_id: EndpointId) -> str:
    """Other end, until Docker has moved and renamed it; at most 15 characters."""
    return f"hwp{endpoint_id[:_ID_CHARACTERS]}"


def looks_like_host_ifname(ifname: str) -> bool:
    """Could this be the host end of one of our pairs?"""
    return _HOST.fullmatch(ifname) is not None


def alias(endpoint_id: EndpointId) -> str:
    """Interface alias of the host end: says in full whose it is."""
    return _ALIAS + endpoint_id


def endpoint_of_alias(text: str) -> EndpointId | None:
    """Whose interface it is; None when the alias is not ours."""
    return EndpointId(text.removeprefix(_ALIAS)) if text.startswith(_ALIAS) else None
