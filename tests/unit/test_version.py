"""One version, written in two places because one of them is not Python."""

from __future__ import annotations

import configparser
from pathlib import Path

from model.version import VERSION


def test_the_code_and_the_packaging_say_the_same() -> None:
    packaging = configparser.ConfigParser()
    packaging.read(Path(__file__).parents[2] / "setup.cfg")

    assert VERSION == packaging["metadata"]["version"]
