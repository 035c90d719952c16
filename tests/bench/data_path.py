"""The data path: throughput, packets, latency, connections and CPU, on one host and across two."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cli.client import ClientError
from tests.bench import contestants as who
from tests.bench.contestants import Contestant, Field
from tests.bench.figures import Bar, Curve, Part, Point, Row
from tests.bench.measurements import Kind, Measurement, measurements
from tests.bench.places import PlaceFailed
from tests.bench.plan import Plan
from tests.bench.ratios import as_fast
from tests.bench.report import number as readable
from tests.bench.rounds import Collected, schedule
from tests.bench.states import DEFAULT, State, States
from tests.support import shell
from tests.support.testbed import Testbed

_FAILURES: Final = (PlaceFailed, AssertionError, ClientError, subprocess.TimeoutExpired)
"""Of a program, of a condition that was waited for, of the agent: they cost one sample."""
_ROUNDS: Final = 15
_QUICK_ROUNDS: Final = 5
_REFERENCES: Final[Mapping[str, Sequence[str]]] = {
    who.SAME: (who.BRIDGE, who.OVERLAY, who.VETH, who.VETH_RULED, who.HAWSE),
    who.ACROSS: (who.OVERLAY, who.UNDERLAY, who.VXLAN, who.VXLAN_RULED, who.HAWSE),
}
BARS: Final = (
    Bar(row="same-udp-64", contestant=who.HAWSE, against=who.BRIDGE, limit=1.5),
    Bar(row="same-echo-p50", contestant=who.HAWSE, against=who.BRIDGE, limit=0.85),
    Bar(row="same-tcp-1", contestant=who.HAWSE, against=who.BRIDGE, limit=1.0),
    Bar(row="same-tcp-4", contestant=who.HAWSE, against=who.BRIDGE, limit=1.0),
    Bar(row="same-connections", contestant=who.HAWSE, against=who.BRIDGE, limit=1.2),
    Bar(row="same-udp-64", contestant=who.HAWSE, against=who.VETH, limit=0.85),
    Bar(row="same-tcp-1", contestant=who.HAWSE, against=who.VETH, limit=0.95),
    Bar(row="same-tcp-4", contestant=who.HAWSE, against=who.VETH, limit=0.95),
    Bar(row="across-udp-64", contestant=who.HAWSE, against=who.OVERLAY, limit=1.5),
    Bar(row="across-echo-p50", contestant=who.HAWSE, against=who.OVERLAY, limit=0.65),
    Bar(row="across-tcp-1", contestant=who.HAWSE, against=who.OVERLAY, limit=1.1),
    Bar(row="across-tcp-4", contestant=who.HAWSE, against=who.OVERLAY, limit=1.1),
    Bar(row="across-connections", contestant=who.HAWSE, against=who.OVERLAY, limit=1.3),
    Bar(row="across-tcp-1", contestant=who.HAWSE, against=who.VXLAN, limit=0.95),
    Bar(row="across-tcp-4", contestant=who.HAWSE, against=who.VXLAN, limit=0.95),
    Bar(row="across-udp-64", contestant=who.HAWSE, against=who.VXLAN, limit=0.9),
)
_ON_EVERY_ROW: Final[Mapping[str, float]] = {who.TEN_THOUSAND: 0.97, who.FOLLOWED: 0.95}
"""Contestants that must be this close to hawse in its default state."""


def measure(testbed: Testbed, plan: Plan) -> Part:
    """Measure everything; the suite of :mod:`tests.bench.suites`."""
    field = Field(testbed, plan)
    versions = {"docker": field.nodes[0].engine.version(), **_versions()}
    run = _Run(field, plan)
    try:
        rows = list(run.rows())
    finally:
        run.close()
        field.close()
    return Part(
        rows=rows,
        bars=list(_bars(rows)),
        curves=list(_curves(rows)),
        notes=run.notes,
        left_out=field.left_out,
        versions=versions,
    )


@dataclass(frozen=True, slots=True)
class Take:
    """A measurement, and what it has found so far."""

    measurement: Measurement
    collected: Collected[Contestant]


class _Run:
    """One run over a field."""

    def __init__(self, field: Field, plan: Plan) -> None:
        self._field = field
        self._plan = plan
        self._states = States(field.nodes, [one.pair.client for one in field.services[::2]])
        self.notes: list[str] = []

    def rows(self) -> Iterator[Row]:
        """Run all rounds, then say what came of them."""
        rounds = self._plan.rounds or (_QUICK_ROUNDS if self._plan.quick else _ROUNDS)
        known = measurements(quick=self._plan.quick)
        takes = [Take(measurement, Collected(self._field.contestants)) for measurement in known.values()]
        takes.append(Take(known["connections"], Collected(self._field.services)))
        states = by_state([*self._field.contestants, *self._field.services])
        for number in range(rounds):
            self._round(f"round {number + 1} of {rounds}", number, states, takes)
        for take in takes:
            for place, kind in enumerate(take.measurement.kinds):
                figures = list(take.collected.figures(place))
                for path in dict.fromkeys(contestant.path for contestant, _ in figures):
                    yield _row(path, kind, {one.name: samples for one, samples in figures if one.path == path})

    def close(self) -> None:
        """Leave hawse as it was."""
        self._states.close()

    def _round(self, what: str, number: int, states: Sequence[Sequence[Contestant]], takes: Sequence[Take]) -> None:
        """Measure everybody once."""
        said: dict[tuple[Kind, str], list[str]] = {}

        def one(contestant: Contestant, measurement: Measurement) -> tuple[float, ...] | None:
            of_path = said.setdefault((measurement.kinds[0], contestant.path), [])
            try:
                self._states.enter(contestant.state)
                sample = measurement.run(contestant.pair)
            except _FAILURES as failure:
                self.notes.append(f"{what}, {measurement.name}, {contestant.path}, {contestant.name}: {failure}")
                of_path.append(f"{contestant.name} failed")
                return None
            of_path.append(f"{contestant.name} {readable(sample[0])}")
            return sample

        for state, take, order in schedule(states, takes, number):
            take.collected.take(state, order, functools.partial(one, measurement=take.measurement))
        for (kind, path), samples in said.items():
            self._plan.say(f"{what}: {kind.title}, {who.TITLES[path]}, {kind.unit}: {'; '.join(samples)}")


def by_state(contestants: Sequence[Contestant]) -> Sequence[Sequence[Contestant]]:
    """Group them: those that need no state are measured next to hawse in its default state."""
    groups: dict[State, list[Contestant]] = {}
    for contestant in contestants:
        groups.setdefault(contestant.state or DEFAULT, []).append(contestant)
    return list(groups.values())


def _row(path: str, kind: Kind, samples: Mapping[str, Sequence[float | None]]) -> Row:
    # A service is compared with the same server asked directly, which is the first contestant of each host.
    references = _REFERENCES.get(path) or [name for name in samples if name.startswith("direct")]
    return Row(
        name=f"{path}-{kind.name}",
        title=f"{kind.title}, {who.TITLES[path]}",
        unit=kind.unit,
        better=kind.better,
        samples=samples,
        references=tuple(name for name in references if name in samples),
    )


def _curves(rows: Sequence[Row]) -> Iterator[Curve]:
    """How each figure grows with the policy, of a run that has more than one size."""
    for row in rows:
        points = [
            Point(size=entries, samples=samples)
            for name, entries in who.ENTRIES.items()
            if (samples := row.measured(name))
        ]
        if len(points) > 1:
            yield Curve(
                name=f"{row.name}-entries",
                title=row.title,
                unit=row.unit,
                size_title="policy entries",
                points={who.HAWSE: points},
            )


def _bars(rows: Sequence[Row]) -> Iterator[Bar]:
    names = {row.name for row in rows}
    yield from (bar for bar in BARS if bar.row in names)
    for contestant, factor in _ON_EVERY_ROW.items():
        for row in rows:
            if contestant in row.samples:
                yield Bar(row=row.name, contestant=contestant, against=who.HAWSE, limit=as_fast(row, factor))


def _versions() -> dict[str, str]:
    return {
        "iperf3": shell.must(["iperf3", "--version"]).split()[1],
        "sockperf": shell.must(["sockperf", "--version"]).split("version ")[-1].split()[0],
    }
