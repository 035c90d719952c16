"""Reading one JSON message field by field, with types and with the path of what is wrong.

Go's rules, since the sender is Go: ``null`` is the same as an absent field (nil maps and slices are sent as
``null``), an empty string is the same as no address, unknown fields are ignored. What libnetwork calls ``Address`` or
``Pool`` becomes a value of :mod:`model.addresses` here; no ``dict`` and no ``Any`` goes further up.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar, cast

import msgspec

from ipam.rules import parse_network
from model import ids
from model.addresses import IPAddress, IPInterface, IPNetwork, MacAddress
from model.errors import InvalidInput, ProtocolError
from model.ids import DockerNetworkId, EndpointId

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object and where it stands in its message.

    Every method raises:
        ProtocolError: the field is missing although it is needed, or has the wrong type or form; the message starts
            with the path of the field, for example ``IPv4Data[0].Pool``.
    """

    values: Mapping[str, object]
    path: str = ""

    @classmethod
    def of_body(cls, body: bytes) -> Self:
        """Read the body of a request.

        An empty body is refused, never read as «all defaults»: dockerd repeats a request whose connection broke with
        an empty body when the first attempt had already sent it.

        Raises:
            ProtocolError: empty, not JSON, or not an object.
        """
        if not body.strip():
            raise ProtocolError("the request body is empty; this method needs a JSON object")
        try:
            value = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as err:
            raise ProtocolError(f"the request body is not JSON: {err}") from err
        except RecursionError as err:
            raise ProtocolError("the request body is nested too deeply") from err
        if not isinstance(value, dict):
            raise ProtocolError(f"the request body is {_kind(value)}; this method needs a JSON object")
        return cls(cast("dict[str, object]", value))

    def text(self, name: str) -> str:
        """Read a string; absent is ``""``."""
        return self._typed(name, str, "a string", "")

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Read a boolean."""
        return self._typed(name, bool, "true or false", default)

    def number(self, name: str) -> int:
        """Read an integer; absent is 0."""
        value = self._typed(name, int, "an integer", 0)
        if isinstance(value, bool):
            raise self._wrong(name, "an integer", value)
        return value

    def nested(self, name: str) -> Fields:
        """Read a nested object; absent is an empty one."""
        return Fields(self._typed(name, dict, "an object", {}), self._at(name))

    def nested_list(self, name: str) -> Sequence[Fields]:
        """Read a list of objects; absent is an empty one."""
        found = []
        for index, value in enumerate(self._typed(name, list, "a list", [])):
            where = f"{self._at(name)}[{index}]"
            if not isinstance(value, dict):
                raise ProtocolError(f"{where}: expected an object, got {_kind(value)}")
            found.append(Fields(cast("dict[str, object]", value), where))
        return found

    def text_list(self, name: str) -> tuple[str, ...]:
        """Read a list of strings; absent is an empty one."""
        values: list[object] = self._typed(name, list, "a list", [])
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise ProtocolError(f"{self._at(name)}[{index}]: expected a string, got {_kind(value)}")
        return tuple(cast("list[str]", values))

    def texts(self, name: str) -> Mapping[str, str]:
        """Read an object whose values are strings; absent is an empty one, a ``null`` value is an absent key."""
        inner = self.nested(name)
        return {key: inner.text(key) for key, value in inner.values.items() if value is not None}

    def docker_network_id(self, name: str = "NetworkID") -> DockerNetworkId:
        """Read the id of a Docker network; needed."""
        return self._parsed(name, self._needed(name), ids.docker_network_id)

    def endpoint_id(self, name: str = "EndpointID") -> EndpointId:
        """Read the id of an endpoint; needed."""
        return self._parsed(name, self._needed(name), ids.endpoint_id)

    def needed_text(self, name: str) -> str:
        """Read a string that may not be empty."""
        return self._needed(name)

    def network(self, name: str) -> IPNetwork | None:
        """Read a subnet in CIDR notation; None when absent or empty."""
        text = self.text(name)
        return self._parsed(name, text, _network) if text else None

    def interface(self, name: str) -> IPInterface | None:
        """Read an address with its prefix length; None when absent or empty."""
        text = self.text(name)
        return self._parsed(name, text, _interface) if text else None

    def address(self, name: str) -> IPAddress | None:
        """Read an address without prefix length; None when absent or empty."""
        text = self.text(name)
        return self._parsed(name, text, _address) if text else None

    def mac(self, name: str) -> MacAddress | None:
        """Read a MAC address; None when absent or empty."""
        text = self.text(name)
        return self._parsed(name, text, MacAddress.parse) if text else None

    def _typed(self, name: str, kind: type[T], what: str, default: T) -> T:
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, kind):
            raise self._wrong(name, what, value)
        return value

    def _needed(self, name: str) -> str:
        text = self.text(name)
        if not text:
            raise ProtocolError(f"{self._at(name)}: missing; this method needs it")
        return text

    def _parsed(self, name: str, text: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(text)
        except InvalidInput as err:
            raise ProtocolError(f"{self._at(name)}: {err}") from err

    def _wrong(self, name: str, what: str, value: object) -> ProtocolError:
        return ProtocolError(f"{self._at(name)}: expected {what}, got {_kind(value)}")

    def _at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name


def _kind(value: object) -> str:
    names: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "a boolean"),
        ((int, float), "a number"),
        (str, "a string"),
        (list, "a list"),
        (dict, "an object"),
    )
    return next((name for kinds, name in names if isinstance(value, kinds)), "null")


def _network(text: str) -> IPNetwork:
    return parse_network(text, option="subnet")


def _interface(text: str) -> IPInterface:
    # Without a prefix length the standard library would take /32 in silence.
    if "/" not in text:
        raise InvalidInput(f"{text[:80]!r} has no prefix length, expected an address like 10.1.0.5/16")
    try:
        return ipaddress.ip_interface(text)
    except ValueError as err:
        raise InvalidInput(f"{text[:80]!r} is not an address with prefix length like 10.1.0.5/16") from err


def _address(text: str) -> IPAddress:
    try:
        return ipaddress.ip_address(text)
    except ValueError as err:
        raise InvalidInput(f"{text[:80]!r} is not an IP address like 10.1.0.5") from err
