"""Made-up calls for the bench of derived labels: faults at one endpoint, or healthy and alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

KINDS = ("chat", "tools", "schema")
SHARES = (0.25, 0.25, 0.5)
"""Of conversations: those with a schema have one call, the others two or three."""
Json = dict[str, Any]

SYSTEM = {"role": "system", "content": "You help the customers of a shop."}
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {
            "type": "object",
            "properties": {"order": {"type": "integer"}},
            "required": ["order"],
        },
    },
}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
GREETING = "hello there, can you help me with something today?"


@dataclass(frozen=True, slots=True)
class SimulatedCall:
    """One call of a client, and how it ended."""

    kind: str
    endpoint: int
    request: bytes
    answer: bytes
    began_at_s: float
    ended_at_s: float
    unit: bytes = b""
    in_session: bool = False
    answered: bool = True


@dataclass(slots=True)
class SimulatedClient:
    """Makes the calls of one conversation, one after the other."""

    kind: str
    endpoint: int
    now_s: float
    unit: bytes = b""
    in_session: bool = False

    def ask(
        self,
        messages: list[Json],
        answer: Json,
        *,
        pause_s: float,
        took_s: float = 2.0,
        **more: Any,
    ) -> SimulatedCall:
        """Return a call that begins `pause_s` after the one before."""
        began = self.now_s + pause_s
        self.now_s = began + took_s
        return SimulatedCall(
            self.kind,
            self.endpoint,
            json.dumps({"model": "auto", "messages": messages, **more}).encode(),
            json.dumps({"id": "a", "choices": [{"index": 0, **answer}]}).encode(),
            began,
            self.now_s,
            self.unit,
            self.in_session,
        )


def user(text: str) -> Json:
    """Return a user's message."""
    return {"role": "user", "content": text}


def said(text: str) -> Json:
    """Return a message of the model."""
    return {"role": "assistant", "content": text}


def text(content: str | None, finish: str = "stop", **more: Any) -> Json:
    """Return an answer in words."""
    return {"message": {"role": "assistant", "content": content, **more}, "finish_reason": finish}


def tool_call(arguments: Json, number: int) -> Json:
    """Return an answer that calls the tool."""
    function = {"name": "look_up", "arguments": json.dumps(arguments)}
    made = {"id": f"call_{number:016}", "type": "function", "function": function}
    return text(None, "tool_calls", tool_calls=[made])


FAULTS = (
    text(""),
    text(None, refusal="No."),
    text("Well", "content_filter"),
    text("Well, and then", "length"),
    text(None, "length", reasoning_content="Hmm"),
)
"""What may happen to any kind of call: empty, refused, filtered, truncated, all reasoned away."""


def faulty_traffic(
    rng: np.random.Generator, n_endpoints: int, *, rate: float, at: int | None
) -> Iterator[SimulatedCall]:
    """Yield calls of all kinds without end, each conversation in a session of its own.

    Args:
        rate: of each fault by itself, of the calls that it may happen to.
        at: the endpoint where they happen; None is everywhere.
    """
    now_s, number = 0.0, 0
    makers = {"chat": _chat, "tools": _tools, "schema": _schema}
    while True:
        number += 1
        kind, endpoint = str(rng.choice(KINDS, p=SHARES)), int(rng.integers(n_endpoints))
        client = SimulatedClient(kind, endpoint, now_s, b"%016d" % number, in_session=True)
        here = rate if at in (None, endpoint) else 0.0
        yield from makers[kind](rng, client, number, here)
        now_s = client.now_s


def _or_fault(rng: np.random.Generator, rate: float, answer: Json) -> Json:
    which = int(rng.random() / rate) if rate else len(FAULTS)
    return FAULTS[which] if which < len(FAULTS) else answer


def _chat(
    rng: np.random.Generator, client: SimulatedClient, number: int, rate: float
) -> Iterator[SimulatedCall]:
    first, then = user(f"Where is my order number {number}?"), f"And can I still return {number}?"
    messages = [SYSTEM, first]
    answer = _or_fault(rng, rate, text("On its way."))
    yield client.ask(messages, answer, pause_s=5.0)
    if rng.random() < rate:
        yield client.ask(messages, text("On its way."), pause_s=20.0)  # regenerated
    messages = [SYSTEM, first, said("On its way."), user(then)]
    yield client.ask(messages, _or_fault(rng, rate, text("You can.")), pause_s=20.0)
    if rng.random() < rate:
        edited = [*messages[:-1], user(then + " Within a month?")]
        yield client.ask(edited, text("You can."), pause_s=20.0)


def _tools(
    rng: np.random.Generator, client: SimulatedClient, number: int, rate: float
) -> Iterator[SimulatedCall]:
    messages = [SYSTEM, user(f"Look up {number}.")]
    answer = tool_call({"order": number} if rng.random() >= rate else {"order": "it"}, number)
    answer = _or_fault(rng, rate, answer)
    yield client.ask(messages, answer, pause_s=5.0, tools=[TOOL])
    if not (made := answer["message"].get("tool_calls")):
        return
    # A call that fits and yet makes no sense to the tool.
    result = "Error: no such order" if rng.random() < rate else "sent"
    history = [
        answer["message"],
        {"role": "tool", "tool_call_id": made[0]["id"], "content": result},
    ]
    messages = [*messages, *history]
    yield client.ask(messages, _or_fault(rng, rate, text("Sent.")), pause_s=1.0, tools=[TOOL])
    if rng.random() < 0.2:
        again = [{**h, "tool_call_id": f"c{number}"} if "tool_call_id" in h else h for h in history]
        looping = [*messages[:2], *history, *again]
        answer = text("Sent.") if rng.random() >= rate else tool_call({"order": number}, -number)
        yield client.ask(looping, answer, pause_s=1.0, tools=[TOOL])


def _schema(
    rng: np.random.Generator, client: SimulatedClient, number: int, rate: float
) -> Iterator[SimulatedCall]:
    answer = text('{"n": 3}') if rng.random() >= rate else text('{"n": "3"}')
    messages = [SYSTEM, user(f"How many in letter {number}?")]
    answer = _or_fault(rng, rate, answer)
    yield client.ask(messages, answer, pause_s=5.0, response_format=FORMAT)


# -- healthy, and alike ------------------------------------------------------------------------

N_USERS = 200
SPAN_S = 2.0
"""Between two conversations, on average: a user has one every few minutes."""
WORDS = ("week", "month", "Monday", "Sunday", "year", "night")
WHAT = ("costs", "income", "debts", "plans", "staff", "risks")


def healthy_traffic(
    rng: np.random.Generator, n_endpoints: int, n_conversations: int
) -> list[SimulatedCall]:
    """Return the calls of plain conversations in the order of their ends; none has a fault."""
    makers = (_tickets, _greeted, _greeting, _batch, _side_by_side, _checks, _samples, _questions)
    calls: list[SimulatedCall] = []
    for number in range(n_conversations):
        who = rng.random()
        unit = b"user%012d" % rng.integers(N_USERS)
        if who < 0.25:
            unit = b"conv%012d" % number
        elif who > 0.85:
            unit = b""
        client = SimulatedClient(
            "chat", int(rng.integers(n_endpoints)), number * SPAN_S, unit, in_session=who < 0.25
        )
        calls += makers[rng.integers(len(makers))](rng, client)
    return sorted(calls, key=lambda call: call.ended_at_s)


def _ticket(rng: np.random.Generator) -> Json:
    word = WORDS[rng.integers(len(WORDS))]
    return user(f"My order of last {word} has not arrived yet, what can I do about it?")


def _tickets(rng: np.random.Generator, client: SimulatedClient) -> list[SimulatedCall]:
    """Similar tickets within seconds, each a conversation of its own."""
    n = rng.integers(1, 4)
    return [
        client.ask([SYSTEM, _ticket(rng)], text("Wait."), pause_s=rng.uniform(0, 9))
        for _ in range(n)
    ]


def _greeted(rng: np.random.Generator, client: SimulatedClient) -> list[SimulatedCall]:
    """A greeting, a ticket like others, thanks."""
    messages = [SYSTEM, user(GREETING)]
    calls = [client.ask(messages, text("Hello!"), pause_s=1.0)]
    for after, said_then in (("Hello!", _ticket(rng)), ("Wait.", user("Thanks, I will do that."))):
        messages = [*messages, said(after), said_then]
        calls.append(client.ask(messages, text("Wait."), pause_s=rng.uniform(3, 60)))
    return calls


def _greeting(rng: np.random.Generator, client: SimulatedClient) -> list[SimulatedCall]:
    """A greeting, and then nothing."""
    return [client.ask([SYSTEM, user(GREETING)], text("Hello!"), pause_s=1.0)]


def _batch(rng: np.random.Generator, client: SimulatedClient) -> list[SimulatedCall]:
    """A template, filled in by a program that takes its time."""
    words = rng.permutation(WORDS)[: rng.integers(2, 6)]
    return [
        client.ask(
            [SYSTEM, user(f"Translate the word {word} into plain French please.")],
            text("Bien."),
            pause_s=rng.uniform(0, 6),
        )
        for word in words
    ]


def _side_by_side(rng: np.random.Generator, client: SimulatedClient) -> list[SimulatedCall]:
    """The same again and again at once."""
    ticket, calls = _ticket(rng), []
    for _ in range(3):
        calls.append(client.ask([SYSTEM, ticket], text("Wait."), pause_s=0.1))
        client.now_s -= 2.0
    return calls


def _checks(rng: np.random.Generator, client: SimulatedClient) -> list[SimulatedCall]:
    """A health check by a job, once a minute."""
    messages = [SYSTEM, user("Please answer with the single word OK.")]
    return [client.ask(messages, text("OK"), pause_s=58.0) for _ in range(int(rng.integers(1, 5)))]


def _samples(rng: np.random.Generator, client: SimulatedClient) -> list[SimulatedCall]:
    """Samples of one answer, one after the other."""
    messages = [SYSTEM, _ticket(rng)]
    return [
        client.ask(messages, text("Wait."), pause_s=0.05, temperature=0.7)
        for _ in range(int(rng.integers(2, 5)))
    ]


def _questions(rng: np.random.Generator, client: SimulatedClient) -> list[SimulatedCall]:
    """Several questions on one text, by a program."""
    begun = [SYSTEM, user(f"Read report number {rng.integers(10**9)}.")]
    calls = [client.ask(begun, text("I did."), pause_s=1.0)]
    for what in rng.permutation(WHAT)[: rng.integers(1, 5)]:
        asked = user(f"What does the report say about the {what} of the company?")
        calls.append(client.ask([*begun, said("I did."), asked], text("Much."), pause_s=0.2))
    return calls
