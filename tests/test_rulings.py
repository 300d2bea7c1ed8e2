"""What is remembered of what holds for calls is what would be worked out anew, whatever is said."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from router.config.compiled import Configuration, compile_text
from router.decision import rulings
from router.decision.ruling import Ruling, work_out
from router.decision.rulings import MAX_KINDS, Rulings, ruled
from router.decision.said import NOTHING_SAID, SessionKinds
from router.dialects.request import NOTHING_DECLARED, Structure
from router.errors import RequestRejected
from router.policy.callers import Caller
from router.policy.hints import read_hints
from router.policy.tasks import FoundBy, Task


def digest(key: str) -> str:
    return f"sha256:{sha256(key.encode()).hexdigest()}"


KEY = {"key": digest("1"), "task": "extract"}


def compiled(**more: Any) -> Configuration:
    """Two apps, roles, users, and rules that look at tools, schemas and system prompts."""
    models = {"a": "internal", "b": "confidential", "c": "restricted"}
    value = {
        "endpoints": [
            {"id": i, "model": f"m{i}", "base_url": "http://h.test/v1", "max_data_class": kind}
            for i, kind in models.items()
        ],
        "tasks": {
            "code": {"match": {"tools": ["edit"]}, "strategy": "quick"},
            "code.review": {"data_class": "confidential"},
            "extract": {"match": {"schema": True}},
            "law": {"match": {"system": ["counsel"]}, "data_class": "confidential"},
        },
        "roles": {
            "coder": {"tasks": ["code"]},
            "worker": {"tasks": ["extract", "law"], "callers": ["ma"]},
        },
        "users": {"eva": {"data_class": "restricted"}},
        "strategies": {"quick": {"objective": "fastest"}, "plain": {"objective": "quality"}},
        "apps": {
            "web": {
                "mode": "route",
                "keys": [{"key": digest("1"), "task": "extract"}, digest("2")],
            },
            "desk": {"mode": "observe", "strategy": "plain", "keys": [digest("3")]},
        },
        **more,
    }
    return compile_text(yaml.safe_dump(value, sort_keys=False), file="test")


CONFIGURATION = compiled()
HOLDERS = list(CONFIGURATION.callers_keys.values())
HEADERS = {
    b"x-router-task": [b"code", b"code.review", b"extract"],
    b"x-router-complexity": [b"simple", b"odd"],
    b"x-router-strategy": [b"quick", b"plain"],
    b"x-router-role": [b"coder", b"worker", b"nobody"],
    b"x-router-user": [b"eva", b"someone", b"else"],
    b"x-router-data-class": [b"internal", b"restricted"],
    b"x-router-explore": [b"0"],
    b"x-router-max-cost-usd": [b"0.1", b"0.2"],
    b"x-router-max-latency-ms": [b"100"],
}
CALLS = st.fixed_dictionaries(
    {
        "holder": st.sampled_from(HOLDERS),
        "headers": st.fixed_dictionaries(
            {}, optional={name: st.sampled_from(values) for name, values in HEADERS.items()}
        ),
        "model": st.sampled_from(["auto", "ma", "role:coder", "auto:quick/code", "mb"]),
        "said": st.sampled_from([b"", b"code", b"\x1fconfidential", b"law\x1frestricted"]),
        "structure": st.builds(
            Structure,
            tools=st.sampled_from([(), ("edit",), ("read",), ("edit", "read")]),
            has_schema=st.booleans(),
            has_image=st.booleans(),
            system=st.sampled_from(["", "You are counsel.", "You help."]),
        ),
        "off": st.booleans(),
        "guesses": st.sampled_from([None, "suggests", "steers"]),
    }
)


def asked(of: Configuration, call: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a call is given as, to `ruled` as to `work_out`."""

    def read(*, read_system: bool) -> Structure:
        found: Structure = call["structure"]
        return found if read_system else structs.replace(found, system="")

    def guess(task: Task) -> Task:
        if call["guesses"] == "suggests":
            return structs.replace(task, looks_like="extract", tag=7)
        return Task("extract", None, FoundBy.CLASSIFIER, "extract")

    caller = Caller(of.apps[call["holder"].app], (), call["holder"])
    hints = read_hints(call["headers"], NOTHING_DECLARED, of.classes)
    session = of.derive(SessionKinds).of(call["said"])
    by = {"off": call["off"], "guess": None if call["guesses"] is None else guess}
    return (of, caller, hints, call["model"], session, read), by


def told(ruling: Ruling) -> tuple[object, ...]:
    """All of it but the mark, which is its own."""
    policy, standing, usual = ruling.policy, ruling.standing, ruling.usual
    return (ruling.asked, ruling.task, standing, usual, policy.rules, policy.parts, policy.places)


def found_by(
    rule: Callable[..., Ruling], of: tuple[Any, ...], by: dict[str, Any]
) -> tuple[object, ...]:
    """What it says of a call, or by which code it refuses it."""
    try:
        return told(rule(*of, **by))
    except RequestRejected as error:
        return (error.code,)


@given(st.lists(CALLS, min_size=1, max_size=6))
def test_what_is_remembered_is_what_would_be_worked_out(calls: list[dict[str, Any]]) -> None:
    for call in calls:
        of, by = asked(CONFIGURATION, call)
        wanted = found_by(work_out, of, by)
        assert [found_by(ruled, of, by) for _ in range(3)] == [wanted] * 3


def plain(**more: Any) -> dict[str, Any]:
    return {
        "holder": HOLDERS[1],
        "headers": {},
        "model": "auto",
        "said": b"",
        "structure": Structure(),
        "off": False,
        "guesses": None,
        **more,
    }


def test_two_calls_of_a_kind_have_one_ruling_and_another_configuration_has_another() -> None:
    of, by = asked(CONFIGURATION, plain())
    again, _ = asked(CONFIGURATION, plain())
    other = compiled(organisation={"data_class": "restricted"})
    under_other, _ = asked(other, plain())

    assert ruled(*of, **by) is ruled(*again, **by)
    assert ruled(*of, **by).policy.data_class.name == "internal"
    assert ruled(*under_other, **by).policy.data_class.name == "restricted"


def test_a_session_whose_class_rises_is_ruled_anew() -> None:
    of, by = asked(CONFIGURATION, plain())
    risen, _ = asked(CONFIGURATION, plain(said=b"\x1frestricted"))

    assert ruled(*of, **by).policy.data_class.name == "internal"
    assert ruled(*risen, **by).policy.data_class.name == "restricted"


def test_a_hint_that_a_spent_budget_put_there_is_not_remembered() -> None:
    of, by = asked(CONFIGURATION, plain())
    held = (*of[:2], structs.replace(of[2], held=CONFIGURATION.users["eva"]), *of[3:])

    assert ruled(*of, **by).policy.data_class.name == "internal"
    assert ruled(*held, **by).policy.data_class.name == "restricted"
    assert ruled(*of, **by).policy.data_class.name == "internal"


def test_what_callers_make_up_is_remembered_within_bounds() -> None:
    own = compiled()
    known = own.derive(Rulings)
    for i in range(MAX_KINDS + 10):
        of, by = asked(own, plain(model=f"model-{i}"))
        ruled(*of, **by)
    assert 0 < len(known._known) <= MAX_KINDS

    before = len(known._known)
    of, by = asked(own, plain(model="m" * 2000))
    ruled(*of, **by)
    assert len(known._known) == before


def test_nothing_said_by_a_session_is_what_no_session_says() -> None:
    assert CONFIGURATION.derive(SessionKinds).of(b"").level == NOTHING_SAID.level


def test_no_more_is_remembered_by_structure_whatever_callers_combine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rulings, "MAX_RULINGS", 20)
    configuration = compiled()
    caller = Caller(configuration.apps["web"])
    for i in range(10):
        headers = {b"x-router-max-cost-usd": str(1 + i).encode()}
        hints = read_hints(headers, NOTHING_DECLARED, configuration.classes)
        for j in range(10):
            tools = Structure(tools=(f"tool-{i}-{j}",))

            def read(*, read_system: bool, found: Structure = tools) -> Structure:
                return found

            ruled(configuration, caller, hints, "auto", NOTHING_SAID, read, off=False)

    kinds = [
        kind
        for kind in configuration.derive(Rulings)._known.values()
        if isinstance(kind, rulings._ByStructure)
    ]
    assert len(kinds) == 10
    assert 0 < sum(len(kind.known) for kind in kinds) <= 20
