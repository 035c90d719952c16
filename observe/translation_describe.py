"""From the kernel's maps of services, translated connections and published ports to their documents.

The kernel answers also when the store never did; then the names of services and containers are missing.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping

from datapath.api import Balancing, Frontend, PublishedPort, PublishedTarget, Translation
from model.addresses import IPAddress
from model.errors import StoreError
from observe.map_describe import NewestQuestion, protocol_name
from observe.order import address_order
from observe.state import AgentState
from observe.translation_document import (
    FrontendBackendDocument,
    FrontendDocument,
    FrontendsDocument,
    PublishedPortDocument,
    PublishedPortsDocument,
    TranslationDocument,
    TranslationsDocument,
)


def frontends(state: AgentState) -> FrontendsDocument:
    """Describe the services as the kernel has them, by network, address and port."""
    found = state.frontends()
    services = _services(state)
    containers = _containers(state)

    def order(frontend: Frontend) -> tuple[int, tuple[int, int], int, int]:
        return (frontend.vni, address_order(frontend.address), frontend.port, frontend.protocol)

    return FrontendsDocument(
        frontends=[_frontend(one, found[one], services, containers) for one in sorted(found, key=order)]
    )


def translations(state: AgentState, question: NewestQuestion) -> TranslationsDocument:
    """Describe the translated connections, those that were used last first, the two halves of each together."""

    def order(half: Translation) -> tuple[int, int, int, int, int, int, bool]:
        opener, asked = (half.source, half.source_port), (half.destination, half.destination_port)
        if half.reply:
            opener, asked = (half.new_destination, half.new_destination_port), (half.new_source, half.new_source_port)
        return (half.idle_s, half.protocol, int(opener[0]), opener[1], int(asked[0]), asked[1], half.reply)

    found = state.translations(question.limit)
    return TranslationsDocument(
        translations=[_translation(one) for one in sorted(found, key=order)], left_out=found.left_out
    )


def published(state: AgentState) -> PublishedPortsDocument:
    """Describe the published ports, by port, protocol and the host's address."""
    found = state.published()
    containers = _containers(state)

    def order(port: PublishedPort) -> tuple[int, int, tuple[int, int]]:
        return (port.port, port.protocol, (0, 0) if port.address is None else address_order(port.address))

    return PublishedPortsDocument(ports=[_published(one, found[one], containers) for one in sorted(found, key=order)])


def _frontend(
    frontend: Frontend,
    balancing: Balancing,
    services: Mapping[IPAddress, str],
    containers: Mapping[tuple[int, IPAddress], str],
) -> FrontendDocument:
    slots = collections.Counter(balancing.table)
    everything = len(balancing.table)
    backends = sorted(enumerate(balancing.backends), key=lambda item: (address_order(item[1].address), item[1].port))
    return FrontendDocument(
        vni=frontend.vni,
        address=str(frontend.address),
        port=frontend.port or None,
        protocol=protocol_name(frontend.protocol) if frontend.protocol else None,
        service=services.get(frontend.address),
        affinity=balancing.affinity,
        backends=[
            FrontendBackendDocument(
                address=str(backend.address),
                port=backend.port or None,
                slots=slots[place],
                share=slots[place] / everything if everything else 0.0,
                container=containers.get((frontend.vni, backend.address)),
            )
            for place, backend in backends
        ],
    )


def _translation(translation: Translation) -> TranslationDocument:
    return TranslationDocument(
        kind=translation.kind,
        protocol=protocol_name(translation.protocol),
        source=str(translation.source),
        source_port=translation.source_port,
        destination=str(translation.destination),
        destination_port=translation.destination_port,
        new_source=str(translation.new_source),
        new_source_port=translation.new_source_port,
        new_destination=str(translation.new_destination),
        new_destination_port=translation.new_destination_port,
        reply=translation.reply,
        idle_s=translation.idle_s,
    )


def _published(
    port: PublishedPort, target: PublishedTarget, containers: Mapping[tuple[int, IPAddress], str]
) -> PublishedPortDocument:
    return PublishedPortDocument(
        address=None if port.address is None else str(port.address),
        port=port.port,
        protocol=protocol_name(port.protocol),
        target=str(target.address),
        target_port=target.port,
        vni=target.vni,
        container=containers.get((target.vni, target.address)),
    )


def _services(state: AgentState) -> Mapping[IPAddress, str]:
    try:
        return {service.vip: service.name for service in state.balancing.services()}
    except StoreError:
        return {}


def _containers(state: AgentState) -> Mapping[tuple[int, IPAddress], str]:
    try:
        known = [endpoint for endpoint in state.endpoints() if endpoint.container]
    except StoreError:
        return {}
    return {(endpoint.vni, address): endpoint.container for endpoint in known for address in endpoint.addresses}
