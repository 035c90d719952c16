"""What the operator's state says beyond what its sources do."""

from __future__ import annotations

import pytest

from datapath.api import Feature
from plugin.operator_state import packet_reason
from plugin.settings import ServiceTranslation

NO_CGROUP = Feature(name="cgroup v2", available=False, required=False, detail="not mounted")
NOT_ATTACHED = Feature(name="services at sockets", available=False, required=False, detail="nothing to attach to")
OTHER = Feature(name="BTF", available=False, required=False, detail="not there")


@pytest.mark.parametrize(
    ("wanted", "features", "reason"),
    [
        (ServiceTranslation.PACKET, [NO_CGROUP], "SERVICE_TRANSLATION=packet says so"),
        (ServiceTranslation.AUTO, [OTHER, NOT_ATTACHED, NO_CGROUP], "cgroup v2 is not available: not mounted"),
        (ServiceTranslation.SOCKET, [NOT_ATTACHED], "services at sockets is not available: nothing to attach to"),
        (ServiceTranslation.AUTO, [OTHER], ""),
    ],
)
def test_status_says_why_services_are_translated_in_packets(
    wanted: ServiceTranslation, features: list[Feature], reason: str
) -> None:
    assert packet_reason(wanted, features) == reason
