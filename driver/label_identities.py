"""From labels, as a user gave them, to an identity that policies know."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from driver.ports import IdentityRegistry, PolicyReadiness
from model.ids import IdentityId
from model.labels import Labels
from policy.label_filter import LabelFilter

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
    """Labels that count, and the number that stands for them."""

    labels: Labels
    identity: IdentityId


class LabelIdentities:
    """Gives labels their identity, and lets policy know of it before an endpoint has it.

    Args:
        label_filter: which labels count.
        identities: the identities of the cluster.
        policy: what stands in the kernel.
    """

    def __init__(self, label_filter: LabelFilter, identities: IdentityRegistry, policy: PolicyReadiness) -> None:
        self._filter = label_filter
        self._identities = identities
        self._policy = policy

    def labels_of(self, labels: Mapping[str, str]) -> Labels:
        """The labels that count.

        Raises:
            InvalidInput: too many, too long, or no text.
        """
        return self._filter.identity_labels(labels)

    def identify(self, labels: Labels) -> Identified:
        """Find or allocate the identity of labels that count; this node begins to compile its rules.

        Raises:
            Exhausted: there is no number left.
        """
        identity = self._identities.ensure(labels)
        self._policy.expect(identity)
        return Identified(labels=labels, identity=identity)

    def await_rules(self, identity: IdentityId, timeout_s: float) -> None:
        """Give the rules of an identity time to reach the kernel. Without them its endpoints are closed."""
        if not self._policy.wait_ready(identity, timeout_s):
            log.warning(
                "rules are not in the kernel yet, endpoints of this identity are closed until they are",
                extra={"identity": identity, "waited_s": timeout_s},
            )
