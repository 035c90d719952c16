"""What hawse asks of Docker's own API.

Never from a handler: dockerd holds locks while it calls a plugin, and serves no API at all before its boot is over, so
a handler that asks would wait for itself. A container is never inspected, because that waits for its lock, which is
held while it is started; its list entry and the network it is in are answered at once (ADR 0014).
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final, Generic, TypeVar, cast

from driver.engine_events import FILTERS, Event, read_event
from driver.engine_http import EngineHttp, Lines
from driver.engine_records import Container, ContainerId, Residents
from driver.fields import Fields
from model.errors import EngineUnavailable, InvalidInput, NotFound, ProtocolError
from model.ids import DockerNetworkId

log = logging.getLogger(__name__)

E = TypeVar("E")

LIST_TIMEOUT_S: Final = 5.0
SILENCE_S: Final = 60.0
"""How long the engine may send no event before the stream is made anew."""

_NOT_IN_A_SWARM: Final = frozenset({"", "inactive"})
"""Of ``Swarm.LocalNodeState``; a node that is ``pending``, ``locked`` or in ``error`` belongs to a Swarm as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What ``docker info`` says that matters here."""

    version: str
    in_swarm: bool
    swarm_manager: bool = False
    """Whether it may be asked for services, tasks and nodes; without a majority of managers it does not answer."""
    swarm_address: IPv4Address | IPv6Address | None
    """The address that the other nodes of the Swarm know this host by."""
    live_restore: bool


class Engine:
    """The engine on this host. Safe from any thread.

    Every method raises:
        EngineUnavailable: it cannot be reached, did not answer in time, or its answer cannot be read.

    Args:
        socket: the engine's socket; looked up at every call, since dockerd makes a new one when it starts.
    """

    def __init__(self, socket: Path) -> None:
        self._http = EngineHttp(socket)

    def info(self, timeout_s: float) -> EngineInfo:
        """Ask for the engine's version and its place in a Swarm, within ``timeout_s`` altogether."""
        with _readable():
            info = _object(self._http.get("/info", timeout_s=timeout_s))
            swarm = info.nested("Swarm")
            return EngineInfo(
                version=info.text("ServerVersion"),
                in_swarm=swarm.text("LocalNodeState") not in _NOT_IN_A_SWARM,
                swarm_manager=swarm.flag("ControlAvailable"),
                swarm_address=_address(swarm.text("NodeAddr")),
                live_restore=info.flag("LiveRestoreEnabled"),
            )

    def network_ids(self, timeout_s: float = LIST_TIMEOUT_S) -> frozenset[str]:
        """Ids of all networks that the engine knows, of every driver."""
        return frozenset(self.network_names(timeout_s))

    def network_names(self, timeout_s: float = LIST_TIMEOUT_S) -> Mapping[str, str]:
        """Names of all networks that the engine knows, of every driver, by id."""
        with _readable():
            networks = _objects(self._http.get("/networks", timeout_s=timeout_s))
            return {network.needed_text("Id"): network.text("Name") for network in networks}

    def containers(self, timeout_s: float = LIST_TIMEOUT_S) -> Sequence[Container]:
        """All containers, running or not."""
        return self._containers({}, timeout_s)

    def container(self, container_id: ContainerId, timeout_s: float = LIST_TIMEOUT_S) -> Container | None:
        """One container, also while it is being started; None when there is none of this id."""
        # As a filter of the list: to inspect it would wait for its lock.
        found = self._containers({"filters": json.dumps({"id": [container_id]})}, timeout_s)
        return next((container for container in found if container.container_id == container_id), None)

    def container_named(self, name: str, timeout_s: float = LIST_TIMEOUT_S) -> Container | None:
        """The container that has this name now, also while it is being started; None when there is none."""
        found = self._containers({"filters": json.dumps({"name": [f"^/{re.escape(name)}$"]})}, timeout_s)
        return next((container for container in found if container.name == name), None)

    def residents(self, network: DockerNetworkId, timeout_s: float = LIST_TIMEOUT_S) -> Residents:
        """Whose endpoints a network has on this host; nobody's when there is no such network."""
        with _readable():
            try:
                answer = _object(self._http.get(f"/networks/{network}", timeout_s=timeout_s))
            except NotFound:
                return Residents()
            # By name, too, a network is found.
            return Residents.read(answer) if answer.text("Id") == network else Residents()

    def events(self, since_ns: int, *, silence_s: float = SILENCE_S) -> EventStream[Event]:
        """Follow what happens, from a moment of the engine's clock on; what was before comes at once.

        The engine remembers its last 256 events only: take the container list when the stream stands.
        """
        query = {"since": f"{since_ns // 10**9}.{since_ns % 10**9:09d}", "filters": json.dumps(FILTERS)}
        return EventStream(self._http.lines("/events", query, silence_s=silence_s), read_event)

    def _containers(self, query: Mapping[str, str], timeout_s: float) -> Sequence[Container]:
        with _readable():
            answer = self._http.get("/containers/json", {"all": "1", **query}, timeout_s=timeout_s)
            return [Container.read(entry) for entry in _objects(answer)]


class EventStream(contextlib.AbstractContextManager["EventStream[E]"], Generic[E]):
    """Events one after the other. Iterate in one thread, :meth:`close` from any; a context manager frees it.

    Args:
        lines: what the engine sends.
        read: makes an event of a message; None for one that does not matter, ProtocolError for what is none.
    """

    def __init__(self, lines: Lines, read: Callable[[Fields], E | None]) -> None:
        self._lines = lines
        self._read = read

    def __exit__(self, *error: object) -> None:
        self._lines.__exit__(None, None, None)

    def __iter__(self) -> Iterator[E]:
        """Give event after event until :meth:`close`, or until there was silence for too long.

        An event that cannot be read is left out, with a line in the log.

        Raises:
            EngineUnavailable: the engine has ended the stream, or it broke.
        """
        for line in self._lines:
            if line.isspace():
                continue
            try:
                event = self._read(Fields.of_body(line))
            except ProtocolError as err:
                log.warning("event of the engine cannot be read", extra={"reason": str(err)})
                continue
            if event is not None:
                yield event

    def close(self) -> None:
        """End the iteration, also one that waits in another thread. Idempotent."""
        self._lines.close()


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except InvalidInput as err:
        raise EngineUnavailable(f"the engine's answer cannot be read: {err}") from err


def _object(answer: object) -> Fields:
    if not isinstance(answer, dict):
        raise ProtocolError("the answer is no object")
    return Fields(cast("dict[str, object]", answer))


def _objects(answer: object) -> Sequence[Fields]:
    return Fields({"answer": answer}).nested_list("answer")


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        # Outside of a Swarm it is empty.
        return None
