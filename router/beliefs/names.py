"""What digests stand for, to be told to the store: so reports can name what is not configured."""

from __future__ import annotations

from collections.abc import Mapping

from telemetry import keys
from telemetry.store import Client


class Names:
    """Names that the store does not know yet; told by the keeper."""

    def __init__(self) -> None:
        self._new: dict[str, str] = {}  # by the digest in hexadecimal form
        self._own: dict[int, str] = {}  # all that this process told or is to tell
        self._both: tuple[Mapping[int, str] | None, int, dict[int, str]] = (None, 0, {})

    def add(self, digest: int, name: str) -> None:
        """Have a name told."""
        self._new[f"{digest:016x}"] = self._own[digest] = name

    def add_all(self, names: Mapping[int, str]) -> None:
        """Have names told, by digest."""
        for digest, name in names.items():
            self.add(digest, name)

    def beside(self, known: Mapping[int, str] | None) -> dict[int, str]:
        """Return these names beside what the store knew: the same value until any is new.

        Args:
            known: never changed in place.
        """
        of, n, both = self._both
        if of is not known or n != len(self._own):
            own = dict(self._own)
            both = {**(known or {}), **own}
            self._both = known, len(own), both
        return both

    def tell(self, client: Client) -> None:
        """Tell what is new.

        Raises:
            redis.RedisError: the store is away; it is told the next time.
        """
        if new := dict(self._new):
            client.hset(keys.NAMES, mapping=new)
            for digest in new:
                self._new.pop(digest, None)
