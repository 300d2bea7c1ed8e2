"""One shard as its owner sees it: the state in memory, and what a batch of frames changes.

Everything that one batch changes is written in one commit together with the mark up to which the
stream was read. So after a crash either all of it happened or none, and the next owner goes on
from the mark.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bandit import cells
from bandit.cells import KEY, N_COLUMNS
from telemetry import frames, keys
from telemetry.errors import MalformedEvent
from telemetry.events import NO_DIGEST, RECORD, Flag, Kind, decode
from telemetry.scripts import Commit
from telemetry.store import Client
from workers import fold, labels

DAY_MS = 86_400_000
LABEL_DAYS = 30
"""Feedback for older decisions is refused and counted; their labels rows are gone."""
REFERENCE_TTL_S = LABEL_DAYS * 86_400
MAX_REFERENCES = 100
"""Decisions kept under one reference; the oldest go."""
PRODUCER_DAYS = 7
"""A producer silent this long has no frame on its way any more."""
MAX_DEAD = 10_000
START = b"0-0"


class NotOwner(Exception):
    """Another process owns the shard: what was folded has no effect."""


@dataclass(slots=True)
class Batch:
    """Frames taken apart: new records, and what could not be read."""

    records: list[NDArray[np.void]] = field(default_factory=list)
    dead: list[tuple[str, bytes]] = field(default_factory=list)
    windows: dict[bytes, int] = field(default_factory=dict)
    n_repeated: int = 0


@dataclass(slots=True)
class Shard:
    """The state of one shard, kept by the process that holds its lease."""

    client: Client
    number: int
    mark: bytes = START
    rows: dict[bytes, NDArray[np.int64]] = field(default_factory=dict)
    windows: dict[bytes, int] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)

    def load(self) -> None:
        """Read the shard's state; call it after the lease was taken, so that nobody changes it."""
        pipeline = self.client.pipeline(transaction=False)
        pipeline.hget(keys.meta(self.number), "mark")
        pipeline.hgetall(keys.rows(self.number))
        pipeline.hgetall(keys.producers(self.number))
        mark, rows, producers = pipeline.execute()
        self.mark = mark or START
        self.rows = {
            key: np.frombuffer(row, dtype="<i8").astype(np.int64)
            for key, row in rows.items()
            if len(key) == KEY.itemsize and len(row) == 8 * N_COLUMNS
        }
        self.windows = {name: int(value.split(b":")[0]) for name, value in producers.items()}

    def fold(self, entries: list[tuple[bytes, dict[bytes, bytes]]], *, token: int) -> int:
        """Fold stream entries and commit; return how many records took effect.

        Raises:
            NotOwner: mark or token in the store are not ours; nothing was written.
        """
        batch = self._take_apart(entries)
        commit = Commit(keys.meta(self.number))
        records = np.concatenate(batch.records) if batch.records else np.empty(0, dtype=RECORD)
        counts: Counter[str] = Counter(repeated=batch.n_repeated)
        terms = []
        if len(records):
            kind = records["kind"]
            outcomes = records[kind == Kind.OUTCOME]
            terms += fold.outcome_terms(outcomes)
            self._index_references(commit, outcomes)
            counts["outcomes"] = len(outcomes)
            terms += self._hear(commit, records[kind == Kind.FEEDBACK], batch, counts)
            self._hold(commit, records[kind == Kind.REFERENCE_FEEDBACK], counts)
        changed = self._add(commit, cells.merge(terms))
        self._write_books(commit, batch, counts)
        new_mark = entries[-1][0]
        version = commit.run(self.client, mark=self.mark, token=token, new_mark=new_mark)
        if version < 0:
            raise NotOwner(f"shard {self.number}")
        self.rows.update(changed)
        self.windows.update(batch.windows)
        self.mark = new_mark
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
        if commit.run(self.client, mark=self.mark, token=token, new_mark=self.mark) < 0:
            raise NotOwner(f"shard {self.number}")
        for name in gone:
            del self.rows[name]
        for name in quiet:
            self.windows.pop(name, None)

    def _take_apart(self, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> Batch:
        batch = Batch()
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
            size = len(frame.body) // max(frame.n_records, 1)
            sound, bad = decode(frame.body[skip * size :])
            batch.dead += [("a record with a wrong checksum or field", raw) for raw in bad]
            batch.records.append(sound)
        return batch

    def _hear(
        self,
        commit: Commit,
        said: NDArray[np.void],
        batch: Batch,
        counts: Counter[str],
    ) -> list[cells.Terms]:
        """Fold feedback: what changes in the rewards, and the labels rows to write."""
        oldest_day = int(time.time() * 1000) // DAY_MS - LABEL_DAYS
        by_day: dict[int, dict[bytes, list[np.void]]] = {}
        for record in said:
            day = int(record["token"]["decided_at_ms"]) // DAY_MS
            if day < oldest_day:
                batch.dead.append(("feedback for a decision of over 30 days ago", record.tobytes()))
                continue
            by_day.setdefault(day, {}).setdefault(record["token"]["nonce"].tobytes(), []).append(
                record
            )
        changes: list[fold.RewardChange] = []
        for day, decisions in by_day.items():
            name = keys.labels(self.number, day)
            stored = self.client.hmget(name, list(decisions))
            fields: list[bytes | str | int | float] = []
            for (nonce, records), row in zip(decisions.items(), stored, strict=True):
                before = labels.parse(row)
                after = before
                for record in records:
                    heard = labels.Said(
                        int(record["revision"]),
                        record["event"].tobytes(),
                        int(record["value_micro"]),
                    )
                    newer = labels.hear(after, int(record["feedback_kind"]), heard)
                    counts["feedback" if newer is not after else "feedback_outdated"] += 1
                    after = newer
                if after is before:
                    continue
                fields += [nonce, labels.pack(after)]
                old, new = labels.reward(before), labels.reward(after)
                if old != new:
                    changes.append(fold.RewardChange.of(records[0]["token"], old, new))
            for part in _parts(fields):
                commit.add("HSET", name, *part)
            commit.add("EXPIREAT", name, (day + LABEL_DAYS + 2) * DAY_MS // 1000)
        return fold.reward_terms(changes)

    def _index_references(self, commit: Commit, outcomes: NDArray[np.void]) -> None:
        """Note which decision an answer id or a caller's reference means, for 30 days."""
        final = outcomes[(outcomes["flags"] & Flag.FINAL) > 0]
        for column in ("response", "reference"):
            for record in final:
                digest = record[column].tobytes()
                if digest == NO_DIGEST:
                    continue
                name = keys.reference(self.number, digest.hex())
                commit.add("RPUSH", name, record["token"].tobytes())
                commit.add("LTRIM", name, -MAX_REFERENCES, -1)
                commit.add("EXPIRE", name, REFERENCE_TTL_S)

    def _hold(self, commit: Commit, waiting: NDArray[np.void], counts: Counter[str]) -> None:
        """Keep feedback whose decision is not known yet."""
        for record in waiting:
            commit.add("HSET", keys.held(self.number), record["event"].tobytes(), record.tobytes())
        counts["held"] = len(waiting)

    def _add(self, commit: Commit, terms: cells.Terms) -> dict[bytes, NDArray[np.int64]]:
        """Add terms to the rows; return the new rows, which count once the commit did."""
        changed: dict[bytes, NDArray[np.int64]] = {}
        zero = np.zeros(N_COLUMNS, dtype=np.int64)
        for key, value in zip(terms.keys, terms.values, strict=True):
            name = key.tobytes()
            changed[name] = self.rows.get(name, zero) + value
        version = self._next_version()
        fields: list[bytes | str | int | float] = []
        scores: list[bytes | str | int | float] = []
        for name, row in changed.items():
            fields += [name, row.astype("<i8").tobytes()]
            scores += [version, name]
        for part in _parts(fields):
            commit.add("HSET", keys.rows(self.number), *part)
        for part in _parts(scores):
            commit.add("ZADD", keys.touched(self.number), *part)
        return changed

    def _next_version(self) -> int:
        return int(self.client.hget(keys.meta(self.number), "version") or 0) + 1

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
        commit.tell(keys.CHANGED, self.number)


def _parts(
    values: list[bytes | str | int | float] | list[bytes],
) -> list[list[bytes | str | int | float]]:
    """Split arguments into lists short enough for one command; pairs stay together."""
    return [list(values[i : i + 1000]) for i in range(0, len(values), 1000)]
