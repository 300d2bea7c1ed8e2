"""How endpoints are doing: who rests, who is probed, who comes back, and what is shown of it."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import LEARN, ROUTED, Provider, Reply, answer, endpoint, serving

from router.config.compiled import compile_text
from router.endpoints.breaker import (
    LONGEST_REST_S,
    OUTAGE_S,
    PROBE_LOST_S,
    RULES,
    SLOW_START_S,
    Trouble,
    calls_back,
)
from router.endpoints.catalog import Catalog
from router.endpoints.headroom import read_headroom
from router.endpoints.health import Health
from telemetry.events import Result
from telemetry.store import Address

FAILED = RULES[Trouble.FAILING].failures


def fail(health: Health, result: Result = Result.SERVER, *, n: int = FAILED, **more: Any) -> None:
    for _ in range(n):
        health.begin(0, 0.0)
        health.end(0, result, 0.0, **more)


def opened(health: Health) -> dict[str, int]:
    return {t.value: c.n_opened for t, c in health.breakers[0].circuits.items() if c.n_opened}


# -- breakers -----------------------------------------------------------------------------------


def test_breakers_open_rest_probe_and_close() -> None:
    health = Health()
    fail(health, Result.CONNECT)
    assert health.is_blocked(0, 0.9)
    assert not health.is_blocked(0, 1.1)

    health.begin(0, 1.1)  # the probe; nobody else may
    assert health.is_blocked(0, 1.2)
    health.end(0, Result.CONNECT, 1.3)
    assert health.is_blocked(0, 3.2)  # twice as long
    assert not health.is_blocked(0, 3.4)

    health.begin(0, 3.4)
    health.end(0, Result.OK, 3.5)
    assert not health.is_blocked(0, 3.5)
    assert not health.is_open(0)


def test_who_is_away_for_ten_minutes_is_lost_until_it_answers() -> None:
    catalog = parse_catalog("a", "b")
    health = Health()
    digest = catalog.by_id["a"].digest
    for _ in range(5):
        health.begin(digest, 0.0)
        health.end(digest, Result.CONNECT, 0.0)

    assert health.lost(catalog, 599.0) == frozenset()
    assert health.lost(catalog, 600.0) == {"a"}
    health.begin(digest, 600.0)
    health.end(digest, Result.OK, 601.0)
    assert health.lost(catalog, 1300.0) == frozenset()


def parse_catalog(*names: str) -> Catalog:
    entries = [{"id": n, "model": n, "base_url": "http://127.0.0.1:1/"} for n in names]
    return compile_text(yaml.safe_dump({"endpoints": entries}), file="test.yaml").catalog


@pytest.mark.parametrize(
    ("result", "trouble"),
    [
        (Result.SERVER, Trouble.FAILING),
        (Result.TIMEOUT, Trouble.FAILING),
        (Result.CUT, Trouble.FAILING),
        (Result.BAD_REPLY, Trouble.FAILING),
        (Result.RATE_LIMIT, Trouble.EXHAUSTED),
        (Result.REFUSED, Trouble.MISCONFIGURED),
    ],
)
def test_each_kind_of_trouble_has_its_own_circuit(result: Result, trouble: Trouble) -> None:
    health = Health()
    fail(health, result, n=RULES[trouble].failures)

    assert opened(health) == {trouble.value: 1}


@pytest.mark.parametrize("result", [Result.CLIENT_ERROR, Result.CLIENT_GONE])
def test_what_the_client_does_is_no_failure_of_the_endpoint(result: Result) -> None:
    health = Health()
    fail(health, result, n=20)

    assert not health.is_blocked(0, 0.0)
    assert health.breakers[0].in_flight == 0


def test_one_kind_of_trouble_says_nothing_of_another() -> None:
    health = Health()
    for _ in range(FAILED - 1):
        fail(health, Result.SERVER, n=1)
        fail(health, Result.RATE_LIMIT, n=1)
    assert opened(health) == {}

    fail(health, Result.SERVER, n=1)
    assert opened(health) == {"failing": 1}


def test_a_clients_own_mistake_shows_that_the_endpoint_answers_but_not_that_its_key_is_right() -> (
    None
):
    health = Health()
    fail(health)
    fail(health, Result.REFUSED, n=1)
    health.begin(0, 31.0)
    health.end(0, Result.CLIENT_ERROR, 31.0)

    circuits = health.breakers[0].circuits
    assert circuits[Trouble.FAILING].open_since is None
    assert circuits[Trouble.MISCONFIGURED].open_since is not None
    assert health.is_blocked(0, 32.0)  # its probe mended nothing of that: it rests again


def test_a_probe_whose_client_left_is_followed_by_a_rest() -> None:
    health = Health()
    fail(health)
    health.begin(0, 1.5)
    health.end(0, Result.CLIENT_GONE, 2.0)

    assert health.is_blocked(0, 2.9)
    assert not health.is_blocked(0, 3.1)  # no longer than before: nothing was learnt


@pytest.mark.parametrize(("asked_s", "rests_s"), [(2.0, 2.0), (0.5, 0.5), (1e9, 60.0)])
def test_an_announced_pause_is_honoured_within_reason(asked_s: float, rests_s: float) -> None:
    health = Health()
    fail(health, Result.RATE_LIMIT, n=1, retry_after_s=asked_s)

    assert health.is_blocked(0, rests_s - 0.1)
    assert not health.is_blocked(0, rests_s + 0.1)


def test_a_pause_that_a_503_asks_for_opens_nothing_by_itself() -> None:
    health = Health()
    fail(health, Result.SERVER, n=1, retry_after_s=30.0)

    assert not health.is_blocked(0, 0.0)


def test_a_rest_never_grows_beyond_what_lets_it_be_back_in_half_a_minute() -> None:
    """Down for sixty seconds, one call each four seconds: back within thirty of its recovery."""
    for start in (0.0, 0.7, 1.3, 2.1, 3.9):
        health, served = Health(), []
        now = start
        while now < 120:
            if not health.is_blocked(0, now):
                served.append(now)
                health.begin(0, now)
                health.end(0, Result.SERVER if now < 60 else Result.OK, now)
            now += 4
        back = [at for at in served if at >= 60]
        assert back[0] < 60 + LONGEST_REST_S + 4
        assert len(back) >= (120 - back[0]) // 4  # and every call from then on


def test_while_it_is_down_it_is_asked_once_a_rest() -> None:
    health, asked = Health(), []
    now = 0.0
    while now < 300:
        if not health.is_blocked(0, now):
            asked.append(now)
            health.begin(0, now)
            health.end(0, Result.TIMEOUT, now)
        now += 0.05

    probes = asked[FAILED:]
    gaps = [b - a for a, b in pairwise(probes)]
    assert [round(gap) for gap in gaps[:4]] == [2, 4, 8, 15]
    assert min(gaps[4:]) >= LONGEST_REST_S
    assert len(probes) <= 24


def test_a_probe_that_never_ends_lets_another_one_through() -> None:
    health = Health()
    fail(health)
    health.begin(0, 2.0)

    assert health.is_blocked(0, 2.0 + PROBE_LOST_S - 0.1)
    assert not health.is_blocked(0, 2.0 + PROBE_LOST_S)


def test_what_was_asked_before_tells_nothing_of_what_came_after() -> None:
    health = Health()
    for _ in range(2):
        health.begin(0, -5.0)
    fail(health)
    health.end(0, Result.OK, 0.5, began_at=-5.0)  # a long answer, begun before the outage
    assert health.is_open(0)

    health.begin(0, 1.5)
    health.end(0, Result.OK, 1.6)
    assert not health.is_open(0)
    for _ in range(2 * FAILED):  # calls of the outage that fail only now
        health.begin(0, -5.0)
        health.end(0, Result.TIMEOUT, 2.0, began_at=-5.0)
    assert not health.is_open(0)


def test_who_failed_just_now_or_is_not_back_is_asked_out_of_the_budget_only() -> None:
    health = Health()
    assert not health.failed_lately(0, 0.0)
    fail(health, n=1)
    assert health.failed_lately(0, 9.0)
    assert not health.failed_lately(0, 11.0)
    fail(health, n=FAILED)
    assert health.failed_lately(0, 1000.0)


@pytest.mark.parametrize("seed", range(5))
def test_ordinary_traffic_opens_no_breaker(seed: int) -> None:
    """Half an hour of a hundred calls a second, one in a hundred answered by a 503."""
    health, rng = Health(), random.Random(seed)
    for n in range(180_000):
        now = n / 100
        health.begin(0, now)
        health.end(0, Result.SERVER if rng.random() < 0.01 else Result.OK, now + 0.5, began_at=now)

    assert opened(health) == {}
    assert health.breakers[0].in_flight == 0


# -- coming back --------------------------------------------------------------------------------


def closed_after(open_s: float) -> Health:
    health = Health()
    fail(health)
    health.begin(0, open_s)
    health.end(0, Result.OK, open_s)
    return health


def test_a_herd_comes_back_by_and_by_and_a_lone_caller_at_once() -> None:
    health = closed_after(30.0)
    held = []
    for second in range(int(SLOW_START_S) + 1):
        now, n = 30.0 + second, 0
        while not health.is_blocked(0, now) and n < 5000:
            health.begin(0, now)
            n += 1
        held.append(health.breakers[0].in_flight)

    assert held[:5] == [2, 4, 8, 16, 32]
    assert held[-1] >= 5000  # by then everybody
    assert calls_back(0.0) >= 1


def test_after_a_blip_there_is_next_to_no_slow_start() -> None:
    health = closed_after(1.2)
    for _ in range(10):
        health.begin(0, 1.3)

    assert health.is_blocked(0, 1.4)
    assert not health.is_blocked(0, 2.5)


def test_an_endpoint_that_is_well_again_costs_calls_nothing_any_more() -> None:
    health = closed_after(30.0)
    assert health.troubled == {0}
    assert not health.is_blocked(0, 49.0)  # whoever looks finds that it is well
    assert health.troubled == set()
    health.begin(0, 50.0)
    health.end(0, Result.OK, 50.0)

    assert health.troubled == set()


@pytest.mark.parametrize(("open_s", "is_outage"), [(OUTAGE_S - 1, False), (OUTAGE_S + 1, True)])
def test_only_a_long_outage_is_one(open_s: float, is_outage: bool) -> None:
    health = closed_after(open_s)

    assert (health.breakers[0].outage_ended_at == open_s) is is_outage


# -- headroom -----------------------------------------------------------------------------------

NOW_S = 1_800_000_000.0


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("6m0s", 360.0),
        ("1s", 1.0),
        ("20ms", 0.02),
        ("2m59.56s", 179.56),
        ("1h0m0s", 3600.0),
        ("1d2h", 93_600.0),
        ("7.66", 7.66),
        ("0s", 0.0),
        (str(int(NOW_S) + 30), 30.0),
        (str(int(NOW_S + 30) * 1000), 30.0),
        (datetime.fromtimestamp(NOW_S + 45, UTC).isoformat(), 45.0),
        (datetime.fromtimestamp(NOW_S + 45, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), 45.0),
        (datetime.fromtimestamp(NOW_S - 45, UTC).isoformat(), 0.0),
        ("soon", 0.0),
        ("", 0.0),
        ("nan", 0.0),
        ("-3", 0.0),
    ],
)
def test_a_reset_is_read_in_every_form(reset: str, seconds: float) -> None:
    headers = [(b"x-ratelimit-remaining-requests", b"0"),
               (b"x-ratelimit-reset-requests", reset.encode())]  # fmt: skip

    found = read_headroom(headers, now_s=NOW_S)

    assert found.left == {"requests": 0}
    assert found.empty_for_s == pytest.approx(seconds, abs=1e-3)


@pytest.mark.parametrize(
    ("headers", "left", "empty_for_s"),
    [
        ({"x-ratelimit-remaining-tokens": "149984", "x-ratelimit-reset-tokens": "6ms"},
         {"tokens": 149_984}, 0.0),
        ({"x-ratelimit-remaining-requests": "5", "x-ratelimit-remaining-tokens": "0",
          "x-ratelimit-reset-tokens": "9s", "x-ratelimit-reset-requests": "70s"},
         {"requests": 5, "tokens": 0}, 9.0),
        ({"anthropic-ratelimit-input-tokens-remaining": "0",
          "anthropic-ratelimit-input-tokens-reset": "12"}, {"input-tokens": 0}, 12.0),
        ({"x-ratelimit-remaining": "3", "x-ratelimit-reset": "1s"}, {"requests": 3}, 0.0),
        ({"x-ratelimit-remaining-requests": "0"}, {"requests": 0}, 0.0),
        ({"x-ratelimit-remaining-requests": "-1", "x-ratelimit-reset-requests": "9s"}, {}, 0.0),
        ({"x-ratelimit-remaining-requests": "many"}, {}, 0.0),
        ({"content-type": "text/plain"}, {}, 0.0),
    ],
)  # fmt: skip
def test_headroom_is_what_the_headers_say(
    headers: dict[str, str], left: dict[str, float], empty_for_s: float
) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]

    found = read_headroom(raw, now_s=NOW_S)

    assert (found.left, found.empty_for_s) == (left, empty_for_s)


@pytest.mark.parametrize(("reset", "rests_s"), [(b"9s", 9.0), (b"6m0s", 60.0)])
def test_with_nothing_left_an_endpoint_rests_until_the_reset_within_reason(
    reset: bytes, rests_s: float
) -> None:
    health = Health()
    headers = [(b"x-ratelimit-remaining-requests", b"0"), (b"x-ratelimit-reset-requests", reset)]
    health.note_headers(0, headers, 0.0, now_s=NOW_S)

    assert health.is_blocked(0, rests_s - 0.1)
    assert not health.is_blocked(0, rests_s + 0.1)
    assert opened(health) == {}


# -- over HTTP ----------------------------------------------------------------------------------


def two(provider: Provider, **more: Any) -> dict[str, Any]:
    """`a` is the incumbent of an app that may fall back anywhere."""
    endpoints = [endpoint(provider, "a", **more), endpoint(provider, "b")]
    return {"endpoints": endpoints, "apps": {"default": {"mode": "route", "fallback": "any"}}}


def rows(sidecar: Any) -> dict[str, Any]:
    got = sidecar.http.get("/v1/router/endpoints")
    assert got.status_code == 200, got.text
    return {row["endpoint"]: row for row in got.json()["endpoints"]}


def test_who_has_nothing_left_is_passed_over_as_long_as_another_may_serve(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    limits = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "30s"}
    provider.on("a", lambda call: Reply(body=answer(), headers=limits))
    with serving(two(provider), state_dir, address) as sidecar:
        got = [sidecar.chat(text=f"{n}") for n in range(4)]
        row = rows(sidecar)["a"]

    assert {r.status_code for r in got} == {200}
    assert provider.hosts() == ["a", "b", "b", "b"]
    assert (row["state"], row["headroom"]) == ("empty", {"requests": 0})
    assert row["opened"] == {"failing": 0, "exhausted": 0, "misconfigured": 0}


def test_who_has_nothing_left_still_serves_where_nobody_else_may(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    limits = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "30s"}
    provider.on("a", lambda call: Reply(body=answer(), headers=limits))
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as sidecar:
        assert {sidecar.chat(text=f"{n}").status_code for n in range(4)} == {200}


def test_a_limit_of_the_callers_own_key_is_nobody_elses(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    headers = {"retry-after": "30", "x-ratelimit-remaining-requests": "0",
               "x-ratelimit-reset-requests": "30s"}  # fmt: skip
    provider.on("a", Reply(status=429, body=b"{}", headers=headers))
    with serving(two(provider, auth="client"), state_dir, address) as sidecar:
        key = {"authorization": "Bearer sk-own"}
        assert {sidecar.chat(headers=key, text=f"{n}").status_code for n in range(3)} == {200}
        assert not sidecar.app.health.is_blocked(sidecar.digest("a"), time.monotonic())


def test_after_a_breaker_opened_its_endpoint_gets_one_attempt_a_rest(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(status=503, body=b"{}"))
    with serving(two(provider), state_dir, address) as sidecar:
        while not sidecar.app.health.is_open(sidecar.digest("a")):
            assert sidecar.chat().status_code == 200
        provider.calls.clear()
        began = time.monotonic()
        while time.monotonic() < began + 3.5:
            assert sidecar.chat().status_code == 200
            time.sleep(0.01)
        row = rows(sidecar)["a"]
        provider.on("a", Reply(body=answer()))
        circuit = sidecar.app.health.breakers[sidecar.digest("a")].circuits[Trouble.FAILING]
        circuit.open_until = 0.0  # its rest is over
        assert sidecar.chat().headers["x-router-endpoint"] == "a"
        assert not sidecar.app.health.is_open(sidecar.digest("a"))

    at = [call.at for call in provider.calls if call.host == "a"][:-1]
    assert 1 <= len(at) <= 2  # after one second, and after two more
    assert all(b - a >= 1.9 for a, b in pairwise(at))
    assert row["state"] in ("open", "probing")
    assert row["troubles"]["failing"]["since_ms"] < row["troubles"]["failing"]["rests_until_ms"]
    assert row["opened"]["failing"] == 1


@pytest.mark.parametrize("n_refused", [1, 2])
def test_pauses_that_a_call_was_asked_for_are_waited_for_within_it(
    provider: Provider, state_dir: Path, address: Address, n_refused: int
) -> None:
    replies = [Reply(status=429, body=b"{}", headers={"retry-after-ms": "50"})] * n_refused
    replies.append(Reply(body=answer()))
    provider.on("a", lambda call: replies[len(provider.calls) - 1])
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as sidecar:
        assert sidecar.chat().status_code == 200

    at = [call.at for call in provider.calls]
    assert len(at) == n_refused + 1
    assert all(b - a >= 0.05 for a, b in pairwise(at))


@pytest.mark.parametrize("status", [503, 429, 500])
def test_all_down_costs_little_more_than_one_attempt_a_call(
    provider: Provider, state_dir: Path, address: Address, status: int
) -> None:
    for host in "abc":
        provider.on(host, Reply(status=status, body=b"{}"))
    value = {
        "endpoints": [endpoint(provider, name) for name in "abc"],
        "strategies": LEARN,
        "apps": ROUTED,
    }
    with serving(value, state_dir, address) as sidecar:
        while not all(sidecar.app.health.is_open(sidecar.digest(name)) for name in "abc"):
            sidecar.chat()
        provider.calls.clear()
        got = [sidecar.chat(text=f"call {n}").status_code for n in range(100)]

    assert set(got) == {status}
    assert len(provider.calls) <= 1.2 * len(got) + 3


def test_metrics_and_rows_show_every_endpoint(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(status=401, body=b"{}"))
    with serving(two(provider), state_dir, address) as sidecar:
        sidecar.chat()
        text = sidecar.http.get("/metrics").text
        found = rows(sidecar)

    assert 'router_endpoint_open{endpoint="a",trouble="misconfigured"} 1.0' in text
    assert 'router_endpoint_open{endpoint="b",trouble="failing"} 0.0' in text
    assert 'router_endpoint_in_flight{endpoint="b"} 0.0' in text
    assert list(found["a"]["troubles"]) == ["misconfigured"]
    assert (found["b"]["state"], found["b"]["troubles"]) == ("closed", {})
