"""The two endings of stored draws: for gain in a session, as dominated in a slot; each once."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import yaml
from conftest import LEARN, ROUTED, Provider, endpoint, serving
from msgspec import structs
from scipy import stats

from bandit import cells
from bandit.cells import Terms
from bandit.families import N_COLUMNS, Family, Q
from bandit.steps import Step
from router.beliefs import history
from router.beliefs.beliefs import believe
from router.beliefs.review_keys import seeds
from router.config.compiled import Configuration, compile_text
from router.decision import endings, shared_draws
from router.decision.context import Moment
from router.decision.decide import Decision
from router.decision.ended import cache_worth_usd
from router.decision.progress import UnitProgress
from router.decision.reasons import Reason, reason_of
from router.decision.sessions import POLL_S
from router.decision.shared_draws import DrawEnding, StoredDraw
from router.decision.ways import DecisionWay, way_of
from router.dialects import chat
from router.dispatch.decision_flags import flags_of
from router.endpoints.catalog import Endpoint
from router.explain.told import lines
from router.policy.callers import Caller
from router.server import Sidecar
from telemetry import keys
from telemetry.digests import digest8
from telemetry.embedded import PrivateServer
from telemetry.events import Flag
from telemetry.store import Address
from telemetry.tokens import Token
from telemetry.wire.usage import Usage
from workers.folding.learner import Learner

NOWHERE = Address("unix:///nowhere/store.sock")
MORNING = 20_000 * 86_400.0 + 3600.0
"""Epoch seconds of some day, an hour after it began."""
MINUTE = 60.0
NO_CLIENT: Any = None
T = TypeVar("T")
PRICED = {"input_usd_per_mtok": 4, "output_usd_per_mtok": 4, "cached_input_usd_per_mtok": 0.4}


def configured(state_dir: Path, /, *names: str, **more: Any) -> Configuration:
    value: dict[str, Any] = {
        "server": {"state_dir": str(state_dir), "explain_days": 0},
        "endpoints": [
            {"id": n, "model": n, "base_url": f"http://{n}.test/v1", "prices": PRICED}
            for n in names
        ],
        "strategies": {"learn": {"objective": "quality", "incumbent": "none"}},
        "apps": {"default": {"mode": "route", "strategy": "learn"}},
        **more,
    }
    return compile_text(yaml.safe_dump(value, sort_keys=False), file="t")


class Router:
    """A router in this process, whose clock and labels are told; it makes real decisions."""

    def __init__(self, configuration: Configuration, address: Address = NOWHERE) -> None:
        self.app = Sidecar(configuration, address)
        self.configuration = configuration
        self.keeper, self.draws = self.app.keeper, self.app.draws
        self.decider = self.app.routes._services.decider
        for secret in (self.keeper.secrets.users, self.keeper.secrets.draws):
            secret.agree(NO_CLIENT, b"s" * 32)  # the same luck every time
        self.now = MORNING
        self.rows: Terms = cells.from_bytes(b"", b"")
        self.n_labels = 0
        self._version = 0
        self.learn()

    def learn(self, *labels: tuple[str, float], task: str = "general") -> None:
        """Fold labels of just now, and believe what follows."""
        if labels:
            columns = np.zeros((len(labels), N_COLUMNS))
            rewards = np.array([reward for _, reward in labels])
            columns[:, [Q.LABELS, Q.N]] = 1
            columns[:, Q.R], columns[:, Q.R2] = rewards, rewards**2
            by_id = self.configuration.catalog.by_id
            new = cells.terms(
                Family.QUALITY,
                category=np.full(len(labels), digest8("task", task), dtype=np.uint64),
                endpoint=np.array([by_id[n].digest for n, _ in labels], dtype=np.uint64),
                at_ms=np.full(len(labels), int(self.now * 1000)),
                columns=columns,
            )
            self.rows = cells.merge([self.rows, new])
            self.n_labels += len(labels)
        self._version += 1
        now_ms = int(self.now * 1000)
        self.keeper.current = believe(
            self.configuration,
            self.rows,
            version=self._version,
            now_ms=now_ms,
            review_keys=seeds(self.configuration),
        )
        self.keeper.history.note(self.keeper.current, now_ms=now_ms)

    def good(self, name: str, n: int, share: float) -> None:
        """Learn of so many labels, of which this share is good."""
        n_good = round(n * share)
        self.learn(*[(name, 1.0)] * n_good, *[(name, 0.0)] * (n - n_good))

    def wait(self, seconds: float = MINUTE) -> None:
        """Let time pass, with a snapshot at its end."""
        self.now += seconds
        now_ms = int(self.now * 1000)
        self.keeper.history.note(self.keeper.current, now_ms=now_ms)

    async def call(
        self, app: str = "default", text: str = "hi", turns: tuple[str, ...] = (), **hints: str
    ) -> Decision:
        """Decide a call; hints are `user`, `session` and whatever else a header says."""
        said: list[dict[str, str]] = []
        for i, each in enumerate((*turns, text)):
            said.append({"role": ("user", "assistant")[i % 2], "content": each})
        request = chat.parse(json.dumps({"model": "auto", "messages": said}).encode())
        names = {"user": b"x-router-user", "session": b"x-router-session-id"}
        headers = {names.get(k, f"x-router-{k}".encode()): v.encode() for k, v in hints.items()}
        caller = Caller(self.configuration.apps[app])
        at = Moment(self.now, self.now)
        beliefs = self.keeper.current
        context = await self.decider.contexts.of(beliefs, caller, headers, request, at)
        assert context is not None
        return await self.decider.decide(context)


def until(condition: Callable[[], Any]) -> None:
    ends = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def run(what: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(what)


def drawn(decision: Decision) -> str:
    return decision.plan.drawn.id


# -- a slot: shown to be worse by what came since ------------------------------------------------

TRUE = {"good": 0.9, "fair": 0.7, "poor": 0.5}


async def a_day(
    router: Router, seed: int, *, n_users: int = 20, rounds: int = 60
) -> dict[str, Any]:
    """Let users that draw before anything is known call every few minutes, each with a label."""
    luck = random.Random(seed)
    users = {f"{seed}-{i}": drawn(await router.call(user=f"{seed}-{i}")) for i in range(n_users)}
    first, freed = dict(users), dict[str, int]()
    for _ in range(rounds):
        router.wait(4 * MINUTE)
        labels = []
        for user in users:
            decision = await router.call(user=user)
            if decision.ended is not None:
                assert user not in freed
                assert decision.ended.before.id == users[user]
                freed[user] = router.n_labels
            else:
                assert drawn(decision) == users[user]
            users[user] = drawn(decision)
            labels.append((users[user], float(luck.random() < TRUE[users[user]])))
        router.learn(*labels)
    return {"first": first, "freed": freed, "last": users}


def test_early_users_are_freed_once_from_what_is_shown_to_be_worse_and_none_from_the_best(
    state_dir: Path,
) -> None:
    """Over 30 seeds all of 403 users of a worse one are freed, where without endings all stay all
    day: at .5 after 40 labels of all users together in the median and 60 at most, at .7 after 80
    and 240. Of 197 users of the best none is. 51 draw a worse one again, early as it is, and stay.
    """
    n_best = 0
    for seed in range(5):
        router = Router(configured(state_dir / str(seed), *TRUE))
        found = run(a_day(router, seed))

        worse = {user for user, name in found["first"].items() if name != "good"}
        assert set(found["freed"]) == worse
        assert max(found["freed"].values()) <= 240
        n_best += sum(name == "good" for name in found["last"].values())
    assert n_best >= 85


async def held_at(router: Router, name: str, step: Step = Step.SAMPLE, **hints: str) -> StoredDraw:
    """Let a unit's draw have been this endpoint, just now, as another process may have said."""
    context = (await router.call(**hints)).context
    at_ms, digest = context.at.store_ms, router.configuration.catalog.by_id[name].digest
    given = StoredDraw(digest, 0.25, at_ms, 7, step)
    assert context.unit.key is not None
    router.draws.keep(context.unit.key, given, context.unit, now=router.now)
    return given


async def shown_since(router: Router, *, n: int = 40, good: str = "a", poor: str = "b") -> None:
    """Let a minute pass, then labels come that show one to be better than the other."""
    router.wait()
    router.good(good, n, 0.9)
    router.good(poor, n, 0.5)
    router.wait()


DAY, SLOT, SESSION = {"user": "u"}, dict[str, str](), {"session": "s"}


@pytest.mark.parametrize("unit", [DAY, SLOT])
def test_a_slot_is_freed_with_a_propensity_of_its_own(
    state_dir: Path, unit: dict[str, str]
) -> None:
    async def play(router: Router) -> None:
        held = await held_at(router, "b", **unit)
        await shown_since(router)
        n_waiting = router.draws.shared.n_unwritten
        moved, after = await router.call(**unit), await router.call(**unit)

        assert moved.ending is DrawEnding.DOMINATED
        assert way_of(moved) is DecisionWay.DOMINATED_ENDING
        assert moved.ended is not None
        assert (moved.ended.before.id, moved.ended.better.id) == ("b", "a")
        assert moved.ended.p_better >= 0.95
        assert moved.ended.p_better_since is not None
        assert moved.ended.p_better_since >= 0.95
        assert (drawn(moved), moved.plan.drawn_now, moved.held) == ("a", True, None)
        assert moved.plan.propensity == moved.plan.shares()["a"]
        assert reason_of(moved) is Reason.DOMINATED
        key = moved.context.unit.key
        assert key is not None
        kept = router.draws.get(key, now=router.now)
        assert kept is not None
        assert kept.ending is DrawEnding.DOMINATED
        assert kept != held
        assert router.draws.shared.n_unwritten == n_waiting + 1  # until the store is back
        assert (after.held, after.ending, drawn(after)) == (kept, None, "a")

    run(play(Router(configured(state_dir, "a", "b"))))


def test_what_was_known_before_ends_no_draw_that_was_made_to_explore(state_dir: Path) -> None:
    async def play(router: Router) -> None:
        router.good("a", 300, 0.9)
        router.good("b", 300, 0.5)
        router.wait()
        held = await held_at(router, "b", **DAY)
        for _ in range(20):
            router.wait(10 * MINUTE)
            router.good("a", 1, 1.0)  # of that one alone
            assert (await router.call(**DAY)).held == held
        router.good("b", 12, 0.25)
        router.wait()

        assert (await router.call(**DAY)).ending is DrawEnding.DOMINATED

    run(play(Router(configured(state_dir, "a", "b"))))


def test_a_draw_that_an_ending_made_never_ends_so_again(state_dir: Path) -> None:
    async def play(router: Router) -> None:
        held = await held_at(router, "b", **DAY)
        key = (await router.call(**DAY)).context.unit.key
        assert key is not None
        unit = (await router.call(**DAY)).context.unit
        again = structs.replace(held, ending=DrawEnding.DOMINATED)
        router.draws.keep(key, again, unit, now=router.now)
        await shown_since(router, n=400)

        assert (await router.call(**DAY)).held == again

    run(play(Router(configured(state_dir, "a", "b"))))


def test_a_hold_out_is_kept_whatever_becomes_known(state_dir: Path) -> None:
    async def play(router: Router) -> None:
        held = await held_at(router, "b", Step.HOLDOUT, **DAY)
        await shown_since(router, n=400)

        assert (await router.call(**DAY)).held == held

    run(play(Router(configured(state_dir, "a", "b"))))


@pytest.mark.parametrize("unit", [DAY, SESSION])
def test_nothing_ends_in_a_locked_app(state_dir: Path, unit: dict[str, str]) -> None:
    async def play(router: Router) -> None:
        told(router, 100)
        held = await held_at(router, "b", **unit)
        await shown_since(router, n=400)
        answered(router, await router.call(**unit))

        assert (await router.call(**unit)).held == held

    app = {"mode": "route", "strategy": "learn", "locked": True}
    run(play(Router(configured(state_dir, "a", "b", apps={"default": app}))))


@pytest.mark.parametrize("objective", ["cheapest", "fastest"])
def test_an_order_moves_by_its_own_rules(state_dir: Path, objective: str) -> None:
    async def play(router: Router) -> None:
        held = await held_at(router, "b", **DAY)
        await shown_since(router, n=400)

        assert (await router.call(**DAY)).held == held

    learn = {"learn": {"objective": objective, "incumbent": "none"}}
    run(play(Router(configured(state_dir, "a", "b", strategies=learn))))


def test_beside_an_incumbent_only_what_the_law_may_give_frees(state_dir: Path) -> None:
    """Whoever may not explore is held to the choice: a fresh draw would give that again."""

    async def play(router: Router) -> None:
        router.good("a", 100, 0.7)
        router.good("b", 100, 0.7)
        router.wait()
        held = await held_at(router, "b", Step.STAY, **DAY)
        await shown_since(router, n=100)
        law = (await router.call(user="other")).context.route.law
        assert law is not None
        assert (law.incumbent, law.current, law.challengers) == (1, 1, (0,))
        unexplored = await router.call(explore="0", **DAY)
        moved = await router.call(**DAY)

        assert unexplored.held == held
        assert moved.ending is DrawEnding.DOMINATED
        shares = moved.plan.shares()
        assert moved.plan.propensity == shares[drawn(moved)]
        assert 0.3 < shares["b"] < 0.6  # s, and the mass of no hold-out

    learn = {"learn": {"objective": "quality", "incumbent": "b"}}
    run(play(Router(configured(state_dir, "a", "b", strategies=learn))))


def test_a_conversation_that_goes_on_stays_and_the_next_one_is_freed(state_dir: Path) -> None:
    async def play(router: Router) -> None:
        held = await held_at(router, "b", **DAY)
        first = await router.call(text="one", **DAY)
        await shown_since(router)
        goes_on = await router.call(turns=("one", "answer"), text="two", **DAY)
        begins = await router.call(text="another", **DAY)
        later = await router.call(turns=("one", "answer", "two", "ok"), text="three", **DAY)
        new = await router.call(turns=("another", "answer"), text="more", **DAY)

        assert (first.held, goes_on.held, drawn(later)) == (held, held, "b")
        assert begins.ending is DrawEnding.DOMINATED
        assert (drawn(begins), drawn(new), new.ending) == ("a", "a", None)

    run(play(Router(configured(state_dir, "a", "b"))))


def test_who_may_not_serve_this_call_frees_nobody(state_dir: Path) -> None:
    async def play(router: Router) -> None:
        held = await held_at(router, "b", **DAY)
        await shown_since(router)
        here = await router.call(**{"data-class": "restricted"}, **DAY)
        anywhere = await router.call(**DAY)

        assert (here.held, anywhere.ending) == (held, DrawEnding.DOMINATED)

    endpoints = [
        {"id": n, "model": n, "base_url": f"http://{n}.test/v1", "max_data_class": c}
        for n, c in (("a", "internal"), ("b", "restricted"))
    ]
    run(play(Router(configured(state_dir, endpoints=endpoints))))


def test_a_dry_run_says_who_would_be_drawn_and_ends_nothing(state_dir: Path) -> None:
    async def play(router: Router) -> None:
        held = await held_at(router, "b", **DAY)
        context = (await router.call(**DAY)).context
        before = router.decider.preview(context)
        await shown_since(router)
        assert context.unit.key is not None
        at = Moment(router.now, router.now)
        context = structs.replace(context, beliefs=router.keeper.current, at=at)
        shown = router.decider.preview(context)

        assert (before["endpoint"], before["follows_stored_draw"]) == ("b", True)
        assert (shown["endpoint"], shown["follows_stored_draw"]) == ("a", False)
        assert router.draws.get(context.unit.key, now=router.now) == held

    run(play(Router(configured(state_dir, "a", "b"))))


def test_after_a_restart_only_labels_since_then_count(state_dir: Path, tmp_path: Path) -> None:
    async def play(before: Router, after: Router) -> None:
        held = await held_at(after, "b", **DAY)
        await shown_since(before, n=400)
        after.now, after.rows = before.now, before.rows
        after.learn()  # the first that it believes
        assert (await after.call(**DAY)).held == held
        after.wait(30 * MINUTE)
        assert (await after.call(**DAY)).held == held
        await shown_since(after)
        assert (await after.call(**DAY)).ending is DrawEnding.DOMINATED

    configuration = configured(state_dir, "a", "b")
    after = Router(configuration)
    after.keeper.history._kept = type(after.keeper.history._kept)()  # nothing is known yet
    run(play(Router(configuration), after))


def test_new_draws_follow_the_law_whose_propensity_they_carry(state_dir: Path) -> None:
    """Among endpoints that a draw gives a share each: 300 units, held to the law by χ²."""

    async def play(router: Router) -> tuple[Counter[str], dict[str, float]]:
        names = [f"u{i}" for i in range(300)]
        for name in names:
            await held_at(router, "poor", user=name)
        router.wait()
        for name, share in (("x", 0.75), ("y", 0.75), ("z", 0.7), ("poor", 0.2)):
            router.good(name, 24, share)
        router.wait()
        moved = [await router.call(user=name) for name in names]
        assert {one.ending for one in moved} == {DrawEnding.DOMINATED}
        shares = moved[0].plan.shares()
        for one in moved:
            assert one.plan.propensity == shares[drawn(one)]
        return Counter(map(drawn, moved)), shares

    found, shares = run(play(Router(configured(state_dir, "x", "y", "z", "poor"))))

    might = {name: share for name, share in shares.items() if share > 0}
    assert len(might) >= 3
    expected = np.array([300 * share for share in might.values()])
    seen = np.array([found[name] for name in might])
    assert seen.sum() == 300
    assert stats.chisquare(seen, expected).pvalue > 0.001


@pytest.mark.parametrize("n_first", [1, 2])
def test_over_two_processes_it_happens_once_and_the_first_writer_wins(
    state_dir: Path,
    tmp_path: Path,
    store: PrivateServer,
    address: Address,
    n_first: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_draws, "LOOK_UP_S", 2.0)  # this machine may be busy

    async def play(one: Router, two: Router) -> None:
        for router in (one, two):
            router.draws.start()
            router.app.sessions.start()
        first = [await one.call(user=f"u{i}") for i in range(60)]
        users = [f"u{i}" for i, each in enumerate(first) if drawn(each) == "b"]
        assert users
        for user in users:
            assert drawn(await two.call(user=user)) == "b"
        for router in (one, two) if n_first == 2 else (one,):
            await shown_since(router)
        two.now = one.now + 0.01
        for user in users:
            if n_first == 2:
                pair = await asyncio.gather(one.call(user=user), two.call(user=user))
                assert sorted(str(each.ending) for each in pair) == ["None", "dominated"]
                assert drawn(pair[0]) == drawn(pair[1])
            else:
                moved, late = await one.call(user=user), await two.call(user=user)
                assert moved.ending is DrawEnding.DOMINATED
                assert drawn(late) in ("b", drawn(moved))  # it may not have heard yet
        if n_first == 1:  # although it has learned nothing itself
            await asyncio.sleep(2 * POLL_S)
            for user in users:
                assert (await two.call(user=user)).ending is None
                assert drawn(await two.call(user=user)) == drawn(await one.call(user=user))
        await two.app.sessions.stop()
        await one.app.sessions.stop()
        await one.draws.stop()
        await two.draws.stop()

    routers = (Router(configured(path, "a", "b"), address) for path in (state_dir, tmp_path))
    run(play(*routers))


# -- a session: for gain -------------------------------------------------------------------------


def told(router: Router, *remaining: float, app: str = "default", calls: int = 1) -> None:
    """Let a job have found how many calls remain after so many."""
    pairs = [[calls + i, left] for i, left in enumerate(remaining)]
    digest = f"{router.configuration.apps[app].digest:016x}"
    raw = json.dumps({"at_ms": 1, "apps": {digest: {"remaining": pairs}}}).encode()
    router.keeper.episodes.take(raw)


def answered(router: Router, decision: Decision, cached: int | None = 0) -> None:
    """Let a call have been answered."""
    usage = None if cached is None else Usage(max(100, cached), 10, cached, 0)
    router.decider.progress.note(decision.context, usage)


async def a_session(router: Router, cached: int | None, n: int = 1) -> Decision:
    """Let a session at `b` have had so many calls, labels come, and return its next call."""
    await held_at(router, "b", **SESSION)
    for _ in range(n):
        answered(router, await router.call(**SESSION), cached)
    await shown_since(router)
    return await router.call(**SESSION)


def test_a_session_moves_once_where_its_calls_to_come_gain_more_than_its_cache_is_worth(
    state_dir: Path,
) -> None:
    async def play(router: Router) -> None:
        told(router, 50)
        moved = await a_session(router, 10_000)
        ended = moved.ended

        assert moved.ending is DrawEnding.GAIN
        assert ended is not None
        assert (ended.before.id, ended.better.id, ended.remaining) == ("b", "a", 50)
        assert ended.cache_usd == pytest.approx(10_000 * 3.6e-6)
        assert ended.gain_usd == pytest.approx(0.05 * 0.4, rel=0.3)  # of .9 and .5
        assert (ended.value_usd, ended.is_assumed) == (0.05, True)
        assert drawn(moved) == "a"
        assert reason_of(moved) is Reason.GAIN
        answered(router, moved, 10_000)
        router.wait()
        router.good("b", 400, 1.0)
        router.good("a", 400, 0.1)
        router.wait()
        assert (await router.call(**SESSION)).ending is None

    run(play(Router(configured(state_dir, "a", "b"))))


@pytest.mark.parametrize(
    ("cached", "remaining", "moves"),
    [
        (0, 1, True),  # nothing to lose
        (1_000, 1, True),
        (10_000, 1, False),
        (10_000, 3, True),
        (1_000_000, 100, False),  # 3.60 USD against 2
        (1_000_000, 300, True),
        (None, 1, True),  # nothing was ever reported
        (0, 0, False),
        (0, None, False),  # nobody knows how long sessions are
    ],
)
def test_a_session_weighs_what_is_to_come_against_its_cache(
    state_dir: Path, cached: int | None, remaining: float | None, moves: bool
) -> None:
    async def play(router: Router) -> None:
        if remaining is not None:
            told(router, remaining)
        assert ((await a_session(router, cached)).ending is DrawEnding.GAIN) is moves

    run(play(Router(configured(state_dir, "a", "b"))))


def test_a_process_that_saw_nothing_of_a_session_does_not_end_its_draw(state_dir: Path) -> None:
    async def play(router: Router) -> None:
        told(router, 100, calls=0)
        assert (await a_session(router, 0, n=0)).ending is None

    run(play(Router(configured(state_dir, "a", "b"))))


def test_what_was_known_before_gains_a_session_nothing(state_dir: Path) -> None:
    async def play(router: Router) -> None:
        told(router, 1000)
        router.good("a", 4000, 0.9)
        router.good("b", 4000, 0.5)
        router.wait()
        held = await held_at(router, "b", **SESSION)
        answered(router, await router.call(**SESSION), 10_000)
        for _ in range(5):
            router.wait()
            assert (await router.call(**SESSION)).held == held

    run(play(Router(configured(state_dir, "a", "b"))))


def test_calls_of_other_roles_are_none_that_a_unit_gains_by(state_dir: Path) -> None:
    async def play(router: Router) -> Decision:
        told(router, 40, 40, 40, 40)
        await held_at(router, "b", **SESSION)
        answered(router, await router.call(**SESSION), 0)
        for _ in range(3):
            answered(router, await router.call(role="critic", **SESSION), 0)
        await shown_since(router)
        return await router.call(**SESSION)

    configuration = configured(state_dir, "a", "b", roles={"critic": {}})
    moved = run(play(Router(configuration)))

    assert moved.ended is not None
    assert moved.ended.remaining == 10


def test_a_success_is_worth_what_the_strategy_says(state_dir: Path) -> None:
    learn = {"learn": {"objective": "balanced", "value_usd": 2.0, "incumbent": "none"}}

    async def play(router: Router) -> Decision:
        told(router, 10)
        return await a_session(router, 10_000)

    moved = run(play(Router(configured(state_dir, "a", "b", strategies=learn))))

    assert moved.ended is not None
    assert (moved.ended.value_usd, moved.ended.is_assumed) == (2.0, False)
    assert moved.ended.gain_usd == pytest.approx(2 * 0.4, rel=0.3)


def priced(state_dir: Path, **prices: dict[str, Any] | None) -> tuple[Endpoint, Endpoint]:
    entries = [
        {"id": n, "model": n, "base_url": f"http://{n}.test/v1"} | ({"prices": p} if p else {})
        for n, p in prices.items()
    ]
    first, second = configured(state_dir, endpoints=entries).catalog.endpoints
    return first, second


def test_a_cache_is_worth_the_larger_discount_and_what_writing_it_costs(state_dir: Path) -> None:
    usual = {"input_usd_per_mtok": 2, "output_usd_per_mtok": 8}
    cheap = {**usual, "cached_input_usd_per_mtok": 1.5}
    dear = {**cheap, "cached_input_usd_per_mtok": 0.2, "cache_write_usd_per_mtok": 2.5}
    seen = UnitProgress(3, 3, 100_000, 120_000)
    none = UnitProgress(3, 3, 0, 120_000)

    one, two = priced(state_dir, one=cheap, two=dear)
    free, plain = priced(state_dir, free=None, plain=usual)
    unknown, other = priced(state_dir, unknown=None, other=None)

    assert cache_worth_usd(seen, one, two, MORNING) == pytest.approx(0.18 + 0.05)
    assert cache_worth_usd(seen, two, one, MORNING) == pytest.approx(0.18)
    assert cache_worth_usd(seen, free, plain, MORNING) == 0
    assert cache_worth_usd(seen, unknown, other, MORNING) is None
    assert cache_worth_usd(none, unknown, other, MORNING) == 0


# -- books ---------------------------------------------------------------------------------------


def test_outcomes_say_so_tokens_have_room_and_metrics_count(state_dir: Path) -> None:
    async def play(router: Router) -> tuple[Decision, Decision]:
        told(router, 50)
        session = await a_session(router, 0)
        await held_at(router, "b", **DAY)
        await shown_since(router)
        return session, await router.call(**DAY)

    router = Router(configured(state_dir, "a", "b"))
    gain, dominated = run(play(router))
    booking = router.app.routes._services.calls.booking
    for decision in (gain, dominated, dominated):
        booking.count_decision(decision, 0.001)
        assert Token.unpack(booking.token(decision, decision.plan.drawn)).flags & Flag.DRAWN_NOW

    both = Flag.GAIN_ENDING | Flag.DOMINATED_ENDING
    assert flags_of(gain) & both == Flag.GAIN_ENDING
    assert flags_of(dominated) & both == Flag.DOMINATED_ENDING
    text = router.app.owners.exposition.text().decode()
    assert 'router_draws_ended_total{kind="gain"} 1.0' in text
    assert 'router_draws_ended_total{kind="dominated"} 2.0' in text


# -- over HTTP -----------------------------------------------------------------------------------


def test_who_moved_is_told_with_the_numbers(
    provider: Provider,
    state_dir: Path,
    address: Address,
    learner: Learner,
    client: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From labels over HTTP to the word, the explanation, and the sentence."""
    monkeypatch.setattr(history, "FINE_MS", 50)
    monkeypatch.setattr(endings, "FRESH_S", 0.5)
    value = {
        "endpoints": [endpoint(provider, name) for name in "ab"],
        "strategies": LEARN,
        "apps": ROUTED,
    }
    with serving(value, state_dir, address) as sidecar:
        names = [f"u{i}" for i in range(16)]
        first = {name: sidecar.chat(user=name).headers["x-router-endpoint"] for name in names}
        assert set(first.values()) == {"a", "b"}
        digest = f"{sidecar.app.keeper.current.configuration.apps['default'].digest:016x}"
        found = {"at_ms": 1, "apps": {digest: {"remaining": [[1, 50]]}}}
        client.set(keys.EPISODES, json.dumps(found))
        session = {"headers": {"x-router-session-id": "one"}}
        at = sidecar.chat(**session).headers["x-router-endpoint"]
        worse, better = at, "ab".replace(at, "")
        time.sleep(1.2)  # a snapshot
        n_labels = 0
        for name in names * 3:
            got = sidecar.chat(user=name)
            if got.headers["x-router-reason"] != "moved from worse":
                decision = got.headers["x-router-decision-id"]
                is_better = got.headers["x-router-endpoint"] == better
                assert sidecar.feedback(decision_id=decision, passed=is_better).status_code == 202
                n_labels += 1
        until(lambda: sidecar.app.keeper.current.posterior.labels.sum() == n_labels)
        time.sleep(0.6)  # what was found out before holds no more
        for name in names:  # if not freed before
            sidecar.chat(user=name)
        moved = sidecar.chat(**session)
        told_ = sidecar.http.get(
            "/v1/router/decisions", params={"id": moved.headers["x-request-id"]}
        ).json()
        text = sidecar.http.get("/metrics").text
        after = {name: sidecar.chat(user=name).headers["x-router-endpoint"] for name in names}

    assert moved.headers["x-router-reason"] == told_["reason"] == "moved for gain"
    assert told_["ended"]["kind"] == "gain"
    assert (told_["ended"]["from"], told_["ended"]["better"]) == (worse, better)
    assert (told_["drawn"], told_["drawn_now"], told_["ended"]["remaining"]) == (better, True, 50)
    shown = list(lines(told_))
    assert shown[0].startswith(f"moved for gain: {better} serves the session from now on")
    assert any(f"the draw of {worse} ended: {better} is better" in line for line in shown)
    assert set(after.values()) == {better}
    assert 'router_draws_ended_total{kind="gain"} 1.0' in text
    n_freed = sum(name == worse for name in first.values())
    assert f'router_draws_ended_total{{kind="dominated"}} {n_freed}.0' in text


@pytest.mark.usefixtures("store")
def test_of_calls_at_once_one_ends_the_draw(
    state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_draws, "LOOK_UP_S", 2.0)

    async def play(router: Router) -> None:
        router.draws.start()
        first = [await router.call(user=f"u{i}") for i in range(20)]
        user = next(f"u{i}" for i, each in enumerate(first) if drawn(each) == "b")
        await shown_since(router)
        calls = await asyncio.gather(*[router.call(user=user) for _ in range(8)])
        assert [one.ending for one in calls].count(DrawEnding.DOMINATED) == 1
        await router.draws.stop()

    run(play(Router(configured(state_dir, "a", "b"), address)))
