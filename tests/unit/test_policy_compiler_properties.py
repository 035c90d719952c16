"""The compiled table, asked as the kernel asks it, means what the policies say."""

from __future__ import annotations

import dataclasses
import random
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings

from datapath.api import Direction
from policy.compiler import PolicyCompiler, PolicyInputs, compile_table, prefixes_of
from tests.support.policy_kernel_model import KernelModel
from tests.support.policy_reference import verdict
from tests.support.policy_worlds import World, random_world, worlds

EXAMPLES: Final = 5000
CHANGES: Final = 400


def test_5000_random_policy_sets_are_compiled_to_what_the_reference_says(capsys: pytest.CaptureFixture[str]) -> None:
    seen = {"policy sets": 0, "packets": 0, "allowed": 0}

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(world=worlds())
    def agree(world: World) -> None:
        judged, allowed = compare(world, KernelModel(compile_table(world.inputs).table))
        seen["policy sets"] += 1
        seen["packets"] += judged
        seen["allowed"] += allowed

    agree()

    with capsys.disabled():
        print("\ncompiler and reference agree on", ", ".join(f"{n} {what}" for what, n in seen.items()))  # noqa: T201
    assert seen["policy sets"] >= EXAMPLES
    assert seen["packets"] / 5 < seen["allowed"] < seen["packets"] * 4 / 5


def compare(world: World, kernel: KernelModel) -> tuple[int, int]:
    """How many packets were judged, and how many of them allowed."""
    judged = allowed = 0
    numbers = {end: world.number_of(end) for end in (*world.remotes, *world.endpoints)}
    for local in world.endpoints:
        for remote in world.remotes:
            for direction in Direction:
                source, destination = (local, remote) if direction is Direction.EGRESS else (remote, local)
                for protocol, port in world.packets:
                    expected = verdict(world.policies, source, destination, protocol, port, direction, world.mode)
                    answer, rule = kernel.judge(numbers[local], numbers[remote], direction, protocol, port)
                    assert expected == answer, (local, remote, direction, protocol, port, rule)
                    judged += 1
                    allowed += answer
    return judged, allowed


def test_a_compiler_that_is_kept_says_the_same_after_any_change() -> None:
    choice = random.Random(1)
    kept = PolicyCompiler()
    now = random_world(0).inputs
    changed = 0
    for seed in range(CHANGES):
        now = _changed(choice, now, random_world(seed).inputs)

        compiled = kept.compile_table(now)

        assert compile_table(now) == compiled
        assert kept.compile_table(now) == compiled
        changed += bool(compiled.table.entries)
    assert changed > CHANGES / 2


def _changed(choice: random.Random, now: PolicyInputs, other: PolicyInputs) -> PolicyInputs:
    """Take one thing from another world; numbers of identities get other labels."""
    match choice.choice(("policies", "policy", "identities", "identity", "mode", "local")):
        case "policies":
            now = dataclasses.replace(now, policies=other.policies)
        case "policy":
            policies = {policy.name: policy for policy in (*now.policies, choice.choice(other.policies))}
            now = dataclasses.replace(now, policies=tuple(policies.values()))
        case "identities":
            now = dataclasses.replace(now, identities=other.identities, local=other.local)
        case "identity":
            number = choice.choice(sorted(other.identities))
            identities = {**now.identities, number: other.identities[number]}
            now = dataclasses.replace(now, identities=identities, local=now.local | {number})
        case "mode":
            now = dataclasses.replace(now, mode=other.mode)
        case _:
            now = dataclasses.replace(now, local=frozenset(number for number in now.identities if choice.randrange(2)))
    numbers = dict(now.prefix_identities)
    for prefix in prefixes_of(now.policies) - numbers.keys():
        numbers[prefix] = max(numbers.values(), default=0x01000000 - 1) + 1
    return dataclasses.replace(now, prefix_identities=numbers)
