"""Tasks that come with the sidecar, rules by exemplars, and a complexity that structure says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_leaves import compiled

from router.classify.starters import starter_prompts
from router.config.compiled import Configuration
from router.config.entries import File
from router.config.exemplars import ENOUGH, warn_of_exemplars
from router.config.file import parse
from router.config.levels import Complexity
from router.decision.ruling import task_of
from router.decision.said import SessionSaid
from router.dialects.request import Structure
from router.policy.callers import Caller
from router.policy.complexity import HARD_TOOLS, complexity_of
from router.policy.tasks import FoundBy, Task

LAW = [
    f"You are the legal counsel of firm {word}, who reviews contracts, clauses and indemnities"
    for word in ("oak", "elm", "ash", "fir", "yew", "box", "bay", "gum", "fig", "nut", "hay", "rye")
]
SHOP = [
    f"You are the shop assistant of store {word}, who answers about orders, parcels and refunds"
    for word in ("oak", "elm", "ash", "fir", "yew", "box", "bay", "gum", "fig", "nut", "hay", "rye")
]
STARTERS = compiled({"chat": None}, starter_tasks=True)
LIKE = compiled({"law": {"match": {"like": LAW}}, "shop": {"match": {"like": SHOP}}})


def found(of: Configuration, *, said: dict[str, Any] | None = None, **structure: Any) -> Task:
    """The task of a call of this structure."""

    def read(*, read_system: bool) -> Structure:
        own = Structure(**structure)
        return own if read_system else Structure(own.tools, own.has_schema, own.has_image)

    return task_of(of, Caller(of.apps["default"], ()), None, read, **(said or {}))


def tools(n: int) -> tuple[str, ...]:
    return tuple(f"tool_{i}" for i in range(n))


@pytest.mark.parametrize(
    ("structure", "task"),
    [
        ({"has_image": True, "has_schema": True, "tools": tools(9)}, "vision"),
        ({"has_schema": True}, "extract"),
        ({"tools": tools(1)}, "tools/simple"),
        ({"tools": tools(5)}, "tools/simple"),
        ({"tools": tools(6)}, "tools/complex"),
        ({}, "general"),
    ],
)
def test_structure_finds_starter_tasks_in_their_order(structure: dict[str, Any], task: str) -> None:
    name = found(STARTERS, **structure).name

    assert name.removesuffix("/easy").removesuffix("/normal").removesuffix("/hard") == task


def test_there_are_none_unless_the_file_asks_for_them() -> None:
    of = compiled({"chat": None})

    assert set(of.tasks) - of.implied == {"chat", "general"}
    assert of.rules == ()
    assert not of.prompts.tell_apart
    assert [name for name, _ in STARTERS.rules] == [
        *("code", "vision", "extract", "maths", "prose", "tools/complex", "tools/simple")
    ]


def test_own_rules_go_first_and_a_written_task_replaces_the_starter() -> None:
    of = compiled(
        {"extract": {"match": {"image": True}}, "sums": {"match": {"tools": True}}, "code": None},
        starter_tasks=True,
    )

    assert found(of, has_image=True).name == "extract/easy"
    assert found(of, has_schema=True).name == "general"
    assert found(of, tools=tools(20)).name == "sums/hard"
    assert "code" not in dict(of.rules)
    assert "code" not in of.prompts.texts


@pytest.mark.parametrize("written", ["tools", "tools/search"])
def test_where_tools_are_written_no_starter_of_tools_is_beside_them(written: str) -> None:
    of = compiled({written: None}, starter_tasks=True)

    assert "tools/simple" not in of.tasks
    assert found(of, tools=tools(3)).name == "general"


def test_a_leaf_that_is_written_stands_below_its_starter() -> None:
    of = compiled({"code/review": {"match": {"tools": ["post_review"]}}}, starter_tasks=True)

    assert found(of, tools=("post_review",)).name == "code/review"
    assert "code" in dict(of.rules)


def test_names_of_starters_may_be_said_and_configured() -> None:
    of = compiled(
        {},
        starter_tasks=True,
        roles={"seer": {"tasks": ["vision"]}},
        apps={
            "default": {
                **{"mode": "route", "strategies": {"tools/simple": "cheapest"}},
                "keys": [{"key": f"sha256:{'a' * 64}", "task": "maths"}],
            }
        },
    )

    assert found(of, said={"hint": "prose"}).found_by is FoundBy.HINT
    assert [one.task for one in of.key_holders.values()] == ["maths"]


# -- exemplars of system prompts ------------------------------------------------------------------


def test_what_a_system_prompt_looks_like_marks_its_task_and_says_so() -> None:
    task = found(LIKE, system=LAW[3].replace("fir", "cedar"))

    assert (task.name, task.found_by, task.of_session) == ("law", FoundBy.EXEMPLARS, "law")
    assert found(LIKE, system=SHOP[0]).name == "shop"
    assert found(LIKE, system="").name == "general"
    assert found(LIKE, system="Guten Tag").name == "general"


def test_every_part_of_a_rule_must_hold_beside_what_it_is_to_look_like() -> None:
    of = compiled(
        {"law": {"match": {"like": LAW, "min_tools": 2}}, "shop": {"match": {"like": SHOP}}}
    )

    assert found(of, system=LAW[0], tools=tools(1)).name == "general"
    assert found(of, system=LAW[0], tools=tools(2)).name == "law"


def test_a_system_prompt_is_looked_at_once_whatever_comes_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of = compiled({"law": {"match": {"like": LAW}}, "shop": {"match": {"like": SHOP}}})
    asked = []
    task_of_text = of.systems.task_of
    monkeypatch.setattr(
        of.systems, "task_of", lambda text: (asked.append(1), task_of_text(text))[1]
    )

    names = [found(of, system=text).name for text in (LAW[0], "hello", LAW[0], "hello")]

    assert names == ["law", "general", "law", "general"]
    assert len(asked) == 2


def test_nothing_reads_the_system_prompt_unless_a_rule_needs_it() -> None:
    assert compiled({"a": {"match": {"min_tools": 3}}}).reads_system is False
    assert LIKE.reads_system is STARTERS.reads_system is True


# -- complexity -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("structure", "complexity"),
    [
        (Structure(), "easy"),
        (Structure(has_schema=True), "normal"),
        (Structure(tools=tools(1)), "normal"),
        (Structure(tools=tools(HARD_TOOLS - 1)), "normal"),
        (Structure(tools=tools(HARD_TOOLS)), "hard"),
        (Structure(tools=tools(1), has_schema=True), "hard"),
    ],
)
def test_tools_and_schema_say_how_complex_a_call_is(structure: Structure, complexity: str) -> None:
    assert complexity_of(structure) == complexity


def test_structure_says_it_of_marked_tasks_where_nobody_does() -> None:
    assert found(STARTERS, has_schema=True).name == "extract/normal"
    assert found(STARTERS, has_schema=True, tools=("x",)).name == "extract/hard"
    assert found(STARTERS, has_schema=True, said={"complexity": "easy"}).name == "extract/easy"
    assert found(STARTERS, tools=("x",)).name == "tools/simple", "it has leaves of its own"
    assert found(STARTERS, said={"hint": "extract"}).name == "extract", "as the call says"
    assert found(STARTERS).name == "general", "of which structure says nothing"
    assert found(compiled({"extract": {"match": {"schema": True}}}), has_schema=True).name == (
        "extract"
    )


def test_in_a_session_the_complexity_of_its_first_call_stays() -> None:
    first = found(STARTERS, has_schema=True, tools=tools(9))
    assert first.of_session == "extract/hard"

    later = {"session": SessionSaid(task=first.of_session)}
    assert found(STARTERS, said=later).name == "extract/hard"
    assert found(STARTERS, has_schema=True, said=later).name == "extract/hard"
    said = found(STARTERS, said={**later, "complexity": "easy"})
    assert (said.name, said.warning) == ("extract/easy", None)


@given(st.text(max_size=40), st.integers(0, 12), st.booleans(), st.booleans())
def test_a_task_is_one_of_the_configurations_whatever_the_structure(
    system: str, n: int, has_schema: bool, has_image: bool
) -> None:
    task = found(
        STARTERS, system=system, tools=tools(n), has_schema=has_schema, has_image=has_image
    )

    assert task.name in STARTERS.tasks
    assert task.warning is None
    assert task == found(
        STARTERS, system=system, tools=tools(n), has_schema=has_schema, has_image=has_image
    )
    assert task.name.rpartition("/")[2] in (*Complexity, *STARTERS.tasks, "simple", "complex")


# -- check ----------------------------------------------------------------------------------------


def warnings(more: str) -> list[str]:
    text = f"endpoints: [{{id: a, model: a, base_url: 'http://127.0.0.1:1'}}]\n{more}"
    entries: File = parse(text, file="x", secrets=False)
    return list(warn_of_exemplars(entries))


def test_too_few_exemplars_are_told() -> None:
    texts = [f"text {i}" for i in range(ENOUGH)]
    two = f"tasks: {{a: {{exemplars: [x]}}, b: {{match: {{like: {texts}}}, exemplars: {texts}}}}}"

    alone, few = warnings(two)

    assert few.startswith("tasks.a.exemplars: 1 of the 10 exemplars")
    assert alone.startswith("tasks.b.match.like: one task alone is told from nothing")
    assert len(warnings(f"starter_tasks: true\n{two}")) == 1


def test_exemplars_of_two_tasks_at_once_are_told() -> None:
    same = starter_prompts()["code"][0]
    own = f"starter_tasks: true\ntasks: {{mine: {{exemplars: [{json.dumps(same)}]}}}}"

    (told,) = [line for line in warnings(own) if line.startswith("exemplars: ")]
    assert told.endswith(
        "mine and code have it; give it to one of them, or they are told apart less"
    )


def test_a_starter_that_is_replaced_by_what_nothing_marks_is_told() -> None:
    (line,) = warnings("starter_tasks: true\ntasks: {code: {strategy: cheapest}, own: null}")

    assert line.startswith("tasks.code: it replaces the starter task code, and nothing marks it")


def test_a_classifier_that_cannot_route_is_told() -> None:
    route = "apps: {default: {mode: route, classify: route%s}}"

    (nothing,) = warnings(route % "")
    (locked,) = warnings("starter_tasks: true\n" + route % ", locked: true")
    (said,) = warnings("starter_tasks: true\n" + route % ", task: prose")

    assert "no two tasks have exemplars" in nothing
    assert "it only suggests" in locked
    assert "every call is of task prose" in said
    assert warnings("starter_tasks: true\n" + route % "") == []


# -- what is shipped ------------------------------------------------------------------------------

REVIEWER = (
    "You are a senior software engineer. You review pull requests, find bugs and write unit tests "
    "in the repository's language, and you never commit code that does not compile."
)
TUTOR = (
    "You are a mathematics tutor. Solve equations and integrals step by step, prove each theorem "
    "you use, and give the final answer in LaTeX."
)
EDITOR = (
    "You are an editor and copywriter. Rewrite paragraphs in clear prose, fix tone and style, and "
    "draft articles, blog posts and letters for the reader."
)


@pytest.mark.parametrize(
    ("system", "names", "task"),
    [
        (REVIEWER, (), "code/easy"),
        (REVIEWER, ("read_file", "edit_file", "run_tests"), "code/normal"),
        ("", ("Bash", "Read", "Edit", "Write", "Glob", "Grep", "Task", "TodoWrite"), "code/hard"),
        (TUTOR, (), "maths/easy"),
        (EDITOR, (), "prose/easy"),
        ("You are a helpful assistant.", (), "general"),
        ("You are a helpful assistant.", ("get_weather",), "tools/simple"),
    ],
)
def test_shipped_exemplars_know_code_mathematics_and_prose(
    system: str, names: tuple[str, ...], task: str
) -> None:
    pytest.importorskip("router.classify.teaching")

    assert found(STARTERS, system=system, tools=names).name == task
