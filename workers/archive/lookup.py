"""What the archive knows of old decisions: found by many names at once, over all of its files.

Decisions are found in every file. Words are heard in the newest chain alone, which is what the
present state was folded from: what was said to a store that is gone is no part of it, or a
correction would take back what nobody ever counted. Where the chain begins with a base, its labels
stand for what was said before.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from telemetry import references
from telemetry.tokens import decided_at_ms, nonce_of
from workers.archive import files as archive_files
from workers.archive.archive import Archive
from workers.archive.columns import NamePairs, digests_in, from_end, nonces_in
from workers.archive.files import ArchiveFile
from workers.archive.index import Index
from workers.archive.upkeep import opened
from workers.folding import hearing
from workers.folding.batch import DAY_MS, START, position
from workers.folding.hearing import pieces

EARLY_MS = 2 * DAY_MS
"""Feedback counts up to a day before its decision by the clocks; days are counted whole."""
TRIES = 5
"""The archive may move on meanwhile."""
BUCKETS = 16
"""More spans of days than decisions of 30 days, and of clocks that are ahead, can lie in."""


@dataclass(slots=True)
class LookedUp:
    """What the archive knows of what it was asked for."""

    named: list[list[bytes]]  # of each digest, the packed tokens of its decisions, oldest first
    decisions: list[bytes | None]  # of each nonce, the packed token of its decision
    labels: dict[bytes, bytes]
    """By nonce, as the store keeps them: of what was asked for, and of all decisions in `named`.
    There is none of those of which nothing was said."""
    marks: list[bytes | None]
    """Of each shard, the entry up to which all of this is known. None: what the store has is not
    what the archive's newest files were taken from, and nothing is known of what was said."""
    heard_since_ms: list[int]
    """Of each shard: of decisions made since then all that was said up to the mark is known."""
    unread: set[str]  # names of files that are damaged and have no index: what they hold is missing


def look_up(
    archive: Archive,
    digests: list[bytes],
    nonces: list[bytes],
    *,
    oldest_ms: int,
    archived: list[bytes] | None = None,
) -> LookedUp:
    """Return the decisions that digests name or that have a nonce, and what was said of them.

    As of the end of the archive. Of one digest they are the last hundred of eight days each, in the
    order of their decisions. An index that is missing or damaged is made on the way.

    Args:
        digests, nonces: 16 bytes each.
        oldest_ms: decisions made before are not looked for.
        archived: of each shard, the mark up to which the store says that it is archived; unsaid,
            the newest chains are the store's.

    Raises:
        FileNotFoundError: files go faster than they can be listed.
    """
    for _ in range(TRIES - 1):
        with suppress(FileNotFoundError):  # another file took the place of one that was listed
            return _look_up(archive, digests, nonces, oldest_ms, archived)
    return _look_up(archive, digests, nonces, oldest_ms, archived)


def _look_up(
    archive: Archive,
    digests: list[bytes],
    nonces: list[bytes],
    oldest_ms: int,
    archived: list[bytes] | None,
) -> LookedUp:
    search, unread = _Search.of(digests, nonces, oldest_ms), set[str]()
    shards = range(archive.n_shards)
    listed = [archive_files.list_files(archive.directory(shard)) for shard in shards]
    for shard, files in enumerate(listed):
        search.find_decisions(files, shard, unread)
    named = search.named_by_age()
    spoken_of = [*nonces, *(nonce_of(token) for those in named for token in those)]
    once = list(dict.fromkeys(spoken_of))
    labels: dict[bytes, bytes] = {}
    marks, since_ms = list[bytes | None](), []
    for shard, files in enumerate(listed):
        chain = (archive_files.chains(files) or [[]])[-1]
        if archived is not None:
            known = _known_to(chain, archived[shard])
            if known is None:
                marks.append(None)
                since_ms.append(0)
                continue
            chain = known
        marks.append(chain[-1].mark if chain else START)
        labels |= _labels(chain, once, oldest_ms, unread)
        since_ms.append(_heard_since_ms(chain, unread))
    return LookedUp(named, search.decisions, labels, marks, since_ms, unread)


def _known_to(chain: list[ArchiveFile], archived: bytes) -> list[ArchiveFile] | None:
    """Return the files of a chain that were taken from what the store has; None where none is.

    A store that came back with less than it had has no part in what came after that.
    """
    if archived == START:
        return []  # of another store: nothing of this one is archived yet
    ends = [n for n, file in enumerate(chain) if file.mark == archived]
    return chain[: ends[-1] + 1] if ends else None


def _heard_since_ms(chain: list[ArchiveFile], unread: set[str]) -> int:
    """Return of which decisions a chain has all that was said: of those made since then.

    Of a file that cannot be read nobody knows what was said while it was written.
    """
    if not chain:
        return 0  # up to the beginning nothing was said
    first, since_ms = chain[0], 0
    if first.is_base and (own := opened(first, unread)):
        since_ms = int(own.column("heard_since_ms")[0])
    elif first.start not in (None, START):
        since_ms = position(first.start)[0] + EARLY_MS
    lost = (position(f.mark)[0] + EARLY_MS for f in chain if f.path.name in unread)
    return max(since_ms, *lost, 0)


@dataclass(slots=True)
class _Search:
    """A search for decisions, shard after shard."""

    oldest_ms: int
    digests: NamePairs  # sorted, so that each search goes on near where the last one ended
    digest_places: NDArray[np.intp]  # where each was asked for
    nonces: NamePairs  # sorted as well
    nonce_places: NDArray[np.intp]
    named: list[list[bytes]]
    decisions: list[bytes | None]

    @classmethod
    def of(cls, digests: list[bytes], nonces: list[bytes], oldest_ms: int) -> _Search:
        """Return a search that has found nothing yet."""
        by_digest, by_nonce = digests_in(digests), nonces_in(nonces)
        first, second = by_digest.order(), by_nonce.order()
        sorted_names = by_digest.take(first), first, by_nonce.take(second), second
        return cls(oldest_ms, *sorted_names, [[] for _ in digests], [None] * len(nonces))

    def find_decisions(self, files: list[ArchiveFile], shard: int, unread: set[str]) -> None:
        """Add what the files of one shard hold; note those that cannot be read.

        The newest come first, so that what is beyond the last hundred of a reference is never
        taken in hand. Of a decision that is told twice the oldest telling counts.
        """
        n_taken = np.zeros((len(self.named), BUCKETS), dtype=np.intp)
        parts: list[tuple[list[int], list[bytes]]] = []
        for file in reversed(files):
            own = opened(file, unread, self.oldest_ms)
            if own is None:
                continue
            slots, rows = self._last_named(own, n_taken)
            if len(slots):
                tokens = pieces(own.tokens(rows, shard=shard))
                parts.append((self.digest_places[slots].tolist(), tokens))
            slots, rows = own.of_nonces(self.nonces)
            if len(slots):
                tokens = pieces(own.tokens(rows, shard=shard))
                for place, token in zip(self.nonce_places[slots].tolist(), tokens, strict=True):
                    if decided_at_ms(token) >= self.oldest_ms:
                        self.decisions[place] = token
        for places, tokens in reversed(parts):
            for place, token in zip(places, tokens, strict=True):
                self.named[place].append(token)

    def named_by_age(self) -> list[list[bytes]]:
        """Return of each digest the decisions that were found, each once, oldest first."""
        out = []
        for tokens in self.named:
            once: dict[bytes, bytes] = {}
            for token in tokens:
                once.setdefault(nonce_of(token), token)
            out.append(sorted(once.values(), key=decided_at_ms))
        return out

    def _last_named(
        self, own: Index, n_taken: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return which digests name which rows here, as far as the store would know it.

        Args:
            n_taken: (n_digests, BUCKETS) how many newer ones there are; is kept up to date.
        """
        slots, rows = own.named(self.digests)
        if not len(slots):
            return slots, rows
        decided = own.decided_at_ms(rows)
        buckets = decided // references.BUCKET_MS % BUCKETS
        n_newer = n_taken[slots, buckets] + from_end([slots, buckets])
        np.add.at(n_taken.reshape(-1), slots * BUCKETS + buckets, 1)
        kept = (n_newer < references.MAX_REFERENCES) & (decided >= self.oldest_ms)
        return slots[kept], rows[kept]


def _labels(
    chain: list[ArchiveFile], nonces: list[bytes], oldest_ms: int, unread: set[str]
) -> dict[bytes, bytes]:
    """Return what was said of decisions, as the newest chain of one shard has it."""
    if not nonces:
        return {}
    names = nonces_in(nonces)
    order = names.order()
    names = names.take(order)
    slots, words, is_told, told_in = [], [], [], []
    for number, file in enumerate(chain):
        if position(file.mark)[0] < oldest_ms - EARLY_MS:
            continue
        if own := opened(file, unread):
            whose, places = own.said_of(names)
            if file.is_base:  # most of it under the last bytes of nonces
                shortened, behind = own.said_of(names.shortened())
                whose, places = np.append(whose, shortened), np.append(places, behind)
            slots.append(whose)
            words.append(own.column("words").take(places))
            is_told.append(own.column("is_told").take(places) > 0)
            told_in.append(np.full(len(places), number))
    if not slots:
        return {}
    slot, said, told = np.concatenate(slots), np.concatenate(words), np.concatenate(is_told)
    if told.any():
        counts = ~told | (np.concatenate(told_in) <= _first_told(chain, names, unread)[slot])
        slot, said = slot[counts], said[counts]
    rows = hearing.hear([None] * len(nonces), slot, said).rows
    return {nonces[place]: row for place, row in zip(order.tolist(), rows, strict=True) if row}


def _first_told(chain: list[ArchiveFile], names: NamePairs, unread: set[str]) -> NDArray[np.intp]:
    """Return by which file of a chain the outcome of each decision was told first."""
    first = np.full(len(names.first), len(chain), dtype=np.intp)
    for number, file in reversed(list(enumerate(chain))):
        if own := opened(file, unread):
            first[own.of_nonces(names)[0]] = number
            first[own.told_before(names)] = number
    return first
