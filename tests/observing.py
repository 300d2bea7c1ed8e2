"""Conversations told to the observer, and calls in which something is wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from conversations import Turn
from msgspec import structs

from telemetry import tokens
from telemetry.events import Source
from telemetry.tokens import Token
from telemetry.wire.sse import payloads
from workers.observer.rewards import DerivedLabel, Memory, ObservedCall, derive

SALT = b"a salt of this process"


def decision(number: int) -> bytes:
    nonce = number.to_bytes(16, "big")
    return Token(1, 0, 0, nonce, 0, 1, 2, 3, 4, 5, 6, 7, 0.5, 0.5, 0.1).pack()


def nonce_of(number: int) -> bytes:
    return tokens.nonce_of(decision(number))


def number_of(verdict: Any) -> int:
    return int.from_bytes(tokens.nonce_of(verdict.decision), "big") - 1


def to_call(turn: Turn, number: int) -> ObservedCall:
    is_stream = isinstance(turn.answer, str)
    answer = turn.answer if is_stream else json.dumps(turn.answer)
    return ObservedCall(
        decision=decision(number),
        app=turn.app.encode(),
        unit=turn.unit.encode(),
        stateless=turn.stateless,
        began_at_s=1000.0 + turn.at_s,
        ended_at_s=1000.0 + turn.at_s + turn.took_s,
        answered=turn.answered,
        streamed=is_stream,
        dialect=turn.dialect,
        request=json.dumps(turn.request).encode(),
        answer=str(answer).encode(),
        in_session=turn.session,
    )


def labels(turns: Iterable[Turn]) -> list[list[tuple[int, Source, float | None]]]:
    """Return what is said after each call, as conversations write it."""
    said = run(turns)
    return [[(number_of(v), v.source, v.value) for v in verdicts] for verdicts in said]


def expected(turns: Iterable[Turn]) -> list[list[tuple[int, Source, float | None]]]:
    """Return what a conversation promises."""
    return [[*turn.labels] for turn in turns]


def run(turns: Iterable[Turn], memory: Memory | None = None) -> list[list[DerivedLabel]]:
    memory = memory or Memory(SALT)
    return [derive(to_call(turn, i), memory) for i, turn in enumerate(turns, 1)]


def spoiled(value: Any, rng: random.Random, junk: list[Any]) -> Any:
    """`value`, at one place of which something is dropped, doubled, or something else."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.85:
        copy: Any = value.copy()
        key = rng.choice(list(copy) if isinstance(copy, dict) else range(len(copy)))
        if rng.random() < 0.1:
            del copy[key]
        elif isinstance(copy, list) and rng.random() < 0.1:
            copy += copy[: key + 1]
        else:
            copy[key] = spoiled(copy[key], rng, junk)
        return copy
    return rng.choice([*junk, "", "assistant", "tool", "length", "call_0", 0, -1, None, [], {}])


def spoiled_call(
    turns: list[Turn], number: int, rng: random.Random, junk: list[Any]
) -> ObservedCall:
    """One of the calls, with something wrong in its request, its answer, or both."""
    turn = rng.choice(turns)
    call = to_call(replace(turn, at_s=5.0 * number), number)
    request = turn.request
    for _ in range(rng.randrange(3)):
        request = spoiled(request, rng, junk)
    events = list(payloads(call.answer)) if call.streamed else [call.answer]
    answer = []
    for event in events:
        if rng.random() < 0.5 and event[:1] == b"{":
            event = json.dumps(spoiled(json.loads(event), rng, junk)).encode()
        answer.append(b"data: " + event + b"\n\n" if call.streamed else event)
    body = b"".join(answer)
    if rng.random() < 0.1:
        body = body[: rng.randrange(len(body))] + rng.randbytes(2)
    return structs.replace(call, request=json.dumps(request).encode(), answer=body)
