"""Compiled programs: maps are named in them, and a file gives back what was written."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from datapath.bytecode import Bytecode, MapShape, ProgramCode
from model.errors import ProgramLoadError

NAMES = {7: "hawse_one", 9: "hawse_other"}


def instruction(code: int, *, source: int = 0, number: int = 0) -> bytes:
    return struct.pack("=BBhi", code, source << 4, 0, number)


def load_map(descriptor: int) -> bytes:
    return instruction(0x18, source=1, number=descriptor) + instruction(0)


def load_number(number: int) -> bytes:
    """Its second half may look like anything."""
    return instruction(0x18, number=number) + instruction(0x18, source=1, number=number)


EXIT = instruction(0x95)
CODE = load_number(7) + load_map(9) + load_map(7) + load_map(9) + EXIT


def program() -> ProgramCode:
    return ProgramCode.of("web", CODE, NAMES)


def build() -> Bytecode:
    shape = MapShape(name="hawse_one", map_type=1, key_bytes=4, value_bytes=8, max_entries=2, flags=1, inner="")
    return Bytecode(digest="0123", maps=[shape], programs={"web": program()})


def test_maps_are_found_by_name() -> None:
    assert program().maps == {2: "hawse_other", 4: "hawse_one", 6: "hawse_other"}


def test_another_process_has_other_descriptors() -> None:
    linked = program().linked({"hawse_one": 70, "hawse_other": 90})

    assert linked == load_number(7) + load_map(90) + load_map(70) + load_map(90) + EXIT


def test_a_map_that_nobody_made_is_refused() -> None:
    with pytest.raises(ProgramLoadError, match="descriptor 9"):
        ProgramCode.of("web", CODE, {7: "hawse_one"})


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    build().write(tmp_path / "build.json")

    assert Bytecode.read(tmp_path / "build.json") == build()
    assert [path.name for path in tmp_path.iterdir()] == ["build.json"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"digest": "1", "maps": [{}], "programs": []}', '{"digest": "1", "maps": [], "programs": [1]}'],
)
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "build.json"
    path.write_text(text)

    with pytest.raises(ProgramLoadError, match=r"build\.json cannot be read"):
        Bytecode.read(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProgramLoadError, match="No such file"):
        Bytecode.read(tmp_path / "none.json")
