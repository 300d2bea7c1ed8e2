"""Report and page say off which conversations labels are read, where some are left out."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pages
import pytest
import yaml
from test_faces import Read

from bandit import cells, epochs
from bandit.families import C, D, Family, U
from bandit.grouping import Grouping
from bandit.report import SampledSignals
from router.beliefs.beliefs import Beliefs, believe
from router.config.compiled import compile_text
from router.report.detail_lines import detail_lines
from router.report.face.html import page_html
from router.report.sampled import sampled_clause, sampled_lines, sampled_rows
from router.report.views import posteriors
from telemetry.digests import digest8


def beliefs_of(
    signals: Any, *, read: float, calls: float, regimes: tuple[int, ...] = (0,)
) -> Beliefs:
    """Return beliefs after as many calls in each of some regimes, so many of them read."""
    endpoints = [{"id": one, "model": one, "base_url": "http://a.test/v1"} for one in "ab"]
    app = {"mode": "route", "signals": signals}
    of = compile_text(
        yaml.safe_dump({"endpoints": endpoints, "apps": {"default": app}}), file="test.yaml"
    )
    category = np.array([digest8("task", "general")], dtype=np.uint64)
    at_ms = np.array([int(time.time() * 1000)])
    parts = []
    for regime in regimes:
        numbered = np.array([regime], dtype=np.uint32)
        batch = Grouping.of(category, of.catalog.digests[:1], at_ms, numbered)
        parts += [
            batch.terms(Family.DERIVED, {D.SEEN: np.array([read])}),
            batch.terms(Family.CHAINS, {C.CALLS: np.array([calls])}),
            batch.terms(Family.USAGE, {U.CALLS: np.array([calls])}),
        ]
    return believe(of, cells.merge(parts), version=1)


def test_a_share_is_told_with_what_came_of_it() -> None:
    beliefs = beliefs_of({"sample": 0.2}, read=42, calls=200)

    (row,) = sampled_rows(beliefs)

    assert row == {
        "app": "default",
        "task": "general",
        "share": 0.2,
        "above_calls_per_s": None,
        "calls_read": pytest.approx(0.21, rel=1e-3),
    }
    assert posteriors(beliefs, "quality")["sampled"] == [row]
    assert list(sampled_lines([row])) == [
        "default, general: labels are read off 20 % of the app's conversations, "
        "of late off 21 % of this task's calls"
    ]


def test_a_rate_is_told_only_where_it_left_something_out() -> None:
    rate = {"sample": {"above_calls_per_s": 50}}

    (row,) = sampled_rows(beliefs_of(rate, read=60, calls=200))

    assert (row["share"], row["above_calls_per_s"]) == (None, 50)
    assert sampled_clause(SampledSignals(None, 50, 0.304)) == (
        "labels are read off at most 50 calls a second of the app in each router, "
        "of late off 30 % of this task's calls"
    )
    assert sampled_rows(beliefs_of(rate, read=198, calls=200)) == []


@pytest.mark.parametrize("signals", [True, False, {"sample": 1}])
def test_where_nothing_is_left_out_nothing_is_told(signals: Any) -> None:
    assert sampled_rows(beliefs_of(signals, read=42, calls=200)) == []


def test_neither_an_alarm_nor_a_new_prompt_moves_the_share() -> None:
    """Labels are kept apart by both; which calls were read is a fact."""
    apart = (0, 1, epochs.composed(0, 1), epochs.composed(1, 2))

    beliefs = beliefs_of({"sample": 0.2}, read=30, calls=100, regimes=apart)

    assert beliefs.epochs == {"general": 2}
    assert beliefs.outlooks[0].share_read == pytest.approx([0.3], rel=1e-3)


def test_before_the_first_call_only_what_is_set_is_told() -> None:
    assert sampled_clause(SampledSignals(0.125, None, None)) == (
        "labels are read off 12 % of the app's conversations"
    )
    assert "off 0.5 % of" in sampled_clause(SampledSignals(0.005, None, None))
    assert "off 99.5 % of" in sampled_clause(SampledSignals(0.995, None, None))
    assert "off < 0.1 % of" in sampled_clause(SampledSignals(0.0001, None, None))
    assert sampled_clause(None) == ""


def test_a_task_of_which_labels_are_left_out_says_so_on_every_face() -> None:
    sampled = SampledSignals(0.2, None, 0.21)
    line = replace(pages.DEMO_DETAIL.line, sampled=sampled)
    page = replace(pages.DEMO, tasks=(line, *pages.DEMO.tasks[1:]))

    lines = detail_lines(replace(pages.DEMO_DETAIL, line=line))

    said = " ".join(map(str.strip, lines))
    assert f"by 12,400 tool-call checks and 210 thumbs {sampled_clause(sampled)}" in said
    assert max(map(len, lines)) <= 80
    words = Read(page_html(page)).words.replace("\u00a0", " ")
    assert f"210 thumbs; {sampled_clause(sampled)}" in words
    assert asdict(page)["tasks"][0]["sampled"]["calls_read"] == 0.21
