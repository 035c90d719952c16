"""What every datapath must do, the fake one and the one in the kernel."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from datapath.api import (
    Backend,
    Balancing,
    Datapath,
    DatapathConfig,
    Direction,
    Frontend,
    IpcacheKey,
    NetworkSpec,
    Place,
    PublishedPort,
    PublishedTarget,
    RemoteEndpoint,
    TranslationMode,
)
from datapath.fake import FakeDatapath
from datapath.flow_event import FlowEvents
from datapath.linux import LinuxDatapath
from datapath.policy_table import IdentityFlags, PolicyTable
from model.errors import DatapathError, InvalidInput
from model.identities import CIDR_IDENTITY_BASE
from model.ids import EndpointId, IdentityId, Vni
from tests.support.netns import Namespaces, bpf_file_system
from tests.support.overlay import IDENTITY, MTU, VNI, an_endpoint
from tests.support.policy_tables import allow

CONFIG = DatapathConfig(node_address=IPv4Address("10.77.0.1"), tunnel_port=8472, mtu_bytes=MTU)
NODE = IPv4Address("10.77.0.2")


@pytest.fixture(scope="module")
def linux() -> Iterator[LinuxDatapath]:
    """In a namespace and a BPF file system of its own; one for all tests, for the compiler's sake."""
    namespaces = Namespaces()
    with bpf_file_system() as root:
        namespace = namespaces.make("contract")
        namespace.ip("addr", "add", f"{CONFIG.node_address}/24", "dev", "lo")
        with namespace.entered():
            datapath = LinuxDatapath(root=root / "hawse")
        datapath.start(CONFIG)
        yield datapath
        datapath.destroy()
        datapath.close()
    namespaces.close()


@pytest.fixture(params=["fake", pytest.param("linux", marks=pytest.mark.kernel)])
def datapath(request: pytest.FixtureRequest) -> Iterator[Datapath]:
    """Started, and without endpoints."""
    made: Datapath = FakeDatapath() if request.param == "fake" else request.getfixturevalue("linux")
    made.start(CONFIG)
    yield made
    for endpoint in made.local_endpoints():
        made.remove_endpoint(endpoint.endpoint_id)
    made.replace_remotes({})
    made.replace_nodes([])
    made.replace_services({})
    made.replace_published({})
    made.apply_policy(PolicyTable())
    made.flow_events()


def remote(number: int) -> tuple[IpcacheKey, RemoteEndpoint]:
    address = IPv4Network("10.6.0.0/16")[number]
    return IpcacheKey(VNI, address), RemoteEndpoint(tunnel_endpoint=NODE, identity=IdentityId(300))


def test_endpoint_is_listed_as_it_was_asked_for(datapath: Datapath) -> None:
    spec = an_endpoint("10.5.0.2")

    made = datapath.ensure_endpoint(spec)

    assert made.spec == spec
    assert made.endpoint_id == spec.endpoint_id
    assert len(made.host_ifname) <= 15
    assert len(made.container_ifname) <= 15
    assert list(datapath.local_endpoints()) == [made]


def test_same_endpoint_again_is_the_same_answer(datapath: Datapath) -> None:
    spec = an_endpoint("10.5.0.2")

    assert datapath.ensure_endpoint(spec) == datapath.ensure_endpoint(spec)
    assert len(datapath.local_endpoints()) == 1


def test_other_properties_replace_the_endpoint(datapath: Datapath) -> None:
    spec = an_endpoint("10.5.0.2")
    before = datapath.ensure_endpoint(spec)
    changed = dataclasses.replace(
        spec, addresses=(IPv4Address("10.5.0.3"),), identity=IdentityId(301), mtu_bytes=MTU - 100
    )

    after = datapath.ensure_endpoint(changed)

    assert after.ifindex == before.ifindex
    assert after.spec == changed
    assert list(datapath.local_endpoints()) == [after]


def test_endpoint_may_have_an_address_of_each_family(datapath: Datapath) -> None:
    spec = dataclasses.replace(an_endpoint("10.5.0.2"), addresses=(IPv4Address("10.5.0.2"), IPv6Address("fd00:5::2")))

    datapath.ensure_endpoint(spec)

    assert [endpoint.spec for endpoint in datapath.local_endpoints()] == [spec]


def test_two_addresses_of_one_family_are_refused(datapath: Datapath) -> None:
    spec = dataclasses.replace(an_endpoint("10.5.0.2"), addresses=(IPv4Address("10.5.0.2"), IPv4Address("10.5.0.3")))

    with pytest.raises(InvalidInput, match=r"both 10\.5\.0\.2 and 10\.5\.0\.3"):
        datapath.ensure_endpoint(spec)

    assert not datapath.local_endpoints()


def test_removed_endpoint_is_gone_and_may_be_removed_again(datapath: Datapath) -> None:
    spec = an_endpoint("10.5.0.2")
    datapath.ensure_endpoint(spec)

    datapath.remove_endpoint(spec.endpoint_id)
    datapath.remove_endpoint(spec.endpoint_id)

    assert not datapath.local_endpoints()


def test_identities_of_endpoints_are_what_they_are_judged_as(datapath: Datapath) -> None:
    one, other = (an_endpoint(address, identity=IdentityId(300)) for address in ("10.5.0.2", "10.5.0.3"))
    datapath.ensure_endpoint(one)
    datapath.ensure_endpoint(other)
    assert {one.endpoint_id: 300, other.endpoint_id: 300} == datapath.local_identities()

    datapath.ensure_endpoint(dataclasses.replace(one, identity=IdentityId(301)))
    datapath.remove_endpoint(other.endpoint_id)

    assert {one.endpoint_id: 301} == datapath.local_identities()
    datapath.start(CONFIG)
    assert {one.endpoint_id: 301} == datapath.local_identities()


def test_unknown_endpoint_may_be_removed(datapath: Datapath) -> None:
    datapath.remove_endpoint(EndpointId("f" * 64))


def test_endpoint_that_was_removed_can_come_back(datapath: Datapath) -> None:
    spec = an_endpoint("10.5.0.2")
    datapath.ensure_endpoint(spec)
    datapath.remove_endpoint(spec.endpoint_id)

    again = datapath.ensure_endpoint(spec)

    assert list(datapath.local_endpoints()) == [again]


def test_many_endpoints_stand_side_by_side(datapath: Datapath) -> None:
    specs = [an_endpoint(f"10.5.0.{number}") for number in range(2, 32)]

    made = [datapath.ensure_endpoint(spec) for spec in specs]

    assert len({endpoint.ifindex for endpoint in made}) == len(specs)
    assert {endpoint.endpoint_id for endpoint in datapath.local_endpoints()} == {spec.endpoint_id for spec in specs}


def test_endpoints_may_be_made_and_removed_from_many_threads(datapath: Datapath) -> None:
    specs = [an_endpoint(f"10.5.0.{number}") for number in range(2, 62)]

    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(datapath.ensure_endpoint, specs))
        listed = {endpoint.endpoint_id: endpoint for endpoint in datapath.local_endpoints()}
        list(threads.map(datapath.remove_endpoint, [spec.endpoint_id for spec in specs]))

    assert {endpoint.endpoint_id: endpoint for endpoint in made} == listed
    assert not datapath.local_endpoints()


def test_same_address_in_two_networks_is_two_endpoints(datapath: Datapath) -> None:
    datapath.ensure_endpoint(an_endpoint("10.5.0.2"))
    datapath.ensure_endpoint(an_endpoint("10.5.0.2", vni=Vni(8)))

    assert len(datapath.local_endpoints()) == 2


def test_remotes_are_replaced_and_updated_without_error(datapath: Datapath) -> None:
    datapath.replace_remotes(dict(remote(number) for number in range(1, 10_001)))
    datapath.update_remotes(dict(remote(number) for number in range(9_000, 11_000)), [])
    datapath.update_remotes({}, (remote(number)[0] for number in range(1, 20_000, 2)))
    datapath.replace_remotes({})
    datapath.update_remotes({}, [remote(1)[0]])


def test_starting_again_keeps_endpoints(datapath: Datapath) -> None:
    made = datapath.ensure_endpoint(an_endpoint("10.5.0.2"))

    datapath.start(CONFIG)

    assert list(datapath.local_endpoints()) == [made]


POLICY = PolicyTable(
    entries=dict(
        [
            allow(300, 301),
            allow(300, protocol=6, port=80),
            allow(300, CIDR_IDENTITY_BASE, Direction.EGRESS, 17, deny=True),
        ]
    ),
    identities={300: IdentityFlags.KNOWN | IdentityFlags.READY | IdentityFlags.INGRESS, 301: IdentityFlags.KNOWN},
    prefixes={IPv4Network("192.0.2.0/24"): CIDR_IDENTITY_BASE, IPv6Network("::/0"): CIDR_IDENTITY_BASE + 1},
)


def test_policy_is_read_as_it_was_applied(datapath: Datapath) -> None:
    datapath.apply_policy(POLICY)

    assert datapath.policy_entries() == POLICY.entries
    assert datapath.policy_prefixes() == POLICY.prefixes


def test_policy_that_is_replaced_leaves_nothing(datapath: Datapath) -> None:
    datapath.apply_policy(POLICY)
    other = PolicyTable(entries=dict([allow(301, 300)]), prefixes={IPv4Network("0.0.0.0/0"): CIDR_IDENTITY_BASE + 2})

    datapath.apply_policy(other)

    assert datapath.policy_entries() == other.entries
    assert datapath.policy_prefixes() == other.prefixes


def test_every_change_of_policy_raises_the_epoch_and_nothing_else_does(datapath: Datapath) -> None:
    epoch = datapath.apply_policy(POLICY)
    flags = dict(POLICY.identities) | {301: IdentityFlags.KNOWN | IdentityFlags.READY}
    changes = [
        dataclasses.replace(POLICY, entries=dict([allow(301, 300)])),
        dataclasses.replace(POLICY, identities=flags),
        dataclasses.replace(POLICY, prefixes={}),
        dataclasses.replace(POLICY, audit=True),
        POLICY,
    ]

    assert datapath.apply_policy(POLICY) == epoch
    for number, change in enumerate(changes, start=1):
        assert datapath.apply_policy(change) == epoch + number
        assert datapath.apply_policy(change) == epoch + number


def test_starting_again_keeps_the_policy(datapath: Datapath) -> None:
    epoch = datapath.apply_policy(POLICY)

    datapath.start(CONFIG)

    assert datapath.policy_entries() == POLICY.entries
    assert datapath.policy_prefixes() == POLICY.prefixes
    assert datapath.apply_policy(POLICY) >= epoch


def test_policy_may_be_applied_from_many_threads(datapath: Datapath) -> None:
    tables = [
        dataclasses.replace(POLICY, entries=dict(allow(300, 400 + number + at) for at in range(20)))
        for number in range(40)
    ]

    with ThreadPoolExecutor(8) as threads:
        epochs = list(threads.map(datapath.apply_policy, tables))

    assert len(set(epochs)) == len(tables)
    last = tables[epochs.index(max(epochs))]
    assert datapath.policy_entries() == last.entries


def test_ipcache_tells_where_every_address_is(datapath: Datapath) -> None:
    made = datapath.ensure_endpoint(an_endpoint("10.5.0.2"))
    key, there = remote(1)
    datapath.replace_remotes({key: there})

    assert datapath.ipcache() == {
        IpcacheKey(VNI, IPv4Address("10.5.0.2")): Place(identity=IDENTITY, tunnel_endpoint=None, ifindex=made.ifindex),
        key: Place(identity=there.identity, tunnel_endpoint=NODE, ifindex=0),
    }


def test_address_of_a_lost_node_is_gone_in_the_ipcache(datapath: Datapath) -> None:
    key, there = remote(1)
    datapath.replace_remotes({key: there})
    assert not datapath.ipcache()[key].gone

    datapath.update_remotes({key: dataclasses.replace(there, gone=True)}, [])
    assert datapath.ipcache()[key].gone

    datapath.update_remotes({key: there}, [])
    assert not datapath.ipcache()[key].gone


def test_address_of_this_host_wins_in_the_ipcache(datapath: Datapath) -> None:
    made = datapath.ensure_endpoint(an_endpoint("10.5.0.2"))
    key, there = IpcacheKey(VNI, IPv4Address("10.5.0.2")), remote(1)[1]

    datapath.update_remotes({key: there}, [])

    assert datapath.ipcache()[key].ifindex == made.ifindex


def test_changed_identity_shows_in_the_ipcache(datapath: Datapath) -> None:
    spec = an_endpoint("10.5.0.2")
    datapath.ensure_endpoint(spec)

    datapath.ensure_endpoint(dataclasses.replace(spec, identity=IdentityId(301)))

    assert datapath.ipcache()[IpcacheKey(VNI, IPv4Address("10.5.0.2"))].identity == 301


def test_without_packets_nothing_is_tracked_or_reported(datapath: Datapath) -> None:
    datapath.ensure_endpoint(an_endpoint("10.5.0.2"))

    assert not datapath.connections()
    assert datapath.flow_events() == FlowEvents()


def test_networks_are_replaced_without_error(datapath: Datapath) -> None:
    pools = {IPv4Network(f"10.{number}.0.0/16"): NetworkSpec(vni=Vni(number)) for number in range(20, 30)}

    datapath.replace_networks(dict(pools))
    datapath.replace_networks(dict(list(pools.items())[:3]))
    datapath.replace_networks({})


def balancing(*addresses: str, slots: int = 31, port: int = 0, affinity: bool = False) -> Balancing:
    """Backends in turn, in the order of their addresses."""
    backends = tuple(sorted((Backend(IPv4Address(one), port) for one in addresses), key=lambda one: one.address))
    table = tuple(slot % len(backends) for slot in range(slots)) if backends else ()
    return Balancing(backends=backends, table=table, affinity=affinity)


def virtual(address: str, *, port: int = 0, protocol: int = 0) -> Frontend:
    return Frontend(address=IPv4Address(address), vni=VNI, port=port, protocol=protocol)


SERVICES = {
    virtual("10.5.0.100"): balancing("10.5.0.2", "10.5.0.3"),
    virtual("10.5.0.101"): balancing("10.5.0.3", slots=17, affinity=True),
    virtual("10.5.0.102"): balancing(),
    virtual("10.5.0.103", port=80, protocol=6): balancing("10.5.0.2", port=8080),
    virtual("10.5.0.103", port=53, protocol=17): balancing(),
}


def test_services_are_read_as_they_were_written(datapath: Datapath) -> None:
    datapath.replace_services(SERVICES)

    assert datapath.services() == SERVICES


@pytest.mark.parametrize(
    "after",
    [
        {},
        {virtual("10.5.0.100"): SERVICES[virtual("10.5.0.100")]},
        {**SERVICES, virtual("10.5.0.100"): balancing("10.5.0.2", "10.5.0.4")},
        {**SERVICES, virtual("10.5.0.100"): balancing("10.5.0.2", slots=61)},
        {**SERVICES, virtual("10.5.0.100"): balancing("10.5.0.2", "10.5.0.3", affinity=True)},
        {**SERVICES, virtual("10.5.0.100"): balancing()},
        {**SERVICES, virtual("10.5.0.102"): balancing("10.5.0.9")},
        {**SERVICES, virtual("10.5.0.103"): balancing("10.5.0.9")},
        {virtual("10.5.0.200"): balancing("10.5.0.2")},
    ],
)
def test_services_that_change_are_read_as_they_are_now(datapath: Datapath, after: dict[Frontend, Balancing]) -> None:
    datapath.replace_services(SERVICES)

    datapath.replace_services(after)
    assert datapath.services() == after

    datapath.replace_services(SERVICES)
    assert datapath.services() == SERVICES


def test_starting_again_keeps_services_and_ports(datapath: Datapath) -> None:
    datapath.replace_services(SERVICES)
    datapath.replace_published(PUBLISHED)

    datapath.start(CONFIG)

    assert datapath.services() == SERVICES
    assert datapath.published() == PUBLISHED


@pytest.mark.parametrize(
    "wrong",
    [
        Balancing(backends=(Backend(IPv4Address("10.5.0.2")),), table=()),
        Balancing(backends=(), table=(0,)),
        Balancing(backends=(Backend(IPv4Address("10.5.0.2")),), table=(0, 1)),
        Balancing(backends=(Backend(IPv4Address("10.5.0.2")),), table=(0, -1)),
    ],
)
def test_table_that_does_not_fit_its_backends_is_refused(datapath: Datapath, wrong: Balancing) -> None:
    datapath.replace_services(SERVICES)

    with pytest.raises(InvalidInput, match="does not fit"):
        datapath.replace_services({virtual("10.5.0.100"): wrong})

    assert datapath.services() == SERVICES


def test_many_services_are_replaced_from_many_threads(datapath: Datapath) -> None:
    wishes = [
        {virtual(f"10.5.1.{number}"): balancing(f"10.5.2.{wish}") for number in range(1, 50)} for wish in range(1, 9)
    ]

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(datapath.replace_services, wishes))

    assert datapath.services() in wishes


PUBLISHED = {
    PublishedPort(port=8080, protocol=6): PublishedTarget(address=IPv4Address("10.5.0.2"), vni=VNI, port=80),
    PublishedPort(port=8080, protocol=17): PublishedTarget(address=IPv4Address("10.5.0.2"), vni=VNI, port=80),
    PublishedPort(port=8081, protocol=6, address=IPv4Address("10.77.0.1")): PublishedTarget(
        address=IPv4Address("10.5.0.3"), vni=Vni(8), port=8081
    ),
}


def test_published_ports_are_read_as_they_were_written(datapath: Datapath) -> None:
    datapath.replace_published(PUBLISHED)
    assert datapath.published() == PUBLISHED

    fewer = dict(list(PUBLISHED.items())[:1])
    datapath.replace_published(fewer)
    assert datapath.published() == fewer

    datapath.replace_published({})
    assert not datapath.published()


def test_without_packets_nothing_is_translated(datapath: Datapath) -> None:
    datapath.replace_services(SERVICES)
    datapath.replace_published(PUBLISHED)

    assert not datapath.translations()


def test_without_a_control_group_packets_are_translated(datapath: Datapath) -> None:
    assert datapath.translation_mode() is TranslationMode.PACKET


def test_no_required_feature_is_missing(datapath: Datapath) -> None:
    features = datapath.features()

    assert features
    assert all(feature.available for feature in features if feature.required)
    assert all(bool(feature.detail) != feature.available for feature in features)


@pytest.mark.parametrize("kind", ["fake", pytest.param("linux", marks=pytest.mark.kernel)])
def test_datapath_that_was_not_started_says_so(kind: str) -> None:
    made: Datapath = FakeDatapath() if kind == "fake" else LinuxDatapath()

    with pytest.raises(DatapathError, match="not been started"):
        made.local_endpoints()
    with pytest.raises(DatapathError, match="not been started"):
        made.ensure_endpoint(an_endpoint("10.5.0.2"))
    with pytest.raises(DatapathError, match="not been started"):
        made.apply_policy(POLICY)
    with pytest.raises(DatapathError, match="not been started"):
        made.flow_events()
    with pytest.raises(DatapathError, match="not been started"):
        made.replace_services(SERVICES)
    with pytest.raises(DatapathError, match="not been started"):
        made.replace_published(PUBLISHED)
    with pytest.raises(DatapathError, match="not been started"):
        made.translations()
    assert made.translation_mode() is None
    assert made.programs_loaded() is None

    made.close()
    made.close()
