"""Tables of text: aligned columns that are as wide as what stands in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_GAP: Final = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """One column; numbers stand to the right."""

    title: str
    right: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows below their titles; no line ends with a blank, the text ends with a line feed."""
    lines = [[column.title for column in columns], *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
    return "".join(_line(columns, widths, line) for line in lines)


def printable(text: str) -> str:
    r"""Write control characters as ``\x1b``: names come from other hosts and must not steer the operator's terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def _line(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str]) -> str:
    placed = (
        cell.rjust(width) if column.right else cell.ljust(width)
        for column, width, cell in zip(columns, widths, cells, strict=True)
    )
    return _GAP.join(placed).rstrip() + "\n"
