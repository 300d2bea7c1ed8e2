"""Locked apps: the map from role to endpoint is drawn once an episode, and nothing inside moves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Provider, Reply, Sidecar, endpoint, serving

from bandit.drift import AlarmKind
from bandit.steps import Step
from router.beliefs.alarms import AlarmNotice
from router.config.compiled import compile_text
from router.config.file import parse
from router.config.parts import warn_of_shared_parts
from router.decision import shared_draws
from router.decision.context import Moment, Routings
from router.decision.shared_draws import StoredDraw
from router.decision.units import user_hash
from router.endpoints.entries import Dialect
from router.errors import ConfigError
from router.policy.callers import Caller
from router.policy.standing import PolicyTable
from telemetry import keys
from telemetry.store import Address

ROLES = ("planner", "coder", "reviewer")
TASKS = ("chat", "code")


def value(provider: Provider, **app: Any) -> dict[str, Any]:
    return {
        "endpoints": [
            endpoint(provider, "a"),
            endpoint(provider, "b"),
            endpoint(provider, "c", zone="local", max_data_class="restricted"),
        ],
        "tasks": dict.fromkeys(TASKS),
        "roles": {role: {} for role in ROLES},
        "strategies": {"learn": {"objective": "quality", "incumbent": "none"}},
        "apps": {"default": {"mode": "route", "strategy": "learn", "locked": True, **app}},
    }


@contextmanager
def locked(provider: Provider, state_dir: Path, address: Address, **app: Any) -> Iterator[Sidecar]:
    with serving(value(provider, **app), state_dir, address) as found:
        yield found


def call(sidecar: Sidecar, episode: str, role: str, task: str = "chat", **headers: str) -> Any:
    said = {"x-router-episode-id": episode, "x-router-role": role, "x-router-task": task}
    return sidecar.chat(headers={**said, **headers})


def endpoint_of(response: Any) -> str:
    assert response.status_code == 200, response.text
    return str(response.headers["x-router-endpoint"])


def maps(sidecar: Sidecar, n: int) -> list[dict[tuple[str, str], str]]:
    """Who served each role and task of so many episodes, tasks by turns."""
    pairs = [(role, task) for task in TASKS for role in ROLES]
    return [
        {(role, task): endpoint_of(call(sidecar, f"e{i}", role, task)) for role, task in pairs}
        for i in range(n)
    ]


def test_a_role_keeps_its_endpoint_over_tasks_and_roles_draw_for_themselves(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with locked(provider, state_dir, address) as sidecar:
        found = maps(sidecar, 12)

    for served in found:
        assert all(served[role, "chat"] == served[role, "code"] for role in ROLES)
    assert len({tuple(served[role, "chat"] for role in ROLES) for served in found}) > 3


def test_elsewhere_each_task_draws_for_itself(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with locked(provider, state_dir, address, locked=False) as sidecar:
        found = maps(sidecar, 12)

    assert any(served[role, "chat"] != served[role, "code"] for served in found for role in ROLES)


def test_strategy_and_user_of_a_call_do_not_move_a_part(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with locked(provider, state_dir, address) as sidecar:
        for i in range(8):
            first = endpoint_of(call(sidecar, f"e{i}", "coder"))
            by_strategy = call(sidecar, f"e{i}", "coder", **{"x-router-strategy": "cheapest"})
            assert endpoint_of(by_strategy) == first


def test_two_routers_of_a_store_agree_on_the_map(
    provider: Provider, state_dir: Path, address: Address, store: object
) -> None:
    with (
        locked(provider, state_dir / "1", address) as one,
        locked(provider, state_dir / "2", address) as two,
    ):
        one.until(lambda: one.app.keeper.secrets.users.is_known)
        two.until(lambda: two.app.keeper.secrets.users.is_known)
        for i in range(8):
            first = endpoint_of(call(one, f"e{i}", "coder"))
            assert endpoint_of(call(two, f"e{i}", "coder", "code")) == first


@pytest.mark.parametrize("is_locked", [True, False])
def test_an_alarm_moves_nothing_inside_an_episode(
    provider: Provider, state_dir: Path, address: Address, *, is_locked: bool
) -> None:
    with locked(provider, state_dir, address, locked=is_locked) as sidecar:
        before = {f"e{i}": endpoint_of(call(sidecar, f"e{i}", "coder")) for i in range(4)}
        keeper, drawn = sidecar.app.keeper, sidecar.app.metrics.decisions
        at_ms, n_drawn = int(time.time() * 1000) + 1000, sum(drawn.values())
        notice = AlarmNotice(AlarmKind.DOWN, at_ms, at_ms, 50.0, -1.0, 0.5)
        known = tuple(replace(one, alarm=notice) for one in keeper.current.known)
        keeper.current = replace(keeper.current, known=known)
        after = {name: endpoint_of(call(sidecar, name, "coder")) for name in before}
        n_anew = sum(drawn.values()) - n_drawn

    assert n_anew == (0 if is_locked else 4)
    assert before == after or not is_locked


def test_a_failure_stays_in_the_group_unless_the_app_says_any(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with locked(provider, state_dir / "group", address) as sidecar:
        home = endpoint_of(call(sidecar, "e", "coder"))
        provider.on(home, Reply(status=500, body=b"{}"))
        asked = len(provider.calls)
        refused = call(sidecar, "e", "coder")
        hosts = provider.hosts()[asked:]
        provider.replies.clear()
        again = endpoint_of(call(sidecar, "e", "coder"))

    assert refused.status_code == 500
    assert set(hosts) == {home}
    assert again == home


def test_a_declared_failover_is_flagged_and_the_draw_stays(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with locked(provider, state_dir, address, fallback="any") as sidecar:
        home = endpoint_of(call(sidecar, "e", "coder"))
        provider.on(home, Reply(status=500, body=b"{}"))
        helped = call(sidecar, "e", "coder")
        provider.replies.clear()
        again = call(sidecar, "e", "coder")

    assert endpoint_of(helped) != home
    assert helped.headers["x-router-reason"] == "failover"
    assert endpoint_of(again) == home


def test_while_a_breaker_is_open_nobody_else_serves_a_part(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with locked(provider, state_dir, address) as sidecar:
        home = endpoint_of(call(sidecar, "e", "coder"))
        provider.on(home, Reply(status=500, body=b"{}"))
        for _ in range(12):
            call(sidecar, "e", "coder")
        hosts = provider.hosts()

    assert set(hosts) == {home}


def test_a_hard_constraint_sends_its_call_elsewhere_and_moves_nothing(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with locked(provider, state_dir, address) as sidecar:
        for i in range(12):
            home = endpoint_of(call(sidecar, f"e{i}", "coder"))
            slow = call(sidecar, f"e{i}", "coder", **{"x-router-max-cost-usd": "100"})
            assert endpoint_of(slow) == home
            secret = call(sidecar, f"e{i}", "coder", **{"x-router-data-class": "restricted"})
            assert endpoint_of(secret) == "c"


def test_an_episode_is_within_the_percentage_as_a_whole(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with locked(provider, state_dir, address, percent=50) as sidecar:
        routed = []
        for i in range(24):
            said = [
                call(sidecar, f"e{i}", role, **{"x-router-dry-run": "1"}).json()["routed"]
                for role in ROLES
            ]
            assert len(set(said)) == 1
            routed.append(said[0])

    assert 4 <= sum(routed) <= 20


@pytest.mark.parametrize("is_locked", [True, False])
def test_whoever_a_call_names_as_its_user_the_session_stays(
    provider: Provider, state_dir: Path, address: Address, *, is_locked: bool
) -> None:
    with locked(provider, state_dir, address, locked=is_locked) as sidecar:
        for i in range(12):
            first = endpoint_of(call(sidecar, f"e{i}", "coder"))
            for user in ("ann", "bob"):
                named = call(sidecar, f"e{i}", "coder", **{"x-router-user": user})
                assert endpoint_of(named) == first


def test_a_session_of_a_named_user_goes_on_as_it_was_drawn_by_versions_of_before(
    provider: Provider,
    state_dir: Path,
    address: Address,
    client: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those kept a session's draw under its user."""
    monkeypatch.setattr(shared_draws, "LOOK_UP_S", 5.0)  # however busy the machine is
    with locked(provider, state_dir, address, locked=False) as sidecar:
        sidecar.until(lambda: sidecar.app.keeper.secrets.users.is_known)
        found = call(sidecar, "e", "coder", **{"x-router-user": "ann", "x-router-dry-run": "1"})
        other = next(name for name in "abc" if name != found.json()["endpoint"])
        key = key_of_before(sidecar, "ann", "e", "coder")
        at_ms = int(time.time() * 1000)
        given = StoredDraw(sidecar.digest(other), 0.25, at_ms, 1, Step.SAMPLE)
        client.set(keys.draw(key.hex()), given.pack(), px=60_000)
        mine = call(sidecar, "e", "coder", **{"x-router-user": "ann"})
        theirs = call(sidecar, "e", "coder", **{"x-router-user": "bob"})

    assert (endpoint_of(mine), endpoint_of(theirs)) == (other, other)
    assert float(mine.headers["x-router-propensity"]) == 0.25


def key_of_before(sidecar: Sidecar, user: str, session: str, role: str) -> bytes:
    beliefs = sidecar.app.keeper.current
    configuration = beliefs.configuration
    app = configuration.apps["default"]
    routings, table = configuration.derive(Routings), configuration.derive(PolicyTable)
    asked = routings.asked("auto", role, Caller(app))
    standing = table.of(app, asked.role.role, "chat", configuration.strategies["learn"])
    release = f"chat\x1f{routings.of(asked, standing, Dialect.CHAT).release}"
    secret = sidecar.app.keeper.secrets.users.of_units.now
    who = user_hash(secret, app.name, user)
    what = f"s\x1f{app.digest}\x1f{user}\x1f{session}\x1f{release}"
    return who + blake2b(what.encode(), key=secret, digest_size=8, person=b"unit").digest()


def test_of_first_calls_side_by_side_one_drew(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with locked(provider, state_dir, address) as sidecar, ThreadPoolExecutor(6) as pool:
        drawn = sidecar.app.metrics.decisions
        for i in range(6):
            before = sum(drawn.values())
            calls = [pool.submit(call, sidecar, f"e{i}", "coder") for _ in range(6)]
            served = {endpoint_of(each.result()) for each in calls}
            assert len(served) == 1
            assert sum(drawn.values()) == before + 1


def test_a_session_is_within_the_percentage_in_all_its_roles(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with locked(provider, state_dir, address, percent=50, locked=False) as sidecar:
        for i in range(12):
            said = [
                call(sidecar, f"e{i}", role, task, **{"x-router-dry-run": "1"}).json()["routed"]
                for role in ROLES
                for task in TASKS
            ]
            assert len(set(said)) == 1


def test_a_part_that_rests_while_others_go_on_keeps_its_endpoint(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    passed_s = [0.0]

    def later() -> Moment:
        return Moment(time.time() + passed_s[0], time.monotonic() + passed_s[0])

    with serving(value(provider), state_dir, address, clock=later) as sidecar:
        first = {f"e{i}": endpoint_of(call(sidecar, f"e{i}", "reviewer")) for i in range(8)}
        n_drawn = sum(sidecar.app.metrics.decisions.values())
        passed_s[0] = 40 * 60.0
        again = {name: endpoint_of(call(sidecar, name, "reviewer")) for name in first}
        assert sum(sidecar.app.metrics.decisions.values()) == n_drawn
        assert again == first


def test_where_one_is_left_a_failover_is_told_as_one(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    whole = value(provider, fallback="any")
    whole["endpoints"] = whole["endpoints"][:2]
    with serving(whole, state_dir, address) as sidecar:
        home = endpoint_of(call(sidecar, "e", "coder"))
        provider.on(home, Reply(status=500, body=b"{}"))
        helped = [call(sidecar, "e", "coder") for _ in range(12)]

    assert {endpoint_of(one) for one in helped} == {"a", "b"} - {home}
    assert {one.headers["x-router-reason"] for one in helped} == {"failover"}


def test_a_draw_whose_endpoint_an_alarm_named_is_told_as_drawn_anew(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with locked(provider, state_dir, address, locked=False) as sidecar:
        call(sidecar, "e", "coder")
        keeper, at_ms = sidecar.app.keeper, int(time.time() * 1000) + 1000
        notice = AlarmNotice(AlarmKind.DOWN, at_ms, at_ms, 50.0, -1.0, 0.5)
        known = tuple(replace(one, alarm=notice) for one in keeper.current.known)
        keeper.current = replace(keeper.current, known=known)
        anew = call(sidecar, "e", "coder")
        shown = sidecar.http.get("/v1/router/decisions", params={"session": "e"}).json()

    assert anew.headers["x-router-reason"] == "drawn anew"
    assert [one["way"] for one in shown["decisions"]] == ["drew", "drew anew"]


def test_roles_that_share_a_task_are_told(provider: Provider) -> None:
    provider.port = 1
    whole = value(provider)
    found = warn_of_shared_parts(parse(yaml.safe_dump(whole), file="t.yaml"))
    assert len(found) == 1
    assert "coder and planner and reviewer have one task (general)" in found[0]
    assert "roles.reviewer.tasks" in found[0]

    whole["roles"] = {"planner": {"tasks": ["chat"]}, "coder": {"tasks": ["code"]}, "reviewer": {}}
    assert warn_of_shared_parts(parse(yaml.safe_dump(whole), file="t.yaml")) == []
    whole["apps"]["default"]["task"] = "code"
    assert len(warn_of_shared_parts(parse(yaml.safe_dump(whole), file="t.yaml"))) == 1
    whole["apps"]["default"]["locked"] = False
    assert warn_of_shared_parts(parse(yaml.safe_dump(whole), file="t.yaml")) == []


def test_an_app_that_keeps_nothing_cannot_be_locked(provider: Provider) -> None:
    provider.port = 1
    with pytest.raises(ConfigError) as caught:
        compile_text(yaml.safe_dump(value(provider, unit="call")), file="t.yaml")

    assert "apps.default.locked: true: where unit is call nothing is kept" in str(
        [problem.shown("t.yaml") for problem in caught.value.problems]
    )


def test_the_configuration_in_the_docs_is_sound(provider: Provider) -> None:
    provider.port = 1
    page = (Path(__file__).parent.parent / "docs/episodes.md").read_text()
    text = page.split("```yaml\n")[1].split("```")[0]
    whole = {**yaml.safe_load(text), "endpoints": value(provider)["endpoints"]}

    found = compile_text(yaml.safe_dump(whole), file="t.yaml")

    assert found.apps["default"].entry.locked
    assert warn_of_shared_parts(parse(yaml.safe_dump(whole), file="t.yaml")) == []
