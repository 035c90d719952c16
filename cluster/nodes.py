"""Nodes: how to reach each host, and which agents run.

Two keys, because they end differently: the record stays until the node is removed (a host whose agent is down goes on
forwarding, so its peers must keep accepting its packets), the leased ``alive`` key goes a short time after the agent
does.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from kvstore import keys
from kvstore.codec import decode, encode
from kvstore.lease import LeaseKeeper
from kvstore.store import Delete, KeyValue, LeaseId, Put, Store, absent, unchanged
from kvstore.watcher import View
from model.errors import CasFailed, Conflict, InvalidInput
from model.ids import NodeName
from model.nodes import Node

log = logging.getLogger(__name__)

_ATTEMPTS: Final = 16


class NodeRegistry:
    """The nodes of the cluster; this node registers itself. Safe from any thread.

    Args:
        store: the cluster's state.
        nodes: view of the nodes' keys.
        alive: view of the liveness keys.
        node: this node, as its peers shall know it.
        ttl_s: how long a node counts as alive after its agent ended without a word.
    """

    def __init__(self, store: Store, nodes: View[Node], alive: View[NodeName], node: Node, *, ttl_s: int = 15) -> None:
        self._store = store
        self._nodes = nodes
        self._alive = alive
        self._node = node
        self._ttl_s = ttl_s
        self._keeper = LeaseKeeper(store, {keys.alive(node.name): str(node.address).encode()}, ttl_s=ttl_s)
        self._started = False

    def start(self) -> None:
        """Register this node, then keep it alive. After an error it may be called again.

        Raises:
            Conflict: a node with this name and another underlay address is alive.
        """
        self.refresh()
        if not self._started:
            self._started = True
            self._keeper.start()

    def stop(self) -> None:
        """End the liveness; the record stays."""
        self._keeper.stop()

    @property
    def lease(self) -> LeaseId | None:
        """The lease of this agent while it certainly lasts."""
        return self._keeper.lease

    def refresh(self) -> None:
        """Make this node's record stand as it should, also after somebody removed it.

        Raises:
            Conflict: a node with this name and another underlay address is alive.
        """
        key = keys.node(self._node.name)
        item = self._store.get(key)
        for _ in range(_ATTEMPTS):
            wanted = self._node
            if item is not None:
                known = self._readable(item)
                if known == replace(wanted, registered_at=known.registered_at):
                    return
                self._refuse_taken_name(known)
                wanted = replace(wanted, registered_at=known.registered_at or wanted.registered_at)
            result = self._store.txn([absent(key) if item is None else unchanged(item)], [Put(key, encode(wanted))])
            if result.succeeded:
                log.info("node registered", extra={"node": wanted.name, "address": str(wanted.address)})
                return
            (item,) = result.current
        raise CasFailed(f"the record of node {self._node.name} changed {_ATTEMPTS} times during its registration")

    def all(self) -> Sequence[Node]:
        """All nodes, sorted by name."""
        return [entry.value for _, entry in sorted(self._nodes.items().items())]

    def alive(self) -> frozenset[NodeName]:
        """Nodes whose agent runs."""
        return frozenset(entry.value for entry in self._alive.items().values())

    def remove(self, name: NodeName) -> bool:
        """Remove the record of a node whose agent does not run, and what it said; False when it does, or runs again."""
        item = self._store.get(keys.node(name))
        if item is None:
            return self._store.get(keys.alive(name)) is None
        ops = [Delete(item.key), Delete(keys.enforced(name)), Delete(keys.lost(name))]
        return self._store.txn([unchanged(item), absent(keys.alive(name))], ops).succeeded

    def _readable(self, item: KeyValue) -> Node:
        try:
            return decode(Node, item.value, key=item.key)
        except InvalidInput as err:
            # Whatever it was, the node itself is the one to say what it is.
            log.warning("node record cannot be read, writing it again", extra={"key": item.key, "error": str(err)})
            return replace(self._node, version="", registered_at="")

    def _refuse_taken_name(self, known: Node) -> None:
        if known.address == self._node.address or self._store.get(keys.alive(known.name)) is None:
            return
        raise Conflict(
            f"node name {known.name} is in use by the host at {known.address}, this host is {self._node.address}: "
            f"give this one another NODE_NAME; if its address was {known.address} until now, wait {self._ttl_s} s"
        )
