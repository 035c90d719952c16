"""Services for tests of the API and of the command: values that the test sets."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from model.errors import HawseError
from model.ids import ServiceId
from model.service_answers import BackendAnswer, BackendState, ServiceAnswer, ServiceHealth
from model.services import ServicePort, ServiceSource
from observe.service_state import ServiceState

VIP = ipaddress.IPv4Address("10.1.0.2")
OTHER_VIP = ipaddress.IPv4Address("10.9.0.2")
CACHE_VIP = ipaddress.IPv4Address("10.1.0.3")
WEB_SERVICE = ServiceId("k3xq9m2b7c1d4f5g6h7j8k9l0")
CACHE_SERVICE = ServiceId("label-10.1.0.0-24-cache")
NETWORK = ipaddress.ip_network("10.1.0.0/24")
OTHER_NETWORK = ipaddress.ip_network("10.9.0.0/16")


def a_backend(name: str, address: str, **changes: Any) -> BackendAnswer:
    values: dict[str, Any] = {
        "name": name,
        "node": "alpha",
        "address": ipaddress.ip_address(address),
        "port": 0,
        "state": BackendState.ACTIVE,
        "share": 0.0,
    }
    return BackendAnswer(**{**values, **changes})


def a_service(**changes: Any) -> ServiceAnswer:
    """The service ``shop_web`` of the Swarm in one network: one container on each node gets connections."""
    values: dict[str, Any] = {
        "service_id": WEB_SERVICE,
        "name": "shop_web",
        "source": ServiceSource.SWARM,
        "network": NETWORK,
        "vip": VIP,
        "ports": (),
        "affinity": False,
        "backends": (
            a_backend("shop_web.1", "10.1.0.9", share=0.5005),
            a_backend("shop_web.2", "10.1.0.10", node="beta", share=0.4995),
            a_backend("shop_web.3", "10.1.0.11", node="beta", state=BackendState.STARTING),
        ),
    }
    return ServiceAnswer(**{**values, **changes})


def a_label_service(**changes: Any) -> ServiceAnswer:
    """The service ``cache`` of container labels; nobody answers for it."""
    values: dict[str, Any] = {
        "service_id": CACHE_SERVICE,
        "name": "cache",
        "source": ServiceSource.LABEL,
        "vip": CACHE_VIP,
        "ports": (ServicePort(port=6379, protocol="tcp", target_port=16379),),
        "affinity": True,
        "backends": (),
        "problem": "no container answers",
    }
    return a_service(**{**values, **changes})


class FixedServiceState(ServiceState):
    """Answers what stands in its attributes; raises ``error`` where the real one may raise."""

    def __init__(self) -> None:
        self.error: HawseError | None = None
        self.known: Sequence[ServiceAnswer] = (
            a_service(),
            a_service(
                network=OTHER_NETWORK,
                vip=OTHER_VIP,
                backends=(
                    a_backend("shop_web.1", "10.9.0.9", share=1.0),
                    a_backend("shop_web.2", "10.9.0.10", node="beta", state=BackendState.DRAINING),
                ),
            ),
            a_label_service(),
        )
        self.known_health = ServiceHealth(
            services=3, frontends=4, backends=3, applied_revision=4700, last_apply_s=0.004
        )
        self.known_problems: Sequence[str] = ()
        self.known_warnings: Sequence[str] = ()

    def services(self) -> Sequence[ServiceAnswer]:
        if self.error is not None:
            raise self.error
        return self.known

    def health(self) -> ServiceHealth:
        return self.known_health

    def problems(self) -> Sequence[str]:
        return self.known_problems

    def warnings(self) -> Sequence[str]:
        return self.known_warnings
