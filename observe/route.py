"""What a route of the agent's API is: a path, a question, and what makes the answer.

A question comes from one place only: the parameters in path and query, a JSON body, or a body of text. Its type is a
struct that refuses what it does not know, and the API's description is made from the same type.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar

import msgspec

from observe.state import AgentState

Question = TypeVar("Question", bound=msgspec.Struct)


class Asking(enum.Enum):
    """Where a question comes from."""

    NOTHING = enum.auto()
    PARAMETERS = enum.auto()
    JSON = enum.auto()
    TEXT = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One path and method."""

    method: Literal["GET", "POST"]
    path: str
    """As OpenAPI writes it: ``/v1/policies/{name}``. A last parameter in braces takes slashes too."""
    document: type[object]
    summary: str
    asking: Asking
    question: type[msgspec.Struct] | None
    """Of parameters and JSON bodies."""
    answer: Callable[[AgentState, Any], object]
    """Makes the document; the second argument is the question, a text, or None."""

    @classmethod
    def read(cls, path: str, document: type[object], answer: Callable[[AgentState], object], summary: str) -> Self:
        """Make a route that is only read."""
        return cls(
            method="GET",
            path=path,
            document=document,
            summary=summary,
            asking=Asking.NOTHING,
            question=None,
            answer=lambda state, _: answer(state),
        )

    @classmethod
    def ask(
        cls,
        path: str,
        document: type[object],
        question: type[Question],
        answer: Callable[[AgentState, Question], object],
        summary: str,
    ) -> Self:
        """Make a route that is read with parameters; names in the path's braces are fields of the question."""
        return cls(
            method="GET",
            path=path,
            document=document,
            summary=summary,
            asking=Asking.PARAMETERS,
            question=question,
            answer=answer,
        )

    @classmethod
    def post(
        cls,
        path: str,
        document: type[object],
        question: type[Question],
        answer: Callable[[AgentState, Question], object],
        summary: str,
    ) -> Self:
        """Make a route that takes a JSON body."""
        return cls(
            method="POST",
            path=path,
            document=document,
            summary=summary,
            asking=Asking.JSON,
            question=question,
            answer=answer,
        )

    @classmethod
    def post_text(
        cls, path: str, document: type[object], answer: Callable[[AgentState, str], object], summary: str
    ) -> Self:
        """Make a route that takes a policy document."""
        return cls(
            method="POST",
            path=path,
            document=document,
            summary=summary,
            asking=Asking.TEXT,
            question=None,
            answer=answer,
        )
