"""The options users can give: ``-o`` at ``docker network create``, ``driver-opt`` at ``docker run --network``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from model.errors import InvalidInput
from model.labels import RESERVED_PREFIX

MTU_OPTION: Final = "com.docker.network.driver.mtu"
MTU_MIN_BYTES: Final = 68
"""The smallest MTU of IPv4 (RFC 791)."""
MTU_MAX_BYTES: Final = 65535

MASQUERADE_OPTION: Final = "hawse.masquerade"

_KNOWN: Final = (
    f"{MTU_OPTION} (bytes, {MTU_MIN_BYTES} to {MTU_MAX_BYTES})",
    f"{MASQUERADE_OPTION} (true or false)",
)

ENGINE_PREFIX: Final = "com.docker."
LABEL_PREFIX: Final = "label."


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """What ``-o`` says of a network."""

    mtu_bytes: int | None = None
    """None: the node's own."""
    masquerade: bool = True
    """Whether packets to the outside get the address of their host; false: the outside has a route to the subnet."""

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> Self:
        """Read the ``-o`` options.

        Raises:
            InvalidInput: an option that does not exist, or a value that breaks its rule.
        """
        unknown = sorted(options.keys() - {MTU_OPTION, MASQUERADE_OPTION})
        if unknown:
            raise InvalidInput(f"-o {', '.join(unknown)[:200]}: hawse has no such option; it knows {', '.join(_KNOWN)}")
        text = options.get(MTU_OPTION)
        return cls(
            mtu_bytes=None if text is None else _mtu(text),
            masquerade=_truth(MASQUERADE_OPTION, options.get(MASQUERADE_OPTION, "true")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointOptions:
    """What ``driver-opt`` says of one endpoint."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """From ``driver-opt=label.<key>=<value>``: known before the container's first packet."""

    @classmethod
    def parse(cls, options: Mapping[str, object]) -> Self:
        """Read the options of CreateEndpoint: those of the engine are passed over.

        Raises:
            InvalidInput: an option that does not exist, or a label without a key or text, or one of hawse's own.
        """
        labels = {}
        for name, value in options.items():
            if name.startswith(ENGINE_PREFIX):
                continue
            if not name.startswith(LABEL_PREFIX):
                raise InvalidInput(
                    f"driver-opt {name[:80]!r}: hawse has no such option for an endpoint; "
                    f"it knows {LABEL_PREFIX}<key>=<value>"
                )
            key = name.removeprefix(LABEL_PREFIX)
            if not key:
                raise InvalidInput(f"driver-opt {name!r} has no key; write {LABEL_PREFIX}<key>=<value>")
            if key.startswith(RESERVED_PREFIX):
                raise InvalidInput(
                    f"driver-opt {name[:80]!r}: labels that begin with {RESERVED_PREFIX!r} are hawse's own; "
                    "choose another key"
                )
            if not isinstance(value, str):
                raise InvalidInput(f"driver-opt {name[:80]!r} has to be text")
            labels[key] = value
        return cls(labels=labels)


def _mtu(text: str) -> int:
    # The digits are counted first: int() of a very long text is refused in other words by Python itself.
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MTU_MAX_BYTES))):
        raise InvalidInput(
            f"-o {MTU_OPTION}={text[:40]} is not a number of bytes from {MTU_MIN_BYTES} to {MTU_MAX_BYTES}"
        )
    if not MTU_MIN_BYTES <= int(text) <= MTU_MAX_BYTES:
        raise InvalidInput(f"-o {MTU_OPTION}={text} is outside {MTU_MIN_BYTES} to {MTU_MAX_BYTES} bytes")
    return int(text)


def _truth(option: str, text: str) -> bool:
    if text not in {"true", "false"}:
        raise InvalidInput(f"-o {option}={text[:40]} is neither true nor false")
    return text == "true"
