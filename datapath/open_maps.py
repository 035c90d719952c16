"""The pinned maps of one agent, opened together and closed together."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from datapath import maps
from datapath.event_ring import EventRing
from datapath.host_config import HostConfig
from datapath.maps import K, Layout, TypedMap, V
from datapath.policy_maps import PolicyMaps
from datapath.published_map import PublishedMap
from datapath.service_maps import ServiceMaps


class OpenMaps:
    """The open maps.

    Args:
        folder: where they are pinned.
        files: names of the program files by number, for the reports of the programs.

    Raises:
        AbiMismatch: a pinned map has another layout.
        DatapathError: one is missing.
    """

    def __init__(self, folder: Path, files: Sequence[str]) -> None:
        with contextlib.ExitStack() as undo:

            def opened(name: str, layout: Layout[K, V]) -> TypedMap[K, V]:
                made = TypedMap(folder, name, layout)
                undo.callback(made.close)
                return made

            self.endpoints = opened("hawse_endpoints", maps.ENDPOINTS)
            self.ipcache = opened("hawse_ipcache", maps.IPCACHE)
            self.nodes = opened("hawse_nodes", maps.NODES)
            self.config = HostConfig(opened("hawse_config", maps.CONFIG))
            self.metrics = opened("hawse_metrics", maps.METRICS)
            self.conntrack = opened("hawse_conntrack", maps.CONNTRACK)
            self.event_limits = opened("hawse_event_limits", maps.EVENT_LIMITS)
            self.events = EventRing(folder, files)
            undo.callback(self.events.close)
            self.networks = opened("hawse_networks", maps.NETWORKS)
            self.routed = opened("hawse_routed", maps.ROUTED)
            self.devices = opened("hawse_devices", maps.DEVICES)
            self.nat = opened("hawse_nat", maps.NAT)
            self.published = PublishedMap(
                opened("hawse_published", maps.PUBLISHED), opened("hawse_published_ports", maps.PUBLISHED_PORTS)
            )
            self.services = ServiceMaps(opened("hawse_services", maps.SERVICES), opened("hawse_tables", maps.TABLES))
            self.policy = PolicyMaps(
                opened("hawse_policy", maps.POLICY),
                opened("hawse_identities", maps.IDENTITIES),
                opened("hawse_prefixes", maps.PREFIXES),
            )
            self._close = undo.pop_all()

    def close(self) -> None:
        """Release the file descriptors; idempotent."""
        self._close.close()
