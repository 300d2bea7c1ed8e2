"""Chains of calls: what comes after a call counts for the endpoint that it began at."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import A_TICK, LEARN, Provider, Reply, Sidecar, answer, endpoint, learning, serving
from conversations import Turn, ask, said, user
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from observing import SALT, to_call
from rich.console import Console
from test_attempt_costs import records
from test_ledger_fold import AT_ONCE, Books

from bandit import cells, chains
from bandit.draws import LEARNING, propensities, tabulate
from bandit.evidence import Evidence
from bandit.families import N_COLUMNS, C, Family, L, Q, R, U
from bandit.hosts import compare
from bandit.matrix import rows
from bandit.posterior import Arms, Posterior, infer
from bandit.utility import BALANCED, Objective, Order, best_hosts, mean_utility
from router.dispatch.chain import WaitedFor
from router.dispatch.ending import Ending
from router.report.chains import chain_line
from router.report.matrix_table import print_matrix
from router.report.views import report_rows
from telemetry import events, frames, keys
from telemetry.decoding import decode
from telemetry.events import FeedbackKind, Flag, Kind, Result, Source
from telemetry.frames import Frame
from telemetry.layouts import RECORD
from telemetry.repeats import Repeat, repeated
from telemetry.store import SCHEMA, Address
from telemetry.tokens import Token
from workers.archive.audit import audit_state
from workers.archive.restore import restore
from workers.folding.batch import take_apart
from workers.folding.effects import effects
from workers.observer.attempts import ToldRepeat
from workers.observer.rewards import Memory, ObservedCall, derive

OLD = json.loads((Path(__file__).parent / "data" / "store_of_schema_7.json").read_text())
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
NOW_MS = 20_000 * DAY_MS + 5 * HOUR_MS
TASK, APP = 3, 1
CHEAP, DEAR = 10, 11
CHEAPEST, FASTEST = Objective(Order.CHEAPEST), Objective(Order.FASTEST)
KNOWN = int(Flag.USAGE_KNOWN | Flag.FINAL | Flag.PRICED)


def token(nonce: int, at: int = CHEAP, *, at_ms: int = NOW_MS) -> bytes:
    """A decision of the task, of whom it says that it was served at an endpoint."""
    return Token(
        *(1, 0, int(Flag.ROUTED), nonce.to_bytes(16, "big"), at_ms, TASK, 2, at, 4, APP, 6, 7),
        *(0.5, 0.5, 0.1, 0.4),
    ).pack()


def attempt(nonce: int, at: int = CHEAP, *, at_ms: int = NOW_MS, **more: Any) -> bytes:
    rest = {"result": Result.OK, "attempt": 1, "status": 200, "flags": KNOWN, "latency_s": 1.0}
    rest |= {"first_endpoint": at, "cost_nano": 1000, **more}
    return events.outcome(token(nonce, at, at_ms=at_ms), **rest)


def again(first: int, at: int = CHEAP, *, to: int = CHEAP, nano: int = 7, s: float = 2.5) -> Repeat:
    return Repeat(token(first, at), at, to, nano, s)


def folded(*batches: list[bytes]) -> dict[bytes, list[int]]:
    """The rows that records give, folded batch by batch; those of zeros are none."""
    parts = []
    for number, batch in enumerate(batches):
        frame = frames.pack(Frame(number.to_bytes(16, "big"), 0, 0, b"".join(batch)))
        taken = take_apart([(b"%d-1" % NOW_MS, {b"f": frame})], {})
        assert not taken.dead
        parts.append(effects(taken, {}).terms)
    rows = cells.merge(parts)
    return {k.tobytes(): v.tolist() for k, v in zip(rows.keys, rows.values, strict=True) if v.any()}


def evidence_of(batch: list[bytes]) -> Evidence:
    """What records come to, of both endpoints in the one task."""
    frame = frames.pack(Frame(b"p" * 16, 0, 0, b"".join(batch)))
    terms = effects(take_apart([(b"%d-1" % NOW_MS, {b"f": frame})], {}), {}).terms
    return cells.read(
        terms,
        categories=np.array([TASK], dtype=np.uint64),
        endpoints=np.array([CHEAP, DEAR], dtype=np.uint64),
        now_ms=NOW_MS,
    )


# -- folding ------------------------------------------------------------------------------------


def test_attempts_and_repeats_count_for_the_endpoint_that_the_chain_began_at() -> None:
    found = evidence_of(
        [
            attempt(1, CHEAP, result=Result.SERVER),
            attempt(1, DEAR, attempt=2, first_endpoint=CHEAP, cost_nano=5, added_s=0.25),
            attempt(1, DEAR, attempt=3, first_endpoint=CHEAP, cost_nano=6, added_s=1.0),
            attempt(2, DEAR),
            repeated(again(1, CHEAP, to=DEAR)),
        ]
    ).chains[0]

    cheap, dear = (found / found[0, C.CALLS]).round(3).tolist()  # all of one weight
    assert cheap == [1, 0, 2, 11, 1250, 1, 7, 2500, 0, 0]
    assert dear == [1, 1, 0, 0, 0, 0, 0, 0, 0, 0], "that call repeats another"


def test_records_of_before_chains_were_counted_add_nothing_to_them() -> None:
    old = [attempt(1, first_endpoint=0), attempt(1, attempt=2, first_endpoint=0, cost_nano=9)]

    assert not evidence_of(old).chains.any()
    assert evidence_of(old).usage[0, 0, U.CALLS] == 2


def test_a_repeat_is_no_label_and_costs_nothing_by_itself() -> None:
    found = evidence_of([attempt(1), repeated(again(1))])

    plain = evidence_of([attempt(1)])
    for name in ("quality", "usage", "latency", "reliability", "derived"):
        assert np.array_equal(getattr(found, name), getattr(plain, name))


def test_what_was_told_and_taken_back_leaves_exactly_nothing() -> None:
    odd = again(1, nano=123_457, s=1.2345, to=DEAR)
    told = [repeated(odd), repeated(odd, taken_back=True)]

    assert folded([attempt(1)], told[:1], told[1:]) == folded([attempt(1)])
    assert folded([attempt(1), *told]) == folded([attempt(1)])


def test_taking_back_what_the_store_never_heard_damages_no_cell() -> None:
    found = evidence_of([attempt(1), repeated(again(1), taken_back=True)])

    posterior = infer(found, arms())

    assert not posterior.damaged.any()
    assert not posterior.chains.usd.any()


def test_a_repeat_is_read_back_as_it_was_written_and_no_other_value_is() -> None:
    found, bad = decode(repeated(again(1, nano=2**40, s=601.5)))
    (one,) = found

    assert (one["kind"], one["cost_nano"], one["added_ms"]) == (Kind.REPEAT, 2**40, 601_500)
    assert (one["first_endpoint"], one["repeat_endpoint"], bad) == (CHEAP, CHEAP, [])
    raw = bytearray(repeated(again(1)))
    at = RECORD.fields["value_micro"][1]
    raw[at] = 5
    body = bytes(raw[: -events.SEAL.size])
    assert len(decode(events.sealed(body))[0]) == 0


some_records = st.lists(
    st.one_of(
        st.builds(
            lambda n, at, number, first, nano, s: attempt(
                n, at, attempt=number, first_endpoint=first, cost_nano=nano, added_s=s
            ),
            st.integers(1, 9),
            st.sampled_from([CHEAP, DEAR]),
            st.integers(1, 3),
            st.sampled_from([0, CHEAP, DEAR]),
            st.integers(0, 2**40),
            st.floats(0, 10_000),
        ),
        st.builds(
            lambda n, at, to, nano, s, back: repeated(
                again(n, at, to=to, nano=nano, s=s), taken_back=back
            ),
            st.integers(1, 9),
            st.sampled_from([CHEAP, DEAR]),
            st.sampled_from([CHEAP, DEAR]),
            st.integers(0, 2**40),
            st.floats(0, 10_000),
            st.booleans(),
        ),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60)
@given(some_records, st.randoms(use_true_random=False), st.integers(1, 4))
def test_chains_add_up_whatever_the_order_and_the_batches(
    batch: list[bytes], dice: Any, n_parts: int
) -> None:
    shuffled = dice.sample(batch, len(batch))

    assert folded(*(shuffled[i::n_parts] for i in range(n_parts))) == folded(batch)


# -- what is expected ---------------------------------------------------------------------------


def arms(group: tuple[int, ...] = (0, 1), usd: tuple[float, ...] = (1.0, 1.5)) -> Arms:
    prices = np.array(usd)
    return Arms(np.array(group), np.arange(max(group) + 1), prices, prices)


def believed(
    after: dict[int, dict[C, float]], *, n: float = 1000.0, of: Arms | None = None
) -> Posterior:
    """Two endpoints of equal quality and speed, and what came after their calls."""
    found = Evidence.empty(1, 2)
    found.quality[..., [Q.LABELS, Q.N, Q.R, Q.R2]] = n, n, 0.8 * n, 0.8 * n
    found.usage[..., [U.CALLS, U.N, U.TOKENS_IN, U.TOKENS_OUT]] = n, n, 500 * n, 500 * n
    found.latency[..., [L.N, L.LN, L.LN2]] = n, 0.0, 0.01 * n
    found.reliability[..., R.OK] = n
    found.chains[..., C.CALLS] = n
    for arm, columns in after.items():
        for column, value in columns.items():
            found.chains[0, arm, column] = value
    return infer(found, of or arms())


def test_what_comes_after_a_call_is_by_call_and_by_chain() -> None:
    values = np.zeros((1, 1, N_COLUMNS))
    values[0, 0, : C.AGAIN_MS + 1] = 97, 50, 10, 3e9, 20_000, 50, 10e9, 500_000

    found = chains.fit(values)

    # 100 calls with the prior's, and 50 chains.
    assert found.usd[0, 0] == pytest.approx(3 / 100 + 10 / 50)
    assert found.seconds[0, 0] == pytest.approx(20 / 100 + 500 / 50)
    assert found.per_call[0, 0] == pytest.approx(10 / 100 + 50 / 50)
    assert found.links[0, 0] == 60


def test_of_whom_nothing_is_known_nothing_is_expected() -> None:
    found = chains.fit(np.zeros((2, 3, N_COLUMNS)))

    assert not found.usd.any()
    assert not found.seconds.any()
    assert found.luck(0, np.random.default_rng(1), n_draws=4, sharpness=1.0) == 1.0


def test_more_repeats_than_calls_are_no_division_by_nothing() -> None:
    values = np.zeros((1, 1, N_COLUMNS))
    values[0, 0, [C.CALLS, C.REPEATS, C.N_AGAIN, C.AGAIN_NANO]] = 2, 5, 5, 3e9

    assert chains.fit(values).usd[0, 0] == pytest.approx(1.0)


def test_where_nothing_came_after_calls_all_is_as_if_chains_were_not_counted() -> None:
    found, plain = believed({}), believed({0: {C.CALLS: 0}, 1: {C.CALLS: 0}})

    for objective in (CHEAPEST, FASTEST, BALANCED):
        tables = [shares(posterior, objective) for posterior in (found, plain)]
        assert np.array_equal(*tables)
    assert np.array_equal(found.cost_usd, found.call_usd)
    assert np.array_equal(found.cost_ln_sd, found.call_ln_sd)


def test_the_luck_of_chains_is_on_average_none_and_pays_as_long_as_it_waits() -> None:
    bank = believed({0: {C.N_AGAIN: 20, C.AGAIN_NANO: 2e7, C.AGAIN_MS: 9e5}}).bank(0)

    plain = believed({}).bank(0)
    more_s = bank.latency_s[:, 0] - plain.latency_s[:, 0]
    more_usd = bank.drawn_usd[:, 0] - plain.drawn_usd[0, 0]
    assert more_usd.mean() == pytest.approx(bank.posterior.chains.usd[0, 0], rel=0.1)
    assert np.allclose(more_s / more_s.mean(), more_usd / more_usd.mean())
    assert np.array_equal(bank.latency_s[:, 1], plain.latency_s[:, 1])
    assert bank.spent_usd[:, 0].mean() == pytest.approx(bank.cost_usd[0], rel=0.1)


def test_a_limit_of_one_call_is_not_of_its_chain() -> None:
    found = believed({0: {C.N_AGAIN: 500, C.AGAIN_NANO: 1e12}})

    assert np.array_equal(found.cost_bound_usd, believed({}).cost_bound_usd)
    assert found.cost_usd[0, 0] > 100 * found.call_usd[0, 0]


def shares(found: Posterior, objective: Objective) -> np.ndarray:
    everybody = np.ones(len(found.arms.group), dtype=bool)
    table = tabulate(found.bank(0), objective=objective, law=LEARNING, eligible=everybody)
    return propensities(LEARNING, table)


def test_utility_takes_off_what_comes_after_a_call() -> None:
    found = believed({0: {C.N_MORE: 100, C.MORE_NANO: 1e9, C.MORE_MS: 4e6}})

    before, after = mean_utility(believed({}), BALANCED), mean_utility(found, BALANCED)

    usd = 1 / 1003 + BALANCED.latency_usd_per_s * 4000 / 1003
    assert (before - after)[0].tolist() == pytest.approx([usd / 0.05, 0.0])


@pytest.mark.parametrize("objective", [CHEAPEST, FASTEST, BALANCED, Objective(value_usd=0.05)])
def test_of_two_hosts_who_is_repeated_less_serves(objective: Objective) -> None:
    of = arms((0, 0), (1.0, 1.0))
    found = believed({0: {C.N_MORE: 500, C.MORE_NANO: 1e9, C.MORE_MS: 5e6}}, of=of)

    hosts = best_hosts(found.bank(0), objective, np.arange(2))

    assert (hosts == 1).mean() > 0.9


# -- from calls to the choice -------------------------------------------------------------------


def chats(number: int, times: int) -> list[ObservedCall]:
    """One session, in which the same is asked so often, five seconds after each answer."""
    text, unit = f"question {number}", f"s{number}"
    turns = [
        Turn(ask(user(text)), answered_with("x"), at_s=7.0 * i, unit=unit, session=True)
        for i in range(times)
    ]
    return [to_call(turn, 0) for turn in turns]


def answered_with(text: str) -> dict[str, Any]:
    return {"choices": [{"message": said(text), "finish_reason": "stop"}]}


def traffic(at: int, *, nano: int, tokens: int, asked: int, n: int = 400) -> Iterator[bytes]:
    """Records of calls at one endpoint, each asked so often, all with the same quality."""
    memory, nonce = Memory(SALT), at << 32
    for number in range(n):
        for call in chats(number, asked):
            nonce += 1
            yield attempt(nonce, at, cost_nano=nano, tokens_in=tokens, tokens_out=tokens)
            yield events.feedback(
                token(nonce, at),
                kind=FeedbackKind.HUMAN,
                value=float(number % 5 > 0),
                revision=0,
                event=nonce.to_bytes(16, "big"),
            )
            known = {"first_endpoint": at, "cost_nano": nano}
            derive(structs.replace(call, decision=token(nonce, at), **known), memory)
            for repeat, taken_back in memory.take_repeats():
                yield repeated(repeat, taken_back=taken_back)


@pytest.mark.parametrize("objective", [CHEAPEST, BALANCED])
def test_who_is_cheap_a_call_but_asked_twice_is_not_chosen(objective: Objective) -> None:
    """One endpoint costs $1 a thousand calls and is asked twice each time, one $1.5 and once."""
    cheap = traffic(CHEAP, nano=1_000_000, tokens=500, asked=2)
    dear = traffic(DEAR, nano=1_500_000, tokens=500, asked=1, n=800)
    found = infer(evidence_of([*cheap, *dear]), arms())

    assert found.call_usd[0].tolist() == pytest.approx([1e-3, 1.5e-3], rel=0.01)
    assert found.cost_usd[0].tolist() == pytest.approx([2e-3, 1.5e-3], rel=0.01)
    assert found.chains.seconds[0].tolist() == pytest.approx([7.0, 0.0], rel=0.01)
    assert shares(found, objective)[1] > 0.95

    blind = replace(found.evidence, chains=np.zeros_like(found.evidence.chains))
    assert shares(infer(blind, arms()), CHEAPEST)[0] > 0.95, "by calls alone it is the other"


def told(turns: list[Turn]) -> list[list[ToldRepeat]]:
    """What is said of chains after each call; calls are at endpoints 101, 102, … and cost those."""
    memory, out = Memory(SALT), []
    for number, turn in enumerate(turns, 1):
        at = {"first_endpoint": 100 + number, "cost_nano": 100 + number}
        derive(structs.replace(to_call(turn, number), **at), memory)
        out.append(memory.take_repeats())
    return out


HELLO = ask(user("hello there"))


def test_all_repeats_belong_to_the_call_that_was_first() -> None:
    failed = {"answered": False, "session": True}
    turns = [Turn(HELLO, answered_with("a"), at_s=4.0 * i, **failed) for i in range(3)]

    nothing, one, two = told([*turns])

    assert nothing == []
    assert [len(one), len(two)] == [1, 1]
    (first, _), (second, _) = one[0], two[0]
    assert first == Repeat(to_call(turns[0], 1).decision, 101, 102, 102, 4.0)
    assert second == Repeat(to_call(turns[0], 1).decision, 101, 103, 103, 4.0)


def test_what_was_edited_is_another_request() -> None:
    before = [user("what is a cat?"), said("a cat is an animal")]
    texts = ["please write me a poem about a cat", "please write me a short poem about a cat"]
    opening = Turn(ask(before[0]), answered_with("a cat is an animal"))
    turns = [
        Turn(ask(*before, user(text)), answered_with(text), at_s=20.0 + 10 * i)
        for i, text in enumerate(texts)
    ]
    memory = Memory(SALT)

    labels = [derive(to_call(turn, i), memory) for i, turn in enumerate([opening, *turns], 1)]

    assert [one.source for one in labels[-1]] == [Source.EDITED]
    assert told([opening, *turns]) == [[], [], []]


def test_a_program_that_asks_again_and_again_takes_its_repeats_back() -> None:
    turns = [Turn(HELLO, answered_with("a"), at_s=10.0 * i, session=True) for i in range(3)]

    _, one, two = told(turns)

    assert [r.taken_back for r in one] == [False]
    assert two == [ToldRepeat(one[0].repeat, taken_back=True)]


@pytest.mark.parametrize("temperature", [0.2, 1.5])
def test_a_program_that_asks_at_once_again_for_what_it_cannot_use_goes_on_with_its_chain(
    temperature: float,
) -> None:
    """Sooner than any person would, so that it is no label of the answer."""
    asked = ask(user("give me json"), temperature=temperature)
    turns = [
        Turn(asked, answered_with(text), at_s=2.1 * i, took_s=2.0, session=True)
        for i, text in enumerate(["", "", "{}", "{}"])
    ]

    nothing, one, two, three = told(turns)

    first = to_call(turns[0], 1).decision
    assert (nothing, three) == ([], []), "the last one is asked after an answer that can be used"
    assert one == [ToldRepeat(Repeat(first, 101, 102, 102, pytest.approx(2.1)))]
    assert two == [ToldRepeat(Repeat(first, 101, 103, 103, pytest.approx(2.1)))]


def test_a_repeat_is_told_once_however_many_signs_there_are_of_it() -> None:
    """A person asks again, seconds after an answer that could not be used."""
    turns = [Turn(HELLO, answered_with(""), at_s=10.0 * i, session=True) for i in range(2)]

    assert [len(found) for found in told(turns)] == [0, 1]


def test_a_call_that_reached_nobody_begins_no_chain() -> None:
    memory = Memory(SALT)
    turns = [Turn(HELLO, answered_with("a"), at_s=4.0 * i, answered=False) for i in range(2)]
    derive(to_call(turns[0], 1), memory)

    assert len(derive(structs.replace(to_call(turns[1], 2), first_endpoint=5), memory)) == 1
    assert memory.take_repeats() == []


# -- attempts of one call -----------------------------------------------------------------------


def ended(number: int, began: float, took: float, result: Result = Result.OK) -> Ending:
    return Ending(number=number, began_at=began, latency_s=took, result=result)


def test_what_further_attempts_add_ends_where_the_last_one_does() -> None:
    waited = WaitedFor()
    attempts = [ended(1, 10, 1, Result.SERVER), ended(2, 11.5, 0.5, Result.SERVER), ended(3, 12, 3)]

    assert [waited.added_s(one) for one in attempts] == [0.0, 1.0, 3.0]


def test_a_second_start_adds_nothing_while_the_first_runs_or_once_it_has_lost() -> None:
    beside, lost, won = WaitedFor(), WaitedFor(), WaitedFor()

    assert beside.added_s(ended(2, 11, 2, Result.SERVER)) == 0.0
    assert beside.added_s(ended(1, 10, 5)) == 0.0
    assert lost.added_s(ended(1, 10, 5)) == 0.0
    assert lost.added_s(ended(2, 12, 4, Result.OVERTAKEN)) == 0.0
    assert won.added_s(ended(1, 10, 5, Result.OVERTAKEN)) == 0.0
    assert won.added_s(ended(2, 12, 7)) == 4.0


# -- a real sidecar -----------------------------------------------------------------------------


def chained(sidecar: Sidecar, name: str) -> dict[C, float]:
    """What is known of chains that began at an endpoint, all tasks together."""
    keeper = sidecar.app.keeper.current
    arm = keeper.configuration.catalog.by_id[name].index
    sums = keeper.evidence.chains[:, arm].sum(axis=0)
    return {column: float(sums[column]) for column in C if sums[column]}


def answered(call: Any) -> Reply:
    return Reply(body=answer(answer_id=f"chatcmpl-{id(call)}"), delay_s=0.05)


def test_retries_of_the_router_are_in_the_chain_of_the_endpoint_asked_first(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    """Once that one is out, and another is asked at once, a chain begins there."""
    provider.on("a", Reply(status=500))
    provider.on("b", answered)
    value = {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "strategies": {"guarded": {"objective": "quality"}},
        "apps": {"default": {"mode": "route", "strategy": "guarded", "unit": "call"}},
    }
    with serving(value, state_dir, address) as sidecar:
        for number in range(8):
            assert sidecar.chat(text=f"text {number}").headers["x-router-endpoint"] == "b"
        n_calls = len(provider.calls)
        sidecar.until(lambda: sidecar.app.writer.counters.sent >= n_calls)
        booked = records(address)
        a, b = (sidecar.digest(name) for name in "ab")
        with learning(state_dir, address):
            sidecar.until(lambda: sidecar.calls_known() == n_calls)
            at_a, at_b = chained(sidecar, "a"), chained(sidecar, "b")
            found = sidecar.app.keeper.current
            (row,) = [r for r in report_rows(found, "guarded") if r.endpoint == "a"]
            shown = sidecar.http.get("/v1/router/posteriors").json()["rows"]

    executed, further = booked["token"]["executed"], booked["attempt"] > 1
    firsts = dict(zip(booked["token"]["nonce"][~further].tolist(), executed[~further], strict=True))
    assert Counter(firsts.values()).keys() == {a, b}, "in the end b is asked at once"
    for one in booked:
        assert one["first_endpoint"] == firsts[bytes(one["token"]["nonce"])]
    of_a = further & (booked["first_endpoint"] == a)
    assert (booked["first_endpoint"][further] == a).all(), "b answers at once"
    assert booked["added_ms"][of_a & (executed == b)].min() >= 40
    assert not booked["added_ms"][~further].any()
    assert at_a[C.CALLS] == pytest.approx((executed[~further] == a).sum(), rel=A_TICK)
    assert at_a[C.N_MORE] == pytest.approx(of_a.sum(), rel=A_TICK)
    assert at_a[C.MORE_NANO] == pytest.approx(booked["cost_nano"][of_a].sum(), rel=A_TICK)
    assert at_a[C.MORE_MS] == pytest.approx(booked["added_ms"][of_a].sum(), rel=A_TICK)
    assert at_b.keys() == {C.CALLS}
    assert at_b[C.CALLS] == pytest.approx((executed[~further] == b).sum(), rel=A_TICK)
    assert row.calls_after > 0.5
    assert {r["endpoint"]: r["calls_after"] > 0 for r in shown} == {"a": True, "b": False}


@pytest.mark.slow
@pytest.mark.usefixtures("store")  # the observer is a process
def test_the_app_s_own_repeat_is_in_the_chain_of_its_first_call(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = {
        "endpoints": [endpoint(provider, "a")],
        "strategies": LEARN,
        "apps": {"default": {"mode": "route", "strategy": "learn"}},
    }
    headers = {"x-router-session-id": "s"}
    with (
        serving(value, state_dir, address, observing=True) as sidecar,
        learning(state_dir, address),
    ):
        provider.on("a", Reply(status=500))
        assert sidecar.chat(headers=headers).status_code == 500
        provider.on("a", answered)
        assert sidecar.chat(headers=headers).status_code == 200
        sidecar.until(lambda: C.REPEATS in chained(sidecar, "a"), within_s=30)
        found = chained(sidecar, "a")

    assert found[C.CALLS] == pytest.approx(2, rel=A_TICK)
    assert found[C.REPEATS] == found[C.N_AGAIN] == pytest.approx(1, rel=A_TICK)
    assert found[C.AGAIN_NANO] == pytest.approx(20_000, rel=A_TICK)
    assert found[C.AGAIN_MS] >= 40


# -- the report ---------------------------------------------------------------------------------


def test_the_report_tells_cost_and_time_per_success_of_chains() -> None:
    cheap = traffic(CHEAP, nano=1_000_000, tokens=500, asked=2, n=40)
    dear = traffic(DEAR, nano=1_500_000, tokens=500, asked=1, n=80)
    evidence = evidence_of([*cheap, *dear])
    found = rows(
        evidence,
        infer(evidence, arms()),
        np.zeros((1, 2, N_COLUMNS)),
        compare(evidence.quality, np.arange(2)),
        categories=["general"],
        endpoints=["cheap", "dear"],
        objective=CHEAPEST,
    )

    one, other = found
    assert one.cost_usd == pytest.approx(1e-3, rel=0.01)
    assert one.calls_after == pytest.approx(40 / 43, rel=0.01)
    assert one.chain_cost_usd == pytest.approx(1e-3 * (1 + 40 / 43), rel=0.01)
    assert one.chain_time_s is not None
    assert one.chain_time_s == pytest.approx(7 * 40 / 43 + 1, rel=0.1)
    assert one.quality is not None
    assert one.cost_per_success_usd == one.chain_cost_usd / one.quality
    assert one.time_per_success_s == one.chain_time_s / one.quality
    assert (other.calls_after, other.chain_cost_usd) == (0.0, other.cost_usd)
    line = chain_line(found)
    assert line.startswith("a call with its retries and repeats: cheap 1.93 calls, $1.9/1k, 7.")
    assert "; dear 1.00 calls, $1.5/1k, 1 s (a success, $1.9/1k, 1.3 s)" in line
    out = StringIO()
    print_matrix(found, Console(file=out, width=300))
    assert line in out.getvalue()
    assert chain_line([other]) == ""


# -- stores -------------------------------------------------------------------------------------


def chain_rows(books: Books) -> dict[bytes, bytes]:
    rows = books.client.hgetall(keys.rows(0))
    place = cells.KEY.fields["family"][1]
    return {k: v for k, v in rows.items() if k[place] == Family.CHAINS}


def test_a_store_of_schema_7_counts_chains_from_the_upgrade_on(
    client: Any, state_dir: Path
) -> None:
    """Its archive is read on; the further attempts that it holds were folded without chains."""
    lie_as_schema_7(client, state_dir / "archive")
    books = Books(client, state_dir / "archive")
    books.n = 7
    books.fold()

    assert client.hget(keys.META, "schema").decode() == SCHEMA == "8"
    assert chain_rows(books) == {}
    assert audit_state(books.archive).equal
    books.archive.take(now_ms=2**53, limits=AT_ONCE)
    odd = again(20, nano=5, to=DEAR)
    books.tell(attempt(20), attempt(20, DEAR, attempt=2, first_endpoint=CHEAP), at_ms=NOW_MS)
    books.tell(repeated(again(20)), repeated(odd), at_ms=NOW_MS + 1)
    books.tell(repeated(odd, taken_back=True), at_ms=NOW_MS + 2)
    books.fold()
    assert audit_state(books.archive).equal
    books.archive.take(now_ms=2**53, limits=AT_ONCE)
    before = chain_rows(books)
    assert before

    client.flushall()
    assert restore(books.archive).damaged == 0
    assert chain_rows(books) == before
    name = next(iter(before))
    client.hset(keys.rows(0), name, (9).to_bytes(8, "little") * N_COLUMNS)
    assert "chains" in str(audit_state(books.archive).difference)


def lie_as_schema_7(client: Any, root: Path) -> None:
    """Lay out what the last version without chains left: three calls of two attempts each, of
    which one is not folded yet, and one is archived.
    """
    for name, kept in OLD["keys"].items():
        if kept["type"] == "stream":
            for entry, frame in kept["value"]:
                client.xadd(name, {"f": bytes.fromhex(frame)}, id=entry)
            continue
        value = {bytes.fromhex(k): v for k, v in kept["value"].items()}
        if kept["type"] == "zset":
            client.zadd(name, value)
        else:
            client.hset(name, mapping={k: bytes.fromhex(v) for k, v in value.items()})
    (root / "0").mkdir(parents=True)
    for name, data in OLD["archive"].items():
        (root / "0" / name).write_bytes(base64.b64decode(data))
