"""Every error hawse raises on purpose.

::

    HawseError
    ├── InvalidInput           a value from a user or from Docker breaks a rule
    │   ├── ProtocolError      a message cannot be read at all
    │   └── InvalidDocument    a policy document breaks rules; names every fault with its path
    ├── NotFound
    │   ├── NetworkNotFound
    │   ├── EndpointNotFound
    │   └── PoolNotFound
    ├── Conflict               something else already has what was asked for
    │   └── CasFailed          a compare-and-swap lost against another writer; read again and retry
    ├── Exhausted              a finite resource (addresses, pools, VNIs, a map) has no room
    ├── EngineUnavailable      Docker's API does not answer; only background work asks it
    ├── DeadlineExceeded       the caller's time is over; the work may or may not have been done
    ├── StoreError
    │   ├── StoreUnavailable   etcd cannot be reached or has no leader; retry later
    │   └── Compacted          the revision asked for is gone; take a new snapshot
    └── DatapathError
        ├── LinkError          the kernel refused a link, address or filter (``errno``)
        ├── ProgramLoadError   a program did not compile or the verifier refused it (``log``)
        └── AbiMismatch        a map in the kernel has another layout than this agent

Errors know no HTTP: ``driver/http.py`` has the one table from type to status. Messages say what, which
id, and why, in words a user can act on; they may reach logs, so they carry no secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class HawseError(Exception):
    """Base of all errors hawse raises on purpose."""


class InvalidInput(HawseError):
    """A value from a user or from Docker breaks a rule; the message says which and what to change."""


class ProtocolError(InvalidInput):
    """A message cannot be read: it is empty, not JSON, too large, or a field has the wrong type."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a document."""

    path: str
    """``spec.ingress[1].toPorts[0].ports[0].port``; empty for the document as a whole."""
    message: str
    """``70000 is not a port``."""

    def __str__(self) -> str:
        """Write it as one line."""
        return f"{self.path}: {self.message}" if self.path else self.message


class InvalidDocument(InvalidInput):
    """A document breaks rules; nothing of it was taken."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = tuple(faults)


class NotFound(HawseError):
    """Something that was named does not exist."""


class NetworkNotFound(NotFound):
    """No network with this id or pool."""


class EndpointNotFound(NotFound):
    """No endpoint with this id."""


class PoolNotFound(NotFound):
    """No address pool with this id."""


class Conflict(HawseError):
    """Something else already has what was asked for; the message names it."""


class CasFailed(Conflict):
    """A compare-and-swap lost against another writer; read again and retry."""


class Exhausted(HawseError):
    """A finite resource has no room left; the message says which and how much of it is in use."""


class DeadlineExceeded(HawseError):
    """The caller's time is over; the work may or may not have been done."""


class EngineUnavailable(HawseError):
    """Docker's API cannot be reached or did not answer in time; only background work ever asks it."""


class StoreError(HawseError):
    """The store could not do what was asked."""


class StoreUnavailable(StoreError):
    """The store cannot be reached or has no leader; the request may be repeated."""


class Compacted(StoreError):
    """The revision asked for has been compacted away; take a new snapshot."""


class DatapathError(HawseError):
    """The kernel or the datapath could not do what was asked."""


class LinkError(DatapathError):
    """The kernel refused a link, address, route or filter."""

    def __init__(self, message: str, *, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno


class ProgramLoadError(DatapathError):
    """A program did not compile, or the verifier refused it."""

    def __init__(self, message: str, *, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class AbiMismatch(DatapathError):
    """A map in the kernel has another layout than this agent was built for."""
