"""Which tasks prompts of `general` look like: counted once a call, and told where it is of use."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from test_guessing import LETTER, REVIEW
from test_leaves import compiled
from test_workers_archive import Life

from router.config.compiled import Configuration, compile_text
from router.config.tree import parse_yaml
from router.decision.prompt_tags import PromptTags
from router.report.gather import Report
from router.report.suggestions import PHRASE, suggestion_lines, suggestion_rows
from router.report.terminal import print_rest
from telemetry import decoding, events, keys, narrow
from telemetry.digests import digest8
from telemetry.embedded import PrivateServer
from telemetry.events import RECORD_SIZE, Flag, Result
from telemetry.layouts import RECORD
from telemetry.store import Address
from telemetry.tokens import Token
from workers.archive.retention import Keep
from workers.jobs import jobs
from workers.jobs.jobs import Place
from workers.jobs.suggestions import Guesses, count_guesses, guesses_of

APP = digest8("app", "default")
TAGS = {name: digest8("tag", name) for name in ("review", "letter", "general")}
CATEGORIES = {name: digest8("task", name) for name in ("review", "letter", "general", "use")}
NOW_MS = jobs._now_ms()


def outcome(
    n: int,
    tag: str | None = "review",
    *,
    attempt: int = 1,
    app: int = APP,
    episode: int = 0,
    system_prompt: int = 0,
    category: str = "general",
    at_ms: int = NOW_MS,
    final: bool = True,
    profile: bool = False,
) -> bytes:
    token = Token(
        *(1, 0, 0, n.to_bytes(16, "big"), at_ms, CATEGORIES[category], 2, 2, 4, app, 6, 7),
        *(0.5, 0.5, 0.1),
    )
    return events.outcome(
        token.pack(),
        result=Result.OK,
        attempt=attempt,
        status=200,
        flags=(Flag.FINAL if final else 0) | (Flag.PROFILE if profile else 0),
        episode=episode,
        system_prompt=system_prompt,
        tag=TAGS[tag] if tag else 0,
    )


def counted(*records: bytes, since_ms: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = left(*records, since_ms=since_ms)["apps"]
    return found


def left(*records: bytes, since_ms: int = 0) -> dict[str, Any]:
    guesses = Guesses(since_ms=since_ms)
    half = len(records) // 2
    parts = [decoding.decode(b"".join(part))[0] for part in (records[:half], records[half:])]
    assert [len(part) for part in guesses.watch(parts)] == [len(part) for part in parts]
    return guesses.counts()


def test_each_call_counts_once_however_often_it_was_tried_or_told() -> None:
    tried = [outcome(1, attempt=n, final=n == 3) for n in (1, 2, 3)]
    found = counted(*tried, *tried, outcome(2, "general"), outcome(3, None), outcome(4, "letter"))

    assert {
        app: {tag: one["calls"] for tag, one in tags.items()} for app, tags in found.items()
    } == {f"{APP:016x}": {f"{tag:016x}": 1 for tag in TAGS.values()}}


def test_apps_sessions_and_shared_system_prompts_are_told_apart() -> None:
    found = counted(
        *(outcome(n, episode=n % 2, system_prompt=9) for n in range(1, 5)),
        *(outcome(n, "general", system_prompt=9) for n in range(5, 7)),
        *(outcome(n, app=8) for n in range(7, 10)),
    )

    mine, other = found[f"{APP:016x}"], found[f"{8:016x}"]
    review = f"{TAGS['review']:016x}"
    assert mine[review] == {"calls": 4, "sessions": 2, "prompted": 4, "prompt": "00000009"}
    assert other == {review: {"calls": 3, "sessions": 0, "prompted": 0, "prompt": None}}


def test_who_else_has_a_shared_system_prompt_is_counted_by_category() -> None:
    found = left(
        *(outcome(n, system_prompt=9) for n in range(1, 4)),
        *(outcome(n, "general", system_prompt=9, app=8) for n in range(4, 6)),
        *(outcome(n, None, system_prompt=9, category="use") for n in range(6, 13)),
        outcome(13, None, system_prompt=9),
        outcome(14, None, system_prompt=9, attempt=2),
        outcome(15, None, system_prompt=9, profile=True),
        outcome(16, None, system_prompt=7, category="use"),
        outcome(17, None, category="use"),
    )

    review, general = (f"{TAGS[name]:016x}" for name in ("review", "general"))
    assert found["prompts"] == {
        "00000009": {
            "first": {f"{APP:016x}": {review: 3}, f"{8:016x}": {general: 2}},
            "elsewhere": {f"{CATEGORIES['use']:016x}": 7, f"{CATEGORIES['general']:016x}": 1},
        }
    }


def test_what_was_decided_before_is_left_out_and_nothing_is_no_app() -> None:
    assert counted(outcome(1, at_ms=5), outcome(2, at_ms=4), since_ms=6) == {}
    assert count_guesses(guesses_of(np.empty(0, RECORD))) == {}


def test_records_keep_their_size_and_those_before_have_no_tag() -> None:
    record = outcome(1)
    plain = outcome(1, None)

    assert len(record) == len(plain) == RECORD_SIZE == 368
    (found,), bad = decoding.decode(record)
    assert not bad
    assert found["tag"] == TAGS["review"]
    differing = [
        name for name in RECORD.names or () if found[name] != decoding.decode(plain)[0][0][name]
    ]
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

    found = json.loads(client.get(keys.SUGGESTIONS))
    assert found["truncated"] is False
    app = found["apps"][f"{APP:016x}"]
    assert sum(one["calls"] for one in app.values()) == 4
    assert app[f"{TAGS['review']:016x}"]["calls"] == 3


# -- the report -----------------------------------------------------------------------------------


def configured(
    review: dict[str, Any] | None = None, *, name: str = "default", **app: Any
) -> Configuration:
    return compiled(
        {
            "review": {"exemplars": REVIEW, **(review or {})},
            "letter": {"exemplars": LETTER},
            "use": {"match": {"tools": ["run"]}},
        },
        apps={"default": {}, name: {"mode": "route", "strategy": "quality", **app}},
    )


def of(
    configuration: Configuration,
    review: int,
    letter: int,
    rest: int,
    *,
    long: int = 0,
    unlike: int = 0,
    used: int = 0,
    name: str = "default",
    **more: int,
) -> dict[str, Any]:
    """Return what the job leaves: all that look like `review` have one system prompt."""
    app = configuration.apps[name]
    tags = configuration.derive(PromptTags).of(app)
    own = {"sessions": 0, "prompted": 0, "prompt": "00000009", **more}
    counts = {tags.by_task[task]: n for task, n in _counts(review, letter, rest).items()}
    by_tag = {
        f"{tag:016x}": {**own, "calls": n} for tag, n in {**counts, tags.unread: long}.items()
    }
    first = {f"{tags.by_task['review']:016x}": review, f"{tags.by_task['general']:016x}": unlike}
    digest = f"{app.digest:016x}"
    elsewhere = {f"{app.categories['use']:016x}": used, f"{app.categories['general']:016x}": 900}
    prompts = {"00000009": {"first": {digest: first}, "elsewhere": elsewhere}}
    return {"apps": {digest: by_tag}, "prompts": prompts}


def _counts(review: int, letter: int, rest: int) -> dict[str, int]:
    return {"review": review, "letter": letter, "general": rest}


def lines(found: dict[str, Any] | None, configuration: Configuration) -> list[str]:
    return list(suggestion_lines(suggestion_rows(found, configuration)))


def advised(configuration: Configuration, *, name: str = "default", **more: Any) -> tuple[str, Any]:
    """Return what is advised, and what its YAML means."""
    found = of(configuration, 60, 0, 40, name=name, **more)
    (row,) = suggestion_rows(found, configuration)
    if row["yaml"] is None:
        return row["advice"], None
    value = parse_yaml(row["yaml"], "pasted").root
    section, entry = row["under"]
    assert value == {section: {entry: parse_yaml(row["line"], "pasted").root}}
    return row["advice"], value


def test_the_report_says_how_much_looks_like_what_and_what_to_add() -> None:
    configuration = configured()

    assert lines(of(configuration, 312, 40, 151, sessions=200), configuration) == [
        "62% of general looks like review (312 of 503 first calls of app default): add to the "
        "configuration (`pointsman classify` says how often that is right):",
        "  apps:",
        "    default:",
        "      classify: route  # if `default:` is there already, this line alone goes below it, "
        "or into its braces",
    ]


@pytest.mark.parametrize(
    "name", ["default", "api.example.com", "1.5", "no", "0x1F", "2026-11-30", "1e3"]
)
def test_what_it_prints_can_be_pasted_whatever_the_app_is_called(name: str) -> None:
    _, value = advised(configured(name=name), name=name, sessions=60)

    assert value == {"apps": {name: {"classify": "route"}}}


def test_a_file_with_what_it_prints_is_taken_and_ends_the_advice() -> None:
    before = configured()
    found = of(before, 60, 0, 40, sessions=60)
    pasted = parse_yaml(suggestion_rows(found, before)[0]["yaml"], "pasted").root["apps"]["default"]

    assert lines(found, configured(**pasted)) == []


@pytest.mark.parametrize("counts", [(49, 0, 0), (9, 9, 82)])
def test_of_few_calls_or_a_small_share_it_says_nothing(counts: tuple[int, int, int]) -> None:
    configuration = configured()

    assert lines(of(configuration, *counts), configuration) == []


def test_of_what_nobody_counted_or_knows_it_says_nothing() -> None:
    configuration = configured()
    found = of(configuration, 99, 0, 0)

    assert lines(None, configuration) == lines({}, configuration) == []
    assert lines({**found, "apps": {"00": found["apps"][f"{APP:016x}"]}}, configuration) == []
    before = {"apps": {f"{APP:016x}": {"calls": 60, "tags": {f"{TAGS['review']:016x}": {}}}}}
    assert lines(before, configuration) == []  # as it was left before tags told of rules


def test_what_is_too_long_to_be_looked_at_counts_as_a_call() -> None:
    configuration = configured()

    (line, *_) = lines(of(configuration, 49, 0, 1, long=300), configuration)
    assert line.startswith(
        "14% of general looks like review (49 of 350 first calls of app default, 300 of them too "
        "long to be looked at): "
    )


def test_what_was_decided_under_other_rules_does_not_count() -> None:
    before = configured()
    found = of(before, 60, 0, 40, sessions=60)
    more = REVIEW[:-1]

    assert len(lines(found, configured())) == 4
    for after in (
        configured(classify="route"),
        configured({"match": {"system": ["review"]}}),
        configured({"exemplars": more}),
    ):
        assert lines(found, after) == []


def test_a_report_without_keys_reads_what_a_sidecar_with_them_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OF_SESS", "s" * 40)
    text = """
starter_tasks: true
endpoints: [{id: a, model: m, base_url: "http://127.0.0.1:1"}]
roles: {writer: {tasks: [prose]}}
apps: {sess: {keys: [{key: {env: OF_SESS}, task: code}]}, other: {keys: [{env: OF_SESS_2}]}}
"""
    monkeypatch.setenv("OF_SESS_2", "t" * 40)
    running, reporting = (
        compile_text(text, file="x", secrets=secrets).derive(PromptTags)
        for secrets in (True, False)
    )
    changed = compile_text(text.replace("task: code", "task: prose"), file="x", secrets=False)
    apps = changed.apps

    assert running.of(apps["sess"]) == reporting.of(apps["sess"])
    after = changed.derive(PromptTags)
    assert after.of(apps["other"]) == reporting.of(apps["other"]) != reporting.of(apps["sess"])
    assert not {*after.of(apps["sess"]).tasks} & {*reporting.of(apps["sess"]).tasks}


def test_a_shared_system_prompt_is_advised_where_hardly_any_other_call_has_it() -> None:
    shared: dict[str, Any] = {"prompted": 59, "sessions": 60}
    words, value = advised(configured(), **shared)

    assert words.endswith("hardly any other has; add to the configuration, with a phrase of it")
    assert value == {"tasks": {"review": {"match": {"system": [PHRASE]}}}}
    known = configured({"match": {"system": ["go: on"]}})
    assert advised(known, **shared)[1] == {
        "tasks": {"review": {"match": {"system": ["go: on", PHRASE]}}}
    }
    route = {"apps": {"default": {"classify": "route"}}}
    assert advised(configured({"match": {"tools": True}}), **shared)[1] == route
    for others in ({"used": 200}, {"unlike": 40}, {"prompted": 40}):
        assert advised(configured(), **{**shared, **others})[1] == route


def test_what_it_advises_is_what_helps_and_is_not_there_yet() -> None:
    route = {"apps": {"default": {"classify": "route"}}}
    assert advised(configured(), sessions=2) == (
        "have callers say x-router-task: review; or have them say x-router-session-id, and add to "
        "the configuration",
        route,
    )
    said = configured(classify="suggest")
    assert advised(said, sessions=60)[1] == route
    assert lines(of(said, 60, 0, 40, sessions=60), said)[-1].endswith(
        "# in place of what `default:` has as `classify`"
    )
    assert advised(configured(classify="route")) == (
        "have callers say x-router-session-id, or x-router-task: review",
        None,
    )
    assert advised(configured(locked=True)) == ("have callers say x-router-task: review", None)
    off = configured(classify="off")
    assert lines(of(off, 60, 0, 40), off) == []


def test_of_shipped_exemplars_it_does_not_say_that_they_were_measured_on_yours() -> None:
    configuration = compiled({}, apps={"default": {}}, starter_tasks=True)
    tags = configuration.derive(PromptTags).of(configuration.apps["default"])
    own = {"calls": 60, "sessions": 60, "prompted": 0, "prompt": None}
    found = {"apps": {f"{APP:016x}": {f"{tags.by_task['code']:016x}": own}}}

    assert "by shipped exemplars; `pointsman classify FILE` says" in lines(found, configuration)[0]


def test_the_report_prints_it_unwrapped_and_has_it_as_json() -> None:
    configuration = configured({"match": {"system": [":warning: " + "very long " * 30]}})
    rows = suggestion_rows(of(configuration, 60, 0, 40, prompted=60), configuration)
    report = Report(posteriors={"suggestions": rows})
    to = Console(file=io.StringIO(), width=80)

    print_rest(report, to)

    printed: str = to.file.getvalue()  # type: ignore[attr-defined]
    assert "60% of general looks like review (60 of 100 first calls" in printed
    assert all(f"  {line}\n" in printed for line in rows[0]["yaml"].splitlines())
    assert report.as_json()["suggestions"] == rows
    assert rows[0].keys() == {
        *("app", "task", "calls", "of", "too_long", "share", "under", "line", "yaml", "advice"),
    }
