"""Which service is meant: by its name, its id, the first characters of its id, or a virtual address."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Final

from model.addresses import IPAddress
from model.errors import InvalidInput, NotFound
from model.ids import ServiceId
from model.service_answers import ServiceAnswer

_SHOWN: Final = 80
"""Characters of a wrong word that are repeated in an error."""
_SHORTEST_ID: Final = 4
"""Characters of an id that are enough to find a service by; a shorter word is a name."""


def by_id(answers: Sequence[ServiceAnswer]) -> Mapping[ServiceId, Sequence[ServiceAnswer]]:
    """Put the answers of each service together; there is one for each of its networks."""
    found: dict[ServiceId, list[ServiceAnswer]] = {}
    for answer in answers:
        found.setdefault(answer.service_id, []).append(answer)
    return found


def find_service(answers: Sequence[ServiceAnswer], word: str) -> Sequence[ServiceAnswer]:
    """Find the one service that a word names; its answers, one for each network.

    Raises:
        NotFound: there is none.
        InvalidInput: there are several; the message has their ids.
    """
    services = by_id(answers)
    for fits in (
        lambda answer: answer.service_id == word,
        lambda answer: answer.name == word,
        lambda answer: str(answer.vip) == _address(word),
        lambda answer: len(word) >= _SHORTEST_ID and answer.service_id.startswith(word),
    ):
        found = [ident for ident, service in services.items() if any(fits(answer) for answer in service)]
        if len(found) > 1:
            raise InvalidInput(f"{word[:_SHOWN]} is {len(found)} services; say one of the ids {', '.join(found)}")
        if found:
            return services[found[0]]
    raise NotFound(f"there is no service {word[:_SHOWN]!r}: «hawse service ls» lists them")


def service_at(answers: Sequence[ServiceAnswer], address: IPAddress) -> ServiceAnswer | None:
    """Find the service of a virtual address."""
    return next((answer for answer in answers if answer.vip == address), None)


def _address(word: str) -> str | None:
    try:
        return str(ipaddress.ip_address(word))
    except ValueError:
        return None
