"""From a turn of a script to the steps of the provider, byte by byte. Pure."""

from __future__ import annotations

import json
import math
import random
from email.utils import formatdate
from typing import Any

from scripts.proofs.framing import GONE_S, written
from scripts.proofs.provider import Cut, Step, Wait
from scripts.proofs.replies import error, usage, whole
from scripts.proofs.turns import (
    SCALE,
    AnswerForm,
    FaultScript,
    RetryAfter,
    Turn,
    TurnKind,
)

WORDS = (
    "tide",
    "naïve",
    "☃",
    "harbour",
    '"quoted"',
    "back\\slash",
    "𝄞",
    "data: [DONE]",
    "two\nlines",
)
EMOJI = "\ud83d\ude00"
"""One character as some providers cut it: each half is an event's text."""
DEEP = 150
LONG_WORD = "x" * 40_000
OTHER_CONTENT: dict[str, Any] = {
    "reasoning_details": [{"type": "reasoning.text", "text": "hm"}],
    "audio": {"id": "audio_1", "data": "UklGRg=="},
    "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}}],
}
TOOL = {"name": "look_up", "arguments": '{"place": "the bar", "depth": 7}'}
SHORT_S = 1.5 * SCALE
"""An announced pause."""


def words_of(script: FaultScript, index: int) -> list[str]:
    """Return the words of one choice of the script's answer."""
    form = script.turns[-1].form
    rng = _dice(script, f"words {index}")
    words = [f"{rng.choice(WORDS)} " for _ in range(form.words)]
    words += list(EMOJI) if form.half_emoji else []
    return [*words, LONG_WORD] if form.big else words


def steps(script: FaultScript, turn: Turn, *, asks_usage: bool, now_s: float) -> list[Step]:
    """Return what the provider does with one attempt.

    Args:
        asks_usage: whether this request asks for the usage of its stream.
        now_s: epoch seconds, for dates.
    """
    if turn.kind is TurnKind.RESET:
        return [Cut.RESET]
    if turn.kind is TurnKind.CLOSE:
        return [Cut.CLOSE]
    if turn.kind is TurnKind.REFUSAL:
        body = error(f"refused by {script.name}", code=turn.code, kind="refusal")
        said = whole(turn.status, body, _hints(turn, now_s))
        return [said, Wait(GONE_S), Cut.CLOSE] if turn.goes_at_once else [said]
    form = turn.form
    if script.shape.streamed:
        segments, n_core = _events(script, form, asks_usage=asks_usage)
    else:
        segments = _parts(script, form)
        n_core = len(segments)
    rng = _dice(script, "frames")
    return written(form, segments, n_core, rng, streamed=script.shape.streamed)


def _dice(script: FaultScript, what: object) -> random.Random:
    """Return dice of this thing's own: it falls the same on both sides, whatever came before."""
    return random.Random(f"{script.seed} {script.number} {what}")  # noqa: S311 - a test's dice


def _hints(turn: Turn, now_s: float) -> list[tuple[str, str]]:
    after: dict[RetryAfter | None, list[tuple[str, str]]] = {
        None: [],
        RetryAfter.SECONDS: [("Retry-After", f"{SHORT_S:g}")],
        RetryAfter.MS: [("Retry-After-Ms", f"{SHORT_S * 1000:g}"), ("Retry-After", "1")],
        RetryAfter.DATE: [("Retry-After", formatdate(now_s + 1, usegmt=True))],
        RetryAfter.ZERO: [("Retry-After", "0")],
        RetryAfter.ODD: [("Retry-After", "soon")],
        RetryAfter.LONG: [("Retry-After", "600")],
    }
    hint = [("x-should-retry", turn.should_retry)] if turn.should_retry else []
    return [*after[turn.retry_after], *hint, ("x-request-id", "req-1")]


# -- streams ------------------------------------------------------------------------------------


def _events(script: FaultScript, form: AnswerForm, *, asks_usage: bool) -> tuple[list[bytes], int]:
    """Return the events as bytes, and how many of them the answer needs to be whole."""
    values = _chunks(script, form)
    if form.inner_error in ("first", "middle"):
        at = 0 if form.inner_error == "first" else len(values) // 2
        values = [*values[:at], error("the model failed", code="overloaded")]
    events = [_event(value, form, _dice(script, i)) for i, value in enumerate(values)]
    if form.garbled:
        events.insert(len(events) // 2, _event('{"id": "chatcmpl', form, _dice(script, "garbled")))
    n_core = len(events)
    if asks_usage:
        value = {**_common(script), "choices": [], "usage": _usage(form)}
        events.append(_event(value, form, _dice(script, "usage")))
    if not form.no_done:
        events.append(_event(form.done, form, _dice(script, "end")))
    if form.after_done:
        events.append(b': bye\n\ndata: {"choices": []}\n\n')
    if form.bom:
        events[0] = b"\xef\xbb\xbf" + events[0]
    return events, n_core


def _common(script: FaultScript) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{script.name}",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": f"served-{script.name}",
        "system_fingerprint": "fp_1",
    }


def _chunks(script: FaultScript, form: AnswerForm) -> list[dict[str, Any]]:
    """Return every chunk up to the last finish reason; choices take turns."""
    by_choice = [_deltas(script, form, index) for index in range(script.shape.n)]
    longest = max(len(deltas) for deltas in by_choice)
    chunks = []
    for i in range(longest):
        for index, deltas in enumerate(by_choice):
            if i >= len(deltas):
                continue
            delta, finish = deltas[i]
            choice: dict[str, Any] = {"index": index, "delta": delta, "finish_reason": finish}
            if form.inner_error in ("choice", "null") and finish:
                choice |= {"finish_reason": "error", "error": {"message": "failed", "code": 502}}
            extra: dict[str, Any] = {"usage": _usage(form)} if form.usage == "every" else {}
            extra |= {"usage": None} if form.usage == "null" else {}
            extra |= _unknown(form)
            if form.infinity:
                choice["logprobs"] = {"content": [], "least": -math.inf}
            chunks.append({**_common(script), "choices": [choice], **extra})
    lead = {**_common(script), "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
    return [lead, *chunks] if form.lead else chunks


def _unknown(form: AnswerForm) -> dict[str, Any]:
    deep: list[Any] = []
    for _ in range(DEEP if form.nested else 0):
        deep = [deep]
    extra: dict[str, Any] = {"x_deep": deep} if form.nested else {}
    return extra | ({"x_extra": {"n": 12345678901234567890123}} if form.unknown else {})


def _deltas(
    script: FaultScript, form: AnswerForm, index: int
) -> list[tuple[dict[str, Any], str | None]]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    if form.reasoning in OTHER_CONTENT:
        deltas.append({form.reasoning: OTHER_CONTENT[form.reasoning]})
    elif form.reasoning:
        deltas += [{form.reasoning: "hm, "}, {form.reasoning: "so"}]
    if script.shape.tools:
        function = {"name": TOOL["name"], "arguments": ""}
        call = {"index": 0, "id": f"call_{index}", "type": "function", "function": function}
        deltas.append({"tool_calls": [call]})
        text = TOOL["arguments"]
        for part in (text[:9], text[9:20], text[20:]):
            deltas.append({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
    else:
        deltas += [{"content": word} for word in words_of(script, index)]
    if form.unknown:
        deltas[-1]["x_note"] = "of another provider"
    finish = finish_of(script)
    said = [(delta, finish if form.finish_everywhere else None) for delta in deltas]
    return [*said, ({}, finish)]


def finish_of(script: FaultScript) -> str:
    """Return the finish reason of every choice of the script's answer."""
    return "tool_calls" if script.shape.tools else "stop"


def _usage(form: AnswerForm) -> dict[str, Any]:
    counts: dict[str, Any] = dict(usage(32, 9))
    if form.usage == "cached":
        counts |= {"prompt_cache_hit_tokens": 30, "cached_tokens": 30}
    if form.usage == "apart":
        counts |= {"reasoning_tokens": 282, "total_tokens": 323}
    return counts


def _event(value: object, form: AnswerForm, rng: random.Random) -> bytes:
    if isinstance(value, str):
        lines = [value]
    elif form.split_data:
        lines = json.dumps(value, indent=0).split("\n")
    else:
        lines = [json.dumps(value, ensure_ascii=form.half_emoji or rng.random() < 0.5)]
    start = "data:" if form.no_space else "data: "
    said = [start + line for line in lines]
    if form.named_events:
        said = ["event: message", "id: 7", *said]
    if form.comments and rng.random() < 0.4:
        said = [": keep-alive", "", *said]
    end = rng.choice(("\n", "\r\n", "\r")) if form.line_end == "mixed" else form.line_end
    return (end.join(said) + 2 * end).encode()


# -- whole answers ------------------------------------------------------------------------------


def _parts(script: FaultScript, form: AnswerForm) -> list[bytes]:
    """Return a whole answer in three parts."""
    choices = []
    for index in range(script.shape.n):
        message: dict[str, Any] = {"role": "assistant", "content": "".join(words_of(script, index))}
        if script.shape.tools:
            call = {"id": f"call_{index}", "type": "function", "function": TOOL}
            message |= {"content": None, "tool_calls": [call]}
        if form.reasoning:
            message[form.reasoning] = OTHER_CONTENT.get(form.reasoning, "hm")
        choice = {"index": index, "message": message, "finish_reason": finish_of(script)}
        if form.infinity:
            choice["logprobs"] = {"content": [], "least": -math.inf}
        if form.inner_error == "choice":
            choice |= {"finish_reason": "error", "error": {"message": "failed", "code": 502}}
        if form.inner_error == "null":
            choice |= {"message": None}
        choices.append(choice)
    value: dict[str, Any] = {**_common(script), "object": "chat.completion", "choices": choices}
    value["usage"] = None if form.usage == "null" else _usage(form)
    value |= _unknown(form)
    if form.inner_error == "first":
        value = error("the model failed", code="overloaded")
    body = json.dumps(value).encode()
    third = len(body) // 3
    parts = [body[:third], body[third : 2 * third], body[2 * third :]]
    return [b"\n \n", *parts] if form.padded else parts
