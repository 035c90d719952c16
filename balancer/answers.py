"""What the agent answers about services, put together of who makes them and who writes them to the kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from balancer.controller import ServiceController
from balancer.label_services import LabelServices
from model.service_answers import ServiceAnswer, ServiceHealth


@dataclass(frozen=True, slots=True)
class ServiceAnswers:
    """Answers from memory, from any thread (``observe.service_state.ServiceState``)."""

    controller: ServiceController
    labels: LabelServices
    swarm_warnings: Callable[[], Sequence[str]] = tuple
    """What cannot be read of the Swarm's lists, a sentence each."""

    def services(self) -> Sequence[ServiceAnswer]:
        """Every service, one answer for each of its networks.

        Raises:
            StoreUnavailable: nothing has been read from the store yet.
        """
        return self.controller.services()

    def health(self) -> ServiceHealth:
        """How the kernel of this node follows, in figures."""
        return self.controller.health()

    def problems(self) -> Sequence[str]:
        """What does not work, a sentence each."""
        return [*self.controller.problems(), *self.labels.problems()]

    def warnings(self) -> Sequence[str]:
        """What an operator should correct, a sentence each."""
        return [*self.labels.warnings(), *self.swarm_warnings()]
