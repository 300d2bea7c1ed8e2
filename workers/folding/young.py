"""What is young of one shard, as its owner keeps it: where rows lie, and when they go.

What was said of decisions and what names them lies by the hour of the decision, in many small
hashes (`telemetry/young.py`). Whoever holds the shard knows from memory how many there are, and
writes that down in the commit that changes it.
"""

from __future__ import annotations

import secrets
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetry import keys, young
from telemetry.decisions import Decisions
from telemetry.scripts import DROP, ROWS, Argument, Commit
from telemetry.store import Client
from telemetry.young import (
    DIGEST_BYTES,
    LABELS,
    NAME_BYTES,
    REFERENCES,
    SPAN_MS,
    Generations,
    YoungSpan,
)
from workers.folding.batch import DAY_MS, Decision, position
from workers.folding.hearing import pieces
from workers.folding.history import History, lies_by_span, may_lie_by_day
from workers.folding.naming import Named
from workers.folding.question import Question
from workers.folding.sizes import FieldCounts
from workers.folding.written import WrittenNames

MOST_NAMED = 5
"""Rows of one sort that a record brings at most: what names an outcome's decision."""
LOOKED_BACK = 2
"""Spans whose size tells how a new one begins: the one before it may be young and half empty."""
MOST_LOOKED_BACK = 24
SORTS = (LABELS, REFERENCES)
MAX_DROPPED = 8
"""Spans in a round of pruning, so that nobody waits for a commit of thousands of hashes."""


@dataclass(slots=True)
class Changes:
    """What one commit changes of it; it counts once that took effect."""

    mark: bytes
    history: History
    spans: dict[int, YoungSpan] = field(default_factory=dict)
    kinds: dict[bytes, int] = field(default_factory=dict)


@dataclass(slots=True)
class YoungRows:
    """Where the young rows of a shard lie."""

    shard: int
    spans: dict[int, YoungSpan] = field(default_factory=dict)
    sizes: FieldCounts = field(default_factory=FieldCounts)
    kinds: dict[bytes, int] = field(default_factory=dict)
    kinds_id: bytes = b""
    history: History = field(default_factory=History)
    is_unreadable: bool = False  # what names decisions, as the table of their kinds is gone
    _ending: dict[tuple[str, int, int], bytearray] = field(default_factory=dict)
    _written: WrittenNames = field(default_factory=WrittenNames)

    @classmethod
    def parse(cls, shard: int, replies: Sequence[Any], history: History) -> YoungRows:
        """Return what the store replied to `read` says."""
        spans, sizes, kinds = replies
        known = {int(span): YoungSpan.parse(value) for span, value in spans.items()}
        return cls(
            shard,
            known,
            FieldCounts({name.decode(): int(n) for name, n in sizes.items()}),
            {kind: int(number) for number, kind in kinds.items() if number != b"id"},
            kinds.get(b"id", b""),
            history,
            not kinds and any(span.references for span in known.values()),
        )

    @staticmethod
    def read(pipeline: Client, shard: int) -> None:
        """Ask for what `parse` needs."""
        for name in (keys.parts(shard), keys.sizes(shard), keys.kinds(shard)):
            pipeline.hgetall(name)

    def questions(
        self, decisions: Sequence[Decision], thawed: set[Decision], history: History
    ) -> list[Question]:
        """Return the commands that read what was said; what an earlier one finds counts."""
        out, lying = [], decisions
        if thawed and (put_back := [decision for decision in decisions if decision in thawed]):
            lying = [decision for decision in decisions if decision not in thawed]
            nonces = [nonce for _, nonce in put_back]
            command: tuple[Argument, ...] = ("HMGET", keys.thawed(self.shard), *nonces)
            out.append(Question(command, put_back, is_thawed=True))
        by_span: dict[int, list[Decision]] = {span: [] for span, _ in lying}
        for decision in lying:
            by_span[decision[0]].append(decision)
        by_day: dict[int, list[Decision]] = {}
        for span, those in by_span.items():
            if lies_by_span(span, history):
                out += self._by_span(span, those)
            if may_lie_by_day(span, history):
                by_day.setdefault(span * SPAN_MS // DAY_MS, []).extend(those)
        for day, those in by_day.items():
            name = keys.labels_of_day(self.shard, day)
            for start in range(0, len(those), 1000):
                part = those[start : start + 1000]
                nonces = [nonce for _, nonce in part]
                out.append(Question(("HMGET", name, *nonces), part, is_wide=True))
        return out

    def _by_span(self, span: int, decisions: list[Decision]) -> list[Question]:
        """Return how to read what was said of a span's decisions, where anything may have been."""
        if not (generations := self.spans.get(span, YoungSpan()).labels):
            return []
        names = young.columns_of([nonce for _, nonce in decisions], NAME_BYTES)
        may_be = self._written.may_hold(LABELS, span, names)
        if not may_be.any():
            return []
        own, names = list(compress(decisions, may_be)), names[may_be]
        return [self._question(span, parts, own, names) for parts in reversed(generations)]

    def _question(
        self, span: int, parts: int, decisions: list[Decision], names: NDArray[np.uint8]
    ) -> Question:
        """Return how to read what was said of a span's decisions in one generation."""
        order, groups = young.grouped(names, parts)
        packed = names[order].tobytes()
        asked: list[Argument] = [keys.labels(self.shard, span, f"{parts}."), NAME_BYTES]
        for part, begin, end in groups:
            asked += (part, packed[begin * NAME_BYTES : end * NAME_BYTES])
        command = ("EVAL", young.LUA_READ, 1, keys.parts(self.shard), *asked)
        return Question(command, [decisions[i] for i in order.tolist()], parts=parts)

    def size_question(
        self, spans: Iterable[int], n_records: int
    ) -> tuple[list[str], list[tuple[Argument, ...]]]:
        """Return which sizes must be known to write so many records, and how to ask for them.

        Of spans that are written in, where with all rows since a new generation may have to begin,
        and of those before one that begins. Nobody else writes here: so no size is larger.
        """
        wanted = set[int]()
        for span in spans:
            if span not in self.spans:
                wanted.update(n for sort in SORTS for n in self._before(sort, span))
            elif any(self._may_grow(sort, span, n_records * MOST_NAMED) for sort in SORTS):
                wanted.add(span)
        names = [
            young.size_field(sort, span, parts)
            for span in sorted(wanted & self.spans.keys())
            for sort in SORTS
            for parts in self.spans[span].of(sort)
        ]
        return names, [("HMGET", keys.sizes(self.shard), *names)] if names else []

    def put_labels(
        self,
        commit: Commit,
        changes: Changes,
        rows: Mapping[int, tuple[list[bytes], list[bytes]]],
        *,
        known: Mapping[Decision, int],
        rated: Container[int],
    ) -> None:
        """Write rows of decisions, by span: nonces and rows.

        Args:
            known: of decisions that had one, in which generation it lies, by its parts.
            rated: spans in which a rater who is told apart said something.
        """
        for span, (nonces, values) in rows.items():
            lie_in = [known.get((span, nonce), 0) for nonce in nonces] if known else repeat(0)
            alike = list(zip(lie_in, map(len, values), strict=False))  # in one command
            sorts = sorted(set(alike))
            for parts, size in sorts:
                own, its_rows = nonces, values
                if len(sorts) > 1:
                    mine = [one == (parts, size) for one in alike]
                    own, its_rows = list(compress(nonces, mine)), list(compress(values, mine))
                names = young.columns_of(own, NAME_BYTES)
                whole = young.columns_of(its_rows, size)
                self._put(commit, changes, LABELS, span, names, whole, parts=parts)
            if span in rated and not changes.spans[span].is_rated:
                changes.spans[span] = replace(changes.spans[span], is_rated=True)

    def may_be_read(self, span: int, changes: Changes) -> bool:
        """Return whether somebody may read what was said of old decisions of a span where it lay.

        A base does, where it lies still; and who is young and of the same day and rater.
        """
        oldest_ms = changes.history.oldest_ms(position(changes.mark))
        return span in self.spans or ends_ms(span, YoungSpan(is_rated=True)) > oldest_ms

    def put_references(self, commit: Commit, changes: Changes, named: Named) -> None:
        """Note which decisions an answer id or a caller's reference means."""
        if not len(named.places):
            return
        decisions = self._with_own_kinds(commit, changes, named.decisions)
        digests = named.digests.view(np.uint8).reshape(len(named.digests), -1)[:, -DIGEST_BYTES:]
        for has_user, packed in decisions.columns():
            of_these = (decisions.users[named.places] > 0) == has_user
            for span in sorted(set(named.spans[of_these].tolist())):
                mine = np.flatnonzero(of_these & (named.spans == span))
                is_new = self._written.are_new(REFERENCES, span, digests[mine])
                for how, own in ((young.PUT_OVER, mine[is_new]), (young.PUT_BEHIND, mine[~is_new])):
                    if len(own):
                        self._put(
                            commit,
                            changes,
                            REFERENCES,
                            span,
                            digests[own],
                            packed[named.places[own]],
                            how=how,
                        )

    def write_books(self, commit: Commit, changes: Changes) -> None:
        """Write down which hashes there are, once all rows are in the commit."""
        if changes.spans:
            fields: list[Argument] = []
            for number, span in changes.spans.items():
                fields += (number, span.pack())
            commit.add_all("HSET", keys.parts(self.shard), fields)
        if changes.history != self.history:
            commit.add("HSET", keys.meta(self.shard), "young", changes.history.pack())

    def take_over(self, changes: Changes) -> None:
        """Note that a commit took effect."""
        self.spans.update(changes.spans)
        self.is_unreadable = False
        self.kinds.update(changes.kinds)
        self.history = changes.history

    def prune(self, commit: Commit, *, mark: bytes, archived: bytes) -> list[int]:
        """Take away hashes of spans that are old and archived; return which spans go with it."""
        oldest_ms = self.history.oldest_ms(position(mark))
        gone = [
            number
            for number, span in sorted(self.spans.items())
            if ends_ms(number, span) <= oldest_ms and position(span.mark) <= position(archived)
        ][:MAX_DROPPED]
        for number in gone:
            sizes: list[Argument] = []
            for sort, base in (
                (LABELS, keys.labels(self.shard, number, "")),
                (REFERENCES, keys.references(self.shard, number, "")),
            ):
                if generations := self.spans[number].of(sort):
                    commit.add(DROP, keys.parts(self.shard), base, *generations)
                    sizes += [young.size_field(sort, number, n) for n in generations]
            commit.add("HDEL", keys.parts(self.shard), number)
            if sizes:
                commit.add("HDEL", keys.sizes(self.shard), *sizes)
        return gone

    def drop_unreadable(self, commit: Commit, changes: Changes) -> None:
        """Take away what names decisions, where a server dropped the table of their kinds.

        Under new numbers it would name others. What is archived is found there.
        """
        if not self.is_unreadable:
            return
        for number, span in self.spans.items():
            if span.references:
                base = keys.references(self.shard, number, "")
                commit.add(DROP, keys.parts(self.shard), base, *span.references)
                names = [young.size_field(REFERENCES, number, n) for n in span.references]
                commit.add("HDEL", keys.sizes(self.shard), *names)
                changes.spans[number] = replace(span, references=())
        self._ending = {key: own for key, own in self._ending.items() if key[0] != REFERENCES}

    def drop_labels(self, commit: Commit) -> None:
        """Take away all that was said of decisions, and say that nothing was."""
        for number, span in self.spans.items():
            if span.labels:
                base = keys.labels(self.shard, number, "")
                commit.add(DROP, keys.parts(self.shard), base, *span.labels)
                names = [young.size_field(LABELS, number, n) for n in span.labels]
                commit.add("HDEL", keys.sizes(self.shard), *names)
                self.spans[number] = replace(span, labels=())
                commit.add("HSET", keys.parts(self.shard), number, self.spans[number].pack())
        self._ending.clear()

    def forget(self, spans: list[int]) -> None:
        """Note that spans are gone."""
        for number in spans:
            del self.spans[number]
        gone = set(spans)
        self._written.forget(gone)
        self._ending = {key: own for key, own in self._ending.items() if key[1] not in gone}
        self.sizes.forget(gone)

    def _put(
        self,
        commit: Commit,
        changes: Changes,
        sort: str,
        number: int,
        names: NDArray[np.uint8],
        values: NDArray[np.uint8],
        *,
        parts: int = 0,
        how: str = young.PUT_OVER,
    ) -> None:
        """Write rows into one span's hashes.

        Args:
            names, values: (n, n_bytes) each.
            parts: of the generation that they are in, 0: they are new, and go into the last one.
        """
        span = changes.spans.get(number) or self.spans.get(number, YoungSpan())
        generations = self._generations(sort, number, span, 0 if parts else len(values))
        changes.spans[number] = replace(span.grown(sort, generations), mark=changes.mark)
        parts = parts or generations[-1]
        name = young.size_field(sort, number, parts)
        self.sizes.put(name, len(values))
        if not span.of(sort):
            self._written.begin(sort, number)
        self._written.add(sort, number, names)
        order, groups = young.grouped(names, parts)
        rows = np.concatenate([names, values], axis=1)[order]
        ends = self._ending.setdefault((sort, number, parts), bytearray(parts))
        named = keys.labels if sort == LABELS else keys.references
        arguments: list[Argument] = [named(self.shard, number, f"{parts}."), how]
        arguments += (name, young.expires_at_s(number))
        arguments += (names.shape[1], rows.shape[1], young.heads(groups, ends), rows.tobytes())
        commit.add(ROWS, keys.sizes(self.shard), *arguments)

    def _generations(self, sort: str, number: int, span: YoungSpan, n_new: int) -> Generations:
        """Return a span's generations, the last of which takes the `n_new` rows that come now."""
        if own := span.of(sort):
            return young.grown(own, self._most_fields(sort, number, own[-1]) + n_new)
        sizes = [self._n_fields(sort, n) for n in self._before(sort, number)]
        return young.first_generation(max([n_new, *sizes]))

    def _may_grow(self, sort: str, number: int, n_new: int) -> bool:
        """Return whether so many more rows may be too many for a span's generations."""
        if not (own := self.spans[number].of(sort)):
            return False
        return young.grown(own, self._most_fields(sort, number, own[-1]) + n_new) != own

    def _most_fields(self, sort: str, number: int, parts: int) -> int:
        """Return how many fields a generation has at most."""
        return self.sizes.most(young.size_field(sort, number, parts))

    def _before(self, sort: str, number: int) -> list[int]:
        """Return the last spans before one that have hashes of a sort."""
        found = range(number - 1, number - 1 - MOST_LOOKED_BACK, -1)
        return [n for n in found if n in self.spans and self.spans[n].of(sort)][:LOOKED_BACK]

    def _n_fields(self, sort: str, number: int) -> int:
        """Return how many fields a span has, as far as was seen."""
        generations = self.spans[number].of(sort)
        return sum(self._most_fields(sort, number, n) for n in generations)

    def _next_kind(self, changes: Changes) -> int:
        """Return a number that no kind has."""
        return 1 + max(*self.kinds.values(), *changes.kinds.values(), -1, -1)

    def _with_own_kinds(self, commit: Commit, changes: Changes, decisions: Decisions) -> Decisions:
        """Return decisions whose kinds are numbered as in this shard's own table."""
        numbers = np.zeros(len(decisions.kinds), dtype=np.uint32)
        fields: list[Argument] = []
        packed = pieces(decisions.kinds)
        for place in dict.fromkeys(decisions.rows["kind"].tolist()):
            kind = packed[place]
            number = self.kinds.get(kind, changes.kinds.get(kind))
            if number is None:
                number = changes.kinds[kind] = self._next_kind(changes)
                fields += [number, kind]
            numbers[place] = number
        if fields:
            if not self.kinds_id:
                self.kinds_id = secrets.token_hex(8).encode()
                fields += ["id", self.kinds_id]
            commit.add_all("HSET", keys.kinds(self.shard), fields)
        rows = decisions.rows.copy()
        rows["kind"] = numbers[decisions.rows["kind"]]
        return Decisions(rows, decisions.kinds, decisions.users)


def ends_ms(number: int, span: YoungSpan) -> int:
    """Return when a span counts as ended: where raters are told apart, only with its day.

    Who is labelled may displace a decision of that day, and then it must be known what was said
    of that one.
    """
    each_ms = DAY_MS if span.is_rated else SPAN_MS
    return (number * SPAN_MS // each_ms + 1) * each_ms
