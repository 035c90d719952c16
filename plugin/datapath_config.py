"""What the datapath must know of its node, from the settings and from what the host is like."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from datapath.api import DatapathConfig, WayOut
from datapath.cgroup import find_cgroup, is_cgroup
from model.errors import InvalidInput
from model.nodes import Node
from plugin.setting_rules import PortRange
from plugin.settings import ServiceTranslation, Settings

log = logging.getLogger(__name__)

_LOCAL_PORTS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


def datapath_config(
    settings: Settings,
    node: Node,
    *,
    local_ports: Path = _LOCAL_PORTS,
    find: Callable[[], Path | None] = find_cgroup,
) -> DatapathConfig:
    """Put it together.

    Args:
        settings: of the operator.
        node: this one.
        local_ports: where the kernel tells the ports that programs of the host get.
        find: looks for the host's cgroup v2.

    Raises:
        InvalidInput: a setting does not fit this host; the message names it.
    """
    return DatapathConfig(
        node_address=node.address,
        tunnel_port=node.tunnel_port,
        mtu_bytes=node.mtu_bytes,
        way_out=_way_out(settings, local_ports),
        cgroup=_cgroup(settings, find),
    )


def _way_out(settings: Settings, local_ports: Path) -> WayOut:
    ports, taken = settings.masquerade_ports, _read_range(local_ports)
    if ports.overlaps(taken):
        raise InvalidInput(
            f"MASQUERADE_PORTS={ports}: the host's own connections use the ports {taken} "
            f"(net.ipv4.ip_local_port_range); set MASQUERADE_PORTS to others, or make that range smaller "
            f"(sysctl -w net.ipv4.ip_local_port_range='32768 60999')"
        )
    return WayOut(first_port=ports.first, last_port=ports.last, routed=settings.masquerade_exclude)


def _read_range(path: Path) -> PortRange:
    first, last = map(int, path.read_text(encoding="ascii").split())
    return PortRange(first, last)


def _cgroup(settings: Settings, find: Callable[[], Path | None]) -> Path | None:
    """The folder to attach to; None where addresses of services are translated in packets."""
    if settings.service_translation is ServiceTranslation.PACKET:
        return None
    if settings.cgroup_root is not None:
        if not is_cgroup(settings.cgroup_root):
            raise InvalidInput(f"CGROUP_ROOT={settings.cgroup_root}: is no folder of a cgroup v2 file system")
        return settings.cgroup_root
    found = find()
    if found is None:
        if settings.service_translation is ServiceTranslation.SOCKET:
            raise InvalidInput(
                "SERVICE_TRANSLATION=socket: this host has no cgroup v2 mount; mount it, name it with CGROUP_ROOT, "
                "or set SERVICE_TRANSLATION=auto"
            )
        log.info("no cgroup v2 mount: addresses of services are translated in packets")
    return found
