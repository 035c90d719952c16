"""abi.h to abi.py: what is read, what is refused, and that the committed module is the current one."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from datapath import abi

SCRIPT: Final = Path(__file__).parents[2] / "scripts" / "generate_abi.py"


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("generate_abi", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_committed_module_is_what_the_header_says(generator: ModuleType) -> None:
    wanted = generator.python_module(generator.HEADER.read_text(encoding="utf-8"))

    assert wanted == generator.MODULE.read_text(encoding="utf-8")


def test_enum_struct_and_constant_are_translated(generator: ModuleType) -> None:
    header = (
        "#define HAWSE_LIMIT 0x10 /* of something */\n"
        "enum color {\n\tCOLOR_RED = 1, /* like a rose */\n};\n"
        "struct two_fields {\n\t__be16 port; /* on the wire */\n\t__u8 pad[2]; /* zero */\n};\n"
    )
    made: dict[str, object] = {"__name__": "made"}

    exec(generator.python_module(header), made)

    assert made["LIMIT"] == 16
    assert made["Color"].RED.text == "like a rose"  # type: ignore[attr-defined] # made at run time
    assert bytes(made["TwoFields"](port=443)) == b"\x01\xbb\0\0"  # type: ignore[operator] # made at run time


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("struct s {\n\t__u8 a; /* . */\n\t__u32 b; /* . */\n};\n", "3 bytes of padding"),
        ("struct s {\n\t__u32 a; /* . */\n\t__u8 b; /* . */\n};\n", "padding at its end"),
        ("struct s {\n};\n", "struct s"),
        ("struct s {\n\tint a; /* . */\n};\n", "type int is not one of"),
        ("struct s {\n\tstruct t a; /* . */\n};\n", "not «type name; /\\* meaning \\*/»"),
        ("struct s {\n\t__u8 a;\n};\n", "meaning"),
        ("struct s {\n\t__u8 a : 3; /* . */\n};\n", "meaning"),
        ("struct s {\n\t__u8 *a; /* . */\n};\n", "meaning"),
        ("enum e {\n\tE_ONE, /* . */\n};\n", "number"),
        ("union u {\n\t__u8 a; /* . */\n};\n", "neither"),
        ("#define HAWSE_X (1 << 3)\n", "neither"),
        ("#include <linux/types.h>\n", "neither"),
        ("typedef __u8 x;\n", "neither"),
    ],
)
def test_anything_else_is_refused_with_its_line(generator: ModuleType, header: str, why: str) -> None:
    with pytest.raises(generator.SubsetError, match=why):
        generator.python_module(header)


def test_numbers_and_texts_of_drop_reasons_are_unique() -> None:
    reasons = list(abi.DropReason)

    assert len({reason.text for reason in reasons}) == len(reasons)
    assert len(abi.DropReason.__members__) == len(reasons)
    assert all(reason == 0 or 130 <= reason <= 255 for reason in reasons)


def test_names_that_cilium_has_are_the_same_here() -> None:
    """Numbers and texts from Cilium's pkg/monitor/api/drop.go."""
    cilium = {
        130: "Invalid source mac",
        132: "Invalid source ip",
        133: "Policy denied",
        134: "Invalid packet",
        135: "CT: Truncated or invalid header",
        136: "Fragmentation needed",
        139: "Unsupported L3 protocol",
        140: "Missed tail call",
        141: "Error writing to packet",
        147: "Error retrieving tunnel key",
        150: "Unknown L3 target address",
        155: "CT: Map insertion failed",
        158: "Service backend not found",
        160: "No tunnel/encapsulation endpoint",
        165: "No configuration",
        166: "Unsupported L2 protocol",
        167: "No mapping for NAT masquerade",
        168: "Unsupported protocol for NAT masquerade",
        170: "Encapsulation traffic is prohibited",
        171: "Invalid identity",
        175: "First logical datagram fragment not found",
        181: "Policy denied by denylist",
        182: "VLAN filtered",
    }

    assert {int(reason): reason.text for reason in abi.DropReason if 0 < reason < 224} == cilium


def test_metrics_have_room_for_every_reason_in_both_directions() -> None:
    assert max(abi.DropReason) * 2 + max(abi.Direction) < abi.METRICS_MAX


def test_endpoint_value_keeps_what_programs_read_in_one_cache_line() -> None:
    assert abi.EndpointValue.endpoint_id.offset == 64
    assert ctypes.sizeof(abi.EndpointValue) == 128
