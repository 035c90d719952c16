"""Makes identities of containers that will have an endpoint, before they have it.

Until an endpoint's labels are known it is ``init``, and what closes ``init`` are the policies of the cluster. A
container that carries its policy itself (``hawse.ingress``, ``hawse.egress``) may be the first of its kind: then there
is none before its identity exists. So identities are made

1. as soon as the engine says that a container was created, in a thread of its own: labelling the endpoints of others
   does not keep it waiting. Join waits for this (:meth:`HeadStart.await_done`), for a container runs after it only;
2. of containers that do not run but carry a policy, whenever everything is compared: the event of their creation may be
   long ago, and the identity collected since.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from driver.engine_records import Container, ContainerId
from driver.labelling import Labelling
from model.errors import HawseError, InvalidInput
from model.ids import DockerNetworkId
from model.labels import EGRESS_LABEL, INGRESS_LABEL

log = logging.getLogger(__name__)

_STOP_S: Final = 2.0


class NamesNetworks(Protocol):
    """:class:`driver.engine.Engine`."""

    def network_names(self) -> Mapping[str, str]:
        """Names of all networks by id. Raises EngineUnavailable."""
        ...


class HeadStart:
    """Prepares containers.

    Args:
        engine: the engine on this host.
        labelling: what makes identities.
        look: reads a container that was just created; None when it is gone. Raises EngineUnavailable.
        on_failure: called when a container could not be prepared and may be later; returns at once.
    """

    def __init__(
        self,
        engine: NamesNetworks,
        labelling: Labelling,
        *,
        look: Callable[[ContainerId], Container | None],
        on_failure: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._labelling = labelling
        self._look = look
        self._on_failure = on_failure
        # The engine gives an id one name, for ever; those of networks that are gone are not asked for.
        self._names: Mapping[DockerNetworkId, str] = {}
        self._changed = threading.Condition()
        self._waiting: deque[ContainerId] = deque()
        self._begun = 0
        self._done = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="container identities", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End. Idempotent."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def created(self, container_id: ContainerId) -> None:
        """Prepare a container that was just created; returns at once."""
        with self._changed:
            self._waiting.append(container_id)
            self._begun += 1
            self._changed.notify_all()

    def await_done(self, timeout_s: float) -> bool:
        """Wait until everything that was :meth:`created` before has been dealt with; False when not in time."""
        with self._changed:
            begun = self._begun
            return self._changed.wait_for(lambda: self._stopping or self._done >= begun, timeout_s)

    def prepare(self, container: Container) -> bool:
        """Make the identity of a container, and let its rules reach the kernel. From any thread.

        Returns:
            False when that did not work and may work later.

        Raises:
            EngineUnavailable: the engine does not say its networks.
        """
        if not self._is_ours(container):
            return True
        try:
            self._labelling.prepare(container.name, container.labels)
        except HawseError as err:
            # If it fails again when there is an endpoint, it is a problem.
            log.warning("identity cannot be allocated yet", extra={"container": container.name, "reason": str(err)})
            return isinstance(err, InvalidInput)
        return True

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._waiting)
                if self._stopping:
                    return
                container_id = self._waiting.popleft()
            try:
                container = self._look(container_id)
                done = container is None or self.prepare(container)
            except HawseError as err:
                log.warning("new container cannot be read", extra={"container": container_id, "reason": str(err)})
                done = False
            except Exception:
                log.exception("preparing a container broke", extra={"container": container_id})
                done = False
            with self._changed:
                self._done += 1
                self._changed.notify_all()
            if not done:
                self._on_failure()

    def _is_ours(self, container: Container) -> bool:
        """Whether a container will have an endpoint of hawse, as far as can be said before it has."""
        ours = self._labelling.docker_networks()
        if not container.networks or not ours:
            return False
        if self._is_in(container, ours):
            return True
        if ours <= self._names.keys():
            return False
        self._names = {DockerNetworkId(ident): name for ident, name in self._engine.network_names().items()}
        return self._is_in(container, ours)

    def _is_in(self, container: Container, ours: frozenset[DockerNetworkId]) -> bool:
        names = self._names
        return any(said == names.get(ident) or ident.startswith(said) for said in container.networks for ident in ours)


def waits_with_policy(container: Container) -> bool:
    """Whether a container has no endpoint at the moment, and carries a policy for the one that it will have."""
    return not container.endpoints and bool(container.labels.keys() & {INGRESS_LABEL, EGRESS_LABEL})
