"""Reading a document part by part: every fault is collected with its path, and reading goes on.

Readers take a :class:`Part`, say what is wrong with :meth:`Part.fault`, and give back something harmless; whoever
started calls :meth:`Faults.raise_if_any` before a value leaves this package, so that nothing is ever half taken.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from model.errors import Fault, InvalidDocument
from policy.limits import FAULTS_MAX

QUOTED_MAX: Final = 80
"""Characters of a user's text that a message repeats."""

_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class Faults:
    """What is wrong with the documents of one text, in the order of reading."""

    def __init__(self) -> None:
        self._found: list[Fault] = []

    @property
    def full(self) -> bool:
        """Whether more would not be kept: reading may stop."""
        return len(self._found) >= FAULTS_MAX

    def add(self, path: str, message: str) -> None:
        """Note a fault; those beyond :data:`FAULTS_MAX` are left out."""
        if not self.full:
            self._found.append(Fault(path, message))

    def take(self, where: str, others: Faults) -> None:
        """Take over what was found in one document of several; ``where`` says in which."""
        for fault in others._found:  # of the same class
            self.add(f"{where}{fault.path}".rstrip(".: "), fault.message)

    def raise_if_any(self) -> None:
        """Refuse the whole.

        Raises:
            InvalidDocument: at least one fault was found.
        """
        if self._found:
            raise InvalidDocument(self._found)


@dataclass(frozen=True, slots=True)
class Part:
    """A value of a document and where it stands."""

    value: object
    path: str
    """``spec.ingress[0]``; empty for the document."""
    faults: Faults

    def fault(self, message: str) -> None:
        """Note that this part is wrong."""
        self.faults.add(self.path, message)

    def member(self, name: str, value: object) -> Part:
        """The part below this one that has a name."""
        if len(name) > QUOTED_MAX or not _PLAIN_NAME.fullmatch(name):
            return Part(value, f"{self.path}[{quoted(name)}]", self.faults)
        return Part(value, f"{self.path}.{name}" if self.path else name, self.faults)

    def fields(
        self,
        known: Collection[str],
        *,
        null_is_absent: bool,
        required: Mapping[str, str] = _NOTHING,
        refused: Mapping[str, str] = _NOTHING,
    ) -> Mapping[str, Part] | None:
        """The fields of a mapping; None, and a fault, when it is none.

        Args:
            known: names that may stand here.
            null_is_absent: a field with nothing behind it counts as left out (Kubernetes); otherwise it is a fault,
                because «nothing» could mean nobody as well as anybody.
            required: those of them that have to be there, and what to write.
            refused: names that have a meaning elsewhere, and why they cannot be used here. Who tried one of them is
                not told in addition that something else is missing.
        """
        entries = self.entries()
        if entries is None:
            return None
        if null_is_absent:
            entries = [(name, part) for name, part in entries if part.value is not None]
        fields = {}
        for name, part in entries:
            if name in known and part.value is not None:
                fields[name] = part
            elif name in known:
                part.fault("has no value: give it one or leave the field out")
            elif not self.faults.full:
                part.fault(refused.get(name) or f"unknown field{_suggestion(name, known)}")
        present = {name for name, _ in entries}
        if not present & refused.keys():
            for name, what in required.items():
                if name not in present:
                    self.member(name, None).fault(f"is missing: {what}")
        return fields

    def entries(self) -> list[tuple[str, Part]] | None:
        """Names and parts of any mapping; None, and a fault, when it is none."""
        if not isinstance(self.value, Mapping):
            self.fault(f"has to be a mapping, not {kind_of(self.value)}")
            return None
        return [(str(name), self.member(str(name), value)) for name, value in self.value.items()]

    def elements(self, *, most: int) -> list[Part] | None:
        """The elements of a list of at most this many; None, and a fault, when it is none."""
        if not isinstance(self.value, list | tuple):
            self.fault(f"has to be a list, not {kind_of(self.value)}")
            return None
        if len(self.value) > most:
            self.fault(f"has {len(self.value)} elements; at most {most} are taken")
            return None
        return [Part(value, f"{self.path}[{index}]", self.faults) for index, value in enumerate(self.value)]

    def text(self) -> str | None:
        """A text; None, and a fault, when it is none."""
        if isinstance(self.value, str):
            return self.value
        # What a float was written like is lost: 1.10 has become 1.1.
        hint = ": put it into quotes" if isinstance(self.value, bool | int | float) else ""
        self.fault(f"has to be text, not {kind_of(self.value)}{hint}")
        return None

    def flag(self) -> bool | None:
        """A truth value; None, and a fault, when it is none."""
        if isinstance(self.value, bool):
            return self.value
        self.fault(f"has to be true or false, not {kind_of(self.value)}")
        return None


def quoted(text: str) -> str:
    """A user's text for a message: one line, not too long, whatever is in it."""
    cut = text if len(text) <= QUOTED_MAX else text[:QUOTED_MAX] + "…"
    return f'"{cut}"' if cut.isprintable() and '"' not in cut else json.dumps(cut)


def kind_of(value: object) -> str:
    """What a value is, for a message."""
    match value:
        case None:
            return "nothing"
        case bool():
            return json.dumps(value)
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list() | tuple():
            return "a list"
        case _:
            return "a mapping"


def choices(names: Collection[str]) -> str:
    """Names for a message: ``In, NotIn or Exists``."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def _suggestion(name: str, known: Collection[str]) -> str:
    same = [one for one in known if one.lower() == name.lower()]
    near = same or difflib.get_close_matches(name[:QUOTED_MAX], known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(known)}"
