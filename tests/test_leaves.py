"""Leaves of tasks: by whom they decide, and when they begin to decide for themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import LEARN, ROUTED, Provider, Sidecar, endpoint, learning, serving

from bandit import cells
from bandit.cells import Terms
from bandit.derived import calibrate
from bandit.families import N_COLUMNS, B, Family, Q, U
from router.beliefs import reviews
from router.beliefs.beliefs import Beliefs, believe
from router.beliefs.kept import Kept, ReviewKey
from router.beliefs.outlooks import tasks_of
from router.beliefs.review_keys import known_review_keys
from router.config.compiled import Configuration, compile_text
from router.config.entries import MatchEntry
from router.config.levels import level_problem, with_parents
from router.demo.run import with_flat_tasks
from router.dialects.request import Structure
from router.errors import ConfigError
from router.policy.tasks import FoundBy, categorize
from router.report.leaves import leaf_lines, leaf_rows
from telemetry.digests import digest8
from telemetry.recorded import synthetic
from telemetry.store import Address

NOW_MS = int(time.time() * 1000)
WEEK_MS = 7 * 86_400_000
KEY = ReviewKey("default", "quality", "", "a")


def compiled(tasks: dict[str, Any] | None = None, **more: Any) -> Configuration:
    value: dict[str, Any] = {
        "endpoints": [
            {"id": name, "model": name, "base_url": f"http://127.0.0.1:1/{name}"} for name in "abc"
        ],
        "tasks": {"code": None, "chat": None} if tasks is None else tasks,
        "apps": {"default": {"mode": "route", "strategy": "quality"}},
    }
    return compile_text(yaml.safe_dump({**value, **more}, sort_keys=False), file="test.yaml")


ABC = compiled()


def calls(
    of: Configuration,
    counts: list[tuple[str, str, int, float]],
    *,
    app: str = "default",
    review_key: ReviewKey = KEY,
    labelled: bool = True,
) -> Terms:
    """Rows of calls that are `(task, endpoint, n, mean reward)`, as if just folded."""
    parts = []
    for task, name, n, mean in counts:
        quality, usage, books = (np.zeros((n, N_COLUMNS)) for _ in range(3))
        reward = (np.arange(n) < round(mean * n)).astype(float)
        quality[:, [Q.LABELS, Q.N]], usage[:, U.CALLS], books[:, B.CALLS] = 1, 1, 1
        quality[:, Q.R] = quality[:, Q.R2] = books[:, B.REWARD] = reward
        books[:, B.LABELLED] = 1
        category = of.apps[app].categories[task]
        [release_key] = review_key.release_keys([task])
        kinds = [(Family.USAGE, category, usage), (Family.BOOKS, release_key, books)]
        for family, digest, columns in [*kinds, (Family.QUALITY, category, quality)]:
            if family is Family.QUALITY and not labelled:
                continue
            parts.append(
                cells.terms(
                    family,
                    category=np.full(n, digest, dtype=np.uint64),
                    endpoint=np.full(n, of.catalog.by_id[name].digest, dtype=np.uint64),
                    at_ms=np.full(n, NOW_MS),
                    columns=columns,
                )
            )
    return cells.merge(parts)


def told(rows: Terms, of: Configuration = ABC, kept: Kept | None = None) -> Beliefs:
    known = {kept.review_key: kept} if kept else {}
    keys = known_review_keys(of, known)
    return believe(of, rows, version=1, review_keys=keys, kept=known, now_ms=NOW_MS)


def law(beliefs: Beliefs, task: str, key: ReviewKey = KEY) -> Any:
    app = beliefs.configuration.apps[key.app]
    return beliefs.choices[key].laws[beliefs.row(app, task)]


def quality(beliefs: Beliefs, task: str, app: str = "default") -> list[float]:
    found = beliefs.configuration.apps[app]
    category = beliefs.category(found, beliefs.row(found, task))
    return [float(mean) for mean in beliefs.quality_mean[category]]


def test_what_is_known_of_keys_tells_beliefs_nothing_of_their_values() -> None:
    """Whatever is remembered of rows' keys: other values under them are believed as if alone."""
    rng = np.random.default_rng(1)
    of = compiled({"code": None, "code/review": None})
    first = calls(of, [(t, e, 60, 0.5) for t in ("code", "code/review") for e in "abc"])
    seen = set()
    for _ in range(4):
        rows = first.of_same_keys(first.values * rng.integers(0, 3, (len(first.keys), 1)))
        found, alone = told(rows, of), told(Terms(rows.keys, rows.values), of)
        for a, b in zip(found.outlooks, alone.outlooks, strict=True):
            assert np.array_equal(a.signals, b.signals)
            worth = calibrate(a.posterior.evidence.derived).worth
            assert np.array_equal(a.posterior.calibration.worth, worth)
            for part in ("quality", "usage", "latency", "reliability", "derived", "chains"):
                assert np.array_equal(getattr(a.evidence, part), getattr(b.evidence, part))
        assert np.array_equal(found.quality_mean, alone.quality_mean)
        assert found.leaves == alone.leaves
        seen.add(found.leaves)
    assert len(seen) > 1


# -- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("code/review/tests", "write code/review-tests"),
        ("code/", "write code"),
        ("code//tests", "write code/tests"),
        ("a/b/c/d", "write a/b-c-d"),
    ],
)
def test_more_than_two_levels_are_an_error_that_says_what_to_write(name: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compiled({name: None})

    [problem] = caught.value.problems
    assert problem.hint.endswith(fix)
    assert level_problem(fix.removeprefix("write ")) is None


def test_what_a_leaf_is_below_is_there_where_it_is_not_written() -> None:
    of = compiled({"code/review": None, "code/fix": None, "chat": None})

    assert list(of.task_index) == ["code", "chat", "general"]
    assert {"code", "code/review", "code/fix", "chat"} <= set(of.tasks)
    assert with_parents(["x", "code/fix", "code"]) == ["x", "code/fix", "code"]


def test_rules_of_leaves_are_looked_at_before_those_above_them() -> None:
    any_tool, review = {"match": {"tools": True}}, {"match": {"tools": ["review"]}}
    of = compiled({"use": any_tool, "code": any_tool, "code/review": review})

    def found(*tools: str) -> tuple[str, FoundBy]:
        task = categorize((), Structure(tools=tools), tasks=of.tasks, rules=of.rules)
        return task.name, task.found_by

    assert found("review", "x") == ("code/review", FoundBy.RULE)
    assert found("x") == ("use", FoundBy.RULE)
    assert found() == ("general", FoundBy.GENERAL)


ORDER = [by for by in FoundBy if by not in (FoundBy.RULE, FoundBy.GENERAL)]


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_the_first_that_says_anything_decides_and_is_named(first: int) -> None:
    tasks = {by.value: None for by in ORDER} | {"general": None}
    said = [(by, by.value if i >= first else None) for i, by in enumerate(ORDER)]

    found = categorize(said, Structure(), tasks=tasks, rules=(("chat", MatchEntry()),))

    assert (found.name, found.found_by) == (ORDER[first].value, ORDER[first])


def test_an_unknown_hint_is_served_as_general_and_other_unknown_words_are_passed_over() -> None:
    said = ((FoundBy.SESSION, "gone"), (FoundBy.APP, "code"))

    hinted = categorize(((FoundBy.HINT, "gone"), *said), Structure(), tasks=ABC.tasks, rules=())
    other = categorize(said, Structure(), tasks=ABC.tasks, rules=())

    assert (hinted.name, hinted.found_by) == ("general", FoundBy.GENERAL)
    assert "gone" in (hinted.warning or "")
    assert (other.name, other.found_by, other.warning) == ("code", FoundBy.APP, None)


@pytest.mark.parametrize(
    ("tasks", "task", "complexity", "becomes", "warned"),
    [
        ({"code": None}, "code", "hard", "code/hard", False),
        ({"code": None}, "general", "easy", "general/easy", False),
        ({"code": None}, "code", None, "code", False),
        ({"code": None}, "code", "huge", "code", True),
        ({"code/review": None}, "code", "hard", "code", True),
        ({"code/review": None}, "code/review", "hard", "code/review", True),
        ({"code/review": None, "code/hard": None}, "code", "hard", "code/hard", False),
        ({"code/review": None, "code/hard": None}, "code", "easy", "code", True),
    ],
)
def test_complexity_is_the_second_level_where_there_is_no_other(
    tasks: dict[str, Any], task: str, complexity: str | None, becomes: str, warned: bool
) -> None:
    of = compiled(tasks)

    found = categorize(
        ((FoundBy.HINT, task),), Structure(), tasks=of.tasks, rules=(), complexity=complexity
    )

    assert (found.name, found.warning is not None) == (becomes, warned)
    assert found.found_by is FoundBy.HINT


def test_an_app_may_have_a_leaf_by_default_and_a_name_that_is_none_is_refused() -> None:
    app = {"mode": "route", "strategy": "quality"}

    assert compiled(apps={"default": {**app, "task": "code/hard"}}).apps
    with pytest.raises(ConfigError) as caught:
        compiled(apps={"default": {**app, "task": "code/hrd"}})
    assert "code/hard" in caught.value.problems[0].hint


# -- below evidence -----------------------------------------------------------------------------

ABOVE = [("code", "a", 100, 0.5), ("code", "b", 100, 0.9), ("chat", "a", 50, 0.5)]


def test_flat_tasks_are_believed_as_ever() -> None:
    """Their rows are read under the same digests, and nothing beside them."""
    found = told(calls(ABC, ABOVE))

    assert ABC.apps["default"].categories["code"] == digest8("task", "code")
    assert list(found.configuration.task_index) == ["code", "chat", "general"]
    assert found.configuration is ABC
    assert found.leaves == ()
    assert found.posterior.labels[0].tolist() == [100, 100, 0]


def test_a_leaf_without_labels_decides_as_what_is_above_it() -> None:
    found = told(calls(ABC, ABOVE))

    for leaf in ("code/easy", "code/hard"):
        assert found.row(ABC.apps["default"], leaf) == found.row(ABC.apps["default"], "code")
        assert law(found, leaf) is law(found, "code")


def test_what_a_leaf_has_is_counted_above_it_until_it_stands() -> None:
    """As if nobody had told the two apart."""
    leaf = [("code/hard", "a", 15, 0.2), ("code/hard", "c", 4, 0.5)]
    flat = [("code", name, n, mean) for _, name, n, mean in leaf]

    found, expected = told(calls(ABC, ABOVE + leaf)), told(calls(ABC, ABOVE + flat))

    assert list(found.configuration.task_index) == ["code", "chat", "general"]
    np.testing.assert_allclose(found.quality_mean, expected.quality_mean, rtol=1e-12)
    np.testing.assert_allclose(found.quality_sd, expected.quality_sd, rtol=1e-12)
    assert [(one.name, one.labels, one.stands) for one in found.leaves] == [
        ("code/hard", (19,), (False,))
    ]
    ours, theirs = found.choices[KEY], expected.choices[KEY]
    assert (ours.laws, ours.notes) == (theirs.laws, theirs.notes)
    assert ours.room == pytest.approx(theirs.room, rel=1e-9)


@pytest.mark.parametrize(
    ("labels", "stands"),
    [
        ([("a", 10), ("b", 10)], True),
        ([("a", 19), ("b", 1)], True),
        ([("a", 10), ("b", 9)], False),
        ([("a", 200)], False),
    ],
)
def test_it_takes_20_labels_of_two_groups_to_stand(
    labels: list[tuple[str, int]], stands: bool
) -> None:
    found = told(calls(ABC, [("code/hard", name, n, 0.5) for name, n in labels]))

    assert ("code/hard" in found.configuration.task_index) is stands
    assert found.leaves[0].stands == (stands,)


def test_a_change_of_an_endpoint_sends_no_leaf_back() -> None:
    """What its labels are worth changes, and not whether there were enough of them."""
    rows = calls(ABC, [("code/hard", "a", 12, 0.5), ("code/hard", "b", 12, 0.5)])
    old = rows.keys["endpoint"] == ABC.catalog.by_id["a"].digest
    rows.keys["regime"][old & cells.is_of(rows.keys, Family.QUALITY)] = 3

    assert told(rows).leaves[0].stands == (True,)


def test_a_leaf_that_stands_decides_by_its_own_and_still_counts_above_it() -> None:
    own = [("code/hard", "a", 200, 0.95), ("code/hard", "b", 200, 0.1)]
    found = told(calls(ABC, ABOVE + own))

    of_leaf, of_code = quality(found, "code/hard"), quality(found, "code")
    assert of_leaf[0] > of_leaf[1] + 0.5
    assert found.posterior.labels[found.row(ABC.apps["default"], "code")].tolist() == [300, 300, 0]
    flat = told(calls(ABC, ABOVE + [("code", name, n, mean) for _, name, n, mean in own]))
    assert of_code == pytest.approx(quality(flat, "code"), rel=1e-12), (
        "as if nobody had told the two apart"
    )
    assert quality(found, "code/easy") == of_code


def test_the_allowance_counts_each_call_once_whoever_stands() -> None:
    few = [*ABOVE, ("code/hard", "b", 9, 0.5), ("code/easy", "b", 7, 0.5)]
    many = [*ABOVE, ("code/hard", "b", 30, 0.5), ("code/hard", "a", 30, 0.5)]

    for made in (few, many):
        books = told(calls(ABC, made)).choices[KEY].books

        assert books.routed.sum() == sum(n for _, _, n, _ in made)
        assert books.labelled.sum() == sum(n for _, name, n, _ in made if name != "a")
    stands = told(calls(ABC, many))
    leaf = stands.row(ABC.apps["default"], "code/hard")
    assert stands.choices[KEY].books.routed[leaf] == 60


def test_a_leaf_that_stands_begins_where_what_is_above_it_stands_and_stays_there() -> None:
    stands = [("code/hard", "a", 20, 0.5), ("code/hard", "b", 20, 0.55)]
    before = Kept(KEY, 3, 0, {"code": "b"}, begun_at_ms=0)

    found = told(calls(ABC, ABOVE + stands), kept=before)
    assert law(found, "code/hard").current == ABC.catalog.by_id["b"].group

    # What is above it moves on; the leaf is not better off there.
    better = [*ABOVE, ("code", "c", 300, 1.0), *stands, ("code/hard", "c", 20, 0.1)]
    rows = calls(ABC, better)
    known = told(rows, kept=before)
    after, released = reviews.review(
        KEY,
        before,
        known.posterior,
        known.configuration,
        now_ms=WEEK_MS + 1,
        places=known.places[0],
    ) or (before, [])
    assert {r.task: r.after for r in released}.get("code") == "c"
    assert (after.current["code"], after.current["code/hard"]) == ("c", "b")


def test_what_is_unsettled_above_a_leaf_that_stands_is_the_incumbent_of_both() -> None:
    own = [("code/hard", "a", 99, 0.9), ("code/hard", "b", 99, 0.1), ("code/hard", "c", 30, 0.1)]
    rows = calls(ABC, [*ABOVE, ("code", "c", 900, 1.0), *own])
    known = told(rows)
    fresh = Kept(KEY, 0, 0, {}, begun_at_ms=0)

    after, released = reviews.review(
        KEY,
        fresh,
        known.posterior,
        known.configuration,
        now_ms=WEEK_MS + 1,
        places=known.places[0],
    ) or (fresh, [])

    moved = {r.task: r.after for r in released}
    assert moved["code"] == "c"
    assert "code/hard" not in moved
    assert after.current == {**moved, "code/hard": "a"}


def test_a_leaf_stands_for_those_whose_labels_suffice_and_for_nobody_else() -> None:
    apps = {
        "default": {"mode": "route", "strategy": "quality"},
        "other": {"mode": "route", "strategy": "quality", "learn": "own"},
    }
    of = compiled(apps=apps)
    key = ReviewKey("other", "quality", "", "a")
    own = [("code/hard", "a", 30, 0.2), ("code/hard", "b", 30, 0.9)]
    rows = calls(of, own, app="other", review_key=key)

    found = told(cells.merge([rows, calls(of, ABOVE)]), of)

    default, other = of.apps["default"], of.apps["other"]
    assert found.row(default, "code/hard") == found.row(default, "code")
    assert found.row(other, "code/hard") != found.row(other, "code")
    assert quality(found, "code/hard", "other")[1] > quality(found, "code/hard", "other")[0]
    assert [one.stands for one in found.leaves] == [(False, True)]
    # Nothing is released by a row that does not decide.
    due = reviews.review(
        KEY, None, found.posterior, found.configuration, now_ms=WEEK_MS, places=found.places[0]
    )
    assert due is None or all(notice.task != "code/hard" for notice in due[1])


def test_a_task_that_had_a_slash_in_its_name_decides_by_its_labels_as_before() -> None:
    """Its rows, its choice and its books are read under the names that they always had."""
    of = compiled({"law/search": None})
    rows = calls(of, [("law/search", "a", 40, 0.5), ("law/search", "b", 40, 0.9)])
    kept = Kept(KEY, 3, 0, {"law/search": "b"}, begun_at_ms=0)

    found = told(rows, of, kept)

    assert law(found, "law/search").current == of.catalog.by_id["b"].group
    row = found.row(of.apps["default"], "law/search")
    assert found.choices[KEY].books.routed[row] == 80
    assert found.posterior.labels[row].tolist() == [40, 40, 0]


def test_the_demo_compares_each_category_of_a_table_alone() -> None:
    table = replace(synthetic(), categories=["law/a", "law/a/b", "law-a", *"xyz"])

    names = with_flat_tasks(table).categories

    assert len(set(names)) == len(names)
    assert list(compiled(dict.fromkeys(names)).task_index) == [*names, "general"]


def test_labels_of_complexity_stay_when_a_task_gets_levels_of_its_own() -> None:
    rows = calls(ABC, [("code/hard", "a", 40, 0.5), ("code/hard", "b", 40, 0.5)])
    after = compiled({"code": None, "code/review": None, "chat": None})

    found = told(rows, after)

    assert list(found.configuration.task_index) == ["code", "chat", "general"]
    assert found.posterior.labels[0].tolist() == [40, 40, 0]
    assert "code/hard" in tasks_of(after).values()


def test_the_report_shows_both_levels() -> None:
    rows = [("code/hard", "a", 7, 0.5), ("code/easy", "a", 20, 0.5), ("code/easy", "b", 11, 0.5)]
    found = leaf_rows(told(calls(ABC, rows)))

    assert [(r["task"], r["uses"], r["labels"], r["calls"]) for r in found] == [
        ("code/easy", None, 31, 31),
        ("code/hard", "code", 7, 7),
    ]
    assert leaf_lines(found) == ["code/hard uses code: 7 of 20 labels, 7 calls"]


# -- calls --------------------------------------------------------------------------------------


@pytest.fixture
def whole(provider: Provider, state_dir: Path, address: Address) -> Iterator[Sidecar]:
    value = {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "tasks": {"code": None, "law/search": None},
        "strategies": LEARN,
        "apps": ROUTED,
    }
    with serving(value, state_dir, address) as found, learning(state_dir, address):
        yield found


def foreseen(sidecar: Sidecar, **headers: str) -> dict[str, Any]:
    body = {"model": "auto/code", "messages": [{"role": "user", "content": "x"}]}
    named = {f"x-router-{name}": value for name, value in headers.items()}
    return dict(sidecar.http.post("/v1/router/decide", json=body, headers=named).json())


def teach(sidecar: Sidecar, n: int, complexity: str | None, **passed: bool) -> None:
    for name, is_good in passed.items():
        for _ in range(n):
            headers = {"x-router-task": "code"}
            if complexity:
                headers["x-router-complexity"] = complexity
            got = sidecar.chat(name, headers=headers)
            sidecar.feedback(decision_id=got.headers["x-router-decision-id"], passed=is_good)


def test_a_leaf_decides_as_what_is_above_it_and_with_20_labels_by_its_own(whole: Sidecar) -> None:
    teach(whole, 30, None, a=True, b=False)
    teach(whole, 4, "hard", a=False, b=True)
    whole.until(lambda: whole.labels_known() == 68)

    code, hard = foreseen(whole), foreseen(whole, complexity="hard")
    assert (hard["task"], hard["decided_by"]) == ("code/hard", "code")
    assert hard["propensities"] == code["propensities"]
    assert hard["propensities"]["a"] > 0.9
    shown = whole.http.get("/v1/router/posteriors").json()
    assert [(r["task"], r["uses"], r["labels"], r["needs"]) for r in shown["leaves"]] == [
        ("code/hard", "code", 8, 20)
    ]

    teach(whole, 16, "hard", a=False, b=True)
    whole.until(lambda: foreseen(whole, complexity="hard")["decided_by"] == "code/hard")
    whole.until(lambda: int(whole.app.keeper.current.posterior.labels[0].sum()) == 100)
    assert foreseen(whole, complexity="hard")["propensities"]["b"] > 0.8
    assert foreseen(whole, complexity="easy")["decided_by"] == "code"


def test_what_a_call_says_of_its_complexity_is_its_second_level(whole: Sidecar) -> None:
    by_header = whole.chat("auto/code", headers={"x-router-complexity": "hard"})
    in_body = whole.chat("auto", router={"task": "code", "complexity": "easy"})
    unknown = whole.chat("auto/code", headers={"x-router-complexity": "awful"})
    divided = whole.chat("auto/law", headers={"x-router-complexity": "hard"})
    leaf = whole.chat("auto/law/search")

    answers = (by_header, in_body, unknown, divided, leaf)
    assert [got.headers["x-router-task"] for got in answers] == [
        "code/hard",
        "code/easy",
        "code",
        "law",
        "law/search",
    ]
    assert [("x-router-warning" in got.headers) for got in answers] == [
        False,
        False,
        True,
        True,
        False,
    ]
    assert {got.headers["x-router-task-found-by"] for got in answers} == {"hint"}
    assert whole.chat("auto").headers["x-router-task-found-by"] == "general"
    names = [model["id"] for model in whole.http.get("/v1/models").json()["data"]]
    assert {"auto/code", "auto/law", "auto/law/search"} <= set(names)
    assert "auto/code/hard" not in names
