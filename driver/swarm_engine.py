"""What hawse asks of a Swarm's manager: three lists, again and again.

A list of ten thousand tasks has tens of megabytes, and most of it is as it was half a second before. So an answer is
only read when its bytes differ from the last one's, and of it only the entries that were not in the last one; for the
others the records of then are returned, the same objects.

An entry that cannot be read is told as such and keeps no other from being read: what one service is made of must not
keep the tasks of all others from being drained.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

import msgspec

from driver.engine import SILENCE_S, EventStream
from driver.engine_events import SWARM_FILTERS, SwarmEvent, read_swarm_event
from driver.engine_http import EngineHttp
from driver.fields import Fields
from driver.swarm_records import RUNNING, Listing, SwarmNode, SwarmService, SwarmTask, Unread
from model.errors import EngineUnavailable, InvalidInput, NotFound, ProtocolError

T = TypeVar("T")

LIST_TIMEOUT_S: Final = 3.0
_ENTRIES: Final = msgspec.json.Decoder(list[msgspec.Raw])


class SwarmEngine:
    """The engine on this host, as a manager of its Swarm. For one thread, but for :meth:`swarm_events`.

    Every method raises:
        EngineUnavailable: it cannot be reached, did not answer in time, is no manager, or the managers have no
            majority, or its answer is no list.

    Args:
        socket: the engine's socket; looked up at every call.
        timeout_s: how long each answer may take.
    """

    def __init__(self, socket: Path, *, timeout_s: float = LIST_TIMEOUT_S) -> None:
        self._http = EngineHttp(socket)
        self._services = _List(self._http, "/services", {}, SwarmService.read, timeout_s)
        # Of a task that is to end nothing is needed: it is drained. There may be many more of those.
        self._tasks = _List(self._http, "/tasks", {"desired-state": [RUNNING]}, SwarmTask.read, timeout_s)
        self._nodes = _List(self._http, "/nodes", {}, SwarmNode.read, timeout_s)

    def swarm_services(self) -> Listing[SwarmService]:
        """Every service; the same objects as before where nothing has changed."""
        return self._services.ask()

    def swarm_tasks(self) -> Listing[SwarmTask]:
        """Every task that is meant to run; the same objects as before where nothing has changed."""
        return self._tasks.ask()

    def swarm_nodes(self) -> Listing[SwarmNode]:
        """Every node; the same objects as before where nothing has changed."""
        return self._nodes.ask()

    def events(self, since_ns: int) -> EventStream[SwarmEvent]:
        """Follow what may concern tasks, from a moment of the engine's clock on."""
        query = {"since": f"{since_ns // 10**9}.{since_ns % 10**9:09d}", "filters": json.dumps(SWARM_FILTERS)}
        return EventStream(self._http.lines("/events", query, silence_s=SILENCE_S), read_swarm_event)


class _List(Generic[T]):
    """One list, and what it said last."""

    def __init__(
        self,
        http: EngineHttp,
        target: str,
        filters: Mapping[str, Sequence[str]],
        read: Callable[[Fields], T],
        timeout_s: float,
    ) -> None:
        self._http = http
        self._target = target
        self._query = {"filters": json.dumps(filters)} if filters else None
        self._read = read
        self._timeout_s = timeout_s
        self._digest = b""
        self._known: dict[bytes, T | Unread] = {}
        """What was in the last answer, by a digest of its bytes."""
        self._last: Listing[T] = Listing()

    def ask(self) -> Listing[T]:
        try:
            body = self._http.get_bytes(self._target, self._query, timeout_s=self._timeout_s)
            digest = _digest(body)
            if digest != self._digest:
                entries = {_digest(entry): entry for entry in _ENTRIES.decode(body)}
                self._known = {key: self._known.get(key) or self._read_entry(entry) for key, entry in entries.items()}
                self._last = _listing(self._known.values())
                self._digest = digest
        except NotFound as err:
            raise EngineUnavailable(str(err)) from err
        except (InvalidInput, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
            raise EngineUnavailable(f"the engine's answer to {self._target} cannot be read: {err}") from err
        return self._last

    def _read_entry(self, entry: msgspec.Raw) -> T | Unread:
        value: object = None
        try:
            value = msgspec.json.decode(entry)
            if not isinstance(value, dict):
                raise ProtocolError("expected an object")
            return self._read(Fields(value))
        except (InvalidInput, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
            return Unread.of(value, str(err))


def _listing(found: Iterable[T | Unread]) -> Listing[T]:
    entries: list[T] = []
    unread: list[Unread] = []
    for one in found:
        if isinstance(one, Unread):
            unread.append(one)
        else:
            entries.append(one)
    return Listing(entries=tuple(entries), unread=tuple(unread))


def _digest(data: bytes | msgspec.Raw) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
