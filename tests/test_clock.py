"""The store's clock, and how far each producer says that it is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import LEARN, ROUTED, SHARDS, Provider, endpoint, outcome_of, serving, until
from hypothesis import given
from hypothesis import strategies as st

from router.decision.context import Moment
from telemetry import keys
from telemetry.clock import StoreClock
from telemetry.passed import COUNTS_MS, FORGOTTEN_MS, Progress, forget_silent, is_passed, words
from telemetry.store import Address
from telemetry.writer import Counters, ProgressTeller, Sender, Writer

MINUTE_MS = 60_000.0


class Told:
    """A store with a clock of its own; each answer takes its time."""

    def __init__(
        self, ahead_s: float, *, way_there_s: float = 0.0, way_back_s: float = 0.0
    ) -> None:
        self.now = 1_000_000.0
        self.ahead_s = ahead_s
        self.ways = way_there_s, way_back_s

    def own(self) -> float:
        return self.now

    def eval(self, script: str, n_keys: int, key: str) -> list[bytes]:
        self.now += self.ways[0]
        at = self.now + self.ahead_s
        self.now += self.ways[1]
        return [b"%d" % int(at), b"%d" % int(at % 1 * 1e6)]


def test_until_the_store_was_heard_ones_own_clock_holds() -> None:
    assert StoreClock(lambda: 1234.5).now_ms() == 1_234_500


@given(st.floats(-600, 600), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_store_minutes_away_is_known_to_half_of_an_answers_delay(
    ahead_s: float, there_s: float, back_s: float
) -> None:
    store = Told(ahead_s, way_there_s=there_s, way_back_s=back_s)
    clock = StoreClock(store.own)

    clock.ask(store)

    wrong_ms = abs(clock.now_ms() - (store.now + ahead_s) * 1000)
    assert wrong_ms <= (there_s + back_s) * 1000 / 2 + 1.01


def test_the_quickest_of_the_last_answers_holds() -> None:
    store = Told(120.0, way_there_s=0.4)
    clock = StoreClock(store.own)
    clock.ask(store)
    store.ways = 0.001, 0.001
    clock.ask(store)
    store.ways = 0.4, 0.0
    for _ in range(3):
        clock.ask(store)

    assert clock.offset_ms == pytest.approx(2 * MINUTE_MS, abs=1)


def test_a_clock_that_was_set_is_believed_at_once() -> None:
    store = Told(120.0, way_there_s=0.001, way_back_s=0.001)
    clock = StoreClock(store.own)
    clock.ask(store)
    store.ways = 0.1, 0.1
    store.ahead_s = -300.0
    clock.ask(store)

    assert clock.offset_ms == pytest.approx(-5 * MINUTE_MS, abs=100)


def test_a_store_that_tells_no_time_leaves_what_is_known() -> None:
    class Mute:
        def eval(self, *_: object) -> object:
            raise redis.ResponseError("NOPERM")

    clock = StoreClock(offset_ms=5.0)
    clock.ask(Mute())

    assert clock.offset_ms == 5.0


def test_a_decision_is_dated_by_the_stores_clock(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    value = {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "strategies": LEARN,
        "apps": ROUTED,
    }

    def slow() -> Moment:
        return Moment(time.time() - 300, time.monotonic())

    with serving(value, state_dir, address, clock=slow) as sidecar:
        sidecar.until(lambda: sidecar.app.writer.clock.offset_ms > 0)
        before = time.time() * 1000
        sealed = sidecar.chat().headers["x-router-decision-id"]
        after = time.time() * 1000

        found = sidecar.http.get(f"/v1/router/decisions/{sealed}").json()

    assert before - 20 <= found["decided_at_ms"] <= after + 20


# -- how far a producer is ----------------------------------------------------------------------


@pytest.fixture
def writer(state_dir: Path, address: Address) -> Any:
    found = Writer(state_dir / "journal", address, SHARDS)
    found.start()
    yield found
    found.close()


def test_what_was_put_by_the_time_that_a_writer_says_it_passed_is_in_the_streams(
    writer: Writer, client: Any
) -> None:
    for number in range(40):
        before_ms = writer.clock.now_ms()
        writer.put(outcome_of(number))
        until(lambda: sum(client.xlen(keys.stream(s)) for s in range(SHARDS)))
        until(lambda at=before_ms: words(client)[0].passed_ms >= at)  # type: ignore[misc]

        sent = [f[b"f"] for s in range(SHARDS) for _, f in client.xrange(keys.stream(s))]
        assert any(number.to_bytes(16, "big") in frame for frame in sent)


def test_an_idle_writer_says_once_more_how_far_it_is(writer: Writer, client: Any) -> None:
    writer.put(outcome_of(1))
    until(lambda: words(client))
    (first,) = words(client)

    until(lambda: words(client)[0].passed_ms > first.passed_ms, within_s=3)
    (second,) = words(client)

    assert second.wrote_ms == first.wrote_ms
    assert 900 <= second.passed_ms - first.wrote_ms <= 2500


def test_a_writer_that_ends_is_waited_for_no_more(
    state_dir: Path, address: Address, client: Any
) -> None:
    writer = Writer(state_dir / "journal", address, SHARDS)
    writer.start()
    writer.put(outcome_of(1))
    until(lambda: words(client))

    writer.close()

    assert words(client) == []
    assert is_passed(words(client), 7)


def test_a_writer_that_has_more_to_send_has_passed_nothing_yet(
    state_dir: Path, client: Any
) -> None:
    writer = Writer(state_dir / "journal", Address("redis://127.0.0.1:1"), SHARDS)
    writer.start()  # the store is away for it
    for number in range(300):
        writer.put(outcome_of(number))
    journal = writer._journal
    assert journal is not None
    clock = StoreClock(lambda: 50.0)
    teller = ProgressTeller(journal.producer, clock)
    sender = Sender(journal.directory, client, Counters(), teller)

    assert sender.send_some(keep=journal.current, at_ms=40_000) == 256
    assert words(client) == [Progress(0, 50_000)]
    assert sender.send_some(keep=journal.current, at_ms=41_000) == 44
    assert words(client) == [Progress(41_000, 50_000)]
    writer.close(timeout_s=0)


def test_only_who_lately_wrote_is_waited_for(client: Any) -> None:
    now_ms = 10 * FORGOTTEN_MS
    said = {
        b"busy": Progress(now_ms - 700, now_ms - 600),
        b"idle": Progress(now_ms - 90_000, now_ms - COUNTS_MS - 701),
        b"gone": Progress(now_ms - FORGOTTEN_MS - 1, now_ms - FORGOTTEN_MS - 1),
        b"odd": Progress(0, 0),
    }
    client.hset(keys.PASSED, mapping={name: word.pack() for name, word in said.items()})

    assert is_passed(words(client), now_ms - 700)
    assert not is_passed(words(client), now_ms - 699)
    forget_silent(client, now_ms)

    assert set(client.hkeys(keys.PASSED)) == {b"busy", b"idle"}


# -- clocks that are set ------------------------------------------------------------------------


def test_a_clock_that_is_set_while_the_process_runs_dates_nothing_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = StoreClock()
    before_ms = clock.now_ms()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 7200)

    assert before_ms <= clock.now_ms() <= before_ms + 5000


def test_a_call_is_dated_by_what_passed_since_its_process_began(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    """Also while the wall clock is two hours ahead, before the store is asked again."""
    ahead = [0.0]

    def stepped() -> Moment:
        return Moment(time.time() + ahead[0], time.monotonic())

    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address, clock=stepped) as s:
        ahead[0] = 7200.0
        before_ms = time.time() * 1000
        sealed = s.chat("a").headers["x-router-decision-id"]
        found = s.http.get(f"/v1/router/decisions/{sealed}").json()

    assert before_ms - 50 <= found["decided_at_ms"] <= time.time() * 1000 + 50


def test_a_word_that_was_ahead_is_taken_back(client: Any) -> None:
    """Said before the store's own time was known."""
    now_s = [9000.0]
    teller = ProgressTeller(b"p", StoreClock(lambda: now_s[0]))
    teller.add(client, 9_000_000)
    now_s[0] = 100.0
    teller.add(client, 0)

    assert words(client) == [Progress(100_000, 100_000)]
    teller.give(client, 100_001, is_look=True, is_last=False)
    assert words(client) == [Progress(100_001, 100_000)]


def test_nobody_says_how_far_he_is_before_what_an_earlier_life_left_is_sent(
    state_dir: Path, address: Address, client: Any
) -> None:
    """Feedback that comes after a restart means what was decided before it."""
    root = state_dir / "journal"
    left = Writer(root, Address("redis://127.0.0.1:1"), SHARDS)
    left.start()
    left.put(outcome_of(1))
    left.close(timeout_s=0)
    writer = Writer(root, address, SHARDS)
    writer.start()
    writer.put(outcome_of(2))

    until(lambda: any(word.passed_ms for word in words(client)))

    sent = b"".join(f[b"f"] for s in range(SHARDS) for _, f in client.xrange(keys.stream(s)))
    assert all(number.to_bytes(16, "big") in sent for number in (1, 2))
    writer.close()
