"""How many fields a shard's hashes of what is young have: as last seen, and what was put since.

Nobody but who holds the shard writes there. So a size is never above what was seen and put since,
and only where that may be too much the store has to be asked. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class FieldCounts:
    """Of a shard, by `young.size_field`."""

    _seen: dict[str, int] = field(default_factory=dict)
    _put: dict[str, int] = field(default_factory=dict)

    def most(self, name: str) -> int:
        """Return how many there are at most."""
        return self._seen.get(name, 0) + self._put.get(name, 0)

    def see(self, sizes: Mapping[str, int]) -> None:
        """Note what the store said, with all that was put so far."""
        self._seen.update(sizes)
        for name in sizes:
            self._put.pop(name, None)

    def put(self, name: str, n: int) -> None:
        """Note that so many rows are written, some of which may take the place of earlier ones."""
        self._put[name] = self._put.get(name, 0) + n

    def forget(self, spans: Collection[int]) -> None:
        """Note that spans are gone."""
        for known in (self._seen, self._put):
            for name in [name for name in known if int(name.split(":")[1]) in spans]:
                del known[name]
