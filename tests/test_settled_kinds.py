"""What is remembered of kinds of calls changes whenever anything changes that it was made of.

Calls and events come in any order, and after each the call is settled again with nothing
remembered: both say the same.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bandit import cells
from bandit.draws import LEARNING
from router.beliefs.beliefs import Beliefs
from router.beliefs.choices import weigh
from router.config.compiled import Configuration, compile_text
from router.decision.call_units import KnownUnits
from router.decision.context import CallContext, Moment
from router.decision.settled_kinds import CallKinds
from router.errors import RequestRejected
from scripts.proofs.believed import rows_of
from scripts.proofs.within import SentRequest, SidecarWithin
from telemetry.events import Result

BEGAN_S = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
DAY_S = 86_400.0


def digest(key: str) -> str:
    return f"sha256:{sha256(key.encode()).hexdigest()}"


def compiled(state_dir: Path, **more: Any) -> Configuration:
    """Three endpoints of which one's agreement ends; rules, roles, users, a hard limit."""
    value = {
        "server": {"state_dir": str(state_dir)},
        "models": {"m": {"context_tokens": 1000}, "n": None},
        "endpoints": [
            {"id": "a", "model": "m", "base_url": "http://a.test/v1", "max_data_class": "internal"},
            {
                "id": "b",
                "model": "m",
                "base_url": "http://b.test/v1",
                "max_data_class": "restricted",
                "agreement": {"until": "2026-03-03"},
            },
            {
                "id": "c",
                "model": "n",
                "base_url": "http://c.test/v1",
                "max_data_class": "restricted",
                "capabilities": {"tools": False},
                "prices": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 4},
            },
        ],
        "tasks": {"code": {"match": {"tools": ["edit"]}}, "law": {"data_class": "confidential"}},
        "roles": {"coder": {"tasks": ["code"]}},
        "users": {"eva": {"data_class": "confidential"}},
        "strategies": {
            "plain": {"objective": "quality", "value_usd": 0.1, "incumbent": "none"},
            "quick": {"objective": "fastest"},
        },
        "apps": {"web": {"mode": "route", "strategy": "plain", "keys": [digest("k")]}},
    }
    return compile_text(yaml.safe_dump({**value, **more}, sort_keys=False), file="test")


class World:
    """A sidecar whose clock, switch, breakers, beliefs and configuration change between calls."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.now = Moment(BEGAN_S, 1000.0)
        self.configuration = compiled(state_dir)
        transport = httpx.MockTransport(lambda request: httpx.Response(500))
        self.within = SidecarWithin(
            self.configuration, state_dir, transport, clock=lambda: self.now
        )
        self.contexts = self.within.sidecar.routes._services.decider.contexts

    @property
    def beliefs(self) -> Beliefs:
        return self.within.sidecar.keeper.current

    def passes(self, seconds: float) -> None:
        self.now = Moment(self.now.epoch_s + seconds, self.now.monotonic_s + seconds)

    def fails(self, name: str) -> None:
        health, at = self.contexts.health, self.now.monotonic_s
        for _ in range(5):
            health.begin(self.digest(name), at)
            health.end(self.digest(name), Result.SERVER, at)

    def recovers(self, name: str) -> None:
        self.passes(20)
        health, at = self.contexts.health, self.now.monotonic_s
        health.begin(self.digest(name), at)
        health.end(self.digest(name), Result.OK, at)
        self.passes(20)

    def digest(self, name: str) -> int:
        return self.beliefs.configuration.catalog.by_id[name].digest

    def learns(self, good: int) -> None:
        seen = {"general": {name: {"labels": 60, "good": good} for name in "abc"}}
        self.within.follow(self.configuration, rows_of(seen, self.configuration, self.now.epoch_s))

    def reloads(self, **more: Any) -> None:
        self.configuration = compiled(self.state_dir, **more)
        self.within.follow(self.configuration)

    def switches(self, *, off: bool) -> None:
        switch = self.within.sidecar.keeper.switch
        self.within.sidecar.keeper.switch = type(switch)(off=off)

    def settled(self, headers: dict[str, str], body: bytes) -> tuple[object, ...]:
        try:
            return told(self.context(headers, body))
        except RequestRejected as error:
            return (error.code,)

    def context(self, headers: dict[str, str], body: bytes) -> CallContext:
        request = SentRequest("/v1/chat/completions", {"x-router-key": "k", **headers}, body)
        found = asyncio.run(self.within.settle(request)).found
        assert isinstance(found, CallContext)
        return found

    @contextmanager
    def remembering_nothing(self) -> Iterator[None]:
        held = [self.beliefs._derived, self.beliefs.configuration._derived]
        kept, units = [dict(one) for one in held], self.contexts._units._known
        for one in held:
            one.clear()
        self.contexts._units._known = KnownUnits()
        try:
            yield
        finally:
            for one, before in zip(held, kept, strict=True):
                one.clear()
                one.update(before)
            self.contexts._units._known = units


def told(of: CallContext) -> tuple[object, ...]:
    """All that is settled of a call, as far as it can be compared."""
    eligible, route = of.eligibility, of.route
    return (
        of.task,
        of.policy.rules,
        of.policy.parts,
        of.role and of.role.name,
        of.strategy.name,
        (route.law, route.first, route.groups, route.fallback, route.routed, route.listed),
        (eligible.reasons, eligible.mask.tolist(), eligible.details, eligible.limits),
        (of.task_index, of.category, of.draw_key, of.release, of.review_key),
        of.unit,
        of.explore,
        of.choices is None,
        of.session.said.task,
        of.session.said.level,
    )


PLAIN = b'{"model":"auto","messages":[{"role":"user","content":"hi"}]}'
BODIES = {
    "plain": PLAIN,
    "long": PLAIN.replace(b"hi", b"word " * 3000),
    "tools": PLAIN[:-1] + b',"tools":[{"type":"function","function":{"name":"edit"}}]}',
    "named": PLAIN.replace(b"auto", b"m"),
    "limited": PLAIN[:-1] + b',"max_tokens":900}',
}
HEADERS = {
    "x-router-session-id": ["one", "two"],
    "x-router-user": ["eva", "someone"],
    "x-router-task": ["law", "code"],
    "x-router-role": ["coder"],
    "x-router-strategy": ["quick"],
    "x-router-data-class": ["restricted"],
    "x-router-max-cost-usd": ["0.000001"],
    "x-router-explore": ["0"],
}
FLOOR = {"floor": 0.8, "hard": True}
HARD = {
    "strategies": {
        "plain": {
            "objective": "quality",
            "incumbent": "none",
            "limits": {"quality": {"floor": 0.8, "hard": True}},
        },
        "quick": {"objective": "fastest"},
    }
}
EVENTS = {
    "breaker": lambda world: world.fails("a"),
    "recovery": lambda world: world.recovers("a"),
    "agreement": lambda world: world.passes(3 * DAY_S),
    "minute": lambda world: world.passes(60),
    "good": lambda world: world.learns(55),
    "bad": lambda world: world.learns(5),
    "off": lambda world: world.switches(off=True),
    "on": lambda world: world.switches(off=False),
    "stricter": lambda world: world.reloads(organisation={"data_class": "confidential"}),
    "limited": lambda world: world.reloads(**HARD),
    "back": lambda world: world.reloads(),
}
CALLS = st.tuples(
    st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in HEADERS.items()}),
    st.sampled_from(sorted(BODIES)),
)
STEPS = st.lists(st.one_of(CALLS, st.sampled_from(sorted(EVENTS))), min_size=4, max_size=14)


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settled")


@settings(max_examples=12, phases=[Phase.generate])
@given(STEPS)
def test_what_is_remembered_is_what_is_settled_anew(state_dir: Path, steps: list[Any]) -> None:
    world, calls = World(state_dir), []
    for step in steps:
        if isinstance(step, str):
            EVENTS[step](world)
        else:
            calls.append(step)
        for headers, body in calls[-3:]:
            world.settled(headers, BODIES[body])  # what it says holds for its session from now on
            found = world.settled(headers, BODIES[body])
            with world.remembering_nothing():
                assert world.settled(headers, BODIES[body]) == found


def reasons(world: World, **headers: str) -> list[str | None]:
    """Why each endpoint may not serve a plain call; asked twice, as the second is remembered."""
    named = {f"x-router-{name.replace('_', '-')}": value for name, value in headers.items()}
    found = [world.context(named, PLAIN).eligibility.reasons for _ in range(2)]
    assert found[0] == found[1]
    return [None if one is None else one.value for one in found[1]]


def test_who_has_an_agreement_is_left_out_once_that_ends(state_dir: Path) -> None:
    world = World(state_dir)

    before = reasons(world, data_class="restricted")
    world.passes(3 * DAY_S)

    assert before == ["data_class", None, None]
    assert reasons(world, data_class="restricted") == ["data_class", "data_class", None]


def test_an_agreement_that_ends_is_seen_by_calls_of_a_class_that_is_not_sensitive(
    state_dir: Path,
) -> None:
    """Who may serve these is remembered: they may have content kept, so nothing else is asked."""
    classes = ["public", "internal", "team", "confidential", "restricted"]
    world = World(state_dir)
    world.reloads(classes=classes, organisation={"data_class": "team"})

    before = reasons(world)
    world.passes(3 * DAY_S)

    assert before == ["data_class", None, None]
    assert reasons(world) == ["data_class", "data_class", None]


def test_a_breaker_that_opens_is_seen_by_the_next_call_and_so_is_its_closing(
    state_dir: Path,
) -> None:
    world = World(state_dir)

    before = reasons(world)
    world.fails("a")
    while_open = reasons(world)
    world.recovers("a")

    assert before == [None, None, None]
    assert while_open == ["breaker", None, None]
    assert reasons(world) == [None, None, None]


def test_a_hard_limit_goes_by_the_snapshot_at_hand(state_dir: Path) -> None:
    world = World(state_dir)
    world.reloads(**HARD)
    world.learns(58)

    before = reasons(world)
    world.learns(5)

    assert before == [None, None, None]
    assert None not in reasons(world)


def test_the_law_of_learning_and_choices_are_those_of_the_snapshot_at_hand(
    state_dir: Path,
) -> None:
    world = World(state_dir)
    keeper, probing = world.within.sidecar.keeper, replace(LEARNING, floor=0.1, declared=(1,))
    guarded = {"x-router-strategy": "quick"}
    key = world.context(guarded, PLAIN).review_key
    assert key is not None

    found = []
    for learning in (LEARNING, probing, probing, LEARNING):
        known, nothing = world.beliefs, cells.from_bytes(b"", b"")
        posterior, of = known.posterior_of(key.app), known.configuration
        choices = {key: weigh(key, None, posterior, nothing, of, now_ms=int(BEGAN_S * 1000))}
        keeper.current = replace(known, learning=learning, choices=choices)
        assert world.context(guarded, PLAIN).choices is choices[key]
        assert world.context(guarded, PLAIN).choices is choices[key]
        found.append(world.context({}, PLAIN).route.law)
    assert found == [LEARNING, probing, probing, LEARNING]


def test_who_is_settled_without_limits_is_not_settled_anew_by_labels(state_dir: Path) -> None:
    """Beliefs come many times a second; most of what is settled of a call has none in it."""
    world = World(state_dir)
    world.learns(30)
    kinds = world.beliefs.configuration.derive(CallKinds)
    world.context({}, PLAIN)
    known = dict(kinds._known)
    world.learns(31)
    world.context({}, PLAIN)

    assert world.beliefs.configuration.derive(CallKinds) is kinds
    assert kinds._known == known


def test_the_switch_and_a_reload_hold_from_the_next_call(state_dir: Path) -> None:
    world = World(state_dir)

    routed = world.context({}, PLAIN).route.routed
    world.switches(off=True)
    while_off = world.context({}, PLAIN).route.routed
    world.switches(off=False)
    world.reloads(organisation={"data_class": "confidential"})

    assert (routed, while_off) == (True, False)
    assert world.context({}, PLAIN).policy.data_class.name == "confidential"
    assert reasons(world)[0] == "data_class"


def test_a_call_that_says_nothing_of_what_holds_for_it_goes_by_all_that_others_say(
    state_dir: Path,
) -> None:
    """Plain calls before each: what was remembered of them holds for none of these."""
    world = World(state_dir)

    def now(body: bytes = PLAIN, **headers: str) -> tuple[str, str, str]:
        named = {f"x-router-{name.replace('_', '-')}": value for name, value in headers.items()}
        found = [world.context({}, PLAIN), world.context({}, PLAIN), world.context(named, body)]
        last = found[-1]
        route = last.route.groups is None
        return last.task.name, last.policy.data_class.name, "any" if route else "named"

    plain = now()
    world.context({"x-router-session-id": "one", "x-router-data-class": "restricted"}, PLAIN)

    assert plain == now(user="someone") == now(session_id="two") == ("general", "internal", "any")
    assert now(user="eva") == ("general", "confidential", "any")
    assert now(session_id="one") == ("general", "restricted", "any")
    assert now(BODIES["tools"])[0] == "code"
    assert now(BODIES["named"])[2] == "named"
    assert now(task="law") == ("law", "confidential", "any")


def test_what_a_prompt_looks_like_is_asked_of_each_call(state_dir: Path) -> None:
    of_code = ["fix the bug in this function", "write a test for this class"] * 4
    of_law = ["is this contract valid", "which court has jurisdiction here"] * 4
    tasks = {"code": {"exemplars": of_code}, "law": {"exemplars": of_law}}
    world = World(state_dir)
    world.reloads(tasks=tasks, roles={})

    def looks_like(words: bytes) -> str | None:
        return world.context({}, PLAIN.replace(b"hi", words)).task.looks_like

    found = [looks_like(words) for words in (b"hi", b"fix the bug in this function", b"hi")]

    assert found == [None, "code", None]


def test_callers_who_make_up_models_fill_no_memory(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.decision.settled_kinds.MAX_KINDS", 3)
    world = World(state_dir)
    for n in range(10):
        for name in (f"router/{n}", "m", "n", "auto", "a", "b", "c"):
            world.settled({}, PLAIN.replace(b"auto", name.encode()))
    kinds = world.beliefs.configuration.derive(CallKinds)

    assert 0 < len(kinds._usual) <= 3
    assert 0 < len(kinds._known) <= 3


def test_beliefs_go_with_the_last_call_under_them(state_dir: Path) -> None:
    answer = {"choices": [{"message": {"role": "assistant", "content": "yes"}}]}
    reply = httpx.Response(200, content=json.dumps(answer))
    world = World(state_dir)
    world.now = Moment(BEGAN_S, time.monotonic())
    transport = httpx.MockTransport(lambda request: reply)
    world.within = SidecarWithin(world.configuration, state_dir, transport, clock=lambda: world.now)
    asked = {"x-router-key": "k"}
    codes = set()

    async def calls() -> None:
        for good in range(30, 45):
            world.learns(good)
            for session in ("same", f"{good}"):
                headers = {**asked, "x-router-session-id": session}
                request = SentRequest("/v1/chat/completions", headers, PLAIN)
                codes.add((await world.within.send(request)).status)
            world.within.sidecar.decisions.flush()

    gc.disable()  # what hangs together in a ring would stay for minutes
    try:
        with world.within:
            asyncio.run(calls())
        of_all = (each for each in gc.get_objects() if isinstance(each, Beliefs))
        alive = [each for each in of_all if each.configuration is world.configuration]
    finally:
        gc.enable()

    assert codes == {200}
    assert len(alive) <= 3
