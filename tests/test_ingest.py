"""Events of others: what is taken, what is refused and why, and that each counts once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from conftest import (
    LEARN,
    REPOSITORY,
    ROUTED,
    SHARDS,
    Provider,
    Running,
    Sidecar,
    endpoint,
    outcome_of,
    pointsman,
    serving,
)

from bandit import cells
from bandit.families import REAL_SCALE, Family, L, Q, U
from router.commands import ingest as ingest_command
from router.commands.ingest_file import BadFile, open_rows
from router.intake.items import NAMES as REFERENCE_NAMES
from router.intake.items import OPTIONS, VALUES, parse_item
from telemetry import events, frames, ingest, keys, schemas
from telemetry.digests import digest16
from telemetry.errors import BadEvent
from telemetry.events import FeedbackKind, Flag, Result
from telemetry.frames import Frame
from telemetry.ingest import FEEDBACK_TYPE, OUTCOME_TYPE
from telemetry.store import Address
from telemetry.tokens import Token
from workers.folding.batch import DAY_MS, SPAN_DAYS, SPANS
from workers.folding.shard import Shard

DATA = Path(__file__).parent / "data"
ONE = {"content-type": "application/cloudevents+json"}
MANY = {"content-type": "application/cloudevents-batch+json; charset=utf-8"}


def rfc(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def ago(**span: float) -> str:
    return rfc(datetime.now(UTC) - timedelta(**span))


def outcome(number: object = 1, **data: Any) -> dict[str, Any]:
    data.setdefault("endpoint", "a")
    common = {"specversion": "1.0", "id": str(number), "source": "/test", "type": OUTCOME_TYPE}
    return {**common, "time": ago(minutes=1), "data": data}


def feedback(number: object = 1, *, at: str | None = None, **data: Any) -> dict[str, Any]:
    common = {"specversion": "1.0", "id": str(number), "source": "/test", "type": FEEDBACK_TYPE}
    return {**common, "time": at or ago(minutes=1), "data": data}


def tell(sidecar: Sidecar, *told: dict[str, Any], **headers: str) -> httpx.Response:
    body = json.dumps(list(told))
    return sidecar.http.post("/v1/events", content=body, headers={**MANY, **headers})


def counted(client: Any, name: str) -> int:
    return sum(int(client.hget(keys.meta(s), f"n_{name}") or 0) for s in range(SHARDS))


def sums(client: Any, family: Family) -> Any:
    """Sums of one family over all shards, by column."""
    rows = [item for s in range(SHARDS) for item in client.hgetall(keys.rows(s)).items()]
    terms = cells.from_bytes(b"".join(k for k, _ in rows), b"".join(v for _, v in rows))
    return terms.values[terms.keys["family"] == family].sum(axis=0)


def settled(sidecar: Sidecar, client: Any, n: int) -> None:
    """Wait until so many outcomes were folded or told to be repeated."""
    sidecar.until(lambda: counted(client, "outcomes") + counted(client, "repeated") >= n)


# -- what is taken ------------------------------------------------------------------------------


def test_an_outcome_reaches_every_family_and_its_label_the_quality(
    sidecar: Sidecar, learner: Any, client: Any
) -> None:
    whole = outcome(
        1, task="code", latency_s=0.5, tokens_in=100, tokens_out=20, cost_usd=0.25, score=0.75
    )

    got = tell(sidecar, whole, outcome(2, result="server"), outcome(3, status=429))

    assert got.status_code == 202
    assert got.json()["accepted"] == 3
    settled(sidecar, client, 3)
    usage, quality = sums(client, Family.USAGE), sums(client, Family.QUALITY)
    assert usage[U.CALLS] == 3
    assert usage[U.FAILED] == 2
    assert usage[U.COST_NANO] / usage[U.PRICED] == 0.25e9
    assert quality[Q.LABELS] == 1
    assert quality[Q.R] / quality[Q.N] == pytest.approx(0.75 * REAL_SCALE)
    assert sums(client, Family.LATENCY)[L.N] > 0
    sidecar.until(lambda: sidecar.calls_known() == 3)


def test_a_latency_that_was_not_measured_is_no_latency_of_zero(
    sidecar: Sidecar, learner: Any, client: Any
) -> None:
    tell(sidecar, outcome(1), outcome(2, result="timeout"))
    settled(sidecar, client, 2)

    assert not np.any(sums(client, Family.LATENCY))


def test_without_a_cost_the_tokens_are_priced_as_the_endpoints_own(
    sidecar: Sidecar, learner: Any, client: Any
) -> None:
    tell(sidecar, outcome(1, tokens_in=1000, tokens_out=500))
    settled(sidecar, client, 1)

    usage = sums(client, Family.USAGE)
    assert usage[U.COST_NANO] / usage[U.PRICED] == 1000 * 1000 + 500 * 2000


def test_ingested_outcomes_count_in_no_verdict(sidecar: Sidecar, learner: Any, client: Any) -> None:
    tell(sidecar, outcome(1, passed=True))
    settled(sidecar, client, 1)

    assert not np.any(sums(client, Family.BOOKS))


def test_an_unknown_task_is_booked_as_general_with_a_warning(sidecar: Sidecar) -> None:
    got = tell(sidecar, outcome(1, task="poetry"), outcome(2, task="poetry"), outcome(3))

    (warning,) = got.json()["warnings"]
    assert "poetry" in warning["message"]
    assert warning["events"] == 2


@pytest.mark.parametrize("name", ["response_id", "ref"])
def test_feedback_that_comes_later_names_the_answer(
    sidecar: Sidecar, learner: Any, client: Any, name: str
) -> None:
    tell(sidecar, outcome(1, **{name: "mine"}), outcome(2, **{name: "other"}))
    settled(sidecar, client, 2)

    assert sidecar.feedback(**{name: "mine"}, passed=True).json()["results"][0]["decisions"] == 1
    sidecar.until(lambda: sidecar.labels_known() == 1)


def test_old_feedback_of_one_batch_waits_for_its_outcome(
    sidecar: Sidecar, learner: Any, client: Any
) -> None:
    """It waits from when it came, not from when it was said."""
    said = feedback(1, at=ago(days=3), ref="mine", score=0.5)
    assert tell(sidecar, said).status_code == 202
    sidecar.until(lambda: sum(client.hlen(keys.held(s)) for s in range(SHARDS)) == 1)

    tell(sidecar, {**outcome(1, ref="mine"), "time": ago(days=3)})

    sidecar.until(lambda: sidecar.labels_known() == 1)
    assert counted(client, "unmatched") == 0


def test_the_three_forms_of_a_cloudevent_mean_the_same(
    sidecar: Sidecar, learner: Any, client: Any
) -> None:
    event = outcome("ünïque 1", latency_s=0.5)
    attributes = {
        "ce-specversion": "1.0",
        "ce-id": "%C3%BCn%C3%AFque%201",
        "ce-source": "/test",
        "ce-type": OUTCOME_TYPE,
        "ce-time": event["time"],
        "content-type": "application/json",
    }
    post = sidecar.http.post

    said = [
        tell(sidecar, event),
        post("/v1/events", content=json.dumps(event), headers=ONE),
        post("/v1/events", content=json.dumps(event["data"]), headers=attributes),
    ]

    assert [got.status_code for got in said] == [202] * 3
    settled(sidecar, client, 3)
    assert counted(client, "outcomes") == 1
    assert counted(client, "repeated") == 2


def test_a_dry_run_says_the_same_and_writes_nothing(
    sidecar: Sidecar, learner: Any, client: Any
) -> None:
    dry = tell(sidecar, outcome(1), **{"x-router-dry-run": "1"})
    refused = tell(sidecar, outcome(2, endpoint="zzz"), **{"x-router-dry-run": "1"})
    tell(sidecar, outcome(3))
    settled(sidecar, client, 1)

    assert dry.status_code == 200
    assert dry.json()["outcomes"] == 1
    assert dry.json()["accepted"] == 0
    assert refused.status_code == 400
    assert counted(client, "outcomes") == 1


# -- exactly once -------------------------------------------------------------------------------


def test_an_event_that_is_told_again_has_no_second_effect(
    sidecar: Sidecar, learner: Any, client: Any
) -> None:
    told = [outcome(i, latency_s=0.5, passed=True) for i in range(5)]
    undated = [{k: v for k, v in outcome("now", passed=True).items() if k != "time"}]

    for batch in (told + undated, told * 3, told[2:] + undated, undated):
        assert tell(sidecar, *batch).status_code == 202
    settled(sidecar, client, 6 + 15 + 4 + 1)

    assert counted(client, "outcomes") == 6
    assert sums(client, Family.USAGE)[U.CALLS] == 6
    assert sums(client, Family.QUALITY)[Q.LABELS] == 6


def test_feedback_that_is_told_again_does_not_outdate_what_came_after_it(
    sidecar: Sidecar, learner: Any, client: Any
) -> None:
    tell(sidecar, outcome(1, ref="mine"))
    settled(sidecar, client, 1)
    first = feedback("f1", at=ago(minutes=3), ref="mine", score=0.25)
    second = feedback("f2", at=ago(minutes=2), ref="mine", score=0.75)

    for told in (first, second, first, second, first):
        assert tell(sidecar, told).status_code == 202
    sidecar.until(lambda: counted(client, "held") == 5)
    sidecar.until(lambda: sum(client.hlen(keys.held(s)) for s in range(SHARDS)) == 0)
    sidecar.until(lambda: counted(client, "feedback") + counted(client, "feedback_outdated") == 2)

    assert counted(client, "resolved") == 2
    quality = sums(client, Family.QUALITY)
    assert quality[Q.LABELS] == 1
    assert quality[Q.R] / quality[Q.N] == pytest.approx(0.75 * REAL_SCALE)


@pytest.mark.usefixtures("store")  # several at once
def test_two_processes_that_are_told_the_same_count_it_once(
    sidecar: Sidecar,
    provider: Provider,
    state_dir: Path,
    address: Address,
    client: Any,
    learner: Any,
) -> None:
    value = {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "tasks": {"code": None, "chat": None},
        "strategies": LEARN,
        "apps": ROUTED,
    }
    told = [outcome(i, score=0.5, response_id=f"r{i}") for i in range(40)]

    with serving(value, state_dir, address) as other:
        for start in range(0, 40, 10):
            assert tell(sidecar, *told[start : start + 10]).status_code == 202
            assert tell(other, *told[start : start + 10]).status_code == 202
        settled(sidecar, client, 80)

    assert counted(client, "outcomes") == 40
    assert sums(client, Family.QUALITY)[Q.LABELS] == 40
    assert sidecar.feedback(response_id="r7", passed=True).json()["results"][0]["decisions"] == 1


def test_apps_and_sources_have_ids_of_their_own(
    provider: Provider,
    state_dir: Path,
    address: Address,
    client: Any,
    learner: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("K1", "key-one")
    monkeypatch.setenv("K2", "key-two")
    value = {
        "endpoints": [endpoint(provider, "a")],
        "apps": {"one": {"keys": [{"env": "K1"}]}, "two": {"keys": [{"env": "K2"}]}},
    }
    with serving(value, state_dir, address) as found:
        assert tell(found, outcome(1)).status_code == 401
        for key in ("key-one", "key-two", "key-one"):
            assert tell(found, outcome(1), **{"x-router-key": key}).status_code == 202
        tell(found, {**outcome(1), "source": "/else"}, **{"x-router-key": "key-one"})
        settled(found, client, 4)

    assert counted(client, "outcomes") == 3


@pytest.mark.usefixtures("store")  # what the server forgets
def test_nonces_are_remembered_as_long_as_an_event_may_be_old(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = events.outcome(
        Token(1, 0, 0, b"n" * 16, 1, 2, 3, 3, 5, 6, 7, 8, 1.0, 0.0, 0.0).pack(),
        result=Result.OK,
        attempt=1,
        status=200,
        flags=int(Flag.INGESTED),
    )
    client.hset(keys.meta(0), "token", 1)

    def told_on(day: int) -> int:
        shard = Shard(client, 0)
        shard.load()
        before = shard.counters["outcomes"]
        frame = Frame(os.urandom(16), 0, 0, record * 3)
        shard.fold([(b"%d-0" % (day * DAY_MS), {b"f": frames.pack(frame)})], token=1)
        return shard.counters["outcomes"] - before

    # Of today: by the store's own clock a set of the past is gone at once.
    first = int(datetime.now(UTC).timestamp() * 1000) // DAY_MS // SPAN_DAYS * SPAN_DAYS
    assert told_on(first + SPAN_DAYS - 1) == 1
    assert told_on(first + SPAN_DAYS - 1) == 0
    assert told_on(first + (SPANS - 1) * SPAN_DAYS) == 0
    assert told_on(first + SPANS * SPAN_DAYS) == 1
    assert all(client.ttl(name) > 0 for name in client.keys("*ingested*"))


# -- what is refused ----------------------------------------------------------------------------

BAD = [
    (outcome(endpoint="aa"), "data.endpoint", "did you mean a"),
    (outcome(endpoint=""), "data.endpoint", "the id of an endpoint"),
    (outcome(latency_s=0), "data.latency_s", "seconds, above 0"),
    (outcome(latency_s=5000), "data.latency_s", "5000"),
    (outcome(latency_s="1.5"), "data.latency_s", "'1.5'"),
    (outcome(latency_s=1, ttft_s=2), "data.ttft_s", "beyond latency_s 1"),
    (outcome(tokens_in=-1, tokens_out=1), "data.tokens_in", "a whole number from 0"),
    (outcome(tokens_in=1.5, tokens_out=1), "data.tokens_in", "1.5"),
    (outcome(tokens_in=1), "data.tokens_out", "send both counts"),
    (outcome(cost_usd=1e6), "data.cost_usd", "USD for this call"),
    (outcome(result="fine"), "data.result", "rate_limit"),
    (outcome(status=700), "data.status", "the HTTP status"),
    (outcome(attempt=0), "data.attempt", "from 1 to 255"),
    (outcome(score=70), "data.score", "from 0 to 1"),
    (outcome(score=True), "data.score", "from 0 to 1"),
    (outcome(passed="yes"), "data.passed", "true or false"),
    (outcome(thumb="sideways"), "data.thumb", "up or down"),
    (outcome(retried=False), "data.retried", "leave it out"),
    (outcome(score=0.5, passed=True), "data.passed", "send one of score, passed"),
    (outcome(kind="human"), "data.kind", "goes with one of"),
    (outcome(task="a\nb"), "data.task", "no control characters"),
    (outcome(ref="r" * 257), "data.ref", "1 to 256"),
    (outcome(prompt="secret"), "data.prompt", "unknown field"),
    ({**outcome(), "time": ago(days=31)}, "time", "30 days"),
    ({**outcome(), "time": ago(days=-1)}, "time", "yet to come"),
    ({**outcome(), "time": "yesterday"}, "time", "RFC 3339"),
    ({**outcome(), "time": "2025-01-01T00:00:00"}, "time", "offset"),
    ({**outcome(), "time": 1700000000}, "time", "RFC 3339"),
    ({**outcome(), "specversion": "0.3"}, "specversion", "1.0"),
    ({**outcome(), "id": ""}, "id", "1 to 256"),
    ({**outcome(), "source": "a\x1fb"}, "source", "no control characters"),
    ({**outcome(), "type": "com.example"}, "type", OUTCOME_TYPE),
    ({**outcome(), "datacontenttype": "text/xml"}, "datacontenttype", "application/json"),
    ({**outcome(), "data": []}, "data", "an object"),
    (outcome(ref=[1]), "data.ref", "1 to 256"),
    (outcome(response_id=0.5), "data.response_id", "0.5, no whole number; store it as text"),
    ({**outcome(), "id": True}, "id", "1 to 256"),
    (outcome(passsed=True), "data.passsed", "did you mean data.passed?"),
    (
        {"Time" if k == "time" else k: v for k, v in outcome().items()},
        "Time",
        "did you mean 'time'?",
    ),
    ({k: v for k, v in outcome().items() if k != "id"}, "id", "is missing"),
    ({k: v for k, v in outcome().items() if k != "data"}, "data", "is missing"),
    ({k: v for k, v in feedback(ref="r", score=1).items() if k != "time"}, "time", "is missing"),
    (feedback(score=1), "data.decision_id", "exactly one of"),
    (feedback(ref="r"), "data.score", "exactly one of"),
    (feedback(ref="r", score=2), "data.score", "from 0 to 1"),
    (feedback(ref="r", score=1, comment="x"), "data.comment", "unknown field"),
    (feedback(decision_id="d-forged", score=1), "data.decision_id", "no decision id"),
    (7, "", "JSON object"),
]


def test_what_is_wrong_names_field_value_and_fix_and_nothing_is_taken(
    sidecar: Sidecar, learner: Any, client: Any
) -> None:
    told: list[Any] = []
    for i, (event, _, _) in enumerate(BAD):
        told += [outcome(f"good-{i}"), event]

    got = tell(sidecar, *told)

    assert got.status_code == 400
    error = got.json()["error"]
    assert error["code"] == "bad_event"
    assert error["param"] == "[1].data.endpoint"
    problems = error["problems"]
    assert [p["index"] for p in problems] == [2 * i + 1 for i in range(len(BAD))]
    for problem, (_, field, hint) in zip(problems, BAD, strict=True):
        assert problem["field"] == field
        assert hint in problem["message"], problem
        assert "secret" not in problem["message"]
    tell(sidecar, outcome("last"))
    settled(sidecar, client, 1)
    assert counted(client, "outcomes") == 1


def test_an_ambiguous_reference_names_its_event(
    sidecar: Sidecar, learner: Any, client: Any
) -> None:
    tell(sidecar, outcome(1, ref="r"), outcome(2, ref="r"))
    settled(sidecar, client, 2)

    got = tell(sidecar, feedback(1, ref="x", score=1), feedback(2, ref="r", score=1))
    all_ = tell(sidecar, feedback(2, ref="r", score=1, match="all"))

    (problem,) = got.json()["error"]["problems"]
    assert (problem["index"], problem["field"]) == (1, "data.ref")
    assert problem["code"] == "ambiguous_reference"
    assert all_.status_code == 202
    sidecar.until(lambda: sidecar.labels_known() == 2)


NO_EVENTS: list[tuple[bytes, dict[str, str], int, str]] = [
    (b"[]", MANY, 400, "bad_event"),
    (b"[" + b"{}," * 1000 + b"{}]", MANY, 400, "bad_event"),
    (b"{}", MANY, 400, "invalid_json"),
    (b"[{]", MANY, 400, "invalid_json"),
    (b"[" * 50_000, MANY, 400, "invalid_json"),
    (b"[" + b'{"a":' * 50_000, MANY, 400, "invalid_json"),
    (b'{"a":' * 5000, ONE, 400, "bad_event"),
    (b"\xff", ONE, 400, "bad_event"),
    (b"{}", {"content-type": "application/json"}, 415, "unsupported_media_type"),
    (b"{}", {}, 415, "unsupported_media_type"),
    (b"{", {"ce-specversion": "1.0"}, 400, "invalid_json"),
    (b"[" + b" " * (40 << 20) + b"]", MANY, 413, "body_too_large"),
]


def test_what_is_no_event_is_refused(sidecar: Sidecar) -> None:
    for body, headers, status, code in NO_EVENTS:
        got = sidecar.http.post("/v1/events", content=body, headers=headers)

        assert (got.status_code, got.json()["error"]["code"]) == (status, code), body[:20]


def test_events_never_go_to_the_pass_through_provider(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = {
        "endpoints": [endpoint(provider, "a")],
        "providers": {"all": {"base_url": provider.url("all"), "passthrough": True}},
    }
    with serving(value, state_dir, address) as found:
        assert found.http.get("/v1/events").status_code == 405
        assert found.http.post("/v1/events/x").status_code == 404

    assert provider.calls == []


def test_a_full_journal_is_said_and_the_same_batch_counts_once_later(
    sidecar: Sidecar, learner: Any, client: Any
) -> None:
    told = [outcome(i) for i in range(3)]
    before, n_put = resource.getrlimit(resource.RLIMIT_FSIZE), 0
    try:
        # No file of this process may grow beyond this: there is no room for another segment.
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        while sidecar.app.writer.put(outcome_of(n_put)):
            n_put += 1
        full = tell(sidecar, *told)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert full.status_code == 503
    assert full.json()["error"]["code"] == "telemetry_full"
    sidecar.until(lambda: tell(sidecar, *told).status_code == 202)
    settled(sidecar, client, n_put + 3)
    assert counted(client, "outcomes") == n_put + 3


# -- files --------------------------------------------------------------------------------------


def take(sidecar: Sidecar, path: Path, **more: Any) -> ingest_command.IngestResult:
    settings = {"form": None, "source": None, "headers": {}, "dry_run": False, **more}
    return ingest_command.run(path, url=sidecar.url, **settings)


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as the suffix says."""
    if path.suffix == ".parquet":
        pl.DataFrame(rows).write_parquet(path)
    elif path.suffix == ".csv":
        pl.DataFrame(rows).write_csv(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


TABLE = [
    {
        "prompt_id": f"p{i}",
        "category": "code" if i % 2 else "chat",
        "model": "a" if i % 3 else "b",
        "quality": (i % 5) / 4,
        "cost_usd": 0.001 * i if i % 7 else None,
        "tokens_in": 100 + i,
        "tokens_out": 10 + i,
        "latency_s": 0.5 + i / 100,
    }
    for i in range(50)
]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_recorded_table_teaches_once_however_often_it_is_read(
    sidecar: Sidecar, learner: Any, client: Any, tmp_path: Path, suffix: str
) -> None:
    path = written(tmp_path / f"table.{suffix}", TABLE)

    first, second = take(sidecar, path), take(sidecar, path)

    assert (first.n_rows, first.n_accepted, first.n_rejected) == (50, 50, 0)
    assert second.n_accepted == 50
    assert first.ignored == ["prompt_id"]
    settled(sidecar, client, 100)
    assert counted(client, "outcomes") == 50
    usage, quality = sums(client, Family.USAGE), sums(client, Family.QUALITY)
    assert usage[U.CALLS] == quality[Q.LABELS] == 50
    assert quality[Q.R] / quality[Q.N] == pytest.approx(0.5 * REAL_SCALE, rel=1e-4)
    sidecar.until(lambda: sidecar.labels_known() == 50)
    posterior = sidecar.app.keeper.current.posterior
    tasks = list(sidecar.app.keeper.current.configuration.task_index)
    assert posterior.calls[tasks.index("code")].sum() == 25
    assert posterior.calls[:, 1].sum() == 17


def test_a_file_that_has_grown_teaches_what_is_new_and_alike_rows_count_each(
    sidecar: Sidecar, learner: Any, client: Any, tmp_path: Path
) -> None:
    path = written(tmp_path / "runs.jsonl", [{"endpoint": "a", "passed": True}] * 3)
    take(sidecar, path)
    fresh = {"endpoint": "b", "passed": False}
    written(path, [fresh, *[{"endpoint": "a", "passed": True}] * 5])

    take(sidecar, path)

    settled(sidecar, client, 3 + 6)
    assert counted(client, "outcomes") == 6


BAD_ROWS = [
    {"endpoint": "a", "latency_s": 1.5},
    {"endpoint": "zzz", "latency_s": 1.5},
    {"endpoint": "a", "latency_s": -1},
    {"endpoint": "b", "latency_s": 2},
]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_bad_rows_go_to_a_file_with_their_reasons_and_the_others_are_taken(
    sidecar: Sidecar, learner: Any, client: Any, tmp_path: Path, suffix: str
) -> None:
    path = written(
        tmp_path / f"rows.{suffix}", [{**r, "n": float(i)} for i, r in enumerate(BAD_ROWS)]
    )

    found = take(sidecar, path)

    first = {"jsonl": 1, "csv": 2, "parquet": 1}[suffix]
    assert (found.n_accepted, found.n_rejected) == (2, 2)
    assert [line for line, _ in found.errors] == [first + 1, first + 2]
    assert "'zzz' is not in the configuration" in found.errors[0][1]
    assert found.rejected_file == tmp_path / f"rows.{suffix}.rejected.jsonl"
    rejected = [json.loads(line) for line in found.rejected_file.read_text().splitlines()]
    assert [r["line"] for r in rejected] == [first + 1, first + 2]
    assert float(rejected[1]["row"]["latency_s"]) == -1
    settled(sidecar, client, 2)
    assert counted(client, "outcomes") == 2


def test_lines_that_are_no_rows_are_named_by_number(
    sidecar: Sidecar, learner: Any, client: Any, tmp_path: Path
) -> None:
    path = tmp_path / "log.jsonl"
    lines = [
        json.dumps({"endpoint": "a"}),
        "",
        "{oops",
        "[1]",
        '{"endpoint": "a", "latency_s": NaN}',
        '{"endpoint": "a", "ref": "' + "x" * 70_000 + '"}',
        '{"endpoint": "a", "ref": "\\ud800"}',
        json.dumps(outcome("own", endpoint="b")),
        json.dumps({"ref": "r", "score": 0.5, "time": time.time()}),
        json.dumps({"ref": "r", "score": 0.5}),
    ]
    path.write_text("\n".join(lines))

    found = take(sidecar, path)

    assert found.n_accepted == 3
    assert sorted(line for line, _ in found.errors) == [3, 4, 5, 6, 7, 10]
    reasons = dict(found.errors)
    assert "not JSON" in reasons[3]
    assert "over 65536 bytes" in reasons[6]
    assert "time is missing" in reasons[10]
    settled(sidecar, client, 2)


def test_a_torn_csv_row_is_rejected_and_its_neighbours_are_taken(
    sidecar: Sidecar, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(
        b"\xef\xbb\xbfendpoint,passed,time\r\na,true,\r\na\r\na,no,,,\r\n"
        b'"a",FALSE,' + datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S").encode() + b"\r\na,maybe,"
    )

    found = take(sidecar, path)

    assert found.n_accepted == 2
    assert sorted(found.errors)[0] == (3, "not 3 fields as in the header, but 1")
    assert "'maybe'; it must be true or false" in sorted(found.errors)[2][1]


def test_a_dry_run_of_a_file_names_the_bad_rows_and_leaves_nothing(
    sidecar: Sidecar, learner: Any, client: Any, tmp_path: Path
) -> None:
    path = written(tmp_path / "rows.jsonl", BAD_ROWS)

    found = take(sidecar, path, dry_run=True)

    assert (found.n_accepted, found.n_rejected) == (2, 2)
    assert list(tmp_path.iterdir()) == [path]
    assert sidecar.app.writer.counters.sent == 0


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.csv", None, "there is no such file"),
        ("rows.txt", b"x", "--format"),
        ("rows.parquet", b"no parquet", "cannot be read as parquet"),
        ("rows.csv", b"", "no header line"),
        ("rows.csv", b"endp\xffint\na\n", "the header cannot be read as CSV (not UTF-8"),
        ("rows.csv", "endpoint\n".encode("utf-16"), "the header cannot be read as CSV"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(BadFile) as caught:
        list(open_rows(tmp_path / name, form=None, source=None))

    assert said in str(caught.value)


def test_cells_become_what_their_fields_take(tmp_path: Path) -> None:
    """A number is a fine reference, a whole float a fine count, and a gap says nothing."""
    rows = [
        {"endpoint": "a", "ref": 7, "tokens_in": 100.0, "tokens_out": 2.0, "passed": True},
        {"endpoint": "a", "ref": None, "tokens_in": 1.0, "tokens_out": 1.0, "passed": None},
    ]
    for suffix in ("csv", "parquet", "jsonl"):
        path = written(tmp_path / f"cells.{suffix}", rows)

        made = [line.event for line in open_rows(path, form=None, source="s")]

        assert made[0]
        assert made[1]
        assert made[0]["data"] == {
            "endpoint": "a", "ref": "7", "tokens_in": 100, "tokens_out": 2, "passed": True
        }  # fmt: skip
        assert made[1]["data"] == {"endpoint": "a", "tokens_in": 1, "tokens_out": 1}
        for event in made:
            assert ingest.parse(json.dumps(event).encode())


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("name", ["tokens_in", "status", "attempt"])
def test_a_fraction_of_what_is_counted_is_refused_and_rounded_nowhere(
    sidecar: Sidecar, tmp_path: Path, suffix: str, name: str
) -> None:
    row = {"endpoint": "a", "tokens_in": 10.0, "tokens_out": 5.0, "status": 200.0, "attempt": 1.0}
    path = written(tmp_path / f"counts.{suffix}", [{**row, name: 1.5}, row])

    found = take(sidecar, path)

    assert (found.n_accepted, found.n_rejected) == (1, 1)
    ((_, reason),) = found.errors
    assert re.match(rf"data\.{name} is 1\.5; it must be ", reason)
    got = tell(sidecar, outcome(9, **{**row, name: 1.5}))
    assert got.status_code == 400
    assert reason in got.json()["error"]["message"]


@pytest.mark.parametrize("name", ["tokens_in", "tokens_out", "status", "attempt"])
def test_an_event_takes_whole_numbers_however_they_are_written(sidecar: Sidecar, name: str) -> None:
    most = {"status": "2.0e2", "attempt": "2.55e2"}.get(name, "1e9")
    for i, number in enumerate(("1.0", most)):
        event = outcome(i, **{"tokens_in": 1, "tokens_out": 1, name: "?"})
        raw = json.dumps(event).replace('"?"', number)

        got = sidecar.http.post("/v1/events", content=raw, headers=ONE)

        assert got.status_code == 202, got.text
        data = ingest.parse(raw.encode()).data
        assert isinstance(data, ingest.Outcome)
        read = getattr(data, name)
        assert (type(read), read) == (int, int(float(number)))


def test_a_revision_may_be_a_whole_float(sidecar: Sidecar) -> None:
    assert sidecar.feedback(ref="r", score=1, revision=2.0).status_code == 202

    got = sidecar.feedback(ref="r", score=1, revision=1.5)

    assert "revision is 1.5; it must be a whole number" in got.json()["error"]["message"]


@pytest.mark.parametrize("number", ["1e17", str(2.0**60), "1e23"])
def test_an_id_beyond_what_floats_hold_is_refused_for_that_reason(
    sidecar: Sidecar, tmp_path: Path, number: str
) -> None:
    said = f"is {float(number)!r}; above 2^53 a number has lost digits; store it as text"
    raw = json.dumps(outcome(1, ref="?")).replace('"?"', number)
    path = tmp_path / "ids.jsonl"
    path.write_text(f'{{"endpoint": "a", "ref": {number}}}\n')

    event = sidecar.http.post("/v1/events", content=raw, headers=ONE)
    feedback = sidecar.http.post("/v1/feedback", content=f'{{"ref": {number}, "score": 1}}')

    assert f"data.ref {said}" in event.json()["error"]["message"]
    assert event.json()["error"]["problems"][0]["field"] == "data.ref"
    assert feedback.json()["error"]["message"] == f"ref {said}"
    assert take(sidecar, path).errors == [(1, f"ref {said}")]


def test_a_refused_file_is_one_json_object_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("endpoint,passed,passed\na,true,true\n")
    sound = written(tmp_path / "sound.csv", [{"endpoint": "a"}])
    for file, url in ((path, "http://127.0.0.1:9"), (sound, "nowhere")):
        with pytest.raises(SystemExit) as caught:
            ingest_command.ingest(
                file,
                form=None,
                source=None,
                url=url,
                key="",
                config=None,
                dry_run=False,
                as_json=True,
            )

        said = capsys.readouterr()
        found = json.loads(said.out)
        assert caught.value.code == 2
        assert found["failure"] == said.err.strip()
        assert (found["rows"], found["accepted"], found["errors"]) == (0, 0, [])
        fix = "'passed' is there twice; rename or drop one" if file == path else "write a whole URL"
        assert fix in found["failure"]


def test_ids_depend_on_rows_only(tmp_path: Path) -> None:
    rows = [{"endpoint": "a", "latency_s": 0.5}, {"endpoint": "a", "latency_s": 0.25}]

    def ids(path: Path) -> list[str]:
        return [line.event["id"] for line in open_rows(path, form=None, source="s") if line.event]

    straight = ids(written(tmp_path / "x.jsonl", rows * 2))
    turned = ids(written(tmp_path / "y.jsonl", rows[::-1] * 2))

    assert sorted(straight) == sorted(turned)
    assert len(set(straight)) == 4


# -- as meant, or refused -----------------------------------------------------------------------


def labels(client: Any) -> tuple[float, float]:
    """Return how many labels count, and their mean."""
    quality = sums(client, Family.QUALITY)
    return quality[Q.LABELS], quality[Q.R] / max(quality[Q.N], 1) / REAL_SCALE


def feedback_files(directory: Path, score: float) -> Iterator[Path]:
    row = {"ref": "mine", "time": ago(seconds=1), "score": score}
    yield written(directory / "said.csv", [row])
    yield written(directory / "said.jsonl", [row])
    yield written(directory / "said.parquet", [row])
    yield written(directory / "event.jsonl", [feedback(7, ref="mine", score=score)])


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_retracts_nothing(
    sidecar: Sidecar, learner: Any, client: Any, tmp_path: Path, score: float
) -> None:
    tell(sidecar, outcome(1, ref="mine", score=0.75))
    settled(sidecar, client, 1)

    for path in feedback_files(tmp_path, score):
        found = take(sidecar, path)

        assert (found.n_accepted, found.n_rejected) == (0, 1), path
        shown = r"'?-?(nan|inf|Infinity)'?|a number too large"
        assert re.search(rf"score is ({shown}); it must be a", found.errors[0][1], re.I)
    tell(sidecar, outcome("last"))
    settled(sidecar, client, 2)
    assert labels(client) == (1, pytest.approx(0.75))


@pytest.mark.parametrize("text", ["1e400", "-1e400", "NaN", "Infinity", "true", '"0.5"', "[1]"])
def test_no_door_takes_a_score_that_is_no_number(
    sidecar: Sidecar, learner: Any, client: Any, tmp_path: Path, text: str
) -> None:
    tell(sidecar, outcome(1, ref="mine", score=0.75))
    settled(sidecar, client, 1)
    event = json.dumps(feedback(7, ref="mine", score="?")).replace('"?"', text)
    path = tmp_path / "event.jsonl"
    path.write_text(event + "\n")
    post = sidecar.http.post

    said = [
        post("/v1/feedback", content=f'{{"ref": "mine", "score": {text}}}'),
        post("/v1/events", content=event, headers=ONE),
        post("/v1/events", content=f"[{event}]", headers=MANY),
    ]

    assert [got.status_code for got in said] == [400] * 3
    assert take(sidecar, path).n_rejected == 1
    tell(sidecar, outcome("last"))
    settled(sidecar, client, 2)
    assert labels(client) == (1, pytest.approx(0.75))


def test_an_explicit_null_retracts(sidecar: Sidecar, learner: Any, client: Any) -> None:
    tell(sidecar, outcome(1, ref="mine", score=0.75, kind="judge"))
    settled(sidecar, client, 1)

    assert tell(sidecar, feedback(1, at=ago(seconds=1), ref="mine", score=None)).status_code == 202

    sidecar.until(lambda: labels(client)[0] == 0)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("name", ["id", "prompt_id", "response_id"])
def test_ids_that_became_floats_as_the_file_grew_count_once(
    sidecar: Sidecar, learner: Any, client: Any, tmp_path: Path, suffix: str, name: str
) -> None:
    path = tmp_path / f"runs.{suffix}"
    row = {"endpoint": "a", "passed": True, "score": None}
    take(sidecar, written(path, [{**row, name: i} for i in (1, 2, 3)]))

    again = take(sidecar, written(path, [{**row, name: float(i)} for i in (1, 2, 3, 4)]))

    assert (again.n_accepted, again.n_rejected) == (4, 0)
    settled(sidecar, client, 7)
    assert counted(client, "outcomes") == 4
    assert labels(client)[0] == 4


def test_an_id_is_the_same_one_in_every_format(
    sidecar: Sidecar, learner: Any, client: Any, tmp_path: Path
) -> None:
    for i, suffix in enumerate(("csv", "jsonl", "parquet")):
        rows = [{"endpoint": "a", "id": float(7), "ref": float(i)}]
        take(sidecar, written(tmp_path / f"x.{suffix}", rows), source="/test")
    for number in (7, 7.0, "7"):
        assert tell(sidecar, {**outcome(ref="0"), "id": number}).status_code == 202
    settled(sidecar, client, 6)
    assert counted(client, "outcomes") == 1

    for ref in (0, 0.0, "0"):
        assert sidecar.feedback(ref=ref, passed=True).json()["results"][0]["decisions"] == 1
    for ref, said in ((0.5, "ref is 0.5, no whole number"), ([0], "ref is [0]"), (True, "ref is")):
        got = sidecar.feedback(ref=ref, passed=True)
        assert (got.status_code, got.json()["error"]["param"]) == (400, "ref")
        assert said in got.json()["error"]["message"]
        assert tell(sidecar, outcome(8, ref=ref)).status_code == 400


def reasons(path: Path, rows: list[dict[str, Any]]) -> list[str]:
    return [line.reason for line in open_rows(written(path, rows), form=None, source="s")]


def test_ids_and_names_that_are_no_text_are_named_with_the_fix(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"

    assert "ref is b'r'; it must be text" in reasons(path, [{"endpoint": "a", "ref": b"r"}])[0]
    assert "id is true; it must be text" in reasons(path, [{"endpoint": "a", "id": True}])[0]
    (said,) = reasons(path, [{"model": 4.1}])
    assert said == (
        "model is 4.1, no whole number; store it as text, so that 4.1 and 4.10 stay apart"
    )
    assert reasons(path, [{"model": 4.0}]) == [""]
    listed = {"endpoint": "a", "response_id": ["r"]}
    assert "response_id is ['r']; it must be text" in reasons(tmp_path / "x.jsonl", [listed])[0]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_names_are_never_read_as_numbers(tmp_path: Path, suffix: str) -> None:
    rows = [{"model": m, "category": c} for m, c in (("4.1", "01"), ("4.10", "1"), ("4.0", "1.0"))]
    path = written(tmp_path / f"x.{suffix}", rows)

    made = [line.event["data"] for line in open_rows(path, form=None, source="s") if line.event]

    assert [(d["endpoint"], d["task"]) for d in made] == [
        ("4.1", "01"), ("4.10", "1"), ("4.0", "1.0")
    ]  # fmt: skip


def test_two_models_that_would_go_by_one_name_are_not_merged(tmp_path: Path) -> None:
    said = reasons(tmp_path / "x.csv", [{"model": "a b"}, {"model": "a-b"}, {"model": "a b"}])

    assert said[0] == said[2] == ""
    assert said[1] == ("model 'a-b' and 'a b' would both be 'a-b'; give one of them another name")


def test_a_bad_line_of_csv_ends_no_file(
    sidecar: Sidecar, learner: Any, client: Any, tmp_path: Path
) -> None:
    rows = [f"{'ab'[i % 2]},code,{'true' if i % 4 else 'false'},r{i}" for i in range(3000)]
    rows[1499] = 'a,"co"de,true,x'
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(["endpoint,task,passed,ref", *rows]) + "\n")

    found = take(sidecar, path)

    assert (found.n_rows, found.n_accepted, found.n_rejected) == (3000, 2999, 1)
    assert found.errors == [(1501, "text after a closing quote; write a quote inside quotes twice")]
    assert found.rejected_file
    assert json.loads(found.rejected_file.read_text())["row"] == 'a,"co"de,true,x'
    settled(sidecar, client, 2999)
    assert counted(client, "outcomes") == 2999
    assert labels(client)[0] == 2999


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_what_is_taken_and_rejected_is_every_row_and_the_rejected_have_no_effect(
    sidecar: Sidecar, learner: Any, client: Any, tmp_path: Path, suffix: str
) -> None:
    """Rows with one to four random bytes overwritten; what is accepted is folded, the rest not."""
    rng = np.random.default_rng(11)
    path = tmp_path / f"runs.{suffix}"
    written(
        path, [{"endpoint": "a", "id": i, "latency_s": 1.5, "ref": f"r{i}"} for i in range(900)]
    )
    content = bytearray(path.read_bytes())
    newlines = content.count(b"\n")
    header = content.index(b"\n") + 1
    for place in rng.integers(header, len(content), size=600):
        if content[place] != ord("\n"):
            content[place] = rng.choice(list(b'",:{}x\xff1.\x00'))
    path.write_bytes(content)

    found = take(sidecar, path)

    assert 100 < found.n_rejected < 800
    if suffix == "jsonl":
        assert found.n_rows == newlines
    assert found.rejected_file
    rejected = [json.loads(line)["line"] for line in found.rejected_file.read_text().splitlines()]
    assert len(set(rejected)) == found.n_rejected == found.n_rows - found.n_accepted
    assert [line for line, _ in found.errors] == sorted(rejected)[:10]
    tell(sidecar, outcome("last"))
    settled(sidecar, client, found.n_accepted + 1)
    assert counted(client, "outcomes") + counted(client, "repeated") == found.n_accepted + 1


def test_a_padded_header_loses_no_label(
    sidecar: Sidecar, learner: Any, client: Any, tmp_path: Path
) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("endpoint, task, passed\na, code, true\nb, code, false\n")

    found = take(sidecar, path)

    assert (found.n_accepted, found.ignored, found.warnings) == (2, [], {})
    settled(sidecar, client, 2)
    assert labels(client) == (2, pytest.approx(0.5))


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("endpoint,passsed", "column 'passsed': did you mean 'passed'? rename it, or pass it over"),
        ("endpoint,Passed", "column 'Passed': did you mean 'passed'?"),
        ("endpoint,latency-s", "column 'latency-s': did you mean 'latency_s'?"),
        ("endpoint,passed,passed", "column 'passed' is there twice"),
        ("endpoint,passed, passed", "column 'passed' is there twice"),
    ],
)
def test_columns_that_would_be_lost_are_asked_about(tmp_path: Path, header: str, said: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(header + "\na,true,true\n")

    with pytest.raises(BadFile) as caught:
        list(open_rows(path, form=None, source=None))

    assert said in str(caught.value)


def test_a_column_may_be_passed_over_by_name(sidecar: Sidecar, tmp_path: Path) -> None:
    rows = [{"endpoint": "a", "passed": True, "mode": "fast", "stats": "x"}]
    path = written(tmp_path / "runs.csv", rows)

    asked = pointsman("ingest", path, "--url", sidecar.url)
    taken = pointsman("ingest", path, "--url", sidecar.url, "--ignore", "stats", "--json")

    assert asked.exit_code == 2
    assert "column 'stats': did you mean 'status'?" in asked.stderr
    assert taken.exit_code == 0, taken.stderr
    assert json.loads(taken.stdout)["ignored_columns"] == ["mode", "stats"]


def test_fields_of_json_are_asked_about_and_there_once(sidecar: Sidecar, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    lines = ['{"endpoint": "a"}', '{"endpoint": "a", "passsed": true}']
    twice = '{"endpoint": "a", "score": 1, "score": 0}'
    path.write_text("\n".join([*lines, twice]))

    found = take(sidecar, path)
    event = json.dumps(outcome(1, score="?")).replace('"?"', '1, "score": 0')
    told = sidecar.http.post("/v1/events", content=event, headers=ONE).json()["error"]
    said = sidecar.http.post("/v1/feedback", content='{"ref": "r", "score": 1, "score": 0}')
    near = sidecar.feedback(ref="r", scores=1).json()["error"]["message"]

    assert found.n_accepted == 1
    assert [line for line, _ in found.errors] == [2, 3]
    assert "'passsed': did you mean 'passed'?" in found.errors[0][1]
    assert found.errors[1][1] == "field 'score' is there twice; drop one"
    assert "field 'score' is there twice" in told["message"]
    assert (said.status_code, said.json()["error"]["param"]) == (400, "score")
    assert "did you mean score?" in near


def test_rows_are_known_by_what_the_versions_before_called_them(tmp_path: Path) -> None:
    """Else a file that was read before an upgrade would count twice after it."""
    row = {"endpoint": "a", "latency_s": "1.0", "quality": "0.75", "tokens_in": "100", "n": "x"}
    path = tmp_path / "runs.csv"
    path.write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")

    (line,) = open_rows(path, form=None, source="s")

    assert line.event
    shown = json.dumps(row, sort_keys=True).encode()
    assert line.event["id"] == hashlib.blake2b(shown, digest_size=16).hexdigest() + ".0"


# -- the command --------------------------------------------------------------------------------


def test_the_command_prints_one_object_and_says_by_its_code_how_it_went(
    sidecar: Sidecar, tmp_path: Path
) -> None:
    good = written(tmp_path / "good.csv", TABLE)
    bad = written(tmp_path / "bad.jsonl", BAD_ROWS)

    fine = pointsman("ingest", good, "--url", sidecar.url, "--json")
    torn = pointsman("ingest", bad, "--url", sidecar.url)
    none = pointsman("ingest", tmp_path / "none.csv", "--url", sidecar.url)

    assert fine.exit_code == 0, fine.stderr
    assert json.loads(fine.stdout)["accepted"] == 50
    assert torn.exit_code == 1
    assert "line 2: data.endpoint 'zzz'" in torn.stdout
    assert "4 rows: 2 taken, 2 rejected" in torn.stdout
    assert none.exit_code == 2
    assert "no such file" in none.stderr

    nobody = pointsman("ingest", good, "--url", "http://127.0.0.1:9")
    assert nobody.exit_code == 1
    assert "no sidecar at http://127.0.0.1:9" in nobody.stderr


@pytest.mark.parametrize(("refusals", "taken"), [(3, 2500), (99, 1000)])
def test_a_sidecar_that_takes_no_more_is_asked_again_and_then_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusals: int, taken: int
) -> None:
    """After its first batch this one is full for a while."""
    monkeypatch.setattr(ingest_command, "PAUSE_S", 0.0)  # patched: else it waits for eight seconds
    answers = [202, *[503] * refusals, *[202] * 9]

    async def full(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        head = {"type": "http.response.start", "status": answers.pop(0), "headers": []}
        await send(head)
        await send({"type": "http.response.body", "body": b'{"accepted": 1}'})

    path = written(tmp_path / "rows.jsonl", [{"endpoint": "a", "n": i} for i in range(2500)])
    running = Running(full)
    try:
        url = f"http://127.0.0.1:{running.port}"
        found = ingest_command.run(path, form=None, source=None, url=url, headers={}, dry_run=False)
    finally:
        running.stop()

    assert found.n_accepted == taken
    assert ("goes on from there" in found.failure) is (taken < 2500)


# -- schemas and the contract -------------------------------------------------------------------


def test_schemas_are_those_of_the_types() -> None:
    """Where this fails: `python -m telemetry.schemas`, and say in the changelog what moved."""
    files = {p.name: p.read_text() for p in schemas.DIRECTORY.glob("*.json")}

    assert files == {name: schemas.shown(schema) for name, schema in schemas.build().items()}


def contract() -> Iterator[bytes]:
    yield from (DATA / "events_v1.jsonl").read_bytes().splitlines()


def test_events_of_the_first_version_parse_for_ever() -> None:
    parsed = [ingest.parse(line) for line in contract()]

    outcomes = [e.data for e in parsed if isinstance(e, ingest.OutcomeEvent)]
    assert [e.type for e in parsed].count(FEEDBACK_TYPE) == 3
    assert [o.ended.name for o in outcomes] == [
        *("OK", "OK", "RATE_LIMIT", "TIMEOUT", "OK", "OK", "OK")
    ]
    assert outcomes[1].ttft_s == 0.4
    for event in parsed:
        if isinstance(event, ingest.FeedbackEvent):
            parse_item(event.data, "")


def test_the_documented_event_parses_and_every_field_is_documented() -> None:
    section = (REPOSITORY / "docs" / "ingest.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", section, re.S)

    assert ingest.parse(example.encode()).data
    assert [f for f in ingest.Outcome.model_fields if f"`{f}`" not in section] == []
    assert [r for r in Result if f"`{r.name.lower()}`" not in section] == []


def test_the_names_of_the_wire_are_those_of_the_record() -> None:
    names = {r.name.lower() for r in Result}
    kinds = {k.name.lower() for k in FeedbackKind}

    for name in names:
        assert ingest.parse(json.dumps(outcome(result=name)).encode())
    for kind in kinds:
        assert ingest.parse(json.dumps(outcome(score=1, kind=kind)).encode())
    with pytest.raises(BadEvent):
        ingest.parse(json.dumps(outcome(result="other")).encode())
    schema = schemas.build()["feedback_event.json"]["properties"]["data"]
    assert set(schema["properties"]) == {*REFERENCE_NAMES, *VALUES, *OPTIONS}
    assert set(schema["properties"]["kind"]["enum"]) == kinds
    assert (ingest.REFERENCES, ingest.LABELS) == (REFERENCE_NAMES, VALUES)


def test_the_record_says_everything_where_it_lies() -> None:
    schema = schemas.build()["record.json"]
    places = []

    def walk(part: dict[str, Any]) -> None:
        for entry in part["properties"].values():
            if "properties" in entry:
                walk(entry)
            else:
                places.append((entry["x-offset"], entry["x-bytes"]))

    walk(schema)
    places.sort()
    assert [o + n for o, n in places] == [o for o, _ in places[1:]] + [events.RECORD_SIZE]


def test_one_event_is_one_nonce() -> None:
    assert digest16("app", "event", "/s", "1") != digest16("app", "event", "/s1", "")
