"""The label ``hawse.service``: which services a container answers for.

::

    label    = item { "," item }
    item     = name ":" port [ "=" target ] [ "/" protocol ]
    port     = 1 to 65535: where the service is asked for
    target   = 1 to 65535: where the container listens; without it the same as port
    protocol = "tcp" | "udp" | "sctp"; without it tcp

``web:80``, ``web:8080=80``, ``dns:53/udp,dns:53/tcp``. Names are like those of containers: letters, digits, ``-``,
``_`` and ``.``, at most 63.

An item that cannot be read is left out and said, the others count.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kvstore import keys
from model.addresses import IPNetwork
from model.endpoints import Endpoint
from model.ids import ServiceId, service_id
from model.labels import AFFINITY_LABEL, SERVICE_LABEL
from model.services import ServicePort

_ITEM: Final = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]{0,62}):(?P<port>[0-9]{1,5})(?:=(?P<target>[0-9]{1,5}))?"
    r"(?:/(?P<protocol>tcp|udp|sctp))?"
)
_PORT_MAX: Final = 65535
_ITEMS_MAX: Final = 64
_FLAGS: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledPort:
    """One item of the label."""

    name: str
    """Of the service."""
    port: ServicePort


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLabels:
    """What the labels of a container say."""

    ports: tuple[LabelledPort, ...] = ()
    """In the order of the label; of each service every port once."""
    affinity: bool = False
    problems: tuple[str, ...] = ()
    """What cannot be read, a sentence each."""


def read_labels(endpoint: Endpoint) -> ServiceLabels:
    """Read the labels of an endpoint; nothing while they are not known."""
    labels = endpoint.labels
    if labels is None or SERVICE_LABEL not in labels:
        return ServiceLabels()
    return _read(labels[SERVICE_LABEL], labels.get(AFFINITY_LABEL, "false").strip().lower())


@functools.lru_cache(maxsize=512)
def _read(text: str, affinity: str) -> ServiceLabels:
    ports, problems = _items(text)
    if affinity not in _FLAGS:
        problems.append(f"{AFFINITY_LABEL} is {affinity[:20]!r}, not true or false; it counts as false")
    return ServiceLabels(ports=tuple(ports), affinity=_FLAGS.get(affinity, False), problems=tuple(problems))


def label_service_id(pool: IPNetwork, name: str) -> ServiceId:
    """Id of the service of this name in a network of IPv4."""
    return service_id(f"label-{keys.pool_segment(pool)}-{name}")


def _items(text: str) -> tuple[list[LabelledPort], list[str]]:
    found: dict[tuple[str, int, str], LabelledPort] = {}
    problems = []
    items = [item.strip() for item in text.split(",")]
    if len(items) > _ITEMS_MAX:
        problems.append(f"{SERVICE_LABEL} has {len(items)} items, of which the first {_ITEMS_MAX} count")
    for item in items[:_ITEMS_MAX]:
        one = _item(item)
        if one is None:
            problems.append(
                f"{SERVICE_LABEL} says {item[:80]!r}, which is not like web:80, web:8080=80 or dns:53/udp; "
                "it does not count"
            )
            continue
        known = found.setdefault((one.name, one.port.port, one.port.protocol), one)
        if known != one:
            problems.append(
                f"{SERVICE_LABEL} says two targets of {describe(one)}, of which the first counts, "
                f"{known.port.target_port}"
            )
    return list(found.values()), problems


def _item(text: str) -> LabelledPort | None:
    match = _ITEM.fullmatch(text)
    if match is None:
        return None
    port = int(match["port"])
    target = int(match["target"] or port)
    if not (1 <= port <= _PORT_MAX and 1 <= target <= _PORT_MAX):
        return None
    return LabelledPort(
        name=match["name"], port=ServicePort(port=port, protocol=match["protocol"] or "tcp", target_port=target)
    )


def describe(one: LabelledPort) -> str:
    """``web:80/tcp``."""
    return f"{one.name}:{one.port.port}/{one.port.protocol}"


def names_of(labels: ServiceLabels) -> Sequence[str]:
    """The services that they name, each once."""
    return list(dict.fromkeys(one.name for one in labels.ports))
