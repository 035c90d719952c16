"""A policy table in the maps of the kernel: in which order it gets there, and what is left when it does not fit."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from datapath import abi, maps, policy_maps
from datapath.api import Direction
from datapath.maps import K, TypedMap, V
from datapath.policy_maps import PolicyMaps, policy_key, prefix_key
from datapath.policy_table import (
    ANY_PROTOCOL,
    ANY_REMOTE,
    PORT_BITS,
    IdentityFlags,
    PolicyKey,
    PolicyTable,
    PolicyVerdict,
)
from model.addresses import IPNetwork
from model.errors import DatapathError, Exhausted, InvalidInput
from model.identities import CIDR_IDENTITY_BASE
from model.ids import IDENTITY_WORLD
from policy.compiler import compile_table, prefixes_of
from tests.support.netns import run
from tests.support.policy_kernel_model import KernelModel
from tests.support.policy_tables import OTHER_RULE, allow, closing
from tests.support.policy_worlds import PREFIXES, World, random_world, worlds

pytestmark = pytest.mark.kernel

ROOM: Final = 64
TRANSITIONS: Final = 25
READY: Final = IdentityFlags.KNOWN | IdentityFlags.READY


class WatchedMap(TypedMap[K, V]):
    """A real map that writes one entry at a time and lets somebody look at the maps after each; may lie of its size.

    ``failing`` writes from now on succeed, then the kernel seems to refuse.
    """

    claimed: int | None = None
    look: Callable[[], None] = staticmethod(lambda: None)
    failing: int | None = None

    @property
    def max_entries(self) -> int:
        return self.claimed or super().max_entries

    def update_many(self, entries: Iterable[tuple[K, V]]) -> None:
        for key, value in list(entries):
            self._fail_if_told()
            self.update(key, value)
            self.look()

    def delete_many(self, keys: Iterable[K]) -> None:
        for key in list(keys):
            self._fail_if_told()
            self.delete(key)
            self.look()

    def _fail_if_told(self) -> None:
        if self.failing is not None:
            if not self.failing:
                self.failing = None
                raise DatapathError("the kernel refused")
            self.failing -= 1


@dataclasses.dataclass(slots=True)
class Maps:
    """Maps of our own, without programs."""

    folder: Path
    policy: WatchedMap[abi.PolicyKey, abi.PolicyValue]
    identities: WatchedMap[abi.ArrayKey, abi.IdentityValue]
    prefixes: WatchedMap[abi.PrefixKey, abi.PrefixValue]

    def opened(self) -> PolicyMaps:
        """As a new agent sees them."""
        return PolicyMaps(self.policy, self.identities, self.prefixes)

    def table(self) -> PolicyTable:
        """What is in the kernel."""
        found = self.opened()
        flags = {key.index: IdentityFlags(value.flags) for key, value in self.identities.items() if value.flags}
        return PolicyTable(entries=found.entries(), identities=flags, prefixes=found.prefixes())

    def watch(self, look: Callable[[], None]) -> None:
        for one in (self.policy, self.identities, self.prefixes):
            one.look = look

    def clear(self) -> None:
        self.watch(lambda: None)
        self.policy.claimed = None
        for one in (self.policy, self.identities, self.prefixes):
            one.failing = None
        self.opened().apply(PolicyTable())


@pytest.fixture(scope="module")
def _one_set(bpf_root: Path) -> Iterator[Maps]:
    folder = bpf_root / "policy-maps"
    folder.mkdir()

    def create(name: str, kind: str, key: int, value: int, room: int) -> None:
        flags = ["flags", "1"] if kind == "lpm_trie" else []
        run(
            "bpftool", "map", "create", str(folder / name), "type", kind, "key", str(key), "value", str(value),
            "entries", str(room), "name", name, *flags,
        )  # fmt: skip

    create("hawse_policy", "lpm_trie", 16, 8, 4096)
    create("hawse_small", "lpm_trie", 16, 8, ROOM)
    create("hawse_identities", "array", 4, 4, 512)
    create("hawse_prefixes", "lpm_trie", 20, 4, ROOM)
    made = Maps(
        folder,
        WatchedMap(folder, "hawse_policy", maps.POLICY),
        WatchedMap(folder, "hawse_identities", maps.IDENTITIES),
        WatchedMap(folder, "hawse_prefixes", maps.PREFIXES),
    )
    yield made
    for one in (made.policy, made.identities, made.prefixes):
        one.close()


@pytest.fixture
def kernel(_one_set: Maps) -> Maps:
    """Empty maps with much room."""
    _one_set.clear()
    return _one_set


@pytest.fixture
def small(_one_set: Maps) -> Iterator[Maps]:
    """Empty maps with room for :data:`ROOM` entries."""
    _one_set.clear()
    policy = WatchedMap(_one_set.folder, "hawse_small", maps.POLICY)
    made = Maps(_one_set.folder, policy, _one_set.identities, _one_set.prefixes)
    made.clear()
    yield made
    policy.close()


def many(number: int, *, start: int = 0, deny: bool = False) -> Mapping[PolicyKey, PolicyVerdict]:
    return dict(allow(300, 1000 + at, rule=OTHER_RULE, deny=deny) for at in range(start, start + number))


def test_maps_say_what_the_table_says(kernel: Maps) -> None:
    table = PolicyTable(
        entries=dict([allow(300, 301), allow(300, 301, Direction.EGRESS, 6, 80), allow(300, protocol=17)]),
        identities={300: READY | IdentityFlags.INGRESS, 301: IdentityFlags.KNOWN},
        prefixes={ip_network("10.0.0.0/8"): CIDR_IDENTITY_BASE, ip_network("fd00::/8"): CIDR_IDENTITY_BASE + 1},
    )

    kernel.opened().apply(table)

    assert kernel.table() == table


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(worlds(), worlds())
def test_maps_say_what_any_table_says_after_any_other(kernel: Maps, before: World, after: World) -> None:
    opened = kernel.opened()

    for world in (before, after):
        table = compile_table(world.inputs).table
        opened.apply(table)
        in_kernel = kernel.table()
        assert in_kernel == dataclasses.replace(table, audit=False)
        assert in_kernel.entries == opened.entries()


def test_same_table_again_changes_nothing(kernel: Maps) -> None:
    opened = kernel.opened()
    table = closing({300: IdentityFlags.INGRESS}, allow(300, 301))
    opened.apply(table)
    opened.unsettled = False
    writes: list[None] = []
    kernel.watch(lambda: writes.append(None))

    opened.apply(table)

    assert not writes
    assert not opened.unsettled


def test_epoch_is_due_until_it_was_raised(kernel: Maps) -> None:
    opened = kernel.opened()
    table = closing({300: IdentityFlags.INGRESS})
    opened.unsettled = False

    opened.apply(table)
    opened.apply(table)

    assert opened.unsettled


def test_epoch_is_due_after_a_restart(kernel: Maps) -> None:
    """The agent before may have died after the change of the maps and before the epoch."""
    table = closing({300: IdentityFlags.INGRESS}, allow(300, 301))
    kernel.opened().apply(table)

    again = kernel.opened()
    again.apply(table)

    assert again.unsettled


def test_state_of_an_earlier_agent_is_taken_over(kernel: Maps) -> None:
    kernel.opened().apply(
        PolicyTable(
            entries=dict([allow(300, 301), allow(300, 302)]),
            identities={300: READY, 301: IdentityFlags.KNOWN},
            prefixes={ip_network("10.0.0.0/8"): CIDR_IDENTITY_BASE},
        )
    )
    wanted = PolicyTable(entries=dict([allow(300, 302), allow(300, 303)]), identities={300: READY})
    writes: list[None] = []
    kernel.watch(lambda: writes.append(None))

    kernel.opened().apply(wanted)

    assert kernel.table() == wanted
    assert len(writes) == 4, "one entry comes, one goes, a prefix goes, an identity goes"


@pytest.mark.parametrize(
    "key",
    [
        PolicyKey(0, 301, Direction.EGRESS),
        PolicyKey(abi.IDENTITIES_MAX, 301, Direction.EGRESS),
        PolicyKey(300, -1, Direction.EGRESS),
        PolicyKey(300, 1 << 32, Direction.EGRESS),
        PolicyKey(300, 301, Direction.EGRESS, 256),
        PolicyKey(300, 301, Direction.EGRESS, -1),
        PolicyKey(300, 301, Direction.EGRESS, 6, 1 << 16, PORT_BITS),
        PolicyKey(300, 301, Direction.EGRESS, 6, 80, PORT_BITS + 1),
        PolicyKey(300, 301, Direction.EGRESS, 6, 80, -1),
        PolicyKey(300, 301, Direction.EGRESS, 6, 80, 0),
        PolicyKey(300, 301, Direction.EGRESS, 6, 81, 15),
        PolicyKey(300, 301, Direction.EGRESS, ANY_PROTOCOL, 80, PORT_BITS),
        PolicyKey(300, 301, Direction.EGRESS, ANY_PROTOCOL, 0, 8),
    ],
    ids=str,
)
def test_entry_that_no_map_can_hold_is_refused_before_anything_is_written(kernel: Maps, key: PolicyKey) -> None:
    good = closing({300: IdentityFlags.INGRESS}, allow(300, 301))
    opened = kernel.opened()
    opened.apply(good)
    entries = dict(many(3)) | {key: PolicyVerdict(deny=False, rule=OTHER_RULE)}

    with pytest.raises(InvalidInput):
        opened.apply(PolicyTable(entries=entries))

    assert kernel.table() == good


@pytest.mark.parametrize("identity", [-1, 0, abi.IDENTITIES_MAX, CIDR_IDENTITY_BASE])
def test_flags_that_no_map_can_hold_are_refused_before_anything_is_written(kernel: Maps, identity: int) -> None:
    with pytest.raises(InvalidInput, match=str(identity)):
        kernel.opened().apply(PolicyTable(entries=many(3), identities={identity: READY}))

    assert kernel.table() == PolicyTable()


class TestRoom:
    """A table that does not fit leaves what was there before."""

    def test_full_map_is_no_error(self, small: Maps) -> None:
        table = PolicyTable(entries=many(ROOM), identities={300: READY})
        small.opened().apply(table)

        assert small.table() == table

    def test_too_many_entries_are_refused_before_anything_is_written(self, small: Maps) -> None:
        before = PolicyTable(entries=many(ROOM - 1), identities={300: READY})
        opened = small.opened()
        opened.apply(before)
        writes: list[None] = []
        small.watch(lambda: writes.append(None))

        with pytest.raises(Exhausted, match=f"{ROOM + 1} policy entries"):
            opened.apply(PolicyTable(entries=many(ROOM + 1)))

        assert not writes
        assert small.table() == before

    def test_too_many_prefixes_are_refused_before_anything_is_written(self, small: Maps) -> None:
        prefixes: dict[IPNetwork, int] = {ip_network(f"10.{at}.0.0/16"): CIDR_IDENTITY_BASE + at for at in range(ROOM)}

        with pytest.raises(Exhausted, match=f"{ROOM + 1} address prefixes"):
            small.opened().apply(PolicyTable(entries=many(3), prefixes=prefixes))

        assert small.table() == PolicyTable()

    @pytest.mark.parametrize("deny", [False, True])
    def test_table_that_the_kernel_has_no_room_for_is_taken_back(self, small: Maps, *, deny: bool) -> None:
        changed = dict([allow(300, 1000), allow(300, 1001, deny=True)])
        before = PolicyTable(entries=dict(many(ROOM - 4)) | changed, identities={300: READY})
        opened = small.opened()
        opened.apply(before)
        opened.unsettled = False
        small.policy.claimed = 2 * ROOM
        swapped = {key: PolicyVerdict(deny=not one.deny, rule=OTHER_RULE) for key, one in changed.items()}
        entries = dict(before.entries) | swapped | dict(many(ROOM, start=ROOM, deny=deny))

        with pytest.raises(Exhausted, match="no room left"):
            opened.apply(PolicyTable(entries=entries, identities={300: READY | IdentityFlags.INGRESS}))

        assert small.table() == before
        assert opened.unsettled, "some connection may have been judged by what was there for a moment"
        writes: list[None] = []
        small.watch(lambda: writes.append(None))
        opened.apply(before)
        assert not writes

    def test_agent_goes_on_after_a_table_that_did_not_fit(self, small: Maps) -> None:
        opened = small.opened()
        opened.apply(PolicyTable(entries=many(ROOM // 2)))
        with pytest.raises(Exhausted):
            opened.apply(PolicyTable(entries=many(2 * ROOM)))

        wanted = PolicyTable(entries=many(ROOM // 2, start=5), identities={301: READY})
        opened.apply(wanted)

        assert small.table() == wanted

    def test_table_of_before_two_that_failed_is_written_again(self, small: Maps) -> None:
        opened = small.opened()
        before = PolicyTable(entries=many(4), identities={300: READY})
        opened.apply(before)
        small.policy.failing = 2
        with pytest.raises(DatapathError):
            opened.apply(PolicyTable(identities={300: READY}))
        with pytest.raises(Exhausted):
            opened.apply(PolicyTable(entries=many(2 * ROOM)))

        opened.apply(before)

        assert small.table() == before


@pytest.mark.parametrize("which", ["policy", "identities", "prefixes"])
@pytest.mark.parametrize("after", range(8))
def test_whatever_was_written_when_the_kernel_refused_the_next_table_comes_out_right(
    kernel: Maps, which: str, after: int
) -> None:
    opened = kernel.opened()
    opened.apply(
        PolicyTable(
            entries=many(4),
            identities={300: READY | IdentityFlags.EGRESS, 301: READY},
            prefixes={ip_network("10.0.0.0/8"): CIDR_IDENTITY_BASE},
        )
    )
    opened.unsettled = False
    wanted = PolicyTable(
        entries=many(4, start=2, deny=True),
        identities={300: READY | IdentityFlags.INGRESS},
        prefixes={ip_network("10.0.0.0/16"): CIDR_IDENTITY_BASE + 1},
    )
    getattr(kernel, which).failing = after
    with contextlib.suppress(DatapathError):
        opened.apply(wanted)
    getattr(kernel, which).failing = None

    opened.apply(wanted)

    assert kernel.table() == wanted
    assert opened.unsettled


def test_rule_about_all_of_ipv6_is_not_about_ipv4(kernel: Maps) -> None:
    opened = kernel.opened()
    address = prefix_key(ip_network("192.0.2.1/32"))
    everything: dict[IPNetwork, int] = {ip_network("::/0"): CIDR_IDENTITY_BASE}

    opened.apply(PolicyTable(prefixes=everything))
    assert identity_of(kernel, address) == IDENTITY_WORLD
    assert opened.prefixes() == everything

    opened.apply(PolicyTable(prefixes={**everything, ip_network("0.0.0.0/0"): CIDR_IDENTITY_BASE + 1}))
    assert identity_of(kernel, address) == CIDR_IDENTITY_BASE + 1

    opened.apply(PolicyTable(prefixes=everything))
    assert identity_of(kernel, address) == IDENTITY_WORLD


def identity_of(kernel: Maps, address: abi.PrefixKey) -> int | None:
    found = kernel.prefixes.lookup(address)
    return None if found is None else found.identity


_KEYS: Final = st.builds(
    lambda local, remote, direction, protocol, port, bits: PolicyKey(
        local,
        remote,
        direction,
        protocol,
        port >> PORT_BITS - bits << PORT_BITS - bits if protocol else 0,
        bits if protocol else 0,
    ),
    st.integers(1, abi.IDENTITIES_MAX - 1),
    st.one_of(st.just(ANY_REMOTE), st.integers(1, (1 << 32) - 1)),
    st.sampled_from(Direction),
    st.integers(0, 255),
    st.integers(0, 65535),
    st.integers(0, PORT_BITS),
)


@settings(max_examples=400, deadline=None)
@given(_KEYS)
@example(PolicyKey(300, ANY_REMOTE, Direction.INGRESS, ANY_PROTOCOL))
@example(PolicyKey(300, ANY_REMOTE, Direction.INGRESS, 6))
def test_key_reads_as_it_was_written(key: PolicyKey) -> None:
    assert policy_maps._key(policy_key(key)) == key


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(0, 128))
@example(ip_network("::/0").network_address, 0)
@example(ip_network("0.0.0.0/0").network_address, 0)
@example(ip_network("0.0.0.0/32").network_address, 32)
@example(ip_network("ffff::/16").network_address, 16)
def test_prefix_reads_as_it_was_written(address: Any, bits: int) -> None:
    prefix = ip_network((address, min(bits, address.max_prefixlen)), strict=False)
    assume(prefix.version == 4 or prefix.network_address.ipv4_mapped is None)

    assert policy_maps._prefix(prefix_key(prefix)) == prefix


_NUMBERS: Final = {prefix: CIDR_IDENTITY_BASE + at for at, prefix in enumerate(PREFIXES)}
"""A prefix keeps its number as long as the agent lives."""


def transition(seed: int) -> tuple[World, PolicyTable, PolicyTable]:
    """Two tables of one cluster, before and after its policies changed, and who is known and here."""
    choice = random.Random(seed)
    world, other = random_world(seed), random_world(seed + 100_000)
    old = list(world.policies)
    new = choice.choice(
        (
            [*old, *(dataclasses.replace(one, name=f"other-{one.name}") for one in other.policies)],
            old[1:],
            list(other.policies),
            [],
        )
    )
    if choice.randrange(2):
        old, new = new, old
    tables = []
    for policies in (old, new):
        prefixes = {prefix: _NUMBERS[prefix] for prefix in prefixes_of(policies)}
        known = {one: labels for one, labels in world.identities.items() if choice.randrange(6)}
        inputs = dataclasses.replace(
            world.inputs,
            policies=tuple(policies),
            prefix_identities=prefixes,
            identities=known,
            local=frozenset(one for one in known if choice.randrange(6)),
        )
        tables.append(compile_table(inputs).table)
    return world, tables[0], tables[1]


def verdicts(world: World, table: PolicyTable) -> Mapping[tuple[object, ...], bool]:
    """Every question of the world, at every end that is judged."""
    model = KernelModel(table)
    found: dict[tuple[object, ...], bool] = {}
    locals_ = [world.number_of(end) for end in world.endpoints]
    for local in locals_:
        for direction in Direction:
            for remote in (*locals_, 1, *world.addresses):
                number = remote if isinstance(remote, int) else model.identity_of(remote)
                for protocol, port in world.packets:
                    passes, _ = model.judge(local, number, direction, protocol, port)
                    found[local, remote, direction, protocol, port] = passes
    return found


def test_at_no_moment_of_a_change_anything_passes_that_neither_table_allows(kernel: Maps) -> None:
    """Nor is anything stopped that both allow. Looked at after every single write."""
    moments = 0
    for seed in range(TRANSITIONS):
        world, old, new = transition(seed)
        kernel.watch(lambda: None)
        opened = kernel.opened()
        opened.apply(old)
        before, after = verdicts(world, old), verdicts(world, new)
        seen: list[PolicyTable] = []
        kernel.watch(lambda: seen.append(kernel.table()))  # noqa: B023  # called within this turn

        opened.apply(new)

        for at, moment in enumerate(seen):
            for question, passes in verdicts(world, moment).items():
                where = f"transition {seed}, after write {at} of {len(seen)}: {question}"
                assert passes <= (before[question] or after[question]), where
                assert passes >= (before[question] and after[question]), where
        moments += len(seen)
    assert moments > 10 * TRANSITIONS
