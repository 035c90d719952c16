"""Policy documents in the store: applied and deleted whole, several in one moment."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from kvstore import keys
from kvstore.codec import decode, encode
from kvstore.first_read import FirstRead
from kvstore.own_writes import wait_visible
from kvstore.store import Compare, Delete, KeyValue, Op, Put, Store, absent, unchanged
from kvstore.watcher import View
from model.clock import Clock, rfc3339
from model.errors import CasFailed, InvalidInput, NotFound
from model.ids import NodeName
from model.policy_answers import Applied, PolicyRecord
from policy.documents import Document
from policy.views import PolicyEntry

log = logging.getLogger(__name__)

MAX_DOCUMENTS: Final = 128
"""Documents in one call: etcd's limit of operations and of comparisons in one transaction (``--max-txn-ops``)."""
MAX_REQUEST_BYTES: Final = 1_500_000
"""Bytes in one call: a little less than etcd takes in one request (``--max-request-bytes``, 1.5 MiB)."""
_KEY_OVERHEAD_BYTES: Final = 64
_ATTEMPTS: Final = 16


class PolicyRegistry:
    """The policy documents of the cluster. Safe from any thread.

    Args:
        store: the cluster's state.
        view: of the policies' keys.
        node: this node, for the record.
        clock: for the time in records.
    """

    def __init__(self, store: Store, view: View[PolicyEntry], node: NodeName, clock: Clock) -> None:
        self._store = store
        self._view = view
        self._node = node
        self._clock = clock
        self._read = FirstRead(view, "policies")

    def apply(self, documents: Sequence[Document]) -> Applied:
        """Make these documents policies of the cluster, all in one moment; those that are the same are not written.

        Raises:
            InvalidInput: none or too many, one twice, or more bytes than the store takes at once.
            CasFailed: others changed the same policies, again and again.
        """
        wanted = self._by_key(documents)
        items: dict[str, KeyValue | None] = {key: self._known(key) for key in wanted}
        for _ in range(_ATTEMPTS):
            created = [key for key, item in items.items() if item is None]
            changed = [key for key, item in items.items() if item is not None and not _says(item, wanted[key].document)]
            ops = [Put(key, encode(wanted[key])) for key in (*created, *changed)]
            # Those that stay are compared too: what is said of them is true at the revision that is answered.
            compare = [_as_known(key, item) for key, item in items.items()]
            _refuse_size(compare, ops)
            result = self._store.txn(compare, ops)
            if result.succeeded:
                # What was not written is enforced where the writes before are.
                revision = result.revision if ops else max(item.mod_revision for item in items.values() if item)
                wait_visible(self._view, revision)
                applied = Applied(
                    revision=revision,
                    created=_names(created),
                    changed=_names(changed),
                    unchanged=_names(items.keys() - {*created, *changed}),
                )
                if ops:
                    log.info(
                        "policies applied",
                        extra={"revision": revision, "new": applied.created, "changed": applied.changed},
                    )
                return applied
            items = dict(zip(items, result.current, strict=True))
        raise CasFailed(f"others changed {', '.join(_names(wanted))} {_ATTEMPTS} times meanwhile; apply again")

    def delete(self, names: Sequence[str]) -> Applied:
        """Remove policies by name, all in one moment.

        Raises:
            NotFound: names those that do not exist; nothing was deleted.
            InvalidInput: none or too many, or one that cannot be a name.
            CasFailed: others changed the same policies, again and again.
        """
        _refuse_count(len(set(names)), "name")
        items = {key: self._known(key) for key in map(self._key, sorted(set(names)))}
        for _ in range(_ATTEMPTS):
            missing = [key for key, item in items.items() if item is None]
            ops: list[Op] = [] if missing else [Delete(key) for key in items]
            result = self._store.txn([_as_known(key, item) for key, item in items.items()], ops)
            if result.succeeded and missing:
                raise NotFound(f"there is no policy {', '.join(_names(missing))}; nothing was deleted")
            if result.succeeded:
                wait_visible(self._view, result.revision)
                applied = Applied(revision=result.revision, deleted=_names(items))
                log.info("policies deleted", extra={"revision": result.revision, "deleted": applied.deleted})
                return applied
            items = dict(zip(items, result.current, strict=True))
        raise CasFailed(f"others changed {', '.join(_names(items))} {_ATTEMPTS} times meanwhile; delete again")

    def all(self) -> Sequence[PolicyEntry]:
        """Every policy, sorted by name.

        Raises:
            StoreUnavailable: nothing has been read from the store yet.
        """
        self._read.require()
        return [entry.value for _, entry in sorted(self._view.items().items())]

    def get(self, name: str) -> PolicyEntry:
        """Find a policy by name.

        Raises:
            NotFound: there is none.
            StoreUnavailable: nothing has been read from the store yet.
        """
        self._read.require()
        entry = self._view.get(keys.POLICIES + name)
        if entry is None:
            raise NotFound(f"there is no policy {name[:80]}")
        return entry.value

    def _by_key(self, documents: Sequence[Document]) -> Mapping[str, PolicyRecord]:
        _refuse_count(len(documents), "document")
        now = rfc3339(self._clock.now())
        wanted: dict[str, PolicyRecord] = {}
        for document in documents:
            key = keys.policy(document.name)
            if key in wanted:
                raise InvalidInput(f"policy {document.name} stands twice in what is to be applied")
            wanted[key] = PolicyRecord(document=document.plain, applied_at=now, applied_on=self._node)
        return dict(sorted(wanted.items()))

    def _known(self, key: str) -> KeyValue | None:
        entry = self._view.get(key)
        return None if entry is None else entry.item

    def _key(self, name: str) -> str:
        # What a hand has put there under a name that is none can be deleted too.
        key = keys.POLICIES + name
        return key if self._view.get(key) is not None else keys.policy(name)


def _as_known(key: str, item: KeyValue | None) -> Compare:
    return absent(key) if item is None else unchanged(item)


def _says(item: KeyValue, document: Mapping[str, object]) -> bool:
    """Whether the stored record holds this document; one that cannot be read does not."""
    try:
        known = decode(PolicyRecord, item.value, key=item.key)
    except InvalidInput:
        return False
    return encode(known.document) == encode(document)


def _names(policy_keys: Sequence[str] | Mapping[str, object] | set[str]) -> tuple[str, ...]:
    return tuple(sorted(key.removeprefix(keys.POLICIES) for key in policy_keys))


def _refuse_count(count: int, what: str) -> None:
    if not count:
        raise InvalidInput(f"there is no {what} of a policy in what was sent")
    if count > MAX_DOCUMENTS:
        raise InvalidInput(f"{count} {what}s at once: etcd takes {MAX_DOCUMENTS} in one transaction, split them")


def _refuse_size(compare: Sequence[Compare], puts: Sequence[Put]) -> None:
    # Each key stands in the comparison, in the operation, and in the question that follows a comparison that fails.
    keys_bytes = sum(3 * len(one.key) + _KEY_OVERHEAD_BYTES for one in compare)
    size = keys_bytes + sum(len(put.value) for put in puts)
    if size > MAX_REQUEST_BYTES:
        raise InvalidInput(
            f"the documents make a request of {size} bytes: etcd takes {MAX_REQUEST_BYTES} in one transaction, "
            "split them"
        )
