"""Words and numbers as every text of this command writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

NOTHING: Final = "-"

_SHORT_ID: Final = 12
_FEW: Final = 3
"""More than this make a table too wide; their number is shown instead."""


def duration(seconds: float) -> str:
    """Write a time in its two largest units: ``2d 4h``, ``3m 5s``, ``0s``."""
    left = int(seconds)
    words: list[str] = []
    for unit, size_s in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size_s)
        if number or (unit == "s" and not words):
            words.append(f"{number}{unit}")
    return " ".join(words[:2])


def byte_size(size_bytes: int) -> str:
    """Write a size in its largest binary unit: ``20.0 KiB``."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004 - what the units mean
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def count(number: int, one: str, many: str | None = None) -> str:
    """Write ``1 node``, ``2 nodes``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def left_out(number: int) -> str:
    """Write a line about entries that a limit left out; nothing when there are none."""
    return f"{count(number, 'more entry', 'more entries')}, used less lately: see --limit\n" if number else ""


def short(ident: str) -> str:
    """Shorten an id of Docker, as docker does."""
    return ident[:_SHORT_ID]


def few(words: Sequence[str]) -> str:
    """Write the first words and how many more there are."""
    shown = joined(words[:_FEW])
    return shown if len(words) <= _FEW else f"{shown}, +{len(words) - _FEW}"


def joined(words: Iterable[str]) -> str:
    """Write words with commas between them; ``-`` when there are none."""
    return ", ".join(words) or NOTHING


def yes(value: bool) -> str:  # noqa: FBT001 - it is what is written
    """Write yes or no."""
    return "yes" if value else "no"


def labels(pairs: Mapping[str, str]) -> list[str]:
    """Write labels as ``app=web``; what Docker's own labels say comes last, since it says less to people."""
    ordered = sorted(pairs.items(), key=lambda pair: (pair[0].startswith("com.docker."), pair))
    return [f"{key}={value}" if value else key for key, value in ordered]


def enforcement(closed: bool | None) -> str:  # noqa: FBT001 - it is what is written
    """Write whether a direction is closed; ``-`` when it is not judged on this node."""
    return NOTHING if closed is None else "closed" if closed else "open"


def share(part: float) -> str:
    """Write a part of a whole: ``33.3 %``."""
    return f"{part * 100:.1f} %"


def socket(address: str, port: int | str) -> str:
    """Write an address and a port: ``10.1.0.2:80``, ``[fd00::2]:80``."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
