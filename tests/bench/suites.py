"""The suites of the bench by name, in the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.bench import control_plane, data_path, scale
from tests.bench.plan import Suite

SUITES: Final[Mapping[str, Suite]] = {
    "data-path": data_path.measure,
    "control-plane": control_plane.measure,
    "scale": scale.measure,
}
