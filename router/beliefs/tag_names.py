"""What digests of spend tags stand for, told to the store, so that reports can name them."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice

from router.policy.spend_tags import SpendTag
from telemetry.store import Client, StoreErrors
from telemetry.tag_names import tell_tags

MAX_NAMES = 200_000
"""In the store; later ones are shown by their digest."""
MAX_KNOWN = 50_000
"""Remembered as told: tags are the apps' to choose, so there is a bound."""
AT_ONCE = 1000


class TagNames:
    """Names of tags that calls named here; told by the keeper."""

    def __init__(self, *, most: int = MAX_NAMES) -> None:
        """Know of none yet.

        Args:
            most: names that the store is to keep.
        """
        self._most = most
        self._known: set[int] = set()
        self._new: dict[int, str] = {}

    def note(self, tag: SpendTag) -> None:
        """Have the name of a call's tag told."""
        if not tag.digest or tag.digest in self._known:
            return  # most often
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known.add(tag.digest)
        if len(self._new) < MAX_KNOWN:
            self._new[tag.digest] = tag.name

    def tell(self, client: Client) -> None:
        """Tell what is new, as far as the store has room; one that is away is told the next time.

        A name that is there stays: processes cannot differ in it.
        """
        if not self._new:
            return
        told = dict(islice(dict(self._new).items(), AT_ONCE))  # calls go on noting meanwhile
        with suppress(*StoreErrors):
            tell_tags(client, told, most=self._most)
            for digest in told:
                self._new.pop(digest, None)
