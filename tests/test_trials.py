"""Trials and hold-outs: chance assigns units to a side, exactly, and every record says so."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import Provider, Sidecar, endpoint, learning, pointsman, serving, until
from msgspec import structs
from test_bandit_law import CLOSE, QUALITY
from test_books import records
from test_endings import Router, configured

from bandit.assignment import HALF, Assignment, law_under, numbers_under, step_under
from bandit.draws import Law, Uniforms, draw, propensities, tabulate
from bandit.steps import CONTROL, TREATED, Step
from router.beliefs.choices import weigh_all
from router.beliefs.kept import Kept, ReviewKey
from router.beliefs.seen_trials import SeenTrials
from router.beliefs.switch import SwitchFile, SwitchWord
from router.beliefs.trials import ends_of, of_key, settle, under_trials
from router.commands import explain
from router.config.compiled import Configuration
from router.decision.decide import Decision
from router.decision.shared_draws import StoredDraw
from router.dispatch.decision_flags import flags_of
from router.endpoints.breaker import Trouble
from telemetry import keys
from telemetry.events import Flag
from telemetry.store import Address
from telemetry.trials import (
    OVERDUE_MS,
    Trial,
    TrialRefused,
    TrialState,
    change,
    in_force,
    look,
    parse_trials,
    read_trials,
    start,
)

ASSIGNED, CONTROLS = int(Flag.ASSIGNED), int(Flag.CONTROL)
BOTH = ASSIGNED | CONTROLS
DAY_MS = 86_400_000


# -- the law --------------------------------------------------------------------------------------

TRIAL = Assignment("t1", HALF, is_trial=True, challenger=2)
HOLDOUT = Assignment("t1", 0.03, is_trial=False)
WHOLE = Assignment("t1", HALF, is_trial=True, by_episode=True)
BASE = Law(0, 1, (2, 3), floor=0.1, stay=0.4)


@pytest.mark.parametrize("assignment", [TRIAL, HOLDOUT, WHOLE])
def test_shares_and_sides_are_what_the_propensities_say(assignment: Assignment) -> None:
    law = law_under(assignment, BASE, lambda group: True)
    assert law is not None
    table = tabulate(CLOSE.bank(0), objective=QUALITY, law=law, eligible=np.ones(5, dtype=bool))
    p, n = propensities(law, table), 20_000
    groups: Counter[int] = Counter()
    control = 0

    for row in np.random.default_rng(1).random((n, 7)).tolist():
        given = draw(law, table, numbers_under(Uniforms(*row)))
        step = step_under(assignment, given.step)
        assert step.is_assigned
        groups[given.group] += 1
        control += step in CONTROL

    seen = np.array([groups[g] for g in range(4)]) / n
    assert p.sum() == pytest.approx(1)
    assert (np.abs(seen - p) <= 4 * np.sqrt(p * (1 - p) / n) + 1e-12).all()
    share = assignment.control
    assert abs(control / n - share) <= 4 * (share * (1 - share) / n) ** 0.5
    if assignment is TRIAL:
        assert p.tolist() == pytest.approx([0.5, 0, 0.5, 0])
        assert groups[0] == control  # nobody else is of either side


@pytest.mark.parametrize("missing", [0, 2])
def test_where_a_side_has_nobody_to_serve_there_is_no_trial(missing: int) -> None:
    assert law_under(TRIAL, BASE, lambda group: group != missing) is None
    assert law_under(None, BASE, lambda group: True) is None
    assert (law_under(HOLDOUT, BASE, lambda group: group != missing) is None) is (missing == 0)


def test_a_stored_draw_keeps_its_side_and_those_of_earlier_versions_are_read_as_they_were() -> None:
    earlier = ["holdout", "floor", "stay", "sample", "failover", "only_allowed"]
    for place, name in enumerate(earlier):
        raw = StoredDraw(7, 0.5, 1_000, 3, Step(name)).pack()
        assert raw[-1] == place  # as they wrote it

    for step in Step:
        given = StoredDraw(7, 0.5, 1_000, 3, step)
        assert StoredDraw.unpack(given.pack()) == given
        assert StoredDraw.unpack_conversation(given.pack_conversation()) == given
    assert not CONTROL & TREATED


# -- decisions ------------------------------------------------------------------------------------


class TrialRouter(Router):
    """A router in this process that goes by trials which are told."""

    def go_by(self, *trials: Trial, **standing: Any) -> None:
        beliefs = self.keeper.current
        kept = {
            key: Kept(key, 1, current=standing, won={t.task: t.id for t in trials})
            for key in beliefs.choices
        }
        self.learn()
        beliefs = self.keeper.current
        choices = beliefs.choices
        if standing:
            (key,) = choices
            names = {e.id: e.group for e in self.configuration.catalog.endpoints}
            current = choices[key].standings.current.copy()
            for task, name in standing.items():
                current[self.configuration.task_index[task]] = names[name]
            standings = replace(choices[key].standings, current=current)
            laws = tuple(replace(law, current=int(current[0])) for law in choices[key].laws)
            choices = {key: replace(choices[key], standings=standings, laws=laws)}
        known = {trial.id: trial for trial in trials}
        beliefs.choices = under_trials(choices, kept, known, beliefs.configuration)


def guarded(state_dir: Path, **app: Any) -> Configuration:
    return configured(
        state_dir,
        "a",
        "b",
        "c",
        strategies={"quality": {"objective": "quality"}},
        apps={"default": {"mode": "route", "strategy": "quality", **app}},
    )


def trial_of(configuration: Configuration, *, task: str = "general", **more: Any) -> Trial:
    key = ReviewKey("default", "quality", "", "a")
    digest = key.release_keys([task])[0] if task else 0
    known = {
        "id": "abcdefabcdef",
        "app": "default",
        "strategy": "quality",
        "task": task,
        "incumbent": "a",
        "challenger": "b" if task else "",
        "release_key": digest,
        "began_ms": 1,
        "ends_ms": 14 * DAY_MS,
    }
    return Trial(**known | more)


def bits(decision: Decision) -> int:
    return flags_of(decision) & BOTH


def test_half_of_the_sessions_are_of_each_side_and_followers_keep_it(state_dir: Path) -> None:
    async def play(router: TrialRouter) -> None:
        router.go_by(trial_of(router.configuration))
        sides = {}
        for n in range(400):
            found = await router.call(session=f"s{n}")
            sides[n] = (found.plan.drawn.id, bits(found))
            assert found.plan.propensity == pytest.approx(0.5)
        assert set(sides.values()) == {("a", BOTH), ("b", ASSIGNED)}
        assert abs(sum(side[0] == "a" for side in sides.values()) - 200) < 50

        for n in range(50):
            again = await router.call(session=f"s{n}", text="again")
            assert (again.plan.drawn.id, bits(again)) == sides[n]
        router.go_by()  # it is over: what was drawn stays, and says on which side
        for n in range(50, 100):
            again = await router.call(session=f"s{n}", text="again")
            assert (again.plan.drawn.id, bits(again)) == sides[n]
        assert bits(await router.call(session="new")) == 0

    asyncio.run(play(TrialRouter(guarded(state_dir))))


def test_two_trials_one_after_the_other_do_not_assign_alike(state_dir: Path) -> None:
    async def play(first: TrialRouter, second: TrialRouter) -> None:
        first.go_by(trial_of(first.configuration))
        second.go_by(trial_of(second.configuration, id="123456123456"))
        same = 0
        for n in range(200):
            one, other = [await r.call(session=f"s{n}") for r in (first, second)]
            same += bits(one) == bits(other)
        assert 65 < same < 135

    configuration = guarded(state_dir)
    asyncio.run(play(TrialRouter(configuration), TrialRouter(configuration)))


def test_two_routers_that_know_the_same_assign_alike(state_dir: Path, tmp_path: Path) -> None:
    async def play(first: TrialRouter, second: TrialRouter) -> None:
        for router in (first, second):
            router.go_by(trial_of(router.configuration))
        for n in range(100):
            one, other = [await r.call(session=f"s{n}") for r in (first, second)]
            assert one.plan.drawn.id == other.plan.drawn.id
            assert bits(one) == bits(other)

    asyncio.run(play(TrialRouter(guarded(state_dir)), TrialRouter(guarded(tmp_path))))


def test_what_may_not_be_explored_is_served_as_without_a_trial(state_dir: Path) -> None:
    async def play(router: TrialRouter) -> None:
        router.go_by(trial_of(router.configuration))
        for n in range(30):
            found = await router.call(session=f"s{n}", explore="0")
            assert (found.plan.drawn.id, bits(found), found.plan.propensity) == ("a", 0, 1.0)

    asyncio.run(play(TrialRouter(guarded(state_dir))))


def test_calls_that_the_challenger_may_not_serve_are_on_no_side(state_dir: Path) -> None:
    sites = {"a": "internal", "b": "public"}
    configuration = configured(
        state_dir,
        endpoints=[
            {"id": n, "model": n, "base_url": f"http://{n}.test/v1", "max_data_class": most}
            for n, most in sites.items()
        ],
        strategies={"quality": {"objective": "quality"}},
        apps={"default": {"mode": "route", "strategy": "quality", "data_class": "public"}},
    )

    async def play(router: TrialRouter) -> None:
        router.go_by(trial_of(router.configuration))
        for n in range(30):
            found = await router.call(session=f"s{n}", **{"data-class": "internal"})
            assert (found.plan.drawn.id, bits(found)) == ("a", 0)
        assert bits(await router.call(session="another")) & ASSIGNED

    asyncio.run(play(TrialRouter(configuration)))


def test_a_won_trial_leaves_a_hold_out_while_its_challenger_is_the_choice(state_dir: Path) -> None:
    async def play(router: TrialRouter) -> None:
        won = trial_of(
            router.configuration, state=TrialState.WON, ended_ms=2, holdout=0.03, reason="gains"
        )
        router.go_by(won, general="b")
        seen: Counter[tuple[str, int]] = Counter()
        for n in range(1500):
            found = await router.call(session=f"s{n}")
            seen[found.plan.drawn.id, bits(found)] += 1
        assert set(seen) == {("a", BOTH), ("b", ASSIGNED)}
        assert 20 < seen["a", BOTH] < 75

        router.go_by(won, general="a")  # the choice is another now
        assert bits(await router.call(session="later")) == 0

    asyncio.run(play(TrialRouter(guarded(state_dir))))


def test_an_apps_trial_puts_all_that_an_episode_draws_on_one_side(state_dir: Path) -> None:
    configuration = configured(
        state_dir,
        "a",
        "b",
        strategies={"quality": {"objective": "quality"}},
        tasks={"code": None, "chat": None},
        apps={"default": {"mode": "route", "strategy": "quality"}},
    )

    async def play(router: TrialRouter) -> None:
        whole = trial_of(router.configuration, task="")
        router.go_by(whole, general="b", code="b", chat="b")
        sides: dict[int, set[int]] = defaultdict(set)
        for n in range(200):
            for task in ("code", "chat"):
                found = await router.call(session=f"s{n}", task=task)
                sides[n].add(bits(found))
                assert found.plan.drawn.id == ("a" if bits(found) == BOTH else "b")
        assert all(len(side) == 1 for side in sides.values())
        assert 65 < sum(side == {BOTH} for side in sides.values()) < 135
        for n in range(20):  # who has no session: by user
            found = [bits(await router.call(user=f"u{n}", task=t)) for t in ("code", "chat")]
            assert len(set(found)) == 1
            assert found[0] & ASSIGNED

    asyncio.run(play(TrialRouter(configuration)))


def test_a_locked_apps_trial_is_of_episodes_over_their_roles(state_dir: Path) -> None:
    configuration = configured(
        state_dir,
        "a",
        "b",
        strategies={"quality": {"objective": "quality"}},
        tasks={"plan": None, "code": None},
        roles={"planner": {"tasks": ["plan"]}, "coder": {"tasks": ["code"]}},
        apps={"default": {"mode": "route", "strategy": "quality", "locked": True}},
    )

    async def play(router: TrialRouter) -> None:
        roles = ("planner", "coder")
        for role in roles:
            first = await router.call(session="before", role=role)
            assert first.context.review_key is not None
            router.keeper.want(first.context.review_key)
        whole = trial_of(router.configuration, task="")
        keys_ = [ReviewKey("default", "quality", "", "a", role) for role in roles]
        router.learn()
        beliefs = router.keeper.current
        found = weigh_all(
            keys_, {}, [beliefs.posterior], router.rows, beliefs.configuration, now_ms=1
        )
        beliefs.choices = under_trials(found, {}, {whole.id: whole}, beliefs.configuration)
        for n in range(40):
            sides = {bits(await router.call(session=f"s{n}", role=role)) for role in roles}
            assert len(sides) == 1
            assert sides < {ASSIGNED, BOTH}

    asyncio.run(play(TrialRouter(configuration)))


def test_no_gain_ends_the_draw_of_a_side(state_dir: Path) -> None:
    async def play(router: TrialRouter) -> None:
        router.go_by(trial_of(router.configuration))
        sides = {}
        for n in range(40):
            found = await router.call(user=f"u{n}")
            sides[n] = (found.plan.drawn.id, bits(found))
        router.wait()
        router.learn(*[("a", 1.0)] * 400, *[("b", 0.0)] * 400)
        router.go_by(trial_of(router.configuration))
        router.wait()
        for n in range(40):
            found = await router.call(user=f"u{n}")
            assert (found.plan.drawn.id, bits(found)) == sides[n]
            assert found.ended is None

    asyncio.run(play(TrialRouter(guarded(state_dir))))


def test_a_stand_ins_calls_are_on_the_side_of_the_unit(state_dir: Path) -> None:
    async def play(router: TrialRouter) -> None:
        router.go_by(trial_of(router.configuration))
        drew = {n: await router.call(session=f"s{n}") for n in range(20)}
        health, out = router.decider.health, router.configuration.catalog.by_id["b"].digest
        breaker = health.breakers[out]
        circuit = breaker.circuits[Trouble.FAILING]
        breaker.open_since, circuit.open_since, circuit.open_until = router.now, router.now, 1e12
        health._file(out, router.now)
        router.now += 120
        stood_in = 0
        for n, first in drew.items():
            found = await router.call(session=f"s{n}")
            assert bits(found) == bits(first)
            if found.stands_in_for is not None:
                stood_in += 1
                assert found.plan.drawn.id != "b"
        assert stood_in == sum(first.plan.drawn.id == "b" for first in drew.values()) > 0

    asyncio.run(play(TrialRouter(guarded(state_dir))))


# -- ends -----------------------------------------------------------------------------------------


def kept_at(configuration: Configuration, **current: str) -> Kept:
    return Kept(ReviewKey("default", "quality", "", "a"), 3, 1, current, begun_at_ms=1)


def test_a_won_trial_is_released_once_and_what_was_undone_stays_so(state_dir: Path) -> None:
    of = guarded(state_dir)
    won = trial_of(of, state=TrialState.WON, ended_ms=2, holdout=0.02)
    before = kept_at(of)
    mine = of_key([won], before.review_key, of)

    found = settle(before, mine, of, now_ms=9)
    assert found is not None
    after, (notice,) = found
    assert (after.version, after.current, after.won) == (4, {"general": "b"}, {"general": won.id})
    assert (notice.task, notice.before, notice.after, notice.reason) == (
        "general", "a", "b", "trial",
    )  # fmt: skip
    assert settle(after, mine, of, now_ms=10) is None
    undone = replace(after, current={"general": "a"})
    assert settle(undone, mine, of, now_ms=11) is None
    (over,) = ends_of(
        [won], {undone.review_key: undone}, of, now_ms=12, fallen_at_ms=_calm(of), lost=frozenset()
    )
    assert over == structs.replace(won, holdout=0.0, applied_ms=12)


def _calm(of: Configuration) -> Any:
    return np.zeros(len(of.catalog.group_members), dtype=np.int64)


def test_a_trial_without_a_gain_pins_only_where_the_app_says_so(state_dir: Path) -> None:
    pins, does_not = guarded(state_dir, auto_pin=True), guarded(state_dir)
    lost = trial_of(pins, state=TrialState.ENDED, ended_ms=2, auto_pin=True, reason="time")
    before = kept_at(pins, general="b")

    found = settle(before, of_key([lost], before.review_key, pins), pins, now_ms=9)
    assert found is not None
    assert found[0].current == {"general": "a"}
    assert found[1][0].reason == "pinned"
    assert settle(before, of_key([lost], before.review_key, does_not), does_not, now_ms=9) is None
    by_hand = structs.replace(lost, auto_pin=False)
    assert settle(before, of_key([by_hand], before.review_key, pins), pins, now_ms=9) is None

    router = TrialRouter(pins)
    router.go_by(lost)
    (choices,) = router.keeper.current.choices.values()
    row = pins.task_index["general"]
    assert choices.laws[row] == Law(0, 0, (), stay=1.0)
    assert choices.notes[row] == f"pinned after trial {lost.id}"
    assert of_key([lost], before.review_key, pins).held == {"general"}


@pytest.mark.parametrize(
    "what", ["alarm", "incumbent", "lost", "removed", "no task", "gone app", "nothing"]
)
def test_a_trial_ends_where_a_side_is_lost_or_fell(what: str, state_dir: Path) -> None:
    of = guarded(state_dir)
    running = trial_of(of)
    fallen = _calm(of)
    if what in ("alarm", "incumbent"):
        fallen[of.catalog.by_id["b" if what == "alarm" else "a"].group] = 5
    if what == "removed":
        running = structs.replace(running, challenger="gone")
    if what == "no task":
        running = trial_of(of, task="renamed")
    if what == "gone app":
        running = structs.replace(running, app="of another router")
    lost = frozenset({"b"}) if what == "lost" else frozenset[str]()

    found = ends_of([running], {}, of, now_ms=9, fallen_at_ms=fallen, lost=lost)

    reasons = {
        "alarm": "an alarm says that b fell",
        "lost": "b is lost",
        "removed": "gone was removed",
        "no task": "task renamed was removed",
    }
    assert [one.reason for one in found] == ([reasons[what]] if what in reasons else [])
    assert all(one.state is TrialState.ENDED and one.ended_ms == 9 for one in found)


def test_what_a_router_without_trials_forgot_is_not_released_again(state_dir: Path) -> None:
    of = guarded(state_dir)
    won = trial_of(of, state=TrialState.WON, ended_ms=2, holdout=0.02)
    before = kept_at(of)
    found = settle(before, of_key([won], before.review_key, of), of, now_ms=9)
    assert found is not None
    after = found[0]
    calm = {"now_ms": 10, "fallen_at_ms": _calm(of), "lost": frozenset[str]()}

    (noted,) = ends_of([won], {after.review_key: after}, of, **calm)

    assert noted == structs.replace(won, applied_ms=10)
    undone = replace(after, current={"general": "a"}, won={})
    assert settle(undone, of_key([noted], before.review_key, of), of, now_ms=11) is None
    (over,) = ends_of([noted], {after.review_key: undone}, of, **calm)
    assert over == structs.replace(noted, holdout=0.0)
    stands = replace(after, won={})
    assert ends_of([noted], {after.review_key: stands}, of, **calm) == []


def test_a_trial_that_nobody_ended_holds_no_longer(state_dir: Path) -> None:
    of = guarded(state_dir)
    running = trial_of(of, ends_ms=1_000)
    known = {running.id: running}

    assert in_force(known, 1_000 + OVERDUE_MS) == known
    assert in_force(known, 1_001 + OVERDUE_MS) == {}
    over = structs.replace(running, state=TrialState.WON)
    assert in_force({over.id: over}, 1_001 + OVERDUE_MS) == {over.id: over}


# -- the store ------------------------------------------------------------------------------------


def test_one_trial_of_a_key_runs_and_an_apps_runs_alone(client: Any, state_dir: Path) -> None:
    of = guarded(state_dir)
    first = trial_of(of)
    start(client, first)

    with pytest.raises(TrialRefused) as refused:
        start(client, structs.replace(first, id="222222222222", challenger="c"))
    assert refused.value.beside == first
    with pytest.raises(TrialRefused):
        start(client, trial_of(of, task="", id="333333333333"))
    start(client, structs.replace(first, id="444444444444", release_key=7, task="code"))
    assert list(read_trials(client)) == ["444444444444", "abcdefabcdef"]


def test_of_two_that_change_a_trial_the_first_wins(client: Any, state_dir: Path) -> None:
    first = trial_of(guarded(state_dir))
    start(client, first)
    before = look(client)
    seen = read_trials(client)[first.id]

    assert change(client, structs.replace(seen, state=TrialState.WON))
    assert not change(client, structs.replace(seen, state=TrialState.ENDED))

    found = read_trials(client)[first.id]
    assert (found.state, found.version) == (TrialState.WON, 2)
    assert look(client) != before


def test_a_damaged_trial_is_left_out(client: Any, state_dir: Path) -> None:
    first = trial_of(guarded(state_dir))
    start(client, first)
    for name, raw in (("x", b"{"), ("y", b'{"id": "y"}'), ("z", json.dumps({"id": 1}).encode())):
        client.hset(keys.TRIALS, name, raw)
    assert read_trials(client) == {first.id: first}
    assert parse_trials({b"other": client.hget(keys.TRIALS, first.id)}) == {}


def test_a_lost_side_ends_the_trial_in_the_store_once(client: Any, state_dir: Path) -> None:
    of = guarded(state_dir)
    start(client, trial_of(of))
    one, other = SeenTrials(client), SeenTrials(client)
    assert one.take(look(client))
    assert other.take(look(client))
    assert not one.take(look(client))

    for seen in (one, other):
        seen.end({}, of, 9, _calm(of).tolist(), frozenset({"b"}))

    found = read_trials(client)["abcdefabcdef"]
    assert (found.state, found.reason, found.version) == (TrialState.ENDED, "b is lost", 2)
    assert one.take(look(client))
    assert other.take(look(client))
    assert one.known == other.known == {found.id: found}


# -- the whole ------------------------------------------------------------------------------------


def written(provider: Provider, state_dir: Path, address: Address, path: Path) -> dict[str, Any]:
    value = {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "tasks": {"code": None},
        "strategies": {"guarded": {"objective": "quality"}},
        "apps": {"default": {"mode": "route", "strategy": "guarded"}},
    }
    whole = {
        **value,
        "server": {"state_dir": str(state_dir), "port": 0},
        "store": {"url_env": "TRIAL_STORE", "shards": 2},
    }
    path.write_text(yaml.safe_dump(whole))
    return value


def choice(sidecar: Sidecar) -> dict[str, Any]:
    rows = sidecar.http.get("/v1/router/posteriors").json()["choices"]
    return next((row for row in rows if row["task"] == "code"), {})


def told_traffic(client: Any, release_key: int, per_day: float) -> None:
    row = {"labelled_units": per_day * 7, "variance": 0.2}
    traffic = {"days": 7, "keys": {f"{release_key:016x}": row}, "apps": {}}
    client.set(keys.VERDICTS, json.dumps({"at_ms": 1, "trials": {}, "traffic": traffic}))


@pytest.mark.usefixtures("store")
def test_a_trial_from_its_start_to_its_hold_out(
    provider: Provider, state_dir: Path, address: Address, client: Any, tmp_path: Path
) -> None:
    config = tmp_path / "pointsman.yaml"
    value = written(provider, state_dir, address, config)
    environment = {"TRIAL_STORE": address.url}

    def verb(*words: object) -> Any:
        return pointsman("trial", *words, "--config", config, environment=environment)

    with (
        serving(value, state_dir, address) as one,
        learning(state_dir, address),
        serving(value, tmp_path / "other", address) as other,
    ):
        until(lambda: client.hlen(keys.STANDINGS))
        refused = verb("code", "--challenger", "b", "--yes")
        assert refused.exit_code == 1
        assert "it could show nothing" in refused.stderr
        key = ReviewKey("default", "guarded", "", "a").release_keys(["code"])[0]
        told_traffic(client, key, per_day=2000)

        begun = verb("code", "--challenger", "b", "--yes", "--json")
        assert begun.exit_code == 0, begun.stderr
        trial = json.loads(begun.stdout)["trial"]
        assert (trial["release_key"], trial["challenger"]) == (key, "b")
        assert 0 < trial["smallest_pp"] < 5
        assert "the smallest difference" in begun.stderr
        again = verb("code", "--challenger", "b", "--yes")
        assert (again.exit_code, trial["id"] in again.stderr) == (1, True)

        for sidecar in (one, other):
            sidecar.until(lambda s=sidecar: choice(s).get("trial") == trial["id"])
        sides = {}
        for n in range(60):
            for call, sidecar in enumerate((one, other, one)):
                got = sidecar.chat("auto/code", headers={"x-router-session-id": f"s{n}"})
                name = got.headers["x-router-endpoint"]
                assert sides.setdefault(n, name) == name, call
                if not call:
                    assert got.headers["x-router-reason"] == "trial"
        assert 12 < Counter(sides.values())["a"] < 48
        shown = one.http.get(
            "/v1/router/decisions", params={"id": got.headers["x-request-id"]}
        ).json()
        assert shown["sentence"].startswith("trial: ")

        won = read_trials(client)[trial["id"]]
        won = structs.replace(won, state=TrialState.WON, ended_ms=won.began_ms + 5)
        assert change(client, structs.replace(won, reason="gains"))
        for sidecar in (one, other):
            sidecar.until(lambda s=sidecar: choice(s).get("current") == "b")
            sidecar.until(lambda s=sidecar: choice(s).get("holdout") == 0.02)
        told = (e[1].get(b"release") for e in client.xrange(keys.RELEASES))
        released = [json.loads(one) for one in told if one]
        assert [(r["before"], r["after"], r["reason"]) for r in released] == [("a", "b", "trial")]
        assert "2 % of units stay with the incumbent while b serves" in verb("list").stdout

        ended = verb("stop", trial["id"][:6])
        assert (ended.exit_code, ended.stdout.startswith("trial ")) == (0, True)
        one.until(lambda: choice(one).get("holdout") == 0.0)
        assert choice(one)["current"] == "b"

        second = verb("code", "--challenger", "b", "--yes", "--json")
        assert second.exit_code == 0, second.stderr
        named = json.loads(second.stdout)["trial"]["id"]
        one.until(lambda: choice(one).get("trial") == named)
        assert verb("stop", named).exit_code == 0
        one.until(lambda: choice(one).get("trial") != named)
        assert read_trials(client)[named].reason == "stopped by hand"


def test_every_record_of_a_units_calls_says_its_side(
    provider: Provider, state_dir: Path, address: Address, client: Any, tmp_path: Path
) -> None:
    value = written(provider, state_dir, address, tmp_path / "pointsman.yaml")
    key = ReviewKey("default", "guarded", "", "a").release_keys(["code"])[0]
    of = guarded(state_dir)
    ends_ms = int(time.time() * 1000) + DAY_MS
    start(client, trial_of(of, task="code", strategy="guarded", release_key=key, ends_ms=ends_ms))
    with serving(value, state_dir, address) as sidecar:
        sidecar.until(lambda: bool(choice(sidecar).get("trial")))
        for n in range(20):
            for _ in range(2):
                sidecar.chat("auto/code", headers={"x-router-session-id": f"s{n}"})
            sidecar.chat("auto/code", headers={"x-router-explore": "0"})
        digests = {name: sidecar.digest(name) for name in "ab"}

    found = records(address)
    sides: Counter[tuple[str, int]] = Counter()
    for record in found[found["kind"] == 1]:
        (name,) = [n for n, d in digests.items() if d == int(record["token"]["drawn"])]
        sides[name, int(record["flags"]) & BOTH] += 1
    assert set(sides) == {("a", BOTH), ("b", ASSIGNED), ("a", 0)}
    assert sides["a", BOTH] + sides["b", ASSIGNED] == 40
    assert sides["a", 0] == 20


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "name a TASK"),
        (("cod",), 2, "TASK 'cod': there is none of that name; did you mean 'code'?"),
        (("code", "--challenger", "x"), 2, "--challenger 'x'"),
        (("code", "--challenger", "a"), 2, "the incumbent's own model"),
        (("code", "--days", "0"), 2, "--days 0: write 1 to 90"),
        (("code", "--cap-usd", "-1"), 2, "--cap-usd -1"),
        (("code", "--app", "nobody"), 2, "--app 'nobody'"),
        (("code", "--role", "r"), 2, "--role 'r'"),
        (("code", "--strategy", "s"), 2, "--strategy 's'"),
        (("--app", "default", "--challenger", "b"), 2, "--challenger: a trial of a whole app"),
        (("code",), 1, "not started"),
        (("stop", "nothing"), 2, "there is no such trial"),
        (("stop",), 2, "which one?"),
        (("list", "4k2m"), 2, "trial list takes no ID"),
    ],
)
def test_what_cannot_be_meant_is_said(
    words: tuple[str, ...],
    code: int,
    said: str,
    provider: Provider,
    state_dir: Path,
    store: Any,
    address: Address,
    tmp_path: Path,
) -> None:
    config = tmp_path / "pointsman.yaml"
    written(provider, state_dir, address, config)
    environment = {"TRIAL_STORE": address.url}

    found = pointsman("trial", *words, "--config", config, environment=environment)
    as_json = pointsman("trial", *words, "--json", "--config", config, environment=environment)

    assert (found.exit_code, as_json.exit_code) == (code, code)
    assert said in found.stderr
    assert said in json.loads(as_json.stdout)["why"]


def test_no_trial_begins_while_routing_is_off(
    provider: Provider, state_dir: Path, store: Any, address: Address, tmp_path: Path
) -> None:
    config = tmp_path / "pointsman.yaml"
    written(provider, state_dir, address, config)
    SwitchFile(state_dir).write(SwitchWord(7, True, 7))

    found = pointsman(
        "trial", "code", "--yes", "--config", config, environment={"TRIAL_STORE": address.url}
    )

    assert (found.exit_code, found.stdout) == (1, "")
    assert found.stderr.startswith("not started: routing is off")


@pytest.mark.parametrize(
    ("step", "title"), [("trial_challenger", "the two sides of a trial"), ("stay", "choice: c")]
)
def test_an_explanation_takes_no_side_of_a_trial_for_the_choice(step: str, title: str) -> None:
    law = {"learning_mode": False, "current": "c", "holdout": 0.5, "floor": 0.0, "stay": 1.0}

    found = explain._candidates({"law": law, "candidates": []}, step)

    assert str(found.title).startswith(title)
