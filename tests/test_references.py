"""What feedback by reference means: what had been decided when it came, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    LEARN,
    ROUTED,
    SHARDS,
    Provider,
    Sidecar,
    answer,
    endpoint,
    learning,
    serving,
    until,
)
from conftest import Reply as Answer
from pipeline import said_in_store

from router.decision.context import Moment
from router.dispatch import recent
from router.dispatch.recent import RecentNames
from telemetry import decoding, digests, events, frames, keys, references
from telemetry.events import FeedbackKind, Flag, Match, Result
from telemetry.frames import Frame
from telemetry.passed import Progress
from telemetry.reader import FATES
from telemetry.store import Address
from telemetry.tokens import TOKEN_SIZE, Token
from telemetry.young import NAME_BYTES, name_of
from workers.folding.held import MAX_ROUND, MOST_AGAIN_MS, MOST_S, References, take_up
from workers.folding.lease import Lease
from workers.folding.resolution import REMEMBERED_MS, Resolution
from workers.folding.shard import Shard

NOW_MS = int(time.time() * 1000)
TICKET = digests.digest16("app", "ref", "ticket-7")
DAY_MS = 86_400_000


def token(nonce: int, at_ms: int) -> bytes:
    raw = nonce.to_bytes(16, "big")
    return Token(1, 0, 0, raw, at_ms, 1, 2, 3, 4, 5, 6, 7, 0.5, 0.5, 0.1).pack()


def outcome(nonce: int, at_ms: int, **more: Any) -> bytes:
    flags = more.pop("flags", int(Flag.FINAL))
    names = {"reference": TICKET, **more}
    body = token(nonce, at_ms)
    return events.outcome(body, result=Result.OK, attempt=1, status=200, flags=flags, **names)


def said(number: int, received_ms: int, match: Match = Match.ONE, **more: Any) -> bytes:
    return events.feedback(
        None,
        kind=FeedbackKind.HUMAN,
        value=1.0,
        revision=0,
        event=received_ms.to_bytes(6, "big") + number.to_bytes(4, "big") + bytes(6),
        app=5,
        match=match,
        **{"reference": TICKET, "received_at_ms": received_ms, **more},
    )


class Bench:
    """One shard with its worker, stepped by hand, and a clock to move."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.sent = 0
        self.now_ms = NOW_MS
        self.begin()

    def begin(self) -> None:
        """Have a worker take the shard, whoever had it."""
        self.client.delete(keys.lease(0))
        self.lease = Lease(self.client, 0)
        assert self.lease.take()
        self.shard = Shard(self.client, 0)
        self.shard.load()
        take_up(self.client, 0)
        self.references = References(1, lambda: self.now_ms / 1000)

    def send(self, *records: bytes) -> None:
        frame = Frame(b"p" * 16, 0, self.sent, b"".join(records))
        self.sent += len(records)
        self.client.xadd(keys.stream(0), {"f": frames.pack(frame)})

    def fold(self) -> None:
        after = f"({self.shard.mark.decode()}"
        if entries := self.client.xrange(keys.stream(0), min=after):
            self.shard.fold(entries, token=self.lease.token)

    def take(self, *records: bytes) -> None:
        self.send(*records)
        self.fold()

    def look(self, after_ms: int = 1000) -> None:
        self.now_ms += after_ms
        owned = [(self.shard, self.lease.token)]
        assert self.references.look(self.client, owned, self.now_ms) == []
        self.fold()

    def labelled(self) -> set[int]:
        """The decisions that have a label."""
        return {int.from_bytes(nonce, "big") for nonce in said_in_store(self.client)}

    def count(self, name: str) -> int:
        return int(self.client.hget(keys.meta(0), f"n_{name}") or 0)

    def n_waiting(self) -> int:
        return int(self.client.hlen(keys.held(0)))

    def progress(self, name: bytes, passed_ms: int, wrote_ms: int) -> None:
        self.client.hset(keys.PASSED, name, Progress(passed_ms, wrote_ms).pack())


@pytest.fixture
def bench(client: Any) -> Bench:
    return Bench(client)


# -- which decisions are meant ------------------------------------------------------------------


@pytest.mark.parametrize(("n_later", "known"), [(100, True), (101, False)])
def test_what_may_mean_a_decision_that_is_kept_no_more_moves_no_label(
    bench: Bench, n_later: int, known: bool
) -> None:
    """Not even that of the first one that is kept, though it was decided after the feedback."""
    bench.take(outcome(1, NOW_MS - 60_000))
    bench.take(*(outcome(2 + i, NOW_MS - 50_000 + i) for i in range(n_later)))
    bench.take(said(1, NOW_MS - 55_000, Match.LAST), said(2, NOW_MS, Match.LAST))

    for _ in range(3):
        bench.look()

    assert bench.labelled() == ({1, n_later + 1} if known else {n_later + 1})
    assert (bench.count("resolved"), bench.count("too_many")) == ((2, 0) if known else (1, 1))
    assert bench.n_waiting() == 0


@pytest.mark.parametrize(("n", "meant"), [(100, 100), (101, 0), (300, 0)])
def test_all_of_a_hundred_decisions_are_meant_and_of_more_none(
    bench: Bench, n: int, meant: int
) -> None:
    bench.take(*(outcome(1 + i, NOW_MS - 50_000 + i) for i in range(n)))
    bench.take(said(1, NOW_MS, Match.ALL))

    for _ in range(3):
        bench.look()

    assert len(bench.labelled()) == meant
    assert bench.count("too_many") == (0 if meant else 1)


def test_what_a_router_knew_and_the_store_forgot_is_not_what_comes_later(bench: Bench) -> None:
    bench.take(said(1, NOW_MS, flags=int(Flag.KNOWN)), said(2, NOW_MS))
    bench.take(outcome(1, NOW_MS + 500))

    for _ in range(4):
        bench.look()

    assert (bench.count("resolved"), bench.n_waiting()) == (1, 1)
    for _ in range(3):
        bench.look(DAY_MS)
    assert (bench.count("unmatched"), bench.n_waiting()) == (1, 0)


def test_new_feedback_is_looked_at_at_once_beside_a_backlog(bench: Bench) -> None:
    """Two thousand words of what nobody decided, all of them due."""
    nobody = digests.digest16("shop", "ref", "nobody")
    backlog = [said(10 + i, NOW_MS - 60_000 + i, reference=nobody) for i in range(2 * MAX_ROUND)]
    for start in range(0, len(backlog), 200):
        bench.send(*backlog[start : start + 200])
    bench.fold()
    bench.take(outcome(1, NOW_MS - 1000), said(1, NOW_MS))

    bench.look()
    bench.look()

    assert bench.labelled() == {1}


def test_a_producer_that_hangs_is_waited_for_thirty_seconds(bench: Bench) -> None:
    bench.progress(b"hangs", NOW_MS - 900, NOW_MS - 800)
    bench.take(outcome(1, NOW_MS - 1000), said(1, NOW_MS, Match.LAST))

    for _ in range(29):
        bench.look()
        assert bench.labelled() == set()
    for _ in range(3):
        bench.look()

    assert bench.labelled() == {1}


@pytest.mark.parametrize(
    ("match", "meant", "dead"),
    [(Match.ONE, set(), 1), (Match.LAST, {2}, 0), (Match.ALL, {1, 2}, 0)],
)
def test_a_reference_means_what_was_decided_when_feedback_came(
    bench: Bench, match: Match, meant: set[int], dead: int
) -> None:
    decided = [outcome(1, NOW_MS - 9), outcome(2, NOW_MS), outcome(3, NOW_MS + 1)]
    bench.take(*decided, said(1, NOW_MS, match))

    bench.look()

    assert bench.labelled() == meant
    assert (bench.count("ambiguous"), bench.n_waiting()) == (dead, 0)


@pytest.mark.parametrize("match", list(Match))
def test_where_nothing_was_decided_it_means_what_is_decided_first(
    bench: Bench, match: Match
) -> None:
    bench.take(said(1, NOW_MS, match))
    bench.look()
    assert bench.n_waiting() == 1

    bench.take(outcome(3, NOW_MS + 30_000), outcome(2, NOW_MS + 20_000))
    bench.look(after_ms=60_000)

    assert bench.labelled() == {2}


def test_what_is_decided_first_is_settled_before_it_is_taken(bench: Bench) -> None:
    bench.take(said(1, NOW_MS))
    bench.look()
    bench.progress(b"slow", NOW_MS + 2000, NOW_MS + 61_000)
    bench.take(outcome(3, NOW_MS + 30_000))
    bench.look(after_ms=60_000)
    assert bench.labelled() == set()

    bench.take(outcome(2, NOW_MS + 20_000))  # of the one that had not passed that time
    bench.progress(b"slow", NOW_MS + 61_000, NOW_MS + 61_000)
    bench.look()

    assert bench.labelled() == {2}


def test_what_is_decided_a_day_later_is_not_meant(bench: Bench) -> None:
    bench.take(said(1, NOW_MS), outcome(1, NOW_MS + DAY_MS + 1))

    bench.look(after_ms=DAY_MS + 1000)
    bench.look(after_ms=MOST_AGAIN_MS)

    assert bench.labelled() == set()
    assert (bench.count("unmatched"), bench.n_waiting()) == (1, 0)
    ((_, letter),) = bench.client.xrange(keys.dead(0))
    assert (letter[b"reason"], letter[b"raw"]) == (b"unmatched", said(1, NOW_MS))


def test_what_came_later_is_found_within_half_of_its_age(bench: Bench) -> None:
    bench.take(said(1, NOW_MS))
    bench.look(after_ms=10_000)
    bench.take(outcome(1, NOW_MS + 10_100))

    bench.look(after_ms=4_900)
    assert bench.labelled() == set()
    bench.look(after_ms=300)
    assert bench.labelled() == {1}


# -- when it is settled -------------------------------------------------------------------------


def test_every_producer_that_lately_wrote_is_waited_for(bench: Bench) -> None:
    bench.progress(b"slow", NOW_MS - 1, NOW_MS - 5)
    bench.take(outcome(1, NOW_MS - 9), said(1, NOW_MS, Match.LAST))
    bench.look()
    assert bench.n_waiting() == 1

    bench.take(outcome(2, NOW_MS - 2))
    bench.progress(b"slow", NOW_MS, NOW_MS + 900)
    bench.look()

    assert bench.labelled() == {2}


def test_what_is_in_a_stream_is_folded_first(bench: Bench) -> None:
    bench.take(outcome(1, NOW_MS - 9), said(1, NOW_MS, Match.LAST))
    bench.send(outcome(2, NOW_MS - 2))
    owned = [(bench.shard, bench.lease.token)]
    bench.references.look(bench.client, owned, NOW_MS + 1000)
    assert bench.n_waiting() == 1

    bench.fold()
    bench.look(after_ms=1500)

    assert bench.labelled() == {2}


def test_a_producer_that_hangs_is_waited_for_half_a_minute(bench: Bench) -> None:
    bench.take(outcome(1, NOW_MS - 9), said(1, NOW_MS))
    for _ in range(30):
        bench.progress(b"hung", NOW_MS - 1, bench.now_ms)
        bench.look()
        assert bench.labelled() == set()

    bench.progress(b"hung", NOW_MS - 1, bench.now_ms)
    bench.look()

    assert MOST_S == 30.0
    assert bench.labelled() == {1}


def test_a_decision_that_comes_in_too_late_is_counted_and_gets_no_label(bench: Bench) -> None:
    bench.take(outcome(1, NOW_MS - 9), said(1, NOW_MS, Match.LAST))
    bench.look()
    bench.take(outcome(2, NOW_MS - 2), outcome(3, NOW_MS + 5))
    bench.look(after_ms=REMEMBERED_MS - 2000)
    assert bench.count("late") == 0

    bench.look(after_ms=3000)
    bench.look(after_ms=3000)

    assert bench.labelled() == {1}
    assert (bench.count("late"), bench.count("resolved")) == (1, 1)
    assert bench.client.hlen(keys.chosen(0)) == bench.client.zcard(keys.due(0)) == 0


# -- once, whatever happens ---------------------------------------------------------------------


def test_what_was_chosen_before_a_crash_is_what_is_sent_after_it(bench: Bench) -> None:
    waiting = said(1, NOW_MS, Match.LAST)
    bench.take(outcome(1, NOW_MS - 9), waiting)
    event = bench.client.hkeys(keys.held(0))[0]
    chosen = Resolution(NOW_MS, TICKET, [token(1, NOW_MS - 9)], [(1).to_bytes(16, "big")])
    bench.client.hset(keys.chosen(0), event, chosen.pack())  # and then it was killed
    bench.take(outcome(2, NOW_MS - 2))

    bench.begin()
    bench.look()
    bench.look()

    assert bench.labelled() == {1}
    assert (bench.count("resolved"), bench.n_waiting()) == (1, 0)


def test_a_worker_whose_shard_is_anothers_sends_nothing(bench: Bench) -> None:
    bench.take(outcome(1, NOW_MS - 9), said(1, NOW_MS, Match.LAST))
    stale, old = bench.references, [(bench.shard, bench.lease.token)]
    bench.begin()
    length = bench.client.xlen(keys.stream(0))

    assert stale.look(bench.client, old, NOW_MS + 1000) == [0]

    assert bench.client.xlen(keys.stream(0)) == length
    assert bench.client.hlen(keys.chosen(0)) == 0


def test_feedback_that_is_told_again_goes_to_the_same_decisions(bench: Bench) -> None:
    bench.take(outcome(1, NOW_MS - 9), said(1, NOW_MS, Match.LAST))
    bench.look()
    again = said(1, NOW_MS, Match.LAST, received_at_ms=NOW_MS + 9000)
    bench.take(outcome(2, NOW_MS + 5000), again)
    bench.look(after_ms=20_000)

    assert bench.labelled() == {1}
    assert (bench.count("resolved"), bench.n_waiting()) == (1, 0)


def test_what_the_last_version_held_is_taken_up(client: Any) -> None:
    """It said no time where that was the event's, and kept no order of what is due."""
    undated, dated = said(1, NOW_MS, received_at_ms=0), said(2, NOW_MS - 5000)
    for raw in (undated, dated):
        record, _ = decoding.decode(raw)
        client.hset(keys.held(0), record[0]["event"].tobytes(), raw)
    bench = Bench(client)
    bench.take(outcome(1, NOW_MS - 9), outcome(2, NOW_MS + 1))

    bench.look()

    assert bench.labelled() == {1}
    assert (bench.count("resolved"), bench.n_waiting()) == (2, 0)


def test_what_can_not_be_read_of_what_is_held_stands_in_nobodys_way(bench: Bench) -> None:
    bench.client.hset(keys.held(0), b"e" * 16, b"no record")
    bench.begin()
    bench.take(outcome(1, NOW_MS - 9), said(1, NOW_MS))

    bench.look()

    assert bench.labelled() == {1}
    assert bench.n_waiting() == 0


# -- what a router knows itself -----------------------------------------------------------------


def test_a_router_remembers_the_names_of_its_latest_answers() -> None:
    recent = RecentNames(most=3)
    names = [digests.digest16("app", "response", str(i)) for i in range(5)]
    for i, name in enumerate(names):
        recent.note(outcome(i, NOW_MS + i, response=name, reference=events.NO_DIGEST))
    recent.note(outcome(9, NOW_MS + 9, response=names[3], reference=events.NO_DIGEST))
    recent.note(outcome(8, NOW_MS, response=names[4], flags=0))  # not the one that was answered

    assert [len(recent.of(name)) for name in names] == [0, 0, 1, 2, 1]
    assert recent.of(names[3]) == [token(3, NOW_MS + 3), token(9, NOW_MS + 9)]


def test_an_id_that_left_early_is_a_name() -> None:
    early = outcome(4, NOW_MS, flags=int(Flag.FINAL | Flag.PROMISED))
    assert references.names_in(early) == [TICKET, (4).to_bytes(16, "big")]
    assert references.names_in(outcome(4, NOW_MS)) == [TICKET]


# -- over HTTP ----------------------------------------------------------------------------------

N = 40


@pytest.fixture
def two(provider: Provider, state_dir: Path, address: Address) -> Iterator[Sidecar]:
    value = {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "strategies": LEARN,
        "apps": ROUTED,
    }
    with serving(value, state_dir, address) as found:
        yield found


def nonce_of(sidecar: Sidecar, sealed: str) -> bytes:
    token, _ = sidecar.app.feedback._seal.open(sealed)
    return name_of(token.nonce)


def labelled(client: Any) -> set[bytes]:
    """The decisions that have a label, of all shards."""
    return {name[-NAME_BYTES:] for s in range(SHARDS) for name in said_in_store(client, s)}


def ask_b_then_a(sidecar: Sidecar, ref: str) -> list[bytes]:
    """Have one reference used by an answer of b, then by one of a; return their decisions."""
    got = [sidecar.chat(model, headers={"x-router-ref": ref}) for model in ("b", "a")]
    return [nonce_of(sidecar, each.headers["x-router-decision-id"]) for each in got]


@pytest.mark.parametrize("is_folded_first", [True, False], ids=["worker", "no worker"])
@pytest.mark.usefixtures("store")
def test_feedback_at_once_is_refused_with_every_candidate(
    two: Sidecar, state_dir: Path, address: Address, is_folded_first: bool
) -> None:
    found = []
    for i in range(N):
        if is_folded_first and not i:
            with learning(state_dir, address):
                ask_b_then_a(two, "warm")
                two.until(lambda: two.calls_known() == 2)
        asked = ask_b_then_a(two, f"ticket-{i}")
        refused = two.feedback(ref=f"ticket-{i}", passed=True)
        assert refused.status_code == 409
        assert refused.json()["error"]["code"] == "ambiguous_reference"
        candidates = refused.json()["error"]["candidates"]
        found.append([nonce_of(two, each) for each in candidates] == asked)

    assert found == [True] * N


@pytest.mark.parametrize("is_there", [True, False], ids=["worker", "worker away"])
@pytest.mark.parametrize("match", ["last", "all"])
@pytest.mark.usefixtures("store")
def test_feedback_at_once_reaches_the_newest_answer(
    two: Sidecar, state_dir: Path, address: Address, client: Any, match: str, is_there: bool
) -> None:
    older, newest = [], []

    def ask_all() -> None:
        for i in range(N):
            b, a = ask_b_then_a(two, f"ticket-{i}")
            told = two.feedback(ref=f"ticket-{i}", passed=True, match=match)
            assert told.json()["results"][0]["status"] == "accepted"
            assert told.json()["results"][0]["decisions"] == (1 if match == "last" else 2)
            older.append(b)
            newest.append(a)

    if not is_there:
        ask_all()
    with learning(state_dir, address):
        if is_there:
            ask_all()
        until(lambda: len(labelled(client)) >= N * (1 if match == "last" else 2))

    assert labelled(client) == {*newest, *(older if match == "all" else [])}


@pytest.mark.usefixtures("store")
def test_an_answer_id_that_a_provider_uses_again_means_the_newest_answer(
    two: Sidecar, provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    for host in "ab":
        provider.on(host, Answer(body=answer(answer_id="chatcmpl-same")))
    with learning(state_dir, address):
        got = [two.chat(model) for model in ("b", "a", "b")]
        asked = [nonce_of(two, each.headers["x-router-decision-id"]) for each in got]
        refused = two.feedback(response_id="chatcmpl-same", thumb="up")
        told = two.feedback(response_id="chatcmpl-same", thumb="up", match="last")
        until(lambda: labelled(client))

    assert refused.status_code == 409
    assert len(refused.json()["error"]["candidates"]) == 3
    assert told.json()["results"][0]["decisions"] == 1
    assert labelled(client) == {asked[-1]}


@pytest.mark.usefixtures("store")
def test_two_routers_whose_clocks_differ_agree_on_what_is_the_newest(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    value = {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "strategies": LEARN,
        "apps": ROUTED,
    }

    def slow() -> Moment:
        return Moment(time.time() - 420, time.monotonic())

    with (
        serving(value, state_dir / "one", address) as one,
        serving(value, state_dir / "two", address, clock=slow) as other,
        learning(state_dir / "one", address),
    ):
        other.until(lambda: other.app.writer.clock.offset_ms > 0)
        newest = []
        for i in range(5):
            one.chat("b", headers={"x-router-ref": f"ticket-{i}"})
            time.sleep(0.5)  # far above what the two may be wrong by, however busy the machine
            got = other.chat("a", headers={"x-router-ref": f"ticket-{i}"})
            newest.append(nonce_of(other, got.headers["x-router-decision-id"]))
            time.sleep(0.5)  # as the word means what had been decided by then
            told = one.feedback(ref=f"ticket-{i}", passed=True, match="last")
            assert told.status_code == 202
        until(lambda: len(labelled(client)) >= 5, within_s=20)

    assert labelled(client) == {*newest}


@pytest.mark.usefixtures("store")
def test_what_only_a_worker_finds_ambiguous_is_a_dead_letter(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    value = {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "strategies": LEARN,
        "apps": ROUTED,
    }

    def count(name: str) -> int:
        return sum(int(client.hget(keys.meta(s), f"n_{name}") or 0) for s in range(SHARDS))

    with (
        serving(value, state_dir / "one", address) as one,
        serving(value, state_dir / "two", address) as other,
    ):
        one.chat("b", headers={"x-router-ref": "ticket"})
        other.chat("a", headers={"x-router-ref": "ticket"})
        told = one.feedback(ref="ticket", passed=True)
        assert told.json()["results"][0] == told.json()["results"][0] | {
            "status": "accepted",
            "decisions": 1,
        }
        with learning(state_dir / "one", address):
            until(lambda: count("ambiguous") == 1, within_s=20)
        one.until(lambda: "router_feedback_ambiguous 1" in one.http.get("/metrics").text)
        shown = one.http.get("/v1/router/posteriors").json()["references"]

    assert shown == dict.fromkeys(FATES, 0) | {"ambiguous": 1}
    assert labelled(client) == set()


def test_a_store_that_is_away_leaves_what_a_router_knows_itself(
    provider: Provider, state_dir: Path
) -> None:
    value = {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "strategies": LEARN,
        "apps": ROUTED,
    }
    with serving(value, state_dir, Address(f"unix://{state_dir}/nobody")) as sidecar:
        asked = ask_b_then_a(sidecar, "ticket")
        refused = sidecar.feedback(ref="ticket", passed=True)
        told = sidecar.feedback(ref="ticket", passed=True, match="all")

        assert refused.status_code == 409
        assert [nonce_of(sidecar, c) for c in refused.json()["error"]["candidates"]] == asked
        assert told.json()["results"][0]["decisions"] == 2


@pytest.mark.parametrize(
    ("header", "named"),
    [("ü1", "ü1"), ("23.0", "23"), ("23", "23.0"), ("4.10", "4.10")],
)
def test_a_reference_of_a_header_is_the_one_of_a_body(
    provider: Provider, state_dir: Path, address: Address, header: str, named: str
) -> None:
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as sidecar:
        sidecar.chat("a", headers={"x-router-ref": header.encode()})
        told = sidecar.feedback(ref=named, passed=True).json()["results"][0]

    assert (told["status"], told["decisions"]) == ("accepted", 1)


def test_what_a_router_remembers_of_names_is_bounded_in_bytes(monkeypatch: Any) -> None:
    """Names that mean a hundred decisions each, too; the latest are known."""
    monkeypatch.setattr(recent, "MAX_BYTES", 100_000)
    known = RecentNames()
    names = [digests.digest16("shop", "ref", str(n)) for n in range(40)]
    for name in names:
        for n in range(150):
            known.note(outcome(n, NOW_MS + n, reference=name))

    found = [len(known.of(name)) for name in names]

    assert found[-8:] == [references.MAX_REFERENCES] * 8
    assert sum(found) * TOKEN_SIZE <= 100_000
