"""Which labels of a container make its identity.

Every set of labels that differs is an identity of its own, so a label that differs from container to container (a
task's id, a container's number) would make as many identities as containers. The setting ``IDENTITY_LABELS`` says which
count: key patterns in order, of which the last that matches decides; one with ``!`` in front leaves the label out, and
so does matching none. ``*`` at the beginning or at the end of a pattern stands for any text.

Three things are not for the setting to decide: ``hawse.*`` always counts, because policies are made of it,
``reserved:*`` never does, because it would make a container pass for the host or the world, and what makes the
namespace (:attr:`model.labels.Labels.namespace`) counts unless a pattern excludes it: with it lost, every
NetworkPolicy of a stack would silently select nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from model.errors import InvalidInput
from model.labels import COMPOSE_PROJECT_LABEL, RESERVED_PREFIX, STACK_LABEL, Labels

OWN_PREFIX: Final = "hawse."
"""Labels that say something to hawse."""

_DEFAULT: Final = (
    "*",
    # Docker's, Swarm's and Compose's own: ids, numbers, hashes, paths. The four that name things count.
    "!com.docker.*",
    "!desktop.docker.io/*",
    "com.docker.swarm.service.name",
    "com.docker.stack.namespace",
    "com.docker.compose.project",
    "com.docker.compose.service",
    # What images say of themselves: who built them, when, and from what.
    "!org.opencontainers.image.*",
    "!org.label-schema.*",
    "!maintainer",
    "!description",
    "!summary",
    "!usage",
    "!build-date",
    "!build_version",
    "!vcs-*",
    "!com.gitlab.ci.*",
    "!com.redhat.*",
    "!io.buildah.*",
    "!io.k8s.description",
    "!io.k8s.display-name",
    "!io.openshift.*",
    # Long, and the same for all containers of a service.
    "!traefik.*",
)
DEFAULT_PATTERNS: Final = ",".join(_DEFAULT)

LABELS_MAX: Final = 128
KEY_BYTES_MAX: Final = 253
VALUE_BYTES_MAX: Final = 1024
TOTAL_BYTES_MAX: Final = 16 * 1024

_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line separators, and halves of surrogate pairs, which are no text."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One item of the setting."""

    text: str
    """Without ``!`` and ``*``; nothing is left of ``*`` alone."""
    keeps: bool = True
    open_start: bool = False
    open_end: bool = False

    @classmethod
    def parse(cls, item: str) -> Self:
        """Read ``app``, ``!com.docker.*`` or ``*.example.org/team``.

        Raises:
            InvalidInput: nothing but ``!``, a ``*`` in the middle, or white space.
        """
        body = item.removeprefix("!")
        text = body.removeprefix("*").removesuffix("*")
        if not body or "*" in text or "!" in text or len(body.split()) != 1 or _UNPRINTABLE.search(body):
            raise InvalidInput(f"{item[:80]!r} is no pattern of label keys like app, com.example.* or !com.example.*")
        return cls(
            text,
            keeps=not item.startswith("!"),
            open_start=body.startswith("*"),
            open_end=body.endswith("*"),
        )

    def matches(self, key: str) -> bool:
        """Whether the pattern is about this label."""
        if self.open_start and self.open_end:
            return self.text in key
        if self.open_start:
            return key.endswith(self.text)
        return key.startswith(self.text) if self.open_end else key == self.text


_NAMESPACE: Final = (Pattern(STACK_LABEL), Pattern(COMPOSE_PROJECT_LABEL))


@dataclass(frozen=True, slots=True)
class LabelFilter:
    """The setting, read."""

    patterns: tuple[Pattern, ...]

    @classmethod
    def parse(cls, setting: str = DEFAULT_PATTERNS) -> Self:
        """Read patterns that are separated by commas.

        Raises:
            InvalidInput: one is no pattern, or there is none.
        """
        items = [item.strip() for item in setting.split(",") if item.strip()]
        if not items:
            raise InvalidInput("no pattern of label keys; '!*' keeps only hawse's own labels")
        return cls((*_NAMESPACE, *map(Pattern.parse, items)))

    def keeps(self, key: str) -> bool:
        """Whether a label counts."""
        if key.startswith(RESERVED_PREFIX):
            return False
        if key.startswith(OWN_PREFIX):
            return True
        return next((pattern.keeps for pattern in reversed(self.patterns) if pattern.matches(key)), False)

    def identity_labels(self, labels: Mapping[str, str]) -> Labels:
        """Take the labels that count.

        Raises:
            InvalidInput: these are too many or too long, or one is no printable text. What does not count may be
                anything.
        """
        kept = {key: value for key, value in labels.items() if self.keeps(key)}
        if len(kept) > LABELS_MAX:
            raise InvalidInput(f"{len(kept)} labels would make one identity, at most {LABELS_MAX} can; {_NARROW}")
        for key, value in kept.items():
            _check(key, value)
        total_bytes = sum(len(text.encode()) for pair in kept.items() for text in pair)
        if total_bytes > TOTAL_BYTES_MAX:
            raise InvalidInput(
                f"labels of {total_bytes} bytes would make one identity, at most {TOTAL_BYTES_MAX} can; {_NARROW}"
            )
        return Labels.of(kept)


_NARROW: Final = "let fewer labels count with IDENTITY_LABELS"


def _check(key: str, value: str) -> None:
    problem = None
    if not key:
        problem = "has no name"
    elif _UNPRINTABLE.search(key) or _UNPRINTABLE.search(value):
        problem = "has control characters"
    elif len(key.encode()) > KEY_BYTES_MAX:
        problem = f"has a name of {len(key.encode())} bytes, more than {KEY_BYTES_MAX}"
    elif len(value.encode()) > VALUE_BYTES_MAX:
        problem = f"has a value of {len(value.encode())} bytes, more than {VALUE_BYTES_MAX}"
    if problem is not None:
        advice = "say it in a policy document" if key.startswith(OWN_PREFIX) else _NARROW
        raise InvalidInput(f"label {key[:80]!r} {problem}; {advice}")
