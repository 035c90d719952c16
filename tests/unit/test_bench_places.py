"""A shell that stays: commands one after the other, programs in the background, and failures that say what was said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.measurements import Pair, connections, echo
from tests.bench.places import Place, PlaceFailed
from tests.bench.urgency import mark


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    programs = tmp_path / "image/bin"
    programs.mkdir(parents=True)
    made = Place("here", ["/bin/sh"], address="127.0.0.1", notes=str(tmp_path / "notes"), image=tmp_path / "image")
    yield made
    made.close()


def program(folder: Path, name: str, text: str) -> None:
    path = folder / "image/bin" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_commands_are_answered_one_after_the_other(place: Place) -> None:
    assert place.run("echo one; echo two") == "one\ntwo"
    assert place.run("printf 'no newline'") == "no newline"
    assert place.run(":") == ""


def test_a_command_that_fails_says_what_it_said_and_the_shell_stays(place: Place) -> None:
    with pytest.raises(PlaceFailed, match=r"exit code 3\n\s*it is broken"):
        place.run("echo it is broken >&2; (exit 3)")

    assert place.run("echo well") == "well"


def test_a_command_reads_nothing_from_the_shells_own_input(place: Place) -> None:
    assert place.run("cat") == ""


def test_a_command_that_does_not_end_is_given_up(place: Place) -> None:
    with pytest.raises(PlaceFailed, match="did not end in time"):
        place.run("sleep 100", timeout_s=0.05)


def test_the_answer_of_a_command_that_was_given_up_is_no_other_commands(place: Place) -> None:
    with pytest.raises(PlaceFailed, match="did not end in time"):
        place.run("sleep 0.2; echo late", timeout_s=0.05)

    assert place.run("echo well") == "well"


def test_a_program_in_the_background_is_waited_for_and_joined(place: Place) -> None:
    place.start("it", "sh -c 'echo ready; sleep 0.05; echo done'", says="ready")

    assert place.join("it").endswith("done")


def test_a_program_that_does_not_say_the_word_is_given_up(place: Place) -> None:
    with pytest.raises(PlaceFailed, match="does not say «ready» but: wrong"):
        place.start("it", "echo wrong", says="ready", timeout_s=0.05)


def test_a_program_that_is_told_to_end_says_its_last_words(place: Place) -> None:
    words = "trap 'echo last; exit' TERM; echo ready; while :; do sleep 0.01; done"
    place.start("it", f'sh -c "{words}"', says="ready")

    assert place.stop("it") == "ready\nlast"


def test_a_program_in_the_background_can_be_ended_once_and_again(place: Place) -> None:
    place.start("it", "sh -c 'echo ready; exec sleep 100'", says="ready")

    place.end("it")
    place.end("it")

    assert place.run("echo well") == "well"


def test_own_programs_come_first_and_the_shell_is_marked(place: Place, tmp_path: Path) -> None:
    program(tmp_path, "taskset", "echo mine")

    assert place.run("taskset") == "mine"
    assert place.run("echo $HAWSE_BENCH_PLACE") == mark("here")[1]


def test_percentiles_are_read_from_sockperf(place: Place, tmp_path: Path) -> None:
    said = "---> percentile 99.999 =  99.999\n---> percentile 99.000 =  60.1\n---> percentile 50.000 =  20.5"
    program(tmp_path, "taskset", f"printf '%s\\n' 'sockperf: {said}'")

    assert echo(Pair(client=place, server=place, address="127.0.0.1"), seconds=1) == (20.5, 60.1)


def test_connections_count_only_if_none_failed(place: Place, tmp_path: Path) -> None:
    pair = Pair(client=place, server=place, address="127.0.0.1")
    program(tmp_path, "taskset", "echo 500 0 250000000")

    assert connections(pair, ms=250) == 2000

    program(tmp_path, "taskset", "echo 500 1 250000000")

    with pytest.raises(PlaceFailed, match="1 of 501"):
        connections(pair, ms=250)
