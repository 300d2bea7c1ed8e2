"""The proof of `direct` proves something: its scripts are what they say, its views see a loss."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.proofs.direct import KEY, ScriptsProvider
from scripts.proofs.fault_scripts import fault_script
from scripts.proofs.framing import GONE_S
from scripts.proofs.provider import ScriptedProvider, Send, Wait
from scripts.proofs.script_caller import call, sdk, shortened_pauses
from scripts.proofs.script_replies import steps
from scripts.proofs.turns import (
    AnswerCut,
    AnswerForm,
    CallShape,
    FaultScript,
    RetryAfter,
    Turn,
    TurnKind,
)
from scripts.proofs.views import (
    Comparison,
    ScriptView,
    ViewEnd,
    compare,
    expected_choices,
    is_success,
    read_leniently,
    view_of_answer,
    view_of_chunks,
)

ROOT = Path(__file__).parent.parent
SCRIPTS = [fault_script(7, number) for number in range(300)]
STREAM = FaultScript(0, 0, CallShape(), (Turn(TurnKind.ANSWER),))


def test_a_script_depends_on_seed_and_number_alone() -> None:
    assert [fault_script(7, n) for n in range(300)] == SCRIPTS
    assert fault_script(8, 0) != SCRIPTS[0]


def test_both_sides_get_the_same_bytes_but_for_the_usage_that_one_asks_for() -> None:
    forms = [(s, s.turns[-1].form) for s in SCRIPTS if s.shape.streamed]
    readable = [s for s, form in forms if not form.coding and form.sizes == "event"]
    assert len(readable) > 100
    for script in readable:
        turn = script.turns[-1]
        both = [
            b"".join(
                step.data
                for step in steps(script, turn, asks_usage=asks, now_s=0.0)
                if isinstance(step, Send)
            )
            for asks in (True, False)
        ]
        assert read_leniently(both[0]) == read_leniently(both[1])


def play_straight(scripts: list[FaultScript]) -> list[ScriptView]:
    """Play scripts to the real SDK over real sockets, without a sidecar."""

    async def play() -> list[ScriptView]:
        provider = ScriptedProvider(ScriptsProvider({s.name: s for s in scripts}))
        async with (
            provider.listening(),
            sdk(f"{provider.url()}/direct/v1", KEY) as client,
        ):
            return list(await asyncio.gather(*(call(client, script) for script in scripts)))

    with shortened_pauses():
        return asyncio.run(play())


def numbered(turns: list[tuple[Turn, ...]], shape: CallShape) -> list[FaultScript]:
    return [FaultScript(0, number, shape, each) for number, each in enumerate(turns)]


FORMS = [
    {},
    {"line_end": "\r\n"},
    {"line_end": "\r"},
    {"line_end": "mixed", "comments": True},
    {"bom": True},
    {"coding": "gzip"},
    {"coding": "deflate"},
    {"coding": "raw deflate"},
    {"status": 201},
    {"framing": "length"},
    {"framing": "close"},
    {"sizes": "odd", "extensions": True},
    {"sizes": "byte"},
    {"sizes": "one"},
    {"early_hints": True},
    {"no_done": True},
    {"no_done": True, "held_s": 0.05},
    {"finish_everywhere": True},
    {"usage": "every"},
    {"unknown": True, "reasoning": "reasoning_details"},
    {"big": True},
    {"split_data": True, "no_space": True},
    {"named_events": True},
    {"media_type": "none"},
    {"connection_close": True},
    {"http_1_0": True, "framing": "close"},
    {"loud_headers": True, "slow_head": True},
    {"done": "[DONE] "},
    {"after_done": True},
    {"lead": True, "nested": True, "infinity": True},
    {"half_emoji": True},
    {"alive_s": 0.1},
    {"words": 0, "reasoning": "audio"},
]


@pytest.mark.parametrize("shape", [CallShape(), CallShape(n=2), CallShape(tools=True)])
def test_the_sdk_called_directly_takes_every_odd_but_whole_answer(shape: CallShape) -> None:
    scripts = numbered([(Turn(TurnKind.ANSWER, form=AnswerForm(**f)),) for f in FORMS], shape)  # type: ignore[arg-type]

    views = play_straight(scripts)

    failed = [s.told() for s, v in zip(scripts, views, strict=True) if not is_success(s, v)]
    assert failed == []


@pytest.mark.parametrize("shape", [CallShape(), CallShape(n=2), CallShape(streamed=False)])
def test_no_cut_answer_is_a_success(shape: CallShape) -> None:
    cuts = [
        (Turn(TurnKind.ANSWER, form=AnswerForm(cut=cut, cut_at=at, cut_in=at)),)
        for cut in AnswerCut
        for at in (0.0, 0.4, 0.99)
    ]
    scripts = numbered(cuts, shape)

    views = play_straight(scripts)

    assert not any(is_success(s, v) for s, v in zip(scripts, views, strict=True))


def test_the_sdk_repeats_what_a_script_has_before_its_answer() -> None:
    refusal, answer = Turn(TurnKind.REFUSAL, 503), Turn(TurnKind.ANSWER)
    faults = [
        (Turn(TurnKind.RESET),),
        (Turn(TurnKind.CLOSE), Turn(TurnKind.RESET)),
        (refusal, replace(refusal, goes_at_once=True)),
        (replace(refusal, retry_after=RetryAfter.SECONDS),),
        (replace(refusal, retry_after=RetryAfter.MS),),
        (replace(refusal, retry_after=RetryAfter.DATE),),
        (Turn(TurnKind.REFUSAL, 400, should_retry="true"),),
    ]
    scripts = numbered([(*each, answer) for each in faults], CallShape())

    views = play_straight(scripts)

    assert all(is_success(s, v) for s, v in zip(scripts, views, strict=True))
    too_many = numbered([(refusal,) * 3 + (answer,)], CallShape())
    assert not is_success(too_many[0], play_straight(too_many)[0])


# -- comparing ----------------------------------------------------------------------------------


def answered(
    script: FaultScript, n_words: int | None = None, finish: str | None = "stop"
) -> ScriptView:
    expected = expected_choices(script)
    assert expected is not None
    words = expected[0]["content"].split(" ")
    content = " ".join(words[:n_words]) if n_words is not None else expected[0]["content"]
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    chunk = {"id": "c", "model": "m", "choices": [choice]}
    return view_of_chunks([chunk], b"data: " + json.dumps(chunk).encode() + b"\n\n")


def failed(raw: bytes = b"") -> ScriptView:
    return ScriptView(ViewEnd.ERROR, error="APIError cut", raw=raw)


def test_views_are_told_apart() -> None:
    whole, cut = answered(STREAM), answered(STREAM, 3)
    silent = answered(STREAM, 3, finish=None)

    assert compare(STREAM, whole, whole) is Comparison.SAME
    assert compare(STREAM, whole, failed()) is Comparison.WORSE
    assert compare(STREAM, failed(), whole) is Comparison.BETTER
    assert compare(STREAM, failed(), failed()) is Comparison.SAME
    assert compare(STREAM, whole, cut) is Comparison.TRUNCATED
    assert compare(STREAM, failed(), cut) is Comparison.TRUNCATED
    assert compare(STREAM, failed(), silent) is Comparison.TRUNCATED
    assert compare(STREAM, whole, silent) is Comparison.DIFFERING
    assert compare(STREAM, silent, silent) is Comparison.TRUNCATED, "it is to be told"
    other = replace(whole, said={**whole.said, "ids": [["another", "m", None]]})
    assert compare(STREAM, whole, other) is Comparison.DIFFERING


def test_an_answer_that_shows_its_error_is_not_a_cut_one() -> None:
    error = Turn(TurnKind.ANSWER, form=AnswerForm(inner_error="first"))
    script = replace(STREAM, shape=CallShape(streamed=False), turns=(error,))

    for said in (
        {"error": {}},
        {"choices": [{"index": 0, "message": None, "finish_reason": "stop"}]},
    ):
        assert compare(script, failed(), view_of_answer(said, b"")) is Comparison.SAME
    message = {"role": "assistant", "content": "the first words"}
    cut = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    assert compare(script, failed(), view_of_answer(cut, b"")) is Comparison.TRUNCATED


def test_a_refusal_has_to_arrive_as_it_was() -> None:
    script = replace(STREAM, turns=(Turn(TurnKind.REFUSAL, 404, "model_not_found"),))
    direct = ScriptView(
        ViewEnd.REFUSAL, error="NotFoundError 404 {'message': 'none', 'code': 'model_not_found'}"
    )

    assert compare(script, direct, direct) is Comparison.SAME
    ours = replace(direct, error="InternalServerError 502 {'message': 'misconfigured'}")
    assert compare(script, direct, ours) is Comparison.WORSE
    changed = replace(direct, error=direct.error.replace("none", "not found"))
    assert compare(script, direct, changed) is Comparison.DIFFERING
    another = replace(direct, error=direct.error.replace("model_not_found", "other"))
    assert compare(script, another, direct) is Comparison.BETTER


def event(content: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def test_a_lenient_reader_is_not_told_by_an_error_glued_to_half_an_event() -> None:
    said = event("short", "stop")
    error = b'data: {"error": {"message": "the stream was cut"}}\n\n'

    assert read_leniently(said + error) == ({0: "short"}, True, True)
    assert read_leniently(said + b'data: {"choices": [{"ind' + error) == ({0: "short"}, True, False)
    assert compare(STREAM, failed(), failed(said + error)) is Comparison.SAME
    glued = failed(said + b'data: {"choices": [{"ind' + error)
    assert compare(STREAM, failed(), glued) is Comparison.TRUNCATED
    assert compare(STREAM, failed(), replace(glued, broken=True)) is Comparison.SAME


def test_line_ends_and_split_events_are_read_as_any_reader_would() -> None:
    raw = (
        b'\xef\xbb\xbf: hello\r\rdata: {\r\ndata: "choices": []}\r\n\r\n'
        + event("a")
        + b"data: [DONE]\r\r"
    )

    assert read_leniently(raw) == ({0: "a"}, True, False)


def test_an_idle_connection_goes_behind_the_reply() -> None:
    turn = Turn(TurnKind.REFUSAL, 503, goes_at_once=True)

    assert Wait(GONE_S) in steps(STREAM, turn, asks_usage=False, now_s=0.0)


@pytest.mark.slow
def test_a_plain_script_is_the_same_on_both_sides() -> None:
    """Whatever odd scripts show, plain ones must not differ: else it is the proof that is wrong."""
    plain = next(
        n
        for n in range(1000)
        if len((s := fault_script(7, n)).turns) == 1
        and s.turns[0].told() == "answer"
        and not s.strict
    )
    command = [sys.executable, "-m", "scripts.proofs", "direct", "--seed", "7", "--only"]
    done = subprocess.run(
        [*command, str(plain), "--json"], capture_output=True, text=True, cwd=ROOT, timeout=120
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "scripts": 1,
        "worse": 0,
        "differing": 0,
        "truncated_unseen": 0,
        "better": 0,
    }
