"""Keys by address, for a hundred thousand of them: what is there once for each address is one entry of a dict."""

from __future__ import annotations

from collections.abc import Iterable

from model.addresses import IPAddress


class KeysByAddress:
    """Which keys have an address, the one that was put last at the end. For one writer; :meth:`at` is for any thread.

    It says where to look. Networks, and a few addresses of both families, are not told apart: who looks finds that out.
    """

    def __init__(self) -> None:
        # By the number that the address holds anyway. Nearly always one key has it; a tuple would double the cost.
        self._keys: dict[int, str | tuple[str, ...]] = {}

    def at(self, address: IPAddress) -> tuple[str, ...]:
        """Keys with this address; one, unless something went wrong."""
        found = self._keys.get(int(address), ())
        return (found,) if isinstance(found, str) else found

    def put(self, key: str, addresses: Iterable[IPAddress]) -> None:
        """Say that a key has addresses; again is no change but of the order."""
        for address in addresses:
            others = [other for other in self.at(address) if other != key]
            self._keys[int(address)] = (*others, key) if others else key

    def discard(self, key: str, addresses: Iterable[IPAddress]) -> None:
        """Say that a key has addresses no more; again is no change."""
        for address in addresses:
            found = self.at(address)
            others = tuple(other for other in found if other != key)
            if len(others) > 1:
                self._keys[int(address)] = others
            elif others:
                self._keys[int(address)] = others[0]
            else:
                self._keys.pop(int(address), None)

    def clear(self) -> None:
        """Forget all."""
        self._keys.clear()
