"""Restoring a lost store from the archive: each shard at its newest sound checkpoint.

Only into a store that has folded nothing yet. A shard is restored in one step, and versions rise
last, once all shards are there: so a router that still has the posteriors of before takes the
restored ones only when they are whole. What came after the last checkpoint is lost, unless the
stream or a journal still has it: the learner goes on from the restored mark, and a frame that is
sent again is known by its producer's numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import redis
from numpy.typing import NDArray

from telemetry import keys, references
from telemetry.events import Kind, Match
from telemetry.scripts import Commit
from telemetry.secret import RATERS_FIELD
from telemetry.store import READABLE, SCHEMA, Client, prepare
from telemetry.young import SPAN_MS
from workers.archive import budgets, spent
from workers.archive import files as archive_files
from workers.archive.archive import Archive, ingested_spans, label_days, next_id
from workers.archive.files import ArchiveFile, Content, Damaged
from workers.archive.rebuilt import Rebuilt, damaged_rows
from workers.folding.batch import (
    DAY_MS,
    Entries,
    at_ms,
    position,
    take_apart,
)
from workers.folding.hearing import pieces
from workers.folding.history import History
from workers.folding.naming import final_tokens, references_of
from workers.folding.thawed import thawed_row
from workers.folding.writing import ingested_expiry_s, label_expiry_s
from workers.folding.young import Changes, YoungRows

ABOVE = 1 << 32
"""What versions rise by: more than a lost store can have committed since its last checkpoint."""
NOT_RESTORED = (b"token", b"fence", b"version")
AT_ONCE = 1000
EARLY_MS = 2 * DAY_MS
"""A clock may have been ahead by a day and what is left of another one: what was told before that
is of decisions that are old."""


class CannotRestore(Exception):
    """Nothing was restored; the message says why."""


@dataclass(slots=True)
class Restored:
    """What was brought back."""

    shards: int = 0
    files: int = 0
    rows: int = 0
    labels: int = 0
    references: int = 0
    damaged: int = 0  # files that could not be read, blocks of the ledger among them
    left_out: int = 0  # rows that no records add up to: their cells begin anew
    newest_ms: int = 0  # time of the newest record that is part of it

    def as_json(self) -> dict[str, object]:
        """Return it as one object."""
        return asdict(self)


def restore(archive: Archive) -> Restored:
    """Rebuild an empty store from the archive; safe to repeat, and to go on with once killed.

    Raises:
        CannotRestore: no archive, another number of shards, or a store that is not empty.
    """
    directories = [archive.directory(shard) for shard in range(archive.n_shards)]
    if not any(archive_files.list_files(directory) for directory in directories):
        raise CannotRestore(f"there is no archive in {archive.root}")
    found = Restored(shards=archive.n_shards)
    parts = {}
    for shard, directory in enumerate(directories):
        chains = archive_files.chains(archive_files.list_files(directory))
        part = _newest(chains[-1], found) if chains else None
        if part is not None:
            parts[shard] = part
    _check(archive, parts)
    for shard, part in parts.items():
        parts[shard] = _sound(archive.directory(shard), part, found)
    prepare(archive.client, shards=archive.n_shards)
    answered = _answered(parts, now_ms=int(archive.client.time()[0]) * 1000)
    for shard, part in parts.items():
        _restore_shard(archive.client, shard, part, found, answered)
    _restore_common(archive.client, list(parts.values()))
    known = [part.content.budgets for part in parts.values()]
    budgets.restore_accounts(archive.client, known, now_s=int(archive.client.time()[0]))
    for shard, part in parts.items():
        _raise_version(archive.client, shard, _version(part.content) + ABOVE)
    return found


@dataclass(frozen=True, slots=True)
class _Part:
    """What the archive has of one shard."""

    files: list[ArchiveFile]  # the last one is the newest that can be read
    content: Content  # its checkpoint


def _newest(chain: list[ArchiveFile], found: Restored) -> _Part | None:
    for n in range(len(chain), 0, -1):
        try:
            content = archive_files.read(chain[n - 1])
        except (Damaged, FileNotFoundError):
            found.damaged += 1
            continue
        content.entries.clear()
        return _Part(chain[:n], content)
    return None


def _check(archive: Archive, parts: dict[int, _Part]) -> None:
    if not parts:
        raise CannotRestore("no file of the archive can be read")
    for shard, part in parts.items():
        made_with = int(part.content.store.get(b"shards", archive.n_shards))
        if made_with != archive.n_shards:
            raise CannotRestore(
                f"the archive was made with {made_with} shards and store.shards says "
                f"{archive.n_shards}; set store.shards: {made_with}"
            )
        if part.content.store.get(b"schema", SCHEMA.encode()).decode() not in (SCHEMA, *READABLE):
            raise CannotRestore("the archive was made by another version of the layout")
        mark, restored = archive.client.hmget(keys.meta(shard), ["mark", "restored"])
        if mark is not None and restored != part.files[-1].digest.encode():
            raise CannotRestore(
                f"the store is not empty (shard {shard} stands at {mark.decode()}); "
                "stop everything and restore into an empty one"
            )


def _sound(directory: Path, part: _Part, found: Restored) -> _Part:
    """Return a part without damaged rows.

    Where there are any, a base without them is written at the same mark. The shard is restored from
    that one, and audited from it.
    """
    damaged = damaged_rows(part.content.rows)
    if not damaged:
        return part
    state, content = Rebuilt(), part.content
    for file in part.files:
        with suppress(Damaged, FileNotFoundError):
            whole = archive_files.read(file)
            state.follow(whole)
            state.stand_at(whole)
    state.forget()
    content.rows = {name: row for name, row in content.rows.items() if name not in set(damaged)}
    state.put_into(content)
    base = archive_files.write(directory, content, start=None)
    if part.files[-1].is_base:  # of one mark there is one
        archive_files.delete(part.files.pop())
    found.left_out += len(damaged)
    return _Part([*part.files, base], content)


def _answered(parts: dict[int, _Part], *, now_ms: int) -> set[bytes]:
    """Return the event ids of the feedback of a day that is with its decisions, in any shard."""
    oldest_ms, out = now_ms - references.AHEAD_MS, set[bytes]()
    for file in (file for part in parts.values() for file in part.files):
        if at_ms(file.mark) <= oldest_ms:
            continue
        with suppress(Damaged, FileNotFoundError):  # counted where its shard is restored
            said = take_apart(archive_files.read(file).as_entries(), {}).of_kind(Kind.FEEDBACK)
            out.update(event.tobytes() for event in said["event"])
    return out


def _restore_shard(
    client: Client, shard: int, part: _Part, found: Restored, answered: set[bytes]
) -> None:
    found.rows += len(part.content.rows)
    found.newest_ms = max(found.newest_ms, at_ms(part.content.mark))
    if client.hget(keys.meta(shard), "restored") is not None:
        return
    state, young = Rebuilt(), _young(client, shard, part)
    young_from_ms = young.history.oldest_ms(position(part.content.mark))
    now_ms = int(client.time()[0]) * 1000
    for file in part.files:
        try:
            content = archive_files.read(file)
        except (Damaged, FileNotFoundError):
            found.damaged += 1
            continue
        state.follow(content)
        state.stand_at(content)
        entries = content.as_entries()
        found.references += _write_references(client, young, entries, young_from_ms, now_ms)
        _hold_again(client, shard, entries, answered, now_ms=now_ms)
        found.files += 1
    state.forget()
    found.labels += len(state.said)
    _clear(client, young, now_ms=now_ms)
    directory = part.files[-1].path.parent
    found.damaged += spent.restore_blocks(client, shard, directory, part.content)
    _write_labels(client, young, state)
    _write_days(client, shard, keys.raters, state.raters)
    _write_ingested(client, shard, state)
    with client.pipeline(transaction=True) as pipeline:
        pipeline.watch(keys.meta(shard))
        if pipeline.hget(keys.meta(shard), "mark") is not None:
            raise CannotRestore(f"shard {shard} is not empty any more: stop the workers first")
        pipeline.multi()
        _write_state(pipeline, shard, part)
        try:
            pipeline.execute()
        except redis.WatchError:
            raise CannotRestore(f"somebody else writes shard {shard}: stop the workers") from None
    _begin_stream_after(client, shard, part.content.mark)


def _young(client: Client, shard: int, part: _Part) -> YoungRows:
    """Return where young rows lie in the store, as far as there are any, and are to lie."""
    pipeline = client.pipeline(transaction=False)
    YoungRows.read(pipeline, shard)
    history = History.parse(part.content.meta.get(b"young"))
    return YoungRows.parse(shard, pipeline.execute(), history)


def _write_labels(client: Client, young: YoungRows, state: Rebuilt) -> None:
    """Write what was said where the learner looks for it, and what of it is for old decisions.

    What lies by span is written as far as it is young. What the rest of the stream says of old
    decisions was put back before; it is again, as of the restored mark.
    """
    shard, mark = young.shard, state.mark
    by_day, by_span = state.said.placed(young.history)
    _write_days(client, shard, keys.labels_of_day, by_day)
    oldest_ms = young.history.oldest_ms(position(mark))
    rated = {seat[0] for seat in state.raters}  # days
    rows: dict[int, tuple[list[bytes], list[bytes]]] = {}
    for (span, name), row in by_span.items():
        if (span + 1) * SPAN_MS > oldest_ms or span * SPAN_MS // DAY_MS in rated:
            names, values = rows.setdefault(span, ([], []))
            names.append(name)
            values.append(row)
    for span, those in rows.items():
        commit, changes = Commit(keys.meta(shard)), Changes(mark, young.history)
        own = {span} if span * SPAN_MS // DAY_MS in rated else set()
        young.put_labels(commit, changes, {span: those}, known={}, rated=own)
        _write_young(client, young, commit, changes)
    for names in _parts(list(state.cold)):
        client.hset(keys.cold(shard), mapping={name: state.cold[name] for name in names})
    for entry in _entries_after(client, shard, mark):
        batch = take_apart([entry], {})
        for span, nonce in batch.thawed(young.history):
            row = thawed_row(state.said.get((span, nonce), b""), at_ms(entry[0]))
            client.hset(keys.thawed(shard), nonce, row)


def _write_young(client: Client, young: YoungRows, commit: Commit, changes: Changes) -> None:
    young.write_books(commit, changes)
    commit.write(client)
    young.take_over(changes)
    young.sizes.see(
        {n.decode(): int(s) for n, s in client.hgetall(keys.sizes(young.shard)).items()}
    )


def _entries_after(client: Client, shard: int, mark: bytes) -> Iterator[tuple[bytes, Any]]:
    """Yield what a stream still holds beyond a mark."""
    while part := client.xrange(keys.stream(shard), min=next_id(mark), count=AT_ONCE):
        yield from part
        mark = part[-1][0]


def _clear(client: Client, young: YoungRows, *, now_ms: int) -> None:
    """Delete what a store that lost only its marks still has of later state.

    The stream is folded again from the restored mark on, and would pass for said already.
    References and waiting feedback may stay: to note them twice says the same.
    """
    shard = young.shard
    names = [keys.rows(shard), keys.touched(shard), keys.producers(shard)]
    names += [keys.cold(shard), keys.thawed(shard)]
    for day in label_days(now_ms):
        names += [keys.labels_of_day(shard, day), keys.raters(shard, day)]
    commit = Commit(keys.meta(shard))
    young.drop_labels(commit)
    commit.write(client)
    names += [keys.ingested(shard, span) for span in ingested_spans(now_ms)]
    client.delete(*names)
    spent.clear(client, shard)
    budgets.clear(client, shard)


def _write_state(pipeline: Client, shard: int, part: _Part) -> None:
    content, version = part.content, _version(part.content)
    meta = {name: value for name, value in content.meta.items() if name not in NOT_RESTORED}
    # The archive ends at this mark, even where it was killed before it could say so.
    meta |= {b"archived": content.mark, b"archived_bytes": content.meta.get(b"n_bytes", b"0")}
    meta |= {b"restored": part.files[-1].digest.encode(), b"version": b"%d" % version}
    pipeline.hset(keys.meta(shard), mapping=meta)
    pipeline.hincrby(keys.meta(shard), "fence", int(content.meta.get(b"fence", 0)) + 1)
    for names in _parts(list(content.rows)):
        pipeline.hset(keys.rows(shard), mapping={name: content.rows[name] for name in names})
        pipeline.zadd(keys.touched(shard), dict.fromkeys(names, version))
    for names in _parts(list(content.producers)):
        windows = {name: content.producers[name] for name in names}
        pipeline.hset(keys.producers(shard), mapping=windows)
    spent.restore_loose(pipeline, shard, content, AT_ONCE)
    budgets.restore_rows(pipeline, shard, content, AT_ONCE)


def _write_days(
    client: Client,
    shard: int,
    named: Callable[[int, int], str],
    of_days: dict[tuple[int, bytes], bytes],
) -> None:
    """Write rows of labels or raters, into the hash of their day."""
    by_day: dict[int, dict[bytes, bytes]] = {}
    for (day, field), row in of_days.items():
        by_day.setdefault(day, {})[field] = row
    for day, rows in by_day.items():
        name = named(shard, day)
        for fields in _parts(list(rows)):
            client.hset(name, mapping={field: rows[field] for field in fields})
        client.expireat(name, label_expiry_s(day))


def _write_ingested(client: Client, shard: int, state: Rebuilt) -> None:
    for span in set(state.ingested.values()):
        name = keys.ingested(shard, span)
        nonces = [nonce for nonce, own in state.ingested.items() if own == span]
        for part in _parts(nonces):
            client.sadd(name, *part)
        client.expireat(name, ingested_expiry_s(span))


def _hold_again(
    client: Client, shard: int, entries: Entries, answered: set[bytes], *, now_ms: int
) -> None:
    """Hold again what waited for its decision.

    Of what means one decision and is with it, nothing is held: by now it might mean another one.
    What means several is sent to each of them again, which has no effect.
    """
    for entry in entries:
        if now_ms - at_ms(entry[0]) >= references.AHEAD_MS:
            continue
        for record in take_apart([entry], {}).of_kind(Kind.REFERENCE_FEEDBACK):
            means_one = record["match"] not in (Match.ALL, Match.EPISODE)
            is_done = means_one and record["event"].tobytes() in answered
            if not is_done:
                client.hset(keys.held(shard), record["event"].tobytes(), record.tobytes())


def _write_references(
    client: Client, young: YoungRows, entries: Entries, young_from_ms: int, now_ms: int
) -> int:
    """Index the references that are young again; return how many.

    Those of decisions that lie by day are young for 30 days.
    """
    since_ms, total = young.history.since_ms, 0
    for entry in entries:
        heard_ms, is_by_span = at_ms(entry[0]), since_ms is not None and since_ms < at_ms(entry[0])
        if heard_ms <= now_ms - references.KEPT_DAYS * DAY_MS:
            continue
        if is_by_span and heard_ms < young_from_ms - EARLY_MS:
            continue
        outcomes = take_apart([entry], {}).of_kind(Kind.OUTCOME)
        total += _index(client, young, entry[0], outcomes, oldest_ms=young_from_ms)
    return total


def _index(
    client: Client, young: YoungRows, mark: bytes, outcomes: NDArray[np.void], *, oldest_ms: int
) -> int:
    """Note what names decisions; going on after a kill may note one twice, which says the same."""
    named = references_of(outcomes)
    is_young = (named.spans + 1) * SPAN_MS > oldest_ms
    since_ms = young.history.since_ms
    by_span = named.spans * SPAN_MS >= since_ms if since_ms is not None else is_young & False
    commit, changes = Commit(keys.meta(young.shard)), Changes(mark, young.history)
    young.put_references(commit, changes, named.of(by_span & is_young))
    if changes.spans:
        _write_young(client, young, commit, changes)
    earlier, tokens = named.of(~by_span), pieces(final_tokens(outcomes))
    each = zip(earlier.spans.tolist(), earlier.places.tolist(), earlier.digests, strict=True)
    for span, place, digest in each:
        number = references.bucket(span * SPAN_MS)
        name, field = keys.references_of_days(young.shard, number), digest.tobytes()
        client.hset(name, field, references.append(client.hget(name, field), tokens[place]))
        client.expireat(name, references.expires_at_s(number))
    return len(set(pieces(named.digests[~by_span | is_young])))


def _begin_stream_after(client: Client, shard: int, mark: bytes) -> None:
    """Let what the stream holds, and what comes, have ids above the mark.

    Where the store's clock is behind, routers may have sent to it before this. What was folded
    once is told by its frames' numbers, so to move an entry twice, or an old one, has no effect.
    """
    stream = keys.stream(shard)
    last = client.xrevrange(stream, count=1)
    if not last or position(last[0][0]) < position(mark):
        with suppress(redis.ResponseError):  # what came meanwhile is above it
            client.xadd(stream, {"f": b""}, id=mark)
            client.xdel(stream, mark)
    while early := client.xrange(stream, max=mark, count=AT_ONCE):
        with client.pipeline(transaction=True) as pipeline:
            for _, fields in early:
                pipeline.xadd(stream, fields)
            pipeline.xdel(stream, *(entry_id for entry_id, _ in early))
            pipeline.execute()


def _restore_common(client: Client, parts: list[_Part]) -> None:
    """Bring back what all shards share, as the newest of them knew it."""
    newest = max(parts, key=lambda part: position(part.content.mark)).content
    for name, values in (
        (keys.STANDINGS, newest.standings),
        (keys.DRIFT, newest.watches),
        (keys.PROMPTS, newest.prompts),
        (keys.NAMES, newest.names),
    ):
        for field, value in values.items():
            client.hsetnx(name, field, value)
    for tags in (part.content.tags for part in parts):
        for digest, told in tags.items():
            client.hsetnx(keys.TAG_NAMES, digest, told)
    # What is folded from here on must rank as what was folded; nobody has folded anything yet.
    found = (part.content.store.get(RATERS_FIELD.encode()) for part in parts)
    if key := next(filter(None, found), None):
        client.hset(keys.META, RATERS_FIELD, key)


def _raise_version(client: Client, shard: int, target: int) -> None:
    version = int(client.hget(keys.meta(shard), "version") or 0)
    if version < target:
        client.hincrby(keys.meta(shard), "version", target - version)


def _version(content: Content) -> int:
    return int(content.meta.get(b"version", 0))


def _parts(names: list[bytes]) -> list[list[bytes]]:
    return [names[i : i + AT_ONCE] for i in range(0, len(names), AT_ONCE)]
