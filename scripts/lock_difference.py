"""Print the requirements of one lock file that another does not have, as a lock file that includes the other.

Usage: ``lock_difference.py ALL.lock BASE.lock``. A requirement is a line ``name==version`` with its continuation lines.
"""

from __future__ import annotations

import sys
from pathlib import Path


def entries(text: str) -> dict[str, str]:
    """Split a lock file into requirement → its whole text."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line and not line[0].isspace() and not line.startswith("#"):
            name = line.split("=", 1)[0]
            found[name] = ""
        if name:
            found[name] += line + "\n"
    return found


def main() -> None:
    """Print the difference."""
    everything, base = (entries(Path(path).read_text()) for path in sys.argv[1:3])
    print("-r plugin.lock")
    for name, text in everything.items():
        if name not in base:
            print(text, end="")


main()
