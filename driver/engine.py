"""What hawse asks of Docker's own API, and the only file that knows the Docker SDK.

Never from a handler: dockerd holds locks while it calls a plugin, and serves no API at all before its boot is over,
so a handler that asks would wait for itself. Only lists are read, never an object by its id (an inspect waits for the
lock of a container that is being started). The SDK takes 0.15 s to import, so that is done at the first question.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from driver.fields import Fields
from model.errors import EngineUnavailable

if TYPE_CHECKING:
    import docker

LIST_TIMEOUT_S: Final = 5.0
_MIN_TIMEOUT_S: Final = 0.01
_ANY_API_VERSION: Final = "1.41"

_NOT_IN_A_SWARM: Final = frozenset({"", "inactive"})
"""Of ``Swarm.LocalNodeState``; a node that is ``pending``, ``locked`` or in ``error`` belongs to a Swarm as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What ``docker info`` says that matters here."""

    version: str
    in_swarm: bool
    swarm_address: IPv4Address | IPv6Address | None
    """The address that the other nodes of the Swarm know this host by."""
    live_restore: bool


class Engine:
    """The engine on this host.

    Every method raises:
        EngineUnavailable: it cannot be reached or did not answer in time.

    Args:
        socket: the engine's socket; looked up at every call, since dockerd makes a new one when it starts.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def info(self, timeout_s: float) -> EngineInfo:
        """Ask for the engine's version and its place in a Swarm, within ``timeout_s`` altogether."""
        with self._client(timeout_s) as client:
            info = Fields(cast("Mapping[str, object]", client.info()))
        swarm = info.nested("Swarm")
        return EngineInfo(
            version=info.text("ServerVersion"),
            in_swarm=swarm.text("LocalNodeState") not in _NOT_IN_A_SWARM,
            swarm_address=_address(swarm.text("NodeAddr")),
            live_restore=info.flag("LiveRestoreEnabled"),
        )

    def network_ids(self, timeout_s: float = LIST_TIMEOUT_S) -> frozenset[str]:
        """Ids of all networks that the engine knows, of every driver."""
        with self._client(timeout_s) as client:
            return _ids(client.networks())

    def container_ids(self, timeout_s: float = LIST_TIMEOUT_S) -> frozenset[str]:
        """Ids of all containers, running or not."""
        with self._client(timeout_s) as client:
            return _ids(client.containers(all=True))

    @contextlib.contextmanager
    def _client(self, timeout_s: float) -> Iterator[docker.APIClient]:
        # See the module's docstring: the agent must be listening before a third of a second is gone.
        import docker.errors  # noqa: PLC0415
        import requests  # noqa: PLC0415

        def open_client(version: str, timeout_s: float) -> contextlib.closing[docker.APIClient]:
            # The SDK's version="auto" asks inside the constructor and leaves the connection open when that fails.
            client = docker.APIClient(
                base_url=f"unix://{self._socket}",
                version=version,
                timeout=timeout_s,  # type: ignore[arg-type]  # the stubs say int, requests takes any number
            )
            return contextlib.closing(client)

        if not self._socket.is_socket():
            raise EngineUnavailable(f"there is no engine at {self._socket}")
        ends = time.monotonic() + timeout_s
        try:
            # Asked first without a version: 20.10 does not know those that 29 requires.
            with open_client(_ANY_API_VERSION, timeout_s) as client:
                served = Fields(cast("Mapping[str, object]", client.version(api_version=False)))
            with open_client(served.needed_text("ApiVersion"), max(ends - time.monotonic(), _MIN_TIMEOUT_S)) as client:
                yield client
        except (docker.errors.DockerException, requests.RequestException) as err:
            raise EngineUnavailable(f"the engine at {self._socket} does not answer: {err}") from err


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        # Outside of a Swarm it is empty.
        return None


def _ids(listed: Any) -> frozenset[str]:
    return frozenset(Fields(cast("Mapping[str, object]", one)).needed_text("Id") for one in listed)
