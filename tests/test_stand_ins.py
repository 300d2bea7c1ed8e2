"""An outage ends no stored draw: who serves meanwhile, and who comes home when."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import LEARN, ROUTED, Provider, Reply, Sidecar, endpoint, serving
from rich.console import Console

from bandit.steps import Step
from router.commands.explain import show
from router.decision.context import Moment
from router.decision.shared_draws import StoredDraw
from router.decision.stand_ins import RETURN_S, SPREAD_S, key_of, may_serve
from router.decision.units import Unit, unit_of
from router.endpoints.breaker import OUTAGE_S, Breaker, Trouble
from telemetry.secret import UnitSecrets
from telemetry.store import Address

SESSION = Unit(b"s" * 16, True, 0.0)
SLOT = Unit(b"u" * 16, False, 9e9)
HELD = StoredDraw(7, 0.5, 1_000_000, 1, Step.SAMPLE)


def day(share: float) -> Unit:
    """A user's day whose hash lies so far between the first and the last to return."""
    return Unit(bytes(12) + int(share * 2**32).to_bytes(4), False, 9e9, is_day=True)


def at(now: float) -> Moment:
    return Moment(10_000.0 + now, now)


def out_since(then: float, *, until: float) -> Breaker:
    found = Breaker(open_since=then)
    circuit = found.circuits[Trouble.FAILING]
    circuit.open_since, circuit.open_until = then, until
    return found


# -- who, and when ------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [SESSION, day(0.5)])
def test_after_a_minute_a_stand_in_serves(unit: Unit) -> None:
    breaker = out_since(0.0, until=1e9)

    assert not may_serve(unit, HELD, breaker, at(OUTAGE_S - 1))
    assert may_serve(unit, HELD, breaker, at(OUTAGE_S))


def test_a_slot_of_ten_minutes_and_a_call_for_itself_have_none() -> None:
    breaker = out_since(0.0, until=1e9)

    assert not may_serve(SLOT, HELD, breaker, at(1000.0))
    assert not may_serve(Unit(None, False, 0.0), HELD, breaker, at(1000.0))


def test_a_probe_is_made_by_those_whose_endpoint_it_is() -> None:
    breaker = out_since(0.0, until=100.0)
    assert may_serve(SESSION, HELD, breaker, at(99.0))
    assert not may_serve(SESSION, HELD, breaker, at(100.5))

    breaker.begin(100.5)
    assert may_serve(SESSION, HELD, breaker, at(100.6))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.999])
def test_days_return_after_a_minute_spread_over_ten(share: float) -> None:
    breaker = Breaker(outage_ended_at=0.0)
    home_at = RETURN_S + share * SPREAD_S

    assert may_serve(day(share), HELD, breaker, at(home_at - 1))
    assert not may_serve(day(share), HELD, breaker, at(home_at + 1))


def test_a_session_stays_with_its_stand_in_and_one_that_began_later_needs_none() -> None:
    breaker = Breaker(outage_ended_at=0.0)
    later = StoredDraw(7, 0.5, int((10_000.0 + 5.0) * 1000), 1, Step.SAMPLE)

    assert may_serve(SESSION, HELD, breaker, at(20_000.0))
    assert not may_serve(SESSION, later, breaker, at(20_000.0))
    assert not may_serve(SESSION, HELD, Breaker(), at(20_000.0))


def test_a_short_break_soon_after_does_not_change_who_serves() -> None:
    breaker = out_since(30.0, until=1e9)
    breaker.outage_ended_at = 0.0

    assert may_serve(day(0.5), HELD, breaker, at(31.0))


def test_each_draw_of_each_unit_has_a_stand_in_of_its_own() -> None:
    other = StoredDraw(8, 0.5, 1_000_000, 1, Step.SAMPLE)
    keys = {key_of(unit, held) for unit in (b"a" * 16, b"b" * 16) for held in (HELD, other)}

    assert len(keys) == 4
    assert all(len(key) == 16 for key in keys)


@pytest.mark.parametrize(
    ("user", "session", "stateless", "is_day"),
    [("u", None, False, True), (None, None, False, False), ("u", "s", False, False),
     ("u", None, True, False)],
)  # fmt: skip
def test_only_a_users_slot_is_a_day(
    user: str | None, session: str | None, stateless: bool, is_day: bool
) -> None:
    unit = unit_of(
        secrets=UnitSecrets(b"k" * 32),
        app="shop",
        app_digest=1,
        user=user,
        session=session,
        stateless=stateless,
        now=0.0,
        draw_key="k",
    )

    assert unit.is_day is is_day


# -- over HTTP ----------------------------------------------------------------------------------


def three(provider: Provider) -> dict[str, Any]:
    endpoints = [endpoint(provider, name) for name in "abc"]
    return {"endpoints": endpoints, "strategies": LEARN, "apps": ROUTED}


def out(sidecar: Sidecar, name: str, for_s: float) -> None:
    """Let an endpoint's breaker have been open for so long; it is not due for a probe."""
    digest = sidecar.digest(name)
    health, now = sidecar.app.health, time.monotonic()
    health.breakers[digest] = out_since(now - for_s, until=now + 1000)
    health.troubled.add(digest)


def back(sidecar: Sidecar, name: str, ago_s: float) -> None:
    """Let an outage have ended so long ago."""
    digest = sidecar.digest(name)
    sidecar.app.health.breakers[digest] = Breaker(outage_ended_at=time.monotonic() - ago_s)
    sidecar.app.health.troubled.discard(digest)


def who(sidecar: Sidecar, unit: dict[str, Any], text: str = "hello") -> str:
    got = sidecar.chat(text=text, **unit)
    assert got.status_code == 200
    return got.headers["x-router-endpoint"]


A_SESSION = {"headers": {"x-router-session-id": "one"}}
A_DAY = {"user": "somebody"}
A_SLOT: dict[str, Any] = {}


SLOT_S, NEARLY_OVER_S = 600, 3


@contextmanager
def drawn(
    provider: Provider, state_dir: Path, address: Address, unit: dict[str, Any]
) -> Iterator[tuple[Sidecar, str]]:
    """A sidecar, and the endpoint that a unit drew; no slot of ten minutes ends soon."""
    if (left_s := SLOT_S - time.time() % SLOT_S) < NEARLY_OVER_S:
        time.sleep(left_s)
    with serving(three(provider), state_dir, address) as sidecar:
        yield sidecar, who(sidecar, unit)


@pytest.mark.parametrize("unit", [A_SESSION, A_DAY, A_SLOT])
def test_in_a_short_outage_the_next_one_serves_and_the_draw_stays(
    provider: Provider, state_dir: Path, address: Address, unit: dict[str, Any]
) -> None:
    with drawn(provider, state_dir, address, unit) as (sidecar, first):
        out(sidecar, first, for_s=30)
        assert who(sidecar, unit) != first
        back(sidecar, first, ago_s=1e9)

        assert who(sidecar, unit) == first


@pytest.mark.parametrize("for_s", [30.0, 76.0, 900.0])
def test_a_slot_is_home_with_the_first_call_after_the_breaker_closed(
    provider: Provider, state_dir: Path, address: Address, for_s: float
) -> None:
    with drawn(provider, state_dir, address, A_SLOT) as (sidecar, first):
        out(sidecar, first, for_s=for_s)
        assert {who(sidecar, A_SLOT) for _ in range(4)}.isdisjoint({first})
        text = sidecar.http.get("/metrics").text
        back(sidecar, first, ago_s=0.0)

        assert who(sidecar, A_SLOT) == first
    assert f'router_diverted_total{{by="next",endpoint="{first}"}} 4.0' in text


@pytest.mark.parametrize("unit", [A_SESSION, A_DAY])
def test_in_a_long_outage_one_stand_in_serves_with_a_propensity_of_its_own(
    provider: Provider, state_dir: Path, address: Address, unit: dict[str, Any]
) -> None:
    with drawn(provider, state_dir, address, unit) as (sidecar, first):
        out(sidecar, first, for_s=OUTAGE_S + 1)
        got = [sidecar.chat(text=f"{n}", **unit) for n in range(5)]
        found = [
            sidecar.http.get(f"/v1/router/decisions/{r.headers['x-router-decision-id']}").json()
            for r in got
        ]
        text = sidecar.http.get("/metrics").text

    said = io.StringIO()
    show(found[1], Console(file=said, width=200))
    assert f"it stands in for {first}, whose breaker was open" in said.getvalue()
    assert len({r.headers["x-router-endpoint"] for r in got} - {first}) == 1
    assert {r.headers["x-router-attempts"] for r in got} == {"1"}
    assert {f["stands_in_for"] for f in found} == {first}
    assert [f["drawn_now"] for f in found] == [True] + [False] * 4
    shares = {row["endpoint"]: row["propensity"] for row in found[0]["draw"]["candidates"]}
    assert first not in shares
    assert {f["propensity"] for f in found} == {shares[found[0]["drawn"]]}
    assert found[1]["draw_of"]["draw"] == found[0]["draw"]
    assert found[0]["exclusions"] == {first: "breaker"}
    assert f'router_diverted_total{{by="stand_in",endpoint="{first}"}} 5.0' in text


def test_a_session_stays_with_its_stand_in_when_the_endpoint_is_back(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with drawn(provider, state_dir, address, A_SESSION) as (sidecar, first):
        out(sidecar, first, for_s=100)
        substitute = who(sidecar, A_SESSION)
        back(sidecar, first, ago_s=0.0)

        assert [who(sidecar, A_SESSION, f"{n}") for n in range(3)] == [substitute] * 3
        assert who(sidecar, {"headers": {"x-router-session-id": "two"}}) in "abc"


def test_a_day_is_home_once_its_moment_came(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with drawn(provider, state_dir, address, A_DAY) as (sidecar, first):
        out(sidecar, first, for_s=100)
        substitute = who(sidecar, A_DAY)
        back(sidecar, first, ago_s=RETURN_S - 5)
        assert who(sidecar, A_DAY) == substitute
        back(sidecar, first, ago_s=RETURN_S + SPREAD_S)

        assert who(sidecar, A_DAY) == first


def test_processes_agree_on_the_stand_in(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    """The store's first writer wins; the other processes never served the unit before."""

    def agrees(sidecar: Sidecar) -> bool:
        """Whether it comes to know the draw and the stand-in: the store may be slow at first."""
        served = who(sidecar, A_SESSION)
        shown = sidecar.http.post(
            "/v1/router/decide",
            json={"model": "auto", "messages": [{"role": "user", "content": "x"}]},
            headers=A_SESSION["headers"],
        ).json()
        return (served, shown["endpoint"], shown["stands_in_for"]) == (
            substitute,
            substitute,
            first,
        )

    with drawn(provider, state_dir / "1", address, A_SESSION) as (one, first):
        out(one, first, for_s=100)
        substitute = who(one, A_SESSION)
        one.until(lambda: one.app.draws.shared.n_unwritten == 0)
        with serving(three(provider), state_dir / "2", address) as two:
            out(two, first, for_s=100)
            two.until(lambda: agrees(two))
        with serving(three(provider), state_dir / "3", address) as last:
            back(last, first, ago_s=0.0)  # it saw the outage
            last.until(lambda: agrees(last))


def test_with_everybody_out_no_stand_in_is_drawn_and_the_call_is_served(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with drawn(provider, state_dir, address, A_SESSION) as (sidecar, first):
        for name in "abc":
            out(sidecar, name, for_s=100)
        assert who(sidecar, A_SESSION) in "abc"
        for name in "abc":
            back(sidecar, name, ago_s=1e9)

        assert who(sidecar, A_SESSION) == first


def test_a_units_own_calls_probe_its_endpoint(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with drawn(provider, state_dir, address, A_SESSION) as (sidecar, first):
        out(sidecar, first, for_s=100)
        substitute = who(sidecar, A_SESSION)
        digest = sidecar.digest(first)
        circuit = sidecar.app.health.breakers[digest].circuits[Trouble.FAILING]
        provider.on(first, Reply(status=503, body=b"{}"))
        circuit.open_until, circuit.rest_s = 0.0, 5.0
        provider.calls.clear()
        probing, then = who(sidecar, A_SESSION), who(sidecar, A_SESSION)

    assert probing != first
    assert then == substitute
    assert provider.hosts().count(first) == 1  # and no repeat there
