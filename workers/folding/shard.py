"""One shard as its owner sees it: the state in memory, and what a batch of frames changes.

Everything that one batch changes is written in one commit together with the mark up to which the
stream was read. So after a crash either all of it happened or none, and the next owner goes on
from the mark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from bandit import cells
from bandit.cells import KEY
from bandit.families import N_COLUMNS
from telemetry import keys
from telemetry.events import Kind
from telemetry.filling import FILL, SCORE, filled, scored
from telemetry.rater_rows import rows_of
from telemetry.scripts import CHILL, Argument, Commit
from telemetry.secret import raters_key
from telemetry.store import Client
from telemetry.young import SPAN_MS
from workers.folding.asking import Folding, fields_of
from workers.folding.batch import (
    START,
    Batch,
    Entries,
    Window,
    at_ms,
    position,
    take_apart,
)
from workers.folding.budget_rows import prune_budgets, want_budgets, write_budgets
from workers.folding.effects import Effects, Known
from workers.folding.forgetting import forget, forgotten_in
from workers.folding.hearing import pieces
from workers.folding.history import BEGIN, EVERYTHING_HOURS, History
from workers.folding.keeping import kept
from workers.folding.ledger import LedgerBook
from workers.folding.naming import Named
from workers.folding.packing import packings
from workers.folding.raters import sitting_beside
from workers.folding.spending import MOST_NAMES, BookedRows, Spent, spent_in
from workers.folding.thawed import thawed_at_ms
from workers.folding.together import fold_together
from workers.folding.trimming import MOST_UNARCHIVED_BYTES, stale_rows, trim
from workers.folding.writing import (
    drop_days,
    hold,
    keep_cold,
    sets_of_told,
    write_books,
    write_days,
    write_ingested,
    write_labels,
)
from workers.folding.young import Changes, YoungRows

NO_ROW = bytes(8 * N_COLUMNS)
"""What is added to where nothing is known yet."""
MAX_CHILLED = 5000
"""In a round, each five seconds: a script that deletes so many takes the server 25 ms."""
THAWED_MS = 3_600_000
"""As long as what was put back of an old decision stays at least."""

log = structlog.get_logger()


class NotOwner(Exception):
    """Another process owns the shard: what was folded has no effect."""


@dataclass(slots=True)
class Shard:
    """The state of one shard, kept by the process that holds its lease."""

    client: Client
    number: int
    mark: bytes = START
    version: int = 0  # only the owner's commits raise it
    rows: dict[bytes, bytes] = field(default_factory=dict)  # as they lie in the store
    windows: dict[bytes, Window] = field(default_factory=dict)
    young_hours: int = EVERYTHING_HOURS  # how long decisions are young
    young: YoungRows = field(init=False)
    expected: dict[bytes, int] = field(default_factory=dict)  # numbers of the store before this one
    counters: Counter[str] = field(default_factory=Counter)
    thawed_cursor: int = 0  # how far it was looked through what was put back
    ahead: bool = False  # trimming went past the archive
    raters_key: bytes = b""  # of the store, once it was needed
    most_names: int = MOST_NAMES  # of an app and a day that have rows of their own here
    ledger: LedgerBook = field(init=False)

    def __post_init__(self) -> None:
        self.young = YoungRows(self.number)
        self.ledger = LedgerBook(self.number, self.most_names)

    def load(self, *, expected: dict[bytes, int] | None = None) -> None:
        """Read the shard's state; call it after the lease was taken, so that nobody changes it.

        Args:
            expected: what this process knew of the producers, should the store have forgotten it.
        """
        self.expected = expected or {}
        pipeline = self.client.pipeline(transaction=False)
        pipeline.hmget(keys.meta(self.number), "mark", "version", "young")
        pipeline.hgetall(keys.rows(self.number))
        pipeline.hgetall(keys.producers(self.number))
        LedgerBook.read(pipeline, self.number)
        YoungRows.read(pipeline, self.number)
        (mark, version, history), rows, producers, *lying = pipeline.execute()
        spent, lying = lying[:4], lying[4:]
        self.ledger = LedgerBook.parse(self.number, spent, most_names=self.most_names)
        self.mark, self.version = mark or START, int(version or 0)
        self.young = YoungRows.parse(self.number, lying, History.parse(history))
        if self.young.is_unreadable:
            log.error("the kinds of young decisions are gone: references are", shard=self.number)
        self.rows = {
            key: row
            for key, row in rows.items()
            if len(key) == KEY.itemsize and len(row) == len(NO_ROW)
        }
        self.windows = {name: Window.parse(value) for name, value in producers.items()}

    def fold(self, entries: Entries, *, token: int) -> int:
        """Fold stream entries and commit; return how many records took effect.

        Raises:
            NotOwner: mark or token in the store are not ours; nothing was written.
        """
        (found,) = fold_together(self.client, [(self, entries, token)])
        if found is None:
            raise NotOwner(f"shard {self.number}")
        return found

    def begin(self, entries: Entries) -> Folding:
        """Take entries apart; return what must be asked of the store before they can be folded."""
        batch = take_apart(entries, self.windows, expected=self.expected)
        return self.begin_with(batch, entries, spent_in(batch))

    def begin_with(self, batch: Batch, entries: Entries, spent: Spent) -> Folding:
        """Return what must be asked before a batch can be folded, and what it adds to the ledger.

        Args:
            entries: that were taken apart.
        """
        history = self._history_from(entries[0][0])
        decisions, seats = batch.decisions(history), batch.seats(history)
        thawed = batch.thawed(history)
        wanted: dict[str, list[bytes]] = {}
        for day, seat in seats:
            wanted.setdefault(keys.raters(self.number, day), []).append(seat)
        outcomes = batch.of_kind(Kind.OUTCOME)["token"]["decided_at_ms"]
        spans = {span for span, _ in decisions} | set((outcomes // SPAN_MS).tolist())
        sizes, asks = self.young.size_question(sorted(spans), len(batch.records))
        booking = self.ledger.begin(spent, wanted)
        want_budgets(self.number, batch, wanted)
        return Folding(
            batch,
            Changes(entries[-1][0], history),
            decisions=decisions,
            seats=seats,
            nonces=batch.told(),
            told_in=sets_of_told(self.number, batch),
            sizes=sizes,
            asks=asks,
            fields=fields_of(wanted),
            said=self.young.questions(decisions, thawed, history),
            thawed=thawed,
            booking=booking,
        )

    def _history_from(self, entry: bytes) -> History:
        """Return for how long decisions are young, from this entry on.

        A store in which nothing was folded yet has been so from its beginning.
        """
        history, first = self.young.history, self.mark == START
        begin = BEGIN if first and not history.items else position(entry)
        return history.going_on(begin, self.young_hours)

    def ask_beside(self, folding: Folding, replies: list[Any]) -> list[tuple[Argument, ...]]:
        """Return the commands that ask what was said of those whom a batch's raters may displace.

        Args:
            replies: to `folding.questions()`; the new ones go behind them.
        """
        if not folding.seats:
            return []
        if not self.raters_key:
            self.raters_key = raters_key(self.client)
        known, history = folding.known(replies), folding.changes.history
        for day, seat in folding.seats:
            folding.seated[day, seat] = known[keys.raters(self.number, day)][seat]
        beside = list(sitting_beside(folding.seated, set(folding.decisions)))
        # One of them may have been put back, as who displaces it was.
        asked = self.young.questions(beside, set(beside) if folding.thawed else set(), history)
        asked += self.young.questions(beside, set(), history) if folding.thawed else []
        folding.said += asked
        return [question.command for question in asked]

    def learn(self, folding: Folding, replies: list[Any]) -> Known:
        """Return what is known of a batch, given what the store replied.

        What was asked needs no transaction with the commit: only the holder of the shard writes
        there, and a commit of another one is refused.
        """
        self.young.sizes.see(folding.found_sizes(replies))
        folding.known_rows = folding.known(replies)
        if folding.nonces:
            folding.batch.drop_told(folding.told_before(replies))
        stored, history = folding.stored(replies), folding.changes.history
        return Known(stored, history, folding.seated, self.raters_key)

    def commit_of(
        self,
        folding: Folding,
        found: Effects,
        after: cells.Terms,
        booked: BookedRows,
        named: Named,
    ) -> Commit:
        """Return the commit of everything that a batch changes.

        Args:
            after: rows as they are with `found.terms` added.
            booked: rows of the ledger.
            named: the batch's decisions, and what names them.
        """
        batch, changes = folding.batch, folding.changes
        folding.effects, folding.booking.booked = found, booked
        commit = Commit(keys.meta(self.number))
        folding.rows = self._put_rows(commit, after)
        self.young.drop_unreadable(commit, changes)
        write_labels(commit, self.young, folding, found.labels)
        if users := forgotten_in(batch):
            rows = rows_of(self.client, self.number, users, now_ms=at_ms(changes.mark))
            drop_days(commit, self.number, keys.raters, forget(found, rows, users))
        write_days(commit, self.number, keys.raters, found.raters)
        self.young.put_references(commit, changes, named)
        self.young.write_books(commit, changes)
        write_ingested(commit, self.number, batch.ingested)
        hold(commit, self.number, found.waiting, now_ms=at_ms(changes.mark))
        keep_cold(commit, self.number, batch, found.cold)
        write_books(commit, self.number, batch, found)
        self.ledger.put(commit, folding.booking, batch, before=self.mark, mark=changes.mark)
        write_budgets(commit, self.number, batch, folding.known_rows)
        return commit

    def end(self, folding: Folding, version: int) -> int:
        """Take over what was committed; return how many records took effect."""
        batch = folding.batch
        self.rows.update(folding.rows)
        self.windows.update(batch.windows)
        self.young.take_over(folding.changes)
        self.ledger.take_over(folding.booking, before=self.mark, mark=folding.changes.mark)
        self.mark, self.version = folding.changes.mark, version
        if folding.effects is not None:
            self.counters.update(folding.effects.counts)
        if batch.n_missing:
            log.error("records never arrived", shard=self.number, records=batch.n_missing)
        return batch.n_new

    @property
    def following(self) -> dict[bytes, int]:
        """Of every producer that was heard of, the number of its next record."""
        return self.expected | {name: window.following for name, window in self.windows.items()}

    def prune(
        self,
        *,
        token: int,
        most_bytes: int = MOST_UNARCHIVED_BYTES,
        clock_ms: int = 0,
        keep: Callable[[], object] | None = None,
    ) -> None:
        """Drop what nobody reads any more: archived entries, stale rows, producers long silent.

        The mark's own time is "now": so what was dropped can be told from the stream alone. To
        pack days drops nothing, and goes by the clock.

        Args:
            most_bytes: of folded entries that may wait for the archive; beyond it they go.
            clock_ms: the store's time.
            keep: renews the leases of this process, while it packs.
        """
        archived = self._trim(most_bytes)
        changes = packings(self.client, self.ledger, self.mark, now_ms=clock_ms)
        for change in kept(changes, keep):
            self.amend(change.commit, token=token)
            change.take_over(self.ledger)
        now_ms = at_ms(self.mark)
        gone = stale_rows(self.rows, now_ms=now_ms)
        silent = [name for name, window in self.windows.items() if window.is_forgotten(now_ms)]
        commit = Commit(keys.meta(self.number))
        spans = self.young.prune(commit, mark=self.mark, archived=archived)
        thawed = self._thawed_before(now_ms, archived)
        budgets = prune_budgets(self.client, commit, self.number, now_ms=now_ms)
        if not any((gone, silent, spans, thawed, budgets)):
            return
        commit.add_all("HDEL", keys.rows(self.number), gone)
        commit.add_all("ZREM", keys.touched(self.number), gone)
        commit.add_all("HDEL", keys.producers(self.number), silent)
        commit.add_all(CHILL, keys.thawed(self.number), thawed)
        self.amend(commit, token=token)
        self.young.forget(spans)
        for name in gone:
            del self.rows[name]
        for name in silent:
            del self.windows[name]

    def _thawed_before(self, now_ms: int, archived: bytes) -> list[bytes]:
        """Return fields and values of old decisions that were put back long ago: some at a time.

        Whoever put one back again meanwhile changed its value, and it stays.
        """
        name = keys.thawed(self.number)
        self.thawed_cursor, found = self.client.hscan(name, self.thawed_cursor, count=MAX_CHILLED)
        until_ms = min(now_ms - THAWED_MS, at_ms(archived))
        old = {n: v for n, v in found.items() if thawed_at_ms(v) < until_ms}
        return [part for pair in islice(old.items(), MAX_CHILLED) for part in pair]

    def amend(self, commit: Commit, *, token: int) -> None:
        """Run a commit of something else than stream entries: the mark stays.

        Raises:
            NotOwner: mark or token in the store are not ours; nothing was written.
        """
        version = commit.run(self.client, mark=self.mark, token=token, new_mark=self.mark)
        if version < 0:
            raise NotOwner(f"shard {self.number}")
        self.version = version

    def _trim(self, most_bytes: int) -> bytes:
        """Trim the stream behind what is both folded and archived; return the archived mark.

        An archive that cannot be written must not fill the store: beyond `most_bytes` trimming
        goes on without it, and the archive begins anew from there.
        """
        fields = ["archived", "n_bytes", "archived_bytes"]
        archived, folded, kept = self.client.hmget(keys.meta(self.number), fields)
        ahead = int(folded or 0) - int(kept or 0) > most_bytes
        floor = self.mark if ahead else min(self.mark, archived or START, key=position)
        if ahead and not self.ahead:
            log.error("the archive is too far behind: trimming without it", shard=self.number)
        self.ahead = ahead
        n_trimmed = trim(self.client, self.number, floor)
        if ahead and n_trimmed:
            self.client.hincrby(keys.meta(self.number), "n_trimmed_unarchived", n_trimmed)
        return archived or START

    def _put_rows(self, commit: Commit, after: cells.Terms) -> dict[bytes, bytes]:
        """Write rows as they are now; return them: they count once the commit did."""
        if not len(after.keys):
            return {}
        names, values = after.keys.tobytes(), after.values.astype("<i8")
        rows = filled(KEY.itemsize, names, [len(NO_ROW)] * len(values), values.tobytes())
        commit.add(FILL, keys.rows(self.number), *rows)
        commit.add(SCORE, keys.touched(self.number), *scored(self.version + 1, KEY.itemsize, names))
        return dict(zip(pieces(after.keys), pieces(values), strict=True))

    def stored(self, names: NDArray[np.void]) -> NDArray[np.int64]:
        """Return the rows of these keys, 0 where there is none."""
        rows = b"".join(self.rows.get(name, NO_ROW) for name in pieces(names))
        return np.frombuffer(rows, dtype="<i8").reshape(-1, N_COLUMNS)
