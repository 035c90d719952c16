"""What the agent knows of services without asking the store; lost nodes are in :class:`cluster.views.ClusterViews`."""

from __future__ import annotations

from dataclasses import dataclass

from kvstore import keys
from kvstore.codec import decode
from kvstore.store import KeyValue, Store
from kvstore.watcher import View
from model.errors import InvalidInput
from model.services import Service


@dataclass(frozen=True, slots=True)
class ServiceViews:
    """The view of the services' keys; made stopped, because subscriptions come before :meth:`start`.

    A record that cannot be read counts as absent, with a line in the log; who writes the services puts it right.
    """

    services: View[Service]

    @classmethod
    def of(cls, store: Store) -> ServiceViews:
        """Views of one store."""
        return cls(services=View(store, keys.SERVICES, read_service))

    def start(self) -> None:
        """Begin to follow the store; returns at once."""
        self.services.start()

    def stop(self) -> None:
        """Stop following; what was seen stays readable."""
        self.services.stop()

    @property
    def known(self) -> bool:
        """Whether the services have been read, however long ago."""
        return bool(self.services.revision)

    def wait_synced(self, timeout_s: float) -> bool:
        """Wait until the services have been read and are followed."""
        return self.services.wait_synced(timeout_s)


def read_service(item: KeyValue) -> Service:
    """Read one service.

    Raises:
        InvalidInput: it cannot be read, or is another one than its key says.
    """
    service = decode(Service, item.value, key=item.key)
    if keys.parse_service(item.key) != service.service_id:
        raise InvalidInput(f"etcd key {item.key} holds another service, {service.service_id}")
    return service
