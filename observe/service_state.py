"""What the agent's API asks of services: one Protocol, in the terms of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from model.service_answers import ServiceAnswer, ServiceHealth


class ServiceState(Protocol):
    """The services of the cluster. All methods may be called from any thread and answer from memory."""

    def services(self) -> Sequence[ServiceAnswer]:
        """Every service, one answer for each of its networks.

        Raises:
            StoreUnavailable: nothing is known yet, because the store has not been reached since the agent started.
        """
        ...

    # What follows never raises.

    def health(self) -> ServiceHealth:
        """How the kernel of this node follows, in figures."""
        ...

    def problems(self) -> Sequence[str]:
        """What does not work, a sentence each."""
        ...

    def warnings(self) -> Sequence[str]:
        """What an operator should correct, a sentence each."""
        ...
