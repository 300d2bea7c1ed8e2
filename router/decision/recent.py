"""A table of packed values by digest that holds those used last, and no object for any of them."""

from __future__ import annotations

from collections.abc import Callable


class RecentlyUsed:
    """Bytes by key, bounded by number: what goes was used less recently than all that stays.

    Two dicts: what is used moves to the younger one, and once that is half of the bound the older
    one is dropped as a whole. So at least half of the bound is held, and using a value costs one
    look-up. A dict in the order of use would want a slot for every use since it was last built
    anew, and a linked list a hundred bytes for each value.
    """

    def __init__(self, most: int) -> None:
        """Make an empty table.

        Args:
            most: values held at most.
        """
        self._half = max(most // 2, 1)
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        """Return how many values are held."""
        return len(self._young) + len(self._old)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, which counts as a use of it."""
        value = self._young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: bytes, value: bytes) -> None:
        """Hold a value, in place of what the key had; that counts as a use of it."""
        if key not in self._young:
            self._old.pop(key, None)
            if len(self._young) >= self._half:
                self._old, self._young = self._young, {}
        self._young[key] = value

    def drop(self, key: bytes) -> None:
        """Hold nothing for a key any more."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def drop_where(self, is_meant: Callable[[bytes], bool]) -> int:
        """Hold nothing any more for keys of which this is so; return how many there were."""
        n = 0
        for held in (self._young, self._old):
            gone = [key for key in held if is_meant(key)]
            for key in gone:
                del held[key]
            n += len(gone)
        return n
