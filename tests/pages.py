"""Pages to show: nothing yet, a day of the demo, a big house, everything off or broken, hostile."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass, replace
from typing import Any

from bandit.compared import Measure
from bandit.report import (
    ChangeKind,
    ChangeLine,
    FoldedTasks,
    Interval,
    Page,
    PageTrouble,
    RouterLine,
    Savings,
    Signal,
    SpendLine,
    TaskLine,
    TaskWord,
    VerdictLine,
)
from bandit.task_detail import EndpointLine, TaskDetail, latency_curve, quality_curve
from bandit.verdict import Basis, Difference, Verdict, VerdictKind

NOW_MS = 1_764_513_000_000  # 2025-11-30 14:30 UTC
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
LABELS = (Signal("tool-call checks", 12_400), Signal("thumbs", 210))
MARKUP = "<script>alert(1)</script><b onmouseover='x()'>\"&amp;{{ 7*7 }}{% raw %}"
ANSI = "\x1b[31mred\x1b[0m\x1b]8;;http://evil.example\x07link\x1b]8;;\x07\x9b2J\x07\r\x00"
LINES = "one\ntwo\r\nthree\u2028four\u2029five\x0bsix\tseven"
RIGHT_TO_LEFT = "\u202eevil\u202c \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u2066x"
WORD = "unbreakably" * 30
HOSTILE = f"{MARKUP} {ANSI} {LINES} {RIGHT_TO_LEFT} {WORD} [bold]rich[/bold] [link=x]"
"""All that a label, a model's name or an error may hold, in one text."""

NOTHING = Verdict(kind=VerdictKind.NOT_SHOWN, basis=Basis.NOTHING, at_ms=NOW_MS)
GAINS = Verdict(
    kind=VerdictKind.GAINS,
    basis=Basis.TRIAL,
    differences=(
        Difference(Measure.QUALITY, 0.031, 0.012, 0.050, True),
        Difference(Measure.COST_PER_SUCCESS, -0.38, -0.44, -0.31, False),
    ),
    units=(2_104, 2_088),
    labelled=(6_210, 6_190),
    checked=0.029,
    at_ms=NOW_MS,
)
KEEP = Verdict(
    kind=VerdictKind.KEEP,
    basis=Basis.HOLDOUT,
    differences=(Difference(Measure.UTILITY, -0.004, -0.011, 0.003, True),),
    units=(902, 30_118),
    labelled=(880, 29_400),
    at_ms=NOW_MS,
)
TRADE = Verdict(
    kind=VerdictKind.TRADE,
    basis=Basis.TRIAL,
    differences=(
        Difference(Measure.QUALITY, 0.024, 0.009, 0.039, True),
        Difference(Measure.COST_PER_SUCCESS, 0.21, 0.14, 0.29, False),
        Difference(Measure.WALL_TIME, -0.05, -0.12, 0.02, False),
    ),
    units=(640, 655),
    labelled=(640, 655),
    at_ms=NOW_MS,
)
NOT_SHOWN = Verdict(
    kind=VerdictKind.NOT_SHOWN,
    basis=Basis.TRIAL,
    differences=(Difference(Measure.QUALITY, 0.012, -0.018, 0.042, True),),
    units=(410, 398),
    labelled=(350, 341),
    needed=1_400,
    at_ms=NOW_MS,
)


def _task(task: str, word: TaskWord, **more: Any) -> TaskLine:
    """Return a task's line; what `more` leaves out is known, and ordinary."""
    usual: dict[str, Any] = {
        "app": "shop",
        "strategy": "best_value",
        "role": "",
        "current": "deepinfra/llama-3.3-70b",
        "incumbent": "openai/gpt-4.1",
        "quality": Interval(0.021, 0.004, 0.038),
        "cost_per_success_usd": 0.00084,
        "incumbent_cost_per_success_usd": 0.00412,
        "spent_usd": 1.52,
        "calls": 1_810,
        "signals": LABELS,
    }
    return TaskLine(task=task, word=word, **(usual | more))


EMPTY = Page(
    at_ms=NOW_MS,
    since_ms=NOW_MS - 7 * DAY_MS,
    scope="all apps, 7 days",
    sentences=(
        VerdictLine(
            text="Not shown yet: no call was routed.",
            verdict=NOTHING,
            advice="pointsman demo",
        ),
    ),
    routers=(RouterLine("127.0.0.1:4100", "0.9.0", "4be1c09a77d2", NOW_MS, True),),
    notes=("no calls since 23 November: point a client at http://127.0.0.1:4100/v1",),
)

DEMO = Page(
    at_ms=NOW_MS,
    since_ms=NOW_MS - DAY_MS,
    scope="all apps, 1 day",
    sentences=(
        VerdictLine(
            text="In chat.support deepinfra/llama-3.3-70b gains 3.1 pp [1.2, 5.0] in quality "
            "against openai/gpt-4.1, at 38 % [31, 44] less per success (trial: 2,088 sessions "
            "against 2,104).",
            verdict=GAINS,
            signals=LABELS,
        ),
        VerdictLine(
            text="App batch: not shown yet, about 1,400 sessions more (trial: 398 sessions against "
            "410).",
            verdict=NOT_SHOWN,
            signals=(Signal("thumbs", 691),),
            advice="pointsman trial extract --app batch",
        ),
    ),
    tasks=(
        _task("chat.support", TaskWord.PROVEN, verdict=GAINS, spent_usd=4.81, calls=5_204),
        _task(
            "code.review",
            TaskWord.MOVED,
            role="coder",
            current="anthropic/claude-sonnet-4",
            why="released 29 November",
            quality=Interval(0.052, 0.018, 0.086),
            cost_per_success_usd=0.0131,
            incumbent_cost_per_success_usd=0.0118,
            spent_usd=3.06,
            calls=244,
        ),
        _task(
            "extract",
            TaskWord.LEARNING,
            app="batch",
            current="openai/gpt-4.1",
            why="a trial runs until 12 December",
            quality=Interval(0.012, -0.018, 0.042),
            verdict=NOT_SHOWN,
            spent_usd=1.40,
            signals=(Signal("thumbs", 691),),
        ),
        _task(
            "summarise",
            TaskWord.NO_SIGNAL,
            current="openai/gpt-4.1",
            why="nobody says what was good",
            quality=None,
            cost_per_success_usd=None,
            incumbent_cost_per_success_usd=None,
            spent_usd=0.62,
            calls=1_015,
            signals=(),
        ),
        _task(
            "translate",
            TaskWord.PINNED,
            app="legal",
            current="openai/gpt-4.1",
            why="app legal pins it",
            quality=None,
            cost_per_success_usd=0.0042,
            spent_usd=0.21,
            calls=48,
            signals=(Signal("thumbs", 12),),
        ),
    ),
    changes=(
        ChangeLine(
            at_ms=NOW_MS - 2 * HOUR_MS,
            kind=ChangeKind.RELEASE,
            subject="chat.support",
            text="openai/gpt-4.1 → deepinfra/llama-3.3-70b, quality +3.1 pp [1.2, 5.0]",
            reason="P(better) .98 by 12,400 tool-call checks and 210 thumbs",
            undo="pointsman release undo 3fa9c1d2",
            id="3fa9c1d2",
            app="shop",
        ),
        ChangeLine(
            at_ms=NOW_MS - 5 * HOUR_MS,
            kind=ChangeKind.PROPOSAL,
            subject="translate",
            text="openai/gpt-4.1 → mistral/mistral-medium waits for a yes",
            reason="P(better) .93 by 1,204 thumbs",
            undo="pointsman release accept 91b7aa04",
            id="91b7aa04",
            app="legal",
        ),
        ChangeLine(
            at_ms=NOW_MS - 9 * HOUR_MS,
            kind=ChangeKind.DRIFT,
            subject="mistral/mistral-medium",
            text="quality .91 → .78 in code.review",
            reason="its answers changed at about 05:10",
        ),
        ChangeLine(
            at_ms=NOW_MS - 20 * HOUR_MS,
            kind=ChangeKind.PRICE,
            subject="deepinfra/llama-3.3-70b",
            text="output $0.40 → $0.35 per million tokens",
            reason="catalog of 29 November",
        ),
        ChangeLine(
            at_ms=NOW_MS - 23 * HOUR_MS,
            kind=ChangeKind.TRIAL,
            subject="extract",
            text="openai/gpt-4.1 against groq/llama-3.1-8b at ½ each until 12 December",
            undo="pointsman trial stop k3v9q2m4x7ab",
            app="batch",
        ),
    ),
    spent_usd=10.10,
    unpriced_calls=17,
    calls=8_321,
    budgets=(
        SpendLine("app shop", 7.87, 10.0, "usd", "day"),
        SpendLine("exploring", 0.41, 2.0, "usd", "day", "3 % of calls"),
    ),
    savings=Savings(Interval(5.93, 4.71, 7.12)),
    troubles=(
        PageTrouble("deepinfra: wrong key", NOW_MS - HOUR_MS // 2, "set DEEPINFRA_API_KEY"),
        PageTrouble("openai/gpt-4.1: 2 of 40 answers broke off", is_urgent=False),
    ),
    routers=(
        RouterLine("10.0.0.4:4100-7f", "0.9.0", "4be1c09a77d2", NOW_MS, True),
        RouterLine("10.0.0.5:4100-c2", "0.9.0", "4be1c09a77d2", NOW_MS - 4_000),
    ),
)

_WORDS = tuple(TaskWord)
_KINDS = tuple(ChangeKind)


def _endpoint(i: int) -> str:
    """Return an endpoint's id, as long as they come."""
    return f"provider-{i % 11:02}/organisation-{i % 7}-large-language-model-{i:03}-instruct-fp8"


BIG = Page(
    at_ms=NOW_MS,
    since_ms=NOW_MS - 30 * DAY_MS,
    scope="all apps, 30 days",
    sentences=(
        VerdictLine(
            text="Not worth it here: keep openai/gpt-4.1 in app shop; routing differs by "
            "-0.4 % [-1.1, 0.3] of a success's value.",
            verdict=KEEP,
            signals=(Signal("tool-call checks", 1_240_000), Signal("tests", 98_221), *LABELS),
            advice="pointsman off",
        ),
        VerdictLine(
            text="App agents: a trade: +2.4 pp [0.9, 3.9] in quality for +21 % [14, 29] per "
            "success.",
            verdict=TRADE,
            signals=(Signal("completed episodes", 1_295),),
        ),
    ),
    tasks=tuple(
        _task(
            f"department-{i % 5}.kind-of-work-{i:02}",
            _WORDS[i % len(_WORDS)],
            app=f"application-{i % 4}",
            role=("", "planner", "coder")[i % 3],
            current=_endpoint(7 * i % 200),
            incumbent=_endpoint(0),
            why="" if i % 2 else "of its own labels there are few, so the app's others count",
            spent_usd=round(90_000 / (i + 1) ** 1.3, 2),
            calls=4_000_000 // (i + 1),
        )
        for i in range(12)
    ),
    folded=FoldedTasks(tasks=28, calls=812_004, spent_usd=9_120.55),
    changes=tuple(
        ChangeLine(
            at_ms=NOW_MS - i * 17 * HOUR_MS,
            kind=_KINDS[i % len(_KINDS)],
            subject=_endpoint(i),
            text=f"{_endpoint(i)} → {_endpoint(i + 1)}, quality +1.2 pp [0.4, 2.0]",
            reason="P(better) .95 by 31,077 tool-call checks",
            undo=f"pointsman release undo {i:08x}" if i % 3 == 0 else "",
            id=f"{i:08x}",
            app=f"application-{i % 4}",
        )
        for i in range(40)
    ),
    spent_usd=241_877.13,
    unpriced_calls=120_412,
    calls=31_004_118,
    budgets=tuple(
        SpendLine(f"app application-{i}", 900.0 * (i + 1), 4_000.0, "usd", "month")
        for i in range(9)
    ),
    savings=Savings(Interval(18_204.0, 9_911.0, 26_480.0)),
    troubles=tuple(
        PageTrouble(f"{_endpoint(i)}: rate limited", NOW_MS - i * HOUR_MS, "", i < 3)
        for i in range(12)
    ),
    routers=tuple(
        RouterLine(f"10.0.{i}.4:4100-{i:02x}", "0.9.0", "4be1c09a77d2", NOW_MS - i * 900, i == 0)
        for i in range(24)
    ),
)
"""200 endpoints × 40 tasks."""

BROKEN = Page(
    at_ms=NOW_MS,
    since_ms=NOW_MS - 7 * DAY_MS,
    scope="app shop, 7 days",
    sentences=(
        VerdictLine(
            text="Not shown yet: no trial runs while routing is off.",
            verdict=replace(NOTHING, basis=Basis.TRIAL, ended_ms=NOW_MS - 3 * HOUR_MS),
            advice="pointsman trial chat.support",
        ),
    ),
    tasks=tuple(
        _task(
            name,
            TaskWord.OFF,
            current="openai/gpt-4.1",
            quality=None,
            cost_per_success_usd=None,
            incumbent_cost_per_success_usd=None,
            spent_usd=0.0,
            calls=0,
            signals=(),
        )
        for name in ("chat.support", "code.review", "general")
    ),
    changes=(
        ChangeLine(
            at_ms=NOW_MS - 3 * HOUR_MS,
            kind=ChangeKind.SWITCH,
            subject="routing",
            text="off",
            reason="said by pointsman off",
            undo="pointsman on",
        ),
        ChangeLine(
            at_ms=NOW_MS - 4 * HOUR_MS,
            kind=ChangeKind.OUTAGE,
            subject="openai",
            text="no answer to 412 calls",
        ),
    ),
    unpriced_calls=9_120,
    calls=9_120,
    budgets=(
        SpendLine("app shop", 10.0, 10.0, "usd", "day", "spent since 10:12: calls are refused"),
        SpendLine("tokens", 0.0, 0.0, "tokens", "hour"),
    ),
    savings=Savings(None, "no call has a price"),
    troubles=(
        PageTrouble("the store is away", NOW_MS - 5 * HOUR_MS, "valkey://127.0.0.1:6379"),
        PageTrouble("the workers are away", NOW_MS - 5 * HOUR_MS, "pointsman up"),
        PageTrouble("the configuration on disk is refused: apps.shop.mode: 'rout'"),
        PageTrouble("app shop is defined differently by 10.0.0.4:4100-7f and 10.0.0.5:4100-c2"),
        PageTrouble("openai: no credit left", NOW_MS - 26 * HOUR_MS),
        PageTrouble("deepinfra: wrong key", NOW_MS - 27 * HOUR_MS, "set DEEPINFRA_API_KEY"),
    ),
    routers=(
        RouterLine("10.0.0.4:4100-7f", "0.9.0", "4be1c09a77d2", NOW_MS, True),
        RouterLine("10.0.0.5:4100-c2", "0.8.3", "91aa03c2e4f0", NOW_MS - 41_000),
    ),
    is_off=True,
    notes=("figures are as of 09:30: the store is away",),
)


def hostile(value: Any, text: str = HOSTILE) -> Any:
    """Return a page with `text` wherever anybody's words may stand."""
    if isinstance(value, tuple):
        return tuple(hostile(each, text) for each in value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    changed: dict[str, Any] = {}
    for field in fields(value):
        found = getattr(value, field.name)
        is_words = type(found) is str
        changed[field.name] = text if is_words and found else hostile(found, text)
    return replace(value, **changed)


SAMPLES: dict[str, Page] = {
    "empty": EMPTY,
    "demo": DEMO,
    "big": BIG,
    "broken": BROKEN,
    "hostile": hostile(DEMO),
}


def _line(name: str, quality: float, sd: float, seconds: float, share: float, **more: Any) -> Any:
    """Return an endpoint's line with its curves; `more` says what else is known of it."""
    n_days = 14
    usual: dict[str, Any] = {
        "quality": Interval(quality, max(quality - 1.645 * sd, 0), min(quality + 1.645 * sd, 1)),
        "p_best": share,
        "cost_per_success_usd": 0.0009 + seconds / 1000,
        "latency_p50_s": seconds,
        "latency_p95_s": 3.1 * seconds,
        "calls": int(5_204 * share),
        "labels": int(1_900 * share),
        "share": share,
        "is_inferred": False,
        "quality_curve": quality_curve(quality, sd),
        "latency_curve": latency_curve(math.log(seconds), 0.6, 40.0),
        "shares": tuple(
            None if day == 5 else min(max(share * (0.4 + day / n_days), 0), 1)
            for day in range(n_days)
        ),
    }
    return EndpointLine(endpoint=name, **(usual | more))


DEMO_DETAIL = TaskDetail(
    line=DEMO.tasks[0],
    endpoints=(
        _line("deepinfra/llama-3.3-70b", 0.921, 0.009, 1.2, 0.81, is_current=True),
        _line("anthropic/claude-sonnet-4", 0.917, 0.021, 3.4, 0.05),
        _line("openai/gpt-4.1", 0.890, 0.008, 2.2, 0.12, is_incumbent=True),
        _line(
            "mistral/mistral-medium",
            0.86,
            0.06,
            1.9,
            0.0,
            is_inferred=True,
            shares=(),
            latency_curve=None,
            latency_p50_s=None,
            latency_p95_s=None,
            p_best=0.08,
        ),
        _line("groq/llama-3.1-8b", 0.74, 0.018, 0.4, 0.02, note="suspended: tools"),
        EndpointLine("local/qwen3-8b", None, None, None, None, None, 0, 0, None, True),
    ),
    first_day_ms=NOW_MS - NOW_MS % DAY_MS - 13 * DAY_MS,
    signals=LABELS,
)
BIG_DETAIL = TaskDetail(
    line=BIG.tasks[0],
    endpoints=tuple(
        _line(_endpoint(i), 0.95 - i / 400, 0.01 + i / 4000, 0.5 + i / 50, 0.3 / (i + 1))
        for i in range(200)
    ),
    first_day_ms=NOW_MS - NOW_MS % DAY_MS - 13 * DAY_MS,
    signals=LABELS,
)
DETAILS: dict[str, tuple[TaskDetail, ...]] = {
    "empty": (),
    "demo": tuple(replace(DEMO_DETAIL, line=line) for line in DEMO.tasks),
    "big": tuple(replace(BIG_DETAIL, line=line) for line in BIG.tasks),
    "broken": (TaskDetail(BROKEN.tasks[0], ()),),
    "hostile": tuple(hostile(replace(DEMO_DETAIL, line=line)) for line in DEMO.tasks),
}
"""What opens below the tasks of each sample."""
