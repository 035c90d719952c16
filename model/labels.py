"""Labels of containers, and the few of them that hawse itself gives a meaning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

RESERVED_PREFIX: Final = "reserved:"
"""Labels of reserved identities (``reserved:host``); no user can give one to a container."""

PORT_PREFIX: Final = "hawse.port."
"""``hawse.port.<name>=<port>/<protocol>`` names a port, so that policies can say the name."""

INGRESS_LABEL: Final = "hawse.ingress"
EGRESS_LABEL: Final = "hawse.egress"

SERVICE_LABEL: Final = "hawse.service"
"""``hawse.service=<name>:<port>`` makes a container answer for a service."""
AFFINITY_LABEL: Final = "hawse.service.affinity"
"""``hawse.service.affinity=true``, of a container or a Swarm service: a client keeps its backend."""

STACK_LABEL: Final = "com.docker.stack.namespace"
SWARM_SERVICE_LABEL: Final = "com.docker.swarm.service.name"
COMPOSE_PROJECT_LABEL: Final = "com.docker.compose.project"
COMPOSE_SERVICE_LABEL: Final = "com.docker.compose.service"

DEFAULT_NAMESPACE: Final = "default"


@dataclass(frozen=True, slots=True)
class Labels(Mapping[str, str]):
    """An immutable set of labels: equal by content, hashable, sorted by key."""

    pairs: tuple[tuple[str, str], ...] = ()
    """Sorted by key, each key once; made by :meth:`of`."""

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> Self:
        """Take the labels of a mapping."""
        return cls(tuple(sorted(labels.items())))

    def __getitem__(self, key: str) -> str:
        for name, value in self.pairs:
            if name == key:
                return value
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __str__(self) -> str:
        """Write them as ``app=web,tier=front``."""
        return ",".join(f"{name}={value}" if value else name for name, value in self.pairs)

    @property
    def namespace(self) -> str:
        """The Swarm stack, else the Compose project, else ``default``: what Kubernetes calls a namespace."""
        return self.get(STACK_LABEL) or self.get(COMPOSE_PROJECT_LABEL) or DEFAULT_NAMESPACE
