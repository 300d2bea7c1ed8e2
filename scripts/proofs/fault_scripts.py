"""Random scripts of what a provider does with one call and its repeats. Pure: by seed and number.

A script has turns: the n-th attempt gets the n-th, all later ones the last. Turns before the last
are what an SDK repeats by itself; the last is an answer in some odd form, a cut one, or a refusal.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from scripts.proofs.turns import (
    SCALE,
    AnswerCut,
    AnswerForm,
    CallShape,
    FaultScript,
    RetryAfter,
    Turn,
    TurnKind,
)


def fault_script(seed: int, number: int) -> FaultScript:
    """Return the script of that number."""
    rng = random.Random(f"{seed} {number}")  # noqa: S311 - a test's dice
    shape = CallShape(
        streamed=rng.random() < 0.65,
        n=2 if rng.random() < 0.15 else 1,
        tools=rng.random() < 0.15,
        asks_usage=rng.random() < 0.3,
    )
    shape = replace(shape, asks_usage=shape.asks_usage and shape.streamed)
    n_faults = rng.choices((0, 1, 2, 3), (45, 32, 18, 5))[0]
    turns = [_repeated(rng, shape) for _ in range(n_faults)]
    last = _refusal(rng) if rng.random() < 0.12 else _answer(rng, shape)
    return FaultScript(seed, number, shape, (*turns, last), strict=rng.random() < 0.05)


def _repeated(rng: random.Random, shape: CallShape) -> Turn:
    """Return a turn after which the SDK asks again."""
    kind = rng.random()
    if kind < 0.14:
        return Turn(TurnKind.RESET)
    if kind < 0.28:
        return Turn(TurnKind.CLOSE)
    if kind < 0.38 and not shape.streamed:
        cut = rng.choice((AnswerCut.IN_EVENT, AnswerCut.IN_EVENT_RESET, AnswerCut.IN_FRAME))
        framing = "chunked" if cut is AnswerCut.IN_FRAME else rng.choice(("chunked", "length"))
        form = AnswerForm(cut=cut, cut_in=rng.random(), framing=framing)
        return Turn(TurnKind.ANSWER, form=form)
    if kind < 0.42:
        return Turn(TurnKind.REFUSAL, rng.choice((400, 404, 422)), should_retry="true")
    status = rng.choices((429, 500, 502, 503, 529, 408, 409, 504), (8, 4, 2, 6, 3, 2, 1, 1))[0]
    after = None
    if status in (429, 503, 529) and rng.random() < 0.7:
        forms = (
            RetryAfter.SECONDS,
            RetryAfter.MS,
            RetryAfter.DATE,
            RetryAfter.ZERO,
            RetryAfter.ODD,
        )
        after = rng.choices(forms, (5, 3, 1, 1, 1))[0]
    hint = "true" if rng.random() < 0.1 else ""
    gone = rng.random() < 0.2
    if gone and after is not None and rng.random() < 0.5:
        after = RetryAfter.ZERO  # whoever heeds it meets the connection just as it ends
    return Turn(TurnKind.REFUSAL, status, retry_after=after, should_retry=hint, goes_at_once=gone)


REFUSALS: tuple[tuple[int, str | None], ...] = (
    (400, None),
    (400, "invalid_value"),
    (400, "unsupported_parameter"),
    (400, "context_length_exceeded"),
    (400, "content_filter"),
    (401, "invalid_api_key"),
    (402, "insufficient_quota"),
    (403, None),
    (403, "content_policy_violation"),
    (404, "model_not_found"),
    (404, None),
    (413, None),
    (415, None),
    (422, None),
    (451, None),
)


def _refusal(rng: random.Random) -> Turn:
    if rng.random() < 0.15:
        return Turn(TurnKind.REFUSAL, 429, "insufficient_quota", RetryAfter.LONG)
    if rng.random() < 0.1:
        return Turn(TurnKind.REFUSAL, rng.choice((500, 503)), should_retry="false")
    status, code = rng.choice(REFUSALS)
    return Turn(TurnKind.REFUSAL, status, code)


def _answer(rng: random.Random, shape: CallShape) -> Turn:
    odd = _odd_stream if shape.streamed else _odd_whole
    form = AnswerForm(words=rng.randrange(1, 40))
    for _ in range(rng.choices((0, 1, 2, 3), (10, 45, 30, 15))[0]):
        form = replace(form, **odd(rng, shape))
    if rng.random() < 0.2:
        form = replace(form, **_cut(rng, form, shape))
    return Turn(TurnKind.ANSWER, form=_consistent(form))


def _consistent(form: AnswerForm) -> AnswerForm:
    """Return the form without what cannot be said together."""
    if form.alive_s:  # signs of life are of no length that is known before
        form = replace(form, coding="", framing="close" if form.framing == "close" else "chunked")
    if form.coding and form.framing == "length" and form.cut:
        form = replace(form, coding="")
    return replace(form, http_1_0=form.http_1_0 and form.framing != "chunked")


def _cut(rng: random.Random, form: AnswerForm, shape: CallShape) -> dict[str, Any]:
    cut = rng.choice(list(AnswerCut))
    framing = form.framing
    if form.finish_everywhere:  # a proper end there could not be told from a whole answer
        cut = rng.choice((AnswerCut.BETWEEN_RESET, AnswerCut.IN_EVENT_RESET, AnswerCut.IN_FRAME))
        framing = "chunked"
    elif cut is AnswerCut.IN_FRAME:
        framing = "chunked"
    elif cut in (AnswerCut.BETWEEN, AnswerCut.IN_EVENT_ENDED):
        framing = rng.choice(("chunked", "close")) if shape.streamed else "chunked"
    elif framing == "close" and not shape.streamed:
        framing = "length"
    return {"cut": cut, "cut_at": rng.random(), "cut_in": rng.random(), "framing": framing}


def _anywhere(rng: random.Random) -> list[dict[str, Any]]:
    """Return forms that streams and whole answers may have."""
    pauses = [seconds * SCALE for seconds in (2, 2, 7, 7, 12, 12, 16, 16, 110)]
    fields = ("reasoning", "reasoning_content", "reasoning_text", "reasoning_details")
    return [
        {"coding": rng.choice(("gzip", "deflate", "raw deflate"))},
        {"coding": "gzip"},
        {"status": rng.choice((201, 202))},
        {"framing": "length"},
        {"framing": "close"},
        {"framing": "chunked", "sizes": rng.choice(("odd", "byte", "one"))},
        {"framing": "chunked", "sizes": "odd", "extensions": True},
        {"early_hints": True},
        {"usage": rng.choice(("cached", "apart", "null"))},
        {"unknown": True},
        {"reasoning": rng.choice((*fields, "audio", "images"))},
        {"reasoning": rng.choice((*fields, "audio", "images")), "words": 0},
        {"big": True},
        {"infinity": True},
        {"nested": True},
        {"http_1_0": True, "framing": "close"},
        {"loud_headers": True},
        {"slow_head": True},
        {"first_pause_s": rng.choice(pauses)},
        {"pause_s": rng.choice(pauses), "pause_at": rng.random()},
        {"connection_close": True},
        {"inner_error": rng.choice(("first", "choice", "null"))},
    ]


def _odd_stream(rng: random.Random, shape: CallShape) -> dict[str, Any]:
    media = ("text/plain", "none", "application/json", "Text/Event-Stream; charset=UTF-8")
    odd: list[dict[str, Any]] = [
        {"line_end": rng.choice(("\r\n", "\r", "mixed"))},
        {"line_end": rng.choice(("\r\n", "\r", "mixed")), "sizes": "odd"},
        {"bom": True},
        {"comments": True},
        {"comments": True, "line_end": "mixed"},
        {"media_type": rng.choice(media)},
        {"alive_s": 12 * SCALE},
        {"lead": True},
        {"half_emoji": True},
        {"done": rng.choice((" [DONE]", "[DONE] "))},
        {"after_done": True},
        {"no_done": True},
        {"no_done": True, "held_s": 20 * SCALE},
        {"held_s": 7 * SCALE},
        {"usage": "every"},
        {"split_data": True},
        {"no_space": True},
        {"named_events": True},
        {"garbled": True},
        {"inner_error": "middle"},
    ]
    if shape.n == 1:
        odd += [{"finish_everywhere": True}] * 2
    return rng.choice(odd * 2 + _anywhere(rng))


def _odd_whole(rng: random.Random, shape: CallShape) -> dict[str, Any]:
    media = ("application/json; charset=utf-8", "Application/JSON", "none", "text/plain")
    odd: list[dict[str, Any]] = [{"media_type": rng.choice(media)}, {"padded": True}]
    return rng.choice(odd + _anywhere(rng))
