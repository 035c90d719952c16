"""Map entries of endpoints: from what the upper floors say, and back."""

from __future__ import annotations

from collections.abc import Iterator

from datapath import abi
from datapath.addresses import address, octets, words
from datapath.api import EndpointSpec, IpcacheKey, NetworkSpec, Place, RemoteEndpoint
from model.addresses import IPAddress, MacAddress
from model.errors import DatapathError, InvalidInput
from model.ids import EndpointId, IdentityId, Vni


def endpoint_value(spec: EndpointSpec) -> abi.EndpointValue:
    """Entry of hawse_endpoints.

    Raises:
        InvalidInput: more than one address of a family, or an id that is too long.
    """
    if len(spec.endpoint_id) > abi.ENDPOINT_ID_LENGTH:
        raise InvalidInput(f"endpoint id {spec.endpoint_id!r} is longer than {abi.ENDPOINT_ID_LENGTH} characters")
    by_version: dict[int, IPAddress] = {}
    for one in spec.addresses:
        if one.version in by_version:
            raise InvalidInput(
                f"endpoint {spec.endpoint_id} has both {by_version[one.version]} and {one}: "
                f"one IPv{one.version} address an endpoint"
            )
        by_version[one.version] = one
    return abi.EndpointValue(
        ipv4=words(by_version.get(4)),
        ipv6=words(by_version.get(6)),
        gateway=words(spec.gateway),
        mac=octets(spec.mac.packed, 6),
        identity=spec.identity,
        vni=spec.vni,
        endpoint_id=octets(spec.endpoint_id.encode(), abi.ENDPOINT_ID_LENGTH),
    )


def endpoint_spec(value: abi.EndpointValue, *, mtu_bytes: int) -> EndpointSpec:
    """What an entry of hawse_endpoints says."""
    addresses = (address(value.ipv4), address(value.ipv6))
    return EndpointSpec(
        endpoint_id=endpoint_id(value),
        vni=Vni(value.vni),
        addresses=tuple(one for one in addresses if one is not None),
        mac=MacAddress.from_packed(bytes(value.mac)),
        identity=IdentityId(value.identity),
        mtu_bytes=mtu_bytes,
        gateway=address(value.gateway),
    )


def endpoint_id(value: abi.EndpointValue) -> EndpointId:
    """Whose entry of hawse_endpoints it is."""
    return EndpointId(bytes(value.endpoint_id).rstrip(b"\0").decode("ascii", errors="replace"))


def ipcache_key(key: IpcacheKey) -> abi.IpcacheKey:
    """Key of hawse_ipcache."""
    return abi.IpcacheKey(vni=key.vni, address=words(key.address))


def ipcache_keys(spec: EndpointSpec) -> Iterator[IpcacheKey]:
    """Where an endpoint stands in hawse_ipcache."""
    for one in spec.addresses:
        yield IpcacheKey(spec.vni, one)


def local_place(spec: EndpointSpec, ifindex: int) -> abi.IpcacheValue:
    """Entry of hawse_ipcache for an address of this host."""
    return abi.IpcacheValue(ifindex=ifindex, identity=spec.identity, mac=octets(spec.mac.packed, 6))


def remote_place(remote: RemoteEndpoint) -> abi.IpcacheValue:
    """Entry of hawse_ipcache for an address of another host."""
    return abi.IpcacheValue(
        tunnel_endpoint=words(remote.tunnel_endpoint),
        identity=remote.identity,
        flags=abi.IpcacheFlags.GONE if remote.gone else 0,
    )


def ipcache_name(key: abi.IpcacheKey) -> IpcacheKey:
    """Whose entry of hawse_ipcache it is.

    Raises:
        DatapathError: it has no address.
    """
    one = address(key.address)
    if one is None:
        raise DatapathError("an entry of hawse_ipcache has no address")
    return IpcacheKey(Vni(key.vni), one)


def place(key: abi.IpcacheKey, value: abi.IpcacheValue) -> tuple[IpcacheKey, Place]:
    """What an entry of hawse_ipcache says, of whichever host.

    Raises:
        DatapathError: it has no address.
    """
    return ipcache_name(key), Place(
        identity=IdentityId(value.identity),
        tunnel_endpoint=address(value.tunnel_endpoint),
        ifindex=value.ifindex,
        gone=bool(value.flags & abi.IpcacheFlags.GONE),
    )


def remote_endpoint(value: abi.IpcacheValue) -> RemoteEndpoint | None:
    """What an entry of hawse_ipcache says of another host; None when it is of this one."""
    tunnel_endpoint = address(value.tunnel_endpoint)
    if tunnel_endpoint is None:
        return None
    return RemoteEndpoint(
        tunnel_endpoint=tunnel_endpoint,
        identity=IdentityId(value.identity),
        gone=bool(value.flags & abi.IpcacheFlags.GONE),
    )


def network_value(spec: NetworkSpec) -> abi.NetworkValue:
    """Entry of hawse_networks."""
    return abi.NetworkValue(vni=spec.vni, flags=abi.NetworkFlags.ROUTED if spec.routed else 0)
