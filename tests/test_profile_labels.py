"""Labels of a profile: apart from those of traffic, in full up to fifty a cell, and no traffic."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import LEARN, SHARDS, Provider, Reply, Sidecar, endpoint, learning, serving
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_alarms import judged
from test_prompt_versions import DAY_MS, NOW_MS, World, cell, configuration, replace_regime, world
from test_workers_archive import Life, life

from bandit import cells, epochs
from bandit.evidence import MOST_PRIOR_N
from bandit.families import B, Family, P, Q, T, U
from bandit.regimes import FIRST
from router.config.compiled import compile_text
from router.report.profiled import profiled_line
from router.report.views import report_rows
from telemetry import decoding, events, keys
from telemetry.digests import digest8
from telemetry.events import Flag, Result
from telemetry.store import Address
from telemetry.tokens import Token
from workers.archive.rebuilt import named
from workers.archive.restore import restore
from workers.folding.hearing import LabelStandings
from workers.folding.terms import label_terms, outcome_terms

__all__ = ["life", "world"]
TASK, ARM = 1, 9


def tokens(n: int, epoch: int, at_ms: int = NOW_MS) -> NDArray[np.void]:
    body = Token(1, 0, 0, bytes(16), at_ms, TASK, ARM, ARM, 4, 5, 6, 7, 1.0, 0.0, 0.0)
    packed = replace_regime(body, epochs.composed(0, epoch)).pack()
    ended = {"result": Result.OK, "attempt": 1, "status": 200, "flags": 0}
    raw = b"".join(events.outcome(packed, **ended) for _ in range(n))
    return decoding.decode(raw)[0]["token"]


def standings(rewards: list[float]) -> LabelStandings:
    none, values = LabelStandings.nothing(len(rewards)), np.array(rewards, dtype=float)
    return replace(none, reward=values, first=values, kind=np.full(len(rewards), 2, np.uint8))


def terms(rewards: list[float], epoch: int, at_ms: int = NOW_MS) -> cells.Terms:
    none = LabelStandings.nothing(len(rewards))
    found = label_terms(tokens(len(rewards), epoch, at_ms), none, standings(rewards))
    return cells.merge(found)


def worth(rows: cells.Terms, present: int = 0, now_ms: int = NOW_MS) -> NDArray[np.float64]:
    """What the labels of the one cell count for."""
    booked = np.array([TASK], dtype=np.uint64)
    labels = epochs.parted(rows, booked, np.array([present]))
    given: dict[str, Any] = {"categories": booked, "endpoints": np.array([ARM], dtype=np.uint64)}
    return epochs.read_labels(labels, Family.QUALITY, [FIRST], **given, now_ms=now_ms)[0, 0]


# -- what they count for -------------------------------------------------------------------------


def test_twenty_five_labels_of_a_profile_count_as_any_twenty_five() -> None:
    rewards = [1.0] * 18 + [0.0] * 7
    found = worth(terms(rewards, epochs.PROFILE))

    assert found[:4] == pytest.approx(worth(terms(rewards, 0))[:4])
    assert (found[Q.LABELS], found[Q.N]) == (25, pytest.approx(25, rel=0.05))


def test_of_two_hundred_fifty_count_with_the_same_mean() -> None:
    found = worth(terms([1.0] * 150 + [0.5] * 50, epochs.PROFILE))

    assert (found[Q.LABELS], found[Q.N]) == (50, pytest.approx(50))
    assert found[Q.R] / found[Q.N] == pytest.approx(0.875)
    assert found[Q.R2] / found[Q.N] == pytest.approx(0.8125)


def test_the_cap_is_of_what_is_left_of_them_after_decay() -> None:
    rows = terms([1.0] * 60, epochs.PROFILE)
    later = worth(rows, now_ms=NOW_MS + 14 * DAY_MS)

    assert later[Q.N] == pytest.approx(30, rel=0.05)
    assert later[Q.LABELS] == 50


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(0, 1), max_size=120),
    st.lists(st.floats(0, 1), max_size=120),
    st.lists(st.floats(0, 1), max_size=120),
)
def test_traffic_counts_in_full_beside_a_profile_and_earlier_prompts(
    traffic: list[float], profile: list[float], before: list[float]
) -> None:
    rows = cells.merge([terms(traffic, 3), terms(profile, epochs.PROFILE), terms(before, 1)])

    found = worth(rows, present=3)

    own = worth(terms(traffic, 3), present=3)
    apart = worth(terms(profile, epochs.PROFILE))
    plain = worth(terms(profile, 0))  # as any labels would count
    share = min(1.0, MOST_PRIOR_N / plain[Q.N]) if profile else 0.0
    assert apart[[Q.N, Q.R, Q.R2]] == pytest.approx(plain[[Q.N, Q.R, Q.R2]] * share, abs=1e-6)
    assert apart[Q.LABELS] == min(len(profile), MOST_PRIOR_N)
    old = worth(terms(before, 1), present=3)
    assert old[Q.N] < MOST_PRIOR_N or not before
    assert found[:4] == pytest.approx(own[:4] + apart[:4] + old[:4], rel=1e-6, abs=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60), st.randoms())
def test_sums_do_not_depend_on_the_order_in_which_labels_came(
    said: list[tuple[float, bool]], luck: random.Random
) -> None:
    def summed(order: list[tuple[float, bool]]) -> dict[bytes, list[int]]:
        parts = [terms([value], epochs.PROFILE if mine else 0) for value, mine in order]
        whole = cells.merge(parts)
        pairs = zip(whole.keys, whole.values.tolist(), strict=True)
        return {key.tobytes(): value for key, value in pairs}

    shuffled = list(said)
    luck.shuffle(shuffled)
    assert summed(shuffled) == summed(said)


def test_a_label_that_is_corrected_or_taken_back_leaves_what_holds() -> None:
    none, one, other = LabelStandings.nothing(1), standings([1.0]), standings([0.25])
    token = tokens(1, epochs.PROFILE)

    corrected = [*label_terms(token, none, one), *label_terms(token, one, other)]
    assert worth(cells.merge(corrected))[:3] == pytest.approx([1, 1, 0.25], rel=0.05)
    gone = cells.merge([*corrected, *label_terms(token, other, none)])
    assert not gone.values.any()


def test_no_epoch_of_a_task_is_a_profiles_and_none_opens_by_it() -> None:
    assert epochs.composed(0, 10**6) >> 16 == epochs.LAST < epochs.PROFILE
    rows = cells.merge([terms([1.0], epochs.PROFILE), terms([1.0], 4)])
    assert epochs.highest(rows) == {TASK: 4}
    assert epochs.highest(terms([1.0], epochs.PROFILE)) == {}


def test_rows_of_before_there_were_profiles_count_as_they_did() -> None:
    rows = cells.merge([terms([1.0] * 30, 0), terms([0.0] * 30, 2)])
    labels = epochs.parted(rows, np.array([TASK], dtype=np.uint64), np.array([2]))

    assert not len(labels.profiled.keys)
    assert worth(rows, present=2)[Q.N] == pytest.approx(30 + 20, rel=0.05)  # 1 ÷ (1/30 + 1/60)
    assert epochs.parted(rows, np.array([], dtype=np.uint64), np.array([])).rows is rows


# -- in beliefs ----------------------------------------------------------------------------------


def test_they_are_believed_under_any_prompt_and_no_change_is_told_by_them(world: World) -> None:
    world.call("big", 4)
    world.label(100, 0.9, epoch=epochs.PROFILE)
    assert cell(world.beliefs())[:2] == pytest.approx((50, 50), rel=1e-3)
    assert world.beliefs().epochs == {}

    world.name("big", "v1")
    assert world.name("big", "v2")

    beliefs = world.beliefs()
    assert beliefs.epochs == {"code": 1}
    assert cell(beliefs)[:2] == pytest.approx((50, 50), rel=1e-3)
    assert beliefs.outlooks[0].profiled[beliefs.configuration.task_index["code"]].tolist() == [
        50,
        0,
    ]
    world.label(10, 0.9, epoch=1)
    assert cell(world.beliefs())[0] == 60


def test_an_app_that_learns_alone_goes_by_its_own_profile_with_the_same_cap(world: World) -> None:
    world.configuration = configuration(small="own")
    world.label(80, 1.0, app="small", epoch=epochs.PROFILE)

    beliefs = world.beliefs()

    assert cell(beliefs, outlook=0)[0] == 0
    assert cell(beliefs, outlook=1)[0] == 50
    assert [o.profiled.max() for o in beliefs.outlooks] == [0, 50]


def test_a_leaf_that_does_not_stand_shares_the_cap_of_what_it_is_below(world: World) -> None:
    value = {
        "store": {"shards": 1},
        "endpoints": [{"id": name, "model": name, "base_url": "http://h/v1"} for name in "ab"],
        "tasks": {"code": None, "code/review": None},
        "apps": {"big": {"keys": [{"env": "K"}]}},
    }
    world.configuration = compile_text(json.dumps(value), file="test.yaml", secrets=False)
    world.label(40, 0.5, task="code", epoch=epochs.PROFILE)
    world.label(40, 0.5, task="code/review", epoch=epochs.PROFILE)
    assert cell(world.beliefs())[:2] == pytest.approx((50, 50), rel=1e-3)

    world.label(40, 0.5, "b", task="code/review", epoch=epochs.PROFILE)

    beliefs = world.beliefs()  # now it does: what is above it holds the labels of both cells
    assert cell(beliefs, task="code/review")[0] == 40
    assert cell(beliefs, "b", task="code/review")[0] == 40
    row = beliefs.configuration.task_index["code"]
    assert beliefs.posterior.labels[row].tolist() == [80, 40]


# -- what outcomes add ---------------------------------------------------------------------------


def records(flags: int) -> NDArray[np.void]:
    body = Token(
        1, 0, int(flags) & 0xFFFF, bytes(16), NOW_MS, TASK, ARM, ARM, 4, 5, 6, 7, 1.0, 0.0, 0.0
    ).pack()
    raw = events.outcome(
        body, result=Result.OK, attempt=1, status=200, flags=flags, tokens_out=5, cost_nano=7
    )
    return decoding.decode(raw)[0]


def added(found: NDArray[np.void], family: Family, column: int) -> int:
    rows = cells.of_family(cells.merge(outcome_terms(found)), family)
    return int(rows.values[:, column].sum())


def test_a_call_of_a_profile_is_measured_but_no_traffic_of_its_app() -> None:
    usual = int(Flag.FINAL | Flag.USAGE_KNOWN | Flag.PRICED)
    traffic, profile = records(usual), records(usual | Flag.PROFILE)

    assert added(traffic, Family.TEACHING, T.CALLS) == 1
    assert added(profile, Family.TEACHING, T.CALLS) == 0
    assert added(profile, Family.TEACHING, T.PROFILED) == 1
    assert added(traffic, Family.TEACHING, T.PROFILED) == 0
    assert added(profile, Family.TEACHING, T.PROFILED_FAILED) == 0
    failed = profile.copy()
    failed["result"] = Result.SERVER
    assert added(failed, Family.TEACHING, T.PROFILED_FAILED) == 1
    assert added(failed, Family.TEACHING, T.PROFILED) == added(failed, Family.USAGE, U.FAILED) == 1
    for family, column in ((Family.USAGE, U.CALLS), (Family.LATENCY, 0), (Family.RELIABILITY, 0)):
        assert added(profile, family, column) == added(traffic, family, column) > 0


def test_archive_audit_and_restore_hold_a_profiles_labels_as_the_store_does(life: Life) -> None:
    def said(nonce: int, epoch: int) -> tuple[bytes, bytes]:
        body = Token(
            1, 0, 0, nonce.to_bytes(16, "big"), NOW_MS, digest8("task", "code"), 9, 9, 4, 5, 6, 7,
            1.0, 0.0, 0.0, 0.0, epochs.composed(1, epoch),
        ).pack()  # fmt: skip
        flags = int(Flag.FINAL | (Flag.PROFILE if epoch else 0))
        outcome = events.outcome(body, result=Result.OK, attempt=1, status=200, flags=flags)
        return outcome, judged(body, 1.0, at_ms=NOW_MS)

    for part in range(3):
        life.send(
            *(one for n in range(20) for one in said(100 * part + n, epochs.PROFILE * (n % 2)))
        )
        life.fold()
        life.take()
    assert life.audit().equal

    rows = life.rows()
    life.client.flushall()
    restore(life.archive)

    assert life.rows() == rows
    every = cells.from_bytes(b"".join(rows), b"".join(rows.values()))
    quality = cells.of_family(every, Family.QUALITY)
    mine = epochs.epochs_of(quality.keys) == epochs.PROFILE
    assert int(quality.values[mine, Q.LABELS].sum()) == 30
    assert "profile" in named(quality.keys[mine][:1].tobytes())


# -- over HTTP -----------------------------------------------------------------------------------

PROFILE = {"x-router-profile": "1"}


def served(provider: Provider, **app: Any) -> dict[str, Any]:
    raters = {"mode": "route", "strategy": "learn", **app}
    return {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "tasks": {"code": None},
        "roles": {"planner": {}},
        "strategies": LEARN,
        "apps": {"default": raters},
    }


def decision_of(sidecar: Sidecar, **headers: str) -> Any:
    got = sidecar.chat("a", headers={**PROFILE, "x-router-task": "code", **headers})
    assert got.status_code == 200, got.text
    return got


def test_only_a_call_that_names_an_endpoint_may_be_a_profiles(sidecar: Sidecar) -> None:
    for model in ("auto", "auto/code", "gpt-unlisted", "claude-auto"):
        got = sidecar.chat(model, headers=PROFILE)
        assert got.status_code == 400, (model, got.text)
        assert "GET /v1/router/endpoints" in got.json()["error"]["message"]
    body = {"model": "auto", "messages": [{"role": "user", "content": "x"}]}
    got = sidecar.http.post("/v1/chat/completions", json={**body, "router": {"profile": True}})
    assert got.status_code == 400
    got = sidecar.http.post("/v1/rerank", json={"model": "a"}, headers=PROFILE)
    assert got.status_code in (400, 404)
    assert sidecar.chat("a", headers={"x-router-profile": ""}).status_code == 400
    assert sidecar.chat("a", headers={"x-router-profile": "0"}).status_code == 200


def test_what_is_passed_on_is_no_profiles(
    provider: Provider, tmp_path: Path, address: Address
) -> None:
    value = {
        **served(provider),
        "providers": {"rest": {"base_url": provider.url("rest"), "passthrough": True}},
    }
    with serving(value, tmp_path / "s", address) as sidecar:
        for model in ("a", "unlisted"):
            got = sidecar.http.post("/v1/rerank", json={"model": model}, headers=PROFILE)
            assert (got.status_code, got.json()["error"]["param"]) == (400, "model")
        assert sidecar.chat("unlisted", headers=PROFILE).status_code == 400
        assert provider.calls == []


def test_its_endpoint_answers_or_nobody_does(
    provider: Provider, tmp_path: Path, address: Address
) -> None:
    with serving(served(provider, fallback="any"), tmp_path / "s", address) as sidecar:
        provider.on("a", Reply(401, b'{"error": {"message": "no"}}'))
        assert sidecar.chat("a", headers=PROFILE).status_code >= 500
        assert "b" not in provider.hosts()
        assert sidecar.chat("a").status_code == 200  # of any other call another one answers
        assert provider.hosts()[-1] == "b"


def test_calls_and_labels_of_a_profile_are_shown_apart_and_take_no_share(
    provider: Provider, tmp_path: Path, address: Address, client: Any
) -> None:
    value = served(provider, raters=True)
    with serving(value, tmp_path / "s", address) as sidecar, learning(tmp_path / "l", address):
        for _ in range(3):
            sidecar.chat("b", headers={"x-router-task": "code"})
        for n in range(5):
            got = decision_of(
                sidecar,
                **{
                    "x-router-session-id": "s1",
                    "x-router-prompt": f"v{n}",
                    "x-router-user": "u",
                    "x-router-role": "planner",
                },
            )
            body = {"decision_id": got.headers["x-router-decision-id"], "score": n / 4}
            assert sidecar.http.post("/v1/feedback", json=body).status_code == 202
        keeper = sidecar.app.keeper
        sidecar.until(lambda: keeper.current.outlooks[0].profiled.sum() == 5)
        sidecar.until(lambda: keeper.current.posterior.calls.sum() == 8)

        rows = {row.endpoint: row for row in report_rows(keeper.current, "learn")}
        assert (rows["a"].labels, rows["a"].profiled, rows["a"].profile_calls) == (5, 5, 5)
        assert (rows["a"].share, rows["b"].share) == (0.0, 1.0)
        assert (rows["a"].calls, rows["b"].calls) == (0, 3)
        assert profiled_line(list(rows.values())) == "a: of 5 labels, 5 by profile"
        told = sidecar.http.get("/v1/router/decisions", params={"id": body["decision_id"]}).json()
        assert (told["answered_by"] or told["drawn"], told["task"]) == ("a", "code")
        shown = sidecar.http.get("/v1/router/posteriors").json()
        assert [row["profiled"] for row in shown["rows"]] == [5, 0]
        every = cells.from_bytes(*(b"".join(part) for part in zip(*all_rows(client), strict=True)))
        assert not cells.of_family(every, Family.WATCH).values.any()
        roles = cells.of_family(every, Family.ROLES).values
        assert not roles[:, [P.CALLS, P.LABELS]].any()
        assert not cells.of_family(every, Family.BOOKS).values[:, B.CALLS].any()
        assert keeper.prompts.known == {}


def all_rows(client: Any) -> list[tuple[bytes, bytes]]:
    return [pair for n in range(SHARDS) for pair in client.hgetall(keys.rows(n)).items()]
