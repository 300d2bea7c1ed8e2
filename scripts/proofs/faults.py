"""Sixteen ways a provider breaks, as the provider plays them. Pure.

A model's name says which: `<fault>.<run>` is the primary at which it happens, with `-whole` behind
it for a call without a stream, and with `.spare` the healthy one beside it. Waits shrink with
`scale`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scripts.proofs.provider import Cut, ProviderRequest, Send, Step, Wait
from scripts.proofs.replies import (
    DONE,
    LAST_FRAME,
    TEXT,
    WORDS,
    answer,
    error,
    event,
    frame,
    piece,
    stream_head,
    usage,
    whole,
)

NAMES = {
    1: "429 with Retry-After 2 s, once",
    2: "429 without Retry-After, every time",
    3: "500, once",
    4: "503, every time",
    5: "reset before headers, once",
    6: "silence",
    7: "first token after 20 s",
    8: "dies after 40 of 60 tokens",
    9: "silent for 30 s after 20 tokens",
    10: "one event is no JSON",
    11: "no [DONE]",
    12: "400 context_length_exceeded",
    13: "400 content filter",
    14: "as 8, spare takes no prefill",
    15: "503 for 60 s, then healthy",
    16: "503, every time: the books",
}
SPARE = "spare"
HEALTHY, DOWN = "healthy", "down"
"""Models without a fault, and with one that never ends."""
TOKEN_S = 0.02
"""Between two tokens: so that the first ones are with the client before the stream breaks."""
SILENT_S = 120.0
FIRST_TOKEN_S = 20.0
STALLED_S = 30.0
DOWN_S = 60.0
RETRY_AFTER_S = 2.0
HELD_S = 60.0
"""How long a stream that said everything is kept open without `[DONE]`."""
PRIMARY_PROMPT, SPARE_PROMPT = 17, 23
"""Tokens of the prompt as each counts them: tells whose usage an answer brings."""
FILTERED = "the response was filtered due to the prompt triggering our content policy"
TOO_LONG = "this model's maximum context length is 8192 tokens"
NO_PREFILL = "this model takes no request that ends with an assistant message"


@dataclass(frozen=True, slots=True)
class FaultAttempt:
    """One attempt at a primary."""

    request: ProviderRequest
    run: int
    number: int  # of this model's attempts, from 0
    since_s: float  # the first of them
    scale: float


def _stream(request: ProviderRequest, prompt_tokens: int, words: Sequence[str]) -> list[Step]:
    """Return head, role and these words, each token in a frame and a moment of its own."""
    role = frame(event(piece(request.model, {"role": "assistant", "content": ""})))
    steps: list[Step] = [Send(stream_head() + role)]
    for i, word in enumerate(words):
        delta = {"content": f" {word}" if i else word}
        steps.append(Send(frame(event(piece(request.model, delta)))))
    return steps


def _ending(request: ProviderRequest, prompt_tokens: int) -> bytes:
    """Return the frames after the last word, up to `[DONE]`."""
    out = frame(event(piece(request.model, {}, "stop")))
    if request.asks_usage:
        counts = {**piece(request.model, {}), "choices": [], "usage": usage(prompt_tokens)}
        out += frame(event(counts))
    return out


def healthy(
    request: ProviderRequest, prompt_tokens: int = PRIMARY_PROMPT, pause_s: float = 0.0
) -> list[Step]:
    """Return the right answer, streamed if that is asked for."""
    if not request.streamed:
        return [whole(200, answer(request.model, TEXT, usage(prompt_tokens)))]
    steps = _paced(_stream(request, prompt_tokens, WORDS), pause_s)
    return [*steps, Send(_ending(request, prompt_tokens) + frame(DONE) + LAST_FRAME)]


def _paced(steps: list[Step], pause_s: float) -> list[Step]:
    if not pause_s:
        return steps
    return [part for step in steps for part in (step, Wait(pause_s))]


def _healthy(attempt: FaultAttempt) -> list[Step]:
    return healthy(attempt.request)


def _begun(attempt: FaultAttempt, n_words: int) -> list[Step]:
    words = _stream(attempt.request, PRIMARY_PROMPT, WORDS[:n_words])
    return _paced(words, TOKEN_S * attempt.scale)


def _refused(
    status: int, message: str, *, once: bool = False, retry_after_s: float = 0.0
) -> Callable[[FaultAttempt], list[Step]]:
    def reply(attempt: FaultAttempt) -> list[Step]:
        if once and attempt.number:
            return _healthy(attempt)
        wait = f"{retry_after_s * attempt.scale:g}"
        headers = [("retry-after", wait)] if retry_after_s else []
        return [whole(status, error(message), headers)]

    return reply


def _reset_once(attempt: FaultAttempt) -> list[Step]:
    return _healthy(attempt) if attempt.number else [Cut.RESET]


def _silent(attempt: FaultAttempt) -> list[Step]:
    return [Wait(SILENT_S * attempt.scale), Cut.CLOSE]


def _late(attempt: FaultAttempt) -> list[Step]:
    first, *rest = _healthy(attempt)
    assert isinstance(first, Send)
    n_head = len(stream_head())
    late = Send(first.data[n_head:])
    return [Send(first.data[:n_head]), Wait(FIRST_TOKEN_S * attempt.scale), late, *rest]


def _dies(attempt: FaultAttempt) -> list[Step]:
    return [*_begun(attempt, 40), Cut.CLOSE]


def _stalls(attempt: FaultAttempt) -> list[Step]:
    return [*_begun(attempt, 20), Wait(STALLED_S * attempt.scale), Cut.CLOSE]


def _garbled(attempt: FaultAttempt) -> list[Step]:
    steps = healthy(attempt.request, pause_s=TOKEN_S * attempt.scale)
    middle = len(steps) // 2
    bad = Send(frame(b'data: {"id": "chatcmpl-1", "choices": [{"index": 0, "del\n\n'))
    return [*steps[:middle], bad, *steps[middle:]]


def _undone(attempt: FaultAttempt) -> list[Step]:
    """Say everything but `[DONE]`; every second run keeps the connection open after that."""
    end = Send(_ending(attempt.request, PRIMARY_PROMPT))
    said = [*_begun(attempt, len(WORDS)), end]
    return [*said, Wait(HELD_S), Cut.CLOSE] if attempt.run % 2 else [*said, Send(LAST_FRAME)]


def _turned_down(message: str, code: str) -> Callable[[FaultAttempt], list[Step]]:
    refusal = error(message, code=code, kind="invalid_request_error")
    return lambda _: [whole(400, refusal)]


def _down_for_a_while(attempt: FaultAttempt) -> list[Step]:
    if attempt.since_s >= DOWN_S * attempt.scale:
        return _healthy(attempt)
    return [whole(503, error("down"))]


_PLAYED: dict[int, Callable[[FaultAttempt], list[Step]]] = {
    1: _refused(429, "slow down", once=True, retry_after_s=RETRY_AFTER_S),
    2: _refused(429, "slow down"),
    3: _refused(500, "an error on our side", once=True),
    4: _refused(503, "unavailable"),
    5: _reset_once,
    6: _silent,
    7: _late,
    8: _dies,
    9: _stalls,
    10: _garbled,
    11: _undone,
    12: _turned_down(TOO_LONG, "context_length_exceeded"),
    13: _turned_down(FILTERED, "content_filter"),
    14: _dies,
    15: _down_for_a_while,
    16: _refused(503, "unavailable"),
}


@dataclass(slots=True)
class SixteenFaults:
    """What the provider of all runs says; remembers how often each model was asked."""

    scale: float
    _counts: Counter[str] = field(default_factory=Counter)
    _first: dict[str, float] = field(default_factory=dict)
    attempts: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def __call__(self, request: ProviderRequest) -> Sequence[Step]:
        """Return the steps for one request, and note when it came."""
        model = request.model
        self.attempts[model].append(request.at)
        if model.startswith(HEALTHY):
            return healthy(request)
        if model.startswith(DOWN):
            return [whole(503, error("down"))]
        fault, run, *spare = model.split(".")
        if spare:
            return self._spare(request, int(fault))
        number = self._counts[model]
        self._counts[model] += 1
        since_s = request.at - self._first.setdefault(model, request.at)
        return _PLAYED[int(fault)](
            FaultAttempt(request, int(run.split("-")[0]), number, since_s, self.scale)
        )

    def _spare(self, request: ProviderRequest, fault: int) -> Sequence[Step]:
        last = (request.body.get("messages") or [{}])[-1]
        if fault == 14 and last.get("role") == "assistant":
            return [whole(400, error(NO_PREFILL, kind="invalid_request_error"))]
        return healthy(request, SPARE_PROMPT)
