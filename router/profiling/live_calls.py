"""The tiny calls by which an endpoint is looked at, in each dialect, and what their answers say.

An endpoint that speaks chat or Messages is called in chat, which is translated; only how much to
think is said in its own words. Any other is called in its own dialect.
Nothing in them is anybody's: the words are ours, and public.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from msgspec import Struct, structs

from router.endpoints.capabilities import Reasoning
from router.endpoints.catalog import CALL_PATHS, Endpoint
from router.endpoints.entries import Dialect
from telemetry.wire.usage import Usage, usage_of

Body = dict[str, Any]
TOOL = "say_ok"
FEW_TOKENS, SOME_TOKENS, THINKING_TOKENS = 16, 200, 2048
"""What the calls may write: a word; a call of a tool, or a JSON object; thoughts, of which the
smallest budget that is sold is 1,024."""
LEAST_BUDGET = 1024
SHAPE: Body = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
DESCRIBED = "Says whether all is well."
WORDS = "Reply with OK."
WORDS_OF_TOOL = f"Call the tool {TOOL} with ok set to true."
WORDS_OF_SCHEMA = "Reply with a JSON object in which ok is true."
WORDS_OF_THINKING = "Which number is larger, 9.9 or 9.11? Reply with the number alone."
PROMPT_TOKENS = {"plain": 20, "unstreamed": 20, "tools": 120, "schema": 120, "reasoning": 40}
"""What prompts are counted as at most, roughly, with what providers put around them."""


MOST_PLAIN = 4096
"""Bytes of a refusal that is no JSON, as far as it is read."""


class Probe(StrEnum):
    """What a call is to show."""

    PLAIN = "plain"  # reachable, key, model, and usage in a stream
    UNSTREAMED = "unstreamed"  # the same where a stream is refused, or there is none
    TOOLS = "tools"
    SCHEMA = "schema"
    REASONING = "reasoning"


class CallManner(Struct):
    """How an endpoint is called, as far as that was found out by earlier calls."""

    dialect: Dialect
    limit: str  # name of the field that holds what it may write
    forces_tools: bool = True
    thinking: Reasoning = Reasoning.BUDGET  # how it is asked for in Messages


class LiveAnswer(Struct, frozen=True):
    """What came of a call."""

    status: int
    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()  # of tools: name, and arguments as JSON
    usage: Usage | None = None
    model: str | None = None
    thought: bool = False  # words of thinking came
    was_cut: bool = False  # by what it may write
    is_sound: bool = True  # it has the shape of its dialect's answers
    left_out: str = ""  # of the request, because the endpoint takes it not
    error: str = ""  # what a refusal says, or an answer that is one
    code: str = ""
    odd_usage: bool = False  # what stands where counts belong is none
    failed: str = ""  # why nothing was read of it: a name of `IN_WORDS`


def dialect_for(endpoint: Endpoint) -> Dialect:
    """Return in which dialect an endpoint is called."""
    if endpoint.dialects & {Dialect.CHAT, Dialect.MESSAGES}:
        return Dialect.CHAT
    order = (Dialect.RESPONSES, Dialect.COMPLETIONS, Dialect.EMBEDDINGS)
    return next(one for one in order if one in endpoint.dialects)


def manner_of(endpoint: Endpoint) -> CallManner:
    """Return how an endpoint is called at first."""
    dialect = dialect_for(endpoint)
    limit = "max_output_tokens" if dialect is Dialect.RESPONSES else "max_tokens"
    is_adaptive = endpoint.reasoning is Reasoning.ADAPTIVE
    thinking = Reasoning.ADAPTIVE if is_adaptive else Reasoning.BUDGET
    return CallManner(dialect, limit, thinking=thinking)


def path_of(manner: CallManner) -> str:
    """Return where a call goes."""
    return f"/v1/{CALL_PATHS[manner.dialect]}"


def most_tokens(probe: Probe, manner: CallManner) -> tuple[int, int]:
    """Return how many tokens a call may read and write, about."""
    written = {Probe.TOOLS: SOME_TOKENS, Probe.SCHEMA: SOME_TOKENS}
    written[Probe.REASONING] = THINKING_TOKENS
    out = 0 if manner.dialect is Dialect.EMBEDDINGS else written.get(probe, FEW_TOKENS)
    return PROMPT_TOKENS[probe], out


def body_of(probe: Probe, model: str, manner: CallManner) -> Body:
    """Return the body of a call."""
    limit: Body = {manner.limit: most_tokens(probe, manner)[1]}
    match manner.dialect:
        case Dialect.EMBEDDINGS:
            return {"model": model, "input": "OK"}
        case Dialect.COMPLETIONS:
            return {"model": model, "prompt": WORDS, **limit}
        case Dialect.RESPONSES:
            return {"model": model, "store": False, **limit, **_in_responses(probe, manner)}
        case Dialect.MESSAGES:
            return {"model": model, **limit, **_in_messages(probe, manner)}
    return {"model": model, **limit, **_in_chat(probe, manner)}


def _in_chat(probe: Probe, manner: CallManner) -> Body:
    def asks(text: str) -> Body:
        return {"messages": [{"role": "user", "content": text}]}

    function = {"name": TOOL, "description": DESCRIBED, "parameters": SHAPE}
    named = {"type": "function", "function": {"name": TOOL}}
    match probe:
        case Probe.PLAIN:
            return {**asks(WORDS), "stream": True, "stream_options": {"include_usage": True}}
        case Probe.TOOLS:
            forced = {"tool_choice": named} if manner.forces_tools else {}
            tools = [{"type": "function", "function": function}]
            return {**asks(WORDS_OF_TOOL), "tools": tools, **forced}
        case Probe.SCHEMA:
            shape = {"name": "reply", "strict": True, "schema": SHAPE}
            wanted = {"type": "json_schema", "json_schema": shape}
            return {**asks(WORDS_OF_SCHEMA), "response_format": wanted}
        case Probe.REASONING:
            return {**asks(WORDS_OF_THINKING), "reasoning_effort": "low"}
    return asks(WORDS)


def _in_responses(probe: Probe, manner: CallManner) -> Body:
    match probe:
        case Probe.PLAIN:
            return {"input": WORDS, "stream": True}
        case Probe.TOOLS:
            tool = {"type": "function", "name": TOOL, "description": DESCRIBED, "strict": True}
            forced = {"type": "function", "name": TOOL}
            choice = {"tool_choice": forced} if manner.forces_tools else {}
            return {"input": WORDS_OF_TOOL, "tools": [{**tool, "parameters": SHAPE}], **choice}
        case Probe.SCHEMA:
            shape = {"type": "json_schema", "name": "reply", "strict": True, "schema": SHAPE}
            return {"input": WORDS_OF_SCHEMA, "text": {"format": shape}}
        case Probe.REASONING:
            return {"input": WORDS_OF_THINKING, "reasoning": {"effort": "low"}}
    return {"input": WORDS}


def _in_messages(probe: Probe, manner: CallManner) -> Body:
    thinking: Body = {"type": "enabled", "budget_tokens": LEAST_BUDGET}
    if manner.thinking is Reasoning.ADAPTIVE:
        thinking = {"type": "adaptive"}
    words = WORDS_OF_THINKING if probe is Probe.REASONING else WORDS
    asked = {"thinking": thinking} if probe is Probe.REASONING else {}
    return {"messages": [{"role": "user", "content": words}], **asked}


# -- answers -------------------------------------------------------------------------------------


def read_answer(manner: CallManner, status: int, raw: bytes, *, left_out: str = "") -> LiveAnswer:
    """Return what an answer says, streamed or not; of nonsense that it is none."""
    if status != 200:
        error, code = _refusal(raw)
        return LiveAnswer(status, error=error, code=code, is_sound=False, left_out=left_out)
    whole = _object(raw)
    events = [whole] if whole else list(_events(raw))
    read = _of_responses if manner.dialect is Dialect.RESPONSES else _of_choices
    if manner.dialect is Dialect.EMBEDDINGS:
        read = _of_vectors
    if manner.dialect is Dialect.MESSAGES:
        read = _of_messages
    told = next((found for event in events if (found := _told_error(event)) is not None), None)
    try:
        answer = read(events, left_out)
    except (AttributeError, TypeError, LookupError, ValueError, ArithmeticError):
        answer = LiveAnswer(status, is_sound=False, left_out=left_out)
    if told is None:
        return answer
    return structs.replace(answer, is_sound=False, error=told[0], code=told[1])


def _told_error(event: Body) -> tuple[str, str] | None:
    """Return words and code of an answer, or an event, that says it is none."""
    within = event.get("response")
    holder = within if isinstance(within, dict) and within.get("error") else event
    if not holder.get("error"):
        return _words_of(event) if event.get("type") == "error" else None
    return _words_of(holder["error"])


def _words_of(error: Any) -> tuple[str, str]:
    """Return words and code of an error, in whichever of its usual shapes."""
    if not isinstance(error, dict):
        return (error if isinstance(error, str) else ""), ""
    words = error.get("message") or error.get("detail") or ""
    return str(words), str(error.get("code") or error.get("type") or "")


def _of_choices(events: list[Body], left_out: str) -> LiveAnswer:
    """Read an answer of chat or completions, in one piece or in many."""
    text, names, arguments, reason, thought = "", dict[int, str](), dict[int, str](), None, False
    usage, model, has_choice, counts = None, None, False, False
    for event in events:
        model = model or _word(event.get("model"))
        reported = _reported(event)
        usage, counts = usage_of(reported) or usage, counts or reported is not None
        for choice in event.get("choices") or ():
            has_choice = True
            reason = choice.get("finish_reason") or reason
            part = choice.get("message") or choice.get("delta") or {}
            text += part.get("content") or choice.get("text") or ""
            thought |= bool(part.get("reasoning_content") or part.get("reasoning"))
            for place, call in enumerate(part.get("tool_calls") or ()):
                at, function = int(call.get("index", place)), call.get("function") or {}
                names[at] = names.get(at) or function.get("name") or ""
                arguments[at] = arguments.get(at, "") + (function.get("arguments") or "")
    return LiveAnswer(
        200,
        text,
        tuple((names[at], arguments[at]) for at in sorted(names)),
        usage,
        model,
        thought,
        was_cut=reason == "length",
        is_sound=has_choice,
        left_out=left_out,
        odd_usage=usage is None and counts,
    )


def _reported(event: Body) -> Any:
    """Return the usage, wherever it is reported: at the top, in a choice, under `x_groq`."""
    top, groq = event.get("usage"), event.get("x_groq")
    inner = [choice.get("usage") for choice in event.get("choices") or ()]
    inner += [groq.get("usage")] if isinstance(groq, dict) else []
    return top or next((one for one in inner if one), top)


def _of_responses(events: list[Body], left_out: str) -> LiveAnswer:
    ends = [event["response"] for event in events if isinstance(event.get("response"), dict)]
    whole = ends[-1] if ends else events[-1]
    items = whole.get("output") or []
    parts = [p for item in items if item.get("type") == "message" for p in item.get("content", ())]
    usage = usage_of(whole.get("usage"))
    return LiveAnswer(
        200,
        "".join(part.get("text") or "" for part in parts),
        tuple(
            (item.get("name") or "", item.get("arguments") or "")
            for item in items
            if item.get("type") == "function_call"
        ),
        usage,
        _word(whole.get("model")),
        any(item.get("type") == "reasoning" for item in items),
        was_cut=whole.get("status") == "incomplete",
        is_sound=isinstance(whole.get("output"), list),
        left_out=left_out,
        odd_usage=usage is None and whole.get("usage") is not None,
    )


def _of_messages(events: list[Body], left_out: str) -> LiveAnswer:
    (whole,) = events
    blocks = whole["content"]
    return LiveAnswer(
        200,
        "".join(block.get("text") or "" for block in blocks if block.get("type") == "text"),
        usage=usage_of(whole.get("usage")),
        model=_word(whole.get("model")),
        thought=any("thinking" in (block.get("type") or "") for block in blocks),
        was_cut=whole.get("stop_reason") == "max_tokens",
        left_out=left_out,
    )


def _of_vectors(events: list[Body], left_out: str) -> LiveAnswer:
    (whole,) = events
    is_sound = bool(whole["data"][0]["embedding"])
    usage, model = usage_of(whole.get("usage")), _word(whole.get("model"))
    return LiveAnswer(200, usage=usage, model=model, is_sound=is_sound, left_out=left_out)


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _events(raw: bytes) -> Iterator[Body]:
    for line in raw.splitlines():
        if line.startswith(b"data:") and (event := _object(line[5:])):
            yield event


def _object(raw: bytes) -> Body:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):  # the latter of what is nested without end
        return {}
    return found if isinstance(found, dict) else {}


def _refusal(raw: bytes) -> tuple[str, str]:
    """Return what a refusal says, and its code; of a page, or nothing that can be read, nothing."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        text = raw[:MOST_PLAIN].decode("utf-8", "replace").strip()
        return ("" if text.startswith(("<", "{", "[", "data:", "event:")) else text), ""
    while isinstance(value, list) and value:  # Google's
        value = value[0]
    if isinstance(value, dict) and not value.get("error"):
        return _words_of(value)
    return _words_of(value["error"] if isinstance(value, dict) else value)


def words_in(raw: bytes) -> str:
    """Return a provider's own words in what it sent in place of an answer; "" where it has none."""
    return _refusal(raw)[0] or next((t[0] for e in _events(raw) if (t := _told_error(e))), "")
