"""The lease of an office: there when somebody stands for it, not before."""

from __future__ import annotations

from cluster.election import Election
from cluster.office_lease import OfficeLease
from kvstore import keys
from kvstore.memory import MemoryStore
from model.ids import NodeName
from tests.support import wait


def test_it_is_granted_when_somebody_stands_for_the_office_and_ends_with_the_agent() -> None:
    store = MemoryStore()
    office = OfficeLease(store, ttl_s=6)
    election = Election(store, NodeName("s1"), office.lease, key=keys.SWARM_LEADER)
    office.start()
    assert not election.leading
    assert store.get(keys.SWARM_LEADER) is None

    wait.until("lead", election.try_to_lead, timeout_s=5)
    item = store.get(keys.SWARM_LEADER)
    assert item is not None
    assert item.lease == office.lease()

    office.stop()
    wait.until("no leader", lambda: store.get(keys.SWARM_LEADER) is None, timeout_s=5)
    assert not election.leading
    assert office.lease() is None


def test_an_agent_that_never_stood_for_it_can_be_stopped() -> None:
    office = OfficeLease(MemoryStore(), ttl_s=6)

    office.stop()

    assert office.lease() is None
