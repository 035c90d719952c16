"""The documents of ``/v1/bpf/lb``, ``/v1/bpf/nat`` and ``/v1/bpf/published``: how the kernel translates addresses.

What fills them is in ``observe/translation_describe.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from observe.document_fields import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendBackendDocument:
    """Who answers at a frontend, and how often."""

    address: Address
    port: Annotated[int | None, Meta(description="Null: the port that the client asked for.")]
    slots: Annotated[int, Meta(description="Of the table; a new connection takes one of its slots.")]
    share: Annotated[float, Meta(description="Part of the new connections that it gets, 0 to 1.")]
    container: Annotated[str | None, Meta(description="Null when this node does not know whose address it is.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendDocument:
    """Where a service is asked for, as the kernel has it."""

    vni: int
    address: Address
    port: Annotated[int | None, Meta(description="Null: every port that has no entry of its own.")]
    protocol: Annotated[str | None, Meta(description="TCP, or the number of another one; null: any.")]
    service: Annotated[str | None, Meta(description="Null when this node does not know whose address it is.")]
    affinity: Annotated[bool, Meta(description="Whether a client keeps its backend.")]
    backends: Annotated[
        list[FrontendBackendDocument], Meta(description="By address; empty: new connections are refused.")
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendsDocument:
    """The services of this node's kernel, by network and address."""

    frontends: list[FrontendDocument]


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslationDocument:
    """One half of a translated connection: how its packets come, and how they go on."""

    kind: Annotated[str, Meta(description="masquerade, published or service.")]
    protocol: Annotated[str, Meta(description="TCP, or the number of another one.")]
    source: Address
    source_port: Annotated[int, Meta(description="Of ICMP the id of the echo.")]
    destination: Address
    destination_port: int
    new_source: Address
    new_source_port: int
    new_destination: Address
    new_destination_port: int
    reply: Annotated[bool, Meta(description="Against the direction that opened the connection.")]
    idle_s: Annotated[int, Meta(description="Seconds since its last packet.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslationsDocument:
    """The translated connections of this node, those that were used last first."""

    translations: list[TranslationDocument]
    left_out: Annotated[int, Meta(description="How many others there are, which were used less lately.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPortDocument:
    """A port of this host that leads to a container."""

    address: Annotated[Address | None, Meta(description="Of this host; null: every one.")]
    port: int
    protocol: Annotated[str, Meta(description="TCP, or the number of another one.")]
    target: Annotated[Address, Meta(description="The container's.")]
    target_port: int
    vni: int
    container: Annotated[str | None, Meta(description="Null when this node does not know whose address it is.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPortsDocument:
    """The published ports of this node's kernel, by port."""

    ports: list[PublishedPortDocument]
