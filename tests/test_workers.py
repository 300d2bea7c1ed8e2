"""Folding: exactly once, in any order, by the one who holds the shard."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bandit import cells
from bandit.derived import checked
from bandit.evidence import Evidence
from bandit.families import N_COLUMNS, RETIRED, D, Family, Q, R, S, U
from telemetry import decoding, digests, event_ids, events, frames, keys, narrow, references
from telemetry.events import FeedbackKind, Flag, Match, Result, Source
from telemetry.frames import Frame
from telemetry.store import Address
from telemetry.tokens import Token, nonce_of
from workers.folding import hearing, labels
from workers.folding.batch import Batch
from workers.folding.effects import effects
from workers.folding.held import References
from workers.folding.labels import Word
from workers.folding.learner import Learner
from workers.folding.lease import Lease
from workers.folding.shard import NotOwner, Shard
from workers.folding.trimming import stale_rows

NOW_MS = int(time.time() * 1000)
PRODUCER = b"p" * 16


def token(nonce: int, *, shard: int = 0, at_ms: int = NOW_MS, category: int = 1) -> bytes:
    raw = nonce.to_bytes(16, "big")
    return Token(1, shard, 0, raw, at_ms, category, 2, 3, 4, 5, 6, 7, 0.5, 0.5, 0.1).pack()


def outcome(nonce: int, result: Result = Result.OK, **more: Any) -> bytes:
    more.setdefault("flags", int(Flag.USAGE_KNOWN | Flag.FINAL))
    return events.outcome(
        token(nonce), result=result, attempt=1, status=200, latency_s=0.5, tokens_out=20, **more
    )


def feedback(
    nonce: int,
    value: float | None,
    *,
    kind: FeedbackKind = FeedbackKind.JUDGE,
    revision: int = 0,
    at: int = 0,
    at_ms: int = NOW_MS,
) -> bytes:
    return events.feedback(
        token(nonce, at_ms=at_ms),
        kind=kind,
        value=value,
        revision=revision,
        event=event_ids.new_event_id(at_ms + at),
    )


@pytest.fixture
def shard(client: Any) -> Shard:
    found = Shard(client, 0)
    found.load()
    return found


@pytest.fixture
def lease(client: Any) -> Lease:
    found = Lease(client, 0)
    assert found.take()
    return found


def send(client: Any, *records: bytes, first: int = 0, producer: bytes = PRODUCER) -> None:
    frame = Frame(producer, 0, first, b"".join(records))
    client.xadd(keys.stream(0), {"f": frames.pack(frame)})


def fold(shard: Shard, lease: Lease) -> int:
    replies = shard.client.xread({keys.stream(0): shard.mark}, count=1000)
    pairs = replies.items() if isinstance(replies, dict) else replies
    entries = [e for _, found in pairs for e in (found[0] if isinstance(replies, dict) else found)]
    return shard.fold(entries, token=lease.token)


def resolve(client: Any, shard: Shard, lease: Lease, *, now_ms: int = NOW_MS + 1000) -> None:
    """Look once at the feedback by reference that is due."""
    assert References(1).look(client, [(shard, lease.token)], now_ms) == []


def evidence(client: Any) -> Evidence:
    rows = client.hgetall(keys.rows(0))
    terms = cells.from_bytes(b"".join(rows), b"".join(rows.values()))
    return cells.read(
        terms,
        categories=np.array([1], dtype=np.uint64),
        endpoints=np.array([3], dtype=np.uint64),
        now_ms=NOW_MS,
    )


def test_outcomes_reach_every_family(client: Any, shard: Shard, lease: Lease) -> None:
    send(client, outcome(1), outcome(2), outcome(3, Result.SERVER), outcome(4, Result.CLIENT_ERROR))

    assert fold(shard, lease) == 4

    got = evidence(client)
    assert got.usage[0, 0, U.CALLS] == 4
    assert got.usage[0, 0, U.FAILED] == 1
    assert got.reliability[0, 0, R.OK] == pytest.approx(2, rel=0.1)
    assert got.reliability[0, 0, R.SERVER] == pytest.approx(1, rel=0.1)
    assert got.latency[0, 0, 0] == pytest.approx(2, rel=0.05)


def test_a_repeated_frame_has_no_effect(client: Any, shard: Shard, lease: Lease) -> None:
    for _ in range(3):
        send(client, outcome(1), outcome(2))

    assert fold(shard, lease) == 2

    assert evidence(client).usage[0, 0, U.CALLS] == 2
    assert client.hget(keys.meta(0), "n_repeated") == b"4"


def test_an_overlapping_frame_counts_only_what_is_new(
    client: Any, shard: Shard, lease: Lease
) -> None:
    send(client, outcome(1), outcome(2), first=0)
    send(client, outcome(2), outcome(3), first=1)

    assert fold(shard, lease) == 3


@pytest.mark.usefixtures("store")  # the fence is a script
def test_the_next_owner_goes_on_where_the_last_one_stopped(
    client: Any, shard: Shard, lease: Lease
) -> None:
    send(client, outcome(1), outcome(2))
    fold(shard, lease)
    lease.release()
    send(client, outcome(1), outcome(2))
    send(client, outcome(3), first=2)
    heir, heirs_lease = Shard(client, 0), Lease(client, 0)
    assert heirs_lease.take()
    heir.load()

    assert fold(heir, heirs_lease) == 1
    assert evidence(client).usage[0, 0, U.CALLS] == 3


@pytest.mark.usefixtures("store")  # the fence is a script
def test_a_stale_owner_changes_nothing(client: Any, shard: Shard, lease: Lease) -> None:
    client.delete(keys.lease(0))  # its lease ran out while it was stopped
    heir = Lease(client, 0)
    assert heir.take()
    send(client, outcome(1))

    with pytest.raises(NotOwner):
        fold(shard, lease)

    assert client.hgetall(keys.rows(0)) == {}
    assert client.hget(keys.meta(0), "mark") is None


@pytest.mark.usefixtures("store")  # the fence is a script
def test_an_ingested_outcome_that_a_stale_owner_folded_counts_with_the_next_one(
    client: Any, shard: Shard, lease: Lease
) -> None:
    """The nonces seen commit with the state: neither is there without the other."""
    told = outcome(1, flags=int(Flag.INGESTED | Flag.FINAL))
    send(client, told, told)
    send(client, told, producer=b"q" * 16)
    client.delete(keys.lease(0))  # its lease ran out while it was stopped
    heir, heirs_lease = Shard(client, 0), Lease(client, 0)
    assert heirs_lease.take()
    heir.load()

    with pytest.raises(NotOwner):
        fold(shard, lease)
    assert client.keys("*ingested*") == []

    assert fold(heir, heirs_lease) == 1
    assert evidence(client).usage[0, 0, U.CALLS] == 1
    assert client.hget(keys.meta(0), "n_repeated") == b"2"


@pytest.mark.usefixtures("store")  # the fence is a script
def test_two_processes_never_hold_one_shard(client: Any, lease: Lease) -> None:
    assert not Lease(client, 0).take()


def test_poison_becomes_a_dead_letter_and_its_neighbours_are_folded(
    client: Any, shard: Shard, lease: Lease
) -> None:
    broken = bytearray(outcome(2))
    broken[30] ^= 1
    client.xadd(keys.stream(0), {"f": b"no frame at all"})
    client.xadd(keys.stream(0), {"other": b"field"})
    send(client, outcome(1), bytes(broken), outcome(3))

    assert fold(shard, lease) == 2

    letters = client.xrange(keys.dead(0))
    assert len(letters) == 3
    assert all(fields[b"reason"] for _, fields in letters)
    assert client.hget(keys.meta(0), "n_dead") == b"3"


def test_a_reward_is_folded_once_and_replaced_by_a_stronger_one(
    client: Any, shard: Shard, lease: Lease
) -> None:
    send(client, feedback(1, 0.2))
    fold(shard, lease)
    assert evidence(client).quality[0, 0, Q.R] == pytest.approx(0.2, rel=0.05)

    send(client, feedback(1, 1.0, kind=FeedbackKind.TEST), first=1)
    fold(shard, lease)

    got = evidence(client).quality[0, 0]
    assert got[Q.LABELS] == 1
    assert got[Q.R] / got[Q.N] == pytest.approx(1.0, abs=1e-3)


def test_a_retraction_leaves_nothing(client: Any, shard: Shard, lease: Lease) -> None:
    send(client, feedback(1, 0.8), feedback(1, None, at=1))
    fold(shard, lease)

    assert not evidence(client).quality.any()


def test_feedback_does_not_wait_for_its_outcome(client: Any, shard: Shard, lease: Lease) -> None:
    send(client, feedback(9, 1.0), outcome(9))
    fold(shard, lease)

    assert evidence(client).quality[0, 0, Q.LABELS] == 1
    assert evidence(client).usage[0, 0, U.CALLS] == 1


def test_feedback_for_old_decisions_is_a_dead_letter(
    client: Any, shard: Shard, lease: Lease
) -> None:
    send(client, feedback(1, 1.0, at_ms=NOW_MS - 32 * 86_400_000))
    fold(shard, lease)

    assert not evidence(client).quality.any()
    assert len(client.xrange(keys.dead(0))) == 1


said = st.tuples(
    st.sampled_from(list(FeedbackKind)),
    st.one_of(st.none(), st.integers(0, 10).map(lambda n: n / 10)),
    st.integers(0, 3),
    st.integers(0, 1000),
)


@given(st.lists(said, min_size=1, max_size=12, unique_by=lambda s: s[3]), st.randoms())
def test_the_order_and_repetition_of_feedback_do_not_matter(items, dice: random.Random) -> None:
    def after(sequence: list[Any]) -> labels.Labels:
        state: labels.Labels = {}
        for kind, value, revision, at in sequence:
            micro = -1 if value is None else round(value * 1e6)
            word = Word(revision, at.to_bytes(10, "big"), micro)
            state = labels.hear(labels.parse(labels.pack(state)), kind, word)
        return state

    shuffled = items + dice.choices(items, k=3)
    dice.shuffle(shuffled)

    assert after(items) == after(shuffled)
    assert labels.standing(after(items)) == labels.standing(after(shuffled))


def test_the_strongest_kind_that_says_something_is_the_reward() -> None:
    def word(value: float | None) -> Word:
        return Word(0, bytes(16), -1 if value is None else round(value * 1e6))

    state = {FeedbackKind.DERIVED: word(0.1), FeedbackKind.JUDGE: word(0.4)}
    held = labels.standing(state)
    assert (held.reward, held.kind, held.derived) == (0.4, FeedbackKind.JUDGE, 0.1)
    assert labels.standing({**state, FeedbackKind.TEST: word(1.0)}).reward == 1.0
    assert labels.standing({**state, FeedbackKind.TEST: word(None)}).reward == 0.4
    assert labels.standing({}) == labels.NOTHING


def derived(nonce: int, value: float | None, source: Source, *, revision: int = 0) -> bytes:
    return events.feedback(
        token(nonce),
        kind=FeedbackKind.DERIVED,
        value=value,
        revision=revision,
        event=event_ids.new_event_id(NOW_MS + revision),
        source=source,
        rules=1,
    )


def test_a_derived_label_is_no_quality_label_and_says_what_it_was_read_off(
    client: Any, shard: Shard, lease: Lease
) -> None:
    send(client, derived(1, 0.0, Source.TOOL_CALL), derived(2, 1.0, Source.SCHEMA))
    fold(shard, lease)

    found = evidence(client)
    assert not found.quality.any()
    assert found.derived[0, 0, D.GOOD] / found.derived[0, 0, D.N] == pytest.approx(0.5)
    assert signals(client) == {S.TOOLS: 1, S.SCHEMA: 1}


def test_a_stronger_label_makes_a_pair_of_a_derived_one_and_taking_it_back_undoes_that(
    client: Any, shard: Shard, lease: Lease
) -> None:
    send(client, derived(1, 0.0, Source.LOOP), feedback(1, 0.3))
    fold(shard, lease)
    pair = evidence(client).derived[0, 0]
    assert pair[D.PAIRS] == 1
    assert not pair[D.N]
    assert signals(client) == {S.TOOLS: 1, S.JUDGE: 1}

    send(client, feedback(1, None, revision=1), first=2)
    fold(shard, lease)
    alone = evidence(client).derived[0, 0]
    assert not alone[D.PAIRS]
    assert not alone[D.PAIR_S]
    assert alone[D.N] > 0
    assert signals(client) == {S.TOOLS: 1}


def test_a_failed_attempt_that_was_repeated_is_counted_as_a_link_and_not_as_unusable(
    client: Any, shard: Shard, lease: Lease
) -> None:
    send(client, derived(1, 0.0, Source.RETRIED))
    fold(shard, lease)

    assert not evidence(client).derived.any()
    assert signals(client) == {S.RETRIED: 1}


READ = int(Flag.USAGE_KNOWN | Flag.FINAL | Flag.READ)


def test_answers_that_were_read_count_as_seen_and_others_do_not(
    client: Any, shard: Shard, lease: Lease
) -> None:
    gone = outcome(4, Result.CLIENT_GONE, flags=READ)
    send(client, outcome(1, flags=READ), outcome(2, flags=READ), outcome(3), gone)
    fold(shard, lease)

    seen, faults = checked(evidence(client).derived)
    assert seen[0, 0] == pytest.approx(2, rel=0.05)
    assert faults[0, 0] == 0
    assert signals(client) == {}
    assert not evidence(client).quality.any()


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_a_fault_counts_once_among_the_calls_seen_in_whatever_order_it_is_told(
    order: tuple[int, ...], client: Any, shard: Shard, lease: Lease
) -> None:
    records = [
        outcome(1, flags=READ),
        derived(1, 1.0, Source.TOOL_CALL),
        derived(1, 0.0, Source.TOOL_RESULT, revision=1),
        feedback(1, 0.3),
    ]
    for number, place in enumerate(order):
        send(client, records[place], first=number)
        send(client, records[place], first=number)  # told twice
        fold(shard, lease)

    seen, faults = checked(evidence(client).derived)
    assert seen[0, 0] == faults[0, 0] == pytest.approx(1, rel=0.05)


def test_a_fault_that_is_taken_back_leaves_a_call_without_one(
    client: Any, shard: Shard, lease: Lease
) -> None:
    bad, back = derived(1, 0.0, Source.EDITED), derived(1, None, Source.EDITED, revision=1)
    send(client, outcome(1, flags=READ), bad, back)
    fold(shard, lease)

    seen, faults = checked(evidence(client).derived)
    assert seen[0, 0] == pytest.approx(1, rel=0.05)
    assert faults[0, 0] == 0


def test_records_of_before_calls_were_counted_as_read_fold_to_the_rows_they_made() -> None:
    """Written by the version that had no such count: an audit of its archive must agree."""
    kept = json.loads((Path(__file__).parent / "data" / "derived_rows.json").read_text())
    records, bad = decoding.decode(bytes.fromhex(kept["records"]), version=narrow.RECORD_VERSION)

    found = effects(Batch(records, records["token"]["decided_at_ms"] // 86_400_000), {}).terms

    made = cells.from_bytes(bytes.fromhex(kept["keys"]), bytes.fromhex(kept["values"]))
    read = made.keys["family"] != RETIRED  # rows of residuals are read by nobody any more
    order = np.argsort([key.tobytes() for key in found.keys])
    assert not bad
    assert read.any()
    assert found.keys[order].tobytes() == made.keys[read].tobytes()
    assert found.values[order].tobytes() == made.values[read].tobytes()


def test_rows_of_before_calls_were_counted_as_read_are_read_as_they_were() -> None:
    kept = json.loads((Path(__file__).parent / "data" / "derived_rows.json").read_text())
    rows = cells.from_bytes(bytes.fromhex(kept["keys"]), bytes.fromhex(kept["values"]))

    found = cells.read(
        rows,
        categories=np.array([1], dtype=np.uint64),
        endpoints=np.array([3, 4], dtype=np.uint64),
        now_ms=1_790_000_000_000,
    )
    seen, faults = checked(found.derived)

    # Good: 1, 7 (with a word). Bad: 0, 2 (with a word), 3, 6. Taken back: 4. A link: 5.
    np.testing.assert_allclose(seen, [[3, 3]], rtol=0.05)
    np.testing.assert_allclose(faults, [[3, 1]], rtol=0.05)


def signals(client: Any) -> dict[S, int]:
    rows = client.hgetall(keys.rows(0))
    found = cells.read_plain(
        cells.from_bytes(b"".join(rows), b"".join(rows.values())),
        Family.SIGNALS,
        names=np.array([1], dtype=np.uint64),
        endpoints=np.array([3], dtype=np.uint64),
    )
    return {s: int(n) for s, n in zip(S, found[0, 0], strict=True) if n}


def test_readers_see_only_rows_that_changed(client: Any, shard: Shard, lease: Lease) -> None:
    from telemetry.reader import Reader

    reader = Reader(client, 1, key_bytes=cells.KEY.itemsize, row_bytes=8 * N_COLUMNS)
    assert not reader.poll()
    send(client, outcome(1))
    fold(shard, lease)

    assert reader.poll()
    assert not reader.poll()
    n = reader.n_rows
    send(client, outcome(2), first=1)
    fold(shard, lease)
    assert reader.poll()
    assert reader.n_rows == n
    usage = cells.from_bytes(*reader.rows())
    calls = usage.values[usage.keys["family"] == Family.USAGE, U.CALLS]
    assert calls.tolist() == [2]


def test_readers_hold_what_the_store_holds_and_keys_stay_while_no_row_comes(
    client: Any, shard: Shard, lease: Lease
) -> None:
    from telemetry.reader import Reader

    reader = Reader(client, 1, key_bytes=cells.KEY.itemsize, row_bytes=8 * N_COLUMNS)
    seen = []
    for first, result in ((1, Result.OK), (2, Result.OK), (3, Result.TIMEOUT)):
        items = [outcome(first, result), *([feedback(first, 1.0)] if first == 3 else [])]
        send(client, *items, first=first - 1)
        fold(shard, lease)
        assert reader.poll()
        found, rows = reader.rows()
        size, width = cells.KEY.itemsize, 8 * N_COLUMNS
        names = [found[at : at + size] for at in range(0, len(found), size)]
        held = [rows[at : at + width] for at in range(0, len(rows), width)]
        assert dict(zip(names, held, strict=True)) == client.hgetall(keys.rows(0))
        assert reader.rows()[0] is found
        seen.append(found)

    assert seen[1] is seen[0]
    assert len(seen[2]) > len(seen[1])


def test_readers_drop_rows_that_were_pruned(client: Any, shard: Shard, lease: Lease) -> None:
    from telemetry.reader import Reader

    reader = Reader(client, 1, key_bytes=cells.KEY.itemsize, row_bytes=8 * N_COLUMNS)
    old = events.outcome(
        token(1, at_ms=NOW_MS - 10 * 86_400_000), result=Result.OK, attempt=1, status=200, flags=0
    )
    send(client, old, outcome(2))
    fold(shard, lease)
    reader.poll()
    before = reader.n_rows

    shard.prune(token=lease.token)
    send(client, outcome(3), first=2)
    fold(shard, lease)

    assert reader.poll()
    assert reader.n_rows == client.hlen(keys.rows(0)) < before
    assert not reader.poll()


def test_an_empty_store_never_replaces_a_full_copy(client: Any, shard: Shard, lease: Lease) -> None:
    from telemetry.reader import Reader

    reader = Reader(client, 1, key_bytes=cells.KEY.itemsize, row_bytes=8 * N_COLUMNS)
    send(client, outcome(1))
    fold(shard, lease)
    reader.poll()
    kept = reader.rows()

    client.flushall()

    assert not reader.poll()
    assert reader.rows() == kept
    assert reader.keeping


@pytest.mark.usefixtures("store")  # what the server forgets
def test_stale_rows_and_folded_entries_are_pruned(client: Any, shard: Shard, lease: Lease) -> None:
    old = events.outcome(
        token(1, at_ms=NOW_MS - 10 * 86_400_000), result=Result.OK, attempt=1, status=200, flags=0
    )
    send(client, old, outcome(2))
    fold(shard, lease)
    before = client.hlen(keys.rows(0))

    shard.prune(token=lease.token)

    assert client.hlen(keys.rows(0)) == before - 2  # latency and reliability of ten days ago
    assert client.hlen(keys.rows(0)) == client.zcard(keys.touched(0)) == len(shard.rows)


def test_held_feedback_is_joined_once_its_decision_appears(
    client: Any, shard: Shard, lease: Lease
) -> None:
    digest = digests.digest16("app", "ref", "ticket-7")
    waiting = events.feedback(
        None,
        kind=FeedbackKind.HUMAN,
        value=1.0,
        revision=0,
        event=event_ids.new_event_id(NOW_MS),
        reference=digest,
        app=5,
    )
    send(client, waiting)
    fold(shard, lease)
    resolve(client, shard, lease)
    assert client.hlen(keys.held(0)) == 1

    send(client, outcome(1, reference=digest), first=1)
    fold(shard, lease)
    resolve(client, shard, lease, now_ms=NOW_MS + 60_000)
    fold(shard, lease)

    assert client.hlen(keys.held(0)) == 0
    assert evidence(client).quality[0, 0, Q.LABELS] == 1


@pytest.mark.parametrize(("match", "labelled"), [(Match.ONE, 0), (Match.LAST, 1), (Match.ALL, 2)])
def test_a_reference_to_several_decisions_needs_a_word_which(
    client: Any, shard: Shard, lease: Lease, match: Match, labelled: int
) -> None:
    digest = digests.digest16("app", "ref", "ticket-7")
    waiting = events.feedback(
        None,
        kind=FeedbackKind.HUMAN,
        value=1.0,
        revision=0,
        event=event_ids.new_event_id(NOW_MS),
        reference=digest,
        app=5,
        match=match,
    )
    send(client, outcome(1, reference=digest), outcome(2, reference=digest), waiting)
    fold(shard, lease)

    resolve(client, shard, lease)
    if labelled:
        fold(shard, lease)

    assert evidence(client).quality[0, 0, Q.LABELS] == labelled
    assert client.hlen(keys.held(0)) == 0


def test_what_never_matches_is_given_up_after_a_day(
    client: Any, shard: Shard, lease: Lease
) -> None:
    waiting = events.feedback(
        None,
        kind=FeedbackKind.HUMAN,
        value=1.0,
        revision=0,
        event=event_ids.new_event_id(NOW_MS - 25 * 3_600_000),
        reference=digests.digest16("app", "ref", "nobody"),
        app=5,
    )
    send(client, waiting)
    fold(shard, lease)

    resolve(client, shard, lease)

    assert client.hget(keys.meta(0), "n_unmatched") == b"1"
    assert client.hlen(keys.held(0)) == 0


@pytest.mark.usefixtures("store")  # it is full
def test_the_learner_waits_for_a_store_that_is_away(
    state_dir: Path, client: Any, address: Address, learner: Any
) -> None:
    client.config_set("maxmemory", "1")
    time.sleep(0.5)
    client.config_set("maxmemory", "0")
    send(client, outcome(1))

    deadline = time.monotonic() + 10
    while not client.hget(keys.meta(0), "n_outcomes"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_a_flushed_store_had_not_folded_is_counted(
    client: Any, address: Address, tmp_path: Path
) -> None:
    asked_to_stop = threading.Event()
    asked_to_stop.set()  # so that a step waits for nothing
    ticks = itertools.count(0, 10)
    learner = Learner(address, 1, tmp_path, asked_to_stop, lambda: float(next(ticks)))
    learner.step(client)
    send(client, outcome(1), outcome(2))
    learner.step(client)
    send(client, outcome(3), outcome(4), outcome(5), first=2)

    with capture_logs() as lines:
        client.flushall()
        send(client, outcome(6), first=5)
        for _ in range(3):
            learner.step(client)

    assert client.hget(keys.meta(0), "n_missing") == b"3"
    assert client.hget(keys.meta(0), "n_outcomes") == b"1"
    assert [line["event"] for line in lines] == [
        "the store is another one: what it had is lost",
        "records never arrived",
    ]


@pytest.mark.usefixtures("store")  # the fence is a script
def test_an_owner_takes_its_lease_again_and_outdates_itself(client: Any, lease: Lease) -> None:
    again = Lease(client, 0, lease.owner)

    assert again.take()

    assert again.token > lease.token


# -- books --------------------------------------------------------------------------------------

RELEASE_KEY = 7
FINAL = int(Flag.FINAL | Flag.USAGE_KNOWN)


def routed(nonce: int, *, flags: int = Flag.ROUTED | Flag.DRAWN_NOW) -> bytes:
    raw = nonce.to_bytes(16, "big")
    return Token(1, 0, flags, raw, NOW_MS, 1, 2, 3, 4, 5, RELEASE_KEY, 7, 0.5, 0.5, 0.1).pack()


def answered(nonce: int, *, flags: int = FINAL, token_flags: int = Flag.ROUTED) -> bytes:
    body = routed(nonce, flags=token_flags)
    return events.outcome(body, result=Result.OK, attempt=1, status=200, flags=flags | token_flags)


def judged(nonce: int, value: float | None, *, revision: int = 0, routed_: bool = True) -> bytes:
    return events.feedback(
        routed(nonce, flags=Flag.ROUTED if routed_ else 0),
        kind=FeedbackKind.JUDGE,
        value=value,
        revision=revision,
        event=event_ids.new_event_id(NOW_MS + revision),
    )


def books(client: Any) -> list[float]:
    """Calls, labelled calls and their rewards, of the one release key and endpoint."""
    rows = client.hgetall(keys.rows(0))
    found = cells.read_plain(
        cells.from_bytes(b"".join(rows), b"".join(rows.values())),
        Family.BOOKS,
        names=np.array([RELEASE_KEY], dtype=np.uint64),
        endpoints=np.array([3], dtype=np.uint64),
    )
    return [float(x) for x in found[0, 0, :3]]


def test_books_count_routed_final_outcomes_and_their_rewards(
    client: Any, shard: Shard, lease: Lease
) -> None:
    failed_first = answered(1, flags=int(Flag.USAGE_KNOWN))
    observed = answered(3, token_flags=0)
    send(client, failed_first, answered(1), answered(2), observed)
    send(client, judged(1, 0.25), judged(2, 1.0), judged(3, 1.0, routed_=False), first=4)

    fold(shard, lease)

    assert books(client) == [2, 2, 1.25]


@pytest.mark.usefixtures("store")  # the fence is a script
def test_books_fold_exactly_once_and_survive_a_restart(
    client: Any, shard: Shard, lease: Lease
) -> None:
    send(client, answered(1), judged(1, 1.0))
    fold(shard, lease)
    again = Shard(client, 0)
    again.load()
    send(client, answered(1), judged(1, 1.0))
    send(client, judged(1, 0.5, revision=1), answered(2), first=2)

    fold(again, lease)

    assert books(client) == [2, 1, 0.5]
    shard.rows.clear()
    with pytest.raises(NotOwner):
        shard.fold([(b"9-9", {b"f": b""})], token=lease.token)
    assert books(client) == [2, 1, 0.5]


def test_a_label_taken_back_leaves_the_books_as_they_were(
    client: Any, shard: Shard, lease: Lease
) -> None:
    send(client, answered(1), judged(1, 1 / 3))
    fold(shard, lease)
    send(client, judged(1, None, revision=1), first=2)
    fold(shard, lease)

    assert books(client) == [1, 0, 0]


def test_books_never_grow_stale(client: Any, shard: Shard, lease: Lease) -> None:
    send(client, answered(1))
    fold(shard, lease)

    stale = stale_rows(shard.rows, now_ms=NOW_MS + 10 * 365 * 86_400_000)

    families = cells.from_bytes(b"".join(set(shard.rows) - set(stale)), b"").keys["family"]
    assert sorted(families.tolist()) == [Family.BOOKS, Family.TEACHING]


@given(
    st.lists(st.tuples(st.integers(1, 5), st.floats(0, 1)), min_size=1, max_size=8),
    st.randoms(),
)
def test_books_do_not_depend_on_order_or_grouping(calls, dice: random.Random) -> None:
    from workers.folding.hearing import LabelStandings
    from workers.folding.terms import label_terms, outcome_terms

    records, _ = decoding.decode(b"".join(answered(nonce) for nonce, _ in calls))
    nothing, n = LabelStandings.nothing(len(calls)), len(calls)
    judge = LabelStandings.nothing(n)
    judge.reward[:] = [value for _, value in calls]
    judge.kind[:] = FeedbackKind.JUDGE
    whole = cells.merge([*outcome_terms(records), *label_terms(records["token"], nothing, judge)])
    parts = [t for i in range(len(records)) for t in outcome_terms(records[i : i + 1])]
    for one in np.eye(n, dtype=bool):
        parts += label_terms(records["token"][one], nothing.of(one), judge.of(one))
    dice.shuffle(parts)
    split = cells.merge([cells.merge(parts[::2]), cells.merge(parts[1::2])])

    assert (whole.keys == split.keys).all()
    assert (whole.values == split.values).all()


# -- many at once --------------------------------------------------------------------------------


def one_of(found: hearing.LabelStandings, i: int) -> labels.Standing:
    """One decision's standing, out of many."""
    rewarded, derived = bool(found.is_rewarded[i]), bool(found.is_derived[i])
    return labels.Standing(
        float(found.reward[i]) if rewarded else None,
        int(found.kind[i]),
        float(found.first[i]) if rewarded else None,
        float(found.derived[i]) if derived else None,
        int(found.source[i]),
    )


@given(
    st.lists(st.lists(said, max_size=4), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), said), max_size=12),
)
def test_feedback_heard_at_once_counts_as_if_heard_one_by_one(before, items) -> None:
    def word(item: Any) -> tuple[int, Word]:
        kind, value, revision, at = item
        micro = -1 if value is None else round(value * 1e6)
        return kind, Word(revision, at.to_bytes(10, "big"), micro)

    states: list[labels.Labels] = []
    for known in before:
        states.append({})
        for item in known:
            states[-1] = labels.hear(states[-1], *word(item))
    stored = [labels.pack(state) or None for state in states]
    items = [(slot % len(states), item) for slot, item in items]
    raw = [
        events.feedback(
            token(slot),
            kind=kind,
            value=value,
            revision=at,
            event=event.to_bytes(10, "big") + bytes(6),
        )
        for slot, (kind, value, at, event) in items
    ]
    records, bad = decoding.decode(b"".join(raw))
    assert not bad
    old = [labels.standing(state) for state in states]
    is_news = []
    for slot, item in items:
        after = labels.hear(states[slot], *word(item))
        is_news.append(after is not states[slot])
        states[slot] = after

    heard = hearing.hear(stored, np.array([s for s, _ in items], dtype=np.intp), records)

    assert heard.rows == [labels.pack(state) for state in states]
    assert heard.is_news.tolist() == is_news
    for found, expected in ((heard.before, old), (heard.after, map(labels.standing, states))):
        assert [one_of(found, i) for i in range(len(states))] == list(expected)


def test_a_reference_keeps_its_latest_decisions_over_folds_and_days(
    client: Any, shard: Shard, lease: Lease
) -> None:
    digest = digests.digest16("app", "ref", "ticket-7")
    n = references.MAX_REFERENCES
    send(client, *(outcome(i, reference=digest) for i in range(1, n)))
    fold(shard, lease)
    send(client, *(outcome(i, reference=digest) for i in range(n, n + 6)), first=n - 1)
    fold(shard, lease)
    long_ago = token(1000, at_ms=NOW_MS - 20 * 86_400_000)
    flags = int(Flag.FINAL)
    old = events.outcome(
        long_ago, result=Result.OK, attempt=1, status=200, flags=flags, reference=digest
    )
    send(client, old, first=n + 5)
    fold(shard, lease)

    (found,) = references.look_up(client, [digest], n_shards=1, now_ms=NOW_MS)

    nonces = [int.from_bytes(nonce_of(t), "big") for t in found]
    assert sorted(nonces) == list(range(6, n + 6)), "earlier spans are not asked"


@pytest.mark.usefixtures("store")  # what the server forgets
def test_references_are_gone_once_nobody_asks_them(client: Any, shard: Shard, lease: Lease) -> None:
    send(client, outcome(1, reference=digests.digest16("app", "ref", "ticket-7")), feedback(1, 1.0))
    fold(shard, lease)

    hashes = client.keys("{pm:0.*}:named:*") + client.keys("{pm:0.*}:said:*")

    assert len(hashes) == 2
    assert all(36 * 86_400 < client.ttl(name) < 39 * 86_400 for name in hashes)
