"""What both stores refuse before they do anything: mistakes of the caller, told the same way by both."""

from __future__ import annotations

from collections.abc import Sequence

from kvstore.store import Op
from model.errors import InvalidInput


def refuse_repeated_keys(ops: Sequence[Op]) -> None:
    """A transaction is one moment: two operations on one key have no order in it.

    Raises:
        InvalidInput: a key stands twice in ``ops``.
    """
    seen: set[str] = set()
    for op in ops:
        if op.key in seen:
            raise InvalidInput(f"key {op.key} stands twice in one transaction")
        seen.add(op.key)


def refuse_start(revision: int) -> None:
    """Etcd takes 0 for «from now on», which loses what happened since the caller's snapshot.

    Raises:
        InvalidInput: ``revision`` is below 1.
    """
    if revision < 1:
        raise InvalidInput(f"a watch starts at revision 1 or later, not {revision}: use snapshot.revision + 1")
