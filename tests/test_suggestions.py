"""Which tasks prompts of `general` look like: counted once a call, and told where it is of use."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console
from test_guessing import LETTER, REVIEW
from test_leaves import compiled
from test_workers_archive import Life

from router.config.compiled import Configuration
from router.report.gather import Report
from router.report.suggestions import suggestion_lines, suggestion_rows
from router.report.terminal import print_report
from telemetry import events, keys, narrow
from telemetry.digests import digest8
from telemetry.embedded import PrivateServer
from telemetry.events import RECORD, RECORD_SIZE, Flag, Result
from telemetry.store import Address
from telemetry.tokens import Token
from workers.archive.retention import Keep
from workers.jobs import jobs
from workers.jobs.jobs import Place
from workers.jobs.suggestions import Guesses, count_guesses, guesses_of

APP = digest8("app", "default")
TAGS = {name: digest8("task", name) for name in ("review", "letter", "general")}
NOW_MS = jobs._now_ms()


def outcome(
    n: int,
    tag: str | None = "review",
    *,
    attempt: int = 1,
    app: int = APP,
    episode: int = 0,
    system_prompt: int = 0,
    at_ms: int = NOW_MS,
    final: bool = True,
) -> bytes:
    token = Token(
        *(1, 0, 0, n.to_bytes(16, "big"), at_ms, TAGS["general"], 2, 2, 4, app, 6, 7),
        *(0.5, 0.5, 0.1),
    )
    return events.outcome(
        token.pack(),
        result=Result.OK,
        attempt=attempt,
        status=200,
        flags=int(Flag.FINAL) if final else 0,
        episode=episode,
        system_prompt=system_prompt,
        tag=TAGS[tag] if tag else 0,
    )


def counted(*records: bytes, since_ms: int = 0) -> dict[str, Any]:
    guesses = Guesses(since_ms=since_ms)
    half = len(records) // 2
    parts = [events.decode(b"".join(part))[0] for part in (records[:half], records[half:])]
    assert [len(part) for part in guesses.watch(parts)] == [len(part) for part in parts]
    return guesses.counts()


def test_each_call_counts_once_however_often_it_was_tried_or_told() -> None:
    tried = [outcome(1, attempt=n, final=n == 3) for n in (1, 2, 3)]
    found = counted(*tried, *tried, outcome(2, "general"), outcome(3, None), outcome(4, "letter"))

    (app,) = found.values()
    assert set(found) == {f"{APP:016x}"}
    assert app["calls"] == 3
    assert {tag: one["calls"] for tag, one in app["tags"].items()} == {
        f"{tag:016x}": 1 for tag in TAGS.values()
    }


def test_apps_sessions_and_shared_system_prompts_are_told_apart() -> None:
    found = counted(
        *(outcome(n, episode=n % 2, system_prompt=9) for n in range(1, 5)),
        *(outcome(n, "general", system_prompt=9) for n in range(5, 7)),
        *(outcome(n, app=8) for n in range(7, 10)),
    )

    mine, other = found[f"{APP:016x}"], found[f"{8:016x}"]
    review = f"{TAGS['review']:016x}"
    assert mine["tags"][review] == {"calls": 4, "sessions": 2, "prompted": 4, "prompted_of": 6}
    assert other["tags"] == {
        review: {"calls": 3, "sessions": 0, "prompted": 0, "prompted_of": 0},
    }


def test_what_was_decided_before_is_left_out_and_nothing_is_no_app() -> None:
    assert counted(outcome(1, at_ms=5), outcome(2, at_ms=4), since_ms=6) == {}
    assert count_guesses(guesses_of(np.empty(0, RECORD))) == {}


def test_records_keep_their_size_and_those_before_have_no_tag() -> None:
    record = outcome(1)
    plain = outcome(1, None)

    assert len(record) == len(plain) == RECORD_SIZE == 368
    (found,), bad = events.decode(record)
    assert not bad
    assert found["tag"] == TAGS["review"]
    differing = [name for name in RECORD.names if found[name] != events.decode(plain)[0][0][name]]
    assert differing == ["tag", "checksum"]
    earlier = np.zeros(1, dtype=narrow.RECORD)
    assert narrow.widened(earlier, RECORD)["tag"].tolist() == [0]


# -- the job --------------------------------------------------------------------------------------


def test_the_job_leaves_what_the_records_say(
    store: PrivateServer, client: Any, address: Address, state_dir: Path
) -> None:
    jobs.work_at(Place(address, state_dir / "archive", 1, Keep(30, 1 << 30)))
    life = Life(client, state_dir / "archive")
    life.send(*(outcome(n) for n in range(1, 4)))
    life.fold()
    life.take()
    life.send(outcome(3), outcome(4, "general"), outcome(5, at_ms=NOW_MS - 40 * 86_400_000))
    life.fold()

    assert jobs.episodes()

    left = json.loads(client.get(keys.SUGGESTIONS))
    assert left["truncated"] is False
    app = left["apps"][f"{APP:016x}"]
    assert app["calls"] == 4
    assert app["tags"][f"{TAGS['review']:016x}"]["calls"] == 3


# -- the report -----------------------------------------------------------------------------------


def of(
    review: int, letter: int, rest: int, *, prompted_of: int = 1000, **more: int
) -> dict[str, Any]:
    own = {"sessions": 0, "prompted": 0, "prompted_of": prompted_of, **more}
    counts = {"review": review, "letter": letter, "general": rest}
    tags = {f"{TAGS[name]:016x}": {"calls": n, **own} for name, n in counts.items()}
    return {"apps": {f"{APP:016x}": {"calls": sum(counts.values()), "tags": tags}}}


def configured(review: dict[str, Any] | None = None, **app: Any) -> Configuration:
    return compiled(
        {"review": {"exemplars": REVIEW, **(review or {})}, "letter": {"exemplars": LETTER}},
        apps={"default": {"mode": "route", "strategy": "quality", **app}},
    )


def lines(found: dict[str, Any] | None, configuration: Configuration) -> list[str]:
    return list(suggestion_lines(suggestion_rows(found, configuration)))


def test_the_report_says_how_much_looks_like_what_and_which_line_to_add() -> None:
    found = of(312, 40, 151, sessions=200)

    assert lines(found, configured()) == [
        "62% of general looks like review (312 of 503 first calls of app default): add to the "
        "configuration (`pointsman classify` says how often that is right):",
        "  apps:",
        "    default:",
        "      classify: route",
    ]


@pytest.mark.parametrize(
    "found", [None, {}, of(49, 0, 0), of(9, 9, 82), {"apps": {"00": of(99, 0, 0)["apps"]}}]
)
def test_of_few_calls_or_a_small_share_or_nobody_known_it_says_nothing(
    found: dict[str, Any] | None,
) -> None:
    assert lines(found, configured()) == []


def test_what_it_advises_is_what_helps() -> None:
    def line(configuration: Configuration, **more: int) -> tuple[str, str | None]:
        (row,) = suggestion_rows(of(60, 0, 40, **more), configuration)
        return row["advice"], row["yaml"]

    def value(yaml_: str | None) -> Any:
        return yaml.safe_load(yaml_ or "")

    shared = {"prompted": 59, "prompted_of": 60, "sessions": 60}
    words, lines_ = line(configured(), **shared)
    assert words.endswith("add to the configuration, with a phrase of it")
    assert value(lines_) == {"tasks": {"review": {"match": {"system": ["…"]}}}}
    route = {"apps": {"default": {"classify": "route"}}}
    assert value(line(configured({"match": {"tools": True}}), **shared)[1]) == route
    assert value(line(configured(), prompted=59, prompted_of=100, sessions=60)[1]) == route
    words, lines_ = line(configured(), sessions=2)
    assert words == (
        "have callers say x-router-task: review; or have them say x-router-session-id, and add to "
        "the configuration"
    )
    assert value(lines_) == route
    for app in ({"classify": "route"}, {"locked": True}):
        assert line(configured(**app), sessions=60) == (
            "have callers say x-router-task: review",
            None,
        )
    assert lines(of(60, 0, 40), configured(classify="off")) == []


def test_the_report_prints_it_and_has_it_as_json() -> None:
    rows = suggestion_rows(of(60, 0, 40, sessions=60), configured())
    report = Report(posteriors={"suggestions": rows})
    to = Console(file=io.StringIO(), width=400)

    print_report(report, to)

    assert "60% of general looks like review (60 of 100 first calls" in to.file.getvalue()  # type: ignore[attr-defined]
    assert report.as_json()["suggestions"] == [
        {
            **{"app": "default", "task": "review", "calls": 60, "of": 100, "share": 0.6},
            **{"line": "apps.default.classify: route", "advice": rows[0]["advice"]},
            "yaml": "apps:\n  default:\n    classify: route",
        }
    ]
