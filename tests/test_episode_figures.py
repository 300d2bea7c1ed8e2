"""What episodes came to: figures that a plain referee finds too, left by a job, and shown."""

from __future__ import annotations

import json
import random
import statistics
from collections import defaultdict
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SHARDS, Provider, endpoint, learning, pointsman, serving
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console
from test_workers_archive import NOW_MS as LIFE_MS
from test_workers_archive import Life

from router.config.compiled import Configuration, compile_text
from router.report.episodes import (
    COLUMNS,
    NO_ARCHIVE,
    NOT_YET,
    episode_lines,
    episode_section,
    episode_table,
    ways_line,
)
from telemetry import event_ids, events, keys
from telemetry.decoding import decode
from telemetry.embedded import PrivateServer
from telemetry.events import FeedbackKind, Flag, Kind, Match, Result
from telemetry.store import Address, connect, prepare
from telemetry.tokens import Token
from workers.archive import files as archive_files
from workers.archive.retention import Keep
from workers.folding.batch import take_apart
from workers.folding.labels import STRENGTH
from workers.jobs import jobs
from workers.jobs.episodes import IDLE_MS, MOST_MAPS, figures, interval, remaining
from workers.jobs.jobs import Place

NOW_MS = 1_800_000_000_000
BEGAN_MS = NOW_MS - 3_600_000
APP, OTHER = 5, 6
PLANNER, CODER, JUDGE = 31, 32, 33
FINAL = Flag.FINAL | Flag.PRICED


def token(n: int, **more: Any) -> bytes:
    told: dict[str, Any] = {"app": APP, "executed": 2, "routed": True, "propensity": 0.5, **more}
    drawn = told.get("drawn", told["executed"])
    at_ms = told.get("at_ms", BEGAN_MS)
    flags = int(Flag.ROUTED) if told["routed"] else 0
    nonce, executed = n.to_bytes(16, "big"), told["executed"]
    return Token(
        *(1, 0, flags, nonce, at_ms, 1, drawn, executed, 4, told["app"], 6, 7),
        *(told["propensity"], 0.5, 0.1),
    ).pack()


def outcome(n: int, episode: int = 1, **more: Any) -> bytes:
    told = {"flags": FINAL, "result": Result.OK, "attempt": 1, "latency_s": 1.0, **more}
    about = {"cost_nano": 1000, "role": 0, **told}
    names = ("result", "attempt", "latency_s", "cost_nano", "role", "reference")
    return events.outcome(
        token(n, **more),
        status=200,
        episode=episode,
        flags=int(told["flags"]),
        **{name: about[name] for name in names if name in about},
    )


def word(n: int, value: float | None, **more: Any) -> bytes:
    told = {"kind": FeedbackKind.TEST, "revision": 0, "at": 0, "match": Match.EPISODE, **more}
    event = (NOW_MS + told["at"]).to_bytes(6, "big") + bytes(10)
    return events.feedback(
        token(n, **{k: v for k, v in more.items() if k in ("app", "at_ms")}),
        kind=told["kind"],
        value=value,
        revision=told["revision"],
        event=event,
        match=told["match"],
    )


def array(records: list[bytes]) -> NDArray[np.void]:
    return decode(b"".join(records))[0]


def figured(*batches: list[bytes], app: int = APP, now_ms: int = NOW_MS) -> dict[str, Any]:
    found = figures(map(array, batches), since_ms=0, now_ms=now_ms)
    return found[f"{app:016x}"]


# -- one by one -----------------------------------------------------------------------------------


def test_an_episode_costs_all_its_attempts_and_lasts_to_its_latest_end() -> None:
    found = figured(
        [
            outcome(1, flags=Flag.PRICED, result=Result.SERVER, cost_nano=10, latency_s=0.5),
            outcome(1, attempt=2, executed=3, cost_nano=20),
            outcome(2, at_ms=BEGAN_MS + 4000, flags=Flag.FINAL, latency_s=2.5),
            outcome(2, at_ms=BEGAN_MS + 4000, flags=Flag.PRICED, cost_nano=5, attempt=2),
            word(1, 0.5),
        ]
    )

    assert (found["episodes"], found["completed"], found["ended"]) == (1, 1, 1)
    assert (found["calls"], found["attempts"], found["unpriced_attempts"]) == (2, 4, 1)
    whole = found["of_completed"]
    assert whole["cost_usd"] == whole["cost_usd_mean"] == pytest.approx(35e-9)
    assert whole["wall_s_median"] == whole["wall_s_p90"] == 6.5
    assert whole["calls_median"] == 2
    assert found["cost_per_success_usd"] == pytest.approx(70e-9)
    low, high = interval(0.5, 1)
    assert found["success"] == {"n": 1, "mean": 0.5, "low": low, "high": high}
    assert list(found["success_by_kind"]) == ["test"]


def test_an_interval_is_wilsons() -> None:
    assert interval(0.5, 20) == pytest.approx((0.3274, 0.6726), abs=1e-4)
    assert interval(1.0, 10)[1] == 1.0
    assert interval(0.0, 10) == pytest.approx((0.0, 0.2130), abs=1e-4)


def test_one_outcome_an_episode_however_many_decisions_it_was_sent_to() -> None:
    records = [outcome(n, role=role) for n, role in enumerate((PLANNER, CODER, JUDGE), 1)]
    records += [word(n, 1.0) for n in (1, 2, 3)]

    found = figured(records)

    assert (found["completed"], found["success"]["n"]) == (1, 1)


def test_a_later_word_of_a_kind_corrects_and_null_takes_back() -> None:
    first, corrected = word(1, 1.0), word(1, 0.0, revision=1)
    gone, again = word(1, None, revision=2), word(1, 0.25, revision=3)

    assert figured([outcome(1), corrected, first])["success"]["mean"] == 0.0
    assert figured([gone, outcome(1), first])["completed"] == 0
    assert figured([gone, outcome(1), first])["success"] is None
    assert figured([again, gone, outcome(1)])["success"]["mean"] == 0.25


def test_the_strongest_kind_holds_and_a_retraction_uncovers_the_weaker() -> None:
    human, test = word(1, 0.0, kind=FeedbackKind.HUMAN, at=99), word(1, 1.0)

    assert list(figured([outcome(1), human, test])["success_by_kind"]) == ["test"]
    uncovered = figured([outcome(1), human, test, word(1, None, revision=1)])
    assert list(uncovered["success_by_kind"]) == ["human"]


def test_what_is_said_of_one_call_or_of_another_days_calls_is_no_outcome_of_an_episode() -> None:
    derived = word(1, 1.0, kind=FeedbackKind.DERIVED)
    records = [outcome(1), word(1, 1.0, match=Match.ONE), word(9, 1.0), derived]

    assert figured(records)["completed"] == 0


def test_two_apps_with_one_id_are_apart() -> None:
    records = [outcome(1), outcome(2, app=OTHER, cost_nano=7), word(2, 1.0, app=OTHER)]

    assert figured(records)["completed"] == 0
    other = figured(records, app=OTHER)
    assert (other["episodes"], other["completed"], other["calls"]) == (1, 1, 1)
    assert other["cost_usd"] == pytest.approx(7e-9)


def test_episodes_over_two_files_are_one_and_what_comes_twice_counts_once() -> None:
    first, second = [outcome(1), word(1, 1.0)], [outcome(2), word(1, 1.0), outcome(1)]

    found = figured(second, first)

    assert (found["episodes"], found["calls"], found["attempts"]) == (1, 2, 2)
    assert found["ways"]["followed"] == 2


def test_an_episode_is_ended_once_idle_for_half_an_hour() -> None:
    records = [outcome(1, latency_s=1.0)]
    end_ms = BEGAN_MS + 1000

    assert figured(records, now_ms=end_ms + IDLE_MS - 1)["ended"] == 0
    assert figured(records, now_ms=end_ms + IDLE_MS)["ended"] == 1


def test_of_each_call_one_way_holds() -> None:
    flags = {
        "drew": Flag.DRAWN_NOW,
        "drew_anew": Flag.DRAWN_NOW | Flag.DRAWN_ANEW,
        "followed": Flag(0),
        "stand_in": Flag.STAND_IN,
        "gain_ending": Flag.GAIN_ENDING | Flag.DRAWN_NOW,
        "dominated_ending": Flag.DOMINATED_ENDING | Flag.DRAWN_NOW,
    }
    records = [outcome(n, flags=FINAL | one) for n, one in enumerate(flags.values())]
    records.append(outcome(10, drawn=1, flags=FINAL | Flag.DRAWN_NOW))
    # One whose first attempt was at whom was drawn, and one that nobody answered.
    records += [outcome(11, flags=Flag.DRAWN_NOW), outcome(11, attempt=2, drawn=1, episode=0)]
    records += [outcome(12, flags=Flag(0)), outcome(12, flags=Flag(0), attempt=2)]
    records.append(outcome(13, episode=0, routed=False, propensity=1.0))

    ways = figured(records)["ways"]

    assert ways == dict.fromkeys(flags, 1) | {"failover": 2, "followed": 2, "undrawn": 1}
    assert sum(ways.values()) == 10


def test_maps_tell_who_answered_in_each_role_the_most_used_first() -> None:
    records = []
    for n in range(1, 8):
        better = n > 3
        records.append(outcome(10 * n, n, role=PLANNER, executed=1 if better else 2))
        records.append(outcome(10 * n + 1, n, role=CODER, executed=2, drawn=7))
        records.append(word(10 * n, float(better), revision=n))
    records += [outcome(91, 9, role=PLANNER, executed=e, flags=FINAL) for e in (1,)]
    records += [outcome(92, 9, role=PLANNER, executed=2)]
    records.append(outcome(93, 9, role=CODER, executed=9, result=Result.CLIENT_ERROR))

    maps = figured(records)["maps"]

    names = [one["roles"] for one in maps]
    planner, coder = f"{PLANNER:016x}", f"{CODER:016x}"
    assert names == [
        {planner: f"{1:016x}", coder: f"{2:016x}"},
        {planner: f"{2:016x}", coder: f"{2:016x}"},
        {planner: None},
    ]
    assert [(one["episodes"], one["completed"]) for one in maps] == [(4, 4), (3, 3), (1, 0)]
    assert [one["success"] and one["success"]["mean"] for one in maps] == [1.0, 0.0, None]
    assert maps[0]["cost_usd_mean"] == pytest.approx(2e-6)
    assert maps[2]["cost_usd_mean"] is None


def test_maps_with_roles_swapped_are_two_and_at_most_twelve_are_kept() -> None:
    records = []
    for n, (a, b) in enumerate([(1, 2), (2, 1), *((k, k) for k in range(3, 20))], 1):
        records += [outcome(10 * n, n, role=PLANNER, executed=a)]
        records += [outcome(10 * n + 1, n, role=CODER, executed=b)]

    maps = figured(records)["maps"]

    assert len(maps) == MOST_MAPS
    assert len({json.dumps(one["roles"]) for one in maps}) == MOST_MAPS


def test_what_remains_is_told_where_twenty_sessions_had_so_many_calls() -> None:
    calls = np.array([1] * 10 + [4] * 15 + [7] * 5)

    assert remaining(calls) == [[1, 3.0], [2, 2.0], [3, 1.0], [4, 0.0]]
    assert remaining(calls[:19]) == []
    assert [k for k, _ in remaining(np.full(20, 50))] == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48]


def test_decisions_from_before_the_days_count_nowhere() -> None:
    records = [outcome(1, at_ms=BEGAN_MS - 1), outcome(2)]

    found = figures([array(records)], since_ms=BEGAN_MS, now_ms=NOW_MS)

    assert found[f"{APP:016x}"]["calls"] == 1


# -- as a referee has it --------------------------------------------------------------------------


class Referee:
    """The same by plain loops over plain values."""

    def __init__(self, told: list[dict[str, Any]], said: list[dict[str, Any]]) -> None:
        self.calls: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for one in told:
            if one not in self.calls[one["n"]]:
                self.calls[one["n"]].append(one)
        self.episodes: dict[tuple[int, int], list[list[dict[str, Any]]]] = defaultdict(list)
        for attempts in self.calls.values():
            if attempts[0]["episode"]:
                self.episodes[attempts[0]["app"], attempts[0]["episode"]].append(attempts)
        self.heard: dict[tuple[int, int], dict[int, Any]] = defaultdict(dict)
        for one in said:
            if one["n"] in self.calls and self.calls[one["n"]][0]["episode"]:
                first = self.calls[one["n"]][0]
                held = self.heard[first["app"], first["episode"]]
                rank = one["revision"], one["at"]
                if one["kind"] not in held or held[one["kind"]][0] < rank:
                    held[one["kind"]] = rank, one["value"]

    def success(self, name: tuple[int, int]) -> float | None:
        held = self.heard[name]
        for kind in STRENGTH:
            if kind in held and held[kind][1] is not None:
                return float(held[kind][1])
        return None

    def of(self, app: int) -> dict[str, Any]:
        mine = {name: calls for name, calls in self.episodes.items() if name[0] == app}
        whole = {name: [a for call in calls for a in call] for name, calls in mine.items()}
        success = {n: s for n in mine if (s := self.success(n)) is not None}
        cost = {n: sum(a["cost_nano"] for a in each) / 1e9 for n, each in whole.items()}
        maps: dict[Any, list[tuple[int, int]]] = defaultdict(list)
        for name, each in whole.items():
            roles: dict[int, set[int]] = defaultdict(set)
            for a in each:
                if a["flags"] & Flag.FINAL and a["result"] is Result.OK:
                    roles[a["role"]].add(a["executed"])
            if roles:
                pairs = ((r, min(e) if len(e) == 1 else None) for r, e in roles.items())
                maps[tuple(sorted(pairs))].append(name)
        won, spent = sum(success.values()), sum(cost[n] for n in success)
        walls = [
            max(a["at_ms"] + 1000 * a["latency_s"] for a in whole[n])
            - min(a["at_ms"] for a in whole[n])
            for n in success
        ]
        return {
            "episodes": len(mine),
            "completed": len(success),
            "calls": sum(map(len, mine.values())),
            "attempts": sum(map(len, whole.values())),
            "cost_usd": sum(cost.values()),
            "mean": won / len(success) if success else None,
            "cost_per_success_usd": spent / won if won else None,
            "wall_s_median": statistics.median(walls) / 1000 if walls else None,
            "cost_usd_median": statistics.median([cost[n] for n in success]) if success else None,
            "maps": {m: (len(e), sum(n in success for n in e)) for m, e in maps.items()},
        }


def as_referee(found: dict[str, Any]) -> dict[str, Any]:
    names = ("episodes", "completed", "calls", "attempts", "cost_usd", "cost_per_success_usd")
    sizes, success = found["of_completed"] or {}, found["success"] or {}
    return {
        **{name: found[name] for name in names},
        "mean": success.get("mean"),
        "wall_s_median": sizes.get("wall_s_median"),
        "cost_usd_median": sizes.get("cost_usd_median"),
        "maps": {
            tuple((int(r, 16), e and int(e, 16)) for r, e in sorted(one["roles"].items())): (
                one["episodes"],
                one["completed"],
            )
            for one in found["maps"]
        },
    }


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_figures_are_what_a_plain_referee_finds(seed: int) -> None:
    dice = random.Random(seed)
    told: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    for n in range(1, dice.randint(2, 80)):
        about: dict[str, Any] = {
            "n": n,
            "app": dice.choice((APP, OTHER)),
            "episode": dice.randint(0, 8),
            "role": dice.choice((0, PLANNER)),
            "at_ms": BEGAN_MS + dice.randint(0, 10_000),
        }
        for attempt in range(1, last := dice.choice((2, 2, 2, 3))):
            told.append(
                about
                | {
                    "attempt": attempt,
                    "executed": dice.choice((1, 2)),
                    "flags": FINAL if attempt == last - 1 else Flag.PRICED,
                    "cost_nano": dice.randint(0, 10**9),
                    "latency_s": dice.randint(0, 50) / 4,
                    "result": dice.choice((Result.OK, Result.OK, Result.CUT)),
                }
            )
    for at in range(dice.randint(0, 60)):
        value = dice.choice((None, 0.0, 0.25, 1.0))
        kind = dice.choice((*STRENGTH, FeedbackKind.DERIVED))
        n, revision = dice.randint(1, 90), dice.randint(0, 2)
        said.append({"n": n, "value": value, "kind": kind, "revision": revision, "at": at})
    told += dice.sample(told, len(told) // 5)
    records = [outcome(**one) for one in told] + [word(**one) for one in said]
    dice.shuffle(records)
    cut = dice.randint(0, len(records))

    found = figures([array(records[:cut]), array(records[cut:])], since_ms=0, now_ms=NOW_MS)

    referee = Referee(told, said)
    assert set(found) == {f"{one['app']:016x}" for one in told}
    for app in {one["app"] for one in told}:
        mine, wanted = as_referee(found[f"{app:016x}"]), referee.of(app)
        maps, all_maps = mine.pop("maps"), wanted.pop("maps")
        assert mine == pytest.approx(wanted, nan_ok=False)
        assert maps == all_maps


# -- the job --------------------------------------------------------------------------------------


@pytest.fixture
def life(store: PrivateServer, client: Any, address: Address, state_dir: Path) -> Life:
    """A shard of a real store, and the jobs' place there."""
    jobs.work_at(Place(address, state_dir / "archive", 1, Keep(30, 1 << 30)))
    return Life(client, state_dir / "archive")


def left(client: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(client.get(keys.EPISODES))
    return found


def real(n: int, episode: int = 1, **more: Any) -> bytes:
    return outcome(n, episode, at_ms=jobs._now_ms() - 60_000, **more)


def test_the_job_reads_files_and_what_is_in_none_yet(life: Life, client: Any) -> None:
    life.send(real(1))
    life.fold()
    life.take()
    now_ms = jobs._now_ms()
    life.send(real(2, cost_nano=50), outcome(3, at_ms=now_ms - 31 * 86_400_000))
    life.send(word(1, 1.0, at_ms=now_ms))
    life.fold()

    assert jobs.episodes() == left(client)

    found = left(client)
    assert found["truncated"] is False
    assert found["since_ms"] == pytest.approx(now_ms - 30 * 86_400_000, abs=10_000)
    assert abs(found["at_ms"] - now_ms) < 10_000
    app = found["apps"][f"{APP:016x}"]
    assert (app["episodes"], app["calls"], app["completed"]) == (1, 2, 1)
    assert app["cost_usd"] == pytest.approx(1050e-9)


def test_figures_are_worked_out_again_where_something_new_came(life: Life, client: Any) -> None:
    life.send(real(1))
    life.fold()
    assert jobs.episodes()
    assert jobs.episodes() == {}, "nothing came"
    life.send(real(2))
    life.fold()
    client.set(keys.EPISODES, json.dumps(left(client) | {"took_s": 60.0}))
    assert jobs.episodes() == {}, "it takes long, and was done just now"
    client.set(keys.EPISODES, json.dumps(left(client) | {"took_s": 0.0}))

    assert jobs.episodes()

    assert left(client)["apps"][f"{APP:016x}"]["calls"] == 2
    aged = left(client) | {"at_ms": jobs._now_ms() - 3_600_001}
    client.set(keys.EPISODES, json.dumps(aged))
    assert jobs.episodes(), "meanwhile an episode may have ended"


def test_what_is_too_much_to_read_is_said(
    life: Life, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in (1, 2):
        life.send(real(n, n))
        life.fold()
        life.take()
    older, newer = life.files()
    room = newer.path.stat().st_size
    monkeypatch.setattr(jobs, "MAX_READ_BYTES", room)
    at_ms = int(older.mark.split(b"-")[0])

    jobs.episodes()

    found = left(client)
    assert (found["truncated"], found["since_ms"]) == (True, at_ms)


def test_of_an_archive_that_began_later_nothing_earlier_is_claimed(life: Life, client: Any) -> None:
    life.send(real(1))
    life.fold()
    client.xtrim(keys.stream(0), maxlen=0)  # gone before it was kept
    life.take()
    (base,) = life.files()

    jobs.episodes()

    assert base.is_base
    assert left(client)["since_ms"] == int(base.mark.split(b"-")[0])


def test_without_an_archive_no_figures_are_made(
    life: Life, client: Any, address: Address, state_dir: Path
) -> None:
    jobs.work_at(Place(address, state_dir / "archive", 1, Keep(0, 1 << 30)))

    assert jobs.episodes() == {}
    assert client.get(keys.EPISODES) is None


def test_feedback_by_reference_is_kept_with_what_it_meant(life: Life) -> None:
    """An outcome of an episode is told from one of a single call by the record of each decision."""
    name, now_ms = b"e" * 16, LIFE_MS
    life.send(outcome(1, at_ms=now_ms - 60_000, reference=name))
    life.fold()
    said = events.feedback(
        None,
        kind=FeedbackKind.TEST,
        value=1.0,
        revision=0,
        event=event_ids.new_event_id(now_ms),
        reference=name,
        app=APP,
        match=Match.LAST,
        received_at_ms=now_ms,
    )
    life.send(said)
    life.fold()
    life.resolve()
    life.fold()
    life.take()

    (file,) = life.files()
    records = take_apart(archive_files.read(file).as_entries(), {}).of_kind(Kind.FEEDBACK)
    assert records["match"].tolist() == [Match.LAST]
    assert life.audit().equal


# -- the report -----------------------------------------------------------------------------------

LOCKED = """
endpoints:
- {id: large, model: m, base_url: "http://127.0.0.1:9/v1"}
- {id: small, model: n, base_url: "http://127.0.0.1:9/v1"}
apps: {agent: {locked: true}, web: {}, quiet: {locked: true}, default: {}}
roles: {planner: {}, coder: {}}
"""


def section(records: list[bytes], text: str = LOCKED) -> dict[str, Any]:
    found = figures([array(records)], since_ms=0, now_ms=NOW_MS)
    about = {"at_ms": NOW_MS, "since_ms": NOW_MS - 30 * 86_400_000, "truncated": False}
    names = {f"{77:016x}": "gone"}
    return episode_section({**about, "apps": found}, compile_text(text, file="t"), names)


def agents_records(configuration: Configuration) -> list[bytes]:
    """Three of four episodes completed; the planner decides, and one map has both endpoints."""
    app, roles = configuration.apps["agent"].digest, configuration.roles
    large, small = (one.digest for one in configuration.catalog.endpoints)
    records = []
    for n, planner in enumerate((large, large, small, small), 1):
        about = {"app": app, "cost_nano": n * 10**8}
        records.append(outcome(10 * n, n, role=roles["planner"].digest, executed=planner, **about))
        records.append(outcome(10 * n + 1, n, role=roles["coder"].digest, executed=77, **about))
        if n < 4:
            records.append(word(10 * n, float(planner == large), app=app))
    records.append(outcome(50, 1, role=roles["coder"].digest, executed=small, app=app))
    return [*records, outcome(60, 0, app=configuration.apps["web"].digest)]


def test_a_section_has_names_in_place_of_digests() -> None:
    found = section(agents_records(compile_text(LOCKED, file="t")))

    assert [(row["app"], row["locked"], row["completed"]) for row in found["apps"]] == [
        ("agent", True, 3),
        ("quiet", True, 0),
        ("web", False, 0),
    ]
    assert [one["roles"] for one in found["apps"][0]["maps"]] == [
        {"planner": "small", "coder": "gone"},
        {"planner": "large", "coder": None},
        {"planner": "large", "coder": "gone"},
    ]
    assert found["reason"] is None


def test_the_report_tells_of_apps_by_completed_episode_then_of_their_maps_best_first() -> None:
    found = section(agents_records(compile_text(LOCKED, file="t")))
    shown = StringIO()
    Console(file=shown, width=80).print(episode_table(found))

    title, heading, row = shown.getvalue().splitlines()

    assert title.strip() == "by episode, of 30 days"
    assert " ".join(heading.split()) == f"app {' '.join(COLUMNS)}"
    assert row.split() == ["agent", "3/4", ".67", ".25–.92", "0.6", "0.4", "1.2", "1", "1"]
    assert episode_lines(found) == [
        "agent, by who answered, best first:",
        "  1.00 (.27–1.00) in 1, 0.2 USD each: coder several, planner large",
        "  1.00 (.27–1.00) in 1, 0.4 USD each: coder gone, planner large",
        "  .00 (.00–.73) in 1, 0.6 USD each: coder gone, planner small",
        "agent: 9 calls: drew 0, followed 9",
        "quiet: no episode yet: its calls have to name theirs (x-router-episode-id)",
        "web: 1 call: drew 0, followed 1",
    ]


def test_without_an_outcome_the_report_says_how_to_send_one() -> None:
    configuration = compile_text(LOCKED, file="t")
    agent, web = (configuration.apps[name].digest for name in ("agent", "web"))
    found = section([outcome(1, app=agent), outcome(2, app=web)])

    assert episode_table(found) is None
    first, *others = episode_lines(found)
    assert first.startswith("agent: 1 episode, no outcome yet; send one: POST /v1/router/episodes/")
    assert [line for line in others if line.startswith("web")] == [
        "web: 1 call: drew 0, followed 1"
    ]


def test_ways_are_one_line() -> None:
    ways = {"drew": 310, "followed": 12_002, "failover": 61, "stand_in": 20}
    ways |= {"gain_ending": 4, "dominated_ending": 3, "undrawn": 0}

    assert ways_line("agent", ways) == (
        "agent: 12,400 calls: drew 310, followed 12,002, failover 61, stand-in 20, "
        "ended for gain 4, ended as dominated 3"
    )


def test_what_has_no_price_is_told_where_it_is_much() -> None:
    configuration = compile_text(LOCKED, file="t")
    app = configuration.apps["agent"].digest
    records = [outcome(n, app=app, flags=Flag.FINAL if n < 3 else FINAL) for n in range(10)]

    lines = episode_lines(section([*records, word(1, 1.0, app=app)]))

    assert "agent: costs leave out 3 of 10 attempts of episodes, which have no price" in lines


def test_without_an_archive_or_figures_the_reason_is_said() -> None:
    off = compile_text(LOCKED + "archive: {keep_days: 0}\n", file="t")
    on = compile_text(LOCKED, file="t")
    stale = {"at_ms": 1, "since_ms": 0, "truncated": False, "apps": {}}

    for found in (episode_section(None, off, {}), episode_section(stale, off, {})):
        assert (found["apps"], found["reason"]) == ([], NO_ARCHIVE)
    assert episode_section(None, on, {})["reason"] == NOT_YET
    assert episode_lines(episode_section(None, on, {})) == []


def test_report_shows_episodes_and_has_all_in_json(state_dir: Path, address: Address) -> None:
    file = state_dir / "pointsman.yaml"
    file.write_text(LOCKED + f"server: {{state_dir: {state_dir}}}\n")
    url = {"REDIS_URL": address.url}
    configuration = compile_text(LOCKED, file="t")
    found = figures([array(agents_records(configuration))], since_ms=0, now_ms=NOW_MS)
    with closing(connect(address)) as client:
        prepare(client, shards=configuration.store.shards)
        whole = {"at_ms": NOW_MS, "since_ms": BEGAN_MS, "truncated": True, "apps": found}
        client.set(keys.EPISODES, json.dumps(whole))

    said = pointsman("report", "--all", "--config", file, environment=url).stdout
    rows = json.loads(pointsman("report", "--json", "--config", file, environment=url).stdout)

    assert "by episode, of 1 day\n" in said.replace(" \n", "\n").replace("  ", "")
    assert "of episodes and ways only the newest records were read" in said
    assert rows["episodes"]["apps"][0]["success"]["mean"] == pytest.approx(2 / 3)
    assert rows["episodes"]["truncated"] is True


@pytest.mark.usefixtures("store")
def test_calls_of_a_session_are_told_as_an_episode(
    provider: Provider, state_dir: Path, address: Address, client: Any
) -> None:
    entries = {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "roles": {"planner": {}, "coder": {}},
        "apps": {"default": {"mode": "route", "locked": True}},
    }
    jobs.work_at(Place(address, state_dir / "archive", SHARDS, Keep(30, 1 << 30)))
    file = state_dir / "pointsman.yaml"
    with serving(entries, state_dir, address, file=file) as sidecar, learning(state_dir, address):
        sidecar.until(lambda: sidecar.app.keeper.store_up)
        for role in ("planner", "coder", "coder", "planner"):
            named = {"x-router-episode-id": "issue-7"}
            assert sidecar.chat(f"role:{role}", headers=named).status_code == 200
        sidecar.chat("a")

        def apps() -> list[dict[str, Any]]:
            jobs.episodes()
            with closing(connect(address)) as mine:
                found = json.loads(mine.get(keys.EPISODES) or b"null")
            names = {k.decode(): v.decode() for k, v in client.hgetall(keys.NAMES).items()}
            rows: list[dict[str, Any]] = episode_section(
                found, sidecar.app.keeper.current.configuration, names
            )["apps"]
            return rows

        sidecar.until(lambda: sum(apps()[0]["ways"].values()) == 5, within_s=20)
        (row,) = apps()
    assert (row["app"], row["locked"], row["episodes"]) == ("default", True, 1)
    assert (row["calls"], row["attempts"], row["unpriced_attempts"]) == (4, 4, 0)
    assert (row["ways"]["drew"], row["ways"]["followed"], row["ways"]["undrawn"]) == (2, 2, 1)
    (drawn,) = row["maps"]
    assert set(drawn["roles"]) == {"planner", "coder"}
    assert set(drawn["roles"].values()) <= {"a", "b"}
    assert row["cost_usd"] > 0
