"""How the kernel translates addresses, as the agent decodes it: repeats ``observe/translation_document.py``."""

from __future__ import annotations

from typing import TypedDict


class FrontendBackend(TypedDict):
    """Who answers at a frontend, and how often."""

    address: str
    port: int | None
    slots: int
    share: float
    container: str | None


class Frontend(TypedDict):
    """Where a service is asked for."""

    vni: int
    address: str
    port: int | None
    protocol: str | None
    service: str | None
    affinity: bool
    backends: list[FrontendBackend]


class Frontends(TypedDict):
    """``/v1/bpf/lb``."""

    frontends: list[Frontend]


class Translation(TypedDict):
    """One half of a translated connection."""

    kind: str
    protocol: str
    source: str
    source_port: int
    destination: str
    destination_port: int
    new_source: str
    new_source_port: int
    new_destination: str
    new_destination_port: int
    reply: bool
    idle_s: int


class Translations(TypedDict):
    """``/v1/bpf/nat``."""

    translations: list[Translation]
    left_out: int


class PublishedPort(TypedDict):
    """A port of this host that leads to a container."""

    address: str | None
    port: int
    protocol: str
    target: str
    target_port: int
    vni: int
    container: str | None


class PublishedPorts(TypedDict):
    """``/v1/bpf/published``."""

    ports: list[PublishedPort]
