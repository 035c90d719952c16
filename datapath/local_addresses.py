"""Which addresses are on this host, and what the ipcache says of them and of all others.

An address can be here and, by news from the cluster that is late or early, on another host too. The entry of this host
wins as long as its endpoint exists; the other is remembered and put in its place afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from datapath import abi, entries
from datapath.api import IpcacheKey, RemoteEndpoint
from datapath.maps import TypedMap


class LocalAddresses:
    """The ipcache, and what of it is local. Not thread-safe; the datapath's lock is around it.

    Args:
        ipcache: the map.
        changed: called after every change of it but an address that is new in it.

    Raises:
        DatapathError: from every method that writes, when the kernel refused.
        Exhausted: from a method that adds, when the map is full.
    """

    def __init__(self, ipcache: TypedMap[abi.IpcacheKey, abi.IpcacheValue], *, changed: Callable[[], None]) -> None:
        self._ipcache = ipcache
        self._changed = changed
        self._local: dict[IpcacheKey, int] = {}
        self._shadowed: dict[IpcacheKey, RemoteEndpoint] = {}
        self._departed: set[IpcacheKey] = set()

    def take_departed(self) -> frozenset[IpcacheKey]:
        """Addresses that nobody has any more, or whose node is lost, since the last call."""
        taken = frozenset(self._departed)
        self._departed.clear()
        return taken

    def adopt(self, keys: Iterable[IpcacheKey], ifindex: int) -> None:
        """Know that addresses are local that an earlier agent has claimed."""
        self._local.update(dict.fromkeys(keys, ifindex))

    def owner(self, key: IpcacheKey) -> int | None:
        """Interface that has the address; None when it is not here."""
        return self._local.get(key)

    def claim(self, key: IpcacheKey, place: abi.IpcacheValue) -> None:
        """Make an address local; what another host says of it is remembered."""
        raw = entries.ipcache_key(key)
        known = key in self._local
        if not known:
            other = self._ipcache.lookup(raw)
            remote = None if other is None else entries.remote_endpoint(other)
            if remote is not None:
                self._shadowed[key] = remote
            known = other is not None
        self._ipcache.update(raw, place)
        self._local[key] = place.ifindex
        if known:
            self._changed()

    def release(self, key: IpcacheKey, ifindex: int) -> None:
        """End an address of an endpoint, unless a newer one has it by now."""
        if self._local.get(key) != ifindex:
            return
        raw = entries.ipcache_key(key)
        remote = self._shadowed.pop(key, None)
        if remote is None:
            self._ipcache.delete(raw)
            self._departed.add(key)
        else:
            self._ipcache.update(raw, entries.remote_place(remote))
        del self._local[key]
        self._changed()

    def replace_remotes(self, remotes: Mapping[IpcacheKey, RemoteEndpoint]) -> None:
        """See :meth:`datapath.api.Datapath.replace_remotes`."""
        self._shadowed = {key: remote for key, remote in remotes.items() if key in self._local}
        try:
            deleted = self._ipcache.sync(
                (
                    (entries.ipcache_key(key), entries.remote_place(remote))
                    for key, remote in remotes.items()
                    if key not in self._local
                ),
                untouched=map(entries.ipcache_key, self._local),
            )
            self._departed.update(map(entries.ipcache_name, deleted))
            self._note_gone(remotes)
        finally:
            self._changed()  # also when it failed half way

    def update_remotes(self, upserts: Mapping[IpcacheKey, RemoteEndpoint], deletes: Iterable[IpcacheKey]) -> None:
        """See :meth:`datapath.api.Datapath.update_remotes`."""
        gone = [key for key in deletes if key not in upserts]
        for key in gone:
            self._shadowed.pop(key, None)
        self._shadowed.update((key, remote) for key, remote in upserts.items() if key in self._local)
        try:
            self._ipcache.update_many(
                (entries.ipcache_key(key), entries.remote_place(remote))
                for key, remote in upserts.items()
                if key not in self._local
            )
            self._ipcache.delete_many(entries.ipcache_key(key) for key in gone if key not in self._local)
            self._departed.update(key for key in gone if key not in self._local)
            self._note_gone(upserts)
        finally:
            self._changed()

    def _note_gone(self, remotes: Mapping[IpcacheKey, RemoteEndpoint]) -> None:
        self._departed.update(key for key, remote in remotes.items() if remote.gone and key not in self._local)
