"""One shard as its owner sees it: the state in memory, and what a batch of frames changes.

Everything that one batch changes is written in one commit together with the mark up to which the
stream was read. So after a crash either all of it happened or none, and the next owner goes on
from the mark.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit import cells
from bandit.cells import KEY, N_COLUMNS
from telemetry import frames, keys, references
from telemetry.errors import MalformedEvent
from telemetry.events import NO_DIGEST, RECORD, RECORD_SIZE, Flag, Kind, decode
from telemetry.scripts import Commit
from telemetry.store import Client
from workers import fold, hearing

DAY_MS = 86_400_000
LABEL_DAYS = 30
"""Feedback for older decisions is refused and counted; their labels rows are gone."""
PRODUCER_DAYS = 7
"""A producer silent this long has no frame on its way any more."""
MAX_DEAD = 10_000
START = b"0-0"
NO_ROW = bytes(8 * N_COLUMNS)


class NotOwner(Exception):
    """Another process owns the shard: what was folded has no effect."""


@dataclass(slots=True)
class Batch:
    """Frames taken apart: new records, and what could not be read."""

    records: NDArray[np.void] = field(default_factory=lambda: np.empty(0, dtype=RECORD))
    dead: list[tuple[str, bytes]] = field(default_factory=list)
    windows: dict[bytes, int] = field(default_factory=dict)
    n_repeated: int = 0


@dataclass(slots=True)
class Shard:
    """The state of one shard, kept by the process that holds its lease."""

    client: Client
    number: int
    mark: bytes = START
    version: int = 0  # only the owner's commits raise it
    rows: dict[bytes, bytes] = field(default_factory=dict)  # as they lie in the store
    windows: dict[bytes, int] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)

    def load(self) -> None:
        """Read the shard's state; call it after the lease was taken."""
        pipeline = self.client.pipeline(transaction=True)
        pipeline.hmget(keys.meta(self.number), "mark", "version")
        pipeline.hgetall(keys.rows(self.number))
        pipeline.hgetall(keys.producers(self.number))
        (mark, version), rows, producers = pipeline.execute()
        self.mark, self.version = mark or START, int(version or 0)
        self.rows = {
            key: row
            for key, row in rows.items()
            if len(key) == KEY.itemsize and len(row) == len(NO_ROW)
        }
        self.windows = {name: int(value.split(b":")[0]) for name, value in producers.items()}

    def fold(self, entries: list[tuple[bytes, dict[bytes, bytes]]], *, token: int) -> int:
        """Fold stream entries and commit; return how many records took effect.

        Raises:
            NotOwner: mark or token in the store are not ours; nothing was written.
        """
        batch = self._take_apart(entries)
        commit = Commit(keys.meta(self.number))
        records = batch.records
        counts: Counter[str] = Counter(repeated=batch.n_repeated)
        kind = records["kind"]
        outcomes = records[kind == Kind.OUTCOME]
        named = _references(outcomes)
        said = self._refuse_old(records[kind == Kind.FEEDBACK], batch)
        known = self._ask(
            {keys.references(self.number, n): list(found) for n, found in named.items()}
            | {keys.labels(self.number, n): _nonces(found) for n, found in said.items()}
        )
        terms = fold.outcome_terms(outcomes)
        counts["outcomes"] = len(outcomes)
        self._index_references(commit, named, known)
        for day, found in said.items():
            terms += self._hear(commit, day, found, known, counts)
        self._hold(commit, records[kind == Kind.REFERENCE_FEEDBACK], counts)
        changed = self._add(commit, cells.merge(terms))
        self._write_books(commit, batch, counts)
        new_mark = entries[-1][0]
        version = commit.run(self.client, mark=self.mark, token=token, new_mark=new_mark)
        if version < 0:
            raise NotOwner(f"shard {self.number}")
        self.rows.update(changed)
        self.windows.update(batch.windows)
        self.mark, self.version = new_mark, version
        self.counters.update(counts)
        return len(records)

    def prune(self, *, now_ms: int, token: int) -> None:
        """Drop what nobody reads any more: stream behind the mark, stale rows, old producers."""
        self.client.xtrim(keys.stream(self.number), minid=self.mark.decode(), approximate=True)
        names = list(self.rows)
        if not names:
            return
        stale = cells.is_stale(np.frombuffer(b"".join(names), dtype=KEY), now_ms=now_ms)
        gone = [name for name, old in zip(names, stale, strict=True) if old]
        commit = Commit(keys.meta(self.number))
        for part in _parts(gone):
            commit.add("HDEL", keys.rows(self.number), *part)
            commit.add("ZREM", keys.touched(self.number), *part)
        silent = now_ms - PRODUCER_DAYS * DAY_MS
        books = self.client.hgetall(keys.producers(self.number))
        quiet = [name for name, value in books.items() if int(value.split(b":")[1]) < silent]
        for part in _parts(quiet):
            commit.add("HDEL", keys.producers(self.number), *part)
        if not gone and not quiet:
            return
        version = commit.run(self.client, mark=self.mark, token=token, new_mark=self.mark)
        if version < 0:
            raise NotOwner(f"shard {self.number}")
        self.version = version
        for name in gone:
            del self.rows[name]
        for name in quiet:
            self.windows.pop(name, None)

    def _take_apart(self, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> Batch:
        batch = Batch()
        bodies: list[bytes] = []
        for _, fields in entries:
            raw = fields.get(b"f", b"")
            try:
                frame = frames.unpack(raw)
            except MalformedEvent as error:
                batch.dead.append((str(error), raw))
                continue
            skip = 0
            if frame.producer != frames.UNNUMBERED:
                seen = batch.windows.get(frame.producer, self.windows.get(frame.producer, 0))
                skip = min(max(seen - frame.first, 0), frame.n_records)
                batch.windows[frame.producer] = max(seen, frame.first + frame.n_records)
            batch.n_repeated += skip
            bodies.append(frame.body[skip * RECORD_SIZE :])
        batch.records, bad = decode(b"".join(bodies))
        batch.dead += [("a record with a wrong checksum or field", raw) for raw in bad]
        return batch

    def _refuse_old(self, said: NDArray[np.void], batch: Batch) -> dict[int, NDArray[np.void]]:
        """Return feedback by its decision's day, without what came over 30 days after."""
        days = said["token"]["decided_at_ms"] // DAY_MS
        old = days < int(time.time() * 1000) // DAY_MS - LABEL_DAYS
        reason = "feedback for a decision of over 30 days ago"
        batch.dead += [(reason, record.tobytes()) for record in said[old]]
        return {day: said[days == day] for day in sorted(set(days[~old].tolist()))}

    def _ask(self, wanted: dict[str, list[bytes]]) -> dict[str, dict[bytes, bytes | None]]:
        """Return what the store holds in these fields of these hashes: one round trip for all."""
        parts = [(name, part) for name, fields in wanted.items() for part in _parts(fields)]
        if not parts:
            return {}
        pipeline = self.client.pipeline(transaction=False)
        for name, part in parts:
            pipeline.hmget(name, part)
        known: dict[str, dict[bytes, bytes | None]] = {name: {} for name in wanted}
        for (name, part), values in zip(parts, pipeline.execute(), strict=True):
            known[name].update(zip(part, values, strict=True))  # type: ignore[arg-type]
        return known

    def _hear(
        self,
        commit: Commit,
        day: int,
        said: NDArray[np.void],
        known: dict[str, dict[bytes, bytes | None]],
        counts: Counter[str],
    ) -> list[cells.Terms]:
        """Fold the feedback of one day: what changes in the rewards, and the labels to write."""
        name = keys.labels(self.number, day)
        stored, nonces = known[name], _nonces(said)
        slot_of = {nonce: slot for slot, nonce in enumerate(stored)}
        slots = np.array([slot_of[nonce] for nonce in nonces], dtype=np.intp)
        heard = hearing.hear(list(stored.values()), slots, said)
        counts["feedback"] += int(heard.is_news.sum())
        counts["feedback_outdated"] += int((~heard.is_news).sum())
        changed = np.zeros(len(stored), dtype=bool)
        changed[slots[heard.is_news]] = True
        fields = _paired(list(compress(stored, changed)), list(compress(heard.rows, changed)))
        for part in _parts(fields):
            commit.add("HSET", name, *part)
        commit.add("EXPIREAT", name, (day + LABEL_DAYS + 2) * DAY_MS // 1000)
        first = np.empty(len(stored), dtype=np.intp)
        first[slots[::-1]] = np.arange(len(said))[::-1]
        tokens = said["token"][first]
        return fold.reward_terms(
            tokens[changed],
            hearing.rewards(heard.before[changed]),
            hearing.rewards(heard.after[changed]),
        )

    def _index_references(
        self,
        commit: Commit,
        named: dict[int, dict[bytes, bytes]],
        known: dict[str, dict[bytes, bytes | None]],
    ) -> None:
        """Note which decisions an answer id or a caller's reference means."""
        for number, tokens in named.items():
            name = keys.references(self.number, number)
            fields: list[bytes | str | int | float] = []
            for digest, added in tokens.items():
                fields += [digest, references.append(known[name][digest], added)]
            for part in _parts(fields):
                commit.add("HSET", name, *part)
            commit.add("EXPIREAT", name, references.expires_at_s(number))

    def _hold(self, commit: Commit, waiting: NDArray[np.void], counts: Counter[str]) -> None:
        """Keep feedback whose decision is not known yet."""
        for record in waiting:
            commit.add("HSET", keys.held(self.number), record["event"].tobytes(), record.tobytes())
        counts["held"] = len(waiting)

    def _add(self, commit: Commit, terms: cells.Terms) -> dict[bytes, bytes]:
        """Add terms to the rows; return the new rows, which count once the commit did."""
        names = _pieces(terms.keys)
        before = b"".join(self.rows.get(name, NO_ROW) for name in names)
        after = np.frombuffer(before, dtype="<i8").reshape(-1, N_COLUMNS) + terms.values
        changed = dict(zip(names, _pieces(after.astype("<i8")), strict=True))
        for part in _parts(_paired(names, list(changed.values()))):
            commit.add("HSET", keys.rows(self.number), *part)
        for part in _parts(_paired([self.version + 1] * len(names), names)):
            commit.add("ZADD", keys.touched(self.number), *part)
        return changed

    def _write_books(self, commit: Commit, batch: Batch, counts: Counter[str]) -> None:
        now_ms = int(time.time() * 1000)
        for producer, following in batch.windows.items():
            commit.add("HSET", keys.producers(self.number), producer, f"{following}:{now_ms}")
        for reason, raw in batch.dead:
            arguments = ("MAXLEN", "~", MAX_DEAD, "*", "reason", reason, "raw", raw)
            commit.add("XADD", keys.dead(self.number), *arguments)
        counts["dead"] = len(batch.dead)
        for name, n in counts.items():
            if n:
                commit.add("HINCRBY", keys.meta(self.number), f"n_{name}", n)


def _pieces(values: NDArray[Any]) -> list[bytes]:
    """Return the bytes of each element, or of each row of a table."""
    if not len(values):
        return []
    whole = values.tobytes()
    size = len(whole) // len(values)
    return [whole[start : start + size] for start in range(0, len(whole), size)]


def _nonces(records: NDArray[np.void]) -> list[bytes]:
    return _pieces(records["token"]["nonce"])


def _references(outcomes: NDArray[np.void]) -> dict[int, dict[bytes, bytes]]:
    """Return by bucket and digest the packed tokens of the decisions that it names."""
    final = outcomes[(outcomes["flags"] & Flag.FINAL) > 0]
    buckets = (final["token"]["decided_at_ms"] // references.BUCKET_MS).tolist()
    tokens = _pieces(final["token"])
    out: dict[int, dict[bytes, bytes]] = {}
    for column in ("response", "reference"):
        for digest, bucket, token in zip(_pieces(final[column]), buckets, tokens, strict=True):
            if digest != NO_DIGEST:
                found = out.setdefault(bucket, {})
                found[digest] = references.append(found.get(digest), token)
    return out


def _paired(
    names: Sequence[bytes | int], values: Sequence[bytes]
) -> list[bytes | str | int | float]:
    out: list[bytes | str | int | float] = [b""] * (2 * len(names))
    out[::2], out[1::2] = names, values
    return out


def _parts(
    values: list[bytes | str | int | float] | list[bytes],
) -> list[list[bytes | str | int | float]]:
    """Split arguments into lists short enough for one command; pairs stay together."""
    return [list(values[i : i + 1000]) for i in range(0, len(values), 1000)]
