"""`pointsman release` against a whole stack, and against its store once that has ended."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SHARDS, Provider, Sidecar, endpoint, learning, pointsman, serving
from msgspec import structs

from router.beliefs.kept import Kept, ReleaseNotice, ReviewKey
from router.beliefs.releases import Releases
from telemetry import keys
from telemetry.store import Address
from telemetry.trials import Trial, TrialState, change, start

pytestmark = pytest.mark.usefixtures("store")  # end to end: a real one


class Owner:
    """Whoever runs the command, beside a configuration in a file."""

    def __init__(self, value: dict[str, Any], state_dir: Path, address: Address) -> None:
        whole = {**value, "server": {"state_dir": str(state_dir)}, "store": {"shards": SHARDS}}
        self.file = state_dir / "pointsman.yaml"
        self.file.write_text(yaml.safe_dump(whole))
        self._environment = {"REDIS_URL": address.url}

    def says(self, *words: str) -> Any:
        config = ("--config", self.file)
        return pointsman("release", *words, *config, environment=self._environment)

    def listed(self) -> dict[str, Any]:
        said = self.says("list", "--json")
        assert said.exit_code == 0
        return dict(json.loads(said.stdout))


def configured(provider: Provider, releases: str, names: str = "ab") -> dict[str, Any]:
    app = {"mode": "route", "strategy": "guarded", "unit": "call", "releases": releases}
    return {
        "endpoints": [endpoint(provider, name) for name in names],
        "tasks": {"code": None},
        "strategies": {"guarded": {"objective": "quality", "release_every_s": 0.5}},
        "apps": {"default": app},
    }


@contextmanager
def whole(value: dict[str, Any], state_dir: Path, address: Address) -> Iterator[Sidecar]:
    with serving(value, state_dir, address) as sidecar, learning(state_dir, address):
        yield sidecar


def label(sidecar: Sidecar, name: str, *, passed: bool, n: int = 25) -> None:
    for _ in range(n):
        got = sidecar.chat(name, headers={"x-router-task": "code"})
        sidecar.feedback(decision_id=got.headers["x-router-decision-id"], passed=passed)


def row(sidecar: Sidecar) -> dict[str, Any]:
    rows = sidecar.http.get("/v1/router/posteriors").json()["choices"]
    return next((one for one in rows if one["task"] == "code"), {})


def told(client: Any, field: str) -> list[dict[str, Any]]:
    found = (entry[1].get(field.encode()) for entry in client.xrange(keys.RELEASES))
    return [one for one in map(json.loads, filter(None, found)) if one["task"] == "code"]


def test_ask_proposes_a_yes_moves_and_an_undo_sticks_until_newer_evidence(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    value = configured(provider, "ask")
    owner = Owner(value, state_dir, address)
    with whole(value, state_dir, address) as sidecar:
        label(sidecar, "a", passed=False)
        label(sidecar, "b", passed=True)
        sidecar.chat("auto/code")  # a task without calls is not shown
        sidecar.until(lambda: bool(row(sidecar).get("held_back")))
        assert row(sidecar)["current"] == "a"
        (proposal,) = (one for one in owner.listed()["proposals"] if one["task"] == "code")
        assert row(sidecar)["note"].endswith(f"pointsman release accept {proposal['id']}")
        assert proposal["p_better"] >= 0.9
        assert "(waits for a yes)\n" in owner.says("list").stdout

        said = owner.says("accept", proposal["id"])

        assert (said.exit_code, said.stderr) == (0, "")
        assert "default guarded: code from a to b: accepted: better with P = " in said.stdout
        sidecar.until(lambda: row(sidecar)["current"] == "b")
        (one,) = (one for one in owner.listed()["releases"] if one["task"] == "code")
        assert one["can_be_undone"]
        assert said.stdout.endswith(f"undo it: pointsman release undo {one['id']}\n")
        assert row(sidecar)["last_release"]["id"] == one["id"]
        again = owner.says("accept", proposal["id"])
        assert (again.exit_code, again.stdout) == (1, "")
        assert again.stderr.startswith(f"proposal {proposal['id']} is not open any more")

        undone = owner.says("undo", one["id"], "--json")
        assert undone.exit_code == 0
        assert json.loads(undone.stdout)["reason"] == "undone"
        sidecar.until(lambda: row(sidecar)["current"] == "a")
        version = row(sidecar)["version"]
        sidecar.until(lambda: row(sidecar)["version"] > version + 1)  # two reviews later
        assert row(sidecar)["held_back"] is None
        label(sidecar, "b", passed=True, n=26)
        sidecar.until(lambda: bool(row(sidecar)["held_back"]))

    assert [(r["before"], r["after"], r["reason"]) for r in told(client, "release")] == [
        ("a", "b", "accepted: better"),
        ("b", "a", "undone"),
    ]
    assert [note["kind"] for note in told(client, "note")] == ["proposed", "proposed"]


def test_a_pinned_task_is_moved_by_no_yes_and_no_undo(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    value = configured(provider, "auto")
    value["apps"]["default"]["auto_pin"] = True
    owner, key = Owner(value, state_dir, address), ReviewKey("default", "guarded", "", "a")
    notice = ReleaseNotice("code", "b", "a", None, None, "pinned", at_ms=7)
    releases = Releases(client)
    at_a = Kept(key, 1, 7, {"code": "a"}, {"a": ("a",)}, last={"code": notice})
    assert releases.change(at_a, [notice], now_ms=7)
    of_key = key.release_keys(["code"])[0]
    trial = Trial(
        id="4k2m",
        app="default",
        strategy="guarded",
        task="code",
        incumbent="a",
        challenger="b",
        release_key=of_key,
        began_ms=5,
        ends_ms=9,
    )
    start(client, trial)
    assert change(client, structs.replace(trial, state=TrialState.ENDED, ended_ms=7, auto_pin=True))
    (one,) = owner.listed()["releases"]

    said = owner.says("undo", one["id"])

    why = "code is pinned after trial 4k2m; pointsman trial resume 4k2m lifts that\n"
    assert (said.exit_code, said.stdout, said.stderr) == (1, "", why)
    assert "from b to a: pinned after a trial without a gain" in owner.says("list").stdout


def test_a_yes_needs_no_sidecar_and_is_refused_once_the_evidence_is_gone(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    value = configured(provider, "ask")
    value["strategies"]["guarded"]["release_every_s"] = 1
    owner = Owner(value, state_dir, address)
    with whole(value, state_dir, address) as sidecar:
        label(sidecar, "a", passed=False, n=31)
        label(sidecar, "b", passed=True, n=31)
        sidecar.until(lambda: client.hlen(keys.PROPOSALS) == 2)  # of both tasks
    proposals = {one["task"]: one["id"] for one in owner.listed()["proposals"]}
    assert owner.says("accept", proposals["code"].upper()).exit_code == 0
    (one,) = told(client, "release")
    assert (one["before"], one["after"], one["version"] > 1) == ("a", "b", True)

    frozen = Owner(configured(provider, "frozen"), state_dir, address)
    refused = frozen.says("accept", proposals["general"])
    assert (refused.exit_code, refused.stdout) == (1, "")
    why = f"proposal {proposals['general']} lapsed: the app says releases: frozen now\n"
    assert refused.stderr == why
    later = owner.says("accept", proposals["general"])
    assert re.match(rf"proposal {proposals['general']} lapsed 20..-..-.. ..:.. UTC: ", later.stderr)


def test_frozen_lets_a_removed_choice_go_to_the_incumbent_and_nothing_else(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    value = configured(provider, "frozen", "abc")
    with whole(value, state_dir, address) as sidecar:
        label(sidecar, "a", passed=False)
        label(sidecar, "b", passed=True)
        sidecar.until(lambda: "held back: frozen" in row(sidecar).get("note", ""))
        assert row(sidecar)["current"] == "a"
        assert client.hlen(keys.PROPOSALS) == 0
    releases = Releases(client)
    releases.read()
    (key,) = (key for key in releases.kept if key.strategy == "guarded")
    at_b = releases.kept[key]
    moved = {**at_b.current, "code": "b"}
    at_b = Kept(key, at_b.version + 1, at_b.reviewed_at_ms, moved, {"b": ("b",)})
    assert releases.change(at_b, [], now_ms=at_b.reviewed_at_ms)
    with whole(configured(provider, "frozen", "ac"), state_dir, address) as sidecar:
        sidecar.until(lambda: bool(told(client, "release")))

    (one,) = told(client, "release")
    assert (one["before"], one["after"], one["reason"]) == ("b", "a", "removed")


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("accept",), 2, "say release accept ID, release undo ID, or release list"),
        (("list", "12345678"), 2, "say release accept ID, release undo ID, or release list"),
        (("reject", "12345678"), 2, "say release accept ID, release undo ID, or release list"),
        (("undo", "x"), 2, "x: an id has 8 hex digits; see pointsman release list"),
        (("undo", "12345678"), 2, "12345678: no release; see pointsman release list"),
        (("accept", "12345678"), 2, "12345678: no proposal; see pointsman release list"),
    ],
)
def test_what_makes_no_sense_is_said_and_ends_in_2(
    provider: Provider,
    state_dir: Path,
    address: Address,
    words: tuple[str, ...],
    code: int,
    why: str,
) -> None:
    said = Owner(configured(provider, "ask"), state_dir, address).says(*words)

    assert (said.exit_code, said.stdout, said.stderr) == (code, "", f"{why}\n")


def test_an_empty_store_has_nothing_to_list(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    owner = Owner(configured(provider, "ask"), state_dir, address)

    assert owner.says("list").stdout == "nothing was released yet, and nothing waits\n"
    assert owner.listed() == {"proposals": [], "releases": []}


def test_choices_that_no_call_goes_by_any_more_are_not_changed(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    from router.beliefs.kept import ReleaseNotice, release_id

    key = ReviewKey("default", "gone", "", "a")
    notice = ReleaseNotice("code", "a", "b", None, None, "better", at_ms=5)
    kept = Kept(key, 1, 5, {"code": "b"}, {"b": ("b",)}, last={"code": notice})
    assert Releases(client).change(kept, [notice], now_ms=5)

    said = Owner(configured(provider, "ask"), state_dir, address).says(
        "undo", release_id(key, notice)
    )

    assert (said.exit_code, said.stdout) == (1, "")
    assert said.stderr == "no call goes by this choice in the configuration any more\n"
