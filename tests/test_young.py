"""What is young lies packed in the store; what is old goes, and is never folded as if it were not.

The property that all of this serves: whatever the order, and however records are grouped into
batches, spans and generations, the rows are those that the records say.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipeline import named_in_store, said_in_store
from test_workers_archive import AT_ONCE, Life, feedback, outcome, token

from router.commands.up import worker_command
from telemetry import decoding, digests, events, keys, references, young
from telemetry.errors import MalformedEvent
from telemetry.events import NO_DIGEST, FeedbackKind, Flag, Match
from telemetry.layouts import TOKEN
from telemetry.store import SCHEMA, prepare
from telemetry.tokens import nonce_of
from telemetry.young import (
    FIELDS,
    FULL,
    HOUR_MS,
    LABELS,
    LEAST_PARTS,
    MOST_PARTS,
    SPAN_MS,
    YoungSpan,
)
from workers.archive import files as archive_files
from workers.archive.archive import Archive
from workers.archive.lookup import look_up
from workers.archive.rebuilt import Rebuilt, difference
from workers.archive.restore import restore
from workers.folding.batch import START, Batch, Entries, position
from workers.folding.effects import NO_HISTORY
from workers.folding.held import References, sought_in_archive, take_up
from workers.folding.history import BEGIN, EVERYTHING_HOURS, MOST_CHANGES, History
from workers.folding.labels import EVENT_BYTES, narrowed, parse, widened
from workers.folding.shard import THAWED_MS, Shard
from workers.folding.thawed import thawed_row
from workers.folding.young import MAX_DROPPED

DAY_MS = 86_400_000
HERE = Path(__file__).parent / "data"
OLD = json.loads((HERE / "store_of_schema_4.json").read_text())
RATED = int(Flag.ROUTED | Flag.RATED)


class YoungLife(Life):
    """A shard of which decisions are young for some hours, and a clock that is moved by hand."""

    def __init__(self, client: Any, root: Path, *, hours: int) -> None:
        super().__init__(client, root)
        self.now_ms = int(client.time()[0]) * 1000 - 5 * DAY_MS
        self.begin(hours)

    def begin(self, hours: int) -> None:
        """Have another process take over the shard."""
        self.shard = Shard(self.client, 0, young_hours=hours)
        self.shard.load()

    def tell(self, *records: bytes, after_ms: int = 1000) -> None:
        """Send records some time later, and fold them."""
        self.now_ms += after_ms
        self.send(*records, entry_id=f"{self.now_ms}-1")
        self.fold()

    def take(self) -> list[Any]:
        return self.archive.take(now_ms=self.now_ms, limits=AT_ONCE)

    def count(self, name: str) -> int:
        return int(self.client.hget(keys.meta(0), f"n_{name}") or 0)

    def put_back(self, nonce: int, row: bytes) -> None:
        """What a job does that has looked up what was said of an old decision."""
        name = nonce.to_bytes(16, "big")
        self.client.hset(keys.thawed(0), name, thawed_row(row, self.now_ms))


@pytest.fixture
def life(client: Any, state_dir: Path) -> YoungLife:
    return YoungLife(client, state_dir / "archive", hours=24)


def told(nonce: int, value: float | None, at_ms: int, *, heard_ms: int, **more: Any) -> bytes:
    event = heard_ms.to_bytes(6, "big") + (nonce % 2**32).to_bytes(4, "big") + bytes(6)
    given = {"kind": FeedbackKind.HUMAN, "revision": 0, **more}
    return events.feedback(token(nonce, at_ms=at_ms), value=value, event=event, **given)


def referee(life: Life) -> Rebuilt:
    """All that was ever sent, folded as if all of it were young."""
    entries = [e for file in life.files() for e in archive_files.read(file).as_entries()]
    found = life.archive.entries(0, entries[-1][0] if entries else START, life.shard.mark)
    return folded(entries + [(entry, {b"f": frame}) for entry, frame in found.items()])


def folded(entries: Entries) -> Rebuilt:
    out = Rebuilt()
    out.fold(entries)
    return out


def check(archive: Archive, whole: Rebuilt) -> None:
    """The rows in the store are those that all records say."""
    stored = Rebuilt()
    stored.stand_at(archive.state(0))
    whole.mark = stored.mark
    whole.forget()
    stored.forget()
    assert difference(whole, stored) is None


# -- how many parts a span has ------------------------------------------------------------------


@given(st.integers(0, 10**7))
def test_a_span_begins_with_what_the_one_before_it_needed(n_before: int) -> None:
    (parts,) = young.first_generation(n_before)

    assert LEAST_PARTS <= parts <= MOST_PARTS
    assert parts in (LEAST_PARTS, MOST_PARTS) or n_before / parts <= FIELDS < n_before / (parts - 1)


@given(st.integers(1, 20_000), st.integers(1, 5000))
def test_a_jump_of_traffic_costs_a_few_generations(n: int, batch: int) -> None:
    generations, sizes = young.first_generation(n), [0]
    for _ in range(0, 100 * n, max(batch, n // 10)):
        after = young.grown(generations, sizes[-1])
        if after != generations:
            assert after[:-1] == generations
            assert after[-1] >= 2 * generations[-1]
            sizes.append(0)
        generations = after
        sizes[-1] += max(batch, n // 10)

    assert len(generations) <= 8
    assert sum(sizes) <= 4 * FIELDS * sum(generations) + batch + n


def test_names_are_grouped_by_their_part_and_none_is_lost() -> None:
    dice = random.Random(1)
    names = [dice.randbytes(10) for _ in range(3000)] + [bytes(10)] * 1200

    columns = young.columns_of(names, 10)

    order, groups = young.grouped(columns, 7)

    assert sorted(order) == list(range(len(names)))
    assert [begin for _, begin, _ in groups] == [0, *(end for *_, end in groups[:-1])]
    assert max(end - begin for _, begin, end in groups) <= young.MOST_GROUPED
    for part, begin, end in groups:
        own = [names[i] for i in order[begin:end]]
        assert {int.from_bytes(name[:2], "big") * 7 >> 16 for name in own} == {part}
    assert [i for i in order.tolist() if i >= 3000] == list(range(3000, 4200))


@given(st.lists(st.integers(1, 9)), st.lists(st.integers(1, 9)), st.booleans())
def test_a_span_is_read_as_it_was_written(one: list[int], two: list[int], rated: bool) -> None:
    span = YoungSpan(tuple(one), tuple(two), b"12-3", rated)

    assert YoungSpan.parse(span.pack()) == span


@pytest.mark.parametrize("value", [b"", b"1|2", b"x|1|0-0|0"])
def test_a_span_that_says_nothing_is_refused(value: bytes) -> None:
    with pytest.raises(MalformedEvent):
        YoungSpan.parse(value)


# -- a word of twenty bytes ---------------------------------------------------------------------


def test_a_row_of_an_earlier_version_says_what_it_said() -> None:
    event = bytes(range(1, 17))
    wide = b"\x04\x02" + (7).to_bytes(4, "little") + (-1).to_bytes(8, "little", signed=True) + event

    row = narrowed(wide * 2)

    assert len(row) == 40
    word = parse(row)[4]
    assert (word.source, word.revision, word.value_micro) == (2, 7, -1)
    assert word.event == event[:EVENT_BYTES]
    assert narrowed(widened(row)) == row


# -- for how long ---------------------------------------------------------------------------------

ITEMS = st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 720)), max_size=6)


@given(ITEMS, st.lists(st.integers(0, 2 * 10**6), min_size=2, max_size=8))
def test_what_is_old_once_is_old_for_ever(items: list[Any], times: list[int]) -> None:
    history = History().going_on(BEGIN, 24)
    for at, hours in sorted(items):
        history = history.going_on((at * HOUR_MS, 0), hours)

    oldest = [history.oldest_ms((at * HOUR_MS, 1)) for at in sorted(times)]

    assert oldest == sorted(oldest)
    assert History.parse(history.pack()) == history


def test_what_was_dropped_is_not_young_again_where_more_is_kept_from_then_on() -> None:
    history = History().going_on(BEGIN, 24).going_on((100 * HOUR_MS, 5), 720)

    assert history.oldest_ms((100 * HOUR_MS, 4)) == 76 * HOUR_MS
    assert history.oldest_ms((101 * HOUR_MS, 0)) == 76 * HOUR_MS
    assert history.oldest_ms((900 * HOUR_MS, 0)) == 180 * HOUR_MS


def test_of_changes_that_are_forgotten_it_is_known_since_when_and_what_was_old() -> None:
    """Memory was short for an hour long ago: what was dropped then does not come back."""
    whole = [((5, 0), 720), ((1000 * HOUR_MS, 0), 24), ((1001 * HOUR_MS, 0), 720)]
    whole += [((n * HOUR_MS, 0), 700 + 20 * (n % 2)) for n in range(1002, 1002 + MOST_CHANGES)]
    history = History()
    for entry, hours in whole:
        history = history.going_on(entry, hours)
    now = (1100 * HOUR_MS, 0)

    assert len(history.items) <= MOST_CHANGES + 1
    assert history.since_ms == History(tuple(whole)).since_ms
    assert history.oldest_ms(now) == History(tuple(whole)).oldest_ms(now) == 977 * HOUR_MS
    assert History.parse(history.pack()) == history


def test_without_a_history_nothing_is_cold() -> None:
    records, _ = decoding.decode(feedback(1, 0.5, at_ms=1_000_000))

    batch = Batch(records, np.zeros(1, dtype=np.int64))

    assert not batch.is_cold(NO_HISTORY).any()


def test_a_worker_is_told_for_how_long(tmp_path: Path) -> None:
    command = worker_command(tmp_path, shards=1, store_url=None, young_hours=72)

    assert command[-2:] == ["--young-hours", "72"]


# -- rows, whatever the order -------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_any_order_over_spans_and_generations_gives_the_rows_of_the_records(
    life: YoungLife, seed: int
) -> None:
    dice = random.Random(seed)
    hours = [0, 1, 1, 5]
    made = {n: life.now_ms + 7 * HOUR_MS - dice.choice(hours) * HOUR_MS for n in range(1, 700)}
    records = [outcome(n, at_ms=at_ms, reference=name(n % 50)) for n, at_ms in made.items()]
    for n, at_ms in made.items():
        for k in range(dice.choice([0, 1, 1, 3])):
            kind, value = dice.choice(list(FeedbackKind)), dice.choice([None, 0.5, dice.random()])
            heard_ms = at_ms + k
            records.append(told(n, value, at_ms, heard_ms=heard_ms, kind=kind))
    dice.shuffle(records)
    life.now_ms += 7 * HOUR_MS
    while records:
        n = dice.choice([1, 9, 400])
        life.tell(*records[:n])
        del records[:n]
        if dice.random() < 0.2:
            life.begin(24)

    whole = referee(life)

    check(life.archive, whole)
    said = {nonce: row for (_, nonce), row in whole.said.labels.items()}
    assert said_in_store(life.client) == said
    assert life.audit().equal
    assert len(named_in_store(life.client)) == 50
    found = references.look_up(life.client, [name(n) for n in range(50)], n_shards=1)
    for n, tokens in enumerate(found):
        nonces = sorted(int.from_bytes(nonce_of(t), "big") for t in tokens)
        assert nonces == [m for m in made if m % 50 == n]


def name(number: int) -> bytes:
    return digests.digest16("app", "ref", str(number))


def test_a_busy_hour_begins_more_hashes_and_finds_what_lies_in_the_first(life: YoungLife) -> None:
    dice = random.Random(3)
    nonces = [int.from_bytes(dice.randbytes(10), "big") for _ in range(3000)]
    at_ms = life.now_ms
    for start in range(0, 3000, 250):
        life.tell(*(told(n, 0.5, at_ms, heard_ms=at_ms) for n in nonces[start : start + 250]))
    (span,) = life.shard.young.spans.values()
    assert len(span.labels) > 1

    life.tell(*(told(n, 1.0, at_ms, heard_ms=at_ms, revision=1) for n in nonces))

    lying = said_in_store(life.client)
    assert len(lying) == 3000
    assert {parse(row)[FeedbackKind.HUMAN].value_micro for row in lying.values()} == {1_000_000}
    sizes = {n: int(s) for n, s in life.client.hgetall(keys.sizes(0)).items()}
    assert sum(sizes.values()) == 3000
    check(life.archive, referee(life))


def test_the_next_hour_begins_as_the_last_one_ended(life: YoungLife) -> None:
    dice = random.Random(4)
    for hour in range(3):
        at_ms = life.now_ms // SPAN_MS * SPAN_MS + SPAN_MS + hour
        nonces = [int.from_bytes(dice.randbytes(10), "big") for _ in range(2000)]
        life.now_ms = at_ms
        life.tell(*(told(n, 0.5, at_ms, heard_ms=at_ms) for n in nonces[:600]))
        life.tell(*(told(n, 0.5, at_ms, heard_ms=at_ms) for n in nonces[600:]))

    first, second, third = (life.shard.young.spans[n] for n in sorted(life.shard.young.spans))

    assert len(first.labels) == 2
    assert (len(second.labels), len(third.labels)) == (1, 1)
    assert 2000 / third.labels[0] <= FULL


def test_of_a_reference_that_is_used_again_and_again_one_more_than_a_hundred_are_kept(
    life: YoungLife,
) -> None:
    at_ms = life.now_ms
    for start in range(1, 251, 25):
        many = (outcome(n, at_ms=at_ms + n, reference=name(1)) for n in range(start, start + 25))
        life.tell(*many, outcome(1000 + start, at_ms=at_ms, reference=name(2 + start)))

    (found,) = references.look_up(life.client, [name(1)], n_shards=1)

    nonces = [int.from_bytes(nonce_of(t), "big") for t in found]
    assert nonces == list(range(150, 251))
    assert {len(v) for k in life.client.keys("{pm:0.*}:named:*") for v in life.client.hvals(k)} == {
        32
    }


def test_a_look_up_of_many_names_comes_to_its_end(life: YoungLife) -> None:
    for hour in range(30):
        life.tell(outcome(hour + 1, at_ms=life.now_ms, reference=name(hour)), after_ms=HOUR_MS)
    names = [name(n % 40) for n in range(1000)]

    found = references.look_up(life.client, names, n_shards=1)

    assert [len(tokens) for tokens in found] == [int(n % 40 < 30) for n in range(1000)]


def test_a_store_that_was_emptied_gives_other_kinds_the_same_numbers(
    life: YoungLife, state_dir: Path
) -> None:
    life.tell(outcome(1, at_ms=life.now_ms, reference=name(1)))
    (first,) = references.look_up(life.client, [name(1)], n_shards=1)
    life.client.flushall()
    other = YoungLife(life.client, state_dir / "other", hours=24)
    other.tell(outcome(2, at_ms=other.now_ms, reference=name(1)))

    (second,) = references.look_up(other.client, [name(1)], n_shards=1)

    wanted = token(2, at_ms=other.now_ms - 1000)
    kinds = [np.frombuffer(t, dtype=TOKEN)["category"][0] for t in (*first, *second, wanted)]
    assert kinds == [1, 2, 2]


# -- what is old --------------------------------------------------------------------------------


def test_feedback_for_an_old_decision_is_kept_and_not_folded(life: YoungLife) -> None:
    at_ms = life.now_ms
    life.tell(outcome(1, at_ms=at_ms), told(1, 0.5, at_ms, heard_ms=at_ms + 9))
    rows = life.rows()

    life.tell(told(1, 1.0, at_ms, heard_ms=at_ms + 25 * HOUR_MS), after_ms=25 * HOUR_MS)

    assert life.rows() == rows
    assert (life.count("cold"), life.client.hlen(keys.cold(0))) == (1, 1)
    ((field, raw),) = life.client.hgetall(keys.cold(0)).items()
    assert field[16:] == (1).to_bytes(16, "big")
    assert decoding.decode(raw)[0]["event"].tobytes() == field[:16]
    assert life.audit().equal


def test_once_what_was_said_is_put_back_it_counts_exactly_once(life: YoungLife) -> None:
    at_ms = life.now_ms
    life.tell(outcome(1, at_ms=at_ms), told(1, 0.5, at_ms, heard_ms=at_ms + 9))
    row = said_in_store(life.client)[(1).to_bytes(16, "big")]
    life.take()
    late = {"at_ms": at_ms, "heard_ms": at_ms + 50 * HOUR_MS, "revision": 1}
    life.tell(told(1, 1.0, **late), outcome(2, at_ms=at_ms), after_ms=50 * HOUR_MS)
    life.prune()
    assert said_in_store(life.client) == {}

    life.put_back(1, row)
    for _ in range(2):  # told twice, too
        life.tell(told(1, 1.0, **late, flags=int(Flag.THAWED)))
    life.tell(told(1, None, **late | {"revision": 2}, flags=int(Flag.THAWED)))
    life.tell(told(1, 0.25, **late | {"revision": 3}, flags=int(Flag.THAWED)))

    assert life.client.hlen(keys.cold(0)) == 0
    check(life.archive, referee(life))
    assert life.audit().equal
    life.take()
    rows, mark = life.rows(), life.shard.mark
    life.client.flushall()
    restore(life.archive)
    assert life.rows() == rows
    assert life.client.hget(keys.meta(0), "mark") == mark
    assert said_in_store(life.client) == {}
    assert life.client.hget(keys.meta(0), "young") == b"0-0:24"


def thaw(life: YoungLife) -> None:
    """Put back what the archive knows of each old decision, and send what waits for it again."""
    cold = life.client.hgetall(keys.cold(0))
    nonces = list({field[16:] for field in cold})
    if not nonces:
        return
    life.take()
    found = look_up(life.archive, [], nonces, oldest_ms=0)
    for nonce in nonces:
        life.put_back(int.from_bytes(nonce, "big"), found.labels.get(nonce, b""))
    records = []
    for raw in cold.values():
        (record,) = decoding.decode(raw)[0]
        value = int(record["value_micro"])
        again = events.feedback(
            record["token"].tobytes(),
            kind=FeedbackKind(int(record["feedback_kind"])),
            value=None if value < 0 else value / 1e6,
            revision=int(record["revision"]),
            event=record["event"].tobytes(),
            flags=int(Flag.THAWED),
        )
        records += [again] * 2  # whoever is killed meanwhile sends it twice
    life.tell(*records)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_young_cold_and_thawed_the_rows_are_those_of_the_records(
    life: YoungLife, seed: int
) -> None:
    dice = random.Random(seed)
    life.begin(dice.choice([1, 3]))
    made = {n: life.now_ms + dice.randint(0, 8 * HOUR_MS) for n in range(1, 40)}
    told_at = [(at_ms, outcome(n, at_ms=at_ms, reference=name(n))) for n, at_ms in made.items()]
    for n, at_ms in made.items():
        for k in range(dice.randint(0, 5)):
            heard_ms = at_ms + int(dice.choice([60_000, 2 * HOUR_MS, 30 * HOUR_MS]) * dice.random())
            kind, revision = dice.choice(list(FeedbackKind)), dice.randint(0, 2)
            value = dice.choice([None, 0.25, 1.0])
            more = {"kind": kind, "revision": revision, "heard_ms": heard_ms + k}
            told_at.append((heard_ms, told(n, value, at_ms, **more)))
    for at_ms, record in sorted(told_at, key=lambda pair: pair[0]):
        life.tell(record, after_ms=max(at_ms - life.now_ms, 1))
        if dice.random() < 0.1:
            life.take()
            life.prune()
        if dice.random() < 0.1:
            thaw(life)
        if dice.random() < 0.05:
            life.begin(dice.choice([1, 3, 5]))
    thaw(life)

    assert life.count("cold") > 5
    assert life.client.hlen(keys.cold(0)) == 0
    whole = referee(life)
    check(life.archive, whole)
    assert life.audit().equal, life.audit().difference
    life.take()
    rows, cold = life.rows(), life.count("cold")
    life.client.flushall()
    restore(life.archive)
    assert (life.rows(), life.count("cold")) == (rows, cold)
    assert life.audit().equal


def test_what_waits_for_an_old_decision_is_there_after_a_restore(life: YoungLife) -> None:
    at_ms = life.now_ms
    life.tell(outcome(1, at_ms=at_ms))
    life.tell(told(1, 1.0, at_ms, heard_ms=life.now_ms), after_ms=30 * HOUR_MS)
    life.take()
    cold = life.client.hgetall(keys.cold(0))
    life.client.flushall()

    restore(life.archive)

    assert life.client.hgetall(keys.cold(0)) == cold != {}


def test_an_old_event_of_others_brings_its_word_with_it(life: YoungLife) -> None:
    flags = int(Flag.FINAL | Flag.INGESTED)
    said = (FeedbackKind.HUMAN, 1.0)
    life.tell(outcome(1, at_ms=life.now_ms - 9 * DAY_MS, flags=flags, said=said, event=b"e" * 16))

    assert (life.count("cold"), life.count("feedback")) == (0, 1)
    check(life.archive, referee(life))


def test_nothing_goes_before_it_is_old_and_archived(life: YoungLife) -> None:
    at_ms = life.now_ms
    life.tell(outcome(1, at_ms=at_ms, reference=name(1)), told(1, 0.5, at_ms, heard_ms=at_ms))
    life.tell(outcome(2, at_ms=life.now_ms), after_ms=23 * HOUR_MS)
    life.take()
    life.prune()
    assert len(said_in_store(life.client)) == 1  # not old

    life.tell(told(1, 1.0, at_ms, heard_ms=life.now_ms, revision=1), after_ms=HOUR_MS // 2)
    life.tell(outcome(3, at_ms=life.now_ms), after_ms=3 * HOUR_MS)
    life.prune()
    assert len(said_in_store(life.client)) == 1  # not archived: the last word is in no file

    life.take()
    life.prune()
    assert said_in_store(life.client) == {}
    assert references.look_up(life.client, [name(1)], n_shards=1) == [[]]
    assert set(life.client.hkeys(keys.parts(0))) == set()
    assert life.client.hgetall(keys.sizes(0)) == {}


def test_without_an_archive_it_goes_when_it_is_old(life: YoungLife) -> None:
    life.tell(told(1, 0.5, life.now_ms, heard_ms=life.now_ms))
    life.tell(outcome(2, at_ms=life.now_ms), after_ms=27 * HOUR_MS)
    life.archive.skip()
    life.prune()

    assert said_in_store(life.client) == {}


def test_many_spans_go_a_few_at_a_time(life: YoungLife) -> None:
    for n in range(1, 2 * MAX_DROPPED + 2):
        life.tell(told(n, 0.5, life.now_ms, heard_ms=life.now_ms), after_ms=SPAN_MS)
    life.tell(outcome(900, at_ms=life.now_ms), after_ms=30 * HOUR_MS)
    life.archive.skip()
    left = []
    for _ in range(4):
        life.prune()
        left.append(life.client.hlen(keys.parts(0)))

    assert left == [MAX_DROPPED + 1, 1, 0, 0]


def test_where_raters_are_told_apart_a_day_goes_as_a_whole(life: YoungLife) -> None:
    life.now_ms = life.now_ms // DAY_MS * DAY_MS + HOUR_MS
    at_ms = life.now_ms
    body = bytearray(token(1, at_ms=at_ms))
    body[-4:] = RATED.to_bytes(4, "little")
    event = at_ms.to_bytes(6, "big") + bytes(10)
    life.tell(
        events.feedback(bytes(body), kind=FeedbackKind.HUMAN, value=1.0, revision=0, event=event)
    )
    life.tell(outcome(2, at_ms=at_ms), after_ms=30 * HOUR_MS)
    life.archive.skip()
    life.prune()
    assert len(said_in_store(life.client)) == 1

    life.tell(outcome(3, at_ms=life.now_ms), after_ms=20 * HOUR_MS)
    life.archive.skip()
    life.prune()
    assert said_in_store(life.client) == {}


def test_what_was_put_back_goes_after_an_hour_unless_it_was_put_back_again(
    life: YoungLife,
) -> None:
    life.tell(outcome(1, at_ms=life.now_ms))
    life.put_back(1, b"")
    life.tell(outcome(2, at_ms=life.now_ms), after_ms=THAWED_MS - 2000)
    life.archive.skip()
    life.prune()
    assert life.client.hlen(keys.thawed(0)) == 1

    life.tell(outcome(3, at_ms=life.now_ms), after_ms=5000)
    life.archive.skip()
    life.prune()
    assert life.client.hlen(keys.thawed(0)) == 0


def test_more_hours_do_not_bring_back_what_is_gone(life: YoungLife) -> None:
    at_ms = life.now_ms
    life.tell(outcome(1, at_ms=at_ms), told(1, 0.5, at_ms, heard_ms=at_ms))
    life.tell(outcome(2, at_ms=life.now_ms), after_ms=30 * HOUR_MS)
    life.take()
    life.prune()
    life.begin(720)

    life.tell(told(1, 1.0, at_ms, heard_ms=life.now_ms), told(2, 0.5, life.now_ms, heard_ms=9))

    assert (life.count("cold"), life.count("feedback")) == (1, 2)
    assert life.audit().equal


def test_young_rows_are_restored_and_what_lies_in_hashes_of_before_is_not_heard(
    life: YoungLife,
) -> None:
    at_ms = life.now_ms
    for n in range(1, 6):
        records = [outcome(n, at_ms=life.now_ms, reference=name(n))]
        life.tell(*records, told(n, 0.5, life.now_ms, heard_ms=life.now_ms), after_ms=10 * HOUR_MS)
    life.take()
    life.tell(told(5, 1.0, life.now_ms - 1, heard_ms=life.now_ms, revision=4))
    lying = said_in_store(life.client)
    whole = life.client.hgetall(keys.meta(0))
    life.client.delete(keys.meta(0))  # it lost its marks, and has the rest

    found = restore(life.archive)

    assert at_ms < life.now_ms
    assert found.rows == len(life.rows())
    kept = {int.from_bytes(n, "big") for n in said_in_store(life.client)}
    assert kept == {4, 5}
    life.lease.release()
    again = YoungLife(life.client, life.archive.root, hours=24)
    again.fold()
    assert life.client.hget(keys.meta(0), "young") == whole[b"young"]
    assert {n: r for n, r in lying.items() if int.from_bytes(n, "big") in kept} == said_in_store(
        life.client
    )
    check(life.archive, referee(again))
    looked_up = references.look_up(life.client, [name(n) for n in range(1, 6)], n_shards=1)
    assert [len(tokens) for tokens in looked_up] == [1, 1, 1, 1, 1]  # what names decisions stayed


def test_a_base_has_what_is_young_and_what_follows_it_adds_up(life: YoungLife) -> None:
    at_ms = life.now_ms
    life.tell(outcome(1, at_ms=at_ms), told(1, 0.5, at_ms, heard_ms=at_ms))
    life.client.xtrim(keys.stream(0), maxlen=0)
    life.take()
    (base,) = life.files()
    assert base.is_base

    life.tell(told(1, 1.0, at_ms, heard_ms=at_ms, revision=1))
    life.take()

    assert life.audit().equal
    rows, lying = life.rows(), said_in_store(life.client)
    life.client.flushall()
    restore(life.archive)
    assert (life.rows(), said_in_store(life.client)) == (rows, lying)


# -- what means nothing young -------------------------------------------------------------------


def test_feedback_by_a_reference_that_means_nothing_young_is_told(life: YoungLife) -> None:
    def by_reference(n: int) -> bytes:
        event = life.now_ms.to_bytes(6, "big") + n.to_bytes(4, "big") + bytes(6)
        return events.feedback(
            None,
            kind=FeedbackKind.HUMAN,
            value=1.0,
            revision=0,
            event=event,
            reference=name(n),
            app=5,
            match=Match.LAST,
            received_at_ms=life.now_ms,
        )

    life.tell(outcome(1, at_ms=life.now_ms, reference=name(1)), by_reference(7), by_reference(8))
    take_up(life.client, 0)
    owned = [(life.shard, life.lease.token)]
    assert sought_in_archive(life.client, 0, now_ms=life.now_ms, n=10) == []
    life.take()
    assert References(1).look(life.client, owned, life.now_ms + 60_000) == []

    found = sought_in_archive(life.client, 0, now_ms=life.now_ms, n=10)

    assert [one.reference for one in found] == [name(7), name(8)]
    assert found[0].reference != NO_DIGEST


# -- a store of the last version ----------------------------------------------------------------


class Upgraded:
    """A store as the last landed version left it, in a time when nothing of it has ended.

    Times are fixed: it was made by that version's own learner.
    """

    def __init__(self, client: Any) -> None:
        self.client, self.now_ms = client, OLD["now_ms"]
        self.made_ms = {int(n): at_ms for n, at_ms in OLD["made_ms"].items()}
        for key, kept in OLD["keys"].items():
            if kept["type"] == "hash":
                pairs = kept["value"].items()
                client.hset(key, mapping={bytes.fromhex(k): bytes.fromhex(v) for k, v in pairs})
            elif kept["type"] == "zset":
                client.zadd(key, {bytes.fromhex(k): score for k, score in kept["value"].items()})
        self.life = Life.__new__(Life)
        prepare(client, shards=1)
        Life.__init__(self.life, client, Path("/nowhere"))
        self.entries = [(e.encode(), {b"f": bytes.fromhex(f)}) for e, f in OLD["entries"]]
        self.begin(24)

    def begin(self, hours: int) -> None:
        self.life.shard = Shard(self.client, 0, young_hours=hours)
        self.life.shard.load()

    def tell(self, *records: bytes, after_ms: int = 1000) -> None:
        self.now_ms += after_ms
        (frame,) = self.life.send(*records, entry_id=f"{self.now_ms}-1")
        self.entries.append((f"{self.now_ms}-1".encode(), {b"f": frame}))
        self.life.fold()

    def check(self) -> None:
        """The rows are those of all that was ever said."""
        check(self.life.archive, folded(self.entries))

    def n_cold(self) -> int:
        return int(self.client.hget(keys.meta(0), "n_cold") or 0)


def corrected(upgraded: Upgraded, n: int, revision: int, value: float | None = 1.0) -> bytes:
    at_ms = upgraded.made_ms[n]
    return told(n, value, at_ms, heard_ms=upgraded.now_ms, revision=revision)


def test_a_store_of_the_last_version_goes_on_without_a_stop(client: Any) -> None:
    upgraded = Upgraded(client)
    assert client.hget(keys.META, "schema").decode() == SCHEMA
    upgraded.check()
    day = upgraded.made_ms[1] // DAY_MS
    (before,) = client.hgetall(keys.labels_of_day(0, day)).values()

    upgraded.tell(*(corrected(upgraded, n, 2) for n in upgraded.made_ms))
    upgraded.tell(*(corrected(upgraded, n, 3, None) for n in (1, 4, 6)))

    upgraded.check()
    (after,) = client.hgetall(keys.labels_of_day(0, day)).values()
    assert len(after) == len(before) == 30, "where it lies, as it lies"
    assert upgraded.n_cold() == 0


def test_references_of_the_last_version_are_found_beside_those_of_now(client: Any) -> None:
    upgraded = Upgraded(client)
    at_ms = upgraded.now_ms + 2 * HOUR_MS
    names = [name_of_old("r0"), name_of_old("r1"), digests.digest16("app", "response", "2")]
    reference = {"reference": names[1]}
    upgraded.tell(outcome(90, at_ms=at_ms, **reference), after_ms=2 * HOUR_MS + 5)

    found = references.look_up(client, names, n_shards=1, now_ms=upgraded.now_ms)

    nonces = [[int.from_bytes(nonce_of(t), "big") for t in tokens] for tokens in found]
    assert nonces == [[2, 4, 6], [1, 3, 5, 90, 7], [2]]


def name_of_old(reference: str) -> bytes:
    return digests.digest16("app", "ref", reference)


def test_decisions_after_an_upgrade_lie_anew_and_grow_old(client: Any) -> None:
    upgraded = Upgraded(client)
    upgraded.tell(outcome(50, at_ms=upgraded.now_ms))
    at_ms = upgraded.now_ms + 2 * HOUR_MS
    upgraded.tell(told(91, 0.5, at_ms, heard_ms=at_ms), after_ms=2 * HOUR_MS)
    assert list(said_in_store(client)) == [(91).to_bytes(16, "big")]

    upgraded.tell(told(91, 1.0, at_ms, heard_ms=at_ms, revision=1), after_ms=25 * HOUR_MS)
    upgraded.tell(corrected(upgraded, 5, 2), corrected(upgraded, 2, 2))

    assert upgraded.n_cold() == 1
    assert len(client.hgetall(keys.cold(0))) == 1


def test_a_decision_of_a_clock_that_is_ahead_is_one_before_and_after_an_upgrade(
    client: Any,
) -> None:
    upgraded = Upgraded(client)
    for revision, n in enumerate((6, 7, 6, 7), start=2):
        upgraded.tell(corrected(upgraded, n, revision, value=revision / 8))
        upgraded.check()

    assert {int.from_bytes(n, "big") for n in said_in_store(client)} == {6, 7}


def test_in_a_new_store_all_lies_by_the_hour(client: Any, state_dir: Path) -> None:
    life = YoungLife(client, state_dir / "archive", hours=EVERYTHING_HOURS)
    life.tell(told(1, 0.5, life.now_ms - 29 * DAY_MS, heard_ms=life.now_ms))

    assert len(said_in_store(client)) == 1
    assert life.shard.young.history.since_ms == 0
    assert position(life.shard.mark) > BEGIN
    assert difference(referee(life), referee(life)) is None
    assert LABELS == "said"


def lie_as_before(life: YoungLife, made: dict[int, int]) -> None:
    """Have a store lie as an earlier version left it."""
    client = life.client
    for nonce, row in said_in_store(client).items():
        day = made[int.from_bytes(nonce, "big")] // DAY_MS
        client.hset(keys.labels_of_day(0, day), nonce, widened(row))
    for n, at_ms in made.items():
        bucket = keys.references_of_days(0, references.bucket(at_ms))
        client.hset(bucket, name(n), token(n, at_ms=at_ms))
    client.delete(*client.keys("{pm:0.*}:said:*"), *client.keys("{pm:0.*}:named:*"))
    client.delete(keys.parts(0), keys.sizes(0), keys.kinds(0))
    client.hdel(keys.meta(0), "young")
    client.hset(keys.META, "schema", "4")


def test_what_lies_as_before_is_audited_archived_and_restored_as_it_lies(life: YoungLife) -> None:
    made = {n: life.now_ms - n * 7 * HOUR_MS for n in range(1, 12)}
    life.begin(EVERYTHING_HOURS)
    for n, at_ms in made.items():
        life.tell(outcome(n, at_ms=at_ms, reference=name(n)))
    for n, at_ms in made.items():
        life.tell(told(n, 0.5, at_ms, heard_ms=life.now_ms))
    lie_as_before(life, made)
    prepare(life.client, shards=1)
    life.begin(24)
    late = {"heard_ms": life.now_ms, "revision": 1}
    new_ms = life.now_ms + 3 * HOUR_MS
    life.tell(told(50, 0.25, new_ms, heard_ms=new_ms), after_ms=3 * HOUR_MS)
    life.tell(outcome(50, at_ms=new_ms, reference=name(50)))
    life.tell(*(told(n, 1.0, at_ms, **late) for n, at_ms in made.items()))

    assert life.count("cold") == 0
    check(life.archive, referee(life))
    assert life.audit().equal
    life.take()
    before = lying_in(life)
    life.client.flushall()
    restore(life.archive)
    assert lying_in(life) == before
    life.lease.release()
    again = YoungLife(life.client, life.archive.root, hours=24)
    again.now_ms, again.numbers = life.now_ms, life.numbers
    again.tell(*(told(n, None, at_ms, **late | {"revision": 2}) for n, at_ms in made.items()))
    check(again.archive, referee(again))
    assert again.audit().equal
    found = references.look_up(again.client, [name(n) for n in (*made, 50)], n_shards=1)
    assert [len(tokens) for tokens in found] == [1] * 12


def lying_in(life: YoungLife) -> dict[Any, Any]:
    """What was said, by hash and field."""
    days = life.client.keys("{pm:0.*}:labels:*")
    return {day: life.client.hgetall(day) for day in days} | said_in_store(life.client)
