"""The container of an endpoint on its way: found by name, or not at all."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from driver.arrival import find_arriving
from driver.engine_records import Container, ContainerId, Residents
from model.ids import DockerNetworkId, EndpointId

NETWORK = DockerNetworkId("5c" * 32)
ENDPOINT = EndpointId("e1" * 32)
WEB = ContainerId("c1" * 32)
DB = ContainerId("c2" * 32)
NOTHING = Residents()
ARRIVING = Residents(arriving={ENDPOINT: "web"})
OTHER_NAME = Residents(arriving={ENDPOINT: "front"})
ARRIVED = Residents(containers={ENDPOINT: DB})


def a_container(ident: ContainerId, name: str) -> Container:
    return Container(container_id=ident, name=name, labels={}, networks=frozenset())


class Engine:
    """Shows a network first like this, then like that."""

    def __init__(self, looks: Sequence[Residents], containers: Sequence[Container]) -> None:
        self._looks = list(looks)
        self._containers = containers

    def residents(self, network: DockerNetworkId) -> Residents:
        assert NETWORK == network
        return self._looks.pop(0)

    def container_named(self, name: str) -> Container | None:
        return next((one for one in self._containers if one.name == name), None)

    def container(self, container_id: ContainerId) -> Container | None:
        return next((one for one in self._containers if one.container_id == container_id), None)


@pytest.mark.parametrize(
    ("looks", "found"),
    [
        pytest.param([ARRIVING, ARRIVING], WEB, id="on-its-way"),
        pytest.param([ARRIVING, ARRIVED], DB, id="arrived-meanwhile"),
        pytest.param([NOTHING, ARRIVED], DB, id="arrived"),
        pytest.param([ARRIVED, ARRIVED], DB, id="arrived-before"),
        pytest.param([ARRIVING, NOTHING], None, id="gone-meanwhile"),
        pytest.param([ARRIVING, OTHER_NAME], None, id="another-name"),
        pytest.param([NOTHING, ARRIVING], None, id="late"),
        pytest.param([OTHER_NAME, OTHER_NAME], None, id="unknown-name"),
        pytest.param([NOTHING, NOTHING], None, id="nothing"),
        pytest.param([Residents(arriving={ENDPOINT: ""})] * 2, None, id="without-a-name"),
    ],
)
def test_the_container_is_certain_or_none(looks: Sequence[Residents], found: ContainerId | None) -> None:
    engine = Engine(looks, [a_container(WEB, "web"), a_container(DB, "db")])

    container = find_arriving(engine, NETWORK, ENDPOINT)

    assert found == (None if container is None else container.container_id)
