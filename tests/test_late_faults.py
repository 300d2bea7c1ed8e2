"""Old decisions where something went wrong: clocks, stores that came back with less, names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pipeline import said_in_store
from test_thaw import FINAL, OldLife, by_reference
from test_thaw import life as life
from test_workers_archive import outcome
from test_young import DAY_MS, check, name, referee, told

from telemetry import frames, keys, references
from telemetry.frames import Frame
from telemetry.layouts import TOKEN
from telemetry.store import prepare
from telemetry.young import HOUR_MS, SPAN_MS
from workers.archive import thaw as thaw_module
from workers.archive.thaw import Thawing
from workers.folding.held import SOUGHT_AGAIN_MS
from workers.folding.lease import Lease

NONCE_1 = (1).to_bytes(16, "big")


def judged_five_days_ago(life: OldLife) -> int:
    """Decision 1 is five days old, and was judged then."""
    at_ms = life.real_ms() - 5 * DAY_MS
    life.tell_at(
        [(at_ms, outcome(1, at_ms=at_ms)), (at_ms + 5, told(1, 0.25, at_ms, heard_ms=at_ms))]
    )
    life.come_to_now()
    return at_ms


def in_other_hands(life: OldLife) -> None:
    """Another worker and another jobs process, at a store that may be another one."""
    life.client.delete(keys.lease(0))
    life.lease = Lease(life.client, 0)
    assert life.lease.take()
    life.begin(24)
    life.thawing = Thawing()


# -- what a reference means ---------------------------------------------------------------------


@pytest.mark.parametrize("first", ["worker", "job"])
def test_a_word_on_an_old_decision_never_goes_to_the_next_of_its_name(
    life: OldLife, first: str
) -> None:
    at_ms = life.real_ms() - 2 * DAY_MS
    life.tell_at([(at_ms, outcome(2, at_ms=at_ms, flags=FINAL, reference=name(2)))])
    life.come_to_now()
    now_ms = life.real_ms()
    life.say(by_reference(2, 1.0, heard_ms=now_ms))
    life.say(outcome(4, at_ms=now_ms + 2000, flags=FINAL, reference=name(2)))
    if first == "worker":
        life.resolve_all()
        life.fold()
    life.settle()

    assert (4).to_bytes(16, "big") not in said_in_store(life.client)
    assert (life.count("cold"), life.count("resolved"), life.count("feedback")) == (1, 1, 1)
    check(life.archive, referee(life))


def test_a_word_before_its_decision_waits_for_the_archive_and_goes_there(life: OldLife) -> None:
    life.come_to_now()
    now_ms = life.real_ms()
    life.say(by_reference(2, 1.0, heard_ms=now_ms))
    life.say(outcome(2, at_ms=now_ms + 2000, flags=FINAL, reference=name(2)))
    life.settle()

    assert (2).to_bytes(16, "big") in said_in_store(life.client)
    assert life.client.hlen(keys.sought(0)) == 0


def test_a_burst_of_one_name_sends_no_word_to_the_decision_before_it(life: OldLife) -> None:
    """More are made in a span than are kept: what they hide is not known, and not guessed."""
    first_ms = (life.real_ms() // SPAN_MS - 3) * SPAN_MS + 1000
    burst_ms = first_ms + SPAN_MS
    life.tell_at([(first_ms, outcome(1, at_ms=first_ms, flags=FINAL, reference=name(2)))])
    life.tell_at(
        [
            (burst_ms + n, outcome(1000 + n, at_ms=burst_ms + n, flags=FINAL, reference=name(2)))
            for n in range(150)
        ]
    )
    life.tell(by_reference(2, 1.0, heard_ms=burst_ms + 20), after_ms=3000)
    life.resolve_all()
    life.fold()

    assert said_in_store(life.client) == {}
    assert life.reasons() == ["too_many"]


def test_a_busy_name_is_read_as_far_as_it_may_mean_anything(life: OldLife) -> None:
    now_ms = life.real_ms()
    life.now_ms = now_ms - 20 * HOUR_MS
    for span in range(9):
        at_ms = now_ms - (9 - span) * SPAN_MS
        n = range(1000 * span, 1000 * span + 101)
        life.tell(*(outcome(i, at_ms=at_ms, flags=FINAL, reference=name(1)) for i in n))
        life.now_ms = at_ms + 1
    asked = [name(1)] * 500

    found = references.look_up(life.client, asked, n_shards=1)

    assert [len(tokens) for tokens in found] == [101] * 500
    assert found[0] is found[1]


def test_what_came_in_a_day_late_and_turned_old_unseen_is_found(
    life: OldLife, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A router was down with outcomes in its journal; feedback by reference waits meanwhile."""
    life.come_to_now()
    now_ms = life.real_ms()
    at_ms, heard_ms = now_ms - 26 * HOUR_MS, now_ms - 20 * HOUR_MS
    life.say(by_reference(2, 1.0, heard_ms=heard_ms))
    life.resolve_all()
    life.thaw()
    assert life.client.hvals(keys.sought(0))[0]
    life.say(outcome(2, at_ms=at_ms, flags=FINAL, reference=name(2)))
    life.take()
    life.prune()
    later_ms = now_ms + SOUGHT_AGAIN_MS + 180_000
    monkeypatch.setattr(thaw_module, "_now_ms", lambda client: later_ms)
    life.settle()

    assert life.client.hlen(keys.held(0)) == 0
    assert life.count("feedback") == 1


# -- what was said before -----------------------------------------------------------------------


def test_the_words_of_a_store_that_was_emptied_are_not_taken_back(life: OldLife) -> None:
    """The archive is the old store's until the new one has its first file."""
    at_ms = judged_five_days_ago(life)
    life.client.flushall()
    prepare(life.client, shards=1)
    in_other_hands(life)
    life.numbers = dict.fromkeys(life.numbers, 10**6)
    life.say(outcome(50, at_ms=life.real_ms()))
    life.say(told(1, 1.0, at_ms, heard_ms=life.real_ms(), revision=1))

    assert life.thaw() == 1
    life.fold()
    life.take()

    assert life.audit().equal


@pytest.mark.usefixtures("store")  # that dumps and restores
def test_the_words_that_a_store_lost_are_not_put_back(life: OldLife) -> None:
    """It came back as of some minutes ago, and a file of the archive is ahead of it."""
    at_ms = judged_five_days_ago(life)
    kept = {key: life.client.dump(key) for key in life.client.keys("*")}
    life.say(told(1, 0.5, at_ms, heard_ms=life.real_ms(), revision=1))
    life.thaw()
    life.fold()
    life.take()
    life.client.flushall()
    for key, value in kept.items():
        life.client.restore(key, 0, value)
    in_other_hands(life)
    life.say(told(1, 1.0, at_ms, heard_ms=life.real_ms(), revision=2))
    for _ in range(2):
        life.thaw()
        life.fold()
        life.take()

    assert life.client.hlen(keys.cold(0)) == 0
    assert life.audit().equal


def test_a_clock_that_was_ahead_drops_nothing_before_it_is_folded(life: OldLife) -> None:
    at_ms = judged_five_days_ago(life)
    ahead_ms = life.real_ms() + 2 * DAY_MS
    life.send(outcome(77, at_ms=life.real_ms()), entry_id=f"{ahead_ms}-1")
    life.fold()
    life.take()
    life.prune()
    life.say(told(1, 1.0, at_ms, heard_ms=life.real_ms(), revision=1))
    life.take()

    assert life.thaw() == 1
    life.take()
    life.prune()
    life.fold()

    check(life.archive, referee(life))


def test_what_a_stopped_worker_folds_late_does_not_go_before_it_is_sent_again(
    life: OldLife,
) -> None:
    at_ms = judged_five_days_ago(life)
    life.say(told(1, 1.0, at_ms, heard_ms=life.real_ms(), revision=1))
    assert life.thaw() == 1
    ((entry, frame),) = life.client.xrevrange(keys.stream(0), count=1)
    sent_ms = int(entry.split(b"-")[0])
    late_ms = sent_ms + 70 * 60_000  # another jobs process, that knows nothing, sends it again
    row = life.client.hget(keys.thawed(0), NONCE_1)
    life.client.hset(keys.thawed(0), NONCE_1, late_ms.to_bytes(6, "big") + row[6:])
    producer = next(iter(life.numbers))
    other = frames.pack(Frame(producer, 0, life.numbers[producer], outcome(9000, at_ms=sent_ms)))
    life.client.xadd(keys.stream(0), {"f": other}, id=f"{sent_ms + 61 * 60_000}-1")
    life.client.xadd(keys.stream(0), frame, id=f"{late_ms}-1")
    for _ in range(2):
        life.fold(1)
        life.take()
    life.prune()
    life.fold()

    check(life.archive, referee(life))


def test_what_was_heard_on_the_thirtieth_day_counts_after_midnight(life: OldLife) -> None:
    day_ms = life.real_ms() // DAY_MS * DAY_MS
    at_ms = day_ms - 31 * DAY_MS + HOUR_MS
    life.now_ms = at_ms - HOUR_MS
    life.tell_at(
        [(at_ms, outcome(1, at_ms=at_ms)), (at_ms + 5, told(1, 0.25, at_ms, heard_ms=at_ms))]
    )
    life.now_ms = day_ms - 3000
    heard = told(1, 1.0, at_ms, heard_ms=day_ms - 3000, revision=1, received_at_ms=day_ms - 3000)
    life.tell(heard, after_ms=1)
    life.take()

    assert life.thaw() == 1
    life.fold()

    assert life.reasons() == []
    check(life.archive, referee(life))


# -- a table that is gone -----------------------------------------------------------------------


def test_without_the_table_of_kinds_no_reference_means_another_decision(life: OldLife) -> None:
    """A server that evicts took it: what it named is not known any more, and nothing falls."""
    references._KINDS.clear()
    at_ms = life.real_ms() - HOUR_MS
    life.now_ms = at_ms
    own = range(1, 6)
    life.tell(*(outcome(k, at_ms=at_ms, flags=FINAL, reference=name(k)) for k in own))
    life.client.delete(keys.kinds(0))
    life.say(by_reference(2, 1.0, heard_ms=life.real_ms()))
    life.resolve_all()
    assert references.look_up(life.client, [name(2)], n_shards=1) == [[]]

    in_other_hands(life)
    others = range(12, 6, -1)
    life.say(*(outcome(k, at_ms=at_ms, flags=FINAL, reference=name(k)) for k in others))

    assert references.look_up(life.client, [name(k) for k in own], n_shards=1) == [[]] * 5
    for k, tokens in zip(
        others, references.look_up(life.client, [name(k) for k in others], n_shards=1), strict=True
    ):
        (token,) = np.frombuffer(b"".join(tokens), dtype=TOKEN)
        assert (token["category"], token["executed"]) == expected(k)


def expected(k: int) -> Any:
    record = np.frombuffer(references.token_in(outcome(k)), dtype=TOKEN)[0]
    return record["category"], record["executed"]
