"""The bench: ``make bench``, or ``python -m tests.bench --help``. It never fails because of a figure."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.bench.chart import chart
from tests.bench.document import document, from_json, to_json
from tests.bench.facts import facts
from tests.bench.figures import Part
from tests.bench.plan import Plan
from tests.bench.report import report
from tests.bench.suites import SUITES
from tests.support.leftovers import remove_of_dead_runs
from tests.support.testbed import Testbed

_ROOT: Final = Path(__file__).parents[2]
_PUBLISHED: Final = _ROOT / "docs/benchmarks"
_QUICK: Final = _ROOT / "build/benchmarks"
_RESULTS: Final = "results.json"


def main(argv: Sequence[str]) -> None:
    options = _options(argv)
    if options.show is not None:
        sys.stdout.write(report(from_json(json.loads(options.show.read_text()))))
        return
    begun = datetime.now(UTC)
    started = time.monotonic()
    took_s: dict[str, float] = {}

    def say(line: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {line}", flush=True)  # noqa: T201

    plan = Plan(quick=options.quick, rounds=options.rounds, urgent=options.urgent, say=say)
    parts = _measure(options.suite or list(SUITES), plan, took_s)
    made = document(facts(begun=begun, took_s=took_s, plan=plan), parts)
    folder = options.to or (_QUICK if options.quick else _PUBLISHED)
    folder.mkdir(parents=True, exist_ok=True)
    text = report(made)
    (folder / _RESULTS).write_text(json.dumps(to_json(made), indent=1, ensure_ascii=False) + "\n")
    (folder / "results.txt").write_text(text)
    (folder / "results.svg").write_text(chart(made))
    sys.stdout.write(f"\n{text}\nwritten to {folder}: {_RESULTS}, results.txt, results.svg\n")


def _measure(names: Sequence[str], plan: Plan, took_s: dict[str, float]) -> list[Part]:
    """Run suites; one that breaks off costs its own figures and no others. Notes what takes how long."""
    with _timed("before", took_s):
        remove_of_dead_runs()
        testbed = Testbed()
    parts = []
    try:
        for name in names:
            try:
                with _timed(name, took_s):
                    parts.append(SUITES[name](testbed, plan))
            except Exception as failure:  # noqa: BLE001 # whatever it is: the figures of the others are worth more
                traceback.print_exc()
                parts.append(Part(notes=[f"{name}: broke off: {type(failure).__name__}: {failure}"]))
    finally:
        with _timed("after", took_s):
            testbed.remove()
    return parts


@contextlib.contextmanager
def _timed(what: str, took_s: dict[str, float]) -> Iterator[None]:
    started_s = time.monotonic()
    try:
        yield
    finally:
        took_s[what] = time.monotonic() - started_s


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure hawse beside Docker's drivers.")
    parser.add_argument("--quick", action="store_true", help="short measurements of fewer contestants")
    parser.add_argument("--rounds", type=int, default=0, help="how often each is measured")
    parser.add_argument("--urgent", action="store_true", help="measured programs first: on a machine where others work")
    parser.add_argument("--suite", action="append", choices=list(SUITES), help="only this one; may be repeated")
    parser.add_argument("--to", type=Path, help="folder for the results")
    parser.add_argument("--show", type=Path, metavar="JSON", help="only print a document that is there")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main(sys.argv[1:])
