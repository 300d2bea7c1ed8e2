"""Savings from records to what people read: each call once, summed up by a job, told by app."""

from __future__ import annotations

import json
import random
import time
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from conftest import SHARDS, Provider, pointsman, serving
from msgspec import structs
from numpy.typing import NDArray
from test_endings import Router, run
from test_endings import configured as learning
from test_spend import ADMIN, KEYS_OF, fill, value_of
from test_workers_archive import Life

from bandit.draws import LEARNING, Law
from bandit.saving_sums import CALL, SAVING_ROW, sums_of
from bandit.steps import Step
from router.config.compiled import Configuration, compile_text
from router.dispatch.decision_flags import flags_of
from router.report.ledger_wish import LedgerWish
from router.report.savings import (
    NO_ARCHIVE,
    NOT_OF_ONE,
    NOT_YET,
    NOTHING,
    read_sums,
    savings_section,
    token_prices,
)
from router.report.savings_lines import savings_lines
from telemetry import decoding, event_ids, events, keys
from telemetry.digests import digest8
from telemetry.embedded import PrivateServer
from telemetry.errors import MalformedEvent
from telemetry.events import FeedbackKind, Flag, PriceSource, Result
from telemetry.saving_state import STATE_FIELD, pack_day, unpack_day
from telemetry.store import Address, connect
from telemetry.tokens import Token
from workers.archive.retention import Keep
from workers.jobs import jobs
from workers.jobs.choices_known import KnownChoices, choices_in
from workers.jobs.jobs import Place
from workers.jobs.saving_records import calls_of
from workers.jobs.savings import keep

DAY_MS = 86_400_000
DAY = 20_700
AT_MS = DAY * DAY_MS + 3_600_000
WEB = digest8("app", "web")
TASK, STRATEGY, RELEASE, INC, OTHER = 21, 22, 23, 31, 32
BOOKED = int(Flag.ROUTED | Flag.USAGE_KNOWN | Flag.PRICED)
FINAL = int(Flag.FINAL)


def token(n: int, **more: Any) -> bytes:
    told: dict[str, Any] = {"app": WEB, "drawn": OTHER, "at_ms": AT_MS, "unit": n, **more}
    return Token(
        key_id=1,
        shard=0,
        flags=int(Flag.ROUTED),
        nonce=n.to_bytes(16, "big"),
        decided_at_ms=told["at_ms"],
        category=told.get("task", TASK),
        drawn=told["drawn"],
        executed=told.get("executed", told["drawn"]),
        strategy=told.get("strategy", STRATEGY),
        app=told["app"],
        release_key=RELEASE,
        session=told["unit"],
        propensity=0.25,
        predicted=0.5,
        predicted_sd=0.1,
    ).pack()


def outcome(n: int, *, flags: int = BOOKED | FINAL, **more: Any) -> bytes:
    told = {"result": Result.OK, "attempt": 1, "cost_nano": 1_000_000, **more}
    told = {"tokens_in": 1000, "tokens_out": 100, **told}
    if told.get("drawn", OTHER) == INC:
        flags |= int(Flag.BY_INCUMBENT)
    names = ("result", "attempt", "cost_nano", "price_source", "tokens_in", "tokens_out")
    about = {name: told[name] for name in names if name in told}
    return events.outcome(token(n, **more), status=200, flags=flags, **about)


def word(n: int, value: float | None, *, revision: int = 0, **more: Any) -> bytes:
    return events.feedback(
        token(n, **more),
        kind=FeedbackKind.HUMAN,
        value=value,
        revision=revision,
        event=event_ids.new_event_id(AT_MS + n),
    )


def found(*records: bytes, since_ms: int = 0, **more: Any) -> NDArray[np.void]:
    batches = [decoding.decode(record)[0] for record in records]
    return calls_of(batches, since_ms=since_ms, **more)


def release(before: str, after: str, **more: Any) -> bytes:
    told = {"app": "web", "task": "code", "strategy": "best", "before": before, "after": after}
    return json.dumps({**told, **more}).encode()


# -- records --------------------------------------------------------------------------------------


def test_a_call_costs_all_its_attempts_and_counts_for_whom_it_was_drawn() -> None:
    failed = {"result": Result.SERVER, "flags": BOOKED, "cost_nano": 5_000_000}
    beside = {"result": Result.OVERTAKEN, "flags": BOOKED, "cost_nano": 7_000_000}

    (call,) = found(
        outcome(1, drawn=INC, **failed),
        outcome(1, drawn=INC, attempt=2, **beside),
        outcome(1, drawn=INC, executed=OTHER, attempt=3, flags=BOOKED | FINAL),
        word(1, 1.0),
        word(1, 0.25, revision=1),
    )

    assert (call["endpoint"], call["by_incumbent"], call["attempts"]) == (INC, True, 3)
    assert call["cost_usd"] == pytest.approx(0.013)
    assert (call["failed_usd"], call["beside_usd"]) == (pytest.approx(0.005), pytest.approx(0.007))
    assert (call["is_failed"], call["is_priced"]) == (False, True)
    assert (call["reward"], call["propensity"], call["day"]) == (0.25, 0.25, DAY)
    assert (call["tokens_in"], call["tokens_out"]) == (1000, 100), "of the answer alone"


def test_each_call_counts_once_in_whatever_order_it_is_told() -> None:
    told = [outcome(n, drawn=INC if n % 2 else OTHER, unit=n // 3) for n in range(40)]
    told += [word(n, n / 40) for n in range(0, 40, 3)]
    wanted = sums_of(found(*told))
    random.Random(1).shuffle(told)

    again = sums_of(found(*told, *told[:30]))

    assert again["calls"].sum() == 40
    for name in SAVING_ROW.names or ():
        assert again[name] == pytest.approx(wanted[name]), name


def test_only_routed_traffic_with_its_flags_and_words_counts() -> None:
    calls = found(
        outcome(1, flags=BOOKED | FINAL | int(Flag.EXPLORED)),
        outcome(2, flags=(BOOKED | FINAL) & ~int(Flag.ROUTED)),
        outcome(3, flags=BOOKED | FINAL | int(Flag.PROFILE)),
        outcome(4, flags=BOOKED | FINAL | int(Flag.INGESTED)),
        outcome(5, at_ms=AT_MS - DAY_MS),
        outcome(6, result=Result.TIMEOUT, flags=int(Flag.ROUTED | Flag.FINAL), cost_nano=0),
        outcome(7, flags=BOOKED & ~int(Flag.PRICED) | FINAL),
        outcome(8, flags=int(Flag.ROUTED | Flag.ESTIMATED), price_source=PriceSource.OWN),
        word(1, 1.0),
        word(1, None, revision=1),
        word(9, 1.0),
        since_ms=AT_MS,
    )

    first, failed, unpriced, guessed = calls
    assert first["explored"]
    assert np.isnan(first["reward"]), "taken back"
    assert (failed["is_failed"], failed["is_priced"], failed["cost_usd"]) == (True, True, 0)
    assert (unpriced["is_priced"], unpriced["cost_usd"]) == (False, 0)
    assert guessed["estimated_usd"] == guessed["cost_usd"] == pytest.approx(0.001)
    assert len(found()) == 0


@pytest.mark.parametrize("whose", [(), ("app", "web"), ("listening",)])
def test_calls_know_what_the_choice_was_when_they_were_decided(whose: tuple[str, ...]) -> None:
    strategy, task = digest8("strategy", "best"), digest8("task", "code", *whose)
    a, b, c = (digest8("choice", name) for name in "abc")
    told = [(200, release("b", "c")), (100, release("a", "b")), (150, b"{}"), (160, b"no JSON")]
    told.append((10, release("a", "x", strategy="other")))

    known = choices_in(told)

    calls = np.zeros(5, dtype=CALL)
    calls["app"], calls["strategy"], calls["task"] = WEB, strategy, task
    calls["task"][4] = 7
    at_ms = np.array([99, 100, 199, 200, 500])
    assert known.at(calls, at_ms).tolist() == [a, b, b, c, 0]
    assert KnownChoices().at(calls, at_ms).tolist() == [0] * 5


# -- the job and its state ------------------------------------------------------------------------


@pytest.fixture
def life(store: PrivateServer, client: Any, address: Address, state_dir: Path) -> Life:
    jobs.work_at(Place(address, state_dir / "archive", 1, Keep(30, 1 << 30)))
    return Life(client, state_dir / "archive")


def days_of(client: Any) -> dict[int, NDArray[np.void]]:
    stored = client.hgetall(keys.SAVINGS)
    return {int(k): unpack_day(v, SAVING_ROW) for k, v in stored.items() if k.isdigit()}


def test_the_job_sums_up_files_and_what_is_in_none_yet(life: Life, client: Any) -> None:
    now = jobs._now_ms()
    life.send(outcome(1, at_ms=now - DAY_MS), outcome(2, at_ms=now))
    life.fold()
    life.take()
    life.send(outcome(3, at_ms=now), word(2, 0.5, at_ms=now))
    life.fold()

    assert jobs.tally()["truncated"] is False

    days = days_of(client)
    today, before = days[now // DAY_MS], days[now // DAY_MS - 1]
    assert (today["calls"].sum(), today["labels"].sum(), before["calls"].sum()) == (2, 1, 1)
    assert today["cost"].sum() == pytest.approx(0.002)
    assert jobs.tally() == {}, "nothing came"
    life.send(outcome(4, at_ms=now))
    life.fold()
    state = json.loads(client.hget(keys.SAVINGS, STATE_FIELD))
    client.hset(keys.SAVINGS, STATE_FIELD, json.dumps({**state, "took_s": 0.0}))
    jobs.tally()
    assert days_of(client)[now // DAY_MS]["calls"].sum() == 3


def test_a_day_is_cut_where_the_store_tells_of_a_release(life: Life, client: Any) -> None:
    now = jobs._now_ms()
    of_key = {"task": digest8("task", "code"), "strategy": digest8("strategy", "best")}
    life.send(outcome(1, at_ms=now - 1000, **of_key), outcome(2, at_ms=now + 60_000, **of_key))
    life.fold()
    client.xadd(keys.RELEASES, {"release": release("a", "b")})

    jobs.tally()

    rows = np.concatenate(list(days_of(client).values()))
    choices = dict(zip(rows["choice"].tolist(), rows["calls"].tolist(), strict=True))
    assert choices == {digest8("choice", "a"): 1, digest8("choice", "b"): 1}
    assert rows["tokens_in"].tolist() == [1000, 1000]


def test_days_before_those_that_are_read_keep_their_sums(client: Any) -> None:
    def sums(day: int, n: int) -> NDArray[np.void]:
        return sums_of(found(*(outcome(k, at_ms=day * DAY_MS) for k in range(n))))

    first = {DAY: sums(DAY, 5), DAY + 1: sums(DAY + 1, 5)}
    keep(client, first, {"at_ms": 1}, since_ms=DAY * DAY_MS, now_ms=AT_MS)
    later = {DAY + 1: sums(DAY + 1, 2), DAY + 2: sums(DAY + 2, 3)}
    part_ms = (DAY + 1) * DAY_MS + 1
    client.hset(keys.SAVINGS, str(DAY - 900), b"old")

    keep(client, later, {"at_ms": 2}, since_ms=part_ms, now_ms=AT_MS)

    found_days = {day: int(rows["calls"].sum()) for day, rows in days_of(client).items()}
    assert found_days == {DAY: 5, DAY + 1: 5, DAY + 2: 3}, "of a day read in part the whole stays"
    keep(client, later, {}, since_ms=(DAY + 1) * DAY_MS, now_ms=AT_MS)
    assert days_of(client)[DAY + 1]["calls"].sum() == 2


def test_sums_of_another_version_are_read_by_their_columns() -> None:
    rows = sums_of(found(outcome(1)))
    missing = {"beside_usd", "choice", "told", "tokens_in"}
    names = [name for name in SAVING_ROW.names or () if name not in missing]
    older = np.zeros(1, dtype=[*((n, SAVING_ROW[n]) for n in names), ("more", "<f8")])
    for name in names:
        older[name] = rows[name]

    read = unpack_day(pack_day(older), SAVING_ROW)

    assert read.dtype == SAVING_ROW
    assert (read["calls"][0], read["beside_usd"][0], read["choice"][0]) == (1, 0, 0)
    for bad in (b"", b"rubbish", pack_day(rows)[:-9]):
        with pytest.raises(MalformedEvent):
            unpack_day(bad, SAVING_ROW)


# -- what is told ---------------------------------------------------------------------------------


def stored(client: Any, day: int = DAY) -> None:
    """Forty calls of the incumbent at .2 cents, sixty of another at .1; of lab there is none."""
    records = [outcome(n, drawn=INC, cost_nano=2_000_000) for n in range(40)]
    records += [outcome(n) for n in range(40, 100)]
    records += [word(n, 1.0 if n % 4 else 0.0, drawn=INC) for n in range(40)]
    records += [word(n, 1.0) for n in range(40, 100)]
    rows = sums_of(found(*records))
    rows["day"] = day
    keep(client, {day: rows}, {"at_ms": AT_MS, "since_ms": 0}, since_ms=0, now_ms=AT_MS)


def configured(**more: Any) -> Configuration:
    value = {
        "endpoints": [{"id": "a", "base_url": "http://127.0.0.1:1/v1", "model": "a"}],
        "apps": {
            "web": {"mode": "route", "keys": [{"env": "KEY_OF_WEB"}]},
            "lab": {"mode": "observe", "keys": [{"env": "KEY_OF_LAB"}]},
        },
        **more,
    }
    return compile_text(json.dumps(value), file="test.yaml", secrets=False)


WISH = LedgerWish(DAY * DAY_MS, (DAY + 1) * DAY_MS, (), ZoneInfo("UTC"), None, None, None, 1000)


def test_a_section_names_apps_and_says_why_others_have_no_figures(client: Any) -> None:
    stored(client)

    section = savings_section(client, configured(), WISH, {WEB: "web", TASK: "code"})

    web, lab = section["apps"]
    assert section["reason"] is None
    assert section["days"] == [datetime.fromtimestamp(DAY * 86_400, UTC).date().isoformat()] * 2
    assert (web["app"], web["calls"], web["tasks"][0]["task"]) == ("web", 100, "code")
    assert web["money"]["saved_usd"]["value"] == pytest.approx(0.06)
    assert section["all"]["money"]["served_usd"] == pytest.approx(0.14)
    assert (lab["app"], lab["reason"].partition(":")[0]) == ("lab", "mode observe")
    only = savings_section(client, configured(), WISH._replace(app="lab"), {})
    assert [row["app"] for row in only["apps"]] == ["lab"]
    assert (only["reason"].partition(",")[0], only["all"]) == (NOTHING, None)


def test_what_is_not_worked_out_yet_is_told_by_time(client: Any) -> None:
    """Calls were booked after the job ran: nothing is said of them, and that is said."""
    stored(client, DAY - 1)

    section = savings_section(client, configured(), WISH, {})
    before = WISH._replace(since_ms=(DAY - 1) * DAY_MS)
    head = savings_lines(savings_section(client, configured(), before, {WEB: "web"}), by_task=False)

    at = datetime.fromtimestamp(AT_MS / 1000, UTC).isoformat(timespec="seconds")
    nothing = f"{NOTHING}, up to {at}; later calls are not in it yet"
    text = " ".join(" ".join(head).split())
    assert section["reason"] == section["apps"][0]["reason"] == nothing
    assert f"(days of UTC), up to {at}; later calls are not in it yet:" in text
    long_ago = WISH._replace(since_ms=(DAY - 9) * DAY_MS, until_ms=(DAY - 8) * DAY_MS)
    assert savings_section(client, configured(), long_ago, {})["reason"] == NOTHING


def test_the_incumbents_tokens_cost_what_the_configuration_says_of_each_day() -> None:
    usual = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 4}
    later = {"from": "2026-11-15", "input_usd_per_mtok": 2, "output_usd_per_mtok": 8}
    prices = {"a": usual, "b": [usual, later], "m": {"usd_per_hour": 3}, "n": None}
    prices["free"] = {"input_usd_per_mtok": 0, "output_usd_per_mtok": 0}
    endpoints = [
        {"id": name, "base_url": "http://127.0.0.1:1/v1", "model": name, "prices": value}
        for name, value in prices.items()
    ]

    catalog = configured(endpoints=endpoints).catalog
    found = token_prices(catalog)

    named = {e.id: found[e.digest] for e in catalog.endpoints if e.digest in found}
    day = (date(2026, 11, 15) - date(1970, 1, 1)).days
    assert named == {
        "a": [(0, pytest.approx(1e-6), pytest.approx(4e-6))],
        "b": [(0, pytest.approx(1e-6), pytest.approx(4e-6)), (day, 2e-6, 8e-6)],
    }


def test_where_there_are_no_sums_it_says_so(client: Any) -> None:
    without = configured(archive={"keep_days": 0})
    assert savings_section(client, configured(), WISH, {})["reason"] == NOT_YET
    assert savings_section(client, without, WISH, {})["reason"] == NO_ARCHIVE
    of_user = savings_section(client, configured(), WISH._replace(user="ada"), {})
    assert of_user["reason"] == NOT_OF_ONE
    client.hset(keys.SAVINGS, mapping={STATE_FIELD: "{}", str(DAY): b"damaged"})
    rows, state = read_sums(client, range(DAY, DAY + 1))
    assert (len(rows), state) == (0, {})


def test_lines_tell_an_app_in_plain_english(client: Any) -> None:
    stored(client)
    section = savings_section(client, configured(), WISH, {WEB: "web", TASK: "code"})

    lines = savings_lines(section, by_task=True)

    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "web: saved 0.0600 USD (30.0%), 0.0600 to 0.0600: 0.1400 for 100 calls" in text
    assert "quality +15.0 points" in text
    assert "100 labels, labels alone (effective sample size" in text
    assert "task code: saved 0.0600 USD" in text
    assert "lab: mode observe" in text
    assert savings_lines({"reason": NOT_YET}, by_task=False)[0].startswith("what routing saved:")


def test_lines_tell_what_learning_and_failing_cost() -> None:
    def between(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 5, "high": value + 5}

    unknown = {"n": 0, "unknown": [{"said": "the incumbent has no price"}]}
    learning = {
        **{"n": 9, "second_starts_usd": 0.0, "extra_usd": between(12), "usd": between(41)},
        **{"worse_answers": between(58), "worse_answers_usd": between(29)},
        **{"limit": 100.0, "limit_usd": 50.0, "unknown": []},
    }
    reliability = {
        **{"failed": 3, "failed_avoided": between(7), "failed_avoided_usd": None},
        **{"repeats_usd": 1.5, "repeats_avoided_usd": between(2)},
    }
    row = {"app": "web", "reason": None, "calls": 20, "unpriced": 2, "tasks": []}
    row |= {"money": unknown, "quality": unknown, "learning": learning, "reliability": reliability}
    section = {"reason": None, "days": ["2026-11-01", "2026-11-30"], "until": None, "apps": [row]}

    text = " ".join(" ".join(savings_lines(section, by_task=False)).split())
    in_successes = {**row, "learning": {**learning, "usd": None}}
    other = " ".join(savings_lines({**section, "apps": [in_successes]}, by_task=False))

    assert "savings unknown: the incumbent has no price" in text
    assert (
        "learning cost 41.0000 USD (36.0000 to 46.0000): 12.0000 extra calls, 29.0000 estimated "
        "from worse answers, limit 50.0000" in text
    )
    assert "3 calls failed, 7 (2 to 12) fewer than the incumbent's" in text
    assert "2 of 20 calls have no price" in text
    assert "58.0 successes" in " ".join(other.split())


def test_the_verb_and_the_route_tell_it_and_an_app_hears_of_itself_alone(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, key in {**KEYS_OF, "admin": ADMIN}.items():
        monkeypatch.setenv(f"KEY_OF_{name.upper()}", key)
    monkeypatch.setenv("REDIS_URL", address.url)
    fill(address, provider)
    with closing(connect(address)) as client:
        stored(client)
    value = {**value_of(provider), "store": {"shards": SHARDS}}
    value["server"] = {**value["server"], "state_dir": str(state_dir)}
    config = state_dir / "pointsman.yaml"
    config.write_text(json.dumps(value))
    day = datetime.fromtimestamp(DAY * 86_400, UTC).date().isoformat()

    done = pointsman("spend", "--since", day, "--config", config)
    as_json = pointsman("spend", "--since", day, "--json", "--config", config)
    with closing(connect(address)) as client:
        stored(client, int(time.time() // 86_400))
    report = pointsman("report", "--all", "--config", config)
    with serving(value_of(provider), state_dir, address) as sidecar:
        bearer = {"authorization": f"Bearer {KEYS_OF['lab']}"}
        own = sidecar.http.get("/v1/router/ledger", params={"since": day}, headers=bearer).json()

    assert done.exit_code == 0, done.output
    assert "web: saved 0.0600 USD" in done.stdout
    assert "web: saved 0.0600 USD" in report.stdout
    apps = {row["app"]: row for row in json.loads(as_json.stdout)["savings"]["apps"]}
    assert apps["web"]["money"]["saved_usd"]["value"] == pytest.approx(0.06)
    assert [row["app"] for row in own["savings"]["apps"]] == ["lab"]
    assert own["savings"]["all"] is None


# -- which draws are to learn ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "current", "is_to_learn"),
    [
        (Step.SAMPLE, 1, True),
        (Step.FLOOR, 1, True),
        (Step.SAMPLE, 0, False),
        (Step.STAY, 1, False),
        (Step.HOLDOUT, 1, False),
        (Step.SAMPLE, None, False),
    ],
)
def test_a_draw_by_floor_or_sample_of_another_than_the_choice_is_to_learn(
    state_dir: Path, step: Step, current: int | None, is_to_learn: bool
) -> None:
    router = Router(learning(state_dir, "a", "b"))
    decision = run(router.call())
    plan = decision.plan
    drawn = router.configuration.catalog.endpoints[0]
    law = LEARNING if current is None else Law(1, current, (0,))
    route = structs.replace(plan.route, law=law)
    plan = structs.replace(plan, step=step, drawn=drawn, route=route)

    flags = flags_of(structs.replace(decision, plan=plan))

    assert bool(flags & Flag.EXPLORED) is is_to_learn
