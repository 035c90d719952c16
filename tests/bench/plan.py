"""How a run is made, and what a suite of measurements is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.figures import Part
from tests.support.testbed import Testbed


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a run is made."""

    quick: bool
    """Short measurements of fewer contestants: to see that it works, and about where the figures are."""
    rounds: int
    """How often each contestant is measured; 0: as the suite thinks right."""
    urgent: bool = False
    """Measured programs run before everything else that the machine has to do: for one on which others work. What
    hawse's own agents take from the traffic does not show then."""
    say: Callable[[str], None]
    """Tell whoever waits how far it is; one line."""


Suite = Callable[[Testbed, Plan], Part]
"""Makes the nodes it needs on the testbed, measures, and turns them off again. A figure that cannot be measured is a
note of the part, not an exception: the others' figures must not be lost."""
