"""What the page says: one word a task, verdicts as sentences, and what is asked of it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml
from msgspec import structs
from pages import DEMO, GAINS, KEEP, NOT_SHOWN, NOTHING, TRADE

from bandit import cells
from bandit.families import N_COLUMNS, Family, Q, S
from bandit.report import (
    FoldedTasks,
    PageTrouble,
    Signal,
    TaskFacts,
    TaskWord,
    added_signals,
    first_tasks,
    in_order,
    signals_of,
    word_of,
)
from router.beliefs.beliefs import believe
from router.config.compiled import compile_text
from router.errors import RequestRejected
from router.report.comparisons import ToldTrial, compare, verdict_lines
from router.report.face import figures
from router.report.narrowed import narrowed
from router.report.page_changes import (
    alarm_line,
    page_changes,
    proposal_line,
    release_line,
    trial_lines,
)
from router.report.page_wish import page_wish, page_wish_in
from router.report.sentences import ComparedNames, sentence, signals_line
from router.report.views import report_rows
from telemetry import keys
from telemetry.digests import digest8
from telemetry.trials import Trial, TrialState

NOW_S = 1_764_513_000.0  # 2025-11-30 14:30 UTC
OF = ComparedNames("big", "small", app="shop", task="chat")


def test_the_first_word_that_holds_is_said() -> None:
    facts = TaskFacts(
        why_off="off",
        why_pinned="pinned",
        has_signal=False,
        why_unknown="nobody says",
        verdict=GAINS,
        verdict_text="gains",
        moved="released",
        note="trying",
    )

    said = []
    for change in (
        {},
        {"why_off": ""},
        {"why_pinned": ""},
        {"has_signal": True},
        {"verdict": NOT_SHOWN},
        {"moved": ""},
    ):
        facts = replace(facts, **change)
        said.append(word_of(facts))

    assert said == [
        (TaskWord.OFF, "off"),
        (TaskWord.PINNED, "pinned"),
        (TaskWord.NO_SIGNAL, "nobody says"),
        (TaskWord.PROVEN, "gains"),
        (TaskWord.MOVED, "released"),
        (TaskWord.LEARNING, "trying"),
    ]


def test_an_order_decides_without_labels_and_says_what_it_did_not_check() -> None:
    facts = TaskFacts(is_order=True, why_unknown="floor not checked", moved="released")

    assert word_of(facts) == (TaskWord.MOVED, "released; floor not checked")


def test_a_verdict_that_keeps_the_incumbent_is_proven_too() -> None:
    assert word_of(TaskFacts(has_signal=True, verdict=KEEP))[0] is TaskWord.PROVEN


def test_tasks_are_folded_by_spend() -> None:
    shown, folded = first_tasks(reversed(DEMO.tasks), 3)

    assert [line.task for line in shown] == ["chat.support", "code.review", "extract"]
    assert folded == FoldedTasks(2, 1_015 + 48, pytest.approx(0.83))
    assert first_tasks(DEMO.tasks)[1] is None


def test_signals_are_said_as_people_say_them() -> None:
    found = signals_of({S.HUMAN: 1, S.TOOLS: 12_400, S.JUDGE: 0})

    assert signals_line(found) == "by 12,400 tool-call checks and 1 thumb"
    assert added_signals([found, found])[0] == Signal("tool-call checks", 24_800)
    assert signals_line(()) == ""


def test_troubles_come_once_the_urgent_first() -> None:
    late, early = PageTrouble("late", 2), PageTrouble("early", 1)
    calm = PageTrouble("calm", 3, is_urgent=False)

    assert in_order([calm, early, late, early]) == (late, early, calm)


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        (
            KEEP,
            "In chat: not worth it here: keep big; small is at -0.4 % [-1.1, 0.3] of a success's "
            "value (hold-out: 30,118 sessions against 902).",
        ),
        (
            GAINS,
            "In chat: small gains 3.1 pp [1.2, 5.0] in quality and 38.0 % [31.0, 44.0] less cost "
            "per success against your incumbent big (trial: 2,088 sessions against 2,104).",
        ),
        (
            TRADE,
            "In chat: small is a trade: +2.4 pp [0.9, 3.9] in quality for +21.0 % [14.0, 29.0] "
            "cost per success (-5.0 % [-12.0, 2.0] wall time) (trial: 655 sessions against 640).",
        ),
        (
            NOT_SHOWN,
            "In chat: whether small is better: not shown yet, about 1,400 sessions more (+1.2 pp "
            "[-1.8, 4.2] in quality) (trial: 398 sessions against 410).",
        ),
        (NOTHING, "In chat: whether small is better: not shown yet."),
    ],
)
def test_verdicts_are_sentences(verdict: object, says: str) -> None:
    assert sentence(verdict, OF) == says  # type: ignore[arg-type]


def test_a_verdict_that_is_over_carries_its_date() -> None:
    over = replace(KEEP, ended_ms=int(NOW_S * 1000))

    assert "hold-out that ended 2025-11-30" in sentence(over, OF)


def trial(id_: str, **more: object) -> Trial:
    usual = {
        "app": "shop",
        "strategy": "quality",
        "task": "chat",
        "incumbent": "big",
        "challenger": "small",
        "began_ms": 1_000,
        "ends_ms": 2_000,
    }
    return Trial(id=id_, **(usual | more))  # type: ignore[arg-type]


def test_a_hold_out_is_told_once_it_shows_something_and_is_never_pooled() -> None:
    won = trial("a", state=TrialState.WON, ended_ms=1_500)

    (early,) = compare([won], {"a": ToldTrial(verdict=GAINS, holdout=NOT_SHOWN)})
    (late,) = compare([won], {"a": ToldTrial(verdict=GAINS, holdout=KEEP)})

    assert (early.verdict, late.verdict) == (GAINS, KEEP)


def test_each_app_has_one_sentence_and_a_trial_that_runs_its_stop() -> None:
    told = {"a": ToldTrial(NOT_SHOWN), "b": ToldTrial(GAINS), "c": ToldTrial(TRADE)}
    trials = [trial("a"), trial("b", state=TrialState.ENDED), trial("c", app="desk", task="")]

    lines = verdict_lines(compare(trials, told), names_app=True)

    assert [line.advice for line in lines] == [
        "pointsman trial stop c",
        "pointsman trial stop a",
    ]
    assert lines[0].text.startswith("App desk: ")
    assert lines[1].text.startswith("App shop, chat: ")


@pytest.mark.parametrize(
    ("given", "scope", "days"),
    [
        ({}, "all apps, 7 days", 7),
        ({"since": "1d"}, "all apps, 1 day", 1),
        ({"since": "2025-11-20", "app": "shop"}, "app shop, since 2025-11-20", 11),
        ({"month": "2025-10", "task": "chat"}, "all apps, task chat, 2025-10", 31),
        ({"month": "this"}, "all apps, 2025-11", 30),
    ],
)
def test_a_period_is_read_as_it_is_written(given: dict[str, str], scope: str, days: int) -> None:
    wish = page_wish(given, now_s=NOW_S)

    assert wish.scope == scope
    assert (wish.until_ms - wish.since_ms) / 86_400_000 == days


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (b"since=0d", "since: '0d': from 1d"),
        (b"since=soon", "since: 'soon': write days, such as 7d, or a day"),
        (b"since=-1d", "write days, such as 7d"),
        (b"since=2025-11-31", "write a day or a time"),
        (b"until=2025-11-30", "no such field"),
        (b"since=7d&since=8d", "there twice"),
        (b"month=2025-11&since=7d", "since: '7d': there beside a month"),
        (b"app=", "app: '': empty"),
        (b"task=&since=7d", "task: '': empty"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_field(query: bytes, says: str) -> None:
    with pytest.raises(RequestRejected, match=says):
        page_wish_in(query, now_s=NOW_S)


def test_only_a_tasks_last_release_has_a_line_that_undoes_it(client: Any) -> None:
    told = {"app": "shop", "strategy": "quality", "task": "chat", "before": "a", "after": "b"}
    told |= {"reason": "better", "model": None}
    now_ms = int(time.time() * 1000)
    for n, role in enumerate((None, "coder", None), 1):
        entry = {**told, "id": str(n) * 8, "role": role, "at_ms": now_ms - 1000 + n}
        client.xadd(keys.RELEASES, {"release": json.dumps(entry)})

    lines, _ = page_changes(client, page_wish_in(b"", now_s=now_ms / 1000 + 5), ())

    assert [(line.id, bool(line.undo)) for line in lines] == [
        ("3" * 8, True),
        ("2" * 8, True),
        ("1" * 8, False),
    ]


def test_a_trial_names_what_ends_it_its_hold_out_and_its_pin() -> None:
    trial = Trial(
        id="4k2m",
        app="shop",
        strategy="q",
        task="chat",
        incumbent="a",
        challenger="b",
        began_ms=5,
        ends_ms=9,
    )
    won = structs.replace(trial, state=TrialState.WON, ended_ms=7, holdout=0.025, applied_ms=8)
    pins = structs.replace(trial, state=TrialState.ENDED, ended_ms=7, auto_pin=True)

    assert [line.undo for line in trial_lines(trial)] == ["pointsman trial stop 4k2m"]
    begun, over = trial_lines(won)
    assert (begun.undo, over.undo) == ("", "pointsman trial stop 4k2m")
    assert over.text == "trial won by b; 2.5 % of sessions stay with a while b serves"
    assert [line.undo for line in trial_lines(pins)] == ["", "pointsman trial resume 4k2m"]


def test_a_release_tells_before_after_evidence_and_its_undo() -> None:
    told = {
        **{"app": "shop", "task": "chat", "before": "big", "after": "small", "at_ms": 7},
        **{"gain": 0.031, "p_better": 0.98, "reason": "better", "labels": {"shop": 210}},
    }

    line = release_line({**told, "id": "3fa9c1d2"})

    assert line.text == "big → small, +3.1 points expected"
    assert line.reason == "better, P(better) 0.980 on labels: 210 of shop"
    assert line.undo == "pointsman release undo 3fa9c1d2"
    assert release_line({**told, "reason": "removed", "id": "3fa9c1d2"}).undo == ""
    assert release_line(told).undo == "", "an earlier version gave no id"
    assert release_line({**told, "role": "coder"}).text.startswith("big → small (role coder)")
    assert release_line({**told, "id": "3fa9c1d2", "reason": "pinned"}).undo == ""
    accepted = release_line({**told, "id": "3fa9c1d2", "reason": "accepted: trial"})
    assert accepted.reason.startswith("accepted: a trial of it was won")
    assert accepted.undo == "pointsman release undo 3fa9c1d2"
    assert proposal_line({**told, "id": "91b7aa04"}).undo == "pointsman release accept 91b7aa04"


def test_alarms_tell_how_far_and_on_what() -> None:
    told = {"kind": "down", "endpoint": "b", "at_ms": 7, "since_ms": 0, "labels": 84.0}

    line = alarm_line({**told, "mean_residual": -3.2, "factor": 0.71})

    assert line is not None
    assert line.text == "quality fell: rewards × 0.71 of what was expected"
    assert line.reason == "-3.2 sd on 84 labels since 1970-01-01"
    assert alarm_line({"kind": "price", "endpoint": "b"}) is None


def test_labels_that_were_given_never_fall_while_those_that_count_may() -> None:
    """A change of an endpoint leaves less of what was said before; it was said all the same."""
    of = compile_text(
        yaml.safe_dump({"endpoints": [{"id": "a", "model": "a", "base_url": "http://a.test/v1"}]}),
        file="test.yaml",
    )
    quality, signals = np.zeros((1, N_COLUMNS)), np.zeros((1, N_COLUMNS))
    quality[:, [Q.LABELS, Q.N]], quality[:, [Q.R, Q.R2]], signals[:, S.HUMAN] = 4, 3, 9
    now_ms = int(time.time() * 1000)
    where = {
        "category": np.array([digest8("task", "general")], dtype=np.uint64),
        "endpoint": of.catalog.digests,
        "at_ms": np.array([now_ms]),
    }
    rows = cells.merge(
        [
            cells.terms(family, columns=columns, **where)
            for family, columns in ((Family.QUALITY, quality), (Family.SIGNALS, signals))
        ]
    )

    (row,) = report_rows(believe(of, rows, version=1), "quality")

    assert (row.labels, row.labels_given) == (4, 9)


def test_a_task_is_asked_for_with_its_leaves() -> None:
    wish = page_wish({"task": "code"}, now_s=NOW_S)

    assert wish.admits(app="a", task="code/review", role="", strategy="quality")
    assert not wish.admits(app="a", task="coder", role="", strategy="quality")
    assert not wish.admits(app="a", task="code.review", role="", strategy="quality")


def test_what_programs_read_is_narrowed_as_the_page_is() -> None:
    shown = {
        "rows": [{"category": one, "app": None} for one in ("code", "code/review", "chat")],
        "choices": [
            {"app": app, "strategy": "quality", "role": None, "task": "code"} for app in "ab"
        ],
        "version": 3,
    }

    found = narrowed(shown, page_wish({"task": "code", "app": "a"}, now_s=NOW_S))

    assert [row["category"] for row in found["rows"]] == ["code", "code/review"]
    assert [row["app"] for row in found["choices"]] == ["a"]
    assert found["version"] == 3
    assert narrowed(shown, page_wish({}, now_s=NOW_S)) == shown


def test_one_of_a_signal_is_one_on_every_face() -> None:
    one = signals_of({S.TEST: 1})

    assert figures.signals(one) == "1 test"
    assert signals_line(one) == "by 1 test"
